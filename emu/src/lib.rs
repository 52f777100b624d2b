//! An x86 CPU in software. It knows no device, no file and no thread.

pub mod arch;
pub mod io;
pub mod memory;
pub mod state;

pub use arch::Exception;
pub use io::{CpuIo, Pending};
pub use memory::MemoryMap;
pub use state::CpuState;
