//! A processor that two engines run: slices, and what is made of a mismatch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use emu::arch::{Gpr, RFlags, Seg};
use emu::attention::Signals;
use emu::engine::{Engine, Stop};
use emu::state::{Activity, Queued, Shadow};
use emu::{CpuIo, CpuState, Pending};

use super::compare::{comparable, only_flags};
use super::memory::{Word, Written};
use super::mismatch::Slice;
use super::record::Side;
use super::tally::Tally;
use super::watch::Watch;
use super::{Mode, Shared, no_map};
use crate::error::{Bytes, Place};
use crate::{AccelError, Counters, DebugPoints, Kick, Vcpu, VcpuExit};

/// Instructions of the follower's before it goes on by blocks.
const SHORT: u64 = 1 << 17;
/// The most instructions that the follower runs for a slice.
const LONGEST: u64 = 1 << 25;
/// The most for one instruction of the leader's: it may have run one more (a shadow, a delivery).
const ONE: u64 = 4;
/// The most for one that repeats.
const REPEATED: u64 = 1 << 17;
/// How often the follower may come to the leader's registers before it comes to its memory.
const ROUNDS: u32 = 1 << 16;
/// Instructions that are looked through for the one that left a flag undefined.
const LOOKED_BACK: usize = 64;
/// Instructions that a report shows before the one it is about.
const HISTORY: usize = 16;
/// Instructions that the follower runs alone before the leader is offered the state again.
const STINT: u64 = 64;

/// How long a slice lasts in which nothing else ends it, at least.
fn tick(mode: Mode) -> Duration {
    match mode {
        // What cannot be scouted shall not be much longer than what is.
        Mode::Slice => Duration::from_micros(200),
        Mode::Exit | Mode::Step => Duration::from_millis(2),
    }
}

/// Every instruction is a stop.
pub(super) fn step() -> DebugPoints {
    DebugPoints {
        step: true,
        ..DebugPoints::default()
    }
}

/// Makes both look up.
struct Both {
    leader: Arc<dyn Kick>,
    shared: Arc<Shared>,
    /// `run` shall return; else a kick of the leader is our own.
    wanted: AtomicBool,
}

impl Kick for Both {
    fn signal(&self) {
        self.shared.attention.set(Signals::EVENT);
        self.leader.signal();
    }

    fn kick(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.leader.kick();
    }
}

/// How the leader's slice ended.
pub(super) enum Ended {
    /// As an engine's run does.
    Exit(VcpuExit),
    /// It cannot run the next instruction, or deliver the next event.
    Refused(Bytes),
}

/// Why the follower did not come to the leader's state.
#[derive(Debug)]
pub(super) enum Missed {
    /// It accessed what the leader did not.
    Access(String),
    /// It went on for long.
    Never,
}

/// Where the follower came to behind a slice of the leader's.
struct Followed {
    /// Why it is not the leader's state.
    missed: Option<Missed>,
    /// The pages that either wrote.
    written: Written,
    /// Where they differ.
    differing: Vec<Word>,
}

pub(super) struct LockstepVcpu {
    pub(super) leader: Box<dyn Vcpu>,
    pub(super) follower: Engine,
    pub(super) shared: Arc<Shared>,
    pub(super) io: Arc<dyn CpuIo>,
    /// The leader's board.
    pub(super) lead: Arc<Side>,
    /// The follower's.
    pub(super) follow: Arc<Side>,
    kick: Arc<Both>,
    watch: Watch,
    /// The last point both agreed on, as the leader has it.
    pub(super) agreed: CpuState,
    /// The leader single-steps.
    pub(super) stepping: bool,
    /// The leader cannot hold the state.
    alone: bool,
    /// How many instructions are checked when `run` returns for once.
    stop_at: Option<u64>,
    /// Memory may have been filled since the state was set.
    fresh: bool,
    pub(super) history: VecDeque<String>,
    /// The linear addresses of the instructions that the follower has run one by one.
    stepped: VecDeque<u64>,
    pub(super) tally: Tally,
    /// The follower's state behind the first instruction of a stepped slice.
    pub(super) first: Option<CpuState>,
}

