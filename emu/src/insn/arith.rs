//! ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG. SDM Vol. 2, each mnemonic; flags: Vol. 1, "EFLAGS
//! Cross-Reference".

use super::Row;
use super::form::{Dest, Source, row};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

#[inline(always)]
fn add<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (a, sum) = D::modify(cpu, i, move |a: W| a.add(b))?;
    cpu.flags.after_add(a, b, sum);
    Ok(())
}

#[inline(always)]
fn adc<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let carry = W::from_u64(u64::from(cpu.flags.cf()));
    let (a, sum) = D::modify(cpu, i, move |a: W| a.add(b).add(carry))?;
    cpu.flags.after_add(a, b, sum);
    Ok(())
}

#[inline(always)]
fn sub<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (a, difference) = D::modify(cpu, i, move |a: W| a.sub(b))?;
    cpu.flags.after_sub(a, b, difference);
    Ok(())
}

#[inline(always)]
fn sbb<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let borrow = W::from_u64(u64::from(cpu.flags.cf()));
    let (a, difference) = D::modify(cpu, i, move |a: W| a.sub(b).sub(borrow))?;
    cpu.flags.after_sub(a, b, difference);
    Ok(())
}

#[inline(always)]
pub(super) fn cmp<W: Raw, A: Source, B: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = A::read(cpu, i)?;
    let b: W = B::read(cpu, i)?;
    cpu.flags.after_sub(a, b, a.sub(b));
    Ok(())
}

#[inline(always)]
fn inc<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let one = W::from_u64(1);
    let (a, sum) = D::modify(cpu, i, move |a: W| a.add(one))?;
    let cf = cpu.flags.cf();
    cpu.flags.after_add(a, one, sum);
    cpu.flags.set_cf(cf);
    Ok(())
}

#[inline(always)]
fn dec<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let one = W::from_u64(1);
    let (a, difference) = D::modify(cpu, i, move |a: W| a.sub(one))?;
    let cf = cpu.flags.cf();
    cpu.flags.after_sub(a, one, difference);
    cpu.flags.set_cf(cf);
    Ok(())
}

#[inline(always)]
fn neg<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let (a, difference) = D::modify(cpu, i, move |a: W| W::zero().sub(a))?;
    cpu.flags.after_sub(W::zero(), a, difference);
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(modify: add<u8>,  [Add_rm8_r8, Add_r8_rm8, Add_AL_imm8, Add_rm8_imm8, Add_rm8_imm8_82]),
    row!(modify: add<u16>, [Add_rm16_r16, Add_r16_rm16, Add_AX_imm16, Add_rm16_imm16, Add_rm16_imm8]),
    row!(modify: add<u32>, [Add_rm32_r32, Add_r32_rm32, Add_EAX_imm32, Add_rm32_imm32, Add_rm32_imm8]),
    row!(modify: add<u64>, [Add_rm64_r64, Add_r64_rm64, Add_RAX_imm32, Add_rm64_imm32, Add_rm64_imm8]),
    row!(modify: adc<u8>,  [Adc_rm8_r8, Adc_r8_rm8, Adc_AL_imm8, Adc_rm8_imm8, Adc_rm8_imm8_82]),
    row!(modify: adc<u16>, [Adc_rm16_r16, Adc_r16_rm16, Adc_AX_imm16, Adc_rm16_imm16, Adc_rm16_imm8]),
    row!(modify: adc<u32>, [Adc_rm32_r32, Adc_r32_rm32, Adc_EAX_imm32, Adc_rm32_imm32, Adc_rm32_imm8]),
    row!(modify: adc<u64>, [Adc_rm64_r64, Adc_r64_rm64, Adc_RAX_imm32, Adc_rm64_imm32, Adc_rm64_imm8]),
    row!(modify: sub<u8>,  [Sub_rm8_r8, Sub_r8_rm8, Sub_AL_imm8, Sub_rm8_imm8, Sub_rm8_imm8_82]),
    row!(modify: sub<u16>, [Sub_rm16_r16, Sub_r16_rm16, Sub_AX_imm16, Sub_rm16_imm16, Sub_rm16_imm8]),
    row!(modify: sub<u32>, [Sub_rm32_r32, Sub_r32_rm32, Sub_EAX_imm32, Sub_rm32_imm32, Sub_rm32_imm8]),
    row!(modify: sub<u64>, [Sub_rm64_r64, Sub_r64_rm64, Sub_RAX_imm32, Sub_rm64_imm32, Sub_rm64_imm8]),
    row!(modify: sbb<u8>,  [Sbb_rm8_r8, Sbb_r8_rm8, Sbb_AL_imm8, Sbb_rm8_imm8, Sbb_rm8_imm8_82]),
    row!(modify: sbb<u16>, [Sbb_rm16_r16, Sbb_r16_rm16, Sbb_AX_imm16, Sbb_rm16_imm16, Sbb_rm16_imm8]),
    row!(modify: sbb<u32>, [Sbb_rm32_r32, Sbb_r32_rm32, Sbb_EAX_imm32, Sbb_rm32_imm32, Sbb_rm32_imm8]),
    row!(modify: sbb<u64>, [Sbb_rm64_r64, Sbb_r64_rm64, Sbb_RAX_imm32, Sbb_rm64_imm32, Sbb_rm64_imm8]),
    row!(read2: cmp<u8>,  [Cmp_rm8_r8, Cmp_r8_rm8, Cmp_AL_imm8, Cmp_rm8_imm8, Cmp_rm8_imm8_82]),
    row!(read2: cmp<u16>, [Cmp_rm16_r16, Cmp_r16_rm16, Cmp_AX_imm16, Cmp_rm16_imm16, Cmp_rm16_imm8]),
    row!(read2: cmp<u32>, [Cmp_rm32_r32, Cmp_r32_rm32, Cmp_EAX_imm32, Cmp_rm32_imm32, Cmp_rm32_imm8]),
    row!(read2: cmp<u64>, [Cmp_rm64_r64, Cmp_r64_rm64, Cmp_RAX_imm32, Cmp_rm64_imm32, Cmp_rm64_imm8]),
    row!(unary: inc<u8>,  [Inc_rm8]),
    row!(unary: inc<u16>, [Inc_rm16, Inc_r16]),
    row!(unary: inc<u32>, [Inc_rm32, Inc_r32]),
    row!(unary: inc<u64>, [Inc_rm64]),
    row!(unary: dec<u8>,  [Dec_rm8]),
    row!(unary: dec<u16>, [Dec_rm16, Dec_r16]),
    row!(unary: dec<u32>, [Dec_rm32, Dec_r32]),
    row!(unary: dec<u64>, [Dec_rm64]),
    row!(unary: neg<u8>,  [Neg_rm8]),
    row!(unary: neg<u16>, [Neg_rm16]),
    row!(unary: neg<u32>, [Neg_rm32]),
    row!(unary: neg<u64>, [Neg_rm64]),
];
