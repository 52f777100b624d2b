//! Numbers as the user writes them: `$rip + 4 * (0x10 | 3)`.
//!
//! All is counted in 64 bits and wraps. `&`, `|` and `^` bind least, `+` and `-` more, `*`, `/` and `%` most;
//! `~`, `-` and `+` may stand before a value. A value is a number (decimal, 0x, or octal with a 0 before it), a
//! character in single quotes, a register with a `$`, or an expression in parentheses. `$pc` is
//! the linear address of the next instruction.

use accel::CpuState;
use emu::arch::Seg;

use super::error::{MonitorError, shown};

/// How deep parentheses and signs may stand in each other.
const DEEPEST: u32 = 64;

/// The value of the expression `text`.
pub fn value(text: &str, state: &CpuState) -> Result<u64, MonitorError> {
    let mut parser = Parser {
        rest: text.trim_start(),
        state,
        depth: 0,
    };
    let value = parser.logic()?;
    match parser.rest.chars().next() {
        None => Ok(value as u64),
        Some(c) => Err(MonitorError::Character(c)),
    }
}

struct Parser<'a> {
    rest: &'a str,
    state: &'a CpuState,
    depth: u32,
}

impl<'a> Parser<'a> {
    /// The next character, if it is one of `wanted`.
    fn next_of(&mut self, wanted: &[char]) -> Option<char> {
        let c = self.rest.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = self.rest[c.len_utf8()..].trim_start();
        Some(c)
    }

