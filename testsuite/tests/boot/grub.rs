//! GRUB from CD-ROM and disk, by SeaBIOS.

use testsuite::boot::{BOOT, Guests};

use crate::{Folder, SOON};

/// GRUB's own rescue CD-ROM knows no serial port: SeaBIOS lends it one with `-nographic`.
#[test]
fn rescue_cdrom_answers_at_its_prompt() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().args(["-nographic"]);
    let mut run = machine.cdrom(&guests.file("grub-rescue-cdrom.iso")).start();
    run.wait_for("GNU GRUB", BOOT);
    run.wait_for("for a command-line", SOON);
    run.paste(b"c");
    run.wait_for("grub>", SOON);
    run.type_line("set a=twin");
    run.wait_for("grub>", SOON);
    run.type_line("echo answer-$a");
    run.wait_for("answer-twin", SOON);
    run.wait_for("grub>", SOON);
    run.type_line("ls (cd)/boot/grub");
    run.wait_for("grub.cfg", SOON);
    run.wait_for("grub>", SOON);
    run.type_line("halt");
    let log = run.log();
    let status = run.ends(SOON);
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn cdrom_boots_the_kernel() {
    let Some(guests) = Guests::one() else { return };
    let machine = guests.machine().serial().args(["-m", "256"]);
    let mut run = machine.cdrom(&guests.file("grub.iso")).start();
    run.wait_for("GNU GRUB", BOOT);
    run.wait_for("Linux version", BOOT);
    run.boot();
    let line = run.succeed("cat /proc/cmdline", SOON);
    assert!(line.contains("BOOT_IMAGE="), "{line}");
    run.power_off();
}

#[test]
fn disk_boots_the_kernel() {
    let Some(guests) = Guests::one() else { return };
    let folder = Folder::new("grub");
    let disk = folder.copy(&guests.file("grub-disk.img"));
    let machine = guests.machine().serial().args(["-m", "256"]);
    let mut run = machine.disk(&disk).start();
    run.wait_for("GNU GRUB", BOOT);
    run.wait_for("Debian cloud kernel", SOON);
    run.paste(b"\r");
    run.wait_for("Linux version", BOOT);
    run.boot();
    run.succeed(
        "mount /dev/sda1 /mnt && cmp /mnt/boot/initrd.gz /mnt/boot/initrd.gz",
        SOON,
    );
    run.power_off();
}
