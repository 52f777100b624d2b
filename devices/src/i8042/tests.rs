//! The controller, keyboard and mouse through their two ports.

use super::*;
use crate::backend::input::{Buttons, Key};
use crate::testbench::{Bench, inb, outb};

const COMMAND_PORT: u8 = 1;

struct Rig {
    bench: Bench,
    device: Box<dyn Device>,
}

impl Rig {
    fn new() -> Self {
        let bench = Bench::new();
        let device = new(&bench.wiring);
        Self { bench, device }
    }

    /// With the command byte `mode`.
    fn with(mode: u8) -> Self {
        let mut rig = Self::new();
        rig.command(0x60, &[mode]);
        rig
    }

    fn status(&mut self) -> u8 {
        inb(&mut *self.device, COMMAND_PORT, 0)
    }

    /// What a command leaves in the output buffer, until that is empty.
    fn command(&mut self, byte: u8, parameters: &[u8]) -> Vec<u8> {
        outb(&mut *self.device, COMMAND_PORT, 0, byte);
        for &parameter in parameters {
            outb(&mut *self.device, DATA, 0, parameter);
        }
        self.drain()
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.status() & 1 != 0 {
            bytes.push(inb(&mut *self.device, DATA, 0));
        }
        bytes
    }

    /// What the keyboard answers to these bytes, one after the other.
    fn keyboard(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        for &byte in bytes {
            outb(&mut *self.device, DATA, 0, byte);
            assert_eq!(self.status() & 0x20, 0);
            answers.extend(self.drain());
        }
        answers
    }

    fn mouse(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        for &byte in bytes {
            outb(&mut *self.device, COMMAND_PORT, 0, 0xD4);
            outb(&mut *self.device, DATA, 0, byte);
            assert!(matches!(self.status() & 0x21, 0 | 0x21));
            answers.extend(self.drain());
        }
        answers
    }

    fn input(&self) -> &Input {
        &self.bench.wiring.parts.input
    }

    fn press(&mut self, name: &str, down: bool) {
        let key = Key::from_name(name).unwrap();
        self.input().key(key, down);
        self.device.poll(Duration::ZERO);
    }

    /// What a key sends when it is pressed and released.
    fn stroke(&mut self, name: &str) -> (Vec<u8>, Vec<u8>) {
        self.press(name, true);
        let make = self.drain();
        self.press(name, false);
        (make, self.drain())
    }

    fn requests(&self) -> Vec<Request> {
        self.bench.wiring.requests.take()
    }
}

/// As the stock machine answers the same bytes (taken from it by qtest).
#[test]
fn the_controller_answers_as_the_stock_machine() {
    let mut rig = Rig::new();
    assert_eq!(rig.status(), 0x18);
    assert_eq!(rig.command(0x20, &[]), [0x03]);
    assert_eq!(rig.command(0xAA, &[]), [0x55]);
    assert_eq!(rig.status(), 0x1C);
    let rows: [(u8, &[u8]); 20] = [
        (0xAB, &[0]),
        (0xA9, &[0]),
        (0xA7, &[]),
        (0x20, &[0x23]),
        (0xA8, &[]),
        (0x20, &[0x03]),
        (0xAD, &[]),
        (0x20, &[0x13]),
        (0xAE, &[]),
        (0x20, &[0x03]),
        (0xAC, &[]),
        (0xC0, &[0x80]),
        (0xC1, &[]),
        (0xD0, &[0xCF]),
        (0xFF, &[]),
        (0xDD, &[]),
        (0xD0, &[0xCD]),
        (0xDF, &[]),
        (0xD0, &[0xCF]),
        (0xCA, &[]),
    ];
    for (command, answer) in rows {
        assert_eq!(rig.command(command, &[]), answer, "{command:#x}");
    }
    for mode in [0x47, 0xFF, 0x61] {
        assert_eq!(rig.command(0x60, &[mode]), []);
        assert_eq!(rig.command(0x20, &[]), [mode]);
    }
    assert_eq!(rig.command(0x7F, &[0x99]), []);
    assert_eq!(rig.command(0x3F, &[]), [0x99], "RAM");
    assert_eq!(rig.status(), 0x1C);
}

