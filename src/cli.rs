//! The command line: QEMU's option names and meaning, with one dash or two.
//!
//! A mistake is one line that names what was written and the nearest valid spelling, status 1.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use emu::arch::cpuid::CpuModel;

use crate::accel_option::Choice;
use crate::choose::TcgOnly;
use crate::properties::{Properties, nearest};
use crate::run::RunError;
use crate::switch_option::Switches;
use crate::{gdb, qtest, stats, subcommand};

/// A PC (i440FX/PIIX3) with two engines: --accel=tcg runs the guest on twin86's own x86 CPU,
/// --accel=kvm on the processor. Without a guest (-kernel, a drive, -bios) it runs the guest that is
/// built in, on every engine there is, and compares what the engines did.
#[derive(Parser, Debug)]
#[command(
    name = "twin86",
    version,
    disable_help_flag = true,
    args_override_self = true
)]
pub struct Options {
    /// Engine: tcg, kvm, kvm:tcg (the first that works), lockstep (kvm, checked by tcg) or auto, the default:
    /// KVM if it is there and good, else tcg. The built-in guest runs on both unless one is named. `help` lists them.
    ///
    /// May be given again for an engine to fall back to. kvm: rescue=on|off|refusals, whether the own CPU
    /// runs what KVM cannot (on: all but 64-bit ring 3 of a KVM without VT-x and SVM; refusals: only what it
    /// refuses); kernel-irqchip=off. tcg: thread=single|multi makes no difference. lockstep: mode=exit|slice|step, compared
    /// at each access to the board (the default), every few thousand instructions too, or at each.
    #[arg(long, value_name = "ENGINE,...", help_heading = "CPU")]
    pub accel: Vec<String>,
    /// Move the machine to the other engine where it says: exits=N, the N-th access to the board, insns=N,
    /// after N instructions on tcg or lockstep, rip=ADDRESS, at this linear address; or `monitor`: when its command
    /// accel_set does.
    ///
    /// May be a list and given again, for one move after the other; `:tcg`, `:kvm` or `:lockstep` behind one
    /// says where to. The guest sees a processor that both engines can run. -accel names the engine to begin
    /// with, and -accel again the other one with its properties.
    #[arg(long, value_name = "exits=N,...", help_heading = "CPU")]
    pub accel_switch_at: Vec<String>,
    /// Machine type; pc (i440FX + PIIX3) is the only one.
    #[arg(
        long = "M",
        visible_alias = "machine",
        value_name = "TYPE",
        help_heading = "Machine"
    )]
    pub machine: Option<String>,
    /// Guest memory: a number of MiB, or with suffix K, M, G.
    #[arg(
        long = "m",
        value_name = "SIZE",
        default_value = "128M",
        help_heading = "Machine"
    )]
    pub memory: String,
    /// Processor model; `help` lists them.
    #[arg(
        long,
        value_name = "MODEL",
        default_value = "qemu64",
        help_heading = "CPU"
    )]
    pub cpu: String,
    /// Number of processors; 1 is all there can be today.
    #[arg(long, value_name = "N", default_value = "1", help_heading = "CPU")]
    pub smp: String,
    /// BIOS image, or `none`: a kernel is then started directly.
    ///
    /// The image is a multiple of 64 KiB, mapped to end at 4 GiB and at 1 MiB. Default: SeaBIOS
    /// (bios-256k.bin) from where the system has it.
    #[arg(long, value_name = "FILE", help_heading = "Firmware and kernel")]
    pub bios: Option<PathBuf>,
    /// Look for BIOS images and option ROMs in DIR first.
    #[arg(long = "L", value_name = "DIR", help_heading = "Firmware and kernel")]
    pub firmware_dirs: Vec<PathBuf>,
    /// Kernel to start: a Linux bzImage, a multiboot kernel, or an ELF file with a PVH entry.
    #[arg(long, value_name = "FILE", help_heading = "Firmware and kernel")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk; for a multiboot kernel its modules: "FILE ARGUMENTS,FILE ARGUMENTS...".
    #[arg(long, value_name = "FILE", help_heading = "Firmware and kernel")]
    pub initrd: Option<String>,
    /// The kernel's command line.
    #[arg(long, value_name = "LINE", help_heading = "Firmware and kernel")]
    pub append: Option<String>,
    /// What to boot, as in order=dc (a floppy, c disk, d CD-ROM, n network).
    ///
    /// once=: the order until the first reset. menu=on: SeaBIOS offers a menu. strict=on: nothing else is
    /// tried. splash=FILE: a JPEG or BMP picture, shown for splash-time= milliseconds.
    /// reboot-timeout=: milliseconds until a new try when nothing could be booted.
    #[arg(long, value_name = "order=...", help_heading = "Firmware and kernel")]
    pub boot: Vec<String>,
    /// The machine's name, for `info name` of the monitor.
    ///
    /// NAME or guest=NAME; process=NAME and debug-threads=on|off are accepted and make no difference.
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub name: Option<String>,
    /// What firmware tells of the system: type=1,manufacturer=TEXT,...
    ///
    /// Of the SMBIOS structures type 1 alone can be set: manufacturer=, product=, version=, serial=, sku=,
    /// family= (each up to 255 bytes), uuid= (then -uuid does not count). Later options add to
    /// earlier ones.
    #[arg(long, value_name = "type=1,...", help_heading = "Machine")]
    pub smbios: Vec<String>,
    /// Sets a property of every device of a kind: DRIVER.PROPERTY=VALUE.
    ///
    /// Or driver=,property=,value=. It counts where -device does not give the property. Devices that
    /// every machine has have none that could be set.
    #[arg(long, value_name = "DRIVER.PROPERTY=VALUE", help_heading = "Machine")]
    pub global: Vec<String>,
    /// Configuration files are not read.
    #[arg(long, value_name = "FILE", hide = true)]
    pub readconfig: Vec<String>,
    /// The machine's UUID, as firmware and guest see it.
    #[arg(long, value_name = "UUID", help_heading = "Machine")]
    pub uuid: Option<String>,
    /// Parts of the built-in guest to run, by name; `help` lists them.
    #[arg(long, value_name = "NAME,...", help_heading = "Built-in guest")]
    pub parts: Option<String>,
    /// Real-time clock: base=utc or base=YYYY-MM-DDTHH:MM:SS.
    #[arg(long, value_name = "base=...", help_heading = "Machine")]
    pub rtc: Option<String>,
    /// Virtual time: 2^N nanoseconds an instruction (tcg only); two runs are then equal.
    #[arg(long, value_name = "shift=N", help_heading = "CPU")]
    pub icount: Option<String>,
    /// End the run at a reset instead of restarting the guest.
    #[arg(long, help_heading = "Machine")]
    pub no_reboot: bool,
    /// Stop the machine instead of ending the run when the guest turns it off.
    #[arg(long, help_heading = "Machine")]
    pub no_shutdown: bool,
    /// Disk image, the first IDE drive: the same as -hda.
    #[arg(value_name = "IMAGE", help_heading = "Drives")]
    pub image: Option<PathBuf>,
    /// Disk image of the first drive of the first IDE channel.
    #[arg(long, value_name = "FILE", help_heading = "Drives")]
    pub hda: Option<PathBuf>,
    /// Disk image of the second drive of the first IDE channel.
    #[arg(long, value_name = "FILE", help_heading = "Drives")]
    pub hdb: Option<PathBuf>,
    /// Disk image of the first drive of the second IDE channel.
    #[arg(long, value_name = "FILE", help_heading = "Drives")]
    pub hdc: Option<PathBuf>,
    /// Disk image of the second drive of the second IDE channel.
    #[arg(long, value_name = "FILE", help_heading = "Drives")]
    pub hdd: Option<PathBuf>,
    /// CD-ROM image: the first drive of the second IDE channel.
    #[arg(long, value_name = "FILE", help_heading = "Drives")]
    pub cdrom: Option<PathBuf>,
    /// Drive, as in file=disk.img,format=raw,index=0.
    ///
    /// file=: the image. if=ide, format=raw: the only ones. media=disk|cdrom. index=N (0 to 3), or
    /// bus=N,unit=N: where it is plugged in; the first free place if neither is given. readonly=on|off.
    /// snapshot=on: writes go to a temporary file. serial=: its serial number. id=, cache=, aio=,
    /// discard=, detect-zeroes=, werror= and rerror= are accepted and make no difference.
    #[arg(long, value_name = "PROP=VALUE,...", help_heading = "Drives")]
    pub drive: Vec<String>,
    /// Writes go to temporary files: the images stay as they are.
    #[arg(long, help_heading = "Drives")]
    pub snapshot: bool,
    /// Serial port: stdio, file:PATH, null, pty, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT (sockets:
    /// server=on, wait=off), chardev:ID; mon: before it adds the monitor (Ctrl-A h helps). May be given
    /// four times; the third and fourth port share the interrupts of the first two. What a peer does not
    /// read in time is lost: it never holds the guest for long.
    #[arg(long, value_name = "DEV", help_heading = "Character devices")]
    pub serial: Vec<String>,
    /// No display; the first serial port is mon:stdio, firmware uses it too. The default where
    /// neither -display nor -serial is given.
    #[arg(long, help_heading = "Character devices")]
    pub nographic: bool,
    /// Character backend for -device, -serial and -monitor: stdio, null, pty, file (path=, append=) or
    /// socket (path=, or host= and port=; server=, wait=, telnet=), each with id= and mux=.
    #[arg(
        long,
        value_name = "KIND,id=ID,...",
        help_heading = "Character devices"
    )]
    pub chardev: Vec<String>,
    /// Debug console on port 402h, where SeaBIOS writes its log: stdio, file:PATH, null,
    /// chardev:ID. -device isa-debugcon chooses the port (E9h).
    #[arg(long, value_name = "DEV", help_heading = "Character devices")]
    pub debugcon: Option<String>,
    /// Video: std (1234:1111) or none.
    #[arg(long, value_name = "TYPE", help_heading = "Other devices")]
    pub vga: Option<String>,
    /// Firmware configuration item: name=NAME and file=PATH or string=TEXT.
    ///
    /// The guest finds it by its name through ports 510h and 511h; names of users begin with "opt/".
    #[arg(
        long = "fw_cfg",
        value_name = "name=NAME,...",
        help_heading = "Firmware and kernel"
    )]
    pub fw_cfg: Vec<String>,
    /// Network; none is the only one today.
    #[arg(
        long,
        visible_alias = "net",
        value_name = "none",
        help_heading = "Other devices"
    )]
    pub nic: Vec<String>,
    /// Where the monitor is: as -serial. By default it shares mon:stdio (Ctrl-A c), if that is there.
    #[arg(long, value_name = "DEV", help_heading = "Character devices")]
    pub monitor: Vec<String>,
    /// Parallel port; none is the only one today.
    #[arg(long, value_name = "none", help_heading = "Character devices")]
    pub parallel: Vec<String>,
    /// No default devices: here, no serial port and CD-ROM drive but those asked for.
    #[arg(long, help_heading = "Machine")]
    pub nodefaults: bool,
    /// No HPET.
    #[arg(long, help_heading = "Machine")]
    pub no_hpet: bool,
    /// Adds a device with its properties; `help` lists them.
    ///
    /// isa-debug-exit: iobase= (501h), iosize= (2): a write of V ends the run with status 2V+1.
    /// isa-debugcon: chardev=ID, iobase= (E9h). isa-serial: chardev=ID: the next free serial port.
    /// Properties that are not given are those of -global, if it has them.
    #[arg(
        long,
        value_name = "NAME,PROP=VALUE,...",
        help_heading = "Other devices"
    )]
    pub device: Vec<String>,
    /// Display; none is the only one.
    #[arg(long, value_name = "TYPE", help_heading = "Other devices")]
    pub display: Option<String>,
    /// Log items: int,in_asm,exec,cpu,exits,rescue,lockstep,guest_errors; `help` lists them.
    #[arg(long = "d", value_name = "ITEM,...", help_heading = "Debugging")]
    pub log: Option<String>,
    /// Log to FILE instead of standard error.
    #[arg(long = "D", value_name = "FILE", help_heading = "Debugging")]
    pub log_file: Option<PathBuf>,
    /// At the end, counts of exits, instructions and rescues to standard error or FILE; json or text.
    ///
    /// text: a column an engine; what is run for KVM is `rescue`, KVM's own counters are `kernel`. json: {"runs":
    /// [{"engine", "guest_seconds", "instructions", "exits": {NAME: N}, "rescued": {INSTRUCTION: N}, "kernel":
    /// {NAME: N}}]}, null for what an engine cannot count. Names are those of Intel's basic exit reasons.
    #[arg(
        long,
        value_name = "FORM[:FILE]",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        help_heading = "Debugging"
    )]
    pub stats: Option<String>,
    /// Write every access of the processor to the board, and every interrupt, to FILE.
    ///
    /// A line each, in one form from both engines; `twin86 diff-exits A B` compares two such files.
    #[arg(long, value_name = "FILE", help_heading = "Debugging")]
    pub trace_exits: Option<PathBuf>,
    /// Print the options with all their properties.
    #[arg(long, help_heading = "Help")]
    pub help_all: bool,
    /// Lets gdb connect: tcp::PORT (every address of this host: whoever reaches it owns the guest),
    /// tcp:HOST:PORT, unix:PATH, stdio, none; with form=i8086|i386|x86-64, as it shall see the processor.
    #[arg(long, value_name = "DEV", help_heading = "Debugging")]
    pub gdb: Option<String>,
    /// Drive the board in the processor's place, by the qtest protocol: stdio, unix:PATH or tcp:HOST:PORT, with
    /// server=on,wait=off to listen there. The processor does not run, and time stands still but for clock_step.
    #[arg(long, value_name = "DEV", help_heading = "Debugging")]
    pub qtest: Option<String>,
    /// Stand still before the first instruction, until gdb or the monitor lets the guest go on.
    #[arg(long = "S", help_heading = "Debugging")]
    pub paused: bool,
    /// Lets gdb connect: the same as -gdb tcp::1234.
    #[arg(long = "s", help_heading = "Debugging")]
    pub gdb_default: bool,
    /// Print this help.
    #[arg(long, help_heading = "Help")]
    pub help: bool,
}

