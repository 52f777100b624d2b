//! What the program does with its options: the built-in guest on every engine, or a guest of the
//! user's on one ([`crate::pc`]).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use accel::tcg::Tcg;
use accel::{Accel, AccelError, CpuModel};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::accel_option::{CHOICES, Choice, Engine};
use crate::choose::{TcgOnly, choose, choose_pair, open};
use crate::cli::{CliError, LOG_ITEMS, Options};
use crate::embedded::{self, EmbeddedError, Report};
use crate::machine::{Outcome, VmError};
use crate::properties::{PropertyError, nearest};
use crate::switch_option::Switches;
use crate::trace::{Items, Log};
use crate::{device_option, flow, guest, pc, stats};

/// Why the program ends with status 1.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A mistake on the command line.
    #[error(transparent)]
    Cli(#[from] CliError),
    /// A property list that does not parse, or names what does not exist.
    #[error("{option} {given}: {source}")]
    Property {
        /// The option.
        option: &'static str,
        /// Its value.
        given: String,
        /// What is wrong.
        source: PropertyError,
    },
    /// A file cannot be used.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A disk image cannot be used.
    #[error(transparent)]
    Disk(#[from] devices::backend::disk::DiskError),
    /// The configuration device cannot hold what it is given.
    #[error("fw_cfg: {0}")]
    FwCfg(#[from] devices::fw_cfg::ContentsError),
    /// The machine failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// An engine cannot be opened.
    #[error(transparent)]
    Accel(#[from] AccelError),
    /// The built-in guest could not run.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A character backend cannot be opened.
    #[error("{option} {given}: {source}")]
    Backend {
        /// The option.
        option: &'static str,
        /// Its value.
        given: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody can listen for gdb.
    #[error("-gdb: {source}")]
    Gdb {
        /// Why.
        source: io::Error,
    },
    /// The board cannot be driven from there.
    #[error("-qtest: {source}")]
    Qtest {
        /// Why.
        source: io::Error,
    },
    /// The engine cannot do what another option asks for.
    #[error("{} needs --accel=tcg: {}", .0.option, .0.because)]
    NeedsTcg(TcgOnly),
    /// The engine to move to is not there.
    #[error("--accel-switch-at needs {engine} too: {source}")]
    OtherEngine {
        /// The engine.
        engine: &'static str,
        /// Why it is not.
        source: Box<RunError>,
    },
    /// There is nothing to choose from.
    #[error("no engine is named")]
    NoEngine,
    /// The output is gone.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs what the options ask for; returns the exit status.
///
/// # Errors
/// For mistakes on the command line and failures of the host, each in one line.
pub fn run(options: &Options) -> Result<u8, RunError> {
    if list_choices(options)? {
        return Ok(0);
    }
    options.check_fixed()?;
    let items = options.log_items()?;
    let log = open_log(options)?;
    log_events(&items, &log);
    let session = Session {
        engines: options.engines()?,
        tcg_only: options.tcg_only()?,
        memory: options.memory()?,
        cpu: options.cpu_model()?,
        icount: options.icount_shift()?,
        stats: options.stats()?,
        switches: options.switches()?,
        observer: Items::of(&items).observer(&log),
    };
    if options.has_guest() {
        return pc::run(options, &session);
    }
    // Their mistakes are named even where a guest to use them with is missing.
    device_option::check(&options.device)?;
    options.check_embedded()?;
    run_embedded(options, session)
}

/// Options as the machine takes them.
pub struct Session {
    /// The engines that may run the guest.
    pub engines: Choice,
    /// The first option that only the software CPU can serve.
    pub tcg_only: Option<TcgOnly>,
    /// Guest RAM in bytes.
    pub memory: u64,
    /// The processor model.
    pub cpu: CpuModel,
    /// The shift of virtual time.
    pub icount: Option<u32>,
    /// Where counts go at the end.
    pub stats: Option<stats::Output>,
    /// Where the machine moves to another engine.
    pub switches: Switches,
    /// What `-d` needs of software CPUs.
    pub observer: Option<accel::MakeObserver>,
}

/// `-cpu help` and its like; true if there was one.
fn list_choices(options: &Options) -> Result<bool, RunError> {
    let mut out = io::stdout().lock();
    let is_help = |given: &str| given == "help" || given == "?";
    let mut listed = false;
    let mut list = |heading: &str, rows: Vec<(&str, &str)>| {
        listed = true;
        writeln!(out, "{heading}")?;
        rows.iter()
            .try_for_each(|(name, about)| writeln!(out, "  {name:<16} {about}"))
    };
    if options.accel.iter().any(|given| is_help(given)) {
        list("engines:", CHOICES.to_vec())?;
    }
    if is_help(&options.cpu) {
        list(
            "processor models:",
            CpuModel::names().map(|n| (n, "")).collect(),
        )?;
    }
    if options.device.iter().any(|d| is_help(d)) {
        list("devices:", device_option::list())?;
    }
    if options.log.as_deref().is_some_and(is_help) {
        list("log items:", LOG_ITEMS.to_vec())?;
    }
    if options.parts.as_deref().is_some_and(is_help) {
        list(
            "parts of the built-in guest:",
            guest::PARTS.iter().map(|p| (p.name, p.about)).collect(),
        )?;
    }
    Ok(listed)
}

fn open_log(options: &Options) -> Result<Log, RunError> {
    let output: Box<dyn Write + Send> = match &options.log_file {
        Some(path) => Box::new(io::LineWriter::new(create(path)?)),
        None => Box::new(io::stderr()),
    };
    Ok(Log::new(output))
}

impl RunError {
    /// What the user could do about it, in one line.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Accel(error) => error.help(),
            Self::OtherEngine { source, .. } => source.help(),
            _ => None,
        }
    }

    /// A file cannot be used.
    pub fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }
}

fn create(path: &Path) -> Result<File, RunError> {
    File::create(path).map_err(|error| RunError::file(path, error.to_string()))
}

/// Sends tracing events to the log: exits and guest errors if they were chosen, warnings always.
fn log_events(items: &[&str], log: &Log) {
    let mut targets = Targets::new().with_default(tracing::Level::WARN);
    if items.contains(&"guest_errors") {
        targets = targets.with_default(tracing::Level::DEBUG);
    }
    if items.contains(&"exits") {
        targets = targets.with_target("exits", tracing::Level::TRACE);
    }
    if items.contains(&"rescue") {
        targets = targets.with_target("rescue", tracing::Level::DEBUG);
    }
    if items.contains(&"lockstep") {
        targets = targets.with_target("lockstep", tracing::Level::TRACE);
    }
    let log = log.clone();
    let layer = tracing_subscriber::fmt::layer()
        .without_time()
        .with_level(false)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .with_filter(targets);
    // A second machine in one process keeps the first one's log.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

/// Runs the built-in guest on the engine named, or on both, and compares.
fn run_embedded(options: &Options, session: Session) -> Result<u8, RunError> {
    let parts = chosen_parts(options)?;
    if session.switches.are_planned() {
        return run_switched(session, parts);
    }
    let engines = engines(&session)?;
    let run = embedded::Run {
        memory: session.memory,
        cpu: session.cpu,
        parts,
        icount: session.icount,
        observer: session.observer,
        limit: embedded::LIMIT,
        switches: Vec::new(),
    };
    let mut passed = true;
    let mut reports = Vec::new();
    for opened in engines {
        let name = opened.name;
        let accel = match opened.accel {
            Ok(accel) => accel,
            Err(error) => {
                say(&format!("== {name}: not run: {error}"))?;
                continue;
            }
        };
        let partial = accel.partial();
        let note = if partial {
            " (a partial KVM: some parts cannot run on it)"
        } else {
            ""
        };
        say(&format!("== {name}{note}"))?;
        let unavailable = if partial {
            guest::not_on_partial_kvm()
        } else {
            0
        };
        let report = embedded::run(&run, accel.as_ref(), unavailable, Box::new(io::stdout()))?;
        say(&format!("== {name}: {}", summary(&report)))?;
        passed &= report.passed();
        if let Some(line) = stats::lockstep(&report.stats) {
            say(&format!("== {name}: {line}"))?;
        }
        reports.push((unavailable, report));
    }
    if let Some(output) = &session.stats {
        let runs: Vec<_> = reports.iter().flat_map(|(_, r)| r.stats.clone()).collect();
        output.write(&runs)?;
    }
    if let [(_, tcg), (unavailable, kvm)] = &reports[..] {
        passed &= compare(&run, tcg, kvm, *unavailable)?;
    }
    Ok(if passed { 0 } else { 1 })
}

/// Runs the built-in guest on both engines in turn, as `--accel-switch-at` says.
fn run_switched(session: Session, parts: u64) -> Result<u8, RunError> {
    let pair = choose_pair(&session.engines, session.tcg_only.as_ref())?;
    pair.check(&session.switches)?;
    let accels = [&*pair.first.accel, &*pair.other.accel];
    let run = embedded::Run {
        memory: session.memory,
        cpu: session.cpu,
        parts,
        icount: session.icount,
        observer: session.observer,
        limit: embedded::LIMIT,
        switches: session.switches.moves,
    };
    let unavailable = if accels.iter().any(|accel| accel.partial()) {
        guest::not_on_partial_kvm()
    } else {
        0
    };
    let [first, other] = accels;
    say(&format!("== {} and {} in turn", first.name(), other.name()))?;
    let output = Box::new(io::stdout());
    let report = embedded::run_on(&run, first, &[other], unavailable, output)?;
    let (summary, switches) = (summary(&report), report.switches);
    say(&format!("== {summary}, {switches} switches"))?;
    if let Some(output) = &session.stats {
        output.write(&report.stats)?;
    }
    Ok(if report.passed() { 0 } else { 1 })
}

/// The engines that run the built-in guest, opened: the one that was chosen, or each there is.
fn engines(session: &Session) -> Result<Vec<Opened>, RunError> {
    if session.engines.named {
        let chosen = choose(&session.engines, session.tcg_only.as_ref())?;
        return Ok(vec![Opened {
            name: chosen.accel.name(),
            accel: Ok(chosen.accel),
        }]);
    }
    let can = |engine: &Engine| *engine == Engine::Tcg || session.icount.is_none();
    let all = Engine::ALL.into_iter().filter(can);
    let opened = all.map(|engine| Opened {
        name: engine.name(),
        accel: open(engine),
    });
    Ok(opened.collect())
}

/// An engine for the built-in guest, if it is there.
struct Opened {
    name: &'static str,
    accel: Result<Box<dyn Accel>, RunError>,
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn summary(report: &Report) -> String {
    let result = match report.outcome {
        Outcome::Exit(guest::ALL_OK) => "passed".to_string(),
        Outcome::Exit(guest::SOME_FAILED) => "failed".to_string(),
        other => format!("ended unexpectedly: {other:?}"),
    };
    format!(
        "{result}, {} exits in {:.2} s",
        report.exits.len(),
        report.took.as_secs_f64()
    )
}

/// Compares the flow of both runs. Where KVM could not run every part, tcg runs the same parts
/// again, so that like is compared with like.
fn compare(
    run: &embedded::Run,
    tcg: &Report,
    kvm: &Report,
    unavailable: u64,
) -> Result<bool, RunError> {
    let again;
    let tcg = if unavailable & run.parts == 0 {
        tcg
    } else {
        again = embedded::run(run, &Tcg, unavailable, Box::new(io::sink()))?;
        &again
    };
    match flow::compare_built_in(&tcg.exits, &kvm.exits) {
        Ok(count) => {
            say(&format!(
                "== tcg and kvm agree: {count} exits, timed reads masked"
            ))?;
            Ok(true)
        }
        Err(found) => {
            say(&format!("== tcg and kvm part at exit {}:", found.at))?;
            for exit in &found.before {
                say(&format!("  both: {exit}"))?;
            }
            for (name, exit) in [("tcg", found.a), ("kvm", found.b)] {
                let text = exit.map_or("ended".to_string(), |(_, exit)| exit.to_string());
                say(&format!("   {name}: {text}"))?;
            }
            Ok(false)
        }
    }
}

fn chosen_parts(options: &Options) -> Result<u64, RunError> {
    let Some(list) = &options.parts else {
        return Ok(guest::ALL);
    };
    let mut chosen = 0;
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let Some(at) = guest::PARTS.iter().position(|part| part.name == name) else {
            let names = guest::PARTS.iter().map(|part| part.name);
            return Err(CliError::Value {
                option: "--parts",
                given: name.to_string(),
                expected: "a part of the built-in guest",
                nearest: nearest(name, names).map(str::to_string),
            }
            .into());
        };
        chosen |= 1 << at;
    }
    Ok(chosen)
}
