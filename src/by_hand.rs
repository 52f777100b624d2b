//! A machine whose time is moved by hand and whose processor never runs (`-qtest`).

use std::sync::Arc;
use std::time::Duration;

use devices::time::TimeSource;
use emu::io::CpuIo;

use crate::machine::Machine;

/// How many deadlines a step of time by hand stops at: guests can make them a few nanoseconds apart.
const MOST_DEADLINES: u32 = 1 << 20;

impl Machine {
    /// Moves time on to `to` nanoseconds, where it is moved by hand; devices see each of their deadlines on
    /// the way. Returns the time, and calls `seen` after each deadline.
    ///
    /// After a million of them the rest is one leap.
    pub fn step_time_to(&self, to: u64, mut seen: impl FnMut()) -> u64 {
        let shared = &self.shared;
        let Some(time) = &shared.hand_time else {
            return self.now_ns();
        };
        let ns = |deadline: Duration| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        let mut at = time.now_ns();
        for _ in 0..MOST_DEADLINES {
            let next = shared.board.next_deadline().map_or(u64::MAX, ns);
            if next >= to || at >= to {
                break;
            }
            // One that has passed already must not hold it.
            at = next.max(at + 1);
            time.set(at);
            shared.board.poll();
            seen();
        }
        if at < to {
            at = to;
            time.set(at);
            shared.board.poll();
            seen();
        }
        at
    }

    /// Guest time in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.shared.clock.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The board as a processor reaches it.
    pub fn access(&self) -> Arc<dyn CpuIo> {
        self.shared.access()
    }
}
