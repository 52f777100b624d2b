//! Telnet: RFC 854, 855; options echo (RFC 857), suppress go-ahead (RFC 858), binary (RFC 856).

const IAC: u8 = 255;
const DONT: u8 = 254;
const WILL: u8 = 251;
const DO: u8 = 253;
const SB: u8 = 250;
const SE: u8 = 240;

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

/// What a server says first: it echoes, both send at any time, and all eight bits.
#[rustfmt::skip]
pub const GREETING: &[u8] = &[
    IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY,
];

/// Takes commands out of what a peer sends. Its answers need no answer: what it may refuse is only
/// comfort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Data.
    #[default]
    Data,
    /// IAC was read.
    Command,
    /// A command with an option, which comes next.
    Option,
    /// Inside a subnegotiation.
    Sub,
    /// IAC inside it.
    SubCommand,
}

impl Filter {
    /// Takes one byte; returns it if it is data.
    pub fn byte(&mut self, byte: u8) -> Option<u8> {
        let (next, data) = match (*self, byte) {
            (Self::Data, IAC) => (Self::Command, None),
            (Self::Data, _) => (Self::Data, Some(byte)),
            (Self::Command, IAC) => (Self::Data, Some(IAC)),
            (Self::Command, WILL..=DONT) => (Self::Option, None),
            (Self::Command, SB) => (Self::Sub, None),
            (Self::Sub, IAC) => (Self::SubCommand, None),
            (Self::SubCommand, SE) | (Self::Command | Self::Option, _) => (Self::Data, None),
            (Self::Sub | Self::SubCommand, _) => (Self::Sub, None),
        };
        *self = next;
        data
    }
}

/// Data as it is sent: IAC doubled.
pub fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        out.push(byte);
        if byte == IAC {
            out.push(IAC);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8]) -> Vec<u8> {
        let mut filter = Filter::default();
        bytes.iter().filter_map(|b| filter.byte(*b)).collect()
    }

    #[test]
    fn commands_are_not_data() {
        assert_eq!(data(b"a\xFF\xFD\x01b"), b"ab");
        assert_eq!(data(b"\xFF\xFA\x18\x00xterm\xFF\xF0c\xFF\xF1d"), b"cd");
        assert_eq!(data(b"\xFF\xFA\xFF\xFF\xFF\xF0e"), b"e");
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(data(&escaped(&all)), all);
    }
}