impl LockstepVcpu {
    pub(super) fn new(shared: Arc<Shared>, io: Arc<dyn CpuIo>) -> Result<Self, AccelError> {
        let lead = Arc::new(Side::new(Arc::clone(&io)));
        let mut leader = shared.leader.create_vcpu(0, Arc::clone(&lead) as _)?;
        lead.stop_by(leader.kicker());
        let follow = Arc::new(Side::new(Arc::clone(&io)));
        let model = Arc::new(shared.config.cpu.clone());
        let attention = Arc::clone(&shared.attention);
        let mut follower = Engine::new(model, Arc::clone(&follow) as _, attention);
        follower.set_debug(&step());
        let agreed = leader.state()?.canonical();
        let mut vcpu = Self {
            watch: Watch::new(leader.kicker(), tick(shared.mode))?,
            kick: Arc::new(Both {
                leader: leader.kicker(),
                shared: Arc::clone(&shared),
                wanted: AtomicBool::new(false),
            }),
            leader,
            follower,
            io,
            lead,
            follow,
            agreed,
            stepping: false,
            alone: false,
            stop_at: None,
            fresh: true,
            history: VecDeque::new(),
            stepped: VecDeque::with_capacity(LOOKED_BACK),
            tally: Tally::default(),
            first: None,
            shared,
        };
        let agreed = vcpu.agreed.clone();
        vcpu.adopt(agreed);
        Ok(vcpu)
    }

    /// The follower gets the leader's state.
    pub(super) fn adopt(&mut self, state: CpuState) {
        self.follower.set_state(&CpuState {
            queued: None,
            nmi_pending: false,
            ..state.clone()
        });
        self.agreed = state;
    }

    /// Whether the leader can run one instruction of a state by itself.
    pub(super) fn can_step(&self, state: &CpuState) -> bool {
        !self.shared.partial || state.segments[Seg::Ss as usize].dpl() == 0
    }

    /// Makes the leader stop behind the next instruction, or not.
    fn arm(&mut self) -> Result<bool, AccelError> {
        let state = &self.agreed.clone();
        let pending = self.io.pending();
        let open = state.shadow == Shadow::None;
        let taken = pending.contains(Pending::NMI) && !state.nmi_masked
            || pending.contains(Pending::INTERRUPT) && state.rflags.contains(RFlags::IF);
        let wanted = self.shared.mode == Mode::Step || state.nmi_pending;
        // KVM steps by TF, which a delivery would push.
        let delivers = state.queued.is_some() || state.nmi_pending && !state.nmi_masked;
        let held = delivers || open && taken || state.rflags.contains(RFlags::TF);
        let steps = wanted && !held && self.can_step(state) && !self.leaves_stepping();
        if steps {
            self.leader.set_debug(&step())?;
        } else if self.stepping {
            self.leader.set_debug(&DebugPoints::default())?;
        }
        self.stepping = steps;
        Ok(steps)
    }

    /// Whether the next instruction may take TF or a partial KVM's privilege from the stepper: it sets
    /// TF, or goes to ring 3.
    fn leaves_stepping(&mut self) -> bool {
        let bits = Place(self.agreed.clone()).bits();
        let name = emu::encoding(&self.follower.bytes_at_rip(), bits).unwrap_or_default();
        let all = ["Popf", "Iretq", "Iretd", "Sysret", "Sysexit"];
        all.iter().any(|n| name.starts_with(n))
    }

    /// One slice of the leader's, and the follower behind it.
    fn slice(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        self.take_map()?;
        if std::mem::take(&mut self.fresh) {
            self.shared.memory().refresh();
            self.shared.attention.set(Signals::MAP);
        }
        if self.shared.mode == Mode::Slice
            && let Some(exit) = self.scouted_slice()?
        {
            return Ok(exit);
        }
        let stepped = self.arm()?;
        let bytes = match stepped {
            true => self.remember(),
            false => Bytes::default(),
        };
        let priority = self.io.tpr();
        self.lead.record();
        let ran = self.run_leader(stepped.then_some(&bytes));
        let restarted = self.lead.restarted();
        let tape = self.lead.pass();
        let (ended, target) = ran?;
        if restarted {
            // INIT and start-up are no instructions: the state is the leader's.
            self.tally.copied += 1;
            let written = self.shared.memory().written(&*self.shared.leader)?;
            self.settle(&written);
            self.adopt(target);
            return Ok(self.wanted());
        }
        self.follow.replay(tape.clone(), priority);
        let from = self.follower.retired();
        let one = stepped.then_some(&bytes);
        let Followed {
            missed,
            written,
            differing,
        } = self.follow_whole(&target, tape.is_empty(), one)?;
        let same_priority = !tape.is_empty() || self.follow.priority() == self.io.tpr();
        if missed.is_none() && differing.is_empty() && same_priority {
            self.settle(&written);
            self.agreed = target;
            self.tally.agreed += 1;
            self.tally.checked += self.follower.retired().wrapping_sub(from);
        } else if stepped && self.shared.partial {
            self.judge(bytes, &target, missed, &written, differing)?;
        } else {
            // Of a stepped instruction too: a whole KVM may have run all of a handler.
            self.locate(
                &Slice {
                    target,
                    tape,
                    priority,
                    written,
                    count: None,
                },
                missed,
                differing,
            )?;
        }
        self.follow.pass();
        match ended {
            Ended::Exit(VcpuExit::Kicked | VcpuExit::Debug(_)) => Ok(self.wanted()),
            Ended::Exit(exit) => Ok(Some(exit)),
            Ended::Refused(bytes) => {
                self.run_refused(bytes)?;
                Ok(self.wanted())
            }
        }
    }

