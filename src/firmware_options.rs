//! What the user tells firmware: `-boot`, `-uuid`, `-smbios`, `-fw_cfg`.

use std::path::Path;

use devices::board::{Boot, BootDevice, BootOrder};
use devices::fw_cfg::{Contents, Item};
use devices::smbios::{LONGEST, System};

use crate::cli::{CliError, Options};
use crate::firmware::read_at_most;
use crate::properties::{Properties, nearest};
use crate::run::RunError;

/// The properties of `-boot`.
const BOOT: &[&str] = &[
    "order",
    "once",
    "menu",
    "strict",
    "splash",
    "splash-time",
    "reboot-timeout",
];

/// The properties of `-smbios type=1`.
const SMBIOS: &[&str] = &[
    "type",
    "manufacturer",
    "product",
    "version",
    "serial",
    "uuid",
    "sku",
    "family",
];

/// How firmware is to boot; of several lists the later one's properties count.
///
/// # Errors
/// If a list names what does not exist.
pub fn boot(lists: &[String]) -> Result<Boot, RunError> {
    let mut boot = Boot::default();
    for given in lists {
        let list = parse("-boot", given, BOOT)?;
        if let Some(order) = list.get("order").or(list.head()) {
            boot.order = boot_order(order)?;
        }
        if let Some(once) = list.get("once") {
            boot.once = Some(boot_order(once)?);
        }
        if let Some(menu) = list.get("menu") {
            boot.menu = switch(menu)?;
        }
        if let Some(strict) = list.get("strict") {
            boot.strict = switch(strict)?;
        }
        if let Some(time) = list.get("splash-time") {
            boot.splash_time = Some(number(time)?);
        }
        if let Some(time) = list.get("reboot-timeout") {
            boot.reboot_timeout = Some(number(time)?);
        }
    }
    Ok(boot)
}

/// The machine's UUID.
///
/// # Errors
/// If it is none.
pub fn uuid(option: &'static str, given: &str) -> Result<[u8; 16], RunError> {
    let wrong = || {
        value(
            option,
            given,
            "a UUID, as in 550e8400-e29b-41d4-a716-446655440000",
        )
    };
    let groups: Vec<&str> = given.split('-').collect();
    let sound = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let digits = groups.concat();
    if !sound || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let number = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
    Ok(number.to_be_bytes())
}

/// What `-smbios` says of the system, and its UUID; of several options the later one's properties count.
///
/// # Errors
/// If one is about another structure, or a property does not exist or is too long.
pub fn smbios(lists: &[String]) -> Result<(System, Option<[u8; 16]>), RunError> {
    const OPTION: &str = "-smbios";
    let (mut system, mut id) = (System::default(), None);
    for given in lists {
        let all = Properties::parse(given).map_err(|source| RunError::Property {
            option: OPTION,
            given: given.clone(),
            source,
        })?;
        if all.get("type") != Some("1") {
            let expected = "about the system: type=1,... is the only structure that can be set";
            return Err(value(OPTION, given, expected));
        }
        let list = parse(OPTION, given, SMBIOS)?;
        for (name, place) in [
            ("manufacturer", &mut system.manufacturer),
            ("product", &mut system.product),
            ("version", &mut system.version),
            ("serial", &mut system.serial),
            ("sku", &mut system.sku),
            ("family", &mut system.family),
        ] {
            let Some(text) = list.get(name) else {
                continue;
            };
            if text.len() > LONGEST {
                return Err(value(OPTION, name, "of at most 255 bytes"));
            }
            *place = Some(text.to_string());
        }
        if let Some(text) = list.get("uuid") {
            id = Some(uuid(OPTION, text)?);
        }
    }
    Ok((system, id))
}

/// Adds the user's files: `-fw_cfg`, and the picture of `-boot`.
///
/// # Errors
/// If one cannot be read, or its name is impossible.
pub fn add_files(contents: &mut Contents, options: &Options) -> Result<(), RunError> {
    for given in &options.fw_cfg {
        let (name, data) = user_file(given)?;
        add(contents, &name, data)?;
    }
    for given in &options.boot {
        if let Some(path) = parse("-boot", given, BOOT)?.get("splash") {
            let data = read(path)?;
            let name = match data[..] {
                [b'B', b'M', ..] => "bootsplash.bmp",
                [0xFF, 0xD8, ..] => "bootsplash.jpg",
                _ => {
                    return Err(RunError::file(
                        Path::new(path),
                        "neither a JPEG nor a BMP picture",
                    ));
                }
            };
            add(contents, name, data)?;
        }
    }
    Ok(())
}

/// Name and contents of a `-fw_cfg`.
fn user_file(given: &str) -> Result<(String, Vec<u8>), RunError> {
    let list = parse("-fw_cfg", given, &["name", "file", "string"])?;
    let wrong = || {
        value(
            "-fw_cfg",
            given,
            "name=NAME and one of file=FILE and string=TEXT",
        )
    };
    let name = list.get("name").or(list.head()).ok_or_else(wrong)?;
    let data = match (list.get("file"), list.get("string")) {
        (Some(path), None) => read(path)?,
        (None, Some(text)) => text.as_bytes().to_vec(),
        _ => return Err(wrong()),
    };
    if !name.starts_with("opt/") {
        tracing::warn!(target: "fw_cfg", name, "names of users' files begin with \"opt/\"");
    }
    Ok((name.to_string(), data))
}

fn add(contents: &mut Contents, name: &str, data: Vec<u8>) -> Result<(), RunError> {
    let added = contents.add_file(name, Item::read_only(data));
    Ok(added?)
}

