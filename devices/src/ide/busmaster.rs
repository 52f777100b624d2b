//! Bus master registers of one channel, and the table of what memory it moves data to.
//! SFF-8038i revision 1.0, 2 "Registers" and 1.2 "Physical Region Descriptor".
//!
//! The direction bit is kept and does not count: the drive knows. As on the stock machine a table may cross a
//! 64 KiB boundary; it ends after 64 KiB at the latest.

use serde::{Deserialize, Serialize};

use crate::memory_map::BusMaster;

const START: u8 = 1 << 0;
const TO_MEMORY: u8 = 1 << 3;

const ACTIVE: u8 = 1 << 0;
const ERROR: u8 = 1 << 1;
const INTERRUPT: u8 = 1 << 2;
/// Drives 0 and 1 can do DMA: kept for the drivers.
const CAPABLE: u8 = 0x60;

/// Descriptors a table has at most.
const DESCRIPTORS: u32 = 8192;
const LAST: u8 = 0x80;

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dma {
    command: u8,
    status: u8,
    table: u32,
}

impl Dma {
    /// One register; the others float.
    pub fn read(&self, offset: u64) -> Option<u8> {
        match offset {
            0 => Some(self.command),
            2 => Some(self.status),
            4..=7 => Some(self.table.to_le_bytes()[(offset & 3) as usize]),
            _ => None,
        }
    }

    /// The guest writes one register.
    pub fn write(&mut self, offset: u64, value: u8) {
        match offset {
            0 => self.write_command(value),
            2 => {
                let cleared = value & (ERROR | INTERRUPT);
                self.status = self.status & !CAPABLE & !cleared | value & CAPABLE;
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[(offset & 3) as usize] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }

    fn write_command(&mut self, value: u8) {
        let started = self.is_started();
        self.command = value & (START | TO_MEMORY);
        if !self.is_started() {
            self.status &= !ACTIVE;
        } else if !started {
            self.status |= ACTIVE;
        }
    }

    /// Whether it is to move data.
    pub fn is_started(&self) -> bool {
        self.command & START != 0
    }

    /// Whether it waits to move data.
    pub fn is_active(&self) -> bool {
        self.is_started() && self.status & ACTIVE != 0
    }

    /// The table has come to its end.
    pub fn finish(&mut self) {
        self.status &= !ACTIVE;
    }

    /// The drive's interrupt line rose.
    pub fn interrupt(&mut self) {
        self.status |= INTERRUPT;
    }

    /// The table, from its start.
    pub fn table<'a>(&self, memory: &'a BusMaster) -> Table<'a> {
        Table {
            memory,
            next: self.table,
            read: 0,
            address: 0,
            left: 0,
            ended: false,
        }
    }
}

/// A walk along a table.
pub struct Table<'a> {
    memory: &'a BusMaster,
    next: u32,
    /// Descriptors read so far.
    read: u32,
    /// What is left of the one read last.
    address: u32,
    left: u32,
    /// It was the last.
    ended: bool,
}

impl Table<'_> {
    /// Writes `data` to the memory the table names; returns how much of it found a place.
    pub fn scatter(&mut self, data: &[u8]) -> usize {
        let mut done = 0;
        while let Some((address, len)) = self.piece(data.len() - done) {
            self.memory.write(address, &data[done..done + len]);
            done += len;
        }
        done
    }

    /// Fills `data` from the memory the table names; returns how much there was.
    pub fn gather(&mut self, data: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some((address, len)) = self.piece(data.len() - done) {
            self.memory.read(address, &mut data[done..done + len]);
            done += len;
        }
        done
    }

    /// Whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.left == 0 && self.ended
    }

    /// The next piece of memory, at most `most` bytes; none at the end of the table or if none is wanted.
    fn piece(&mut self, most: usize) -> Option<(u64, usize)> {
        if most == 0 {
            return None;
        }
        if self.left == 0 {
            self.fetch()?;
        }
        let len = self.left.min(u32::try_from(most).unwrap_or(u32::MAX));
        let address = self.address;
        self.address = address.wrapping_add(len);
        self.left -= len;
        Some((address.into(), len as usize))
    }

    fn fetch(&mut self) -> Option<()> {
        if self.ended {
            return None;
        }
        let mut descriptor = [0; 8];
        self.memory.read(self.next.into(), &mut descriptor);
        let [a, b, c, d, low, high, _, flags] = descriptor;
        self.address = u32::from_le_bytes([a, b, c, d]) & !1;
        let count = u32::from(u16::from_le_bytes([low, high]) & !1);
        self.left = if count == 0 { 0x1_0000 } else { count };
        self.next = self.next.wrapping_add(8);
        self.read += 1;
        self.ended = flags & LAST != 0 || self.read >= DESCRIPTORS;
        Some(())
    }
}
