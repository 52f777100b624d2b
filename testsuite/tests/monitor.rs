//! The human monitor, driven by bytes, beside a guest that goes on.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use accel::kvm::Kvm;
use accel::tcg::Tcg;
use accel::{CpuModel, CpuState};
use devices::board::BoardOptions;
use devices::board::build::Parts;
use emu::arch::{Cr0, Cr4, Efer, Gpr, Seg, Segment};
use testsuite::random::Random;
use testsuite::skip::skip;
use twin86::control::Control;
use twin86::firmware::{DEFAULT_BIOS, Firmware, VGA_BIOS};
use twin86::machine::{Boot, Machine, MachineConfig, Outcome};
use twin86::monitor::Monitor;

const PROMPT: &str = "(twin86) ";
/// Where the test guests count.
const COUNTER: &str = "0x500";

/// Counts at 500h: `mov ds,0; l: inc dword [500h]; jmp l`.
const BUSY: &[u8] = &[
    0x31, 0xC0, 0x8E, 0xD8, 0x66, 0xFF, 0x06, 0x00, 0x05, 0xEB, 0xF9,
];
/// `hlt; jmp`.
const IDLE: &[u8] = &[0xF4, 0xEB, 0xFD];

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A running machine with a monitor.
struct Bench {
    monitor: Monitor,
    output: Output,
    control: Control,
    machine: Option<JoinHandle<Outcome>>,
}

impl Bench {
    fn new(code: &[u8]) -> Self {
        Self::with(code, |_| {})
    }

    fn with(code: &[u8], change: impl FnOnce(&mut MachineConfig)) -> Self {
        let mut config = Self::config(code);
        change(&mut config);
        Self::of(Machine::new(config, &Tcg).expect("a machine"))
    }

    fn config(code: &[u8]) -> MachineConfig {
        let mut bios = vec![0xF4; 0x1_0000];
        bios[..code.len()].copy_from_slice(code);
        bios[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]);
        let board = BoardOptions {
            ram: 8 << 20,
            vga: true,
            uuid: 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF_u128.to_be_bytes(),
            ..BoardOptions::default()
        };
        let parts = Parts {
            bios,
            ..Parts::default()
        };
        MachineConfig {
            name: Some("guest".to_string()),
            ..MachineConfig::new(board, parts, CpuModel::by_name("qemu64").expect("a model"))
        }
    }

    /// A monitor of a machine, which runs from now on.
    fn of(mut machine: Machine) -> Self {
        let control = machine.control();
        let output = Output::default();
        let monitor = Monitor::new(control.clone(), Box::new(output.clone()));
        let run = move || machine.run().expect("no host error");
        Self {
            monitor,
            output,
            control,
            machine: Some(thread::spawn(run)),
        }
    }

    /// What the monitor says to bytes.
    fn send(&mut self, bytes: &[u8]) -> String {
        self.monitor.input(bytes);
        let said = std::mem::take(&mut *self.output.0.lock().expect("no panic"));
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The reply to a command, without echo and prompt.
    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        let said = self.send(format!("{command}\n").as_bytes());
        let said = said.strip_prefix(command).expect("the echo");
        let said = said.strip_prefix("\r\n").expect("the echo's end");
        let said = said.strip_suffix(PROMPT).expect("the prompt");
        said.replace("\r\n", "\n")
    }

    #[track_caller]
    fn says(&mut self, command: &str, parts: &[&str]) {
        let said = self.ask(command);
        for part in parts {
            assert!(said.contains(part), "{command}: {said:?} lacks {part:?}");
        }
    }

    /// The guest counts on.
    #[track_caller]
    fn goes_on(&mut self) {
        let count = format!("xp/1xw {COUNTER}");
        let before = self.ask(&count);
        let end = Instant::now() + Duration::from_secs(10);
        while self.ask(&count) == before {
            assert!(Instant::now() < end, "the guest stands still");
        }
    }

    fn stop(&mut self) -> Outcome {
        self.control.quit();
        let machine = self.machine.take().expect("it runs");
        machine.join().expect("no panic")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.machine.is_some() {
            self.stop();
        }
    }
}

#[test]
fn it_greets_when_told() {
    let mut bench = Bench::new(IDLE);
    assert_eq!(bench.send(b""), "");
    bench.monitor.greet();
    let said = bench.send(b"");
    assert!(said.starts_with("twin86 ") && said.ends_with(&format!("\r\n{PROMPT}")));
}

