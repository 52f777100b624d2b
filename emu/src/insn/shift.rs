//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD. SDM Vol. 2, each mnemonic.
//!
//! Counts are masked to 5 bits (6 at 64-bit width). A masked count of zero changes no flag, but
//! the destination is still written (and must be writable). OF for counts above one and AF are
//! undefined: here they are what AMD's processors give, OF by the same formula as for a count of
//! one, AF set.

use super::Row;
use super::form::{Dest, Imm, Reg, Source, memory_step, row, step};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// Where the count lies.
pub(super) trait Count: 'static {
    /// The count before masking.
    fn count(cpu: &Cpu, i: &Insn) -> u32;
}

/// The count is CL.
pub(super) struct Cl;

impl Count for Cl {
    #[inline(always)]
    fn count(cpu: &Cpu, _: &Insn) -> u32 {
        cpu.regs[1] as u32
    }
}

impl Count for Imm {
    #[inline(always)]
    fn count(_: &Cpu, i: &Insn) -> u32 {
        i.imm as u32
    }
}

/// The count as the processor masks it.
#[inline(always)]
fn masked<W: Width, C: Count>(cpu: &Cpu, i: &Insn) -> u32 {
    C::count(cpu, i) & if W::BITS == 64 { 63 } else { 31 }
}

/// Whether the two top bits differ: what the right shifts leave in OF.
#[inline(always)]
fn top_bits_differ<W: Width>(value: W) -> bool {
    value.msb() != bit(value.to_u64(), W::BITS - 2)
}

/// Bit `n` of `value`.
#[inline(always)]
fn bit(value: u64, n: u32) -> bool {
    value.checked_shr(n).is_some_and(|v| v & 1 != 0)
}

#[inline(always)]
fn shl<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let (a, result) = D::modify(cpu, i, move |a: W| W::from_u64(a.to_u64() << count))?;
    if count != 0 {
        let cf = count <= W::BITS && bit(a.to_u64(), W::BITS - count.min(W::BITS));
        cpu.flags.set_result(result);
        cpu.flags.set_cf_of_af(cf, cf != result.msb(), true);
    }
    Ok(())
}

#[inline(always)]
fn shr<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let (a, result) = D::modify(cpu, i, move |a: W| W::from_u64(a.to_u64() >> count))?;
    if count != 0 {
        let before = a.to_u64() >> (count - 1);
        cpu.flags.set_result(result);
        cpu.flags
            .set_cf_of_af(before & 1 != 0, top_bits_differ(result), true);
    }
    Ok(())
}

#[inline(always)]
fn sar<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let (a, result) = D::modify(cpu, i, move |a: W| {
        W::from_u64((a.to_i64() >> count) as u64)
    })?;
    if count != 0 {
        cpu.flags.set_result(result);
        cpu.flags
            .set_cf_of_af(a.to_i64() >> (count - 1) & 1 != 0, false, true);
    }
    Ok(())
}

#[inline(always)]
fn rol<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let (_, result) = D::modify(cpu, i, move |a: W| a.rotated_left(count))?;
    if count != 0 {
        let cf = result.to_u64() & 1 != 0;
        cpu.flags.set_cf_of(cf, cf != result.msb());
    }
    Ok(())
}

#[inline(always)]
fn ror<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let (_, result) = D::modify(cpu, i, move |a: W| {
        a.rotated_left(W::BITS - count % W::BITS)
    })?;
    if count != 0 {
        cpu.flags.set_cf_of(result.msb(), top_bits_differ(result));
    }
    Ok(())
}

/// `carry:a` as one number of `BITS + 1` bits rotated left by `count`.
#[inline(always)]
fn rotate_through_carry<W: Width>(a: W, carry: bool, count: u32) -> u128 {
    let bits = W::BITS + 1;
    let wide = u128::from(carry) << W::BITS | u128::from(a.to_u64());
    let count = count % bits;
    (wide << count | wide >> (bits - count)) & ((1 << bits) - 1)
}

