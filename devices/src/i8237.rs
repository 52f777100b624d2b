//! Two Intel 8237A DMA controllers with their page registers.
//!
//! Datasheets: Intel 231466; the PC's use: IBM AT Technical Reference, "Direct Memory Access"; Intel 82371SB (PIIX3) 290550,
//! "DMA Register Description". Region 0: ports 00h-0Fh, channels 0 to 3, which move bytes. Region 1: ports C0h-DFh,
//! channels 4 to 7, which move words; each register answers at two ports. Regions 2 to 5: the page registers at
//! 81h-83h, 87h, 89h-8Bh and 8Fh; the ports between are nobody's, as on the stock machine.
//!
//! The controllers stand behind a lock of their own ([`Dma`]), taken under a device's: a device on the ISA bus asserts
//! its DREQ by [`Channel::to_memory`] and [`Channel::from_memory`], which move what it has at once.
//! So single, demand and block mode are one; channel 4 cascades and moves nothing.
//!
//! As on the stock machine reads of write-only registers give 0, but for 09h and D2h, which give the mask
//! (all eight bits after a master clear). Not modelled: memory to memory (channels 0 and 1 move with devices
//! only; the temporary register reads 0), priority and timing (commands are accepted), the PIIX3's
//! extended and high page registers (the stock machine has none), a software request without a
//! device (it only shows in the status).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::board::Wiring;
use crate::memory_map::BusMaster;
use crate::{At, Device, RestoreError, State};

const VERSION: u32 = 1;
/// Channels of one controller.
const CHANNELS: usize = 4;
/// The channel by which the first controller hangs on the second.
const CASCADE: usize = 4;
const REGION_BYTES: u8 = 0;
const REGION_WORDS: u8 = 1;

/// Registers from here on are the controller's, below a channel's.
const FIRST_CONTROL: u64 = 8;
const COMMAND: u64 = 8;
const REQUEST: u64 = 9;
const SINGLE_MASK: u64 = 10;
const MODE: u64 = 11;
const CLEAR_FLIP_FLOP: u64 = 12;
const MASTER_CLEAR: u64 = 13;
const CLEAR_MASK: u64 = 14;
const ALL_MASKS: u64 = 15;

/// Command: the controller does nothing.
const DISABLED: u8 = 1 << 2;
/// Single mask and request: set rather than clear.
const SET: u8 = 1 << 2;

bitflags::bitflags! {
    /// A channel's mode, but for the channel's number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Mode: u8 {
        /// From the device to memory.
        const WRITE = 1 << 2;
        /// From memory to the device.
        const READ = 1 << 3;
        const AUTOINIT = 1 << 4;
        const DOWN = 1 << 5;
        const CASCADE = 3 << 6;
    }
}

impl Mode {
    const DIRECTION: Self = Self::WRITE.union(Self::READ);
}

/// Builds the controllers' ports over `wiring.dma`.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(Ports(wiring.dma.clone()))
}

/// The DMA controllers; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Dma(Arc<Mutex<Chips>>);

/// What a device's DREQ and DACK are wired to.
#[derive(Clone, Debug)]
pub struct Channel {
    dma: Dma,
    number: usize,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many bytes were moved.
    pub bytes: usize,
    /// The channel's count ran out: the device sees TC.
    pub terminal_count: bool,
}

