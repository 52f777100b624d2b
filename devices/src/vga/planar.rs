//! The way of a byte between processor and video memory: sequencer and graphics controller.
//!
//! IBM VGA, "Sequencer Registers", "Graphics Controller Registers". Video memory holds the four
//! planes side by side: byte `4 * address + plane`. So a doubleword is what the latches take, and
//! what chain-4 shows is linear. Odd/even addressing is packed: the pair of bytes at the window's
//! even address `a` lies at plane address `a / 2` (as in QEMU), and the CRTC counts alike.
//!
//! As in QEMU chained and odd/even reads leave the latches alone, and such writes take only the map
//! mask to heart, not write mode, rotation or set/reset.

use crate::memory::Block;
use crate::regmap::Reg;
use crate::vga::indexed::Indexed;

/// Sequencer: clocking mode.
pub const CLOCKING: u8 = 1;
/// Clocking mode: characters are 8 dots wide, not 9.
pub const CLOCKING_8_DOTS: u8 = 1 << 0;
/// Clocking mode: each dot takes two clocks.
pub const CLOCKING_HALF: u8 = 1 << 3;
/// Clocking mode: the screen is off.
pub const CLOCKING_OFF: u8 = 1 << 5;
const MAP_MASK: u8 = 2;
/// Sequencer: which fonts characters are drawn with.
pub const CHARACTER_MAPS: u8 = 3;
const MEMORY_MODE: u8 = 4;
const CHAIN_4: u8 = 1 << 3;

const SET_RESET: u8 = 0;
const ENABLE_SET_RESET: u8 = 1;
const COLOR_COMPARE: u8 = 2;
const ROTATE: u8 = 3;
const READ_MAP: u8 = 4;
/// Graphics controller: mode.
pub const MODE: u8 = 5;
const MODE_READ_COMPARE: u8 = 1 << 3;
const MODE_ODD_EVEN: u8 = 1 << 4;
/// Graphics controller: miscellaneous.
pub const MISC: u8 = 6;
/// Miscellaneous: graphics, not text.
pub const MISC_GRAPHICS: u8 = 1 << 0;
const DONT_CARE: u8 = 7;
const BIT_MASK: u8 = 8;

#[rustfmt::skip]
const SEQUENCER: &[Reg] = &[
    Reg::rw("reset",          0, 1, 0, 0x03),
    Reg::rw("clocking mode",  1, 1, 0, 0x3D),
    Reg::rw("map mask",       2, 1, 0, 0x0F),
    Reg::rw("character maps", 3, 1, 0, 0x3F),
    Reg::rw("memory mode",    4, 1, 0, 0x0E),
    // No document names it; as in QEMU it is kept.
    Reg::rw("7",              7, 1, 0, 0xFF),
];

#[rustfmt::skip]
const GRAPHICS: &[Reg] = &[
    Reg::rw("set/reset",        0, 1, 0, 0x0F),
    Reg::rw("enable set/reset", 1, 1, 0, 0x0F),
    Reg::rw("color compare",    2, 1, 0, 0x0F),
    Reg::rw("rotate",           3, 1, 0, 0x1F),
    Reg::rw("read map",         4, 1, 0, 0x03),
    Reg::rw("mode",             5, 1, 0, 0x7B),
    Reg::rw("miscellaneous",    6, 1, 0, 0x0F),
    Reg::rw("don't care",       7, 1, 0, 0x0F),
    Reg::rw("bit mask",         8, 1, 0, 0xFF),
];

/// Sequencer, graphics controller and latches.
#[derive(Debug)]
pub struct Planar {
    /// The sequencer.
    pub sequencer: Indexed,
    /// The graphics controller.
    pub graphics: Indexed,
    /// The four latches, plane 0 in the low byte.
    pub latches: u32,
}

/// What DISPI has to say of the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Banking {
    /// Where in video memory the window at A0000h begins, in bytes as the addressing counts them.
    pub offset: u64,
    /// What lies there.
    pub window: Window,
}

