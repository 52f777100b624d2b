//! BMI1 and BMI2: ANDN, BEXTR, BLSI, BLSMSK, BLSR, BZHI, PDEP, PEXT, RORX, SARX, SHLX, SHRX (MULX is
//! in `muldiv.rs`, TZCNT in `bit.rs`). SDM Vol. 2, each mnemonic; Vol. 2A, "VEX Encoded GPR
//! Instructions".
//!
//! Undefined flags are as AMD processors leave them: AF clear and PF by the result, but for BEXTR.

use super::Row;
use super::form::{Imm, Reg, Source, row};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// VEX encodings are #UD in real-address and virtual-8086 mode. (A mode bit that no block's key
/// holds, so it is asked here.)
#[inline(always)]
pub(super) fn require_vex(cpu: &mut Cpu) -> Result<(), Raised> {
    if cpu.real_or_vm86() {
        return cpu.ud();
    }
    Ok(())
}

/// SF, ZF and PF by a result, CF given, OF and AF clear.
#[inline(always)]
fn set_flags<W: Width>(cpu: &mut Cpu, result: W, cf: bool) {
    cpu.flags.set_result(result);
    cpu.flags.set_cf_of_af(cf, false, false);
}

#[inline(always)]
fn andn<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let b: W = S::read(cpu, i)?;
    let result = !cpu.reg::<W>(i.r[1]) & b;
    cpu.set_reg(i.r[0], result);
    cpu.flags.after_logic(result);
    Ok(())
}

/// The lowest `count` bits of `a`; all of them from the width on.
#[inline(always)]
fn lowest(a: u64, count: u32) -> u64 {
    a & !u64::MAX.checked_shl(count).unwrap_or(0)
}

#[inline(always)]
fn bextr<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let control = cpu.reg::<u16>(i.r[2]);
    let [start, length] = control.to_le_bytes().map(u32::from);
    let field = lowest(a.to_u64().checked_shr(start).unwrap_or(0), length);
    cpu.set_reg(i.r[0], W::from_u64(field));
    // SF, AF and PF are undefined: clear, set and by the result.
    cpu.flags.set_result(field & u64::MAX >> 1);
    cpu.flags.set_zf(field == 0);
    cpu.flags.set_cf_of_af(false, false, true);
    Ok(())
}

#[inline(always)]
fn blsi<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let result = a & W::zero().sub(a);
    cpu.set_reg(i.r[0], result);
    set_flags(cpu, result, a != W::zero());
    Ok(())
}

#[inline(always)]
fn blsmsk<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let result = a ^ a.sub(W::from_u64(1));
    cpu.set_reg(i.r[0], result);
    set_flags(cpu, result, a == W::zero());
    Ok(())
}

#[inline(always)]
fn blsr<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let result = a & a.sub(W::from_u64(1));
    cpu.set_reg(i.r[0], result);
    set_flags(cpu, result, a == W::zero());
    Ok(())
}

#[inline(always)]
fn bzhi<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let count = cpu.regs[usize::from(i.r[2] & 15)] as u8;
    let result = W::from_u64(lowest(a.to_u64(), u32::from(count)));
    cpu.set_reg(i.r[0], result);
    set_flags(cpu, result, u32::from(count) >= W::BITS);
    Ok(())
}

/// The low bits of `a` put, in order, where `mask` has ones.
#[inline(always)]
fn deposit(mut a: u64, mut mask: u64) -> u64 {
    let mut result = 0;
    while mask != 0 {
        let place = mask & mask.wrapping_neg();
        if a & 1 != 0 {
            result |= place;
        }
        a >>= 1;
        mask ^= place;
    }
    result
}

/// The bits of `a` where `mask` has ones, moved together at the bottom.
#[inline(always)]
fn extract(a: u64, mut mask: u64) -> u64 {
    let (mut result, mut place) = (0, 1u64);
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if a & bit != 0 {
            result |= place;
        }
        place <<= 1;
        mask ^= bit;
    }
    result
}

#[inline(always)]
fn pdep<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let mask: W = S::read(cpu, i)?;
    let result = deposit(cpu.reg::<W>(i.r[1]).to_u64(), mask.to_u64());
    cpu.set_reg(i.r[0], W::from_u64(result));
    Ok(())
}

#[inline(always)]
fn pext<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_vex(cpu)?;
    let mask: W = S::read(cpu, i)?;
    let result = extract(cpu.reg::<W>(i.r[1]).to_u64(), mask.to_u64());
    cpu.set_reg(i.r[0], W::from_u64(result));
    Ok(())
}

