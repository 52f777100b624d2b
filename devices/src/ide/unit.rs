//! One drive on a channel: its registers, and where in a command it is.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::atapi::Cd;
use super::busmaster::Table;
use super::taskfile::{ABRT, DRDY, DRQ, DSC, ERR, TaskFile, UNC};
use super::transfer::Transfer;
use super::{ata, atapi};
use crate::backend::disk::Disk;
use crate::backend::drive::{Drive, Media};
use crate::board::HardDisk;
use crate::{Clock, RestoreError};

/// How long a drive is busy with a command or a part of it.
const LATENCY: Duration = Duration::from_micros(20);
/// Bytes that DMA moves at once.
const PIECE: usize = 64 * 1024;

/// Interrupt reason of PACKET, in the sector count register: the command packet is wanted.
const REASON_COMMAND: u8 = 1 << 0;
/// Interrupt reason: to the host.
const REASON_IN: u8 = 1 << 1;

/// Where a drive is in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It waits for one.
    Idle,
    /// It is busy until [`Chip::due`].
    Busy(Then),
    /// The guest reads data.
    DataIn,
    /// The guest writes data.
    DataOut,
    /// The guest writes a command packet.
    Packet,
    /// The bus master shall move the data.
    Dma,
}

/// What comes after being busy, with an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// The command has ended.
    Done,
    /// The guest reads data.
    DataIn,
    /// The guest writes data.
    DataOut,
}

/// What kind of drive is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    None,
    Disk,
    CdRom,
}

/// How the data of a command are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Bytes of a DRQ block at most.
    pub block: u32,
    /// To the medium.
    pub out: bool,
    /// For a command packet.
    pub packet: bool,
    /// The address is one of 48 bits.
    pub ext: bool,
}

/// Why a command failed, as the error register has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub u8);

/// How a command went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has ended well.
    Done,
    /// It moves data.
    Data,
}

/// How moving data by DMA ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The command has ended, well or not.
    All,
    /// The table named less memory than there were data: the command is given up without an interrupt.
    Short,
}

/// A drive's saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chip {
    kind: Kind,
    pub task: TaskFile,
    /// The drive wants an interrupt.
    pub interrupt: bool,
    pub phase: Phase,
    /// Until when it is busy, in nanoseconds.
    due: u64,
    pub transfer: Transfer,
    pub flow: Flow,
    pub ata: ata::Settings,
    pub cd: Cd,
}

/// A place on the cable, with a drive or without.
pub struct Unit {
    /// Number among all four.
    pub number: u8,
    pub drive: Option<Drive>,
    pub geometry: Option<HardDisk>,
    clock: Clock,
    pub chip: Chip,
}

impl Unit {
    pub fn new(number: u8, drive: Option<Drive>, clock: Clock) -> Self {
        let kind = match drive.as_ref().map(|drive| drive.media) {
            None => Kind::None,
            Some(Media::Disk) => Kind::Disk,
            Some(Media::CdRom) => Kind::CdRom,
        };
        let geometry = drive.as_ref().and_then(Drive::geometry);
        let chip = Chip {
            kind,
            task: TaskFile::new(),
            interrupt: false,
            phase: Phase::Idle,
            due: 0,
            transfer: Transfer::default(),
            flow: Flow::default(),
            ata: ata::Settings::new(geometry),
            cd: Cd::new(),
        };
        let mut unit = Self {
            number,
            drive,
            geometry,
            clock,
            chip,
        };
        unit.reset();
        unit
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.chip.ata = ata::Settings::new(self.geometry);
        self.chip.cd = Cd::new();
        if let Some(drive) = &self.drive {
            drive.set_locked(false);
            self.chip.cd.forget_changes(drive);
        }
        self.restart();
        self.chip.task.status = DRDY | DSC;
    }

    /// Ends whatever it does and shows its signature: SRST, DEVICE RESET, diagnostic.
    pub fn restart(&mut self) {
        let chip = &mut self.chip;
        chip.task = TaskFile::new();
        chip.task.error = 1; // the diagnostic code of a drive in order
        (chip.phase, chip.due, chip.interrupt) = (Phase::Idle, 0, false);
        (chip.transfer, chip.flow) = (Transfer::default(), Flow::default());
        self.sign();
    }

    /// Shows its signature.
    pub fn sign(&mut self) {
        let (signature, status) = match self.chip.kind {
            Kind::None => ([0xFF, 0xFF], 0),
            Kind::Disk => ([0, 0], DRDY | DSC),
            Kind::CdRom => ([0x14, 0xEB], 0),
        };
        self.chip.task.sign(signature);
        self.chip.task.status = status;
    }

    pub fn kind(&self) -> Kind {
        self.chip.kind
    }

    pub fn is_present(&self) -> bool {
        self.chip.kind != Kind::None
    }

    /// The disk that can be read now.
    pub fn disk(&self) -> Option<Disk> {
        self.drive.as_ref()?.disk()
    }

