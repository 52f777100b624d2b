//! What is made of a mismatch: excused for a reason that is counted, or narrowed down to one
//! instruction and reported.

use emu::CpuState;
use emu::arch::{RFlags, Seg};
use emu::state::Activity;

use super::Divergence;
use super::compare::{comparable, only_flags};
use super::memory::{Word, Written};
use super::record::Access;
use super::scout::HLT;
use super::vcpu::{Ended, LockstepVcpu, Missed, repeats, step};
use crate::error::{Bytes, Place};
use crate::{AccelError, DebugStop, VcpuExit};

/// The most instructions of a slice that are stepped to find where it went wrong.
const STEPPED: u64 = 1 << 20;
/// The most bytes of an instruction.
const MAX_LEN: u64 = 15;
/// Instructions whose results no two engines share, by the beginning of iced's names.
const UNSHARED: &[&str] = &["Rdtsc", "Rdrand", "Rdseed", "Rdpid", "Rdpmc"];
/// Instructions that a partial KVM runs wrongly without an exit.
const KNOWN: &[&str] = &["Lzcnt", "Tzcnt", "Cpuid"];

/// A slice that did not come out the same.
pub(super) struct Slice {
    /// The leader's state at its end.
    pub(super) target: CpuState,
    /// What the leader did to the board.
    pub(super) tape: Vec<Access>,
    /// The task priority at its beginning.
    pub(super) priority: u8,
    /// The pages that were written.
    pub(super) written: Written,
    /// How many instructions it has, if that is known.
    pub(super) count: Option<u64>,
}

/// What a mismatch at one instruction is.
enum Verdict {
    /// The leader's result counts.
    Leaders,
    /// The follower's result counts.
    Followers,
    /// It is none that there is a reason for.
    Diverged,
}

impl LockstepVcpu {
    /// A mismatch at one instruction: goes on if there is a reason for it.
    pub(super) fn judge(
        &mut self,
        bytes: Bytes,
        target: &CpuState,
        missed: Option<Missed>,
        written: &Written,
        differing: Vec<Word>,
    ) -> Result<(), AccelError> {
        match self.verdict(&bytes, target, missed.as_ref(), &differing) {
            Verdict::Leaders => {
                self.settle(written);
                self.adopt(target.clone());
                Ok(())
            }
            Verdict::Followers => {
                self.shared.memory().give_leader(written);
                self.settle(written);
                self.give_leader()
            }
            Verdict::Diverged => {
                let now = self.follower.state().canonical();
                let follower = match self.first.take() {
                    Some(first) if now.linear_rip() != target.linear_rip() => first,
                    _ => now,
                };
                let changes = self.shared.memory().changes(written);
                let before = self.agreed.clone();
                Err(self.diverged(Divergence {
                    bytes,
                    before,
                    leader: target.clone(),
                    follower,
                    access: access(missed),
                    memory: differing,
                    written: changes,
                    history: Vec::new(),
                    // It may have gone on, to where the leader cannot be stepped.
                    located: self.can_step(target),
                }))
            }
        }
    }

    /// What a mismatch at one instruction is, counted.
    fn verdict(
        &mut self,
        bytes: &Bytes,
        target: &CpuState,
        missed: Option<&Missed>,
        differing: &[Word],
    ) -> Verdict {
        if matches!(missed, Some(Missed::Access(_))) {
            return Verdict::Diverged;
        }
        let bits = Place(self.agreed.clone()).bits();
        let name = emu::encoding(bytes.as_slice(), bits).unwrap_or_default();
        let is_one_of = |names: &[&str]| names.iter().any(|n| name.starts_with(n));
        if missed.is_none()
            && !differing.is_empty()
            && let Some(what) = wrong_image(differing, self.shared.on_qemu)
        {
            *self.tally.known.entry(what.to_owned()).or_default() += 1;
            return Verdict::Followers;
        }
        if is_one_of(UNSHARED) {
            self.tally.copied += 1;
            return Verdict::Leaders;
        }
        // The kernel's emulator lets STI shade interrupts even if they were on already.
        let shadow_only = self.first.as_ref().is_some_and(|own| {
            let own = CpuState {
                shadow: target.shadow,
                ..own.clone()
            };
            comparable(own, false) == comparable(target.clone(), false)
        });
        let shaded = name == "Sti" && self.agreed.rflags.contains(RFlags::IF) && shadow_only;
        if self.shared.partial && (is_one_of(KNOWN) || shaded) {
            *self.tally.known.entry(name).or_default() += 1;
            return Verdict::Followers;
        }
        let Some(own) = self.first.clone().filter(|_| differing.is_empty()) else {
            return Verdict::Diverged;
        };
        let flags = only_flags(&comparable(target.clone(), false), &comparable(own, false));
        let undefined = emu::undefined_flags(bytes.as_slice(), bits);
        if flags.is_some_and(|differ| undefined.contains(differ)) {
            self.tally.masked += 1;
            return Verdict::Leaders;
        }
        Verdict::Diverged
    }

