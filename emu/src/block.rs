//! Basic blocks: decoded instructions kept beside the CPU, found by physical address and mode.
//!
//! A block ends at the page end at the latest; an instruction across two pages is a block of its
//! own that is not kept. Blocks of a page die when a write touches the bytes they came from.

use crate::cpu::{CodeSize, CodeWrite, Mode};
use crate::decode::Insn;
use crate::map::Map;

/// Names a block in the arena; a dropped block's name may be used again, with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockId {
    index: u32,
    generation: u32,
}

/// A successor found before, in the same mode.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Distance of the successor's RIP from this block's.
    delta: u64,
    /// The successor's linear RIP, if it lies in another page.
    rip: u64,
    to: u32,
    /// When it was found so; [`ALWAYS`] in the same page.
    epoch: u32,
}

/// No two canonical addresses are this far apart.
const UNLINKED: Link = Link {
    delta: 1 << 63,
    rip: 0,
    to: 0,
    epoch: ALWAYS,
};

/// The epoch of what no change of translations makes stale.
const ALWAYS: u32 = u32::MAX;

/// A straight run of instructions; conditional branches may leave it early. What the loop looks at
/// lies in one cache line.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// The instructions.
    pub insns: Box<[Insn]>,
    /// Where its first byte lies.
    pub physical: u64,
    generation: u32,
    /// Length in bytes.
    pub len: u16,
    mode: Mode,
    /// Successors in the same page may be linked: no instruction can have changed the mode.
    linkable: bool,
    links: [Link; 3],
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
    free: Vec<u32>,
    by_key: Map<Key, u32>,
    /// Blocks by guest page number.
    by_page: Map<u64, Vec<u32>>,
    jumps: Box<[Known; JUMPS]>,
    /// Counts the times translations changed.
    epoch: u32,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            free: Vec::new(),
            by_key: Map::default(),
            by_page: Map::default(),
            jumps: Box::new([NOWHERE; JUMPS]),
            epoch: 0,
        }
    }
}

fn jump_slot(rip: u64) -> usize {
    (rip ^ rip >> 13) as usize % JUMPS
}

impl Blocks {
    #[inline(always)]
    pub(crate) fn get(&self, id: BlockId) -> &Block {
        &self.arena[id.index as usize]
    }

    fn alive(&self, id: BlockId) -> bool {
        self.arena
            .get(id.index as usize)
            .is_some_and(|b| b.generation == id.generation)
    }

    /// The block that followed `from` last time it ended `delta` bytes on, at linear RIP `rip`.
    #[inline(always)]
    pub(crate) fn linked(&self, from: BlockId, delta: u64, rip: u64) -> Option<BlockId> {
        let links = &self.get(from).links;
        let link = links.iter().find(|l| l.delta == delta)?;
        let holds = link.epoch == ALWAYS || link.epoch == self.epoch && link.rip == rip;
        holds.then(|| BlockId {
            index: link.to,
            generation: self.arena[link.to as usize].generation,
        })
    }

    /// Remembers that `to`, in the same mode, followed `from` at `delta` and linear RIP `rip`; whether
    /// it lies in the same page. Links inside a page die with what they lead to, see
    /// [`Blocks::drop_written`], others with the epoch.
    pub(crate) fn link(&mut self, from: BlockId, delta: u64, to: BlockId, at: Target) {
        if !self.alive(from) || !self.alive(to) {
            return;
        }
        let (page, mode) = (self.get(to).physical >> 12, self.get(to).mode);
        let epoch = if at.same_page { ALWAYS } else { self.epoch };
        let block = &mut self.arena[from.index as usize];
        let fits = block.linkable && (!at.same_page || block.physical >> 12 == page);
        if fits && block.mode == mode {
            let stale = block.links.iter().position(|l| l.delta == delta);
            block.links[..=stale.unwrap_or(2)].rotate_right(1);
            block.links[0] = Link {
                delta,
                rip: at.rip,
                to: to.index,
                epoch,
            };
        }
    }

