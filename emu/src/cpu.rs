//! The processor: registers, TLB, its view of the board. Rules see the [`Cpu`] and nothing else.

use std::sync::Arc;

use crate::arch::cpuid::CpuModel;
use crate::arch::segment::{Seg, Segment, TableRegister};
use crate::arch::{Cr0, Cr4, Efer, Exception, RFlags, exception};
use crate::attention::{Attention, Signals};
use crate::decode::Insn;
use crate::engine::Debugger;
use crate::flags::Flags;
use crate::io::CpuIo;
use crate::map::Map;
use crate::mem::tlb::{Privilege, Tlb};
use crate::memory::MemoryMap;
use crate::state::{Activity, CpuState, Fpu, Msrs, Queued, Shadow};
use crate::width::Width;

/// Index of RIP in the register file. While a block runs it holds the RIP of the block's first
/// instruction; see `Cpu::next_rip`.
pub const RIP: usize = 16;
/// Index of a register that is always zero: the base or index of an address that has none.
pub const ZERO: usize = 17;

/// Index of the first segment base in the register file, where it can stand for the base or index of
/// an address; the others follow in the order of [`Seg`].
pub const BASES: usize = 24;

/// A rule failed: the cause lies in [`Cpu`]. Zero-sized, so that a rule's result is one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised;

/// Why a rule failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A fault of the guest's.
    Fault(Exception),
    /// Nothing happened yet: run this instruction again, alone ([`Cpu::alone`]).
    Retry,
}

/// Size of the code segment's default operands and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CodeSize {
    /// 16 bits.
    Bits16,
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl CodeSize {
    /// 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        16 << self as u32
    }
}

/// Every mode bit that chose a rule at decode: part of a block's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Default size of the code segment.
    pub code: CodeSize,
    /// ES, SS and DS cover 4 GiB from base 0, readable and writable: their accesses need no check.
    pub flat: bool,
    /// CPL 3: a jump that user code may take is not one the kernel may take, and the reverse.
    pub user: bool,
}

/// Which jumps no longer lead where they did, because translations of code addresses changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forget {
    /// All stand.
    #[default]
    None,
    /// Those to pages that are not global.
    NonGlobal,
    /// All.
    All,
}

/// A write that hit translated code: dropped by the loop at the instruction boundary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeWrite {
    /// Guest physical address of the first byte written.
    pub address: u64,
    /// Bytes written (within one page).
    pub len: u64,
}

/// A page that code was translated from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CodePage {
    /// A bit for each 64 bytes that hold code.
    pub granules: u64,
    /// Writes to it since the last of its code was dropped.
    pub idle_writes: u8,
}

/// The ends of the offsets that a segment lets be read and written; 0 where it is not that simple.
fn bounds(segment: &Segment) -> (u64, u64) {
    let end = u64::from(segment.limit) + 1;
    let expands_down = !segment.has(Segment::CODE) && segment.has(Segment::EXPAND_DOWN);
    if segment.unusable() || !segment.has(Segment::P | Segment::S) || expands_down {
        return (0, 0);
    }
    match (segment.has(Segment::CODE), segment.has(Segment::WRITABLE)) {
        (false, true) => (end, end),
        (false, false) | (true, true) => (end, 0),
        (true, false) => (0, 0),
    }
}

/// One virtual processor.
#[repr(C)]
pub struct Cpu {
    /// General registers, [`RIP`], [`ZERO`], and from [`BASES`] on the segments' bases: zero for ES,
    /// CS, SS, DS in 64-bit mode.
    pub(crate) regs: [u64; 32],
    pub(crate) flags: Flags,
    /// For each segment the end (exclusive) of the offsets that may be read without a second look;
    /// 0 where each access needs one (unusable, wrong type, expand-down).
    pub(crate) read_bounds: [u64; 8],
    /// The same for writes.
    pub(crate) write_bounds: [u64; 8],
    /// Bits a linear address keeps: 32 outside long mode.
    pub(crate) linear_mask: u64,
    /// Bits of RSP that PUSH and POP use.
    pub(crate) stack_mask: u64,
    /// Bits of RIP that are meaningful in the code segment's size.
    pub(crate) ip_mask: u64,
    /// Whose TLB tables data accesses use.
    pub(crate) privilege: Privilege,
    /// Current privilege level; 0 in real mode, 3 in virtual-8086 mode.
    pub(crate) cpl: u8,
    /// The instruction is run on its own: I/O and writes to code are precise.
    pub(crate) alone: bool,
    pub(crate) mode: Mode,
    pub(crate) cause: Cause,
    /// Instructions of the present run that were not reached: it was left by a taken branch, or
    /// (counting the one that raised) by a fault.
    pub(crate) left: usize,
    pub(crate) tlb: Tlb,

