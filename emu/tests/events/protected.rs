//! 32-bit protected mode and virtual-8086 mode.

use emu::arch::{Cr4, RFlags, Seg};
use emu::state::Activity;

use crate::guest::{CODE0, CODE3, DATA0, DATA3, FREE, Guest, TSS, TSS_SELECTOR, descriptor, gate};

#[test]
fn a_bad_selector_faults_with_its_code() {
    // mov ds, ax
    let guest = Guest::protected(&[0x8E, 0xD8])
        .reg(0, 0x1234)
        .handler(13, 0x2000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.state.gpr[4]), (0x2000, 0x7FF0));
    assert_eq!(end.u32(0x7FF0), 0x1234 & 0xFFFC);
    assert_eq!(
        (end.u32(0x7FF4), end.u32(0x7FF8)),
        (0x1000, u32::from(CODE0))
    );
    assert_eq!(end.u32(0x7FFC), 0x1_0202, "RF is set in a fault's image");
    assert_eq!(end.selector(Seg::Ds), DATA0);
}

#[test]
fn ring_3_calls_ring_0_and_returns() {
    let guest = Guest::protected(&[0xCD, 0x80])
        .user()
        .vector(0x80, gate(CODE0, 0x2000, 0xEF, 0))
        .with(0x2000, &[0xCF]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.state.gpr[4], inside.cpl()),
        (0x2000, 0x8FEC, 0)
    );
    let frame = [0, 4, 8, 12, 16].map(|at| inside.u32(0x8FEC + at));
    assert_eq!(
        frame,
        [0x1002, u32::from(CODE3), 0x202, 0x7000, u32::from(DATA3)]
    );
    assert!(inside.flag(RFlags::IF), "a trap gate leaves IF");
    assert_eq!(inside.selector(Seg::Ds), DATA3);
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.state.gpr[4], back.cpl()),
        (0x1002, 0x7000, 3)
    );
    assert_eq!(
        (back.selector(Seg::Cs), back.selector(Seg::Ss)),
        (CODE3, DATA3)
    );
}

#[test]
fn iret_to_ring_3_drops_inner_data_segments() {
    // push of the frame by hand: eip cs eflags esp ss at 8000h
    let mut guest = Guest::protected(&[0xCF]);
    for (n, word) in [0x2000, u32::from(CODE3), 0x3202, 0x7000, u32::from(DATA3)]
        .iter()
        .enumerate()
    {
        guest = guest.with(0x8000 + 4 * n as u64, &word.to_le_bytes());
    }
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.cpl(), end.state.rflags.iopl()),
        (0x2000, 3, 3)
    );
    assert_eq!(end.selector(Seg::Ds), 0);
    assert!(end.state.segments[Seg::Ds as usize].unusable());
}

#[test]
fn the_gate_dpl_guards_software_interrupts() {
    let guest = Guest::protected(&[0xCD, 0x30])
        .user()
        .handler(0x30, 0x2000)
        .handler(13, 0x3000);
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.u32(0x9000 - 24)),
        (0x3000, 0x30 * 8 + 2)
    );
    assert_eq!(
        end.u32(0x9000 - 20),
        0x1000,
        "the INT itself is the fault's address"
    );
}

#[test]
fn a_call_gate_copies_parameters_and_retf_drops_them() {
    // call CALL_GATE:0; at 2000h: retf 8
    let selector = (FREE | 3).to_le_bytes();
    let guest = Guest::protected(&[0x9A, 0, 0, 0, 0, selector[0], selector[1]])
        .user()
        .entry(FREE, gate(CODE0, 0x2000, 0xEC, 2))
        .with(0x7000, &0x1111_1111u32.to_le_bytes())
        .with(0x7004, &0x2222_2222u32.to_le_bytes())
        .with(0x2000, &[0xCA, 8, 0]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.cpl(), inside.state.gpr[4]),
        (0x2000, 0, 0x8FE8)
    );
    let frame = [0, 4, 8, 12, 16, 20].map(|at| inside.u32(0x8FE8 + at));
    assert_eq!(
        frame,
        [
            0x1007,
            u32::from(CODE3),
            0x1111_1111,
            0x2222_2222,
            0x7000,
            u32::from(DATA3)
        ]
    );
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.cpl(), back.state.gpr[4]),
        (0x1007, 3, 0x7008)
    );
}

