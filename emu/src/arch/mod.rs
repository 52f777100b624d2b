//! Facts of the architecture: register names, control bits, descriptors, exceptions, CPUID.
//!
//! Nothing here executes anything. Source: Intel SDM Vol. 3A and AMD APM Vol. 2, by section title
//! in each file.

pub mod control;
pub mod cpuid;
pub mod exception;
pub mod gpr;
pub mod rflags;
pub mod segment;

pub use control::{Cr0, Cr4, Efer};
pub use exception::Exception;
pub use gpr::Gpr;
pub use rflags::RFlags;
pub use segment::{Seg, Segment, TableRegister};