    /// RFLAGS but for the six status flags, which lie in `flags`.
    pub(crate) system_flags: RFlags,
    pub(crate) segments: [Segment; 8],
    pub(crate) gdtr: TableRegister,
    pub(crate) idtr: TableRegister,
    pub(crate) cr0: Cr0,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: Cr4,
    pub(crate) efer: Efer,
    pub(crate) xcr0: u64,
    pub(crate) pdpte: [u64; 4],
    pub(crate) dr: [u64; 4],
    pub(crate) dr6: u64,
    pub(crate) dr7: u64,
    pub(crate) msrs: Msrs,
    pub(crate) fpu: Fpu,
    pub(crate) activity: Activity,
    pub(crate) shadow: Shadow,
    pub(crate) nmi_masked: bool,
    /// An NMI that another engine took from the board and did not deliver.
    pub(crate) nmi_pending: bool,
    /// What another engine accepted and did not deliver.
    pub(crate) queued: Option<Queued>,
    pub(crate) smm: bool,
    pub(crate) smbase: u32,
    /// What the guest added to the board's TSC by writing IA32_TIME_STAMP_COUNTER.
    pub(crate) tsc_offset: u64,
    /// Debug traps found by data and I/O breakpoints in the present instruction: DR6 bits.
    pub(crate) debug_hits: u64,

    pub(crate) model: Arc<CpuModel>,
    pub(crate) io: Arc<dyn CpuIo>,
    pub(crate) attention: Arc<Attention>,
    pub(crate) memory: Arc<MemoryMap>,
    /// Pages code was translated from, by guest page number.
    pub(crate) code_pages: Map<u64, CodePage>,
    pub(crate) code_writes: Vec<CodeWrite>,
    /// [`CpuIo::pending`] may show something: the board has signalled since it was last empty.
    pub(crate) events_possible: bool,
    /// Which jumps, remembered by the loop, are stale.
    pub(crate) forget_jumps: Forget,
    /// Instructions retired when the present run of instructions began; see [`Cpu::tsc`].
    pub(crate) retired: u64,
    /// IRET or a task switch has just loaded RF: it holds for the next instruction.
    pub(crate) keep_resume_flag: bool,
    /// A single-step trap follows the present instruction: TF was set before it. Instructions that
    /// enter the kernel or a handler change it.
    pub(crate) single_step: bool,
    /// The present instruction has switched tasks for good: a fault it raises is the new task's.
    pub(crate) task_switched: bool,
    /// What was delivered last, for the observer: filled by `event.rs`.
    pub(crate) delivered: Option<crate::event::Delivered>,
    /// Accesses to MSRs that do not exist, so far: only the first few are logged.
    pub(crate) odd_msrs: u32,
    /// What a debugger outside the guest wants.
    pub(crate) debugger: Debugger,
}

