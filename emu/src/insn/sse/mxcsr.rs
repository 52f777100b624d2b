//! What SSE's floating-point instructions compute under, and how they end. SDM Vol. 1, "MXCSR
//! Control and Status Register", "SIMD Floating-Point Exceptions".

use crate::arch::exception::XM;
use crate::arch::{Cr4, Exception};
use crate::cpu::{Cpu, Raised};
use crate::fpu::Exceptions;
use crate::fpu::simd::{self, Instruction, Software};

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
        let (result, flags) = simd::execute::<I>(self.fpu.mxcsr, a, b);
        self.simd_report(flags)?;
        Ok(result)
    }

    /// As [`Cpu::simd`], for what the host is not asked.
    #[inline(always)]
    pub(super) fn simd_in_software<I: Software>(
        &mut self,
        a: u128,
        b: u128,
    ) -> Result<u128, Raised> {
        let (result, flags) = simd::in_software::<I>(self.fpu.mxcsr, a, b);
        self.simd_report(flags)?;
        Ok(result)
    }

    /// Takes over what came up.
    #[inline(always)]
    pub(super) fn simd_report(&mut self, flags: Exceptions) -> Result<(), Raised> {
        let (mxcsr, flags) = (self.fpu.mxcsr, u32::from(flags.bits()));
        self.fpu.mxcsr |= flags;
        if flags & !(mxcsr >> MASKS) == 0 {
            return Ok(());
        }
        self.simd_fault()
    }

    #[cold]
    #[inline(never)]
    fn simd_fault(&mut self) -> Result<(), Raised> {
        if self.cr4.contains(Cr4::OSXMMEXCPT) {
            return self.fault(Exception::new(XM));
        }
        self.ud()
    }
}
