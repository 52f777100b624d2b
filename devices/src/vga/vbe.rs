//! Bochs VBE extensions ("DISPI"): packed-pixel modes of any size, by an index and a data port.
//!
//! Document: the Bochs DISPI interface, version B0C5h. Ports 1CEh (index), 1CFh and 1D0h (data), 16 bits.
//! What a mode cannot have is put right as it is set, so that its lines always lie in video memory;
//! while no mode is on the registers keep what they were given.
//!
//! In QEMU an enabled mode also rewrites VGA registers (size, offset, memory map, chain-4). Here they
//! keep what was written, and the mode overrides what they say; when it is turned off they still
//! describe the mode before.

use crate::RestoreError;
use crate::vga::planar::{Banking, Window};

const ID: u16 = 0;
const X_RES: u16 = 1;
const Y_RES: u16 = 2;
const BPP: u16 = 3;
const ENABLE: u16 = 4;
const BANK: u16 = 5;
const VIRT_WIDTH: u16 = 6;
/// How many lines fit; as in QEMU it cannot be written and has 16 bits however many there are.
const VIRT_HEIGHT: u16 = 7;
const X_OFFSET: u16 = 8;
const Y_OFFSET: u16 = 9;
const COUNT: usize = 10;
/// Video memory in units of 64 KiB; reads alone.
const VIDEO_MEMORY: u16 = 10;

const ID_FIRST: u16 = 0xB0C0;
const ID_LAST: u16 = 0xB0C5;

const ENABLED: u16 = 1 << 0;
const GET_CAPS: u16 = 1 << 1;
const DAC_8_BITS: u16 = 1 << 5;
const KEEP_MEMORY: u16 = 1 << 7;

const MAX_X: u16 = 16000;
const MAX_Y: u16 = 12000;
const MAX_BPP: u16 = 32;
const BANK_SIZE: u64 = 0x1_0000;

/// The DISPI registers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Dispi {
    index: u16,
    regs: [u16; COUNT],
    /// The bank in effect: a mode begins with the first.
    bank: u16,
    eight_bit_dac: bool,
    /// Bytes of video memory.
    #[serde(skip)]
    memory: u64,
}

/// A mode that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Pixels in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Bits a pixel: 4 (planar), 8, 15, 16, 24 or 32.
    pub bpp: u16,
    /// Where the first line begins in video memory.
    pub start: u64,
    /// How many bytes two lines are apart.
    pub pitch: u64,
}

impl Dispi {
    /// After reset, over `memory` bytes.
    pub fn new(memory: u64) -> Self {
        let mut regs = [0; COUNT];
        regs[usize::from(ID)] = ID_LAST;
        Self {
            index: 0,
            regs,
            bank: 0,
            eight_bit_dac: false,
            memory,
        }
    }

    /// The index register.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Writes the index register.
    pub fn select(&mut self, index: u16) {
        self.index = index;
    }

    /// Reads the register selected.
    pub fn read(&self) -> u16 {
        self.get(self.index)
    }

    /// Reads register `index`.
    pub fn get(&self, index: u16) -> u16 {
        let caps = self.reg(ENABLE) & GET_CAPS != 0;
        match index {
            X_RES if caps => MAX_X,
            Y_RES if caps => MAX_Y,
            BPP if caps => MAX_BPP,
            VIDEO_MEMORY => u16::try_from(self.memory / BANK_SIZE).unwrap_or(u16::MAX),
            _ => self.reg(index),
        }
    }

    /// Writes the register selected; returns how many bytes of video memory shall be cleared.
    pub fn write(&mut self, value: u16) -> u64 {
        self.set(self.index, value)
    }

