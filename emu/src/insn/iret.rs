//! IRET in every mode. SDM Vol. 2, "IRET/IRETD/IRETQ", Operation.
//!
//! An image with RF set is loaded while the instruction runs alone: RF then holds for exactly the
//! next instruction.

use super::Row;
use super::far_return::{return_code, return_stack, return_to};
use super::form::row;
use crate::arch::exception::TS;
use crate::arch::segment::Seg;
use crate::arch::{Cr4, RFlags};
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::descriptor::kind;
use crate::event::task::Reason;

/// Flags every IRET loads.
const ANY: RFlags = RFlags::STATUS
    .union(RFlags::TF)
    .union(RFlags::DF)
    .union(RFlags::NT);
/// Flags that lie beyond the 16-bit image.
const UPPER: RFlags = RFlags::RF.union(RFlags::AC).union(RFlags::ID);

fn iret<const W: usize>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    // NMIs are unblocked even if the instruction faults ("Handling Multiple NMIs").
    if std::mem::take(&mut cpu.nmi_masked) {
        cpu.recheck_events();
    }
    if !cpu.protected() {
        return iret_8086::<W>(cpu, RFlags::IF | RFlags::IOPL);
    }
    if cpu.vm86() {
        return iret_vm86::<W>(cpu);
    }
    if cpu.system_flags.contains(RFlags::NT) {
        return iret_task(cpu, i);
    }
    iret_protected::<W>(cpu)
}

/// Reads the image of the flags. If it sets RF, the instruction must run alone.
fn flags_image<const W: usize>(cpu: &mut Cpu) -> Result<RFlags, Raised> {
    let flags = RFlags::from_bits_retain(cpu.peek_width(W, 2 * W as u64)?);
    if W > 2 && flags.contains(RFlags::RF) && !cpu.alone {
        return cpu.retry();
    }
    Ok(flags)
}

/// Loads those bits of `image` that `mask` has.
fn load_flags(cpu: &mut Cpu, image: RFlags, mask: RFlags) {
    let flags = cpu.rflags() & !mask | image & mask;
    cpu.keep_resume_flag = flags.contains(RFlags::RF) && mask.contains(RFlags::RF);
    cpu.set_rflags(flags - (RFlags::RF - mask));
}

/// Real-address mode, and virtual-8086 mode with IOPL 3: `more` are the flags it may load beside
/// those that are always free.
fn iret_8086<const W: usize>(cpu: &mut Cpu, more: RFlags) -> Result<(), Raised> {
    let rip = cpu.peek_width(W, 0)?;
    let selector = cpu.peek_width(W, W as u64)? as u16;
    let flags = flags_image::<W>(cpu)?;
    let cs = cpu.untyped_segment(Seg::Cs, selector);
    cpu.check_offset(&cs, rip)?;
    cpu.drop_stack(3 * W as u64);
    cpu.regs[RIP] = rip;
    let upper = if W > 2 { UPPER } else { RFlags::empty() };
    load_flags(cpu, flags, ANY | more | upper);
    cpu.set_segment(Seg::Cs, cs);
    Ok(())
}

/// Virtual-8086 mode: below IOPL 3 it needs CR4.VME, and VIF stands for IF.
fn iret_vm86<const W: usize>(cpu: &mut Cpu) -> Result<(), Raised> {
    if cpu.system_flags.iopl() == 3 {
        return iret_8086::<W>(cpu, RFlags::IF);
    }
    if !cpu.cr4.contains(Cr4::VME) || W != 2 {
        return cpu.gp(0);
    }
    let image = flags_image::<W>(cpu)?;
    let pending = cpu.system_flags.contains(RFlags::VIP) && image.contains(RFlags::IF);
    if pending || image.contains(RFlags::TF) {
        return cpu.gp(0);
    }
    iret_8086::<W>(cpu, RFlags::empty())?;
    let mut flags = cpu.system_flags;
    flags.set(RFlags::VIF, image.contains(RFlags::IF));
    cpu.set_system_flags(flags);
    Ok(())
}

