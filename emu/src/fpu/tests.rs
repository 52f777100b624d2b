//! The core against the floats of the compiler's target (binary32 and binary64, to the nearest),
//! and what those cannot show by known values. The 80 bits are compared with the host's processor
//! in `testsuite/tests/x87.rs`.

use super::*;

/// MXCSR after reset.
const MXCSR: u32 = 0x1F80;

/// SplitMix64, with exponents near each other often enough.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn f64(&mut self) -> u64 {
        let bits = self.draw();
        let exponent = match self.draw() % 8 {
            0 => 0,
            1 => 0x7FF,
            2 => self.draw() % 64,
            3 => 0x7FE - self.draw() % 64,
            4 | 5 => 0x3FF + self.draw() % 64,
            _ => bits >> 52 & 0x7FF,
        };
        let fraction = match self.draw() % 4 {
            0 => 0,
            1 => bits & 0xFFFF_FF00_0000_0000,
            _ => bits,
        } << 12
            >> 12;
        bits >> 63 << 63 | exponent << 52 | fraction
    }

    fn f32(&mut self) -> u32 {
        let bits = self.draw() as u32;
        let exponent = match self.draw() % 8 {
            0 => 0,
            1 => 0xFF,
            2 => self.draw() as u32 % 32,
            3 => 0xFE - self.draw() as u32 % 32,
            4 | 5 => 0x7F + self.draw() as u32 % 32,
            _ => bits >> 23 & 0xFF,
        };
        bits >> 31 << 31 | exponent << 23 | bits << 9 >> 9
    }
}

fn same(ours: u64, theirs: f64) -> bool {
    if theirs.is_nan() {
        f64::from_bits(ours).is_nan()
    } else {
        ours == theirs.to_bits()
    }
}

fn same32(ours: u32, theirs: f32) -> bool {
    if theirs.is_nan() {
        f32::from_bits(ours).is_nan()
    } else {
        ours == theirs.to_bits()
    }
}

/// An operation of the compiler's target.
type Native<T> = fn(T, T) -> T;
type Operation = fn(&mut Env, Shape, Float, Float) -> Float;

#[test]
fn binary64_arithmetic() {
    let operations: [(Operation, Native<f64>); 4] = [
        (add, |a, b| a + b),
        (sub, |a, b| a - b),
        (mul, |a, b| a * b),
        (div, |a, b| a / b),
    ];
    let mut random = Random(1);
    for _ in 0..200_000 {
        let (x, y) = (random.f64(), random.f64());
        let mut env = Env::sse(MXCSR);
        let (a, b) = (F64::unpack(&env, x), F64::unpack(&env, y));
        for (ours, theirs) in operations {
            let z = F64::pack(ours(&mut env, F64::SHAPE, a, b));
            let expected = theirs(f64::from_bits(x), f64::from_bits(y));
            assert!(same(z, expected), "{x:x} {y:x}: {z:x} {expected:e}");
        }
        let z = F64::pack(sqrt(&mut env, F64::SHAPE, a));
        assert!(same(z, f64::from_bits(x).sqrt()), "sqrt {x:x}: {z:x}");
    }
}

#[test]
fn binary32_arithmetic_and_conversion() {
    let operations: [(Operation, Native<f32>); 4] = [
        (add, |a, b| a + b),
        (sub, |a, b| a - b),
        (mul, |a, b| a * b),
        (div, |a, b| a / b),
    ];
    let mut random = Random(2);
    for _ in 0..200_000 {
        let (x, y, wide) = (random.f32(), random.f32(), random.f64());
        let mut env = Env::sse(MXCSR);
        let (a, b) = (F32::unpack(&env, x), F32::unpack(&env, y));
        for (ours, theirs) in operations {
            let z = F32::pack(ours(&mut env, F32::SHAPE, a, b));
            let expected = theirs(f32::from_bits(x), f32::from_bits(y));
            assert!(same32(z, expected), "{x:x} {y:x}: {z:x} {expected:e}");
        }
        let z = F32::pack(sqrt(&mut env, F32::SHAPE, a));
        assert!(same32(z, f32::from_bits(x).sqrt()), "sqrt {x:x}: {z:x}");
        let z = F64::pack(convert(&mut env, F64::SHAPE, a));
        assert!(same(z, f64::from(f32::from_bits(x))), "{x:x}: {z:x}");
        let c = F64::unpack(&env, wide);
        let z = F32::pack(convert(&mut env, F32::SHAPE, c));
        assert!(same32(z, f64::from_bits(wide) as f32), "{wide:x}: {z:x}");
    }
}

#[test]
fn integers_and_order() {
    let mut random = Random(3);
    let mut env = Env::sse(MXCSR);
    for _ in 0..200_000 {
        let (x, y) = (random.f64(), random.f64());
        let (a, b) = (F64::unpack(&env, x), F64::unpack(&env, y));
        let (p, q) = (f64::from_bits(x), f64::from_bits(y));
        let order = match p.partial_cmp(&q) {
            None => Order::Unordered,
            Some(std::cmp::Ordering::Less) => Order::Less,
            Some(std::cmp::Ordering::Equal) => Order::Equal,
            Some(std::cmp::Ordering::Greater) => Order::Greater,
        };
        assert_eq!(compare(&mut env, a, b, false), order, "{x:x} {y:x}");
        let limit = 9_223_372_036_854_775_808.0;
        let inside = (-limit..limit).contains(&p);
        let expected = inside.then(|| p.round_ties_even() as i64);
        assert_eq!(to_int(&mut env, a, Int::I64), expected, "{x:x}");
        let whole = F64::pack(round_to_int(&mut env, a));
        assert!(same(whole, p.round_ties_even()), "{x:x}");
        let n = x.cast_signed() >> (y & 63);
        let z = F64::pack(convert(&mut env, F64::SHAPE, from_int(n)));
        assert!(same(z, n as f64), "{n:x}: {z:x}");
    }
}

