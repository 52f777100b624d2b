//! What a run counted: exits by the hardware's names, instructions, KVM's own statistics, and what
//! was rescued; one column an engine. `--stats` and the monitor's `info exits` show it.
//!
//! An exit is counted where the machine sees it, so it is the same event on both engines. What an
//! engine cannot know is `-` (JSON: null), never 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use accel::Counters;

use crate::cli::{CliError, one_of};
use crate::exits::ExitKind;
use crate::run::RunError;

/// Exits that the machine does not see, with KVM's own name for them where it has one.
#[rustfmt::skip]
const UNSEEN: &[(&str, Option<&str>)] = &[
    ("EXCEPTION_NMI", None), ("PENDING_INTERRUPT", Some("irq_window_exits")),
    ("NMI_WINDOW", Some("nmi_window_exits")), ("CR_ACCESS", None), ("DR_ACCESS", None), ("CPUID", None),
    ("MSR_READ", None), ("MSR_WRITE", None), ("INVD", None), ("INVLPG", Some("invlpg")),
    ("VMCALL", Some("hypercalls")), ("VMCLEAR", None), ("VMLAUNCH", None), ("VMPTRLD", None),
    ("VMPTRST", None), ("VMREAD", None), ("VMRESUME", None), ("VMWRITE", None), ("VMOFF", None),
    ("VMON", None), ("TPR_BELOW_THRESHOLD", None), ("APIC_ACCESS", None), ("WBINVD", None),
    ("XSETBV", None), ("TASK_SWITCH", None), ("MCE_DURING_VMENTRY", None), ("EPT_MISCONFIG", None),
    ("PAUSE", None), ("MWAIT", None), ("MONITOR", None),
];

/// What a run on one engine counted.
#[derive(Clone, Debug, Default)]
pub struct RunStats {
    /// The engine's name.
    pub engine: &'static str,
    /// How often the machine has come to the engine; once for one that is never left.
    pub stays: u64,
    /// Guest time that passed.
    pub time: Duration,
    /// Exits that the machine saw.
    pub exits: BTreeMap<ExitKind, u64>,
    /// What the engine counted.
    pub counters: Counters,
}

impl RunStats {
    /// How often an exit happened that the machine does not see.
    fn unseen(&self, kernels_name: Option<&str>) -> Option<u64> {
        let name = kernels_name?;
        let all = &self.counters.kernel;
        all.iter().find(|s| s.name == name).map(|s| s.value)
    }
}

/// Counts by name.
type Named = BTreeMap<String, u64>;

/// The least width of the column of names.
const NAMES: usize = 20;

/// A row of a table; empty if no run has anything in it.
fn row(width: usize, name: &str, detail: &str, counts: &[Option<u64>]) -> String {
    if !counts.iter().any(|count| count.is_some_and(|n| n != 0)) {
        return String::new();
    }
    let mut line = format!("{name:<width$} {detail:<6}");
    for count in counts {
        let count = count.map_or("-".to_string(), |count| count.to_string());
        let _ = write!(line, " {count:>14}");
    }
    line + "\n"
}

/// Rows of counts that have names of the runs' own.
fn named_rows(width: usize, detail: &str, columns: &[Named]) -> String {
    let names: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    let rows = names.into_iter().map(|name| {
        let counts: Vec<_> = columns.iter().map(|c| c.get(name).copied()).collect();
        row(width, name, detail, &counts)
    });
    rows.collect()
}

/// Counts of several runs side by side.
pub struct Table<'a>(pub &'a [RunStats]);

