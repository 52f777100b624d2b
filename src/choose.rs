//! Which engine runs the guest: the first candidate that works and is good.
//!
//! KVM is good if it passes its start-up probe. Where tcg may follow, one that fails it is passed
//! over; named alone it runs with a warning if it is known to be partial (no VT-x or SVM), and is an
//! error otherwise. What was chosen out of several, and why, is one line on standard error.

use std::io::{self, Write};

use accel::lockstep::{Lockstep, Mode};
use accel::tcg::Tcg;
use accel::{Accel, AccelError};

use crate::accel_option::{Candidate, Choice, Engine, LockstepMode, Rescue};
use crate::run::RunError;
use crate::switch_option::Switches;

/// An option that only the software CPU can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcgOnly {
    /// The option, as the user writes it.
    pub option: String,
    /// Why.
    pub because: &'static str,
}

/// An engine, opened.
pub struct Chosen {
    /// The engine.
    pub accel: Box<dyn Accel>,
    /// Which it is, with its properties.
    pub candidate: Candidate,
}

/// Opens the first engine that works and is good.
///
/// # Errors
/// If none is: what is wrong with the last.
pub fn choose(choice: &Choice, tcg_only: Option<&TcgOnly>) -> Result<Chosen, RunError> {
    let mut passed_over = Vec::new();
    let mut left = choice.candidates.iter();
    while let Some(&candidate) = left.next() {
        let is_last = left.as_slice().is_empty();
        match try_one(candidate, tcg_only, is_last) {
            Ok((accel, why)) => {
                if choice.only().is_none() {
                    say(candidate.engine, &passed_over, why);
                }
                return Ok(Chosen { accel, candidate });
            }
            Err(error) if is_last => return Err(error),
            Err(error) => passed_over.push((candidate.engine, error)),
        }
    }
    Err(RunError::NoEngine)
}

/// Two engines, opened: a machine moves between them.
pub struct Pair {
    /// What it begins on.
    pub first: Chosen,
    /// The other one.
    pub other: Chosen,
}

impl Pair {
    /// Checks that planned moves make sense for the two.
    ///
    /// # Errors
    /// If one leads to a third engine, or asks one for what it cannot.
    pub fn check(&self, switches: &Switches) -> Result<(), RunError> {
        let [first, other] = [&self.first, &self.other].map(|chosen| chosen.candidate.engine);
        Ok(switches.check(first, other)?)
    }
}

/// Opens the first engine that works and is good, and the other one, with what the choice says of it.
///
/// # Errors
/// If one of them does not work.
pub fn choose_pair(choice: &Choice, tcg_only: Option<&TcgOnly>) -> Result<Pair, RunError> {
    if let Some(needed) = tcg_only {
        return Err(RunError::NeedsTcg(needed.clone()));
    }
    let first = choose(choice, None)?;
    let runs = first.candidate.engine;
    let named = choice.candidates.iter().find(|c| c.engine != runs);
    let candidate = named.copied().unwrap_or(Candidate::plain(runs.other()));
    let accel = open_named(candidate).map_err(|source| RunError::OtherEngine {
        engine: candidate.engine.name(),
        source: Box::new(source),
    })?;
    let other = Chosen { accel, candidate };
    Ok(Pair { first, other })
}

/// Opens an engine that was named alone: a KVM may be partial, with a warning.
///
/// # Errors
/// If it is not there, or broken.
pub fn open_named(candidate: Candidate) -> Result<Box<dyn Accel>, RunError> {
    Ok(try_one(candidate, None, true)?.0)
}

/// Opens a candidate if it is good; what to say of it.
fn try_one(
    candidate: Candidate,
    tcg_only: Option<&TcgOnly>,
    is_last: bool,
) -> Result<(Box<dyn Accel>, &'static str), RunError> {
    match candidate.engine {
        Engine::Tcg => Ok((Box::new(Tcg), "")),
        Engine::Kvm => {
            if let Some(needed) = tcg_only {
                return Err(RunError::NeedsTcg(needed.clone()));
            }
            let kvm = open_good_kvm(candidate, is_last)?;
            Ok((kvm, ", which passed its start-up probe"))
        }
        Engine::Lockstep => {
            if let Some(needed) = tcg_only {
                return Err(RunError::NeedsTcg(needed.clone()));
            }
            let mode = match candidate.mode {
                LockstepMode::Exit => Mode::Exit,
                LockstepMode::Slice => Mode::Slice,
                LockstepMode::Step => Mode::Step,
            };
            Ok((Box::new(Lockstep::new(kvm::open()?, mode)), ""))
        }
    }
}

