//! What a command can fail with: each is a line for the user.

use std::io;

use crate::cli::CliError;
use crate::engines::SwitchError;
use crate::machine::VmError;
use crate::run::RunError;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// No such command.
    #[error("unknown command: '{given}'{}", did_you_mean(.nearest))]
    Unknown {
        /// As it was typed, shortened.
        given: String,
        /// The nearest command.
        nearest: Option<&'static str>,
    },
    /// An argument is missing.
    #[error("{command}: {what} expected")]
    Missing {
        /// The command.
        command: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// There are more arguments than the command takes.
    #[error("{command}: extraneous characters at the end of line")]
    Extra {
        /// The command.
        command: &'static str,
    },
    /// An argument is none of those possible.
    #[error("invalid parameter: {given}{}", did_you_mean(.nearest))]
    Parameter {
        /// As it was typed, shortened.
        given: String,
        /// The nearest possible one.
        nearest: Option<&'static str>,
    },
    /// A letter of a format means nothing.
    #[error("invalid char in format: '{0}'")]
    Format(char),
    /// More is asked for than one command shows.
    #[error("{command}: a count of {count} is too large: {most} is the most at once")]
    Count {
        /// The command.
        command: &'static str,
        /// What was asked for.
        count: u64,
        /// What is possible.
        most: u64,
    },
    /// An expression ends where it must go on.
    #[error("unexpected end of expression")]
    EndOfExpression,
    /// A character has no place in an expression.
    #[error("invalid char '{0}' in expression")]
    Character(char),
    /// A parenthesis is not closed.
    #[error("')' expected")]
    Parenthesis,
    /// A number has no digits, or too many.
    #[error("invalid number: {0}")]
    Number(String),
    /// No such register.
    #[error("unknown register: ${0}")]
    Register(String),
    /// A quotient of nothing.
    #[error("division by zero")]
    DivisionByZero,
    /// Parentheses stand in each other more often than anybody needs.
    #[error("expression too deep")]
    Depth,
    /// Nothing shows a picture.
    #[error("Error: there is no display")]
    NoDisplay,
    /// A file cannot be written.
    #[error("Error: failed to write '{path}': {source}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// A guest that turned the machine off cannot go on.
    #[error("Error: Resetting the Virtual Machine is required")]
    Off,
    /// Keys wait to be typed already.
    #[error("Error: too many keys wait to be typed")]
    Busy,
    /// No thread could be started.
    #[error("Error: no thread could be started")]
    Thread,
    /// The engine failed.
    #[error("Error: {0}")]
    Vm(#[from] VmError),
    /// That is no engine.
    #[error("Error: {0}")]
    Engine(#[from] CliError),
    /// An engine cannot be opened.
    #[error("Error: {error}{}", more(.error))]
    Open {
        /// Why.
        error: Box<RunError>,
    },
    /// The machine does not move to another engine.
    #[error("Error: {0}")]
    Switch(#[from] SwitchError),
    /// The run is over.
    #[error("Error: the machine is gone")]
    Gone,
}

/// What the user could do about it, in a line of its own.
fn more(error: &RunError) -> String {
    error
        .help()
        .map_or_else(String::new, |help| format!("\n  {help}"))
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |n| format!("; did you mean '{n}'?"))
}

/// What was typed, as it can be shown: short, and without control characters.
pub(super) fn shown(given: &str) -> String {
    const MOST: usize = 64;
    let mut text: String = given
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if given.chars().nth(MOST).is_some() {
        text.push_str("...");
    }
    text
}

/// The name nearest to what was typed. What is longer than any name is near to none.
pub(super) fn nearest(
    given: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    const LONGEST: usize = 64;
    (given.len() <= LONGEST)
        .then(|| crate::properties::nearest(given, names))
        .flatten()
}