    /// Takes both engines back to where they agreed and steps them through the slice.
    pub(super) fn locate(
        &mut self,
        slice: &Slice,
        missed: Option<Missed>,
        differing: Vec<Word>,
    ) -> Result<(), AccelError> {
        tracing::debug!(
            target: "lockstep",
            "a slice differs ({missed:?}, {} words, task priority {} to {}, accesses {:?}) from {} to {}",
            differing.len(), self.io.tpr(), self.follow.priority(), slice.tape,
            Place(self.agreed.clone()), Place(slice.target.clone()),
        );
        if !self.can_step(&self.agreed) {
            let follower = self.follower.state().canonical();
            let written = self.shared.memory().changes(&slice.written);
            let agreed = self.agreed.clone();
            self.adopt(agreed);
            let bytes = self.remember();
            let before = self.agreed.clone();
            return Err(self.diverged(Divergence {
                bytes,
                before,
                leader: slice.target.clone(),
                follower,
                access: access(missed),
                memory: differing,
                written,
                history: Vec::new(),
                located: false,
            }));
        }
        let held = self.shared.memory().take_back(&slice.written);
        let maps = self.shared.memory().both_maps().map_err(super::no_map)?;
        if let Some((now, _)) = &maps {
            self.shared.leader.set_memory_map(now.clone())?;
        }
        let start = self.agreed.clone();
        self.leader.set_state(&start)?;
        self.adopt(start);
        self.shared.attention.set(emu::attention::Signals::MAP);
        let excused = self.excused();
        let stepped = self.step_through(slice);
        self.lead.pass();
        stepped?;
        if let Some((_, next)) = maps {
            self.shared.leader.set_memory_map(next)?;
        }
        let mut written = self.shared.memory().written(&*self.shared.leader)?;
        self.shared.memory().put_back(&held, &mut written);
        self.settle(&written);
        if self.excused() == excused {
            self.tally.timing += 1;
        }
        Ok(())
    }

    /// How many mismatches there was a reason for.
    fn excused(&self) -> u64 {
        self.tally.masked + self.tally.copied + self.tally.known.values().sum::<u64>()
    }

    /// Steps both through a slice, the record being the board.
    fn step_through(&mut self, slice: &Slice) -> Result<(), AccelError> {
        self.lead.replay(slice.tape.clone(), slice.priority);
        self.follow.replay(slice.tape.clone(), slice.priority);
        let end = comparable(slice.target.clone(), false);
        if let Some(event) = self.agreed.queued {
            // KVM steps by TF, which a delivery would push: here it is not checked.
            self.follower.deliver(event);
            self.give_leader()?;
        }
        self.stepping = true;
        let from = self.follower.retired();
        for _ in 0..STEPPED {
            let bytes = self.remember();
            let behind = self.foresee(&bytes);
            self.leader.set_debug(&step())?;
            let (ended, target) = match behind {
                Some(_) => self.run_leader_over(&bytes)?,
                None => self.run_leader(Some(&bytes))?,
            };
            let reached = match behind {
                Some(_) => self.follow_on(&target, Some(&bytes)),
                None => self.follow_to(&target, Some(&bytes)),
            };
            let written = self.shared.memory().written(&*self.shared.leader)?;
            let differing = self.shared.memory().differences(&written, &target);
            if reached.is_ok() && differing.is_empty() {
                self.settle(&written);
                self.agreed = target;
            } else {
                self.judge(bytes, &target, reached.err(), &written, differing)?;
            }
            self.tally.checked += 1;
            let ran = self.follower.retired().wrapping_sub(from);
            let halted = !matches!(ended, Ended::Exit(VcpuExit::Debug(_) | VcpuExit::Kicked));
            let done = match slice.tape.is_empty() {
                true if slice.count.is_some_and(|count| ran >= count) => true,
                true => comparable(self.agreed.clone(), false) == end,
                false => self.lead.consumed(),
            };
            if halted || done {
                break;
            }
        }
        // What the leader had accepted at the end is still accepted.
        if slice.target.queued.is_some() && self.agreed.queued.is_none() {
            self.agreed.queued = slice.target.queued;
            let state = self.agreed.clone();
            self.leader.set_state(&state)?;
        }
        Ok(())
    }

