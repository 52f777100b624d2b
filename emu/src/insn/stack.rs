//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF. SDM Vol. 2, each mnemonic; Vol. 1,
//! "Procedure Calls, Interrupts, and Exceptions".
//!
//! The stack's width is that of SS, the values' width the operand size. Segment registers are
//! pushed and popped elsewhere.

use super::form::{Dest, Source, Stack, row};
use super::{Row, next_or_leave, raised};
use crate::arch::segment::Seg;
use crate::arch::{Cr4, Gpr, RFlags};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::raw::Raw;

const RSP: usize = Gpr::Rsp as usize;
const RBP: usize = Gpr::Rbp as usize;

/// PUSH: a memory operand's address and the value of RSP are those before the push.
#[inline(always)]
fn push<W: Raw, S: Source, T: Stack>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = S::read(cpu, i)?;
    T::push(cpu, value)
}

/// POP: the destination's address is computed with RSP already incremented, and POP RSP leaves the
/// value popped.
#[inline(always)]
fn pop<W: Raw, D: Dest, T: Stack>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let rsp = cpu.regs[RSP];
    let value: W = T::load(cpu, rsp & cpu.stack_mask)?;
    cpu.drop_stack(W::BYTES as u64);
    let written = D::write(cpu, i, value);
    if written.is_err() {
        cpu.regs[RSP] = rsp;
    }
    written
}

/// The stack offset `slots` values of width `W` below the top.
fn below<W: Raw>(cpu: &Cpu, slots: u64) -> u64 {
    cpu.regs[RSP].wrapping_sub(slots * W::BYTES as u64) & cpu.stack_mask
}

/// Raises what a write of one value at `offset` of the stack would raise.
fn probe<W: Raw>(cpu: &mut Cpu, offset: u64) -> Result<(), Raised> {
    let linear = cpu.linear_at(Seg::Ss, offset, W::BYTES, Access::Write)?;
    cpu.probe_write(linear, W::BYTES, true)
}

/// Raises what a push would raise.
#[cold]
pub(super) fn probe_push<W: Raw>(cpu: &mut Cpu) -> Result<(), Raised> {
    probe::<W>(cpu, below::<W>(cpu, 1))
}

/// PUSHA: a fault leaves the registers, but what was pushed before it lies in memory.
#[inline(never)]
fn pusha<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    for slot in 1..=8 {
        let value: W = cpu.reg(slot as u8 - 1);
        cpu.store_at(Seg::Ss, below::<W>(cpu, slot), value)?;
    }
    cpu.drop_stack((8 * W::BYTES as u64).wrapping_neg());
    Ok(())
}

/// POPA: the value in SP's place is read but not loaded. A fault leaves SP, but what was popped
/// before it is in the registers, as on AMD's processors.
#[inline(never)]
fn popa<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    for slot in 0..8 {
        let value: W = cpu.peek((slot * W::BYTES) as u64)?;
        let register = 7 - slot;
        if register != RSP {
            cpu.set_reg(register as u8, value);
        }
    }
    cpu.drop_stack(8 * W::BYTES as u64);
    Ok(())
}

/// ENTER: pushes RBP, at nesting levels above zero copies `level - 1` frame pointers and pushes
/// the new one, then allocates; the last value allocated must be writable. A fault leaves the
/// registers, but what was pushed before it lies in memory, as on AMD's processors.
#[inline(never)]
fn enter<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let allocate = u64::from(i.imm as u16);
    let level = i.disp as u64 & 31;
    if level > 1 && !cpu.alone {
        // The copies may overwrite their sources: the instruction cannot begin twice.
        return cpu.retry();
    }
    let rsp = cpu.regs[RSP];
    let frame: W = W::from_u64(rsp & !cpu.stack_mask | below::<W>(cpu, 1));
    let old: W = cpu.reg(RBP as u8);
    cpu.store_at(Seg::Ss, below::<W>(cpu, 1), old)?;
    for k in 1..level {
        let outer = cpu.regs[RBP].wrapping_sub(k * W::BYTES as u64) & cpu.stack_mask;
        let pointer: W = cpu.load_at(Seg::Ss, outer)?;
        cpu.store_at(Seg::Ss, below::<W>(cpu, 1 + k), pointer)?;
    }
    let pushes = 1 + level;
    if level > 0 {
        cpu.store_at(Seg::Ss, below::<W>(cpu, pushes), frame)?;
    }
    let end = below::<W>(cpu, pushes).wrapping_sub(allocate) & cpu.stack_mask;
    probe::<W>(cpu, end)?;
    cpu.regs[RSP] = rsp & !cpu.stack_mask | end;
    cpu.set_reg(RBP as u8, frame);
    Ok(())
}

