//! FNSTENV, FLDENV, FNSAVE, FRSTOR. SDM Vol. 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and
//! FSAVE/FNSAVE".
//!
//! Four layouts: 16 or 32-bit operand size, in real and virtual-8086 mode or elsewhere.

use super::super::Row;
use super::super::form::row;
use super::{ES, EXCEPTIONS, FCW_FIXED, FCW_WRITABLE};
use crate::cpu::{Cpu, Raised};
use crate::decode::Insn;
use crate::fpu::{Class, Env};
use crate::mem::Access;
use crate::mem::raw::Raw;

/// Words of an environment: control, status, tag, instruction pointer and selector, data pointer and
/// selector.
const WORDS: usize = 7;
/// What is written where nothing is meant.
const RESERVED: u32 = 0xFFFF_0000;
/// Bits of an opcode.
const OPCODE: u32 = 0x7FF;
/// The registers behind an environment, in bytes.
const STACK: usize = 80;

/// Pointers where segments are paragraphs: linear addresses, of which `high` bits stand in the second
/// word, from bit 12 on.
fn linear_pointers(cpu: &Cpu) -> [u32; 4] {
    let fpu = &cpu.fpu;
    let linear =
        |selector: u16, offset: u64| (u32::from(selector) << 4).wrapping_add(offset as u32);
    let (code, data) = (linear(fpu.fcs, fpu.fip), linear(fpu.fds, fpu.fdp));
    let split = |linear: u32| [linear & 0xFFFF, linear >> 16 << 12];
    let ([ip, ip_high], [dp, dp_high]) = (split(code), split(data));
    [ip, ip_high | u32::from(fpu.fop) & OPCODE, dp, dp_high]
}

/// The environment's words, for an operand size of 32 bits; that of 16 has their lower halves.
fn words<const WIDE: bool>(cpu: &Cpu) -> [u32; WORDS] {
    let fpu = &cpu.fpu;
    let heads = [fpu.fcw, fpu.fsw, tags(cpu)].map(|word| u32::from(word) | RESERVED);
    let pointers = if cpu.real_or_vm86() {
        let [ip, ip_high, dp, dp_high] = linear_pointers(cpu);
        [
            ip | RESERVED,
            ip_high & 0xFFF_FFFF,
            dp | RESERVED,
            dp_high & 0xFFF_FFFF,
        ]
    } else {
        let opcode = if WIDE { u32::from(fpu.fop) << 16 } else { 0 };
        [
            fpu.fip as u32,
            u32::from(fpu.fcs) | opcode,
            fpu.fdp as u32,
            u32::from(fpu.fds) | RESERVED,
        ]
    };
    let [a, b, c] = heads;
    let [d, e, f, g] = pointers;
    [a, b, c, d, e, f, g]
}

/// The full tag word: valid, zero, special or empty.
fn tags(cpu: &Cpu) -> u16 {
    let env = Env::x87(cpu.fpu.fcw);
    (0..8).fold(0, |tags, at| {
        let tag = if cpu.st_full(at) {
            match cpu.st_value(&env, at).class {
                Class::Normal => 0,
                Class::Zero => 1,
                _ => 2,
            }
        } else {
            3
        };
        tags | tag << (2 * at)
    })
}

/// The abridged tags of a full tag word.
fn abridged(tags: u32) -> u8 {
    (0..8).fold(0, |full, at| {
        full | u8::from(tags >> (2 * at) & 3 != 3) << at
    })
}

/// Tries an operand: its first word, of `word` bytes, then its last byte, as processors do. Where it
/// wraps, all of it, since that may be in more pages than those two.
fn probe(
    cpu: &mut Cpu,
    i: &Insn,
    (word, len): (usize, usize),
    access: Access,
) -> Result<(), Raised> {
    cpu.probe_piece(i, 0, word, access)?;
    cpu.probe_piece(i, len - 1, 1, access)?;
    if cpu.wraps(i, len) {
        for at in (0..len).step_by(2) {
            cpu.probe_piece(i, at, 2, access)?;
        }
    }
    Ok(())
}

/// Writes the environment, with `behind` bytes more found writable.
fn write<W: Raw>(cpu: &mut Cpu, i: &Insn, behind: usize) -> Result<(), Raised> {
    let len = WORDS * W::BYTES + behind;
    probe(cpu, i, (W::BYTES, len), Access::Write)?;
    let words = if W::BYTES == 4 {
        words::<true>(cpu)
    } else {
        words::<false>(cpu)
    };
    for (k, word) in words.into_iter().enumerate() {
        cpu.store_piece(i, k * W::BYTES, W::from_u64(u64::from(word)))?;
    }
    Ok(())
}