#[test]
fn every_command_has_help_and_an_answer() {
    let mut bench = Bench::new(BUSY);
    let help = bench.ask("help");
    let info = bench.ask("info");
    assert_eq!(bench.ask("help info"), info);
    assert!(help.contains("quit|q  -- quit the emulator\n"), "{help}");
    for line in help.lines().chain(info.lines()) {
        let name = line.split(" -- ").next().expect("a name");
        let mut words = name.split([' ', '|']);
        let (first, second) = (words.next().expect("one"), words.next().unwrap_or(""));
        let command = if first == "info" && !second.starts_with('[') {
            format!("info {second}")
        } else {
            first.to_string()
        };
        bench.says(&format!("help {command}"), &[" -- "]);
        if command.starts_with("info ") {
            let said = bench.ask(&command);
            assert!(
                !said.is_empty() && !said.contains("unknown"),
                "{command}: {said}"
            );
            bench.says(&format!("{command} zzz"), &["extraneous characters"]);
        }
    }
    bench.goes_on();
}

#[test]
fn stop_and_cont() {
    let mut bench = Bench::new(BUSY);
    bench.goes_on();
    bench.says("info status", &["VM status: running\n"]);
    assert_eq!(bench.ask("stop"), "");
    bench.says("info status", &["VM status: paused\n"]);
    let count = bench.ask("xp/1xw 0x500");
    thread::sleep(Duration::from_millis(20));
    assert_eq!(bench.ask("xp/1xw 0x500"), count);
    bench.says(
        "info registers",
        &["EIP=0000000", "CS =f000 000f0000 0000ffff 00009b00"],
    );
    assert_eq!(bench.ask("c"), "");
    bench.says("info status", &["VM status: running\n"]);
    bench.goes_on();
}

#[test]
fn a_machine_can_wait_before_its_first_instruction() {
    let mut bench = Bench::with(BUSY, |config| config.paused = true);
    bench.says("info status", &["VM status: paused (prelaunch)\n"]);
    bench.says("x/1i $pc", &["0xfffffff0:  ea 00 00 00 f0", "jmp"]);
    let registers = bench.ask("info registers");
    let expected = "\nCPU#0
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 00000000 0000ffff 00009300
CS =f000 ffff0000 0000ffff 00009b00
";
    assert!(registers.starts_with(expected), "{registers}");
    for part in [
        "LDT=0000 00000000 0000ffff 00008200\n",
        "TR =0000 00000000 0000ffff 00008b00\nGDT=     00000000 0000ffff\n",
        "CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\n",
        "DR6=00000000ffff0ff0 DR7=0000000000000400\nEFER=0000000000000000\n",
        "XMM00=0000000000000000 0000000000000000 XMM01=",
    ] {
        assert!(registers.contains(part), "{registers} lacks {part}");
    }
    bench.ask("cont");
    bench.goes_on();
    assert_eq!(
        bench.ask("info registers -a").lines().count(),
        registers.lines().count()
    );
}

#[test]
fn memory_is_shown_in_every_format() {
    let mut bench = Bench::with(BUSY, |config| config.paused = true);
    for (command, expected) in [
        (
            "xp/9xb 0xf0000",
            "00000000000f0000: 0x31 0xc0 0x8e 0xd8 0x66 0xff 0x06 0x00\n00000000000f0008: 0x05\n",
        ),
        (
            "xp/3xw 0xf0000",
            "00000000000f0000: 0xd88ec031 0x0006ff66 0xf4f9eb05\n",
        ),
        ("xp/2xh 0xf0000", "00000000000f0000: 0xc031 0xd88e\n"),
        ("xp/1xg 0xf0000", "00000000000f0000: 0x0006ff66d88ec031\n"),
        ("x /2ub 0xf0000", "00000000000f0000:  49 192\n"),
        ("x/2db 0xf0000", "00000000000f0000:  49 -64\n"),
        ("x/1ob 0xf0001", "00000000000f0001: 0300\n"),
        (
            "x/4c 0xf0004",
            "00000000000f0004: 'f' '\\xff' '\\x06' '\\x00'\n",
        ),
        ("x/1s 0xf0004", "00000000000f0004: \"f\\xff\\x06\"\n"),
        ("x/0x 0", ""),
        ("p/x $eip+3*2", "0xfff6\n"),
        ("p/d -1", "-1\n"),
        ("p/o 9", "011\n"),
        ("p/c 65", "'A'\n"),
        ("p/u (1+2)*3&6|8^1", "9\n"),
    ] {
        assert_eq!(bench.ask(command), expected, "{command}");
    }
    bench.says(
        "x/3i 0xf0000",
        &[
            "0x000f0000:  31 c0 ",
            "xor ax,ax\n",
            "mov ds,ax\n",
            "inc dword ptr [0x500]\n",
        ],
    );
}

