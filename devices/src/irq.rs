//! Interrupt lines: wires from a device to an input of the interrupt chips.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What an interrupt line drives: the interrupt chips, a PIRQ router, or a test's probe.
pub trait IrqSink: Send + Sync {
    /// The level of input `input` is now `level`.
    fn set_level(&self, input: u32, level: bool);
    /// The level of input `input` is `level` as restored from saved state: no edge is seen.
    fn restore_level(&self, input: u32, level: bool);
}

/// One wire to one input of an interrupt controller. Not `Clone`: two devices on one wire share
/// it through [`IrqLine::or_with`], so that neither can lower what the other holds up.
pub struct IrqLine {
    wire: Arc<Wire>,
    /// This driver's bit among those that share the wire.
    driver: u32,
}

struct Wire {
    sink: Arc<dyn IrqSink>,
    input: u32,
    /// One bit a driver: the wire's level is the OR of all.
    levels: AtomicU32,
    drivers: AtomicU32,
}

impl IrqLine {
    /// A wire to input `input` of `sink`, low.
    pub fn new(sink: Arc<dyn IrqSink>, input: u32) -> Self {
        let wire = Wire {
            sink,
            input,
            levels: AtomicU32::new(0),
            drivers: AtomicU32::new(1),
        };
        Self {
            wire: Arc::new(wire),
            driver: 0,
        }
    }

    /// A line that leads nowhere.
    pub fn unconnected() -> Self {
        Self::new(Arc::new(Nowhere), 0)
    }

    /// Another driver of the same wire (wired OR); at most 32 of them.
    pub fn or_with(&self) -> Self {
        let driver = self.wire.drivers.fetch_add(1, Ordering::Relaxed);
        assert!(
            driver < u32::BITS,
            "more than 32 drivers on one interrupt line"
        );
        Self {
            wire: Arc::clone(&self.wire),
            driver,
        }
    }

    /// Drives the line high or low.
    pub fn set_level(&self, level: bool) {
        if let Some(level) = self.wire.drive(self.driver, level) {
            self.wire.sink.set_level(self.wire.input, level);
        }
    }

    /// A rising edge, then low again.
    pub fn pulse(&self) {
        self.set_level(true);
        self.set_level(false);
    }

    /// Puts the line to the level it had when the machine was saved; the chips see no edge.
    pub fn restore_level(&self, level: bool) {
        if let Some(level) = self.wire.drive(self.driver, level) {
            self.wire.sink.restore_level(self.wire.input, level);
        }
    }
}

impl Wire {
    /// Takes one driver's level; returns the wire's level if that changed. A driver's bit is its
    /// own, so a look tells whether it changes: most accesses to a device leave its line as it was.
    fn drive(&self, driver: u32, level: bool) -> Option<bool> {
        let bit = 1 << driver;
        if (self.levels.load(Ordering::Acquire) & bit != 0) == level {
            return None;
        }
        let before = if level {
            self.levels.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.levels.fetch_and(!bit, Ordering::AcqRel)
        };
        (before & !bit == 0).then_some(level)
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqLine({})", self.wire.input)
    }
}

/// Input of a [`LegacyGate`]: timer 0 of the HPET, in the place of the 8254.
pub const HPET_TIMER: u32 = 0x100;
/// Input of a [`LegacyGate`]: timer 1 of the HPET, in the place of the real-time clock.
pub const HPET_RTC: u32 = 0x101;
/// Input of a [`LegacyGate`]: while it is up, the HPET's timers stand in their places.
pub const HPET_REPLACES: u32 = 0x102;

/// What stands between devices and the interrupt chips: the HPET's "legacy replacement".
///
/// While [`HPET_REPLACES`] is up, interrupts 0 and 8 are [`HPET_TIMER`] and [`HPET_RTC`], and what 8254 and
/// real-time clock drive is not seen; else it is the other way round. All other inputs pass.
pub struct LegacyGate {
    chips: Arc<dyn IrqSink>,
    wires: Mutex<GateWires>,
}

