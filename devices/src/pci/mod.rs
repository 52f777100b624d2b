//! PCI configuration mechanism #1 and the functions of bus 0.
//!
//! Documents: PCI 2.1, 3.7.4.1 "Configuration Mechanism #1"; 82441FX 290549, "CONFADD", "CONFDATA";
//! 82371SB (PIIX3) 290550, "RC: Reset Control Register". Region 0: ports CF8-CFF. CF8 is the address register
//! for accesses of 32 bits alone, CFC-CFF are the data of the register it names, CF9 as a byte is the
//! PIIX3's reset control. Of the address only bus, device, function and register number count; it
//! reads back as written.
//!
//! Not modelled: buses but 0 (an absent function reads ones and drops writes), special cycles,
//! mechanism #2. A narrower access to CF8-CFB that is not CF9 floats (QEMU answers reads with the
//! address register's low bytes). CF9 resets the machine whether SRST asks for a hard reset or not,
//! and RCPU always reads 0, as in QEMU: the reset clears it.
//!
//! Configuration accesses reach a function through the host; its regions, reset and saved state are
//! the bus's, where each function stands under its own name.
//!
//! The order of locks: the host's or the function's place on the bus, the function's, [`intx::PirqRouter`]'s, the
//! interrupt chips'.

pub mod bar;
pub mod config;
pub mod intx;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::display::Display;
use crate::board::{BoardOptions, Wiring};
use crate::bus::{Region, Widths, Window};
use crate::memory::Block;
use crate::memory_map::{Range, SharedShape, Target};
use crate::pci::bar::{Bar, Mapping};
use crate::pci::config::Config;
use crate::pci::intx::{Pin, PirqRouter};
use crate::{
    At, Device, IrqLine, Request, Requests, RestoreError, State, i440fx, ide, piix3, piix4_pm, vga,
};

const VERSION: u32 = 1;

const ADDRESS_PORT: u64 = 0;
const RESET_CONTROL_PORT: u64 = 1;
const DATA_PORT: u64 = 4;

const ADDRESS_ENABLE: u32 = 1 << 31;

/// Reset control: a full reset rather than the processor's alone.
const RC_SRST: u8 = 1 << 1;
/// Reset control: its rise resets.
const RC_RCPU: u8 = 1 << 2;

/// Number of a function's first fixed region (those of its row); regions below it are its BARs.
pub const FIXED: u8 = 8;

/// Memory behind a BAR: it becomes part of the memory map, the function sees no access to it.
#[derive(Clone, Debug)]
pub struct Backing {
    /// Number of the BAR.
    pub bar: usize,
    /// The memory: exactly as large as the BAR, and whole pages.
    pub block: Arc<Block>,
    /// Writes are dropped (an expansion ROM).
    pub read_only: bool,
    /// Writes leave dirty marks (a frame buffer).
    pub log_dirty: bool,
}

/// A function of a PCI device: configuration space, and as a [`Device`] its regions (a BAR's number,
/// or [`FIXED`] and above for those of its row), reset and saved state. It is reached under one lock
/// from both sides. Writes to its configuration space do not move its deadline.
pub trait Function: Device {
    /// Its configuration space.
    fn config(&self) -> &Config;
    /// Its configuration space, to change.
    fn config_mut(&mut self) -> &mut Config;
    /// Memory behind its BARs; the same at each call.
    fn memory(&self) -> Vec<Backing> {
        Vec::new()
    }
    /// What accesses BAR `bar` is shown.
    fn widths(&self, _bar: usize) -> Widths {
        Widths::UP_TO_DWORD
    }
    /// Where its moving regions answer now, with their numbers: by default its BARs without memory.
    /// When this changes, the function leaves [`Request::MapChanged`] in [`Place::requests`].
    fn windows(&self) -> Vec<(u8, Region)> {
        let memory = self.memory();
        let io = |bar: &usize| memory.iter().all(|backing| backing.bar != *bar);
        let mappings = self.config().mappings();
        let window = |bar: usize| {
            let at = mappings[bar]?;
            let region = Region {
                space: at.space,
                range: at.first..=at.last,
                widths: self.widths(bar),
            };
            Some((bar as u8, region))
        };
        (0..bar::COUNT).filter(io).filter_map(window).collect()
    }
    /// What it shows on a monitor, if it drives one.
    fn display(&self) -> Option<&dyn Display> {
        None
    }
    /// The guest reads configuration space; `offset` and `data` stay inside one register number.
    fn read_config(&mut self, offset: usize, data: &mut [u8]) {
        self.config_mut().read(offset, data);
    }
    /// The guest writes configuration space.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config_mut().write(offset, data);
    }
}

