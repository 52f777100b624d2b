//! Basic blocks: decoded instructions kept beside the CPU, found by physical address and mode.
//!
//! A block ends at the page end at the latest; an instruction across two pages is a block of its
//! own. Blocks of a page die when a write touches the bytes they came from.

use crate::cpu::{CodeSize, CodeWrite, Forget, Mode};
use crate::decode::Insn;
use crate::map::Map;

/// Names a block in the arena; a dropped block's name may be used again, with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockId {
    /// Its place in the arena.
    pub index: u32,
    generation: u32,
}

/// A successor found before, in the same mode.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Distance of the successor's RIP from this block's.
    delta: i32,
    to: u32,
    /// When it was found so; [`ALWAYS`] in the same page.
    epoch: u32,
}

const UNLINKED: Link = Link {
    delta: 0,
    to: 0,
    epoch: NEVER,
};

/// The epoch of what no change of translations makes stale.
const ALWAYS: u32 = u32::MAX;
/// An epoch that does not come.
const NEVER: u32 = u32::MAX - 1;
/// Epochs of what leads to global pages are odd, others even.
const EPOCHS: [u32; 2] = [0, 1];

/// A straight run of instructions; conditional branches may leave it early. What the loop looks at
/// lies in one cache line.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// The instructions.
    pub insns: Box<[Insn]>,
    links: [Link; 3],
    generation: u32,
    /// The linear RIP it was entered at when links to other pages were made: they hold for it only.
    linear: u64,
}

const _: () = assert!(size_of::<Block>() == 64);

/// What a block was made of.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Where its first byte lies.
    pub physical: u64,
    /// The page, by its number, that its only instruction goes on in.
    pub second: Option<u64>,
    pub mode: Mode,
    pub shape: Shape,
}

impl Origin {
    /// The bytes it has in a page: physical address of the first, and how many.
    fn part_in(&self, page: u64) -> (u64, u16) {
        let left = 4096 - self.physical % 4096;
        let first = left.min(u64::from(self.shape.len)) as u16;
        if self.physical >> 12 == page {
            (self.physical, first)
        } else {
            (page << 12, self.shape.len - first)
        }
    }

    /// The pages it has bytes in.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.physical >> 12).chain(self.second)
    }

    /// The 64-byte granules of a page that hold it.
    pub(crate) fn granules_in(&self, page: u64) -> u64 {
        let (physical, len) = self.part_in(page);
        granules_of(physical, len)
    }
}

/// What a block is found by.
type Key = (u64, Mode);

/// Blocks beyond this many are all dropped at once: bounds the host memory a guest can claim.
const MOST_BLOCKS: usize = 32 * 1024;
/// Entries of the jump cache.
const JUMPS: usize = 8192;

/// An entry of the jump cache: linear RIP and mode to block.
#[derive(Clone, Copy)]
struct Known {
    rip: u64,
    to: BlockId,
    mode: Mode,
    /// When it was found so.
    epoch: u32,
}

/// No canonical address: matches no RIP.
const NOWHERE: Known = Known {
    rip: 1 << 63,
    to: BlockId {
        index: 0,
        generation: u32::MAX,
    },
    mode: Mode {
        code: CodeSize::Bits16,
        flat: false,
        user: false,
    },
    epoch: 0,
};

/// Where a linear RIP leads.
pub(crate) enum Jump {
    /// To this block.
    To(BlockId),
    /// To this block, before translations changed.
    Stale(BlockId),
    /// That is not known.
    Unknown,
}

/// All blocks of one processor.
pub(crate) struct Blocks {
    arena: Vec<Block>,
    /// Beside each block of the arena.
    origins: Vec<Origin>,
    free: Vec<u32>,
    by_key: Map<Key, u32>,
    /// Blocks by guest page number.
    by_page: Map<u64, Vec<u32>>,
    jumps: Box<[Known; JUMPS]>,
    /// Counts by two the times translations changed: those that are not global, and global ones.
    epochs: [u32; 2],
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            origins: Vec::new(),
            free: Vec::new(),
            by_key: Map::default(),
            by_page: Map::default(),
            jumps: Box::new([NOWHERE; JUMPS]),
            epochs: EPOCHS,
        }
    }
}

