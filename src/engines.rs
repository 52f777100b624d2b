//! The engines of a machine: one runs it, others may stand by, and it moves between them.
//!
//! Only processor state moves. Devices, interrupt chips, memory and clock are the board's, which all
//! engines reach through the same callbacks. An engine that is left keeps what it has built (virtual
//! machine, memory slots) for when it is come back to, and then gets the present memory map, which also
//! makes the software CPU forget all it had translated: others have written memory since.
//!
//! The guest must not see its CPUID change: it is shown what all engines of the machine can run,
//! and an engine that comes later must be able to run what has been shown.
//!
//! The time-stamp counter goes on at its value, and at its rate too if a KVM that cannot scale it was
//! there when the machine was built: the machine then has that rate. One that comes later
//! has its own rate while it runs.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use accel::{Accel, AccelError, CpuState, DebugPoints, DebugStop, Kick, Vcpu, Vm, VmConfig};

use crate::control::Pause;
use crate::exits::ExitKind;
use crate::machine::{Machine, VmError};
use crate::stats::RunStats;
use crate::switch_option::{SwitchAt, When};

/// Why a machine does not move to another engine. It goes on where it is.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The guest has seen features that the engine cannot run.
    #[error(
        "{engine} lacks {}, which the guest has seen (--accel-switch-at shows it only what both engines have)",
        features.join(", ")
    )]
    Features {
        /// The engine.
        engine: &'static str,
        /// What it lacks.
        features: Vec<String>,
    },
    /// Virtual time is counted in instructions.
    #[error("-icount needs --accel=tcg: KVM cannot count instructions")]
    VirtualTime,
    /// No such engine was given to the machine.
    #[error("the machine has no engine {0}")]
    Absent(&'static str),
    /// The state is not the same on the engine.
    #[error("{engine} cannot hold the processor's state: {}", fields.join("; "))]
    State {
        /// The engine.
        engine: &'static str,
        /// What differs, with both values.
        fields: Vec<String>,
    },
    /// An engine or the map failed.
    #[error(transparent)]
    Vm(#[from] Box<VmError>),
}

impl From<AccelError> for SwitchError {
    fn from(error: AccelError) -> Self {
        Self::Vm(Box::new(error.into()))
    }
}

/// The engine that runs the machine, as callbacks and other threads reach it.
pub(crate) struct Reach {
    /// Its virtual machine.
    pub(crate) vm: Arc<dyn Vm>,
    /// What makes its processor look up, once there is one.
    pub(crate) kick: Option<Arc<dyn Kick>>,
}

/// The [`Reach`] of the moment.
pub(crate) struct Current(RwLock<Reach>);

impl Current {
    pub(crate) fn new(vm: Arc<dyn Vm>) -> Self {
        Self(RwLock::new(Reach { vm, kick: None }))
    }

    pub(crate) fn set(&self, reach: Reach) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    pub(crate) fn vm(&self) -> Arc<dyn Vm> {
        let reach = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&reach.vm)
    }

    /// Has the processor look up by `how`. Whoever kicks has left the reason where the processor looks
    /// before: one that is about to run elsewhere finds it there.
    pub(crate) fn kick(&self, how: impl FnOnce(&dyn Kick)) {
        let reach = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kick) = &reach.kick {
            how(&**kick);
        }
    }
}

/// An engine of the machine.
struct Held {
    name: &'static str,
    vm: Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    /// What was counted in its stays that are over.
    exits: BTreeMap<ExitKind, u64>,
    time: Duration,
    /// How often the machine has come here.
    stays: u64,
}

impl Held {
    fn new(name: &'static str, vm: Arc<dyn Vm>, vcpu: Box<dyn Vcpu>) -> Self {
        Self {
            name,
            vm,
            vcpu,
            exits: BTreeMap::new(),
            time: Duration::ZERO,
            stays: 0,
        }
    }

    fn instructions(&mut self) -> u64 {
        self.vcpu.counters().instructions.unwrap_or(0)
    }
}

/// What the counts of the machine were when the present stay began.
#[derive(Default)]
struct Since {
    exits: BTreeMap<ExitKind, u64>,
    time: Duration,
    instructions: u64,
}

/// The engines of a machine.
pub(crate) struct Engines {
    all: Vec<Held>,
    current: usize,
    since: Since,
    /// What all virtual machines are created with; its processor is the one the guest sees.
    config: VmConfig,
    points: DebugPoints,
    plan: VecDeque<SwitchAt>,
    /// The processor has stopped where the next planned move is.
    there: bool,
    switches: u64,
}

impl Engines {
    /// One engine, which runs.
    pub(crate) fn new(
        name: &'static str,
        vm: Arc<dyn Vm>,
        vcpu: Box<dyn Vcpu>,
        config: VmConfig,
    ) -> Self {
        let mut first = Held::new(name, vm, vcpu);
        first.stays = 1;
        Self {
            all: vec![first],
            current: 0,
            since: Since::default(),
            config,
            points: DebugPoints::default(),
            plan: VecDeque::new(),
            there: false,
            switches: 0,
        }
    }

