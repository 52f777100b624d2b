//! An IDE disk from empty to read back, and a CD-ROM.

use std::fs;
use std::path::Path;
use std::process::Command;

use testsuite::boot::{BOOT, Guests, Kernel, Running};

use crate::{Folder, SOON};

/// A disk is partitioned, formatted, mounted, written and synced; what was written is there after
/// the caches are dropped, after a reboot, and in another run.
#[track_caller]
fn keeps_what_is_written(kernel: Kernel) {
    let Some(guests) = Guests::with(kernel) else {
        return;
    };
    let folder = Folder::new(&format!("disk-{}", kernel.name()));
    let disk = folder.disk("disk.img", 96 << 20);
    let machine = guests.machine().kernel(kernel, "").disk(&disk);
    let mut run = machine.start();
    run.boot();
    run.succeed(
        "printf 'n\\np\\n1\\n\\n+48M\\nn\\np\\n2\\n\\n\\nt\\n2\\nc\\nw\\n' | fdisk /dev/sda",
        SOON,
    );
    run.succeed("mke2fs /dev/sda1 && mkdosfs /dev/sda2", SOON * 2);
    run.succeed(
        "mkdir -p /mnt/a /mnt/b && mount /dev/sda1 /mnt/a && mount /dev/sda2 /mnt/b",
        SOON,
    );
    run.succeed(
        "head -c 5000000 /dev/urandom > /mnt/a/noise && cp /mnt/a/noise /mnt/b/",
        SOON * 2,
    );
    run.succeed(
        "cd /mnt && md5sum a/noise b/noise > a/sums && cat a/sums; cd /",
        SOON,
    );
    run.succeed(
        "sync && umount /mnt/b && echo 3 > /proc/sys/vm/drop_caches",
        SOON,
    );
    reads_back(&mut run, "mount /dev/sda2 /mnt/b");
    run.succeed("umount /mnt/a /mnt/b", SOON);
    run.paste(b"reboot -f\n");
    run.wait_for("Linux version", SOON * 2);
    run.boot();
    let mount = "mkdir -p /mnt/a /mnt/b && mount /dev/sda1 /mnt/a && mount /dev/sda2 /mnt/b";
    reads_back(&mut run, mount);
    run.succeed("echo later > /mnt/a/later && sync", SOON);
    run.power_off();
    let sector = fs::read(&disk).expect("the disk");
    assert_eq!(&sector[510..512], [0x55, 0xAA], "an MBR");

    let mut run = machine.start();
    run.boot();
    reads_back(&mut run, mount);
    let later = run.succeed("cat /mnt/a/later", SOON);
    assert!(later.contains("later"), "{later}");
    let errors = run.command(
        "dmesg | grep -E 'ata[0-9].*(error|failed|timeout|reset)'",
        SOON,
    );
    assert_eq!(errors.status, 1, "{}", errors.text);
    run.power_off();
}

#[track_caller]
fn reads_back(run: &mut Running, mount: &str) {
    run.succeed(mount, SOON);
    run.succeed("(cd /mnt && md5sum -c a/sums)", SOON);
}

#[test]
fn cloud_kernel_keeps_what_is_written() {
    keeps_what_is_written(Kernel::Cloud);
}

#[test]
fn full_kernel_keeps_what_is_written() {
    keeps_what_is_written(Kernel::Full);
}

#[test]
fn i686_pae_kernel_keeps_what_is_written() {
    keeps_what_is_written(Kernel::I686Pae);
}

/// The image is as it was after a run with `-snapshot` that wrote to it.
#[test]
fn a_snapshot_leaves_the_image_alone() {
    let Some(guests) = Guests::one() else { return };
    let folder = Folder::new("snapshot");
    let disk = folder.disk("disk.img", 8 << 20);
    let machine = guests.machine().kernel(Kernel::Cloud, "").disk(&disk);
    let mut run = machine.args(["-snapshot"]).start();
    run.boot();
    run.succeed(
        "mke2fs /dev/sda && sync && echo 3 > /proc/sys/vm/drop_caches",
        SOON,
    );
    run.succeed("mount /dev/sda /mnt", SOON);
    run.power_off();
    let bytes = fs::read(&disk).expect("the disk");
    assert!(bytes.iter().all(|&b| b == 0), "the image was written");
}

/// The sum of a file, as the host's md5sum has it.
fn md5(file: &Path) -> String {
    let output = Command::new("md5sum").arg(file).output().expect("md5sum");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().next().expect("a sum").to_owned()
}

#[test]
fn a_cdrom_is_read_whole() {
    let Some(guests) = Guests::one() else { return };
    let iso = guests.file("grub.iso");
    let machine = guests.machine().kernel(Kernel::Full, "");
    let mut run = machine.cdrom(&iso).start();
    run.boot();
    let sum = md5(&iso);
    let size = fs::metadata(&iso).expect("the image").len();
    let said = run.succeed(&format!("head -c {size} /dev/sr0 | md5sum"), BOOT);
    assert!(said.contains(&sum), "{sum}\n{said}");
    run.succeed("mount -o ro /dev/sr0 /mnt && ls -l /mnt/boot/vmlinuz", SOON);
    assert_ne!(run.command("touch /mnt/x", SOON).status, 0);
    run.power_off();
}
