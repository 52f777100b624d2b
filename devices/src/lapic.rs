//! The local APIC, in xAPIC mode.
//!
//! SDM Vol. 3A, chapter "Advanced Programmable Interrupt Controller (APIC)"; version 0x14, six LVT
//! entries. A 4 KiB page at the address in IA32_APIC_BASE, one 32-bit register in every 16 bytes.
//! Pure logic: [`crate::chips`] holds the lock and carries messages from APIC to APIC.
//!
//! Not modelled:
//! - x2APIC mode, TSC-deadline timer, CMCI, EOI-broadcast suppression: their bits are reserved
//!   here, and CPUID must not offer them.
//! - the arbitration priority register reads as zero (as in QEMU), remote read is an unknown
//!   register: both ended with the APIC bus. Send accept and receive accept errors did, too.
//! - nothing drives the thermal and performance entries; pin polarity is stored and ignored.
//! - an access to no register's first four bytes is undefined by the SDM: it reads zero and
//!   writes nothing, as in KVM.
//!
//! Quirk: after reset and INIT the bootstrap processor's LINT0 is unmasked ExtINT (700h), as KVM has it
//! ("LINT0 re-enabled"), so that code which knows no APIC gets its 8259 interrupts. The SDM, and
//! QEMU 7.2's own APIC (`info lapic` before the first instruction), have it masked: 10000h. Stock software
//! relies on neither: SeaBIOS writes 8700h while it sets up processors, before its first interrupt, and
//! Linux goes by what it finds left of that. What runs without a BIOS would wait for ever for its
//! timer if it were masked, and the same on both engines is worth more than the SDM's letter here.

pub mod message;
mod timer;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use message::{Delivery, Message, Target, word};
pub use timer::BUS_CLOCK;
use timer::Timer;

/// Version 0x14, highest LVT entry 5.
const VERSION: u32 = 0x0005_0014;
/// SVR: software enable and spurious vector; nothing else exists in this version.
const SVR_WRITABLE: u32 = 0x1ff;
/// SVR after reset.
const SVR_RESET: u32 = 0xff;
/// SVR: the APIC is enabled by software.
const SVR_ENABLE: u32 = 1 << 8;
/// DFR: bits 27 to 0 are ones.
const DFR_ONES: u32 = 0x0fff_ffff;
/// ICR bits 19 and 18: destination shorthand.
const ICR_SHORTHAND: u32 = 3 << 18;
/// Bits of the ICR's low word that software writes.
const ICR_WRITABLE: u32 =
    word::VECTOR | word::DELIVERY | word::LOGICAL | word::ASSERT | word::LEVEL | ICR_SHORTHAND;
/// LVT timer: periodic.
const TIMER_PERIODIC: u32 = 1 << 17;
/// A destination of all ones is a broadcast.
const BROADCAST: u8 = 0xff;
/// Vectors below this one are illegal.
const FIRST_VECTOR: u8 = 16;
/// LINT0 of the bootstrap processor after reset: ExtINT, not masked.
const BOOTSTRAP_LINT0: u32 = 0x700;

/// IA32_APIC_BASE: this processor is the bootstrap processor.
const BASE_BOOTSTRAP: u64 = 1 << 8;
/// IA32_APIC_BASE: the APIC is there.
const BASE_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE: the address; 52 bits at most.
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Where the APIC page is after reset.
const BASE_RESET: u64 = 0xfee0_0000;

/// Error status register.
mod esr {
    /// An ICR write with a vector below 16.
    pub const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    /// A message or an LVT entry with a vector below 16.
    pub const RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
    /// An access to a register that does not exist.
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// Register offsets.
mod reg {
    pub const ID: u32 = 0x020;
    pub const VERSION: u32 = 0x030;
    pub const TPR: u32 = 0x080;
    pub const APR: u32 = 0x090;
    pub const PPR: u32 = 0x0a0;
    pub const EOI: u32 = 0x0b0;
    pub const LDR: u32 = 0x0d0;
    pub const DFR: u32 = 0x0e0;
    pub const SVR: u32 = 0x0f0;
    pub const ISR: u32 = 0x100;
    pub const TMR: u32 = 0x180;
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    pub const ICR_LOW: u32 = 0x300;
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT: u32 = 0x320;
    pub const LVT_LAST: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

/// Local vector table, in the order of the registers from 0x320.
mod lvt {
    use super::{TIMER_PERIODIC, word};