/// A mistake on the command line, in one line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No such option.
    #[error("unknown option '{given}'{}", suggestion(.nearest))]
    Unknown {
        /// As the user wrote it.
        given: String,
        /// The nearest valid one, in the user's spelling.
        nearest: Option<String>,
    },
    /// An option's value is not one of those it takes.
    #[error("{option}: '{given}' is not {expected}{}", suggestion(.nearest))]
    Value {
        /// The option.
        option: &'static str,
        /// As the user wrote it.
        given: String,
        /// What would be right.
        expected: &'static str,
        /// The nearest valid one.
        nearest: Option<String>,
    },
    /// An option that takes a value stands without one.
    #[error("option '{0}' needs a value")]
    NoValue(String),
    /// An option that means nothing without another.
    #[error(
        "{given} needs a guest (-kernel, -cdrom, -hda, -drive or -bios): the built-in one brings its own devices"
    )]
    NeedsGuest {
        /// The option.
        given: &'static str,
    },
    /// Anything else clap finds.
    #[error("{0}")]
    Usage(String),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |n| format!("; did you mean '{n}'?"))
}

impl Options {
    /// Parses the command line (without the program's name).
    ///
    /// # Errors
    /// One line that names the option or value and the nearest valid one.
    pub fn from_args(args: impl IntoIterator<Item = String>) -> Result<Self, CliError> {
        let args: Vec<String> = args.into_iter().collect();
        let parsed = Self::try_parse_from(two_dashes(&args));
        parsed.map_err(|error| explain(&error, &args))
    }

