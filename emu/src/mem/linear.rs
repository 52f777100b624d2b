//! From a memory operand to a linear address: effective address, segment checks.
//! SDM Vol. 3A, "Limit Checking", "Type Checking"; Vol. 1, "Specifying an Offset".

use crate::arch::exception::{Exception, GP, SS};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;

impl Cpu {
    /// The effective address (offset) of the instruction's memory operand.
    #[inline(always)]
    pub(crate) fn effective_address(&self, i: &Insn) -> u64 {
        let base = self.regs[usize::from(i.base & 31)];
        let index = self.regs[usize::from(i.index & 31)] << (i.address & 3);
        base.wrapping_add(index).wrapping_add(i.disp as u64) & i.address_mask()
    }

    /// The linear address of the instruction's memory operand, checked for `len` bytes of `access`
    /// against its segment.
    #[inline(always)]
    pub(crate) fn linear_of(
        &mut self,
        i: &Insn,
        len: usize,
        access: Access,
    ) -> Result<u64, Raised> {
        let offset = self.effective_address(i);
        if i.checked() {
            self.check_segment(i.seg(), offset, len, access)?;
        }
        Ok(self.base(i.seg()).wrapping_add(offset) & self.linear_mask)
    }

    /// As [`Cpu::linear_of`], for the piece of `len` bytes that is `at` bytes into the operand.
    /// Processors take operands of more than sixteen bytes, and those of the x87 of more than eight,
    /// in pieces: each is checked by itself, and between them the address size's end leads to 0.
    #[inline(always)]
    pub(crate) fn linear_of_piece(
        &mut self,
        i: &Insn,
        at: usize,
        len: usize,
        access: Access,
    ) -> Result<u64, Raised> {
        let offset = self.effective_address(i).wrapping_add(at as u64) & i.address_mask();
        if i.checked() {
            self.check_segment(i.seg(), offset, len, access)?;
        }
        Ok(self.base(i.seg()).wrapping_add(offset) & self.linear_mask)
    }

    /// Whether the memory operand, of `len` bytes, goes beyond the end of the address size.
    #[inline(always)]
    pub(crate) fn wraps(&self, i: &Insn, len: usize) -> bool {
        self.effective_address(i) > i.address_mask() - (len as u64 - 1)
    }

    /// The linear address of `offset` in segment `seg`, checked for `len` bytes of `access`.
    #[inline(always)]
    pub(crate) fn linear_at(
        &mut self,
        seg: Seg,
        offset: u64,
        len: usize,
        access: Access,
    ) -> Result<u64, Raised> {
        if !self.mode.flat || seg == Seg::Cs || seg as u8 > Seg::Ds as u8 {
            self.check_segment(seg as usize, offset, len, access)?;
        }
        Ok(self.base(seg as usize).wrapping_add(offset) & self.linear_mask)
    }

    /// Segment type and limit checks. In 64-bit mode only canonical form counts, which paging
    /// checks.
    #[cold]
    #[inline(never)]
    fn check_segment(
        &mut self,
        seg: usize,
        offset: u64,
        len: usize,
        access: Access,
    ) -> Result<(), Raised> {
        if self.code64() {
            return Ok(());
        }
        let segment = self.segments[seg];
        if segment_allows(&segment, offset, len as u64, access, self.real_or_vm86()) {
            return Ok(());
        }
        let vector = if seg == Seg::Ss as usize { SS } else { GP };
        self.fault(Exception::with_code(vector, 0))
    }
}

/// Whether a segment lets `len` bytes at `offset` be accessed. In real and virtual-8086 mode types
/// are not checked for reads and writes.
pub(crate) fn segment_allows(
    segment: &Segment,
    offset: u64,
    len: u64,
    access: Access,
    untyped: bool,
) -> bool {
    if segment.unusable() || !segment.has(Segment::P) {
        return false;
    }
    let code = segment.has(Segment::CODE);
    let typed = match access {
        Access::Read | Access::Execute => !code || segment.has(Segment::READABLE),
        Access::Write => !code && segment.has(Segment::WRITABLE),
    };
    let last = offset + (len - 1);
    let limit = u64::from(segment.limit);
    let inside = if !code && segment.has(Segment::EXPAND_DOWN) {
        let top = if segment.has(Segment::DB) {
            u64::from(u32::MAX)
        } else {
            0xFFFF
        };
        offset > limit && last <= top
    } else {
        last <= limit
    };
    (typed || untyped) && inside
}
