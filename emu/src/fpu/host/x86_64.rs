//! SSE by the host's own instructions.
//!
//! Only `asm!`: the compiler folds operators and intrinsics as if rounding and flags did not exist.
//! RCPPS and RSQRTPS are here because SDM and APM define them by their error alone.
// UNSAFETY: instructions without memory operands, in `asm!`; LDMXCSR and STMXCSR of locals.
#![expect(unsafe_code, reason = "the host's own instructions")]

use crate::fpu::Exceptions;
use crate::fpu::simd::*;
use std::arch::asm;
use std::arch::x86_64::__m128i;

/// MXCSR as Rust code has it.
const MXCSR: u32 = 0x1F80;
/// MXCSR: exceptions that came up.
const FLAGS: u32 = 0x3F;

/// An instruction the host has.
pub trait Host {
    /// Its result under the MXCSR of Rust code, the flags of which may change.
    fn plain(a: __m128i, b: __m128i) -> __m128i;
    /// Its result under `mxcsr`, which takes the flags. Nothing is unmasked.
    fn under(mxcsr: &mut u32, a: __m128i, b: __m128i) -> __m128i;
}

/// The result of `I` under the MXCSR of Rust code.
#[inline(always)]
pub fn plain<I: Host>(a: u128, b: u128) -> Option<u128> {
    Some(bits(I::plain(vector(a), vector(b))))
}

/// The result of `I` under `mxcsr`, which masks everything, and what came up.
#[inline(always)]
pub fn under<I: Host>(mxcsr: u32, a: u128, b: u128) -> Option<(u128, Exceptions)> {
    let mut word = mxcsr & 0xFFFF & !FLAGS | MXCSR;
    let result = bits(I::under(&mut word, vector(a), vector(b)));
    Some((result, Exceptions::from_bits_truncate(word as u16)))
}

/// The host's instruction for each type: lines of assembly that turn `{a}` and `{b}` into `{a}`, with
/// RAX to spare.
macro_rules! host {
    ($($name:ident $(<$p:ident>)? $($line:literal)*;)*) => {$(
        impl $(<const $p: u8>)? Host for $name $(<$p>)? {
            #[inline(always)]
            fn plain(a: __m128i, b: __m128i) -> __m128i {
                let out;
                // SAFETY: touches two vector registers, RAX and flags, and is in every x86-64
                // processor; everything is masked.
                unsafe {
                    asm!(
                        $($line,)*
                        a = inout(xmm_reg) a => out,
                        b = in(xmm_reg) b,
                        $(p = const $p,)?
                        out("rax") _,
                        options(pure, nomem, nostack)
                    );
                }
                out
            }

            #[inline(always)]
            fn under(mxcsr: &mut u32, a: __m128i, b: __m128i) -> __m128i {
                let out;
                // SAFETY: as above; MXCSR has no reserved bit set, and is as it was at the end.
                unsafe {
                    asm!(
                        "ldmxcsr [{m}]",
                        $($line,)*
                        "stmxcsr [{m}]",
                        "ldmxcsr [{rust}]",
                        a = inout(xmm_reg) a => out,
                        b = in(xmm_reg) b,
                        m = in(reg) mxcsr,
                        rust = in(reg) &MXCSR,
                        $(p = const $p,)?
                        out("rax") _,
                        options(nostack)
                    );
                }
                out
            }
        }
    )*};
}

