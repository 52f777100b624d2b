//! The flow of firmware on both engines: `--trace-exits` and `diff-exits` by SeaBIOS, here on whatever
//! KVM this host has, with the software CPU to help it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use accel::kvm::Kvm;
use testsuite::boot::{Emulator, Guests};
use testsuite::skip::skip;

/// Longer than a partial KVM takes.
const SOON: Duration = Duration::from_secs(120);
/// What SeaBIOS says when nothing is left to boot.
const NOTHING: &str = "No bootable device";
/// And before it tries.
const ATTEMPT: &str = "Booting from ";
/// Fewer exits than its way there has.
const MANY: u64 = 3000;

/// A folder of this test's own; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("twin86-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What SeaBIOS writes to port 402h until it finds nothing to boot, and a file with its exits until it
/// begins to try: then it waits for a floppy, and time decides how many ticks come. For the same reason
/// there is no CD-ROM, which it would wait for while it does for the keyboard.
fn seabios(guests: &Guests, engine: &'static str, folder: &Folder) -> (String, PathBuf) {
    let trace = folder.file(engine);
    let machine = guests.machine().accel(engine);
    let machine = machine.args(["-nodefaults", "-display", "none", "-debugcon", "mon:stdio"]);
    let machine = machine.args(["-bios"]).args([guests.file("bios-256k.bin")]);
    let mut run = machine.args(["--trace-exits"]).args([&trace]).start();
    run.wait_for(NOTHING, SOON);
    run.paste(b"\x01x");
    let log = run.log();
    assert!(run.ends(SOON).success());
    until_written(&trace, ATTEMPT);
    let from = log.find("SeaBIOS (version").unwrap_or_default();
    let until = log.find(NOTHING).unwrap_or_default();
    (log[from..until].to_owned(), trace)
}

/// Cuts a trace behind the exit that ends these words on port 402h.
fn until_written(trace: &Path, words: &str) {
    let text = fs::read_to_string(trace).expect("a trace");
    let (mut written, mut end) = (String::new(), 0);
    for line in text.split_inclusive('\n') {
        end += line.len();
        let byte = line.strip_prefix("IO_INSTRUCTION out 0x0402 <- ");
        let byte = byte.and_then(|hex| u8::from_str_radix(hex.trim(), 16).ok());
        written.extend(byte.map(char::from));
        if written.ends_with(words) {
            return fs::write(trace, &text[..end]).expect("a trace");
        }
    }
    panic!("{words:?} is not in {written}");
}

fn diff(arguments: &[&str], files: [&Path; 2]) -> Output {
    let mut command = Command::new(Emulator::under_test().program());
    command.arg("diff-exits").args(arguments).args(files);
    command.output().expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ports, values and order are those of tcg, timed reads masked, where KVM runs all that it does not
/// refuse, and where it runs only what the processor does. The log is the same to the byte.
#[test]
fn seabios_goes_the_same_way_on_kvm() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    if let Err(error) = Kvm::open() {
        return skip("kvm", &error);
    }
    let folder = Folder::new("flow");
    let (log, tcg) = seabios(&guests, "tcg", &folder);
    assert!(log.contains("Booting from Hard Disk"), "{log}");
    for engine in ["kvm,rescue=refusals", "kvm"] {
        let (theirs, kvm) = seabios(&guests, engine, &folder);
        assert_eq!(log, theirs, "{engine}");
        let output = diff(&[], [&tcg, &kvm]);
        let said = said(&output);
        assert!(output.status.success(), "{engine}: {said}");
        let agree = said.split(' ').next().and_then(|n| n.parse().ok());
        assert!(agree > Some(MANY), "{engine}: {said}");
        // Time has passed differently, which is what is masked.
        let exact = diff(&["--exact"], [&tcg, &kvm]);
        assert_eq!(exact.status.code(), Some(1), "{engine}");
    }
}

#[test]
fn a_difference_is_shown_with_what_was_before() {
    let folder = Folder::new("flow-diff");
    let file = |name: &str, lines: &[&str]| {
        let path = folder.file(name);
        let header = [twin86::flow::HEADER].into_iter();
        let text: String = header
            .chain(lines.iter().copied())
            .map(|l| format!("{l}\n"))
            .collect();
        fs::write(&path, text).expect("a file");
        path
    };
    let out = "IO_INSTRUCTION out 0x0080 <- 01";
    let (one, two) = (
        "IO_INSTRUCTION in  0x0060 -> 1c",
        "IO_INSTRUCTION in  0x0060 -> 1d",
    );
    let a = file("a", &[out, "HLT", one, out]);
    let b = file("b", &[out, two, out]);
    let output = diff(&[], [&a, &b]);
    assert_eq!(output.status.code(), Some(1));
    let (a_name, b_name) = (a.display(), b.display());
    let expected = format!(
        "1 exits agree, the last of them\n  {out}\n{a_name}: exit 3: {one}\n{b_name}: exit 2: {two}\n"
    );
    assert_eq!(said(&output), expected);
    let c = file("c", &[out]);
    assert_eq!(diff(&[], [&a, &c]).status.code(), Some(1));
    assert_eq!(diff(&["--prefix"], [&a, &c]).status.code(), Some(0));

    let bad = file("bad", &[out, "IO_INSTRUCTION out 0x0080"]);
    let output = diff(&[], [&c, &bad]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("bad:3: not an exit"), "{error}");
    let output = diff(&[], [&a, &folder.file("none")]);
    assert_eq!(output.status.code(), Some(2));
}

/// A full disk is told, and ends nothing before its time.
#[test]
fn a_trace_that_cannot_be_written_is_told_at_the_end() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let machine = guests.machine().args(["-nographic", "-bios"]);
    let machine = machine.args([guests.file("bios-256k.bin")]);
    let mut run = machine.args(["--trace-exits", "/dev/full"]).start();
    run.wait_for(NOTHING, SOON);
    run.paste(b"\x01x");
    assert_eq!(run.ends(SOON).code(), Some(1));
}
