//! Exponential, logarithm, trigonometry. SDM Vol. 1, "Transcendental Instructions".
//!
//! Computed to about 120 bits, so that results are correctly rounded but for one in 2^50. AMD's
//! processors are up to one unit of the last place away from that; what they make of arguments that
//! manuals leave undefined is done likewise. All arguments of the trigonometric functions are taken
//! modulo a pi of 66 bits, as all processors do.

use super::env::{Env, Exceptions};
use super::format::{Class, F80, Float, Format, INTEGER};
use super::nan;
use super::round::rounded;
use super::tables::ATAN;
use super::wide::{ONE, Wide, factorials, mul_high, odd_reciprocals, series};

/// `ln 2`, `2 / ln 2`, `pi`, `pi / 2`.
const LN_2: Wide = constant(-1, 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF);
const TWO_OVER_LN_2: Wide = constant(1, 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E88);
const PI: Wide = constant(1, 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1);
const HALF_PI: Wide = constant(0, 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1);
/// Pi in units of 2^-64: what arguments are reduced by.
const PI_66: u128 = 0x3_243F_6A88_85A3_08D3;
/// The square root of two, as a significand.
const SQRT_2: u128 = 0xB504_F333_F9DE_6484_597D_89B3_754A_BE9F;

/// `(e^t - 1) / t`.
const EXP: [u128; 32] = factorials_from_one();
const SIN: [u128; 17] = factorials(1, 2);
const COS: [u128; 18] = factorials(0, 2);
/// `atanh s / s` in `s^2`, below 0.03; `atan t / t` in `t^2`, below 2^-11.
const ATANH: [u128; 27] = odd_reciprocals();
const ATAN_SERIES: [u128; 13] = odd_reciprocals();

const fn constant(exp: i32, sig: u128) -> Wide {
    Wide {
        sign: false,
        exp,
        sig,
    }
}

/// `1 / (k + 1)!`.
const fn factorials_from_one<const N: usize>() -> [u128; N] {
    factorials(1, 1)
}

/// Rounds a result, which is never exact.
fn finish(env: &mut Env, value: Wide) -> Float {
    rounded(env, F80::SHAPE, value.sign, value.exp, value.sig | 1)
}

/// A result that is exactly `value`, but for what is far below its last place: towards zero if
/// `below`.
fn nearly(value: Wide, below: bool) -> Wide {
    if !below {
        return Wide {
            sig: value.sig | 1,
            ..value
        };
    }
    Wide::new(value.sign, value.exp, value.sig - 1)
}

/// Rounds a value that is exact in 80 bits, and says that it is not.
fn inexact(env: &mut Env, value: Float) -> Float {
    env.raise(Exceptions::PE);
    value
}

/// `2^x - 1`.
pub fn f2xm1(env: &mut Env, x: Float) -> Float {
    if let Some(nan) = nan::of_one(env, x) {
        return nan;
    }
    match x.class {
        Class::Infinity if x.sign => return Float::normal(true, 0, INTEGER),
        Class::Zero | Class::Infinity => return x,
        _ if nan::denormal(env, &[x]) => return x,
        // Outside of what is defined.
        _ if x.exp >= 0 && x.sign && x.sig == INTEGER && x.exp == 0 => {
            return inexact(env, Float::normal(true, -1, INTEGER));
        }
        _ if x.exp >= 0 => return inexact(env, x),
        _ => {}
    }
    let t = Wide::of(x).mul(LN_2);
    let sum = if x.sign {
        series::<true>(t.fraction(), &EXP)
    } else {
        series::<false>(t.fraction(), &EXP)
    };
    finish(env, t.mul(Wide::fixed(sum)))
}

/// `log2 x` of a positive number.
fn log2(x: Wide) -> Wide {
    let upper = x.sig > SQRT_2;
    let exponent = x.exp + i32::from(upper);
    let m = Wide {
        exp: x.exp - exponent,
        ..x
    };
    let one = Wide::integer(1);
    Wide::integer(exponent).add(log2_near_one(m.sub(one)))
}

/// `log2 (1 + f)`, where that is between the square roots of 1/2 and 2.
fn log2_near_one(f: Wide) -> Wide {
    if f.sig == 0 {
        return f;
    }
    let s = f.div(f.add(Wide::integer(2)));
    let fraction = s.fraction();
    let sum = series::<false>(mul_high(fraction, fraction), &ATANH);
    s.mul(Wide::fixed(sum)).mul(TWO_OVER_LN_2)
}

/// `y` times a logarithm that has a sign and is infinite, zero or neither: where that needs no
/// computing.
fn times_logarithm(env: &mut Env, y: Float, log: Float) -> Option<Float> {
    let sign = y.sign != log.sign;
    match (y.class, log.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => Some(nan::invalid(env)),
        (Class::Infinity, _) | (_, Class::Infinity) => Some(Float::infinity(sign)),
        (Class::Zero, _) | (_, Class::Zero) => Some(Float::zero(sign)),
        _ => None,
    }
}

