//! States of the x87, MMX and SSE units, and what their instructions find in memory: special values of
//! each format, values near its ends, pairs near each other, and anything.

use emu::state::Fpu;
use iced_x86::Code;

use crate::random::Random;

/// x87 status word: an unmasked exception is pending.
pub const ES: u16 = 1 << 7;
/// x87 status word: B, which follows ES.
const BUSY: u16 = 1 << 15;
/// MXCSR with every exception masked, as a process starts.
const ALL_MASKED: u32 = 0x1F80;
/// MXCSR: AMD's bit that allows misaligned operands, which no model has.
pub const MISALIGNED: u32 = 1 << 17;
/// Bytes of the largest operand: FXSAVE's.
const LARGEST: usize = 512;

/// An exponent of `mask` bits around `middle`.
fn around(random: &mut Random, middle: u64, spread: u64, mask: u64) -> u64 {
    (middle + random.below(2 * spread + 1) - spread) & mask
}

/// A single: special, near its format's ends, a small integer, or anything.
pub fn single(random: &mut Random) -> u32 {
    let bits = random.draw() as u32;
    let sign = bits & 1 << 31;
    let fraction = match random.below(6) {
        0 => 0,
        1 => 0x7F_FFFF,
        2 => 1 << random.below(23),
        3 => bits & 0x7F_F000,
        _ => bits & 0x7F_FFFF,
    };
    let mut near = |middle, spread| sign | (around(random, middle, spread, 0xFF) as u32) << 23;
    match bits >> 3 & 15 {
        0 => sign,
        1 => sign | fraction,
        2 => sign | 0xFF << 23,
        3 => sign | 0xFF << 23 | 1 << 22 | fraction,
        4 => sign | 0xFF << 23 | fraction & !(1 << 22) | 1,
        5 => sign | 1 << 23 | fraction,
        6 => sign | 0xFE << 23 | fraction,
        7 | 8 => near(0x7F, 3) | fraction,
        9 => ((bits >> 8 & 63) as f32 - 32.0).to_bits(),
        // The ranges of integers end here.
        10 => near(0x7F + 31, 3) | fraction,
        11 => near(0x7F + 62, 3) | fraction,
        12 => near(0x10, 12) | fraction,
        13 => near(0xF0, 12) | fraction,
        _ => bits,
    }
}

/// A double of the same kinds; also near the ends of a single.
pub fn double(random: &mut Random) -> u64 {
    const QUIET: u64 = 1 << 51;
    const ALL: u64 = (1 << 52) - 1;
    let bits = random.draw();
    let sign = bits & 1 << 63;
    let fraction = match random.below(7) {
        0 => 0,
        1 => ALL,
        2 => 1 << random.below(52),
        3 => bits & ALL & !0xFFF_FFFF,
        // Halfway between singles, or next to it.
        4 => bits & ALL & !0x1FFF_FFFF | (0x1000_0000 + random.below(3) - 1),
        _ => bits & ALL,
    };
    let kind = random.below(18);
    let mut near = |middle, spread| sign | around(random, middle, spread, 0x7FF) << 52;
    match kind {
        0 => sign,
        1 => sign | fraction,
        2 => sign | 0x7FF << 52,
        3 => sign | 0x7FF << 52 | QUIET | fraction,
        4 => sign | 0x7FF << 52 | fraction & !QUIET | 1,
        5 => sign | 1 << 52 | fraction,
        6 => sign | 0x7FE << 52 | fraction,
        7 | 8 => near(0x3FF, 3) | fraction,
        9 => ((bits & 63) as f64 - 32.0).to_bits(),
        10 => near(0x3FF + 31, 3) | fraction,
        11 => near(0x3FF + 62, 3) | fraction,
        12 => near(0x40, 60) | fraction,
        13 => near(0x7C0, 60) | fraction,
        14 => near(0x3FF - 136, 15) | fraction,
        15 => near(0x3FF + 127, 3) | fraction,
        _ => bits,
    }
}

