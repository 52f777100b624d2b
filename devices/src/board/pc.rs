//! The rows of the i440FX/PIIX3 PC: what stands where, on which interrupt, in which order it is
//! reset and saved.

use std::sync::Arc;

use crate::board::{BoardOptions, Wiring};
use crate::bus::{Region, Widths};
use crate::chips::{self, InterruptChips};
use crate::irq::{HPET_REPLACES, HPET_RTC, HPET_TIMER};
use crate::{
    Device, debugcon, fw_cfg, hpet, i8042, i8237, i8254, isa_debug_exit, mc146818, port92, portf0,
    uart16550,
};

/// A window of the bus onto the interrupt chips, which stand behind a lock of their own.
pub struct Window {
    /// Its name, unique among all rows.
    pub name: &'static str,
    /// Where it answers.
    pub regions: &'static [Region],
    /// Builds it.
    pub new: fn(&Arc<InterruptChips>) -> Box<dyn Device>,
}

/// A device of the ISA bus.
pub struct Isa {
    /// Its name: unique, and what its saved state and its character backend are found by.
    pub name: &'static str,
    /// Where it answers.
    pub regions: Regions,
    /// Its interrupt requests ([`Wiring::irq`] by index).
    pub irqs: &'static [u32],
    /// Builds it.
    pub new: fn(&Wiring) -> Box<dyn Device>,
}

/// Where a device answers.
pub enum Regions {
    /// Always here.
    Fixed(&'static [Region]),
    /// Where the user wants it (or if); nowhere, and not built, if the user does not.
    Chosen(fn(&BoardOptions) -> Option<Region>),
}

impl Regions {
    /// The regions under `options`; `None` if there is no such device then.
    pub fn of(&self, options: &BoardOptions) -> Option<Vec<Region>> {
        match self {
            Self::Fixed(regions) => Some(regions.to_vec()),
            Self::Chosen(region) => region(options).map(|region| vec![region]),
        }
    }
}

const fn bytes(range: std::ops::RangeInclusive<u64>) -> Region {
    Region::ports(range, Widths::BYTE)
}

/// The windows onto the interrupt chips. (Local APICs are each processor's own and not on the bus.)
#[rustfmt::skip]
pub const CHIPS: &[Window] = &[
    Window { name: "i8259", regions: &[bytes(0x20..=0x21), bytes(0xA0..=0xA1), bytes(0x4D0..=0x4D1)], new: chips::pic_ports },
    Window { name: "ioapic", regions: &[Region::memory(0xFEC0_0000..=0xFEC0_0FFF, Widths::UP_TO_DWORD)], new: chips::ioapic_window },
];

/// The ports of PCI configuration mechanism #1; the reset control register CF9h lies among them.
pub const PCI_PORTS: &[Region] = &[Region::ports(0xCF8..=0xCFF, Widths::between(1, 4))];

/// The DMA controllers and their page registers.
const DMA: &[Region] = &[
    bytes(0x00..=0x0F),
    bytes(0xC0..=0xDF),
    bytes(0x81..=0x83),
    bytes(0x87..=0x87),
    bytes(0x89..=0x8B),
    bytes(0x8F..=0x8F),
];

/// The devices of the ISA bus, in the order in which they are reset and saved.
#[rustfmt::skip]
pub const ISA: &[Isa] = &[
    Isa { name: "i8254", regions: Regions::Fixed(&[bytes(0x40..=0x43), bytes(0x61..=0x61)]), irqs: &[0], new: i8254::new },
    Isa { name: "i8237", regions: Regions::Fixed(DMA), irqs: &[], new: i8237::new },
    Isa { name: "i8042", regions: Regions::Fixed(&[bytes(0x60..=0x60), bytes(0x64..=0x64)]), irqs: &[1, 12], new: i8042::new },
    Isa { name: "mc146818", regions: Regions::Fixed(&[bytes(0x70..=0x71)]), irqs: &[8], new: mc146818::new },
    Isa { name: "com1", regions: Regions::Fixed(&[bytes(0x3F8..=0x3FF)]), irqs: &[4], new: uart16550::new },
    Isa { name: "com2", regions: Regions::Chosen(com2), irqs: &[3], new: uart16550::new },
    Isa { name: "com3", regions: Regions::Chosen(com3), irqs: &[4], new: uart16550::new },
    Isa { name: "com4", regions: Regions::Chosen(com4), irqs: &[3], new: uart16550::new },
    Isa { name: "port92", regions: Regions::Fixed(&[bytes(0x92..=0x92)]), irqs: &[], new: port92::new },
    Isa { name: "portf0", regions: Regions::Fixed(&[bytes(0xF0..=0xF0)]), irqs: &[13], new: portf0::new },
    Isa { name: "fw_cfg", regions: Regions::Fixed(FW_CFG), irqs: &[], new: fw_cfg::new },
    Isa { name: "hpet", regions: Regions::Chosen(hpet_page), irqs: &[HPET_TIMER, HPET_RTC, HPET_REPLACES, 2], new: hpet::new },
    Isa { name: "debugcon", regions: Regions::Chosen(debugcon_port), irqs: &[], new: debugcon::new },
    Isa { name: "isa-debug-exit", regions: Regions::Chosen(debug_exit_ports), irqs: &[], new: isa_debug_exit::new },
];

/// Selector and data, then the address of a DMA command.
const FW_CFG: &[Region] = &[
    Region::ports(0x510..=0x511, Widths::between(1, 2)),
    Region::ports(0x514..=0x51B, Widths::UP_TO_DWORD),
];

fn com2(options: &BoardOptions) -> Option<Region> {
    options.com2.then_some(bytes(0x2F8..=0x2FF))
}

// As on every PC, they share the interrupts of the first two.
fn com3(options: &BoardOptions) -> Option<Region> {
    options.com3.then_some(bytes(0x3E8..=0x3EF))
}

fn com4(options: &BoardOptions) -> Option<Region> {
    options.com4.then_some(bytes(0x2E8..=0x2EF))
}

fn hpet_page(options: &BoardOptions) -> Option<Region> {
    let registers = Region::memory(0xFED0_0000..=0xFED0_03FF, Widths::between(4, 8));
    options.hpet.then_some(registers)
}

fn debugcon_port(options: &BoardOptions) -> Option<Region> {
    let port = u64::from(options.debugcon?);
    Some(bytes(port..=port))
}

fn debug_exit_ports(options: &BoardOptions) -> Option<Region> {
    let (first, count) = options.debug_exit?;
    // Of no ports at all this makes a range the bus refuses.
    let last = (u64::from(first) + u64::from(count)).wrapping_sub(1);
    Some(Region::ports(first.into()..=last, Widths::UP_TO_DWORD))
}