fn jump_slot(rip: u64) -> usize {
    (rip ^ rip >> 13) as usize % JUMPS
}

impl Blocks {
    /// The block at a place that [`BlockId::index`] or [`Blocks::linked`] gave.
    #[inline(always)]
    pub(crate) fn at(&self, index: u32) -> &Block {
        &self.arena[index as usize]
    }

    /// The name of the block at a place.
    pub(crate) fn id(&self, index: u32) -> BlockId {
        BlockId {
            index,
            generation: self.at(index).generation,
        }
    }

    /// What a block was made of.
    pub(crate) fn origin(&self, id: BlockId) -> &Origin {
        &self.origins[id.index as usize]
    }

    fn alive(&self, id: BlockId) -> bool {
        self.arena
            .get(id.index as usize)
            .is_some_and(|b| b.generation == id.generation)
    }

    /// The place of the block that followed this one, entered at linear RIP `linear`, last time it
    /// ended `delta` bytes on.
    #[inline(always)]
    pub(crate) fn linked(
        &self,
        from: &Block,
        delta: u64,
        linear: impl FnOnce() -> u64,
    ) -> Option<u32> {
        let link = from
            .links
            .iter()
            .find(|link| i64::from(link.delta) as u64 == delta)?;
        let holds =
            link.epoch == ALWAYS || self.epochs.contains(&link.epoch) && from.linear == linear();
        holds.then_some(link.to)
    }

    /// Remembers that `to`, in the same mode, followed `from`, entered at linear RIP `linear`, at
    /// `delta`; whether its pages are `global`. Links inside a page die with what they lead to, see [`Blocks::drop_written`], others
    /// with the epoch.
    pub(crate) fn link(
        &mut self,
        from: BlockId,
        linear: u64,
        delta: u64,
        to: BlockId,
        global: bool,
    ) {
        let Ok(near) = i32::try_from(delta as i64) else {
            return;
        };
        if !self.alive(from) || !self.alive(to) {
            return;
        }
        let origins = [from, to].map(|id| self.origins[id.index as usize]);
        if !origins[0].shape.linkable || origins[0].mode != origins[1].mode {
            return;
        }
        let same_page = linear >> 12 == linear.wrapping_add(delta) >> 12;
        if same_page && origins[0].physical >> 12 != origins[1].physical >> 12 {
            return;
        }
        // What goes on in another page is not in the same one.
        let same_page = same_page && origins[1].second.is_none();
        let epoch = if same_page {
            ALWAYS
        } else {
            self.epochs[usize::from(global)]
        };
        let block = &mut self.arena[from.index as usize];
        if !same_page && block.linear != linear {
            block.linear = linear;
            for link in &mut block.links {
                if link.epoch != ALWAYS {
                    *link = UNLINKED;
                }
            }
        }
        let stale = block.links.iter().position(|link| link.delta == near);
        block.links[..=stale.unwrap_or(2)].rotate_right(1);
        block.links[0] = Link {
            delta: near,
            to: to.index,
            epoch,
        };
    }

    /// Where this linear RIP led last time.
    #[inline(always)]
    pub(crate) fn jump(&self, rip: u64, mode: Mode) -> Jump {
        let known = &self.jumps[jump_slot(rip)];
        if known.rip != rip || known.mode != mode || !self.alive(known.to) {
            Jump::Unknown
        } else if self.epochs.contains(&known.epoch) {
            Jump::To(known.to)
        } else {
            Jump::Stale(known.to)
        }
    }

    /// Remembers where linear RIP `rip` leads; whether to `global` pages.
    pub(crate) fn set_jump(&mut self, rip: u64, mode: Mode, to: BlockId, global: bool) {
        self.jumps[jump_slot(rip)] = Known {
            rip,
            to,
            mode,
            epoch: self.epochs[usize::from(global)],
        };
    }

    /// Translations of code addresses changed: the jump cache is stale, and links between pages.
    pub(crate) fn forget_jumps(&mut self, which: Forget) {
        if which != Forget::None {
            self.epochs[0] += 2;
        }
        if which == Forget::All {
            self.epochs[1] += 2;
        }
        // Entries must not seem new again.
        if self.epochs.iter().any(|&epoch| epoch >= NEVER - 1) {
            self.clear_all();
            self.epochs = EPOCHS;
        }
    }

