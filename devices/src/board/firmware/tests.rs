//! What a guest finds, compared with what the reference machine shows it.

use super::*;
use crate::board::Processor;
use crate::fw_cfg::{FILE_DIR, FILE_FIRST};

const AMD: Processor = Processor {
    signature: 0x0006_0FB1,
    features: 0x078B_FBFD,
    amd: true,
};

fn stock() -> BoardOptions {
    BoardOptions {
        processor: AMD,
        ..BoardOptions::default()
    }
}

fn told(options: &BoardOptions) -> Contents {
    contents(options, &Parts::default())
}

/// The directory of `-M pc`, but for the option ROM that needs its own virtual APIC.
#[test]
fn the_directory_is_the_stock_machines() {
    let items = told(&stock()).by_key();
    let names = [
        ("bios-geometry", 0),
        ("bootorder", 0),
        ("etc/acpi/rsdp", 20),
        ("etc/acpi/tables", 0x2_0000),
        ("etc/boot-fail-wait", 4),
        ("etc/e820", 40),
        ("etc/smbios/smbios-anchor", 31),
        ("etc/smbios/smbios-tables", 317),
        ("etc/system-states", 6),
        ("etc/table-loader", 4096),
        ("etc/tpm/log", 0),
    ];
    let directory = &items[&FILE_DIR].data;
    assert_eq!(directory.len(), 4 + 64 * names.len());
    for ((n, (name, size)), key) in names.iter().enumerate().zip(FILE_FIRST..) {
        let entry = &directory[4 + 64 * n..][..64];
        assert_eq!(entry[8..8 + name.len()], *name.as_bytes(), "{name}");
        assert_eq!(items[&key].data.len(), *size, "{name}");
    }
}

#[test]
fn keys_hold_what_the_stock_machine_has_there() {
    let contents = told(&BoardOptions {
        ram: 6 << 30,
        cpus: 3,
        nographic: true,
        ..stock()
    });
    let rows: [(u16, &[u8]); 9] = [
        (key::SIGNATURE, b"QEMU"),
        (key::ID, &[3, 0, 0, 0]),
        (key::UUID, &[0; 16]),
        (key::RAM_SIZE, &[0, 0, 0, 0x80, 1, 0, 0, 0]),
        (key::NOGRAPHIC, &[1, 0]),
        (key::NB_CPUS, &[3, 0]),
        (key::BOOT_MENU, &[0, 0]),
        (key::MAX_CPUS, &[3, 0]),
        (key::IRQ0_OVERRIDE, &[1]),
    ];
    for (key, bytes) in rows {
        assert_eq!(
            contents.item(key).map(|item| &*item.data),
            Some(bytes),
            "{key:#x}"
        );
    }
    assert_eq!(
        contents.item(key::HPET).map(|item| item.data.len()),
        Some(121)
    );
}

#[test]
fn memory_is_told_bank_by_bank() {
    let hole = (0xFD_0000_0000, 0x3_0000_0000, 2);
    for (ram, amd, expected) in [
        (128 << 20, true, vec![hole, (0, 128 << 20, 1)]),
        (128 << 20, false, vec![(0, 128 << 20, 1)]),
        (
            6 << 30,
            true,
            vec![hole, (0, 3 << 30, 1), (4 << 30, 3 << 30, 1)],
        ),
        (
            0xE000_0000,
            false,
            vec![(0, 3 << 30, 1), (4 << 30, 1 << 29, 1)],
        ),
    ] {
        let processor = Processor { amd, ..AMD };
        let options = BoardOptions {
            ram,
            processor,
            ..stock()
        };
        assert_eq!(e820(&options), expected);
    }
    let file = told(&stock()).file(E820_FILE).expect("a map").data.clone();
    assert_eq!(
        file[..20],
        [
            0, 0, 0, 0, 0xFD, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0
        ]
    );
}

#[test]
fn devices_to_boot_from_are_lines() {
    let mut options = stock();
    let order = |options: &BoardOptions| {
        let contents = told(options);
        contents.file("bootorder").map(|file| file.data.to_vec())
    };
    options.boot.strict = true;
    assert_eq!(order(&options), Some(Vec::new()));
    let path = "/pci@i0cf8/ethernet@3/ethernet-phy@0";
    options.boot.devices = vec![path.to_owned()];
    let file = format!("{path}\nHALT\0").into_bytes();
    assert_eq!((file.len(), order(&options)), (42, Some(file)));
}

#[test]
fn waits_are_files() {
    let mut options = stock();
    let wait = |options: &BoardOptions, name| {
        let contents = told(options);
        contents.file(name).map(|file| file.data.to_vec())
    };
    assert_eq!(wait(&options, "etc/boot-fail-wait"), Some(vec![0xFF; 4]));
    assert_eq!(wait(&options, "etc/boot-menu-wait"), None);
    options.boot.reboot_timeout = Some(500);
    options.boot.splash_time = Some(1000);
    assert_eq!(
        wait(&options, "etc/boot-fail-wait"),
        Some(vec![0xF4, 1, 0, 0])
    );
    assert_eq!(wait(&options, "etc/boot-menu-wait"), Some(vec![0xE8, 3]));
}

#[test]
fn what_the_user_plugs_in_is_there_too() {
    let mut parts = Parts::default();
    parts.fw_cfg.set_u32(key::KERNEL_SIZE, 7);
    let file = Item::read_only(*b"hi");
    parts
        .fw_cfg
        .add_file("opt/x", file.clone())
        .expect("a name");
    let contents = contents(&stock(), &parts);
    assert_eq!(contents.file("opt/x"), Some(&file));
    assert!(contents.item(key::KERNEL_SIZE).is_some());
}
