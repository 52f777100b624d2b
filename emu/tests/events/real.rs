//! Real-address mode, and what every mode shares.

use emu::Pending;
use emu::arch::{RFlags, Seg};
use emu::state::{Activity, Queued, Shadow};

use crate::guest::Guest;

/// A vector of the real-mode table.
fn vector(n: u64, offset: u16) -> (u64, [u8; 4]) {
    (4 * n, u32::from(offset).to_le_bytes())
}

fn with_vector(guest: Guest, n: u64, offset: u16) -> Guest {
    let (at, bytes) = vector(n, offset);
    guest.with(at, &bytes)
}

#[test]
fn int_and_iret() {
    let guest = with_vector(Guest::real(&[0xCD, 0x21]), 0x21, 0x2000).with(0x2000, &[0xCF]);
    let inside = guest.run(1);
    assert_eq!(inside.state.rip, 0x2000);
    assert_eq!(inside.state.gpr[4], 0x7FFA);
    assert_eq!(
        [inside.u16(0x7FFA), inside.u16(0x7FFC), inside.u16(0x7FFE)],
        [0x1002, 0, 0x202]
    );
    assert!(!inside.flag(RFlags::IF));
    let back = guest.run(2);
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x1002, 0x8000));
    assert!(back.flag(RFlags::IF));
}

#[test]
fn a_fault_pushes_its_own_address_and_no_code() {
    let mut guest = with_vector(Guest::real(&[0x0F, 0x0B]), 6, 0x2000);
    guest.state.gpr[4] = 0x8000;
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.state.gpr[4], end.u16(0x7FFA)),
        (0x2000, 0x7FFA, 0x1000)
    );
}

#[test]
fn without_a_vector_table_there_is_shutdown() {
    let mut guest = Guest::real(&[0xCD, 0x21]);
    guest.state.idtr.limit = 3;
    assert_eq!(guest.run(1).state.activity, Activity::Shutdown);
}

#[test]
fn a_pushed_frame_that_wraps_faults_first() {
    // SP 1: the first push would cross the end of the segment.
    let guest = with_vector(Guest::real(&[0xCD, 0x21]), 0x21, 0x2000).reg(4, 1);
    assert_eq!(guest.run(1).state.activity, Activity::Shutdown);
}

#[test]
fn far_jump_call_and_return() {
    // call 0010:1900; there: retf 2
    let guest = Guest::real(&[0x9A, 0x00, 0x19, 0x10, 0x00]).with(0x1A00, &[0xCA, 0x02, 0x00]);
    let there = guest.run(1);
    assert_eq!((there.state.rip, there.selector(Seg::Cs)), (0x1900, 0x10));
    assert_eq!((there.u16(0x7FFC), there.u16(0x7FFE)), (0x1005, 0));
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.selector(Seg::Cs), back.state.gpr[4]),
        (0x1005, 0, 0x8002)
    );
}

#[test]
fn near_call_and_return() {
    let guest = Guest::real(&[0xE8, 0xFD, 0x00]).with(0x1100, &[0xC2, 0x04, 0x00]);
    let there = guest.run(1);
    assert_eq!((there.state.rip, there.u16(0x7FFE)), (0x1100, 0x1003));
    let back = guest.run(2);
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x1003, 0x8004));
}

#[test]
fn loop_counts_cx_and_leaves_the_rest() {
    let guest = Guest::real(&[0xE2, 0xFE]).reg(1, 0x5_0003);
    assert_eq!(guest.run(2).state.rip, 0x1000);
    let end = guest.run(3);
    assert_eq!((end.state.rip, end.state.gpr[1]), (0x1002, 0x5_0000));
    assert_eq!(Guest::real(&[0xE3, 0x10]).run(1).state.rip, 0x1012);
}

#[test]
fn an_interrupt_waits_behind_mov_ss() {
    // mov ss, ax; jmp +0; jmp +0
    let code = [0x8E, 0xD0, 0xEB, 0x00, 0xEB, 0x00];
    let guest = with_vector(Guest::real(&code), 0x40, 0x2000);
    let mut held = guest.run(1).state;
    assert_eq!(held.shadow, Shadow::MovSs);
    held.rflags |= RFlags::IF;
    let mut guest = guest.pin(Pending::INTERRUPT, 0x40);
    guest.state = held;
    // One instruction, then the interrupt and the handler's first.
    let end = guest.with(0x2000, &[0xEB, 0x00]).run(2);
    assert_eq!((end.state.rip, end.u16(0x7FFA)), (0x2002, 0x1004));
}

