//! Random cases: an opcode of the list, a random ModRM byte, registers that point to pages of every
//! kind, far pointers and interrupt frames where the instruction will look for them.
//!
//! Left out: VMCALL, VMMCALL and the other register forms of 0F 01 but SMSW, LMSW and SWAPGS (KVM's own
//! business), RDTSC, RDTSCP, RDPMC, RDRAND (not repeatable), WRMSR to MSRs that are no plain values, TF.

use emu::arch::Gpr;
use iced_x86::{Decoder, DecoderOptions};

use super::world::{CODE, DATA, SELECTORS, STACK};
use super::{Case, Mode};
use crate::random::Random;

/// What follows an opcode.
#[derive(Clone, Copy)]
enum Form {
    /// Nothing, or an immediate.
    Plain,
    /// A ModRM byte.
    ModRm,
    /// A ModRM byte with this in its middle.
    Digit(u8),
}
use Form::{Digit, ModRm, Plain};

/// System instructions: bytes and what follows.
#[rustfmt::skip]
const SYSTEM: &[(&[u8], Form)] = &[
    (&[0x8E], ModRm), (&[0x8C], ModRm), (&[0x07], Plain), (&[0x17], Plain), (&[0x1F], Plain),
    (&[0x0F, 0xA1], Plain), (&[0x0F, 0xA9], Plain), (&[0x06], Plain), (&[0x0E], Plain), (&[0x16], Plain),
    (&[0x1E], Plain), (&[0x0F, 0xA0], Plain), (&[0x0F, 0xA8], Plain), (&[0xC4], ModRm), (&[0xC5], ModRm),
    (&[0x0F, 0xB2], ModRm), (&[0x0F, 0xB4], ModRm), (&[0x0F, 0xB5], ModRm),
    (&[0xEA], Plain), (&[0x9A], Plain), (&[0xFF], Digit(3)), (&[0xFF], Digit(5)), (&[0xCA], Plain),
    (&[0xCB], Plain), (&[0xCF], Plain), (&[0xCC], Plain), (&[0xCD], Plain), (&[0xCE], Plain),
    (&[0x0F, 0x01], Digit(0)), (&[0x0F, 0x01], Digit(1)), (&[0x0F, 0x01], Digit(2)),
    (&[0x0F, 0x01], Digit(3)), (&[0x0F, 0x01], Digit(4)), (&[0x0F, 0x01], Digit(6)),
    (&[0x0F, 0x01], Digit(7)), (&[0x0F, 0x01, 0xF8], Plain),
    (&[0x0F, 0x00], Digit(0)), (&[0x0F, 0x00], Digit(1)), (&[0x0F, 0x00], Digit(2)),
    (&[0x0F, 0x00], Digit(3)), (&[0x0F, 0x00], Digit(4)), (&[0x0F, 0x00], Digit(5)),
    (&[0x0F, 0x02], ModRm), (&[0x0F, 0x03], ModRm), (&[0x0F, 0x06], Plain), (&[0x0F, 0x05], Plain),
    (&[0x0F, 0x07], Plain), (&[0x0F, 0x34], Plain), (&[0x0F, 0x35], Plain), (&[0x0F, 0x20], ModRm),
    (&[0x0F, 0x22], ModRm), (&[0x0F, 0x21], ModRm), (&[0x0F, 0x23], ModRm), (&[0x0F, 0x32], Plain),
    (&[0x0F, 0x30], Plain), (&[0x0F, 0x08], Plain), (&[0x0F, 0x09], Plain), (&[0xE4], Plain),
    (&[0xE5], Plain), (&[0xE6], Plain), (&[0xE7], Plain), (&[0xEC], Plain), (&[0xED], Plain),
    (&[0xEE], Plain), (&[0xEF], Plain), (&[0x6C], Plain), (&[0x6D], Plain), (&[0x6E], Plain),
    (&[0x6F], Plain), (&[0xFA], Plain), (&[0xFB], Plain), (&[0x9C], Plain), (&[0x9D], Plain),
    (&[0xF4], Plain), (&[0x0F, 0xA2], Plain), (&[0xC8], Plain), (&[0xC9], Plain), (&[0x60], Plain),
    (&[0x61], Plain), (&[0x62], ModRm), (&[0x63], ModRm), (&[0xF1], Plain), (&[0x0F, 0x0B], Plain),
];