    pub const TIMER: usize = 0;
    pub const LINT0: usize = 3;
    pub const LINT1: usize = 4;
    pub const ERROR: usize = 5;
    pub const COUNT: usize = 6;

    const PLAIN: u32 = word::VECTOR | word::MASKED;
    const PIN: u32 = PLAIN | word::DELIVERY | word::ACTIVE_LOW | word::LEVEL;
    /// Bits that software writes.
    pub const WRITABLE: [u32; COUNT] = [
        PLAIN | TIMER_PERIODIC,
        PLAIN | word::DELIVERY,
        PLAIN | word::DELIVERY,
        PIN,
        PIN,
        PLAIN,
    ];
}

/// A value for IA32_APIC_BASE with reserved bits set; the guest's WRMSR gets #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IA32_APIC_BASE has no such bits: {value:#x}")]
pub struct ReservedBits {
    /// What was to be written.
    pub value: u64,
}

/// What a register write wants of the other chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End of interrupt of a level-triggered vector: the IOAPICs listen.
    EndOfInterrupt(u8),
    /// An interprocessor interrupt.
    Send(Message),
}

/// 256 bits, one a vector: IRR, ISR, TMR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct VectorSet([u32; 8]);

impl VectorSet {
    fn set(&mut self, vector: u8, on: bool) {
        let bit = 1 << (vector & 31);
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = if on { *word | bit } else { *word & !bit };
    }

    fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & 1 << (vector & 31) != 0
    }

    fn highest(&self) -> Option<u8> {
        let (index, word) = self.0.iter().enumerate().rfind(|(_, w)| **w != 0)?;
        Some((index as u32 * 32 + word.ilog2()) as u8)
    }

    /// The 32-bit register at `offset` from the set's first.
    fn word(&self, offset: u32) -> u32 {
        self.0[(offset >> 4 & 7) as usize]
    }
}

/// Events latched for the processor, besides vectored interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latched {
    pub nmi: bool,
    pub smi: bool,
    pub init: bool,
    /// The page of a start-up message.
    pub sipi: Option<u8>,
    /// An ExtINT message: the processor is to run INTA cycles to the 8259.
    pub ext_int: bool,
}

/// One local APIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalApic {
    /// Index of its processor: the ID after reset.
    cpu: u8,
    base: u64,
    id: u8,
    tpr: u8,
    ldr: u8,
    dfr: u32,
    svr: u32,
    isr: VectorSet,
    tmr: VectorSet,
    irr: VectorSet,
    /// What ESR reads: the errors up to its last write.
    esr: u32,
    /// Errors since the last write of ESR.
    errors: u32,
    icr_low: u32,
    icr_high: u32,
    lvt: [u32; lvt::COUNT],
    timer: Timer,
    /// Present level of LINT0 and LINT1.
    pins: [bool; 2],
    pub(crate) latched: Latched,
}

impl LocalApic {
    /// The APIC of processor `cpu` after reset; processor 0 is the bootstrap processor.
    pub fn new(cpu: u8) -> Self {
        let bootstrap = if cpu == 0 { BASE_BOOTSTRAP } else { 0 };
        let mut apic = Self {
            cpu,
            base: BASE_RESET | BASE_ENABLE | bootstrap,
            id: cpu,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: SVR_RESET,
            isr: VectorSet::default(),
            tmr: VectorSet::default(),
            irr: VectorSet::default(),
            esr: 0,
            errors: 0,
            icr_low: 0,
            icr_high: 0,
            lvt: [word::MASKED; lvt::COUNT],
            timer: Timer::default(),
            pins: [false; 2],
            latched: Latched::default(),
        };
        if bootstrap != 0 {
            apic.lvt[lvt::LINT0] = BOOTSTRAP_LINT0;
        }
        apic
    }

    /// Hardware reset; the pins keep the level they are driven to.
    pub fn reset(&mut self) {
        *self = Self {
            pins: self.pins,
            ..Self::new(self.cpu)
        };
    }

