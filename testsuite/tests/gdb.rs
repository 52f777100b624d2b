//! The real gdb as the client of `-gdb`: from the reset vector through SeaBIOS, in Debian's kernel, and
//! in a kernel with symbols made here; and what happens when gdb is gone, or is none.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use testsuite::boot::{Guests, Kernel, Machine, Running};
use testsuite::random::Random;
use testsuite::skip::skip;

/// Enough for what gdb does here, on a busy host.
const SOON: Duration = Duration::from_secs(60);

/// The reference: a program that takes QEMU's options may stand in twin86's place.
fn is_qemu(guests: &Guests) -> bool {
    guests.machine().emulator().is_qemu()
}

/// A folder of one test's own, with the socket; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("twin86-gdb-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("gdb")
    }

    /// The machine with a place for gdb.
    fn machine<'a>(&self, machine: Machine<'a>, form: &str) -> Machine<'a> {
        let socket = self.socket();
        machine.args([
            "-gdb",
            &format!("unix:{}{form},server=on,wait=off", socket.display()),
        ])
    }

    /// Waits until gdb can connect.
    fn ready(&self) {
        let deadline = Instant::now() + SOON;
        while !self.socket().exists() {
            assert!(Instant::now() < deadline, "no socket");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// gdb, connected, with commands to run.
    fn gdb(&self, symbols: Option<&Path>, before: &[&str], commands: &[&str]) -> Command {
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-q", "-batch"]);
        gdb.args(["-ex", "set pagination off", "-ex", "set confirm off"]);
        for command in before {
            gdb.args(["-ex", command]);
        }
        let connect = format!("target remote {}", self.socket().display());
        gdb.args(["-ex", &connect]);
        for command in commands {
            gdb.args(["-ex", command]);
        }
        if let Some(symbols) = symbols {
            gdb.arg(symbols);
        }
        gdb.stdin(Stdio::null()).stderr(Stdio::piped());
        gdb.stdout(Stdio::piped());
        gdb
    }

    /// What gdb says while it runs the commands.
    fn say(&self, symbols: Option<&Path>, before: &[&str], commands: &[&str]) -> String {
        let gdb = self.gdb(symbols, before, commands).spawn().expect("gdb");
        told(gdb)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All that gdb says to its end, which comes soon.
#[track_caller]
fn told(mut gdb: Child) -> String {
    let streams: [Box<dyn Read + Send>; 2] = [
        Box::new(gdb.stdout.take().expect("a pipe")),
        Box::new(gdb.stderr.take().expect("a pipe")),
    ];
    let readers = streams.into_iter().map(|mut stream| {
        thread::spawn(move || {
            let mut text = String::new();
            // What is no text is no answer.
            let _ = stream.read_to_string(&mut text);
            text
        })
    });
    let readers: Vec<_> = readers.collect();
    let deadline = Instant::now() + SOON;
    while gdb.try_wait().expect("gdb").is_none() {
        if Instant::now() > deadline {
            let _ = gdb.kill();
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let late = Instant::now() > deadline;
    let said: Vec<String> = readers
        .into_iter()
        .map(|r| r.join().expect("text"))
        .collect();
    let said = said.join("--- stderr:\n");
    assert!(!late, "gdb does not end:\n{said}");
    said
}

#[track_caller]
fn check(said: &str, expected: &[&str]) {
    let mut rest = said;
    for line in expected {
        match rest.split_once(line) {
            Some((_, behind)) => rest = behind,
            None => panic!("no `{line}` in its place in\n{said}"),
        }
    }
}

/// The values of `p/x` and `p` in what gdb said, in order.
fn values(said: &str) -> Vec<u64> {
    let value = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        name.strip_prefix('$')?.parse::<u32>().ok()?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => value.parse().ok(),
        }
    };
    said.lines().filter_map(value).collect()
}

/// Whether there is a gdb; skips by name else.
fn has_gdb() -> bool {
    let mut version = Command::new("gdb");
    version.arg("--version").stdout(Stdio::null());
    match version.status() {
        Ok(_) => true,
        Err(error) => {
            skip("gdb", &error);
            false
        }
    }
}

fn guests() -> Option<Guests> {
    if has_gdb() { Guests::one() } else { None }
}

/// SeaBIOS, standing at the reset vector.
fn firmware(guests: &Guests, folder: &Folder, form: &str) -> Running {
    let machine = guests
        .machine()
        .args(["-m", "64", "-S", "-display", "none"]);
    let machine = machine.args(["-serial", "null", "-monitor", "none", "-bios"]);
    let machine = machine.args([guests.file("bios-256k.bin")]);
    let running = folder.machine(machine, form).start();
    folder.ready();
    running
}

#[test]
fn reset_vector_and_16_bit_code() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("reset");
    let _running = firmware(&guests, &folder, ",form=i8086");
    let said = folder.say(
        None,
        &["set architecture i8086"],
        &[
            "x/i $cs_base+$pc",
            "p/x $edx",
            "stepi",
            "p/x $eip",
            "p/x $cs",
            "p/x $cs_base",
            // cmpl $0, %cs:(resume flag); jne; xor %dx, %dx; mov %dx, %ss
            "x/4i $cs_base+$pc",
            "stepi 2",
            "p/x $eip",
            // Behind what follows: by linear address.
            "hbreak *0xfe068",
            "set $dx = 0x1234",
            "continue",
            "p/x $eip",
            "p/x $dx",
            "p $eflags",
            "set $eax = 0xCAFE1234",
            "set {short}0x7C00 = 0x5AA5",
            "p/x $eax",
            "p/x {short}0x7C00",
        ],
    );
    check(
        &said,
        &[
            "0xfffffff0:\tljmp   $0xf000,$0xe05b",
            "xor    %dx,%dx",
            "SIGTRAP",
            "[ PF ZF ]",
        ],
    );
    let values = values(&said);
    let signature = values[0];
    assert!(signature != 0, "the processor's signature\n{said}");
    let expected = [
        signature,
        0xE05B,
        0xF000,
        0xF_0000,
        0xE066,
        0xE068,
        0,
        0xCAFE_1234,
        0x5AA5,
    ];
    assert_eq!(values, expected, "{said}");
}

#[test]
fn stepping_into_32_bit_firmware_and_breaking_there() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("seabios");
    // Blocks of commands come from files only.
    let script = folder.0.join("to-32-bit");
    let commands = "set $n = 0\nwhile $cs != 8 && $n < 2000\nstepi\nset $n = $n + 1\nend\n";
    fs::write(&script, commands).expect("a script");
    let running = firmware(&guests, &folder, ",form=i386");
    let said = folder.say(
        None,
        &[],
        &[
            &format!("source {}", script.display()),
            "p/x $cs_base",
            "p $cr0 & 1",
            "stepi 40",
            "p/x $eip",
            "x/i $pc",
            "kill",
        ],
    );
    let found = values(&said);
    assert_eq!(found[..2], [0, 1], "{said}");
    let target = found[2];
    assert!((0xE_0000..0x10_0000).contains(&target), "{said}");
    // Killed by gdb.
    assert_eq!(running.ends(SOON).code(), Some(0));
    let _ = fs::remove_file(folder.socket());
    let _running = firmware(&guests, &folder, ",form=i386");
    let at = format!("break *{target:#x}");
    let said = folder.say(
        None,
        &[],
        &[&at, "continue", "p/x $eip", "p/x $cs", "stepi", "p/x $eip"],
    );
    let values = values(&said);
    assert_eq!(values[..2], [target, 8], "{said}");
    assert!(values[2] != target, "{said}");
    check(&said, &["Breakpoint 1, "]);
}

#[test]
fn the_forms_change_between_connections() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("forms");
    let _running = firmware(&guests, &folder, "");
    let connect = format!("target remote {}", folder.socket().display());
    let said = folder.say(
        None,
        &[],
        &[
            "p/x $rip",
            "monitor info registers",
            "monitor form i8086",
            "disconnect",
            "set architecture i8086",
            &connect,
            // It has not run meanwhile: it had not before gdb came.
            "p/x $eip",
            "stepi",
            "p/x $eip",
        ],
    );
    assert_eq!(values(&said), [0xFFF0, 0xFFF0, 0xE05B], "{said}");
    check(&said, &["not passed on", "as i8086"]);
}

