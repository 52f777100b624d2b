//! MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, CMOVcc and other data transfers.
//! SDM Vol. 2, each mnemonic.

use super::Row;
use super::form::{Dest, Kind, Locked, Reg, Source, kind, row, step};
use crate::arch::{Gpr, RFlags};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::mem::raw::Raw;
use crate::width::HIGH_BYTE;

/// AX, EAX or RAX as a register field.
const RAX: u8 = Gpr::Rax as u8;
/// AH as a register field.
const AH: u8 = RAX | HIGH_BYTE;
/// DX, EDX or RDX as a register field.
const RDX: u8 = Gpr::Rdx as u8;

#[inline(always)]
pub(super) fn mov<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = S::read(cpu, i)?;
    D::write(cpu, i, value)
}

/// MOV r64, imm64: the immediate lies in the displacement.
fn mov_imm64(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.set_reg(i.r[0], i.disp as u64);
    Ok(())
}

#[inline(always)]
fn lea<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let address = cpu.effective_address(i);
    cpu.set_reg(i.r[0], W::from_u64(address));
    Ok(())
}

#[inline(always)]
fn movzx<F: Raw, T: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: F = S::read(cpu, i)?;
    cpu.set_reg(i.r[0], T::from_u64(value.to_u64()));
    Ok(())
}

#[inline(always)]
fn movsx<F: Raw, T: Raw, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: F = S::read(cpu, i)?;
    cpu.set_reg(i.r[0], T::from_u64(value.to_i64() as u64));
    Ok(())
}

/// A condition of SETcc and CMOVcc.
pub(super) trait Condition: 'static {
    /// Whether the flags fulfil it.
    fn holds(cpu: &Cpu) -> bool;
}

/// The condition with encoding `CC`.
pub(super) struct Cc<const CC: u8>;

impl<const CC: u8> Condition for Cc<CC> {
    #[inline(always)]
    fn holds(cpu: &Cpu) -> bool {
        cpu.flags.condition::<CC>()
    }
}

/// CMOVcc reads its source and writes its destination whatever the condition: a 32-bit destination
/// is zero-extended even if nothing moves.
#[inline(always)]
fn cmov<W: Raw, C: Condition, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = S::read(cpu, i)?;
    let kept: W = cpu.reg(i.r[0]);
    cpu.set_reg(i.r[0], if C::holds(cpu) { value } else { kept });
    Ok(())
}

#[inline(always)]
fn setcc<C: Condition, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value = u8::from(C::holds(cpu));
    D::write(cpu, i, value)
}

/// XCHG: the form with memory is locked with or without the prefix.
#[inline(always)]
fn xchg<W: Raw, D: Dest>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let b: W = cpu.reg(i.r[1]);
    let (a, _) = D::modify(cpu, i, move |_: W| b)?;
    cpu.set_reg(i.r[1], a);
    Ok(())
}

/// BSWAP of a 16-bit register is undefined: processors clear it.
#[inline(always)]
fn bswap16(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.set_reg(i.r[0], 0u16);
    Ok(())
}

/// `value` with its bytes in reverse order.
#[inline(always)]
fn swapped<W: Raw>(value: W) -> W {
    W::from_u64(value.to_u64().swap_bytes() >> (64 - W::BITS))
}

#[inline(always)]
fn bswap<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = cpu.reg(i.r[0]);
    cpu.set_reg(i.r[0], swapped(value));
    Ok(())
}

#[inline(always)]
fn movbe<W: Raw, D: Dest, S: Source>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let value: W = S::read(cpu, i)?;
    D::write(cpu, i, swapped(value))
}

/// XLAT: the index is AL, zero-extended; the base is BX, EBX or RBX by address size.
#[inline(always)]
fn xlat(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let offset = cpu.regs[Gpr::Rbx as usize].wrapping_add(u64::from(cpu.reg::<u8>(RAX)));
    let value: u8 = cpu.load_at(i.segment(), offset & i.address_mask())?;
    cpu.set_reg(RAX, value);
    Ok(())
}

