//! What a line asks for.

use super::base64;

/// How many bytes of memory a command may carry or ask for.
pub const MOST_BYTES: usize = 16 << 20;
/// How many bytes one `memset` may fill.
pub const MOST_FILLED: u64 = 1 << 30;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Time goes on by so many nanoseconds; to the next deadline if none are said.
    ClockStep(Option<u64>),
    /// Time goes on to this.
    ClockSet(u64),
    /// IN, of so many bytes.
    In(u16, usize),
    /// OUT.
    Out(u16, usize, u32),
    /// Reads memory, so many bytes at once.
    Load(u64, usize),
    /// Writes memory.
    Store(u64, usize, u64),
    /// Reads a block of memory.
    Read(u64, usize, Form),
    /// Writes a block of memory.
    Write(u64, Vec<u8>),
    /// Fills a block of memory.
    Fill(u64, u64, u8),
    /// Reports the levels of a device's inputs.
    InterceptIn(String),
    /// Reports the levels of a device's outputs.
    InterceptOut(String),
    /// Drives an input of a device.
    SetIrqIn(String, u32, bool),
    /// The byte order.
    Endianness,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As digits of base 16 behind `0x`.
    Hex,
    /// As base64.
    Base64,
}

/// Why a line is no command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is none of that name.
    #[error("Unknown command '{0}'")]
    Unknown(String),
    /// Something is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word is no number.
    #[error("'{0}' is no number")]
    Number(String),
    /// There is more than the command takes.
    #[error("'{0}' is too much")]
    More(String),
    /// The data are none.
    #[error("the data are not {0}")]
    Data(&'static str),
    /// It is more than can be done.
    #[error("{0} bytes are too many")]
    Size(u64),
    /// Named wires do not exist here.
    #[error("there is no input named '{0}'")]
    Name(String),
}

/// The words behind the command.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &'static str) -> Result<&'a str, CommandError> {
        let next = self.0.find(|word| !word.is_empty());
        next.ok_or(CommandError::Missing(what))
    }

    fn number(&mut self, what: &'static str) -> Result<u64, CommandError> {
        number(self.next(what)?)
    }

    fn size(&mut self) -> Result<usize, CommandError> {
        let size = self.number("the size")?;
        match usize::try_from(size) {
            Ok(fits) if fits <= MOST_BYTES => Ok(fits),
            _ => Err(CommandError::Size(size)),
        }
    }

    fn end(mut self) -> Result<(), CommandError> {
        match self.next("") {
            Ok(more) => Err(CommandError::More(more.to_string())),
            Err(_) => Ok(()),
        }
    }
}

