//! Add, subtract, multiply, divide, square root.
//! SDM Vol. 1, "Basic Arithmetic Instructions" and "Floating-Point Exception Conditions".

use super::env::{Env, Exceptions, Rounding};
use super::format::{Class, Float, INTEGER, Shape};
use super::nan;
use super::round::{round, shift_jam};

/// Both operands are normal numbers.
#[inline(always)]
fn plain(a: Float, b: Float) -> bool {
    a.class == Class::Normal && b.class == Class::Normal
}

/// `a + b`.
#[inline(always)]
pub fn add(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if plain(a, b) {
        return sum(env, shape, a, b);
    }
    odd_sum(env, shape, a, b, false)
}

/// `a - b`.
#[inline(always)]
pub fn sub(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if plain(a, b) {
        return sum(env, shape, a, b.negated());
    }
    odd_sum(env, shape, a, b, true)
}

/// The sum of two numbers other than zero.
#[inline(always)]
fn sum(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    let (large, small) = if (a.exp, a.sig) >= (b.exp, b.sig) {
        (a, b)
    } else {
        (b, a)
    };
    // What falls out at the lower end is far below a half.
    let y = shift_jam(u128::from(small.sig) << 64, large.exp.abs_diff(small.exp));
    let (yh, yl) = ((y >> 64) as u64, y as u64);
    if a.sign == b.sign {
        let (hi, carry) = large.sig.overflowing_add(yh);
        if !carry {
            return round(env, shape, large.sign, large.exp, hi, yl);
        }
        let lo = hi << 63 | yl >> 1 | yl & 1;
        return round(env, shape, large.sign, large.exp + 1, hi >> 1 | INTEGER, lo);
    }
    let total = (u128::from(large.sig) << 64) - y;
    if total == 0 {
        env.up = false;
        return Float::zero(env.rounding == Rounding::Down);
    }
    let zeros = total.leading_zeros();
    let total = total << zeros;
    let exp = large.exp - zeros as i32;
    let (hi, lo) = ((total >> 64) as u64, total as u64);
    round(env, shape, large.sign, exp, hi, lo)
}

#[cold]
#[inline(never)]
fn odd_sum(env: &mut Env, shape: Shape, a: Float, b: Float, negate: bool) -> Float {
    if let Some(nan) = nan::of_two(env, a, b) {
        return nan;
    }
    let c = Float {
        sign: b.sign ^ negate,
        ..b
    };
    if a.class == Class::Infinity && c.class == Class::Infinity && a.sign != c.sign {
        return nan::invalid(env);
    }
    if nan::denormal(env, &[a, b]) {
        return a;
    }
    match (a.class, c.class) {
        (Class::Infinity, _) => a,
        (_, Class::Infinity) => c,
        (Class::Zero, Class::Zero) if a.sign == c.sign => a,
        (Class::Zero, Class::Zero) => Float::zero(env.rounding == Rounding::Down),
        (Class::Zero, _) => round(env, shape, c.sign, c.exp, c.sig, 0),
        (_, Class::Zero) => round(env, shape, a.sign, a.exp, a.sig, 0),
        _ => sum(env, shape, a, c),
    }
}

/// `a * b`.
#[inline(always)]
pub fn mul(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if plain(a, b) {
        return product(env, shape, a, b);
    }
    odd_product(env, shape, a, b)
}

#[inline(always)]
fn product(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    let wide = u128::from(a.sig) * u128::from(b.sig);
    let short = wide.leading_zeros();
    let wide = wide << short;
    let exp = a.exp + b.exp + 1 - short as i32;
    let (hi, lo) = ((wide >> 64) as u64, wide as u64);
    round(env, shape, a.sign ^ b.sign, exp, hi, lo)
}

