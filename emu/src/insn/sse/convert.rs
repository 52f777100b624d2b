//! Conversions between floats and integers. SDM Vol. 1, "SSE Conversion Instructions", "SSE2
//! Conversion Instructions".

use super::form::{Gpr, Memory, Mm, Operand, Xmm, vector};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::host::{self, FromInt};
use crate::fpu::{self, Env, Exceptions, F32, F64, Float, Format, Int, Rounding, Shape};
use crate::insn::Row;
use crate::insn::form::row;
use crate::mem::raw::Raw;

/// What an integer becomes that does not exist.
const INDEFINITE_32: u32 = 1 << 31;
const INDEFINITE_64: u64 = 1 << 63;

/// Ends a conversion of several lanes.
fn settle(cpu: &mut Cpu, mut env: Env) -> Result<(), Raised> {
    if env.refused() {
        env.flags &= Exceptions::BEFORE;
    }
    cpu.simd_report(&env)
}

/// The environment; truncating instructions round towards zero whatever MXCSR says.
fn env_of<const TRUNCATE: bool>(cpu: &Cpu) -> Env {
    let mut env = cpu.simd_env();
    if TRUNCATE {
        env.rounding = Rounding::Zero;
    }
    env
}

fn to_i32(env: &mut Env, value: Float) -> u32 {
    fpu::to_int(env, value, Int::I32).map_or(INDEFINITE_32, |n| n as u32)
}

fn to_i64(env: &mut Env, value: Float) -> u64 {
    fpu::to_int(env, value, Int::I64).map_or(INDEFINITE_64, |n| n as u64)
}

fn from_i32<F: Format>(env: &mut Env, value: u32) -> F::Bits {
    let value = fpu::from_int(i64::from(value as i32));
    F::pack(fpu::convert(env, F::SHAPE, value))
}

fn f32_of(env: &mut Env, value: Float) -> u32 {
    F32::pack(fpu::convert(env, SINGLE, value))
}

fn f64_of(env: &mut Env, value: Float) -> u64 {
    F64::pack(fpu::convert(env, DOUBLE, value))
}

const SINGLE: Shape = F32::SHAPE;
const DOUBLE: Shape = F64::SHAPE;

/// Two halves of a vector.
fn pair(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn doubles(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn each32(v: u128, mut f: impl FnMut(u32) -> u32) -> u128 {
    (0..128)
        .step_by(32)
        .fold(0, |all, at| all | u128::from(f((v >> at) as u32)) << at)
}

/// Has the host's processor convert an integer, if it may; true if it has.
fn from_int(cpu: &mut Cpu, i: &Insn, host: FromInt, value: u64) -> bool {
    let answer = host(cpu.xmm(i.r[0]), value, cpu.fpu.mxcsr);
    match cpu.simd_took(answer) {
        Some(result) => {
            cpu.set_xmm(i.r[0], result);
            true
        }
        None => false,
    }
}

fn cvtsi2ss_32<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)?;
    if from_int(cpu, i, host::cvtsi2ss_32, value.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = from_i32::<F32>(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_xmm_d(i.r[0], result);
    Ok(())
}

fn cvtsi2ss_64<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)? as i64;
    if from_int(cpu, i, host::cvtsi2ss_64, value.cast_unsigned()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = f32_of(&mut env, fpu::from_int(value));
    cpu.simd_report(&env)?;
    cpu.set_xmm_d(i.r[0], result);
    Ok(())
}

fn cvtsi2sd_32<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)?;
    if from_int(cpu, i, host::cvtsi2sd_32, value.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = from_i32::<F64>(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_xmm_q(i.r[0], result);
    Ok(())
}

fn cvtsi2sd_64<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)? as i64;
    if from_int(cpu, i, host::cvtsi2sd_64, value.cast_unsigned()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = f64_of(&mut env, fpu::from_int(value));
    cpu.simd_report(&env)?;
    cpu.set_xmm_q(i.r[0], result);
    Ok(())
}

fn ss_to_int<W: Raw, const TRUNCATE: bool, S: Operand<u32>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let mut env = env_of::<TRUNCATE>(cpu);
    let value = F32::unpack(&env, bits);
    let result = int_of::<W>(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_reg(i.r[0], result);
    Ok(())
}

fn sd_to_int<W: Raw, const TRUNCATE: bool, S: Operand<u64>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let mut env = env_of::<TRUNCATE>(cpu);
    let value = F64::unpack(&env, bits);
    let result = int_of::<W>(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_reg(i.r[0], result);
    Ok(())
}

