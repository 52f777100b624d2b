//! A vector as lanes. The compiler makes host vectors of these loops, as long as they go over bytes in
//! memory: of a number's shifts and masks it would not.

/// A vector register's contents, lowest byte first: eight bytes of MMX, sixteen of XMM.
pub(super) trait Lanes: Copy {
    /// Lane by lane, of bytes.
    fn bytes(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self;
    /// Of words.
    fn words(self, other: Self, f: impl Fn(u16, u16) -> u16) -> Self;
    /// Of doublewords.
    fn doubles(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self;
    /// Of quadwords.
    fn quads(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self;
    /// The low quadword.
    fn low(self) -> u64;
    /// A vector with this low quadword, otherwise zeros.
    fn from_low(low: u64) -> Self;
}

macro_rules! lanes {
    ($($name:ident: $lane:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self, f: impl Fn($lane, $lane) -> $lane) -> Self {
            const SIZE: usize = size_of::<$lane>();
            let lane = |v: &[u8; N], at: usize| {
                $lane::from_le_bytes(std::array::from_fn(|byte| v[at + byte]))
            };
            let mut out = [0; N];
            for at in (0..N).step_by(SIZE) {
                let result = f(lane(&self, at), lane(&other, at));
                out[at..at + SIZE].copy_from_slice(&result.to_le_bytes());
            }
            out
        }
    )*};
}

impl<const N: usize> Lanes for [u8; N] {
    lanes!(bytes: u8, words: u16, doubles: u32, quads: u64);

    #[inline(always)]
    fn low(self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| self[byte]))
    }

    #[inline(always)]
    fn from_low(low: u64) -> Self {
        let mut out = [0; N];
        out[..8].copy_from_slice(&low.to_le_bytes());
        out
    }
}
