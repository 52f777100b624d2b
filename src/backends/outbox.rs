//! What waits to be written to a peer, and the thread that writes it: who sends never waits for long.
//!
//! A peer that reads slowly holds its sender back; one that does not read at all is waited for once
//! (by a processor a fifth of a second, by a monitor a second), and from then on what there is no room
//! for is lost, until it reads again. So a
//! pseudo-terminal nobody has opened, a stopped terminal, a full FIFO and a deaf socket cost the guest
//! a fifth of a second and its output, never more (QEMU keeps a UART's THRE low and lets the guest
//! wait). At the end of the program what waits is written as long as somebody reads.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes wait at most.
const ROOM: usize = 64 << 10;
/// How many are written at once.
const PIECE: usize = 4096;
/// How long a processor waits for a peer.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long others wait for a peer that does not read.
const LONG_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of the program takes at most.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a socket makes its writer wait before the next try: what is known of its room is this old.
pub const TRY: Duration = Duration::from_millis(20);
/// A wait before the next try at a peer that has no room and does not make the writer wait.
const PAUSE: Duration = Duration::from_millis(5);

/// The way to a peer; every clone is the same. The last one that goes ends the thread.
#[derive(Clone)]
pub struct Outbox(Arc<Open>);

/// Somebody may still send.
struct Open(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
}

#[derive(Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// How often something was written, or given up.
    moves: u64,
    /// How often what waited was thrown away.
    clears: u64,
    /// The peer did not read in time.
    stalled: bool,
    /// Nobody will send any more.
    closed: bool,
}

impl Outbox {
    /// A way to `writer`, which may take its time: it has a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn new(mut writer: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let carried = Arc::clone(&shared);
        let thread = thread::Builder::new().name("output".to_string());
        thread.spawn(move || carried.carry(&mut *writer))?;
        Ok(Self(Arc::new(Open(shared))))
    }

    /// Sends from a thread of its own: waits for as long as the peer reads at all.
    pub fn send(&self, bytes: &[u8]) {
        self.0.0.push(bytes, None);
    }

    /// Sends from a processor: waits [`PATIENCE`] at most, however the peer reads.
    fn send_soon(&self, bytes: &[u8]) {
        self.0.0.push(bytes, Some(PATIENCE));
    }

    /// Throws away what waits: its reader is gone.
    pub fn clear(&self) {
        let mut queue = self.0.0.lock();
        queue.bytes.clear();
        queue.clears += 1;
        queue.moves += 1;
        queue.stalled = false;
        self.0.0.drained.notify_all();
    }

    /// Waits until all of `all` is written, or nobody reads it.
    pub fn drain(all: &[Self]) {
        let end = Instant::now() + FAREWELL;
        for outbox in all {
            let shared = &outbox.0.0;
            let mut queue = shared.lock();
            while !queue.bytes.is_empty() && Instant::now() < end {
                let moves = queue.moves;
                queue = shared.wait(queue, LONG_PATIENCE, |queue| queue.moves == moves);
                if queue.moves == moves {
                    break;
                }
            }
        }
    }
}

/// As a character backend sends: a processor waits.
impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_soon(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the writer, for `time` at most, while `condition` holds.
    fn wait<'a>(
        &self,
        queue: MutexGuard<'a, Queue>,
        time: Duration,
        mut condition: impl FnMut(&Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        let waited = self
            .drained
            .wait_timeout_while(queue, time, |queue| condition(queue));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for room while the peer reads, but no longer than `most`. What finds none is lost.
    fn push(&self, mut bytes: &[u8], most: Option<Duration>) {
        let mut end = None;
        let mut queue = self.lock();
        loop {
            let taken = bytes.len().min(ROOM.saturating_sub(queue.bytes.len()));
            if taken > 0 {
                queue.bytes.extend(&bytes[..taken]);
                self.filled.notify_one();
                bytes = &bytes[taken..];
            }
            if bytes.is_empty() || queue.stalled {
                return;
            }
            let now = Instant::now();
            let end = *end.get_or_insert_with(|| most.map(|most| now + most));
            let time = end.map_or(LONG_PATIENCE, |end| end.saturating_duration_since(now));
            let moves = queue.moves;
            queue = self.wait(queue, time, |queue| queue.moves == moves);
            if queue.moves == moves {
                queue.stalled |= time >= PATIENCE;
                return;
            }
        }
    }

    fn carry(&self, writer: &mut dyn Write) {
        let mut piece = Vec::with_capacity(PIECE);
        let mut queue = self.lock();
        loop {
            while queue.bytes.is_empty() {
                if queue.closed {
                    return;
                }
                queue = self
                    .filled
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            piece.clear();
            piece.extend(queue.bytes.iter().take(PIECE));
            let clears = queue.clears;
            drop(queue);
            let written = writer.write(&piece).and_then(|count| {
                writer.flush()?;
                Ok(count)
            });
            let done = match written {
                Ok(count) => count.clamp(1, piece.len()),
                Err(error) if is_full(&error) => {
                    thread::sleep(PAUSE);
                    0
                }
                Err(error) => {
                    tracing::debug!(target: "chardev", %error, "output is lost");
                    piece.len()
                }
            };
            queue = self.lock();
            if done > 0 {
                queue.moves += 1;
                queue.stalled = false;
                if queue.clears == clears {
                    queue.bytes.drain(..done);
                }
                self.drained.notify_all();
            }
        }
    }
}

/// There was no room: the next try may find some.
pub fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Takes a piece whenever the test has read the one before.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Outbox, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let outbox = Outbox::new(Box::new(Slow(sender))).expect("a thread");
        (outbox, receiver)
    }

    #[test]
    fn a_deaf_peer_costs_one_wait_and_no_memory() {
        let (mut outbox, reader) = slow();
        let begin = Instant::now();
        for _ in 0..64 {
            outbox.write_all(&[b'x'; ROOM]).expect("taken");
        }
        let took = begin.elapsed();
        assert!(took >= PATIENCE && took < 20 * PATIENCE, "{took:?}");
        assert!(outbox.0.0.lock().bytes.capacity() <= 2 * ROOM);
        // It reads again: what waited comes, and what is sent from now on.
        let mut got = 0;
        while got < ROOM {
            got += reader.recv().expect("a piece").len();
        }
        outbox.write_all(b"again").expect("taken");
        assert_eq!(reader.recv().expect("a piece"), b"again");
    }

    #[test]
    fn a_slow_peer_gets_everything() {
        let (outbox, reader) = slow();
        let sender = thread::spawn(move || outbox.send(&[b'x'; 4 * ROOM]));
        let mut got = 0;
        while let Ok(piece) = reader.recv() {
            got += piece.len();
            thread::sleep(Duration::from_millis(2));
        }
        sender.join().expect("sent");
        assert_eq!(got, 4 * ROOM);
    }

    #[test]
    fn what_was_meant_for_one_peer_does_not_reach_the_next() {
        let (outbox, reader) = slow();
        outbox.send(&[b'x'; 3 * PIECE]);
        outbox.clear();
        outbox.send(b"new");
        // The first piece may have been on its way.
        let first = reader.recv().expect("a piece");
        if first != b"new" {
            assert_eq!(first, [b'x'; PIECE]);
            assert_eq!(reader.recv().expect("a piece"), b"new");
        }
    }
}
