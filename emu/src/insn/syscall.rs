//! SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, RDFSBASE and friends. SDM Vol. 2, each mnemonic;
//! AMD APM Vol. 3, same.
//!
//! The vendors differ, and the model's vendor decides. AMD: SYSCALL and SYSRET work outside 64-bit
//! mode too, SYSENTER and SYSEXIT are #UD in long mode; SYSRET takes RIP as it is (the fetch
//! faults, at CPL 3) and changes only SS's selector and DPL, not its base, limit and type. Intel:
//! SYSCALL and SYSRET are #UD outside 64-bit mode; SYSRET checks RIP at CPL 0 and loads a flat SS.

use super::Row;
use super::form::row;
use crate::arch::segment::{Seg, Segment};
use crate::arch::{Cr4, Efer, RFlags};
use crate::cpu::{BASES, CodeSize, Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::descriptor::canonical;
use crate::width::Width;

const RCX: usize = 1;
const RDX: usize = 2;
const RSP: usize = 4;
const R11: usize = 11;

/// The flags SYSRET takes from R11.
const SYSRET_FLAGS: RFlags = RFlags::from_bits_retain(0x003C_7FD7);

/// A flat code segment.
fn flat_code(selector: u16, dpl: u8, size: CodeSize) -> Segment {
    let bits = match size {
        CodeSize::Bits64 => Segment::L,
        _ => Segment::DB,
    };
    let flat = flat_data(selector, dpl);
    Segment {
        access: flat.access & !Segment::DB | Segment::CODE | bits,
        ..flat
    }
}

/// A flat, writable data segment.
fn flat_data(selector: u16, dpl: u8) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        access: Segment::G
            | Segment::DB
            | Segment::P
            | Segment::S
            | Segment::WRITABLE
            | Segment::ACCESSED
            | u32::from(dpl) << 5,
    }
}

/// Loads CS and SS and goes on at `rip` with `flags`. A single-step trap follows if TF is set now.
fn enter(cpu: &mut Cpu, cs: Segment, ss: Segment, rip: u64, flags: RFlags) {
    cpu.segments[Seg::Cs as usize] = cs;
    cpu.segments[Seg::Ss as usize] = ss;
    cpu.regs[RIP] = rip;
    cpu.set_rflags(flags);
    cpu.single_step &= flags.contains(RFlags::TF);
    cpu.update_mode();
}

/// #UD where the vendor does not have SYSCALL or SYSRET in the present mode, or EFER has it off.
fn require_syscall(cpu: &mut Cpu) -> Result<(), Raised> {
    let here = cpu.code64() || cpu.model.amd();
    if here && cpu.efer.contains(Efer::SCE) {
        Ok(())
    } else {
        cpu.ud()
    }
}

fn syscall(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    require_syscall(cpu)?;
    let selector = (cpu.msrs.star >> 32) as u16 & 0xFFFC;
    let ss = flat_data(selector.wrapping_add(8), 0);
    let next = cpu.next_rip(i);
    let flags = cpu.rflags() - RFlags::RF;
    if cpu.long_mode() {
        let rip = if cpu.code64() {
            cpu.msrs.lstar
        } else {
            cpu.msrs.cstar
        };
        cpu.regs[RCX] = next;
        cpu.regs[R11] = flags.bits();
        let masked = flags & !RFlags::from_bits_retain(cpu.msrs.sfmask);
        enter(
            cpu,
            flat_code(selector, 0, CodeSize::Bits64),
            ss,
            rip,
            masked,
        );
    } else {
        cpu.regs[RCX] = next & 0xFFFF_FFFF;
        let rip = cpu.msrs.star & 0xFFFF_FFFF;
        let masked = flags - (RFlags::VM | RFlags::IF);
        enter(
            cpu,
            flat_code(selector, 0, CodeSize::Bits32),
            ss,
            rip,
            masked,
        );
    }
    Ok(())
}

/// SYSRET; `WIDE` with REX.W: back to 64-bit code.
fn sysret<const WIDE: bool>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    require_syscall(cpu)?;
    let amd = cpu.model.amd();
    let bad_rip = WIDE && !amd && !canonical(cpu.regs[RCX]);
    if !cpu.protected() || cpu.cpl != 0 || bad_rip {
        return cpu.gp(0);
    }
    let star = (cpu.msrs.star >> 48) as u16;
    let ss = star.wrapping_add(8);
    let ss = if amd {
        let old = *cpu.segment(Seg::Ss);
        Segment {
            selector: ss,
            access: old.access | 3 << 5,
            ..old
        }
    } else {
        flat_data(ss | 3, 3)
    };
    let (cs, rip) = if WIDE {
        let cs = flat_code(star.wrapping_add(16) | 3, 3, CodeSize::Bits64);
        (cs, cpu.regs[RCX])
    } else {
        let cs = flat_code(star | 3, 3, CodeSize::Bits32);
        (cs, cpu.regs[RCX] & 0xFFFF_FFFF)
    };
    let flags = if cpu.code64() {
        RFlags::from_bits_retain(cpu.regs[R11]) & (SYSRET_FLAGS - RFlags::RF)
    } else {
        (cpu.rflags() - RFlags::RF) | RFlags::IF
    };
    // TF from R11 traps behind SYSRET itself, as if the SYSCALL had just completed.
    cpu.single_step = flags.contains(RFlags::TF);
    if cpu.single_step && !cpu.alone {
        return cpu.retry();
    }
    enter(cpu, cs, ss, rip, flags);
    Ok(())
}