#[test]
fn a_fault_in_a_fault_is_double_and_then_triple() {
    // #GP has no gate: #NP while delivering it.
    let guest = Guest::protected(&[0x8E, 0xD8])
        .reg(0, 0x1234)
        .handler(8, 0x2000);
    let end = guest.run(1);
    assert_eq!(
        (end.state.rip, end.u32(0x7FF0), end.u32(0x7FF4)),
        (0x2000, 0, 0x1000)
    );
    let end = Guest::protected(&[0x8E, 0xD8]).reg(0, 0x1234).run(1);
    assert_eq!(end.state.activity, Activity::Shutdown);
}

#[test]
fn a_benign_fault_is_followed_by_its_own_delivery_fault() {
    // #UD without a gate: #GP(6 * 8 + 2 + EXT).
    let guest = Guest::protected(&[0x0F, 0x0B]).handler(13, 0x2000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u32(0x7FF0)), (0x2000, 6 * 8 + 3));
}

/// A guest in virtual-8086 mode: code at 0100:0000, stack 0700:0000 upwards.
fn vm86(code: &[u8], iopl: u64) -> Guest {
    let mut guest = Guest::protected(&[0xCF]).with(0x1800, code);
    let frame = [
        0x800u64,
        0x100,
        0x2_0202 | iopl << 12,
        0x1000,
        0x600,
        1,
        2,
        3,
        4,
    ];
    for (n, word) in frame.iter().enumerate() {
        guest = guest.with(0x8000 + 4 * n as u64, &(*word as u32).to_le_bytes());
    }
    guest
}

#[test]
fn virtual_8086_entry_and_exit() {
    let guest = vm86(&[0xCD, 0x21], 3)
        .vector(0x21, gate(CODE0, 0x2000, 0xEE, 0))
        .with(0x2000, &[0xCF]);
    let inside = guest.run(1);
    assert!(inside.flag(RFlags::VM));
    assert_eq!(
        (inside.state.rip, inside.selector(Seg::Cs), inside.cpl()),
        (0x800, 0x100, 3)
    );
    assert_eq!(inside.state.segments[Seg::Ss as usize].base, 0x6000);
    assert_eq!(inside.selector(Seg::Gs), 4);
    let out = guest.run(2);
    assert!(!out.flag(RFlags::VM));
    assert_eq!(
        (out.state.rip, out.cpl(), out.state.gpr[4]),
        (0x2000, 0, 0x9000 - 36)
    );
    let frame = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| out.u32(0x9000 - 36 + 4 * n));
    assert_eq!(frame, [0x802, 0x100, 0x2_3202, 0x1000, 0x600, 1, 2, 3, 4]);
    assert!(out.state.segments[Seg::Ds as usize].unusable());
    let back = guest.run(3);
    assert!(back.flag(RFlags::VM));
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x802, 0x1000));
}

#[test]
fn int_in_virtual_8086_mode_needs_iopl_3_or_vme() {
    let guest = vm86(&[0xCD, 0x21], 0).handler(13, 0x2000);
    let end = guest.run(2);
    assert_eq!(
        (end.state.rip, end.u32(0x9000 - 40), end.u32(0x9000 - 36)),
        (0x2000, 0, 0x800)
    );
    // With VME and a clear redirection bit it stays in the 8086 program.
    let mut guest = guest
        .with(TSS + 0x66, &0xC0u16.to_le_bytes())
        .with(4 * 0x21, &[0x00, 0x09, 0x00, 0x01])
        .with(0x1900, &[0xCF]);
    guest.state.cr4 |= Cr4::VME;
    let inside = guest.run(2);
    assert_eq!((inside.state.rip, inside.selector(Seg::Cs)), (0x900, 0x100));
    assert_eq!(
        inside.u16(0x6000 + 0xFFE) & 0x3200,
        0x3000,
        "IOPL 3, IF as VIF"
    );
    let back = guest.run(3);
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x802, 0x1000));
    assert!(!back.flag(RFlags::VIF));
}

