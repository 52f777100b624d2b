//! The interrupt chips behind one lock: the 8259 pair, the IOAPIC, and a local APIC per processor.
//!
//! Devices reach them by [`IrqLine`](crate::IrqLine)s (input = global system interrupt), processors
//! by their index. An end of interrupt that is broadcast, an interprocessor interrupt and an MSI are
//! loops in here, never calls from chip to chip. The lock is taken last of all and for one
//! operation; [`CpuSignal`]s are given after it has been dropped.
//!
//! Wiring, as on a stock `-M pc`: inputs 0 to 15 go to the 8259 pair and to the IOAPIC, where input
//! 0 is pin 2 (the MADT says so) and pin 0 stays open; 16 to 23 go to the IOAPIC only. So does input 2,
//! which no ISA device has: it is pin 2 without the 8259 (the HPET), ORed with input 0. INTR of the
//! pair drives LINT0 of *every* local APIC: who listens is the LVT's choice ("virtual wire"). LINT1
//! is NMI.
//!
//! A request withdrawn before INTA (a level input that fell) is no interrupt at all here: INTA only
//! runs while there is something to acknowledge. What the 8259 has latched, and cannot find anymore
//! when asked, comes out as spurious IRQ7 or IRQ15.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::i8259::{Chip, I8259Pair};
use crate::ioapic::{IoApic, PINS};
use crate::irq::IrqSink;
pub use crate::lapic::ReservedBits;
use crate::lapic::message::{Delivery, Message};
use crate::lapic::{Effect, LocalApic, Pin};
use crate::{At, Clock, Device, RestoreError, State};

/// Processors at most: the IDs of xAPIC but for the broadcast.
pub const MAX_CPUS: u32 = 255;
/// The IOAPIC pin of ISA interrupt 0.
const TIMER_PIN: usize = 2;
/// Version of the saved state.
const STATE_VERSION: u32 = 1;
/// What a listener is told of the 8259 pair's INTR as, see [`InterruptChips::listen`].
pub const INTR: u32 = 0x200;

/// Tells a processor's thread that [`InterruptChips::pending`] has something new for it.
///
/// Called on the thread that caused it, with no lock of the chips held.
pub trait CpuSignal: Send + Sync {
    /// Something is pending that was not before.
    fn signal(&self);
}

/// What waits for a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuEvents {
    /// INTR: [`InterruptChips::acknowledge`] has a vector.
    pub interrupt: bool,
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// A system management interrupt.
    pub smi: bool,
    /// An INIT.
    pub init: bool,
    /// A start-up message with its page.
    pub sipi: Option<u8>,
}

impl CpuEvents {
    const INTERRUPT: u32 = 1 << 0;
    const NMI: u32 = 1 << 1;
    const SMI: u32 = 1 << 2;
    const INIT: u32 = 1 << 3;
    const SIPI: u32 = 1 << 4;
    const SIPI_PAGE_SHIFT: u32 = 8;

    /// Whether anything waits.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    fn to_bits(self) -> u32 {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        flag(self.interrupt, Self::INTERRUPT)
            | flag(self.nmi, Self::NMI)
            | flag(self.smi, Self::SMI)
            | flag(self.init, Self::INIT)
            | self.sipi.map_or(0, |page| {
                Self::SIPI | u32::from(page) << Self::SIPI_PAGE_SHIFT
            })
    }

    fn from_bits(bits: u32) -> Self {
        Self {
            interrupt: bits & Self::INTERRUPT != 0,
            nmi: bits & Self::NMI != 0,
            smi: bits & Self::SMI != 0,
            init: bits & Self::INIT != 0,
            sipi: (bits & Self::SIPI != 0).then_some((bits >> Self::SIPI_PAGE_SHIFT) as u8),
        }
    }
}

/// The chips' registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chips {
    pic: I8259Pair,
    ioapic: IoApic,
    lapics: Vec<LocalApic>,
    /// Who won the last lowest-priority arbitration: ties go to the next one.
    last_lowest: u32,
    /// The levels of inputs 0 and 2, which share an IOAPIC pin.
    timer_pin: [bool; 2],
}