    /// Runs the leader until it stops, over `one` instruction if it is stepped; its state then.
    pub(super) fn run_leader(
        &mut self,
        one: Option<&Bytes>,
    ) -> Result<(Ended, CpuState), AccelError> {
        loop {
            let ended = self.enter_leader()?;
            let state = self.leader.state()?.canonical();
            // A kernel's emulator, which every KVM has for INS and OUTS, stops once more at a repeated
            // instruction whose count is used up. It shows RF there.
            let amid = match one {
                Some(bytes) => repeats(bytes) && state.rip == self.agreed.rip,
                None => state.rflags.contains(RFlags::RF),
            };
            let again = amid
                && matches!(ended, Ended::Exit(VcpuExit::Debug(_) | VcpuExit::Kicked))
                && state.gpr[Gpr::Rcx as usize] as u16 == 0;
            if !again {
                return Ok((ended, state));
            }
            self.leader.set_debug(&step())?;
            self.stepping = true;
        }
    }

    pub(super) fn enter_leader(&mut self) -> Result<Ended, AccelError> {
        self.watch.begin();
        let exit = self.leader.run();
        self.watch.end();
        match exit {
            Ok(exit) => Ok(Ended::Exit(exit)),
            // Emulation failed, or a delivery.
            Err(AccelError::Internal {
                suberror: 1 | 3,
                bytes,
                ..
            }) => Ok(Ended::Refused(bytes)),
            Err(error) => Err(error),
        }
    }

    /// What the machine's loop wants.
    pub(super) fn wanted(&self) -> Option<VcpuExit> {
        let wanted = self.kick.wanted.swap(false, Ordering::SeqCst);
        wanted.then_some(VcpuExit::Kicked)
    }

    /// The follower gets the map that the leader has.
    fn take_map(&mut self) -> Result<(), AccelError> {
        let map = self.shared.memory().follow_map().map_err(no_map)?;
        if let Some(map) = map {
            self.shared.attention.set_memory_map(map);
            // A delivery may come before the loop looks at the map.
            self.follower.bytes_at_rip();
            self.follower.set_state(&self.follower.state());
        }
        Ok(())
    }

    /// Memory is equal, or to be the leader's.
    pub(super) fn settle(&mut self, written: &Written) {
        if self.shared.memory().agree(written) {
            self.shared.attention.set(Signals::CODE);
        }
        if !written.engines.is_empty() {
            self.shared.attention.set(Signals::DIRTY);
        }
    }

    /// Notes the instruction that comes next.
    pub(super) fn remember(&mut self) -> Bytes {
        let all = self.follower.bytes_at_rip();
        let state = self.follower.state();
        let bits = Place(state.clone()).bits();
        let text = emu::disassemble(&all, bits, state.rip);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history
            .push_back(format!("{:#x}: {text}", state.linear_rip()));
        Bytes::new(&all)
    }

    /// Delivers to the follower what the leader had accepted.
    fn deliver(&mut self) {
        let state = &self.agreed;
        if let Some(event) = state.queued {
            self.follower.deliver(event);
        } else if state.nmi_pending && !state.nmi_masked && state.shadow != Shadow::MovSs {
            self.follower.set_state(&CpuState {
                nmi_pending: false,
                nmi_masked: true,
                ..self.follower.state()
            });
            self.follower.deliver(Queued::Nmi);
        }
    }

    /// Runs the follower to the leader's state and memory.
    fn follow_whole(
        &mut self,
        target: &CpuState,
        quiet: bool,
        one: Option<&Bytes>,
    ) -> Result<Followed, AccelError> {
        let stays = quiet && self.stays(target);
        let mut reached = match stays {
            true => Ok(()),
            false => self.follow_to(target, one),
        };
        let mut written = self.shared.memory().written(&*self.shared.leader)?;
        let mut differing = self.shared.memory().differences(&written, target);
        // Registers may be the same in every round of a loop, and memory tell the rounds apart.
        for round in 0..ROUNDS {
            if one.is_some() || reached.is_err() || differing.is_empty() {
                break;
            }
            self.shared.attention.set(Signals::DIRTY);
            if stays && round == 0 {
                self.deliver();
            }
            self.step_follower();
            reached = self.follow_on(target, one);
            written.add(self.shared.memory().written(&*self.shared.leader)?);
            differing = self.shared.memory().differences(&written, target);
        }
        Ok(Followed {
            missed: reached.err(),
            written,
            differing,
        })
    }

