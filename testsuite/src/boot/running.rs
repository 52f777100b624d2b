//! A machine that runs: wait for words, type, measure, see it end.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Usage;
use super::console::Console;

/// A boot takes less than this even on a busy host.
pub const BOOT: Duration = Duration::from_secs(180);
/// What the guest's shell asks with.
pub const PROMPT: &str = "guest# ";
/// How much of the console a failure shows.
const TAIL: usize = 40;
/// Words after which nothing good comes.
const FATAL: &[&str] = &["end Kernel panic"];
/// A typist's pace: the BIOS takes a key at each of its 18.2 ticks a second.
const KEYSTROKE: Duration = Duration::from_millis(70);

/// What a command in the guest gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its exit status.
    pub status: u8,
    /// What it printed, and what the kernel said meanwhile.
    pub text: String,
}

/// A machine that runs; it is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    /// What it means that the emulator ends with status 0 too early.
    end: &'static str,
    input: Option<ChildStdin>,
    console: Console,
    /// How far the console has been looked at.
    seen: usize,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let line = format!("{command:?}").replace('"', "");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        let console = Console::default();
        console.listen(child.stdout.take().expect("a pipe"));
        console.listen(child.stderr.take().expect("a pipe"));
        Self {
            input: child.stdin.take(),
            child,
            line,
            end: "the emulator has ended",
            console,
            seen: 0,
        }
    }

    /// Says what it means that the emulator ends with status 0 before it is asked to.
    pub(crate) fn end_means(&mut self, end: &'static str) {
        self.end = end;
    }

    /// The emulator's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the emulator is gone.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// How the emulator has ended, if it has.
    fn ended(&mut self) -> String {
        // The pipes close a moment before the process is gone.
        if self.console.closed() {
            thread::sleep(Duration::from_millis(200));
        }
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => format!("{} ({status}): ", self.end),
            Ok(Some(status)) => format!("the emulator has died ({status}): "),
            _ => String::new(),
        }
    }

    #[track_caller]
    fn fail(&mut self, what: &str) -> ! {
        let ended = self.ended();
        let (line, tail) = (&self.line, self.console.tail(TAIL));
        panic!("{ended}{what}\n  {line}\n--- the console's last lines:\n{tail}\n---");
    }

    /// Waits for one of `words` and says which came first; the next wait begins behind it.
    ///
    /// # Panics
    /// If none comes in time, or the guest dies.
    #[track_caller]
    pub fn wait_for_any(&mut self, words: &[&str], time: Duration) -> usize {
        let deadline = Instant::now() + time;
        let found = self.console.wait(self.seen, deadline, |text| {
            let places = words.iter().enumerate();
            let first = places.filter_map(|(n, word)| Some((text.find(word)? + word.len(), n)));
            match first.min() {
                None if FATAL.iter().any(|f| text.contains(f)) => Some(None),
                None => None,
                found => Some(found),
            }
        });
        match found {
            Some(Some((at, which))) => {
                self.seen += at;
                which
            }
            Some(None) => self.fail("the guest has died"),
            None if self.console.closed() => self.fail(&format!("it has ended without {words:?}")),
            None => self.fail(&format!("no {words:?} within {time:?}")),
        }
    }

    /// Waits for `word`.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_for(&mut self, word: &str, time: Duration) {
        self.wait_for_any(&[word], time);
    }

    /// Waits for the shell.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn boot(&mut self) {
        self.wait_for(PROMPT, BOOT);
    }

    /// Sends bytes at once, from a thread of its own: the machine may take them slowly.
    ///
    /// # Panics
    /// If the machine is gone.
    #[track_caller]
    pub fn paste(&mut self, bytes: &[u8]) {
        let Some(mut input) = self.input.take() else {
            self.fail("standard input is closed");
        };
        let bytes = bytes.to_vec();
        let writer = thread::spawn(move || {
            let sent = input.write_all(&bytes).and_then(|()| input.flush());
            (input, sent)
        });
        let deadline = Instant::now() + BOOT;
        while !writer.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if !writer.is_finished() {
            self.fail("the machine takes no input");
        }
        let (input, sent) = writer.join().expect("a writer");
        self.input = Some(input);
        if let Err(error) = sent {
            self.fail(&format!("the machine takes no input: {error}"));
        }
    }

    /// Types a line as a person does, key by key, with Enter.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        for key in line.bytes().chain([b'\r']) {
            self.paste(&[key]);
            thread::sleep(KEYSTROKE);
        }
    }

    /// Has the guest's shell run `line` and waits until it has.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn command(&mut self, line: &str, time: Duration) -> Reply {
        let begin = self.console.len();
        self.seen = begin;
        // The echo of this holds no digit between the signs.
        self.paste(format!("{line}; echo \"=$?=\"\n").as_bytes());
        let deadline = Instant::now() + time;
        let reply = self.console.wait(begin, deadline, |text| {
            let (at, status) = status(text)?;
            // The prompt, so that what is typed next is echoed once.
            text.get(at..)?.contains(PROMPT).then(|| Reply {
                status,
                text: text[..at].split_once('\n').unwrap_or_default().1.to_owned(),
            })
        });
        let Some(reply) = reply else {
            self.fail(&format!("{line}: not done within {time:?}"));
        };
        self.seen = self.console.len();
        reply
    }

    /// Has the guest's shell run `line`, which succeeds: what it printed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn succeed(&mut self, line: &str, time: Duration) -> String {
        let reply = self.command(line, time);
        if reply.status != 0 {
            self.fail(&format!("{line}: status {}", reply.status));
        }
        reply.text
    }

    /// All that has come out of it.
    pub fn log(&self) -> String {
        self.console.text(0)
    }

    /// What it has used until now.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        let usage = Usage::of(self.child.id());
        usage.unwrap_or_else(|| panic!("{}: the emulator has ended", self.line))
    }

    /// Waits for the emulator's end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn ends(mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.fail("the emulator does not end");
    }

    /// Turns the guest off by its own command: the emulator ends with status 0.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn power_off(mut self) {
        self.paste(b"poweroff -f\n");
        self.wait_for("Power down", BOOT);
        let line = self.line.clone();
        let status = self.ends(Duration::from_secs(30));
        assert!(status.success(), "{line}: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first `=NUMBER=` and where it ends.
fn status(text: &str) -> Option<(usize, u8)> {
    text.match_indices('=').find_map(|(at, _)| {
        let digits = text.get(at + 1..)?.split('=').next()?;
        Some((at, digits.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_status_is_not_in_the_echo() {
        let echo = "a=1 sleep 1; echo \"=$?=\"\nx=y\n";
        assert_eq!(super::status(echo), None);
        let text = format!("{echo}=13=\nguest# ");
        assert_eq!(super::status(&text), Some((echo.len(), 13)));
    }
}
