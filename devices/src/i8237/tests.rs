//! Registers through the ports, transfers through the wires of a device.

use super::*;
use crate::memory_map::{Blocks, MemoryMap, Shape};
use crate::testbench::{Bench, inb, outb};
use proptest::prelude::*;

struct Rig {
    dma: Dma,
    memory: BusMaster,
    device: Box<dyn Device>,
}

impl Rig {
    /// With channel 4 open, as firmware leaves it.
    fn new() -> Self {
        let bench = Bench::new();
        let blocks = Blocks::new(16 << 20, &[0; 0x1_0000]).unwrap();
        let map = MemoryMap::new(&blocks, &Shape::default(), Vec::new());
        bench.wiring.memory.set_map(Arc::new(map));
        let mut rig = Self {
            dma: bench.wiring.dma.clone(),
            memory: bench.wiring.memory.clone(),
            device: new(&bench.wiring),
        };
        rig.out(0xD6, 0xC0);
        rig.out(0xD4, 0x00);
        rig
    }

    fn at(port: u8) -> (u8, u64) {
        let (region, first) = match port {
            0x00..=0x0F => (0, 0x00),
            0xC0..=0xDF => (1, 0xC0),
            0x81..=0x83 => (2, 0x81),
            0x87 => (3, 0x87),
            0x89..=0x8B => (4, 0x89),
            0x8F => (5, 0x8F),
            _ => panic!("{port:#x} is nobody's"),
        };
        (region, u64::from(port - first))
    }

    fn out(&mut self, port: u8, byte: u8) {
        let (region, offset) = Self::at(port);
        outb(&mut *self.device, region, offset, byte);
    }

    fn read(&mut self, port: u8) -> u8 {
        let (region, offset) = Self::at(port);
        inb(&mut *self.device, region, offset)
    }

    fn word(&mut self, port: u8) -> u16 {
        u16::from_le_bytes([self.read(port), self.read(port)])
    }

    fn set_word(&mut self, port: u8, word: u16) {
        for byte in word.to_le_bytes() {
            self.out(port, byte);
        }
    }

    /// Channel 2 as a floppy driver sets it up, unmasked.
    fn set_up(&mut self, mode: u8, page: u8, address: u16, count: u16) {
        self.out(0x0A, 0x06);
        self.out(0x0C, 0);
        self.out(0x0B, mode | 2);
        self.set_word(0x04, address);
        self.set_word(0x05, count);
        self.out(0x81, page);
        self.out(0x0A, 0x02);
    }

    fn memory(&self, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.memory.read(at, &mut data);
        data
    }

    fn to_memory(&self, channel: u8, data: &[u8]) -> (usize, bool) {
        let moved = self.dma.channel(channel).to_memory(&self.memory, data);
        (moved.bytes, moved.terminal_count)
    }
}

/// As the stock machine answers the same accesses (taken from it by qtest).
#[test]
fn registers_answer_as_the_references() {
    let mut rig = Rig::new();
    rig.device.reset();
    let reset: Vec<u8> = (0..16).map(|port| rig.read(port)).collect();
    assert_eq!(reset, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0, 0]);
    for port in [0x81, 0x82, 0x83, 0x87, 0x89, 0x8A, 0x8B, 0x8F] {
        rig.out(port, port);
        assert_eq!(rig.read(port), port);
    }
    rig.out(0x0C, 0);
    rig.set_word(0x04, 0x1234);
    rig.set_word(0x05, 0x5678);
    assert_eq!((rig.word(0x04), rig.word(0x05)), (0x1234, 0x5678));
    rig.out(0xD8, 0);
    rig.set_word(0xC4, 0x1234);
    rig.set_word(0xC6, 0x5678);
    assert_eq!((rig.word(0xC4), rig.word(0xC6)), (0x1234, 0x5678));
    assert_eq!(rig.word(0xC5), 0x1234, "both ports are one register");
    rig.out(0x09, 0x05);
    assert_eq!(
        (rig.read(0x08), rig.read(0x08), rig.read(0x09)),
        (0x20, 0x20, 0xFF)
    );
    rig.out(0x0F, 0);
    assert_eq!((rig.read(0x09), rig.read(0x0F)), (0, 0));
    rig.out(0x0A, 0x06);
    assert_eq!(rig.read(0x09), 4);
    rig.out(0x0E, 0);
    assert_eq!(rig.read(0x09), 0);
    rig.out(0x0D, 0);
    assert_eq!((rig.read(0x08), rig.read(0x09)), (0, 0xFF));
}

