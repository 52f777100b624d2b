//! Port F0h and interrupt 13: how an AT reports x87 errors.
//!
//! IBM AT Technical Reference, "Math Coprocessor"; Intel AP-578, "Software and Hardware Considerations for FPU Exception
//! Handlers". Region 0: port F0h, one byte. For processors with CR0.NE clear: FERR# going active raises IRQ 13;
//! any write lowers it again and, while FERR# is active, activates IGNNE#, by which the handler's
//! own x87 instructions get past the error. FERR# going inactive takes IGNNE# back. A read floats.
//!
//! Not modelled: port F1h (resets a 287), more than one processor (all share the pins, as on the stock machine).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::board::Wiring;
use crate::{At, Device, IrqLine, RestoreError, State};

const VERSION: u32 = 1;

/// The processor's pins FERR# and IGNNE#; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Wires>);

#[derive(Debug, Default)]
struct Wires {
    ferr: AtomicBool,
    ignne: AtomicBool,
}

impl Pins {
    /// The processor drives FERR#; whether that is new: the device must look then.
    pub fn set_ferr(&self, asserted: bool) -> bool {
        self.0.ferr.swap(asserted, Ordering::AcqRel) != asserted
    }

    /// Whether IGNNE# is active.
    pub fn ignne(&self) -> bool {
        self.0.ignne.load(Ordering::Acquire)
    }
}

/// Builds the port over `wiring.x87_pins`; `wiring.irq(0)` is IRQ 13.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(PortF0 {
        pins: wiring.x87_pins.clone(),
        irq: wiring.irq(0),
        chip: Chip::default(),
    })
}

struct PortF0 {
    pins: Pins,
    irq: IrqLine,
    chip: Chip,
}

/// What is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// FERR# as last seen.
    ferr: bool,
    ignne: bool,
    raised: bool,
}

impl PortF0 {
    fn look(&mut self) {
        let ferr = self.pins.0.ferr.load(Ordering::Acquire);
        if ferr != self.chip.ferr {
            self.chip.ferr = ferr;
            self.chip.raised |= ferr;
            self.chip.ignne = false;
        }
        self.show(IrqLine::set_level);
    }

    fn show(&self, how: fn(&IrqLine, bool)) {
        self.pins.0.ignne.store(self.chip.ignne, Ordering::Release);
        how(&self.irq, self.chip.raised);
    }
}

impl Device for PortF0 {
    fn read(&mut self, _at: At, _data: &mut [u8]) {}

    fn write(&mut self, _at: At, _data: &[u8]) {
        self.look();
        self.chip.raised = false;
        self.chip.ignne = self.chip.ferr;
        self.show(IrqLine::set_level);
    }

    fn reset(&mut self) {
        self.pins.0.ferr.store(false, Ordering::Release);
        self.chip = Chip::default();
        self.show(IrqLine::set_level);
    }

    fn poll(&mut self, _now: Duration) -> Option<Duration> {
        self.look();
        None
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.chip = from.fields(VERSION)?;
        self.pins.0.ferr.store(self.chip.ferr, Ordering::Release);
        self.show(IrqLine::restore_level);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbench::{Bench, inb, outb};

    #[test]
    fn an_error_is_an_interrupt_until_the_handler_writes() {
        let bench = Bench::new();
        let pins = bench.wiring.x87_pins.clone();
        let mut port = new(&bench.wiring);
        outb(&mut *port, 0, 0, 0);
        assert!(!pins.ignne(), "nothing to ignore");
        assert!(pins.set_ferr(true) && !pins.set_ferr(true));
        port.poll(Duration::ZERO);
        assert_eq!((bench.probe.level(0), pins.ignne()), (true, false));
        outb(&mut *port, 0, 0, 0);
        assert_eq!((bench.probe.level(0), pins.ignne()), (false, true));
        pins.set_ferr(false);
        port.poll(Duration::ZERO);
        assert_eq!((bench.probe.edges(0), pins.ignne()), (1, false));
        assert_eq!(inb(&mut *port, 0, 0), 0xFF);
    }

    #[test]
    fn the_interrupt_outlasts_the_error_and_a_reset_ends_both() {
        let bench = Bench::new();
        let pins = bench.wiring.x87_pins.clone();
        let mut port = new(&bench.wiring);
        pins.set_ferr(true);
        port.poll(Duration::ZERO);
        pins.set_ferr(false);
        port.poll(Duration::ZERO);
        assert!(bench.probe.level(0));
        pins.set_ferr(true);
        port.reset();
        port.poll(Duration::ZERO);
        assert_eq!((bench.probe.level(0), pins.ignne()), (false, false));
    }
}
