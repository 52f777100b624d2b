//! Near jumps, calls and returns, LOOP, JCXZ. SDM Vol. 2, each mnemonic; targets outside the code
//! segment's limit fault before anything changes.

use super::form::{Source, row};
use super::{Row, raised};
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// Sets RIP to `target`, which must lie in the code segment: #GP(0) before anything changes.
#[inline(always)]
pub(super) fn jump_to(cpu: &mut Cpu, target: u64) -> Result<(), Raised> {
    check_target(cpu, target)?;
    cpu.regs[RIP] = target;
    Ok(())
}

/// #GP(0) unless `target` is inside CS's limit, or canonical in 64-bit mode.
#[inline(always)]
pub(super) fn check_target(cpu: &mut Cpu, target: u64) -> Result<(), Raised> {
    let inside = if cpu.code64() {
        (target as i64) << 16 >> 16 == target as i64
    } else {
        target <= u64::from(cpu.segments[Seg::Cs as usize].limit)
    };
    if inside { Ok(()) } else { cpu.gp(0) }
}

/// The target of a relative branch, truncated to the operand size.
#[inline(always)]
fn relative<W: Width>(cpu: &Cpu, i: &Insn) -> u64 {
    W::from_u64(cpu.regs[RIP].wrapping_add(i.disp as u64)).to_u64()
}

/// Jcc in a block: a branch not taken goes on with the next instruction of the block.
fn jcc<W: Raw, const CC: u8>(cpu: &mut Cpu, insns: &[Insn]) -> Result<(), Raised> {
    let [i, rest @ ..] = insns else { return Ok(()) };
    if cpu.flags.condition::<CC>() {
        let target = relative::<W>(cpu, i);
        if jump_to(cpu, target).is_err() {
            return raised(cpu, insns);
        }
        cpu.left = rest.len();
        return Ok(());
    }
    match rest.first() {
        Some(next) => (next.step)(cpu, rest),
        None => {
            cpu.regs[RIP] = cpu.next_rip(i);
            Ok(())
        }
    }
}

fn jmp<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let target = relative::<W>(cpu, i);
    jump_to(cpu, target)
}

fn jmp_indirect<W: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let target: W = S::read(cpu, i)?;
    jump_to(cpu, target.to_u64())
}

/// Rows of one condition: short and near forms at each operand size.
macro_rules! conditions {
    ($($cc:literal: [$($w:ty: $short:ident, $near:ident;)*])*) => {
        &[
            $($(row!(@row [$short, $near] |_| jcc::<$w, $cc>).maybe(),)*)*
            row!(plain: jmp::<u16>, [Jmp_rel8_16, Jmp_rel16]),
            row!(plain: jmp::<u32>, [Jmp_rel8_32, Jmp_rel32_32]),
            row!(plain: jmp::<u64>, [Jmp_rel8_64, Jmp_rel32_64]),
            row!(read1: jmp_indirect<u16>, [Jmp_rm16]),
            row!(read1: jmp_indirect<u32>, [Jmp_rm32]),
            row!(read1: jmp_indirect<u64>, [Jmp_rm64]),
        ]
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = conditions! {
    0: [u16: Jo_rel8_16, Jo_rel16; u32: Jo_rel8_32, Jo_rel32_32; u64: Jo_rel8_64, Jo_rel32_64;]
    1: [u16: Jno_rel8_16, Jno_rel16; u32: Jno_rel8_32, Jno_rel32_32; u64: Jno_rel8_64, Jno_rel32_64;]
    2: [u16: Jb_rel8_16, Jb_rel16; u32: Jb_rel8_32, Jb_rel32_32; u64: Jb_rel8_64, Jb_rel32_64;]
    3: [u16: Jae_rel8_16, Jae_rel16; u32: Jae_rel8_32, Jae_rel32_32; u64: Jae_rel8_64, Jae_rel32_64;]
    4: [u16: Je_rel8_16, Je_rel16; u32: Je_rel8_32, Je_rel32_32; u64: Je_rel8_64, Je_rel32_64;]
    5: [u16: Jne_rel8_16, Jne_rel16; u32: Jne_rel8_32, Jne_rel32_32; u64: Jne_rel8_64, Jne_rel32_64;]
    6: [u16: Jbe_rel8_16, Jbe_rel16; u32: Jbe_rel8_32, Jbe_rel32_32; u64: Jbe_rel8_64, Jbe_rel32_64;]
    7: [u16: Ja_rel8_16, Ja_rel16; u32: Ja_rel8_32, Ja_rel32_32; u64: Ja_rel8_64, Ja_rel32_64;]
    8: [u16: Js_rel8_16, Js_rel16; u32: Js_rel8_32, Js_rel32_32; u64: Js_rel8_64, Js_rel32_64;]
    9: [u16: Jns_rel8_16, Jns_rel16; u32: Jns_rel8_32, Jns_rel32_32; u64: Jns_rel8_64, Jns_rel32_64;]
    10: [u16: Jp_rel8_16, Jp_rel16; u32: Jp_rel8_32, Jp_rel32_32; u64: Jp_rel8_64, Jp_rel32_64;]
    11: [u16: Jnp_rel8_16, Jnp_rel16; u32: Jnp_rel8_32, Jnp_rel32_32; u64: Jnp_rel8_64, Jnp_rel32_64;]
    12: [u16: Jl_rel8_16, Jl_rel16; u32: Jl_rel8_32, Jl_rel32_32; u64: Jl_rel8_64, Jl_rel32_64;]
    13: [u16: Jge_rel8_16, Jge_rel16; u32: Jge_rel8_32, Jge_rel32_32; u64: Jge_rel8_64, Jge_rel32_64;]
    14: [u16: Jle_rel8_16, Jle_rel16; u32: Jle_rel8_32, Jle_rel32_32; u64: Jle_rel8_64, Jle_rel32_64;]
    15: [u16: Jg_rel8_16, Jg_rel16; u32: Jg_rel8_32, Jg_rel32_32; u64: Jg_rel8_64, Jg_rel32_64;]
};
