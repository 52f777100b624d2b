//! The memory of a case on one side: filled before, compared after, put back.

use crate::host::Mapping;
use crate::layout::{PAGE, PAGES, backing, pristine};
use crate::run::Input;

/// The backing bytes of [`PAGES`] inside a mapping.
#[derive(Debug)]
pub struct Window {
    base: usize,
    /// What the memory holds when a case starts.
    image: Vec<u8>,
    /// Pieces of `image` that are not pristine.
    patched: Vec<(usize, usize)>,
}

impl Window {
    /// Takes the bytes from `base` on in `memory` and makes them pristine.
    pub fn new(memory: &mut Mapping, base: usize) -> Self {
        memory.write(base, pristine());
        Self {
            base,
            image: pristine().to_vec(),
            patched: Vec::new(),
        }
    }

    /// Puts the case's code and data into memory.
    pub fn prepare(&mut self, memory: &mut Mapping, input: &Input) {
        for (mut at, mut bytes) in input.patches() {
            while let Some((offset, room)) = backing(at).filter(|_| !bytes.is_empty()) {
                let len = room.min(bytes.len());
                self.image[offset..offset + len].copy_from_slice(&bytes[..len]);
                memory.write(self.base + offset, &bytes[..len]);
                self.patched.push((offset, len));
                bytes = &bytes[len..];
                at += len as u64;
            }
        }
    }

    /// The words that the run changed; memory is pristine again afterwards.
    pub fn finish(&mut self, memory: &mut Mapping) -> Vec<(u64, u64)> {
        let mut changes = Vec::new();
        for (index, (start, access)) in PAGES.iter().enumerate() {
            let first = index * PAGE as usize;
            let page = first..first + PAGE as usize;
            if !access.writable() || memory.equals(self.base + first, &self.image[page.clone()]) {
                continue;
            }
            for word in page.step_by(8) {
                let now = memory.word(self.base + word);
                if self.image[word..word + 8] != now.to_le_bytes() {
                    changes.push((start + (word - first) as u64, now));
                    memory.write(self.base + word, &pristine()[word..word + 8]);
                }
            }
        }
        for (offset, len) in self.patched.drain(..) {
            let clean = &pristine()[offset..offset + len];
            self.image[offset..offset + len].copy_from_slice(clean);
            memory.write(self.base + offset, clean);
        }
        changes
    }
}
