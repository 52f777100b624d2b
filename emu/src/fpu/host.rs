//! What the host's processor computes itself, where it is x86-64; elsewhere the same words with
//! software behind them.

#[cfg(not(target_arch = "x86_64"))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use portable::{Host, plain, rcp, rsqrt, under};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{Host, plain, rcp, rsqrt, under};
