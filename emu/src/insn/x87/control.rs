//! FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW, FFREE, FFREEP, FINCSTP, FDECSTP, FNOP, FWAIT, and what the
//! 8087 and 80287 had: FNENI, FNDISI, FNSETPM.

use super::super::Row;
use super::super::form::row;
use super::{BUSY, C1, ES, EXCEPTIONS, FCW_FIXED, FCW_INIT, FCW_WRITABLE, SF};
use crate::arch::exception::NM;
use crate::arch::{Cr0, Exception, Gpr};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;

impl Cpu {
    /// What FNINIT leaves; the registers keep their bits.
    pub(super) fn x87_init(&mut self) {
        let fpu = &mut self.fpu;
        (fpu.fcw, fpu.ftw, fpu.fop) = (FCW_INIT, 0, 0);
        (fpu.fip, fpu.fdp, fpu.fcs, fpu.fds) = (0, 0, 0, 0);
        // ES stays for `x87_settle` to see.
        fpu.fsw &= ES;
        self.x87_settle();
    }
}

fn fninit(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    cpu.x87_init();
    Ok(())
}

fn fnclex(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    cpu.fpu.fsw &= !(EXCEPTIONS | SF | BUSY);
    cpu.x87_settle();
    Ok(())
}

fn fldcw(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.fpu.fcw = cpu.load::<u16>(i)? & FCW_WRITABLE | FCW_FIXED;
    cpu.x87_settle();
    Ok(())
}

fn fnstcw(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    cpu.store(i, cpu.fpu.fcw)
}

fn fnstsw(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    cpu.store(i, cpu.fpu.fsw)
}

fn fnstsw_ax(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    cpu.set_reg(Gpr::Rax as u8, cpu.fpu.fsw);
    Ok(())
}

/// FFREE ST(i); then moves the top if `POP` (FFREEP).
fn ffree<const POP: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(i.r[0]);
    cpu.fpu.ftw &= !(1 << at);
    cpu.fpu.fsw &= !C1;
    if POP {
        cpu.st_pop();
    }
    Ok(())
}

/// FINCSTP and FDECSTP: moves the top by `BY` modulo 8, tags stay.
fn turn<const BY: u16>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    cpu.fpu.fsw &= !C1;
    cpu.x87_turn(BY);
    Ok(())
}

fn fnop(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    Ok(())
}

fn nothing(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.x87_present()
}

/// WAIT looks at CR0.TS only with CR0.MP, and at CR0.EM not at all.
fn wait(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    if cpu.cr0.contains(Cr0::MP | Cr0::TS) {
        return cpu.fault(Exception::new(NM));
    }
    cpu.x87_wait()
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: fninit, [Fninit]),
    row!(plain: fnclex, [Fnclex]),
    row!(plain: fldcw, [Fldcw_m2byte]),
    row!(plain: fnstcw, [Fnstcw_m2byte]),
    row!(plain: fnstsw, [Fnstsw_m2byte]),
    row!(plain: fnstsw_ax, [Fnstsw_AX]),
    row!(plain: ffree::<false>, [Ffree_sti]),
    row!(plain: ffree::<true>, [Ffreep_sti]),
    row!(plain: turn::<1>, [Fincstp]),
    row!(plain: turn::<7>, [Fdecstp]),
    row!(plain: fnop, [Fnop]),
    row!(plain: nothing, [Fneni, Fndisi, Fnsetpm]),
    row!(plain: wait, [Wait]),
];
