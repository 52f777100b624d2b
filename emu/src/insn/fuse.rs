//! What a block's translation makes of branches beyond their rows: a compare and the branch behind
//! it as one step, and branches back into the block itself, which unroll a loop.
//!
//! No meaning of an instruction is written here a second time but CMP's and TEST's subtraction and
//! AND; the flags are the rows' own.

use iced_x86::{Code, Instruction};

use super::branch::{branch_if, jmp_back};
use super::form::{Fast, Flat, Imm, Kind, Mem, Reg, Source, kind};
use super::{arith, go_on_slowly};
use crate::cpu::{Cpu, Raised};
use crate::decode::{Insn, Step, is_flat};
use crate::mem::raw::Raw;

/// CMP or TEST with the Jcc behind it as one step, which saves a dispatch and the flags' way
/// through memory. `SUB` tells CMP from TEST.
fn compare_and_branch<
    W: Raw,
    A: Source,
    B: Source,
    T: Raw,
    const SUB: bool,
    const CC: u8,
    const EXPECTED: bool,
>(
    cpu: &mut Cpu,
    i: &Insn,
    left: &[Insn],
) -> Result<(), Raised> {
    let (Ok(a), Ok(b)) = (A::read::<W>(cpu, i), B::read::<W>(cpu, i)) else {
        // Only memory fails, and only CMP has it here; the branch behind stands in the block too.
        return go_on_slowly(cpu, i, left, arith::cmp::<W, Mem, B>);
    };
    let result = if SUB { a.sub(b) } else { a & b };
    if SUB {
        cpu.flags.after_sub(a, b, result);
    } else {
        cpu.flags.after_logic(result);
    }
    // A run that is cut off between the two leaves the branch for later.
    let [branch, left @ ..] = left else {
        return Ok(());
    };
    let taken = match CC {
        2 if SUB => a < b,
        3 if SUB => a >= b,
        4 => result == W::zero(),
        5 => result != W::zero(),
        6 if SUB => a <= b,
        7 if SUB => a > b,
        12 if SUB => a.to_i64() < b.to_i64(),
        13 if SUB => a.to_i64() >= b.to_i64(),
        14 if SUB => a.to_i64() <= b.to_i64(),
        15 if SUB => a.to_i64() > b.to_i64(),
        _ => cpu.flags.condition::<CC>(),
    };
    branch_if::<T, EXPECTED>(cpu, branch, left, taken)
}

/// The step that does `first` and the branch `second` at once, where there is one.
/// `expected` tells whether the block goes on where the branch leads, or behind it.
pub(crate) fn fuse(first: &Instruction, second: &Instruction, expected: bool) -> Option<Step> {
    match (branch_size(second), expected) {
        (32, false) => fuse_for::<u32, false>(first, second),
        (32, true) => fuse_for::<u32, true>(first, second),
        (64, false) => fuse_for::<u64, false>(first, second),
        (64, true) => fuse_for::<u64, true>(first, second),
        _ => None,
    }
}

/// The step of a branch back into its own block (Jcc expected to be taken, or JMP), after which the
/// block goes on with copies of the instructions there. 16-bit branches wrap, and have none.
pub(crate) fn back(branch: &Instruction) -> Option<Step> {
    match branch_size(branch) {
        32 => back_for::<u32>(branch),
        64 => back_for::<u64>(branch),
        _ => None,
    }
}

fn branch_size(branch: &Instruction) -> u32 {
    branch.code().op_code().operand_size()
}

fn back_for<T: Raw>(branch: &Instruction) -> Option<Step> {
    macro_rules! by_condition {
        ($($cc:literal)*) => {
            match branch.condition_code() as u8 - 1 {
                $($cc => jcc_back::<T, $cc>,)*
                _ => return None,
            }
        };
    }
    if branch.is_jmp_short_or_near() {
        return Some(jmp_back::<T>);
    }
    if !branch.is_jcc_short_or_near() {
        return None;
    }
    Some(by_condition!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
}

/// Jcc back into its own block, expected to be taken.
fn jcc_back<T: Raw, const CC: u8>(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    let taken = cpu.flags.condition::<CC>();
    branch_if::<T, true>(cpu, i, left, taken)
}

fn fuse_for<T: Raw, const EXPECTED: bool>(
    first: &Instruction,
    second: &Instruction,
) -> Option<Step> {
    if !second.is_jcc_short_or_near() {
        return None;
    }
    macro_rules! by_condition {
        ($w:ty, $a:ty, $b:ty, $sub:literal: $($cc:literal)*) => {
            match second.condition_code() as u8 - 1 {
                $($cc => compare_and_branch::<$w, $a, $b, T, $sub, $cc, EXPECTED>,)*
                _ => return None,
            }
        };
    }
    macro_rules! compare {
        ($w:ty, $a:ty, $b:ty) => {
            by_condition!($w, $a, $b, true: 2 3 4 5 6 7 12 13 14 15)
        };
    }
    macro_rules! test {
        ($w:ty) => {
            by_condition!($w, Reg<0>, Reg<1>, false: 4 5 8 9)
        };
    }
    Some(match first.code() {
        Code::Cmp_rm32_r32 | Code::Cmp_r32_rm32 if both_registers(first) => {
            compare!(u32, Reg<0>, Reg<1>)
        }
        Code::Cmp_rm64_r64 | Code::Cmp_r64_rm64 if both_registers(first) => {
            compare!(u64, Reg<0>, Reg<1>)
        }
        Code::Cmp_EAX_imm32 | Code::Cmp_rm32_imm32 | Code::Cmp_rm32_imm8
            if kind(first, 0) == Kind::Reg =>
        {
            compare!(u32, Reg<0>, Imm)
        }
        Code::Cmp_RAX_imm32 | Code::Cmp_rm64_imm32 | Code::Cmp_rm64_imm8
            if kind(first, 0) == Kind::Reg =>
        {
            compare!(u64, Reg<0>, Imm)
        }
        Code::Cmp_AL_imm8 | Code::Cmp_rm8_imm8 if kind(first, 0) == Kind::Reg => {
            compare!(u8, Reg<0>, Imm)
        }
        Code::Cmp_rm8_imm8 if is_flat(first) => compare!(u8, Flat, Imm),
        Code::Cmp_rm8_imm8 => compare!(u8, Fast, Imm),
        Code::Test_rm32_r32 if both_registers(first) => test!(u32),
        Code::Test_rm64_r64 if both_registers(first) => test!(u64),
        Code::Test_rm8_r8 if both_registers(first) => test!(u8),
        _ => return None,
    })
}

fn both_registers(insn: &Instruction) -> bool {
    kind(insn, 0) == Kind::Reg && kind(insn, 1) == Kind::Reg
}