#[test]
fn segment_loads_check_and_mark() {
    // mov ax, sel; mov es, ax by register: AX given
    let read_only = descriptor(0x1000, 0xFFF, 0x90, 0x40);
    let guest = Guest::protected(&[0x8E, 0xC0])
        .entry(FREE, read_only)
        .handler(13, 0x2000);
    let end = guest.clone().reg(0, u64::from(FREE)).run(1);
    let es = end.state.segments[Seg::Es as usize];
    assert_eq!((es.base, es.limit, es.selector), (0x1000, 0xFFF, FREE));
    assert_eq!(
        end.u64(crate::guest::GDT + u64::from(FREE)) >> 40 & 0xFF,
        0x91
    );
    // The same for SS: not writable.
    let ss = guest
        .clone()
        .with(0x1000, &[0x8E, 0xD0])
        .reg(0, u64::from(FREE))
        .run(1);
    assert_eq!((ss.state.rip, ss.u32(0x7FF0)), (0x2000, u32::from(FREE)));
    // Not present: #NP.
    let absent = guest
        .entry(FREE, read_only & !(1 << 47))
        .handler(11, 0x3000)
        .reg(0, u64::from(FREE));
    assert_eq!(absent.run(1).state.rip, 0x3000);
}

#[test]
fn verification_does_not_load() {
    // lar ebx, eax; lsl ecx, eax; verw ax
    let code = [0x0F, 0x02, 0xD8, 0x0F, 0x03, 0xC8, 0x0F, 0x00, 0xE8];
    let guest = Guest::protected(&code).reg(0, u64::from(CODE0));
    let end = guest.run(2);
    assert_eq!(
        (end.state.gpr[3], end.state.gpr[1]),
        (0xCF_9A00, 0xFFFF_FFFF)
    );
    assert!(end.flag(RFlags::ZF));
    assert!(!guest.run(3).flag(RFlags::ZF));
    let tss = guest.reg(0, u64::from(TSS_SELECTOR)).run(2);
    assert_eq!((tss.state.gpr[3], tss.state.gpr[1]), (0x8B00, 0x100));
}

#[test]
fn bound_and_into() {
    // bound eax, [5000h]; into
    let code = [0x62, 0x05, 0x00, 0x50, 0, 0, 0xCE];
    let guest = Guest::protected(&code)
        .with(0x5000, &[0xFE, 0xFF, 0xFF, 0xFF, 5, 0, 0, 0])
        .handler(5, 0x2000)
        .handler(4, 0x3000);
    assert_eq!(guest.clone().reg(0, 5).run(2).state.rip, 0x1007);
    assert_eq!(guest.clone().reg(0, 6).run(1).state.rip, 0x2000);
    let mut over = guest;
    over.state.rflags |= RFlags::OF;
    let end = over.run(2);
    assert_eq!((end.state.rip, end.u32(0x7FF4)), (0x3000, 0x1007));
}

#[test]
fn sysenter_and_sysexit() {
    let mut guest = Guest::protected(&[0x0F, 0x34])
        .user()
        .with(0x2000, &[0x0F, 0x35]);
    guest.state.msrs.sysenter_cs = u64::from(CODE0);
    guest.state.msrs.sysenter_eip = 0x2000;
    guest.state.msrs.sysenter_esp = 0x8800;
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.cpl(), inside.state.gpr[4]),
        (0x2000, 0, 0x8800)
    );
    assert!(!inside.flag(RFlags::IF));
    let out = guest.reg(1, 0x6000).reg(2, 0x1100).run(2);
    assert_eq!(
        (out.state.rip, out.cpl(), out.state.gpr[4]),
        (0x1100, 3, 0x6000)
    );
    assert_eq!(out.selector(Seg::Cs), CODE3);
}

#[test]
fn a_far_call_outside_the_limit_changes_nothing() {
    let small = descriptor(0, 0x1FFF, 0x9A, 0x40);
    let selector = FREE.to_le_bytes();
    let code = [0x9A, 0, 0x30, 0, 0, selector[0], selector[1]];
    let end = Guest::protected(&code)
        .entry(FREE, small)
        .handler(13, 0x2000)
        .run(1);
    assert_eq!(
        (end.state.rip, end.u32(0x7FF4), end.u32(0x7FF0)),
        (0x2000, 0x1000, 0)
    );
}

