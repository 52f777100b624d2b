//! SSE's floating-point instructions: what each computes of two vectors under MXCSR.
//! SDM Vol. 1, "SIMD Floating-Point Exceptions", "Rules for Handling NaNs"; Vol. 2, each mnemonic.
//!
//! Each is a row of a table that says how the software core computes it ([`Software`]). Where
//! that takes longer than the host's own instruction, it is an [`Instruction`] too: `host` has the
//! same one on an x86-64 host, and the row says when operands and result tell that nothing came
//! up but perhaps the precision exception. It is used
//!
//! - as it is, under the MXCSR that Rust code runs with, where that makes no difference ([`quick`]);
//! - under the guest's MXCSR, where nothing is unmasked: flags are the host's then;
//! - not at all where something is unmasked: what a masked exception leaves in the flags is not what
//!   an unmasked one does (a tiny exact result, a first exception that hides a second).
//!
//! Scalars lie at the low end of a vector; what is above them is nobody's in a result.

use super::host::{self, Host};
use super::*;

/// Integer indefinite: what an integer becomes that does not exist.
const INDEFINITE_32: u32 = 1 << 31;
const INDEFINITE_64: u64 = 1 << 63;

/// MXCSR: PE, PM, RC, and all masks.
const INEXACT: u32 = 1 << 5;
const INEXACT_MASKED: u32 = 1 << 12;
const ROUNDING: u32 = 3 << 13;
const ALL_MASKED: u32 = 0x1F80;

/// MXCSR bits that matter to an instruction while its operands and results are ordinary ones.
/// It rounds: to the nearest, with the precision exception masked and told already.
const ROUNDS: u32 = ROUNDING | INEXACT_MASKED | INEXACT;
/// It truncates: the same, whatever the rounding.
const TRUNCATES: u32 = INEXACT_MASKED | INEXACT;
/// It is exact: none.
const EXACT: u32 = 0;

/// What an instruction computes.
pub trait Software {
    /// Its result, and by `env` its exceptions.
    fn compute(env: &mut Env, a: u128, b: u128) -> u128;
}

/// An instruction that the host may have.
pub trait Instruction: Software + Host {
    /// Bits of MXCSR that must be as [`quick`] wants them.
    const CONTROLS: u32;
    /// Whether these operands and this result show that there was no exception, of such as are not
    /// told by `CONTROLS`, and that DAZ and FTZ made no difference.
    fn ordinary(a: u128, b: u128, result: u128) -> bool;
}

/// The result of `I` if MXCSR makes no difference to it and stays as it is; always `None` on other
/// hosts.
#[inline(always)]
pub fn quick<I: Instruction>(mxcsr: u32, a: u128, b: u128) -> Option<u128> {
    if mxcsr & I::CONTROLS != (INEXACT_MASKED | INEXACT) & I::CONTROLS {
        return None;
    }
    let result = host::plain::<I>(a, b)?;
    I::ordinary(a, b, result).then_some(result)
}

/// The result of `I` and what came up, of which some may be unmasked: then there is no result.
#[inline]
pub fn execute<I: Instruction>(mxcsr: u32, a: u128, b: u128) -> (u128, Exceptions) {
    if mxcsr & ALL_MASKED == ALL_MASKED
        && let Some(done) = host::under::<I>(mxcsr, a, b)
    {
        return done;
    }
    in_software::<I>(mxcsr, a, b)
}

/// As [`execute`], on any host.
#[inline(always)]
pub fn in_software<I: Software>(mxcsr: u32, a: u128, b: u128) -> (u128, Exceptions) {
    let mut env = Env::sse(mxcsr);
    let result = I::compute(&mut env, a, b);
    if env.refused() {
        // What was found before anything was computed hides what came up computing other lanes.
        env.flags &= Exceptions::BEFORE;
    }
    (result, env.flags)
}

/// An operation of two values.
type Op = fn(&mut Env, Shape, Float, Float) -> Float;

/// Lanes of 32 bits, the lowest `N` of them.
#[inline(always)]
fn each32<const N: u32>(a: u128, b: u128, mut f: impl FnMut(u32, u32) -> u32) -> u128 {
    (0..N).fold(0, |all, n| {
        let at = 32 * n;
        all | u128::from(f((a >> at) as u32, (b >> at) as u32)) << at
    })
}

/// Lanes of 64 bits.
#[inline(always)]
fn each64<const N: u32>(a: u128, b: u128, mut f: impl FnMut(u64, u64) -> u64) -> u128 {
    (0..N).fold(0, |all, n| {
        let at = 64 * n;
        all | u128::from(f((a >> at) as u64, (b >> at) as u64)) << at
    })
}

