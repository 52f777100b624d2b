//! How soon a running processor looks up, on every engine.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use accel::tcg::Tcg;
use accel::{Accel, CpuState, VcpuExit};
use emu::arch::Seg;

use super::{CODE, Guest, PATIENCE, Seen, kvm, long_state, real_state};

/// Kicks of a run.
const KICKS: u64 = 200;
/// What a kick may take, by the median.
const SOON: Duration = Duration::from_millis(1);

/// `jmp $` in 64-bit ring 3.
fn ring3() -> CpuState {
    let mut state = long_state();
    state.segments[Seg::Cs as usize].selector = 0x1B;
    state.segments[Seg::Cs as usize].access = 0xA0FB;
    state.segments[Seg::Ss as usize].selector = 0x23;
    state.segments[Seg::Ss as usize].access = 0xC0F3;
    state
}

/// The engines with a name, KVM in all its forms.
fn engines() -> Vec<(&'static str, Box<dyn Accel>)> {
    let mut engines: Vec<(&str, Box<dyn Accel>)> = vec![("tcg", Box::new(Tcg))];
    if let Some(kvm) = kvm() {
        engines.push(("kvm", Box::new(kvm)));
    }
    if let Some(kvm) = kvm() {
        let rescued = kvm.with_rescue(Arc::default()).refusals_only();
        engines.push(("kvm, refusals rescued", Box::new(rescued)));
    }
    if let Some(kvm) = kvm() {
        engines.push(("kvm, rescued", Box::new(kvm.with_rescue(Arc::default()))));
    }
    engines
}

/// A guest that loops for ever.
fn looping(accel: &dyn Accel, state: &CpuState) -> Guest {
    let mut guest = Guest::new(accel);
    // jmp $
    guest.ram.write(CODE, &[0xEB, 0xFE]);
    guest.user_page_tables();
    guest.vcpu.set_state(state).unwrap();
    guest
}

/// The median of what kicks from another thread took, each at another moment of the loop; each is
/// answered.
fn median(guest: &mut Guest) -> Duration {
    let kicker = guest.vcpu.kicker();
    let (returned, returns) = mpsc::channel::<Instant>();
    let other = thread::spawn(move || {
        let mut took = Vec::new();
        for i in 0..KICKS {
            thread::sleep(Duration::from_micros(i * 37 % 500));
            let start = Instant::now();
            kicker.kick();
            let end = returns.recv_timeout(PATIENCE).expect("a kick is not lost");
            took.push(end.saturating_duration_since(start));
        }
        took.sort();
        took[took.len() / 2]
    });
    for _ in 0..KICKS {
        assert_eq!(guest.run(), VcpuExit::Kicked);
        // It may have given up.
        let _ = returned.send(Instant::now());
    }
    other.join().unwrap()
}

#[test]
fn a_kick_is_answered_soon_and_never_lost() {
    for (name, accel) in engines() {
        for (mode, state) in [("real mode", real_state()), ("ring 3", ring3())] {
            let mut guest = looping(&*accel, &state);
            guest.vcpu.kicker().kick();
            let exit = guest.run();
            assert_eq!(exit, VcpuExit::Kicked, "{name}: a kick before run counts");
            // A busy host may take the processor away.
            let soon = (0..3).map(|_| median(&mut guest)).find(|took| *took < SOON);
            assert!(soon.is_some(), "{name}, {mode}: later than {SOON:?}");
        }
    }
}

#[test]
fn a_signal_from_another_thread_brings_the_interrupt_in() {
    for (name, accel) in engines() {
        let mut guest = Guest::on(&*accel, &[0xFB, 0xEB, 0xFE]); // sti; jmp $
        guest.handler(0x22, &[0xE6, 0x60, 0xCF]); // out 60h, al; iret
        guest.kick_at(0x60);
        for _ in 0..50 {
            let (board, kicker) = (Arc::clone(&guest.board), guest.vcpu.kicker());
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_micros(300));
                board.raise(0x22);
                kicker.signal();
            });
            assert_eq!(guest.run(), VcpuExit::Kicked, "{name}");
            other.join().unwrap();
            let expected = [Seen::Ack(0x22), Seen::Out(0x60, 1, vec![0])];
            assert_eq!(guest.board.seen(), expected, "{name}");
        }
    }
}