#[test]
fn loops_come_back_with_their_interrupt() {
    let mut rig = Rig::new();
    outb(&mut *rig.device, COMMAND_PORT, 0, 0xD3);
    outb(&mut *rig.device, DATA, 0, 0xA5);
    assert_eq!(rig.status(), 0x39);
    assert!(rig.bench.probe.level(1) && !rig.bench.probe.level(0));
    assert_eq!(rig.drain(), [0xA5]);
    assert!(!rig.bench.probe.level(1));
    outb(&mut *rig.device, COMMAND_PORT, 0, 0xD2);
    outb(&mut *rig.device, DATA, 0, 0x5A);
    assert_eq!(rig.status(), 0x19);
    assert!(rig.bench.probe.level(0) && !rig.bench.probe.level(1));
    assert_eq!(inb(&mut *rig.device, DATA, 0), 0x5A);
    assert_eq!(
        inb(&mut *rig.device, DATA, 0),
        0x5A,
        "the buffer keeps its byte"
    );
}

#[test]
fn a20_and_reset_are_asked_for() {
    let a20 = |enabled| Request::A20 {
        source: A20Source::Keyboard,
        enabled,
    };
    let mut rig = Rig::new();
    rig.command(0xD1, &[0xDD]);
    assert_eq!(rig.requests(), [a20(false)]);
    assert_eq!(rig.command(0xD0, &[]), [0xCD]);
    rig.command(0xDF, &[]);
    assert_eq!(rig.requests(), [a20(true)]);
    rig.command(0xDD, &[]);
    assert_eq!(rig.requests(), [a20(false)]);
    rig.command(0xFE, &[]);
    assert_eq!(rig.requests(), [Request::Reset]);
    rig.command(0xF1, &[]);
    assert_eq!(rig.requests(), []);
    rig.command(0xD1, &[0xDE]);
    assert_eq!(rig.requests(), [a20(true), Request::Reset]);
}

#[test]
fn the_keyboard_answers_as_the_stock_machine() {
    let mut rig = Rig::with(0x61);
    let rows: [(&[u8], &[u8]); 22] = [
        (&[0xFF], &[0xFA, 0xAA]),
        (&[0xF2], &[0xFA, 0xAB, 0x41]),
        (&[0xEE], &[0xEE]),
        (&[0xED, 7], &[0xFA, 0xFA]),
        (&[0xF0, 0], &[0xFA, 0xFA, 0x41]),
        (&[0xF0, 1], &[0xFA, 0xFA]),
        (&[0xF0, 0], &[0xFA, 0xFA, 0x43]),
        (&[0xF0, 3], &[0xFA, 0xFA]),
        (&[0xF0, 0], &[0xFA, 0xFA, 0x3F]),
        (&[0xF0, 4], &[0xFA, 0xFE]),
        (&[0xF0, 2], &[0xFA, 0xFA]),
        (&[0xF3, 0x20], &[0xFA, 0xFA]),
        (&[0xF5], &[0xFA]),
        (&[0xF6], &[0xFA]),
        (&[0xF4], &[0xFA]),
        (&[0xFA], &[0xFA]),
        (&[0x00], &[0xFA]),
        (&[0x80], &[0xFE]),
        (&[0xEF], &[0xFE]),
        (&[0xF1], &[0xFE]),
        (&[0xED, 0xF4], &[0xFA, 0xFA]),
        // Unlike there, a keyboard says again what it said last.
        (&[0xF2, 0xFE], &[0xFA, 0xAB, 0x41, 0x41]),
    ];
    for (bytes, answer) in rows {
        assert_eq!(rig.keyboard(bytes), answer, "{bytes:x?}");
    }
    rig.command(0x60, &[0x21]);
    assert_eq!(rig.keyboard(&[0xF2]), [0xFA, 0xAB, 0x83]);
    // Keys of set 3 go on until a command.
    assert_eq!(rig.keyboard(&[0xFC, 0x1C, 0x32, 0xF4]), [0xFA; 4]);
    // The line was pulled low; a command to the keyboard lets it go.
    rig.command(0xAD, &[]);
    assert_eq!(rig.keyboard(&[0xF2]), [0xFA, 0xAB, 0x83]);
    assert_eq!(rig.command(0x20, &[]), [0x21]);
}

