//! Where bytes come from, and the way back: sockets, pseudo-terminals, standard input.
//!
//! Each source has a thread of its own that waits for bytes. The way back never makes the guest wait
//! for long: a peer that does not read is waited for once, a fifth of a second; from then on what it has
//! no room for is lost, until it reads again. What is sent while nobody is connected is lost.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

use super::spec::Socket;
use super::telnet::{self, Filter};
use crate::socket::{Listener, Peer};

/// How long a peer that does not read is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
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
    Server(Listener, Option<Peer>, SocketOutput),
    /// A connection.
    Client(Peer, SocketOutput),
}

/// The way back to a socket's peer; every clone is the same.
#[derive(Clone)]
pub struct SocketOutput {
    peer: Arc<Mutex<Option<Connected>>>,
    telnet: bool,
}

struct Connected {
    peer: Peer,
    /// It did not read in time.
    stalled: bool,
}

impl Connected {
    fn has_room(&self) -> bool {
        let mut poll_fd = [PollFd::new(self.peer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut poll_fd, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Whether the peer is still there.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if self.stalled && !self.has_room() {
            return true;
        }
        match self.peer.write_all(bytes) {
            Ok(()) => self.stalled = false,
            Err(error) if is_full(&error) => self.stalled = true,
            Err(_) => return false,
        }
        true
    }
}

/// A write timed out, or would have had to wait.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
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
        peer.set_write_timeout(Some(PATIENCE))?;
        if self.telnet {
            peer.write_all(telnet::GREETING)?;
        }
        *self.lock() = Some(Connected {
            peer,
            stalled: false,
        });
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
            let there = if self.telnet {
                connected.send(&telnet::escaped(bytes))
            } else {
                connected.send(bytes)
            };
            if !there {
                *guard = None;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way back to a pseudo-terminal: what nobody has room for is lost.
struct PtyOutput(File);

impl Write for PtyOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut poll_fd = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut poll_fd, PollTimeout::ZERO) {
            Ok(1..) => self.0.write(bytes),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A source and the way back.
pub type Opened = (Source, Box<dyn Write + Send>);

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
    let output = PtyOutput(ours.try_clone()?);
    Ok((Source::Pty(ours, pair.slave), Box::new(output)))
}

/// Opens a socket; `say` tells that the first connection is waited for.
///
/// # Errors
/// If it cannot be listened at, or nobody is there to connect to.
pub fn socket(socket: &Socket, say: impl FnOnce()) -> io::Result<Opened> {
    let output = SocketOutput::new(socket.telnet);
    let source = if socket.server {
        let listener = socket.place.listen()?;
        let mut first = None;
        if socket.wait {
            say();
            let peer = listener.accept()?;
            output.connect(peer.try_clone()?)?;
            first = Some(peer);
        }
        Source::Server(listener, first, output.clone())
    } else {
        let peer = socket.place.connect()?;
        output.connect(peer.try_clone()?)?;
        Source::Client(peer, output.clone())
    };
    Ok((source, Box::new(output)))
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
            Self::Client(peer, output) => converse(peer, &output, sink),
            Self::Server(listener, first, output) => {
                if let Some(peer) = first {
                    converse(peer, &output, sink);
                }
                loop {
                    let accepted = listener.accept().and_then(|peer| {
                        output.connect(peer.try_clone()?)?;
                        Ok(peer)
                    });
                    match accepted {
                        Ok(peer) => converse(peer, &output, sink),
                        Err(_) => thread::sleep(PAUSE),
                    }
                }
            }
        }
    }
}

/// Feeds what a peer sends until it is gone.
fn converse(mut peer: Peer, output: &SocketOutput, sink: &mut dyn Sink) {
    sink.connected();
    if output.telnet {
        let mut filtered = Filtered {
            filter: Filter::default(),
            sink,
        };
        read_on(&mut peer, &mut filtered);
    } else {
        read_on(&mut peer, sink);
    }
    output.disconnect();
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