#[test]
fn rf_holds_for_one_instruction() {
    // iret with RF in the image, to a breakpoint; there: jmp +0; jmp -2
    let mut guest = Guest::protected(&[0xCF])
        .with(0x2000, &[0xEB, 0xFE])
        .handler(1, 0x3000);
    for (n, word) in [0x2000u32, u32::from(CODE0), 0x1_0202].iter().enumerate() {
        guest = guest.with(0x8000 + 4 * n as u64, &word.to_le_bytes());
    }
    guest.state.dr[0] = 0x2000;
    guest.state.dr7 = 0x401;
    assert!(guest.run(1).flag(RFlags::RF));
    let once = guest.run(2);
    assert_eq!(once.state.rip, 0x2000);
    assert!(!once.flag(RFlags::RF));
    let end = guest.run(3);
    assert_eq!((end.state.rip, end.u32(0x8000)), (0x3000, 0x2000));
}

#[test]
fn push_and_pop_of_segments() {
    // push ds; pop fs; push cs
    let end = Guest::protected(&[0x1E, 0x0F, 0xA1, 0x0E])
        .with(0x7FFC, &[0xAA; 4])
        .run(3);
    assert_eq!(end.selector(Seg::Fs), DATA0);
    assert_eq!((end.state.gpr[4], end.u16(0x7FFC)), (0x7FFC, CODE0));
}

#[test]
fn arpl_and_les() {
    // arpl ax, bx; les ecx, [5000h]
    let code = [0x63, 0xD8, 0xC4, 0x0D, 0x00, 0x50, 0, 0];
    let guest = Guest::protected(&code)
        .reg(0, 0x20)
        .reg(3, 3)
        .with(0x5000, &[1, 2, 3, 4, DATA3 as u8, 0])
        .handler(13, 0x3000);
    let end = guest.run(2);
    assert_eq!((end.state.gpr[0], end.state.gpr[1]), (0x23, 0x0403_0201));
    assert!(end.flag(RFlags::ZF));
    assert_eq!(end.selector(Seg::Es), DATA3);
}

#[test]
fn a_branch_to_the_byte_before_its_block() {
    // jmp 1003h; 1002h: inc eax; 1003h: loop 1002h
    let guest = Guest::protected(&[0xEB, 0x01, 0x40, 0xE2, 0xFD]).reg(1, 3);
    let end = guest.run(6);
    assert_eq!((end.state.rip, end.state.gpr[0]), (0x1005, 2));
}

/// A breakpoint on ports 10h to 11h, with CR4.DE.
fn watching_ports(code: &[u8]) -> Guest {
    let mut guest = Guest::protected(code).handler(1, 0x3000).reg(1, 3);
    guest.state.dr[0] = 0x10;
    guest.state.dr7 = 0x6_0401;
    guest.state.cr4 |= Cr4::DE;
    guest
}

#[test]
fn io_breakpoints_trap_behind_the_access() {
    // out 0fh, ax touches 10h; out 12h, al does not
    let end = watching_ports(&[0x66, 0xE7, 0x0F, 0xE6, 0x12]).run(1);
    assert_eq!((end.state.rip, end.u32(0x7FF4)), (0x3000, 0x1003));
    assert_eq!(end.state.dr6 & 0xF, 1);
    let end = watching_ports(&[0xE6, 0x12, 0xE4, 0x11]).run(1);
    assert_eq!(end.state.rip, 0x1002);
    // Without CR4.DE there are none.
    let mut guest = watching_ports(&[0xE6, 0x10]);
    guest.state.cr4.remove(Cr4::DE);
    assert_eq!(guest.run(1).state.rip, 0x1002);
}

#[test]
fn io_breakpoints_trap_behind_each_item() {
    // rep insb
    let guest = watching_ports(&[0xF3, 0x6C]).reg(2, 0x10).reg(7, 0x6000);
    let end = guest.run(1);
    assert_eq!((end.state.rip, end.u32(0x7FF4)), (0x3000, 0x1000));
    assert_eq!((end.state.gpr[1], end.state.gpr[7]), (2, 0x6001));
    // No access, no breakpoint.
    let end = watching_ports(&[0xF3, 0x6C]).reg(2, 0x10).reg(1, 0).run(1);
    assert_eq!((end.state.rip, end.state.dr6 & 0xF), (0x1002, 0));
}
