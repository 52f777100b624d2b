//! A partial KVM for what it is good at: 64-bit code in ring 3, which it runs on the processor itself.
//!
//! Everything else (kvm_pvm: ring 0, real mode, 16- and 32-bit code) such a KVM gives to the kernel's
//! instruction emulator, which is slower than the software CPU, has gaps, and in places is wrong
//! without an exit. With rescue the software CPU runs all of that.
//!
//! Ring 3 is left by an event or by SYSCALL. For the time in KVM the guest has an empty IDT and no
//! SYSCALL, so that both end in shutdown: the software CPU runs the instruction that raised it again,
//! with what the guest has of these. (kvm_pvm enters by SYSCALL all the same, but for the segments,
//! and shuts down at the first fetch there.) Interrupts and NMIs are taken in software. Visits that
//! turn out short cost more than they give: after one the software CPU keeps ring 3 for twice as many
//! instructions as the last time.
//!
//! Wrong in such ring 3, without an exit: CPUID, XGETBV and the like are the host's. Programs ask
//! when they begin, so the software CPU keeps an address space that is new for a while; one that asks
//! later learns of features that it has only until the software CPU goes on with it. RDTSC reads the
//! host's counter there, so that is the guest's in software too; IA32_TIME_STAMP_COUNTER moves it in
//! software alone.
//!
//! Not yet: what was translated is dropped after each visit, whether or not KVM has written code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use emu::arch::exception::{BP, DB};
use emu::arch::segment::TableRegister;
use emu::arch::{Cr0, Efer, Gpr, RFlags, Seg, Segment};
use emu::attention::{Attention, Signals};
use emu::engine::{Engine, Stop};
use emu::io::ApicRefused;
use emu::state::{Activity, Queued, Shadow};
use emu::{CpuIo, CpuState, Pending};

use super::rescue::Rescue;
use super::tsc;
use super::vcpu::KvmVcpu;
use crate::{AccelError, Counters, DebugPoints, DebugStop, Kick, Vcpu, VcpuExit};

/// A shorter visit to KVM was not worth its hand-overs.
const WORTH: Duration = Duration::from_millis(1);
/// The most instructions that the software CPU keeps ring 3 for, after short visits.
const LONGEST: u64 = 1 << 24;
/// Instructions that the software CPU keeps an address space for that is new: what programs ask of the
/// processor they ask when they begin.
const NEW: u64 = 1 << 22;
/// Instructions until it is asked again whether KVM can run ring 3.
const REFUSED: u64 = 4096;
/// SYSCALL, by iced's name, and its length in bytes.
const SYSCALL: &str = "Syscall";
const SYSCALL_LENGTH: u64 = 2;
/// The bits of DR7 that enable breakpoints.
const BREAKPOINTS: u64 = 0xFF;

/// A processor of which KVM runs 64-bit ring 3.
pub(super) struct Ring3Vcpu {
    hard: KvmVcpu,
    soft: Engine,
    attention: Arc<Attention>,
    rescue: Arc<Rescue>,
    io: Arc<dyn CpuIo>,
    /// Instructions that the software CPU kept ring 3 for after the last visit.
    keep: u64,
    /// The count of instructions from which on it gives ring 3 away.
    from: u64,
    /// The address space (CR3) that was seen last.
    space: u64,
    debugged: bool,
}

/// The state lies with KVM; what the guest has in place of what it has there.
struct Visit {
    began: Instant,
    idtr: TableRegister,
    efer: Efer,
    tsc_offset: u64,
}

/// The board, but for the time-stamp counter: in ring 3 RDTSC reads the host's, so the software CPU's
/// is the same. (Offsets in the states of this file's processors are to that, in those that others
/// see to the board's.)
struct HostTsc(Arc<dyn CpuIo>);

