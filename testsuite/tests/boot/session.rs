//! The monitor of a booted guest, by script over its sockets: every command, and what it does.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testsuite::boot::{BOOT, Guests, Kernel, Running};

use crate::{Folder, SOON};

const MONITOR: &str = "(twin86) ";

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A monitor at the other end of a socket.
struct Monitor(Box<dyn Stream>);

impl Monitor {
    fn unix(path: &Path) -> Self {
        let stream = soon(|| UnixStream::connect(path).ok());
        stream.set_read_timeout(Some(SOON)).expect("a time");
        Self::greeted(stream)
    }

    fn tcp(port: u16) -> Self {
        let stream = soon(|| TcpStream::connect(("127.0.0.1", port)).ok());
        stream.set_read_timeout(Some(SOON)).expect("a time");
        Self::greeted(stream)
    }

    fn greeted(stream: impl Stream + 'static) -> Self {
        let mut monitor = Self(Box::new(stream));
        assert!(monitor.heard().starts_with("twin86 "));
        monitor
    }

    /// What it says up to its prompt.
    #[track_caller]
    fn heard(&mut self) -> String {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        while !all.ends_with(MONITOR.as_bytes()) {
            let got = self.0.read(&mut piece).expect("an answer in time");
            assert!(got > 0, "{}", String::from_utf8_lossy(&all));
            all.extend(&piece[..got]);
        }
        let said = String::from_utf8_lossy(&all).replace("\r\n", "\n");
        said.strip_suffix(MONITOR).expect("the prompt").to_string()
    }

    /// The answer to a command.
    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        self.0
            .write_all(format!("{command}\n").as_bytes())
            .expect("a monitor");
        let said = self.heard();
        said.split_once('\n').unwrap_or_default().1.to_string()
    }

    #[track_caller]
    fn says(&mut self, command: &str, parts: &[&str]) {
        let said = self.ask(command);
        for part in parts {
            assert!(said.contains(part), "{command}: no {part:?} in\n{said}");
        }
    }
}

/// What `look` finds, once it does.
#[track_caller]
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often the interrupt whose line has `part` came, as the guest counts.
#[track_caller]
fn interrupts(run: &mut Running, part: &str) -> u64 {
    let text = run.succeed("cat /proc/interrupts", SOON);
    let line = text.lines().find(|line| line.contains(part));
    let count = line.and_then(|line| line.split_whitespace().nth(1));
    let count = count.and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("no {part} in\n{text}"))
}

/// What shows things.
fn shows(monitor: &mut Monitor, run: &mut Running) {
    monitor.says("info registers", &["RIP=", "CR3=", "EFER=", "FS ="]);
    monitor.says("info mem", &["ffff", " -rw\n"]);
    monitor.says("info tlb", &["ffff", ": 00000000"]);
    monitor.says(
        "info mtree",
        &["00000000000003f8-00000000000003ff", "fee00000"],
    );
    monitor.says("info qtree", &["i8254", "piix3"]);
    monitor.says("info pic", &["pic0:", "irr=", "elcr="]);
    monitor.says("info pci", &["Bus  0, device   1, function 1", "8086:7010"]);
    monitor.says("info irq", &["IRQ statistics"]);
    monitor.says("info exits", &["IO_INSTRUCTION", "HLT"]);
    monitor.says("info status", &["VM status: running"]);
    // The same bytes as the guest finds there.
    let line = run.succeed("grep ' linux_proc_banner$' /proc/kallsyms", SOON);
    let address = line.split(' ').next().unwrap_or_default();
    monitor.says(
        &format!("x/12xb 0x{address}"),
        &[
            "0x25 0x73 0x20 0x76 0x65 0x72 0x73 0x69",
            "0x6f 0x6e 0x20 0x25",
        ],
    );
    monitor.says("x/3i $pc", &[":  "]);
    monitor.says("xp/4xb 0xfffffff0", &["0xea 0x5b 0xe0 0x00"]);
}

/// A picture of the screen in both formats.
fn pictures(monitor: &mut Monitor, folder: &Folder) {
    let (ppm, png): (PathBuf, PathBuf) = (folder.path("a.ppm"), folder.path("a.png"));
    assert_eq!(monitor.ask(&format!("screendump {}", ppm.display())), "");
    let picture = fs::read(&ppm).expect("a picture");
    assert!(picture.starts_with(b"P6\n720 400\n255\n"));
    let pixels = &picture[b"P6\n720 400\n255\n".len()..];
    assert_eq!(pixels.len(), 720 * 400 * 3);
    // The firmware's words are on it.
    assert!(pixels.iter().any(|byte| *byte != 0));
    assert_eq!(
        monitor.ask(&format!("screendump {} -f png", png.display())),
        ""
    );
    let picture = fs::read(&png).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG\r\n\x1A\n"));
    assert_eq!(picture[16..24], [0, 0, 2, 0xD0, 0, 0, 1, 0x90]);
}

/// What acts on the guest.
fn acts(monitor: &mut Monitor, run: &mut Running) {
    assert_eq!(monitor.ask("stop"), "");
    monitor.says("info status", &["VM status: paused"]);
    let at = monitor.ask("info registers");
    let before = run.log().matches("worked").count();
    run.paste(b"echo wor''ked\n");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(monitor.ask("info registers"), at);
    assert_eq!(run.log().matches("worked").count(), before);
    assert_eq!(monitor.ask("cont"), "");
    run.wait_for("worked", SOON);
    for (command, line) in [
        ("nmi", "NMI:"),
        ("sendkey ctrl-a 20", "i8042"),
        ("system_powerdown", "acpi"),
    ] {
        // Without a driver for its button the kernel leaves PM1_EN's bit for it off.
        assert_eq!(monitor.ask("o /h 0x602 0x120"), "");
        let before = interrupts(run, line);
        assert_eq!(monitor.ask(command), "", "{command}");
        let end = Instant::now() + SOON / 3;
        while interrupts(run, line) <= before {
            assert!(Instant::now() < end, "{command}: the guest does not notice");
        }
    }
}

#[test]
fn every_command_over_sockets() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine();
    if machine.emulator().is_qemu() {
        return;
    }
    let folder = Folder::new("session");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let socket = folder.path("monitor");
    let machine = machine.kernel(Kernel::Full, "").args([
        "-monitor".to_string(),
        format!("unix:{},server,nowait", socket.display()),
        "-monitor".to_string(),
        format!("tcp:127.0.0.1:{port},server,nowait"),
    ]);
    let mut run = machine.start();
    let mut unix = Monitor::unix(&socket);
    let mut tcp = Monitor::tcp(port);
    run.boot();
    for monitor in [&mut unix, &mut tcp] {
        shows(monitor, &mut run);
        pictures(monitor, &folder);
        acts(monitor, &mut run);
    }
    // Starts again, whichever asks.
    assert_eq!(tcp.ask("system_reset"), "");
    run.wait_for("Linux version", BOOT);
    run.boot();
    drop(tcp);
    let mut tcp = Monitor::tcp(port);
    tcp.says("quti", &["unknown command: 'quti'", "quit"]);
    tcp.0.write_all(b"quit\n").expect("a monitor");
    let status = run.ends(SOON);
    assert!(status.success(), "{status}");
}
