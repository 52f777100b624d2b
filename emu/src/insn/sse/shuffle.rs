//! The order of lanes: unpack, pack, shuffle, insert, extract, masks. SDM Vol. 1, "Shuffle and
//! Unpack Instructions" of each extension.

use super::form::{Gpr, Memory, Mm, Operand, Xmm, vector};
use super::packed::{mmx, xmm, xmm_lanes};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::insn::Row;
use crate::insn::form::row;
use crate::mem::raw::Raw;

/// Interleaves lanes of `width` bytes of the `len` bytes from `from` on.
#[inline(always)]
fn interleave<const N: usize>(a: [u8; N], b: [u8; N], width: usize, from: usize) -> [u8; N] {
    let mut out = [0; N];
    for lane in 0..N / 2 / width {
        let (at, to) = (from + lane * width, 2 * lane * width);
        out[to..to + width].copy_from_slice(&a[at..at + width]);
        out[to + width..to + 2 * width].copy_from_slice(&b[at..at + width]);
    }
    out
}

macro_rules! unpack {
    ($($name:ident: $width:literal, $high:literal;)*) => {$(
        #[inline(always)]
        fn $name<const N: usize>(a: [u8; N], b: [u8; N]) -> [u8; N] {
            interleave(a, b, $width, if $high { N / 2 } else { 0 })
        }
    )*};
}

unpack! {
    lbw: 1, false;
    lwd: 2, false;
    ldq: 4, false;
    lqdq: 8, false;
    hbw: 1, true;
    hwd: 2, true;
    hdq: 4, true;
    hqdq: 8, true;
}

/// The low unpack of MMX reads 32 bits of memory.
#[inline(always)]
fn low<S: Operand<u32>>(
    cpu: &mut Cpu,
    i: &Insn,
    f: impl Fn([u8; 8], [u8; 8]) -> [u8; 8],
) -> Result<(), Raised> {
    cpu.mmx()?;
    let b = u64::from(S::read(cpu, i)?);
    cpu.enter_mmx();
    let result = f(cpu.mm(i.r[0]).to_le_bytes(), b.to_le_bytes());
    cpu.set_mm(i.r[0], u64::from_le_bytes(result));
    Ok(())
}

/// Lanes of `a` (low half) and `b` (high half), as signed, narrowed to the nearest there is.
macro_rules! pack {
    ($($name:ident: $wide:ty => $narrow:ty;)*) => {$(
        #[inline(always)]
        fn $name<const N: usize>(a: [u8; N], b: [u8; N]) -> [u8; N] {
            const WIDE: usize = size_of::<$wide>();
            const NARROW: usize = size_of::<$narrow>();
            let mut out = [0; N];
            for (half, v) in [a, b].into_iter().enumerate() {
                for lane in 0..N / WIDE {
                    let bytes = std::array::from_fn(|byte| v[lane * WIDE + byte]);
                    let value = <$wide>::from_le_bytes(bytes);
                    let least = <$wide>::from(<$narrow>::MIN);
                    let clamped = value.clamp(least, <$narrow>::MAX.into()) as $narrow;
                    let to = half * N / 2 + lane * NARROW;
                    out[to..to + NARROW].copy_from_slice(&clamped.to_le_bytes());
                }
            }
            out
        }
    )*};
}

pack! {
    packsswb: i16 => i8;
    packssdw: i32 => i16;
    packuswb: i16 => u8;
}

/// The four lanes of `bits` bits that the immediate chooses.
#[inline(always)]
fn chosen(v: u128, bits: u32, imm: i32) -> u128 {
    let mask = (1 << bits) - 1;
    (0..4).fold(0, |all, n| {
        let lane = (imm >> (2 * n)) as u32 & 3;
        all | (v >> (lane * bits) & mask) << (n * bits)
    })
}

fn pshufw<S: Operand<u64>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    let b = S::read(cpu, i)?;
    cpu.enter_mmx();
    cpu.set_mm(i.r[0], chosen(b.into(), 16, i.imm) as u64);
    Ok(())
}

