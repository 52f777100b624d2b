//! One counter of the 8254: count register, counting element, OUT, and the byte-wide way to both.
//!
//! A counter jumps from event to event (load, terminal count, reload), so that catching up with a
//! long gap costs a handful of steps, not one a tick.

use serde::{Deserialize, Serialize};

/// What the counter counts for: "Mode Definitions".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    InterruptOnTerminalCount,
    OneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    /// Bits M2:M0; modes 2 and 3 ignore M2.
    fn of(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// Whether a low GATE stops the count (else only its rising edge matters).
    fn is_gated(self) -> bool {
        !self.is_triggered()
    }

    /// Whether only a rising GATE loads the count.
    fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// How the CPU reaches the 16-bit count through an 8-bit port (RW1:RW0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Lsb,
    Msb,
    LsbThenMsb,
}

/// A counter between two ticks of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    /// The control word's low six bits as written, which the status byte gives back.
    control: u8,
    /// The count register: the initial count as written.
    initial: u16,
    /// A count was written since the control word.
    armed: bool,
    /// The next clock pulse loads the counting element.
    load: bool,
    /// The counting element was loaded since the control word.
    loaded: bool,
    /// Mode 0: the first byte of a two-byte count stops counting until the second.
    held: bool,
    /// The counting element, in units (binary even when the guest counts in BCD).
    count: u32,
    /// Mode 3: the half-cycle's count is odd, its high half one tick longer.
    odd: bool,
    /// A mode that ends has ended: the count wraps on, OUT stays.
    done: bool,
    out: bool,
    gate: bool,
    /// The count register holds what the counting element has not loaded yet.
    null_count: bool,
    pending_lsb: Option<u8>,
    read_high: bool,
    count_latch: Option<u16>,
    latch_high: bool,
    status_latch: Option<u8>,
}

/// Control word of an unprogrammed counter: mode 3, no access mode (taken as LSB only).
const UNPROGRAMMED: u8 = 0x06;
/// Bit 0 of the control word: count in BCD.
const BCD: u8 = 0x01;
/// The largest count an element can hold: 2^16, above what four BCD digits of 15 weigh.
const MAX_COUNT: u32 = 0x1_0000;

impl Counter {
    /// A counter as after power-on: the stock machine runs it in mode 3 from the full count.
    pub(super) fn new(gate: bool) -> Self {
        Self {
            control: UNPROGRAMMED,
            initial: 0,
            armed: true,
            load: false,
            loaded: true,
            held: false,
            count: MAX_COUNT,
            odd: false,
            done: false,
            out: true,
            gate,
            null_count: false,
            pending_lsb: None,
            read_high: false,
            count_latch: None,
            latch_high: false,
            status_latch: None,
        }
    }

    pub(super) fn out(&self) -> bool {
        self.out
    }

    /// Whether a restored counter can exist.
    pub(super) fn is_possible(&self) -> bool {
        let stopped = self.done || !self.loaded || self.mode() == Mode::SquareWave;
        let falling = matches!(self.mode(), Mode::SoftwareStrobe | Mode::HardwareStrobe);
        let full = self.count != 0 || stopped || (falling && !self.out);
        self.control < 0x40 && self.count <= MAX_COUNT && full
    }

    fn mode(&self) -> Mode {
        Mode::of(self.control)
    }

    fn access(&self) -> Access {
        match self.control >> 4 {
            2 => Access::Msb,
            3 => Access::LsbThenMsb,
            _ => Access::Lsb,
        }
    }

    /// The initial count in units: 0 stands for the largest count. A BCD digit above 9 keeps its weight.
    fn units(&self) -> u32 {
        let n = u32::from(self.initial);
        let units = if self.control & BCD != 0 {
            (n >> 12) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 + (n & 15)
        } else {
            n
        };
        if units == 0 { self.modulus() } else { units }
    }

    fn modulus(&self) -> u32 {
        if self.control & BCD != 0 {
            10_000
        } else {
            MAX_COUNT
        }
    }

    /// A control word for this counter: OUT takes its initial level, counting waits for a count.
    pub(super) fn control(&mut self, word: u8) {
        *self = Self {
            control: word & 0x3F,
            out: Mode::of(word) != Mode::InterruptOnTerminalCount,
            count: self.count,
            initial: self.initial,
            armed: false,
            loaded: false,
            null_count: true,
            ..Self::new(self.gate)
        };
    }

