//! Far JMP and CALL: real mode, direct, through call gates, and to other tasks.
//! SDM Vol. 2, "JMP", "CALL"; Vol. 3A, "Call Gates", "IA-32e Mode Call Gates", "Accessing a Code
//! Segment Through a Call Gate". RETF is in `far_return.rs`.
//!
//! Call gates with a count and a change of privilege copy parameters; 64-bit gates have none.

use super::Row;
use super::form::row;
use crate::arch::RFlags;
use crate::arch::exception::{GP, NP};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::descriptor::{Descriptor, is_null, kind, with_rpl};
use crate::event::task::Reason;
use crate::mem::Access;
use crate::mem::raw::Raw;
use crate::mem::stack::{Frame, Stack};

/// A far pointer.
#[derive(Clone, Copy)]
pub(super) struct Pointer {
    pub(super) selector: u16,
    pub(super) offset: u64,
}

/// The far pointer in the instruction.
fn immediate<W: Raw>(i: &Insn) -> Pointer {
    Pointer {
        selector: i.disp as u16,
        offset: W::from_u64(u64::from(i.imm as u32)).to_u64(),
    }
}

/// The far pointer that is the memory operand: an offset of width `W`, then a selector.
pub(super) fn load_pointer<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<Pointer, Raised> {
    let stack = i.seg() == Seg::Ss as usize;
    let linear = cpu.linear_of(i, W::BYTES + 2, Access::Read)?;
    let offset: W = cpu.read_linear(linear, stack)?;
    let after = linear.wrapping_add(W::BYTES as u64) & cpu.linear_mask;
    Ok(Pointer {
        selector: cpu.read_linear(after, stack)?,
        offset: offset.to_u64(),
    })
}

/// What a selector in a far transfer leads to, privileges checked.
enum Target {
    /// Code at the present CPL.
    Code(Segment),
    Gate(Gate),
    Task(Descriptor),
}

/// A call gate.
struct Gate {
    selector: u16,
    offset: u64,
    /// Bytes of an item on the stack.
    width: usize,
    /// Parameters to copy to an inner stack.
    count: u64,
}

/// Goes on at `rip` in `cs`, at the same privilege.
fn enter(cpu: &mut Cpu, cs: Segment, rip: u64) {
    cpu.regs[RIP] = rip;
    cpu.set_segment(Seg::Cs, cs);
}

fn target(cpu: &mut Cpu, selector: u16) -> Result<Target, Raised> {
    if is_null(selector) {
        return cpu.gp(0);
    }
    let d = cpu.descriptor(selector, GP)?;
    let Some(system) = d.system() else {
        return Ok(Target::Code(cpu.code_segment(&d)?));
    };
    let long = cpu.long_mode();
    let available = system & !8 == kind::TSS16;
    let known = match system {
        kind::CALL_GATE32 => true,
        kind::CALL_GATE16 | kind::TASK_GATE => !long,
        _ => !long && available && selector & 4 == 0,
    };
    if !known || d.dpl() < cpu.cpl || d.dpl() < d.rpl() {
        return cpu.selector_fault(GP, selector);
    }
    if !d.present() {
        return cpu.selector_fault(NP, selector);
    }
    let inner = (d.raw >> 16) as u16;
    match system {
        kind::CALL_GATE16 | kind::CALL_GATE32 => Ok(Target::Gate(call_gate(cpu, &d)?)),
        kind::TASK_GATE => Ok(Target::Task(cpu.task_descriptor(inner)?)),
        _ => Ok(Target::Task(d)),
    }
}

fn call_gate(cpu: &mut Cpu, d: &Descriptor) -> Result<Gate, Raised> {
    let mut gate = Gate {
        selector: (d.raw >> 16) as u16,
        offset: d.raw & 0xFFFF,
        width: 2,
        count: d.raw >> 32 & 0x1F,
    };
    if d.kind() == kind::CALL_GATE32 {
        gate.offset |= d.raw >> 32 & 0xFFFF_0000;
        gate.width = 4;
    }
    if cpu.long_mode() {
        gate.offset |= cpu.upper_half(d, GP)? << 32;
        gate.width = 8;
        gate.count = 0;
    }
    Ok(gate)
}

/// The code segment behind a call gate; its RPL is not yet set.
fn gate_code(cpu: &mut Cpu, gate: &Gate) -> Result<Descriptor, Raised> {
    if is_null(gate.selector) {
        return cpu.gp(0);
    }
    let d = cpu.descriptor(gate.selector, GP)?;
    let bad_long = cpu.long_mode() && (!d.has(Segment::L) || d.has(Segment::DB));
    if !d.code() || d.dpl() > cpu.cpl || bad_long {
        return cpu.selector_fault(GP, gate.selector);
    }
    if !d.present() {
        return cpu.selector_fault(NP, gate.selector);
    }
    Ok(d)
}

/// What a task switch by JMP or CALL saves as flags: the instruction completes, so RF is clear.
fn saved_flags(cpu: &Cpu) -> RFlags {
    cpu.rflags() - RFlags::RF
}

