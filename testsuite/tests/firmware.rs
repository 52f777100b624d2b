//! The firmware tables as other programs read them: Intel's `iasl` and `dmidecode`, where they are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use devices::acpi::{self, Description};
use devices::board::BoardOptions;
use devices::smbios::Smbios;
use testsuite::skip::skip;

/// Everything the tables can speak of.
const ROWS: &[&str] = &[
    "i8259", "i8254", "i8237", "mc146818", "i8042", "com1", "com2", "lpt1", "fdc", "fw_cfg",
    "piix4_pm", "hpet",
];

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a writable directory");
    path
}

/// Runs a program; what it printed, and whether it was content. `None` if it is not installed.
fn run(program: &str, arguments: &[&str], directory: &Path) -> Option<(String, bool)> {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(directory).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(program, &error);
            return None;
        }
    };
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    Some((text, output.status.success()))
}

fn machine(cpus: u32, ram: u64) -> Description {
    Description {
        cpus,
        ram,
        rows: ROWS.to_vec(),
    }
}

/// The tables one by one, by their lengths.
fn split(mut tables: &[u8]) -> Vec<(String, &[u8])> {
    let mut found = Vec::new();
    while let [a, b, c, d, l0, l1, l2, l3, ..] = *tables {
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let (table, rest) = tables.split_at(length);
        found.push((String::from_utf8_lossy(&[a, b, c, d]).into_owned(), table));
        tables = rest;
    }
    found
}

#[test]
fn iasl_disassembles_every_table_and_compiles_it_again() {
    for (cpus, ram) in [(1, 128 << 20), (8, 6 << 30)] {
        let directory = directory(&format!("acpi{cpus}"));
        let placed = acpi::files(&machine(cpus, ram)).placed(0x7FE_0000);
        let placed = placed.expect("a place");
        for (name, table) in split(&placed.tables) {
            fs::write(directory.join(format!("{name}.aml")), table).expect("a file");
            let Some((text, ok)) = run("iasl", &["-d", &format!("{name}.aml")], &directory) else {
                return;
            };
            let source = fs::read_to_string(directory.join(format!("{name}.dsl")));
            let source = source.unwrap_or_default();
            let doubtful = ["ncorrect checksum", "Invalid", "Unknown", "Could not"];
            let doubt = doubtful
                .iter()
                .find(|d| text.contains(**d) || source.contains(**d));
            assert!(ok && doubt.is_none(), "{name}: {doubt:?}\n{text}");
        }
        let (text, ok) = run("iasl", &["-tc", "DSDT.dsl"], &directory).expect("it was there");
        let clean = "Compilation successful. 0 Errors, 0 Warnings";
        assert!(ok && text.contains(clean), "{text}");
    }
}

#[test]
fn dmidecode_reads_every_structure() {
    let directory = directory("smbios");
    let smbios = Smbios::new(&BoardOptions {
        ram: 20 << 30,
        cpus: 4,
        ..BoardOptions::default()
    });
    // As dmidecode dumps it: the entry point, and the structures 32 bytes on.
    let mut dump = smbios.placed_anchor(32);
    dump.resize(32, 0);
    dump.extend(smbios.tables());
    fs::write(directory.join("dump"), dump).expect("a file");
    let Some((text, ok)) = run("dmidecode", &["--from-dump", "dump"], &directory) else {
        return;
    };
    let doubtful = [
        "Wrong",
        "broken",
        "TRUNCATED",
        "BAD INDEX",
        "OUT OF SPEC",
        "Invalid",
    ];
    let doubt = doubtful.iter().find(|d| text.contains(**d));
    assert!(ok && doubt.is_none(), "{doubt:?}\n{text}");
    for expected in [
        "SMBIOS 2.8 present",
        "Product Name: Standard PC (i440FX + PIIX, 1996)",
        "Core Count: 4",
        "Maximum Capacity: 20 GB",
        "Locator: DIMM 1",
        "Range Size: 17 GB",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
