//! Where gdb connects, and what comes from there.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// A wait before the next connection is taken when one could not be: no busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Where gdb connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP port; an empty host is every address of this one.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// What the stub's thread waits for.
pub(super) enum Event {
    /// A gdb has connected.
    Connected(Peer),
    /// It has sent something.
    Bytes(Vec<u8>),
    /// It is gone.
    Gone,
    /// The machine has stopped or goes on.
    News,
    /// The machine's run is over.
    Over,
}

/// The sending side of a connection.
pub(super) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    pub(super) fn shut(&self) {
        // It may be shut already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

impl Place {
    /// `tcp:HOST:PORT`, `unix:PATH`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let (host, port) = text.strip_prefix("tcp:")?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self::Tcp(host.to_string(), port.parse().ok()?))
    }

    pub(super) fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(host, port) => {
                let listener = match host.as_str() {
                    // Both families where there are two.
                    "" => TcpListener::bind(("::", *port))
                        .or_else(|_| TcpListener::bind(("0.0.0.0", *port)))?,
                    host => TcpListener::bind((host, *port))?,
                };
                Ok(Listener::Tcp(listener))
            }
            Self::Unix(path) => {
                // A socket nobody listens at is left over from a run before.
                if UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
                {
                    std::fs::remove_file(path)?;
                }
                Ok(Listener::Unix(UnixListener::bind(path)?))
            }
        }
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                tracing::debug!(target: "gdb", "connection from {from}");
                stream.set_nodelay(true)?;
                Ok(Peer::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Peer::Unix(listener.accept()?.0)),
        }
    }

    /// Takes connections, one at a time, until nobody listens to what they say.
    pub(super) fn serve(&self, events: &SyncSender<Event>) {
        loop {
            let accepted = self.accept().and_then(|peer| Ok((peer.try_clone()?, peer)));
            let Ok((mut reader, peer)) = accepted else {
                thread::sleep(PAUSE);
                continue;
            };
            if events.send(Event::Connected(peer)).is_err() {
                return;
            }
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if events.send(Event::Bytes(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
            if events.send(Event::Gone).is_err() {
                return;
            }
        }
    }
}
