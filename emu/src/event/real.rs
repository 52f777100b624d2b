//! Interrupts in real-address mode, and those that virtual-8086 mode keeps to itself.
//! SDM Vol. 3A, "8086 Emulation", "Interrupt and Exception Handling" there, and "Class 3 - Software
//! Interrupt Handling in Virtual-8086 Mode".

use super::Event;
use crate::arch::RFlags;
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, RIP, Raised};
use crate::mem::stack::Frame;

/// Where a TSS keeps the offset of its I/O permission bitmap; the interrupt redirection bitmap
/// lies in the 32 bytes before that.
const IO_MAP_BASE: u64 = 102;

impl Cpu {
    /// Delivery through the interrupt vector table.
    pub(super) fn deliver_real(&mut self, event: &Event) -> Result<(), Raised> {
        let offset = u64::from(event.vector) * 4;
        if offset + 3 > u64::from(self.idtr.limit) {
            return self.gp(u16::from(event.vector) * 8 + 2);
        }
        let vector: u32 = self.system_read(self.table_address(self.idtr.base, offset))?;
        let cleared = RFlags::IF | RFlags::TF | RFlags::AC | RFlags::RF;
        self.enter_8086(vector, event.return_rip, event.image, cleared)
    }

    /// Pushes FLAGS, CS and IP and goes on at `vector` (segment:offset).
    fn enter_8086(
        &mut self,
        vector: u32,
        return_rip: u64,
        image: RFlags,
        cleared: RFlags,
    ) -> Result<(), Raised> {
        let cs = u64::from(self.segment(Seg::Cs).selector);
        let frame = Frame::new(&[image.bits(), cs, return_rip]);
        let stack = self.current_stack();
        self.regs[4] = self.push_frame(&stack, 2, &frame)?;
        self.regs[RIP] = u64::from(vector & 0xFFFF);
        let segment = self.untyped_segment(Seg::Cs, (vector >> 16) as u16);
        self.set_system_flags(self.system_flags - cleared);
        self.set_segment(Seg::Cs, segment);
        Ok(())
    }

    /// Whether CR4.VME and the redirection bitmap send INT n to the virtual-8086 program's own
    /// handler. A bitmap outside the TSS is #GP(0).
    pub(crate) fn redirected(&mut self, vector: u8) -> Result<bool, Raised> {
        let tr = *self.segment(Seg::Tr);
        let limit = u64::from(tr.limit);
        if limit < IO_MAP_BASE + 1 {
            return self.gp(0);
        }
        let map: u16 = self.system_read(self.table_address(tr.base, IO_MAP_BASE))?;
        let offset = u64::from(map) + u64::from(vector / 8);
        let Some(offset) = offset.checked_sub(32).filter(|&o| o <= limit) else {
            return self.gp(0);
        };
        let byte: u8 = self.system_read(self.table_address(tr.base, offset))?;
        Ok(byte >> (vector % 8) & 1 == 0)
    }

    /// INT n inside virtual-8086 mode, through the table at linear address 0. Below IOPL 3 the
    /// program sees its virtual interrupt flag in place of IF.
    pub(crate) fn interrupt_8086(&mut self, event: &Event) -> Result<(), Raised> {
        let vector: u32 = self.read_linear(u64::from(event.vector) * 4, false)?;
        let mut image = event.image;
        let mut cleared = RFlags::TF | RFlags::RF;
        if image.iopl() < 3 {
            image.set(RFlags::IF, image.contains(RFlags::VIF));
            image |= RFlags::IOPL;
            cleared |= RFlags::VIF;
        } else {
            cleared |= RFlags::IF;
        }
        self.enter_8086(vector, event.return_rip, image, cleared)
    }
}
