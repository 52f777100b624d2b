//! The x87 instructions. SDM Vol. 1, "Programming with the x87 FPU"; Vol. 2, each mnemonic.
//!
//! A rule begins with [`Cpu::x87_begin`] (#NM, pending errors), reads memory, notes the pointers
//! ([`Cpu::x87_note`]), computes under an [`Env`], reports flags ([`Cpu::x87_report`]) and writes its
//! result unless the operation was refused. What manuals leave open is as AMD's processors of family
//! 1Ah have it: compared with one bit for bit in `testsuite/tests/x87.rs`.
//!
//! Without CR0.NE, an error asserts FERR# at the next waiting instruction, which then waits until
//! the board answers with IGNNE# or an interrupt.

pub(super) mod arith;
pub(super) mod compare;
pub(super) mod control;
pub(super) mod elementary;
pub(super) mod environment;
pub(super) mod load;
pub(super) mod store;
#[cfg(test)]
mod tests;
pub(super) mod unary;

use crate::arch::exception::{MF, NM};
use crate::arch::segment::Seg;
use crate::arch::{Cr0, Exception};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{Env, Exceptions, F80, Float, Format};
use crate::mem::Access;

/// Status word: stack fault.
const SF: u16 = 1 << 6;
/// Status word: an unmasked exception is pending.
const ES: u16 = 1 << 7;
/// Status word: busy, the same as ES since the 80387.
const BUSY: u16 = 1 << 15;
/// Status word: condition codes.
const C0: u16 = 1 << 8;
const C1: u16 = 1 << 9;
const C2: u16 = 1 << 10;
const C3: u16 = 1 << 14;
/// Status word: where TOP is, and what.
const TOP_SHIFT: u32 = 11;
const TOP: u16 = 7 << TOP_SHIFT;
/// The exceptions of the status and control words.
const EXCEPTIONS: u16 = Exceptions::all().bits();
/// Control word bits that can be set, and the one that always is.
const FCW_WRITABLE: u16 = 0x1F3F;
const FCW_FIXED: u16 = 0x40;
/// Control word after FINIT.
const FCW_INIT: u16 = 0x37F;

/// ST(0).
const ST0: u8 = 0;

