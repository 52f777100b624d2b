//! Where bytes come from, and the way back: sockets, pseudo-terminals, standard input.
//!
//! Each source has a thread of its own that waits for bytes. The way back is an [`Outbox`]: a peer that
//! does not read makes nobody wait for long. What is sent while nobody is connected is lost.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

use super::outbox::{Outbox, TRY, is_full};
use super::spec::Socket;
use super::telnet::{self, Filter};
use crate::socket::{Listener, Peer};

/// A wait before the next try when the host has no handle left: no busy loop.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes read at once.
const PIECE: usize = 4096;

/// Who takes the bytes.
pub trait Sink: Send {
    /// A peer has come.
    fn connected(&mut self) {}
    /// Bytes from it.
    fn feed(&mut self, bytes: &[u8]);
}

/// Waits for bytes.
pub enum Source {
    /// Standard input.
    Stdio,
    /// A pseudo-terminal: our side, and the other one, kept open so that ours stays usable.
    Pty(File, OwnedFd),
    /// A socket that is listened to, with the connection that start-up waited for.
    Server(Listener, Option<Peer>, WayBack),
    /// A connection.
    Client(Peer, WayBack),
}

/// The way back to a socket's peer.
pub struct WayBack {
    output: SocketOutput,
    outbox: Outbox,
}

impl WayBack {
    /// The peer is gone, and with it what waited for it.
    fn disconnect(&self) {
        self.output.disconnect();
        self.outbox.clear();
    }
}

/// Writes to a socket's peer; every clone is the same.
#[derive(Clone)]
pub struct SocketOutput {
    peer: Arc<Mutex<Option<Connected>>>,
    telnet: bool,
}

struct Connected {
    peer: Peer,
    /// What it has had no room for.
    rest: Vec<u8>,
}

impl Connected {
    /// Whether all of the rest went.
    fn send_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.peer.write(&self.rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => drop(self.rest.drain(..count)),
            }
        }
        Ok(())
    }

    /// Takes bytes if nothing is left of those before.
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.send_rest()?;
        self.rest = bytes;
        match self.send_rest() {
            Err(error) if is_full(&error) => Ok(()),
            sent => sent,
        }
    }
}

impl SocketOutput {
    fn new(telnet: bool) -> Self {
        let peer = Arc::default();
        Self { peer, telnet }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, mut peer: Peer) -> io::Result<()> {
        peer.set_write_timeout(Some(TRY))?;
        if self.telnet {
            peer.write_all(telnet::GREETING)?;
        }
        let rest = Vec::new();
        *self.lock() = Some(Connected { peer, rest });
        Ok(())
    }

    fn disconnect(&self) {
        if let Some(connected) = self.lock().take() {
            connected.peer.shut();
        }
    }
}

impl Write for SocketOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut guard = self.lock();
        if let Some(connected) = &mut *guard {
            let sent = if self.telnet {
                telnet::escaped(bytes)
            } else {
                bytes.to_vec()
            };
            match connected.send(sent) {
                Ok(()) => {}
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => *guard = None,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A source and the way back.
pub type Opened = (Source, Outbox);

/// Standard input and output.
///
/// # Errors
/// If standard output is closed.
pub fn stdio() -> io::Result<Opened> {
    // Not by the library's handle: its lock would be held while a terminal is stopped.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok((Source::Stdio, Outbox::new(Box::new(output))?))
}

/// Opens a pseudo-terminal; `say` tells its name.
///
/// # Errors
/// If the host has none.
pub fn pty(say: impl FnOnce(&str)) -> io::Result<Opened> {
    let pair = openpty(None, None)?;
    let mut raw = tcgetattr(&pair.slave)?;
    cfmakeraw(&mut raw);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &raw)?;
    say(&ttyname(&pair.slave)?.display().to_string());
    let ours = File::from(pair.master);
    let outbox = Outbox::new(Box::new(ours.try_clone()?))?;
    Ok((Source::Pty(ours, pair.slave), outbox))
}

/// Opens a socket; `say` tells that the first connection is waited for.
///
/// # Errors
/// If it cannot be listened at, or nobody is there to connect to.
pub fn socket(socket: &Socket, say: impl FnOnce()) -> io::Result<Opened> {
    let output = SocketOutput::new(socket.telnet);
    let outbox = Outbox::new(Box::new(output.clone()))?;
    let back = WayBack {
        output: output.clone(),
        outbox: outbox.clone(),
    };
    let source = if socket.server {
        let listener = socket.place.listen()?;
        let mut first = None;
        if socket.wait {
            say();
            let peer = listener.accept()?;
            output.connect(peer.try_clone()?)?;
            first = Some(peer);
        }
        Source::Server(listener, first, back)
    } else {
        let peer = socket.place.connect()?;
        output.connect(peer.try_clone()?)?;
        Source::Client(peer, back)
    };
    Ok((source, outbox))
}

impl Source {
    /// Feeds `sink` on a thread of its own from now on. The thread ends with the source, or with the
    /// program.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(self, name: &str, mut sink: Box<dyn Sink>) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_string());
        thread.spawn(move || self.run(&mut *sink)).map(drop)
    }

    fn run(self, sink: &mut dyn Sink) {
        match self {
            Self::Stdio => {
                sink.connected();
                read_on(&mut io::stdin(), sink);
            }
            Self::Pty(mut ours, _theirs) => {
                sink.connected();
                read_on(&mut ours, sink);
            }
            Self::Client(peer, back) => converse(peer, &back, sink),
            Self::Server(listener, first, back) => {
                if let Some(peer) = first {
                    converse(peer, &back, sink);
                }
                loop {
                    let accepted = listener.accept().and_then(|peer| {
                        back.output.connect(peer.try_clone()?)?;
                        Ok(peer)
                    });
                    match accepted {
                        Ok(peer) => converse(peer, &back, sink),
                        Err(_) => thread::sleep(PAUSE),
                    }
                }
            }
        }
    }
}

/// Feeds what a peer sends until it is gone.
fn converse(mut peer: Peer, back: &WayBack, sink: &mut dyn Sink) {
    sink.connected();
    if back.output.telnet {
        let mut filtered = Filtered {
            filter: Filter::default(),
            sink,
        };
        read_on(&mut peer, &mut filtered);
    } else {
        read_on(&mut peer, sink);
    }
    back.disconnect();
}

/// A sink behind telnet's commands.
struct Filtered<'a> {
    filter: Filter,
    sink: &'a mut dyn Sink,
}

impl Sink for Filtered<'_> {
    fn feed(&mut self, bytes: &[u8]) {
        let data: Vec<u8> = bytes.iter().filter_map(|b| self.filter.byte(*b)).collect();
        self.sink.feed(&data);
    }
}

fn read_on(from: &mut dyn Read, sink: &mut dyn Sink) {
    let mut buffer = [0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(got) => sink.feed(&buffer[..got]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(target: "chardev", %error, "the peer is gone");
                return;
            }
        }
    }
}
