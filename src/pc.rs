//! The machine the options describe: board, what is plugged into it, firmware or kernel, console.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use devices::acpi;
use devices::backend::drive::Drive;
use devices::board::BoardOptions;
use devices::board::firmware::description;
use emu::arch::cpuid::Feature;

use crate::backends::outbox::Outbox;
use crate::backends::source::Source;
use crate::backends::{Backends, User};
use crate::boot::start::Request;
use crate::choose::{choose, choose_pair};
use crate::cli::{CliError, Options};
use crate::console::Console;
use crate::console::terminal::Terminal;
use crate::device_option::{self, Target};
use crate::firmware::{DEFAULT_BIOS, Firmware, VGA_BIOS};
use crate::machine::{Boot, Machine, MachineConfig, Outcome};
use crate::run::{RunError, Session};
use crate::socket::Place;
use crate::{calendar, drives, firmware_options, gdb, qtest, signals, stats};

/// Port of `-debugcon`, as SeaBIOS expects it.
const DEBUGCON: u16 = 0x402;
/// Size of the empty ROM of a machine without a BIOS.
const NO_BIOS: usize = 0x1_0000;
/// The rows of the serial ports, in the order of `-serial`.
pub const SERIAL: [&str; 4] = ["com1", "com2", "com3", "com4"];

/// Runs the guest the options name; returns the exit status.
///
/// # Errors
/// For mistakes on the command line and failures of the host, each in one line.
pub fn run(options: &Options, session: &Session) -> Result<u8, RunError> {
    check_start(options)?;
    let gdb = options.gdb()?;
    let mut target = Target {
        board: board_options(options, session.memory)?,
        ..Target::default()
    };
    if gdb.as_ref().is_some_and(|gdb| gdb.place == Place::Stdio) {
        target.backends.take_stdio();
    }
    let qtest = options.qtest()?;
    if qtest.as_ref().is_some_and(qtest::Config::is_stdio) {
        target.backends.take_stdio();
    }
    plug_in(options, &mut target)?;
    target.parts.ide = drives::drives(options)?;
    for (known, drive) in target.board.drives.disks.iter_mut().zip(&target.parts.ide) {
        *known = drive.as_ref().and_then(Drive::geometry);
    }
    firmware_options::add_files(&mut target.parts.fw_cfg, options)?;
    // As on the stock machine: the ports after the first are there for who asks for them.
    let is_there = |name| target.parts.chardevs.contains_key(name);
    target.board.com2 = is_there("com2");
    target.board.com3 = is_there("com3");
    target.board.com4 = is_there("com4");
    let boot = start_up(options, &mut target)?;
    let Target {
        board,
        parts,
        backends,
    } = target;
    let config = MachineConfig {
        name: options.guest_name()?,
        icount: session.icount,
        no_reboot: options.no_reboot,
        no_shutdown: options.no_shutdown,
        paused: options.paused,
        by_hand: qtest.is_some(),
        boot,
        observer: session.observer.clone(),
        ..MachineConfig::new(board, parts, session.cpu.clone())
    };
    let long = config.cpu.has(Feature::Lm);
    let mut machine = machine(config, session)?;
    if let Some(path) = &options.trace_exits {
        trace_exits(&machine, path)?;
    }
    let terminal = Arc::<Terminal>::default();
    signals::serve(machine.control(), Arc::clone(&terminal))?;
    // However this function is left, they are disconnected then.
    let peers = connect(&machine, backends, terminal)?;
    let stub = match gdb {
        Some(config) => Some(gdb_stub(&config, &mut machine, long)?),
        None => None,
    };
    let tester = match qtest {
        Some(config) => Some(qtest_server(&config, &machine)?),
        None => None,
    };
    let outcome = machine.run();
    let counted = machine.stats();
    if let Some(line) = stats::lockstep(&counted) {
        tracing::warn!(target: "lockstep", "{line}");
    }
    let traced = machine.exits().end_trace();
    drop(machine);
    // The terminal is as it was, for what is printed after the run; of one that failed, too.
    drop(peers);
    let written = match &session.stats {
        Some(output) => output.write(&counted),
        None => Ok(()),
    };
    let status = match outcome? {
        Outcome::Exit(status) => status,
        Outcome::PowerOff | Outcome::Stopped | Outcome::Reset { .. } => 0,
    };
    written?;
    if let (Some(path), Err(error)) = (&options.trace_exits, traced) {
        return Err(RunError::file(path, error.to_string()));
    }
    if let Some(stub) = stub {
        stub.finish(status);
    }
    if let Some(tester) = tester {
        tester.finish();
    }
    Ok(status)
}

