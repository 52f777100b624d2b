//! A vCPU of KVM: the run loop, events, and what each exit means.
//!
//! KVM finishes an exit for I/O or an MSR only at the next `KVM_RUN`. Events are taken at
//! instruction boundaries, so before one is looked at, before `run` returns for a kick and before
//! any state is read, the exit is completed by a `KVM_RUN` with `immediate_exit` set.
//!
//! Interrupts go in by `KVM_INTERRUPT` once KVM says it is ready, else an interrupt window is
//! asked for. INIT, start-up IPI, halt and shutdown are kept here: a processor that does not run
//! is simply not entered. Not served: SMI (KVM's are not in every kernel).
//!
//! Exits (`KVM_EXIT_...`):
//! - `IO`, `MMIO`: the board's callback, all items of a string at once and at their width
//! - `X86_RDMSR`, `X86_WRMSR`: the local APIC's registers by the board's callback, else #GP
//! - `HLT`: [`VcpuExit::Halted`], unless something pending ends it; `SHUTDOWN`: a triple fault
//! - `IRQ_WINDOW_OPEN`, `SET_TPR`: the pending interrupts are looked at; `INTR`: on with the guest
//! - `DEBUG`: a debugger's stop
//! - `INTERNAL_ERROR`, `FAIL_ENTRY`: errors of their own, with state and instruction
//! - `SYSTEM_EVENT`, `EXCEPTION`, `UNKNOWN` and all others: [`AccelError::UnknownExit`] with the API's
//!   name. `NOTIFY`, `DIRTY_RING_FULL`, `X86_BUS_LOCK`, `HYPERCALL`, `MEMORY_FAULT` come only of
//!   capabilities that are never enabled; `IOAPIC_EOI`, `TPR_ACCESS`, `NMI` of a kernel's irqchip.

// UNSAFETY: the union in `kvm_run` is read by its exit reason, data of port I/O lies at an offset
// in the same mapping, and KVM_INTERRUPT is a raw ioctl.
#![expect(
    unsafe_code,
    reason = "kvm_run is a union; KVM_INTERRUPT is a raw ioctl"
)]

use std::sync::Arc;

use emu::arch::{Cr0, Efer, Seg};
use emu::io::ApicRefused;
use emu::state::{Activity, Queued};
use emu::{CpuIo, CpuState, Pending};
use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_EXCEPTION, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MEMORY_FAULT,
    KVM_EXIT_MMIO, KVM_EXIT_NOTIFY, KVM_EXIT_SET_TPR, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_EXIT_UNKNOWN, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_VCPUEVENT_VALID_SHADOW, KVMIO,
    Msrs as KvmMsrs, kvm_interrupt, kvm_msr_entry, kvm_run,
};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::{errno, ioctl_iow_nr};

use super::debug::Debug;
use super::kick::{self, Kicker};
use super::memory::{Behind, Touch};
use super::state::{self, Held};
use super::{APIC_BASE, Shared, cpuid, host, stats, tsc};
use crate::error::{Bytes, Place};
use crate::{AccelError, Counters, DebugPoints, DebugStop, Kick, Vcpu, VcpuExit};

ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);

/// x2APIC registers.
const X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8FF;

/// The opcode.
const HLT: u8 = 0xF4;

/// A virtual processor.
pub(super) struct KvmVcpu {
    fd: VcpuFd,
    vm: Arc<Shared>,
    io: Arc<dyn CpuIo>,
    index: u32,
    kicker: Arc<Kicker>,
    held: Held,
    /// This thread, as signals name it.
    thread: i32,
    /// An exit waits for the next `KVM_RUN` to finish it.
    unfinished: bool,
    /// The interrupt flags in `kvm_run` are older than the state.
    stale: bool,
    /// The board may have something pending.
    look: bool,
    /// `kvm_run.apic_base` as last seen.
    apic_base: u64,
    /// What finishing an exit brought up, for the next `run`.
    deferred: Option<VcpuExit>,
    debug: Debug,
    /// Events are not taken here: `run` returns for them.
    leaves_events: bool,
}