impl Chips {
    /// Carries a message to the local APICs it addresses; whether one accepted it.
    fn send(&mut self, message: &Message) -> bool {
        if message.delivery == Delivery::LowestPriority {
            return self.send_to_lowest(message);
        }
        let mut accepted = false;
        for apic in &mut self.lapics {
            accepted |= apic.is_addressed(message.target) && apic.accept(message);
        }
        accepted
    }

    /// "Lowest Priority Delivery Mode": the lowest task priority wins; equals take turns.
    fn send_to_lowest(&mut self, message: &Message) -> bool {
        let count = self.lapics.len();
        let first = self.last_lowest as usize + 1;
        let winner = (first..first + count)
            .map(|turn| turn % count)
            .filter(|&cpu| {
                self.lapics[cpu].is_addressed(message.target) && self.lapics[cpu].accepts_vectors()
            })
            .min_by_key(|&cpu| self.lapics[cpu].tpr() >> 4);
        let Some(cpu) = winner else { return false };
        self.last_lowest = cpu as u32;
        self.lapics[cpu].accept(message)
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::EndOfInterrupt(vector) => self.ioapic.end_of_interrupt(vector),
            Effect::Send(message) => _ = self.send(&message),
        }
    }

    /// The IOAPIC pin of an input, and its level when the input's is `level`; none exists from 24 on.
    fn ioapic_pin(&mut self, input: u32, level: bool) -> (usize, bool) {
        match input {
            0 | 2 => {
                self.timer_pin[usize::from(input == 2)] = level;
                (TIMER_PIN, self.timer_pin != [false; 2])
            }
            _ => (input as usize, level),
        }
    }

    /// Lets what one chip drives arrive at the next: 8259 to LINT0, IOAPIC pins to local APICs.
    fn settle(&mut self) {
        let intr = self.pic.output();
        for apic in &mut self.lapics {
            apic.set_pin(Pin::Lint0, intr);
        }
        if !self.ioapic.is_active() {
            return;
        }
        for pin in 0..PINS {
            if let Some(message) = self.ioapic.request(pin) {
                let accepted = self.send(&message);
                self.ioapic.sent(pin, accepted);
            }
        }
    }

    fn events(&self, cpu: usize) -> CpuEvents {
        let apic = &self.lapics[cpu];
        let latched = apic.latched;
        CpuEvents {
            interrupt: apic.deliverable().is_some() || apic.wants_8259(),
            nmi: latched.nmi,
            smi: latched.smi,
            init: latched.init,
            sipi: latched.sipi,
        }
    }

    fn acknowledge(&mut self, cpu: usize) -> Option<u8> {
        let apic = &mut self.lapics[cpu];
        if let Some(vector) = apic.acknowledge() {
            return Some(vector);
        }
        if !apic.wants_8259() {
            return None;
        }
        apic.latched.ext_int = false;
        Some(self.pic.acknowledge())
    }
}

/// A processor's side: what was last seen to wait for it, and whom to tell.
#[derive(Default)]
struct Port {
    events: AtomicU32,
    signal: RwLock<Option<Arc<dyn CpuSignal>>>,
}

impl Port {
    fn signal(&self) {
        let signal = self.signal.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = &*signal {
            signal.signal();
        }
    }
}

/// A set of processor indices.
#[derive(Default)]
struct CpuSet([u64; 4]);

impl CpuSet {
    fn insert(&mut self, cpu: usize) {
        self.0[cpu / 64] |= 1 << (cpu % 64);
    }

    fn contains(&self, cpu: usize) -> bool {
        self.0[cpu / 64] & 1 << (cpu % 64) != 0
    }
}

/// The chips as they were at one moment: copies, which can be read without an effect on the machine.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The 8259 pair.
    pub pic: I8259Pair,
    /// The IOAPIC.
    pub ioapic: IoApic,
    /// The local APICs, one a processor.
    pub lapics: Vec<LocalApic>,
    /// Guest time of the copy.
    pub now: Duration,
}

