//! What the rows of a board are made of, and what a device is given when it is built.

pub mod build;
pub mod pc;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::chardev::Chardev;
use crate::backend::input::Input;
use crate::i8237::Dma;
use crate::memory_map::BusMaster;
use crate::{Clock, IrqLine, Requests};

/// What a device is wired to when the board builds it.
pub struct Wiring {
    /// Guest time.
    pub clock: Clock,
    /// Where the device leaves what it wants of the machine.
    pub requests: Requests,
    /// Lines to the ISA interrupts its row names, in that order; see [`Wiring::irq`].
    pub irqs: Vec<IrqLine>,
    /// Guest memory, as a bus master reaches it.
    pub memory: BusMaster,
    /// The DMA controllers, for devices of the ISA bus.
    pub dma: Dma,
    /// What the user chose of the machine.
    pub options: Arc<BoardOptions>,
    /// What the user plugged in.
    pub parts: Arc<Parts>,
    /// The character backend this device's row is given (a null one when the user named none).
    pub chardev: Chardev,
}

impl Wiring {
    /// A driver of interrupt output `index` of the device's row; unconnected if it names fewer.
    pub fn irq(&self, index: usize) -> IrqLine {
        let line = self.irqs.get(index);
        line.map_or_else(IrqLine::unconnected, IrqLine::or_with)
    }
}

/// What the user plugs into a board.
#[derive(Debug, Default)]
pub struct Parts {
    /// The BIOS image.
    pub bios: Vec<u8>,
    /// Character backends by the name of the row they belong to.
    pub chardevs: BTreeMap<&'static str, Chardev>,
    /// The user's hands: keyboard, mouse, power button.
    pub input: Input,
}

/// What a user can choose of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardOptions {
    /// Guest RAM in bytes.
    pub ram: u64,
    /// Number of processors.
    pub cpus: u32,
    /// The RTC's time of day at guest time zero, in seconds since 1970-01-01 00:00 as the guest
    /// shall see them.
    pub rtc_base: i64,
    /// First port of the isa-debug-exit device, if there is one, and how many ports it has.
    pub debug_exit: Option<(u16, u16)>,
    /// First port of the debug console, if there is one.
    pub debugcon: Option<u16>,
    /// Whether there is an HPET.
    pub hpet: bool,
    /// Whether the processors have system management mode: only then do SMIs come.
    pub smm: bool,
}
