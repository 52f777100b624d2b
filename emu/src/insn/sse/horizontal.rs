//! SSE3: sums and differences across lanes, duplicated lanes. SDM Vol. 1, "Programming with SSE3,
//! SSSE3, SSE4"; Vol. 2, each mnemonic. LDDQU is with the moves, FISTTP with the x87.

use super::float::{Op, lane, settle};
use super::form::{Memory, Operand, Xmm, vector};
use super::packed::xmm;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, F32, F64};
use crate::insn::Row;
use crate::insn::form::row;

/// The singles of a vector, from the lowest on.
fn singles(v: u128) -> [u32; 4] {
    [0, 32, 64, 96].map(|at| (v >> at) as u32)
}

/// The result's singles, each of an operation and its two operands.
fn of_singles(cpu: &mut Cpu, i: &Insn, lanes: [(Op, u32, u32); 4]) -> Result<(), Raised> {
    let mut env = cpu.simd_env();
    let mut result = 0;
    for (at, (op, a, b)) in (0..).step_by(32).zip(lanes) {
        result |= u128::from(lane::<F32>(&mut env, op, a, b)) << at;
    }
    settle(&mut env);
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], result);
    Ok(())
}

/// The result's doubles.
fn of_doubles(cpu: &mut Cpu, i: &Insn, lanes: [(Op, u64, u64); 2]) -> Result<(), Raised> {
    let mut env = cpu.simd_env();
    let [low, high] = lanes.map(|(op, a, b)| lane::<F64>(&mut env, op, a, b));
    settle(&mut env);
    cpu.simd_report(&env)?;
    cpu.set_xmm(i.r[0], u128::from(high) << 64 | u128::from(low));
    Ok(())
}

fn horizontal_ps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn, op: Op) -> Result<(), Raised> {
    cpu.sse()?;
    let [e, f, g, h] = singles(S::read(cpu, i)?);
    let [a, b, c, d] = singles(cpu.xmm(i.r[0]));
    of_singles(cpu, i, [(op, a, b), (op, c, d), (op, e, f), (op, g, h)])
}

fn horizontal_pd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn, op: Op) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    let pair = |v: u128| (op, v as u64, (v >> 64) as u64);
    of_doubles(cpu, i, [pair(a), pair(b)])
}

fn addsubps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    const OPS: [Op; 4] = [fpu::sub, fpu::add, fpu::sub, fpu::add];
    cpu.sse()?;
    let (b, a) = (singles(S::read(cpu, i)?), singles(cpu.xmm(i.r[0])));
    of_singles(cpu, i, std::array::from_fn(|n| (OPS[n], a[n], b[n])))
}

fn addsubpd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (b, a) = (S::read(cpu, i)?, cpu.xmm(i.r[0]));
    let low: (Op, _, _) = (fpu::sub, a as u64, b as u64);
    of_doubles(
        cpu,
        i,
        [low, (fpu::add, (a >> 64) as u64, (b >> 64) as u64)],
    )
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
    vector!(horizontal_ps(fpu::add), Xmm<1> | Memory, [Haddps_xmm_xmmm128]),
    vector!(horizontal_pd(fpu::add), Xmm<1> | Memory, [Haddpd_xmm_xmmm128]),
    vector!(horizontal_ps(fpu::sub), Xmm<1> | Memory, [Hsubps_xmm_xmmm128]),
    vector!(horizontal_pd(fpu::sub), Xmm<1> | Memory, [Hsubpd_xmm_xmmm128]),
    vector!(addsubps(), Xmm<1> | Memory, [Addsubps_xmm_xmmm128]),
    vector!(addsubpd(), Xmm<1> | Memory, [Addsubpd_xmm_xmmm128]),
    vector!(duplicate::<false>(), Xmm<1> | Memory, [Movsldup_xmm_xmmm128]),
    vector!(duplicate::<true>(), Xmm<1> | Memory, [Movshdup_xmm_xmmm128]),
    vector!(movddup(), Xmm<1> | Memory, [Movddup_xmm_xmmm64]),
];
