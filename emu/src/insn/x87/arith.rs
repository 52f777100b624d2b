//! FADD, FSUB, FMUL, FDIV and their reversed, popping and integer forms.

use super::super::Row;
use super::super::form::row;
use super::{INDEFINITE, ST0};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, Env, F32, F64, Float, Format, Shape};

/// An operation of a destination and a source.
trait Operation: 'static {
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float;
}

struct Add;
struct Sub;
struct SubR;
struct Mul;
struct Div;
struct DivR;

impl Operation for Add {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::add(env, shape, dest, source)
    }
}
impl Operation for Sub {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::sub(env, shape, dest, source)
    }
}
impl Operation for SubR {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::sub(env, shape, source, dest)
    }
}
impl Operation for Mul {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::mul(env, shape, dest, source)
    }
}
impl Operation for Div {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::div(env, shape, dest, source)
    }
}
impl Operation for DivR {
    #[inline(always)]
    fn apply(env: &mut Env, shape: Shape, dest: Float, source: Float) -> Float {
        fpu::div(env, shape, source, dest)
    }
}

/// A memory operand that every x87 value holds exactly.
pub(super) trait Memory: 'static {
    fn load(cpu: &mut Cpu, i: &Insn, env: &Env) -> Result<Float, Raised>;
}

pub(super) struct M32;
pub(super) struct M64;
pub(super) struct I16;
pub(super) struct I32;
pub(super) struct I64;

impl Memory for M32 {
    #[inline(always)]
    fn load(cpu: &mut Cpu, i: &Insn, env: &Env) -> Result<Float, Raised> {
        Ok(F32::unpack(env, cpu.load::<u32>(i)?))
    }
}
impl Memory for M64 {
    #[inline(always)]
    fn load(cpu: &mut Cpu, i: &Insn, env: &Env) -> Result<Float, Raised> {
        Ok(F64::unpack(env, cpu.load::<u64>(i)?))
    }
}
impl Memory for I16 {
    #[inline(always)]
    fn load(cpu: &mut Cpu, i: &Insn, _: &Env) -> Result<Float, Raised> {
        Ok(fpu::from_int(i64::from(cpu.load::<u16>(i)?.cast_signed())))
    }
}
impl Memory for I32 {
    #[inline(always)]
    fn load(cpu: &mut Cpu, i: &Insn, _: &Env) -> Result<Float, Raised> {
        Ok(fpu::from_int(i64::from(cpu.load::<u32>(i)?.cast_signed())))
    }
}
impl Memory for I64 {
    #[inline(always)]
    fn load(cpu: &mut Cpu, i: &Insn, _: &Env) -> Result<Float, Raised> {
        Ok(fpu::from_int(cpu.load::<u64>(i)?.cast_signed()))
    }
}

/// ST(0) and memory, to ST(0).
fn memory<O: Operation, M: Memory>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let mut env = Env::x87(cpu.fpu.fcw);
    let source = M::load(cpu, i, &env)?;
    cpu.x87_note(i);
    let at = cpu.st(ST0);
    if !cpu.st_full(at) {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(at, INDEFINITE);
        }
        return Ok(());
    }
    let dest = cpu.st_value(&env, at);
    let result = O::apply(&mut env, Shape::x87(cpu.fpu.fcw), dest, source);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[at] = fpu::F80::pack(result);
    }
    Ok(())
}

/// Two registers, to the first operand; then pops if `POP`.
fn registers<O: Operation, const POP: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (to, from) = (cpu.st(i.r[0]), cpu.st(i.r[1]));
    let mut env = Env::x87(cpu.fpu.fcw);
    if !cpu.st_full(to) || !cpu.st_full(from) {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(to, INDEFINITE);
            if POP {
                cpu.st_pop();
            }
        }
        return Ok(());
    }
    let (dest, source) = (cpu.st_value(&env, to), cpu.st_value(&env, from));
    let result = O::apply(&mut env, Shape::x87(cpu.fpu.fcw), dest, source);
    cpu.x87_report(&env);
    if !env.refused() {
        cpu.fpu.regs[to] = fpu::F80::pack(result);
        if POP {
            cpu.st_pop();
        }
    }
    Ok(())
}

/// Rows of one operation in all its forms.
macro_rules! operations {
    ($($operation:ident [$m32:ident $m64:ident $i16:ident $i32:ident] [$st0:ident $sti:ident] $pop:ident;)*) => {
        &[$(
            row!(plain: memory::<$operation, M32>, [$m32]),
            row!(plain: memory::<$operation, M64>, [$m64]),
            row!(plain: memory::<$operation, I16>, [$i16]),
            row!(plain: memory::<$operation, I32>, [$i32]),
            row!(plain: registers::<$operation, false>, [$st0, $sti]),
            row!(plain: registers::<$operation, true>, [$pop]),
        )*]
    };
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = operations! {
    Add  [Fadd_m32fp Fadd_m64fp Fiadd_m16int Fiadd_m32int] [Fadd_st0_sti Fadd_sti_st0] Faddp_sti_st0;
    Sub  [Fsub_m32fp Fsub_m64fp Fisub_m16int Fisub_m32int] [Fsub_st0_sti Fsub_sti_st0] Fsubp_sti_st0;
    SubR [Fsubr_m32fp Fsubr_m64fp Fisubr_m16int Fisubr_m32int] [Fsubr_st0_sti Fsubr_sti_st0] Fsubrp_sti_st0;
    Mul  [Fmul_m32fp Fmul_m64fp Fimul_m16int Fimul_m32int] [Fmul_st0_sti Fmul_sti_st0] Fmulp_sti_st0;
    Div  [Fdiv_m32fp Fdiv_m64fp Fidiv_m16int Fidiv_m32int] [Fdiv_st0_sti Fdiv_sti_st0] Fdivp_sti_st0;
    DivR [Fdivr_m32fp Fdivr_m64fp Fidivr_m16int Fidivr_m32int] [Fdivr_st0_sti Fdivr_sti_st0] Fdivrp_sti_st0;
};
