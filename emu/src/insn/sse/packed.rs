//! Packed integers: arithmetic, comparison, logic, shifts. SDM Vol. 1, "MMX Instructions", "SSE2
//! 128-Bit SIMD Integer Instructions".

use super::form::{Memory, Mm, Operand, Xmm, vector};
use super::lanes::Lanes;
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::insn::Row;
use crate::insn::form::row;

/// MMX: operand 0 becomes `f(operand 0, operand 1)`.
#[inline(always)]
pub(super) fn mmx<S: Operand<u64>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn([u8; 8], [u8; 8]) -> [u8; 8],
) -> Result<(), Raised> {
    cpu.mmx()?;
    let b = S::read(cpu, i)?;
    cpu.enter_mmx();
    let result = f(cpu.mm(i.r[0]).to_le_bytes(), b.to_le_bytes());
    cpu.set_mm(i.r[0], u64::from_le_bytes(result));
    Ok(())
}

/// XMM: the same, of numbers.
#[inline(always)]
pub(super) fn xmm<S: Operand<u128>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn(u128, u128) -> u128,
) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    cpu.set_xmm(i.r[0], f(cpu.xmm(i.r[0]), b));
    Ok(())
}

/// XMM: the same, of lanes.
#[inline(always)]
pub(super) fn xmm_lanes<S: Operand<[u8; 16]>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn([u8; 16], [u8; 16]) -> [u8; 16],
) -> Result<(), Raised> {
    cpu.sse()?;
    let b = S::read(cpu, i)?;
    cpu.set_xmm_bytes(i.r[0], f(cpu.xmm_bytes(i.r[0]), b));
    Ok(())
}

/// Shift by the immediate, operand 0 being a register of MMX, ...
fn shift_mmx(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn([u8; 8], [u8; 8]) -> [u8; 8],
) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.enter_mmx();
    let by = Lanes::from_low(u64::from(i.imm as u8));
    let result = f(cpu.mm(i.r[0]).to_le_bytes(), by);
    cpu.set_mm(i.r[0], u64::from_le_bytes(result));
    Ok(())
}

/// ... or of XMM.
fn shift_xmm(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn([u8; 16], [u8; 16]) -> [u8; 16],
) -> Result<(), Raised> {
    cpu.sse()?;
    let by = Lanes::from_low(u64::from(i.imm as u8));
    cpu.set_xmm_bytes(i.r[0], f(cpu.xmm_bytes(i.r[0]), by));
    Ok(())
}

macro_rules! operations {
    ($($name:ident: $lane:ident($a:ident, $b:ident) $result:expr;)*) => {$(
        #[inline(always)]
        fn $name<V: Lanes>(a: V, b: V) -> V {
            a.$lane(b, |$a, $b| $result)
        }
    )*};
}

operations! {
    paddb: bytes(a, b) a.wrapping_add(b);
    paddw: words(a, b) a.wrapping_add(b);
    paddd: doubles(a, b) a.wrapping_add(b);
    paddq: quads(a, b) a.wrapping_add(b);
    psubb: bytes(a, b) a.wrapping_sub(b);
    psubw: words(a, b) a.wrapping_sub(b);
    psubd: doubles(a, b) a.wrapping_sub(b);
    psubq: quads(a, b) a.wrapping_sub(b);
    paddsb: bytes(a, b) (a as i8).saturating_add(b as i8) as u8;
    paddsw: words(a, b) (a as i16).saturating_add(b as i16) as u16;
    paddusb: bytes(a, b) a.saturating_add(b);
    paddusw: words(a, b) a.saturating_add(b);
    psubsb: bytes(a, b) (a as i8).saturating_sub(b as i8) as u8;
    psubsw: words(a, b) (a as i16).saturating_sub(b as i16) as u16;
    psubusb: bytes(a, b) a.saturating_sub(b);
    psubusw: words(a, b) a.saturating_sub(b);
    pmullw: words(a, b) a.wrapping_mul(b);
    pmulhw: words(a, b) ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16;
    pmulhuw: words(a, b) ((u32::from(a) * u32::from(b)) >> 16) as u16;
    pmuludq: quads(a, b) (a & 0xFFFF_FFFF) * (b & 0xFFFF_FFFF);
    pmaddwd: doubles(a, b) products(a, b);
    pavgb: bytes(a, b) ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    pavgw: words(a, b) ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    pmaxub: bytes(a, b) a.max(b);
    pmaxsw: words(a, b) (a as i16).max(b as i16) as u16;
    pminub: bytes(a, b) a.min(b);
    pminsw: words(a, b) (a as i16).min(b as i16) as u16;
    psadbw: quads(a, b) distance(a, b);
    pand: quads(a, b) a & b;
    pandn: quads(a, b) !a & b;
    por: quads(a, b) a | b;
    pxor: quads(a, b) a ^ b;
    pcmpeqb: bytes(a, b) if a == b { u8::MAX } else { 0 };
    pcmpeqw: words(a, b) if a == b { u16::MAX } else { 0 };
    pcmpeqd: doubles(a, b) if a == b { u32::MAX } else { 0 };
    pcmpgtb: bytes(a, b) if a as i8 > b as i8 { u8::MAX } else { 0 };
    pcmpgtw: words(a, b) if a as i16 > b as i16 { u16::MAX } else { 0 };
    pcmpgtd: doubles(a, b) if a as i32 > b as i32 { u32::MAX } else { 0 };
}