    /// Takes one byte written to the counter's port.
    ///
    /// "Write Operations": a new count may be written at any time without a new control word, so
    /// the byte order starts again after every second byte.
    pub(super) fn write(&mut self, byte: u8) {
        let count = match self.access() {
            Access::Lsb => u16::from(byte),
            Access::Msb => u16::from(byte) << 8,
            Access::LsbThenMsb => match self.pending_lsb.take() {
                Some(lsb) => u16::from_le_bytes([lsb, byte]),
                None => return self.write_first(byte),
            },
        };
        self.initial = count;
        self.armed = true;
        self.held = false;
        self.null_count = true;
        match self.mode() {
            Mode::InterruptOnTerminalCount => {
                self.out = false;
                self.load = true;
            }
            Mode::SoftwareStrobe => self.load = true,
            Mode::RateGenerator | Mode::SquareWave => self.load |= !self.loaded,
            Mode::OneShot | Mode::HardwareStrobe => {}
        }
    }

    /// The low byte of two: in mode 0 it stops the count and lowers OUT at once.
    fn write_first(&mut self, byte: u8) {
        self.pending_lsb = Some(byte);
        if self.mode() == Mode::InterruptOnTerminalCount {
            self.held = true;
            self.out = false;
        }
    }

    /// One byte read from the counter's port: latched status, latched count, or the live count.
    pub(super) fn read(&mut self) -> u8 {
        if let Some(status) = self.status_latch.take() {
            return status;
        }
        let [low, high] = self.count_latch.unwrap_or(self.live_count()).to_le_bytes();
        let latched = self.count_latch.is_some();
        let turn = match latched {
            true => &mut self.latch_high,
            false => &mut self.read_high,
        };
        let (byte, last) = match (self.control >> 4, *turn) {
            (2, _) | (3, true) => (high, true),
            (3, false) => (low, false),
            _ => (low, true),
        };
        *turn = !last;
        if last {
            self.count_latch = None;
        }
        byte
    }

    /// The counting element as the guest reads it.
    fn live_count(&self) -> u16 {
        let n = self.count % self.modulus();
        let shown = if self.control & BCD != 0 {
            ((n / 1000) << 12) | ((n / 100 % 10) << 8) | ((n / 10 % 10) << 4) | (n % 10)
        } else {
            n
        };
        (shown & 0xFFFF) as u16
    }

    /// Counter latch command: held until read; a second one before that is ignored.
    pub(super) fn latch_count(&mut self) {
        if self.count_latch.is_none() {
            self.count_latch = Some(self.live_count());
            self.latch_high = false;
        }
    }

    /// Read-back of the status: OUT, null count, and the control word.
    pub(super) fn latch_status(&mut self) {
        let flags = u8::from(self.out) << 7 | u8::from(self.null_count) << 6;
        self.status_latch.get_or_insert(flags | self.control);
    }

    /// Drives the GATE input: "Gate Pin Operations Summary".
    pub(super) fn set_gate(&mut self, level: bool) {
        let rising = level && !self.gate;
        self.gate = level;
        let mode = self.mode();
        if mode.is_periodic() && !level {
            self.out = true;
        }
        if rising && self.armed && (mode.is_periodic() || mode.is_triggered()) {
            self.load = true;
        }
    }

    /// Moves on by `ticks` clock pulses; says whether OUT rose meanwhile (once or often).
    pub(super) fn advance(&mut self, mut ticks: u64) -> bool {
        let mut rose = false;
        while ticks > 0 {
            let Some(distance) = self.event_in() else {
                self.count_on(ticks);
                break;
            };
            if ticks < distance {
                self.count_on(ticks);
                break;
            }
            let period = u64::from(self.units());
            if self.repeats() && ticks >= 2 * period {
                // Whole periods change nothing; the one that is kept tells whether OUT rises in each.
                ticks = ticks % period + period;
            }
            if ticks >= distance {
                let before = self.out;
                self.count_on(distance - 1);
                self.event();
                rose |= self.out && !before;
                ticks -= distance;
            }
        }
        rose
    }

    /// Ticks until OUT next changes, if nothing is written meanwhile.
    pub(super) fn edge_in(&self) -> Option<u64> {
        // Load, end of the running half, reload with another count, its first half: never more.
        const EVENTS: usize = 6;
        let mut ahead = *self;
        let mut ticks = 0;
        for _ in 0..EVENTS {
            let distance = ahead.event_in()?;
            ahead.count_on(distance - 1);
            ahead.event();
            ticks += distance;
            if ahead.out != self.out {
                return Some(ticks);
            }
        }
        None
    }

    /// Whether the count goes down with the clock.
    fn counts(&self) -> bool {
        self.loaded && !self.held && (self.gate || !self.mode().is_gated())
    }

    /// Whether each period is now like the last.
    fn repeats(&self) -> bool {
        self.mode().is_periodic() && !self.load && !self.null_count
    }

