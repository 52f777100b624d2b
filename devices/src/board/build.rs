//! The board: everything of the machine but its processors.
//!
//! Built from [`BoardOptions`] and the rows of [`super::pc`]. The program drives it: it forwards its
//! processors' accesses, polls it at its deadlines, and listens ([`Listener`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::backend::chardev::Chardev;
use crate::backend::display::Display;
pub use crate::board::Parts;
use crate::board::pc::{self, Isa};
use crate::board::{BoardOptions, Wiring};
use crate::bus::{Apply, Bus, BusBuilder, BusError, Region, RestoreAllError, Space, Windows};
use crate::chips::InterruptChips;
use crate::i8237::Dma;
use crate::irq::LegacyGate;
use crate::memory::Block;
use crate::memory_map::{Blocks, BusMaster, MapError, MemoryMap, SharedShape};
use crate::pci;
use crate::pci::intx::PirqRouter;
use crate::portf0::Pins;
use crate::{Clock, IrqLine, Request, Requests, RestoreError, State};

/// What the board hands the program's machine loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// System reset: stop the processors, call [`Board::reset`], reset the processors.
    Reset,
    /// The guest turned the machine off.
    PowerOff,
    /// The guest ends the run with this status.
    Exit(u8),
}

/// What the program implements to see the board's effects on the machine.
///
/// Every method is called before the access that caused it returns, on the thread that made it. Map
/// and A20 calls come one at a time, in order; they must not access the board's devices.
pub trait Listener: Send + Sync {
    /// What processors see of memory has changed.
    fn map_changed(&self, map: &Arc<MemoryMap>);
    /// The A20 gate opened (bit 20 counts) or shut.
    fn a20_changed(&self, open: bool);
    /// Something for the machine loop.
    fn event(&self, event: Event);
}

/// Why a board could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Two devices contradict each other.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Memory cannot be laid out.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// The whole state of a board but the contents of its memory blocks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BoardState {
    /// The devices on the bus, by name.
    pub devices: BTreeMap<String, State>,
    /// The interrupt chips.
    pub chips: State,
    /// The A20 gate.
    a20: A20,
}

/// Why a board refused a saved state.
#[derive(Debug, thiserror::Error)]
pub enum BoardRestoreError {
    /// A device did.
    #[error(transparent)]
    Devices(#[from] RestoreAllError),
    /// The interrupt chips did.
    #[error("the interrupt chips cannot be restored")]
    Chips(#[source] RestoreError),
}

/// The machine without its processors.
pub struct Board {
    bus: Bus,
    core: Arc<Core>,
    clock: Clock,
    x87_pins: Pins,
}

impl Board {
    /// Builds the board of `options`.
    ///
    /// # Errors
    /// If memory cannot be laid out, or a port the user chose is taken.
    pub fn new(
        options: BoardOptions,
        parts: impl Into<Arc<Parts>>,
        clock: Clock,
    ) -> Result<Self, BoardError> {
        let parts = parts.into();
        let blocks = Blocks::new(options.ram, &parts.bios)?;
        let chips = InterruptChips::new(clock.clone(), options.cpus);
        let mut wires = Wires {
            lines: Lines::new(&chips),
            clock: clock.clone(),
            memory: BusMaster::default(),
            dma: Dma::default(),
            x87_pins: Pins::default(),
            options: Arc::new(options),
            parts,
        };
        let shape = SharedShape::default();
        let mut bus = BusBuilder::new();
        for row in pc::CHIPS {
            let device = (row.new)(&chips);
            bus = bus.add(row.name, row.regions, device, Requests::default())?;
        }
        let wiring = wires.wiring("pci", &[]);
        let router = PirqRouter::new(|n| wires.lines.line(n));
        let wire = |row: &pci::Row| wires.wiring(row.name, row.irqs);
        let (host, functions) = pci::new_host(&wiring, &shape, router, wire);
        bus = bus.add("pci", pc::PCI_PORTS, host, wiring.requests)?;
        for present in &functions.functions {
            let (regions, requests) = (present.regions, present.requests.clone());
            bus = bus.add_numbered(present.name, pci::FIXED, regions, present.port(), requests)?;
        }
        for row in pc::ISA {
            bus = add_row(bus, row, &mut wires)?;
        }
        let core = Arc::new(Core::new(blocks, functions, chips, wires.memory));
        let machine = Arc::clone(&core);
        let bus = bus.build(clock.clone(), machine);
        let _ = core.windows.set(Arc::clone(bus.windows()));
        // Lines that came up while the devices were built are no edges, as after a reset.
        core.chips.reset();
        core.rebuild_map();
        Ok(Self {
            bus,
            core,
            clock,
            x87_pins: wires.x87_pins,
        })
    }

    /// Sets who hears of the board's effects; only the first call counts.
    pub fn connect(&self, listener: Arc<dyn Listener>) {
        if self.core.listener.set(listener).is_err() {
            tracing::debug!(target: "board", "a listener is already connected");
        }
    }

    /// Reads a port, or consecutive ones.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        self.bus.read(Space::Port, port.into(), data);
    }

    /// Writes a port, or consecutive ones.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        self.bus.write(Space::Port, port.into(), data);
    }

