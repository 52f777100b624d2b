//! Moves between vector registers, memory and general-purpose registers. SDM Vol. 1, "Data Movement
//! Instructions" of each extension.
//!
//! Non-temporal hints mean nothing here.

use super::form::{Gpr, Memory, Mm, Operand, Unaligned, Xmm, vector};
use super::packed::xmm_lanes;
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::insn::Row;
use crate::insn::form::row;
use crate::mem::Access;
use crate::mem::raw::Raw;

/// The whole register.
fn load<S: Operand<[u8; 16]>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    xmm_lanes::<S>(cpu, i, |_, b| b)
}

/// Its low quadword, the rest is zero.
fn load_q<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)?;
    cpu.set_xmm(i.r[0], value.into());
    Ok(())
}

fn load_d<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = S::read(cpu, i)?;
    cpu.set_xmm(i.r[0], value.into());
    Ok(())
}

/// MOVSD and MOVSS between registers leave the rest alone.
fn merge_q(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.set_xmm_q(i.r[0], cpu.xmm(i.r[1]) as u64);
    Ok(())
}

fn merge_d(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.set_xmm_d(i.r[0], cpu.xmm(i.r[1]) as u32);
    Ok(())
}

fn store<const ALIGNED: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.store_wide(i, cpu.xmm_bytes(i.r[1]), ALIGNED)
}

fn store_q(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.store(i, cpu.xmm(i.r[1]) as u64)
}

fn store_d(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.store(i, cpu.xmm(i.r[1]) as u32)
}

/// MOVLPS: the low quadword, the high one stays.
fn load_low(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value = cpu.load(i)?;
    cpu.set_xmm_q(i.r[0], value);
    Ok(())
}

/// MOVHPS: the high quadword.
fn load_high(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value: u64 = cpu.load(i)?;
    let low = cpu.xmm(i.r[0]) as u64;
    cpu.set_xmm(i.r[0], u128::from(value) << 64 | u128::from(low));
    Ok(())
}

fn store_high(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.store(i, (cpu.xmm(i.r[1]) >> 64) as u64)
}

fn movhlps(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.set_xmm_q(i.r[0], (cpu.xmm(i.r[1]) >> 64) as u64);
    Ok(())
}

fn movlhps(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (high, low) = (cpu.xmm(i.r[1]) as u64, cpu.xmm(i.r[0]) as u64);
    cpu.set_xmm(i.r[0], u128::from(high) << 64 | u128::from(low));
    Ok(())
}

/// To a general-purpose register: the low part.
fn to_gpr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.set_reg(i.r[0], W::from_u64(cpu.xmm(i.r[1]) as u64));
    Ok(())
}

/// MOVQ between XMM registers: the rest is zero.
fn copy_q(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.set_xmm(i.r[0], u128::from(cpu.xmm(i.r[1]) as u64));
    Ok(())
}

fn mm_load<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    let value = S::read(cpu, i)?;
    cpu.enter_mmx();
    cpu.set_mm(i.r[0], value);
    Ok(())
}

fn mm_load_d<S: Operand<u32>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    let value = S::read(cpu, i)?;
    cpu.enter_mmx();
    cpu.set_mm(i.r[0], value.into());
    Ok(())
}

fn mm_store<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.store(i, W::from_u64(cpu.mm(i.r[1])))?;
    cpu.enter_mmx();
    Ok(())
}

fn mm_to_gpr<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.enter_mmx();
    cpu.set_reg(i.r[0], W::from_u64(cpu.mm(i.r[1])));
    Ok(())
}

fn mm_copy(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.enter_mmx();
    cpu.set_mm(i.r[0], cpu.mm(i.r[1]));
    Ok(())
}

fn movdq2q(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.mmx()?;
    cpu.enter_mmx();
    cpu.set_mm(i.r[0], cpu.xmm(i.r[1]) as u64);
    Ok(())
}

fn movq2dq(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.mmx()?;
    cpu.enter_mmx();
    cpu.set_xmm(i.r[0], cpu.mm(i.r[1]).into());
    Ok(())
}

fn movnti<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = cpu.reg(i.r[1]);
    cpu.store(i, value)
}

/// Where MASKMOVQ and MASKMOVDQU write: DS (or another segment):rDI.
fn masked(cpu: &mut Cpu, i: &Insn, bytes: &[u8], mask: &[u8]) -> Result<(), Raised> {
    const HALF: usize = 8;
    let seg = i.segment();
    let offset = |cpu: &Cpu, at: u64| cpu.regs[7].wrapping_add(at) & i.address_mask();
    // Faults come before the first byte is written; but as processors do it, a byte behind the end of
    // the address size, where 0 follows, is not tried before.
    for at in (0..bytes.len()).step_by(HALF) {
        let offset = offset(cpu, at as u64);
        let linear = cpu.linear_at(seg, offset, HALF, Access::Write)?;
        cpu.probe_write(linear, HALF, seg == Seg::Ss)?;
    }
    let chosen = (0..)
        .zip(bytes.iter().zip(mask))
        .filter(|(_, (_, m))| *m & 0x80 != 0);
    for (at, (byte, _)) in chosen {
        cpu.store_at(seg, offset(cpu, at), *byte)?;
    }
    Ok(())
}

