//! Attribute controller: one port for index and data, told apart by a flip-flop.
//!
//! IBM VGA, "Attribute Controller Registers". As in QEMU port 3C0h reads zero while the flip-flop
//! waits for data.

use crate::RestoreError;
use crate::regmap::Reg;
use crate::vga::indexed::Indexed;

/// Mode control.
pub const MODE: u8 = 0x10;
/// Mode control: monochrome attributes.
pub const MODE_MONO: u8 = 1 << 1;
/// Mode control: line graphics characters fill their ninth dot.
pub const MODE_LINE_GRAPHICS: u8 = 1 << 2;
/// Mode control: attribute bit 7 blinks.
pub const MODE_BLINK: u8 = 1 << 3;
/// Mode control: panning ends where the lines compare.
pub const MODE_PANNING: u8 = 1 << 5;
/// Mode control: color select gives bits 4 and 5 too.
pub const MODE_COLOR_SELECT: u8 = 1 << 7;
/// Color plane enable.
pub const PLANES: u8 = 0x12;
/// Horizontal pixel panning.
pub const PANNING: u8 = 0x13;
/// Color select.
pub const COLOR_SELECT: u8 = 0x14;

const INDEX: u8 = 0x1F;
const PALETTE_SHOWN: u8 = 1 << 5;

#[rustfmt::skip]
const ROWS: &[Reg] = &[
    Reg::rw("palette",      0x00, 1, 0, 0x3F).times(16),
    Reg::rw("mode control", 0x10, 1, 0, 0xEF),
    Reg::rw("overscan",     0x11, 1, 0, 0xFF),
    Reg::rw("plane enable", 0x12, 1, 0, 0x3F),
    Reg::rw("panning",      0x13, 1, 0, 0x0F),
    Reg::rw("color select", 0x14, 1, 0, 0x0F),
];

/// The attribute controller.
#[derive(Debug)]
pub struct Attribute {
    regs: Indexed,
    /// The next byte written is data.
    data_next: bool,
    /// Bit 5 of the index: the palette belongs to the display, not to the processor.
    shown: bool,
}

/// What is saved.
pub type Saved = ((u8, Vec<u8>), bool, bool);

impl Attribute {
    /// After reset.
    pub fn new() -> Self {
        Self {
            regs: Indexed::new(0x20, INDEX, ROWS),
            data_next: false,
            shown: false,
        }
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.regs.reset();
        (self.data_next, self.shown) = (false, false);
    }

    /// The next byte written is an index (a read of input status 1).
    pub fn expect_index(&mut self) {
        self.data_next = false;
    }

    /// Port 3C0h written.
    pub fn write(&mut self, value: u8) {
        if self.data_next {
            self.regs.write(value);
        } else {
            self.regs.select(value);
            self.shown = value & PALETTE_SHOWN != 0;
        }
        self.data_next = !self.data_next;
    }

    /// Port 3C0h read.
    pub fn read_index(&self) -> u8 {
        match (self.data_next, self.shown) {
            (true, _) => 0,
            (false, true) => self.regs.index() | PALETTE_SHOWN,
            (false, false) => self.regs.index(),
        }
    }

    /// Port 3C1h read.
    pub fn read_data(&self) -> u8 {
        self.regs.read()
    }

    /// The registers.
    pub fn regs(&self) -> &Indexed {
        &self.regs
    }

    /// Whether anything is displayed.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// The DAC's entry for a color of the four planes.
    pub fn color(&self, planes: u8) -> u8 {
        let entry = self.regs.get(planes & self.regs.get(PLANES) & 0x0F);
        let select = self.regs.get(COLOR_SELECT);
        if self.regs.has(MODE, MODE_COLOR_SELECT) {
            entry & 0x0F | select << 4
        } else {
            entry & 0x3F | (select & 0x0C) << 4
        }
    }

    /// What to save.
    pub fn save(&self) -> Saved {
        (self.regs.save(), self.data_next, self.shown)
    }

    /// Takes a saved state over.
    ///
    /// # Errors
    /// If it is not of an attribute controller; nothing has changed then.
    pub fn restore(&mut self, (regs, data_next, shown): &Saved) -> Result<(), RestoreError> {
        self.regs.restore(regs)?;
        (self.data_next, self.shown) = (*data_next, *shown);
        Ok(())
    }
}
