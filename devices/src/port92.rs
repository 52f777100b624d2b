//! Port 92h, "system control port A": fast A20 and fast reset.
//!
//! IBM PS/2 Technical Reference, "System Control Port A". Region 0: port 92h, one byte.
//!
//! Bit 1 is the A20 gate (the keyboard controller has one, too: who spoke last counts), bit 0's rising edge resets.
//! The PS/2 resets the processor alone; here it is the whole system, as on the stock machine
//! (the chipset's reset line): firmware finds its way back by the CMOS shutdown byte either way.
//! Other bits (drive lights, the password lock) only read back.

use crate::board::Wiring;
use crate::request::A20Source;
use crate::{At, Device, Request, Requests, RestoreError, State};

const RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;
const VERSION: u32 = 1;

/// Builds the port; it has no interrupt.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(Port92 {
        requests: wiring.requests.clone(),
        value: 0,
    })
}

struct Port92 {
    requests: Requests,
    value: u8,
}

impl Port92 {
    fn request_a20(&self) {
        self.requests.push(Request::A20 {
            source: A20Source::Port92,
            enabled: self.value & A20 != 0,
        });
    }
}

impl Device for Port92 {
    fn read(&mut self, _at: At, data: &mut [u8]) {
        if let Some(byte) = data.first_mut() {
            *byte = self.value;
        }
    }

    fn write(&mut self, _at: At, data: &[u8]) {
        let Some(&byte) = data.first() else { return };
        let changed = self.value ^ byte;
        self.value = byte;
        if changed & A20 != 0 {
            self.request_a20();
        }
        if changed & byte & RESET != 0 {
            self.requests.push(Request::Reset);
        }
    }

    /// The gate closes with the reset; the board hears of it when it was open.
    fn reset(&mut self) {
        let open = self.value & A20 != 0;
        self.value = 0;
        if open {
            self.request_a20();
        }
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.value)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.value = from.fields(VERSION)?;
        self.request_a20();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbench::{Bench, inb, outb};

    fn port92() -> (Box<dyn Device>, Requests) {
        let wiring = Bench::new().wiring;
        (new(&wiring), wiring.requests)
    }

    fn a20(enabled: bool) -> Request {
        let source = A20Source::Port92;
        Request::A20 { source, enabled }
    }

    #[test]
    fn a20_is_asked_for_on_change_only() {
        let (mut port, requests) = port92();
        outb(&mut *port, 0, 0, 0x02);
        assert_eq!(requests.take(), [a20(true)]);
        outb(&mut *port, 0, 0, 0xFE);
        assert_eq!(requests.take(), []);
        assert_eq!(inb(&mut *port, 0, 0), 0xFE);
        port.reset();
        assert_eq!(requests.take(), [a20(false)]);
    }

    #[test]
    fn only_a_rising_bit_0_resets() {
        let (mut port, requests) = port92();
        outb(&mut *port, 0, 0, 0x01);
        assert_eq!(requests.take(), [Request::Reset]);
        outb(&mut *port, 0, 0, 0x01);
        outb(&mut *port, 0, 0, 0x00);
        assert_eq!(requests.take(), []);
    }

    #[test]
    fn a_restored_port_tells_its_gate() {
        let (mut port, _) = port92();
        outb(&mut *port, 0, 0, 0x02);
        let (mut other, requests) = port92();
        other.restore(&port.save()).unwrap();
        assert_eq!(requests.take(), [a20(true)]);
        assert_eq!(other.save(), port.save());
    }
}