fn jump(cpu: &mut Cpu, i: &Insn, to: Pointer) -> Result<(), Raised> {
    if cpu.real_or_vm86() {
        let cs = cpu.untyped_segment(Seg::Cs, to.selector);
        cpu.check_offset(&cs, to.offset)?;
        enter(cpu, cs, to.offset);
        return Ok(());
    }
    match target(cpu, to.selector)? {
        Target::Code(cs) => {
            cpu.check_offset(&cs, to.offset)?;
            enter(cpu, cs, to.offset);
            Ok(())
        }
        Target::Gate(gate) => {
            let d = gate_code(cpu, &gate)?;
            if !d.conforming() && d.dpl() != cpu.cpl {
                return cpu.selector_fault(GP, gate.selector);
            }
            let cs = with_rpl(cpu.accessed(&d)?, cpu.cpl);
            cpu.check_offset(&cs, gate.offset)?;
            enter(cpu, cs, gate.offset);
            Ok(())
        }
        Target::Task(d) => cpu.switch_task(&d, Reason::Jump, cpu.next_rip(i), saved_flags(cpu)),
    }
}

fn call(cpu: &mut Cpu, i: &Insn, to: Pointer, width: usize) -> Result<(), Raised> {
    if cpu.real_or_vm86() {
        let cs = cpu.untyped_segment(Seg::Cs, to.selector);
        return call_same(cpu, i, cs, to.offset, width);
    }
    match target(cpu, to.selector)? {
        Target::Code(cs) => call_same(cpu, i, cs, to.offset, width),
        Target::Gate(gate) => {
            let d = gate_code(cpu, &gate)?;
            let cs = cpu.accessed(&d)?;
            if d.conforming() || d.dpl() == cpu.cpl {
                let cs = with_rpl(cs, cpu.cpl);
                call_same(cpu, i, cs, gate.offset, gate.width)
            } else {
                call_inner(cpu, i, with_rpl(cs, d.dpl()), &gate)
            }
        }
        Target::Task(d) => cpu.switch_task(&d, Reason::Call, cpu.next_rip(i), saved_flags(cpu)),
    }
}

/// A call that keeps its privilege and stack.
fn call_same(
    cpu: &mut Cpu,
    i: &Insn,
    cs: Segment,
    offset: u64,
    width: usize,
) -> Result<(), Raised> {
    cpu.check_offset(&cs, offset)?;
    let selector = u64::from(cpu.segment(Seg::Cs).selector);
    let frame = Frame::new(&[selector, cpu.next_rip(i)]);
    let stack = cpu.current_stack();
    cpu.regs[4] = cpu.push_frame(&stack, width, &frame)?;
    enter(cpu, cs, offset);
    Ok(())
}

/// A call through a gate to a more privileged segment `cs`, on the stack the TSS has for it.
fn call_inner(cpu: &mut Cpu, i: &Insn, cs: Segment, gate: &Gate) -> Result<(), Raised> {
    let stack: Stack = cpu.inner_stack(cs.rpl())?;
    cpu.check_offset(&cs, gate.offset)?;
    let selector = |seg: Seg| u64::from(cpu.segment(seg).selector);
    let mut frame = Frame::new(&[selector(Seg::Ss), cpu.regs[4]]);
    let old_cs = selector(Seg::Cs);
    for n in (0..gate.count).rev() {
        frame.extend(&[cpu.peek_width(gate.width, n * gate.width as u64)?]);
    }
    frame.extend(&[old_cs, cpu.next_rip(i)]);
    cpu.regs[4] = cpu.push_frame(&stack, gate.width, &frame)?;
    cpu.segments[Seg::Ss as usize] = stack.segment;
    enter(cpu, cs, gate.offset);
    Ok(())
}

fn jmp_immediate<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    jump(cpu, i, immediate::<W>(i))
}

fn jmp_memory<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let to = load_pointer::<W>(cpu, i)?;
    jump(cpu, i, to)
}

fn call_immediate<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    call(cpu, i, immediate::<W>(i), W::BYTES)
}

fn call_memory<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let to = load_pointer::<W>(cpu, i)?;
    call(cpu, i, to, W::BYTES)
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: jmp_immediate::<u16>,  [Jmp_ptr1616]),
    row!(plain: jmp_immediate::<u32>,  [Jmp_ptr1632]),
    row!(plain: jmp_memory::<u16>,     [Jmp_m1616]),
    row!(plain: jmp_memory::<u32>,     [Jmp_m1632]),
    row!(plain: jmp_memory::<u64>,     [Jmp_m1664]),
    row!(plain: call_immediate::<u16>, [Call_ptr1616]),
    row!(plain: call_immediate::<u32>, [Call_ptr1632]),
    row!(plain: call_memory::<u16>,    [Call_m1616]),
    row!(plain: call_memory::<u32>,    [Call_m1632]),
    row!(plain: call_memory::<u64>,    [Call_m1664]),
];
