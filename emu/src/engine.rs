//! The loop: blocks run one after the other; everything else happens between them.

pub mod debugger;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::arch::RFlags;
use iced_x86::{Instruction, Mnemonic};

use crate::arch::cpuid::CpuModel;
use crate::arch::exception::{DB, Exception};
use crate::arch::segment::Seg;
use crate::attention::{Attention, Signals};
use crate::block::{BlockId, Blocks, Jump, Origin, Shape};
use crate::cpu::{Cause, CodeSize, CodeWrite, Cpu, RIP, Raised};
use crate::decode::{DecodeError, Decoded, Insn, MAX_LEN, Step, cut_off, decode, shortened};
use crate::event::Delivered;
use crate::insn::{End, fuse, pair};
use crate::io::{CpuIo, Pending};
use crate::memory::CODE_WRITTEN;
pub use crate::state::Queued;
use crate::state::{Activity, CpuState, Shadow};

pub use debugger::{DebugPoints, WatchKind, Watchpoint};
pub(crate) use debugger::{Debugger, WATCH_HIT};

/// Why [`Engine::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// HLT (or wait-for-SIPI) with nothing pending that ends it.
    Halted,
    /// [`Signals::KICK`], or the deadline of virtual time.
    Kicked,
    /// Shutdown.
    TripleFault,
    /// [`Engine::step`] has run one instruction.
    Stepped,
    /// A debugger's breakpoint at this linear address was reached.
    Breakpoint(u64),
    /// A debugger's watchpoint was hit.
    Watchpoint(Watchpoint),
    /// [`Engine::run_to_ring3`] has come to 64-bit code in ring 3.
    Ring3,
}

/// Looks over the processor's shoulder, for `-d`.
pub trait Observer: Send {
    /// A block was translated from these code bytes.
    fn translated(&mut self, _rip: u64, _bitness: u32, _bytes: &[u8]) {}
    /// The instruction at RIP is about to run. Return false to hear no more of these.
    fn executing(&mut self, _cpu: &Cpu) -> bool {
        false
    }
    /// An exception or interrupt was delivered; the processor stands at its handler.
    fn delivered(&mut self, _event: Delivered, _cpu: &Cpu) {}
}

/// A processor with its blocks: the whole of the software engine.
pub struct Engine {
    cpu: Box<Cpu>,
    blocks: Blocks,
    /// The count of retired instructions at which the loop must look at the clock.
    limit: u64,
    observer: Option<Box<dyn Observer>>,
    /// The observer wants to see each instruction.
    observing: bool,
    /// The user knows that SMIs are lost.
    smi_dropped: bool,
    /// The count of retired instructions from which on 64-bit code in ring 3 stops the run.
    ring3_from: Option<u64>,
    /// The count of retired instructions at which the run stops once.
    stop_at: u64,
}

/// Instructions between two looks at the clock when nothing asks for one earlier.
const QUANTUM: u64 = 1 << 20;
/// The most instructions in a block.
const MOST_INSNS: usize = 64;

impl Engine {
    /// A processor in its reset state.
    pub fn new(model: Arc<CpuModel>, io: Arc<dyn CpuIo>, attention: Arc<Attention>) -> Self {
        let cpu = Box::new(Cpu::new(model, io, attention));
        Self {
            cpu,
            blocks: Blocks::default(),
            limit: 0,
            observer: None,
            observing: false,
            smi_dropped: false,
            ring3_from: None,
            stop_at: u64::MAX,
        }
    }

    /// The whole architectural state.
    pub fn state(&self) -> CpuState {
        self.cpu.state()
    }

    /// Replaces the whole architectural state.
    pub fn set_state(&mut self, state: &CpuState) {
        self.cpu.set_state(state);
    }

    /// The processor, to look at.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Delivers an event that another engine had accepted.
    pub fn deliver(&mut self, event: Queued) {
        self.cpu.activity = Activity::Running;
        self.cpu.take_queued(event);
        self.after_delivery();
    }

