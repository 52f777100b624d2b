//! User programs: faults become signals, arithmetic is right, a paste arrives whole.

use testsuite::boot::{BOOT, Guests, Kernel, Machine, PROMPT, Running};

use crate::SOON;

#[track_caller]
fn gives_the_right_signals(machine: &Machine<'_>, run: &mut Running) {
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
}

#[test]
fn faults_give_the_right_signals() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().kernel(Kernel::Cloud, "");
    let mut run = machine.start();
    run.boot();
    gives_the_right_signals(&machine, &mut run);
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

#[track_caller]
fn takes_a_paste(run: &mut Running) {
    // Every byte value, in no order.
    let bytes: Vec<u8> = (0..0x1_0000u32)
        .map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()[0])
        .collect();
    run.paste(b"guest-check paste 65536\n");
    run.wait_for("check: paste begins", SOON);
    run.paste(&bytes);
    run.wait_for(
        &format!("check: paste 65536 {:016x}", checksum(&bytes)),
        BOOT,
    );
    run.wait_for("check: paste ok", SOON);
}

#[test]
fn a_paste_of_64_kib_arrives_whole() {
    let Some(guests) = Guests::one() else { return };
    let mut run = guests.machine().kernel(Kernel::Cloud, "").start();
    run.boot();
    takes_a_paste(&mut run);
    run.power_off();
}

/// All of the above in one run, and a last thing.
#[track_caller]
fn programs_run(kernel: Kernel, at_last: fn(&mut Running)) {
    let Some(guests) = Guests::with(kernel) else {
        return;
    };
    let machine = guests.machine().kernel(kernel, "");
    let mut run = machine.start();
    run.boot();
    gives_the_right_signals(&machine, &mut run);
    run.succeed("guest-check math", BOOT);
    takes_a_paste(&mut run);
    run.wait_for(PROMPT, SOON);
    at_last(&mut run);
    run.power_off();
}

#[test]
fn programs_of_i686_and_reboot() {
    programs_run(Kernel::I686, |run| {
        run.succeed("touch /root/gone", SOON);
        run.paste(b"reboot -f\n");
        run.wait_for("Linux version", SOON * 2);
        run.boot();
        assert_eq!(run.command("ls /root/gone", SOON).status, 1);
    });
}

/// Its reboot is in `disks`.
#[test]
fn programs_of_i686_pae() {
    programs_run(Kernel::I686Pae, |run| {
        run.type_line("echo twix\x7fn-$((80+6))");
        run.wait_for("twin-86", SOON);
        run.wait_for(PROMPT, SOON);
    });
}