    /// The help text.
    pub fn help_text() -> String {
        let help = Self::command().render_help();
        format!("{help}\n{}", subcommand::list())
    }

    /// The help text with every option's properties.
    pub fn long_help_text() -> String {
        Self::command().render_long_help().to_string()
    }
}

/// Whether the option `name` (without dashes) takes a value; `None` if there is no such option.
fn takes_value(name: &str) -> Option<bool> {
    let command = Options::command();
    let argument = command.get_arguments().find(|a| {
        a.get_long() == Some(name)
            || a.get_visible_aliases()
                .is_some_and(|all| all.contains(&name))
    })?;
    let optional = argument.get_num_args().is_some_and(|n| n.min_values() == 0);
    Some(argument.get_action().takes_values() && !optional)
}

/// QEMU's single dashes become double ones, but for what is the value of an option.
fn two_dashes(args: &[String]) -> Vec<String> {
    let mut out = vec!["twin86".to_string()];
    let mut is_value = false;
    for arg in args {
        let name = arg.trim_start_matches('-');
        if is_value && let Some(option) = out.last_mut() {
            // Joined, so that a value may begin with a dash.
            option.push('=');
            option.push_str(arg);
            is_value = false;
            continue;
        }
        if name.is_empty() || !arg.starts_with('-') {
            out.push(arg.clone());
            continue;
        }
        let name = if name == "h" { "help" } else { name };
        out.push(format!("--{name}"));
        is_value = !name.contains('=') && takes_value(name) == Some(true);
    }
    out
}