fn singles<const N: u32>(env: &mut Env, a: u128, b: u128, op: Op) -> u128 {
    each32::<N>(a, b, |a, b| {
        let (a, b) = (F32::unpack(env, a), F32::unpack(env, b));
        F32::pack(op(env, F32::SHAPE, a, b))
    })
}

fn doubles<const N: u32>(env: &mut Env, a: u128, b: u128, op: Op) -> u128 {
    each64::<N>(a, b, |a, b| {
        let (a, b) = (F64::unpack(env, a), F64::unpack(env, b));
        F64::pack(op(env, F64::SHAPE, a, b))
    })
}

fn lesser(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    unchanged(shape, min(env, a, b))
}

fn greater(env: &mut Env, shape: Shape, a: Float, b: Float) -> Float {
    unchanged(shape, max(env, a, b))
}

/// An operand as a result: a denormal one needs the exponent that results have.
#[inline(always)]
fn unchanged(shape: Shape, value: Float) -> Float {
    if value.class != Class::Denormal {
        return value;
    }
    narrow(&mut Env::sse(ALL_MASKED), shape, value)
}

/// The square root of the second operand.
fn root(env: &mut Env, shape: Shape, _: Float, b: Float) -> Float {
    sqrt(env, shape, b)
}

/// ADDSUBxx: even lanes are subtracted, odd ones added.
fn alternating<F: Format>(env: &mut Env, odd: bool, a: F::Bits, b: F::Bits) -> F::Bits {
    let (a, b) = (F::unpack(env, a), F::unpack(env, b));
    F::pack(if odd { add } else { sub }(env, F::SHAPE, a, b))
}

/// CMPxx: whether predicate `P` holds.
fn holds<const P: u8>(env: &mut Env, a: Float, b: Float) -> bool {
    // The ordering predicates are invalid for quiet NaNs too.
    let order = compare(env, a, b, matches!(P & 3, 1 | 2));
    let plain = match P & 3 {
        0 => order == Order::Equal,
        1 => order == Order::Less,
        2 => matches!(order, Order::Less | Order::Equal),
        _ => order == Order::Unordered,
    };
    plain != (P & 4 != 0)
}

fn compare_singles<const N: u32, const P: u8>(env: &mut Env, a: u128, b: u128) -> u128 {
    each32::<N>(a, b, |a, b| {
        let (a, b) = (F32::unpack(env, a), F32::unpack(env, b));
        if holds::<P>(env, a, b) { u32::MAX } else { 0 }
    })
}

fn compare_doubles<const N: u32, const P: u8>(env: &mut Env, a: u128, b: u128) -> u128 {
    each64::<N>(a, b, |a, b| {
        let (a, b) = (F64::unpack(env, a), F64::unpack(env, b));
        if holds::<P>(env, a, b) { u64::MAX } else { 0 }
    })
}

/// COMISx, and UCOMISx, for which a quiet NaN is not invalid: faster in software than by the host,
/// whose flags must be fetched.
#[inline(always)]
pub fn order_of<F: Format, const SIGNAL: bool>(
    mxcsr: u32,
    a: F::Bits,
    b: F::Bits,
) -> (Order, Exceptions) {
    let mut env = Env::sse(mxcsr);
    let (a, b) = (F::unpack(&env, a), F::unpack(&env, b));
    let order = compare(&mut env, a, b, SIGNAL);
    (order, env.flags)
}

/// A float to an integer of 32 bits.
fn to_i32<F: Format>(env: &mut Env, bits: F::Bits) -> u32 {
    let value = F::unpack(env, bits);
    to_int(env, value, Int::I32).map_or(INDEFINITE_32, |n| n as u32)
}

/// A float to an integer of 64 bits.
fn to_i64<F: Format>(env: &mut Env, bits: F::Bits) -> u128 {
    let value = F::unpack(env, bits);
    to_int(env, value, Int::I64)
        .map_or(INDEFINITE_64, i64::cast_unsigned)
        .into()
}

/// An integer to a float.
fn of_int<F: Format>(env: &mut Env, value: i64) -> F::Bits {
    F::pack(convert(env, F::SHAPE, from_int(value)))
}

fn sign_extended(value: u32) -> i64 {
    i64::from(value.cast_signed())
}

/// A float to one of another format.
fn reshaped<F: Format, T: Format>(env: &mut Env, bits: F::Bits) -> T::Bits {
    let value = F::unpack(env, bits);
    T::pack(convert(env, T::SHAPE, value))
}

