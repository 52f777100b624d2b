//! Where guest time comes from: the host's monotonic clock, or retired instructions (`-icount`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use accel::VirtualTime;
use devices::time::TimeSource;

/// Wall time: the host's monotonic clock since the machine was built.
#[derive(Debug)]
pub struct WallTime(Instant);

impl Default for WallTime {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl TimeSource for WallTime {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
