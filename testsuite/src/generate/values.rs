//! Register and memory values that make something happen.

use emu::arch::Gpr;
use iced_x86::{Instruction, Mnemonic, OpKind, Register, UsedMemory};

use crate::case::{EDGES, Place};
use crate::generate::{float, floating};
use crate::layout::{BELOW_4G, CODE, CODE_END, DATA, ISLAND, PAGE, SELF_MODIFYING};
use crate::random::Random;
use crate::run::{Input, Mode};

/// Bytes of an XMM register, and its alignment in memory.
const VECTOR: u64 = 16;

/// A value for a register or an immediate.
pub fn register(random: &mut Random) -> u64 {
    match random.below(100) {
        0..=24 => random.pick(EDGES),
        25..=44 => random.below(140).wrapping_sub(70),
        45..=54 => (random.draw() as i32 as i64).cast_unsigned(),
        55..=64 => random.draw() >> random.below(64),
        65..=69 => 1 << random.below(64),
        70..=79 => DATA + random.below(2 * PAGE),
        _ => random.draw(),
    }
}

/// Where to send a branch through a register or memory.
fn landing(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => DATA + random.below(PAGE),
        1 => CODE_END,
        2 => SELF_MODIFYING + 0x10,
        3 => random.pick(EDGES),
        _ => CODE + random.below(0x300),
    }
}

fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

/// Makes likely what random registers would never do: quotients that fit, exchanges that succeed,
/// bit offsets and counts that stay in reach.
pub fn tune(random: &mut Random, input: &mut Input, instruction: &Instruction) {
    use Mnemonic as M;
    let first =
        number(instruction.op0_register()).filter(|_| instruction.op0_kind() == OpKind::Register);
    let rax = input.gpr[Gpr::Rax as usize];
    match instruction.mnemonic() {
        M::Div | M::Idiv if random.chance(70) => {
            let sign = (rax as i32 >> 31) as u64;
            input.gpr[Gpr::Rdx as usize] = random.pick(&[0, 0, 1, u64::MAX, sign]);
            if instruction.op0_register().size() == 1 || random.chance(20) {
                input.gpr[Gpr::Rax as usize] &= 0x7FF;
            }
        }
        M::Cmpxchg if random.chance(50) => {
            if let Some(first) = first {
                input.gpr[first] = rax;
            }
        }
        M::Bt | M::Bts | M::Btr | M::Btc if random.chance(90) => {
            if let Some(second) = number(instruction.op1_register()) {
                input.gpr[second] = random.below(4000).wrapping_sub(2000);
            }
        }
        M::Jmp | M::Call if random.chance(90) => {
            if let Some(first) = first {
                input.gpr[first] = landing(random);
            }
        }
        M::Enter if random.chance(80) => {
            input.gpr[Gpr::Rbp as usize] = DATA + 0x900;
        }
        _ => {}
    }
    let counted = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    if (counted || instruction.is_loop() || instruction.is_loopcc()) && random.chance(85) {
        input.gpr[Gpr::Rcx as usize] = random.below(40);
    }
}

/// An address for an operand of `size` bytes; larger ones are as aligned as vectors must be, mostly.
fn target(random: &mut Random, size: u64) -> u64 {
    let place = somewhere(random, size);
    if size >= VECTOR && random.chance(70) {
        return place & !(VECTOR - 1);
    }
    place
}

fn somewhere(random: &mut Random, size: u64) -> u64 {
    let inside = random.below(PAGE - 64);
    match random.below(100) {
        0..=39 => DATA + (inside & !63),
        40..=54 => DATA + inside,
        55..=69 => Place::Crossing.address(2) + 1 - random.below(size.max(2)),
        70..=97 => {
            let place = random.pick(Place::ALL).address(2);
            place + 1 - random.below(size.max(2))
        }
        98 => BELOW_4G + PAGE - random.below(size.max(2)),
        _ => ISLAND + inside,
    }
}

