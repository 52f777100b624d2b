//! Guest memory as a debugger sees it: by linear address, without faults, without a trace in accessed
//! and dirty bits, without an effect on devices.
//!
//! SDM Vol. 3A, chapter "Paging". The CPU's own walk (`emu`) checks rights and sets bits; this one only
//! looks, on both engines. What is no memory (a device's registers, nothing at all) is neither read nor written.
//!
//! A [`Memory`] is made on the machine's thread, of the map and the state it has then; it can be used on
//! any thread, while the machine runs on.

use std::sync::Arc;

use accel::CpuState;
use devices::memory_map::{MemoryMap, Target, View};
use emu::arch::{Cr0, Cr4, Efer};

/// Entry bit: present.
pub const PRESENT: u64 = 1 << 0;
/// Entry bit: maps a large page.
const LARGE: u64 = 1 << 7;
/// Address bits of an entry of 64 bits.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// The address bit that the A20 gate masks.
const A20: u64 = 1 << 20;
/// Bytes of the smallest page.
const PAGE: u64 = 4096;

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its first linear address.
    pub linear: u64,
    /// Its first physical address.
    pub physical: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its entry, as it lies in the table.
    pub entry: u64,
    /// The bits writable, user (and no-execute, bit 63) of all levels together: a page is writable or
    /// for the user if every level says so, not executable if one says so.
    pub rights: u64,
}

/// One level of the tables: how many address bits an entry covers below it.
struct Level {
    shift: u32,
    /// Address bits that choose an entry.
    bits: u32,
    /// Whether an entry may map a page.
    large: bool,
}

/// Guest memory under the paging of a processor's state.
#[derive(Clone)]
pub struct Memory {
    map: Arc<MemoryMap>,
    smm: bool,
    /// Address bits that reach the bus.
    a20_mask: u64,
    /// Linear addresses end here.
    last: u64,
    /// The registers that stand for the first level of PAE paging.
    pdpte: Option<[u64; 4]>,
    levels: &'static [Level],
    entry_bytes: u64,
    root: u64,
}

const LEVELS_32: &[Level] = &[level(22, 10, false), level(12, 10, false)];
const LEVELS_32_PSE: &[Level] = &[level(22, 10, true), level(12, 10, false)];
const LEVELS_PAE: &[Level] = &[level(30, 2, false), level(21, 9, true), level(12, 9, false)];
const LEVELS_LONG: &[Level] = &[
    level(39, 9, false),
    level(30, 9, true),
    level(21, 9, true),
    level(12, 9, false),
];

const fn level(shift: u32, bits: u32, large: bool) -> Level {
    Level { shift, bits, large }
}

/// Entry bits: writable, user.
const ALLOWING: u64 = 6;
/// Entry bit: no instruction fetch.
const NO_EXECUTE: u64 = 1 << 63;

impl Memory {
    /// The memory of `map` under the paging of `state`; the A20 gate is open ([`Memory::with_a20`]).
    pub fn new(map: Arc<MemoryMap>, state: &CpuState) -> Self {
        let (levels, entry_bytes, root): (&[Level], _, _) = if !state.cr0.contains(Cr0::PG) {
            (&[], 0, 0)
        } else if !state.cr4.contains(Cr4::PAE) {
            let pse = state.cr4.contains(Cr4::PSE);
            let levels = if pse { LEVELS_32_PSE } else { LEVELS_32 };
            (levels, 4, state.cr3 & 0xFFFF_F000)
        } else if state.efer.contains(Efer::LMA) {
            (LEVELS_LONG, 8, state.cr3 & ADDRESS)
        } else {
            (LEVELS_PAE, 8, state.cr3 & 0xFFFF_FFE0)
        };
        let long = state.efer.contains(Efer::LMA);
        let is_pae = levels.len() == LEVELS_PAE.len();
        Self {
            map,
            smm: state.smm,
            a20_mask: u64::MAX,
            last: if long { u64::MAX } else { u32::MAX.into() },
            pdpte: is_pae.then_some(state.pdpte),
            levels,
            entry_bytes,
            root,
        }
    }

    /// The physical memory of `map`: every address is its own.
    pub fn physical(map: Arc<MemoryMap>) -> Self {
        Self {
            map,
            smm: false,
            a20_mask: u64::MAX,
            last: u64::MAX,
            pdpte: None,
            levels: &[],
            entry_bytes: 0,
            root: 0,
        }
    }

    /// The same with the A20 gate open or shut.
    #[must_use]
    pub fn with_a20(mut self, open: bool) -> Self {
        self.a20_mask = if open { u64::MAX } else { !A20 };
        self
    }

    fn view(&self) -> &View {
        if self.smm {
            self.map.smm()
        } else {
            self.map.cpu()
        }
    }

    /// Whether linear addresses are translated.
    pub fn paged(&self) -> bool {
        !self.levels.is_empty()
    }

    /// The physical address behind a linear one, if its page is present.
    pub fn translate(&self, linear: u64) -> Option<u64> {
        let page = self.page(linear)?;
        Some(page.physical + (linear - page.linear))
    }

    /// The page that holds a linear address, if it is present. Without paging, every page is there.
    pub fn page(&self, linear: u64) -> Option<Page> {
        if linear > self.last || canonical(linear, self.levels) != linear {
            return None;
        }
        if !self.paged() {
            let linear = linear & !(PAGE - 1);
            return Some(Page {
                linear,
                physical: linear,
                size: PAGE,
                entry: PRESENT | ALLOWING,
                rights: ALLOWING,
            });
        }
        let (mut table, mut rights) = (self.root, ALLOWING);
        for level in self.levels {
            let index = linear >> level.shift & ((1 << level.bits) - 1);
            let entry = self.entry(level, table, index)?;
            rights = self.combined(rights, entry, level);
            if level.shift == 12 || level.large && entry & LARGE != 0 {
                return Some(self.mapped(linear, entry, rights, level));
            }
            table = entry & ADDRESS;
        }
        None
    }

