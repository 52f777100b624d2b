//! One channel: two drives on a cable, and the bus master's registers for it.
//!
//! A write to a command block register reaches both drives; reads and commands are the selected one's. A place
//! without a drive has registers if the other one has a drive, as on the stock machine, but its status is 0;
//! a channel without drives reads zero everywhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::busmaster::Dma;
use super::taskfile::{BSY, DEV_SLAVE, DRDY, DSC};
use super::unit::{Chip, Kind, Moved, Phase, Unit};
use crate::backend::drive::Drive;
use crate::memory_map::BusMaster;
use crate::{Clock, IrqLine, RestoreError};

/// Device control: no interrupts.
const NIEN: u8 = 1 << 1;
/// Device control: reset.
const SRST: u8 = 1 << 2;
/// Device control: reads show what was written before.
const HOB: u8 = 1 << 7;

const STATUS: u64 = 7;
const DEVICE_RESET: u8 = 0x08;
const EXECUTE_DIAGNOSTIC: u8 = 0x90;

/// A channel.
pub struct Channel {
    units: [Unit; 2],
    line: IrqLine,
    memory: BusMaster,
    wires: Wires,
}

/// What is saved of it besides its drives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Wires {
    slave: bool,
    control: u8,
    dma: Dma,
    /// The table had no room left when the data had moved.
    used_up: bool,
    level: bool,
}

/// What is saved of a channel.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    wires: Wires,
    units: [Chip; 2],
}

impl Channel {
    /// Channel `number` with its drives.
    pub fn new(
        number: u8,
        drives: [Option<Drive>; 2],
        line: IrqLine,
        memory: &BusMaster,
        clock: &Clock,
    ) -> Self {
        let [master, slave] = drives;
        Self {
            units: [
                Unit::new(2 * number, master, clock.clone()),
                Unit::new(2 * number + 1, slave, clock.clone()),
            ],
            line,
            memory: memory.clone(),
            wires: Wires::default(),
        }
    }

    fn selected(&mut self) -> &mut Unit {
        &mut self.units[usize::from(self.wires.slave)]
    }

    fn is_empty(&self) -> bool {
        !self.units.iter().any(Unit::is_present)
    }

