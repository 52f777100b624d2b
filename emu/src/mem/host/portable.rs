//! Accesses at any alignment, byte by byte.
// UNSAFETY: raw host pointers into guest memory.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

use crate::mem::raw::Raw;

pub use crate::mem::raw::{load_bytes as load_unaligned, store_bytes as store_unaligned};

/// Loads sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for reads of sixteen bytes.
pub unsafe fn load_wide(host: *const u8) -> [u8; 16] {
    // SAFETY: sixteen bytes, for which the caller vouches.
    std::array::from_fn(|at| unsafe { u8::load(host.add(at)) })
}

/// Stores sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for writes of sixteen bytes.
pub unsafe fn store_wide(host: *mut u8, value: [u8; 16]) {
    for (at, byte) in value.into_iter().enumerate() {
        // SAFETY: as for loading.
        unsafe { u8::store(host.add(at), byte) };
    }
}