impl Cpu {
    /// A processor in its reset state.
    pub(crate) fn new(model: Arc<CpuModel>, io: Arc<dyn CpuIo>, attention: Arc<Attention>) -> Self {
        let reset = CpuState::reset(model.signature());
        let mut cpu = Self {
            regs: [0; 32],
            flags: Flags::default(),
            read_bounds: [0; 8],
            write_bounds: [0; 8],
            linear_mask: u64::from(u32::MAX),
            stack_mask: 0xFFFF,
            ip_mask: 0xFFFF,
            privilege: Privilege::Supervisor,
            cpl: 0,
            alone: false,
            mode: Mode {
                code: CodeSize::Bits16,
                flat: false,
                user: false,
            },
            cause: Cause::Retry,
            left: 0,
            tlb: Tlb::default(),
            system_flags: RFlags::FIXED,
            segments: reset.segments,
            gdtr: reset.gdtr,
            idtr: reset.idtr,
            cr0: reset.cr0,
            cr2: 0,
            cr3: 0,
            cr4: reset.cr4,
            efer: reset.efer,
            xcr0: 1,
            pdpte: [0; 4],
            dr: [0; 4],
            dr6: reset.dr6,
            dr7: reset.dr7,
            msrs: reset.msrs,
            fpu: reset.fpu,
            activity: Activity::Running,
            shadow: Shadow::None,
            nmi_masked: false,
            nmi_pending: false,
            queued: None,
            smm: false,
            smbase: reset.smbase,
            tsc_offset: 0,
            debug_hits: 0,
            model,
            io,
            memory: attention.memory_map(),
            attention,
            code_pages: Map::default(),
            code_writes: Vec::new(),
            events_possible: true,
            forget_jumps: Forget::None,
            retired: 0,
            keep_resume_flag: false,
            single_step: false,
            task_switched: false,
            delivered: None,
            odd_msrs: 0,
            debugger: Debugger::default(),
        };
        cpu.set_state(&reset);
        cpu
    }

    /// The whole architectural state. Only at an instruction boundary.
    pub fn state(&self) -> CpuState {
        let mut gpr = [0; 16];
        gpr.copy_from_slice(&self.regs[..16]);
        CpuState {
            gpr,
            rip: self.regs[RIP],
            rflags: self.rflags(),
            segments: self.segments,
            gdtr: self.gdtr,
            idtr: self.idtr,
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
            xcr0: self.xcr0,
            pdpte: self.pdpte,
            dr: self.dr,
            dr6: self.dr6,
            dr7: self.dr7,
            msrs: self.msrs,
            fpu: self.fpu,
            activity: self.activity,
            shadow: self.shadow,
            nmi_masked: self.nmi_masked,
            nmi_pending: self.nmi_pending,
            queued: self.queued,
            tsc_offset: self.tsc_offset,
            smm: self.smm,
            smbase: self.smbase,
        }
    }

    /// Replaces the whole architectural state.
    pub fn set_state(&mut self, state: &CpuState) {
        self.regs[..16].copy_from_slice(&state.gpr);
        self.regs[RIP] = state.rip;
        self.segments = state.segments;
        self.gdtr = state.gdtr;
        self.idtr = state.idtr;
        self.cr0 = state.cr0;
        self.cr2 = state.cr2;
        self.cr3 = state.cr3;
        self.cr4 = state.cr4;
        self.efer = state.efer;
        self.xcr0 = state.xcr0;
        self.pdpte = state.pdpte;
        self.dr = state.dr;
        self.dr6 = state.dr6;
        self.dr7 = state.dr7;
        self.msrs = state.msrs;
        self.fpu = state.fpu;
        self.activity = state.activity;
        self.shadow = state.shadow;
        self.nmi_masked = state.nmi_masked;
        self.nmi_pending = state.nmi_pending;
        self.queued = state.queued;
        self.tsc_offset = state.tsc_offset;
        self.smm = state.smm;
        self.smbase = state.smbase;
        self.debug_hits = 0;
        self.set_rflags(state.rflags);
        self.flush_tlb();
        self.update_mode();
        self.attention.set(Signals::EVENT);
    }

    /// The current privilege level.
    pub fn cpl(&self) -> u8 {
        self.cpl
    }

    /// What the instruction before shades the next one from.
    pub fn shadow(&self) -> Shadow {
        self.shadow
    }

    /// Whether it runs, or what it waits for.
    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// Instructions retired since the processor was built.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// RFLAGS, status flags included.
    pub fn rflags(&self) -> RFlags {
        self.system_flags | self.flags.bits()
    }