    /// The guest reads a command block register.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        if self.is_empty() {
            return data.fill(0);
        }
        match (offset, data) {
            (0, data) => self.read_data(data),
            (_, data) => {
                for (offset, to) in (offset..).zip(data) {
                    *to = self.read_register(offset);
                }
            }
        }
        self.drive();
    }

    fn read_data(&mut self, data: &mut [u8]) {
        for part in data.chunks_mut(2) {
            let mut word = [0; 2];
            self.selected().read_data(&mut word);
            part.copy_from_slice(&word[..part.len()]);
        }
    }

    fn read_register(&mut self, offset: u64) -> u8 {
        if offset == STATUS {
            self.selected().chip.interrupt = false;
            return self.status();
        }
        let previous = self.wires.control & HOB != 0;
        self.selected().chip.task.read(offset, previous)
    }

    /// The alternate status register.
    pub fn alternate_status(&mut self) -> u8 {
        if self.is_empty() { 0 } else { self.status() }
    }

    fn status(&mut self) -> u8 {
        let reset = self.wires.control & SRST != 0;
        let unit = self.selected();
        if !unit.is_present() {
            0
        } else if reset || unit.is_busy() {
            BSY | DRDY | DSC
        } else {
            unit.chip.task.status
        }
    }

    /// The guest writes a command block register.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == 0 {
            self.write_data(data);
        } else {
            for (offset, &byte) in (offset..).zip(data) {
                self.write_register(offset, byte);
            }
        }
        self.drive();
    }

    fn write_data(&mut self, data: &[u8]) {
        for part in data.chunks(2) {
            let mut word = [0; 2];
            word[..part.len()].copy_from_slice(part);
            self.selected().write_data(&word);
        }
    }

    fn write_register(&mut self, offset: u64, value: u8) {
        self.wires.control &= !HOB;
        if offset == STATUS {
            return self.command(value);
        }
        // A drive that moves data hears commands alone.
        if self.selected().is_occupied() {
            return;
        }
        for unit in &mut self.units {
            unit.chip.task.write(offset, value);
        }
        if offset == 6 {
            self.wires.slave = value & DEV_SLAVE != 0;
        }
    }

    fn command(&mut self, command: u8) {
        if self.wires.control & SRST != 0 {
            return;
        }
        if command == EXECUTE_DIAGNOSTIC {
            return self.diagnose();
        }
        let unit = self.selected();
        if command == DEVICE_RESET && unit.kind() == Kind::CdRom {
            let slave = unit.chip.task.device & DEV_SLAVE;
            unit.restart();
            unit.chip.task.device |= slave;
        } else if unit.is_present() {
            // ATA/ATAPI-6, 5.2.9 "INTRQ": a write of the register takes it back, whatever comes of it.
            unit.chip.interrupt = false;
            if !unit.is_occupied() {
                unit.command(command);
            }
        }
    }

    /// Both drives test themselves; the master tells.
    fn diagnose(&mut self) {
        if self.units.iter().any(Unit::is_occupied) {
            return;
        }
        self.units.iter_mut().for_each(Unit::restart);
        self.wires.slave = false;
        self.units[0].tell_diagnosed();
    }

    /// The guest writes device control.
    pub fn write_control(&mut self, value: u8) {
        let before = self.wires.control;
        self.wires.control = value & (NIEN | SRST | HOB);
        if (before ^ value) & SRST != 0 {
            self.units.iter_mut().for_each(Unit::restart);
            self.wires.slave = false;
        }
        self.drive();
    }

    /// The guest reads a bus master register; `None` floats.
    pub fn read_dma(&self, offset: u64) -> Option<u8> {
        self.wires.dma.read(offset)
    }

    /// The guest writes a bus master register.
    pub fn write_dma(&mut self, offset: u64, value: u8) {
        self.wires.dma.write(offset, value);
    }

    /// Moves data if the bus master is started and the drive waits for it.
    pub fn pump(&mut self) {
        let waits = self.selected().chip.phase == Phase::Dma;
        if !waits || !self.wires.dma.is_active() {
            return;
        }
        let memory = self.memory.clone();
        let mut table = self.wires.dma.table(&memory);
        let moved = self.selected().run_dma(&mut table);
        match moved {
            Moved::All => self.wires.used_up = table.is_used_up(),
            Moved::Short => self.wires.dma.finish(),
        }
    }

    /// Guest time passes; returns the next deadline.
    pub fn poll(&mut self, now: Duration) -> Option<Duration> {
        let mut ended = false;
        for unit in &mut self.units {
            ended |= unit.poll(now);
        }
        if ended && std::mem::take(&mut self.wires.used_up) {
            self.wires.dma.finish();
        }
        self.drive();
        self.units.iter().filter_map(Unit::deadline).min()
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.units.iter_mut().for_each(Unit::reset);
        self.wires = Wires::default();
        self.line.set_level(false);
    }

    fn drive(&mut self) {
        let enabled = self.wires.control & NIEN == 0;
        let level = self.selected().chip.interrupt && enabled;
        if level && !self.wires.level {
            self.wires.dma.interrupt();
        }
        self.wires.level = level;
        self.line.set_level(level);
    }

    /// What to save.
    pub fn save(&self) -> Saved {
        Saved {
            wires: self.wires.clone(),
            units: [self.units[0].save(), self.units[1].save()],
        }
    }

    /// Whether a saved state can be this channel's.
    ///
    /// # Errors
    /// If it has other drives, or is impossible.
    pub fn check(&self, saved: &Saved) -> Result<(), RestoreError> {
        let mut pairs = self.units.iter().zip(&saved.units);
        pairs.try_for_each(|(unit, chip)| unit.check(chip))
    }

    /// Takes over what [`Channel::check`] allowed.
    pub fn restore(&mut self, saved: Saved) {
        self.wires = saved.wires;
        for (unit, chip) in self.units.iter_mut().zip(saved.units) {
            unit.restore(chip);
        }
        self.line.restore_level(self.wires.level);
    }
}
