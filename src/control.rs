//! A machine from other threads: what it is asked between two instructions, and what it tells.

use std::sync::mpsc;
use std::sync::{Arc, Weak};

use accel::DebugStop;
use devices::backend::chardev::Chardev;

use crate::machine::{Machine, Shared};

/// What the machine's thread does between two instructions.
pub(crate) type Job = Box<dyn FnOnce(&mut Machine) + Send>;

/// Why a machine stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It was built so (`-S`).
    Prelaunch,
    /// Somebody asked for it.
    User,
    /// The processor met what a debugger had set.
    Debug(DebugStop),
    /// The guest turned it off, and the user wants to look at it (`-no-shutdown`).
    Shutdown,
}

impl Pause {
    /// As `info status` tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prelaunch => "prelaunch",
            Self::User => "paused",
            Self::Debug(_) => "debug",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What a machine tells who [`Machine::watch`]es it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It stands still.
    Paused(Pause),
    /// It goes on.
    Resumed,
}

/// A machine, as other threads reach it.
#[derive(Clone)]
pub struct Control(Weak<Shared>);

impl Control {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Makes [`Machine::run`] return soon.
    pub fn quit(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.want(|wanted| wanted.quit = true);
        }
    }

    /// Runs `question` on the machine's thread, between two instructions, whether the machine stands
    /// still or not. `None` if its run is over.
    pub fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, receiver) = mpsc::channel();
        let job = move |machine: &mut Machine| {
            // Who asked may be gone.
            let _ = sender.send(question(machine));
        };
        let shared = self.0.upgrade()?;
        shared.want(|wanted| wanted.jobs.push(Box::new(job)));
        // The machine's end must not wait for this thread.
        drop(shared);
        receiver.recv().ok()
    }

    /// Where input for a device is fed, through its character backend.
    pub fn input(&self, device: &'static str, chardev: Chardev) -> Input {
        Input {
            shared: Weak::clone(&self.0),
            device,
            chardev,
        }
    }
}

/// Feeds input to a device of a machine from another thread.
#[derive(Clone)]
pub struct Input {
    shared: Weak<Shared>,
    device: &'static str,
    chardev: Chardev,
}

impl Input {
    /// Feeds bytes; returns how many were taken (the rest: try again later), `None` if the machine
    /// is gone.
    pub fn feed(&self, bytes: &[u8]) -> Option<usize> {
        let shared = self.shared.upgrade()?;
        let taken = self.chardev.feed(bytes);
        shared.poll_device(self.device);
        Some(taken)
    }
}
