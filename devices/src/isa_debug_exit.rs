//! The debug-exit port: the guest ends the run with an exit status.
//!
//! QEMU's `isa-debug-exit`. Region 0: `iosize` ports (1, 2 or 4) from `iobase`, accesses of 1, 2 and
//! 4 bytes. A write of `v` anywhere in it ends the run with status `v << 1 | 1`, of which a process
//! shows the low eight bits; a read gives 0.

use crate::board::Wiring;
use crate::{At, Device, Request, Requests, RestoreError, State};

const VERSION: u32 = 1;

/// Builds the port.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(DebugExit {
        requests: wiring.requests.clone(),
    })
}

struct DebugExit {
    requests: Requests,
}

impl Device for DebugExit {
    fn read(&mut self, _at: At, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _at: At, data: &[u8]) {
        // The status keeps eight bits, so the value's first byte decides it.
        let Some(&low) = data.first() else { return };
        self.requests.push(Request::Exit(low << 1 | 1));
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
    use crate::testbench::Bench;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_status_is_twice_the_value_plus_one(
            value: u32,
            width in prop::sample::select(&[1usize, 2, 4]),
        ) {
            let bench = Bench::new();
            let mut exit = new(&bench.wiring);
            let at = At { region: 0, offset: 0 };
            exit.write(at, &value.to_le_bytes()[..width]);
            let status = Request::Exit((value << 1 | 1) as u8);
            prop_assert_eq!(bench.wiring.requests.take(), [status]);
            let mut data = [0xFF; 4];
            exit.read(at, &mut data[..width]);
            prop_assert!(data[..width].iter().all(|&b| b == 0));
        }
    }
}
