//! What a drive of the machine is: a hard disk, or a CD-ROM drive with a tray.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::disk::{Disk, SECTOR};
use crate::board::{HardDisk, Translation};

/// Most cylinders a disk tells of.
const MAX_CYLINDERS: u64 = 16383;
/// Cylinders a BIOS can address without translation.
const BIOS_CYLINDERS: u16 = 1024;

/// A kind of drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// A hard disk.
    #[default]
    Disk,
    /// A CD-ROM drive.
    CdRom,
}

/// A drive; every clone is the same one.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Its kind.
    pub media: Media,
    /// Its serial number, if not the usual one.
    pub serial: Option<String>,
    tray: Arc<Mutex<Tray>>,
}

#[derive(Debug)]
struct Tray {
    disk: Option<Disk>,
    open: bool,
    locked: bool,
    /// How often the medium changed.
    changes: u64,
    /// The user asked for the medium and the guest has it locked in.
    wanted: bool,
}

/// A CD-ROM drive is locked by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the drive is locked by the guest")]
pub struct DriveLocked;

impl Drive {
    /// A hard disk.
    pub fn hard_disk(disk: Disk) -> Self {
        Self::new(Media::Disk, Some(disk))
    }

    /// A CD-ROM drive, with a medium or without.
    pub fn cd_rom(disk: Option<Disk>) -> Self {
        Self::new(Media::CdRom, disk)
    }

    /// A drive of kind `media` with `disk` in it.
    pub fn new(media: Media, disk: Option<Disk>) -> Self {
        let tray = Tray {
            disk,
            open: false,
            locked: false,
            changes: 0,
            wanted: false,
        };
        Self {
            media,
            serial: None,
            tray: Arc::new(Mutex::new(tray)),
        }
    }

    /// The same with another serial number; what is longer than 20 bytes is cut.
    pub fn with_serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// The disk in it that can be read now.
    pub fn disk(&self) -> Option<Disk> {
        let tray = self.tray();
        tray.disk.clone().filter(|_| !tray.open)
    }

    /// The disk in it, be the tray open or not.
    pub fn medium(&self) -> Option<Disk> {
        self.tray().disk.clone()
    }

    /// The user puts another medium in, or takes it out; the tray is closed then, but for one taken out.
    ///
    /// # Errors
    /// If the guest locked the drive: it is told that the user wants the medium. `force` does not ask it.
    pub fn change(&self, disk: Option<Disk>, force: bool) -> Result<(), DriveLocked> {
        let mut tray = self.tray();
        if tray.locked && !tray.open && !force {
            tray.wanted = true;
            return Err(DriveLocked);
        }
        tray.open = disk.is_none();
        tray.disk = disk;
        tray.wanted = false;
        tray.changes += 1;
        Ok(())
    }

    /// Whether the tray is open.
    pub fn is_open(&self) -> bool {
        self.tray().open
    }

    /// Whether the guest locked the tray.
    pub fn is_locked(&self) -> bool {
        self.tray().locked
    }

    /// The guest opens or closes the tray.
    pub(crate) fn set_open(&self, open: bool) {
        let mut tray = self.tray();
        if tray.open != open {
            tray.open = open;
            tray.changes += u64::from(tray.disk.is_some());
        }
    }

    /// The guest locks the tray or lets it go.
    pub(crate) fn set_locked(&self, locked: bool) {
        self.tray().locked = locked;
    }

    /// How often the medium changed.
    pub(crate) fn changes(&self) -> u64 {
        self.tray().changes
    }

    /// Whether the user asked for a locked medium since this was last called.
    pub(crate) fn take_wanted(&self) -> bool {
        std::mem::take(&mut self.tray().wanted)
    }

    /// A hard disk's geometry: what a partition table was made for, or what follows from its size.
    pub fn geometry(&self) -> Option<HardDisk> {
        let disk = self.medium().filter(|_| self.media == Media::Disk)?;
        let by_size = geometry_of(disk.sectors());
        Some(match partitioned(&disk) {
            Some(geometry) if geometry.heads <= 16 => geometry,
            // More heads than a disk can have: the BIOS that made the table translated.
            Some(_) => {
                let tracks = u32::from(by_size.cylinders) * u32::from(by_size.heads);
                let large = tracks <= 1024 * 128;
                let translation = if large {
                    Translation::Large
                } else {
                    Translation::Lba
                };
                HardDisk {
                    translation,
                    ..by_size
                }
            }
            None => by_size,
        })
    }

    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The usual geometry of a disk of so many sectors.
fn geometry_of(sectors: u64) -> HardDisk {
    let cylinders = (sectors / (16 * 63)).clamp(2, MAX_CYLINDERS);
    // The clamp's bounds are 16-bit numbers.
    let cylinders = u16::try_from(cylinders).unwrap_or(u16::MAX);
    let direct = cylinders <= BIOS_CYLINDERS;
    HardDisk {
        cylinders,
        heads: 16,
        sectors: 63,
        translation: if direct {
            Translation::None
        } else {
            Translation::Lba
        },
    }
}

/// The geometry that the first partition's end tells of, if the disk has a partition table.
fn partitioned(disk: &Disk) -> Option<HardDisk> {
    let mut sector = [0; SECTOR as usize];
    disk.read_at(0, &mut sector).ok()?;
    if sector[510..] != [0x55, 0xAA] {
        return None;
    }
    sector[446..510].chunks_exact(16).find_map(|entry| {
        let heads = entry[5].checked_add(1)?;
        let sectors = entry[6] & 0x3F;
        let length = &entry[12..16];
        if heads == 1 || sectors == 0 || length.iter().all(|byte| *byte == 0) {
            return None;
        }
        let cylinders = disk.sectors() / (u64::from(heads) * u64::from(sectors));
        let cylinders = u16::try_from(cylinders).ok()?;
        (1..=MAX_CYLINDERS)
            .contains(&cylinders.into())
            .then_some(HardDisk {
                cylinders,
                heads,
                sectors,
                translation: Translation::None,
            })
    })
}
