//! Accesses at any alignment as an x86-64 processor makes them.
// UNSAFETY: raw host pointers into guest memory; `asm!`, as Rust has no unaligned access that others
// may race with.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

use std::arch::asm;
use std::arch::x86_64::__m128i;

use crate::mem::raw::{load_bytes, store_bytes};

/// Loads `len` (1 to 8) bytes at any alignment.
///
/// # Safety
/// `host` is valid for reads of `len` bytes.
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
#[inline(always)]
pub unsafe fn load_wide(host: *const u8) -> [u8; 16] {
    let value: __m128i;
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
#[inline(always)]
pub unsafe fn store_wide(host: *mut u8, value: [u8; 16]) {
    // SAFETY: writes what the caller vouches for; both types are sixteen bytes of any pattern.
    unsafe {
        let value: __m128i = std::mem::transmute(value);
        asm!("movups [{1}], {0}", in(xmm_reg) value, in(reg) host, options(nostack, preserves_flags));
    }
}
