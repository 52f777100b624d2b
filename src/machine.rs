//! The machine: a board and the processors that one engine runs.
//!
//! One thread runs the vCPU (today there is one), one more watches wall time: at a deadline of the
//! board it lets the devices catch up. In virtual time the vCPU's thread does both, so that two
//! runs are equal to the bit.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use accel::{Accel, AccelError, CpuModel, CpuState, DebugPoints, VcpuExit, VmConfig};
use devices::Clock;
use devices::backend::input::{Input, Key};
use devices::board::build::{Board, BoardError, Event, Listener, Parts};
use devices::board::{BoardOptions, Processor};
use devices::chips::CpuSignal;
use devices::memory_map::{MemoryMap, Target};
use devices::time::ManualTime;
use emu::io::{ApicRefused, CpuIo, Pending};
use emu::memory::{Block, MapError, Range};

use crate::control::{Control, Job, News, Pause};
use crate::engines::{Current, Engines, Reach, SwitchError};
use crate::exits::{Exit, ExitKind, Exits};
use crate::switch_option::SwitchAt;
use crate::time::{InstructionTime, WallTime};

/// Why a machine could not be built or run. Guest faults are never here: they are
/// [`emu::Exception`].
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The board could not be built.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The engine failed.
    #[error(transparent)]
    Accel(#[from] AccelError),
    /// The board's map is none an engine can take.
    #[error("the board's memory map cannot be used")]
    Map(#[from] MapError),
    /// A thread could not be started.
    #[error("no thread could be started")]
    Thread(#[from] io::Error),
    /// The machine could not move to another engine as planned.
    #[error("the machine cannot move to another engine: {0}")]
    Switch(#[from] Box<SwitchError>),
}

/// What a machine is built from.
pub struct MachineConfig {
    /// The board.
    pub board: BoardOptions,
    /// BIOS image and character backends.
    pub parts: Parts,
    /// The processor model.
    pub cpu: CpuModel,
    /// Virtual time at `2^shift` nanoseconds an instruction; wall time if absent.
    pub icount: Option<u32>,
    /// Time moves by hand alone ([`Machine::step_time_to`]), and the processor never runs (`-qtest`).
    pub by_hand: bool,
    /// A reset ends the run.
    pub no_reboot: bool,
    /// The run goes on, stopped, when the guest turns the machine off.
    pub no_shutdown: bool,
    /// What is in memory, and the processor's state, when the machine starts without firmware.
    pub boot: Option<Boot>,
    /// The machine's name (`-name`).
    pub name: Option<String>,
    /// The machine waits for [`Machine::resume`] before its first instruction (`-S`).
    pub paused: bool,
    /// Looks over the shoulder of software CPUs.
    pub observer: Option<accel::MakeObserver>,
    /// Where the machine moves to another engine; both must be there.
    pub switches: Vec<SwitchAt>,
}

impl MachineConfig {
    /// A machine in wall time that resets as the guest asks, and ends when it is turned off.
    pub fn new(board: BoardOptions, parts: Parts, cpu: CpuModel) -> Self {
        Self {
            board,
            parts,
            cpu,
            icount: None,
            by_hand: false,
            no_reboot: false,
            no_shutdown: false,
            boot: None,
            name: None,
            paused: false,
            observer: None,
            switches: Vec::new(),
        }
    }
}

/// What a machine is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its UUID; zero if it has none.
    pub uuid: [u8; 16],
    /// The engine it runs on.
    pub engine: &'static str,
}

/// How a machine without firmware starts: what a boot loader would have left.
pub struct Boot {
    /// What lies in memory: guest physical address and bytes.
    pub memory: Vec<(u64, Arc<[u8]>)>,
    /// Port writes that firmware would have done before: port and bytes.
    pub ports: Vec<(u16, Vec<u8>)>,
    /// Makes the processor's state of its state after reset.
    pub enter: Box<dyn Fn(&mut CpuState) + Send>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest turned the machine off.
    PowerOff,
    /// The guest ended the run with this status.
    Exit(u8),
    /// A reset, where resets end the run; by triple fault or as a device asked.
    Reset {
        /// It was a triple fault.
        triple_fault: bool,
    },
    /// [`Control::quit`] was called.
    Stopped,
}

/// Frequency of the time-stamp counter where the host's is not known: 1 GHz.
const TSC_HZ: u64 = 1_000_000_000;
/// Base of the local APIC's page after reset, and the bits of IA32_APIC_BASE that move it.
const APIC_PAGE: u64 = 0xFFF;
/// IA32_APIC_BASE: the APIC is enabled.
const APIC_ENABLED: u64 = 1 << 11;
/// The MSR itself.
const IA32_APIC_BASE: u32 = 0x1B;

/// A machine, ready to run.
pub struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engines: Engines,
    reset_state: CpuState,
    no_reboot: bool,
    no_shutdown: bool,
    boot: Option<Boot>,
    paused: Option<Pause>,
    watchers: Vec<mpsc::Sender<News>>,
    pub(crate) identity: Identity,
    input: Input,
}

/// What the vCPU's callbacks, the timer's thread and the machine's owner share.
pub(crate) struct Shared {
    pub(crate) board: Board,
    pub(crate) current: Current,
    pub(crate) clock: Clock,
    /// Rate of the time-stamp counter.
    tsc_hz: u64,
    wall_time: Option<Arc<WallTime>>,
    pub(crate) hand_time: Option<Arc<ManualTime>>,
    pub(crate) virtual_time: Option<Arc<InstructionTime>>,
    pub(crate) exits: Exits,
    wake: Wake,
    timer: Timer,
    /// Devices may change memory only between two runs of the vCPU ([`Accel::holds_time`]).
    holds_time: bool,
    /// The A20 gate as the board last told: it must not be asked while it tells.
    a20: AtomicBool,
}

/// Wakes a vCPU that waits in HLT, and carries what the loop must decide.
#[derive(Default)]
struct Wake {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Wanted {
    /// Something may be deliverable.
    signal: bool,
    event: Option<Event>,
    /// A memory map that the engine refused: the guest must not go on without it.
    refused_map: Option<VmError>,
    /// The run shall end.
    pub(crate) quit: bool,
    /// What other threads ask.
    pub(crate) jobs: Vec<Job>,
}

/// The deadline the timer's thread sleeps to.
#[derive(Default)]
struct Timer {
    /// Nanoseconds of guest time; [`u64::MAX`] for none.
    deadline: AtomicU64,
    /// The thread of the present run.
    thread: Mutex<Option<thread::Thread>>,
    finished: AtomicBool,
}

impl Machine {
    /// Builds a machine on an engine.
    ///
    /// # Errors
    /// If the board cannot be built or the engine refuses.
    pub fn new(config: MachineConfig, accel: &dyn Accel) -> Result<Self, VmError> {
        Self::with_engines(config, accel, &[])
    }

    /// Builds a machine that runs on an engine and can move to others: the guest sees a processor that
    /// all of them can run.
    ///
    /// # Errors
    /// If the board cannot be built or an engine refuses.
    pub fn with_engines(
        config: MachineConfig,
        accel: &dyn Accel,
        others: &[&dyn Accel],
    ) -> Result<Self, VmError> {
        let accels = || std::iter::once(accel).chain(others.iter().copied());
        let cpu = accels().try_fold(config.cpu.clone(), |cpu, accel| accel.shown(&cpu))?;
        let masked = config.cpu.beyond(&cpu);
        if !masked.is_empty() {
            let (model, masked) = (cpu.name, masked.join(", "));
            tracing::warn!(target: "machine", "CPU model {model}: without {masked}, which KVM lacks here");
        }
        let tsc_hz = accels().find_map(Accel::tsc_hz).unwrap_or(TSC_HZ);
        let virtual_time = config
            .icount
            .map(|shift| Arc::new(InstructionTime::new(shift)));
        let hand_time = config.by_hand.then(Arc::<ManualTime>::default);
        let mut wall_time = None;
        let clock = match (&hand_time, &virtual_time) {
            (Some(time), _) => Clock::new(Arc::clone(time) as _),
            (None, Some(time)) => Clock::new(Arc::clone(time) as _),
            (None, None) => Clock::new(wall_time.insert(Arc::<WallTime>::default()).clone() as _),
        };
        let options = BoardOptions {
            processor: told(&cpu),
            ..config.board
        };
        let identity = Identity {
            name: config.name,
            uuid: options.uuid,
            engine: accel.name(),
        };
        let input = config.parts.input.clone();
        let board = Board::new(options, config.parts, clock.clone())?;
        let reset_state = CpuState::reset(cpu.signature());
        let vm_config = VmConfig {
            cpu,
            tsc_hz,
            virtual_time: virtual_time.as_ref().map(|t| Arc::clone(&t.instructions)),
            observer: config.observer,
        };
        let vm = accel.create_vm(&vm_config)?;
        vm.set_memory_map(engine_map(&board.map(), board.a20())?)?;
        let shared = Arc::new(Shared {
            board,
            current: Current::new(Arc::clone(&vm)),
            clock,
            tsc_hz,
            wall_time,
            hand_time,
            virtual_time,
            exits: Exits::default(),
            wake: Wake::default(),
            timer: Timer::default(),
            holds_time: accels().any(Accel::holds_time),
            a20: AtomicBool::new(true),
        });
        let weak = Arc::downgrade(&shared);
        for block in shared.board.all_blocks() {
            let weak = Weak::clone(&weak);
            let hook = move || {
                if let Some(shared) = weak.upgrade() {
                    shared.current.vm().code_written();
                }
            };
            block.marks().on_code_written(Arc::new(hook));
        }
        tracing::trace!(target: "exits", "create VM ({}), vCPU 0", accel.name());
        let vcpu = vm.create_vcpu(0, shared.access())?;
        shared.current.set(Reach {
            vm: Arc::clone(&vm),
            kick: Some(vcpu.kicker()),
        });
        shared.board.connect(Arc::new(Port(Weak::clone(&weak))));
        shared.board.chips().connect_cpu(0, Arc::new(Port(weak)));
        let mut machine = Self {
            shared,
            engines: Engines::new(accel.name(), vm, vcpu, vm_config),
            reset_state,
            no_reboot: config.no_reboot,
            no_shutdown: config.no_shutdown,
            boot: config.boot,
            paused: None,
            watchers: Vec::new(),
            identity,
            input,
        };
        for other in others {
            machine.add_engine(*other).map_err(Box::new)?;
        }
        machine.engines.set_plan(config.switches);
        machine.arm_plan();
        machine.start()?;
        if config.paused || config.by_hand {
            machine.pause(Pause::Prelaunch);
        }
        Ok(machine)
    }

    /// The board, to look at while no run is under way or from another thread.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// The flow of the run.
    pub fn exits(&self) -> &Exits {
        &self.shared.exits
    }

    /// The processor's state, between runs.
    ///
    /// # Errors
    /// If the engine refuses.
    pub fn state(&mut self) -> Result<CpuState, VmError> {
        Ok(self.engines.vcpu().state()?)
    }

    /// Replaces the processor's state.
    ///
    /// # Errors
    /// If the engine refuses.
    pub fn set_state(&mut self, state: &CpuState) -> Result<(), VmError> {
        Ok(self.engines.vcpu().set_state(state)?)
    }

    /// What the machine stops at for a debugger, see [`accel::Vcpu::set_debug`].
    ///
    /// # Errors
    /// If the engine cannot.
    pub fn set_debug(&mut self, points: &DebugPoints) -> Result<(), VmError> {
        Ok(self.engines.set_debug(points)?)
    }

    /// This machine, as other threads reach it.
    pub fn control(&self) -> Control {
        Control::new(&self.shared)
    }

    /// What the machine is called.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A key of the user's goes down or up.
    pub fn press_key(&self, key: Key, down: bool) {
        self.input.key(key, down);
        self.shared.poll_device("i8042");
    }

    /// The user presses the power button.
    pub fn press_power(&self) {
        self.input.press_power();
        self.shared.poll_device("piix4_pm");
    }

    /// Why the machine stands still, if it does.
    pub fn paused(&self) -> Option<Pause> {
        self.paused
    }

    /// Stops the processor and guest time.
    pub fn pause(&mut self, why: Pause) {
        if self.paused.replace(why).is_none()
            && let Some(time) = &self.shared.wall_time
        {
            time.pause();
        }
        self.tell(News::Paused(why));
    }

    /// Does `f` while guest time stands still, which it does not notice.
    pub(crate) fn without_time(&mut self, f: impl FnOnce()) {
        let time = self.shared.wall_time.as_ref();
        let Some(time) = time.filter(|_| self.paused.is_none()) else {
            return f();
        };
        time.pause();
        f();
        time.resume();
        self.shared.poll();
        self.shared.timer.unpark();
    }

    /// Goes on; a machine whose time is moved by hand does not.
    pub fn resume(&mut self) {
        if self.shared.hand_time.is_some() || self.paused.take().is_none() {
            return;
        }
        if let Some(time) = &self.shared.wall_time {
            time.resume();
        }
        self.shared.poll();
        self.shared.timer.unpark();
        self.tell(News::Resumed);
    }

    /// Tells when the machine stops and goes on, from now on.
    pub fn watch(&mut self) -> mpsc::Receiver<News> {
        let (sender, receiver) = mpsc::channel();
        self.watchers.push(sender);
        receiver
    }

    fn tell(&mut self, news: News) {
        self.watchers.retain(|watcher| watcher.send(news).is_ok());
    }

    /// Does a reset that a device has asked for now, not before the next instruction.
    ///
    /// # Errors
    /// If the engine refuses.
    pub fn reset_if_asked(&mut self) -> Result<(), VmError> {
        let event = self
            .shared
            .wake
            .lock()
            .event
            .take_if(|event| *event == Event::Reset);
        if event.is_some() && !self.no_reboot {
            self.reset()?;
        }
        Ok(())
    }

    /// As the reset button: takes effect before the next instruction.
    pub fn request_reset(&mut self) {
        self.shared.want(|wanted| wanted.event = Some(Event::Reset));
    }

    /// Runs until the guest or [`Control::quit`] ends it.
    ///
    /// # Errors
    /// For host errors and exits nobody can serve.
    pub fn run(&mut self) -> Result<Outcome, VmError> {
        if self.shared.wall_time.is_none() {
            return self.run_vcpu();
        }
        let shared = Arc::clone(&self.shared);
        shared.timer.start();
        thread::scope(|scope| {
            let timer = thread::Builder::new().name("timer".into());
            let timer = timer.spawn_scoped(scope, || shared.watch_time())?;
            shared.timer.watched_by(timer.thread().clone());
            let outcome = self.run_vcpu();
            shared.timer.finish();
            outcome
        })
    }

    fn run_vcpu(&mut self) -> Result<Outcome, VmError> {
        let shared = Arc::clone(&self.shared);
        shared.poll();
        loop {
            if let Some(outcome) = self.attend()? {
                return Ok(outcome);
            }
            if self.paused.is_some() {
                shared.wait(|_| false);
                continue;
            }
            self.follow_plan()?;
            if self.paused.is_some() {
                continue;
            }
            tracing::trace!(target: "exits", "run");
            match self.engines.vcpu().run()? {
                VcpuExit::Halted => {
                    shared.note(ExitKind::Halt);
                    shared.wait_halted();
                }
                VcpuExit::Kicked => {}
                VcpuExit::Debug(stop) if self.engines.is_planned(stop) => {}
                VcpuExit::Debug(stop) => self.pause(Pause::Debug(stop)),
                VcpuExit::TripleFault => {
                    shared.note(ExitKind::TripleFault);
                    if self.no_reboot {
                        return Ok(Outcome::Reset { triple_fault: true });
                    }
                    self.reset()?;
                }
            }
            if shared.virtual_time.is_some() {
                shared.poll();
            }
        }
    }

    /// Does what devices and other threads want; returns how the run ends, if it does.
    fn attend(&mut self) -> Result<Option<Outcome>, VmError> {
        let wanted = self.shared.wake.take();
        if let Some(error) = wanted.refused_map {
            return Err(error);
        }
        match wanted.event {
            Some(Event::Exit(status)) => return Ok(Some(Outcome::Exit(status))),
            Some(Event::PowerOff) if self.no_shutdown => self.pause(Pause::Shutdown),
            Some(Event::PowerOff) => return Ok(Some(Outcome::PowerOff)),
            Some(Event::Reset) if self.no_reboot => {
                return Ok(Some(Outcome::Reset {
                    triple_fault: false,
                }));
            }
            Some(Event::Reset) => self.reset()?,
            None => {}
        }
        for job in wanted.jobs {
            job(self);
        }
        Ok(wanted.quit.then_some(Outcome::Stopped))
    }

    fn reset(&mut self) -> Result<(), VmError> {
        self.shared.note(ExitKind::Reset);
        if self.paused.is_some() {
            // It stands still before its first instruction again; a machine that was off can go on.
            self.paused = Some(Pause::Prelaunch);
        }
        self.shared.board.reset();
        self.engines.vcpu().set_state(&self.reset_state)?;
        self.start()
    }

    /// Puts in place what firmware would, where there is none.
    fn start(&mut self) -> Result<(), VmError> {
        let Some(boot) = &self.boot else {
            return Ok(());
        };
        let board = &self.shared.board;
        for (port, bytes) in &boot.ports {
            board.port_write(*port, bytes);
        }
        for (address, bytes) in &boot.memory {
            board.map().bus_master().write(*address, bytes);
        }
        let mut state = self.reset_state.clone();
        (boot.enter)(&mut state);
        self.engines.vcpu().set_state(&state)?;
        Ok(())
    }
}

impl Wake {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Wanted {
        std::mem::take(&mut *self.lock())
    }
}

impl Timer {
    /// The board has a new deadline: the thread must not oversleep it.
    fn set(&self, deadline: Option<Duration>) {
        let ns = deadline.map_or(u64::MAX, |d| {
            u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
        });
        let before = self.deadline.fetch_min(ns, Ordering::AcqRel);
        if ns < before {
            self.unpark();
        }
    }

    fn start(&self) {
        self.deadline.store(u64::MAX, Ordering::Release);
        self.finished.store(false, Ordering::Release);
    }

    fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.unpark();
    }

    fn unpark(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.unpark();
        }
    }

    fn watched_by(&self, thread: thread::Thread) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }
}

