//! The local APIC's timer. SDM Vol. 3A, "APIC Timer".
//!
//! The count is never stored: it follows from the instant at which it reaches zero, in ticks of
//! the bus clock. Not modelled: TSC-deadline mode (its LVT bit reads as zero; CPUID must not offer it).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Rate;

/// The bus clock that the divider divides: 1 GHz as in QEMU and KVM.
pub const BUS_CLOCK: Rate = Rate::hz(1_000_000_000);

/// Periods shorter than this many bus ticks (10 us) are delivered no more often than this: the
/// count stays exact, the expirations in between coalesce as they would in the IRR.
const SHORTEST_PERIOD: u64 = 10_000;

/// Divide configuration, initial count, and when the count reaches zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    divide: u32,
    initial: u32,
    /// The bus tick at which the count reaches zero; none while stopped.
    expiry: Option<u64>,
}

impl Timer {
    pub fn divide(&self) -> u32 {
        self.divide
    }

    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// Bus ticks a count: bits 3, 1, 0 select 2, 4, ... 128, and 1 for all ones.
    fn divisor(&self) -> u64 {
        let code = self.divide >> 1 & 4 | self.divide & 3;
        1 << ((code + 1) & 7)
    }

    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// The current count.
    pub fn count(&self, now: Duration) -> u32 {
        let left = self.expiry.map_or(0, |expiry| {
            expiry
                .saturating_sub(BUS_CLOCK.ticks_at(now))
                .div_ceil(self.divisor())
        });
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Writes the initial count: the count starts from it, or stops if it is zero.
    pub fn start(&mut self, now: Duration, initial: u32) {
        self.initial = initial;
        self.run_from(now, initial);
    }

    /// Writes the divide configuration; the current count goes on at the new rate.
    pub fn set_divide(&mut self, now: Duration, value: u32) {
        let count = self.count(now);
        self.divide = value & 0xb;
        self.run_from(now, count);
    }

    fn run_from(&mut self, now: Duration, count: u32) {
        let left = u64::from(count) * self.divisor();
        self.expiry = (count != 0).then(|| BUS_CLOCK.ticks_at(now).saturating_add(left));
    }

    /// Catches up with `now`; whether the count has reached zero since the last time.
    pub fn expire(&mut self, now: Duration, periodic: bool) -> bool {
        let now = BUS_CLOCK.ticks_at(now);
        let Some(expiry) = self.expiry.filter(|&e| e <= now) else {
            return false;
        };
        let period = self.period();
        self.expiry =
            (periodic && period != 0).then(|| now.saturating_add(period - (now - expiry) % period));
        true
    }

    /// When the timer next needs to be looked at.
    pub fn deadline(&self, periodic: bool) -> Option<Duration> {
        let expiry = self.expiry?;
        let due = if periodic && self.period() < SHORTEST_PERIOD {
            expiry.checked_next_multiple_of(SHORTEST_PERIOD)?
        } else {
            expiry
        };
        Some(BUS_CLOCK.instant_of(due))
    }
}
