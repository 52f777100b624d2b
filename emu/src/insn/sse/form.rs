//! Vector operands and the rows' macros.

use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::insn::form::{Fast, Flat};

/// An operand that is read as a value of type `V`.
pub(super) trait Operand<V> {
    /// Reads it.
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<V, Raised>;
}

/// Operand `K` is an XMM register; read narrower, its low part.
pub(super) struct Xmm<const K: usize>;
/// Operand `K` is an MMX register.
pub(super) struct Mm<const K: usize>;
/// Operand `K` is a general-purpose register.
pub(super) struct Gpr<const K: usize>;
/// Memory; sixteen bytes must be aligned.
pub(super) struct Memory;
/// Memory of sixteen bytes at any address.
pub(super) struct Unaligned;

/// Sixteen bytes as one number.
impl<T: Operand<[u8; 16]>> Operand<u128> for T {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u128, Raised> {
        T::read(cpu, i).map(u128::from_le_bytes)
    }
}

impl<const K: usize> Operand<[u8; 16]> for Xmm<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 16], Raised> {
        Ok(cpu.xmm_bytes(i.r[K]))
    }
}

impl<const K: usize> Operand<u64> for Xmm<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        Ok(cpu.xmm(i.r[K]) as u64)
    }
}

impl<const K: usize> Operand<u32> for Xmm<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        Ok(cpu.xmm(i.r[K]) as u32)
    }
}

impl<const K: usize> Operand<u64> for Mm<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        Ok(cpu.mm(i.r[K]))
    }
}

impl<const K: usize> Operand<u32> for Mm<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        Ok(cpu.mm(i.r[K]) as u32)
    }
}

impl<const K: usize> Operand<u64> for Gpr<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        Ok(cpu.reg(i.r[K]))
    }
}

impl<const K: usize> Operand<u32> for Gpr<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        Ok(cpu.reg(i.r[K]))
    }
}

impl<const K: usize> Operand<u16> for Gpr<K> {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u16, Raised> {
        Ok(cpu.reg(i.r[K]))
    }
}

impl Operand<[u8; 16]> for Memory {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 16], Raised> {
        cpu.load_wide(i, true)
    }
}

impl Operand<[u8; 16]> for Unaligned {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 16], Raised> {
        cpu.load_wide(i, false)
    }
}

impl Operand<u64> for Memory {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        cpu.load(i)
    }
}

impl Operand<u32> for Memory {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        cpu.load(i)
    }
}

impl Operand<u16> for Memory {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u16, Raised> {
        cpu.load(i)
    }
}

impl Operand<[u8; 16]> for Fast {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 16], Raised> {
        cpu.load_wide_fast(i)
    }
}

impl Operand<[u8; 16]> for Flat {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<[u8; 16], Raised> {
        cpu.load_wide_flat(i)
    }
}

impl Operand<u64> for Fast {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        cpu.load_fast(i)
    }
}

impl Operand<u64> for Flat {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u64, Raised> {
        cpu.load_flat(i)
    }
}

impl Operand<u32> for Fast {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        cpu.load_fast(i)
    }
}

impl Operand<u32> for Flat {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u32, Raised> {
        cpu.load_flat(i)
    }
}

impl Operand<u16> for Fast {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u16, Raised> {
        cpu.load_fast(i)
    }
}

impl Operand<u16> for Flat {
    #[inline(always)]
    fn read(cpu: &mut Cpu, i: &Insn) -> Result<u16, Raised> {
        cpu.load_flat(i)
    }
}

/// A row of a vector instruction: `vector!(rule, REGISTER or MEMORY, [codes])`. The rule is a
/// function generic over the form of operand 1, with arguments before its `cpu` and `insn` taken
/// from the parentheses behind its name.
///
/// With memory it runs with [`Flat`] or [`Fast`] first: what a rule has done when it fails (a flag in MXCSR, the
/// x87's state) it does again with the form that tells the cause, to the same end.
macro_rules! vector {
    ($rule:ident $(::<$($t:tt),*>)? ($($argument:expr),*), $reg:ty | $mem:ty, [$($code:ident),* $(,)?]) => {
        row!(@row [$($code),*] |i| {
            use $crate::insn::form::{Kind, kind, step};
            match kind(i, 1) {
                Kind::Reg => step!(|cpu: &mut Cpu, i: &Insn| $rule::<$($($t,)*)? $reg>(cpu, i $(, $argument)*)),
                _ => {
                    use $crate::insn::form::{Fast, Flat, step_or};
                    const SLOWLY: $crate::decode::Rule =
                        |cpu, i| $rule::<$($($t,)*)? $mem>(cpu, i $(, $argument)*);
                    if $crate::decode::is_flat(i) && !$crate::decode::has_base(i) {
                        step_or!(|cpu, i| $rule::<$($($t,)*)? Flat>(cpu, i $(, $argument)*), SLOWLY)
                    } else {
                        step_or!(|cpu, i| $rule::<$($($t,)*)? Fast>(cpu, i $(, $argument)*), SLOWLY)
                    }
                }
            }
        })
    };
}
pub(super) use vector;