/// Reads an environment, with `behind` bytes more found readable.
fn read<W: Raw>(cpu: &mut Cpu, i: &Insn, behind: usize) -> Result<[u32; WORDS], Raised> {
    let len = WORDS * W::BYTES + behind;
    probe(cpu, i, (W::BYTES, len), Access::Read)?;
    let mut words = [0; WORDS];
    for (k, word) in words.iter_mut().enumerate() {
        *word = cpu.load_piece::<W>(i, k * W::BYTES)?.to_u64() as u32;
    }
    Ok(words)
}

/// Takes an environment over.
fn take<const WIDE: bool>(cpu: &mut Cpu, words: [u32; WORDS]) {
    let real = cpu.real_or_vm86();
    let [control, status, tags, ip, cs, dp, ds] = words;
    let fpu = &mut cpu.fpu;
    fpu.fcw = control as u16 & FCW_WRITABLE | FCW_FIXED;
    // Whether an error was pending is for `x87_settle` to see.
    fpu.fsw = status as u16 & !ES | fpu.fsw & ES;
    fpu.ftw = abridged(tags);
    if real {
        let linear = |low: u32, high: u32| u64::from(low & 0xFFFF | high >> 12 << 16);
        (fpu.fip, fpu.fcs, fpu.fop) = (linear(ip, cs), 0, (cs & OPCODE) as u16);
        (fpu.fdp, fpu.fds) = (linear(dp, ds), 0);
    } else {
        (fpu.fip, fpu.fcs) = (u64::from(ip), cs as u16);
        (fpu.fdp, fpu.fds) = (u64::from(dp), ds as u16);
        fpu.fop = if WIDE { (cs >> 16 & OPCODE) as u16 } else { 0 };
    }
    cpu.x87_settle();
}

fn fnstenv<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    write::<W>(cpu, i, 0)?;
    cpu.fpu.fcw |= EXCEPTIONS;
    cpu.x87_settle();
    Ok(())
}

/// Registers in memory go by words, so that alignment checks find nothing in them.
const PIECES: [usize; 5] = [0, 2, 4, 6, 8];

/// Where ST(`k`) is in an image whose environment has words like `W`.
fn register_at<W: Raw>(k: u8) -> usize {
    WORDS * W::BYTES + 10 * usize::from(k)
}

fn fnsave<W: Raw>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_present()?;
    write::<W>(cpu, i, STACK)?;
    for k in 0..8 {
        let (low, high) = cpu.fpu.regs[cpu.st(k)];
        let image = u128::from(low) | u128::from(high) << 64;
        for at in PIECES {
            cpu.store_piece(i, register_at::<W>(k) + at, (image >> (8 * at)) as u16)?;
        }
    }
    cpu.x87_init();
    Ok(())
}

fn fldenv<W: Raw, const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let words = read::<W>(cpu, i, 0)?;
    take::<WIDE>(cpu, words);
    Ok(())
}

fn frstor<W: Raw, const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    cpu.x87_begin()?;
    let words = read::<W>(cpu, i, STACK)?;
    let mut registers = [0u128; 8];
    for (k, register) in (0..).zip(&mut registers) {
        for at in PIECES {
            let piece: u16 = cpu.load_piece(i, register_at::<W>(k) + at)?;
            *register |= u128::from(piece) << (8 * at);
        }
    }
    take::<WIDE>(cpu, words);
    for (k, register) in (0..).zip(registers) {
        let at = cpu.st(k);
        cpu.fpu.regs[at] = (register as u64, (register >> 64) as u16);
    }
    Ok(())
}

#[rustfmt::skip]
pub(in crate::insn) const ROWS: &[Row] = &[
    row!(plain: fnstenv::<u16>, [Fnstenv_m14byte]),
    row!(plain: fnstenv::<u32>, [Fnstenv_m28byte]),
    row!(plain: fnsave::<u16>, [Fnsave_m94byte]),
    row!(plain: fnsave::<u32>, [Fnsave_m108byte]),
    row!(plain: fldenv::<u16, false>, [Fldenv_m14byte]),
    row!(plain: fldenv::<u32, true>, [Fldenv_m28byte]),
    row!(plain: frstor::<u16, false>, [Frstor_m94byte]),
    row!(plain: frstor::<u32, true>, [Frstor_m108byte]),
];