/// The 8259 pair, the IOAPIC and the local APICs of a machine.
///
/// Methods with a `cpu` panic if there is no such processor: the index comes from the board.
pub struct InterruptChips {
    clock: Clock,
    ports: Vec<Port>,
    chips: Mutex<Chips>,
    /// When the next local APIC timer is due, in nanoseconds; [`u64::MAX`] for never.
    deadline: AtomicU64,
    listener: OnceLock<Arc<dyn IrqSink>>,
}

impl InterruptChips {
    /// The chips of a machine with `cpus` processors, after reset.
    ///
    /// # Panics
    /// If `cpus` is zero or above [`MAX_CPUS`].
    pub fn new(clock: Clock, cpus: u32) -> Arc<Self> {
        assert!(
            (1..=MAX_CPUS).contains(&cpus),
            "{cpus} local APICs; 1 to {MAX_CPUS} have an ID"
        );
        let chips = Chips {
            pic: I8259Pair::default(),
            ioapic: IoApic::default(),
            lapics: (0..cpus).map(|cpu| LocalApic::new(cpu as u8)).collect(),
            last_lowest: 0,
            timer_pin: [false; 2],
        };
        Arc::new(Self {
            clock,
            ports: (0..cpus).map(|_| Port::default()).collect(),
            chips: Mutex::new(chips),
            deadline: AtomicU64::new(u64::MAX),
            listener: OnceLock::new(),
        })
    }

    /// Tells a tester what arrives: levels of inputs as devices drive them, and that of [`INTR`] after each
    /// operation, changed or not. It is told with no lock of the chips held. The first one counts.
    pub fn listen(&self, listener: Arc<dyn IrqSink>) {
        if self.listener.set(listener).is_err() {
            tracing::debug!(target: "chips", "somebody listens already");
        }
    }

    /// A tester drives a pin of the IOAPIC alone, past the devices' wires.
    pub fn drive_ioapic(&self, pin: u32, level: bool) {
        let pin = pin as usize;
        if pin < PINS {
            self.update(|chips| chips.ioapic.set_level(pin, level));
        }
    }

    /// A tester drives an input of the 8259 pair alone, past the devices' wires.
    pub fn drive_8259(&self, irq: u32, level: bool) {
        if let Some(irq) = isa_irq(irq) {
            self.update(|chips| chips.pic.set_level(irq, level));
        }
    }

    /// Number of processors.
    pub fn cpus(&self) -> u32 {
        self.ports.len() as u32
    }

    /// Connects (or, with another engine, connects anew) the thread of processor `cpu`.
    pub fn connect_cpu(&self, cpu: u32, signal: Arc<dyn CpuSignal>) {
        let port = &self.ports[cpu as usize];
        *port.signal.write().unwrap_or_else(PoisonError::into_inner) = Some(signal);
        if self.pending(cpu).any() {
            port.signal();
        }
    }

    /// What waits for processor `cpu`: one atomic load.
    pub fn pending(&self, cpu: u32) -> CpuEvents {
        CpuEvents::from_bits(self.ports[cpu as usize].events.load(Ordering::Acquire))
    }

    /// INTA of processor `cpu`: the vector, from its local APIC by priority, else from the 8259 if
    /// that reaches it. None if there is nothing to acknowledge (anymore).
    pub fn acknowledge(&self, cpu: u32) -> Option<u8> {
        self.update(|chips| chips.acknowledge(cpu as usize))
    }

    /// Takes a waiting NMI.
    pub fn take_nmi(&self, cpu: u32) -> bool {
        self.update(|chips| std::mem::take(&mut chips.lapics[cpu as usize].latched.nmi))
    }

    /// Takes a waiting SMI.
    pub fn take_smi(&self, cpu: u32) -> bool {
        self.update(|chips| std::mem::take(&mut chips.lapics[cpu as usize].latched.smi))
    }

