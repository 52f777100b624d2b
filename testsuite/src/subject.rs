//! The engines that are compared with the host's processor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use emu::arch::cpuid::CpuModel;
use emu::attention::{Attention, Signals, VirtualTime};
use emu::io::ApicRefused;
use emu::{CpuIo, CpuState, Engine, MemoryMap, Pending};

use crate::guest::Guest;
use crate::run::{Input, Outcome};

/// An engine with nothing around it but memory.
pub trait Subject {
    /// Runs from `state` until HLT, or until it is clear that none will come.
    fn run(&mut self, state: &CpuState) -> CpuState;
}

/// Instructions after which a case will not end any more.
const PATIENCE: u64 = 100_000;

/// The interpreter.
pub struct Interpreter {
    engine: Engine,
    attention: Arc<Attention>,
    time: Arc<VirtualTime>,
}

impl Interpreter {
    /// An interpreter over `map`.
    pub fn new(map: MemoryMap) -> Self {
        let time = Arc::new(VirtualTime::default());
        let attention = Arc::new(Attention::new(Some(Arc::clone(&time))));
        attention.set_memory_map(Arc::new(map));
        let engine = Engine::new(Arc::new(model()), Arc::new(NoBoard), Arc::clone(&attention));
        Self {
            engine,
            attention,
            time,
        }
    }
}

/// The processor model with everything the interpreter has.
fn model() -> CpuModel {
    CpuModel::by_name("max").expect("max is a model")
}

impl Subject for Interpreter {
    fn run(&mut self, state: &CpuState) -> CpuState {
        let deadline = self.engine.retired() + PATIENCE;
        self.time.deadline.store(deadline, Ordering::Release);
        self.engine.set_state(state);
        self.attention.set(Signals::CODE | Signals::DEADLINE);
        self.engine.run();
        self.engine.state()
    }
}

/// An engine with its guest.
pub struct Bench<S> {
    guest: Guest,
    subject: S,
}

impl Bench<Interpreter> {
    /// The interpreter, ready for cases.
    ///
    /// # Errors
    /// If there is no memory for the guest.
    pub fn interpreter() -> std::io::Result<Self> {
        let guest = Guest::new()?;
        let map = guest.memory_map().map_err(std::io::Error::other)?;
        Ok(Self {
            guest,
            subject: Interpreter::new(map),
        })
    }
}

impl<S: Subject> Bench<S> {
    /// Runs a case.
    pub fn run(&mut self, input: &Input) -> Outcome {
        let state = self.guest.prepare(input);
        let end = self.subject.run(&state);
        self.guest.finish(&end)
    }
}

/// No device, no interrupt; the bus floats.
pub struct NoBoard;

impl CpuIo for NoBoard {
    fn port_read(&self, _: u16, _: usize, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn port_write(&self, _: u16, _: usize, _: &[u8]) {}
    fn mmio_read(&self, _: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn mmio_write(&self, _: u64, _: &[u8]) {}
    fn pending(&self) -> Pending {
        Pending::empty()
    }
    fn ack_interrupt(&self) -> Option<u8> {
        None
    }
    fn take(&self, _: Pending) -> u8 {
        0
    }
    fn apic_msr_read(&self, _: u32) -> Result<u64, ApicRefused> {
        Err(ApicRefused)
    }
    fn apic_msr_write(&self, _: u32, _: u64) -> Result<(), ApicRefused> {
        Err(ApicRefused)
    }
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&self, _: u8) {}
    fn tsc(&self) -> u64 {
        0
    }
}