    /// "Local APIC State After It Receives an INIT Reset": as after reset, but the ID and
    /// IA32_APIC_BASE stay, and an SMI or start-up message that came after INIT.
    pub fn init(&mut self) {
        *self = Self {
            pins: self.pins,
            id: self.id,
            base: self.base,
            latched: Latched {
                smi: self.latched.smi,
                sipi: self.latched.sipi,
                ..Latched::default()
            },
            ..Self::new(self.cpu)
        };
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. "Enabling or Disabling the Local APIC": the registers are as after
    /// reset when it is enabled again. The bootstrap flag keeps its value, as in QEMU.
    ///
    /// # Errors
    /// If reserved bits are set, among them x2APIC enable; nothing has changed then.
    pub fn set_base(&mut self, value: u64) -> Result<(), ReservedBits> {
        if value & !(BASE_ADDRESS | BASE_ENABLE | BASE_BOOTSTRAP) != 0 {
            return Err(ReservedBits { value });
        }
        if self.is_present() && value & BASE_ENABLE == 0 {
            *self = Self {
                pins: self.pins,
                latched: self.latched,
                ..Self::new(self.cpu)
            };
        }
        self.base = value & !BASE_BOOTSTRAP | self.base & BASE_BOOTSTRAP;
        Ok(())
    }

    /// Whether IA32_APIC_BASE enables the APIC.
    pub fn is_present(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// Whether fixed and lowest-priority interrupts are accepted.
    pub fn accepts_vectors(&self) -> bool {
        self.is_present() && self.svr & SVR_ENABLE != 0
    }

    /// The task priority register.
    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Writes the task priority register.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    /// The processor priority register: "Task and Processor Priorities".
    pub fn ppr(&self) -> u8 {
        let serviced = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= serviced >> 4 {
            self.tpr
        } else {
            serviced & 0xf0
        }
    }

    /// Reads the register at `offset` in the page.
    pub fn read(&mut self, offset: u32, now: Duration) -> u32 {
        if !self.is_present() {
            return u32::MAX;
        }
        self.catch_up(now);
        if offset & 0xf != 0 {
            return 0;
        }
        match offset {
            reg::ID => u32::from(self.id) << 24,
            reg::VERSION => VERSION,
            reg::TPR => self.tpr.into(),
            reg::PPR => self.ppr().into(),
            reg::APR | reg::EOI => 0,
            reg::LDR => u32::from(self.ldr) << 24,
            reg::DFR => self.dfr,
            reg::SVR => self.svr,
            reg::ISR..reg::TMR => self.isr.word(offset),
            reg::TMR..reg::IRR => self.tmr.word(offset),
            reg::IRR..reg::ESR => self.irr.word(offset),
            reg::ESR => self.esr,
            reg::ICR_LOW => self.icr_low,
            reg::ICR_HIGH => self.icr_high,
            reg::LVT..=reg::LVT_LAST => self.lvt[lvt_index(offset)],
            reg::INITIAL_COUNT => self.timer.initial(),
            reg::CURRENT_COUNT => self.timer.count(now),
            reg::DIVIDE => self.timer.divide(),
            _ => {
                self.illegal_register(offset);
                0
            }
        }
    }

    /// Writes the register at `offset` in the page; says what the other chips have to do.
    pub fn write(&mut self, offset: u32, value: u32, now: Duration) -> Option<Effect> {
        if !self.is_present() {
            return None;
        }
        self.catch_up(now);
        if offset & 0xf != 0 {
            return None;
        }
        match offset {
            reg::ID => self.id = (value >> 24) as u8,
            reg::TPR => self.tpr = value as u8,
            reg::EOI => return self.end_of_interrupt(),
            reg::LDR => self.ldr = (value >> 24) as u8,
            reg::DFR => self.dfr = value | DFR_ONES,
            reg::SVR => self.set_svr(value),
            reg::ESR => self.esr = std::mem::take(&mut self.errors),
            reg::ICR_LOW => return self.command(value),
            reg::ICR_HIGH => self.icr_high = value & 0xff00_0000,
            reg::LVT..=reg::LVT_LAST => self.set_lvt(lvt_index(offset), value),
            reg::INITIAL_COUNT => self.timer.start(now, value),
            reg::DIVIDE => self.timer.set_divide(now, value),
            // Read only.
            reg::VERSION | reg::APR | reg::PPR | reg::ISR..reg::ESR | reg::CURRENT_COUNT => {}
            _ => self.illegal_register(offset),
        }
        None
    }

    fn illegal_register(&mut self, offset: u32) {
        tracing::debug!(target: "lapic", cpu = self.cpu, "no register at {offset:#x}");
        self.error(esr::ILLEGAL_REGISTER);
    }

    /// "Spurious-Interrupt Vector Register": disabling masks the whole LVT.
    fn set_svr(&mut self, value: u32) {
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLE == 0 {
            for entry in &mut self.lvt {
                *entry |= word::MASKED;
            }
        }
    }

    fn set_lvt(&mut self, index: usize, value: u32) {
        let mut entry = value & lvt::WRITABLE[index];
        if self.svr & SVR_ENABLE == 0 {
            entry |= word::MASKED;
        }
        let held = entry & word::LEVEL != 0 && Delivery::of(entry) == Delivery::Fixed;
        if index == lvt::LINT0 && held {
            entry |= self.lvt[index] & word::REMOTE_IRR;
        }
        self.lvt[index] = entry;
        self.sample_level();
    }

    /// A write to the ICR's low word sends.
    fn command(&mut self, value: u32) -> Option<Effect> {
        self.icr_low = value & ICR_WRITABLE;
        let target = match (value & ICR_SHORTHAND) >> 18 {
            0 => Target::destination(value & word::LOGICAL != 0, (self.icr_high >> 24) as u8),
            1 => Target::Itself(self.cpu.into()),
            2 => Target::All,
            _ => Target::AllBut(self.cpu.into()),
        };
        let message = Message {
            // "Trigger Mode": IPIs are edges, whatever the bit says.
            level: false,
            ..Message::new(value, target)
        };
        let deassert = value & word::LEVEL != 0 && value & word::ASSERT == 0;
        match message.delivery {
            // INIT level de-assert set the arbitration IDs of the APIC bus, which is gone.
            Delivery::Init if deassert => None,
            Delivery::Reserved | Delivery::ExtInt => None,
            delivery if delivery.is_vectored() && message.vector < FIRST_VECTOR => {
                self.error(esr::SEND_ILLEGAL_VECTOR);
                None
            }
            _ => Some(Effect::Send(message)),
        }
    }

    /// "Signaling Interrupt Servicing Completion".
    fn end_of_interrupt(&mut self) -> Option<Effect> {
        let vector = self.isr.highest()?;
        self.isr.set(vector, false);
        if !self.tmr.contains(vector) {
            return None;
        }
        let entry = &mut self.lvt[lvt::LINT0];
        if *entry & word::VECTOR == u32::from(vector) {
            *entry &= !word::REMOTE_IRR;
            self.sample_level();
        }
        Some(Effect::EndOfInterrupt(vector))
    }

    /// Whether a message to `target` is for this APIC: "Determining IPI Destination".
    pub fn is_addressed(&self, target: Target) -> bool {
        self.is_present()
            && match target {
                Target::Physical(id) => id == BROADCAST || id == self.id,
                Target::Logical(id) => id == BROADCAST || self.matches_logical(id),
                Target::Itself(cpu) => cpu == u32::from(self.cpu),
                Target::All => true,
                Target::AllBut(cpu) => cpu != u32::from(self.cpu),
            }
    }

    fn matches_logical(&self, id: u8) -> bool {
        match self.dfr >> 28 {
            0xf => id & self.ldr != 0,
            // Cluster in the high, members in the low nibble.
            0 => (id ^ self.ldr) >> 4 == 0 && id & self.ldr & 0xf != 0,
            _ => false,
        }
    }

    /// Takes a message that addresses this APIC; whether it could be accepted.
    pub fn accept(&mut self, message: &Message) -> bool {
        if !self.is_present() {
            return false;
        }
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if self.svr & SVR_ENABLE == 0 {
                    return false;
                }
                self.request(message.vector, message.level);
            }
            Delivery::StartUp => self.latched.sipi = Some(message.vector),
            delivery => return self.latch(delivery),
        }
        true
    }

