//! What a script is made of, and what comes of it.

use std::fmt;

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// IN of so many bytes.
    In(u16, u8),
    /// OUT.
    Out(u16, u8, u32),
    /// A read of memory, of so many bytes at once.
    Load(u64, u8),
    /// A write to memory.
    Store(u64, u8, u64),
    /// A block of memory is read.
    Read(u64, u32),
    /// A block of memory is written.
    Write(u64, Vec<u8>),
    /// A pin of the IOAPIC is driven.
    Pin(u8, bool),
    /// An input of the 8259 pair is driven.
    Wire(u8, bool),
    /// Time goes on by about so many nanoseconds; exactly as long as it did on the reference.
    Step(u64),
}

impl fmt::Display for Op {
    /// As a line of the protocol, but for a step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |count: &u8| match count {
            1 => 'b',
            2 => 'w',
            4 => 'l',
            _ => 'q',
        };
        match self {
            Self::In(port, count) => write!(f, "in{} {port:#x}", letter(count)),
            Self::Out(port, count, value) => write!(f, "out{} {port:#x} {value:#x}", letter(count)),
            Self::Load(at, count) => write!(f, "read{} {at:#x}", letter(count)),
            Self::Store(at, count, value) => write!(f, "write{} {at:#x} {value:#x}", letter(count)),
            Self::Read(at, size) => write!(f, "read {at:#x} {size}"),
            Self::Write(at, bytes) => {
                write!(f, "write {at:#x} {} 0x", bytes.len())?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Pin(pin, level) => {
                let level = u8::from(*level);
                write!(f, "set_irq_in ioapic unnamed-gpio-in {pin} {level}")
            }
            Self::Wire(wire, level) => {
                let level = u8::from(*level);
                write!(f, "set_irq_in i8259 unnamed-gpio-in {wire} {level}")
            }
            Self::Step(ns) => write!(f, "clock_step {ns}"),
        }
    }
}

/// What one step answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The line that begins with `OK` or `FAIL`; of a step, the time after it.
    pub answer: String,
    /// Interrupt lines that changed, in order.
    pub irqs: Vec<(u8, bool)>,
}

impl Outcome {
    /// Takes a line of an answer; true if it is the last.
    pub fn take(&mut self, line: &str) -> bool {
        let change = [("IRQ raise ", true), ("IRQ lower ", false)];
        for (prefix, level) in change {
            if let Some(wire) = line.strip_prefix(prefix) {
                self.irqs.push((wire.parse().unwrap_or(u8::MAX), level));
                return false;
            }
        }
        self.answer = line.to_string();
        true
    }

    /// The number in the answer.
    pub fn value(&self) -> Option<u64> {
        let text = self.answer.strip_prefix("OK 0x")?;
        u64::from_str_radix(text, 16).ok()
    }

    /// Replaces the number in the answer.
    pub fn set_value(&mut self, value: u64) {
        let digits = self.answer.len().saturating_sub(5);
        self.answer = format!("OK 0x{value:0digits$x}");
    }

    /// The changes of each line in order, whatever the order among lines.
    fn by_line(&self) -> Vec<(u8, bool)> {
        let mut sorted = self.irqs.clone();
        sorted.sort_by_key(|(wire, _)| *wire);
        sorted
    }

    /// Whether both say the same.
    pub fn agrees(&self, other: &Self) -> bool {
        self.answer == other.answer && self.by_line() == other.by_line()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        self.irqs.iter().take(20).try_for_each(|(wire, level)| {
            write!(f, ", IRQ{wire} {}", if *level { "up" } else { "down" })
        })
    }
}
