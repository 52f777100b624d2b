//! The guest that is built into the program.
//!
//! A 64 KiB BIOS image of ours, written in assembly (`*.S` beside this file), that runs from the
//! reset vector through real, protected and long mode, exercises the processor and the devices in
//! [`PARTS`], reports on COM1 and ends through isa-debug-exit at port 501h. Its status is
//! [`ALL_OK`] or [`SOME_FAILED`].
//!
//! The board maps [`image_with`]'s bytes as it maps any `-bios` file: ending at 4 GiB, and again at
//! F0000-FFFFF. Bit *n* of `parts` chooses `PARTS[n]`; a chosen part whose bit is set in
//! `unavailable` is reported as skipped and not run.

mod parts;
mod rom;

pub use parts::{PARTS, Part};
pub use rom::image;

/// Exit status of a run whose parts all passed (`0x10 << 1 | 1`).
pub const ALL_OK: u8 = 0x21;
/// Exit status of a run with a failed part (`0x11 << 1 | 1`).
pub const SOME_FAILED: u8 = 0x23;

/// Size of the image.
pub const SIZE: usize = 0x1_0000;
/// Where the image begins with these bytes.
#[cfg(test)]
const MAGIC: &[u8; 16] = b"twin86 guest 1\0\0";
/// Offset of the 64-bit little-endian word of chosen parts.
const CHOSEN: usize = 0x10;
/// Offset of the 64-bit little-endian word of parts that cannot run here.
const UNAVAILABLE: usize = 0x18;

/// All parts chosen.
pub const ALL: u64 = (1 << PARTS.len()) - 1;

/// The parts that a partial KVM (`kvm_pvm`, kvm-testing.md) cannot run.
pub fn not_on_partial_kvm() -> u64 {
    PARTS
        .iter()
        .enumerate()
        .filter(|(_, part)| !part.partial_kvm)
        .fold(0, |mask, (n, _)| mask | 1 << n)
}

/// A copy of the image that runs `parts` and skips, by name, those that are also in `unavailable`.
///
/// `None` where the program was built without the guest.
pub fn image_with(parts: u64, unavailable: u64) -> Option<Vec<u8>> {
    let mut image = image()?.to_vec();
    image[CHOSEN..CHOSEN + 8].copy_from_slice(&parts.to_le_bytes());
    image[UNAVAILABLE..UNAVAILABLE + 8].copy_from_slice(&unavailable.to_le_bytes());
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(image: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([image[at], image[at + 1]]))
    }

    #[test]
    fn the_header_is_where_it_is_patched() {
        let Some(image) = image_with(0x0123_4567_89ab_cdef, !0x0123_4567_89ab_cdef) else {
            return;
        };
        assert_eq!(image.len(), SIZE);
        assert_eq!(&image[..16], MAGIC);
        assert_eq!(
            image[CHOSEN..CHOSEN + 16],
            [
                0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0x10, 0x32, 0x54, 0x76, 0x98, 0xba,
                0xdc, 0xfe
            ]
        );
        assert_eq!(image[0xfff0], 0xea, "a far jump at the reset vector");
    }

    #[test]
    fn the_table_in_the_image_is_the_table_here() {
        let Some(image) = image() else { return };
        assert_eq!(word(image, 0x20), PARTS.len());
        let table = word(image, 0x24);
        for (n, part) in PARTS.iter().enumerate() {
            let name = &image[word(image, table + n * 8)..];
            let end = name
                .iter()
                .position(|&b| b == 0)
                .expect("a terminated name");
            assert_eq!(&name[..end], part.name.as_bytes(), "row {n}");
        }
    }
}
