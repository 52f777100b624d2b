//! How the interpreter and KVM each run a case: from its state until HLT.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accel::kvm::Kvm;
use accel::{Accel, AccelError, Kick, Vcpu, VcpuExit, Vm, VmConfig};
use emu::arch::cpuid::CpuModel;
use emu::attention::{Attention, Signals, VirtualTime};
use emu::io::NoBoard;
use emu::memory::{Block, MapError, Range};
use emu::state::Activity;
use emu::{CpuState, Engine, MemoryMap};

use super::world::{self, PAGE, RAM};
use super::{Case, Outcome};
use crate::host::Mapping;

/// Instructions after which a case will not end any more: more than a string's repetitions.
const PATIENCE: u64 = 1000;
/// Instructions that a case may take, but for a string's repetitions: its own, and one HLT or two.
const FEW: u64 = 4;
/// How long KVM may be silent; checked this often.
const SILENCE: Duration = Duration::from_millis(10);

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a HLT.
    Halted,
    /// By a triple fault.
    TripleFault,
    /// Not at all.
    Hang,
    /// Beyond the instruction and its HLT: whatever lies in memory has run.
    Astray,
}

/// That KVM did not run a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// KVM_EXIT_INTERNAL_ERROR with this suberror.
    Internal(u32),
    /// It never came back.
    Hang,
}

/// Guest memory, put back after each case.
struct Memory {
    mapping: Arc<Mutex<Mapping>>,
    marks: Arc<[AtomicU8]>,
    pristine: Vec<u8>,
    expected: Vec<u8>,
}

fn lock(memory: &Mutex<Mapping>) -> MutexGuard<'_, Mapping> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    fn new() -> std::io::Result<Self> {
        let mut mapping = Mapping::anonymous(RAM)?;
        let pristine = world::image();
        mapping.write(0, &pristine);
        Ok(Self {
            mapping: Arc::new(Mutex::new(mapping)),
            marks: (0..RAM / PAGE).map(|_| AtomicU8::new(0)).collect(),
            expected: pristine.clone(),
            pristine,
        })
    }

    fn map(&self) -> Result<MemoryMap, MapError> {
        let owner: Arc<dyn Any + Send + Sync> = self.mapping.clone();
        let block = Block {
            host: lock(&self.mapping).start(),
            len: RAM as u64,
            marks: Arc::clone(&self.marks),
            owner,
        };
        let range = Range {
            start: 0,
            len: RAM as u64,
            block,
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        MemoryMap::new(vec![range], true)
    }

    fn prepare(&mut self, case: &Case) {
        let mut mapping = lock(&self.mapping);
        let code = (world::code_at(), &case.code);
        let pieces = case.memory.iter().map(|(at, bytes)| (*at, bytes));
        for (at, bytes) in pieces.chain([code]) {
            let at = at as usize;
            let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= RAM);
            if fits && at >= world::CODE as usize {
                self.expected[at..at + bytes.len()].copy_from_slice(bytes);
                mapping.write(at, bytes);
            }
        }
    }

    /// The words that changed; memory is pristine afterwards.
    fn finish(&mut self) -> Vec<(u64, u64)> {
        let mut mapping = lock(&self.mapping);
        let mut changes = Vec::new();
        for at in (0..RAM).step_by(PAGE) {
            let page = at..at + PAGE;
            if !mapping.equals(at, &self.expected[page.clone()]) {
                for word in page.clone().step_by(8) {
                    let now = mapping.word(word);
                    // When A and D come into a page table depends on what is cached.
                    let mask = if world::TABLES.contains(&(word as u64)) {
                        !0x60_0000_0060
                    } else {
                        u64::MAX
                    };
                    let before =
                        u64::from_le_bytes(std::array::from_fn(|i| self.expected[word + i]));
                    if before & mask != now & mask {
                        changes.push((word as u64, now & mask));
                    }
                }
            }
            let clean = &self.pristine[page.clone()];
            if !mapping.equals(at, clean) {
                mapping.write(at, clean);
            }
            if self.expected[page.clone()] != *clean {
                self.expected[page].copy_from_slice(clean);
            }
        }
        changes
    }
}

/// The interpreter.
pub struct Software {
    memory: Memory,
    engine: Engine,
    attention: Arc<Attention>,
    time: Arc<VirtualTime>,
}

