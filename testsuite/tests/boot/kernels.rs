//! Debian's kernels come up, obey, and end the machine: by firmware and without, by IOAPIC and 8259.

use accel::kvm::Kvm;
use testsuite::boot::{Guests, Kernel, PROMPT};
use testsuite::skip::skip;

use crate::SOON;

const FIRMWARE: &[&str] = &[];
const NO_FIRMWARE: &[&str] = &["-bios", "none"];

/// Boots to the shell, types, turns off.
#[track_caller]
fn comes_up(kernel: Kernel, firmware: &[&str], append: &str) {
    let Some(guests) = Guests::with(kernel) else {
        return;
    };
    let mut run = guests
        .machine()
        .kernel(kernel, append)
        .args(firmware)
        .start();
    run.boot();
    // The arithmetic keeps the answer out of the echo.
    run.type_line("echo \"6 * 7 = $((6*7))\"");
    run.wait_for("6 * 7 = 42", SOON);
    let interrupts = run.succeed("cat /proc/interrupts", SOON);
    let pic = interrupts
        .lines()
        .any(|l| l.contains("XT-PIC") && l.ends_with("timer"));
    assert_eq!(pic, append == "noapic", "{interrupts}");
    // A line that is edited, and a program that is stopped from the keyboard.
    run.type_line("echo twix\x7fn-$((80+6))");
    run.wait_for("twin-86", SOON);
    run.wait_for(PROMPT, SOON);
    run.type_line("sleep 1000");
    run.paste(b"\x03");
    run.wait_for(PROMPT, SOON);
    assert_eq!(run.command("ls /nowhere", SOON).status, 1);
    run.power_off();
}

#[test]
fn cloud_kernel() {
    comes_up(Kernel::Cloud, FIRMWARE, "");
}

#[test]
fn cloud_kernel_noapic() {
    comes_up(Kernel::Cloud, FIRMWARE, "noapic");
}

#[test]
fn cloud_kernel_without_firmware() {
    comes_up(Kernel::Cloud, NO_FIRMWARE, "");
}

#[test]
fn cloud_kernel_without_firmware_noapic() {
    comes_up(Kernel::Cloud, NO_FIRMWARE, "noapic");
}

#[test]
fn full_kernel() {
    comes_up(Kernel::Full, FIRMWARE, "");
}

#[test]
fn full_kernel_noapic() {
    comes_up(Kernel::Full, FIRMWARE, "noapic");
}

#[test]
fn full_kernel_without_firmware() {
    comes_up(Kernel::Full, NO_FIRMWARE, "");
}

#[test]
fn full_kernel_without_firmware_noapic() {
    comes_up(Kernel::Full, NO_FIRMWARE, "noapic");
}

// With firmware the 32-bit kernels are met in `programs`, `disks` and, with noapic, `logs`.
#[test]
fn i686_kernel_without_firmware_noapic() {
    comes_up(Kernel::I686, NO_FIRMWARE, "noapic");
}

#[test]
fn i686_pae_kernel_without_firmware() {
    comes_up(Kernel::I686Pae, NO_FIRMWARE, "");
}

/// `reboot -f` starts the guest again; with `-no-reboot` it ends the run.
#[track_caller]
fn reboots(firmware: &[&str]) {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().kernel(Kernel::Cloud, "").args(firmware);
    let mut run = machine.start();
    run.boot();
    run.succeed("touch /root/gone", SOON);
    run.paste(b"reboot -f\n");
    run.wait_for("Linux version", SOON * 2);
    run.boot();
    assert_eq!(run.command("ls /root/gone", SOON).status, 1);
    run.power_off();

    let mut run = machine.args(["-no-reboot"]).start();
    run.boot();
    run.paste(b"reboot -f\n");
    let log = run.log();
    let status = run.ends(SOON);
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn reboot() {
    reboots(FIRMWARE);
}

#[test]
fn reboot_without_firmware() {
    reboots(NO_FIRMWARE);
}

/// Whatever KVM this host has, with the software CPU to help it: programs that compute for long enough
/// to be run by the processor come to the right end.
#[test]
fn cloud_kernel_on_this_hosts_kvm() {
    if let Err(error) = Kvm::open() {
        return skip("kvm", &error);
    }
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().kernel(Kernel::Cloud, "");
    let mut run = machine.accel("kvm").start();
    run.boot();
    run.succeed("guest-check signals && guest-check math", SOON);
    let sums = "for i in 1 2 3 4 5 6 7 8; do sha256sum /bin/busybox; done | sort -u | wc -l";
    // The echo of a long line wraps.
    let said = run.succeed(sums, SOON);
    assert_eq!(said.lines().last(), Some("1"), "the same sum each time");
    let loops = "awk 'BEGIN { for (i = 0; i < 2000000; i++) s += i; print s / 1000 }'";
    let sum = run.succeed(loops, SOON);
    assert!(sum.contains("1999999000"), "{sum}");
    run.power_off();
}
