//! FCOM, FUCOM, FICOM, FTST, FCOMI, FUCOMI, FXAM.

use super::super::Row;
use super::super::form::row;
use super::arith::{I16, I32, M32, M64, Memory};
use super::{C0, C1, C2, C3, ST0};
use crate::arch::RFlags;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{Class, Env, Exceptions, Float, Order, compare};

/// Where the answer of a comparison goes.
trait Answer: 'static {
    /// Condition codes that stay if there is no stack fault.
    const KEPT: u16;
    fn tell(cpu: &mut Cpu, order: Order);
}

/// To C3, C2 and C0.
struct Codes;
/// To ZF, PF and CF.
struct Flags;

impl Answer for Codes {
    const KEPT: u16 = 0;
    #[inline(always)]
    fn tell(cpu: &mut Cpu, order: Order) {
        let codes = match order {
            Order::Greater => 0,
            Order::Less => C0,
            Order::Equal => C3,
            Order::Unordered => C0 | C2 | C3,
        };
        cpu.fpu.fsw = cpu.fpu.fsw & !(C0 | C2 | C3) | codes;
    }
}

impl Answer for Flags {
    const KEPT: u16 = C1;
    #[inline(always)]
    fn tell(cpu: &mut Cpu, order: Order) {
        cpu.flags.set_bits(match order {
            Order::Greater => RFlags::empty(),
            Order::Less => RFlags::CF,
            Order::Equal => RFlags::ZF,
            Order::Unordered => RFlags::ZF | RFlags::PF | RFlags::CF,
        });
    }
}

/// Compares ST(0) with a value, and pops `POPS` times. An unmasked exception leaves the stack alone.
#[inline(always)]
fn against<A: Answer, const POPS: u8>(cpu: &mut Cpu, other: Option<Float>, signal: bool) {
    let mut env = Env::x87(cpu.fpu.fcw);
    let at = cpu.st(ST0);
    let order = match other.filter(|_| cpu.st_full(at)) {
        Some(other) => {
            let value = cpu.st_value(&env, at);
            let order = compare(&mut env, value, other, signal);
            let kept = cpu.fpu.fsw & A::KEPT;
            cpu.x87_report(&env);
            cpu.fpu.fsw |= kept;
            order
        }
        None => {
            cpu.x87_stack_fault(false);
            env.flags = Exceptions::IE;
            Order::Unordered
        }
    };
    A::tell(cpu, order);
    if !env.refused() {
        for _ in 0..POPS {
            cpu.st_pop();
        }
    }
}

/// With a register.
fn with_register<A: Answer, const SIGNAL: bool, const POPS: u8>(
    cpu: &mut Cpu,
    i: &Insn,
) -> Result<(), Raised> {
    with_st::<A, SIGNAL, POPS>(cpu, i, i.r[1])
}

/// FCOMPP, FUCOMPP: with ST(1).
fn with_st1<const SIGNAL: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    with_st::<Codes, SIGNAL, 2>(cpu, i, 1)
}

#[inline(always)]
fn with_st<A: Answer, const SIGNAL: bool, const POPS: u8>(
    cpu: &mut Cpu,
    i: &Insn,
    k: u8,
) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(k);
    let env = Env::x87(cpu.fpu.fcw);
    let other = cpu.st_full(at).then(|| cpu.st_value(&env, at));
    against::<A, POPS>(cpu, other, SIGNAL);
    Ok(())
}

/// With memory.
fn with_memory<M: Memory, const POPS: u8>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let env = Env::x87(cpu.fpu.fcw);
    let other = M::load(cpu, i, &env)?;
    cpu.x87_note(i);
    against::<Codes, POPS>(cpu, Some(other), true);
    Ok(())
}

fn ftst(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    against::<Codes, 0>(cpu, Some(Float::zero(false)), true);
    Ok(())
}

fn fxam(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    let value = cpu.st_value(&Env::x87(cpu.fpu.fcw), at);
    let class = if cpu.st_full(at) {
        match value.class {
            Class::Unsupported => 0,
            Class::Quiet | Class::Signaling => C0,
            Class::Normal => C2,
            Class::Infinity => C2 | C0,
            Class::Zero => C3,
            Class::Denormal => C3 | C2,
        }
    } else {
        C3 | C0
    };
    let sign = if value.sign { C1 } else { 0 };
    cpu.fpu.fsw = cpu.fpu.fsw & !(C0 | C1 | C2 | C3) | class | sign;
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: with_memory::<M32, 0>, [Fcom_m32fp]),
    row!(plain: with_memory::<M64, 0>, [Fcom_m64fp]),
    row!(plain: with_memory::<I16, 0>, [Ficom_m16int]),
    row!(plain: with_memory::<I32, 0>, [Ficom_m32int]),
    row!(plain: with_memory::<M32, 1>, [Fcomp_m32fp]),
    row!(plain: with_memory::<M64, 1>, [Fcomp_m64fp]),
    row!(plain: with_memory::<I16, 1>, [Ficomp_m16int]),
    row!(plain: with_memory::<I32, 1>, [Ficomp_m32int]),
    row!(plain: with_register::<Codes, true, 0>, [Fcom_st0_sti, Fcom_st0_sti_DCD0]),
    row!(plain: with_register::<Codes, true, 1>, [Fcomp_st0_sti, Fcomp_st0_sti_DCD8, Fcomp_st0_sti_DED0]),
    row!(plain: with_register::<Codes, false, 0>, [Fucom_st0_sti]),
    row!(plain: with_register::<Codes, false, 1>, [Fucomp_st0_sti]),
    row!(plain: with_register::<Flags, true, 0>, [Fcomi_st0_sti]),
    row!(plain: with_register::<Flags, true, 1>, [Fcomip_st0_sti]),
    row!(plain: with_register::<Flags, false, 0>, [Fucomi_st0_sti]),
    row!(plain: with_register::<Flags, false, 1>, [Fucomip_st0_sti]),
    row!(plain: with_st1::<true>, [Fcompp]),
    row!(plain: with_st1::<false>, [Fucompp]),
    row!(plain: ftst, [Ftst]),
    row!(plain: fxam, [Fxam]),
];
