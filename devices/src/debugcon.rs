//! The debug console: a port that firmware writes its log to.
//!
//! The Bochs/QEMU "port E9 hack". Region 0: one port (E9h, or 402h for SeaBIOS and OVMF), one byte.
//! A write goes to the character backend; a read gives E9h, by which firmware knows the port is there.

use crate::backend::chardev::Chardev;
use crate::board::Wiring;
use crate::{At, Device, RestoreError, State};

/// What a read gives.
const PRESENT: u8 = 0xE9;
const VERSION: u32 = 1;

/// Builds the console over `wiring.chardev`.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(Debugcon {
        chardev: wiring.chardev.clone(),
    })
}

struct Debugcon {
    chardev: Chardev,
}

impl Device for Debugcon {
    fn read(&mut self, _at: At, data: &mut [u8]) {
        if let Some(byte) = data.first_mut() {
            *byte = PRESENT;
        }
    }

    fn write(&mut self, _at: At, data: &[u8]) {
        self.chardev.write(data);
    }

    fn reset(&mut self) {}

    fn save(&self) -> State {
        State::of(VERSION, &())
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        from.fields(VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbench::{Bench, inb, outb};

    #[test]
    fn writes_come_out_and_reads_say_it_is_there() {
        let bench = Bench::new();
        let mut console = new(&bench.wiring);
        for byte in *b"SeaBIOS" {
            outb(&mut *console, 0, 0, byte);
        }
        assert_eq!(bench.output.bytes(), b"SeaBIOS");
        assert_eq!(inb(&mut *console, 0, 0), PRESENT);
    }
}
