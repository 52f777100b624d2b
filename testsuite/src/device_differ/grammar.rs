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
    Grammar { name: "pic", setup: INTR, more: chips::pic },
    Grammar { name: "pit", setup: PLAIN, more: chips::pit },
    Grammar { name: "pci", setup: PLAIN, more: chipset::pci },
    Grammar { name: "piix", setup: PLAIN, more: chipset::piix },
    Grammar { name: "ioapic", setup: PLAIN, more: chips::ioapic },
    Grammar { name: "rtc", setup: SLOW, more: chips::rtc },
    Grammar { name: "uart", setup: PLAIN, more: ports::uart },
    Grammar { name: "i8042", setup: PLAIN, more: ports::i8042 },
    Grammar { name: "fw_cfg", setup: PLAIN, more: ports::fw_cfg },
    Grammar { name: "hpet", setup: NO_HPET, more: chips::hpet },
    Grammar { name: "vga", setup: PLAIN, more: ports::vga },
    Grammar { name: "ide", setup: DISK, more: ports::ide },
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
    /// A script of `count` steps.
    pub fn script(&self, random: &mut Random, count: usize) -> Vec<Op> {
        let mut script = Vec::with_capacity(count + 16);
        while script.len() < count {
            (self.more)(random, &mut script);
        }
        script.truncate(count);
        script
    }
}

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
