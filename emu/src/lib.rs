//! An x86 CPU in software. It knows no device, no file and no thread.
//!
//! - [`arch`]: facts of the architecture; [`state`]: the whole architectural state
//! - [`io`], [`memory`], [`attention`]: what joins a CPU to the board around it
//! - [`cpu`]: the processor; [`engine`]: the loop; [`decode`], `block`: from bytes to blocks
//! - [`mem`]: segmentation, paging, TLB, accesses; `descriptor`: segment descriptors in memory
//! - [`event`]: exceptions, interrupts, task switches, INIT; `debug`: breakpoints of the guest's
//! - [`flags`], [`width`], [`fpu`]: what rules compute with; [`insn`]: the rules, by SDM group;
//!   `msr`: RDMSR and WRMSR

pub mod arch;
pub mod attention;
mod block;
pub mod cpu;
mod debug;
pub mod decode;
mod descriptor;
pub mod engine;
pub mod event;
pub mod flags;
pub mod fpu;
pub mod insn;
pub mod io;
mod map;
pub mod mem;
pub mod memory;
mod msr;
pub mod state;
#[cfg(test)]
mod test_bench;
pub mod width;

pub use arch::Exception;
pub use attention::Attention;
pub use cpu::Cpu;
pub use decode::{changed_flags, disassemble, encoding, undefined_flags};
pub use engine::{Engine, Stop};
pub use io::{CpuIo, Pending};
pub use memory::MemoryMap;
pub use state::CpuState;
