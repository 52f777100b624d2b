//! What the host's processor computes, where it is x86-64: the approximations of RCPPS and RSQRTPS,
//! which SDM and APM define by their error alone; and, while the guest has all exceptions masked, SSE's
//! arithmetic, comparisons and conversions, whose results and flags both define to the last bit.
//!
//! An instruction under guest controls that are the host's own runs as it is: the flags in the host's
//! MXCSR, which mean nothing to Rust, are looked at behind it. Only where one is there that the guest
//! does not have yet, or the controls are others, is MXCSR loaded around it. Reading MXCSR takes longer
//! than a comparison or a conversion to one integer takes in software: those are not here.
// UNSAFETY: instructions on registers, LDMXCSR and STMXCSR on locals, in `asm!`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the host's own instructions")
)]

/// MXCSR: all exceptions masked.
const MASKS: u32 = 0x1F80;
/// MXCSR: the flags.
const FLAGS: u32 = 0x3F;
/// What Rust code runs under, but for the flags.
#[cfg(target_arch = "x86_64")]
static OWN: u32 = MASKS;

/// Of one instruction under MXCSR: its result and the MXCSR it leaves, or `None` if it is not the
/// host's to compute. The first operand is the destination.
pub type Operation = fn(u128, u128, u32) -> Option<(u128, u32)>;

/// Runs `instruction` under `mxcsr`; it is told whether to load MXCSR from where it stores it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn under<T>(mxcsr: u32, instruction: impl Fn(bool, &mut u32) -> T) -> Option<(T, u32)> {
    let mut after = mxcsr;
    if mxcsr & MASKS != MASKS || mxcsr >> 16 != 0 {
        return None;
    }
    if mxcsr & !FLAGS == MASKS {
        let result = instruction(false, &mut after);
        if after & FLAGS & !mxcsr == 0 {
            return Some((result, mxcsr));
        }
        after = mxcsr;
    }
    let result = instruction(true, &mut after);
    Some((result, after))
}

/// `asm!` of one instruction between the loads of MXCSR that `under` asks for.
#[cfg(target_arch = "x86_64")]
macro_rules! instruction {
    ($load:ident, $mxcsr:ident, [$($text:expr),*], $($operands:tt)*) => {
        // SAFETY: registers that are declared, `OWN` and a local; MXCSR has its controls back
        // at the end, and a guest MXCSR that is loaded has no reserved bit and all masks.
        unsafe {
            std::arch::asm!(
                "test {load:e}, {load:e}", "jz 2f", "ldmxcsr [{mxcsr}]", "2:",
                $($text,)*
                "stmxcsr [{mxcsr}]", "test {load:e}, {load:e}", "jz 3f", "ldmxcsr [{own}]", "3:",
                load = in(reg) u32::from($load), mxcsr = in(reg) $mxcsr, own = in(reg) &raw const OWN,
                $($operands)*, options(nostack),
            );
        }
    };
}

/// Instructions of an XMM destination and an XMM source.
macro_rules! operations {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), "`")]
        #[cfg(target_arch = "x86_64")]
        pub fn $name(a: u128, b: u128, mxcsr: u32) -> Option<(u128, u32)> {
            under(mxcsr, |load, mxcsr| {
                let mut to = vector(a);
                instruction!(load, mxcsr, [concat!(stringify!($name), " {to}, {from}")],
                    to = inout(xmm_reg) to, from = in(xmm_reg) vector(b));
                bits(to)
            })
        }
        #[doc = concat!("`", stringify!($name), "`, not on this host")]
        #[cfg(not(target_arch = "x86_64"))]
        pub fn $name(_: u128, _: u128, _: u32) -> Option<(u128, u32)> {
            None
        }
    )*};
}

operations! {
    addps addpd addss addsd subps subpd subss subsd mulps mulpd mulss mulsd divps divpd divss divsd
    minps minpd minss minsd maxps maxpd maxss maxsd sqrtps sqrtpd sqrtss sqrtsd
    cmpeqps cmpltps cmpleps cmpunordps cmpneqps cmpnltps cmpnleps cmpordps
    cmpeqpd cmpltpd cmplepd cmpunordpd cmpneqpd cmpnltpd cmpnlepd cmpordpd
    cvtps2pd cvtpd2ps cvtss2sd cvtsd2ss cvtdq2ps cvtps2dq cvttps2dq cvtpd2dq cvttpd2dq
}

/// The predicates of CMPxx, by the immediate.
pub const CMPPS: [Operation; 8] = [
    cmpeqps, cmpltps, cmpleps, cmpunordps, cmpneqps, cmpnltps, cmpnleps, cmpordps,
];

/// As [`CMPPS`].
pub const CMPPD: [Operation; 8] = [
    cmpeqpd, cmpltpd, cmplepd, cmpunordpd, cmpneqpd, cmpnltpd, cmpnlepd, cmpordpd,
];

/// Of a general-purpose source.
pub type FromInt = fn(u128, u64, u32) -> Option<(u128, u32)>;

macro_rules! from_int {
    ($($name:ident: $text:literal;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`")]
        #[cfg(target_arch = "x86_64")]
        pub fn $name(a: u128, b: u64, mxcsr: u32) -> Option<(u128, u32)> {
            under(mxcsr, |load, mxcsr| {
                let mut to = vector(a);
                instruction!(load, mxcsr, [$text], to = inout(xmm_reg) to, from = in(reg) b);
                bits(to)
            })
        }
        #[doc = concat!("`", stringify!($name), "`, not on this host")]
        #[cfg(not(target_arch = "x86_64"))]
        pub fn $name(_: u128, _: u64, _: u32) -> Option<(u128, u32)> {
            None
        }
    )*};
}

from_int! {
    cvtsi2ss_32: "cvtsi2ss {to}, {from:e}";
    cvtsi2ss_64: "cvtsi2ss {to}, {from}";
    cvtsi2sd_32: "cvtsi2sd {to}, {from:e}";
    cvtsi2sd_64: "cvtsi2sd {to}, {from}";
}

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
