//! The controller as drivers see it: through ports and guest memory.

mod ata;
mod atapi;
mod random;

use super::*;
use crate::Request;
use crate::backend::disk::Disk;
use crate::backend::drive::Drive;
use crate::board::Parts;
use crate::memory_map::{Blocks, BusMaster, MemoryMap, Shape, SharedShape};
use crate::pci::intx::PirqRouter;
use crate::testbench::{Bench, inb, outb};
use crate::{IrqLine, Requests};
use std::sync::Arc;

const RAM: u64 = 4 << 20;
const TABLE: u32 = 0x1000;

/// Twice the time a drive is busy.
const LONG: u64 = 40_000;

struct Rig {
    bench: Bench,
    now: u64,
    memory: BusMaster,
    device: Box<dyn Function>,
    host: Requests,
}

/// A disk whose sectors are filled with their numbers.
fn numbered(sectors: usize) -> Vec<u8> {
    (0..sectors).flat_map(|n| [n as u8; 512]).collect()
}

fn hard_disk(sectors: usize) -> Option<Drive> {
    Some(Drive::hard_disk(Disk::memory(numbered(sectors))))
}

impl Rig {
    fn new(ide: [Option<Drive>; 4]) -> Self {
        let mut bench = Bench::new();
        let blocks = Blocks::new(RAM, &[0; 0x1_0000]).unwrap();
        let map = MemoryMap::new(&blocks, &Shape::default(), Vec::new());
        bench.wiring.memory.set_map(Arc::new(map));
        let parts = Parts {
            ide,
            ..Parts::default()
        };
        bench.wiring.parts = Arc::new(parts);
        let host = Requests::default();
        let place = Place {
            wiring: &bench.wiring,
            requests: &host,
            shape: &SharedShape::default(),
            router: &PirqRouter::new(|_| IrqLine::unconnected()),
            slot: 1,
            function: 1,
        };
        let mut device = new(&place);
        device.write_config(0x04, &[5, 0]);
        device.write_config(0x20, &[0x41, 0xC0, 0, 0]);
        Self {
            memory: bench.wiring.memory.clone(),
            now: 0,
            bench,
            device,
            host,
        }
    }

    fn master(drive: Option<Drive>) -> Self {
        Self::new([drive, None, None, None])
    }

    fn poll(&mut self) -> Option<Duration> {
        self.bench.poll_at(self.device.as_mut(), self.now)
    }

    /// Time enough for a drive to come to rest.
    fn wait(&mut self) {
        self.poll();
        self.now += LONG;
        assert_eq!(self.poll(), None, "the drive comes to rest");
    }

    fn inb(&mut self, register: u64) -> u8 {
        inb(self.device.as_mut(), PRIMARY, register)
    }

    fn outb(&mut self, register: u64, byte: u8) {
        outb(self.device.as_mut(), PRIMARY, register, byte);
    }

    fn control(&mut self, byte: u8) {
        outb(self.device.as_mut(), PRIMARY_CONTROL, 0, byte);
    }

    fn alternate(&mut self) -> u8 {
        inb(self.device.as_mut(), PRIMARY_CONTROL, 0)
    }

    /// Writes registers 1 to 6, then a command.
    fn command(&mut self, registers: [u8; 6], command: u8) {
        for (register, byte) in (1..).zip(registers) {
            self.outb(register, byte);
        }
        self.outb(7, command);
    }

    /// A 48-bit command.
    fn command48(&mut self, lba: u64, count: u16, command: u8) {
        let [a, b, c, d, e, f, ..] = lba.to_le_bytes();
        let [low, high] = count.to_le_bytes();
        for (register, byte) in [
            (2, high),
            (3, d),
            (4, e),
            (5, f),
            (2, low),
            (3, a),
            (4, b),
            (5, c),
        ] {
            self.outb(register, byte);
        }
        self.outb(6, 0x40);
        self.outb(7, command);
    }

    fn irq(&self) -> bool {
        self.bench.probe.level(0)
    }

    /// Reads `len` bytes as words.
    fn data(&mut self, len: usize) -> Vec<u8> {
        let mut all = vec![0; len];
        let at = At {
            region: PRIMARY,
            offset: 0,
        };
        for word in all.chunks_mut(2) {
            self.device.read(at, word);
        }
        all
    }

    fn write_data(&mut self, data: &[u8]) {
        let at = At {
            region: PRIMARY,
            offset: 0,
        };
        for word in data.chunks(4) {
            self.device.write(at, word);
        }
    }

    /// Puts a table of regions and starts the bus master.
    fn start_dma(&mut self, regions: &[(u32, u16)], to_memory: bool) {
        for (n, (address, len)) in regions.iter().enumerate() {
            let last = if n + 1 == regions.len() { 0x80 } else { 0 };
            let [a, b] = len.to_le_bytes();
            let descriptor = [&address.to_le_bytes()[..], &[a, b, 0, last]].concat();
            self.memory
                .write(u64::from(TABLE) + 8 * n as u64, &descriptor);
        }
        self.outl_master(4, TABLE);
        outb(self.device.as_mut(), BUS_MASTER, 2, 6);
        let direction = if to_memory { 8 } else { 0 };
        outb(self.device.as_mut(), BUS_MASTER, 0, direction);
        outb(self.device.as_mut(), BUS_MASTER, 0, direction | 1);
    }

    fn outl_master(&mut self, offset: u64, value: u32) {
        let at = At {
            region: BUS_MASTER,
            offset,
        };
        self.device.write(at, &value.to_le_bytes());
    }

