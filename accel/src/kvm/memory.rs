//! Guest memory as KVM memory slots.
//!
//! The board's map becomes slots with the least change: ranges that stay the same keep their slot,
//! slots that are gone are deleted before new ones are made. A ROM is a read-only slot; a guest's
//! write to it comes out as an MMIO exit and goes on to the board, as on the software CPU: what is
//! read there and what is written may be different things (PAM).
//!
//! A20: KVM has no address mask. With A20 off, the first megabyte is shown a second time at 1 MiB,
//! which is all that real-mode code can see of the mask. The odd megabytes above 2 MiB are *not*
//! masked, and what lay at 1 MiB to 2 MiB is hidden until A20 is on again.
//!
//! A map that KVM refuses in part is refused whole: the slots go back to what they were.
//!
//! Written pages: KVM's log holds what the guest wrote to ranges with `log_dirty`, and is moved into
//! the blocks' marks when they are asked for, and before a slot goes.
//!
//! Not modelled: a change of the map is not atomic for other running vCPUs. One that touches a
//! slot between its deletion and its return gets an MMIO exit for what is RAM; such an access is
//! served here from host memory.

// UNSAFETY: KVM is handed host addresses, and accesses that raced with a change of the map are
// made through the blocks' host pointers.
#![expect(unsafe_code, reason = "memory slots are host addresses")]

use std::fs;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use emu::memory::{Block, DIRTY, MemoryMap, PAGE_SIZE, Range};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use super::host;
use crate::AccelError;

/// Where the second view of the first megabyte begins while A20 is off.
const ALIAS: u64 = 1 << 20;

/// One memory slot as KVM holds it.
#[derive(Debug)]
struct Slot {
    id: u32,
    range: Range,
}

/// The map and the slots that show it.
#[derive(Debug, Default)]
struct State {
    map: MemoryMap,
    slots: Vec<Slot>,
}

/// What lies behind an address that came out as an MMIO exit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The board's, at this address (A20 applied): a device, or a write to what is only read.
    Device(u64),
    /// Memory: the access has been done.
    Memory,
}

/// An MMIO access as KVM describes it.
#[derive(Debug)]
pub(super) enum Touch<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

/// The memory of one virtual machine.
#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
    /// The most slots.
    limit: usize,
    /// KVM has read-only slots.
    read_only: bool,
    /// KVM keeps shadows of the guest's page tables.
    shadows: bool,
}

/// Whether KVM keeps shadows of the guest's page tables: it has neither EPT nor NPT to use.
pub(super) fn shadows_page_tables() -> bool {
    let nested = ["kvm_intel/parameters/ept", "kvm_amd/parameters/npt"];
    let on = |name| {
        let value = fs::read_to_string(Path::new("/sys/module").join(name));
        value.is_ok_and(|value| ["Y", "1"].contains(&value.trim()))
    };
    !nested.into_iter().any(on)
}

impl Memory {
    /// No memory yet; see the fields.
    pub(super) fn new(limit: usize, read_only: bool, shadows: bool) -> Self {
        Self {
            state: Mutex::default(),
            limit,
            read_only,
            shadows,
        }
    }