impl Dma {
    /// The wires of channel `number`, 0 to 7.
    pub fn channel(&self, number: u8) -> Channel {
        Channel {
            dma: self.clone(),
            number: usize::from(number) % (2 * CHANNELS),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Chips> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// The device has `data` for memory. Nothing moves while the channel is masked, set up for the other
    /// direction, or its controller disabled; in verify mode memory is left alone.
    pub fn to_memory(&self, memory: &BusMaster, data: &[u8]) -> Moved {
        let mut chips = self.dma.lock();
        chips.transfer(self.number, Mode::WRITE, data.len(), |address, part| {
            memory.write(address, &data[part]);
        })
    }

    /// The device wants `data` from memory; the same holds. Verify mode leaves `data` alone.
    pub fn from_memory(&self, memory: &BusMaster, data: &mut [u8]) -> Moved {
        let mut chips = self.dma.lock();
        let len = data.len();
        chips.transfer(self.number, Mode::READ, len, |address, part| {
            memory.read(address, &mut data[part]);
        })
    }
}

/// All of it is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chips {
    controllers: [Controller; 2],
    /// Page registers by channel; the fifth is storage (it was once the refresh's).
    pages: [u8; 2 * CHANNELS],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Controller {
    command: u8,
    status: u8,
    mask: u8,
    /// The next byte of a word register is its high one.
    high: bool,
    channels: [Registers; CHANNELS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    mode: u8,
    /// Address and count as written.
    base: [u16; 2],
    /// Address and count now.
    current: [u16; 2],
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            command: 0,
            status: 0,
            mask: 0xFF,
            high: false,
            channels: Default::default(),
        }
    }
}

impl Controller {
    fn flip(&mut self) -> bool {
        self.high = !self.high;
        !self.high
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            ..FIRST_CONTROL => {
                let high = self.flip();
                let (channel, which) = word_register(register);
                self.channels[channel].current[which].to_le_bytes()[usize::from(high)]
            }
            COMMAND => {
                // Terminal counts are told once.
                let status = self.status;
                self.status &= 0xF0;
                status
            }
            REQUEST => self.mask,
            _ => 0,
        }
    }

    fn write(&mut self, register: u64, byte: u8) {
        let channel = usize::from(byte & 3);
        let set = |old: u8, bit: u8| {
            if byte & SET != 0 {
                old | bit
            } else {
                old & !bit
            }
        };
        match register {
            ..FIRST_CONTROL => {
                let high = self.flip();
                let (channel, which) = word_register(register);
                self.channels[channel].write(which, high, byte);
            }
            COMMAND => self.command = byte,
            REQUEST => {
                self.status = set(self.status, 1 << (4 + channel)) & !(1 << channel);
            }
            SINGLE_MASK => self.mask = set(self.mask, 1 << channel),
            MODE => self.channels[channel].mode = byte & !3,
            CLEAR_FLIP_FLOP => self.high = false,
            MASTER_CLEAR => {
                let channels = self.channels;
                *self = Self {
                    channels,
                    ..Self::default()
                };
            }
            CLEAR_MASK => self.mask = 0,
            ALL_MASKS => self.mask = byte,
            _ => {}
        }
    }
}

/// The channel of a word register, and which of its two it is.
fn word_register(register: u64) -> (usize, usize) {
    ((register >> 1 & 3) as usize, (register & 1) as usize)
}

impl Registers {
    /// Base and current take each byte together.
    fn write(&mut self, which: usize, high: bool, byte: u8) {
        let mut bytes = self.base[which].to_le_bytes();
        bytes[usize::from(high)] = byte;
        let mut current = self.current[which].to_le_bytes();
        current[usize::from(high)] = byte;
        self.base[which] = u16::from_le_bytes(bytes);
        self.current[which] = u16::from_le_bytes(current);
    }

    fn mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode)
    }

    /// Moves on by `units`; the count may not run out before. Whether it does now.
    fn advance(&mut self, units: u16) -> bool {
        let [address, count] = &mut self.current;
        *address = if Mode::from_bits_truncate(self.mode).contains(Mode::DOWN) {
            address.wrapping_sub(units)
        } else {
            address.wrapping_add(units)
        };
        let left = *count;
        *count = left.wrapping_sub(units);
        let over = u32::from(units) > u32::from(left);
        if over && self.mode().contains(Mode::AUTOINIT) {
            self.current = self.base;
        }
        over
    }
}

impl Chips {
    /// Moves up to `len` bytes by `part` (an address, and the bytes' place), until the count runs out.
    fn transfer(
        &mut self,
        number: usize,
        direction: Mode,
        len: usize,
        mut part: impl FnMut(u64, std::ops::Range<usize>),
    ) -> Moved {
        let mut moved = Moved::default();
        let width = if number < CHANNELS { 1 } else { 2 };
        while !moved.terminal_count && len - moved.bytes >= width && self.is_open(number, direction)
        {
            let (address, units) = self.run(number, (len - moved.bytes) / width);
            let bytes = usize::from(units) * width;
            if self.registers(number).mode().intersects(direction) {
                part(address, moved.bytes..moved.bytes + bytes);
            }
            moved.bytes += bytes;
            moved.terminal_count = self.advance(number, units);
        }
        moved
    }

