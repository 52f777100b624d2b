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
            is && differ_in(ours, theirs, !kept) && take(ours, theirs)
        },
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
            is && differ_in(ours, theirs, 0x40) && take(ours, theirs)
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
            is && differ_in(ours, theirs, 0x0F) && take(ours, theirs)
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
            is && differ_in(ours, theirs, 9) && take(ours, theirs)
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

/// Whether both answers are numbers that differ in these bits alone.
fn differ_in(ours: &Outcome, theirs: &Outcome, bits: u64) -> bool {
    match (ours.value(), theirs.value()) {
        (Some(mine), Some(other)) => (mine ^ other) & !bits == 0,
        _ => false,
    }
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