#[test]
fn device_memory_is_not_read() {
    let mut bench = Bench::new(BUSY);
    // The bus would count these: nothing is read.
    for address in [
        "0xfec00000",
        "0xfee00000",
        "0xfed00000",
        "0xa0000",
        "0xd0000000",
    ] {
        for command in ["x", "xp"] {
            let said = bench.ask(&format!("{command}/4xw {address}"));
            assert!(said.ends_with(": Cannot access memory\n"), "{said}");
        }
    }
    // What there is before is shown.
    let said = bench.ask("xp/8xb 0x7ffffc");
    assert!(
        said.starts_with("00000000007ffffc: 0x00 0x00 0x00 0x00\n0000000000800000: Cannot"),
        "{said}"
    );
    bench.says("x/3i 0xfffffffe", &["unable to read memory"]);
    bench.says("info exits", &["no exits"]);
}

#[test]
fn ports_are_read_and_written() {
    let mut bench = Bench::new(IDLE);
    // The scratch register of the first serial port; CMOS, by index; PCI configuration.
    assert_eq!(bench.ask("o /b 0x3ff 0x5a"), "");
    assert_eq!(bench.ask("i /b 0x3ff"), "portb[0x03ff] = 0x5a\n");
    assert_eq!(bench.ask("i/xb 0x70 0x10"), "portb[0x0071] = 0x50\n");
    assert_eq!(bench.ask("o/w 0xcf8 0x80000000"), "");
    assert_eq!(bench.ask("i 0xcfc"), "portl[0x0cfc] = 0x12378086\n");
    assert_eq!(bench.ask("i/h 0xcfe"), "portw[0x0cfe] = 0x1237\n");
    assert_eq!(bench.ask("i/g 0x1ffff"), "portb[0xffff] = 0xff\n");
    bench.says("i", &["i: a port expected"]);
    bench.says("o 0x80", &["o: a value expected"]);
    bench.says("i 0x80 1 2", &["extraneous characters"]);
    bench.says("i/z 0x80", &["invalid char in format"]);
}

#[test]
fn the_board_is_described() {
    let mut bench = Bench::with(IDLE, |config| config.paused = true);
    bench.says("info mtree", &[
        "address-space: memory\n  0000000000000000-000000000009ffff (prio 0, ram): pc.ram @0000000000000000\n",
        "00000000ffff0000-00000000ffffffff (prio 0, rom): pc.bios @0000000000000000\n",
        "00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic\n",
        "00000000fee00000-00000000fee00fff (prio 0, i/o): lapic\n",
        "address-space: I/O\n",
        "0000000000000cf8-0000000000000cff (prio 0, i/o): pci\n",
    ]);
    bench.says("info qtree", &[
        "  dev: ioapic, id \"\"\n    mmio 00000000fec00000/0000000000001000\n",
        "      dev: i8042, id \"\"\n        irq 1\n        irq 12\n        ports 0x0060-0x0060\n",
        "class VGA controller, addr 00:02.0, pci id 1234:1111 (sub 1af4:1100)\n",
    ]);
    bench.says("info pci", &[
        "  Bus  0, device   0, function 0:\n    Host bridge: PCI device 8086:1237\n      PCI subsystem 1af4:1100\n",
        "    IDE controller: PCI device 8086:7010\n",
        "      IRQ 0, pin A\n",
        "      BAR0: 32 bit prefetchable memory at 0xffffffffffffffff [0x00fffffe].\n",
        "      BAR4: I/O at 0xffffffffffffffff [0x000e].\n",
    ]);
    bench.says(
        "info pic",
        &[
            "pic0: irr=00 imr=00 isr=00 hprio=0 irq_base=00",
            "ioapic0: ver=0x20",
        ],
    );
    bench.says(
        "info ioapic",
        &["  pin 23 0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical\n"],
    );
    bench.says(
        "info lapic",
        &[
            "LVTT\t 0x00010000 ",
            "SPIV\t 0x000000ff APIC disabled",
            "DCR=0x0 (divide by 2)",
        ],
    );
    bench.says("info name", &["guest\n"]);
    bench.says("info uuid", &["00112233-4455-6677-8899-aabbccddeeff\n"]);
    bench.says("info version", &[env!("CARGO_PKG_VERSION")]);
    bench.says("info accel", &["tcg"]);
    for command in ["info mem", "info tlb"] {
        bench.says(command, &["PG disabled\n"]);
    }
}