/// #UD for SYSENTER and SYSEXIT in an AMD processor's long mode; #GP(0) in real mode or without
/// a code segment set.
fn require_sysenter(cpu: &mut Cpu) -> Result<u16, Raised> {
    if cpu.model.amd() && cpu.long_mode() {
        return cpu.ud();
    }
    let selector = cpu.msrs.sysenter_cs as u16 & 0xFFFC;
    if !cpu.protected() || selector == 0 {
        return cpu.gp(0);
    }
    Ok(selector)
}

fn sysenter(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let selector = require_sysenter(cpu)?;
    let (size, mask) = if cpu.long_mode() {
        (CodeSize::Bits64, u64::MAX)
    } else {
        (CodeSize::Bits32, 0xFFFF_FFFF)
    };
    let flags = cpu.rflags() - (RFlags::VM | RFlags::IF | RFlags::RF);
    cpu.regs[RSP] = cpu.msrs.sysenter_esp & mask;
    let rip = cpu.msrs.sysenter_eip & mask;
    let ss = flat_data(selector.wrapping_add(8), 0);
    enter(cpu, flat_code(selector, 0, size), ss, rip, flags);
    Ok(())
}

/// SYSEXIT; `WIDE` with REX.W: back to 64-bit code.
fn sysexit<const WIDE: bool>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let selector = require_sysenter(cpu)?;
    let bad = WIDE && !(canonical(cpu.regs[RCX]) && canonical(cpu.regs[RDX]));
    if cpu.cpl != 0 || bad {
        return cpu.gp(0);
    }
    let (add, size, mask) = if WIDE {
        (32, CodeSize::Bits64, u64::MAX)
    } else {
        (16, CodeSize::Bits32, 0xFFFF_FFFF)
    };
    let cs = selector.wrapping_add(add) | 3;
    cpu.regs[RSP] = cpu.regs[RCX] & mask;
    let rip = cpu.regs[RDX] & mask;
    let ss = flat_data(cs.wrapping_add(8), 3);
    let flags = cpu.rflags() - RFlags::RF;
    enter(cpu, flat_code(cs, 3, size), ss, rip, flags);
    Ok(())
}

fn swapgs(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    if cpu.cpl != 0 {
        return cpu.gp(0);
    }
    let base = cpu.msrs.kernel_gs_base;
    cpu.msrs.kernel_gs_base = cpu.segment(Seg::Gs).base;
    set_base(cpu, Seg::Gs as usize, base);
    Ok(())
}

/// Sets the base of FS or GS in 64-bit mode, on which nothing else depends.
fn set_base(cpu: &mut Cpu, seg: usize, base: u64) {
    cpu.segments[seg].base = base;
    cpu.regs[BASES + seg] = base;
}

fn read_base<W: Width, const SEG: usize>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if !cpu.cr4.contains(Cr4::FSGSBASE) {
        return cpu.ud();
    }
    cpu.set_reg(i.r[0], W::from_u64(cpu.segments[SEG].base));
    Ok(())
}

fn write_base<W: Width, const SEG: usize>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if !cpu.cr4.contains(Cr4::FSGSBASE) {
        return cpu.ud();
    }
    let base = cpu.reg::<W>(i.r[0]).to_u64();
    if !canonical(base) {
        return cpu.gp(0);
    }
    set_base(cpu, SEG, base);
    Ok(())
}

const FS: usize = Seg::Fs as usize;
const GS: usize = Seg::Gs as usize;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: syscall, [Syscall]),
    row!(plain: sysret::<false>, [Sysretd]),
    row!(plain: sysret::<true>,  [Sysretq]),
    row!(plain: sysenter, [Sysenter]),
    row!(plain: sysexit::<false>, [Sysexitd]),
    row!(plain: sysexit::<true>,  [Sysexitq]),
    row!(plain: swapgs, [Swapgs]),
    row!(plain: read_base::<u32, FS>,  [Rdfsbase_r32]),
    row!(plain: read_base::<u64, FS>,  [Rdfsbase_r64]),
    row!(plain: read_base::<u32, GS>,  [Rdgsbase_r32]),
    row!(plain: read_base::<u64, GS>,  [Rdgsbase_r64]),
    row!(plain: write_base::<u32, FS>, [Wrfsbase_r32]),
    row!(plain: write_base::<u64, FS>, [Wrfsbase_r64]),
    row!(plain: write_base::<u32, GS>, [Wrgsbase_r32]),
    row!(plain: write_base::<u64, GS>, [Wrgsbase_r64]),
];
