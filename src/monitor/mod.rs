//! The human monitor: the user looks at the machine and acts on it in QEMU's words.
//!
//! [`Monitor`] takes bytes from a peer (a terminal, a socket) and writes what it has to say; who
//! carries them is none of its business. It must not be driven on the machine's own thread, which it
//! asks. Registers and the memory map are asked of that thread, one short question a command; page tables and
//! guest memory are then read here, while the guest runs on. Nothing here has an effect on a
//! device but what the user asks for: registers of devices are read by `i` alone ([`crate::inspect`]).
//!
//! - [`mod@line`]: what is typed becomes lines; [`arguments`], [`expression`]: lines become values
//! - [`commands`]: the table of commands, help and completion; [`error`]: why a command was not done
//! - [`memory`], [`ports`], [`act`], [`keys`], [`picture`]: the commands but `info`
//! - [`info`], [`registers`], [`paging`], [`board`], [`chips`]: what `info` shows
//!
//! Of QEMU's commands those about what twin86 does not have (migration, block jobs, sound...) are missing, and
//! so far `log`, `logfile`, `savevm` and those that change drives and devices.

pub mod act;
pub mod arguments;
pub mod board;
pub mod chips;
pub mod commands;
pub mod error;
pub mod expression;
pub mod info;
pub mod keys;
pub mod line;
pub mod memory;
pub mod paging;
pub mod picture;
pub mod ports;
pub mod registers;

use std::io::Write;
use std::sync::Arc;

use accel::CpuState;
use devices::memory_map::MemoryMap;

use crate::control::Control;
use crate::inspect::Memory;
use crate::machine::Machine;
use error::MonitorError;
use keys::Typist;
use line::{Editor, Event, PROMPT};

/// What the monitor says first.
const BANNER: &str = concat!(
    "twin86 ",
    env!("CARGO_PKG_VERSION"),
    " monitor - type 'help' for more information\n"
);

/// How much may wait to be written while input is worked on.
const MOST_WAITING: usize = 1 << 16;

/// A monitor with one peer.
pub struct Monitor {
    editor: Editor,
    session: Session,
    output: Box<dyn Write + Send>,
    /// What is not written yet.
    waiting: Vec<u8>,
}

/// What commands work with.
pub struct Session {
    control: Control,
    /// The format that counts where none is given.
    format: memory::Format,
    typist: Option<Typist>,
}

/// What the machine's thread tells at once.
pub struct Snapshot {
    /// The processor.
    pub state: CpuState,
    /// The memory map.
    pub map: Arc<MemoryMap>,
    /// The A20 gate is open.
    pub a20: bool,
}

impl Monitor {
    /// A monitor of the machine `control` reaches; it prints nothing yet.
    pub fn new(control: Control, output: Box<dyn Write + Send>) -> Self {
        let session = Session {
            control,
            format: memory::Format::default(),
            typist: None,
        };
        Self {
            editor: Editor::default(),
            session,
            output,
            waiting: Vec::new(),
        }
    }

    /// Prints the banner and the prompt: a peer has come.
    pub fn greet(&mut self) {
        self.say(BANNER);
        self.say(PROMPT);
        self.flush();
    }

    /// Takes bytes from the peer.
    pub fn input(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let event = self.editor.byte(*byte, &mut self.waiting);
            if let Some(event) = event {
                self.event(event);
            }
            if self.waiting.len() > MOST_WAITING {
                self.flush();
            }
        }
        self.flush();
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Line(line) => self.run(&line),
            Event::TooLong => {
                let most = line::MOST;
                self.say(&format!("line too long: more than {most} bytes\n"));
            }
            Event::Abandoned => {}
            Event::Complete => {
                self.complete();
                return;
            }
        }
        self.say(PROMPT);
    }

    fn run(&mut self, line: &[u8]) {
        // Before the command acts: it may end the program.
        self.flush();
        let text = String::from_utf8_lossy(line);
        match commands::run(&mut self.session, &text) {
            Ok(reply) => self.say(&reply),
            Err(error) => self.say(&format!("{error}\n")),
        }
    }

    fn complete(&mut self) {
        let typed = String::from_utf8_lossy(self.editor.typed()).into_owned();
        let (addition, choices) = commands::completion(&typed);
        if let Some(choices) = choices {
            self.say("\n");
            self.say(&choices);
            self.editor.show(&mut self.waiting);
        }
        self.editor.insert(addition.as_bytes(), &mut self.waiting);
    }

    /// Says something; lines end as terminals want it.
    fn say(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.waiting.push(b'\r');
            }
            self.waiting.push(byte);
        }
    }

    /// Writes what waits. A peer that is gone loses it.
    fn flush(&mut self) {
        let written = self.output.write_all(&self.waiting);
        if let Err(error) = written.and_then(|()| self.output.flush()) {
            tracing::debug!(target: "monitor", %error, "the peer is gone");
        }
        self.waiting.clear();
    }
}

impl Session {
    /// Asks the machine's thread.
    fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> Result<R, MonitorError> {
        self.control.ask(question).ok_or(MonitorError::Gone)
    }

    /// Processor, memory map and A20 gate, all of one moment.
    fn snapshot(&self) -> Result<Snapshot, MonitorError> {
        self.ask(|machine| {
            let state = machine.state()?;
            let board = machine.board();
            Ok(Snapshot {
                state,
                map: board.map(),
                a20: board.a20(),
            })
        })?
    }
}

impl Snapshot {
    /// Memory by linear address.
    pub fn linear(&self) -> Memory {
        Memory::new(Arc::clone(&self.map), &self.state).with_a20(self.a20)
    }
}

#[cfg(test)]
mod tests {
    fn is_send<T: Send>() {}

    #[test]
    fn a_monitor_may_change_threads() {
        is_send::<super::Monitor>();
    }
}
