//! Two engines run one machine: a leader on the board's own memory and devices, and the software CPU,
//! which follows on a copy and must come to the same state.
//!
//! - this file: the engine and its virtual machine; `vcpu`: slices; `mismatch`: what is made of one
//! - `scout`: slices whose end the software CPU finds; `watch`: ends other slices without accesses
//! - `record`: what the leader did to the board is what the follower finds there
//! - `memory`: the copies; `compare`: states; `tally`: counts; `divergence`: the report
//!
//! A *slice* ends where the leader stops: behind each access to the board, at a HLT, before an event
//! it has accepted, behind one instruction ([`Mode::Step`]), or where it was kicked. The follower runs
//! until it has made the same accesses and its whole state is the leader's; then the pages that either
//! wrote are compared. What devices wrote meanwhile is the follower's then too, as is a new memory
//! map: the board's timer must not poll devices while the leader runs ([`crate::Accel::holds_time`]).
//!
//! Equal states are the same point, so it does not matter where a kick stops the leader. An event that
//! the leader has accepted is in its state ([`emu::state::Queued`]); the follower delivers it there.
//!
//! A mismatch takes both back to where they agreed, and steps both with the record as the board. The
//! first instruction that differs is the [`Divergence`], unless it is one that
//! - leaves flags undefined, which alone differ: the leader's count (`masked`);
//! - reads time, randomness or the processor's number: the leader's result counts (`copied`);
//! - a partial KVM is known to run wrongly: the follower's result counts (`known`).
//!
//! If no instruction differs when stepped the mismatch was of time or stale translations
//! (`timing/TLB`), and both go on from there. What the leader refuses (`KVM_EXIT_INTERNAL_ERROR`) or
//! cannot hold is run by the software CPU alone and counted as `unchecked`.
//!
//! Not compared: RF; the time-stamp counter's offset; the task priority behind an access (CR8 is compared
//! where a slice has none); a page that devices and the guest wrote in one slice. Not there yet: a
//! debugger, more than one processor. Where the leader cannot single-step (ring 3 of a
//! partial KVM) a mismatch is reported for its whole slice.

mod compare;
mod divergence;
mod memory;
mod mismatch;
mod record;
mod scout;
mod tally;
mod vcpu;
mod watch;

pub use divergence::Divergence;
pub use memory::Word;

use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use emu::arch::cpuid::CpuModel;
use emu::attention::Attention;
use emu::{CpuIo, CpuState, MemoryMap};

use crate::{Accel, AccelError, Vcpu, Vm, VmConfig};
use memory::Memory;
use vcpu::LockstepVcpu;

/// How often the engines are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Behind each access to the board.
    #[default]
    Exit,
    /// At points that the software CPU finds: every few thousand instructions, before each access to
    /// the board and behind it.
    Slice,
    /// Behind each instruction, where the leader can single-step; else as [`Mode::Exit`].
    Step,
}

/// Makes the follower wrong, for tests: gets the state before an instruction, its bytes, and the state
/// behind it to change; true if it did.
pub type Fault = Arc<dyn Fn(&CpuState, &[u8], &mut CpuState) -> bool + Send + Sync>;

/// CPUID features that make two engines differ by nature: leaf, register (EAX first), bits.
const UNSHARED: &[(u32, usize, u32)] = &[
    // TSC; RDRAND.
    (1, 3, 1 << 4),
    (1, 2, 1 << 30),
    // RDSEED; RDPID.
    (7, 1, 1 << 18),
    (7, 2, 1 << 22),
    // RDTSCP.
    (0x8000_0001, 3, 1 << 27),
];

/// `--accel=lockstep`.
pub struct Lockstep {
    leader: Box<dyn Accel>,
    mode: Mode,
    fault: Option<Fault>,
}

impl Lockstep {
    /// The software CPU follows `leader`.
    pub fn new(leader: Box<dyn Accel>, mode: Mode) -> Self {
        Self {
            leader,
            mode,
            fault: None,
        }
    }

    /// With a fault in the follower, for tests.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// The processor model that both show.
    fn model(&self, model: &CpuModel) -> Result<CpuModel, AccelError> {
        let mut model = self.leader.shown(model)?;
        if self.mode != Mode::Step {
            for &(function, register, bits) in UNSHARED {
                for leaf in model.leaves.iter_mut().filter(|l| l.function == function) {
                    leaf.registers[register] &= !bits;
                }
            }
        }
        Ok(model)
    }
}

impl Accel for Lockstep {
    fn name(&self) -> &'static str {
        "lockstep"
    }

    fn shown(&self, model: &CpuModel) -> Result<CpuModel, AccelError> {
        self.model(model)
    }

    fn tsc_hz(&self) -> Option<u64> {
        self.leader.tsc_hz()
    }

    fn holds_time(&self) -> bool {
        true
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        let config = VmConfig {
            cpu: self.model(&config.cpu)?,
            ..config.clone()
        };
        let leader = self.leader.create_vm(&config)?;
        Ok(Arc::new(LockstepVm(Arc::new(Shared {
            leader,
            memory: Mutex::default(),
            attention: Arc::new(Attention::new(None)),
            config,
            mode: self.mode,
            partial: self.leader.partial(),
            on_qemu: host_is_qemu(),
            fault: self.fault.clone(),
        }))))
    }
}

/// What a virtual machine and its processor share.
struct Shared {
    leader: Arc<dyn Vm>,
    memory: Mutex<Memory>,
    /// The follower's.
    attention: Arc<Attention>,
    config: VmConfig,
    mode: Mode,
    /// The leader is a KVM that runs only a part of x86.
    partial: bool,
    /// The host's processor is QEMU's software CPU, whose errors are known.
    on_qemu: bool,
    fault: Option<Fault>,
}

/// Whether the host is a machine in QEMU's TCG: the hypervisor leaf's signature is "TCGTCGTCGTCG".
#[cfg(target_arch = "x86_64")]
fn host_is_qemu() -> bool {
    use std::arch::x86_64::__cpuid;
    let hypervisor = __cpuid(1).ecx >> 31 != 0;
    let tcg = u32::from_le_bytes(*b"TCGT");
    hypervisor && __cpuid(0x4000_0000).ebx == tcg
}

#[cfg(not(target_arch = "x86_64"))]
fn host_is_qemu() -> bool {
    false
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The map's shape was checked when it was made, so this does not happen.
fn no_map(_: emu::memory::MapError) -> AccelError {
    AccelError::Lockstep {
        what: "memory for this map",
    }
}

/// A virtual machine with two engines.
struct LockstepVm(Arc<Shared>);

impl Vm for LockstepVm {
    fn set_memory_map(&self, map: MemoryMap) -> Result<(), AccelError> {
        let map = self.0.memory().set_map(map).map_err(no_map)?;
        self.0.leader.set_memory_map(map)
    }

    fn take_dirty(&self, marks: &[AtomicU8]) -> Result<Vec<usize>, AccelError> {
        // What the leader wrote is marked whenever the engines agree.
        Ok(emu::memory::take_dirty(marks))
    }

    fn create_vcpu(&self, index: u32, io: Arc<dyn CpuIo>) -> Result<Box<dyn Vcpu>, AccelError> {
        if index != 0 {
            return Err(AccelError::Lockstep {
                what: "second processor",
            });
        }
        Ok(Box::new(LockstepVcpu::new(Arc::clone(&self.0), io)?))
    }
}
