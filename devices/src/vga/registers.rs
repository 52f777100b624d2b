//! The adapter's ports: which register each byte of 3B0h-3DFh is, and DISPI's.
//!
//! IBM VGA, "VGA Register Port Addresses". Miscellaneous output bit 0 moves the CRTC and input status
//! 1 between 3Bxh (monochrome) and 3Dxh (color); the other place floats, as in QEMU, and with it the
//! rest of those sixteen ports. Input status 0 reads zero (no switch sense), and so does any port
//! between that has no register.

use std::time::Duration;

use crate::RestoreError;
use crate::bus::FLOAT;
use crate::time::Rate;
use crate::vga::attribute::{self, Attribute};
use crate::vga::crtc::{Beam, Clocking, Crtc};
use crate::vga::dac::Dac;
use crate::vga::planar::{self, Planar};
use crate::vga::vbe::Dispi;

/// Miscellaneous output: the CRTC's ports are the color adapter's.
const MISC_COLOR: u8 = 1 << 0;
/// Miscellaneous output: which of the clocks.
const MISC_CLOCK: u8 = 3 << 2;
const MISC_CLOCK_28: u8 = 1 << 2;
const MISC_WRITABLE: u8 = 0xEF;
const FEATURE_WRITABLE: u8 = 0x10;

const STATUS_BLANK: u8 = 1 << 0;
const STATUS_VERTICAL_RETRACE: u8 = 1 << 3;

const CLOCK_25: Rate = Rate::hz(25_175_000);
const CLOCK_28: Rate = Rate::hz(28_322_000);

/// All registers but those of PCI.
#[derive(Debug)]
pub struct Registers {
    /// Sequencer, graphics controller and latches.
    pub planar: Planar,
    /// CRT controller.
    pub crtc: Crtc,
    /// Attribute controller.
    pub attribute: Attribute,
    /// DAC.
    pub dac: Dac,
    /// DISPI.
    pub dispi: Dispi,
    misc: u8,
    feature: u8,
}

/// What is saved of them.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Saved {
    sequencer: (u8, Vec<u8>),
    graphics: (u8, Vec<u8>),
    latches: u32,
    crtc: (u8, Vec<u8>),
    attribute: attribute::Saved,
    dac: Dac,
    dispi: Dispi,
    misc: u8,
    feature: u8,
}

impl Registers {
    /// After reset, over `memory` bytes of video memory.
    pub fn new(memory: u64) -> Self {
        Self {
            planar: Planar::new(),
            crtc: Crtc::new(),
            attribute: Attribute::new(),
            dac: Dac::new(),
            dispi: Dispi::new(memory),
            misc: 0,
            feature: 0,
        }
    }

    /// Hardware reset.
    pub fn reset(&mut self, memory: u64) {
        self.planar.reset();
        self.crtc.reset();
        self.attribute.reset();
        self.dac = Dac::new();
        self.dispi = Dispi::new(memory);
        (self.misc, self.feature) = (0, 0);
    }

    /// Reads the byte at `port` of 3B0h-3DFh.
    pub fn read(&mut self, port: u64, now: Duration) -> u8 {
        if self.is_elsewhere(port) {
            return FLOAT;
        }
        match port {
            0x3C0 => self.attribute.read_index(),
            0x3C1 => self.attribute.read_data(),
            0x3C4 => self.planar.sequencer.index(),
            0x3C5 => self.planar.sequencer.read(),
            0x3C6 => self.dac.mask(),
            0x3C7 => self.dac.state(),
            0x3C8 => self.dac.write_index(),
            0x3C9 => self.dac.read(self.dispi.has_8_bit_dac()),
            0x3CA => self.feature,
            0x3CC => self.misc,
            0x3CE => self.planar.graphics.index(),
            0x3CF => self.planar.graphics.read(),
            0x3B4 | 0x3D4 => self.crtc.regs().index(),
            0x3B5 | 0x3D5 => self.crtc.regs().read(),
            0x3BA | 0x3DA => self.input_status_1(now),
            _ => 0,
        }
    }

