//! KVM leads and the software CPU follows.

use std::sync::Arc;

use accel::lockstep::{Divergence, Fault, Lockstep, Mode};
use accel::{AccelError, VcpuExit};
use emu::CpuState;
use emu::arch::{Gpr, RFlags};

use super::{CODE, Guest, Seen, kvm, real_state};

/// Lockstep over KVM.
fn lockstep(mode: Mode) -> Option<Lockstep> {
    Some(Lockstep::new(Box::new(kvm()?), mode))
}

fn runs_to_halt(guest: &mut Guest) {
    match guest.try_run() {
        Ok(exit) => assert_eq!(exit, VcpuExit::Halted),
        Err(error) => panic!("{error}"),
    }
}

fn count(guest: &mut Guest, name: &str) -> u64 {
    let counts = guest.vcpu.counters().lockstep;
    counts.get(name).copied().unwrap_or(0)
}

/// mov cx, 10; xor ax, ax; add ax, cx; push ax; pop bx; out 10h, al; in al, 20h; loop -9; hlt
const SUM: [u8; 16] = [
    0xB9, 0x0A, 0x00, 0x31, 0xC0, 0x01, 0xC8, 0x50, 0x5B, 0xE6, 0x10, 0xE4, 0x20, 0xE2, 0xF6, 0xF4,
];

#[test]
fn a_small_program_agrees() {
    for mode in [Mode::Exit, Mode::Step] {
        let Some(lockstep) = lockstep(mode) else {
            return;
        };
        let mut guest = Guest::on(&lockstep, &SUM);
        runs_to_halt(&mut guest);
        let seen = guest.board.seen();
        assert_eq!(seen.len(), 20, "each access once: {seen:?}");
        assert_eq!(seen[0], Seen::Out(0x10, 1, vec![10]));
        let state = guest.vcpu.state().unwrap();
        assert_eq!(state.rip, CODE + SUM.len() as u64);
        let least = if mode == Mode::Exit { 21 } else { 63 };
        let agreed = count(&mut guest, "agreed points");
        assert!(agreed >= least, "{mode:?}: {agreed} points");
        assert_eq!(count(&mut guest, "timing/TLB"), 0);
    }
}

#[test]
fn an_interrupt_is_delivered_at_the_same_point() {
    // sti; L: inc ax; cmp bx, 1; jne L; out 61h, al; hlt
    let code = [0xFB, 0x40, 0x83, 0xFB, 0x01, 0x75, 0xFA, 0xE6, 0x61, 0xF4];
    for mode in [Mode::Exit, Mode::Step] {
        let Some(lockstep) = lockstep(mode) else {
            return;
        };
        let mut guest = Guest::on(&lockstep, &code);
        // mov bx, 1; out 60h, al; iret
        guest.handler(0x22, &[0xBB, 0x01, 0x00, 0xE6, 0x60, 0xCF]);
        let mut state = real_state();
        state.rflags |= RFlags::IF;
        guest.vcpu.set_state(&state).unwrap();
        guest.board.raise(0x22);
        runs_to_halt(&mut guest);
        let seen: Vec<_> = guest.board.seen();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[0], Seen::Ack(0x22));
    }
}

#[test]
fn what_kvm_refuses_is_listed_as_unchecked() {
    let Some(kvm) = kvm() else { return };
    let partial = kvm.is_partial();
    let lockstep = Lockstep::new(Box::new(kvm), Mode::Exit);
    // mov al, 9; add al, 8; daa; out 10h, al; hlt
    let mut guest = Guest::on(&lockstep, &[0xB0, 9, 4, 8, 0x27, 0xE6, 0x10, 0xF4]);
    runs_to_halt(&mut guest);
    assert_eq!(guest.board.seen(), [Seen::Out(0x10, 1, vec![0x17])]);
    let unchecked = count(&mut guest, "unchecked: Daa in real mode");
    assert_eq!(unchecked, u64::from(partial));
}

/// Runs with a fault in the follower, which must be found.
fn parts(mode: Mode, code: &[u8], fault: Fault) -> Option<Box<Divergence>> {
    let lockstep = lockstep(mode)?.with_fault(fault);
    let mut guest = Guest::on(&lockstep, code);
    guest.handler(0x30, &[0x40, 0xCF]); // inc ax; iret
    match guest.try_run() {
        Err(AccelError::Diverged(found)) => Some(found),
        other => panic!("{:?}", other.map_err(|e| e.to_string())),
    }
}

#[test]
fn a_wrong_flag_is_reported_at_its_instruction() {
    let fault: Fault = Arc::new(|before: &CpuState, bytes: &[u8], after: &mut CpuState| {
        // The seventh addition.
        let wrong = bytes.starts_with(&[0x01, 0xC8]) && before.gpr[Gpr::Rcx as usize] == 4;
        after.rflags ^= if wrong { RFlags::CF } else { RFlags::empty() };
        wrong
    });
    for mode in [Mode::Exit, Mode::Step] {
        let Some(found) = parts(mode, &SUM, Arc::clone(&fault)) else {
            return;
        };
        assert!(found.located, "{found}");
        assert_eq!(found.address(), CODE + 5, "{found}");
        assert_eq!(found.before.gpr[Gpr::Rcx as usize], 4);
        let differences = found.differences();
        assert!(
            matches!(&differences[..], [one] if one.starts_with("rflags")),
            "{found}"
        );
        assert!(found.text().starts_with("add"), "{found}");
    }
}

#[test]
fn a_wrong_iret_is_reported_at_its_instruction() {
    let fault: Fault = Arc::new(|_: &CpuState, bytes: &[u8], after: &mut CpuState| {
        let wrong = bytes.starts_with(&[0xCF]);
        after.rflags ^= if wrong { RFlags::IF } else { RFlags::empty() };
        wrong
    });
    // mov ax, 5; int 30h; out 10h, al; hlt
    let code = [0xB8, 5, 0, 0xCD, 0x30, 0xE6, 0x10, 0xF4];
    for mode in [Mode::Exit, Mode::Step] {
        let Some(found) = parts(mode, &code, Arc::clone(&fault)) else {
            return;
        };
        assert!(found.located && found.text().starts_with("iret"), "{found}");
    }
}

#[test]
fn a_wrong_page_walk_is_reported_at_its_instruction() {
    let fault: Fault = Arc::new(|_: &CpuState, bytes: &[u8], after: &mut CpuState| {
        // As if the walk had ended at another frame.
        let wrong = bytes.starts_with(&[0x48, 0x8B, 0x04, 0x25]);
        after.gpr[Gpr::Rax as usize] ^= if wrong { 0xFF00 } else { 0 };
        wrong
    });
    // nop; mov rax, [1000h]; mov rbx, rax; out 10h, al; hlt
    let code = [
        0x90, 0x48, 0x8B, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, 0x48, 0x89, 0xC3, 0xE6, 0x10, 0xF4,
    ];
    for mode in [Mode::Exit, Mode::Step] {
        let Some(lockstep) = lockstep(mode) else {
            return;
        };
        let mut guest = Guest::new(&lockstep.with_fault(Arc::clone(&fault)));
        guest.ram.write(CODE, &code);
        guest.page_tables();
        guest.vcpu.set_state(&crate::long_state()).unwrap();
        match guest.try_run() {
            Err(AccelError::Diverged(found)) => {
                assert!(found.located, "{found}");
                assert_eq!(found.address(), CODE + 1, "{found}");
            }
            other => panic!("{:?}", other.map_err(|e| e.to_string())),
        }
    }
}