impl Shared {
    fn note(&self, kind: ExitKind) {
        self.exits.note(Exit {
            kind,
            address: 0,
            width: 0,
            data: 0,
        });
    }

    /// Lets the devices catch up with guest time.
    fn poll(&self) {
        let deadline = self.board.poll();
        self.arm(deadline);
    }

    /// As [`Shared::poll`], from a thread that is not the vCPU's.
    fn poll_when_allowed(&self) {
        if self.holds_time {
            let poll: Job = Box::new(|machine: &mut Machine| machine.shared.poll());
            self.want(|wanted| wanted.jobs.push(poll));
        } else {
            self.poll();
        }
    }

    fn arm(&self, deadline: Option<Duration>) {
        match &self.virtual_time {
            Some(time) => time.stop_at(deadline),
            None => self.timer.set(deadline),
        }
    }

    /// After an access: the board's next deadline may have moved.
    fn accessed(&self) {
        self.arm(self.board.next_deadline());
        if self.exits.stops_here() {
            self.kick();
        }
    }

    pub(crate) fn kick(&self) {
        self.current.kick(|kick| kick.kick());
    }

    /// The machine as a processor reaches it.
    pub(crate) fn access(self: &Arc<Self>) -> Arc<dyn CpuIo> {
        Arc::new(Access(Arc::clone(self)))
    }