    /// Takes a waiting INIT; the local APIC is initialised by it, a waiting NMI is dropped.
    pub fn take_init(&self, cpu: u32) -> bool {
        self.update(|chips| {
            let apic = &mut chips.lapics[cpu as usize];
            let taken = apic.latched.init;
            if taken {
                apic.init();
            }
            taken
        })
    }

    /// Takes a waiting start-up message. A processor that does not wait for one takes it and drops
    /// it: start-up is ignored outside the wait-for-SIPI state.
    pub fn take_sipi(&self, cpu: u32) -> Option<u8> {
        self.update(|chips| chips.lapics[cpu as usize].latched.sipi.take())
    }

    /// IA32_APIC_BASE.
    pub fn apic_base(&self, cpu: u32) -> u64 {
        self.lock().lapics[cpu as usize].base()
    }

    /// Writes IA32_APIC_BASE.
    ///
    /// # Errors
    /// If reserved bits are set: #GP(0). Bits above the guest's physical address width are for the
    /// caller to check.
    pub fn set_apic_base(&self, cpu: u32, value: u64) -> Result<(), ReservedBits> {
        self.update(|chips| chips.lapics[cpu as usize].set_base(value))
    }

    /// CR8: bits 7 to 4 of the task priority.
    pub fn tpr(&self, cpu: u32) -> u8 {
        self.lock().lapics[cpu as usize].tpr() >> 4
    }

    /// Writes CR8: bits 7 to 4 of the task priority; bits 3 to 0 become zero.
    pub fn set_tpr(&self, cpu: u32, cr8: u8) {
        self.update(|chips| chips.lapics[cpu as usize].set_tpr(cr8 << 4));
    }

    /// Reads the 32-bit register at `offset` in processor `cpu`'s APIC page.
    pub fn apic_read(&self, cpu: u32, offset: u32) -> u32 {
        let now = self.clock.now();
        self.update(|chips| chips.lapics[cpu as usize].read(offset, now))
    }

    /// Writes the 32-bit register at `offset` in processor `cpu`'s APIC page. It may start the
    /// timer: ask [`deadline`](Self::deadline) afterwards.
    pub fn apic_write(&self, cpu: u32, offset: u32, value: u32) {
        let now = self.clock.now();
        self.update(|chips| {
            if let Some(effect) = chips.lapics[cpu as usize].write(offset, value, now) {
                chips.apply(effect);
            }
        });
    }

    /// A bus master's write of `data` to the message window at FEE00000h.
    pub fn deliver_msi(&self, address: u64, data: u32) {
        match Message::from_msi(address, data) {
            Some(message) => _ = self.update(|chips| chips.send(&message)),
            None => tracing::debug!(target: "chips", "no MSI: {data:#x} to {address:#x}"),
        }
    }

    /// The end of a level-triggered interrupt, from a local APIC that is not one of these.
    pub fn end_of_interrupt(&self, vector: u8) {
        self.update(|chips| chips.ioapic.end_of_interrupt(vector));
    }

    /// A system management interrupt to every processor (the chipset's SMI# pin).
    pub fn raise_smi(&self) {
        self.update(|chips| {
            for apic in &mut chips.lapics {
                apic.latched.smi = true;
            }
        });
    }

    /// An INIT to processor `cpu` (the chipset's INIT# pin).
    pub fn raise_init(&self, cpu: u32) {
        self.update(|chips| {
            let latched = &mut chips.lapics[cpu as usize].latched;
            latched.init = true;
            latched.sipi = None;
        });
    }

    /// An edge on the NMI pin of every processor: LINT1, whose LVT entry says what becomes of it.
    pub fn pulse_nmi(&self) {
        self.update(|chips| {
            for apic in &mut chips.lapics {
                apic.set_pin(Pin::Lint1, true);
                apic.set_pin(Pin::Lint1, false);
            }
        });
    }

