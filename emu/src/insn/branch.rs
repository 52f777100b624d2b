//! Near jumps, calls and returns, LOOP, JCXZ. SDM Vol. 2, each mnemonic; targets outside the code
//! segment's limit fault before anything changes.

use iced_x86::{Instruction, Mnemonic};

use super::form::{Source, Stack, row, step};
use super::stack::probe_push;
use super::{Row, raised};
use crate::arch::Gpr;
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::Width;

/// Sets RIP to `target`, which must lie in the code segment: #GP(0) before anything changes.
#[inline(always)]
pub(super) fn jump_to(cpu: &mut Cpu, target: u64) -> Result<(), Raised> {
    if !is_inside(cpu, target) {
        return cpu.gp(0);
    }
    cpu.regs[RIP] = target;
    Ok(())
}

/// Whether `target` is inside CS's limit, or canonical in 64-bit mode.
#[inline(always)]
fn is_inside(cpu: &Cpu, target: u64) -> bool {
    if cpu.code64() {
        (target as i64) << 16 >> 16 == target as i64
    } else {
        target <= u64::from(cpu.segments[Seg::Cs as usize].limit)
    }
}

/// The target of a relative branch, truncated to the operand size.
#[inline(always)]
fn relative<W: Width>(cpu: &Cpu, i: &Insn) -> u64 {
    W::from_u64(cpu.regs[RIP].wrapping_add(i.disp as u64)).to_u64()
}

/// Jcc in a block, which goes on behind it while the branch is not taken.
fn jcc<W: Raw, const CC: u8>(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    let taken = cpu.flags.condition::<CC>();
    branch_if::<W, false>(cpu, i, left, taken)
}

/// The end of a conditional branch `i` whose condition is known. The block goes on with `left` if
/// the branch did what was expected when it was translated: `EXPECTED` tells taken or not.
#[inline(always)]
pub(super) fn branch_if<W: Raw, const EXPECTED: bool>(
    cpu: &mut Cpu,
    i: &Insn,
    left: &[Insn],
    taken: bool,
) -> Result<(), Raised> {
    match left {
        [insn, left @ ..] if taken == EXPECTED => return (insn.step)(cpu, insn, left),
        _ => {}
    }
    if !taken {
        cpu.regs[RIP] = cpu.next_rip(i);
    } else {
        let target = relative::<W>(cpu, i);
        if jump_to(cpu, target).is_err() {
            return raised(cpu, left);
        }
    }
    cpu.left = left.len();
    Ok(())
}

/// JMP to an instruction of its own block: the block goes on with a copy of it.
pub(super) fn jmp_back<W: Raw>(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    match left {
        [insn, left @ ..] => (insn.step)(cpu, insn, left),
        [] => {
            cpu.regs[RIP] = relative::<W>(cpu, i);
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

#[inline(always)]
fn call<W: Raw, T: Stack>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let target = relative::<W>(cpu, i);
    call_to::<W, T>(cpu, i, target)
}

#[inline(always)]
fn call_indirect<W: Raw, S: Source, T: Stack>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let target: W = S::read(cpu, i)?;
    call_to::<W, T>(cpu, i, target.to_u64())
}

#[inline(always)]
fn call_to<W: Raw, T: Stack>(cpu: &mut Cpu, i: &Insn, target: u64) -> Result<(), Raised> {
    if !is_inside(cpu, target) {
        return outside::<T>(cpu, probe_push::<W>);
    }
    T::push(cpu, W::from_u64(cpu.next_rip(i)))?;
    cpu.regs[RIP] = target;
    Ok(())
}

/// #GP(0) for a target outside the code segment, behind what `before` raises.
#[inline(always)]
fn outside<T: Stack>(
    cpu: &mut Cpu,
    before: fn(&mut Cpu) -> Result<(), Raised>,
) -> Result<(), Raised> {
    if T::FAST {
        return Err(Raised);
    }
    before(cpu)?;
    cpu.gp(0)
}

/// RET and RET imm16; without one the immediate is zero.
#[inline(always)]
fn ret<W: Raw, T: Stack>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let target: W = T::load(cpu, cpu.regs[RSP] & cpu.stack_mask)?;
    let target = target.to_u64();
    if !is_inside(cpu, target) {
        return outside::<T>(cpu, |_| Ok(()));
    }
    cpu.regs[RIP] = target;
    cpu.drop_stack(W::BYTES as u64 + u64::from(i.imm as u16));
    Ok(())
}

