//! FST, FSTP, FIST, FISTP, FISTTP, FBSTP.
//!
//! To memory, an unmasked overflow, underflow or invalid operation stores nothing and pops nothing;
//! flags change only once the store has gone through.

use super::super::Row;
use super::super::form::row;
use super::{C1, INDEFINITE, SF, ST0};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, Env, Exceptions, F32, F64, Float, Format, Int, Rounding, narrow};
use crate::mem::Access;

/// Bits of FBSTP's indefinite.
const BCD_INDEFINITE: (u64, u16) = (0xC000_0000_0000_0000, 0xFFFF);

/// A destination in memory.
trait Target: 'static {
    /// What is written.
    type Bits: Copy;
    /// Its length.
    const LEN: usize = size_of::<Self::Bits>();
    /// What an invalid operation writes.
    const INDEFINITE: Self::Bits;
    /// The bits for a value. What they are after an exception that is not masked does not matter.
    fn of(env: &mut Env, value: Float) -> Self::Bits;
    fn write(cpu: &mut Cpu, i: &Insn, bits: Self::Bits) -> Result<(), Raised>;
}

struct ToM32;
struct ToM64;
struct ToI16;
struct ToI32;
struct ToI64;
struct ToBcd;
/// Cut off, whatever RC says (FISTTP).
struct Cut<T>(T);

impl Target for ToM32 {
    type Bits = u32;
    const INDEFINITE: u32 = 0xFFC0_0000;
    #[inline(always)]
    fn of(env: &mut Env, value: Float) -> u32 {
        F32::pack(narrow(env, F32::SHAPE, value))
    }
    #[inline(always)]
    fn write(cpu: &mut Cpu, i: &Insn, bits: u32) -> Result<(), Raised> {
        cpu.store(i, bits)
    }
}

impl Target for ToM64 {
    type Bits = u64;
    const INDEFINITE: u64 = 0xFFF8_0000_0000_0000;
    #[inline(always)]
    fn of(env: &mut Env, value: Float) -> u64 {
        F64::pack(narrow(env, F64::SHAPE, value))
    }
    #[inline(always)]
    fn write(cpu: &mut Cpu, i: &Insn, bits: u64) -> Result<(), Raised> {
        cpu.store(i, bits)
    }
}

impl Target for ToI16 {
    type Bits = u16;
    const INDEFINITE: u16 = 1 << 15;
    fn of(env: &mut Env, value: Float) -> u16 {
        fpu::to_int(env, value, Int::I16).map_or(Self::INDEFINITE, |v| v as u16)
    }
    fn write(cpu: &mut Cpu, i: &Insn, bits: u16) -> Result<(), Raised> {
        cpu.store(i, bits)
    }
}

impl Target for ToI32 {
    type Bits = u32;
    const INDEFINITE: u32 = 1 << 31;
    fn of(env: &mut Env, value: Float) -> u32 {
        fpu::to_int(env, value, Int::I32).map_or(Self::INDEFINITE, |v| v as u32)
    }
    fn write(cpu: &mut Cpu, i: &Insn, bits: u32) -> Result<(), Raised> {
        cpu.store(i, bits)
    }
}

impl Target for ToI64 {
    type Bits = u64;
    const INDEFINITE: u64 = 1 << 63;
    fn of(env: &mut Env, value: Float) -> u64 {
        fpu::to_int(env, value, Int::I64).map_or(Self::INDEFINITE, i64::cast_unsigned)
    }
    fn write(cpu: &mut Cpu, i: &Insn, bits: u64) -> Result<(), Raised> {
        cpu.store(i, bits)
    }
}

impl Target for ToBcd {
    type Bits = (u64, u16);
    const LEN: usize = 10;
    const INDEFINITE: (u64, u16) = BCD_INDEFINITE;
    fn of(env: &mut Env, value: Float) -> (u64, u16) {
        fpu::to_bcd(env, value).unwrap_or(Self::INDEFINITE)
    }
    fn write(cpu: &mut Cpu, i: &Insn, bits: (u64, u16)) -> Result<(), Raised> {
        cpu.x87_store80(i, bits)
    }
}

impl<T: Target> Target for Cut<T> {
    type Bits = T::Bits;
    const LEN: usize = T::LEN;
    const INDEFINITE: T::Bits = T::INDEFINITE;
    fn of(env: &mut Env, value: Float) -> T::Bits {
        env.rounding = Rounding::Zero;
        T::of(env, value)
    }
    fn write(cpu: &mut Cpu, i: &Insn, bits: T::Bits) -> Result<(), Raised> {
        T::write(cpu, i, bits)
    }
}

