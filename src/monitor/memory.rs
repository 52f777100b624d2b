//! `x`, `xp`: guest memory by linear and physical address; `print`: values.
//!
//! What is no memory, or behind no page, "cannot be accessed": a device's registers are not read, as reading
//! can have effects. `d` extends the sign of what is narrower than 8 bytes (QEMU prints it without one).

use std::fmt::Write;

use emu::arch::{Efer, Seg, Segment};
use iced_x86::{Decoder, DecoderOptions, FastFormatter};

use super::arguments::Arguments;
use super::commands::Reply;
use super::error::MonitorError;
use super::expression;
use super::{Session, Snapshot};
use crate::inspect::Memory;

/// The most bytes one command shows.
const MOST_BYTES: u64 = 1 << 20;
/// The most instructions or strings.
const MOST_ITEMS: u64 = 1 << 14;
/// The longest instruction.
const LONGEST_INSTRUCTION: usize = 15;
/// How much of a string is shown.
const LONGEST_STRING: usize = 4096;

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    kind: char,
    /// Bytes of a value in memory.
    size: usize,
}

impl Default for Format {
    fn default() -> Self {
        Self { kind: 'x', size: 4 }
    }
}

impl Format {
    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        self.size
    }

    /// What `text` (without its slash) changes of this format, and the count before it.
    pub(super) fn changed(self, text: &str) -> Result<(Self, u64), MonitorError> {
        let letters = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &text[..text.len() - letters.len()];
        let count = match digits {
            "" => 1,
            // More than fits is more than any limit.
            digits => digits.parse().unwrap_or(u64::MAX),
        };
        let mut new = self;
        let mut sized = false;
        for letter in letters.chars() {
            match letter {
                'x' | 'd' | 'u' | 'o' | 'c' | 'i' | 's' => new.kind = letter,
                'b' => (new.size, sized) = (1, true),
                'h' => (new.size, sized) = (2, true),
                'w' => (new.size, sized) = (4, true),
                'g' | 'L' => (new.size, sized) = (8, true),
                other => return Err(MonitorError::Format(other)),
            }
        }
        if new.kind == 'c' && !sized {
            new.size = 1;
        }
        Ok((new, count))
    }

    /// A value read from memory.
    fn show(self, value: u64) -> String {
        let bits = 8 * self.size as u32;
        match self.kind {
            'd' => {
                let unused = 64 - bits;
                let signed = (value << unused) as i64 >> unused;
                format!("{signed:width$}", width = self.decimal_width())
            }
            'u' => format!("{value:width$}", width = self.decimal_width()),
            'o' => {
                let digits = format!("0{value:o}");
                format!("{digits:>width$}", width = bits.div_ceil(3) as usize)
            }
            'c' => character(value),
            _ => format!("{value:#0width$x}", width = 2 + 2 * self.size),
        }
    }

    fn decimal_width(self) -> usize {
        match self.size {
            1 => 3,
            2 => 5,
            4 => 10,
            _ => 20,
        }
    }
}

