//! The six status flags, kept lazily.
//!
//! An arithmetic result leaves three words from which any flag is one or two operations away, and
//! any combination of the six flags has a representation, so POPF needs no special case:
//! ZF is `zero == 0`; SF is bit 63 and PF the parity of the low byte of `sign`; in `carries` bit 63
//! is the carry out of the operand's top bit, bit 62 the carry into it, bit 3 the carry out of bit 3.

use crate::arch::RFlags;
use crate::width::Width;

/// Lazy OF, SF, ZF, AF, PF, CF.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Flags {
    zero: u64,
    sign: u64,
    carries: u64,
}

/// Bit of `carries` for CF.
const CARRY: u64 = 1 << 63;
/// Bit of `carries` that differs from [`CARRY`] when OF is set.
const CARRY_IN: u64 = 1 << 62;
/// Bit of `carries` for AF.
const HALF: u64 = 1 << 3;

impl Flags {
    /// After an addition `a + b (+ carry) = sum`.
    #[inline(always)]
    pub fn after_add<W: Width>(&mut self, a: W, b: W, sum: W) {
        self.set_result(sum);
        self.set_carries::<W>((a & b) | ((a | b) & !sum));
    }

    /// After a subtraction `a - b (- borrow) = difference`; CF and AF are borrows.
    #[inline(always)]
    pub fn after_sub<W: Width>(&mut self, a: W, b: W, difference: W) {
        self.set_result(difference);
        self.set_carries::<W>((!a & b) | ((!a | b) & difference));
    }

    /// After AND, OR, XOR, TEST: CF and OF clear; AF, undefined, clear as on every processor.
    #[inline(always)]
    pub fn after_logic<W: Width>(&mut self, result: W) {
        self.set_result(result);
        self.carries = 0;
    }

    /// SF, ZF, PF by a result; CF, OF, AF stay.
    #[inline(always)]
    pub fn set_result<W: Width>(&mut self, result: W) {
        let extended = result.to_i64() as u64;
        self.zero = extended;
        self.sign = extended;
    }

    #[inline(always)]
    fn set_carries<W: Width>(&mut self, carries: W) {
        let carries = carries.to_u64();
        self.carries = carries << (64 - W::BITS) | carries & HALF;
    }

    /// CF, OF and AF given one by one.
    #[inline(always)]
    pub fn set_cf_of_af(&mut self, cf: bool, of: bool, af: bool) {
        self.carries = u64::from(cf) << 63 | u64::from(cf ^ of) << 62 | u64::from(af) << 3;
    }

    /// CF and OF given, AF stays.
    #[inline(always)]
    pub fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.carries = u64::from(cf) << 63 | u64::from(cf ^ of) << 62 | self.carries & HALF;
    }

    /// CF given, the rest stays.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        self.set_cf_of_af(cf, self.of(), self.af());
    }

    /// ZF given, the rest stays.
    #[inline(always)]
    pub fn set_zf(&mut self, zf: bool) {
        self.zero = u64::from(!zf);
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        self.carries & CARRY != 0
    }
    /// Parity: even number of ones in the low byte.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        (self.sign as u8).count_ones() & 1 == 0
    }
    /// Carry out of bit 3.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.carries & HALF != 0
    }
    /// Zero.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.zero == 0
    }
    /// Sign.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        (self.sign as i64) < 0
    }
    /// Signed overflow.
    #[inline(always)]
    pub fn of(&self) -> bool {
        (self.carries ^ self.carries << 1) & CARRY != 0
    }

    /// The six flags as bits of RFLAGS.
    pub fn bits(&self) -> RFlags {
        let mut flags = RFlags::empty();
        flags.set(RFlags::CF, self.cf());
        flags.set(RFlags::PF, self.pf());
        flags.set(RFlags::AF, self.af());
        flags.set(RFlags::ZF, self.zf());
        flags.set(RFlags::SF, self.sf());
        flags.set(RFlags::OF, self.of());
        flags
    }

    /// Takes the six flags from bits of RFLAGS.
    pub fn set_bits(&mut self, flags: RFlags) {
        self.zero = u64::from(!flags.contains(RFlags::ZF));
        let odd = u64::from(!flags.contains(RFlags::PF));
        self.sign = u64::from(flags.contains(RFlags::SF)) << 63 | odd;
        self.set_cf_of_af(
            flags.contains(RFlags::CF),
            flags.contains(RFlags::OF),
            flags.contains(RFlags::AF),
        );
    }

    /// Condition `CC` of Jcc, SETcc and CMOVcc. SDM Vol. 1, "EFLAGS Condition Codes".
    #[inline(always)]
    pub fn condition<const CC: u8>(&self) -> bool {
        let holds = match CC >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (CC & 1 != 0)
    }
}

// The words above fix these; a change of representation must keep them.
const _: () = assert!(CARRY >> 1 == CARRY_IN);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_combination_survives(bits in 0u64..1 << 12) {
            let wanted = RFlags::from_bits_retain(bits) & RFlags::STATUS;
            let mut flags = Flags::default();
            flags.set_bits(wanted);
            prop_assert_eq!(flags.bits(), wanted);
        }

        #[test]
        fn byte_sums_and_differences(a: u8, b: u8, carry: bool) {
            let mut flags = Flags::default();
            let sum = a.wrapping_add(b).wrapping_add(u8::from(carry));
            flags.after_add(a, b, sum);
            prop_assert_eq!(flags.cf(), u16::from(a) + u16::from(b) + u16::from(carry) > 0xFF);
            let wide = i16::from(a as i8) + i16::from(b as i8) + i16::from(carry);
            prop_assert_eq!(flags.of(), wide != i16::from(sum as i8));
            prop_assert_eq!(flags.af(), (a & 15) + (b & 15) + u8::from(carry) > 15);
            let difference = a.wrapping_sub(b).wrapping_sub(u8::from(carry));
            flags.after_sub(a, b, difference);
            prop_assert_eq!(flags.cf(), u16::from(a) < u16::from(b) + u16::from(carry));
            let wide = i16::from(a as i8) - i16::from(b as i8) - i16::from(carry);
            prop_assert_eq!(flags.of(), wide != i16::from(difference as i8));
            prop_assert_eq!(flags.af(), (a & 15) < (b & 15) + u8::from(carry));
        }
    }
}
