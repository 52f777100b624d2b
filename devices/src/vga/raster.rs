//! The picture, dot by dot: text, planar, the color graphics adapter's modes, 256 colors and DISPI.
//!
//! IBM VGA, "CRT Controller Registers", "Attribute Controller Registers". A picture is as wide and
//! high as the registers make it (a 320 by 200 mode of 400 scan lines is 640 by 400). Addresses count
//! as the processor's way does ([`crate::vga::planar`]), so the CRTC's byte, word and doubleword
//! modes say nothing more. Drawn: panning, split screen, blinking, cursor, underline of monochrome text.
//!
//! QEMU 7.2 draws the BIOS's modes alike, but it joins characters B0h-BFh too, makes 40 columns of
//! text 640 dots wide, neither pans nor blinks characters, and shows white of 15 bits as F8h.
//!
//! Not drawn: the border (overscan), halved vertical counts, 512 characters' loss of bit 3 as a color.

use crate::backend::display::Frame;
use crate::memory::Block;
use crate::vga::planar;
use crate::vga::registers::Registers;
use crate::vga::text::cell;
use crate::vga::vbe::Mode;
use crate::vga::{attribute, crtc};

/// What VGA's own modes can show: 64 KiB of each plane.
pub const PLANES: usize = 4 << 16;

/// Bytes of a plane's fonts: 8 of 256 characters, 32 lines each.
const FONT: usize = 0x2000;
const FONT_LINES: usize = 32;

const SHIFT_INTERLEAVED: u8 = 1 << 5;
const SHIFT_256: u8 = 1 << 6;

/// Pictures the cursor is on and then off; characters blink half as fast.
const CURSOR_PICTURES: u64 = 8;

/// What is drawn: registers, the planes, and how many pictures there were before.
pub struct Raster<'a> {
    regs: &'a Registers,
    planes: &'a [u8],
    picture: u64,
}

/// How a scan line becomes colors of the attribute controller, or entries of the DAC.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shift {
    Planar,
    Interleaved,
    Packed,
}

/// One scan line: where its first character lies, and which line of its row it is.
struct Line {
    address: usize,
    row_scan: usize,
    panning: bool,
}

impl<'a> Raster<'a> {
    /// The picture of `regs` over the first [`PLANES`] bytes of video memory.
    pub fn new(regs: &'a Registers, planes: &'a [u8], picture: u64) -> Self {
        Self {
            regs,
            planes,
            picture,
        }
    }

    /// Draws it.
    pub fn frame(&self) -> Frame {
        let crtc = &self.regs.crtc;
        let character = self.character_width();
        let width = crtc.columns() * character;
        let mut frame = Frame::black(width, crtc.lines());
        if self.regs.is_blank() {
            return frame;
        }
        // A character more, for panning.
        let mut dots = Vec::with_capacity(width + character);
        for (line, rgb) in self.lines().zip(frame.rgb.chunks_exact_mut(3 * width)) {
            dots.clear();
            if self.regs.is_text() {
                self.text_line(&line, &mut dots);
            } else {
                self.graphics_line(&line, &mut dots);
            }
            let skipped = if line.panning { self.panning() } else { 0 };
            for (pixel, dot) in rgb.chunks_exact_mut(3).zip(dots.iter().skip(skipped)) {
                pixel.copy_from_slice(&self.regs.rgb(*dot));
            }
        }
        frame
    }

