//! What a state carries from one engine to the other besides registers: events that were accepted
//! and not delivered, and the time-stamp counter.

use std::sync::Arc;

use accel::tcg::Tcg;
use accel::{Accel, CpuState, VcpuExit};
use emu::arch::{Gpr, RFlags};
use emu::state::{Activity, Queued};

use crate::{ACKNOWLEDGED, CODE, Guest, Seen, Wiring, kvm, map, real_state, skip};

/// Where the handlers of this file lie.
const LOW: usize = 0x9000;

impl Guest {
    /// The same guest on another engine: memory up to its stack, and the state.
    fn moved(&mut self, accel: &dyn Accel) -> Guest {
        let mut to = Guest::new(accel);
        to.ram.write(0, &self.ram.read::<LOW>(0));
        to.vcpu.set_state(&self.vcpu.state().unwrap()).unwrap();
        to
    }
}

/// The engines there are here.
fn engines() -> Vec<Box<dyn Accel>> {
    let kvm = kvm().map(|kvm| Box::new(kvm) as Box<dyn Accel>);
    let tcg: Box<dyn Accel> = Box::new(Tcg);
    std::iter::once(tcg).chain(kvm).collect()
}

fn out(port: u16) -> Seen {
    Seen::Out(port, 1, vec![0])
}

#[test]
fn an_acknowledged_interrupt_goes_with_the_state() {
    let Some(kvm) = kvm() else { return };
    for to in engines() {
        let mut guest = Guest::real(&kvm, &[0xE6, 0x61, 0xF4]); // out 61h, al; hlt
        guest.handler(0x22, &[0xE6, 0x60, 0xCF]); // out 60h, al; iret
        let mut state = real_state();
        state.rflags |= RFlags::IF;
        guest.vcpu.set_state(&state).unwrap();
        guest.kick_at(ACKNOWLEDGED);
        guest.board.raise(0x22);
        assert_eq!(guest.run(), VcpuExit::Kicked);
        assert_eq!(guest.board.seen(), [Seen::Ack(0x22)]);
        let state = guest.vcpu.state().unwrap();
        assert_eq!(
            (state.queued, state.rip),
            (Some(Queued::Interrupt(0x22)), CODE)
        );
        let mut moved = guest.moved(&*to);
        assert_eq!(moved.run(), VcpuExit::Halted);
        assert_eq!(moved.board.seen(), [out(0x60), out(0x61)], "{}", to.name());
        assert_eq!(moved.vcpu.state().unwrap().queued, None);
        // Reading the state has taken nothing from the first.
        assert_eq!(guest.run(), VcpuExit::Halted);
        assert_eq!(guest.board.seen(), [out(0x60), out(0x61)]);
    }
}

#[test]
fn a_queued_event_wakes_and_comes_first() {
    for engine in engines() {
        let exception = Queued::Exception {
            vector: 13,
            error_code: Some(0),
        };
        let all = [
            (13, exception),
            (2, Queued::Nmi),
            (0x30, Queued::Interrupt(0x30)),
        ];
        for (vector, queued) in all {
            let mut guest = Guest::on(&*engine, &[0xE6, 0x61, 0xF4]);
            guest.handler(vector, &[0xE6, 0x60, 0xCF]);
            let mut state = real_state();
            state.queued = Some(queued);
            state.nmi_masked = queued == Queued::Nmi;
            state.activity = Activity::Halted;
            guest.vcpu.set_state(&state).unwrap();
            assert_eq!(guest.run(), VcpuExit::Halted);
            let seen = guest.board.seen();
            assert_eq!(
                seen,
                [out(0x60), out(0x61)],
                "{queued:?}, {}",
                engine.name()
            );
            assert!(!guest.vcpu.state().unwrap().nmi_masked);
        }
    }
}

#[test]
fn an_nmi_that_waits_goes_with_the_state() {
    let Some(kvm) = kvm() else { return };
    for to in engines() {
        // Behind it a KVM that emulates has time to look.
        #[rustfmt::skip]
        let mut guest = Guest::real(&kvm, &[
            0xE6, 0x61, 0xCF, 0xB9, 0x00, 0x20, 0xE2, 0xFE, 0xF4,   // out 61h, al; iret; mov cx, 2000h; loop $; hlt
        ]);
        guest.handler(2, &[0xE6, 0x60, 0xF4]); // out 60h, al; hlt
        guest.ram.write(0x8000, &[0x03, 0x10, 0, 0, 2, 0]);
        let mut state = real_state();
        state.nmi_masked = true;
        guest.vcpu.set_state(&state).unwrap();
        guest.kick_at(0x61);
        guest.board.post(accel::Pending::NMI);
        assert_eq!(guest.run(), VcpuExit::Kicked);
        assert_eq!(guest.board.seen(), [out(0x61)]);
        assert!(guest.vcpu.state().unwrap().nmi_pending);
        let mut moved = guest.moved(&*to);
        assert_eq!(moved.run(), VcpuExit::Halted);
        assert_eq!(moved.board.seen(), [out(0x60)], "{}", to.name());
        let state = moved.vcpu.state().unwrap();
        assert!(state.nmi_masked && !state.nmi_pending);
    }
}

