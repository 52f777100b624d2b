//! The copy of the workspace, and the faults in it.

use super::faults::{self, Fault};
use super::{FAULT, MutationError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a workspace is made of.
const PARTS: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "emu",
    "accel",
    "devices",
    "testsuite",
];

/// The crates that faults are in: each gets a module that knows which one is on.
const CRATES: [&str; 2] = ["emu", "devices"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a source file, named from the workspace's root.
pub(super) fn source(file: &str) -> io::Result<String> {
    fs::read_to_string(workspace().join(file))
}

/// `text` with `fault` in it, which is number `number`.
pub(super) fn planted(fault: &Fault, number: usize, text: &str) -> Result<String, MutationError> {
    let (before, old, after) = match fault.was.split_once("[[") {
        Some((before, rest)) => {
            let (old, after) = rest.rsplit_once("]]").unwrap_or((rest, ""));
            (before, old, after)
        }
        None => ("", fault.was, ""),
    };
    let whole = format!("{before}{old}{after}");
    let times = text.matches(&whole).count();
    if times != 1 {
        return Err(MutationError::Place {
            fault: fault.name,
            file: fault.file,
            times,
        });
    }
    let new = fault.becomes;
    let choice = format!("(if crate::mutation::on({number}) {{ {new} }} else {{ {old} }})");
    Ok(text.replace(&whole, &format!("{before}{choice}{after}")))
}

/// The module of a crate that says which fault is on.
fn module() -> String {
    let names: Vec<_> = faults::ALL.iter().map(|fault| fault.name).collect();
    format!(
        "//! Which fault is on. Written by testsuite/src/mutation.\n\
         static ON: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();\n\
         const NAMES: &[&str] = &{names:?};\n\
         /// Whether fault `number` is on.\n\
         pub fn on(number: usize) -> bool {{\n\
         \x20   *ON.get_or_init(|| {{\n\
         \x20       let name = std::env::var({FAULT:?}).ok()?;\n\
         \x20       NAMES.iter().position(|known| *known == name)\n\
         \x20   }}) == Some(number)\n\
         }}\n"
    )
}

/// Makes `tree` the workspace with all faults. Files that are as they should be are left alone, so
/// that only what has changed is built again.
pub(super) fn plant(tree: &Path) -> Result<(), MutationError> {
    fs::create_dir_all(tree)?;
    for part in PARTS {
        copy(&workspace().join(part), &tree.join(part))?;
    }
    for name in CRATES {
        let sources = tree.join(name).join("src");
        write(&sources.join("mutation.rs"), module().as_bytes())?;
        let root = source(&format!("{name}/src/lib.rs"))?;
        let root = format!("{root}\n#[cfg(mutation)]\nmod mutation;\n");
        write(&sources.join("lib.rs"), root.as_bytes())?;
    }
    let mut files: Vec<_> = faults::ALL.iter().map(|fault| fault.file).collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let mut text = source(file)?;
        for (number, fault) in faults::ALL.iter().enumerate() {
            if fault.file == file {
                text = planted(fault, number, &text)?;
            }
        }
        write(&tree.join(file), text.as_bytes())?;
    }
    Ok(())
}

/// Copies a file, or a folder's files; those that faults will be in are left to [`plant`].
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            if name != "target" {
                copy(&from.join(&name), &to.join(&name))?;
            }
        }
        return Ok(());
    }
    let changed = |name: &str| to.ends_with(name);
    let written = faults::ALL.iter().any(|fault| changed(fault.file))
        || CRATES
            .iter()
            .any(|name| changed(&format!("{name}/src/lib.rs")));
    if written {
        return Ok(());
    }
    write(to, &fs::read(from)?)
}

fn write(to: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(to, bytes)
}
