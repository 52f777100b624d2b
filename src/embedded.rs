//! The built-in guest: run on every engine there is, and what the engines did compared.

use std::fmt;
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
use crate::exits::{Exit, ExitKind};
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

/// A read whose value depends on time.
struct TimedRead {
    /// Port.
    port: u64,
    /// For the CMOS data port: the registers it is true for.
    registers: &'static [u64],
    /// What a reader of the comparison sees.
    name: &'static str,
}

/// Every read that is masked in a comparison, and why it must be.
#[rustfmt::skip]
const TIMED_READS: &[TimedRead] = &[
    // Counts while its gate is open; part cmos-ports reads a status with its null-count and OUT bits.
    TimedRead { port: 0x42, registers: &[], name: "8254 counter 2" },
    // Bit 4 toggles with every refresh, bit 5 is OUT of counter 2.
    TimedRead { port: 0x61, registers: &[], name: "port 61h refresh and OUT of counter 2" },
    // Time of day, UIP in register A, interrupt flags in register C. Other registers are compared.
    TimedRead { port: 0x71, registers: &[0, 2, 4, 6, 7, 8, 9, 0xA, 0xC], name: "RTC time, UIP and flags" },
];
/// CMOS index port, and the bits of it that are the index: bit 7 is the NMI mask.
const CMOS_INDEX: (u64, u64) = (0x70, 0x7F);

/// An exit as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The exit, its data 0 if it is masked.
    pub exit: Exit,
    /// Why the data is masked: a name of the table of timed reads.
    pub masked: Option<&'static str>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.masked {
            None => self.exit.fmt(f),
            Some(name) => write!(f, "{} (masked: {name})", self.exit),
        }
    }
}

fn timed_read(exit: &Exit, cmos_index: u64) -> Option<&'static str> {
    let is_it = |row: &&TimedRead| {
        row.port == exit.address
            && (row.registers.is_empty() || row.registers.contains(&cmos_index))
    };
    let row = TIMED_READS.iter().find(is_it);
    row.filter(|_| exit.kind == ExitKind::In)
        .map(|row| row.name)
}

/// The exits two engines must agree on, in order: every port and MMIO access with its data and
/// every interrupt with its vector. Left out is what time alone decides: the data of a timed read,
/// how often a loop that does nothing else repeats one, and how often a processor halts before an
/// interrupt ends its wait.
pub fn comparable(exits: &[Exit]) -> Vec<Compared> {
    let mut kept: Vec<Compared> = Vec::with_capacity(exits.len());
    let mut cmos_index = 0;
    for exit in exits {
        if exit.kind == ExitKind::Out && exit.address == CMOS_INDEX.0 {
            cmos_index = exit.data & CMOS_INDEX.1;
        }
        let masked = timed_read(exit, cmos_index);
        let data = if masked.is_some() { 0 } else { exit.data };
        let compared = Compared {
            exit: Exit { data, ..*exit },
            masked,
        };
        let polled = masked.is_some() && kept.last() == Some(&compared);
        if exit.kind != ExitKind::Halt && !polled {
            kept.push(compared);
        }
    }
    kept
}

/// The first place where two records part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// How many exits agree before it.
    pub at: usize,
    /// The last of these.
    pub before: Vec<Compared>,
    /// What the first side did; `None` if it had ended.
    pub a: Option<Compared>,
    /// What the other did.
    pub b: Option<Compared>,
}

/// How many exits that agree are shown before one that does not.
const CONTEXT: usize = 3;

/// Where the records of two runs part, if they do.
pub fn divergence(a: &[Exit], b: &[Exit]) -> Option<Divergence> {
    let (a, b) = (comparable(a), comparable(b));
    let at = (0..a.len().max(b.len())).find(|&n| a.get(n) != b.get(n))?;
    Some(Divergence {
        at,
        before: a[at.saturating_sub(CONTEXT)..at].to_vec(),
        a: a.get(at).copied(),
        b: b.get(at).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(kind: ExitKind, address: u64, data: u64) -> Exit {
        Exit {
            kind,
            address,
            width: 1,
            data,
        }
    }

    fn index(register: u64) -> Exit {
        exit(ExitKind::Out, 0x70, register)
    }

    fn cmos(data: u64) -> Exit {
        exit(ExitKind::In, 0x71, data)
    }

    #[test]
    fn time_is_masked_and_nothing_else() {
        let halt = exit(ExitKind::Halt, 0, 0);
        let slow = [index(0x80), cmos(0x59), halt, index(0xD), cmos(0x80)];
        let fast = [
            index(0x80),
            cmos(1),
            cmos(1),
            cmos(2),
            index(0xD),
            cmos(0x80),
        ];
        assert_eq!(divergence(&slow, &fast), None);
        let other = [index(0x80), cmos(0x59), index(0xD), cmos(0)];
        let found = divergence(&slow, &other).expect("register D is not masked");
        assert_eq!((found.at, found.before.len()), (3, 3));
        assert_eq!(found.a.map(|c| c.exit), Some(cmos(0x80)));
        assert_eq!(found.b.map(|c| c.exit), Some(cmos(0)));
    }

    #[test]
    fn order_and_number_of_accesses_count() {
        let (a, b) = (
            exit(ExitKind::Out, 0x20, 1),
            exit(ExitKind::Interrupt, 0, 0x20),
        );
        assert!(divergence(&[a, b], &[b, a]).is_some());
        let found = divergence(&[a, a], &[a]).expect("one is missing");
        assert_eq!((found.at, found.b), (1, None));
    }

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
