//! What a command does, and the answer.

use std::fmt::Write as _;
use std::sync::Arc;

use devices::memory_map::Target;
use emu::io::CpuIo;

use super::base64;
use super::command::{Command, Form};
use super::watch::{Watch, Watched};
use crate::machine::Machine;

/// The last lines of a path that name a device.
const NAMES: [(&str, Watched); 3] = [
    ("ioapic", Watched::IoApic),
    ("i8259", Watched::Pic),
    ("isa-i8259", Watched::Pic),
];

/// Why a command is not done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Failed {
    #[error("Unknown device")]
    Device,
    #[error("IRQ intercept already enabled")]
    Intercepted,
    #[error("there is no input {0}")]
    Input(u32),
    #[error("{0}")]
    Machine(String),
}

/// A tester's.
pub struct Session {
    io: Arc<dyn CpuIo>,
    watch: Arc<Watch>,
}

impl Session {
    /// Of a machine whose time is moved by hand.
    pub fn new(machine: &Machine) -> Self {
        let watch = Watch::new();
        machine.board().chips().listen(Arc::clone(&watch) as _);
        Self {
            io: machine.access(),
            watch,
        }
    }

    /// Does what a line says on its machine; appends the answer, after what became of interrupt lines.
    pub fn run(&mut self, machine: &mut Machine, line: &[u8], answers: &mut Vec<u8>) {
        let command = match Command::parse(&String::from_utf8_lossy(line)) {
            Ok(Some(command)) => command,
            Ok(None) => return,
            Err(error) => return say(answers, &format!("FAIL {error}")),
        };
        let done = self.command(machine, command, answers);
        let done = match machine.reset_if_asked() {
            Ok(()) => done,
            Err(error) => Err(Failed::Machine(error.to_string())),
        };
        self.tell(answers);
        match done {
            Ok(text) if text.is_empty() => say(answers, "OK"),
            Ok(text) => say(answers, &format!("OK {text}")),
            Err(error) => say(answers, &format!("FAIL {error}")),
        }
    }

    /// What became of interrupt lines.
    fn tell(&self, answers: &mut Vec<u8>) {
        for (wire, level) in self.watch.take() {
            let what = if level { "raise" } else { "lower" };
            say(answers, &format!("IRQ {what} {wire}"));
        }
    }

    fn command(
        &self,
        machine: &Machine,
        command: Command,
        answers: &mut Vec<u8>,
    ) -> Result<String, Failed> {
        Ok(match command {
            Command::ClockStep(by) => {
                let now = machine.now_ns();
                let to = match by {
                    Some(by) => now.saturating_add(by),
                    None => next_deadline(machine).unwrap_or(now).max(now),
                };
                machine.step_time_to(to, || self.tell(answers)).to_string()
            }
            Command::ClockSet(to) => machine.step_time_to(to, || self.tell(answers)).to_string(),
            Command::In(port, count) => {
                let mut data = [0; 4];
                data[..count].fill(0xFF);
                self.io.port_read(port, count, &mut data[..count]);
                format!("{:#06x}", u32::from_le_bytes(data))
            }
            Command::Out(port, count, value) => {
                self.io
                    .port_write(port, count, &value.to_le_bytes()[..count]);
                String::new()
            }
            Command::Load(at, count) => {
                let mut data = [0; 8];
                self.load(machine, at, &mut data[..count]);
                format!("{:#018x}", u64::from_le_bytes(data))
            }
            Command::Store(at, count, value) => {
                self.store(machine, at, &value.to_le_bytes()[..count]);
                String::new()
            }
            Command::Read(at, size, form) => {
                let mut data = vec![0; size];
                self.load(machine, at, &mut data);
                text(&data, form)
            }
            Command::Write(at, data) => {
                self.store(machine, at, &data);
                String::new()
            }
            Command::Fill(at, size, value) => {
                self.fill(machine, at, size, value);
                String::new()
            }
            Command::InterceptIn(path) => {
                self.intercept(device(&path)?)?;
                String::new()
            }
            Command::InterceptOut(path) => {
                match device(&path)? {
                    Watched::Pic => self.intercept(Watched::Intr)?,
                    // It has none.
                    Watched::IoApic | Watched::Intr => {}
                }
                String::new()
            }
            Command::SetIrqIn(path, input, level) => {
                let device = device(&path)?;
                drive(machine, device, input, level)?;
                self.watch.driven(device, input, level);
                String::new()
            }
            Command::Endianness => "little".into(),
        })
    }

