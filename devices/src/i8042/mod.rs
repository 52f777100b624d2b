//! Intel 8042 keyboard controller, with a PS/2 keyboard and a PS/2 mouse.
//!
//! IBM AT Technical Reference, "Keyboard Controller"; IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device
//! Controller". Region 0: port 60h, data. Region 1: port 64h, status when read, commands when written. One byte
//! wide. IRQ 1 is the level of "output buffer full" from the keyboard, IRQ 12 from the mouse.
//!
//! Keyboard and mouse take turns where both have something to send; the controller's own answers go first.
//! Translation (set 2 to set 1) is the controller's, byte by byte. A byte for a device whose interface is
//! disabled enables it. As on the stock machine the controller acts at once (the input buffer is never
//! full), the next byte is there as soon as one is read, status bit 3 always reads as "command", the self-test
//! sets the system flag, which the command byte does not, and the commands' A20 bit is the gate's
//! last word ([`Request::A20`]). Reset leaves interrupts on and translation off, as there.
//!
//! Not modelled: time on the wire, its errors (parity and time-out never show), a keylock, the test inputs but as
//! answers (E0h reads 0), commands' diagnostic dump (ACh answers nothing), polling of the input port (C1h, C2h),
//! pulses of other lines than reset (F0h-FFh).

mod keyboard;
mod mouse;
mod translate;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::input::Input;
use crate::board::Wiring;
use crate::request::A20Source;
use crate::{At, Device, IrqLine, Request, Requests, RestoreError, State};
use keyboard::Keyboard;
use mouse::Mouse;

const VERSION: u32 = 1;

const DATA: u8 = 0;
/// The controller's RAM; its first byte is the command byte.
const RAM: usize = 32;

bitflags::bitflags! {
    /// Port 64h.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Status: u8 {
        const OUTPUT_FULL = 1 << 0;
        const SYSTEM = 1 << 2;
        const COMMAND = 1 << 3;
        const NOT_LOCKED = 1 << 4;
        const FROM_MOUSE = 1 << 5;
    }

    /// The command byte.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Mode: u8 {
        const KEYBOARD_IRQ = 1 << 0;
        const MOUSE_IRQ = 1 << 1;
        const KEYBOARD_OFF = 1 << 4;
        const MOUSE_OFF = 1 << 5;
        const TRANSLATE = 1 << 6;
    }

    /// The output port.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pins: u8 {
        /// Low resets.
        const RUN = 1 << 0;
        const A20 = 1 << 1;
        const KEYBOARD_FULL = 1 << 4;
        const MOUSE_FULL = 1 << 5;
    }
}

/// Without function, high: pins 2, 3, 6 and 7.
const OTHER_PINS: u8 = 0xCC;

mod command {
    pub const READ_RAM: u8 = 0x20;
    pub const READ_RAM_LAST: u8 = 0x3F;
    pub const WRITE_RAM: u8 = 0x60;
    pub const WRITE_RAM_LAST: u8 = 0x7F;
    pub const MOUSE_OFF: u8 = 0xA7;
    pub const MOUSE_ON: u8 = 0xA8;
    pub const TEST_MOUSE: u8 = 0xA9;
    pub const SELF_TEST: u8 = 0xAA;
    pub const TEST_KEYBOARD: u8 = 0xAB;
    pub const KEYBOARD_OFF: u8 = 0xAD;
    pub const KEYBOARD_ON: u8 = 0xAE;
    pub const READ_INPUTS: u8 = 0xC0;
    pub const READ_OUTPUTS: u8 = 0xD0;
    pub const WRITE_OUTPUTS: u8 = 0xD1;
    pub const AS_KEYBOARD: u8 = 0xD2;
    pub const AS_MOUSE: u8 = 0xD3;
    pub const TO_MOUSE: u8 = 0xD4;
    pub const A20_OFF: u8 = 0xDD;
    pub const A20_ON: u8 = 0xDF;
    pub const READ_TESTS: u8 = 0xE0;
    pub const PULSE: u8 = 0xF0;
}

const SELF_TEST_PASSED: u8 = 0x55;
/// Of a test of an interface.
const NO_ERROR: u8 = 0x00;
/// The input port: the keyboard is not locked.
const INPUTS: u8 = 0x80;

/// Builds the controller; `wiring.irq(0)` is IRQ 1, `wiring.irq(1)` IRQ 12.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(I8042 {
        keyboard_irq: wiring.irq(0),
        mouse_irq: wiring.irq(1),
        requests: wiring.requests.clone(),
        input: wiring.parts.input.clone(),
        chip: Chip::new(),
    })
}

struct I8042 {
    keyboard_irq: IrqLine,
    mouse_irq: IrqLine,
    requests: Requests,
    input: Input,
    chip: Chip,
}

