//! What comes from gdb.

use std::io::Read;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use crate::socket::{Listener, Peer};

/// A wait before the next connection is taken when one could not be: no busy loop.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Takes connections, one at a time, until nobody listens to what they say.
pub(super) fn serve(listener: &Listener, events: &SyncSender<Event>) {
    loop {
        let accepted = listener
            .accept()
            .and_then(|peer| Ok((peer.try_clone()?, peer)));
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
