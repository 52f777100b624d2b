//! Paging: 2-level, PAE and 4-level walks. SDM Vol. 3A, chapter "Paging".

use crate::arch::Cr0;
use crate::cpu::{Cpu, Raised};
use crate::mem::Access;
use crate::mem::tlb::Privilege;

/// A finished translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    /// Guest physical address (A20 not yet applied).
    pub physical: u64,
    /// The page is global: MOV to CR3 keeps it.
    pub global: bool,
}

impl Cpu {
    /// Translates `linear` for `access` with the rights of `privilege`; sets accessed and dirty
    /// bits; raises #PF.
    pub(crate) fn translate(
        &mut self,
        linear: u64,
        _access: Access,
        _privilege: Privilege,
    ) -> Result<Translation, Raised> {
        if !self.cr0.contains(Cr0::PG) {
            return Ok(Translation {
                physical: linear,
                global: false,
            });
        }
        self.ud()
    }
}
