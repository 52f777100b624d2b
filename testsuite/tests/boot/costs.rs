//! What a guest costs its host: an idle one, its memory, a boot beside QEMU's.

use std::thread::sleep;
use std::time::Duration;

use testsuite::boot::{Guests, Kernel, Machine, Usage};

/// Of one core.
const IDLE: f64 = 0.02;
/// Beside the guest RAM that has been touched, in KiB.
const OWN: u64 = 60 << 10;
/// Times QEMU's processor time.
const BOOT: f64 = 3.5;

#[test]
fn an_idle_guest_lets_its_host_idle() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    for kernel in [Kernel::Cloud, Kernel::Full] {
        let mut run = guests.machine().kernel(kernel, "").start();
        run.boot();
        // Late work of the boot.
        sleep(Duration::from_secs(3));
        let before = run.usage().cpu;
        sleep(Duration::from_secs(5));
        let part = (run.usage().cpu - before).as_secs_f64() / 5.0;
        let name = kernel.name();
        assert!(part < IDLE, "{name}: {:.1} % of a core", part * 100.0);
        run.power_off();
    }
}

#[test]
fn memory_is_the_guests() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().kernel(Kernel::Full, "");
    let mut run = machine.start();
    run.boot();
    let usage = run.usage();
    // QEMU's buffer of translated code is larger than that.
    let bound = OWN * if machine.emulator().is_qemu() { 10 } else { 1 };
    assert!(
        usage.own() <= bound,
        "{usage:?}: {} KiB of its own",
        usage.own()
    );
    run.power_off();
}

fn boot(machine: Machine<'_>) -> Usage {
    let mut run = machine.kernel(Kernel::Cloud, "").start();
    run.boot();
    let usage = run.usage();
    run.power_off();
    usage
}

#[test]
fn a_boot_beside_qemu() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let Some(reference) = guests.reference() else {
        return;
    };
    let theirs = boot(reference).cpu.as_secs_f64();
    let ours = boot(guests.machine()).cpu.as_secs_f64();
    let times = ours / theirs;
    assert!(times <= BOOT, "{ours} s, QEMU {theirs} s: {times:.2} times");
}
