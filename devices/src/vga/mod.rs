//! The standard VGA, 1234:1111, as function 00:02.0: an IBM VGA with the Bochs VBE extensions.
//!
//! Documents: IBM VGA (PS/2 Hardware Interface Technical Reference, "Video Subsystem"); the Bochs
//! DISPI interface; QEMU's "standard vga" specification (its facts). It answers at ports 3B4h-3B5h, 3BAh,
//! 3C0h-3CFh, 3D4h-3D5h, 3DAh, 1CEh-1D1h and at A0000h-BFFFFh; BAR 0 is the video memory itself, BAR 2 registers:
//! the monitor's EDID at 000h, ports 3C0h-3DFh at 400h, DISPI's words at 500h, the byte order of
//! pixels at 600h-607h. The expansion ROM is the VGA BIOS the user plugs in.
//!
//! - `planar`: from processor to memory: sequencer, graphics controller, latches
//! - `crtc`, `attribute`, `dac`: from memory to screen; `vbe`: DISPI; `registers`: all their ports
//! - `raster`, `text`: what is on the screen, for the host; `edid`: the monitor
//!
//! Saved are the registers; video memory is a block like RAM and saved by whoever saves those
//! ([`crate::board::build::Board::all_blocks`]). As RAM it also keeps its contents over a reset.
//!
//! Not modelled: the vertical interrupt, switch sense, reset of the sequencer, port 3C3h, 46E8h; in
//! QEMU the palette mask 3C6h does nothing and 6-bit DAC entries read back what was written.

mod attribute;
mod crtc;
mod dac;
mod edid;
mod indexed;
mod planar;
mod raster;
mod registers;
mod text;
mod vbe;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::display::{Display, Frame, Text};
use crate::bus::{Region, Space, Widths};
use crate::memory::Block;
use crate::pci::bar::{self, Bar, Mapping};
use crate::pci::config::{Config, Identity};
use crate::pci::{Backing, FIXED, Function, Place};
use crate::vga::raster::Raster;
use crate::vga::registers::Registers;
use crate::vga::vbe::Dispi;
use crate::{At, Clock, Device, RestoreError, State};

const VERSION: u32 = 1;

const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x1111,
    revision: 0x02,
    class: 0x03_0000,
    multifunction: false,
};

const MEMORY: u64 = 16 << 20;
const MEMORY_BAR: usize = 0;
const MMIO_BAR: usize = 2;
const MMIO_SIZE: u64 = 0x1000;

/// The largest VGA BIOS taken.
const MAX_ROM: usize = 1 << 20;

/// The words of DISPI: the index port is even, data follow it at once and aligned.
const DISPI_PORTS: Widths = Widths {
    min: 1,
    max: 2,
    unaligned: true,
};

/// Where it always answers; these number from [`FIXED`] on.
#[rustfmt::skip]
pub const REGIONS: &[Region] = &[
    Region::ports(0x3B4..=0x3B5, Widths::BYTE),
    Region::ports(0x3BA..=0x3BA, Widths::BYTE),
    Region::ports(0x3C0..=0x3CF, Widths::BYTE),
    Region::ports(0x3D4..=0x3D5, Widths::BYTE),
    Region::ports(0x3DA..=0x3DA, Widths::BYTE),
    Region::ports(0x1CE..=0x1D1, DISPI_PORTS),
    Region::memory(0xA_0000..=0xB_FFFF, Widths::between(1, 8)),
];
/// The first port of each of them that are VGA's.
const PORTS: [u64; 5] = [0x3B4, 0x3BA, 0x3C0, 0x3D4, 0x3DA];
const DISPI_REGION: u8 = FIXED + 5;
const WINDOW_REGION: u8 = FIXED + 6;

/// The parts of BAR 2: number, offset, size, widths.
const MMIO: [(u8, u64, u64, Widths); 4] = [
    (EDID_PART, 0x000, edid::SIZE as u64, Widths::between(1, 8)),
    (PORTS_PART, 0x400, 0x20, Widths::BYTE),
    (DISPI_PART, 0x500, 0x18, Widths::between(2, 2)),
    (ORDER_PART, 0x600, 8, Widths::DWORD),
];
const EDID_PART: u8 = 0;
const PORTS_PART: u8 = 1;
const DISPI_PART: u8 = 2;
const ORDER_PART: u8 = 3;

