//! Breakpoints, watchpoints and steps over tiny guests in real mode, code at 1000h.

use super::*;
use crate::arch::{RFlags, Seg};
use crate::state::{CpuState, DR6_RESET};
use crate::test_bench::Bench;

const CODE: u64 = 0x1000;
const CX: usize = 1;
const SI: usize = 6;
const DI: usize = 7;

/// A guest that stands at its first instruction, with SP 8000h.
fn guest(code: &[u8]) -> (Engine, Bench) {
    let (mut engine, bench) = Bench::engine("max");
    bench.write(CODE, code);
    let mut state = CpuState::reset(0x663);
    let cs = &mut state.segments[Seg::Cs as usize];
    (cs.selector, cs.base) = (0, 0);
    state.rip = CODE;
    state.gpr[4] = 0x8000;
    engine.set_state(&state);
    (engine, bench)
}

fn breakpoints(at: &[u64]) -> DebugPoints {
    DebugPoints {
        breakpoints: at.to_vec(),
        ..DebugPoints::default()
    }
}

fn step() -> DebugPoints {
    DebugPoints {
        step: true,
        ..DebugPoints::default()
    }
}

fn watch(address: u64, len: u64, kind: WatchKind) -> Watchpoint {
    Watchpoint { address, len, kind }
}

fn watchpoints(all: &[Watchpoint]) -> DebugPoints {
    DebugPoints {
        watchpoints: all.to_vec(),
        ..DebugPoints::default()
    }
}

/// Sets points and goes on; how it stopped and where.
fn go(engine: &mut Engine, points: &DebugPoints) -> (Stop, u64) {
    engine.set_debug(points);
    let stop = engine.run();
    (stop, engine.state().rip)
}

/// Counts CX down from 3: `again: inc ax; dec cx; jnz again; hlt`.
const COUNTDOWN: &[u8] = &[0x40, 0x49, 0x75, 0xFC, 0xF4];

fn countdown() -> (Engine, Bench) {
    let (mut engine, bench) = guest(COUNTDOWN);
    let mut state = engine.state();
    state.gpr[CX] = 3;
    engine.set_state(&state);
    (engine, bench)
}

#[test]
fn a_breakpoint_inside_a_loop_stops_each_time_round() {
    let (mut engine, _bench) = countdown();
    let points = breakpoints(&[CODE + 1]);
    for left in [3, 2, 1] {
        assert_eq!(
            go(&mut engine, &points),
            (Stop::Breakpoint(CODE + 1), CODE + 1)
        );
        assert_eq!(engine.state().gpr[CX], left);
    }
    assert_eq!(go(&mut engine, &points), (Stop::Halted, CODE + 5));
}

#[test]
fn a_breakpoint_set_later_splits_blocks_that_are_there() {
    let (mut engine, _bench) = guest(COUNTDOWN);
    // Once round 65536 times without, so that everything is linked.
    assert_eq!(engine.run(), Stop::Halted);
    let mut state = engine.state();
    (state.rip, state.gpr[CX]) = (CODE, 2);
    state.activity = Activity::Running;
    engine.set_state(&state);
    let points = breakpoints(&[CODE + 2]);
    let met = (Stop::Breakpoint(CODE + 2), CODE + 2);
    assert_eq!(go(&mut engine, &points), met);
    assert_eq!(go(&mut engine, &points), met);
    let gone = DebugPoints::default();
    assert_eq!(go(&mut engine, &gone), (Stop::Halted, CODE + 5));
}

#[test]
fn where_the_guest_goes_on_a_breakpoint_passes_once() {
    let (mut engine, _bench) = countdown();
    let points = breakpoints(&[CODE]);
    assert_eq!(go(&mut engine, &points), (Stop::Breakpoint(CODE), CODE));
    assert_eq!(engine.state().gpr[CX], 2);
    // A jump to itself comes back.
    let (mut engine, _bench) = guest(&[0xEB, 0xFE]);
    let before = engine.retired();
    assert_eq!(go(&mut engine, &points), (Stop::Breakpoint(CODE), CODE));
    assert_eq!(engine.retired() - before, 1);
}

