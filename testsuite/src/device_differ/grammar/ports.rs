//! Serial port, keyboard controller, firmware configuration, video, disks.

use super::{byte, width};
use crate::device_differ::op::Op;
use crate::random::Random;

/// The first serial port, with nobody at the other end.
pub(super) fn uart(random: &mut Random, script: &mut Vec<Op>) {
    const BASE: u16 = 0x3F8;
    match random.below(100) {
        0..8 => script.push(Op::Out(BASE, 1, byte(random))),
        // Without interrupts of the modem inputs, which the reference lacks in loopback.
        8..16 => script.push(Op::Out(BASE + 1, 1, byte(random) & 0xF7)),
        // Its other bits do not count without bit 0.
        16..22 => {
            let value = if random.chance(70) {
                byte(random) | 1
            } else {
                0
            };
            script.push(Op::Out(BASE + 2, 1, value));
        }
        22..28 => script.push(Op::Out(BASE + 3, 1, byte(random))),
        28..36 => script.push(Op::Out(BASE + 4, 1, byte(random))),
        36..38 => script.push(Op::Out(BASE + 7, 1, byte(random))),
        38..40 => script.push(Op::Step(1 << random.below(22))),
        _ => {
            let register = random.below(8) as u16;
            if register == 0 {
                // Whether there is something.
                script.push(Op::In(BASE + 5, 1));
            }
            script.push(Op::In(BASE + register, 1));
        }
    }
}

/// The reference's mouse has not the default resolution before it is told so.
pub(super) fn i8042_begins(_: &mut Random, script: &mut Vec<Op>) {
    script.extend([
        Op::Out(0x64, 1, 0xD4),
        Op::Out(0x60, 1, 0xF6),
        Op::In(0x60, 1),
    ]);
}

/// Controller, keyboard and mouse.
pub(super) fn i8042(random: &mut Random, script: &mut Vec<Op>) {
    const CONTROLLER: &[u32] = &[
        0x20, 0x60, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAD, 0xAE, 0xC0, 0xD0, 0xD1, 0xD2, 0xD3, 0xDD,
        0xDF, 0xFF,
    ];
    // A command with its parameter, if it has one.
    const KEYBOARD: &[(u32, &[u32])] = &[
        (0xED, &[0, 1, 2, 7]),
        (0xEE, &[]),
        (0xF0, &[1, 2, 3]),
        (0xF2, &[]),
        (0xF3, &[0, 0x2B]),
        (0xF4, &[]),
        (0xF5, &[]),
        (0xF6, &[]),
        (0xFF, &[]),
    ];
    const MOUSE: &[(u32, &[u32])] = &[
        (0xE6, &[]),
        (0xE7, &[]),
        (0xE8, &[0, 1, 2, 3]),
        (0xE9, &[]),
        (0xEA, &[]),
        (0xEB, &[]),
        (0xF0, &[]),
        (0xF2, &[]),
        (0xF3, &[10, 80, 100, 200]),
        (0xF4, &[]),
        (0xF5, &[]),
        (0xF6, &[]),
        (0xFF, &[]),
    ];
    // The answers to what was sent before are read first: no document says what becomes of them.
    let keyboard = |script: &mut Vec<Op>, byte| {
        script.extend([const { Op::In(0x60, 1) }; 4]);
        script.push(Op::Out(0x60, 1, byte));
    };
    let mouse = |script: &mut Vec<Op>, byte| {
        script.extend([const { Op::In(0x60, 1) }; 4]);
        script.push(Op::Out(0x64, 1, 0xD4));
        script.push(Op::Out(0x60, 1, byte));
    };
    match random.below(100) {
        0..10 => {
            let command = random.pick(CONTROLLER);
            script.extend([const { Op::In(0x60, 1) }; 4]);
            script.push(Op::Out(0x64, 1, command));
            let data = match command {
                // Bit 0 is the reset; bits 4 and 5 follow the output buffer.
                0xD1 => byte(random) & 0xCF | 1,
                0x60 | 0xD2 | 0xD3 => byte(random),
                _ => return,
            };
            script.push(Op::Out(0x60, 1, data));
        }
        10..22 => {
            let (command, parameters) = random.pick(KEYBOARD);
            keyboard(script, command);
            if !parameters.is_empty() {
                keyboard(script, random.pick(parameters));
            }
        }
        22..32 => {
            let (command, parameters) = random.pick(MOUSE);
            mouse(script, command);
            if !parameters.is_empty() {
                mouse(script, random.pick(parameters));
            }
        }
        32..36 => script.push(Op::Step(1 << random.below(22))),
        36..65 => script.push(Op::In(0x64, 1)),
        _ => script.push(Op::In(0x60, 1)),
    }
}

