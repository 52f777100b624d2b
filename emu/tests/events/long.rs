//! IA-32e mode.

use emu::arch::{Efer, RFlags, Seg};
use emu::state::Activity;

use crate::guest::{CODE3, CODE64, DATA3, FREE, Guest, TSS, gate};

#[test]
fn an_exception_uses_its_interrupt_stack() {
    let guest = Guest::long(&[0x0F, 0x0B])
        .user()
        .with(TSS + 36, &0xA008u64.to_le_bytes())
        .handler64(6, 0x2000, 0x8E, 1)
        .with(0x2000, &[0x48, 0xCF]);
    let inside = guest.run(1);
    assert_eq!((inside.state.rip, inside.cpl()), (0x2000, 0));
    assert_eq!(
        inside.state.gpr[4],
        0xA000 - 40,
        "aligned, then five quadwords"
    );
    let frame = [0, 1, 2, 3, 4].map(|n| inside.u64(0xA000 - 40 + 8 * n));
    assert_eq!(frame, [0x1000, 0x4B, 0x1_0202, 0x7000, u64::from(DATA3)]);
    assert!(inside.state.segments[Seg::Ss as usize].unusable());
    assert_eq!(inside.selector(Seg::Ss), 0);
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.state.gpr[4], back.cpl()),
        (0x1000, 0x7000, 3)
    );
    assert!(back.flag(RFlags::RF));
}

#[test]
fn the_same_ring_keeps_its_segment_and_aligns() {
    let guest = Guest::long(&[0xCD, 0x80])
        .reg(4, 0x8003)
        .handler64(0x80, 0x2000, 0x8E, 0)
        .with(0x2000, &[0x48, 0xCF]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.gpr[4], inside.u64(0x8000 - 16)),
        (0x8000 - 40, 0x8003)
    );
    assert_eq!(inside.selector(Seg::Ss), 0x10);
    let back = guest.run(2);
    assert_eq!((back.state.rip, back.state.gpr[4]), (0x1002, 0x8003));
}

#[test]
fn from_compatibility_mode() {
    let mut guest = Guest::protected(&[0xCD, 0x80]).user();
    guest.state.efer |= Efer::LME | Efer::LMA;
    let guest = guest
        .with(TSS + 4, &0x9000u64.to_le_bytes())
        .handler64(0x80, 0x2000, 0xEE, 0)
        .with(0x2000, &[0x48, 0xCF]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.selector(Seg::Cs)),
        (0x2000, CODE64)
    );
    assert_eq!(inside.u64(0x9000 - 32), u64::from(CODE3));
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.selector(Seg::Cs), back.cpl()),
        (0x1002, CODE3, 3)
    );
}

#[test]
fn syscall_and_sysret() {
    // syscall; at 2000h: sysretq
    let mut guest = Guest::long(&[0x0F, 0x05])
        .user()
        .with(0x2000, &[0x48, 0x0F, 0x07]);
    guest.state.efer |= Efer::SCE;
    guest.state.msrs.star = 0x3B << 48 | u64::from(CODE64) << 32;
    guest.state.msrs.lstar = 0x2000;
    guest.state.msrs.sfmask = RFlags::IF.bits();
    let inside = guest.run(1);
    assert_eq!((inside.state.rip, inside.cpl()), (0x2000, 0));
    assert_eq!((inside.state.gpr[1], inside.state.gpr[11]), (0x1002, 0x202));
    assert!(!inside.flag(RFlags::IF));
    let back = guest.run(2);
    assert_eq!((back.state.rip, back.cpl()), (0x1002, 3));
    assert_eq!(
        (back.selector(Seg::Cs), back.selector(Seg::Ss)),
        (0x4B, 0x43)
    );
    assert!(back.flag(RFlags::IF));
    guest.state.efer -= Efer::SCE;
    assert_eq!(guest.run(1).state.activity, Activity::Shutdown);
}

#[test]
fn a_call_gate_to_ring_0() {
    // call far [2800h]: the gate's selector; at 2000h: retfq
    let code = [0xFF, 0x1C, 0x25, 0x00, 0x28, 0, 0];
    let guest = Guest::long(&code)
        .user()
        .with(0x2804, &(FREE | 3).to_le_bytes())
        .entry(FREE, gate(CODE64, 0x2000, 0xEC, 0))
        .entry(FREE + 8, 0)
        .with(0x2000, &[0x48, 0xCB]);
    let inside = guest.run(1);
    assert_eq!(
        (inside.state.rip, inside.cpl(), inside.state.gpr[4]),
        (0x2000, 0, 0x9000 - 32)
    );
    let frame = [0, 1, 2, 3].map(|n| inside.u64(0x9000 - 32 + 8 * n));
    assert_eq!(frame, [0x1007, 0x4B, 0x7000, u64::from(DATA3)]);
    let back = guest.run(2);
    assert_eq!(
        (back.state.rip, back.cpl(), back.state.gpr[4]),
        (0x1007, 3, 0x7000)
    );
}

#[test]
fn non_canonical_targets_fault_in_place() {
    // jmp rax; call rax; ret
    for code in [&[0xFF, 0xE0][..], &[0xFF, 0xD0], &[0xC3]] {
        let guest = Guest::long(code)
            .reg(0, 1 << 47)
            .with(0x8000, &(1u64 << 47).to_le_bytes())
            .handler64(13, 0x2000, 0x8E, 0);
        let end = guest.run(1);
        assert_eq!(end.state.rip, 0x2000);
        assert_eq!(
            (end.u64(0x8000 - 40), end.u64(0x8000 - 16)),
            (0x1000, 0x8000)
        );
    }
}

#[test]
fn swapgs_and_bases() {
    // swapgs; rdgsbase rax
    let mut guest = Guest::long(&[0x0F, 0x01, 0xF8, 0xF3, 0x48, 0x0F, 0xAE, 0xC8]);
    guest.state.cr4 |= emu::arch::Cr4::FSGSBASE;
    guest.state.msrs.kernel_gs_base = 0xFFFF_8000_0000_1000;
    let end = guest.run(2);
    assert_eq!(end.state.gpr[0], 0xFFFF_8000_0000_1000);
    assert_eq!(end.state.msrs.kernel_gs_base, 0);
}

#[test]
fn a_null_stack_selector_below_ring_3() {
    // mov ss, ax
    let guest = Guest::long(&[0x8E, 0xD0, 0x90]);
    let end = guest.run(1);
    assert!(end.state.segments[Seg::Ss as usize].unusable());
    assert_eq!(end.cpl(), 0);
}

#[test]
fn single_step_over_syscall() {
    let mut guest = Guest::long(&[0x0F, 0x05])
        .user()
        .with(0x2000, &[0x48, 0x0F, 0x07])
        .handler64(1, 0x3000, 0x8E, 0);
    guest.state.efer |= Efer::SCE;
    guest.state.msrs.star = 0x38 << 48 | u64::from(CODE64) << 32;
    guest.state.msrs.lstar = 0x2000;
    guest.state.msrs.sfmask = RFlags::TF.bits();
    guest.state.rflags |= RFlags::TF;
    assert_eq!(
        guest.run(1).state.rip,
        0x2000,
        "TF is masked: no trap in the kernel"
    );
    let end = guest.run(2);
    assert_eq!((end.state.rip, end.u64(0x9000 - 40)), (0x3000, 0x1002));
    assert_eq!(
        end.u64(0x9000 - 24) & 0x100,
        0x100,
        "the trap comes behind SYSRET"
    );
}
