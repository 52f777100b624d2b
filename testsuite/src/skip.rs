//! Skips by name, and counted: nothing is green because it did not run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};

/// The variable that turns skips into failures: a comma-separated list of names, or `all`.
pub const REQUIRE: &str = "TESTSUITE_REQUIRE";

/// Reports that `what` (`host`, `kvm`) is absent and its test does nothing.
///
/// # Panics
/// If `TESTSUITE_REQUIRE` names it.
pub fn skip(what: &str, reason: &dyn fmt::Display) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    let named = required.split(',').any(|r| r == what || r == "all");
    assert!(!named, "{REQUIRE} wants {what}, which is absent: {reason}");
    report(&format!("skipped: {what}: {reason}"));
}

/// Past the capture of libtest, which would keep it from whoever sees a green test.
fn report(line: &str) {
    // With nobody to tell, nothing is lost.
    let _ = writeln!(io::stderr(), "{line}");
}

/// How often each reason kept something from being run.
#[derive(Clone, Debug, Default)]
pub struct Skips(BTreeMap<&'static str, u64>);

impl Skips {
    /// Counts one.
    pub fn count(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }
}

impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(reason, count)| writeln!(f, "skipped {count:>8}  {reason}"))
    }
}
