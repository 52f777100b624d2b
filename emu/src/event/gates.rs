//! Delivery through the IDT's gates in protected, virtual-8086 and IA-32e mode.
//! SDM Vol. 3A, "Exception and Interrupt Handling in 64-bit Mode", "IDT Descriptors"; the order of
//! checks is that of Vol. 2, "INT n/INTO/INT3/INT1", Operation.

use super::Event;
use super::task::Reason;
use crate::arch::RFlags;
use crate::arch::exception::{GP, NP, TS};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, RIP, Raised};
use crate::descriptor::{is_null, kind, null_stack, with_rpl};
use crate::mem::stack::{Frame, Stack};

/// An interrupt or trap gate.
struct Gate {
    selector: u16,
    offset: u64,
    /// Bytes of each item pushed.
    width: usize,
    clears_if: bool,
    /// Entry of the interrupt stack table, 0 for none.
    ist: u8,
}

/// What an IDT entry leads to.
enum Entry {
    Gate(Gate),
    /// A task gate's TSS selector.
    Task(u16),
}

/// Offset of RSP0 and of the stack before IST1 in a 64-bit TSS.
const TSS64_RSP0: u64 = 4;
const TSS64_IST0: u64 = 28;

impl Cpu {
    /// Delivery in protected mode.
    pub(super) fn deliver_gate(&mut self, event: &Event) -> Result<(), Raised> {
        match self.idt_entry(event)? {
            Entry::Task(selector) => self.deliver_task(event, selector),
            Entry::Gate(gate) => self.enter_gate(event, &gate),
        }
    }

    /// Reads and checks the IDT entry of an event.
    fn idt_entry(&mut self, event: &Event) -> Result<Entry, Raised> {
        let long = self.long_mode();
        let code = u16::from(event.vector) * 8 + 2;
        let size = if long { 16 } else { 8 };
        let offset = u64::from(event.vector) * size;
        if offset + size - 1 > u64::from(self.idtr.limit) {
            return self.gp(code);
        }
        let raw: u64 = self.system_read(self.table_address(self.idtr.base, offset))?;
        let entry = (raw >> 40 & 0x1F) as u8;
        let known = match entry {
            kind::INTERRUPT_GATE32 | kind::TRAP_GATE32 => true,
            kind::TASK_GATE | kind::INTERRUPT_GATE16 | kind::TRAP_GATE16 => !long,
            _ => false,
        };
        let dpl = (raw >> 45 & 3) as u8;
        if !known || event.checked && dpl < self.cpl {
            return self.gp(code);
        }
        if raw >> 47 & 1 == 0 {
            return self.fault(crate::Exception::with_code(NP, u32::from(code)));
        }
        let selector = (raw >> 16) as u16;
        if entry == kind::TASK_GATE {
            return Ok(Entry::Task(selector));
        }
        let mut gate = Gate {
            selector,
            offset: raw & 0xFFFF,
            width: 2,
            clears_if: entry & 1 == 0,
            ist: 0,
        };
        if entry & 8 != 0 {
            gate.offset |= raw >> 32 & 0xFFFF_0000;
            gate.width = 4;
        }
        if long {
            let upper: u64 = self.system_read(self.idtr.base.wrapping_add(offset + 8))?;
            gate.offset |= upper << 32;
            gate.width = 8;
            gate.ist = (raw >> 32 & 7) as u8;
        }
        Ok(Entry::Gate(gate))
    }