/// The sum of the products of two pairs of signed words; all four at their minimum wrap.
#[inline(always)]
fn products(a: u32, b: u32) -> u32 {
    let product = |at: u32| i32::from((a >> at) as i16) * i32::from((b >> at) as i16);
    product(0).wrapping_add(product(16)) as u32
}

/// The sum of the distances of eight pairs of bytes.
#[inline(always)]
fn distance(a: u64, b: u64) -> u64 {
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.map(|(a, b)| u64::from(a.abs_diff(b))).sum()
}

/// Shifts: the count is all of operand 1's low quadword.
macro_rules! shifts {
    ($($name:ident: $lane:ident($bits:literal) |$a:ident, $n:ident| $result:expr, |$b:pat_param| $beyond:expr;)*) => {$(
        #[inline(always)]
        fn $name<V: Lanes>(a: V, by: V) -> V {
            let count = by.low();
            if count >= $bits {
                return a.$lane(a, |$b, _| $beyond);
            }
            let $n = count as u32;
            a.$lane(a, |$a, _| $result)
        }
    )*};
}

shifts! {
    psllw: words(16) |a, n| a << n, |_| 0;
    pslld: doubles(32) |a, n| a << n, |_| 0;
    psllq: quads(64) |a, n| a << n, |_| 0;
    psrlw: words(16) |a, n| a >> n, |_| 0;
    psrld: doubles(32) |a, n| a >> n, |_| 0;
    psrlq: quads(64) |a, n| a >> n, |_| 0;
    psraw: words(16) |a, n| (a as i16 >> n) as u16, |a| (a as i16 >> 15) as u16;
    psrad: doubles(32) |a, n| (a as i32 >> n) as u32, |a| (a as i32 >> 31) as u32;
}

/// Shifts the whole register by bytes.
#[inline(always)]
fn pslldq(a: [u8; 16], by: [u8; 16]) -> [u8; 16] {
    let bits = 8 * by.low().min(16) as u32;
    let shifted = u128::from_le_bytes(a).checked_shl(bits);
    shifted.unwrap_or(0).to_le_bytes()
}

#[inline(always)]
fn psrldq(a: [u8; 16], by: [u8; 16]) -> [u8; 16] {
    let bits = 8 * by.low().min(16) as u32;
    let shifted = u128::from_le_bytes(a).checked_shr(bits);
    shifted.unwrap_or(0).to_le_bytes()
}