    /// Whether the leader's state is what it was, so that it may not have run at all.
    fn stays(&self, target: &CpuState) -> bool {
        let woken = is_woken(target);
        target.queued == self.agreed.queued
            && target.nmi_pending == self.agreed.nmi_pending
            && comparable(self.agreed.clone(), woken) == comparable(target.clone(), woken)
    }

    /// Runs the follower to the leader's state.
    pub(super) fn follow_to(
        &mut self,
        target: &CpuState,
        one: Option<&Bytes>,
    ) -> Result<(), Missed> {
        self.first = None;
        self.stepped.clear();
        self.deliver();
        self.follow_on(target, one)
    }

    /// The same, when what the leader had accepted is delivered.
    pub(super) fn follow_on(
        &mut self,
        target: &CpuState,
        one: Option<&Bytes>,
    ) -> Result<(), Missed> {
        let woken = is_woken(target);
        let wanted = comparable(target.clone(), woken);
        let repeats = one.is_some_and(repeats);
        let most = match one {
            None => LONGEST,
            Some(_) if repeats => REPEATED,
            Some(_) => ONE,
        };
        let from = self.follower.retired();
        let linear = wanted.linear_rip();
        let mut idle = 0;
        loop {
            if self.is_level() && self.follower.cpu().linear_rip() == linear {
                let state = comparable(self.follower.state().canonical(), woken);
                if state == wanted {
                    return Ok(());
                }
                let flags = only_flags(&wanted, &state).filter(|_| one.is_none());
                if flags.is_some_and(|differ| self.leaves_undefined(differ)) {
                    self.tally.masked += 1;
                    self.follower.set_state(&CpuState {
                        rflags: wanted.rflags,
                        ..self.follower.state()
                    });
                    return Ok(());
                }
            }
            if let Some(wrong) = self.follow.wrong() {
                return Err(Missed::Access(wrong));
            }
            let done = self.follower.retired().wrapping_sub(from);
            let same_place = self.follower.cpu().linear_rip() == linear;
            let over = one.is_some() && !repeats && self.first.is_some() && same_place;
            if over || done >= most || idle > 2 {
                return Err(Missed::Never);
            }
            self.note_step();
            let by_block = done > SHORT && self.shared.fault.is_none() && !same_place;
            let stop = match by_block {
                true => self.run_to(linear),
                false => self.step_follower(),
            };
            if one.is_some() && self.first.is_none() {
                self.first = Some(self.follower.state().canonical());
            }
            match stop {
                // Behind a shutdown there is no state to compare.
                Stop::TripleFault if target.activity == Activity::Shutdown => return Ok(()),
                Stop::TripleFault => return Err(Missed::Never),
                Stop::Halted => idle += 1,
                _ => {}
            }
        }
    }

    pub(super) fn forget_steps(&mut self) {
        self.stepped.clear();
    }

    pub(super) fn note_step(&mut self) {
        if self.stepped.len() == LOOKED_BACK {
            self.stepped.pop_front();
        }
        self.stepped.push_back(self.follower.cpu().linear_rip());
    }

    /// Whether the last instructions to change these flags left them undefined.
    pub(super) fn leaves_undefined(&mut self, mut flags: RFlags) -> bool {
        let bits = Place(self.follower.state()).bits();
        for at in (0..self.stepped.len()).rev() {
            let bytes = self.follower.code_at(self.stepped[at]);
            flags -= emu::undefined_flags(&bytes, bits);
            if flags.intersects(emu::changed_flags(&bytes, bits)) {
                return false;
            }
            if flags.is_empty() {
                return true;
            }
        }
        false
    }

    /// Whether the follower has made the accesses that the leader has.
    fn is_level(&self) -> bool {
        match self.lead.position() {
            Some(at) => self.follow.position() == Some(at),
            None => self.follow.consumed(),
        }
    }

    /// Runs the follower up to an address.
    fn run_to(&mut self, linear: u64) -> Stop {
        self.stepped.clear();
        self.follower.set_debug(&DebugPoints {
            breakpoints: vec![linear],
            ..DebugPoints::default()
        });
        let stop = self.follower.run();
        self.follower.set_debug(&step());
        stop
    }

