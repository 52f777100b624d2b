//! Hardware task switches. SDM Vol. 3A, "Task Switching", "Task-State Segment (TSS)",
//! "Exception Conditions Checked During a Task Switch".
//!
//! All memory the switch needs is read or probed before anything changes; the segment registers of
//! the new task are loaded after, and what is wrong with them is a fault of the new task's.

use crate::arch::exception::{GP, NP, TS};
use crate::arch::segment::{Seg, Segment};
use crate::arch::{Cr0, RFlags};
use crate::cpu::{Cpu, RIP, Raised};
use crate::debug::{DR6_BT, DR7_LOCAL};
use crate::descriptor::{Descriptor, is_null, kind, with_rpl};

/// What asks for a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// JMP: the old task is left for good.
    Jump,
    /// CALL, interrupt or exception: the new task is nested in the old one.
    Call,
    /// IRET with NT set.
    Return,
}

/// Where a TSS keeps what.
struct Layout {
    /// Bytes of a register.
    width: usize,
    ip: u64,
    /// ES, CS, SS, DS and, in 32 bits, FS and GS.
    segments: &'static [Seg],
    selectors: u64,
    /// The limit a TSS must have.
    limit: u32,
}

const SEGMENTS: [Seg; 6] = [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs];
const TSS16: Layout = Layout {
    width: 2,
    ip: 0x0E,
    segments: SEGMENTS.split_at(4).0,
    selectors: 0x22,
    limit: 0x2B,
};
const TSS32: Layout = Layout {
    width: 4,
    ip: 0x20,
    segments: &SEGMENTS,
    selectors: 0x48,
    limit: 0x67,
};
const TSS32_CR3: u64 = 0x1C;
const TSS32_TRAP: u64 = 0x64;

/// The flags a TSS can load.
const LOADED: RFlags = RFlags::from_bits_retain(0x003F_7FD5);

/// The dynamic part of a TSS.
#[derive(Clone, Copy, Default)]
struct Image {
    ip: u64,
    flags: u64,
    gpr: [u64; 8],
    selectors: [u16; 6],
    ldt: u16,
    cr3: Option<u64>,
    trap: bool,
}

fn layout(tss: &Segment) -> &'static Layout {
    if tss.kind() & 8 != 0 { &TSS32 } else { &TSS16 }
}

impl Cpu {
    /// The available TSS a task gate names: #GP(selector) for anything else.
    pub(crate) fn task_descriptor(&mut self, selector: u16) -> Result<Descriptor, Raised> {
        if selector & 4 != 0 || is_null(selector) {
            return self.selector_fault(GP, selector);
        }
        let d = self.descriptor(selector, GP)?;
        if !matches!(d.system(), Some(kind::TSS16 | kind::TSS32)) {
            return self.selector_fault(GP, selector);
        }
        Ok(d)
    }

    /// Switches to the task `new`, saving `return_rip` and `image` in the old one. On `Err`
    /// either nothing has changed, or RIP and all else are the new task's.
    pub(crate) fn switch_task(
        &mut self,
        new: &Descriptor,
        reason: Reason,
        return_rip: u64,
        image: RFlags,
    ) -> Result<(), Raised> {
        if !self.alone {
            return self.retry();
        }
        let segment = self.check_task(new, reason)?;
        let next = self.read_image(&segment)?;
        let old_address = self.probe_switch(new, &segment, reason)?;
        if reason != Reason::Call {
            self.set_busy(old_address, false)?;
        }
        let saved = match reason {
            Reason::Return => image - RFlags::NT,
            _ => image,
        };
        self.save_task(return_rip, saved)?;
        if reason == Reason::Call {
            let link = self.segment(Seg::Tr).selector;
            self.system_write(segment.base, link)?;
        }
        if reason != Reason::Return {
            self.set_busy(new.address, true)?;
        }
        self.segments[Seg::Tr as usize] = Segment {
            access: segment.access | u32::from(kind::BUSY),
            ..segment
        };
        self.task_switched = true;
        let nested = reason == Reason::Call;
        self.load_task(&next, layout(&segment), nested)
    }

