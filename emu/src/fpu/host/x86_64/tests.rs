//! Each instruction by the host and by software: results and flags, bit for bit.

use super::*;

/// Operands for each instruction.
const CASES: u32 = 30_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// A pattern whose exponent, of `bits` bits above `fraction`, is often at an end or in the middle,
    /// and whose fraction is often round or nearly so.
    fn float(&mut self, bits: u32, fraction: u32) -> u64 {
        let top = (1 << bits) - 1;
        let exponent = match self.below(8) {
            0 => 0,
            1 => top,
            2 => self.below(4),
            3 => top - 1 - self.below(4),
            4 => (top / 2).wrapping_sub(self.below(2 * u64::from(fraction))) & top,
            5 => top / 2 + self.below(66),
            _ => self.draw() & top,
        };
        let ones = (1 << fraction) - 1;
        let low = match self.below(8) {
            0 => 0,
            1 => 1,
            2 => ones,
            3 => 1 << (fraction - 1) | self.below(2),
            4 => self.draw() & ones << self.below(u64::from(fraction)),
            _ => self.draw(),
        } & ones;
        self.below(2) << (bits + fraction) | exponent << fraction | low
    }

    fn vector(&mut self) -> u128 {
        let single = |r: &mut Self| u128::from(r.float(8, 23));
        let double = |r: &mut Self| u128::from(r.float(11, 52));
        match self.below(8) {
            0..=2 => (0..4).fold(0, |all, _| all << 32 | single(self)),
            3..=5 => double(self) << 64 | double(self),
            6 => {
                // Integers of any length, of either sign.
                let integer = |r: &mut Self| {
                    let n = r.draw() >> r.below(64);
                    u128::from(if r.below(2) == 0 { n } else { !n })
                };
                integer(self) << 64 | integer(self)
            }
            _ => 0,
        }
    }

    /// A second operand: anything, or one near the first.
    fn other(&mut self, a: u128) -> u128 {
        match self.below(4) {
            0 => a ^ u128::from(self.below(4)) << (32 * self.below(4)),
            1 => a ^ (0x8000_0000_8000_0000_u128 << 64 | 0x8000_0000_8000_0000),
            _ => self.vector(),
        }
    }

    /// MXCSR: half of them with all masked, and every rounding, DAZ, FTZ and flag.
    fn mxcsr(&mut self) -> u32 {
        let masked = if self.below(2) == 0 { MXCSR } else { 0 };
        let easy = if self.below(4) == 0 { 0x1FA0 } else { u32::MAX };
        (self.draw() as u32 & 0xFFFF | masked) & easy | if easy == 0x1FA0 { easy } else { 0 }
    }
}

/// Compares `I`, whose results have `width` bits; how often the quick way was open.
fn check<I: Instruction>(name: &str, width: u32) -> u32 {
    let mut random = Random(u64::from(width));
    let ours = u128::MAX >> (128 - width);
    let mut taken = 0;
    for _ in 0..CASES {
        let a = random.vector();
        let (b, mxcsr) = (random.other(a), random.mxcsr());
        let (result, flags) = in_software::<I>(mxcsr, a, b);
        if let Some(fast) = quick::<I>(mxcsr, a, b) {
            taken += 1;
            assert_eq!(fast & ours, result & ours, "{name} {mxcsr:x} {a:x} {b:x}");
            let new = u32::from(flags.bits()) & !mxcsr;
            assert_eq!(new, 0, "{name} {mxcsr:x} {a:x} {b:x}");
            let unmasked = u32::from(flags.bits()) & !(mxcsr >> 7);
            assert_eq!(unmasked, 0, "{name} {mxcsr:x} {a:x} {b:x}");
        }
        let mxcsr = mxcsr | MXCSR;
        let (result, flags) = in_software::<I>(mxcsr, a, b);
        let theirs = under::<I>(mxcsr, a, b).map(|(result, flags)| (result & ours, flags));
        assert_eq!(
            theirs,
            Some((result & ours, flags)),
            "{name} {mxcsr:x} {a:x} {b:x}"
        );
    }
    taken
}

/// Every instruction named; each must go the quick way now and then.
macro_rules! check {
    ($width:literal: $($name:ident $(<$($p:literal)*>)?),*) => {$(
        check!(@one $width $name $($($p)*)?);
    )*};
    (@one $width:literal $name:ident) => {
        assert!(check::<$name>(stringify!($name), $width) > 100, stringify!($name));
    };
    (@one $width:literal $name:ident $($p:literal)+) => {$(
        assert!(check::<$name<$p>>(concat!(stringify!($name), $p), $width) > 100);
    )+};
}

#[test]
fn arithmetic_agrees_with_software() {
    check!(128: Addps, Addpd, Subps, Subpd, Mulps, Mulpd, Divps, Divpd, Sqrtps, Sqrtpd);
    check!(64: Addsd, Subsd, Mulsd, Divsd, Sqrtsd);
    check!(32: Addss, Subss, Mulss, Divss, Sqrtss);
}

#[test]
fn comparisons_agree_with_software() {
    check!(128: Minps, Minpd, Maxps, Maxpd, Cmpps<0 1 2 3 4 5 6 7>, Cmppd<0 1 2 3 4 5 6 7>);
    check!(64: Minsd, Maxsd, Cmpsd<0 1 2 3 4 5 6 7>);
    check!(32: Minss, Maxss, Cmpss<0 1 2 3 4 5 6 7>);
}

#[test]
fn conversions_agree_with_software() {
    check!(32: Cvtsi2ss32, Cvtsi2ss64, Cvtsd2ss);
    check!(64: Cvtsi2sd32, Cvtsi2sd64, Cvtss2sd);
    check!(128: Cvtdq2ps, Cvtdq2pd, Cvtps2dq, Cvttps2dq, Cvtpd2dq, Cvttpd2dq, Cvtps2pd, Cvtpd2ps);
    check!(32: Cvtss2si32, Cvtsd2si32, Cvttss2si32, Cvttsd2si32);
    check!(64: Cvtss2si64, Cvtsd2si64, Cvttss2si64, Cvttsd2si64);
}