    /// Runs the follower over the next instruction, before the leader. Its address then, unless both
    /// do it in the usual order.
    fn foresee(&mut self, bytes: &Bytes) -> Option<u64> {
        if self.shared.partial || repeats(bytes) {
            return None;
        }
        self.step_follower();
        let first = self.follower.state().canonical();
        let behind = first.linear_rip();
        self.first = Some(first);
        Some(behind)
    }

    /// Runs the leader over an instruction that the follower has run. KVM steps by TF, which the entry
    /// of a handler clears: where the follower went away from the code, the leader's memory has a HLT.
    fn run_leader_over(&mut self, bytes: &Bytes) -> Result<(Ended, CpuState), AccelError> {
        let behind = self.follower.state().canonical();
        let from = self.agreed.linear_rip();
        let away = !(from..from + MAX_LEN).contains(&behind.linear_rip());
        let place = match away && behind.segments[Seg::Ss as usize].dpl() == 0 {
            true => self.follower.code_address(),
            false => None,
        };
        let planted = place.and_then(|at| Some((at, self.shared.memory().plant(at, HLT)?)));
        let ran = self.run_leader_on(bytes);
        if let Some((at, byte)) = planted {
            self.shared.memory().plant(at, byte);
        }
        let (ended, mut target) = ran?;
        let halted = target.activity == Activity::Halted
            && target.linear_rip() == behind.linear_rip().wrapping_add(1);
        if planted.is_none() || !halted {
            return Ok((ended, target));
        }
        target.rip = behind.rip;
        target.activity = Activity::Running;
        self.leader.set_state(&target)?;
        Ok((Ended::Exit(VcpuExit::Debug(DebugStop::Step)), target))
    }

    /// Runs the leader until it has run an instruction: a kick may come before it.
    fn run_leader_on(&mut self, bytes: &Bytes) -> Result<(Ended, CpuState), AccelError> {
        loop {
            let (ended, state) = self.run_leader(Some(bytes))?;
            let kicked = matches!(ended, Ended::Exit(VcpuExit::Kicked));
            if !kicked || comparable(state.clone(), false) != comparable(self.agreed.clone(), false)
            {
                return Ok((ended, state));
            }
        }
    }

    fn diverged(&mut self, found: Divergence) -> AccelError {
        let history = self.history.drain(..).collect();
        AccelError::Diverged(Box::new(Divergence { history, ..found }))
    }
}

/// What is wrong with the leader's image of flags, if nothing else differs: it has TF, by which it is
/// stepped, or RF is not as a processor pushes it (SDM volume 3, \"Resume Flag\").
fn wrong_image(differing: &[Word], on_qemu: bool) -> Option<&'static str> {
    let (tf, rf) = (RFlags::TF.bits(), RFlags::RF.bits());
    let mut what = "TF pushed by a step";
    for word in differing {
        let (more, less) = (word.leader & !word.follower, word.follower & !word.leader);
        // The image may begin at any 16 bits of the word.
        let at = |flag: u64| (0..4).map(move |lane| flag << (16 * lane));
        match (more, less) {
            (more, 0) if at(tf).any(|tf| more == tf) => {}
            // The kernel's emulator pushes RF with a double fault too.
            (more, 0) if at(tf | rf).any(|both| more == both) => {}
            // QEMU's processors push none with a fault.
            (0, less) if on_qemu && at(rf).any(|rf| less == rf) => what = "RF not pushed",
            (more, less) if on_qemu && at(tf).zip(at(rf)).any(|pair| (more, less) == pair) => {
                what = "RF not pushed";
            }
            _ => return None,
        }
    }
    Some(what)
}

fn access(missed: Option<Missed>) -> Option<String> {
    match missed {
        Some(Missed::Access(what)) => Some(what),
        _ => None,
    }
}
