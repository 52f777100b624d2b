//! LGDT, LIDT, SGDT, SIDT, SLDT, STR. SDM Vol. 2, each mnemonic.

use super::Row;
use super::form::{Dest, Kind, Mem, Reg, kind, row, step};
use super::system::{kernel_only, umip};
use crate::arch::segment::{Seg, TableRegister};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::raw::Raw;

/// Limit and base from memory, the base of width `W` of which `BITS` bits count.
fn load_table<W: Raw, const BITS: u32>(cpu: &mut Cpu, i: &Insn) -> Result<TableRegister, Raised> {
    kernel_only(cpu)?;
    let stack = i.seg() == Seg::Ss as usize;
    let linear = cpu.linear_of(i, 2 + W::BYTES, Access::Read)?;
    let limit: u16 = cpu.read_linear(linear, stack)?;
    let after = linear.wrapping_add(2) & cpu.linear_mask;
    let base = cpu.read_linear::<W>(after, stack)?.to_u64() & u64::MAX >> (64 - BITS);
    if BITS == 64 && (base as i64) << 16 >> 16 != base as i64 {
        return cpu.gp(0);
    }
    Ok(TableRegister { base, limit })
}

fn lgdt<W: Raw, const BITS: u32>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.gdtr = load_table::<W, BITS>(cpu, i)?;
    Ok(())
}

fn lidt<W: Raw, const BITS: u32>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.idtr = load_table::<W, BITS>(cpu, i)?;
    Ok(())
}

/// Limit and base to memory. All 32 bits of the base are written at any operand size: the 24 bits
/// the SDM tells of were the 80286's.
fn store_table<W: Raw>(cpu: &mut Cpu, i: &Insn, table: TableRegister) -> Result<(), Raised> {
    let stack = i.seg() == Seg::Ss as usize;
    let linear = cpu.linear_of(i, 2 + W::BYTES, Access::Write)?;
    let after = linear.wrapping_add(2) & cpu.linear_mask;
    cpu.probe_write(linear, 2, stack)?;
    cpu.probe_write(after, W::BYTES, stack)?;
    cpu.write_linear(linear, table.limit, stack)?;
    cpu.write_linear(after, W::from_u64(table.base), stack)
}

fn sgdt<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    umip(cpu)?;
    store_table::<W>(cpu, i, cpu.gdtr)
}

fn sidt<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    umip(cpu)?;
    store_table::<W>(cpu, i, cpu.idtr)
}

/// The selector in LDTR or TR: 16 bits to memory, zero-extended to a register.
fn selector<W: Raw, const SEG: u8, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.real_or_vm86() {
        return cpu.ud();
    }
    umip(cpu)?;
    let selector = cpu.segments[usize::from(SEG)].selector;
    D::write(cpu, i, W::from_u64(u64::from(selector)))
}

const LDTR: u8 = Seg::Ldtr as u8;
const TR: u8 = Seg::Tr as u8;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(plain: lgdt::<u32, 24>, [Lgdt_m1632_16]),
    row!(plain: lgdt::<u32, 32>, [Lgdt_m1632]),
    row!(plain: lgdt::<u64, 64>, [Lgdt_m1664]),
    row!(plain: lidt::<u32, 24>, [Lidt_m1632_16]),
    row!(plain: lidt::<u32, 32>, [Lidt_m1632]),
    row!(plain: lidt::<u64, 64>, [Lidt_m1664]),
    row!(plain: sgdt::<u32>, [Sgdt_m1632_16, Sgdt_m1632]),
    row!(plain: sgdt::<u64>, [Sgdt_m1664]),
    row!(plain: sidt::<u32>, [Sidt_m1632_16, Sidt_m1632]),
    row!(plain: sidt::<u64>, [Sidt_m1664]),
    row!(@row [Sldt_rm16, Sldt_r32m16, Sldt_r64m16] |i| match (kind(i, 0), i.code()) {
        (Kind::Reg, iced_x86::Code::Sldt_rm16) => step!(selector::<u16, LDTR, Reg<0>>),
        (Kind::Reg, _) => step!(selector::<u32, LDTR, Reg<0>>),
        _ => step!(selector::<u16, LDTR, Mem>),
    }),
    row!(@row [Str_rm16, Str_r32m16, Str_r64m16] |i| match (kind(i, 0), i.code()) {
        (Kind::Reg, iced_x86::Code::Str_rm16) => step!(selector::<u16, TR, Reg<0>>),
        (Kind::Reg, _) => step!(selector::<u32, TR, Reg<0>>),
        _ => step!(selector::<u16, TR, Mem>),
    }),
];
