//! Conversions between formats, to and from integers.
//! SDM Vol. 1, "Data Transfer Instructions", "SSE and SSE2 Conversion Instructions".

use super::env::{Env, Exceptions, Rounding};
use super::format::{Class, Float, Shape};
use super::nan;
use super::round::{round, shift_jam};

/// Converts to another format: an operation on its operand, which reports what is odd about it.
#[inline]
pub fn convert(env: &mut Env, shape: Shape, a: Float) -> Float {
    if a.class == Class::Denormal && nan::denormal(env, &[a]) {
        return a;
    }
    narrow(env, shape, a)
}

/// Converts to another format without a word about a denormal operand (FST).
#[inline(always)]
pub fn narrow(env: &mut Env, shape: Shape, a: Float) -> Float {
    if a.class == Class::Normal {
        return round(env, shape, a.sign, a.exp, a.sig, 0);
    }
    odd_narrow(env, shape, a)
}

#[cold]
#[inline(never)]
fn odd_narrow(env: &mut Env, shape: Shape, a: Float) -> Float {
    match a.class {
        Class::Normal | Class::Denormal => round(env, shape, a.sign, a.exp, a.sig, 0),
        Class::Zero | Class::Infinity => a,
        // `of_one` has an answer for all that is left.
        _ => nan::of_one(env, a).unwrap_or(a),
    }
}

/// The widths of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int {
    /// 16 bits.
    I16,
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
}

impl Int {
    /// The largest magnitude, of negative numbers or others.
    const fn limit(self, negative: bool) -> u64 {
        let half = match self {
            Self::I16 => 1 << 15,
            Self::I32 => 1 << 31,
            Self::I64 => 1 << 63,
        };
        if negative { half } else { half - 1 }
    }
}

/// An integer as a value: exact, for 80 bits; for others it wants [`convert`].
#[inline]
pub const fn from_int(value: i64) -> Float {
    if value == 0 {
        return Float::zero(false);
    }
    let magnitude = value.unsigned_abs();
    let zeros = magnitude.leading_zeros();
    Float::normal(value < 0, 63 - zeros as i32, magnitude << zeros)
}

/// The magnitude of a number rounded to an integer, with what was cut off told by flags; `None` if it
/// has more than 64 bits.
#[inline]
pub(super) fn magnitude(env: &mut Env, a: Float) -> Option<u64> {
    if a.exp > 63 {
        return None;
    }
    let wide = shift_jam(u128::from(a.sig) << 64, (63 - a.exp) as u32);
    let (whole, rest) = ((wide >> 64) as u64, wide as u64);
    if rest == 0 {
        env.up = false;
        return Some(whole);
    }
    const HALF: u64 = 1 << 63;
    env.up = match env.rounding {
        Rounding::Nearest => rest > HALF || rest == HALF && whole & 1 != 0,
        Rounding::Down => a.sign,
        Rounding::Up => !a.sign,
        Rounding::Zero => false,
    };
    let whole = whole.checked_add(u64::from(env.up))?;
    env.raise(Exceptions::PE);
    Some(whole)
}

/// An integer of some width, rounded as `env` says; `None` (and an invalid operation) if there is
/// none. What the caller stores then is the integer indefinite, only the sign bit set.
#[inline]
pub fn to_int(env: &mut Env, a: Float, width: Int) -> Option<i64> {
    let before = env.flags;
    let whole = match a.class {
        Class::Zero => Some(0),
        Class::Normal | Class::Denormal => magnitude(env, a),
        _ => None,
    };
    match whole {
        Some(whole) if whole <= width.limit(a.sign) => Some(if a.sign {
            whole.wrapping_neg().cast_signed()
        } else {
            whole.cast_signed()
        }),
        _ => {
            env.flags = before | Exceptions::IE;
            env.up = false;
            None
        }
    }
}

/// Rounds to an integer in the same format (FRNDINT). A denormal operand is the caller's matter.
#[inline]
pub fn round_to_int(env: &mut Env, a: Float) -> Float {
    match a.class {
        Class::Zero | Class::Infinity => a,
        Class::Normal | Class::Denormal if a.exp >= 63 => a,
        Class::Normal | Class::Denormal => match magnitude(env, a) {
            None | Some(0) => Float::zero(a.sign),
            Some(whole) => {
                let zeros = whole.leading_zeros();
                Float::normal(a.sign, 63 - zeros as i32, whole << zeros)
            }
        },
        _ => nan::of_one(env, a).unwrap_or(a),
    }
}

/// Converts to a larger format: exact, and done even if a denormal operand's exception is unmasked.
#[inline]
pub fn widen(env: &mut Env, a: Float) -> Float {
    match a.class {
        Class::Denormal => env.raise(Exceptions::DE),
        Class::Signaling => {
            env.raise(Exceptions::IE);
            return a.quieted();
        }
        _ => {}
    }
    a
}
