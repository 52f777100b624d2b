//! INTA#-INTD# of the slots, and the router that leads them to ISA interrupts.
//!
//! Documents: PCI 2.1, 2.2.6 "Interrupt Pins"; 82371SB (PIIX3) 290550, "PIRQRCA-D". Pin `p` of slot
//! `n` is wired to PIRQ `(n - 1 + p) & 3`, as on the reference machine: its ACPI tables and SeaBIOS say
//! the same. Wired OR all along. Levels are positive here: `true` is asserted.
//!
//! A PIRQ routed to an IRQ the datasheet reserves (0, 1, 2, 8, 13) is not routed. The 8259 takes a
//! PIRQ as level or edge as ELCR says; firmware sets that, the router does not.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::IrqLine;
use crate::irq::IrqSink;

/// PIRQ route registers: one byte for each of PIRQA# to PIRQD#.
pub type Routes = [u8; 4];

/// The routes after reset: none.
pub const NO_ROUTES: Routes = [ROUTE_DISABLE; 4];

const ROUTE_DISABLE: u8 = 1 << 7;
const ROUTE_IRQ: u8 = 0x0F;
/// The IRQs a PIRQ can be routed to.
const ROUTABLE: u16 = 0xDEF8;
const SLOTS: usize = 32;

/// One of a slot's four interrupt pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// INTA#
    A,
    /// INTB#
    B,
    /// INTC#
    C,
    /// INTD#
    D,
}

impl Pin {
    /// All four.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::D];
}

/// The PIIX3's router: inputs are `(slot * 8 + function) * 4 + pin`, outputs the ISA
/// interrupts. Functions of one slot may share a pin: each has an input of its own.
///
/// Its lock is taken under a device's, before the interrupt chips'.
pub struct PirqRouter {
    /// By IRQ; `None` where nothing can be routed.
    outputs: [Option<IrqLine>; 16],
    wires: Mutex<Wires>,
}

struct Wires {
    /// By slot and pin, a bit for each function.
    slots: [[u8; 4]; SLOTS],
    routes: Routes,
}

impl PirqRouter {
    /// A router to the ISA interrupts that `irq` makes lines to, nothing routed.
    pub fn new(mut irq: impl FnMut(u32) -> IrqLine) -> Arc<Self> {
        let routable = |n: usize| ROUTABLE >> n & 1 != 0;
        let outputs = std::array::from_fn(|n| routable(n).then(|| irq(n as u32)));
        Arc::new(Self {
            outputs,
            wires: Mutex::new(Wires {
                slots: [[0; 4]; SLOTS],
                routes: NO_ROUTES,
            }),
        })
    }

    /// The wire from `pin` of a function. For each pin of a function it is made once.
    pub fn intx(self: &Arc<Self>, slot: u8, function: u8, pin: Pin) -> IrqLine {
        let input = (u32::from(slot) * 8 + u32::from(function)) * 4 + pin as u32;
        IrqLine::new(Arc::clone(self) as Arc<dyn IrqSink>, input)
    }

    /// The route registers were written, or reset.
    pub fn set_routes(&self, routes: Routes) {
        self.change(IrqLine::set_level, |wires| wires.routes = routes);
    }

    /// The route registers were restored: nobody sees an edge.
    pub fn restore_routes(&self, routes: Routes) {
        self.change(IrqLine::restore_level, |wires| wires.routes = routes);
    }

    fn change(&self, how: fn(&IrqLine, bool), change: impl FnOnce(&mut Wires)) {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wires);
        let raised = wires.raised();
        // Under the lock, so that two changes reach the chips in their order.
        for (irq, line) in self.outputs.iter().enumerate() {
            if let Some(line) = line {
                how(line, raised >> irq & 1 != 0);
            }
        }
    }
}

impl Wires {
    fn set(&mut self, input: u32, level: bool) {
        let (slot, function, pin) = (input as usize / 32, input / 4 % 8, input as usize % 4);
        if let Some(pins) = self.slots.get_mut(slot) {
            pins[pin] = pins[pin] & !(1 << function) | u8::from(level) << function;
        }
    }

