//! What a debugger outside the guest stops a processor at: single steps, instruction addresses,
//! accesses to memory. Guest memory is never patched, and the guest's own debug registers are not used.
//!
//! Nothing of this costs anything while no point is set. A block ends before an instruction at a
//! breakpoint's offset in its page, and none begins there, so that such an instruction is always met
//! in the loop's cold part (`Engine::find_block`). Pages with a watchpoint
//! stay out of the TLB, as those with a data breakpoint of the guest's do (`debug.rs`).
//!
//! - A breakpoint stops before its instruction, which has the lowest priority there: interrupts that
//!   are pending are delivered first. At the address where the guest goes on after
//!   [`Engine::set_debug`], the first execution passes, all iterations of a repeated instruction included.
//! - A watchpoint stops behind the instruction that touched it, or at the first instruction of a
//!   handler whose delivery did; a repeated instruction stops behind the iteration. A read that is
//!   part of a read-modify-write counts as a write. Instruction fetch, page walks, and devices that
//!   reach memory by themselves are not watched.
//! - A step is one instruction, one iteration of a repeated one, as with TF; unlike with TF, MOV SS
//!   is a step too, and neither RFLAGS nor DR6 show it. A fault, or INT n, ends at its handler's first
//!   instruction. Interrupts, NMI and INIT wait during a step, as their handler is not what is
//!   looked at; but a halted processor waits for them, and then stands at the handler.

use crate::cpu::Cpu;
use crate::decode::Insn;
use crate::mem::Access;
use crate::state::Activity;

use super::{Engine, Stop};

/// What a debugger wants a processor to stop at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugPoints {
    /// Stop after one instruction.
    pub step: bool,
    /// Stop before the instructions at these linear addresses.
    pub breakpoints: Vec<u64>,
    /// Stop after accesses to memory.
    pub watchpoints: Vec<Watchpoint>,
}

/// Memory whose accesses stop a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// The first linear address.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Which accesses count.
    pub kind: WatchKind,
}

/// Which accesses a watchpoint stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Writes.
    Write,
    /// Reads.
    Read,
    /// Both.
    Access,
}

impl Watchpoint {
    fn overlaps(&self, address: u64, len: u64) -> bool {
        let last = |start: u64, len: u64| start.saturating_add(len.max(1) - 1);
        self.address <= last(address, len) && address <= last(self.address, self.len)
    }

    fn wants(&self, access: Access) -> bool {
        match self.kind {
            WatchKind::Write => access == Access::Write,
            WatchKind::Read => access == Access::Read,
            WatchKind::Access => true,
        }
    }
}

/// In `Cpu::debug_hits` beside the bits of DR6: a watchpoint was hit, so that a repeated instruction
/// ends with this iteration.
pub(crate) const WATCH_HIT: u64 = 1 << 63;

/// Bits of a linear address that are the same in the physical one.
const IN_PAGE: u64 = 0xFFF;

/// A processor's debugger.
#[derive(Default)]
pub(crate) struct Debugger {
    points: DebugPoints,
    /// The breakpoints that blocks were made with.
    in_blocks: Vec<u64>,
    /// They may be others now.
    changed: bool,
    /// Where the guest goes on, past the breakpoint there.
    passing: Option<u64>,
    /// Events wait: an instruction is run for the debugger.
    pub(crate) holds_events: bool,
    /// Repeated instructions end after one iteration.
    pub(crate) one_iteration: bool,
    /// Why the loop must stop at this instruction boundary.
    found: Option<Stop>,
}

impl Debugger {
    /// Whether a block must not hold an instruction at this linear address: there is a breakpoint
    /// there, or at an address that may be mapped to the same memory.
    #[inline]
    pub(crate) fn parts_blocks_at(&self, linear: u64) -> bool {
        let same = |breakpoint: &u64| breakpoint & IN_PAGE == linear & IN_PAGE;
        self.points.breakpoints.iter().any(same)
    }

    fn breaks_at(&self, linear: u64) -> bool {
        self.points.breakpoints.contains(&linear)
    }

    /// Whether anything is to be done before the loop.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.points.step || self.changed || self.passing.is_some()
    }

    /// Forgets what the present instruction hit: it faulted, and will be run again.
    pub(crate) fn forget_hit(&mut self) {
        self.found = None;
    }

    pub(crate) fn take_found(&mut self) -> Option<Stop> {
        self.found.take()
    }

    /// Whether any watchpoint is set.
    #[inline]
    pub(crate) fn watches(&self) -> bool {
        !self.points.watchpoints.is_empty()
    }
}

