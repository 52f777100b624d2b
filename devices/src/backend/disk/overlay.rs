//! An image whose writes go elsewhere: to a temporary sparse file without a name, a block at a time.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{Image, Store, read_zero_padded};

/// What is copied at the first write to any of it.
const BLOCK: usize = 4096;
/// Names tried for the temporary file.
const ATTEMPTS: u32 = 16;

pub(super) struct Overlay {
    below: Image,
    file: File,
    /// Which blocks are in `file`, a bit each; held during accesses, so that each sees whole ones.
    written: Mutex<Vec<u64>>,
}

/// The part of an access that lies in one block.
struct Part {
    block: u64,
    offset: u64,
    range: std::ops::Range<usize>,
}

impl Overlay {
    pub(super) fn new(below: Image) -> io::Result<Self> {
        let blocks = below.size.div_ceil(BLOCK as u64);
        let words = usize::try_from(blocks.div_ceil(64)).map_err(io::Error::other)?;
        Ok(Self {
            below,
            file: unnamed_file()?,
            written: Mutex::new(vec![0; words]),
        })
    }

    /// Copies what is below into the overlay's own block.
    fn copy_up(&self, block: u64) -> io::Result<()> {
        let mut whole = [0; BLOCK];
        let offset = block * BLOCK as u64;
        self.below.read(offset, &mut whole)?;
        self.file.write_all_at(&whole, offset)
    }
}

impl Store for Overlay {
    fn size(&self) -> u64 {
        self.below.size
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts(offset, data.len()) {
            let bytes = &mut data[part.range];
            if has(&written, part.block) {
                read_zero_padded(&self.file, part.offset, bytes)?;
            } else {
                self.below.read(part.offset, bytes)?;
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts(offset, data.len()) {
            if !has(&written, part.block) && part.range.len() < BLOCK {
                self.copy_up(part.block)?;
            }
            self.file.write_all_at(&data[part.range], part.offset)?;
            set(&mut written, part.block);
        }
        Ok(())
    }

    /// Nothing of it outlives the process.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let inside = (at % BLOCK as u64) as usize;
        let end = len.min(done + BLOCK - inside);
        let range = done..end;
        done = end;
        Some(Part {
            block: at / BLOCK as u64,
            offset: at,
            range,
        })
    })
}

fn place(block: u64) -> (usize, u64) {
    // No block lies past what a `Vec` holds a bit of.
    let word = usize::try_from(block / 64).unwrap_or(usize::MAX);
    (word, 1 << (block % 64))
}

fn has(written: &[u64], block: u64) -> bool {
    let (word, bit) = place(block);
    written.get(word).is_some_and(|bits| bits & bit != 0)
}

fn set(written: &mut [u64], block: u64) {
    let (word, bit) = place(block);
    if let Some(bits) = written.get_mut(word) {
        *bits |= bit;
    }
}

/// A file nobody else can find. `/tmp` is often memory: it comes last.
fn unnamed_file() -> io::Result<File> {
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    let places = chosen
        .into_iter()
        .chain(["/var/tmp".into(), std::env::temp_dir()]);
    let mut result = Err(io::ErrorKind::NotFound.into());
    for folder in places {
        for _ in 0..ATTEMPTS {
            let name = RandomState::new().build_hasher().finish();
            let path = folder.join(format!("twin86-{name:016x}"));
            let open = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match open {
                Ok(file) => return std::fs::remove_file(&path).map(|()| file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
    }
    result
}