/// The two low doublewords of a vector, each widened to a quadword.
fn widened(b: u128, mut f: impl FnMut(u32) -> u64) -> u128 {
    let (low, high) = (f(b as u32), f((b >> 32) as u32));
    u128::from(high) << 64 | u128::from(low)
}

/// The two quadwords of a vector, each narrowed to a doubleword.
fn narrowed(b: u128, mut f: impl FnMut(u64) -> u32) -> u128 {
    let (low, high) = (f(b as u64), f((b >> 64) as u64));
    u128::from(high) << 32 | u128::from(low)
}

/// Truncating instructions round towards zero whatever MXCSR says.
fn truncating(env: &mut Env) -> &mut Env {
    env.rounding = Rounding::Zero;
    env
}

/// Whether each of the `N` low lanes of two operands is no denormal, as are those of a result
/// that is no infinity or NaN; and none of that can have been a denormal before rounding.
/// A zero is a result that was rounded from none where it was an operand, or where `ZERO` says that
/// the instruction makes exact ones only.
#[inline(always)]
fn rounded32<const N: u32, const ZERO: bool>(a: u128, b: u128, result: u128) -> bool {
    (0..N).fold(true, |all, n| {
        let lane = |v: u128| (v >> (32 * n)) as u32;
        let (a, b, z) = (lane(a), lane(b), lane(result));
        let zero = z << 1 == 0 && (ZERO || a << 1 == 0 || b << 1 == 0);
        all & !denormal32(a) & !denormal32(b) & (solid32(z) | zero)
    })
}

/// As [`rounded32`].
#[inline(always)]
fn rounded64<const N: u32, const ZERO: bool>(a: u128, b: u128, result: u128) -> bool {
    (0..N).fold(true, |all, n| {
        let lane = |v: u128| (v >> (64 * n)) as u64;
        let (a, b, z) = (lane(a), lane(b), lane(result));
        let zero = z << 1 == 0 && (ZERO || a << 1 == 0 || b << 1 == 0);
        all & !denormal64(a) & !denormal64(b) & (solid64(z) | zero)
    })
}

/// Whether each of the `N` low lanes of both operands is a number and no denormal.
#[inline(always)]
fn ordered32<const N: u32>(a: u128, b: u128) -> bool {
    (0..N).fold(true, |all, n| {
        let lane = |v: u128| (v >> (32 * n)) as u32;
        all & number32(lane(a)) & number32(lane(b))
    })
}

/// As [`ordered32`].
#[inline(always)]
fn ordered64<const N: u32>(a: u128, b: u128) -> bool {
    (0..N).fold(true, |all, n| {
        let lane = |v: u128| (v >> (64 * n)) as u64;
        all & number64(lane(a)) & number64(lane(b))
    })
}

/// Whether none of the `N` low lanes is the integer indefinite.
#[inline(always)]
fn definite32<const N: u32>(result: u128) -> bool {
    (0..N).fold(true, |all, n| {
        all & ((result >> (32 * n)) as u32 != INDEFINITE_32)
    })
}

/// Whether a bit pattern without its sign is a fraction with the smallest exponent.
#[inline(always)]
const fn denormal32(bits: u32) -> bool {
    (bits << 1).wrapping_sub(1) < (1 << 24) - 1
}

#[inline(always)]
const fn denormal64(bits: u64) -> bool {
    (bits << 1).wrapping_sub(1) < (1 << 53) - 1
}

/// Whether it is finite, and its exponent not one that a tiny value could be rounded up to.
#[inline(always)]
const fn solid32(bits: u32) -> bool {
    (bits << 1).wrapping_sub(2 << 24) < (0xFF - 2) << 24
}

#[inline(always)]
const fn solid64(bits: u64) -> bool {
    (bits << 1).wrapping_sub(2 << 53) < (0x7FF - 2) << 53
}

/// Whether it is no NaN and no denormal.
#[inline(always)]
const fn number32(bits: u32) -> bool {
    !denormal32(bits) && bits << 1 <= 0xFF << 24
}

#[inline(always)]
const fn number64(bits: u64) -> bool {
    !denormal64(bits) && bits << 1 <= 0x7FF << 53
}

/// A type for each row, computed in software.
macro_rules! software {
    ($($name:ident $compute:expr;)*) => {$(
        pub struct $name;
        impl Software for $name {
            #[inline(always)]
            fn compute(env: &mut Env, a: u128, b: u128) -> u128 {
                let compute: fn(&mut Env, u128, u128) -> u128 = $compute;
                compute(env, a, b)
            }
        }
    )*};
}