    /// Presence, limit and availability of the new TSS.
    fn check_task(&mut self, new: &Descriptor, reason: Reason) -> Result<Segment, Raised> {
        let segment = new.segment();
        let busy = new.kind() & kind::BUSY != 0;
        match reason {
            Reason::Return if !busy => return self.selector_fault(TS, new.selector),
            Reason::Jump | Reason::Call if busy => {
                return self.selector_fault(GP, new.selector);
            }
            _ => {}
        }
        if !new.present() {
            return self.selector_fault(NP, new.selector);
        }
        let old = *self.segment(Seg::Tr);
        let short = segment.limit < layout(&segment).limit
            || old.unusable()
            || old.limit < layout(&old).limit;
        if short {
            return self.selector_fault(TS, new.selector);
        }
        Ok(segment)
    }

    /// Finds faults of the writes to come. Returns where the old TSS's descriptor lies.
    fn probe_switch(
        &mut self,
        new: &Descriptor,
        segment: &Segment,
        reason: Reason,
    ) -> Result<u64, Raised> {
        let old = *self.segment(Seg::Tr);
        let l = layout(&old);
        let end = l.selectors + (l.segments.len() * l.width) as u64;
        let start = self.table_address(old.base, l.ip);
        self.probe_system_write(start, (end - l.ip) as usize)?;
        if reason == Reason::Call {
            self.probe_system_write(segment.base, 2)?;
        }
        if reason != Reason::Return {
            self.probe_system_write(self.table_address(new.address, 5), 1)?;
        }
        let address = self.descriptor(old.selector, TS)?.address;
        self.probe_system_write(self.table_address(address, 5), 1)?;
        Ok(address)
    }

    fn tss_item(&mut self, tss: &Segment, offset: u64, width: usize) -> Result<u64, Raised> {
        let linear = self.table_address(tss.base, offset);
        match width {
            2 => self.system_read::<u16>(linear).map(u64::from),
            _ => self.system_read::<u32>(linear).map(u64::from),
        }
    }

    fn read_image(&mut self, tss: &Segment) -> Result<Image, Raised> {
        let l = layout(tss);
        let step = l.width as u64;
        let mut image = Image {
            ip: self.tss_item(tss, l.ip, l.width)?,
            flags: self.tss_item(tss, l.ip + step, l.width)?,
            ..Image::default()
        };
        // The upper halves that a 16-bit TSS does not hold come out as ones, as on processors.
        let upper = if l.width == 2 { 0xFFFF_0000 } else { 0 };
        let mut offset = l.ip + 2 * step;
        for n in 0..8 {
            image.gpr[n] = self.tss_item(tss, offset, l.width)? | upper;
            offset += step;
        }
        for n in 0..l.segments.len() {
            image.selectors[n] = self.tss_item(tss, offset, 2)? as u16;
            offset += step;
        }
        image.ldt = self.tss_item(tss, offset, 2)? as u16;
        if l.width == 4 {
            image.cr3 = Some(self.tss_item(tss, TSS32_CR3, 4)?);
            image.trap = self.tss_item(tss, TSS32_TRAP, 2)? & 1 != 0;
        }
        Ok(image)
    }

    /// Writes the present task's registers to its TSS.
    fn save_task(&mut self, rip: u64, flags: RFlags) -> Result<(), Raised> {
        let tss = *self.segment(Seg::Tr);
        let l = layout(&tss);
        let mut values = [0; 16];
        values[0] = rip;
        values[1] = flags.bits();
        values[2..10].copy_from_slice(&self.regs[..8]);
        for (value, &seg) in values[10..].iter_mut().zip(l.segments) {
            *value = u64::from(self.segments[seg as usize].selector);
        }
        for (n, &value) in values[..10 + l.segments.len()].iter().enumerate() {
            let linear = self.table_address(tss.base, l.ip + (n * l.width) as u64);
            match l.width {
                // A selector is written alone: the upper half of its slot is reserved.
                4 if n < 10 => self.system_write(linear, value as u32)?,
                _ => self.system_write(linear, value as u16)?,
            }
        }
        Ok(())
    }

