//! What SSE's floating-point instructions compute under, and how they end. SDM Vol. 1, "MXCSR
//! Control and Status Register", "SIMD Floating-Point Exceptions".

use crate::arch::exception::XM;
use crate::arch::{Cr4, Exception};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::Env;
use crate::fpu::host::Operation;

impl Cpu {
    /// The environment of one instruction.
    #[inline(always)]
    pub(super) fn simd_env(&self) -> Env {
        Env::sse(self.fpu.mxcsr)
    }

    /// Has the host's processor compute the destination, operand 0, if it may; true if it has.
    #[inline(always)]
    pub(super) fn simd_host(&mut self, i: &Insn, operation: Operation, b: u128) -> bool {
        let answer = operation(self.xmm(i.r[0]), b, self.fpu.mxcsr);
        match self.simd_took(answer) {
            Some(result) => {
                self.set_xmm(i.r[0], result);
                true
            }
            None => false,
        }
    }

    /// Takes over the MXCSR of what the host's processor computed.
    #[inline(always)]
    pub(super) fn simd_took<T>(&mut self, answer: Option<(T, u32)>) -> Option<T> {
        let (result, mxcsr) = answer?;
        self.fpu.mxcsr = mxcsr;
        Some(result)
    }

    /// Reports what came up; #XM (#UD without CR4.OSXMMEXCPT) if some of it is not masked: the
    /// destination must not have been written yet.
    #[inline(always)]
    pub(super) fn simd_report(&mut self, env: &Env) -> Result<(), Raised> {
        // An unmasked exception found before anything is computed hides those found afterwards.
        let flags = env.flags.bits();
        self.fpu.mxcsr |= u32::from(flags);
        if env.unmasked().is_empty() {
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
