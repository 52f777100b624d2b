//! What SSE's floating-point instructions compute under, and how they end. SDM Vol. 1, "MXCSR
//! Control and Status Register", "SIMD Floating-Point Exceptions".

use crate::arch::exception::XM;
use crate::arch::{Cr4, Exception};
use crate::cpu::{Cpu, Raised};
use crate::fpu::Env;

impl Cpu {
    /// The environment of one instruction.
    #[inline(always)]
    pub(super) fn simd_env(&self) -> Env {
        Env::sse(self.fpu.mxcsr)
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