/// `y * log2 x` where `x` is a power of two: exact, and yet called inexact.
fn times_integer(env: &mut Env, y: Float, log: i32) -> Float {
    let log = super::from_int(i64::from(log));
    let y = Float {
        class: Class::Normal,
        ..y
    };
    let result = super::mul(env, F80::SHAPE, log, y);
    env.raise(Exceptions::PE);
    if result.is_finite() && result.sig & INTEGER == 0 {
        env.raise(Exceptions::UE);
    }
    result
}

/// `y * log2 x`.
pub fn fyl2x(env: &mut Env, x: Float, y: Float) -> Float {
    if let Some(nan) = nan::of_two(env, x, y) {
        return nan;
    }
    if x.sign && x.class != Class::Zero {
        return nan::invalid(env);
    }
    if x.class == Class::Zero && y.is_finite() {
        env.raise(Exceptions::ZE);
        return Float::infinity(!y.sign);
    }
    // Enough of the logarithm to see what needs no computing.
    let log = match x.class {
        Class::Zero => Float::infinity(true),
        Class::Infinity => x,
        _ if x.exp == 0 && x.sig == INTEGER => Float::zero(false),
        _ => Float::normal(x.exp < 0, 0, INTEGER),
    };
    if log.class == Class::Infinity && y.class == Class::Zero
        || log.class == Class::Zero && y.class == Class::Infinity
    {
        return nan::invalid(env);
    }
    if nan::denormal(env, &[x, y]) {
        return x;
    }
    if let Some(result) = times_logarithm(env, y, log) {
        return result;
    }
    if x.sig == INTEGER {
        return times_integer(env, y, x.exp);
    }
    finish(env, log2(Wide::of(x)).mul(Wide::of(y)))
}

/// `y * log2 (x + 1)`.
pub fn fyl2xp1(env: &mut Env, x: Float, y: Float) -> Float {
    if let Some(nan) = nan::of_two(env, x, y) {
        return nan;
    }
    if x.class == Class::Infinity && x.sign {
        return nan::invalid(env);
    }
    let log = Float {
        exp: 0,
        sig: INTEGER,
        class: if x.is_finite() {
            Class::Normal
        } else {
            x.class
        },
        ..x
    };
    if log.class == Class::Infinity && y.class == Class::Zero
        || log.class == Class::Zero && y.class == Class::Infinity
    {
        return nan::invalid(env);
    }
    if nan::denormal(env, &[x, y]) {
        return x;
    }
    if let Some(result) = times_logarithm(env, y, log) {
        return result;
    }
    if x.sign && x.exp >= 0 {
        // The logarithm of nothing or less is undefined.
        return inexact(env, x);
    }
    let value = Wide::of(x);
    let log = if x.exp < -2 {
        log2_near_one(value)
    } else {
        log2(value.add(Wide::integer(1)))
    };
    finish(env, log.mul(Wide::of(y)))
}

/// `atan r` for `r` from 0 to 1.
fn atan(r: Wide) -> Wide {
    if r.exp < -64 {
        return nearly(r, true);
    }
    // The nearest multiple of 1/32.
    let nearest = if r.exp >= 0 {
        32
    } else {
        (((r.fraction() >> 122) + 1) >> 1) as usize
    };
    let t = if nearest == 0 {
        r
    } else {
        let c = Wide::new(false, 127 - 5, nearest as u128);
        r.sub(c).div(r.mul(c).add(Wide::integer(1)))
    };
    let fraction = t.fraction();
    let sum = series::<true>(mul_high(fraction, fraction), &ATAN_SERIES);
    let base = Wide::new(false, -1, ATAN[nearest]);
    base.add(t.mul(Wide::fixed(sum)))
}

/// The angle of a point (`x`, `y`).
pub fn fpatan(env: &mut Env, y: Float, x: Float) -> Float {
    if let Some(nan) = nan::of_two(env, x, y) {
        return nan;
    }
    if nan::denormal(env, &[x, y]) {
        return x;
    }
    let signed = |value: Wide| Wide {
        sign: y.sign,
        ..value
    };
    let angle = match (y.class, x.class) {
        (Class::Zero, _) if !x.sign => return Float::zero(y.sign),
        (Class::Zero, _) => PI,
        (Class::Infinity, Class::Infinity) => {
            let quarter = Wide { exp: -1, ..HALF_PI };
            if x.sign { PI.sub(quarter) } else { quarter }
        }
        (_, Class::Zero) | (Class::Infinity, _) => HALF_PI,
        (_, Class::Infinity) if x.sign => PI,
        (_, Class::Infinity) => return Float::zero(y.sign),
        _ => angle(Wide::of(y).abs(), Wide::of(x)),
    };
    finish(env, signed(angle))
}