    /// Takes over the new task's registers; from here on every fault is the new task's.
    fn load_task(&mut self, image: &Image, l: &Layout, nested: bool) -> Result<(), Raised> {
        self.cr0 |= Cr0::TS;
        self.dr7 &= !DR7_LOCAL;
        if let (Some(cr3), true) = (image.cr3, self.cr0.contains(Cr0::PG)) {
            self.write_cr3(cr3)?;
        }
        self.regs[RIP] = image.ip;
        self.regs[..8].copy_from_slice(&image.gpr);
        let mut flags = RFlags::from_bits_retain(image.flags) & LOADED;
        flags.set(RFlags::NT, nested || flags.contains(RFlags::NT));
        if flags.contains(RFlags::RF) {
            self.keep_resume_flag = true;
        }
        self.single_step = false;
        for seg in SEGMENTS {
            self.segments[seg as usize] = Segment::null(0);
        }
        for (&seg, &selector) in l.segments.iter().zip(&image.selectors) {
            self.segments[seg as usize] = Segment::null(selector);
        }
        self.segments[Seg::Ldtr as usize] = Segment::null(image.ldt);
        let cpl = (self.segment(Seg::Cs).selector & 3) as u8;
        self.segments[Seg::Ss as usize].access |= u32::from(cpl) << 5;
        self.set_rflags(flags);
        self.update_mode();
        if image.trap {
            self.debug_hits |= DR6_BT;
        }
        self.load_task_ldt(image.ldt)?;
        self.load_task_segments(l)?;
        let cs = *self.segment(Seg::Cs);
        self.check_offset(&cs, image.ip)
    }

    fn load_task_ldt(&mut self, selector: u16) -> Result<(), Raised> {
        if is_null(selector) {
            return Ok(());
        }
        if selector & 4 != 0 {
            return self.selector_fault(TS, selector);
        }
        let d = self.descriptor(selector, TS)?;
        if d.system() != Some(kind::LDT) || !d.present() {
            return self.selector_fault(TS, selector);
        }
        self.segments[Seg::Ldtr as usize] = d.segment();
        Ok(())
    }

    fn load_task_segments(&mut self, l: &Layout) -> Result<(), Raised> {
        if self.vm86() {
            for &seg in l.segments {
                let selector = self.segment(seg).selector;
                self.segments[seg as usize] = self.untyped_segment(seg, selector);
            }
            self.update_mode();
            return Ok(());
        }
        let cpl = self.cpl;
        let selector = self.segment(Seg::Cs).selector;
        let cs = self.task_code(selector, cpl)?;
        self.set_segment(Seg::Cs, cs);
        let selector = self.segment(Seg::Ss).selector;
        let ss = self.stack_segment(selector, cpl, TS)?;
        self.set_segment(Seg::Ss, ss);
        for &seg in l.segments {
            if seg != Seg::Cs && seg != Seg::Ss {
                let selector = self.segment(seg).selector;
                let segment = self.data_segment(selector, TS)?;
                self.set_segment(seg, segment);
            }
        }
        Ok(())
    }

    /// The new task's code segment, whose RPL is the new CPL.
    fn task_code(&mut self, selector: u16, cpl: u8) -> Result<Segment, Raised> {
        if is_null(selector) {
            return self.selector_fault(TS, selector);
        }
        let d = self.descriptor(selector, TS)?;
        let allowed = if d.conforming() {
            d.dpl() <= cpl
        } else {
            d.dpl() == cpl
        };
        if !d.code() || !allowed {
            return self.selector_fault(TS, selector);
        }
        if !d.present() {
            return self.selector_fault(NP, selector);
        }
        Ok(with_rpl(self.accessed(&d)?, cpl))
    }
}
