//! Many elements at once, for string instructions: as far as a page goes, and only where it is
//! plain memory (`Cpu::span`). Nothing here is a plain Rust access either: other processors and
//! devices may touch the same bytes, so that everything goes by relaxed atomics, eight bytes at a
//! time where alignment lets it.
// UNSAFETY: raw host pointers into guest memory, from the TLB.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

use crate::cpu::{Cpu, Raised};
use crate::mem::Access;
use crate::mem::raw::{Raw, load_bytes, store_bytes};

/// The largest unit of a copy.
const WORD: usize = size_of::<u64>();

impl Cpu {
    /// Copies up to `most` elements of width `W` from linear `from` to linear `to`, as if one by
    /// one upwards; stops at the end of either page. Returns how many: none where they must go
    /// one by one.
    pub(crate) fn copy_elements<W: Raw>(
        &mut self,
        from: u64,
        from_stack: bool,
        to: u64,
        most: u64,
    ) -> Result<u64, Raised> {
        let Some((source, readable)) = self.span(from, Access::Read, from_stack)? else {
            return Ok(0);
        };
        let Some((dest, writable)) = self.span(to, Access::Write, false)? else {
            return Ok(0);
        };
        let count = most.min((readable.min(writable) / W::BYTES) as u64);
        // SAFETY: `span` gave that many bytes of one page each, and pages are whole and aligned.
        unsafe { copy_up::<W>(source, dest, count as usize * W::BYTES) };
        Ok(count)
    }

    /// Stores up to `most` elements `value` from linear `to` upwards, up to the end of the page.
    /// Returns how many: none where they must go one by one.
    pub(crate) fn fill_elements<W: Raw>(
        &mut self,
        to: u64,
        value: W,
        most: u64,
    ) -> Result<u64, Raised> {
        let Some((dest, writable)) = self.span(to, Access::Write, false)? else {
            return Ok(0);
        };
        let count = most.min((writable / W::BYTES) as u64);
        // SAFETY: `span` gave that many bytes.
        unsafe { fill(dest, value, count as usize * W::BYTES) };
        Ok(count)
    }

    /// How many bytes at `linear` are plain memory of one page that `access` may touch.
    pub(crate) fn plain_bytes(
        &mut self,
        linear: u64,
        access: Access,
        stack: bool,
    ) -> Result<usize, Raised> {
        Ok(self.span(linear, access, stack)?.map_or(0, |(_, len)| len))
    }

    /// Reads plain memory of one page; false (and nothing read) if it is none.
    pub(crate) fn read_plain(
        &mut self,
        linear: u64,
        stack: bool,
        data: &mut [u8],
    ) -> Result<bool, Raised> {
        let Some((host, len)) = self.span(linear, Access::Read, stack)? else {
            return Ok(false);
        };
        if len < data.len() {
            return Ok(false);
        }
        for (at, byte) in data.iter_mut().enumerate() {
            // SAFETY: `at` is less than the length `span` gave.
            *byte = unsafe { u8::load(host.add(at)) };
        }
        Ok(true)
    }

    /// Writes plain memory of one page; false (and nothing written) if it is none.
    pub(crate) fn write_plain(&mut self, linear: u64, data: &[u8]) -> Result<bool, Raised> {
        let Some((host, len)) = self.span(linear, Access::Write, false)? else {
            return Ok(false);
        };
        if len < data.len() {
            return Ok(false);
        }
        for (at, &byte) in data.iter().enumerate() {
            // SAFETY: `at` is less than the length `span` gave.
            unsafe { u8::store(host.add(at), byte) };
        }
        Ok(true)
    }
}

/// Copies `len` bytes, whole elements of `W`, with the outcome of copying element after element
/// upwards; source and destination may overlap.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes, and of the aligned eight bytes
/// around each of them.
unsafe fn copy_up<W: Raw>(from: *const u8, to: *mut u8, len: usize) {
    // How far the destination lies above the source; huge where it lies below.
    let ahead = to.addr().wrapping_sub(from.addr());
    let same_phase = ahead.is_multiple_of(WORD);
    // A word may be read early only if no element before it would have written to it; where the
    // phases differ, the words read are up to one word ahead.
    let far = if same_phase { WORD } else { 2 * WORD };
    if len < 2 * WORD || ahead < far {
        // SAFETY: as the caller vouches.
        return unsafe { copy_units::<W>(from, to, len) };
    }
    let head = (to.addr().wrapping_neg() % WORD).min(len);
    let body = (len - head) & !(WORD - 1);
    let tail = head + body;
    // SAFETY: head, body and tail are the `len` bytes the caller vouches for. The destination's
    // body is aligned by the choice of `head`, the source's where the phases are the same.
    unsafe {
        copy_head::<W>(from, to, head);
        if same_phase {
            copy_units::<u64>(from.add(head), to.add(head), body);
        } else {
            copy_shifted(from.add(head), to.add(head), body / WORD);
        }
        copy_head::<W>(from.add(tail), to.add(tail), len - tail);
    }
}

/// Copies less than a word before or behind the words: by elements where these are aligned and
/// must not tear, else by bytes.
///
/// # Safety
/// As for [`copy_units`].
unsafe fn copy_head<W: Raw>(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        if (from.addr() | to.addr() | len).is_multiple_of(W::BYTES) {
            copy_units::<W>(from, to, len);
        } else {
            copy_units::<u8>(from, to, len);
        }
    }
}

