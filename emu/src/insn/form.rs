//! Operand forms: where a rule's operands lie, chosen at decode.

use iced_x86::{Instruction, OpKind};

use crate::arch::segment::Seg;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;

/// An operand that can be read.
pub(crate) trait Source: 'static {
    /// The operand's value at width `W`.
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised>;
}

/// An operand that can be written.
pub(crate) trait Dest: Source {
    /// Writes the operand.
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised>;
    /// Reads, changes and writes the operand with one translation; returns (old, new).
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised>;
}

/// How a rule reaches the top of the stack.
pub(crate) trait Stack: 'static {
    /// It may fail without a cause, see [`Fast`].
    const FAST: bool;
    /// Pushes one value.
    fn push<W: Raw>(cpu: &mut Cpu, value: W) -> Result<(), Raised>;
    /// The value at `offset` of the stack segment; RSP stays.
    fn load<W: Raw>(cpu: &mut Cpu, offset: u64) -> Result<W, Raised>;
}

/// Operand `K` is a register.
pub(crate) struct Reg<const K: usize>;
/// The memory operand, or the top of the stack.
pub(crate) struct Mem;
/// The memory operand, or the top of the stack, as long as the TLB has its page and it is aligned. Otherwise it fails without
/// a cause, and nothing has happened: the step then runs the rule again with [`Mem`]. The fast step
/// calls nothing, so it saves no registers.
pub(crate) struct Fast;
/// As [`Fast`], in 64-bit code by a 64-bit address in a segment whose base is 0.
pub(crate) struct Flat;
/// The memory operand under LOCK.
pub(crate) struct Locked;
/// The immediate.
pub(crate) struct Imm;

impl<const K: usize> Source for Reg<K> {
    #[inline(always)]
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        Ok(cpu.reg(i.r[K]))
    }
}

impl<const K: usize> Dest for Reg<K> {
    #[inline(always)]
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        cpu.set_reg(i.r[K], value);
        Ok(())
    }
    #[inline(always)]
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        let old = cpu.reg(i.r[K]);
        let new = f(old);
        cpu.set_reg(i.r[K], new);
        Ok((old, new))
    }
}

impl Source for Mem {
    #[inline(always)]
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        cpu.load(i)
    }
}

impl Dest for Mem {
    #[inline(always)]
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        cpu.store(i, value)
    }
    #[inline(always)]
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        cpu.modify(i, f)
    }
}

impl Source for Fast {
    #[inline(always)]
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        cpu.load_fast(i)
    }
}

impl Source for Flat {
    #[inline(always)]
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        cpu.load_flat(i)
    }
}

impl Dest for Fast {
    #[inline(always)]
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        cpu.store_fast(i, value)
    }
    #[inline(always)]
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        cpu.modify_fast(i, f)
    }
}

impl Dest for Flat {
    #[inline(always)]
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        cpu.store_flat(i, value)
    }
    #[inline(always)]
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        cpu.modify_flat(i, f)
    }
}

impl Stack for Mem {
    const FAST: bool = false;
    #[inline(always)]
    fn push<W: Raw>(cpu: &mut Cpu, value: W) -> Result<(), Raised> {
        cpu.push(value)
    }
    #[inline(always)]
    fn load<W: Raw>(cpu: &mut Cpu, offset: u64) -> Result<W, Raised> {
        cpu.load_at(Seg::Ss, offset)
    }
}

impl Stack for Fast {
    const FAST: bool = true;
    #[inline(always)]
    fn push<W: Raw>(cpu: &mut Cpu, value: W) -> Result<(), Raised> {
        cpu.push_fast(value)
    }
    #[inline(always)]
    fn load<W: Raw>(cpu: &mut Cpu, offset: u64) -> Result<W, Raised> {
        cpu.load_stack_fast(offset)
    }
}

impl Stack for Flat {
    const FAST: bool = true;
    #[inline(always)]
    fn push<W: Raw>(cpu: &mut Cpu, value: W) -> Result<(), Raised> {
        cpu.push_flat(value)
    }
    #[inline(always)]
    fn load<W: Raw>(cpu: &mut Cpu, offset: u64) -> Result<W, Raised> {
        cpu.load_stack_flat(offset)
    }
}

