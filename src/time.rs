//! Where guest time comes from: the host's monotonic clock, or retired instructions (`-icount`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use accel::VirtualTime;
use devices::time::TimeSource;

/// Wall time: the host's monotonic clock since the machine was built, without the time it was paused.
#[derive(Debug)]
pub struct WallTime {
    start: Instant,
    /// Nanoseconds paused so far.
    lost: AtomicU64,
    /// The time it stands at, in nanoseconds; [`NEVER`] if it runs.
    stands_at: AtomicU64,
}

impl Default for WallTime {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            lost: AtomicU64::new(0),
            stands_at: AtomicU64::new(NEVER),
        }
    }
}

impl WallTime {
    fn running_ns(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        passed.saturating_sub(self.lost.load(Ordering::Acquire))
    }

    /// Stands still from now on.
    pub fn pause(&self) {
        self.stands_at.store(self.running_ns(), Ordering::Release);
    }

    /// Goes on from where it stands.
    pub fn resume(&self) {
        let stood_at = self.stands_at.load(Ordering::Acquire);
        if stood_at != NEVER {
            let lost = self.running_ns().saturating_sub(stood_at);
            self.lost.fetch_add(lost, Ordering::AcqRel);
            self.stands_at.store(NEVER, Ordering::Release);
        }
    }
}

impl TimeSource for WallTime {
    fn now_ns(&self) -> u64 {
        match self.stands_at.load(Ordering::Acquire) {
            NEVER => self.running_ns(),
            stands_at => stands_at,
        }
    }
}

/// Virtual time: each retired instruction takes `2^shift` nanoseconds; a halted processor skips to
/// its next deadline.
#[derive(Debug)]
pub struct InstructionTime {
    /// The count the processor publishes, and where it must stop.
    pub instructions: Arc<VirtualTime>,
    shift: u32,
    /// Nanoseconds skipped while halted.
    skipped: AtomicU64,
}

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

impl InstructionTime {
    /// Time at `2^shift` nanoseconds an instruction.
    pub fn new(shift: u32) -> Self {
        let instructions = Arc::new(VirtualTime::default());
        instructions.deadline.store(NEVER, Ordering::Release);
        Self {
            instructions,
            shift,
            skipped: AtomicU64::new(0),
        }
    }

    /// Makes the processor stop at the first instruction boundary at or after `deadline`.
    pub fn stop_at(&self, deadline: Option<Duration>) {
        let count = deadline.map_or(NEVER, |deadline| {
            let ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
            let run = ns.saturating_sub(self.skipped.load(Ordering::Acquire));
            run.div_ceil(1 << self.shift)
        });
        self.instructions.deadline.store(count, Ordering::Release);
    }

    /// The processor is halted: time goes on to `deadline` at once.
    pub fn skip_to(&self, deadline: Duration) {
        let ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.skipped
            .fetch_add(ns.saturating_sub(self.now_ns()), Ordering::AcqRel);
    }
}

impl TimeSource for InstructionTime {
    fn now_ns(&self) -> u64 {
        let run = self.instructions.retired.load(Ordering::Acquire) << self.shift;
        run.saturating_add(self.skipped.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn wall_time_stands_still_while_paused() {
        let time = WallTime::default();
        time.pause();
        let stood = time.now_ns();
        sleep(Duration::from_millis(20));
        assert_eq!(time.now_ns(), stood);
        time.resume();
        let after = time.now_ns();
        assert!(
            after >= stood && after - stood < 15_000_000,
            "{stood} {after}"
        );
        sleep(Duration::from_millis(2));
        assert!(time.now_ns() >= after + 2_000_000);
    }
}
