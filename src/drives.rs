//! Drives of the command line: `-hda` to `-hdd`, `-cdrom`, `-drive`.

use std::path::Path;

use devices::backend::disk::{Disk, DiskOptions};
use devices::backend::drive::Drive;

use crate::cli::{CliError, Options, one_of, switch};
use crate::properties::Properties;
use crate::run::RunError;

/// The places of IDE drives: primary master and slave, secondary master and slave.
pub type Drives = [Option<Drive>; 4];

/// Where `-cdrom` goes: master of the second channel.
const CDROM: usize = 2;
/// The properties of `-drive`. Of those in the second line the value makes no difference here.
const PROPERTIES: &[&str] = &[
    "file",
    "if",
    "format",
    "media",
    "index",
    "bus",
    "unit",
    "readonly",
    "read-only",
    "snapshot",
    "serial",
    "id",
    "cache",
    "aio",
    "discard",
    "detect-zeroes",
    "werror",
    "rerror",
];

/// The drives the options name.
///
/// # Errors
/// If an option is wrong, two claim one place, or an image cannot be used.
pub fn drives(options: &Options) -> Result<Drives, RunError> {
    let mut drives = Drives::default();
    let disks = [
        ("-hda", options.hda.as_ref().or(options.image.as_ref()), 0),
        ("-hdb", options.hdb.as_ref(), 1),
        ("-hdc", options.hdc.as_ref(), 2),
        ("-hdd", options.hdd.as_ref(), 3),
    ];
    if options.hda.is_some()
        && let Some(image) = &options.image
    {
        let text = format!("{}: -hda names the first drive already", image.display());
        return Err(CliError::Usage(text).into());
    }
    for (option, path, place) in disks {
        if let Some(path) = path {
            let disk = open(path, options.snapshot, false)?;
            put(&mut drives, option, place, Drive::hard_disk(disk))?;
        }
    }
    if let Some(path) = &options.cdrom {
        let drive = Drive::cd_rom(Some(open(path, false, true)?));
        put(&mut drives, "-cdrom", CDROM, drive)?;
    }
    for given in &options.drive {
        add(&mut drives, given, options.snapshot)?;
    }
    // The stock machine's drive, empty.
    if drives[CDROM].is_none() && !options.nodefaults {
        drives[CDROM] = Some(Drive::cd_rom(None));
    }
    Ok(drives)
}

fn add(drives: &mut Drives, given: &str, all_snapshot: bool) -> Result<(), RunError> {
    let wrong = |source| RunError::Property {
        option: "-drive",
        given: given.to_string(),
        source,
    };
    let usage = |problem: &str| CliError::Usage(format!("-drive {given}: {problem}"));
    let properties = Properties::parse(given).map_err(wrong)?;
    properties.only(PROPERTIES).map_err(wrong)?;
    if properties.head().is_some() {
        return Err(usage("wants file=PATH,...").into());
    }
    let get = |name| properties.get(name);
    check(get("if").unwrap_or("ide"), "if", &["ide"])?;
    check(get("format").unwrap_or("raw"), "format", &["raw"])?;
    let media = get("media").unwrap_or("disk");
    check(media, "media", &["disk", "cdrom"])?;
    let on = |name, default| get(name).map_or(Ok(default), |g| switch("-drive", g));
    let read_only = on("readonly", false)? || on("read-only", false)?;
    let snapshot = on("snapshot", all_snapshot)?;
    let place = place(drives, &properties, media).map_err(usage)?;
    let file = get("file").filter(|file| !file.is_empty());
    let mut drive = match (media, file) {
        ("disk", None) => return Err(usage("needs file=").into()),
        ("disk", Some(path)) => Drive::hard_disk(open(Path::new(path), snapshot, read_only)?),
        (_, None) => Drive::cd_rom(None),
        (_, Some(path)) => Drive::cd_rom(Some(open(Path::new(path), false, true)?)),
    };
    drive.serial = get("serial").map(str::to_string);
    put(drives, "-drive", place, drive)
}

/// A property of which this build knows few values.
fn check(given: &str, name: &str, known: &[&str]) -> Result<(), CliError> {
    if known.contains(&given) {
        return Ok(());
    }
    let error = one_of("-drive", given, known, "known");
    Err(match error {
        CliError::Value { nearest, .. } => CliError::Usage(format!(
            "-drive: {name}={given} is not supported: {}{}",
            known.join(" or "),
            nearest.map_or_else(String::new, |n| format!("; did you mean '{n}'?"))
        )),
        other => other,
    })
}

/// Where a drive goes: as the user says, or the first free place (for CD-ROMs the second channel's
/// first, as on the stock machine).
fn place(drives: &Drives, properties: &Properties, media: &str) -> Result<usize, &'static str> {
    let number = |name: &str, below: usize, problem: &'static str| match properties.get(name) {
        None => Ok(None),
        Some(given) => match given.parse() {
            Ok(number) if number < below => Ok(Some(number)),
            _ => Err(problem),
        },
    };
    let index = number("index", 4, "index is 0 to 3")?;
    let bus = number("bus", 2, "bus is 0 or 1")?;
    let unit = number("unit", 2, "unit is 0 or 1")?;
    if let Some(index) = index {
        return Ok(index);
    }
    if bus.is_some() || unit.is_some() {
        return Ok(2 * bus.unwrap_or(0) + unit.unwrap_or(0));
    }
    if media == "cdrom" && drives[CDROM].is_none() {
        return Ok(CDROM);
    }
    let free = drives.iter().position(Option::is_none);
    free.ok_or("all four IDE places are taken")
}

fn put(
    drives: &mut Drives,
    option: &'static str,
    place: usize,
    drive: Drive,
) -> Result<(), RunError> {
    if drives[place].is_some() {
        let (channel, unit) = (place / 2, place % 2);
        let text = format!("{option}: IDE channel {channel}, unit {unit} is taken already");
        return Err(CliError::Usage(text).into());
    }
    drives[place] = Some(drive);
    Ok(())
}

fn open(path: &Path, snapshot: bool, read_only: bool) -> Result<Disk, RunError> {
    let options = DiskOptions {
        read_only,
        snapshot,
    };
    Ok(Disk::open(path, options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &str) -> Result<Drives, String> {
        let mut drives = Drives::default();
        for one in given.split(' ') {
            add(&mut drives, one, false).map_err(|e| e.to_string())?;
        }
        Ok(drives)
    }

    #[test]
    fn drives_find_their_places() {
        let taken = |given| {
            let drives = parse(given).expect(given);
            drives.map(|drive| drive.is_some())
        };
        assert_eq!(taken("media=cdrom"), [false, false, true, false]);
        assert_eq!(taken("media=cdrom media=cdrom"), [true, false, true, false]);
        assert_eq!(taken("media=cdrom,index=3"), [false, false, false, true]);
        assert_eq!(
            taken("media=cdrom,bus=1,unit=1"),
            [false, false, false, true]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (given, problem) in [
            ("media=disk", "needs file="),
            ("x.img", "wants file="),
            ("fiel=x", "did you mean 'file'"),
            ("file=x,format=qcow2", "format=qcow2 is not supported: raw"),
            ("file=x,if=virtio", "if=virtio is not supported"),
            ("media=cdrom,index=4", "index is 0 to 3"),
            ("media=cdrom,index=0 media=cdrom,index=0", "taken already"),
            ("file=/nonexistent", "/nonexistent"),
        ] {
            let error = parse(given).expect_err(given);
            assert!(error.contains(problem), "{given}: {error}");
        }
    }
}
