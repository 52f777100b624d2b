//! Multiboot 1 kernels. Document: GNU, "Multiboot Specification", version 0.6.96.
//!
//! With a BIOS the image goes through fw_cfg to the `multiboot` option ROM, which fills in the memory
//! map and enters the kernel; without one it is entered directly. Not supported: video modes (the
//! request is ignored, as the specification allows a loader to), drives, APM, VBE.

use std::sync::Arc;

use super::elf::{self, Elf, Segment};
use super::{BootError, put, u32_at};

const MAGIC: u32 = 0x1BAD_B002;
/// What EAX holds at the entry.
pub const ENTERED: u32 = 0x2BAD_B002;
/// The header lies within the first bytes, ...
const SEARCHED: usize = 8192;
/// Header flag: the header says where to load.
const ADDRESSES: u32 = 1 << 16;
/// Header flags a loader must know or refuse; known are: modules on page boundaries, memory
/// information, video mode.
const UNKNOWN: u32 = 0xFFF8;

/// Where the memory map lies, ...
const MAP: u32 = 0x9000;
/// ... and the information behind it.
pub const INFO: u32 = 0x9500;
const INFO_SIZE: usize = 88;
const MODULE_SIZE: usize = 16;

const HAS_MEMORY: u32 = 1 << 0;
const HAS_BOOT_DEVICE: u32 = 1 << 1;
const HAS_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;
/// First hard disk, no partition.
const BOOT_DEVICE: u32 = 0x8000_FFFF;
const LOADER_NAME: &[u8] = b"twin86\0";

/// A Multiboot kernel.
#[derive(Clone, Debug)]
pub struct Image {
    entry: u32,
    segments: Vec<Segment>,
}

/// A module: what it is, and its command line.
pub type Module = (Arc<[u8]>, String);

/// A kernel with its modules and information, ready to be put into memory.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it starts.
    pub entry: u32,
    /// Where [`Placed::image`] lies.
    pub address: u32,
    /// Kernel, modules, command lines.
    pub image: Arc<[u8]>,
    /// The information; at [`INFO`]. The memory map is not in it.
    pub info: Vec<u8>,
}

impl Image {
    /// Takes a file apart; `None` if it has no Multiboot header.
    ///
    /// # Errors
    /// If the header asks for what is impossible.
    pub fn parse(file: &[u8]) -> Result<Option<Self>, BootError> {
        let Some(at) = find_header(file) else {
            return Ok(None);
        };
        let field = |index: usize| u32_at(file, at + 4 * index);
        let flags = field(1).unwrap_or(0);
        if flags & UNKNOWN != 0 {
            return Err(BootError::Header(
                "a multiboot kernel that asks for unknown features",
            ));
        }
        if flags & ADDRESSES != 0 {
            let fields: Option<Vec<u32>> = (3..8).map(field).collect();
            let [header, load, load_end, bss_end, entry] = fields.as_deref().unwrap_or_default()
            else {
                return Err(BootError::Header("a multiboot header that is cut off"));
            };
            let place = (*header, *load, *load_end, *bss_end);
            let segment = addressed(file, at, place)?;
            return Ok(Some(Self {
                entry: *entry,
                segments: vec![segment],
            }));
        }
        if !elf::is_elf(file) {
            return Err(BootError::Header(
                "a multiboot kernel that is no ELF file and gives no addresses",
            ));
        }
        let elf = Elf::parse(file)?;
        if elf.is_64 {
            return Err(BootError::Header(
                "a 64-bit ELF file as a multiboot kernel: the specification knows 32-bit ones",
            ));
        }
        let entry = u32::try_from(elf.entry).unwrap_or(u32::MAX);
        let segments = elf.segments;
        Ok(Some(Self { entry, segments }))
    }

    /// Puts modules and command lines behind the kernel. `line` begins with the kernel's name.
    ///
    /// # Errors
    /// If it does not fit into `low_ram` bytes.
    pub fn place(&self, low_ram: u64, line: &str, modules: &[Module]) -> Result<Placed, BootError> {
        let first = self.segments.iter().map(|s| s.address).min().unwrap_or(0);
        let ends = self
            .segments
            .iter()
            .map(|s| s.address.saturating_add(s.size));
        let end = ends.max().unwrap_or(0);
        let lines: usize = modules.iter().map(|(_, line)| line.len() + 1).sum();
        let sizes = modules.iter().map(|(bytes, _)| bytes.len() as u64 + 0x1000);
        let tail = (line.len() + 1 + lines + MODULE_SIZE * modules.len()) as u64;
        let need = sizes.fold(end.saturating_add(0x1000 + tail), u64::saturating_add);
        if need > low_ram {
            return Err(BootError::memory("kernel and its modules", need, low_ram));
        }
        let mut image = vec![0; (end - first) as usize];
        for segment in &self.segments {
            put(
                &mut image,
                (segment.address - first) as usize,
                &segment.bytes,
            );
        }
        let mut table = Vec::new();
        // All addresses lie below `low_ram`, so in 32 bits.
        let here = |image: &Vec<u8>| (first + image.len() as u64) as u32;
        for (bytes, line) in modules {
            let page = (first + image.len() as u64).next_multiple_of(0x1000);
            image.resize((page - first) as usize, 0);
            let start = here(&image);
            image.extend_from_slice(bytes);
            let end = here(&image);
            let text = here(&image);
            image.extend_from_slice(line.as_bytes());
            image.push(0);
            for word in [start, end, text, 0] {
                table.extend_from_slice(&word.to_le_bytes());
            }
        }
        let modules_at = here(&image).next_multiple_of(4);
        image.resize(modules_at as usize - first as usize, 0);
        image.extend_from_slice(&table);
        let line_at = here(&image);
        image.extend_from_slice(line.as_bytes());
        image.push(0);
        let name_at = here(&image);
        image.extend_from_slice(LOADER_NAME);
        let mut info = vec![0; INFO_SIZE];
        let flags =
            HAS_MEMORY | HAS_BOOT_DEVICE | HAS_LINE | HAS_MODULES | HAS_MAP | HAS_LOADER_NAME;
        let upper = (low_ram.saturating_sub(1 << 20) >> 10) as u32;
        for (at, value) in [
            (0, flags),
            (4, 640),
            (8, upper),
            (12, BOOT_DEVICE),
            (16, line_at),
            (20, modules.len() as u32),
            (24, modules_at),
            (48, MAP),
            (64, name_at),
        ] {
            put(&mut info, at, &value.to_le_bytes());
        }
        Ok(Placed {
            entry: self.entry,
            address: first as u32,
            image: image.into(),
            info,
        })
    }
}

