//! Blocks of guest memory: RAM, ROMs, video RAM.
//!
//! A block is an anonymous vm-memory mapping with one byte of marks a page. It has no address of
//! its own; [`crate::memory_map`] says where its bytes appear. The mapping lives as long as the
//! block, so the host pointers that processors cache into it never dangle.
//!
//! Every write by a device, DMA included, goes through vm-memory's accessors and so through
//! [`PageMarks`]: dirty tracking and self-modifying code by DMA need no second path. Processors
//! write through the raw pointer and keep the marks themselves, from the same bytes
//! ([`PageMarks::bytes`]).

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock};

use vm_memory::bitmap::{Bitmap, NewBitmap, RefSlice, WithBitmapSlice};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

/// Bytes in a page of marks; the x86 page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 12;

/// The largest block: 1 TiB, as far as the PC's memory map goes before the HyperTransport hole.
pub const MAX_BLOCK: u64 = 1 << 40;

/// The page has been written since somebody last cleared the mark.
pub const DIRTY: u8 = 1 << 0;
/// A processor holds code translated from the page: its writes must be seen.
pub const HOLDS_CODE: u8 = 1 << 1;
/// A device has written to a page that holds code; the processors must drop that code.
pub const CODE_WRITTEN: u8 = 1 << 2;
/// A device has written to the page: what lockstep gives to the engine that follows.
pub const DEVICE_WROTE: u8 = 1 << 3;

/// Called after a device has set [`CODE_WRITTEN`] on some page.
pub type CodeWritten = Arc<dyn Fn() + Send + Sync>;

/// Why a block could not be made or accessed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is zero, not whole pages, or beyond [`MAX_BLOCK`].
    #[error("{block} cannot be {size:#x} bytes")]
    Size {
        /// The block.
        block: &'static str,
        /// The size asked for.
        size: u64,
    },
    /// The host has no memory for it.
    #[error("the host gives no {size:#x} bytes for {block}")]
    Allocation {
        /// The block.
        block: &'static str,
        /// The size asked for.
        size: u64,
        /// What the host said.
        #[source]
        source: MmapRegionError,
    },
    /// The access does not lie in the block.
    #[error("{len:#x} bytes at {offset:#x} are not in {block}")]
    Outside {
        /// The block.
        block: &'static str,
        /// Where the access begins.
        offset: u64,
        /// How long it is.
        len: usize,
    },
}

/// The marks of a block, one atomic byte a page: [`DIRTY`], [`HOLDS_CODE`], [`CODE_WRITTEN`].
///
/// Whoever sets [`HOLDS_CODE`] does so with `SeqCst` ordering and *then* reads the code's bytes; a
/// writer writes its bytes and *then* looks at the mark. One of the two sees the other.
#[derive(Clone, Default)]
pub struct PageMarks {
    pages: Arc<[AtomicU8]>,
    code_written: Arc<OnceLock<CodeWritten>>,
}

impl PageMarks {
    /// The bytes themselves, to be shared with the processors.
    pub fn bytes(&self) -> Arc<[AtomicU8]> {
        Arc::clone(&self.pages)
    }

    /// Sets what is called when a device has written into code; only the first call counts.
    pub fn on_code_written(&self, hook: CodeWritten) {
        if self.code_written.set(hook).is_err() {
            tracing::debug!(target: "memory", "a code-written hook is already set");
        }
    }

    /// The pages on which `mark` is set, clearing it: what dirty tracking asks for.
    pub fn take(&self, mark: u8) -> impl Iterator<Item = usize> {
        let pages = self.pages.iter().enumerate();
        pages.filter_map(move |(page, marks)| {
            let set = marks.load(Ordering::Relaxed) & mark != 0
                && marks.fetch_and(!mark, Ordering::AcqRel) & mark != 0;
            set.then_some(page)
        })
    }

    /// Marks one page written; true if it holds code.
    fn written(marks: &AtomicU8) -> bool {
        let before = marks.load(Ordering::Relaxed);
        let code = before & HOLDS_CODE != 0;
        let wrote = DIRTY | DEVICE_WROTE;
        let set = if code { wrote | CODE_WRITTEN } else { wrote };
        if before & set != set {
            marks.fetch_or(set, Ordering::AcqRel);
        }
        code
    }
}

impl fmt::Debug for PageMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageMarks({} pages)", self.pages.len())
    }
}

