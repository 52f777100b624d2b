//! The device contract, over every row of the board. Nothing is written per device.
//!
//! Each property drives a device through its regions with random accesses and random passing of
//! time, as the bus would, and some as the bus never would.

use std::sync::Arc;
use std::time::Duration;

use devices::backend::chardev::Chardev;
use devices::backend::disk::Disk;
use devices::backend::drive::Drive;
use devices::board::build::{Board, Parts};
use devices::board::{BoardOptions, Wiring, pc};
use devices::bus::{Region, Space};
use devices::chips::InterruptChips;
use devices::i8237::Dma;
use devices::irq::Probe;
use devices::memory::{Block, DIRTY, PAGE_SIZE};
use devices::memory_map::{BusMaster, SharedShape};
use devices::pci::intx::PirqRouter;
use devices::portf0::Pins;
use devices::time::ManualTime;
use devices::{At, Clock, Device, IrqLine, Requests, pci};
use proptest::prelude::*;

/// Devices that a reset does not make new, and why. They must only lower their line, and lose
/// nothing more to a second reset.
const KEEPS: &[(&str, &str)] = &[(
    "mc146818",
    "battery-backed: a reset clears the interrupt enables and flags alone",
)];

fn keeps(name: &str) -> bool {
    KEEPS.iter().any(|(device, _)| *device == name)
}

/// One thing that happens to a device.
#[derive(Clone, Debug)]
enum Op {
    Read { place: Place, width: usize },
    Write { place: Place, data: Vec<u8> },
    Pass { ns: u64 },
}

/// Where, as fractions of what the device has.
#[derive(Clone, Copy, Debug)]
struct Place {
    region: u8,
    offset: u64,
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u8>(), any::<u64>()).prop_map(|(region, offset)| Place { region, offset })
}

fn width() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1usize, 2, 4, 8])
}

fn op() -> impl Strategy<Value = Op> {
    let read = (place(), width()).prop_map(|(place, width)| Op::Read { place, width });
    let write = (place(), width(), any::<[u8; 8]>()).prop_map(|(place, width, data)| Op::Write {
        place,
        data: data[..width].to_vec(),
    });
    let pass = prop_oneof![0..10_000u64, 0..3_000_000_000u64].prop_map(|ns| Op::Pass { ns });
    prop_oneof![2 => read, 4 => write, 1 => pass]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..120)
}

/// Everything the rows can build.
fn options() -> BoardOptions {
    BoardOptions {
        cpus: 2,
        rtc_base: 1_000_000_000,
        debug_exit: Some((0x501, 2)),
        com3: true,
        com4: true,
        debugcon: Some(0x402),
        vga: true,
        ..BoardOptions::default()
    }
}

/// A device alone on a bench.
struct Subject {
    name: &'static str,
    /// Its regions, with their numbers.
    regions: Vec<(u8, Region)>,
    device: Box<dyn Device>,
    probe: Arc<Probe>,
    time: Arc<ManualTime>,
    requests: Requests,
    /// Its memory, which is saved and restored apart from it.
    memory: Vec<Arc<Block>>,
}

/// One of each device, on one clock.
fn subjects(time: &Arc<ManualTime>) -> Vec<Subject> {
    let windows = pc::CHIPS.iter().map(|row| window_subject(row, time));
    let isa = pc::ISA.iter().map(|row| isa_subject(row, time));
    windows.chain(isa).chain(functions(time)).collect()
}

fn numbered(regions: &[Region], first: u8) -> Vec<(u8, Region)> {
    (first..).zip(regions.iter().cloned()).collect()
}

fn window_subject(row: &pc::Window, time: &Arc<ManualTime>) -> Subject {
    let chips = InterruptChips::new(Clock::new(time.clone()), 2);
    Subject {
        name: row.name,
        regions: numbered(row.regions, 0),
        device: (row.new)(&chips),
        probe: Arc::default(),
        time: Arc::clone(time),
        requests: Requests::default(),
        memory: Vec::new(),
    }
}

