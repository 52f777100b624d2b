//! MOV to and from control and debug registers, LMSW, SMSW, CLTS, CLAC, STAC.
//! SDM Vol. 2, each mnemonic; Vol. 3A, "Control Registers", "Initializing IA-32e Mode", "Debug
//! Registers"; what each change invalidates: "Operations that Invalidate TLBs and Paging-Structure
//! Caches".

use super::Row;
use super::form::{Dest, Kind, Mem, Reg, Source, kind, row, step};
use super::system::kernel_only;
use crate::arch::cpuid::{Feature, PHYSICAL_BITS};
use crate::arch::exception::{DB, Exception};
use crate::arch::segment::{Seg, Segment};
use crate::arch::{Cr0, Cr4, Efer, RFlags};
use crate::cpu::{Cpu, Raised};
use crate::debug::DR7_GD;
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::state::{DR6_RESET, DR7_RESET};

/// DR6: a debug register was accessed while DR7.GD was set.
const DR6_BD: u64 = 1 << 13;
/// Bits of DR6 that software may change: B0-B3, BD, BS, BT.
const DR6_WRITABLE: u64 = 0xE00F;
/// Bits of DR7 that software may change.
const DR7_WRITABLE: u64 = 0xFFFF_23FF;

/// CR4 bits and the features they come with.
const CR4_FEATURES: &[(Cr4, Feature)] = &[
    (Cr4::VME.union(Cr4::PVI), Feature::Vme),
    (Cr4::TSD, Feature::Tsc),
    (Cr4::DE, Feature::De),
    (Cr4::PSE, Feature::Pse),
    (Cr4::PAE, Feature::Pae),
    (Cr4::MCE, Feature::Mce),
    (Cr4::PGE, Feature::Pge),
    (Cr4::OSFXSR, Feature::Fxsr),
    (Cr4::OSXMMEXCPT, Feature::Sse),
    (Cr4::UMIP, Feature::Umip),
    (Cr4::FSGSBASE, Feature::Fsgsbase),
    (Cr4::PCIDE, Feature::Pcid),
    (Cr4::OSXSAVE, Feature::Xsave),
    (Cr4::SMEP, Feature::Smep),
    (Cr4::SMAP, Feature::Smap),
];

impl Cpu {
    /// MOV to CR0 (and LMSW): checks, activation of IA-32e mode, invalidations.
    pub(crate) fn write_cr0(&mut self, value: u64) -> Result<(), Raised> {
        let new = Cr0::from_bits_truncate(value) | Cr0::ET;
        let paging_without_pe = new.contains(Cr0::PG) && !new.contains(Cr0::PE);
        let nw_without_cd = new.contains(Cr0::NW) && !new.contains(Cr0::CD);
        if value >> 32 != 0 || paging_without_pe || nw_without_cd {
            return self.gp(0);
        }
        let changed = self.cr0 ^ new;
        let mut efer = self.efer;
        if changed.contains(Cr0::PG) {
            efer.remove(Efer::LMA);
            if new.contains(Cr0::PG) && efer.contains(Efer::LME) {
                self.check_long_mode_entry()?;
                efer |= Efer::LMA;
            } else if self.code64() {
                return self.gp(0);
            }
        }
        let reload = changed.intersects(Cr0::PG | Cr0::CD | Cr0::NW);
        if reload && new.contains(Cr0::PG) && pae_paging(self.cr4, efer) {
            self.pdpte = self.read_pdptes(self.cr3)?;
        }
        self.cr0 = new;
        self.efer = efer;
        if changed.intersects(Cr0::PG | Cr0::WP | Cr0::PE) {
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }

    /// #GP(0) unless IA-32e mode can be activated.
    fn check_long_mode_entry(&mut self) -> Result<(), Raised> {
        let code64 = self.segment(Seg::Cs).has(Segment::L);
        let tss16 = matches!(self.segment(Seg::Tr).kind(), 1 | 3);
        if !self.cr4.contains(Cr4::PAE) || code64 || tss16 {
            return self.gp(0);
        }
        Ok(())
    }

    /// MOV to CR3, and CR3 from a TSS: checks, PDPTE registers, invalidation of all but global
    /// pages.
    pub(crate) fn write_cr3(&mut self, value: u64) -> Result<(), Raised> {
        if self.long_mode() && value >> PHYSICAL_BITS != 0 {
            return self.gp(0);
        }
        if self.cr0.contains(Cr0::PG) && pae_paging(self.cr4, self.efer) {
            self.pdpte = self.read_pdptes(value)?;
        }
        self.cr3 = value;
        self.flush_tlb_non_global();
        Ok(())
    }

    /// MOV to CR4.
    pub(crate) fn write_cr4(&mut self, value: u64) -> Result<(), Raised> {
        let new = Cr4::from_bits_retain(value);
        let leaves_pae = self.long_mode() && !new.contains(Cr4::PAE);
        if !self.cr4_allowed().contains(new) || leaves_pae {
            return self.gp(0);
        }
        let changed = self.cr4 ^ new;
        let reload = changed.intersects(Cr4::PAE | Cr4::PSE | Cr4::PGE | Cr4::SMEP);
        if reload && self.cr0.contains(Cr0::PG) && pae_paging(new, self.efer) {
            self.pdpte = self.read_pdptes(self.cr3)?;
        }
        self.cr4 = new;
        if reload || changed.intersects(Cr4::SMAP) {
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }

    /// The CR4 bits this model has.
    fn cr4_allowed(&self) -> Cr4 {
        let has = |&&(_, feature): &&(Cr4, Feature)| self.model.has(feature);
        CR4_FEATURES
            .iter()
            .filter(has)
            .fold(Cr4::PCE, |all, &(bits, _)| all | bits)
    }

    /// Number of a debug register as an instruction names it: DR4 and DR5 are DR6 and DR7 unless
    /// CR4.DE is set. Then CPL, then DR7.GD.
    fn debug_register(&mut self, named: u8) -> Result<u8, Raised> {
        let aliased = matches!(named, 4 | 5);
        if named > 7 || aliased && self.cr4.contains(Cr4::DE) {
            return self.ud();
        }
        kernel_only(self)?;
        if self.dr7 & DR7_GD != 0 {
            self.dr6 |= DR6_BD;
            return self.fault(Exception::new(DB));
        }
        Ok(if aliased { named + 2 } else { named })
    }
}

/// Whether paging, if on, is PAE paging (with PDPTE registers).
fn pae_paging(cr4: Cr4, efer: Efer) -> bool {
    cr4.contains(Cr4::PAE) && !efer.contains(Efer::LMA)
}

/// #UD unless control register `n` exists.
fn check_control_register(cpu: &mut Cpu, n: u8) -> Result<(), Raised> {
    if !matches!(n, 0 | 2 | 3 | 4 | 8) {
        return cpu.ud();
    }
    kernel_only(cpu)
}

fn mov_to_cr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    check_control_register(cpu, i.r[0])?;
    let value = cpu.reg::<W>(i.r[1]).to_u64();
    match i.r[0] {
        0 => cpu.write_cr0(value),
        2 => {
            cpu.cr2 = value;
            Ok(())
        }
        3 => cpu.write_cr3(value),
        4 => cpu.write_cr4(value),
        _ if value > 15 => cpu.gp(0),
        _ => {
            cpu.io.set_tpr(value as u8);
            cpu.recheck_events();
            Ok(())
        }
    }
}

fn mov_from_cr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    check_control_register(cpu, i.r[1])?;
    let value = match i.r[1] {
        0 => cpu.cr0.bits(),
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4.bits(),
        _ => u64::from(cpu.io.tpr()),
    };
    cpu.set_reg(i.r[0], W::from_u64(value));
    Ok(())
}

