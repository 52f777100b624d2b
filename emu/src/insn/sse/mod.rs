//! MMX, SSE, SSE2 and SSE3. SDM Vol. 1, "Programming with Intel MMX Technology", "... with Streaming SIMD
//! Extensions", "... with Intel Streaming SIMD Extensions 2"; Vol. 2, each mnemonic.
//!
//! - [`form`]: operands, and the rows' macros; [`lanes`]: a vector as lanes
//! - [`packed`]: packed integers; [`shuffle`]: their order; [`moves`]: data movement
//! - [`float`]: arithmetic and comparison; [`convert`]: conversions, both under MXCSR ([`mxcsr`])
//! - [`horizontal`]: what SSE3 adds
//! - [`state`]: FXSAVE, FXRSTOR, LDMXCSR, EMMS
//!
//! A rule first asks whether its unit is there ([`Cpu::sse`], [`Cpu::mmx`]), then reads its operands;
//! what an MMX instruction does to the x87 (TOP 0, no register empty) comes after its last fault.

pub(super) mod convert;
pub(super) mod float;
mod form;
pub(super) mod horizontal;
mod lanes;
pub(super) mod moves;
mod mxcsr;
pub(super) mod packed;
pub(super) mod shuffle;
pub(super) mod state;
#[cfg(test)]
mod tests;

use crate::arch::exception::NM;
use crate::arch::{Cr0, Cr4, Exception};
use crate::cpu::{Cpu, Raised};

/// x87 status word: TOP.
const TOP: u16 = 7 << 11;
/// Exponent and sign of an x87 register that MMX wrote: all ones.
const MMX_EXPONENT: u16 = 0xFFFF;

impl Cpu {
    /// #UD or #NM unless SSE instructions can run. SDM Vol. 3A, "System Programming for
    /// Instruction Set Extensions".
    #[inline(always)]
    fn sse(&mut self) -> Result<(), Raised> {
        if self.cr0.intersects(Cr0::EM | Cr0::TS) || !self.cr4.contains(Cr4::OSFXSR) {
            return self.no_sse();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn no_sse(&mut self) -> Result<(), Raised> {
        if self.cr0.contains(Cr0::EM) || !self.cr4.contains(Cr4::OSFXSR) {
            return self.ud();
        }
        self.fault(Exception::new(NM))
    }

    /// #UD, #NM or a pending x87 error unless MMX instructions can run.
    #[inline(always)]
    fn mmx(&mut self) -> Result<(), Raised> {
        if self.cr0.contains(Cr0::EM) {
            return self.ud();
        }
        if self.cr0.contains(Cr0::TS) {
            return self.fault(Exception::new(NM));
        }
        self.x87_wait()
    }

    /// What every MMX instruction does to the x87.
    #[inline(always)]
    fn enter_mmx(&mut self) {
        self.fpu.fsw &= !TOP;
        self.fpu.ftw = 0xFF;
    }

    /// MMX register `r`.
    #[inline(always)]
    fn mm(&self, r: u8) -> u64 {
        self.fpu.regs[usize::from(r & 7)].0
    }

    /// Writes MMX register `r`.
    #[inline(always)]
    fn set_mm(&mut self, r: u8, value: u64) {
        self.fpu.regs[usize::from(r & 7)] = (value, MMX_EXPONENT);
    }

    /// XMM register `r` as one number.
    #[inline(always)]
    fn xmm(&self, r: u8) -> u128 {
        u128::from_le_bytes(self.xmm_bytes(r))
    }

    /// XMM register `r`. Lanes are made of its bytes: from a number, the compiler makes no vector.
    #[inline(always)]
    fn xmm_bytes(&self, r: u8) -> [u8; 16] {
        self.fpu.xmm[usize::from(r & 15)]
    }

    /// Writes XMM register `r`.
    #[inline(always)]
    fn set_xmm(&mut self, r: u8, value: u128) {
        self.set_xmm_bytes(r, value.to_le_bytes());
    }

    /// Writes XMM register `r`.
    #[inline(always)]
    fn set_xmm_bytes(&mut self, r: u8, value: [u8; 16]) {
        self.fpu.xmm[usize::from(r & 15)] = value;
    }

    /// Writes the low quadword of XMM register `r`.
    #[inline(always)]
    fn set_xmm_q(&mut self, r: u8, value: u64) {
        let old = self.xmm(r);
        self.set_xmm(r, old & !u128::from(u64::MAX) | u128::from(value));
    }

    /// Writes the low doubleword of XMM register `r`.
    #[inline(always)]
    fn set_xmm_d(&mut self, r: u8, value: u32) {
        let old = self.xmm(r);
        self.set_xmm(r, old & !u128::from(u32::MAX) | u128::from(value));
    }
}
