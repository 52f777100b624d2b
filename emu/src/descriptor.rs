//! Segment descriptors in memory: reading, checking and marking them.
//!
//! SDM Vol. 3A, "Segment Descriptors", "Privilege Checking When Accessing Data Segments",
//! "Privilege Levels Checking when Transferring Program Control Between Code Segments",
//! "Expanding System Descriptors in IA-32e Mode". The tables are read with supervisor privilege at
//! any CPL. Nothing here changes a register; the accessed bit is set, as on a processor, before
//! the load that it belongs to can be known to succeed.

use crate::arch::exception::{Exception, GP, NP, SS};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};

/// System descriptor types.
pub(crate) mod kind {
    /// LDT.
    pub(crate) const LDT: u8 = 2;
    /// 16-bit TSS, available.
    pub(crate) const TSS16: u8 = 1;
    /// 16-bit call gate.
    pub(crate) const CALL_GATE16: u8 = 4;
    /// Task gate.
    pub(crate) const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub(crate) const INTERRUPT_GATE16: u8 = 6;
    /// 16-bit trap gate.
    pub(crate) const TRAP_GATE16: u8 = 7;
    /// 32- or 64-bit TSS, available.
    pub(crate) const TSS32: u8 = 9;
    /// 32- or 64-bit call gate.
    pub(crate) const CALL_GATE32: u8 = 12;
    /// 32- or 64-bit interrupt gate.
    pub(crate) const INTERRUPT_GATE32: u8 = 14;
    /// 32- or 64-bit trap gate.
    pub(crate) const TRAP_GATE32: u8 = 15;
    /// In the type of a TSS: busy.
    pub(crate) const BUSY: u8 = 2;
}

/// Whether a selector is null at any RPL.
pub(crate) const fn is_null(selector: u16) -> bool {
    selector & 0xFFFC == 0
}

/// Whether `address` is canonical (48-bit linear addresses).
pub(crate) const fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// A descriptor as it lies in the GDT or an LDT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    /// The selector that named it.
    pub selector: u16,
    /// Its (first) eight bytes.
    pub raw: u64,
    /// Its linear address.
    pub address: u64,
}

impl Descriptor {
    /// What the hidden part of a segment register takes from it.
    pub(crate) const fn segment(&self) -> Segment {
        Segment::from_descriptor(self.selector, self.raw)
    }

    /// Whether all `bits` of [`Segment::access`] are set.
    pub(crate) const fn has(&self, bits: u32) -> bool {
        self.segment().has(bits)
    }

    /// Type, bits 3:0.
    pub(crate) const fn kind(&self) -> u8 {
        self.segment().kind()
    }

    /// Descriptor privilege level.
    pub(crate) const fn dpl(&self) -> u8 {
        self.segment().dpl()
    }

    /// Requested privilege level of the selector.
    pub(crate) const fn rpl(&self) -> u8 {
        (self.selector & 3) as u8
    }

    /// Present.
    pub(crate) const fn present(&self) -> bool {
        self.has(Segment::P)
    }

    /// A code segment.
    pub(crate) const fn code(&self) -> bool {
        self.has(Segment::S | Segment::CODE)
    }

    /// A conforming code segment.
    pub(crate) const fn conforming(&self) -> bool {
        self.has(Segment::S | Segment::CODE | Segment::CONFORMING)
    }

    /// A writable data segment.
    pub(crate) const fn writable(&self) -> bool {
        self.has(Segment::S | Segment::WRITABLE) && !self.has(Segment::CODE)
    }

    /// The system descriptor's type, or `None` for code and data.
    pub(crate) const fn system(&self) -> Option<u8> {
        if self.has(Segment::S) {
            None
        } else {
            Some(self.kind())
        }
    }

    /// Neither code nor writable at the privilege `cpl` with which a stack must be loaded.
    const fn unfit_stack(&self, cpl: u8) -> bool {
        self.rpl() != cpl || !self.writable() || self.dpl() != cpl
    }
}

impl Cpu {
    /// Raises `vector` with a selector as its error code.
    #[cold]
    pub(crate) fn selector_fault<T>(&mut self, vector: u8, selector: u16) -> Result<T, Raised> {
        self.fault(Exception::with_code(vector, u32::from(selector & 0xFFFC)))
    }

