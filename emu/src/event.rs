//! Exceptions and interrupts: priority, delivery through the IVT and gates, double and triple faults.
//! SDM Vol. 3A, "Interrupt and Exception Handling".

use crate::arch::Exception;
use crate::cpu::Cpu;
use crate::state::Activity;

/// What was delivered, for the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// An exception.
    Exception(Exception),
    /// A maskable interrupt.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INT n, INT3, INTO, INT1.
    Software(u8),
}

impl Cpu {
    /// Delivers a fault or trap; what goes wrong in delivery becomes #DF or shutdown.
    pub(crate) fn take_exception(&mut self, _exception: Exception) {
        self.activity = Activity::Shutdown;
    }
    /// Delivers a maskable interrupt.
    pub(crate) fn take_interrupt(&mut self, _vector: u8) {
        self.activity = Activity::Shutdown;
    }
    /// Delivers a non-maskable interrupt.
    pub(crate) fn take_nmi(&mut self) {
        self.activity = Activity::Shutdown;
    }
    /// INIT.
    pub(crate) fn init(&mut self) {}
    /// Start-up IPI.
    pub(crate) fn start_up(&mut self, _vector: u8) {}
    /// Whether DR7 arms any instruction breakpoint.
    pub(crate) fn instruction_breakpoints_armed(&self) -> bool {
        false
    }
    /// DR6 bits of the instruction breakpoints at a linear address.
    pub(crate) fn breakpoints_at(&self, _linear: u64) -> u64 {
        0
    }
}
