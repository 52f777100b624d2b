//! The flat memory map of the 440FX: what answers at each physical address.
//!
//! Document: Intel 82441FX (PMC) datasheet, 290549-001, "System Address Map", "PAM" and "SMRAM"
//! registers. The map is made anew from the blocks and the host bridge's registers whenever one of
//! them changes; it is a few dozen ranges. Three views come of one source:
//!
//! - a processor's, and a processor's in system management mode;
//! - a bus master's, which never sees SMRAM and for which FEE00000h is the MSI window.
//!
//! Addresses in no range are I/O: the bus answers there. All bounds are multiples of the page size.
//!
//! Where the chip and this map differ:
//! - A PAM segment with writes enabled and reads disabled reads from ROM and writes to the RAM
//!   behind it, which is what BIOSes that copy themselves in place need, and no range can say. Such a
//!   segment is ROM in the views, and [`MemoryMap::shadow_writes`] takes the writes that ROM drops.
//!   Bus masters' writes to it are dropped.
//! - PAM's cache-enable bits have no effect, and D_CLS has none: in SMM both code and data come
//!   from SMRAM while it is enabled.
//! - A shut A20 gate aliases the second megabyte alone ([`View::without_a20`]), for engines that
//!   cannot mask addresses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::bus::FLOAT;
use crate::memory::{Block, MemoryError, PAGE_SIZE};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// RAM below this size lies below 4 GiB in one piece.
const LOW_RAM_LIMIT: u64 = 3 * GIB + GIB / 2;
/// Where larger RAM is split: the rest continues at [`HIGH_RAM`].
const LOW_RAM_SPLIT: u64 = 3 * GIB;
pub(crate) const HIGH_RAM: u64 = 4 * GIB;
/// The HyperTransport hole, which RAM must not reach.
pub(crate) const HT_HOLE: u64 = 0xFD_0000_0000;
const MAX_RAM: u64 = HT_HOLE - (HIGH_RAM - LOW_RAM_SPLIT);

const VGA_HOLE: (u64, u64) = (0xA_0000, 0xB_FFFF);
const OPTION_ROMS: (u64, u64) = (0xC_0000, 0xD_FFFF);
const BIOS_AREA: (u64, u64) = (0xE_0000, 0xF_FFFF);
/// Bus-master writes here are message-signalled interrupts.
const MSI_WINDOW: (u64, u64) = (0xFEE0_0000, 0xFEEF_FFFF);

/// BIOS images are multiples of this, ...
const BIOS_UNIT: u64 = 64 * KIB;
/// ... at most this large: they end at 4 GiB and must stay clear of the interrupt chips' windows.
const MAX_BIOS: u64 = 8 * MIB;
/// How much of the BIOS's end also appears below 1 MiB.
const ISA_BIOS: u64 = 128 * KIB;

/// PAM: reads go to RAM.
const PAM_READ: u8 = 1 << 0;
/// PAM: writes go to RAM.
const PAM_WRITE: u8 = 1 << 1;

/// SMRAM: the compatible SMRAM space is enabled.
const G_SMRAME: u8 = 1 << 3;
/// SMRAM: D_OPEN is locked shut.
const D_LCK: u8 = 1 << 4;
/// SMRAM: visible outside system management mode too.
const D_OPEN: u8 = 1 << 6;

/// One stretch of memory with attributes of its own, and the nibble that holds them.
struct Segment {
    first: u64,
    last: u64,
    register: usize,
    shift: u32,
}

#[rustfmt::skip]
const SEGMENTS: [Segment; 13] = [
    Segment { first: 0xC_0000, last: 0xC_3FFF, register: 1, shift: 0 },
    Segment { first: 0xC_4000, last: 0xC_7FFF, register: 1, shift: 4 },
    Segment { first: 0xC_8000, last: 0xC_BFFF, register: 2, shift: 0 },
    Segment { first: 0xC_C000, last: 0xC_FFFF, register: 2, shift: 4 },
    Segment { first: 0xD_0000, last: 0xD_3FFF, register: 3, shift: 0 },
    Segment { first: 0xD_4000, last: 0xD_7FFF, register: 3, shift: 4 },
    Segment { first: 0xD_8000, last: 0xD_BFFF, register: 4, shift: 0 },
    Segment { first: 0xD_C000, last: 0xD_FFFF, register: 4, shift: 4 },
    Segment { first: 0xE_0000, last: 0xE_3FFF, register: 5, shift: 0 },
    Segment { first: 0xE_4000, last: 0xE_7FFF, register: 5, shift: 4 },
    Segment { first: 0xE_8000, last: 0xE_BFFF, register: 6, shift: 0 },
    Segment { first: 0xE_C000, last: 0xE_FFFF, register: 6, shift: 4 },
    Segment { first: 0xF_0000, last: 0xF_FFFF, register: 0, shift: 4 },
];

