//! ELF executables for x86, as far as loading one at physical addresses needs it. Document: System V
//! ABI, "Object Files" and "Program Loading".

use std::sync::Arc;

use super::{BootError, u16_at, u32_at, u64_at};

const CLASS: usize = 4;
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const DATA: usize = 5;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE: usize = 18;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// A segment to be loaded: its bytes, then zeros up to `size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address.
    pub address: u64,
    /// Bytes of the file.
    pub bytes: Arc<[u8]>,
    /// Bytes in memory.
    pub size: u64,
}

/// An ELF file.
#[derive(Clone, Debug)]
pub struct Elf {
    /// The entry point, as the file has it (a linear address).
    pub entry: u64,
    /// What is to be loaded.
    pub segments: Vec<Segment>,
    /// Contents of the note segments.
    pub notes: Vec<Vec<u8>>,
    /// It is a 64-bit file.
    pub is_64: bool,
}

/// Whether the file has ELF's magic number.
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7FELF")
}

/// A program header, in the words of both classes.
struct Header {
    kind: u32,
    offset: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
}

impl Elf {
    /// Takes a file with ELF's magic number apart.
    ///
    /// # Errors
    /// If it is truncated, or not for this machine.
    pub fn parse(file: &[u8]) -> Result<Self, BootError> {
        let is_64 = match file.get(CLASS) {
            Some(&CLASS_32) => false,
            Some(&CLASS_64) => true,
            _ => return Err(BootError::Header("an ELF file of no known class")),
        };
        let machine = u16_at(file, MACHINE);
        let right = machine == Some(EM_386) || machine == Some(EM_X86_64);
        if file.get(DATA) != Some(&LITTLE_ENDIAN) || !right {
            return Err(BootError::Header("an ELF file for another processor"));
        }
        let word = |at_32, at_64| {
            let field = if is_64 {
                u64_at(file, at_64)
            } else {
                u32_at(file, at_32).map(u64::from)
            };
            field.ok_or(BootError::Header("an ELF file without its header"))
        };
        let (entry, table) = (word(24, 24)?, word(28, 32)?);
        let (size_at, count_at) = if is_64 { (54, 56) } else { (42, 44) };
        let size = u64::from(u16_at(file, size_at).unwrap_or(0));
        let count = u64::from(u16_at(file, count_at).unwrap_or(0));
        let mut elf = Self {
            entry,
            segments: Vec::new(),
            notes: Vec::new(),
            is_64,
        };
        for index in 0..count {
            let at = table.saturating_add(index * size);
            let header = header(file, at, is_64).ok_or(BootError::Truncated {
                what: "the program header table",
                end: at.saturating_add(size),
                len: file.len() as u64,
            })?;
            elf.take(file, &header)?;
        }
        if elf.segments.is_empty() {
            return Err(BootError::Header("an ELF file with nothing to load"));
        }
        Ok(elf)
    }

    fn take(&mut self, file: &[u8], header: &Header) -> Result<(), BootError> {
        if header.kind != PT_LOAD && header.kind != PT_NOTE {
            return Ok(());
        }
        let end = header.offset.saturating_add(header.file_size);
        let bytes = usize::try_from(header.offset)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(first, end)| file.get(first..end))
            .ok_or(BootError::Truncated {
                what: "a segment",
                end,
                len: file.len() as u64,
            })?;
        if header.kind == PT_NOTE {
            self.notes.push(bytes.to_vec());
        } else if header.memory_size != 0 {
            self.segments.push(Segment {
                address: header.physical,
                bytes: bytes.into(),
                size: header.memory_size.max(header.file_size),
            });
        }
        Ok(())
    }

    /// Checks that all of it lies below `low_ram`, and above the first megabyte's holes.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(&self, low_ram: u64) -> Result<(), BootError> {
        for segment in &self.segments {
            let end = segment.address.saturating_add(segment.size);
            if end > low_ram {
                return Err(BootError::memory("kernel", end, low_ram));
            }
        }
        Ok(())
    }
}

fn header(file: &[u8], at: u64, is_64: bool) -> Option<Header> {
    let at = usize::try_from(at).ok()?;
    let double = |offset| u32_at(file, at.checked_add(offset)?);
    let quad = |offset| u64_at(file, at.checked_add(offset)?);
    let kind = double(0)?;
    Some(if is_64 {
        Header {
            kind,
            offset: quad(8)?,
            physical: quad(24)?,
            file_size: quad(32)?,
            memory_size: quad(40)?,
        }
    } else {
        Header {
            kind,
            offset: double(4)?.into(),
            physical: double(12)?.into(),
            file_size: double(16)?.into(),
            memory_size: double(20)?.into(),
        }
    })
}
