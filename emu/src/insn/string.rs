//! MOVS, STOS, LODS, SCAS, CMPS, alone and repeated. SDM Vol. 2, each mnemonic and
//! "REP/REPE/REPZ/REPNE/REPNZ"; Vol. 1, "String Operations".
//!
//! A repeated instruction commits element by element: RSI, RDI and RCX are right whenever one
//! raises. It runs in portions, with RIP left at itself, so that the loop can look at events
//! between them; a portion ends where the count reaches a multiple of [`PORTION`], which makes the
//! number of executions a matter of the count alone.

use super::Row;
use super::form::{row, step};
use crate::arch::segment::Seg;
use crate::arch::{Gpr, RFlags};
use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::raw::Raw;
use crate::mem::tlb::Privilege;

/// Elements that one execution of a repeated instruction handles at most.
const PORTION: u64 = 4096;
const PAGE: u64 = 4096;

pub(super) const RAX: u8 = Gpr::Rax as u8;
pub(super) const RCX: usize = Gpr::Rcx as usize;
pub(super) const RSI: usize = Gpr::Rsi as usize;
pub(super) const RDI: usize = Gpr::Rdi as usize;

/// A pointer or counter, at the instruction's address size.
#[inline(always)]
pub(super) fn pointer(cpu: &Cpu, i: &Insn, register: usize) -> u64 {
    cpu.regs[register] & i.address_mask()
}

/// Adds to a pointer or counter at the instruction's address size: 16 bits leave the rest of the
/// register, 32 bits clear it.
#[inline(always)]
pub(super) fn advance(cpu: &mut Cpu, i: &Insn, register: usize, by: u64) {
    let mask = i.address_mask();
    let old = cpu.regs[register];
    let new = old.wrapping_add(by) & mask;
    cpu.regs[register] = if mask == 0xFFFF {
        old & !mask | new
    } else {
        new
    };
}

/// From one element to the next: down if DF is set.
#[inline(always)]
pub(super) fn stride<W: Raw>(cpu: &Cpu) -> u64 {
    let bytes = W::BYTES as u64;
    if down(cpu) {
        bytes.wrapping_neg()
    } else {
        bytes
    }
}

#[inline(always)]
pub(super) fn down(cpu: &Cpu) -> bool {
    cpu.system_flags.contains(RFlags::DF)
}

/// The linear address of the elements at `register` in `seg`, and how many of `most` (going up) lie
/// in its page, below the end of the address size and in the segment: less than two where they
/// are better taken one by one.
pub(super) fn stretch<W: Raw>(
    cpu: &mut Cpu,
    i: &Insn,
    (seg, register): (Seg, usize),
    access: Access,
    most: u64,
) -> (u64, u64) {
    if cpu.privilege == Privilege::UserAligned {
        // Each element's alignment is checked.
        return (0, 0);
    }
    let offset = pointer(cpu, i, register);
    let Ok(linear) = cpu.linear_at(seg, offset, W::BYTES, access) else {
        return (0, 0);
    };
    let bytes = W::BYTES as u64;
    let count = most
        .min((PAGE - linear % PAGE) / bytes)
        .min((i.address_mask() - offset) / bytes);
    if count < 2 {
        return (linear, count);
    }
    match cpu.linear_at(seg, offset, (count * bytes) as usize, access) {
        Ok(_) => (linear, count),
        Err(Raised) => (linear, 0),
    }
}

/// What a string instruction does to one element, or to several at once.
trait Operation: 'static {
    /// The repetition also ends by ZF.
    const COMPARES: bool = false;

    /// One element: pointers advanced.
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised>;

    /// Up to `most` elements at once: pointers advanced, their number returned. None where they
    /// must go one by one.
    fn bulk<W: Raw>(_: &mut Cpu, _: &Insn, _most: u64) -> Result<u64, Raised> {
        Ok(0)
    }
}

/// MOVS: a segment prefix changes the source only.
struct Movs;

impl Operation for Movs {
    #[inline(always)]
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
        let value: W = cpu.load_at(i.segment(), pointer(cpu, i, RSI))?;
        cpu.store_at(Seg::Es, pointer(cpu, i, RDI), value)?;
        let by = stride::<W>(cpu);
        advance(cpu, i, RSI, by);
        advance(cpu, i, RDI, by);
        Ok(())
    }

    fn bulk<W: Raw>(cpu: &mut Cpu, i: &Insn, most: u64) -> Result<u64, Raised> {
        if down(cpu) {
            return Ok(0);
        }
        let seg = i.segment();
        let (from, most) = stretch::<W>(cpu, i, (seg, RSI), Access::Read, most);
        let (to, most) = stretch::<W>(cpu, i, (Seg::Es, RDI), Access::Write, most);
        if most < 2 {
            return Ok(0);
        }
        let count = cpu.copy_elements::<W>(from, seg == Seg::Ss, to, most)?;
        advance(cpu, i, RSI, count * W::BYTES as u64);
        advance(cpu, i, RDI, count * W::BYTES as u64);
        Ok(count)
    }
}

/// STOS.
struct Stos;

impl Operation for Stos {
    #[inline(always)]
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
        let value: W = cpu.reg(RAX);
        cpu.store_at(Seg::Es, pointer(cpu, i, RDI), value)?;
        advance(cpu, i, RDI, stride::<W>(cpu));
        Ok(())
    }

    fn bulk<W: Raw>(cpu: &mut Cpu, i: &Insn, most: u64) -> Result<u64, Raised> {
        if down(cpu) {
            return Ok(0);
        }
        let (to, most) = stretch::<W>(cpu, i, (Seg::Es, RDI), Access::Write, most);
        if most < 2 {
            return Ok(0);
        }
        let value: W = cpu.reg(RAX);
        let count = cpu.fill_elements(to, value, most)?;
        advance(cpu, i, RDI, count * W::BYTES as u64);
        Ok(count)
    }
}