/// How one `KVM_RUN` ended.
enum Entered {
    /// With an exit to be served.
    Exit,
    /// By a signal or `immediate_exit`.
    Interrupted,
}

impl KvmVcpu {
    pub(super) fn new(vm: Arc<Shared>, index: u32, io: Arc<dyn CpuIo>) -> Result<Self, AccelError> {
        let fd = vm.fd.create_vcpu(index.into());
        let fd = fd.map_err(host("KVM_CREATE_VCPU"))?;
        let leaves = cpuid::for_vcpu(&vm.leaves, index);
        let leaves =
            leaves.ok_or_else(|| host("KVM_SET_CPUID2")(errno::Error::new(libc::E2BIG)))?;
        fd.set_cpuid2(&leaves).map_err(host("KVM_SET_CPUID2"))?;
        if fd.get_tsc_khz().is_ok_and(|khz| khz != vm.tsc_khz)
            && fd.set_tsc_khz(vm.tsc_khz).is_err()
        {
            vm.no_tsc_scaling();
        }
        let mut vcpu = Self {
            kicker: Arc::new(Kicker::new(&fd)?),
            fd,
            vm,
            io,
            index,
            held: Held::default(),
            thread: 0,
            unfinished: false,
            stale: false,
            look: true,
            apic_base: 0,
            deferred: None,
            debug: Debug::default(),
            leaves_events: false,
        };
        let mut reset = CpuState::reset(vcpu.signature());
        if index != 0 {
            reset.activity = Activity::WaitForSipi;
        }
        vcpu.set_state(&reset)?;
        Ok(vcpu)
    }

    /// CPUID.1:EAX, which EDX holds after RESET.
    fn signature(&self) -> u32 {
        let leaf = self.vm.leaves.iter().find(|l| l.function == 1);
        leaf.map_or(0, |l| l.registers[0])
    }

    /// One `KVM_RUN`, with the task priority brought in and out.
    fn enter(&mut self) -> Result<Entered, AccelError> {
        let cr8 = u64::from(self.io.tpr());
        let run = self.fd.get_kvm_run();
        run.cr8 = cr8;
        // A KVM that emulates MOV CR8 makes no KVM_EXIT_SET_TPR of it. There, while the task
        // priority may hold something back, each window is a chance to see a lower one. (With
        // virtualisation hardware this would be an exit before each instruction.)
        if self.vm.partial && cr8 != 0 {
            run.request_interrupt_window = 1;
        }
        let result = self.fd.run().map(|_| ());
        self.kicker.leave();
        self.held.tsc_offset.set(None);
        let run = self.fd.get_kvm_run();
        let (now, base) = (run.cr8, run.apic_base);
        self.stale = false;
        if now != cr8 {
            self.io.set_tpr(now as u8);
        }
        if base != self.apic_base {
            // Only where KVM has no MSR filter: else the guest's own write came out.
            self.apic_base = base;
            if self.io.apic_msr_read(APIC_BASE) != Ok(base)
                && self.io.apic_msr_write(APIC_BASE, base).is_err()
            {
                tracing::debug!(target: "kvm", "the local APIC refuses base {base:#x}");
            }
        }
        match result.map_err(|e| e.errno()) {
            Ok(()) => Ok(Entered::Exit),
            Err(libc::EINTR | libc::EAGAIN) => Ok(Entered::Interrupted),
            Err(errno) => Err(host("KVM_RUN")(errno::Error::new(errno))),
        }
    }

    /// Completes a pending exit, so that the registers are architectural.
    fn finish(&mut self) -> Result<(), AccelError> {
        while self.unfinished {
            self.unfinished = false;
            self.kicker.only_complete();
            match self.enter()? {
                Entered::Interrupted => {}
                // A second half of the same access, or a debug stop right after it.
                Entered::Exit => self.deferred = self.serve()?.or(self.deferred),
            }
        }
        Ok(())
    }

    /// Completes a pending exit and brings KVM's interrupt flags to this instruction boundary.
    fn settle(&mut self) -> Result<(), AccelError> {
        self.unfinished |= self.stale;
        self.finish()
    }

