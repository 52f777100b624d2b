//! An audit of the sources: what no lint of rustc or clippy sees.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that hold Rust.
const FOLDERS: &[&str] = &["src", "emu", "accel", "devices", "testsuite"];
/// This audit names what it looks for.
const SELF: &str = "testsuite/tests/house/sources.rs";
/// The places of `emu` that use the host's processor where they can, with a way around it where not.
const HOST: [&str; 2] = ["emu/src/fpu/host", "emu/src/mem/host"];
/// What stands behind a device on the host side.
const BACKENDS: &str = "devices/src/backend/";
/// A file longer than this usually holds two ideas.
const LONGEST: usize = 1000;
/// How many lines above an unsafe block its reason may begin.
const NEARBY: usize = 8;

/// A source file.
struct Source {
    /// From the top of the workspace.
    path: String,
    text: String,
}

impl Source {
    /// The lines with their numbers, comments and text in quotes left out.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        (1..)
            .zip(self.text.lines())
            .map(|(n, line)| (n, bare(line)))
    }

    /// Where code contains one of `words`.
    fn find(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .filter(|(_, line)| words.iter().any(|&word| line.contains(word)))
            .map(|(n, line)| format!("{}:{n}: {}", self.path, line.trim()))
            .collect()
    }
}

/// A line without its comment and without the text between its quotes.
fn bare(line: &str) -> String {
    let mut code = String::new();
    for (n, part) in line.split('"').enumerate() {
        if n % 2 == 0 {
            if let Some(at) = part.find("//") {
                code.push_str(&part[..at]);
                break;
            }
            code.push_str(part);
        }
    }
    code
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Adds the Rust files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The Rust sources below `folders`, but for this file.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&workspace().join(folder), &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let path = path.strip_prefix(workspace()).unwrap_or(&path);
        let path = path.to_string_lossy().replace('\\', "/");
        Source { path, text }
    };
    let found: Vec<Source> = (files.into_iter().map(read))
        .filter(|source| source.path != SELF)
        .collect();
    assert!(
        found.len() >= folders.len() * 2,
        "the sources are elsewhere"
    );
    found
}

/// Where the sources below `folders` contain one of `words`.
fn find(folders: &[&str], words: &[&str]) -> Vec<String> {
    (sources(folders).iter())
        .flat_map(|source| source.find(words))
        .collect()
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    none(&find(
        FOLDERS,
        &["todo!", "unimplemented!", "dbg!", "#[ignore"],
    ));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = (sources(FOLDERS).iter())
        .filter(|source| source.text.lines().count() > LONGEST)
        .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
        .collect();
    none(&long);
}

#[test]
fn devices_have_no_unsafe_code() {
    let lib = fs::read_to_string(workspace().join("devices/src/lib.rs")).expect("devices");
    assert!(lib.lines().any(|l| l == "#![forbid(unsafe_code)]"));
}

/// CPU and devices run on any host: nothing in them is of one system or one processor.
#[test]
fn emu_and_devices_know_no_host() {
    let mut found = find(
        &["emu", "devices"],
        &[
            "target_os",
            "target_arch",
            "target_family",
            "target_env",
            "target_feature",
            "cfg(unix",
            "cfg(windows",
            "std::os",
            "std::arch",
            "core::arch",
            "libc",
            "asm!",
            "kvm",
        ],
    );
    let excused = |place: &str| {
        HOST.iter()
            .chain([&BACKENDS])
            .any(|from| place.starts_with(from))
    };
    found.retain(|place| !excused(place));
    none(&found);
}

/// Machines share nothing: no global that changes.
#[test]
fn there_are_no_globals() {
    let changes = ["static mut", "lazy_static", "thread_local", "LazyLock"];
    let folders = ["src", "emu/src", "accel/src", "devices/src"];
    none(&find(&folders, &changes));
    let inside = ["Lock", "Mutex", "Cell", "Atomic"];
    let mut statics = find(&folders, &["static "]);
    statics.retain(|line| inside.iter().any(|word| line.contains(word)));
    none(&statics);
}

/// No device looks at the host's clock.
#[test]
fn guest_time_is_passed_in() {
    none(&find(
        &["emu", "devices"],
        &["Instant::now", "SystemTime", "thread::sleep"],
    ));
}

#[test]
fn each_unsafe_block_says_why() {
    let mut bad = Vec::new();
    for source in sources(FOLDERS) {
        let lines: Vec<&str> = source.text.lines().collect();
        let mut any = false;
        for (n, line) in source.code() {
            if !["unsafe {", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|w| line.contains(w))
            {
                continue;
            }
            any = true;
            let near = &lines[n.saturating_sub(NEARBY + 1)..n];
            if !near.iter().any(|line| line.contains("// SAFETY: ")) {
                bad.push(format!("{}:{n}: no SAFETY comment", source.path));
            }
        }
        if any && !source.text.contains("// UNSAFETY: ") {
            bad.push(format!("{}: no UNSAFETY comment", source.path));
        }
    }
    none(&bad);
}

/// The crates of ours that a manifest names.
fn ours(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join(manifest)).expect("a manifest");
    let mut section = "";
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if FOLDERS.contains(&name) || name == "twin86" {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn dependencies_have_one_direction() {
    assert_eq!(ours("emu/Cargo.toml"), [""; 0]);
    assert_eq!(ours("devices/Cargo.toml"), [""; 0]);
    assert_eq!(ours("accel/Cargo.toml"), ["emu"]);
    assert!(!ours("Cargo.toml").contains(&"testsuite".to_owned()));
}