macro_rules! both {
    ($($op:ident: $mmx:ident, $xmm:ident;)*) => {
        &[$(
            vector!(mmx(|a, b| $op(a, b)), Mm<1> | Memory, [$mmx]),
            vector!(xmm_lanes(|a, b| $op(a, b)), Xmm<1> | Memory, [$xmm]),
        )*]
    };
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = both! {
    paddb: Paddb_mm_mmm64, Paddb_xmm_xmmm128;
    paddw: Paddw_mm_mmm64, Paddw_xmm_xmmm128;
    paddd: Paddd_mm_mmm64, Paddd_xmm_xmmm128;
    paddq: Paddq_mm_mmm64, Paddq_xmm_xmmm128;
    psubb: Psubb_mm_mmm64, Psubb_xmm_xmmm128;
    psubw: Psubw_mm_mmm64, Psubw_xmm_xmmm128;
    psubd: Psubd_mm_mmm64, Psubd_xmm_xmmm128;
    psubq: Psubq_mm_mmm64, Psubq_xmm_xmmm128;
    paddsb: Paddsb_mm_mmm64, Paddsb_xmm_xmmm128;
    paddsw: Paddsw_mm_mmm64, Paddsw_xmm_xmmm128;
    paddusb: Paddusb_mm_mmm64, Paddusb_xmm_xmmm128;
    paddusw: Paddusw_mm_mmm64, Paddusw_xmm_xmmm128;
    psubsb: Psubsb_mm_mmm64, Psubsb_xmm_xmmm128;
    psubsw: Psubsw_mm_mmm64, Psubsw_xmm_xmmm128;
    psubusb: Psubusb_mm_mmm64, Psubusb_xmm_xmmm128;
    psubusw: Psubusw_mm_mmm64, Psubusw_xmm_xmmm128;
    pmullw: Pmullw_mm_mmm64, Pmullw_xmm_xmmm128;
    pmulhw: Pmulhw_mm_mmm64, Pmulhw_xmm_xmmm128;
    pmulhuw: Pmulhuw_mm_mmm64, Pmulhuw_xmm_xmmm128;
    pmuludq: Pmuludq_mm_mmm64, Pmuludq_xmm_xmmm128;
    pmaddwd: Pmaddwd_mm_mmm64, Pmaddwd_xmm_xmmm128;
    pavgb: Pavgb_mm_mmm64, Pavgb_xmm_xmmm128;
    pavgw: Pavgw_mm_mmm64, Pavgw_xmm_xmmm128;
    pmaxub: Pmaxub_mm_mmm64, Pmaxub_xmm_xmmm128;
    pmaxsw: Pmaxsw_mm_mmm64, Pmaxsw_xmm_xmmm128;
    pminub: Pminub_mm_mmm64, Pminub_xmm_xmmm128;
    pminsw: Pminsw_mm_mmm64, Pminsw_xmm_xmmm128;
    psadbw: Psadbw_mm_mmm64, Psadbw_xmm_xmmm128;
};

#[rustfmt::skip]
pub(in crate::insn) const LOGIC: &[Row] = both! {
    pand: Pand_mm_mmm64, Pand_xmm_xmmm128;
    pandn: Pandn_mm_mmm64, Pandn_xmm_xmmm128;
    por: Por_mm_mmm64, Por_xmm_xmmm128;
    pxor: Pxor_mm_mmm64, Pxor_xmm_xmmm128;
    pcmpeqb: Pcmpeqb_mm_mmm64, Pcmpeqb_xmm_xmmm128;
    pcmpeqw: Pcmpeqw_mm_mmm64, Pcmpeqw_xmm_xmmm128;
    pcmpeqd: Pcmpeqd_mm_mmm64, Pcmpeqd_xmm_xmmm128;
    pcmpgtb: Pcmpgtb_mm_mmm64, Pcmpgtb_xmm_xmmm128;
    pcmpgtw: Pcmpgtw_mm_mmm64, Pcmpgtw_xmm_xmmm128;
    pcmpgtd: Pcmpgtd_mm_mmm64, Pcmpgtd_xmm_xmmm128;
    psllw: Psllw_mm_mmm64, Psllw_xmm_xmmm128;
    pslld: Pslld_mm_mmm64, Pslld_xmm_xmmm128;
    psllq: Psllq_mm_mmm64, Psllq_xmm_xmmm128;
    psrlw: Psrlw_mm_mmm64, Psrlw_xmm_xmmm128;
    psrld: Psrld_mm_mmm64, Psrld_xmm_xmmm128;
    psrlq: Psrlq_mm_mmm64, Psrlq_xmm_xmmm128;
    psraw: Psraw_mm_mmm64, Psraw_xmm_xmmm128;
    psrad: Psrad_mm_mmm64, Psrad_xmm_xmmm128;
};

macro_rules! immediate {
    ($($op:ident: $mmx:ident, $xmm:ident;)*) => {
        &[$(
            row!(plain: |cpu: &mut Cpu, i: &Insn| shift_mmx(cpu, i, |a, b| $op(a, b)), [$mmx]),
            row!(plain: |cpu: &mut Cpu, i: &Insn| shift_xmm(cpu, i, |a, b| $op(a, b)), [$xmm]),
        )*
            row!(plain: |cpu: &mut Cpu, i: &Insn| shift_xmm(cpu, i, pslldq), [Pslldq_xmm_imm8]),
            row!(plain: |cpu: &mut Cpu, i: &Insn| shift_xmm(cpu, i, psrldq), [Psrldq_xmm_imm8]),
        ]
    };
}

#[rustfmt::skip]
pub(in crate::insn) const SHIFTS: &[Row] = immediate! {
    psllw: Psllw_mm_imm8, Psllw_xmm_imm8;
    pslld: Pslld_mm_imm8, Pslld_xmm_imm8;
    psllq: Psllq_mm_imm8, Psllq_xmm_imm8;
    psrlw: Psrlw_mm_imm8, Psrlw_xmm_imm8;
    psrld: Psrld_mm_imm8, Psrld_xmm_imm8;
    psrlq: Psrlq_mm_imm8, Psrlq_xmm_imm8;
    psraw: Psraw_mm_imm8, Psraw_xmm_imm8;
    psrad: Psrad_mm_imm8, Psrad_xmm_imm8;
};