/// Why the board's memory could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// RAM of this size has no place in the map.
    #[error("RAM of {size:#x} bytes: want whole pages, at least 1 MiB, at most {MAX_RAM:#x}")]
    Ram {
        /// The size asked for.
        size: u64,
    },
    /// A BIOS image of this size has no place in the map.
    #[error("a BIOS image of {size:#x} bytes: want a multiple of 64 KiB, at most 8 MiB")]
    Bios {
        /// The image's size.
        size: usize,
    },
    /// A block could not be made.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The blocks of memory the board's map is made of.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Guest RAM, the parts below and above 4 GiB in one block.
    pub ram: Arc<Block>,
    /// The BIOS image.
    pub bios: Arc<Block>,
    /// What is read at C0000h-DFFFFh while no RAM is switched in.
    pub option_roms: Arc<Block>,
}

impl Blocks {
    /// Blocks for `ram` bytes of RAM and a BIOS image.
    ///
    /// # Errors
    /// If a size has no place in the map, or the host refuses the memory.
    pub fn new(ram: u64, bios: &[u8]) -> Result<Self, MapError> {
        if !(MIB..=MAX_RAM).contains(&ram) || !ram.is_multiple_of(PAGE_SIZE) {
            return Err(MapError::Ram { size: ram });
        }
        let size = bios.len() as u64;
        if !(BIOS_UNIT..=MAX_BIOS).contains(&size) || !size.is_multiple_of(BIOS_UNIT) {
            return Err(MapError::Bios { size: bios.len() });
        }
        let option_roms = OPTION_ROMS.1 - OPTION_ROMS.0 + 1;
        Ok(Self {
            ram: Arc::new(Block::new("pc.ram", ram)?),
            bios: Arc::new(Block::with_image("pc.bios", bios)?),
            option_roms: Arc::new(Block::new("pc.rom", option_roms)?),
        })
    }

    /// Every block.
    pub fn all(&self) -> [&Arc<Block>; 3] {
        [&self.ram, &self.bios, &self.option_roms]
    }
}

/// How much of `ram` bytes of RAM lies below 4 GiB, and how much above.
pub fn ram_split(ram: u64) -> (u64, u64) {
    let low = if ram < LOW_RAM_LIMIT {
        ram
    } else {
        LOW_RAM_SPLIT
    };
    (low, ram - low)
}

/// The host bridge's registers that shape the map; the default is their reset value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// PAM0-PAM6, configuration space 59h-5Fh.
    pub pam: [u8; 7],
    /// SMRAM, configuration space 72h.
    pub smram: u8,
}

impl Shape {
    fn attributes(&self, segment: &Segment) -> u8 {
        self.pam[segment.register] >> segment.shift & (PAM_READ | PAM_WRITE)
    }
}

/// The registers of [`Shape`] as the host bridge shares them with the board: the bridge sets them
/// and leaves [`crate::Request::MapChanged`], the board reads them. Every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct SharedShape(Arc<AtomicU64>);

impl SharedShape {
    /// The registers as they are now.
    pub fn get(&self) -> Shape {
        let [pam @ .., smram] = self.0.load(Ordering::Acquire).to_le_bytes();
        Shape { pam, smram }
    }

    /// Sets them.
    pub fn set(&self, shape: Shape) {
        let mut bytes = [0; 8];
        bytes[..7].copy_from_slice(&shape.pam);
        bytes[7] = shape.smram;
        self.0.store(u64::from_le_bytes(bytes), Ordering::Release);
    }
}

/// What answers in a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Bytes of a block.
    Block {
        /// Which block.
        block: Arc<Block>,
        /// The block's byte that appears at the range's first address.
        offset: u64,
        /// Writes are not taken: they go to the bus, which drops them.
        read_only: bool,
        /// Whoever writes keeps the dirty marks (a display watches them).
        log_dirty: bool,
    },
    /// Writes are message-signalled interrupts (bus masters only).
    Msi,
}

/// A range of physical addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: u64,
    /// The last address.
    pub last: u64,
    /// What answers.
    pub target: Target,
}

impl Range {
    /// The part of this range from `first` to `last`, both inside it.
    fn part(&self, first: u64, last: u64) -> Self {
        let mut part = self.clone();
        (part.first, part.last) = (first, last);
        if let Target::Block { offset, .. } = &mut part.target {
            *offset += first - self.first;
        }
        part
    }

