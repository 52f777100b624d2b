//! Small pictures of each kind of mode. (Whole pictures of the BIOS's modes 4 to 13h and
//! of VBE modes were found equal to those of QEMU 7.2.)

use super::*;
use crate::vga::registers::Registers;
use std::time::Duration;

const MEMORY: u64 = 16 << 20;

struct Bench {
    regs: Registers,
    planes: Vec<u8>,
}

impl Bench {
    /// Two characters by `lines`, a palette in which entry `n` is color `n`, all planes shown.
    fn new(lines: u8) -> Self {
        let mut bench = Self {
            regs: Registers::new(MEMORY),
            planes: vec![0; PLANES],
        };
        bench.out(0x3C2, 0x01);
        bench.sequencer(1, 0x01);
        bench.crtc(0x01, 1);
        bench.crtc(0x12, lines - 1);
        bench.crtc(0x13, 1);
        bench.crtc(0x17, 0xE3);
        bench.crtc(0x18, 0xFF);
        bench.crtc(0x0A, 0x20);
        for entry in 0..16 {
            bench.attribute(entry, entry);
        }
        bench.attribute(0x12, 0x0F);
        bench.out(0x3C0, 0x20);
        bench.out(0x3C8, 0);
        for entry in 0..=255u8 {
            for part in 0..3 {
                bench.out(0x3C9, entry.wrapping_add(part) & 0x3F);
            }
        }
        bench
    }

    fn out(&mut self, port: u64, value: u8) {
        self.regs.write(port, value);
    }

    fn sequencer(&mut self, index: u8, value: u8) {
        self.out(0x3C4, index);
        self.out(0x3C5, value);
    }

    fn graphics(&mut self, index: u8, value: u8) {
        self.out(0x3CE, index);
        self.out(0x3CF, value);
    }

    fn crtc(&mut self, index: u8, value: u8) {
        self.out(0x3D4, index);
        self.out(0x3D5, value);
    }

    fn attribute(&mut self, index: u8, value: u8) {
        self.regs.read(0x3DA, Duration::ZERO);
        self.out(0x3C0, index);
        self.out(0x3C0, value);
        self.regs.read(0x3DA, Duration::ZERO);
        self.out(0x3C0, 0x20);
        self.regs.read(0x3DA, Duration::ZERO);
    }

    fn put(&mut self, address: usize, planes: [u8; 4]) {
        self.planes[4 * address..4 * address + 4].copy_from_slice(&planes);
    }

    fn lines_at(&self, picture: u64) -> Vec<Vec<u8>> {
        let frame = Raster::new(&self.regs, &self.planes, picture).frame();
        let dot = |rgb: &[u8]| {
            let entry = |e: &u8| self.regs.rgb(*e) == rgb;
            (0..=255u8).find(entry).expect("a color of the palette")
        };
        let lines = frame.rgb.chunks(3 * frame.width);
        lines
            .map(|line| line.chunks(3).map(dot).collect())
            .collect()
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        self.lines_at(0)
    }
}

#[test]
fn planes_are_bits_of_a_color() {
    let mut bench = Bench::new(2);
    bench.graphics(6, 0x01);
    bench.put(0, [0b1000_0001, 0b1100_0000, 0b1110_0000, 0b1111_0000]);
    bench.put(3, [0xFF, 0, 0, 0]);
    let first = [15, 14, 12, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let second = [[0; 8], [1; 8]].concat();
    assert_eq!(bench.lines(), [first.to_vec(), second]);
    bench.attribute(0x12, 0x03);
    assert_eq!(bench.lines()[0][..4], [3, 2, 0, 0]);
}

#[test]
fn interleaved_pixels_are_two_bits_and_two_planes() {
    let mut bench = Bench::new(1);
    bench.graphics(6, 0x01);
    bench.graphics(5, 0x20);
    bench.put(0, [0b00_01_10_11, 0b11_10_01_00, 0b11_00_00_00, 0]);
    assert_eq!(bench.lines()[0][..8], [12, 1, 2, 3, 3, 2, 1, 0]);
}

#[test]
fn bytes_of_256_colors_are_two_dots() {
    let mut bench = Bench::new(4);
    bench.graphics(6, 0x01);
    bench.graphics(5, 0x40);
    bench.crtc(0x09, 0x01);
    bench.put(0, [1, 2, 3, 4]);
    bench.put(1, [5, 6, 7, 8]);
    let first = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8];
    assert_eq!(bench.lines(), [&first[..], &first, &[0; 16], &[0; 16]]);
    bench.attribute(0x13, 4);
    assert_eq!(bench.lines()[0][..8], [3, 3, 4, 4, 5, 5, 6, 6], "panning");
}

#[test]
fn the_older_adapters_banks_alternate() {
    let mut bench = Bench::new(4);
    bench.graphics(6, 0x01);
    bench.crtc(0x17, 0xC2);
    bench.crtc(0x09, 0x01);
    for (address, byte) in [(0, 0x80), (0x2000, 0x40), (2, 0x20), (0x2002, 0x10)] {
        bench.put(address, [byte, 0, 0, 0]);
    }
    for (line, dots) in bench.lines().iter().enumerate() {
        assert_eq!(dots.iter().position(|d| *d == 1), Some(line));
    }
}