    /// Calls `f` with every page that is present, in ascending order of the tables' indices, until it
    /// returns false or [`MOST_TABLES`] tables have been read: a guest's tables may lead to each other, and a
    /// walk to its end then takes hours. Returns whether all was walked.
    pub fn pages(&self, mut f: impl FnMut(Page) -> bool) -> bool {
        let mut walk = Walk {
            tables_left: MOST_TABLES,
            f: &mut f,
        };
        !self.paged() || self.walk(&mut walk, self.levels, self.root, (0, ALLOWING))
    }

    fn walk(
        &self,
        walk: &mut Walk<'_>,
        levels: &[Level],
        table: u64,
        (linear, rights): (u64, u64),
    ) -> bool {
        let Some((level, below)) = levels.split_first() else {
            return true;
        };
        let Some(left) = walk.tables_left.checked_sub(1) else {
            return false;
        };
        walk.tables_left = left;
        for index in 0..1 << level.bits {
            let Some(entry) = self.entry(level, table, index) else {
                continue;
            };
            let linear = canonical(linear | index << level.shift, self.levels);
            let rights = self.combined(rights, entry, level);
            let is_page = level.shift == 12 || level.large && entry & LARGE != 0;
            let goes_on = if is_page {
                (walk.f)(self.mapped(linear, entry, rights, level))
            } else {
                self.walk(walk, below, entry & ADDRESS, (linear, rights))
            };
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Entry `index` of a table, if it is present.
    fn entry(&self, level: &Level, table: u64, index: u64) -> Option<u64> {
        let entry = match &self.pdpte {
            // The first level of PAE paging is in registers: it is not read again at each walk.
            Some(registers) if level.bits == 2 => registers[(index & 3) as usize],
            _ => {
                let mut bytes = [0; 8];
                let width = self.entry_bytes as usize;
                let at = (table + index * self.entry_bytes) & self.a20_mask;
                self.memory_at(at)?;
                self.view().read(at, &mut bytes[..width]);
                u64::from_le_bytes(bytes)
            }
        };
        (entry & PRESENT != 0).then_some(entry)
    }

    /// Whether memory answers at a physical address.
    fn memory_at(&self, physical: u64) -> Option<()> {
        let range = self.view().find(physical)?;
        matches!(range.target, Target::Block { .. }).then_some(())
    }

    /// The rights of a page under `entry`. PAE's page-directory-pointer entries have none.
    fn combined(&self, rights: u64, entry: u64, level: &Level) -> u64 {
        if level.bits == 2 {
            return rights;
        }
        rights & (entry | !ALLOWING) | entry & NO_EXECUTE
    }

    fn mapped(&self, linear: u64, entry: u64, rights: u64, level: &Level) -> Page {
        let size = 1 << level.shift;
        let high = if level.shift == 22 {
            // PSE-36: SDM Vol. 3A, "32-Bit Paging".
            (entry >> 13 & 0xFF) << 32
        } else {
            0
        };
        let address = if self.entry_bytes == 4 {
            entry & 0xFFFF_F000
        } else {
            entry & ADDRESS
        };
        Page {
            linear: linear & !(size - 1),
            physical: address & !(size - 1) | high,
            size,
            entry,
            rights,
        }
    }

    /// Reads at a linear address; returns how many bytes could be read before a page that is not there, or
    /// is no memory.
    pub fn read(&self, linear: u64, data: &mut [u8]) -> usize {
        self.each_page(linear, data.len(), |physical, part| {
            self.view().read(physical, &mut data[part]);
        })
    }

    /// Writes at a linear address, past every write protection but a ROM's; returns how many bytes
    /// were written before a page that is not there, or is no memory.
    pub fn write(&self, linear: u64, data: &[u8]) -> usize {
        self.each_page(linear, data.len(), |physical, part| {
            self.view().write(physical, &data[part]);
        })
    }

    /// Reads at a physical address; what is no memory reads as all ones.
    pub fn read_physical(&self, physical: u64, data: &mut [u8]) {
        data.fill(0xFF);
        self.map.bus_master().read(physical, data);
    }

    fn each_page(
        &self,
        linear: u64,
        len: usize,
        mut f: impl FnMut(u64, std::ops::Range<usize>),
    ) -> usize {
        let mut done = 0;
        while done < len {
            let at = linear.wrapping_add(done as u64);
            let physical = self.translate(at).map(|address| address & self.a20_mask);
            let memory = physical.filter(|address| self.memory_at(*address).is_some());
            let Some(physical) = memory else {
                break;
            };
            let left = (PAGE - at % PAGE) as usize;
            let part = done..len.min(done + left);
            done = part.end;
            f(physical, part);
        }
        done
    }
}

/// How many tables [`Memory::pages`] reads at most: enough for 128 GiB in small pages.
pub const MOST_TABLES: u32 = 1 << 16;

/// A walk under way.
struct Walk<'a> {
    tables_left: u32,
    f: &'a mut dyn FnMut(Page) -> bool,
}

/// A linear address made of the indices of `levels`, with its upper bits as the processor wants them.
fn canonical(linear: u64, levels: &[Level]) -> u64 {
    if levels.len() == 4 {
        ((linear << 16) as i64 >> 16) as u64
    } else {
        linear
    }
}

#[cfg(test)]
mod tests;
