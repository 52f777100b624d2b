//! The device as a guest drives it; what is expected is what the reference machine did.

use std::sync::Arc;

use super::*;
use crate::memory_map::{Blocks, MemoryMap, Shape};
use crate::testbench::{Bench, inb};
use proptest::prelude::*;

const RAM: u64 = 2 << 20;
/// Where tests put a command.
const COMMAND: u64 = 0x1000;
/// Where tests put data.
const TARGET: u64 = 0x8000;
const FILE: u16 = FILE_FIRST;

/// A guest: the device, and its memory.
struct Guest {
    device: Box<dyn Device>,
    memory: BusMaster,
}

fn guest() -> Guest {
    let blocks = Blocks::new(RAM, &[0xB1; 0x1_0000]).expect("legal sizes");
    let memory = BusMaster::default();
    memory.set_map(Arc::new(MemoryMap::new(
        &blocks,
        &Shape::default(),
        Vec::new(),
    )));
    let mut contents = Contents::default();
    contents.set_bytes(key::SIGNATURE, b"QEMU");
    contents.set_bytes(key::ID, &[3, 0, 0, 0]);
    contents.set_bytes(key::IRQ0_OVERRIDE, &[1]);
    let large: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    contents.set(key::INITRD_DATA, large).expect("a size");
    contents
        .add_file("a", Item::writable(*b"guest"))
        .expect("a name");
    let device = Box::new(FwCfg::new(&contents, memory.clone()));
    Guest { device, memory }
}

impl Guest {
    fn select(&mut self, key: u16) {
        self.write(0, 0, &key.to_le_bytes());
    }

    fn write(&mut self, region: u8, offset: u64, data: &[u8]) {
        self.device.write(At { region, offset }, data);
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| inb(&mut *self.device, 0, 1)).collect()
    }

    /// Runs a command; returns what its control field holds then.
    fn run(&mut self, control: u32, length: u32, address: u64) -> u32 {
        let mut command = control.to_be_bytes().to_vec();
        command.extend(length.to_be_bytes());
        command.extend(address.to_be_bytes());
        self.memory.write(COMMAND, &command);
        self.write(1, 0, &0u32.to_be_bytes());
        self.write(1, 4, &(COMMAND as u32).to_be_bytes());
        let mut status = [0; 4];
        self.memory.read(COMMAND, &mut status);
        u32::from_be_bytes(status)
    }

    fn at(&self, address: u64, count: usize) -> Vec<u8> {
        let mut data = vec![0; count];
        self.memory.read(address, &mut data);
        data
    }
}

fn selecting(key: u16, bits: u32) -> u32 {
    u32::from(key) << 16 | control::SELECT | bits
}

#[test]
fn the_device_is_found_by_its_signatures() {
    let mut guest = guest();
    guest.select(key::SIGNATURE);
    assert_eq!(guest.bytes(6), b"QEMU\0\0");
    guest.select(key::ID);
    assert_eq!(guest.bytes(4), [3, 0, 0, 0]);
    let mut dword = [0; 4];
    guest.device.read(
        At {
            region: 1,
            offset: 4,
        },
        &mut dword,
    );
    assert_eq!(&dword, b" CFG");
    assert_eq!(inb(&mut *guest.device, 1, 0), b'Q');
}

#[test]
fn a_reset_selects_the_signature() {
    let mut guest = guest();
    assert_eq!(guest.bytes(4), b"QEMU");
    guest.select(key::ID);
    guest.device.reset();
    assert_eq!(guest.bytes(4), b"QEMU");
}

#[test]
fn only_a_word_selects_and_only_bytes_are_read() {
    let mut guest = guest();
    guest.write(0, 1, &[3]);
    guest.write(0, 0, &[3]);
    let mut word = [0xFF; 2];
    guest.device.read(
        At {
            region: 0,
            offset: 0,
        },
        &mut word,
    );
    assert_eq!(word, [0, 0]);
    // The byte at the selector's port is data too.
    assert_eq!(inb(&mut *guest.device, 0, 0), b'Q');
    assert_eq!(guest.bytes(3), b"EMU");
}

#[test]
fn what_is_not_there_is_zero() {
    let mut guest = guest();
    for key in [0x99, 0x3FFF, 0x8000, 0xFFFF] {
        guest.select(key);
        assert_eq!(guest.bytes(3), [0; 3]);
        assert_eq!(guest.run(selecting(key, control::READ), 4, TARGET), 0);
        assert_eq!(guest.at(TARGET, 4), [0; 4]);
    }
    // The bit of old is not part of a key.
    guest.select(key::ID | WRITE_CHANNEL);
    assert_eq!(guest.bytes(1), [3]);
    guest.select(key::IRQ0_OVERRIDE);
    assert_eq!(guest.bytes(2), [1, 0]);
}

#[test]
fn a_command_reads_across_chunks_and_fills_with_zeros() {
    let mut guest = guest();
    guest.memory.write(TARGET, &[0xEE; 200_010]);
    let control = selecting(key::INITRD_DATA, control::READ);
    assert_eq!(guest.run(control, 200_008, TARGET), 0);
    let data = guest.at(TARGET, 200_010);
    assert!(
        data[..200_000]
            .iter()
            .zip(0..)
            .all(|(byte, n)| *byte == (n % 251) as u8)
    );
    assert_eq!(data[200_000..], [0, 0, 0, 0, 0, 0, 0, 0, 0xEE, 0xEE]);
}