fn explain(error: &clap::Error, args: &[String]) -> CliError {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let invalid = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.clone(),
        _ => String::new(),
    };
    let bare = invalid
        .trim_start_matches('-')
        .split(' ')
        .next()
        .unwrap_or_default();
    let same = |arg: &&String| arg.trim_start_matches('-').split('=').next() == Some(bare);
    let given = args.iter().find(same).map_or(invalid.clone(), |arg| {
        arg.split('=').next().unwrap_or(arg).to_string()
    });
    if error.kind() == ErrorKind::InvalidValue {
        return CliError::NoValue(given);
    }
    if error.kind() == ErrorKind::UnknownArgument {
        let dashes = &given[..given.len() - given.trim_start_matches('-').len()];
        let command = Options::command();
        let names: Vec<&str> = command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .collect();
        let nearest = nearest(bare, names).map(|n| format!("{dashes}{n}"));
        return CliError::Unknown { given, nearest };
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    CliError::Usage(line.trim_start_matches("error: ").to_string())
}

/// What `-d` can log.
pub const LOG_ITEMS: &[(&str, &str)] = &[
    (
        "int",
        "exceptions and interrupts as they are delivered (tcg)",
    ),
    (
        "in_asm",
        "guest code of each block as it is translated (tcg)",
    ),
    ("exec", "each instruction before it runs (tcg)"),
    ("cpu", "registers before each instruction (tcg)"),
    ("exits", "every access of a processor to the board"),
    ("rescue", "what KVM refuses and the own CPU runs (kvm)"),
    ("lockstep", "slices that differ, and what is not checked"),
    (
        "guest_errors",
        "what the guest did that no hardware expects",
    ),
];

