//! Accesses of sixteen bytes: two of eight, after both have been found possible.

use crate::arch::segment::Seg;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::tlb::Privilege;

const BYTES: usize = 16;
const HALF: u64 = 8;

impl Cpu {
    /// Reads the instruction's memory operand of sixteen bytes; `aligned` ones that are not are
    /// #GP(0). SDM Vol. 3A, "Exception Conditions of Legacy SIMD Instructions".
    #[inline(always)]
    pub(crate) fn load_wide(&mut self, i: &Insn, aligned: bool) -> Result<[u8; BYTES], Raised> {
        let linear = self.linear_of(i, BYTES, Access::Read)?;
        if aligned && !linear.is_multiple_of(BYTES as u64) {
            return self.gp(0);
        }
        self.read_wide(linear, i.seg() == Seg::Ss as usize)
    }

    /// Writes the instruction's memory operand of sixteen bytes; see [`Cpu::load_wide`].
    #[inline(always)]
    pub(crate) fn store_wide(
        &mut self,
        i: &Insn,
        value: [u8; BYTES],
        aligned: bool,
    ) -> Result<(), Raised> {
        let linear = self.linear_of(i, BYTES, Access::Write)?;
        if aligned && !linear.is_multiple_of(BYTES as u64) {
            return self.gp(0);
        }
        self.write_wide(linear, value, i.seg() == Seg::Ss as usize)
    }

    /// Reads sixteen bytes at a linear address.
    #[inline(always)]
    pub(crate) fn read_wide(&mut self, linear: u64, stack: bool) -> Result<[u8; BYTES], Raised> {
        match self.read_wide_fast(linear) {
            Some(value) => Ok(value),
            None => self.read_halves(linear, stack),
        }
    }

    #[inline(never)]
    fn read_halves(&mut self, linear: u64, stack: bool) -> Result<[u8; BYTES], Raised> {
        if self.wide_needs_probe(linear) {
            self.probe_read(linear, BYTES, stack)?;
        }
        let low: u64 = self.read_linear(linear, stack)?;
        let high: u64 = self.read_linear(self.second(linear), stack)?;
        Ok((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }

    /// Writes sixteen bytes at a linear address.
    #[inline(always)]
    pub(crate) fn write_wide(
        &mut self,
        linear: u64,
        value: [u8; BYTES],
        stack: bool,
    ) -> Result<(), Raised> {
        match self.write_wide_fast(linear, value) {
            Some(()) => Ok(()),
            None => self.write_halves(linear, value, stack),
        }
    }

    #[inline(never)]
    fn write_halves(&mut self, linear: u64, value: [u8; BYTES], stack: bool) -> Result<(), Raised> {
        if self.wide_needs_probe(linear) {
            self.probe_write(linear, BYTES, stack)?;
        }
        let value = u128::from_le_bytes(value);
        self.write_linear(linear, value as u64, stack)?;
        self.write_linear(self.second(linear), (value >> 64) as u64, stack)
    }

    /// Whether the halves could fault one after the other, or the whole is not as aligned as EFLAGS.AC
    /// wants it: they are in two pages, or not aligned themselves.
    #[inline(always)]
    fn wide_needs_probe(&self, linear: u64) -> bool {
        !linear.is_multiple_of(HALF)
            || linear & 0xFFF > 0xFF0
            || self.privilege == Privilege::UserAligned
    }

    #[inline(always)]
    fn second(&self, linear: u64) -> u64 {
        linear.wrapping_add(HALF) & self.linear_mask
    }
}