/// Where a byte in the output buffer comes from, as far as the guest can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    Keyboard,
    Mouse,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    ram: [u8; RAM],
    /// Whether the self-test has passed.
    system: bool,
    outputs: u8,
    /// A command whose parameter comes next on the data port.
    pending: Option<u8>,
    /// The output buffer's byte; it stays readable after [`Chip::full`] is over.
    data: u8,
    /// Whose byte fills the output buffer.
    full: Option<Source>,
    /// The controller's answer that goes there next.
    answer: Option<(u8, Source)>,
    /// Whose turn it is.
    next: Source,
    /// The keyboard sent the prefix of a release, in translation.
    released: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}

impl Chip {
    fn new() -> Self {
        let mut ram = [0; RAM];
        ram[0] = (Mode::KEYBOARD_IRQ | Mode::MOUSE_IRQ).bits();
        Self {
            ram,
            system: false,
            outputs: OTHER_PINS | (Pins::RUN | Pins::A20).bits(),
            pending: None,
            data: 0,
            full: None,
            answer: None,
            next: Source::Keyboard,
            released: false,
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
        }
    }

    fn mode(&self) -> Mode {
        Mode::from_bits_retain(self.ram[0])
    }

    fn set_mode(&mut self, bit: Mode, on: bool) {
        let mut mode = self.mode();
        mode.set(bit, on);
        self.ram[0] = mode.bits();
    }

    fn status(&self) -> Status {
        let mut status = Status::COMMAND | Status::NOT_LOCKED;
        status.set(Status::SYSTEM, self.system);
        status.set(Status::OUTPUT_FULL, self.full.is_some());
        status.set(Status::FROM_MOUSE, self.full == Some(Source::Mouse));
        status
    }

    /// The output port as it reads: two of its pins are the interrupts.
    fn outputs(&self) -> u8 {
        let mut pins = Pins::from_bits_retain(self.outputs);
        pins.set(Pins::KEYBOARD_FULL, self.full == Some(Source::Keyboard));
        pins.set(Pins::MOUSE_FULL, self.full == Some(Source::Mouse));
        pins.bits()
    }

    fn answer(&mut self, byte: u8) {
        self.answer = Some((byte, Source::Keyboard));
    }

    /// Fills the output buffer if it is empty and there is something for it.
    fn settle(&mut self) {
        while self.full.is_none() {
            if let Some((byte, source)) = self.answer.take() {
                self.put(byte, source);
            } else if self.is_turn(Source::Keyboard) {
                self.next = Source::Mouse;
                self.take_keyboard();
            } else if self.is_turn(Source::Mouse) {
                self.next = Source::Keyboard;
                if let Some(byte) = self.mouse.send() {
                    self.put(byte, Source::Mouse);
                }
            } else {
                return;
            }
        }
    }

    /// Whether it is a device's turn: it wants to send, and the other does not or has just sent.
    fn is_turn(&self, of: Source) -> bool {
        let wants = |device: Source| match device {
            Source::Keyboard => {
                !self.mode().contains(Mode::KEYBOARD_OFF) && self.keyboard.wants_to_send()
            }
            Source::Mouse => !self.mode().contains(Mode::MOUSE_OFF) && self.mouse.wants_to_send(),
        };
        wants(of) && (self.next == of || !wants(self.next))
    }

    fn take_keyboard(&mut self) {
        let Some(byte) = self.keyboard.send() else {
            return;
        };
        if !self.mode().contains(Mode::TRANSLATE) {
            self.put(byte, Source::Keyboard);
        } else if byte == translate::RELEASED {
            self.released = true;
        } else {
            let released = std::mem::take(&mut self.released);
            self.put(translate::set1(byte, released), Source::Keyboard);
        }
    }

    fn put(&mut self, byte: u8, source: Source) {
        self.data = byte;
        self.full = Some(source);
    }

    /// The levels of IRQ 1 and IRQ 12.
    fn levels(&self) -> (bool, bool) {
        let mode = self.mode();
        let keyboard = self.full == Some(Source::Keyboard)
            && mode.contains(Mode::KEYBOARD_IRQ)
            && !mode.contains(Mode::KEYBOARD_OFF);
        let mouse = self.full == Some(Source::Mouse) && mode.contains(Mode::MOUSE_IRQ);
        (keyboard, mouse)
    }

    fn is_possible(&self) -> bool {
        self.keyboard.is_possible() && self.mouse.is_possible()
    }
}

impl I8042 {
    fn drive(&self) {
        let (keyboard, mouse) = self.chip.levels();
        self.keyboard_irq.set_level(keyboard);
        self.mouse_irq.set_level(mouse);
    }

