use super::*;
use crate::arch::exception::{Exception, GP};
use crate::arch::segment::Seg;
use crate::test_bench::Bench;
use std::sync::atomic::Ordering;

fn get(bench: &mut Bench, number: u32) -> Option<u64> {
    let result = bench.cpu.read_msr(number);
    refused(bench.outcome(result))
}

fn set(bench: &mut Bench, number: u32, value: u64) -> bool {
    let result = bench.cpu.write_msr(number, value);
    refused(bench.outcome(result)).is_some()
}

/// The only fault an MSR has is #GP(0).
fn refused<T>(result: Result<T, Exception>) -> Option<T> {
    result
        .inspect_err(|&e| assert_eq!(e, Exception::with_code(GP, 0)))
        .ok()
}

#[test]
fn addresses_must_be_canonical() {
    let mut bench = Bench::long();
    for number in [
        0xC000_0082,
        0xC000_0083,
        0xC000_0100,
        0xC000_0101,
        0xC000_0102,
    ] {
        assert!(!set(&mut bench, number, 1 << 47), "{number:#x}");
        assert!(
            set(&mut bench, number, 0xFFFF_8000_0000_1000),
            "{number:#x}"
        );
        assert_eq!(get(&mut bench, number), Some(0xFFFF_8000_0000_1000));
    }
    assert_eq!(bench.cpu.base(Seg::Gs as usize), 0xFFFF_8000_0000_1000);
}

/// A campaign's case: WRMSR of 98DC3348_00000000h to IA32_SYSENTER_EIP was #GP.
#[test]
fn sysenters_registers_have_32_bits() {
    let mut bench = Bench::long();
    for number in [0x174, 0x175, 0x176] {
        assert!(
            set(&mut bench, number, 0x98DC_3348_0000_1E00),
            "{number:#x}"
        );
        assert_eq!(get(&mut bench, number), Some(0x1E00), "{number:#x}");
    }
}

#[test]
fn memory_types() {
    let mut bench = Bench::long();
    assert!(set(&mut bench, 0x277, 0x0706_0504_0100_0100));
    for bad in [2, 3, 8, 0xFF] {
        assert!(!set(&mut bench, 0x277, bad << 24), "PAT {bad}");
        assert!(!set(&mut bench, 0x250, bad << 56), "fixed {bad}");
        assert!(!set(&mut bench, 0x200, bad), "variable {bad}");
        assert!(!set(&mut bench, 0x2FF, bad), "default {bad}");
    }
    assert!(!set(&mut bench, 0x258, 7), "UC- is for PAT only");
    assert!(set(&mut bench, 0x2FF, 0xC06));
    assert!(!set(&mut bench, 0x2FF, 0x1006));
    assert!(set(&mut bench, 0x20F, 0xFF_F000_0800));
    assert!(!set(&mut bench, 0x20F, 1 << 40));
    assert_eq!(get(&mut bench, 0xFE), Some(0x508));
    assert!(!set(&mut bench, 0xFE, 0x508));
    for (at, number) in (0..).zip([0x250, 0x258, 0x259, 0x268, 0x26F]) {
        assert!(set(&mut bench, number, at), "{number:#x}");
        assert_eq!(get(&mut bench, number), Some(at));
        if at == 1 {
            break;
        }
    }
    assert_eq!(get(&mut bench, 0x210), None);
    assert_eq!(get(&mut bench, 0x270), None);
}

#[test]
fn efer() {
    let mut bench = Bench::long();
    let active = (Efer::LME | Efer::LMA).bits();
    assert_eq!(get(&mut bench, 0xC000_0080), Some(active));
    assert!(set(&mut bench, 0xC000_0080, Efer::LME.bits() | 0x801));
    assert_eq!(
        get(&mut bench, 0xC000_0080),
        Some(active | 0x801),
        "LMA stays"
    );
    assert!(!set(&mut bench, 0xC000_0080, 0), "LME while paging");
    for bit in [1, 9, 12, 13, 14, 15, 63] {
        assert!(
            !set(&mut bench, 0xC000_0080, active | 1 << bit),
            "bit {bit}"
        );
    }
}

#[test]
fn the_time_stamp_is_an_offset_to_the_boards() {
    let mut bench = Bench::long();
    bench.board.tsc.store(1000, Ordering::Relaxed);
    assert!(set(&mut bench, 0x10, 5));
    bench.board.tsc.store(1010, Ordering::Relaxed);
    assert_eq!(get(&mut bench, 0x10), Some(15));
}

#[test]
fn apic_registers_are_the_boards() {
    let mut bench = Bench::long();
    assert!(set(&mut bench, 0x1B, 0xFEE0_0900));
    assert_eq!(get(&mut bench, 0x1B), Some(0xFEE0_0900));
    assert_eq!(get(&mut bench, 0x808), None);
}

#[test]
fn what_firmware_and_kernels_look_at() {
    let mut bench = Bench::new("qemu64");
    for (number, value) in [
        (0x17, 0),
        (0x8B, 0x0100_0065),
        (0x179, 0x0100_010A),
        (0x400, u64::MAX),
        (0x401, 0),
        (0x427, 0),
        (0xC001_0015, 0),
        (0xC001_001F, 0),
        (0xC001_0055, 0),
        (0xC001_1029, 2),
    ] {
        assert_eq!(get(&mut bench, number), Some(value), "{number:#x}");
    }
    assert!(
        set(&mut bench, 0x410, !(1 << 10)),
        "Linux and the GART errors"
    );
    assert!(!set(&mut bench, 0x411, 1));
    for number in [
        0x3A,
        0x428,
        0x480,
        0x4000_0000,
        0xC000_0103,
        0xC000_0104,
        u32::MAX,
    ] {
        assert_eq!(get(&mut bench, number), None, "{number:#x}");
        assert!(!set(&mut bench, number, 0), "{number:#x}");
    }
}