    /// Looks at what the board has pending. Returns why the guest cannot be entered, if so.
    fn attend(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        let mut pending = self.io.pending();
        if self.leaves_events {
            self.look = false;
            return Ok((!pending.is_empty()).then_some(VcpuExit::Kicked));
        }
        if pending.contains(Pending::INIT) {
            self.io.take(Pending::INIT);
            self.init()?;
            pending = self.io.pending();
        }
        if pending.contains(Pending::SIPI) {
            let vector = self.io.take(Pending::SIPI);
            self.start_up(vector)?;
        }
        match self.held.activity {
            Activity::WaitForSipi => return Ok(Some(VcpuExit::Halted)),
            Activity::Shutdown => return Ok(Some(VcpuExit::TripleFault)),
            Activity::Running | Activity::Halted => {}
        }
        if self.debug.steps() && self.held.activity == Activity::Running {
            // No handler comes between a debugger and its next instruction.
            pending -= Pending::NMI | Pending::INTERRUPT;
        }
        if pending.contains(Pending::SMI) {
            self.io.take(Pending::SMI);
            tracing::debug!(target: "kvm", "SMI dropped: not served on KVM");
        }
        if pending.contains(Pending::NMI) {
            self.nmi()?;
        }
        if pending.contains(Pending::INTERRUPT) {
            self.interrupt()?;
        } else {
            self.fd.get_kvm_run().request_interrupt_window = 0;
        }
        // What was not taken comes up again with the window or the next signal.
        self.look = false;
        Ok((self.held.activity == Activity::Halted).then_some(VcpuExit::Halted))
    }

    /// Takes an NMI. While NMIs are masked KVM keeps one, and a halted processor stays so.
    fn nmi(&mut self) -> Result<(), AccelError> {
        self.finish()?;
        if self.held.activity == Activity::Halted {
            let events = self.fd.get_vcpu_events();
            if events.map_err(host("KVM_GET_VCPU_EVENTS"))?.nmi.masked != 0 {
                return Ok(());
            }
            self.held.activity = Activity::Running;
        }
        self.io.take(Pending::NMI);
        self.fd.nmi().map_err(host("KVM_NMI"))
    }

    /// Takes a maskable interrupt if KVM is ready for one, else asks for the window.
    fn interrupt(&mut self) -> Result<(), AccelError> {
        self.settle()?;
        let halted = self.held.activity == Activity::Halted;
        let enabled = self.fd.get_kvm_run().if_flag != 0;
        if halted && !enabled {
            return Ok(());
        }
        if halted && self.fd.get_kvm_run().ready_for_interrupt_injection == 0 {
            self.end_shadow()?;
        }
        let run = self.fd.get_kvm_run();
        if !enabled || run.ready_for_interrupt_injection == 0 {
            run.request_interrupt_window = 1;
            return Ok(());
        }
        let Some(vector) = self.io.ack_interrupt() else {
            self.fd.get_kvm_run().request_interrupt_window = 0;
            return Ok(());
        };
        let interrupt = kvm_interrupt { irq: vector.into() };
        // SAFETY: the kernel reads one `kvm_interrupt`.
        if unsafe { ioctl_with_ref(&self.fd, KVM_INTERRUPT(), &interrupt) } != 0 {
            return Err(host("KVM_INTERRUPT")(errno::Error::last()));
        }
        self.held.activity = Activity::Running;
        let more = self.io.pending().contains(Pending::INTERRUPT);
        let run = self.fd.get_kvm_run();
        run.ready_for_interrupt_injection = 0;
        run.request_interrupt_window = more.into();
        Ok(())
    }

    /// Whether a window that was asked for is open: not every KVM makes an exit of its own when
    /// another one comes first.
    fn window_is_open(&mut self) -> bool {
        let run = self.fd.get_kvm_run();
        run.request_interrupt_window != 0
            && run.if_flag != 0
            && run.ready_for_interrupt_injection != 0
    }

