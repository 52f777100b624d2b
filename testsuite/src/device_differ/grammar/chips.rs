//! Interrupt controllers, timers, the clock.

use super::{byte, width};
use crate::device_differ::op::Op;
use crate::random::Random;

pub(super) fn pic_begins(random: &mut Random, script: &mut Vec<Op>) {
    // One has forgotten at the reset which the level was, the other has not.
    script.push(Op::Wire(0, false));
    // No document says what becomes of a request when its input changes its kind.
    script.push(Op::Out(0x4D0, 1, byte(random)));
    script.push(Op::Out(0x4D1, 1, byte(random)));
}

/// Both chips with all their inputs.
pub(super) fn pic(random: &mut Random, script: &mut Vec<Op>) {
    // Special mask mode, or the EOI it does not go with.
    let special = matches!(script[1], Op::Out(_, _, value) if value & 8 != 0);
    let base = random.pick(&[0x20, 0xA0]);
    match random.below(100) {
        0..2 => {
            let needs_fourth = random.below(2) as u32;
            let single = u32::from(random.chance(10)) << 1;
            let level = u32::from(random.chance(20)) << 3;
            script.extend(
                (0..16)
                    .map(|wire| Op::Wire(wire, false))
                    .filter(|op| *op != Op::Wire(2, false)),
            );
            // Nor shall the slave request.
            script.push(Op::Out(0xA1, 1, 0xFF));
            script.push(Op::Out(base, 1, 0x10 | level | single | needs_fourth));
            for _ in 0..2 + needs_fourth {
                script.push(Op::Out(base + 1, 1, byte(random)));
            }
        }
        2..14 => script.push(Op::Out(base + 1, 1, byte(random))),
        14..28 => {
            let all = [0, 1, 2, 3, 4, 5, 6, 7];
            let command = if special {
                random.pick(&[0, 2, 3, 4, 6, 7])
            } else {
                random.pick(&all)
            };
            script.push(Op::Out(base, 1, (command * 32) | random.below(8) as u32));
        }
        28..36 => {
            let bits = if special { 0x67 } else { 0x07 };
            script.push(Op::Out(base, 1, 0x08 | byte(random) & bits));
        }
        36..44 => {
            script.push(Op::Out(base, 1, 0x0C));
            script.push(Op::In(base + random.below(2) as u16, 1));
        }
        44..50 => script.push(Op::In(0x4D0 + random.below(2) as u16, 1)),
        50..75 => {
            let wire = random.pick(&[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
            script.push(Op::Wire(wire, random.chance(50)));
        }
        _ => script.push(Op::In(base + random.below(2) as u16, 1)),
    }
}

/// Intel 8254 (231164), \"Programming the 8254\": everything is undefined before.
pub(super) fn pit_begins(random: &mut Random, script: &mut Vec<Op>) {
    script.push(Op::Out(0x61, 1, 1));
    for counter in 0..3 {
        let mode = random.below(6) as u32;
        script.push(Op::Out(0x43, 1, counter << 6 | 0x30 | mode << 1));
        for _ in 0..2 {
            script.push(Op::Out(0x40 + counter as u16, 1, byte(random)));
        }
    }
    script.push(Op::Step(TWO_CLOCKS));
}

/// Nanoseconds in which a count that was written is loaded, as the 8254 does with the next clock.
const TWO_CLOCKS: u64 = 2000;

pub(super) fn pit(random: &mut Random, script: &mut Vec<Op>) {
    let counter = random.below(3) as u16;
    match random.below(100) {
        0..12 => {
            let control = u32::from(counter) << 6 | random.below(64) as u32;
            script.push(Op::Out(0x43, 1, control));
            if random.chance(70) {
                script.push(Op::Out(0x40 + counter, 1, byte(random)));
                script.push(Op::Out(0x40 + counter, 1, byte(random)));
                script.push(Op::Step(TWO_CLOCKS));
            }
        }
        12..18 => {
            script.push(Op::Out(0x40 + counter, 1, byte(random)));
            script.push(Op::Step(TWO_CLOCKS));
        }
        18..26 => script.push(Op::Out(0x43, 1, 0xC0 | random.below(64) as u32)),
        26..32 => script.push(Op::Out(0x43, 1, u32::from(counter) << 6)),
        32..38 => {
            // An edge of the gate; one that is low stops no counter of the reference's.
            script.push(Op::Out(0x61, 1, random.below(4) as u32));
            script.push(Op::Out(0x61, 1, 1 | random.below(4) as u32));
        }
        38..46 => script.push(Op::In(0x61, 1)),
        46..50 => script.push(Op::Step(1 << random.below(22))),
        50..52 => script.push(Op::In(0x43, 1)),
        _ => script.push(Op::In(0x40 + counter, 1)),
    }
}

/// Its page, and its pins.
pub(super) fn ioapic(random: &mut Random, script: &mut Vec<Op>) {
    const PAGE: u64 = 0xFEC0_0000;
    let index = match random.below(10) {
        0 => random.below(256),
        1 => random.below(4),
        _ => 0x10 + random.below(48),
    };
    match random.below(100) {
        0..35 => {
            script.push(Op::Store(PAGE, 4, index));
            script.push(Op::Load(PAGE + 0x10, 4));
        }
        35..60 => {
            script.push(Op::Store(PAGE, 4, index));
            let value = random.draw() as u32;
            // Level and mask are what matters most.
            let value = random.pick(&[value, value & 0xA0FF, value & 0x1_A0FF, value | 0x1_0000]);
            script.push(Op::Store(PAGE + 0x10, 4, value.into()));
            script.push(Op::Load(PAGE + 0x10, 4));
        }
        60..85 => script.push(Op::Pin(random.below(24) as u8, random.chance(50))),
        85..90 => script.push(Op::Store(PAGE + 0x40, 4, random.below(256))),
        90..95 => script.push(Op::Load(PAGE, width(random))),
        _ => script.push(Op::Load(PAGE + random.below(64) * 4, 4)),
    }
}

pub(super) fn rtc_begins(random: &mut Random, script: &mut Vec<Op>) {
    let mut set = |index, value| {
        script.push(Op::Out(0x70, 1, index));
        script.push(Op::Out(0x71, 1, value));
    };
    // Binary or not, of 12 or 24 hours: fixed before the time is set, as the data sheet wants it.
    let form = random.below(4) as u32 * 2;
    set(11, 0x80 | form);
    for (index, value) in [
        (0, 5),
        (2, 6),
        (4, 7),
        (6, 1),
        (7, 8),
        (8, 9),
        (9, 8),
        (0x32, 0x20),
    ] {
        set(index, value);
    }
    set(11, form);
}

/// Registers and setup memory, with time.
pub(super) fn rtc(random: &mut Random, script: &mut Vec<Op>) {
    let form = match script[1] {
        Op::Out(_, _, value) => value & 6,
        _ => 0,
    };
    let index = match random.below(10) {
        0..6 => random.below(14) as u32,
        6 => 0x32,
        _ => random.below(128) as u32,
    };
    if index == 11 {
        // No flag is pending when its interrupt is enabled.
        script.push(Op::Out(0x70, 1, 12));
        script.push(Op::In(0x71, 1));
    }
    script.push(Op::Out(0x70, 1, index));
    // The same in every form.
    let small = 1 + random.below(9) as u32;
    match (random.below(100), index) {
        (0..20, 10) => script.push(Op::Out(0x71, 1, 0x20 | random.below(16) as u32)),
        (0..20, 11) => script.push(Op::Out(0x71, 1, byte(random) & 0x78 | form)),
        (0..20, 1 | 3 | 5) => script.push(Op::Out(0x71, 1, random.pick(&[small, 0xC0 | small]))),
        (0..20, 6) => script.push(Op::Out(0x71, 1, 1 + small % 7)),
        (0..20, 0..10) => script.push(Op::Out(0x71, 1, small)),
        // The century is one that the reference has.
        (0..20, 0x32) => script.push(Op::Out(0x71, 1, 0x20)),
        (0..20, 14..) => script.push(Op::Out(0x71, 1, byte(random))),
        (20..22, _) => script.push(Op::Step(1 << random.below(32))),
        (22..24, _) => script.push(Op::In(0x70, 1)),
        _ => script.push(Op::In(0x71, 1)),
    }
}

/// Its page, with time.
pub(super) fn hpet(random: &mut Random, script: &mut Vec<Op>) {
    const PAGE: u64 = 0xFED0_0000;
    let timer = 0x100 + random.below(3) * 0x20;
    let high = random.below(2) * 4;
    let small = random.draw() >> (32 + random.below(30));
    match random.below(100) {
        0..4 => script.push(Op::Store(PAGE + 0x10, 4, random.below(2))),
        4..10 => script.push(Op::Store(PAGE + 0x20, 4, random.below(8))),
        10..16 => script.push(Op::Store(PAGE + 0xF0 + high, 4, small)),
        16..30 => script.push(Op::Store(PAGE + timer, 4, random.draw() & 0x7F7F)),
        // Not so small that a period is shorter than what handles it.
        30..45 => script.push(Op::Store(PAGE + timer + 8 + high, 4, small | 0x4000)),
        45..48 => script.push(Op::Step(1 << random.below(26))),
        48..55 => script.push(Op::Load(PAGE + 0xF0, random.pick(&[4, 8]))),
        55..60 => script.push(Op::Load(PAGE + random.below(8) * 8, random.pick(&[4, 8]))),
        60..65 => script.push(Op::Load(PAGE + random.below(256) * 4, 4)),
        _ => script.push(Op::Load(PAGE + timer + random.below(6) * 4, 4)),
    }
}
