//! Loading, storing, pushing and popping segment registers. SDM Vol. 2, "MOV", "POP", "PUSH",
//! "LDS/LES/LFS/LGS/LSS"; Vol. 3A, "Loading Segment Registers".
//!
//! Loads end their block: the mode may change. MOV SS and POP SS hold events back for one
//! instruction; LSS does not.
//!
//! A null selector clears the base of FS and GS, as on Intel's and newer AMD processors.

use iced_x86::OpKind;

use super::form::{Source, row, step};
use super::{End, Row, far};
use crate::arch::exception::GP;
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::descriptor::{is_null, null_stack};
use crate::mem::raw::Raw;
use crate::state::Shadow;
use crate::width::Width;

/// The segment register in operand field `r`, if it can be loaded: CS cannot.
fn loadable(r: u8) -> Option<Seg> {
    [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs]
        .into_iter()
        .find(|&seg| seg as u8 == r)
}

/// Loads a data or stack segment register at the present CPL.
pub(super) fn load_segment(cpu: &mut Cpu, seg: Seg, selector: u16) -> Result<(), Raised> {
    let segment = if cpu.real_or_vm86() {
        cpu.untyped_segment(seg, selector)
    } else if seg == Seg::Ss {
        load_stack(cpu, selector)?
    } else {
        cpu.data_segment(selector, GP)?
    };
    cpu.set_segment(seg, segment);
    Ok(())
}

/// SS for MOV, POP and LSS: in 64-bit mode below CPL 3 it may be null.
fn load_stack(cpu: &mut Cpu, selector: u16) -> Result<Segment, Raised> {
    let rpl = (selector & 3) as u8;
    if is_null(selector) && cpu.code64() && cpu.cpl < 3 && rpl == cpu.cpl {
        return Ok(null_stack(cpu.cpl));
    }
    cpu.stack_segment(selector, cpu.cpl, GP)
}

/// Events wait for one instruction after SS was loaded.
fn shadow(cpu: &mut Cpu, seg: Seg) {
    if seg == Seg::Ss {
        cpu.shadow = Shadow::MovSs;
        cpu.recheck_events();
    }
}

fn mov_to_segment<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let Some(seg) = loadable(i.r[0]) else {
        return cpu.ud();
    };
    // Operand 1 is a register or 16 bits of memory, whatever the operand size.
    let selector: u16 = S::read(cpu, i)?;
    load_segment(cpu, seg, selector)?;
    shadow(cpu, seg);
    Ok(())
}

/// The selector in the segment register that operand field `r` names.
fn selector(cpu: &Cpu, r: u8) -> u16 {
    cpu.segments[usize::from(r & 7)].selector
}

fn mov_to_register<W: Width>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.set_reg(i.r[0], W::from_u64(u64::from(selector(cpu, i.r[1]))));
    Ok(())
}

fn mov_to_memory(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.store(i, selector(cpu, i.r[1]))
}

/// MOV from a segment register: zero-extended into a register, 16 bits into memory.
macro_rules! from_segment {
    ($w:ty, $code:ident) => {
        Row {
            codes: &[iced_x86::Code::$code],
            select: |i| match i.op0_kind() {
                OpKind::Register => step!(mov_to_register::<$w>),
                _ => step!(mov_to_memory),
            },
            folds: false,
            end: End::No,
        }
    };
}

/// PUSH of a segment register. AMD zero-extends to the operand size; Intel's processors write 16
/// bits and leave the rest of the slot as it was.
fn push_segment<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value = selector(cpu, i.r[0]);
    if W::BYTES == 2 || cpu.model.amd() {
        return cpu.push(W::from_u64(u64::from(value)));
    }
    let rsp = cpu.regs[4];
    let new = rsp.wrapping_sub(W::BYTES as u64) & cpu.stack_mask;
    cpu.store_at(Seg::Ss, new, value)?;
    cpu.regs[4] = rsp & !cpu.stack_mask | new;
    Ok(())
}

fn pop_segment<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let Some(seg) = loadable(i.r[0]) else {
        return cpu.ud();
    };
    let value: W = cpu.peek(0)?;
    // The pop is of the old stack's size, even if SS changes it.
    let (rsp, mask) = (cpu.regs[4], cpu.stack_mask);
    load_segment(cpu, seg, value.to_u64() as u16)?;
    cpu.regs[4] = rsp & !mask | rsp.wrapping_add(W::BYTES as u64) & mask;
    shadow(cpu, seg);
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS.
fn load_far<W: Raw, const SEG: u8>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let pointer = far::load_pointer::<W>(cpu, i)?;
    let Some(seg) = loadable(SEG) else {
        return cpu.ud();
    };
    load_segment(cpu, seg, pointer.selector)?;
    cpu.set_reg(i.r[0], W::from_u64(pointer.offset));
    Ok(())
}

const ES: u8 = Seg::Es as u8;
const SS: u8 = Seg::Ss as u8;
const DS: u8 = Seg::Ds as u8;
const FS: u8 = Seg::Fs as u8;
const GS: u8 = Seg::Gs as u8;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(to_reg: mov_to_segment<>, [Mov_Sreg_rm16, Mov_Sreg_r32m16, Mov_Sreg_r64m16]).ends(),
    from_segment!(u16, Mov_rm16_Sreg),
    from_segment!(u32, Mov_r32m16_Sreg),
    from_segment!(u64, Mov_r64m16_Sreg),
    row!(plain: push_segment::<u16>, [Pushw_ES, Pushw_CS, Pushw_SS, Pushw_DS, Pushw_FS, Pushw_GS]),
    row!(plain: push_segment::<u32>, [Pushd_ES, Pushd_CS, Pushd_SS, Pushd_DS, Pushd_FS, Pushd_GS]),
    row!(plain: push_segment::<u64>, [Pushq_FS, Pushq_GS]),
    row!(plain: pop_segment::<u16>, [Popw_ES, Popw_SS, Popw_DS, Popw_FS, Popw_GS]).ends(),
    row!(plain: pop_segment::<u32>, [Popd_ES, Popd_SS, Popd_DS, Popd_FS, Popd_GS]).ends(),
    row!(plain: pop_segment::<u64>, [Popq_FS, Popq_GS]).ends(),
    row!(plain: load_far::<u16, ES>, [Les_r16_m1616]).ends(),
    row!(plain: load_far::<u32, ES>, [Les_r32_m1632]).ends(),
    row!(plain: load_far::<u16, DS>, [Lds_r16_m1616]).ends(),
    row!(plain: load_far::<u32, DS>, [Lds_r32_m1632]).ends(),
    row!(plain: load_far::<u16, SS>, [Lss_r16_m1616]).ends(),
    row!(plain: load_far::<u32, SS>, [Lss_r32_m1632]).ends(),
    row!(plain: load_far::<u64, SS>, [Lss_r64_m1664]).ends(),
    row!(plain: load_far::<u16, FS>, [Lfs_r16_m1616]).ends(),
    row!(plain: load_far::<u32, FS>, [Lfs_r32_m1632]).ends(),
    row!(plain: load_far::<u64, FS>, [Lfs_r64_m1664]).ends(),
    row!(plain: load_far::<u16, GS>, [Lgs_r16_m1616]).ends(),
    row!(plain: load_far::<u32, GS>, [Lgs_r32_m1632]).ends(),
    row!(plain: load_far::<u64, GS>, [Lgs_r64_m1664]).ends(),
];