    /// HLT has executed, so a shadow of the STI before it is over, whatever KVM still shows.
    fn end_shadow(&mut self) -> Result<(), AccelError> {
        let events = self.fd.get_vcpu_events();
        let mut events = events.map_err(host("KVM_GET_VCPU_EVENTS"))?;
        if events.interrupt.shadow == 0 {
            return Ok(());
        }
        events.interrupt.shadow = 0;
        events.flags = KVM_VCPUEVENT_VALID_SHADOW;
        let set = self.fd.set_vcpu_events(&events);
        set.map_err(host("KVM_SET_VCPU_EVENTS"))?;
        self.stale = true;
        self.settle()
    }

    /// INIT. SDM Vol. 3A, "IA-32 and Intel 64 Processor States Following Power-up, Reset, or
    /// INIT": x87, SSE, TSC, MSRs and the cache bits of CR0 stay.
    fn init(&mut self) -> Result<(), AccelError> {
        self.finish()?;
        let before = self.read()?;
        let kept = before.cr0 & (Cr0::CD | Cr0::NW);
        let mut after = CpuState::reset(self.signature());
        after.cr0 = after.cr0.difference(Cr0::CD | Cr0::NW) | kept;
        after.fpu = before.fpu;
        after.msrs = before.msrs;
        after.xcr0 = before.xcr0;
        after.smbase = before.smbase;
        after.tsc_offset = before.tsc_offset;
        if self.index != 0 {
            after.activity = Activity::WaitForSipi;
        }
        self.write(&after)
    }

    /// A start-up IPI, ignored by a processor that does not wait for one.
    fn start_up(&mut self, vector: u8) -> Result<(), AccelError> {
        if self.held.activity != Activity::WaitForSipi {
            return Ok(());
        }
        self.finish()?;
        let mut state = self.read()?;
        let cs = &mut state.segments[Seg::Cs as usize];
        cs.selector = u16::from(vector) << 8;
        cs.base = u64::from(vector) << 12;
        state.rip = 0;
        state.activity = Activity::Running;
        self.write(&state)
    }

    /// The software CPU has run, and may have written page tables.
    pub(super) fn memory_was_written(&self) -> Result<(), AccelError> {
        self.vm.memory.forget_shadows(&self.vm.fd)
    }

    /// The state, and the event that was being delivered, which KVM is to forget: the next
    /// [`Vcpu::set_state`] drops it.
    pub(super) fn hand_over(&mut self) -> Result<(CpuState, Option<Queued>), AccelError> {
        self.finish()?;
        let mut state = self.read()?;
        let queued = state.queued.take();
        Ok((state, queued))
    }

    /// The vector of the last exception since the state was set.
    pub(super) fn last_exception(&self) -> Result<u8, AccelError> {
        let events = self.fd.get_vcpu_events();
        Ok(events.map_err(host("KVM_GET_VCPU_EVENTS"))?.exception.nr)
    }

    /// From now on [`Vcpu::run`] returns, kicked, when an event is pending.
    pub(super) fn leave_events(&mut self) {
        self.leaves_events = true;
    }

    /// Takes what kicks there were: to look at the board, and to return from `run`.
    pub(super) fn take_kick(&self) -> (bool, bool) {
        self.kicker.take()
    }

    /// Whether this KVM can hold a state: a partial one has no paging without long mode.
    pub(super) fn can_hold(&self, state: &CpuState) -> bool {
        let paged = state.cr0.contains(Cr0::PG) && !state.efer.contains(Efer::LMA);
        !(self.vm.partial && paged)
    }

    /// The guest's time-stamp counter as it reads it now.
    pub(super) fn tsc(&self) -> Result<u64, AccelError> {
        tsc::counter(&self.fd, &self.vm)
    }

    /// The state as KVM has it now.
    fn read(&self) -> Result<CpuState, AccelError> {
        state::get(&self.fd, &self.vm, &self.held, &*self.io)
    }

    fn write(&mut self, to: &CpuState) -> Result<(), AccelError> {
        state::set(&self.fd, &self.vm, &mut self.held, &*self.io, to)?;
        self.stale = true;
        self.look = true;
        self.deferred = None;
        Ok(())
    }

