//! What firmware and kernel say of the machine, beside what they say of QEMU's.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testsuite::boot::{BOOT, Guests, Kernel, Known, Machine, apart};

use crate::{Folder, SOON};

/// Lines of the kernel, at most five, that QEMU's machine has or lacks.
const KERNEL: &[Known] = &[];
/// Lines of SeaBIOS, at most twelve.
const FIRMWARE: &[Known] = &[
    Known {
        part: "Searching bootorder for: /rom@genroms/kvmvapic.bin",
        cause: "an option ROM of QEMU's for old guests under KVM, which is not provided",
    },
    Known {
        part: "Running option rom at #:#",
        cause: "the same ROM; the VGA BIOS's line is on both sides",
    },
    Known {
        part: "DVD/CD [ata#-#: ",
        cause: "each emulator's drive has a name of its own",
    },
    Known {
        part: "HARDDISK ATA-# Hard-Disk",
        cause: "the same",
    },
];

/// Lines by which a kernel finds its time base disturbed: any emulator's guest has them now and
/// then on a busy host, and the clocks have tests of their own.
const DISTURBED: &[Known] = &[
    Known {
        part: "APIC calibration not consistent with PM-Timer",
        cause: "the emulator was not on a processor for some ms of the calibration",
    },
    Known {
        part: "tsc: Unable to calibrate against PIT",
        cause: "the same; PM timer or HPET is taken instead",
    },
    Known {
        part: "tsc: Fast TSC calibration failed",
        cause: "the same",
    },
    Known {
        part: "hrtimer: interrupt took",
        cause: "the emulator was not on a processor while an interrupt was served",
    },
];

const fn bounded(known: &[Known], most: usize) {
    assert!(known.len() <= most, "more differences than may be known");
}
const _: () = bounded(KERNEL, 5);
const _: () = bounded(FIRMWARE, 12);

/// Errors and warnings of a boot with disk and CD-ROM.
fn complaints(machine: Machine<'_>, kernel: Kernel, append: &str, media: &[PathBuf; 2]) -> String {
    let machine = machine.kernel(kernel, append);
    let mut run = machine.disk(&media[0]).cdrom(&media[1]).start();
    run.boot();
    run.succeed("dmesg -n 1", SOON);
    let said = run.command("dmesg -r | grep '^<[0-4]>'", SOON).text;
    run.power_off();
    said
}

#[track_caller]
fn no_more_complaints(kernel: Kernel, append: &str) {
    let Some(guests) = Guests::alone().filter(|guests| guests.has(kernel)) else {
        return;
    };
    let Some(reference) = guests.reference() else {
        return;
    };
    let folder = Folder::new(&format!("dmesg-{}-{append}", kernel.name()));
    let disk = folder.copy(&guests.file("grub-disk.img"));
    let media = [disk, guests.file("grub.iso")];
    let theirs = complaints(reference, kernel, append, &media);
    let ours = complaints(guests.machine(), kernel, append, &media);
    let mut lines = apart(&ours, &theirs, &[KERNEL, DISTURBED].concat());
    lines.retain(|line| line.starts_with('+'));
    assert!(lines.is_empty(), "not in QEMU:\n{}", lines.join("\n"));
}

#[test]
fn cloud_kernel_complains_of_nothing_more() {
    no_more_complaints(Kernel::Cloud, "");
}

#[test]
fn cloud_kernel_complains_of_nothing_more_noapic() {
    no_more_complaints(Kernel::Cloud, "noapic");
}

#[test]
fn full_kernel_complains_of_nothing_more() {
    no_more_complaints(Kernel::Full, "");
}

#[test]
fn i686_kernel_complains_of_nothing_more_noapic() {
    no_more_complaints(Kernel::I686, "noapic");
}

#[test]
fn i686_pae_kernel_complains_of_nothing_more() {
    no_more_complaints(Kernel::I686Pae, "");
}

