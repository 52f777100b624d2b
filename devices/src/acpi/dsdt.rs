//! The differentiated system description table: the machine's devices, written in AML.
//!
//! Documents: ACPI 6.5, chapters 6 and 7; 82371SB (PIIX3) 290550, "PIRQRCA-D". The names and the structure
//! are ours; what a guest can tell of the machine by it is what the reference machine tells.
//!
//! In ASL it reads, shortened:
//!
//! ```text
//! Scope (\_SB) {
//!     Device (C000) { _HID "ACPI0007", _UID 0 }                    for each processor
//!     Device (PCI0) {
//!         _HID PNP0A03, _CRS (buses, ports, memory windows), _PRT (slots 1 to 31 to the links)
//!         Device (ISA) {                                          00:01.0
//!             OperationRegion over PIRQRCA-D
//!             Device (LNKA) ... Device (LNKD), Device (LNKS)
//!             Device (RTC) ...                                    what the board's rows have
//! }   }   }
//! _S3, _S4, _S5
//! ```
//!
//! Not there: general purpose events (nothing raises one), `_PTS` and `_WAK` (nothing to do), thermal zones,
//! battery; the power button is the fixed one of PM1.

use super::aml::{self, Aml, Space};
use super::resource::{self, Resource};
use super::{Description, ENABLED, HPET_BASE, PM_BASE, SLEEP_STATES};

/// `_STA`: present, enabled, working.
const STA_SHOWN: u64 = 0x0F;
/// `_STA`: the same, but nothing to show to users.
const STA_HIDDEN: u64 = 0x0B;
/// `_STA`: present and working, not enabled.
const STA_DISABLED: u64 = 0x09;
/// The ISA interrupts PCI's are led to.
const PCI_IRQS: [u32; 3] = [5, 10, 11];
/// The power management function's own, which is hard-wired.
const SCI: u32 = super::SCI as u32;
/// A PIRQ route register's bit for no route, and its bits for the interrupt.
const ROUTE_DISABLE: u64 = 0x80;
const ROUTE_IRQ: u64 = 0x0F;
const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];
const ROUTES: [&str; 4] = ["PIRA", "PIRB", "PIRC", "PIRD"];

/// The definition block, without its header.
pub(super) fn block(machine: &Description) -> Vec<u8> {
    let mut system: Vec<Aml> = (0..machine.cpus).map(processor).collect();
    system.push(host_bridge(machine));
    let mut all = vec![aml::scope("\\_SB", &system)];
    all.extend(sleep_states());
    all.iter().flat_map(|part| part.bytes().to_vec()).collect()
}

/// Processor `n`; its `_UID` is the processor identifier in the MADT.
fn processor(n: u32) -> Aml {
    let body = [
        aml::name("_HID", aml::string("ACPI0007")),
        aml::name("_UID", aml::int(n.into())),
    ];
    aml::device(&format!("C{:03X}", n & 0xFFF), &body)
}

fn host_bridge(machine: &Description) -> Aml {
    let mut body = vec![
        aml::name("_HID", aml::eisa_id("PNP0A03")),
        aml::name("_UID", aml::int(0)),
        aml::name("_CRS", resource::template(&bridge_windows(machine))),
        aml::name("_PRT", interrupt_routing()),
        isa_bridge(machine),
    ];
    if machine.has(&["hpet"]) {
        let place = resource::registers(HPET_BASE, 0x400);
        body.push(isa_device("HPET", "PNP0103", 0, &[place]));
    }
    aml::device("PCI0", &body)
}

fn bridge_windows(machine: &Description) -> Vec<Resource> {
    let (first, last) = machine.pci_window();
    let (high_first, high_last) = machine.pci_window_64();
    vec![
        resource::bus_numbers(0, 0xFF),
        resource::ports(0xCF8, 8),
        resource::port_window(0, 0xCF7),
        resource::port_window(0xD00, 0xFFFF),
        resource::memory_window(0xA_0000, 0xB_FFFF, true),
        resource::memory_window(first, last, false),
        resource::memory_window_64(high_first, high_last, true),
    ]
}

