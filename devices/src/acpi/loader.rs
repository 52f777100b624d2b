//! The script by which firmware places the tables, and its execution without firmware.
//!
//! `etc/table-loader` is a list of entries of 128 bytes: a command, then its operands, integers
//! little-endian, file names padded to 56 bytes. ALLOCATE (1) loads a file into memory that it allocates;
//! ADD_POINTER (2) adds the address of one file to a field of another, which holds an offset until then;
//! ADD_CHECKSUM (3) makes the bytes of a range sum up to zero. Nothing else is used.

use std::ops::Range;

/// The file of the root pointer.
pub const RSDP_FILE: &str = "etc/acpi/rsdp";
/// The file of the tables.
pub const TABLES_FILE: &str = "etc/acpi/tables";
/// The file of the script.
pub const LOADER_FILE: &str = "etc/table-loader";

/// What firmware is told the tables take; so their place does not depend on what a build puts in.
const TABLES_SIZE: usize = 128 << 10;
const SCRIPT_SIZE: usize = 4096;
const ENTRY: usize = 128;
const NAME: usize = 56;
/// The FACS lies first and wants 64; the root pointer is looked for at multiples of 16.
const TABLES_ALIGN: u32 = 64;
const RSDP_ALIGN: u32 = 16;
/// Where the root pointer holds its checksum, and the address of the RSDT.
const RSDP_CHECKSUM: usize = 8;
const RSDP_RSDT: usize = 16;

/// A file that the script names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Rsdp,
    Tables,
}

impl File {
    const fn name(self) -> &'static str {
        match self {
            Self::Rsdp => RSDP_FILE,
            Self::Tables => TABLES_FILE,
        }
    }
}

/// Where a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Zone {
    High = 1,
    /// F0000-FFFFF, where a guest looks for it.
    FSegment = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Allocate {
        file: File,
        align: u32,
        zone: Zone,
    },
    /// To the four bytes at `at` in `file` the address of the tables is added.
    AddPointer {
        file: File,
        at: u32,
    },
    AddChecksum {
        file: File,
        at: u32,
        of: Range<u32>,
    },
}

impl Command {
    fn encode(&self) -> [u8; ENTRY] {
        let mut entry = Entry(Vec::with_capacity(ENTRY));
        match self {
            Self::Allocate { file, align, zone } => {
                entry.int(1);
                entry.name(file.name());
                entry.int(*align);
                entry.0.push(*zone as u8);
            }
            Self::AddPointer { file, at } => {
                entry.int(2);
                entry.name(file.name());
                entry.name(File::Tables.name());
                entry.int(*at);
                entry.0.push(4);
            }
            Self::AddChecksum { file, at, of } => {
                entry.int(3);
                entry.name(file.name());
                entry.int(*at);
                entry.int(of.start);
                entry.int(of.end - of.start);
            }
        }
        let mut bytes = [0; ENTRY];
        bytes[..entry.0.len()].copy_from_slice(&entry.0);
        bytes
    }
}

struct Entry(Vec<u8>);

impl Entry {
    fn int(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn name(&mut self, name: &str) {
        let filled = name.bytes().chain(std::iter::repeat(0));
        self.0.extend(filled.take(NAME));
    }
}

/// Collects tables and what is to be done with them.
pub(super) struct Builder {
    tables: Vec<u8>,
    script: Vec<Command>,
}

impl Builder {
    pub(super) fn new() -> Self {
        let allocate = |file, align, zone| Command::Allocate { file, align, zone };
        let script = vec![
            allocate(File::Rsdp, RSDP_ALIGN, Zone::FSegment),
            allocate(File::Tables, TABLES_ALIGN, Zone::High),
        ];
        let tables = Vec::new();
        Self { tables, script }
    }

    /// Appends a table; returns its place.
    pub(super) fn append(&mut self, table: &[u8]) -> Range<usize> {
        let start = self.tables.len();
        self.tables.extend(table);
        start..self.tables.len()
    }

