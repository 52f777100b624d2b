//! BT, BTS, BTR, BTC, BSF, BSR, LZCNT, TZCNT, POPCNT. SDM Vol. 2, each mnemonic; Vol. 1, "Bit and
//! Byte Instructions" and "Bit and Bit Field".
//!
//! Undefined flags are as AMD processors leave them: the bit tests change CF only; BSF and BSR clear
//! CF, OF, SF, AF and give PF by the index; LZCNT and TZCNT keep OF and clear SF, AF, PF.

use super::Row;
use super::form::{Dest, Imm, Kind, Locked, Mem, Reg, Source, kind, row, step};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// A memory operand that is one unit of a bit string: the signed bit offset in operand 1 moves its
/// address by whole units of the operand's size.
struct Moved<M>(std::marker::PhantomData<M>);

/// The instruction with its address moved to the unit its bit offset points into.
#[inline(always)]
fn moved<W: Width>(cpu: &Cpu, i: &Insn) -> Insn {
    let units = cpu.reg::<W>(i.r[1]).to_i64() >> W::BITS.trailing_zeros();
    let bytes = units.wrapping_mul(W::BYTES as i64);
    Insn {
        // The sum of the address's parts is cut to the address size, as without an offset.
        disp: i.disp.wrapping_add(bytes),
        ..*i
    }
}

impl<M: Source> Source for Moved<M> {
    type Sure = Moved<M::Sure>;
    #[inline(always)]
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        M::read(cpu, &moved::<W>(cpu, i))
    }
}

impl<M: Dest> Dest for Moved<M> {
    #[inline(always)]
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        M::write(cpu, &moved::<W>(cpu, i), value)
    }
    #[inline(always)]
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        M::modify(cpu, &moved::<W>(cpu, i), f)
    }
}

/// The bit that an offset selects within its unit.
#[inline(always)]
fn selected<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
    let offset: W = S::read(cpu, i)?;
    Ok(W::from_u64(1 << (offset.to_u64() % u64::from(W::BITS))))
}

#[inline(always)]
fn bt<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let bit: W = selected::<W, S>(cpu, i)?;
    let a: W = D::read(cpu, i)?;
    cpu.flags.set_cf(a & bit != W::zero());
    Ok(())
}

#[inline(always)]
fn bts<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let bit: W = selected::<W, S>(cpu, i)?;
    let (a, _) = D::modify(cpu, i, |a: W| a | bit)?;
    cpu.flags.set_cf(a & bit != W::zero());
    Ok(())
}

#[inline(always)]
fn btr<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let bit: W = selected::<W, S>(cpu, i)?;
    let (a, _) = D::modify(cpu, i, |a: W| a & !bit)?;
    cpu.flags.set_cf(a & bit != W::zero());
    Ok(())
}

#[inline(always)]
fn btc<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let bit: W = selected::<W, S>(cpu, i)?;
    let (a, _) = D::modify(cpu, i, |a: W| a ^ bit)?;
    cpu.flags.set_cf(a & bit != W::zero());
    Ok(())
}

/// The number of zero bits above the highest one; the width for zero.
#[inline(always)]
fn leading_zeros<W: Width>(a: W) -> u32 {
    a.to_u64().leading_zeros() - (64 - W::BITS)
}

/// The number of zero bits below the lowest one; the width for zero.
#[inline(always)]
fn trailing_zeros<W: Width>(a: W) -> u32 {
    a.to_u64().trailing_zeros().min(W::BITS)
}

/// What BSF and BSR do with the index they found. For a zero source the destination keeps its
/// value: documented by AMD, relied on by compilers, true of every 64-bit processor.
#[inline(always)]
fn scanned<W: Width>(cpu: &mut Cpu, i: &Insn, a: W, index: u32) {
    let found = a != W::zero();
    if found {
        cpu.set_reg(i.r[0], W::from_u64(u64::from(index)));
    }
    cpu.flags.set_result(if found { index as u8 } else { 0 });
    cpu.flags.set_zf(!found);
    cpu.flags.set_cf_of_af(false, false, false);
}

#[inline(always)]
fn bsf<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    scanned(cpu, i, a, trailing_zeros(a));
    Ok(())
}

#[inline(always)]
fn bsr<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    scanned(cpu, i, a, (W::BITS - 1).wrapping_sub(leading_zeros(a)));
    Ok(())
}