#[test]
fn mistakes_are_named() {
    let mut bench = Bench::new(BUSY);
    for (command, expected) in [
        ("foo", "unknown command: 'foo'\n"),
        ("contt", "unknown command: 'contt'; did you mean 'cont'?\n"),
        (
            "info registerz",
            "unknown command: 'info registerz'; did you mean 'registers'?\n",
        ),
        ("help foo", "unknown command: 'foo'\n"),
        ("x/q 0", "invalid char in format: 'q'\n"),
        ("x", "unexpected end of expression\n"),
        ("p 1+", "unexpected end of expression\n"),
        ("p $foo", "unknown register: $foo\n"),
        ("p 1/0", "division by zero\n"),
        (
            "x/99999999999999999999xb 0",
            "x: a count of 18446744073709551615 is too large: 1048576 is the most at once\n",
        ),
        (
            "xp/1000000000i 0",
            "xp: a count of 1000000000 is too large: 16384 is the most at once\n",
        ),
        (
            "stop now",
            "stop: extraneous characters at the end of line\n",
        ),
        ("sendkey", "sendkey: keys expected\n"),
        ("sendkey ctrl-alt-foo", "invalid parameter: foo\n"),
        ("sendkey a b", "invalid number: b\n"),
        ("screendump", "screendump: filename expected\n"),
        ("screendump a -f gif", "invalid parameter: gif\n"),
        (
            "screendump /nonexistent/a",
            "Error: failed to write '/nonexistent/a': No such file or directory (os error 2)\n",
        ),
        ("", ""),
        ("   ", ""),
    ] {
        assert_eq!(bench.ask(command), expected, "{command}");
    }
    bench.goes_on();
}

#[test]
fn the_largest_dump_does_not_hold_the_guest() {
    let mut bench = Bench::new(BUSY);
    let said = bench.ask("x/1048576xb 0x1000");
    // It reaches the video memory, which is none of its own.
    assert_eq!(said.lines().count(), (0xA_0000 - 0x1000) / 8 + 1);
    assert!(said.ends_with("00000000000a0000: Cannot access memory\n"));
    bench.goes_on();
    assert_eq!(bench.ask("x/16384i 0x1000").lines().count(), 16384);
    bench.goes_on();
}

#[test]
fn garbage_does_no_harm() {
    let mut bench = Bench::new(BUSY);
    let mut random = Random::new(0x5EED);
    // Without the letters that are commands, which stop the guest.
    let mut garbage: Vec<u8> = (0..1 << 20)
        .map(|_| random.draw() as u8)
        .map(|byte| if b"csq".contains(&byte) { b'_' } else { byte })
        .collect();
    bench.monitor.input(&garbage);
    let said = bench.send(b"\x15\n");
    assert!(said.len() < 16 << 20, "{} bytes", said.len());
    bench.goes_on();
    // One line of it; letters alone, no end.
    for byte in &mut garbage {
        *byte = b'a' + *byte % 26;
    }
    bench.monitor.input(&garbage);
    let said = bench.send(b"\n");
    assert!(said.ends_with(&format!(
        "\r\nline too long: more than 4096 bytes\r\n{PROMPT}"
    )));
    assert!(said.len() < 8192);
    // Many lines, each of the longest possible.
    let mut line = garbage[..4096].to_vec();
    *line.last_mut().expect("one") = b'\n';
    let said = bench.send(&line.repeat(256));
    assert_eq!(said.matches("unknown command").count(), 256);
    bench.goes_on();
}

#[test]
fn a_line_is_edited() {
    let mut bench = Bench::new(IDLE);
    let said = bench.send(b"info verx\x08s\t\r");
    assert!(
        said.contains(concat!("ion \r\n", env!("CARGO_PKG_VERSION"))),
        "{said:?}"
    );
    let said = bench.send(b"\x1b[A\r\n");
    assert!(said.contains("info version \r\n"), "{said:?}");
    let said = bench.send(b"quit\x03");
    assert!(said.ends_with(&format!("^C\r\n{PROMPT}")), "{said:?}");
    let said = bench.send(b"quit\x15info\tst");
    assert!(said.contains("info"), "{said:?}");
    bench.send(b"\x15");
    bench.says("info status", &["running"]);
}

#[test]
fn reset_starts_again() {
    let mut bench = Bench::new(BUSY);
    bench.goes_on();
    assert_eq!(bench.ask("stop"), "");
    assert_eq!(bench.ask("system_reset"), "");
    bench.says("info status", &["VM status: paused (prelaunch)\n"]);
    bench.says("p $pc", &["0xfffffff0"]);
    bench.ask("cont");
    bench.goes_on();
}