    /// As [`Engine::run`], but stops in 64-bit code at CPL 3 once `from` instructions have retired
    /// ([`Engine::retired`]); at the latest at the next look for events there.
    pub fn run_to_ring3(&mut self, from: u64) -> Stop {
        self.ring3_from = Some(from);
        self.cpu.recheck_events();
        let stop = self.run();
        self.ring3_from = None;
        stop
    }

    /// iced's name of the encoding of the instruction at RIP, if it can be fetched from memory.
    pub fn encoding_at_rip(&mut self) -> Option<String> {
        self.cpu.memory = self.cpu.attention.memory_map();
        let physical = self.cpu.code_address(self.cpu.linear_rip()).ok()?;
        if self.cpu.code_bytes(physical).device {
            return None;
        }
        self.decode_one()
            .ok()
            .map(|insn| format!("{:?}", insn.code()))
    }

    /// What lies at RIP, as far as it is memory: up to the length of the longest instruction.
    pub fn bytes_at_rip(&mut self) -> Vec<u8> {
        self.code_at(self.cpu.linear_rip())
    }

    /// The same for code at a linear address.
    pub fn code_at(&mut self, mut linear: u64) -> Vec<u8> {
        self.cpu.memory = self.cpu.attention.memory_map();
        let mut bytes = Vec::new();
        while bytes.len() < MAX_LEN {
            let Ok(physical) = self.cpu.code_address(linear) else {
                break;
            };
            if self.cpu.memory.find(physical).is_none() {
                break;
            }
            let code = self.cpu.code_bytes(physical);
            bytes.extend_from_slice(code.as_slice());
            linear = self.cpu.next_page(linear);
        }
        bytes.truncate(MAX_LEN);
        bytes
    }

    /// The guest physical address of the code at RIP, if the page tables let it be fetched.
    pub fn code_address(&mut self) -> Option<u64> {
        self.cpu.memory = self.cpu.attention.memory_map();
        self.cpu.code_address(self.cpu.linear_rip()).ok()
    }

    /// Sets what the time-stamp counter reads now.
    pub fn set_tsc(&mut self, value: u64) {
        self.cpu.tsc_offset = value.wrapping_sub(self.cpu.io.tsc());
    }