/// What decides how the window is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// The registers.
    #[default]
    Registers,
    /// A DISPI mode of four planes: 64 KiB at A0000h whatever the registers say, not chained.
    Planes,
    /// A DISPI mode of packed pixels: 64 KiB at A0000h, linear, and all planes are written.
    Linear,
}

/// How the bytes of the window are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Chain4,
    OddEven,
    Planes,
}

impl Planar {
    /// After reset.
    pub fn new() -> Self {
        Self {
            sequencer: Indexed::new(8, 0x07, SEQUENCER),
            graphics: Indexed::new(16, 0x0F, GRAPHICS),
            latches: 0,
        }
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.sequencer.reset();
        self.graphics.reset();
        self.latches = 0;
    }

    /// The processor reads at `offset` of A0000h-BFFFFh. Bytes outside the window float.
    pub fn read(&mut self, vram: &Block, bank: Banking, offset: u64, data: &mut [u8]) {
        match (self.span(bank, offset, data.len()), self.layout(bank)) {
            (Some(at), Layout::Chain4) if vram.read(at, data).is_ok() => {}
            (Some(at), Layout::OddEven) if at % 2 == 0 && data.len().is_multiple_of(2) => {
                self.read_pairs(vram, at, data);
            }
            _ => {
                for (i, byte) in (0..).zip(data) {
                    if let Some(at) = self.span(bank, offset.saturating_add(i), 1) {
                        self.read_byte(vram, bank, at, byte);
                    }
                }
            }
        }
    }

    /// The processor writes at `offset` of A0000h-BFFFFh. Bytes outside the window are dropped.
    pub fn write(&mut self, vram: &Block, bank: Banking, offset: u64, data: &[u8]) {
        let whole = self.map_mask(bank) == 0x0F;
        match (self.span(bank, offset, data.len()), self.layout(bank)) {
            (Some(at), Layout::Chain4) if whole && vram.write(at, data).is_ok() => {}
            (Some(at), Layout::OddEven) if whole && at % 2 == 0 && data.len().is_multiple_of(2) => {
                self.write_pairs(vram, at, data);
            }
            _ => {
                for (i, byte) in (0..).zip(data) {
                    if let Some(at) = self.span(bank, offset.saturating_add(i), 1) {
                        self.write_byte(vram, bank, at, *byte);
                    }
                }
            }
        }
    }

    fn layout(&self, bank: Banking) -> Layout {
        let chained = self.sequencer.has(MEMORY_MODE, CHAIN_4);
        if bank.window == Window::Linear || chained && bank.window == Window::Registers {
            Layout::Chain4
        } else if self.graphics.has(MODE, MODE_ODD_EVEN) {
            Layout::OddEven
        } else {
            Layout::Planes
        }
    }

    /// Which planes may be written.
    fn map_mask(&self, bank: Banking) -> u8 {
        if bank.window == Window::Linear {
            0x0F
        } else {
            self.sequencer.get(MAP_MASK)
        }
    }

    /// Where the window shows `len` bytes at `offset` of A0000h, if it shows them all.
    fn span(&self, bank: Banking, offset: u64, len: usize) -> Option<u64> {
        let map = match bank.window {
            Window::Registers => self.graphics.get(MISC) >> 2 & 3,
            Window::Planes | Window::Linear => 1,
        };
        let (first, size, from) = match map {
            0 => (0, 0x2_0000, 0),
            1 => (0, 0x1_0000, bank.offset),
            2 => (0x1_0000, 0x8000, 0),
            _ => (0x1_8000, 0x8000, 0),
        };
        let at = offset.checked_sub(first)?;
        let end = at.checked_add(len as u64)?;
        (end <= size).then_some(from + at)
    }

    /// The plane that an address shows in odd/even addressing.
    fn odd_even_plane(&self, at: u64) -> u64 {
        u64::from(self.graphics.get(READ_MAP) & 2) | at & 1
    }

    fn read_byte(&mut self, vram: &Block, bank: Banking, at: u64, byte: &mut u8) {
        // What lies behind the end of video memory floats.
        match self.layout(bank) {
            Layout::Chain4 => drop(vram.read(at, std::slice::from_mut(byte))),
            Layout::OddEven => {
                let at = (at >> 1) * 4 + self.odd_even_plane(at);
                drop(vram.read(at, std::slice::from_mut(byte)));
            }
            Layout::Planes => {
                let mut planes = [0; 4];
                if vram.read(at * 4, &mut planes).is_ok() {
                    self.latches = u32::from_le_bytes(planes);
                    *byte = self.show_latches();
                }
            }
        }
    }

