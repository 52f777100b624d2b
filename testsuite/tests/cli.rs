//! Bad input on the command line: one line with file and cause, status 1, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testsuite::skip::skip;

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

/// A ROM whose first instructions end the run with status 3, through isa-debug-exit.
fn ending(folder: &Folder) -> String {
    let mut rom = vec![0; 0x1_0000];
    // mov dx, 501h; mov al, 1; out dx, al
    rom[0xFFF0..0xFFF6].copy_from_slice(&[0xBA, 0x01, 0x05, 0xB0, 0x01, 0xEE]);
    folder.file("end.bin", &rom)
}

/// Arguments that run it.
fn end_with<'a>(rom: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let guest = ["-bios", rom, "-device", "isa-debug-exit", "-serial", "null"];
    guest.iter().chain(more).copied().collect()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_string).collect()
}

/// The status, and what was said on standard error.
#[track_caller]
fn said(output: &Output, status: i32) -> Vec<String> {
    let said = lines(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said:?}");
    said
}

#[test]
fn an_engine_is_chosen_and_one_line_says_why() {
    let folder = Folder::new("auto");
    let rom = ending(&folder);
    let chosen = |more: &[&str]| said(&run(&end_with(&rom, more)), 3);
    for auto in [
        &[][..],
        &["-accel", "auto"],
        &["-accel", "kvm:tcg"],
        &["-accel", "kvm", "-accel", "tcg"],
        &["-machine", "pc,accel=kvm:tcg"],
    ] {
        let said = chosen(auto);
        assert_eq!(said.len(), 1, "{auto:?}: {said:?}");
        let tcg = said[0].starts_with("twin86: running on tcg, not kvm: ");
        let kvm = said[0] == "twin86: running on kvm, which passed its start-up probe";
        assert!(tcg || kvm, "{auto:?}: {said:?}");
    }
    // A KVM that emulates must fail the probe, and say where.
    if Path::new("/sys/module/kvm_pvm").exists() && accel::kvm::Kvm::open().is_ok() {
        let said = chosen(&[]);
        let part = "the start-up probe of KVM failed in 32-bit protected mode with paging";
        assert!(said[0].contains(part), "{said:?}");
    }
    assert!(chosen(&["-accel", "tcg"]).is_empty());
    let counted = chosen(&["-icount", "shift=0"]);
    let expected =
        "twin86: running on tcg, not kvm: -icount needs --accel=tcg: KVM cannot count instructions";
    assert_eq!(counted, [expected]);
    let logged = chosen(&["-d", "int"]);
    assert!(
        logged[0].contains("not kvm: -d int needs --accel=tcg"),
        "{logged:?}"
    );
    let kvm = ["-accel", "kvm", "-icount", "shift=0"];
    refuses(&end_with(&rom, &kvm), &["-icount needs --accel=tcg"]);
    refuses(
        &["-accel", "kvm", "-M", "pc,accel=tcg"],
        &["exclude each other"],
    );
}

/// Whether this process is root's; says so if it is not.
fn is_root(what: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    if !root {
        skip(what, &"only root can take rights away");
    }
    root
}

/// Runs the program through another: `setpriv ... twin86 ...`.
fn run_by(by: &[&str], program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(by[0]);
    command.args(&by[1..]).arg(program).args(arguments);
    command.stdin(Stdio::null()).output().expect("it runs")
}

/// KVM alone is refused in one line with `parts` and at most one of help; with tcg behind it the
/// guest runs there, and one line says why.
#[track_caller]
fn refuses_kvm(by: &[&str], program: &Path, parts: &[&str], help: Option<&str>) {
    let alone = said(&run_by(by, program, &["--accel=kvm"]), 1);
    assert!(
        parts.iter().all(|part| alone[0].contains(part)),
        "{alone:?}"
    );
    match help {
        Some(help) => {
            assert_eq!(alone.len(), 2, "{alone:?}");
            assert!(alone[1].contains(help), "{alone:?}");
        }
        None => assert!(alone.len() <= 2, "{alone:?}"),
    }
    let arguments = ["--accel=kvm:tcg", "--parts=real"];
    let both = said(&run_by(by, program, &arguments), 0);
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(
        both[0].starts_with("twin86: running on tcg, not kvm: "),
        "{both:?}"
    );
    assert!(parts.iter().all(|part| both[0].contains(part)), "{both:?}");
}

#[test]
fn a_user_without_permission_is_told_which_group_to_join() {
    let name = "unprivileged";
    if !is_root(name) {
        return;
    }
    if !Path::new("/dev/kvm").exists() {
        return skip(name, &"no /dev/kvm");
    }
    // A copy that anybody can run.
    let folder = Folder::new("user");
    let copy = folder.0.join("twin86");
    fs::copy(program(), &copy).expect("a copy");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    if run_by(
        &[&nobody[..], &["test", "-w"]].concat(),
        Path::new("/dev/kvm"),
        &[],
    )
    .status
    .success()
    {
        return skip(name, &"/dev/kvm is everybody's");
    }
    let parts = ["/dev/kvm may not be opened by user nobody"];
    refuses_kvm(&nobody, &copy, &parts, Some("sudo usermod -aG "));
}

