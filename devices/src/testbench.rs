//! What device tests stand on: a hand-moved clock, a probe on the interrupt line, a recorded output.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backend::chardev::Chardev;
use crate::board::{BoardOptions, Parts, Wiring};
use crate::i8237::Dma;
use crate::irq::Probe;
use crate::memory_map::BusMaster;
use crate::portf0::Pins;
use crate::time::ManualTime;
use crate::{At, Clock, Device, IrqLine, Requests};

/// Everything a device is wired to, with the far ends in the test's hand. Its lines are inputs 0 to 3.
pub(crate) struct Bench {
    pub(crate) time: Arc<ManualTime>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) output: Tape,
    pub(crate) wiring: Wiring,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(BoardOptions::default())
    }

    pub(crate) fn with(options: BoardOptions) -> Self {
        let time = Arc::new(ManualTime::default());
        let probe = Arc::new(Probe::default());
        let output = Tape::default();
        let wiring = Wiring {
            clock: Clock::new(time.clone()),
            requests: Requests::default(),
            irqs: (0..4).map(|n| IrqLine::new(probe.clone(), n)).collect(),
            memory: BusMaster::default(),
            dma: Dma::default(),
            x87_pins: Pins::default(),
            options: Arc::new(options),
            parts: Arc::new(Parts::default()),
            chardev: Chardev::new(Box::new(output.clone())),
        };
        Self {
            time,
            probe,
            output,
            wiring,
        }
    }

    /// Moves guest time to `ns` and polls, as the board does at a deadline.
    pub(crate) fn poll_at(&self, device: &mut dyn Device, ns: u64) -> Option<Duration> {
        self.time.set(ns);
        device.poll(Duration::from_nanos(ns))
    }
}

/// Output that can be read back; every clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One byte read from a device's region.
pub(crate) fn inb(device: &mut dyn Device, region: u8, offset: u64) -> u8 {
    let mut data = [0xFF];
    device.read(At { region, offset }, &mut data);
    data[0]
}

/// One byte written to a device's region.
pub(crate) fn outb(device: &mut dyn Device, region: u8, offset: u64, byte: u8) {
    device.write(At { region, offset }, &[byte]);
}
