//! The qtest protocol: `-qtest stdio`, `-qtest unix:PATH`, `-qtest tcp:HOST:PORT`: a tester drives the board
//! in the processor's place.
//!
//! QEMU's "QTest Device Emulation Testing Framework" and version 7.2 itself. The processor never runs and
//! time moves by `clock_step` and `clock_set` alone: the machine is one of [`MachineConfig::by_hand`].
//!
//! - [`command`]: what a line asks for; [`session`]: what is done, and the answer; [`watch`]: interrupt lines
//! - A line that asks for nothing that exists, or for too much (a line or a block of memory beyond
//!   [`command::MOST_BYTES`]), is answered with `FAIL` and a reason.
//! - The names of objects are those of this board: `ioapic` (its 24 inputs) and `i8259` (the pair: inputs 0 to
//!   15; output 0 is INTR); a path of QEMU's object model means its last part.
//! - A reset that a command asks for is done before the next command.
//! - When standard input ends, or the one it has connected to is gone, the run is over.
//!
//! Not here: `module_load`, `rtas`, `-qtest-log`, and the monitor protocol QMP beside it.
//!
//! [`MachineConfig::by_hand`]: crate::machine::MachineConfig::by_hand

pub mod base64;
pub mod command;
pub mod session;
pub mod watch;

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::backends::spec::{Kind, Socket, Spec};
use crate::cli::value;
use crate::control::Control;
use crate::machine::Machine;
use crate::run::RunError;
use crate::socket::{Listener, Peer, Place};
use command::MOST_BYTES;
use session::Session;

/// How long the end of the run waits for the last answers to be sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// A wait before the next connection is taken when one could not be: no busy loop.
const PAUSE: Duration = Duration::from_millis(100);
/// How much is read at once.
const PIECE: usize = 1 << 16;

/// What `-qtest` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    socket: Socket,
}

impl Config {
    /// Parses the value of `-qtest`.
    ///
    /// # Errors
    /// If it is no place, or has a property that means nothing here.
    pub fn parse(given: &str) -> Result<Self, RunError> {
        let wrong = || value("-qtest", given, "stdio, unix:PATH or tcp:HOST:PORT");
        let spec = Spec::short("-qtest", given)?;
        let socket = match spec.kind {
            _ if spec.mux => return Err(wrong().into()),
            Kind::Stdio => Socket {
                place: Place::Stdio,
                server: false,
                wait: false,
                telnet: false,
            },
            Kind::Socket(socket) if !socket.telnet => socket,
            _ => return Err(wrong().into()),
        };
        Ok(Self { socket })
    }

    /// Whether it is standard input and output.
    pub fn is_stdio(&self) -> bool {
        self.socket.place == Place::Stdio
    }
}

/// Who serves the tester.
pub struct Server {
    ended: mpsc::Receiver<()>,
    /// The socket file to be removed.
    place: Place,
}

impl Server {
    /// Lets a tester drive a machine that has not run yet.
    ///
    /// # Errors
    /// If the place cannot be listened at, nobody is there to connect to, or there is no thread.
    pub fn start(config: &Config, machine: &Machine) -> io::Result<Self> {
        let socket = &config.socket;
        let (listener, mut first) = match socket.server {
            true => (Some(socket.place.listen()?), None),
            false => (None, Some(socket.place.connect()?)),
        };
        if let Some(listener) = listener.as_ref().filter(|_| socket.wait) {
            first = Some(listener.accept()?);
        }
        let control = machine.control();
        let mut session = Some(Session::new(machine));
        let (over, ended) = mpsc::channel();
        let run = move || {
            serve(&control, &mut session, listener.as_ref(), first);
            // The run may have ended without waiting.
            let _ = over.send(());
        };
        thread::Builder::new().name("qtest".into()).spawn(run)?;
        Ok(Self {
            ended,
            place: socket.place.clone(),
        })
    }

    /// Lets the last answers be sent. The machine must be gone.
    pub fn finish(self) {
        // The tester hears of it by the closed connection else.
        let _ = self.ended.recv_timeout(FAREWELL);
        if let Place::Unix(path) = &self.place {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One connection after the other, until the machine's run is over.
fn serve(
    control: &Control,
    session: &mut Option<Session>,
    listener: Option<&Listener>,
    first: Option<Peer>,
) {
    let mut peer = first;
    loop {
        match (peer.take(), listener) {
            (Some(mut peer), _) => {
                if converse(control, session, &mut peer).is_err() {
                    tracing::debug!(target: "qtest", "the tester is gone");
                }
                peer.shut();
            }
            (None, Some(listener)) => match listener.accept() {
                Ok(accepted) => peer = Some(accepted),
                Err(_) => thread::sleep(PAUSE),
            },
            (None, None) => return control.quit(),
        }
        if session.is_none() {
            return;
        }
    }
}

/// Answers what a tester sends until it is gone, or the machine is: it has the session then.
fn converse(control: &Control, session: &mut Option<Session>, peer: &mut Peer) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match peer.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let batch = lines.take(&buffer[..count]);
        if batch.is_empty() {
            continue;
        }
        let Some(mut lent) = session.take() else {
            return Ok(());
        };
        let answered = control.ask(move |machine| {
            let mut answers = Vec::new();
            for line in batch {
                match line {
                    Some(line) => lent.run(machine, &line, &mut answers),
                    None => answers.extend(b"FAIL the line is too long\n"),
                }
            }
            (lent, answers)
        });
        let Some((back, answers)) = answered else {
            return Ok(());
        };
        *session = Some(back);
        peer.write_all(&answers)?;
    }
}

/// Makes lines of what comes in pieces.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// The lines that a piece ends; `None` for one that was too long to be kept.
    fn take(&mut self, piece: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut whole = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            // Twice the bytes as hexadecimal digits, and what stands before them.
            if self.begun.len() + text.len() > 2 * MOST_BYTES + 256 {
                self.too_long = true;
                self.begun = Vec::new();
            }
            if !self.too_long {
                self.begun.extend(text);
            }
            if ends {
                let line = std::mem::take(&mut self.begun);
                whole.push((!std::mem::take(&mut self.too_long)).then_some(line));
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests;
