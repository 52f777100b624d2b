//! SMBIOS: what the machine says of itself, for firmware to place or placed by ourselves.
//!
//! Document: DMTF DSP0134 2.8.0. Types 1 (system), 3 (chassis), 4 (processor), 16 (memory array), 17 (its
//! modules, 16 GiB each), 19 (its addresses), 32 (boot status), 127 (end). Type 0 is the firmware's: SeaBIOS
//! makes its own when it finds none.
//!
//! Files `etc/smbios/smbios-anchor` (the entry point, without checksums and address: firmware sets them) and
//! `etc/smbios/smbios-tables`. [`Smbios::placed_anchor`] is the entry point of a machine without firmware.
//!
//! Not made: caches, slots, ports, the voltage and clocks of hardware that has none.

use crate::board::{BoardOptions, Processor};
use crate::memory_map::{HIGH_RAM, ram_split};

/// The file of the entry point.
pub const ANCHOR_FILE: &str = "etc/smbios/smbios-anchor";
/// The file of the structures.
pub const TABLES_FILE: &str = "etc/smbios/smbios-tables";

const MANUFACTURER: &str = "twin86";
const PRODUCT: &str = "Standard PC (i440FX + PIIX, 1996)";
const VERSION: &str = "pc-i440fx";

const SYSTEM: u16 = 0x0100;
const CHASSIS: u16 = 0x0300;
const PROCESSOR: u16 = 0x0400;
const MEMORY_ARRAY: u16 = 0x1000;
const MEMORY_MODULE: u16 = 0x1100;
const MEMORY_RANGE: u16 = 0x1300;
const BOOT_STATUS: u16 = 0x2000;
const END: u16 = 0x7F00;

/// "Other" and "unknown" of most enumerations.
const OTHER: u8 = 1;
const UNKNOWN: u8 = 2;
const NO_ERROR_HANDLE: u16 = 0xFFFE;
const NO_HANDLE: u16 = 0xFFFF;
/// The largest memory module.
const MODULE: u64 = 16 << 30;

/// The longest string taken: more than any firmware shows, and far from what fills the tables.
pub const LONGEST: usize = 255;

/// What the user says of the system (type 1); what is absent is the stock text, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Who made it.
    pub manufacturer: Option<String>,
    /// What it is.
    pub product: Option<String>,
    /// Which version of it.
    pub version: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its number in the maker's catalogue.
    pub sku: Option<String>,
    /// The family of products it belongs to.
    pub family: Option<String>,
}

/// The structures, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smbios {
    tables: Vec<u8>,
    count: u16,
    /// Size of the largest structure, with its strings.
    largest: u16,
}

impl Smbios {
    /// The structures of a machine.
    pub fn new(options: &BoardOptions) -> Self {
        let mut all = Self {
            tables: Vec::new(),
            count: 0,
            largest: 0,
        };
        all.add(system(&options.system, options.uuid));
        all.add(chassis());
        all.add(processor(&options.processor, options.cpus));
        let modules = options.ram.div_ceil(MODULE).max(1);
        all.add(memory_array(options.ram, modules));
        for n in 0..modules {
            all.add(memory_module(n, (options.ram - n * MODULE).min(MODULE)));
        }
        let (low, high) = ram_split(options.ram);
        all.add(memory_range(0, 0, low));
        if high != 0 {
            all.add(memory_range(1, HIGH_RAM, high));
        }
        all.add(boot_status());
        all.add(Structure::new(END));
        all
    }

    fn add(&mut self, structure: Structure) {
        let bytes = structure.finish();
        self.largest = self.largest.max(bytes.len() as u16);
        self.count = self.count.saturating_add(1);
        self.tables.extend(bytes);
    }

    /// The structures' bytes.
    pub fn tables(&self) -> &[u8] {
        &self.tables
    }

    /// The entry point as firmware wants it: without checksums and the structures' address.
    pub fn anchor(&self) -> Vec<u8> {
        let mut anchor = b"_SM_\0".to_vec();
        anchor.push(ANCHOR);
        // Version 2.8; entry point revision 0 has nothing in its formatted area.
        anchor.extend([2, 8]);
        anchor.extend(self.largest.to_le_bytes());
        anchor.extend([0; 6]);
        anchor.extend(b"_DMI_\0");
        anchor.extend((self.tables.len() as u16).to_le_bytes());
        anchor.extend([0; 4]);
        anchor.extend(self.count.to_le_bytes());
        anchor.push(0x28);
        anchor
    }

    /// The entry point of structures at `address`. It belongs at a multiple of 16, from F0000h to FFFFFh.
    pub fn placed_anchor(&self, address: u32) -> Vec<u8> {
        const INTERMEDIATE: usize = 16;
        let mut anchor = self.anchor();
        anchor[INTERMEDIATE + 8..][..4].copy_from_slice(&address.to_le_bytes());
        anchor[INTERMEDIATE + 5] = checksum(&anchor[INTERMEDIATE..]);
        anchor[4] = checksum(&anchor);
        anchor
    }
}