    /// Puts an observer over the processor's shoulder.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
        self.observing = true;
        self.blocks.clear();
        self.cpu.attention.set(Signals::STEP);
    }

    /// Instructions retired since the processor was built.
    pub fn retired(&self) -> u64 {
        self.cpu.retired
    }

    /// Makes [`Engine::run`] return [`Stop::Kicked`], once, when `count` more instructions have retired.
    pub fn stop_after(&mut self, count: u64) {
        self.stop_at = self.cpu.retired.saturating_add(count);
        self.limit = self.limit.min(self.stop_at);
    }

    /// Runs until something must be decided outside.
    pub fn run(&mut self) -> Stop {
        if self.cpu.activity != Activity::Running {
            // Nothing runs before an event has ended that.
            self.cpu.events_possible = true;
            self.cpu.recheck_events();
        }
        if self.cpu.debugger.has_work()
            && let Some(stop) = self.run_for_debugger()
        {
            return stop;
        }
        let mut ended = None;
        loop {
            if self.cpu.attention.any() || self.cpu.retired >= self.limit {
                ended = None;
                if let Some(stop) = self.attend() {
                    return stop;
                }
                if self.steps() {
                    if !self.meets_breakpoint() {
                        self.step_one();
                    }
                    continue;
                }
            }
            if let Some(id) = self.next_block(ended.take()) {
                ended = self.run_linked(id.index);
            }
        }
    }

    /// Runs the block at a place and those linked with it, until there is something to attend to
    /// or a link is missing: then returns the block that has ended, to be linked with what follows,
    /// and the RIP it began at.
    #[inline(always)]
    fn run_linked(&mut self, mut index: u32) -> Option<(BlockId, u64)> {
        loop {
            let block = self.blocks.at(index);
            let count = block.insns.len();
            if self.cpu.retired + count as u64 > self.limit {
                self.run_part(index);
                return None;
            }
            let rip = self.cpu.regs[RIP];
            if self.cpu.run_insns(&block.insns).is_err() {
                self.stopped_at(index, count - self.cpu.left);
                return None;
            }
            self.cpu.retired += (count - self.cpu.left) as u64;
            if self.cpu.left != 0 {
                self.cpu.left = 0;
            } else if let Some(last) = block.insns.last()
                && !last.has(Insn::BRANCHES)
            {
                self.cpu.regs[RIP] = self.cpu.next_rip(last);
            }
            let delta = self.cpu.regs[RIP].wrapping_sub(rip);
            let linear = || self.cpu.linear_rip_at(rip);
            match self.blocks.linked(block, delta, linear) {
                Some(next) => index = next,
                None => return Some((self.blocks.id(index), rip)),
            }
            if self.cpu.attention.any() {
                return None;
            }
        }
    }

    /// Runs one instruction (and delivers what it raises, or what was pending before it).
    pub fn step(&mut self) -> Stop {
        if let Some(stop) = self.attend() {
            return stop;
        }
        self.step_one();
        match self.cpu.activity {
            Activity::Shutdown => Stop::TripleFault,
            _ => Stop::Stepped,
        }
    }

    /// The block at RIP: by the jump cache, or by translation; `ended` is linked with it. `None`: a
    /// fault was delivered, or one instruction was run on its own.
    #[inline(always)]
    fn next_block(&mut self, ended: Option<(BlockId, u64)>) -> Option<BlockId> {
        let linear = self.cpu.linear_rip();
        let id = match self.blocks.jump(linear, self.cpu.mode) {
            Jump::To(id) => id,
            Jump::Stale(id) => self.refreshed(linear, id)?,
            Jump::Unknown => self.find_block(linear)?,
        };
        if self.cpu.code_limit_checked() && !self.inside_limit(id) {
            self.step_one();
            return None;
        }
        if let Some((from, rip)) = ended {
            self.link(from, rip, id);
        }
        Some(id)
    }

    #[cold]
    fn inside_limit(&self, id: BlockId) -> bool {
        let last = self.cpu.regs[RIP] + u64::from(self.blocks.origin(id).shape.len) - 1;
        last <= u64::from(self.cpu.segment(Seg::Cs).limit)
    }

    /// Links two blocks. With a CS limit to check, blocks stay unlinked, so that every entry is
    /// checked.
    fn link(&mut self, from: BlockId, from_rip: u64, to: BlockId) {
        if !self.cpu.code_limit_checked() {
            let delta = self.cpu.regs[RIP].wrapping_sub(from_rip);
            let linear = self.cpu.linear_rip_at(from_rip);
            let global = self.leads_to_global(self.cpu.linear_rip(), to);
            self.blocks.link(from, linear, delta, to, global);
        }
    }

    /// The block a jump led to before translations changed, if it still leads there.
    fn refreshed(&mut self, linear: u64, id: BlockId) -> Option<BlockId> {
        let Origin {
            physical, second, ..
        } = *self.blocks.origin(id);
        if second.is_some() || self.cpu.cached_code(linear) != Some(physical) {
            return self.find_block(linear);
        }
        self.remember(linear, id);
        Some(id)
    }

    /// Remembers that a jump to `linear` leads to a block.
    fn remember(&mut self, linear: u64, id: BlockId) {
        let global = self.leads_to_global(linear, id);
        self.blocks.set_jump(linear, self.cpu.mode, id, global);
    }

    /// Whether a block at `linear` lies in global pages.
    fn leads_to_global(&self, linear: u64, id: BlockId) -> bool {
        let crosses = self.blocks.origin(id).second.is_some();
        self.cpu.code_is_global(linear)
            && (!crosses || self.cpu.code_is_global(self.cpu.next_page(linear)))
    }

    #[inline(never)]
    fn find_block(&mut self, linear: u64) -> Option<BlockId> {
        if self.cpu.debugger.parts_blocks_at(linear) {
            if !self.meets_breakpoint() {
                self.step_one();
            }
            return None;
        }
        let mode = self.cpu.mode;
        let physical = match self.cpu.code_address(linear) {
            Ok(found) => found,
            Err(Raised) => {
                self.raised();
                return None;
            }
        };
        let found = self
            .blocks
            .find(physical, mode)
            .filter(|&id| self.still_crosses(linear, id))
            .or_else(|| self.new_block(linear, physical));
        let Some(id) = found else {
            self.step_one();
            return None;
        };
        self.remember(linear, id);
        Some(id)
    }

    /// Whether a block that goes on in a second page still does so in the same one; drops it if not.
    fn still_crosses(&mut self, linear: u64, id: BlockId) -> bool {
        let Some(second) = self.blocks.origin(id).second else {
            return true;
        };
        let now = self.cpu.code_address(self.cpu.next_page(linear));
        let same = now.is_ok_and(|physical| physical >> 12 == second);
        if !same {
            self.blocks.drop_crossing(id);
        }
        same
    }

    /// Makes the block at an address; `None` if its first instruction must be run alone: it lies in
    /// a device, or is not whole or valid.
    fn new_block(&mut self, linear: u64, physical: u64) -> Option<BlockId> {
        let code = self.cpu.code_bytes(physical);
        if code.device {
            return None;
        }
        let bytes = code.as_slice();
        let (second, (insns, shape)) = match self.translate(bytes, MOST_INSNS) {
            Some(whole) => (None, whole),
            None if self.is_cut_off(bytes) => {
                let second = self.cpu.code_address(self.cpu.next_page(linear)).ok()?;
                let rest = self.cpu.code_bytes(second);
                if rest.device {
                    return None;
                }
                let mut both = [0; 2 * MAX_LEN];
                both[..bytes.len()].copy_from_slice(bytes);
                both[bytes.len()..][..MAX_LEN].copy_from_slice(&rest.as_slice()[..MAX_LEN]);
                let crossing = self.translate(&both[..bytes.len() + MAX_LEN], 1)?;
                (Some(second >> 12), crossing)
            }
            None => return None,
        };
        let origin = Origin {
            physical,
            second,
            mode: self.cpu.mode,
            shape,
        };
        for page in origin.pages() {
            self.cpu.hold_code(page << 12, origin.granules_in(page));
        }
        Some(self.blocks.insert(insns, origin))
    }

    /// Whether `bytes`, which end with the page, end before the instruction does.
    fn is_cut_off(&self, bytes: &[u8]) -> bool {
        let decoded = decode(&self.cpu.model, self.cpu.mode, bytes, 0);
        bytes.len() < MAX_LEN && matches!(decoded, Err(DecodeError::MoreBytes))
    }

    /// Decodes a block of up to `most` instructions from `bytes`, which end with the page; `None` if
    /// not even one is whole or valid.
    fn translate(&mut self, bytes: &[u8], most: usize) -> Option<(Vec<Insn>, Shape)> {
        let mut insns: Vec<Insn> = Vec::new();
        let mut before = None;
        let mut offset = 0;
        let mut shape = Shape {
            len: 0,
            linkable: true,
        };
        let start = self.cpu.linear_rip();
        while insns.len() < most {
            if self
                .cpu
                .debugger
                .parts_blocks_at(start.wrapping_add(offset.into()))
            {
                break;
            }
            let rest = &bytes[usize::from(offset)..];
            let Ok((mut decoded, iced)) = decode(&self.cpu.model, self.cpu.mode, rest, offset)
            else {
                break;
            };
            offset = decoded.insn.next;
            shape.len = shape.len.max(offset);
            let back = branch_back(&decoded, &iced, shape.len);
            if let Some((_, step)) = back {
                decoded.insn.step = step;
            }
            if let (Some(first), Some(last)) = (&before, insns.last_mut())
                && let Some(step) =
                    fuse::fuse(first, &iced, back.is_some()).or_else(|| pair::pair(first, &iced))
            {
                last.step = step;
            }
            insns.push(decoded.insn);
            before = Some(iced);
            match (decoded.end, back) {
                (_, Some((to, _))) => offset = to,
                (End::No | End::Maybe, None) => {}
                (End::Yes | End::Branch, None) => {
                    shape.linkable = stays_in_mode(&iced);
                    break;
                }
            }
        }
        if insns.is_empty() {
            return None;
        }
        if let Some(observer) = &mut self.observer {
            let bytes = &bytes[..usize::from(shape.len)];
            observer.translated(self.cpu.linear_rip(), self.cpu.bitness(), bytes);
        }
        Some((insns, shape))
    }

    /// Runs the instructions of a block that are left until the limit.
    #[cold]
    fn run_part(&mut self, index: u32) {
        let count = self.limit.saturating_sub(self.cpu.retired) as usize;
        let block = self.blocks.at(index);
        let insns = &block.insns[..count.min(block.insns.len())];
        let Some(last) = insns.last() else { return };
        if self.cpu.run_insns(insns).is_err() {
            let at = insns.len() - self.cpu.left;
            return self.stopped_at(index, at);
        }
        self.cpu.retired += (insns.len() - self.cpu.left) as u64;
        if std::mem::take(&mut self.cpu.left) == 0 && !last.has(Insn::BRANCHES) {
            self.cpu.regs[RIP] = self.cpu.next_rip(last);
        }
    }

    /// Instruction `at` of a block raised: everything before it has retired.
    #[cold]
    fn stopped_at(&mut self, index: u32, at: usize) {
        let insn = self.blocks.at(index).insns[at];
        self.cpu.left = 0;
        self.cpu.retired += at as u64;
        match self.cpu.cause {
            Cause::Retry => self.run_again(&insn),
            Cause::Fault(_) => {
                self.cpu.regs[RIP] = self.cpu.this_rip(&insn);
                self.raised();
            }
        }
    }

    /// Delivers the fault that lies in the CPU; RIP stands at the instruction that raised it.
    #[cold]
    fn raised(&mut self) {
        if let Cause::Fault(exception) = self.cpu.cause {
            self.cpu.take_exception(exception);
        }
        // A fault takes time too, or a guest that faults for ever would stop virtual time.
        self.retire_one();
        self.after_delivery();
    }

    fn after_delivery(&mut self) {
        self.cpu.recheck_events();
        self.tell_delivered();
        self.drop_written();
    }

    /// Tells the observer of the last delivery, which for a software interrupt was an instruction.
    fn tell_delivered(&mut self) {
        if let (Some(event), Some(observer)) = (self.cpu.delivered.take(), &mut self.observer) {
            observer.delivered(event, &self.cpu);
        }
    }

    fn retire_one(&mut self) {
        self.cpu.retired += 1;
    }

    /// Runs the instruction at RIP on its own: precise in I/O, code writes, traps and time.
    #[cold]
    fn step_one(&mut self) {
        if self.observing
            && let Some(observer) = &mut self.observer
        {
            self.observing = observer.executing(&self.cpu);
        }
        if self.cpu.instruction_breakpoint() {
            self.cpu.take_exception(Exception::new(DB));
            // As any fault: a breakpoint on its own handler must not stop time.
            self.retire_one();
            return self.after_delivery();
        }
        self.begin_alone();
        let result = self.decode_one().and_then(|insn| self.run_one(&insn));
        self.end_alone(result);
    }

    /// Runs an instruction of a block, at the start of which RIP stands, on its own.
    fn run_again(&mut self, insn: &Insn) {
        self.begin_alone();
        let result = self.run_one(insn);
        // A task switch that failed behind its point of no return left the new task's RIP.
        if result.is_err() && !self.cpu.task_switched {
            self.cpu.regs[RIP] = self.cpu.this_rip(insn);
        }
        self.end_alone(result);
    }

    fn begin_alone(&mut self) {
        self.publish_time();
        self.cpu.shadow = Shadow::None;
        self.cpu.task_switched = false;
        self.cpu.single_step = self.cpu.system_flags.contains(RFlags::TF);
        self.cpu.alone = true;
    }

    fn run_one(&mut self, insn: &Insn) -> Result<(), Raised> {
        self.cpu.run_insns(std::slice::from_ref(insn))?;
        if !insn.has(Insn::BRANCHES) {
            self.cpu.regs[RIP] = self.cpu.next_rip(insn);
        }
        Ok(())
    }

    fn end_alone(&mut self, result: Result<(), Raised>) {
        self.cpu.alone = false;
        self.cpu.left = 0;
        match result {
            Err(Raised) => {
                self.cpu.debug_hits = 0;
                self.cpu.debugger.forget_hit();
                self.raised();
            }
            Ok(()) => {
                self.retire_one();
                self.drop_written();
                self.cpu.end_resume_flag();
                // MOV SS holds debug traps back for one instruction more.
                if self.cpu.shadow != Shadow::MovSs {
                    let single_step = self.cpu.single_step;
                    self.debug_trap(single_step);
                }
            }
        }
        // What the board had to say about the instruction, it has signalled.
        if self.steps() || self.cpu.attention.virtual_time().is_some() {
            self.cpu.recheck_events();
        }
    }

    /// Delivers the #DB traps an instruction has earned: single-step, data breakpoints, task switch.
    fn debug_trap(&mut self, single_step: bool) {
        let hits = std::mem::take(&mut self.cpu.debug_hits) & !WATCH_HIT;
        let hits = hits | u64::from(single_step) << 14;
        if hits != 0 {
            self.cpu.dr6 |= hits;
            self.cpu.take_exception(Exception::new(DB));
            self.after_delivery();
        }
    }

    /// Fetches and decodes the instruction at RIP, which may span two pages or lie in a device.
    fn decode_one(&mut self) -> Result<Insn, Raised> {
        let rip = self.cpu.regs[RIP];
        let mut bytes = [0u8; MAX_LEN];
        let mut have = 0;
        let mut fault = None;
        // CS's limit cuts the bytes off; what lies behind it is #GP(0).
        let limit = if self.cpu.code_limit_checked() {
            (u64::from(self.cpu.segment(Seg::Cs).limit) + 1)
                .saturating_sub(rip)
                .min(MAX_LEN as u64) as usize
        } else {
            MAX_LEN
        };
        while have < limit {
            let linear = self.cpu.linear_rip_at(rip.wrapping_add(have as u64));
            match self.cpu.code_address(linear) {
                Ok(physical) => {
                    let code = self.cpu.code_bytes(physical);
                    let part = code.as_slice();
                    let take = part.len().min(limit - have);
                    bytes[have..have + take].copy_from_slice(&part[..take]);
                    have += take;
                }
                Err(Raised) => {
                    fault = Some(self.cpu.cause);
                    break;
                }
            }
            if have >= limit || decode(&self.cpu.model, self.cpu.mode, &bytes[..have], 0).is_ok() {
                break;
            }
        }
        let (model, mode) = (&self.cpu.model, self.cpu.mode);
        let error = match decode(model, mode, &bytes[..have], 0) {
            Ok((decoded, _)) => return Ok(decoded.insn),
            Err(_) if have < MAX_LEN => cut_off(model, mode, &bytes[..have]),
            Err(DecodeError::TooLong) => shortened(mode.code.bits(), &bytes)
                .map_or(DecodeError::TooLong, |rest| cut_off(model, mode, &rest)),
            Err(error) => error,
        };
        match (error, fault) {
            (DecodeError::Invalid, _) => self.cpu.ud(),
            (DecodeError::MoreBytes, Some(cause)) => {
                self.cpu.cause = cause;
                Err(Raised)
            }
            (DecodeError::MoreBytes | DecodeError::TooLong, _) => self.cpu.gp(0),
        }
    }

    /// Drops the blocks that the instruction just finished wrote over.
    fn drop_written(&mut self) {
        while let Some(write) = self.cpu.code_writes.pop() {
            let granules = self.blocks.drop_written(write);
            self.cpu.code_left(write.address >> 12, granules);
        }
    }

    /// Whether each instruction must be run on its own for now.
    fn steps(&self) -> bool {
        self.observing
            || self.cpu.shadow != Shadow::None
            || self.cpu.system_flags.intersects(RFlags::TF | RFlags::RF)
            || self.cpu.instruction_breakpoints_armed()
    }

    /// Looks at all that may have happened, in the order of SDM Vol. 3A, "Priority Among
    /// Concurrent Events".
    #[cold]
    fn attend(&mut self) -> Option<Stop> {
        if let Some(stop) = self.cpu.debugger.take_found() {
            return Some(stop);
        }
        self.tell_delivered();
        let signals = self.cpu.attention.take();
        self.cpu.events_possible |= signals.contains(Signals::EVENT);
        if signals.contains(Signals::MAP) {
            self.cpu.memory = self.cpu.attention.memory_map();
            self.cpu.flush_tlb();
            self.cpu.code_pages.clear();
            self.blocks.clear();
        }
        if signals.contains(Signals::DIRTY) {
            self.cpu.flush_tlb();
        }
        if signals.contains(Signals::CODE) {
            self.drop_device_writes();
        }
        self.blocks
            .forget_jumps(std::mem::take(&mut self.cpu.forget_jumps));
        if self.cpu.activity == Activity::Shutdown {
            return Some(Stop::TripleFault);
        }
        self.set_limit();
        if let Some(queued) = self.cpu.queued.take() {
            self.deliver(queued);
        }
        if !self.cpu.debugger.holds_events {
            self.take_events();
        }
        if self.steps() {
            self.cpu.attention.set_own(Signals::STEP);
        }
        if signals.contains(Signals::KICK) || self.cpu.retired >= self.limit {
            return Some(Stop::Kicked);
        }
        match self.cpu.activity {
            Activity::Running if self.at_ring3() => Some(Stop::Ring3),
            // An event's delivery may have hit a watchpoint.
            Activity::Running => self.cpu.debugger.take_found(),
            Activity::Shutdown => Some(Stop::TripleFault),
            Activity::Halted | Activity::WaitForSipi => {
                self.publish_time();
                Some(Stop::Halted)
            }
        }
    }

    fn at_ring3(&self) -> bool {
        self.ring3_from.is_some_and(|from| self.cpu.retired >= from)
            && self.cpu.cpl == 3
            && self.cpu.mode.code == CodeSize::Bits64
    }

    /// Takes INIT, SMI, NMI and interrupts where the processor's state lets them in.
    fn take_events(&mut self) {
        if !self.cpu.events_possible {
            return;
        }
        let mut pending = self.cpu.io.pending();
        if self.cpu.nmi_pending {
            pending |= Pending::NMI;
        }
        if pending.is_empty() {
            self.cpu.events_possible = false;
            return;
        }
        if pending.contains(Pending::SMI) {
            self.drop_smi();
        }
        if pending.contains(Pending::INIT) {
            self.cpu.io.take(Pending::INIT);
            self.cpu.init();
        }
        if pending.contains(Pending::SIPI) && self.cpu.activity == Activity::WaitForSipi {
            let vector = self.cpu.io.take(Pending::SIPI);
            self.cpu.start_up(vector);
        }
        let open = self.cpu.shadow == Shadow::None;
        if !matches!(self.cpu.activity, Activity::Running | Activity::Halted) {
            return;
        }
        if pending.contains(Pending::NMI) && open && !self.cpu.nmi_masked {
            if !std::mem::take(&mut self.cpu.nmi_pending) {
                self.cpu.io.take(Pending::NMI);
            }
            self.cpu.activity = Activity::Running;
            self.cpu.take_nmi();
            self.after_delivery();
        } else if pending.contains(Pending::INTERRUPT)
            && open
            && self.cpu.system_flags.contains(RFlags::IF)
            && let Some(vector) = self.cpu.io.ack_interrupt()
        {
            self.cpu.activity = Activity::Running;
            self.cpu.take_interrupt(vector);
            self.after_delivery();
        }
    }

    /// System management mode is not modelled: the interrupt is lost, and the user told once.
    #[cold]
    fn drop_smi(&mut self) {
        self.cpu.io.take(Pending::SMI);
        if !std::mem::replace(&mut self.smi_dropped, true) {
            tracing::warn!(target: "cpu", "an SMI was lost: system management mode is not modelled");
        }
    }

    /// A device wrote to pages that hold code: all blocks of those pages go.
    fn drop_device_writes(&mut self) {
        let pages: Vec<u64> = self.cpu.code_pages.keys().copied().collect();
        for page in pages {
            let Some(range) = self.cpu.memory.find(page << 12) else {
                continue;
            };
            let at = (range.offset + ((page << 12) - range.start)) >> 12;
            let mark = &range.block.marks[at as usize];
            if mark.fetch_and(!CODE_WRITTEN, Ordering::AcqRel) & CODE_WRITTEN != 0 {
                self.blocks.drop_written(CodeWrite {
                    address: page << 12,
                    len: 4096,
                });
                self.cpu.code_left(page, 0);
            }
        }
    }

    /// Sets the limit from the deadline of virtual time, or a quantum away, and [`Engine::stop_after`].
    fn set_limit(&mut self) {
        let quantum = self.cpu.retired + QUANTUM;
        self.limit = match self.cpu.attention.virtual_time() {
            Some(time) => time.deadline.load(Ordering::Acquire).min(quantum),
            None => quantum,
        };
        self.limit = self.limit.min(self.stop_at);
        if self.cpu.retired >= self.stop_at {
            self.stop_at = u64::MAX;
        }
        self.publish_time();
    }

    fn publish_time(&self) {
        if let Some(time) = self.cpu.attention.virtual_time() {
            time.retired.store(self.cpu.retired, Ordering::Release);
        }
    }
}

