//! SSE3: sums and differences across lanes, duplicated lanes. SDM Vol. 1, "Programming with SSE3,
//! SSSE3, SSE4"; Vol. 2, each mnemonic. LDDQU is with the moves, FISTTP with the x87.

use super::form::{Memory, Operand, Xmm, vector};
use super::packed::xmm;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::simd::{Addpd, Addps, Addsubpd, Addsubps, Instruction, Software, Subpd, Subps};
use crate::insn::Row;
use crate::insn::form::row;

/// The even and the odd singles of two vectors.
#[inline(always)]
fn even_odd(a: u128, b: u128) -> (u128, u128) {
    let evens = |v: u128| v & 0xFFFF_FFFF | (v >> 32) & 0xFFFF_FFFF_0000_0000;
    let both = |a: u128, b: u128| evens(b) << 64 | evens(a);
    (both(a, b), both(a >> 32, b >> 32))
}

/// The low and the high doubles of two vectors.
#[inline(always)]
fn low_high(a: u128, b: u128) -> (u128, u128) {
    let low = b << 64 | a & u128::from(u64::MAX);
    (low, b >> 64 << 64 | a >> 64)
}

/// Neighbours of both operands: `I` of the even singles and the odd ones.
fn horizontal_ps<I: Instruction, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    let (even, odd) = even_odd(cpu.xmm(i.r[0]), b);
    let result = cpu.simd::<I>(even, odd)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn horizontal_pd<I: Instruction, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    let (low, high) = low_high(cpu.xmm(i.r[0]), b);
    let result = cpu.simd::<I>(low, high)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

fn alternating<I: Software, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    let result = cpu.simd_in_software::<I>(cpu.xmm(i.r[0]), b)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// The even singles (`ODD`: the odd ones), each twice.
fn duplicate<const ODD: bool, S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    const EVEN: u128 = 0xFFFF_FFFF_0000_0000_FFFF_FFFF;
    xmm::<S>(cpu, i, |_, b| {
        let kept = if ODD { b >> 32 } else { b } & EVEN;
        kept | kept << 32
    })
}

fn movddup<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = u128::from(S::read(cpu, i)?);
    cpu.set_xmm(i.r[0], value << 64 | value);
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(horizontal_ps::<Addps>(), Xmm<1> | Memory, [Haddps_xmm_xmmm128]),
    vector!(horizontal_pd::<Addpd>(), Xmm<1> | Memory, [Haddpd_xmm_xmmm128]),
    vector!(horizontal_ps::<Subps>(), Xmm<1> | Memory, [Hsubps_xmm_xmmm128]),
    vector!(horizontal_pd::<Subpd>(), Xmm<1> | Memory, [Hsubpd_xmm_xmmm128]),
    vector!(alternating::<Addsubps>(), Xmm<1> | Memory, [Addsubps_xmm_xmmm128]),
    vector!(alternating::<Addsubpd>(), Xmm<1> | Memory, [Addsubpd_xmm_xmmm128]),
    vector!(duplicate::<false>(), Xmm<1> | Memory, [Movsldup_xmm_xmmm128]),
    vector!(duplicate::<true>(), Xmm<1> | Memory, [Movshdup_xmm_xmmm128]),
    vector!(movddup(), Xmm<1> | Memory, [Movddup_xmm_xmmm64]),
];
