//! Loads, stores and compare-exchanges on host memory that a guest shares with others.
//!
//! Aligned accesses are single-copy atomic; unaligned ones are as the host's processor makes them, or
//! go byte by byte, as the architecture permits. Nothing here is a plain Rust access: other vCPUs and
//! devices write the same bytes.
// UNSAFETY: raw host pointers into guest memory, from the TLB or the memory map; `asm!` where Rust has
// no unaligned access that others may race with.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
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

/// Loads `len` (1 to 8) bytes at any alignment.
///
/// # Safety
/// `host` is valid for reads of `len` bytes.
#[cfg(target_arch = "x86_64")]
pub unsafe fn load_unaligned(host: *const u8, len: usize) -> u64 {
    let value: u64;
    // SAFETY: each reads as many bytes as the caller vouches for, and does nothing else.
    unsafe {
        match len {
            8 => {
                asm!("mov {0}, [{1}]", out(reg) value, in(reg) host, options(nostack, readonly, preserves_flags));
            }
            4 => {
                asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) host, options(nostack, readonly, preserves_flags));
            }
            2 => {
                asm!("movzx {0:e}, word ptr [{1}]", out(reg) value, in(reg) host, options(nostack, readonly, preserves_flags));
            }
            _ => return load_bytes(host, len),
        }
    }
    value
}

/// Stores the low `len` (1 to 8) bytes of `value` at any alignment.
///
/// # Safety
/// `host` is valid for writes of `len` bytes.
#[cfg(target_arch = "x86_64")]
pub unsafe fn store_unaligned(host: *mut u8, len: usize, value: u64) {
    // SAFETY: each writes as many bytes as the caller vouches for, and does nothing else.
    unsafe {
        match len {
            8 => {
                asm!("mov [{1}], {0}", in(reg) value, in(reg) host, options(nostack, preserves_flags));
            }
            4 => {
                asm!("mov [{1}], {0:e}", in(reg) value, in(reg) host, options(nostack, preserves_flags));
            }
            2 => {
                asm!("mov [{1}], {0:x}", in(reg) value, in(reg) host, options(nostack, preserves_flags));
            }
            _ => store_bytes(host, len, value),
        }
    }
}

/// Loads sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for reads of sixteen bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn load_wide(host: *const u8) -> [u8; 16] {
    let value: std::arch::x86_64::__m128i;
    // SAFETY: reads what the caller vouches for; both types are sixteen bytes of any pattern.
    unsafe {
        asm!("movups {0}, [{1}]", out(xmm_reg) value, in(reg) host, options(nostack, readonly, preserves_flags));
        std::mem::transmute(value)
    }
}

/// Stores sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for writes of sixteen bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn store_wide(host: *mut u8, value: [u8; 16]) {
    // SAFETY: writes what the caller vouches for; both types are sixteen bytes of any pattern.
    unsafe {
        let value: std::arch::x86_64::__m128i = std::mem::transmute(value);
        asm!("movups [{1}], {0}", in(xmm_reg) value, in(reg) host, options(nostack, preserves_flags));
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub use self::{load_bytes as load_unaligned, store_bytes as store_unaligned};

/// Loads sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for reads of sixteen bytes.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn load_wide(host: *const u8) -> [u8; 16] {
    // SAFETY: sixteen bytes, for which the caller vouches.
    std::array::from_fn(|at| unsafe { u8::load(host.add(at)) })
}

/// Stores sixteen bytes at any alignment.
///
/// # Safety
/// `host` is valid for writes of sixteen bytes.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn store_wide(host: *mut u8, value: [u8; 16]) {
    for (at, byte) in value.into_iter().enumerate() {
        // SAFETY: as for loading.
        unsafe { u8::store(host.add(at), byte) };
    }
}

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