/// A vector of singles, of doubles, of integers at their limits, a count of a shift, or anything.
pub fn vector(random: &mut Random) -> u128 {
    let two = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
    match random.below(28) {
        0..=11 => (0..4).fold(0, |all, _| all << 32 | u128::from(single(random))),
        12..=19 => two(double(random), double(random)),
        20..=22 => {
            let limits = [0, 1, 0x7F, 0x80, 0xFF];
            (0..16).fold(0, |all, _| all << 8 | random.pick(&limits))
        }
        23 => 0,
        24 | 25 => two(random.below(140), random.draw() & random.draw()),
        _ => two(random.draw() >> random.below(64), random.draw()),
    }
}

/// A register of the x87's stack: significand, and exponent with sign.
pub fn extended(random: &mut Random) -> (u64, u16) {
    const INTEGER: u64 = 1 << 63;
    let sign = (random.draw() as u16) << 15;
    let bits = random.draw();
    let sparse = match random.below(5) {
        0 => 0,
        1 => u64::MAX >> 1,
        2 => bits & bits << 7 & 0xFF00_0000_0000_0FFF,
        3 => bits & 0x7FFF_FF00_0000_0000,
        _ => bits & u64::MAX >> 1,
    };
    let kind = random.below(20);
    let mut near = |middle, spread| around(random, middle, spread, 0x7FFF) as u16;
    let (significand, exponent) = match kind {
        0 => (0, 0),
        1 => (sparse, 0),
        2 => (INTEGER | sparse, 0),
        3 => (INTEGER, 0x7FFF),
        4 => (INTEGER | 1 << 62 | sparse, 0x7FFF),
        5 => (INTEGER | sparse >> 2 | 1, 0x7FFF),
        6 => (sparse, (bits >> 3) as u16 & 0x7FFF),
        7 => (INTEGER | sparse, near(40, 40)),
        8 => (INTEGER | sparse, near(0x7FD0, 46)),
        // The ranges of binary32, binary64 and the integers end here.
        9 => (INTEGER | sparse, near(0x3FFF - 127, 30)),
        10 => (INTEGER | sparse, near(0x3FFF + 127, 3)),
        11 => (INTEGER | sparse, near(0x3FFF - 1023, 60)),
        12 => (INTEGER | sparse, near(0x3FFF + 1023, 3)),
        13 => (INTEGER | sparse, near(0x3FFF + 15, 4)),
        14 => (INTEGER | sparse, near(0x3FFF + 31, 4)),
        15 => (INTEGER | sparse, near(0x3FFF + 61, 5)),
        16 | 17 => (INTEGER | sparse, near(0x3FFF, 3)),
        18 => (INTEGER | sparse, near(0x3FFF, 70)),
        _ => (INTEGER | bits, (bits >> 7) as u16 & 0x7FFF),
    };
    (significand, exponent | sign)
}

/// MXCSR, for the most part with everything masked, or all but one.
fn mxcsr(random: &mut Random) -> u32 {
    let masks = match random.below(4) {
        0 => random.draw() as u32,
        1 => !(0x80 << random.below(6)),
        _ => ALL_MASKED,
    };
    let modes = match random.below(3) {
        0 => 0,
        1 => random.draw() as u32 & 0x6000,
        _ => random.draw() as u32 & 0xE040,
    };
    let flags = match random.below(3) {
        0 => random.draw() as u32 & 0x3F,
        _ => 0,
    };
    masks & ALL_MASKED | modes | flags
}

/// Control and status word; one in sixteen has an error pending.
fn words(random: &mut Random, fpu: &mut Fpu) {
    let masks = match random.below(4) {
        0 => random.draw() as u16 & 0x3F,
        1 => 0x3F & !(1 << random.below(6)),
        _ => 0x3F,
    };
    fpu.fcw = 0x40 | masks | (random.below(16) as u16) << 8;
    let flags = match random.below(16) {
        0 => random.draw() as u16 & 0x7F,
        _ => random.draw() as u16 & 0x7F & (masks | 0x40),
    };
    fpu.fsw = flags | random.draw() as u16 & 0x7F00;
    if flags & 0x3F & !masks == 0 {
        return;
    }
    // Only with an error pending are there pointers: a processor of AMD's loads no others.
    fpu.fsw |= ES | BUSY;
    fpu.fop = random.draw() as u16 & 0x7FF;
    fpu.fip = random.draw() >> 17;
    fpu.fdp = random.draw() >> 17;
}

