//! The software CPU against a whole KVM, the AMD kind, in lockstep, inside a machine in QEMU: see
//! `testsuite::nested`. On this host's KVM: `embedded.rs` and `accel/tests/kvm/lockstep.rs`.

use std::time::Duration;

use testsuite::boot::{Kernel, PROMPT};
use testsuite::nested::Nested;

/// Enough for what takes seconds.
const SOON: Duration = Duration::from_secs(60);
/// What SeaBIOS says when nothing is left to boot.
const NOTHING: &str = "No bootable device";

/// SeaBIOS to the end of its boot attempts, compared behind each access to the board.
#[test]
fn firmware_agrees_at_each_exit() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let bios = guests.file("bios-256k.bin");
    let machine = guests.machine().args(["-nographic", "-stats", "-bios"]);
    nested.start_on("lockstep,mode=exit", &machine.args([bios]));
    if nested.wait_for_any(&[NOTHING, PROMPT], SOON * 4) == 1 {
        panic!("{}", nested.said());
    }
    nested.paste(b"\x01x");
    let status = nested.ended(SOON);
    let said = nested.said();
    assert_eq!(status, 0, "{said}");
}

/// Debian's kernel, from its first C function on.
#[test]
fn a_kernel_agrees_from_start_kernel() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let mut running = guests.machine().kernel(Kernel::Cloud, "nokaslr").start();
    running.boot();
    let line = running.succeed("grep ' start_kernel$' /proc/kallsyms", SOON);
    running.power_off();
    let address = line.split(' ').next().unwrap_or_default();
    let at = format!("rip=0x{address}:lockstep");
    let machine = guests
        .machine()
        .kernel(Kernel::Cloud, "nokaslr");
    let machine = machine.args(["-accel", "lockstep,mode=slice", "-d", "lockstep", "-stats"]);
    nested.start_on("tcg", &machine.args(["--accel-switch-at", &at]));
    if nested.wait_for_any(&["Memory: ", PROMPT], SOON * 4) == 1 {
        panic!("{}", nested.said());
    }
    nested.paste(b"\x01x");
    let status = nested.ended(SOON);
    let said = nested.said();
    assert_eq!(status, 0, "{said}");
}
