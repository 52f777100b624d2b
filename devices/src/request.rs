//! What devices want of the machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Something a device asks of the machine around it.
///
/// The bus applies requests after the device's lock is dropped and before the access returns, so
/// the guest's next instruction already sees the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A register that shapes the memory map changed (PAM, SMRAM, a BAR): build the map again.
    MapChanged,
    /// The A20 gate: `true` lets address bit 20 through. The board heeds
    /// who spoke last, port 92h or the keyboard controller.
    A20 {
        /// Which device drives it.
        source: A20Source,
        /// Whether this source enables A20.
        enabled: bool,
    },
    /// System reset (CF9, port 92h, keyboard controller).
    Reset,
    /// INIT to the bootstrap processor alone (port 92h fast reset on this chipset resets the CPU).
    Init,
    /// System management interrupt.
    Smi,
    /// The guest turned the machine off.
    PowerOff,
    /// The guest ends the run with this process exit status (isa-debug-exit).
    Exit(u8),
    /// End of interrupt for a level-triggered vector, from a local APIC to the IOAPICs.
    Eoi(u8),
    /// A message-signalled interrupt: a bus-master write to the FEE00000h window.
    Msi {
        /// Address written, carrying destination and destination mode.
        address: u64,
        /// Data written, carrying vector, delivery and trigger mode.
        data: u32,
    },
}

/// The two devices that can open the A20 gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum A20Source {
    /// Port 92h, bit 1.
    Port92,
    /// The keyboard controller's output port, bit 1.
    Keyboard,
}

/// Where a device leaves its [`Request`]s; every clone is the same queue.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicBool,
    list: Mutex<Vec<Request>>,
}

impl Requests {
    /// Leaves a request; one that already waits is not queued twice, so the queue is bounded.
    pub fn push(&self, request: Request) {
        let mut list = self
            .queue
            .list
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !list.contains(&request) {
            list.push(request);
        }
        self.queue.waiting.store(true, Ordering::Release);
    }

    /// Whether one waits.
    pub fn is_waiting(&self) -> bool {
        self.queue.waiting.load(Ordering::Acquire)
    }

    /// Takes all waiting requests in the order they were left; one relaxed load when there are none.
    pub fn take(&self) -> Vec<Request> {
        if !self.is_waiting() {
            return Vec::new();
        }
        let mut list = self
            .queue
            .list
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.queue.waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut *list)
    }
}
