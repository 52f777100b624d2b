//! The flow of a run: every access of a processor to the board, in one form from both engines.
//!
//! Everything passes [`Exits::note`]: it counts by kind, prints for `-d exits`, and keeps a record
//! or writes a trace when one was asked for. String I/O is recorded item by item. [`crate::flow`]
//! compares records.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What left the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitKind {
    /// IN or INS.
    In,
    /// OUT or OUTS.
    Out,
    /// A read of device memory.
    MmioRead,
    /// A write of device memory (or of memory that is only read there).
    MmioWrite,
    /// An interrupt was acknowledged; the data is its vector.
    Interrupt,
    /// HLT.
    Halt,
    /// Shutdown by triple fault.
    TripleFault,
    /// The machine was reset.
    Reset,
}

impl ExitKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 8] = [
        Self::In,
        Self::Out,
        Self::MmioRead,
        Self::MmioWrite,
        Self::Interrupt,
        Self::Halt,
        Self::TripleFault,
        Self::Reset,
    ];

    /// The hardware's own name for it (Intel SDM Vol. 3C, "Basic Exit Reasons").
    pub fn name(self) -> &'static str {
        match self {
            Self::In | Self::Out => "IO_INSTRUCTION",
            Self::MmioRead | Self::MmioWrite => "EPT_VIOLATION",
            Self::Interrupt => "EXTERNAL_INTERRUPT",
            Self::Halt => "HLT",
            Self::TripleFault => "TRIPLE_FAULT",
            Self::Reset => "RESET",
        }
    }
}

/// One exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What it was.
    pub kind: ExitKind,
    /// Port or guest physical address.
    pub address: u64,
    /// Width in bytes.
    pub width: u8,
    /// The data, little endian.
    pub data: u64,
}

impl ExitKind {
    /// What tells it from others of its name.
    pub fn detail(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::MmioRead => "read",
            Self::MmioWrite => "write",
            Self::Interrupt | Self::Halt | Self::TripleFault | Self::Reset => "",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.width) * 2;
        let (address, data) = (self.address, self.data);
        match self.kind {
            ExitKind::In => write!(f, "IO_INSTRUCTION in  {address:#06x} -> {data:0digits$x}"),
            ExitKind::Out => write!(f, "IO_INSTRUCTION out {address:#06x} <- {data:0digits$x}"),
            ExitKind::MmioRead => {
                write!(f, "EPT_VIOLATION read  {address:#010x} -> {data:0digits$x}")
            }
            ExitKind::MmioWrite => {
                write!(f, "EPT_VIOLATION write {address:#010x} <- {data:0digits$x}")
            }
            ExitKind::Interrupt => write!(f, "EXTERNAL_INTERRUPT vector {data:02x}"),
            kind => f.write_str(kind.name()),
        }
    }
}

/// A line that is no exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExit;

/// What [`Exit`]'s `Display` writes.
impl FromStr for Exit {
    type Err = NoExit;

    fn from_str(line: &str) -> Result<Self, NoExit> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| NoExit);
        let is = |name: &str, detail: &str| {
            let mut all = ExitKind::ALL.into_iter();
            let found = all.find(|kind| kind.name() == name && kind.detail() == detail);
            found.ok_or(NoExit)
        };
        match words[..] {
            [name, detail, address, "->" | "<-", data] => Ok(Self {
                kind: is(name, detail)?,
                address: hex(address.strip_prefix("0x").ok_or(NoExit)?)?,
                width: u8::try_from(data.len() / 2).map_err(|_| NoExit)?,
                data: hex(data)?,
            }),
            ["EXTERNAL_INTERRUPT", "vector", vector] => Ok(Self {
                kind: ExitKind::Interrupt,
                address: 0,
                width: 1,
                data: hex(vector)?,
            }),
            [name] => Ok(Self {
                kind: is(name, "")?,
                address: 0,
                width: 0,
                data: 0,
            }),
            _ => Err(NoExit),
        }
    }
}

/// The most exits a record keeps: a guest cannot grow the process.
const MOST_RECORDED: usize = 4 << 20;

/// Counts, prints and records exits.
#[derive(Debug, Default)]
pub struct Exits {
    counts: [AtomicU64; ExitKind::ALL.len()],
    /// The kind before, plus one: a processor that is woken in vain halts again without having run.
    last: AtomicU8,
    /// Interrupts acknowledged, by vector.
    vectors: Mutex<BTreeMap<u8, u64>>,
    /// There is a record or a trace.
    recording: AtomicBool,
    record: Mutex<Record>,
    /// The access at which the processor is to stop, counted from 1; 0 for none.
    stop_at: AtomicU64,
}

/// Where exits are kept.
#[derive(Debug, Default)]
struct Record {
    /// In memory, if it was asked for.
    kept: Option<Vec<Exit>>,
    /// In a file, until it takes no more.
    trace: Option<BufWriter<File>>,
    /// Why it does not.
    failure: Option<io::Error>,
}

impl Record {
    fn note(&mut self, exit: &Exit) {
        if let Some(kept) = &mut self.kept
            && kept.len() < MOST_RECORDED
        {
            kept.push(*exit);
        }
        if let Some(trace) = &mut self.trace
            && let Err(error) = writeln!(trace, "{exit}")
        {
            self.trace = None;
            self.failure = Some(error);
        }
    }
}

