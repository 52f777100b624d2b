//! Intel 82093AA I/O APIC, version 0x20.
//!
//! Datasheet: Intel 290566-001. FEC00000h: index at 0x00, data at 0x10, EOI at 0x40; the rest of
//! the page repeats these 256 bytes. Version 0x20 is what stock machines show: against the
//! 82093AA's 0x11 it has the EOI register and 8-bit destinations. Pure logic: the page is decoded
//! in [`crate::chips`], which also carries the messages to the local APICs.
//!
//! Not modelled: pin polarity (the bit is stored; a line's level is "asserted" already, as in
//! QEMU), the APIC bus and its arbitration (register 2 gives the ID), reading back an edge that
//! waits for the bus: a message goes at once. An edge that nobody accepts is lost; a level is
//! offered again, and delivery status reads one until then. Pin 0 has no source: IRQ0 is on pin 2.

use serde::{Deserialize, Serialize};

use crate::lapic::message::{Delivery, Message, Target, word};

/// Number of interrupt inputs.
pub const PINS: usize = 24;
/// Version register: highest entry 23, version 0x20.
const VERSION: u32 = 0x0017_0020;
/// ID bits of registers 0 and 2.
const ID: u32 = 0x0f00_0000;
/// Index register of the first redirection entry's low word.
const REDIRECTION: u8 = 0x10;
/// Bits of a redirection entry's low word that software writes.
const WRITABLE: u32 =
    word::VECTOR | word::DELIVERY | word::LOGICAL | word::ACTIVE_LOW | word::LEVEL | word::MASKED;

/// One pin's redirection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The low word but for delivery status.
    low: u32,
    destination: u8,
}

impl Entry {
    const RESET: Self = Self {
        low: word::MASKED,
        destination: 0,
    };

    fn masked(self) -> bool {
        self.low & word::MASKED != 0
    }

    /// "NMI ... is treated as an edge triggered interrupt even if it is programmed as a level
    /// triggered interrupt"; so are the other modes without a vector.
    fn level(self) -> bool {
        self.low & word::LEVEL != 0 && Delivery::of(self.low).is_vectored()
    }

    fn message(self) -> Message {
        let target = Target::destination(self.low & word::LOGICAL != 0, self.destination);
        Message {
            level: self.level(),
            ..Message::new(self.low, target)
        }
    }
}

/// The I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoApic {
    id: u32,
    index: u8,
    /// Present level of the pins.
    lines: u32,
    /// Edges not yet sent.
    edges: u32,
    entries: [Entry; PINS],
}

impl Default for IoApic {
    fn default() -> Self {
        Self {
            id: 0,
            index: 0,
            lines: 0,
            edges: 0,
            entries: [Entry::RESET; PINS],
        }
    }
}

impl IoApic {
    /// Hardware reset; the pins keep the level they are driven to.
    pub fn reset(&mut self) {
        *self = Self {
            lines: self.lines,
            ..Self::default()
        };
    }

    /// Drives pin `pin`. A rising edge on a masked edge-triggered pin is lost: "Interrupt Mask".
    pub fn set_level(&mut self, pin: usize, level: bool) {
        let Some(entry) = self.entries.get(pin) else {
            return;
        };
        let rises = level && self.lines & 1 << pin == 0;
        if rises && !entry.level() && !entry.masked() {
            self.edges |= 1 << pin;
        }
        self.restore_level(pin, level);
    }

    /// Puts pin `pin` to a restored level: no edge is seen.
    pub fn restore_level(&mut self, pin: usize, level: bool) {
        if pin >= PINS {
            return;
        }
        self.lines = if level {
            self.lines | 1 << pin
        } else {
            self.lines & !(1 << pin)
        };
    }

    /// Reads the index register.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Writes the index register.
    pub fn set_index(&mut self, index: u8) {
        self.index = index;
    }

    /// Reads the register that the index register selects; registers that do not exist are zero.
    pub fn data(&self) -> u32 {
        match self.index {
            0 | 2 => self.id,
            1 => VERSION,
            _ => self.selected().map_or(0, |pin| {
                let entry = self.entries[pin];
                if self.index & 1 != 0 {
                    u32::from(entry.destination) << 24
                } else if self.requests(pin) {
                    entry.low | word::DELIVERY_STATUS
                } else {
                    entry.low
                }
            }),
        }
    }

    /// Writes the register that the index register selects.
    pub fn set_data(&mut self, value: u32) {
        if self.index == 0 {
            self.id = value & ID;
        }
        let Some(pin) = self.selected() else { return };
        let entry = &mut self.entries[pin];
        if self.index & 1 != 0 {
            entry.destination = (value >> 24) as u8;
            return;
        }
        entry.low = value & WRITABLE | entry.low & word::REMOTE_IRR;
        if !entry.level() {
            // Linux ends a stuck level interrupt by making the pin edge-triggered for a moment.
            entry.low &= !word::REMOTE_IRR;
        }
        if entry.level() || entry.masked() {
            self.edges &= !(1 << pin);
        }
    }

    /// The pin whose redirection entry is selected.
    fn selected(&self) -> Option<usize> {
        let pin = usize::from(self.index.checked_sub(REDIRECTION)?) / 2;
        (pin < PINS).then_some(pin)
    }

