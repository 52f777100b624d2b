//! Linux bzImages. Document: Linux, "The Linux/x86 Boot Protocol" (protocol 2.15).
//!
//! With a BIOS the image goes through fw_cfg to the `linuxboot` option ROM, which starts its
//! real-mode part; without one the 32-bit entry point is entered directly.

use std::sync::Arc;

use super::{BootError, put, u16_at, u32_at, u64_at};

const SETUP_SECTS: usize = 0x1F1;
const VID_MODE: usize = 0x1FA;
const BOOT_FLAG: usize = 0x1FE;
const HEADER_LENGTH: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21C;
const HEAP_END: usize = 0x224;
const COMMAND_LINE: usize = 0x228;
const INITRD_MAX: usize = 0x22C;
const XLOADFLAGS: usize = 0x236;
const COMMAND_LINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// LOADFLAGS: the protected-mode part is loaded at 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// LOADFLAGS: the heap's end is given.
const CAN_USE_HEAP: u8 = 1 << 7;
/// XLOADFLAGS: the initrd may lie anywhere below 4 GiB.
const CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// No assigned loader number: boot protocol, "type_of_loader".
const LOADER: u8 = 0xFF;
/// Video mode "normal".
const NORMAL_MODE: u16 = 0xFFFF;

const SECTOR: usize = 512;
/// Where the real-mode part lies, ...
pub const SETUP: u32 = 0x1_0000;
/// ... the command line behind it, ...
pub const LINE: u32 = 0x2_0000;
/// ... and the protected-mode part.
pub const KERNEL: u32 = 0x10_0000;
/// Kept free at the end of low RAM for ACPI tables, as the reference machine does.
pub const ACPI_SPACE: u64 = 0x2_8000;
/// Where an initrd ends at most before protocol 2.03.
const OLD_INITRD_MAX: u32 = 0x37FF_FFFF;
/// What a command line takes before protocol 2.06.
const OLD_LINE_MAX: u32 = 255;

/// A bzImage.
#[derive(Clone, Debug)]
pub struct Image {
    setup: Vec<u8>,
    kernel: Arc<[u8]>,
    version: u16,
}

/// A bzImage with its initrd and command line, ready to be put into memory.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The real-mode part with its header filled in; at [`SETUP`].
    pub setup: Arc<[u8]>,
    /// The protected-mode part; at [`KERNEL`].
    pub kernel: Arc<[u8]>,
    /// The command line with its final zero; at [`LINE`].
    pub line: Arc<[u8]>,
    /// The initrd and its address.
    pub initrd: Option<(u32, Arc<[u8]>)>,
}

/// Whether the file has Linux's header.
pub fn is_image(file: &[u8]) -> bool {
    u16_at(file, BOOT_FLAG) == Some(0xAA55) && file.get(MAGIC..MAGIC + 4) == Some(b"HdrS")
}

impl Image {
    /// Takes a file with Linux's header apart.
    ///
    /// # Errors
    /// If it is truncated, too old, or not loaded high.
    pub fn parse(file: &[u8]) -> Result<Self, BootError> {
        let truncated = |what, end: usize| BootError::Truncated {
            what,
            end: end as u64,
            len: file.len() as u64,
        };
        let version = u16_at(file, VERSION).ok_or(truncated("the setup header", VERSION + 2))?;
        let [minor, major] = version.to_le_bytes();
        if version < 0x0202 {
            return Err(BootError::Protocol { major, minor });
        }
        // A kernel that names no sectors has four.
        let sectors = match file[SETUP_SECTS] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let end = (sectors + 1) * SECTOR;
        let fields = file.get(..end).ok_or(truncated("the setup code", end))?;
        // All fields of later protocols lie in the second sector, which every setup has.
        if fields[LOADFLAGS] & LOADED_HIGH == 0 {
            return Err(BootError::Header(
                "a zImage, which is loaded low, is not supported: build a bzImage",
            ));
        }
        let kernel = &file[end..];
        if kernel.is_empty() {
            return Err(truncated("the kernel", end + 1));
        }
        // From protocol 2.04 on the header says how long the kernel is, in units of 16 bytes.
        let paragraphs = u32_at(fields, 0x1F4).unwrap_or(0);
        let length = usize::try_from(paragraphs)
            .unwrap_or(usize::MAX)
            .saturating_mul(16);
        // Without its last paragraph's padding.
        if version >= 0x0204 && kernel.len() + 15 < length {
            return Err(truncated("the kernel", end + length));
        }
        Ok(Self {
            setup: fields.to_vec(),
            kernel: kernel.into(),
            version,
        })
    }

