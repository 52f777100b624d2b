//! The PS/2 keyboard.
//!
//! IBM PS/2 Technical Reference, "Keyboard (101- and 102-key)": commands, the 16-byte buffer, scan code sets 1
//! to 3. A command stops what the keyboard was answering before. A key is taken from the host once there is room
//! for all it sends, so that none is lost; what the host itself had to drop shows as the overrun code.
//!
//! Not modelled: typematic repeat (the host repeats, its events come as further makes; the rate is accepted),
//! lights (kept), set 3's choice of keys without repeat or release (accepted: every key sends its release),
//! the shifts that surround the cursor keys while Num Lock is on. A parameter is taken whatever it is, as in
//! QEMU.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::translate::{self, RELEASED};
use crate::backend::input::{Key, KeyEvent};
use crate::backend::keys::Set2;

/// Bytes of keys that wait for the controller.
pub const BUFFER: usize = 16;
/// The longest a key sends: Pause.
const LONGEST: usize = 8;

const DEFAULT_SET: u8 = 2;
/// 500 ms, then 10.9 a second.
const DEFAULT_TYPEMATIC: u8 = 0x2B;

const ACK: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0xAA;
const ECHO: u8 = 0xEE;
const ID: [u8; 2] = [0xAB, 0x83];
/// Sent in the place of lost keys: sets 2 and 3, set 1.
const OVERRUN: u8 = 0x00;
const OVERRUN_SET1: u8 = 0xFF;

const EXTENDED: u8 = 0xE0;
/// Set 2: left Shift, as PrtSc sends it before itself; PrtSc, SysRq and Break.
const SHIFT: u8 = 0x12;
const PRINT: u8 = 0x7C;
const SYSRQ: u8 = 0x84;
const BREAK: u8 = 0x7E;
/// Set 2: Pause.
const PAUSE: [u8; 8] = [0xE1, 0x14, 0x77, 0xE1, RELEASED, 0x14, RELEASED, 0x77];

mod command {
    pub const LIGHTS: u8 = 0xED;
    pub const ECHO: u8 = 0xEE;
    pub const SCAN_CODE_SET: u8 = 0xF0;
    pub const IDENTIFY: u8 = 0xF2;
    pub const TYPEMATIC: u8 = 0xF3;
    pub const ENABLE: u8 = 0xF4;
    pub const DISABLE: u8 = 0xF5;
    pub const DEFAULTS: u8 = 0xF6;
    pub const ALL_TYPEMATIC: u8 = 0xF7;
    pub const ALL_BOTH: u8 = 0xFA;
    pub const KEY_TYPEMATIC: u8 = 0xFB;
    pub const KEY_MAKE: u8 = 0xFD;
    pub const RESEND: u8 = 0xFE;
    pub const RESET: u8 = 0xFF;
}

bitflags::bitflags! {
    /// Modifiers held down.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Held: u8 {
        const SHIFT = 1 << 0;
        const SHIFT_R = 1 << 1;
        const CTRL = 1 << 2;
        const CTRL_R = 1 << 3;
        const ALT = 1 << 4;
        const ALT_R = 1 << 5;
    }
}

impl Held {
    fn of(key: Key) -> Self {
        Self::from_name(&key.name().to_uppercase()).unwrap_or(Self::empty())
    }

    fn ctrl(self) -> bool {
        self.intersects(Self::CTRL | Self::CTRL_R)
    }

    fn alt(self) -> bool {
        self.intersects(Self::ALT | Self::ALT_R)
    }

    fn shift(self) -> bool {
        self.intersects(Self::SHIFT | Self::SHIFT_R)
    }
}

/// The keyboard; all of it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyboard {
    /// Scan code set, 1 to 3.
    set: u8,
    scanning: bool,
    lights: u8,
    typematic: u8,
    held: Held,
    /// A command whose parameter comes next.
    pending: Option<u8>,
    last: u8,
    replies: VecDeque<u8>,
    buffer: VecDeque<u8>,
}

impl Keyboard {
    /// After power-on.
    pub fn new() -> Self {
        Self {
            set: DEFAULT_SET,
            scanning: true,
            lights: 0,
            typematic: DEFAULT_TYPEMATIC,
            held: Held::empty(),
            pending: None,
            last: SELF_TEST_PASSED,
            replies: VecDeque::new(),
            buffer: VecDeque::new(),
        }
    }

    /// Whether a saved one can be.
    pub fn is_possible(&self) -> bool {
        (1..=3).contains(&self.set) && self.buffer.len() <= BUFFER && self.replies.len() <= BUFFER
    }