    /// Writes the byte at `port` of 3B0h-3DFh.
    pub fn write(&mut self, port: u64, value: u8) {
        if self.is_elsewhere(port) {
            return;
        }
        match port {
            0x3C0 => self.attribute.write(value),
            0x3C2 => self.misc = value & MISC_WRITABLE,
            0x3C4 => self.planar.sequencer.select(value),
            0x3C5 => self.planar.sequencer.write(value),
            0x3C6 => self.dac.set_mask(value),
            0x3C7 => self.dac.start_reading(value),
            0x3C8 => self.dac.start_writing(value),
            0x3C9 => self.dac.write(value),
            0x3CE => self.planar.graphics.select(value),
            0x3CF => self.planar.graphics.write(value),
            0x3B4 | 0x3D4 => self.crtc.select(value),
            0x3B5 | 0x3D5 => self.crtc.write(value),
            0x3BA | 0x3DA => self.feature = value & FEATURE_WRITABLE,
            _ => tracing::debug!(target: "vga", port, value, "nothing to write"),
        }
    }

    /// Where the beam is.
    pub fn beam(&self, now: Duration) -> Beam {
        let clocking = Clocking {
            dots: if self.misc & MISC_CLOCK == MISC_CLOCK_28 {
                CLOCK_28
            } else {
                CLOCK_25
            },
            width: self.character_width() as u64,
        };
        self.crtc.beam(now, clocking)
    }

    /// Dots a character takes on the screen.
    pub fn character_width(&self) -> usize {
        let sequencer = &self.planar.sequencer;
        let eight = sequencer.has(planar::CLOCKING, planar::CLOCKING_8_DOTS);
        let half = sequencer.has(planar::CLOCKING, planar::CLOCKING_HALF);
        (if eight { 8 } else { 9 }) << u32::from(half)
    }

    /// Whether the screen is dark.
    pub fn is_blank(&self) -> bool {
        let off = self
            .planar
            .sequencer
            .has(planar::CLOCKING, planar::CLOCKING_OFF);
        off || !self.attribute.is_shown()
    }

    /// Whether it shows characters.
    pub fn is_text(&self) -> bool {
        let graphics = self
            .planar
            .graphics
            .has(planar::MISC, planar::MISC_GRAPHICS);
        !graphics && !self.dispi.is_enabled()
    }

    /// The color of an entry of the DAC.
    pub fn rgb(&self, entry: u8) -> [u8; 3] {
        self.dac.color(entry, self.dispi.has_8_bit_dac())
    }

    /// What to save.
    pub fn save(&self) -> Saved {
        Saved {
            sequencer: self.planar.sequencer.save(),
            graphics: self.planar.graphics.save(),
            latches: self.planar.latches,
            crtc: self.crtc.regs().save(),
            attribute: self.attribute.save(),
            dac: self.dac.clone(),
            dispi: self.dispi.clone(),
            misc: self.misc,
            feature: self.feature,
        }
    }

    /// The registers of a saved state, over `memory` bytes of video memory.
    ///
    /// # Errors
    /// If no adapter can hold them.
    pub fn restored(saved: Saved, memory: u64) -> Result<Self, RestoreError> {
        let mut new = Self::new(memory);
        new.planar.sequencer.restore(&saved.sequencer)?;
        new.planar.graphics.restore(&saved.graphics)?;
        new.planar.latches = saved.latches;
        new.crtc.restore(&saved.crtc)?;
        new.attribute.restore(&saved.attribute)?;
        new.dac = saved.dac.checked()?;
        new.dispi = saved.dispi.checked(memory)?;
        new.misc = saved.misc & MISC_WRITABLE;
        new.feature = saved.feature & FEATURE_WRITABLE;
        Ok(new)
    }

    /// Whether the port is of the kind of adapter that miscellaneous output does not choose.
    fn is_elsewhere(&self, port: u64) -> bool {
        match self.misc & MISC_COLOR {
            0 => (0x3D0..=0x3DF).contains(&port),
            _ => (0x3B0..=0x3BF).contains(&port),
        }
    }

    fn input_status_1(&mut self, now: Duration) -> u8 {
        self.attribute.expect_index();
        let beam = self.beam(now);
        let blank = if beam.blank { STATUS_BLANK } else { 0 };
        let retrace = if beam.vertical_retrace {
            STATUS_VERTICAL_RETRACE
        } else {
            0
        };
        blank | retrace
    }
}