impl Table<'_> {
    fn counts<T>(&self, of: impl Fn(&RunStats) -> T) -> Vec<T> {
        self.0.iter().map(of).collect()
    }

    /// The rows of exits, with the engines' names where there are several; empty if there was none.
    pub fn exits(&self) -> String {
        let rows = self.exits_at(NAMES);
        if self.0.len() < 2 || rows.is_empty() {
            return rows;
        }
        self.header(NAMES) + &rows
    }

    fn header(&self, width: usize) -> String {
        let mut line = format!("{:<width$} {:<6}", "exits", "");
        for run in self.0 {
            let _ = write!(line, " {:>14}", run.engine);
        }
        line + "\n"
    }

    fn exits_at(&self, width: usize) -> String {
        let seen = ExitKind::ALL.iter().map(|kind| {
            let counts = self.counts(|run| Some(run.seen(*kind)));
            row(width, kind.name(), kind.detail(), &counts)
        });
        let unseen = UNSEEN.iter().map(|(name, kernels_name)| {
            let counts = self.counts(|run| run.unseen(*kernels_name));
            row(width, name, "", &counts)
        });
        seen.chain(unseen).collect()
    }

    /// The names of exits that no run can tell of.
    fn unknown(&self) -> String {
        let unknown = |of: &Option<&str>| self.0.iter().all(|run| run.unseen(*of).is_none());
        let names = UNSEEN.iter().filter(|(_, of)| unknown(of));
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }

    /// The same as JSON.
    pub fn json(&self) -> String {
        let runs: Vec<String> = self.0.iter().map(RunStats::json).collect();
        format!("{{\"runs\":[{}]}}\n", runs.join(","))
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rescued = self.counts(|run| run.counters.rescued.clone());
        let kernel = self.counts(RunStats::kernel);
        let lockstep = self.counts(|run| run.counters.lockstep.clone());
        let names = rescued
            .iter()
            .chain(&kernel)
            .chain(&lockstep)
            .flat_map(BTreeMap::keys);
        let width = names.map(String::len).fold(NAMES, usize::max);
        f.write_str(&self.header(width))?;
        f.write_str(&self.exits_at(width))?;
        let instructions = self.counts(|run| run.counters.instructions);
        f.write_str(&row(width, "instructions", "", &instructions))?;
        let milliseconds = self.counts(|run| u64::try_from(run.time.as_millis()).ok());
        f.write_str(&row(width, "guest time", "ms", &milliseconds))?;
        if self.0.iter().any(|run| run.stays > 1) {
            let stays = self.counts(|run| Some(run.stays));
            f.write_str(&row(width, "stays", "", &stays))?;
        }
        f.write_str(&named_rows(width, "rescue", &rescued))?;
        f.write_str(&named_rows(width, "lock", &lockstep))?;
        f.write_str(&named_rows(width, "kernel", &kernel))?;
        writeln!(f, "not counted: {}", self.unknown())
    }
}

impl RunStats {
    fn seen(&self, kind: ExitKind) -> u64 {
        self.exits.get(&kind).copied().unwrap_or(0)
    }

    fn kernel(&self) -> Named {
        let all = self.counters.kernel.iter();
        all.map(|s| (s.name.clone(), s.value)).collect()
    }

    fn json(&self) -> String {
        let seen = ExitKind::ALL.map(|kind| {
            let name = format!("{} {}", kind.name(), kind.detail());
            pair(name.trim_end(), self.seen(kind))
        });
        let unseen = UNSEEN.iter().map(|(name, kernels_name)| {
            let count = self.unseen(*kernels_name);
            format!("\"{name}\":{}", or_null(count))
        });
        let exits: Vec<String> = seen.into_iter().chain(unseen).collect();
        format!(
            "{{\"engine\":\"{}\",\"stays\":{},\"guest_seconds\":{:.6},\"instructions\":{},\"exits\":{{{}}},\"rescued\":{},\"lockstep\":{},\"kernel\":{}}}",
            self.engine,
            self.stays,
            self.time.as_secs_f64(),
            or_null(self.counters.instructions),
            exits.join(","),
            object(&self.counters.rescued),
            object(&self.counters.lockstep),
            object(&self.kernel())
        )
    }
}

fn or_null(count: Option<u64>) -> String {
    count.map_or("null".to_string(), |count| count.to_string())
}

/// A name, quoted as JSON wants it, and its count.
fn pair(name: &str, count: u64) -> String {
    let mut quoted = String::new();
    for c in name.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    format!("\"{quoted}\":{count}")
}

