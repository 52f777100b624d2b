//! MUL, IMUL, DIV, IDIV. SDM Vol. 2, each mnemonic.
//!
//! Undefined flags are as AMD processors leave them: a multiplication keeps SF, ZF, AF and PF; a
//! division keeps CF and OF, sets AF and clears SF, ZF and PF.

use super::Row;
use super::form::{Dest, Reg, Source, row};
use crate::arch::exception::{DE, Exception};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// Number of RAX: AL, AX, EAX, or the low half of a double-width operand.
const A: u8 = 0;
/// Number of RDX: the high half of a double-width operand.
const D: u8 = 2;

/// The double-width operand: AX for bytes, else rDX:rAX.
#[inline(always)]
fn double<W: Width>(cpu: &Cpu) -> u128 {
    if W::BITS == 8 {
        return u128::from(cpu.reg::<u16>(A));
    }
    let (high, low) = (cpu.reg::<W>(D).to_u64(), cpu.reg::<W>(A).to_u64());
    u128::from(high) << W::BITS | u128::from(low)
}

/// Writes the two halves of a double-width result: AH and AL for bytes, else rDX and rAX.
#[inline(always)]
fn set_halves<W: Width>(cpu: &mut Cpu, high: W, low: W) {
    if W::BITS == 8 {
        cpu.set_reg(A, (high.to_u64() << 8 | low.to_u64()) as u16);
    } else {
        cpu.set_reg(A, low);
        cpu.set_reg(D, high);
    }
}

/// The product of two signed operands, and whether its low half does not hold it all.
#[inline(always)]
fn signed_product<W: Width>(a: W, b: W) -> (i128, bool) {
    let product = i128::from(a.to_i64()) * i128::from(b.to_i64());
    let low = W::from_u64(product as u64);
    (product, i128::from(low.to_i64()) != product)
}

#[inline(always)]
fn mul<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let product = u128::from(cpu.reg::<W>(A).to_u64()) * u128::from(b.to_u64());
    let high = W::from_u64((product >> W::BITS) as u64);
    set_halves(cpu, high, W::from_u64(product as u64));
    let wide = high != W::zero();
    cpu.flags.set_cf_of(wide, wide);
    Ok(())
}

#[inline(always)]
fn imul<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    let (product, wide) = signed_product(cpu.reg::<W>(A), b);
    let high = W::from_u64((product >> W::BITS) as u64);
    set_halves(cpu, high, W::from_u64(product as u64));
    cpu.flags.set_cf_of(wide, wide);
    Ok(())
}

/// IMUL with two operands: the first is multiplied by the second.
#[inline(always)]
fn imul2<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = S::read(cpu, i)?;
    truncating(cpu, i, cpu.reg::<W>(i.r[0]), b);
    Ok(())
}

/// IMUL with three operands: the first becomes the second times the immediate.
#[inline(always)]
fn imul3<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let a: W = S::read(cpu, i)?;
    truncating(cpu, i, a, W::from_imm(i.imm));
    Ok(())
}

#[inline(always)]
fn truncating<W: Width>(cpu: &mut Cpu, i: &Insn, a: W, b: W) {
    let (product, wide) = signed_product(a, b);
    cpu.set_reg(i.r[0], W::from_u64(product as u64));
    cpu.flags.set_cf_of(wide, wide);
}

/// MULX: RDX times operand 2; the low half goes to operand 1, then the high half to operand 0 (so
/// that one register for both holds the high half). No flags.
#[inline(always)]
fn mulx<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    super::bmi::require_vex(cpu)?;
    let b: W = S::read(cpu, i)?;
    let product = u128::from(cpu.reg::<W>(D).to_u64()) * u128::from(b.to_u64());
    Reg::<1>::write(cpu, i, W::from_u64(product as u64))?;
    Reg::<0>::write(cpu, i, W::from_u64((product >> W::BITS) as u64))
}

