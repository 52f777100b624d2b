//! What a lockstep run counts.

use std::collections::BTreeMap;

/// Counts of one processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Points at which state and memory were equal.
    pub(super) agreed: u64,
    /// Instructions up to those points.
    pub(super) checked: u64,
    /// Points at which flags that an instruction left undefined were not.
    pub(super) masked: u64,
    /// Results of the leader's that the follower was given.
    pub(super) copied: u64,
    /// Mismatches that did not come again when stepped.
    pub(super) timing: u64,
    /// Instructions that the leader is known to run wrongly.
    pub(super) known: BTreeMap<String, u64>,
    /// Instructions that the follower ran alone.
    pub(super) unchecked: BTreeMap<String, u64>,
}

impl Tally {
    /// The same by name.
    pub(super) fn named(&self) -> BTreeMap<String, u64> {
        let counts = [
            ("agreed points", self.agreed),
            ("checked instructions", self.checked),
            ("masked", self.masked),
            ("copied", self.copied),
            ("timing/TLB", self.timing),
        ];
        let counts = counts.map(|(name, n)| (name.to_owned(), n));
        let known = self
            .known
            .iter()
            .map(|(what, n)| (format!("known wrong: {what}"), *n));
        let alone = self.unchecked.iter();
        let alone = alone.map(|(what, n)| (format!("unchecked: {what}"), *n));
        counts.into_iter().chain(known).chain(alone).collect()
    }
}
