//! The software CPU against a whole KVM, the AMD kind, in lockstep, inside a machine in QEMU: see
//! `testsuite::nested`. On this host's KVM: `embedded.rs` and `accel/tests/kvm/lockstep.rs`.

use std::thread;
use std::time::{Duration, Instant};

use testsuite::boot::{Kernel, PROMPT};
use testsuite::nested::Nested;

/// Enough for what takes seconds.
const SOON: Duration = Duration::from_secs(60);
/// What the monitor says when it can be told something.
const MONITOR: &str = "(twin86) ";
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
    let plan = format!("rip=0x{address}:lockstep,insns=2M:tcg");
    let machine = guests.machine().args(["-nographic", "-m", "256", "-stats"]);
    let machine = machine.args(["-append", "console=ttyS0 nokaslr", "-kernel"]);
    let machine = machine.args([guests.file("vmlinuz-cloud")]);
    let machine = machine.args(["-accel", "lockstep,mode=slice", "--accel-switch-at", &plan]);
    nested.start_on("tcg", &machine);
    nested.paste(b"\x01c");
    nested.wait_for(MONITOR, SOON);
    let begun = Instant::now();
    loop {
        nested.paste(b"info accel\n");
        if nested.wait_for_any(&["(switches: 2)", MONITOR, PROMPT], SOON) != 1 {
            break;
        }
        assert!(begun.elapsed() < SOON * 4, "{}", nested.said());
        thread::sleep(Duration::from_secs(1));
    }
    nested.paste(b"quit\n");
    let status = nested.ended(SOON);
    let said = nested.said();
    assert_eq!(status, 0, "{said}");
    let count = |name: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with(name));
        let last = line.and_then(|line| line.split_whitespace().last());
        last.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let checked = count("checked instructions");
    assert!(checked >= 2_000_000, "{said}");
    assert!(count("timing/TLB") <= checked / 100_000, "{said}");
}
