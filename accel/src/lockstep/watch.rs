//! Ends slices in which the leader makes no access: the follower is much slower.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{AccelError, Kick};

#[derive(Default)]
struct Shared {
    /// The number of the slice under way; 0 if none is.
    slice: AtomicU64,
    over: AtomicBool,
}

/// A thread that kicks the leader.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    count: u64,
}

impl Watch {
    /// A slice is kicked when it has lasted from one tick to the next.
    pub(super) fn new(kick: Arc<dyn Kick>, tick: Duration) -> Result<Self, AccelError> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("lockstep".into());
        let thread = thread
            .spawn(move || watch(&seen, &*kick, tick))
            .map_err(|source| AccelError::Host {
                call: "starting a thread",
                source,
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            count: 0,
        })
    }

    /// A slice begins.
    pub(super) fn begin(&mut self) {
        self.count += 1;
        self.shared.slice.store(self.count, Ordering::Release);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.shared.slice.store(0, Ordering::Release);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, kick: &dyn Kick, tick: Duration) {
    let mut last = 0;
    while !shared.over.load(Ordering::Acquire) {
        thread::sleep(tick);
        let now = shared.slice.load(Ordering::Acquire);
        if now != 0 && now == last {
            kick.kick();
        }
        last = now;
    }
}
