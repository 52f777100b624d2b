//! The table of commands, their help, and the completion of their names.

use std::fmt::Write;

use super::arguments::Arguments;
use super::error::{MonitorError, nearest, shown};
use crate::accel_option::Engine;

use super::{Session, act, info, keys, memory, picture, ports};

/// What a command says, in lines.
pub type Reply = Result<String, MonitorError>;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Another name; empty if there is none.
    pub alias: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&mut Session, Arguments<'_>) -> Reply,
}

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command { name: "accel_set", alias: "", arguments: "tcg|kvm[,rescue=on|off|refusals]", about: "move the machine to an engine (properties count the first time)", run: act::accel_set },
    Command { name: "cont", alias: "c", arguments: "", about: "resume emulation", run: act::cont },
    Command { name: "help", alias: "?", arguments: "[cmd]", about: "show the help", run: help },
    Command { name: "i", alias: "", arguments: "/fmt addr [index]", about: "read a port (fmt: b h w); with an index, after writing it there, the port above", run: ports::input },
    Command { name: "info", alias: "", arguments: "[subcommand]", about: "show various information about the system state", run: info::run },
    Command { name: "nmi", alias: "", arguments: "", about: "inject an NMI", run: act::nmi },
    Command { name: "o", alias: "", arguments: "/fmt addr value", about: "write a port", run: ports::output },
    Command { name: "print", alias: "p", arguments: "/fmt expr", about: "print expression value (use $reg for CPU register access)", run: memory::print },
    Command { name: "quit", alias: "q", arguments: "", about: "quit the emulator", run: act::quit },
    Command { name: "screendump", alias: "", arguments: "filename [-f ppm|png]", about: "save the screen as a picture, PPM by default", run: picture::screendump },
    Command { name: "sendkey", alias: "", arguments: "keys [hold_ms]", about: "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)", run: keys::sendkey },
    Command { name: "stop", alias: "s", arguments: "", about: "stop emulation", run: act::stop },
    Command { name: "system_powerdown", alias: "", arguments: "", about: "press the power button", run: act::system_powerdown },
    Command { name: "system_reset", alias: "", arguments: "", about: "reset the system", run: act::system_reset },
    Command { name: "x", alias: "", arguments: "/fmt addr", about: "virtual memory dump starting at 'addr' (fmt: count, x d u o c i s, b h w g)", run: memory::linear },
    Command { name: "xp", alias: "", arguments: "/fmt addr", about: "physical memory dump starting at 'addr'", run: memory::physical },
];

/// The command of a name.
pub(super) fn find(
    commands: &'static [Command],
    given: &str,
    prefix: &str,
) -> Result<&'static Command, MonitorError> {
    let named = |c: &&Command| c.name == given || (!c.alias.is_empty() && c.alias == given);
    commands.iter().find(named).ok_or_else(|| {
        let names = commands.iter().map(|command| command.name);
        MonitorError::Unknown {
            given: shown(&format!("{prefix}{given}")),
            nearest: nearest(given, names),
        }
    })
}

/// Does what a line says.
pub(super) fn run(session: &mut Session, line: &str) -> Reply {
    let line = line.trim();
    if line.is_empty() {
        return Ok(String::new());
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '/');
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let command = find(COMMANDS, name, "")?;
    (command.run)(session, Arguments::new(command.name, rest))
}

fn describe(commands: &[Command], prefix: &str) -> String {
    let mut text = String::new();
    for command in commands {
        describe_one(&mut text, command, prefix);
    }
    text
}

fn describe_one(text: &mut String, command: &Command, prefix: &str) {
    let bar = if command.alias.is_empty() { "" } else { "|" };
    let _ = writeln!(
        text,
        "{prefix}{}{bar}{} {} -- {}",
        command.name, command.alias, command.arguments, command.about
    );
}

/// All subcommands of `info`.
pub(super) fn describe_info() -> String {
    describe(info::TABLE, "info ")
}

fn help(_: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    let Some(name) = arguments.optional() else {
        return Ok(describe(COMMANDS, ""));
    };
    let command = find(COMMANDS, name, "")?;
    let mut text = String::new();
    match arguments.optional() {
        Some(subcommand) if command.name == "info" => {
            describe_one(&mut text, find(info::TABLE, subcommand, "info ")?, "info ");
        }
        Some(_) => {
            return Err(MonitorError::Extra {
                command: arguments.command(),
            });
        }
        None if command.name == "info" => text = describe_info(),
        None => describe_one(&mut text, command, ""),
    }
    arguments.end()?;
    Ok(text)
}

/// What completes the line `typed`, and, where that is not one name, the names to choose from.
pub(super) fn completion(typed: &str) -> (String, Option<String>) {
    let typed = typed.trim_start();
    let of = |commands: &'static [Command]| commands.iter().map(|c| c.name).collect();
    let (names, begun): (Vec<&str>, &str) = match typed.split_once(char::is_whitespace) {
        None => (of(COMMANDS), typed),
        Some(("info", begun)) => (of(info::TABLE), begun),
        Some(("help" | "?", begun)) => (of(COMMANDS), begun),
        Some(("accel_set", begun)) => (Engine::ALL.map(Engine::name).to_vec(), begun),
        Some(_) => return (String::new(), None),
    };
    let begun = begun.trim_start();
    let names: Vec<&str> = names.into_iter().filter(|n| n.starts_with(begun)).collect();
    match names[..] {
        [] => (String::new(), None),
        [name] => (format!("{} ", &name[begun.len()..]), None),
        [first, ..] => {
            let same = |len: &usize| names.iter().all(|name| name.starts_with(&first[..*len]));
            let longest = (begun.len()..=first.len()).rev().find(same);
            let common = &first[begun.len()..longest.unwrap_or(begun.len())];
            if common.is_empty() {
                (String::new(), Some(format!("{}\n", names.join("  "))))
            } else {
                (common.to_string(), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_far_as_they_are_one() {
        let completed = |typed| completion(typed).0;
        assert_eq!(completed("sc"), "reendump ");
        assert_eq!(completed("system_p"), "owerdown ");
        assert_eq!(completed("sy"), "stem_");
        assert_eq!(completed("info reg"), "isters ");
        assert_eq!(completed("accel_set k"), "vm ");
        assert_eq!(completed("qqq"), "");
        assert_eq!(completed("stop 1"), "");
        let choices = completion("system_").1;
        assert_eq!(choices.as_deref(), Some("system_powerdown  system_reset\n"));
    }

    #[test]
    fn tables_are_in_order_and_names_unique() {
        for table in [COMMANDS, info::TABLE] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
        }
    }
}