#[rustfmt::skip]
host! {
    Addps "addps {a}, {b}"; Addpd "addpd {a}, {b}"; Addss "addss {a}, {b}"; Addsd "addsd {a}, {b}";
    Subps "subps {a}, {b}"; Subpd "subpd {a}, {b}"; Subss "subss {a}, {b}"; Subsd "subsd {a}, {b}";
    Mulps "mulps {a}, {b}"; Mulpd "mulpd {a}, {b}"; Mulss "mulss {a}, {b}"; Mulsd "mulsd {a}, {b}";
    Divps "divps {a}, {b}"; Divpd "divpd {a}, {b}"; Divss "divss {a}, {b}"; Divsd "divsd {a}, {b}";
    Minps "minps {a}, {b}"; Minpd "minpd {a}, {b}"; Minss "minss {a}, {b}"; Minsd "minsd {a}, {b}";
    Maxps "maxps {a}, {b}"; Maxpd "maxpd {a}, {b}"; Maxss "maxss {a}, {b}"; Maxsd "maxsd {a}, {b}";
    Sqrtps "sqrtps {a}, {b}"; Sqrtpd "sqrtpd {a}, {b}"; Sqrtss "sqrtss {a}, {b}"; Sqrtsd "sqrtsd {a}, {b}";
    Cmpps<P> "cmpps {a}, {b}, {p}"; Cmppd<P> "cmppd {a}, {b}, {p}";
    Cmpss<P> "cmpss {a}, {b}, {p}"; Cmpsd<P> "cmpsd {a}, {b}, {p}";
    Cvtsi2ss32 "movd eax, {b}" "cvtsi2ss {a}, eax"; Cvtsi2ss64 "movq rax, {b}" "cvtsi2ss {a}, rax";
    Cvtsi2sd32 "movd eax, {b}" "cvtsi2sd {a}, eax"; Cvtsi2sd64 "movq rax, {b}" "cvtsi2sd {a}, rax";
    Cvtdq2ps "cvtdq2ps {a}, {b}"; Cvtdq2pd "cvtdq2pd {a}, {b}";
    Cvtss2si32 "cvtss2si eax, {b}" "movd {a}, eax"; Cvtss2si64 "cvtss2si rax, {b}" "movq {a}, rax";
    Cvtsd2si32 "cvtsd2si eax, {b}" "movd {a}, eax"; Cvtsd2si64 "cvtsd2si rax, {b}" "movq {a}, rax";
    Cvttss2si32 "cvttss2si eax, {b}" "movd {a}, eax"; Cvttss2si64 "cvttss2si rax, {b}" "movq {a}, rax";
    Cvttsd2si32 "cvttsd2si eax, {b}" "movd {a}, eax"; Cvttsd2si64 "cvttsd2si rax, {b}" "movq {a}, rax";
    Cvtps2dq "cvtps2dq {a}, {b}"; Cvttps2dq "cvttps2dq {a}, {b}";
    Cvtpd2dq "cvtpd2dq {a}, {b}"; Cvttpd2dq "cvttpd2dq {a}, {b}";
    Cvtss2sd "cvtss2sd {a}, {b}"; Cvtps2pd "cvtps2pd {a}, {b}";
    Cvtsd2ss "cvtsd2ss {a}, {b}"; Cvtpd2ps "cvtpd2ps {a}, {b}";
}

/// Approximate reciprocals of four singles.
pub fn rcp(lanes: u128) -> u128 {
    let out;
    // SAFETY: RCPPS is in every x86-64 processor and touches registers only; it raises no exception.
    unsafe {
        asm!("rcpps {0}, {0}", inout(xmm_reg) vector(lanes) => out, options(pure, nomem, nostack, preserves_flags));
    }
    bits(out)
}

/// Approximate reciprocal square roots of four singles.
pub fn rsqrt(lanes: u128) -> u128 {
    let out;
    // SAFETY: as for RCPPS.
    unsafe {
        asm!("rsqrtps {0}, {0}", inout(xmm_reg) vector(lanes) => out, options(pure, nomem, nostack, preserves_flags));
    }
    bits(out)
}

#[inline(always)]
fn vector(lanes: u128) -> __m128i {
    // SAFETY: both are sixteen bytes of any pattern.
    unsafe { std::mem::transmute(lanes) }
}

#[inline(always)]
fn bits(lanes: __m128i) -> u128 {
    // SAFETY: as above.
    unsafe { std::mem::transmute(lanes) }
}

#[cfg(test)]
mod tests;
