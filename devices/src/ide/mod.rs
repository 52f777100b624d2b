//! Intel 82371SB (PIIX3) function 1: IDE, function 00:01.1, with ATA disks and ATAPI CD-ROM drives.
//!
//! Datasheet: Intel 290550, "IDE Controller"; ATA/ATAPI-6 (T13 1410D), SFF-8038i for the bus master, SFF-8020i and MMC-3 for
//! packets. Ports, wherever the configuration says they are: 1F0-1F7 and 3F6 with IRQ 14, 170-177 and
//! 376 with IRQ 15. BAR 4: the bus master's 16 ports. As on the stock machine both channels answer whether
//! IDETIM (40h) lets them or not, and configuration space from 40h on keeps what is written.
//!
//! The host moves data at once; the drive then stays busy for 20 us before its interrupt, so that no guest is interrupted
//! before it waits. Without a bus master enable nothing moves until the master is started again.
//!
//! Not modelled: timing, queued commands, security, host protected area, media lock of disks, CFA, 512-byte READ LONG,
//! SMART attributes and logs.

mod ata;
mod atapi;
mod busmaster;
mod channel;
mod identify;
mod replies;
mod taskfile;
mod transfer;
mod unit;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bus::{Region, Widths};
use crate::pci::bar::Bar;
use crate::pci::config::{self, Command, Config, Identity};
use crate::pci::{FIXED, Function, Place};
use crate::regmap::Reg;
use crate::{At, Device, RestoreError, State};
use channel::Channel;

const VERSION: u32 = 1;

const BUS_MASTER: u8 = 4;
const PRIMARY: u8 = FIXED;
const PRIMARY_CONTROL: u8 = FIXED + 1;
const SECONDARY: u8 = FIXED + 2;
const SECONDARY_CONTROL: u8 = FIXED + 3;

/// The function's fixed regions.
pub const REGIONS: &[Region] = &[
    Region::ports(0x1F0..=0x1F7, Widths::UP_TO_DWORD),
    Region::ports(0x3F6..=0x3F6, Widths::BYTE),
    Region::ports(0x170..=0x177, Widths::UP_TO_DWORD),
    Region::ports(0x376..=0x376, Widths::BYTE),
];

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x7010,
    revision: 0,
    class: 0x01_0180,
    multifunction: false,
};

#[rustfmt::skip]
const ROWS: &[Reg] = &[
    config::status(0x0280), // fast back-to-back, DEVSEL# timing: medium
    Reg::rw("stored", 0x40, 1, 0x00, 0xFF).times(192),
];

/// Builds the function; `place.wiring.irq(0)` is IRQ 14, `irq(1)` IRQ 15.
pub fn new(place: &Place<'_>) -> Box<dyn Function> {
    let wiring = place.wiring;
    let bars = [(usize::from(BUS_MASTER), Bar::io(16))];
    let channel = |number: u8| {
        let first = 2 * usize::from(number);
        let drive = |unit: usize| wiring.parts.ide[first + unit].clone();
        Channel::new(
            number,
            [drive(0), drive(1)],
            wiring.irq(number.into()),
            &wiring.memory,
            &wiring.clock,
        )
    };
    Box::new(Ide {
        config: Config::with_bars(IDENTITY, ROWS, &bars, place.requests),
        channels: [channel(0), channel(1)],
    })
}

struct Ide {
    config: Config,
    channels: [Channel; 2],
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: Vec<u8>,
    channels: [channel::Saved; 2],
}

impl Ide {
    fn read_dma(&self, offset: u64, data: &mut [u8]) {
        for (offset, to) in (offset..16).zip(data) {
            let channel = &self.channels[usize::from(offset >= 8)];
            if let Some(byte) = channel.read_dma(offset & 7) {
                *to = byte;
            }
        }
    }

    fn write_dma(&mut self, offset: u64, data: &[u8]) {
        for (offset, &byte) in (offset..16).zip(data) {
            let channel = &mut self.channels[usize::from(offset >= 8)];
            channel.write_dma(offset & 7, byte);
        }
    }

    fn pump(&mut self) {
        if self.config.command().contains(Command::MASTER) {
            self.channels.iter_mut().for_each(Channel::pump);
        }
    }
}

impl Function for Ide {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }
}

impl Device for Ide {
    fn read(&mut self, at: At, data: &mut [u8]) {
        let [primary, secondary] = &mut self.channels;
        match at.region {
            BUS_MASTER => self.read_dma(at.offset, data),
            PRIMARY => primary.read(at.offset, data),
            PRIMARY_CONTROL => data.fill(primary.alternate_status()),
            SECONDARY => secondary.read(at.offset, data),
            SECONDARY_CONTROL => data.fill(secondary.alternate_status()),
            _ => {}
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let [primary, secondary] = &mut self.channels;
        let first = data.first().copied().unwrap_or(0);
        match at.region {
            BUS_MASTER => self.write_dma(at.offset, data),
            PRIMARY => primary.write(at.offset, data),
            PRIMARY_CONTROL => primary.write_control(first),
            SECONDARY => secondary.write(at.offset, data),
            SECONDARY_CONTROL => secondary.write_control(first),
            _ => {}
        }
        self.pump();
    }

    fn reset(&mut self) {
        self.config.reset();
        self.channels.iter_mut().for_each(Channel::reset);
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        let deadlines = self.channels.iter_mut().map(|channel| channel.poll(now));
        deadlines.collect::<Vec<_>>().into_iter().flatten().min()
    }

    fn save(&self) -> State {
        let saved = Saved {
            config: self.config.save(),
            channels: [self.channels[0].save(), self.channels[1].save()],
        };
        State::of(VERSION, &saved)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let saved: Saved = from.fields(VERSION)?;
        for (channel, state) in self.channels.iter().zip(&saved.channels) {
            channel.check(state)?;
        }
        self.config.restore(&saved.config)?;
        for (channel, state) in self.channels.iter_mut().zip(saved.channels) {
            channel.restore(state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