/// Where each pin of each slot leads: pin `p` of slot `n` to link `(n - 1 + p) & 3`, as
/// [`crate::pci::intx`] wires them, but for the first of slot 1: the power management function's, which is the SCI.
fn interrupt_routing() -> Aml {
    let pins = (1..32).flat_map(|slot| (0..4).map(move |pin| (slot, pin)));
    let row = |(slot, pin): (usize, usize)| {
        let link = match (slot, pin) {
            (1, 0) => "LNKS",
            _ => LINKS[(slot + 3 + pin) % 4],
        };
        let any_function = (slot as u64) << 16 | 0xFFFF;
        aml::package(&[
            aml::int(any_function),
            aml::int(pin as u64),
            aml::path(&format!("\\_SB.PCI0.ISA.{link}")),
            aml::int(0),
        ])
    };
    aml::package(&pins.map(row).collect::<Vec<_>>())
}

fn isa_bridge(machine: &Description) -> Aml {
    let mut body = vec![
        aml::name("_ADR", aml::int(0x1_0000)),
        aml::operation_region("PIRQ", Space::PciConfig, 0x60, 4),
        aml::byte_fields("PIRQ", &ROUTES),
    ];
    let links = LINKS.into_iter().zip(ROUTES);
    body.extend(
        (0..)
            .zip(links)
            .map(|(n, (name, route))| link(name, n, route)),
    );
    body.push(sci_link());
    let present = DEVICES.iter().filter(|device| machine.has(device.rows));
    body.extend(present.map(Legacy::code));
    aml::device("ISA", &body)
}

/// A PCI interrupt link over the PIRQ route register `route`.
fn link(name: &str, uid: u64, route: &str) -> Aml {
    let route = || aml::path(route);
    let disabled = || aml::and(route(), aml::int(ROUTE_DISABLE));
    let number = |buffer: Aml| aml::create_dword_field(buffer, resource::INTERRUPT_NUMBER, "IRQN");
    let now = resource::template(&[resource::interrupts(&[0])]);
    let body = [
        aml::name("_HID", aml::eisa_id("PNP0C0F")),
        aml::name("_UID", aml::int(uid)),
        aml::name(
            "_PRS",
            resource::template(&[resource::interrupts(&PCI_IRQS)]),
        ),
        aml::name("NOW", now),
        aml::method(
            "_STA",
            0,
            &[
                aml::if_(disabled(), &[aml::ret(aml::int(STA_DISABLED))]),
                aml::ret(aml::int(STA_HIDDEN)),
            ],
        ),
        aml::method(
            "_DIS",
            0,
            &[aml::or_into(route(), aml::int(ROUTE_DISABLE), route())],
        ),
        // Interrupt 0 says that there is none now.
        aml::serialized_method(
            "_CRS",
            0,
            &[
                number(aml::path("NOW")),
                aml::if_(disabled(), &[aml::store(aml::int(0), aml::path("IRQN"))]),
                aml::else_(&[aml::store(
                    aml::and(route(), aml::int(ROUTE_IRQ)),
                    aml::path("IRQN"),
                )]),
                aml::ret(aml::path("NOW")),
            ],
        ),
        aml::serialized_method(
            "_SRS",
            1,
            &[number(aml::arg(0)), aml::store(aml::path("IRQN"), route())],
        ),
    ];
    aml::device(name, &body)
}

/// The link of the power management function: always the SCI.
fn sci_link() -> Aml {
    let sci = || resource::template(&[resource::interrupts(&[SCI])]);
    let body = [
        aml::name("_HID", aml::eisa_id("PNP0C0F")),
        aml::name("_UID", aml::int(LINKS.len() as u64)),
        aml::name("_PRS", sci()),
        aml::name("_CRS", sci()),
        aml::name("_STA", aml::int(STA_HIDDEN)),
        aml::method("_DIS", 0, &[]),
        aml::method("_SRS", 1, &[]),
    ];
    aml::device("LNKS", &body)
}

/// A device behind the ISA bridge that no bus can enumerate.
struct Legacy {
    /// Any of these rows on the board make it (none: it is always there).
    rows: &'static [&'static str],
    name: &'static str,
    /// `PNPxxxx`, or a name of another form.
    hid: &'static str,
    uid: u64,
    resources: fn() -> Vec<Resource>,
}

