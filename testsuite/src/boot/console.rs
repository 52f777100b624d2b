//! What a guest says: bytes of two pipes become plain text to wait for.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Takes terminal control out of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Filter {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [ , up to a letter.
    Control,
}

impl Filter {
    /// What is left of one byte: line feeds, tabs and printable ASCII.
    fn pass(&mut self, byte: u8) -> Option<char> {
        let (next, out) = match (*self, byte) {
            (_, 0x1B) => (Self::Escape, None),
            (Self::Escape, b'[') | (Self::Control, b' '..=b'?') => (Self::Control, None),
            (Self::Text, b'\n' | b'\t' | b' '..=b'~') => (Self::Text, Some(char::from(byte))),
            _ => (Self::Text, None),
        };
        *self = next;
        out
    }
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    /// Pipes that are still open.
    open: usize,
}

/// All that has come out of a machine so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Console {
    shared: Arc<(Mutex<Heard>, Condvar)>,
}

impl Console {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a pipe in a thread, until it is closed.
    pub(super) fn listen(&self, mut pipe: impl Read + Send + 'static) {
        self.heard().open += 1;
        let console = self.clone();
        thread::spawn(move || {
            let mut filter = Filter::default();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let bytes = buffer.iter().take(n);
                let text: String = bytes.filter_map(|&b| filter.pass(b)).collect();
                console.heard().text.push_str(&text);
                console.shared.1.notify_all();
            }
            console.heard().open -= 1;
            console.shared.1.notify_all();
        });
    }

    /// Waits until `find` finds something in the text from `from` on; `None` at the deadline, or if
    /// nothing more can come.
    pub(super) fn wait<T>(
        &self,
        from: usize,
        deadline: Instant,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let mut heard = self.heard();
        loop {
            if let Some(found) = find(heard.text.get(from..).unwrap_or_default()) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.open == 0 || left == Duration::ZERO {
                return None;
            }
            (heard, _) = (self.shared.1)
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether nothing more can come.
    pub(super) fn closed(&self) -> bool {
        self.heard().open == 0
    }

    /// How much text there is.
    pub(super) fn len(&self) -> usize {
        self.heard().text.len()
    }

    /// The text from `from` on.
    pub(super) fn text(&self, from: usize) -> String {
        self.heard().text.get(from..).unwrap_or_default().to_owned()
    }

    /// The last lines.
    pub(super) fn tail(&self, lines: usize) -> String {
        let heard = self.heard();
        let all: Vec<&str> = heard.text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn control_sequences_leave_no_trace() {
        let mut filter = Filter::default();
        let bytes = b"\x1b[2J\x1b[01;24Hgr\x1b[22;45Hub>\x1b[6n \r\n\x1bM\xe2\x94\x80ls\x08";
        let text: String = bytes.iter().filter_map(|&b| filter.pass(b)).collect();
        assert_eq!(text, "grub> \nls");
    }
}
