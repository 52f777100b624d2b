//! A drive's command block registers. ATA/ATAPI-6, 7 "Interface register definitions".

use serde::{Deserialize, Serialize};

/// Status: the drive is busy; the other registers say nothing.
pub const BSY: u8 = 0x80;
/// Status: ready for commands.
pub const DRDY: u8 = 0x40;
/// Status: seek complete (hard disks), service (CD-ROM drives).
pub const DSC: u8 = 0x10;
/// Status: data are to be moved.
pub const DRQ: u8 = 0x08;
/// Status: the error register tells what went wrong.
pub const ERR: u8 = 0x01;

/// Error: what the medium holds cannot be read.
pub const UNC: u8 = 0x40;
/// Error: there is no such sector.
pub const IDNF: u8 = 0x10;
/// Error: command aborted.
pub const ABRT: u8 = 0x04;

/// Device: LBA rather than CHS.
pub const DEV_LBA: u8 = 0x40;
/// Device: the slave is meant.
pub const DEV_SLAVE: u8 = 0x10;
/// Device: bits that always read one.
const DEV_ONES: u8 = 0xA0;

/// A register that keeps what was written to it before: 48-bit commands take both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// As last written.
    pub now: u8,
    /// As written before that.
    pub before: u8,
}

impl Pair {
    /// One new value, the old one forgotten.
    pub const fn of(now: u8) -> Self {
        Self { now, before: 0 }
    }

    fn push(&mut self, value: u8) {
        *self = Self {
            now: value,
            before: self.now,
        };
    }

    fn word(self) -> u16 {
        u16::from_be_bytes([self.before, self.now])
    }
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    pub features: Pair,
    pub count: Pair,
    pub low: Pair,
    pub mid: Pair,
    pub high: Pair,
    pub device: u8,
    pub error: u8,
    /// Without [`BSY`]: whether the drive is busy its phase tells.
    pub status: u8,
}

impl TaskFile {
    /// After power-on, but for the signature.
    pub fn new() -> Self {
        Self {
            features: Pair::default(),
            count: Pair::of(1),
            low: Pair::of(1),
            mid: Pair::default(),
            high: Pair::default(),
            device: DEV_ONES,
            error: 0,
            status: DRDY | DSC,
        }
    }

    /// The guest writes register `offset` (1 to 6).
    pub fn write(&mut self, offset: u64, value: u8) {
        match offset {
            1 => self.features.push(value),
            2 => self.count.push(value),
            3 => self.low.push(value),
            4 => self.mid.push(value),
            5 => self.high.push(value),
            6 => self.device = value | DEV_ONES,
            _ => {}
        }
    }

    /// The guest reads register `offset` (1 to 6); `previous` asks for what 48-bit commands left there.
    pub fn read(&self, offset: u64, previous: bool) -> u8 {
        let of = |pair: Pair| if previous { pair.before } else { pair.now };
        match offset {
            1 => self.error,
            2 => of(self.count),
            3 => of(self.low),
            4 => of(self.mid),
            5 => of(self.high),
            6 => self.device,
            _ => 0,
        }
    }

    /// What a drive of its kind leaves in the cylinder registers after a reset.
    pub fn sign(&mut self, [mid, high]: [u8; 2]) {
        self.count = Pair::of(1);
        self.low = Pair::of(1);
        self.mid = Pair::of(mid);
        self.high = Pair::of(high);
        self.device &= DEV_SLAVE | DEV_ONES;
    }

    /// Whether the address is a logical block's.
    pub fn is_lba(&self) -> bool {
        self.device & DEV_LBA != 0
    }

    /// The address of a 28-bit command.
    pub fn lba28(&self) -> u64 {
        let top = self.device & 0x0F;
        u32::from_be_bytes([top, self.high.now, self.mid.now, self.low.now]).into()
    }

    /// The address of a 48-bit command.
    pub fn lba48(&self) -> u64 {
        let upper = [self.high.before, self.mid.before, self.low.before];
        let lower = [self.high.now, self.mid.now, self.low.now];
        upper
            .iter()
            .chain(&lower)
            .fold(0, |lba, &byte| lba << 8 | u64::from(byte))
    }

    /// How many sectors a command is about.
    pub fn sectors(&self, ext: bool) -> u32 {
        let (count, all) = if ext {
            (self.count.word().into(), 0x1_0000)
        } else {
            (self.count.now.into(), 0x100)
        };
        if count == 0 { all } else { count }
    }

    /// Puts an address where 28-bit commands have theirs.
    pub fn set_lba28(&mut self, lba: u64) {
        let [low, mid, high, top, ..] = lba.to_le_bytes();
        (self.low.now, self.mid.now, self.high.now) = (low, mid, high);
        self.device = self.device & 0xF0 | top & 0x0F;
    }

    /// Puts an address where 48-bit commands have theirs.
    pub fn set_lba48(&mut self, lba: u64) {
        let [low, mid, high, low2, mid2, high2, ..] = lba.to_le_bytes();
        self.low = Pair {
            now: low,
            before: low2,
        };
        self.mid = Pair {
            now: mid,
            before: mid2,
        };
        self.high = Pair {
            now: high,
            before: high2,
        };
    }

    /// The byte count of PACKET.
    pub fn byte_count(&self) -> u16 {
        u16::from_le_bytes([self.mid.now, self.high.now])
    }

    /// How many bytes of a PACKET are to be moved now.
    pub fn set_byte_count(&mut self, count: u16) {
        [self.mid.now, self.high.now] = count.to_le_bytes();
    }
}
