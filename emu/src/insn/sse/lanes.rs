//! A vector as lanes. The compiler makes host vectors of these loops.

/// A vector register's contents: 64 bits of MMX, 128 of XMM.
pub(super) trait Lanes: Copy {
    /// Lane by lane, of bytes.
    fn bytes(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self;
    /// Of words.
    fn words(self, other: Self, f: impl Fn(u16, u16) -> u16) -> Self;
    /// Of doublewords.
    fn doubles(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self;
    /// Of quadwords.
    fn quads(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self;
}

macro_rules! lanes {
    ($vector:ty) => {
        impl Lanes for $vector {
            #[inline(always)]
            fn bytes(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self {
                let (mut a, b) = (self.to_le_bytes(), other.to_le_bytes());
                a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, b));
                Self::from_le_bytes(a)
            }
            #[inline(always)]
            fn words(self, other: Self, f: impl Fn(u16, u16) -> u16) -> Self {
                (0..Self::BITS).step_by(16).fold(0, |all, at| {
                    all | Self::from(f((self >> at) as u16, (other >> at) as u16)) << at
                })
            }
            #[inline(always)]
            fn doubles(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
                (0..Self::BITS).step_by(32).fold(0, |all, at| {
                    all | Self::from(f((self >> at) as u32, (other >> at) as u32)) << at
                })
            }
            #[inline(always)]
            fn quads(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
                (0..Self::BITS).step_by(64).fold(0, |all, at| {
                    all | Self::from(f((self >> at) as u64, (other >> at) as u64)) << at
                })
            }
        }
    };
}

lanes!(u64);
lanes!(u128);
