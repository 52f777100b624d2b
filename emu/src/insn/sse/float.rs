//! Arithmetic, comparison and logic of packed and scalar floats. SDM Vol. 1, "SSE Packed and Scalar
//! Floating-Point Instructions", "SSE2 ..."; Vol. 2, each mnemonic. What they compute: `fpu::simd`.
//!
//! RCPxS and RSQRTxS are approximations that each vendor makes differently: on an x86-64 host the
//! host's own, elsewhere the exact result cut off behind twelve bits.

use super::form::{Memory, Operand, Xmm, vector};
use super::packed::xmm;
use crate::arch::RFlags;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::simd::*;
use crate::fpu::{F32, F64, Order, host};
use crate::insn::Row;
use crate::insn::form::row;

/// All of operand 0 becomes what `I` makes of both operands.
#[inline(always)]
pub(super) fn packed<I: Instruction, S: Operand<u128>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    let result = cpu.simd::<I>(cpu.xmm(i.r[0]), b)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// The low doubleword of operand 0 does.
#[inline(always)]
fn single<I: Instruction, S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u32 = S::read(cpu, i)?;
    let a = cpu.xmm(i.r[0]) as u32;
    let result = cpu.simd::<I>(a.into(), b.into())?;
    cpu.set_xmm_d(i.r[0], result as u32);
    Ok(())
}

/// The low quadword.
#[inline(always)]
fn double<I: Instruction, S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b: u64 = S::read(cpu, i)?;
    let a = cpu.xmm(i.r[0]) as u64;
    let result = cpu.simd::<I>(a.into(), b.into())?;
    cpu.set_xmm_q(i.r[0], result as u64);
    Ok(())
}

/// The flags of COMISx and UCOMISx; the others are cleared.
#[inline(always)]
fn set_order(cpu: &mut Cpu, order: Order) {
    let set = match order {
        Order::Less => RFlags::CF,
        Order::Equal => RFlags::ZF,
        Order::Greater => RFlags::empty(),
        Order::Unordered => RFlags::ZF | RFlags::PF | RFlags::CF,
    };
    cpu.flags.set_bits(set);
}

#[inline(always)]
fn order_singles<const SIGNAL: bool, S: Operand<u32>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u32);
    let (order, flags) = order_of::<F32, SIGNAL>(cpu.fpu.mxcsr, a, b);
    cpu.simd_report(flags)?;
    set_order(cpu, order);
    Ok(())
}

#[inline(always)]
fn order_doubles<const SIGNAL: bool, S: Operand<u64>>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]) as u64);
    let (order, flags) = order_of::<F64, SIGNAL>(cpu.fpu.mxcsr, a, b);
    cpu.simd_report(flags)?;
    set_order(cpu, order);
    Ok(())
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

