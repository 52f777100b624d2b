//! Arithmetic, comparison and logic of packed and scalar floats. SDM Vol. 1, "SSE Packed and Scalar
//! Floating-Point Instructions", "SSE2 ..."; Vol. 2, each mnemonic.
//!
//! RCPxS and RSQRTxS are approximations that each vendor makes differently: on an x86-64 host the
//! host's own, elsewhere the exact result cut off behind twelve bits.

use super::form::{Memory, Operand, Xmm, vector};
use super::packed::xmm;
use crate::arch::RFlags;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::host::{self, Operation};
use crate::fpu::{self, Class, Env, Exceptions, F32, F64, Float, Format, Order, Shape};
use crate::insn::Row;
use crate::insn::form::row;

/// MXCSR under which nothing happens to an exact result.
const ALL_MASKED: u32 = 0x1F80;

/// An operation of two values under an environment.
pub(super) type Op = fn(&mut Env, Shape, Float, Float) -> Float;

fn min(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    unchanged(shape, fpu::min(env, a, b))
}

fn max(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    unchanged(shape, fpu::max(env, a, b))
}

/// An operand as a result: a denormal one needs the exponent that results have.
#[inline(always)]
fn unchanged(shape: Shape, value: Float) -> Float {
    if value.class != Class::Denormal {
        return value;
    }
    fpu::narrow(&mut Env::sse(ALL_MASKED), shape, value)
}

/// The square root of the second operand.
fn sqrt(env: &mut Env, shape: Shape, _: Float, b: Float) -> Float {
    fpu::sqrt(env, shape, b)
}

/// One lane.
#[inline(always)]
pub(super) fn lane<F: Format>(env: &mut Env, op: Op, a: F::Bits, b: F::Bits) -> F::Bits {
    let (a, b) = (F::unpack(env, a), F::unpack(env, b));
    F::pack(op(env, F::SHAPE, a, b))
}

/// All lanes of a vector; where one is refused, what came up after computing others does not count.
#[inline(always)]
pub(super) fn settle(env: &mut Env) {
    if env.refused() {
        env.flags &= Exceptions::BEFORE;
    }
}

fn ps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn, op: Op, host: Operation) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    if cpu.simd_host(i, host, b) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = (0..128).step_by(32).fold(0, |all, at| {
        let bits = lane::<F32>(&mut env, op, (a >> at) as u32, (b >> at) as u32);
        all | u128::from(bits) << at
    });
    settle(&mut env);
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn pd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn, op: Op, host: Operation) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    if cpu.simd_host(i, host, b) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = (0..128).step_by(64).fold(0, |all, at| {
        let bits = lane::<F64>(&mut env, op, (a >> at) as u64, (b >> at) as u64);
        all | u128::from(bits) << at
    });
    settle(&mut env);
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn ss<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn, op: Op, host: Operation) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u32);
    if cpu.simd_host(i, host, b.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = lane::<F32>(&mut env, op, a, b);
    cpu.simd_report(&env)?;
    cpu.set_xmm_d(i.r[0], result);
    Ok(())
}

fn sd<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn, op: Op, host: Operation) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u64);
    if cpu.simd_host(i, host, b.into()) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = lane::<F64>(&mut env, op, a, b);
    cpu.simd_report(&env)?;
    cpu.set_xmm_q(i.r[0], result);
    Ok(())
}

/// CMPxx: whether predicate `imm` holds.
fn holds(env: &mut Env, imm: i32, a: Float, b: Float) -> bool {
    // The ordering predicates are invalid for quiet NaNs too.
    let signal = matches!(imm & 3, 1 | 2);
    let order = fpu::compare(env, a, b, signal);
    let plain = match imm & 3 {
        0 => order == Order::Equal,
        1 => order == Order::Less,
        2 => matches!(order, Order::Less | Order::Equal),
        _ => order == Order::Unordered,
    };
    plain != (imm & 4 != 0)
}

fn mask32(env: &mut Env, imm: i32, a: u32, b: u32) -> u32 {
    let (a, b) = (F32::unpack(env, a), F32::unpack(env, b));
    if holds(env, imm, a, b) { u32::MAX } else { 0 }
}

fn mask64(env: &mut Env, imm: i32, a: u64, b: u64) -> u64 {
    let (a, b) = (F64::unpack(env, a), F64::unpack(env, b));
    if holds(env, imm, a, b) { u64::MAX } else { 0 }
}

