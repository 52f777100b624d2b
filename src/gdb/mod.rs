//! gdb's remote protocol: `-gdb tcp:HOST:PORT`, `-gdb unix:PATH`, `-gdb stdio`, `-s`.
//!
//! GDB manual, "Remote Protocol". The stub has two threads: one takes connections, one at a time, and
//! reads them; the other speaks the protocol and asks the machine through [`Control`].
//!
//! - The machine stands still when gdb has connected. `detach` removes all points and lets the guest
//!   go on; so does a connection that breaks, if it was gdb that had stopped the guest. A machine that
//!   stood still before (`-S`) and was never let go still stands, for the next gdb. `kill` ends the run.
//! - Breakpoints and memory are by linear address. RIP is RIP: an offset into CS, as QEMU's stub has it.
//!   Where CS has a base `x/i $cs_base+$pc` shows the code, and a breakpoint there stops as a plain
//!   SIGTRAP, since gdb would look for it at RIP.
//! - A processor of 64 bits is shown in its 64-bit form whatever its mode, as QEMU does. gdb refuses
//!   `set architecture i8086` for that: `-gdb ...,form=i8086` (or `i386`), or `monitor form i8086` and a
//!   new connection, shows 32-bit registers and disassembles as 16-bit code.
//!
//! Not here: several processors, reverse execution, file transfer, the monitor behind `monitor`.

mod listener;
mod registers;
mod session;
mod target;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub use registers::Form;

use crate::cli::CliError;
use crate::control::Control;
use crate::machine::Machine;
use crate::properties::Properties;
use crate::socket::Place;
use listener::Event;
use target::Chosen;

/// How long the end of the run waits for gdb to be told.
const FAREWELL: Duration = Duration::from_secs(1);

/// What `-gdb` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where gdb connects.
    pub place: Place,
    /// How it sees the processor, if not as it is.
    pub form: Option<Form>,
}

impl Config {
    /// Parses the value of `-gdb`; `None` for `none`.
    ///
    /// # Errors
    /// If it is no place, or has a property that means nothing here.
    pub fn parse(given: &str) -> Result<Option<Self>, CliError> {
        let wrong = |expected| CliError::Value {
            option: "-gdb",
            given: given.to_string(),
            expected,
            nearest: None,
        };
        let usage = |error| CliError::Usage(format!("-gdb {given}: {error}"));
        let (place, rest) = given.split_once(',').unwrap_or((given, ""));
        if place == "none" && rest.is_empty() {
            return Ok(None);
        }
        let expected = "tcp:HOST:PORT, tcp::PORT, unix:PATH, stdio or none";
        let place = match place {
            "stdio" => Place::Stdio,
            place => Place::parse(place).ok_or_else(|| wrong(expected))?,
        };
        // Old spellings of what is always so.
        let kept = rest
            .split(',')
            .filter(|item| !item.is_empty() && !["server", "nowait", "nodelay"].contains(item));
        let rest: Vec<&str> = kept.collect();
        let properties = if rest.is_empty() {
            Properties::default()
        } else {
            Properties::parse(&format!("gdb,{}", rest.join(","))).map_err(usage)?
        };
        let known = ["form", "server", "wait", "nodelay"];
        properties.only(&known).map_err(usage)?;
        if properties.get("wait").is_some_and(|w| w != "off")
            || properties.get("server").is_some_and(|s| s != "on")
        {
            return Err(wrong(
                "a place where gdb can connect at any time (server=on,wait=off)",
            ));
        }
        let form =
            match properties.get("form") {
                None => None,
                Some(name) => Some(Form::by_name(name).ok_or_else(|| {
                    wrong("in a form gdb has: form=i8086, form=i386 or form=x86-64")
                })?),
            };
        Ok(Some(Self { place, form }))
    }
}

/// The stub of a machine.
pub struct Stub {
    ended: mpsc::Receiver<()>,
    place: Place,
    status: Arc<AtomicU8>,
}

impl Stub {
    /// Lets gdb connect to a machine that has not run yet; `long` if its processor has 64-bit mode.
    ///
    /// # Errors
    /// If the place cannot be listened at, or there is no thread.
    pub fn start(config: &Config, machine: &mut Machine, long: bool) -> io::Result<Self> {
        let own = if long { Form::X86_64 } else { Form::I386 };
        let form = Chosen::new(config.form.unwrap_or(own));
        let listener = config.place.listen()?;
        let (events, inbox) = mpsc::sync_channel(16);
        let news = machine.watch();
        let control = machine.control();
        let from_machine = events.clone();
        spawn("gdb-news", move || {
            while news.recv().is_ok() {
                if from_machine.send(Event::News).is_err() {
                    return;
                }
            }
            let _ = from_machine.send(Event::Over);
        })?;
        spawn("gdb-listen", move || listener::serve(&listener, &events))?;
        let status = Arc::new(AtomicU8::new(0));
        let (over, ended) = mpsc::channel();
        let told = Arc::clone(&status);
        spawn("gdb", move || {
            serve(&control, &form, &inbox, &told);
            // The run may have ended without waiting.
            let _ = over.send(());
        })?;
        Ok(Self {
            ended,
            place: config.place.clone(),
            status,
        })
    }

    /// Tells a gdb that is connected of the run's end. The machine must be gone.
    pub fn finish(self, status: u8) {
        self.status.store(status, Ordering::Relaxed);
        // gdb hears of it by the closed connection else.
        let _ = self.ended.recv_timeout(FAREWELL);
        if let Place::Unix(path) = &self.place {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(run).map(drop)
}

/// One session after the other, until the machine's run is over.
fn serve(control: &Control, form: &Chosen, inbox: &mpsc::Receiver<Event>, status: &AtomicU8) {
    while let Ok(event) = inbox.recv() {
        match event {
            Event::Connected(peer) => {
                if session::serve(control, form, inbox, peer, status).is_break() {
                    return;
                }
            }
            Event::Over => return,
            // News, or the rest of a session that is over.
            Event::News | Event::Bytes(_) | Event::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests;
