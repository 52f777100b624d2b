//! The built-in guest: run on every engine there is, and what the engines did compared.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accel::{Accel, CpuModel, MakeObserver};
use devices::backend::chardev::Chardev;
use devices::board::BoardOptions;
use devices::board::build::Parts;

use crate::exits::{Exit, ExitKind};
use crate::guest;
use crate::machine::{Machine, MachineConfig, Outcome, VmError, timed};

/// Port and size of the debug-exit device the guest ends through.
const DEBUG_EXIT: (u16, u16) = (0x501, 4);
/// Port of its debug console.
const DEBUGCON: u16 = 0x402;
/// A time of day that is the same in every run: 2026-01-01 00:00:00.
const RTC_BASE: i64 = 1_767_225_600;

/// What a run of the guest is given.
pub struct Run {
    /// Guest memory in bytes.
    pub memory: u64,
    /// The processor model.
    pub cpu: CpuModel,
    /// Chosen parts, a bit each.
    pub parts: u32,
    /// Virtual time, tcg only.
    pub icount: Option<u32>,
    /// Looks over the shoulder of software CPUs.
    pub observer: Option<MakeObserver>,
}

/// What a run of the guest left.
pub struct Report {
    /// What it printed on COM1.
    pub serial: Vec<u8>,
    /// How it ended.
    pub outcome: Outcome,
    /// Every access to the board.
    pub exits: Vec<Exit>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether every part that ran passed.
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Exit(guest::ALL_OK)
    }
}

/// Output that is kept, and passed on to `to` as it comes.
struct Tee {
    kept: Arc<Mutex<Vec<u8>>>,
    to: Box<dyn Write + Send>,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Why the guest could not be run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// This build has none.
    #[error("the built-in guest exists only in builds for x86-64 hosts; give a -bios")]
    Absent,
    /// The machine failed.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Runs the guest on one engine; its serial output goes to `output` as it comes. Parts in
/// `unavailable` are skipped by name.
///
/// # Errors
/// If this build has no guest, or the machine fails on the host side.
pub fn run(
    run: &Run,
    accel: &dyn Accel,
    unavailable: u32,
    output: Box<dyn Write + Send>,
) -> Result<Report, EmbeddedError> {
    let bios = guest::image_with(run.parts, unavailable).ok_or(EmbeddedError::Absent)?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let tee = Tee {
        kept: Arc::clone(&kept),
        to: output,
    };
    let chardevs = [("com1", Chardev::new(Box::new(tee)))].into();
    let config = MachineConfig {
        board: BoardOptions {
            ram: run.memory,
            cpus: 1,
            rtc_base: RTC_BASE,
            debug_exit: Some(DEBUG_EXIT),
            debugcon: Some(DEBUGCON),
        },
        parts: Parts { bios, chardevs },
        cpu: run.cpu.clone(),
        icount: run.icount,
        no_reboot: true,
        observer: run.observer.clone(),
    };
    let mut machine = Machine::new(config, accel)?;
    machine.exits().record();
    let (outcome, took) = timed(|| machine.run());
    let exits = machine.exits().take_record();
    let serial = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Report {
        serial,
        outcome: outcome?,
        exits,
        took,
    })
}

/// Reads whose value depends on time, and under which name they are masked.
#[rustfmt::skip]
const TIMED_READS: &[(u64, u64, &str)] = &[
    (0x40, 0x42, "8254 counters"),
    (0x61, 0x61, "port 61h refresh and OUT2"),
    (0x71, 0x71, "RTC"),
    (0xFEE0_0390, 0xFEE0_0393, "local APIC current count"),
];

fn timed_read(exit: &Exit) -> Option<&'static str> {
    let is_read = matches!(exit.kind, ExitKind::In | ExitKind::MmioRead);
    let row = TIMED_READS
        .iter()
        .find(|(from, to, _)| (*from..=*to).contains(&exit.address));
    row.filter(|_| is_read).map(|(_, _, name)| *name)
}

/// The exits two engines must agree on: reads that depend on time without their value, and a loop
/// that polls one as a single read. How often a processor halts before an interrupt ends its wait
/// depends on time too.
pub fn comparable(exits: &[Exit]) -> Vec<(Exit, Option<&'static str>)> {
    let mut kept: Vec<(Exit, Option<&'static str>)> = Vec::with_capacity(exits.len());
    for exit in exits {
        let masked = timed_read(exit);
        let exit = if masked.is_some() {
            Exit { data: 0, ..*exit }
        } else {
            *exit
        };
        let repeats = kept.last().is_some_and(|last| last.0 == exit);
        if exit.kind != ExitKind::Halt && !(masked.is_some() && repeats) {
            kept.push((exit, masked));
        }
    }
    kept
}

/// The first place where two records part: its number, and the exit on either side.
pub fn divergence(a: &[Exit], b: &[Exit]) -> Option<(usize, Option<Exit>, Option<Exit>)> {
    let (a, b) = (comparable(a), comparable(b));
    let at = (0..a.len().max(b.len())).find(|&n| a.get(n) != b.get(n))?;
    Some((at, a.get(at).map(|e| e.0), b.get(at).map(|e| e.0)))
}
