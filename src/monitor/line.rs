//! What is typed becomes lines: echo, corrections, history.
//!
//! A line grows to [`MOST`] bytes; the rest of a longer one is dropped, and it is told once. The cursor
//! stands at the line's end: keys that would move it do nothing. Escape sequences other than the
//! arrows up and down, and control characters without a meaning, do nothing either.

use std::collections::VecDeque;

/// The longest line.
pub const MOST: usize = 4096;
/// How many lines the history holds.
const HISTORY: usize = 64;
/// What precedes each line.
pub const PROMPT: &str = "(twin86) ";

/// Clears the screen's line from its beginning.
const CLEAR: &[u8] = b"\r\x1b[K";

const CTRL_C: u8 = 3;
const CTRL_H: u8 = 8;
const TAB: u8 = 9;
const CTRL_N: u8 = 14;
const CTRL_P: u8 = 16;
const CTRL_U: u8 = 21;
const ESCAPE: u8 = 27;
const DELETE: u8 = 127;

/// What a byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line is whole.
    Line(Vec<u8>),
    /// A line ended that was too long.
    TooLong,
    /// The line was abandoned.
    Abandoned,
    /// The user wants what stands here completed.
    Complete,
}

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// ESC has come.
    Begun,
    /// ESC and `[` or `O` have come.
    Sequence,
}

/// The line being typed, and those before it.
#[derive(Debug, Default)]
pub struct Editor {
    line: Vec<u8>,
    too_long: bool,
    after_cr: bool,
    escape: Escape,
    history: VecDeque<Vec<u8>>,
    /// How far back in the history the line comes from; 0 is none of it.
    back: usize,
    /// What was typed before the history was looked at.
    draft: Vec<u8>,
}

impl Editor {
    /// Takes a byte; what the user is to see goes to `echo`.
    pub fn byte(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<Event> {
        let after_cr = std::mem::take(&mut self.after_cr);
        match (self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => {
                self.escape = Escape::Sequence;
                return None;
            }
            (Escape::Sequence, b'0'..=b'9' | b';') => return None,
            (Escape::Sequence, b'A'..=b'Z' | b'a'..=b'z' | b'~') => {
                self.escape = Escape::None;
                match byte {
                    b'A' => self.recall(self.back + 1, echo),
                    b'B' => self.recall(self.back.saturating_sub(1), echo),
                    _ => {}
                }
                return None;
            }
            _ => self.escape = Escape::None,
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                return Some(self.finish(echo));
            }
            CTRL_C => {
                self.clear();
                echo.extend(b"^C\r\n");
                return Some(Event::Abandoned);
            }
            CTRL_U => {
                self.clear();
                self.show(echo);
            }
            CTRL_P => self.recall(self.back + 1, echo),
            CTRL_N => self.recall(self.back.saturating_sub(1), echo),
            CTRL_H | DELETE => self.rub_out(echo),
            TAB if !self.too_long => return Some(Event::Complete),
            ESCAPE => self.escape = Escape::Begun,
            0..b' ' => {}
            _ => self.insert(&[byte], echo),
        }
        None
    }

    /// What has been typed of the line.
    pub fn typed(&self) -> &[u8] {
        &self.line
    }

    /// Adds to the line as if it were typed.
    pub fn insert(&mut self, bytes: &[u8], echo: &mut Vec<u8>) {
        if self.too_long || self.line.len() + bytes.len() > MOST {
            self.too_long = true;
            return;
        }
        self.line.extend(bytes);
        echo.extend(bytes);
    }

    /// Shows the prompt and the line again.
    pub fn show(&self, echo: &mut Vec<u8>) {
        echo.extend(CLEAR);
        echo.extend(PROMPT.as_bytes());
        echo.extend(&self.line);
    }

    fn clear(&mut self) {
        self.line.clear();
        self.too_long = false;
        self.back = 0;
    }

    fn finish(&mut self, echo: &mut Vec<u8>) -> Event {
        echo.extend(b"\r\n");
        let line = std::mem::take(&mut self.line);
        let too_long = self.too_long;
        self.clear();
        if too_long {
            return Event::TooLong;
        }
        let again = self.history.back() == Some(&line);
        if !line.trim_ascii().is_empty() && !again {
            self.history.push_back(line.clone());
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        Event::Line(line)
    }

    /// Takes the last character away, with all its bytes.
    fn rub_out(&mut self, echo: &mut Vec<u8>) {
        if self.too_long {
            return;
        }
        while let Some(byte) = self.line.pop() {
            if byte & 0xC0 != 0x80 {
                echo.extend(b"\x08 \x08");
                break;
            }
        }
    }

    /// Shows the line `back` lines ago instead of this one, if there is one.
    fn recall(&mut self, back: usize, echo: &mut Vec<u8>) {
        if self.too_long || back > self.history.len() || back == self.back {
            return;
        }
        if self.back == 0 {
            self.draft = std::mem::take(&mut self.line);
        }
        self.line = match self.history.len().checked_sub(back) {
            Some(at) if back > 0 => self.history[at].clone(),
            _ => std::mem::take(&mut self.draft),
        };
        self.back = back;
        self.show(echo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut Editor, bytes: &[u8]) -> Vec<Event> {
        let mut echo = Vec::new();
        let events = bytes.iter().filter_map(|b| editor.byte(*b, &mut echo));
        events.collect()
    }

    fn lines(bytes: &[u8]) -> Vec<String> {
        let text = |event| match event {
            Event::Line(line) => String::from_utf8_lossy(&line).into_owned(),
            other => format!("{other:?}"),
        };
        let events = typed(&mut Editor::default(), bytes);
        events.into_iter().map(text).collect()
    }

    #[test]
    fn any_end_of_line_is_one() {
        assert_eq!(lines(b"a\rb\nc\r\nd\r\n\r\ne"), ["a", "b", "c", "d", ""]);
    }

    #[test]
    fn corrections() {
        assert_eq!(lines(b"ax\x7fb\x08\x08\x08\x08c\r"), ["c"]);
        assert_eq!(lines("aé\x7fb\r".as_bytes()), ["ab"]);
        assert_eq!(lines(b"wrong\x15right\r"), ["right"]);
        assert_eq!(lines(b"wrong\x03right\r"), ["Abandoned", "right"]);
        assert_eq!(lines(b"a\x1b[D\x1b[3~\x1bOCb\x00\x01\r"), ["ab"]);
    }

    #[test]
    fn arrows_walk_through_history() {
        let mut editor = Editor::default();
        typed(&mut editor, b"one\rtwo\rtwo\r");
        let line = |event| match event {
            Event::Line(line) => line,
            other => panic!("{other:?}"),
        };
        let mut recalled = |keys: &[u8]| {
            let events = typed(&mut editor, keys);
            events.into_iter().map(line).next_back().unwrap()
        };
        assert_eq!(recalled(b"draft\x1b[A\x1b[A\x1b[A\r"), b"one");
        assert_eq!(recalled(b"dra\x1b[A\x1b[A\x1b[B\x1b[B\x1b[Bft\r"), b"draft");
        assert_eq!(recalled(b"\x10\x10\x0e\r"), b"draft");
    }

    #[test]
    fn a_line_does_not_grow_without_bound() {
        let mut editor = Editor::default();
        let events = typed(&mut editor, &vec![b'x'; 1 << 20]);
        assert!(events.is_empty() && editor.line.capacity() < 2 * MOST);
        assert_eq!(typed(&mut editor, b"\n"), [Event::TooLong]);
        assert_eq!(typed(&mut editor, b"ok\n"), [Event::Line(b"ok".to_vec())]);
    }
}
