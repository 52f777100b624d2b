//! Starting a kernel: what `-kernel`, `-initrd` and `-append` name.
//!
//! - [`linux`]: bzImage by the Linux boot protocol, through fw_cfg or directly
//! - [`elf`]: ELF files; [`multiboot`]: Multiboot 1; [`pvh`]: the PVH entry
//! - [`start`]: which way; [`direct`]: the machine as firmware would leave it, where there is none

pub mod direct;
pub mod elf;
pub mod linux;
pub mod multiboot;
pub mod pvh;
pub mod start;

use std::path::Path;
use std::sync::Arc;

use crate::firmware::read_at_most;
use crate::run::RunError;

/// The largest kernel or initrd taken: what fits below 4 GiB.
const FILE_MAX: usize = 3 << 30;

/// A kernel, by how it is started.
#[derive(Debug)]
pub enum Kernel {
    /// A Linux bzImage.
    Linux(linux::Image),
    /// A Multiboot 1 kernel.
    Multiboot(multiboot::Image),
    /// An ELF file with a PVH entry point.
    Pvh(pvh::Image),
}

/// Why a kernel cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// No known format.
    #[error(
        "no kernel: neither a bzImage, nor a multiboot kernel, nor an ELF file with a PVH entry"
    )]
    Unknown,
    /// The file ends before what its headers promise.
    #[error("truncated: {what} ends at {end:#x}, the file at {len:#x}")]
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Where it should end.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// A header says something impossible.
    #[error("{0}")]
    Header(&'static str),
    /// Linux before boot protocol 2.02.
    #[error("boot protocol {major}.{minor:02} is too old: 2.02 or later is needed")]
    Protocol {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The command line does not fit.
    #[error("the command line has {len} bytes, this kernel takes {max}")]
    CommandLine {
        /// Its length.
        len: usize,
        /// What the kernel takes.
        max: usize,
    },
    /// Guest memory is too small.
    #[error(
        "too little memory for the {what}: it needs {need} MiB, the guest has {have} MiB below 4 GiB (-m)"
    )]
    Memory {
        /// What does not fit.
        what: &'static str,
        /// MiB it needs.
        need: u64,
        /// MiB there are.
        have: u64,
    },
}

impl BootError {
    /// `what` must end at `need`, RAM ends at `have`.
    fn memory(what: &'static str, need: u64, have: u64) -> Self {
        Self::Memory {
            what,
            need: need.div_ceil(1 << 20),
            have: have >> 20,
        }
    }

    /// The error about the file at `path`.
    pub fn of(self, path: &Path) -> RunError {
        RunError::file(path, self.to_string())
    }
}

/// Reads a kernel.
///
/// # Errors
/// If the file cannot be read, or is none.
pub fn load(path: &Path) -> Result<Kernel, RunError> {
    let bytes = read_at_most(path, FILE_MAX, "a kernel")?;
    parse(&bytes).map_err(|error| error.of(path))
}

/// Reads an initrd or a module.
///
/// # Errors
/// If the file cannot be read.
pub fn load_initrd(path: &Path) -> Result<Arc<[u8]>, RunError> {
    let bytes = read_at_most(path, FILE_MAX, "an initrd")?;
    if bytes.is_empty() {
        return Err(RunError::file(path, "is empty"));
    }
    Ok(bytes.into())
}

fn parse(file: &[u8]) -> Result<Kernel, BootError> {
    if linux::is_image(file) {
        return Ok(Kernel::Linux(linux::Image::parse(file)?));
    }
    if let Some(image) = multiboot::Image::parse(file)? {
        return Ok(Kernel::Multiboot(image));
    }
    if elf::is_elf(file) {
        return Ok(Kernel::Pvh(pvh::Image::parse(file)?));
    }
    Err(BootError::Unknown)
}

/// Little-endian fields of a file.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// Puts a field into a block that is large enough for it.
fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_said_so() {
        let parse = |bytes: &[u8]| parse(bytes).map(drop);
        assert_eq!(parse(b""), Err(BootError::Unknown));
        assert_eq!(parse(&[0xFF; 70_000]), Err(BootError::Unknown));
        assert!(parse(b"\x7FELF").is_err());
    }
}