/// Raises what the store would that does not happen.
#[cold]
fn probe(cpu: &mut Cpu, i: &Insn, len: usize) -> Result<(), Raised> {
    if len == 10 {
        return cpu.x87_probe80(i);
    }
    cpu.probe_piece(i, 0, len, Access::Write)
}

/// ST(0) to memory, converted; then pops if `POP`.
fn store<T: Target, const POP: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let mut env = Env::x87(cpu.fpu.fcw);
    let at = cpu.st(ST0);
    let mut fault = 0;
    let bits = if cpu.st_full(at) {
        let value = cpu.st_value(&env, at);
        T::of(&mut env, value)
    } else {
        (env.flags, fault) = (Exceptions::IE, SF);
        T::INDEFINITE
    };
    // Inexact alone does not keep a result back.
    let stored = (env.unmasked() - Exceptions::PE).is_empty();
    if stored {
        T::write(cpu, i, bits)?;
    } else {
        probe(cpu, i, T::LEN)?;
    }
    if !stored && !(env.unmasked() & (Exceptions::OE | Exceptions::UE)).is_empty() {
        // Nothing was rounded to what would have been stored.
        env.flags -= Exceptions::PE;
        env.up = false;
    }
    cpu.x87_note(i);
    cpu.fpu.fsw |= fault;
    cpu.x87_report(&env);
    if POP && stored {
        cpu.st_pop();
    }
    Ok(())
}

/// FSTP m80: the bits as they are.
fn store80(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let at = cpu.st(ST0);
    let full = cpu.st_full(at);
    let masked = Env::x87(cpu.fpu.fcw).masked.contains(Exceptions::IE);
    if full || masked {
        let bits = if full { cpu.fpu.regs[at] } else { INDEFINITE };
        cpu.x87_store80(i, bits)?;
    } else {
        probe(cpu, i, 10)?;
    }
    cpu.x87_note(i);
    if full {
        cpu.fpu.fsw &= !C1;
    } else if !cpu.x87_stack_fault(false) {
        return Ok(());
    }
    cpu.st_pop();
    Ok(())
}

/// FST ST(i), FSTP ST(i).
fn store_register<const POP: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (from, to) = (cpu.st(ST0), cpu.st(i.r[0]));
    if cpu.st_full(from) {
        cpu.fpu.fsw &= !C1;
        let bits = cpu.fpu.regs[from];
        cpu.st_set(to, bits);
    } else {
        if !cpu.x87_stack_fault(false) {
            return Ok(());
        }
        cpu.st_set(to, INDEFINITE);
    }
    if POP {
        cpu.st_pop();
    }
    Ok(())
}

/// FSTPNCE: FSTP ST(i) that finds nothing wrong with an empty register, and stores none.
fn store_quietly(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (from, to) = (cpu.st(ST0), cpu.st(i.r[0]));
    cpu.fpu.fsw &= !C1;
    if cpu.st_full(from) {
        let bits = cpu.fpu.regs[from];
        cpu.st_set(to, bits);
    }
    cpu.st_pop();
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: store::<ToM32, false>, [Fst_m32fp]),
    row!(plain: store::<ToM64, false>, [Fst_m64fp]),
    row!(plain: store::<ToM32, true>, [Fstp_m32fp]),
    row!(plain: store::<ToM64, true>, [Fstp_m64fp]),
    row!(plain: store80, [Fstp_m80fp]),
    row!(plain: store::<ToI16, false>, [Fist_m16int]),
    row!(plain: store::<ToI32, false>, [Fist_m32int]),
    row!(plain: store::<ToI16, true>, [Fistp_m16int]),
    row!(plain: store::<ToI32, true>, [Fistp_m32int]),
    row!(plain: store::<ToI64, true>, [Fistp_m64int]),
    row!(plain: store::<Cut<ToI16>, true>, [Fisttp_m16int]),
    row!(plain: store::<Cut<ToI32>, true>, [Fisttp_m32int]),
    row!(plain: store::<Cut<ToI64>, true>, [Fisttp_m64int]),
    row!(plain: store::<ToBcd, true>, [Fbstp_m80bcd]),
    row!(plain: store_register::<false>, [Fst_sti]),
    row!(plain: store_register::<true>, [Fstp_sti, Fstp_sti_DFD0, Fstp_sti_DFD8]),
    row!(plain: store_quietly, [Fstpnce_sti]),
];