#[test]
fn a_split_screen_starts_again_at_zero() {
    let mut bench = Bench::new(6);
    bench.graphics(6, 0x01);
    bench.crtc(0x0D, 0x10);
    bench.crtc(0x07, 0x00);
    bench.crtc(0x09, 0x00);
    bench.crtc(0x18, 3);
    for line in 0..6 {
        bench.put(line * 2, [1 << line, 0, 0, 0]);
        bench.put(0x10 + line * 2, [0x80, 0, 0, 0]);
    }
    let at = |line: &Vec<u8>| line.iter().position(|d| *d == 1);
    let places: Vec<_> = bench.lines().iter().map(at).collect();
    let places: Vec<_> = places.into_iter().flatten().collect();
    assert_eq!(places, [0, 0, 0, 0, 7, 6]);
    bench.attribute(0x13, 1);
    assert_eq!(bench.lines()[4].iter().position(|d| *d == 1), Some(6));
    bench.attribute(0x10, 0x20);
    assert_eq!(bench.lines()[4].iter().position(|d| *d == 1), Some(7));
}

/// Eight lines of "A" and of a line drawing, nine dots wide.
fn text() -> Bench {
    let mut bench = Bench::new(8);
    bench.sequencer(1, 0x00);
    bench.crtc(0x09, 0x07);
    bench.attribute(0x13, 8);
    bench.put(0, [b'A', 0x1E, 0, 0]);
    bench.put(1, [0xC4, 0x07, 0, 0]);
    bench.planes[4 * (32 * usize::from(b'A') + 3) + 2] = 0b1010_0001;
    bench.planes[4 * (32 * 0xC4 + 3) + 2] = 0xFF;
    bench
}

#[test]
fn characters_are_the_fonts() {
    let mut bench = text();
    let lines = bench.lines();
    assert_eq!(lines[3][..9], [14, 1, 14, 1, 1, 1, 1, 14, 1]);
    assert_eq!(lines[3][9..], [7, 7, 7, 7, 7, 7, 7, 7, 0]);
    assert_eq!(lines[2], [[1; 9], [0; 9]].concat());
    bench.attribute(0x10, 0x04);
    assert_eq!(bench.lines()[3][9..], [7; 9], "line graphics join");
    bench.attribute(0x13, 0);
    assert_eq!(
        bench.lines()[3][..3],
        [1, 14, 1],
        "8 is no panning, 0 is a dot"
    );
    bench.attribute(0x13, 8);
    // Another font for characters with attribute bit 3.
    bench.sequencer(3, 0x04);
    assert_eq!(bench.lines()[3][..8], [1; 8]);
}

#[test]
fn the_cursor_and_characters_blink() {
    let mut bench = text();
    for (index, value) in [(0x0A, 6), (0x0B, 7), (0x0F, 1)] {
        bench.crtc(index, value);
    }
    assert_eq!(bench.lines()[7][9..], [7; 9]);
    assert_eq!(bench.lines()[5][9..], [0; 9]);
    assert_eq!(bench.lines_at(8)[7][9..], [0; 9], "off");
    bench.put(0, [b'A', 0x9E, 0, 0]);
    assert_eq!(
        bench.lines_at(16)[3][..3],
        [14, 9, 14],
        "a bright background"
    );
    bench.attribute(0x10, 0x08);
    assert_eq!(bench.lines_at(0)[3][..3], [14, 1, 14]);
    assert_eq!(bench.lines_at(16)[3][..3], [1, 1, 1]);
}

#[test]
fn a_dark_screen_is_black() {
    let mut bench = text();
    bench.sequencer(1, 0x20);
    let black = Frame::black(18, 8);
    assert_eq!(Raster::new(&bench.regs, &bench.planes, 0).frame(), black);
    bench.sequencer(1, 0x00);
    assert_ne!(Raster::new(&bench.regs, &bench.planes, 0).frame(), black);
    bench.out(0x3C0, 0x00);
    assert_eq!(Raster::new(&bench.regs, &bench.planes, 0).frame(), black);
}

/// `bytes` as the first pixels of a DISPI mode that is panned to line 1, and the first two colors.
fn dispi(bpp: u16, big_endian: bool, bytes: &[u8]) -> [[u8; 3]; 2] {
    let mut bench = Bench::new(8);
    let vram = Block::new("vram", MEMORY).unwrap();
    for (index, value) in [(1, 8), (2, 2), (3, bpp), (4, 0x41), (9, 1)] {
        bench.regs.dispi.set(index, value);
    }
    let mode = bench.regs.dispi.mode().unwrap();
    vram.write(mode.pitch, bytes).unwrap();
    let frame = dispi_frame(&bench.regs, &vram, &mode, big_endian);
    assert_eq!((frame.width, frame.height, frame.rgb.len()), (8, 2, 48));
    [0, 3].map(|at| [frame.rgb[at], frame.rgb[at + 1], frame.rgb[at + 2]])
}

#[test]
fn dispi_pixels() {
    let palette = |entry: u8| [entry, entry + 1, entry + 2].map(|c| (c << 2) | ((c & 1) * 3));
    assert_eq!(
        dispi(4, false, &[0x80, 0x40, 0, 0x40]),
        [palette(1), palette(10)]
    );
    assert_eq!(dispi(8, false, &[7, 9]), [palette(7), palette(9)]);
    let red_blue = [[255, 0, 0], [0, 0, 255]];
    assert_eq!(dispi(15, false, &[0x00, 0x7C, 0x1F, 0x00]), red_blue);
    assert_eq!(dispi(16, false, &[0x00, 0xF8, 0x1F, 0x00]), red_blue);
    assert_eq!(dispi(16, true, &[0xF8, 0x00, 0x00, 0x1F]), red_blue);
    assert_eq!(dispi(24, false, &[0, 0, 255, 255, 0, 0]), red_blue);
    assert_eq!(dispi(32, false, &[0, 0, 255, 9, 255, 0, 0, 9]), red_blue);
    assert_eq!(dispi(32, true, &[9, 255, 0, 0, 9, 0, 0, 255]), red_blue);
    assert_eq!(dispi(16, false, &[0x10, 0x84, 0, 0])[0], [0x84, 0x82, 0x84]);
}
