//! Facts: QEMU 7.2 `-M pc -vga std`, read through its qtest protocol. Random accesses to all its ports and to
//! A0000h-BFFFFh gave there what they give here, but for the differences the files name.

use super::*;
use crate::board::build::Board;
use crate::board::{BoardOptions, Parts};
use crate::time::ManualTime;

const LFB: u64 = 0xFD00_0000;
const MMIO: u64 = 0xFEBF_0000;
const ROM: u64 = 0xFEBE_0000;

struct Bench {
    board: Board,
    time: Arc<ManualTime>,
}

fn board(vga: bool) -> Bench {
    let time = Arc::new(ManualTime::default());
    let parts = Parts {
        bios: vec![0xF4; 0x1_0000],
        vga_rom: Some(vec![0x55; 0x9C00]),
        ..Parts::default()
    };
    let options = BoardOptions {
        vga,
        ..BoardOptions::default()
    };
    let board = Board::new(options, parts, Clock::new(time.clone())).expect("a sound board");
    Bench { board, time }
}

/// A board whose BARs stand where SeaBIOS puts them, color ports chosen.
fn bench() -> Bench {
    let bench = board(true);
    for (register, value) in [(0x10, LFB), (0x18, MMIO), (0x30, ROM | 1), (0x04, 3)] {
        bench.config_write(register, value as u32);
    }
    bench.out(0x3C2, &[0x01]);
    bench
}

impl Bench {
    fn config_write(&self, register: u32, value: u32) {
        self.out(0xCF8, &(0x8000_1000 | register).to_le_bytes());
        self.out(0xCFC, &value.to_le_bytes());
    }

    fn config(&self, register: u32) -> u32 {
        self.out(0xCF8, &(0x8000_1000 | register).to_le_bytes());
        u32::from_le_bytes(self.input(0xCFC))
    }

    fn out(&self, port: u16, data: &[u8]) {
        self.board.port_write(port, data);
    }

    fn input<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut data = [0; N];
        self.board.port_read(port, &mut data);
        data
    }

    fn dispi(&self, index: u16, value: u16) {
        self.out(0x1CE, &index.to_le_bytes());
        self.out(0x1CF, &value.to_le_bytes());
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut data = [0; N];
        self.board.mmio_read(address, &mut data);
        data
    }
}

#[test]
fn configuration_space_is_the_references() {
    let bench = board(true);
    let expected = |register| match register {
        0x00 => 0x1111_1234,
        0x08 => 0x0300_0002,
        0x10 => 0x0000_0008,
        0x2C => 0x1100_1AF4,
        _ => 0,
    };
    for register in (0..256).step_by(4) {
        assert_eq!(bench.config(register), expected(register), "{register:#x}");
    }
    for (register, ones) in [
        (0x04, 0x0507),
        (0x0C, 0xFF),
        (0x10, 0xFF00_0008),
        (0x18, 0xFFFF_F000),
        (0x30, 0xFFFF_0001),
        (0x3C, 0xFF),
        (0x40, 0),
    ] {
        bench.config_write(register, u32::MAX);
        assert_eq!(bench.config(register), ones, "{register:#x}");
    }
}

#[test]
fn a_machine_may_have_none() {
    let bench = board(false);
    assert_eq!(bench.config(0), u32::MAX);
    assert_eq!(bench.input(0x3CC), [0xFF]);
    assert_eq!(bench.board.display(|d| d.text()), None);
}

