//! Random scripts that mean something to a device.

mod chips;
mod chipset;
mod ports;

use super::op::Op;
use super::{DifferError, Setup, Watch};
use crate::random::Random;

/// A device and how its scripts are made.
pub struct Grammar {
    /// The device.
    pub name: &'static str,
    /// The machines it wants.
    pub setup: Setup,
    /// Begins every script: what no document says of a machine before.
    begin: fn(&mut Random, &mut Vec<Op>),
    /// Appends a few steps.
    more: fn(&mut Random, &mut Vec<Op>),
}

const PLAIN: Setup = Setup {
    shift: 4,
    watch: Watch::Hpet,
    intr: false,
    disk: false,
};
/// For what takes seconds.
const SLOW: Setup = Setup { shift: 10, ..PLAIN };
const INTR: Setup = Setup {
    intr: true,
    ..PLAIN
};
const DISK: Setup = Setup {
    disk: true,
    ..PLAIN
};
const NO_HPET: Setup = Setup {
    shift: 9,
    watch: Watch::PmTimer,
    ..PLAIN
};

/// Every device.
#[rustfmt::skip]
pub const GRAMMARS: &[Grammar] = &[
    Grammar { name: "pic", setup: INTR, begin: chips::pic_begins, more: chips::pic },
    Grammar { name: "pit", setup: PLAIN, begin: chips::pit_begins, more: chips::pit },
    Grammar { name: "pci", setup: PLAIN, begin: known, more: chipset::pci },
    Grammar { name: "piix", setup: PLAIN, begin: known, more: chipset::piix },
    Grammar { name: "ioapic", setup: PLAIN, begin: known, more: chips::ioapic },
    Grammar { name: "rtc", setup: SLOW, begin: chips::rtc_begins, more: chips::rtc },
    Grammar { name: "uart", setup: PLAIN, begin: known, more: ports::uart },
    Grammar { name: "i8042", setup: PLAIN, begin: ports::i8042_begins, more: ports::i8042 },
    Grammar { name: "fw_cfg", setup: PLAIN, begin: known, more: ports::fw_cfg },
    Grammar { name: "hpet", setup: NO_HPET, begin: known, more: chips::hpet },
    Grammar { name: "vga", setup: PLAIN, begin: known, more: ports::vga },
    Grammar { name: "ide", setup: DISK, begin: known, more: ports::ide },
];

/// The names of all devices.
pub fn names() -> Vec<&'static str> {
    GRAMMARS.iter().map(|grammar| grammar.name).collect()
}

/// The grammar of a device.
///
/// # Errors
/// If there is none.
pub fn find(device: &str) -> Result<&'static Grammar, DifferError> {
    let found = GRAMMARS.iter().find(|grammar| grammar.name == device);
    found.ok_or_else(|| DifferError::Device {
        given: device.to_string(),
    })
}

impl Grammar {
    /// A script of `count` steps, and how many of them begin every script.
    pub fn script(&self, random: &mut Random, count: usize) -> (Vec<Op>, usize) {
        let mut script = Vec::with_capacity(count + 16);
        (self.begin)(random, &mut script);
        let head = script.len().min(count);
        while script.len() < count {
            (self.more)(random, &mut script);
        }
        script.truncate(count);
        (script, head)
    }
}

/// For a device that is known from its reset on.
fn known(_: &mut Random, _: &mut Vec<Op>) {}

fn byte(random: &mut Random) -> u32 {
    // Single bits and their complements are commands and masks more often than not.
    match random.below(4) {
        0 => 1 << random.below(8),
        1 => 0xFF ^ 1 << random.below(8),
        _ => random.below(256) as u32,
    }
}

fn width(random: &mut Random) -> u8 {
    random.pick(&[1, 1, 2, 4])
}
