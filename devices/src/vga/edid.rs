//! The monitor's data: one block of VESA EDID 1.4.
//!
//! It prefers 1280 by 800 at 60 Hz, as the reference machine's does, and takes the common modes up
//! to 1920 by 1200. Range limits, no extension block.

/// Bytes of the block.
pub const SIZE: usize = 128;

const HEADER: [u8; 8] = [0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0];

/// From byte 8 on: "TWN", product 1, made in 2026; EDID 1.4; digital, 8 bits a color; 34 by 21 cm,
/// gamma 2.2, sRGB, the preferred mode is native; the chromaticities of sRGB.
#[rustfmt::skip]
const IDENTITY: [u8; 27] = [
    0x52, 0xEE, 1, 0, 0, 0, 0, 0, 0, 36, 1, 4,
    0xA0, 34, 21, 120, 0x06,
    0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54,
];

/// 720x400 at 70 Hz; 640x480, 800x600 and 1024x768 at 60 Hz.
const ESTABLISHED: [u8; 3] = [0xA1, 0x08, 0x00];

/// Standard timings at 60 Hz: width and shape.
const STANDARD: [(u16, Aspect); 8] = [
    (1280, Aspect::A16x10),
    (1280, Aspect::A16x9),
    (1280, Aspect::A5x4),
    (1440, Aspect::A16x10),
    (1600, Aspect::A4x3),
    (1680, Aspect::A16x10),
    (1920, Aspect::A16x9),
    (1920, Aspect::A16x10),
];

#[derive(Clone, Copy)]
enum Aspect {
    A16x10 = 0,
    A4x3 = 1,
    A5x4 = 2,
    A16x9 = 3,
}

/// CVT 1280x800 at 60 Hz: 83.5 MHz, 1680 by 831 in all, sync 72+128 and 3+6, -hsync +vsync.
#[rustfmt::skip]
const PREFERRED: [u8; 18] = [
    0x9E, 0x20, 0x00, 0x90, 0x51, 0x20, 0x1F, 0x30, 0x48, 0x80, 0x36, 0x00, 0x54, 0xD2, 0x10, 0, 0, 0x1C,
];

/// 50-75 Hz, 30-90 kHz, up to 200 MHz.
#[rustfmt::skip]
const LIMITS: [u8; 18] = [
    0, 0, 0, 0xFD, 0, 50, 75, 30, 90, 20, 0x01, 0x0A, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
];

const NAME: [u8; 18] = *b"\0\0\0\xFC\0twin86\n      ";
const DUMMY: [u8; 18] = *b"\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The block.
pub fn block() -> [u8; SIZE] {
    let standard = STANDARD.map(|(width, aspect)| {
        // Widths up to 2288 fit.
        [(width / 8 - 31) as u8, (aspect as u8) << 6]
    });
    let parts: [&[u8]; 8] = [
        &HEADER,
        &IDENTITY,
        &ESTABLISHED,
        standard.as_flattened(),
        &PREFERRED,
        &LIMITS,
        &NAME,
        &DUMMY,
    ];
    let mut block = [0; SIZE];
    for (to, from) in block.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    let sum = block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    block[SIZE - 1] = sum.wrapping_neg();
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_in_their_places() {
        let block = block();
        assert_eq!(block[..8], HEADER);
        assert_eq!(block[18..20], [1, 4]);
        assert_eq!(block[54..72], PREFERRED);
        assert_eq!(&block[95..101], b"twin86");
        assert_eq!(block[126], 0);
        assert_eq!(block.iter().fold(0, |s: u8, b| s.wrapping_add(*b)), 0);
        // "TWN" in five bits a letter.
        let letters = [(b'T', 10), (b'W', 5), (b'N', 0)];
        let id = letters.map(|(l, shift)| u16::from(l - b'@') << shift);
        assert_eq!(block[8..10], (id[0] | id[1] | id[2]).to_be_bytes());
    }
}
