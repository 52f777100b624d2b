//! What a CD-ROM drive answers to the packet commands that ask: INQUIRY, READ TOC and the like.

use super::atapi::{BLOCK, Command, Event, INVALID_FIELD, NOT_SAVED, Reply, Sense};

/// Blocks of the longest CD (80 minutes); what is longer is taken for a DVD.
const CD_BLOCKS: u32 = 80 * 60 * 75;
const PROFILE_CD: u16 = 0x0008;
const PROFILE_DVD: u16 = 0x0010;
/// The number of the lead-out.
const LEAD_OUT: u8 = 0xAA;
/// Control and address of a data track.
const DATA_TRACK: u8 = 0x14;
/// The program's version, as far as there is room for it.
const REVISION: &str = concat!(
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR")
);
/// What a drive of that speed moves: 4x in KB/s.
const SPEED: u16 = 706;

type Answer = Result<Reply, Sense>;

/// As much as the guest has room for.
fn bytes(mut data: Vec<u8>, room: u16) -> Answer {
    data.truncate(room.into());
    Ok(Reply::Bytes(data))
}

pub fn inquiry(command: &mut Command<'_>) -> Answer {
    let mut data = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]; // removable CD-ROM, ATAPI
    let mut text = |text: &str, len: usize| {
        data.extend(text.bytes().chain(std::iter::repeat(b' ')).take(len));
    };
    text("TWIN86", 8);
    text("CD-ROM", 16);
    text(REVISION, 4);
    bytes(data, command.byte(4).into())
}

pub fn capacity(command: &mut Command<'_>) -> Answer {
    let last = command.blocks()?.saturating_sub(1);
    let data = [last.to_be_bytes(), BLOCK.to_be_bytes()].concat();
    bytes(data, 8)
}

/// Whether a medium of so many blocks is a DVD.
fn is_dvd(blocks: u32) -> bool {
    blocks > CD_BLOCKS
}

/// The address of a block, as minutes, seconds and frames if `msf`.
fn address(block: u32, msf: bool) -> [u8; 4] {
    if !msf {
        return block.to_be_bytes();
    }
    let frames = block.saturating_add(150);
    let byte = |value: u32| value.to_le_bytes()[0];
    let minutes = (frames / (75 * 60)).min(255);
    [0, byte(minutes), byte(frames / 75 % 60), byte(frames % 75)]
}

/// A list with its length before it, which does not count itself.
fn with_length(list: &[u8]) -> Vec<u8> {
    let len = u16::try_from(list.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], list].concat()
}

pub fn toc(command: &mut Command<'_>) -> Answer {
    let blocks = command.blocks()?;
    let msf = command.byte(1) & 2 != 0;
    let start = command.byte(6);
    // SFF-8020i has the format at another place.
    let format = match command.byte(2) & 0x0F {
        0 => command.byte(9) >> 6,
        format => format,
    };
    let list = match format {
        0 => tracks(start, blocks, msf)?,
        1 => [&[1, 1, 0, DATA_TRACK, 1, 0][..], &address(0, msf)].concat(),
        2 => full_toc(blocks, msf),
        _ => return Err(INVALID_FIELD),
    };
    bytes(with_length(&list), command.word(7))
}

/// Format 0: the track from `start` on, and the lead-out.
fn tracks(start: u8, blocks: u32, msf: bool) -> Result<Vec<u8>, Sense> {
    if start > 1 && start != LEAD_OUT {
        return Err(INVALID_FIELD);
    }
    let mut list = vec![1, 1];
    let mut track = |number: u8, block: u32| {
        list.extend([0, DATA_TRACK, number, 0]);
        list.extend(address(block, msf));
    };
    if start <= 1 {
        track(1, 0);
    }
    track(LEAD_OUT, blocks);
    Ok(list)
}

/// Format 2: as the lead-in has it.
fn full_toc(blocks: u32, msf: bool) -> Vec<u8> {
    let mut list = vec![1, 1];
    let mut point = |number: u8, at: [u8; 4]| {
        list.extend([1, DATA_TRACK, 0, number, 0, 0, 0]);
        list.extend(at);
    };
    point(0xA0, [0, 1, 0, 0]); // the first track
    point(0xA1, [0, 1, 0, 0]); // the last one
    point(0xA2, address(blocks, msf));
    point(1, address(0, msf));
    list
}