/// Quotient and remainder, or `None` for #DE: the divisor is zero or the quotient too large.
#[inline(always)]
fn divide<W: Width>(dividend: u128, divisor: W) -> Option<(W, W)> {
    let divisor = divisor.to_u64();
    let (quotient, remainder) = match u64::try_from(dividend) {
        // The usual case at 64 bits, always so below: a host division that is far cheaper.
        Ok(dividend) => (
            dividend.checked_div(divisor)?,
            dividend.checked_rem(divisor)?,
        ),
        Err(_) => {
            let divisor = u128::from(divisor);
            let quotient = u64::try_from(dividend.checked_div(divisor)?).ok()?;
            (quotient, dividend.checked_rem(divisor)? as u64)
        }
    };
    let low = W::from_u64(quotient);
    (low.to_u64() == quotient).then(|| (low, W::from_u64(remainder)))
}

/// As [`divide`], signed; the quotient is rounded towards zero.
#[inline(always)]
fn divide_signed<W: Width>(dividend: u128, divisor: W) -> Option<(W, W)> {
    let unused = 128 - 2 * W::BITS;
    let dividend = (dividend << unused) as i128 >> unused;
    let divisor = divisor.to_i64();
    let (quotient, remainder) = match i64::try_from(dividend) {
        // `None` for the most negative number by -1 too: its quotient has no width that holds it.
        Ok(dividend) => (
            dividend.checked_div(divisor)?,
            dividend.checked_rem(divisor)?,
        ),
        Err(_) => {
            let divisor = i128::from(divisor);
            let quotient = i64::try_from(dividend.checked_div(divisor)?).ok()?;
            (quotient, dividend.checked_rem(divisor)? as i64)
        }
    };
    let low = W::from_u64(quotient as u64);
    (low.to_i64() == quotient).then(|| (low, W::from_u64(remainder as u64)))
}

/// Writes what a division gave, or raises #DE.
#[inline(always)]
fn divided<W: Width>(cpu: &mut Cpu, result: Option<(W, W)>) -> Result<(), Raised> {
    let Some((quotient, remainder)) = result else {
        return cpu.fault(Exception::new(DE));
    };
    set_halves(cpu, remainder, quotient);
    // A positive odd number: SF, ZF and PF clear.
    cpu.flags.set_result(1u8);
    let (cf, of) = (cpu.flags.cf(), cpu.flags.of());
    cpu.flags.set_cf_of_af(cf, of, true);
    Ok(())
}

#[inline(always)]
fn div<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let divisor: W = S::read(cpu, i)?;
    divided(cpu, divide(double::<W>(cpu), divisor))
}

