//! What the program does beside running a machine: `twin86 diff-exits A B`.

use std::io;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use crate::flow::{self, Rules, TraceError};

/// Compares two files that --trace-exits wrote, and prints where they part; status 0 if they agree, 1 if
/// they do not, 2 if one cannot be read.
#[derive(Parser, Debug)]
#[command(name = "twin86 diff-exits")]
struct DiffExits {
    /// One trace.
    a: PathBuf,
    /// The other.
    b: PathBuf,
    /// Compare the data of timed reads, too (8254, RTC, PM timer, local APIC, HPET), and how often a
    /// loop of up to four exits that only waits by one repeats.
    #[arg(long)]
    exact: bool,
    /// Leave interrupts out.
    #[arg(long)]
    no_interrupts: bool,
    /// One may end before the other.
    #[arg(long)]
    prefix: bool,
}

/// Status when a file cannot be read, as of `diff`.
const TROUBLE: u8 = 2;

/// Carries out the subcommand that the arguments (without the program's name) begin with; its exit
/// status, or `None` if there is none. `fail` is told what went wrong, in one line.
pub fn run(arguments: &[String], fail: impl Fn(&str)) -> Option<u8> {
    let (name, rest) = arguments.split_first()?;
    if name != "diff-exits" {
        return None;
    }
    let words = std::iter::once("twin86 diff-exits").chain(rest.iter().map(String::as_str));
    let given = match DiffExits::try_parse_from(words) {
        Ok(given) => given,
        Err(error) => {
            // The help goes to standard output and is no mistake.
            let status = if error.use_stderr() { TROUBLE } else { 0 };
            let _ = error.print();
            return Some(status);
        }
    };
    let rules = Rules {
        exact: given.exact,
        no_interrupts: given.no_interrupts,
        prefix: given.prefix,
    };
    let agree = flow::diff([&given.a, &given.b], rules, &mut io::stdout().lock());
    Some(match agree {
        Ok(agree) => u8::from(!agree),
        // Who has read enough wants no more.
        Err(TraceError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => TROUBLE,
        Err(error) => {
            fail(&error.to_string());
            TROUBLE
        }
    })
}

/// The subcommands in one line each, for the program's help.
pub fn list() -> String {
    let usage = DiffExits::command().render_usage().to_string();
    format!(
        "Other commands:\n  {}\n",
        usage.trim_start_matches("Usage: ")
    )
}
