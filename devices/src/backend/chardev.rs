//! Character backends: what a serial port or debug console is plugged into.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much unread input a backend holds; more is refused, so that a peer cannot grow the process.
const INPUT_LIMIT: usize = 64 * 1024;

/// A byte stream to and from the host; every clone is the same stream.
#[derive(Clone)]
pub struct Chardev(Arc<Shared>);

struct Shared {
    stream: Mutex<Stream>,
    /// Input waits; written under the lock, read without.
    waiting: AtomicBool,
}

struct Stream {
    output: Box<dyn Write + Send>,
    input: VecDeque<u8>,
}

impl Chardev {
    /// A backend whose output goes to `output` and whose input is fed by [`Chardev::feed`].
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Shared {
            stream: Mutex::new(Stream {
                output,
                input: VecDeque::new(),
            }),
            waiting: AtomicBool::new(false),
        }))
    }

    /// A backend that drops output and never has input.
    pub fn null() -> Self {
        Self::new(Box::new(std::io::sink()))
    }

    /// Writes what the guest sent; a host error loses the bytes and is logged.
    pub fn write(&self, bytes: &[u8]) {
        let mut stream = self.lock();
        if let Err(error) = stream
            .output
            .write_all(bytes)
            .and_then(|()| stream.output.flush())
        {
            tracing::debug!(%error, "character backend lost output");
        }
    }

    /// Takes one byte of input, if there is one.
    pub fn read(&self) -> Option<u8> {
        if !self.has_input() {
            return None;
        }
        let mut stream = self.lock();
        let byte = stream.input.pop_front();
        self.note_waiting(&stream);
        byte
    }

    /// Whether input waits; takes no lock.
    pub fn has_input(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// Feeds input from the host; returns how many bytes were taken (the rest: try again later).
    pub fn feed(&self, bytes: &[u8]) -> usize {
        let mut stream = self.lock();
        let taken = bytes
            .len()
            .min(INPUT_LIMIT.saturating_sub(stream.input.len()));
        stream.input.extend(&bytes[..taken]);
        self.note_waiting(&stream);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_waiting(&self, stream: &Stream) {
        let waiting = !stream.input.is_empty();
        self.0.waiting.store(waiting, Ordering::Release);
    }
}

impl fmt::Debug for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chardev")
    }
}
