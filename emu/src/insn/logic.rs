//! AND, OR, XOR, NOT, TEST. SDM Vol. 2, each mnemonic.

use super::Row;
use super::form::{Dest, Source, row};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

#[inline(always)]
fn and<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (_, result) = D::modify(cpu, i, move |a: W| a & b)?;
    cpu.flags.after_logic(result);
    Ok(())
}

#[inline(always)]
fn or<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (_, result) = D::modify(cpu, i, move |a: W| a | b)?;
    cpu.flags.after_logic(result);
    Ok(())
}

#[inline(always)]
fn xor<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (_, result) = D::modify(cpu, i, move |a: W| a ^ b)?;
    cpu.flags.after_logic(result);
    Ok(())
}

#[inline(always)]
pub(super) fn test<W: Raw, A: Source, B: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = A::read(cpu, i)?;
    let b: W = B::read(cpu, i)?;
    cpu.flags.after_logic(a & b);
    Ok(())
}

#[inline(always)]
fn not<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    D::modify(cpu, i, move |a: W| !a)?;
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(modify: and<u8>,  [And_rm8_r8, And_r8_rm8, And_AL_imm8, And_rm8_imm8, And_rm8_imm8_82]),
    row!(modify: and<u16>, [And_rm16_r16, And_r16_rm16, And_AX_imm16, And_rm16_imm16, And_rm16_imm8]),
    row!(modify: and<u32>, [And_rm32_r32, And_r32_rm32, And_EAX_imm32, And_rm32_imm32, And_rm32_imm8]),
    row!(modify: and<u64>, [And_rm64_r64, And_r64_rm64, And_RAX_imm32, And_rm64_imm32, And_rm64_imm8]),
    row!(modify: or<u8>,  [Or_rm8_r8, Or_r8_rm8, Or_AL_imm8, Or_rm8_imm8, Or_rm8_imm8_82]),
    row!(modify: or<u16>, [Or_rm16_r16, Or_r16_rm16, Or_AX_imm16, Or_rm16_imm16, Or_rm16_imm8]),
    row!(modify: or<u32>, [Or_rm32_r32, Or_r32_rm32, Or_EAX_imm32, Or_rm32_imm32, Or_rm32_imm8]),
    row!(modify: or<u64>, [Or_rm64_r64, Or_r64_rm64, Or_RAX_imm32, Or_rm64_imm32, Or_rm64_imm8]),
    row!(modify: xor<u8>,  [Xor_rm8_r8, Xor_r8_rm8, Xor_AL_imm8, Xor_rm8_imm8, Xor_rm8_imm8_82]),
    row!(modify: xor<u16>, [Xor_rm16_r16, Xor_r16_rm16, Xor_AX_imm16, Xor_rm16_imm16, Xor_rm16_imm8]),
    row!(modify: xor<u32>, [Xor_rm32_r32, Xor_r32_rm32, Xor_EAX_imm32, Xor_rm32_imm32, Xor_rm32_imm8]),
    row!(modify: xor<u64>, [Xor_rm64_r64, Xor_r64_rm64, Xor_RAX_imm32, Xor_rm64_imm32, Xor_rm64_imm8]),
    row!(read2: test<u8>,  [Test_rm8_r8, Test_AL_imm8, Test_rm8_imm8, Test_rm8_imm8_F6r1]),
    row!(read2: test<u16>, [Test_rm16_r16, Test_AX_imm16, Test_rm16_imm16, Test_rm16_imm16_F7r1]),
    row!(read2: test<u32>, [Test_rm32_r32, Test_EAX_imm32, Test_rm32_imm32, Test_rm32_imm32_F7r1]),
    row!(read2: test<u64>, [Test_rm64_r64, Test_RAX_imm32, Test_rm64_imm32, Test_rm64_imm32_F7r1]),
    row!(unary: not<u8>,  [Not_rm8]),
    row!(unary: not<u16>, [Not_rm16]),
    row!(unary: not<u32>, [Not_rm32]),
    row!(unary: not<u64>, [Not_rm64]),
];