const RSP: usize = Gpr::Rsp as usize;
/// The register that counts for LOOP and JCXZ: RCX at width `C`.
const COUNT: u8 = 1;
/// LOOP: the count alone decides.
const ALWAYS: u8 = 0;
/// LOOPE: while ZF is set.
const EQUAL: u8 = 1;
/// LOOPNE: while ZF is clear.
const NOT_EQUAL: u8 = 2;

/// Whether ZF must be set for LOOPE and LOOPNE to go on: on AMD's processors the REP prefixes,
/// which mean nothing here by the manuals, say so as they do for CMPS.
fn while_equal(iced: &Instruction) -> bool {
    let by_opcode = iced.mnemonic() == Mnemonic::Loope;
    iced.has_rep_prefix() || by_opcode && !iced.has_repne_prefix()
}

fn loop_while<W: Raw, C: Width, const IF: u8>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let count = cpu.reg::<C>(COUNT).sub(C::from_u64(1));
    let condition = match IF {
        ALWAYS => true,
        EQUAL => cpu.flags.zf(),
        _ => !cpu.flags.zf(),
    };
    if count != C::zero() && condition {
        let target = relative::<W>(cpu, i);
        jump_to(cpu, target)?;
    } else {
        cpu.regs[RIP] = cpu.next_rip(i);
    }
    cpu.set_reg(COUNT, count);
    Ok(())
}

fn jcxz<W: Raw, C: Width>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.reg::<C>(COUNT) == C::zero() {
        let target = relative::<W>(cpu, i);
        return jump_to(cpu, target);
    }
    cpu.regs[RIP] = cpu.next_rip(i);
    Ok(())
}

/// The row of LOOPE and LOOPNE.
macro_rules! loops {
    ($w:ty, $c:ty, $equal:ident, $not_equal:ident) => {
        row!(@row [$equal, $not_equal] |i| if while_equal(i) {
            step!(loop_while::<$w, $c, EQUAL>)
        } else {
            step!(loop_while::<$w, $c, NOT_EQUAL>)
        })
    };
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
            row!(stack: call<u16>, [Call_rel16]),
            row!(stack: call<u32>, [Call_rel32_32]),
            row!(stack: call<u64>, [Call_rel32_64]),
            row!(push: call_indirect<u16>, [Call_rm16]),
            row!(push: call_indirect<u32>, [Call_rm32]),
            row!(push: call_indirect<u64>, [Call_rm64]),
            row!(stack: ret<u16>, [Retnw, Retnw_imm16]),
            row!(stack: ret<u32>, [Retnd, Retnd_imm16]),
            row!(stack: ret<u64>, [Retnq, Retnq_imm16]),
            row!(plain: loop_while::<u16, u16, ALWAYS>, [Loop_rel8_16_CX]),
            row!(plain: loop_while::<u16, u32, ALWAYS>, [Loop_rel8_16_ECX]),
            row!(plain: loop_while::<u16, u64, ALWAYS>, [Loop_rel8_16_RCX]),
            row!(plain: loop_while::<u32, u16, ALWAYS>, [Loop_rel8_32_CX]),
            row!(plain: loop_while::<u32, u32, ALWAYS>, [Loop_rel8_32_ECX]),
            row!(plain: loop_while::<u64, u32, ALWAYS>, [Loop_rel8_64_ECX]),
            row!(plain: loop_while::<u64, u64, ALWAYS>, [Loop_rel8_64_RCX]),
            loops!(u16, u16, Loope_rel8_16_CX, Loopne_rel8_16_CX),
            loops!(u16, u32, Loope_rel8_16_ECX, Loopne_rel8_16_ECX),
            loops!(u16, u64, Loope_rel8_16_RCX, Loopne_rel8_16_RCX),
            loops!(u32, u16, Loope_rel8_32_CX, Loopne_rel8_32_CX),
            loops!(u32, u32, Loope_rel8_32_ECX, Loopne_rel8_32_ECX),
            loops!(u64, u32, Loope_rel8_64_ECX, Loopne_rel8_64_ECX),
            loops!(u64, u64, Loope_rel8_64_RCX, Loopne_rel8_64_RCX),
            row!(plain: jcxz::<u16, u16>, [Jcxz_rel8_16]),
            row!(plain: jcxz::<u32, u16>, [Jcxz_rel8_32]),
            row!(plain: jcxz::<u16, u32>, [Jecxz_rel8_16]),
            row!(plain: jcxz::<u32, u32>, [Jecxz_rel8_32]),
            row!(plain: jcxz::<u64, u32>, [Jecxz_rel8_64]),
            row!(plain: jcxz::<u16, u64>, [Jrcxz_rel8_16]),
            row!(plain: jcxz::<u64, u64>, [Jrcxz_rel8_64]),
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
