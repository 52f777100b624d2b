//! What the architecture leaves undefined after the instructions of a case, or to each vendor.
//!
//! Status flags: the set comes from iced. What is here only makes it *smaller*, where it depends on a count:
//! - a count of zero leaves all flags as they were (each shift and rotate, "Flags Affected");
//! - OF is defined for a count of one.
//!
//! Where the host is an AMD EPYC of family 1Ah nothing is masked at all: there the interpreter gives
//! what that processor gives, which millions of random cases confirm. (S is the result's sign bit, S'
//! the bit below it, P the parity of the result's low byte.)
//!
//! | instruction | flags |
//! |---|---|
//! | MUL, IMUL | PF, AF, ZF, SF as before |
//! | DIV, IDIV | CF, OF as before; AF 1; PF, ZF, SF 0 |
//! | AND, OR, XOR, TEST | AF 0 |
//! | SHL, SHR, SAR, SHLD, SHRD, count not 0 | AF 1 |
//! | SHL, ROL, RCL, any count but 0 | OF = CF xor S |
//! | SHR, SAR, ROR, RCR, SHRD, any count but 0 | OF = S xor S' |
//! | SHLD, count not 0 | OF = CF xor S, but CF alone for 16 bits by 16 and more |
//! | SHLD, SHRD of 16 bits by more than 16 | CF 0; the source is shifted in twice |
//! | BSF, BSR | CF, AF, SF, OF 0; PF = P of the index, 1 if the source is zero |
//! | BT, BTS, BTR, BTC | PF, AF, SF, OF as before |
//! | LZCNT, TZCNT | OF as before; PF, AF, SF 0 |
//! | ANDN, BLSI, BLSMSK, BLSR, BZHI | AF 0; PF = P |
//! | BEXTR | AF 1; PF = P; SF 0 |
//!
//! Never masked on any host, because an emulator must give some answer: the destination of BSF and
//! BSR with a zero source (AMD documents it as unchanged), of SHLD and SHRD with a count beyond 16
//! bits, of BSWAP with 16 bits.
//!
//! x87, MMX and SSE ([`settle`]), masked on every host:
//! - FOP, FIP and FDP without a pending error, which AMD's FXSAVE neither saves nor restores, and the
//!   selectors that go with them, which no 64-bit signal frame holds;
//! - MXCSR bit 17 (misaligned operands), which AMD's processors have and no model of ours.
//!
//! Masked on hosts other than the one above: those pointers with an error pending too, and what
//! FXSAVE, FNSAVE and FNSTENV write, since each vendor keeps pointers and reserved areas differently.

use emu::arch::{Gpr, RFlags};
use iced_x86::{DecoderOptions, Instruction, Mnemonic, OpKind, Register, RflagsBits};

use crate::generate::float::{ES, MISALIGNED};
use crate::run::{Input, Outcome};

/// iced's flag bits and ours.
const FLAGS: [(u32, RFlags); 6] = [
    (RflagsBits::CF, RFlags::CF),
    (RflagsBits::PF, RFlags::PF),
    (RflagsBits::AF, RFlags::AF),
    (RflagsBits::ZF, RFlags::ZF),
    (RflagsBits::SF, RFlags::SF),
    (RflagsBits::OF, RFlags::OF),
];

fn ours(bits: u32) -> RFlags {
    let set = FLAGS.iter().filter(|(theirs, _)| bits & theirs != 0);
    set.fold(RFlags::empty(), |all, (_, flag)| all | *flag)
}

/// The count of a shift or rotate, masked as the processor does; `cl` where it is known.
fn count(instruction: &Instruction, cl: Option<u8>) -> Option<u8> {
    use Mnemonic::{Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd};
    let shift = [Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd];
    if !shift.contains(&instruction.mnemonic()) {
        return None;
    }
    let last = instruction.op_count() - 1;
    let raw = match instruction.op_kind(last) {
        OpKind::Immediate8 => instruction.immediate8(),
        _ => cl?,
    };
    let wide = [Register::RAX, Register::R8].contains(&instruction.op0_register().full_register())
        && instruction.op0_register().size() == 8;
    let wide = wide || operand_size(instruction) == 8;
    Some(raw & if wide { 63 } else { 31 })
}

fn operand_size(instruction: &Instruction) -> usize {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    }
}

/// Flags that `instruction` leaves undefined, those in `before` among them that it keeps.
pub fn after(instruction: &Instruction, before: RFlags, cl: Option<u8>) -> RFlags {
    let undefined = ours(instruction.rflags_undefined());
    match count(instruction, cl) {
        Some(0) => before,
        Some(1) => (before - ours(instruction.rflags_modified())) | (undefined - RFlags::OF),
        _ => (before - ours(instruction.rflags_modified())) | undefined,
    }
}

/// Flags that `instruction` looks at.
pub fn read(instruction: &Instruction) -> RFlags {
    ours(instruction.rflags_read())
}

/// The flags to ignore in the outcome of a case: undefined at the instruction where it stopped.
pub fn ignored(input: &Input, host: &Outcome) -> RFlags {
    let mut cl = Some(input.gpr[Gpr::Rcx as usize] as u8);
    let mut undefined = RFlags::empty();
    for instruction in input.decode(DecoderOptions::NONE) {
        if host.rip == instruction.ip() {
            return undefined;
        }
        undefined = after(&instruction, undefined, cl);
        // What follows may have been given another CL; then its count is not known.
        cl = None;
    }
    undefined
}

/// FXSAVE: where MXCSR and its mask are in the image, the mask in the high half.
const MASK_SHIFT: u32 = 32;

/// Makes x87 and SSE states comparable, on a host that is `known` or not; false if the case has
/// come across something the host has and no model.
pub fn settle(input: &Input, host: &mut Outcome, own: &mut Outcome, known: bool) -> bool {
    for side in [&mut *host, &mut *own] {
        let fpu = &mut side.fpu;
        if fpu.fsw & ES == 0 || !known {
            (fpu.fop, fpu.fip, fpu.fdp) = (0, 0, 0);
        }
        (fpu.fcs, fpu.fds) = (0, 0);
    }
    let images = [Mnemonic::Fxsave, Mnemonic::Fxsave64];
    let environments = [Mnemonic::Fnsave, Mnemonic::Fnstenv];
    let instructions = input.decode(DecoderOptions::NONE);
    let stores = |which: &[Mnemonic]| instructions.iter().any(|i| which.contains(&i.mnemonic()));
    if stores(&images) {
        for (theirs, ours) in host.memory.iter().zip(&mut own.memory) {
            let mask = u64::from(MISALIGNED) << MASK_SHIFT;
            if theirs.0 == ours.0 && theirs.1 ^ ours.1 == mask {
                ours.1 = theirs.1;
            }
        }
    }
    if !known && (stores(&images) || stores(&environments)) {
        own.memory.clone_from(&host.memory);
    }
    host.fpu.mxcsr & MISALIGNED == 0
}
