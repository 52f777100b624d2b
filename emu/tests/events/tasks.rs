//! Hardware task switches.

use emu::arch::{Cr0, RFlags, Seg};

use crate::guest::{CODE0, DATA0, FREE, GDT, Guest, TSS, TSS_SELECTOR, descriptor, gate};

const OTHER: u64 = 0x14000;

/// A guest with a second 32-bit task, which begins at 2000h with ESP A000h.
fn two_tasks(code: &[u8]) -> Guest {
    let mut guest = Guest::protected(code).entry(FREE, descriptor(OTHER as u32, 0x67, 0x89, 0));
    let registers = [
        0x2000u32, 0x2, 0xA0A0, 0xC0C0, 0xD0D0, 0xB0B0, 0xA000, 0xBB, 0x51, 0xD1,
    ];
    for (n, value) in registers.iter().enumerate() {
        guest = guest.with(OTHER + 0x20 + 4 * n as u64, &value.to_le_bytes());
    }
    for (n, selector) in [DATA0, CODE0, DATA0, DATA0, DATA0, DATA0]
        .iter()
        .enumerate()
    {
        guest = guest.with(OTHER + 0x48 + 4 * n as u64, &selector.to_le_bytes());
    }
    guest
}

fn far(opcode: u8) -> [u8; 7] {
    let [low, high] = FREE.to_le_bytes();
    [opcode, 0, 0, 0, 0, low, high]
}

#[test]
fn call_nests_and_iret_returns() {
    let guest = two_tasks(&far(0x9A)).reg(3, 0x1234).with(0x2000, &[0xCF]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.state.gpr[4], inside.state.gpr[0]),
        (0x2000, 0xA000, 0xA0A0)
    );
    assert!(inside.flag(RFlags::NT));
    assert!(inside.state.cr0.contains(Cr0::TS));
    assert_eq!(inside.selector(Seg::Tr), FREE);
    assert_eq!(inside.u16(OTHER), TSS_SELECTOR, "the link");
    assert_eq!(
        (inside.u32(TSS + 0x20), inside.u32(TSS + 0x34)),
        (0x1007, 0x1234)
    );
    assert_eq!(inside.read(GDT + u64::from(FREE) + 5, 1), 0x8B);
    assert_eq!(inside.read(GDT + u64::from(TSS_SELECTOR) + 5, 1), 0x8B);
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.state.gpr[3], back.state.gpr[4]),
        (0x1007, 0x1234, 0x8000)
    );
    assert!(!back.flag(RFlags::NT));
    assert_eq!(back.selector(Seg::Tr), TSS_SELECTOR);
    assert_eq!(back.read(GDT + u64::from(FREE) + 5, 1), 0x89, "free again");
    assert_eq!(back.u32(OTHER + 0x24) & 0x4000, 0, "saved with NT clear");
}

#[test]
fn jmp_leaves_the_old_task() {
    let end = two_tasks(&far(0xEA)).run(1);
    assert_eq!(end.state.rip, 0x2000);
    assert!(!end.flag(RFlags::NT));
    assert_eq!(end.read(GDT + u64::from(TSS_SELECTOR) + 5, 1), 0x89);
}

#[test]
fn an_exception_through_a_task_gate_has_its_code_on_the_new_stack() {
    let guest = two_tasks(&[0x8E, 0xD8])
        .reg(0, 0x1234)
        .vector(13, gate(FREE, 0, 0x85, 0));
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.state.gpr[4]), (0x2000, 0x9FFC));
    assert_eq!(end.u32(0x9FFC), 0x1234 & 0xFFFC);
    assert_eq!(
        (end.u32(TSS + 0x20), end.u32(TSS + 0x24)),
        (0x1000, 0x1_0202)
    );
}

#[test]
fn a_busy_task_is_refused() {
    let guest = two_tasks(&far(0xEA))
        .entry(FREE, descriptor(OTHER as u32, 0x67, 0x8B, 0))
        .handler(13, 0x3000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u32(0x7FF0)), (0x3000, u32::from(FREE)));
}

#[test]
fn a_short_tss_is_invalid() {
    let guest = two_tasks(&far(0xEA))
        .entry(FREE, descriptor(OTHER as u32, 0x66, 0x89, 0))
        .handler(10, 0x3000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u32(0x7FF0)), (0x3000, u32::from(FREE)));
}

#[test]
fn a_bad_segment_is_the_new_tasks_fault() {
    let guest = two_tasks(&far(0xEA))
        .with(OTHER + 0x54, &0x1230u16.to_le_bytes())
        .handler(10, 0x3000);
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.u32(0x9FF0), end.u32(0x9FF4)),
        (0x3000, 0x1230, 0x2000)
    );
    assert_eq!(end.selector(Seg::Tr), FREE);
}

/// In the middle of a block: the new task's RIP is no offset from the block's start.
#[test]
fn a_bad_segment_is_the_new_tasks_fault_wherever_the_switch_was() {
    let mut code = vec![0x90; 5];
    code.extend(far(0xEA));
    let guest = two_tasks(&code)
        .with(OTHER + 0x54, &0x1230u16.to_le_bytes())
        .handler(10, 0x3000);
    let end = guest.run(6);
    assert_eq!(
        (end.state.rip, end.u32(0x9FF0), end.u32(0x9FF4)),
        (0x3000, 0x1230, 0x2000)
    );
}

#[test]
fn the_t_bit_traps_before_the_first_instruction() {
    let guest = two_tasks(&far(0xEA))
        .with(OTHER + 0x64, &1u16.to_le_bytes())
        .handler(1, 0x3000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u32(0x9FF4)), (0x3000, 0x2000));
    assert_eq!(end.state.dr6 & 0x8000, 0x8000);
}

#[test]
fn a_16_bit_task() {
    let mut guest = Guest::protected(&far(0x9A))
        .entry(FREE, descriptor(OTHER as u32, 0x2B, 0x81, 0))
        .with(0x2000, &[0xCF]);
    let words = [
        0x2000u16, 2, 1, 2, 3, 4, 0xA000, 5, 6, 7, DATA0, CODE0, DATA0, DATA0, 0,
    ];
    for (n, word) in words.iter().enumerate() {
        guest = guest.with(OTHER + 0x0E + 2 * n as u64, &word.to_le_bytes());
    }
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.state.gpr[4] as u16),
        (0x2000, 0xA000)
    );
    let back = guest.run(2);
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x1007, 0x8000));
}
