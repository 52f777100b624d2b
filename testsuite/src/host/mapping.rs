//! Host memory that a processor other than the Rust program reads and writes.
// UNSAFETY: memory comes from mmap, and both the native code of a case and an engine under test
// change it behind the compiler's back.
#![expect(unsafe_code, reason = "see UNSAFETY")]

use std::io;
use std::ptr::NonNull;

/// A mapping of our own, read and written by copies only.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is reached through copies by raw pointer only, each under `&self` or
// `&mut self` of its one owner, while no case runs.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&self` methods only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of fresh memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let place = Place {
            at: 0,
            fd: -1,
            offset: 0,
        };
        map(&place, len, libc::PROT_READ | libc::PROT_WRITE, flags)
    }

    /// `len` bytes of the file `fd`, readable and writable.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn of_file(fd: i32, len: usize) -> io::Result<Self> {
        let place = Place {
            at: 0,
            fd,
            offset: 0,
        };
        map(
            &place,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
        )
    }

    /// One page of the file `fd` at the fixed address `at`, kept present so that a fault on it is
    /// one of permission.
    ///
    /// # Errors
    /// If something else is mapped there or the kernel refuses.
    pub fn fixed_page(at: u64, fd: i32, offset: usize, protection: i32) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
        map(
            &Place { at, fd, offset },
            crate::layout::PAGE as usize,
            protection,
            flags,
        )
    }

    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes; it always has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset <= self.len && to.len() <= self.len - offset);
        // SAFETY: the range is inside the mapping, which lives as long as `self`.
        unsafe {
            self.start
                .as_ptr()
                .add(offset)
                .copy_to(to.as_mut_ptr(), to.len())
        }
    }

    /// Copies bytes in.
    pub fn write(&mut self, offset: usize, from: &[u8]) {
        assert!(offset <= self.len && from.len() <= self.len - offset);
        // SAFETY: the range is inside the mapping, which lives as long as `self`.
        unsafe {
            self.start
                .as_ptr()
                .add(offset)
                .copy_from(from.as_ptr(), from.len())
        }
    }

    /// Eight bytes, little-endian.
    pub fn word(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Whether the bytes at `offset` are `other`.
    pub fn equals(&self, offset: usize, other: &[u8]) -> bool {
        assert!(offset <= self.len && other.len() <= self.len - offset);
        // SAFETY: the range is inside the mapping, which lives as long as `self`; memcmp reads
        // nothing else.
        unsafe {
            let own = self.start.as_ptr().add(offset);
            libc::memcmp(own.cast(), other.as_ptr().cast(), other.len()) == 0
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is a mapping that only `self` names.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Where a mapping goes and what is behind it.
struct Place {
    at: u64,
    fd: i32,
    offset: usize,
}

fn map(place: &Place, len: usize, protection: i32, flags: i32) -> io::Result<Mapping> {
    let hint = std::ptr::without_provenance_mut(place.at as usize);
    // SAFETY: without MAP_FIXED the kernel never replaces a mapping.
    let start = unsafe { libc::mmap(hint, len, protection, flags, place.fd, place.offset as i64) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrInUse)?;
    Ok(Mapping { start, len })
}

/// An unnamed file in memory of `len` bytes.
///
/// # Errors
/// If the kernel refuses.
pub fn memory_file(len: usize) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: the name is a C string; the descriptor is fresh and owned by nobody else.
    let file = unsafe {
        let fd = libc::memfd_create(c"twin86-cases".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: plain system call on a descriptor we own.
    if unsafe { libc::ftruncate(file.as_raw_fd(), len as i64) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