    fn latch(&mut self, delivery: Delivery) -> bool {
        let latched = &mut self.latched;
        match delivery {
            Delivery::Smi => latched.smi = true,
            Delivery::Nmi => latched.nmi = true,
            Delivery::Init => {
                latched.init = true;
                latched.sipi = None;
            }
            Delivery::ExtInt => latched.ext_int = true,
            _ => return false,
        }
        true
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < FIRST_VECTOR {
            self.error(esr::RECEIVED_ILLEGAL_VECTOR);
        } else {
            self.irr.set(vector, true);
            self.tmr.set(vector, level);
        }
    }

    /// Logs an error; one not logged yet makes the error interrupt.
    fn error(&mut self, bit: u32) {
        let known = self.errors & bit != 0;
        self.errors |= bit;
        let entry = self.lvt[lvt::ERROR];
        if known || entry & word::MASKED != 0 {
            return;
        }
        match (entry & word::VECTOR) as u8 {
            0..FIRST_VECTOR => self.errors |= esr::RECEIVED_ILLEGAL_VECTOR,
            vector => self.request(vector, false),
        }
    }

    /// Drives LINT0 (`pin` 0; the 8259's INTR) or LINT1 (NMI). Without the APIC they are the
    /// processor's own INTR and NMI pins.
    pub fn set_pin(&mut self, pin: Pin, level: bool) {
        let (index, at) = match pin {
            Pin::Lint0 => (lvt::LINT0, 0),
            Pin::Lint1 => (lvt::LINT1, 1),
        };
        let rises = level && !self.pins[at];
        self.pins[at] = level;
        if !rises {
            return;
        }
        if !self.is_present() {
            self.latched.nmi |= pin == Pin::Lint1;
            return;
        }
        let entry = self.lvt[index];
        if entry & word::MASKED != 0 {
            return;
        }
        match Delivery::of(entry) {
            Delivery::Fixed if entry & word::LEVEL != 0 && pin == Pin::Lint0 => self.sample_level(),
            Delivery::Fixed => self.request((entry & word::VECTOR) as u8, false),
            // Level-triggered always: `wants_8259`.
            Delivery::ExtInt => {}
            delivery => _ = self.latch(delivery),
        }
    }

