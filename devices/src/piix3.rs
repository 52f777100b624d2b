//! Intel 82371SB (PIIX3) function 0: the PCI-to-ISA bridge, function 00:01.0.
//!
//! Datasheet: Intel 290550. It answers in PCI configuration space; its reset control register CF9 is
//! in [`crate::pci`], among whose ports it lies, ELCR in [`crate::i8259`]. Modelled: PIRQRCA-D (60h-63h),
//! which lead INTA#-INTD# of the slots to ISA interrupts ([`crate::pci::intx`]).
//!
//! Not modelled: ISA clock and recovery times, X-bus chip selects, SMI sources, APIC base, DMA
//! aliasing, MIRQ: the space from 40h on is plain storage with the datasheet's reset values, as in
//! QEMU. The command register is 0 after reset (not 7, and bus mastering can be turned off), as there.

use std::sync::Arc;

use crate::pci::config::{self, Config, Identity};
use crate::pci::intx::PirqRouter;
use crate::pci::{Function, Place};
use crate::regmap::Reg;
use crate::{At, Device, RestoreError, State};

const VERSION: u32 = 1;

const PIRQRC: usize = 0x60;

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x7000,
    revision: 0x00,
    class: 0x06_0100,
    multifunction: true,
};

#[rustfmt::skip]
const ROWS: &[Reg] = &[
    config::status(0x0200), // DEVSEL# timing: medium
    Reg::rw("stored", 0x40, 1, 0x00, 0xFF).times(192),
    Reg::rw("IORT",   0x4C, 1, 0x4D, 0xFF),
    Reg::rw("XBCS",   0x4E, 2, 0x0003, 0xFFFF),
    Reg::rw("PIRQRC", 0x60, 1, 0x80, 0xFF).times(4),
    Reg::rw("TOM",    0x69, 1, 0x02, 0xFF),
    Reg::rw("MBIRQ",  0x70, 1, 0x80, 0xFF),
    Reg::rw("MBDMA",  0x76, 1, 0x0C, 0xFF).times(2),
    Reg::rw("PCSC",   0x78, 2, 0x0002, 0xFFFF),
    Reg::rw("SMICNTL",0xA0, 1, 0x08, 0xFF),
    Reg::rw("FTMR",   0xA8, 1, 0x0F, 0xFF),
];

/// Builds the bridge.
pub fn new(place: &Place<'_>) -> Box<dyn Function> {
    Box::new(IsaBridge {
        config: Config::new(IDENTITY, ROWS, place.requests),
        router: Arc::clone(place.router),
    })
}

struct IsaBridge {
    config: Config,
    router: Arc<PirqRouter>,
}

impl Function for IsaBridge {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config.write(offset, data);
        self.router.set_routes(self.config.regs().bytes(PIRQRC));
    }
}

impl Device for IsaBridge {
    fn read(&mut self, _at: At, _data: &mut [u8]) {}

    fn write(&mut self, _at: At, _data: &[u8]) {}

    fn reset(&mut self) {
        self.config.reset();
        self.router.set_routes(self.config.regs().bytes(PIRQRC));
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.config.save())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.config.restore(&from.fields::<Vec<u8>>(VERSION)?)?;
        self.router.restore_routes(self.config.regs().bytes(PIRQRC));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