    pub fn is_busy(&self) -> bool {
        matches!(self.chip.phase, Phase::Busy(_))
    }

    /// Whether registers take no writes: it is busy, or moves data.
    pub fn is_occupied(&self) -> bool {
        self.chip.phase != Phase::Idle
    }

    /// When it ends being busy.
    pub fn deadline(&self) -> Option<Duration> {
        self.is_busy().then(|| Duration::from_nanos(self.chip.due))
    }

    /// Guest time passes; tells whether it stopped being busy.
    pub fn poll(&mut self, now: Duration) -> bool {
        let chip = &mut self.chip;
        let Phase::Busy(then) = chip.phase else {
            return false;
        };
        if Duration::from_nanos(chip.due) > now {
            return false;
        }
        chip.phase = match then {
            Then::Done => Phase::Idle,
            Then::DataIn => Phase::DataIn,
            Then::DataOut => Phase::DataOut,
        };
        (chip.due, chip.interrupt) = (0, true);
        true
    }

    /// The guest writes the command register; the drive is there and not busy.
    pub fn command(&mut self, command: u8) {
        self.chip.interrupt = false;
        self.chip.task.error = 0;
        self.chip.task.status = DRDY | DSC;
        self.chip.flow = Flow::default();
        match ata::run(self, command) {
            Ok(Next::Done) => self.end(),
            Ok(Next::Data) => {}
            Err(Failed(error)) => self.fail(error),
        }
    }

    fn busy(&mut self, then: Then) {
        let due = self.clock.now().saturating_add(LATENCY);
        self.chip.due = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.chip.phase = Phase::Busy(then);
    }

    /// The command ends well.
    fn end(&mut self) {
        self.chip.task.status = DRDY | DSC;
        self.close();
    }

    /// The command ends with an error.
    pub fn fail(&mut self, error: u8) {
        self.chip.task.error = error;
        self.chip.task.status = DRDY | DSC | ERR;
        self.close();
    }

    fn close(&mut self) {
        if self.chip.flow.packet {
            self.chip.task.count.now = REASON_IN | REASON_COMMAND;
        }
        self.chip.transfer = Transfer::default();
        self.busy(Then::Done);
    }

    /// Data go to the guest through the data register, `block` bytes at most at a time.
    pub fn pio_in(&mut self, transfer: Transfer, block: u32) -> Next {
        self.chip.transfer = transfer;
        self.chip.flow.block = block;
        self.offer();
        Next::Data
    }

    /// Data come from the guest through the data register.
    pub fn pio_out(&mut self, transfer: Transfer, block: u32) -> Next {
        self.chip.transfer = transfer;
        (self.chip.flow.block, self.chip.flow.out) = (block, true);
        self.chip.transfer.make_room(block as usize);
        self.chip.task.status = DRDY | DSC | DRQ;
        self.chip.phase = Phase::DataOut;
        Next::Data
    }

    /// The guest is to write a command packet of `len` bytes.
    pub fn packet(&mut self, len: usize) -> Next {
        self.chip.flow.packet = true;
        self.chip.transfer = Transfer::default();
        self.chip.transfer.room(len);
        self.chip.task.count.now = REASON_COMMAND;
        self.chip.task.status = DRDY | DSC | DRQ;
        self.chip.phase = Phase::Packet;
        Next::Data
    }

    /// The bus master moves the data.
    pub fn dma(&mut self, transfer: Transfer, out: bool) -> Next {
        self.chip.transfer = transfer;
        self.chip.flow.out = out;
        self.chip.task.status = DRDY | DSC | DRQ;
        if self.chip.flow.packet {
            self.chip.task.count.now = REASON_IN;
        }
        self.chip.phase = Phase::Dma;
        Next::Data
    }

    fn offer(&mut self) {
        let disk = self.disk();
        let most = self.chip.flow.block as usize;
        match self.chip.transfer.load(most, disk.as_ref()) {
            Ok(len) => {
                let task = &mut self.chip.task;
                if self.chip.flow.packet {
                    task.count.now = REASON_IN;
                    // A block of PACKET is less than 64 KiB.
                    task.set_byte_count(u16::try_from(len).unwrap_or(u16::MAX));
                }
                task.status = DRDY | DSC | DRQ;
                self.busy(Then::DataIn);
            }
            Err(error) => self.medium_failed(&error),
        }
    }

    /// The guest reads the data register.
    pub fn read_data(&mut self, data: &mut [u8]) {
        if self.chip.phase != Phase::DataIn {
            return data.fill(0);
        }
        self.chip.transfer.take(data);
        if !self.chip.transfer.part_is_done() {
            return;
        }
        if self.chip.transfer.remaining() > 0 {
            self.offer();
        } else if self.chip.flow.packet {
            self.end();
        } else {
            self.tell_last();
            self.chip.transfer = Transfer::default();
            self.chip.task.status = DRDY | DSC;
            self.chip.phase = Phase::Idle;
        }
    }

