//! Memory three times: the leader's, which is the board's own; the follower's; and what both held when
//! they agreed last, to which a slice can be taken back.

// UNSAFETY: guest memory is reached through its blocks' host pointers.
#![expect(unsafe_code, reason = "guest memory is raw host addresses")]

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use emu::CpuState;
use emu::arch::{Cr0, Cr4, Efer};
use emu::memory::{
    Block, CODE_WRITTEN, DEVICE_WROTE, DIRTY, HOLDS_CODE, MapError, MemoryMap, PAGE_SIZE, Range,
    take_dirty, take_marked,
};

use crate::{AccelError, Vm};

/// 64-bit words in a page.
const WORDS: usize = PAGE_SIZE as usize / 8;
/// A page's contents.
type Page = [u64; WORDS];
/// Accessed and dirty bits of two 32-bit or one 64-bit paging entry.
const ACCESSED_DIRTY_32: u64 = 0x0000_0060_0000_0060;
const ACCESSED_DIRTY_64: u64 = 0x60;
/// The address in a 64-bit paging entry.
const FRAME: u64 = 0x000F_FFFF_FFFF_F000;
/// An entry that is present, and one that maps a large page.
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// More page tables than this are not looked through.
const MOST_TABLES: usize = 1 << 16;

/// A page of a block, by their numbers.
pub(super) type PageId = (usize, usize);

/// Pages of host memory.
struct Pages {
    start: NonNull<u8>,
    _bytes: Vec<u8>,
}

// SAFETY: only an address and what keeps it alive; every access through it is volatile.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(len: u64) -> Self {
        let mut bytes = vec![0; len as usize + PAGE_SIZE as usize];
        let skip = bytes.as_ptr().align_offset(PAGE_SIZE as usize);
        let start = NonNull::from(&mut bytes[skip..][0]);
        Self {
            start,
            _bytes: bytes,
        }
    }
}

fn marks(len: u64) -> Arc<[AtomicU8]> {
    (0..len / PAGE_SIZE).map(|_| AtomicU8::new(0)).collect()
}

fn load(host: NonNull<u8>, page: usize) -> Page {
    // SAFETY: callers name a page of the block that `host` begins, which is page aligned and lives.
    std::array::from_fn(|word| unsafe {
        host.as_ptr()
            .cast::<u64>()
            .add(page * WORDS + word)
            .read_volatile()
    })
}

fn store(host: NonNull<u8>, page: usize, data: &Page) {
    for (word, &value) in data.iter().enumerate() {
        // SAFETY: as in `load`.
        unsafe {
            host.as_ptr()
                .cast::<u64>()
                .add(page * WORDS + word)
                .write_volatile(value)
        };
    }
}

/// A block and its copies.
struct Copied {
    /// The board's own, with the marks that devices set.
    board: Block,
    /// The same memory, with marks for what the leader writes.
    leader: Block,
    follower: Block,
    agreed: Arc<Pages>,
}

impl Copied {
    fn new(board: &Block) -> Self {
        let leader = Block {
            marks: marks(board.len),
            ..board.clone()
        };
        let (own, agreed) = (
            Arc::new(Pages::new(board.len)),
            Arc::new(Pages::new(board.len)),
        );
        let follower = Block {
            host: own.start,
            len: board.len,
            marks: marks(board.len),
            owner: own,
        };
        let copied = Self {
            board: board.clone(),
            leader,
            follower,
            agreed,
        };
        copied.refresh();
        copied
    }

    /// The follower's page gets these contents. True if that was code, and is something else now.
    fn set_follower(&self, page: usize, data: &Page) -> bool {
        if load(self.follower.host, page) == *data {
            return false;
        }
        store(self.follower.host, page, data);
        let mark = &self.follower.marks[page];
        let code = mark.load(Ordering::Relaxed) & HOLDS_CODE != 0;
        if code {
            mark.fetch_or(CODE_WRITTEN, Ordering::AcqRel);
        }
        code
    }

    /// Makes all copies what the leader's memory is now.
    fn refresh(&self) {
        take_marked(&self.board.marks, DEVICE_WROTE);
        for page in 0..(self.board.len / PAGE_SIZE) as usize {
            let data = load(self.board.host, page);
            for copy in [self.follower.host, self.agreed.start] {
                // A page that nobody has touched stays without host memory.
                if load(copy, page) != data {
                    store(copy, page, &data);
                }
            }
        }
    }
}

/// Pages written since the engines agreed.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// By either engine.
    pub(super) engines: BTreeSet<PageId>,
    /// By devices.
    pub(super) devices: BTreeSet<PageId>,
}

impl Written {
    /// Takes in what was written further.
    pub(super) fn add(&mut self, more: Self) {
        self.engines.extend(more.engines);
        self.devices.extend(more.devices);
    }
}

/// A word of memory in which the engines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Guest physical address; the offset in its block if the map shows it nowhere.
    pub address: u64,
    /// What it held before.
    pub before: u64,
    /// The leader's.
    pub leader: u64,
    /// The follower's.
    pub follower: u64,
}