    fn intercept(&self, what: Watched) -> Result<(), Failed> {
        match self.watch.begin(what) {
            true => Ok(()),
            false => Err(Failed::Intercepted),
        }
    }

    fn fill(&self, machine: &Machine, at: u64, size: u64, value: u8) {
        let block = [value; 4096];
        let mut done = 0;
        while done < size {
            let count = (size - done).min(4096);
            // No more than the block.
            self.store(machine, at.wrapping_add(done), &block[..count as usize]);
            done += count;
        }
    }

    /// Reads as a processor does, each part where it lies.
    fn load(&self, machine: &Machine, address: u64, data: &mut [u8]) {
        let map = machine.board().map();
        let mut rest = data;
        let mut at = address;
        while !rest.is_empty() {
            let (memory, count) = part(&map, at, rest.len());
            let (now, later) = rest.split_at_mut(count);
            match memory {
                Some(_) => map.cpu().read(at, now),
                None => self.io.mmio_read(at, now),
            }
            at = at.wrapping_add(count as u64);
            rest = later;
        }
    }

    /// Writes as a processor does.
    fn store(&self, machine: &Machine, address: u64, data: &[u8]) {
        let mut rest = data;
        let mut at = address;
        while !rest.is_empty() {
            // A write may change the map.
            let map = machine.board().map();
            let (memory, count) = part(&map, at, rest.len());
            let (now, later) = rest.split_at(count);
            match memory {
                Some(Kind::Writable) => map.cpu().write(at, now),
                Some(Kind::ReadOnly) | None => self.io.mmio_write(at, now),
            }
            at = at.wrapping_add(count as u64);
            rest = later;
        }
    }
}

/// What memory is where.
enum Kind {
    Writable,
    ReadOnly,
}

/// What lies at an address, `None` for no memory, and how many of `wanted` bytes.
fn part(map: &devices::memory_map::MemoryMap, at: u64, wanted: usize) -> (Option<Kind>, usize) {
    let view = map.cpu();
    let up_to = |last: u64| {
        usize::try_from(last - at).map_or(wanted, |more| wanted.min(more.saturating_add(1)))
    };
    if let Some(range) = view.find(at) {
        let kind = match range.target {
            Target::Block {
                read_only: false, ..
            } => Kind::Writable,
            _ => Kind::ReadOnly,
        };
        return (Some(kind), up_to(range.last));
    }
    // An access of a device is one of eight bytes at most, to where memory begins again.
    let next = view.ranges().iter().find(|range| range.first > at);
    let before = next.map_or(u64::MAX, |range| range.first - 1);
    let count = up_to(before);
    (
        None,
        if count > 8 {
            4 - (at % 4) as usize
        } else {
            count
        },
    )
}

fn next_deadline(machine: &Machine) -> Option<u64> {
    let next = machine.board().next_deadline()?;
    u64::try_from(next.as_nanos()).ok()
}

/// The device that a path names.
fn device(path: &str) -> Result<Watched, Failed> {
    let last = path.rsplit('/').next().unwrap_or(path);
    let found = NAMES.iter().find(|(name, _)| *name == last);
    found.map(|(_, device)| *device).ok_or(Failed::Device)
}

fn drive(machine: &Machine, device: Watched, input: u32, level: bool) -> Result<(), Failed> {
    let chips = machine.board().chips();
    match (device, input) {
        (Watched::IoApic, 0..24) => chips.drive_ioapic(input, level),
        (Watched::Pic, 0..16) => chips.drive_8259(input, level),
        _ => return Err(Failed::Input(input)),
    }
    Ok(())
}

fn text(data: &[u8], form: Form) -> String {
    match form {
        Form::Hex => data.iter().fold("0x".to_string(), |mut text, byte| {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
            text
        }),
        Form::Base64 => base64::encode(data),
    }
}

fn say(answers: &mut Vec<u8>, line: &str) {
    answers.extend(line.as_bytes());
    answers.push(b'\n');
}
