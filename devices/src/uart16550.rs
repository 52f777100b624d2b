//! National PC16550D serial port.
//!
//! Datasheet: National Semiconductor PC16550D (June 1995). Region 0: eight ports, one byte wide each.
//!
//! The interrupt line is that of the PC's adapter: MCR's OUT2 gates it (also in loopback, where the
//! bare chip would drop OUT2's pin but drivers' self-tests expect the interrupt). After reset MCR is
//! 08h, OUT2 on, and the divisor 12 (9600 baud), as on the stock machine; the datasheet has MCR 0 and no divisor.
//!
//! Sending takes no time: a byte written to THR goes to the backend at once and THR is empty again,
//! so LSR always shows THRE and TEMT, and the THRE interrupt falls and rises with each byte. Input is taken
//! from the backend in `poll`, while the FIFO (or, in 16450 mode, the one buffer) has room, and not at
//! all in loopback, so none is lost to overrun: only loopback overruns. Divisor and line format matter to
//! the character timeout alone (four characters of the guest's own rate).
//!
//! Not modelled: parity, framing and break errors and the FIFO error bit (always 0), a break sent in
//! loopback, words shorter than eight bits (passed whole), DMA mode's pins. The modem inputs show a
//! connected peer: CTS, DSR and DCD on.

use std::collections::VecDeque;
use std::time::Duration;

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

use crate::backend::chardev::Chardev;
use crate::board::Wiring;
use crate::{At, Clock, Device, IrqLine, RestoreError, State};

const VERSION: u32 = 1;
const FIFO: usize = 16;
/// Baud rate of divisor 1: the 1.8432 MHz crystal over 16.
const BASE_BAUD: u64 = 115_200;
const DIVISOR_START: u16 = 12;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR_FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;

/// LCR: the divisor latch stands at offsets 0 and 1.
const DLAB: u8 = 1 << 7;

/// IIR: no interrupt pending.
const NONE: u8 = 1;
/// IIR: the FIFOs are enabled.
const FIFOS_ON: u8 = 0xC0;

bitflags! {
    /// Interrupt enable register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Enables: u8 {
        const RECEIVED = 1 << 0;
        const THR_EMPTY = 1 << 1;
        const LINE = 1 << 2;
        const MODEM = 1 << 3;
    }

    /// FIFO control register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Fifos: u8 {
        const ENABLE = 1 << 0;
        const CLEAR_RX = 1 << 1;
        const CLEAR_TX = 1 << 2;
        const DMA = 1 << 3;
        const TRIGGER = 3 << 6;
    }

    /// Modem control register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct ModemControl: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOP = 1 << 4;
    }

    /// Line status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct LineStatus: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const THR_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
    }

    /// Modem status register: changes since the last read, and the inputs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct ModemStatus: u8 {
        const DELTA_CTS = 1 << 0;
        const DELTA_DSR = 1 << 1;
        /// Trailing edge of RI.
        const RI_ENDED = 1 << 2;
        const DELTA_DCD = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
    }
}

impl ModemStatus {
    const CHANGES: Self = Self::from_bits_retain(0x0F);
    const CONNECTED: Self = Self::CTS.union(Self::DSR).union(Self::DCD);
}

/// Why the port interrupts, in the order of priority, with its code in IIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Cause {
    Line = 0b0110,
    Received = 0b0100,
    Timeout = 0b1100,
    ThrEmpty = 0b0010,
    Modem = 0b0000,
}

/// Builds the port over `wiring.chardev`.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(Uart16550 {
        clock: wiring.clock.clone(),
        irq: wiring.irq(0),
        chardev: wiring.chardev.clone(),
        chip: Chip::new(),
    })
}

struct Uart16550 {
    clock: Clock,
    irq: IrqLine,
    chardev: Chardev,
    chip: Chip,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    enables: Enables,
    fifos: Fifos,
    line_control: u8,
    modem_control: ModemControl,
    modem_status: ModemStatus,
    scratch: u8,
    divisor: u16,
    /// Received, unread: up to 16 bytes, one in 16450 mode.
    received: VecDeque<u8>,
    /// What RBR gave last, and gives again in 16450 mode when nothing new has come.
    last_read: u8,
    overrun: bool,
    /// The THRE interrupt is pending (until IIR shows it or THR is written).
    thr_empty: bool,
    /// The character timeout is pending.
    timed_out: bool,
    /// When the receive FIFO was last read or written to, in nanoseconds.
    touched: u64,
}

impl Chip {
    fn new() -> Self {
        Self {
            enables: Enables::empty(),
            fifos: Fifos::empty(),
            line_control: 0,
            modem_control: ModemControl::OUT2,
            modem_status: ModemStatus::CONNECTED,
            scratch: 0,
            divisor: DIVISOR_START,
            received: VecDeque::new(),
            last_read: 0,
            overrun: false,
            thr_empty: false,
            timed_out: false,
            touched: 0,
        }
    }

