//! The drives a user plugs in, and the tray of a CD-ROM drive, which the user and the guest share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::disk::Disk;

/// A drive on one of the four places: primary master and slave, secondary master and slave.
#[derive(Clone, Debug)]
pub struct Drive {
    /// What it reads and writes.
    pub medium: Medium,
    /// Its serial number, up to 20 characters, if not the default.
    pub serial: Option<String>,
    /// Its model, up to 40 characters, if not the default.
    pub model: Option<String>,
}

/// What a drive reads and writes.
#[derive(Clone, Debug)]
pub enum Medium {
    /// A hard disk.
    Fixed(Disk),
    /// A CD-ROM drive's tray.
    Removable(Tray),
}

impl Drive {
    /// A hard disk.
    pub fn hard_disk(disk: Disk) -> Self {
        Self::new(Medium::Fixed(disk))
    }

    /// A CD-ROM drive, empty or with `disc` in it; [`Drive::tray`] changes it later.
    pub fn cdrom(disc: Option<Disk>) -> Self {
        Self::new(Medium::Removable(Tray::new(disc)))
    }

    /// The tray, of a CD-ROM drive.
    pub fn tray(&self) -> Option<&Tray> {
        match &self.medium {
            Medium::Fixed(_) => None,
            Medium::Removable(tray) => Some(tray),
        }
    }

    fn new(medium: Medium) -> Self {
        Self {
            medium,
            serial: None,
            model: None,
        }
    }
}

/// The tray of a CD-ROM drive; every clone is the same tray.
#[derive(Clone, Debug)]
pub struct Tray(Arc<Mutex<Inside>>);

#[derive(Debug)]
struct Inside {
    disc: Option<Disk>,
    open: bool,
    /// The guest prevents that the user opens it.
    locked: bool,
    /// The user pressed the button while it was locked.
    asked: bool,
    /// Counts discs that came or went.
    changes: u32,
}

impl Tray {
    /// A closed tray.
    pub fn new(disc: Option<Disk>) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            disc: disc.map(Disk::read_only),
            open: false,
            locked: false,
            asked: false,
            changes: 0,
        })))
    }

    /// Puts `disc` in, in place of what was there, and closes the tray, locked or not.
    pub fn insert(&self, disc: Disk) {
        let mut inside = self.inside();
        inside.disc = Some(disc.read_only());
        inside.open = false;
        inside.changes = inside.changes.wrapping_add(1);
    }

    /// Opens the tray and takes the disc out. If the guest has locked it, it is only told of the wish,
    /// unless `force`d; returns whether the tray is open.
    pub fn eject(&self, force: bool) -> bool {
        let mut inside = self.inside();
        if inside.locked && !inside.open && !force {
            inside.asked = true;
            return false;
        }
        inside.changes = inside
            .changes
            .wrapping_add(u32::from(inside.disc.is_some()));
        inside.disc = None;
        inside.open = true;
        true
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.inside().open
    }

    /// Whether the guest has locked it.
    pub fn is_locked(&self) -> bool {
        self.inside().locked
    }

    /// The disc in it, be the tray open or not.
    pub fn disc(&self) -> Option<Disk> {
        self.inside().disc.clone()
    }

    /// The disc the drive can read.
    pub(super) fn loaded(&self) -> Option<Disk> {
        let inside = self.inside();
        inside.disc.clone().filter(|_| !inside.open)
    }

    /// The guest opens or closes it; `false` if it is locked. A disc that was let out and in again is a new one.
    pub(super) fn move_to(&self, open: bool) -> bool {
        let mut inside = self.inside();
        if inside.locked && open && !inside.open {
            return false;
        }
        if inside.open && !open && inside.disc.is_some() {
            inside.changes = inside.changes.wrapping_add(1);
        }
        inside.open = open;
        true
    }

    pub(super) fn set_locked(&self, locked: bool) {
        self.inside().locked = locked;
    }

    pub(super) fn restore(&self, open: bool, locked: bool) {
        let mut inside = self.inside();
        (inside.open, inside.locked) = (open, locked);
    }

    pub(super) fn changes(&self) -> u32 {
        self.inside().changes
    }

    /// Whether the user pressed the button since this was last asked.
    pub(super) fn take_wish(&self) -> bool {
        std::mem::take(&mut self.inside().asked)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