/// Wiring with all interrupts on one probe.
fn wiring(time: &Arc<ManualTime>, probe: &Arc<Probe>, irqs: usize) -> Wiring {
    let line = |n| IrqLine::new(probe.clone(), n as u32);
    Wiring {
        clock: Clock::new(time.clone()),
        requests: Requests::default(),
        irqs: (0..irqs).map(line).collect(),
        memory: BusMaster::default(),
        dma: Dma::default(),
        x87_pins: Pins::default(),
        options: Arc::new(options()),
        parts: Arc::new(drives()),
        chardev: Chardev::null(),
    }
}

/// A disk, a CD-ROM drive with a medium and one without.
fn drives() -> Parts {
    let disk = Drive::hard_disk(Disk::memory(vec![0x5A; 0x1_0000]));
    let cd = Drive::cd_rom(Some(Disk::memory(vec![0xA5; 0x1_0000])));
    Parts {
        ide: [Some(disk), None, Some(cd), Some(Drive::cd_rom(None))],
        ..Parts::default()
    }
}

fn isa_subject(row: &pc::Isa, time: &Arc<ManualTime>) -> Subject {
    let probe = Arc::new(Probe::default());
    let wiring = wiring(time, &probe, row.irqs.len());
    let regions = row.regions.of(&options()).expect("the options name it");
    Subject {
        name: row.name,
        regions: numbered(&regions, 0),
        device: (row.new)(&wiring),
        probe,
        time: Arc::clone(time),
        requests: wiring.requests,
        memory: Vec::new(),
    }
}

/// The PCI functions that answer anywhere but in configuration space.
fn functions(time: &Arc<ManualTime>) -> Vec<Subject> {
    (0..pci::PCI.len())
        .filter_map(|index| function(index, time))
        .collect()
}

/// One of them, on a host of its own: what its neighbours do to shared wires is not its business.
fn function(index: usize, time: &Arc<ManualTime>) -> Option<Subject> {
    let probe = Arc::new(Probe::default());
    let sink = Arc::clone(&probe);
    let router = PirqRouter::new(move |n| IrqLine::new(sink.clone(), 16 + n));
    let host = wiring(time, &probe, 0);
    let wire = |row: &pci::Row| wiring(time, &probe, row.irqs.len());
    let (_, handles) = pci::new_host(&host, &SharedShape::default(), router, wire);
    let present = handles.functions.get(index)?;
    let mut regions = numbered(present.regions, pci::FIXED);
    regions.extend(placed(&present.shared));
    let subject = Subject {
        name: present.name,
        regions,
        device: present.port(),
        probe,
        time: Arc::clone(time),
        requests: present.requests.clone(),
        memory: memory_of(&present.shared),
    };
    (!subject.regions.is_empty()).then_some(subject)
}

fn memory_of(function: &pci::Shared) -> Vec<Arc<Block>> {
    let memory = function.lock().unwrap().memory();
    memory.into_iter().map(|backing| backing.block).collect()
}

/// Where a function answers once firmware has placed it; it is reset again afterwards.
fn placed(function: &pci::Shared) -> Vec<(u8, Region)> {
    let mut function = function.lock().unwrap();
    for (register, base) in [(0x10, 0xC000), (0x14, 0xC400), (0x20, 0xC800)] {
        // Where a BAR is memory, its address bits take this as low memory.
        function.write_config(register, &(0x8000_0000u32 + base).to_le_bytes());
    }
    function.write_config(0x18, &0x9000_0000u32.to_le_bytes());
    function.write_config(0x40, &0x0000_0601u32.to_le_bytes());
    function.write_config(0x80, &[1]);
    function.write_config(0x04, &[7]);
    let windows = function.windows();
    function.reset();
    windows
}