    /// Sets RFLAGS whole (which bits may change is the caller's business) and what follows from it.
    pub(crate) fn set_rflags(&mut self, flags: RFlags) {
        self.flags.set_bits(flags);
        self.set_system_flags(flags);
    }

    /// Sets all of RFLAGS but the status flags, and what follows from it: privilege (VM), SMAP and
    /// alignment checks (AC), whether single-step or an interrupt now wants attention.
    pub(crate) fn set_system_flags(&mut self, flags: RFlags) {
        let before = self.system_flags;
        self.system_flags = (flags & !RFlags::STATUS) | RFlags::FIXED;
        let changed = before ^ self.system_flags;
        if changed.intersects(RFlags::VM) {
            self.update_mode();
        } else if changed.intersects(RFlags::AC) {
            self.update_privilege();
        }
        let set = changed & self.system_flags;
        let opens = set.contains(RFlags::IF) && self.events_possible;
        if opens || set.intersects(RFlags::TF | RFlags::RF) {
            self.recheck_events();
        }
    }

    /// Whether CR0.PE is set.
    pub(crate) fn protected(&self) -> bool {
        self.cr0.contains(Cr0::PE)
    }

    /// Whether the processor is in virtual-8086 mode.
    pub(crate) fn vm86(&self) -> bool {
        self.system_flags.contains(RFlags::VM)
    }

    /// Real-address or virtual-8086 mode: segments are selectors times 16.
    pub(crate) fn real_or_vm86(&self) -> bool {
        !self.protected() || self.vm86()
    }

    /// Whether IA-32e mode is active (64-bit or compatibility).
    pub(crate) fn long_mode(&self) -> bool {
        self.efer.contains(Efer::LMA)
    }

    /// Whether the code segment is 64-bit.
    pub(crate) fn code64(&self) -> bool {
        self.mode.code == CodeSize::Bits64
    }

    /// A segment register with its hidden part.
    pub(crate) fn segment(&self, seg: Seg) -> &Segment {
        &self.segments[seg as usize]
    }

    /// Loads a segment register's hidden part and what follows from it.
    pub(crate) fn set_segment(&mut self, seg: Seg, segment: Segment) {
        self.segments[seg as usize] = segment;
        self.update_mode();
    }

    /// Recomputes what depends on CR0, CR4, EFER, EFLAGS.VM and the segments. To be called after
    /// any of them changed other than by [`Cpu::set_segment`] and [`Cpu::set_system_flags`].
    pub(crate) fn update_mode(&mut self) {
        let cs = self.segments[Seg::Cs as usize];
        let ss = self.segments[Seg::Ss as usize];
        let long = self.long_mode();
        let code = match (long && cs.has(Segment::L), cs.has(Segment::DB)) {
            (true, _) => CodeSize::Bits64,
            (false, true) => CodeSize::Bits32,
            (false, false) => CodeSize::Bits16,
        };
        self.ip_mask = match code {
            CodeSize::Bits64 => u64::MAX,
            CodeSize::Bits32 | CodeSize::Bits16 => u64::from(u32::MAX),
        };
        let code64 = code == CodeSize::Bits64;
        for (seg, segment) in self.segments.iter().enumerate() {
            let (read, write) = bounds(segment);
            (self.read_bounds[seg], self.write_bounds[seg]) = (read, write);
        }
        self.stack_mask = match (code64, ss.has(Segment::DB)) {
            (true, _) => u64::MAX,
            (false, true) => u64::from(u32::MAX),
            (false, false) => 0xFFFF,
        };
        self.linear_mask = if code64 {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        for (base, segment) in self.regs[BASES..].iter_mut().zip(&self.segments) {
            *base = segment.base;
        }
        if code64 {
            for seg in [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds] {
                self.regs[BASES + seg as usize] = 0;
            }
        }
        let flat = |seg: Seg| {
            let s = self.segments[seg as usize];
            let type_bits = Segment::S | Segment::CODE | Segment::EXPAND_DOWN | Segment::WRITABLE;
            s.base == 0
                && s.limit == u32::MAX
                && !s.unusable()
                && s.access & type_bits == Segment::S | Segment::WRITABLE
        };
        let flat = code64 || (flat(Seg::Es) && flat(Seg::Ss) && flat(Seg::Ds));
        self.cpl = match (self.protected(), self.vm86()) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => ss.dpl(),
        };
        let user = self.cpl == 3;
        self.mode = Mode { code, flat, user };
        self.update_privilege();
    }

