//! Differences that stay: what the reference does, and the document that makes ours right.
//!
//! A mask sees every step of a script, may keep what it needs to know of the device's state, and makes the
//! two outcomes equal where, and only where, its difference can be seen.

use super::op::{Op, Outcome};

/// A difference.
pub struct Listed {
    /// The device.
    pub device: &'static str,
    /// The name it is counted under.
    pub name: &'static str,
    /// The document, with its section.
    pub document: &'static str,
    /// What the document says, and what the reference does.
    pub about: &'static str,
    /// Makes both equal; true if it did.
    mask: fn(&mut Memory, &Op, &mut Outcome, &mut Outcome) -> bool,
}

/// What a mask remembers of a script.
#[derive(Default)]
struct Memory(u64);

/// The table.
pub const LISTED: &[Listed] = &[];

/// The masks of a device in one script.
pub(super) struct Masks(Vec<(&'static Listed, Memory)>);

impl Masks {
    pub(super) fn new(device: &str) -> Self {
        let own = LISTED.iter().filter(|listed| listed.device == device);
        Self(own.map(|listed| (listed, Memory::default())).collect())
    }

    /// The name of the difference that was masked, if one was.
    pub(super) fn apply(
        &mut self,
        op: &Op,
        ours: &mut Outcome,
        theirs: &mut Outcome,
    ) -> Option<&'static str> {
        let mut masked = None;
        for (listed, memory) in &mut self.0 {
            if (listed.mask)(memory, op, ours, theirs) {
                masked = Some(listed.name);
            }
        }
        masked
    }
}
