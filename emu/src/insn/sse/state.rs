//! The state itself: FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, EMMS. SDM Vol. 1, "FXSAVE Area"; Vol. 2, each
//! mnemonic.
//!
//! FOP, FIP and FDP are always restored, and saved while an error is pending; otherwise zeros are
//! stored, as AMD's processors do (AMD APM Vol. 2, "FXSAVE and FXRSTOR Instructions"; older ones also
//! restore nothing then).

use crate::arch::exception::{AC, GP, NM, SS};
use crate::arch::segment::Seg;
use crate::arch::{Cr0, Cr4, Exception};
use crate::cpu::{CodeSize, Cpu, Raised};
use crate::decode::Insn;
use crate::descriptor::canonical;
use crate::insn::Row;
use crate::insn::form::row;
use crate::mem::Access;
use crate::mem::tlb::Privilege;

/// MXCSR bits that can be set.
const MXCSR_MASK: u32 = 0xFFFF;
/// Bytes of the image, ...
const SIZE: usize = 512;
/// ... of what is accessed at once, ...
const PIECE: usize = 16;
/// ... and of what is tried first.
const FIRST: usize = 4;
/// Bytes of it that are written without XMM registers, ...
const X87: usize = 160;
/// ... and with the eight or sixteen there are.
const XMM_8: usize = X87 + 8 * 16;
const XMM_16: usize = X87 + 16 * 16;
const MXCSR: usize = 24;
const ST: usize = 32;

/// x87 status word: an unmasked exception is pending.
const ES: u16 = 1 << 7;

impl Cpu {
    fn fx_available(&mut self) -> Result<(), Raised> {
        if self.cr0.intersects(Cr0::EM | Cr0::TS) {
            return self.fault(Exception::new(NM));
        }
        Ok(())
    }

    /// Finds the whole image accessible.
    fn fx_probe(&mut self, i: &Insn, access: Access) -> Result<(), Raised> {
        let wraps = self.wraps(i, SIZE);
        let stack = i.seg() == Seg::Ss as usize;
        let linear = self.linear_of(i, if wraps { FIRST } else { SIZE }, access)?;
        if !linear.is_multiple_of(PIECE as u64) {
            return self.fx_misaligned(linear, stack);
        }
        if !wraps {
            return self.probe_area(linear, SIZE, access, stack);
        }
        self.probe_piece(i, SIZE - 1, 1, access)?;
        (0..SIZE)
            .step_by(PIECE)
            .try_for_each(|at| self.probe_piece(i, at, PIECE, access))
    }

    /// An image that is not aligned is a #GP; AMD's processors look for #AC first, as if for 32 bits.
    #[cold]
    fn fx_misaligned(&mut self, linear: u64, stack: bool) -> Result<(), Raised> {
        let checked =
            self.privilege == Privilege::UserAligned && !linear.is_multiple_of(FIRST as u64);
        let beyond = !self.code64() && linear > self.linear_mask - (FIRST as u64 - 1);
        let vector = match (canonical(linear) && !beyond, stack) {
            (false, true) => SS,
            (true, _) if checked => AC,
            _ => GP,
        };
        self.fault(Exception::with_code(vector, 0))
    }

    /// How much of the image the XMM registers take.
    fn fx_end(&self) -> usize {
        match (self.cr4.contains(Cr4::OSFXSR), self.mode.code) {
            (false, _) => X87,
            (true, CodeSize::Bits64) => XMM_16,
            (true, _) => XMM_8,
        }
    }
}

fn fxsave<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.fx_available()?;
    cpu.fx_probe(i, Access::Write)?;
    let mut image = [0; SIZE];
    let fpu = &cpu.fpu;
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &fpu.fcw.to_le_bytes());
    put(2, &fpu.fsw.to_le_bytes());
    put(4, &[fpu.ftw]);
    if fpu.fsw & ES != 0 {
        put(6, &fpu.fop.to_le_bytes());
        if WIDE {
            put(8, &fpu.fip.to_le_bytes());
            put(16, &fpu.fdp.to_le_bytes());
        } else {
            put(8, &(fpu.fip as u32).to_le_bytes());
            put(12, &fpu.fcs.to_le_bytes());
            put(16, &(fpu.fdp as u32).to_le_bytes());
            put(20, &fpu.fds.to_le_bytes());
        }
    }
    put(MXCSR, &fpu.mxcsr.to_le_bytes());
    put(MXCSR + 4, &MXCSR_MASK.to_le_bytes());
    for n in 0..8 {
        let (significand, exponent) = fpu.regs[physical(fpu.fsw, n)];
        put(ST + 16 * n, &significand.to_le_bytes());
        put(ST + 16 * n + 8, &exponent.to_le_bytes());
    }
    for (n, value) in fpu.xmm.iter().enumerate() {
        put(X87 + 16 * n, value);
    }
    let end = cpu.fx_end();
    let stack = i.seg() == Seg::Ss as usize;
    for (at, chunk) in (0..).step_by(PIECE).zip(image[..end].chunks_exact(PIECE)) {
        let value = chunk.try_into().unwrap_or_default();
        let linear = cpu.linear_of_piece(i, at, PIECE, Access::Write)?;
        cpu.write_wide(linear, value, stack)?;
    }
    Ok(())
}

fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.fx_available()?;
    cpu.fx_probe(i, Access::Read)?;
    let end = cpu.fx_end();
    let stack = i.seg() == Seg::Ss as usize;
    let mut image = [0; SIZE];
    for (at, chunk) in (0..)
        .step_by(PIECE)
        .zip(image[..end].chunks_exact_mut(PIECE))
    {
        let linear = cpu.linear_of_piece(i, at, PIECE, Access::Read)?;
        chunk.copy_from_slice(&cpu.read_wide(linear, stack)?);
    }
    let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap_or_default());
    let mxcsr = quad(MXCSR) as u32;
    if cpu.cr4.contains(Cr4::OSFXSR) {
        if mxcsr & !MXCSR_MASK != 0 {
            return cpu.gp(0);
        }
        cpu.fpu.mxcsr = mxcsr;
    }
    let fpu = &mut cpu.fpu;
    fpu.fcw = word(0) & 0x1F7F | 0x40;
    // ES and B follow from the exceptions and their masks.
    let pending = word(2) & !fpu.fcw & 0x3F != 0;
    fpu.fsw = word(2) & !(ES | 1 << 15) | if pending { ES | 1 << 15 } else { 0 };
    fpu.ftw = image[4];
    fpu.fop = word(6) & 0x7FF;
    if WIDE {
        (fpu.fip, fpu.fcs) = (pointer(quad(8)), 0);
        (fpu.fdp, fpu.fds) = (pointer(quad(16)), 0);
    } else {
        (fpu.fip, fpu.fcs) = (quad(8) & 0xFFFF_FFFF, word(12));
        (fpu.fdp, fpu.fds) = (quad(16) & 0xFFFF_FFFF, word(20));
    }
    for n in 0..8 {
        let at = ST + 16 * n;
        fpu.regs[physical(fpu.fsw, n)] = (quad(at), word(at + 8));
    }
    for n in 0..(end - X87) / 16 {
        let at = X87 + 16 * n;
        fpu.xmm[n].copy_from_slice(&image[at..at + 16]);
    }
    Ok(())
}

/// A pointer as the unit holds it: 57 bits, the last of which is its sign.
fn pointer(value: u64) -> u64 {
    const UNUSED: u32 = 64 - 57;
    (value << UNUSED)
        .cast_signed()
        .wrapping_shr(UNUSED)
        .cast_unsigned()
}

/// The physical register behind ST(n).
fn physical(fsw: u16, n: usize) -> usize {
    (usize::from(fsw >> 11) + n) & 7
}

fn ldmxcsr(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    let value: u32 = cpu.load(i)?;
    if value & !MXCSR_MASK != 0 {
        return cpu.gp(0);
    }
    cpu.fpu.mxcsr = value;
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.sse()?;
    cpu.store(i, cpu.fpu.mxcsr)
}

fn emms(cpu: &mut Cpu, _: &Insn) -> Result<(), Raised> {
    cpu.mmx()?;
    cpu.fpu.ftw = 0;
    cpu.fpu.fsw &= !(7 << 11);
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: fxsave::<false>, [Fxsave_m512byte]),
    row!(plain: fxsave::<true>, [Fxsave64_m512byte]),
    row!(plain: fxrstor::<false>, [Fxrstor_m512byte]),
    row!(plain: fxrstor::<true>, [Fxrstor64_m512byte]),
    row!(plain: ldmxcsr, [Ldmxcsr_m32]),
    row!(plain: stmxcsr, [Stmxcsr_m32]),
    row!(plain: emms, [Emms]),
];