/// The memory of a machine.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Copied>,
    map: MemoryMap,
    /// A map that the leader has already.
    next: Option<MemoryMap>,
}

impl Memory {
    /// Takes a new map; returns it as the leader is to see it.
    pub(super) fn set_map(&mut self, map: MemoryMap) -> Result<MemoryMap, MapError> {
        let leader = self.leader_map(&map)?;
        self.next = Some(map);
        Ok(leader)
    }

    /// The map that both agree on, and the newer one that waits, as the leader is to see them.
    pub(super) fn both_maps(&mut self) -> Result<Option<(MemoryMap, MemoryMap)>, MapError> {
        let Some(next) = self.next.clone() else {
            return Ok(None);
        };
        let now = self.map.clone();
        Ok(Some((self.leader_map(&now)?, self.leader_map(&next)?)))
    }

    fn leader_map(&mut self, map: &MemoryMap) -> Result<MemoryMap, MapError> {
        self.over(map, |copied, range| Range {
            block: copied.leader.clone(),
            log_dirty: !range.read_only,
            ..range.clone()
        })
    }

    /// The map for the follower, if it has changed.
    pub(super) fn follow_map(&mut self) -> Result<Option<Arc<MemoryMap>>, MapError> {
        let Some(map) = self.next.take() else {
            return Ok(None);
        };
        let follower = self.over(&map, |copied, range| Range {
            block: copied.follower.clone(),
            ..range.clone()
        })?;
        self.map = map;
        Ok(Some(Arc::new(follower)))
    }

    fn over(
        &mut self,
        map: &MemoryMap,
        of: impl Fn(&Copied, &Range) -> Range,
    ) -> Result<MemoryMap, MapError> {
        let ranges: Vec<Range> = map
            .ranges()
            .iter()
            .map(|range| {
                let index = self.index_of(&range.block);
                of(&self.blocks[index], range)
            })
            .collect();
        MemoryMap::new(ranges, map.a20())
    }

    /// The number of a block, which gets copies if it is new.
    fn index_of(&mut self, block: &Block) -> usize {
        if let Some(found) = self.blocks.iter().position(|c| c.board.host == block.host) {
            return found;
        }
        self.blocks.push(Copied::new(block));
        self.blocks.len() - 1
    }

    /// Takes what was written while nothing ran, from wherever.
    pub(super) fn refresh(&self) {
        self.blocks.iter().for_each(Copied::refresh);
    }

    /// What was written since the last call.
    pub(super) fn written(&self, leader: &dyn Vm) -> Result<Written, AccelError> {
        let mut written = Written::default();
        for (n, block) in self.blocks.iter().enumerate() {
            // The first call brings in what the host knows of all blocks.
            let by_leader = match n {
                0 => leader.take_dirty(&block.leader.marks)?,
                _ => take_dirty(&block.leader.marks),
            };
            let by_follower = take_dirty(&block.follower.marks);
            let by_engines = by_leader.into_iter().chain(by_follower);
            written.engines.extend(by_engines.map(|page| (n, page)));
            let by_devices = take_marked(&block.board.marks, DEVICE_WROTE);
            written
                .devices
                .extend(by_devices.into_iter().map(|page| (n, page)));
        }
        Ok(written)
    }

    /// Where the engines' memory differs; not in pages that a device wrote, of which the leader's
    /// contents count. Accessed and dirty bits in the page tables of `state` do not count.
    pub(super) fn differences(&self, written: &Written, state: &CpuState) -> Vec<Word> {
        let mut found = Vec::new();
        let mut tables = None;
        for &(block, page) in written.engines.difference(&written.devices) {
            let copied = &self.blocks[block];
            let leader = load(copied.leader.host, page);
            let follower = load(copied.follower.host, page);
            if leader == follower {
                continue;
            }
            let tables = tables.get_or_insert_with(|| self.tables(state));
            let masked = match tables.contains(&(block, page)) {
                true if is_64_bit(state) => ACCESSED_DIRTY_64,
                true => ACCESSED_DIRTY_32,
                false => 0,
            };
            let before = load(copied.agreed.start, page);
            for word in 0..WORDS {
                if (leader[word] ^ follower[word]) & !masked != 0 {
                    found.push(Word {
                        address: self.physical(block, page) + 8 * word as u64,
                        before: before[word],
                        leader: leader[word],
                        follower: follower[word],
                    });
                }
            }
        }
        found
    }

    /// What the leader has written, as a page's words that are not what they were.
    pub(super) fn changes(&self, written: &Written) -> Vec<Word> {
        let mut found = Vec::new();
        for &(block, page) in &written.engines {
            let copied = &self.blocks[block];
            let before = load(copied.agreed.start, page);
            let leader = load(copied.leader.host, page);
            let follower = load(copied.follower.host, page);
            for word in 0..WORDS {
                if before[word] != leader[word] || before[word] != follower[word] {
                    found.push(Word {
                        address: self.physical(block, page) + 8 * word as u64,
                        before: before[word],
                        leader: leader[word],
                        follower: follower[word],
                    });
                }
            }
        }
        found
    }

