//! Conversions between floats and integers. SDM Vol. 1, "SSE Conversion Instructions", "SSE2
//! Conversion Instructions". What they compute: `fpu::simd`.
//!
//! A rule is named by what it reads and what it writes. Those that an MMX register takes part in
//! are the XMM ones with nothing in the lanes above.

use super::float::packed;
use super::form::{Gpr, Memory, Mm, Operand, Xmm, vector};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::simd::*;
use crate::insn::Row;
use crate::insn::form::row;
use crate::mem::raw::Raw;

/// From 32 bits to the low doubleword.
#[inline(always)]
fn d_to_d<I: Instruction, S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u32 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_xmm_d(i.r[0], result as u32);
    Ok(())
}

/// From 32 bits to the low quadword.
#[inline(always)]
fn d_to_q<I: Instruction, S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u32 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_xmm_q(i.r[0], result as u64);
    Ok(())
}

/// From 64 bits to the low doubleword.
#[inline(always)]
fn q_to_d<I: Instruction, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u64 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_xmm_d(i.r[0], result as u32);
    Ok(())
}

/// From 64 bits to the low quadword.
#[inline(always)]
fn q_to_q<I: Instruction, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u64 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_xmm_q(i.r[0], result as u64);
    Ok(())
}

/// From 64 bits to all of a vector.
#[inline(always)]
fn q_to_vector<I: Instruction, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u64 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// From a vector to the low quadword; the rest is zero.
#[inline(always)]
fn vector_to_q<I: Instruction, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b)?;
    cpu.set_xmm(i.r[0], u128::from(result as u64));
    Ok(())
}

/// From a single to a general-purpose register.
#[inline(always)]
fn d_to_gpr<W: Raw, I: Instruction, S: Operand<u32>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u32 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_reg(i.r[0], W::from_u64(result as u64));
    Ok(())
}

/// From a double to a general-purpose register.
#[inline(always)]
fn q_to_gpr<W: Raw, I: Instruction, S: Operand<u64>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u64 = S::read(cpu, i)?;
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_reg(i.r[0], W::from_u64(result as u64));
    Ok(())
}

/// Both units are needed.
fn both_units(cpu: &mut Cpu) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.mmx()
}

/// From a vector to an MMX register. The x87's state changes although a fault of the conversion
/// may follow.
fn vector_to_mm<I: Instruction, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    let b = S::read(cpu, i)?;
    cpu.enter_mmx();
    let result = cpu.simd::<I>(0, b)?;
    cpu.set_mm(i.r[0], result as u64);
    Ok(())
}

/// From 64 bits to an MMX register.
fn q_to_mm<I: Instruction, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    let b: u64 = S::read(cpu, i)?;
    cpu.enter_mmx();
    let result = cpu.simd::<I>(0, b.into())?;
    cpu.set_mm(i.r[0], result as u64);
    Ok(())
}

/// The register form alone is an MMX instruction.
fn cvtpi2ps_mm(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    cpu.enter_mmx();
    q_to_q::<Cvtdq2ps, Mm<1>>(cpu, i)
}

