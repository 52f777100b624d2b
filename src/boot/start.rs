//! Which way a kernel is started, and with what.

use std::path::Path;
use std::sync::Arc;

use devices::acpi;
use devices::fw_cfg::{Contents, ContentsError, Item, key};
use devices::memory_map::ram_split;

use super::direct::{self, Entry};
use super::linux::{self, KERNEL, LINE, SETUP};
use super::multiboot::{self, INFO};
use super::{BootError, Kernel, load, load_initrd, pvh};
use crate::cli::CliError;
use crate::firmware::{LINUX_BOOT, MULTIBOOT};
use crate::machine::Boot;
use crate::run::RunError;

/// Where the RSDP lies when there is no firmware to place it.
const RSDP: u64 = 0xF_5A00;

/// A kernel and what goes with it, as the user named it.
pub struct Request<'a> {
    /// `-kernel`.
    pub kernel: &'a Path,
    /// `-initrd`.
    pub initrd: Option<&'a str>,
    /// `-append`.
    pub line: &'a str,
    /// Guest RAM in bytes.
    pub ram: u64,
}

/// A kernel, placed.
pub enum Placed {
    /// A Linux bzImage.
    Linux(linux::Placed),
    /// A Multiboot 1 kernel.
    Multiboot(multiboot::Placed),
    /// An ELF file with a PVH entry.
    Pvh(PlacedPvh),
}

/// An ELF file with a PVH entry, placed.
pub struct PlacedPvh {
    image: pvh::Image,
    line: Arc<[u8]>,
    initrd: Option<(u64, Arc<[u8]>)>,
}

impl Request<'_> {
    /// Reads the files and finds places for them.
    ///
    /// # Errors
    /// If one cannot be read, is damaged, or does not fit.
    pub fn place(&self) -> Result<Placed, RunError> {
        let (low, _) = ram_split(self.ram);
        let fail = |error: BootError| error.of(self.kernel);
        match load(self.kernel)? {
            Kernel::Linux(image) => {
                let placed = image.place(low, self.line, self.one_initrd()?);
                Ok(Placed::Linux(placed.map_err(fail)?))
            }
            Kernel::Multiboot(image) => {
                let name = self.kernel.display();
                let line = format!("{name} {}", self.line);
                let placed = image.place(low, line.trim_end(), &self.modules()?);
                Ok(Placed::Multiboot(placed.map_err(fail)?))
            }
            Kernel::Pvh(image) => {
                let initrd = self.one_initrd()?;
                Ok(Placed::Pvh(
                    self.place_pvh(image, initrd, low).map_err(fail)?,
                ))
            }
        }
    }

    fn one_initrd(&self) -> Result<Option<Arc<[u8]>>, RunError> {
        self.initrd
            .map(|path| load_initrd(Path::new(path)))
            .transpose()
    }

    /// Modules stand separated by commas (`,,` is one in a name), each with its command line.
    fn modules(&self) -> Result<Vec<multiboot::Module>, RunError> {
        let Some(list) = self.initrd else {
            return Ok(Vec::new());
        };
        let modules = crate::properties::split(list);
        let load = |module: String| {
            let path = module.split(' ').next().unwrap_or_default();
            Ok((load_initrd(Path::new(path))?, module))
        };
        modules.into_iter().map(load).collect()
    }

    fn place_pvh(
        &self,
        image: pvh::Image,
        initrd: Option<Arc<[u8]>>,
        low: u64,
    ) -> Result<PlacedPvh, BootError> {
        image.check_memory(low)?;
        let end = low - linux::ACPI_SPACE;
        let initrd = match initrd {
            None => None,
            Some(bytes) => {
                let len = bytes.len() as u64;
                let at = end.checked_sub(len).map(|at| at & !0xFFF);
                let Some(at) = at.filter(|at| *at >= image.end()) else {
                    let need = image.end() + len + linux::ACPI_SPACE;
                    return Err(BootError::memory("kernel and its initrd", need, low));
                };
                Some((at, bytes))
            }
        };
        let mut line = self.line.as_bytes().to_vec();
        line.push(0);
        let line = line.into();
        Ok(PlacedPvh {
            image,
            line,
            initrd,
        })
    }
}

