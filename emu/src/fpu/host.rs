//! What only a processor can say: the approximations of RCPPS and RSQRTPS, which SDM and APM define by
//! their error alone. On an x86-64 host they are the host's.
// UNSAFETY: two instructions without memory operands, in `asm!`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the host's own instructions")
)]

/// Approximate reciprocals of four singles.
#[cfg(target_arch = "x86_64")]
pub fn rcp(lanes: u128) -> u128 {
    let out: std::arch::x86_64::__m128i;
    // SAFETY: RCPPS is in every x86-64 processor and touches registers only; it raises no exception.
    unsafe {
        std::arch::asm!("rcpps {0}, {0}", inout(xmm_reg) vector(lanes) => out, options(pure, nomem, nostack, preserves_flags));
    }
    bits(out)
}

/// Approximate reciprocal square roots of four singles.
#[cfg(target_arch = "x86_64")]
pub fn rsqrt(lanes: u128) -> u128 {
    let out: std::arch::x86_64::__m128i;
    // SAFETY: as for RCPPS.
    unsafe {
        std::arch::asm!("rsqrtps {0}, {0}", inout(xmm_reg) vector(lanes) => out, options(pure, nomem, nostack, preserves_flags));
    }
    bits(out)
}

#[cfg(target_arch = "x86_64")]
fn vector(lanes: u128) -> std::arch::x86_64::__m128i {
    // SAFETY: both are sixteen bytes of any pattern.
    unsafe { std::mem::transmute(lanes) }
}

#[cfg(target_arch = "x86_64")]
fn bits(lanes: std::arch::x86_64::__m128i) -> u128 {
    // SAFETY: as above.
    unsafe { std::mem::transmute(lanes) }
}

/// Reciprocals, cut off behind twelve bits.
#[cfg(not(target_arch = "x86_64"))]
pub fn rcp(lanes: u128) -> u128 {
    each(lanes, |env, b| {
        super::div(env, F32::SHAPE, super::from_int(1), b)
    })
}

/// Reciprocal square roots, cut off behind twelve bits.
#[cfg(not(target_arch = "x86_64"))]
pub fn rsqrt(lanes: u128) -> u128 {
    each(lanes, |env, b| {
        let root = super::sqrt(env, F32::SHAPE, b);
        super::div(env, F32::SHAPE, super::from_int(1), root)
    })
}

#[cfg(not(target_arch = "x86_64"))]
use super::{Env, F32, Float, Format};

#[cfg(not(target_arch = "x86_64"))]
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