/// A number as C writes it: decimal, `0x` and `0` for the other bases; a minus is the two's complement.
fn number(word: &str) -> Result<u64, CommandError> {
    let wrong = || CommandError::Number(word.to_string());
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.starts_with('+') {
        return Err(wrong());
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| wrong())?;
    Ok(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// The bytes of `write`: digits behind `0x`.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

/// The width that the last letter of a command says.
fn width(letter: char) -> usize {
    match letter {
        'b' => 1,
        'w' => 2,
        'l' => 4,
        _ => 8,
    }
}

impl Command {
    /// What a line says; `None` for an empty one.
    ///
    /// # Errors
    /// If it is no command.
    pub fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        let mut words = Words(line.trim_end_matches('\r').split(' '));
        let Ok(name) = words.next("") else {
            return Ok(None);
        };
        let words = &mut words;
        let command = match name {
            "clock_step" => match words.number("") {
                Err(CommandError::Missing(_)) => Self::ClockStep(None),
                step => Self::ClockStep(Some(step?)),
            },
            "clock_set" => Self::ClockSet(words.number("the time")?),
            "endianness" => Self::Endianness,
            "irq_intercept_in" => Self::InterceptIn(words.next("the device")?.into()),
            "irq_intercept_out" => Self::InterceptOut(words.next("the device")?.into()),
            "set_irq_in" => Self::set_irq_in(words)?,
            "read" => Self::Read(words.number("the address")?, words.size()?, Form::Hex),
            "b64read" => Self::Read(words.number("the address")?, words.size()?, Form::Base64),
            "write" | "b64write" => Self::write(name, words)?,
            "memset" => {
                let (at, size) = (words.number("the address")?, words.number("the size")?);
                if size > MOST_FILLED {
                    return Err(CommandError::Size(size));
                }
                Self::Fill(at, size, words.number("the value")? as u8)
            }
            _ => match Self::access(name, words)? {
                Some(command) => command,
                None => return Err(CommandError::Unknown(name.to_string())),
            },
        };
        let rest = std::mem::replace(words, Words("".split(' ')));
        rest.end()?;
        Ok(Some(command))
    }

    /// `inb` to `outl`, `readb` to `writeq`.
    fn access(name: &str, words: &mut Words<'_>) -> Result<Option<Self>, CommandError> {
        let Some((at, letter)) = name.char_indices().next_back() else {
            return Ok(None);
        };
        let count = width(letter);
        Ok(match (&name[..at], letter) {
            ("in", 'b' | 'w' | 'l') => Some(Self::In(words.number("the port")? as u16, count)),
            ("out", 'b' | 'w' | 'l') => {
                let port = words.number("the port")? as u16;
                Some(Self::Out(port, count, words.number("the value")? as u32))
            }
            ("read", 'b' | 'w' | 'l' | 'q') => {
                Some(Self::Load(words.number("the address")?, count))
            }
            ("write", 'b' | 'w' | 'l' | 'q') => {
                let at = words.number("the address")?;
                Some(Self::Store(at, count, words.number("the value")?))
            }
            _ => None,
        })
    }

    fn set_irq_in(words: &mut Words<'_>) -> Result<Self, CommandError> {
        let path = words.next("the device")?.to_string();
        let name = words.next("the name of the input")?;
        if name != "unnamed-gpio-in" {
            return Err(CommandError::Name(name.to_string()));
        }
        let input = words.number("the input")?;
        let input = u32::try_from(input).unwrap_or(u32::MAX);
        Ok(Self::SetIrqIn(path, input, words.number("the level")? != 0))
    }

    fn write(name: &str, words: &mut Words<'_>) -> Result<Self, CommandError> {
        let (at, size) = (words.number("the address")?, words.size()?);
        let text = words.next("the data")?;
        let (bytes, what) = match name {
            "write" => (hex(text), "0x and pairs of digits"),
            _ => (base64::decode(text.as_bytes()), "base64"),
        };
        let mut bytes = bytes.ok_or(CommandError::Data(what))?;
        // What is not said is zero.
        bytes.resize(size, 0);
        Ok(Self::Write(at, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, String> {
        Command::parse(line).map_err(|error| error.to_string())
    }

    #[test]
    fn commands() {
        for (line, command) in [
            ("clock_step", Command::ClockStep(None)),
            ("clock_step 100", Command::ClockStep(Some(100))),
            ("clock_set 0x10", Command::ClockSet(16)),
            ("inb 0x71", Command::In(0x71, 1)),
            ("outl 0xcf8 0x80000000", Command::Out(0xCF8, 4, 1 << 31)),
            ("readq 010", Command::Load(8, 8)),
            ("writew  7 -1", Command::Store(7, 2, u64::MAX)),
            ("read 1 2\r", Command::Read(1, 2, Form::Hex)),
            ("write 1 3 0x0aFf", Command::Write(1, vec![10, 255, 0])),
            ("b64write 1 1 Zg==", Command::Write(1, vec![b'f'])),
            ("memset 1 2 3", Command::Fill(1, 2, 3)),
        ] {
            assert_eq!(parse(line), Ok(Some(command)), "{line}");
        }
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("  \r"), Ok(None));
    }

    #[test]
    fn mistakes() {
        for (line, problem) in [
            ("frob", "Unknown command 'frob'"),
            ("inq 1", "Unknown command 'inq'"),
            ("\u{e4}", "Unknown command '\u{e4}'"),
            ("inb", "the port is missing"),
            ("inb x", "'x' is no number"),
            ("inb 0x", "'0x' is no number"),
            ("inb 1 2", "'2' is too much"),
            ("outb 1", "the value is missing"),
            (
                "read 0 0xffffffffffffffff",
                "18446744073709551615 bytes are too many",
            ),
            (
                "memset 0 0xffffffffff 1",
                "1099511627775 bytes are too many",
            ),
            ("write 0 1 ff", "the data are not 0x and pairs of digits"),
            ("write 0 1 0xf", "the data are not 0x and pairs of digits"),
            ("b64write 0 1 f", "the data are not base64"),
            ("set_irq_in a b 1 1", "there is no input named 'b'"),
        ] {
            assert_eq!(parse(line), Err(problem.to_string()), "{line}");
        }
    }
}