    /// Where this linear RIP led last time.
    #[inline(always)]
    pub(crate) fn jump(&self, rip: u64, mode: Mode) -> Jump {
        let known = &self.jumps[jump_slot(rip)];
        if known.rip != rip || known.mode != mode || !self.alive(known.to) {
            Jump::Unknown
        } else if known.epoch == self.epoch {
            Jump::To(known.to)
        } else {
            Jump::Stale(known.to)
        }
    }

    /// Remembers where linear RIP `rip` leads.
    pub(crate) fn set_jump(&mut self, rip: u64, mode: Mode, to: BlockId) {
        self.jumps[jump_slot(rip)] = Known {
            rip,
            to,
            mode,
            epoch: self.epoch,
        };
    }

    /// Translations of code addresses changed: the jump cache is stale, and links between pages.
    pub(crate) fn forget_jumps(&mut self) {
        self.epoch += 1;
        // Entries must not seem new again.
        if self.epoch == ALWAYS {
            self.clear_all();
            self.epoch = 0;
        }
    }

    /// The block at a physical address.
    pub(crate) fn find(&self, physical: u64, mode: Mode) -> Option<BlockId> {
        let &index = self.by_key.get(&(physical, mode))?;
        Some(BlockId {
            index,
            generation: self.arena[index as usize].generation,
        })
    }

    /// Keeps a block.
    pub(crate) fn insert(
        &mut self,
        physical: u64,
        mode: Mode,
        insns: Vec<Insn>,
        shape: Shape,
    ) -> BlockId {
        if self.by_key.len() >= MOST_BLOCKS {
            self.clear();
        }
        let block = Block {
            insns: insns.into_boxed_slice(),
            links: [UNLINKED; 3],
            len: shape.len,
            linkable: shape.linkable,
            generation: 0,
            physical,
            mode,
        };
        let index = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.arena[index as usize];
                let generation = slot.generation;
                *slot = Block {
                    generation,
                    ..block
                };
                index
            }
            None => {
                self.arena.push(block);
                self.arena.len() as u32 - 1
            }
        };
        self.by_key.insert((physical, mode), index);
        self.by_page.entry(physical >> 12).or_default().push(index);
        BlockId {
            index,
            generation: self.arena[index as usize].generation,
        }
    }

    fn drop_block(&mut self, index: u32) {
        let block = &mut self.arena[index as usize];
        block.generation = block.generation.wrapping_add(1) & 0x7FFF_FFFF;
        block.insns = Box::default();
        block.links = [UNLINKED; 3];
        self.by_key.remove(&(block.physical, block.mode));
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
            let block = &self.arena[index as usize];
            let (from, to) = (block.physical, block.physical + u64::from(block.len));
            if from < end && first < to {
                self.drop_block(index);
                return false;
            }
            granules |= granules_of(from, block.len);
            true
        });
        // Links from other pages to what is gone die with the epoch; those inside the page do not.
        self.forget_jumps();
        for &index in &list {
            self.arena[index as usize].links = [UNLINKED; 3];
        }
        if !list.is_empty() {
            self.by_page.insert(page, list);
        }
        granules
    }

    /// Drops everything; names handed out before are dead.
    pub(crate) fn clear(&mut self) {
        self.clear_all();
        self.forget_jumps();
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

/// Where a block that is linked to begins.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Its linear RIP.
    pub rip: u64,
    /// In the linear page of the block that leads to it.
    pub same_page: bool,
}

/// What a block's end is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub len: u16,
    pub linkable: bool,
}

/// The 64-byte granules of its page that `len` bytes at `physical` touch, one bit each.
pub(crate) fn granules_of(physical: u64, len: u16) -> u64 {
    let first = physical % 4096 / 64;
    let last = (physical % 4096 + u64::from(len.max(1)) - 1).min(4095) / 64;
    u64::MAX << first & u64::MAX >> (63 - last)
}
