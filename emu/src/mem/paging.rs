//! Paging: 2-level (with PSE-36), PAE and 4-level walks. SDM Vol. 3A, chapter "Paging": "32-Bit
//! Paging", "PAE Paging", "4-Level Paging and 5-Level Paging", "Access Rights", "Page-Fault
//! Exceptions", "Accessed and Dirty Flags".
//!
//! Not modelled: paging-structure caches (each walk starts at CR3), so software that forgets an
//! invalidation sees new upper-level entries sooner than on some processors. Bit 8 of upper-level
//! entries, which AMD reserves, is ignored, as Intel has it.

use crate::arch::cpuid::{Feature, PHYSICAL_BITS};
use crate::arch::{Cr0, Cr4, Efer, Exception};
use crate::cpu::{Cpu, Raised};
use crate::mem::Access;
use crate::mem::raw::Raw;
use crate::mem::tlb::Privilege;

/// Entry bit: present.
const PRESENT: u64 = 1 << 0;
/// Entry bit: writes allowed.
const WRITABLE: u64 = 1 << 1;
/// Entry bit: user accesses allowed.
const USER: u64 = 1 << 2;
/// Entry bit: used in a translation.
const ACCESSED: u64 = 1 << 5;
/// Entry bit: the page was written.
const DIRTY: u64 = 1 << 6;
/// Entry bit: maps a large page.
const LARGE: u64 = 1 << 7;
/// Entry bit: the page is global.
const GLOBAL: u64 = 1 << 8;
/// Entry bit: no instruction fetch.
const NO_EXECUTE: u64 = 1 << 63;

/// Error code: the page was present; its rights forbade the access.
const CODE_PRESENT: u32 = 1 << 0;
/// Error code: the access was a write.
const CODE_WRITE: u32 = 1 << 1;
/// Error code: the access was a user-mode one.
const CODE_USER: u32 = 1 << 2;
/// Error code: a reserved bit was set.
const CODE_RESERVED: u32 = 1 << 3;
/// Error code: the access was an instruction fetch.
const CODE_FETCH: u32 = 1 << 4;

/// Bits of a physical address.
const PHYSICAL: u64 = (1 << PHYSICAL_BITS) - 1;
/// Bits of a page offset.
const OFFSET: u64 = 0xFFF;
/// Bits a present PDPTE of PAE paging must not have. SDM Vol. 3A, "PDPTE Registers".
const PDPTE_RESERVED: u64 = !PHYSICAL | 0x1E6;

/// A finished translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    /// Guest physical address (A20 not yet applied).
    pub physical: u64,
    /// The page is global: MOV to CR3 keeps it.
    pub global: bool,
}

/// What a walk is for.
#[derive(Clone, Copy)]
struct Request {
    linear: u64,
    access: Access,
    privilege: Privilege,
}

impl Request {
    fn user(&self) -> bool {
        matches!(self.privilege, Privilege::User | Privilege::UserAligned)
    }
}

/// Why a walk did not finish.
enum Stop {
    /// A page fault with these bits of its error code.
    Fault(u32),
    /// Somebody changed an entry between read and update: walk again.
    Raced,
}

/// An entry as it was read.
#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    value: u64,
    /// Its page's size, or what one entry of the table covers, as a power of two.
    shift: u32,
}

