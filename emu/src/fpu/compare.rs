//! Comparisons. SDM Vol. 1, "Comparison and Classification Instructions".

use super::env::{Env, Exceptions};
use super::format::{Class, Float};
use super::nan;

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first is less.
    Less,
    /// They are equal.
    Equal,
    /// The first is greater.
    Greater,
    /// One is not a number.
    Unordered,
}

/// Compares; a quiet NaN is invalid where `signal` is set (COM), any other pattern that is no number
/// always is.
#[inline]
pub fn compare(env: &mut Env, a: Float, b: Float, signal: bool) -> Order {
    if a.class != Class::Normal || b.class != Class::Normal {
        if numberless(env, a, b, signal) {
            return Order::Unordered;
        }
        // Even unmasked, it does not keep the answer back.
        nan::denormal(env, &[a, b]);
    }
    order(a, b)
}

#[cold]
fn numberless(env: &mut Env, a: Float, b: Float, signal: bool) -> bool {
    let any = |class| a.class == class || b.class == class;
    let quiet = any(Class::Quiet);
    let loud = any(Class::Signaling) || any(Class::Unsupported);
    if loud || quiet && signal {
        env.raise(Exceptions::IE);
    }
    loud || quiet
}

/// The order of two numbers or infinities.
#[inline]
fn order(a: Float, b: Float) -> Order {
    let rank = |x: Float| match x.class {
        Class::Zero => (i32::MIN, 0),
        Class::Infinity => (i32::MAX, 0),
        _ => (x.exp, x.sig),
    };
    let (x, y) = (rank(a), rank(b));
    if a.class == Class::Zero && b.class == Class::Zero {
        return Order::Equal;
    }
    if a.sign != b.sign {
        return if a.sign { Order::Less } else { Order::Greater };
    }
    match x.cmp(&y) {
        std::cmp::Ordering::Equal => Order::Equal,
        // Of two negative numbers, the larger magnitude is less.
        less if (less == std::cmp::Ordering::Less) != a.sign => Order::Less,
        _ => Order::Greater,
    }
}

/// MINSS and the like: the lesser, or `b` where that has no answer (a NaN, which is invalid; zeros).
#[inline]
pub fn min(env: &mut Env, a: Float, b: Float) -> Float {
    if compare(env, a, b, true) == Order::Less {
        a
    } else {
        b
    }
}

/// MAXSS and the like.
#[inline]
pub fn max(env: &mut Env, a: Float, b: Float) -> Float {
    if compare(env, a, b, true) == Order::Greater {
        a
    } else {
        b
    }
}