    /// Catches the timers of the local APICs up with `now`; says when the next one is due.
    pub fn poll(&self, now: Duration) -> Option<Duration> {
        self.update(|chips| {
            for apic in &mut chips.lapics {
                apic.catch_up(now);
            }
        });
        self.deadline()
    }

    /// When the next local APIC timer is due; takes no lock.
    pub fn deadline(&self) -> Option<Duration> {
        let deadline = self.deadline.load(Ordering::Acquire);
        (deadline != u64::MAX).then(|| Duration::from_nanos(deadline))
    }

    /// Hardware reset of all chips; inputs keep the level that devices drive.
    pub fn reset(&self) {
        self.update(|chips| {
            chips.pic.reset();
            chips.ioapic.reset();
            for apic in &mut chips.lapics {
                apic.reset();
            }
            chips.last_lowest = 0;
        });
    }

    /// Copies of all chips, for a debugger to look at.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let chips = self.lock();
        Snapshot {
            pic: chips.pic.clone(),
            ioapic: chips.ioapic.clone(),
            lapics: chips.lapics.clone(),
            now,
        }
    }

    /// The state of all chips.
    pub fn save(&self) -> State {
        State::of(STATE_VERSION, &*self.lock())
    }

    /// Takes over a saved state. Processors are signalled for what waits for them in it.
    ///
    /// # Errors
    /// If the state is of a newer version, damaged, or of a machine with another number of
    /// processors; nothing has changed then.
    pub fn restore(&self, from: &State) -> Result<(), RestoreError> {
        let saved: Chips = from.fields(STATE_VERSION)?;
        if saved.lapics.len() != self.ports.len() {
            let field = "number of local APICs";
            return Err(RestoreError::Impossible { field });
        }
        let plausible = (0..).zip(&saved.lapics).all(|(cpu, a)| a.is_plausible(cpu));
        if !plausible || !saved.pic.is_plausible() {
            let field = "register of an interrupt chip";
            return Err(RestoreError::Impossible { field });
        }
        self.update(|chips| {
            *chips = saved;
            for port in &self.ports {
                port.events.store(0, Ordering::Release);
            }
        });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Chips> {
        self.chips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation, lets the chips settle, and signals the processors for which something
    /// new waits: after the lock is dropped.
    fn update<R>(&self, operation: impl FnOnce(&mut Chips) -> R) -> R {
        let mut signalled = CpuSet::default();
        let mut chips = self.lock();
        let result = operation(&mut chips);
        chips.settle();
        let deadline = chips.lapics.iter().filter_map(LocalApic::deadline).min();
        let nanoseconds = deadline.and_then(|d| u64::try_from(d.as_nanos()).ok());
        let deadline = nanoseconds.unwrap_or(u64::MAX);
        self.deadline.store(deadline, Ordering::Release);
        for (cpu, port) in self.ports.iter().enumerate() {
            let events = chips.events(cpu).to_bits();
            let before = port.events.swap(events, Ordering::AcqRel);
            if events & !before != 0 {
                signalled.insert(cpu);
            }
        }
        let intr = self.listener.get().map(|l| (l, chips.pic.output()));
        drop(chips);
        if let Some((listener, level)) = intr {
            listener.set_level(INTR, level);
        }
        for (cpu, port) in self.ports.iter().enumerate() {
            if signalled.contains(cpu) {
                port.signal();
            }
        }
        result
    }
}

impl IrqSink for InterruptChips {
    fn set_level(&self, input: u32, level: bool) {
        if let Some(listener) = self.listener.get() {
            listener.set_level(input, level);
        }
        self.update(|chips| {
            if let Some(irq) = isa_irq(input) {
                chips.pic.set_level(irq, level);
            }
            let (pin, level) = chips.ioapic_pin(input, level);
            chips.ioapic.set_level(pin, level);
        });
    }

    fn restore_level(&self, input: u32, level: bool) {
        self.update(|chips| {
            if let Some(irq) = isa_irq(input) {
                chips.pic.restore_level(irq, level);
            }
            let (pin, level) = chips.ioapic_pin(input, level);
            chips.ioapic.restore_level(pin, level);
        });
    }
}

/// The 8259 input of an interrupt: 2 is the cascade's.
fn isa_irq(input: u32) -> Option<u8> {
    let irq = u8::try_from(input).ok()?;
    (irq < 16 && irq != 2).then_some(irq)
}

/// The ports of the 8259 pair: region 0 is 20h-21h, 1 is A0h-A1h, 2 is 4D0h-4D1h. Reset and state
/// are [`InterruptChips`]'s own, not the ports'.
pub fn pic_ports(chips: &Arc<InterruptChips>) -> Box<dyn Device> {
    Box::new(PicPorts(Arc::clone(chips)))
}

/// The IOAPIC's page: region 0 is FEC00000h-FEC00FFFh. Reset and state are [`InterruptChips`]'s own.
pub fn ioapic_window(chips: &Arc<InterruptChips>) -> Box<dyn Device> {
    Box::new(IoApicWindow(Arc::clone(chips)))
}

/// Region of the edge/level control registers.
const ELCR_REGION: u8 = 2;

struct PicPorts(Arc<InterruptChips>);

impl PicPorts {
    /// The chip and, but for ELCR, whether it is the odd port, for the byte at `offset`.
    fn decode(region: u8, offset: u64) -> (Chip, bool) {
        let odd = offset & 1 != 0;
        let slave = if region == ELCR_REGION {
            odd
        } else {
            region == 1
        };
        (if slave { Chip::Slave } else { Chip::Master }, odd)
    }
}

impl Device for PicPorts {
    fn keeps_time(&self) -> bool {
        false
    }

    fn read(&mut self, at: At, data: &mut [u8]) {
        self.0.update(|chips| {
            for (offset, byte) in (at.offset..).zip(data) {
                let (chip, odd) = Self::decode(at.region, offset);
                *byte = if at.region == ELCR_REGION {
                    chips.pic.elcr(chip)
                } else {
                    chips.pic.read(chip, odd)
                };
            }
        });
    }

    fn write(&mut self, at: At, data: &[u8]) {
        self.0.update(|chips| {
            for (offset, byte) in (at.offset..).zip(data) {
                let (chip, odd) = Self::decode(at.region, offset);
                if at.region == ELCR_REGION {
                    chips.pic.set_elcr(chip, *byte);
                } else {
                    chips.pic.write(chip, odd, *byte);
                }
            }
        });
    }

    fn reset(&mut self) {}

    fn save(&self) -> State {
        State::of(STATE_VERSION, &())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        from.fields(STATE_VERSION)
    }
}

/// Offsets in the IOAPIC's page, modulo 256.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const IOEOI: u64 = 0x40;

struct IoApicWindow(Arc<InterruptChips>);

impl Device for IoApicWindow {
    /// As in QEMU: the index reads at any width, the data register at 32 bits only; else zero.
    fn read(&mut self, at: At, data: &mut [u8]) {
        let chips = self.0.lock();
        let value = match at.offset & 0xff {
            IOREGSEL => chips.ioapic.index().into(),
            IOWIN if data.len() == 4 => chips.ioapic.data(),
            _ => 0,
        };
        let bytes = value.to_le_bytes();
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get(i).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let Some(&low) = data.first() else { return };
        let word = <[u8; 4]>::try_from(data).map(u32::from_le_bytes);
        self.0.update(|chips| match (at.offset & 0xff, word) {
            (IOREGSEL, _) => chips.ioapic.set_index(low),
            (IOWIN, Ok(value)) => chips.ioapic.set_data(value),
            (IOEOI, Ok(value)) => chips.ioapic.end_of_interrupt(value as u8),
            _ => {}
        });
    }

    fn reset(&mut self) {}

    fn save(&self) -> State {
        State::of(STATE_VERSION, &())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        from.fields(STATE_VERSION)
    }
}

#[cfg(test)]
mod tests;
