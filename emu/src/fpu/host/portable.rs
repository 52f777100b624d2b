//! What a host that is no x86-64 processor has: no instructions of its own, and approximations by
//! the software core.

use crate::fpu::{self, Env, Exceptions, F32, Float, Format};

/// Every instruction is software's.
pub trait Host {}

impl<T> Host for T {}

/// Nothing is quicker than software.
#[inline(always)]
pub fn plain<I>(_: u128, _: u128) -> Option<u128> {
    None
}

/// As [`plain`].
#[inline(always)]
pub fn under<I>(_: u32, _: u128, _: u128) -> Option<(u128, Exceptions)> {
    None
}

/// Reciprocals, cut off behind twelve bits.
pub fn rcp(lanes: u128) -> u128 {
    each(lanes, |env, b| {
        fpu::div(env, F32::SHAPE, fpu::from_int(1), b)
    })
}

/// Reciprocal square roots, cut off behind twelve bits.
pub fn rsqrt(lanes: u128) -> u128 {
    each(lanes, |env, b| {
        let root = fpu::sqrt(env, F32::SHAPE, b);
        fpu::div(env, F32::SHAPE, fpu::from_int(1), root)
    })
}

fn each(lanes: u128, f: impl Fn(&mut Env, Float) -> Float) -> u128 {
    /// All masked, truncating, denormals are zeros.
    const MXCSR: u32 = 0x1F80 | 3 << 13 | 1 << 6 | 1 << 15;
    const TWELVE_BITS: u32 = !0xFFF;
    (0..128).step_by(32).fold(0, |all, at| {
        let mut env = Env::sse(MXCSR);
        let value = F32::unpack(&env, (lanes >> at) as u32);
        let result = F32::pack(f(&mut env, value)) & TWELVE_BITS;
        all | u128::from(result) << at
    })
}