    /// Whether `next` goes on where this range ends, with the same target.
    fn continues_in(&self, next: &Self) -> bool {
        let expected = match &self.target {
            Target::Msi => Target::Msi,
            Target::Block {
                block,
                offset,
                read_only,
                log_dirty,
            } => Target::Block {
                block: Arc::clone(block),
                offset: offset + (self.last - self.first) + 1,
                read_only: *read_only,
                log_dirty: *log_dirty,
            },
        };
        self.last + 1 == next.first && expected == next.target
    }
}

/// The map as one kind of bus agent sees it: sorted ranges without overlap; the gaps are I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    ranges: Vec<Range>,
}

impl View {
    /// The ranges in ascending order.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The range that holds `address`; `None` is I/O.
    pub fn find(&self, address: u64) -> Option<&Range> {
        let index = self.ranges.partition_point(|range| range.last < address);
        self.ranges
            .get(index)
            .filter(|range| range.first <= address)
    }

    /// Reads memory as this view's agent; bytes that are not memory float.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(FLOAT);
        self.each_part(address, data.len(), |block, offset, _, part| {
            let bytes = &mut data[part];
            if block.read(offset, bytes).is_err() {
                bytes.fill(FLOAT);
            }
        });
    }

    /// Writes memory as this view's agent; bytes that are not writable memory are dropped, and
    /// with them a bus master's to the MSI window: a function that signals interrupts asks for
    /// [`crate::Request::Msi`].
    pub fn write(&self, address: u64, data: &[u8]) {
        self.each_part(address, data.len(), |block, offset, read_only, part| {
            if read_only || block.write(offset, &data[part]).is_err() {
                tracing::debug!(target: "memory", block = block.name(), offset, "write dropped");
            }
        });
    }

    /// Calls `f` with block, offset, read-only and the access's bytes for each part in a block.
    fn each_part(
        &self,
        address: u64,
        len: usize,
        mut f: impl FnMut(&Block, u64, bool, std::ops::Range<usize>),
    ) {
        let Some(more) = (len as u64).checked_sub(1) else {
            return;
        };
        let last = address.saturating_add(more);
        let start = self.ranges.partition_point(|range| range.last < address);
        for range in &self.ranges[start..] {
            if range.first > last {
                break;
            }
            let (from, to) = (range.first.max(address), range.last.min(last));
            if let Target::Block {
                block,
                offset,
                read_only,
                ..
            } = &range.target
            {
                // Differences inside the access: they fit `usize` as `len` does.
                let part = (from - address) as usize..(to - address) as usize + 1;
                f(block, offset + (from - range.first), *read_only, part);
            }
        }
    }

    /// This view with the A20 gate shut: the second megabyte is the first. What is I/O in the
    /// first is I/O in the second, at addresses whose bit 20 the caller masks.
    pub fn without_a20(&self) -> Self {
        let mut painter = Painter(self.ranges.clone());
        painter.paint(MIB, 2 * MIB - 1, None);
        for range in self.ranges.iter().take_while(|range| range.first < MIB) {
            let alias = range.part(range.first, range.last.min(MIB - 1));
            painter.paint(alias.first + MIB, alias.last + MIB, Some(alias.target));
        }
        painter.finish()
    }

    /// Paints more onto this view.
    fn painted(&self, paint: impl FnOnce(&mut Painter)) -> Self {
        let mut painter = Painter(self.ranges.clone());
        paint(&mut painter);
        painter.finish()
    }
}

/// Makes a view in layers: what is painted later covers what was there.
#[derive(Default)]
struct Painter(Vec<Range>);

impl Painter {
    fn paint(&mut self, first: u64, last: u64, target: Option<Target>) {
        let mut ranges = Vec::with_capacity(self.0.len() + 2);
        for old in self.0.drain(..) {
            if old.last < first || last < old.first {
                ranges.push(old);
                continue;
            }
            if old.first < first {
                ranges.push(old.part(old.first, first - 1));
            }
            if last < old.last {
                ranges.push(old.part(last + 1, old.last));
            }
        }
        ranges.extend(target.map(|target| Range {
            first,
            last,
            target,
        }));
        ranges.sort_unstable_by_key(|range| range.first);
        self.0 = ranges;
    }

    fn ram(&mut self, first: u64, last: u64, ram: &Arc<Block>, offset: u64) {
        self.paint(first, last, Some(target(ram, offset, false)));
    }

    fn rom(&mut self, first: u64, last: u64, rom: &Arc<Block>, offset: u64) {
        self.paint(first, last, Some(target(rom, offset, true)));
    }

