//! Two instructions as one step, which saves a dispatch: moves, pushes, pops, calls and returns of
//! 64-bit code that stand behind one another most often in kernels' code.
//!
//! No meaning is written here: a pair runs the rules of its halves.

use iced_x86::{Code, Instruction};

use super::form::{Flat, Imm, Kind, Mem, Reg, kind};
use super::{branch, data, go_on_slowly, next, stack};
use crate::cpu::{Cpu, Raised};
use crate::decode::{Insn, Rule, Step, is_flat};

/// One half of a pair.
trait Half: 'static {
    /// The rule, which may fail without a cause; see [`super::form::Fast`].
    fn quickly(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised>;
    /// The rule that always says what happens.
    const SLOWLY: Rule;
}

/// `A` and, behind it, `B`.
fn both<A: Half, B: Half>(cpu: &mut Cpu, i: &Insn, left: &[Insn]) -> Result<(), Raised> {
    if A::quickly(cpu, i).is_err() {
        return go_on_slowly(cpu, i, left, A::SLOWLY);
    }
    // A run that is cut off between the two leaves the second for later.
    let [i, left @ ..] = left else {
        return Ok(());
    };
    if B::quickly(cpu, i).is_err() {
        return go_on_slowly(cpu, i, left, B::SLOWLY);
    }
    next(cpu, left)
}

macro_rules! halves {
    ($($(#[$doc:meta])* $name:ident: $quickly:expr, $slowly:expr;)*) => {
        $(
            $(#[$doc])*
            struct $name;
            impl Half for $name {
                #[inline(always)]
                fn quickly(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
                    $quickly(cpu, i)
                }
                const SLOWLY: Rule = $slowly;
            }
        )*
        /// What an instruction can be in a pair.
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Part { $($name,)* }
    };
}

halves! {
    /// MOV r64, r64.
    Move: data::mov::<u64, Reg<0>, Reg<1>>, data::mov::<u64, Reg<0>, Reg<1>>;
    /// MOV r32, r32.
    Move32: data::mov::<u32, Reg<0>, Reg<1>>, data::mov::<u32, Reg<0>, Reg<1>>;
    /// MOV r32, imm32.
    Set32: data::mov::<u32, Reg<0>, Imm>, data::mov::<u32, Reg<0>, Imm>;
    /// MOV r64, imm32.
    Set: data::mov::<u64, Reg<0>, Imm>, data::mov::<u64, Reg<0>, Imm>;
    /// MOV r64, m64.
    Load: data::mov::<u64, Reg<0>, Flat>, data::mov::<u64, Reg<0>, Mem>;
    /// MOV m64, r64.
    Store: data::mov::<u64, Flat, Reg<1>>, data::mov::<u64, Mem, Reg<1>>;
    /// PUSH r64.
    Push: stack::push::<u64, Reg<0>, Flat>, stack::push::<u64, Reg<0>, Mem>;
    /// POP r64.
    Pop: stack::pop::<u64, Reg<0>, Flat>, stack::pop::<u64, Reg<0>, Mem>;
    /// CALL rel32.
    Call: branch::call::<u64, Flat>, branch::call::<u64, Mem>;
    /// RET.
    Ret: branch::ret::<u64, Flat>, branch::ret::<u64, Mem>;
}

/// What `iced`, an instruction of 64-bit code, can be in a pair.
fn part(iced: &Instruction) -> Option<Part> {
    let registers = kind(iced, 0) == Kind::Reg && kind(iced, 1) == Kind::Reg;
    Some(match iced.code() {
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if registers => Part::Move,
        Code::Mov_r32_rm32 | Code::Mov_rm32_r32 if registers => Part::Move32,
        Code::Mov_r32_imm32 => Part::Set32,
        Code::Mov_rm64_imm32 if kind(iced, 0) == Kind::Reg => Part::Set,
        Code::Mov_r64_rm64 if is_flat(iced) => Part::Load,
        Code::Mov_rm64_r64 if is_flat(iced) => Part::Store,
        Code::Push_r64 => Part::Push,
        Code::Pop_r64 => Part::Pop,
        Code::Call_rel32_64 => Part::Call,
        Code::Retnq => Part::Ret,
        _ => return None,
    })
}

/// The step that does `first` and `second` at once, where there is one.
pub(crate) fn pair(first: &Instruction, second: &Instruction) -> Option<Step> {
    macro_rules! pairs {
        ($($a:ident, $b:ident;)*) => {
            match (part(first)?, part(second)?) {
                $((Part::$a, Part::$b) => both::<$a, $b>,)*
                _ => return None,
            }
        };
    }
    if !is_flat(first) {
        return None;
    }
    Some(pairs! {
        Push, Push; Push, Move; Move, Push; Pop, Pop; Pop, Ret;
        Move, Move; Move, Call; Move, Load; Move, Move32; Move32, Move; Move32, Call; Move32, Move32;
        Set, Call; Set32, Call; Set32, Move; Set, Move;
        Load, Load; Load, Move; Load, Store; Load, Call; Store, Store; Store, Load; Store, Call;
    })
}
