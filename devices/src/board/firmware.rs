//! What the board tells firmware through the configuration device, and the tables for a machine without.
//!
//! Names, keys and values are those of the reference machine, as SeaBIOS, OVMF and Linux look for them. Not
//! told: NUMA nodes (there is one), CPU hotplug, and files of devices that are not there.

use std::sync::Arc;

use crate::acpi::{self, Description, loader};
use crate::board::{BoardOptions, Boot, Parts, pc};
use crate::fw_cfg::{Contents, Item, key};
use crate::memory_map::{HIGH_RAM, HT_HOLE, ram_split};
use crate::pci;
use crate::smbios::{self, Smbios};

/// The file of the memory map.
const E820_FILE: &str = "etc/e820";
/// Kinds of memory in it.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// Size of the HyperTransport hole: up to 1 TiB.
const HT_HOLE_SIZE: u64 = (1 << 40) - HT_HOLE;

/// All that the board and the user tell firmware.
pub fn contents(options: &BoardOptions, parts: &Parts) -> Contents {
    let mut contents = Contents::default();
    add_keys(&mut contents, options);
    for (name, data) in files(options) {
        // The names are ours and short, the data small.
        if let Err(error) = contents.add_file(name, Item::read_only(data)) {
            tracing::error!(target: "fw_cfg", %error);
        }
    }
    contents.extend(&parts.fw_cfg);
    contents
}

/// What the ACPI tables say of the machine.
pub fn description(options: &BoardOptions) -> Description {
    let isa = pc::ISA
        .iter()
        .filter(|row| row.regions.of(options).is_some());
    let rows = isa.map(|row| row.name);
    let rows = rows.chain(pc::CHIPS.iter().map(|row| row.name));
    let pci = pci::PCI.iter().filter(|row| (row.wanted)(options));
    let rows = rows.chain(pci.map(|row| row.name));
    Description {
        cpus: options.cpus,
        ram: options.ram,
        rows: rows.collect(),
    }
}

/// The memory map: what is reserved, then each bank of RAM. Entries of 20 bytes: address, size, kind.
pub fn e820(options: &BoardOptions) -> Vec<(u64, u64, u32)> {
    let (low, high) = ram_split(options.ram);
    let mut map = Vec::new();
    if options.processor.amd {
        map.push((HT_HOLE, HT_HOLE_SIZE, E820_RESERVED));
    }
    map.push((0, low, E820_RAM));
    if high != 0 {
        map.push((HIGH_RAM, high, E820_RAM));
    }
    map
}

fn add_keys(contents: &mut Contents, options: &BoardOptions) {
    /// The interface of old, and DMA.
    const TRADITIONAL_AND_DMA: u32 = 3;
    let cpus = u16::try_from(options.cpus).unwrap_or(u16::MAX);
    contents.set_bytes(key::SIGNATURE, b"QEMU");
    contents.set_u32(key::ID, TRADITIONAL_AND_DMA);
    contents.set_bytes(key::UUID, &options.uuid);
    contents.set_u64(key::RAM_SIZE, options.ram);
    contents.set_u16(key::NOGRAPHIC, options.nographic.into());
    contents.set_u16(key::NB_CPUS, cpus);
    contents.set_u16(key::BOOT_MENU, options.boot.menu.into());
    contents.set_u16(key::MAX_CPUS, cpus);
    contents.set_bytes(key::IRQ0_OVERRIDE, &[1]);
    contents.set_bytes(key::HPET, &hpets(options));
}

/// How many HPETs there are, and room for eight: identifier, address, least count, page protection.
fn hpets(options: &BoardOptions) -> [u8; 121] {
    /// The count that says there is none.
    const NONE: u8 = 0xFF;
    let mut hpets = [0; 121];
    hpets[0] = NONE;
    if description(options).rows.contains(&"hpet") {
        hpets[0] = 1;
        hpets[1..5].copy_from_slice(&acpi::HPET_ID.to_le_bytes());
        hpets[5..13].copy_from_slice(&u64::from(acpi::HPET_BASE).to_le_bytes());
    }
    hpets
}

fn files(options: &BoardOptions) -> Vec<(&'static str, Arc<[u8]>)> {
    /// Do not start again when there is nothing to boot.
    const FOR_EVER: u32 = u32::MAX;
    let tables = acpi::files(&description(options));
    let smbios = Smbios::new(options);
    let fail_wait = options.boot.reboot_timeout.unwrap_or(FOR_EVER);
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("bios-geometry", Vec::new()),
        ("bootorder", boot_order(&options.boot)),
        (loader::RSDP_FILE, tables.rsdp_file()),
        (loader::TABLES_FILE, tables.tables_file()),
        ("etc/boot-fail-wait", fail_wait.to_le_bytes().to_vec()),
        (E820_FILE, e820_file(options)),
        (smbios::ANCHOR_FILE, smbios.anchor()),
        (smbios::TABLES_FILE, smbios.tables().to_vec()),
        ("etc/system-states", acpi::SLEEP_STATES.to_vec()),
        (loader::LOADER_FILE, tables.loader_file()),
        // OVMF looks for it; without a TPM it is empty.
        ("etc/tpm/log", Vec::new()),
    ];
    if let Some(time) = options.boot.splash_time {
        files.push(("etc/boot-menu-wait", time.to_le_bytes().to_vec()));
    }
    files
        .into_iter()
        .map(|(name, data)| (name, data.into()))
        .collect()
}

/// The devices' paths, a line each, with a zero behind the last; nothing if there is none.
fn boot_order(boot: &Boot) -> Vec<u8> {
    /// The line behind which firmware stops.
    const STOP: &str = "HALT";
    if boot.devices.is_empty() {
        return Vec::new();
    }
    let last = boot.strict.then_some(STOP);
    let lines = boot.devices.iter().map(String::as_str).chain(last);
    let mut file = lines.collect::<Vec<_>>().join("\n").into_bytes();
    file.push(0);
    file
}

fn e820_file(options: &BoardOptions) -> Vec<u8> {
    let entry = |(address, size, kind): (u64, u64, u32)| {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(size.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes
    };
    e820(options).into_iter().flat_map(entry).collect()
}

#[cfg(test)]
mod tests;
