//! Rescue: what KVM refuses to run is run by the software CPU.
//!
//! On `KVM_EXIT_INTERNAL_ERROR` (an instruction that the kernel cannot emulate, or an event that it
//! cannot deliver) the completed state goes to a software CPU over the same memory and the same
//! board. That delivers what was being delivered, carries out the instruction, and hands the state
//! back. Refusals come in runs (code of one mode is refused again and again), and a hand-over costs
//! as much as a few hundred instructions: each stint in software is twice as long as the one
//! before while refusals follow each other at once, and one instruction long otherwise.
//!
//! What a partial KVM cannot even hold (paging without long mode) stays in software as long as it
//! lasts. (Unless told otherwise a partial KVM runs nothing but 64-bit ring 3, see `ring3`.)
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

use emu::arch::Cr0;
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
pub(super) struct Rescue {
    table: Arc<Rescues>,
    /// The processor model as KVM shows it.
    model: Arc<CpuModel>,
    /// The map as it was set last, and the software CPUs that follow it.
    map: Mutex<(Arc<MemoryMap>, Vec<Arc<Attention>>)>,
}

impl fmt::Debug for Rescue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rescue")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Rescue {
    pub(super) fn new(table: Arc<Rescues>, model: CpuModel) -> Self {
        Self {
            table,
            model: Arc::new(model),
            map: Mutex::default(),
        }
    }

    /// An engine's counters with what was rescued.
    pub(super) fn counted(&self, counters: Counters) -> Counters {
        let table = self.table.table().into_iter();
        Counters {
            rescued: table.map(|(what, n)| (what.to_string(), n)).collect(),
            ..counters
        }
    }

    pub(super) fn set_map(&self, map: MemoryMap) {
        let mut held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 = Arc::new(map);
        for attention in &held.1 {
            attention.set_memory_map(Arc::clone(&held.0));
        }
    }

    /// A device wrote to a page that holds code.
    pub(super) fn code_written(&self) {
        let held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        for attention in &held.1 {
            attention.set(Signals::CODE);
        }
    }

    /// The processor model as KVM shows it.
    pub(super) fn model(&self) -> &Arc<CpuModel> {
        &self.model
    }

    /// Counts what KVM could not run.
    pub(super) fn count(&self, what: Option<String>, mode: &'static str) {
        let what = what.unwrap_or_else(|| "unknown".to_owned());
        tracing::debug!(target: "rescue", "{what} in {mode}");
        self.table.count(Refused { what, mode });
    }

    /// What makes another software CPU look up, the map among it.
    pub(super) fn attention(&self) -> Arc<Attention> {
        let attention = Arc::new(Attention::new(None));
        let mut held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        attention.set_memory_map(Arc::clone(&held.0));
        held.1.push(Arc::clone(&attention));
        attention
    }
}

/// A processor of KVM with a software CPU at its side.
pub(super) struct RescuedVcpu {
    hard: KvmVcpu,
    soft: Engine,
    attention: Arc<Attention>,
    rescue: Arc<Rescue>,
    /// The state lies with the software CPU.
    in_software: bool,
    /// Instructions the present stint still has.
    left: u32,
    /// Instructions of the last stint, and when it ended.
    last: (u32, Option<Instant>),
    points: DebugPoints,
}

impl RescuedVcpu {
    pub(super) fn new(hard: KvmVcpu, rescue: Arc<Rescue>, io: Arc<dyn CpuIo>) -> Self {
        let attention = rescue.attention();
        let soft = Engine::new(Arc::clone(&rescue.model), io, Arc::clone(&attention));
        Self {
            hard,
            soft,
            attention,
            rescue,
            in_software: false,
            left: 0,
            last: (0, None),
            points: DebugPoints::default(),
        }
    }

    /// Takes over from KVM, which has refused to go on.
    fn take_over(&mut self, suberror: u32, bytes: Bytes) -> Result<(), AccelError> {
        let (state, queued) = self.hard.hand_over()?;
        let tsc = self.hard.tsc()?;
        // KVM has written memory unseen: nothing that was translated from it holds.
        self.attention.set(Signals::MAP | Signals::EVENT);
        self.soft.set_state(&state);
        self.soft.set_tsc(tsc);
        self.note(suberror, bytes, state);
        if let Some(event) = queued {
            self.soft.deliver(event);
        }
        let soon = self.last.1.is_some_and(|end| end.elapsed() < AT_ONCE);
        let length = match soon && !self.is_debugged() {
            true => (self.last.0 * 2).clamp(1, LONGEST),
            false => 1,
        };
        (self.in_software, self.left) = (true, length);
        self.last.0 = length;
        Ok(())
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

    /// Runs in software until the stint is over and KVM can hold the state, and hands it back; or
    /// until the machine must decide something.
    fn run_in_software(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        loop {
            let (look, back) = self.hard.take_kick();
            if look {
                self.attention.set(Signals::EVENT);
            }
            if back {
                return Ok(Some(VcpuExit::Kicked));
            }
            match self.soft.step() {
                Stop::TripleFault => return Ok(Some(VcpuExit::TripleFault)),
                Stop::Halted => return Ok(Some(VcpuExit::Halted)),
                _ => {}
            }
            self.left = self.left.saturating_sub(1);
            if self.is_debugged()
                && let Some(stop) = self.debug_stop()
            {
                return Ok(Some(VcpuExit::Debug(stop)));
            }
            if self.left == 0 && self.hand_back()? {
                return Ok(None);
            }
        }
    }

    /// Gives KVM the state, if it can hold it.
    fn hand_back(&mut self) -> Result<bool, AccelError> {
        let state = self.soft.state().canonical();
        if !self.hard.can_hold(&state) {
            self.left = LONGEST;
            return Ok(false);
        }
        if state.cr0.contains(Cr0::PG) {
            self.hard.memory_was_written()?;
        }
        self.hard.set_state(&state)?;
        self.in_software = false;
        self.last.1 = Some(Instant::now());
        Ok(true)
    }

    fn is_debugged(&self) -> bool {
        self.points != DebugPoints::default()
    }

    fn debug_stop(&self) -> Option<DebugStop> {
        if self.points.step {
            return Some(DebugStop::Step);
        }
        let linear = self.soft.state().linear_rip();
        let hit = self.points.breakpoints.contains(&linear);
        hit.then_some(DebugStop::Breakpoint(linear))
    }
}

impl Vcpu for RescuedVcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        loop {
            if self.in_software
                && let Some(exit) = self.run_in_software()?
            {
                return Ok(exit);
            }
            match self.hard.run() {
                Err(AccelError::Internal {
                    suberror:
                        suberror @ (KVM_INTERNAL_ERROR_EMULATION | KVM_INTERNAL_ERROR_DELIVERY_EV),
                    bytes,
                    ..
                }) => self.take_over(suberror, bytes)?,
                other => return other,
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        if self.in_software {
            return Ok(self.soft.state().canonical());
        }
        self.hard.state()
    }

    fn leave(&mut self) -> Result<CpuState, AccelError> {
        let state = self.state()?;
        let of_kvm = self.hard.leave()?;
        Ok(if self.in_software { state } else { of_kvm })
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        if self.hard.can_hold(state) {
            self.in_software = false;
            return self.hard.set_state(state);
        }
        self.attention.set(Signals::MAP | Signals::EVENT);
        self.soft.set_state(state);
        (self.in_software, self.left) = (true, LONGEST);
        Ok(())
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.points = points.clone();
        self.hard.set_debug(points)
    }

    fn counters(&mut self) -> Counters {
        self.rescue.counted(self.hard.counters())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.hard.kicker()
    }
}
