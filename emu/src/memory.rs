//! Guest physical memory as an engine sees it.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Page size of the marks and of every translation cache, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Mark of a page: written since the dirty log was last read.
pub const DIRTY: u8 = 1 << 0;
/// Mark of a page: some vCPU holds translated code of it.
pub const HOLDS_CODE: u8 = 1 << 1;
/// Mark of a page: a device wrote to it while it held code.
pub const CODE_WRITTEN: u8 = 1 << 2;
/// Mark of a page: a device wrote to it. Whoever makes two engines run in step clears it.
pub const DEVICE_WROTE: u8 = 1 << 3;

/// A piece of host memory that a guest sees: RAM, ROM or video RAM.
#[derive(Clone)]
pub struct Block {
    /// The first byte in host memory, page aligned.
    pub host: NonNull<u8>,
    /// Length in bytes, a multiple of the page size.
    pub len: u64,
    /// One byte of marks a page.
    pub marks: Arc<[AtomicU8]>,
    /// Keeps the host mapping alive.
    pub owner: Arc<dyn Any + Send + Sync>,
}

// UNSAFETY: a block is a raw host address, which crosses threads.
// SAFETY: a block is only an address and a length; every access through it is volatile or atomic,
// and `owner` keeps the mapping alive on whichever thread.
#[expect(unsafe_code, reason = "a raw host address crosses threads")]
unsafe impl Send for Block {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a raw host address crosses threads")]
unsafe impl Sync for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:p}, {:#x} bytes)", self.host, self.len)
    }
}

/// The pages marked [`DIRTY`], by number, with the marks cleared. A processor that holds translations
/// must then be told by [`crate::attention::Signals::DIRTY`]: it marks a page when it first writes to it.
pub fn take_dirty(marks: &[AtomicU8]) -> Vec<usize> {
    take_marked(marks, DIRTY)
}

/// The pages on which `wanted` is set, by number, with that mark cleared.
pub fn take_marked(marks: &[AtomicU8], wanted: u8) -> Vec<usize> {
    let taken = |(page, mark): (usize, &AtomicU8)| {
        let set = mark.load(Ordering::Relaxed) & wanted != 0
            && mark.fetch_and(!wanted, Ordering::AcqRel) & wanted != 0;
        set.then_some(page)
    };
    marks.iter().enumerate().filter_map(taken).collect()
}

/// One range of guest physical addresses that is backed by memory. What no range covers is I/O.
#[derive(Clone, Debug)]
pub struct Range {
    /// First guest physical address, page aligned.
    pub start: u64,
    /// Length in bytes, a multiple of the page size, not zero.
    pub len: u64,
    /// The memory behind it.
    pub block: Block,
    /// Where in the block the range begins.
    pub offset: u64,
    /// Writes are dropped (ROM, shadowed RAM with writes disabled).
    pub read_only: bool,
    /// The user of the block wants to know which pages were written.
    pub log_dirty: bool,
}

/// The CPU's view of guest physical memory: sorted, disjoint ranges.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    ranges: Vec<Range>,
    /// Physical address bits that reach the bus: A20 masked or not.
    a20_mask: u64,
}

impl Default for MemoryMap {
    /// No memory at all, A20 open.
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            a20_mask: u64::MAX,
        }
    }
}

/// Why a list of ranges is no memory map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Two ranges cover the same address.
    #[error("memory ranges overlap at {0:#x}")]
    Overlap(u64),
    /// A range is empty, not page aligned, or larger than its block.
    #[error("memory range at {0:#x} is empty, unaligned or larger than its block")]
    Shape(u64),
}

impl MemoryMap {
    /// A map over `ranges` in any order.
    ///
    /// # Errors
    /// If ranges overlap, are unaligned, empty or larger than their blocks.
    pub fn new(mut ranges: Vec<Range>, a20: bool) -> Result<Self, MapError> {
        ranges.sort_by_key(|r| r.start);
        for r in &ranges {
            let aligned = (r.start | r.len | r.offset | r.block.len) % PAGE_SIZE == 0
                && (r.block.host.as_ptr().addr() as u64).is_multiple_of(PAGE_SIZE);
            let inside = r
                .offset
                .checked_add(r.len)
                .is_some_and(|end| end <= r.block.len);
            if !aligned || !inside || r.len == 0 || r.start.checked_add(r.len).is_none() {
                return Err(MapError::Shape(r.start));
            }
        }
        if let Some(pair) = ranges
            .windows(2)
            .find(|p| p[0].start + p[0].len > p[1].start)
        {
            return Err(MapError::Overlap(pair[1].start));
        }
        Ok(Self {
            ranges,
            a20_mask: if a20 { u64::MAX } else { !(1 << 20) },
        })
    }

    /// The ranges, sorted by address.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Whether address bit 20 reaches the bus.
    pub fn a20(&self) -> bool {
        self.a20_mask == u64::MAX
    }

    /// The mask that A20 puts on physical addresses.
    pub fn a20_mask(&self) -> u64 {
        self.a20_mask
    }

    /// The range that holds `address` (A20 already applied), or `None` for I/O.
    pub fn find(&self, address: u64) -> Option<&Range> {
        let after = self.ranges.partition_point(|r| r.start <= address);
        let range = &self.ranges[after.checked_sub(1)?];
        (address - range.start < range.len).then_some(range)
    }
}