/// Those of them that a software CPU alone can log.
const TCG_ITEMS: [&str; 4] = ["int", "in_asm", "exec", "cpu"];

pub(crate) fn one_of(
    option: &'static str,
    given: &str,
    names: &[&str],
    expected: &'static str,
) -> CliError {
    CliError::Value {
        option,
        given: given.to_string(),
        expected,
        nearest: nearest(given, names.iter().copied()).map(str::to_string),
    }
}

/// `on` or `off`.
///
/// # Errors
/// If it is neither.
pub fn switch(option: &'static str, given: &str) -> Result<bool, CliError> {
    match given {
        "on" | "yes" | "true" => Ok(true),
        "off" | "no" | "false" => Ok(false),
        _ => Err(one_of(option, given, &["on", "off"], "'on' or 'off'")),
    }
}

pub(crate) fn value(option: &'static str, given: &str, expected: &'static str) -> CliError {
    CliError::Value {
        option,
        given: given.to_string(),
        expected,
        nearest: None,
    }
}

impl Options {
    /// The engines that may run the guest.
    ///
    /// # Errors
    /// If there is no such engine.
    pub fn engines(&self) -> Result<Choice, CliError> {
        let of_machine = self.machine_properties()?;
        Choice::parse(&self.accel, of_machine.get("accel"))
    }

    /// Where the machine moves to another engine.
    ///
    /// # Errors
    /// If `--accel-switch-at` says something else.
    pub fn switches(&self) -> Result<Switches, CliError> {
        Switches::parse(&self.accel_switch_at)
    }

