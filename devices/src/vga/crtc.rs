//! CRT controller: geometry of the picture, where it begins in video memory, and where the beam is.
//!
//! IBM VGA, "CRT Controller Registers". The beam is computed from guest time and the registers, so
//! software that polls for retrace sees it come and go at the mode's rate. Registers that describe no
//! picture a monitor could show (before a mode is set, or with DISPI's modes) run at the 70 Hz of
//! the BIOS's text mode, so that nobody polls forever.
//!
//! Not modelled: the vertical interrupt, skews, the compatibility read of 22h-24h; indices past 18h
//! are storage, as in QEMU.

use std::time::Duration;

use crate::RestoreError;
use crate::regmap::Reg;
use crate::time::Rate;
use crate::vga::indexed::Indexed;

const H_TOTAL: u8 = 0x00;
const H_DISPLAY_END: u8 = 0x01;
const V_TOTAL: u8 = 0x06;
const OVERFLOW: u8 = 0x07;
const PRESET_ROW_SCAN: u8 = 0x08;
const MAX_SCAN_LINE: u8 = 0x09;
const CURSOR_START: u8 = 0x0A;
const CURSOR_OFF: u8 = 1 << 5;
const CURSOR_END: u8 = 0x0B;
const START_ADDRESS: u8 = 0x0C;
const CURSOR_LOCATION: u8 = 0x0E;
const V_RETRACE_START: u8 = 0x10;
const V_RETRACE_END: u8 = 0x11;
const PROTECT: u8 = 1 << 7;
const V_DISPLAY_END: u8 = 0x12;
const OFFSET: u8 = 0x13;
const UNDERLINE: u8 = 0x14;
const MODE_CONTROL: u8 = 0x17;
const LINE_COMPARE: u8 = 0x18;

/// The last register the protect bit covers.
const PROTECTED: u8 = 0x07;
/// Of the last protected register this stays writable: line compare's bit 8.
const UNPROTECTED: u8 = 1 << 4;

/// The CRT controller.
#[derive(Debug)]
pub struct Crtc(Indexed);

/// The cursor of text modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The address of its character.
    pub address: u16,
    /// Its first scan line in the character.
    pub first: u8,
    /// Its last.
    pub last: u8,
}

/// How characters are clocked out: bits of other registers.
#[derive(Clone, Copy, Debug)]
pub struct Clocking {
    /// Dots a second.
    pub dots: Rate,
    /// Dots a character.
    pub width: u64,
}

/// Where the beam is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beam {
    /// Nothing is displayed: a border, or a retrace.
    pub blank: bool,
    /// It returns to the top.
    pub vertical_retrace: bool,
    /// How many pictures there were before.
    pub picture: u64,
}

/// The totals of a picture, in characters and lines.
struct Timing {
    h_total: u64,
    h_display: u64,
    v_total: u64,
    v_display: u64,
    v_retrace: std::ops::Range<u64>,
}

impl Timing {
    /// 80 by 25 characters at 70 Hz.
    const TEXT: Self = Self {
        h_total: 100,
        h_display: 80,
        v_total: 449,
        v_display: 400,
        v_retrace: 412..414,
    };

    fn is_sound(&self) -> bool {
        self.h_display < self.h_total
            && self.v_display <= self.v_retrace.start
            && self.v_retrace.end <= self.v_total
    }
}

impl Crtc {
    /// After reset.
    pub fn new() -> Self {
        let all = Reg::rw("CRTC", 0, 1, 0, 0xFF).times(256);
        Self(Indexed::new(256, 0xFF, &[all]))
    }

