//! The first instruction at which two engines part, as a report and as a case to be run again.

use std::fmt;

use emu::CpuState;

use super::compare::differences;
use super::memory::Word;
use crate::error::{Bytes, Place};

/// Words of memory that a report shows at most.
const MOST_WORDS: usize = 32;

/// Where two engines part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The instruction.
    pub bytes: Bytes,
    /// The last state both agreed on: the instruction is the next, if it is `located`.
    pub before: CpuState,
    /// The leader's state behind it.
    pub leader: CpuState,
    /// The follower's.
    pub follower: CpuState,
    /// What the follower did to the board that the leader did not.
    pub access: Option<String>,
    /// Memory that is not the same.
    pub memory: Vec<Word>,
    /// Memory that either wrote.
    pub written: Vec<Word>,
    /// The instructions before it, last at the end.
    pub history: Vec<String>,
    /// The engines agreed before this instruction and not behind it; else it is one of the slice that
    /// begins here.
    pub located: bool,
}

impl Divergence {
    /// The linear address of the instruction.
    pub fn address(&self) -> u64 {
        self.before.linear_rip()
    }

    /// The instruction as text.
    pub fn text(&self) -> String {
        let bits = Place(self.before.clone()).bits();
        emu::disassemble(self.bytes.as_slice(), bits, self.before.rip)
    }

    /// The fields in which the states differ, the leader's value first.
    pub fn differences(&self) -> Vec<String> {
        differences(&self.leader, &self.follower)
    }

    /// The case in a plain form: one `name value` a line.
    pub fn reproducer(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("twin86 case 1\n");
        let _ = writeln!(text, "instruction {} ; {}", self.bytes, self.text());
        for (what, state) in [
            ("before", &self.before),
            ("leader", &self.leader),
            ("follower", &self.follower),
        ] {
            let _ = writeln!(text, "{what} {state:x?}");
        }
        for word in &self.written {
            let _ = writeln!(
                text,
                "memory {:x} before {:x} leader {:x} follower {:x}",
                word.address, word.before, word.leader, word.follower
            );
        }
        text
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.located {
            true => "lockstep: the engines part at",
            false => "lockstep: the engines part in the slice that begins with",
        };
        let (address, bytes, text) = (self.address(), self.bytes, self.text());
        writeln!(f, "{what} {address:#x}: {bytes} ({text})")?;
        writeln!(f, "  before: {}", Place(self.before.clone()))?;
        writeln!(f, "  leader: {}", Place(self.leader.clone()))?;
        writeln!(f, "  follower: {}", Place(self.follower.clone()))?;
        if let Some(access) = &self.access {
            writeln!(f, "  follower: {access}")?;
        }
        writeln!(f, "  differing, leader / follower:")?;
        for line in self.differences() {
            writeln!(f, "    {line}")?;
        }
        for word in self.memory.iter().take(MOST_WORDS) {
            writeln!(
                f,
                "    memory {:#x}: {:016x} / {:016x}, was {:016x}",
                word.address, word.leader, word.follower, word.before
            )?;
        }
        for word in self.written.iter().take(MOST_WORDS) {
            writeln!(
                f,
                "  written {:#x}: {:016x}, was {:016x}",
                word.address, word.leader, word.before
            )?;
        }
        write!(f, "  the instructions before it:")?;
        for line in &self.history {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
