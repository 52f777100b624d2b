//! `info pic`, `info ioapic`, `info lapic`: the interrupt chips, read from copies.

use std::fmt::Write;
use std::time::Duration;

use devices::chips::Snapshot;
use devices::i8259::{Chip, I8259};
use devices::ioapic::{IoApic, PINS};
use devices::lapic::LocalApic;

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use super::error::MonitorError;

/// Index of the IOAPIC's first redirection entry.
const REDIRECTION: u8 = 0x10;
/// Local vector table entries, from 320h on: as QEMU names them, in its order.
#[rustfmt::skip]
const LVT: [(&str, u32); 6] = [
    ("LVT0", 0x350), ("LVT1", 0x360), ("LVTPC", 0x340), ("LVTERR", 0x370), ("LVTTHMR", 0x330), ("LVTT", 0x320),
];

fn snapshot(session: &Session, arguments: Arguments<'_>) -> Result<Snapshot, MonitorError> {
    arguments.end()?;
    session.ask(|machine| machine.board().chips().snapshot())
}

/// `info pic`.
pub(super) fn pic(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    let chips = snapshot(session, arguments)?;
    let mut text = String::new();
    show_ioapic(&mut text, chips.ioapic);
    show_pic(&mut text, "pic1", chips.pic.look(Chip::Slave));
    show_pic(&mut text, "pic0", chips.pic.look(Chip::Master));
    Ok(text)
}

fn show_pic(text: &mut String, name: &str, pic: &I8259) {
    let _ = writeln!(
        text,
        "{name}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}",
        pic.irr(),
        pic.imr(),
        pic.isr(),
        pic.highest(),
        pic.vector_base(),
        u8::from(pic.reads_isr()),
        pic.elcr(),
        u8::from(pic.is_fully_nested())
    );
}

/// `info ioapic`.
pub(super) fn ioapic(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    let chips = snapshot(session, arguments)?;
    let mut text = String::new();
    show_ioapic(&mut text, chips.ioapic);
    Ok(text)
}

/// The names of the fields of a redirection or local vector table entry.
fn fields(low: u32) -> [&'static str; 4] {
    [
        if low >> 13 & 1 != 0 {
            "active-lo"
        } else {
            "active-hi"
        },
        if low >> 15 & 1 != 0 { "level" } else { "edge" },
        if low >> 16 & 1 != 0 { "masked" } else { "" },
        delivery(low),
    ]
}

fn delivery(low: u32) -> &'static str {
    match low >> 8 & 7 {
        0 => "fixed",
        1 => "lowest",
        2 => "SMI",
        4 => "NMI",
        5 => "INIT",
        6 => "SIPI",
        7 => "ExtINT",
        _ => "reserved",
    }
}

/// Numbers of set bits, in words, for `info`.
fn numbers(bits: impl Iterator<Item = usize>) -> String {
    let list: Vec<String> = bits.map(|n| n.to_string()).collect();
    if list.is_empty() {
        "(none)".to_string()
    } else {
        list.join(" ")
    }
}

/// The chip is a copy: choosing its registers has no effect on the machine's.
fn show_ioapic(text: &mut String, mut chip: IoApic) {
    let selected = chip.index();
    let mut register = |index| {
        chip.set_index(index);
        chip.data()
    };
    let (id, version) = (register(0) >> 24 & 0xF, register(1) & 0xFF);
    let _ = writeln!(
        text,
        "ioapic0: ver={version:#x} id={id:#04x} sel={selected:#04x}"
    );
    let mut remote = Vec::new();
    let mut waiting = Vec::new();
    for pin in 0..PINS as u8 {
        let index = REDIRECTION + 2 * pin;
        let (low, high) = (register(index), register(index + 1));
        let [polarity, trigger, mask, delivery] = fields(low);
        let mode = if low >> 11 & 1 != 0 {
            "logical"
        } else {
            "physical"
        };
        let entry = u64::from(high) << 32 | u64::from(low);
        let _ = writeln!(
            text,
            "  pin {pin:<2} {entry:#018x} dest={:X} vec={:<3} {polarity} {trigger:<5} {mask:<6} {delivery:<6} {mode}",
            high >> 24,
            low & 0xFF
        );
        for (bit, list) in [(14, &mut remote), (12, &mut waiting)] {
            if low >> bit & 1 != 0 {
                list.push(usize::from(pin));
            }
        }
    }
    let _ = writeln!(text, "  IRR      {}", numbers(waiting.into_iter()));
    let _ = writeln!(text, "  Remote IRR {}", numbers(remote.into_iter()));
}

/// `info lapic`.
pub(super) fn lapic(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    let chips = snapshot(session, arguments)?;
    let mut text = String::new();
    for (cpu, apic) in chips.lapics.into_iter().enumerate() {
        let _ = writeln!(text, "dumping local APIC state for CPU {cpu}\n");
        show_lapic(&mut text, apic, chips.now);
    }
    Ok(text)
}

fn show_lapic(text: &mut String, mut apic: LocalApic, now: Duration) {
    if !apic.is_present() {
        let _ = writeln!(text, "it is off: IA32_APIC_BASE is {:#x}", apic.base());
        return;
    }
    let mut register = |offset| apic.read(offset, now);
    for (name, offset) in LVT {
        let low = register(offset);
        let [polarity, trigger, mask, delivery] = fields(low);
        let timer = match (name, low >> 17 & 1) {
            ("LVTT", 0) => "one-shot",
            ("LVTT", _) => "periodic",
            _ => "",
        };
        let _ = writeln!(
            text,
            "{name}\t {low:#010x} {polarity} {trigger:<5} {mask:<27} {timer:<8} {delivery:<6} (vec {})",
            low & 0xFF
        );
    }
    let divide = register(0x3E0);
    // Bits 3, 1 and 0, plus one, are the logarithm; 7 is a division by 1.
    let shift = (divide & 3 | divide >> 1 & 4).wrapping_add(1) & 7;
    let _ = writeln!(
        text,
        "Timer\t DCR={divide:#x} (divide by {}) initial_count = {} current_count = {}",
        1 << shift,
        register(0x380),
        register(0x390)
    );
    let spurious = register(0xF0);
    let enabled = if spurious >> 8 & 1 != 0 {
        "enabled"
    } else {
        "disabled"
    };
    let _ = writeln!(
        text,
        "SPIV\t {spurious:#010x} APIC {enabled}, focus=off, spurious vec {}",
        spurious & 0xFF
    );
    for (name, offset) in [("ICR", 0x300), ("ICR2", 0x310), ("ESR", 0x280)] {
        let _ = writeln!(text, "{name}\t {:#010x}", register(offset));
    }
    for (name, base) in [("ISR", 0x100), ("IRR", 0x200)] {
        let words: Vec<u32> = (0..8).map(|n| register(base + 16 * n)).collect();
        let set = (0..256).filter(|bit| words[bit / 32] >> (bit % 32) & 1 != 0);
        let _ = writeln!(text, "{name}\t {}", numbers(set));
    }
    let _ = writeln!(
        text,
        "\nAPR {:#04x} TPR {:#04x} DFR {:#04x} LDR {:#04x} PPR {:#04x}",
        register(0x90),
        register(0x80),
        register(0xE0) >> 28,
        register(0xD0) >> 24,
        register(0xA0)
    );
}
