//! What KVM refuses to run is run by the software CPU. A whole KVM refuses none of this; a partial one
//! (kvm_pvm) emulates all of real mode, with gaps.

use std::sync::Arc;

use accel::VcpuExit;
use accel::kvm::{Kvm, Rescues};
use emu::Pending;
use emu::arch::{Gpr, RFlags};

use super::{CODE, Guest, Seen, kvm, real_state};

/// KVM with rescue, and the table of what was rescued.
fn rescuing() -> Option<(Kvm, Arc<Rescues>)> {
    let table = Arc::new(Rescues::default());
    Some((
        kvm()?.with_rescue(Arc::clone(&table)).refusals_only(),
        table,
    ))
}

#[test]
fn refused_instructions_are_run_in_software() {
    let Some((kvm, table)) = rescuing() else {
        return;
    };
    // mov al, 9; add al, 8; daa; out 10h, al; fninit; fldpi; fistp word [3000h]; hlt
    let code = [
        0xB0, 0x09, 0x04, 0x08, 0x27, 0xE6, 0x10, 0xDB, 0xE3, 0xD9, 0xEB, 0xDF, 0x1E, 0x00, 0x30,
        0xF4,
    ];
    let mut guest = Guest::real(&kvm, &code);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.board.seen(), [Seen::Out(0x10, 1, vec![0x17])]);
    assert_eq!(guest.ram.read(0x3000), [3, 0]);
    assert_eq!(guest.vcpu.state().unwrap().rip, CODE + code.len() as u64);
    if !kvm.is_partial() {
        assert_eq!(table.total(), 0);
        return;
    }
    let names: Vec<_> = table
        .table()
        .iter()
        .map(|(what, _)| what.to_string())
        .collect();
    assert!(names.contains(&"Daa in real mode".to_owned()), "{names:?}");
    assert!(
        names.contains(&"Fldpi in real mode".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_refused_instruction_that_waits_for_a_device_is_finished() {
    let Some((kvm, _)) = rescuing() else { return };
    // aaa; in al, 20h; daa; out 10h, al; jmp -6, until an NMI comes with the fourth access
    let mut guest = Guest::real(&kvm, &[0x37, 0xE4, 0x20, 0x27, 0xE6, 0x10, 0xEB, 0xF9]);
    // The handler of the NMI: das; hlt
    guest.handler(2, &[0x2F, 0xF4]);
    let board = Arc::downgrade(&guest.board);
    let accesses = std::sync::atomic::AtomicU32::new(0);
    let hook = move |_| {
        let count = accesses.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        if count == 4
            && let Some(board) = board.upgrade()
        {
            board.post(Pending::NMI);
        }
    };
    assert!(guest.board.hook.set(Box::new(hook)).is_ok());
    let kick = guest.vcpu.kicker();
    kick.signal();
    let exit = loop {
        match guest.run() {
            VcpuExit::Kicked => {}
            other => break other,
        }
    };
    assert_eq!(exit, VcpuExit::Halted);
    let seen = guest.board.seen();
    assert!(seen.len() >= 4, "{seen:?}");
    assert!(
        seen.chunks(2)
            .take(2)
            .all(|pair| matches!(pair, [Seen::In(0x20, 1, 1), Seen::Out(0x10, 1, _)]))
    );
}

#[test]
fn an_interrupt_is_taken_between_refused_instructions() {
    let Some((kvm, _)) = rescuing() else { return };
    // daa; jmp -3
    let mut guest = Guest::real(&kvm, &[0x27, 0xEB, 0xFD]);
    // aas; out 11h, al; hlt
    guest.handler(0x40, &[0x3F, 0xE6, 0x11, 0xF4]);
    let mut state = real_state();
    state.rflags |= RFlags::IF;
    state.gpr[Gpr::Rsp as usize] = 0x8000;
    guest.vcpu.set_state(&state).unwrap();
    guest.board.raise(0x40);
    assert_eq!(guest.run(), VcpuExit::Halted);
    let seen = guest.board.seen();
    assert_eq!(seen[0], Seen::Ack(0x40));
    assert!(matches!(seen[1], Seen::Out(0x11, 1, _)), "{seen:?}");
    assert_eq!(guest.gpr(Gpr::Rsp), 0x8000 - 6);
}

#[test]
fn code_in_device_memory_is_an_error_not_a_hang() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::real(&kvm, &[0xEA, 0x00, 0x00, 0x00, 0xA0]); // jmp A000h:0
    let text = guest.try_run().unwrap_err().to_string();
    assert!(text.contains("cs=a000 (base a0000) rip=0"), "{text}");
}