fn int_of<W: Raw>(env: &mut Env, value: Float) -> W {
    W::from_u64(if W::BYTES == 8 {
        to_i64(env, value)
    } else {
        to_i32(env, value).into()
    })
}

fn cvtss2sd<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    if cpu.simd_host(i, host::cvtss2sd, bits.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let value = F32::unpack(&env, bits);
    let result = f64_of(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_xmm_q(i.r[0], result);
    Ok(())
}

fn cvtsd2ss<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    if cpu.simd_host(i, host::cvtsd2ss, bits.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let value = F64::unpack(&env, bits);
    let result = f32_of(&mut env, value);
    cpu.simd_report(&env)?;
    cpu.set_xmm_d(i.r[0], result);
    Ok(())
}

/// Two singles to two doubles.
fn cvtps2pd<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    if cpu.simd_host(i, host::cvtps2pd, bits.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let mut one = |bits: u32| {
        let value = F32::unpack(&env, bits);
        f64_of(&mut env, value)
    };
    let result = pair(one(bits as u32), one((bits >> 32) as u32));
    settle(cpu, env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// Two doubles to two singles.
fn cvtpd2ps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    if cpu.simd_host(i, host::cvtpd2ps, bits) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let mut one = |bits: u64| {
        let value = F64::unpack(&env, bits);
        f32_of(&mut env, value)
    };
    let result = doubles(one(bits as u64), one((bits >> 64) as u64));
    settle(cpu, env)?;
    cpu.set_xmm(i.r[0], result.into());
    Ok(())
}

fn cvtdq2ps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    if cpu.simd_host(i, host::cvtdq2ps, bits) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = each32(bits, |value| from_i32::<F32>(&mut env, value));
    settle(cpu, env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn ps_to_dq<const TRUNCATE: bool, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let host = if TRUNCATE {
        host::cvttps2dq
    } else {
        host::cvtps2dq
    };
    if cpu.simd_host(i, host, bits) {
        return Ok(());
    }
    let mut env = env_of::<TRUNCATE>(cpu);
    let result = each32(bits, |bits| {
        let value = F32::unpack(&env, bits);
        to_i32(&mut env, value)
    });
    settle(cpu, env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// Two integers to two doubles: always exact.
fn cvtdq2pd<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let mut env = cpu.simd_env();
    let low = from_i32::<F64>(&mut env, bits as u32);
    let high = from_i32::<F64>(&mut env, (bits >> 32) as u32);
    cpu.set_xmm(i.r[0], pair(low, high));
    Ok(())
}

/// Two doubles to two integers of 32 bits.
fn pd_to_ints(env: &mut Env, bits: u128) -> u64 {
    let mut one = |bits: u64| {
        let value = F64::unpack(env, bits);
        to_i32(env, value)
    };
    doubles(one(bits as u64), one((bits >> 64) as u64))
}

/// Two singles to two integers of 32 bits.
fn ps_to_ints(env: &mut Env, bits: u64) -> u64 {
    let mut one = |bits: u32| {
        let value = F32::unpack(env, bits);
        to_i32(env, value)
    };
    doubles(one(bits as u32), one((bits >> 32) as u32))
}

fn pd_to_dq<const TRUNCATE: bool, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let host = if TRUNCATE {
        host::cvttpd2dq
    } else {
        host::cvtpd2dq
    };
    if cpu.simd_host(i, host, bits) {
        return Ok(());
    }
    let mut env = env_of::<TRUNCATE>(cpu);
    let result = pd_to_ints(&mut env, bits);
    settle(cpu, env)?;
    cpu.set_xmm(i.r[0], result.into());
    Ok(())
}

/// Both units are needed; the x87's state changes although a fault of the conversion may follow.
fn both_units(cpu: &mut Cpu) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.mmx()
}

fn pd_to_pi<const TRUNCATE: bool, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    let bits = S::read(cpu, i)?;
    let mut env = env_of::<TRUNCATE>(cpu);
    let result = pd_to_ints(&mut env, bits);
    cpu.enter_mmx();
    settle(cpu, env)?;
    cpu.set_mm(i.r[0], result);
    Ok(())
}

fn ps_to_pi<const TRUNCATE: bool, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    let bits = S::read(cpu, i)?;
    let mut env = env_of::<TRUNCATE>(cpu);
    let result = ps_to_ints(&mut env, bits);
    cpu.enter_mmx();
    settle(cpu, env)?;
    cpu.set_mm(i.r[0], result);
    Ok(())
}