fn cmpps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let host = host::CMPPS[i.imm as usize & 7];
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    if cpu.simd_host(i, host, b) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = (0..128).step_by(32).fold(0, |all, at| {
        let mask = mask32(&mut env, i.imm, (a >> at) as u32, (b >> at) as u32);
        all | u128::from(mask) << at
    });
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn cmppd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let host = host::CMPPD[i.imm as usize & 7];
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    if cpu.simd_host(i, host, b) {
        return Ok(());
    }
    let mut env = cpu.simd_env();
    let result = (0..128).step_by(64).fold(0, |all, at| {
        let mask = mask64(&mut env, i.imm, (a >> at) as u64, (b >> at) as u64);
        all | u128::from(mask) << at
    });
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn cmpss<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u32);
    let mut env = cpu.simd_env();
    let result = mask32(&mut env, i.imm, a, b);
    cpu.simd_report(&env)?;
    cpu.set_xmm_d(i.r[0], result);
    Ok(())
}

fn cmpsd<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u64);
    let mut env = cpu.simd_env();
    let result = mask64(&mut env, i.imm, a, b);
    cpu.simd_report(&env)?;
    cpu.set_xmm_q(i.r[0], result);
    Ok(())
}

/// The flags of COMISx and UCOMISx.
fn set_order(cpu: &mut Cpu, order: Order) {
    let set = match order {
        Order::Less => RFlags::CF,
        Order::Equal => RFlags::ZF,
        Order::Greater => RFlags::empty(),
        Order::Unordered => RFlags::ZF | RFlags::PF | RFlags::CF,
    };
    cpu.flags.set_bits(set);
}

fn comiss<const SIGNAL: bool, S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u32);
    let mut env = cpu.simd_env();
    let (a, b) = (F32::unpack(&env, a), F32::unpack(&env, b));
    let order = fpu::compare(&mut env, a, b, SIGNAL);
    cpu.simd_report(&env)?;
    set_order(cpu, order);
    Ok(())
}

fn comisd<const SIGNAL: bool, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u64);
    let mut env = cpu.simd_env();
    let (a, b) = (F64::unpack(&env, a), F64::unpack(&env, b));
    let order = fpu::compare(&mut env, a, b, SIGNAL);
    cpu.simd_report(&env)?;
    set_order(cpu, order);
    Ok(())
}

fn comiss_loud<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    comiss::<true, S>(cpu, i)
}

fn comiss_quiet<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    comiss::<false, S>(cpu, i)
}

fn comisd_loud<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    comisd::<true, S>(cpu, i)
}

fn comisd_quiet<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    comisd::<false, S>(cpu, i)
}

/// An approximation of four lanes of `b`.
fn approximate<S: Operand<u128>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: fn(u128) -> u128,
) -> Result<(), Raised> {
    xmm::<S>(cpu, i, |_, b| f(b))
}