#[test]
fn a_breakpoint_counts_by_its_linear_address() {
    // jmp far 100h:10h is linear 1010h; 11010h has the same place in its page.
    let (mut engine, bench) = guest(&[0xEA, 0x10, 0x00, 0x00, 0x01]);
    bench.write(0x1010, &[0xF4]);
    assert_eq!(
        go(&mut engine, &breakpoints(&[0x1_1010])),
        (Stop::Halted, 0x11)
    );
    let (mut engine, bench) = guest(&[0xEA, 0x10, 0x00, 0x00, 0x01]);
    bench.write(0x1010, &[0xF4]);
    let met = (Stop::Breakpoint(0x1010), 0x10);
    assert_eq!(go(&mut engine, &breakpoints(&[0x1_1010, 0x1010])), met);
}

#[test]
fn a_breakpoint_behind_mov_ss_stops() {
    // mov ss, ax; nop; hlt
    let (mut engine, _bench) = guest(&[0x8E, 0xD0, 0x90, 0xF4]);
    let met = (Stop::Breakpoint(CODE + 2), CODE + 2);
    assert_eq!(go(&mut engine, &breakpoints(&[CODE + 2])), met);
}

/// `rep movsb; hlt`, five bytes from 2000h to 3000h.
fn copy() -> (Engine, Bench) {
    let (mut engine, bench) = guest(&[0xF3, 0xA4, 0xF4]);
    let mut state = engine.state();
    (state.gpr[CX], state.gpr[SI], state.gpr[DI]) = (5, 0x2000, 0x3000);
    engine.set_state(&state);
    bench.write(0x2000, b"abcde");
    (engine, bench)
}

#[test]
fn a_repeated_instruction_passes_whole() {
    let (mut engine, _bench) = copy();
    let points = breakpoints(&[CODE]);
    assert_eq!(go(&mut engine, &points), (Stop::Halted, CODE + 3));
    // Also when steps have begun it.
    let (mut engine, bench) = copy();
    assert_eq!(go(&mut engine, &step()), (Stop::Stepped, CODE));
    assert_eq!(engine.state().gpr[CX], 4);
    assert_eq!(go(&mut engine, &points), (Stop::Halted, CODE + 3));
    assert_eq!(bench.read(0x3000, 5), 0x65_6463_6261);
}

#[test]
fn steps_are_single_and_do_not_show() {
    // pushf; int 21h; there: popf; hlt
    let (mut engine, bench) = guest(&[0x9C, 0xCD, 0x21]);
    bench.write(4 * 0x21, &[0x00, 0x20, 0, 0]);
    bench.write(0x2000, &[0x9D, 0xF4]);
    for rip in [CODE + 1, 0x2000, 0x2001, 0x2002] {
        assert_eq!(go(&mut engine, &step()), (Stop::Stepped, rip));
    }
    let state = engine.state();
    assert_eq!(state.activity, Activity::Halted);
    assert_eq!(bench.read(0x7FFE, 2), 2, "the flags that were pushed");
    assert_eq!((state.rflags.bits() & 0x1_0100, state.dr6), (0, DR6_RESET));
    // Nothing ends the halt.
    assert_eq!(go(&mut engine, &step()).0, Stop::Halted);
}

#[test]
fn a_step_keeps_the_guests_own_single_step() {
    let (mut engine, bench) = guest(&[0x90, 0x90]);
    bench.write(4, &[0x00, 0x20, 0, 0]);
    let mut state = engine.state();
    state.rflags |= RFlags::TF;
    engine.set_state(&state);
    assert_eq!(go(&mut engine, &step()), (Stop::Stepped, 0x2000));
    assert_eq!(engine.state().dr6, DR6_RESET | 1 << 14);
}