/// A row of CMPxx: the predicate, bits 2:0 of the immediate, chooses the rule.
macro_rules! comparison {
    ($rule:ident::<$name:ident>, $code:ident) => {
        comparison!(@predicates $rule $name $code [0 1 2 3 4 5 6 7])
    };
    (@predicates $rule:ident $name:ident $code:ident [$($p:literal)*]) => {
        row!(@row [$code] |i| {
            use $crate::insn::form::{Kind, kind, step};
            match (i.immediate8() & 7, kind(i, 1)) {
                $(
                    ($p, Kind::Reg) => step!($rule::<$name<$p>, Xmm<1>>),
                    ($p, _) => step!($rule::<$name<$p>, Memory>),
                )*
                // Three bits have eight values.
                _ => $crate::insn::UNDEFINED,
            }
        })
    };
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(packed::<Addps>(), Xmm<1> | Memory, [Addps_xmm_xmmm128]),
    vector!(packed::<Addpd>(), Xmm<1> | Memory, [Addpd_xmm_xmmm128]),
    vector!(single::<Addss>(), Xmm<1> | Memory, [Addss_xmm_xmmm32]),
    vector!(double::<Addsd>(), Xmm<1> | Memory, [Addsd_xmm_xmmm64]),
    vector!(packed::<Subps>(), Xmm<1> | Memory, [Subps_xmm_xmmm128]),
    vector!(packed::<Subpd>(), Xmm<1> | Memory, [Subpd_xmm_xmmm128]),
    vector!(single::<Subss>(), Xmm<1> | Memory, [Subss_xmm_xmmm32]),
    vector!(double::<Subsd>(), Xmm<1> | Memory, [Subsd_xmm_xmmm64]),
    vector!(packed::<Mulps>(), Xmm<1> | Memory, [Mulps_xmm_xmmm128]),
    vector!(packed::<Mulpd>(), Xmm<1> | Memory, [Mulpd_xmm_xmmm128]),
    vector!(single::<Mulss>(), Xmm<1> | Memory, [Mulss_xmm_xmmm32]),
    vector!(double::<Mulsd>(), Xmm<1> | Memory, [Mulsd_xmm_xmmm64]),
    vector!(packed::<Divps>(), Xmm<1> | Memory, [Divps_xmm_xmmm128]),
    vector!(packed::<Divpd>(), Xmm<1> | Memory, [Divpd_xmm_xmmm128]),
    vector!(single::<Divss>(), Xmm<1> | Memory, [Divss_xmm_xmmm32]),
    vector!(double::<Divsd>(), Xmm<1> | Memory, [Divsd_xmm_xmmm64]),
    vector!(packed::<Minps>(), Xmm<1> | Memory, [Minps_xmm_xmmm128]),
    vector!(packed::<Minpd>(), Xmm<1> | Memory, [Minpd_xmm_xmmm128]),
    vector!(single::<Minss>(), Xmm<1> | Memory, [Minss_xmm_xmmm32]),
    vector!(double::<Minsd>(), Xmm<1> | Memory, [Minsd_xmm_xmmm64]),
    vector!(packed::<Maxps>(), Xmm<1> | Memory, [Maxps_xmm_xmmm128]),
    vector!(packed::<Maxpd>(), Xmm<1> | Memory, [Maxpd_xmm_xmmm128]),
    vector!(single::<Maxss>(), Xmm<1> | Memory, [Maxss_xmm_xmmm32]),
    vector!(double::<Maxsd>(), Xmm<1> | Memory, [Maxsd_xmm_xmmm64]),
    vector!(packed::<Sqrtps>(), Xmm<1> | Memory, [Sqrtps_xmm_xmmm128]),
    vector!(packed::<Sqrtpd>(), Xmm<1> | Memory, [Sqrtpd_xmm_xmmm128]),
    vector!(single::<Sqrtss>(), Xmm<1> | Memory, [Sqrtss_xmm_xmmm32]),
    vector!(double::<Sqrtsd>(), Xmm<1> | Memory, [Sqrtsd_xmm_xmmm64]),
    comparison!(packed::<Cmpps>, Cmpps_xmm_xmmm128_imm8),
    comparison!(packed::<Cmppd>, Cmppd_xmm_xmmm128_imm8),
    comparison!(single::<Cmpss>, Cmpss_xmm_xmmm32_imm8),
    comparison!(double::<Cmpsd>, Cmpsd_xmm_xmmm64_imm8),
    vector!(order_singles::<true>(), Xmm<1> | Memory, [Comiss_xmm_xmmm32]),
    vector!(order_singles::<false>(), Xmm<1> | Memory, [Ucomiss_xmm_xmmm32]),
    vector!(order_doubles::<true>(), Xmm<1> | Memory, [Comisd_xmm_xmmm64]),
    vector!(order_doubles::<false>(), Xmm<1> | Memory, [Ucomisd_xmm_xmmm64]),
    vector!(xmm(|a, b| a & b), Xmm<1> | Memory, [Andps_xmm_xmmm128, Andpd_xmm_xmmm128]),
    vector!(xmm(|a, b| !a & b), Xmm<1> | Memory, [Andnps_xmm_xmmm128, Andnpd_xmm_xmmm128]),
    vector!(xmm(|a, b| a | b), Xmm<1> | Memory, [Orps_xmm_xmmm128, Orpd_xmm_xmmm128]),
    vector!(xmm(|a, b| a ^ b), Xmm<1> | Memory, [Xorps_xmm_xmmm128, Xorpd_xmm_xmmm128]),
    vector!(approximate(host::rcp), Xmm<1> | Memory, [Rcpps_xmm_xmmm128]),
    vector!(approximate(host::rsqrt), Xmm<1> | Memory, [Rsqrtps_xmm_xmmm128]),
    vector!(approximate_one(host::rcp), Xmm<1> | Memory, [Rcpss_xmm_xmmm32]),
    vector!(approximate_one(host::rsqrt), Xmm<1> | Memory, [Rsqrtss_xmm_xmmm32]),
];