    /// The engines agree: the leader's memory is everybody's. True if the follower's code changed.
    pub(super) fn agree(&self, written: &Written) -> bool {
        let mut code = false;
        for &(block, page) in written.engines.union(&written.devices) {
            let copied = &self.blocks[block];
            let data = load(copied.leader.host, page);
            store(copied.agreed.start, page, &data);
            code |= copied.set_follower(page, &data);
            copied.board.marks[page].fetch_or(DIRTY, Ordering::Relaxed);
        }
        code
    }

    /// The follower goes back to what both agreed on. True if its code changed.
    pub(super) fn revert_follower(&self, written: &Written) -> bool {
        let mut code = false;
        for &(block, page) in &written.engines {
            let copied = &self.blocks[block];
            code |= copied.set_follower(page, &load(copied.agreed.start, page));
        }
        code
    }

    /// The leader gets what the follower wrote.
    pub(super) fn give_leader(&self, written: &Written) {
        for &(block, page) in written.engines.difference(&written.devices) {
            let copied = &self.blocks[block];
            store(copied.leader.host, page, &load(copied.follower.host, page));
        }
    }

    /// Both go back to what they agreed on. Returns what devices wrote, for [`Memory::put_back`].
    pub(super) fn take_back(&self, written: &Written) -> Vec<(PageId, Box<Page>)> {
        for &(block, page) in &written.engines {
            let copied = &self.blocks[block];
            let before = load(copied.agreed.start, page);
            if !written.devices.contains(&(block, page)) {
                store(copied.leader.host, page, &before);
            }
            store(copied.follower.host, page, &before);
        }
        let devices = written.devices.iter().map(|&(block, page)| {
            let copied = &self.blocks[block];
            let data = Box::new(load(copied.leader.host, page));
            store(copied.leader.host, page, &load(copied.agreed.start, page));
            ((block, page), data)
        });
        devices.collect()
    }

    /// Devices write again what they wrote.
    pub(super) fn put_back(&self, held: &[(PageId, Box<Page>)], written: &mut Written) {
        for ((block, page), data) in held {
            store(self.blocks[*block].leader.host, *page, data);
            written.devices.insert((*block, *page));
        }
    }

    /// Puts a byte in the leader's memory only; what was there. `None` if there is no memory.
    pub(super) fn plant(&self, physical: u64, byte: u8) -> Option<u8> {
        let (block, page) = self.page_at(physical)?;
        let offset = page * PAGE_SIZE as usize + (physical % PAGE_SIZE) as usize;
        let host = self.blocks[block].leader.host.as_ptr();
        // SAFETY: the page is one of the block's, which lives.
        let at = unsafe { host.add(offset) };
        // SAFETY: as above; volatile, as all accesses to guest memory are.
        let before = unsafe { at.read_volatile() };
        // SAFETY: as above.
        unsafe { at.write_volatile(byte) };
        Some(before)
    }

    fn physical(&self, block: usize, page: usize) -> u64 {
        let offset = page as u64 * PAGE_SIZE;
        let host = self.blocks[block].board.host;
        let shows =
            |r: &&Range| r.block.host == host && offset >= r.offset && offset - r.offset < r.len;
        let range = self.map.ranges().iter().find(shows);
        range.map_or(offset, |r| r.start + (offset - r.offset))
    }

    /// The page at a guest physical address.
    fn page_at(&self, physical: u64) -> Option<PageId> {
        let range = self.map.find(physical)?;
        let block = self
            .blocks
            .iter()
            .position(|c| c.board.host == range.block.host)?;
        Some((
            block,
            ((range.offset + (physical - range.start)) / PAGE_SIZE) as usize,
        ))
    }

    /// The pages that hold the page tables of `state`.
    fn tables(&self, state: &CpuState) -> BTreeSet<PageId> {
        let mut found = BTreeSet::new();
        if !state.cr0.contains(Cr0::PG) {
            return found;
        }
        let wide = is_64_bit(state);
        let levels = match (wide, state.efer.contains(Efer::LMA)) {
            (true, true) => 4,
            (true, false) => 3,
            (false, _) => 2,
        };
        let mut level = vec![state.cr3 & FRAME];
        for depth in (1..=levels).rev() {
            let mut below = Vec::new();
            for table in level {
                let Some(id) = self.page_at(table) else {
                    continue;
                };
                if found.len() >= MOST_TABLES || !found.insert(id) || depth == 1 {
                    continue;
                }
                let entries = load(self.blocks[id.0].leader.host, id.1);
                let each = entries.iter().flat_map(|&word| match wide {
                    true => [word, 0],
                    false => [word & 0xFFFF_FFFF, word >> 32],
                });
                let deeper = |e: &u64| e & PRESENT != 0 && (depth == 4 || e & LARGE == 0);
                below.extend(each.filter(deeper).map(|e| e & FRAME));
            }
            level = below;
        }
        found
    }
}

/// Whether paging entries are 64 bits wide.
fn is_64_bit(state: &CpuState) -> bool {
    state.cr4.contains(Cr4::PAE)
}