    /// The view, with ranges that continue each other joined.
    fn finish(self) -> View {
        let mut ranges: Vec<Range> = Vec::with_capacity(self.0.len());
        for range in self.0 {
            match ranges.last_mut() {
                Some(before) if before.continues_in(&range) => before.last = range.last,
                _ => ranges.push(range),
            }
        }
        View { ranges }
    }
}

fn target(block: &Arc<Block>, offset: u64, read_only: bool) -> Target {
    Target::Block {
        block: Arc::clone(block),
        offset,
        read_only,
        log_dirty: false,
    }
}

/// Guest memory as bus masters reach it, whatever the map is at the moment; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct BusMaster(Arc<RwLock<Arc<MemoryMap>>>);

impl BusMaster {
    /// Reads guest memory; bytes that are not memory float ([`View::read`]).
    pub fn read(&self, address: u64, data: &mut [u8]) {
        self.map().bus_master().read(address, data);
    }

    /// Writes guest memory; what is not writable memory is dropped ([`View::write`]).
    pub fn write(&self, address: u64, data: &[u8]) {
        self.map().bus_master().write(address, data);
    }

    /// The map as it is now.
    pub fn map(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another map in place.
    pub fn set_map(&self, map: Arc<MemoryMap>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = map;
    }
}

/// The memory map of a board in its views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMap {
    cpu: View,
    smm: View,
    bus_master: View,
    shadow_writes: View,
}

impl MemoryMap {
    /// The map of `blocks` under the host bridge's registers `shape`, with `bars` (memory behind PCI
    /// functions' BARs) where nothing of the board's own is.
    pub fn new(blocks: &Blocks, shape: &Shape, bars: Vec<Range>) -> Self {
        let mut base = Painter::default();
        for bar in bars {
            base.paint(bar.first, bar.last, Some(bar.target));
        }
        paint_ram(&mut base, blocks);
        paint_roms(&mut base, blocks);
        let mut shadow_writes = Painter::default();
        for segment in &SEGMENTS {
            let (first, last, ram) = (segment.first, segment.last, &blocks.ram);
            match shape.attributes(segment) {
                PAM_READ => base.rom(first, last, ram, first),
                PAM_WRITE => shadow_writes.ram(first, last, ram, first),
                both if both == PAM_READ | PAM_WRITE => base.ram(first, last, ram, first),
                _ => {}
            }
        }
        let closed = base.finish();
        let opened = closed.painted(|view| {
            view.ram(VGA_HOLE.0, VGA_HOLE.1, &blocks.ram, VGA_HOLE.0);
        });
        let enabled = shape.smram & G_SMRAME != 0;
        let open = enabled && shape.smram & D_OPEN != 0 && shape.smram & D_LCK == 0;
        let smram = |visible| if visible { &opened } else { &closed };
        Self {
            cpu: smram(open).clone(),
            smm: smram(enabled).clone(),
            bus_master: closed.painted(|view| {
                view.paint(MSI_WINDOW.0, MSI_WINDOW.1, Some(Target::Msi));
            }),
            shadow_writes: shadow_writes.finish(),
        }
    }

    /// What a processor sees.
    pub fn cpu(&self) -> &View {
        &self.cpu
    }

    /// What a processor sees in system management mode.
    pub fn smm(&self) -> &View {
        &self.smm
    }

    /// What a bus master sees.
    pub fn bus_master(&self) -> &View {
        &self.bus_master
    }

    /// Where a processor's writes to read-only ranges go nevertheless: the RAM behind PAM segments
    /// that are enabled for writing alone.
    pub fn shadow_writes(&self) -> &View {
        &self.shadow_writes
    }
}

fn paint_ram(base: &mut Painter, blocks: &Blocks) {
    let (low, high) = ram_split(blocks.ram.size());
    base.ram(0, low - 1, &blocks.ram, 0);
    if high != 0 {
        base.ram(HIGH_RAM, HIGH_RAM + high - 1, &blocks.ram, low);
    }
    base.paint(VGA_HOLE.0, BIOS_AREA.1, None);
}

fn paint_roms(base: &mut Painter, blocks: &Blocks) {
    base.rom(OPTION_ROMS.0, OPTION_ROMS.1, &blocks.option_roms, 0);
    let size = blocks.bios.size();
    let tail = size.min(ISA_BIOS);
    base.rom(MIB - tail, MIB - 1, &blocks.bios, size - tail);
    base.rom(HIGH_RAM - size, HIGH_RAM - 1, &blocks.bios, 0);
}

#[cfg(test)]
mod tests;
