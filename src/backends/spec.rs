//! What a character backend is said to be: the short form of `-serial` and the long one of `-chardev`
//! lead to the same properties.

use std::path::PathBuf;

use crate::cli::{CliError, one_of, switch};
use crate::properties::{Properties, split};
use crate::run::RunError;
use crate::socket::Place;

/// The kinds `-chardev` knows.
const KINDS: &[&str] = &["stdio", "file", "null", "pty", "socket"];
/// How the short forms begin.
const NAMES: &[&str] = &[
    "stdio", "file:", "null", "none", "pty", "unix:", "tcp:", "telnet:", "mon:", "chardev:",
];
const EXPECTED: &str = "stdio, file:PATH, null, pty, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT (each may follow mon:) \
     or chardev:ID";

/// A backend to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What it is.
    pub kind: Kind,
    /// Several may use it, and Ctrl-A is an escape.
    pub mux: bool,
}

/// Kinds of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Drops everything.
    Null,
    /// Output goes to a file.
    File {
        /// Which.
        path: PathBuf,
        /// What is there stays.
        append: bool,
    },
    /// Standard input and output.
    Stdio,
    /// A pseudo-terminal.
    Pty,
    /// A socket.
    Socket(Socket),
}

/// A socket to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where.
    pub place: Place,
    /// Others connect to it; otherwise it connects.
    pub server: bool,
    /// The start waits for the first connection.
    pub wait: bool,
    /// The peer speaks telnet.
    pub telnet: bool,
}

impl Spec {
    /// Parses what `-serial`, `-monitor` or `-debugcon` name; `chardev:ID` is the caller's business.
    ///
    /// # Errors
    /// If it is no backend.
    pub fn short(option: &'static str, given: &str) -> Result<Self, RunError> {
        if let Some(rest) = given.strip_prefix("mon:") {
            let spec = Self::short(option, rest)?;
            return Ok(Self { mux: true, ..spec });
        }
        if let Some(path) = given.strip_prefix("file:") {
            let path = path.into();
            let append = false;
            return Ok(Self::plain(Kind::File { path, append }));
        }
        match given {
            "stdio" => return Ok(Self::plain(Kind::Stdio)),
            "null" | "none" => return Ok(Self::plain(Kind::Null)),
            "pty" => return Ok(Self::plain(Kind::Pty)),
            _ => {}
        }
        let mut items = split(given).into_iter();
        let place = items.next().unwrap_or_default();
        let (scheme, address) = place.split_once(':').unwrap_or_default();
        let telnet = scheme == "telnet";
        if !telnet && !["unix", "tcp"].contains(&scheme) {
            return Err(one_of(option, given, NAMES, EXPECTED).into());
        }
        let place = match scheme {
            "unix" => Place::parse(&place),
            _ => Place::parse(&format!("tcp:{address}")),
        };
        let place = place.ok_or_else(|| one_of(option, given, &[], EXPECTED))?;
        // `server` and `nowait` are old spellings of properties.
        let long = items.map(|item| match item.as_str() {
            "server" | "wait" | "nodelay" => format!("{item}=on"),
            "nowait" => "wait=off".to_string(),
            _ => item.replace(',', ",,"),
        });
        let long = long.fold("socket".to_string(), |all, item| all + "," + &item);
        let properties = parse(option, given, &long)?;
        only(option, given, &properties, &["server", "wait", "nodelay"])?;
        Ok(Self::plain(Kind::Socket(socket(
            option,
            &properties,
            place,
            telnet,
        )?)))
    }

    /// Parses `-chardev`: the id, and what it is.
    ///
    /// # Errors
    /// If it is no backend, or lacks something.
    pub fn long(given: &str) -> Result<(String, Self), RunError> {
        const OPTION: &str = "-chardev";
        let usage = |problem: &str| CliError::Usage(format!("{OPTION} {given}: {problem}"));
        let properties = parse(OPTION, given, given)?;
        let name = properties.head().or(properties.get("backend"));
        let name = name.unwrap_or_default();
        let own: &[&str] = match name {
            "stdio" => &["signal"],
            "file" => &["path", "append"],
            "null" | "pty" => &[],
            "socket" => &[
                "path", "host", "port", "server", "wait", "nodelay", "telnet",
            ],
            other => return Err(one_of(OPTION, other, KINDS, "a backend").into()),
        };
        let known = [&["backend", "id", "mux"], own].concat();
        only(OPTION, given, &properties, &known)?;
        let id = properties.get("id").ok_or_else(|| usage("needs id="))?;
        let kind = match name {
            "stdio" => Kind::Stdio,
            "pty" => Kind::Pty,
            "file" => {
                let path = properties.get("path").ok_or_else(|| usage("needs path="))?;
                Kind::File {
                    path: path.into(),
                    append: on(OPTION, &properties, "append", false)?,
                }
            }
            "socket" => {
                let telnet = on(OPTION, &properties, "telnet", false)?;
                let place = place(&properties)
                    .ok_or_else(|| usage("needs path=, or host= and port=, a number"))?;
                Kind::Socket(socket(OPTION, &properties, place, telnet)?)
            }
            _ => Kind::Null,
        };
        let mux = on(OPTION, &properties, "mux", false)?;
        Ok((id.to_string(), Self { kind, mux }))
    }