impl CpuIo for HostTsc {
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]) {
        self.0.port_read(port, width, data);
    }
    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        self.0.port_write(port, width, data);
    }
    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.0.mmio_read(address, data);
    }
    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.0.mmio_write(address, data);
    }
    fn pending(&self) -> Pending {
        self.0.pending()
    }
    fn ack_interrupt(&self) -> Option<u8> {
        self.0.ack_interrupt()
    }
    fn take(&self, which: Pending) -> u8 {
        self.0.take(which)
    }
    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused> {
        self.0.apic_msr_read(msr)
    }
    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused> {
        self.0.apic_msr_write(msr, value)
    }
    fn tpr(&self) -> u8 {
        self.0.tpr()
    }
    fn set_tpr(&self, cr8: u8) {
        self.0.set_tpr(cr8);
    }
    fn set_ferr(&self, asserted: bool) {
        self.0.set_ferr(asserted);
    }
    fn ignne(&self) -> bool {
        self.0.ignne()
    }
    fn tsc(&self) -> u64 {
        tsc::of_host()
    }
}

/// Makes both look up.
struct Both {
    hard: Arc<dyn Kick>,
    soft: Arc<Attention>,
}

impl Kick for Both {
    fn signal(&self) {
        self.soft.set(Signals::EVENT);
        self.hard.signal();
    }

    fn kick(&self) {
        self.soft.set(Signals::KICK);
        self.hard.kick();
    }
}

/// Whether KVM runs code in this state on the processor.
fn is_native(state: &CpuState) -> bool {
    let cs = &state.segments[Seg::Cs as usize];
    let ring3 = state.segments[Seg::Ss as usize].dpl() == 3;
    let long = state.efer.contains(Efer::LMA) && cs.has(Segment::L);
    let plain = !state
        .rflags
        .intersects(RFlags::TF | RFlags::RF | RFlags::AC)
        && !state.cr0.intersects(Cr0::TS | Cr0::EM)
        && state.dr7 & BREAKPOINTS == 0
        && state.shadow == Shadow::None;
    long && ring3 && plain && state.activity == Activity::Running
}

impl Ring3Vcpu {
    pub(super) fn new(
        mut hard: KvmVcpu,
        rescue: Arc<Rescue>,
        io: Arc<dyn CpuIo>,
    ) -> Result<Self, AccelError> {
        let attention = rescue.attention();
        let model = Arc::clone(rescue.model());
        let board = Arc::new(HostTsc(Arc::clone(&io)));
        let mut soft = Engine::new(model, board, Arc::clone(&attention));
        soft.set_state(&hard.state()?);
        hard.leave_events();
        Ok(Self {
            hard,
            soft,
            attention,
            rescue,
            io,
            keep: 0,
            from: 0,
            space: u64::MAX,
            debugged: false,
        })
    }

    /// Gives KVM the state if it is good at it.
    fn visit(&mut self) -> Result<Option<Visit>, AccelError> {
        let mut state = self.soft.state().canonical();
        if !is_native(&state) || !self.io.pending().is_empty() {
            self.from = self.soft.retired() + REFUSED;
            return Ok(None);
        }
        if std::mem::replace(&mut self.space, state.cr3) != state.cr3 {
            self.from = self.soft.retired() + NEW;
            return Ok(None);
        }
        let visit = Visit {
            began: Instant::now(),
            idtr: state.idtr,
            efer: state.efer,
            tsc_offset: state.tsc_offset,
        };
        self.hard.memory_was_written()?;
        state.idtr.limit = 0;
        state.efer -= Efer::SCE;
        self.hard.set_state(&state)?;
        Ok(Some(visit))
    }

    /// What the host's time-stamp counter is ahead of the board's.
    fn host_ahead(&self) -> u64 {
        tsc::of_host().wrapping_sub(self.io.tsc())
    }

