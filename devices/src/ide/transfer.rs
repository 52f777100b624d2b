//! Data on their way between a medium and the guest.

use std::io;

use serde::{Deserialize, Serialize};

use crate::RestoreError;
use crate::backend::disk::Disk;

/// Most bytes a transfer holds: a DRQ block and a block of the medium.
const LIMIT: usize = 256 * 1024;

/// A run of the medium's blocks, and the part of it that is in the drive's buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes of a block: 512, 2048.
    pub size: u32,
    /// The first block that is neither read into the buffer nor written from it.
    pub next: u64,
    /// How many there are from there on.
    pub left: u32,
    buffer: Vec<u8>,
    /// Where in the buffer the guest is.
    at: usize,
    /// Where in the buffer the part ends that the guest is offered now (or shall fill now).
    end: usize,
}

impl Transfer {
    /// `left` blocks of `size` bytes, from block `next` on.
    pub fn blocks(size: u32, next: u64, left: u32) -> Self {
        Self {
            size,
            next,
            left,
            ..Self::default()
        }
    }

    /// Bytes that come from no medium.
    pub fn bytes(buffer: Vec<u8>) -> Self {
        Self {
            size: 1,
            buffer,
            ..Self::default()
        }
    }

    /// Bytes that the guest has not got (or given) yet.
    pub fn remaining(&self) -> u64 {
        let held = self.buffer.len().saturating_sub(self.at) as u64;
        u64::from(self.left) * u64::from(self.size) + held
    }

    /// Whether the guest is done with what it was offered.
    pub fn part_is_done(&self) -> bool {
        self.at >= self.end
    }

    /// Offers the guest the next bytes, at most `most`; reads what it takes from `disk`.
    pub fn load(&mut self, most: usize, disk: Option<&Disk>) -> io::Result<usize> {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        let size = self.size.max(1) as usize;
        let lacking = most.min(LIMIT).saturating_sub(self.buffer.len());
        let blocks = lacking.div_ceil(size).min(self.left as usize);
        if blocks > 0 {
            let start = self.buffer.len();
            self.buffer.resize(start + blocks * size, 0);
            read(disk, self.next, size, &mut self.buffer[start..])?;
            self.advance(blocks);
        }
        self.end = most.min(self.buffer.len());
        Ok(self.end)
    }

    /// Makes room for the next bytes from the guest: whole blocks, at most `most` bytes.
    pub fn make_room(&mut self, most: usize) -> usize {
        let size = self.size.max(1) as usize;
        let blocks = (most.min(LIMIT) / size).min(self.left as usize);
        self.room(blocks * size)
    }

    /// Makes room for `len` bytes that are no block.
    pub fn room(&mut self, len: usize) -> usize {
        self.buffer.clear();
        self.buffer.resize(len, 0);
        (self.at, self.end) = (0, len);
        len
    }

    /// Writes what the guest gave, whole blocks alone.
    pub fn store(&mut self, disk: Option<&Disk>) -> io::Result<()> {
        let size = self.size.max(1) as usize;
        let blocks = (self.at.min(self.buffer.len()) / size).min(self.left as usize);
        let disk = disk.ok_or(io::ErrorKind::NotFound)?;
        let offset = self.next.checked_mul(size as u64);
        let offset = offset.ok_or(io::ErrorKind::UnexpectedEof)?;
        disk.write_at(offset, &self.buffer[..blocks * size])?;
        self.advance(blocks);
        Ok(())
    }

    /// What the guest gave.
    pub fn given(&self) -> &[u8] {
        &self.buffer[..self.at.min(self.buffer.len())]
    }

    /// The guest takes bytes; what was not offered reads zero.
    pub fn take(&mut self, to: &mut [u8]) {
        let end = self.end.min(self.buffer.len());
        let from = &self.buffer[self.at.min(end)..end];
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
        to[len..].fill(0);
        self.at += len;
    }

    /// The guest gives bytes; what there is no room for is dropped.
    pub fn give(&mut self, from: &[u8]) {
        let end = self.end.min(self.buffer.len());
        let to = &mut self.buffer[self.at.min(end)..end];
        let len = to.len().min(from.len());
        to[..len].copy_from_slice(&from[..len]);
        self.at += len;
    }

    /// The bytes on offer, all at once (or the room for them).
    pub fn part(&mut self) -> &mut [u8] {
        let end = self.end.min(self.buffer.len());
        &mut self.buffer[self.at.min(end)..end]
    }

    /// The guest moved `len` bytes of [`Transfer::part`].
    pub fn moved(&mut self, len: usize) {
        self.at = self.at.saturating_add(len).min(self.end);
    }

    /// What came from a saved state must be something that could be.
    pub fn check(&self) -> Result<(), RestoreError> {
        // A reply in memory is less than 64 KiB.
        let sound = self.at <= self.end
            && self.end <= self.buffer.len()
            && self.buffer.len() <= 2 * LIMIT
            && matches!(self.size, 0 | 1 | 512 | 2048);
        let impossible = RestoreError::Impossible { field: "transfer" };
        if sound { Ok(()) } else { Err(impossible) }
    }

    fn advance(&mut self, blocks: usize) {
        self.next = self.next.saturating_add(blocks as u64);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(blocks);
    }
}

/// Reads blocks of `size` bytes; what of the last one a disk lacks is zeros.
fn read(disk: Option<&Disk>, block: u64, size: usize, data: &mut [u8]) -> io::Result<()> {
    let disk = disk.ok_or(io::ErrorKind::NotFound)?;
    let offset = block.checked_mul(size as u64);
    let offset = offset.ok_or(io::ErrorKind::UnexpectedEof)?;
    let there = disk.size().saturating_sub(offset);
    let len = usize::try_from(there).unwrap_or(usize::MAX).min(data.len());
    // A CD's last block may be shorter than 2048 bytes; no more than that is ever missing.
    if data.len() - len >= size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    disk.read_at(offset, &mut data[..len])
}
