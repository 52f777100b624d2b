//! CPUID, RDTSC, RDTSCP, RDPID, RDPMC, RDMSR, WRMSR, HLT, INVLPG, cache control, fences, NOPs
//! and hints. SDM Vol. 2, each mnemonic.
//!
//! Caches are not modelled: what writes them back or prefetches does nothing but its checks.

use std::sync::atomic::{Ordering, fence};

use super::form::{Kind, kind, row, step};
use super::{Row, UNDEFINED};
use crate::arch::Cr4;
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::state::Activity;

/// Numbers of the registers these instructions imply.
const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;

/// IA32_APIC_BASE, for the APIC bit of CPUID.
const APIC_BASE: u32 = 0x1B;
/// IA32_APIC_BASE: the APIC is enabled.
const APIC_ENABLED: u64 = 1 << 11;

/// #GP(0) outside CPL 0.
#[inline]
pub(super) fn kernel_only(cpu: &mut Cpu) -> Result<(), Raised> {
    if cpu.cpl == 0 { Ok(()) } else { cpu.gp(0) }
}

/// #GP(0) outside CPL 0 with CR4.UMIP set.
pub(super) fn umip(cpu: &mut Cpu) -> Result<(), Raised> {
    if cpu.cr4.contains(Cr4::UMIP) {
        return kernel_only(cpu);
    }
    Ok(())
}

/// In virtual time, what reads the clock runs alone, so that the clock is exact.
pub(crate) fn exact_time(cpu: &mut Cpu) -> Result<(), Raised> {
    if !cpu.alone && cpu.attention.virtual_time().is_some() {
        return cpu.retry();
    }
    Ok(())
}

fn cpuid(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let (function, index) = (cpu.reg::<u32>(RAX), cpu.reg::<u32>(RCX));
    let [eax, ebx, mut ecx, mut edx] = cpu.model.leaf(function, index);
    if matches!(function, 1 | 0x8000_0001) {
        let disabled = (cpu.io.apic_msr_read(APIC_BASE)).is_ok_and(|v| v & APIC_ENABLED == 0);
        if disabled {
            edx &= !(1 << 9);
        }
    }
    if function == 1 && cpu.cr4.contains(Cr4::OSXSAVE) {
        ecx |= 1 << 27;
    }
    for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
        cpu.set_reg(register, value);
    }
    Ok(())
}

/// EDX:EAX.
fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.set_reg(RAX, value as u32);
    cpu.set_reg(RDX, (value >> 32) as u32);
}

fn rdtsc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    if cpu.cr4.contains(Cr4::TSD) {
        kernel_only(cpu)?;
    }
    exact_time(cpu)?;
    let tsc = cpu.tsc();
    set_edx_eax(cpu, tsc);
    Ok(())
}

fn rdtscp(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    rdtsc(cpu, i)?;
    cpu.set_reg(RCX, cpu.msrs.tsc_aux as u32);
    Ok(())
}

fn rdpid(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.set_reg(i.r[0], u64::from(cpu.msrs.tsc_aux as u32));
    Ok(())
}

/// There are no performance counters: each number is one that does not exist.
fn rdpmc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.gp(0)
}

fn rdmsr(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    let number = cpu.reg::<u32>(RCX);
    let value = cpu.read_msr(number)?;
    set_edx_eax(cpu, value);
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    let number = cpu.reg::<u32>(RCX);
    let (low, high) = (cpu.reg::<u32>(RAX), cpu.reg::<u32>(RDX));
    cpu.write_msr(number, u64::from(high) << 32 | u64::from(low))
}

fn hlt(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    cpu.activity = Activity::Halted;
    cpu.recheck_events();
    Ok(())
}

/// INVLPG checks no segment, and a non-canonical address is no fault.
fn invlpg(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)?;
    let linear = cpu.base(i.seg()).wrapping_add(cpu.effective_address(i)) & cpu.linear_mask;
    cpu.flush_tlb_page(linear);
    Ok(())
}

/// INVD, WBINVD, WBNOINVD.
fn invalidate_caches(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    kernel_only(cpu)
}

/// CLFLUSH, CLFLUSHOPT, CLWB: checked as a read of one byte.
fn flush_line(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let linear = cpu.linear_of(i, 1, Access::Read)?;
    cpu.span(linear, Access::Read, i.seg() == Seg::Ss as usize)?;
    Ok(())
}

fn memory_fence(_: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    fence(Ordering::SeqCst);
    Ok(())
}

fn nop(_: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: cpuid, [Cpuid]),
    row!(plain: rdtsc, [Rdtsc]).ends(),
    row!(plain: rdtscp, [Rdtscp]).ends(),
    row!(plain: rdpid, [Rdpid_r32, Rdpid_r64]),
    row!(plain: rdpmc, [Rdpmc]),
    row!(plain: rdmsr, [Rdmsr]).ends(),
    row!(plain: wrmsr, [Wrmsr]).ends(),
    row!(plain: hlt, [Hlt]).ends(),
    row!(plain: invlpg, [Invlpg_m]).ends(),
    row!(plain: invalidate_caches, [Invd, Wbinvd, Wbnoinvd]),
    row!(plain: flush_line, [Clflush_m8, Clflushopt_m8, Clwb_m8]),
    row!(plain: memory_fence, [Sfence, Sfence_F9, Sfence_FA, Sfence_FB, Sfence_FC, Sfence_FD, Sfence_FE, Sfence_FF,
        Mfence, Mfence_F1, Mfence_F2, Mfence_F3, Mfence_F4, Mfence_F5, Mfence_F6, Mfence_F7]),
    row!(plain: nop, [Lfence, Lfence_E9, Lfence_EA, Lfence_EB, Lfence_EC, Lfence_ED, Lfence_EE, Lfence_EF]),
    row!(plain: nop, [Nopw, Nopd, Nopq, Pause, Nop_rm16, Nop_rm32, Nop_rm64]),
    // PREFETCH and PREFETCHW; AMD's processors know no register form of them.
    row!(@row [Reservednop_rm16_r16_0F0D, Reservednop_rm32_r32_0F0D, Reservednop_rm64_r64_0F0D] |i| {
        match kind(i, 0) {
            Kind::Reg => UNDEFINED,
            _ => step!(nop),
        }
    }),
    row!(plain: nop, [Reservednop_rm16_r16_0F18, Reservednop_rm32_r32_0F18, Reservednop_rm64_r64_0F18,
        Reservednop_rm16_r16_0F19, Reservednop_rm32_r32_0F19, Reservednop_rm64_r64_0F19,
        Reservednop_rm16_r16_0F1A, Reservednop_rm32_r32_0F1A, Reservednop_rm64_r64_0F1A,
        Reservednop_rm16_r16_0F1B, Reservednop_rm32_r32_0F1B, Reservednop_rm64_r64_0F1B,
        Reservednop_rm16_r16_0F1C, Reservednop_rm32_r32_0F1C, Reservednop_rm64_r64_0F1C,
        Reservednop_rm16_r16_0F1D, Reservednop_rm32_r32_0F1D, Reservednop_rm64_r64_0F1D,
        Reservednop_rm16_r16_0F1E, Reservednop_rm32_r32_0F1E, Reservednop_rm64_r64_0F1E,
        Reservednop_rm16_r16_0F1F, Reservednop_rm32_r32_0F1F, Reservednop_rm64_r64_0F1F]),
    row!(plain: nop, [Prefetch_m8, Prefetchw_m8, Prefetchnta_m8, Prefetcht0_m8, Prefetcht1_m8, Prefetcht2_m8]),
];

#[cfg(test)]
mod tests;