    /// Requests the interrupt of a level-triggered LINT0 that is asserted and not yet accepted.
    /// LINT1 has no level trigger.
    fn sample_level(&mut self) {
        let entry = self.lvt[lvt::LINT0];
        let ready = word::LEVEL == entry & (word::LEVEL | word::MASKED | word::REMOTE_IRR);
        if self.pins[0] && ready && Delivery::of(entry) == Delivery::Fixed {
            self.lvt[lvt::LINT0] |= word::REMOTE_IRR;
            self.request((entry & word::VECTOR) as u8, true);
        }
    }

    /// Whether INTA would go to the 8259: ExtINT through LINT0 or LINT1 (virtual wire), by message, or
    /// the APIC is not there and LINT0 is the processor's INTR.
    pub fn wants_8259(&self) -> bool {
        if !self.is_present() {
            return self.pins[0] || self.latched.ext_int;
        }
        let wired = |pin: usize, index: usize| {
            let entry = self.lvt[index];
            self.pins[pin] && entry & word::MASKED == 0 && Delivery::of(entry) == Delivery::ExtInt
        };
        self.latched.ext_int || wired(0, lvt::LINT0) || wired(1, lvt::LINT1)
    }

    /// The vector the processor would get: the highest requested, if above the processor priority.
    pub fn deliverable(&self) -> Option<u8> {
        let vector = self.irr.highest().filter(|_| self.is_present())?;
        (vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// INTA: the deliverable vector moves from IRR to ISR.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.deliverable()?;
        self.irr.set(vector, false);
        self.isr.set(vector, true);
        Some(vector)
    }

    /// Takes note of a timer that has reached zero by `now`.
    pub fn catch_up(&mut self, now: Duration) {
        let entry = self.lvt[lvt::TIMER];
        if self.timer.expire(now, entry & TIMER_PERIODIC != 0) && entry & word::MASKED == 0 {
            self.request((entry & word::VECTOR) as u8, false);
        }
    }

    /// When the timer next makes an interrupt.
    pub fn deadline(&self) -> Option<Duration> {
        let entry = self.lvt[lvt::TIMER];
        if entry & word::MASKED != 0 {
            return None;
        }
        self.timer.deadline(entry & TIMER_PERIODIC != 0)
    }

    /// Whether a saved APIC can be that of processor `cpu`.
    pub(crate) fn is_plausible(&self, cpu: u32) -> bool {
        u32::from(self.cpu) == cpu && (self.irr.0[0] | self.isr.0[0]) & 0xffff == 0
    }
}

/// A local interrupt pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// INTR of the 8259 pair.
    Lint0,
    /// NMI.
    Lint1,
}

fn lvt_index(offset: u32) -> usize {
    ((offset - reg::LVT) >> 4) as usize
}

#[cfg(test)]
mod tests;