#[test]
fn nmi_is_masked_until_iret() {
    let code = [0xEB, 0x00, 0xEB, 0x00];
    let guest = with_vector(Guest::real(&code), 2, 0x2000)
        .with(0x2000, &[0xEB, 0x00, 0xCF])
        .pin(Pending::NMI, 0);
    let inside = guest.run(1);
    assert_eq!(inside.state.rip, 0x2002);
    assert!(inside.state.nmi_masked);
    let back = guest.run(2);
    assert_eq!(back.state.rip, 0x1000);
    assert!(!back.state.nmi_masked);
}

#[test]
fn single_step_traps_behind_each_instruction_but_int() {
    let code = [0xEB, 0x00, 0xCD, 0x21];
    let mut guest = with_vector(with_vector(Guest::real(&code), 1, 0x3000), 0x21, 0x2000);
    guest.state.rflags |= RFlags::TF;
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u16(0x7FFA)), (0x3000, 0x1002));
    assert_eq!(end.state.dr6 & 0x4000, 0x4000);
    assert!(!end.flag(RFlags::TF));
    guest.state.rip = 0x1002;
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u16(0x7FFE) & 0x100), (0x2000, 0x100));
}

#[test]
fn breakpoints_on_code_and_data() {
    let mut guest = with_vector(Guest::real(&[0xEB, 0x00, 0xA3, 0x02, 0x50]), 1, 0x3000);
    guest.state.dr = [0x1002, 0x5000, 0, 0];
    guest.state.dr7 = 0x400 | 1;
    let end = guest.run(2);
    assert_eq!((end.state.rip, end.u16(0x7FFA)), (0x3000, 0x1002));
    assert_eq!(end.state.dr6 & 15, 1);
    guest.state.rip = 0x1002;
    guest.state.rflags |= RFlags::RF;
    guest.state.dr7 = 0x400 | 5 | 0b1101 << 20;
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.u16(0x7FFA)),
        (0x3000, 0x1005),
        "a data trap, no code fault"
    );
    assert_eq!(end.state.dr6 & 15, 2);
}

#[test]
fn init_and_start_up() {
    let mut guest = Guest::real(&[0xEB, 0]).pin(Pending::INIT, 0);
    guest.state.cr0 = emu::arch::Cr0::ET;
    // The reset vector leads nowhere here: #UD, from F000:FFF0 on the stack of INIT.
    let end = with_vector(guest.clone(), 6, 0x2000).run(1);
    assert_eq!((end.u16(0xFFFA), end.u16(0xFFFC)), (0xFFF0, 0xF000));
    assert_eq!(end.state.cr0.bits(), 0x10, "caches stay as they were");
    guest.state.activity = Activity::WaitForSipi;
    let end = guest.pin(Pending::SIPI, 2).with(0x2000, &[0xEB, 2]).run(1);
    assert_eq!((end.state.rip, end.selector(Seg::Cs)), (4, 0x200));
}

#[test]
fn unreal_limits_survive_a_load() {
    // mov ds, ax; mov ax, [ebx]
    let code = [0x8E, 0xD8, 0x67, 0x8B, 0x03];
    let mut guest = with_vector(Guest::real(&code), 13, 0x2000)
        .reg(0, 0x100)
        .reg(3, 0x20000)
        .with(0x21000, &[0x34, 0x12]);
    assert_eq!(guest.run(2).state.rip, 0x2000, "a 64 KiB limit faults");
    guest.state.segments[Seg::Ds as usize].limit = u32::MAX;
    assert_eq!(guest.run(2).state.gpr[0], 0x1234);
}

#[test]
fn what_another_engine_had_accepted_comes_before_the_next_instruction() {
    // 90: nop
    let base = || with_vector(Guest::real(&[0x90]), 0x21, 0x2000).with(0x2000, &[0x90]);
    let mut guest = base();
    // It was let in while IF was set; that it is clear now does not matter.
    guest.state.rflags -= RFlags::IF;
    guest.state.queued = Some(Queued::Interrupt(0x21));
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u16(0x7FFA)), (0x2001, 0x1000));
    assert_eq!(end.state.queued, None);
    let mut guest = with_vector(base(), 13, 0x2000);
    guest.state.queued = Some(Queued::Exception {
        vector: 13,
        error_code: Some(0),
    });
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.state.gpr[4]), (0x2001, 0x7FFA));
    let mut guest = with_vector(base(), 2, 0x2000);
    guest.state.queued = Some(Queued::Nmi);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.state.nmi_masked), (0x2001, true));
}

#[test]
fn an_nmi_another_engine_kept_waits_for_iret() {
    let guest = with_vector(Guest::real(&[0xCF]), 2, 0x2000).with(0x2000, &[0x90]);
    let mut guest = guest.with(0x8000, &[0, 0x30, 0, 0, 2, 0]);
    (guest.state.nmi_masked, guest.state.nmi_pending) = (true, true);
    let end = guest.run(2);
    assert_eq!((end.state.rip, end.u16(0x8000)), (0x2001, 0x3000));
    assert!(end.state.nmi_masked && !end.state.nmi_pending);
}
