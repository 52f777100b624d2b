//! Interrupt lines, as a tester asked to hear of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::chips::INTR;
use devices::irq::IrqSink;

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The inputs of the IOAPIC, before input 0 becomes pin 2.
    IoApic,
    /// The inputs of the 8259 pair.
    Pic,
    /// The output of the 8259 pair.
    Intr,
}

impl Watched {
    /// The number of the wire that the chips call `input`, if it is one of these.
    fn wire(self, input: u32) -> Option<u32> {
        match (self, input) {
            (Self::Intr, INTR) => Some(0),
            (Self::IoApic, 0..24) | (Self::Pic, 0..16) => Some(input),
            _ => None,
        }
    }
}

/// Hears of interrupt lines.
#[derive(Default)]
pub(super) struct Watch(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    watched: Option<Watched>,
    /// A bit a wire.
    levels: u32,
    news: Vec<(u32, bool)>,
}

impl Watch {
    /// Shared with the chips.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins; false if something else is watched already.
    pub(super) fn begin(&self, watched: Watched) -> bool {
        let mut heard = self.lock();
        *heard.watched.get_or_insert(watched) == watched
    }

    /// A tester has driven an input itself.
    pub(super) fn driven(&self, device: Watched, input: u32, level: bool) {
        if self.lock().watched == Some(device) {
            self.set_level(input, level);
        }
    }

    /// What changed since the last call, in order.
    pub(super) fn take(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.lock().news)
    }
}

impl IrqSink for Watch {
    fn set_level(&self, input: u32, level: bool) {
        let mut heard = self.lock();
        let Some(wire) = heard.watched.and_then(|watched| watched.wire(input)) else {
            return;
        };
        if (heard.levels >> wire & 1 != 0) != level {
            heard.levels ^= 1 << wire;
            heard.news.push((wire, level));
        }
    }

    fn restore_level(&self, input: u32, level: bool) {
        self.set_level(input, level);
    }
}
