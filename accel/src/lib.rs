//! The engines that run a guest, behind three small traits.
//!
//! An [`Accel`] opens an engine and creates a [`Vm`]; a [`Vm`] takes the memory map and creates
//! [`Vcpu`]s; a [`Vcpu`] runs until the machine's loop must decide something ([`VcpuExit`]). Port
//! and memory-mapped I/O are callbacks into the board ([`CpuIo`]), never exits.

mod error;
#[cfg(all(feature = "kvm", target_os = "linux"))]
pub mod kvm;
pub mod lockstep;
pub mod reason;
pub mod tcg;

pub use emu::arch::cpuid::CpuModel;
pub use emu::attention::VirtualTime;
pub use emu::engine::{DebugPoints, Observer, WatchKind, Watchpoint};
pub use emu::{CpuIo, CpuState, Exception, MemoryMap, Pending};
pub use error::AccelError;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

/// What a virtual machine is created with; the same for every engine.
#[derive(Clone)]
pub struct VmConfig {
    /// The processor model whose CPUID the guest sees (masked by what the engine can run).
    pub cpu: CpuModel,
    /// Time-stamp counter frequency in Hz.
    pub tsc_hz: u64,
    /// Virtual time in instructions (`-icount`), which only the software CPU can keep.
    pub virtual_time: Option<Arc<VirtualTime>>,
    /// Makes an observer for each software CPU (`-d`).
    pub observer: Option<MakeObserver>,
}

/// Makes an [`Observer`] for a processor, or none.
pub type MakeObserver = Arc<dyn Fn() -> Option<Box<dyn Observer>> + Send + Sync>;

/// Why [`Vcpu::run`] returned: only what the machine's loop must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuExit {
    /// HLT with nothing pending: wait until [`CpuIo::pending`] shows an event that can wake it.
    Halted,
    /// Somebody called [`Kick::kick`], or the instruction deadline was reached.
    Kicked,
    /// Shutdown by triple fault.
    TripleFault,
    /// A debug stop that the user, not the guest, asked for.
    Debug(DebugStop),
}

/// Where a debug stop happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugStop {
    /// One instruction was stepped.
    Step,
    /// The breakpoint at this linear address was reached.
    Breakpoint(u64),
    /// An access hit this watchpoint; RIP is behind its instruction.
    Watchpoint(Watchpoint),
}

/// What an engine counted by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions executed; `None` if the engine cannot know.
    pub instructions: Option<u64>,
    /// The kernel's own statistics, where it has some.
    pub kernel: Vec<Statistic>,
    /// Instructions that the software CPU executed for KVM, by opcode.
    pub rescued: BTreeMap<String, u64>,
    /// What lockstep has checked, and what it could not.
    pub lockstep: BTreeMap<String, u64>,
}

/// One of the kernel's statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// As the kernel names it.
    pub name: String,
    /// The count.
    pub value: u64,
}

/// Makes a running vCPU look up: it returns [`VcpuExit::Kicked`] or takes a pending event soon.
pub trait Kick: Send + Sync {
    /// Something may be deliverable at this vCPU ([`CpuIo::pending`] changed): take it at the next
    /// instruction boundary; `run` need not return for it. Callable from any thread, also from a
    /// callback of the vCPU itself.
    fn signal(&self);
    /// `run` returns [`VcpuExit::Kicked`] as soon as an instruction boundary is reached.
    fn kick(&self);
}

/// An engine that can create virtual machines.
pub trait Accel: Send + Sync {
    /// The name `--accel` knows it by.
    fn name(&self) -> &'static str;
    /// The engine cannot run every guest: a KVM without hardware virtualization.
    fn partial(&self) -> bool {
        false
    }
    /// Devices may change memory only while no processor runs: [`Vcpu::run`] must have returned.
    fn holds_time(&self) -> bool {
        false
    }
    /// A processor model as guests of this engine see it: without the features it cannot run.
    ///
    /// # Errors
    /// If the host refuses to say.
    fn shown(&self, model: &CpuModel) -> Result<CpuModel, AccelError> {
        Ok(model.clone())
    }
    /// The rate of the guest's time-stamp counter in Hz, where this engine has no choice.
    fn tsc_hz(&self) -> Option<u64> {
        None
    }
    /// Creates an empty virtual machine.
    ///
    /// # Errors
    /// If the host refuses.
    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError>;
}

/// A virtual machine: memory and processors.
pub trait Vm: Send + Sync {
    /// Replaces the CPU view of guest memory. May be called from a callback of a vCPU; the next
    /// instruction sees the new map. What was derived from memory before (translated code, shadows of
    /// page tables) is forgotten, with the same map too: another engine may have written there.
    ///
    /// # Errors
    /// If the host refuses a slot.
    fn set_memory_map(&self, map: MemoryMap) -> Result<(), AccelError>;
    /// A device wrote to a page marked as holding code ([`emu::memory::CODE_WRITTEN`]).
    fn code_written(&self) {}
    /// The pages of a block that were written since the last call, by number: by devices anywhere, by
    /// the guest in ranges with `log_dirty` (the software CPU logs the others too, and KVM
    /// may tell a page that was read for the first time). `marks` are the block's; a block is for one caller to ask about.
    ///
    /// Nothing is lost if the processors stand still or it is called from a callback of the only
    /// one, until what was written has been read. With a processor that runs on, the last writes
    /// before it looks up may be missing from both this answer and the next.
    ///
    /// # Errors
    /// If the host refuses.
    fn take_dirty(&self, marks: &[AtomicU8]) -> Result<Vec<usize>, AccelError>;
    /// Creates processor `index` in its reset state; `io` is how it reaches the board.
    ///
    /// # Errors
    /// If the host refuses.
    fn create_vcpu(&self, index: u32, io: Arc<dyn CpuIo>) -> Result<Box<dyn Vcpu>, AccelError>;
}

/// A virtual processor; lives on the thread that runs it.
pub trait Vcpu: Send {
    /// Runs the guest until the machine must decide something.
    ///
    /// # Errors
    /// For host errors and exits nobody can serve, never for guest faults.
    fn run(&mut self) -> Result<VcpuExit, AccelError>;
    /// The whole state; a pending I/O exit is completed first.
    ///
    /// # Errors
    /// If the host refuses.
    fn state(&mut self) -> Result<CpuState, AccelError>;
    /// Replaces the whole state.
    ///
    /// # Errors
    /// If the host refuses.
    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError>;
    /// The whole state, for another engine to go on with. What this one remembers of it, or has yet to
    /// tell (pages written), is settled; it runs again only after [`Vcpu::set_state`].
    ///
    /// # Errors
    /// If the host refuses.
    fn leave(&mut self) -> Result<CpuState, AccelError> {
        self.state()
    }
    /// Makes [`Vcpu::run`] return [`VcpuExit::Kicked`], once, when `count` more instructions have
    /// retired; false if the engine cannot count them.
    fn stop_after(&mut self, _count: u64) -> bool {
        false
    }
    /// Sets what [`Vcpu::run`] shall stop at for a debugger, in place of what was set before. To be
    /// called last before the guest goes on: a breakpoint where it stands now is passed once. What
    /// counts as a step, and what as an access, is said in [`emu::engine::debugger`].
    ///
    /// # Errors
    /// If the engine cannot watch for that, or the host refuses; what was set before is then gone.
    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError>;
    /// What the engine counted.
    fn counters(&mut self) -> Counters {
        Counters::default()
    }
    /// What makes this vCPU look up.
    fn kicker(&self) -> Arc<dyn Kick>;
}
