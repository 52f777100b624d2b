//! Character backends of the command line: `-chardev`, and what `-serial`, `-monitor` and `-debugcon`
//! name.
//!
//! - [`spec`]: what they are said to be
//! - [`source`]: where their bytes come from; [`outbox`]: the way back; [`telnet`]: the protocol on top of a socket

pub mod outbox;
pub mod source;
pub mod spec;
pub mod telnet;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use devices::backend::chardev::Chardev;

use crate::cli::{CliError, one_of};
use crate::run::RunError;
use outbox::Outbox;
use source::Source;
use spec::{Kind, Spec};

/// Who uses a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The device of this row.
    Device(&'static str),
    /// A monitor.
    Monitor,
}

/// An open backend.
pub struct Backend {
    /// Its id, or the option's name.
    pub label: String,
    /// The stream.
    pub chardev: Chardev,
    /// Where its input comes from, if it has any.
    pub source: Option<Source>,
    /// What waits for the peer, if it may keep others waiting.
    pub outbox: Option<Outbox>,
    /// Several may use it, and Ctrl-A is an escape.
    pub mux: bool,
    /// Who uses it.
    pub users: Vec<User>,
}

/// The backends the options made.
#[derive(Default)]
pub struct Backends {
    by_id: BTreeMap<String, usize>,
    all: Vec<Backend>,
    /// Another than a backend has standard input and output.
    stdio_taken: bool,
}

impl Backends {
    /// Keeps standard input and output for another use.
    pub fn take_stdio(&mut self) {
        self.stdio_taken = true;
    }

    /// Takes one `-chardev`.
    ///
    /// # Errors
    /// If it is wrong, or cannot be opened.
    pub fn add(&mut self, given: &str) -> Result<(), RunError> {
        let (id, spec) = Spec::long(given)?;
        if self.by_id.contains_key(&id) {
            let text = format!("-chardev {given}: the id is taken");
            return Err(CliError::Usage(text).into());
        }
        let at = self.make("-chardev", given, &id, &spec)?;
        self.by_id.insert(id, at);
        Ok(())
    }

    /// The backend with an id, for `user`.
    ///
    /// # Errors
    /// If there is none, or another has it.
    pub fn by_id(
        &mut self,
        option: &'static str,
        id: &str,
        user: User,
    ) -> Result<Chardev, RunError> {
        let Some(&at) = self.by_id.get(id) else {
            let names: Vec<&str> = self.by_id.keys().map(String::as_str).collect();
            return Err(one_of(option, id, &names, "the id of a -chardev").into());
        };
        let backend = &mut self.all[at];
        if !backend.users.is_empty() && !backend.mux {
            let text = format!("{option}: chardev '{id}' is in use; mux=on lets several use it");
            return Err(CliError::Usage(text).into());
        }
        backend.users.push(user);
        Ok(backend.chardev.clone())
    }

    /// Opens what `-serial`, `-monitor` or `-debugcon` names, for `user`.
    ///
    /// # Errors
    /// If there is no such backend, or it cannot be opened.
    pub fn open(
        &mut self,
        option: &'static str,
        given: &str,
        user: User,
    ) -> Result<Chardev, RunError> {
        if let Some(id) = given.strip_prefix("chardev:") {
            return self.by_id(option, id, user);
        }
        let spec = Spec::short(option, given)?;
        let label = match user {
            User::Device(name) => name,
            User::Monitor => "monitor",
        };
        let at = self.make(option, given, label, &spec)?;
        let backend = &mut self.all[at];
        backend.users.push(user);
        if spec.mux && user != User::Monitor {
            backend.users.push(User::Monitor);
        }
        Ok(backend.chardev.clone())
    }

    /// Whether standard input and output are free.
    pub fn stdio_is_free(&self) -> bool {
        let stdio = |backend: &Backend| matches!(backend.source, Some(Source::Stdio));
        !self.stdio_taken && !self.all.iter().any(stdio)
    }

    /// The backends, to be connected.
    pub fn into_all(self) -> Vec<Backend> {
        self.all
    }