impl Subject {
    /// Does what the bus could do; accesses it would cut are narrowed.
    fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Read { place, width } => {
                    let (at, width) = self.aligned(*place, *width);
                    self.device.read(at, &mut [0xFF; 8][..width]);
                }
                Op::Write { place, data } => {
                    let (at, width) = self.aligned(*place, data.len());
                    let mut bytes = [0; 8];
                    bytes[..data.len()].copy_from_slice(data);
                    self.device.write(at, &bytes[..width]);
                }
                Op::Pass { ns } => {
                    self.time.advance(Duration::from_nanos(*ns));
                    self.poll();
                }
            }
            self.requests.take();
        }
    }

    /// Copies what was written of another's memory.
    fn copy_memory(&self, from: &Self) {
        for (to, from) in self.memory.iter().zip(&from.memory) {
            for page in from.marks().take(DIRTY) {
                let (at, mut bytes) = (page as u64 * PAGE_SIZE, [0; PAGE_SIZE as usize]);
                from.read(at, &mut bytes).unwrap();
                to.write(at, &bytes).unwrap();
            }
        }
    }

    fn poll(&mut self) -> Option<Duration> {
        self.device.poll(Clock::new(self.time.clone()).now())
    }

    fn aligned(&self, place: Place, width: usize) -> (At, usize) {
        let index = usize::from(place.region) % self.regions.len();
        let (region, Region { range, widths, .. }) = &self.regions[index];
        let len = range.end() - range.start() + 1;
        let width = width.clamp(widths.min.into(), widths.max.into());
        let offset = place.offset % len / width as u64 * width as u64;
        let at = At {
            region: *region,
            offset,
        };
        (at, width)
    }

    fn irq(&self) -> (bool, u32) {
        let inputs = 0..32;
        let level = inputs.clone().any(|n| self.probe.level(n));
        (level, inputs.map(|n| self.probe.edges(n)).sum())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reset_device_equals_a_new_one(ops in ops()) {
        let time = Arc::new(ManualTime::default());
        for mut subject in subjects(&time) {
            subject.run(&ops);
            subject.device.reset();
            if keeps(subject.name) {
                let once = subject.device.save();
                subject.device.reset();
                prop_assert_eq!(subject.device.save(), once, "{}", subject.name);
                prop_assert!(!subject.irq().0, "{}", subject.name);
                continue;
            }
            let mut new = subjects(&time).into_iter().find(|s| s.name == subject.name).unwrap();
            prop_assert_eq!(subject.device.save(), new.device.save(), "{}", subject.name);
            prop_assert_eq!(subject.irq().0, new.irq().0, "{}", subject.name);
            prop_assert_eq!(subject.poll(), new.poll(), "{}", subject.name);
        }
    }

    #[test]
    fn a_restored_device_equals_the_saved_one(before in ops(), after in ops()) {
        let time = Arc::new(ManualTime::default());
        for mut subject in subjects(&time) {
            subject.run(&before);
            let saved = subject.device.save();
            let mut other = subjects(&time).into_iter().find(|s| s.name == subject.name).unwrap();
            let edges = other.irq().1;
            let restored = other.device.restore(&saved);
            prop_assert!(restored.is_ok(), "{}: {:?}", subject.name, restored);
            other.copy_memory(&subject);
            prop_assert_eq!(&other.device.save(), &saved, "{}", subject.name);
            prop_assert_eq!(other.irq(), (subject.irq().0, edges), "{}: the line", subject.name);
            prop_assert_eq!(other.poll(), subject.poll(), "{}: deadline", subject.name);

            // And it goes on like the other: the saved state is the whole state.
            let start = Clock::new(time.clone()).now();
            subject.run(&after);
            time.set(start.as_nanos() as u64);
            other.run(&after);
            prop_assert_eq!(other.device.save(), subject.device.save(), "{}", subject.name);
            prop_assert_eq!(other.irq().0, subject.irq().0, "{}: the line", subject.name);
        }
    }

    #[test]
    fn a_damaged_state_is_refused_and_changes_nothing(ops in ops()) {
        let time = Arc::new(ManualTime::default());
        for mut subject in subjects(&time) {
            subject.run(&ops);
            let saved = subject.device.save();
            let newer = devices::State::of(saved.version() + 1, &());
            prop_assert!(subject.device.restore(&newer).is_err(), "{}", subject.name);
            prop_assert_eq!(subject.device.save(), saved, "{}", subject.name);
        }
    }

    /// Even what the bus would never do.
    #[test]
    fn any_access_returns(ops in ops()) {
        let time = Arc::new(ManualTime::default());
        for mut subject in subjects(&time) {
            for op in &ops {
                match op {
                    Op::Read { place: Place { region, offset }, width } => {
                        let at = At { region: *region, offset: *offset };
                        subject.device.read(at, &mut [0xFF; 8][..*width]);
                        let at = At { region: region % 4, offset: offset % 16 };
                        subject.device.read(at, &mut [0xFF; 8][..*width]);
                    }
                    Op::Write { place: Place { region, offset }, data } => {
                        let at = At { region: *region, offset: *offset };
                        subject.device.write(at, data);
                        let at = At { region: region % 4, offset: offset % 16 };
                        subject.device.write(at, data);
                    }
                    Op::Pass { ns } => {
                        // Years, too.
                        time.set(time_ns(&time).saturating_add(ns << (ns % 32)));
                        subject.poll();
                    }
                }
                subject.requests.take();
            }
        }
    }

    #[test]
    fn deadlines_lie_ahead_and_never_go_back(ops in ops(), steps in prop::collection::vec(0..5_000_000_000u64, 1..20)) {
        let time = Arc::new(ManualTime::default());
        for mut subject in subjects(&time) {
            subject.run(&ops);
            let mut before = subject.poll();
            for step in &steps {
                time.advance(Duration::from_nanos(*step));
                let now = Clock::new(time.clone()).now();
                let next = subject.device.poll(now);
                if let Some(next) = next {
                    prop_assert!(next > now, "{}: {:?} at {:?}", subject.name, next, now);
                    if let Some(before) = before {
                        prop_assert!(next >= before, "{}: {:?} after {:?}", subject.name, next, before);
                    }
                }
                before = next.or(before);
            }
        }
    }

    /// The whole board: any port, any address, any width, and then still the same machine.
    #[test]
    fn any_access_to_the_board_returns(ops in ops()) {
        let (board, time) = board();
        run_board(&board, &time, &ops);
        let saved = board.save();
        let (other, later) = self::board();
        later.set(time_ns(&time));
        let restored = other.restore(&saved);
        prop_assert!(restored.is_ok(), "{:?}", restored);
        prop_assert_eq!(other.save(), saved);
        prop_assert_eq!(other.map().cpu().ranges().len(), board.map().cpu().ranges().len());
    }

    #[test]
    fn a_reset_board_equals_a_new_one(ops in ops()) {
        let (board, time) = board();
        run_board(&board, &time, &ops);
        board.reset();
        let new = board_at(&time);
        let (mut saved, mut fresh) = (board.save(), new.save());
        for (name, _) in KEEPS {
            prop_assert!(saved.devices.remove(*name).is_some(), "{} is no device", name);
            fresh.devices.remove(*name);
        }
        prop_assert_eq!(saved, fresh);
        prop_assert_eq!(board.a20(), new.a20());
        prop_assert_eq!(board.map().cpu().ranges().len(), new.map().cpu().ranges().len());
    }
}

