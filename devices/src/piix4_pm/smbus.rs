//! The PIIX4's SMBus host controller, and the serial EEPROMs of the memory slots behind it.
//!
//! Datasheet: Intel 290562, "SMBus I/O Space Registers"; System Management Bus 1.0. A transaction is over at once.
//! Modelled: the quick, byte, byte data, word data and block protocols. Not modelled: the slave side (its
//! registers read 0), arbitration; other protocols end as if no device had answered.
//!
//! Eight EEPROMs of 256 bytes answer at 50h to 57h. As on the stock machine they are blank and can be written.

use serde::{Deserialize, Serialize};

use crate::RestoreError;

const HSTSTS: u64 = 0;
const HSTCNT: u64 = 2;
const HSTCMD: u64 = 3;
const HSTADD: u64 = 4;
const HSTDAT0: u64 = 5;
const HSTDAT1: u64 = 6;
const BLKDAT: u64 = 7;

/// HSTCNT: the guest wants an interrupt at the end.
const INTERRUPT_ENABLE: u8 = 1 << 0;
const KILL: u8 = 1 << 1;
const START: u8 = 1 << 6;

const FIRST_EEPROM: u8 = 0x50;
const EEPROMS: usize = 8;
const EEPROM_SIZE: usize = 256;
/// The longest block.
const BLOCK: usize = 32;

bitflags::bitflags! {
    /// HSTSTS; a written one clears.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Status: u8 {
        const DONE = 1 << 1;
        const DEVICE_ERROR = 1 << 2;
        const BUS_COLLISION = 1 << 3;
        const FAILED = 1 << 4;
    }
}

/// The controller with its devices; all of it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smbus {
    status: Status,
    control: u8,
    command: u8,
    address: u8,
    data0: u8,
    data1: u8,
    block: [u8; BLOCK],
    /// Where in the block the next access to BLKDAT lands.
    at: u8,
    eeproms: Vec<Eeprom>,
}

/// A serial EEPROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Eeprom {
    bytes: Vec<u8>,
    at: u8,
}

impl Smbus {
    /// After reset.
    pub fn new() -> Self {
        let blank = Eeprom {
            bytes: vec![0; EEPROM_SIZE],
            at: 0,
        };
        Self {
            status: Status::empty(),
            control: 0,
            command: 0,
            address: 0,
            data0: 0,
            data1: 0,
            block: [0; BLOCK],
            at: 0,
            eeproms: vec![blank; EEPROMS],
        }
    }

    /// Checks saved state.
    pub fn check(&self) -> Result<(), RestoreError> {
        let whole = |eeprom: &Eeprom| eeprom.bytes.len() == EEPROM_SIZE;
        let possible = self.eeproms.len() == EEPROMS
            && self.eeproms.iter().all(whole)
            && usize::from(self.at) < BLOCK;
        possible
            .then_some(())
            .ok_or(RestoreError::Impossible { field: "SMBus" })
    }

    /// Whether the end of a transaction interrupts.
    pub fn interrupts(&self) -> bool {
        self.control & INTERRUPT_ENABLE != 0 && !self.status.is_empty()
    }

    /// The guest reads the byte at `offset`.
    pub fn read(&mut self, offset: u64) -> u8 {
        match offset {
            HSTSTS => self.status.bits(),
            HSTCNT => {
                self.at = 0;
                self.control
            }
            HSTCMD => self.command,
            HSTADD => self.address,
            HSTDAT0 => self.data0,
            HSTDAT1 => self.data1,
            BLKDAT => *self.block_byte(),
            _ => 0,
        }
    }

    /// The guest writes the byte at `offset`.
    pub fn write(&mut self, offset: u64, byte: u8) {
        match offset {
            HSTSTS => {
                self.status.remove(Status::from_bits_truncate(byte));
                self.at = 0;
            }
            HSTCNT => self.control(byte),
            HSTCMD => self.command = byte,
            HSTADD => self.address = byte,
            HSTDAT0 => self.data0 = byte,
            HSTDAT1 => self.data1 = byte,
            BLKDAT => *self.block_byte() = byte,
            _ => {}
        }
    }

    fn control(&mut self, byte: u8) {
        self.control = byte & !(START | KILL);
        self.at = 0;
        if byte & KILL != 0 {
            self.status = Status::FAILED;
        } else if byte & START != 0 {
            let answered = self.transaction(byte >> 2 & 7);
            self.status = match answered {
                Some(()) => Status::DONE,
                None => Status::DEVICE_ERROR,
            };
        }
    }

    /// The block's next byte; it wraps at the block's end.
    fn block_byte(&mut self) -> &mut u8 {
        let at = usize::from(self.at) % BLOCK;
        self.at = (at as u8 + 1) % BLOCK as u8;
        &mut self.block[at]
    }

    /// One transaction by protocol; none if no device answers.
    fn transaction(&mut self, protocol: u8) -> Option<()> {
        let reads = self.address & 1 != 0;
        let index = (self.address >> 1).checked_sub(FIRST_EEPROM)?;
        let eeprom = self.eeproms.get_mut(usize::from(index))?;
        match (protocol, reads) {
            (0, _) => {}
            (1, true) => self.data0 = eeprom.take(),
            (1, false) => eeprom.at = self.command,
            (2, true) => self.data0 = eeprom.seek(self.command).take(),
            (2, false) => eeprom.seek(self.command).put(&[self.data0]),
            (3, true) => {
                let eeprom = eeprom.seek(self.command);
                (self.data0, self.data1) = (eeprom.take(), eeprom.take());
            }
            (3, false) => eeprom.seek(self.command).put(&[self.data0, self.data1]),
            // An EEPROM knows no blocks: their length is one more byte of it.
            (5, true) => {
                let eeprom = eeprom.seek(self.command);
                self.data0 = eeprom.take();
                let block = self.block.get_mut(..usize::from(self.data0))?;
                block.fill_with(|| eeprom.take());
            }
            (5, false) => {
                let block = self.block.get(..usize::from(self.data0))?;
                let eeprom = eeprom.seek(self.command);
                eeprom.put(&[self.data0]);
                eeprom.put(block);
            }
            _ => return None,
        }
        Some(())
    }
}

impl Eeprom {
    fn seek(&mut self, at: u8) -> &mut Self {
        self.at = at;
        self
    }

    fn take(&mut self) -> u8 {
        let byte = self.bytes[usize::from(self.at)];
        self.at = self.at.wrapping_add(1);
        byte
    }

    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes[usize::from(self.at)] = byte;
            self.at = self.at.wrapping_add(1);
        }
    }
}