    /// Input for a device has come.
    pub(crate) fn poll_device(&self, name: &str) {
        if self.holds_time {
            return self.poll_when_allowed();
        }
        let deadline = self.board.poll_device(name);
        self.arm(deadline);
    }

    pub(crate) fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wake.lock());
        self.wake.changed.notify_all();
        self.kick();
    }

    /// Waits, halted, until something may be deliverable.
    fn wait_halted(&self) {
        if let Some(time) = &self.virtual_time {
            // What is pending now cannot wake it, or the processor would not have halted.
            if let Some(deadline) = self.board.next_deadline() {
                time.skip_to(deadline);
                return;
            }
        }
        self.wait(|wanted| wanted.signal);
    }

    /// Waits until there is something to attend to, or `also`.
    fn wait(&self, also: impl Fn(&Wanted) -> bool) {
        let mut wanted = self.wake.lock();
        let attended = |wanted: &Wanted| {
            wanted.quit
                || wanted.event.is_some()
                || wanted.refused_map.is_some()
                || !wanted.jobs.is_empty()
        };
        while !(attended(&wanted) || also(&wanted)) {
            wanted = self
                .wake
                .changed
                .wait(wanted)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The timer's thread: sleeps to the board's deadline, polls, and again.
    fn watch_time(&self) {
        loop {
            // A flag of its own: a deadline may still be set while the run ends.
            if self.timer.finished.load(Ordering::Acquire) {
                return;
            }
            let deadline = self.timer.deadline.load(Ordering::Acquire);
            let now = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
            if deadline > now {
                let sleep = Duration::from_nanos(deadline - now).min(Duration::from_secs(3600));
                thread::park_timeout(sleep);
                continue;
            }
            // From here on a deadline set by an access counts again.
            let swapped = self.timer.deadline.compare_exchange(
                deadline,
                u64::MAX,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if swapped.is_ok() {
                self.poll_when_allowed();
            }
        }
    }

    /// The processor's local APIC page, if it is enabled and `address` lies in it.
    fn apic_offset(&self, address: u64) -> Option<u32> {
        let base = self.board.chips().apic_base(0);
        let inside = base & APIC_ENABLED != 0 && address & !APIC_PAGE == base & !APIC_PAGE;
        inside.then_some((address & APIC_PAGE) as u32)
    }

    fn apic_read(&self, offset: u32, data: &mut [u8]) {
        let value = self.board.chips().apic_read(0, offset & !3).to_le_bytes();
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = value[(offset as usize + at) % 4];
        }
    }

    fn apic_write(&self, offset: u32, data: &[u8]) {
        // Only aligned 32-bit writes mean something (SDM Vol. 3A, "The Local APIC Block Diagram").
        if let Ok(&value) = <&[u8; 4]>::try_from(data) {
            self.board
                .chips()
                .apic_write(0, offset, u32::from_le_bytes(value));
        } else {
            tracing::debug!(target: "lapic", offset, len = data.len(), "write of a wrong width");
        }
    }
}

/// The machine as the board and the interrupt chips reach it. Weak: it owns them.
struct Port(Weak<Shared>);

impl Port {
    fn with<T>(&self, f: impl FnOnce(&Shared) -> T, gone: T) -> T {
        self.0.upgrade().map_or(gone, |shared| f(&shared))
    }
}

/// The machine as a vCPU reaches it.
struct Access(Arc<Shared>);

impl CpuIo for Access {
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]) {
        let shared = &self.0;
        shared.board.port_read_items(port, width, data);
        shared
            .exits
            .note_items(ExitKind::In, port.into(), width, data);
        shared.accessed();
    }

    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        let shared = &self.0;
        shared
            .exits
            .note_items(ExitKind::Out, port.into(), width, data);
        shared.board.port_write_items(port, width, data);
        shared.accessed();
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        let shared = &self.0;
        data.fill(0xFF);
        match shared.apic_offset(address) {
            Some(offset) => shared.apic_read(offset, data),
            None => shared.board.mmio_read(address, data),
        }
        shared
            .exits
            .note_items(ExitKind::MmioRead, address, data.len(), data);
        shared.accessed();
    }

    fn mmio_write(&self, address: u64, data: &[u8]) {
        let shared = &self.0;
        shared
            .exits
            .note_items(ExitKind::MmioWrite, address, data.len(), data);
        match shared.apic_offset(address) {
            Some(offset) => shared.apic_write(offset, data),
            None => shared.board.mmio_write(address, data),
        }
        shared.accessed();
    }

    fn pending(&self) -> Pending {
        let events = self.0.board.chips().pending(0);
        let mut pending = Pending::empty();
        pending.set(Pending::INTERRUPT, events.interrupt);
        pending.set(Pending::NMI, events.nmi);
        pending.set(Pending::SMI, events.smi);
        pending.set(Pending::INIT, events.init);
        pending.set(Pending::SIPI, events.sipi.is_some());
        pending
    }

    fn ack_interrupt(&self) -> Option<u8> {
        let shared = &self.0;
        let vector = shared.board.chips().acknowledge(0)?;
        let data = vector.into();
        shared.exits.note(Exit {
            kind: ExitKind::Interrupt,
            address: 0,
            width: 1,
            data,
        });
        Some(vector)
    }

    fn take(&self, which: Pending) -> u8 {
        let shared = &self.0;
        let chips = shared.board.chips();
        match which {
            Pending::NMI => u8::from(chips.take_nmi(0)),
            Pending::SMI => u8::from(chips.take_smi(0)),
            Pending::INIT => u8::from(chips.take_init(0)),
            Pending::SIPI => chips.take_sipi(0).unwrap_or(0),
            _ => 0,
        }
    }

    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused> {
        let shared = &self.0;
        if msr != IA32_APIC_BASE {
            return Err(ApicRefused);
        }
        Ok(shared.board.chips().apic_base(0))
    }

    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused> {
        let shared = &self.0;
        if msr != IA32_APIC_BASE {
            return Err(ApicRefused);
        }
        shared
            .board
            .chips()
            .set_apic_base(0, value)
            .map_err(|_| ApicRefused)
    }

    fn tpr(&self) -> u8 {
        self.0.board.chips().tpr(0)
    }

    fn set_tpr(&self, cr8: u8) {
        self.0.board.chips().set_tpr(0, cr8);
    }

    fn set_ferr(&self, asserted: bool) {
        self.0.board.set_ferr(asserted);
    }

    fn ignne(&self) -> bool {
        self.0.board.ignne()
    }

    fn tsc(&self) -> u64 {
        let now = self.0.clock.now();
        // The remainder of the second apart: no division of 128 bits.
        let hz = self.0.tsc_hz;
        now.as_secs()
            .wrapping_mul(hz)
            .wrapping_add(u64::from(now.subsec_nanos()) * hz / 1_000_000_000)
    }
}