    /// Makes the four bytes at `at` point at `target` in the tables.
    pub(super) fn point(&mut self, file: File, at: usize, target: usize) {
        if file == File::Tables {
            self.tables[at..at + 4].copy_from_slice(&(target as u32).to_le_bytes());
        }
        let at = at as u32;
        self.script.push(Command::AddPointer { file, at });
    }

    /// Makes the byte at `at` the checksum of `of`.
    pub(super) fn sum(&mut self, file: File, at: usize, of: Range<usize>) {
        self.script.push(Command::AddChecksum {
            file,
            at: at as u32,
            of: of.start as u32..of.end as u32,
        });
    }

    /// The files, with a root pointer at the RSDT.
    pub(super) fn finish(mut self, mut rsdp: Vec<u8>, rsdt: usize) -> Files {
        rsdp[RSDP_RSDT..RSDP_RSDT + 4].copy_from_slice(&(rsdt as u32).to_le_bytes());
        self.point(File::Rsdp, RSDP_RSDT, rsdt);
        self.sum(File::Rsdp, RSDP_CHECKSUM, 0..rsdp.len());
        Files {
            rsdp,
            tables: self.tables,
            script: self.script,
        }
    }
}

/// The tables before they are placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    rsdp: Vec<u8>,
    tables: Vec<u8>,
    script: Vec<Command>,
}

/// The tables at their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The root pointer, for the address chosen.
    pub rsdp: Vec<u8>,
    /// The tables, for theirs.
    pub tables: Vec<u8>,
}

/// Why tables cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ACPI tables cannot be at {tables:#x} (64 bytes aligned, below 4 GiB)")]
pub struct Misplaced {
    /// Where the tables should have gone.
    pub tables: u64,
}

impl Files {
    /// The root pointer's file.
    pub fn rsdp_file(&self) -> Vec<u8> {
        self.rsdp.clone()
    }

    /// The tables' file.
    pub fn tables_file(&self) -> Vec<u8> {
        padded(self.tables.clone(), TABLES_SIZE)
    }

    /// The script's file.
    pub fn loader_file(&self) -> Vec<u8> {
        let entries: Vec<_> = self.script.iter().map(Command::encode).collect();
        padded(entries.as_flattened().to_vec(), SCRIPT_SIZE)
    }

    /// How many bytes the tables take when they are placed.
    pub fn size(&self) -> usize {
        self.tables.len()
    }

    /// Does what the script says, for tables at `address` in guest memory. The root pointer belongs at a
    /// multiple of 16, from E0000h to FFFFFh or in the first KiB of the EBDA; what it says does not depend on where.
    ///
    /// # Errors
    /// If the tables cannot be there.
    pub fn placed(&self, address: u64) -> Result<Placed, Misplaced> {
        let misplaced = Misplaced { tables: address };
        let base = u32::try_from(address).map_err(|_| misplaced)?;
        let end = base.checked_add(self.tables.len() as u32);
        if end.is_none() || !base.is_multiple_of(TABLES_ALIGN) {
            return Err(misplaced);
        }
        let mut placed = Placed {
            rsdp: self.rsdp.clone(),
            tables: self.tables.clone(),
        };
        for command in &self.script {
            placed.run(command, base);
        }
        Ok(placed)
    }
}

impl Placed {
    fn file(&mut self, file: File) -> &mut [u8] {
        match file {
            File::Rsdp => &mut self.rsdp,
            File::Tables => &mut self.tables,
        }
    }

    fn run(&mut self, command: &Command, base: u32) {
        match command {
            Command::Allocate { .. } => {}
            Command::AddPointer { file, at } => {
                let field = &mut self.file(*file)[*at as usize..][..4];
                let mut bytes = [0; 4];
                bytes.copy_from_slice(field);
                let pointer = u32::from_le_bytes(bytes).wrapping_add(base);
                field.copy_from_slice(&pointer.to_le_bytes());
            }
            Command::AddChecksum { file, at, of } => {
                let file = self.file(*file);
                let bytes = &file[of.start as usize..of.end as usize];
                let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                let field = &mut file[*at as usize];
                *field = field.wrapping_sub(sum);
            }
        }
    }
}

/// `bytes` filled up with zeros to a multiple of `size`.
fn padded(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(size), 0);
    bytes
}