/// A type for each row, which the host may have.
macro_rules! instructions {
    ($($name:ident $controls:ident $ordinary:expr, $compute:expr;)*) => {$(
        software! { $name $compute; }
        impl Instruction for $name {
            const CONTROLS: u32 = $controls;
            #[inline(always)]
            fn ordinary(a: u128, b: u128, result: u128) -> bool {
                let ordinary: fn(u128, u128, u128) -> bool = $ordinary;
                ordinary(a, b, result)
            }
        }
    )*};
}

#[rustfmt::skip]
instructions! {
    Addps ROUNDS rounded32::<4, true>, |env, a, b| singles::<4>(env, a, b, add);
    Addpd ROUNDS rounded64::<2, true>, |env, a, b| doubles::<2>(env, a, b, add);
    Addss ROUNDS rounded32::<1, true>, |env, a, b| singles::<1>(env, a, b, add);
    Addsd ROUNDS rounded64::<1, true>, |env, a, b| doubles::<1>(env, a, b, add);
    Subps ROUNDS rounded32::<4, true>, |env, a, b| singles::<4>(env, a, b, sub);
    Subpd ROUNDS rounded64::<2, true>, |env, a, b| doubles::<2>(env, a, b, sub);
    Subss ROUNDS rounded32::<1, true>, |env, a, b| singles::<1>(env, a, b, sub);
    Subsd ROUNDS rounded64::<1, true>, |env, a, b| doubles::<1>(env, a, b, sub);
    Mulps ROUNDS rounded32::<4, false>, |env, a, b| singles::<4>(env, a, b, mul);
    Mulpd ROUNDS rounded64::<2, false>, |env, a, b| doubles::<2>(env, a, b, mul);
    Mulss ROUNDS rounded32::<1, false>, |env, a, b| singles::<1>(env, a, b, mul);
    Mulsd ROUNDS rounded64::<1, false>, |env, a, b| doubles::<1>(env, a, b, mul);
    Divps ROUNDS rounded32::<4, false>, |env, a, b| singles::<4>(env, a, b, div);
    Divpd ROUNDS rounded64::<2, false>, |env, a, b| doubles::<2>(env, a, b, div);
    Divss ROUNDS rounded32::<1, false>, |env, a, b| singles::<1>(env, a, b, div);
    Divsd ROUNDS rounded64::<1, false>, |env, a, b| doubles::<1>(env, a, b, div);
    Sqrtps ROUNDS |_, b, z| rounded32::<4, false>(b, b, z), |env, a, b| singles::<4>(env, a, b, root);
    Sqrtpd ROUNDS |_, b, z| rounded64::<2, false>(b, b, z), |env, a, b| doubles::<2>(env, a, b, root);
    Sqrtss ROUNDS |_, b, z| rounded32::<1, false>(b, b, z), |env, a, b| singles::<1>(env, a, b, root);
    Sqrtsd ROUNDS |_, b, z| rounded64::<1, false>(b, b, z), |env, a, b| doubles::<1>(env, a, b, root);
    Minps EXACT |a, b, _| ordered32::<4>(a, b), |env, a, b| singles::<4>(env, a, b, lesser);
    Minpd EXACT |a, b, _| ordered64::<2>(a, b), |env, a, b| doubles::<2>(env, a, b, lesser);
    Minss EXACT |a, b, _| ordered32::<1>(a, b), |env, a, b| singles::<1>(env, a, b, lesser);
    Minsd EXACT |a, b, _| ordered64::<1>(a, b), |env, a, b| doubles::<1>(env, a, b, lesser);
    Maxps EXACT |a, b, _| ordered32::<4>(a, b), |env, a, b| singles::<4>(env, a, b, greater);
    Maxpd EXACT |a, b, _| ordered64::<2>(a, b), |env, a, b| doubles::<2>(env, a, b, greater);
    Maxss EXACT |a, b, _| ordered32::<1>(a, b), |env, a, b| singles::<1>(env, a, b, greater);
    Maxsd EXACT |a, b, _| ordered64::<1>(a, b), |env, a, b| doubles::<1>(env, a, b, greater);

    Cvtsi2ss32 ROUNDS |_, _, _| true, |env, _, b| of_int::<F32>(env, sign_extended(b as u32)).into();
    Cvtsi2ss64 ROUNDS |_, _, _| true, |env, _, b| of_int::<F32>(env, b as i64).into();
    Cvtsi2sd32 EXACT |_, _, _| true, |env, _, b| of_int::<F64>(env, sign_extended(b as u32)).into();
    Cvtsi2sd64 ROUNDS |_, _, _| true, |env, _, b| of_int::<F64>(env, b as i64).into();
    Cvtdq2ps ROUNDS |_, _, _| true, |env, a, b| each32::<4>(a, b, |_, b| of_int::<F32>(env, sign_extended(b)));
    Cvtdq2pd EXACT |_, _, _| true, |env, _, b| widened(b, |b| of_int::<F64>(env, sign_extended(b)));

    Cvtss2si32 ROUNDS |_, _, z| definite32::<1>(z), |env, _, b| to_i32::<F32>(env, b as u32).into();
    Cvtsd2si32 ROUNDS |_, _, z| definite32::<1>(z), |env, _, b| to_i32::<F64>(env, b as u64).into();
    Cvtss2si64 ROUNDS |_, _, z| z as u64 != INDEFINITE_64, |env, _, b| to_i64::<F32>(env, b as u32);
    Cvtsd2si64 ROUNDS |_, _, z| z as u64 != INDEFINITE_64, |env, _, b| to_i64::<F64>(env, b as u64);
    Cvttss2si32 TRUNCATES |_, _, z| definite32::<1>(z), |env, _, b| to_i32::<F32>(truncating(env), b as u32).into();
    Cvttsd2si32 TRUNCATES |_, _, z| definite32::<1>(z), |env, _, b| to_i32::<F64>(truncating(env), b as u64).into();
    Cvttss2si64 TRUNCATES |_, _, z| z as u64 != INDEFINITE_64, |env, _, b| to_i64::<F32>(truncating(env), b as u32);
    Cvttsd2si64 TRUNCATES |_, _, z| z as u64 != INDEFINITE_64, |env, _, b| to_i64::<F64>(truncating(env), b as u64);
    Cvtps2dq ROUNDS |_, _, z| definite32::<4>(z), |env, a, b| each32::<4>(a, b, |_, b| to_i32::<F32>(env, b));
    Cvttps2dq TRUNCATES |_, _, z| definite32::<4>(z), |env, a, b| each32::<4>(a, b, |_, b| to_i32::<F32>(truncating(env), b));
    Cvtpd2dq ROUNDS |_, _, z| definite32::<2>(z), |env, _, b| narrowed(b, |b| to_i32::<F64>(env, b));
    Cvttpd2dq TRUNCATES |_, _, z| definite32::<2>(z), |env, _, b| narrowed(b, |b| to_i32::<F64>(truncating(env), b));

    Cvtss2sd EXACT |_, b, _| number32(b as u32), |env, _, b| reshaped::<F32, F64>(env, b as u32).into();
    Cvtps2pd EXACT |_, b, _| ordered32::<2>(b, b), |env, _, b| widened(b, |b| reshaped::<F32, F64>(env, b));
    Cvtsd2ss ROUNDS |_, b, z| b << 65 == 0 || solid32(z as u32), |env, _, b| reshaped::<F64, F32>(env, b as u64).into();
    Cvtpd2ps ROUNDS |_, _, z| solid32(z as u32) && solid32((z >> 32) as u32), |env, _, b| narrowed(b, |b| reshaped::<F64, F32>(env, b));
}

