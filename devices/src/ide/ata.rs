//! The commands of the command register. ATA/ATAPI-6, 8 "Command descriptions".
//!
//! An address beyond the end fails the command before any sector moves. Standby and sleep change what CHECK
//! POWER MODE tells, nothing else: any command wakes the drive.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::identify;
use super::taskfile::{ABRT, IDNF, TaskFile};
use super::transfer::Transfer;
use super::unit::{Failed, Kind, Next, Unit};
use crate::RestoreError;
use crate::board::HardDisk;

/// Sectors of a block of READ MULTIPLE at most.
pub const MULTIPLE: u8 = 16;
/// The highest Ultra DMA mode.
const UDMA: u8 = 5;
/// The highest multiword DMA mode.
const MDMA: u8 = 2;
const SECTOR: u32 = 512;

const POWER_ACTIVE: u8 = 0xFF;
const POWER_IDLE: u8 = 0x80;
const POWER_STANDBY: u8 = 0x00;

/// What the guest set of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Sectors of a block of READ MULTIPLE; 0 if there is no such command.
    pub multiple: u8,
    /// The transfer mode, as SET FEATURES has it.
    pub mode: u8,
    /// The logical geometry.
    pub heads: u8,
    pub sectors: u8,
    pub write_cache: bool,
    pub look_ahead: bool,
    pub smart: bool,
    power: u8,
}

impl Settings {
    pub fn new(geometry: Option<HardDisk>) -> Self {
        Self {
            multiple: MULTIPLE,
            mode: 0x40 | UDMA,
            heads: geometry.map_or(16, |g| g.heads.max(1)),
            sectors: geometry.map_or(63, |g| g.sectors.max(1)),
            write_cache: true,
            look_ahead: true,
            smart: true,
            power: POWER_ACTIVE,
        }
    }

    /// What came from a saved state must be something that could be.
    pub fn check(&self) -> Result<(), RestoreError> {
        let sound = self.heads > 0 && self.sectors > 0 && self.multiple <= MULTIPLE;
        let impossible = RestoreError::Impossible { field: "geometry" };
        if sound { Ok(()) } else { Err(impossible) }
    }

    /// The sector that a CHS address names.
    fn chs(self, task: &TaskFile) -> Option<u64> {
        let cylinder = u64::from(u16::from_le_bytes([task.mid.now, task.high.now]));
        let head = task.device & 0x0F;
        let sector = u64::from(task.low.now).checked_sub(1)?;
        let known = head < self.heads && sector < self.sectors.into();
        let track = cylinder * u64::from(self.heads) + u64::from(head);
        known.then(|| track * u64::from(self.sectors) + sector)
    }

    /// Puts the CHS address of sector `lba`.
    pub fn set_chs(self, task: &mut TaskFile, lba: u64) {
        let (sectors, heads) = (u64::from(self.sectors.max(1)), u64::from(self.heads.max(1)));
        let track = lba / sectors;
        let [sector, ..] = (lba % sectors + 1).to_le_bytes();
        let [head, ..] = (track % heads).to_le_bytes();
        let [low, high, ..] = (track / heads).to_le_bytes();
        (task.low.now, task.mid.now, task.high.now) = (sector, low, high);
        task.device = task.device & 0xF0 | head & 0x0F;
    }
}

/// Which drives have a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Disk,
    CdRom,
    Both,
}

struct Row {
    codes: RangeInclusive<u8>,
    of: Of,
    run: fn(&mut Unit) -> Result<Next, Failed>,
}

const fn row(codes: RangeInclusive<u8>, of: Of, run: fn(&mut Unit) -> Result<Next, Failed>) -> Row {
    Row { codes, of, run }
}

const ABORTED: Failed = Failed(ABRT);