#[test]
fn keys_in_every_set() {
    type Row = (
        &'static str,
        &'static [u8],
        &'static [u8],
        &'static [u8],
        &'static [u8],
    );
    // The key; its make and break in set 2; the same in set 1.
    let rows: [Row; 6] = [
        ("a", &[0x1C], &[0xF0, 0x1C], &[0x1E], &[0x9E]),
        ("f7", &[0x83], &[0xF0, 0x83], &[0x41], &[0xC1]),
        (
            "delete",
            &[0xE0, 0x71],
            &[0xE0, 0xF0, 0x71],
            &[0xE0, 0x53],
            &[0xE0, 0xD3],
        ),
        ("ret", &[0x5A], &[0xF0, 0x5A], &[0x1C], &[0x9C]),
        (
            "print",
            &[0xE0, 0x12, 0xE0, 0x7C],
            &[0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12],
            &[0xE0, 0x2A, 0xE0, 0x37],
            &[0xE0, 0xB7, 0xE0, 0xAA],
        ),
        (
            "pause",
            &[0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77],
            &[],
            &[0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5],
            &[],
        ),
    ];
    let mut rig = Rig::with(0x01);
    for (name, make, release, _, _) in rows {
        assert_eq!(
            rig.stroke(name),
            (make.to_vec(), release.to_vec()),
            "{name}"
        );
    }
    rig.command(0x60, &[0x41]);
    for (name, _, _, make, release) in rows {
        assert_eq!(
            rig.stroke(name),
            (make.to_vec(), release.to_vec()),
            "{name}"
        );
    }
    rig.command(0x60, &[0x01]);
    rig.keyboard(&[0xF0, 1]);
    for (name, _, _, make, release) in rows {
        assert_eq!(
            rig.stroke(name),
            (make.to_vec(), release.to_vec()),
            "{name}"
        );
    }
    rig.keyboard(&[0xF0, 3]);
    assert_eq!(rig.stroke("delete"), (vec![0x64], vec![0xF0, 0x64]));
    assert_eq!(rig.stroke("pause"), (vec![0x62], vec![0xF0, 0x62]));
}

#[test]
fn modifiers_change_print_and_pause() {
    let mut rig = Rig::with(0x01);
    rig.press("alt_r", true);
    rig.drain();
    assert_eq!(rig.stroke("print"), (vec![0x84], vec![0xF0, 0x84]));
    rig.press("alt_r", false);
    rig.press("ctrl", true);
    rig.drain();
    assert_eq!(rig.stroke("print").0, [0xE0, 0x7C]);
    assert_eq!(rig.stroke("pause").0, [0xE0, 0x7E, 0xE0, 0xF0, 0x7E]);
}

#[test]
fn keys_wait_for_room_and_are_lost_only_with_a_word() {
    let mut rig = Rig::with(0x01);
    for _ in 0..40 {
        rig.press("b", true);
    }
    assert_eq!(rig.drain(), [0x32; 40]);
    for _ in 0..2000 {
        rig.press("b", true);
    }
    let bytes = rig.drain();
    assert_eq!(bytes.last(), Some(&0x00), "overrun");
    assert!(bytes.len() > 1000);
    rig.keyboard(&[0xF5]);
    rig.press("b", true);
    assert_eq!(rig.drain(), [], "disabled");
    rig.keyboard(&[0xF4]);
    assert_eq!(rig.stroke("b").0, [0x32]);
}

#[test]
fn every_byte_is_an_edge() {
    let mut rig = Rig::with(0x01);
    let before = rig.bench.probe.edges(0);
    rig.press("delete", true);
    rig.press("a", true);
    assert_eq!(rig.drain().len(), 3);
    assert_eq!(rig.bench.probe.edges(0) - before, 3);
    rig.command(0x60, &[0x00]);
    rig.press("a", false);
    assert!(!rig.bench.probe.level(0), "masked");
    rig.drain();
    // The clock line is low: the key waits.
    rig.command(0x60, &[0x11]);
    rig.press("a", true);
    assert_eq!(rig.status() & 1, 0);
    outb(&mut *rig.device, COMMAND_PORT, 0, 0xAE);
    assert!(rig.bench.probe.level(0));
}