    /// The block at a physical address.
    pub(crate) fn find(&self, physical: u64, mode: Mode) -> Option<BlockId> {
        let &index = self.by_key.get(&(physical, mode))?;
        Some(self.id(index))
    }

    /// Keeps a block.
    pub(crate) fn insert(&mut self, insns: Vec<Insn>, origin: Origin) -> BlockId {
        if self.by_key.len() >= MOST_BLOCKS {
            self.clear();
        }
        let block = Block {
            insns: insns.into_boxed_slice(),
            links: [UNLINKED; 3],
            generation: 0,
            linear: 0,
        };
        let index = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.arena[index as usize];
                let generation = slot.generation;
                *slot = Block {
                    generation,
                    ..block
                };
                self.origins[index as usize] = origin;
                index
            }
            None => {
                self.arena.push(block);
                self.origins.push(origin);
                self.arena.len() as u32 - 1
            }
        };
        self.by_key.insert((origin.physical, origin.mode), index);
        for page in origin.pages() {
            self.by_page.entry(page).or_default().push(index);
        }
        self.id(index)
    }

    fn drop_block(&mut self, index: u32) {
        let block = &mut self.arena[index as usize];
        block.generation = block.generation.wrapping_add(1) & 0x7FFF_FFFF;
        block.insns = Box::default();
        block.links = [UNLINKED; 3];
        let origin = self.origins[index as usize];
        self.by_key.remove(&(origin.physical, origin.mode));
        self.free.push(index);
    }

    /// Drops the blocks a write touched; returns the 64-byte granules of the page that still hold
    /// code.
    pub(crate) fn drop_written(&mut self, write: CodeWrite) -> u64 {
        let page = write.address >> 12;
        let Some(mut list) = self.by_page.remove(&page) else {
            return 0;
        };
        let (first, end) = (write.address, write.address + write.len);
        let mut granules = 0;
        list.retain(|&index| {
            let origin = self.origins[index as usize];
            let (from, len) = origin.part_in(page);
            if from < end && first < from + u64::from(len) {
                self.drop_block(index);
                // The list of this page is not in its place now.
                origin.pages().for_each(|page| self.unlist(index, page));
                return false;
            }
            granules |= granules_of(from, len);
            true
        });
        // Links from other pages to what is gone die with the epoch; those inside the page do not.
        self.forget_jumps(Forget::All);
        for &index in &list {
            self.arena[index as usize].links = [UNLINKED; 3];
        }
        if !list.is_empty() {
            self.by_page.insert(page, list);
        }
        granules
    }

    /// Drops a block: its second page is another now.
    pub(crate) fn drop_crossing(&mut self, id: BlockId) {
        let origin = *self.origin(id);
        self.drop_block(id.index);
        origin.pages().for_each(|page| self.unlist(id.index, page));
    }

    fn unlist(&mut self, index: u32, page: u64) {
        if let Some(list) = self.by_page.get_mut(&page) {
            list.retain(|&other| other != index);
        }
    }

    /// Drops everything; names handed out before are dead.
    pub(crate) fn clear(&mut self) {
        self.clear_all();
        self.forget_jumps(Forget::All);
    }

    fn clear_all(&mut self) {
        let all: Vec<u32> = self.by_key.values().copied().collect();
        for index in all {
            self.drop_block(index);
        }
        self.by_page.clear();
        self.jumps.fill(NOWHERE);
    }
}

/// What a block's end is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Length in bytes.
    pub len: u16,
    /// Successors may be linked: no instruction can have changed the mode.
    pub linkable: bool,
}

/// The 64-byte granules of its page that `len` bytes at `physical` touch, one bit each.
pub(crate) fn granules_of(physical: u64, len: u16) -> u64 {
    let first = physical % 4096 / 64;
    let last = (physical % 4096 + u64::from(len.max(1)) - 1).min(4095) / 64;
    u64::MAX << first & u64::MAX >> (63 - last)
}
