//! The PS/2 mouse, with wheel and five buttons for those who know how to ask.
//!
//! IBM PS/2 Technical Reference, "Mouse": commands, packets, stream, remote and wrap mode. Microsoft IntelliMouse:
//! sample rates 200, 100, 80 in a row make it device 3, whose packets have a fourth byte for the wheel;
//! 200, 200, 80 (IntelliMouse Explorer) device 4, with two more buttons.
//!
//! A command ends the packet being sent. Not modelled: sample rate and resolution as such (they read
//! back; packets come as fast as they are taken, and one count is what the host calls one).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::backend::input::{Buttons, Motion};

const ACK: u8 = 0xFA;
/// To what is no command.
const NAK: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0xAA;

/// What a packet holds of motion along an axis, and of the wheel.
const AXIS: i32 = 255;
const WHEEL: i32 = 7;
/// Counts that wait are kept this close to zero.
const WAITING: i32 = 1 << 20;

mod command {
    pub const SCALING_1_1: u8 = 0xE6;
    pub const SCALING_2_1: u8 = 0xE7;
    pub const RESOLUTION: u8 = 0xE8;
    pub const STATUS: u8 = 0xE9;
    pub const STREAM: u8 = 0xEA;
    pub const READ: u8 = 0xEB;
    pub const END_WRAP: u8 = 0xEC;
    pub const WRAP: u8 = 0xEE;
    pub const REMOTE: u8 = 0xF0;
    pub const IDENTIFY: u8 = 0xF2;
    pub const SAMPLE_RATE: u8 = 0xF3;
    pub const ENABLE: u8 = 0xF4;
    pub const DISABLE: u8 = 0xF5;
    pub const DEFAULTS: u8 = 0xF6;
    pub const RESEND: u8 = 0xFE;
    pub const RESET: u8 = 0xFF;
}

/// What the mouse reports as its device ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Device 0: two axes, three buttons.
    Plain,
    /// Device 3: a wheel.
    Wheel,
    /// Device 4: a wheel and five buttons.
    FiveButtons,
}

impl Kind {
    fn id(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Wheel => 3,
            Self::FiveButtons => 4,
        }
    }
}

/// The mouse; all of it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mouse {
    kind: Kind,
    reporting: bool,
    remote: bool,
    wrap: bool,
    scaling_2_1: bool,
    resolution: u8,
    rate: u8,
    /// The sample rates set last, the latest last.
    rates: [u8; 3],
    /// A command whose parameter comes next.
    pending: Option<u8>,
    dx: i32,
    /// Upwards, as in packets.
    dy: i32,
    /// Towards the user, as in packets.
    dz: i32,
    buttons: Buttons,
    /// Buttons as the last packet told them.
    told: Buttons,
    replies: VecDeque<u8>,
    packet: VecDeque<u8>,
    last: Vec<u8>,
}

impl Mouse {
    /// After power-on.
    pub fn new() -> Self {
        Self {
            kind: Kind::Plain,
            reporting: false,
            remote: false,
            wrap: false,
            scaling_2_1: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            pending: None,
            dx: 0,
            dy: 0,
            dz: 0,
            buttons: Buttons::empty(),
            told: Buttons::empty(),
            replies: VecDeque::new(),
            packet: VecDeque::new(),
            last: Vec::new(),
        }
    }

    /// Whether a saved one can be.
    pub fn is_possible(&self) -> bool {
        let near = |n: i32| (-WAITING..=WAITING).contains(&n);
        near(self.dx)
            && near(self.dy)
            && near(self.dz)
            && [self.replies.len(), self.packet.len(), self.last.len()]
                .iter()
                .all(|len| *len <= 8)
    }

    /// The next byte to the controller.
    pub fn send(&mut self) -> Option<u8> {
        self.replies.pop_front().or_else(|| self.packet.pop_front())
    }

    /// Whether there is a byte to send.
    pub fn wants_to_send(&self) -> bool {
        !self.replies.is_empty() || !self.packet.is_empty()
    }

    /// Whether it takes the next motion from the user: a changed button is told before the next.
    pub fn has_room(&self) -> bool {
        !self.is_streaming() || self.buttons == self.told && self.packet.is_empty()
    }

    /// What the user does. Motion counts while the mouse reports, or is asked (remote mode).
    pub fn event(&mut self, motion: Motion) {
        self.buttons = motion.buttons;
        if self.reporting || self.remote {
            let add = |sum: i32, n: i32| sum.saturating_add(n).clamp(-WAITING, WAITING);
            self.dx = add(self.dx, motion.dx);
            self.dy = add(self.dy, motion.dy.saturating_neg());
            self.dz = add(self.dz, motion.wheel.saturating_neg());
        }
    }

    /// Makes a packet if there is something to tell and the last one is out.
    pub fn stream(&mut self) {
        let news = (self.dx, self.dy, self.told) != (0, 0, self.buttons)
            || self.kind != Kind::Plain && self.dz != 0;
        if self.is_streaming() && news && !self.wants_to_send() {
            self.packet = self.make_packet(self.scaling_2_1).into();
        }
    }

    fn is_streaming(&self) -> bool {
        self.reporting && !self.remote && !self.wrap
    }

