//! The program `twin86`: options in, a machine run, an exit status out.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::process::ExitCode;

use twin86::cli::Options;
use twin86::subcommand;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(status) = subcommand::run(&arguments, |line| eprintln!("twin86: {line}")) {
        return ExitCode::from(status);
    }
    let options = match Options::from_args(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("twin86: {error}");
            return ExitCode::from(1);
        }
    };
    if options.help {
        print!("{}", Options::help_text());
        return ExitCode::SUCCESS;
    }
    if options.help_all {
        print!("{}", Options::long_help_text());
        return ExitCode::SUCCESS;
    }
    match twin86::run::run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("twin86: {error:#}");
            if let Some(help) = error.help() {
                eprintln!("  {help}");
            }
            ExitCode::from(1)
        }
    }
}
