//! FLD, FILD, FBLD, constants, FCMOVcc, FXCH.

use super::super::Row;
use super::super::form::row;
use super::arith::{I16, I32, I64, M32, M64, Memory};
use super::{C1, INDEFINITE, ST0};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{self, Env, F80, Format};

/// The register a push goes to, or `None` if it is full: a stack overflow, reported, with the
/// indefinite pushed where that is masked.
#[inline(always)]
fn room(cpu: &mut Cpu) -> bool {
    if !cpu.st_full(cpu.st(7)) {
        return true;
    }
    if cpu.x87_stack_fault(true) {
        cpu.st_push(INDEFINITE);
    }
    false
}

/// Pushes bits that are no arithmetic operand: nothing but the stack can be wrong.
#[inline(always)]
fn push(cpu: &mut Cpu, bits: (u64, u16)) {
    if room(cpu) {
        cpu.fpu.fsw &= !C1;
        cpu.st_push(bits);
    }
}

/// FLD and FILD from memory.
fn load<M: Memory>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let mut env = Env::x87(cpu.fpu.fcw);
    let value = M::load(cpu, i, &env)?;
    cpu.x87_note(i);
    if room(cpu) {
        // A denormal operand, even unmasked, is loaded.
        let value = fpu::widen(&mut env, value);
        let invalid = !(env.unmasked() & fpu::Exceptions::IE).is_empty();
        cpu.x87_report(&env);
        if !invalid {
            cpu.st_push(F80::pack(value));
        }
    }
    Ok(())
}

fn load80(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let bits = cpu.x87_load80(i)?;
    cpu.x87_note(i);
    push(cpu, bits);
    Ok(())
}

fn fbld(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let (digits, head) = cpu.x87_load80(i)?;
    cpu.x87_note(i);
    push(cpu, F80::pack(fpu::from_bcd(digits, head)));
    Ok(())
}

/// FLD ST(i).
fn load_register(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let from = cpu.st(i.r[0]);
    if cpu.st_full(from) {
        let bits = cpu.fpu.regs[from];
        push(cpu, bits);
    } else if cpu.x87_stack_fault(false) {
        cpu.st_push(INDEFINITE);
    }
    Ok(())
}

/// Constants to 128 bits, of which the x87 keeps 64 as RC says: exponent and significand.
const CONSTANTS: [(i32, u128); 7] = [
    (0, 1 << 127),                                   // 1
    (1, 0xD49A_784B_CD1B_8AFE_492B_F6FF_4DAF_DB4C),  // log2 10
    (0, 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E88),  // log2 e
    (1, 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1),  // pi
    (-2, 0x9A20_9A84_FBCF_F798_8F89_59AC_0B7C_9178), // log10 2
    (-1, 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF), // ln 2
    (0, 0),                                          // 0
];

fn constant<const K: usize>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (exp, sig) = CONSTANTS[K];
    let bits = if sig == 0 {
        (0, 0)
    } else {
        // Not an operation: neither inexact nor rounded up.
        let mut env = Env::x87(cpu.fpu.fcw);
        F80::pack(fpu::rounded(&mut env, F80::SHAPE, false, exp, sig))
    };
    push(cpu, bits);
    Ok(())
}

/// FCMOVcc: moves where condition `CC` (as Jcc has it) holds.
fn fcmov<const CC: u8>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (to, from) = (cpu.st(ST0), cpu.st(i.r[1]));
    if !cpu.st_full(to) || !cpu.st_full(from) {
        if cpu.x87_stack_fault(false) {
            cpu.st_set(to, INDEFINITE);
        }
        return Ok(());
    }
    if cpu.flags.condition::<CC>() {
        cpu.fpu.regs[to] = cpu.fpu.regs[from];
    }
    Ok(())
}

fn fxch(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    cpu.x87_note(i);
    let (a, b) = (cpu.st(ST0), cpu.st(i.r[1]));
    if cpu.st_full(a) && cpu.st_full(b) {
        cpu.fpu.fsw &= !C1;
    } else {
        if !cpu.x87_stack_fault(false) {
            return Ok(());
        }
        for at in [a, b] {
            if !cpu.st_full(at) {
                cpu.st_set(at, INDEFINITE);
            }
        }
    }
    cpu.fpu.regs.swap(a, b);
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: load::<M32>, [Fld_m32fp]),
    row!(plain: load::<M64>, [Fld_m64fp]),
    row!(plain: load::<I16>, [Fild_m16int]),
    row!(plain: load::<I32>, [Fild_m32int]),
    row!(plain: load::<I64>, [Fild_m64int]),
    row!(plain: load80, [Fld_m80fp]),
    row!(plain: fbld, [Fbld_m80bcd]),
    row!(plain: load_register, [Fld_sti]),
    row!(plain: constant::<0>, [Fld1]),
    row!(plain: constant::<1>, [Fldl2t]),
    row!(plain: constant::<2>, [Fldl2e]),
    row!(plain: constant::<3>, [Fldpi]),
    row!(plain: constant::<4>, [Fldlg2]),
    row!(plain: constant::<5>, [Fldln2]),
    row!(plain: constant::<6>, [Fldz]),
    row!(plain: fcmov::<2>, [Fcmovb_st0_sti]),
    row!(plain: fcmov::<3>, [Fcmovnb_st0_sti]),
    row!(plain: fcmov::<4>, [Fcmove_st0_sti]),
    row!(plain: fcmov::<5>, [Fcmovne_st0_sti]),
    row!(plain: fcmov::<6>, [Fcmovbe_st0_sti]),
    row!(plain: fcmov::<7>, [Fcmovnbe_st0_sti]),
    row!(plain: fcmov::<10>, [Fcmovu_st0_sti]),
    row!(plain: fcmov::<11>, [Fcmovnu_st0_sti]),
    row!(plain: fxch, [Fxch_st0_sti, Fxch_st0_sti_DDC8, Fxch_st0_sti_DFC8]),
];
