//! Partial remainder, scale, extract: exact but for what scaling rounds.
//! SDM Vol. 2, "FPREM", "FPREM1", "FSCALE", "FXTRACT".

use super::arith::divide_wide;
use super::env::{Env, Exceptions};
use super::format::{Class, F80, Float, Format};
use super::nan;
use super::round::round;

/// What FPREM and FPREM1 leave.
#[derive(Clone, Copy, Debug)]
pub struct Remainder {
    /// The remainder, or a step towards it.
    pub value: Float,
    /// The quotient's last bits.
    pub quotient: u64,
    /// The exponents were too far apart: it must go on (C2).
    pub partial: bool,
}

impl Remainder {
    const fn whole(value: Float) -> Self {
        Self {
            value,
            quotient: 0,
            partial: false,
        }
    }
}

/// The remainder of `a / b`, of the quotient cut off (FPREM) or, if `nearest`, rounded to the nearest
/// even (FPREM1).
pub fn remainder(env: &mut Env, a: Float, b: Float, nearest: bool) -> Remainder {
    if let Some(nan) = nan::of_two(env, a, b) {
        return Remainder::whole(nan);
    }
    if a.class == Class::Infinity || b.class == Class::Zero {
        return Remainder::whole(nan::invalid(env));
    }
    if nan::denormal(env, &[a, b]) || a.class == Class::Zero {
        return Remainder::whole(a);
    }
    if b.class == Class::Infinity {
        return Remainder::whole(exact(env, a.sign, a.exp, a.sig));
    }
    let apart = a.exp - b.exp;
    // What is left after one step is a multiple of 32 binary places, as AMD's processors have it.
    let partial = apart >= 64;
    let bits = if partial { 32 + (apart & 31) } else { apart };
    if bits < -1 || bits == -1 && !nearest {
        return Remainder::whole(exact(env, a.sign, a.exp, a.sig));
    }
    // Rest and divisor are in units of the divisor's last place, or half of it where the dividend
    // is below the divisor.
    let (mut quotient, mut rest) = (0, a.sig);
    let unit = u128::from(b.sig) << u32::from(bits < 0);
    if bits >= 0 {
        if rest >= b.sig {
            (quotient, rest) = (1, rest - b.sig);
        }
        let wide = u128::from(rest) << bits;
        let (low, left) = divide_wide((wide >> 64) as u64, wide as u64, b.sig);
        (quotient, rest) = (quotient << bits | low, left);
    }
    let (mut sign, exp) = (a.sign, a.exp - bits.max(0));
    let twice = u128::from(rest) << 1;
    if nearest && !partial && (twice > unit || twice == unit && quotient & 1 != 0) {
        quotient = quotient.wrapping_add(1);
        sign = !sign;
        // At most half a unit, so that it fits.
        rest = (unit - u128::from(rest)) as u64;
    }
    if rest == 0 {
        return Remainder {
            value: Float::zero(a.sign),
            quotient,
            partial,
        };
    }
    let zeros = rest.leading_zeros();
    Remainder {
        value: exact(env, sign, exp - zeros as i32, rest << zeros),
        quotient,
        partial,
    }
}

/// An exact result, which may be denormal.
fn exact(env: &mut Env, sign: bool, exp: i32, sig: u64) -> Float {
    round(env, F80::SHAPE, sign, exp, sig, 0)
}

/// No result is this far out, whatever it is scaled by.
const FAR: i32 = 0x10000;

/// `a` times two to the power of `b` cut off to an integer.
pub fn scale(env: &mut Env, a: Float, b: Float) -> Float {
    if let Some(nan) = nan::of_two(env, a, b) {
        return nan;
    }
    if b.class == Class::Infinity {
        let wrong = if b.sign { Class::Infinity } else { Class::Zero };
        if a.class == wrong {
            return nan::invalid(env);
        }
        if nan::denormal(env, &[a]) {
            return a;
        }
        return if b.sign {
            Float::zero(a.sign)
        } else {
            Float::infinity(a.sign)
        };
    }
    if nan::denormal(env, &[a, b]) || !a.is_finite() {
        return a;
    }
    let by = match b.exp {
        _ if b.class == Class::Zero => 0,
        ..0 => 0,
        0..16 => (b.sig >> (63 - b.exp)) as i32,
        _ => FAR,
    };
    let by = if b.sign { -by } else { by };
    round(env, F80::SHAPE, a.sign, a.exp + by, a.sig, 0)
}

/// The exponent of `a` as a value, and its significand with exponent 0.
pub fn extract(env: &mut Env, a: Float) -> (Float, Float) {
    if let Some(nan) = nan::of_one(env, a) {
        return (nan, nan);
    }
    match a.class {
        Class::Zero => {
            env.raise(Exceptions::ZE);
            (Float::infinity(true), a)
        }
        Class::Infinity => (Float::infinity(false), a),
        _ => {
            nan::denormal(env, &[a]);
            let exponent = super::from_int(i64::from(a.exp));
            (exponent, Float::normal(a.sign, 0, a.sig))
        }
    }
}