fn character(value: u64) -> String {
    let byte = value as u8;
    match byte {
        b'\'' => r"'\''".to_string(),
        b'\\' => r"'\\'".to_string(),
        b'\n' => r"'\n'".to_string(),
        b'\r' => r"'\r'".to_string(),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

/// `print`.
pub(super) fn print(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    if let Some(text) = arguments.format() {
        (session.format, _) = session.format.changed(text)?;
    }
    let state = session.snapshot()?.state;
    let value = expression::value(arguments.rest(), &state)?;
    let text = match session.format.kind {
        'x' => format!("{value:#x}"),
        'u' => value.to_string(),
        'o' if value == 0 => "0".to_string(),
        'o' => format!("0{value:o}"),
        'c' => character(value),
        _ => (value as i64).to_string(),
    };
    Ok(text + "\n")
}

/// `x`.
pub(super) fn linear(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    dump(session, arguments, Snapshot::linear)
}

/// `xp`.
pub(super) fn physical(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    dump(session, arguments, |snapshot| {
        Memory::physical(snapshot.map.clone())
    })
}

fn dump(
    session: &mut Session,
    mut arguments: Arguments<'_>,
    memory: fn(&Snapshot) -> Memory,
) -> Reply {
    let (format, count) = match arguments.format() {
        None => (session.format, 1),
        Some(text) => session.format.changed(text)?,
    };
    session.format = format;
    let snapshot = session.snapshot()?;
    let address = expression::value(arguments.rest(), &snapshot.state)?;
    let most = match format.kind {
        'i' | 's' => MOST_ITEMS,
        _ => MOST_BYTES / format.size as u64,
    };
    if count > most {
        let command = arguments.command();
        return Err(MonitorError::Count {
            command,
            count,
            most,
        });
    }
    let memory = memory(&snapshot);
    Ok(match format.kind {
        'i' => instructions(&memory, address, count, bitness(&snapshot)),
        's' => strings(&memory, address, count),
        _ => values(&memory, address, count as usize, format),
    })
}

fn values(memory: &Memory, address: u64, count: usize, format: Format) -> String {
    let mut text = String::new();
    let bytes_in_line = if format.size == 1 { 8 } else { 16 };
    let (mut address, mut left) = (address, count * format.size);
    while left > 0 {
        let mut line = [0; 16];
        let wanted = left.min(bytes_in_line);
        let read = memory.read(address, &mut line[..wanted]);
        let whole = read - read % format.size;
        if whole > 0 {
            let _ = write!(text, "{address:016x}:");
            for bytes in line[..whole].chunks(format.size) {
                let mut value = [0; 8];
                value[..bytes.len()].copy_from_slice(bytes);
                let _ = write!(text, " {}", format.show(u64::from_le_bytes(value)));
            }
            text.push('\n');
        }
        address = address.wrapping_add(whole as u64);
        if whole < wanted {
            let _ = writeln!(text, "{address:016x}: Cannot access memory");
            return text;
        }
        left -= whole;
    }
    text
}

fn strings(memory: &Memory, address: u64, count: u64) -> String {
    let mut text = String::new();
    let (mut address, mut left) = (address, MOST_BYTES as usize);
    for _ in 0..count {
        let mut bytes = Vec::new();
        let begin = address;
        let ends = loop {
            let mut byte = [0];
            if memory.read(address, &mut byte) == 0 {
                let _ = writeln!(text, "{address:016x}: Cannot access memory");
                return text;
            }
            address = address.wrapping_add(1);
            if byte[0] == 0 {
                break true;
            }
            bytes.extend(byte);
            if bytes.len() == LONGEST_STRING {
                break false;
            }
        };
        let dots = if ends { "" } else { "..." };
        let _ = writeln!(text, "{begin:016x}: \"{}\"{dots}", bytes.escape_ascii());
        left = left.saturating_sub(bytes.len() + 1);
        if left == 0 {
            break;
        }
    }
    text
}

/// The size of code that the processor runs: 16, 32 or 64 bits.
fn bitness(snapshot: &Snapshot) -> u32 {
    let state = &snapshot.state;
    let code = &state.segments[Seg::Cs as usize];
    if state.efer.contains(Efer::LMA) && code.has(Segment::L) {
        64
    } else if code.has(Segment::DB) {
        32
    } else {
        16
    }
}

fn instructions(memory: &Memory, address: u64, count: u64, bitness: u32) -> String {
    let mut formatter = FastFormatter::new();
    formatter.options_mut().set_use_hex_prefix(true);
    let mut text = String::new();
    let mut address = address;
    for _ in 0..count {
        let mut bytes = [0; LONGEST_INSTRUCTION];
        let read = memory.read(address, &mut bytes);
        let bytes = &bytes[..read];
        let mut decoder = Decoder::with_ip(bitness, bytes, address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let (len, meaning) = if !instruction.is_invalid() {
            let mut meaning = String::new();
            formatter.format(&instruction, &mut meaning);
            (instruction.len(), meaning)
        } else if read == LONGEST_INSTRUCTION {
            (1, "(bad)".to_string())
        } else {
            let _ = writeln!(text, "{address:#010x}: unable to read memory");
            break;
        };
        let hex: Vec<String> = bytes[..len].iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(text, "{address:#010x}:  {:<24} {meaning}", hex.join(" "));
        address = address.wrapping_add(len as u64);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, value: u64) -> String {
        let (format, _) = Format::default().changed(text).expect("a format");
        format.show(value)
    }

    #[test]
    fn values_have_the_stock_widths() {
        assert_eq!(shown("xb", 0xEA), "0xea");
        assert_eq!(shown("x", 0xEA), "0x000000ea");
        assert_eq!(shown("xg", 1), "0x0000000000000001");
        assert_eq!(shown("ob", 0xEA), "0352");
        assert_eq!(shown("ow", 0xE05BEA), "  070055752");
        assert_eq!(shown("ub", 91), " 91");
        assert_eq!(shown("uw", 14_703_594), "  14703594");
        assert_eq!(shown("db", 0xFF), " -1");
        assert_eq!(shown("dg", u64::MAX), "                  -1");
        assert_eq!(shown("c", 0x41), "'A'");
        assert_eq!(shown("c", 0), r"'\x00'");
    }

    #[test]
    fn formats_are_read_in_any_order() {
        let changed = |text| Format::default().changed(text).expect("a format");
        assert_eq!(changed("3xb"), (Format { kind: 'x', size: 1 }, 3));
        assert_eq!(changed("gd"), (Format { kind: 'd', size: 8 }, 1));
        assert_eq!(changed("0"), (Format { kind: 'x', size: 4 }, 0));
        assert_eq!(changed("99999999999999999999x").1, u64::MAX);
        let refused = Format::default().changed("3q").expect_err("no format");
        assert_eq!(refused.to_string(), "invalid char in format: 'q'");
    }
}