    /// Takes what the user did, passes on what there is room for, and shows it.
    fn settle(&mut self) {
        while self.chip.keyboard.has_room() {
            let Some(event) = self.input.next_key() else {
                break;
            };
            self.chip.keyboard.event(event);
        }
        while self.chip.mouse.has_room() {
            let Some(motion) = self.input.next_motion() else {
                break;
            };
            self.chip.mouse.event(motion);
        }
        self.chip.mouse.stream();
        self.chip.settle();
        self.drive();
    }

    /// The guest takes the byte: the interrupt falls before the next byte raises it again.
    fn read_data(&mut self) -> u8 {
        let byte = self.chip.data;
        self.chip.full = None;
        self.drive();
        byte
    }

    fn command(&mut self, byte: u8) {
        let chip = &mut self.chip;
        chip.pending = None;
        match byte {
            command::READ_RAM..=command::READ_RAM_LAST => {
                chip.answer(chip.ram[usize::from(byte - command::READ_RAM)]);
            }
            command::WRITE_RAM..=command::WRITE_RAM_LAST
            | command::WRITE_OUTPUTS
            | command::AS_KEYBOARD
            | command::AS_MOUSE
            | command::TO_MOUSE => chip.pending = Some(byte),
            command::MOUSE_OFF | command::MOUSE_ON => {
                chip.set_mode(Mode::MOUSE_OFF, byte == command::MOUSE_OFF);
            }
            command::KEYBOARD_OFF | command::KEYBOARD_ON => {
                chip.set_mode(Mode::KEYBOARD_OFF, byte == command::KEYBOARD_OFF);
            }
            command::TEST_MOUSE | command::TEST_KEYBOARD => chip.answer(NO_ERROR),
            command::SELF_TEST => {
                chip.system = true;
                chip.answer(SELF_TEST_PASSED);
            }
            command::READ_INPUTS => chip.answer(INPUTS),
            command::READ_OUTPUTS => chip.answer(chip.outputs()),
            command::READ_TESTS => chip.answer(0),
            command::A20_OFF => self.set_a20(false),
            command::A20_ON => self.set_a20(true),
            command::PULSE.. if byte & Pins::RUN.bits() == 0 => {
                self.requests.push(Request::Reset);
            }
            _ => tracing::debug!(target: "i8042", "no effect: command {byte:#04x}"),
        }
    }

    /// A byte on the data port: a command's parameter, else for the keyboard.
    fn data(&mut self, byte: u8) {
        let chip = &mut self.chip;
        match chip.pending.take() {
            Some(command::AS_KEYBOARD) => chip.answer(byte),
            Some(command::AS_MOUSE) => chip.answer = Some((byte, Source::Mouse)),
            Some(command::TO_MOUSE) => {
                chip.set_mode(Mode::MOUSE_OFF, false);
                chip.mouse.receive(byte);
            }
            Some(command::WRITE_OUTPUTS) => self.write_outputs(byte),
            Some(at @ command::WRITE_RAM..=command::WRITE_RAM_LAST) => {
                chip.ram[usize::from(at - command::WRITE_RAM)] = byte;
            }
            _ => {
                chip.set_mode(Mode::KEYBOARD_OFF, false);
                chip.keyboard.receive(byte);
            }
        }
    }

    fn set_a20(&mut self, open: bool) {
        let mut pins = Pins::from_bits_retain(self.chip.outputs);
        pins.set(Pins::A20, open);
        self.write_outputs(pins.bits());
    }

    fn write_outputs(&mut self, byte: u8) {
        self.chip.outputs = byte;
        let pins = Pins::from_bits_retain(byte);
        self.requests.push(Request::A20 {
            source: A20Source::Keyboard,
            enabled: pins.contains(Pins::A20),
        });
        if !pins.contains(Pins::RUN) {
            self.requests.push(Request::Reset);
        }
    }
}

impl Device for I8042 {
    fn read(&mut self, at: At, data: &mut [u8]) {
        let value = if at.region == DATA {
            self.read_data()
        } else {
            self.settle();
            self.chip.status().bits()
        };
        if let Some(byte) = data.first_mut() {
            *byte = value;
        }
        self.settle();
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let Some(&byte) = data.first() else { return };
        if at.region == DATA {
            self.data(byte);
        } else {
            self.command(byte);
        }
        self.settle();
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.drive();
    }

    fn poll(&mut self, _now: Duration) -> Option<Duration> {
        self.settle();
        None
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let chip: Chip = from.fields(VERSION)?;
        if !chip.is_possible() {
            return Err(RestoreError::Impossible {
                field: "keyboard or mouse",
            });
        }
        self.chip = chip;
        let (keyboard, mouse) = self.chip.levels();
        self.keyboard_irq.restore_level(keyboard);
        self.mouse_irq.restore_level(mouse);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