/// The register form alone is an MMX instruction.
fn cvtpi2pd_mm(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    cpu.enter_mmx();
    q_to_vector::<Cvtdq2pd, Mm<1>>(cpu, i)
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(d_to_d::<Cvtsi2ss32>(), Gpr<1> | Memory, [Cvtsi2ss_xmm_rm32]),
    vector!(q_to_d::<Cvtsi2ss64>(), Gpr<1> | Memory, [Cvtsi2ss_xmm_rm64]),
    vector!(d_to_q::<Cvtsi2sd32>(), Gpr<1> | Memory, [Cvtsi2sd_xmm_rm32]),
    vector!(q_to_q::<Cvtsi2sd64>(), Gpr<1> | Memory, [Cvtsi2sd_xmm_rm64]),
    vector!(d_to_gpr::<u32, Cvtss2si32>(), Xmm<1> | Memory, [Cvtss2si_r32_xmmm32]),
    vector!(d_to_gpr::<u64, Cvtss2si64>(), Xmm<1> | Memory, [Cvtss2si_r64_xmmm32]),
    vector!(d_to_gpr::<u32, Cvttss2si32>(), Xmm<1> | Memory, [Cvttss2si_r32_xmmm32]),
    vector!(d_to_gpr::<u64, Cvttss2si64>(), Xmm<1> | Memory, [Cvttss2si_r64_xmmm32]),
    vector!(q_to_gpr::<u32, Cvtsd2si32>(), Xmm<1> | Memory, [Cvtsd2si_r32_xmmm64]),
    vector!(q_to_gpr::<u64, Cvtsd2si64>(), Xmm<1> | Memory, [Cvtsd2si_r64_xmmm64]),
    vector!(q_to_gpr::<u32, Cvttsd2si32>(), Xmm<1> | Memory, [Cvttsd2si_r32_xmmm64]),
    vector!(q_to_gpr::<u64, Cvttsd2si64>(), Xmm<1> | Memory, [Cvttsd2si_r64_xmmm64]),
    vector!(d_to_q::<Cvtss2sd>(), Xmm<1> | Memory, [Cvtss2sd_xmm_xmmm32]),
    vector!(q_to_d::<Cvtsd2ss>(), Xmm<1> | Memory, [Cvtsd2ss_xmm_xmmm64]),
    vector!(q_to_vector::<Cvtps2pd>(), Xmm<1> | Memory, [Cvtps2pd_xmm_xmmm64]),
    vector!(vector_to_q::<Cvtpd2ps>(), Xmm<1> | Memory, [Cvtpd2ps_xmm_xmmm128]),
    vector!(packed::<Cvtdq2ps>(), Xmm<1> | Memory, [Cvtdq2ps_xmm_xmmm128]),
    vector!(q_to_vector::<Cvtdq2pd>(), Xmm<1> | Memory, [Cvtdq2pd_xmm_xmmm64]),
    vector!(packed::<Cvtps2dq>(), Xmm<1> | Memory, [Cvtps2dq_xmm_xmmm128]),
    vector!(packed::<Cvttps2dq>(), Xmm<1> | Memory, [Cvttps2dq_xmm_xmmm128]),
    vector!(vector_to_q::<Cvtpd2dq>(), Xmm<1> | Memory, [Cvtpd2dq_xmm_xmmm128]),
    vector!(vector_to_q::<Cvttpd2dq>(), Xmm<1> | Memory, [Cvttpd2dq_xmm_xmmm128]),
    vector!(q_to_mm::<Cvtps2dq>(), Xmm<1> | Memory, [Cvtps2pi_mm_xmmm64]),
    vector!(q_to_mm::<Cvttps2dq>(), Xmm<1> | Memory, [Cvttps2pi_mm_xmmm64]),
    vector!(vector_to_mm::<Cvtpd2dq>(), Xmm<1> | Memory, [Cvtpd2pi_mm_xmmm128]),
    vector!(vector_to_mm::<Cvttpd2dq>(), Xmm<1> | Memory, [Cvttpd2pi_mm_xmmm128]),
    row!(@row [Cvtpi2ps_xmm_mmm64] |i| {
        use crate::insn::form::{Kind, kind, step};
        match kind(i, 1) {
            Kind::Reg => step!(cvtpi2ps_mm),
            _ => step!(q_to_q::<Cvtdq2ps, Memory>),
        }
    }),
    row!(@row [Cvtpi2pd_xmm_mmm64] |i| {
        use crate::insn::form::{Kind, kind, step};
        match kind(i, 1) {
            Kind::Reg => step!(cvtpi2pd_mm),
            _ => step!(q_to_vector::<Cvtdq2pd, Memory>),
        }
    }),
];