/// A state of the units that a processor can be in.
pub fn state(random: &mut Random) -> Fpu {
    let mut fpu = Fpu {
        mxcsr: mxcsr(random),
        ..Fpu::default()
    };
    words(random, &mut fpu);
    fpu.ftw = match random.below(5) {
        0 => random.draw() as u8,
        1 => random.draw() as u8 | random.draw() as u8,
        // All but what a push needs.
        2 | 3 => !(1 << ((fpu.fsw >> 11).wrapping_sub(1) & 7)),
        _ => 0xFF,
    };
    for register in &mut fpu.regs {
        *register = match random.below(3) {
            0 => (vector(random) as u64, random.draw() as u16),
            _ => extended(random),
        };
    }
    for register in &mut fpu.xmm {
        *register = vector(random).to_le_bytes();
    }
    if random.chance(30) {
        neighbours(random, &mut fpu);
    }
    fpu
}

/// Makes all registers near each other, equal, or opposite.
fn neighbours(random: &mut Random, fpu: &mut Fpu) {
    let (value, (significand, exponent)) = (vector(random), extended(random));
    for register in &mut fpu.xmm {
        let nudge = random.below(3).wrapping_sub(1);
        let signs = u128::from(random.draw() & 0x8000_0000_8000_0000) << (64 * random.below(2));
        *register = (value.wrapping_add(nudge.into()) ^ signs).to_le_bytes();
    }
    for register in &mut fpu.regs {
        let nudge = random.below(3).wrapping_sub(1);
        let sign = (random.draw() as u16) << 15;
        *register = (significand.wrapping_add(nudge), exponent ^ sign);
    }
}

/// Bytes of the memory operand of `code`, one of these units' instructions: a value of some format, an
/// MXCSR, an image for FXRSTOR.
pub fn operand(random: &mut Random, code: Code, size: usize) -> Vec<u8> {
    let mut bytes = match code {
        Code::Ldmxcsr_m32 => return loadable(random).to_le_bytes().to_vec(),
        Code::Fxrstor_m512byte | Code::Fxrstor64_m512byte => image(random),
        _ if random.chance(50) => vector(random).to_le_bytes().to_vec(),
        _ => number(random),
    };
    while bytes.len() < size.min(LARGEST) {
        bytes.extend(random.draw().to_le_bytes());
    }
    bytes.truncate(size.max(8));
    bytes
}

/// A number in one of the formats that the x87 loads.
fn number(random: &mut Random) -> Vec<u8> {
    const INTEGERS: [i64; 7] = [0, 1, -1, 0x7FFF, -0x8000, i64::MIN, i64::MAX];
    match random.below(5) {
        0 => single(random).to_le_bytes().to_vec(),
        1 => double(random).to_le_bytes().to_vec(),
        2 => {
            let (significand, exponent) = extended(random);
            [&significand.to_le_bytes()[..], &exponent.to_le_bytes()].concat()
        }
        3 => random.pick(&INTEGERS).to_le_bytes().to_vec(),
        _ => {
            let digits = (0..9).map(|_| (random.below(10) << 4 | random.below(10)) as u8);
            let mut digits: Vec<u8> = digits.collect();
            digits.push(random.draw() as u8);
            digits
        }
    }
}

/// What FXRSTOR loads: anything but an MXCSR that a processor with other bits would take.
fn image(random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..LARGEST / 16)
        .flat_map(|_| vector(random).to_le_bytes())
        .collect();
    bytes[24..28].copy_from_slice(&loadable(random).to_le_bytes());
    if random.chance(50) {
        // No exception in the status word: nothing is pending afterwards.
        bytes[2] = 0;
    }
    bytes
}

/// An MXCSR, seldom with a reserved bit.
fn loadable(random: &mut Random) -> u32 {
    let reserved = match random.below(8) {
        0 => 1 << (16 + random.below(16)),
        _ => 0,
    };
    (mxcsr(random) | reserved) & !MISALIGNED
}