/// A function as the host and the bus share it.
pub type Shared = Arc<Mutex<Box<dyn Function>>>;

/// What a function is wired to when it is built.
pub struct Place<'a> {
    /// What every device is given; the function's own, for what its regions' accesses cause.
    pub wiring: &'a Wiring,
    /// The queue of the host, which functions share: for what configuration accesses cause.
    pub requests: &'a Requests,
    /// How the host bridge lets the board see PAM and SMRAM.
    pub shape: &'a SharedShape,
    /// Where INTA#-INTD# lead.
    pub router: &'a Arc<PirqRouter>,
    /// The slot it stands in.
    pub slot: u8,
    /// Its function number.
    pub function: u8,
}

impl Place<'_> {
    /// The wire from the function's `pin`; it is made once.
    pub fn intx(&self, pin: Pin) -> IrqLine {
        self.router.intx(self.slot, self.function, pin)
    }
}

/// A function of the machine.
pub struct Row {
    /// Its name: unique, and what its saved state is found by.
    pub name: &'static str,
    /// Its device number on bus 0.
    pub slot: u8,
    /// Its function number.
    pub function: u8,
    /// Where it answers whatever its BARs say; these number from [`FIXED`] on.
    pub regions: &'static [Region],
    /// Its ISA interrupts ([`Wiring::irq`] by index); INTx is [`Place::intx`].
    pub irqs: &'static [u32],
    /// Whether the machine has it.
    pub wanted: fn(&BoardOptions) -> bool,
    /// Builds it.
    pub new: fn(&Place<'_>) -> Box<dyn Function>,
}

/// Of a function every machine has.
fn always(_: &BoardOptions) -> bool {
    true
}

/// The functions, in the order in which they are reset and restored.
#[rustfmt::skip]
pub const PCI: &[Row] = &[
    Row { name: "i440fx", slot: 0, function: 0, regions: &[], irqs: &[], wanted: always, new: i440fx::new },
    Row { name: "piix3",  slot: 1, function: 0, regions: &[], irqs: &[], wanted: always, new: piix3::new },
    Row { name: "piix3-ide", slot: 1, function: 1, regions: ide::REGIONS, irqs: &[14, 15], wanted: always, new: ide::new },
    Row { name: "piix4_pm", slot: 1, function: 3, regions: piix4_pm::REGIONS, irqs: &[9], wanted: always, new: piix4_pm::new },
    Row { name: "vga",    slot: 2, function: 0, regions: vga::REGIONS, irqs: &[], wanted: |options| options.vga, new: vga::new },
];

/// A function as a debugger sees it.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its name.
    pub name: &'static str,
    /// Its device number.
    pub slot: u8,
    /// Its function number.
    pub function: u8,
    /// Its configuration space.
    pub space: [u8; config::SIZE],
    /// What its BARs ask for.
    pub bars: [Option<Bar>; bar::COUNT],
    /// Where they decode.
    pub mappings: [Option<Mapping>; bar::COUNT],
}

/// One function on bus 0.
#[derive(Clone)]
pub struct Present {
    /// Its name.
    pub name: &'static str,
    /// Its device number.
    pub slot: u8,
    /// Its function number.
    pub function: u8,
    /// The function.
    pub shared: Shared,
    /// Its row's regions.
    pub regions: &'static [Region],
    /// Its own queue.
    pub requests: Requests,
}

