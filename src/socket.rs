//! Sockets of the command line: where to listen or connect, and who is there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A place in the network or the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP port; an empty host is every address of this one.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
    /// No socket: standard input and output, where one peer is from the beginning.
    Stdio,
}

/// A connection.
#[derive(Debug)]
pub enum Peer {
    /// By TCP.
    Tcp(TcpStream),
    /// Inside this host.
    Unix(UnixStream),
    /// By standard input and output.
    Stdio(Arc<[File; 2]>),
}

impl Peer {
    /// Another handle on the same connection.
    ///
    /// # Errors
    /// If the host has none left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Stdio(files) => Self::Stdio(Arc::clone(files)),
        })
    }

    /// Ends it.
    pub fn shut(&self) {
        // It may be shut already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            // They end with the program.
            Self::Stdio(_) => Ok(()),
        };
    }

    /// How long a write may take: none, no bound.
    ///
    /// # Errors
    /// If the time is zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(time),
            Self::Unix(stream) => stream.set_write_timeout(time),
            Self::Stdio(_) => Ok(()),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Stdio(files) => (&files[0]).read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Stdio(files) => (&files[1]).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Stdio => f.write_str("stdio"),
        }
    }
}

impl Place {
    /// `tcp:HOST:PORT`, `unix:PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let (host, port) = text.strip_prefix("tcp:")?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self::Tcp(host.to_string(), port.parse().ok()?))
    }

    /// Connects to who listens there.
    ///
    /// # Errors
    /// If nobody does.
    pub fn connect(&self) -> io::Result<Peer> {
        Ok(match self {
            Self::Tcp(host, port) => {
                let host = if host.is_empty() { "localhost" } else { host };
                let stream = TcpStream::connect((host, *port))?;
                stream.set_nodelay(true)?;
                Peer::Tcp(stream)
            }
            Self::Unix(path) => Peer::Unix(UnixStream::connect(path)?),
            Self::Stdio => stdio()?,
        })
    }

    /// Listens.
    ///
    /// # Errors
    /// If that is not possible there.
    pub fn listen(&self) -> io::Result<Listener> {
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
            Self::Stdio => Ok(Listener::Stdio(Some(stdio()?).into())),
        }
    }
}

fn stdio() -> io::Result<Peer> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Peer::Stdio(Arc::new([input.into(), output.into()])))
}

/// Who listens.
#[derive(Debug)]
pub enum Listener {
    /// To a port.
    Tcp(TcpListener),
    /// To a file.
    Unix(UnixListener),
    /// The one who is there has not been taken yet.
    Stdio(Mutex<Option<Peer>>),
}

impl Listener {
    /// Waits for a connection.
    ///
    /// # Errors
    /// If the host has no handle left, or the peer was gone at once.
    pub fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                tracing::debug!(target: "socket", "connection from {from}");
                stream.set_nodelay(true)?;
                Ok(Peer::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Peer::Unix(listener.accept()?.0)),
            Self::Stdio(peer) => {
                let taken = peer.lock().unwrap_or_else(PoisonError::into_inner).take();
                match taken {
                    Some(peer) => Ok(peer),
                    // Nobody else will come.
                    None => loop {
                        thread::park();
                    },
                }
            }
        }
    }
}