#[inline(always)]
fn leave<W: Raw, T: Stack>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let (rsp, mask) = (cpu.regs[RSP], cpu.stack_mask);
    let frame = cpu.regs[RBP] & mask;
    let saved: W = T::load(cpu, frame)?;
    cpu.regs[RSP] = rsp & !mask | frame;
    cpu.drop_stack(W::BYTES as u64);
    cpu.set_reg(RBP as u8, saved);
    Ok(())
}

/// In virtual-8086 mode below IOPL 3: whether the mode extensions serve PUSHF or POPF of width `W`
/// by the virtual interrupt flag; #GP(0) if they do not. False in all other modes.
fn virtual_interrupts<W: Raw>(cpu: &mut Cpu) -> Result<bool, Raised> {
    if !cpu.vm86() || cpu.system_flags.iopl() == 3 {
        return Ok(false);
    }
    if W::BYTES == 2 && cpu.cr4.contains(Cr4::VME) {
        return Ok(true);
    }
    cpu.gp(0)
}

/// PUSHF: VM and RF are pushed as zero; with virtual interrupts IF shows VIF, and IOPL 3.
fn pushf<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let virtual_if = virtual_interrupts::<W>(cpu)?;
    let mut image = cpu.rflags() & !(RFlags::VM | RFlags::RF);
    if virtual_if {
        image.set(RFlags::IF, cpu.system_flags.contains(RFlags::VIF));
        image |= RFlags::IOPL;
    }
    cpu.push(W::from_u64(image.bits()))
}

/// The flags that POPF of width `W` may change. SDM Vol. 2B, "POPF/POPFD/POPFQ", table "Effect of
/// POPF/POPFD on the EFLAGS Register".
fn changeable<W: Raw>(cpu: &Cpu) -> RFlags {
    let mut flags = RFlags::STATUS | RFlags::TF | RFlags::DF | RFlags::NT;
    if W::BYTES > 2 {
        flags |= RFlags::AC | RFlags::ID;
    }
    if cpu.cpl == 0 {
        flags |= RFlags::IOPL;
    }
    // In virtual-8086 mode CPL is 3, and IOPL 3 by now.
    if cpu.cpl <= cpu.system_flags.iopl() || !cpu.protected() {
        flags |= RFlags::IF;
    }
    flags
}

fn popf<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let virtual_if = virtual_interrupts::<W>(cpu)?;
    let image: W = cpu.peek(0)?;
    let image = RFlags::from_bits_retain(image.to_u64());
    let mut old = cpu.rflags() & !RFlags::RF;
    if virtual_if {
        let on = image.contains(RFlags::IF);
        if image.contains(RFlags::TF) || on && old.contains(RFlags::VIP) {
            return cpu.gp(0);
        }
        old.set(RFlags::VIF, on);
    }
    cpu.drop_stack(W::BYTES as u64);
    let change = changeable::<W>(cpu);
    cpu.set_rflags(old & !change | image & change);
    Ok(())
}

/// POPF in a block, which it leaves only if the flags it set want something.
fn popf_step<W: Raw>(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    if popf::<W>(cpu, i).is_err() {
        return raised(cpu, left);
    }
    next_or_leave(cpu, i, left)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(push: push<u16>, [Push_r16, Push_rm16, Push_imm16, Pushw_imm8]),
    row!(push: push<u32>, [Push_r32, Push_rm32, Pushd_imm32, Pushd_imm8]),
    row!(push: push<u64>, [Push_r64, Push_rm64, Pushq_imm32, Pushq_imm8]),
    row!(pop: pop<u16>, [Pop_r16, Pop_rm16]),
    row!(pop: pop<u32>, [Pop_r32, Pop_rm32]),
    row!(pop: pop<u64>, [Pop_r64, Pop_rm64]),
    row!(plain: pusha::<u16>, [Pushaw]),
    row!(plain: pusha::<u32>, [Pushad]),
    row!(plain: popa::<u16>, [Popaw]),
    row!(plain: popa::<u32>, [Popad]),
    row!(plain: enter::<u16>, [Enterw_imm16_imm8]),
    row!(plain: enter::<u32>, [Enterd_imm16_imm8]),
    row!(plain: enter::<u64>, [Enterq_imm16_imm8]),
    row!(stack: leave<u16>, [Leavew]),
    row!(stack: leave<u32>, [Leaved]),
    row!(stack: leave<u64>, [Leaveq]),
    row!(plain: pushf::<u16>, [Pushfw]),
    row!(plain: pushf::<u32>, [Pushfd]),
    row!(plain: pushf::<u64>, [Pushfq]),
    row!(@row [Popfw] |_| popf_step::<u16>),
    row!(@row [Popfd] |_| popf_step::<u32>),
    row!(@row [Popfq] |_| popf_step::<u64>),
];
