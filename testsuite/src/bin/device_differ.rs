//! Devices against QEMU's: `device_differ [--device NAME,...] [--ops N] [--seed S] [--time SECONDS]`.
//!
//! One JSON line a difference on standard output, progress on standard error. Exit status: 0 if both
//! sides agree, 1 if not, 2 if they could not be compared.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use testsuite::device_differ::{Plan, Report, grammar, run};

const HELP: &str = "device_differ [--device NAME,...] [--ops N] [--seed S] [--time SECONDS]";

/// What is asked for; none for the help.
fn options() -> Result<Option<(Vec<String>, Plan)>, String> {
    let mut devices: Vec<String> = grammar::names().iter().map(|n| n.to_string()).collect();
    let mut plan = Plan {
        ops: 1_000_000,
        seed: 1,
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
        let number = || {
            let parsed = value.parse::<u64>();
            parsed.map_err(|_| format!("{name} wants a number, not {value}"))
        };
        match name.as_str() {
            "--device" => devices = value.split(',').map(str::to_string).collect(),
            "--ops" => plan.ops = number()?,
            "--seed" => plan.seed = number()?,
            "--time" => plan.time = Some(Duration::from_secs(number()?)),
            _ => {
                return Err(format!(
                    "unknown option {name}: there are --device, --ops, --seed and --time"
                ));
            }
        }
    }
    Ok(Some((devices, plan)))
}

fn compare(device: &str, plan: &Plan) -> Result<Report, String> {
    let begun = Instant::now();
    let mut told = 0;
    let mut progress = |done| {
        if done >= told + 100_000 {
            told = done;
            eprintln!("{device}: {done} of {}", plan.ops);
        }
    };
    let report = run(device, plan, &mut progress).map_err(|error| error.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{device}: {} steps agree in {seconds:.1} s, masked {:?}",
        report.ops, report.masked
    );
    if let Some(mismatch) = &report.mismatch {
        println!("{}", mismatch.json());
        eprintln!("{mismatch}");
    }
    Ok(report)
}

fn main() -> ExitCode {
    let (devices, plan) = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}\ndevices: {}", grammar::names().join(", "));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut differ = false;
    for device in &devices {
        match compare(device, &plan) {
            Ok(report) => differ |= report.mismatch.is_some(),
            Err(error) => {
                eprintln!("{device}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::from(u8::from(differ))
}