    /// One instruction of the follower's, one iteration of a repeated one.
    pub(super) fn step_follower(&mut self) -> Stop {
        let Some(fault) = self.shared.fault.clone() else {
            return self.follower.run();
        };
        let before = self.follower.state();
        let bytes = self.follower.bytes_at_rip();
        let stop = self.follower.run();
        let mut after = self.follower.state();
        if fault(&before, &bytes, &mut after) {
            self.follower.set_state(&after);
        }
        stop
    }

    /// The software CPU alone does what the leader has refused: a delivery, or one instruction.
    pub(super) fn run_refused(&mut self, bytes: Bytes) -> Result<(), AccelError> {
        let place = Place(self.agreed.clone());
        let what = match self.agreed.queued {
            Some(_) => Some("delivery".to_owned()),
            None => emu::encoding(bytes.as_slice(), place.bits()),
        };
        let what = what.unwrap_or_else(|| format!("bytes {bytes}"));
        tracing::debug!(target: "lockstep", "unchecked: {what}; {place}");
        self.count_unchecked(&what, 1);
        match self.agreed.queued {
            Some(event) => self.follower.deliver(event),
            None => {
                self.follower.run();
            }
        }
        self.give_leader()
    }

    fn count_unchecked(&mut self, what: &str, count: u64) {
        let what = format!("{what} in {}", Place(self.agreed.clone()).mode());
        *self.tally.unchecked.entry(what).or_default() += count;
    }

    /// The leader gets the follower's state and memory.
    pub(super) fn give_leader(&mut self) -> Result<(), AccelError> {
        let written = self.shared.memory().written(&*self.shared.leader)?;
        self.shared.memory().give_leader(&written);
        self.settle(&written);
        self.take_map()?;
        let state = CpuState {
            tsc_offset: self.agreed.tsc_offset,
            ..self.follower.state().canonical()
        };
        self.leader.set_state(&state)?;
        let held = comparable(self.leader.state()?.canonical(), false);
        self.alone = held != comparable(state.clone(), false);
        if self.alone {
            tracing::debug!(target: "lockstep", "the leader cannot hold: {:?}", held.differences(&state));
        }
        self.agreed = state;
        Ok(())
    }

    /// Runs the follower alone on the board, until the leader can hold the state again.
    fn run_alone(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        for _ in 0..STINT {
            if let Some(exit) = self.wanted() {
                return Ok(Some(exit));
            }
            let stop = self.follower.step();
            self.count_unchecked("state the leader cannot hold", 1);
            let written = self.shared.memory().written(&*self.shared.leader)?;
            self.shared.memory().give_leader(&written);
            self.settle(&written);
            self.take_map()?;
            self.agreed = self.follower.state().canonical();
            match stop {
                Stop::TripleFault => return Ok(Some(VcpuExit::TripleFault)),
                Stop::Halted => return Ok(Some(VcpuExit::Halted)),
                _ => {}
            }
        }
        self.give_leader()?;
        Ok(None)
    }
}

/// Whether an event that the leader has accepted ends a halt.
fn is_woken(state: &CpuState) -> bool {
    state.queued.is_some() || state.nmi_pending
}

/// Whether an instruction has a repeat prefix among its first bytes.
pub(super) fn repeats(bytes: &Bytes) -> bool {
    bytes
        .as_slice()
        .iter()
        .take(4)
        .any(|b| matches!(b, 0xF2 | 0xF3))
}

impl Vcpu for LockstepVcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        loop {
            if self
                .stop_at
                .is_some_and(|count| self.tally.checked >= count)
            {
                self.stop_at = None;
                return Ok(VcpuExit::Kicked);
            }
            let exit = match self.alone {
                true => self.run_alone()?,
                false => self.slice()?,
            };
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        Ok(self.agreed.clone())
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.alone = false;
        self.fresh = true;
        self.take_map()?;
        let written = self.shared.memory().written(&*self.shared.leader)?;
        self.settle(&written);
        self.leader.set_state(state)?;
        let state = self.leader.state()?.canonical();
        self.adopt(state);
        Ok(())
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        if *points == DebugPoints::default() {
            return Ok(());
        }
        Err(AccelError::Lockstep { what: "debugger" })
    }

    fn stop_after(&mut self, count: u64) -> bool {
        self.stop_at = Some(self.tally.checked.saturating_add(count));
        true
    }

    fn counters(&mut self) -> Counters {
        Counters {
            instructions: Some(self.tally.checked),
            lockstep: self.tally.named(),
            ..self.leader.counters()
        }
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kick) as Arc<dyn Kick>
    }
}
