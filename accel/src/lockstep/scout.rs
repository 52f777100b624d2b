//! Slices that the software CPU scouts ([`super::Mode::Slice`]).
//!
//! The follower goes first, from the agreed state up to where it would access the board, halts, or has
//! run for long enough. The leader is stopped at the same point by a HLT in its own copy of memory,
//! which it may have to pass as often as the follower did. Nothing comes from outside meanwhile: events
//! wait at the board. A slice that cannot be scouted (an event is due, the next instruction is an
//! access, ring 3, where HLT is not allowed, or a point that is passed too often) is one of
//! [`super::Mode::Exit`].

use std::collections::HashMap;
use std::ops::Range;

use emu::arch::RFlags;
use emu::engine::Stop;
use emu::state::{Activity, Shadow};
use emu::{CpuState, Pending};

use super::compare::{comparable, only_flags};
use super::mismatch::Slice;
use super::vcpu::{Ended, LockstepVcpu, step};
use crate::{AccelError, DebugPoints, VcpuExit};

/// The most instructions of a slice.
const LENGTH: usize = 1 << 13;
/// How often the leader passes the end of a slice at most before it stops there: each time takes as long
/// as the follower takes for a short loop.
const MOST_VISITS: u32 = 512;
/// How often the leader is kicked at most before it counts as lost.
const PATIENCE: u32 = 1 << 9;
/// The one-byte instruction HLT.
pub(super) const HLT: u8 = 0xF4;

/// Where a slice ends.
struct Point {
    /// The follower's state.
    state: CpuState,
    /// Where the HLT goes: physical address, and how often the leader passes it; none if the guest
    /// itself halts.
    stop: Option<(u64, u32)>,
    /// Instructions of the slice.
    count: u64,
}

/// Where an instruction of a slice began.
#[derive(Clone, Copy)]
struct Trail {
    linear: u64,
    /// The slice can end here.
    fit: bool,
}

impl LockstepVcpu {
    /// One slice, if it can be scouted: what the machine's loop is to be told then.
    pub(super) fn scouted_slice(&mut self) -> Result<Option<Option<VcpuExit>>, AccelError> {
        if !self.may_scout() {
            return Ok(None);
        }
        // What devices wrote since the last slice.
        let fresh = self.shared.memory().written(&*self.shared.leader)?;
        self.settle(&fresh);
        let priority = self.io.tpr();
        let Some(point) = self.scout(priority)? else {
            self.back_to_agreed()?;
            self.follow.pass();
            return Ok(None);
        };
        if self.stepping {
            self.leader.set_debug(&DebugPoints::default())?;
            self.stepping = false;
        }
        self.lead.record_alone();
        let ran = self.run_leader_to(&point);
        let tape = self.lead.pass();
        let (ended, target) = ran?;
        let written = self.shared.memory().written(&*self.shared.leader)?;
        let differing = self.shared.memory().differences(&written, &target);
        let (theirs, own) = [&target, &point.state]
            .map(|state| comparable(state.clone(), false))
            .into();
        let same = theirs == own || {
            let flags = only_flags(&theirs, &own);
            let masked = flags.is_some_and(|differ| self.leaves_undefined(differ));
            self.tally.masked += u64::from(masked);
            masked
        };
        let same_priority = self.follow.priority() == self.io.tpr();
        self.follow.pass();
        if same && differing.is_empty() && tape.is_empty() && same_priority {
            self.settle(&written);
            self.tally.agreed += 1;
            self.tally.checked += point.count;
            if theirs == own {
                self.agreed = target;
            } else {
                self.adopt(target);
            }
        } else {
            let slice = Slice {
                target,
                tape,
                priority,
                written,
                count: Some(point.count),
            };
            self.locate(&slice, None, differing)?;
        }
        match ended {
            Ended::Exit(VcpuExit::Kicked | VcpuExit::Debug(_)) => Ok(Some(self.wanted())),
            Ended::Exit(exit) => Ok(Some(Some(exit))),
            Ended::Refused(bytes) => {
                self.run_refused(bytes)?;
                Ok(Some(self.wanted()))
            }
        }
    }