impl Cpu {
    /// The watchpoint that an access hits, and whether its page has any.
    pub(crate) fn watchpoint_at(
        &self,
        linear: u64,
        len: usize,
        access: Access,
    ) -> (Option<Watchpoint>, bool) {
        let all = &self.debugger.points.watchpoints;
        let near = all.iter().any(|w| w.overlaps(linear & !IN_PAGE, 4096));
        let hit = |w: &&Watchpoint| w.wants(access) && w.overlaps(linear, len as u64);
        (all.iter().find(hit).copied(), near)
    }

    /// Notes a watchpoint that was hit; the loop stops at the next instruction boundary.
    pub(crate) fn hit_watchpoint(&mut self, watchpoint: Watchpoint) {
        self.debugger.found = Some(Stop::Watchpoint(watchpoint));
        self.debug_hits |= WATCH_HIT;
        self.recheck_events();
    }
}

impl Engine {
    /// Sets what to stop at, in place of what was set before. To be called last before the guest
    /// goes on: a breakpoint where it stands now is passed once.
    pub fn set_debug(&mut self, points: &DebugPoints) {
        let debugger = &mut self.cpu.debugger;
        let watches = debugger.points.watchpoints != points.watchpoints;
        debugger.points = points.clone();
        debugger.found = None;
        debugger.changed = true;
        if watches {
            self.cpu.flush_tlb();
        }
        let here = self.cpu.linear_rip();
        let debugger = &mut self.cpu.debugger;
        debugger.passing = debugger.breaks_at(here).then_some(here);
    }

    /// The part of a run that the debugger wants: a step, or the way past a breakpoint. `None`: the
    /// guest runs on.
    #[cold]
    pub(super) fn run_for_debugger(&mut self) -> Option<Stop> {
        if self.cpu.debugger.points.step {
            // This runs no block: they outlive a step past a breakpoint that was lifted for it.
            return Some(self.debug_step());
        }
        let debugger = &mut self.cpu.debugger;
        debugger.changed = false;
        if debugger.in_blocks != debugger.points.breakpoints {
            debugger.in_blocks.clone_from(&debugger.points.breakpoints);
            self.blocks.clear();
        }
        let at = self.cpu.debugger.passing?;
        while self.cpu.linear_rip() == at && self.cpu.activity == Activity::Running {
            let again = self.repeats_here();
            if let Some(stop) = self.alone_for_debugger() {
                return Some(stop);
            }
            if let Some(stop) = self.cpu.debugger.take_found() {
                self.cpu.debugger.passing = None;
                return Some(stop);
            }
            if !again {
                break;
            }
        }
        self.cpu.debugger.passing = None;
        None
    }

    fn debug_step(&mut self) -> Stop {
        if self.cpu.activity != Activity::Running {
            // What ends the halt is an event, which stands for the step.
            return self.attend().unwrap_or(Stop::Stepped);
        }
        self.cpu.debugger.one_iteration = true;
        let stop = self.alone_for_debugger();
        self.cpu.debugger.one_iteration = false;
        let found = self.cpu.debugger.take_found();
        match self.cpu.activity {
            Activity::Shutdown => Stop::TripleFault,
            _ => stop.or(found).unwrap_or(Stop::Stepped),
        }
    }

    /// Runs one instruction without letting events in, unless something must be decided before.
    fn alone_for_debugger(&mut self) -> Option<Stop> {
        self.cpu.debugger.holds_events = true;
        let stop = self.attend();
        if stop.is_none() {
            self.step_one();
        }
        self.cpu.debugger.holds_events = false;
        self.cpu.recheck_events();
        stop
    }

    /// Whether the instruction at RIP is a repeated one.
    fn repeats_here(&mut self) -> bool {
        let insn = self.decode_one();
        insn.is_ok_and(|insn| insn.has(Insn::REP) || insn.has(Insn::REPNE))
    }

    /// Before an instruction that no block holds: whether a breakpoint stands there. The loop then
    /// stops.
    #[cold]
    pub(super) fn meets_breakpoint(&mut self) -> bool {
        let linear = self.cpu.linear_rip();
        let met = self.cpu.debugger.breaks_at(linear);
        if met {
            self.cpu.debugger.found = Some(Stop::Breakpoint(linear));
            self.cpu.recheck_events();
        }
        met
    }
}

#[cfg(test)]
mod tests;
