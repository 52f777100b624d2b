//! ADX: ADCX and ADOX, two carry chains that do not meet. SDM Vol. 2, each mnemonic.

use super::Row;
use super::form::{Dest, Source, row};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

/// Adds operand 1 and a carry to operand 0; returns the carry out.
#[inline(always)]
fn add_carry<W: Raw, D: Dest, S: Source>(
    cpu: &mut Cpu,
    i: &Insn,
    carry: bool,
) -> Result<bool, Raised> {
    let b: W = S::read(cpu, i)?;
    let carry = W::from_u64(u64::from(carry));
    let (a, sum) = D::modify(cpu, i, |a: W| a.add(b).add(carry))?;
    Ok((a & b | (a | b) & !sum).msb())
}

#[inline(always)]
fn adcx<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let carry = add_carry::<W, D, S>(cpu, i, cpu.flags.cf())?;
    cpu.flags.set_cf(carry);
    Ok(())
}

#[inline(always)]
fn adox<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let carry = add_carry::<W, D, S>(cpu, i, cpu.flags.of())?;
    let cf = cpu.flags.cf();
    cpu.flags.set_cf_of(cf, carry);
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(modify: adcx<u32>, [Adcx_r32_rm32]),
    row!(modify: adcx<u64>, [Adcx_r64_rm64]),
    row!(modify: adox<u32>, [Adox_r32_rm32]),
    row!(modify: adox<u64>, [Adox_r64_rm64]),
];
