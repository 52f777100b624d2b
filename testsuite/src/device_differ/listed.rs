//! Differences that stay: what the reference does, and the document that makes ours right.
//!
//! A mask sees every step of a script, may keep what it needs to know of the device's state, and makes the
//! two outcomes equal where, and only where, its difference can be seen.

use std::collections::BTreeMap;

use super::op::{Op, Outcome};

/// A difference.
pub struct Listed {
    /// The device.
    pub device: &'static str,
    /// The name it is counted under.
    pub name: &'static str,
    /// The document, with its section.
    pub document: &'static str,
    /// What the document says, and what the reference does.
    pub about: &'static str,
    /// Makes both equal; true if it did.
    mask: fn(&mut Memory, &Op, &mut Outcome, &mut Outcome) -> bool,
}

/// What a mask remembers of a script.
#[derive(Default)]
struct Memory {
    /// What an index register holds.
    index: u64,
    /// Some state of the device.
    state: u64,
    /// By address: what was there first, and what has been written there.
    bytes: BTreeMap<u64, (Option<u8>, Option<u8>)>,
    /// Levels of an interrupt line.
    levels: [bool; 2],
}

/// The table.
#[rustfmt::skip]
pub const LISTED: &[Listed] = &[
    Listed {
        device: "pci",
        name: "config-address-by-bytes",
        document: "82441FX (290549), CONFADD; PCI 2.1, 3.7.4.1 \"Configuration Mechanism #1\"",
        about: "only dword accesses reach the address register, others are ordinary I/O to where nobody is; the \
                reference answers with the register's bytes",
        mask: |_, op, ours, theirs| {
            let is = matches!(op, Op::In(0xCF8..=0xCFB, 1 | 2));
            is && take(ours, theirs)
        },
    },
    Listed {
        device: "pci",
        name: "unimplemented-bits",
        document: "PCI 2.1, 6.1 \"Configuration Space Organization\"; 290549, 290550 and 290562, each register",
        about: "bits behind the header that are reserved or read-only keep their value; the reference keeps what \
                is written there",
        mask: unimplemented,
    },
    Listed {
        device: "pci",
        name: "smram-lock",
        document: "82441FX (290549), SMRAM, bit 4 \"D_LCK\"",
        about: "the register is read-only once it is locked; the reference goes on taking what is written",
        mask: smram_lock,
    },
    Listed {
        device: "piix",
        name: "timer-in-parts",
        document: "82371AB (290562), PMTMR; ACPI 1.0b, 4.7.3.3 \"Power Management Timer\"",
        about: "the register has 32 bits at 08h to 0Bh; the reference answers at each address with the low ones",
        mask: |_, op, ours, theirs| {
            let is = matches!(op, Op::In(0x609..=0x60B, _));
            is && take(ours, theirs)
        },
    },
    Listed {
        device: "ioapic",
        name: "reserved-bits",
        document: "82093AA (290566), 3.2.4 \"IOREDTBL[23:0]\"",
        about: "bits 55 to 17 are reserved and read as zero; the reference keeps what is written there",
        mask: |memory, op, ours, theirs| {
            if let Op::Store(0xFEC0_0000, 4, index) = op {
                memory.index = *index;
            }
            let kept = if memory.index & 1 == 0 { 0x1_FFFF } else { 0xFF00_0000 };
            let is = matches!(op, Op::Load(0xFEC0_0010, 4)) && memory.index >= 0x10;
            is && take_bits(ours, theirs, !kept)
        },
    },
    Listed {
        device: "ioapic",
        name: "nobody-accepts",
        document: "SDM Vol. 3A, \"Local APIC State After It Has Been Software Disabled\"; 290566, 3.2.4, bits 12 and 14",
        about: "the local APIC is disabled after reset and accepts no vector, so a request stays pending; the \
                reference's accepts",
        mask: |memory, op, ours, theirs| {
            if let Op::Store(0xFEC0_0000, 4, index) = op {
                memory.index = *index;
            }
            let is = matches!(op, Op::Load(0xFEC0_0010, 4)) && memory.index >= 0x10 && memory.index & 1 == 0;
            is && take_bits(ours, theirs, 0x5000)
        },
    },
    Listed {
        device: "pic",
        name: "edge-sense-after-icw1",
        document: "8259A (231468), \"Initialization Command Word 1\", a",
        about: "an input must fall and rise again after it to request; the reference forgets that it was high. \
                Scripts lower all inputs before it; of one that does not the rest is not compared",
        mask: edge_sense,
    },
    Listed {
        device: "rtc",
        name: "periodic-flag",
        document: "MC146818A, \"Register C\": PF is set whatever PIE is",
        about: "the reference sets it only while its interrupt is enabled",
        mask: |memory, op, ours, theirs| {
            match op {
                Op::Out(0x70, 1, index) => memory.index = u64::from(index & 0x7F),
                Op::Out(0x71, 1, value) if memory.index == 11 => memory.state = u64::from(value & 0x40),
                _ => {}
            }
            let is = memory.index == 12 && memory.state == 0 && matches!(op, Op::In(0x71, 1));
            is && take_bits(ours, theirs, 0x40)
        },
    },
    Listed {
        device: "pic",
        name: "special-mask-eoi",
        document: "8259A (231468), \"End of Interrupt (EOI)\"",
        about: "in special mask mode a masked level is not ended by a non-specific EOI; the reference ends it. \
                Scripts with that mode have none; of one that has the rest is not compared",
        mask: special_mask_eoi,
    },
    Listed {
        device: "pic",
        name: "special-mask-output",
        document: "8259A (231468), \"Special Mask Mode\"",
        about: "a level that the mode lets through or no longer requests at once; the reference's output follows \
                with the next command",
        mask: special_mask_output,
    },
    Listed {
        device: "rtc",
        name: "illegal-time",
        document: "MC146818A, \"Time, Calendar, and Alarm Locations\": values out of range have undefined results",
        about: "scripts write none; of one that does the rest is not compared",
        mask: illegal_time,
    },
    Listed {
        device: "i8042",
        name: "unknown-mouse-command",
        document: "IBM PS/2 Mouse Technical Reference, \"Commands\": an invalid one is answered with FEh",
        about: "the reference does not answer. Scripts have none",
        mask: |_, _, _, _| false,
    },
    Listed {
        device: "i8042",
        name: "controller-memory",
        document: "IBM PC/AT Technical Reference, \"Keyboard Controller\", commands 20h to 3Fh, 60h to 7Fh, E0h",
        about: "they reach the controller's memory and its test inputs; of them the reference has 20h and 60h alone. \
                Scripts have no others",
        mask: |_, _, _, _| false,
    },
    Listed {
        device: "i8042",
        name: "output-port-full",
        document: "IBM PC/AT Technical Reference, \"Output Port Definitions\": bits 4 and 5 are the full buffers",
        about: "they follow the buffers; the reference gives what was written last. Scripts write zeros there",
        mask: |_, _, _, _| false,
    },
    Listed {
        device: "hpet",
        name: "wire-of-its-own",
        document: "IA-PC HPET 1.0a, 2.3.8 \"Timer N Configuration and Capabilities\": Tn_INT_ENB_CNF",
        about: "a timer without interrupts leaves lines alone; the reference lowers that of another device, IRQ0",
        mask: |_, _, ours, theirs| {
            let other = |irqs: &[(u8, bool)]| irqs.iter().any(|(wire, _)| *wire == 0);
            let differ = other(&ours.irqs) != other(&theirs.irqs);
            ours.irqs.retain(|(wire, _)| *wire != 0);
            theirs.irqs.retain(|(wire, _)| *wire != 0);
            differ
        },
    },
    Listed {
        device: "rtc",
        name: "day-of-week",
        document: "MC146818A, \"Time, Calendar, and Alarm Locations\": the day of the week is set like the others",
        about: "it is a counter of its own; the reference computes it of the date",
        mask: |memory, op, ours, theirs| {
            if let Op::Out(0x70, 1, index) = op {
                memory.index = u64::from(index & 0x7F);
            }
            memory.index == 6 && matches!(op, Op::In(0x71, 1)) && take(ours, theirs)
        },
    },
    Listed {
        device: "uart",
        name: "out2",
        document: "IBM PC/AT Technical Reference, Serial/Parallel Adapter, \"Modem Control Register\": OUT2 gates the interrupt",
        about: "the reference raises the interrupt whatever OUT2 is",
        mask: out2,
    },
    Listed {
        device: "uart",
        name: "nothing-received",
        document: "PC16550D, \"Line Status Register\", bit 0: the receiver buffer holds nothing then",
        about: "what is read is anything; the reference gives what was received before a FIFO was cleared",
        mask: |memory, op, ours, theirs| {
            match op {
                Op::Out(0x3FB, 1, value) => memory.index = u64::from(value & 0x80),
                Op::In(0x3FD, 1) => memory.state = ours.value().unwrap_or(0) & 1,
                _ => {}
            }
            let is = memory.index == 0 && memory.state == 0 && matches!(op, Op::In(0x3F8, 1));
            is && take(ours, theirs)
        },
    },
    Listed {
        device: "vga",
        name: "palette-of-six-bits",
        document: "IBM VGA, \"Palette Data Register\": six bits a color",
        about: "two bits do not exist; the reference keeps them",
        mask: |_, op, ours, theirs| matches!(op, Op::In(0x3C9, 1)) && take_bits(ours, theirs, 0xC0),
    },
    Listed {
        device: "vga",
        name: "pel-mask",
        document: "IBM VGA, \"PEL Mask Register\"",
        about: "it reads as written; the reference has none",
        mask: |_, op, ours, theirs| matches!(op, Op::In(0x3C6, 1)) && take(ours, theirs),
    },
    Listed {
        device: "uart",
        name: "delta-bits-in-loopback",
        document: "PC16550D, \"Modem Control Register\", bit 4 and \"Modem Status Register\"",
        about: "the modem inputs are the control outputs in loopback, and their changes set the delta bits; the \
                reference sets none",
        mask: |_, op, ours, theirs| {
            let is = matches!(op, Op::In(0x3FE, 1));
            is && take_bits(ours, theirs, 0x0F)
        },
    },
    Listed {
        device: "vga",
        name: "retrace",
        document: "IBM VGA, \"Input Status Register 1\"",
        about: "display enable and vertical retrace follow the scan, which stands still with time; the reference \
                inverts both at each read",
        mask: |_, op, ours, theirs| {
            let is = matches!(op, Op::In(0x3BA | 0x3DA, 1));
            is && take_bits(ours, theirs, 9)
        },
    },
    Listed {
        device: "ide",
        name: "diagnostic-code-after-reset",
        document: "ATA/ATAPI-6, 9.1 \"Power-on and hardware reset protocol\"",
        about: "the error register holds diagnostic code 01h until a command; the reference's holds 0",
        mask: |memory, op, ours, theirs| {
            if matches!(op, Op::Out(0x1F7, ..)) {
                memory.state = 1;
            }
            let is = memory.state == 0 && matches!(op, Op::In(0x1F1, 1));
            is && ours.value() == Some(1) && theirs.value() == Some(0) && take(ours, theirs)
        },
    },
    Listed {
        device: "ide",
        name: "busy-for-a-moment",
        document: "ATA/ATAPI-6, 7.15.6.1 \"BSY\": it is set when a command is written, and the interrupt follows",
        about: "a command takes 20 us; the reference's is done at once. Scripts wait behind each",
        mask: busy_for_a_moment,
    },
];