#[rustfmt::skip]
const DEVICES: &[Legacy] = &[
    Legacy { rows: &["i8259"], name: "PIC", hid: "PNP0000", uid: 0, resources: || vec![resource::ports(0x20, 2), resource::ports(0xA0, 2), resource::ports(0x4D0, 2), resource::irq(2)] },
    Legacy { rows: &["i8254"], name: "TIMR", hid: "PNP0100", uid: 0, resources: || vec![resource::ports(0x40, 4), resource::irq(0)] },
    Legacy { rows: &["i8254"], name: "SPKR", hid: "PNP0800", uid: 0, resources: || vec![resource::ports(0x61, 1)] },
    Legacy { rows: &["i8237"], name: "DMAC", hid: "PNP0200", uid: 0, resources: || vec![resource::ports(0x00, 16), resource::ports(0x81, 15), resource::ports(0xC0, 32), resource::cascade_dma(4)] },
    Legacy { rows: &["mc146818"], name: "RTC", hid: "PNP0B00", uid: 0, resources: || vec![resource::ports(0x70, 2), resource::irq(8)] },
    Legacy { rows: &["i8042"], name: "KBD", hid: "PNP0303", uid: 0, resources: || vec![resource::ports(0x60, 1), resource::ports(0x64, 1), resource::irq(1)] },
    Legacy { rows: &["i8042"], name: "MOU", hid: "PNP0F13", uid: 0, resources: || vec![resource::irq(12)] },
    Legacy { rows: &["com1"], name: "COM1", hid: "PNP0501", uid: 1, resources: || vec![resource::ports(0x3F8, 8), resource::irq(4)] },
    Legacy { rows: &["com2"], name: "COM2", hid: "PNP0501", uid: 2, resources: || vec![resource::ports(0x2F8, 8), resource::irq(3)] },
    Legacy { rows: &["com3"], name: "COM3", hid: "PNP0501", uid: 3, resources: || vec![resource::ports(0x3E8, 8), resource::irq(4)] },
    Legacy { rows: &["com4"], name: "COM4", hid: "PNP0501", uid: 4, resources: || vec![resource::ports(0x2E8, 8), resource::irq(3)] },
    Legacy { rows: &["lpt1"], name: "LPT1", hid: "PNP0400", uid: 1, resources: || vec![resource::ports(0x378, 8), resource::irq(7)] },
    Legacy { rows: &["fdc", "isa-fdc", "i82078"], name: "FDC0", hid: "PNP0700", uid: 0, resources: || vec![resource::ports(0x3F2, 4), resource::ports(0x3F7, 1), resource::irq(6), resource::dma(2)] },
    Legacy { rows: &["fw_cfg"], name: "FWCF", hid: "QEMU0002", uid: 0, resources: || vec![resource::ports(0x510, 12)] },
    // The ports of power management and system bus, which the function's BARs do not show.
    Legacy { rows: &["piix4_pm", "piix4-pm"], name: "MBRD", hid: "PNP0C02", uid: 0, resources: || vec![resource::ports(0xB2, 2), resource::ports(PM_BASE, 0x40), resource::ports(0x700, 0x10), resource::ports(0xAFE0, 4)] },
];

impl Legacy {
    fn code(&self) -> Aml {
        isa_device(self.name, self.hid, self.uid, &(self.resources)())
    }
}

fn isa_device(name: &str, hid: &str, uid: u64, resources: &[Resource]) -> Aml {
    // What is no standard device has no driver that a user should miss.
    let (id, status) = match hid.strip_prefix("PNP") {
        Some(_) => (aml::eisa_id(hid), STA_SHOWN),
        None => (aml::string(hid), STA_HIDDEN),
    };
    let body = [
        aml::name("_HID", id),
        aml::name("_UID", aml::int(uid)),
        aml::name("_STA", aml::int(status)),
        aml::name("_CRS", resource::template(resources)),
    ];
    aml::device(name, &body)
}

/// `_S3` to `_S5`: what to write into SLP_TYP.
fn sleep_states() -> Vec<Aml> {
    let states = (0..).zip(SLEEP_STATES).skip(1);
    let enabled = states.filter(|(_, state)| state & ENABLED != 0);
    let object = |(n, state): (usize, u8)| {
        let value = || aml::int(u64::from(state & !ENABLED));
        let values = [value(), value(), aml::int(0), aml::int(0)];
        aml::name(&format!("\\_S{n}"), aml::package(&values))
    };
    enabled.map(object).collect()
}
