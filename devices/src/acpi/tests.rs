//! The tables as a guest reads them, once placed.

use super::*;

const ROWS: [&str; 9] = [
    "i8259", "i8254", "mc146818", "i8042", "com1", "com2", "fw_cfg", "piix4_pm", "hpet",
];
const AT: u64 = 0x7FE_0000;

fn machine() -> Description {
    Description {
        cpus: 2,
        ram: 128 << 20,
        rows: ROWS.to_vec(),
    }
}

fn dword(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at a guest address.
fn table(placed: &Placed, address: usize) -> &[u8] {
    let bytes = &placed.tables[address - AT as usize..];
    &bytes[..dword(bytes, 4)]
}

/// The tables the RSDT points at, by signature, and those FACP points at.
fn walk(placed: &Placed) -> Vec<(String, &[u8])> {
    let rsdt = table(placed, dword(&placed.rsdp, 16));
    let mut found: Vec<&[u8]> = (36..rsdt.len())
        .step_by(4)
        .map(|at| table(placed, dword(rsdt, at)))
        .collect();
    let facp = found[0];
    found.extend([36, 40].map(|at| table(placed, dword(facp, at))));
    found.push(rsdt);
    let name = |t: &[u8]| String::from_utf8_lossy(&t[..4]).into_owned();
    found.into_iter().map(|t| (name(t), t)).collect()
}

#[test]
fn every_table_is_found_and_sums_up_to_zero() {
    let placed = files(&machine()).placed(AT).expect("a place");
    let tables = walk(&placed);
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["FACP", "APIC", "HPET", "WAET", "FACS", "DSDT", "RSDT"]
    );
    for (name, table) in &tables {
        assert!(name == "FACS" || sum(table) == 0, "{name}");
    }
    assert_eq!((placed.rsdp.len(), sum(&placed.rsdp)), (20, 0));
    assert_eq!(&placed.rsdp[..8], b"RSD PTR ");
}

#[test]
fn a_board_without_an_hpet_has_no_table_of_it() {
    let mut machine = machine();
    machine.rows.retain(|row| *row != "hpet");
    let placed = files(&machine).placed(AT).expect("a place");
    let tables = walk(&placed);
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["FACP", "APIC", "WAET", "FACS", "DSDT", "RSDT"]);
}

#[test]
fn the_fixed_table_is_the_stock_machines() {
    let placed = files(&machine()).placed(AT).expect("a place");
    let tables = walk(&placed);
    let facp = tables[0].1;
    assert_eq!((facp.len(), facp[8]), (116, 1));
    assert_eq!(dword(facp, 36), AT as usize, "FACS first, aligned");
    assert_eq!(facp[44..48], [1, 0, 9, 0]);
    assert_eq!(facp[48..56], [0xB2, 0, 0, 0, 0xF1, 0xF0, 0, 0]);
    let blocks: [usize; 8] = std::array::from_fn(|n| dword(facp, 56 + 4 * n));
    assert_eq!(blocks, [0x600, 0, 0x604, 0, 0, 0x608, 0xAFE0, 0]);
    assert_eq!(
        facp[88..100],
        [4, 2, 0, 4, 4, 0, 0, 0, 0xFF, 0x0F, 0xFF, 0x0F]
    );
    assert_eq!(facp[108], 0x32);
    assert_eq!(dword(facp, 112), 0x80A5);
}

#[test]
fn interrupts_are_overridden_as_on_the_stock_machine() {
    let placed = files(&machine()).placed(AT).expect("a place");
    let tables = walk(&placed);
    let mut rest = &tables[1].1[44..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, more) = rest.split_at(rest[1].into());
        entries.push(entry.to_vec());
        rest = more;
    }
    let expected: [&[u8]; 9] = [
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 5, 5, 0, 0, 0, 0x0D, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0],
        &[2, 10, 0, 10, 10, 0, 0, 0, 0x0D, 0],
        &[2, 10, 0, 11, 11, 0, 0, 0, 0x0D, 0],
        &[4, 6, 0xFF, 0, 0, 1],
    ];
    assert_eq!(entries, expected);
}

