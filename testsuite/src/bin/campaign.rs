//! Random cases against the host's own processor: `campaign --cases N --seed S`.
//!
//! Exit status: 0 if both sides agree, 1 if not, 2 if the host is no oracle or an option is wrong.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report"
)]

use std::process::ExitCode;

use testsuite::campaign;

fn options() -> Result<(u64, u64), String> {
    let (mut cases, mut seed) = (1_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = match name.as_str() {
            "--cases" => &mut cases,
            "--seed" => &mut seed,
            _ => {
                return Err(format!(
                    "unknown option {name}: there are --cases and --seed"
                ));
            }
        };
        let text = arguments
            .next()
            .ok_or_else(|| format!("{name} wants a number"))?;
        *value = text
            .parse()
            .map_err(|_| format!("{name} wants a number, not {text}"))?;
    }
    Ok((cases, seed))
}

fn main() -> ExitCode {
    let (cases, seed) = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut progress = |done, parted| {
        if done % 200_000 == 0 {
            eprintln!("{done} of {cases}, {parted} differ");
        }
    };
    match campaign::run(cases, seed, &mut progress) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(report.differences() != 0))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