impl Present {
    /// The function as the bus sees it.
    pub fn port(&self) -> Box<dyn Device> {
        Box::new(Port(Arc::clone(&self.shared)))
    }
}

/// A function on the bus.
struct Port(Shared);

impl Device for Port {
    fn read(&mut self, at: At, data: &mut [u8]) {
        lock(&self.0).read(at, data);
    }

    fn write(&mut self, at: At, data: &[u8]) {
        lock(&self.0).write(at, data);
    }

    fn reset(&mut self) {
        lock(&self.0).reset();
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        lock(&self.0).poll(now)
    }

    fn save(&self) -> State {
        lock(&self.0).save()
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        lock(&self.0).restore(from)
    }
}

/// What the board keeps of the host.
pub struct Handles {
    /// PAM and SMRAM as they are now.
    pub shape: SharedShape,
    /// Where slots' interrupt pins lead.
    pub router: Arc<PirqRouter>,
    /// All functions, in the order of their rows.
    pub functions: Vec<Present>,
}

impl Handles {
    /// Where functions answer now, but for their fixed regions.
    pub fn windows(&self) -> Vec<Window> {
        let windows = |present: &Present| {
            let device = present.name;
            let all = lock(&present.shared).windows();
            all.into_iter().map(move |(number, region)| Window {
                device,
                number,
                region,
            })
        };
        self.functions.iter().flat_map(windows).collect()
    }

    /// What every function's configuration space holds now; looking has no effect.
    pub fn look(&self) -> Vec<Look> {
        let look = |present: &Present| {
            let function = lock(&present.shared);
            let config = function.config();
            let mut space = [0; config::SIZE];
            config.regs().peek(0, &mut space);
            Look {
                name: present.name,
                slot: present.slot,
                function: present.function,
                space,
                bars: std::array::from_fn(|index| config.bar(index)),
                mappings: config.mappings(),
            }
        };
        self.functions.iter().map(look).collect()
    }

    /// Looks at the monitor of the first function that drives one.
    pub fn display<T>(&self, look: impl FnOnce(&dyn Display) -> T) -> Option<T> {
        let mut look = Some(look);
        self.functions.iter().find_map(|present| {
            let function = lock(&present.shared);
            let display = function.display()?;
            look.take().map(|look| look(display))
        })
    }

    /// Memory behind BARs: all there is, mapped or not.
    pub fn memory(&self) -> Vec<Backing> {
        let memory = |present: &Present| lock(&present.shared).memory();
        self.functions.iter().flat_map(memory).collect()
    }

    /// Where memory behind BARs is now.
    pub fn memory_ranges(&self) -> Vec<Range> {
        let ranges = |present: &Present| {
            let function = lock(&present.shared);
            let mapped = |backing: Backing| {
                let at = function.config().mapping(backing.bar)?;
                let target = Target::Block {
                    block: backing.block,
                    offset: 0,
                    read_only: backing.read_only,
                    log_dirty: backing.log_dirty,
                };
                Some(Range {
                    first: at.first,
                    last: at.last,
                    target,
                })
            };
            let all = function.memory().into_iter().filter_map(mapped);
            all.collect::<Vec<_>>()
        };
        self.functions.iter().flat_map(ranges).collect()
    }
}

/// Builds the PCI host with the functions of [`PCI`]. `shape` is the board's handle on PAM and SMRAM;
/// `irq` makes a line to an ISA interrupt; `wire` is asked for each function's wiring.
pub fn new_host(
    wiring: &Wiring,
    shape: &SharedShape,
    router: Arc<PirqRouter>,
    wire: impl FnMut(&Row) -> Wiring,
) -> (Box<dyn Device>, Handles) {
    let (host, handles) = Host::new(wiring, shape, router, PCI, wire);
    (Box::new(host), handles)
}