    /// Dots of a character: graphics has no ninth.
    fn character_width(&self) -> usize {
        let width = self.regs.character_width();
        if self.regs.is_text() {
            width
        } else {
            width / 8 * 8
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        let crtc = &self.regs.crtc;
        let doubled = 1 << usize::from(crtc.is_doubled());
        let split_pans = !self.attribute_has(attribute::MODE_PANNING);
        let (mut address, mut scan) = (crtc.start().into(), crtc.preset_row_scan() * doubled);
        let mut panning = true;
        (0..crtc.lines()).map(move |y| {
            let line = Line {
                address,
                row_scan: scan / doubled,
                panning,
            };
            scan += 1;
            if scan >= crtc.row_height() * doubled {
                (address, scan) = (address + crtc.pitch(), 0);
            }
            if y == crtc.line_compare() {
                (address, scan, panning) = (0, 0, split_pans && panning);
            }
            line
        })
    }

    /// Dots the picture is moved to the left.
    fn panning(&self) -> usize {
        let regs = &self.regs;
        let value = usize::from(regs.attribute.regs().get(attribute::PANNING));
        let nine = regs.is_text() && regs.character_width().is_multiple_of(9);
        let dots = match (nine, value) {
            (true, 0..=7) => value + 1,
            (true, _) => 0,
            // Two dots are one pixel of 256 colors.
            (false, _) if !regs.is_text() && self.shift() == Shift::Packed => value & 6,
            (false, _) => value & 7,
        };
        dots * self.zoom()
    }

    /// Dots on the screen for one dot of a character.
    fn zoom(&self) -> usize {
        self.regs.character_width() / 8
    }

    fn attribute_has(&self, bits: u8) -> bool {
        self.regs.attribute.regs().has(attribute::MODE, bits)
    }

    fn text_line(&self, line: &Line, dots: &mut Vec<u8>) {
        let attribute = &self.regs.attribute;
        let cursor = self.regs.crtc.cursor().filter(|_| self.cursor_is_lit());
        let blinks = self.attribute_has(attribute::MODE_BLINK);
        for column in 0..=self.regs.crtc.columns() {
            let address = line.address + column;
            let cell = cell(self.planes, address);
            let (mut fore, mut back) = (cell.attribute & 0x0F, cell.attribute >> 4);
            if blinks {
                let dark = back & 8 != 0 && (self.picture / (2 * CURSOR_PICTURES)) & 1 != 0;
                back &= 7;
                fore = if dark { back } else { fore };
            }
            let at = |c: &crtc::Cursor| {
                let lines = usize::from(c.first)..=usize::from(c.last);
                usize::from(c.address) == address & 0xFFFF && lines.contains(&line.row_scan)
            };
            let pattern = if cursor.as_ref().is_some_and(at) || self.underlines(fore, line) {
                0x1FF
            } else {
                self.pattern(cell.code, cell.attribute, line.row_scan)
            };
            let colors = [attribute.color(back), attribute.color(fore)];
            self.push_pattern(pattern, colors, dots);
        }
    }

    /// The cursor blinks.
    fn cursor_is_lit(&self) -> bool {
        (self.picture / CURSOR_PICTURES) & 1 == 0
    }

    fn underlines(&self, fore: u8, line: &Line) -> bool {
        let mono = self.attribute_has(attribute::MODE_MONO);
        mono && fore & 7 == 1 && line.row_scan == self.regs.crtc.underline()
    }

    /// Nine dots of a character, the first one highest.
    fn pattern(&self, code: u8, attribute: u8, row_scan: usize) -> u16 {
        let maps = self.regs.planar.sequencer.get(planar::CHARACTER_MAPS);
        let map = if attribute & 8 == 0 {
            (maps & 3) << 1 | maps >> 4 & 1
        } else {
            (maps >> 2 & 3) << 1 | maps >> 5 & 1
        };
        let at = usize::from(map) * FONT + usize::from(code) * FONT_LINES + row_scan;
        let bits = self.planes.get(at * 4 + 2).copied().unwrap_or(0);
        // Line graphics reach the next character.
        let joins = (0xC0..=0xDF).contains(&code);
        let ninth = joins && self.attribute_has(attribute::MODE_LINE_GRAPHICS);
        u16::from(bits) << 1 | u16::from(ninth && bits & 1 != 0)
    }

    fn push_pattern(&self, pattern: u16, [back, fore]: [u8; 2], dots: &mut Vec<u8>) {
        let (width, zoom) = (self.regs.character_width(), self.zoom());
        for dot in 0..width / zoom {
            let lit = pattern >> (8 - dot.min(8)) & 1 != 0;
            let color = if lit { fore } else { back };
            dots.extend(std::iter::repeat_n(color, zoom));
        }
    }

    fn shift(&self) -> Shift {
        let mode = self.regs.planar.graphics.get(planar::MODE);
        match (mode & SHIFT_256, mode & SHIFT_INTERLEAVED) {
            (0, 0) => Shift::Planar,
            (0, _) => Shift::Interleaved,
            _ => Shift::Packed,
        }
    }

    fn graphics_line(&self, line: &Line, dots: &mut Vec<u8>) {
        let (shift, zoom) = (self.shift(), self.zoom());
        for column in 0..=self.regs.crtc.columns() {
            let address = self.regs.crtc.banked(line.address + column, line.row_scan);
            let at = address % (self.planes.len() / 4).max(1) * 4;
            let planes = self.planes.get(at..at + 4).unwrap_or(&[0; 4]);
            let planes = [planes[0], planes[1], planes[2], planes[3]];
            for dot in 0..8 {
                let color = match shift {
                    Shift::Planar => self.regs.attribute.color(planar_dot(planes, dot)),
                    Shift::Interleaved => self.regs.attribute.color(interleaved_dot(planes, dot)),
                    Shift::Packed => planes[dot / 2],
                };
                dots.extend(std::iter::repeat_n(color, zoom));
            }
        }
    }
}

/// One bit of each plane.
fn planar_dot(planes: [u8; 4], dot: usize) -> u8 {
    let bit = |plane: usize| (planes[plane] >> (7 - dot) & 1) << plane;
    bit(0) | bit(1) | bit(2) | bit(3)
}

/// Two bits of plane 0 and two of plane 2; the second half of planes 1 and 3.
fn interleaved_dot(planes: [u8; 4], dot: usize) -> u8 {
    let bits = |plane: u8| plane >> (6 - 2 * (dot % 4)) & 3;
    bits(planes[dot / 4]) | bits(planes[2 + dot / 4]) << 2
}

/// Draws a DISPI mode.
pub fn dispi_frame(regs: &Registers, vram: &Block, mode: &Mode, big_endian: bool) -> Frame {
    let mut frame = Frame::black(mode.width, mode.height);
    if regs.is_blank() {
        return frame;
    }
    let bytes = mode.width * usize::from(mode.bpp.next_multiple_of(4)) / 8;
    let mut line = vec![0; bytes];
    let lines = frame.rgb.chunks_exact_mut(3 * mode.width);
    for (y, rgb) in (0u64..).zip(lines) {
        // A mode's lines lie in video memory.
        if vram.read(mode.start + y * mode.pitch, &mut line).is_err() {
            break;
        }
        if mode.bpp == 4 {
            planar_pixels(regs, &line, rgb);
        } else {
            packed_pixels(regs, mode.bpp, big_endian, &line, rgb);
        }
    }
    frame
}

fn planar_pixels(regs: &Registers, line: &[u8], rgb: &mut [u8]) {
    let octets = line.as_chunks::<4>().0.iter();
    for (planes, pixels) in octets.zip(rgb.chunks_mut(3 * 8)) {
        for (dot, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let color = regs.attribute.color(planar_dot(*planes, dot));
            pixel.copy_from_slice(&regs.rgb(color));
        }
    }
}

fn packed_pixels(regs: &Registers, bpp: u16, big_endian: bool, line: &[u8], rgb: &mut [u8]) {
    let size = usize::from(bpp.div_ceil(8));
    for (bytes, pixel) in line.chunks_exact(size).zip(rgb.chunks_exact_mut(3)) {
        let value = bytes.iter().enumerate().fold(0, |value, (i, byte)| {
            let place = if big_endian { size - 1 - i } else { i };
            value | u32::from(*byte) << (8 * place)
        });
        let color = match bpp {
            8 => regs.rgb(value as u8),
            15 => [field(value, 10, 5), field(value, 5, 5), field(value, 0, 5)],
            16 => [field(value, 11, 5), field(value, 5, 6), field(value, 0, 5)],
            _ => [value >> 16, value >> 8, value].map(|byte| byte as u8),
        };
        pixel.copy_from_slice(&color);
    }
}

/// A color of `bits` (5 or 6) bits as 8, its highest bits repeated.
fn field(value: u32, from: u32, bits: u32) -> u8 {
    let color = value >> from & ((1 << bits) - 1);
    (color << (8 - bits) | color >> (2 * bits - 8)) as u8
}

#[cfg(test)]
mod tests;
