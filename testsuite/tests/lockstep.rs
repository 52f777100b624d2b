//! The software CPU against a whole KVM, the AMD kind, in lockstep, inside a machine in QEMU: see
//! `testsuite::nested`. On this host's KVM: `embedded.rs` and `accel/tests/kvm/lockstep.rs`.

use std::time::Duration;

use testsuite::boot::PROMPT;
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