/// Copies `len` bytes, whole elements of `W`, one after the other.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes.
unsafe fn copy_units<W: Raw>(from: *const u8, to: *mut u8, len: usize) {
    let aligned = (from.addr() | to.addr()).is_multiple_of(W::BYTES);
    for at in (0..len).step_by(W::BYTES) {
        // SAFETY: `at` and the element behind it lie in the `len` bytes; aligned by the test above.
        unsafe {
            if aligned {
                W::store(to.add(at), W::load(from.add(at)));
            } else {
                let value = load_bytes(from.add(at), W::BYTES);
                store_bytes(to.add(at), W::BYTES, value);
            }
        }
    }
}

/// Copies `words` words to an aligned destination from a source that is not aligned: each is put
/// together from two aligned words.
///
/// # Safety
/// `from` is not aligned; the aligned words that hold any of the `words * 8` bytes there are valid
/// for reads; `to` is aligned and valid for writes of `words * 8` bytes.
unsafe fn copy_shifted(from: *const u8, to: *mut u8, words: usize) {
    let phase = from.addr() % WORD;
    let shift = 8 * phase as u32;
    // SAFETY: this word holds the first byte, and word `k + 1` behind it the last byte of word `k`
    // of the destination.
    unsafe {
        let from = from.sub(phase);
        let mut low = u64::load(from);
        for k in 0..words {
            let high = u64::load(from.add((k + 1) * WORD));
            // The phase is not zero: both shifts are less than the width.
            let value = low >> shift | high << (u64::BITS - shift);
            u64::store(to.add(k * WORD), value);
            low = high;
        }
    }
}

/// Stores `value` over and over in `len` bytes, a multiple of its width.
///
/// # Safety
/// `to` is valid for writes of `len` bytes.
unsafe fn fill<W: Raw>(to: *mut u8, value: W, len: usize) {
    // `value` in every place of a word.
    let pattern = value
        .to_u64()
        .wrapping_mul(u64::MAX / (u64::MAX >> (64 - W::BITS)));
    let head = (to.addr().wrapping_neg() % WORD).min(len);
    let body = (len - head) & !(WORD - 1);
    // The word that begins `head` bytes into the pattern.
    let word = pattern.rotate_right(8 * head as u32);
    // SAFETY: all offsets are below `len`, and the body is aligned by the choice of `head`.
    unsafe {
        fill_head::<W>(to, pattern, head);
        for at in (head..head + body).step_by(WORD) {
            u64::store(to.add(at), word);
        }
        fill_head::<W>(to.add(head + body), word, len - head - body);
    }
}

/// Stores the low `len` (less than 8) bytes of `pattern`, by elements where they are aligned.
///
/// # Safety
/// `to` is valid for writes of `len` bytes.
unsafe fn fill_head<W: Raw>(to: *mut u8, pattern: u64, len: usize) {
    // SAFETY: as the caller vouches; aligned where `W::store` is used.
    unsafe {
        if (to.addr() | len).is_multiple_of(W::BYTES) {
            for at in (0..len).step_by(W::BYTES) {
                W::store(to.add(at), W::from_u64(pattern >> (8 * at)));
            }
        } else {
            store_bytes(to, len, pattern);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const BYTES: usize = 256;

    /// Aligned memory with a different byte everywhere, and a copy of it.
    fn memory() -> (Vec<AtomicU64>, Vec<u8>) {
        let plain: Vec<u8> = (0..BYTES).map(|at| (at * 7 + 1) as u8).collect();
        let words = plain
            .chunks_exact(WORD)
            .map(|c| AtomicU64::new(c.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b))))
            .collect();
        (words, plain)
    }

    fn bytes(words: &[AtomicU64]) -> Vec<u8> {
        words
            .iter()
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .collect()
    }

    fn copies_like_elements<W: Raw>(from: usize, to: usize, count: usize) {
        let (words, mut plain) = memory();
        for k in 0..count {
            let element: Vec<u8> = plain[from + k * W::BYTES..][..W::BYTES].to_vec();
            plain[to + k * W::BYTES..][..W::BYTES].copy_from_slice(&element);
        }
        let base = words.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the strategy keeps both ranges inside the words, which are atomic.
        unsafe { copy_up::<W>(base.add(from), base.add(to), count * W::BYTES) };
        assert_eq!(
            bytes(&words),
            plain,
            "{from} to {to}, {count} of {}",
            W::BYTES
        );
    }

    fn fills_like_elements<W: Raw>(to: usize, count: usize, value: u64) {
        let (words, mut plain) = memory();
        for k in 0..count {
            plain[to + k * W::BYTES..][..W::BYTES]
                .copy_from_slice(&value.to_le_bytes()[..W::BYTES]);
        }
        let base = words.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: as above.
        unsafe { fill(base.add(to), W::from_u64(value), count * W::BYTES) };
        assert_eq!(bytes(&words), plain, "to {to}, {count} of {}", W::BYTES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn copies_are_elementwise(from in 0usize..100, near in -20isize..40, count in 0usize..12) {
            let to = from.saturating_add_signed(near);
            copies_like_elements::<u8>(from, to, count * 8 + count);
            copies_like_elements::<u16>(from, to, count * 4 + 1);
            copies_like_elements::<u32>(from, to, count * 2 + 1);
            copies_like_elements::<u64>(from, to, count);
        }

        #[test]
        fn fills_are_elementwise(to in 0usize..100, count in 0usize..12, value: u64) {
            fills_like_elements::<u8>(to, count * 8 + count, value);
            fills_like_elements::<u16>(to, count * 4 + 1, value);
            fills_like_elements::<u32>(to, count * 2 + 1, value);
            fills_like_elements::<u64>(to, count, value);
        }
    }
}