    /// A packet of what has come together; the rest of long ways stays for the next.
    fn make_packet(&mut self, scaling: bool) -> Vec<u8> {
        let mut take = |sum: fn(&mut Self) -> &mut i32, most: i32| {
            let sum = sum(self);
            let part = (*sum).clamp(-most, most);
            *sum -= part;
            part
        };
        let ways = [take(|m| &mut m.dx, AXIS), take(|m| &mut m.dy, AXIS)];
        let [dx, dy] = ways.map(|n| if scaling { scaled(n) } else { n });
        let sign = |n: i32, bit: u8| if n < 0 { bit } else { 0 };
        let three = Buttons::LEFT | Buttons::RIGHT | Buttons::MIDDLE;
        let first = (self.buttons & three).bits() | 1 << 3 | sign(dx, 1 << 4) | sign(dy, 1 << 5);
        // The low eight bits; the ninth is the sign in the first byte.
        let mut packet = vec![first, dx as u8, dy as u8];
        let dz = self.dz.clamp(-WHEEL, WHEEL);
        match self.kind {
            Kind::Plain => self.dz = 0,
            Kind::Wheel => packet.push(dz as u8),
            Kind::FiveButtons => {
                let more = (self.buttons & (Buttons::SIDE | Buttons::EXTRA)).bits() << 1;
                packet.push(dz as u8 & 0x0F | more);
            }
        }
        if self.kind != Kind::Plain {
            self.dz -= dz;
        }
        self.told = self.buttons;
        self.last.clone_from(&packet);
        packet
    }

    /// A byte from the controller: a command, or a command's parameter.
    pub fn receive(&mut self, byte: u8) {
        self.replies.clear();
        self.packet.clear();
        if self.wrap && byte != command::END_WRAP && byte != command::RESET {
            return self.reply(&[byte]);
        }
        match self.pending.take() {
            Some(command) => self.parameter(command, byte),
            None => self.command(byte),
        }
    }

    fn command(&mut self, byte: u8) {
        match byte {
            command::SCALING_1_1 | command::SCALING_2_1 => {
                self.scaling_2_1 = byte == command::SCALING_2_1;
            }
            command::RESOLUTION | command::SAMPLE_RATE => self.pending = Some(byte),
            command::STATUS => {
                let status = self.status();
                return self.reply(&[ACK, status, self.resolution, self.rate]);
            }
            command::STREAM => self.set_remote(false),
            command::REMOTE => self.set_remote(true),
            command::READ => {
                let packet = self.make_packet(false);
                self.reply(&[ACK]);
                return self.reply(&packet);
            }
            command::WRAP => self.wrap = true,
            command::END_WRAP => self.wrap = false,
            command::IDENTIFY => return self.reply(&[ACK, self.kind.id()]),
            command::ENABLE | command::DISABLE => {
                self.reporting = byte == command::ENABLE;
                self.forget_motion();
            }
            command::DEFAULTS => self.set_defaults(),
            command::RESEND => {
                let last = self.last.clone();
                return self.reply(&last);
            }
            command::RESET => {
                self.set_defaults();
                self.kind = Kind::Plain;
                return self.reply(&[ACK, SELF_TEST_PASSED, self.kind.id()]);
            }
            _ => return self.reply(&[NAK]),
        }
        self.reply(&[ACK]);
    }

    fn parameter(&mut self, command: u8, byte: u8) {
        if command == command::RESOLUTION {
            self.resolution = byte;
        } else {
            self.rate = byte;
            self.rates = [self.rates[1], self.rates[2], byte];
            match self.rates {
                [200, 100, 80] if self.kind == Kind::Plain => self.kind = Kind::Wheel,
                [200, 200, 80] => self.kind = Kind::FiveButtons,
                _ => {}
            }
        }
        self.reply(&[ACK]);
    }

    fn status(&self) -> u8 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        bit(self.remote, 1 << 6)
            | bit(self.reporting, 1 << 5)
            | bit(self.scaling_2_1, 1 << 4)
            | bit(self.buttons.contains(Buttons::LEFT), 1 << 2)
            | bit(self.buttons.contains(Buttons::MIDDLE), 1 << 1)
            | bit(self.buttons.contains(Buttons::RIGHT), 1 << 0)
    }

    fn set_remote(&mut self, remote: bool) {
        self.remote = remote;
        self.forget_motion();
    }

    /// Rate, resolution, scaling and mode; the kind stays.
    fn set_defaults(&mut self) {
        let (kind, buttons) = (self.kind, self.buttons);
        *self = Self {
            kind,
            buttons,
            told: buttons,
            ..Self::new()
        };
    }

    fn forget_motion(&mut self) {
        (self.dx, self.dy, self.dz) = (0, 0, 0);
        self.told = self.buttons;
    }

    fn reply(&mut self, bytes: &[u8]) {
        self.replies.extend(bytes);
    }
}

/// Scaling 2:1, in stream mode alone.
fn scaled(n: i32) -> i32 {
    let ways = match n.abs() {
        few @ 0..=1 => few,
        2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        many => 2 * many,
    };
    ways.min(AXIS) * n.signum()
}