    /// Serves the exit in `kvm_run`. Returns what the machine's loop must decide.
    fn serve(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        let run = self.fd.get_kvm_run();
        match run.exit_reason {
            KVM_EXIT_IO => {
                self.unfinished = true;
                port(run, &*self.io);
            }
            KVM_EXIT_MMIO => {
                self.unfinished = true;
                mmio(run, &self.vm, &*self.io);
            }
            KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR => {
                self.unfinished = true;
                self.msr()?;
            }
            KVM_EXIT_HLT => return self.halted(),
            // Interrupts are on again, or the task priority fell.
            KVM_EXIT_IRQ_WINDOW_OPEN | KVM_EXIT_SET_TPR => self.look = true,
            KVM_EXIT_INTR => {}
            KVM_EXIT_SHUTDOWN => {
                self.held.activity = Activity::Shutdown;
                return Ok(Some(VcpuExit::TripleFault));
            }
            KVM_EXIT_DEBUG => return self.debug_exit(),
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: the exit reason says which member of the union is valid.
                let reason =
                    unsafe { run.__bindgen_anon_1.fail_entry }.hardware_entry_failure_reason;
                let place = self.place()?;
                return Err(AccelError::FailEntry {
                    reason,
                    bytes: self.code_at(&place.0),
                    place,
                });
            }
            KVM_EXIT_INTERNAL_ERROR => {
                let (suberror, bytes) = internal(run);
                let place = self.place()?;
                return Err(AccelError::Internal {
                    suberror,
                    bytes: bytes.unwrap_or_else(|| self.code_at(&place.0)),
                    place,
                });
            }
            exit => return Err(self.unknown(exit)?),
        }
        Ok(None)
    }

    fn place(&self) -> Result<Box<Place>, AccelError> {
        Ok(Box::new(Place(self.read()?)))
    }

    fn unknown(&mut self, exit: u32) -> Result<AccelError, AccelError> {
        let union = &self.fd.get_kvm_run().__bindgen_anon_1;
        // SAFETY: the exit's own member of the union, plain numbers all.
        let detail = unsafe {
            match exit {
                KVM_EXIT_UNKNOWN => union.hw.hardware_exit_reason,
                KVM_EXIT_EXCEPTION => union.ex.exception.into(),
                KVM_EXIT_SYSTEM_EVENT => union.system_event.type_.into(),
                KVM_EXIT_NOTIFY => union.notify.flags.into(),
                KVM_EXIT_MEMORY_FAULT => union.memory_fault.gpa,
                _ => 0,
            }
        };
        let place = self.place()?;
        Ok(AccelError::UnknownExit {
            exit,
            detail,
            bytes: self.code_at(&place.0),
            place,
        })
    }

    /// What lies at the instruction pointer, as far as it is memory.
    fn code_at(&self, state: &CpuState) -> Bytes {
        let start = state.linear_rip();
        let bytes = (0..15).map_while(|n| self.byte_at(start.wrapping_add(n)));
        Bytes::new(&bytes.collect::<Vec<_>>())
    }

    /// The byte of memory at a linear address.
    fn byte_at(&self, linear: u64) -> Option<u8> {
        let mut byte = [0];
        let found = self.fd.translate_gva(linear).ok()?;
        let touch = Touch::Read(&mut byte);
        let behind = self.vm.memory.touch(found.physical_address, touch);
        (found.valid != 0 && matches!(behind, Behind::Memory)).then_some(byte[0])
    }

    /// The exit of a HLT. A partial KVM tells of one that was stepped once more, when the guest has
    /// gone on.
    fn halted(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        if self.vm.partial {
            let linear = self.read()?.linear_rip();
            if !self.halts_at(linear.wrapping_sub(1)) {
                return Ok(None);
            }
        }
        self.held.activity = Activity::Halted;
        self.look = true;
        if self.debug.steps() {
            return self.stepped(DebugStop::Step);
        }
        Ok(None)
    }

    /// A debug stop: only ever asked for by the user.
    fn debug_exit(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        // SAFETY: called for KVM_EXIT_DEBUG, whose member of the union this is.
        let arch = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.debug }.arch;
        self.stepped(self.debug.stop(arch.dr6, arch.pc))
    }

    /// An instruction was run for the debugger, or stopped at one of its points.
    fn stepped(&mut self, stop: DebugStop) -> Result<Option<VcpuExit>, AccelError> {
        if self.debug.steps()
            && let Some(rip) = self.debug.behind_halt.take()
            && self.read()?.rip == rip
        {
            self.held.activity = Activity::Halted;
        }
        if std::mem::take(&mut self.debug.passing) {
            self.arm_debug()?;
            self.look = true;
            return Ok(None);
        }
        Ok(Some(VcpuExit::Debug(stop)))
    }

    /// A step came out for an access: once that is finished the instruction is done. Not every KVM
    /// says so by itself.
    fn step_finished(&mut self) -> Result<Option<VcpuExit>, AccelError> {
        self.finish()?;
        match self.deferred.take() {
            None if self.debug.steps() => self.stepped(DebugStop::Step),
            other => Ok(other),
        }
    }

    /// Whether the instruction at a linear address is HLT.
    fn halts_at(&self, linear: u64) -> bool {
        self.byte_at(linear) == Some(HLT)
    }

    fn arm_debug(&self) -> Result<(), AccelError> {
        let set = self.fd.set_guest_debug(&self.debug.request());
        set.map_err(host("KVM_SET_GUEST_DEBUG"))
    }

    /// An MSR that is the board's, or that KVM does not know: #GP.
    fn msr(&mut self) -> Result<(), AccelError> {
        let run = self.fd.get_kvm_run();
        let write = run.exit_reason == KVM_EXIT_X86_WRMSR;
        // SAFETY: called for the two MSR exits, whose member of the union this is.
        let exit = unsafe { &mut run.__bindgen_anon_1.msr };
        let (index, data) = (exit.index, exit.data);
        let result = if index != APIC_BASE && !X2APIC.contains(&index) {
            Err(ApicRefused)
        } else if write {
            self.io.apic_msr_write(index, data).map(|()| data)
        } else {
            self.io.apic_msr_read(index)
        };
        exit.error = result.is_err().into();
        match result {
            Ok(value) => exit.data = value,
            Err(_) => {
                let what = if write { "WRMSR" } else { "RDMSR" };
                tracing::debug!(target: "kvm", "{what} {index:#x}: #GP");
            }
        }
        if write && index == APIC_BASE && result.is_ok() {
            self.tell_apic_base(data)?;
        }
        Ok(())
    }

    /// KVM's own copy of the APIC base decides CPUID.1:EDX.APIC.
    fn tell_apic_base(&mut self, data: u64) -> Result<(), AccelError> {
        let entry = kvm_msr_entry {
            index: APIC_BASE,
            data,
            ..Default::default()
        };
        if let Ok(msrs) = KvmMsrs::from_entries(&[entry])
            && self.fd.set_msrs(&msrs).map_err(host("KVM_SET_MSRS"))? == 1
        {
            self.apic_base = data;
        }
        Ok(())
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<VcpuExit, AccelError> {
        self.thread = kick::this_thread();
        self.look = true;
        loop {
            if let Some(exit) = self.deferred.take() {
                return Ok(exit);
            }
            let (look, back) = self.kicker.take();
            self.look |= look;
            if back {
                self.finish()?;
                return Ok(VcpuExit::Kicked);
            }
            if self.look
                && let Some(exit) = self.attend()?
            {
                return Ok(exit);
            }
            if self.deferred.is_some() || !self.kicker.enter(self.thread) {
                continue;
            }
            self.unfinished = false;
            if let Entered::Exit = self.enter()?
                && let Some(exit) = self.serve()?
            {
                return Ok(exit);
            }
            self.look |= self.window_is_open();
            if self.unfinished
                && self.debug.steps()
                && let Some(exit) = self.step_finished()?
            {
                return Ok(exit);
            }
        }
    }

    fn state(&mut self) -> Result<CpuState, AccelError> {
        self.finish()?;
        self.read()
    }

    fn leave(&mut self) -> Result<CpuState, AccelError> {
        let state = self.state()?;
        self.vm.memory.collect_dirty(&self.vm.fd)?;
        // The host's counter goes on meanwhile, at its own rate.
        self.held.tsc_offset.set(None);
        Ok(state)
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), AccelError> {
        self.finish()?;
        self.write(state)
    }

    fn set_debug(&mut self, points: &DebugPoints) -> Result<(), AccelError> {
        self.finish()?;
        if matches!(self.deferred, Some(VcpuExit::Debug(_))) {
            self.deferred = None;
        }
        // Nothing is set, should it be refused.
        self.debug = Debug::default();
        self.arm_debug()?;
        let mut debug = Debug::new(points)?;
        if self.vm.partial && !points.watchpoints.is_empty() {
            return Err(AccelError::PartialKvm {
                what: "watchpoints",
            });
        }
        if points.step || !points.breakpoints.is_empty() {
            let state = self.read()?;
            debug.passing = !points.step && debug.breaks_at(state.linear_rip());
            debug.behind_halt = self
                .halts_at(state.linear_rip())
                .then_some(state.rip.wrapping_add(1));
        }
        self.debug = debug;
        self.arm_debug()
            .inspect_err(|_| self.debug = Debug::default())
    }

    fn counters(&mut self) -> Counters {
        Counters {
            kernel: stats::read(&self.fd),
            ..Counters::default()
        }
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kicker) as Arc<dyn Kick>
    }
}