impl Cpu {
    /// Translates `linear` for `access` with the rights of `privilege`; sets accessed and dirty
    /// bits; raises #PF.
    pub(crate) fn translate(
        &mut self,
        linear: u64,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translation, Raised> {
        if !self.cr0.contains(Cr0::PG) {
            return Ok(Translation {
                physical: linear,
                global: false,
            });
        }
        let request = Request {
            linear,
            access,
            privilege,
        };
        loop {
            match self.walk(&request) {
                Ok(translation) => return Ok(translation),
                Err(Stop::Raced) => {}
                Err(Stop::Fault(code)) => return self.page_fault(&request, code),
            }
        }
    }

    /// Raises #PF; what is cached of the page goes, as the SDM promises ("Invalidation of TLBs and
    /// Paging-Structure Caches").
    #[cold]
    fn page_fault<T>(&mut self, request: &Request, mut code: u32) -> Result<T, Raised> {
        if request.access == Access::Write {
            code |= CODE_WRITE;
        }
        if request.user() {
            code |= CODE_USER;
        }
        let no_execute = self.efer.contains(Efer::NXE) && self.cr4.contains(Cr4::PAE);
        if request.access == Access::Execute && (no_execute || self.cr4.contains(Cr4::SMEP)) {
            code |= CODE_FETCH;
        }
        self.tlb.flush_page(request.linear);
        self.fault(Exception::page_fault(request.linear, code))
    }

    fn walk(&mut self, request: &Request) -> Result<Translation, Stop> {
        if !self.cr4.contains(Cr4::PAE) {
            let table = self.cr3 & 0xFFFF_F000;
            return self.walk_tables::<u32>(request, table, 22);
        }
        if self.long_mode() {
            let table = self.cr3 & PHYSICAL & !OFFSET;
            return self.walk_tables::<u64>(request, table, 39);
        }
        let pdpte = self.pdpte[(request.linear >> 30 & 3) as usize];
        if pdpte & PRESENT == 0 {
            return Err(Stop::Fault(0));
        }
        self.walk_tables::<u64>(request, pdpte & PHYSICAL & !OFFSET, 21)
    }

    /// Walks down from `table`, whose entries (of type `E`) cover 2^`shift` bytes each.
    fn walk_tables<E: Raw>(
        &mut self,
        request: &Request,
        mut table: u64,
        mut shift: u32,
    ) -> Result<Translation, Stop> {
        // Tables are one page: 1024 entries of four bytes, 512 of eight.
        let index_bits = 12 - E::BYTES.trailing_zeros();
        let mut rights = WRITABLE | USER;
        loop {
            let index = request.linear >> shift & ((1 << index_bits) - 1);
            let address = table + index * E::BYTES as u64;
            let value = self.physical_read::<E>(address).to_u64();
            if value & PRESENT == 0 {
                return Err(Stop::Fault(0));
            }
            let leaf = shift == 12 || value & LARGE != 0 && self.large_pages::<E>(shift);
            if value & self.reserved_bits::<E>(shift, leaf) != 0 {
                return Err(Stop::Fault(CODE_PRESENT | CODE_RESERVED));
            }
            rights = rights & value | (rights | value) & NO_EXECUTE;
            let entry = Entry {
                address,
                value,
                shift,
            };
            if leaf {
                return self.finish::<E>(request, entry, rights);
            }
            self.mark::<E>(entry, ACCESSED)?;
            table = value & PHYSICAL & !OFFSET;
            shift -= index_bits;
        }
    }

    /// The last entry is found: checks the rights of the whole path, marks the entry.
    fn finish<E: Raw>(
        &mut self,
        request: &Request,
        entry: Entry,
        rights: u64,
    ) -> Result<Translation, Stop> {
        if !self.permits(request, rights) {
            return Err(Stop::Fault(CODE_PRESENT));
        }
        let dirty = if request.access == Access::Write {
            DIRTY
        } else {
            0
        };
        self.mark::<E>(entry, ACCESSED | dirty)?;
        let inside = (1 << entry.shift) - 1;
        let mut page = entry.value & PHYSICAL & !inside;
        if E::BYTES == 4 && entry.shift == 22 {
            // PSE-36: bits 20:13 are address bits 39:32.
            page |= (entry.value >> 13 & 0xFF) << 32;
        }
        if entry.shift > 12 {
            self.tlb.note_large(request.linear, entry.shift);
        }
        Ok(Translation {
            physical: page | request.linear & inside,
            global: entry.value & GLOBAL != 0 && self.cr4.contains(Cr4::PGE),
        })
    }

    /// Whether an entry that covers 2^`shift` bytes may map a page.
    fn large_pages<E: Raw>(&self, shift: u32) -> bool {
        match shift {
            22 if E::BYTES == 4 => self.cr4.contains(Cr4::PSE),
            21 => true,
            30 => self.model.has(Feature::Pdpe1gb),
            _ => false,
        }
    }

    /// The bits a present entry must not have.
    fn reserved_bits<E: Raw>(&self, shift: u32, leaf: bool) -> u64 {
        if E::BYTES == 4 {
            let pse36 = leaf && shift == 22;
            return if pse36 { 1 << 21 } else { 0 };
        }
        let mut reserved = ((1 << 52) - 1) & !PHYSICAL;
        if !self.efer.contains(Efer::NXE) {
            reserved |= NO_EXECUTE;
        }
        if !self.long_mode() {
            reserved |= 0x7FF << 52;
        }
        match leaf {
            // Below the address, above PAT.
            true => reserved | ((1 << shift) - 1) & !0x1FFF,
            false => reserved | LARGE,
        }
    }

    /// SDM Vol. 3A, "Determination of Access Rights". `rights` holds U and W where all entries of
    /// the path do, and XD where any does.
    fn permits(&self, request: &Request, rights: u64) -> bool {
        let user_page = rights & USER != 0;
        let writable = rights & WRITABLE != 0;
        if request.user() {
            return user_page
                && match request.access {
                    Access::Read => true,
                    Access::Write => writable,
                    Access::Execute => rights & NO_EXECUTE == 0,
                };
        }
        let smap = self.cr4.contains(Cr4::SMAP) && request.privilege != Privilege::SupervisorAc;
        match request.access {
            Access::Read => !(user_page && smap),
            Access::Write => !(user_page && smap) && (writable || !self.cr0.contains(Cr0::WP)),
            Access::Execute => {
                rights & NO_EXECUTE == 0 && !(user_page && self.cr4.contains(Cr4::SMEP))
            }
        }
    }

    /// Sets `bits` in an entry, atomically.
    fn mark<E: Raw>(&mut self, entry: Entry, bits: u64) -> Result<(), Stop> {
        let (old, new) = (E::from_u64(entry.value), E::from_u64(entry.value | bits));
        if old == new || self.physical_update(entry.address, old, new) {
            return Ok(());
        }
        Err(Stop::Raced)
    }

    /// Reads the PDPTE registers of PAE paging from the table at CR3 = `cr3`; #GP(0) if a present
    /// one has reserved bits set. SDM Vol. 3A, "PDPTE Registers".
    pub(crate) fn read_pdptes(&mut self, cr3: u64) -> Result<[u64; 4], Raised> {
        let table = cr3 & 0xFFFF_FFE0;
        let mut pdpte = [0; 4];
        for (at, slot) in (0..).zip(&mut pdpte) {
            *slot = self.physical_read(table + 8 * at);
            if *slot & PRESENT != 0 && *slot & PDPTE_RESERVED != 0 {
                return self.gp(0);
            }
        }
        Ok(pdpte)
    }
}

#[cfg(test)]
mod tests;
