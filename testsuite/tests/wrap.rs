//! Operands that run beyond the end of their address size, or of all addresses, against the host's
//! processor: what is taken in pieces wraps between them, anything else goes on or faults.

use emu::arch::{Gpr, RFlags};
use testsuite::case::Arena;
use testsuite::generate::float;
use testsuite::layout::{ABSENT, DATA, ISLAND};
use testsuite::random::Random;
use testsuite::run::{Input, Mode};
use testsuite::skip::skip;

/// Where the random numbers begin.
const SEED: u64 = 0x4_0000_0000;
/// FS and SS segment prefixes.
const FS: u8 = 0x64;
const SS: u8 = 0x36;
/// Bases of FS: operands wrap into a page, out of one, across two, into one that is absent.
const BASES: &[u64] = &[
    DATA + 0x800,
    DATA + 0xFFF,
    ABSENT - 8,
    ISLAND,
    0u64.wrapping_sub(0x1000),
    4,
];

/// An instruction with its memory operand at rSI or rDI, and the operand's length.
type Operand = (&'static [u8], u64);

#[rustfmt::skip]
const OPERANDS: &[Operand] = &[
    (&[0xDB, 0x2E], 10),        // fld m80
    (&[0xDB, 0x3E], 10),        // fstp m80
    (&[0xDF, 0x26], 10),        // fbld
    (&[0xDF, 0x36], 10),        // fbstp
    (&[0xDD, 0x06], 8),         // fld m64
    (&[0xD9, 0x26], 28),        // fldenv
    (&[0xD9, 0x36], 28),        // fnstenv
    (&[0xDD, 0x26], 108),       // frstor
    (&[0xDD, 0x36], 108),       // fnsave
    (&[0x66, 0xD9, 0x26], 14),
    (&[0x66, 0xD9, 0x36], 14),
    (&[0x66, 0xDD, 0x26], 94),
    (&[0x66, 0xDD, 0x36], 94),
    (&[0x0F, 0xAE, 0x0E], 512), // fxrstor
    (&[0x0F, 0xAE, 0x06], 512), // fxsave
    (&[0x0F, 0x10, 0x06], 16),  // movups
    (&[0x0F, 0x11, 0x06], 16),
    (&[0x0F, 0x6F, 0x06], 8),   // movq
    (&[0x0F, 0x7F, 0x06], 8),
    (&[0x0F, 0xF7, 0xC8], 8),   // maskmovq
    (&[0x66, 0x0F, 0xF7, 0xC8], 16),
];

/// Where an operand starts so that `before` of its bytes come before the end.
fn start(mode: Mode, narrow: bool, before: u64) -> u64 {
    let low = 0u64.wrapping_sub(before) & 0xFFFF_FFFF;
    match (mode, narrow) {
        (Mode::Long64, false) => 0u64.wrapping_sub(before),
        // Upper halves of registers mean nothing.
        (Mode::Long64, true) => low | 0x55 << 32,
        (Mode::Compat32, _) => low,
    }
}

fn cases(random: &mut Random, mode: Mode, segment: Option<u8>, narrow: bool) -> Vec<Input> {
    let based = mode == Mode::Long64 && segment == Some(FS);
    let bases = if based { BASES } else { &[0] };
    let prefixes = narrow.then_some(0x67).into_iter().chain(segment);
    let mut inputs = Vec::new();
    for &(code, len) in OPERANDS {
        for before in 0..len + 2 {
            for &base in bases {
                let bytes: Vec<u8> = prefixes.clone().chain(code.iter().copied()).collect();
                let mut input = Input::new(mode, &bytes);
                input.gpr[Gpr::Rsi as usize] = start(mode, narrow, before);
                input.gpr[Gpr::Rdi as usize] = start(mode, narrow, before);
                input.bases[0] = base;
                input.rflags.set(RFlags::AC, random.chance(50));
                input.fpu = Some(Box::new(float::state(random)));
                inputs.push(input);
            }
        }
    }
    inputs
}

#[test]
fn operands_wrap_as_the_processor_takes_them() {
    let mut arena = match Arena::new() {
        Ok(arena) => arena,
        Err(error) => return skip("host", &error),
    };
    if !arena.known() {
        return skip("host", &"not the processor whose x87 is followed");
    }
    let mut random = Random::new(SEED);
    for mode in [Mode::Long64, Mode::Compat32] {
        for segment in [None, Some(FS), Some(SS)] {
            for narrow in [false, true] {
                for input in cases(&mut random, mode, segment, narrow) {
                    if let (_, Some(difference)) = arena.compare(&input) {
                        panic!("{difference}");
                    }
                }
            }
        }
    }
}
