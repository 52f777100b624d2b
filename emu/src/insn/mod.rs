//! The instruction set: rules by SDM group, and the rows that say which encoding each rule serves.
//!
//! A *rule* is one instruction's meaning, generic over operand width and operand form. A *row*
//! names the iced [`Code`]s a rule serves; its form (register or memory, register or immediate) is
//! picked once, at decode. To add an instruction: a rule and a row in its group's file.

mod adx;
mod arith;
mod atomic;
mod bcd;
mod bit;
mod bmi;
mod branch;
mod control;
mod data;
mod far;
mod far_return;
mod flagctl;
mod form;
pub(crate) mod fuse;
mod interrupt;
mod io;
mod iret;
mod logic;
mod muldiv;
mod segment;
mod shift;
mod sse;
mod stack;
mod string;
mod syscall;
mod system;
mod tables;
mod task;
mod verify;
mod x87;

pub(crate) use system::exact_time;

use iced_x86::{Code, Instruction};

use crate::cpu::{Cpu, RIP, Raised};
use crate::decode::{Insn, Step};

/// What an instruction does to the block it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next instruction follows in the same block.
    No,
    /// The block ends here (the instruction may change modes, events or time); RIP goes on in
    /// sequence.
    Yes,
    /// The block ends here and the rule itself has set RIP.
    Branch,
    /// A conditional branch: the block goes on with the instruction behind it, and is left early
    /// when the branch is taken.
    Maybe,
}

/// One row: which encodings a rule serves.
pub struct Row {
    /// The encodings.
    pub codes: &'static [Code],
    /// Picks the rule for an instruction's operand form.
    pub select: fn(&Instruction) -> Step,
    /// The rule reaches its memory operand by nothing but its address: in 64-bit code the base of FS
    /// or GS may be folded into it.
    pub folds: bool,
    /// What it does to its block; overridden by [`End::Branch`] for what iced calls a branch and
    /// for repeated string instructions.
    pub end: End,
}

impl Row {
    /// The block ends after the instruction.
    #[must_use]
    pub const fn ends(mut self) -> Self {
        self.end = End::Yes;
        self
    }

    /// See [`Row::folds`].
    #[must_use]
    const fn folding(mut self) -> Self {
        self.folds = true;
        self
    }

    /// The instruction is a conditional branch that a block can go on behind.
    #[must_use]
    const fn maybe(mut self) -> Self {
        self.end = End::Maybe;
        self
    }
}

/// Every group's rows.
#[rustfmt::skip]
const GROUPS: &[&[Row]] = &[
    arith::ROWS, adx::ROWS, bcd::ROWS, muldiv::ROWS, logic::ROWS, shift::ROWS,
    bit::ROWS, bit::TESTS, bmi::ROWS, atomic::ROWS, flagctl::ROWS,
    data::ROWS, data::CONDITIONS, data::EXCHANGES, stack::ROWS, string::ROWS, io::ROWS, io::STRINGS,
    branch::ROWS, far::ROWS, far_return::ROWS, interrupt::ROWS, iret::ROWS,
    segment::ROWS, syscall::ROWS, task::ROWS, verify::ROWS,
    control::ROWS, system::ROWS, tables::ROWS,
    x87::arith::ROWS, x87::compare::ROWS, x87::control::ROWS, x87::elementary::ROWS,
    sse::packed::ROWS, sse::packed::LOGIC, sse::packed::SHIFTS, sse::shuffle::ROWS, sse::moves::ROWS,
    sse::float::ROWS, sse::convert::ROWS, sse::horizontal::ROWS, sse::state::ROWS,
    x87::environment::ROWS, x87::load::ROWS, x87::store::ROWS, x87::unary::ROWS,
];

/// Number of iced's codes; iced keeps its own constant to itself, a test compares.
const CODES: usize = 4936;
/// An entry of [`INDEX`] that leads to no row.
const NONE: u16 = u16::MAX;

/// From a code to its row: group in the high byte, row in the low.
static INDEX: [u16; CODES] = index();

const fn index() -> [u16; CODES] {
    let mut index = [NONE; CODES];
    let mut group = 0;
    while group < GROUPS.len() {
        let rows = GROUPS[group];
        assert!(rows.len() < 0xFF, "a group's rows are numbered by one byte");
        let mut row = 0;
        while row < rows.len() {
            let codes = rows[row].codes;
            let mut k = 0;
            while k < codes.len() {
                let code = codes[k] as usize;
                assert!(index[code] == NONE, "a code stands in two rows");
                index[code] = (group << 8 | row) as u16;
                k += 1;
            }
            row += 1;
        }
        group += 1;
    }
    index
}

/// The row that serves `code`, if it is implemented.
pub fn row(code: Code) -> Option<&'static Row> {
    match INDEX[code as usize] {
        NONE => None,
        at => Some(&GROUPS[usize::from(at >> 8)][usize::from(at & 0xFF)]),
    }
}

/// The rule of everything that has no row: #UD.
pub(crate) const UNDEFINED: Step = |cpu, i, left| go_on(cpu, i, left, undefined);

/// #UD.
fn undefined(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.ud()
}

/// Carries out `insn` by `rule`, then goes on with those that are left.
#[inline(always)]
pub(crate) fn go_on(
    cpu: &mut Cpu,
    insn: &Insn,
    left: &[Insn],
    rule: impl Fn(&mut Cpu, &Insn) -> Result<(), Raised>,
) -> Result<(), Raised> {
    if rule(cpu, insn).is_err() {
        return raised(cpu, left);
    }
    next(cpu, left)
}

/// Goes on with the first of the instructions that are left.
#[inline(always)]
fn next(cpu: &mut Cpu, left: &[Insn]) -> Result<(), Raised> {
    match left {
        [insn, left @ ..] => (insn.step)(cpu, insn, left),
        [] => Ok(()),
    }
}

/// Goes on, or if the loop has something to look at, leaves the block.
#[inline(always)]
fn next_or_leave(cpu: &mut Cpu, insn: &Insn, left: &[Insn]) -> Result<(), Raised> {
    if cpu.attention.any() {
        leave(cpu, insn, left);
        return Ok(());
    }
    next(cpu, left)
}

/// Leaves the block behind `insn`.
#[inline(always)]
fn leave(cpu: &mut Cpu, insn: &Insn, left: &[Insn]) {
    if !left.is_empty() {
        cpu.regs[RIP] = cpu.next_rip(insn);
        cpu.left = left.len();
    }
}

/// As [`go_on`], out of the way of the fast steps.
#[cold]
#[inline(never)]
fn go_on_slowly(
    cpu: &mut Cpu,
    insn: &Insn,
    left: &[Insn],
    rule: fn(&mut Cpu, &Insn) -> Result<(), Raised>,
) -> Result<(), Raised> {
    go_on(cpu, insn, left, rule)
}

/// The instruction before those `left` raised: notes how many were not carried out.
#[cold]
#[inline(never)]
fn raised(cpu: &mut Cpu, left: &[Insn]) -> Result<(), Raised> {
    cpu.left = left.len() + 1;
    Err(Raised)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_index_has_a_place_for_every_code() {
        assert_eq!(super::CODES, iced_x86::Code::values().len());
    }
}