#[cold]
#[inline(never)]
fn odd_product(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if let Some(nan) = nan::of_two(env, a, b) {
        return nan;
    }
    let sign = a.sign ^ b.sign;
    match (a.class, b.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => nan::invalid(env),
        _ if nan::denormal(env, &[a, b]) => a,
        (Class::Infinity, _) | (_, Class::Infinity) => Float::infinity(sign),
        (Class::Zero, _) | (_, Class::Zero) => Float::zero(sign),
        _ => product(env, shape, a, b),
    }
}

/// `a / b`.
#[inline(always)]
pub fn div(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if plain(a, b) {
        return quotient(env, shape, a, b);
    }
    odd_quotient(env, shape, a, b)
}

/// `(high:low) / by` and what is left; `by` has bit 63 set and is larger than `high`.
/// Long division in two digits of 32 bits: portable, and without a division of 128 bits.
#[inline]
pub(super) const fn divide_wide(high: u64, low: u64, by: u64) -> (u64, u64) {
    const LOW: u64 = 0xFFFF_FFFF;
    /// One digit of the quotient, and the rest.
    const fn digit(rest: u64, next: u64, by: u64) -> (u64, u64) {
        let (top, bottom) = (by >> 32, by & LOW);
        let mut digit = rest / top;
        let mut left = rest % top;
        while digit > LOW || digit * bottom > (left << 32 | next) {
            digit -= 1;
            left += top;
            if left > LOW {
                break;
            }
        }
        let rest = (rest << 32 | next).wrapping_sub(digit.wrapping_mul(by));
        (digit, rest)
    }
    let (first, rest) = digit(high, low >> 32, by);
    let (second, rest) = digit(rest, low & LOW, by);
    (first << 32 | second, rest)
}

#[inline]
fn quotient(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    let fits = a.sig < b.sig;
    let (high, low) = if fits {
        (a.sig, 0)
    } else {
        (a.sig >> 1, a.sig << 63)
    };
    let (hi, rest) = divide_wide(high, low, b.sig);
    // Half a unit is a rest of half the divisor.
    let half = rest >= b.sig - rest;
    let lo = u64::from(half) << 63 | u64::from(rest != 0 && rest != b.sig.wrapping_sub(rest));
    let exp = a.exp - b.exp - i32::from(fits);
    round(env, shape, a.sign ^ b.sign, exp, hi, lo)
}

#[cold]
#[inline(never)]
fn odd_quotient(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    if let Some(nan) = nan::of_two(env, a, b) {
        return nan;
    }
    let sign = a.sign ^ b.sign;
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => nan::invalid(env),
        (Class::Normal | Class::Denormal, Class::Zero) => {
            env.raise(Exceptions::ZE);
            Float::infinity(sign)
        }
        _ if nan::denormal(env, &[a, b]) => a,
        (Class::Infinity, _) => Float::infinity(sign),
        (Class::Zero, _) | (_, Class::Infinity) => Float::zero(sign),
        _ => quotient(env, shape, a, b),
    }
}

/// The square root of `a`.
#[inline]
pub fn sqrt(env: &mut Env, shape: Shape, a: Float) -> Float {
    if a.class == Class::Normal && !a.sign {
        return root(env, shape, a);
    }
    if let Some(nan) = nan::of_one(env, a) {
        return nan;
    }
    if a.class == Class::Zero {
        return a;
    }
    if a.sign {
        return nan::invalid(env);
    }
    if a.class == Class::Infinity || nan::denormal(env, &[a]) {
        return a;
    }
    root(env, shape, a)
}

#[inline]
fn root(env: &mut Env, shape: Shape, a: Float) -> Float {
    // An even exponent, and a radicand of which the root has 64 bits.
    let odd = a.exp & 1;
    let wide = u128::from(a.sig) << (63 + odd);
    let hi = wide.isqrt();
    let rest = wide - hi * hi;
    // (hi + 1/2)^2 = hi^2 + hi + 1/4: never hit.
    let lo = u64::from(rest > hi) << 63 | u64::from(rest != 0);
    round(env, shape, false, a.exp >> 1, hi as u64, lo)
}
