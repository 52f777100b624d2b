//! The translation look-aside buffer: linear page to host address, and of code to physical address.
//!
//! Direct-mapped, in one table for each pair of privilege and access kind, so that a hit means the
//! access is allowed. SDM Vol. 3A, "Caching Translation Information".

use super::Access;

/// Entries in each table.
const SIZE: usize = 1024;
/// A tag that no address compares equal to: page addresses have twelve low zero bits, and an
/// unaligned address keeps only bits below its width ([`Tlb::aligned`]).
const INVALID: u64 = 1 << 11;
/// Large pages remembered for INVLPG; one more, and everything is dropped.
const MOST_LARGE: usize = 64;

/// Who accesses: chooses the tables. The number is the first slot of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Privilege {
    /// CPL 0 to 2 with SMAP in force (or implicit system accesses).
    Supervisor = 0,
    /// CPL 3.
    User = OF_ONE,
    /// CPL 0 to 2 with EFLAGS.AC set: SMAP is suspended.
    SupervisorAc = 2 * OF_ONE,
    /// CPL 3 with alignment checking: never filled, so that every access is looked at.
    UserAligned = 3 * OF_ONE,
}

const PRIVILEGES: usize = 4;
const KINDS: usize = 3;
/// Slots in the tables of one privilege.
const OF_ONE: u16 = (SIZE * KINDS) as u16;

/// One cached linear-to-host translation.
///
/// Keyed by linear page and by table, never by CR3: MOV to CR3 drops the entries without G
/// instead (SDM Vol. 3A, "Operations that Invalidate TLBs and Paging-Structure Caches").
/// There is no entry for MMIO, for pages whose writes must be seen because code was translated
/// from them, and for pages with data breakpoints: all take the slow path in `access.rs`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    /// Linear page address, or [`INVALID`].
    tag: u64,
    /// Host address minus linear address; for instruction fetch, physical address minus linear one.
    addend: u64,
}

/// All slots of all tables.
const SLOTS: usize = SIZE * KINDS * PRIVILEGES;

/// A writable page that holds code: writes to it must be seen, but need no walk each.
#[derive(Clone, Copy, Debug)]
struct NearCode {
    /// Linear page address, or [`INVALID`].
    tag: u64,
    privilege: Privilege,
    /// Host address minus linear address.
    addend: u64,
    /// Physical address minus linear address.
    physical: u64,
}

/// Entries for pages that hold code.
const NEAR: usize = 64;
const NOT_NEAR: NearCode = NearCode {
    tag: INVALID,
    privilege: Privilege::Supervisor,
    addend: 0,
    physical: 0,
};

/// The tables, and which entries are in use, so that a flush costs what was filled.
#[repr(C)]
pub struct Tlb {
    entries: Box<[Entry; SLOTS]>,
    /// Whether the slot's page is global; meaningless for empty slots.
    global: Box<[bool; SLOTS]>,
    /// Slots that may be filled; each filled slot is listed at least once.
    filled: Vec<u16>,
    /// Large pages of which 4 KiB pieces may be cached: address and size as a power of two.
    large: Vec<(u64, u32)>,
    near_code: Box<[NearCode; NEAR]>,
    /// Whether any of those is in use.
    near_used: bool,
    /// Pages that code was fetched from, by translations that are not global and by global ones.
    fetched: Box<[Pages; 2]>,
    /// A large page may have been forgotten that code was fetched from.
    forgotten: bool,
}

/// A set of pages: bits by a hash of the page's number, so that it may hold more than was added.
struct Pages([u64; Self::WORDS]);

impl Pages {
    const WORDS: usize = 128;

    fn bit(linear: u64) -> (usize, u64) {
        let page = linear >> 12;
        let bit = (page ^ page >> 13) as usize % (64 * Self::WORDS);
        (bit / 64, 1 << (bit % 64))
    }

    fn add(&mut self, linear: u64) {
        let (word, bit) = Self::bit(linear);
        self.0[word] |= bit;
    }

