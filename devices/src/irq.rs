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
    levels: Mutex<u32>,
    drivers: AtomicU32,
}

impl IrqLine {
    /// A wire to input `input` of `sink`, low.
    pub fn new(sink: Arc<dyn IrqSink>, input: u32) -> Self {
        let wire = Wire {
            sink,
            input,
            levels: Mutex::new(0),
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
    /// Takes one driver's level; returns the wire's level if that changed.
    fn drive(&self, driver: u32, level: bool) -> Option<bool> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *levels != 0;
        *levels = *levels & !(1 << driver) | u32::from(level) << driver;
        let after = *levels != 0;
        (before != after).then_some(after)
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqLine({})", self.wire.input)
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