fn pshufd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    xmm::<S>(cpu, i, |_, b| chosen(b, 32, i.imm))
}

fn pshuflw<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    xmm::<S>(cpu, i, |_, b| b >> 64 << 64 | chosen(b, 16, i.imm))
}

fn pshufhw<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    xmm::<S>(cpu, i, |_, b| {
        b & u128::from(u64::MAX) | chosen(b >> 64, 16, i.imm) << 64
    })
}

fn shufps<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    xmm::<S>(cpu, i, |a, b| {
        let low = chosen(a, 32, i.imm) & u128::from(u64::MAX);
        low | chosen(b, 32, i.imm) >> 64 << 64
    })
}

fn shufpd<S: Operand<u128>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let quad = |v: u128, high: bool| u128::from((v >> if high { 64 } else { 0 }) as u64);
    xmm::<S>(cpu, i, |a, b| {
        quad(a, i.imm & 1 != 0) | quad(b, i.imm & 2 != 0) << 64
    })
}

fn pinsrw_mmx<S: Operand<u16>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    let word = S::read(cpu, i)?;
    cpu.enter_mmx();
    let at = (i.imm as u32 & 3) * 16;
    let others = cpu.mm(i.r[0]) & !(0xFFFF << at);
    cpu.set_mm(i.r[0], others | u64::from(word) << at);
    Ok(())
}

fn pinsrw_xmm<S: Operand<u16>>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let word = S::read(cpu, i)?;
    let at = (i.imm as u32 & 7) * 16;
    let others = cpu.xmm(i.r[0]) & !(0xFFFF << at);
    cpu.set_xmm(i.r[0], others | u128::from(word) << at);
    Ok(())
}

fn pextrw_mmx<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.enter_mmx();
    let word = cpu.mm(i.r[1]) >> ((i.imm as u32 & 3) * 16) & 0xFFFF;
    cpu.set_reg(i.r[0], W::from_u64(word));
    Ok(())
}

fn pextrw_xmm<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let word = (cpu.xmm(i.r[1]) >> ((i.imm as u32 & 7) * 16)) as u16;
    cpu.set_reg(i.r[0], W::from_u64(word.into()));
    Ok(())
}

/// The sign bits of lanes of `bits` bits.
#[inline(always)]
fn signs(v: u128, bits: u32, lanes: u32) -> u64 {
    (0..lanes).fold(0, |all, n| {
        all | ((v >> (n * bits + bits - 1)) as u64 & 1) << n
    })
}

/// The sign bits of eight bytes: the product has the one of byte n at bit 56 + n.
#[inline(always)]
fn byte_signs(v: u64) -> u64 {
    (v & 0x8080_8080_8080_8080).wrapping_mul(0x0002_0408_1020_4081) >> 56
}

fn pmovmskb_mmx<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.enter_mmx();
    let mask = byte_signs(cpu.mm(i.r[1]));
    cpu.set_reg(i.r[0], W::from_u64(mask));
    Ok(())
}

fn pmovmskb_xmm<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let v = cpu.xmm(i.r[1]);
    let mask = byte_signs(v as u64) | byte_signs((v >> 64) as u64) << 8;
    cpu.set_reg(i.r[0], W::from_u64(mask));
    Ok(())
}