/// Bits of configuration space that nobody has implemented.
fn unimplemented(memory: &mut Memory, op: &Op, ours: &mut Outcome, theirs: &mut Outcome) -> bool {
    let at = |port: u16| memory.index + u64::from(port & 3);
    match op {
        Op::Out(0xCF8, 4, address) => memory.index = u64::from(*address & 0x80FF_FFFC),
        Op::Out(port @ 0xCFC..=0xCFF, count, value) => {
            let first = at(*port);
            for n in 0..u64::from(*count) {
                memory.bytes.entry(first + n).or_default().1 = Some((value >> (8 * n)) as u8);
            }
        }
        Op::In(port @ 0xCFC..=0xCFF, count) => {
            let first = at(*port);
            let (Some(mine), Some(other)) = (ours.value(), theirs.value()) else {
                return false;
            };
            let mut explained = true;
            for n in 0..u64::from(*count) {
                let (mine, other) = ((mine >> (8 * n)) as u8, (other >> (8 * n)) as u8);
                let (before, written) = memory.bytes.entry(first + n).or_default();
                let before = *before.get_or_insert(mine);
                let differing = mine ^ other;
                let is_kept = (other ^ written.unwrap_or(other)) & differing == 0;
                let is_first = (mine ^ before) & differing == 0;
                let is_behind = (first + n) & 0xFF >= 0x40;
                explained &= differing == 0 || is_behind && is_kept && is_first;
            }
            return explained && take(ours, theirs);
        }
        _ => {}
    }
    false
}