/// `mov al, [3000h]; mov [3000h], al; mov al, [3001h]; hlt`.
const ACCESSES: &[u8] = &[0xA0, 0x00, 0x30, 0xA2, 0x00, 0x30, 0xA0, 0x01, 0x30, 0xF4];

#[test]
fn watchpoints_stop_behind_the_access() {
    for (kind, stops) in [
        (WatchKind::Read, &[3][..]),
        (WatchKind::Write, &[6]),
        (WatchKind::Access, &[3, 6]),
    ] {
        let (mut engine, _bench) = guest(ACCESSES);
        let point = watch(0x3000, 1, kind);
        let points = watchpoints(&[watch(0x2FF0, 16, WatchKind::Access), point]);
        for at in stops {
            let met = (Stop::Watchpoint(point), CODE + at);
            assert_eq!(go(&mut engine, &points), met);
        }
        let end = go(&mut engine, &points);
        assert_eq!(end, (Stop::Halted, CODE + 10), "{kind:?}");
        assert_eq!(engine.state().dr6, DR6_RESET);
    }
}

#[test]
fn a_watchpoint_set_later_takes_its_page_from_the_tlb() {
    // again: inc byte [3002h]; dec cx; jnz again; hlt
    let (mut engine, bench) = guest(&[0xFE, 0x06, 0x02, 0x30, 0x49, 0x75, 0xF9, 0xF4]);
    assert_eq!(engine.run(), Stop::Halted);
    let mut state = engine.state();
    (state.rip, state.gpr[CX]) = (CODE, 2);
    state.activity = Activity::Running;
    engine.set_state(&state);
    bench.write(0x3002, &[0]);
    // Overlapped by its second byte.
    let point = watch(0x3001, 2, WatchKind::Write);
    for value in [1, 2] {
        let met = (Stop::Watchpoint(point), CODE + 4);
        assert_eq!(go(&mut engine, &watchpoints(&[point])), met);
        assert_eq!(bench.read(0x3002, 1), value);
    }
}

#[test]
fn a_watchpoint_ends_a_repeated_instruction_behind_the_iteration() {
    let (mut engine, bench) = copy();
    let point = watch(0x3002, 1, WatchKind::Write);
    let met = (Stop::Watchpoint(point), CODE);
    assert_eq!(go(&mut engine, &watchpoints(&[point])), met);
    assert_eq!(engine.state().gpr[CX], 2);
    assert_eq!(bench.read(0x3000, 5), 0x63_6261);
    let end = go(&mut engine, &watchpoints(&[point]));
    assert_eq!(end, (Stop::Halted, CODE + 3));
}

#[test]
fn a_watchpoint_on_a_handlers_frame_stops_at_the_handler() {
    // ud2
    let (mut engine, bench) = guest(&[0x0F, 0x0B]);
    bench.write(4 * 6, &[0x00, 0x20, 0, 0]);
    let point = watch(0x7FFA, 2, WatchKind::Access);
    let met = (Stop::Watchpoint(point), 0x2000);
    assert_eq!(go(&mut engine, &watchpoints(&[point])), met);
}

#[test]
fn the_guests_own_breakpoints_work_beside() {
    let (mut engine, bench) = guest(ACCESSES);
    bench.write(4, &[0x00, 0x20, 0, 0]);
    bench.write(0x2000, &[0xCF]);
    let mut state = engine.state();
    (state.dr[0], state.dr7) = (0x3000, 0x400 | 3 | 1 << 16);
    engine.set_state(&state);
    // The guest's trap behind the write comes first, the debugger's stop at its handler.
    let point = watch(0x3000, 1, WatchKind::Write);
    let met = (Stop::Watchpoint(point), 0x2000);
    assert_eq!(go(&mut engine, &watchpoints(&[point])), met);
    assert_eq!(engine.state().dr6, DR6_RESET | 1);
    let points = breakpoints(&[CODE + 6]);
    let met = (Stop::Breakpoint(CODE + 6), CODE + 6);
    assert_eq!(go(&mut engine, &points), met);
}
