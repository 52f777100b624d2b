//! `-boot`: what firmware boots from.

use std::path::PathBuf;

use devices::board::{Boot, BootDevice, BootOrder};

use crate::cli::{CliError, switch, value};
use crate::properties::Properties;

const NAMES: &[&str] = &[
    "order",
    "once",
    "menu",
    "splash-time",
    "reboot-timeout",
    "strict",
    "splash",
];

/// `-boot`'s value: letters, or properties.
///
/// # Errors
/// If it is neither.
pub fn parse(given: Option<&str>) -> Result<Boot, CliError> {
    let mut boot = Boot::default();
    let Some(given) = given else {
        return Ok(boot);
    };
    let properties = properties(given)?;
    if let Some(letters) = properties.head().or(properties.get("order")) {
        boot.order = order(letters)?;
    }
    boot.once = properties.get("once").map(order).transpose()?;
    if let Some(given) = properties.get("menu") {
        boot.menu = switch("-boot menu", given)?;
    }
    boot.splash_time = number(&properties, "splash-time", u16::MAX.into())?.map(|n| n as u16);
    boot.reboot_timeout = number(&properties, "reboot-timeout", 0xFFFF)?;
    if let Some(given) = properties.get("strict") {
        boot.strict = switch("-boot strict", given)?;
    }
    Ok(boot)
}

/// The picture that firmware shows: its file, if one is named.
///
/// # Errors
/// If `given` is no value of `-boot`.
pub fn splash(given: Option<&str>) -> Result<Option<PathBuf>, CliError> {
    let Some(given) = given else {
        return Ok(None);
    };
    Ok(properties(given)?.get("splash").map(PathBuf::from))
}

/// The name under which firmware looks for a picture; `None` if it knows no such format.
pub fn splash_name(picture: &[u8]) -> Option<&'static str> {
    match picture {
        [b'B', b'M', ..] => Some("bootsplash.bmp"),
        [0xFF, 0xD8, ..] => Some("bootsplash.jpg"),
        _ => None,
    }
}

fn properties(given: &str) -> Result<Properties, CliError> {
    let usage = |error| CliError::Usage(format!("-boot {given}: {error}"));
    let properties = Properties::parse(given).map_err(usage)?;
    properties.only(NAMES).map_err(usage)?;
    Ok(properties)
}

fn number(properties: &Properties, name: &'static str, max: u32) -> Result<Option<u32>, CliError> {
    let Some(given) = properties.get(name) else {
        return Ok(None);
    };
    match given.parse() {
        Ok(number) if number <= max => Ok(Some(number)),
        _ => Err(value(
            "-boot",
            given,
            "a number of milliseconds up to 65535",
        )),
    }
}

fn order(letters: &str) -> Result<BootOrder, CliError> {
    let mut order = [None; 3];
    let wrong = || {
        let expected = "up to three letters of a (floppy), c (disk), d (CD-ROM), n (network)";
        value("-boot", letters, expected)
    };
    if letters.len() > order.len() {
        return Err(wrong());
    }
    for (place, letter) in order.iter_mut().zip(letters.chars()) {
        let device = match letter {
            'a' => BootDevice::Floppy,
            'c' => BootDevice::HardDisk,
            'd' => BootDevice::CdRom,
            'n' => BootDevice::Network,
            _ => return Err(wrong()),
        };
        *place = Some(device);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_or_properties() {
        use BootDevice::{CdRom, HardDisk};
        let parse = |given| parse(Some(given)).map_err(|e| e.to_string());
        let boot = parse("dc").expect("an order");
        assert_eq!(boot.order, [Some(CdRom), Some(HardDisk), None]);
        let boot = parse("once=d,menu=on,splash-time=500").expect("properties");
        assert_eq!(boot.once, Some([Some(CdRom), None, None]));
        assert!(boot.menu && boot.splash_time == Some(500));
        assert!(parse("strict=on").expect("a property").strict);
        assert_eq!(boot.order, Boot::default().order);
        let picture = splash(Some("splash=a.jpg,menu=on")).expect("properties");
        assert_eq!(picture, Some(PathBuf::from("a.jpg")));
        for wrong in [
            "x",
            "acdn",
            "menu=maybe",
            "ordre=c",
            "splash-time=70000",
            "strict=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