    fn enter_gate(&mut self, event: &Event, gate: &Gate) -> Result<(), Raised> {
        let (cs, cpl) = self.handler_code(gate.selector)?;
        let from_vm86 = self.vm86();
        let inner = cpl != self.cpl;
        let stack = match (inner, gate.ist) {
            (false, 0) => self.current_stack(),
            (_, ist) => self.handler_stack(cpl, ist)?,
        };
        let stack = if self.long_mode() {
            Stack {
                pointer: stack.pointer & !0xF,
                long: true,
                ..stack
            }
        } else {
            stack
        };
        let mut frame = Frame::new(&[]);
        let selector = |seg: Seg| u64::from(self.segment(seg).selector);
        if from_vm86 {
            frame.extend(&[Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es].map(selector));
        }
        if inner || self.long_mode() {
            frame.extend(&[selector(Seg::Ss), self.regs[4]]);
        }
        let flags = event.image.bits();
        frame.extend(&[flags, selector(Seg::Cs), event.return_rip]);
        if let Some(code) = event.error_code {
            frame.extend(&[u64::from(code)]);
        }
        self.check_offset(&cs, gate.offset)?;
        self.regs[4] = self.push_frame(&stack, gate.width, &frame)?;
        self.segments[Seg::Cs as usize] = cs;
        self.segments[Seg::Ss as usize] = stack.segment;
        if from_vm86 {
            for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
                self.segments[seg as usize] = Segment::null(0);
            }
        }
        self.regs[RIP] = gate.offset;
        let mut cleared = RFlags::TF | RFlags::NT | RFlags::VM | RFlags::RF;
        cleared.set(RFlags::IF, gate.clears_if);
        self.set_system_flags(self.system_flags - cleared);
        self.update_mode();
        Ok(())
    }

    /// The handler's code segment and the privilege it runs with.
    fn handler_code(&mut self, selector: u16) -> Result<(Segment, u8), Raised> {
        if is_null(selector) {
            return self.gp(0);
        }
        let d = self.descriptor(selector, GP)?;
        if !d.code() || d.dpl() > self.cpl {
            return self.selector_fault(GP, selector);
        }
        let long = self.long_mode();
        if long && (!d.has(Segment::L) || d.has(Segment::DB)) {
            return self.selector_fault(GP, selector);
        }
        if !d.present() {
            return self.selector_fault(NP, selector);
        }
        let cpl = if d.conforming() { self.cpl } else { d.dpl() };
        if self.vm86() && cpl != 0 {
            return self.selector_fault(GP, selector);
        }
        Ok((with_rpl(self.accessed(&d)?, cpl), cpl))
    }

    /// The stack the TSS holds for privilege `cpl`, or in its interrupt stack table.
    fn handler_stack(&mut self, cpl: u8, ist: u8) -> Result<Stack, Raised> {
        if !self.long_mode() {
            return self.inner_stack(cpl);
        }
        let offset = match ist {
            0 => TSS64_RSP0 + 8 * u64::from(cpl),
            _ => TSS64_IST0 + 8 * u64::from(ist),
        };
        let segment = if cpl == self.cpl {
            *self.segment(Seg::Ss)
        } else {
            null_stack(cpl)
        };
        Ok(Stack {
            segment,
            pointer: self.tss_read(offset)?,
            cpl,
            long: true,
            code: 0,
        })
    }

    /// The stack that a change to the more privileged `cpl` switches to, from the TSS.
    /// SDM Vol. 3A, "Stack Switching", "Stack Switching in 64-bit Mode".
    pub(crate) fn inner_stack(&mut self, cpl: u8) -> Result<Stack, Raised> {
        if self.long_mode() {
            return self.handler_stack(cpl, 0);
        }
        let n = u64::from(cpl);
        let (pointer, selector) = if self.segment(Seg::Tr).kind() & 8 != 0 {
            let ss: u16 = self.tss_read(8 * n + 8)?;
            (u64::from(self.tss_read::<u32>(8 * n + 4)?), ss)
        } else {
            let ss: u16 = self.tss_read(4 * n + 4)?;
            (u64::from(self.tss_read::<u16>(4 * n + 2)?), ss)
        };
        Ok(Stack {
            segment: self.stack_segment(selector, cpl, TS)?,
            pointer,
            cpl,
            long: false,
            code: selector,
        })
    }

    /// Reads the current TSS; beyond its limit is #TS(TR).
    fn tss_read<W: crate::mem::raw::Raw>(&mut self, offset: u64) -> Result<W, Raised> {
        let tr = *self.segment(Seg::Tr);
        if tr.unusable() || offset + W::BYTES as u64 - 1 > u64::from(tr.limit) {
            return self.selector_fault(TS, tr.selector);
        }
        self.system_read(self.table_address(tr.base, offset))
    }

    /// Delivery through a task gate: the handler is a task, and finds the error code on its stack.
    fn deliver_task(&mut self, event: &Event, selector: u16) -> Result<(), Raised> {
        let d = self.task_descriptor(selector)?;
        self.switch_task(&d, Reason::Call, event.return_rip, event.image)?;
        if let Some(code) = event.error_code {
            let wide = self.segment(Seg::Tr).kind() & 8 != 0;
            let width = if wide { 4 } else { 2 };
            let stack = self.current_stack();
            let frame = Frame::new(&[u64::from(code)]);
            self.regs[4] = self.push_frame(&stack, width, &frame)?;
        }
        Ok(())
    }
}