/// Whether a branch that ends a block changes nothing but RIP and the stack.
fn stays_in_mode(branch: &Instruction) -> bool {
    branch.is_jmp_short_or_near()
        || branch.is_jmp_near_indirect()
        || branch.is_call_near()
        || branch.is_call_near_indirect()
        || branch.mnemonic() == Mnemonic::Ret
}

/// Where in its own block of `len` bytes a branch leads, and the step that goes on there.
fn branch_back(decoded: &Decoded, iced: &Instruction, len: u16) -> Option<(u16, Step)> {
    let to = u16::try_from(decoded.insn.disp)
        .ok()
        .filter(|&to| to < len)?;
    if !matches!(decoded.end, End::Maybe | End::Branch) {
        return None;
    }
    Some((to, fuse::back(iced)?))
}

impl Cpu {
    /// Runs instructions of a block one after the other.
    #[inline(always)]
    fn run_insns(&mut self, insns: &[Insn]) -> Result<(), Raised> {
        match insns {
            [insn, left @ ..] => (insn.step)(self, insn, left),
            [] => Ok(()),
        }
    }

    /// Linear address of RIP.
    pub fn linear_rip(&self) -> u64 {
        self.linear_rip_at(self.regs[RIP])
    }

    /// The linear address of the page after that of `linear`.
    fn next_page(&self, linear: u64) -> u64 {
        ((linear | 0xFFF) + 1) & self.linear_mask
    }

    fn linear_rip_at(&self, rip: u64) -> u64 {
        self.base(Seg::Cs as usize).wrapping_add(rip) & self.linear_mask
    }

    /// 16, 32 or 64: the code segment's default size.
    pub fn bitness(&self) -> u32 {
        self.mode.code.bits()
    }

    /// Whether CS has a limit that instruction fetch can meet.
    #[inline(always)]
    fn code_limit_checked(&self) -> bool {
        self.mode.code != CodeSize::Bits64 && self.segments[Seg::Cs as usize].limit != u32::MAX
    }

    /// Whether an instruction breakpoint stands at RIP; sets DR6 if so.
    fn instruction_breakpoint(&mut self) -> bool {
        if !self.instruction_breakpoints_armed() || self.system_flags.contains(RFlags::RF) {
            return false;
        }
        let hits = self.breakpoints_at(self.linear_rip());
        self.dr6 |= hits;
        hits != 0
    }

    /// RF is cleared by every instruction that completes.
    fn end_resume_flag(&mut self) {
        if self.system_flags.contains(RFlags::RF) && !std::mem::take(&mut self.keep_resume_flag) {
            self.system_flags -= RFlags::RF;
        }
    }
}
