//! Rescue: what KVM refuses to run is run by the software CPU.
//!
//! On `KVM_EXIT_INTERNAL_ERROR` (an instruction that the kernel cannot emulate, or an event that it
//! cannot deliver) the completed state goes to a software CPU over the same memory and the same
//! board. That delivers what was being delivered, carries out the instruction, and hands the state
//! back. Refusals come in runs (code of one mode is refused again and again), and a hand-over costs
//! as much as a few hundred instructions: each stint in software is twice as long as the one
//! before while refusals follow each other at once, and one instruction long otherwise.
//!
//! Each refusal is counted by instruction and mode ([`Rescues`]). A debugger sees every instruction:
//! while it steps or has breakpoints a stint is one instruction.
//!
//! Not rescued, as KVM makes no exit of it: what a partial KVM runs wrongly (LZCNT and TZCNT as BSR
//! and BSF, CPUID and IOPL in ring 3) or for ever (INT 80h in real mode, VMCALL). In software the TSC
//! goes on at the machine's own rate, which KVM cannot always give.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use emu::arch::cpuid::CpuModel;
use emu::attention::{Attention, Signals};
use emu::engine::{Engine, Stop};
use emu::{CpuIo, CpuState, MemoryMap};
use kvm_bindings::{KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION};

use super::vcpu::KvmVcpu;
use crate::error::{Bytes, Place};
use crate::{AccelError, Counters, DebugPoints, DebugStop, Kick, Vcpu, VcpuExit};

/// The longest stint in software, in instructions.
const LONGEST: u32 = 4096;
/// Refusals closer than this make the next stint longer.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How often what was refused: shared by a machine's processors, and whoever reports it.
#[derive(Debug, Default)]
pub struct Rescues(Mutex<BTreeMap<Refused, u64>>);

/// What KVM refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The instruction, by iced's name of its encoding; "delivery" for an event.
    pub what: String,
    /// The processor's mode, in words.
    pub mode: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.mode)
    }
}

impl Rescues {
    /// What was refused, most often first.
    pub fn table(&self) -> Vec<(Refused, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table: Vec<_> = counts.iter().map(|(what, n)| (what.clone(), *n)).collect();
        table.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        table
    }

    /// How many refusals there were.
    pub fn total(&self) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().sum()
    }

    fn count(&self, refused: Refused) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(refused).or_default() += 1;
    }
}

/// What the processors of a machine need to be rescued.
#[derive(Debug)]
pub(super) struct Rescue {
    table: Arc<Rescues>,
    /// The processor model as KVM shows it.
    model: Arc<CpuModel>,
    /// The map as it was set last.
    map: Mutex<Arc<MemoryMap>>,
}

impl Rescue {
    pub(super) fn new(table: Arc<Rescues>, model: CpuModel) -> Self {
        Self {
            table,
            model: Arc::new(model),
            map: Mutex::default(),
        }
    }

    pub(super) fn set_map(&self, map: &MemoryMap) {
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(map.clone());
    }

    fn map(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A processor of KVM with a software CPU at its side.
pub(super) struct RescuedVcpu {
    hard: KvmVcpu,
    soft: Engine,
    attention: Arc<Attention>,
    rescue: Arc<Rescue>,
    /// Instructions of the last stint, and when it ended.
    last: (u32, Option<Instant>),
    points: DebugPoints,
}

impl RescuedVcpu {
    pub(super) fn new(hard: KvmVcpu, rescue: Arc<Rescue>, io: Arc<dyn CpuIo>) -> Self {
        let attention = Arc::new(Attention::new(None));
        let soft = Engine::new(Arc::clone(&rescue.model), io, Arc::clone(&attention));
        Self {
            hard,
            soft,
            attention,
            rescue,
            last: (0, None),
            points: DebugPoints::default(),
        }
    }

    /// Runs what was refused, and a few instructions more. Returns what the machine must decide.
    fn rescue(&mut self, suberror: u32, bytes: Bytes) -> Result<Option<VcpuExit>, AccelError> {
        let (state, queued) = self.hard.hand_over()?;
        let tsc = self.hard.tsc()?;
        // KVM has written memory unseen: nothing that was translated from it holds.
        self.attention.set_memory_map(self.rescue.map());
        self.attention.set(Signals::EVENT);
        self.soft.set_state(&state);
        self.soft.set_tsc(tsc);
        self.note(suberror, bytes, state);
        if let Some(event) = queued {
            self.soft.deliver(event);
        }
        let exit = self.stint();
        self.hard.set_state(&self.soft.state().canonical())?;
        Ok(exit)
    }

    fn note(&mut self, suberror: u32, bytes: Bytes, state: CpuState) {
        let place = Place(state);
        let mode = place.mode();
        let what = if suberror == KVM_INTERNAL_ERROR_DELIVERY_EV {
            "delivery".to_owned()
        } else {
            let name = emu::encoding(bytes.as_slice(), place.bits());
            name.unwrap_or_else(|| format!("bytes {bytes}"))
        };
        tracing::debug!(target: "rescue", "{what}; {place}");
        self.rescue.table.count(Refused { what, mode });
    }

    /// One stint in software.
    fn stint(&mut self) -> Option<VcpuExit> {
        let debugged = self.points != DebugPoints::default();
        let soon = self.last.1.is_some_and(|end| end.elapsed() < AT_ONCE);
        let length = match soon && !debugged {
            true => (self.last.0 * 2).clamp(1, LONGEST),
            false => 1,
        };
        let mut exit = None;
        for _ in 0..length {
            match self.soft.step() {
                Stop::Stepped => {}
                Stop::TripleFault => exit = Some(VcpuExit::TripleFault),
                // The state says so, and KVM's side waits.
                _ => break,
            }
            if exit.is_some() {
                break;
            }
        }
        self.last = (length, Some(Instant::now()));
        exit.or_else(|| self.debug_stop())
    }

    fn debug_stop(&self) -> Option<VcpuExit> {
        if self.points.step {
            return Some(VcpuExit::Debug(DebugStop::Step));
        }
        let linear = self.soft.state().linear_rip();
        let hit = self.points.breakpoints.contains(&linear);
        hit.then_some(VcpuExit::Debug(DebugStop::Breakpoint(linear)))
    }
}

impl Vcpu for RescuedVcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        loop {
            match self.hard.run() {
                Err(AccelError::Internal {
                    suberror:
                        suberror @ (KVM_INTERNAL_ERROR_EMULATION | KVM_INTERNAL_ERROR_DELIVERY_EV),
                    bytes,
                    ..
                }) => {
                    if let Some(exit) = self.rescue(suberror, bytes)? {
                        return Ok(exit);
                    }
                }
                other => return other,
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        self.hard.state()
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.hard.set_state(state)
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.points = points.clone();
        self.hard.set_debug(points)
    }

    fn counters(&mut self) -> Counters {
        let table = self.rescue.table.table().into_iter();
        Counters {
            rescued: table.map(|(what, n)| (what.to_string(), n)).collect(),
            ..self.hard.counters()
        }
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.hard.kicker()
    }
}
