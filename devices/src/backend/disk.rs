//! Raw disk images and block devices: what a drive's medium is.
//!
//! A file may have any size: a disk is whole sectors of 512 bytes, what a file lacks of the last one
//! reads as zeros. Locks tell another process that a disk is in use ([`lock`]). A writer wants a disk
//! for itself; readers and snapshots share it. File systems without locks are used without.
//!
//! Not modelled: image formats; discard.

mod lock;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use snapshot::Snapshot;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// How a disk is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskOptions {
    /// Writes fail.
    pub read_only: bool,
    /// Writes are forgotten when the machine ends; the image is never written.
    pub snapshot: bool,
}

/// Why a disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is nothing at the path.
    #[error("disk image {path}: no such file")]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The host does not let the user have it.
    #[error("disk image {path}: permission denied")]
    Denied {
        /// The path.
        path: PathBuf,
    },
    /// It is a directory.
    #[error("disk image {path}: is a directory")]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// It is a pipe, a terminal or the like.
    #[error("disk image {path}: neither a file nor a block device")]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// It holds nothing.
    #[error("disk image {path}: is empty")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("disk image {path}: locked by another process")]
    Locked {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("disk image {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The host's word.
        #[source]
        source: io::Error,
    },
}

/// A disk; every clone is the same one.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    store: Store,
    size: u64,
    read_only: bool,
}

enum Store {
    File(File),
    Snapshot(Mutex<Snapshot>),
    Memory(Mutex<Vec<u8>>),
    #[cfg(test)]
    Broken,
}

impl Disk {
    /// Opens an image file or a block device.
    ///
    /// # Errors
    /// If it is no disk, or the host or another process does not let it be used as asked.
    pub fn open(path: &Path, options: DiskOptions) -> Result<Self, DiskError> {
        let failed = |source: io::Error| explain(path, source);
        // Asked before it is opened: opening a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        let path_buf = || path.to_path_buf();
        if kind.is_dir() {
            return Err(DiskError::Directory { path: path_buf() });
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::Kind { path: path_buf() });
        }
        let writable = !options.read_only && !options.snapshot;
        let mut how = OpenOptions::new();
        let mut file = how.read(true).write(writable).open(path).map_err(failed)?;
        if !lock::lock(&file, writable) {
            return Err(DiskError::Locked { path: path_buf() });
        }
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if size == 0 {
            return Err(DiskError::Empty { path: path_buf() });
        }
        let store = if options.snapshot {
            Store::Snapshot(Mutex::new(Snapshot::new(file).map_err(failed)?))
        } else {
            Store::File(file)
        };
        Ok(Self::new(store, size, options.read_only))
    }

    /// A disk in memory that holds `bytes`.
    pub fn memory(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self::new(Store::Memory(Mutex::new(bytes)), size, false)
    }

    /// A disk whose every access fails.
    #[cfg(test)]
    pub(crate) fn broken(size: u64) -> Self {
        Self::new(Store::Broken, size, false)
    }

    /// The same bytes as a disk that cannot be written.
    #[cfg(test)]
    pub(crate) fn read_only_memory(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self::new(Store::Memory(Mutex::new(bytes)), size, true)
    }

    fn new(store: Store, size: u64, read_only: bool) -> Self {
        // No host has files near 2^64 bytes; rounding up cannot wrap.
        let size = size.div_ceil(SECTOR).saturating_mul(SECTOR);
        Self(Arc::new(Inner {
            store,
            size,
            read_only,
        }))
    }

    /// Its size in bytes: whole sectors.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Its size in sectors.
    pub fn sectors(&self) -> u64 {
        self.0.size / SECTOR
    }

    /// Whether writes fail.
    pub fn read_only(&self) -> bool {
        self.0.read_only
    }

    /// Reads from byte `offset` on.
    ///
    /// # Errors
    /// If a byte lies beyond the end, or the host cannot read.
    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        match &self.0.store {
            Store::File(file) => read_padded(file, offset, data),
            Store::Snapshot(snapshot) => locked(snapshot).read_at(offset, data),
            Store::Memory(bytes) => {
                data.fill(0);
                let bytes = locked(bytes);
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                for (to, from) in data.iter_mut().zip(bytes.iter().skip(start)) {
                    *to = *from;
                }
                Ok(())
            }
            #[cfg(test)]
            Store::Broken => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Writes from byte `offset` on.
    ///
    /// # Errors
    /// If the disk is read-only, a byte lies beyond the end, or the host cannot write.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.check(offset, data.len())?;
        match &self.0.store {
            Store::File(file) => file.write_all_at(data, offset),
            Store::Snapshot(snapshot) => locked(snapshot).write_at(offset, data),
            Store::Memory(bytes) => {
                let mut bytes = locked(bytes);
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
                Ok(())
            }
            #[cfg(test)]
            Store::Broken => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Waits until what was written outlives the host.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn flush(&self) -> io::Result<()> {
        match &self.0.store {
            Store::File(file) if !self.0.read_only => file.sync_data(),
            #[cfg(test)]
            Store::Broken => Err(io::ErrorKind::Other.into()),
            // What a snapshot holds is forgotten anyway.
            _ => Ok(()),
        }
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len as u64);
        let inside = end.is_some_and(|end| end <= self.0.size);
        if inside {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} bytes)", self.0.size)
    }
}

/// Reads; what lies behind the file's end is zeros.
fn read_padded(file: &File, mut offset: u64, mut data: &mut [u8]) -> io::Result<()> {
    while !data.is_empty() {
        match file.read_at(data, offset) {
            Ok(0) => {
                data.fill(0);
                return Ok(());
            }
            Ok(n) => {
                data = &mut data[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn explain(path: &Path, source: io::Error) -> DiskError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound => DiskError::NotFound { path },
        io::ErrorKind::PermissionDenied => DiskError::Denied { path },
        io::ErrorKind::IsADirectory => DiskError::Directory { path },
        _ => DiskError::Io { path, source },
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
