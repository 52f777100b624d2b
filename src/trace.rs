//! `-d`: what a software CPU shows of its work, in readable lines.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use accel::{MakeObserver, Observer};
use emu::Cpu;
use emu::event::Delivered;
use iced_x86::{Decoder, DecoderOptions, FastFormatter, Instruction};

/// Where log lines go; every clone is the same stream.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Box<dyn Write + Send>>>);

impl Log {
    /// A log that goes to `output`.
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    /// Writes one line; a full disk loses it.
    pub fn line(&self, line: std::fmt::Arguments<'_>) {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output
            .write_fmt(line)
            .and_then(|()| output.write_all(b"\n"));
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

/// What `-d` chose of the software CPU's items.
#[derive(Clone, Copy, Debug, Default)]
pub struct Items {
    /// `int`.
    pub events: bool,
    /// `in_asm`.
    pub translated: bool,
    /// `exec`.
    pub executed: bool,
    /// `cpu`.
    pub registers: bool,
}

impl Items {
    /// The items among names of `-d`.
    pub fn of(names: &[&str]) -> Self {
        let has = |name| names.contains(&name);
        Self {
            events: has("int"),
            translated: has("in_asm"),
            executed: has("exec"),
            registers: has("cpu"),
        }
    }

    /// What makes an observer for each processor; `None` if nothing was chosen.
    pub fn observer(self, log: &Log) -> Option<MakeObserver> {
        if !(self.events || self.translated || self.executed || self.registers) {
            return None;
        }
        let log = log.clone();
        Some(Arc::new(move || {
            let tracer = Tracer {
                items: self,
                log: log.clone(),
            };
            Some(Box::new(tracer) as Box<dyn Observer>)
        }))
    }
}

struct Tracer {
    items: Items,
    log: Log,
}

/// The instructions of `bytes`, with their addresses.
fn disassemble(rip: u64, bitness: u32, bytes: &[u8]) -> Vec<(u64, String)> {
    let mut formatter = FastFormatter::new();
    let text = |insn: Instruction| {
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        (insn.ip(), text)
    };
    Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE)
        .into_iter()
        .map(text)
        .collect()
}

impl Observer for Tracer {
    fn translated(&mut self, rip: u64, bitness: u32, bytes: &[u8]) {
        if !self.items.translated {
            return;
        }
        self.log
            .line(format_args!("in_asm: block at {rip:#x}, {bitness}-bit"));
        for (ip, text) in disassemble(rip, bitness, bytes) {
            self.log.line(format_args!("  {ip:#010x}  {text}"));
        }
    }

    fn executing(&mut self, cpu: &Cpu) -> bool {
        if !(self.items.executed || self.items.registers) {
            return false;
        }
        let state = cpu.state();
        if self.items.executed {
            let cs = state.segments[1].selector;
            let count = cpu.retired();
            self.log.line(format_args!(
                "exec: {count:>10} {cs:04x}:{:016x}",
                state.rip
            ));
        }
        if self.items.registers {
            for (row, values) in state.gpr.chunks(4).enumerate() {
                let text: Vec<String> = values.iter().map(|v| format!("{v:016x}")).collect();
                self.log
                    .line(format_args!("cpu: r{:<2} {}", row * 4, text.join(" ")));
            }
            let (flags, cr0, cr3) = (state.rflags.bits(), state.cr0.bits(), state.cr3);
            self.log.line(format_args!(
                "cpu: rflags {flags:08x} cr0 {cr0:08x} cr3 {cr3:016x}"
            ));
        }
        true
    }

    fn delivered(&mut self, event: Delivered, cpu: &Cpu) {
        if !self.items.events {
            return;
        }
        let state = cpu.state();
        let (cs, rip, count) = (state.segments[1].selector, state.rip, cpu.retired());
        let what = match event {
            Delivered::Exception(exception) => exception.to_string(),
            Delivered::Interrupt(vector) => format!("interrupt {vector:#04x}"),
            Delivered::Nmi => "NMI".to_string(),
            Delivered::Software(vector) => format!("INT {vector:#04x}"),
        };
        self.log.line(format_args!(
            "int: {count:>10} {what}, handler {cs:04x}:{rip:x}"
        ));
    }
}
