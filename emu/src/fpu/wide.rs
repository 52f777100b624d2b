//! Floats with 128 bits of significand, and power series in fixed point: what elementary functions
//! are computed in. Operations cut off: each adds an error below two units of the last place.

use super::format::Float;

/// One half of the range of a fixed-point number with 127 bits behind the point.
pub(super) const ONE: u128 = 1 << 127;

/// `sig / 2^127 * 2^exp`; bit 127 of `sig` is set, or it is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub sign: bool,
    pub exp: i32,
    pub sig: u128,
}

/// The upper half of a product.
#[inline]
pub(super) const fn mul_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (mid1, mid2) = (a1 * b0, a0 * b1);
    let carry = ((a0 * b0) >> 64) + (mid1 & LOW) + (mid2 & LOW);
    a1 * b1 + (mid1 >> 64) + (mid2 >> 64) + (carry >> 64)
}

/// `rest * 2^64 / by` and what is left; `rest` is less than `by`, which has bit 127 set.
const fn digit(rest: u128, by: u128) -> (u64, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (top, bottom) = (by >> 64, by & LOW);
    let mut digit = rest / top;
    if digit > LOW {
        digit = LOW;
    }
    // The remainder of the estimate is at most two divisors below zero.
    let mut left = (rest - digit * top).wrapping_shl(64);
    let overflows = (rest - digit * top) >> 64 != 0;
    let take = digit * bottom;
    if overflows || left >= take {
        return (digit as u64, left.wrapping_sub(take));
    }
    left = left.wrapping_sub(take);
    loop {
        digit -= 1;
        let (sum, carry) = left.overflowing_add(by);
        left = sum;
        if carry {
            return (digit as u64, left);
        }
    }
}

impl Wide {
    pub const ZERO: Self = Self {
        sign: false,
        exp: 0,
        sig: 0,
    };

    /// `sig / 2^127 * 2^exp`, brought to normal form.
    #[inline]
    pub const fn new(sign: bool, exp: i32, sig: u128) -> Self {
        let zeros = sig.leading_zeros();
        if zeros == 128 {
            return Self::ZERO;
        }
        Self {
            sign,
            exp: exp - zeros as i32,
            sig: sig << zeros,
        }
    }

    pub const fn of(value: Float) -> Self {
        Self {
            sign: value.sign,
            exp: value.exp,
            sig: (value.sig as u128) << 64,
        }
    }

    pub const fn integer(value: i32) -> Self {
        Self::new(value < 0, 127, value.unsigned_abs() as u128)
    }

    pub const fn negated(mut self) -> Self {
        self.sign = !self.sign;
        self
    }

    pub const fn abs(mut self) -> Self {
        self.sign = false;
        self
    }

    pub const fn mul(self, by: Self) -> Self {
        Self::new(
            self.sign != by.sign,
            self.exp + by.exp + 1,
            mul_high(self.sig, by.sig),
        )
    }

    pub const fn div(self, by: Self) -> Self {
        let (rest, exp) = if self.sig >= by.sig {
            (self.sig >> 1, self.exp - by.exp)
        } else {
            (self.sig, self.exp - by.exp - 1)
        };
        if rest >= by.sig {
            // Only where a divisor is zero, which none is.
            return Self::ZERO;
        }
        let (high, rest) = digit(rest, by.sig);
        let (low, _) = digit(rest, by.sig);
        Self::new(
            self.sign != by.sign,
            exp,
            (high as u128) << 64 | low as u128,
        )
    }

    pub const fn add(self, other: Self) -> Self {
        if other.sig == 0 {
            return self;
        }
        if self.sig == 0 {
            return other;
        }
        let larger = self.exp > other.exp || self.exp == other.exp && self.sig >= other.sig;
        let (a, b) = if larger { (self, other) } else { (other, self) };
        let apart = a.exp - b.exp;
        let small = if apart < 128 { b.sig >> apart } else { 0 };
        if a.sign != b.sign {
            return Self::new(a.sign, a.exp, a.sig - small);
        }
        let (sum, carry) = a.sig.overflowing_add(small);
        if carry {
            return Self::new(a.sign, a.exp + 1, sum >> 1 | ONE);
        }
        Self::new(a.sign, a.exp, sum)
    }

    pub const fn sub(self, other: Self) -> Self {
        self.add(other.negated())
    }

    /// The magnitude as a fraction of 128 bits; it is below one.
    pub const fn fraction(self) -> u128 {
        let by = -1 - self.exp;
        if by < 0 || by >= 128 {
            return 0;
        }
        self.sig >> by
    }

    /// A fixed-point number with 127 bits behind the point.
    pub const fn fixed(value: u128) -> Self {
        Self::new(false, 0, value)
    }
}

/// The power series with `coefficients` (127 bits behind the point) at a fraction `x`, its signs
/// alternating if `ALTERNATE`.
#[inline]
pub(super) fn series<const ALTERNATE: bool>(x: u128, coefficients: &[u128]) -> u128 {
    let mut sum = 0;
    for &coefficient in coefficients.iter().rev() {
        let product = mul_high(x, sum);
        sum = if ALTERNATE {
            coefficient - product
        } else {
            coefficient + product
        };
    }
    sum
}

/// `1 / (2k + 1)`.
pub(super) const fn odd_reciprocals<const N: usize>() -> [u128; N] {
    let mut coefficients = [0; N];
    let mut k = 0;
    while k < N {
        coefficients[k] = ONE / (2 * k as u128 + 1);
        k += 1;
    }
    coefficients
}

/// `1 / (first + step k)!`, where `first` is 0 or 1.
pub(super) const fn factorials<const N: usize>(first: u128, step: u128) -> [u128; N] {
    let mut coefficients = [ONE; N];
    let mut last = first;
    let mut k = 1;
    while k < N {
        let mut value = coefficients[k - 1];
        let mut j = 0;
        while j < step {
            last += 1;
            value /= last;
            j += 1;
        }
        coefficients[k] = value;
        k += 1;
    }
    coefficients
}