/// SMRAM of the host bridge, once it is locked.
fn smram_lock(memory: &mut Memory, op: &Op, ours: &mut Outcome, theirs: &mut Outcome) -> bool {
    const SMRAM: u64 = 0x8000_0072;
    let offset = |port: u16, count: u8| {
        let first = memory.index + u64::from(port & 3);
        (first..first + u64::from(count))
            .position(|at| at == SMRAM)
            .map(|byte| 8 * byte as u64)
    };
    match op {
        Op::Out(0xCF8, 4, address) => memory.index = u64::from(*address & 0x80FF_FFFC),
        Op::Out(port @ 0xCFC..=0xCFF, count, value) => {
            if let Some(shift) = offset(*port, *count) {
                memory.state |= u64::from(value >> shift) >> 4 & 1;
            }
        }
        Op::In(port @ 0xCFC..=0xCFF, count) if memory.state == 1 => {
            let shift = offset(*port, *count);
            return shift.is_some_and(|shift| take_bits(ours, theirs, 0xFF << shift));
        }
        _ => {}
    }
    false
}

/// The interrupt of a command, which comes when time goes on.
fn busy_for_a_moment(
    memory: &mut Memory,
    op: &Op,
    ours: &mut Outcome,
    theirs: &mut Outcome,
) -> bool {
    const BUSY: u64 = 1;
    const RESET: u64 = 2;
    let comes = |outcome: &Outcome| outcome.irqs.contains(&(14, true));
    let moved = match op {
        // What is done meanwhile is not compared, nor what follows.
        op if memory.index == BUSY && !matches!(op, Op::Step(_)) => {
            memory.state = 1;
            false
        }
        Op::Out(0x3F6, 1, value) => {
            memory.index = match (memory.index, value & 4) {
                (RESET, 0) => BUSY,
                (_, 0) => 0,
                _ => RESET,
            };
            false
        }
        _ if memory.index == RESET => {
            memory.state = 1;
            false
        }
        Op::Out(0x1F7, ..) => {
            memory.index = BUSY;
            comes(theirs) && !comes(ours)
        }
        Op::Step(_) => {
            memory.index = 0;
            comes(ours) && !comes(theirs)
        }
        _ => false,
    };
    if moved {
        ours.irqs.clone_from(&theirs.irqs);
    }
    poisoned(memory, ours, theirs) || moved
}

