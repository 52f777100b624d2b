//! RETF, and what it shares with IRET: returning to an equal or outer privilege level.
//! SDM Vol. 2, "RET"; Vol. 3A, "Returning from a Called Procedure".

use super::Row;
use super::form::row;
use crate::arch::exception::{GP, NP};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::descriptor::{is_null, null_stack, with_rpl};

/// The code segment a return goes to; its RPL is the privilege returned to.
pub(super) fn return_code(cpu: &mut Cpu, selector: u16) -> Result<Segment, Raised> {
    if is_null(selector) {
        return cpu.gp(0);
    }
    let d = cpu.descriptor(selector, GP)?;
    let rpl = d.rpl();
    let allowed = if d.conforming() {
        d.dpl() <= rpl
    } else {
        d.dpl() == rpl
    };
    if !d.code() || rpl < cpu.cpl || !allowed || cpu.long_and_default(&d) {
        return cpu.selector_fault(GP, selector);
    }
    if !d.present() {
        return cpu.selector_fault(NP, selector);
    }
    Ok(with_rpl(cpu.accessed(&d)?, rpl))
}

/// The stack segment that goes with a return to `cs`. 64-bit code below CPL 3 may have none.
pub(super) fn return_stack(cpu: &mut Cpu, selector: u16, cs: &Segment) -> Result<Segment, Raised> {
    let cpl = cs.rpl();
    if is_null(selector) && cpl != 3 && cpu.long_mode() && cs.has(Segment::L) {
        return Ok(Segment {
            selector,
            ..null_stack(cpl)
        });
    }
    cpu.stack_segment(selector, cpl, GP)
}

/// Goes on at `rip` in `cs` with stack `ss:sp`. An outer privilege loses the data segments it may
/// not have.
pub(super) fn return_to(cpu: &mut Cpu, cs: Segment, rip: u64, ss: Segment, sp: u64) {
    let outer = cs.rpl() > cpu.cpl;
    let long = cpu.long_mode() && cs.has(Segment::L);
    cpu.regs[RIP] = rip;
    cpu.regs[4] = match (long, ss.has(Segment::DB)) {
        (true, _) => sp,
        (false, true) => sp & 0xFFFF_FFFF,
        // Only SP is loaded: the upper half of ESP shows through.
        (false, false) => cpu.regs[4] & !0xFFFF | sp & 0xFFFF,
    };
    cpu.segments[Seg::Cs as usize] = cs;
    cpu.segments[Seg::Ss as usize] = ss;
    if outer {
        drop_inner_segments(cpu, cs.rpl());
    }
    cpu.update_mode();
}

/// Nulls the data segment registers that are more privileged than `cpl`.
fn drop_inner_segments(cpu: &mut Cpu, cpl: u8) {
    for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
        let segment = &mut cpu.segments[seg as usize];
        let conforming = segment.has(Segment::CODE | Segment::CONFORMING);
        if !segment.unusable() && !conforming && segment.dpl() < cpl {
            *segment = Segment::null(0);
        }
    }
}

/// RETF and RETF imm16 with items of `W` bytes.
fn retf<const W: usize>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let width = W as u64;
    let extra = u64::from(i.imm as u16);
    let rip = cpu.peek_width(W, 0)?;
    let selector = cpu.peek_width(W, width)? as u16;
    if cpu.real_or_vm86() {
        let cs = cpu.untyped_segment(Seg::Cs, selector);
        cpu.check_offset(&cs, rip)?;
        cpu.drop_stack(2 * width + extra);
        cpu.regs[RIP] = rip;
        cpu.set_segment(Seg::Cs, cs);
        return Ok(());
    }
    let cs = return_code(cpu, selector)?;
    if cs.rpl() == cpu.cpl {
        cpu.check_offset(&cs, rip)?;
        cpu.drop_stack(2 * width + extra);
        cpu.regs[RIP] = rip;
        cpu.set_segment(Seg::Cs, cs);
        return Ok(());
    }
    let sp = cpu.peek_width(W, 2 * width + extra)?;
    let selector = cpu.peek_width(W, 3 * width + extra)? as u16;
    let ss = return_stack(cpu, selector, &cs)?;
    cpu.check_offset(&cs, rip)?;
    return_to(cpu, cs, rip, ss, sp.wrapping_add(extra));
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: retf::<2>, [Retfw, Retfw_imm16]),
    row!(plain: retf::<4>, [Retfd, Retfd_imm16]),
    row!(plain: retf::<8>, [Retfq, Retfq_imm16]),
];