impl CpuSignal for Port {
    fn signal(&self) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        // The processor first: woken from HLT, it must know by then.
        shared.current.kick(|kick| kick.signal());
        shared.wake.lock().signal = true;
        shared.wake.changed.notify_all();
    }
}

impl Listener for Port {
    fn map_changed(&self, map: &Arc<MemoryMap>) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        shared.set_map(map);
    }

    fn a20_changed(&self, open: bool) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        shared.a20.store(open, Ordering::Release);
        shared.set_map(&shared.board.map());
    }

    fn event(&self, event: Event) {
        self.with(
            |shared| shared.want(|wanted| wanted.event = Some(event)),
            (),
        );
    }
}

impl Shared {
    /// Shows the engine the present map.
    pub(crate) fn show_map(&self) -> Result<(), VmError> {
        self.show(&self.board.map())
    }

    fn show(&self, map: &MemoryMap) -> Result<(), VmError> {
        let map = engine_map(map, self.a20.load(Ordering::Acquire))?;
        Ok(self.current.vm().set_memory_map(map)?)
    }

    fn set_map(&self, map: &MemoryMap) {
        if let Err(error) = self.show(map) {
            tracing::error!(target: "machine", %error, "the new memory map was refused: the run ends");
            self.want(|wanted| wanted.refused_map = Some(error));
        }
    }
}

/// What firmware is told of the processors.
fn told(cpu: &CpuModel) -> Processor {
    let [signature, _, _, features] = cpu.leaf(1, 0);
    Processor {
        signature,
        features,
        amd: cpu.amd(),
    }
}

/// The board's CPU view in the engines' words.
fn engine_map(map: &MemoryMap, a20: bool) -> Result<emu::MemoryMap, MapError> {
    let ranges = map
        .cpu()
        .ranges()
        .iter()
        .filter_map(|range| match &range.target {
            Target::Block {
                block,
                offset,
                read_only,
                log_dirty,
            } => Some(Range {
                start: range.first,
                len: range.last - range.first + 1,
                block: Block {
                    host: std::ptr::NonNull::new(block.host())?,
                    len: block.size(),
                    marks: block.marks().bytes(),
                    owner: Arc::clone(block) as _,
                },
                offset: *offset,
                read_only: *read_only,
                log_dirty: *log_dirty,
            }),
            Target::Msi => None,
        });
    emu::MemoryMap::new(ranges.collect(), a20)
}

/// How long a run took, for reports.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = f();
    (value, start.elapsed())
}