    fn make(
        &mut self,
        option: &'static str,
        given: &str,
        label: &str,
        spec: &Spec,
    ) -> Result<usize, RunError> {
        let failed = |source| RunError::Backend {
            option,
            given: given.to_string(),
            source,
        };
        let (source, outbox) = match &spec.kind {
            Kind::Null => (None, None),
            Kind::File { path, append } => {
                let file = file(path, *append)?;
                // A file never keeps its writer waiting; a FIFO or a terminal may.
                if file.metadata().is_ok_and(|about| about.is_file()) {
                    return Ok(self.keep(label, spec, Chardev::new(Box::new(file)), None, None));
                }
                (None, Some(Outbox::new(Box::new(file)).map_err(failed)?))
            }
            Kind::Stdio => {
                if !self.stdio_is_free() {
                    let text = "standard input and output can serve one device only: use file:PATH";
                    return Err(CliError::Usage(text.into()).into());
                }
                both(source::stdio().map_err(failed)?)
            }
            Kind::Pty => {
                let tell = |name: &str| {
                    say(&format!("char device redirected to {name} (label {label})"));
                };
                both(source::pty(tell).map_err(failed)?)
            }
            Kind::Socket(socket) => {
                let tell = || {
                    let place = &socket.place;
                    say(&format!(
                        "waiting for a connection to {place} (label {label})"
                    ));
                };
                both(source::socket(socket, tell).map_err(failed)?)
            }
        };
        let chardev = match &outbox {
            Some(outbox) => Chardev::new(Box::new(outbox.clone())),
            None => Chardev::null(),
        };
        Ok(self.keep(label, spec, chardev, source, outbox))
    }

    fn keep(
        &mut self,
        label: &str,
        spec: &Spec,
        chardev: Chardev,
        source: Option<Source>,
        outbox: Option<Outbox>,
    ) -> usize {
        self.all.push(Backend {
            label: label.to_string(),
            chardev,
            source,
            outbox,
            mux: spec.mux,
            users: Vec::new(),
        });
        self.all.len() - 1
    }
}

fn both((source, outbox): source::Opened) -> (Option<Source>, Option<Outbox>) {
    (Some(source), Some(outbox))
}

fn file(path: &Path, appends: bool) -> Result<File, RunError> {
    let mut options = File::options();
    options.create(true);
    if appends {
        options.append(true);
    } else {
        options.write(true).truncate(true);
    }
    let file = options.open(path);
    file.map_err(|error| RunError::file(path, error.to_string()))
}

/// Tells the user something, while the program starts.
fn say(text: &str) {
    // Standard error that is gone need not hear it.
    let _ = writeln!(io::stderr(), "twin86: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const COM1: User = User::Device("com1");

    #[test]
    fn standard_output_serves_one_device() {
        let mut backends = Backends::default();
        assert!(backends.open("-serial", "mon:stdio", COM1).is_ok());
        let error = backends.open("-debugcon", "stdio", User::Device("debugcon"));
        assert!(error.is_err_and(|e| e.to_string().contains("one device only")));
        let all = backends.into_all();
        assert_eq!(all[0].users, [COM1, User::Monitor]);
        assert!(all[0].mux);
    }

    #[test]
    fn a_chardev_is_found_by_its_id() {
        let mut backends = Backends::default();
        backends.add("null,id=a").expect("a backend");
        backends.add("null,id=m,mux=on").expect("a backend");
        let find = |backends: &mut Backends, id| {
            let found = backends.by_id("-device", id, COM1);
            found.map(drop).map_err(|e| e.to_string())
        };
        let near = "-device: 'b' is not the id of a -chardev".to_string();
        assert_eq!(find(&mut backends, "b"), Err(near));
        assert_eq!(find(&mut backends, "a"), Ok(()));
        let used = "-device: chardev 'a' is in use; mux=on lets several use it".to_string();
        assert_eq!(find(&mut backends, "a"), Err(used));
        assert_eq!(find(&mut backends, "m"), Ok(()));
        assert_eq!(find(&mut backends, "m"), Ok(()));
        let taken = backends.add("null,id=a").map_err(|e| e.to_string());
        assert_eq!(
            taken,
            Err("-chardev null,id=a: the id is taken".to_string())
        );
    }
}