#[rustfmt::skip]
const COMMANDS: &[Row] = &[
    row(0x10..=0x1F, Of::Disk, |_| Ok(Next::Done)),                    // RECALIBRATE
    row(0x20..=0x20, Of::CdRom, |unit| { unit.sign(); Err(ABORTED) }), // READ SECTORS, of a CD-ROM
    row(0x20..=0x21, Of::Disk, |unit| read_pio(unit, false, 1)),       // READ SECTORS
    row(0x24..=0x24, Of::Disk, |unit| read_pio(unit, true, 1)),        // READ SECTORS EXT
    row(0x25..=0x25, Of::Disk, |unit| dma(unit, true, false)),         // READ DMA EXT
    row(0x27..=0x27, Of::Disk, |unit| native_max(unit, true)),         // READ NATIVE MAX ADDRESS EXT
    row(0x29..=0x29, Of::Disk, |unit| multiple(unit, true, false)),    // READ MULTIPLE EXT
    row(0x30..=0x31, Of::Disk, |unit| write_pio(unit, false, 1)),      // WRITE SECTORS
    row(0x34..=0x34, Of::Disk, |unit| write_pio(unit, true, 1)),       // WRITE SECTORS EXT
    row(0x35..=0x35, Of::Disk, |unit| dma(unit, true, true)),          // WRITE DMA EXT
    row(0x39..=0x39, Of::Disk, |unit| multiple(unit, true, true)),     // WRITE MULTIPLE EXT
    row(0x40..=0x41, Of::Disk, |unit| verify(unit, false)),            // READ VERIFY SECTORS
    row(0x42..=0x42, Of::Disk, |unit| verify(unit, true)),             // READ VERIFY SECTORS EXT
    row(0x70..=0x7F, Of::Disk, seek),                                  // SEEK
    row(0x91..=0x91, Of::Disk, set_geometry),                          // INITIALIZE DEVICE PARAMETERS
    row(0x94..=0x94, Of::Both, |unit| power(unit, POWER_STANDBY)),     // STANDBY IMMEDIATE
    row(0x95..=0x95, Of::Both, |unit| power(unit, POWER_IDLE)),        // IDLE IMMEDIATE
    row(0x96..=0x96, Of::Both, |unit| power(unit, POWER_STANDBY)),     // STANDBY
    row(0x97..=0x97, Of::Both, |unit| power(unit, POWER_IDLE)),        // IDLE
    row(0x98..=0x98, Of::Both, check_power),                           // CHECK POWER MODE
    row(0x99..=0x99, Of::Both, |unit| power(unit, POWER_STANDBY)),     // SLEEP
    row(0xA0..=0xA0, Of::CdRom, packet),                               // PACKET
    row(0xA1..=0xA1, Of::CdRom, identify),                             // IDENTIFY PACKET DEVICE
    row(0xB0..=0xB0, Of::Disk, smart),                                 // SMART
    row(0xC4..=0xC4, Of::Disk, |unit| multiple(unit, false, false)),   // READ MULTIPLE
    row(0xC5..=0xC5, Of::Disk, |unit| multiple(unit, false, true)),    // WRITE MULTIPLE
    row(0xC6..=0xC6, Of::Disk, set_multiple),                          // SET MULTIPLE MODE
    row(0xC8..=0xC9, Of::Disk, |unit| dma(unit, false, false)),        // READ DMA
    row(0xCA..=0xCB, Of::Disk, |unit| dma(unit, false, true)),         // WRITE DMA
    row(0xE0..=0xE0, Of::Both, |unit| power(unit, POWER_STANDBY)),     // STANDBY IMMEDIATE
    row(0xE1..=0xE1, Of::Both, |unit| power(unit, POWER_IDLE)),        // IDLE IMMEDIATE
    row(0xE2..=0xE2, Of::Both, |unit| power(unit, POWER_STANDBY)),     // STANDBY
    row(0xE3..=0xE3, Of::Both, |unit| power(unit, POWER_IDLE)),        // IDLE
    row(0xE5..=0xE5, Of::Both, check_power),                           // CHECK POWER MODE
    row(0xE6..=0xE6, Of::Both, |unit| power(unit, POWER_STANDBY)),     // SLEEP
    row(0xE7..=0xE7, Of::Both, flush),                                 // FLUSH CACHE
    row(0xEA..=0xEA, Of::Disk, flush),                                 // FLUSH CACHE EXT
    row(0xEC..=0xEC, Of::Disk, identify),                              // IDENTIFY DEVICE
    row(0xEC..=0xEC, Of::CdRom, |unit| { unit.sign(); Err(ABORTED) }), // the same, of a CD-ROM
    row(0xEF..=0xEF, Of::Both, set_features),                          // SET FEATURES
    row(0xF8..=0xF8, Of::Disk, |unit| native_max(unit, false)),        // READ NATIVE MAX ADDRESS
];

