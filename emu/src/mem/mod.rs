//! From an operand to host memory: segmentation, paging, the TLB, and the accesses themselves.

pub mod access;
pub mod bulk;
mod host;
pub mod linear;
pub mod paging;
pub mod raw;
pub(crate) mod stack;
pub mod tlb;
mod wide;

/// What an access wants to do; splits permissions and TLB entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write (or a read that will be followed by a write: the write's rights are needed).
    Write,
    /// Instruction fetch.
    Execute,
}
