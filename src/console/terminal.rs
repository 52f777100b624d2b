//! The terminal on standard input in raw mode.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};

/// The terminal on standard input, if there is one; it is put back when this is dropped.
#[derive(Default)]
pub struct Terminal(Mutex<Option<Modes>>);

/// How the terminal was, and how the guest wants it.
struct Modes {
    before: Termios,
    raw: Termios,
}

impl Terminal {
    /// Makes the terminal raw: keys come one by one and are not echoed. Output goes as before. With
    /// `signals`, Ctrl-C and its like still are signals; otherwise they are the guest's keys.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn make_raw(&self, signals: bool) -> io::Result<()> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(());
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.input_flags -= InputFlags::IGNBRK
            | InputFlags::BRKINT
            | InputFlags::PARMRK
            | InputFlags::ISTRIP
            | InputFlags::INLCR
            | InputFlags::IGNCR
            | InputFlags::ICRNL
            | InputFlags::IXON;
        raw.local_flags -=
            LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::IEXTEN;
        if !signals {
            raw.local_flags -= LocalFlags::ISIG;
        }
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&input, SetArg::TCSANOW, &raw)?;
        *self.lock() = Some(Modes { before, raw });
        Ok(())
    }

    /// Puts the terminal back for as long as the program is stopped.
    pub fn give_back(&self) {
        self.set(|modes| &modes.before);
    }

    /// Makes it raw again, if it was.
    pub fn take_again(&self) {
        self.set(|modes| &modes.raw);
    }

    /// Puts the terminal back for good.
    pub fn put_back(&self) {
        self.give_back();
        *self.lock() = None;
    }

    fn set(&self, which: impl Fn(&Modes) -> &Termios) {
        // In the background it is another's; SIGCONT comes again with the foreground.
        if let Some(modes) = &*self.lock()
            && tcgetpgrp(io::stdin()) == Ok(getpgrp())
        {
            // The terminal may be gone: then there is nothing to set.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, which(modes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Modes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.put_back();
    }
}
