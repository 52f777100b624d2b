//! Running the detectors with a fault on.

use super::{Detector, FAULT, Fault, Mutants, MutationError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a detector takes without a fault is a few seconds: one that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(100);

/// Who noticed a fault, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Who.
    pub by: Detector,
    /// It did not end, rather than fail.
    pub hung: bool,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody noticed.
    Caught(Caught),
    /// Nobody did.
    Survived,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(Caught { by, hung: false }) => write!(f, "caught by {by}"),
            Self::Caught(Caught { by, hung: true }) => write!(f, "caught by {by}, which hung"),
            Self::Survived => f.write_str("SURVIVED"),
        }
    }
}

/// How a detector ended.
enum Ended {
    Passed,
    Failed(String),
    Hung,
}

impl Mutants {
    /// Fails if a detector fails though no fault is on.
    ///
    /// # Errors
    /// Which one, and what it said.
    pub fn check(&self) -> Result<(), MutationError> {
        for detector in Detector::ALL {
            match self.ask(detector, None)? {
                Ended::Passed => {}
                Ended::Failed(said) => return Err(MutationError::Baseline(detector, said)),
                Ended::Hung => {
                    let said = format!("no end within {LIMIT:?}");
                    return Err(MutationError::Baseline(detector, said));
                }
            }
        }
        Ok(())
    }

    /// Turns a fault on and asks the detectors, the likely one first, until one notices.
    ///
    /// # Errors
    /// If a detector cannot be started.
    pub fn try_fault(&self, fault: &Fault) -> Result<Verdict, MutationError> {
        let others = Detector::ALL.into_iter().filter(|&other| other != fault.by);
        for by in [fault.by].into_iter().chain(others) {
            let hung = match self.ask(by, Some(fault.name))? {
                Ended::Passed => continue,
                Ended::Failed(_) => false,
                Ended::Hung => true,
            };
            return Ok(Verdict::Caught(Caught { by, hung }));
        }
        Ok(Verdict::Survived)
    }

    fn ask(&self, detector: Detector, fault: Option<&str>) -> io::Result<Ended> {
        let mut cargo = self.cargo();
        cargo.args(detector.arguments());
        if let Some(name) = fault {
            cargo.env(FAULT, name);
        }
        run(&mut cargo)
    }
}

/// Runs a command in a process group of its own, which ends at the limit.
fn run(command: &mut Command) -> io::Result<Ended> {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What it says is read beside it, or a full pipe would hold it.
    let readers = [
        child.stdout.take().map(reader),
        child.stderr.take().map(reader),
    ];
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > LIMIT {
            let group = Pid::from_raw(-child.id().cast_signed());
            // It may have ended meanwhile.
            let _ = kill(group, Signal::SIGKILL);
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = readers
        .into_iter()
        .flatten()
        .filter_map(|reader| reader.join().ok());
    let said: String = said.collect();
    Ok(match status {
        None => Ended::Hung,
        Some(status) if status.success() => Ended::Passed,
        Some(_) => Ended::Failed(said),
    })
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is.
        drop(pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
