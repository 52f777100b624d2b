//! `--accel-switch-at`: where the machine moves to another engine.
//!
//! A list, one move after the other: `exits=N` at the N-th access to the board since the start (counted
//! alike on both engines; items of a string that come at once are not parted), `insns=N` after N
//! instructions on tcg; `:tcg` or `:kvm` behind it says
//! where to, else it is the other engine. `monitor` names no place: the machine is made so that
//! `accel_set` can move it.

use crate::accel_option::Engine;
use crate::cli::{CliError, one_of, value};
use crate::properties::nearest;

const OPTION: &str = "--accel-switch-at";
/// The forms of an item.
const FORMS: [&str; 3] = ["exits", "insns", "monitor"];

/// When the machine moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this access of the processor to the board, counted from 1.
    Access(u64),
    /// When so many instructions have run on tcg since the move before.
    Instructions(u64),
}

/// A move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchAt {
    /// When.
    pub when: When,
    /// Where to; the other engine if nothing is said.
    pub to: Option<Engine>,
}

impl SwitchAt {
    /// The engine that runs the machine then.
    pub fn target(&self, from: Engine) -> Engine {
        self.to.unwrap_or_else(|| from.other())
    }
}

/// What all `--accel-switch-at` say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// The moves, in order.
    pub moves: Vec<SwitchAt>,
    /// The monitor may move the machine, too.
    pub monitor: bool,
}

impl Switches {
    /// Both engines are needed.
    pub fn are_planned(&self) -> bool {
        self.monitor || !self.moves.is_empty()
    }

    /// Reads the options.
    ///
    /// # Errors
    /// If an item is none.
    pub fn parse(options: &[String]) -> Result<Self, CliError> {
        let mut switches = Self::default();
        for item in options.iter().flat_map(|given| given.split(',')) {
            if item == "monitor" {
                switches.monitor = true;
            } else {
                switches.moves.push(parse_one(item)?);
            }
        }
        Ok(switches)
    }

    /// Checks that the moves make sense for a machine that begins on `engine`.
    ///
    /// # Errors
    /// If KVM should count instructions.
    pub fn check(&self, mut engine: Engine) -> Result<(), CliError> {
        for step in &self.moves {
            if let (When::Instructions(count), Engine::Kvm) = (step.when, engine) {
                let text = format!(
                    "{OPTION} insns={count}: the machine is on kvm then, which cannot count instructions"
                );
                return Err(CliError::Usage(text));
            }
            engine = step.target(engine);
        }
        Ok(())
    }
}

fn parse_one(item: &str) -> Result<SwitchAt, CliError> {
    let wrong = || {
        let expected = "exits=N, insns=N (each with :tcg or :kvm behind it if need be) or monitor";
        let name = item.split('=').next().unwrap_or_default();
        CliError::Value {
            option: OPTION,
            given: item.to_owned(),
            expected,
            nearest: nearest(name, FORMS).map(str::to_owned),
        }
    };
    let (name, rest) = item.split_once('=').ok_or_else(wrong)?;
    let (count, to) = match rest.split_once(':') {
        Some((count, to)) => (count, Some(engine(to)?)),
        None => (rest, None),
    };
    let count = number(count).ok_or_else(|| {
        let expected = "a number from 1, as in exits=2000 or insns=20M";
        value(OPTION, item, expected)
    })?;
    let when = match name {
        "exits" => When::Access(count),
        "insns" => When::Instructions(count),
        _ => return Err(wrong()),
    };
    Ok(SwitchAt { when, to })
}

fn engine(name: &str) -> Result<Engine, CliError> {
    let names = Engine::ALL.map(Engine::name);
    let found = Engine::ALL.into_iter().find(|engine| engine.name() == name);
    found.ok_or_else(|| one_of(OPTION, name, &names, "an engine"))
}

/// A count, with K, M or G behind it for thousands, millions and so on.
fn number(given: &str) -> Option<u64> {
    let (digits, unit) = match given.char_indices().next_back()? {
        (at, 'K' | 'k') => (&given[..at], 1_000),
        (at, 'M' | 'm') => (&given[..at], 1_000_000),
        (at, 'G' | 'g') => (&given[..at], 1_000_000_000),
        _ => (given, 1),
    };
    let count = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Switches, String> {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        Switches::parse(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_and_repetition_are_one_plan() {
        let switches = parse(&["exits=100,insns=20M:kvm", "exits=2k"]).expect("a plan");
        let expected = [
            (When::Access(100), None),
            (When::Instructions(20_000_000), Some(Engine::Kvm)),
            (When::Access(2000), None),
        ];
        let found: Vec<_> = switches.moves.iter().map(|m| (m.when, m.to)).collect();
        assert_eq!(found, expected);
        assert!(switches.are_planned() && !switches.monitor);
        assert!(parse(&["monitor"]).expect("a plan").are_planned());
        assert!(!parse(&[]).expect("none").are_planned());
    }

    #[test]
    fn kvm_counts_no_instructions() {
        let switches = parse(&["exits=1,insns=5,exits=9"]).expect("a plan");
        assert!(switches.check(Engine::Kvm).is_ok());
        let error = switches.check(Engine::Tcg).expect_err("on kvm then");
        assert!(error.to_string().contains("insns=5"), "{error}");
        let stays = parse(&["exits=1:tcg,insns=5"]).expect("a plan");
        assert!(stays.check(Engine::Tcg).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (given, part) in [
            ("exit=5", "did you mean 'exits'?"),
            ("exits", "'exits' is not exits=N"),
            ("exits=", "'exits=' is not a number from 1"),
            ("exits=0", "a number from 1"),
            ("exits=5:kmv", "did you mean 'kvm'?"),
            ("insns=99999999999G", "a number from 1"),
            ("exits=5,", "'' is not exits=N"),
        ] {
            let error = parse(&[given]).expect_err(given);
            assert!(error.starts_with(OPTION), "{error}");
            assert!(error.contains(part), "{given}: {error}");
        }
    }
}