    fn holds(&self, linear: u64) -> bool {
        let (word, bit) = Self::bit(linear);
        self.0[word] & bit != 0
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

impl Default for Tlb {
    fn default() -> Self {
        let empty = Entry {
            tag: INVALID,
            addend: 0,
        };
        Self {
            entries: Box::new([empty; SLOTS]),
            global: Box::new([false; SLOTS]),
            filled: Vec::with_capacity(SLOTS),
            large: Vec::new(),
            near_code: Box::new([NOT_NEAR; NEAR]),
            near_used: false,
            fetched: Box::new([const { Pages([0; Pages::WORDS]) }; 2]),
            forgotten: false,
        }
    }
}

#[inline(always)]
fn index(privilege: Privilege, access: Access, linear: u64) -> usize {
    privilege as usize + access as usize * SIZE + (linear >> 12) as usize % SIZE
}

impl Tlb {
    /// The host address of an access of `width` bytes (a power of two) that is aligned and whose
    /// page is cached with the rights it needs.
    #[inline(always)]
    pub fn aligned(
        &self,
        privilege: Privilege,
        access: Access,
        linear: u64,
        width: usize,
    ) -> Option<*mut u8> {
        let entry = &self.entries[index(privilege, access, linear)];
        // An unaligned address keeps a low bit here, and no tag has one.
        (linear & (!0xFFF | (width as u64 - 1)) == entry.tag).then(|| host(entry, linear))
    }

    /// Host and physical address of `linear`, if its page is known to be writable and to hold code, or
    /// to have held some.
    pub fn near_code(&self, privilege: Privilege, linear: u64) -> Option<(*mut u8, u64)> {
        let entry = &self.near_code[(linear >> 12) as usize % NEAR];
        let hit = entry.tag == linear & !0xFFF && entry.privilege == privilege;
        hit.then(|| {
            let host = linear.wrapping_add(entry.addend) as usize;
            let physical = linear.wrapping_add(entry.physical);
            (std::ptr::with_exposed_provenance_mut(host), physical)
        })
    }

    /// Notes a writable page that holds code.
    pub fn fill_near_code(
        &mut self,
        privilege: Privilege,
        linear: u64,
        host: *mut u8,
        physical: u64,
    ) {
        self.near_used = true;
        self.near_code[(linear >> 12) as usize % NEAR] = NearCode {
            tag: linear & !0xFFF,
            privilege,
            addend: (host.expose_provenance() as u64).wrapping_sub(linear),
            physical: physical.wrapping_sub(linear),
        };
    }

    fn flush_near_code(&mut self) {
        if std::mem::take(&mut self.near_used) {
            self.near_code.fill(NOT_NEAR);
        }
    }

    /// The host address of `linear` if its page is cached with the rights it needs.
    #[inline(always)]
    pub fn page(&self, privilege: Privilege, access: Access, linear: u64) -> Option<*mut u8> {
        self.aligned(privilege, access, linear, 1)
    }

    /// Caches the page of `linear`, whose first byte is at `page_host`.
    pub fn fill(
        &mut self,
        privilege: Privilege,
        access: Access,
        linear: u64,
        page_host: *mut u8,
        global: bool,
    ) {
        let page_host = page_host.expose_provenance() as u64;
        self.put(privilege, access, linear, page_host, global);
    }

    /// The physical address of code at `linear`, if its page is cached.
    #[inline(always)]
    pub fn code(&self, privilege: Privilege, linear: u64) -> Option<u64> {
        let entry = &self.entries[index(privilege, Access::Execute, linear)];
        (linear & !0xFFF == entry.tag).then(|| linear.wrapping_add(entry.addend))
    }

    /// Caches the page of code at `linear`, which is memory at `physical`.
    pub fn fill_code(&mut self, privilege: Privilege, linear: u64, physical: u64, global: bool) {
        let page = physical & !0xFFF;
        self.put(privilege, Access::Execute, linear, page, global);
        self.fetched[usize::from(global)].add(linear);
    }

    /// Whether code at `linear` is cached by a global translation.
    pub fn code_is_global(&self, privilege: Privilege, linear: u64) -> bool {
        let at = index(privilege, Access::Execute, linear);
        self.entries[at].tag == linear & !0xFFF && self.global[at]
    }

    fn put(
        &mut self,
        privilege: Privilege,
        access: Access,
        linear: u64,
        target: u64,
        global: bool,
    ) {
        let at = index(privilege, access, linear);
        if self.filled.len() == SLOTS {
            self.drop_all();
        }
        let page = linear & !0xFFF;
        let entry = &mut self.entries[at];
        if entry.tag == INVALID {
            self.filled.push(at as u16);
        }
        *entry = Entry {
            tag: page,
            addend: target.wrapping_sub(page),
        };
        self.global[at] = global;
    }

    /// Notes that `linear` lies in a page of 2^`shift` bytes: INVLPG for any of it drops all of it.
    /// SDM Vol. 3A, "Details of TLB Use".
    pub fn note_large(&mut self, linear: u64, shift: u32) {
        let page = linear >> shift << shift;
        if self.large.contains(&(page, shift)) {
            return;
        }
        if self.large.len() == MOST_LARGE {
            self.drop_all();
        }
        self.large.push((page, shift));
    }

    /// Drops everything; where code was fetched from no longer matters.
    pub fn flush(&mut self) {
        self.drop_all();
        self.fetched.iter_mut().for_each(Pages::clear);
        self.forgotten = false;
    }

    /// Drops every entry, but jumps by them stay known.
    fn drop_all(&mut self) {
        self.forgotten = true;
        self.flush_near_code();
        self.large.clear();
        for at in self.filled.drain(..) {
            self.entries[usize::from(at)].tag = INVALID;
        }
    }

    /// Drops all but global pages (MOV to CR3).
    pub fn flush_non_global(&mut self) {
        self.flush_near_code();
        self.fetched[0].clear();
        let Self {
            entries,
            global,
            filled,
            ..
        } = self;
        filled.retain(|&at| {
            let at = usize::from(at);
            if !global[at] {
                entries[at].tag = INVALID;
            }
            entries[at].tag != INVALID
        });
    }

    /// Whether code may have been fetched by a translation that [`Tlb::flush_page`] drops, or has
    /// dropped.
    pub fn fetched_from(&self, linear: u64) -> bool {
        self.forgotten
            || self.large_page(linear).is_some()
            || self.fetched.iter().any(|pages| pages.holds(linear))
    }

    /// No jump by a translation that was dropped is known any more.
    pub fn jumps_forgotten(&mut self) {
        self.forgotten = false;
    }

    /// The large page that holds `linear`, if pieces of it may be cached.
    fn large_page(&self, linear: u64) -> Option<(u64, u32)> {
        let holds = |&&(page, shift): &&(u64, u32)| linear >> shift << shift == page;
        self.large.iter().find(holds).copied()
    }

    /// Drops one page, global or not (INVLPG, page faults).
    pub fn flush_page(&mut self, linear: u64) {
        self.flush_near_code();
        if let Some((page, shift)) = self.large_page(linear) {
            self.large.retain(|&other| other != (page, shift));
            self.forgotten = true;
            for &at in &self.filled {
                let entry = &mut self.entries[usize::from(at)];
                if entry.tag >> shift << shift == page {
                    entry.tag = INVALID;
                }
            }
        }
        let page = linear & !0xFFF;
        let set = (linear >> 12) as usize % SIZE;
        for table in self.entries.chunks_exact_mut(SIZE) {
            if table[set].tag == page {
                table[set].tag = INVALID;
            }
        }
    }

    /// Drops the write entries whose host page is `page_host`: that page now holds code.
    pub fn protect(&mut self, page_host: *mut u8) {
        for &at in &self.filled {
            let entry = &mut self.entries[usize::from(at)];
            let is_write = usize::from(at) / SIZE % KINDS == Access::Write as usize;
            if is_write && entry.tag != INVALID && host(entry, entry.tag) == page_host {
                entry.tag = INVALID;
            }
        }
    }
}

#[inline(always)]
fn host(entry: &Entry, linear: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(linear.wrapping_add(entry.addend) as usize)
}
