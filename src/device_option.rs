//! `-device`: the devices a user can add, and their properties; `-global`: what these properties are
//! where the device's own option does not say.

use devices::board::BoardOptions;
use devices::board::build::Parts;

use crate::backends::{Backends, User};
use crate::cli::{CliError, one_of};
use crate::pc::SERIAL;
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

/// Devices that a machine has without `-device`, by QEMU's names. None has a property that can be set.
#[rustfmt::skip]
const FIXED: &[&str] = &[
    "i440FX", "i440FX-pcihost", "PIIX3", "piix3-ide", "PIIX4_PM", "VGA", "isa-i8259", "isa-pit", "i8257", "i8042",
    "mc146818rtc", "hpet", "ioapic", "apic", "fw_cfg_io", "port92", "ide-hd", "ide-cd", "ps2-kbd", "ps2-mouse",
];

/// A property of every device of a kind.
#[derive(Debug)]
pub struct Global {
    driver: &'static str,
    property: &'static str,
    value: String,
}

/// What `-global` sets, the last for each property.
///
/// # Errors
/// If a device or property does not exist, or cannot be set.
pub fn globals(given: &[String]) -> Result<Vec<Global>, RunError> {
    let mut globals: Vec<Global> = Vec::new();
    for given in given {
        let new = global(given)?;
        globals.retain(|old| (old.driver, old.property) != (new.driver, new.property));
        globals.push(new);
    }
    Ok(globals)
}

fn global(given: &str) -> Result<Global, RunError> {
    const OPTION: &str = "-global";
    let list = Properties::parse(given).unwrap_or_default();
    let short = given
        .split_once('=')
        .and_then(|(name, value)| Some((name.split_once('.')?, value)));
    let long = || {
        list.only(&["driver", "property", "value"]).ok()?;
        let name = (list.get("driver")?, list.get("property")?);
        Some((name, list.get("value")?))
    };
    let Some(((driver, property), value)) = short.or_else(long) else {
        return Err(crate::cli::value(OPTION, given, "DRIVER.PROPERTY=VALUE").into());
    };
    let Some(row) = DEVICES.iter().find(|row| row.name == driver) else {
        if FIXED.contains(&driver) {
            let text = format!("{OPTION} {given}: no property of {driver} can be set");
            return Err(CliError::Usage(text).into());
        }
        let rows = DEVICES.iter().map(|row| row.name);
        let names: Vec<&str> = rows.chain(FIXED.iter().copied()).collect();
        return Err(one_of(OPTION, driver, &names, "a device").into());
    };
    // What names one device cannot be every device's.
    let known: Vec<&'static str> = row
        .properties
        .iter()
        .copied()
        .filter(|name| *name != "id")
        .collect();
    match known.iter().find(|name| **name == property) {
        Some(property) => Ok(Global {
            driver: row.name,
            property,
            value: value.to_string(),
        }),
        None => Err(one_of(OPTION, property, &known, "a property of that device").into()),
    }
}

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
pub fn add(target: &mut Target, given: &str, globals: &[Global]) -> Result<(), RunError> {
    let (row, mut properties) = find(given)?;
    for global in globals.iter().filter(|global| global.driver == row.name) {
        properties.set_default(global.property, &global.value);
    }
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
    let free = SERIAL
        .into_iter()
        .find(|name| !target.parts.chardevs.contains_key(name));
    let Some(name) = free else {
        let text = "-device isa-serial: all four serial ports are taken";
        return Err(CliError::Usage(text.into()).into());
    };
    plug(target, properties, name)
}

fn plug(target: &mut Target, properties: &Properties, name: &'static str) -> Result<(), RunError> {
    let Some(id) = properties.get("chardev") else {
        let text = format!("-device: {name} needs chardev=ID");
        return Err(CliError::Usage(text).into());
    };
    let chardev = target.backends.by_id("-device", id, User::Device(name))?;
    target.parts.chardevs.insert(name, chardev);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(given: &[&str]) -> Result<Vec<Global>, String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_string()).collect();
        globals(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_global_counts_where_a_device_does_not_say() {
        let given = [
            "isa-debug-exit.iobase=0x400",
            "driver=isa-debug-exit,property=iobase,value=0xf4",
            "isa-debug-exit.iosize=4",
        ];
        let globals = all(&given).expect("globals");
        for (device, expected) in [
            ("isa-debug-exit", (0xF4, 4)),
            ("isa-debug-exit,iosize=1", (0xF4, 1)),
        ] {
            let mut target = Target::default();
            add(&mut target, device, &globals).expect("a device");
            assert_eq!(target.board.debug_exit, Some(expected));
        }
    }

    #[test]
    fn globals_that_do_not_exist_are_named() {
        for (given, expected) in [
            (
                "isa-debugexit.iobase=1",
                "-global: 'isa-debugexit' is not a device; did you mean 'isa-debug-exit'?",
            ),
            (
                "isa-debug-exit.iobas=1",
                "-global: 'iobas' is not a property of that device; did you mean 'iobase'?",
            ),
            (
                "isa-serial.id=x",
                "-global: 'id' is not a property of that device",
            ),
            (
                "PIIX4_PM.disable_s3=1",
                "-global PIIX4_PM.disable_s3=1: no property of PIIX4_PM can be set",
            ),
            ("foo", "-global: 'foo' is not DRIVER.PROPERTY=VALUE"),
            ("foo=1", "-global: 'foo=1' is not DRIVER.PROPERTY=VALUE"),
        ] {
            assert_eq!(
                all(&[given]).map(|g| g.len()),
                Err(expected.to_string()),
                "{given}"
            );
        }
    }
}