    /// Whether nothing but instructions comes next.
    fn may_scout(&self) -> bool {
        let state = &self.agreed;
        let mut due = self.io.pending();
        if !state.rflags.contains(RFlags::IF) {
            due -= Pending::INTERRUPT;
        }
        due.is_empty()
            && state.queued.is_none()
            && !state.nmi_pending
            && state.activity == Activity::Running
            && !state.rflags.contains(RFlags::TF)
    }

    /// Runs the follower to the end of the slice.
    fn scout(&mut self, priority: u8) -> Result<Option<Point>, AccelError> {
        let mut trail = Vec::with_capacity(LENGTH + 1);
        trail.push(self.place());
        self.begin_scouting(priority);
        let from = self.follower.retired();
        let waits = self.io.pending().contains(Pending::INTERRUPT);
        // Until an interrupt that waits may be taken, at the latest.
        let closed = |vcpu: &Self| {
            let open = waits && vcpu.follower.cpu().rflags().contains(RFlags::IF);
            !open && vcpu.follow.priority() == priority
        };
        while trail.len() <= LENGTH && closed(self) {
            self.note_step();
            let stop = self.step_follower();
            if self.follow.went_wrong() || stop == Stop::TripleFault {
                break;
            }
            if stop == Stop::Halted || self.follower.cpu().activity() != Activity::Running {
                return Ok(Some(Point {
                    state: self.follower.state().canonical(),
                    stop: None,
                    count: self.follower.retired().wrapping_sub(from),
                }));
            }
            trail.push(self.place());
        }
        let Some((steps, visits)) = end_of(&trail) else {
            return Ok(None);
        };
        let mut from = from;
        if steps + 1 != trail.len() || self.follow.went_wrong() {
            self.back_to_agreed()?;
            self.begin_scouting(priority);
            from = self.follower.retired();
            for _ in 0..steps {
                self.note_step();
                self.step_follower();
            }
        }
        let state = self.follower.state().canonical();
        let Some(physical) = self.follower.code_address() else {
            return Ok(None);
        };
        Ok(Some(Point {
            state,
            stop: Some((physical, visits)),
            count: self.follower.retired().wrapping_sub(from),
        }))
    }

    fn begin_scouting(&mut self, priority: u8) {
        self.follow.replay(Vec::new(), priority);
        self.first = None;
        self.forget_steps();
    }

    fn place(&self) -> Trail {
        let cpu = self.follower.cpu();
        Trail {
            linear: cpu.linear_rip(),
            fit: cpu.cpl() == 0 && cpu.shadow() == Shadow::None,
        }
    }

    /// The follower forgets what it has run.
    fn back_to_agreed(&mut self) -> Result<(), AccelError> {
        let written = self.shared.memory().written(&*self.shared.leader)?;
        if self.shared.memory().revert_follower(&written) {
            self.shared.attention.set(emu::attention::Signals::CODE);
        }
        let agreed = self.agreed.clone();
        self.adopt(agreed);
        Ok(())
    }