/// CBW, CWDE, CDQE: sign extension of the lower half of the accumulator into the whole.
#[inline(always)]
fn extend<F: Raw, T: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let value: F = cpu.reg(RAX);
    cpu.set_reg(RAX, T::from_u64(value.to_i64() as u64));
    Ok(())
}

/// CWD, CDQ, CQO: the accumulator's sign in all bits of DX, EDX or RDX.
#[inline(always)]
fn sign<W: Raw>(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let value: W = cpu.reg(RAX);
    cpu.set_reg(RDX, W::from_u64((value.to_i64() >> 63) as u64));
    Ok(())
}

#[inline(always)]
fn lahf(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let flags = cpu.flags.bits() | RFlags::FIXED;
    cpu.set_reg(AH, flags.bits() as u8);
    Ok(())
}

/// SAHF sets all status flags but OF.
#[inline(always)]
fn sahf(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    let ah = RFlags::from_bits_retain(u64::from(cpu.reg::<u8>(AH)));
    let of = cpu.flags.bits() & RFlags::OF;
    cpu.flags.set_bits(ah & RFlags::STATUS | of);
    Ok(())
}

/// Rows of XCHG with memory or a register.
macro_rules! exchanges {
    ($($w:ty: [$($code:ident),*];)*) => {
        &[$(row!(@row [$($code),*] |i| match kind(i, 0) {
            Kind::Reg => step!(xchg::<$w, Reg<0>>),
            _ => step!(xchg::<$w, Locked>),
        }),)*]
    };
}

#[rustfmt::skip]
pub(super) const EXCHANGES: &[Row] = exchanges! {
    u8:  [Xchg_rm8_r8];
    u16: [Xchg_rm16_r16, Xchg_r16_AX];
    u32: [Xchg_rm32_r32, Xchg_r32_EAX];
    u64: [Xchg_rm64_r64, Xchg_r64_RAX];
};

/// Rows of one condition: CMOVcc at each width, and SETcc.
macro_rules! conditions {
    ($($cc:literal: [$cmov16:ident, $cmov32:ident, $cmov64:ident], [$set:ident];)*) => {
        &[$(
            row!(to_reg: cmov<u16, Cc<$cc> >, [$cmov16]),
            row!(to_reg: cmov<u32, Cc<$cc> >, [$cmov32]),
            row!(to_reg: cmov<u64, Cc<$cc> >, [$cmov64]),
            row!(write1: setcc<Cc<$cc> >, [$set]),
        )*]
    };
}