/// Selector, data, and commands by DMA.
pub(super) fn fw_cfg(random: &mut Random, script: &mut Vec<Op>) {
    // What the machine is called and its tables are its own: ours need not be as long.
    const KEYS: &[u32] = &[
        0, 1, 2, 3, 4, 5, 6, 0xD, 0xE, 0xF, 0x10, 0x8002, 0x8003, 0x8004, 0xFFFF,
    ];
    match random.below(100) {
        0..20 => script.push(Op::Out(0x510, 2, random.pick(KEYS))),
        20..22 => script.push(Op::Out(0x511, 1, byte(random))),
        22..30 => script.push(Op::In(0x510, random.pick(&[1, 2]))),
        30..36 => script.push(Op::In(0x514 + random.below(2) as u16 * 4, 4)),
        36..50 => {
            let control = random.pick(KEYS) << 16 | random.pick(&[2, 8, 4, 10, 12, 0x10, 6, 0]);
            let length = random.below(40) as u32;
            let mut command = control.to_be_bytes().to_vec();
            command.extend(length.to_be_bytes());
            command.extend(0x2_0000_u64.to_be_bytes());
            script.push(Op::Write(0x1_0000, command));
            script.push(Op::Out(0x514, 4, 0));
            script.push(Op::Out(0x518, 4, 0x1_0000_u32.swap_bytes()));
            script.push(Op::Read(0x1_0000, 16));
            script.push(Op::Read(0x2_0000, 48));
        }
        _ => script.push(Op::In(0x511, 1)),
    }
}

/// Ports, DISPI, and the window at A0000h.
pub(super) fn vga(random: &mut Random, script: &mut Vec<Op>) {
    let pair = random.pick(&[(0x3C4, 5), (0x3CE, 9), (0x3D4, 0x19), (0x3B4, 0x19)]);
    let index = match random.chance(90) {
        true => random.below(pair.1),
        false => random.below(256),
    };
    match random.below(100) {
        0..25 => {
            script.push(Op::Out(pair.0, 1, index as u32));
            if random.chance(60) {
                script.push(Op::Out(pair.0 + 1, 1, byte(random)));
            }
            script.push(Op::In(pair.0 + 1, 1));
        }
        25..35 => {
            script.push(Op::In(random.pick(&[0x3DA, 0x3BA]), 1));
            script.push(Op::Out(0x3C0, 1, random.below(0x40) as u32));
            script.push(Op::Out(0x3C0, 1, byte(random)));
        }
        35..38 => script.push(Op::Out(
            random.pick(&[0x3C2, 0x3DA, 0x3BA]),
            1,
            byte(random),
        )),
        38..45 => script.push(Op::Out(0x3C6 + random.below(4) as u16, 1, byte(random))),
        45..65 => script.push(Op::In(0x3B0 + random.below(0x30) as u16, 1)),
        65..75 => {
            // Not the one that enables it: the reference changes registers of the VGA then.
            let index = random.pick(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
            script.push(Op::Out(0x1CE, 2, index));
            if random.chance(30) {
                script.push(Op::Out(
                    0x1CF,
                    2,
                    random.pick(&[0, 1, 8, 16, 24, 32, 640, 480, 0x41, 0xB0C5]),
                ));
            }
            script.push(Op::In(0x1CF, 2));
        }
        75..88 => {
            let at = 0xA_0000 + random.below(0x2_0000);
            script.push(Op::Store(at, width(random), random.draw() & 0xFFFF_FFFF));
        }
        _ => script.push(Op::Load(0xA_0000 + random.below(0x2_0000), 1)),
    }
}

/// Registers and PIO commands of a disk.
pub(super) fn ide(random: &mut Random, script: &mut Vec<Op>) {
    const COMMANDS: &[u32] = &[
        0x08, 0x10, 0x40, 0x70, 0x90, 0x91, 0xC6, 0xE0, 0xE1, 0xE3, 0xE5, 0xEC, 0xEF, 0xA1, 0xF8,
        0x00, 0xFF,
    ];
    match random.below(100) {
        0..20 => script.push(Op::Out(0x1F1 + random.below(5) as u16, 1, byte(random))),
        20..26 => script.push(Op::Out(0x1F6, 1, 0xA0 | byte(random))),
        // Ours take a moment.
        26..36 => {
            script.push(Op::Out(0x1F7, 1, random.pick(COMMANDS)));
            script.push(Op::Step(50_000));
        }
        36..38 => script.push(Op::Out(0x3F6, 1, random.pick(&[0, 2, 0x80, 8]))),
        // What registers hold during a reset nobody says.
        38..39 => script.extend([Op::Out(0x3F6, 1, 4), Op::Out(0x3F6, 1, 0), Op::Step(50_000)]),
        39..50 => script.push(Op::In(0x1F0, random.pick(&[2, 4]))),
        50..55 => script.push(Op::Out(0x1F0, 2, random.draw() as u32 & 0xFFFF)),
        55..60 => script.push(Op::In(0x3F6, 1)),
        _ => script.push(Op::In(0x1F1 + random.below(7) as u16, 1)),
    }
}
