//! DAA, DAS, AAA, AAS, AAM, AAD, SALC. SDM Vol. 2, each mnemonic; Vol. 1, "Decimal Arithmetic
//! Instructions". Undefined flags are as AMD processors leave them. SALC is documented by AMD (APM Vol. 3, "Opcode Maps") and was by Intel for the P6.

use super::Row;
use super::form::row;
use crate::arch::exception::{DE, Exception};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;

/// What DAA or DAS makes of AL. OF, undefined, is that of one addition or subtraction.
struct Adjusted {
    al: u8,
    cf: bool,
    af: bool,
    of: bool,
}

/// Whether the low digit of `al` must be adjusted.
fn low_digit(al: u8, af: bool) -> bool {
    al & 0xF > 9 || af
}

/// DAA.
fn decimal_after_add(al: u8, cf: bool, af: bool) -> Adjusted {
    let low = low_digit(al, af);
    let high = al > 0x99 || cf;
    let adjust = u8::from(low) * 6 + u8::from(high) * 0x60;
    Adjusted {
        al: al.wrapping_add(adjust),
        cf: high,
        af: low,
        of: (al as i8).checked_add(adjust as i8).is_none(),
    }
}

/// DAS. Unlike DAA's, a borrow of the low digit's adjustment alone sets CF.
fn decimal_after_sub(al: u8, cf: bool, af: bool) -> Adjusted {
    let low = low_digit(al, af);
    let high = al > 0x99 || cf;
    let adjust = u8::from(low) * 6 + u8::from(high) * 0x60;
    Adjusted {
        al: al.wrapping_sub(adjust),
        cf: high || low && al < 6,
        af: low,
        of: (al as i8).checked_sub(adjust as i8).is_none(),
    }
}

fn decimal(cpu: &mut Cpu, adjust: fn(u8, bool, bool) -> Adjusted) {
    let Adjusted { al, cf, af, of } = adjust(cpu.reg(0), cpu.flags.cf(), cpu.flags.af());
    cpu.set_reg(0, al);
    cpu.flags.set_result(al);
    cpu.flags.set_cf_of_af(cf, of, af);
}

fn daa(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    decimal(cpu, decimal_after_add);
    Ok(())
}

fn das(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    decimal(cpu, decimal_after_sub);
    Ok(())
}

/// AAA and AAS: one unpacked digit in AL; `carry` is what AX gains when the digit overflowed. SF, ZF,
/// PF and OF, undefined, are those of that 16-bit addition, before the digit is cut out.
fn ascii(cpu: &mut Cpu, carry: i16) {
    let ax: u16 = cpu.reg(0);
    let overflow = low_digit(ax as u8, cpu.flags.af());
    let carry = if overflow { carry } else { 0 };
    let (sum, of) = (ax as i16).overflowing_add(carry);
    cpu.set_reg(0, sum as u16 & 0xFF0F);
    cpu.flags.set_result(sum as u16);
    cpu.flags.set_cf_of_af(overflow, of, overflow);
}

fn aaa(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    ascii(cpu, 0x106);
    Ok(())
}

fn aas(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    ascii(cpu, -0x106);
    Ok(())
}

fn aam(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let al: u8 = cpu.reg(0);
    let base = i.imm as u8;
    let (Some(high), Some(low)) = (al.checked_div(base), al.checked_rem(base)) else {
        return cpu.fault(Exception::new(DE));
    };
    cpu.set_reg(0, u16::from_le_bytes([low, high]));
    cpu.flags.set_result(low);
    cpu.flags.set_cf_of_af(false, false, false);
    Ok(())
}

fn aad(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let [al, ah] = cpu.reg::<u16>(0).to_le_bytes();
    let tens = ah.wrapping_mul(i.imm as u8);
    let sum = al.wrapping_add(tens);
    cpu.set_reg(0, u16::from(sum));
    // CF, OF and AF, undefined, are those of the addition.
    cpu.flags.after_add(al, tens, sum);
    Ok(())
}

fn salc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let al = if cpu.flags.cf() { 0xFF } else { 0u8 };
    cpu.set_reg(0, al);
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: daa, [Daa]),
    row!(plain: das, [Das]),
    row!(plain: aaa, [Aaa]),
    row!(plain: aas, [Aas]),
    row!(plain: aam, [Aam_imm8]),
    row!(plain: aad, [Aad_imm8]),
    row!(plain: salc, [Salc]),
];
