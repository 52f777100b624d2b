//! The formats, and a value taken apart.
//! SDM Vol. 1, "Floating-Point Data Types" and "Floating-Point Format".

use super::env::Env;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A number with its integer bit.
    Normal,
    /// Zero.
    Zero,
    /// A number with the smallest exponent and no integer bit; in 80 bits also a pseudo-denormal.
    Denormal,
    /// Infinity.
    Infinity,
    /// A quiet NaN.
    Quiet,
    /// A signalling NaN.
    Signaling,
    /// An 80-bit pattern that is no number: pseudo-NaN, pseudo-infinity, unnormal.
    Unsupported,
}

/// A value: `sig / 2^63 * 2^exp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Float {
    /// What it is.
    pub class: Class,
    /// It is negative.
    pub sign: bool,
    /// Exponent, where it is a number.
    pub exp: i32,
    /// Significand. Of an operand that is a number, bit 63 is set (denormals are normalised); in a
    /// result it is clear where the result is denormal. Of a NaN, bit 63 is set, bit 62 is the quiet
    /// bit and the payload follows.
    pub sig: u64,
}

/// The quiet bit of a NaN's significand.
pub(super) const QUIET: u64 = 1 << 62;
/// The integer bit.
pub(super) const INTEGER: u64 = 1 << 63;

impl Float {
    /// Zero.
    pub const fn zero(sign: bool) -> Self {
        Self {
            class: Class::Zero,
            sign,
            exp: 0,
            sig: 0,
        }
    }

    /// Infinity.
    pub const fn infinity(sign: bool) -> Self {
        Self {
            class: Class::Infinity,
            sign,
            exp: 0,
            sig: INTEGER,
        }
    }

    /// The NaN of an invalid operation.
    pub const INDEFINITE: Self = Self {
        class: Class::Quiet,
        sign: true,
        exp: 0,
        sig: INTEGER | QUIET,
    };

    /// A number.
    pub const fn normal(sign: bool, exp: i32, sig: u64) -> Self {
        Self {
            class: Class::Normal,
            sign,
            exp,
            sig,
        }
    }

    /// Whether it is a NaN, of either kind.
    pub const fn is_nan(&self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signaling)
    }

    /// Whether it is a number other than zero.
    pub const fn is_finite(&self) -> bool {
        matches!(self.class, Class::Normal | Class::Denormal)
    }

    /// With the sign flipped.
    #[must_use]
    pub const fn negated(mut self) -> Self {
        self.sign = !self.sign;
        self
    }

    /// A NaN made quiet.
    #[must_use]
    pub const fn quieted(mut self) -> Self {
        self.class = Class::Quiet;
        self.sig |= QUIET;
        self
    }
}

/// What a result is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bits of the significand, integer bit included.
    pub precision: u32,
    /// Exponent of the smallest normal number.
    pub emin: i32,
    /// Exponent of the largest numbers.
    pub emax: i32,
    /// What an unmasked overflow subtracts from the exponent, and an underflow adds.
    pub wrap: i32,
}

impl Shape {
    /// Eighty bits, at a control word's precision. The reserved setting is the full precision.
    #[inline]
    pub const fn x87(fcw: u16) -> Self {
        let precision = match fcw >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        };
        Self {
            precision,
            ..F80::SHAPE
        }
    }
}

/// A format in memory.
pub trait Format {
    /// Its bits.
    type Bits: Copy;
    /// What its results are rounded to.
    const SHAPE: Shape;
    /// Takes a value apart. DAZ counts, nothing is reported.
    fn unpack(env: &Env, bits: Self::Bits) -> Float;
    /// Puts a value together that was rounded to the format, or is a NaN (whose payload is cut off).
    fn pack(value: Float) -> Self::Bits;
}

/// binary32.
#[derive(Clone, Copy, Debug)]
pub struct F32;
/// binary64.
#[derive(Clone, Copy, Debug)]
pub struct F64;
/// The x87's 80 bits: significand, and sign with exponent, as [`crate::state::Fpu`] has them.
#[derive(Clone, Copy, Debug)]
pub struct F80;

const fn interchange(precision: u32, emax: i32, wrap: i32) -> Shape {
    Shape {
        precision,
        emin: 1 - emax,
        emax,
        wrap,
    }
}