/// Begins a command; what is unknown is aborted. DEVICE RESET and EXECUTE DEVICE DIAGNOSTIC are the
/// channel's.
pub fn run(unit: &mut Unit, command: u8) -> Result<Next, Failed> {
    let kind = unit.kind();
    let has = |row: &&Row| match row.of {
        Of::Disk => kind == Kind::Disk,
        Of::CdRom => kind == Kind::CdRom,
        Of::Both => kind != Kind::None,
    };
    let mut rows = COMMANDS.iter().filter(has);
    match rows.find(|row| row.codes.contains(&command)) {
        Some(row) => (row.run)(unit),
        None => {
            tracing::debug!(target: "ide", "command {command:#04x} is not known");
            Err(ABORTED)
        }
    }
}

/// The sectors a command is about, if all are there.
fn span(unit: &mut Unit, ext: bool) -> Result<Transfer, Failed> {
    unit.chip.flow.ext = ext;
    unit.chip.ata.power = POWER_ACTIVE;
    let task = &unit.chip.task;
    let count = task.sectors(ext);
    let first = match (ext, task.is_lba()) {
        (true, _) => Some(task.lba48()),
        (false, true) => Some(task.lba28()),
        (false, false) => unit.chip.ata.chs(task),
    };
    let total = unit.disk().map_or(0, |disk| disk.sectors());
    let inside = |first: &u64| first + u64::from(count) <= total;
    let first = first.filter(inside).ok_or(Failed(IDNF | ABRT))?;
    Ok(Transfer::blocks(SECTOR, first, count))
}

fn writable(unit: &Unit) -> Result<(), Failed> {
    match unit.disk() {
        Some(disk) if !disk.read_only() => Ok(()),
        _ => Err(ABORTED),
    }
}

fn read_pio(unit: &mut Unit, ext: bool, sectors: u32) -> Result<Next, Failed> {
    let transfer = span(unit, ext)?;
    Ok(unit.pio_in(transfer, sectors * SECTOR))
}

fn write_pio(unit: &mut Unit, ext: bool, sectors: u32) -> Result<Next, Failed> {
    let transfer = span(unit, ext)?;
    writable(unit)?;
    Ok(unit.pio_out(transfer, sectors * SECTOR))
}

fn multiple(unit: &mut Unit, ext: bool, out: bool) -> Result<Next, Failed> {
    match unit.chip.ata.multiple {
        0 => Err(ABORTED),
        sectors if out => write_pio(unit, ext, sectors.into()),
        sectors => read_pio(unit, ext, sectors.into()),
    }
}

fn dma(unit: &mut Unit, ext: bool, out: bool) -> Result<Next, Failed> {
    let transfer = span(unit, ext)?;
    if out {
        writable(unit)?;
    }
    Ok(unit.dma(transfer, out))
}

fn verify(unit: &mut Unit, ext: bool) -> Result<Next, Failed> {
    let transfer = span(unit, ext)?;
    unit.tell(transfer.next + u64::from(transfer.left) - 1);
    Ok(Next::Done)
}

fn seek(unit: &mut Unit) -> Result<Next, Failed> {
    // It has no sector count.
    unit.chip.task.count.now = 1;
    span(unit, false)?;
    Ok(Next::Done)
}

fn native_max(unit: &mut Unit, ext: bool) -> Result<Next, Failed> {
    let sectors = unit.disk().map_or(0, |disk| disk.sectors());
    let last = sectors.saturating_sub(1);
    if ext {
        unit.chip.task.set_lba48(last);
    } else {
        unit.chip.task.set_lba28(last.min(identify::LAST_LBA28));
    }
    Ok(Next::Done)
}