fn movmsk<W: Raw, const BITS: u32>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let mask = signs(cpu.xmm(i.r[1]), BITS, 128 / BITS);
    cpu.set_reg(i.r[0], W::from_u64(mask));
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    vector!(low(lbw), Mm<1> | Memory, [Punpcklbw_mm_mmm32]),
    vector!(low(lwd), Mm<1> | Memory, [Punpcklwd_mm_mmm32]),
    vector!(low(ldq), Mm<1> | Memory, [Punpckldq_mm_mmm32]),
    vector!(mmx(hbw), Mm<1> | Memory, [Punpckhbw_mm_mmm64]),
    vector!(mmx(hwd), Mm<1> | Memory, [Punpckhwd_mm_mmm64]),
    vector!(mmx(hdq), Mm<1> | Memory, [Punpckhdq_mm_mmm64]),
    vector!(xmm_lanes(lbw), Xmm<1> | Memory, [Punpcklbw_xmm_xmmm128]),
    vector!(xmm_lanes(lwd), Xmm<1> | Memory, [Punpcklwd_xmm_xmmm128]),
    vector!(xmm_lanes(ldq), Xmm<1> | Memory, [Punpckldq_xmm_xmmm128, Unpcklps_xmm_xmmm128]),
    vector!(xmm_lanes(lqdq), Xmm<1> | Memory, [Punpcklqdq_xmm_xmmm128, Unpcklpd_xmm_xmmm128]),
    vector!(xmm_lanes(hbw), Xmm<1> | Memory, [Punpckhbw_xmm_xmmm128]),
    vector!(xmm_lanes(hwd), Xmm<1> | Memory, [Punpckhwd_xmm_xmmm128]),
    vector!(xmm_lanes(hdq), Xmm<1> | Memory, [Punpckhdq_xmm_xmmm128, Unpckhps_xmm_xmmm128]),
    vector!(xmm_lanes(hqdq), Xmm<1> | Memory, [Punpckhqdq_xmm_xmmm128, Unpckhpd_xmm_xmmm128]),
    vector!(mmx(packsswb), Mm<1> | Memory, [Packsswb_mm_mmm64]),
    vector!(xmm_lanes(packsswb), Xmm<1> | Memory, [Packsswb_xmm_xmmm128]),
    vector!(mmx(packssdw), Mm<1> | Memory, [Packssdw_mm_mmm64]),
    vector!(xmm_lanes(packssdw), Xmm<1> | Memory, [Packssdw_xmm_xmmm128]),
    vector!(mmx(packuswb), Mm<1> | Memory, [Packuswb_mm_mmm64]),
    vector!(xmm_lanes(packuswb), Xmm<1> | Memory, [Packuswb_xmm_xmmm128]),
    vector!(pshufw(), Mm<1> | Memory, [Pshufw_mm_mmm64_imm8]),
    vector!(pshufd(), Xmm<1> | Memory, [Pshufd_xmm_xmmm128_imm8]),
    vector!(pshuflw(), Xmm<1> | Memory, [Pshuflw_xmm_xmmm128_imm8]),
    vector!(pshufhw(), Xmm<1> | Memory, [Pshufhw_xmm_xmmm128_imm8]),
    vector!(shufps(), Xmm<1> | Memory, [Shufps_xmm_xmmm128_imm8]),
    vector!(shufpd(), Xmm<1> | Memory, [Shufpd_xmm_xmmm128_imm8]),
    vector!(pinsrw_mmx(), Gpr<1> | Memory, [Pinsrw_mm_r32m16_imm8, Pinsrw_mm_r64m16_imm8]),
    vector!(pinsrw_xmm(), Gpr<1> | Memory, [Pinsrw_xmm_r32m16_imm8, Pinsrw_xmm_r64m16_imm8]),
    row!(plain: pextrw_mmx::<u32>, [Pextrw_r32_mm_imm8]),
    row!(plain: pextrw_mmx::<u64>, [Pextrw_r64_mm_imm8]),
    row!(plain: pextrw_xmm::<u32>, [Pextrw_r32_xmm_imm8]),
    row!(plain: pextrw_xmm::<u64>, [Pextrw_r64_xmm_imm8]),
    row!(plain: pmovmskb_mmx::<u32>, [Pmovmskb_r32_mm]),
    row!(plain: pmovmskb_mmx::<u64>, [Pmovmskb_r64_mm]),
    row!(plain: pmovmskb_xmm::<u32>, [Pmovmskb_r32_xmm]),
    row!(plain: pmovmskb_xmm::<u64>, [Pmovmskb_r64_xmm]),
    row!(plain: movmsk::<u32, 32>, [Movmskps_r32_xmm]),
    row!(plain: movmsk::<u64, 32>, [Movmskps_r64_xmm]),
    row!(plain: movmsk::<u32, 64>, [Movmskpd_r32_xmm]),
    row!(plain: movmsk::<u64, 64>, [Movmskpd_r64_xmm]),
];