pub fn configuration(command: &mut Command<'_>) -> Answer {
    let profile = match command.blocks() {
        Ok(blocks) if is_dvd(blocks) => PROFILE_DVD,
        Ok(_) => PROFILE_CD,
        Err(_) => 0,
    };
    let (which, first) = (command.byte(1) & 3, command.word(2));
    let current = |of: u16| u8::from(of == profile);
    let [dvd, cd] = [PROFILE_DVD, PROFILE_CD].map(current);
    // Number, version with "persistent" and "current", then the feature's own.
    let features: [(u16, u8, &[u8]); 5] = [
        (0x0000, 3, &[0, 0x10, dvd, 0, 0, 0x08, cd, 0]), // the profiles
        (0x0001, 0x0B, &[0, 0, 0, 2, 1, 0, 0, 0]),       // core: ATAPI
        (0x0003, 0x03, &[0x29, 0, 0, 0]),                // removable: a tray, eject, lock
        (0x001E, cd, &[0, 0, 0, 0]),                     // reads CDs
        (0x001F, dvd, &[]),                              // reads DVDs
    ];
    let wanted = |feature: &&(u16, u8, &[u8])| match which {
        0 => feature.0 >= first,
        1 => feature.0 >= first && feature.1 & 1 != 0,
        _ => feature.0 == first,
    };
    if which == 3 {
        return Err(INVALID_FIELD);
    }
    let mut list = vec![0, 0];
    list.extend(profile.to_be_bytes());
    for (number, flags, own) in features.iter().filter(wanted) {
        list.extend(number.to_be_bytes());
        list.extend([*flags, own.len() as u8]);
        list.extend(*own);
    }
    let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
    bytes([&len.to_be_bytes()[..], &list].concat(), command.word(7))
}

pub fn event_status(command: &mut Command<'_>) -> Answer {
    const POLLED: u8 = 1 << 0;
    const MEDIA: u8 = 1 << 4;
    const NO_EVENT: u8 = 0x80;
    if command.byte(1) & POLLED == 0 {
        return Err(INVALID_FIELD);
    }
    if command.byte(4) & MEDIA == 0 {
        return bytes(vec![0, 2, NO_EVENT, MEDIA], command.word(7));
    }
    let event = match std::mem::take(&mut command.cd.event) {
        Event::None => 0,
        Event::Wanted => 1,
        Event::New => 2,
        Event::Removed => 3,
    };
    let open = u8::from(command.drive.is_open());
    let there = u8::from(command.drive.disk().is_some());
    bytes(
        vec![0, 6, 4, MEDIA, event, there << 1 | open, 0, 0],
        command.word(7),
    )
}

pub fn disc_information(command: &mut Command<'_>) -> Answer {
    command.blocks()?;
    let mut data = vec![0; 34];
    data[1] = 32; // bytes that follow
    data[2] = 0x0E; // complete, its last session too
    data[3..7].copy_from_slice(&[1, 1, 1, 1]); // first track, sessions, first and last track of the last
    data[7] = 0x20; // unrestricted use
    data[16..24].fill(0xFF); // no further session
    bytes(data, command.word(7))
}

pub fn mechanism_status(command: &mut Command<'_>) -> Answer {
    let open = u8::from(command.drive.is_open()) << 4;
    bytes(vec![0, open, 0, 0, 0, 1, 0, 0], command.word(8))
}

pub fn mode_sense(command: &mut Command<'_>) -> Answer {
    const SAVED: u8 = 3;
    let (control, page) = (command.byte(2) >> 6, command.byte(2) & 0x3F);
    if control == SAVED {
        return Err(NOT_SAVED);
    }
    let locked = u8::from(command.drive.is_locked());
    let [high, low] = SPEED.to_be_bytes();
    let mut recovery = vec![0x01, 6, 0, 5, 0, 0, 0, 0];
    let mut capabilities = vec![
        0x2A,
        18,
        0x3B,
        0, // reads CD-R, CD-RW, DVD-ROM, DVD-R; writes nothing
        0x70,
        0,
        0x29 | locked << 1,
        0, // modes and sessions; a tray that locks and ejects
        high,
        low,
        0,
        2,
        2,
        0,
        high,
        low,
        0,
        0,
        0,
        0, // speeds, volume levels, buffer
    ];
    if control == 1 {
        // Which fields can be changed: none.
        recovery[2..].fill(0);
        capabilities[2..].fill(0);
    }
    let pages = match page {
        0x01 => recovery,
        0x2A => capabilities,
        0x3F => [recovery, capabilities].concat(),
        _ => return Err(INVALID_FIELD),
    };
    let medium = match command.blocks() {
        Ok(_) => 0x01,
        Err(_) if command.drive.is_open() => 0x71,
        Err(_) => 0x70,
    };
    let list = [&[medium, 0, 0, 0, 0, 0][..], &pages].concat();
    bytes(with_length(&list), command.word(7))
}
