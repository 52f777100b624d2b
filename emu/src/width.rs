//! Operand widths: what a rule is generic over.

use std::fmt::{Debug, LowerHex};
use std::ops::{BitAnd, BitOr, BitXor, Not};

/// An operand of 8, 16, 32 or 64 bits.
pub trait Width:
    Copy
    + Eq
    + Ord
    + Debug
    + LowerHex
    + Default
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: usize;

    /// The low bits of `value`.
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// Sign-extended.
    fn to_i64(self) -> i64;

    /// The value an instruction's immediate has at this width (sign-extended).
    #[inline(always)]
    fn from_imm(imm: i32) -> Self {
        Self::from_u64(i64::from(imm) as u64)
    }
    /// Sum modulo 2^BITS.
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::from_u64(self.to_u64().wrapping_add(other.to_u64()))
    }
    /// Difference modulo 2^BITS.
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::from_u64(self.to_u64().wrapping_sub(other.to_u64()))
    }
    /// Zero.
    #[inline(always)]
    fn zero() -> Self {
        Self::from_u64(0)
    }
    /// The most significant bit.
    #[inline(always)]
    fn msb(self) -> bool {
        self.to_i64() < 0
    }

    /// Rotated left by `count` bits, any number of them.
    fn rotated_left(self, count: u32) -> Self;

    /// Merges this value into a 64-bit register as the processor does: 32-bit results clear the
    /// upper half, 8- and 16-bit results keep the rest.
    fn merge(self, old: u64) -> u64;
    /// Register field `r` read from the register file; for bytes, bit 4 of `r` selects AH to BH.
    fn get(regs: &[u64; 32], r: u8) -> Self;
    /// Register field `r` written.
    fn set(regs: &mut [u64; 32], r: u8, value: Self);
}

/// In a byte register field: the high byte of the register.
pub const HIGH_BYTE: u8 = 0x10;

impl Width for u8 {
    const BITS: u32 = 8;
    const BYTES: usize = 1;

    #[inline(always)]
    fn from_u64(value: u64) -> Self {
        value as u8
    }
    #[inline(always)]
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self as i8)
    }
    #[inline(always)]
    fn rotated_left(self, count: u32) -> Self {
        self.rotate_left(count)
    }
    #[inline(always)]
    fn merge(self, old: u64) -> u64 {
        old & !0xFF | u64::from(self)
    }
    #[inline(always)]
    fn get(regs: &[u64; 32], r: u8) -> Self {
        (regs[usize::from(r & 15)] >> (r >> 1 & 8)) as u8
    }
    #[inline(always)]
    fn set(regs: &mut [u64; 32], r: u8, value: Self) {
        let shift = r >> 1 & 8;
        let slot = &mut regs[usize::from(r & 15)];
        *slot = *slot & !(0xFF << shift) | u64::from(value) << shift;
    }
}

macro_rules! width {
    ($type:ty, $signed:ty, $merge:expr) => {
        impl Width for $type {
            const BITS: u32 = <$type>::BITS;
            const BYTES: usize = size_of::<$type>();

            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as $signed as i64
            }
            #[inline(always)]
            fn rotated_left(self, count: u32) -> Self {
                self.rotate_left(count)
            }
            #[inline(always)]
            fn merge(self, old: u64) -> u64 {
                let merge: fn(u64, $type) -> u64 = $merge;
                merge(old, self)
            }
            #[inline(always)]
            fn get(regs: &[u64; 32], r: u8) -> Self {
                regs[usize::from(r & 31)] as Self
            }
            #[inline(always)]
            fn set(regs: &mut [u64; 32], r: u8, value: Self) {
                let slot = &mut regs[usize::from(r & 31)];
                *slot = value.merge(*slot);
            }
        }
    };
}

width!(u16, i16, |old, value| old & !0xFFFF | u64::from(value));
width!(u32, i32, |_, value| u64::from(value));
width!(u64, i64, |_, value| value);