struct Host {
    requests: Requests,
    functions: Vec<Present>,
    address: u32,
    reset_control: u8,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Saved {
    address: u32,
    reset_control: u8,
}

impl Host {
    fn new(
        wiring: &Wiring,
        shape: &SharedShape,
        router: Arc<PirqRouter>,
        rows: &[Row],
        mut wire: impl FnMut(&Row) -> Wiring,
    ) -> (Self, Handles) {
        let build = |row: &Row| {
            let own = wire(row);
            let place = Place {
                wiring: &own,
                requests: &wiring.requests,
                shape,
                router: &router,
                slot: row.slot,
                function: row.function,
            };
            Present {
                name: row.name,
                slot: row.slot,
                function: row.function,
                shared: Arc::new(Mutex::new((row.new)(&place))),
                regions: row.regions,
                requests: own.requests.clone(),
            }
        };
        let wanted = rows.iter().filter(|row| (row.wanted)(&wiring.options));
        let functions: Vec<Present> = wanted.map(build).collect();
        let host = Self {
            requests: wiring.requests.clone(),
            functions: functions.clone(),
            address: 0,
            reset_control: 0,
        };
        let handles = Handles {
            shape: shape.clone(),
            router,
            functions,
        };
        (host, handles)
    }

    /// The function the address register names, and the register's offset.
    fn addressed(&self) -> Option<(&Present, usize)> {
        let [register, devfn, bus, _] = self.address.to_le_bytes();
        if self.address & ADDRESS_ENABLE == 0 || bus != 0 {
            return None;
        }
        let named = |p: &&Present| p.slot == devfn >> 3 && p.function == devfn & 7;
        let present = self.functions.iter().find(named)?;
        Some((present, usize::from(register & 0xFC)))
    }

    fn read_data(&self, port: u64, data: &mut [u8]) {
        if let Some((present, register)) = self.addressed() {
            let byte = (port - DATA_PORT) as usize;
            lock(&present.shared).read_config(register + byte, data);
        }
    }

    fn write_data(&self, port: u64, data: &[u8]) {
        if let Some((present, register)) = self.addressed() {
            let byte = (port - DATA_PORT) as usize;
            lock(&present.shared).write_config(register + byte, data);
        }
    }

    fn write_reset_control(&mut self, value: u8) {
        self.reset_control = value & RC_SRST;
        if value & RC_RCPU != 0 {
            self.requests.push(Request::Reset);
        }
    }
}

impl Device for Host {
    fn read(&mut self, at: At, data: &mut [u8]) {
        match (at.offset, data.len()) {
            (ADDRESS_PORT, 4) => data.copy_from_slice(&self.address.to_le_bytes()),
            (RESET_CONTROL_PORT, 1) => data.fill(self.reset_control),
            (port, width) => {
                if let Some((port, part)) = data_part(port, width) {
                    self.read_data(port, &mut data[part]);
                }
            }
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        match (at.offset, data) {
            (ADDRESS_PORT, &[a, b, c, d]) => self.address = u32::from_le_bytes([a, b, c, d]),
            (RESET_CONTROL_PORT, &[value]) => self.write_reset_control(value),
            (port, _) => {
                if let Some((port, part)) = data_part(port, data.len()) {
                    self.write_data(port, &data[part]);
                }
            }
        }
    }

    fn reset(&mut self) {
        (self.address, self.reset_control) = (0, 0);
    }

    fn save(&self) -> State {
        let saved = Saved {
            address: self.address,
            reset_control: self.reset_control,
        };
        State::of(VERSION, &saved)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let saved: Saved = from.fields(VERSION)?;
        (self.address, self.reset_control) = (saved.address, saved.reset_control);
        Ok(())
    }
}

/// The part of an access that lies in the data ports: its first port, and its bytes' place.
fn data_part(port: u64, width: usize) -> Option<(u64, std::ops::Range<usize>)> {
    let skip = DATA_PORT.saturating_sub(port);
    let first = port + skip;
    let end = (DATA_PORT + 4).min(port.checked_add(width as u64)?);
    let len = usize::try_from(end.checked_sub(first)?).ok()?;
    let skip = usize::try_from(skip).ok()?;
    (len > 0).then_some((first, skip..skip + len))
}

fn lock(function: &Shared) -> MutexGuard<'_, Box<dyn Function>> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
