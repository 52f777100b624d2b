//! PCI configuration space, and what stands behind the chipset's own ports.

use super::{byte, width};
use crate::device_differ::op::Op;
use crate::random::Random;

/// Device and function numbers, and some where there is nothing.
const FUNCTIONS: &[u32] = &[0x00, 0x08, 0x09, 0x0B, 0x10, 0x0A, 0x0C, 0x18, 0x01];

/// Configuration space of every function.
pub(super) fn pci(random: &mut Random, script: &mut Vec<Op>) {
    if script.is_empty() {
        // What is there first.
        for address in FUNCTIONS
            .iter()
            .flat_map(|f| (0..64).map(move |n| f << 8 | n << 2))
        {
            script.push(Op::Out(0xCF8, 4, 1 << 31 | address));
            script.push(Op::In(0xCFC, 4));
        }
    }
    if random.chance(3) {
        script.push(match random.below(3) {
            0 => Op::In(0xCF8, 4),
            1 => Op::In(0xCF8 + random.below(4) as u16, 1),
            _ => Op::Out(0xCF8, 4, random.draw() as u32 & 0xFFFF_FFFC),
        });
        return;
    }
    let function = random.pick(FUNCTIONS);
    let offset = match random.below(4) {
        0 => random.below(0x100),
        1 => 0x40 + random.below(0xA0),
        _ => random.below(0x44),
    } as u32;
    let count = width(random);
    let port = 0xCFC + (offset as u16 & 3 & !(u16::from(count) - 1));
    script.push(Op::Out(0xCF8, 4, 1 << 31 | function << 8 | offset & 0xFC));
    if random.chance(35) {
        let value = match random.below(4) {
            0 => u32::MAX,
            1 => byte(random),
            _ => random.draw() as u32,
        };
        script.push(Op::Out(port, count, value));
    }
    script.push(Op::In(port, count));
}

/// Power management, APM, edge/level control, port 92h, hotplug ports.
pub(super) fn piix(random: &mut Random, script: &mut Vec<Op>) {
    if script.is_empty() {
        for (register, value) in [(0x40, 0x601), (0x80, 1), (0x90, 0x701), (0xD0, 0x0900)] {
            script.push(Op::Out(0xCF8, 4, 0x8000_0B00 | register));
            script.push(Op::Out(0xCFC, 4, value));
        }
    }
    match random.below(100) {
        0..25 => {
            let register = random.pick(&[0, 2, 4]);
            let value = random.draw() as u32;
            // Sleep is another story: the machine would be off.
            let value = if register == 4 { value & 0xDFFF } else { value };
            script.push(Op::Out(0x600 + register, 2, value));
        }
        25..50 => script.push(Op::In(0x600 + random.below(32) as u16 * 2, 2)),
        50..55 => script.push(Op::In(0x608, 4)),
        55..60 => script.push(Op::In(0xAFE0 + random.below(4) as u16, 1)),
        60..65 => script.push(Op::Out(0xAFE0 + random.below(4) as u16, 1, byte(random))),
        65..68 => script.push(Op::In(0xB2 + random.below(2) as u16, 1)),
        68..71 => script.push(Op::Out(0xB3, 1, byte(random))),
        71..74 => script.push(Op::In(0x92, 1)),
        74..76 => script.push(Op::Out(0x92, 1, byte(random) & 0xFE)),
        76..79 => script.push(Op::In(0xCF9, 1)),
        79..82 => script.push(Op::In(0x4D0 + random.below(2) as u16, 1)),
        82..85 => script.push(Op::Out(0x4D0 + random.below(2) as u16, 1, byte(random))),
        85..88 => script.push(Op::Step(1 << random.below(24))),
        88..94 => script.push(Op::In(0x700 + random.below(8) as u16, 1)),
        _ => script.push(Op::Out(0x700 + random.below(6) as u16, 1, byte(random))),
    }
}
