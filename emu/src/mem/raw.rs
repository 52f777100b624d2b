//! Loads, stores and compare-exchanges on host memory that a guest shares with others.
//!
//! Aligned accesses are single-copy atomic; unaligned ones are as the host's processor makes them (see
//! `mem/host`), or go byte by byte, as the architecture permits. Nothing here is a plain Rust access: other vCPUs and
//! devices write the same bytes.
// UNSAFETY: raw host pointers into guest memory, from the TLB or the memory map.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::width::Width;

/// A width that can be loaded and stored in guest memory.
pub trait Raw: Width {
    /// Loads from an aligned address.
    ///
    /// # Safety
    /// `host` is valid for reads of this width, and aligned to it.
    unsafe fn load(host: *const u8) -> Self;
    /// Stores to an aligned address.
    ///
    /// # Safety
    /// `host` is valid for writes of this width, and aligned to it.
    unsafe fn store(host: *mut u8, value: Self);
    /// Compare-exchange at an aligned address; returns what was there.
    ///
    /// # Safety
    /// `host` is valid for reads and writes of this width, and aligned to it.
    unsafe fn compare_exchange(host: *mut u8, old: Self, new: Self) -> Result<Self, Self>;
}

macro_rules! raw {
    ($type:ty, $atomic:ty) => {
        impl Raw for $type {
            #[inline(always)]
            unsafe fn load(host: *const u8) -> Self {
                // SAFETY: the caller vouches for validity and alignment.
                unsafe { (*host.cast::<$atomic>()).load(Ordering::Relaxed) }
            }
            #[inline(always)]
            unsafe fn store(host: *mut u8, value: Self) {
                // SAFETY: the caller vouches for validity and alignment.
                unsafe { (*host.cast::<$atomic>()).store(value, Ordering::Relaxed) }
            }
            #[inline(always)]
            unsafe fn compare_exchange(host: *mut u8, old: Self, new: Self) -> Result<Self, Self> {
                // SAFETY: the caller vouches for validity and alignment.
                let cell = unsafe { &*host.cast::<$atomic>() };
                cell.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            }
        }
    };
}

raw!(u8, AtomicU8);
raw!(u16, AtomicU16);
raw!(u32, AtomicU32);
raw!(u64, AtomicU64);

/// Loads `len` (1 to 8) bytes, little endian, one by one.
///
/// # Safety
/// `host` is valid for reads of `len` bytes.
pub unsafe fn load_bytes(host: *const u8, len: usize) -> u64 {
    let mut value = 0;
    for i in (0..len).rev() {
        // SAFETY: `i < len`, for which the caller vouches; bytes are always aligned.
        value = value << 8 | u64::from(unsafe { u8::load(host.add(i)) });
    }
    value
}

/// Stores the low `len` (1 to 8) bytes of `value`, little endian, one by one.
///
/// # Safety
/// `host` is valid for writes of `len` bytes.
pub unsafe fn store_bytes(host: *mut u8, len: usize, mut value: u64) {
    for i in 0..len {
        // SAFETY: `i < len`, for which the caller vouches; bytes are always aligned.
        unsafe { u8::store(host.add(i), value as u8) };
        value >>= 8;
    }
}