/// Integer instructions, for the memory they touch in each mode.
#[rustfmt::skip]
const INTEGER: &[(&[u8], Form)] = &[
    (&[0x00], ModRm), (&[0x01], ModRm), (&[0x03], ModRm), (&[0x11], ModRm), (&[0x19], ModRm),
    (&[0x29], ModRm), (&[0x31], ModRm), (&[0x39], ModRm), (&[0x3B], ModRm), (&[0x80], ModRm),
    (&[0x81], ModRm), (&[0x83], ModRm), (&[0x84], ModRm), (&[0x86], ModRm), (&[0x87], ModRm),
    (&[0x88], ModRm), (&[0x89], ModRm), (&[0x8A], ModRm), (&[0x8B], ModRm), (&[0x8D], ModRm),
    (&[0xC6], Digit(0)), (&[0xC7], Digit(0)), (&[0xF6], ModRm), (&[0xF7], ModRm), (&[0xFE], ModRm),
    (&[0xFF], Digit(0)), (&[0xFF], Digit(1)), (&[0xFF], Digit(2)), (&[0xFF], Digit(4)), (&[0xFF], Digit(6)),
    (&[0xD1], ModRm), (&[0xD3], ModRm), (&[0xC1], ModRm), (&[0xC0], ModRm), (&[0x8F], Digit(0)),
    (&[0xA4], Plain), (&[0xA5], Plain), (&[0xA6], Plain), (&[0xA7], Plain), (&[0xAA], Plain),
    (&[0xAB], Plain), (&[0xAC], Plain), (&[0xAD], Plain), (&[0xAE], Plain), (&[0xAF], Plain),
    (&[0xA0], Plain), (&[0xA3], Plain), (&[0xD7], Plain), (&[0x50], Plain), (&[0x58], Plain),
    (&[0x68], Plain), (&[0x6A], Plain), (&[0xE8], Plain), (&[0xE9], Plain), (&[0xEB], Plain), (&[0x74], Plain),
    (&[0xE2], Plain), (&[0xE3], Plain), (&[0xC3], Plain), (&[0xC2], Plain), (&[0x98], Plain), (&[0x99], Plain),
    (&[0x9E], Plain), (&[0x9F], Plain), (&[0x27], Plain), (&[0x2F], Plain), (&[0x37], Plain), (&[0x3F], Plain),
    (&[0xD4], Plain), (&[0xD5], Plain), (&[0xD6], Plain), (&[0x69], ModRm), (&[0x6B], ModRm),
    (&[0x0F, 0xAF], ModRm), (&[0x0F, 0xA3], ModRm), (&[0x0F, 0xAB], ModRm), (&[0x0F, 0xBA], ModRm),
    (&[0x0F, 0xBC], ModRm), (&[0x0F, 0xBD], ModRm), (&[0x0F, 0xB0], ModRm), (&[0x0F, 0xB1], ModRm),
    (&[0x0F, 0xC0], ModRm), (&[0x0F, 0xC1], ModRm), (&[0x0F, 0xC7], Digit(1)), (&[0x0F, 0xB6], ModRm),
    (&[0x0F, 0xB7], ModRm), (&[0x0F, 0xBE], ModRm), (&[0x0F, 0xBF], ModRm), (&[0x0F, 0xC8], Plain),
    (&[0x0F, 0x45], ModRm), (&[0x0F, 0x94], ModRm), (&[0x0F, 0xA4], ModRm), (&[0x0F, 0xAD], ModRm),
];