#[test]
fn operations_have_an_order() {
    let mut guest = guest();
    assert_eq!(guest.run(selecting(0, control::SKIP), 2, 0), 0);
    assert_eq!(guest.bytes(3), b"MU\0");
    assert_eq!(guest.run(selecting(0, control::SKIP), u32::MAX, 0), 0);
    assert_eq!(guest.bytes(1), [0]);
    let both = selecting(0, control::SKIP | control::READ);
    assert_eq!(guest.run(both, 2, TARGET), 0);
    assert_eq!(guest.at(TARGET, 2), b"QE");
    assert_eq!(guest.bytes(2), b"MU");
    // Without SELECT the upper half says nothing; no operation at all selects.
    assert_eq!(guest.run(selecting(0, 0), 4, 0), 0);
    assert_eq!(guest.run(0x99 << 16 | control::READ, 2, TARGET), 0);
    assert_eq!(guest.bytes(2), b"MU");
    assert_eq!(guest.run(0xFFFF_FFE0, u32::MAX, TARGET), 0);
}

#[test]
fn a_command_ends_where_ram_does() {
    let mut guest = guest();
    let read = selecting(key::ID, control::READ);
    // Nothing, ROM, the end of RAM, the end of addresses, the MSI window.
    for address in [0xF000_0000, 0xF_0000, RAM - 4, u64::MAX - 2, 0xFEE0_0000] {
        assert_eq!(guest.run(read, 8, address), control::ERROR, "{address:#x}");
    }
    assert_eq!(guest.run(read, 8, RAM - 8), 0);
    assert_eq!(guest.run(read, u32::MAX, 0x10_0000), control::ERROR);
    // A command that is not in RAM runs nothing.
    guest.select(key::SIGNATURE);
    guest.write(1, 0, &u32::MAX.to_be_bytes());
    guest.write(1, 4, &u32::MAX.to_be_bytes());
    assert_eq!(guest.bytes(4), b"QEMU");
}

#[test]
fn the_upper_half_of_an_address_counts_once() {
    let mut guest = guest();
    guest
        .memory
        .write(COMMAND, &selecting(key::ID, 0).to_be_bytes());
    guest.write(1, 0, &1u32.to_be_bytes());
    guest.write(1, 4, &(COMMAND as u32).to_be_bytes());
    assert_eq!(guest.bytes(2), b"QE", "at 1_0000_1000h is nothing");
    guest.write(1, 4, &(COMMAND as u32).to_be_bytes());
    assert_eq!(guest.bytes(2), [3, 0]);
}

#[test]
fn writable_files_are_written_by_commands_alone() {
    let mut guest = guest();
    guest.memory.write(TARGET, b"WRITE!");
    let write = |key| selecting(key, control::WRITE);
    assert_eq!(
        guest.run(write(key::ID), 2, TARGET),
        control::ERROR,
        "read-only"
    );
    assert_eq!(
        guest.run(write(FILE), 6, TARGET),
        control::ERROR,
        "too long"
    );
    assert_eq!(guest.run(write(FILE), 2, 0xF000_0000), control::ERROR);
    assert_eq!(guest.run(write(FILE), 2, TARGET), 0);
    assert_eq!(guest.run(control::WRITE, 1, TARGET + 4), 0, "goes on");
    guest.select(FILE);
    guest.write(0, 1, b"x");
    assert_eq!(guest.bytes(6), b"WREst\0");
    let saved = guest.device.save();
    guest.device.reset();
    guest.select(FILE);
    assert_eq!(guest.bytes(5), b"guest");
    guest.device.restore(&saved).expect("its own state");
    guest.select(FILE);
    assert_eq!(guest.bytes(5), b"WREst");
}

#[test]
fn states_of_other_items_are_refused() {
    let mut guest = guest();
    let saved = guest.device.save();
    let bench = Bench::new();
    let mut other = new(&bench.wiring);
    assert!(
        other.restore(&saved).is_err(),
        "another set of writable files"
    );
    let registers: Registers = saved.fields(VERSION).expect("the fields");
    let behind = Registers {
        offset: 5,
        ..registers
    };
    assert!(guest.device.restore(&State::of(VERSION, &behind)).is_err());
}

proptest! {
    /// Whatever a guest commands, the device answers and RAM outside the target is as before.
    #[test]
    fn any_command_returns(key: u16, bits in 0u32..32, length in prop_oneof![0u32..0x30_0000, any::<u32>()], address in prop_oneof![0..RAM + 64, any::<u64>()]) {
        let mut guest = guest();
        let status = guest.run(u32::from(key) << 16 | bits, length, address);
        // The target may lie over the command.
        let overlap = address < COMMAND + 16 && address.saturating_add(length.into()) > COMMAND;
        prop_assert!(overlap || status <= 1, "{status:#x}");
        prop_assert!(guest.device.restore(&guest.device.save()).is_ok());
    }
}