/// One line: what runs the guest, and why nothing before it.
fn say(engine: Engine, passed_over: &[(Engine, RunError)], why: &str) {
    let because: Vec<String> = passed_over
        .iter()
        .map(|(engine, error)| format!("not {}: {error}", engine.name()))
        .collect();
    let because = if because.is_empty() {
        why.to_string()
    } else {
        format!(", {}", because.join("; "))
    };
    tell(&format!("running on {}{because}", engine.name()));
}

fn tell(line: &str) {
    // With nobody to tell, nothing is lost.
    let _ = writeln!(io::stderr(), "twin86: {line}");
}

/// Opens an engine, good or not.
///
/// # Errors
/// If this host or build does not have it.
pub fn open(engine: Engine) -> Result<Box<dyn Accel>, RunError> {
    match engine {
        Engine::Tcg => Ok(Box::new(Tcg)),
        Engine::Kvm => kvm::open(),
        Engine::Lockstep => Ok(Box::new(Lockstep::new(kvm::open()?, Mode::Exit))),
    }
}

/// Opens KVM and probes it. The last candidate may be partial, with a warning.
fn open_good_kvm(candidate: Candidate, is_last: bool) -> Result<Box<dyn Accel>, RunError> {
    let Probed {
        accel,
        result,
        partial,
    } = kvm::open_and_probe(candidate.rescue)?;
    match result {
        Ok(()) => Ok(accel),
        Err(error) if is_last && partial => {
            let then = match candidate.rescue {
                Rescue::On => "the own CPU runs all but 64-bit ring 3",
                Rescue::Refusals => "the own CPU runs what it refuses",
                Rescue::Off => "rescue=on lets the own CPU run what it cannot",
            };
            tell(&format!("warning: a partial KVM, {then}: {error}"));
            Ok(accel)
        }
        Err(error) => Err(error.into()),
    }
}

/// KVM, and what it is without the own CPU's help.
struct Probed {
    accel: Box<dyn Accel>,
    /// What its start-up probe says.
    result: Result<(), AccelError>,
    /// It is known to run only a part of x86.
    partial: bool,
}

#[cfg(all(feature = "kvm", target_os = "linux"))]
mod kvm {
    use std::sync::Arc;

    use accel::kvm::Kvm;

    use super::{Accel, Probed, Rescue, RunError};

    pub(super) fn open() -> Result<Box<dyn Accel>, RunError> {
        Ok(Box::new(Kvm::open()?))
    }

    /// Rescue comes after the probe, which shows KVM as it is.
    pub(super) fn open_and_probe(rescue: Rescue) -> Result<Probed, RunError> {
        let mut kvm = Kvm::open()?;
        let result = kvm.probe();
        let partial = kvm.is_partial();
        if rescue != Rescue::Off {
            kvm = kvm.with_rescue(Arc::default());
        }
        if rescue == Rescue::Refusals {
            kvm = kvm.refusals_only();
        }
        Ok(Probed {
            accel: Box::new(kvm),
            result,
            partial,
        })
    }
}

#[cfg(not(all(feature = "kvm", target_os = "linux")))]
mod kvm {
    use super::{Accel, AccelError, Probed, Rescue, RunError, io};

    fn absent() -> RunError {
        AccelError::Unavailable {
            engine: "kvm",
            source: io::Error::new(io::ErrorKind::Unsupported, "this build has no KVM"),
        }
        .into()
    }

    pub(super) fn open() -> Result<Box<dyn Accel>, RunError> {
        Err(absent())
    }

    pub(super) fn open_and_probe(_rescue: Rescue) -> Result<Probed, RunError> {
        Err(absent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(engines: &[Engine]) -> Choice {
        Choice {
            candidates: engines.iter().copied().map(Candidate::plain).collect(),
            named: true,
        }
    }

    #[test]
    fn an_option_of_tcg_decides() {
        let needed = TcgOnly {
            option: "-icount".into(),
            because: "KVM cannot count instructions",
        };
        let chosen = choose(&candidates(&[Engine::Kvm, Engine::Tcg]), Some(&needed));
        let chosen = chosen.expect("tcg is always there");
        assert_eq!(chosen.candidate.engine, Engine::Tcg);
        let Err(error) = choose(&candidates(&[Engine::Kvm]), Some(&needed)) else {
            panic!("KVM cannot do that");
        };
        let expected = "-icount needs --accel=tcg: KVM cannot count instructions";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_first_that_works_is_taken() {
        let chosen = choose(&candidates(&[Engine::Tcg, Engine::Kvm]), None);
        let chosen = chosen.expect("tcg is always there");
        assert_eq!(chosen.accel.name(), "tcg");
    }
}