    fn now(&mut self) -> &mut Held {
        &mut self.all[self.current]
    }

    /// The processor that runs.
    pub(crate) fn vcpu(&mut self) -> &mut dyn Vcpu {
        &mut *self.now().vcpu
    }

    /// The engine that runs.
    pub(crate) fn name(&self) -> &'static str {
        self.all[self.current].name
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|held| held.name == name)
    }

    pub(crate) fn set_plan(&mut self, moves: Vec<SwitchAt>) {
        self.plan = moves.into();
    }

    pub(crate) fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.points = points.clone();
        let all = self.all_points();
        let set = self.vcpu().set_debug(&all);
        if set.is_err() {
            self.points = DebugPoints::default();
        }
        set
    }

    /// What a debugger has asked for, and where the next planned move is.
    fn all_points(&self) -> DebugPoints {
        let mut points = self.points.clone();
        points.breakpoints.extend(self.planned_rip());
        points
    }

    fn planned_rip(&self) -> Option<u64> {
        match self.plan.front()?.when {
            When::Rip(at) => Some(at),
            _ => None,
        }
    }

    /// A debug stop: whether it is for the plan alone.
    pub(crate) fn is_planned(&mut self, stop: DebugStop) -> bool {
        let DebugStop::Breakpoint(at) = stop else {
            return false;
        };
        self.there = self.planned_rip() == Some(at);
        self.there && !self.points.breakpoints.contains(&at)
    }

    /// The engine that a move leads to.
    fn target(&self, step: SwitchAt) -> &'static str {
        let other = |held: &&Held| held.name != self.name();
        match step.to {
            Some(engine) => engine.name(),
            None => self
                .all
                .iter()
                .find(other)
                .map_or("other", |held| held.name),
        }
    }
}

impl Machine {
    /// Gives the machine another engine, which stands by.
    ///
    /// # Errors
    /// If it cannot run what the guest sees, or the host refuses.
    pub fn add_engine(&mut self, accel: &dyn Accel) -> Result<(), SwitchError> {
        if self.engines.find(accel.name()).is_some() {
            return Ok(());
        }
        if self.shared.virtual_time.is_some() {
            return Err(SwitchError::VirtualTime);
        }
        let seen = &self.engines.config.cpu;
        let features = seen.beyond(&accel.shown(seen)?);
        if !features.is_empty() {
            return Err(SwitchError::Features {
                engine: accel.name(),
                features,
            });
        }
        let vm = accel.create_vm(&self.engines.config)?;
        tracing::trace!(target: "exits", "create VM ({}), vCPU 0", accel.name());
        let vcpu = vm.create_vcpu(0, self.shared.access())?;
        self.engines.all.push(Held::new(accel.name(), vm, vcpu));
        Ok(())
    }

    /// Whether the machine can move to the engine of this name, or runs on it.
    pub fn has_engine(&self, name: &str) -> bool {
        self.engines.find(name).is_some()
    }

    /// How often the machine has moved.
    pub fn switches(&self) -> u64 {
        self.engines.switches
    }

    /// Moves the machine to an engine it has, at this instruction boundary.
    ///
    /// # Errors
    /// If the machine has no such engine, or that cannot take over; the machine is then where it was.
    pub fn switch_engine(&mut self, name: &'static str) -> Result<(), SwitchError> {
        let to = self.engines.find(name).ok_or(SwitchError::Absent(name))?;
        let from = self.engines.current;
        if to == from {
            return Ok(());
        }
        let state = self.engines.vcpu().leave()?;
        self.close_stay();
        if let Err(error) = self.take_over(to, &state) {
            tracing::debug!(target: "machine", "no switch to {name}: {error}");
            self.take_over(from, &state)?;
            return Err(error);
        }
        let left = &mut self.engines.all[from];
        left.vcpu.set_debug(&DebugPoints::default())?;
        self.engines.switches += 1;
        self.identity.engine = name;
        tracing::trace!(target: "exits", "switch from {} to {name}", left.name);
        self.arm_plan();
        let here = state.linear_rip();
        if self.paused().is_none() && self.engines.points.breakpoints.contains(&here) {
            // The new engine takes it for the one it goes on from.
            self.pause(Pause::Debug(DebugStop::Breakpoint(here)));
        }
        Ok(())
    }

