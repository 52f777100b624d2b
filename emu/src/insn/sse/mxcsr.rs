//! What SSE's floating-point instructions compute under, and how they end. SDM Vol. 1, "MXCSR
//! Control and Status Register", "SIMD Floating-Point Exceptions".

use crate::arch::exception::XM;
use crate::arch::{Cr4, Exception};
use crate::cpu::{Cpu, Raised};
use crate::fpu::simd::{self, Instruction};

/// Masks of MXCSR, above the flags they belong to.
const MASKS: u32 = 7;

impl Cpu {
    /// The result of `I`. Exceptions go to MXCSR; one that is not masked is #XM (#UD without
    /// CR4.OSXMMEXCPT): the destination must not have been written yet.
    #[inline(always)]
    pub(super) fn simd<I: Instruction>(&mut self, a: u128, b: u128) -> Result<u128, Raised> {
        match simd::quick::<I>(self.fpu.mxcsr, a, b) {
            Some(result) => Ok(result),
            None => self.simd_slowly::<I>(a, b),
        }
    }

    #[inline(never)]
    fn simd_slowly<I: Instruction>(&mut self, a: u128, b: u128) -> Result<u128, Raised> {
        let mxcsr = self.fpu.mxcsr;
        let (result, flags) = simd::execute::<I>(mxcsr, a, b);
        let flags = u32::from(flags.bits());
        self.fpu.mxcsr |= flags;
        if flags & !(mxcsr >> MASKS) == 0 {
            return Ok(result);
        }
        self.simd_fault()
    }

    #[cold]
    #[inline(never)]
    fn simd_fault<T>(&mut self) -> Result<T, Raised> {
        if self.cr4.contains(Cr4::OSXMMEXCPT) {
            return self.fault(Exception::new(XM));
        }
        self.ud()
    }
}
