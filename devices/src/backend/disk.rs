//! Disk backends: what a drive is plugged into.
//!
//! A [`Disk`] is a sequence of 512-byte sectors over a raw image (a file or a block device), an image
//! with an overlay that takes its writes ([`Options::snapshot`]), or memory. Sizes are rounded up to whole
//! sectors: past the end of the image zeros are read. A host's error is the caller's to tell the guest.
//!
//! Images are locked ([`lock`]) so that two machines do not write one. Not modelled: formats but raw.

mod lock;
mod overlay;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use overlay::Overlay;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// How an image is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The guest cannot write.
    pub read_only: bool,
    /// What the guest writes is kept apart and lost at the end; the image itself is only read.
    pub snapshot: bool,
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("{}: there is no such image", path.display())]
    NotFound {
        /// The image.
        path: PathBuf,
    },
    /// The user may not open it.
    #[error("{}: permission to {} denied", path.display(), if *write { "write" } else { "read" })]
    Permission {
        /// The image.
        path: PathBuf,
        /// Whether it was opened for writing, too.
        write: bool,
    },
    /// It is a directory.
    #[error("{}: is a directory", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// It is a device without sectors, a pipe or a socket.
    #[error("{}: is neither a file nor a block device", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// It holds nothing.
    #[error("{}: is empty", path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// Another process has it in use.
    #[error("{}: is in use by another process", path.display())]
    Locked {
        /// The image.
        path: PathBuf,
    },
    /// There is no room for what the guest will write.
    #[error("a temporary file for the guest's writes to {} cannot be made", path.display())]
    Overlay {
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The host says something else.
    #[error("{}: cannot be opened", path.display())]
    Host {
        /// The image.
        path: PathBuf,
        /// What it says.
        #[source]
        source: io::Error,
    },
}

/// What keeps a disk's bytes. Accesses are whole: one that succeeds has moved every byte.
pub trait Store: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Reads; past the end there are zeros.
    ///
    /// # Errors
    /// If the host cannot.
    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Writes.
    ///
    /// # Errors
    /// If the host cannot.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes what was written last.
    ///
    /// # Errors
    /// If the host cannot.
    fn flush(&self) -> io::Result<()>;
}

/// A disk; every clone is the same one.
#[derive(Clone)]
pub struct Disk {
    store: Arc<dyn Store>,
    read_only: bool,
}

impl Disk {
    /// Opens the raw image at `path`.
    ///
    /// # Errors
    /// If it cannot be opened as `options` say, or is in use.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, DiskError> {
        let path = path.as_ref();
        // Only the image's own writer needs it writable.
        let write = !options.read_only && !options.snapshot;
        let image = Image::open(path, write)?;
        let disk = if options.snapshot && !options.read_only {
            let overlay = Overlay::new(image).map_err(|source| DiskError::Overlay {
                path: path.to_owned(),
                source,
            })?;
            Self::new(Arc::new(overlay))
        } else {
            Self::new(Arc::new(image))
        };
        Ok(Self {
            read_only: options.read_only,
            ..disk
        })
    }

    /// A disk over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            read_only: false,
        }
    }

    /// A disk in memory.
    pub fn ram(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(Ram(Mutex::new(bytes))))
    }

    /// The same disk, which the guest cannot write.
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// Whether the guest cannot write.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        self.store.size().div_ceil(SECTOR)
    }

    /// Reads bytes from `offset` on.
    ///
    /// # Errors
    /// If they are not all inside the disk, or the host cannot.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        self.store.read(offset, data)
    }

    /// Writes bytes from `offset` on.
    ///
    /// # Errors
    /// If they are not all inside the disk, it is read-only, or the host cannot.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.check(offset, data.len())?;
        self.store.write(offset, data)
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// If the host cannot.
    pub fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.store.flush()
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len as u64);
        match end {
            Some(end) if end <= self.sectors().saturating_mul(SECTOR) => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} sectors)", self.sectors())
    }
}

/// A raw image on the host.
struct Image {
    file: File,
    size: u64,
}

impl Image {
    fn open(path: &Path, write: bool) -> Result<Self, DiskError> {
        let named = || path.to_owned();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound { path: named() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                let path = named();
                DiskError::Permission { path, write }
            }
            _ => DiskError::Host {
                path: named(),
                source,
            },
        };
        // Asked before it is opened: a pipe without a writer would keep us waiting.
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(DiskError::Directory { path: named() });
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::Kind { path: named() });
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(write)
            .open(path)
            .map_err(failed)?;
        // Of a block device too, whose metadata tell no size.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if size == 0 {
            return Err(DiskError::Empty { path: named() });
        }
        if !lock::lock(&file, write).map_err(failed)? {
            return Err(DiskError::Locked { path: named() });
        }
        Ok(Self { file, size })
    }
}

impl Store for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        read_zero_padded(&self.file, offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Reads all of `data`; zeros past the end of the file.
fn read_zero_padded(file: &File, mut offset: u64, data: &mut [u8]) -> io::Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(n) => {
                offset += n as u64;
                rest = &mut rest[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A disk in memory.
struct Ram(Mutex<Vec<u8>>);

impl Store for Ram {
    fn size(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        let held = &bytes[start..];
        let held = &held[..held.len().min(data.len())];
        data[..held.len()].copy_from_slice(held);
        data[held.len()..].fill(0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        // What lies past an odd size is padding, and lost.
        for (byte, new) in bytes[start..].iter_mut().zip(data) {
            *byte = *new;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