#[inline(always)]
fn rcl<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let carry = cpu.flags.cf();
    let rotated = |a: W| rotate_through_carry(a, carry, count);
    let (a, result) = D::modify(cpu, i, move |a: W| W::from_u64(rotated(a) as u64))?;
    if count != 0 {
        let cf = rotated(a) >> W::BITS & 1 != 0;
        cpu.flags.set_cf_of(cf, cf != result.msb());
    }
    Ok(())
}

#[inline(always)]
fn rcr<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let carry = cpu.flags.cf();
    let back = W::BITS + 1 - count % (W::BITS + 1);
    let rotated = |a: W| rotate_through_carry(a, carry, back);
    let (a, result) = D::modify(cpu, i, move |a: W| W::from_u64(rotated(a) as u64))?;
    if count != 0 {
        let cf = rotated(a) >> W::BITS & 1 != 0;
        cpu.flags.set_cf_of(cf, top_bits_differ(result));
    }
    Ok(())
}

/// SHLD: the destination shifted left, filled from the top of operand 1. With 16-bit operands and
/// counts above 16 the result is undefined; here it is AMD's, the source coming twice, CF clear (and OF for SHLD).
#[inline(always)]
fn shld<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let fill: W = Reg::<1>::read(cpu, i)?;
    // The destination with what follows it, and the number of bits that follow.
    let (fill, behind) = {
        let fill = u128::from(fill.to_u64());
        match W::BITS {
            16 => (fill << 16 | fill, 32),
            bits => (fill, bits),
        }
    };
    let joined = |a: W| u128::from(a.to_u64()) << behind | fill;
    let (a, result) = D::modify(cpu, i, move |a: W| {
        W::from_u64((joined(a) << count >> behind) as u64)
    })?;
    if count != 0 {
        let cf = count <= W::BITS && joined(a) >> (behind + W::BITS - count) & 1 != 0;
        cpu.flags.set_result(result);
        let of = cf != (count < W::BITS && result.msb());
        cpu.flags.set_cf_of_af(cf, of, true);
    }
    Ok(())
}

#[inline(always)]
fn shrd<W: Raw, D: Dest, C: Count>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = masked::<W, C>(cpu, i);
    let fill: W = Reg::<1>::read(cpu, i)?;
    let joined = |a: W| {
        let (a, fill) = (u128::from(a.to_u64()), u128::from(fill.to_u64()));
        match W::BITS {
            16 => fill << 32 | fill << 16 | a,
            bits => fill << bits | a,
        }
    };
    let (a, result) = D::modify(cpu, i, move |a: W| W::from_u64((joined(a) >> count) as u64))?;
    if count != 0 {
        let cf = count <= W::BITS && joined(a) >> (count - 1) & 1 != 0;
        cpu.flags.set_result(result);
        cpu.flags.set_cf_of_af(cf, top_bits_differ(result), true);
    }
    Ok(())
}

