//! What runs in the outer machine: the programs as they are built for this one, their libraries,
//! and guests.
//!
//! No static build: that would be another 65 s of compiling on two processors, for programs other
//! than those that users run. The outer kernel is Debian's and takes a C library as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use crate::boot::{Emulator, target};

/// Where the guests lie in the outer machine.
pub const GUESTS: &str = "/guests";
/// What of `fetch`'s cache goes there.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "bios-256k.bin", "vgabios-stdvga.bin", "linuxboot_dma.bin",
    "vmlinuz-cloud", "initrd.cloud.gz", "vmlinuz-686", "initrd.686.gz", "grub-rescue-cdrom.iso",
];

/// The outer machine's first file system: busybox and the modules of KVM, as `fetch` made it, with
/// the programs `twin86` and `kvm-tests`, the guests, and `more`.
///
/// # Errors
/// What could not be built, read or written.
pub(super) fn initramfs(cache: &Path, more: &[PathBuf]) -> Result<PathBuf, String> {
    let base = cache.join("initrd.kvm.gz");
    let mut archive = Archive::behind(fs::read(&base).map_err(|e| named(&base, &e))?);
    let mut add = |file: &Path, path: &str| archive.add(file, path).map_err(|e| named(file, &e));
    let twin86 = Emulator::under_test().program().to_path_buf();
    let tests = kvm_tests()?;
    let programs = [(&twin86, "/bin/twin86"), (&tests, "/bin/kvm-tests")];
    let more = more
        .iter()
        .map(|file| (file, file.to_str().unwrap_or_default()));
    let mut libraries = BTreeSet::new();
    for (program, path) in programs.into_iter().chain(more) {
        add(program, path)?;
        libraries.extend(libraries_of(program)?);
    }
    for library in &libraries {
        add(Path::new(library), library)?;
    }
    for name in FILES {
        add(&cache.join(name), &format!("{GUESTS}/{name}"))?;
    }
    let file = target().join("nested.initramfs");
    fs::write(&file, archive.finish()).map_err(|e| named(&file, &e))?;
    Ok(file)
}

fn named(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// The test program of KVM's engine, built now if it is not.
fn kvm_tests() -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    // With the whole workspace's features, so that `cargo test --workspace` has built it already.
    cargo
        .args(["test", "-q", "--workspace", "--test", "kvm"])
        .args(["--no-run", "--message-format=json"])
        .env("CARGO_TARGET_DIR", target());
    let output = cargo.output().map_err(|e| format!("cargo: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let path = said.split("\"executable\":\"").nth(1);
    match path.and_then(|rest| rest.split('"').next()) {
        Some(path) if output.status.success() => Ok(PathBuf::from(path)),
        _ => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("the tests of accel do not build: {why}"))
        }
    }
}

/// The libraries of a program, its loader too, by path; none if it is static.
fn libraries_of(program: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(|e| format!("ldd: {e}"))?;
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

/// The paths in what ldd prints.
fn paths(said: &str) -> Vec<String> {
    let words = said.split_whitespace().filter(|w| w.starts_with('/'));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ldds_paths() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(super::paths(said), ["/lib/x/libc.so.6", "/lib64/ld.so"]);
        assert!(super::paths("\tstatically linked\n").is_empty());
    }
}