    /// Runs the leader to the end of a slice; its state wherever it came to.
    fn run_leader_to(&mut self, point: &Point) -> Result<(Ended, CpuState), AccelError> {
        let Some((physical, visits)) = point.stop else {
            return self.run_leader_patiently();
        };
        let behind = point.state.linear_rip().wrapping_add(1);
        for left in (0..=visits).rev() {
            let byte = self.shared.memory().plant(physical, HLT);
            let ran = self.run_leader_patiently();
            if let Some(byte) = byte {
                self.shared.memory().plant(physical, byte);
            }
            let (ended, mut state) = ran?;
            if state.activity != Activity::Halted || state.linear_rip() != behind {
                return Ok((ended, state));
            }
            state.rip = point.state.rip;
            state.activity = Activity::Running;
            self.leader.set_state(&state)?;
            if left == 0 {
                return Ok((Ended::Exit(VcpuExit::Kicked), state));
            }
            self.leader.set_debug(&step())?;
            let stepped = self.run_leader_patiently();
            self.leader.set_debug(&DebugPoints::default())?;
            let (ended, state) = stepped?;
            if !matches!(ended, Ended::Exit(VcpuExit::Debug(_))) {
                return Ok((ended, state));
            }
        }
        Ok((
            Ended::Exit(VcpuExit::Kicked),
            self.leader.state()?.canonical(),
        ))
    }

    /// Runs the leader until it stops by itself, or for so long that it must be lost.
    fn run_leader_patiently(&mut self) -> Result<(Ended, CpuState), AccelError> {
        for _ in 0..PATIENCE {
            let ended = self.enter_leader()?;
            let kicked = matches!(ended, Ended::Exit(VcpuExit::Kicked));
            if !kicked || !self.lead.is_untouched() {
                return Ok((ended, self.leader.state()?.canonical()));
            }
        }
        Ok((
            Ended::Exit(VcpuExit::Kicked),
            self.leader.state()?.canonical(),
        ))
    }
}

/// Where a slice ends: the number of instructions before it, and how often it was passed before. Of the
/// points in the later half of the trail, or else of all, it is the last of those that were passed least.
fn end_of(trail: &[Trail]) -> Option<(usize, u32)> {
    let mut passed: HashMap<u64, u32> = HashMap::new();
    for place in trail {
        *passed.entry(place.linear).or_default() += 1;
    }
    // Where an instruction repeats itself a HLT may or may not be passed each time.
    let repeats = |pair: &&[Trail]| pair[0].linear == pair[1].linear;
    for pair in trail.windows(2).filter(repeats) {
        passed.insert(pair[0].linear, u32::MAX);
    }
    let times = |n: &usize| passed[&trail[*n].linear];
    let fits = |n: &usize| trail[*n].fit && times(n) <= MOST_VISITS;
    let least = |range: Range<usize>| range.rev().filter(fits).min_by_key(times);
    let middle = trail.len().div_ceil(2);
    let steps = least(middle..trail.len()).or_else(|| least(1..middle))?;
    let before = trail[..steps].iter();
    let visits = before.filter(|place| place.linear == trail[steps].linear);
    Some((steps, visits.count() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(places: &[u64]) -> Vec<Trail> {
        let place = |&linear| Trail { linear, fit: true };
        places.iter().map(place).collect()
    }

    #[test]
    fn a_slice_ends_late_where_it_was_passed_least() {
        assert_eq!(end_of(&trail(&[1, 2, 3])), Some((2, 0)));
        assert_eq!(end_of(&trail(&[1, 2, 3, 1, 2])), Some((4, 1)));
        assert_eq!(end_of(&trail(&[1, 2, 3, 4, 5, 1, 2])), Some((4, 0)));
        assert_eq!(end_of(&trail(&[1])), None);
    }

    #[test]
    fn no_slice_ends_where_an_instruction_repeats_itself() {
        assert_eq!(end_of(&trail(&[1, 2, 3, 3, 3])), Some((1, 0)));
        // Nor where one did before.
        assert_eq!(end_of(&trail(&[1, 3, 3, 4, 3])), Some((3, 0)));
    }

    #[test]
    fn no_slice_ends_in_ring_3_or_where_it_came_by_often() {
        let mut ring3 = trail(&[1, 2, 3]);
        ring3[2].fit = false;
        assert_eq!(end_of(&ring3), Some((1, 0)));
        let mut often = vec![1, 2];
        often.extend([5, 6].repeat(MOST_VISITS as usize + 1));
        assert_eq!(end_of(&trail(&often)), Some((1, 0)));
    }
}