/// Size of the entry point.
const ANCHOR: u8 = 31;

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// A structure: type, length and handle, fields, strings.
struct Structure {
    handle: u16,
    fields: Vec<u8>,
    strings: Vec<String>,
}

impl Structure {
    /// Of the type that the handle's upper byte names; the lower counts structures of one type.
    fn new(handle: u16) -> Self {
        Self {
            handle,
            fields: Vec::new(),
            strings: Vec::new(),
        }
    }

    fn byte(mut self, value: u8) -> Self {
        self.fields.push(value);
        self
    }

    fn bytes(mut self, values: &[u8]) -> Self {
        self.fields.extend(values);
        self
    }

    fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A string's number; an empty string has none.
    fn string(mut self, text: &str) -> Self {
        if text.is_empty() {
            return self.byte(0);
        }
        self.strings.push(text.to_owned());
        let number = self.strings.len() as u8;
        self.byte(number)
    }

    fn finish(self) -> Vec<u8> {
        let kind = (self.handle >> 8) as u8;
        let mut bytes = vec![kind, self.fields.len() as u8 + 4];
        bytes.extend(self.handle.to_le_bytes());
        bytes.extend(self.fields);
        for string in &self.strings {
            bytes.extend(string.bytes().chain([0]));
        }
        if self.strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }
}

fn system(system: &System, uuid: [u8; 16]) -> Structure {
    let or = |given: &Option<String>, stock: &'static str| -> String {
        let text = given.as_deref().unwrap_or(stock);
        // A NUL ends a string, two end the structure.
        let text = text.chars().filter(|c| *c != '\0');
        text.take(LONGEST).collect()
    };
    const POWER_SWITCH: u8 = 6;
    // The first three fields of a UUID are stored little-endian.
    let [a, b, c, d, e, f, g, h, rest @ ..] = uuid;
    Structure::new(SYSTEM)
        .string(&or(&system.manufacturer, MANUFACTURER))
        .string(&or(&system.product, PRODUCT))
        .string(&or(&system.version, VERSION))
        .string(&or(&system.serial, ""))
        .bytes(&[d, c, b, a, f, e, h, g])
        .bytes(&rest)
        .byte(POWER_SWITCH)
        .string(&or(&system.sku, ""))
        .string(&or(&system.family, ""))
}

fn chassis() -> Structure {
    const SAFE: u8 = 3;
    Structure::new(CHASSIS)
        .string(MANUFACTURER)
        .byte(OTHER)
        .string(VERSION)
        .string("")
        .string("")
        // Boot-up, power supply, thermal: safe; security: unknown.
        .bytes(&[SAFE, SAFE, SAFE, UNKNOWN])
        // OEM defined, height, power cords, contained elements and their size, SKU.
        .dword(0)
        .bytes(&[0, 0, 0, 0])
        .string("")
}

/// One socket that holds all processors as cores.
fn processor(processor: &Processor, cpus: u32) -> Structure {
    const CENTRAL: u8 = 3;
    const POPULATED_ENABLED: u8 = 0x41;
    const MEGAHERTZ: u16 = 2000;
    const UNKNOWN_CHARACTERISTICS: u16 = 1 << 1;
    let cores = u8::try_from(cpus).unwrap_or(0xFF);
    Structure::new(PROCESSOR)
        .string("CPU 0")
        .bytes(&[CENTRAL, OTHER])
        .string(MANUFACTURER)
        .dword(processor.signature)
        .dword(processor.features)
        .string(VERSION)
        // Voltage and external clock are unknown.
        .byte(0)
        .word(0)
        .word(MEGAHERTZ)
        .word(MEGAHERTZ)
        .bytes(&[POPULATED_ENABLED, OTHER])
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .string("")
        .string("")
        .string("")
        .bytes(&[cores, cores, cores])
        .word(UNKNOWN_CHARACTERISTICS)
        .word(OTHER.into())
}

fn memory_array(ram: u64, modules: u64) -> Structure {
    const SYSTEM_MEMORY: u8 = 3;
    const MULTI_BIT_ECC: u8 = 6;
    /// From 2 TiB on the capacity is in the extended field.
    const EXTENDED: u32 = 0x8000_0000;
    let kib = ram >> 10;
    let (capacity, extended) = match u32::try_from(kib) {
        Ok(kib) if kib < EXTENDED => (kib, 0),
        _ => (EXTENDED, ram),
    };
    Structure::new(MEMORY_ARRAY)
        .bytes(&[OTHER, SYSTEM_MEMORY, MULTI_BIT_ECC])
        .dword(capacity)
        .word(NO_ERROR_HANDLE)
        .word(modules as u16)
        .qword(extended)
}