fn time_ns(time: &Arc<ManualTime>) -> u64 {
    Clock::new(time.clone()).now().as_nanos() as u64
}

fn board() -> (Board, Arc<ManualTime>) {
    let time = Arc::new(ManualTime::default());
    (board_at(&time), time)
}

fn board_at(time: &Arc<ManualTime>) -> Board {
    let parts = Parts {
        bios: vec![0xF4; 0x1_0000],
        ..drives()
    };
    Board::new(options(), parts, Clock::new(time.clone())).expect("a sound board")
}

/// Half of the accesses go where a device is.
fn run_board(board: &Board, time: &ManualTime, ops: &[Op]) {
    let regions = board.regions();
    let aim = |place: &Place| {
        let index = usize::from(place.region) % (2 * regions.len());
        match regions.get(index) {
            Some((_, Region { space, range, .. })) => {
                let len = (range.end() - range.start()).saturating_add(3);
                (*space, range.start().wrapping_add(place.offset % len))
            }
            None if index.is_multiple_of(2) => (Space::Port, place.offset),
            None => (Space::Memory, place.offset),
        }
    };
    for op in ops {
        match op {
            Op::Read { place, width } => {
                let mut data = [0; 8];
                match aim(place) {
                    (Space::Port, port) => board.port_read(port as u16, &mut data[..*width]),
                    (Space::Memory, address) => board.mmio_read(address, &mut data[..*width]),
                }
            }
            Op::Write { place, data } => match aim(place) {
                (Space::Port, port) => board.port_write(port as u16, data),
                (Space::Memory, address) => board.mmio_write(address, data),
            },
            Op::Pass { ns } => {
                time.advance(Duration::from_nanos(*ns));
                board.poll();
            }
        }
    }
}