    /// A linear address inside a system table, as wide as the mode makes it.
    pub(crate) fn table_address(&self, base: u64, offset: u64) -> u64 {
        let linear = base.wrapping_add(offset);
        if self.long_mode() {
            linear
        } else {
            linear & 0xFFFF_FFFF
        }
    }

    /// The linear address of a descriptor's `len` bytes, or `None` if its table ends before them.
    fn descriptor_address(&self, selector: u16, len: u64) -> Option<u64> {
        let ldtr = self.segment(Seg::Ldtr);
        let (base, limit) = match selector & 4 {
            0 => (self.gdtr.base, u64::from(self.gdtr.limit)),
            _ if ldtr.unusable() => return None,
            _ => (ldtr.base, u64::from(ldtr.limit)),
        };
        let offset = u64::from(selector & 0xFFF8);
        (offset + len - 1 <= limit).then(|| self.table_address(base, offset))
    }

    /// The descriptor that `selector` names, or `None` if it lies outside its table.
    pub(crate) fn find_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Raised> {
        let Some(address) = self.descriptor_address(selector, 8) else {
            return Ok(None);
        };
        let raw = self.system_read(address)?;
        Ok(Some(Descriptor {
            selector,
            raw,
            address,
        }))
    }

    /// The descriptor that `selector` names; outside its table raises `vector`(selector).
    pub(crate) fn descriptor(&mut self, selector: u16, vector: u8) -> Result<Descriptor, Raised> {
        match self.find_descriptor(selector)? {
            Some(found) => Ok(found),
            None => self.selector_fault(vector, selector),
        }
    }

    /// The upper eight bytes of a 16-byte system descriptor (IA-32e mode), whose type field must
    /// be zero.
    pub(crate) fn upper_half(&mut self, d: &Descriptor, vector: u8) -> Result<u64, Raised> {
        if self.descriptor_address(d.selector, 16).is_none() {
            return self.selector_fault(vector, d.selector);
        }
        let upper: u64 = self.system_read(d.address.wrapping_add(8))?;
        if upper >> 40 & 0x1F != 0 {
            return self.selector_fault(vector, d.selector);
        }
        Ok(upper)
    }

    /// The hidden part of LDTR or TR: in IA-32e mode with the base from 16 bytes.
    pub(crate) fn system_segment(&mut self, d: &Descriptor, vector: u8) -> Result<Segment, Raised> {
        let mut segment = d.segment();
        if self.long_mode() {
            segment.base |= self.upper_half(d, vector)? << 32;
            if !canonical(segment.base) {
                return self.selector_fault(vector, d.selector);
            }
        }
        Ok(segment)
    }

    /// Sets the accessed bit where it is clear; returns the segment with it.
    pub(crate) fn accessed(&mut self, d: &Descriptor) -> Result<Segment, Raised> {
        let mut segment = d.segment();
        if !segment.has(Segment::ACCESSED) {
            let at = self.table_address(d.address, 5);
            let byte: u8 = self.system_read(at)?;
            self.system_write(at, byte | Segment::ACCESSED as u8)?;
            segment.access |= Segment::ACCESSED;
        }
        Ok(segment)
    }

    /// Sets or clears the busy bit of a TSS descriptor.
    pub(crate) fn set_busy(&mut self, address: u64, busy: bool) -> Result<(), Raised> {
        let at = self.table_address(address, 5);
        let byte: u8 = self.system_read(at)?;
        let bit = if busy { kind::BUSY } else { 0 };
        self.system_write(at, byte & !kind::BUSY | bit)
    }

