//! The escape key of a serial console that shares the terminal: Ctrl-A, as in QEMU's `mon:stdio`.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What Ctrl-A h says.
const HELP: &str = "\
Ctrl-A h    this help
Ctrl-A x    end twin86
Ctrl-A c    switch between the guest and the monitor
Ctrl-A Ctrl-A  send Ctrl-A";

/// Finds escapes in what the user types.
#[derive(Debug, Default)]
pub struct Escape {
    armed: bool,
}

/// What a byte typed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// It goes to the guest.
    Byte(u8),
    /// The run shall end.
    Quit,
    /// The next of those who share the stream gets what is typed.
    Switch,
    /// The user is told this.
    Say(&'static str),
}

impl Escape {
    /// Takes one byte; `None` if it is half of an escape, or means nothing.
    pub fn key(&mut self, byte: u8) -> Option<Key> {
        if !self.armed {
            self.armed = byte == ESCAPE;
            return (!self.armed).then_some(Key::Byte(byte));
        }
        self.armed = false;
        match byte {
            ESCAPE | b'a' => Some(Key::Byte(ESCAPE)),
            b'x' => Some(Key::Quit),
            b'h' | b'?' => Some(Key::Say(HELP)),
            b'c' => Some(Key::Switch),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        bytes.iter().filter_map(|b| escape.key(*b)).collect()
    }

    #[test]
    fn ctrl_a_and_a_letter_are_not_the_guests() {
        assert_eq!(
            keys(b"a\x01xb"),
            [Key::Byte(b'a'), Key::Quit, Key::Byte(b'b')]
        );
        assert_eq!(keys(b"\x01\x01x"), [Key::Byte(1), Key::Byte(b'x')]);
        assert_eq!(keys(b"\x01h\x01c"), [Key::Say(HELP), Key::Switch]);
        assert_eq!(keys(b"\x01qq"), [Key::Byte(b'q')]);
    }
}
