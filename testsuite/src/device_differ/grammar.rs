//! Random scripts that mean something to a device.

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
    disk: false,
};

/// Every device.
pub const GRAMMARS: &[Grammar] = &[
    Grammar {
        name: "pic",
        setup: PLAIN,
        more: pic,
    },
    Grammar {
        name: "pit",
        setup: PLAIN,
        more: pit,
    },
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

/// Both chips, with interrupts by counter 0 of the 8254 and by loopback of the first serial port.
fn pic(random: &mut Random, script: &mut Vec<Op>) {
    let base = random.pick(&[0x20, 0xA0]);
    match random.below(100) {
        0..3 => {
            let needs_fourth = random.below(2) as u32;
            let single = u32::from(random.chance(10)) << 1;
            let level = u32::from(random.chance(20)) << 3;
            script.push(Op::Out(base, 1, 0x10 | level | single | needs_fourth));
            for _ in 0..2 + needs_fourth {
                script.push(Op::Out(base + 1, 1, byte(random)));
            }
        }
        3..20 => script.push(Op::Out(base + 1, 1, byte(random))),
        20..35 => script.push(Op::Out(
            base,
            1,
            random.below(32) as u32 & 7 | random.below(8) as u32 * 32,
        )),
        35..45 => script.push(Op::Out(base, 1, 0x08 | byte(random) & 0x67)),
        45..52 => {
            script.push(Op::Out(base, 1, 0x0C));
            script.push(Op::In(base + random.below(2) as u16, 1));
        }
        52..56 => script.push(Op::Out(0x4D0 + random.below(2) as u16, 1, byte(random))),
        56..60 => script.push(Op::In(0x4D0 + random.below(2) as u16, 1)),
        // OUT of counter 0 high (mode 0 done, mode 1 to 5 waiting) or low.
        60..66 => script.push(Op::Out(0x43, 1, random.pick(&[0x30, 0x32, 0x34]))),
        // The serial port in loopback: OUT2 off, so its request needs OUT2 written apart.
        66..72 => script.push(Op::Out(0x3F9, 1, random.below(4) as u32)),
        72..76 => script.push(Op::Out(0x3FC, 1, random.pick(&[0x08, 0x00, 0x0B]))),
        76..78 => script.push(Op::In(0x3FA, 1)),
        _ => script.push(Op::In(base + random.below(2) as u16, 1)),
    }
}

fn pit(random: &mut Random, script: &mut Vec<Op>) {
    let counter = random.below(3) as u16;
    match random.below(100) {
        0..12 => {
            let mode = random.below(8) as u32;
            let access = random.below(4) as u32;
            let bcd = u32::from(random.chance(20));
            script.push(Op::Out(
                0x43,
                1,
                u32::from(counter) << 6 | access << 4 | mode << 1 | bcd,
            ));
            if random.chance(70) {
                for _ in 0..2 {
                    script.push(Op::Out(0x40 + counter, 1, byte(random)));
                }
            }
        }
        12..18 => script.push(Op::Out(0x40 + counter, 1, byte(random))),
        18..26 => script.push(Op::Out(0x43, 1, 0xC0 | random.below(64) as u32)),
        26..32 => script.push(Op::Out(0x43, 1, u32::from(counter) << 6)),
        32..38 => script.push(Op::Out(0x61, 1, random.below(4) as u32)),
        38..46 => script.push(Op::In(0x61, 1)),
        46..50 => script.push(Op::Step(1 << random.below(22))),
        50..52 => script.push(Op::In(0x43, 1)),
        _ => script.push(Op::In(0x40 + counter, 1)),
    }
}