/// An interrupt that OUT2 holds back.
fn out2(memory: &mut Memory, op: &Op, ours: &mut Outcome, theirs: &mut Outcome) -> bool {
    let is_control = matches!(op, Op::Out(0x3FC, ..));
    if let Op::Out(0x3FC, 1, value) = op {
        memory.state = u64::from(value & 8);
    }
    for (level, outcome) in memory.levels.iter_mut().zip([&*ours, &*theirs]) {
        let last = outcome.irqs.iter().rev().find(|(wire, _)| *wire == 4);
        *level = last.map_or(*level, |(_, level)| *level);
    }
    let [mine, other] = memory.levels;
    let explained = memory.state == 0 && !mine || is_control && mine == other;
    let differed = explained && ours.irqs != theirs.irqs;
    if differed {
        ours.irqs.clone_from(&theirs.irqs);
    }
    differed
}

/// Takes these bits of the reference's answer for ours; true if they differed.
fn take_bits(ours: &mut Outcome, theirs: &Outcome, bits: u64) -> bool {
    let (Some(mine), Some(other)) = (ours.value(), theirs.value()) else {
        return false;
    };
    let differ = (mine ^ other) & bits != 0;
    if differ {
        ours.set_value(mine & !bits | other & bits);
    }
    differ
}

