//! Random cases against the host's own processor or against KVM:
//! `campaign --engine host|kvm --cases N --seed S --shard K/N --time SECONDS`.
//!
//! Against KVM each difference is a line of JSON; the table comes at the end. `--shard` and `--time` are
//! KVM's. Exit status: 0 if both sides agree, 1 if not, 2 if there is no such engine or an option is
//! wrong.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report"
)]

use std::process::ExitCode;
use std::time::Duration;

use testsuite::campaign;
use testsuite::system::campaign::{self as system, Plan};

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').ok_or("a shard is K/N, from 0/N on")?;
    let (k, n) = (number(parts.0)?, number(parts.1)?);
    if k < n {
        Ok((k, n))
    } else {
        Err(format!("there is no shard {k} of {n}"))
    }
}

const HELP: &str = "\
campaign [--engine host|kvm] [--cases N] [--seed S] [--shard K/N] [--time SECONDS]
  --engine host   64-bit and compatibility code of ring 3 on this machine's processor (the default)
  --engine kvm    every mode and ring, through /dev/kvm; a line of JSON a difference
  --cases N       how many (1000000)
  --seed S        the same cases again (1)
  --shard K/N     every N-th case from the K-th on (kvm)
  --time SECONDS  the end, whatever has been done by then (kvm)
Status: 0 both sides agree, 1 they do not, 2 no such engine or option";

/// What is asked for; none for the help.
fn options() -> Result<Option<(bool, Plan)>, String> {
    let mut kvm = false;
    let mut plan = Plan {
        cases: 1_000_000,
        seed: 1,
        shard: (0, 1),
        time: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" {
            return Ok(None);
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} wants a value"))?;
        match (name.as_str(), value.as_str()) {
            ("--engine", "host") => kvm = false,
            ("--engine", "kvm") => kvm = true,
            ("--cases", n) => plan.cases = number(n)?,
            ("--seed", n) => plan.seed = number(n)?,
            ("--shard", text) => plan.shard = shard(text)?,
            ("--time", n) => plan.time = Some(Duration::from_secs(number(n)?)),
            _ => return Err(format!("unknown option {name} {value}\n{HELP}")),
        }
    }
    if !kvm && (plan.shard != (0, 1) || plan.time.is_some()) {
        return Err("--shard and --time go with --engine kvm".into());
    }
    Ok(Some((kvm, plan)))
}

fn main() -> ExitCode {
    let (kvm, plan) = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut progress = |done, parted| {
        if done % 200_000 == 0 {
            eprintln!("{done} of {}, {parted} differ", plan.cases);
        }
    };
    let done = if kvm {
        system::run(&plan, &mut |line| println!("{line}"), &mut progress)
            .map(|report| (report.to_string(), report.differences()))
            .map_err(|error| error.to_string())
    } else {
        campaign::run(plan.cases, plan.seed, &mut progress)
            .map(|report| (report.to_string(), report.differences()))
            .map_err(|error| error.to_string())
    };
    match done {
        Ok((report, differences)) => {
            println!("{report}");
            ExitCode::from(u8::from(differences != 0))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