/// Port I/O: all items of the exit in one call.
fn port(run: &mut kvm_run, io: &dyn CpuIo) {
    // SAFETY: called for KVM_EXIT_IO, whose member of the union this is.
    let exit = unsafe { run.__bindgen_anon_1.io };
    let width = usize::from(exit.size);
    let start = (&raw mut *run).cast::<u8>();
    // SAFETY: the kernel says where in the vCPU's mapping it has put, or expects, `count` items
    // of `size` bytes; that is the page after `kvm_run`, so `run` itself is not aliased.
    let data = unsafe {
        std::slice::from_raw_parts_mut(
            start.add(exit.data_offset as usize),
            width * exit.count as usize,
        )
    };
    if u32::from(exit.direction) == KVM_EXIT_IO_IN {
        data.fill(0xFF);
        io.port_read(exit.port, width, data);
    } else {
        io.port_write(exit.port, width, data);
    }
}

/// An access to what no slot covers, or a write to a read-only slot.
fn mmio(run: &mut kvm_run, vm: &Shared, io: &dyn CpuIo) {
    // SAFETY: called for KVM_EXIT_MMIO, whose member of the union this is.
    let exit = unsafe { &mut run.__bindgen_anon_1.mmio };
    let write = exit.is_write != 0;
    let data = &mut exit.data[..(exit.len as usize).min(8)];
    let touch = if write {
        Touch::Write(data)
    } else {
        Touch::Read(data)
    };
    match vm.memory.touch(exit.phys_addr, touch) {
        Behind::Memory => {}
        // A write to a ROM too: the board knows whether it is lost or reaches RAM behind it.
        Behind::Device(address) if write => io.mmio_write(address, data),
        Behind::Device(address) => {
            data.fill(0xFF);
            io.mmio_read(address, data);
        }
    }
}

/// The suberror of KVM_EXIT_INTERNAL_ERROR, and the instruction where it is given.
fn internal(run: &kvm_run) -> (u32, Option<Bytes>) {
    // SAFETY: called for KVM_EXIT_INTERNAL_ERROR, whose member of the union this is.
    let suberror = unsafe { run.__bindgen_anon_1.internal }.suberror;
    // SAFETY: the emulation view of the same plain numbers.
    let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
    let given = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
    if suberror != KVM_INTERNAL_ERROR_EMULATION || failure.ndata < 3 || failure.flags & given == 0 {
        return (suberror, None);
    }
    // SAFETY: the flag says that the bytes are there.
    let insn = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
    let len = usize::from(insn.insn_size).min(insn.insn_bytes.len());
    (suberror, Some(Bytes::new(&insn.insn_bytes[..len])))
}