#[rustfmt::skip]
pub(super) const CONDITIONS: &[Row] = conditions! {
    0: [Cmovo_r16_rm16, Cmovo_r32_rm32, Cmovo_r64_rm64], [Seto_rm8];
    1: [Cmovno_r16_rm16, Cmovno_r32_rm32, Cmovno_r64_rm64], [Setno_rm8];
    2: [Cmovb_r16_rm16, Cmovb_r32_rm32, Cmovb_r64_rm64], [Setb_rm8];
    3: [Cmovae_r16_rm16, Cmovae_r32_rm32, Cmovae_r64_rm64], [Setae_rm8];
    4: [Cmove_r16_rm16, Cmove_r32_rm32, Cmove_r64_rm64], [Sete_rm8];
    5: [Cmovne_r16_rm16, Cmovne_r32_rm32, Cmovne_r64_rm64], [Setne_rm8];
    6: [Cmovbe_r16_rm16, Cmovbe_r32_rm32, Cmovbe_r64_rm64], [Setbe_rm8];
    7: [Cmova_r16_rm16, Cmova_r32_rm32, Cmova_r64_rm64], [Seta_rm8];
    8: [Cmovs_r16_rm16, Cmovs_r32_rm32, Cmovs_r64_rm64], [Sets_rm8];
    9: [Cmovns_r16_rm16, Cmovns_r32_rm32, Cmovns_r64_rm64], [Setns_rm8];
    10: [Cmovp_r16_rm16, Cmovp_r32_rm32, Cmovp_r64_rm64], [Setp_rm8];
    11: [Cmovnp_r16_rm16, Cmovnp_r32_rm32, Cmovnp_r64_rm64], [Setnp_rm8];
    12: [Cmovl_r16_rm16, Cmovl_r32_rm32, Cmovl_r64_rm64], [Setl_rm8];
    13: [Cmovge_r16_rm16, Cmovge_r32_rm32, Cmovge_r64_rm64], [Setge_rm8];
    14: [Cmovle_r16_rm16, Cmovle_r32_rm32, Cmovle_r64_rm64], [Setle_rm8];
    15: [Cmovg_r16_rm16, Cmovg_r32_rm32, Cmovg_r64_rm64], [Setg_rm8];
};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(move_to: mov<u8>,  [Mov_rm8_r8, Mov_r8_rm8, Mov_AL_moffs8, Mov_moffs8_AL, Mov_r8_imm8, Mov_rm8_imm8]),
    row!(move_to: mov<u16>, [Mov_rm16_r16, Mov_r16_rm16, Mov_AX_moffs16, Mov_moffs16_AX, Mov_r16_imm16, Mov_rm16_imm16]),
    row!(move_to: mov<u32>, [Mov_rm32_r32, Mov_r32_rm32, Mov_EAX_moffs32, Mov_moffs32_EAX, Mov_r32_imm32, Mov_rm32_imm32]),
    row!(move_to: mov<u64>, [Mov_rm64_r64, Mov_r64_rm64, Mov_RAX_moffs64, Mov_moffs64_RAX, Mov_rm64_imm32]),
    row!(plain: mov_imm64, [Mov_r64_imm64]),
    row!(plain: lea::<u16>, [Lea_r16_m]),
    row!(plain: lea::<u32>, [Lea_r32_m]),
    row!(plain: lea::<u64>, [Lea_r64_m]),
    row!(to_reg: movzx<u8, u16>, [Movzx_r16_rm8]),
    row!(to_reg: movzx<u8, u32>, [Movzx_r32_rm8]),
    row!(to_reg: movzx<u8, u64>, [Movzx_r64_rm8]),
    row!(to_reg: movzx<u16, u16>, [Movzx_r16_rm16]),
    row!(to_reg: movzx<u16, u32>, [Movzx_r32_rm16]),
    row!(to_reg: movzx<u16, u64>, [Movzx_r64_rm16]),
    row!(to_reg: movsx<u8, u16>, [Movsx_r16_rm8]),
    row!(to_reg: movsx<u8, u32>, [Movsx_r32_rm8]),
    row!(to_reg: movsx<u8, u64>, [Movsx_r64_rm8]),
    row!(to_reg: movsx<u16, u16>, [Movsx_r16_rm16]),
    row!(to_reg: movsx<u16, u32>, [Movsx_r32_rm16]),
    row!(to_reg: movsx<u16, u64>, [Movsx_r64_rm16]),
    // Reads four bytes, as AMD's processors do.
    row!(to_reg: movsx<u32, u16>, [Movsxd_r16_rm16]),
    row!(to_reg: movsx<u32, u32>, [Movsxd_r32_rm32]),
    row!(to_reg: movsx<u32, u64>, [Movsxd_r64_rm32]),
    row!(plain: bswap16, [Bswap_r16]),
    row!(plain: bswap::<u32>, [Bswap_r32]),
    row!(plain: bswap::<u64>, [Bswap_r64]),
    row!(move_to: movbe<u16>, [Movbe_r16_m16, Movbe_m16_r16]),
    row!(move_to: movbe<u32>, [Movbe_r32_m32, Movbe_m32_r32]),
    row!(move_to: movbe<u64>, [Movbe_r64_m64, Movbe_m64_r64]),
    row!(plain: xlat, [Xlat_m8]),
    row!(plain: extend::<u8, u16>, [Cbw]),
    row!(plain: extend::<u16, u32>, [Cwde]),
    row!(plain: extend::<u32, u64>, [Cdqe]),
    row!(plain: sign::<u16>, [Cwd]),
    row!(plain: sign::<u32>, [Cdq]),
    row!(plain: sign::<u64>, [Cqo]),
    row!(plain: lahf, [Lahf]),
    row!(plain: sahf, [Sahf]),
];