    fn master_status(&mut self) -> u8 {
        inb(self.device.as_mut(), BUS_MASTER, 2)
    }

    fn memory_at(&self, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.memory.read(address, &mut data);
        data
    }

    /// The same drives' controller after a save and a restore.
    fn through_a_save(&mut self) {
        let saved = self.device.save();
        self.device.reset();
        self.device.restore(&saved).unwrap();
        assert_eq!(self.device.save(), saved);
    }
}

#[test]
fn configuration_space_is_the_references() {
    let mut rig = Rig::master(None);
    rig.device.reset();
    let mut dword = |register| {
        let mut data = [0; 4];
        rig.device.read_config(register, &mut data);
        u32::from_le_bytes(data)
    };
    let words = [
        0x00, 0x04, 0x08, 0x0C, 0x10, 0x20, 0x2C, 0x34, 0x3C, 0x40, 0x44, 0xFC,
    ]
    .map(&mut dword);
    let reference = [
        0x7010_8086,
        0x0280_0000,
        0x0101_8000,
        0,
        0,
        1,
        0x1100_1AF4,
        0,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(words, reference);
    rig.device.write_config(0x20, &[0xFF; 4]);
    rig.device.write_config(0x40, &[0xFF; 4]);
    let mut data = [0; 4];
    rig.device.read_config(0x20, &mut data);
    assert_eq!(u32::from_le_bytes(data), 0xFFFF_FFF1);
    rig.device.write_config(0x20, &[0x41, 0xC0, 0, 0]);
    rig.device.write_config(0x04, &[1]);
    assert_eq!(rig.device.windows().len(), 1);
    assert!(rig.host.take().contains(&Request::MapChanged));
}

#[test]
fn the_bus_masters_registers_are_the_references() {
    let mut rig = Rig::master(None);
    let mut all = [0; 16];
    for (n, byte) in all.iter_mut().enumerate() {
        *byte = inb(rig.device.as_mut(), BUS_MASTER, n as u64);
    }
    let half = [0, 0xFF, 0, 0xFF, 0, 0, 0, 0];
    assert_eq!(all, [half, half].concat()[..]);
    rig.outl_master(4, u32::MAX);
    let address = [4, 5, 6, 7].map(|n| inb(rig.device.as_mut(), BUS_MASTER, n));
    assert_eq!(address, [0xFC, 0xFF, 0xFF, 0xFF]);
    for register in [0, 2] {
        outb(rig.device.as_mut(), BUS_MASTER, register, 0xFF);
    }
    let values = [0, 2].map(|n| inb(rig.device.as_mut(), BUS_MASTER, n));
    assert_eq!(values, [0x09, 0x61]);
}

#[test]
fn a_channel_without_drives_reads_zero() {
    let mut rig = Rig::master(None);
    for device in [0xA0, 0xB0] {
        rig.outb(6, device);
        rig.outb(7, 0xEC);
        let registers = [0, 1, 2, 3, 4, 5, 6, 7].map(|register| rig.inb(register));
        assert_eq!((registers, rig.alternate()), ([0; 8], 0));
    }
    assert_eq!(rig.poll(), None);
}

#[test]
fn an_absent_slave_has_status_zero() {
    let mut rig = Rig::master(hard_disk(4));
    let master = [1, 2, 3, 4, 5, 6, 7].map(|register| rig.inb(register));
    assert_eq!(master, [1, 1, 1, 0, 0, 0xA0, 0x50]);
    rig.outb(6, 0xB0);
    let slave = [2, 3, 4, 5, 6, 7].map(|register| rig.inb(register));
    assert_eq!(slave, [1, 1, 0xFF, 0xFF, 0xB0, 0]);
    rig.outb(7, 0xEC);
    assert_eq!((rig.poll(), rig.irq()), (None, false));
}

#[test]
fn a_soft_reset_shows_signatures() {
    let mut rig = Rig::new([hard_disk(4), Some(Drive::cd_rom(None)), None, None]);
    rig.outb(6, 0xB0);
    rig.control(4);
    assert_eq!(rig.alternate() & 0x80, 0x80, "busy");
    rig.control(0);
    let master = [1, 2, 3, 4, 5, 6, 7].map(|register| rig.inb(register));
    assert_eq!(master, [1, 1, 1, 0, 0, 0xA0, 0x50]);
    rig.outb(6, 0xB0);
    let slave = [1, 2, 3, 4, 5, 6, 7].map(|register| rig.inb(register));
    assert_eq!(slave, [1, 1, 1, 0x14, 0xEB, 0xB0, 0]);
}

#[test]
fn a_reset_ends_a_transfer() {
    let mut rig = Rig::master(hard_disk(4));
    rig.command([0, 1, 0, 0, 0, 0xE0], 0x20);
    rig.wait();
    assert!(rig.irq());
    rig.control(4);
    rig.control(0);
    assert_eq!((rig.inb(7), rig.irq()), (0x50, false));
    assert_eq!(rig.data(2), [0, 0]);
}

#[test]
fn the_diagnostic_answers_for_both() {
    let mut rig = Rig::new([hard_disk(4), Some(Drive::cd_rom(None)), None, None]);
    rig.outb(6, 0xB0);
    rig.outb(7, 0x90);
    rig.wait();
    assert_eq!(
        (rig.irq(), rig.inb(6), rig.inb(1), rig.inb(7)),
        (true, 0xA0, 1, 0x50)
    );
}
