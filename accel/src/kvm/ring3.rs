//! A partial KVM for what it is good at: 64-bit code in ring 3, which it runs on the processor itself.
//!
//! Everything else (kvm_pvm: ring 0, real mode, 16- and 32-bit code) such a KVM gives to the kernel's
//! instruction emulator, which is slower than the software CPU, has gaps, and in places is wrong
//! without an exit. With rescue the software CPU runs all of that.
//!
//! Ring 3 is left by an event or by SYSCALL. For the time in KVM the guest has an empty IDT and no
//! SYSCALL, so that both end in shutdown at the instruction that raised them: the software CPU runs
//! it again, with what the guest has of these. Interrupts and NMIs are taken in software. Visits that
//! turn out short cost more than they give: after one the software CPU keeps ring 3 for twice as many
//! instructions as the last time.
//!
//! Wrong in such ring 3, without an exit: CPUID is the host's. RDTSC reads the host's counter there, so
//! that is the guest's in software too; IA32_TIME_STAMP_COUNTER moves it in software alone.
//!
//! Not yet: what was translated is dropped after each visit, whether or not KVM has written code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use emu::arch::exception::{BP, DB};
use emu::arch::segment::TableRegister;
use emu::arch::{Cr0, Efer, RFlags, Seg, Segment};
use emu::attention::{Attention, Signals};
use emu::engine::{Engine, Stop};
use emu::io::ApicRefused;
use emu::state::{Activity, Shadow};
use emu::{CpuIo, CpuState, Pending};

use super::rescue::Rescue;
use super::tsc;
use super::vcpu::KvmVcpu;
use crate::{AccelError, Counters, DebugPoints, DebugStop, Kick, Vcpu, VcpuExit};

/// A shorter visit to KVM was not worth its hand-overs.
const WORTH: Duration = Duration::from_millis(1);
/// The most instructions that the software CPU keeps ring 3 for, after short visits.
const LONGEST: u64 = 1 << 24;
/// Instructions until it is asked again whether KVM can run ring 3.
const REFUSED: u64 = 4096;
/// The bits of DR7 that enable breakpoints.
const BREAKPOINTS: u64 = 0xFF;

/// A processor of which KVM runs 64-bit ring 3.
pub(super) struct Ring3Vcpu {
    hard: KvmVcpu,
    soft: Engine,
    attention: Arc<Attention>,
    rescue: Arc<Rescue>,
    io: Arc<dyn CpuIo>,
    visit: Option<Visit>,
    /// Instructions that the software CPU kept ring 3 for after the last visit.
    keep: u64,
    /// The count of instructions from which on it gives ring 3 away.
    from: u64,
    debugged: bool,
}

/// The state lies with KVM.
struct Visit {
    began: Instant,
    /// The guest's own.
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
            visit: None,
            keep: 0,
            from: 0,
            debugged: false,
        })
    }

    /// Gives KVM the state if it is good at it.
    fn visit(&mut self) -> Result<(), AccelError> {
        let mut state = self.soft.state().canonical();
        if !is_native(&state) || !self.io.pending().is_empty() {
            self.from = self.soft.retired() + REFUSED;
            return Ok(());
        }
        self.visit = Some(Visit {
            began: Instant::now(),
            idtr: state.idtr,
            efer: state.efer,
            tsc_offset: state.tsc_offset,
        });
        state.idtr.limit = 0;
        state.efer -= Efer::SCE;
        self.hard.set_state(&state)
    }

    /// The state as the guest has it, if it lies with KVM.
    fn visiting(&mut self) -> Result<Option<CpuState>, AccelError> {
        let Some(visit) = &self.visit else {
            return Ok(None);
        };
        let (idtr, efer, tsc_offset) = (visit.idtr, visit.efer, visit.tsc_offset);
        let mut state = self.hard.state()?;
        state.activity = Activity::Running;
        // What ended in shutdown is raised again in software.
        state.queued = None;
        state.idtr = idtr;
        state.efer = efer;
        state.tsc_offset = tsc_offset;
        Ok(Some(state))
    }

    /// What the host's time-stamp counter is ahead of the board's.
    fn host_ahead(&self) -> u64 {
        tsc::of_host().wrapping_sub(self.io.tsc())
    }

    /// Takes the state back from KVM, as it was `behind` bytes before.
    fn take_back(&mut self, behind: u64) -> Result<(), AccelError> {
        let Some(mut state) = self.visiting()? else {
            return Ok(());
        };
        state.rip = state.rip.wrapping_sub(behind);
        let short = self.visit.take().is_some_and(|v| v.began.elapsed() < WORTH);
        self.keep = if short {
            (self.keep * 2).clamp(1, LONGEST)
        } else {
            1
        };
        self.from = self.soft.retired() + self.keep;
        // KVM has written memory unseen: nothing that was translated from it holds.
        self.attention.set(Signals::MAP | Signals::EVENT);
        self.soft.set_state(&state);
        Ok(())
    }

    /// Runs in KVM until it comes to something that is not its own.
    fn run_in_kvm(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        let exit = self.hard.run();
        let behind = match exit {
            // INT3 and INT1 are traps: KVM stands behind them.
            Ok(VcpuExit::TripleFault) => match self.hard.last_exception()? {
                BP | DB => 1,
                _ => 0,
            },
            _ => 0,
        };
        self.take_back(behind)?;
        match exit {
            Ok(VcpuExit::Kicked) => Ok(Some(VcpuExit::Kicked)),
            Ok(VcpuExit::TripleFault) | Err(AccelError::Internal { .. }) => {
                self.rescue
                    .count(self.soft.encoding_at_rip(), "64-bit ring 3");
                Ok(None)
            }
            Ok(other) => Ok(Some(other)),
            Err(error) => Err(error),
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
            self.visit()?;
            if self.visit.is_some()
                && let Some(exit) = self.run_in_kvm()?
            {
                return Ok(exit);
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        let mut state = match self.visiting()? {
            Some(state) => state,
            None => self.soft.state().canonical(),
        };
        state.tsc_offset = state.tsc_offset.wrapping_add(self.host_ahead());
        Ok(state)
    }

    fn leave(&mut self) -> Result<CpuState, AccelError> {
        self.take_back(0)?;
        self.hard.leave()?;
        self.state()
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.take_back(0)?;
        self.attention.set(Signals::MAP | Signals::EVENT);
        let tsc_offset = state.tsc_offset.wrapping_sub(self.host_ahead());
        self.soft.set_state(&CpuState {
            tsc_offset,
            ..state.clone()
        });
        Ok(())
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.take_back(0)?;
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