    /// Writes register `index`; returns how many bytes of video memory shall be cleared.
    pub fn set(&mut self, index: u16, value: u16) -> u64 {
        match index {
            ID if (ID_FIRST..=ID_LAST).contains(&value) => self.regs[usize::from(ID)] = value,
            ENABLE => return self.enable(value),
            BANK => {
                // Both are powers of two.
                let last = self.memory / BANK_SIZE - 1;
                self.bank = value & u16::try_from(last).unwrap_or(u16::MAX);
                self.regs[usize::from(BANK)] = self.bank;
            }
            X_RES..=BPP | VIRT_WIDTH | X_OFFSET | Y_OFFSET => {
                self.regs[usize::from(index)] = value;
                self.fit();
            }
            _ => tracing::debug!(target: "vga", index, value, "no such DISPI register"),
        }
        0
    }

    /// Whether a mode is on.
    pub fn is_enabled(&self) -> bool {
        self.reg(ENABLE) & ENABLED != 0
    }

    /// Whether DAC entries are 8 bits a color.
    pub fn has_8_bit_dac(&self) -> bool {
        self.eight_bit_dac
    }

    /// What the window at A0000h shows.
    pub fn banking(&self) -> Banking {
        Banking {
            offset: u64::from(self.bank) * BANK_SIZE,
            window: match (self.is_enabled(), self.reg(BPP)) {
                (false, _) => Window::Registers,
                (true, 4) => Window::Planes,
                (true, _) => Window::Linear,
            },
        }
    }

    /// The mode, if one is on.
    pub fn mode(&self) -> Option<Mode> {
        if !self.is_enabled() {
            return None;
        }
        Some(Mode {
            width: self.reg(X_RES).into(),
            height: self.reg(Y_RES).into(),
            bpp: self.reg(BPP),
            start: self.start(),
            pitch: self.pitch(),
        })
    }

    /// Checks what was restored, for `memory` bytes.
    ///
    /// # Errors
    /// If it is a mode that would not have been set.
    pub fn checked(mut self, memory: u64) -> Result<Self, RestoreError> {
        self.memory = memory;
        let mut fitted = self.clone();
        fitted.fit();
        if fitted == self && u64::from(self.bank) < memory / BANK_SIZE {
            Ok(self)
        } else {
            Err(RestoreError::Impossible {
                field: "DISPI mode",
            })
        }
    }

    fn enable(&mut self, value: u16) -> u64 {
        let begins = value & ENABLED != 0 && !self.is_enabled();
        self.regs[usize::from(ENABLE)] = value;
        self.eight_bit_dac = value & DAC_8_BITS != 0;
        if !begins {
            self.bank = 0;
            return 0;
        }
        for index in [VIRT_WIDTH, X_OFFSET, Y_OFFSET] {
            self.regs[usize::from(index)] = 0;
        }
        self.fit();
        if value & KEEP_MEMORY == 0 {
            self.pitch() * u64::from(self.reg(Y_RES))
        } else {
            0
        }
    }

    /// Puts a mode right that is on.
    fn fit(&mut self) {
        if !self.is_enabled() {
            return;
        }
        if !matches!(self.reg(BPP), 4 | 8 | 15 | 16 | 24 | 32) {
            self.regs[usize::from(BPP)] = 8;
        }
        self.change(X_RES, |x| (x & !7).clamp(8, MAX_X));
        let width = self.reg(X_RES);
        self.change(VIRT_WIDTH, |x| (x & !7).min(MAX_X).max(width));
        let fitting = self.memory / self.pitch();
        self.regs[usize::from(VIRT_HEIGHT)] = fitting as u16;
        let lines = u16::try_from(fitting).unwrap_or(u16::MAX).min(MAX_Y);
        self.change(Y_RES, |y| y.clamp(1, lines.max(1)));
        self.change(X_OFFSET, |x| x.min(MAX_X));
        self.change(Y_OFFSET, |y| y.min(MAX_Y));
        for index in [Y_OFFSET, X_OFFSET] {
            if self.start() + self.pitch() * u64::from(self.reg(Y_RES)) > self.memory {
                self.regs[usize::from(index)] = 0;
            }
        }
    }

    /// Bytes that `pixels` take in a line, of four planes together.
    fn bytes(&self, pixels: u16) -> u64 {
        let bits = match self.reg(BPP) {
            15 => 16,
            bpp => u64::from(bpp),
        };
        u64::from(pixels) * bits / 8
    }