impl Software {
    /// An interpreter that shows `model`.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(model: CpuModel) -> Result<Self, AccelError> {
        let memory = Memory::new().map_err(host)?;
        let time = Arc::new(VirtualTime::default());
        let attention = Arc::new(Attention::new(Some(Arc::clone(&time))));
        let map = memory.map().map_err(|e| host(std::io::Error::other(e)))?;
        attention.set_memory_map(Arc::new(map));
        let engine = Engine::new(Arc::new(model), Arc::new(NoBoard), Arc::clone(&attention));
        Ok(Self {
            memory,
            engine,
            attention,
            time,
        })
    }

    /// Runs a case.
    pub fn run(&mut self, case: &Case) -> Outcome {
        self.memory.prepare(case);
        let begin = self.engine.retired();
        let deadline = begin + PATIENCE;
        self.time.deadline.store(deadline, Ordering::Release);
        self.engine.set_state(&world::state(case));
        // Memory was written behind the engine's back.
        self.attention.set(Signals::MAP | Signals::DEADLINE);
        self.engine.run();
        let state = self.engine.state();
        let few = self.engine.retired() - begin <= FEW;
        let end = match state.activity {
            Activity::Running | Activity::WaitForSipi => End::Hang,
            _ if !few && !case.instruction().is_string_instruction() => End::Astray,
            Activity::Halted => End::Halted,
            Activity::Shutdown => End::TripleFault,
        };
        Outcome {
            end,
            state: state.canonical(),
            memory: self.memory.finish(),
        }
    }
}

fn host(source: std::io::Error) -> AccelError {
    AccelError::Host {
        call: "mmap",
        source,
    }
}

/// KVM without rescue, one virtual machine for all cases.
pub struct KvmEngine {
    memory: Memory,
    vcpu: Box<dyn Vcpu>,
    // Keeps the machine.
    _vm: Arc<dyn Vm>,
    model: CpuModel,
    partial: bool,
    watch: Arc<Watch>,
}

/// What the thread that ends silent cases looks at.
#[derive(Default)]
struct Watch {
    case: AtomicU64,
    running: AtomicBool,
    over: AtomicBool,
}

impl KvmEngine {
    /// Opens KVM and builds a virtual machine.
    ///
    /// # Errors
    /// If there is no KVM, or no memory.
    pub fn new() -> Result<Self, AccelError> {
        let kvm = Kvm::open()?;
        let model = CpuModel::by_name("max").expect("max is a model");
        let model = kvm.shown(&model)?;
        let config = VmConfig {
            cpu: model.clone(),
            tsc_hz: kvm.tsc_hz().unwrap_or(1_000_000_000),
            virtual_time: None,
            observer: None,
        };
        let memory = Memory::new().map_err(host)?;
        let vm = kvm.create_vm(&config)?;
        vm.set_memory_map(memory.map().map_err(|e| host(std::io::Error::other(e)))?)?;
        let vcpu = vm.create_vcpu(0, Arc::new(NoBoard))?;
        let watch = Arc::new(Watch::default());
        let (kicker, watched) = (vcpu.kicker(), Arc::clone(&watch));
        std::thread::spawn(move || end_silent_cases(&watched, &*kicker));
        Ok(Self {
            memory,
            vcpu,
            _vm: vm,
            model,
            partial: kvm.is_partial(),
            watch,
        })
    }

    /// The processor model it shows.
    pub fn model(&self) -> &CpuModel {
        &self.model
    }

    /// Whether it is a partial KVM.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Runs a case.
    ///
    /// # Errors
    /// For host errors; an instruction that KVM refuses is a [`Refusal`].
    pub fn run(&mut self, case: &Case) -> Result<Result<Outcome, Refusal>, AccelError> {
        self.memory.prepare(case);
        self.vcpu.set_state(&world::state(case))?;
        self.watch.case.fetch_add(1, Ordering::Relaxed);
        self.watch.running.store(true, Ordering::Release);
        let exit = self.vcpu.run();
        self.watch.running.store(false, Ordering::Release);
        let end = match exit {
            Ok(VcpuExit::Halted) => Ok(End::Halted),
            Ok(VcpuExit::TripleFault) => Ok(End::TripleFault),
            Ok(VcpuExit::Kicked | VcpuExit::Debug(_)) => Err(Refusal::Hang),
            Err(AccelError::Internal { suberror, .. }) => Err(Refusal::Internal(suberror)),
            Err(error) => return Err(error),
        };
        let state = self.vcpu.state();
        let memory = self.memory.finish();
        // How far the guest's TSC is ahead of a board that there is not: nothing to compare.
        Ok(match end {
            Ok(end) => Ok(Outcome {
                end,
                state: CpuState {
                    tsc_offset: 0,
                    ..state?.canonical()
                },
                memory,
            }),
            Err(refusal) => Err(refusal),
        })
    }
}

impl Drop for KvmEngine {
    fn drop(&mut self) {
        self.watch.over.store(true, Ordering::Release);
    }
}

/// Some instructions go round in KVM for ever; a kick ends them.
fn end_silent_cases(watch: &Watch, kicker: &dyn Kick) {
    let mut before = 0;
    while !watch.over.load(Ordering::Acquire) {
        std::thread::sleep(SILENCE);
        let now = watch.case.load(Ordering::Relaxed);
        if now == before && watch.running.load(Ordering::Acquire) {
            kicker.kick();
        }
        before = now;
    }
}