/// The angle of a point above the axis.
fn angle(y: Wide, x: Wide) -> Wide {
    let width = x.abs();
    let steep = y.exp > width.exp || y.exp == width.exp && y.sig > width.sig;
    match (steep, x.sign) {
        (false, false) => atan(y.div(width)),
        (false, true) => PI.sub(atan(y.div(width))),
        (true, false) => HALF_PI.sub(atan(width.div(y))),
        (true, true) => HALF_PI.add(atan(width.div(y))),
    }
}

/// An angle between minus and plus a quarter of pi, and the quadrant.
struct Reduced {
    angle: Wide,
    quadrant: u8,
}

/// The magnitude of `x` modulo half of pi; `x` is below 2^63.
fn reduce(x: Float) -> Reduced {
    let whole = Reduced {
        angle: Wide::of(x).abs(),
        quadrant: 0,
    };
    if x.exp < -1 {
        return whole;
    }
    // In units of 2^-65, where half of pi is `PI_66`.
    let units = u128::from(x.sig) << (x.exp + 2);
    if units < PI_66 / 2 {
        return whole;
    }
    let (mut quotient, mut rest) = (units / PI_66, units % PI_66);
    let negative = rest > PI_66 / 2;
    if negative {
        (quotient, rest) = (quotient + 1, PI_66 - rest);
    }
    Reduced {
        angle: Wide::new(negative, 127 - 65, rest),
        quadrant: (quotient & 3) as u8,
    }
}

/// Sine and cosine of a reduced angle.
fn sine_cosine(angle: Wide) -> (Wide, Wide) {
    let fraction = angle.fraction();
    let square = mul_high(fraction, fraction);
    let sine = if angle.exp < -60 {
        nearly(angle, true)
    } else {
        angle.mul(Wide::fixed(series::<true>(square, &SIN)))
    };
    let cosine = series::<true>(square, &COS);
    (sine, Wide::fixed(cosine.min(ONE - 1)))
}

/// What a trigonometric function does with what is no angle; `None` if it is out of range (C2).
fn odd_angle(env: &mut Env, x: Float, at_zero: Float) -> Option<Option<Float>> {
    if let Some(nan) = nan::of_one(env, x) {
        return Some(Some(nan));
    }
    match x.class {
        Class::Infinity => Some(Some(nan::invalid(env))),
        Class::Zero => Some(Some(at_zero)),
        _ if x.exp >= 63 => None,
        _ if nan::denormal(env, &[x]) => Some(Some(x)),
        _ => Some(None),
    }
}

/// One.
const UNIT: Float = Float::normal(false, 0, INTEGER);

/// `sin x`, or `None` if `x` is out of range.
pub fn fsin(env: &mut Env, x: Float) -> Option<Float> {
    if let Some(odd) = odd_angle(env, x, x)? {
        return Some(odd);
    }
    let reduced = reduce(x);
    let (sine, cosine) = sine_cosine(reduced.angle);
    Some(finish(env, turned(reduced.quadrant, sine, cosine, x.sign)))
}

/// `cos x`, or `None` if `x` is out of range.
pub fn fcos(env: &mut Env, x: Float) -> Option<Float> {
    if let Some(odd) = odd_angle(env, x, UNIT)? {
        return Some(odd);
    }
    let reduced = reduce(x);
    let (sine, cosine) = sine_cosine(reduced.angle);
    Some(finish(
        env,
        turned(reduced.quadrant + 1, sine, cosine, false),
    ))
}

/// The sine of an angle `quadrant` quadrants on, or its negative.
fn turned(quadrant: u8, sine: Wide, cosine: Wide, negate: bool) -> Wide {
    let value = if quadrant & 1 == 0 { sine } else { cosine };
    Wide {
        sign: value.sign ^ (quadrant & 2 != 0) ^ negate,
        ..value
    }
}

/// `tan x`, or `None` if `x` is out of range.
pub fn fptan(env: &mut Env, x: Float) -> Option<Float> {
    if let Some(odd) = odd_angle(env, x, x)? {
        return Some(odd);
    }
    let reduced = reduce(x);
    let (sine, cosine) = sine_cosine(reduced.angle);
    let tangent = if reduced.quadrant & 1 != 0 {
        cosine.div(sine).negated()
    } else if reduced.angle.exp < -60 {
        nearly(reduced.angle, false)
    } else {
        sine.div(cosine)
    };
    let signed = Wide {
        sign: tangent.sign ^ x.sign,
        ..tangent
    };
    Some(finish(env, signed))
}
