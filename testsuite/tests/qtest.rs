//! The program, driven by the qtest protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testsuite::random::Random;
use testsuite::skip::skip;
use twin86::firmware::{DEFAULT_BIOS, Firmware};

/// The program, built as the tests are.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-q", "-p", "twin86", "--bin", "twin86"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo");
        assert!(status.success(), "the program builds");
    };
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(build);
    folder.join("twin86")
}

fn command(place: &str) -> Command {
    let mut command = Command::new(program());
    command.args(["-M", "pc", "-accel", "qtest", "-display", "none"]);
    command.args(["-qtest", place]);
    command
}

fn has_bios() -> bool {
    let found = Firmware::new(&[]).bios(Path::new(DEFAULT_BIOS));
    if let Err(error) = &found {
        skip("seabios", error);
    }
    found.is_ok()
}

fn run(input: &[u8]) -> Output {
    let mut child = command("stdio")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may have ended before.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    output
}

fn answers(input: &str) -> Vec<String> {
    let output = run(input.as_bytes());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_string).collect()
}

#[test]
fn commands_are_answered() {
    if !has_bios() {
        return;
    }
    for (line, answer) in [
        ("outb 0x21 0x5a\ninb 0x21", "OK|OK 0x005a"),
        ("outl 0xcf8 0x80000000\ninl 0xcfc", "OK|OK 0x12378086"),
        (
            "writeq 0x1000 0x1122334455667788\nreadl 0x1004",
            "OK|OK 0x0000000011223344",
        ),
        ("write 0x1000 3 0x010203\nread 0x1000 4", "OK|OK 0x01020300"),
        ("b64write 0x1000 3 Zm9v\nb64read 0x1000 3", "OK|OK Zm9v"),
        (
            "memset 0x1ffe 4 0xaa\nreadw 0x2000",
            "OK|OK 0x000000000000aaaa",
        ),
        ("readq 0xfed00000", "OK 0x009896808086a201"),
        ("endianness", "OK little"),
        ("frob", "FAIL Unknown command 'frob'"),
        ("irq_intercept_in foo", "FAIL Unknown device"),
        (
            "set_irq_in ioapic unnamed-gpio-in 24 1",
            "FAIL there is no input 24",
        ),
        (
            "read 0 0xffffffffffff",
            "FAIL 281474976710655 bytes are too many",
        ),
        ("\n\r\nendianness\r", "OK little"),
    ] {
        assert_eq!(answers(&format!("{line}\n")).join("|"), answer, "{line}");
    }
}

#[test]
fn time_moves_by_command_alone() {
    if !has_bios() {
        return;
    }
    let script = "irq_intercept_in ioapic\noutb 0x43 0x34\noutb 0x40 0xe8\noutb 0x40 3\n\
                  clock_step 100\nclock_step\nclock_step 1000000\nclock_set 5\n";
    let all = answers(script);
    assert_eq!(all[4], "OK 100");
    let raised = all.iter().filter(|line| *line == "IRQ raise 0").count();
    // 1000 ticks of 1193182 Hz are 838 microseconds.
    assert!((1..=2).contains(&raised), "{all:?}");
    let last = all.last().expect("an answer");
    assert_eq!(*last, all[all.len() - 2].clone(), "time never goes back");
}

#[test]
fn a_line_of_the_board_is_heard_of() {
    if !has_bios() {
        return;
    }
    let script = "irq_intercept_in ioapic\nset_irq_in ioapic unnamed-gpio-in 5 1\n\
                  irq_intercept_in ioapic\nirq_intercept_out i8259\n\
                  outb 0x3fc 8\noutb 0x3f9 2\noutb 0x3f9 0\n";
    let expected = [
        "OK",
        "IRQ raise 5",
        "OK",
        "OK",
        "FAIL IRQ intercept already enabled",
        "OK",
        "IRQ raise 4",
        "OK",
        "IRQ lower 4",
        "OK",
    ];
    assert_eq!(answers(script), expected);
}

#[test]
fn garbage_is_answered_and_the_program_goes_on() {
    if !has_bios() {
        return;
    }
    let names = [
        "clock_step",
        "clock_set",
        "inb",
        "inl",
        "outw",
        "readb",
        "readq",
        "writel",
        "read",
        "write",
        "memset",
        "b64read",
        "b64write",
        "irq_intercept_in",
        "irq_intercept_out",
        "set_irq_in",
        "\u{fffd}",
        "",
    ];
    let words = [
        "0",
        "-1",
        "0x",
        "0xffffffffffffffff",
        "18446744073709551616",
        "x",
        "ioapic",
        "0xfee00300",
        "7",
        "99999999999",
    ];
    let mut random = Random::new(1);
    let mut input = Vec::new();
    for _ in 0..3000 {
        let name = random.pick(&names);
        // No access, which could turn the machine off, and no long time.
        let count = if name.starts_with("clock") {
            0
        } else {
            random.below(4)
        };
        input.extend(name.as_bytes());
        for _ in 0..count {
            input.push(b' ');
            input.extend(random.pick(&words).as_bytes());
        }
        input.push(b'\n');
    }
    input.extend([0xFF, 0xFE, 0, b'\n']);
    input.extend(b"endianness\n");
    let output = run(&input);
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.ends_with("OK little\n"),
        "{}",
        &text[text.len().saturating_sub(200)..]
    );
}

#[test]
fn a_tester_connects_to_a_socket() {
    if !has_bios() {
        return;
    }
    let path = std::env::temp_dir().join(format!("twin86-qtest-{}", std::process::id()));
    let place = format!("unix:{},server=on,wait=off", path.display());
    let mut child = command(&place)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    // A second one comes when the first is gone; the machine is the same.
    for value in ["0x00ff", "0x0077"] {
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        let ask = |line: &str, reader: &mut BufReader<UnixStream>| {
            (&stream).write_all(line.as_bytes()).expect("it is there");
            let mut answer = String::new();
            reader.read_line(&mut answer).expect("an answer");
            answer
        };
        if value == "0x00ff" {
            assert_eq!(ask("outb 0xa1 0xff\n", &mut reader), "OK\n");
        }
        assert_eq!(ask("inb 0xa1\n", &mut reader), format!("OK {value}\n"));
        assert_eq!(ask("outb 0xa1 0x77\n", &mut reader), "OK\n");
    }
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    // It had no chance to.
    let _ = std::fs::remove_file(&path);
}

#[test]
fn what_is_no_place_is_named() {
    for (place, part) in [
        (
            "null",
            "-qtest: 'null' is not stdio, unix:PATH or tcp:HOST:PORT",
        ),
        ("stdo", "did you mean 'stdio'?"),
        ("unix:/nowhere/at/all", "-qtest: No such file"),
    ] {
        let mut child = command(place)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        let mut text = String::new();
        let mut stderr = child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut text).expect("text");
        assert!(
            text.contains(part) || text.contains("bios"),
            "{place}: {text}"
        );
    }
}
