//! The packet commands of a CD-ROM drive. SFF-8020i revision 2.6; MMC-3 for READ CD and later ones.
//!
//! A medium is one session with one data track of 2048-byte blocks. Not modelled: audio, other block forms,
//! MODE SELECT, READ SUB-CHANNEL, READ DVD STRUCTURE: such commands are refused as invalid.

use serde::{Deserialize, Serialize};

use super::replies;
use super::taskfile::Pair;
use super::transfer::Transfer;
use super::unit::{Failed, Next, Unit};
use crate::backend::drive::Drive;

/// Bytes of a command packet.
pub const PACKET: usize = 12;
/// Bytes of a block.
pub const BLOCK: u32 = 2048;

/// PACKET's features register: the data are moved by DMA.
const FEATURE_DMA: u8 = 1 << 0;

/// Sense: key, additional code and its qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    pub key: u8,
    pub code: u8,
    pub qualifier: u8,
}

impl Sense {
    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
        }
    }
}

const NO_MEDIUM_CLOSED: Sense = Sense::new(2, 0x3A, 1);
const NO_MEDIUM_OPEN: Sense = Sense::new(2, 0x3A, 2);
const UNREADABLE: Sense = Sense::new(3, 0x11, 0);
const INVALID_COMMAND: Sense = Sense::new(5, 0x20, 0);
const OUT_OF_RANGE: Sense = Sense::new(5, 0x21, 0);
pub const INVALID_FIELD: Sense = Sense::new(5, 0x24, 0);
pub const NOT_SAVED: Sense = Sense::new(5, 0x39, 0);
const LOCKED: Sense = Sense::new(5, 0x53, 2);
const MEDIUM_CHANGED: Sense = Sense::new(6, 0x28, 0);
const RESET: Sense = Sense::new(6, 0x29, 0);

/// What happened to the medium, as GET EVENT STATUS NOTIFICATION tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    #[default]
    None,
    /// The user wants it.
    Wanted,
    New,
    Removed,
}

/// What a CD-ROM drive remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cd {
    sense: Sense,
    /// A reset, or another medium: told once.
    attention: Option<Sense>,
    pub event: Event,
    /// The tray, when this was saved.
    open: bool,
    locked: bool,
    /// Which change of the medium is known here.
    #[serde(skip)]
    seen: u64,
}

impl Cd {
    pub fn new() -> Self {
        Self {
            sense: Sense::default(),
            attention: Some(RESET),
            event: Event::None,
            open: false,
            locked: false,
            seen: 0,
        }
    }

    /// Looks at the tray: after a reset, and before its state is saved.
    pub fn look(&mut self, drive: &Drive) {
        (self.open, self.locked) = (drive.is_open(), drive.is_locked());
    }

    /// After a reset no change is news.
    pub fn forget_changes(&mut self, drive: &Drive) {
        self.seen = drive.changes();
    }

    /// Puts the tray as it was when this was saved.
    pub fn put_back(&mut self, drive: &Drive) {
        drive.set_open(self.open);
        drive.set_locked(self.locked);
        self.forget_changes(drive);
    }

    fn notice(&mut self, drive: &Drive) {
        if drive.take_wanted() {
            self.event = Event::Wanted;
        }
        let changes = drive.changes();
        if changes != self.seen {
            self.seen = changes;
            let there = drive.disk().is_some();
            self.event = if there { Event::New } else { Event::Removed };
            self.attention = Some(MEDIUM_CHANGED);
        }
    }
}

/// What a command answers.
pub enum Reply {
    None,
    /// Bytes, as many as the guest has room for.
    Bytes(Vec<u8>),
    /// Blocks of the medium.
    Blocks {
        first: u32,
        count: u32,
    },
}

/// What a command is run on.
pub struct Command<'a> {
    pub packet: &'a [u8; PACKET],
    pub drive: &'a Drive,
    pub cd: &'a mut Cd,
}

impl Command<'_> {
    pub fn byte(&self, at: usize) -> u8 {
        self.packet[at]
    }

    pub fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.packet[at], self.packet[at + 1]])
    }

    fn dword(&self, at: usize) -> u32 {
        u32::from(self.word(at)) << 16 | u32::from(self.word(at + 2))
    }

    /// How many blocks the medium has.
    pub fn blocks(&self) -> Result<u32, Sense> {
        match self.drive.disk() {
            Some(disk) => {
                let blocks = disk.size().div_ceil(u64::from(BLOCK));
                Ok(u32::try_from(blocks).unwrap_or(u32::MAX))
            }
            None if self.drive.is_open() => Err(NO_MEDIUM_OPEN),
            None => Err(NO_MEDIUM_CLOSED),
        }
    }
}

