//! Firmware images as the system's packages bring them: BIOS and option ROMs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::run::RunError;

/// Where Debian's packages `seabios` and `qemu-system-data` put images, and where others do.
const DIRS: &[&str] = &[
    "/usr/share/seabios",
    "/usr/share/qemu",
    "/usr/local/share/qemu",
];

/// The BIOS of a machine for which none is named.
pub const DEFAULT_BIOS: &str = "bios-256k.bin";
/// The video BIOS of the standard VGA.
pub const VGA_BIOS: &str = "vgabios-stdvga.bin";
/// The option ROM that starts a Linux kernel from fw_cfg.
pub const LINUX_BOOT: &str = "linuxboot_dma.bin";
/// The option ROM that starts a multiboot kernel from fw_cfg.
pub const MULTIBOOT: &str = "multiboot_dma.bin";

/// A BIOS is a multiple of this, ...
const BIOS_UNIT: usize = 0x1_0000;
/// ... at most this large.
const BIOS_MAX: usize = 8 << 20;
/// An option ROM's length is one byte of units of 512 bytes.
const ROM_MAX: usize = 255 * 512;

/// Finds images by name.
#[derive(Clone, Debug, Default)]
pub struct Firmware {
    dirs: Vec<PathBuf>,
}

impl Firmware {
    /// Looks in `dirs` (`-L`) first, then where systems have firmware.
    pub fn new(dirs: &[PathBuf]) -> Self {
        let system = DIRS.iter().map(PathBuf::from);
        Self {
            dirs: dirs.iter().cloned().chain(system).collect(),
        }
    }

    /// The file of that name, if there is one.
    pub fn find(&self, name: &Path) -> Option<PathBuf> {
        self.dirs
            .iter()
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
    }

    /// The BIOS image `name`: a path, or the name of an image of the system's.
    ///
    /// # Errors
    /// If there is none, or it cannot be one.
    pub fn bios(&self, name: &Path) -> Result<Vec<u8>, RunError> {
        let bare = name.components().count() == 1 && !name.exists();
        let found = if bare { self.find(name) } else { None };
        if bare && found.is_none() && name == Path::new(DEFAULT_BIOS) {
            let problem = "not found: install the package seabios, or name a BIOS with -bios";
            return Err(RunError::file(name, problem));
        }
        let path = found.as_deref().unwrap_or(name);
        let bytes = read_at_most(path, BIOS_MAX, "a BIOS image")?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(BIOS_UNIT) {
            let problem = format!(
                "{} bytes are no BIOS image: a multiple of 64 KiB is",
                bytes.len()
            );
            return Err(RunError::file(path, problem));
        }
        Ok(bytes)
    }

    /// The option ROM `name`, if the system has it.
    ///
    /// # Errors
    /// If there is one that cannot be read, or is none.
    pub fn option_rom(&self, name: &str) -> Result<Option<Vec<u8>>, RunError> {
        let Some(path) = self.find(Path::new(name)) else {
            return Ok(None);
        };
        let bytes = read_at_most(&path, ROM_MAX, "an option ROM")?;
        if !bytes.starts_with(&[0x55, 0xAA]) {
            return Err(RunError::file(
                &path,
                "no option ROM: it does not begin with 55 AA",
            ));
        }
        Ok(Some(bytes))
    }
}

/// Reads a file of at most `most` bytes, whatever it claims to be.
///
/// # Errors
/// If it cannot be read, or is larger.
pub fn read_at_most(path: &Path, most: usize, what: &str) -> Result<Vec<u8>, RunError> {
    let fail = |error: std::io::Error| RunError::file(path, error.to_string());
    let file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(RunError::file(path, "is a directory"));
    }
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > most {
        let problem = format!("too large for {what}: more than {most} bytes");
        return Err(RunError::file(path, problem));
    }
    Ok(bytes)
}