    /// Finds places below `low_ram` bytes of RAM, and fills the header in.
    ///
    /// # Errors
    /// If something does not fit.
    pub fn place(
        &self,
        low_ram: u64,
        line: &str,
        initrd: Option<Arc<[u8]>>,
    ) -> Result<Placed, BootError> {
        let max = self.line_max();
        if line.len() > max {
            return Err(BootError::CommandLine {
                len: line.len(),
                max,
            });
        }
        let need = self.memory_needed() + ACPI_SPACE;
        if need > low_ram {
            return Err(BootError::memory("kernel", need, low_ram));
        }
        let initrd = match initrd {
            Some(bytes) => Some((self.initrd_place(low_ram, bytes.len())?, bytes)),
            None => None,
        };
        let mut setup = self.setup.clone();
        put(&mut setup, VID_MODE, &NORMAL_MODE.to_le_bytes());
        setup[TYPE_OF_LOADER] = LOADER;
        setup[LOADFLAGS] |= CAN_USE_HEAP;
        let heap_end = (LINE - SETUP - 0x200) as u16;
        put(&mut setup, HEAP_END, &heap_end.to_le_bytes());
        put(&mut setup, CODE32_START, &KERNEL.to_le_bytes());
        put(&mut setup, COMMAND_LINE, &LINE.to_le_bytes());
        if let Some((address, bytes)) = &initrd {
            put(&mut setup, RAMDISK_IMAGE, &address.to_le_bytes());
            // It lies below 4 GiB, so its size does.
            let size = bytes.len() as u32;
            put(&mut setup, RAMDISK_SIZE, &size.to_le_bytes());
        }
        let mut line = line.as_bytes().to_vec();
        line.push(0);
        Ok(Placed {
            setup: setup.into(),
            kernel: Arc::clone(&self.kernel),
            line: line.into(),
            initrd,
        })
    }

    /// Where the kernel's memory ends: as loaded, and as it says it needs to unpack itself.
    fn memory_needed(&self) -> u64 {
        let loaded = u64::from(KERNEL) + self.kernel.len() as u64;
        if self.version < 0x020A {
            return loaded;
        }
        let preferred = u64_at(&self.setup, PREF_ADDRESS).unwrap_or(0);
        let size = u32_at(&self.setup, INIT_SIZE).unwrap_or(0);
        loaded.max(preferred.saturating_add(size.into()))
    }

    fn line_max(&self) -> usize {
        let max = match self.version {
            0x0206.. => u32_at(&self.setup, COMMAND_LINE_SIZE).unwrap_or(OLD_LINE_MAX),
            _ => OLD_LINE_MAX,
        };
        // It must end before what lies behind it in low memory.
        (max as usize).min(0x1_0000 - 1)
    }

    /// As high as the kernel and RAM let it be, on a page's boundary.
    fn initrd_place(&self, low_ram: u64, len: usize) -> Result<u32, BootError> {
        let anywhere = self.version >= 0x020C
            && u16_at(&self.setup, XLOADFLAGS).unwrap_or(0) & CAN_BE_LOADED_ABOVE_4G != 0;
        let last = match (anywhere, self.version) {
            (true, _) => u32::MAX,
            (false, 0x0203..) => u32_at(&self.setup, INITRD_MAX).unwrap_or(OLD_INITRD_MAX),
            (false, _) => OLD_INITRD_MAX,
        };
        let end = (u64::from(last) + 1).min(low_ram - ACPI_SPACE);
        let first = self.memory_needed();
        let len = len as u64;
        match end.checked_sub(len).map(|place| place & !0xFFF) {
            Some(place) if place >= first => Ok(place as u32),
            _ => Err(BootError::memory(
                "kernel and its initrd",
                first + len.next_multiple_of(0x1000) + ACPI_SPACE,
                low_ram,
            )),
        }
    }
}