impl<'a> WithBitmapSlice<'a> for PageMarks {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for PageMarks {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let Some(last) = len.checked_sub(1).map(|more| offset.saturating_add(more)) else {
            return;
        };
        // The bytes were written before the marks are read: see the type's comment.
        fence(Ordering::SeqCst);
        let (first, last) = (offset >> PAGE_SHIFT, last >> PAGE_SHIFT);
        let end = last.saturating_add(1).min(self.pages.len());
        let pages = self.pages.get(first..end).unwrap_or_default();
        let code = pages
            .iter()
            .fold(false, |code, marks| Self::written(marks) | code);
        if code && let Some(hook) = self.code_written.get() {
            hook();
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let marks = self.pages.get(offset >> PAGE_SHIFT);
        marks.is_some_and(|marks| marks.load(Ordering::Acquire) & DIRTY != 0)
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

impl NewBitmap for PageMarks {
    fn with_len(len: usize) -> Self {
        let pages = len.div_ceil(1 << PAGE_SHIFT);
        Self {
            pages: (0..pages).map(|_| AtomicU8::new(0)).collect(),
            code_written: Arc::default(),
        }
    }
}

/// A block of guest memory. Equal only to itself.
#[derive(Debug)]
pub struct Block {
    name: &'static str,
    region: MmapRegion<PageMarks>,
}

impl Block {
    /// A block of `size` zero bytes; the host gives the pages when they are first touched.
    ///
    /// # Errors
    /// If the size is impossible, or the host refuses it.
    pub fn new(name: &'static str, size: u64) -> Result<Self, MemoryError> {
        let bad_size = MemoryError::Size { block: name, size };
        let whole = size != 0 && size <= MAX_BLOCK && size.is_multiple_of(PAGE_SIZE);
        let Some(bytes) = usize::try_from(size).ok().filter(|_| whole) else {
            return Err(bad_size);
        };
        let region = MmapRegion::new(bytes).map_err(|source| MemoryError::Allocation {
            block: name,
            size,
            source,
        })?;
        Ok(Self { name, region })
    }

    /// A block that holds `image`, rounded up to whole pages.
    ///
    /// # Errors
    /// As [`Block::new`].
    pub fn with_image(name: &'static str, image: &[u8]) -> Result<Self, MemoryError> {
        let block = Self::new(name, (image.len() as u64).next_multiple_of(PAGE_SIZE))?;
        block.write(0, image)?;
        Ok(block)
    }

    /// The block's name, unique on a board.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// Where its first byte is in this process; valid while the block lives.
    pub fn host(&self) -> *mut u8 {
        self.region.as_ptr()
    }

    /// Its marks.
    pub fn marks(&self) -> &PageMarks {
        self.region.bitmap()
    }

    /// A view of some of its bytes through vm-memory's safe accessors.
    ///
    /// # Errors
    /// If they are not all in the block.
    pub fn slice(
        &self,
        offset: u64,
        len: usize,
    ) -> Result<VolatileSlice<'_, RefSlice<'_, PageMarks>>, MemoryError> {
        let start = usize::try_from(offset).ok();
        start
            .and_then(|start| self.region.get_slice(start, len).ok())
            .ok_or(MemoryError::Outside {
                block: self.name,
                offset,
                len,
            })
    }

    /// Reads bytes as a device does.
    ///
    /// # Errors
    /// If they are not all in the block; nothing is read then.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        self.slice(offset, data.len())?.copy_to(data);
        Ok(())
    }

    /// Writes bytes as a device does, or loads an image: the pages are marked.
    ///
    /// # Errors
    /// If they are not all in the block; nothing is written then.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), MemoryError> {
        // `copy_from` marks what it writes; the length was checked, so that is all of it.
        self.slice(offset, data.len())?.copy_from(data);
        Ok(())
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Block {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn block(pages: u64) -> Block {
        Block::new("ram", pages * PAGE_SIZE).expect("a few pages")
    }

    fn marks(block: &Block) -> Vec<u8> {
        let bytes = block.marks().bytes();
        bytes.iter().map(|m| m.load(Ordering::SeqCst)).collect()
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for size in [
            0,
            1,
            PAGE_SIZE - 1,
            PAGE_SIZE + 1,
            MAX_BLOCK + PAGE_SIZE,
            u64::MAX,
        ] {
            let refused = Block::new("ram", size);
            assert!(
                matches!(refused, Err(MemoryError::Size { .. })),
                "{size:#x}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_and_marked() {
        let block = block(4);
        block.write(0x1FFE, &[1, 2, 3, 4]).expect("inside");
        let mut data = [0; 6];
        block.read(0x1FFD, &mut data).expect("inside");
        assert_eq!(data, [0, 1, 2, 3, 4, 0]);
        let wrote = DIRTY | DEVICE_WROTE;
        assert_eq!(marks(&block), [0, wrote, wrote, 0]);
        assert_eq!(block.marks().take(DIRTY).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(marks(&block), [0, DEVICE_WROTE, DEVICE_WROTE, 0]);
    }

    #[test]
    fn an_access_that_leaves_the_block_does_nothing() {
        let block = block(1);
        assert!(block.write(0xFFF, &[1, 2]).is_err());
        assert!(block.write(u64::MAX, &[1]).is_err());
        assert!(block.read(0x1000, &mut [0]).is_err());
        assert!(block.read(0x1000, &mut []).is_ok());
        assert!(block.write(0x1000, &[]).is_ok());
        assert_eq!(marks(&block), [0]);
    }

    #[test]
    fn a_device_write_into_code_is_told_once_an_access() {
        let block = block(3);
        let calls = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&calls);
        block.marks().on_code_written(Arc::new(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        block.write(0, &[0; 0x3000]).expect("inside");
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        let bytes = block.marks().bytes();
        bytes[1].fetch_or(HOLDS_CODE, Ordering::SeqCst);
        bytes[2].fetch_or(HOLDS_CODE, Ordering::SeqCst);
        block.write(0x1FFF, &[0; 2]).expect("inside");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let all = DIRTY | HOLDS_CODE | CODE_WRITTEN | DEVICE_WROTE;
        assert_eq!(marks(&block), [DIRTY | DEVICE_WROTE, all, all]);
        block.write(0x1000, &[0]).expect("inside");
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "the hook may have been served before"
        );
    }

    #[test]
    fn an_image_fills_whole_pages() {
        let block = Block::with_image("rom", &[0xAA; 0x1001]).expect("two pages");
        assert_eq!(block.size(), 0x2000);
        let mut end = [1; 2];
        block.read(0x1000, &mut end).expect("inside");
        assert_eq!(end, [0xAA, 0]);
        assert!(Block::with_image("rom", &[]).is_err());
    }
}