/// An 8259 initialised while an input is high, or the slave may request: nothing is compared from then on.
fn edge_sense(memory: &mut Memory, op: &Op, ours: &mut Outcome, theirs: &mut Outcome) -> bool {
    match op {
        Op::Wire(wire, true) => memory.index |= 1 << wire,
        Op::Wire(wire, false) => memory.index &= !(1 << wire),
        Op::Out(0xA1, 1, value) => memory.levels[0] = *value == 0xFF,
        Op::Out(0x20 | 0xA0, 1, value)
            if value & 0x10 != 0 && (memory.index != 0 || !memory.levels[0]) =>
        {
            memory.state = 1;
        }
        _ => {}
    }
    poisoned(memory, ours, theirs)
}

/// A non-specific EOI in special mask mode: nothing is compared from then on.
fn special_mask_eoi(
    memory: &mut Memory,
    op: &Op,
    ours: &mut Outcome,
    theirs: &mut Outcome,
) -> bool {
    if let Op::Out(port @ (0x20 | 0xA0), 1, value) = op {
        let chip = usize::from(*port == 0xA0);
        match value & 0xFF {
            start if start & 0x10 != 0 => memory.levels[chip] = false,
            mode if mode & 0x48 == 0x48 => memory.levels[chip] = mode & 0x20 != 0,
            mode if mode & 0x08 != 0 => {}
            end if memory.levels[chip] && matches!(end >> 5, 1 | 5) => memory.state = 1,
            _ => {}
        }
    }
    poisoned(memory, ours, theirs)
}

/// The output behind a change of special mask mode: until it is the same again the reference's counts.
fn special_mask_output(
    memory: &mut Memory,
    op: &Op,
    ours: &mut Outcome,
    theirs: &mut Outcome,
) -> bool {
    for (level, outcome) in memory.levels.iter_mut().zip([&*ours, &*theirs]) {
        *level = outcome.irqs.last().map_or(*level, |(_, level)| *level);
    }
    let changes = matches!(op, Op::Out(0x20 | 0xA0, 1, value) if value & 0x58 == 0x48);
    let apart = memory.levels[0] != memory.levels[1];
    let explained = memory.state == 1 || changes && apart;
    memory.state = u64::from(explained && apart);
    let differ = explained && ours.irqs != theirs.irqs;
    if differ {
        ours.irqs.clone_from(&theirs.irqs);
    }
    differ
}

/// A time that is none.
fn illegal_time(memory: &mut Memory, op: &Op, ours: &mut Outcome, theirs: &mut Outcome) -> bool {
    match op {
        Op::Out(0x70, 1, index) => memory.index = u64::from(index & 0x7F),
        Op::Out(0x71, 1, value)
            if matches!(memory.index, 0 | 2 | 4 | 6..=9) && !(1..=9).contains(value)
                || memory.index == 0x32 && *value != 0x20 =>
        {
            memory.state = 1;
        }
        _ => {}
    }
    poisoned(memory, ours, theirs)
}

/// Takes everything of the reference's, if nothing is compared anymore.
fn poisoned(memory: &Memory, ours: &mut Outcome, theirs: &Outcome) -> bool {
    let differ = memory.state == 1 && !ours.agrees(theirs);
    if differ {
        ours.clone_from(theirs);
    }
    differ
}

/// Takes the reference's answer for ours; true if they differed.
fn take(ours: &mut Outcome, theirs: &Outcome) -> bool {
    let differed = ours.answer != theirs.answer;
    ours.answer.clone_from(&theirs.answer);
    differed
}

/// The masks of a device in one script.
pub(super) struct Masks(Vec<(&'static Listed, Memory)>);

impl Masks {
    pub(super) fn new(device: &str) -> Self {
        let own = LISTED.iter().filter(|listed| listed.device == device);
        Self(own.map(|listed| (listed, Memory::default())).collect())
    }

    /// The name of the difference that was masked, if one was.
    pub(super) fn apply(
        &mut self,
        op: &Op,
        ours: &mut Outcome,
        theirs: &mut Outcome,
    ) -> Option<&'static str> {
        let mut masked = None;
        for (listed, memory) in &mut self.0 {
            if (listed.mask)(memory, op, ours, theirs) {
                masked = Some(listed.name);
            }
        }
        masked
    }
}
