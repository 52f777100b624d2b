//! CLC, STC, CMC, CLD, STD, CLI, STI. SDM Vol. 2, each mnemonic; virtual interrupts: Vol. 3B,
//! "Interrupt and Exception Handling in Virtual-8086 Mode" and "Protected-Mode Virtual Interrupts".

use super::form::row;
use super::{Row, leave, next, raised};
use crate::arch::{Cr4, RFlags};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::state::Shadow;

fn clc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.flags.set_cf(false);
    Ok(())
}

fn stc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.flags.set_cf(true);
    Ok(())
}

fn cmc(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let cf = cpu.flags.cf();
    cpu.flags.set_cf(!cf);
    Ok(())
}

fn cld(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.system_flags.remove(RFlags::DF);
    Ok(())
}

fn std(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.system_flags.insert(RFlags::DF);
    Ok(())
}

/// The flag CLI and STI are about, or #GP(0): IF where IOPL allows, else VIF where CR4.VME (in
/// virtual-8086 mode) or CR4.PVI (at CPL 3) gives the program an interrupt flag of its own.
fn interrupt_flag(cpu: &mut Cpu) -> Result<RFlags, Raised> {
    if cpu.cpl <= cpu.system_flags.iopl() {
        return Ok(RFlags::IF);
    }
    let own = if cpu.vm86() { Cr4::VME } else { Cr4::PVI };
    if cpu.cpl == 3 && cpu.cr4.contains(own) {
        return Ok(RFlags::VIF);
    }
    cpu.gp(0)
}

fn cli(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let flag = interrupt_flag(cpu)?;
    cpu.set_system_flags(cpu.system_flags - flag);
    Ok(())
}

fn sti(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let flag = interrupt_flag(cpu)?;
    let before = cpu.system_flags;
    if flag == RFlags::VIF && before.contains(RFlags::VIP) {
        return cpu.gp(0);
    }
    cpu.set_system_flags(before | flag);
    if flag == RFlags::IF && !before.contains(RFlags::IF) {
        cpu.shadow = Shadow::Sti;
    }
    Ok(())
}

/// STI in a block. Its shadow holds interrupts back for one instruction, so the loop must see it only
/// if there may be one, or if the next instruction is not at hand.
fn sti_step(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    if sti(cpu, i).is_err() {
        return raised(cpu, left);
    }
    if cpu.shadow == Shadow::Sti {
        if cpu.alone || left.is_empty() || cpu.attention.any() {
            cpu.recheck_events();
            leave(cpu, i, left);
            return Ok(());
        }
        cpu.shadow = Shadow::None;
    }
    next(cpu, left)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: clc, [Clc]),
    row!(plain: stc, [Stc]),
    row!(plain: cmc, [Cmc]),
    row!(plain: cld, [Cld]),
    row!(plain: std, [Std]),
    row!(plain: cli, [Cli]),
    row!(@row [Sti] |_| sti_step),
];
