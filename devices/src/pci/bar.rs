//! Base address registers. PCI 2.1, 6.2.5 "Base Addresses".
//!
//! A BAR is a row of configuration space whose low bits cannot be written, which is how firmware
//! learns its size. It decodes while the command register lets its space through (an expansion ROM
//! also needs its own enable bit), unless it stands at address zero or reaches the end of its space:
//! as in QEMU that is where firmware leaves it while it asks for the size, and nothing decodes.

use crate::bus::Space;
use crate::pci::config::Command;
use crate::regmap::{Reg, RegMap};

/// BARs of a function: six, and the expansion ROM as the last.
pub const COUNT: usize = 7;
/// The expansion ROM's place among them.
pub const ROM: usize = 6;

const FIRST: u32 = 0x10;
const ROM_OFFSET: u32 = 0x30;
const IO_INDICATOR: u64 = 1 << 0;
const TYPE_64: u64 = 0b10 << 1;
const PREFETCHABLE: u64 = 1 << 3;
const ROM_ENABLE: u32 = 1 << 0;

/// What a BAR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    kind: Kind,
    size: u64,
    prefetchable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Io,
    Memory32,
    Memory64,
    Rom,
}

/// Where a BAR decodes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Ports or memory.
    pub space: Space,
    /// The first address.
    pub first: u64,
    /// The last address.
    pub last: u64,
}

impl Bar {
    /// `size` ports.
    pub const fn io(size: u64) -> Self {
        Self::new(Kind::Io, size, 4)
    }

    /// `size` bytes of memory below 4 GiB.
    pub const fn memory(size: u64) -> Self {
        Self::new(Kind::Memory32, size, 16)
    }

    /// `size` bytes of memory anywhere; takes the next BAR too.
    pub const fn memory64(size: u64) -> Self {
        Self::new(Kind::Memory64, size, 16)
    }

    /// An expansion ROM of `size` bytes.
    pub const fn rom(size: u64) -> Self {
        Self::new(Kind::Rom, size, 2048)
    }

    /// The same, without side effects of reads.
    pub const fn prefetchable(mut self) -> Self {
        self.prefetchable = true;
        self
    }

    const fn new(kind: Kind, size: u64, min: u64) -> Self {
        assert!(size.is_power_of_two() && size >= min, "a BAR's size");
        assert!(
            matches!(kind, Kind::Memory64) || size <= 1 << 31,
            "a 32-bit BAR's size"
        );
        Self {
            kind,
            size,
            prefetchable: false,
        }
    }

    /// How many ports or bytes it asks for.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it asks for ports.
    pub const fn is_io(&self) -> bool {
        matches!(self.kind, Kind::Io)
    }

    /// Whether its address has 64 bits.
    pub const fn is_64_bit(&self) -> bool {
        matches!(self.kind, Kind::Memory64)
    }

    /// Whether reads of it have no side effects.
    pub const fn is_prefetchable(&self) -> bool {
        self.prefetchable
    }

    /// The row of configuration space for this BAR as number `index`.
    ///
    /// # Panics
    /// If `index` has no place for its kind.
    pub fn row(&self, index: usize) -> Reg {
        let last = match self.kind {
            Kind::Memory64 => ROM - 2,
            Kind::Io | Kind::Memory32 => ROM - 1,
            Kind::Rom => ROM,
        };
        assert!(
            index <= last && (index == ROM) == (self.kind == Kind::Rom),
            "BAR {index} cannot be {self:?}"
        );
        let mask = !(self.size - 1);
        let prefetch = if self.prefetchable { PREFETCHABLE } else { 0 };
        let (width, fixed, writable) = match self.kind {
            Kind::Io => (4, IO_INDICATOR, mask),
            Kind::Memory32 => (4, prefetch, mask),
            Kind::Memory64 => (8, TYPE_64 | prefetch, mask),
            Kind::Rom => (4, 0, mask | u64::from(ROM_ENABLE)),
        };
        Reg::rw("BAR", offset(index), width, fixed, writable)
    }

    /// Where number `index` decodes with these registers and this command.
    pub fn mapping(&self, index: usize, regs: &RegMap, command: Command) -> Option<Mapping> {
        let at = offset(index) as usize;
        let low = regs.u32(at);
        let address = match self.kind {
            Kind::Memory64 => u64::from_le_bytes(regs.bytes(at)),
            Kind::Io | Kind::Memory32 | Kind::Rom => low.into(),
        };
        let (space, needs, end) = match self.kind {
            Kind::Io => (Space::Port, Command::IO, 0xFFFF),
            Kind::Memory32 | Kind::Rom => (Space::Memory, Command::MEMORY, u32::MAX.into()),
            Kind::Memory64 => (Space::Memory, Command::MEMORY, u64::MAX),
        };
        let first = address & !(self.size - 1);
        let last = first + (self.size - 1);
        let enabled = command.contains(needs) && (self.kind != Kind::Rom || low & ROM_ENABLE != 0);
        // The last port is as good as any; memory's last byte shows an all-ones sizing write.
        let inside = last < end || (last == end && space == Space::Port);
        (enabled && first != 0 && inside).then_some(Mapping { space, first, last })
    }
}

fn offset(index: usize) -> u32 {
    if index == ROM {
        ROM_OFFSET
    } else {
        FIRST + 4 * u32::try_from(index).unwrap_or(u32::MAX / 8)
    }
}
