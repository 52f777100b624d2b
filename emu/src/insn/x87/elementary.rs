//! F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FSINCOS, FPTAN.

use super::super::Row;
use super::super::form::row;
use super::unary::{Operation, both, unary};
use super::{C1, C2, INDEFINITE, ST0};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, Env, F80, Float, Format};

struct Exponential;

impl Operation for Exponential {
    fn apply(env: &mut Env, _: u16, value: Float) -> Float {
        fpu::f2xm1(env, value)
    }
}

/// An operation of ST(0) and ST(1), to ST(1), which then is popped to.
fn binary(
    cpu: &mut Cpu,
    i: &Insn,
    operation: fn(&mut Env, Float, Float) -> Float,
) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let mut env = Env::x87(cpu.fpu.fcw);
    let to = cpu.st(1);
    let Some((x, y)) = both(cpu, &env) else {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(to, INDEFINITE);
            cpu.st_pop();
        }
        return Ok(());
    };
    let result = operation(&mut env, x, y);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[to] = F80::pack(result);
        cpu.st_pop();
    }
    Ok(())
}

fn fyl2x(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    binary(cpu, i, fpu::fyl2x)
}

fn fyl2xp1(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    binary(cpu, i, fpu::fyl2xp1)
}

fn fpatan(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    binary(cpu, i, |env, x, y| fpu::fpatan(env, y, x))
}

/// A function of an angle, with the value pushed after its result where it has one.
type Trigonometry = fn(&mut Env, Float) -> Option<(Float, Option<Float>)>;

fn trigonometric(
    cpu: &mut Cpu,
    i: &Insn,
    pushes: bool,
    function: Trigonometry,
) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    let full = cpu.st_full(at);
    if !full || pushes && cpu.st_full(cpu.st(7)) {
        cpu.fpu.fsw &= !C2;
        if cpu.x87_stack_fault(full) {
            cpu.st_set(at, INDEFINITE);
            if pushes {
                cpu.st_push(INDEFINITE);
            }
        }
        return Ok(());
    }
    let mut env = Env::x87(cpu.fpu.fcw);
    let value = cpu.st_value(&env, at);
    let Some((result, pushed)) = function(&mut env, value) else {
        cpu.fpu.fsw = cpu.fpu.fsw & !C1 | C2;
        return Ok(());
    };
    cpu.fpu.fsw &= !C2;
    cpu.x87_report(&env);
    if env.refused() {
        return Ok(());
    }
    cpu.fpu.regs[at] = F80::pack(result);
    if let Some(pushed) = pushed {
        cpu.st_push(F80::pack(pushed));
    }
    Ok(())
}

fn fsin(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    trigonometric(cpu, i, false, |env, x| Some((fpu::fsin(env, x)?, None)))
}

fn fcos(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    trigonometric(cpu, i, false, |env, x| Some((fpu::fcos(env, x)?, None)))
}

fn fsincos(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    trigonometric(cpu, i, true, |env, x| {
        let cosine = fpu::fcos(env, x)?;
        Some((fpu::fsin(env, x)?, Some(cosine)))
    })
}

/// FPTAN pushes 1, or the NaN that is its result.
fn fptan(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    trigonometric(cpu, i, true, |env, x| {
        let tangent = fpu::fptan(env, x)?;
        let one = if tangent.is_nan() {
            tangent
        } else {
            fpu::from_int(1)
        };
        Some((tangent, Some(one)))
    })
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: unary::<Exponential>, [F2xm1]),
    row!(plain: fyl2x, [Fyl2x]),
    row!(plain: fyl2xp1, [Fyl2xp1]),
    row!(plain: fpatan, [Fpatan]),
    row!(plain: fsin, [Fsin]),
    row!(plain: fcos, [Fcos]),
    row!(plain: fsincos, [Fsincos]),
    row!(plain: fptan, [Fptan]),
];
