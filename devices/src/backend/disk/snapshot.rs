//! Writes beside an image: a temporary file without a name takes them, cluster by cluster.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use super::read_padded;

/// Bytes of a cluster: what is copied before a part of it is written.
const CLUSTER: u64 = 64 * 1024;

/// An image and what was written over it.
pub struct Snapshot {
    image: File,
    /// Sparse; a cluster lies where it lies in the image.
    written: File,
    /// Which clusters are in `written`: 64 a word, words without any left out.
    present: BTreeMap<u64, u64>,
}

impl Snapshot {
    pub fn new(image: File) -> io::Result<Self> {
        Ok(Self {
            image,
            written: temporary()?,
            present: BTreeMap::new(),
        })
    }

    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        pieces(offset, data.len(), |at, part| {
            let file = if self.has(at / CLUSTER) {
                &self.written
            } else {
                &self.image
            };
            read_padded(file, at, &mut data[part])
        })
    }

    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        pieces(offset, data.len(), |at, part| {
            let cluster = at / CLUSTER;
            if !self.has(cluster) && part.len() as u64 != CLUSTER {
                let mut whole = vec![0; CLUSTER as usize];
                read_padded(&self.image, cluster * CLUSTER, &mut whole)?;
                self.written.write_all_at(&whole, cluster * CLUSTER)?;
            }
            self.written.write_all_at(&data[part], at)?;
            *self.present.entry(cluster / 64).or_default() |= 1 << (cluster % 64);
            Ok(())
        })
    }

    fn has(&self, cluster: u64) -> bool {
        let word = self.present.get(&(cluster / 64));
        word.is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }
}

/// Cuts an access at clusters' ends: the offset of each piece, and its place in the data.
fn pieces(
    offset: u64,
    len: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let room = (CLUSTER - at % CLUSTER) as usize;
        let end = done + room.min(len - done);
        each(at, done..end)?;
        done = end;
    }
    Ok(())
}

/// A file that is gone when it is closed.
fn temporary() -> io::Result<File> {
    /// Names tried before giving up; a process has few of these files at a time without deleting them.
    const TRIES: u32 = 1000;
    let mut how = OpenOptions::new();
    how.read(true).write(true).create_new(true);
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..TRIES {
        let name = format!(".twin86-snapshot-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match how.open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