/// The rule for a destination in a register, in memory, or (never, but harmless) locked.
macro_rules! by_form {
    ($rule:ident, $w:ty, $count:ty, $i:expr) => {
        match crate::insn::form::kind($i, 0) {
            crate::insn::form::Kind::Reg => step!($rule::<$w, Reg<0>, $count>),
            _ => memory_step!($i, $rule<$w> Mem ($count)),
        }
    };
}
/// Rows of one shift: by one or an immediate, and by CL.
macro_rules! shifts {
    ($($rule:ident<$w:ty>: [$($fixed:ident),*], [$cl:ident];)*) => {
        &[$(
            row!(@row [$($fixed),*] |i| by_form!($rule, $w, Imm, i)),
            row!(@row [$cl] |i| by_form!($rule, $w, Cl, i)),
        )*]
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = shifts! {
    rol<u8>:  [Rol_rm8_imm8, Rol_rm8_1],   [Rol_rm8_CL];
    rol<u16>: [Rol_rm16_imm8, Rol_rm16_1], [Rol_rm16_CL];
    rol<u32>: [Rol_rm32_imm8, Rol_rm32_1], [Rol_rm32_CL];
    rol<u64>: [Rol_rm64_imm8, Rol_rm64_1], [Rol_rm64_CL];
    ror<u8>:  [Ror_rm8_imm8, Ror_rm8_1],   [Ror_rm8_CL];
    ror<u16>: [Ror_rm16_imm8, Ror_rm16_1], [Ror_rm16_CL];
    ror<u32>: [Ror_rm32_imm8, Ror_rm32_1], [Ror_rm32_CL];
    ror<u64>: [Ror_rm64_imm8, Ror_rm64_1], [Ror_rm64_CL];
    rcl<u8>:  [Rcl_rm8_imm8, Rcl_rm8_1],   [Rcl_rm8_CL];
    rcl<u16>: [Rcl_rm16_imm8, Rcl_rm16_1], [Rcl_rm16_CL];
    rcl<u32>: [Rcl_rm32_imm8, Rcl_rm32_1], [Rcl_rm32_CL];
    rcl<u64>: [Rcl_rm64_imm8, Rcl_rm64_1], [Rcl_rm64_CL];
    rcr<u8>:  [Rcr_rm8_imm8, Rcr_rm8_1],   [Rcr_rm8_CL];
    rcr<u16>: [Rcr_rm16_imm8, Rcr_rm16_1], [Rcr_rm16_CL];
    rcr<u32>: [Rcr_rm32_imm8, Rcr_rm32_1], [Rcr_rm32_CL];
    rcr<u64>: [Rcr_rm64_imm8, Rcr_rm64_1], [Rcr_rm64_CL];
    shl<u8>:  [Shl_rm8_imm8, Shl_rm8_1, Sal_rm8_imm8, Sal_rm8_1],     [Shl_rm8_CL];
    shl<u16>: [Shl_rm16_imm8, Shl_rm16_1, Sal_rm16_imm8, Sal_rm16_1], [Shl_rm16_CL];
    shl<u32>: [Shl_rm32_imm8, Shl_rm32_1, Sal_rm32_imm8, Sal_rm32_1], [Shl_rm32_CL];
    shl<u64>: [Shl_rm64_imm8, Shl_rm64_1, Sal_rm64_imm8, Sal_rm64_1], [Shl_rm64_CL];
    shl<u8>:  [], [Sal_rm8_CL];
    shl<u16>: [], [Sal_rm16_CL];
    shl<u32>: [], [Sal_rm32_CL];
    shl<u64>: [], [Sal_rm64_CL];
    shr<u8>:  [Shr_rm8_imm8, Shr_rm8_1],   [Shr_rm8_CL];
    shr<u16>: [Shr_rm16_imm8, Shr_rm16_1], [Shr_rm16_CL];
    shr<u32>: [Shr_rm32_imm8, Shr_rm32_1], [Shr_rm32_CL];
    shr<u64>: [Shr_rm64_imm8, Shr_rm64_1], [Shr_rm64_CL];
    sar<u8>:  [Sar_rm8_imm8, Sar_rm8_1],   [Sar_rm8_CL];
    sar<u16>: [Sar_rm16_imm8, Sar_rm16_1], [Sar_rm16_CL];
    sar<u32>: [Sar_rm32_imm8, Sar_rm32_1], [Sar_rm32_CL];
    sar<u64>: [Sar_rm64_imm8, Sar_rm64_1], [Sar_rm64_CL];
    shld<u16>: [Shld_rm16_r16_imm8], [Shld_rm16_r16_CL];
    shld<u32>: [Shld_rm32_r32_imm8], [Shld_rm32_r32_CL];
    shld<u64>: [Shld_rm64_r64_imm8], [Shld_rm64_r64_CL];
    shrd<u16>: [Shrd_rm16_r16_imm8], [Shrd_rm16_r16_CL];
    shrd<u32>: [Shrd_rm32_r32_imm8], [Shrd_rm32_r32_CL];
    shrd<u64>: [Shrd_rm64_r64_imm8], [Shrd_rm64_r64_CL];
};