/// What the kernel finds of four serial ports, and what of a line sent through each comes out.
fn serial_ports(machine: Machine<'_>, folder: &Folder) -> (String, Vec<String>) {
    let files: Vec<PathBuf> = (1..4).map(|n| folder.path(&format!("ttyS{n}"))).collect();
    let mut machine = machine.kernel(Kernel::Cloud, "8250.nr_uarts=4");
    for file in &files {
        machine = machine.args(["-serial".to_string(), format!("file:{}", file.display())]);
    }
    let mut run = machine.start();
    run.boot();
    // What the kernel still finds out would stand in the middle of what is compared.
    run.succeed("dmesg -n 1", SOON);
    let mut said = run.succeed("dmesg | grep -o 'ttyS[0-9] at.*' | sort", SOON);
    // Ports that share an interrupt, both in use. (The DSDTs name the ports in different orders.)
    run.succeed(
        "for n in 1 2 3; do echo \"this is $n\" >/dev/ttyS$n; done; sleep 1000 </dev/ttyS2 & \
         for n in 1 2 3 4 5 6 7 8; do echo \"line $n of a longer text\" >/dev/ttyS2; done; kill %1",
        SOON,
    );
    said += &run.succeed(
        "sed 's/ [tr]x:.*//' /proc/tty/driver/serial; grep -o 'ttyS.*' /proc/interrupts",
        SOON,
    );
    run.power_off();
    let text = |file| fs::read_to_string(file).unwrap_or_default();
    (said, files.iter().map(text).collect())
}

#[test]
fn four_serial_ports() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let Some(reference) = guests.reference() else {
        return;
    };
    let folder = Folder::new("serial");
    let theirs = serial_ports(reference, &folder);
    let ours = serial_ports(guests.machine(), &folder);
    assert_eq!(ours, theirs);
    for part in ["ttyS2 at I/O 0x3e8 (irq = 4", "ttyS3 at I/O 0x2e8 (irq = 3"] {
        assert!(ours.0.contains(part), "{}", ours.0);
    }
    assert!(
        ours.1[1].contains("line 8 of a longer text"),
        "{:?}",
        ours.1
    );
    assert!(ours.1[2].contains("this is 3"), "{:?}", ours.1);
}

/// SeaBIOS's log up to where it starts `boots`.
fn firmware_log(machine: &Machine<'_>, folder: &Folder, boots: &str) -> String {
    let file = folder.path("log");
    let _ = fs::remove_file(&file);
    let machine = machine.clone().firmware_log(&file);
    let _run = machine.start();
    let deadline = Instant::now() + BOOT;
    loop {
        let log = fs::read(&file).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        if let Some((until, _)) = log.split_once(boots) {
            return until.to_owned();
        }
        assert!(Instant::now() < deadline, "no {boots:?} in\n{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SeaBIOS says the same of both machines with the same options.
#[track_caller]
fn the_same_log(name: &str, boots: &str, with: impl Fn(Machine<'_>) -> Machine<'_>) {
    let Some(guests) = Guests::one() else { return };
    let Some(reference) = guests.reference() else {
        return;
    };
    let folder = Folder::new(name);
    let theirs = firmware_log(&with(reference), &folder, boots);
    let ours = firmware_log(&with(guests.machine()), &folder, boots);
    let lines = apart(&ours, &theirs, FIRMWARE);
    assert!(lines.is_empty(), "+ ours, - QEMU's:\n{}", lines.join("\n"));
}

#[test]
fn firmware_says_the_same_with_a_kernel() {
    the_same_log("log-kernel", "Booting from ROM", |machine| {
        machine.kernel(Kernel::Cloud, "")
    });
}

#[test]
fn firmware_says_the_same_with_drives() {
    let Some(guests) = Guests::one() else { return };
    let media = ["grub-disk.img", "grub-rescue-cdrom.iso"].map(|name| guests.file(name));
    drop(guests);
    the_same_log("log-drives", "Booting from 0000:7c00", |machine| {
        let machine = machine.args(["-nographic", "-snapshot", "-boot", "d"]);
        machine.disk(&media[0]).cdrom(&media[1])
    });
}