impl Placed {
    /// The option ROM that starts it under a BIOS; none if it is always started directly.
    pub fn option_rom(&self) -> Option<&'static str> {
        match self {
            Self::Linux(_) => Some(LINUX_BOOT),
            Self::Multiboot(_) => Some(MULTIBOOT),
            Self::Pvh(_) => None,
        }
    }

    /// Leaves it with the configuration device for its option ROM, `rom`, which is booted first.
    ///
    /// # Errors
    /// If the device cannot hold it.
    pub fn through_fw_cfg(&self, contents: &mut Contents, rom: Vec<u8>) -> Result<(), RunError> {
        let name = self.option_rom().unwrap_or_default();
        let order = format!("/rom@genroms/{name}\0");
        contents.add_file(&format!("genroms/{name}"), Item::read_only(rom))?;
        contents.add_file("bootorder", Item::read_only(order.into_bytes()))?;
        match self {
            Self::Linux(placed) => linux_items(placed, contents)?,
            Self::Multiboot(placed) => multiboot_items(placed, contents)?,
            Self::Pvh(_) => {}
        }
        Ok(())
    }

    /// Starts it without firmware, with ACPI's tables at the end of low RAM.
    ///
    /// # Errors
    /// If the tables do not fit.
    pub fn directly(self, ram: u64, acpi: &acpi::loader::Files) -> Result<Boot, RunError> {
        /// Less has no room for tables behind the first megabyte.
        const LEAST: u64 = 2 << 20;
        let (low, high) = ram_split(ram);
        if low < LEAST {
            let text = "-bios none: a start without firmware needs 2 MiB of memory at least (-m)";
            return Err(CliError::Usage(text.into()).into());
        }
        let tables_at = low - linux::ACPI_SPACE;
        let too_large = acpi.size() as u64 > linux::ACPI_SPACE;
        let placed = acpi.placed(tables_at).ok().filter(|_| !too_large);
        let Some(acpi) = placed else {
            let text = "-bios none: the ACPI tables find no place in memory of this size (-m)";
            return Err(CliError::Usage(text.into()).into());
        };
        let e820 = direct::e820(low, high, linux::ACPI_SPACE);
        let mut memory: Vec<(u64, Arc<[u8]>)> =
            vec![(tables_at, acpi.tables.into()), (RSDP, acpi.rsdp.into())];
        let entry = match self {
            Self::Linux(placed) => linux_entry(placed, &e820, &mut memory),
            Self::Multiboot(placed) => multiboot_entry(placed, &e820, &mut memory),
            Self::Pvh(placed) => pvh_entry(placed, &e820, &mut memory),
        };
        Ok(direct::boot(entry, memory))
    }
}

fn linux_items(placed: &linux::Placed, contents: &mut Contents) -> Result<(), ContentsError> {
    contents.set_u32(key::CMDLINE_ADDR, LINE);
    contents.set_u32(key::CMDLINE_SIZE, placed.line.len() as u32);
    contents.set(key::CMDLINE_DATA, Arc::clone(&placed.line))?;
    contents.set_u32(key::SETUP_ADDR, SETUP);
    contents.set_u32(key::SETUP_SIZE, placed.setup.len() as u32);
    contents.set(key::SETUP_DATA, Arc::clone(&placed.setup))?;
    contents.set_u32(key::KERNEL_ADDR, KERNEL);
    contents.set_u32(key::KERNEL_SIZE, placed.kernel.len() as u32);
    contents.set(key::KERNEL_DATA, Arc::clone(&placed.kernel))?;
    if let Some((address, bytes)) = &placed.initrd {
        contents.set_u32(key::INITRD_ADDR, *address);
        contents.set_u32(key::INITRD_SIZE, bytes.len() as u32);
        contents.set(key::INITRD_DATA, Arc::clone(bytes))?;
    }
    Ok(())
}

/// The option ROM takes the information as the initrd.
fn multiboot_items(
    placed: &multiboot::Placed,
    contents: &mut Contents,
) -> Result<(), ContentsError> {
    contents.set_u32(key::KERNEL_ENTRY, placed.entry);
    contents.set_u32(key::KERNEL_ADDR, placed.address);
    contents.set_u32(key::KERNEL_SIZE, placed.image.len() as u32);
    contents.set(key::KERNEL_DATA, Arc::clone(&placed.image))?;
    contents.set_u32(key::INITRD_ADDR, INFO);
    contents.set_u32(key::INITRD_SIZE, placed.info.len() as u32);
    contents.set(key::INITRD_DATA, placed.info.clone())
}

type Memory = Vec<(u64, Arc<[u8]>)>;

fn linux_entry(placed: linux::Placed, e820: &[(u64, u64, u32)], memory: &mut Memory) -> Entry {
    let page = placed.zero_page(e820, RSDP);
    memory.push((SETUP.into(), page.into()));
    memory.push((LINE.into(), placed.line));
    memory.push((KERNEL.into(), placed.kernel));
    memory.extend(placed.initrd.map(|(at, bytes)| (at.into(), bytes)));
    Entry {
        eip: KERNEL,
        esi: SETUP,
        ..Entry::default()
    }
}

fn multiboot_entry(
    mut placed: multiboot::Placed,
    e820: &[(u64, u64, u32)],
    memory: &mut Memory,
) -> Entry {
    let (map_at, map) = placed.with_map(e820);
    memory.push((map_at.into(), map.into()));
    memory.push((INFO.into(), placed.info.into()));
    memory.push((placed.address.into(), placed.image));
    Entry {
        eip: placed.entry,
        eax: multiboot::ENTERED,
        ebx: INFO,
        ..Entry::default()
    }
}

fn pvh_entry(placed: PlacedPvh, e820: &[(u64, u64, u32)], memory: &mut Memory) -> Entry {
    let start = pvh::Start {
        line: LINE,
        initrd: placed
            .initrd
            .as_ref()
            .map(|(at, bytes)| (*at, bytes.len() as u64)),
        rsdp: RSDP,
        e820,
    };
    memory.push((SETUP.into(), pvh::start_info(SETUP, &start).into()));
    memory.push((LINE.into(), placed.line));
    for segment in placed.image.segments() {
        memory.push((segment.address, Arc::clone(&segment.bytes)));
        let len = segment.bytes.len() as u64;
        if segment.size > len {
            let zeros = vec![0; (segment.size - len) as usize];
            memory.push((segment.address + len, zeros.into()));
        }
    }
    memory.extend(placed.initrd);
    Entry {
        eip: placed.image.entry(),
        ebx: SETUP,
        ..Entry::default()
    }
}
