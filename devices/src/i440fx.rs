//! Intel 82441FX (440FX PMC): the host bridge, function 00:00.0.
//!
//! Datasheet: Intel 290549. It answers in PCI configuration space only; CF8 and CFC are in
//! [`crate::pci`]. Modelled: PAM0-PAM6 and SMRAM with D_OPEN, D_CLS, D_LCK and G_SMRAME, which shape the
//! memory map ([`SharedShape`]).
//!
//! Not modelled: DRAM timing, row boundaries, error reporting, PMC configuration: the space from 40h
//! on is plain storage and zero after reset, as in QEMU, which SeaBIOS and Linux are content with. So are
//! command (0 after reset, not 6) and status (0, not 280h). D_LCK follows the datasheet: once set, SMRAM
//! is read-only with D_OPEN clear until reset (QEMU 7.2 keeps it writable).

use crate::memory_map::{Shape, SharedShape};
use crate::pci::config::{Config, Identity};
use crate::pci::{Function, Place};
use crate::regmap::Reg;
use crate::{At, Device, Request, Requests, RestoreError, State};

const VERSION: u32 = 1;

const PAM: usize = 0x59;
const SMRAM: usize = 0x72;
const D_OPEN: u8 = 1 << 6;
const D_LCK: u8 = 1 << 4;

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x1237,
    revision: 0x02,
    class: 0x06_0000,
    multifunction: false,
};

#[rustfmt::skip]
const ROWS: &[Reg] = &[
    Reg::rw("stored", 0x40, 1, 0x00, 0xFF).times(192),
    Reg::rw("DRAMT",  0x57, 1, 0x10, 0xFF),
    Reg::rw("PAM",    0x59, 1, 0x00, 0xFF).times(7),
    Reg::rw("SMRAM",  0x72, 1, 0x02, 0xFF),
];

/// Builds the host bridge.
pub fn new(place: &Place<'_>) -> Box<dyn Function> {
    let mut bridge = HostBridge {
        config: Config::new(IDENTITY, ROWS, place.requests),
        shape: place.shape.clone(),
        requests: place.requests.clone(),
    };
    bridge.share();
    Box::new(bridge)
}

struct HostBridge {
    config: Config,
    shape: SharedShape,
    requests: Requests,
}

impl HostBridge {
    /// Lets the board see PAM and SMRAM.
    fn share(&mut self) {
        let regs = self.config.regs();
        let shape = Shape {
            pam: regs.bytes(PAM),
            smram: regs.u8(SMRAM),
        };
        if self.shape.get() != shape {
            self.shape.set(shape);
            self.requests.push(Request::MapChanged);
        }
    }
}

impl Function for HostBridge {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let before = self.config.regs().u8(SMRAM);
        self.config.write(offset, data);
        let written = self.config.regs().u8(SMRAM);
        let smram = if before & D_LCK != 0 {
            before
        } else if written & D_LCK != 0 {
            written & !D_OPEN
        } else {
            written
        };
        self.config.regs_mut().set(SMRAM, &[smram]);
        self.share();
    }
}

impl Device for HostBridge {
    fn read(&mut self, _at: At, _data: &mut [u8]) {}

    fn write(&mut self, _at: At, _data: &[u8]) {}

    fn reset(&mut self) {
        self.config.reset();
        self.share();
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.config.save())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.config.restore(&from.fields::<Vec<u8>>(VERSION)?)?;
        self.share();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