    /// The guest writes the data register.
    pub fn write_data(&mut self, data: &[u8]) {
        if !matches!(self.chip.phase, Phase::DataOut | Phase::Packet) {
            return;
        }
        self.chip.transfer.give(data);
        if !self.chip.transfer.part_is_done() {
            return;
        }
        if self.chip.phase == Phase::Packet {
            let packet = self.chip.transfer.given().to_vec();
            match atapi::run(self, &packet) {
                Ok(Next::Done) => self.end(),
                Ok(Next::Data) => {}
                Err(Failed(error)) => self.fail(error),
            }
        } else {
            self.store();
        }
    }

    fn store(&mut self) {
        let disk = self.disk();
        if let Err(error) = self.chip.transfer.store(disk.as_ref()) {
            self.medium_failed(&error);
        } else if self.chip.transfer.left > 0 {
            let block = self.chip.flow.block as usize;
            self.chip.transfer.make_room(block);
            self.busy(Then::DataOut);
        } else {
            self.tell_last();
            self.end();
        }
    }

    /// Moves all data through the memory that `table` names.
    pub fn run_dma(&mut self, table: &mut Table<'_>) -> Moved {
        let disk = self.disk();
        let out = self.chip.flow.out;
        while self.chip.transfer.remaining() > 0 {
            let moved = if out {
                self.gather(table, disk.as_ref())
            } else {
                self.scatter(table, disk.as_ref())
            };
            match moved {
                Ok(true) => {}
                Ok(false) => return self.run_short(),
                Err(error) => {
                    self.medium_failed(&error);
                    return Moved::All;
                }
            }
        }
        if !self.chip.flow.packet {
            self.tell_last();
        }
        self.end();
        Moved::All
    }

    fn scatter(&mut self, table: &mut Table<'_>, disk: Option<&Disk>) -> io::Result<bool> {
        let transfer = &mut self.chip.transfer;
        let len = transfer.load(PIECE, disk)?;
        let moved = table.scatter(transfer.part());
        transfer.moved(moved);
        Ok(moved == len && len > 0)
    }

    fn gather(&mut self, table: &mut Table<'_>, disk: Option<&Disk>) -> io::Result<bool> {
        let transfer = &mut self.chip.transfer;
        let len = transfer.make_room(PIECE);
        let moved = table.gather(transfer.part());
        transfer.moved(moved);
        transfer.store(disk)?;
        transfer.room(0);
        Ok(moved == len && len > 0)
    }

    fn run_short(&mut self) -> Moved {
        tracing::debug!(target: "ide", "the table of descriptors is too short");
        self.chip.transfer = Transfer::default();
        self.chip.task.status = DRDY | DSC;
        self.chip.phase = Phase::Idle;
        Moved::Short
    }

    /// The host could not read or write the medium.
    fn medium_failed(&mut self, error: &io::Error) {
        tracing::warn!(target: "ide", drive = self.number, %error, "the host failed at a disk");
        if self.chip.flow.packet {
            let Failed(code) = atapi::medium_failed(self);
            return self.fail(code);
        }
        self.tell(self.chip.transfer.next);
        self.fail(if self.chip.flow.out { ABRT } else { UNC });
    }

    /// The registers tell of the last sector, and that none is left.
    fn tell_last(&mut self) {
        self.chip.task.count = super::taskfile::Pair::default();
        if self.chip.transfer.size == 512 {
            self.tell(self.chip.transfer.next.saturating_sub(1));
        }
    }

    /// The registers tell of sector `lba`.
    pub fn tell(&mut self, lba: u64) {
        let settings = self.chip.ata;
        let task = &mut self.chip.task;
        if self.chip.flow.ext {
            task.set_lba48(lba);
        } else if task.is_lba() {
            task.set_lba28(lba);
        } else {
            settings.set_chs(task, lba);
        }
    }

    /// The diagnostic has ended.
    pub fn tell_diagnosed(&mut self) {
        if self.is_present() {
            self.busy(Then::Done);
        }
    }

    /// What to save.
    pub fn save(&self) -> Chip {
        let mut chip = self.chip.clone();
        if let Some(drive) = &self.drive {
            chip.cd.look(drive);
        }
        chip
    }

    /// Takes over what [`Unit::check`] allowed.
    pub fn restore(&mut self, chip: Chip) {
        self.chip = chip;
        if let Some(drive) = &self.drive {
            self.chip.cd.put_back(drive);
        }
    }

    /// Whether a saved state can be this drive's.
    ///
    /// # Errors
    /// If it is another kind of drive's, or impossible.
    pub fn check(&self, chip: &Chip) -> Result<(), RestoreError> {
        if chip.kind != self.chip.kind {
            return Err(RestoreError::Impossible { field: "drive" });
        }
        let data = matches!(chip.phase, Phase::DataIn | Phase::DataOut | Phase::Packet);
        if data && chip.flow.block > PIECE as u32 {
            return Err(RestoreError::Impossible { field: "block" });
        }
        chip.transfer.check()?;
        chip.ata.check()
    }
}