/// A shift without flags: operand 1 by `C`, masked to the width.
#[inline(always)]
fn shifted<W: Raw, S: Source, C: Source>(
    cpu: &mut Cpu,
    i: &Insn,
    shift: impl Fn(W, u32) -> u64,
) -> Result<(), Raised> {
    require_vex(cpu)?;
    let a: W = S::read(cpu, i)?;
    let count: W = C::read(cpu, i)?;
    let result = shift(a, count.to_u64() as u32 & (W::BITS - 1));
    cpu.set_reg(i.r[0], W::from_u64(result));
    Ok(())
}

#[inline(always)]
fn rorx<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    shifted::<W, S, Imm>(cpu, i, |a, n| {
        let a = a.to_u64();
        a >> n | a << ((W::BITS - n) % W::BITS)
    })
}

#[inline(always)]
fn sarx<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    shifted::<W, S, Reg<2>>(cpu, i, |a, n| (a.to_i64() >> n) as u64)
}

#[inline(always)]
fn shlx<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    shifted::<W, S, Reg<2>>(cpu, i, |a, n| a.to_u64() << n)
}

#[inline(always)]
fn shrx<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    shifted::<W, S, Reg<2>>(cpu, i, |a, n| a.to_u64() >> n)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(to_reg2: andn<u32>, [VEX_Andn_r32_r32_rm32]),
    row!(to_reg2: andn<u64>, [VEX_Andn_r64_r64_rm64]),
    row!(to_reg: bextr<u32>, [VEX_Bextr_r32_rm32_r32]),
    row!(to_reg: bextr<u64>, [VEX_Bextr_r64_rm64_r64]),
    row!(to_reg: blsi<u32>, [VEX_Blsi_r32_rm32]),
    row!(to_reg: blsi<u64>, [VEX_Blsi_r64_rm64]),
    row!(to_reg: blsmsk<u32>, [VEX_Blsmsk_r32_rm32]),
    row!(to_reg: blsmsk<u64>, [VEX_Blsmsk_r64_rm64]),
    row!(to_reg: blsr<u32>, [VEX_Blsr_r32_rm32]),
    row!(to_reg: blsr<u64>, [VEX_Blsr_r64_rm64]),
    row!(to_reg: bzhi<u32>, [VEX_Bzhi_r32_rm32_r32]),
    row!(to_reg: bzhi<u64>, [VEX_Bzhi_r64_rm64_r64]),
    row!(to_reg2: pdep<u32>, [VEX_Pdep_r32_r32_rm32]),
    row!(to_reg2: pdep<u64>, [VEX_Pdep_r64_r64_rm64]),
    row!(to_reg2: pext<u32>, [VEX_Pext_r32_r32_rm32]),
    row!(to_reg2: pext<u64>, [VEX_Pext_r64_r64_rm64]),
    row!(to_reg: rorx<u32>, [VEX_Rorx_r32_rm32_imm8]),
    row!(to_reg: rorx<u64>, [VEX_Rorx_r64_rm64_imm8]),
    row!(to_reg: sarx<u32>, [VEX_Sarx_r32_rm32_r32]),
    row!(to_reg: sarx<u64>, [VEX_Sarx_r64_rm64_r64]),
    row!(to_reg: shlx<u32>, [VEX_Shlx_r32_rm32_r32]),
    row!(to_reg: shlx<u64>, [VEX_Shlx_r64_rm64_r64]),
    row!(to_reg: shrx<u32>, [VEX_Shrx_r32_rm32_r32]),
    row!(to_reg: shrx<u64>, [VEX_Shrx_r64_rm64_r64]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn deposit_places_bit_by_bit(a: u64, mask: u64) {
            let (mut expected, mut from) = (0, 0);
            for to in (0..64).filter(|to| mask >> to & 1 != 0) {
                expected |= (a >> from & 1) << to;
                from += 1;
            }
            prop_assert_eq!(deposit(a, mask), expected);
        }

        #[test]
        fn extract_undoes_deposit(a: u64, mask: u64) {
            let low = lowest(a, mask.count_ones());
            prop_assert_eq!(extract(deposit(a, mask), mask), low);
            prop_assert_eq!(deposit(extract(a, mask), mask), a & mask);
        }

        #[test]
        fn lowest_bits(a: u64, count in 0u32..256) {
            let kept = (0..64).filter(|n| *n < count).map(|n| a & 1 << n).sum::<u64>();
            prop_assert_eq!(lowest(a, count), kept);
        }
    }
}