#[test]
fn quit_ends_the_run() {
    let mut bench = Bench::new(BUSY);
    bench.ask("q");
    let machine = bench.machine.take().expect("it ran");
    assert_eq!(machine.join().expect("no panic"), Outcome::Stopped);
    assert_eq!(bench.ask("info status"), "Error: the machine is gone\n");
    assert_eq!(bench.ask("sendkey a"), "Error: the machine is gone\n");
    assert_eq!(
        bench.ask("screendump /dev/null"),
        "Error: the machine is gone\n"
    );
}

/// Waits for a byte of guest memory.
#[track_caller]
fn wait_for(bench: &mut Bench, address: u64, expected: &str) {
    let command = format!("xp/{}xb {address:#x}", expected.split(' ').count());
    let expected = format!("{address:016x}: {expected}\n");
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let said = bench.ask(&command);
        if said == expected {
            return;
        }
        assert!(Instant::now() < end, "{said} is not {expected}");
    }
}

#[test]
fn keys_reach_the_guest() {
    // Enables the keyboard, then stores what port 60h gives at 600h, 601h...
    let code = [
        0x31, 0xC0, 0x8E, 0xD8, 0xBF, 0x00, 0x06, // xor ax,ax; mov ds,ax; mov di,600h
        0xB0, 0xAE, 0xE6, 0x64, // mov al,AEh; out 64h,al
        0xE4, 0x64, 0xA8, 0x01, 0x74, 0xFA, // l: in al,64h; test al,1; jz l
        0xE4, 0x60, 0x88, 0x05, 0x47, 0xEB, 0xF3, // in al,60h; mov [di],al; inc di; jmp l
    ];
    let mut bench = Bench::new(&code);
    assert_eq!(bench.ask("sendkey ctrl-alt-delete 20"), "");
    assert_eq!(bench.ask("sendkey a 1"), "");
    wait_for(&mut bench, 0x600, "0x14 0x11 0xe0 0x71 0xe0 0xf0 0x71 0xf0");
}

#[test]
fn the_power_button_is_pressed() {
    // PMBA 600h, window open, PWRBTN_EN; waits for PWRBTN_STS and stores 1 at 500h.
    let outl = |port: u16, value: u32| {
        let mut code = vec![0xBA];
        code.extend(port.to_le_bytes());
        code.extend([0x66, 0xB8]);
        code.extend(value.to_le_bytes());
        code.extend([0x66, 0xEF]);
        code
    };
    let mut code = vec![0x31, 0xC0, 0x8E, 0xD8];
    for (register, value) in [(0x40, 0x601), (0x80, 1), (0x04, 1)] {
        code.extend(outl(0xCF8, 0x8000_0B00 | register));
        code.extend(outl(0xCFC, value));
    }
    code.extend([0xBA, 0x02, 0x06, 0xB8, 0x00, 0x01, 0xEF]); // mov dx,602h; mov ax,100h; out dx,ax
    code.extend([0xC6, 0x06, 0x01, 0x05, 0x01]); // mov byte [501h],1
    code.extend([0xBA, 0x00, 0x06, 0xED, 0xF6, 0xC4, 0x01, 0x74, 0xF7]); // l: mov dx,600h; in ax,dx; test ah,1; jz l
    code.extend([0xC6, 0x06, 0x00, 0x05, 0x01, 0xEB, 0xFE]); // mov byte [500h],1; jmp $
    let mut bench = Bench::new(&code);
    wait_for(&mut bench, 0x501, "0x01");
    assert_eq!(bench.ask("system_powerdown"), "");
    wait_for(&mut bench, 0x500, "0x01");
    bench.says("info exits", &["IO_INSTRUCTION       in "]);
}