/// The byte order register's values, and the size register before it.
const LITTLE_ENDIAN: u32 = 0x1E1E_1E1E;
const BIG_ENDIAN: u32 = 0xBEBE_BEBE;
const ORDER_SIZE: u32 = 8;

/// Builds the adapter.
///
/// # Panics
/// If the host has no 16 MiB of address space left.
pub fn new(place: &Place<'_>) -> Box<dyn Function> {
    let rom = place.wiring.parts.vga_rom.as_deref().and_then(rom);
    let mut bars = vec![
        (MEMORY_BAR, Bar::memory(MEMORY).prefetchable()),
        (MMIO_BAR, Bar::memory(MMIO_SIZE)),
    ];
    if let Some(rom) = &rom {
        bars.push((bar::ROM, Bar::rom(rom.size())));
    }
    let vram = Block::new("vga.vram", MEMORY).expect("address space for 16 MiB");
    Box::new(Vga {
        config: Config::with_bars(IDENTITY, &[], &bars, place.requests),
        clock: place.wiring.clock.clone(),
        vram: Arc::new(vram),
        rom,
        regs: Registers::new(MEMORY),
        big_endian: false,
    })
}

/// The expansion ROM: as large as a BAR can be, zeros behind the image.
fn rom(image: &[u8]) -> Option<Arc<Block>> {
    let size = image.len().next_power_of_two().max(0x1000) as u64;
    if image.is_empty() || image.len() > MAX_ROM {
        tracing::warn!(target: "vga", size = image.len(), "no VGA BIOS can be of this size");
        return None;
    }
    let block = Block::new("vga.rom", size);
    let filled = block.and_then(|block| block.write(0, image).map(|()| block));
    filled.map(Arc::new).ok()
}

struct Vga {
    config: Config,
    clock: Clock,
    vram: Arc<Block>,
    rom: Option<Arc<Block>>,
    regs: Registers,
    big_endian: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Saved {
    config: Vec<u8>,
    regs: registers::Saved,
    big_endian: bool,
}

impl Vga {
    fn read_port(&mut self, port: u64, data: &mut [u8]) {
        let now = self.clock.now();
        for (port, byte) in (port..).zip(data) {
            *byte = self.regs.read(port, now);
        }
    }

    fn write_port(&mut self, port: u64, data: &[u8]) {
        for (port, byte) in (port..).zip(data) {
            self.regs.write(port, *byte);
        }
    }

    /// DISPI's ports take words alone.
    fn read_dispi_port(&self, port: u64, data: &mut [u8]) {
        if let Ok(word) = <&mut [u8; 2]>::try_from(data) {
            *word = match port {
                0 => self.regs.dispi.index(),
                1 | 2 => self.regs.dispi.read(),
                _ => return,
            }
            .to_le_bytes();
        }
    }

    fn write_dispi_port(&mut self, port: u64, data: &[u8]) {
        let Ok(word) = <[u8; 2]>::try_from(data).map(u16::from_le_bytes) else {
            return;
        };
        match port {
            0 => self.regs.dispi.select(word),
            1 | 2 => self.change_dispi(|dispi| dispi.write(word)),
            _ => {}
        }
    }

    fn change_dispi(&mut self, change: impl FnOnce(&mut Dispi) -> u64) {
        let cleared = change(&mut self.regs.dispi);
        if let Ok(cleared) = usize::try_from(cleared) {
            let zeros = [0; 0x1000];
            for at in (0..cleared).step_by(zeros.len()) {
                let len = zeros.len().min(cleared - at);
                drop(self.vram.write(at as u64, &zeros[..len]));
            }
        }
    }

    fn read_order(&self, offset: u64, data: &mut [u8]) {
        let value = match (offset, self.big_endian) {
            (0, _) => ORDER_SIZE,
            (4, false) => LITTLE_ENDIAN,
            (4, true) => BIG_ENDIAN,
            _ => return,
        };
        copy(&value.to_le_bytes(), data);
    }

    fn write_order(&mut self, offset: u64, data: &[u8]) {
        match (offset, <[u8; 4]>::try_from(data).map(u32::from_le_bytes)) {
            (4, Ok(LITTLE_ENDIAN)) => self.big_endian = false,
            (4, Ok(BIG_ENDIAN)) => self.big_endian = true,
            _ => {}
        }
    }