#[test]
fn debians_kernel_by_address() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("debian");
    let machine = guests.machine().kernel(Kernel::Cloud, "");
    let mut running = folder.machine(machine, "").start();
    running.boot();
    let line = running.succeed("grep ' __x64_sys_newuname$' /proc/kallsyms", SOON);
    let digits = line.split(' ').next().unwrap_or_default();
    let address = u64::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{e}: {line}"));
    let at = format!("hbreak *{address:#x}");
    let commands = [
        at.as_str(),
        "continue",
        "p/x $rip",
        "p/x $cs",
        "p ($efer >> 10) & 1",
        "stepi 20",
        "detach",
    ];
    let gdb = folder.gdb(None, &[], &commands).spawn().expect("gdb");
    // gdb may connect before or while this runs: there is one more.
    thread::sleep(Duration::from_secs(2));
    running.paste(b"uname -r; echo wor''ked\n");
    let said = told(gdb);
    assert_eq!(values(&said), [address, 0x10, 1], "{said}");
    check(&said, &["Breakpoint 1, "]);
    running.wait_for("worked", SOON);
    let reply = running.succeed("uname -s", SOON);
    assert!(reply.contains("Linux"), "{reply}");
    running.power_off();
}

/// Symbols of Debian's kernel where it lies without randomization: as the kernel itself tells them.
fn kernel_symbols(guests: &Guests, folder: &Folder) -> PathBuf {
    let mut running = guests.machine().kernel(Kernel::Cloud, "nokaslr").start();
    running.boot();
    let text = running.succeed(
        "grep -iE ' [tdbw] (start_kernel|secondary_startup_64.*|.?rest_init|arch_call_rest_init|\
         boot_command_line|init_uts_ns|__x64_sys_.*name)$' /proc/kallsyms",
        SOON,
    );
    running.power_off();
    let symbol = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((words.nth(1)?.to_string(), address))
    };
    let symbols: Vec<(String, u64)> = text.lines().filter_map(symbol).collect();
    assert!(symbols.len() > 8, "{text}");
    let file = folder.0.join("vmlinux");
    fs::write(&file, testsuite::kernel::symbols(&symbols)).expect("a file");
    file
}

