//! `info mtree`, `info qtree`, `info pci`: what the machine is made of, and where it answers.

use std::fmt::Write;

use devices::board::pc;
use devices::bus::{Region, Space};
use devices::memory_map::Target;
use devices::pci::{Look, PCI};

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;

/// Regions of the bus by the name of their device.
type Regions = Vec<(&'static str, Region)>;

const SUBSYSTEM: usize = 0x2C;
const INTERRUPT_LINE: usize = 0x3C;
const INTERRUPT_PIN: usize = 0x3D;

/// What functions of a class are called; PCI 2.1, appendix D.
#[rustfmt::skip]
const CLASSES: &[(u16, &str)] = &[
    (0x0100, "SCSI controller"), (0x0101, "IDE controller"), (0x0106, "SATA controller"), (0x0180, "Storage controller"),
    (0x0200, "Ethernet controller"), (0x0280, "Network controller"), (0x0300, "VGA controller"),
    (0x0380, "Display controller"), (0x0600, "Host bridge"), (0x0601, "ISA bridge"), (0x0604, "PCI bridge"),
    (0x0680, "Bridge"), (0x0780, "Communication controller"), (0x0C03, "USB controller"), (0x0C05, "SMBus"),
    (0x00FF, "Unclassified device"),
];

/// `info mtree`.
pub(super) fn mtree(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    if arguments.rest() == "-f" {
        // What is shown is flat already.
        arguments.optional();
    }
    arguments.end()?;
    let (map, regions, apic) = session.ask(|machine| {
        let board = machine.board();
        let apic = board.chips().snapshot().lapics.first().map(|a| a.base());
        (board.map(), board.regions(), apic)
    })?;
    let mut memory: Vec<(u64, u64, String)> = Vec::new();
    for range in map.cpu().ranges() {
        if let Target::Block {
            block,
            offset,
            read_only,
            ..
        } = &range.target
        {
            let kind = if *read_only { "rom" } else { "ram" };
            let (first, last, name) = (range.first, range.last, block.name());
            memory.push((first, last, format!("{kind}): {name} @{offset:016x}")));
        }
    }
    /// IA32_APIC_BASE: the APIC is there.
    const PRESENT: u64 = 1 << 11;
    if let Some(base) = apic.filter(|base| base & PRESENT != 0) {
        let first = base & !0xFFF;
        memory.push((first, first | 0xFFF, "i/o): lapic".to_string()));
    }
    let mut ports = Vec::new();
    for (name, region) in &regions {
        let row = (
            *region.range.start(),
            *region.range.end(),
            format!("i/o): {name}"),
        );
        match region.space {
            Space::Memory => memory.push(row),
            Space::Port => ports.push(row),
        }
    }
    let mut text = String::new();
    for (name, mut rows) in [("memory", memory), ("I/O", ports)] {
        rows.sort();
        let _ = writeln!(text, "address-space: {name}");
        for (first, last, what) in rows {
            let _ = writeln!(text, "  {first:016x}-{last:016x} (prio 0, {what}");
        }
        text.push('\n');
    }
    Ok(text)
}

fn word(space: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([space[at], space[at + 1]])
}

fn class(look: &Look) -> String {
    let class = word(&look.space, 0x0A);
    let row = CLASSES.iter().find(|(number, _)| *number == class);
    row.map_or_else(
        || format!("Class {class:04x}"),
        |(_, name)| name.to_string(),
    )
}

/// What kind of BAR it is, where it is, and its size.
struct Bar {
    number: usize,
    kind: &'static str,
    long_kind: String,
    /// All ones where it does not decode.
    address: u64,
    size: u64,
}

fn bars(look: &Look) -> Vec<Bar> {
    let bar = |(number, bar): (usize, &Option<devices::pci::bar::Bar>)| {
        let bar = bar.as_ref()?;
        let address = look.mappings[number].map_or(u64::MAX, |mapping| mapping.first);
        let bits = if bar.is_64_bit() { "64" } else { "32" };
        let prefetchable = if bar.is_prefetchable() {
            " prefetchable"
        } else {
            ""
        };
        Some(Bar {
            number,
            kind: if bar.is_io() { "i/o" } else { "mem" },
            long_kind: if bar.is_io() {
                "I/O".to_string()
            } else {
                format!("{bits} bit{prefetchable} memory")
            },
            address,
            size: bar.size(),
        })
    };
    look.bars.iter().enumerate().filter_map(bar).collect()
}

/// `info pci`.
pub(super) fn pci(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let functions = session.ask(|machine| machine.board().pci())?;
    let mut text = String::new();
    for look in &functions {
        let space = &look.space;
        let (slot, function) = (look.slot, look.function);
        let _ = writeln!(text, "  Bus  0, device {slot:3}, function {function}:");
        let (vendor, device) = (word(space, 0), word(space, 2));
        let _ = writeln!(
            text,
            "    {}: PCI device {vendor:04x}:{device:04x}",
            class(look)
        );
        let (vendor, device) = (word(space, SUBSYSTEM), word(space, SUBSYSTEM + 2));
        if vendor != 0 {
            let _ = writeln!(text, "      PCI subsystem {vendor:04x}:{device:04x}");
        }
        let pin = space[INTERRUPT_PIN];
        if pin != 0 {
            let letter = char::from(b'A'.saturating_add(pin.wrapping_sub(1) & 3));
            let line = space[INTERRUPT_LINE];
            let _ = writeln!(text, "      IRQ {line}, pin {letter}");
        }
        for bar in bars(look) {
            let first = bar.address;
            let last = first.wrapping_add(bar.size - 1);
            let digits = if bar.kind == "i/o" { 6 } else { 10 };
            let _ = writeln!(
                text,
                "      BAR{}: {} at {first:#0digits$x} [{last:#0digits$x}].",
                bar.number, bar.long_kind
            );
        }
        let _ = writeln!(text, "      id \"{}\"", look.name);
    }
    Ok(text)
}

/// `info qtree`.
pub(super) fn qtree(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let (regions, functions) =
        session.ask(|machine| (machine.board().regions(), machine.board().pci()))?;
    let mut text = String::from("bus: main-system-bus\n  type System\n");
    for row in pc::CHIPS {
        let _ = writeln!(text, "  dev: {}, id \"\"", row.name);
        show_regions(&mut text, "    ", &regions, row.name);
    }
    text.push_str("  dev: i440FX-pcihost, id \"\"\n");
    show_regions(&mut text, "    ", &regions, "pci");
    text.push_str("    bus: pci.0\n      type PCI\n");
    for look in &functions {
        show_function(&mut text, &regions, look);
    }
    text.push_str("    bus: isa.0\n      type ISA\n");
    for row in pc::ISA {
        if !regions.iter().any(|(name, _)| *name == row.name) {
            continue;
        }
        let _ = writeln!(text, "      dev: {}, id \"\"", row.name);
        show_irqs(&mut text, row.irqs);
        show_regions(&mut text, "        ", &regions, row.name);
    }
    Ok(text)
}

fn show_function(text: &mut String, regions: &Regions, look: &Look) {
    let space = &look.space;
    let _ = writeln!(text, "      dev: {}, id \"\"", look.name);
    let _ = writeln!(
        text,
        "        class {}, addr 00:{:02x}.{:x}, pci id {:04x}:{:04x} (sub {:04x}:{:04x})",
        class(look),
        look.slot,
        look.function,
        word(space, 0),
        word(space, 2),
        word(space, SUBSYSTEM),
        word(space, SUBSYSTEM + 2)
    );
    for bar in bars(look) {
        let _ = writeln!(
            text,
            "        bar {}: {} at {:#x} [{:#x}]",
            bar.number,
            bar.kind,
            bar.address,
            bar.address.wrapping_add(bar.size - 1)
        );
    }
    let row = PCI.iter().find(|row| row.name == look.name);
    show_irqs(text, row.map_or(&[], |row| row.irqs));
    show_regions(text, "        ", regions, look.name);
}

fn show_irqs(text: &mut String, irqs: &[u32]) {
    for irq in irqs {
        let _ = writeln!(text, "        irq {irq}");
    }
}

fn show_regions(text: &mut String, margin: &str, regions: &Regions, name: &str) {
    for (_, region) in regions.iter().filter(|(device, _)| *device == name) {
        let (first, last) = (region.range.start(), region.range.end());
        let size = last - first + 1;
        let _ = match region.space {
            Space::Memory => writeln!(text, "{margin}mmio {first:016x}/{size:016x}"),
            Space::Port => writeln!(text, "{margin}ports {first:#06x}-{last:#06x}"),
        };
    }
}
