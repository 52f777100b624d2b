//! The software CPU as an engine: [`emu`] behind the traits of this crate.

use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};

use emu::attention::{Attention, Signals};
use emu::engine::{Engine, Stop};
use emu::memory::take_dirty;
use emu::{CpuIo, CpuState, MemoryMap};

use crate::{
    Accel, AccelError, Counters, DebugPoints, DebugStop, Kick, Vcpu, VcpuExit, Vm, VmConfig,
};

/// `--accel=tcg`.
#[derive(Debug, Default)]
pub struct Tcg;

impl Accel for Tcg {
    fn name(&self) -> &'static str {
        "tcg"
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        let state = Mutex::new(State::default());
        Ok(Arc::new(TcgVm {
            config: config.clone(),
            state,
        }))
    }
}

struct TcgVm {
    config: VmConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    map: Arc<MemoryMap>,
    vcpus: Vec<Arc<Attention>>,
}

impl Vm for TcgVm {
    fn set_memory_map(&self, map: MemoryMap) -> Result<(), AccelError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.map = Arc::new(map);
        for attention in &state.vcpus {
            attention.set_memory_map(Arc::clone(&state.map));
        }
        Ok(())
    }

    fn code_written(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for attention in &state.vcpus {
            attention.set(Signals::CODE);
        }
    }

    fn take_dirty(&self, marks: &[AtomicU8]) -> Result<Vec<usize>, AccelError> {
        let pages = take_dirty(marks);
        if !pages.is_empty() {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for attention in &state.vcpus {
                attention.set(Signals::DIRTY);
            }
        }
        Ok(pages)
    }

    fn create_vcpu(&self, _index: u32, io: Arc<dyn CpuIo>) -> Result<Box<dyn Vcpu>, AccelError> {
        let attention = Arc::new(Attention::new(self.config.virtual_time.clone()));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        attention.set_memory_map(Arc::clone(&state.map));
        state.vcpus.push(Arc::clone(&attention));
        let mut engine = Engine::new(
            Arc::new(self.config.cpu.clone()),
            io,
            Arc::clone(&attention),
        );
        if let Some(observer) = self.config.observer.as_ref().and_then(|make| make()) {
            engine.observe(observer);
        }
        Ok(Box::new(TcgVcpu {
            engine,
            kick: Arc::new(TcgKick(attention)),
        }))
    }
}

struct TcgVcpu {
    engine: Engine,
    kick: Arc<TcgKick>,
}

impl Vcpu for TcgVcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        Ok(match self.engine.run() {
            Stop::Halted => VcpuExit::Halted,
            Stop::Kicked | Stop::Ring3 => VcpuExit::Kicked,
            Stop::TripleFault => VcpuExit::TripleFault,
            Stop::Stepped => VcpuExit::Debug(DebugStop::Step),
            Stop::Breakpoint(at) => VcpuExit::Debug(DebugStop::Breakpoint(at)),
            Stop::Watchpoint(at) => VcpuExit::Debug(DebugStop::Watchpoint(at)),
        })
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        Ok(self.engine.state().canonical())
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.engine.set_state(state);
        Ok(())
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.engine.set_debug(points);
        Ok(())
    }

    fn stop_after(&mut self, count: u64) -> bool {
        self.engine.stop_after(count);
        true
    }

    fn counters(&mut self) -> Counters {
        Counters {
            instructions: Some(self.engine.retired()),
            ..Counters::default()
        }
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kick) as Arc<dyn Kick>
    }
}

struct TcgKick(Arc<Attention>);

impl Kick for TcgKick {
    fn signal(&self) {
        self.0.set(Signals::EVENT);
    }

    fn kick(&self) {
        self.0.set(Signals::KICK);
    }
}