#[test]
fn debians_kernel_by_symbol() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("debian-symbol");
    let symbols = kernel_symbols(&guests, &folder);
    let symbol_file = format!("symbol-file {}", symbols.display());
    let machine = guests.machine().kernel(Kernel::Cloud, "nokaslr");
    let mut running = folder.machine(machine.args(["-S"]), "").start();
    folder.ready();
    let commands = [
        "hbreak start_kernel",
        "continue",
        "info symbol $rip",
        "p/x $cs",
        "p ($efer >> 10) & 1",
        "x/a $rsp",
        "x/s &boot_command_line",
        "break rest_init",
        "continue",
        "info symbol $rip",
        "x/a $rsp",
        "delete",
        // The node name, behind the system's, in the table that all processes share.
        "set {char[7]}((char *)&init_uts_ns + 65) = \"twin86\"",
        "hbreak __x64_sys_sethostname",
        "continue",
        "info symbol $rip",
        "p $rip == (long)&__x64_sys_sethostname",
        // Back to the caller with EPERM.
        "set $rip = *(long *)$rsp",
        "set $rsp = $rsp + 8",
        "set $rax = -1",
        "delete",
        "detach",
    ];
    let gdb = folder.gdb(None, &[&symbol_file], &commands).spawn();
    let gdb = gdb.expect("gdb");
    running.boot();
    running.paste(b"hostname other; echo status $?\n");
    running.wait_for("status 1", SOON);
    let said = told(gdb);
    check(
        &said,
        &[
            "start_kernel in section .text",
            "<secondary_startup_64",
            "console=ttyS0 nokaslr",
            "rest_init in section .text",
            "__x64_sys_sethostname in section .text",
        ],
    );
    assert_eq!(values(&said), [0x10, 1, 1], "{said}");
    // Inlined or not, as the kernel was built.
    let callers = ["<start_kernel+", "<arch_call_rest_init+"];
    assert!(callers.iter().any(|c| said.contains(c)), "{said}");
    let name = running.succeed("uname -n", SOON);
    assert!(name.contains("twin86"), "{name}");

    // A gdb that is killed while the guest stands at its breakpoint.
    let commands = ["hbreak __x64_sys_newuname", "continue", "shell sleep 20"];
    let mut gdb = folder.gdb(None, &[&symbol_file], &commands);
    let mut gdb = gdb.spawn().expect("gdb");
    thread::sleep(Duration::from_secs(2));
    running.paste(b"uname -s; echo wor''ked\n");
    thread::sleep(Duration::from_secs(1));
    assert!(!running.log().contains("worked"), "it stands");
    gdb.kill().expect("gdb is killed");
    gdb.wait().expect("its end");
    running.wait_for("worked", SOON);
    running.power_off();
}