/// IRET from a nested task: back to the task the link names.
fn iret_task(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.long_mode() {
        return cpu.gp(0);
    }
    let link: u16 = cpu.system_read(cpu.segment(Seg::Tr).base)?;
    if link & 4 != 0 {
        return cpu.selector_fault(TS, link);
    }
    let d = cpu.descriptor(link, TS)?;
    let busy = |t: u8| t & !8 == kind::TSS16 | kind::BUSY;
    if !d.system().is_some_and(busy) {
        return cpu.selector_fault(TS, link);
    }
    let flags = cpu.rflags() - RFlags::RF;
    cpu.switch_task(&d, Reason::Return, cpu.next_rip(i), flags)
}

fn iret_protected<const W: usize>(cpu: &mut Cpu) -> Result<(), Raised> {
    let width = W as u64;
    let rip = cpu.peek_width(W, 0)?;
    let selector = cpu.peek_width(W, width)? as u16;
    let flags = flags_image::<W>(cpu)?;
    if W == 4 && flags.contains(RFlags::VM) && cpu.cpl == 0 && !cpu.long_mode() {
        return iret_to_vm86(cpu, rip, selector, flags);
    }
    let cs = return_code(cpu, selector)?;
    let mask = loadable::<W>(cpu);
    // 64-bit mode always pops SS:RSP.
    if cs.rpl() > cpu.cpl || cpu.code64() {
        let sp = cpu.peek_width(W, 3 * width)?;
        let selector = cpu.peek_width(W, 4 * width)? as u16;
        let ss = return_stack(cpu, selector, &cs)?;
        cpu.check_offset(&cs, rip)?;
        load_flags(cpu, flags, mask);
        return_to(cpu, cs, rip, ss, sp);
    } else {
        cpu.check_offset(&cs, rip)?;
        cpu.drop_stack(3 * width);
        cpu.regs[RIP] = rip;
        load_flags(cpu, flags, mask);
        cpu.set_segment(Seg::Cs, cs);
    }
    Ok(())
}

/// The flags IRET may load at the present CPL and IOPL.
fn loadable<const W: usize>(cpu: &Cpu) -> RFlags {
    let mut mask = ANY;
    mask.set(RFlags::IF, cpu.cpl <= cpu.system_flags.iopl());
    mask.set(RFlags::IOPL, cpu.cpl == 0);
    if W > 2 {
        mask |= UPPER;
        mask.set(RFlags::VIF | RFlags::VIP, cpu.cpl == 0);
    }
    mask
}

/// Into virtual-8086 mode, from CPL 0.
fn iret_to_vm86(cpu: &mut Cpu, rip: u64, cs: u16, flags: RFlags) -> Result<(), Raised> {
    let mut words = [0u32; 6];
    for (word, at) in words.iter_mut().zip(3u64..) {
        *word = cpu.peek(4 * at)?;
    }
    if rip > 0xFFFF {
        return cpu.gp(0);
    }
    let [sp, ss, es, ds, fs, gs] = words;
    let mask = ANY | UPPER | RFlags::IF | RFlags::IOPL | RFlags::VIF | RFlags::VIP | RFlags::VM;
    cpu.regs[RIP] = rip;
    cpu.regs[4] = u64::from(sp);
    let loads = [
        (Seg::Es, es),
        (Seg::Cs, u32::from(cs)),
        (Seg::Ss, ss),
        (Seg::Ds, ds),
        (Seg::Fs, fs),
        (Seg::Gs, gs),
    ];
    for (seg, selector) in loads {
        cpu.segments[seg as usize] = cpu.untyped_segment(seg, selector as u16);
    }
    load_flags(cpu, flags, mask);
    cpu.update_mode();
    Ok(())
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: iret::<2>, [Iretw]),
    row!(plain: iret::<4>, [Iretd]),
    row!(plain: iret::<8>, [Iretq]),
];