    /// The next byte to the controller.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.replies.pop_front().or(self.buffer.pop_front())?;
        self.last = byte;
        Some(byte)
    }

    /// Whether there is a byte to send.
    pub fn wants_to_send(&self) -> bool {
        !self.replies.is_empty() || !self.buffer.is_empty()
    }

    /// Whether it takes the next key from the user.
    pub fn has_room(&self) -> bool {
        self.buffer.len() + LONGEST <= BUFFER
    }

    /// What the user does; without effect while scanning is disabled.
    pub fn event(&mut self, event: KeyEvent) {
        let bytes = match event {
            KeyEvent::Key { key, down } => {
                self.held.set(Held::of(key), down);
                self.codes(key, down)
            }
            KeyEvent::Lost if self.set == 1 => vec![OVERRUN_SET1],
            KeyEvent::Lost => vec![OVERRUN],
        };
        if self.scanning && self.buffer.len() + bytes.len() <= BUFFER {
            self.buffer.extend(bytes);
        }
    }

    /// What a key sends, in the present set.
    fn codes(&self, key: Key, down: bool) -> Vec<u8> {
        match self.set {
            3 => match key.set3() {
                Some(code) if down => vec![code],
                Some(code) => vec![RELEASED, code],
                None => Vec::new(),
            },
            2 => self.set2(key, down),
            _ => translate::sequence(&self.set2(key, down)),
        }
    }

    fn set2(&self, key: Key, down: bool) -> Vec<u8> {
        match key.set2() {
            Set2::Plain(code) if down => vec![code],
            Set2::Plain(code) => vec![RELEASED, code],
            Set2::Extended(code) => extended(code, down),
            Set2::Print if self.held.alt() && down => vec![SYSRQ],
            Set2::Print if self.held.alt() => vec![RELEASED, SYSRQ],
            Set2::Print if self.held.ctrl() || self.held.shift() => extended(PRINT, down),
            Set2::Print if down => [extended(SHIFT, true), extended(PRINT, true)].concat(),
            Set2::Print => [extended(PRINT, false), extended(SHIFT, false)].concat(),
            Set2::Pause if !down => Vec::new(),
            Set2::Pause if self.held.ctrl() => {
                [extended(BREAK, true), extended(BREAK, false)].concat()
            }
            Set2::Pause => PAUSE.to_vec(),
        }
    }

    /// A byte from the controller: a command, or a command's parameter.
    pub fn receive(&mut self, byte: u8) {
        self.replies.clear();
        match self.pending.take() {
            Some(command) => self.parameter(command, byte),
            None => self.command(byte),
        }
    }

    fn command(&mut self, byte: u8) {
        match byte {
            command::LIGHTS | command::SCAN_CODE_SET | command::TYPEMATIC => {
                self.pending = Some(byte);
                self.reply(&[ACK]);
            }
            command::ECHO => self.reply(&[ECHO]),
            command::IDENTIFY => self.reply(&[ACK, ID[0], ID[1]]),
            command::ENABLE => self.start(true),
            command::DISABLE | command::DEFAULTS => {
                (self.set, self.typematic) = (DEFAULT_SET, DEFAULT_TYPEMATIC);
                self.start(byte == command::DEFAULTS);
            }
            command::ALL_TYPEMATIC..=command::ALL_BOTH => self.reply(&[ACK]),
            command::KEY_TYPEMATIC..=command::KEY_MAKE => {
                self.pending = Some(byte);
                self.reply(&[ACK]);
            }
            command::RESEND => self.reply(&[self.last]),
            command::RESET => {
                let held = self.held;
                *self = Self {
                    held,
                    ..Self::new()
                };
                self.reply(&[ACK, SELF_TEST_PASSED]);
            }
            // A quirk of the stock machine's keyboard, kept for probes that send zeros.
            0x00 => self.reply(&[ACK]),
            _ => self.reply(&[RESEND]),
        }
    }

    /// Starts or stops scanning, with an empty buffer.
    fn start(&mut self, scanning: bool) {
        self.scanning = scanning;
        self.buffer.clear();
        self.reply(&[ACK]);
    }

    fn parameter(&mut self, command: u8, byte: u8) {
        match (command, byte) {
            (command::LIGHTS, _) => self.lights = byte,
            (command::TYPEMATIC, _) => self.typematic = byte,
            (command::SCAN_CODE_SET, 0) => return self.reply(&[ACK, self.set]),
            (command::SCAN_CODE_SET, 1..=3) => self.set = byte,
            // Keys of set 3 go on until a command comes.
            (command::KEY_TYPEMATIC..=command::KEY_MAKE, ..command::LIGHTS) => {
                self.pending = Some(command);
            }
            (command::KEY_TYPEMATIC..=command::KEY_MAKE, _) => return self.command(byte),
            _ => return self.reply(&[RESEND]),
        }
        self.reply(&[ACK]);
    }

    fn reply(&mut self, bytes: &[u8]) {
        self.replies.extend(bytes);
    }
}

fn extended(code: u8, down: bool) -> Vec<u8> {
    if down {
        vec![EXTENDED, code]
    } else {
        vec![EXTENDED, RELEASED, code]
    }
}
