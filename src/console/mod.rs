//! What a peer of a character backend types: to the devices and the monitor that share it.
//!
//! - [`terminal`]: the user's terminal raw, and back on every way out
//! - [`escape`]: what Ctrl-A and a letter do

pub mod escape;
pub mod terminal;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crate::backends::outbox::Outbox;
use crate::backends::source::Sink;
use crate::backends::{Backend, User};
use crate::control::{Control, Input};
use crate::monitor::Monitor;
use escape::{Escape, Key};

/// How long the reader waits when the guest has not taken what came before. It loses nothing: it
/// reads on when there is room.
const FULL: Duration = Duration::from_millis(2);

/// Takes what one peer types.
pub struct Console {
    users: Vec<Front>,
    /// Which of them gets it.
    focus: usize,
    /// Ctrl-A is an escape; otherwise everything goes to the one user.
    escape: Option<Escape>,
    output: Outbox,
    control: Control,
}

enum Front {
    Device(Input),
    Monitor(Box<Monitor>),
}

impl Console {
    /// Between the peer of `backend`, reached by `output`, and the machine.
    pub fn new(backend: &Backend, output: &Outbox, control: &Control) -> Self {
        let chardev = &backend.chardev;
        let front = |user: &User| match user {
            User::Device(name) => Front::Device(control.input(name, chardev.clone())),
            User::Monitor => {
                let output = Box::new(ToPeer(output.clone()));
                Front::Monitor(Box::new(Monitor::new(control.clone(), output)))
            }
        };
        Self {
            users: backend.users.iter().map(front).collect(),
            focus: 0,
            escape: backend.mux.then(Escape::default),
            output: output.clone(),
            control: control.clone(),
        }
    }

    /// The next user gets what is typed.
    fn switch(&mut self) {
        self.focus = (self.focus + 1) % self.users.len().max(1);
        self.greet();
    }

    fn greet(&mut self) {
        if let Some(Front::Monitor(monitor)) = self.users.get_mut(self.focus) {
            monitor.greet();
        }
    }

    fn give(&mut self, bytes: &[u8]) {
        match self.users.get_mut(self.focus) {
            Some(Front::Device(input)) => feed(input, bytes),
            Some(Front::Monitor(monitor)) if !bytes.is_empty() => monitor.input(bytes),
            _ => {}
        }
    }

    fn key(&mut self, key: Key) {
        match key {
            Key::Byte(_) => {}
            Key::Quit => {
                self.say("twin86: terminated");
                self.control.quit();
            }
            Key::Switch => self.switch(),
            Key::Say(text) => self.say(text),
        }
    }

    /// Tells the peer something.
    fn say(&self, text: &str) {
        let text = text.replace('\n', "\r\n");
        self.output.send(format!("\r\n{text}\r\n").as_bytes());
    }
}

impl Sink for Console {
    fn connected(&mut self) {
        self.greet();
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Some(mut escape) = self.escape.take() else {
            return self.give(bytes);
        };
        let mut plain = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match escape.key(byte) {
                None => {}
                Some(Key::Byte(byte)) => plain.push(byte),
                Some(key) => {
                    self.give(&std::mem::take(&mut plain));
                    self.key(key);
                }
            }
        }
        self.give(&plain);
        self.escape = Some(escape);
    }
}

fn feed(input: &Input, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match input.feed(bytes) {
            None => return,
            Some(0) => thread::sleep(FULL),
            Some(taken) => bytes = &bytes[taken..],
        }
    }
}

/// The monitor's way to its peer.
struct ToPeer(Outbox);

impl Write for ToPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