#[inline(always)]
fn idiv<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let divisor: W = S::read(cpu, i)?;
    divided(cpu, divide_signed(double::<W>(cpu), divisor))
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(read1: mul<u8>,  [Mul_rm8]),
    row!(read1: mul<u16>, [Mul_rm16]),
    row!(read1: mul<u32>, [Mul_rm32]),
    row!(read1: mul<u64>, [Mul_rm64]),
    row!(read1: imul<u8>,  [Imul_rm8]),
    row!(read1: imul<u16>, [Imul_rm16]),
    row!(read1: imul<u32>, [Imul_rm32]),
    row!(read1: imul<u64>, [Imul_rm64]),
    row!(to_reg: imul2<u16>, [Imul_r16_rm16]),
    row!(to_reg: imul2<u32>, [Imul_r32_rm32]),
    row!(to_reg: imul2<u64>, [Imul_r64_rm64]),
    row!(to_reg: imul3<u16>, [Imul_r16_rm16_imm16, Imul_r16_rm16_imm8]),
    row!(to_reg: imul3<u32>, [Imul_r32_rm32_imm32, Imul_r32_rm32_imm8]),
    row!(to_reg: imul3<u64>, [Imul_r64_rm64_imm32, Imul_r64_rm64_imm8]),
    row!(to_reg2: mulx<u32>, [VEX_Mulx_r32_r32_rm32]),
    row!(to_reg2: mulx<u64>, [VEX_Mulx_r64_r64_rm64]),
    row!(read1: div<u8>,  [Div_rm8]),
    row!(read1: div<u16>, [Div_rm16]),
    row!(read1: div<u32>, [Div_rm32]),
    row!(read1: div<u64>, [Div_rm64]),
    row!(read1: idiv<u8>,  [Idiv_rm8]),
    row!(read1: idiv<u16>, [Idiv_rm16]),
    row!(read1: idiv<u32>, [Idiv_rm32]),
    row!(read1: idiv<u64>, [Idiv_rm64]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Quotient and remainder by subtracting shifted divisors, bit by bit.
    fn long_division(dividend: u128, divisor: u128) -> (u128, u128) {
        let (mut quotient, mut remainder) = (0, 0);
        for bit in (0..128).rev() {
            remainder = remainder << 1 | dividend >> bit & 1;
            if remainder >= divisor {
                remainder -= divisor;
                quotient |= 1 << bit;
            }
        }
        (quotient, remainder)
    }

    /// What DIV must give at width `W`.
    fn expected<W: Width>(dividend: u128, divisor: W) -> Option<(W, W)> {
        let divisor = u128::from(divisor.to_u64());
        if divisor == 0 {
            return None;
        }
        let (quotient, remainder) = long_division(dividend, divisor);
        (quotient >> W::BITS == 0)
            .then(|| (W::from_u64(quotient as u64), W::from_u64(remainder as u64)))
    }

    /// What IDIV must give: sign and magnitude apart.
    fn expected_signed<W: Width>(dividend: u128, divisor: W) -> Option<(W, W)> {
        let unused = 128 - 2 * W::BITS;
        let dividend = (dividend << unused) as i128 >> unused;
        let magnitude = u128::from(divisor.to_i64().unsigned_abs());
        if magnitude == 0 {
            return None;
        }
        let (quotient, remainder) = long_division(dividend.unsigned_abs(), magnitude);
        let negative = (dividend < 0) != (divisor.to_i64() < 0);
        let most = (1u128 << (W::BITS - 1)) - u128::from(!negative);
        let signed = |n: u128, negative: bool| {
            let n = n as u64;
            W::from_u64(if negative { n.wrapping_neg() } else { n })
        };
        (quotient <= most).then(|| (signed(quotient, negative), signed(remainder, dividend < 0)))
    }

    fn agree<W: Width>(dividend: u128, divisor: W) -> Result<(), TestCaseError> {
        let dividend = dividend & u128::MAX >> (128 - 2 * W::BITS);
        prop_assert_eq!(divide(dividend, divisor), expected(dividend, divisor));
        prop_assert_eq!(
            divide_signed(dividend, divisor),
            expected_signed(dividend, divisor)
        );
        Ok(())
    }

    proptest! {
        #[test]
        fn division_at_every_width(bits: u128, shift in 0u32..128, divisor: u64, small in 0u32..64) {
            let (dividend, divisor) = (bits >> shift, divisor >> small);
            for dividend in [dividend, dividend.wrapping_neg()] {
                for divisor in [divisor, divisor.wrapping_neg()] {
                    agree::<u8>(dividend, divisor as u8)?;
                    agree::<u16>(dividend, divisor as u16)?;
                    agree::<u32>(dividend, divisor as u32)?;
                    agree::<u64>(dividend, divisor)?;
                }
            }
        }
    }

    #[test]
    fn division_at_the_edges() -> Result<(), TestCaseError> {
        for width in [8, 16, 32, 64] {
            let low = (1u128 << (width - 1)).wrapping_neg();
            let edges = [
                0,
                1,
                low,
                low.wrapping_neg(),
                low.wrapping_sub(1),
                low << width,
            ];
            for dividend in edges.iter().flat_map(|e| [*e, e.wrapping_neg(), !e]) {
                for divisor in [0, 1, 2, u64::MAX, low as u64, !(low as u64)] {
                    agree::<u8>(dividend, divisor as u8)?;
                    agree::<u16>(dividend, divisor as u16)?;
                    agree::<u32>(dividend, divisor as u32)?;
                    agree::<u64>(dividend, divisor)?;
                }
            }
        }
        Ok(())
    }
}
