//! Character backends of the command line: `-chardev`, and what `-serial` and `-debugcon` name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use devices::backend::chardev::Chardev;

use crate::cli::{CliError, one_of};
use crate::properties::Properties;
use crate::run::RunError;

/// Who takes what is typed, and how.
#[derive(Clone, Debug)]
pub struct Stdio {
    /// The stream.
    pub chardev: Chardev,
    /// The device plugged into it: the name of its row.
    pub device: Option<&'static str>,
    /// Ctrl-A is an escape, and Ctrl-C the guest's (`mon:stdio`).
    pub mux: bool,
}

/// The backends the options made.
#[derive(Debug, Default)]
pub struct Backends {
    by_id: BTreeMap<String, Backend>,
    /// Standard input and output, if a backend has them.
    pub stdio: Option<Stdio>,
}

#[derive(Debug)]
struct Backend {
    chardev: Chardev,
    is_stdio: bool,
    in_use: bool,
}

/// A kind of `-chardev`.
const KINDS: &[&str] = &["stdio", "file", "null"];
/// What `-serial` and `-debugcon` take.
const NAMES: &[&str] = &["stdio", "mon:stdio", "file:", "null", "none", "chardev:"];

impl Backends {
    /// Takes one `-chardev`.
    ///
    /// # Errors
    /// If it is wrong, or its file cannot be made.
    pub fn add(&mut self, given: &str) -> Result<(), RunError> {
        let wrong = |source| RunError::Property {
            option: "-chardev",
            given: given.to_string(),
            source,
        };
        let usage = |problem: &str| CliError::Usage(format!("-chardev {given}: {problem}"));
        let properties = Properties::parse(given).map_err(wrong)?;
        let kind = properties.head().or(properties.get("backend"));
        let kind = kind.unwrap_or_default();
        let known: &[&str] = match kind {
            "stdio" => &["backend", "id", "mux", "signal"],
            "file" => &["backend", "id", "path", "append"],
            "null" => &["backend", "id"],
            other => return Err(one_of("-chardev", other, KINDS, "a backend").into()),
        };
        properties.only(known).map_err(wrong)?;
        let id = properties.get("id").ok_or_else(|| usage("needs id="))?;
        if self.by_id.contains_key(id) {
            return Err(usage("the id is taken").into());
        }
        let chardev = match kind {
            "file" => {
                let path = properties.get("path").ok_or_else(|| usage("needs path="))?;
                let appends = match properties.get("append") {
                    None => false,
                    Some(given) => crate::cli::switch("-chardev", given)?,
                };
                file(Path::new(path), appends)?
            }
            "stdio" => {
                let mux = match properties.get("mux") {
                    None => false,
                    Some(given) => crate::cli::switch("-chardev", given)?,
                };
                self.take_stdio(mux)?
            }
            _ => Chardev::null(),
        };
        let backend = Backend {
            chardev,
            is_stdio: kind == "stdio",
            in_use: false,
        };
        self.by_id.insert(id.to_string(), backend);
        Ok(())
    }

    /// The backend with an id, for `device`.
    ///
    /// # Errors
    /// If there is none, or another device has it.
    pub fn by_id(
        &mut self,
        option: &'static str,
        id: &str,
        device: &'static str,
    ) -> Result<Chardev, RunError> {
        let names: Vec<String> = self.by_id.keys().cloned().collect();
        let Some(backend) = self.by_id.get_mut(id) else {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(one_of(option, id, &names, "the id of a -chardev").into());
        };
        if backend.in_use {
            let text = format!("{option}: chardev '{id}' is in use");
            return Err(CliError::Usage(text).into());
        }
        backend.in_use = true;
        if backend.is_stdio
            && let Some(stdio) = &mut self.stdio
        {
            stdio.device = Some(device);
        }
        Ok(backend.chardev.clone())
    }

    /// Opens what `-serial` or `-debugcon` names, for `device`.
    ///
    /// # Errors
    /// If there is no such backend, or it cannot be opened.
    pub fn open(
        &mut self,
        option: &'static str,
        given: &str,
        device: &'static str,
    ) -> Result<Chardev, RunError> {
        if let Some(path) = given.strip_prefix("file:") {
            return file(Path::new(path), false);
        }
        if let Some(id) = given.strip_prefix("chardev:") {
            return self.by_id(option, id, device);
        }
        match given {
            "stdio" | "mon:stdio" => {
                let chardev = self.take_stdio(given == "mon:stdio")?;
                if let Some(stdio) = &mut self.stdio {
                    stdio.device = Some(device);
                }
                Ok(chardev)
            }
            "null" | "none" => Ok(Chardev::null()),
            _ => Err(one_of(
                option,
                given,
                NAMES,
                "stdio, mon:stdio, file:PATH, null or chardev:ID",
            )
            .into()),
        }
    }

    fn take_stdio(&mut self, mux: bool) -> Result<Chardev, RunError> {
        if self.stdio.is_some() {
            let text = "standard input and output can serve one device only: use file:PATH";
            return Err(CliError::Usage(text.into()).into());
        }
        let chardev = Chardev::new(Box::new(io::stdout()));
        self.stdio = Some(Stdio {
            chardev: chardev.clone(),
            device: None,
            mux,
        });
        Ok(chardev)
    }
}

fn file(path: &Path, appends: bool) -> Result<Chardev, RunError> {
    let mut options = File::options();
    options.create(true);
    if appends {
        options.append(true);
    } else {
        options.write(true).truncate(true);
    }
    let file = options.open(path);
    let file = file.map_err(|error| RunError::file(path, error.to_string()))?;
    Ok(Chardev::new(Box::new(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_serves_one_device() {
        let mut backends = Backends::default();
        assert!(backends.open("-serial", "mon:stdio", "com1").is_ok());
        let error = backends.open("-debugcon", "stdio", "debugcon");
        assert!(error.is_err_and(|e| e.to_string().contains("one device only")));
        let stdio = backends.stdio.expect("taken");
        assert_eq!((stdio.device, stdio.mux), (Some("com1"), true));
    }

    #[test]
    fn a_chardev_is_found_by_its_id_once() {
        let mut backends = Backends::default();
        backends.add("null,id=a").expect("a backend");
        let find = |backends: &mut Backends, id| {
            let found = backends.by_id("-device", id, "debugcon");
            found.map(drop).map_err(|e| e.to_string())
        };
        let near = "-device: 'b' is not the id of a -chardev".to_string();
        assert_eq!(find(&mut backends, "b"), Err(near));
        assert_eq!(find(&mut backends, "a"), Ok(()));
        let used = "-device: chardev 'a' is in use".to_string();
        assert_eq!(find(&mut backends, "a"), Err(used));
        for (given, problem) in [
            (
                "nul,id=x",
                "-chardev: 'nul' is not a backend; did you mean 'null'?",
            ),
            ("null", "-chardev null: needs id="),
            ("file,id=x", "-chardev file,id=x: needs path="),
            ("null,id=a", "-chardev null,id=a: the id is taken"),
        ] {
            let error = backends.add(given).expect_err(given);
            assert_eq!(error.to_string(), problem);
        }
    }
}