impl Cpu {
    /// The start of a waiting instruction.
    #[inline(always)]
    fn x87_begin(&mut self) -> Result<(), Raised> {
        if self.cr0.intersects(Cr0::EM | Cr0::TS) || self.fpu.fsw & ES != 0 {
            return self.x87_held();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn x87_held(&mut self) -> Result<(), Raised> {
        self.x87_present()?;
        self.x87_wait()
    }

    /// #NM if the coprocessor is emulated or another task's: all a control instruction waits for.
    #[inline]
    fn x87_present(&mut self) -> Result<(), Raised> {
        if self.cr0.intersects(Cr0::EM | Cr0::TS) {
            return self.fault(Exception::new(NM));
        }
        Ok(())
    }

    /// A pending error, reported as CR0.NE says.
    #[inline]
    pub(in crate::insn) fn x87_wait(&mut self) -> Result<(), Raised> {
        if self.fpu.fsw & ES == 0 {
            return Ok(());
        }
        if self.cr0.contains(Cr0::NE) {
            return self.fault(Exception::new(MF));
        }
        self.io.set_ferr(true);
        if self.io.ignne() {
            return Ok(());
        }
        // Frozen: tried again after each look at the interrupt lines.
        self.retry()
    }

    /// The physical register behind ST(`k`).
    #[inline(always)]
    fn st(&self, k: u8) -> usize {
        usize::from((self.fpu.fsw >> TOP_SHIFT).wrapping_add(u16::from(k)) & 7)
    }

    /// Whether a physical register is not empty.
    #[inline(always)]
    fn st_full(&self, at: usize) -> bool {
        self.fpu.ftw >> at & 1 != 0
    }

    /// A physical register's value.
    #[inline(always)]
    fn st_value(&self, env: &Env, at: usize) -> Float {
        F80::unpack(env, self.fpu.regs[at])
    }

    /// Writes a physical register.
    #[inline(always)]
    fn st_set(&mut self, at: usize, bits: (u64, u16)) {
        self.fpu.regs[at] = bits;
        self.fpu.ftw |= 1 << at;
    }

    /// Marks ST(0) empty and moves the top.
    #[inline(always)]
    fn st_pop(&mut self) {
        let top = self.st(ST0);
        self.fpu.ftw &= !(1 << top);
        self.x87_turn(1);
    }

    /// Moves the top by `by` modulo 8.
    #[inline(always)]
    fn x87_turn(&mut self, by: u16) {
        let fsw = self.fpu.fsw;
        self.fpu.fsw = fsw & !TOP | fsw.wrapping_add(by << TOP_SHIFT) & TOP;
    }

    /// Pushes a value; the register is known to be free, or a stack fault has been reported.
    #[inline(always)]
    fn st_push(&mut self, bits: (u64, u16)) {
        self.x87_turn(7);
        self.st_set(self.st(ST0), bits);
    }

    /// Keeps opcode, instruction and data pointers of an instruction that is no control instruction.
    #[inline(always)]
    fn x87_note(&mut self, i: &Insn) {
        const REGISTERS: i32 = 0xC0;
        self.fpu.fop = i.imm as u16;
        self.fpu.fip = self.this_rip(i);
        self.fpu.fcs = self.segments[Seg::Cs as usize].selector;
        if i.imm & REGISTERS != REGISTERS {
            self.fpu.fdp = self.effective_address(i);
            self.fpu.fds = self.segments[i.seg()].selector;
        }
    }

    /// Puts an operation's flags and C1 into the status word.
    #[inline(always)]
    fn x87_report(&mut self, env: &Env) {
        let fsw = self.fpu.fsw & !C1 | env.flags.bits() | u16::from(env.up) << 9;
        let error = !env.unmasked().is_empty();
        self.fpu.fsw = if error { fsw | ES | BUSY } else { fsw };
    }

    /// Reports a stack underflow (C1 clear) or overflow (C1 set); true if it is masked, and the
    /// indefinite takes the result's place.
    #[cold]
    #[inline(never)]
    fn x87_stack_fault(&mut self, overflow: bool) -> bool {
        let mut env = Env::x87(self.fpu.fcw);
        env.flags = Exceptions::IE;
        env.up = overflow;
        self.fpu.fsw |= SF;
        self.x87_report(&env);
        !env.refused()
    }

    /// Makes ES and B what flags and masks say.
    fn x87_settle(&mut self) {
        let fpu = &mut self.fpu;
        let before = fpu.fsw & ES != 0;
        let error = fpu.fsw & !fpu.fcw & EXCEPTIONS != 0;
        fpu.fsw &= !(ES | BUSY);
        if error {
            fpu.fsw |= ES | BUSY;
        } else if before && !self.cr0.contains(Cr0::NE) {
            self.io.set_ferr(false);
        }
    }

    /// Ten bytes of memory.
    #[inline(always)]
    fn x87_load80(&mut self, i: &Insn) -> Result<(u64, u16), Raised> {
        Ok((self.load_piece(i, 0)?, self.load_piece(i, 8)?))
    }

    /// Writes ten bytes of memory.
    #[inline(always)]
    fn x87_store80(&mut self, i: &Insn, bits: (u64, u16)) -> Result<(), Raised> {
        const PAGE: u64 = 4096;
        let low = self.linear_of_piece(i, 0, 8, Access::Write)?;
        if low % PAGE > PAGE - 10 || self.wraps(i, 10) {
            // What the second page may refuse, it refuses before the first is written.
            self.x87_probe80(i)?;
        }
        self.store_piece(i, 0, bits.0)?;
        self.store_piece(i, 8, bits.1)
    }

    #[cold]
    fn x87_probe80(&mut self, i: &Insn) -> Result<(), Raised> {
        self.probe_piece(i, 0, 8, Access::Write)?;
        self.probe_piece(i, 8, 2, Access::Write)
    }
}

/// The bits of the QNaN that invalid operations return.
const INDEFINITE: (u64, u16) = (0xC000_0000_0000_0000, 0xFFFF);
