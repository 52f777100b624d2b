//! The user's terminal: standard input and output as a serial port's peer.
//!
//! - [`terminal`]: raw mode, and back on every way out
//! - [`escape`]: what Ctrl-A and a letter do

pub mod escape;
pub mod terminal;

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::control::{Control, Input};
use escape::{Escape, Key};

/// How long the reader waits when the guest has not taken what came before. It loses nothing: it
/// reads on when there is room.
const FULL: Duration = Duration::from_millis(2);

/// Where standard input goes.
pub struct Console {
    /// The device that takes it, if one does.
    pub input: Option<Input>,
    /// Ctrl-A is an escape; otherwise everything goes to the guest.
    pub escapes: bool,
    /// Ends the run.
    pub control: Control,
}

impl Console {
    /// Reads standard input on a thread of its own from now on. The thread ends with the input, or
    /// with the program.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("console".into());
        thread.spawn(move || self.read_on()).map(drop)
    }

    fn read_on(self) {
        let mut escape = Escape::default();
        let mut buffer = [0; 4096];
        loop {
            let got = match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(target: "console", %error, "standard input cannot be read");
                    return;
                }
            };
            if !self.escapes {
                self.feed(&buffer[..got]);
                continue;
            }
            let mut bytes = Vec::with_capacity(got);
            for byte in &buffer[..got] {
                match escape.key(*byte) {
                    None => {}
                    Some(Key::Byte(byte)) => bytes.push(byte),
                    Some(Key::Quit) => {
                        self.feed(&bytes);
                        say("twin86: terminated");
                        self.control.quit();
                        return;
                    }
                    Some(Key::Say(text)) => say(text),
                }
            }
            self.feed(&bytes);
        }
    }

    fn feed(&self, mut bytes: &[u8]) {
        let Some(input) = &self.input else {
            return;
        };
        while !bytes.is_empty() {
            match input.feed(bytes) {
                None => return,
                Some(0) => thread::sleep(FULL),
                Some(taken) => bytes = &bytes[taken..],
            }
        }
    }
}

/// Tells the user something; raw mode leaves the treatment of output alone.
fn say(text: &str) {
    // A terminal that is gone need not hear it.
    let _ = write!(io::stderr(), "\n{text}\n");
}
