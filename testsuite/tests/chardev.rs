//! Character backends and the monitor behind them, by a guest that sends back what it gets: its first
//! serial port as it is, its second one plus 1.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use iced_x86::code_asm::*;
use testsuite::kernel;
use testsuite::skip::skip;

const ENTRY: u32 = 0x10_0000;
/// The byte that ends the guest, and the status that follows.
const END: &[u8] = b"~";
const STATUS: i32 = 0x2B;
/// Longer than any answer takes, even on a busy host.
const LONG: Duration = Duration::from_secs(60);

/// Sends back a byte, if one is there, of the serial port at `base`, plus `plus`.
fn echo(a: &mut CodeAssembler, base: u32, plus: i32) -> Result<(), IcedError> {
    let (mut none, mut full) = (a.create_label(), a.create_label());
    a.mov(edx, base + 5)?;
    a.in_(al, dx)?;
    a.test(al, 1)?;
    a.je(none)?;
    a.set_label(&mut full)?;
    a.in_(al, dx)?;
    a.test(al, 0x20)?;
    a.je(full)?;
    a.mov(edx, base)?;
    a.in_(al, dx)?;
    a.mov(ecx, eax)?;
    a.add(al, plus)?;
    a.out(dx, al)?;
    a.set_label(&mut none)?;
    a.nop()
}

/// First sends `flood` bytes to its first port without a look at its state.
fn guest(flood: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let (mut next, mut end) = (a.create_label(), a.create_label());
    if flood > 0 {
        let mut more = a.create_label();
        a.mov(ecx, flood)?;
        a.mov(edx, 0x3F8)?;
        a.mov(eax, u32::from(b'x'))?;
        a.set_label(&mut more)?;
        a.out(dx, al)?;
        a.dec(ecx)?;
        a.jne(more)?;
    }
    a.set_label(&mut next)?;
    a.xor(ecx, ecx)?;
    for (base, plus) in [(0x3F8, 0), (0x2F8, 1)] {
        echo(&mut a, base, plus)?;
        a.cmp(cl, i32::from(END[0]))?;
        a.je(end)?;
    }
    a.jmp(next)?;
    a.set_label(&mut end)?;
    a.mov(edx, 0x501)?;
    a.mov(eax, 0x15)?;
    a.out(dx, al)?;
    let mut stop = a.create_label();
    a.set_label(&mut stop)?;
    a.jmp(stop)?;
    a.assemble(u64::from(ENTRY) + 12)
}

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test.ancestors().nth(2).expect("a target folder");
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-q", "-p", "twin86", "--bin", "twin86"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo").success(), "it builds");
    });
    folder.join("twin86")
}

/// A run of the guest, with a folder of its own.
struct Run {
    folder: PathBuf,
    child: Child,
}

impl Run {
    /// `{}` in the arguments is the folder.
    fn new(name: &str, arguments: &str) -> Self {
        Self::with(name, 0, arguments, |_| {})
    }

    /// The guest begins with a flood; `change` has the last word on the program's streams.
    fn with(name: &str, flood: u32, arguments: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = std::env::temp_dir().join(format!("twin86-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let mut code = kernel::multiboot_header();
        code.extend(guest(flood).expect("code"));
        let file = kernel::elf(ENTRY + 12, &[(1, ENTRY, &code)]);
        let kernel = folder.join("kernel");
        fs::write(&kernel, file).expect("a kernel");
        let arguments = arguments.replace("{}", folder.to_str().expect("a name"));
        let mut command = Command::new(program());
        command
            .args([
                "-bios", "none", "-display", "none", "-vga", "none", "-m", "16",
            ])
            .args(["-device", "isa-debug-exit,iobase=0x501,iosize=1", "-kernel"])
            .arg(kernel)
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let child = command.spawn().expect("the program runs");
        Self { folder, child }
    }

    /// Connects once the program listens.
    fn connect(&self, name: &str) -> UnixStream {
        let stream = soon(|| UnixStream::connect(self.folder.join(name)).ok());
        stream.set_read_timeout(Some(LONG)).expect("a time");
        stream
    }

    /// The next line of standard error.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let error = self.child.stderr.as_mut().expect("a pipe");
        BufReader::with_capacity(1, error)
            .read_line(&mut line)
            .expect("a line");
        line
    }

    /// Ends the guest by its first serial port.
    fn end(mut self, mut com1: impl Write) {
        com1.write_all(END).expect("there");
        assert_eq!(self.wait().code(), Some(STATUS));
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.expect("kill").success());
    }

