//! Which NaN comes out. SDM Vol. 1, "Operating on SNaNs and QNaNs", "QNaN Floating-Point Indefinite".

use super::env::{Env, Exceptions, Family};
use super::format::{Class, Float};

/// What an invalid operation returns.
#[cold]
pub(super) fn invalid(env: &mut Env) -> Float {
    env.raise(Exceptions::IE);
    Float::INDEFINITE
}

/// The result where an operand is no number.
#[cold]
pub(super) fn of_two(env: &mut Env, a: Float, b: Float) -> Option<Float> {
    if a.class == Class::Unsupported || b.class == Class::Unsupported {
        return Some(invalid(env));
    }
    if !a.is_nan() && !b.is_nan() {
        return None;
    }
    if a.class == Class::Signaling || b.class == Class::Signaling {
        env.raise(Exceptions::IE);
    }
    let first = match env.family {
        Family::Sse => a.is_nan(),
        Family::X87 => !b.is_nan() || a.is_nan() && wins(a, b),
    };
    Some(if first { a } else { b }.quieted())
}

/// Whether the x87 returns `a` of two NaNs.
fn wins(a: Float, b: Float) -> bool {
    match (a.class, b.class) {
        (Class::Signaling, Class::Quiet) => false,
        (Class::Quiet, Class::Signaling) => true,
        _ if a.sig == b.sig => !a.sign,
        _ => a.sig > b.sig,
    }
}

/// The result where the only operand is no number.
#[cold]
pub(super) fn of_one(env: &mut Env, a: Float) -> Option<Float> {
    match a.class {
        Class::Unsupported => Some(invalid(env)),
        Class::Signaling => {
            env.raise(Exceptions::IE);
            Some(a.quieted())
        }
        Class::Quiet => Some(a),
        _ => None,
    }
}

/// Notes a denormal operand; true if the operation ends there.
#[inline]
pub(super) fn denormal(env: &mut Env, operands: &[Float]) -> bool {
    if operands.iter().all(|x| x.class != Class::Denormal) {
        return false;
    }
    env.raise(Exceptions::DE);
    !env.masked.contains(Exceptions::DE)
}