    /// String input: items of `width` bytes, all from `port`.
    pub fn port_read_items(&self, port: u16, width: usize, data: &mut [u8]) {
        self.bus.read_items(port, width, data);
    }

    /// String output: items of `width` bytes, all to `port`.
    pub fn port_write_items(&self, port: u16, width: usize, data: &[u8]) {
        self.bus.write_items(port, width, data);
    }

    /// A processor's read where its view of the map has I/O.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.bus.read(Space::Memory, address, data);
    }

    /// A processor's write where its view of the map has I/O or read-only memory.
    pub fn mmio_write(&self, address: u64, data: &[u8]) {
        let map = self.map();
        if map.shadow_writes().find(address).is_some() {
            map.shadow_writes().write(address, data);
        } else {
            self.bus.write(Space::Memory, address, data);
        }
    }

    /// Which device answers where on the bus.
    pub fn regions(&self) -> Vec<(&'static str, Region)> {
        self.bus.regions()
    }

    /// The memory map as it is now.
    pub fn map(&self) -> Arc<MemoryMap> {
        self.core.map()
    }

    /// The memory blocks, for loading images, saving, and the processors' pointers.
    pub fn blocks(&self) -> &Blocks {
        &self.core.blocks
    }

    /// Every block of memory the map may show: the board's, and those behind BARs.
    pub fn all_blocks(&self) -> Vec<Arc<Block>> {
        let own = self.core.blocks.all().into_iter().cloned();
        let bars = self.core.pci.memory().into_iter();
        own.chain(bars.map(|backing| backing.block)).collect()
    }

    /// Looks at what is on the screen; `None` if there is no display adapter. Guest accesses to it
    /// wait meanwhile.
    pub fn display<T>(&self, look: impl FnOnce(&dyn Display) -> T) -> Option<T> {
        self.core.pci.display(look)
    }

    /// The PCI functions as they are now, for a debugger: looking has no effect.
    pub fn pci(&self) -> Vec<pci::Look> {
        self.core.pci.look()
    }

    /// The interrupt chips, for the processors.
    pub fn chips(&self) -> &Arc<InterruptChips> {
        &self.core.chips
    }

    /// Whether the A20 gate is open.
    pub fn a20(&self) -> bool {
        self.core.changing().open
    }

    /// Does what a device asks for; local APICs and backends may ask too.
    pub fn apply(&self, request: Request) {
        self.core.apply(request);
    }

    /// Guest time at which the board next has something to do; takes no lock but the chips' own.
    pub fn next_deadline(&self) -> Option<Duration> {
        earlier(self.bus.next_deadline(), self.core.chips.deadline())
    }

    /// Lets everything that is due happen; returns the next deadline.
    pub fn poll(&self) -> Option<Duration> {
        let now = self.clock.now();
        earlier(self.bus.poll_due(now), self.core.chips.poll(now))
    }

    /// A backend has something for the device named: lets it look; returns the next deadline.
    pub fn poll_device(&self, name: &str) -> Option<Duration> {
        self.bus.poll_device(name);
        self.next_deadline()
    }

    /// The processor drives FERR#.
    pub fn set_ferr(&self, asserted: bool) {
        if self.x87_pins.set_ferr(asserted) {
            self.bus.poll_device("portf0");
        }
    }

    /// Whether the processor sees IGNNE# active.
    pub fn ignne(&self) -> bool {
        self.x87_pins.ignne()
    }

    /// Hardware reset of all devices in row order, of A20, of the interrupt chips and the map. RAM
    /// keeps its contents. The processors stand still meanwhile.
    pub fn reset(&self) {
        self.bus.reset_all();
        self.core.set_a20(A20::RESET);
        // Last: what the devices' lines do while they are reset is no interrupt.
        self.core.chips.reset();
        self.core.rebuild_map();
    }

    /// The board's state, without the contents of memory. The processors stand still meanwhile.
    pub fn save(&self) -> BoardState {
        BoardState {
            devices: self.bus.save_all(),
            chips: self.core.chips.save(),
            a20: *self.core.changing(),
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// If it is not of such a board, or damaged. The board must be reset or restored again then.
    pub fn restore(&self, from: &BoardState) -> Result<(), BoardRestoreError> {
        self.bus.restore_all(&from.devices)?;
        // After the devices: the levels they restored their lines to are part of this state too.
        let chips = self.core.chips.restore(&from.chips);
        chips.map_err(BoardRestoreError::Chips)?;
        self.core.set_a20(from.a20);
        self.core.rebuild_map();
        Ok(())
    }
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// Builds the device of a row, if the options want it, and adds it to the bus.
fn add_row(bus: BusBuilder, row: &Isa, wires: &mut Wires) -> Result<BusBuilder, BusError> {
    let Some(regions) = row.regions.of(&wires.options) else {
        return Ok(bus);
    };
    let wiring = wires.wiring(row.name, row.irqs);
    let device = (row.new)(&wiring);
    bus.add(row.name, &regions, device, wiring.requests)
}

/// What devices are wired to.
struct Wires {
    lines: Lines,
    clock: Clock,
    memory: BusMaster,
    dma: Dma,
    x87_pins: Pins,
    options: Arc<BoardOptions>,
    parts: Arc<Parts>,
}

impl Wires {
    /// The wiring of the row `name`, whose interrupt outputs lead to `irqs`.
    fn wiring(&mut self, name: &str, irqs: &[u32]) -> Wiring {
        let chardev = self.parts.chardevs.get(name).cloned();
        Wiring {
            clock: self.clock.clone(),
            requests: Requests::default(),
            irqs: irqs.iter().map(|n| self.lines.line(*n)).collect(),
            memory: self.memory.clone(),
            dma: self.dma.clone(),
            x87_pins: self.x87_pins.clone(),
            options: Arc::clone(&self.options),
            parts: Arc::clone(&self.parts),
            chardev: chardev.unwrap_or_else(Chardev::null),
        }
    }
}

/// The inputs of the interrupt chips and of the gate before them, each a wire that several devices may
/// drive.
struct Lines {
    gate: Arc<LegacyGate>,
    used: BTreeMap<u32, IrqLine>,
}

impl Lines {
    fn new(chips: &Arc<InterruptChips>) -> Self {
        Self {
            gate: LegacyGate::new(chips.clone()),
            used: BTreeMap::new(),
        }
    }

    /// One more driver of input `number`.
    fn line(&mut self, number: u32) -> IrqLine {
        let gate = &self.gate;
        let wire = self.used.entry(number);
        let wire = wire.or_insert_with(|| IrqLine::new(gate.clone(), number));
        wire.or_with()
    }
}

/// The A20 gate. It follows the source that spoke last, as in the reference machine: on real boards
/// the sources are ORed, but then no guest could shut it by port 92h alone, and stock guests try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct A20 {
    open: bool,
}

impl A20 {
    /// Open, so that the reset vector is reached.
    const RESET: Self = Self { open: true };
}

/// What requests act on: everything of the board that is not on the bus.
struct Core {
    blocks: Blocks,
    pci: pci::Handles,
    chips: Arc<InterruptChips>,
    /// The map, as devices share it.
    memory: BusMaster,
    /// The bus's windows; set once the bus is built.
    windows: OnceLock<Arc<Windows>>,
    /// The A20 gate; held while the map or A20 changes and the listener hears of it.
    changing: Mutex<A20>,
    listener: OnceLock<Arc<dyn Listener>>,
}

impl Core {
    fn new(
        blocks: Blocks,
        pci: pci::Handles,
        chips: Arc<InterruptChips>,
        memory: BusMaster,
    ) -> Self {
        Self {
            blocks,
            pci,
            chips,
            memory,
            windows: OnceLock::new(),
            changing: Mutex::new(A20::RESET),
            listener: OnceLock::new(),
        }
    }

    fn map(&self) -> Arc<MemoryMap> {
        self.memory.map()
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, A20> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild_map(&self) {
        let _changing = self.changing();
        if let Some(windows) = self.windows.get() {
            windows.set(&self.pci.windows());
        }
        let (shape, bars) = (self.pci.shape.get(), self.pci.memory_ranges());
        let new = Arc::new(MemoryMap::new(&self.blocks, &shape, bars));
        if new == self.map() {
            return;
        }
        self.memory.set_map(Arc::clone(&new));
        self.tell(|listener| listener.map_changed(&new));
    }

    fn set_a20(&self, gate: A20) {
        self.change_a20(|a20| *a20 = gate);
    }

    fn change_a20(&self, change: impl FnOnce(&mut A20)) {
        let mut a20 = self.changing();
        let before = a20.open;
        change(&mut a20);
        let open = a20.open;
        if open != before {
            self.tell(|listener| listener.a20_changed(open));
        }
    }

    fn tell(&self, what: impl FnOnce(&dyn Listener)) {
        if let Some(listener) = self.listener.get() {
            what(listener.as_ref());
        }
    }

    fn event(&self, event: Event) {
        tracing::debug!(target: "board", ?event);
        self.tell(|listener| listener.event(event));
    }
}

impl Apply for Core {
    fn apply(&self, request: Request) {
        match request {
            Request::MapChanged => self.rebuild_map(),
            Request::A20 { enabled, .. } => self.change_a20(|a20| a20.open = enabled),
            Request::Reset => self.event(Event::Reset),
            Request::Init => self.chips.raise_init(0),
            Request::Smi => self.chips.raise_smi(),
            Request::PowerOff => self.event(Event::PowerOff),
            Request::Exit(status) => self.event(Event::Exit(status)),
            Request::Eoi(vector) => self.chips.end_of_interrupt(vector),
            Request::Msi { address, data } => self.chips.deliver_msi(address, data),
        }
    }
}

#[cfg(test)]
mod tests;