    fn plain(kind: Kind) -> Self {
        Self { kind, mux: false }
    }
}

fn place(properties: &Properties) -> Option<Place> {
    match (properties.get("path"), properties.get("port")) {
        (Some(path), None) => Some(Place::Unix(path.into())),
        (None, Some(port)) => {
            let host = properties.get("host").unwrap_or_default();
            Some(Place::Tcp(host.to_string(), port.parse().ok()?))
        }
        _ => None,
    }
}

fn socket(
    option: &'static str,
    properties: &Properties,
    place: Place,
    telnet: bool,
) -> Result<Socket, CliError> {
    let server = on(option, properties, "server", false)?;
    let wait = on(option, properties, "wait", server)?;
    Ok(Socket {
        place,
        server,
        wait: server && wait,
        telnet,
    })
}

fn on(
    option: &'static str,
    properties: &Properties,
    name: &str,
    otherwise: bool,
) -> Result<bool, CliError> {
    let given = properties.get(name).map(|given| switch(option, given));
    given.unwrap_or(Ok(otherwise))
}

fn parse(option: &'static str, given: &str, text: &str) -> Result<Properties, RunError> {
    Properties::parse(text).map_err(|source| RunError::Property {
        option,
        given: given.to_string(),
        source,
    })
}

fn only(
    option: &'static str,
    given: &str,
    properties: &Properties,
    known: &[&str],
) -> Result<(), RunError> {
    let result = properties.only(known);
    result.map_err(|source| RunError::Property {
        option,
        given: given.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(given: &str) -> Spec {
        Spec::short("-serial", given).unwrap_or_else(|error| panic!("{given}: {error}"))
    }

    fn socket(place: &str, server: bool, wait: bool, telnet: bool) -> Kind {
        let place = Place::parse(place).expect("a place");
        Kind::Socket(Socket {
            place,
            server,
            wait,
            telnet,
        })
    }

    #[test]
    fn short_forms() {
        assert_eq!(short("stdio"), Spec::plain(Kind::Stdio));
        let mux = Spec {
            kind: Kind::Stdio,
            mux: true,
        };
        assert_eq!(short("mon:stdio"), mux);
        for (given, expected) in [
            (
                "unix:/a,server,nowait",
                socket("unix:/a", true, false, false),
            ),
            ("unix:/a", socket("unix:/a", false, false, false)),
            ("tcp::55,server=on", socket("tcp::55", true, true, false)),
            (
                "telnet:h:5,server,wait=off",
                socket("tcp:h:5", true, false, true),
            ),
        ] {
            assert_eq!(short(given).kind, expected, "{given}");
        }
        for (given, problem) in [
            ("stdo", "did you mean 'stdio'?"),
            ("tcp:5", "is not"),
            ("unix:/a,serve=on", "did you mean 'server'?"),
            ("unix:/a,server=of", "'of'"),
        ] {
            let error = Spec::short("-serial", given).expect_err(given).to_string();
            assert!(error.contains(problem), "{given}: {error}");
        }
    }

    #[test]
    fn long_forms_mean_the_same() {
        for (long, expected) in [
            (
                "socket,id=x,path=/a,server=on,wait=off",
                short("unix:/a,server,nowait"),
            ),
            ("socket,id=x,port=55,server=on", short("tcp::55,server")),
            ("socket,id=x,host=h,port=5,telnet=on", short("telnet:h:5")),
            ("stdio,id=x,mux=on", short("mon:stdio")),
            ("file,id=x,path=/b", short("file:/b")),
            ("pty,id=x", short("pty")),
        ] {
            let (id, spec) = Spec::long(long).unwrap_or_else(|error| panic!("{long}: {error}"));
            assert_eq!((id.as_str(), spec), ("x", expected), "{long}");
        }
        for (given, problem) in [
            (
                "nul,id=x",
                "-chardev: 'nul' is not a backend; did you mean 'null'?",
            ),
            ("null", "-chardev null: needs id="),
            ("file,id=x", "-chardev file,id=x: needs path="),
            (
                "socket,id=x",
                "-chardev socket,id=x: needs path=, or host= and port=, a number",
            ),
        ] {
            assert_eq!(Spec::long(given).expect_err(given).to_string(), problem);
        }
    }
}
