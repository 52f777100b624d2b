//! Kernels with a PVH entry: ELF files that carry Xen's PHYS32_ENTRY note. Document: Xen, "x86/HVM
//! direct boot ABI". They are always started directly: 32-bit protected mode, paging off, EBX at the
//! start information.

use super::elf::{Elf, Segment};
use super::{BootError, put, u32_at};

/// Note type of the physical entry point.
const PHYS32_ENTRY: u32 = 18;
const START_MAGIC: u32 = 0x336E_C578;
/// The version that has a memory map.
const START_VERSION: u32 = 1;
const START_SIZE: usize = 56;
const MODULE_SIZE: usize = 32;
const MAP_ENTRY_SIZE: usize = 24;

/// A kernel with a PVH entry.
#[derive(Clone, Debug)]
pub struct Image {
    elf: Elf,
    entry: u32,
}

/// What the start information tells.
pub struct Start<'a> {
    /// Guest physical address of the command line.
    pub line: u32,
    /// Address and size of the initrd.
    pub initrd: Option<(u64, u64)>,
    /// Address of ACPI's RSDP.
    pub rsdp: u64,
    /// The memory map: base, size, E820 type.
    pub e820: &'a [(u64, u64, u32)],
}

impl Image {
    /// Takes an ELF file apart.
    ///
    /// # Errors
    /// If it is damaged, or has no PVH entry.
    pub fn parse(file: &[u8]) -> Result<Self, BootError> {
        let elf = Elf::parse(file)?;
        let entry = elf.notes.iter().find_map(|notes| find_entry(notes));
        let entry = entry.ok_or(BootError::Header(
            "an ELF file that is neither a multiboot kernel nor has a PVH entry note",
        ))?;
        Ok(Self { elf, entry })
    }

    /// Where it starts.
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// What is to be loaded.
    pub fn segments(&self) -> &[Segment] {
        &self.elf.segments
    }

    /// Where the last byte of it ends.
    pub fn end(&self) -> u64 {
        let ends = self.segments().iter().map(|s| s.address + s.size);
        ends.max().unwrap_or(0)
    }

    /// Checks that it lies in RAM.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_memory(&self, low_ram: u64) -> Result<(), BootError> {
        self.elf.check_memory(low_ram)
    }
}

/// `struct hvm_start_info` for address `at`, with what it points to behind it.
pub fn start_info(at: u32, start: &Start<'_>) -> Vec<u8> {
    let map_at = START_SIZE + MODULE_SIZE;
    let mut info = vec![0; map_at + MAP_ENTRY_SIZE * start.e820.len()];
    put(&mut info, 0, &START_MAGIC.to_le_bytes());
    put(&mut info, 4, &START_VERSION.to_le_bytes());
    if let Some((address, size)) = start.initrd {
        put(&mut info, 12, &1u32.to_le_bytes());
        put(
            &mut info,
            16,
            &(u64::from(at) + START_SIZE as u64).to_le_bytes(),
        );
        put(&mut info, START_SIZE, &address.to_le_bytes());
        put(&mut info, START_SIZE + 8, &size.to_le_bytes());
    }
    put(&mut info, 24, &u64::from(start.line).to_le_bytes());
    put(&mut info, 32, &start.rsdp.to_le_bytes());
    put(
        &mut info,
        40,
        &(u64::from(at) + map_at as u64).to_le_bytes(),
    );
    put(&mut info, 48, &(start.e820.len() as u32).to_le_bytes());
    for (index, (base, size, kind)) in start.e820.iter().enumerate() {
        let entry = map_at + MAP_ENTRY_SIZE * index;
        put(&mut info, entry, &base.to_le_bytes());
        put(&mut info, entry + 8, &size.to_le_bytes());
        put(&mut info, entry + 16, &kind.to_le_bytes());
    }
    info
}

/// The entry point among a segment's notes: name and descriptor of each are padded to 4 bytes.
fn find_entry(notes: &[u8]) -> Option<u32> {
    let mut at = 0usize;
    loop {
        let name_size = u32_at(notes, at)? as usize;
        let size = u32_at(notes, at + 4)? as usize;
        let kind = u32_at(notes, at + 8)?;
        let name = at + 12;
        let descriptor = name.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let is_xen = notes.get(name..name.checked_add(name_size)?)? == b"Xen\0";
        if is_xen && kind == PHYS32_ENTRY && size >= 4 {
            return u32_at(notes, descriptor);
        }
        at = descriptor.checked_add(size.checked_next_multiple_of(4)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_found_among_other_notes() {
        let mut notes = Vec::new();
        for (name, kind, value) in [
            (&b"GNU\0"[..], 1, 5u32),
            (b"Xen\0", 6, 6),
            (b"Xen\0", 18, 7),
        ] {
            for word in [name.len() as u32, 4, kind] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(name);
            notes.extend(value.to_le_bytes());
        }
        assert_eq!(find_entry(&notes), Some(7));
        assert_eq!(find_entry(&notes[..notes.len() - 20]), None);
        assert_eq!(find_entry(&[0xFF; 64]), None);
    }

    #[test]
    fn the_start_information_points_behind_itself() {
        let start = Start {
            line: 0x2_0000,
            initrd: Some((0x100_0000, 5)),
            rsdp: 0xE_0000,
            e820: &[(0, 0x9_FC00, 1)],
        };
        let info = start_info(0x1_0000, &start);
        assert_eq!(u32_at(&info, 16), Some(0x1_0000 + 56));
        assert_eq!(u32_at(&info, 56), Some(0x100_0000));
        assert_eq!(u32_at(&info, 40), Some(0x1_0000 + 88));
        assert_eq!(info.len(), 88 + 24);
    }
}
