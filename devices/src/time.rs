//! Guest time.
//!
//! One clock in nanoseconds serves every device. Rates are exact ratios: a device keeps the tick
//! number it derives from the clock, never an accumulated rounded period.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where guest time comes from: the host's monotonic clock, retired instructions, or a test's hand.
pub trait TimeSource: Send + Sync {
    /// Nanoseconds of guest time since the machine was built.
    fn now_ns(&self) -> u64;
}

/// A handle on guest time; every clone reads the same source.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// A clock over `source`.
    pub fn new(source: Arc<dyn TimeSource>) -> Self {
        Self(source)
    }

    /// Guest time since the machine was built.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.now_ns())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug, Default)]
pub struct ManualTime(AtomicU64);

impl ManualTime {
    /// Sets guest time to `ns` nanoseconds.
    pub fn set(&self, ns: u64) {
        self.0.store(ns, Ordering::SeqCst);
    }

    /// Moves guest time on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            u64::try_from(by.as_nanos()).unwrap_or(u64::MAX),
            Ordering::SeqCst,
        );
    }
}

impl TimeSource for ManualTime {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A rate in ticks per second as an exact ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    hz: u64,
}

impl Rate {
    /// `hz` ticks a second; must not be zero.
    pub const fn hz(hz: u64) -> Self {
        assert!(hz != 0, "a rate of zero never ticks");
        Self { hz }
    }

    /// Whole ticks that have passed at guest time `now` (rounded down).
    pub fn ticks_at(self, now: Duration) -> u64 {
        let ticks = now.as_nanos() * u128::from(self.hz) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The first instant (in whole nanoseconds) at which `tick` ticks have passed: the inverse of
    /// [`Rate::ticks_at`], so `ticks_at(instant_of(t)) == t`.
    pub fn instant_of(self, tick: u64) -> Duration {
        let ns = (u128::from(tick) * 1_000_000_000).div_ceil(u128::from(self.hz));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instants_and_ticks_are_inverse(hz in 1u64..1_000_000_000, tick in 0u64..1 << 40) {
            let rate = Rate::hz(hz);
            let at = rate.instant_of(tick);
            if at < Duration::from_nanos(u64::MAX) {
                prop_assert_eq!(rate.ticks_at(at), tick);
                if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                    prop_assert!(rate.ticks_at(before) < tick || tick == 0);
                }
            }
        }
    }
}