impl Placed {
    /// The zero page of a direct start (`struct boot_params`): the setup header, `e820` and the
    /// address of ACPI's RSDP.
    pub fn zero_page(&self, e820: &[(u64, u64, u32)], rsdp: u64) -> Vec<u8> {
        const ALT_MEM_K: usize = 0x1E0;
        const E820_ENTRIES: usize = 0x1E8;
        const E820_TABLE: usize = 0x2D0;
        const E820_MAX: usize = 128;
        const ACPI_RSDP: usize = 0x70;
        let mut page = vec![0; 4096];
        let header_end = MAGIC + usize::from(self.setup[HEADER_LENGTH]);
        let header_end = header_end.min(self.setup.len()).min(E820_TABLE);
        page[SETUP_SECTS..header_end].copy_from_slice(&self.setup[SETUP_SECTS..header_end]);
        put(&mut page, ACPI_RSDP, &rsdp.to_le_bytes());
        let above_1m = e820
            .iter()
            .find(|entry| entry.0 == 0x10_0000 && entry.2 == 1);
        let kib = above_1m.map_or(0, |entry| u32::try_from(entry.1 >> 10).unwrap_or(u32::MAX));
        put(&mut page, ALT_MEM_K, &kib.to_le_bytes());
        let entries = e820.len().min(E820_MAX);
        page[E820_ENTRIES] = entries as u8;
        for (index, (base, size, kind)) in e820[..entries].iter().enumerate() {
            let at = E820_TABLE + 20 * index;
            put(&mut page, at, &base.to_le_bytes());
            put(&mut page, at + 8, &size.to_le_bytes());
            put(&mut page, at + 16, &kind.to_le_bytes());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of one setup sector and a kernel of `len` bytes.
    fn file(version: u16, len: usize) -> Vec<u8> {
        let mut file = vec![0; 2 * SECTOR + len];
        file[SETUP_SECTS] = 1;
        file[HEADER_LENGTH] = 0x66;
        put(&mut file, BOOT_FLAG, &[0x55, 0xAA]);
        put(&mut file, MAGIC, b"HdrS");
        put(&mut file, VERSION, &version.to_le_bytes());
        file[LOADFLAGS] = LOADED_HIGH;
        put(&mut file, 0x1F4, &(len as u32 / 16).to_le_bytes());
        put(&mut file, INITRD_MAX, &0x7FFF_FFFFu32.to_le_bytes());
        put(&mut file, COMMAND_LINE_SIZE, &2047u32.to_le_bytes());
        put(&mut file, PREF_ADDRESS, &0x100_0000u64.to_le_bytes());
        put(&mut file, INIT_SIZE, &0x100_0000u32.to_le_bytes());
        file
    }

    #[test]
    fn headers_are_checked() {
        assert!(is_image(&file(0x020F, 64)));
        let parse = |file: &[u8]| Image::parse(file).map(drop);
        assert_eq!(parse(&file(0x020F, 64)), Ok(()));
        let old = BootError::Protocol { major: 2, minor: 1 };
        assert_eq!(parse(&file(0x0201, 64)), Err(old));
        for end in [0x240, 2 * SECTOR, 2 * SECTOR + 32] {
            let cut = parse(&file(0x020F, 64)[..end]);
            assert!(matches!(cut, Err(BootError::Truncated { .. })), "{end}");
        }
        let mut low = file(0x020F, 64);
        low[LOADFLAGS] = 0;
        assert!(matches!(parse(&low), Err(BootError::Header(_))));
    }

    #[test]
    fn everything_is_put_where_it_fits() {
        const MIB: u64 = 1 << 20;
        let image = Image::parse(&file(0x020F, 64)).expect("an image");
        let initrd: Arc<[u8]> = vec![7; 5000].into();
        let placed = image.place(64 * MIB, "quiet", Some(initrd.clone()));
        let placed = placed.expect("it fits");
        let (address, _) = placed.initrd.clone().expect("there is one");
        assert_eq!(u64::from(address), (64 * MIB - ACPI_SPACE - 5000) & !0xFFF);
        assert_eq!(*placed.line, *b"quiet\0");
        assert_eq!(u32_at(&placed.setup, RAMDISK_IMAGE), Some(address));
        assert_eq!(u32_at(&placed.setup, RAMDISK_SIZE), Some(5000));
        let few = image.place(16 * MIB, "", None).map(drop);
        assert!(matches!(few, Err(BootError::Memory { what: "kernel", .. })));
        let huge: Arc<[u8]> = vec![0; 40 << 20].into();
        let full = image.place(64 * MIB, "", Some(huge)).map(drop);
        assert!(matches!(full, Err(BootError::Memory { .. })));
        let long = image.place(64 * MIB, &"x".repeat(3000), None).map(drop);
        let max = 2047;
        assert_eq!(long, Err(BootError::CommandLine { len: 3000, max }));
    }

    #[test]
    fn the_zero_page_has_header_and_map() {
        let image = Image::parse(&file(0x020F, 64)).expect("an image");
        let placed = image.place(64 << 20, "", None).expect("it fits");
        let map = [(0, 0x9FC00, 1), (0x10_0000, 0x3F0_0000, 1)];
        let page = placed.zero_page(&map, 0xE_0000);
        assert_eq!(page.len(), 4096);
        assert_eq!(page[0x1E8], 2);
        assert_eq!(u64_at(&page, 0x70), Some(0xE_0000));
        assert_eq!(u64_at(&page, 0x2D0 + 20), Some(0x10_0000));
        assert_eq!(u32_at(&page, COMMAND_LINE), Some(LINE));
    }
}