    fn has_fifos(&self) -> bool {
        self.fifos.contains(Fifos::ENABLE)
    }

    fn is_looped(&self) -> bool {
        self.modem_control.contains(ModemControl::LOOP)
    }

    fn has_divisor_latch(&self) -> bool {
        self.line_control & DLAB != 0
    }

    fn room(&self) -> usize {
        let size = if self.has_fifos() { FIFO } else { 1 };
        size.saturating_sub(self.received.len())
    }

    /// How many received bytes raise the interrupt.
    fn trigger_level(&self) -> usize {
        match (self.fifos & Fifos::TRIGGER).bits() >> 6 {
            _ if !self.has_fifos() => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    /// Nanoseconds that four characters take at the guest's rate and format.
    fn four_characters(&self) -> u64 {
        let data = 5 + u64::from(self.line_control & 3);
        let stop = 1 + u64::from(self.line_control >> 2 & 1);
        let parity = u64::from(self.line_control >> 3 & 1);
        let bits = 4 * (1 + data + parity + stop);
        bits * u64::from(self.divisor.max(1)) * 1_000_000_000 / BASE_BAUD
    }

    /// When the character timeout comes, if it is to come.
    fn timeout_at(&self) -> Option<u64> {
        let waits = self.has_fifos() && !self.received.is_empty() && !self.timed_out;
        waits.then(|| self.touched.saturating_add(self.four_characters()))
    }

    fn catch_up(&mut self, now: u64) {
        if self.timeout_at().is_some_and(|at| at <= now) {
            self.timed_out = true;
        }
    }

    /// The receive FIFO was read or got a byte: the timeout starts again.
    fn touch(&mut self, now: u64) {
        self.timed_out = false;
        self.touched = now;
    }

    /// The pending interrupt of the highest priority. The timeout shares the second level with the trigger.
    fn cause(&self) -> Option<Cause> {
        let changed = self.modem_status.intersects(ModemStatus::CHANGES);
        let triggered = self.received.len() >= self.trigger_level();
        let causes = [
            (Cause::Line, Enables::LINE, self.overrun),
            (Cause::Timeout, Enables::RECEIVED, self.timed_out),
            (Cause::Received, Enables::RECEIVED, triggered),
            (Cause::ThrEmpty, Enables::THR_EMPTY, self.thr_empty),
            (Cause::Modem, Enables::MODEM, changed),
        ];
        let mut pending = causes
            .into_iter()
            .filter(|&(_, enable, is)| is && self.enables.contains(enable));
        pending.next().map(|(cause, ..)| cause)
    }

    fn level(&self) -> bool {
        self.modem_control.contains(ModemControl::OUT2) && self.cause().is_some()
    }

    fn read_data(&mut self, now: u64) -> u8 {
        self.touch(now);
        if let Some(byte) = self.received.pop_front() {
            self.last_read = byte;
            return byte;
        }
        if self.has_fifos() { 0 } else { self.last_read }
    }

    /// Reading IIR takes the THRE interrupt back if that is what it shows.
    fn read_iir(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Some(Cause::ThrEmpty) {
            self.thr_empty = false;
        }
        let fifos = if self.has_fifos() { FIFOS_ON } else { 0 };
        cause.map_or(NONE, |cause| cause as u8) | fifos
    }

    fn read_lsr(&mut self) -> u8 {
        let mut status = LineStatus::THR_EMPTY | LineStatus::TRANSMITTER_EMPTY;
        status.set(LineStatus::DATA_READY, !self.received.is_empty());
        status.set(LineStatus::OVERRUN, std::mem::take(&mut self.overrun));
        status.bits()
    }

    fn read_msr(&mut self) -> u8 {
        let status = self.modem_status;
        self.modem_status -= ModemStatus::CHANGES;
        status.bits()
    }

    /// A character arrives. With no room the FIFO keeps what it has; RBR is overwritten.
    fn receive(&mut self, byte: u8, now: u64) {
        if self.room() > 0 {
            self.received.push_back(byte);
        } else {
            self.overrun = true;
            if !self.has_fifos() {
                self.received[0] = byte;
            }
        }
        self.touch(now);
    }

    /// Enabling the THRE interrupt raises it at once, since THR is always empty.
    fn write_enables(&mut self, byte: u8) {
        let enables = Enables::from_bits_truncate(byte);
        if (enables ^ self.enables).contains(Enables::THR_EMPTY) {
            self.thr_empty = enables.contains(Enables::THR_EMPTY);
        }
        self.enables = enables;
    }

    /// Other bits are programmed only together with the enable; changing that clears both FIFOs.
    fn write_fifos(&mut self, byte: u8) {
        let written = Fifos::from_bits_truncate(byte);
        let fifos = match written.contains(Fifos::ENABLE) {
            true => written,
            false => Fifos::empty(),
        };
        let switched = (fifos ^ self.fifos).contains(Fifos::ENABLE);
        if switched || fifos.contains(Fifos::CLEAR_RX) {
            self.received.clear();
            self.timed_out = false;
        }
        if switched || fifos.contains(Fifos::CLEAR_TX) {
            self.thr_empty = true;
        }
        self.fifos = fifos - (Fifos::CLEAR_RX | Fifos::CLEAR_TX);
    }

    /// In loopback the modem outputs are the modem inputs.
    fn write_modem_control(&mut self, byte: u8) {
        self.modem_control = ModemControl::from_bits_truncate(byte);
        let mut inputs = ModemStatus::CONNECTED;
        if self.is_looped() {
            let out = |bit| self.modem_control.contains(bit);
            inputs.set(ModemStatus::CTS, out(ModemControl::RTS));
            inputs.set(ModemStatus::DSR, out(ModemControl::DTR));
            inputs.set(ModemStatus::RI, out(ModemControl::OUT1));
            inputs.set(ModemStatus::DCD, out(ModemControl::OUT2));
        }
        let before = self.modem_status;
        let mut changes = before & ModemStatus::CHANGES;
        // Each delta stands four bits below its input; RI's is set by its end alone.
        changes |=
            ModemStatus::from_bits_retain((before ^ inputs).bits() >> 4) - ModemStatus::RI_ENDED;
        if (before - inputs).contains(ModemStatus::RI) {
            changes |= ModemStatus::RI_ENDED;
        }
        self.modem_status = inputs | changes;
    }
}

impl Uart16550 {
    /// The time, to a character that waits in the FIFO or comes now; nothing else asks for it.
    fn now(&self, offset: u64) -> u64 {
        if offset == DATA || !self.chip.received.is_empty() {
            nanoseconds(self.clock.now())
        } else {
            0
        }
    }

    /// The line falls and rises with each byte sent: it must be seen low in between.
    fn send(&mut self, byte: u8, now: u64) {
        self.chip.thr_empty = false;
        self.drive();
        if self.chip.is_looped() {
            self.chip.receive(byte, now);
        } else {
            self.chardev.write(&[byte]);
        }
        self.chip.thr_empty = true;
    }

    fn drive(&self) {
        self.irq.set_level(self.chip.level());
    }

    fn register(&mut self, offset: u64, now: u64) -> u8 {
        let [low, high] = self.chip.divisor.to_le_bytes();
        match offset {
            DATA if self.chip.has_divisor_latch() => low,
            DATA => self.chip.read_data(now),
            IER if self.chip.has_divisor_latch() => high,
            IER => self.chip.enables.bits(),
            IIR_FCR => self.chip.read_iir(),
            LCR => self.chip.line_control,
            MCR => self.chip.modem_control.bits(),
            LSR => self.chip.read_lsr(),
            MSR => self.chip.read_msr(),
            _ => self.chip.scratch,
        }
    }

    fn set_register(&mut self, offset: u64, byte: u8, now: u64) {
        let [low, high] = self.chip.divisor.to_le_bytes();
        match offset {
            DATA if self.chip.has_divisor_latch() => {
                self.chip.divisor = u16::from_le_bytes([byte, high]);
            }
            DATA => self.send(byte, now),
            IER if self.chip.has_divisor_latch() => {
                self.chip.divisor = u16::from_le_bytes([low, byte]);
            }
            IER => self.chip.write_enables(byte),
            IIR_FCR => self.chip.write_fifos(byte),
            LCR => self.chip.line_control = byte,
            MCR => self.chip.write_modem_control(byte),
            LSR | MSR => {} // for the factory's tests only
            _ => self.chip.scratch = byte,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Device for Uart16550 {
    fn read(&mut self, at: At, data: &mut [u8]) {
        let now = self.now(at.offset);
        self.chip.catch_up(now);
        if let Some(byte) = data.first_mut() {
            *byte = self.register(at.offset, now);
        }
        self.drive();
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let Some(&byte) = data.first() else { return };
        let now = self.now(at.offset);
        self.chip.catch_up(now);
        self.set_register(at.offset, byte, now);
        self.drive();
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.drive();
    }

    fn keeps_time(&self) -> bool {
        !self.chip.received.is_empty() || self.chardev.has_input()
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        let now = nanoseconds(now);
        self.chip.catch_up(now);
        while !self.chip.is_looped() && self.chip.room() > 0 {
            let Some(byte) = self.chardev.read() else {
                break;
            };
            self.chip.receive(byte, now);
        }
        self.drive();
        let wanted = self.chip.enables.contains(Enables::RECEIVED);
        self.chip
            .timeout_at()
            .filter(|_| wanted)
            .map(Duration::from_nanos)
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let chip: Chip = from.fields(VERSION)?;
        let size = if chip.has_fifos() { FIFO } else { 1 };
        if chip.received.len() > size {
            return Err(RestoreError::Impossible { field: "received" });
        }
        self.chip = chip;
        self.irq.restore_level(self.chip.level());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