/// Levels as they are driven: by the legacy devices (interrupt 0, interrupt 8), by the HPET.
#[derive(Default)]
struct GateWires {
    legacy: [bool; 2],
    hpet: [bool; 2],
    replaces: bool,
}

impl GateWires {
    /// The input's level, if the gate has that input.
    fn wire(&mut self, input: u32) -> Option<&mut bool> {
        match input {
            0 => Some(&mut self.legacy[0]),
            8 => Some(&mut self.legacy[1]),
            HPET_TIMER => Some(&mut self.hpet[0]),
            HPET_RTC => Some(&mut self.hpet[1]),
            HPET_REPLACES => Some(&mut self.replaces),
            _ => None,
        }
    }

    /// The levels of interrupts 0 and 8.
    fn outputs(&self) -> [bool; 2] {
        if self.replaces {
            self.hpet
        } else {
            self.legacy
        }
    }
}

impl LegacyGate {
    /// A gate before `chips`.
    pub fn new(chips: Arc<dyn IrqSink>) -> Arc<Self> {
        Arc::new(Self {
            chips,
            wires: Mutex::default(),
        })
    }

    /// Under the lock to the end, so that two changes reach the chips in their order.
    fn drive(&self, input: u32, level: bool, to: impl Fn(u32, bool)) {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wires.outputs();
        let Some(wire) = wires.wire(input) else {
            drop(wires);
            return to(input, level);
        };
        *wire = level;
        let after = wires.outputs();
        for (n, irq) in [0, 8].into_iter().enumerate() {
            if after[n] != before[n] {
                to(irq, after[n]);
            }
        }
    }
}

impl IrqSink for LegacyGate {
    fn set_level(&self, input: u32, level: bool) {
        self.drive(input, level, |irq, level| self.chips.set_level(irq, level));
    }

    fn restore_level(&self, input: u32, level: bool) {
        self.drive(input, level, |irq, level| {
            self.chips.restore_level(irq, level);
        });
    }
}

struct Nowhere;

impl IrqSink for Nowhere {
    fn set_level(&self, _input: u32, _level: bool) {}
    fn restore_level(&self, _input: u32, _level: bool) {}
}

/// A sink that remembers levels and counts rising edges: for tests of devices.
#[derive(Debug, Default)]
pub struct Probe {
    seen: Mutex<std::collections::BTreeMap<u32, (bool, u32)>>,
}

impl Probe {
    /// The level of `input`.
    pub fn level(&self, input: u32) -> bool {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&input)
            .is_some_and(|s| s.0)
    }

    /// How often `input` has risen.
    pub fn edges(&self, input: u32) -> u32 {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&input)
            .map_or(0, |s| s.1)
    }
}

impl IrqSink for Probe {
    fn set_level(&self, input: u32, level: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry(input).or_default();
        entry.1 += u32::from(level && !entry.0);
        entry.0 = level;
    }

    fn restore_level(&self, input: u32, level: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(input).or_default().0 = level;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_shows_one_of_both() {
        let probe = Arc::new(Probe::default());
        let gate = LegacyGate::new(probe.clone());
        let [timer, rtc, other] = [0, 8, 5].map(|n| IrqLine::new(gate.clone(), n));
        let [hpet, select] = [HPET_TIMER, HPET_REPLACES].map(|n| IrqLine::new(gate.clone(), n));
        timer.set_level(true);
        other.set_level(true);
        hpet.pulse();
        assert_eq!((probe.edges(0), probe.edges(5)), (1, 1));
        select.set_level(true);
        assert!(!probe.level(0), "the 8254 is cut off");
        timer.set_level(false);
        timer.set_level(true);
        rtc.set_level(true);
        assert_eq!((probe.edges(0), probe.edges(8)), (1, 0));
        hpet.pulse();
        assert_eq!(probe.edges(0), 2);
        select.restore_level(false);
        assert_eq!((probe.level(0), probe.edges(0)), (true, 2), "no edge");
        assert_eq!((probe.level(8), probe.edges(8)), (true, 0));
        assert!(probe.edges(HPET_TIMER) + probe.edges(HPET_REPLACES) == 0);
    }
}
