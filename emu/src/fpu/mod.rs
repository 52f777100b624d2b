//! Floating point in software, bit-exact: the x87's arithmetic, and SSE's where the host has none.
//!
//! No host float comes near a result, but for SSE's on an x86-64 host (`host`). A value is taken
//! apart into a [`Float`] ([`Format::unpack`]), an operation computes its exact result as 128 bits of
//! significand of which the last is sticky, and `round` brings that to a [`Shape`] under an [`Env`]:
//! rounding, masks, flags. [`Format::pack`] puts the result together again.
//!
//! - `env`: rounding control, masks, flags, what differs between x87 and SSE
//! - `format`: binary32, binary64, the x87's 80 bits; [`Float`]
//! - `round`: overflow, underflow, inexact, C1
//! - `arith`: add, subtract, multiply, divide, square root; `nan`: which NaN comes out
//! - `compare`, `convert`, `bcd`: comparisons, minimum and maximum; formats, integers, decimals
//! - `simd`: SSE's instructions; `host` computes them by the host's own, where it has them
//! - `remainder`: partial remainder, scale, extract
//! - `elementary`: exponential, logarithm and trigonometry, in `wide` floats

mod arith;
mod bcd;
mod compare;
mod convert;
mod elementary;
mod env;
mod format;
pub(crate) mod host;
mod nan;
mod remainder;
mod round;
pub(crate) mod simd;
mod tables;
#[cfg(test)]
mod tests;
mod wide;

pub use arith::{add, div, mul, sqrt, sub};
pub use bcd::{from_bcd, to_bcd};
pub use compare::{Order, compare, max, min};
pub use convert::{Int, convert, from_int, narrow, round_to_int, to_int, widen};
pub use elementary::{f2xm1, fcos, fpatan, fptan, fsin, fyl2x, fyl2xp1};
pub use env::{Env, Exceptions, Family, Rounding};
pub use format::{Class, F32, F64, F80, Float, Format, Shape};
pub use remainder::{Remainder, extract, remainder, scale};
pub use round::rounded;
