//! A function's 256 bytes of configuration space. PCI 2.1, 6.1 and 6.2 (header type 0), with
//! Interrupt Disable and Interrupt Status of PCI 2.3, 6.2.2 and 6.2.3.
//!
//! Not modelled: parity, SERR#, latency timer, built-in self-test: their bits read as after reset,
//! but for SERR# Enable, which is kept. As in QEMU the I/O and memory enables can be written whether
//! or not there is such a BAR; Linux does so.

use crate::pci::bar::{self, Bar, Mapping};
use crate::pci::intx::Pin;
use crate::regmap::{Reg, RegMap};
use crate::{IrqLine, Request, Requests, RestoreError};

/// Bytes of a configuration space.
pub const SIZE: usize = 256;

/// Who made the boards: the subsystem IDs of every function of the reference machine.
const SUBSYSTEM: u64 = 0x1100_1AF4;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const STATUS_ONE_CLEARS: u64 = 0xF900;
const STATUS_INTERRUPT: u16 = 1 << 3;
const INTERRUPT_PIN: usize = 0x3D;

bitflags::bitflags! {
    /// The command register's bits that do something.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// I/O BARs decode.
        const IO = 1 << 0;
        /// Memory BARs decode.
        const MEMORY = 1 << 1;
        /// The function may write and read memory by itself.
        const MASTER = 1 << 2;
        /// SERR# enable: kept, nothing more.
        const SERR = 1 << 8;
        /// INTx is not driven.
        const INTX_DISABLE = 1 << 10;
    }
}

/// What a function is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass, interface: 24 bits.
    pub class: u32,
    /// The slot has more functions.
    pub multifunction: bool,
}

impl Identity {
    /// Header type 0; the chip's own rows come over these.
    fn rows(self) -> [Reg; 7] {
        let id = u64::from(self.device) << 16 | u64::from(self.vendor);
        let class = u64::from(self.class) << 8 | u64::from(self.revision);
        [
            Reg::ro("ID", 0x00, 4, id),
            Reg::rw("COMMAND", 0x04, 2, 0, Command::all().bits().into()),
            Reg::ro("STATUS", 0x06, 2, 0).one_clears(STATUS_ONE_CLEARS),
            Reg::ro("CLASS", 0x08, 4, class),
            Reg::rw("CACHE_LINE", 0x0C, 1, 0, 0xFF),
            Reg::ro("HEADER", 0x0E, 1, u64::from(self.multifunction) << 7),
            Reg::ro("SUBSYSTEM", 0x2C, 4, SUBSYSTEM),
        ]
    }
}

/// The status register as a chip's row: fixed bits `fixed`, error bits that a written one clears.
pub const fn status(fixed: u16) -> Reg {
    Reg::ro("STATUS", 0x06, 2, fixed as u64).one_clears(STATUS_ONE_CLEARS)
}

/// A function's configuration space: registers, BARs and interrupt pin.
#[derive(Debug)]
pub struct Config {
    regs: RegMap,
    bars: [Option<Bar>; bar::COUNT],
    intx: Option<IrqLine>,
    requests: Requests,
}

impl Config {
    /// A header for `identity`, and the chip's own `rows` over it.
    pub fn new(identity: Identity, rows: &[Reg], requests: &Requests) -> Self {
        Self::with_bars(identity, rows, &[], requests)
    }

    /// The same with BARs, each with its number.
    ///
    /// # Panics
    /// If a BAR cannot have its number.
    pub fn with_bars(
        identity: Identity,
        rows: &[Reg],
        bars: &[(usize, Bar)],
        requests: &Requests,
    ) -> Self {
        let line = Reg::rw("INTERRUPT_LINE", 0x3C, 1, 0, 0xFF);
        let placed = bars.iter().map(|(index, bar)| bar.row(*index));
        let header = identity.rows().into_iter().chain([line]).chain(placed);
        let mut at = [None; bar::COUNT];
        for (index, bar) in bars {
            at[*index] = Some(*bar);
        }
        Self {
            regs: RegMap::new(SIZE, header.chain(rows.iter().copied())),
            bars: at,
            intx: None,
            requests: requests.clone(),
        }
    }

    /// The same with interrupt pin `pin`, which drives `line`.
    pub fn with_intx(mut self, pin: Pin, line: IrqLine) -> Self {
        let row = Reg::ro("INTERRUPT_PIN", 0x3D, 1, 1 + pin as u64);
        self.regs = self.regs.with_row(row);
        self.intx = Some(line);
        self
    }

    /// What the registers hold.
    pub fn regs(&self) -> &RegMap {
        &self.regs
    }

    /// For what the chip itself changes; BARs and command are the guest's ([`Config::write`]).
    pub fn regs_mut(&mut self) -> &mut RegMap {
        &mut self.regs
    }

    /// The command register.
    pub fn command(&self) -> Command {
        Command::from_bits_truncate(self.regs.u16(COMMAND))
    }

    /// Which interrupt pin the function drives: 0 none, 1 INTA# to 4 INTD#.
    pub fn interrupt_pin(&self) -> u8 {
        self.regs.u8(INTERRUPT_PIN)
    }

    /// What BAR `index` asks for, if the function has it.
    pub fn bar(&self, index: usize) -> Option<Bar> {
        *self.bars.get(index)?
    }

    /// Where BAR `index` decodes now, if it does.
    pub fn mapping(&self, index: usize) -> Option<Mapping> {
        let bar = self.bars.get(index)?.as_ref()?;
        bar.mapping(index, &self.regs, self.command())
    }

    /// Where each BAR decodes now.
    pub fn mappings(&self) -> [Option<Mapping>; bar::COUNT] {
        std::array::from_fn(|index| self.mapping(index))
    }

    /// The guest reads.
    pub fn read(&mut self, offset: usize, data: &mut [u8]) {
        self.regs.read(offset, data);
    }

    /// The guest writes.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.change(|regs| regs.write(offset, data));
        self.drive(IrqLine::set_level);
    }

    /// The function asserts or drops its interrupt.
    pub fn set_interrupt(&mut self, level: bool) {
        let others = self.regs.u16(STATUS) & !STATUS_INTERRUPT;
        let status = others | if level { STATUS_INTERRUPT } else { 0 };
        self.regs.set(STATUS, &status.to_le_bytes());
        self.drive(IrqLine::set_level);
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.change(RegMap::reset);
        self.drive(IrqLine::set_level);
    }

    /// What to save: the registers hold everything.
    pub fn save(&self) -> Vec<u8> {
        self.regs.save()
    }

    /// Takes saved registers over; the interrupt line sees no edge.
    ///
    /// # Errors
    /// If they are not a configuration space; nothing has changed then.
    pub fn restore(&mut self, saved: &[u8]) -> Result<(), RestoreError> {
        let mut result = Ok(());
        self.change(|regs| result = regs.restore(saved));
        self.drive(IrqLine::restore_level);
        result
    }

    fn change(&mut self, change: impl FnOnce(&mut RegMap)) {
        let before = self.mappings();
        change(&mut self.regs);
        if self.mappings() != before {
            self.requests.push(Request::MapChanged);
        }
    }

    fn drive(&self, how: fn(&IrqLine, bool)) {
        if let Some(line) = &self.intx {
            let asserted = self.regs.u16(STATUS) & STATUS_INTERRUPT != 0;
            let disabled = self.command().contains(Command::INTX_DISABLE);
            how(line, asserted && !disabled);
        }
    }
}
