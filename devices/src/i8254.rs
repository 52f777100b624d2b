//! Intel 8254 programmable interval timer, and port 61h.
//!
//! Datasheet: Intel 231164-005; port 61h: Intel 82371SB (PIIX3) 290550, "NMI Status and Control".
//! Region 0: ports 40h..=42h the counters, 43h the control word. Region 1: port 61h. All registers
//! are one byte wide. OUT of counter 0 is IRQ 0; counter 2's GATE is bit 0 of port 61h, the other
//! gates are tied high.
//!
//! Modelled: the one-tick load delay, null count, both latches, counts in BCD.
//! Not modelled: the sound of the speaker; the parity and IOCHK# bits of port 61h (2, 3, 6, 7), which
//! read 0 as on the stock machine. The refresh bit (port 61h, bit 4) turns every 18 ticks (15.09 µs)
//! whatever counter 1 is set to. Control port reads give 0, as on the stock machine. A count of
//! 1, illegal in modes 2 and 3, gives no edges. Before its first control word a counter runs in mode 3
//! from the full count, as firmware finds it on the stock machine. A latched count starts with its
//! low byte even when an unlatched read stands between its bytes.
//!
//! Edges of OUT 0 that fall into one gap between polls are one interrupt: a line carries no more.

mod counter;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::board::Wiring;
use crate::time::Rate;
use crate::{At, Clock, Device, IrqLine, RestoreError, State};
use counter::Counter;

/// The PC's timer clock: a third of the colour burst's fourfold.
const CLK: Rate = Rate::hz(1_193_182);
/// Clock pulses between two refreshes of memory.
const REFRESH: u64 = 18;
const VERSION: u32 = 1;

const COUNTERS: u8 = 0;
const CONTROL: u64 = 3;

bitflags::bitflags! {
    /// Port 61h.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Port61: u8 {
        const GATE2 = 1 << 0;
        const SPEAKER = 1 << 1;
        const REFRESH = 1 << 4;
        const OUT2 = 1 << 5;
    }
}

impl Port61 {
    const WRITABLE: Self = Self::GATE2.union(Self::SPEAKER);
}

/// Builds the timer; `wiring.irq(0)` is IRQ 0.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    let mut timer = I8254 {
        clock: wiring.clock.clone(),
        irq: wiring.irq(0),
        chip: Chip::new(),
    };
    timer.reset();
    Box::new(timer)
}

struct I8254 {
    clock: Clock,
    irq: IrqLine,
    chip: Chip,
}

/// What is saved.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Chip {
    counters: [Counter; 3],
    port61: Port61,
    /// The tick the counters stand at.
    tick: u64,
}

impl Chip {
    fn new() -> Self {
        Self {
            counters: [true, true, false].map(Counter::new),
            port61: Port61::empty(),
            tick: 0,
        }
    }
}

impl I8254 {
    /// Brings the counters to guest time and shows on the line what OUT 0 did.
    fn catch_up(&mut self, now: Duration) {
        let tick = CLK.ticks_at(now).max(self.chip.tick);
        let ticks = tick - self.chip.tick;
        self.chip.tick = tick;
        let [first, others @ ..] = &mut self.chip.counters;
        for counter in others {
            counter.advance(ticks);
        }
        if first.advance(ticks) {
            self.irq.set_level(false);
            self.irq.set_level(true);
        }
        self.drive();
    }

    fn drive(&self) {
        self.irq.set_level(self.chip.counters[0].out());
    }

    /// Control word, counter latch or read-back command.
    fn control(&mut self, word: u8) {
        match usize::from(word >> 6) {
            3 => self.read_back(word),
            counter if word & 0x30 == 0 => self.chip.counters[counter].latch_count(),
            counter => self.chip.counters[counter].control(word),
        }
    }

    /// Read-back: bits 1..=3 choose counters, a clear bit 5 the count, a clear bit 4 the status.
    fn read_back(&mut self, command: u8) {
        for (i, counter) in self.chip.counters.iter_mut().enumerate() {
            if command & 2 << i == 0 {
                continue;
            }
            if command & 0x20 == 0 {
                counter.latch_count();
            }
            if command & 0x10 == 0 {
                counter.latch_status();
            }
        }
    }

    fn counter(&mut self, offset: u64) -> Option<&mut Counter> {
        self.chip.counters.get_mut(usize::try_from(offset).ok()?)
    }

    fn port61(&self) -> Port61 {
        let mut bits = self.chip.port61;
        bits.set(
            Port61::REFRESH,
            !(self.chip.tick / REFRESH).is_multiple_of(2),
        );
        bits.set(Port61::OUT2, self.chip.counters[2].out());
        bits
    }
}

impl Device for I8254 {
    fn read(&mut self, at: At, data: &mut [u8]) {
        self.catch_up(self.clock.now());
        let value = if at.region == COUNTERS {
            self.counter(at.offset).map_or(0, Counter::read)
        } else {
            self.port61().bits()
        };
        if let Some(byte) = data.first_mut() {
            *byte = value;
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let Some(&byte) = data.first() else { return };
        self.catch_up(self.clock.now());
        if at.region != COUNTERS {
            self.chip.port61 = Port61::from_bits_truncate(byte) & Port61::WRITABLE;
            self.chip.counters[2].set_gate(byte & Port61::GATE2.bits() != 0);
        } else if at.offset == CONTROL {
            self.control(byte);
        } else if let Some(counter) = self.counter(at.offset) {
            counter.write(byte);
        }
        self.drive();
    }

    fn reset(&mut self) {
        self.chip = Chip {
            tick: CLK.ticks_at(self.clock.now()),
            ..Chip::new()
        };
        self.drive();
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        self.catch_up(now);
        let ticks = self.chip.counters[0].edge_in()?;
        Some(CLK.instant_of(self.chip.tick.saturating_add(ticks)))
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let chip: Chip = from.fields(VERSION)?;
        if !chip.counters.iter().all(Counter::is_possible) {
            return Err(RestoreError::Impossible { field: "counter" });
        }
        if !Port61::WRITABLE.contains(chip.port61) {
            return Err(RestoreError::Impossible { field: "port 61h" });
        }
        self.chip = chip;
        self.irq.restore_level(chip.counters[0].out());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
