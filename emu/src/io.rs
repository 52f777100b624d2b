//! How a virtual CPU reaches the board.

use bitflags::bitflags;

bitflags! {
    /// Events that wait at a processor's pins, as its local APIC or the 8259 shows them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Pending: u8 {
        /// A maskable interrupt can be acknowledged.
        const INTERRUPT = 1 << 0;
        /// A non-maskable interrupt.
        const NMI = 1 << 1;
        /// A system management interrupt.
        const SMI = 1 << 2;
        /// INIT.
        const INIT = 1 << 3;
        /// A start-up IPI.
        const SIPI = 1 << 4;
    }
}

/// An MSR access the local APIC refuses with #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicRefused;

/// The board as one virtual CPU sees it. Callbacks come from the middle of an instruction (own
/// CPU) or from a completed exit (KVM); none of them may ask the vCPU for its state.
pub trait CpuIo: Send + Sync {
    /// Reads `data.len() / width` items from `port`; `width` is 1, 2 or 4 bytes.
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]);
    /// Writes `data.len() / width` items to `port`.
    fn port_write(&self, port: u16, width: usize, data: &[u8]);
    /// Reads 1 to 8 bytes of device memory at a guest physical address.
    fn mmio_read(&self, address: u64, data: &mut [u8]);
    /// Writes 1 to 8 bytes of device memory at a guest physical address.
    fn mmio_write(&self, address: u64, data: &[u8]);
    /// What waits at the processor's pins; asked only after an attention.
    fn pending(&self) -> Pending;
    /// Interrupt acknowledge: the vector, or `None` if nothing waits any more.
    fn ack_interrupt(&self) -> Option<u8>;
    /// Takes the event `which` (one of NMI, SMI, INIT, SIPI); returns the SIPI vector or 0.
    fn take(&self, which: Pending) -> u8;
    /// Reads IA32_APIC_BASE (1Bh) or an x2APIC register (800h..=8FFh).
    ///
    /// # Errors
    /// If the register does not exist or cannot be read: #GP for the guest.
    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused>;
    /// Writes IA32_APIC_BASE or an x2APIC register.
    ///
    /// # Errors
    /// If the register does not exist or refuses the value: #GP for the guest.
    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused>;
    /// The task priority as CR8 shows it (bits 7:4 of the APIC's TPR), 0 to 15.
    fn tpr(&self) -> u8;
    /// Sets the task priority from CR8.
    fn set_tpr(&self, cr8: u8);
    /// The time-stamp counter's ticks at the present guest time, before any offset written by
    /// the guest.
    fn tsc(&self) -> u64;
    /// FERR#: an x87 error waits to be reported by interrupt (CR0.NE clear), or no longer does.
    /// A board turns it into IRQ 13.
    fn set_ferr(&self, _asserted: bool) {}
    /// IGNNE#: whether x87 instructions go on despite such an error.
    fn ignne(&self) -> bool {
        false
    }
}

/// No board at all: ports and device memory float, nothing is ever pending, time stands still. For
/// [`crate::Engine`] as an instruction emulator on plain memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBoard;

impl CpuIo for NoBoard {
    fn port_read(&self, _: u16, _: usize, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn port_write(&self, _: u16, _: usize, _: &[u8]) {}
    fn mmio_read(&self, _: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn mmio_write(&self, _: u64, _: &[u8]) {}
    fn pending(&self) -> Pending {
        Pending::empty()
    }
    fn ack_interrupt(&self) -> Option<u8> {
        None
    }
    fn take(&self, _: Pending) -> u8 {
        0
    }
    fn apic_msr_read(&self, _: u32) -> Result<u64, ApicRefused> {
        Err(ApicRefused)
    }
    fn apic_msr_write(&self, _: u32, _: u64) -> Result<(), ApicRefused> {
        Err(ApicRefused)
    }
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&self, _: u8) {}
    fn tsc(&self) -> u64 {
        0
    }
}