/// LODS.
struct Lods;

impl Operation for Lods {
    #[inline(always)]
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
        let value: W = cpu.load_at(i.segment(), pointer(cpu, i, RSI))?;
        cpu.set_reg(RAX, value);
        advance(cpu, i, RSI, stride::<W>(cpu));
        Ok(())
    }
}

/// SCAS: compares the accumulator with the element.
struct Scas;

impl Operation for Scas {
    const COMPARES: bool = true;

    #[inline(always)]
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
        let a: W = cpu.reg(RAX);
        let b: W = cpu.load_at(Seg::Es, pointer(cpu, i, RDI))?;
        cpu.flags.after_sub(a, b, a.sub(b));
        advance(cpu, i, RDI, stride::<W>(cpu));
        Ok(())
    }
}

/// CMPS: compares the source element with the one at ES:RDI.
struct Cmps;

impl Operation for Cmps {
    const COMPARES: bool = true;

    #[inline(always)]
    fn item<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
        let a: W = cpu.load_at(i.segment(), pointer(cpu, i, RSI))?;
        let b: W = cpu.load_at(Seg::Es, pointer(cpu, i, RDI))?;
        cpu.flags.after_sub(a, b, a.sub(b));
        let by = stride::<W>(cpu);
        advance(cpu, i, RSI, by);
        advance(cpu, i, RDI, by);
        Ok(())
    }
}

/// Elements for one execution: all that are left until the count reaches a multiple of
/// [`PORTION`]; one where each must be followed by a single-step trap, or is a
/// debugger's step.
pub(super) fn portion(cpu: &Cpu, count: u64) -> u64 {
    match count {
        0 => 0,
        _ if cpu.system_flags.contains(RFlags::TF) || cpu.debugger.one_iteration => 1,
        _ => (count - 1) % PORTION + 1,
    }
}

/// The repeated instruction is over, or goes on with its next execution (for which RF, where set,
/// still holds).
pub(super) fn leave(cpu: &mut Cpu, i: &Insn, over: bool) {
    if over {
        cpu.regs[RIP] = cpu.next_rip(i);
    } else {
        cpu.keep_resume_flag = cpu.system_flags.contains(RFlags::RF);
        cpu.regs[RIP] = cpu.this_rip(i);
    }
}

/// One execution of a repeated instruction. A fault, and an interrupt between portions, finds the
/// flags of the last element that was done, as on AMD's processors. (Intel documents those from
/// before the instruction after a fault.)
#[inline(never)]
fn repeat<W: Raw, O: Operation>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let while_zf = i.has(Insn::REP);
    let mut left = portion(cpu, pointer(cpu, i, RCX));
    let mut over = left == 0;
    while left != 0 {
        let done = elements::<W, O>(cpu, i, left)?;
        advance(cpu, i, RCX, done.wrapping_neg());
        left -= done;
        if O::COMPARES && cpu.flags.zf() != while_zf {
            over = true;
            break;
        }
        // A data breakpoint traps behind the element that hit it.
        if cpu.debug_hits != 0 {
            break;
        }
    }
    over |= pointer(cpu, i, RCX) == 0;
    leave(cpu, i, over);
    Ok(())
}

/// At least one element, at most `most`; how many.
#[inline(always)]
fn elements<W: Raw, O: Operation>(cpu: &mut Cpu, i: &Insn, most: u64) -> Result<u64, Raised> {
    match O::bulk::<W>(cpu, i, most)? {
        0 => O::item::<W>(cpu, i).map(|()| 1),
        done => Ok(done),
    }
}

#[inline(always)]
fn once<W: Raw, O: Operation>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    O::item::<W>(cpu, i)
}

/// Rows of string instructions, each alone and repeated. F2 and F3 both repeat those that do not
/// compare.
macro_rules! strings {
    ($($operation:ident<$w:ty>: $code:ident;)*) => {
        &[$(row!(@row [$code] |i| {
            if i.has_rep_prefix() || i.has_repne_prefix() {
                step!(repeat::<$w, $operation>)
            } else {
                step!(once::<$w, $operation>)
            }
        }),)*]
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = strings! {
    Movs<u8>: Movsb_m8_m8; Movs<u16>: Movsw_m16_m16; Movs<u32>: Movsd_m32_m32; Movs<u64>: Movsq_m64_m64;
    Stos<u8>: Stosb_m8_AL; Stos<u16>: Stosw_m16_AX;  Stos<u32>: Stosd_m32_EAX; Stos<u64>: Stosq_m64_RAX;
    Lods<u8>: Lodsb_AL_m8; Lods<u16>: Lodsw_AX_m16;  Lods<u32>: Lodsd_EAX_m32; Lods<u64>: Lodsq_RAX_m64;
    Scas<u8>: Scasb_AL_m8; Scas<u16>: Scasw_AX_m16;  Scas<u32>: Scasd_EAX_m32; Scas<u64>: Scasq_RAX_m64;
    Cmps<u8>: Cmpsb_m8_m8; Cmps<u16>: Cmpsw_m16_m16; Cmps<u32>: Cmpsd_m32_m32; Cmps<u64>: Cmpsq_m64_m64;
};
