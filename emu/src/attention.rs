//! What makes a running processor look up, from its own thread or another.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bitflags::bitflags;

use crate::memory::MemoryMap;

bitflags! {
    /// Reasons to look up.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Signals: u32 {
        /// [`crate::io::CpuIo::pending`] may have changed.
        const EVENT = 1 << 0;
        /// Somebody wants `run` to return.
        const KICK = 1 << 1;
        /// The memory map was replaced.
        const MAP = 1 << 2;
        /// A device wrote to a page that holds code.
        const CODE = 1 << 3;
        /// The dirty log was cleared: writable translations must be made again.
        const DIRTY = 1 << 4;
        /// Each instruction is to be looked at (single-step, shadow, breakpoints, tracing).
        const STEP = 1 << 5;
        /// The instruction deadline of virtual time moved.
        const DEADLINE = 1 << 6;
        /// The processor's own state changed in a way the loop must look at.
        const CHECK = 1 << 7;
    }
}

/// The word a running block loop reads once a block, and what its bits point at.
pub struct Attention {
    signals: AtomicU32,
    map: Mutex<Arc<MemoryMap>>,
    time: Option<Arc<VirtualTime>>,
}

/// Virtual time in instructions (`-icount`): the processor publishes how many it has retired
/// before it calls out, and stops exactly at the deadline.
#[derive(Debug, Default)]
pub struct VirtualTime {
    /// Instructions retired.
    pub retired: AtomicU64,
    /// The instruction count at which `run` returns.
    pub deadline: AtomicU64,
}

impl Attention {
    /// Nothing to attend to, and an empty memory map.
    pub fn new(time: Option<Arc<VirtualTime>>) -> Self {
        Self {
            signals: AtomicU32::new(0),
            map: Mutex::default(),
            time,
        }
    }

    /// Virtual time, if the machine runs in it.
    pub fn virtual_time(&self) -> Option<&Arc<VirtualTime>> {
        self.time.as_ref()
    }

    /// Sets signals, from any thread.
    pub fn set(&self, signals: Signals) {
        self.signals.fetch_or(signals.bits(), Ordering::Release);
    }

    /// Sets signals from the processor's own thread.
    pub(crate) fn set_own(&self, signals: Signals) {
        self.signals.fetch_or(signals.bits(), Ordering::Relaxed);
    }

    /// Whether anything waits.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    /// Takes all signals.
    pub(crate) fn take(&self) -> Signals {
        Signals::from_bits_retain(self.signals.swap(0, Ordering::Acquire))
    }

    /// Replaces the memory map; the processor sees it before its next instruction.
    pub fn set_memory_map(&self, map: Arc<MemoryMap>) {
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = map;
        self.set(Signals::MAP);
    }

    pub(crate) fn memory_map(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