fn read(path: &str) -> Result<Vec<u8>, RunError> {
    /// The largest file taken.
    const MOST: usize = 256 << 20;
    read_at_most(Path::new(path), MOST, "fw_cfg")
}

/// At most three letters, each once.
fn boot_order(given: &str) -> Result<BootOrder, RunError> {
    let wrong = || {
        value(
            "-boot",
            given,
            "up to three letters of a, c, d and n, each once",
        )
    };
    let mut order = BootOrder::default();
    for (at, letter) in given.chars().enumerate() {
        let device = match letter {
            'a' | 'b' => BootDevice::Floppy,
            'c' => BootDevice::HardDisk,
            'd' => BootDevice::CdRom,
            'n' => BootDevice::Network,
            _ => return Err(wrong()),
        };
        let twice = given.chars().take(at).any(|before| before == letter);
        let place = order.get_mut(at).filter(|_| !twice).ok_or_else(wrong)?;
        *place = Some(device);
    }
    Ok(order)
}

fn switch(given: &str) -> Result<bool, RunError> {
    match given {
        "on" | "yes" => Ok(true),
        "off" | "no" => Ok(false),
        _ => Err(CliError::Value {
            option: "-boot",
            given: given.to_string(),
            expected: "on or off",
            nearest: nearest(given, ["on", "off"]).map(str::to_string),
        }
        .into()),
    }
}

/// Milliseconds.
fn number<T: TryFrom<u32>>(given: &str) -> Result<T, RunError> {
    // As the stock program has it: a minute at most counts for both times.
    const LIMIT: u32 = 0xFFFF;
    let parsed = given.parse().ok().filter(|time| *time <= LIMIT);
    let time = parsed.and_then(|time| T::try_from(time).ok());
    time.ok_or_else(|| value("-boot", given, "a time in milliseconds, at most 65535"))
}

fn parse(option: &'static str, given: &str, names: &[&str]) -> Result<Properties, RunError> {
    let wrong = |source| RunError::Property {
        option,
        given: given.to_string(),
        source,
    };
    let list = Properties::parse(given).map_err(wrong)?;
    list.only(names).map_err(wrong)?;
    Ok(list)
}

fn value(option: &'static str, given: &str, expected: &'static str) -> RunError {
    let given = given.to_string();
    RunError::Cli(CliError::Value {
        option,
        given,
        expected,
        nearest: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lists: &[&str]) -> Result<Boot, String> {
        let lists: Vec<String> = lists.iter().map(|list| (*list).to_string()).collect();
        boot(&lists).map_err(|error| error.to_string())
    }

    #[test]
    fn an_order_is_letters() {
        use BootDevice::{CdRom, Floppy, HardDisk, Network};
        for (list, order) in [
            ("d", [Some(CdRom), None, None]),
            ("order=nca", [Some(Network), Some(HardDisk), Some(Floppy)]),
            ("menu=on", Boot::default().order),
        ] {
            assert_eq!(parsed(&[list]).expect(list).order, order);
        }
        for list in ["order=x", "order=cc", "order=cdna", "ordr=c"] {
            assert!(parsed(&[list]).is_err(), "{list}");
        }
    }

    #[test]
    fn later_lists_add_to_earlier() {
        let boot = parsed(&[
            "once=d,menu=on",
            "splash-time=1000,reboot-timeout=500,strict=on,menu=off",
        ]);
        let boot = boot.expect("both are sound");
        assert_eq!(boot.once, Some([Some(BootDevice::CdRom), None, None]));
        assert_eq!((boot.menu, boot.strict), (false, true));
        assert_eq!(
            (boot.splash_time, boot.reboot_timeout),
            (Some(1000), Some(500))
        );
        assert!(parsed(&["splash-time=70000"]).is_err());
        assert!(parsed(&["menu=onn"]).is_err_and(|error| error.contains("did you mean 'on'")));
    }

    #[test]
    fn a_uuid_is_read_as_it_is_written() {
        let bytes = uuid("-uuid", "00112233-4455-6677-8899-aabbccddeeff").expect("a UUID");
        let expected = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        assert_eq!(bytes[..8], expected);
        for wrong in [
            "",
            "00112233445566778899aabbccddeeff",
            "0011223-44556-6677-8899-aabbccddeeff",
        ] {
            assert!(uuid("-uuid", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_system_is_described_by_type_1_alone() {
        let parsed = |lists: &[&str]| {
            let lists: Vec<String> = lists.iter().map(|list| (*list).to_string()).collect();
            smbios(&lists).map_err(|error| error.to_string())
        };
        let (system, id) = parsed(&[
            "type=1,manufacturer=A,,B,serial=1",
            "type=1,serial=2,uuid=00000000-0000-0000-0000-000000000001",
        ])
        .expect("a system");
        assert_eq!(system.manufacturer.as_deref(), Some("A,B"));
        assert_eq!((system.serial.as_deref(), system.sku), (Some("2"), None));
        assert_eq!(id, Some(1u128.to_be_bytes()));
        let long = format!("type=1,serial={}", "x".repeat(256));
        for wrong in [
            "type=0,vendor=x",
            "file=x",
            "manufacturer=x",
            "type=1,serail=2",
            "type=1,uuid=7",
            &long,
        ] {
            assert!(parsed(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_named_and_filled() {
        let file = |given| user_file(given).map_err(|error| error.to_string());
        assert_eq!(
            file("opt/x,string=a,,b"),
            Ok(("opt/x".to_string(), b"a,b".to_vec()))
        );
        for wrong in [
            "string=x",
            "name=opt/x",
            "opt/x,string=a,file=b",
            "opt/x,data=1",
        ] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}
