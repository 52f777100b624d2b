//! `-accel` and `-machine accel=`: which engines may run the guest, in the order they are tried.
//!
//! QEMU's meaning: `-accel kvm -accel tcg` and `kvm:tcg` take the first that works. `auto`, which
//! is what a guest gets that names none, is `kvm:tcg`.

use crate::cli::{CliError, one_of, switch};
use crate::properties::Properties;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The software CPU.
    Tcg,
    /// The processor, through KVM.
    Kvm,
    /// Both, which check each other.
    Lockstep,
}

impl Engine {
    /// Those that run a guest by themselves.
    pub const ALL: [Self; 2] = [Self::Tcg, Self::Kvm];

    /// The one that is not this.
    pub fn other(self) -> Self {
        match self {
            Self::Tcg => Self::Kvm,
            Self::Kvm | Self::Lockstep => Self::Tcg,
        }
    }

    /// As `-accel` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
            Self::Lockstep => "lockstep",
        }
    }
}

/// What the software CPU runs beside KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// What KVM refuses, and of a partial KVM all but 64-bit ring 3, which alone is run by the processor
    /// itself there.
    On,
    /// Nothing.
    Off,
    /// What KVM refuses, of a partial one too, right or wrong as it runs the rest.
    Refusals,
}

impl Rescue {
    /// The values of `rescue=`.
    const NAMES: [&str; 3] = ["on", "off", "refusals"];

    fn parse(given: &str) -> Result<Self, CliError> {
        match given {
            "refusals" => Ok(Self::Refusals),
            _ => match switch("-accel rescue=", given) {
                Ok(true) => Ok(Self::On),
                Ok(false) => Ok(Self::Off),
                Err(_) => Err(one_of(
                    "-accel rescue=",
                    given,
                    &Self::NAMES,
                    "'on', 'off' or 'refusals'",
                )),
            },
        }
    }
}

/// What `-accel help` shows.
pub const CHOICES: &[(&str, &str)] = &[
    ("tcg", "twin86's own CPU"),
    (
        "kvm",
        "the processor; the own CPU runs what KVM cannot (rescue=on|off|refusals)",
    ),
    (
        "lockstep",
        "kvm, checked by the own CPU; mode=exit|slice|step: at each access to the board, every few thousand instructions, or at each",
    ),
    ("auto", "kvm if it is there and good, else tcg"),
    ("kvm:tcg", "the first that works"),
    (
        "qtest",
        "the processor does not run: -qtest drives the board",
    ),
];

/// Names that `-accel` takes.
const NAMES: [&str; 4] = ["tcg", "kvm", "lockstep", "auto"];
/// Properties of `kvm`.
const KVM_PROPERTIES: [&str; 2] = ["rescue", "kernel-irqchip"];
/// Properties of `tcg`: one processor has one thread either way.
const TCG_PROPERTIES: [&str; 1] = ["thread"];

/// Properties of `lockstep`.
const LOCKSTEP_PROPERTIES: [&str; 1] = ["mode"];

/// `mode=` of `lockstep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockstepMode {
    /// The engines are compared behind each access to the board.
    #[default]
    Exit,
    /// At points that the own CPU finds.
    Slice,
    /// Behind each instruction.
    Step,
}

/// An engine that may run the guest, with its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The engine.
    pub engine: Engine,
    /// `rescue=`; [`Rescue::On`] if it was not said.
    pub rescue: Rescue,
    /// `mode=`: how often lockstep compares.
    pub mode: LockstepMode,
}

impl Candidate {
    /// One engine with its properties, as `option` takes it.
    ///
    /// # Errors
    /// If there is no such engine or property.
    pub fn parse(option: &'static str, given: &str) -> Result<Self, CliError> {
        let usage = |error| CliError::Usage(format!("{option} {given}: {error}"));
        let properties = Properties::parse(given).map_err(usage)?;
        let name = properties.head().unwrap_or_default();
        let names = Engine::ALL.map(Engine::name);
        let engine = Engine::ALL.into_iter().find(|engine| engine.name() == name);
        let engine = engine.ok_or_else(|| one_of(option, name, &names, "an engine"))?;
        let known: &[&str] = match engine {
            Engine::Tcg | Engine::Lockstep => &[],
            Engine::Kvm => &["rescue"],
        };
        properties.only(known).map_err(usage)?;
        let rescue = properties.get("rescue").map(Rescue::parse).transpose()?;
        Ok(Self {
            engine,
            rescue: rescue.unwrap_or(Rescue::On),
            mode: LockstepMode::default(),
        })
    }

    /// An engine as it is without properties.
    pub fn plain(engine: Engine) -> Self {
        Self {
            engine,
            rescue: Rescue::On,
            mode: LockstepMode::default(),
        }
    }
}

/// The engines that may run the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// In the order they are tried; never empty.
    pub candidates: Vec<Candidate>,
    /// The user named them.
    pub named: bool,
}

impl Default for Choice {
    /// `auto`, by default.
    fn default() -> Self {
        Self {
            candidates: [Engine::Kvm, Engine::Tcg].map(Candidate::plain).to_vec(),
            named: false,
        }
    }
}

impl Choice {
    /// What all `-accel` and `-machine accel=` say together.
    ///
    /// # Errors
    /// If an engine or property does not exist, or both options are given.
    pub fn parse(options: &[String], of_machine: Option<&str>) -> Result<Self, CliError> {
        let mut candidates = Vec::new();
        match of_machine {
            Some(_) if !options.is_empty() => {
                let text = "-accel and -machine accel= exclude each other";
                return Err(CliError::Usage(text.into()));
            }
            Some(names) => add(&mut candidates, names, &Properties::default())?,
            None => {}
        }
        for given in options {
            let usage = |error| CliError::Usage(format!("-accel {given}: {error}"));
            let properties = Properties::parse(given).map_err(usage)?;
            let names = properties.head().or(properties.get("accel"));
            add(&mut candidates, names.unwrap_or_default(), &properties)?;
        }
        if candidates.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self {
            candidates,
            named: true,
        })
    }

    /// The engine, if only one may run the guest.
    pub fn only(&self) -> Option<Engine> {
        match self.candidates[..] {
            [one] => Some(one.engine),
            _ => None,
        }
    }
}

