//! Devices of ours compared with those of `qemu-system-x86_64`: one script on both, every read and
//! every interrupt level compared, the first difference shrunk.
//!
//! - [`op`]: what a script is made of; [`grammar`]: random scripts that mean something to a device
//! - [`ours`], [`qemu`]: the two sides; [`listed`]: differences that stay, each with the document that makes ours right
//!
//! A script is played on fresh machines; its length ([`EPISODE`]) is what shrinking begins with.

pub mod grammar;
pub mod listed;
pub mod op;
pub mod ours;
pub mod qemu;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::random::Random;
use grammar::Grammar;
use op::{Op, Outcome};
use ours::Ours;
use qemu::Qemu;

/// Steps of a script.
pub const EPISODE: usize = 5000;
/// Seconds since 1970 at which the calendar begins: 2020-01-01.
pub const EPOCH: i64 = 1_577_836_800;
/// How many shorter scripts are tried.
const SHRINKS: usize = 400;
/// Sectors of the disk.
const SECTORS: u32 = 4096;

/// Why devices could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum DifferError {
    /// The reference cannot be reached.
    #[error("{program}: {0}", program = qemu::PROGRAM)]
    Io(#[from] io::Error),
    /// It does not answer as it should.
    #[error("{program}: {0}", program = qemu::PROGRAM)]
    Protocol(String),
    /// Our machine cannot be built.
    #[error("twin86: {0}")]
    Ours(String),
    /// No such device.
    #[error("there is no device {given}: {known}", known = grammar::names().join(", "))]
    Device {
        /// As it was asked for.
        given: String,
    },
}

/// The counter that tells the reference's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The HPET's.
    Hpet,
    /// The power management timer, where the HPET is what is compared.
    PmTimer,
}

/// What machines a device's scripts want.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// An instruction of the reference takes `2^shift` nanoseconds.
    pub shift: u32,
    /// Its clock.
    pub watch: Watch,
    /// The output of the 8259 pair is compared, not the inputs of the IOAPIC.
    pub intr: bool,
    /// There is a disk.
    pub disk: bool,
}

impl Setup {
    /// What is to be heard of: the IOAPIC's inputs, or the output of this 8259.
    fn intercept(&self, pic: &str) -> String {
        match self.intr {
            false => "irq_intercept_in ioapic".into(),
            true => format!("irq_intercept_out {pic}"),
        }
    }

    /// What both machines are told first.
    fn preface(&self) -> Vec<String> {
        let lines: &[&str] = match self.watch {
            Watch::Hpet => &["writeq 0xfed00010 1"],
            Watch::PmTimer => &[
                "outl 0xcf8 0x80000b40",
                "outl 0xcfc 0x601",
                "outl 0xcf8 0x80000b80",
                "outb 0xcfc 1",
            ],
        };
        // Counter 0 is quiet once its interrupt has come.
        let quiet = ["outb 0x43 0x30", "outb 0x40 1", "outb 0x40 0"];
        let lines = [lines, &quiet].concat();
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_string()).collect();
        lines
    }
}

/// Where a script parted.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The device.
    pub device: &'static str,
    /// The script's seed.
    pub seed: u64,
    /// The shortest script found that parts, to the step that does.
    pub script: Vec<Op>,
    /// What ours said to the last step.
    pub ours: Outcome,
    /// What the reference said.
    pub theirs: Outcome,
}

impl Mismatch {
    /// As one line.
    pub fn json(&self) -> String {
        let lines: Vec<String> = self.script.iter().map(|op| format!("\"{op}\"")).collect();
        format!(
            "{{\"device\":\"{}\",\"seed\":{},\"ours\":\"{}\",\"qemu\":\"{}\",\"script\":[{}]}}",
            self.device,
            self.seed,
            self.ours,
            self.theirs,
            lines.join(",")
        )
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (seed {}):", self.device, self.seed)?;
        for op in &self.script {
            writeln!(f, "  {op}")?;
        }
        writeln!(f, "  ours: {}\n  qemu: {}", self.ours, self.theirs)
    }
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Steps a device.
    pub ops: u64,
    /// The seed of the first script.
    pub seed: u64,
    /// The end, whatever has been done by then.
    pub time: Option<Duration>,
}

/// What came of a device.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps compared.
    pub ops: u64,
    /// Steps on which a listed difference was masked, by its name.
    pub masked: std::collections::BTreeMap<&'static str, u64>,
    /// The first difference, if there is one.
    pub mismatch: Option<Mismatch>,
}

