//! `-device`: the devices a user can add, and their properties.

use devices::board::BoardOptions;
use devices::board::build::Parts;

use crate::backends::Backends;
use crate::cli::{CliError, one_of};
use crate::properties::Properties;
use crate::run::RunError;

/// What `-device` changes.
#[derive(Default)]
pub struct Target {
    /// The board's options.
    pub board: BoardOptions,
    /// What is plugged in.
    pub parts: Parts,
    /// Character backends, for those who want one.
    pub backends: Backends,
}

/// A device `-device` can add.
struct Row {
    name: &'static str,
    about: &'static str,
    properties: &'static [&'static str],
    add: fn(&mut Target, &Properties) -> Result<(), RunError>,
}

#[rustfmt::skip]
const DEVICES: &[Row] = &[
    Row { name: "isa-debugcon", about: "debug console: chardev=ID,iobase=0xe9", properties: &["id", "chardev", "iobase"], add: debugcon },
    Row { name: "isa-debug-exit", about: "ends the run: iobase=0x501,iosize=2", properties: &["id", "iobase", "iosize"], add: debug_exit },
    Row { name: "isa-serial", about: "the next free serial port: chardev=ID", properties: &["id", "chardev"], add: serial },
];

/// Names and descriptions of the devices.
pub fn list() -> Vec<(&'static str, &'static str)> {
    DEVICES.iter().map(|row| (row.name, row.about)).collect()
}

/// Checks names and properties, where there is no machine to add to.
///
/// # Errors
/// If a device or property does not exist.
pub fn check(devices: &[String]) -> Result<(), RunError> {
    devices.iter().try_for_each(|given| find(given).map(drop))
}

/// Adds what one `-device` names.
///
/// # Errors
/// If the device or a property does not exist, or has an impossible value.
pub fn add(target: &mut Target, given: &str) -> Result<(), RunError> {
    let (row, properties) = find(given)?;
    (row.add)(target, &properties)
}

fn find(given: &str) -> Result<(&'static Row, Properties), RunError> {
    let wrong = |source| RunError::Property {
        option: "-device",
        given: given.to_string(),
        source,
    };
    let properties = Properties::parse(given).map_err(wrong)?;
    let name = properties
        .head()
        .or(properties.get("driver"))
        .unwrap_or_default();
    let Some(row) = DEVICES.iter().find(|row| row.name == name) else {
        let names: Vec<&str> = DEVICES.iter().map(|row| row.name).collect();
        return Err(one_of("-device", name, &names, "a device").into());
    };
    properties.only(row.properties).map_err(wrong)?;
    Ok((row, properties))
}

fn port(properties: &Properties, name: &str, default: u16) -> Result<u16, CliError> {
    let Some(text) = properties.get(name) else {
        return Ok(default);
    };
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| crate::cli::value("-device", text, "a port number"))
}

fn debug_exit(target: &mut Target, properties: &Properties) -> Result<(), RunError> {
    let (base, size) = (
        port(properties, "iobase", 0x501)?,
        port(properties, "iosize", 2)?,
    );
    if size == 0 || base.checked_add(size - 1).is_none() {
        let text = format!("-device isa-debug-exit: {size} ports at {base:#x} do not exist");
        return Err(CliError::Usage(text).into());
    }
    target.board.debug_exit = Some((base, size));
    Ok(())
}

fn debugcon(target: &mut Target, properties: &Properties) -> Result<(), RunError> {
    if target.board.debugcon.is_some() {
        let text = "-device isa-debugcon: there can be one debug console only";
        return Err(CliError::Usage(text.into()).into());
    }
    target.board.debugcon = Some(port(properties, "iobase", 0xE9)?);
    plug(target, properties, "debugcon")
}

fn serial(target: &mut Target, properties: &Properties) -> Result<(), RunError> {
    let free = ["com1", "com2"]
        .into_iter()
        .find(|name| !target.parts.chardevs.contains_key(name));
    let Some(name) = free else {
        let text = "-device isa-serial: both serial ports are taken";
        return Err(CliError::Usage(text.into()).into());
    };
    plug(target, properties, name)
}

fn plug(target: &mut Target, properties: &Properties, name: &'static str) -> Result<(), RunError> {
    let Some(id) = properties.get("chardev") else {
        let text = format!("-device: {name} needs chardev=ID");
        return Err(CliError::Usage(text).into());
    };
    let chardev = target.backends.by_id("-device", id, name)?;
    target.parts.chardevs.insert(name, chardev);
    Ok(())
}
