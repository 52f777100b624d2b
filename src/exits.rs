//! The flow of a run: every access of a processor to the board, in one form from both engines.
//!
//! Everything passes [`Exits::note`]: it counts by kind, prints for `-d exits`, and keeps a record
//! when one was asked for. String I/O is recorded item by item.

use std::collections::BTreeMap;
use std::fmt;
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
    recording: AtomicBool,
    record: Mutex<Vec<Exit>>,
    /// The access at which the processor is to stop, counted from 1; 0 for none.
    stop_at: AtomicU64,
}

impl Exits {
    /// Keeps a record from now on.
    pub fn record(&self) {
        self.lock().clear();
        self.recording.store(true, Ordering::Release);
    }

    /// The record so far, and an empty one from now on.
    pub fn take_record(&self) -> Vec<Exit> {
        std::mem::take(&mut *self.lock())
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
            let mut record = self.lock();
            if record.len() < MOST_RECORDED {
                record.push(exit);
            }
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Exit>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