impl Source for Locked {
    fn read<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        cpu.load(i)
    }
}

impl Dest for Locked {
    fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, value: W) -> Result<(), Raised> {
        cpu.store(i, value)
    }
    fn modify<W: Raw>(cpu: &mut Cpu, i: &Insn, f: impl Fn(W) -> W) -> Result<(W, W), Raised> {
        cpu.modify_locked(i, f)
    }
}

impl Source for Imm {
    #[inline(always)]
    fn read<W: Raw>(_: &mut Cpu, i: &Insn) -> Result<W, Raised> {
        Ok(W::from_imm(i.imm))
    }
}

/// The kind of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A register.
    Reg,
    /// Memory.
    Mem,
    /// Memory, atomically.
    Locked,
    /// Anything else: an immediate, a branch target, or no operand.
    Imm,
}

/// The kind of operand `k` of an instruction.
pub(crate) fn kind(iced: &Instruction, k: u32) -> Kind {
    if k >= iced.op_count() {
        return Kind::Imm;
    }
    match iced.op_kind(k) {
        OpKind::Register => Kind::Reg,
        OpKind::Memory if iced.has_lock_prefix() => Kind::Locked,
        OpKind::Memory => Kind::Mem,
        _ => Kind::Imm,
    }
}

/// The [`Step`](crate::decode::Step) of a rule.
macro_rules! step {
    ($rule:expr) => {
        |cpu, insn, left| $crate::insn::go_on(cpu, insn, left, $rule)
    };
}
pub(crate) use step;

/// The step of a rule with a memory operand or the stack: with [`Flat`] or [`Fast`], and where that
/// fails, with [`Mem`].
macro_rules! memory_step {
    ($i:expr, $rule:ident<$($t:ty),*> $(($before:ty))? Mem $(($after:ty))?) => {{
        use $crate::insn::form::{Fast, Flat, Mem, step_or};
        const SLOWLY: $crate::decode::Rule = $rule::<$($t,)* $($before,)? Mem $(, $after)?>;
        if $crate::decode::is_flat($i) {
            step_or!($rule::<$($t,)* $($before,)? Flat $(, $after)?>, SLOWLY)
        } else {
            step_or!($rule::<$($t,)* $($before,)? Fast $(, $after)?>, SLOWLY)
        }
    }};
}
pub(crate) use memory_step;

/// The step of a rule that may fail without a cause; another rule then says what happens.
macro_rules! step_or {
    ($rule:expr, $slowly:expr) => {
        |cpu, insn, left| match $rule(cpu, insn) {
            Ok(()) => $crate::insn::next(cpu, left),
            Err(_) => $crate::insn::go_on_slowly(cpu, insn, left, $slowly),
        }
    };
}
pub(crate) use step_or;