#[test]
fn bars_are_memory_rom_and_registers() {
    let bench = bench();
    let map = bench.board.map();
    map.cpu().write(LFB + 0x10_0000, &[1, 2, 3, 4]);
    let mut data = [0; 4];
    map.cpu().read(ROM, &mut data);
    assert_eq!(data, [0x55; 4]);
    map.cpu().read(ROM + 0x9C00, &mut data);
    assert_eq!(data, [0; 4]);
    bench.dispi(4, 0xC1);
    bench.dispi(5, 0x10);
    assert_eq!(
        bench.read(0xA_0000),
        [1, 2, 3, 4],
        "the window shows bank 10h"
    );

    assert_eq!(bench.read::<8>(MMIO), [0, 255, 255, 255, 255, 255, 255, 0]);
    assert_eq!(bench.read(MMIO + 0x500), 0xB0C5u16.to_le_bytes());
    assert_eq!(bench.read(MMIO + 0x514), 0x100u16.to_le_bytes());
    assert_eq!(bench.read(MMIO + 0x518), [0xFF; 2]);
    assert_eq!(bench.read(MMIO + 0x600), [8, 0, 0, 0]);
    assert_eq!(bench.read(MMIO + 0x604), [0x1E; 4]);
    bench.board.mmio_write(MMIO + 0x604, &[0xBE; 4]);
    bench.board.mmio_write(MMIO + 0x604, &[0x01; 4]);
    assert_eq!(bench.read(MMIO + 0x604), [0xBE; 4]);
    bench.board.mmio_write(MMIO + 0x40E, &[0x08, 0x5A]);
    bench.out(0x3CE, &[8]);
    assert_eq!(bench.input(0x3CF), [0x5A]);
    bench.board.mmio_write(MMIO + 0x502, &[0x20, 0x03]);
    bench.out(0x1CE, &[1, 0]);
    assert_eq!(bench.input(0x1D0), [0x20, 0x03]);
}

#[test]
fn ports_follow_the_kind_of_adapter() {
    let bench = bench();
    bench.out(0x3D4, &[0x0C, 0x12]);
    assert_eq!((bench.input(0x3D5), bench.input(0x3B5)), ([0x12], [0xFF]));
    bench.out(0x3C2, &[0x00]);
    assert_eq!((bench.input(0x3D5), bench.input(0x3B5)), ([0xFF], [0x12]));
    bench.out(0x3D5, &[0x34]);
    assert_eq!(bench.input(0x3B5), [0x12]);
    // Ports without registers, and DISPI's as bytes.
    assert_eq!(bench.input(0x3B0), [0xFF; 4]);
    assert_eq!((bench.input(0x1CE), bench.input(0x1D0)), ([0xFF], [0xFF]));
}

#[test]
fn the_attribute_controller_tells_index_from_data() {
    let bench = bench();
    bench.input::<1>(0x3DA);
    for byte in [0x01, 0x2A, 0x02, 0x15, 0x21] {
        bench.out(0x3C0, &[byte]);
    }
    assert_eq!((bench.input(0x3C0), bench.input(0x3C1)), ([0], [0x2A]));
    bench.input::<1>(0x3DA);
    assert_eq!(bench.input(0x3C0), [0x21]);
    bench.out(0x3C0, &[0x02]);
    assert_eq!(bench.input(0x3C1), [0x15]);
}

