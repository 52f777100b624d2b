//! Whole guests in an emulator that runs as a program: start it, type, wait for words, measure.
//!
//! The emulator under test is `twin86`, built in release, or what [`PROGRAM`] names; all it is asked
//! is in QEMU's option names, so that QEMU itself can stand in its place
//! (`TWIN86=qemu-system-x86_64 cargo test -p testsuite --test boot`) and be the reference beside it.
//! The guests are Debian's, fetched and built by `testsuite/guests/fetch`; without them a test is
//! skipped by name.

mod compare;
mod console;
mod emulator;
mod running;
mod usage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub use compare::{Known, apart, normal};
pub(crate) use emulator::target;
pub use emulator::{Emulator, Machine, PROGRAM};
pub use running::{BOOT, PROMPT, Reply, Running};
pub use usage::Usage;

use crate::skip::skip;

/// How many machines run at once: each is one busy processor, and waits are measured in host time.
const MACHINES: usize = 2;

/// A Debian kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// `linux-image-cloud-amd64`: for virtual machines, LZ4.
    Cloud,
    /// `linux-image-amd64`: for everything, XZ.
    Full,
    /// `linux-image-686`: 32-bit with two-level page tables.
    I686,
    /// `linux-image-686-pae`: 32-bit with PAE.
    I686Pae,
}

impl Kernel {
    /// As the cache's files are named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Full => "full",
            Self::I686 => "686",
            Self::I686Pae => "686-pae",
        }
    }
}

/// The test guests, and leave to run machines.
#[derive(Debug)]
pub struct Guests {
    folder: PathBuf,
    _turn: Turn,
}

impl Guests {
    /// For a test that runs one machine at a time, beside others.
    pub fn one() -> Option<Self> {
        Self::take(1)
    }

    /// For a test that measures, or runs two machines: nothing else runs meanwhile.
    pub fn alone() -> Option<Self> {
        Self::take(MACHINES)
    }

    fn take(machines: usize) -> Option<Self> {
        let folder = folder();
        if !folder.join("complete").is_file() {
            let reason = Missing(folder);
            skip("guests", &reason);
            return None;
        }
        let turn = Turn::take(machines);
        Some(Self {
            folder,
            _turn: turn,
        })
    }

    /// For a test of a kernel: a cache made before that kernel was asked for does not have it.
    pub fn with(kernel: Kernel) -> Option<Self> {
        Self::one().filter(|guests| guests.has(kernel))
    }

    /// Whether `kernel` is in the cache; a skip if it is not.
    pub fn has(&self, kernel: Kernel) -> bool {
        let lacking = lacking(&self.folder, kernel);
        if let Some(file) = &lacking {
            skip("guests", &Old(file));
        }
        lacking.is_none()
    }

    /// A file of the cache.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A machine in the emulator under test.
    pub fn machine(&self) -> Machine<'_> {
        Machine::new(self, Emulator::under_test())
    }

    /// The same machine in QEMU; `None`, and a skip, if there is none.
    pub fn reference(&self) -> Option<Machine<'_>> {
        match Emulator::reference() {
            Ok(emulator) => Some(Machine::new(self, emulator)),
            Err(reason) => {
                skip("qemu", &reason);
                None
            }
        }
    }
}

/// Why there are no guests.
struct Missing(PathBuf);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.0.display();
        write!(f, "no guests in {folder}: run testsuite/guests/fetch")
    }
}

/// The cache is older than this checkout.
struct Old<'a>(&'a Path);

impl fmt::Display for Old<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.display();
        write!(f, "no {file}, an old cache: run testsuite/guests/fetch")
    }
}

/// The first file of `kernel` that `folder` does not have.
fn lacking(folder: &Path, kernel: Kernel) -> Option<PathBuf> {
    let name = kernel.name();
    let files = [format!("vmlinuz-{name}"), format!("initrd.{name}.gz")];
    let mut files = files.into_iter().map(|file| folder.join(file));
    files.find(|file| !file.is_file())
}

/// Where `fetch` puts the guests.
pub(crate) fn folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_default();
    cache.join("twin86/guests")
}

static FREE: Mutex<usize> = Mutex::new(MACHINES);
static GIVEN_BACK: Condvar = Condvar::new();

fn free() -> MutexGuard<'static, usize> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leave to run so many machines.
#[derive(Debug)]
struct Turn(usize);

impl Turn {
    fn take(machines: usize) -> Self {
        let mut left = GIVEN_BACK
            .wait_while(free(), |free| *free < machines)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= machines;
        Self(machines)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *free() += self.0;
        GIVEN_BACK.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_cache_lacks_kernels() {
        let folder = std::env::temp_dir().join(format!("twin86-cache-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for name in ["vmlinuz-cloud", "initrd.cloud.gz", "vmlinuz-686"] {
            std::fs::write(folder.join(name), b"").expect("a file");
        }
        assert_eq!(lacking(&folder, Kernel::Cloud), None);
        let initrd = folder.join("initrd.686.gz");
        assert_eq!(lacking(&folder, Kernel::I686), Some(initrd));
        let kernel = folder.join("vmlinuz-686-pae");
        assert_eq!(lacking(&folder, Kernel::I686Pae), Some(kernel));
        std::fs::remove_dir_all(&folder).expect("it was there");
    }
}