/// A row of the table: `row!(shape: rule<types>, [codes])`, with [`Row::ends`](super::Row::ends)
/// behind it when the block must end after the instruction. Shapes:
///
/// - `modify`: operand 0 is read and written, operand 1 read (ADD)
/// - `read2`: operands 0 and 1 are read (CMP)
/// - `move_to`: operand 0 is written, operand 1 read (MOV)
/// - `unary`: operand 0 is read and written (INC)
/// - `read1`: operand 0 is read (MUL, PUSH)
/// - `write1`: operand 0 is written (SETcc)
/// - `to_reg`: operand 0 is a register, operand 1 read (MOVZX); `to_reg2`: operand 2 read (ANDN)
/// - `push`, `pop`: operand 0 is read or written, and the stack used; `stack`: the stack alone
/// - `plain`: the rule has no operand form
macro_rules! row {
    (@row [$($code:ident),* $(,)?] $select:expr) => {
        $crate::insn::Row {
            codes: &[$(iced_x86::Code::$code),*],
            select: $select,
            folds: false,
            end: $crate::insn::End::No,
        }
    };
    (modify: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Imm, Kind, Locked, Reg, kind};
            match (kind(i, 0), kind(i, 1)) {
                (Kind::Reg, Kind::Reg) => step!($rule::<$($t,)* Reg<0>, Reg<1>>),
                (Kind::Reg, Kind::Mem | Kind::Locked) => memory_step!(i, $rule<$($t),*> (Reg<0>) Mem),
                (Kind::Reg, Kind::Imm) => step!($rule::<$($t,)* Reg<0>, Imm>),
                (Kind::Locked, Kind::Imm) => step!($rule::<$($t,)* Locked, Imm>),
                (Kind::Locked, _) => step!($rule::<$($t,)* Locked, Reg<1>>),
                (_, Kind::Imm) => memory_step!(i, $rule<$($t),*> Mem (Imm)),
                (_, _) => memory_step!(i, $rule<$($t),*> Mem (Reg<1>)),
            }
        })
        .folding()
    };
    (read2: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Imm, Kind, Reg, kind};
            match (kind(i, 0), kind(i, 1)) {
                (Kind::Reg, Kind::Reg) => step!($rule::<$($t,)* Reg<0>, Reg<1>>),
                (Kind::Reg, Kind::Imm) => step!($rule::<$($t,)* Reg<0>, Imm>),
                (Kind::Reg, _) => memory_step!(i, $rule<$($t),*> (Reg<0>) Mem),
                (_, Kind::Imm) => memory_step!(i, $rule<$($t),*> Mem (Imm)),
                (_, _) => memory_step!(i, $rule<$($t),*> Mem (Reg<1>)),
            }
        })
        .folding()
    };
    (move_to: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(read2: $rule<$($t),*>, $codes)
    };
    (unary: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Kind, Locked, Reg, kind};
            match kind(i, 0) {
                Kind::Reg => step!($rule::<$($t,)* Reg<0>>),
                Kind::Locked => step!($rule::<$($t,)* Locked>),
                _ => memory_step!(i, $rule<$($t),*> Mem),
            }
        })
        .folding()
    };
    (read1: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Imm, Kind, Reg, kind};
            match kind(i, 0) {
                Kind::Reg => step!($rule::<$($t,)* Reg<0>>),
                Kind::Imm => step!($rule::<$($t,)* Imm>),
                _ => memory_step!(i, $rule<$($t),*> Mem),
            }
        })
        .folding()
    };
    (write1: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Kind, Reg, kind};
            match kind(i, 0) {
                Kind::Reg => step!($rule::<$($t,)* Reg<0>>),
                _ => memory_step!(i, $rule<$($t),*> Mem),
            }
        })
        .folding()
    };
    (to_reg: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Imm, Kind, Reg, kind};
            match kind(i, 1) {
                Kind::Reg => step!($rule::<$($t,)* Reg<1>>),
                Kind::Imm => step!($rule::<$($t,)* Imm>),
                _ => memory_step!(i, $rule<$($t),*> Mem),
            }
        })
        .folding()
    };
    (to_reg2: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Kind, Reg, kind};
            match kind(i, 2) {
                Kind::Reg => step!($rule::<$($t,)* Reg<2>>),
                _ => memory_step!(i, $rule<$($t),*> Mem),
            }
        })
        .folding()
    };
    (push: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Imm, Kind, Mem, Reg, kind};
            match kind(i, 0) {
                Kind::Reg => memory_step!(i, $rule<$($t),*> (Reg<0>) Mem),
                Kind::Imm => memory_step!(i, $rule<$($t),*> (Imm) Mem),
                _ => step!($rule::<$($t,)* Mem, Mem>),
            }
        })
    };
    (pop: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| {
            use $crate::insn::form::{memory_step, step, Kind, Mem, Reg, kind};
            match kind(i, 0) {
                Kind::Reg => memory_step!(i, $rule<$($t),*> (Reg<0>) Mem),
                _ => step!($rule::<$($t,)* Mem, Mem>),
            }
        })
    };
    (stack: $rule:ident<$($t:ty),*>, $codes:tt) => {
        row!(@row $codes |i| $crate::insn::form::memory_step!(i, $rule<$($t),*> Mem))
    };
    (plain: $rule:expr, $codes:tt) => {
        row!(@row $codes |_| $crate::insn::form::step!($rule))
    };
}
pub(crate) use row;