impl Placed {
    /// For a direct start: the memory map (address and bytes), whose length goes into the
    /// information.
    pub fn with_map(&mut self, e820: &[(u64, u64, u32)]) -> (u32, Vec<u8>) {
        let mut map = Vec::new();
        for (base, size, kind) in e820 {
            map.extend_from_slice(&20u32.to_le_bytes());
            map.extend_from_slice(&base.to_le_bytes());
            map.extend_from_slice(&size.to_le_bytes());
            map.extend_from_slice(&kind.to_le_bytes());
        }
        put(&mut self.info, 44, &(map.len() as u32).to_le_bytes());
        (MAP, map)
    }
}

/// The header: three words that add up to zero, on a boundary of four bytes.
fn find_header(file: &[u8]) -> Option<usize> {
    let searched = file.len().min(SEARCHED);
    (0..searched.saturating_sub(11)).step_by(4).find(|&at| {
        let word = |index: usize| u32_at(file, at + 4 * index).unwrap_or(0);
        let sum = word(0).wrapping_add(word(1)).wrapping_add(word(2));
        word(0) == MAGIC && sum == 0
    })
}

/// The one segment of a header with addresses.
fn addressed(
    file: &[u8],
    at: usize,
    (header, load, load_end, bss_end): (u32, u32, u32, u32),
) -> Result<Segment, BootError> {
    let wrong = BootError::Header("a multiboot header with impossible addresses");
    let before = header.checked_sub(load).ok_or(wrong.clone())?;
    let first = at.checked_sub(before as usize).ok_or(wrong.clone())?;
    let end = match load_end {
        0 => file.len(),
        end => first + end.checked_sub(load).ok_or(wrong.clone())? as usize,
    };
    let bytes = file.get(first..end).ok_or(BootError::Truncated {
        what: "the multiboot kernel",
        end: end as u64,
        len: file.len() as u64,
    })?;
    let size = match bss_end {
        0 => bytes.len() as u64,
        end => u64::from(end.checked_sub(load).ok_or(wrong)?).max(bytes.len() as u64),
    };
    Ok(Segment {
        address: load.into(),
        bytes: bytes.into(),
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(words: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 32];
        let flags = words[0];
        let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(flags);
        for word in [MAGIC, flags, checksum].iter().chain(&words[1..]) {
            file.extend(word.to_le_bytes());
        }
        file.resize(256, 0xCC);
        file
    }

    #[test]
    fn a_header_with_addresses_is_one_segment() {
        let file = kernel(&[ADDRESSES, 0x10_0020, 0x10_0000, 0, 0x10_1000, 0x10_0040]);
        let image = Image::parse(&file).expect("sound").expect("a kernel");
        assert_eq!(image.entry, 0x10_0040);
        let module: Module = (vec![9; 10].into(), "m arg".into());
        let placed = image.place(64 << 20, "k arg", &[module]).expect("it fits");
        assert_eq!(
            (placed.address, &placed.image[..256]),
            (0x10_0000, &file[..])
        );
        assert_eq!(
            placed.image[0x1000..0x100A],
            [9; 10],
            "on a page behind the bss"
        );
        let line = u32_at(&placed.info, 16).expect("there") as usize - 0x10_0000;
        assert_eq!(&placed.image[line..line + 6], b"k arg\0");
        assert!(image.place(1 << 20, "", &[]).is_err());
    }

    #[test]
    fn impossible_headers_are_refused() {
        assert!(Image::parse(&[0; 64]).expect("none").is_none());
        for words in [
            vec![ADDRESSES, 0x10_0000, 0x10_0020, 0, 0, 0],
            vec![ADDRESSES, 0x10_0000, 0, 0, 0, 0],
            vec![ADDRESSES, 0x10_0020, 0x10_0000, 0x20_0000, 0, 0],
            vec![ADDRESSES, 0x10_0020, 0x10_0000, 0x1000, 0, 0],
            vec![ADDRESSES | 8, 0x10_0020, 0x10_0000, 0, 0, 0],
            vec![0],
        ] {
            assert!(Image::parse(&kernel(&words)).is_err(), "{words:x?}");
        }
    }
}