fn set_geometry(unit: &mut Unit) -> Result<Next, Failed> {
    let sectors = unit.chip.task.count.now;
    if sectors == 0 {
        return Err(ABORTED);
    }
    unit.chip.ata.sectors = sectors;
    unit.chip.ata.heads = (unit.chip.task.device & 0x0F) + 1;
    Ok(Next::Done)
}

fn set_multiple(unit: &mut Unit) -> Result<Next, Failed> {
    match unit.chip.task.count.now {
        count @ (0 | 1 | 2 | 4 | 8 | 16) => {
            unit.chip.ata.multiple = count;
            Ok(Next::Done)
        }
        _ => Err(ABORTED),
    }
}

fn power(unit: &mut Unit, mode: u8) -> Result<Next, Failed> {
    unit.chip.ata.power = mode;
    Ok(Next::Done)
}

fn check_power(unit: &mut Unit) -> Result<Next, Failed> {
    unit.chip.task.count.now = unit.chip.ata.power;
    Ok(Next::Done)
}

fn flush(unit: &mut Unit) -> Result<Next, Failed> {
    if let Some(Err(error)) = unit.disk().map(|disk| disk.flush()) {
        tracing::warn!(target: "ide", drive = unit.number, %error, "the host could not flush a disk");
        return Err(ABORTED);
    }
    Ok(Next::Done)
}

fn identify(unit: &mut Unit) -> Result<Next, Failed> {
    let words = identify::words(unit);
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(unit.pio_in(Transfer::bytes(bytes), SECTOR))
}

fn packet(unit: &mut Unit) -> Result<Next, Failed> {
    const OVERLAP: u8 = 1 << 1;
    if unit.chip.task.features.now & OVERLAP != 0 {
        return Err(ABORTED);
    }
    unit.chip.ata.power = POWER_ACTIVE;
    Ok(unit.packet(super::atapi::PACKET))
}

fn set_features(unit: &mut Unit) -> Result<Next, Failed> {
    let count = unit.chip.task.count.now;
    let settings = &mut unit.chip.ata;
    match unit.chip.task.features.now {
        0x03 => settings.mode = transfer_mode(count).ok_or(ABORTED)?,
        0x02 => settings.write_cache = true,
        0x82 => settings.write_cache = false,
        0xAA => settings.look_ahead = true,
        0x55 => settings.look_ahead = false,
        // Power and acoustic management, what a soft reset keeps, and the oldest ones' retries.
        0x05 | 0x85 | 0x42 | 0xC2 | 0x66 | 0xCC | 0x33 | 0x99 => {}
        _ => return Err(ABORTED),
    }
    Ok(Next::Done)
}

/// A transfer mode that there is.
fn transfer_mode(count: u8) -> Option<u8> {
    let mode = count & 7;
    let known = match count >> 3 {
        0 => mode <= 1,
        1 => mode <= 4,
        4 => mode <= MDMA,
        8 => mode <= UDMA,
        _ => false,
    };
    known.then_some(count)
}

fn smart(unit: &mut Unit) -> Result<Next, Failed> {
    let task = &unit.chip.task;
    let features = task.features.now;
    let key = (task.mid.now, task.high.now) == (0x4F, 0xC2);
    let on = unit.chip.ata.smart;
    match features {
        _ if !key => Err(ABORTED),
        0xD8 => {
            unit.chip.ata.smart = true;
            Ok(Next::Done)
        }
        _ if !on => Err(ABORTED),
        0xD0 | 0xD1 => {
            // No attributes: a structure of version 16 with its checksum.
            let mut data = vec![0; SECTOR as usize];
            data[0] = 0x10;
            let sum = data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            data[511] = sum.wrapping_neg();
            Ok(unit.pio_in(Transfer::bytes(data), SECTOR))
        }
        0xD9 => {
            unit.chip.ata.smart = false;
            Ok(Next::Done)
        }
        // Autosave; RETURN STATUS: the registers stay as they are, the drive is well.
        0xD2 | 0xDA => Ok(Next::Done),
        _ => Err(ABORTED),
    }
}
