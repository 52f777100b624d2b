//! Accesses to host memory at any alignment, which others may race with: as the host's processor
//! makes them, where it is x86-64; elsewhere byte by byte.

#[cfg(not(target_arch = "x86_64"))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use portable::{load_unaligned, load_wide, store_unaligned, store_wide};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{load_unaligned, load_wide, store_unaligned, store_wide};