    fn registers(&self, number: usize) -> &Registers {
        &self.controllers[number / CHANNELS].channels[number % CHANNELS]
    }

    /// Whether the channel answers a request in this direction.
    fn is_open(&self, number: usize, direction: Mode) -> bool {
        let bit = |number: usize| 1u8 << (number % CHANNELS);
        let answers = |number: usize| {
            let controller = &self.controllers[number / CHANNELS];
            controller.command & DISABLED == 0 && controller.mask & bit(number) == 0
        };
        let mode = self.registers(number).mode();
        let fits = mode & Mode::DIRECTION == direction || !mode.intersects(Mode::DIRECTION);
        // The first controller's requests go through the second.
        let passes = number >= CHANNELS || answers(CASCADE);
        number != CASCADE && fits && passes && answers(number) && !mode.contains(Mode::CASCADE)
    }

    /// Where the next units are, and how many lie side by side there: the address register wraps under the
    /// page. Downwards they are taken one by one.
    fn run(&self, number: usize, most: usize) -> (u64, u16) {
        let registers = self.registers(number);
        let [address, count] = registers.current;
        let page = u64::from(self.pages[number]);
        let at = if number < CHANNELS {
            page << 16 | u64::from(address)
        } else {
            (page & 0xFE) << 16 | u64::from(address) << 1
        };
        let before_wrap = 0x1_0000 - usize::from(address);
        let side_by_side = if registers.mode().contains(Mode::DOWN) {
            1
        } else {
            before_wrap
        };
        let units = most
            .min(side_by_side)
            .min(usize::from(count) + 1)
            .min(usize::from(u16::MAX));
        (at, units as u16)
    }

    /// Counts `units`; whether that was the last.
    fn advance(&mut self, number: usize, units: u16) -> bool {
        let controller = &mut self.controllers[number / CHANNELS];
        let channel = number % CHANNELS;
        let registers = &mut controller.channels[channel];
        let over = registers.advance(units);
        if over {
            controller.status = controller.status & !(0x10 << channel) | 1 << channel;
            if !registers.mode().contains(Mode::AUTOINIT) {
                controller.mask |= 1 << channel;
            }
        }
        over
    }

    fn read(&mut self, at: At) -> u8 {
        match (at.region, page_channel(at)) {
            (REGION_BYTES, _) => self.controllers[0].read(at.offset & 15),
            (REGION_WORDS, _) => self.controllers[1].read(at.offset >> 1 & 15),
            (_, Some(channel)) => self.pages[channel],
            _ => 0,
        }
    }

    fn write(&mut self, at: At, byte: u8) {
        match (at.region, page_channel(at)) {
            (REGION_BYTES, _) => self.controllers[0].write(at.offset & 15, byte),
            (REGION_WORDS, _) => self.controllers[1].write(at.offset >> 1 & 15, byte),
            (_, Some(channel)) => self.pages[channel] = byte,
            _ => {}
        }
    }
}

/// The channel whose page register this is.
fn page_channel(at: At) -> Option<usize> {
    // 81h-83h, 87h, 89h-8Bh, 8Fh.
    const CHANNEL: [&[usize]; 4] = [&[2, 3, 1], &[0], &[6, 7, 5], &[4]];
    let region = CHANNEL.get(usize::from(at.region.checked_sub(2)?))?;
    region.get(usize::try_from(at.offset).ok()?).copied()
}

struct Ports(Dma);

impl Device for Ports {
    fn read(&mut self, at: At, data: &mut [u8]) {
        if let Some(byte) = data.first_mut() {
            *byte = self.0.lock().read(at);
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        if let Some(&byte) = data.first() {
            self.0.lock().write(at, byte);
        }
    }

    fn reset(&mut self) {
        *self.0.lock() = Chips::default();
    }

    fn save(&self) -> State {
        State::of(VERSION, &*self.0.lock())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        *self.0.lock() = from.fields(VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