    /// Ticks (at least one) until a load, a reload or a change of OUT.
    fn event_in(&self) -> Option<u64> {
        if self.load {
            return Some(1);
        }
        if !self.counts() || self.done {
            return None;
        }
        let ticks = match self.mode() {
            Mode::RateGenerator => self.count.saturating_sub(1),
            Mode::SquareWave => self.count / 2 + u32::from(self.odd && self.out),
            Mode::SoftwareStrobe | Mode::HardwareStrobe if !self.out => 1,
            Mode::InterruptOnTerminalCount
            | Mode::OneShot
            | Mode::SoftwareStrobe
            | Mode::HardwareStrobe => self.count,
        };
        Some(u64::from(ticks.max(1)))
    }

    /// Counts down by `ticks` without meeting an event.
    fn count_on(&mut self, ticks: u64) {
        if self.load || !self.counts() {
            return;
        }
        let modulus = u64::from(self.modulus());
        let step = if self.mode() == Mode::SquareWave {
            2
        } else {
            1
        };
        let count = u64::from(self.count);
        let left = match count.checked_sub(step * ticks.min(1 << 32)) {
            Some(left) => left,
            None => (count % modulus + modulus - step * ticks.min(1 << 32) % modulus) % modulus,
        };
        self.count = u32::try_from(left).unwrap_or(MAX_COUNT);
    }

    /// The clock pulse on which [`Counter::event_in`] ends.
    fn event(&mut self) {
        if self.load {
            return self.load();
        }
        match self.mode() {
            Mode::InterruptOnTerminalCount | Mode::OneShot => {
                self.count = 0;
                self.out = true;
                self.done = true;
            }
            Mode::RateGenerator if self.count == 2 => {
                self.count = 1;
                self.out = false;
            }
            Mode::RateGenerator => {
                self.reload();
                self.out = self.count != 1;
            }
            Mode::SquareWave => {
                self.reload();
                self.out = !self.out || self.units() == 1;
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe if self.out => {
                self.count = 0;
                self.out = false;
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                self.count = self.modulus() - 1;
                self.out = true;
                self.done = true;
            }
        }
    }

    /// The clock pulse after a write or a trigger.
    fn load(&mut self) {
        self.load = false;
        self.loaded = true;
        self.done = false;
        self.reload();
        self.out = !matches!(self.mode(), Mode::InterruptOnTerminalCount | Mode::OneShot);
    }

    /// The counting element takes the count register.
    fn reload(&mut self) {
        self.null_count = false;
        self.count = self.units();
        self.odd = self.count & 1 != 0;
        if self.mode() == Mode::SquareWave {
            self.count &= !1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a test does to a counter.
    #[derive(Clone, Debug)]
    enum Act {
        Control(u8),
        Write(u8),
        Gate(bool),
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0u8..0x40).prop_map(Act::Control),
            (0u8..8).prop_map(Act::Write),
            any::<u8>().prop_map(Act::Write),
            any::<bool>().prop_map(Act::Gate),
            (0u64..400).prop_map(Act::Wait),
        ];
        prop::collection::vec(act, 1..40)
    }

    fn apply(c: &mut Counter, act: &Act) {
        match *act {
            Act::Control(word) => c.control(word),
            Act::Write(byte) => c.write(byte),
            Act::Gate(level) => c.set_gate(level),
            Act::Wait(_) => {}
        }
    }

    proptest! {
        #[test]
        fn a_leap_equals_single_ticks(acts in acts(), last in 0u64..200_000) {
            let mut leaping = Counter::new(true);
            let mut ticking = leaping;
            for act in acts.iter().chain([&Act::Wait(last)]) {
                apply(&mut leaping, act);
                apply(&mut ticking, act);
                if let Act::Wait(ticks) = *act {
                    let rose = leaping.advance(ticks);
                    let mut ticked = false;
                    for _ in 0..ticks {
                        ticked |= ticking.advance(1);
                    }
                    prop_assert_eq!(rose, ticked);
                }
                prop_assert_eq!(leaping, ticking);
                prop_assert!(leaping.is_possible(), "{:?}", leaping);
            }
        }

        #[test]
        fn an_edge_comes_when_foretold(acts in acts()) {
            let mut c = Counter::new(true);
            for act in &acts {
                apply(&mut c, act);
                if let Act::Wait(ticks) = *act {
                    c.advance(ticks);
                }
                let before = c.out();
                let mut walk = c;
                match c.edge_in() {
                    Some(ticks) => {
                        walk.advance(ticks - 1);
                        prop_assert_eq!(walk.out(), before);
                        walk.advance(1);
                        prop_assert_ne!(walk.out(), before);
                    }
                    None => {
                        prop_assert!(!walk.advance(1 << 40));
                        prop_assert_eq!(walk.out(), before);
                    }
                }
            }
        }
    }
}