    /// Engine `to` runs the machine from this state on.
    fn take_over(&mut self, to: usize, state: &CpuState) -> Result<(), SwitchError> {
        let shared = Arc::clone(&self.shared);
        self.engines.current = to;
        let points = self.engines.all_points();
        let amd = self.engines.config.cpu.amd();
        let held = self.engines.now();
        let reach = Reach {
            vm: Arc::clone(&held.vm),
            kick: Some(held.vcpu.kicker()),
        };
        // First of all: a change of the map from now on is this engine's.
        shared.current.set(reach);
        shared.show_map().map_err(Box::new)?;
        held.vcpu.set_state(state)?;
        let taken = held.vcpu.state()?;
        let fields = differences(state, &taken, amd);
        if !fields.is_empty() {
            let engine = held.name;
            return Err(SwitchError::State { engine, fields });
        }
        held.vcpu.set_debug(&points)?;
        held.stays += 1;
        let instructions = held.instructions();
        self.engines.since = Since {
            exits: shared.exits.counts(),
            time: shared.clock.now(),
            instructions,
        };
        // What was asked for while the other one ran: nobody may have told this one.
        shared.kick();
        Ok(())
    }

    /// Adds what the present stay has counted to its engine.
    fn close_stay(&mut self) {
        let (exits, time) = self.stay();
        let held = self.engines.now();
        for (kind, count) in exits {
            *held.exits.entry(kind).or_default() += count;
        }
        held.time += time;
        self.engines.since.exits = self.shared.exits.counts();
        self.engines.since.time = self.shared.clock.now();
    }

    /// What the present stay has counted.
    fn stay(&self) -> (BTreeMap<ExitKind, u64>, Duration) {
        let since = &self.engines.since;
        let before = |kind| since.exits.get(kind).copied().unwrap_or(0);
        let mut exits = self.shared.exits.counts();
        for (kind, count) in &mut exits {
            *count -= before(kind).min(*count);
        }
        (exits, self.shared.clock.now().saturating_sub(since.time))
    }

    /// What the run has counted so far, on each engine that has run the machine.
    pub fn stats(&mut self) -> Vec<RunStats> {
        let (exits, time) = self.stay();
        let current = self.engines.current;
        let all = self.engines.all.iter_mut().enumerate();
        let used = all.filter(|(_, held)| held.stays != 0).map(|(at, held)| {
            let mut stats = RunStats {
                engine: held.name,
                stays: held.stays,
                time: held.time,
                exits: held.exits.clone(),
                counters: held.vcpu.counters(),
            };
            if at == current {
                stats.time += time;
                for (kind, count) in &exits {
                    *stats.exits.entry(*kind).or_default() += count;
                }
            }
            stats.exits.retain(|_, count| *count != 0);
            stats
        });
        used.collect()
    }

    /// Moves as planned, if it is time.
    pub(crate) fn follow_plan(&mut self) -> Result<(), VmError> {
        while let Some(&step) = self.engines.plan.front()
            && self.is_due(step.when)
        {
            self.engines.plan.pop_front();
            if std::mem::take(&mut self.engines.there) {
                let points = self.engines.all_points();
                self.engines.vcpu().set_debug(&points)?;
            }
            let name = self.engines.target(step);
            self.switch_engine(name).map_err(Box::new)?;
            self.arm_plan();
        }
        Ok(())
    }

    fn is_due(&mut self, when: When) -> bool {
        match when {
            When::Access(count) => self.shared.exits.accesses() >= count,
            When::Instructions(count) => {
                let since = self.engines.since.instructions;
                self.engines.now().instructions().saturating_sub(since) >= count
            }
            When::Rip(_) => self.engines.there,
        }
    }

    /// Has the processor stop where the next planned move is.
    pub(crate) fn arm_plan(&mut self) {
        let next = self.engines.plan.front().map(|step| step.when);
        let access = match next {
            Some(When::Access(count)) => count,
            _ => 0,
        };
        self.shared.exits.stop_at_access(access);
        if let Some(When::Rip(_)) = next {
            let points = self.engines.all_points();
            if let Err(error) = self.engines.vcpu().set_debug(&points) {
                tracing::warn!(target: "machine", "no switch at an address: {error}");
            }
        }
        if let Some(When::Instructions(count)) = next
            && !self.engines.vcpu().stop_after(count)
        {
            let engine = self.engines.name();
            tracing::warn!(target: "machine", "no switch after {count} instructions: {engine} does not count them");
        }
    }
}

/// The fields in which a state that was set differs from what is read back.
fn differences(set: &CpuState, taken: &CpuState, amd: bool) -> Vec<String> {
    let mut taken = taken.clone();
    // What a counter at another rate is ahead is not the same a moment later.
    taken.tsc_offset = set.tsc_offset;
    if amd {
        // KVM drops the upper halves of an AMD processor's, which has no SYSENTER in long mode.
        for (set, taken) in [
            (set.msrs.sysenter_esp, &mut taken.msrs.sysenter_esp),
            (set.msrs.sysenter_eip, &mut taken.msrs.sysenter_eip),
        ] {
            *taken |= set & !u64::from(u32::MAX);
        }
    }
    set.clone().canonical().differences(&taken)
}