/// Sets the base (or index) registers of memory operands so that they hit the pages, and now and
/// then puts an interesting value there.
pub fn aim(
    random: &mut Random,
    input: &mut Input,
    instruction: &Instruction,
    memory: &[UsedMemory],
    taken: &mut [bool; 16],
) {
    for used in memory {
        let size = (used.memory_size().size() as u64).clamp(1, 512);
        let mut place = target(random, size);
        let solved = solve(input, used, place, taken);
        if !solved {
            place = effective(input, used);
        }
        let Some(bytes) = content(random, input, instruction, size as usize) else {
            continue;
        };
        let end = place.wrapping_add(bytes.len() as u64 - 1);
        if !code_page(place) && !code_page(end) {
            input.memory.push((place, bytes));
        }
    }
}

/// Bytes worth finding at the memory operand of `instruction`.
fn content(
    random: &mut Random,
    input: &Input,
    instruction: &Instruction,
    size: usize,
) -> Option<Vec<u8>> {
    use Mnemonic as M;
    let mnemonic = instruction.mnemonic();
    let code = instruction.code();
    // MXCSR must not come from memory as it is: one of its bits is a vendor's own.
    let always = matches!(mnemonic, M::Ldmxcsr | M::Fxrstor | M::Fxrstor64);
    let value = match mnemonic {
        _ if always || floating(code) && random.chance(70) => {
            return Some(float::operand(random, code, size));
        }
        M::Jmp | M::Call | M::Ret if random.chance(85) => landing(random),
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if random.chance(60) => {
            compared(input, instruction)
        }
        _ if random.chance(40) => register(random),
        _ => return None,
    };
    let mut bytes = value.to_le_bytes().to_vec();
    if mnemonic == M::Cmpxchg16b {
        bytes.extend(input.gpr[Gpr::Rdx as usize].to_le_bytes());
    }
    Some(bytes)
}

fn code_page(place: u64) -> bool {
    (CODE..CODE_END).contains(&place) || place.wrapping_sub(SELF_MODIFYING) < PAGE
}

/// What CMPXCHG and its kin compare memory with.
fn compared(input: &Input, instruction: &Instruction) -> u64 {
    let rax = input.gpr[Gpr::Rax as usize];
    match instruction.mnemonic() {
        Mnemonic::Cmpxchg8b => rax & 0xFFFF_FFFF | input.gpr[Gpr::Rdx as usize] << 32,
        _ => rax,
    }
}

fn segment_base(input: &Input, used: &UsedMemory) -> u64 {
    match (used.segment(), input.mode) {
        (Register::FS, Mode::Long64) => input.bases[0],
        (Register::GS, Mode::Long64) => input.bases[1],
        _ => 0,
    }
}

fn value(input: &Input, register: Register) -> u64 {
    let Some(number) = number(register) else {
        return 0;
    };
    let value = input.gpr[number];
    match register.size() {
        1 => value & 0xFF,
        2 => value & 0xFFFF,
        4 => value & 0xFFFF_FFFF,
        _ => value,
    }
}

fn effective(input: &Input, used: &UsedMemory) -> u64 {
    let index = value(input, used.index()).wrapping_mul(used.scale() as u64);
    let offset = value(input, used.base())
        .wrapping_add(index)
        .wrapping_add(used.displacement());
    let offset = if used.base().size() == 4 {
        offset & 0xFFFF_FFFF
    } else {
        offset
    };
    offset.wrapping_add(segment_base(input, used))
}

/// Chooses the base, or an index without base, so that the operand is at `place`.
fn solve(input: &mut Input, used: &UsedMemory, place: u64, taken: &mut [bool; 16]) -> bool {
    let place = place
        .wrapping_sub(segment_base(input, used))
        .wrapping_sub(used.displacement());
    let scale = used.scale() as u64;
    let (chosen, wanted) = match (number(used.base()), number(used.index())) {
        (Some(base), Some(index)) if base != index => {
            let index = value(input, used.index()).wrapping_mul(scale);
            (base, place.wrapping_sub(index))
        }
        (Some(base), None) => (base, place),
        (None, Some(index)) => (index, place / scale),
        _ => return false,
    };
    if taken[chosen] {
        return false;
    }
    taken[chosen] = true;
    // A 16-bit register cannot reach the pages: its upper bits stay as they were.
    let narrow = used.base().size() == 4 || used.index().size() == 4;
    input.gpr[chosen] = if narrow { wanted & 0xFFFF_FFFF } else { wanted };
    true
}
