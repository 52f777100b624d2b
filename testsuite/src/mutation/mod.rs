//! Can the suite fail? Seeded faults, each of which somebody must notice.
//!
//! The faults ([`faults::ALL`]) do not stand in the sources: a copy of the workspace gets them all,
//! each behind a question that is answered at run time ([`FAULT`]), and is built once. So what is
//! read is what is shipped, and a hot path knows nothing of faults. A fault is caught when one of the
//! [`Detector`]s, run on the copy with the fault on, fails that passes with none.

pub mod faults;
mod run;
mod tree;

pub use faults::{Fault, Group};
pub use run::{Caught, Verdict};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that says which fault is on, by name.
pub const FAULT: &str = "TWIN86_FAULT";

/// Who may notice a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// Random cases against the host's processor.
    Host,
    /// The built-in guest on the software CPU.
    Guest,
    /// The software CPU's own tests.
    Emu,
    /// The devices' own tests.
    Devices,
}

impl Detector {
    /// All, the quickest first.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Host, Self::Emu, Self::Devices];

    /// What `cargo` is told: all is built with the profile of tests, so once.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Host => &[
                "run",
                "--profile=test",
                "-ptestsuite",
                "--bin=campaign",
                "--",
                "--cases",
                "300000",
            ],
            Self::Guest => &["run", "--profile=test", "-ptwin86", "--", "-accel", "tcg"],
            Self::Emu => &["test", "-pemu", "--lib"],
            Self::Devices => &["test", "-pdevices", "--lib"],
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host's processor",
            Self::Guest => "the built-in guest",
            Self::Emu => "tests of emu",
            Self::Devices => "tests of devices",
        })
    }
}

/// Why no fault can be tried.
#[derive(Debug)]
pub enum MutationError {
    /// The copy cannot be written, or no program started.
    Io(io::Error),
    /// A fault's text is not in its file, or more than once.
    Place {
        /// The fault.
        fault: &'static str,
        /// Where it should be.
        file: &'static str,
        /// How often it is there.
        times: usize,
    },
    /// The copy does not build.
    Build(String),
    /// A detector fails though no fault is on.
    Baseline(Detector, String),
}

impl fmt::Display for MutationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Place { fault, file, times } => write!(
                f,
                "{fault}: its text is {times} times in {file}: see testsuite/src/mutation/faults.rs"
            ),
            Self::Build(said) => write!(f, "the copy with faults does not build:\n{said}"),
            Self::Baseline(detector, said) => {
                write!(f, "without a fault, {detector} fails:\n{said}")
            }
        }
    }
}

impl std::error::Error for MutationError {}

impl From<io::Error> for MutationError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The copy of the workspace that has all faults.
pub struct Mutants {
    tree: PathBuf,
    target: PathBuf,
}

impl Mutants {
    /// Copies the workspace to `folder`, plants the faults and builds what the detectors need.
    /// What has not changed since an earlier copy is not built again.
    ///
    /// # Errors
    /// If a fault's place is not found, or the copy does not build.
    pub fn build(folder: &Path) -> Result<Self, MutationError> {
        let (tree, target) = (folder.join("tree"), folder.join("target"));
        tree::plant(&tree)?;
        let mutants = Self { tree, target };
        for arguments in [
            ["build", "-ptestsuite", "--bin=campaign"].as_slice(),
            &["build", "-ptwin86"],
            &["test", "--no-run", "-pemu", "-pdevices", "--lib"],
        ] {
            let mut cargo = mutants.cargo();
            cargo.args(arguments);
            if arguments[0] == "build" {
                cargo.arg("--profile=test");
            }
            let done = cargo.output()?;
            if !done.status.success() {
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                return Err(MutationError::Build(said));
            }
        }
        Ok(mutants)
    }

    fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = Command::new(cargo);
        cargo
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove(FAULT)
            .env("RUSTFLAGS", "--cfg mutation --cap-lints allow")
            .arg("--quiet");
        cargo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn faults_have_names_of_their_own_and_places() {
        let names: BTreeSet<_> = faults::ALL.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults::ALL.len());
        for fault in faults::ALL {
            tree::planted(fault, 0, &tree::source(fault.file).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_fault_whose_place_is_gone_is_named() {
        let fault = &faults::ALL[0];
        let error = tree::planted(fault, 0, "fn nothing() {}").unwrap_err();
        assert!(error.to_string().contains(fault.name), "{error}");
    }
}
