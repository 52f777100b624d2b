//! Many random cases on both sides, and a table of where they part.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use iced_x86::{Code, DecoderOptions};

use crate::case::{Arena, Difference};
use crate::generate::{Generator, expected};
use crate::host::HostError;
use crate::run::{Input, Stop};
use crate::skip::Skips;

/// How many differing cases of one instruction are kept whole.
const KEPT: usize = 2;

/// Differences by the instruction that starts the case.
#[derive(Clone, Debug, Default)]
struct Row {
    cases: u64,
    parted: u64,
    kept: Vec<Difference>,
}

/// What a campaign found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed that gives the same cases again.
    pub seed: u64,
    /// Cases that ran.
    pub cases: u64,
    /// Time they took.
    pub time: Duration,
    rows: BTreeMap<String, Row>,
    ends: BTreeMap<String, u64>,
    skips: Skips,
    missing: Vec<Code>,
    disturbed: u64,
}

impl Report {
    /// Cases in which the interpreter and the host parted.
    pub fn differences(&self) -> u64 {
        self.rows.values().map(|row| row.parted).sum()
    }

    /// Cases a second.
    pub fn rate(&self) -> f64 {
        self.cases as f64 / self.time.as_secs_f64()
    }

    /// 64-bit instructions that no case began with.
    pub fn missing(&self) -> &[Code] {
        &self.missing
    }
}

/// Runs `cases` cases of `seed`; `progress` is told the count now and then.
///
/// # Errors
/// If the host is no oracle.
pub fn run(cases: u64, seed: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, HostError> {
    let mut arena = Arena::new()?;
    let mut generator = Generator::new(seed);
    let mut rows: BTreeMap<Code, Row> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let begin = Instant::now();
    let mut parted = 0;
    for case in 0..cases {
        let input = generator.input();
        let (stop, difference) = arena.compare(&input);
        *ends.entry(end(stop)).or_default() += 1;
        let row = rows.entry(first(&input)).or_default();
        row.cases += 1;
        if let Some(difference) = difference {
            parted += 1;
            row.parted += 1;
            if row.kept.len() < KEPT {
                row.kept.push(difference);
            }
        }
        if case % 10_000 == 9_999 {
            progress(case + 1, parted);
        }
    }
    let wanted = Code::values().filter(|&c| expected(c));
    Ok(Report {
        seed,
        cases,
        time: begin.elapsed(),
        missing: wanted.filter(|c| !rows.contains_key(c)).collect(),
        rows: rows
            .into_iter()
            .map(|(code, row)| (format!("{code:?}"), row))
            .collect(),
        ends,
        skips: generator.skips().clone(),
        disturbed: arena.disturbed(),
    })
}

/// The instruction a case begins with.
fn first(input: &Input) -> Code {
    let instructions = input.decode(DecoderOptions::NONE);
    instructions.first().map_or(Code::INVALID, |i| i.code())
}

fn end(stop: Stop) -> String {
    match stop {
        Stop::Exception(mut e) => {
            e.cr2 = None;
            if e.vector == emu::arch::exception::GP {
                e.error_code = Some(0);
            }
            e.to_string()
        }
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parted = self.rows.iter().filter(|(_, row)| row.parted != 0);
        for (_, row) in parted.clone() {
            for difference in &row.kept {
                writeln!(f, "{difference}\n")?;
            }
        }
        for (code, row) in parted {
            writeln!(f, "{:>8} of {:>8}  {code}", row.parted, row.cases)?;
        }
        let ends: Vec<String> = self
            .ends
            .iter()
            .map(|(end, n)| format!("{end} {n}"))
            .collect();
        writeln!(f, "ended by: {}", ends.join(", "))?;
        write!(f, "{}", self.skips)?;
        if self.disturbed != 0 {
            writeln!(f, "differed once and not again: {}", self.disturbed)?;
        }
        let (cases, parted, seed) = (self.cases, self.differences(), self.seed);
        let kinds = self.rows.len();
        write!(
            f,
            "{cases} cases of {kinds} instructions, seed {seed}: {parted} differ; {:.0} cases a second",
            self.rate()
        )
    }
}