#[test]
fn retrace_comes_with_guest_time() {
    let bench = bench();
    let mut seen = [0; 4];
    for _ in 0..20_000 {
        bench.time.advance(Duration::from_micros(1));
        let [status] = bench.input(0x3DA);
        assert_eq!(bench.input(0x3DA), [status], "time alone moves it");
        seen[usize::from(status >> 2 & 2 | status & 1)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0 && seen[2] == 0 && seen[3] > 0);
}

#[test]
fn a_mode_that_begins_clears_its_memory() {
    let bench = bench();
    let map = bench.board.map();
    let probe = |at| {
        let mut byte = [0];
        map.cpu().read(LFB + at, &mut byte);
        byte[0]
    };
    let last = 640 * 480 * 4 - 1;
    for at in [0, last, last + 1] {
        map.cpu().write(LFB + at, &[7]);
    }
    for (index, value) in [(1, 640), (2, 480), (3, 32), (4, 0xC1)] {
        bench.dispi(index, value);
    }
    assert_eq!(probe(0), 7);
    bench.dispi(4, 0);
    bench.dispi(4, 0x41);
    assert_eq!([0, last, last + 1].map(probe), [0, 0, 7]);
    let frame = bench.board.display(|d| d.frame()).unwrap();
    assert_eq!((frame.width, frame.height), (640, 480));
}

/// Mode 3 as far as characters go.
fn text_mode(bench: &Bench) {
    for (port, index, value) in [
        (0x3C4u16, 2, 3),
        (0x3C4, 4, 2),
        (0x3CE, 5, 0x10),
        (0x3CE, 6, 0x0E),
        (0x3D4, 0x01, 79),
        (0x3D4, 0x07, 0x12),
        (0x3D4, 0x09, 0x4F),
        (0x3D4, 0x0A, 13),
        (0x3D4, 0x0B, 14),
        (0x3D4, 0x12, 0x8F),
        (0x3D4, 0x13, 40),
    ] {
        bench.out(port, &[index, value]);
    }
}

#[test]
fn characters_are_dumped() {
    let bench = bench();
    text_mode(&bench);
    let line: Vec<u8> = b"Hello, \xB3\x01\x00!"
        .iter()
        .flat_map(|c| [*c, 7])
        .collect();
    bench.board.mmio_write(0xB_8000 + 160, &line);
    for (index, value) in [(0x0E, 0), (0x0F, 85)] {
        bench.out(0x3D4, &[index, value]);
    }
    let text = bench.board.display(|d| d.text()).unwrap().unwrap();
    assert_eq!((text.columns, text.rows.len()), (80, 25));
    assert_eq!(text.rows[1].trim_end(), "Hello, │☺ !");
    assert_eq!(text.cursor, Some((5, 1)));
    // The screen begins a row later.
    bench.out(0x3D4, &[0x0D, 80]);
    let text = bench.board.display(|d| d.text()).unwrap().unwrap();
    assert_eq!(text.rows[0].trim_end(), "Hello, │☺ !");
    assert_eq!(text.cursor, Some((5, 0)));
    bench.out(0x3D4, &[0x0A, 0x20]);
    let text = bench.board.display(|d| d.text()).unwrap().unwrap();
    assert_eq!(text.cursor, None);
    bench.dispi(4, 1);
    assert_eq!(bench.board.display(|d| d.text()), Some(None));
}

#[test]
fn a_saved_adapter_comes_back() {
    let bench = bench();
    text_mode(&bench);
    bench.board.mmio_write(0xB_8000, b"A\x07");
    bench.dispi(1, 800);
    let saved = bench.board.save();
    let other = bench_at_reset();
    other.board.restore(&saved).expect("its own state");
    assert_eq!(other.board.save(), saved);
    assert_eq!(other.read(MMIO + 0x600), [8, 0, 0, 0], "BARs are back");
    bench.board.reset();
    assert_eq!(bench.board.save(), bench_at_reset().board.save());
    // Memory is like RAM: not of the state, and a reset leaves it alone.
    bench.out(0x3C4, &[4, 2]);
    bench.out(0x3CE, &[5, 0x10]);
    assert_eq!(bench.read(0xA_0000), *b"A\x07");
    assert_eq!(other.read(0xB_8000), [0, 0]);
}

fn bench_at_reset() -> Bench {
    board(true)
}

#[test]
fn an_impossible_mode_is_refused() {
    let bench = Bench {
        board: board(true).board,
        time: Arc::default(),
    };
    for (index, value) in [(1, 640), (2, 480), (3, 8), (4, 1)] {
        bench.dispi(index, value);
    }
    let mut saved = bench.board.save();
    let own = saved.devices["vga"].clone();
    let mut fields: Saved = own.fields(VERSION).expect("its own state");
    fields.regs = {
        let mut regs = Registers::restored(fields.regs, MEMORY).expect("sound");
        regs.dispi = Dispi::new(2 * MEMORY);
        for (index, value) in [(1, 2048), (2, 4096), (3, 32), (4, 1)] {
            regs.dispi.set(index, value);
        }
        regs.save()
    };
    saved
        .devices
        .insert("vga".into(), State::of(VERSION, &fields));
    let before = bench.board.save();
    assert!(bench.board.restore(&saved).is_err());
    assert_eq!(bench.board.save().devices["vga"], before.devices["vga"]);
}
