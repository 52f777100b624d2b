//! User programs: faults become signals, arithmetic is right, a paste arrives whole.

use testsuite::boot::{BOOT, Guests, Kernel};

use crate::SOON;

#[test]
fn faults_give_the_right_signals() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().kernel(Kernel::Cloud, "");
    let mut run = machine.start();
    run.boot();
    let said = run.succeed("guest-check signals", SOON);
    for line in [
        "signal ud2 4 code 2",
        "signal divide 8 code 1",
        "signal null-read 11 code 1",
        "signal int3 5 code 128",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    // QEMU raises no #XM.
    if !machine.emulator().is_qemu() {
        run.succeed("guest-check signals sse-divide", SOON);
    }
    run.power_off();
}

#[test]
fn arithmetic_is_right_across_switches() {
    let Some(guests) = Guests::one() else { return };
    let mut run = guests.machine().kernel(Kernel::Cloud, "").start();
    run.boot();
    run.succeed("guest-check math", BOOT);
    run.power_off();
}

/// FNV-1a, as guest-check computes it.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[test]
fn a_paste_of_64_kib_arrives_whole() {
    let Some(guests) = Guests::one() else { return };
    // Every byte value, in no order.
    let bytes: Vec<u8> = (0..0x1_0000u32)
        .map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()[0])
        .collect();
    let mut run = guests.machine().kernel(Kernel::Cloud, "").start();
    run.boot();
    run.paste(b"guest-check paste 65536\n");
    run.wait_for("check: paste begins", SOON);
    run.paste(&bytes);
    run.wait_for(
        &format!("check: paste 65536 {:016x}", checksum(&bytes)),
        BOOT,
    );
    run.wait_for("check: paste ok", SOON);
    run.power_off();
}
