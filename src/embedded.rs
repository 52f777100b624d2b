//! The built-in guest: run on every engine there is, and what the engines did compared.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use accel::{Accel, CpuModel, MakeObserver};
use devices::backend::chardev::Chardev;
use devices::board::BoardOptions;
use devices::board::build::Parts;

use crate::control::Control;
use crate::exits::Exit;
use crate::guest;
use crate::machine::{Machine, MachineConfig, Outcome, VmError, timed};
use crate::stats::RunStats;
use crate::switch_option::SwitchAt;

/// Port and size of the debug-exit device the guest ends through.
const DEBUG_EXIT: (u16, u16) = (0x501, 4);
/// Port of its debug console.
const DEBUGCON: u16 = 0x402;
/// A time of day that is the same in every run: 2026-01-01 00:00:00.
const RTC_BASE: i64 = 1_767_225_600;
/// Far more than the guest ever needs: what takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a run of the guest is given.
pub struct Run {
    /// Guest memory in bytes.
    pub memory: u64,
    /// The processor model.
    pub cpu: CpuModel,
    /// Chosen parts, a bit each.
    pub parts: u64,
    /// Virtual time, tcg only.
    pub icount: Option<u32>,
    /// Looks over the shoulder of software CPUs.
    pub observer: Option<MakeObserver>,
    /// When a run that has not ended is stopped.
    pub limit: Duration,
    /// Where the machine moves to another engine.
    pub switches: Vec<SwitchAt>,
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
    /// What it counted, on each engine that ran it.
    pub stats: Vec<RunStats>,
    /// How often it moved to another engine.
    pub switches: u64,
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
    /// It did not end.
    #[error("the built-in guest did not end on {engine} in {} s; part: {part}", limit.as_secs())]
    Hung {
        /// The engine.
        engine: &'static str,
        /// How long it was given.
        limit: Duration,
        /// The part that was running.
        part: &'static str,
    },
}

/// Runs the guest on one engine; its serial output goes to `output` as it comes. Parts in
/// `unavailable` are skipped by name.
///
/// # Errors
/// If this build has no guest, or the machine fails on the host side.
pub fn run(
    run: &Run,
    accel: &dyn Accel,
    unavailable: u64,
    output: Box<dyn Write + Send>,
) -> Result<Report, EmbeddedError> {
    run_on(run, accel, &[], unavailable, output)
}

/// Runs the guest as [`run`] does; it moves to other engines as `run.switches` say.
///
/// # Errors
/// If this build has no guest, or the machine fails on the host side.
pub fn run_on(
    run: &Run,
    accel: &dyn Accel,
    others: &[&dyn Accel],
    unavailable: u64,
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
        icount: run.icount,
        no_reboot: true,
        observer: run.observer.clone(),
        switches: run.switches.clone(),
        ..MachineConfig::new(
            BoardOptions {
                ram: run.memory,
                rtc_base: RTC_BASE,
                debug_exit: Some(DEBUG_EXIT),
                debugcon: Some(DEBUGCON),
                ..BoardOptions::default()
            },
            Parts {
                bios,
                chardevs,
                ..Parts::default()
            },
            run.cpu.clone(),
        )
    };
    let mut machine = Machine::with_engines(config, accel, others)?;
    machine.exits().record();
    let control = machine.control();
    let (outcome, took) = timed(|| within(run.limit, &control, || machine.run()));
    let outcome = outcome?;
    let exits = machine.exits().take_record();
    let (stats, switches) = (machine.stats(), machine.switches());
    let serial = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if outcome == Outcome::Stopped {
        return Err(EmbeddedError::Hung {
            engine: machine.identity().engine,
            limit: run.limit,
            part: running_part(&serial),
        });
    }
    Ok(Report {
        serial,
        outcome,
        exits,
        took,
        stats,
        switches,
    })
}

/// Runs `f`, and stops the machine if it has not returned within `limit`.
fn within<T>(
    limit: Duration,
    control: &Control,
    f: impl FnOnce() -> Result<T, VmError>,
) -> Result<T, VmError> {
    let (ended, end) = channel::<()>();
    thread::scope(|scope| {
        let watchdog = thread::Builder::new().name("watchdog".into());
        watchdog.spawn_scoped(scope, move || {
            if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                control.quit();
            }
        })?;
        let result = f();
        drop(ended);
        result
    })
}

/// The last part whose name stands at the start of a line of the report: it is printed before the
/// part runs.
fn running_part(serial: &[u8]) -> &'static str {
    let named = |line: &[u8]| {
        let word = line.split(|&b| b == b' ').next();
        guest::PARTS
            .iter()
            .find(|part| word == Some(part.name.as_bytes()))
    };
    let part = serial.rsplit(|&b| b == b'\n').find_map(named);
    part.map_or("none yet", |part| part.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_runs_is_named() {
        assert_eq!(
            running_part(b"twin86 guest\r\nreal ... ok\r\napic ..."),
            "apic"
        );
        assert_eq!(running_part(b"pci ... ok\r\n  00:00.0 80"), "pci");
        assert_eq!(running_part(b"pci ... ok (1 checks)\r\n"), "pci");
        assert_eq!(running_part(b"twin86 guest\r\n"), "none yet");
    }
}