fn approximate_one<S: Operand<u32>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: fn(u128) -> u128,
) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    cpu.set_xmm_d(i.r[0], f(b.into()) as u32);
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(ps(fpu::add, host::addps), Xmm<1> | Memory, [Addps_xmm_xmmm128]),
    vector!(pd(fpu::add, host::addpd), Xmm<1> | Memory, [Addpd_xmm_xmmm128]),
    vector!(ss(fpu::add, host::addss), Xmm<1> | Memory, [Addss_xmm_xmmm32]),
    vector!(sd(fpu::add, host::addsd), Xmm<1> | Memory, [Addsd_xmm_xmmm64]),
    vector!(ps(fpu::sub, host::subps), Xmm<1> | Memory, [Subps_xmm_xmmm128]),
    vector!(pd(fpu::sub, host::subpd), Xmm<1> | Memory, [Subpd_xmm_xmmm128]),
    vector!(ss(fpu::sub, host::subss), Xmm<1> | Memory, [Subss_xmm_xmmm32]),
    vector!(sd(fpu::sub, host::subsd), Xmm<1> | Memory, [Subsd_xmm_xmmm64]),
    vector!(ps(fpu::mul, host::mulps), Xmm<1> | Memory, [Mulps_xmm_xmmm128]),
    vector!(pd(fpu::mul, host::mulpd), Xmm<1> | Memory, [Mulpd_xmm_xmmm128]),
    vector!(ss(fpu::mul, host::mulss), Xmm<1> | Memory, [Mulss_xmm_xmmm32]),
    vector!(sd(fpu::mul, host::mulsd), Xmm<1> | Memory, [Mulsd_xmm_xmmm64]),
    vector!(ps(fpu::div, host::divps), Xmm<1> | Memory, [Divps_xmm_xmmm128]),
    vector!(pd(fpu::div, host::divpd), Xmm<1> | Memory, [Divpd_xmm_xmmm128]),
    vector!(ss(fpu::div, host::divss), Xmm<1> | Memory, [Divss_xmm_xmmm32]),
    vector!(sd(fpu::div, host::divsd), Xmm<1> | Memory, [Divsd_xmm_xmmm64]),
    vector!(ps(min, host::minps), Xmm<1> | Memory, [Minps_xmm_xmmm128]),
    vector!(pd(min, host::minpd), Xmm<1> | Memory, [Minpd_xmm_xmmm128]),
    vector!(ss(min, host::minss), Xmm<1> | Memory, [Minss_xmm_xmmm32]),
    vector!(sd(min, host::minsd), Xmm<1> | Memory, [Minsd_xmm_xmmm64]),
    vector!(ps(max, host::maxps), Xmm<1> | Memory, [Maxps_xmm_xmmm128]),
    vector!(pd(max, host::maxpd), Xmm<1> | Memory, [Maxpd_xmm_xmmm128]),
    vector!(ss(max, host::maxss), Xmm<1> | Memory, [Maxss_xmm_xmmm32]),
    vector!(sd(max, host::maxsd), Xmm<1> | Memory, [Maxsd_xmm_xmmm64]),
    vector!(ps(sqrt, host::sqrtps), Xmm<1> | Memory, [Sqrtps_xmm_xmmm128]),
    vector!(pd(sqrt, host::sqrtpd), Xmm<1> | Memory, [Sqrtpd_xmm_xmmm128]),
    vector!(ss(sqrt, host::sqrtss), Xmm<1> | Memory, [Sqrtss_xmm_xmmm32]),
    vector!(sd(sqrt, host::sqrtsd), Xmm<1> | Memory, [Sqrtsd_xmm_xmmm64]),
    vector!(cmpps(), Xmm<1> | Memory, [Cmpps_xmm_xmmm128_imm8]),
    vector!(cmppd(), Xmm<1> | Memory, [Cmppd_xmm_xmmm128_imm8]),
    vector!(cmpss(), Xmm<1> | Memory, [Cmpss_xmm_xmmm32_imm8]),
    vector!(cmpsd(), Xmm<1> | Memory, [Cmpsd_xmm_xmmm64_imm8]),
    vector!(comiss_loud(), Xmm<1> | Memory, [Comiss_xmm_xmmm32]),
    vector!(comiss_quiet(), Xmm<1> | Memory, [Ucomiss_xmm_xmmm32]),
    vector!(comisd_loud(), Xmm<1> | Memory, [Comisd_xmm_xmmm64]),
    vector!(comisd_quiet(), Xmm<1> | Memory, [Ucomisd_xmm_xmmm64]),
    vector!(xmm(|a, b| a & b), Xmm<1> | Memory, [Andps_xmm_xmmm128, Andpd_xmm_xmmm128]),
    vector!(xmm(|a, b| !a & b), Xmm<1> | Memory, [Andnps_xmm_xmmm128, Andnpd_xmm_xmmm128]),
    vector!(xmm(|a, b| a | b), Xmm<1> | Memory, [Orps_xmm_xmmm128, Orpd_xmm_xmmm128]),
    vector!(xmm(|a, b| a ^ b), Xmm<1> | Memory, [Xorps_xmm_xmmm128, Xorpd_xmm_xmmm128]),
    vector!(approximate(host::rcp), Xmm<1> | Memory, [Rcpps_xmm_xmmm128]),
    vector!(approximate(host::rsqrt), Xmm<1> | Memory, [Rsqrtps_xmm_xmmm128]),
    vector!(approximate_one(host::rcp), Xmm<1> | Memory, [Rcpss_xmm_xmmm32]),
    vector!(approximate_one(host::rsqrt), Xmm<1> | Memory, [Rsqrtss_xmm_xmmm32]),
];
