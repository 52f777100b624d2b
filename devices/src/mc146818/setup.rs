//! What the machine's setup program leaves in CMOS RAM, as firmware reads it there.
//!
//! Addresses: IBM AT Technical Reference, "CMOS RAM Configuration Information"; from 30h on those of the
//! reference machine and SeaBIOS. Left at zero as there: the checksum at 2Eh, which nobody checks.

use crate::board::{BoardOptions, BootOrder, FloppyDrive, HardDisk};
use crate::memory_map::ram_split;

/// Where the boot order is: third and flags, then second and first.
const BOOT_THIRD: usize = 0x38;
const BOOT: usize = 0x3D;

/// Addresses and bytes.
pub(super) fn bytes(options: &BoardOptions) -> Vec<(usize, u8)> {
    let mut all = memory(options);
    all.push((
        0x5F,
        u8::try_from(options.cpus.saturating_sub(1)).unwrap_or(u8::MAX),
    ));
    all.extend(boot_order(options.boot.once.unwrap_or(options.boot.order)));
    all.extend(floppies(options.drives.floppies));
    all.extend(disks(&options.drives.disks));
    all
}

/// The boot order.
pub(super) fn boot_order(order: BootOrder) -> [(usize, u8); 2] {
    let [first, second, third] = order.map(|device| device.map_or(0, |d| d as u8));
    [(BOOT_THIRD, third << 4), (BOOT, second << 4 | first)]
}

fn memory(options: &BoardOptions) -> Vec<(usize, u8)> {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let (low, high) = ram_split(options.ram);
    let word = |n: u64| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
    let [base_low, base_high] = word((low / KIB).min(640));
    let [ext_low, ext_high] = word(low.saturating_sub(MIB) / KIB);
    let [above_low, above_high] = word(low.saturating_sub(16 * MIB) / (64 * KIB));
    let high = (high / (64 * KIB)).to_le_bytes();
    vec![
        (0x15, base_low),
        (0x16, base_high),
        (0x17, ext_low),
        (0x18, ext_high),
        (0x30, ext_low),
        (0x31, ext_high),
        (0x34, above_low),
        (0x35, above_high),
        (0x5B, high[0]),
        (0x5C, high[1]),
        (0x5D, high[2]),
    ]
}

/// The kinds of floppy drives, and the equipment byte with their number.
fn floppies(drives: [Option<FloppyDrive>; 2]) -> [(usize, u8); 2] {
    const COPROCESSOR: u8 = 1 << 1;
    const MOUSE: u8 = 1 << 2;
    let [a, b] = drives.map(|drive| drive.map_or(0, |d| d as u8));
    let count = match drives.into_iter().flatten().count() {
        0 => 0,
        1 => 1,
        _ => 0x41,
    };
    [(0x10, a << 4 | b), (0x14, COPROCESSOR | MOUSE | count)]
}

/// The disks of the first channel, as "type 47": free geometry; and how all four are translated.
fn disks(disks: &[Option<HardDisk>; 4]) -> Vec<(usize, u8)> {
    /// In the byte of both types: look at 19h and 1Ah.
    const EXTENDED: u8 = 0xF;
    const FREE: u8 = 47;
    let [first, second, ..] = disks;
    let kind = |disk: &Option<HardDisk>| disk.map_or(0, |_| EXTENDED);
    let mut all = vec![(0x12, kind(first) << 4 | kind(second))];
    for (disk, kind_at, at) in [(first, 0x19, 0x1B), (second, 0x1A, 0x24)] {
        if let Some(disk) = disk {
            all.push((kind_at, FREE));
            all.extend((at..).zip(geometry(disk)));
        }
    }
    let translations = disks.iter().zip([0, 2, 4, 6]).filter_map(|(disk, shift)| {
        let translation = disk.as_ref()?.translation as u8;
        Some(translation << shift)
    });
    all.push((0x39, translations.fold(0, |all, one| all | one)));
    all
}

/// Cylinders, heads, write precompensation (none), control, landing zone, sectors.
fn geometry(disk: &HardDisk) -> [u8; 9] {
    const NO_RETRIES: u8 = 0xC0;
    const MORE_THAN_8_HEADS: u8 = 1 << 3;
    let [low, high] = disk.cylinders.to_le_bytes();
    let heads = if disk.heads > 8 { MORE_THAN_8_HEADS } else { 0 };
    let control = NO_RETRIES | heads;
    [
        low,
        high,
        disk.heads,
        0xFF,
        0xFF,
        control,
        low,
        high,
        disk.sectors,
    ]
}