    /// Takes the state back from KVM, as it was before the instruction that ended a visit by
    /// `shutdown`, or that KVM has begun.
    fn take_back(&mut self, visit: &Visit, shutdown: bool) -> Result<(), AccelError> {
        let mut state = self.hard.state()?;
        let raised = match state.queued.take() {
            _ if shutdown => Some(self.hard.last_exception()?),
            Some(Queued::Exception { vector, .. }) => Some(vector),
            _ => None,
        };
        // INT3 and INT1 are traps: KVM stands behind them.
        if let Some(BP | DB) = raised {
            state.rip = state.rip.wrapping_sub(1);
        }
        state.activity = Activity::Running;
        state.idtr = visit.idtr;
        state.efer = visit.efer;
        state.tsc_offset = visit.tsc_offset;
        let short = visit.began.elapsed() < WORTH;
        self.keep = if short {
            (self.keep * 2).clamp(1, LONGEST)
        } else {
            1
        };
        self.from = self.soft.retired() + self.keep;
        // KVM has written memory unseen: nothing that was translated from it holds.
        self.attention.set(Signals::MAP | Signals::EVENT);
        self.soft.set_state(&state);
        if state.rip == state.msrs.lstar {
            self.undo_syscall(&state);
        }
        Ok(())
    }

    /// Goes back to before a SYSCALL that KVM has begun. What RCX and R11 held is lost: it will
    /// replace them again.
    fn undo_syscall(&mut self, begun: &CpuState) {
        let mut before = begun.clone();
        before.rip = begun.gpr[Gpr::Rcx as usize].wrapping_sub(SYSCALL_LENGTH);
        before.rflags = RFlags::from_bits_retain(begun.gpr[Gpr::R11 as usize]);
        self.soft.set_state(&before);
        if self.soft.encoding_at_rip().as_deref() != Some(SYSCALL) {
            // It was a jump to there.
            self.soft.set_state(begun);
        }
    }

    /// Runs in KVM until it comes to something that is not its own.
    fn run_in_kvm(&mut self, visit: &Visit) -> Result<Option<VcpuExit>, AccelError> {
        let exit = self.hard.run();
        let shutdown = matches!(exit, Ok(VcpuExit::TripleFault));
        self.take_back(visit, shutdown)?;
        match exit {
            Ok(VcpuExit::TripleFault) | Err(AccelError::Internal { .. }) => {
                self.rescue
                    .count(self.soft.encoding_at_rip(), "64-bit ring 3");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn run_in_software(&mut self) -> Option<VcpuExit> {
        let stop = if self.debugged {
            self.soft.run()
        } else {
            self.soft.run_to_ring3(self.from)
        };
        Some(match stop {
            Stop::Ring3 => return None,
            Stop::Halted => VcpuExit::Halted,
            Stop::Kicked => VcpuExit::Kicked,
            Stop::TripleFault => VcpuExit::TripleFault,
            Stop::Stepped => VcpuExit::Debug(DebugStop::Step),
            Stop::Breakpoint(at) => VcpuExit::Debug(DebugStop::Breakpoint(at)),
            Stop::Watchpoint(at) => VcpuExit::Debug(DebugStop::Watchpoint(at)),
        })
    }
}

impl Vcpu for Ring3Vcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        loop {
            if let Some(exit) = self.run_in_software() {
                return Ok(exit);
            }
            if let Some(visit) = self.visit()?
                && let Some(exit) = self.run_in_kvm(&visit)?
            {
                return Ok(exit);
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        let mut state = self.soft.state().canonical();
        state.tsc_offset = state.tsc_offset.wrapping_add(self.host_ahead());
        Ok(state)
    }

    fn leave(&mut self) -> Result<CpuState, AccelError> {
        self.hard.leave()?;
        self.state()
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.attention.set(Signals::MAP | Signals::EVENT);
        let tsc_offset = state.tsc_offset.wrapping_sub(self.host_ahead());
        self.soft.set_state(&CpuState {
            tsc_offset,
            ..state.clone()
        });
        Ok(())
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.debugged = *points != DebugPoints::default();
        self.soft.set_debug(points);
        Ok(())
    }

    fn counters(&mut self) -> Counters {
        self.rescue.counted(self.hard.counters())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::new(Both {
            hard: self.hard.kicker(),
            soft: Arc::clone(&self.attention),
        })
    }
}