/// MSRs that hold plain values, and two that are none.
const MSRS: [u64; 12] = [
    0x174,
    0x175,
    0x176,
    0x277,
    0xC000_0080,
    0xC000_0081,
    0xC000_0082,
    0xC000_0084,
    0xC000_0100,
    0xC000_0102,
    0x5555,
    0xC000_5555,
];

/// Whether the bytes are a string instruction, which RCX counts.
fn is_string(code: &[u8], mode: Mode) -> bool {
    let mut decoder = Decoder::with_ip(mode.bits(), code, 0, DecoderOptions::NONE);
    decoder.decode().is_string_instruction()
}

/// A stream of cases that depends on its seed only.
pub struct Generator {
    random: Random,
}

impl Generator {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
        }
    }

    /// The next case.
    pub fn case(&mut self) -> Case {
        loop {
            let mode = self.random.pick(&Mode::ALL);
            let cpl = self.random.pick(mode.rings());
            if let Some(code) = self.code(mode) {
                return self.fill(mode, cpl, code);
            }
        }
    }

    /// An instruction, or nothing if the bytes are none in this mode.
    fn code(&mut self, mode: Mode) -> Option<Vec<u8>> {
        let r = &mut self.random;
        let list = if r.chance(70) { SYSTEM } else { INTEGER };
        let (opcode, form) = r.pick(list);
        let mut code = Vec::new();
        for (prefix, percent) in [(0x66, 20), (0x67, 10), (0xF3, 5), (0xF2, 2), (0xF0, 3)] {
            if r.chance(percent) {
                code.push(prefix);
            }
        }
        if r.chance(10) {
            code.push(r.pick(&[0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65]));
        }
        if mode == Mode::Long && r.chance(40) {
            code.push(0x40 | r.below(16) as u8);
        }
        code.extend(opcode);
        let byte = r.draw() as u8;
        let modrm = match form {
            Plain => None,
            ModRm => Some(byte),
            Digit(n) => Some(byte & 0xC7 | n << 3),
        };
        if let Some(mut modrm) = modrm {
            let group = opcode == [0x0F, 0x01];
            if group && !matches!(form, Digit(4 | 6)) && modrm >= 0xC0 {
                modrm &= 0x7F;
            }
            code.push(modrm);
            if modrm & 7 == 4 && modrm < 0xC0 && mode.bits() != 16 {
                code.push(r.draw() as u8);
            }
        }
        code.extend(self.tail(mode));
        let mut decoder = Decoder::with_ip(mode.bits(), &code, 0, DecoderOptions::NONE);
        let instruction = decoder.decode();
        // Bytes that are no instruction are worth a #UD now and then.
        if instruction.is_invalid() && !self.random.chance(3) {
            return None;
        }
        code.truncate(instruction.len().max(1));
        Some(code)
    }

    /// Displacement and immediates: an address, a far pointer, or small numbers.
    fn tail(&mut self, mode: Mode) -> [u8; 12] {
        let mut bytes = [0; 12];
        let place = self.place(mode) as u32;
        let selector = self.selector(mode);
        let small = self.random.draw().to_le_bytes();
        match self.random.below(3) {
            0 => bytes[..4].copy_from_slice(&place.to_le_bytes()),
            1 => bytes[..4].copy_from_slice(&(0x900_u32 + CODE as u32).to_le_bytes()),
            _ => bytes[..8].copy_from_slice(&small),
        }
        bytes[4..6].copy_from_slice(&selector.to_le_bytes());
        if mode.bits() == 16 {
            bytes[2..4].copy_from_slice(&selector.to_le_bytes());
        }
        bytes
    }

    fn selector(&mut self, mode: Mode) -> u16 {
        match mode {
            Mode::Real | Mode::V86 => self.random.pick(&[0x1000, 0x1200, 0x1080, 0x1700]),
            _ => self.random.pick(&SELECTORS),
        }
    }

    /// An address: in a page of some kind, sometimes across its end.
    fn place(&mut self, mode: Mode) -> u64 {
        let r = &mut self.random;
        let page = match r.below(10) {
            0..=3 => r.below(2),
            4 => 18 + r.below(20),
            _ => r.below(12),
        };
        let offset = match r.below(4) {
            0 => 0x1000 - r.below(9),
            1 => r.below(0x1000),
            _ => r.below(0x200) * 8,
        };
        let at = page * 0x1000 + offset;
        if mode.bits() == 16 {
            return at & 0xFFFF;
        }
        match r.below(40) {
            // Outside 64-bit mode what crosses 4 GiB may fault or not (SDM Vol. 3A, "Limit Checking").
            0 if mode == Mode::Long => 0xFFFF_FFF8,
            0 => 0xFFFF_FFF0,
            1 if mode == Mode::Long => 0x8000_0000_0000 - r.below(4),
            2 => r.below(0x1_0000),
            _ => DATA + at,
        }
    }

    fn fill(&mut self, mode: Mode, cpl: u8, code: Vec<u8>) -> Case {
        let mut gpr = std::array::from_fn(|_| match self.random.below(8) {
            0 => self.random.below(32),
            1 => self.random.draw(),
            2 => u64::from(self.selector(mode)),
            _ => self.place(mode),
        });
        let few = self.random.chance(70);
        if few || is_string(&code, mode) {
            // Not so many that a string reaches the code, nor that it takes long.
            let bound = if few { 6 } else { 256 };
            gpr[Gpr::Rcx as usize] = self.random.below(bound);
        }
        match code.windows(2).find(|w| w[0] == 0x0F).map(|w| w[1]) {
            Some(0x30 | 0x32) => gpr[Gpr::Rcx as usize] = self.random.pick(&MSRS),
            // SYSEXIT, SYSRET: where a HLT is, mostly.
            Some(0x35) if self.random.chance(70) => {
                gpr[Gpr::Rdx as usize] = CODE + 0x900;
                gpr[Gpr::Rcx as usize] = STACK;
            }
            Some(0x07) if self.random.chance(70) => gpr[Gpr::Rcx as usize] = CODE + 0x900,
            // MOV to CR: bits that are there, mostly.
            Some(0x22) if self.random.chance(60) => {
                let value =
                    self.random
                        .pick(&[0x11, 0x8001_0033, 0x31, 0x20, 0xA0, 0x8000, 0x620, 5]);
                gpr[..8].fill(value);
            }
            _ => {}
        }
        let mut case = Case {
            mode,
            cpl,
            code,
            gpr,
            rflags: self.random.draw() & 0x5ED5,
            memory: Vec::new(),
        };
        if self.random.chance(70) {
            let frame = self.frame(mode);
            case.memory.push((STACK, frame));
        }
        let bases = if mode.bits() == 16 { DATA } else { 0 };
        for register in [0, 3, 5, 6, 7] {
            let at = case.gpr[register].wrapping_add(bases);
            if self.random.chance(50) && (DATA..0x3_F000).contains(&at) {
                let pointer = if self.random.chance(50) {
                    self.frame(mode)[..10].to_vec()
                } else {
                    [self.random.draw(), self.random.draw()]
                        .map(u64::to_le_bytes)
                        .concat()
                };
                case.memory.push((at, pointer));
            }
        }
        case
    }

    /// What RETF, IRET and far pointers find: offset, selector, flags, stack.
    fn frame(&mut self, mode: Mode) -> Vec<u8> {
        let width = match mode.bits() {
            _ if self.random.chance(15) => self.random.pick(&[2, 4, 8]),
            16 => 2,
            32 => 4,
            _ => self.random.pick(&[4, 8]),
        };
        let offset = if mode.bits() == 16 {
            0x900
        } else {
            CODE + 0x900
        };
        let flags = self.random.draw() & 0x4E_FED7 | 2;
        let [code, stack] = [self.selector(mode), self.selector(mode)].map(u64::from);
        let words = [offset, code, flags, STACK + 0x100, stack, code, stack];
        let bytes = words.iter().flat_map(|w| w.to_le_bytes()[..width].to_vec());
        bytes.collect()
    }
}
