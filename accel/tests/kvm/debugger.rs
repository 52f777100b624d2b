//! Steps, breakpoints and watchpoints for a debugger.

use accel::{Accel, AccelError, DebugPoints, DebugStop, VcpuExit, WatchKind, Watchpoint};
use emu::arch::{Gpr, RFlags};
use emu::state::Activity;

use super::{CODE, Guest, Seen, kvm, long_state};

fn points(step: bool, breakpoints: &[u64], watchpoints: &[Watchpoint]) -> DebugPoints {
    DebugPoints {
        step,
        breakpoints: breakpoints.to_vec(),
        watchpoints: watchpoints.to_vec(),
    }
}

/// Sets what to stop at, runs: how it stopped and where.
fn debugged(guest: &mut Guest, points: &DebugPoints) -> (VcpuExit, u64) {
    guest.vcpu.set_debug(points).unwrap();
    let exit = guest.run();
    (exit, guest.vcpu.state().unwrap().rip)
}

/// `inc eax; mov [3000h], al; dec ecx; jnz -12; out 10h, al; hlt` in 64-bit code.
const DEBUGGED: &[u8] = &[
    0xFF, 0xC0, 0x88, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00, 0xFF, 0xC9, 0x75, 0xF3, 0xE6, 0x10, 0xF4,
];

#[test]
fn a_debugger_steps() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::long(&kvm, DEBUGGED);
    let mut state = long_state();
    state.gpr[Gpr::Rcx as usize] = 1;
    guest.vcpu.set_state(&state).unwrap();
    let step = points(true, &[], &[]);
    for at in [2, 9, 11, 13, 15, 16] {
        let stepped = (VcpuExit::Debug(DebugStop::Step), CODE + at);
        assert_eq!(debugged(&mut guest, &step), stepped);
    }
    let state = guest.vcpu.state().unwrap();
    assert_eq!(state.activity, Activity::Halted);
    assert!(!state.rflags.contains(RFlags::TF));
    assert_eq!(guest.board.seen(), [Seen::Out(0x10, 1, vec![1])]);
}

#[test]
fn a_debugger_breaks() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::long(&kvm, DEBUGGED);
    let mut state = long_state();
    state.gpr[Gpr::Rcx as usize] = 2;
    guest.vcpu.set_state(&state).unwrap();
    let loops = points(false, &[CODE + 9], &[]);
    let met = (VcpuExit::Debug(DebugStop::Breakpoint(CODE + 9)), CODE + 9);
    assert_eq!(debugged(&mut guest, &loops), met);
    // Passed where it stands, met again next time round.
    assert_eq!(debugged(&mut guest, &loops), met);
    assert_eq!(guest.gpr(Gpr::Rax), 2);
    assert_eq!(debugged(&mut guest, &loops), (VcpuExit::Halted, CODE + 16));
    let many = points(false, &[1, 2, 3, 4, 5], &[]);
    let refused = guest.vcpu.set_debug(&many);
    assert!(matches!(
        refused,
        Err(AccelError::DebugRegisters { limit: 4 })
    ));
}

#[test]
fn a_debugger_watches() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::long(&kvm, DEBUGGED);
    let watchpoint = Watchpoint {
        address: 0x3000,
        len: 1,
        kind: WatchKind::Write,
    };
    let stop = VcpuExit::Debug(DebugStop::Watchpoint(watchpoint));
    let watch = points(false, &[], &[watchpoint]);
    if kvm.partial() {
        let refused = guest.vcpu.set_debug(&watch);
        assert!(matches!(refused, Err(AccelError::PartialKvm { .. })));
        return;
    }
    assert_eq!(debugged(&mut guest, &watch), (stop, CODE + 9));
    assert_eq!(debugged(&mut guest, &watch), (stop, CODE + 9));
    assert_eq!(guest.gpr(Gpr::Rax), 2);
}

#[test]
fn a_debugger_steps_and_breaks_in_real_mode() {
    let Some(kvm) = kvm() else { return };
    // inc ax; out 10h, al; inc ax; hlt
    let mut guest = Guest::real(&kvm, &[0x40, 0xE6, 0x10, 0x40, 0xF4]);
    let step = points(true, &[], &[]);
    let stepped = |at| (VcpuExit::Debug(DebugStop::Step), CODE + at);
    assert_eq!(debugged(&mut guest, &step), stepped(1));
    assert_eq!(debugged(&mut guest, &step), stepped(3));
    let ahead = points(false, &[CODE + 4], &[]);
    let met = (VcpuExit::Debug(DebugStop::Breakpoint(CODE + 4)), CODE + 4);
    assert_eq!(debugged(&mut guest, &ahead), met);
    assert_eq!(debugged(&mut guest, &ahead), (VcpuExit::Halted, CODE + 5));
}