fn object(counts: &Named) -> String {
    let pairs: Vec<String> = counts
        .iter()
        .map(|(name, count)| pair(name, *count))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// One line of what lockstep has checked, if any run was one.
pub fn lockstep(runs: &[RunStats]) -> Option<String> {
    let counts = runs.iter().map(|run| &run.counters.lockstep);
    let counts = counts.flatten().filter(|(_, count)| **count != 0);
    let parts: Vec<_> = counts.map(|(what, n)| format!("{what} {n}")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Where `--stats` writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    json: bool,
    /// Standard error if there is none: standard output may be the guest's.
    file: Option<PathBuf>,
}

impl Output {
    /// `text` or `json`, with `:FILE` behind it.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(given: &str) -> Result<Self, CliError> {
        let (form, file) = match given.split_once(':') {
            Some((form, file)) => (form, Some(PathBuf::from(file))),
            None => (given, None),
        };
        let forms = ["text", "json"];
        if !forms.contains(&form) {
            return Err(one_of("--stats", form, &forms, "'text' or 'json'"));
        }
        let json = form == "json";
        Ok(Self { json, file })
    }

    /// Writes the counts of the runs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, runs: &[RunStats]) -> Result<(), RunError> {
        let table = Table(runs);
        let text = if self.json {
            table.json()
        } else {
            table.to_string()
        };
        match &self.file {
            Some(path) => {
                fs::write(path, text).map_err(|error| RunError::file(path, error.to_string()))
            }
            None => Ok(io::stderr().write_all(text.as_bytes())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use accel::Statistic;

    use super::*;

    fn runs() -> [RunStats; 2] {
        let tcg = RunStats {
            engine: "tcg",
            stays: 1,
            time: Duration::from_millis(1500),
            exits: [(ExitKind::In, 3), (ExitKind::Halt, 1)].into(),
            counters: Counters {
                instructions: Some(1000),
                ..Counters::default()
            },
        };
        let kernel = [("exits", 12), ("irq_window_exits", 2), ("nothing", 0)];
        let kvm = RunStats {
            engine: "kvm",
            stays: 2,
            exits: [(ExitKind::In, 4)].into(),
            counters: Counters {
                instructions: None,
                kernel: kernel
                    .map(|(name, value)| Statistic {
                        name: name.into(),
                        value,
                    })
                    .to_vec(),
                rescued: [("FLD1".to_string(), 5)].into(),
                ..Counters::default()
            },
            ..tcg.clone()
        };
        [tcg, kvm]
    }

    #[test]
    fn engines_stand_side_by_side() {
        let text = Table(&runs()).to_string();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        let (last, rows) = lines.split_last().expect("lines");
        let expected = [
            "exits tcg kvm",
            "IO_INSTRUCTION in 3 4",
            "HLT 1 0",
            "PENDING_INTERRUPT - 2",
            "instructions 1000 -",
            "guest time ms 1500 1500",
            "stays 1 2",
            "FLD1 rescue - 5",
            "exits kernel - 12",
            "irq_window_exits kernel - 2",
        ];
        assert_eq!(rows, expected);
        assert!(last.starts_with("not counted: EXCEPTION_NMI"), "{last}");
        assert!(!last.contains("PENDING_INTERRUPT"), "{last}");
    }

    #[test]
    fn json_says_null_for_what_is_unknown() {
        let json = Table(&runs()).json();
        for part in [
            r#"{"runs":[{"engine":"tcg","stays":1,"guest_seconds":1.500000,"instructions":1000,"#,
            r#""IO_INSTRUCTION in":3,"IO_INSTRUCTION out":0,"#,
            r#""PENDING_INTERRUPT":null"#,
            r#""PENDING_INTERRUPT":2"#,
            r#""instructions":null"#,
            r#""rescued":{"FLD1":5},"lockstep":{},"kernel":{"exits":12,"irq_window_exits":2,"nothing":0}}]}"#,
        ] {
            assert!(json.contains(part), "{json} lacks {part}");
        }
        assert_eq!(pair("a\"\\\n", 1), r#""a\"\\\u000a":1"#);
    }

    #[test]
    fn an_output_has_a_form_and_a_file() {
        let json = Output::parse("json:/a:b").expect("an output");
        let file = Some(PathBuf::from("/a:b"));
        assert_eq!(json, Output { json: true, file });
        let text = Output::parse("text").expect("an output");
        assert_eq!(
            text,
            Output {
                json: false,
                file: None
            }
        );
        let error = Output::parse("jsn").expect_err("no form").to_string();
        assert!(error.contains("did you mean 'json'?"), "{error}");
    }
}