#[test]
fn an_nmi_reaches_the_guest() {
    // Unmasks LINT1 as NMI in the local APIC, by flat segments from protected mode and back; the
    // handler of vector 2 stores 1 at 500h.
    const HANDLER: usize = 0x50;
    const GDTR: usize = 0x70;
    #[rustfmt::skip]
    let mut rom = vec![
        0x31, 0xC0, 0x8E, 0xD8, // xor ax,ax; mov ds,ax
        0xC7, 0x06, 0x08, 0x00, HANDLER as u8, 0x00, // mov word [8],HANDLER
        0xC7, 0x06, 0x0A, 0x00, 0x00, 0xF0, // mov word [10],F000h
        0x2E, 0x0F, 0x01, 0x16, GDTR as u8, 0x00, // lgdt cs:[GDTR]
        0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, // CR0.PE = 1
        0xBB, 0x08, 0x00, 0x8E, 0xDB, // mov bx,8; mov ds,bx
        0x24, 0xFE, 0x0F, 0x22, 0xC0, // CR0.PE = 0
        0x66, 0x67, 0xC7, 0x05, 0xF0, 0x00, 0xE0, 0xFE, 0xFF, 0x01, 0x00, 0x00, // mov dword [FEE000F0h],1FFh
        0x66, 0x67, 0xC7, 0x05, 0x60, 0x03, 0xE0, 0xFE, 0x00, 0x04, 0x00, 0x00, // mov dword [FEE00360h],400h
        0xEB, 0x1A, // jmp 5Ch
    ];
    assert_eq!(rom.len(), 0x42);
    rom.resize(HANDLER, 0x90);
    // xor ax,ax; mov ds,ax; inc byte [500h]; iret
    rom.extend([0x31, 0xC0, 0x8E, 0xD8, 0xFE, 0x06, 0x00, 0x05, 0xCF]);
    rom.resize(0x5C, 0x90);
    // xor ax,ax; mov ds,ax; mov byte [501h],1; hlt; jmp
    rom.extend([
        0x31, 0xC0, 0x8E, 0xD8, 0xC6, 0x06, 0x01, 0x05, 0x01, 0xF4, 0xEB, 0xFD,
    ]);
    rom.resize(GDTR, 0x90);
    rom.extend([0x0F, 0x00, 0x80, 0x00, 0x0F, 0x00]); // 16 bytes at F0080h
    rom.resize(0x80, 0x90);
    rom.extend([0; 8]);
    rom.extend([0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0]);
    let mut bench = Bench::new(&rom);
    wait_for(&mut bench, 0x501, "0x01");
    bench.says("info lapic", &["LVT1\t 0x00000400 "]);
    assert_eq!(bench.ask("nmi"), "");
    wait_for(&mut bench, 0x500, "0x01");
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("twin86-monitor-{}-{name}", std::process::id()))
}

#[test]
fn the_screen_is_saved() {
    let mut bench = Bench::new(IDLE);
    let ppm = file("a.ppm");
    assert_eq!(bench.ask(&format!("screendump {}", ppm.display())), "");
    let picture = std::fs::read(&ppm).expect("a picture");
    std::fs::remove_file(&ppm).expect("it was there");
    assert!(picture.starts_with(b"P6\n"));
    let png = file("a.png");
    assert_eq!(
        bench.ask(&format!("screendump -f png \"{}\"", png.display())),
        ""
    );
    let picture = std::fs::read(&png).expect("a picture");
    std::fs::remove_file(&png).expect("it was there");
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    let mut blind = Bench::with(IDLE, |config| config.board.vga = false);
    assert_eq!(
        blind.ask("screendump /dev/null"),
        "Error: there is no display\n"
    );
}

/// Width, height and pixels of a PPM.
fn read_ppm(path: &std::path::Path) -> (usize, usize, Vec<u8>) {
    let file = std::fs::read(path).expect("a picture");
    let mut lines = file.splitn(4, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().expect("a line")).into_owned();
    assert_eq!(line(), "P6");
    let size = line();
    let (width, height) = size.split_once(' ').expect("a size");
    assert_eq!(line(), "255");
    let pixels = lines.next().expect("pixels").to_vec();
    let number = |text: &str| text.parse().expect("a number");
    (number(width), number(height), pixels)
}

#[test]
fn the_text_screen_is_saved() {
    let firmware = Firmware::new(&[]);
    let (bios, vga_rom) = match (
        firmware.bios(DEFAULT_BIOS.as_ref()),
        firmware.option_rom(VGA_BIOS),
    ) {
        (Ok(bios), Ok(Some(rom))) => (bios, rom),
        _ => return skip("firmware", &"no SeaBIOS, or no VGA BIOS"),
    };
    let mut bench = Bench::with(IDLE, |config| {
        config.parts.bios = bios;
        config.parts.vga_rom = Some(vga_rom);
    });
    let path = file("text.ppm");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        assert_eq!(bench.ask(&format!("screendump {}", path.display())), "");
        let (width, height, pixels) = read_ppm(&path);
        assert_eq!(pixels.len(), width * height * 3);
        // SeaBIOS's first lines, in grey on black.
        let grey = pixels.chunks(3).filter(|p| *p != [0; 3]).count();
        if (width, height) == (720, 400) && grey > 500 {
            break;
        }
        assert!(Instant::now() < end, "{width}x{height}, {grey} pixels");
        thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_file(&path).expect("it was there");
    bench.says(
        "info pci",
        &[
            "IRQ 9, pin A",
            "BAR0: 32 bit prefetchable memory at 0xfd000000 [0xfdffffff].",
        ],
    );
    bench.says(
        "info mtree",
        &["00000000fd000000-00000000fdffffff (prio 0, ram)"],
    );
}