/// Runs the script as firmware does: by the bytes of the files alone.
fn firmware(files: &Files, rsdp_at: u32, tables_at: u32) -> Placed {
    let mut loaded = [
        ("etc/acpi/rsdp", rsdp_at, files.rsdp_file()),
        ("etc/acpi/tables", tables_at, files.tables_file()),
    ];
    let script = files.loader_file();
    assert_eq!((script.len(), loaded[1].2.len()), (4096, 128 << 10));
    let named = |entry: &[u8]| {
        let name = entry[..56].split(|b| *b == 0).next().unwrap().to_vec();
        let names = ["etc/acpi/rsdp", "etc/acpi/tables"];
        names
            .iter()
            .position(|n| n.as_bytes() == name)
            .expect("a file")
    };
    for entry in script.chunks(128) {
        match dword(entry, 0) {
            0 => {}
            1 => {
                let file = named(&entry[4..]);
                assert_eq!(loaded[file].1 as usize % dword(entry, 60), 0);
                assert_eq!(entry[64], [2, 1][file], "the zone");
            }
            2 => {
                let (to, from) = (named(&entry[4..]), named(&entry[60..]));
                let (at, size) = (dword(entry, 116), entry[120]);
                assert_eq!(size, 4);
                let address = dword(&loaded[to].2, at) as u32 + loaded[from].1;
                loaded[to].2[at..at + 4].copy_from_slice(&address.to_le_bytes());
            }
            3 => {
                let file = named(&entry[4..]);
                let [at, start, length] = [60, 64, 68].map(|n| dword(entry, n));
                let bytes = &mut loaded[file].2;
                bytes[at] = 0u8.wrapping_sub(sum(&bytes[start..start + length]));
            }
            other => panic!("command {other}"),
        }
    }
    let [(.., rsdp), (.., mut tables)] = loaded;
    tables.truncate(files.size());
    Placed { rsdp, tables }
}

#[test]
fn the_script_does_what_placing_does() {
    for cpus in [1, 8, 255] {
        let files = files(&Description { cpus, ..machine() });
        let ours = files.placed(AT).expect("a place");
        assert_eq!(firmware(&files, 0xF_5000, AT as u32), ours);
    }
}

#[test]
fn tables_go_where_32_bits_reach() {
    let files = files(&machine());
    for address in [AT + 32, 1 << 32, 0xFFFF_FFC0] {
        assert_eq!(files.placed(address), Err(Misplaced { tables: address }));
    }
}

#[test]
fn windows_lie_beside_ram_as_firmware_has_them() {
    const GIB: u64 = 1 << 30;
    let windows = |ram| {
        let machine = Description { ram, ..machine() };
        (machine.pci_window(), machine.pci_window_64())
    };
    for (ram, first, high) in [
        (128 << 20, 0x8000_0000, 4 * GIB),
        (2 * GIB, 0x8000_0000, 4 * GIB),
        (3 * GIB, 0xC000_0000, 4 * GIB),
        (3 * GIB + (1 << 28), 0xE000_0000, 4 * GIB),
        (6 * GIB, 0xC000_0000, 7 * GIB),
    ] {
        let expected = ((first, 0xFEBF_FFFF), (high, high + 2 * GIB - 1));
        assert_eq!(windows(ram), expected, "{ram:#x}");
    }
}

#[test]
fn sleep_states_are_named_after_what_slp_typ_takes() {
    let dsdt = dsdt::block(&machine());
    for (name, value) in [(b"_S3_", 1), (b"_S4_", 2), (b"_S5_", 0)] {
        let at = dsdt.windows(4).position(|w| w == name).expect("a state");
        let number = aml::int(value);
        let body = &dsdt[at + 4..];
        assert_eq!(body[0], 0x12, "a package");
        assert_eq!(&body[3..3 + number.bytes().len()], number.bytes());
    }
}
