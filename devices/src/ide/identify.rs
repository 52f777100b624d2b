//! What drives say of themselves: IDENTIFY DEVICE and IDENTIFY PACKET DEVICE. ATA/ATAPI-6, 8.15 and 8.16.

use super::ata::MULTIPLE;
use super::unit::{Kind, Unit};

/// The last sector a 28-bit command reaches.
pub const LAST_LBA28: u64 = 0x0FFF_FFFE;
/// Sectors that 48-bit commands reach.
const LBA48_SECTORS: u64 = 1 << 48;

/// What both kinds say: the version's first byte is that of the program.
const REVISION: &str = env!("CARGO_PKG_VERSION");
/// ATA-1 to ATA/ATAPI-6.
const MAJOR_VERSION: u16 = 0x007E;
/// ATAPI: removable CD-ROM, 12-byte packets, DRQ within 50 us.
const PACKET_CONFIGURATION: u16 = 0x85C0;
/// A fixed ATA disk.
const DISK_CONFIGURATION: u16 = 0x0040;
/// IORDY, LBA and DMA.
const CAPABILITIES: u16 = 0x0F00;
/// SMART, power management, write cache, look-ahead.
const SMART: u16 = 1 << 0;
const POWER: u16 = 1 << 3;
const PACKET: u16 = 1 << 4;
const WRITE_CACHE: u16 = 1 << 5;
const LOOK_AHEAD: u16 = 1 << 6;
const DEVICE_RESET: u16 = 1 << 9;
/// FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses.
const COMMANDS_2: u16 = 0x3400;
/// Words 83, 84 and 87 are there.
const VALID: u16 = 0x4000;

/// The 256 words.
pub fn words(unit: &Unit) -> [u16; 256] {
    let mut words = [0; 256];
    match unit.kind() {
        Kind::CdRom => cd_rom(unit, &mut words),
        Kind::Disk | Kind::None => disk(unit, &mut words),
    }
    let usual = format!("TW{:05}", unit.number + 1);
    let serial = unit
        .drive
        .as_ref()
        .and_then(|drive| drive.serial.as_deref());
    text(&mut words[10..20], serial.unwrap_or(&usual));
    text(&mut words[23..27], REVISION);
    words
}

fn disk(unit: &Unit, words: &mut [u16; 256]) {
    let settings = unit.chip.ata;
    let total = unit.disk().map_or(0, |disk| disk.sectors());
    if let Some(geometry) = unit.geometry {
        words[1] = geometry.cylinders;
        words[3] = geometry.heads.into();
        words[6] = geometry.sectors.into();
    }
    let track = u64::from(settings.heads) * u64::from(settings.sectors);
    let cylinders = (total / track.max(1)).min(16383);
    let reached = cylinders * track;
    words[0] = DISK_CONFIGURATION;
    text(&mut words[27..47], "TWIN86 HARDDISK");
    words[47] = 0x8000 | u16::from(MULTIPLE);
    words[54] = low(cylinders);
    words[55] = settings.heads.into();
    words[56] = settings.sectors.into();
    number(&mut words[57..59], reached);
    if settings.multiple > 0 {
        words[59] = 0x0100 | u16::from(settings.multiple);
    }
    number(&mut words[60..62], total.min(LAST_LBA28 + 1));
    words[82] = SMART | POWER | WRITE_CACHE | LOOK_AHEAD;
    words[83] = VALID | COMMANDS_2;
    words[84] = VALID;
    let set = |on: bool, bit: u16| if on { bit } else { 0 };
    words[85] = POWER
        | set(settings.smart, SMART)
        | set(settings.write_cache, WRITE_CACHE)
        | set(settings.look_ahead, LOOK_AHEAD);
    words[86] = COMMANDS_2;
    words[87] = VALID;
    // The result of a hardware reset, and an 80-conductor cable.
    words[93] = if unit.number & 1 == 0 { 0x6001 } else { 0x6100 };
    number(&mut words[100..104], total.min(LBA48_SECTORS));
    transfer_modes(unit, words);
}

fn cd_rom(unit: &Unit, words: &mut [u16; 256]) {
    words[0] = PACKET_CONFIGURATION;
    text(&mut words[27..47], "TWIN86 CD-ROM");
    words[82] = POWER | PACKET | DEVICE_RESET;
    words[83] = VALID;
    words[84] = VALID;
    words[85] = POWER | PACKET | DEVICE_RESET;
    words[87] = VALID;
    transfer_modes(unit, words);
}

/// What both kinds do: the modes there are, and the one in use.
fn transfer_modes(unit: &Unit, words: &mut [u16; 256]) {
    let mode = unit.chip.ata.mode;
    let in_use = |kind: u8| {
        let bit = 0x0100 << (mode & 7);
        if mode >> 3 == kind { bit } else { 0 }
    };
    words[48] = 1; // 32 bits at the data port
    words[49] = CAPABILITIES;
    words[53] = 7; // words 54-58, 64-70 and 88 are there
    words[63] = 0x0007 | in_use(4);
    words[64] = 0x0003; // PIO modes 3 and 4
    words[65..69].fill(120); // cycle times in ns
    words[80] = MAJOR_VERSION;
    words[88] = 0x003F | in_use(8);
}

/// Text as these words have it: the first character above the second, blanks to the end.
fn text(words: &mut [u16], text: &str) {
    let printable = text.bytes().filter(|byte| (0x20..0x7F).contains(byte));
    let mut bytes = printable.chain(std::iter::repeat(b' '));
    for word in words {
        let mut next = || bytes.next().unwrap_or(b' ');
        *word = u16::from_be_bytes([next(), next()]);
    }
}

/// A number over several words, the lowest first.
fn number(words: &mut [u16], value: u64) {
    for (n, word) in words.iter_mut().enumerate() {
        *word = low(value >> (16 * n));
    }
}

fn low(value: u64) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}
