//! Many random cases on KVM and the interpreter, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use accel::AccelError;

use super::engine::Refusal;
use super::generate::Generator;
use super::{Arena, Case, Mode, Verdict, known};

/// Differing cases of one instruction that are shrunk and told.
const KEPT: u64 = 2;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Cases to draw.
    pub cases: u64,
    /// Seed.
    pub seed: u64,
    /// This shard of so many: each runs every n-th case of the seed.
    pub shard: (u64, u64),
    /// An end before that.
    pub time: Option<Duration>,
}

/// Counts of one mode and ring.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    agree: u64,
    known: u64,
    differ: u64,
    refused: u64,
    hung: u64,
    astray: u64,
    absent: u64,
}

/// What a campaign found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    modes: BTreeMap<(Mode, u8), Row>,
    /// Unexplained differences by instruction, mode and ring.
    differing: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    astray: BTreeMap<String, u64>,
    known: BTreeMap<&'static str, u64>,
    /// Cases that a partial KVM got with other flags: see [`known::comparable`].
    changed: u64,
    /// Cases that both ran, or KVM refused.
    pub ran: u64,
    /// How long that took.
    pub time: Duration,
}

impl Report {
    /// Differences that no row of [`known`] explains.
    pub fn differences(&self) -> u64 {
        self.differing.values().sum()
    }
}

/// Runs a campaign; `tell` gets a line of JSON for each kept difference, `progress` the number of cases
/// drawn and the differences so far.
///
/// # Errors
/// If there is no KVM, or it breaks down.
pub fn run(
    plan: &Plan,
    tell: &mut dyn FnMut(&str),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, AccelError> {
    let mut arena = Arena::new()?;
    let mut generator = Generator::new(plan.seed);
    let mut report = Report::default();
    let begin = Instant::now();
    for number in 0..plan.cases {
        let case = generator.case();
        if number % plan.shard.1 != plan.shard.0 {
            continue;
        }
        if number % 10_000 == 0 {
            progress(number, report.differences());
        }
        if plan.time.is_some_and(|time| begin.elapsed() > time) {
            break;
        }
        one(&mut arena, &case, &mut report, tell)?;
    }
    report.time = begin.elapsed();
    Ok(report)
}

fn one(
    arena: &mut Arena,
    case: &Case,
    report: &mut Report,
    tell: &mut dyn FnMut(&str),
) -> Result<(), AccelError> {
    let row = report.modes.entry((case.mode, case.cpl)).or_default();
    if arena.is_partial() && !case.mode.on_partial() {
        row.absent += 1;
        return Ok(());
    }
    report.ran += 1;
    let changed = known::comparable(case).filter(|_| arena.is_partial());
    report.changed += u64::from(changed.is_some());
    let case = changed.as_ref().unwrap_or(case);
    match arena.compare(case)? {
        Verdict::Agree => row.agree += 1,
        Verdict::Astray => {
            row.astray += 1;
            let name = format!("{:?}", case.instruction().mnemonic());
            *report.astray.entry(name).or_default() += 1;
        }
        Verdict::Refused(why) => {
            match why {
                Refusal::Hang => row.hung += 1,
                Refusal::Internal(_) => row.refused += 1,
            }
            let mnemonic = case.instruction().mnemonic();
            let name = format!(
                "{mnemonic:?}{}",
                if why == Refusal::Hang { " (hangs)" } else { "" }
            );
            *report.refused.entry(name).or_default() += 1;
        }
        Verdict::Differ(lines) => {
            if let Some(what) = known::explain(case, &lines).filter(|_| arena.is_partial()) {
                row.known += 1;
                *report.known.entry(what).or_default() += 1;
                return Ok(());
            }
            row.differ += 1;
            let code = case.instruction().code();
            let name = format!("{code:?} {:?} ring {}", case.mode, case.cpl);
            let count = report.differing.entry(name).or_default();
            *count += 1;
            if *count <= KEPT {
                let small = arena.shrink(case)?;
                if let Verdict::Differ(lines) = arena.compare(&small)? {
                    tell(&json(&small, &lines));
                }
            }
        }
    }
    Ok(())
}

/// A difference in a line. Rust's escapes of these texts are JSON's.
fn json(case: &Case, lines: &[String]) -> String {
    format!(
        "{{\"instruction\":{:?},\"mode\":\"{:?}\",\"cpl\":{},\"differences\":{lines:?},\"case\":{:?}}}",
        case.instruction().to_string(),
        case.mode,
        case.cpl,
        case.paste()
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.differing {
            writeln!(f, "{count:>8}  differ: {name}")?;
        }
        for (what, count) in &self.known {
            writeln!(f, "{count:>8}  known: {what}")?;
        }
        let list = |counts: &BTreeMap<String, u64>| {
            let items: Vec<String> = counts.iter().map(|(n, c)| format!("{n} {c}")).collect();
            items.join(", ")
        };
        writeln!(f, "refused by KVM: {}", list(&self.refused))?;
        writeln!(
            f,
            "more than one instruction, not compared: {}",
            list(&self.astray)
        )?;
        writeln!(
            f,
            "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "mode", "agree", "known", "differ", "refused", "hang", "astray", "skipped"
        )?;
        for ((mode, cpl), row) in &self.modes {
            let name = format!("{mode:?} ring {cpl}");
            let Row {
                agree,
                known,
                differ,
                refused,
                hung,
                astray,
                absent,
            } = row;
            writeln!(
                f,
                "{name:<16}{agree:>9}{known:>9}{differ:>9}{refused:>9}{hung:>9}{astray:>9}{absent:>9}"
            )?;
        }
        let changed = self.changed;
        writeln!(
            f,
            "run with IF 1, IOPL 0, NT 0, as this KVM's ring 3 does: {changed}"
        )?;
        let rate = self.ran as f64 / self.time.as_secs_f64();
        write!(
            f,
            "{} cases on KVM, {} differ; {rate:.0} cases a second",
            self.ran,
            self.differences()
        )
    }
}