    /// The registers.
    pub fn regs(&self) -> &Indexed {
        &self.0
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Writes the index register.
    pub fn select(&mut self, index: u8) {
        self.0.select(index);
    }

    /// Writes the register selected, as far as it is not protected.
    pub fn write(&mut self, value: u8) {
        let before = self.0.read();
        let protected = self.0.has(V_RETRACE_END, PROTECT);
        match self.0.index() {
            OVERFLOW if protected => {
                self.0.write(before & !UNPROTECTED | value & UNPROTECTED);
            }
            0..=PROTECTED if protected => {}
            _ => self.0.write(value),
        }
    }

    /// Takes saved registers over.
    ///
    /// # Errors
    /// If there are not as many; nothing has changed then.
    pub fn restore(&mut self, saved: &(u8, Vec<u8>)) -> Result<(), RestoreError> {
        self.0.restore(saved)
    }

    /// Characters displayed in a line.
    pub fn columns(&self) -> usize {
        usize::from(self.0.get(H_DISPLAY_END)) + 1
    }

    /// Scan lines displayed.
    pub fn lines(&self) -> usize {
        usize::from(self.tall(V_DISPLAY_END, 1, 6)) + 1
    }

    /// Scan lines of a row of characters, not counting doubled ones.
    pub fn row_height(&self) -> usize {
        usize::from(self.0.get(MAX_SCAN_LINE) & 0x1F) + 1
    }

    /// Each scan line is displayed twice.
    pub fn is_doubled(&self) -> bool {
        self.0.has(MAX_SCAN_LINE, 0x80)
    }

    /// The last scan line before addresses start again at zero.
    pub fn line_compare(&self) -> usize {
        let bit_9 = u16::from(self.0.get(MAX_SCAN_LINE) >> 6 & 1) << 9;
        let bit_8 = u16::from(self.0.get(OVERFLOW) >> 4 & 1) << 8;
        usize::from(u16::from(self.0.get(LINE_COMPARE)) | bit_8 | bit_9)
    }

    /// The address of the first character.
    pub fn start(&self) -> u16 {
        self.pair(START_ADDRESS)
    }

    /// How far the addresses of two rows are apart.
    pub fn pitch(&self) -> usize {
        2 * usize::from(self.0.get(OFFSET))
    }

    /// The scan line of its row the picture begins with.
    pub fn preset_row_scan(&self) -> usize {
        usize::from(self.0.get(PRESET_ROW_SCAN) & 0x1F)
    }

    /// The scan line of a character that underlines it.
    pub fn underline(&self) -> usize {
        usize::from(self.0.get(UNDERLINE) & 0x1F)
    }

    /// The cursor, if it is on.
    pub fn cursor(&self) -> Option<Cursor> {
        let first = self.0.get(CURSOR_START);
        let cursor = Cursor {
            address: self.pair(CURSOR_LOCATION),
            first: first & 0x1F,
            last: self.0.get(CURSOR_END) & 0x1F,
        };
        (first & CURSOR_OFF == 0 && cursor.first <= cursor.last).then_some(cursor)
    }

    /// An address in the banks of the older adapters' graphics modes, which the scan line of the row
    /// chooses: the address bits that mode control takes from there. In word mode, where addresses
    /// count pairs of bytes, they are one lower.
    pub fn banked(&self, address: usize, row_scan: usize) -> usize {
        let mode = self.0.get(MODE_CONTROL);
        let word = usize::from(mode >> 6 & 1 == 0);
        let substitute = |address: usize, from: u8, bit: usize| {
            if mode >> from & 1 != 0 {
                return address;
            }
            let bank = row_scan >> from & 1;
            address & !(1 << (bit - word)) | bank << (bit - word)
        };
        substitute(substitute(address, 0, 13), 1, 14)
    }

    /// Where the beam is.
    pub fn beam(&self, now: Duration, clocking: Clocking) -> Beam {
        let timing = Some(self.timing()).filter(Timing::is_sound);
        let timing = timing.unwrap_or(Timing::TEXT);
        let line_dots = timing.h_total * clocking.width;
        let dot = clocking.dots.ticks_at(now);
        let line = dot / line_dots % timing.v_total;
        let character = dot % line_dots / clocking.width;
        Beam {
            blank: line >= timing.v_display || character >= timing.h_display,
            vertical_retrace: timing.v_retrace.contains(&line),
            picture: dot / line_dots / timing.v_total,
        }
    }

    fn timing(&self) -> Timing {
        let start = u64::from(self.tall(V_RETRACE_START, 2, 7));
        // Of the last line only four bits are compared, as the next time they come.
        let end = u64::from(self.0.get(V_RETRACE_END) & 0x0F);
        let lines = end.wrapping_sub(start) & 0x0F;
        Timing {
            h_total: u64::from(self.0.get(H_TOTAL)) + 5,
            h_display: self.columns() as u64,
            v_total: u64::from(self.tall(V_TOTAL, 0, 5)) + 2,
            v_display: self.lines() as u64,
            v_retrace: start..start + if lines == 0 { 16 } else { lines },
        }
    }

    /// A count of lines, whose upper bits are two of the overflow register.
    fn tall(&self, index: u8, bit_8: u8, bit_9: u8) -> u16 {
        let overflow = self.0.get(OVERFLOW);
        let bit = |from: u8, to: u8| u16::from(overflow >> from & 1) << to;
        u16::from(self.0.get(index)) | bit(bit_8, 8) | bit(bit_9, 9)
    }

    /// Two registers, the high one first.
    fn pair(&self, index: u8) -> u16 {
        u16::from_be_bytes([self.0.get(index), self.0.get(index + 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crtc(regs: &[(u8, u8)]) -> Crtc {
        let mut crtc = Crtc::new();
        for &(index, value) in regs {
            crtc.select(index);
            crtc.write(value);
        }
        crtc
    }

    #[test]
    fn protection_covers_0_to_7_but_for_line_compare() {
        let mut crtc = crtc(&[(0x00, 0x5F), (0x07, 0x1F), (0x11, 0x8E)]);
        for index in 0..=0x18 {
            crtc.select(index);
            crtc.write(if index == 0x11 { 0x8E } else { 0 });
        }
        assert_eq!(crtc.regs().get(0), 0x5F);
        assert_eq!(crtc.regs().get(7), 0x0F);
        crtc.select(0x11);
        crtc.write(0);
        crtc.select(0);
        crtc.write(0x12);
        assert_eq!(crtc.regs().get(0), 0x12);
    }

    /// The BIOS's mode 3.
    const TEXT: &[(u8, u8)] = &[
        (0x00, 0x5F),
        (0x01, 0x4F),
        (0x06, 0xBF),
        (0x07, 0x1F),
        (0x09, 0x4F),
        (0x10, 0x9C),
        (0x11, 0x8E),
        (0x12, 0x8F),
        (0x13, 0x28),
        (0x18, 0xFF),
    ];

    const CLOCKING: Clocking = Clocking {
        dots: Rate::hz(28_322_000),
        width: 9,
    };

    #[test]
    fn the_beam_runs_at_the_modes_rate() {
        // Before a mode is set, the same.
        for crtc in [crtc(TEXT), crtc(&[])] {
            let at = |us| crtc.beam(Duration::from_micros(us), CLOCKING);
            let mut last = at(0);
            assert!(!last.blank && !last.vertical_retrace);
            let (mut retraces, mut blanks) = (0, 0);
            for us in 1..1_000_000 {
                let now = at(us);
                retraces += u32::from(now.vertical_retrace && !last.vertical_retrace);
                blanks += u32::from(now.blank && !last.blank);
                assert!(now.blank || !now.vertical_retrace);
                last = now;
            }
            assert_eq!(retraces, 70);
            assert!((28_000..28_200).contains(&blanks), "{blanks} lines");
            assert_eq!(last.picture, 70);
        }
    }

    #[test]
    fn heights_have_ten_bits() {
        let crtc = crtc(TEXT);
        assert_eq!((crtc.columns(), crtc.lines()), (80, 400));
        assert_eq!((crtc.row_height(), crtc.line_compare()), (16, 0x3FF));
    }

    #[test]
    fn banks_follow_the_scan_line() {
        // CGA, Hercules-like, none; word and byte mode.
        for (mode, expected) in [
            (0xA2, [0x10, 0x1010, 0x10, 0x1010]),
            (0xC2, [0x10, 0x2010, 0x10, 0x2010]),
            (0xC0, [0x10, 0x2010, 0x4010, 0x6010]),
            (0xE3, [0x10; 4]),
        ] {
            let crtc = crtc(&[(MODE_CONTROL, mode)]);
            let banks = [0, 1, 2, 3].map(|scan| crtc.banked(0x10, scan));
            assert_eq!(banks, expected, "{mode:#x}");
        }
    }
}