#[test]
fn the_time_stamp_counter_goes_with_the_state() {
    /// Far beyond what a counter that began with the test reaches: over an hour.
    const FAR: u64 = 1 << 43;
    let whole = kvm().filter(|kvm| !kvm.is_partial());
    if whole.is_none() {
        skip(&"no whole KVM: a partial one's guests read the host's time-stamp counter");
    }
    let tcg: Box<dyn Accel> = Box::new(Tcg);
    let kvm = whole.map(|kvm| Box::new(kvm) as Box<dyn Accel>);
    let engines: Vec<_> = std::iter::once(tcg).chain(kvm).collect();
    for (from, to) in engines
        .iter()
        .flat_map(|a| engines.iter().map(move |b| (a, b)))
    {
        #[rustfmt::skip]
        let mut guest = Guest::on(&**from, &[
            0x0F, 0x31, 0xE6, 0x60,                                 // rdtsc; out 60h, al
            0x66, 0x89, 0xD3, 0x66, 0x81, 0xC2, 0, 8, 0, 0,         // mov ebx, edx; add edx, 800h
            0x66, 0xB9, 0x10, 0, 0, 0, 0x0F, 0x30, 0xE6, 0x61,      // mov ecx, 10h; wrmsr; out 61h, al
            0x0F, 0x31, 0xF4,                                       // rdtsc; hlt
        ]);
        let mut state = real_state();
        state.tsc_offset = FAR;
        guest.vcpu.set_state(&state).unwrap();
        guest.kick_at(0x61);
        assert_eq!(guest.run(), VcpuExit::Kicked);
        assert_eq!(
            guest.gpr(Gpr::Rbx),
            FAR >> 32,
            "{} reads what was set",
            from.name()
        );
        let mut moved = guest.moved(&**to);
        assert_eq!(moved.run(), VcpuExit::Halted);
        let edx = moved.gpr(Gpr::Rdx);
        assert_eq!(edx, FAR >> 31, "{} to {}", from.name(), to.name());
    }
}

#[test]
fn a_counter_set_twice_within_a_second_is_what_was_set_last() {
    let Some(kvm) = kvm().filter(|kvm| !kvm.is_partial()) else {
        skip(&"no whole KVM: a partial one's guests read the host's time-stamp counter");
        return;
    };
    /// Half of what is set apart passes in no run of one instruction.
    const STEP: u64 = 1_900_000_000;
    let mut guest = Guest::real(&kvm, &[0xF4]);
    for offset in [10 * STEP, 9 * STEP, 8 * STEP] {
        let mut state = real_state();
        state.tsc_offset = offset;
        guest.vcpu.set_state(&state).unwrap();
        assert_eq!(guest.run(), VcpuExit::Halted);
        // The board's own counter stands at 0.
        let ahead = guest.vcpu.state().unwrap().tsc_offset - offset;
        assert!(ahead < STEP / 2, "{ahead} ahead of {offset}");
    }
}

/// The counter of an engine that is left goes on unseen: the guest's is what the state says.
#[test]
fn a_counter_stands_where_it_was_left() {
    let Some(kvm) = kvm().filter(|kvm| !kvm.is_partial()) else {
        skip(&"no whole KVM: a partial one's guests read the host's time-stamp counter");
        return;
    };
    let mut guest = Guest::real(&kvm, &[0x0F, 0x31, 0xF4]); // rdtsc; hlt
    assert_eq!(guest.run(), VcpuExit::Halted);
    let left = guest.vcpu.leave().unwrap();
    let pause = std::time::Duration::from_millis(500);
    std::thread::sleep(pause);
    let again = real_state();
    let state = CpuState {
        tsc_offset: left.tsc_offset,
        ..again
    };
    guest.vcpu.set_state(&state).unwrap();
    assert_eq!(guest.run(), VcpuExit::Halted);
    let read = guest.gpr(Gpr::Rdx) << 32 | guest.gpr(Gpr::Rax) & 0xFFFF_FFFF;
    let passed = read.wrapping_sub(left.tsc_offset);
    let slept = kvm.tsc_hz().unwrap_or(1_000_000_000) / 2;
    assert!(passed < slept / 2, "{passed} of {slept}");
}

/// What a guest has written is in the marks when its engine is left.
#[test]
fn written_pages_are_marked_when_the_engine_is_left() {
    for engine in engines() {
        let mut guest = Guest::on(&*engine, &[0xC6, 0x06, 0x00, 0x50, 0x01, 0xF4]); // mov byte [5000h], 1; hlt
        let wiring = Wiring {
            log_dirty: true,
            ..Wiring::default()
        };
        let map = map(&guest.ram, wiring);
        let marks = Arc::clone(&map.ranges()[0].block.marks);
        guest.vm.set_memory_map(map).unwrap();
        assert_eq!(guest.run(), VcpuExit::Halted);
        guest.vcpu.leave().unwrap();
        let written = emu::memory::take_dirty(&marks);
        assert!(written.contains(&5), "{}: {written:?}", engine.name());
    }
}