#[test]
fn a_sector_goes_to_memory() {
    let mut rig = Rig::new();
    rig.set_up(0x44, 0x12, 0x3000, 511);
    let sector: Vec<u8> = (0..=255).cycle().take(512).collect();
    assert_eq!(rig.to_memory(2, &sector[..300]), (300, false));
    assert_eq!(rig.word(0x04), 0x3000 + 300);
    assert_eq!(rig.word(0x05), 211);
    assert_eq!(rig.to_memory(2, &sector[300..]), (212, true));
    assert_eq!(rig.memory(0x12_3000, 512), sector);
    assert_eq!((rig.read(0x08), rig.read(0x08)), (4, 0), "told once");
    assert_eq!(rig.word(0x05), 0xFFFF);
    assert_eq!(rig.to_memory(2, &sector), (0, false), "masked at the end");
}

#[test]
fn memory_goes_to_a_device() {
    let mut rig = Rig::new();
    rig.memory.write(0x20_0000, b"from memory");
    rig.set_up(0x48, 0x20, 0, 10);
    let mut data = [0; 16];
    let moved = rig.dma.channel(2).from_memory(&rig.memory, &mut data);
    assert_eq!((moved.bytes, moved.terminal_count), (11, true));
    assert_eq!(&data[..12], b"from memory\0");
}

#[test]
fn the_address_wraps_in_its_page() {
    let mut rig = Rig::new();
    rig.set_up(0x44, 0x10, 0xFFFE, 3);
    assert_eq!(rig.to_memory(2, &[1, 2, 3, 4]), (4, true));
    assert_eq!(rig.memory(0x10_FFFE, 2), [1, 2]);
    assert_eq!(rig.memory(0x10_0000, 2), [3, 4]);
}

#[test]
fn down_and_again() {
    let mut rig = Rig::new();
    rig.set_up(0x74, 0x10, 0x0003, 2);
    assert_eq!(rig.to_memory(2, &[1, 2, 3, 4]), (3, true));
    assert_eq!(rig.memory(0x10_0000, 4), [0, 3, 2, 1]);
    assert_eq!((rig.word(0x04), rig.word(0x05)), (3, 2), "autoinit");
    assert_eq!(rig.to_memory(2, &[9]), (1, false));
    assert_eq!(rig.memory(0x10_0003, 1), [9]);
}

#[test]
fn words_on_the_second_controller() {
    let mut rig = Rig::new();
    rig.out(0xD8, 0);
    rig.out(0xD6, 0x45);
    rig.set_word(0xC4, 0x1000);
    rig.set_word(0xC6, 1);
    rig.out(0x8B, 0x31);
    rig.out(0xD4, 0x01);
    assert_eq!(rig.to_memory(5, &[1, 2, 3]), (2, false), "whole words");
    assert_eq!(rig.to_memory(5, &[3, 4, 5, 6]), (2, true));
    assert_eq!(rig.memory(0x30_2000, 6), [1, 2, 3, 4, 0, 0]);
}

#[test]
fn what_keeps_a_channel_shut() {
    let shut: [(&str, u8, u8); 5] = [
        ("masked", 0x0A, 0x06),
        ("disabled", 0x08, 0x04),
        ("the other direction", 0x0B, 0x4A),
        ("cascade", 0x0B, 0xC6),
        ("nothing passes to the second controller", 0xD4, 0x04),
    ];
    for (why, port, byte) in shut {
        let mut rig = Rig::new();
        rig.set_up(0x44, 0x10, 0, 3);
        rig.out(port, byte);
        assert_eq!(rig.to_memory(2, &[1; 4]), (0, false), "{why}");
    }
    let mut rig = Rig::new();
    rig.set_up(0x40, 0x10, 0, 3);
    assert_eq!(rig.to_memory(2, &[1; 4]), (4, true), "verify");
    assert_eq!(rig.memory(0x10_0000, 4), [0; 4]);
    assert_eq!(rig.to_memory(4, &[1; 4]), (0, false), "the cascade");
}

proptest! {
    #[test]
    fn any_set_up_moves_no_more_than_its_count(
        writes: Vec<(bool, u8, u8)>, channel in 0u8..8, len in 0usize..0x3_0000,
    ) {
        let mut rig = Rig::new();
        for (second, port, byte) in writes {
            rig.out(if second { 0xC0 | port & 0x1F } else { port & 0x0F }, byte);
        }
        let [_, count] = rig.dma.lock().registers(channel.into()).current;
        let (bytes, over) = rig.to_memory(channel, &vec![0xA5; len]);
        let width = if channel < 4 { 1 } else { 2 };
        let most = (usize::from(count) + 1) * width;
        prop_assert!(bytes <= most && bytes <= len);
        prop_assert_eq!(over, bytes == most);
    }
}
