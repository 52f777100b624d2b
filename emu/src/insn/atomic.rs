//! CMPXCHG, XADD, CMPXCHG8B, CMPXCHG16B. SDM Vol. 2A, each mnemonic; Vol. 3A, "Locked Atomic
//! Operations".
//!
//! Memory is written even where nothing is exchanged, so it must be writable.

use super::Row;
use super::form::{Dest, Kind, Locked, Mem, kind, row, step};
use crate::arch::segment::Seg;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::raw::Raw;

#[inline(always)]
fn cmpxchg<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let expected: W = cpu.reg(0);
    let new: W = cpu.reg(i.r[1]);
    let (old, _) = D::modify(cpu, i, |a: W| if a == expected { new } else { a })?;
    if old != expected {
        cpu.set_reg(0, old);
    }
    cpu.flags.after_sub(expected, old, expected.sub(old));
    Ok(())
}

#[inline(always)]
fn xadd<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = cpu.reg(i.r[1]);
    let (a, sum) = D::modify(cpu, i, |a: W| a.add(b))?;
    cpu.set_reg(i.r[1], a);
    cpu.flags.after_add(a, b, sum);
    Ok(())
}

/// XADD of two registers: where they are one, it holds the sum.
#[inline(always)]
fn xadd_registers<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let (a, b): (W, W) = (cpu.reg(i.r[0]), cpu.reg(i.r[1]));
    let sum = a.add(b);
    cpu.set_reg(i.r[1], a);
    cpu.set_reg(i.r[0], sum);
    cpu.flags.after_add(a, b, sum);
    Ok(())
}

/// CMPXCHG of a register: unlike memory, it stays whole where nothing is exchanged (the upper half of
/// a 64-bit register too), on processors of both makers.
#[inline(always)]
fn cmpxchg_registers<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let (expected, old): (W, W) = (cpu.reg(0), cpu.reg(i.r[0]));
    if old == expected {
        let new: W = cpu.reg(i.r[1]);
        cpu.set_reg(i.r[0], new);
    } else {
        cpu.set_reg(0, old);
    }
    cpu.flags.after_sub(expected, old, expected.sub(old));
    Ok(())
}

/// EDX:EAX is compared, ECX:EBX stored.
fn cmpxchg8b<D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let pair = |cpu: &Cpu, high, low| {
        u64::from(cpu.reg::<u32>(high)) << 32 | u64::from(cpu.reg::<u32>(low))
    };
    let (expected, new) = (pair(cpu, 2, 0), pair(cpu, 1, 3));
    let (old, _) = D::modify(cpu, i, |a: u64| if a == expected { new } else { a })?;
    if old != expected {
        cpu.set_reg(0, old as u32);
        cpu.set_reg(2, (old >> 32) as u32);
    }
    cpu.flags.set_zf(old == expected);
    Ok(())
}

/// RDX:RAX is compared, RCX:RBX stored; the operand must be aligned.
///
/// Two accesses of eight bytes, in one page as the operand is aligned. That is atomic while there
/// is one virtual processor; with more, LOCK must stop the others here, as for split locks
/// (design.md, "Written for n vCPUs from the first day").
fn cmpxchg16b(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let linear = cpu.linear_of(i, 16, Access::Write)?;
    if linear % 16 != 0 {
        return cpu.gp(0);
    }
    let stack = i.seg() == Seg::Ss as usize;
    cpu.probe_write(linear, 16, stack)?;
    let low: u64 = cpu.read_linear(linear, stack)?;
    let high: u64 = cpu.read_linear(linear + 8, stack)?;
    let equal = (low, high) == (cpu.reg(0), cpu.reg(2));
    let (new_low, new_high) = if equal {
        (cpu.reg(3), cpu.reg(1))
    } else {
        (low, high)
    };
    cpu.write_linear(linear, new_low, stack)?;
    cpu.write_linear(linear + 8, new_high, stack)?;
    if !equal {
        cpu.set_reg(0, low);
        cpu.set_reg(2, high);
    }
    cpu.flags.set_zf(equal);
    Ok(())
}

/// A row of a rule with a form of its own for two registers.
macro_rules! exchange {
    ($memory:ident, $registers:ident, $w:ty, $codes:tt) => {
        row!(@row $codes |i| match kind(i, 0) {
            Kind::Reg => step!($registers::<$w>),
            Kind::Locked => step!($memory::<$w, Locked>),
            _ => step!($memory::<$w, Mem>),
        })
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    exchange!(cmpxchg, cmpxchg_registers, u8,  [Cmpxchg_rm8_r8]),
    exchange!(cmpxchg, cmpxchg_registers, u16, [Cmpxchg_rm16_r16]),
    exchange!(cmpxchg, cmpxchg_registers, u32, [Cmpxchg_rm32_r32]),
    exchange!(cmpxchg, cmpxchg_registers, u64, [Cmpxchg_rm64_r64]),
    exchange!(xadd, xadd_registers, u8,  [Xadd_rm8_r8]),
    exchange!(xadd, xadd_registers, u16, [Xadd_rm16_r16]),
    exchange!(xadd, xadd_registers, u32, [Xadd_rm32_r32]),
    exchange!(xadd, xadd_registers, u64, [Xadd_rm64_r64]),
    row!(@row [Cmpxchg8b_m64] |i| match kind(i, 0) {
        Kind::Locked => step!(cmpxchg8b::<Locked>),
        _ => step!(cmpxchg8b::<Mem>),
    }),
    row!(plain: cmpxchg16b, [Cmpxchg16b_m128]),
];
