//! The terminal on standard input in raw mode.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};

/// The one terminal that a process can have on its standard input, while it is raw.
static MODES: Mutex<Option<Modes>> = Mutex::new(None);

/// How the terminal was, and how the guest wants it.
struct Modes {
    before: Termios,
    raw: Termios,
}

/// The terminal is raw while this lives; it is put back when this is dropped.
#[derive(Debug)]
pub struct Raw(());

/// Puts the terminal back for as long as the program is stopped.
pub fn give_back() {
    set(|modes| &modes.before);
}

/// Makes it raw again, if it was.
pub fn take_again() {
    set(|modes| &modes.raw);
}

fn set(which: impl Fn(&Modes) -> &Termios) {
    let modes = MODES.lock().unwrap_or_else(PoisonError::into_inner);
    // In the background it is another's; SIGCONT comes again with the foreground.
    if let Some(modes) = &*modes
        && tcgetpgrp(io::stdin()) == Ok(getpgrp())
    {
        // The terminal may be gone: then there is nothing to set.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, which(modes));
    }
}

impl Raw {
    /// Makes the terminal raw: keys come one by one and are not echoed. Output goes as before. With
    /// `signals`, Ctrl-C and its like still are signals; otherwise they are the guest's keys.
    ///
    /// `None` if standard input is no terminal.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn enter(signals: bool) -> io::Result<Option<Self>> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(None);
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
        let mut modes = MODES.lock().unwrap_or_else(PoisonError::into_inner);
        *modes = Some(Modes { before, raw });
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
        *MODES.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