    fn wait(&mut self) -> ExitStatus {
        soon(|| self.child.try_wait().expect("a child"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What `look` finds, once it does.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until `word` has come; returns everything up to it.
#[track_caller]
fn wait_for(stream: &mut impl Read, word: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(word) {
        let got = stream.read(&mut byte).unwrap_or(0);
        let tail = String::from_utf8_lossy(&all[all.len().saturating_sub(200)..]);
        assert_eq!(got, 1, "no {word:?} after {tail:?}");
        all.push(byte[0]);
    }
    all
}

#[track_caller]
fn says(stream: &mut (impl Read + Write), bytes: &[u8], answer: &[u8]) {
    stream.write_all(bytes).expect("there");
    assert_eq!(wait_for(stream, answer), answer);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn sockets_in_the_file_system_and_a_second_peer() {
    let run = Run::new(
        "unix",
        "-serial unix:{}/a,server,nowait -serial unix:{}/b,server=on,wait=off",
    );
    let mut com1 = run.connect("a");
    says(&mut com1, b"hello\r\n", b"hello\r\n");
    let mut com2 = run.connect("b");
    says(&mut com2, b"HAL", b"IBM");
    drop(com1);
    let mut com1 = run.connect("a");
    says(&mut com1, b"again", b"again");
    says(&mut com2, b"HAL", b"IBM");
    run.end(com1);
}

#[test]
fn what_is_pasted_comes_back_whole() {
    let run = Run::new("paste", "-serial unix:{}/a,server,nowait");
    let mut com1 = run.connect("a");
    let bytes: Vec<u8> = (0..64 << 10).map(|i: u32| b'0' + (i % 61) as u8).collect();
    let sent = bytes.clone();
    let mut writer = com1.try_clone().expect("a handle");
    let typist = thread::spawn(move || writer.write_all(&sent).expect("there"));
    // A reader that takes its time.
    let mut got = vec![0; bytes.len()];
    for piece in got.chunks_mut(7001) {
        thread::sleep(Duration::from_millis(20));
        com1.read_exact(piece).expect("the echo");
    }
    typist.join().expect("typed");
    assert!(got == bytes, "every byte, in order");
    run.end(com1);
}

#[test]
fn tcp_as_server_that_waits_and_as_client() {
    let port = free_port();
    let mut run = Run::new("tcp", &format!("-serial tcp:127.0.0.1:{port},server=on"));
    let line = run.line();
    assert!(line.contains("waiting for a connection"), "{line}");
    let mut com1 = soon(|| TcpStream::connect(("127.0.0.1", port)).ok());
    says(&mut com1, b"over tcp", b"over tcp");
    run.end(com1);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let arguments = format!("-chardev socket,id=s,host=127.0.0.1,port={port} -serial chardev:s");
    let run = Run::new("client", &arguments);
    let (mut com1, _) = listener.accept().expect("the program connects");
    says(&mut com1, b"to me", b"to me");
    run.end(com1);
}

#[test]
fn telnet_negotiates_beside_the_data() {
    let port = free_port();
    let run = Run::new(
        "telnet",
        &format!("-serial telnet:127.0.0.1:{port},server,nowait"),
    );
    let mut com1 = soon(|| TcpStream::connect(("127.0.0.1", port)).ok());
    com1.set_read_timeout(Some(LONG)).expect("a time");
    wait_for(&mut com1, b"\xFF\xFD\x00");
    says(
        &mut com1,
        b"\xFF\xFD\x01a\xFF\xFFb\xFF\xFB\x00c",
        b"a\xFF\xFFbc",
    );
    run.end(com1);
}

#[test]
fn a_pseudo_terminal() {
    let mut run = Run::new("pty", "-serial pty");
    let line = run.line();
    let name = line
        .split_whitespace()
        .find(|word| word.starts_with("/dev/"));
    let path = Path::new(name.unwrap_or_else(|| panic!("{line}")));
    let mut com1 = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("the other side");
    says(&mut com1, b"tty\r", b"tty\r");
    run.end(com1);
}

#[test]
fn the_monitor_shares_a_stream() {
    let mut run = Run::new("mux", "-serial mon:unix:{}/a,server,nowait");
    let mut peer = run.connect("a");
    says(&mut peer, b"guest", b"guest");
    peer.write_all(b"\x01c").expect("there");
    wait_for(&mut peer, b"(twin86) ");
    peer.write_all(b"info status\r").expect("there");
    let said = wait_for(&mut peer, b"\n(twin86) ");
    assert!(String::from_utf8_lossy(&said).contains("running"));
    peer.write_all(b"\x01c").expect("there");
    says(&mut peer, b"back\x01\x01", b"back\x01");
    peer.write_all(b"\x01h").expect("there");
    wait_for(&mut peer, b"monitor");
    peer.write_all(b"\x01x").expect("there");
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn a_monitor_of_its_own_survives_garbage() {
    let run = Run::new(
        "monitor",
        "-S -serial unix:{}/a,server,nowait -monitor unix:{}/m,server,nowait",
    );
    let mut monitor = run.connect("m");
    wait_for(&mut monitor, b"(twin86) ");
    monitor.write_all(b"info status\n").expect("there");
    let said = wait_for(&mut monitor, b"\n(twin86) ");
    assert!(String::from_utf8_lossy(&said).contains("prelaunch"));
    monitor.write_all(b"cont\n").expect("there");
    wait_for(&mut monitor, b"\n(twin86) ");
    let mut com1 = run.connect("a");
    says(&mut com1, b"runs", b"runs");
    // Nobody reads the answers of this one.
    let mut deaf = monitor.try_clone().expect("a handle");
    let garbage: Vec<u8> = (0..1u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .filter(|byte| !b"qQ".contains(byte))
        .collect();
    deaf.write_all(&garbage).expect("taken");
    says(&mut com1, b"still", b"still");
    drop((monitor, deaf));
    let mut monitor = run.connect("m");
    wait_for(&mut monitor, b"(twin86) ");
    monitor.write_all(b"\x15quit\n").expect("there");
    let mut run = run;
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn what_cannot_be_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for (arguments, parts) in [
        (
            format!("-serial tcp:127.0.0.1:{port},server,nowait"),
            ["-serial tcp:", "in use"],
        ),
        (
            format!("-serial tcp:127.0.0.1:{}", free_port()),
            ["-serial tcp:", "refused"],
        ),
        (
            "-serial unix:/nonexistent/x,server,nowait".to_string(),
            ["/nonexistent/x", "No such file"],
        ),
        ("-serial tpc::5".to_string(), ["-serial", "tcp:"]),
        (
            "-chardev null,id=a -serial chardev:a -monitor chardev:a".to_string(),
            ["in use", "mux=on"],
        ),
    ] {
        let mut run = Run::new("wrong", &arguments);
        let line = run.line();
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{arguments}: {line}"
        );
        assert_eq!(run.wait().code(), Some(1));
    }
}

/// More than an outbox and a FIFO, a pseudo-terminal or a socket inside this host hold.
const FLOOD: u32 = 400_000;

/// The guest has come to the end of its flood, and its second port answers.
#[track_caller]
fn goes_on(run: &Run) -> UnixStream {
    let mut com2 = run.connect("b");
    says(&mut com2, b"HAL", b"IBM");
    com2
}

#[test]
fn a_deaf_peer_does_not_hold_the_guest() {
    let port = free_port();
    let tcp = format!("tcp:127.0.0.1:{port},server,nowait");
    for (name, com1) in [
        ("deaf-pipe", "stdio"),
        ("deaf-mux", "mon:stdio"),
        ("deaf-pty", "pty"),
        ("deaf-fifo", "file:{}/a"),
        ("deaf-unix", "unix:{}/a,server"),
        ("deaf-tcp", &tcp),
    ] {
        let folder = std::env::temp_dir().join(format!("twin86-fifo-{}", std::process::id()));
        let fifo = folder.with_extension("f");
        let com1 = if name == "deaf-fifo" {
            let _ = fs::remove_file(&fifo);
            let made = Command::new("mkfifo").arg(&fifo).status();
            assert!(made.expect("mkfifo").success());
            format!("file:{}", fifo.display())
        } else {
            com1.to_string()
        };
        let arguments = format!("-serial {com1} -serial unix:{{}}/b,server,nowait");
        let run = Run::with(name, FLOOD, &arguments, |_| {});
        // Connected, and never read.
        let _fifo = (name == "deaf-fifo").then(|| fs::File::open(&fifo).expect("the FIFO"));
        let _unix = (name == "deaf-unix").then(|| run.connect("a"));
        let _tcp =
            (name == "deaf-tcp").then(|| soon(|| TcpStream::connect(("127.0.0.1", port)).ok()));
        let mut com2 = goes_on(&run);
        if name == "deaf-pty" {
            // The guest ends it.
            run.end(com2);
        } else {
            // The user does.
            run.signal("TERM");
            let mut run = run;
            assert_eq!(run.wait().code(), Some(0), "{name}");
            assert_eq!(com2.read(&mut [0]).unwrap_or(0), 0);
        }
        let _ = fs::remove_file(&fifo);
    }
}

#[test]
fn a_deaf_user_of_the_monitor_can_quit() {
    let run = Run::with(
        "deaf-monitor",
        0,
        "-serial unix:{}/a,server,nowait -serial unix:{}/b,server,nowait -monitor stdio",
        |command| {
            command.stdin(Stdio::piped());
        },
    );
    let mut run = run;
    let mut monitor = run.child.stdin.take().expect("a pipe");
    for _ in 0..3 {
        monitor
            .write_all(b"info mtree\nx/100000xb 0\n")
            .expect("taken");
    }
    let mut com2 = goes_on(&run);
    monitor.write_all(b"quit\n").expect("taken");
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(com2.read(&mut [0]).unwrap_or(0), 0);
}

/// Both share the stream; the guest does not wait for the monitor's long answer either.
#[test]
fn a_slow_reader_of_a_shared_stream() {
    let run = Run::new(
        "slow-mux",
        "-serial mon:unix:{}/a,server,nowait -serial unix:{}/b,server,nowait",
    );
    let mut peer = run.connect("a");
    let mut com2 = run.connect("b");
    peer.write_all(b"\x01cx/100000xb 0\r").expect("there");
    let mut buffer = [0; 4096];
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(20));
        assert!(peer.read(&mut buffer).expect("there") > 0);
        let begin = Instant::now();
        says(&mut com2, b"HAL", b"IBM");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    // A reader in a hurry gets all of it.
    let said = wait_for(&mut BufReader::new(&mut peer), b"\r\n(twin86) ");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("000000000001869"), "the last line");
    run.end(com2);
}

/// Has a program run on a terminal, as its session's first.
fn on_terminal(command: &mut Command, terminal: &OwnedFd) {
    let handle = || terminal.try_clone().expect("a handle");
    let mut setsid = Command::new("setsid");
    setsid
        .arg("--ctty")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(handle())
        .stdout(handle())
        .stderr(Stdio::piped());
    *command = setsid;
}

/// A terminal that nobody reads: as stopped by Ctrl-S, or on a line that hangs.
#[test]
fn a_stopped_terminal() {
    for end in ["ctrl-c", "TERM", "guest"] {
        let pair = nix::pty::openpty(None, None).expect("a terminal");
        let settings = |what: &str| {
            let stty = Command::new("stty")
                .arg("-g")
                .stdin(pair.slave.try_clone().expect("a handle"))
                .output();
            String::from_utf8(stty.expect(what).stdout).expect("text")
        };
        let before = settings("before");
        let arguments = "-serial stdio -serial unix:{}/b,server,nowait";
        let run = Run::with(&format!("stopped-{end}"), FLOOD, arguments, |command| {
            on_terminal(command, &pair.slave);
        });
        let com2 = goes_on(&run);
        assert_ne!(settings("during"), before);
        let mut run = run;
        match end {
            "guest" => {
                let mut com2 = com2;
                com2.write_all(END).expect("there");
                assert_eq!(run.wait().code(), Some(STATUS));
            }
            "ctrl-c" => {
                let mut ours = fs::File::from(pair.master.try_clone().expect("a handle"));
                ours.write_all(b"\x03").expect("there");
                assert_eq!(run.wait().code(), Some(0));
            }
            signal => {
                run.signal(signal);
                assert_eq!(run.wait().code(), Some(0));
            }
        }
        assert_eq!(settings("after"), before, "{end}");
    }
}

/// The state letter of a program: T if it is stopped (proc(5)).
fn state(run: &Run) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", run.child.id()));
    let stat = stat.unwrap_or_default();
    let letter = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    letter.unwrap_or('?')
}

/// SIGTSTP and SIGCONT: the terminal is the shell's meanwhile.
#[test]
fn a_program_that_is_stopped_and_goes_on() {
    let mut engines = vec!["tcg"];
    match accel::kvm::Kvm::open() {
        Ok(_) => engines.push("kvm,rescue=on"),
        Err(error) => skip("kvm", &error),
    }
    for engine in engines {
        let pair = nix::pty::openpty(None, None).expect("a terminal");
        let settings = || {
            let slave = pair.slave.try_clone().expect("a handle");
            let stty = Command::new("stty").arg("-g").stdin(slave).output();
            String::from_utf8(stty.expect("stty").stdout).expect("text")
        };
        let before = settings();
        let arguments =
            format!("-accel {engine} -serial mon:stdio -serial unix:{{}}/b,server,nowait");
        let run = Run::with("stop", 0, &arguments, |command| {
            on_terminal(command, &pair.slave);
        });
        let mut com1 = fs::File::from(pair.master.try_clone().expect("a handle"));
        let mut com2 = run.connect("b");
        says(&mut com2, b"HAL", b"IBM");
        says(&mut com1, b"here", b"here");
        let raw = settings();
        assert_ne!(raw, before);
        for _ in 0..3 {
            run.signal("TSTP");
            soon(|| (state(&run) == 'T').then_some(()));
            assert_eq!(settings(), before, "{engine}: stopped");
            run.signal("CONT");
            soon(|| (settings() == raw).then_some(()));
            says(&mut com1, b"back", b"back");
            // The kind that no program can see coming: the shell puts the terminal in order.
            run.signal("STOP");
            soon(|| (state(&run) == 'T').then_some(()));
            let slave = pair.slave.try_clone().expect("a handle");
            let stty = Command::new("stty")
                .arg(before.trim())
                .stdin(slave)
                .status();
            assert!(stty.expect("stty").success());
            run.signal("CONT");
            soon(|| (settings() == raw).then_some(()));
            says(&mut com2, b"HAL", b"IBM");
        }
        let mut run = run;
        run.signal("TSTP");
        soon(|| (state(&run) == 'T').then_some(()));
        // What was sent while it stood still ends it then.
        run.signal("TERM");
        run.signal("CONT");
        assert_eq!(run.wait().code(), Some(0), "{engine}");
        assert_eq!(settings(), before, "{engine}: ended");
    }
}

/// A MiB that is no command, in four forms, over each kind of socket: it is told, and all goes on.
#[test]
fn a_mebibyte_of_nonsense() {
    let (tcp, telnet) = (free_port(), free_port());
    let run = Run::new(
        "nonsense",
        &format!(
            "-serial unix:{{}}/a,server,nowait -monitor unix:{{}}/m,server,nowait \
             -monitor tcp:127.0.0.1:{tcp},server,nowait \
             -monitor telnet:127.0.0.1:{telnet},server,nowait"
        ),
    );
    let mut com1 = run.connect("a");
    let letters = vec![b'z'; 1 << 20];
    let mut lines = letters.clone();
    lines.iter_mut().step_by(64).for_each(|byte| *byte = b'\n');
    let bytes = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    let binary: Vec<u8> = (0..1u32 << 20).map(bytes).collect();
    // Commands of telnet, whole and cut, with subnegotiations that do not end.
    let iac = |(at, byte): (usize, &u8)| if at % 3 == 0 { 0xFF } else { byte | 0xF0 };
    let commands: Vec<u8> = binary.iter().enumerate().map(iac).collect();
    let forms = [
        (letters, "line too long"),
        (lines, "unknown command"),
        (binary, "unknown command"),
        (commands, ""),
    ];
    for (form, told) in &forms {
        // Without the letters of commands that stop the guest.
        let form: Vec<u8> = form
            .iter()
            .map(|byte| {
                if b"csqCSQ".contains(byte) {
                    b'_'
                } else {
                    *byte
                }
            })
            .collect();
        let unix = run.connect("m");
        let timed = |stream: TcpStream| {
            stream.set_read_timeout(Some(LONG)).expect("a time");
            stream
        };
        let by_tcp = timed(soon(|| TcpStream::connect(("127.0.0.1", tcp)).ok()));
        let by_telnet = timed(soon(|| TcpStream::connect(("127.0.0.1", telnet)).ok()));
        nonsense(unix.try_clone().expect("a handle"), unix, &form, told);
        nonsense(by_tcp.try_clone().expect("a handle"), by_tcp, &form, told);
        let again = by_telnet.try_clone().expect("a handle");
        // What telnet makes of it is its own affair.
        nonsense(again, by_telnet, &form, "");
        says(&mut com1, b"on", b"on");
    }
    run.end(com1);
}

/// Sends it while the answers are read; then the monitor, if it is the same peer's, or else the
/// next one's, still answers.
#[track_caller]
fn nonsense(mut to: impl Write + Send + 'static, mut from: impl Read, form: &[u8], told: &str) {
    let mut form = form.to_vec();
    // An end to whatever telnet or the line is in.
    form.extend(b"\xFF\xF0\xFF\xF0\n\x15\ninfo version\n");
    let sender = thread::spawn(move || to.write_all(&form).expect("taken"));
    let version = format!("\n{}\r\n(twin86) ", env!("CARGO_PKG_VERSION"));
    let said = wait_for(&mut BufReader::new(&mut from), version.as_bytes());
    sender.join().expect("sent");
    assert!(String::from_utf8_lossy(&said).contains(told));
}

#[test]
fn gdb_on_standard_input() {
    let arguments = "-S -gdb stdio -serial unix:{}/a,server,nowait";
    let mut run = Run::with("gdb", 0, arguments, |command| {
        command.stdin(Stdio::piped());
    });
    let mut to = run.child.stdin.take().expect("a pipe");
    let mut from = run.child.stdout.take().expect("a pipe");
    to.write_all(b"+$?#3f").expect("there");
    // Stopped by SIGTRAP.
    wait_for(&mut from, b"05");
    wait_for(&mut from, b"#");
    // Detached, the guest goes on.
    to.write_all(b"+$D#44").expect("there");
    wait_for(&mut from, b"$OK#9a");
    let mut com1 = run.connect("a");
    says(&mut com1, b"on", b"on");
    run.end(com1);

    let mut run = Run::new("gdb-twice", "-gdb stdio -serial stdio");
    assert!(run.line().contains("one device only"));
    assert_eq!(run.wait().code(), Some(1));
}