/// The program with other mounts of its own, `mount` a shell command. `None` if that cannot be.
fn with_mounts(name: &str, mount: &str) -> Option<[String; 5]> {
    if !is_root(name) {
        return None;
    }
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    let by = ["unshare", "-m", "sh", "-c", &script].map(str::to_string);
    let tried = Command::new("unshare")
        .args(["-m", "sh", "-c", mount])
        .output();
    match tried {
        Ok(output) if output.status.success() => Some(by),
        Ok(output) => {
            skip(name, &String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            skip(name, &format!("unshare: {error}"));
            None
        }
    }
}

#[test]
fn a_host_without_the_node_is_told_so() {
    let Some(by) = with_mounts("mounts", "mount -t tmpfs none /dev") else {
        return;
    };
    let by = by.each_ref().map(String::as_str);
    refuses_kvm(&by, &program(), &["/dev/kvm does not exist: "], None);
}

#[test]
fn a_node_of_something_else_is_no_kvm() {
    if !Path::new("/dev/kvm").exists() {
        return skip("mounts", &"no /dev/kvm");
    }
    let Some(by) = with_mounts("mounts", "mount --bind /dev/null /dev/kvm") else {
        return;
    };
    let by = by.each_ref().map(String::as_str);
    let parts = ["/dev/kvm is not KVM", "KVM_GET_API_VERSION"];
    refuses_kvm(&by, &program(), &parts, None);
}

#[test]
fn counts_are_printed_at_the_end() {
    let folder = Folder::new("stats");
    let rom = ending(&folder);
    let text = said(&run(&end_with(&rom, &["-accel", "tcg", "--stats"])), 3);
    assert!(
        text[0].starts_with("exits ") && text[0].ends_with(" tcg"),
        "{text:?}"
    );
    let words: Vec<&str> = text[1].split_whitespace().collect();
    assert_eq!(words, ["IO_INSTRUCTION", "out", "1"]);
    assert!(
        text.iter().any(|line| line.starts_with("instructions ")),
        "{text:?}"
    );
    let file = folder.0.join("stats.json");
    let json = format!("--stats=json:{}", file.display());
    let silent = said(&run(&end_with(&rom, &["-accel", "tcg", &json])), 3);
    assert!(silent.is_empty(), "{silent:?}");
    let json = fs::read_to_string(file).expect("a file");
    assert!(
        json.starts_with("{\"runs\":[{\"engine\":\"tcg\","),
        "{json}"
    );
    assert!(json.contains("\"IO_INSTRUCTION out\":1,"), "{json}");
    assert!(json.contains("\"CPUID\":null"), "{json}");
    refuses(
        &["--stats=jsn"],
        &["--stats", "'jsn'", "did you mean 'json'?"],
    );
}

#[test]
fn moves_between_engines_are_checked() {
    let option = "--accel-switch-at";
    for (given, part) in [
        ("exit=5", "did you mean 'exits'?"),
        ("exits=x", "'exits=x' is not a number from 1"),
        ("insns=0", "'insns=0' is not a number from 1"),
        ("exits=5:kmv", "'kmv' is not an engine; did you mean 'kvm'?"),
        ("exits=5,,exits=7", "'' is not exits=N"),
    ] {
        refuses(&[option, given], &[option, part]);
    }
    let timed = ["--accel=tcg", option, "exits=5", "-icount", "shift=0"];
    refuses(&timed, &["-icount needs --accel=tcg"]);
    let counted = ["--accel=tcg", option, "exits=5,exits=6,insns=7,exits=9"];
    if accel::kvm::Kvm::open().is_ok() {
        let said = String::from_utf8_lossy(&run(&counted).stderr).into_owned();
        assert!(!said.contains("insns="), "{said}");
        let wrong = ["--accel=tcg", option, "exits=5,insns=8"];
        let said = String::from_utf8_lossy(&run(&wrong).stderr).into_owned();
        let last = said.lines().last().expect("a line");
        let expected = "twin86: --accel-switch-at insns=8: the machine is on kvm then, which cannot count instructions";
        assert_eq!(last, expected);
    }
}

/// Both engines must be there, and what KVM says is said.
#[test]
fn moves_need_both_engines() {
    let Some(by) = with_mounts("mounts", "mount -t tmpfs none /dev") else {
        return;
    };
    let by = by.each_ref().map(String::as_str);
    let arguments = ["--accel=tcg", "--accel-switch-at", "exits=5"];
    let said = said(&run_by(&by, &program(), &arguments), 1);
    let begin = "twin86: --accel-switch-at needs kvm too: /dev/kvm does not exist: ";
    assert!(said[0].starts_with(begin), "{said:?}");
}

/// A guest of the user's is moved, and both columns are counted.
#[test]
fn a_guest_is_moved_on_the_way() {
    if let Err(error) = accel::kvm::Kvm::open() {
        return skip("kvm", &error);
    }
    let plan = "exits=10,exits=20:tcg,insns=1000,monitor";
    let arguments = [
        "--parts=real,real-int",
        "--accel=tcg",
        "--accel=kvm,rescue=on",
    ];
    let output = run(&[&arguments[..], &["--stats", "--accel-switch-at", plan]].concat());
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        out.contains("result: 2 ok") && out.contains(", 3 switches"),
        "{out}{err}"
    );
    let heads = err.lines().find(|line| line.starts_with("exits "));
    let heads: Vec<&str> = heads.expect("counts").split_whitespace().collect();
    assert_eq!(heads, ["exits", "tcg", "kvm"]);
}
