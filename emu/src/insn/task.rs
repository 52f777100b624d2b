//! LLDT and LTR. SDM Vol. 2, each mnemonic. Task switches are in `event/task.rs`; STR and SLDT
//! with the system instructions.

use super::Row;
use super::form::{Source, row};
use crate::arch::exception::{GP, NP};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::descriptor::{Descriptor, is_null, kind};

/// The descriptor of the operand, in the GDT and with a type `wanted` accepts; `None` for null.
fn system_descriptor<S: Source>(
    cpu: &mut Cpu,
    i: &Insn,
    wanted: impl Fn(u8, bool) -> bool,
) -> Result<(u16, Option<Descriptor>), Raised> {
    if cpu.real_or_vm86() {
        return cpu.ud();
    }
    if cpu.cpl != 0 {
        return cpu.gp(0);
    }
    let selector: u16 = S::read(cpu, i)?;
    if is_null(selector) {
        return Ok((selector, None));
    }
    if selector & 4 != 0 {
        return cpu.selector_fault(GP, selector);
    }
    let d = cpu.descriptor(selector, GP)?;
    let long = cpu.long_mode();
    if !d.system().is_some_and(|t| wanted(t, long)) {
        return cpu.selector_fault(GP, selector);
    }
    if !d.present() {
        return cpu.selector_fault(NP, selector);
    }
    Ok((selector, Some(d)))
}

fn lldt<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let (selector, found) = system_descriptor::<S>(cpu, i, |t, _| t == kind::LDT)?;
    let segment = match found {
        Some(d) => cpu.system_segment(&d, GP)?,
        None => Segment::null(selector),
    };
    cpu.segments[Seg::Ldtr as usize] = segment;
    Ok(())
}

fn ltr<S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let available = |t: u8, long: bool| t == kind::TSS32 || t == kind::TSS16 && !long;
    let (_, Some(d)) = system_descriptor::<S>(cpu, i, available)? else {
        return cpu.gp(0);
    };
    let segment = cpu.system_segment(&d, GP)?;
    cpu.set_busy(d.address, true)?;
    cpu.segments[Seg::Tr as usize] = Segment {
        access: segment.access | u32::from(kind::BUSY),
        ..segment
    };
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(read1: lldt<>, [Lldt_rm16, Lldt_r32m16, Lldt_r64m16]),
    row!(read1: ltr<>,  [Ltr_rm16, Ltr_r32m16, Ltr_r64m16]),
];
