//! FABS, FCHS, FSQRT, FRNDINT, FSCALE, FXTRACT, FPREM, FPREM1.

use super::super::Row;
use super::super::form::row;
use super::{C0, C1, C2, C3, INDEFINITE, ST0};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, Class, Env, Exceptions, F80, Float, Format, Shape};

/// The sign bit of a register's upper part.
const SIGN: u16 = 1 << 15;

/// Changes the sign: FABS if `CLEAR`, else FCHS.
fn sign<const CLEAR: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    if !cpu.st_full(at) {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(at, INDEFINITE);
        }
        return Ok(());
    }
    cpu.fpu.fsw &= !C1;
    let head = &mut cpu.fpu.regs[at].1;
    *head = if CLEAR { *head & !SIGN } else { *head ^ SIGN };
    Ok(())
}

/// An operation of ST(0) alone.
pub(super) trait Operation: 'static {
    fn apply(env: &mut Env, fcw: u16, value: Float) -> Float;
}

struct Sqrt;
struct Rint;

impl Operation for Sqrt {
    fn apply(env: &mut Env, fcw: u16, value: Float) -> Float {
        fpu::sqrt(env, Shape::x87(fcw), value)
    }
}

impl Operation for Rint {
    fn apply(env: &mut Env, _: u16, value: Float) -> Float {
        if value.class == Class::Denormal {
            env.flags |= Exceptions::DE;
            if env.refused() {
                return value;
            }
        }
        fpu::round_to_int(env, value)
    }
}

pub(super) fn unary<O: Operation>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    if !cpu.st_full(at) {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(at, INDEFINITE);
        }
        return Ok(());
    }
    let mut env = Env::x87(cpu.fpu.fcw);
    let value = cpu.st_value(&env, at);
    let result = O::apply(&mut env, cpu.fpu.fcw, value);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[at] = F80::pack(result);
    }
    Ok(())
}

/// ST(0) and ST(1), if both are there; else a stack underflow has been reported, and ST(0) holds the
/// indefinite if that is masked.
pub(super) fn both(cpu: &mut Cpu, env: &Env) -> Option<(Float, Float)> {
    let (at, other) = (cpu.st(ST0), cpu.st(1));
    if cpu.st_full(at) && cpu.st_full(other) {
        return Some((cpu.st_value(env, at), cpu.st_value(env, other)));
    }
    None
}

fn fscale(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let mut env = Env::x87(cpu.fpu.fcw);
    let at = cpu.st(ST0);
    let Some((value, by)) = both(cpu, &env) else {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(at, INDEFINITE);
        }
        return Ok(());
    };
    let result = fpu::scale(&mut env, value, by);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[at] = F80::pack(result);
    }
    Ok(())
}

/// FPREM; FPREM1 if `NEAREST`.
fn fprem<const NEAREST: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let mut env = Env::x87(cpu.fpu.fcw);
    let at = cpu.st(ST0);
    let Some((value, by)) = both(cpu, &env) else {
        cpu.fpu.fsw &= !C2;
        if cpu.x87_stack_fault(false) {
            cpu.st_set(at, INDEFINITE);
        }
        return Ok(());
    };
    let result = fpu::remainder(&mut env, value, by, NEAREST);
    cpu.x87_report(&env);
    if env.refused() {
        cpu.fpu.fsw &= !C2;
        return Ok(());
    }
    let bit = |k: u32, code: u16| {
        if result.quotient >> k & 1 != 0 {
            code
        } else {
            0
        }
    };
    let (cleared, codes) = if result.partial {
        (C0 | C1 | C2 | C3, C2)
    } else if result.value.is_nan() {
        (C1 | C2, 0)
    } else {
        (C0 | C1 | C2 | C3, bit(0, C1) | bit(1, C3) | bit(2, C0))
    };
    cpu.fpu.fsw = cpu.fpu.fsw & !cleared | codes;
    cpu.fpu.regs[at] = F80::pack(result.value);
    Ok(())
}

fn fxtract(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    let overflow = cpu.st_full(cpu.st(7));
    if !cpu.st_full(at) || overflow {
        let overflow = cpu.st_full(at);
        if cpu.x87_stack_fault(overflow) {
            cpu.st_set(at, INDEFINITE);
            cpu.st_push(INDEFINITE);
        }
        return Ok(());
    }
    let mut env = Env::x87(cpu.fpu.fcw);
    let value = cpu.st_value(&env, at);
    let (exponent, significand) = fpu::extract(&mut env, value);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[at] = F80::pack(exponent);
        cpu.st_push(F80::pack(significand));
    }
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: sign::<true>, [Fabs]),
    row!(plain: sign::<false>, [Fchs]),
    row!(plain: unary::<Sqrt>, [Fsqrt]),
    row!(plain: unary::<Rint>, [Frndint]),
    row!(plain: fscale, [Fscale]),
    row!(plain: fxtract, [Fxtract]),
    row!(plain: fprem::<false>, [Fprem]),
    row!(plain: fprem::<true>, [Fprem1]),
];
