//! From an exact result to one of a shape.
//! SDM Vol. 1, "Rounding", "Numeric Overflow Exception (#O)", "Numeric Underflow Exception (#U)".

use super::env::{Env, Exceptions, Family, Rounding};
use super::format::{Float, INTEGER, Shape};

/// `value`, shifted right; bits that fall out are told by the last one that stays.
#[inline(always)]
pub(super) const fn shift_jam(value: u128, by: u32) -> u128 {
    if by == 0 {
        value
    } else if by < 128 {
        value >> by | (value << (128 - by) != 0) as u128
    } else {
        (value != 0) as u128
    }
}

/// A significand cut to the shape's precision: what stays, the unit of its last place, and the rest,
/// which bit 63 makes a half of that unit.
#[inline(always)]
const fn cut(shape: Shape, hi: u64, lo: u64) -> (u64, u64, u64) {
    if shape.precision == 64 {
        return (hi, 1, lo);
    }
    let unit = 1 << (64 - shape.precision);
    let rest = hi << shape.precision | (lo != 0) as u64;
    (hi & !(unit - 1), unit, rest)
}

/// Whether a cut significand goes up.
#[inline(always)]
fn goes_up(rounding: Rounding, sign: bool, odd: bool, rest: u64) -> bool {
    const HALF: u64 = 1 << 63;
    match rounding {
        Rounding::Nearest => rest > HALF || rest == HALF && odd,
        Rounding::Down => sign && rest != 0,
        Rounding::Up => !sign && rest != 0,
        Rounding::Zero => false,
    }
}

/// Rounds `(hi:lo) / 2^127 * 2^exp`, of which bit 63 of `hi` is set and bit 0 of `lo` may be sticky,
/// to `shape`.
#[inline(always)]
pub(super) fn round(env: &mut Env, shape: Shape, sign: bool, exp: i32, hi: u64, lo: u64) -> Float {
    if exp < shape.emin {
        return tiny(env, shape, sign, exp, hi, lo);
    }
    let (mut sig, unit, rest) = cut(shape, hi, lo);
    let mut exp = exp;
    env.up = false;
    if rest != 0 && goes_up(env.rounding, sign, sig & unit != 0, rest) {
        env.up = true;
        let (sum, carry) = sig.overflowing_add(unit);
        if carry {
            (sig, exp) = (INTEGER, exp + 1);
        } else {
            sig = sum;
        }
    }
    if exp > shape.emax {
        return overflow(env, shape, Float::normal(sign, exp, sig), rest != 0);
    }
    if rest != 0 {
        env.raise(Exceptions::PE);
    }
    Float::normal(sign, exp, sig)
}

/// As `round`, for results computed elsewhere.
pub fn rounded(env: &mut Env, shape: Shape, sign: bool, exp: i32, sig: u128) -> Float {
    round(env, shape, sign, exp, (sig >> 64) as u64, sig as u64)
}

/// A result whose exponent, in the shape's precision, is too large.
#[cold]
#[inline(never)]
fn overflow(env: &mut Env, shape: Shape, value: Float, inexact: bool) -> Float {
    env.raise(Exceptions::OE);
    let masked = env.masked.contains(Exceptions::OE);
    if masked || inexact {
        env.raise(Exceptions::PE);
    }
    if !masked && env.family == Family::X87 {
        // Only FSCALE goes so far that the biased exponent does not fit either.
        let exp = value.exp - shape.wrap;
        if exp > shape.emax {
            env.raise(Exceptions::PE);
            env.up = true;
            return Float::infinity(value.sign);
        }
        return Float { exp, ..value };
    }
    let infinite = match env.rounding {
        Rounding::Nearest => true,
        Rounding::Down => value.sign,
        Rounding::Up => !value.sign,
        Rounding::Zero => false,
    };
    env.up = infinite;
    if infinite {
        return Float::infinity(value.sign);
    }
    let (sig, ..) = cut(shape, u64::MAX, 0);
    Float::normal(value.sign, shape.emax, sig)
}

/// A result below the normal numbers, before rounding.
#[cold]
#[inline(never)]
fn tiny(env: &mut Env, shape: Shape, sign: bool, exp: i32, hi: u64, lo: u64) -> Float {
    // Tininess is found after rounding: what the shape's precision makes normal is not tiny.
    let (sig, unit, rest) = cut(shape, hi, lo);
    let reaches = exp == shape.emin - 1
        && goes_up(env.rounding, sign, sig & unit != 0, rest)
        && sig.checked_add(unit).is_none();
    let unmasked = !env.masked.contains(Exceptions::UE);
    if !reaches {
        if unmasked && env.family == Family::X87 {
            env.raise(Exceptions::UE);
            // Only FSCALE goes so far that the biased exponent does not fit either.
            let exp = exp + shape.wrap;
            if exp < shape.emin {
                env.raise(Exceptions::PE);
                env.up = false;
                return Float::zero(sign);
            }
            return round(env, shape, sign, exp, hi, lo);
        }
        if unmasked {
            // No result is left, and inexact is what the precision alone made so.
            env.raise(Exceptions::UE);
            if rest != 0 {
                env.raise(Exceptions::PE);
            }
            return Float::zero(sign);
        }
        if env.ftz {
            env.raise(Exceptions::UE | Exceptions::PE);
            return Float::zero(sign);
        }
    }
    let wide = shift_jam(
        u128::from(hi) << 64 | u128::from(lo),
        exp.abs_diff(shape.emin),
    );
    let (mut sig, unit, rest) = cut(shape, (wide >> 64) as u64, wide as u64);
    env.up = goes_up(env.rounding, sign, sig & unit != 0, rest);
    if env.up {
        // Cannot carry out: bit 63 is clear.
        sig += unit;
    }
    if rest != 0 {
        env.raise(Exceptions::PE);
        if !reaches {
            env.raise(Exceptions::UE);
        }
    }
    if sig == 0 {
        return Float::zero(sign);
    }
    Float::normal(sign, shape.emin, sig)
}