/// MMX integers to two singles; the high quadword stays.
fn cvtpi2ps<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let bits = S::read(cpu, i)?;
    let mut env = cpu.simd_env();
    let low = from_i32::<F32>(&mut env, bits as u32);
    let high = from_i32::<F32>(&mut env, (bits >> 32) as u32);
    settle(cpu, env)?;
    cpu.set_xmm_q(i.r[0], doubles(low, high));
    Ok(())
}

/// The register form alone is an MMX instruction.
fn cvtpi2ps_mm(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    cpu.enter_mmx();
    cvtpi2ps::<Mm<1>>(cpu, i)
}

/// The register form alone is an MMX instruction.
fn cvtpi2pd_mm(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    both_units(cpu)?;
    cpu.enter_mmx();
    cvtdq2pd::<Mm<1>>(cpu, i)
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(cvtsi2ss_32(), Gpr<1> | Memory, [Cvtsi2ss_xmm_rm32]),
    vector!(cvtsi2ss_64(), Gpr<1> | Memory, [Cvtsi2ss_xmm_rm64]),
    vector!(cvtsi2sd_32(), Gpr<1> | Memory, [Cvtsi2sd_xmm_rm32]),
    vector!(cvtsi2sd_64(), Gpr<1> | Memory, [Cvtsi2sd_xmm_rm64]),
    vector!(ss_to_int::<u32, false>(), Xmm<1> | Memory, [Cvtss2si_r32_xmmm32]),
    vector!(ss_to_int::<u64, false>(), Xmm<1> | Memory, [Cvtss2si_r64_xmmm32]),
    vector!(ss_to_int::<u32, true>(), Xmm<1> | Memory, [Cvttss2si_r32_xmmm32]),
    vector!(ss_to_int::<u64, true>(), Xmm<1> | Memory, [Cvttss2si_r64_xmmm32]),
    vector!(sd_to_int::<u32, false>(), Xmm<1> | Memory, [Cvtsd2si_r32_xmmm64]),
    vector!(sd_to_int::<u64, false>(), Xmm<1> | Memory, [Cvtsd2si_r64_xmmm64]),
    vector!(sd_to_int::<u32, true>(), Xmm<1> | Memory, [Cvttsd2si_r32_xmmm64]),
    vector!(sd_to_int::<u64, true>(), Xmm<1> | Memory, [Cvttsd2si_r64_xmmm64]),
    vector!(cvtss2sd(), Xmm<1> | Memory, [Cvtss2sd_xmm_xmmm32]),
    vector!(cvtsd2ss(), Xmm<1> | Memory, [Cvtsd2ss_xmm_xmmm64]),
    vector!(cvtps2pd(), Xmm<1> | Memory, [Cvtps2pd_xmm_xmmm64]),
    vector!(cvtpd2ps(), Xmm<1> | Memory, [Cvtpd2ps_xmm_xmmm128]),
    vector!(cvtdq2ps(), Xmm<1> | Memory, [Cvtdq2ps_xmm_xmmm128]),
    vector!(cvtdq2pd(), Xmm<1> | Memory, [Cvtdq2pd_xmm_xmmm64]),
    vector!(ps_to_dq::<false>(), Xmm<1> | Memory, [Cvtps2dq_xmm_xmmm128]),
    vector!(ps_to_dq::<true>(), Xmm<1> | Memory, [Cvttps2dq_xmm_xmmm128]),
    vector!(pd_to_dq::<false>(), Xmm<1> | Memory, [Cvtpd2dq_xmm_xmmm128]),
    vector!(pd_to_dq::<true>(), Xmm<1> | Memory, [Cvttpd2dq_xmm_xmmm128]),
    vector!(ps_to_pi::<false>(), Xmm<1> | Memory, [Cvtps2pi_mm_xmmm64]),
    vector!(ps_to_pi::<true>(), Xmm<1> | Memory, [Cvttps2pi_mm_xmmm64]),
    vector!(pd_to_pi::<false>(), Xmm<1> | Memory, [Cvtpd2pi_mm_xmmm128]),
    vector!(pd_to_pi::<true>(), Xmm<1> | Memory, [Cvttpd2pi_mm_xmmm128]),
    row!(@row [Cvtpi2ps_xmm_mmm64] |i| {
        use crate::insn::form::{Kind, kind, step};
        match kind(i, 1) {
            Kind::Reg => step!(cvtpi2ps_mm),
            _ => step!(cvtpi2ps::<Memory>),
        }
    }),
    row!(@row [Cvtpi2pd_xmm_mmm64] |i| {
        use crate::insn::form::{Kind, kind, step};
        match kind(i, 1) {
            Kind::Reg => step!(cvtpi2pd_mm),
            _ => step!(cvtdq2pd::<Memory>),
        }
    }),
];
