//! LAR, LSL, VERR, VERW, ARPL: asking about descriptors without loading them.
//! SDM Vol. 2, each mnemonic; Vol. 3A, "Pointer Validation". #UD in real and virtual-8086 mode.

use super::Row;
use super::form::{Dest, Source, row};
use crate::arch::segment::Segment;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::descriptor::{Descriptor, is_null, kind};
use crate::mem::raw::Raw;

/// What LAR shows of a descriptor's second half: all but base bits. The manual calls bits 19:16
/// undefined; processors show the limit's upper bits there.
const LAR_MASK: u64 = 0x00FF_FF00;

/// The operand's descriptor, if it may be seen: inside its table, and not conforming code only
/// with DPL enough.
fn visible<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<Option<Descriptor>, Raised> {
    if cpu.real_or_vm86() {
        return cpu.ud();
    }
    let selector: u16 = S::read(cpu, i)?;
    if is_null(selector) {
        return Ok(None);
    }
    let found = cpu.find_descriptor(selector)?;
    let cpl = cpu.cpl;
    Ok(found.filter(|d| d.conforming() || d.dpl() >= cpl && d.dpl() >= d.rpl()))
}

/// System descriptors that have a limit: LDTs and TSSs. In IA-32e mode there are no 16-bit ones.
fn has_limit(system: u8, long: bool) -> bool {
    match system {
        kind::LDT => true,
        other if other & !(kind::BUSY | 8) == kind::TSS16 => !long || other & 8 != 0,
        _ => false,
    }
}

/// System descriptors whose access rights LAR shows.
fn has_rights(system: u8, long: bool) -> bool {
    match system {
        kind::CALL_GATE32 => true,
        kind::CALL_GATE16 | kind::TASK_GATE => !long,
        other => has_limit(other, long),
    }
}

fn lar<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let long = cpu.long_mode();
    let found = visible::<S>(cpu, i)?;
    let found = found.filter(|d| d.system().is_none_or(|t| has_rights(t, long)));
    if let Some(d) = found {
        cpu.set_reg(i.r[0], W::from_u64(d.raw >> 32 & LAR_MASK));
    }
    cpu.flags.set_zf(found.is_some());
    Ok(())
}

fn lsl<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let long = cpu.long_mode();
    let found = visible::<S>(cpu, i)?;
    let found = found.filter(|d| d.system().is_none_or(|t| has_limit(t, long)));
    if let Some(d) = found {
        cpu.set_reg(i.r[0], W::from_u64(u64::from(d.segment().limit)));
    }
    cpu.flags.set_zf(found.is_some());
    Ok(())
}

fn verr<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let found = visible::<S>(cpu, i)?;
    let readable = |d: Descriptor| d.has(Segment::S) && (!d.code() || d.has(Segment::READABLE));
    cpu.flags.set_zf(found.is_some_and(readable));
    Ok(())
}

fn verw<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let found = visible::<S>(cpu, i)?;
    cpu.flags.set_zf(found.is_some_and(|d| d.writable()));
    Ok(())
}

/// ARPL: raises the destination's RPL to the source's; writes only where that is higher.
fn arpl<D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.real_or_vm86() {
        return cpu.ud();
    }
    let source: u16 = S::read(cpu, i)?;
    let selector: u16 = D::read(cpu, i)?;
    let raise = selector & 3 < source & 3;
    if raise {
        D::write(cpu, i, selector & !3 | source & 3)?;
    }
    cpu.flags.set_zf(raise);
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(to_reg: lar<u16>, [Lar_r16_rm16]),
    row!(to_reg: lar<u32>, [Lar_r32_r32m16]),
    row!(to_reg: lar<u64>, [Lar_r64_r64m16]),
    row!(to_reg: lsl<u16>, [Lsl_r16_rm16]),
    row!(to_reg: lsl<u32>, [Lsl_r32_r32m16]),
    row!(to_reg: lsl<u64>, [Lsl_r64_r64m16]),
    row!(read1: verr<>, [Verr_rm16, Verr_r32m16, Verr_r64m16]),
    row!(read1: verw<>, [Verw_rm16, Verw_r32m16, Verw_r64m16]),
    row!(modify: arpl<>, [Arpl_rm16_r16, Arpl_r32m16_r32]),
];