    /// What a read of the latches gives: a plane, or where the colors compare.
    fn show_latches(&self) -> u8 {
        let graphics = &self.graphics;
        if !graphics.has(MODE, MODE_READ_COMPARE) {
            return self.latches.to_le_bytes()[usize::from(graphics.get(READ_MAP) & 3)];
        }
        let differs = self.latches ^ planes(graphics.get(COLOR_COMPARE));
        let [a, b, c, d] = (differs & planes(graphics.get(DONT_CARE))).to_le_bytes();
        !(a | b | c | d)
    }

    fn write_byte(&mut self, vram: &Block, bank: Banking, at: u64, byte: u8) {
        let mask = self.map_mask(bank);
        let single = |plane: u64| mask >> plane & 1 != 0;
        // What lies behind the end of video memory is lost.
        match self.layout(bank) {
            Layout::Chain4 if single(at & 3) => drop(vram.write(at, &[byte])),
            Layout::OddEven if single(self.odd_even_plane(at)) => {
                let at = (at >> 1) * 4 + self.odd_even_plane(at);
                drop(vram.write(at, &[byte]));
            }
            Layout::Chain4 | Layout::OddEven => {}
            Layout::Planes => {
                let written = self.compose(byte);
                store(vram, at * 4, written, planes(mask));
            }
        }
    }

    /// What a byte written becomes on the four planes: write modes 0 to 3.
    fn compose(&self, byte: u8) -> u32 {
        let graphics = &self.graphics;
        let rotated = byte.rotate_right(u32::from(graphics.get(ROTATE) & 7));
        let bits = graphics.get(BIT_MASK);
        let set = planes(graphics.get(SET_RESET));
        let (value, bits) = match graphics.get(MODE) & 3 {
            0 => {
                let enabled = planes(graphics.get(ENABLE_SET_RESET));
                (every(rotated) & !enabled | set & enabled, bits)
            }
            1 => return self.latches,
            2 => (planes(byte), bits),
            _ => (set, bits & rotated),
        };
        let value = match graphics.get(ROTATE) >> 3 & 3 {
            0 => value,
            1 => value & self.latches,
            2 => value | self.latches,
            _ => value ^ self.latches,
        };
        value & every(bits) | self.latches & !every(bits)
    }

    /// Odd/even addressing, whole pairs: each is two neighbouring planes.
    fn read_pairs(&self, vram: &Block, at: u64, data: &mut [u8]) {
        let first = self.odd_even_plane(0);
        for (pair, bytes) in (at >> 1..).zip(data.chunks_exact_mut(2)) {
            drop(vram.read(pair * 4 + first, bytes));
        }
    }

    fn write_pairs(&self, vram: &Block, at: u64, data: &[u8]) {
        let first = self.odd_even_plane(0);
        for (pair, bytes) in (at >> 1..).zip(data.chunks_exact(2)) {
            drop(vram.write(pair * 4 + first, bytes));
        }
    }
}

/// Writes those planes of a doubleword that `mask` names.
fn store(vram: &Block, at: u64, planes: u32, mask: u32) {
    let bytes = planes.to_le_bytes();
    if mask == u32::MAX {
        drop(vram.write(at, &bytes));
        return;
    }
    let enabled = mask.to_le_bytes();
    for (i, byte) in bytes.iter().enumerate().filter(|(i, _)| enabled[*i] != 0) {
        drop(vram.write(at + i as u64, &[*byte]));
    }
}

/// All ones in each plane whose bit is set in `bits`.
fn planes(bits: u8) -> u32 {
    let plane = |i: u8| if bits >> i & 1 != 0 { 0xFF } else { 0 };
    u32::from_le_bytes([plane(0), plane(1), plane(2), plane(3)])
}

/// `byte` in each plane.
fn every(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

#[cfg(test)]
mod tests;