fn mov_to_dr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let n = cpu.debug_register(i.r[0])?;
    let value = cpu.reg::<W>(i.r[1]).to_u64();
    if n >= 6 && value >> 32 != 0 {
        return cpu.gp(0);
    }
    match n {
        6 => cpu.dr6 = value & DR6_WRITABLE | DR6_RESET,
        7 => cpu.set_dr7(value & DR7_WRITABLE | DR7_RESET),
        _ => {
            cpu.dr[usize::from(n & 3)] = value;
            cpu.set_dr7(cpu.dr7);
        }
    }
    Ok(())
}

fn mov_from_dr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value = match cpu.debug_register(i.r[1])? {
        6 => cpu.dr6,
        7 => cpu.dr7,
        n => cpu.dr[usize::from(n & 3)],
    };
    cpu.set_reg(i.r[0], W::from_u64(value));
    Ok(())
}

/// LMSW: the low four bits of CR0, of which PE can be set but not cleared.
fn lmsw<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    let value = u64::from(S::read::<u16>(cpu, i)?);
    let keeps = !(Cr0::MP | Cr0::EM | Cr0::TS).bits();
    cpu.write_cr0(cpu.cr0.bits() & keeps | value & 0xF)
}

/// SMSW: 16 bits to memory, the operand size to a register.
fn smsw<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    super::system::umip(cpu)?;
    D::write(cpu, i, W::from_u64(cpu.cr0.bits()))
}

fn clts(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    cpu.cr0 -= Cr0::TS;
    Ok(())
}

fn set_ac<const AC: bool>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    if cpu.cpl != 0 {
        return cpu.ud();
    }
    let mut flags = cpu.rflags();
    flags.set(RFlags::AC, AC);
    cpu.set_system_flags(flags);
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: mov_to_cr::<u32>, [Mov_cr_r32]).ends(),
    row!(plain: mov_to_cr::<u64>, [Mov_cr_r64]).ends(),
    row!(plain: mov_from_cr::<u32>, [Mov_r32_cr]),
    row!(plain: mov_from_cr::<u64>, [Mov_r64_cr]),
    row!(plain: mov_to_dr::<u32>, [Mov_dr_r32]).ends(),
    row!(plain: mov_to_dr::<u64>, [Mov_dr_r64]).ends(),
    row!(plain: mov_from_dr::<u32>, [Mov_r32_dr]),
    row!(plain: mov_from_dr::<u64>, [Mov_r64_dr]),
    row!(read1: lmsw<>, [Lmsw_rm16, Lmsw_r32m16, Lmsw_r64m16]).ends(),
    row!(write1: smsw<u16>, [Smsw_rm16]),
    row!(@row [Smsw_r32m16] |i| if kind(i, 0) == Kind::Reg { step!(smsw::<u32, Reg<0>>) } else { step!(smsw::<u16, Mem>) }),
    row!(@row [Smsw_r64m16] |i| if kind(i, 0) == Kind::Reg { step!(smsw::<u64, Reg<0>>) } else { step!(smsw::<u16, Mem>) }),
    row!(plain: clts, [Clts]).ends(),
    row!(plain: set_ac::<false>, [Clac]),
    row!(plain: set_ac::<true>, [Stac]),
];

#[cfg(test)]
mod tests;
