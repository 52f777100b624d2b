//! `info`: its table, and the short ones of its subcommands.

use std::fmt::Write;

use super::arguments::Arguments;
use super::commands::{Command, Reply, describe_info, find};
use super::{Session, board, chips, paging, registers};
use crate::machine::Machine;
use crate::stats::Table;

#[rustfmt::skip]
pub(super) const TABLE: &[Command] = &[
    Command { name: "accel", alias: "", arguments: "", about: "show the engine that runs the machine", run: accel },
    Command { name: "exits", alias: "", arguments: "", about: "show how often the processor left the engine, by kind", run: exits },
    Command { name: "ioapic", alias: "", arguments: "", about: "show IOAPIC state", run: chips::ioapic },
    Command { name: "irq", alias: "", arguments: "", about: "show the interrupts statistics", run: irq },
    Command { name: "kvm", alias: "", arguments: "", about: "show KVM information", run: kvm },
    Command { name: "lapic", alias: "", arguments: "", about: "show local APIC state", run: chips::lapic },
    Command { name: "mem", alias: "", arguments: "", about: "show the active virtual memory mappings", run: paging::mem },
    Command { name: "mtree", alias: "", arguments: "[-f]", about: "show memory tree", run: board::mtree },
    Command { name: "name", alias: "", arguments: "", about: "show the current VM name", run: name },
    Command { name: "pci", alias: "", arguments: "", about: "show PCI info", run: board::pci },
    Command { name: "pic", alias: "", arguments: "", about: "show PIC state", run: chips::pic },
    Command { name: "qtree", alias: "", arguments: "", about: "show device tree", run: board::qtree },
    Command { name: "registers", alias: "", arguments: "[-a]", about: "show the cpu registers", run: registers::registers },
    Command { name: "status", alias: "", arguments: "", about: "show the current VM status (running|paused)", run: status },
    Command { name: "tlb", alias: "", arguments: "", about: "show virtual to physical memory mappings", run: paging::tlb },
    Command { name: "uuid", alias: "", arguments: "", about: "show the current VM UUID", run: uuid },
    Command { name: "version", alias: "", arguments: "", about: "show the version of twin86", run: version },
];

/// `info`.
pub(super) fn run(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let Some(name) = arguments.optional() else {
        return Ok(describe_info());
    };
    let command = find(TABLE, name, "info ")?;
    (command.run)(session, Arguments::new(command.name, arguments.rest()))
}

fn status(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    Ok(match session.ask(|machine| machine.paused())? {
        None => "VM status: running\n".to_string(),
        Some(why) if why.name() == "paused" => "VM status: paused\n".to_string(),
        Some(why) => format!("VM status: paused ({})\n", why.name()),
    })
}

fn version(_: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    Ok(concat!(env!("CARGO_PKG_VERSION"), "\n").to_string())
}

fn name(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let name = session.ask(|machine| machine.identity().name.clone())?;
    Ok(name.map_or_else(String::new, |name| name + "\n"))
}

fn uuid(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let uuid = u128::from_be_bytes(session.ask(|machine| machine.identity().uuid)?);
    let digits = format!("{uuid:032x}");
    let groups = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Ok(groups.join("-") + "\n")
}

fn accel(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let told = |machine: &mut Machine| (machine.identity().engine, machine.switches());
    let (engine, switches) = session.ask(told)?;
    Ok(match switches {
        0 => format!("accelerator: {engine}\n"),
        switches => format!("accelerator: {engine} (switches: {switches})\n"),
    })
}

fn kvm(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let engine = session.ask(|machine| machine.identity().engine)?;
    let state = if engine == "kvm" {
        "enabled"
    } else {
        "disabled"
    };
    Ok(format!("kvm support: {state}\n"))
}

fn exits(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let runs = session.ask(|machine| machine.stats())?;
    let text = Table(&runs).exits();
    if text.is_empty() {
        return Ok("no exits yet\n".to_string());
    }
    Ok(text)
}

fn irq(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let vectors = session.ask(|machine| machine.exits().vectors())?;
    let mut text = "IRQ statistics for CPU#0, by vector:\n".to_string();
    for (vector, count) in vectors {
        let _ = writeln!(text, "{vector:>4} ({vector:#04x}): {count}");
    }
    Ok(text)
}