fn maskmovq(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    let (bytes, mask) = (cpu.mm(i.r[1]), cpu.mm(i.r[2]));
    // The one MMX instruction whose page fault comes after its change of the x87's state.
    cpu.enter_mmx();
    masked(cpu, i, &bytes.to_le_bytes(), &mask.to_le_bytes())
}

fn maskmovdqu(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let (bytes, mask) = (cpu.xmm_bytes(i.r[1]), cpu.xmm_bytes(i.r[2]));
    masked(cpu, i, &bytes, &mask)
}

/// A row whose rule depends on whether operand 0 is a register.
macro_rules! to {
    ($register:expr, $memory:expr, [$($code:ident),*]) => {
        row!(@row [$($code),*] |i| {
            use crate::insn::form::{Kind, kind, step};
            match kind(i, 0) {
                Kind::Reg => step!($register),
                _ => step!($memory),
            }
        })
    };
}

/// The register of a store's register form is operand 0; it reads operand 1 as the load does.
fn move_xmm(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    load::<Xmm<1>>(cpu, i)
}

/// A row whose rule depends on whether operand 1 is a register.
macro_rules! from {
    ($register:expr, $memory:expr, [$($code:ident),*]) => {
        row!(@row [$($code),*] |i| {
            use crate::insn::form::{Kind, kind, step};
            match kind(i, 1) {
                Kind::Reg => step!($register),
                _ => step!($memory),
            }
        })
    };
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(load(), Xmm<1> | Memory, [Movaps_xmm_xmmm128, Movapd_xmm_xmmm128, Movdqa_xmm_xmmm128]),
    // Not by `vector!`, whose first look is at aligned memory.
    from!(load::<Xmm<1>>, load::<Unaligned>, [Movups_xmm_xmmm128, Movupd_xmm_xmmm128, Movdqu_xmm_xmmm128, Lddqu_xmm_m128]),
    to!(move_xmm, store::<true>, [Movaps_xmmm128_xmm, Movapd_xmmm128_xmm, Movdqa_xmmm128_xmm, Movntps_m128_xmm, Movntpd_m128_xmm, Movntdq_m128_xmm]),
    to!(move_xmm, store::<false>, [Movups_xmmm128_xmm, Movupd_xmmm128_xmm, Movdqu_xmmm128_xmm]),
    from!(merge_d, load_d::<Memory>, [Movss_xmm_xmmm32]),
    from!(merge_q, load_q::<Memory>, [Movsd_xmm_xmmm64]),
    to!(merge_d, store_d, [Movss_xmmm32_xmm]),
    to!(merge_q, store_q, [Movsd_xmmm64_xmm]),
    row!(plain: load_low, [Movlps_xmm_m64, Movlpd_xmm_m64]),
    row!(plain: load_high, [Movhps_xmm_m64, Movhpd_xmm_m64]),
    row!(plain: store_q, [Movlps_m64_xmm, Movlpd_m64_xmm]),
    row!(plain: store_high, [Movhps_m64_xmm, Movhpd_m64_xmm]),
    row!(plain: movhlps, [Movhlps_xmm_xmm]),
    row!(plain: movlhps, [Movlhps_xmm_xmm]),
    vector!(load_d(), Gpr<1> | Memory, [Movd_xmm_rm32]),
    vector!(load_q(), Gpr<1> | Memory, [Movq_xmm_rm64]),
    to!(to_gpr::<u32>, store_d, [Movd_rm32_xmm]),
    to!(to_gpr::<u64>, store_q, [Movq_rm64_xmm]),
    vector!(load_q(), Xmm<1> | Memory, [Movq_xmm_xmmm64]),
    to!(copy_q, store_q, [Movq_xmmm64_xmm]),
    vector!(mm_load_d(), Gpr<1> | Memory, [Movd_mm_rm32]),
    vector!(mm_load(), Gpr<1> | Memory, [Movq_mm_rm64]),
    vector!(mm_load(), Mm<1> | Memory, [Movq_mm_mmm64]),
    to!(mm_to_gpr::<u32>, mm_store::<u32>, [Movd_rm32_mm]),
    to!(mm_to_gpr::<u64>, mm_store::<u64>, [Movq_rm64_mm]),
    to!(mm_copy, mm_store::<u64>, [Movq_mmm64_mm, Movntq_m64_mm]),
    row!(plain: movdq2q, [Movdq2q_mm_xmm]),
    row!(plain: movq2dq, [Movq2dq_xmm_mm]),
    row!(plain: movnti::<u32>, [Movnti_m32_r32]),
    row!(plain: movnti::<u64>, [Movnti_m64_r64]),
    row!(plain: maskmovq, [Maskmovq_rDI_mm_mm]),
    row!(plain: maskmovdqu, [Maskmovdqu_rDI_xmm_xmm]),
];