    /// The first option that only the software CPU can serve. Where the machine moves between
    /// engines, `-d` logs what is run by that one.
    ///
    /// # Errors
    /// If a log item does not exist.
    pub fn tcg_only(&self) -> Result<Option<TcgOnly>, CliError> {
        if self.icount.is_some() {
            return Ok(Some(TcgOnly {
                option: "-icount".into(),
                because: "KVM cannot count instructions",
            }));
        }
        let items = self.log_items()?;
        if !self.accel_switch_at.is_empty() {
            return Ok(None);
        }
        let item = items.iter().find(|item| TCG_ITEMS.contains(item));
        Ok(item.map(|item| TcgOnly {
            option: format!("-d {item}"),
            because: "KVM does not show what the processor does",
        }))
    }

    /// Where `--stats` writes.
    ///
    /// # Errors
    /// If it is none of its forms.
    pub fn stats(&self) -> Result<Option<stats::Output>, CliError> {
        self.stats.as_deref().map(stats::Output::parse).transpose()
    }

    /// Guest memory in bytes.
    ///
    /// # Errors
    /// If it is no size, or one the machine cannot have.
    pub fn memory(&self) -> Result<u64, CliError> {
        let wrong = || {
            value(
                "-m",
                &self.memory,
                "a memory size from 1M to 1T, as in 512 or 2G",
            )
        };
        let properties = Properties::parse(&self.memory).map_err(|_| wrong())?;
        let size = properties
            .get("size")
            .or(properties.head())
            .ok_or_else(wrong)?;
        let (digits, unit) = match size.char_indices().next_back() {
            Some((at, 'K' | 'k')) => (&size[..at], 1 << 10),
            Some((at, 'M' | 'm')) => (&size[..at], 1 << 20),
            Some((at, 'G' | 'g')) => (&size[..at], 1 << 30),
            Some((at, 'T' | 't')) => (&size[..at], 1 << 40),
            _ => (size, 1 << 20),
        };
        let bytes = digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit))
            .ok_or_else(wrong)?;
        let possible = bytes % 4096 == 0 && (1 << 20..=1 << 40).contains(&bytes);
        if possible { Ok(bytes) } else { Err(wrong()) }
    }

    /// The processor model.
    ///
    /// # Errors
    /// If there is no such model.
    pub fn cpu_model(&self) -> Result<CpuModel, CliError> {
        CpuModel::by_name(&self.cpu).ok_or_else(|| {
            one_of(
                "-cpu",
                &self.cpu,
                &CpuModel::names().collect::<Vec<_>>(),
                "a processor model",
            )
        })
    }

    /// Whether a machine of the user's is asked for, not the built-in guest.
    pub fn has_guest(&self) -> bool {
        let images = [
            &self.bios,
            &self.kernel,
            &self.image,
            &self.hda,
            &self.hdb,
            &self.hdc,
            &self.hdd,
            &self.cdrom,
        ];
        images.iter().any(|image| image.is_some())
            || !self.drive.is_empty()
            || !self.boot.is_empty()
            || self.qtest.is_some()
    }

    /// Checks that no option is given that only a guest of the user's could use.
    ///
    /// # Errors
    /// If there is one.
    pub fn check_embedded(&self) -> Result<(), CliError> {
        let rows = [
            ("-name", self.name.is_some()),
            ("-smbios", !self.smbios.is_empty()),
            ("-global", !self.global.is_empty()),
            ("-initrd", self.initrd.is_some()),
            ("-append", self.append.is_some()),
            ("-device", !self.device.is_empty()),
            ("-serial", !self.serial.is_empty()),
            ("-nographic", self.nographic),
            ("-chardev", !self.chardev.is_empty()),
            ("-debugcon", self.debugcon.is_some()),
            ("-vga", self.vga.is_some()),
            ("-fw_cfg", !self.fw_cfg.is_empty()),
            ("-snapshot", self.snapshot),
            ("-no-shutdown", self.no_shutdown),
            ("-rtc", self.rtc.is_some()),
            ("--trace-exits", self.trace_exits.is_some()),
            ("-gdb", self.gdb.is_some()),
            ("-s", self.gdb_default),
            ("-monitor", self.monitor.iter().any(|given| given != "none")),
            ("-S", self.paused),
        ];
        match rows.iter().find(|(_, is_given)| *is_given) {
            Some((given, _)) => Err(CliError::NeedsGuest { given }),
            None => Ok(()),
        }
    }

    /// Where gdb may connect.
    ///
    /// # Errors
    /// If `-gdb` is no such place.
    pub fn gdb(&self) -> Result<Option<gdb::Config>, CliError> {
        match self.gdb.as_deref() {
            Some(given) => gdb::Config::parse(given),
            None if self.gdb_default => gdb::Config::parse("tcp::1234"),
            None => Ok(None),
        }
    }

    /// Where the board is driven from, if it is.
    ///
    /// # Errors
    /// If `-qtest` is no such place.
    pub fn qtest(&self) -> Result<Option<qtest::Config>, RunError> {
        self.qtest.as_deref().map(qtest::Config::parse).transpose()
    }

    /// Checks the options that have only one value today.
    ///
    /// # Errors
    /// If they ask for something else.
    pub fn check_fixed(&self) -> Result<(), CliError> {
        self.machine_properties()?;
        self.guest_name()?;
        if let Some(file) = self.readconfig.first() {
            let text = format!(
                "-readconfig {file}: configuration files cannot be read: give what stands in it as options"
            );
            return Err(CliError::Usage(text));
        }
        if let Some(display) = &self.display
            && display != "none"
        {
            return Err(one_of("-display", display, &["none"], "a display"));
        }
        for (option, given) in [("-nic", &self.nic), ("-parallel", &self.parallel)] {
            if let Some(other) = given.iter().find(|g| *g != "none") {
                return Err(value(option, other, "'none', the only one today"));
            }
        }
        if let Some(vga) = &self.vga
            && !["std", "none"].contains(&vga.as_str())
        {
            return Err(one_of("-vga", vga, &["std", "none"], "a video adapter"));
        }
        if self.accel.iter().any(|given| given == "qtest") && self.qtest.is_none() {
            return Err(CliError::Usage("-accel qtest needs -qtest".into()));
        }
        if self.smp != "1" && self.smp != "cpus=1" {
            return Err(value(
                "-smp",
                &self.smp,
                "a number of processors this build can run (1)",
            ));
        }
        Ok(())
    }

    /// The properties of `-M`: its type checked, the rest as given.
    ///
    /// # Errors
    /// If the type or a property does not exist.
    pub fn machine_properties(&self) -> Result<Properties, CliError> {
        let Some(given) = &self.machine else {
            return Ok(Properties::default());
        };
        let usage = |error| CliError::Usage(format!("-M {given}: {error}"));
        let properties = Properties::parse(given).map_err(usage)?;
        let machine = properties.head().or(properties.get("type")).unwrap_or("pc");
        if machine != "pc" {
            return Err(one_of("-M", machine, &["pc"], "a machine type"));
        }
        let known = ["type", "accel", "hpet", "graphics"];
        properties.only(&known).map_err(usage)?;
        Ok(properties)
    }

    /// A property of `-M` that is on or off.
    ///
    /// # Errors
    /// If it is neither.
    pub fn machine_switch(&self, name: &str, default: bool) -> Result<bool, CliError> {
        match self.machine_properties()?.get(name) {
            None => Ok(default),
            Some(given) => switch("-M", given),
        }
    }

    /// The machine's name, if it has one.
    ///
    /// # Errors
    /// If a property of `-name` does not exist.
    pub fn guest_name(&self) -> Result<Option<String>, CliError> {
        let Some(given) = &self.name else {
            return Ok(None);
        };
        let usage = |error| CliError::Usage(format!("-name {given}: {error}"));
        let properties = Properties::parse(given).map_err(usage)?;
        properties
            .only(&["guest", "process", "debug-threads"])
            .map_err(usage)?;
        if let Some(given) = properties.get("debug-threads") {
            switch("-name", given)?;
        }
        let name = properties.get("guest").or(properties.head());
        Ok(name.map(str::to_string))
    }

    /// Nanoseconds an instruction takes, as a power of two, in virtual time.
    ///
    /// # Errors
    /// If the shift is none from 0 to 10.
    pub fn icount_shift(&self) -> Result<Option<u32>, CliError> {
        let Some(given) = &self.icount else {
            return Ok(None);
        };
        let number = given.strip_prefix("shift=").unwrap_or(given);
        match number.parse() {
            Ok(shift) if shift <= 10 => Ok(Some(shift)),
            _ => Err(value("-icount", given, "shift=N with N from 0 to 10")),
        }
    }

    /// Which items `-d` chose.
    ///
    /// # Errors
    /// If one does not exist.
    pub fn log_items(&self) -> Result<Vec<&'static str>, CliError> {
        let names: Vec<&'static str> = LOG_ITEMS.iter().map(|(name, _)| *name).collect();
        let given = self.log.as_deref().unwrap_or_default();
        given
            .split(',')
            .filter(|item| !item.is_empty())
            .map(|item| {
                let found = names.iter().find(|name| **name == item).copied();
                found.ok_or_else(|| one_of("-d", item, &names, "a log item"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel_option::Engine;

    fn parse(line: &str) -> Result<Options, CliError> {
        Options::from_args(line.split_whitespace().map(str::to_string))
    }

    fn message(line: &str) -> String {
        let options = match parse(line) {
            Err(error) => return error.to_string(),
            Ok(options) => options,
        };
        let results = [
            options.engines().map(|_| ()),
            options.memory().map(|_| ()),
            options.cpu_model().map(|_| ()),
            options.log_items().map(|_| ()),
            options.check_fixed(),
            options.check_embedded(),
        ];
        results
            .into_iter()
            .find_map(Result::err)
            .map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn one_dash_or_two() {
        for line in [
            "-accel kvm -m 64",
            "--accel=kvm --m=64",
            "-accel=kvm -m 64M",
        ] {
            let options = parse(line).expect(line);
            assert_eq!(options.engines().expect(line).only(), Some(Engine::Kvm));
            assert_eq!(options.memory().expect(line), 64 << 20);
        }
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        let options = parse("-bios -strange.bin").expect("a file name");
        assert_eq!(options.bios, Some(PathBuf::from("-strange.bin")));
    }

    #[test]
    fn a_name_has_properties() {
        let name = |line| {
            let options = parse(line).expect(line);
            options.guest_name().map_err(|error| error.to_string())
        };
        assert_eq!(name("-m 64"), Ok(None));
        assert_eq!(name("-name a"), Ok(Some("a".to_string())));
        assert_eq!(
            name("-name guest=a,process=b,debug-threads=on"),
            Ok(Some("a".to_string()))
        );
        assert!(name("-name a,debug-threads=maybe").is_err());
        assert!(name("-name a,proces=b").is_err_and(|e| e.contains("did you mean 'process'")));
    }

    #[test]
    fn help_is_grouped_and_short() {
        let help = Options::help_text();
        for group in [
            "CPU:",
            "Machine:",
            "Drives:",
            "Character devices:",
            "Debugging:",
        ] {
            assert!(help.contains(&format!("\n{group}\n")), "{group}");
        }
        assert!(help.lines().count() < 160, "{}", help.lines().count());
        assert!(Options::long_help_text().contains("reboot-timeout="));
    }

    #[test]
    fn mistakes_name_what_was_written_and_what_is_near() {
        for (line, expected) in [
            (
                "-acel tcg",
                "unknown option '-acel'; did you mean '-accel'?",
            ),
            (
                "--acel=tcg",
                "unknown option '--acel'; did you mean '--accel'?",
            ),
            (
                "-accel kmv",
                "-accel: 'kmv' is not an engine; did you mean 'kvm'?",
            ),
            (
                "-cpu qemu65",
                "-cpu: 'qemu65' is not a processor model; did you mean 'qemu64'?",
            ),
            ("-d itn", "-d: 'itn' is not a log item; did you mean 'int'?"),
            (
                "-M pcc",
                "-M: 'pcc' is not a machine type; did you mean 'pc'?",
            ),
            ("-m", "option '-m' needs a value"),
            (
                "-m 99999999T",
                "-m: '99999999T' is not a memory size from 1M to 1T, as in 512 or 2G",
            ),
            (
                "-serial stdio",
                "-serial needs a guest (-kernel, -cdrom, -hda, -drive or -bios): the built-in one brings its own devices",
            ),
            (
                "-readconfig vm.cfg",
                "-readconfig vm.cfg: configuration files cannot be read: give what stands in it as options",
            ),
            ("-m 64", ""),
        ] {
            assert_eq!(message(line), expected, "{line}");
        }
    }
}