    /// Makes KVM forget its shadows of page tables. It follows only the guest's own writes to those:
    /// after anybody else's, as the software CPU's, they are stale. The deletion of any slot drops
    /// them all (`KVM_X86_QUIRK_SLOT_ZAP_ALL`), which takes about a millisecond.
    pub(super) fn forget_shadows(&self, vm: &VmFd) -> Result<(), AccelError> {
        if !self.shadows {
            return Ok(());
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(any) = state.slots.first() else {
            return Ok(());
        };
        let ends = state.slots.iter().map(|s| s.range.start + s.range.len);
        let slot = Slot {
            id: free_id(&state.slots),
            range: Range {
                start: ends.max().unwrap_or(0),
                len: PAGE_SIZE,
                log_dirty: false,
                ..any.range.clone()
            },
        };
        self.create(vm, slot.id, &slot.range)?;
        delete(vm, &slot)
    }

    /// Makes the guest see `map`. On an error it sees the map before, if KVM takes that back.
    pub(super) fn set(&self, vm: &VmFd, map: MemoryMap) -> Result<(), AccelError> {
        let wanted = pieces(&map);
        if wanted.len() > self.limit {
            return Err(AccelError::Slots {
                needed: wanted.len(),
                limit: self.limit,
            });
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<Range> = state.slots.iter().map(|s| s.range.clone()).collect();
        if let Err(refused) = self.show(vm, &mut state.slots, wanted) {
            if let Err(error) = self.show(vm, &mut state.slots, before) {
                tracing::error!(target: "kvm", %error, "the slots of the map before are not all back");
            }
            return Err(refused);
        }
        state.map = map;
        Ok(())
    }

    /// Makes the slots those of `wanted`. What KVM refuses is left out of `slots`, which always says
    /// what there is; the first refusal is the error.
    fn show(
        &self,
        vm: &VmFd,
        slots: &mut Vec<Slot>,
        mut wanted: Vec<Range>,
    ) -> Result<(), AccelError> {
        let mut result = Ok(());
        slots.retain(|slot| {
            if let Some(found) = wanted.iter().position(|r| same(r, &slot.range)) {
                wanted.swap_remove(found);
                return true;
            }
            let deleted = delete(vm, slot);
            let stays = deleted.is_err();
            result = std::mem::replace(&mut result, Ok(())).and(deleted);
            stays
        });
        for range in wanted {
            let id = free_id(slots);
            match self.create(vm, id, &range) {
                Ok(()) => slots.push(Slot { id, range }),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Hands `range` to KVM as slot `id`.
    fn create(&self, vm: &VmFd, id: u32, range: &Range) -> Result<(), AccelError> {
        let mut flags = 0;
        if range.read_only && self.read_only {
            flags |= KVM_MEM_READONLY;
        }
        if range.log_dirty {
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        }
        let region = kvm_userspace_memory_region {
            slot: id,
            flags,
            guest_phys_addr: range.start,
            memory_size: range.len,
            userspace_addr: address(range).as_ptr().addr() as u64,
        };
        // SAFETY: `MemoryMap` has checked that the range lies inside its block; the block's owner
        // is kept in `State::slots` until the slot has been deleted.
        unsafe { vm.set_user_memory_region(region) }.map_err(host("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Serves an access that left the guest: by memory if the map says so, else says where the
    /// device is.
    pub(super) fn touch(&self, address: u64, touch: Touch<'_>) -> Behind {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let aliased = !state.map.a20() && (ALIAS..2 * ALIAS).contains(&address);
        let address = if aliased { address - ALIAS } else { address };
        let Some(range) = state.map.find(address) else {
            return Behind::Device(address);
        };
        match touch {
            Touch::Write(_) if range.read_only => return Behind::Device(address),
            Touch::Write(data) => {
                for (i, &byte) in data.iter().enumerate() {
                    if let Some(to) = byte_at(range, address + i as u64) {
                        // SAFETY: `byte_at` checked the offset against the range, which lies
                        // inside the block; `state` keeps the block alive.
                        unsafe { to.as_ptr().write_volatile(byte) };
                    }
                }
                mark(range, address);
            }
            Touch::Read(data) => {
                for (i, byte) in data.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *byte = byte_at(range, address + i as u64)
                        .map_or(0xFF, |from| unsafe { from.as_ptr().read_volatile() });
                }
            }
        }
        Behind::Memory
    }

    /// Moves KVM's dirty log into the blocks' marks ([`DIRTY`]).
    pub(super) fn collect_dirty(&self, vm: &VmFd) -> Result<(), AccelError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slots.iter().try_for_each(|slot| collect(vm, slot))
    }
}

/// Removes a slot, with its dirty log read for the last time.
fn delete(vm: &VmFd, slot: &Slot) -> Result<(), AccelError> {
    collect(vm, slot)?;
    let region = kvm_userspace_memory_region {
        slot: slot.id,
        ..Default::default()
    };
    // SAFETY: a size of zero deletes the slot; no host memory is named.
    unsafe { vm.set_user_memory_region(region) }.map_err(host("KVM_SET_USER_MEMORY_REGION"))
}

/// Marks the pages that the guest wrote since the last time.
fn collect(vm: &VmFd, slot: &Slot) -> Result<(), AccelError> {
    if !slot.range.log_dirty {
        return Ok(());
    }
    let log = vm
        .get_dirty_log(slot.id, slot.range.len as usize)
        .map_err(host("KVM_GET_DIRTY_LOG"))?;
    let first = (slot.range.offset / PAGE_SIZE) as usize;
    let pages = (slot.range.len / PAGE_SIZE) as usize;
    for (page, mark) in slot.range.block.marks[first..]
        .iter()
        .take(pages)
        .enumerate()
    {
        if log[page / 64] >> (page % 64) & 1 != 0 {
            mark.fetch_or(DIRTY, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The host address of a range's first byte.
fn address(range: &Range) -> NonNull<u8> {
    let Block { host, .. } = range.block;
    // SAFETY: the offset lies inside the block (checked by `MemoryMap::new`), and the block is one
    // host mapping.
    unsafe { host.add(range.offset as usize) }
}

/// The host address of the byte at `guest`, if the range holds it.
fn byte_at(range: &Range, guest: u64) -> Option<NonNull<u8>> {
    let offset = guest.checked_sub(range.start)?;
    // SAFETY: the offset lies inside the range, which is one host mapping.
    (offset < range.len).then(|| unsafe { address(range).add(offset as usize) })
}

/// Marks the page at `guest` as written, as KVM's log does not know of it.
fn mark(range: &Range, guest: u64) {
    let page = (range.offset + (guest - range.start)) / PAGE_SIZE;
    if let Some(marks) = range.block.marks.get(page as usize) {
        marks.fetch_or(DIRTY, Ordering::Relaxed);
    }
}

/// Whether two ranges make the same slot.
fn same(a: &Range, b: &Range) -> bool {
    a.start == b.start
        && a.len == b.len
        && address(a) == address(b)
        && a.read_only == b.read_only
        && a.log_dirty == b.log_dirty
}

/// The lowest number no slot has.
fn free_id(slots: &[Slot]) -> u32 {
    (0..)
        .find(|id| slots.iter().all(|s| s.id != *id))
        .unwrap_or(u32::MAX)
}

/// The ranges to be shown: the map's own, or with A20 off those outside of the second megabyte
/// and the first megabyte twice.
fn pieces(map: &MemoryMap) -> Vec<Range> {
    if map.a20() {
        return map.ranges().to_vec();
    }
    let mut found = Vec::new();
    for range in map.ranges() {
        let low = part(range, 0, ALIAS);
        found.extend(low.clone().map(|r| Range {
            start: r.start + ALIAS,
            ..r
        }));
        found.extend(low);
        found.extend(part(range, 2 * ALIAS, u64::MAX));
    }
    found
}

/// What of `range` lies in `from..to`.
fn part(range: &Range, from: u64, to: u64) -> Option<Range> {
    let start = range.start.max(from);
    let end = (range.start + range.len).min(to);
    (start < end).then(|| Range {
        start,
        len: end - start,
        offset: range.offset + (start - range.start),
        ..range.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A block that is never touched through its pointer.
    fn block(len: u64) -> Block {
        Block {
            host: NonNull::new(std::ptr::without_provenance_mut(0x10_0000_0000)).unwrap(),
            len,
            marks: Arc::new([]),
            owner: Arc::new(()),
        }
    }

    fn range(start: u64, len: u64, offset: u64) -> Range {
        Range {
            start,
            len,
            block: block(1 << 30),
            offset,
            read_only: false,
            log_dirty: false,
        }
    }

    fn shape(map: &MemoryMap) -> Vec<(u64, u64, u64)> {
        let mut all: Vec<_> = pieces(map)
            .iter()
            .map(|r| (r.start, r.len, r.offset))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a20_off_shows_the_first_megabyte_twice() {
        let ranges = vec![
            range(0, 0xA_0000, 0),
            range(0xC_0000, 0x400_0000 - 0xC_0000, 0xC_0000),
        ];
        let on = MemoryMap::new(ranges.clone(), true).unwrap();
        assert_eq!(shape(&on).len(), 2);
        let off = MemoryMap::new(ranges, false).unwrap();
        assert_eq!(
            shape(&off),
            [
                (0, 0xA_0000, 0),
                (0xC_0000, 0x4_0000, 0xC_0000),
                (0x10_0000, 0xA_0000, 0),
                (0x1C_0000, 0x4_0000, 0xC_0000),
                (0x20_0000, 0x3E0_0000, 0x20_0000),
            ]
        );
    }

    #[test]
    fn a_device_in_the_alias_is_found_at_its_own_address() {
        let memory = Memory::new(8, true, false);
        memory.state.lock().unwrap().map = MemoryMap::new(Vec::new(), false).unwrap();
        let mut data = [0; 4];
        let behind = memory.touch(0x1A_0000, Touch::Read(&mut data));
        assert_eq!(behind, Behind::Device(0xA_0000));
    }
}