/// Has a machine's exits written to a file.
fn trace_exits(machine: &Machine, path: &Path) -> Result<(), RunError> {
    let traced = File::create(path).and_then(|file| machine.exits().trace(file));
    traced.map_err(|error| RunError::file(path, error.to_string()))
}

/// The machine on the engine that was chosen, or on two.
fn machine(config: MachineConfig, session: &Session) -> Result<Machine, RunError> {
    let tcg_only = session.tcg_only.as_ref();
    if !session.switches.are_planned() {
        let chosen = choose(&session.engines, tcg_only)?;
        return Ok(Machine::new(config, &*chosen.accel)?);
    }
    let pair = choose_pair(&session.engines, tcg_only)?;
    pair.check(&session.switches)?;
    let config = MachineConfig {
        switches: session.switches.moves.clone(),
        ..config
    };
    let machine = Machine::with_engines(config, &*pair.first.accel, &[&*pair.other.accel]);
    Ok(machine?)
}

fn gdb_stub(
    config: &gdb::Config,
    machine: &mut Machine,
    long: bool,
) -> Result<gdb::Stub, RunError> {
    gdb::Stub::start(config, machine, long).map_err(|source| RunError::Gdb { source })
}

fn qtest_server(config: &qtest::Config, machine: &Machine) -> Result<qtest::Server, RunError> {
    qtest::Server::start(config, machine).map_err(|source| RunError::Qtest { source })
}

fn without_bios(options: &Options) -> bool {
    options.bios.as_deref() == Some(Path::new("none"))
}

/// What means nothing without a kernel comes with one.
fn check_start(options: &Options) -> Result<(), CliError> {
    let needs_kernel = [
        ("-initrd", options.initrd.is_some()),
        ("-append", options.append.is_some()),
        ("-bios none", without_bios(options)),
    ];
    match needs_kernel.iter().find(|(_, given)| *given) {
        Some((given, _)) if options.kernel.is_none() => {
            Err(CliError::Usage(format!("{given} needs -kernel")))
        }
        _ => Ok(()),
    }
}

/// Firmware, or what starts the kernel without one.
fn start_up(options: &Options, target: &mut Target) -> Result<Option<Boot>, RunError> {
    let firmware = Firmware::new(&options.firmware_dirs);
    if target.board.vga {
        // Without it there is no text on a display; everything else works.
        target.parts.vga_rom = firmware.option_rom(VGA_BIOS)?;
    }
    let line = options.append.as_deref().unwrap_or_default();
    let placed = match &options.kernel {
        None => None,
        Some(kernel) => {
            let request = Request {
                kernel,
                initrd: options.initrd.as_deref(),
                line,
                ram: target.board.ram,
            };
            Some(request.place()?)
        }
    };
    let without_bios = without_bios(options);
    let Some(placed) = placed else {
        target.parts.bios = firmware.bios(bios(options))?;
        return Ok(None);
    };
    let rom = match placed.option_rom() {
        Some(name) if !without_bios => firmware.option_rom(name)?,
        _ => None,
    };
    if let Some(rom) = rom {
        target.parts.bios = firmware.bios(bios(options))?;
        placed.through_fw_cfg(&mut target.parts.fw_cfg, rom)?;
        return Ok(None);
    }
    if !without_bios {
        tracing::warn!(target: "boot", "starting the kernel without firmware: {}", match placed.option_rom() {
            Some(name) => format!("the option ROM {name} is missing (package qemu-system-data)"),
            None => "an ELF kernel with a PVH entry is always started so".to_string(),
        });
    }
    target.parts.bios = vec![0xFF; NO_BIOS];
    let tables = acpi::files(&description(&target.board));
    placed.directly(target.board.ram, &tables).map(Some)
}

/// The BIOS the options name.
fn bios(options: &Options) -> &Path {
    options.bios.as_deref().unwrap_or(Path::new(DEFAULT_BIOS))
}