/// Compares one device until the first difference.
///
/// # Errors
/// If one of the sides cannot be had.
pub fn run(
    device: &str,
    plan: &Plan,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, DifferError> {
    let grammar = grammar::find(device)?;
    let bench = Bench::new(grammar)?;
    let begun = Instant::now();
    let mut report = Report::default();
    let mut seed = plan.seed;
    while report.ops < plan.ops && plan.time.is_none_or(|time| begun.elapsed() < time) {
        let count = EPISODE.min((plan.ops - report.ops) as usize);
        let (script, head) = grammar.script(&mut Random::new(seed), count);
        if let Some(parted) = bench.play(&script, Some(&mut report))? {
            report.mismatch = Some(bench.shrink(seed, script, head, parted)?);
            return Ok(report);
        }
        report.ops += script.len() as u64;
        progress(report.ops);
        seed += 1;
    }
    Ok(report)
}

/// Plays a script of one's own, as text of the protocol; the first difference.
///
/// # Errors
/// If one of the sides cannot be had.
pub fn play(device: &str, script: Vec<Op>) -> Result<Option<Mismatch>, DifferError> {
    let bench = Bench::new(grammar::find(device)?)?;
    Ok(bench
        .play(&script, None)?
        .map(|parted| bench.mismatch(0, script, parted)))
}

/// Where a script parts.
struct Parted {
    at: usize,
    ours: Outcome,
    theirs: Outcome,
}

/// One device's scripts, and the disk they need.
struct Bench {
    grammar: &'static Grammar,
    disk: Image,
}

impl Bench {
    fn new(grammar: &'static Grammar) -> Result<Self, DifferError> {
        let disk = Image::new(grammar.setup.disk)?;
        Ok(Self { grammar, disk })
    }

    /// The first difference of a script.
    fn play(
        &self,
        script: &[Op],
        mut report: Option<&mut Report>,
    ) -> Result<Option<Parted>, DifferError> {
        let setup = &self.grammar.setup;
        let mut qemu = Qemu::new(setup, &self.disk.0)?;
        let mut ours = Ours::new(setup, &self.disk.0, qemu.now())?;
        let theirs = qemu.play(script)?;
        drop(qemu);
        let mut masks = listed::Masks::new(self.grammar.name);
        for (at, (op, theirs)) in script.iter().zip(theirs).enumerate() {
            let mut mine = ours.play(op, &theirs);
            let mut theirs = theirs;
            let masked = masks.apply(op, &mut mine, &mut theirs);
            if let (Some(report), Some(name)) = (report.as_mut(), masked) {
                *report.masked.entry(name).or_default() += 1;
            }
            if !mine.agrees(&theirs) {
                return Ok(Some(Parted {
                    at,
                    ours: mine,
                    theirs,
                }));
            }
        }
        Ok(None)
    }

    /// Leaves out what is not needed, in ever smaller pieces; never of the `head`.
    fn shrink(
        &self,
        seed: u64,
        mut script: Vec<Op>,
        head: usize,
        mut parted: Parted,
    ) -> Result<Mismatch, DifferError> {
        script.truncate(parted.at + 1);
        let last = script[parted.at].clone();
        let mut piece = script.len() / 2;
        let mut tries = 0;
        while piece > 0 && tries < SHRINKS {
            let mut end = script.len() - 1;
            let mut shorter = false;
            while end > head && tries < SHRINKS {
                let begin = end.saturating_sub(piece).max(head);
                let mut candidate = script.clone();
                candidate.drain(begin..end);
                tries += 1;
                // What parts must be the same, not something that the grammar keeps away from.
                if let Some(again) = self.play(&candidate, None)?
                    && candidate[again.at] == last
                    && (&again.ours, &again.theirs) == (&parted.ours, &parted.theirs)
                {
                    candidate.truncate(again.at + 1);
                    script = candidate;
                    parted = again;
                    shorter = true;
                }
                end = begin.min(script.len() - 1);
            }
            if !shorter || piece > 1 {
                piece /= 2;
            }
        }
        Ok(self.mismatch(seed, script, parted))
    }

    fn mismatch(&self, seed: u64, mut script: Vec<Op>, parted: Parted) -> Mismatch {
        script.truncate(parted.at + 1);
        Mismatch {
            device: self.grammar.name,
            seed,
            script,
            ours: parted.ours,
            theirs: parted.theirs,
        }
    }
}

/// A disk image of known contents.
struct Image(PathBuf);

impl Image {
    fn new(wanted: bool) -> io::Result<Self> {
        let name = format!("twin86-differ-disk-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        if wanted {
            let sector = |n: u32| [n.to_le_bytes(); 128].concat();
            std::fs::write(&path, (0..SECTORS).flat_map(sector).collect::<Vec<u8>>())?;
        }
        Ok(Self(path))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // It may not have been needed.
        let _ = std::fs::remove_file(Path::new(&self.0));
    }
}