fn memory_module(n: u64, size: u64) -> Structure {
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const OTHER_DETAIL: u16 = 1 << 1;
    Structure::new(MEMORY_MODULE + n as u16)
        .word(MEMORY_ARRAY)
        .word(NO_ERROR_HANDLE)
        // Widths are unknown.
        .word(0xFFFF)
        .word(0xFFFF)
        // 16 GiB in MiB fits the field: its upper bit would mean KiB.
        .word((size >> 20) as u16)
        .bytes(&[DIMM, 0])
        .string(&format!("DIMM {n}"))
        .string("")
        .byte(RAM)
        .word(OTHER_DETAIL)
        .word(0)
        .string(MANUFACTURER)
        .string("")
        .string("")
        .string("")
        .byte(0)
        // Extended size, configured speed, voltages.
        .dword(0)
        .word(0)
        .word(0)
        .word(0)
        .word(0)
}

fn memory_range(n: u16, first: u64, size: u64) -> Structure {
    const IN_BYTES: u32 = 0xFFFF_FFFF;
    let last = first + size - 1;
    // In KiB where they fit; memory beyond 4 TiB in bytes.
    let kib = u32::try_from(last >> 10)
        .ok()
        .filter(|kib| *kib != IN_BYTES);
    let (ends, extended) = match kib {
        Some(kib) => ([(first >> 10) as u32, kib], [0, 0]),
        None => ([IN_BYTES; 2], [first, last]),
    };
    Structure::new(MEMORY_RANGE + n)
        .dword(ends[0])
        .dword(ends[1])
        .word(MEMORY_ARRAY)
        .byte(1)
        .qword(extended[0])
        .qword(extended[1])
}

fn boot_status() -> Structure {
    // Six bytes reserved; status: no errors.
    Structure::new(BOOT_STATUS).bytes(&[0; 7])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smbios(ram: u64, cpus: u32) -> Smbios {
        Smbios::new(&BoardOptions {
            ram,
            cpus,
            ..BoardOptions::default()
        })
    }

    /// Types, lengths and handles of the structures, as a guest walks them.
    fn walk(mut bytes: &[u8]) -> Vec<(u8, u8, u16)> {
        let mut found = Vec::new();
        while let [kind, length, low, high, ..] = *bytes {
            found.push((kind, length, u16::from_le_bytes([low, high])));
            bytes = &bytes[length.into()..];
            let end = bytes.windows(2).position(|w| w == [0, 0]);
            bytes = &bytes[end.expect("an end of strings") + 2..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn structures_are_those_of_the_stock_machine() {
        let small = [
            (1, 27, SYSTEM),
            (3, 22, CHASSIS),
            (4, 42, PROCESSOR),
            (16, 23, MEMORY_ARRAY),
            (17, 40, MEMORY_MODULE),
            (19, 31, MEMORY_RANGE),
            (32, 11, BOOT_STATUS),
            (127, 4, END),
        ];
        assert_eq!(walk(smbios(128 << 20, 1).tables()), small);
        let large = walk(smbios(20 << 30, 4).tables());
        let modules = large.iter().filter(|(kind, ..)| *kind == 17).count();
        let ranges = large.iter().filter(|(kind, ..)| *kind == 19).count();
        assert_eq!((modules, ranges), (2, 2));
    }

    #[test]
    fn the_user_describes_the_system() {
        let long = "x".repeat(10_000);
        let options = BoardOptions {
            system: System {
                manufacturer: Some("Maker".into()),
                serial: Some(long),
                family: Some("a\0b".into()),
                version: Some(String::new()),
                ..System::default()
            },
            ..BoardOptions::default()
        };
        let smbios = Smbios::new(&options);
        let tables = smbios.tables();
        walk(tables);
        // Manufacturer, product, no version, serial number; no SKU, family.
        assert_eq!(
            (&tables[4..8], &tables[25..27]),
            (&[1, 2, 0, 3][..], &[0, 4][..])
        );
        assert!(tables[27..].starts_with(b"Maker\0Standard PC"));
        let serial = tables.iter().filter(|byte| **byte == b'x').count();
        assert!((LONGEST..LONGEST + 4).contains(&serial));
    }

    #[test]
    fn the_anchor_counts_what_it_points_at() {
        let smbios = smbios(128 << 20, 1);
        let anchor = smbios.anchor();
        assert_eq!(anchor.len(), usize::from(ANCHOR));
        assert_eq!(
            anchor[0x16..0x18],
            (smbios.tables().len() as u16).to_le_bytes()
        );
        assert_eq!(anchor[0x1C..0x1E], [8, 0]);
        let placed = smbios.placed_anchor(0xF_1000);
        assert_eq!(placed[0x18..0x1C], 0xF_1000u32.to_le_bytes());
        assert_eq!((checksum(&placed), checksum(&placed[16..])), (0, 0));
    }

    #[test]
    fn any_size_of_memory_can_be_told() {
        for shift in 20..=41 {
            walk(smbios(1 << shift, 255).tables());
        }
    }
}