    /// A stack segment for privilege `cpl`: what is wrong with it raises `vector` (#GP for
    /// instructions, #TS for stacks from a TSS), not present raises #SS.
    pub(crate) fn stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        vector: u8,
    ) -> Result<Segment, Raised> {
        if is_null(selector) {
            return self.selector_fault(vector, 0);
        }
        let d = self.descriptor(selector, vector)?;
        if d.unfit_stack(cpl) {
            return self.selector_fault(vector, selector);
        }
        if !d.present() {
            return self.selector_fault(SS, selector);
        }
        self.accessed(&d)
    }

    /// A segment for DS, ES, FS or GS at the present CPL.
    pub(crate) fn data_segment(&mut self, selector: u16, vector: u8) -> Result<Segment, Raised> {
        if is_null(selector) {
            return Ok(Segment::null(selector));
        }
        let d = self.descriptor(selector, vector)?;
        let readable = d.has(Segment::S) && (!d.code() || d.has(Segment::READABLE));
        let privileged = !d.conforming() && (d.rpl() > d.dpl() || self.cpl > d.dpl());
        if !readable || privileged {
            return self.selector_fault(vector, selector);
        }
        if !d.present() {
            return self.selector_fault(NP, selector);
        }
        self.accessed(&d)
    }

    /// A code segment reached by far JMP or CALL without a gate: CPL stays.
    pub(crate) fn code_segment(&mut self, d: &Descriptor) -> Result<Segment, Raised> {
        let allowed = if d.conforming() {
            d.dpl() <= self.cpl
        } else {
            d.rpl() <= self.cpl && d.dpl() == self.cpl
        };
        if !d.code() || !allowed || self.long_and_default(d) {
            return self.selector_fault(GP, d.selector);
        }
        if !d.present() {
            return self.selector_fault(NP, d.selector);
        }
        let segment = self.accessed(d)?;
        Ok(with_rpl(segment, self.cpl))
    }

    /// L and D both set: reserved in IA-32e mode.
    pub(crate) fn long_and_default(&self, d: &Descriptor) -> bool {
        self.long_mode() && d.has(Segment::L | Segment::DB)
    }

    /// #GP(0) unless `rip` lies in code segment `cs`.
    pub(crate) fn check_offset(&mut self, cs: &Segment, rip: u64) -> Result<(), Raised> {
        let inside = if self.long_mode() && cs.has(Segment::L) {
            canonical(rip)
        } else {
            rip <= u64::from(cs.limit)
        };
        if inside { Ok(()) } else { self.gp(0) }
    }

    /// What loading `selector` in real-address or virtual-8086 mode makes of `seg`. In real mode
    /// the limit and attributes stay ("unreal mode" lives on that), but for a register that held a
    /// null selector.
    pub(crate) fn untyped_segment(&self, seg: Seg, selector: u16) -> Segment {
        const DATA: u32 = Segment::P | Segment::S | Segment::WRITABLE | Segment::ACCESSED;
        if self.protected() {
            return Segment::real(selector, DATA | 3 << 5);
        }
        let fresh = Segment::real(selector, DATA);
        let old = self.segment(seg);
        if old.unusable() || !old.has(Segment::S | Segment::P) {
            return fresh;
        }
        Segment {
            limit: old.limit,
            access: old.access & !(3 << 5),
            ..fresh
        }
    }
}

/// The segment with `cpl` as its selector's RPL.
pub(crate) const fn with_rpl(segment: Segment, cpl: u8) -> Segment {
    Segment {
        selector: segment.selector & 0xFFFC | cpl as u16,
        ..segment
    }
}

/// What SS holds after a change of privilege in IA-32e mode: null, with CPL in RPL and DPL (where
/// [`Cpu::update_mode`] finds it).
pub(crate) const fn null_stack(cpl: u8) -> Segment {
    let null = Segment::null(cpl as u16);
    Segment {
        access: null.access | (cpl as u32) << 5,
        ..null
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::segment::TableRegister;
    use crate::test_bench::Bench;

    /// SDM Vol. 3A, "Privilege Checking When Accessing Data Segments".
    #[test]
    fn data_wants_both_privileges() {
        for (dpl, rpl, fits) in [(0, 0, true), (0, 1, false), (1, 1, true), (3, 2, true)] {
            let mut bench = Bench::protected();
            bench.cpu.gdtr = TableRegister {
                base: 0x2000,
                limit: 15,
            };
            let data = 0x00CF_9300_0000_FFFF_u64 | dpl << 45;
            bench.write(0x2008, &data.to_le_bytes());
            bench.cpu.regs[0] = 8 | rpl;
            let expected = if fits {
                Ok(())
            } else {
                Err(Exception::with_code(GP, 8))
            };
            assert_eq!(bench.execute(&[0x8E, 0xD8]), expected, "{dpl} {rpl}");
        }
    }
}