    /// At least 4: a mode that is on is at least 8 pixels wide.
    fn pitch(&self) -> u64 {
        self.bytes(self.reg(VIRT_WIDTH)).max(4)
    }

    fn start(&self) -> u64 {
        let start = self.bytes(self.reg(X_OFFSET)) + self.pitch() * u64::from(self.reg(Y_OFFSET));
        // The picture begins with a whole doubleword.
        start & !3
    }

    fn reg(&self, index: u16) -> u16 {
        self.regs.get(usize::from(index)).copied().unwrap_or(0)
    }

    fn change(&mut self, index: u16, change: impl FnOnce(u16) -> u16) {
        self.regs[usize::from(index)] = change(self.reg(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMORY: u64 = 16 << 20;

    fn mode(x: u16, y: u16, bpp: u16) -> Dispi {
        let mut dispi = Dispi::new(MEMORY);
        for (index, value) in [(X_RES, x), (Y_RES, y), (BPP, bpp)] {
            dispi.set(index, value);
        }
        dispi
    }

    #[test]
    fn a_mode_is_set_and_cleared() {
        let mut dispi = mode(1024, 768, 32);
        assert_eq!(dispi.mode(), None);
        assert_eq!(dispi.set(ENABLE, 0x41), 1024 * 768 * 4);
        let on = dispi.mode().unwrap();
        assert_eq!((on.width, on.height, on.bpp), (1024, 768, 32));
        assert_eq!((on.start, on.pitch), (0, 4096));
        assert_eq!(dispi.get(VIRT_WIDTH), 1024);
        assert_eq!(dispi.set(ENABLE, 0x41), 0, "it is on already");
        dispi.set(ENABLE, 0);
        assert_eq!(dispi.set(ENABLE, 0xC1), 0, "memory is kept");
    }

    #[test]
    fn capabilities_are_read_in_place_of_the_mode() {
        let mut dispi = mode(640, 480, 8);
        dispi.set(ENABLE, GET_CAPS);
        assert_eq!(
            [X_RES, Y_RES, BPP].map(|r| dispi.get(r)),
            [MAX_X, MAX_Y, 32]
        );
        dispi.set(ENABLE, 0);
        assert_eq!([X_RES, Y_RES, BPP].map(|r| dispi.get(r)), [640, 480, 8]);
        assert_eq!(dispi.get(VIDEO_MEMORY), 256);
    }

    #[test]
    fn only_known_versions_are_taken() {
        let mut dispi = Dispi::new(MEMORY);
        for (given, read) in [
            (0xB0C0, 0xB0C0),
            (0xB0C6, 0xB0C0),
            (0xB0C5, 0xB0C5),
            (0, 0xB0C5),
        ] {
            dispi.set(ID, given);
            assert_eq!(dispi.get(ID), read);
        }
    }

    proptest! {
        /// Whatever is written in whatever order, a mode lies in video memory.
        #[test]
        fn a_mode_stays_in_memory(
            writes in prop::collection::vec((0u16..12, prop_oneof![any::<u16>(), 0u16..2000]), 0..40),
        ) {
            let mut dispi = Dispi::new(MEMORY);
            for (index, value) in writes {
                let value = if index == ENABLE { value | value >> 8 & 1 } else { value };
                let cleared = dispi.set(index, value);
                prop_assert!(cleared <= MEMORY);
                if let Some(mode) = dispi.mode() {
                    let end = mode.start + mode.pitch * mode.height as u64;
                    prop_assert!(end <= MEMORY && mode.height >= 1 && mode.width >= 8);
                    let line = mode.width as u64 * u64::from(mode.bpp + mode.bpp % 2) / 8;
                    prop_assert!(line <= mode.pitch);
                }
                let bank = dispi.banking().offset;
                prop_assert!(bank + BANK_SIZE <= MEMORY);
                prop_assert!(dispi.clone().checked(MEMORY).is_ok());
            }
        }
    }
}