/// A processor in 64-bit mode that counts at 500h, with pages of each size.
fn long_mode(config: &mut MachineConfig) {
    let tables: &[(u64, u64)] = &[
        (0x1000, 0x2007),
        (0x1FF8, 0x6003),
        (0x2000, 0x3007),
        (0x2010, 0x4000_0087), // 1 GiB at 2 GiB
        (0x3000, 0x0083),      // 2 MiB
        (0x3008, 0x4007),
        (0x4000, 0x8000_0000_0000_9007),
        (0x4008, 0x8000_0000_0000_A007),
        (0x4018, 0x8025),
        (0x6FF0, 0x7003),
        (0x7000, 0x01E3),
    ];
    let mut memory: Vec<(u64, Arc<[u8]>)> = Vec::new();
    for (address, entry) in tables {
        memory.push((*address, Arc::from(entry.to_le_bytes())));
    }
    // inc dword [500h]; jmp
    let code = [0xFF, 0x04, 0x25, 0x00, 0x05, 0x00, 0x00, 0xEB, 0xF7];
    memory.push((0x8000, Arc::from(code)));
    memory.push((0x9FFE, Arc::from(*b"acros")));
    let enter = |state: &mut CpuState| {
        state.cr0 |= Cr0::PE | Cr0::PG;
        state.cr3 = 0x1000;
        state.cr4 |= Cr4::PAE;
        state.efer |= Efer::LME | Efer::LMA | Efer::NXE;
        state.rip = 0xFFFF_FFFF_8000_8000;
        for segment in &mut state.segments[..6] {
            let kind = Segment::G | Segment::DB | 0x93;
            (segment.base, segment.limit, segment.access) = (0, u32::MAX, kind);
        }
        state.segments[Seg::Cs as usize].access = Segment::G | Segment::L | 0x9B;
        state.gpr[Gpr::R15 as usize] = 0x1122_3344_5566_7788;
    };
    config.boot = Some(Boot {
        memory,
        ports: Vec::new(),
        enter: Box::new(enter),
    });
}

#[test]
fn pages_are_shown_while_the_guest_runs() {
    let mut bench = Bench::with(IDLE, long_mode);
    bench.goes_on();
    let mem = "\
0000000000000000-0000000000200000 0000000000200000 -rw
0000000000200000-0000000000202000 0000000000002000 urw
0000000000203000-0000000000204000 0000000000001000 ur-
0000000080000000-00000000c0000000 0000000040000000 urw
ffffffff80000000-ffffffff80200000 0000000000200000 -rw
";
    assert_eq!(bench.ask("info mem"), mem);
    let tlb = bench.ask("info tlb");
    assert_eq!(tlb.lines().count(), 6);
    for line in [
        "0000000000201000: 000000000000a000 X------UW",
        "0000000000203000: 0000000000008000 ----A--U-",
        "0000000080000000: 0000000040000000 --P----UW",
        "ffffffff80000000: 0000000000000000 -GPDA---W",
    ] {
        assert!(tlb.lines().any(|l| l == line), "{tlb} lacks {line}");
    }
    bench.says(
        "x/5c 0x200ffe",
        &["0000000000200ffe: 'a' 'c' 'r' 'o' 's'\n"],
    );
    bench.says("x/1s 0x200ffe", &["\"acros\"\n"]);
    bench.says(
        "x/2i 0xffffffff80008000",
        &[
            "0xffffffff80008000:  ff 04 25 00 05 00 00     inc dword ptr [0x500]\n",
            "0xffffffff80008007:  eb f7                    jmp 0xFFFFFFFF80008000\n",
        ],
    );
    bench.says(
        "x/2xg 0x203ff8",
        &["0000000000204000: Cannot access memory\n"],
    );
    bench.says("p/x $r15d", &["0x55667788\n"]);
    bench.ask("stop");
    let registers = bench.ask("info registers");
    for part in [
        "RAX=0000000000000000 RBX=",
        "R15=1122334455667788\nRIP=ffffffff8000800",
        "CS =f000 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\n",
        "DS =0000 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\n",
        "EFER=0000000000000d00\n",
        "XMM15=",
    ] {
        assert!(registers.contains(part), "{registers} lacks {part}");
    }
}

#[test]
fn a_halted_processor_is_shown_as_such() {
    let mut bench = Bench::new(IDLE);
    let end = Instant::now() + Duration::from_secs(10);
    while !bench.ask("info registers").contains(" HLT=1\n") {
        assert!(Instant::now() < end, "it does not halt");
    }
    bench.says("info exits", &["HLT "]);
}