    /// What is added to an offset in a segment, in the order of [`Seg`].
    #[inline(always)]
    pub(crate) fn base(&self, seg: usize) -> u64 {
        self.regs[BASES + (seg & 7)]
    }

    pub(crate) fn update_privilege(&mut self) {
        let ac = self.system_flags.contains(RFlags::AC);
        self.privilege = match (self.cpl == 3, ac) {
            (false, false) => Privilege::Supervisor,
            (false, true) => Privilege::SupervisorAc,
            (true, true) if self.cr0.contains(Cr0::AM) => Privilege::UserAligned,
            (true, _) => Privilege::User,
        };
    }

    /// Drops all cached translations.
    pub(crate) fn flush_tlb(&mut self) {
        self.tlb.flush();
        self.translations_changed(Forget::All);
    }

    /// Drops cached translations but those of global pages.
    pub(crate) fn flush_tlb_non_global(&mut self) {
        self.tlb.flush_non_global();
        self.translations_changed(Forget::NonGlobal);
    }

    /// Drops cached translations of one page.
    pub(crate) fn flush_tlb_page(&mut self, linear: u64) {
        let fetched = self.tlb.fetched_from(linear);
        self.tlb.flush_page(linear);
        if fetched {
            self.tlb.jumps_forgotten();
            self.translations_changed(Forget::All);
        }
    }

    /// Jumps are to be forgotten: the loop does that before the next block.
    fn translations_changed(&mut self, forget: Forget) {
        self.forget_jumps = self.forget_jumps.max(forget);
        self.recheck_events();
    }

    /// RIP of the instruction after `i`.
    #[inline(always)]
    pub(crate) fn next_rip(&self, i: &Insn) -> u64 {
        self.regs[RIP].wrapping_add(u64::from(i.next)) & self.ip_mask
    }

    /// RIP of `i` itself.
    pub(crate) fn this_rip(&self, i: &Insn) -> u64 {
        self.regs[RIP].wrapping_add(u64::from(i.next) - u64::from(i.len)) & self.ip_mask
    }

    /// Register `K` of the instruction, at width `W`.
    #[inline(always)]
    pub(crate) fn reg<W: Width>(&self, r: u8) -> W {
        W::get(&self.regs, r)
    }

    /// Writes a register, at width `W`.
    #[inline(always)]
    pub(crate) fn set_reg<W: Width>(&mut self, r: u8, value: W) {
        W::set(&mut self.regs, r, value);
    }

    /// Raises a fault.
    #[cold]
    pub(crate) fn fault<T>(&mut self, exception: Exception) -> Result<T, Raised> {
        self.cause = Cause::Fault(exception);
        Err(Raised)
    }

    /// #GP with an error code.
    #[cold]
    pub(crate) fn gp<T>(&mut self, code: u16) -> Result<T, Raised> {
        self.fault(Exception::with_code(exception::GP, u32::from(code)))
    }

    /// #UD.
    #[cold]
    pub(crate) fn ud<T>(&mut self) -> Result<T, Raised> {
        self.fault(Exception::new(exception::UD))
    }

    /// Nothing has happened yet, and the instruction must be run alone.
    #[cold]
    pub(crate) fn retry<T>(&mut self) -> Result<T, Raised> {
        self.cause = Cause::Retry;
        Err(Raised)
    }

    /// Makes the loop look at events before the next instruction.
    pub(crate) fn recheck_events(&self) {
        self.attention.set_own(Signals::CHECK);
    }

    /// The time-stamp counter as RDTSC shows it. In virtual time the instruction must run alone.
    pub(crate) fn tsc(&self) -> u64 {
        self.io.tsc().wrapping_add(self.tsc_offset)
    }
}