/// Adds the engines of a list `a:b` with the properties that stand behind it.
fn add(
    candidates: &mut Vec<Candidate>,
    names: &str,
    properties: &Properties,
) -> Result<(), CliError> {
    let mut engines = Vec::new();
    for name in names.split(':') {
        match name {
            // A processor that never runs is no engine of its own.
            "tcg" | "qtest" => engines.push(Engine::Tcg),
            "kvm" => engines.push(Engine::Kvm),
            "lockstep" => engines.push(Engine::Lockstep),
            "auto" => engines.extend([Engine::Kvm, Engine::Tcg]),
            other => return Err(one_of("-accel", other, &NAMES, "an engine")),
        }
    }
    let mut known = vec!["accel"];
    if engines.contains(&Engine::Kvm) {
        known.extend(KVM_PROPERTIES);
    }
    if engines.contains(&Engine::Tcg) {
        known.extend(TCG_PROPERTIES);
    }
    if engines.contains(&Engine::Lockstep) {
        known.extend(LOCKSTEP_PROPERTIES);
    }
    let usage = |error| CliError::Usage(format!("-accel {names}: {error}"));
    properties.only(&known).map_err(usage)?;
    if let Some(given) = properties.get("thread") {
        let values = ["single", "multi"];
        if !values.contains(&given) {
            return Err(one_of(
                "-accel thread=",
                given,
                &values,
                "'single' or 'multi'",
            ));
        }
    }
    if let Some(given) = properties.get("kernel-irqchip")
        && switch("-accel kernel-irqchip=", given)?
    {
        let text = "-accel kvm,kernel-irqchip=on: the interrupt chips are always in user space";
        return Err(CliError::Usage(text.into()));
    }
    let rescue = properties.get("rescue").map(Rescue::parse).transpose()?;
    let mode = match properties.get("mode") {
        None | Some("exit") => LockstepMode::Exit,
        Some("step") => LockstepMode::Step,
        Some("slice") => LockstepMode::Slice,
        Some(other) => {
            let modes = ["exit", "slice", "step"];
            let expected = "'exit', 'slice' or 'step'";
            return Err(one_of("-accel mode=", other, &modes, expected));
        }
    };
    candidates.extend(engines.into_iter().map(|engine| Candidate {
        engine,
        rescue: rescue.unwrap_or(Rescue::On),
        mode,
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str], of_machine: Option<&str>) -> Result<Choice, String> {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        Choice::parse(&options, of_machine).map_err(|error| error.to_string())
    }

    fn engines(options: &[&str], of_machine: Option<&str>) -> Vec<Engine> {
        let choice = parse(options, of_machine).expect("a choice");
        choice.candidates.iter().map(|c| c.engine).collect()
    }

    #[test]
    fn lists_and_repetition_are_tried_in_order() {
        use Engine::{Kvm, Tcg};
        assert_eq!(engines(&[], None), [Kvm, Tcg]);
        assert_eq!(engines(&["tcg"], None), [Tcg]);
        assert_eq!(engines(&["kvm:tcg"], None), [Kvm, Tcg]);
        assert_eq!(engines(&["tcg", "kvm"], None), [Tcg, Kvm]);
        assert_eq!(engines(&[], Some("kvm:tcg")), [Kvm, Tcg]);
        assert_eq!(engines(&["auto"], None), [Kvm, Tcg]);
        assert!(!parse(&[], None).expect("a choice").named);
        assert!(parse(&["auto"], None).expect("a choice").named);
        let only = |option| parse(&[option], None).expect("a choice").only();
        assert_eq!(only("kvm"), Some(Kvm));
        assert_eq!(only("auto"), None);
    }

    #[test]
    fn properties_are_an_engines_own() {
        for (given, rescue) in [
            ("kvm", Rescue::On),
            ("kvm,rescue=on", Rescue::On),
            ("kvm,rescue=off", Rescue::Off),
            ("kvm:tcg,rescue=refusals", Rescue::Refusals),
        ] {
            let choice = parse(&[given, "tcg,thread=single"], None).expect("a choice");
            assert_eq!(choice.candidates[0].rescue, rescue, "{given}");
        }
        assert!(parse(&["kvm,kernel-irqchip=off"], None).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (option, part) in [
            ("kmv", "did you mean 'kvm'?"),
            ("kvm:tgc", "did you mean 'tcg'?"),
            ("kvm:", "'' is not an engine"),
            ("", "'' is not an engine"),
            ("tcg,rescue=on", "no property 'rescue'"),
            ("kvm,recsue=on", "did you mean 'rescue'?"),
            ("kvm,rescue=maybe", "'on', 'off' or 'refusals'"),
            ("kvm,rescue=refusal", "did you mean 'refusals'?"),
            ("kvm,kernel-irqchip=on", "in user space"),
            ("tcg,thread=two", "'single' or 'multi'"),
            ("lockstep,mode=setp", "did you mean 'step'?"),
            ("kvm,mode=step", "no property 'mode'"),
        ] {
            let error = parse(&[option], None).expect_err(option);
            assert!(error.contains(part), "{option}: {error}");
        }
        let both = parse(&["kvm"], Some("tcg")).expect_err("both");
        assert!(both.contains("exclude each other"), "{both}");
    }
}