/// What the options choose of the board.
fn board_options(options: &Options, ram: u64) -> Result<BoardOptions, RunError> {
    let (system, told_uuid) = firmware_options::smbios(&options.smbios)?;
    let uuid = match (&options.uuid, told_uuid) {
        (_, Some(uuid)) => uuid,
        (Some(given), None) => firmware_options::uuid("-uuid", given)?,
        (None, None) => [0; 16],
    };
    Ok(BoardOptions {
        ram,
        rtc_base: calendar::rtc_base(options.rtc.as_deref())?,
        nographic: nographic(options)?,
        vga: has_vga(options),
        hpet: !options.no_hpet && options.machine_switch("hpet", true)?,
        boot: firmware_options::boot(&options.boot)?,
        uuid,
        system,
        ..BoardOptions::default()
    })
}

fn has_vga(options: &Options) -> bool {
    options.vga.as_deref() != Some("none") && !(options.nodefaults && options.vga.is_none())
}

/// Whether the guest shall use the first serial port for want of a display.
fn nographic(options: &Options) -> Result<bool, CliError> {
    let by_default = options.display.is_none() && options.serial.is_empty();
    let graphics = options.machine_switch("graphics", true)?;
    Ok(options.nographic || by_default || !graphics)
}

/// Character backends and the devices they belong to.
fn plug_in(options: &Options, target: &mut Target) -> Result<(), RunError> {
    for given in &options.chardev {
        target.backends.add(given)?;
    }
    let globals = device_option::globals(&options.global)?;
    for given in &options.device {
        device_option::add(target, given, &globals)?;
    }
    if let Some(given) = &options.debugcon {
        if target.board.debugcon.is_some() {
            let text = "-debugcon: there can be one debug console only";
            return Err(CliError::Usage(text.into()).into());
        }
        target.board.debugcon = Some(DEBUGCON);
        let chardev = target
            .backends
            .open("-debugcon", given, User::Device("debugcon"))?;
        target.parts.chardevs.insert("debugcon", chardev);
    }
    if options.serial.len() > SERIAL.len() {
        let text = "-serial: there are four serial ports, a fifth was given";
        return Err(CliError::Usage(text.into()).into());
    }
    for (name, given) in SERIAL.iter().zip(&options.serial) {
        if target.parts.chardevs.contains_key(name) {
            let text = format!("-serial {given}: -device isa-serial has that port");
            return Err(CliError::Usage(text).into());
        }
        let chardev = target.backends.open("-serial", given, User::Device(name))?;
        target.parts.chardevs.insert(name, chardev);
    }
    for given in options.monitor.iter().filter(|given| *given != "none") {
        target.backends.open("-monitor", given, User::Monitor)?;
    }
    let free = !target.parts.chardevs.contains_key("com1") && target.backends.stdio_is_free();
    if free && nographic(options)? && !options.nodefaults {
        let chardev = target
            .backends
            .open("-serial", "mon:stdio", User::Device("com1"))?;
        target.parts.chardevs.insert("com1", chardev);
    }
    Ok(())
}

/// The peers of the backends. When this is dropped they get what still waits for them, and the
/// terminal is put back.
struct Peers {
    outboxes: Vec<Outbox>,
    terminal: Arc<Terminal>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        Outbox::drain(&self.outboxes);
        self.terminal.put_back();
    }
}

/// The backends' peers reach the devices and monitors they are plugged into.
fn connect(
    machine: &Machine,
    backends: Backends,
    terminal: Arc<Terminal>,
) -> Result<Peers, RunError> {
    let control = machine.control();
    let mut peers = Peers {
        outboxes: Vec::new(),
        terminal,
    };
    for mut backend in backends.into_all() {
        let source = backend.source.take();
        let Some(outbox) = backend.outbox.take() else {
            continue;
        };
        peers.outboxes.push(outbox.clone());
        let Some(source) = source else { continue };
        if matches!(source, Source::Stdio) {
            peers.terminal.make_raw(!backend.mux)?;
        }
        let console = Console::new(&backend, &outbox, &control);
        source.start(&backend.label, Box::new(console))?;
    }
    Ok(peers)
}