/// `operation` of two binary32 under MXCSR: result and flags.
fn single(mxcsr: u32, operation: Operation, x: u32, y: u32) -> (u32, Exceptions) {
    let mut env = Env::sse(mxcsr);
    let (a, b) = (F32::unpack(&env, x), F32::unpack(&env, y));
    let z = operation(&mut env, F32::SHAPE, a, b);
    (F32::pack(z), env.flags)
}

const ONE: u32 = 0x3F80_0000;
const SMALLEST_NORMAL: u32 = 0x0080_0000;
const LARGEST: u32 = 0x7F7F_FFFF;
const INFINITY: u32 = 0x7F80_0000;

#[test]
fn flags_and_directed_rounding() {
    use Exceptions as E;
    let (down, up, chop) = (MXCSR | 0x2000, MXCSR | 0x4000, MXCSR | 0x6000);
    assert_eq!(single(MXCSR, div, ONE, 0), (INFINITY, E::ZE));
    assert_eq!(single(MXCSR, add, ONE, 1), (ONE, E::DE | E::PE));
    assert_eq!(single(up, add, ONE, 1), (ONE + 1, E::DE | E::PE));
    assert_eq!(single(down, sub, ONE, ONE), (0x8000_0000, E::empty()));
    assert_eq!(
        single(MXCSR, mul, LARGEST, LARGEST),
        (INFINITY, E::OE | E::PE)
    );
    assert_eq!(
        single(chop, mul, LARGEST, LARGEST),
        (LARGEST, E::OE | E::PE)
    );
    assert_eq!(single(MXCSR, sub, INFINITY, INFINITY), (0xFFC0_0000, E::IE));
    // Half the smallest normal number is exact: no underflow, unless that is unmasked.
    let half = 0x3F00_0000;
    assert_eq!(
        single(MXCSR, mul, SMALLEST_NORMAL, half),
        (0x0040_0000, E::empty())
    );
    assert_eq!(single(MXCSR & !0x800, mul, SMALLEST_NORMAL, half).1, E::UE);
    // FTZ and DAZ.
    assert_eq!(
        single(MXCSR | 0x8000, mul, SMALLEST_NORMAL, half),
        (0, E::UE | E::PE)
    );
    assert_eq!(single(MXCSR | 0x40, add, 1, 1), (0, E::empty()));
    // SSE: the first NaN, made quiet; a signalling one anywhere is invalid.
    assert_eq!(
        single(MXCSR, add, 0x7FC0_0001, 0x7F80_0002),
        (0x7FC0_0001, E::IE)
    );
    assert_eq!(single(MXCSR, add, ONE, 0x7F80_0002), (0x7FC0_0002, E::IE));
    // Tininess after rounding: what rounds up to the smallest normal number is not tiny ...
    let nearly = 0x3F7F_FFFF;
    assert_eq!(
        single(MXCSR, mul, SMALLEST_NORMAL + 1, nearly),
        (SMALLEST_NORMAL, E::PE)
    );
    // ... unless its place is that of a denormal.
    assert_eq!(
        single(MXCSR, mul, SMALLEST_NORMAL, nearly),
        (SMALLEST_NORMAL, E::PE | E::UE)
    );
}

#[test]
fn unmasked_overflow_and_underflow_keep_a_biased_result() {
    let mut env = Env::x87(0x37F & !0x18);
    let big = F80::unpack(&env, (1 << 63, 0x7FFE));
    let result = mul(&mut env, F80::SHAPE, big, big);
    assert_eq!(
        F80::pack(result),
        (1 << 63, (2 * 0x7FFE - 0x3FFF - 24576) as u16)
    );
    assert_eq!(env.flags, Exceptions::OE);
    let mut env = Env::x87(0x37F & !0x18);
    let small = F80::unpack(&env, (1 << 63, 1));
    let result = mul(&mut env, F80::SHAPE, small, small);
    assert_eq!(F80::pack(result), (1 << 63, (2 - 0x3FFF + 24576) as u16));
    assert_eq!(env.flags, Exceptions::UE);
}

/// Tininess is found after rounding: SDM Vol. 1, "Numeric Underflow Exception (#U)".
#[test]
fn what_rounding_makes_normal_is_not_tiny() {
    // (1 + 2^-23) 2^-63 times (1 - d) 2^-63, just below the smallest normal number.
    let product = |y: u32| {
        let mut env = Env::sse(MXCSR);
        let (a, b) = (F32::unpack(&env, 0x2000_0001), F32::unpack(&env, y));
        (F32::pack(mul(&mut env, F32::SHAPE, a, b)), env.flags)
    };
    assert_eq!(product(0x1FFF_FFFE), (0x0080_0000, Exceptions::PE));
    let tiny = Exceptions::PE | Exceptions::UE;
    assert_eq!(product(0x1FFF_FFFC), (0x007F_FFFF, tiny));
}