    /// Takes characters while they are `part` of a word.
    fn word(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn logic(&mut self) -> Result<i64, MonitorError> {
        let mut value = self.sum()?;
        while let Some(operator) = self.next_of(&['&', '|', '^']) {
            let other = self.sum()?;
            value = match operator {
                '&' => value & other,
                '|' => value | other,
                _ => value ^ other,
            };
        }
        Ok(value)
    }

    fn sum(&mut self) -> Result<i64, MonitorError> {
        let mut value = self.product()?;
        while let Some(operator) = self.next_of(&['+', '-']) {
            let other = self.product()?;
            value = match operator {
                '+' => value.wrapping_add(other),
                _ => value.wrapping_sub(other),
            };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<i64, MonitorError> {
        let mut value = self.unary()?;
        while let Some(operator) = self.next_of(&['*', '/', '%']) {
            let other = self.unary()?;
            value = match (operator, other) {
                ('*', _) => value.wrapping_mul(other),
                (_, 0) => return Err(MonitorError::DivisionByZero),
                ('/', _) => value.wrapping_div(other),
                _ => value.wrapping_rem(other),
            };
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result<i64, MonitorError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(MonitorError::Depth);
        }
        let value = match self.next_of(&['+', '-', '~', '(']) {
            Some('+') => self.unary()?,
            Some('-') => self.unary()?.wrapping_neg(),
            Some('~') => !self.unary()?,
            Some(_) => {
                let value = self.logic()?;
                self.next_of(&[')']).ok_or(MonitorError::Parenthesis)?;
                value
            }
            None => self.atom()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn atom(&mut self) -> Result<i64, MonitorError> {
        match self.rest.chars().next() {
            None => Err(MonitorError::EndOfExpression),
            Some('$') => {
                self.rest = &self.rest[1..];
                let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                register(name, self.state)
                    .map(|value| value as i64)
                    .ok_or_else(|| MonitorError::Register(shown(name)))
            }
            Some('\'') => {
                let mut chars = self.rest[1..].chars();
                match (chars.next(), chars.next()) {
                    (Some(c), Some('\'')) => {
                        self.rest = chars.as_str().trim_start();
                        Ok(i64::from(u32::from(c)))
                    }
                    _ => Err(MonitorError::Character('\'')),
                }
            }
            Some(c) if c.is_ascii_digit() => {
                let digits = self.word(|c| c.is_ascii_alphanumeric());
                number(digits).map(|value| value as i64)
            }
            Some(c) => Err(MonitorError::Character(c)),
        }
    }
}

fn number(text: &str) -> Result<u64, MonitorError> {
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let parsed = match (hex, text.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8),
        _ => text.parse(),
    };
    parsed.map_err(|_| MonitorError::Number(shown(text)))
}

/// The names of the general registers as they were before there were eight more, by number.
const OLD: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
/// The segment registers by number.
const SEGMENTS: [(&str, Seg); 8] = [
    ("es", Seg::Es),
    ("cs", Seg::Cs),
    ("ss", Seg::Ss),
    ("ds", Seg::Ds),
    ("fs", Seg::Fs),
    ("gs", Seg::Gs),
    ("ldtr", Seg::Ldtr),
    ("tr", Seg::Tr),
];

/// The value of the register `name`.
fn register(name: &str, state: &CpuState) -> Option<u64> {
    let name = name.to_ascii_lowercase();
    if let Some(value) = general(&name, state) {
        return Some(value);
    }
    if let Some((_, segment)) = SEGMENTS.iter().find(|(n, _)| *n == name) {
        return Some(state.segments[*segment as usize].selector.into());
    }
    if let Some(of) = name.strip_suffix(".base") {
        let (_, segment) = SEGMENTS.iter().find(|(n, _)| *n == of)?;
        return Some(state.segments[*segment as usize].base);
    }
    Some(match name.as_str() {
        "rip" => state.rip,
        "eip" => state.rip & 0xFFFF_FFFF,
        "pc" => next_instruction(state),
        "rflags" | "eflags" => state.rflags.bits(),
        "cr0" => state.cr0.bits(),
        "cr2" => state.cr2,
        "cr3" => state.cr3,
        "cr4" => state.cr4.bits(),
        "efer" => state.efer.bits(),
        "dr0" => state.dr[0],
        "dr1" => state.dr[1],
        "dr2" => state.dr[2],
        "dr3" => state.dr[3],
        "dr6" => state.dr6,
        "dr7" => state.dr7,
        "gdtr" => state.gdtr.base,
        "idtr" => state.idtr.base,
        _ => return None,
    })
}

/// RAX and its parts, R8 and its parts.
fn general(name: &str, state: &CpuState) -> Option<u64> {
    let old = |name: &str| OLD.iter().position(|n| *n == name);
    let (index, bits) = if let Some(numbered) = name.strip_prefix('r')
        && numbered.starts_with(|c: char| c.is_ascii_digit())
    {
        let (digits, bits) = match numbered.strip_suffix(['d', 'w', 'b']) {
            None => (numbered, 64),
            Some(digits) if numbered.ends_with('d') => (digits, 32),
            Some(digits) if numbered.ends_with('w') => (digits, 16),
            Some(digits) => (digits, 8),
        };
        let index: usize = digits.parse().ok().filter(|n| (8..16).contains(n))?;
        (index, bits)
    } else if let Some(index) = name.strip_prefix('r').and_then(old) {
        (index, 64)
    } else if let Some(index) = name.strip_prefix('e').and_then(old) {
        (index, 32)
    } else if let Some(index) = old(name) {
        (index, 16)
    } else {
        let letter = name.strip_suffix(['l', 'h'])?;
        let index = ["a", "c", "d", "b"].iter().position(|n| *n == letter)?;
        if name.ends_with('h') {
            return Some(state.gpr[index] >> 8 & 0xFF);
        }
        (index, 8)
    };
    Some(state.gpr[index] & u64::MAX >> (64 - bits))
}

/// The linear address of the next instruction.
pub fn next_instruction(state: &CpuState) -> u64 {
    let address = state.segments[Seg::Cs as usize]
        .base
        .wrapping_add(state.rip);
    if state.efer.contains(emu::arch::Efer::LMA) {
        address
    } else {
        address & 0xFFFF_FFFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_value(text: &str) -> String {
        let mut state = CpuState::reset(0x0006_0FB1);
        state.gpr[0] = 0x1122_3344_5566_7788;
        state.gpr[9] = u64::MAX;
        match value(text, &state) {
            Ok(value) => format!("{value:#x}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn expressions() {
        for (text, expected) in [
            ("1", "0x1"),
            ("010 + 10 + 0x10", "0x22"),
            ("(1+2)*3&6|8^1", "0x9"),
            ("2+3*4", "0xe"),
            ("-1", "0xffffffffffffffff"),
            ("~1 & 0xff", "0xfe"),
            ("- - 5 % 3", "0x2"),
            ("'a'", "0x61"),
            ("$rip+3*2", "0xfff6"),
            ("$pc", "0xfffffff0"),
            ("$cs.base + $EIP", "0xfffffff0"),
            ("$rax", "0x1122334455667788"),
            ("$eax - $ax", "0x55660000"),
            ("$ah*0x100+$al", "0x7788"),
            ("$r9d", "0xffffffff"),
            ("$r9b", "0xff"),
            ("-9223372036854775808 / -1", "0x8000000000000000"),
        ] {
            assert_eq!(shown_value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression() {
        let deep = "(".repeat(4000);
        for (text, expected) in [
            ("", "unexpected end of expression"),
            ("1+", "unexpected end of expression"),
            ("1 2", "invalid char '2' in expression"),
            ("(1", "')' expected"),
            ("1/0", "division by zero"),
            ("5%(1-1)", "division by zero"),
            ("$foo", "unknown register: $foo"),
            ("$r16", "unknown register: $r16"),
            ("$", "unknown register: $"),
            ("0x", "invalid number: 0x"),
            ("089", "invalid number: 089"),
            (
                "99999999999999999999",
                "invalid number: 99999999999999999999",
            ),
            ("é", "invalid char 'é' in expression"),
            ("'", "invalid char ''' in expression"),
            (&deep, "expression too deep"),
            (&"-".repeat(4000), "expression too deep"),
        ] {
            assert_eq!(shown_value(text), expected, "{text}");
        }
    }
}
