//! MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, CMOVcc and other data transfers.
//! SDM Vol. 2, each mnemonic.

use super::Row;
use super::form::{Dest, Source, row};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

#[inline(always)]
fn mov<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = S::read(cpu, i)?;
    D::write(cpu, i, value)
}

/// MOV r64, imm64: the immediate lies in the displacement.
fn mov_imm64(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.set_reg(i.r[0], i.disp as u64);
    Ok(())
}

#[inline(always)]
fn lea<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let address = cpu.effective_address(i);
    cpu.set_reg(i.r[0], W::from_u64(address));
    Ok(())
}

#[inline(always)]
fn movzx<F: Raw, T: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: F = S::read(cpu, i)?;
    cpu.set_reg(i.r[0], T::from_u64(value.to_u64()));
    Ok(())
}

#[inline(always)]
fn movsx<F: Raw, T: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: F = S::read(cpu, i)?;
    cpu.set_reg(i.r[0], T::from_u64(value.to_i64() as u64));
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(move_to: mov<u8>,  [Mov_rm8_r8, Mov_r8_rm8, Mov_AL_moffs8, Mov_moffs8_AL, Mov_r8_imm8, Mov_rm8_imm8]),
    row!(move_to: mov<u16>, [Mov_rm16_r16, Mov_r16_rm16, Mov_AX_moffs16, Mov_moffs16_AX, Mov_r16_imm16, Mov_rm16_imm16]),
    row!(move_to: mov<u32>, [Mov_rm32_r32, Mov_r32_rm32, Mov_EAX_moffs32, Mov_moffs32_EAX, Mov_r32_imm32, Mov_rm32_imm32]),
    row!(move_to: mov<u64>, [Mov_rm64_r64, Mov_r64_rm64, Mov_RAX_moffs64, Mov_moffs64_RAX, Mov_rm64_imm32]),
    row!(plain: mov_imm64, [Mov_r64_imm64]),
    row!(plain: lea::<u16>, [Lea_r16_m]),
    row!(plain: lea::<u32>, [Lea_r32_m]),
    row!(plain: lea::<u64>, [Lea_r64_m]),
    row!(to_reg: movzx<u8, u16>, [Movzx_r16_rm8]),
    row!(to_reg: movzx<u8, u32>, [Movzx_r32_rm8]),
    row!(to_reg: movzx<u8, u64>, [Movzx_r64_rm8]),
    row!(to_reg: movzx<u16, u16>, [Movzx_r16_rm16]),
    row!(to_reg: movzx<u16, u32>, [Movzx_r32_rm16]),
    row!(to_reg: movzx<u16, u64>, [Movzx_r64_rm16]),
    row!(to_reg: movsx<u8, u16>, [Movsx_r16_rm8]),
    row!(to_reg: movsx<u8, u32>, [Movsx_r32_rm8]),
    row!(to_reg: movsx<u8, u64>, [Movsx_r64_rm8]),
    row!(to_reg: movsx<u16, u16>, [Movsx_r16_rm16, Movsxd_r16_rm16]),
    row!(to_reg: movsx<u16, u32>, [Movsx_r32_rm16]),
    row!(to_reg: movsx<u16, u64>, [Movsx_r64_rm16]),
    row!(to_reg: movsx<u32, u32>, [Movsxd_r32_rm32]),
    row!(to_reg: movsx<u32, u64>, [Movsxd_r64_rm32]),
];