#[test]
fn engines_are_named_or_refused() {
    let mut bench = Bench::new(BUSY);
    bench.says("info accel", &["accelerator: tcg\n"]);
    for (command, part) in [
        ("accel_set", "accel_set: tcg or kvm expected\n"),
        (
            "accel_set kmv",
            "Error: accel_set: 'kmv' is not an engine; did you mean 'kvm'?\n",
        ),
        ("accel_set kvm kvm", "accel_set: extraneous characters"),
        ("accel_set tcg,rescue=on", "no property 'rescue'"),
        ("accel_set kvm,rescue=maybe", "'on', 'off' or 'refusals'"),
        ("accel_set tcg", "the machine runs on tcg already\n"),
        (
            "help accel_set",
            "accel_set tcg|kvm[,rescue=on|off|refusals] -- ",
        ),
    ] {
        bench.says(command, &[part]);
    }
    bench.goes_on();
    // What opens is a KVM; the guest has seen a processor that it may lack something of.
    let said = bench.ask("accel_set kvm,rescue=on");
    match Kvm::open() {
        Err(error) => assert!(said.starts_with(&format!("Error: {error}\n")), "{said}"),
        Ok(_) if said.is_empty() => bench.says("info accel", &["accelerator: kvm (switches: 1)\n"]),
        Ok(_) => {
            assert!(said.contains("which the guest has seen"), "{said}");
            bench.says("info accel", &["accelerator: tcg\n"]);
        }
    }
    bench.goes_on();
    let mut timed = Bench::with(BUSY, |config| config.icount = Some(0));
    if Kvm::open().is_ok() {
        let refused = "Error: -icount needs --accel=tcg: KVM cannot count instructions\n";
        assert_eq!(timed.ask("accel_set kvm,rescue=on"), refused);
    }
    timed.goes_on();
}

#[test]
fn a_running_machine_is_moved() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm.with_rescue(Arc::default()),
        Err(error) => return skip("kvm", &error),
    };
    let machine = Machine::with_engines(Bench::config(BUSY), &Tcg, &[&kvm]);
    let mut bench = Bench::of(machine.expect("a machine"));
    for n in 1..10 {
        let engine = ["tcg", "kvm"][n % 2];
        assert_eq!(bench.ask(&format!("accel_set {engine}")), "");
        let accel = format!("accelerator: {engine} (switches: {n})\n");
        assert_eq!(bench.ask("info accel"), accel);
        bench.goes_on();
    }
    bench.says("info kvm", &["kvm support: enabled\n"]);
    bench.says("info registers", &["CS =f000 000f0000 0000ffff 00009b00"]);
    // While it stands still, too.
    bench.ask("stop");
    let before = bench.ask("info registers");
    assert_eq!(bench.ask("accel_set tcg"), "");
    assert_eq!(bench.ask("info registers"), before);
    bench.says("info status", &["VM status: paused\n"]);
    bench.ask("cont");
    bench.goes_on();
}

#[test]
fn exits_stand_in_the_column_of_their_engine() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm.with_rescue(Arc::default()),
        Err(error) => return skip("kvm", &error),
    };
    // xor ax,ax; mov ds,ax; l: inc dword [500h]; out 80h,al; jmp l
    let code = [
        0x31, 0xC0, 0x8E, 0xD8, 0x66, 0xFF, 0x06, 0x00, 0x05, 0xE6, 0x80, 0xEB, 0xF7,
    ];
    let machine = Machine::with_engines(Bench::config(&code), &Tcg, &[&kvm]);
    let mut bench = Bench::of(machine.expect("a machine"));
    bench.goes_on();
    assert_eq!(bench.ask("accel_set kvm"), "");
    bench.goes_on();
    bench.ask("stop");
    let exits = bench.ask("info exits");
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = exits.lines().map(words).collect();
    assert_eq!(lines[0], ["exits", "tcg", "kvm"]);
    assert_eq!(lines[1][..2], ["IO_INSTRUCTION", "out"]);
    let count = |n: usize| lines[1][n].parse::<u64>().expect("a count");
    assert!(count(2) > 0 && count(3) > 0, "{exits}");
    // Each OUT is counted once, on one of them.
    let memory = bench.ask("xp/1dw 0x500");
    let times = memory.split(": ").nth(1).expect("a number").trim();
    let times: u64 = times.parse().expect("a number");
    let sum = count(2) + count(3);
    assert!((times - 1..=times).contains(&sum), "{sum} of {times}");
}