// SSE3's are not in every x86-64 processor.
#[rustfmt::skip]
software! {
    Addsubps |env, a, b| {
        let mut odd = true;
        each32::<4>(a, b, |a, b| {
            odd = !odd;
            alternating::<F32>(env, odd, a, b)
        })
    };
    Addsubpd |env, a, b| {
        let mut odd = true;
        each64::<2>(a, b, |a, b| {
            odd = !odd;
            alternating::<F64>(env, odd, a, b)
        })
    };
}

/// CMPxx with predicate `P`, for each row.
macro_rules! comparisons {
    ($($name:ident $ordered:ident::<$n:literal>, $software:ident;)*) => {$(
        pub struct $name<const P: u8>;
        impl<const P: u8> Software for $name<P> {
            #[inline(always)]
            fn compute(env: &mut Env, a: u128, b: u128) -> u128 {
                $software::<$n, P>(env, a, b)
            }
        }
        impl<const P: u8> Instruction for $name<P> {
            const CONTROLS: u32 = EXACT;
            #[inline(always)]
            fn ordinary(a: u128, b: u128, _: u128) -> bool {
                $ordered::<$n>(a, b)
            }
        }
    )*};
}

comparisons! {
    Cmpps ordered32::<4>, compare_singles;
    Cmppd ordered64::<2>, compare_doubles;
    Cmpss ordered32::<1>, compare_singles;
    Cmpsd ordered64::<1>, compare_doubles;
}
