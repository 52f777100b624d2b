//! `--accel-switch-at`: where the machine moves to another engine.
//!
//! A list, one move after the other: `exits=N` at the N-th access to the board since the start (counted
//! alike on both engines; items of a string that come at once are not parted), `insns=N` after N
//! instructions on tcg or lockstep, `rip=ADDRESS` before the instruction at that linear address; `:tcg`, `:kvm` or
//! `:lockstep` behind it says where to, else it is the other engine. `monitor` names no place: the machine
//! is made so that `accel_set` can move it.

use crate::accel_option::Engine;
use crate::cli::{CliError, one_of, value};
use crate::properties::nearest;

const OPTION: &str = "--accel-switch-at";
/// The forms of an item.
const FORMS: [&str; 4] = ["exits", "insns", "rip", "monitor"];

/// When the machine moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this access of the processor to the board, counted from 1.
    Access(u64),
    /// When so many instructions have run on tcg, or been checked by lockstep, since the move before.
    Instructions(u64),
    /// Before the instruction at this linear address.
    Rip(u64),
}

/// A move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchAt {
    /// When.
    pub when: When,
    /// Where to; the other engine if nothing is said.
    pub to: Option<Engine>,
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

    /// Checks that the moves make sense for a machine that begins on the first of two engines.
    ///
    /// # Errors
    /// If an engine should count instructions or stop at an address that cannot, or is not there.
    pub fn check(&self, first: Engine, other: Engine) -> Result<(), CliError> {
        let usage = |text| Err(CliError::Usage(text));
        let mut engine = first;
        for step in &self.moves {
            let on = engine.name();
            match (step.when, engine) {
                (When::Instructions(count), Engine::Kvm) => {
                    return usage(format!(
                        "{OPTION} insns={count}: the machine is on {on} then, which cannot count instructions"
                    ));
                }
                (When::Rip(at), Engine::Lockstep) => {
                    return usage(format!(
                        "{OPTION} rip={at:#x}: the machine is on {on} then, which has no breakpoints"
                    ));
                }
                _ => {}
            }
            let another = if engine == first { other } else { first };
            engine = step.to.unwrap_or(another);
            if engine != first && engine != other {
                return usage(format!(
                    "{OPTION}: the machine has {} and {}, not {} (-accel once more names another)",
                    first.name(),
                    other.name(),
                    engine.name()
                ));
            }
        }
        Ok(())
    }
}

fn parse_one(item: &str) -> Result<SwitchAt, CliError> {
    let wrong = || {
        let expected = "exits=N, insns=N, rip=ADDRESS (each with :tcg, :kvm or :lockstep behind it) or monitor";
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
    let counted = || {
        let expected = "a number from 1, as in exits=2000 or insns=20M";
        number(count).ok_or_else(|| value(OPTION, item, expected))
    };
    let when = match name {
        "exits" => When::Access(counted()?),
        "insns" => When::Instructions(counted()?),
        "rip" => When::Rip(address(count).ok_or_else(|| {
            let expected = "an address, as in rip=0x7c00";
            value(OPTION, item, expected)
        })?),
        _ => return Err(wrong()),
    };
    Ok(SwitchAt { when, to })
}

fn engine(name: &str) -> Result<Engine, CliError> {
    const ENGINES: [Engine; 3] = [Engine::Tcg, Engine::Kvm, Engine::Lockstep];
    let names = ENGINES.map(Engine::name);
    let found = ENGINES.into_iter().find(|engine| engine.name() == name);
    found.ok_or_else(|| one_of(OPTION, name, &names, "an engine"))
}

/// A linear address: hexadecimal behind 0x, else decimal.
fn address(given: &str) -> Option<u64> {
    match given.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => given.parse().ok(),
    }
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
        assert!(switches.check(Engine::Kvm, Engine::Tcg).is_ok());
        let error = switches.check(Engine::Tcg, Engine::Kvm);
        let error = error.expect_err("on kvm then").to_string();
        assert!(error.contains("insns=5"), "{error}");
        let stays = parse(&["exits=1:tcg,insns=5"]).expect("a plan");
        assert!(stays.check(Engine::Tcg, Engine::Kvm).is_ok());
    }

    #[test]
    fn moves_lead_to_the_two_engines() {
        let plan = parse(&["rip=0xffffffff81000000:lockstep,exits=9"]).expect("a plan");
        assert_eq!(plan.moves[0].when, When::Rip(0xFFFF_FFFF_8100_0000));
        assert!(plan.check(Engine::Tcg, Engine::Lockstep).is_ok());
        let error = plan.check(Engine::Tcg, Engine::Kvm);
        let error = error.expect_err("no such engine").to_string();
        assert!(error.contains("tcg and kvm, not lockstep"), "{error}");
        let back = parse(&["exits=1,rip=5"]).expect("a plan");
        let error = back.check(Engine::Tcg, Engine::Lockstep);
        let error = error.expect_err("lockstep has none").to_string();
        assert!(error.contains("no breakpoints"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (given, part) in [
            ("exit=5", "did you mean 'exits'?"),
            ("exits", "'exits' is not exits=N"),
            ("exits=", "'exits=' is not a number from 1"),
            ("exits=0", "a number from 1"),
            ("rip=main", "an address, as in rip=0x7c00"),
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