/// Writes a count of zeros: CF for a zero source, ZF for a zero count.
#[inline(always)]
fn counted<W: Width>(cpu: &mut Cpu, i: &Insn, count: u32) {
    cpu.set_reg(i.r[0], W::from_u64(u64::from(count)));
    let of = cpu.flags.of();
    // A positive odd number: SF and PF clear.
    cpu.flags.set_result(1u8);
    cpu.flags.set_zf(count == 0);
    cpu.flags.set_cf_of_af(count == W::BITS, of, false);
}

#[inline(always)]
fn lzcnt<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    counted::<W>(cpu, i, leading_zeros(a));
    Ok(())
}

#[inline(always)]
fn tzcnt<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    counted::<W>(cpu, i, trailing_zeros(a));
    Ok(())
}

#[inline(always)]
fn popcnt<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    let count = a.to_u64().count_ones();
    cpu.set_reg(i.r[0], W::from_u64(u64::from(count)));
    // All flags are clear but ZF.
    cpu.flags.set_result(1u8);
    cpu.flags.set_zf(count == 0);
    cpu.flags.set_cf_of_af(false, false, false);
    Ok(())
}

/// Rows of the bit tests. Only a register offset moves the address of memory.
macro_rules! tests {
    ($($rule:ident<$w:ty>: $codes:tt;)*) => {
        &[$(row!(@row $codes |i| match (kind(i, 0), kind(i, 1)) {
            (Kind::Reg, Kind::Reg) => step!($rule::<$w, Reg<0>, Reg<1>>),
            (Kind::Reg, _) => step!($rule::<$w, Reg<0>, Imm>),
            (Kind::Locked, Kind::Reg) => step!($rule::<$w, Moved<Locked>, Reg<1>>),
            (Kind::Locked, _) => step!($rule::<$w, Locked, Imm>),
            (_, Kind::Reg) => step!($rule::<$w, Moved<Mem>, Reg<1>>),
            (_, _) => step!($rule::<$w, Mem, Imm>),
        })),*]
    };
}

#[rustfmt::skip]
pub(super) const TESTS: &[Row] = tests! {
    bt<u16>: [Bt_rm16_r16, Bt_rm16_imm8];
    bt<u32>: [Bt_rm32_r32, Bt_rm32_imm8];
    bt<u64>: [Bt_rm64_r64, Bt_rm64_imm8];
    bts<u16>: [Bts_rm16_r16, Bts_rm16_imm8];
    bts<u32>: [Bts_rm32_r32, Bts_rm32_imm8];
    bts<u64>: [Bts_rm64_r64, Bts_rm64_imm8];
    btr<u16>: [Btr_rm16_r16, Btr_rm16_imm8];
    btr<u32>: [Btr_rm32_r32, Btr_rm32_imm8];
    btr<u64>: [Btr_rm64_r64, Btr_rm64_imm8];
    btc<u16>: [Btc_rm16_r16, Btc_rm16_imm8];
    btc<u32>: [Btc_rm32_r32, Btc_rm32_imm8];
    btc<u64>: [Btc_rm64_r64, Btc_rm64_imm8];
};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(to_reg: bsf<u16>, [Bsf_r16_rm16]),
    row!(to_reg: bsf<u32>, [Bsf_r32_rm32]),
    row!(to_reg: bsf<u64>, [Bsf_r64_rm64]),
    row!(to_reg: bsr<u16>, [Bsr_r16_rm16]),
    row!(to_reg: bsr<u32>, [Bsr_r32_rm32]),
    row!(to_reg: bsr<u64>, [Bsr_r64_rm64]),
    row!(to_reg: lzcnt<u16>, [Lzcnt_r16_rm16]),
    row!(to_reg: lzcnt<u32>, [Lzcnt_r32_rm32]),
    row!(to_reg: lzcnt<u64>, [Lzcnt_r64_rm64]),
    row!(to_reg: tzcnt<u16>, [Tzcnt_r16_rm16]),
    row!(to_reg: tzcnt<u32>, [Tzcnt_r32_rm32]),
    row!(to_reg: tzcnt<u64>, [Tzcnt_r64_rm64]),
    row!(to_reg: popcnt<u16>, [Popcnt_r16_rm16]),
    row!(to_reg: popcnt<u32>, [Popcnt_r32_rm32]),
    row!(to_reg: popcnt<u64>, [Popcnt_r64_rm64]),
];