#[test]
fn the_mouse_answers_as_the_stock_machine() {
    let mut rig = Rig::new();
    let rows: [(&[u8], &[u8]); 20] = [
        (&[0xFF], &[0xFA, 0xAA, 0x00]),
        (&[0xF2], &[0xFA, 0x00]),
        (&[0xE9], &[0xFA, 0x00, 0x02, 0x64]),
        (&[0xE8, 3], &[0xFA, 0xFA]),
        (&[0xE7], &[0xFA]),
        (&[0xE9], &[0xFA, 0x10, 0x03, 0x64]),
        (&[0xE6], &[0xFA]),
        (&[0xF4], &[0xFA]),
        (&[0xF3, 80], &[0xFA, 0xFA]),
        (&[0xE9], &[0xFA, 0x20, 0x03, 0x50]),
        (&[0xEB], &[0xFA, 0x08, 0x00, 0x00]),
        (&[0xEE, 0x55, 0xEE, 0xEC], &[0xFA, 0x55, 0xEE, 0xFA]),
        (&[0xEA], &[0xFA]),
        (&[0xF0], &[0xFA]),
        (&[0xE9], &[0xFA, 0x60, 0x03, 0x50]),
        (&[0xF6], &[0xFA]),
        (&[0xE9], &[0xFA, 0x00, 0x02, 0x64]),
        (&[0xEE, 0xFF, 0xF2], &[0xFA, 0xFA, 0xAA, 0x00, 0xFA, 0x00]),
        // There no answer comes; a mouse refuses.
        (&[0xE1], &[0xFE]),
        (&[0xF7], &[0xFE]),
    ];
    for (bytes, answer) in rows {
        assert_eq!(rig.mouse(bytes), answer, "{bytes:x?}");
    }
}

#[test]
fn packets_carry_ways_buttons_and_wheel() {
    let mut rig = Rig::new();
    let poll = |rig: &mut Rig| {
        rig.device.poll(Duration::ZERO);
        rig.drain()
    };
    rig.input().move_mouse(5, 5, 0);
    assert_eq!(poll(&mut rig), [], "not before it is enabled");
    rig.mouse(&[0xF4]);
    rig.input().move_mouse(5, 3, 0);
    assert_eq!(poll(&mut rig), [0x28, 5, 0xFD]);
    rig.input().move_mouse(-300, 0, 2);
    assert_eq!(poll(&mut rig), [0x18, 0x01, 0, 0x18, (-45i8) as u8, 0]);
    rig.input().mouse_button(Buttons::LEFT, true);
    rig.input().mouse_button(Buttons::LEFT, false);
    assert_eq!(
        poll(&mut rig),
        [0x09, 0, 0, 0x08, 0, 0],
        "a click is no nothing"
    );

    rig.mouse(&[0xF3, 200, 0xF3, 100, 0xF3, 80]);
    assert_eq!(rig.mouse(&[0xF2]), [0xFA, 3]);
    rig.input().move_mouse(0, 0, 1);
    assert_eq!(poll(&mut rig), [0x08, 0, 0, 0xFF]);
    rig.mouse(&[0xF3, 200, 0xF3, 200, 0xF3, 80]);
    assert_eq!(rig.mouse(&[0xF2]), [0xFA, 4]);
    rig.input().mouse_button(Buttons::SIDE, true);
    rig.input().move_mouse(0, 0, -9);
    assert_eq!(poll(&mut rig), [0x08, 0, 0, 0x17, 0x08, 0, 0, 0x12]);
    assert!(!rig.bench.probe.level(1));

    rig.mouse(&[0xF0]);
    rig.input().move_mouse(1, -1, 0);
    assert_eq!(poll(&mut rig), [], "remote mode");
    assert_eq!(rig.mouse(&[0xEB]), [0xFA, 0x08, 1, 1, 0x10]);
    assert_eq!(rig.mouse(&[0xFE]), [0x08, 1, 1, 0x10], "again");
}

#[test]
fn keyboard_and_mouse_take_turns() {
    let mut rig = Rig::with(0x03);
    rig.mouse(&[0xF4]);
    let key = Key::from_name("a").unwrap();
    for _ in 0..3 {
        rig.input().key(key, true);
    }
    rig.input().move_mouse(1, 0, 0);
    rig.device.poll(Duration::ZERO);
    let mut order = String::new();
    while rig.status() & 1 != 0 {
        order.push(if rig.status() & 0x20 == 0 { 'k' } else { 'm' });
        inb(&mut *rig.device, DATA, 0);
    }
    assert!(order == "kmkmkm" || order == "mkmkmk", "{order}");
}
