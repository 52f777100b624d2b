//! Turns seeded faults on, one after the other, and tells which the suite does not notice.
//!
//! Exit status: 0 if each was caught, 1 if one survived, 2 if none could be tried.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use testsuite::mutation::{Fault, Mutants, Verdict, faults};

const HELP: &str = "\
mutation [OPTIONS]    seeded faults, and who notices them

  --list           their names
  --ci             those that CI tries
  --fault NAME     this one (may be repeated)
  --shard K/N      every Nth, beginning with the Kth (1 to N)
  --folder PATH    where the copy with faults is built (target/mutation)

Without --ci or --fault: all.";

struct Options {
    chosen: Vec<&'static Fault>,
    list: bool,
    folder: PathBuf,
}

fn by_name(name: &str) -> Result<&'static Fault, String> {
    let found = faults::ALL.iter().find(|fault| fault.name == name);
    found.ok_or_else(|| format!("no fault {name}: --list names them"))
}

fn shard(text: &str) -> Option<(usize, usize)> {
    let (k, n) = text.split_once('/')?;
    let (k, n) = (k.parse().ok()?, n.parse().ok()?);
    (1..=n).contains(&k).then_some((k, n))
}

/// `None` after help was asked for.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        chosen: Vec::new(),
        list: false,
        folder: "target/mutation".into(),
    };
    let (mut ci, mut part) = (false, (1, 1));
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--list" => options.list = true,
            "--ci" => ci = true,
            "--fault" => options.chosen.push(by_name(&value()?)?),
            "--folder" => options.folder = value()?.into(),
            "--shard" => {
                let text = value()?;
                part = shard(&text).ok_or_else(|| format!("--shard wants K/N, not {text}"))?;
            }
            _ => return Err(format!("unknown option {name}: see --help")),
        }
    }
    if options.chosen.is_empty() {
        options.chosen = faults::ALL.iter().filter(|f| !ci || f.ci).collect();
    }
    let (k, n) = part;
    options.chosen = options.chosen.into_iter().skip(k - 1).step_by(n).collect();
    Ok(Some(options))
}

/// Tries the faults; how many survived.
fn try_all(options: &Options) -> Result<usize, Box<dyn Error>> {
    std::fs::create_dir_all(&options.folder)?;
    let folder = options.folder.canonicalize()?;
    let mutants = Mutants::build(&folder)?;
    mutants.check()?;
    let count = options.chosen.len();
    let mut survived = Vec::new();
    for (number, fault) in options.chosen.iter().enumerate() {
        let begin = Instant::now();
        let verdict = mutants.try_fault(fault)?;
        println!(
            "{:>3} of {count}  {:<8} {:<28} {verdict} ({:.0} s)",
            number + 1,
            format!("{:?}", fault.group).to_lowercase(),
            fault.name,
            begin.elapsed().as_secs_f64()
        );
        if verdict == Verdict::Survived {
            survived.push(fault.name);
        }
    }
    let caught = count - survived.len();
    println!("{caught} of {count} seeded faults caught");
    if !survived.is_empty() {
        println!("survived: {}", survived.join(", "));
    }
    Ok(survived.len())
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("mutation: {error}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for fault in &options.chosen {
            println!("{:<28} {:?}, {}", fault.name, fault.group, fault.file);
        }
        return ExitCode::SUCCESS;
    }
    match try_all(&options) {
        Ok(survived) => ExitCode::from(u8::from(survived != 0)),
        Err(error) => {
            eprintln!("mutation: {error}");
            ExitCode::from(2)
        }
    }
}
