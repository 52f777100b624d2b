//! What an operation runs under, and what it reports.
//! SDM Vol. 1, "x87 FPU Control Word" and "MXCSR Control and Status Register".

use bitflags::bitflags;

bitflags! {
    /// Floating-point exceptions, as bits of FSW, FCW and MXCSR.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Exceptions: u16 {
        /// Invalid operation.
        const IE = 1 << 0;
        /// Denormal operand.
        const DE = 1 << 1;
        /// Division by zero.
        const ZE = 1 << 2;
        /// Overflow.
        const OE = 1 << 3;
        /// Underflow.
        const UE = 1 << 4;
        /// Inexact result (precision).
        const PE = 1 << 5;
    }
}

impl Exceptions {
    /// Those found before anything is computed: unmasked, they leave no result at all.
    pub const BEFORE: Self = Self::IE.union(Self::DE).union(Self::ZE);
}

/// Rounding control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

impl Rounding {
    /// From the two bits of FCW or MXCSR.
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

/// Which unit computes: they differ in the NaN they return and in what an unmasked exception leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// x87: the NaN with the larger significand; an unmasked overflow or underflow still gives a
    /// result, with a biased exponent.
    X87,
    /// SSE: the first operand's NaN.
    Sse,
}

/// Controls and flags of one operation, or of the lanes of one.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// Rounding control.
    pub rounding: Rounding,
    /// Masked exceptions.
    pub masked: Exceptions,
    /// Exceptions found so far.
    pub flags: Exceptions,
    /// The last result was rounded up, in magnitude (C1).
    pub up: bool,
    /// Denormal operands are zeros (DAZ).
    pub daz: bool,
    /// Tiny results are zeros, while underflow is masked (FTZ).
    pub ftz: bool,
    /// The unit.
    pub family: Family,
}

impl Env {
    /// Under the x87's control word.
    #[inline]
    pub const fn x87(fcw: u16) -> Self {
        Self {
            rounding: Rounding::from_bits(fcw as u32 >> 10),
            masked: Exceptions::from_bits_truncate(fcw),
            flags: Exceptions::empty(),
            up: false,
            daz: false,
            ftz: false,
            family: Family::X87,
        }
    }

    /// Under MXCSR.
    #[inline]
    pub const fn sse(mxcsr: u32) -> Self {
        Self {
            rounding: Rounding::from_bits(mxcsr >> 13),
            masked: Exceptions::from_bits_truncate((mxcsr >> 7) as u16),
            flags: Exceptions::empty(),
            up: false,
            daz: mxcsr & 1 << 6 != 0,
            ftz: mxcsr & 1 << 15 != 0,
            family: Family::Sse,
        }
    }

    /// Exceptions that were found and are not masked.
    #[inline]
    pub fn unmasked(&self) -> Exceptions {
        self.flags - self.masked
    }

    /// Whether an unmasked exception was found before anything was computed: there is no result.
    #[inline]
    pub fn refused(&self) -> bool {
        self.unmasked().intersects(Exceptions::BEFORE)
    }

    /// Notes an exception.
    #[inline]
    pub(super) fn raise(&mut self, exception: Exceptions) {
        self.flags |= exception;
    }
}