/// Takes an interchange format apart: sign, biased exponent, and the fraction shifted so that it
/// stands below the integer bit.
#[inline(always)]
fn split(shape: Shape, daz: bool, sign: bool, biased: u32, fraction: u64) -> Float {
    let top = (2 * shape.emax + 1) as u32;
    if biased != 0 && biased != top {
        return Float::normal(sign, biased as i32 - shape.emax, fraction | INTEGER);
    }
    if biased == top {
        return match fraction {
            0 => Float::infinity(sign),
            _ => not_a_number(sign, fraction | INTEGER),
        };
    }
    if fraction == 0 || daz {
        return Float::zero(sign);
    }
    denormal(sign, shape.emin, fraction)
}

#[inline]
const fn not_a_number(sign: bool, sig: u64) -> Float {
    let class = if sig & QUIET == 0 {
        Class::Signaling
    } else {
        Class::Quiet
    };
    Float {
        class,
        sign,
        exp: 0,
        sig,
    }
}

#[inline]
const fn denormal(sign: bool, emin: i32, sig: u64) -> Float {
    let zeros = sig.leading_zeros();
    Float {
        class: Class::Denormal,
        sign,
        exp: emin - zeros as i32,
        sig: sig << zeros,
    }
}

/// The biased exponent of a value in `shape`.
#[inline(always)]
fn biased(shape: Shape, value: Float) -> u32 {
    match value.class {
        Class::Zero => 0,
        Class::Normal | Class::Denormal if value.sig & INTEGER == 0 => 0,
        Class::Normal | Class::Denormal => (value.exp + shape.emax) as u32,
        _ => (2 * shape.emax + 1) as u32,
    }
}

impl Format for F32 {
    type Bits = u32;
    const SHAPE: Shape = interchange(24, 127, 192);

    #[inline(always)]
    fn unpack(env: &Env, bits: u32) -> Float {
        let fraction = u64::from(bits) << 41 >> 1;
        let sign = bits >> 31 != 0;
        split(Self::SHAPE, env.daz, sign, bits >> 23 & 0xFF, fraction)
    }

    #[inline(always)]
    fn pack(value: Float) -> u32 {
        let fraction = (value.sig << 1 >> 41) as u32;
        u32::from(value.sign) << 31 | biased(Self::SHAPE, value) << 23 | fraction
    }
}

impl Format for F64 {
    type Bits = u64;
    const SHAPE: Shape = interchange(53, 1023, 1536);

    #[inline(always)]
    fn unpack(env: &Env, bits: u64) -> Float {
        let fraction = bits << 12 >> 1;
        let sign = bits >> 63 != 0;
        let biased = (bits >> 52) as u32 & 0x7FF;
        split(Self::SHAPE, env.daz, sign, biased, fraction)
    }

    #[inline(always)]
    fn pack(value: Float) -> u64 {
        let fraction = value.sig << 1 >> 12;
        let high = u64::from(biased(Self::SHAPE, value));
        u64::from(value.sign) << 63 | high << 52 | fraction
    }
}

impl Format for F80 {
    type Bits = (u64, u16);
    const SHAPE: Shape = interchange(64, 16383, 24576);

    #[inline(always)]
    fn unpack(_: &Env, (sig, head): (u64, u16)) -> Float {
        let sign = head >> 15 != 0;
        let biased = head & 0x7FFF;
        if biased != 0 && biased != 0x7FFF && sig & INTEGER != 0 {
            return Float::normal(sign, i32::from(biased) - 16383, sig);
        }
        odd(sign, biased, sig)
    }

    #[inline(always)]
    fn pack(value: Float) -> (u64, u16) {
        let head = u16::from(value.sign) << 15 | biased(Self::SHAPE, value) as u16;
        (value.sig, head)
    }
}

/// An 80-bit pattern that is no normal number.
#[inline(never)]
fn odd(sign: bool, biased: u16, sig: u64) -> Float {
    match (biased, sig) {
        (0, 0) => Float::zero(sign),
        (0, _) => denormal(sign, F80::SHAPE.emin, sig),
        (0x7FFF, INTEGER) => Float::infinity(sign),
        (0x7FFF, _) if sig & INTEGER != 0 => not_a_number(sign, sig),
        _ => Float {
            class: Class::Unsupported,
            sign,
            exp: i32::from(biased) - 16383,
            sig,
        },
    }
}
