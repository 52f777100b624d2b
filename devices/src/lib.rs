//! The devices of the i440FX/PIIX3 PC and the buses that join them.
//!
//! Everything here is engine-neutral: no device knows whether KVM or the software CPU runs the
//! guest. A device is one file named after its chip; it implements [`Device`] and stands in one
//! row of [`board::pc`]. What it may touch while it is locked: its [`IrqLine`]s, guest memory and
//! the [`Clock`]. What it wants of the machine it leaves as a [`Request`].
//!
//! - [`bus`]: port and memory space, the only place that splits accesses
//! - [`memory`], [`memory_map`]: blocks of guest memory, and the flat map in its three views
//! - [`irq`]: interrupt lines, and the gate before the chips; [`chips`]: the interrupt chips behind one lock
//! - [`pci`]: configuration mechanism #1, functions and BARs, INTx routing; [`i440fx`], [`piix3`],
//!   [`piix4_pm`]: the chipset
//! - [`fw_cfg`]: what firmware and guest are told of the machine; [`acpi`], [`smbios`]: the tables among it
//! - [`ide`]: disks and CD-ROM drives; [`vga`]: the standard VGA; [`backend`]: what stands behind a device on the host side
//! - [`time`]: guest time; [`state`]: saved state; [`regmap`]: register spaces as rows
//! - [`board`]: the machine's rows, and how they are wired
#![forbid(unsafe_code)]

pub mod acpi;
pub mod backend;
pub mod board;
pub mod bus;
pub mod chips;
pub mod debugcon;
pub mod fw_cfg;
pub mod hpet;
pub mod i440fx;
pub mod i8042;
pub mod i8237;
pub mod i8254;
pub mod i8259;
pub mod ide;
pub mod ioapic;
pub mod irq;
pub mod isa_debug_exit;
pub mod lapic;
pub mod mc146818;
pub mod memory;
pub mod memory_map;
pub mod pci;
pub mod piix3;
pub mod piix4_pm;
pub mod port92;
pub mod portf0;
pub mod regmap;
pub mod request;
pub mod smbios;
pub mod state;
#[cfg(test)]
mod testbench;
pub mod time;
pub mod uart16550;
pub mod vga;

pub use irq::IrqLine;
pub use request::{Request, Requests};
pub use state::{RestoreError, State};
pub use time::Clock;

use std::time::Duration;

/// Where in a device an access lands: which of its regions, and the byte offset in that region.
///
/// A device knows its registers, never its address on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Index of the region in the order the device's row declares its regions.
    pub region: u8,
    /// Byte offset from the region's start.
    pub offset: u64,
}

/// A chip on the port or memory bus.
///
/// The bus calls it under the device's own lock, with accesses no wider than the region allows
/// and never crossing the region's end.
pub trait Device: Send {
    /// Reads 1, 2, 4 or 8 bytes. `data` comes in as the bus floats (all ones).
    fn read(&mut self, at: At, data: &mut [u8]);
    /// Writes 1, 2, 4 or 8 bytes.
    fn write(&mut self, at: At, data: &[u8]);
    /// Hardware reset: afterwards the device equals a new one (but for its backend).
    fn reset(&mut self);
    /// Whether [`Device::poll`] may have something to do now: it is called after each access then,
    /// and after the access that left a deadline behind.
    fn keeps_time(&self) -> bool {
        true
    }
    /// Catches up with guest time and says when the device next has something to do.
    fn poll(&mut self, _now: Duration) -> Option<Duration> {
        None
    }
    /// The device's whole state, versioned.
    fn save(&self) -> State;
    /// Takes over a saved state.
    ///
    /// # Errors
    /// If the state is of a version this build cannot read, or damaged. The device is unchanged then.
    fn restore(&mut self, from: &State) -> Result<(), RestoreError>;
}