    /// End of interrupt of `vector`, by the EOI register or from a local APIC. A pin still
    /// asserted requests again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.entries {
            if entry.low & word::VECTOR == u32::from(vector) {
                entry.low &= !word::REMOTE_IRR;
            }
        }
    }

    /// Whether any pin might have a message to send: cheap, and true too often.
    pub fn is_active(&self) -> bool {
        self.lines | self.edges != 0
    }

    /// The message pin `pin` wants to send now.
    pub fn request(&self, pin: usize) -> Option<Message> {
        self.requests(pin).then(|| self.entries[pin].message())
    }

    fn requests(&self, pin: usize) -> bool {
        let entry = self.entries[pin];
        if entry.level() {
            self.lines & 1 << pin != 0 && entry.low & (word::MASKED | word::REMOTE_IRR) == 0
        } else {
            self.edges & 1 << pin != 0
        }
    }

    /// The message of pin `pin` was sent, and some local APIC accepted it or none did.
    pub fn sent(&mut self, pin: usize, accepted: bool) {
        self.edges &= !(1 << pin);
        let entry = &mut self.entries[pin];
        if accepted && entry.level() {
            entry.low |= word::REMOTE_IRR;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(io: &mut IoApic, pin: u8, low: u32, high: u32) {
        io.set_index(0x11 + 2 * pin);
        io.set_data(high);
        io.set_index(0x10 + 2 * pin);
        io.set_data(low);
    }

    fn low(io: &mut IoApic, pin: u8) -> u32 {
        io.set_index(0x10 + 2 * pin);
        io.data()
    }

    #[test]
    fn registers_after_reset_and_their_writable_bits() {
        let mut io = IoApic::default();
        for index in 0..=u8::MAX {
            io.set_index(index);
            assert_eq!(io.index(), index);
            let (reset, ones) = match index {
                0 => (0, 0x0f00_0000),
                1 => (0x0017_0020, 0x0017_0020),
                2 => (0x0f00_0000, 0x0f00_0000),
                0x10..0x40 if index & 1 == 0 => (0x1_0000, 0x1_afff),
                0x10..0x40 => (0, 0xff00_0000),
                _ => (0, 0),
            };
            assert_eq!(io.data(), reset, "register {index:#x}");
            io.set_data(u32::MAX);
            assert_eq!(io.data(), ones, "register {index:#x}");
        }
        io.reset();
        assert_eq!(io, IoApic::default());
    }

    #[test]
    fn edge_is_sent_once_and_lost_while_masked() {
        let mut io = IoApic::default();
        io.set_level(4, true);
        set(&mut io, 4, 0x0031, 0x0500_0000);
        assert_eq!(io.request(4), None);
        io.set_level(4, false);
        io.set_level(4, true);
        assert_eq!(
            io.request(4),
            Some(Message {
                target: Target::Physical(5),
                delivery: Delivery::Fixed,
                vector: 0x31,
                level: false,
            })
        );
        io.sent(4, true);
        assert_eq!(io.request(4), None);
        assert_eq!(low(&mut io, 4), 0x31);
    }

    #[test]
    fn level_waits_for_eoi_and_is_sent_again_while_asserted() {
        let mut io = IoApic::default();
        set(&mut io, 10, 0x8841, 0x0300_0000);
        io.set_level(10, true);
        assert_eq!(low(&mut io, 10), 0x9841, "send pending");
        assert_eq!(io.request(10).map(|m| m.target), Some(Target::Logical(3)));
        io.sent(10, false);
        assert!(io.request(10).is_some(), "nobody took it");
        io.sent(10, true);
        assert_eq!(low(&mut io, 10), 0xc841);
        assert_eq!(io.request(10), None);
        io.end_of_interrupt(0x40);
        assert_eq!(io.request(10), None);
        io.end_of_interrupt(0x41);
        assert!(io.request(10).is_some());
        io.sent(10, true);
        io.set_level(10, false);
        io.end_of_interrupt(0x41);
        assert_eq!(io.request(10), None);
    }

    #[test]
    fn remote_irr_falls_when_the_pin_is_made_edge_triggered() {
        let mut io = IoApic::default();
        set(&mut io, 10, 0x8041, 0);
        io.set_level(10, true);
        io.sent(10, true);
        set(&mut io, 10, 0x1_8041, 0);
        assert_eq!(low(&mut io, 10), 0x1_c041);
        set(&mut io, 10, 0x1_0041, 0);
        assert_eq!(low(&mut io, 10), 0x1_0041);
    }

    #[test]
    fn modes_without_vector_are_edges_even_as_level() {
        for mode in [2u32, 4, 5, 7] {
            let mut io = IoApic::default();
            set(&mut io, 1, 0x8000 | mode << 8, 0);
            io.set_level(1, true);
            let message = io.request(1).expect("an edge");
            assert!(!message.level);
            io.sent(1, true);
            assert_eq!(io.request(1), None);
            assert_eq!(low(&mut io, 1), 0x8000 | mode << 8);
        }
    }

    #[test]
    fn restored_level_requests_only_where_level_triggered() {
        let mut io = IoApic::default();
        set(&mut io, 3, 0x0033, 0);
        set(&mut io, 5, 0x8035, 0);
        io.restore_level(3, true);
        io.restore_level(5, true);
        assert_eq!(io.request(3), None);
        assert!(io.request(5).is_some());
    }
}
