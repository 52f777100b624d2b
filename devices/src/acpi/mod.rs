//! The ACPI tables of the machine, for firmware to place or placed by ourselves.
//!
//! Documents: ACPI 1.0b for what the tables hold (they are of its revision, but for the interrupt
//! overrides of ACPI 2.0's MADT), ACPI 6.5 for names; IA-PC HPET 1.0a, 3.2.4; Microsoft "Windows ACPI Emulated
//! Devices Table"; QEMU "bios-linker-loader" (its comments are the only document) for [`loader`].
//!
//! Made by [`files`]: `etc/acpi/tables` holds FACS, DSDT, FACP, APIC, HPET (if the board has one), WAET and RSDT
//! one behind the other, with offsets where addresses belong and checksums of zero; `etc/acpi/rsdp` the root
//! pointer; the script says what to allocate, to add and to sum up. Firmware runs the script; [`Files::placed`]
//! does the same for a machine without firmware.
//!
//! Not made: SSDT, SRAT, SLIT, MCFG, DMAR; an XSDT (the root pointer is of revision 0).

pub mod aml;
mod dsdt;
mod fixed;
pub mod loader;
pub mod resource;

pub use loader::{Files, Misplaced, Placed};

use crate::memory_map::ram_split;

/// The power management block: PM1a event 600h, PM1a control 604h, PM timer 608h. Firmware puts it there.
const PM_BASE: u16 = 0x600;
/// The general purpose event block.
const GPE0: u16 = 0xAFE0;
/// The interrupt of power management.
const SCI: u16 = 9;
/// Where PIIX4's APM control port is, and what to write there to enter and to leave ACPI mode.
const SMI_COMMAND: u16 = 0xB2;
const ACPI_ENABLE: u8 = 0xF1;
const ACPI_DISABLE: u8 = 0xF0;
const LOCAL_APIC: u32 = 0xFEE0_0000;
const IO_APIC: u32 = 0xFEC0_0000;
/// The CMOS byte of the century.
const CENTURY: u8 = 0x32;
/// The HPET, as its capabilities register says what it is.
pub const HPET_BASE: u32 = 0xFED0_0000;
/// Revision 1, three timers, 64 bits, legacy replacement, Intel.
pub const HPET_ID: u32 = 0x8086_A201;

/// A sleep state that there is.
pub const ENABLED: u8 = 0x80;
/// For S0 to S5 what SLP_TYP takes (`etc/system-states`, and the objects `_S3` to `_S5`).
pub const SLEEP_STATES: [u8; 6] = [ENABLED, 0, 0, ENABLED | 1, ENABLED | 2, ENABLED];

/// What the tables say of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Number of processors; their APIC identifiers count from 0.
    pub cpus: u32,
    /// Guest RAM in bytes.
    pub ram: u64,
    /// The names of the board's rows that are there.
    pub rows: Vec<&'static str>,
}

impl Description {
    /// Whether the board has one of these rows.
    fn has(&self, rows: &[&str]) -> bool {
        self.rows.iter().any(|row| rows.contains(row))
    }

    /// First and last address of the window below 4 GiB in which BARs are placed. It begins where SeaBIOS
    /// has it begin, not at the end of RAM: what lies between belongs to nobody.
    fn pci_window(&self) -> (u32, u32) {
        let low = ram_split(self.ram).0;
        let starts = [0x8000_0000u32, 0xC000_0000];
        let first = starts.into_iter().find(|first| low <= u64::from(*first));
        (first.unwrap_or(0xE000_0000), IO_APIC - 1)
    }

    /// The same above RAM: 2 GiB.
    fn pci_window_64(&self) -> (u64, u64) {
        const GIB: u64 = 1 << 30;
        let end = 4 * GIB + ram_split(self.ram).1;
        let first = end.next_multiple_of(GIB);
        (first, first + 2 * GIB - 1)
    }
}

/// Makes the tables of `machine`, not placed yet.
pub fn files(machine: &Description) -> Files {
    fixed::files(machine)
}

#[cfg(test)]
mod tests;
