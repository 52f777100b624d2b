//! Packed decimal: eighteen digits and a sign. SDM Vol. 1, "BCD and Packed BCD Integers".

use super::convert::magnitude;
use super::env::{Env, Exceptions};
use super::format::{Class, Float, INTEGER};
use super::from_int;

/// The first number with nineteen digits.
const TOO_LARGE: u64 = 1_000_000_000_000_000_000;

/// The value of ten bytes: nine of digits, then one of which bit 7 is the sign. Digits above nine
/// count as what they are, as processors do.
pub fn from_bcd(digits: u64, head: u16) -> Float {
    let pair = |byte: u64| (byte >> 4) * 10 + (byte & 0xF);
    let high = pair(u64::from(head & 0xFF));
    let whole = digits
        .to_be_bytes()
        .iter()
        .fold(high, |sum, &byte| sum * 100 + pair(u64::from(byte)));
    Float {
        sign: head & 0x8000 != 0,
        ..from_unsigned(whole)
    }
}

/// Fifteen in each digit still fits in 61 bits.
fn from_unsigned(value: u64) -> Float {
    from_int((value & !INTEGER).cast_signed())
}

/// Ten bytes of packed decimal, rounded as `env` says; `None` (and an invalid operation) if there are
/// too few digits.
pub fn to_bcd(env: &mut Env, a: Float) -> Option<(u64, u16)> {
    let before = env.flags;
    let whole = match a.class {
        Class::Zero => Some(0),
        Class::Normal | Class::Denormal => magnitude(env, a),
        _ => None,
    };
    let Some(mut left) = whole.filter(|&whole| whole < TOO_LARGE) else {
        env.flags = before | Exceptions::IE;
        env.up = false;
        return None;
    };
    let mut pair = || {
        let two = left % 100;
        left /= 100;
        (two / 10) << 4 | (two % 10)
    };
    let digits = (0..8).fold(0, |digits, at| digits | pair() << (8 * at));
    Some((digits, pair() as u16 | u16::from(a.sign) << 15))
}