/// The kernel with symbols, built once.
fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/debug.S");
        let name = format!("twin86-debug-{}.elf", std::process::id());
        let kernel = std::env::temp_dir().join(name);
        let mut cc = Command::new("cc");
        cc.args([
            "-g",
            "-nostdlib",
            "-static",
            "-no-pie",
            "-Wl,--build-id=none",
        ]);
        cc.args(["-Wl,-Ttext-segment=0x100000", "-Wl,-e,start", "-o"]);
        let built = cc.arg(&kernel).arg(source).status().expect("cc");
        assert!(built.success(), "the kernel builds");
        kernel
    })
}

/// The kernel with symbols, running or at its first instruction.
fn counting(guests: &Guests, folder: &Folder, more: &[&str]) -> Running {
    let machine = guests.machine().args(["-m", "64", "-display", "none"]);
    let machine = machine
        .args(["-serial", "null", "-monitor", "none"])
        .args(more);
    let machine = machine.args([Path::new("-kernel"), kernel()]);
    let running = folder.machine(machine, "").start();
    folder.ready();
    running
}

/// The counter, as a gdb finds it that connects for it.
fn counter(folder: &Folder) -> u64 {
    let said = folder.say(Some(kernel()), &[], &["p *(long *)&counter"]);
    let value = values(&said).first().copied();
    value.unwrap_or_else(|| panic!("no counter in\n{said}"))
}

#[test]
fn a_kernel_by_symbol() {
    let Some(guests) = guests() else { return };
    let folder = Folder::new("symbol");
    let _running = counting(&guests, &folder, &["-S"]);
    let said = folder.say(
        Some(kernel()),
        &[],
        &[
            "hbreak work",
            "continue",
            "backtrace",
            "p *(long *)&counter",
            "delete",
            "watch *(long *)&counter",
            "continue",
            "p/x (long)$rip - (long)&work",
            "delete",
            "rwatch *(long *)&step",
            "continue",
            "p/x (long)$rip - (long)&work",
            "delete",
            "awatch *(long *)&counter",
            "continue",
            "p/x (long)$rip - (long)&work",
            "delete",
            "p/x $rbx",
            "p/x $xmm3.v2_int64[0]",
            "output $st0",
            "echo \\n",
            "p $cr4 & 0x20",
            "p/x $gs_base",
            "break work",
            "continue",
            "set $rip = $rip + 7",
            "set $rax = 1000000",
            "set $xmm0.v2_int64[0] = 77",
            "set {long}&step = 16",
            "finish",
            "p *(long *)&counter",
            "p $xmm0.v2_int64[0]",
            "delete",
            "stepi",
            "stepi",
            "p/x (long)$rip - (long)&work",
        ],
    );
    check(
        &said,
        &[
            "Breakpoint 1, work () at",
            "#1 ",
            "forever () at",
            "Hardware watchpoint 2",
            "Old value = 0",
            "New value = 1",
            "Hardware read watchpoint 3",
            "Value = 1",
            "Hardware access",
            "Breakpoint 5, work () at",
            "forever () at",
        ],
    );
    // QEMU 7.2 tells physical register 0 here.
    assert!(
        is_qemu(&guests) || said.contains("3.14159265358979323"),
        "{said}"
    );
    let found = values(&said);
    let expected = [
        0,
        21,
        14,
        21,
        0x1122_3344_5566_7788,
        0x1122_3344_5566_7788,
        0x20,
        0,
        1_000_016,
        77,
        0,
    ];
    assert_eq!(found, expected, "{said}");
}

#[test]
fn disconnect_and_reconnect() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("reconnect");
    let _running = counting(&guests, &folder, &[]);
    let connect = format!("target remote {}", folder.socket().display());
    let said = folder.say(
        Some(kernel()),
        &[],
        &[
            "break work",
            "continue",
            "p *(long *)&counter",
            "disconnect",
            "shell sleep 0.3",
            &connect,
            "p *(long *)&counter",
            "detach",
            "shell sleep 0.3",
            &connect,
            "p *(long *)&counter",
        ],
    );
    let found = values(&said);
    // The breakpoint that gdb left is not there any more.
    assert!(found[1] > found[0] + 1000, "{said}");
    assert!(found[2] > found[1] + 1000, "{said}");
}

