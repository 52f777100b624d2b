//! Bad input on the command line: one line with file and cause, status 1, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of this test's own; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("twin86-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a name").to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program, built as the tests are.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let path = folder.join("twin86");
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-q", "-p", "twin86", "--bin", "twin86"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().expect("cargo").success(),
            "the program builds"
        );
    };
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(build);
    path
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the program runs")
}

/// The program refuses: status 1, one line that has all of `parts`.
#[track_caller]
fn refuses(arguments: &[&str], parts: &[&str]) {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for part in parts {
        assert!(
            said.contains(part),
            "{arguments:?}: {said:?} lacks {part:?}"
        );
    }
}

#[test]
fn files_that_are_no_firmware() {
    let folder = Folder::new("bios");
    let short = folder.file("short.bin", &[0; 1000]);
    let empty = folder.file("empty.bin", &[]);
    let large = folder.file("large.bin", &vec![0; (8 << 20) + 1]);
    let dir = folder.0.to_str().expect("a name");
    refuses(
        &["-bios", "/nonexistent.bin"],
        &["/nonexistent.bin", "No such file"],
    );
    refuses(&["-bios", &short], &[&short, "1000 bytes", "64 KiB"]);
    refuses(&["-bios", &empty], &[&empty, "0 bytes"]);
    refuses(&["-bios", &large], &[&large, "too large"]);
    refuses(&["-bios", "/dev/zero"], &["/dev/zero", "too large"]);
    refuses(&["-bios", dir], &[dir, "directory"]);
    refuses(&["-bios", "none"], &["-bios none needs -kernel"]);
}

#[test]
fn files_that_are_no_kernel() {
    let folder = Folder::new("kernel");
    let noise = folder.file("noise", &[0x5A; 70_000]);
    let empty = folder.file("empty", &[]);
    let elf = folder.file("elf", b"\x7FELF\x02\x01\x01");
    for kernel in [&noise, &empty, &elf] {
        refuses(&["-bios", "none", "-kernel", kernel], &[kernel.as_str()]);
    }
    refuses(
        &["-kernel", "/nonexistent"],
        &["/nonexistent", "No such file"],
    );
    refuses(&["-initrd", "x", "-hda", "y"], &["-initrd needs -kernel"]);
}

/// A bzImage header over nothing.
fn kernel(sectors: u8, len: usize) -> Vec<u8> {
    let mut file = vec![0; len];
    file[0x1F1] = sectors;
    file[0x1FE..0x200].copy_from_slice(&[0x55, 0xAA]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x238..0x23C].copy_from_slice(&100u32.to_le_bytes());
    file[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
    file[0x260..0x264].copy_from_slice(&0x200_0000u32.to_le_bytes());
    file
}

#[test]
fn kernels_that_do_not_fit() {
    let folder = Folder::new("fit");
    let whole = folder.file("whole", &kernel(1, 5000));
    let cut = folder.file("cut", &kernel(100, 5000));
    let initrd = folder.file("initrd", &vec![1; 20 << 20]);
    let direct = |more: &[&'static str]| -> Vec<String> {
        let first = ["-bios", "none", "-kernel", &whole];
        first.iter().chain(more).map(|s| s.to_string()).collect()
    };
    let refuses_more = |more: &[&'static str], parts: &[&str]| {
        let all = direct(more);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        refuses(&all, parts);
    };
    refuses(&["-bios", "none", "-kernel", &cut], &[&cut, "truncated"]);
    refuses_more(&["-m", "16"], &["whole", "too little memory", "-m"]);
    let line: &'static str = "x".repeat(200).leak();
    refuses_more(
        &["-append", line],
        &["command line has 200 bytes", "takes 100"],
    );
    refuses_more(
        &["-initrd", "/nonexistent"],
        &["/nonexistent", "No such file"],
    );
    let initrd: &'static str = initrd.leak();
    refuses_more(
        &["-m", "64", "-initrd", initrd],
        &["initrd", "too little memory"],
    );
}

#[test]
fn options_that_contradict_each_other() {
    refuses(
        &["-hda", "x", "-serial", "stdio", "-debugcon", "stdio"],
        &["one device only"],
    );
    refuses(&["-hda", "x", "-nic", "user"], &["-nic", "'user'"]);
    refuses(&["-hda", "x", "-vga", "cirrus"], &["-vga", "'cirrus'"]);
    refuses(&["-initrd", "x"], &["-initrd needs a guest"]);
    for (option, value, part) in [
        ("-smbios", "type=0,vendor=x", "type=1"),
        ("-smbios", "type=1,serail=x", "'serial'"),
        (
            "-global",
            "PIIX4_PM.disable_s3=1",
            "no property of PIIX4_PM",
        ),
        ("-global", "isa-debug-exit.iobas=1", "'iobase'"),
        ("-name", "a,proces=b", "'process'"),
        ("-readconfig", "vm.cfg", "cannot be read"),
    ] {
        refuses(&["-hda", "/dev/null", option, value], &[option, part]);
    }
    refuses(&["-name", "x"], &["-name needs a guest"]);
    refuses(
        &["-M", "pc,hpett=off", "-hda", "x"],
        &["hpett", "did you mean 'hpet'"],
    );
}
