//! The rest of a line, behind the command's name.

use super::error::MonitorError;

/// What is left of the line.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    /// The command, for messages.
    command: &'static str,
    rest: &'a str,
}

impl<'a> Arguments<'a> {
    /// The arguments of `command`.
    pub fn new(command: &'static str, rest: &'a str) -> Self {
        let rest = rest.trim();
        Self { command, rest }
    }

    /// The command's name.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// The next word, if there is one; quotes hold words together.
    pub fn optional(&mut self) -> Option<&'a str> {
        if let Some(quoted) = self.rest.strip_prefix('"')
            && let Some((word, rest)) = quoted.split_once('"')
        {
            self.rest = rest.trim_start();
            return Some(word);
        }
        let end = self.rest.find(char::is_whitespace);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    /// The next word.
    pub fn word(&mut self, what: &'static str) -> Result<&'a str, MonitorError> {
        let command = self.command;
        self.optional()
            .ok_or(MonitorError::Missing { command, what })
    }

    /// There is nothing left.
    pub fn end(&self) -> Result<(), MonitorError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MonitorError::Extra {
                command: self.command,
            })
        }
    }

    /// What stands between a slash and the next blank, if a slash stands here.
    pub fn format(&mut self) -> Option<&'a str> {
        let format = self.rest.strip_prefix('/')?;
        let end = format.find(char::is_whitespace).unwrap_or(format.len());
        self.rest = format[end..].trim_start();
        Some(&format[..end])
    }
}