#[test]
fn the_guest_outlives_gdb() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("killed");
    let _running = counting(&guests, &folder, &[]);
    // Once while the guest stands at a breakpoint, once while it runs towards one.
    for last in ["continue", "tbreak *0x100000"] {
        let commands = ["hbreak work", "continue", last, "echo ready\\n", "continue"];
        let mut gdb = folder.gdb(Some(kernel()), &[], &commands);
        let mut gdb = gdb.spawn().expect("gdb");
        thread::sleep(Duration::from_secs(2));
        gdb.kill().expect("gdb is killed");
        gdb.wait().expect("its end");
        let before = counter(&folder);
        thread::sleep(Duration::from_millis(200));
        let after = counter(&folder);
        assert!(after > before + 1000, "{before} {after}");
    }
}

#[test]
fn an_interrupt_stops_the_guest() {
    let Some(guests) = guests() else { return };
    let folder = Folder::new("interrupt");
    let _running = counting(&guests, &folder, &[]);
    let mut gdb = folder.gdb(Some(kernel()), &[], &["continue", "p *(long *)&counter"]);
    let gdb = gdb.spawn().expect("gdb");
    thread::sleep(Duration::from_secs(2));
    // As the terminal does for Ctrl-C.
    let interrupt = Command::new("kill")
        .args(["-INT", &gdb.id().to_string()])
        .status();
    assert!(interrupt.expect("kill").success());
    let said = told(gdb);
    // Anywhere in the loop: `forever` or the function it calls.
    check(&said, &["SIGINT", "debug.S:"]);
}

/// Whatever comes over the connection, the guest goes on and gdb can connect.
#[test]
fn garbage_does_no_harm() {
    let Some(guests) = guests() else { return };
    if is_qemu(&guests) {
        return;
    }
    let folder = Folder::new("garbage");
    let _running = counting(&guests, &folder, &[]);
    let mut random = Random::new(7);
    for round in 0..60 {
        let mut stream = UnixStream::connect(folder.socket()).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("a timeout");
        for _ in 0..8 {
            let bytes = if round % 2 == 0 {
                noise(&mut random)
            } else {
                packet(&mut random)
            };
            // The stub may have hung up.
            if stream.write_all(&bytes).is_err() {
                break;
            }
            let _ = stream.read(&mut [0; 4096]);
        }
    }
    // One long one: a megabyte without an end.
    let mut stream = UnixStream::connect(folder.socket()).expect("a connection");
    let mut long = vec![b'x'; 1 << 20];
    long[0] = b'$';
    let _ = stream.write_all(&long);
    drop(stream);
    let before = counter(&folder);
    thread::sleep(Duration::from_millis(200));
    assert!(counter(&folder) > before + 1000);
}

fn noise(random: &mut Random) -> Vec<u8> {
    let len = random.below(3000);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// A whole packet with a right sum: commands with arguments that mean little. Not those that end the
/// run or let the guest's memory be written.
fn packet(random: &mut Random) -> Vec<u8> {
    const COMMANDS: [&str; 24] = [
        "?",
        "g",
        "m",
        "p",
        "Z0,",
        "Z1,",
        "Z2,",
        "z0,",
        "z3,",
        "H",
        "qXfer:features:read:target.xml:",
        "qXfer:features:read:",
        "qRcmd,",
        "vCont;",
        "vCont;s",
        "vCont;c",
        "qSupported:",
        "s",
        "T",
        "qC",
        "Hg",
        "vMustReplyEmpty",
        "qfThreadInfo",
        "x",
    ];
    const LETTERS: &[u8] = b"0123456789abcdef,:;-+*fF";
    let mut body = COMMANDS[random.below(COMMANDS.len() as u64) as usize].to_owned();
    for _ in 0..random.below(24) {
        body.push(char::from(
            LETTERS[random.below(LETTERS.len() as u64) as usize],
        ));
    }
    let sum = body.bytes().fold(0u8, |sum, byte| sum.wrapping_add(byte));
    format!("+${body}#{sum:02x}").into_bytes()
}