type Run = fn(&mut Command<'_>) -> Result<Reply, Sense>;

struct Row {
    code: u8,
    /// Runs even while a unit attention waits, which stays then.
    always: bool,
    run: Run,
}

const fn row(code: u8, always: bool, run: Run) -> Row {
    Row { code, always, run }
}

#[rustfmt::skip]
const COMMANDS: &[Row] = &[
    row(0x00, false, |command| command.blocks().map(|_| Reply::None)), // TEST UNIT READY
    row(0x03, true,  request_sense),
    row(0x12, true,  replies::inquiry),
    row(0x1B, false, start_stop),
    row(0x1E, false, prevent_allow),
    row(0x25, false, replies::capacity),
    row(0x28, false, |command| read(command, command.word(7).into())),     // READ(10)
    row(0x2B, false, |command| seek(command)),                             // SEEK(10)
    row(0x43, false, replies::toc),
    row(0x46, true,  replies::configuration),
    row(0x4A, true,  replies::event_status),
    row(0x51, false, replies::disc_information),
    row(0x5A, false, replies::mode_sense),
    row(0xA8, false, |command| read(command, command.dword(6))),           // READ(12)
    row(0xBB, false, |_| Ok(Reply::None)),                                 // SET CD SPEED
    row(0xBD, false, replies::mechanism_status),
    row(0xBE, false, read_cd),
];

/// Runs the command in `packet`.
pub fn run(unit: &mut Unit, packet: &[u8]) -> Result<Next, Failed> {
    let mut whole = [0; PACKET];
    for (to, from) in whole.iter_mut().zip(packet) {
        *to = *from;
    }
    let Some(drive) = unit.drive.clone() else {
        return Err(Failed(0));
    };
    let cd = &mut unit.chip.cd;
    cd.notice(&drive);
    let command = Command {
        packet: &whole,
        drive: &drive,
        cd,
    };
    match dispatch(command) {
        Ok(reply) => Ok(answer(unit, reply)),
        Err(sense) => Err(refuse(unit, sense)),
    }
}

fn dispatch(mut command: Command<'_>) -> Result<Reply, Sense> {
    let code = command.byte(0);
    let row = COMMANDS.iter().find(|row| row.code == code);
    if !row.is_some_and(|row| row.always)
        && let Some(attention) = command.cd.attention.take()
    {
        return Err(attention);
    }
    if code != 0x03 {
        command.cd.sense = Sense::default();
    }
    let Some(row) = row else {
        tracing::debug!(target: "ide", "packet command {code:#04x} is not known");
        return Err(INVALID_COMMAND);
    };
    (row.run)(&mut command)
}

fn refuse(unit: &mut Unit, sense: Sense) -> Failed {
    unit.chip.cd.sense = sense;
    Failed(sense.key << 4)
}

/// The host could not read the medium.
pub fn medium_failed(unit: &mut Unit) -> Failed {
    refuse(unit, UNREADABLE)
}

fn answer(unit: &mut Unit, reply: Reply) -> Next {
    let transfer = match reply {
        Reply::Bytes(bytes) => Transfer::bytes(bytes),
        Reply::Blocks { first, count } => Transfer::blocks(BLOCK, first.into(), count),
        Reply::None => return Next::Done,
    };
    let total = transfer.remaining();
    if total == 0 {
        return Next::Done;
    }
    if unit.chip.task.features.now & FEATURE_DMA != 0 {
        return unit.dma(transfer, false);
    }
    let limit = limit(unit.chip.task.byte_count(), total);
    unit.chip.task.count = Pair::default();
    unit.pio_in(transfer, limit)
}

/// Bytes of a DRQ block: an even number, but for the last one. No limit at all is what old drivers mean by 0.
fn limit(asked: u16, total: u64) -> u32 {
    let most = match asked {
        0 | 0xFFFF => 0xFFFE,
        most => u32::from(most),
    };
    if u64::from(most) >= total {
        most
    } else {
        (most & !1).max(2)
    }
}

fn request_sense(command: &mut Command<'_>) -> Result<Reply, Sense> {
    let attention = command.cd.attention.take();
    let sense = attention.unwrap_or(command.cd.sense);
    command.cd.sense = Sense::default();
    let mut data = vec![0; 18];
    data[0] = 0xF0; // valid, current
    data[2] = sense.key;
    data[7] = 10; // bytes that follow
    (data[12], data[13]) = (sense.code, sense.qualifier);
    data.truncate(command.byte(4).into());
    Ok(Reply::Bytes(data))
}

fn start_stop(command: &mut Command<'_>) -> Result<Reply, Sense> {
    const START: u8 = 1 << 0;
    const LOAD_EJECT: u8 = 1 << 1;
    let action = command.byte(4);
    // A power condition, or turning the medium without moving it: nothing to do.
    if action & 0xF0 != 0 || action & LOAD_EJECT == 0 {
        return Ok(Reply::None);
    }
    let open = action & START == 0;
    if open && command.drive.is_locked() {
        return Err(LOCKED);
    }
    command.drive.set_open(open);
    // What the guest does itself is no news to it, but a medium that was loaded is.
    command.cd.seen = command.drive.changes();
    let loaded = command.drive.disk().is_some();
    command.cd.event = if loaded { Event::New } else { Event::Removed };
    if loaded {
        command.cd.attention = Some(MEDIUM_CHANGED);
    }
    Ok(Reply::None)
}

fn prevent_allow(command: &mut Command<'_>) -> Result<Reply, Sense> {
    command.drive.set_locked(command.byte(4) & 1 != 0);
    Ok(Reply::None)
}

fn seek(command: &Command<'_>) -> Result<Reply, Sense> {
    if command.dword(2) >= command.blocks()? {
        return Err(OUT_OF_RANGE);
    }
    Ok(Reply::None)
}

fn read(command: &Command<'_>, count: u32) -> Result<Reply, Sense> {
    let first = command.dword(2);
    let end = u64::from(first) + u64::from(count);
    if end > command.blocks()?.into() {
        return Err(OUT_OF_RANGE);
    }
    Ok(Reply::Blocks { first, count })
}

fn read_cd(command: &mut Command<'_>) -> Result<Reply, Sense> {
    const USER_DATA: u8 = 0x10;
    let kind = command.byte(1) >> 2 & 7;
    let count = u32::from(command.byte(6)) << 16 | u32::from(command.word(7));
    // Any kind of sector, or mode 1, or mode 2 form 1: those have 2048 bytes.
    if !matches!(kind, 0 | 2 | 4) || command.byte(10) & 7 != 0 {
        return Err(INVALID_FIELD);
    }
    match command.byte(9) & 0xFE {
        0 => read(command, count).map(|_| Reply::None),
        USER_DATA => read(command, count),
        _ => Err(INVALID_FIELD),
    }
}