    /// The IRQs that are up, a bit each.
    fn raised(&self) -> u16 {
        let mut raised = 0;
        for (slot, pins) in self.slots.iter().enumerate() {
            for pin in (0..4).filter(|pin| pins[*pin] != 0) {
                raised |= self.irq_bit((slot + 3 + pin) % 4);
            }
        }
        raised
    }

    /// The bit of the IRQ that `pirq` is routed to; none if it is to none.
    fn irq_bit(&self, pirq: usize) -> u16 {
        let route = self.routes[pirq];
        if route & ROUTE_DISABLE == 0 {
            1 << (route & ROUTE_IRQ) & ROUTABLE
        } else {
            0
        }
    }
}

impl IrqSink for PirqRouter {
    fn set_level(&self, input: u32, level: bool) {
        self.change(IrqLine::set_level, |wires| wires.set(input, level));
    }

    fn restore_level(&self, input: u32, level: bool) {
        self.change(IrqLine::restore_level, |wires| wires.set(input, level));
    }
}

impl fmt::Debug for PirqRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "PirqRouter({:02x?})", wires.routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::Probe;

    fn router() -> (Arc<PirqRouter>, Arc<Probe>) {
        let probe = Arc::new(Probe::default());
        let sink = probe.clone();
        let router = PirqRouter::new(move |n| IrqLine::new(sink.clone(), n));
        (router, probe)
    }

    #[test]
    fn pins_are_swizzled_by_slot() {
        // PIRQA-D to IRQ 9-12; slot 0 and 4 begin at PIRQD, slot 1 at PIRQA.
        for (slot, irqs) in [
            (0, [12, 9, 10, 11]),
            (1, [9, 10, 11, 12]),
            (3, [11, 12, 9, 10]),
            (4, [12, 9, 10, 11]),
            (31, [11, 12, 9, 10]),
        ] {
            for (pin, irq) in Pin::ALL.into_iter().zip(irqs) {
                let (router, probe) = router();
                router.set_routes([9, 10, 11, 12]);
                router.intx(slot, 0, pin).set_level(true);
                let up: Vec<u32> = (0..16).filter(|n| probe.level(*n)).collect();
                assert_eq!(up, [irq], "slot {slot} {pin:?}");
            }
        }
    }

    #[test]
    fn pirqs_on_one_irq_are_wired_or() {
        let (router, probe) = router();
        let (a, b) = (router.intx(1, 0, Pin::A), router.intx(2, 0, Pin::A));
        router.set_routes([11, 11, 0x80, 0x80]);
        a.set_level(true);
        b.set_level(true);
        a.set_level(false);
        assert!(probe.level(11));
        b.set_level(false);
        assert!(!probe.level(11));
        assert_eq!(probe.edges(11), 1);
    }

    #[test]
    fn functions_of_a_slot_share_a_pin() {
        let (router, probe) = router();
        router.set_routes([0x80, 0x80, 0x80, 9]);
        let (a, b) = (router.intx(1, 2, Pin::D), router.intx(1, 3, Pin::D));
        a.set_level(true);
        b.set_level(true);
        b.set_level(false);
        assert!(probe.level(9));
        a.set_level(false);
        assert!(!probe.level(9));
    }

    #[test]
    fn a_new_route_takes_the_level_along() {
        let (router, probe) = router();
        router.intx(1, 0, Pin::A).set_level(true);
        for (route, up) in [
            (10, Some(10)),
            (5, Some(5)),
            (0x85, None),
            (8, None),
            (13, None),
        ] {
            router.set_routes([route, 0x80, 0x80, 0x80]);
            assert_eq!((0..16).find(|n| probe.level(*n)), up, "{route:#x}");
        }
        router.restore_routes([3, 0x80, 0x80, 0x80]);
        assert_eq!((probe.level(3), probe.edges(3)), (true, 0), "no edge");
    }

    #[test]
    fn inputs_that_do_not_exist_are_ignored() {
        let (router, probe) = router();
        router.set_routes([9, 9, 9, 9]);
        router.set_level(u32::MAX, true);
        assert!(!probe.level(9));
    }
}