impl Exits {
    /// Keeps a record from now on.
    pub fn record(&self) {
        self.lock().kept = Some(Vec::new());
        self.recording.store(true, Ordering::Release);
    }

    /// Writes each exit to a file from now on, a line each.
    ///
    /// # Errors
    /// If the file takes nothing.
    pub fn trace(&self, file: File) -> io::Result<()> {
        let mut file = BufWriter::new(file);
        writeln!(file, "{}", crate::flow::HEADER)?;
        self.lock().trace = Some(file);
        self.recording.store(true, Ordering::Release);
        Ok(())
    }

    /// Sees that the trace is in its file.
    ///
    /// # Errors
    /// If it is not whole.
    pub fn end_trace(&self) -> io::Result<()> {
        let mut record = self.lock();
        if let Some(error) = record.failure.take() {
            return Err(error);
        }
        match &mut record.trace {
            Some(trace) => trace.flush(),
            None => Ok(()),
        }
    }

    /// The record so far, and an empty one from now on.
    pub fn take_record(&self) -> Vec<Exit> {
        match &mut self.lock().kept {
            Some(kept) => std::mem::take(kept),
            None => Vec::new(),
        }
    }

    /// How often each kind has happened.
    pub fn counts(&self) -> BTreeMap<ExitKind, u64> {
        let count = |kind: ExitKind| self.counts[kind as usize].load(Ordering::Relaxed);
        let counts = ExitKind::ALL.map(|kind| (kind, count(kind)));
        counts
            .into_iter()
            .filter(|&(_, count)| count != 0)
            .collect()
    }

    /// How often the processor has reached for the board: what both engines count alike.
    pub fn accesses(&self) -> u64 {
        let kinds = [
            ExitKind::In,
            ExitKind::Out,
            ExitKind::MmioRead,
            ExitKind::MmioWrite,
        ];
        let count = |kind: ExitKind| self.counts[kind as usize].load(Ordering::Relaxed);
        kinds.into_iter().map(count).sum()
    }

    /// The processor is to stop at this access.
    pub(crate) fn stop_at_access(&self, count: u64) {
        self.stop_at.store(count, Ordering::Relaxed);
    }

    /// Whether it is to stop now.
    pub(crate) fn stops_here(&self) -> bool {
        let at = self.stop_at.load(Ordering::Relaxed);
        at != 0 && self.accesses() >= at
    }

    /// How often each vector was acknowledged.
    pub fn vectors(&self) -> BTreeMap<u8, u64> {
        self.lock_vectors().clone()
    }

    /// Notes one exit.
    pub fn note(&self, exit: Exit) {
        let kind = exit.kind as u8 + 1;
        if self.last.load(Ordering::Relaxed) != kind {
            self.last.store(kind, Ordering::Relaxed);
        } else if exit.kind == ExitKind::Halt {
            return;
        }
        tracing::trace!(target: "exits", "{exit}");
        self.counts[exit.kind as usize].fetch_add(1, Ordering::Relaxed);
        if exit.kind == ExitKind::Interrupt {
            *self.lock_vectors().entry(exit.data as u8).or_default() += 1;
        }
        if self.recording.load(Ordering::Acquire) {
            self.lock().note(&exit);
        }
    }

    /// Notes an access, item by item.
    pub fn note_items(&self, kind: ExitKind, address: u64, width: usize, data: &[u8]) {
        for item in data.chunks(width.clamp(1, 8)) {
            let mut bytes = [0; 8];
            bytes[..item.len()].copy_from_slice(item);
            let data = u64::from_le_bytes(bytes);
            self.note(Exit {
                kind,
                address,
                width: item.len() as u8,
                data,
            });
        }
    }

    fn lock_vectors(&self) -> std::sync::MutexGuard<'_, BTreeMap<u8, u64>> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        let exit = |kind, address, width, data| Exit {
            kind,
            address,
            width,
            data,
        };
        for (exit, line) in [
            (
                exit(ExitKind::In, 0x71, 1, 0x26),
                "IO_INSTRUCTION in  0x0071 -> 26",
            ),
            (
                exit(ExitKind::Out, 0xCF8, 4, 0x8000_0000),
                "IO_INSTRUCTION out 0x0cf8 <- 80000000",
            ),
            (
                exit(ExitKind::MmioRead, 0xFEE0_0030, 4, 0x5_0014),
                "EPT_VIOLATION read  0xfee00030 -> 00050014",
            ),
            (
                exit(ExitKind::MmioWrite, 0xB8000, 8, 7),
                "EPT_VIOLATION write 0x000b8000 <- 0000000000000007",
            ),
            (
                exit(ExitKind::Interrupt, 0, 1, 8),
                "EXTERNAL_INTERRUPT vector 08",
            ),
            (exit(ExitKind::Halt, 0, 0, 0), "HLT"),
            (exit(ExitKind::TripleFault, 0, 0, 0), "TRIPLE_FAULT"),
            (exit(ExitKind::Reset, 0, 0, 0), "RESET"),
        ] {
            assert_eq!(exit.to_string(), line);
            assert_eq!(line.parse(), Ok(exit), "{line}");
        }
        for line in [
            "",
            "HTL",
            "IO_INSTRUCTION",
            "IO_INSTRUCTION in 71 -> 26",
            "IO_INSTRUCTION in 0x71 -> 2g",
        ] {
            assert_eq!(line.parse::<Exit>(), Err(NoExit), "{line}");
        }
    }
}