    /// The video memory VGA's own modes show.
    fn planes(&self) -> Vec<u8> {
        let mut planes = vec![0; raster::PLANES];
        // Video memory is larger.
        drop(self.vram.read(0, &mut planes));
        planes
    }
}

/// Copies what both have.
fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

impl Device for Vga {
    fn read(&mut self, At { region, offset }: At, data: &mut [u8]) {
        let port = PORTS.get(usize::from(region.wrapping_sub(FIXED)));
        match (region, port) {
            (_, Some(first)) => self.read_port(first + (offset & 0xFF), data),
            (DISPI_REGION, _) => self.read_dispi_port(offset, data),
            (WINDOW_REGION, _) => {
                let bank = self.regs.dispi.banking();
                self.regs.planar.read(&self.vram, bank, offset, data);
            }
            (EDID_PART, _) => {
                let edid = edid::block();
                let from = usize::try_from(offset).ok().and_then(|at| edid.get(at..));
                copy(from.unwrap_or_default(), data);
            }
            (PORTS_PART, _) => self.read_port(0x3C0 + (offset & 0xFF), data),
            (DISPI_PART, _) => {
                let index = u16::try_from(offset / 2).unwrap_or(u16::MAX);
                copy(&self.regs.dispi.get(index).to_le_bytes(), data);
            }
            (ORDER_PART, _) => self.read_order(offset, data),
            _ => {}
        }
    }

    fn write(&mut self, At { region, offset }: At, data: &[u8]) {
        let port = PORTS.get(usize::from(region.wrapping_sub(FIXED)));
        match (region, port) {
            (_, Some(first)) => self.write_port(first + (offset & 0xFF), data),
            (DISPI_REGION, _) => self.write_dispi_port(offset, data),
            (WINDOW_REGION, _) => {
                let bank = self.regs.dispi.banking();
                self.regs.planar.write(&self.vram, bank, offset, data);
            }
            (PORTS_PART, _) => self.write_port(0x3C0 + (offset & 0xFF), data),
            (DISPI_PART, _) => {
                let index = u16::try_from(offset / 2).unwrap_or(u16::MAX);
                if let Ok(word) = <[u8; 2]>::try_from(data) {
                    self.change_dispi(|dispi| dispi.set(index, u16::from_le_bytes(word)));
                }
            }
            (ORDER_PART, _) => self.write_order(offset, data),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.config.reset();
        self.regs.reset(MEMORY);
        self.big_endian = false;
    }

    fn save(&self) -> State {
        let saved = Saved {
            config: self.config.save(),
            regs: self.regs.save(),
            big_endian: self.big_endian,
        };
        State::of(VERSION, &saved)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let saved: Saved = from.fields(VERSION)?;
        let regs = Registers::restored(saved.regs, MEMORY)?;
        self.config.restore(&saved.config)?;
        self.regs = regs;
        self.big_endian = saved.big_endian;
        Ok(())
    }
}

impl Function for Vga {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn memory(&self) -> Vec<Backing> {
        let vram = Backing {
            bar: MEMORY_BAR,
            block: Arc::clone(&self.vram),
            read_only: false,
            log_dirty: true,
        };
        let rom = self.rom.as_ref().map(|rom| Backing {
            bar: bar::ROM,
            block: Arc::clone(rom),
            read_only: true,
            log_dirty: false,
        });
        std::iter::once(vram).chain(rom).collect()
    }

    /// The parts of BAR 2; between them it floats.
    fn windows(&self) -> Vec<(u8, Region)> {
        let Some(Mapping { first, .. }) = self.config.mapping(MMIO_BAR) else {
            return Vec::new();
        };
        let part = |(number, offset, size, widths)| {
            let start = first + offset;
            let region = Region {
                space: Space::Memory,
                range: start..=start + (size - 1),
                widths,
            };
            (number, region)
        };
        MMIO.map(part).to_vec()
    }

    fn display(&self) -> Option<&dyn Display> {
        Some(self)
    }
}

impl Display for Vga {
    fn frame(&self) -> Frame {
        let now: Duration = self.clock.now();
        match self.regs.dispi.mode() {
            Some(mode) => raster::dispi_frame(&self.regs, &self.vram, &mode, self.big_endian),
            None => {
                let picture = self.regs.beam(now).picture;
                Raster::new(&self.regs, &self.planes(), picture).frame()
            }
        }
    }

    fn text(&self) -> Option<Text> {
        text::dump(&self.regs, &self.planes())
    }
}

#[cfg(test)]
mod tests;
