//! The host with a toy function, whose BAR answers are those QEMU 7.2 gives for BARs of equal kind
//! and size (e1000, VGA, virtio-rng-pci).

use super::*;
use crate::irq::Probe;
use crate::pci::bar::Bar;
use crate::pci::config::Identity;
use crate::testbench::Bench;
use proptest::prelude::*;

struct Toy(Config);

impl Device for Toy {
    fn read(&mut self, _at: At, _data: &mut [u8]) {}
    fn write(&mut self, _at: At, _data: &[u8]) {}
    fn reset(&mut self) {
        self.0.reset();
    }
    fn save(&self) -> State {
        State::of(1, &self.0.save())
    }
    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.0.restore(&from.fields::<Vec<u8>>(1)?)
    }
}

impl Function for Toy {
    fn config(&self) -> &Config {
        &self.0
    }
    fn config_mut(&mut self) -> &mut Config {
        &mut self.0
    }
}

fn toy(place: &Place<'_>) -> Box<dyn Function> {
    let identity = Identity {
        vendor: 0x1234,
        device: 0x5678,
        revision: 1,
        class: 0xFF_0000,
        multifunction: false,
    };
    let bars = [
        (0, Bar::memory(0x2_0000)),
        (1, Bar::io(64)),
        (2, Bar::memory(0x100_0000).prefetchable()),
        (4, Bar::memory64(0x4000).prefetchable()),
        (bar::ROM, Bar::rom(0x4_0000)),
    ];
    let config = Config::with_bars(identity, &[], &bars, place.requests);
    Box::new(Toy(config.with_intx(Pin::A, place.intx(Pin::A))))
}

const fn row(
    name: &'static str,
    slot: u8,
    function: u8,
    new: fn(&Place<'_>) -> Box<dyn Function>,
) -> Row {
    Row {
        name,
        slot,
        function,
        regions: &[],
        irqs: &[],
        wanted: always,
        new,
    }
}

const ROWS: &[Row] = &[
    row("i440fx", 0, 0, i440fx::new),
    row("piix3", 1, 0, piix3::new),
    row("toy", 3, 0, toy),
    row("toy1", 3, 1, toy),
];

/// A host of its own, and its far ends.
pub(crate) struct Machine {
    pub(crate) bench: Bench,
    pub(crate) handles: Handles,
    pub(crate) irqs: Arc<Probe>,
    host: Host,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        let irqs = Arc::new(Probe::default());
        let sink = irqs.clone();
        let router = PirqRouter::new(move |n| IrqLine::new(sink.clone(), n));
        let shape = SharedShape::default();
        let (host, handles) =
            Host::new(&bench.wiring, &shape, router, ROWS, |_| Bench::new().wiring);
        bench.wiring.requests.take();
        Self {
            bench,
            handles,
            irqs,
            host,
        }
    }

    pub(crate) fn output(&mut self, offset: u64, data: &[u8]) {
        self.host.write(At { region: 0, offset }, data);
    }

    pub(crate) fn input<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0xFF; N];
        self.host.read(At { region: 0, offset }, &mut data);
        data
    }

    fn address(&mut self, slot: u8, function: u8, register: u8) -> u64 {
        let devfn = u32::from(slot) << 3 | u32::from(function);
        let register_bits = u32::from(register & 0xFC);
        let address = ADDRESS_ENABLE | devfn << 8 | register_bits;
        self.output(0, &address.to_le_bytes());
        DATA_PORT + u64::from(register & 3)
    }

    pub(crate) fn get<const N: usize>(&mut self, slot: u8, register: u8) -> [u8; N] {
        let port = self.address(slot, 0, register);
        self.input(port)
    }

    pub(crate) fn put(&mut self, slot: u8, register: u8, data: &[u8]) {
        let port = self.address(slot, 0, register);
        self.output(port, data);
    }

    pub(crate) fn dump(&mut self, slot: u8) -> Vec<u8> {
        let read = |register| self.get::<1>(slot, register)[0];
        (0..=255).map(read).collect()
    }

    /// Each byte of `slot` as it reads back after `value` was written to it, in order.
    pub(crate) fn walk(&mut self, slot: u8, value: u8) -> Vec<u8> {
        let mut back = Vec::new();
        for register in 0..=255 {
            self.put(slot, register, &[value]);
            back.push(self.get::<1>(slot, register)[0]);
        }
        back
    }

    /// As the board does it.
    pub(crate) fn reset(&mut self) {
        self.host.reset();
        for present in &self.handles.functions {
            lock(&present.shared).reset();
        }
    }

    pub(crate) fn save(&self) -> Vec<State> {
        let functions = self.handles.functions.iter();
        let functions = functions.map(|present| lock(&present.shared).save());
        std::iter::once(self.host.save()).chain(functions).collect()
    }

    pub(crate) fn restore(&mut self, from: &[State]) -> Result<(), RestoreError> {
        let functions = self.handles.functions.iter();
        self.host.restore(&from[0])?;
        functions
            .zip(&from[1..])
            .try_for_each(|(present, state)| lock(&present.shared).restore(state))
    }

    fn dword(&mut self, register: u8) -> u32 {
        u32::from_le_bytes(self.get(3, register))
    }
}

/// 256 bytes that are zero but for the runs given.
pub(crate) fn image(runs: &[(usize, &[u8])]) -> Vec<u8> {
    let mut all = vec![0; 256];
    for (at, run) in runs {
        all[*at..*at + run.len()].copy_from_slice(run);
    }
    all
}

#[test]
fn the_address_register_takes_32_bits_alone() {
    let mut m = Machine::new();
    m.output(0, &0x8000_0803u32.to_le_bytes());
    m.output(0, &[0x44]);
    m.output(0, &[0x44, 0x44]);
    m.output(2, &[0, 0]);
    assert_eq!(m.input::<4>(0), 0x8000_0803u32.to_le_bytes());
    assert_eq!(m.input::<1>(0), [0xFF]);
    assert_eq!(m.input::<2>(2), [0xFF; 2]);
}

#[test]
fn absent_functions_float() {
    let mut m = Machine::new();
    // Disabled, bus 1, slot 2, and function 1 of a slot that has only function 0.
    for address in [0u32, 0x8001_0000, 0x8000_1000, 0x8000_0100] {
        m.output(0, &address.to_le_bytes());
        m.output(4, &[0; 4]);
        assert_eq!(m.input::<4>(4), [0xFF; 4], "{address:#x}");
    }
    m.output(0, &0x8000_1900u32.to_le_bytes());
    assert_eq!(m.input::<4>(4), [0x34, 0x12, 0x78, 0x56], "multifunction");
}

#[test]
fn reset_control_keeps_srst_and_resets_on_rcpu() {
    let mut m = Machine::new();
    for (value, back) in [(0, 0), (1, 0), (2, 2), (3, 2), (8, 0), (0xFB, 2)] {
        m.output(1, &[value]);
        assert_eq!(m.input::<1>(1), [back]);
        assert_eq!(m.bench.wiring.requests.take(), []);
    }
    m.output(1, &[6]);
    assert_eq!(m.bench.wiring.requests.take(), [Request::Reset]);
    m.put(1, 0x60, &[0x0B]);
    m.reset();
    assert_eq!(m.input::<1>(1), [0]);
    assert_eq!(m.get::<1>(1, 0x60), [0x80]);
}

#[test]
fn bars_tell_their_size_as_the_reference_does() {
    // Register, after reset, after all ones, after a 16-bit write of 0FFFh onto zero.
    #[rustfmt::skip]
    const FACTS: &[(u8, u32, u32, u32)] = &[
        (0x10, 0x0000_0000, 0xFFFE_0000, 0x0000_0000),
        (0x14, 0x0000_0001, 0xFFFF_FFC1, 0x0000_0FC1),
        (0x18, 0x0000_0008, 0xFF00_0008, 0x0000_0008),
        (0x1C, 0x0000_0000, 0x0000_0000, 0x0000_0000),
        (0x20, 0x0000_000C, 0xFFFF_C00C, 0x0000_000C),
        (0x24, 0x0000_0000, 0xFFFF_FFFF, 0x0000_0FFF),
        (0x30, 0x0000_0000, 0xFFFC_0001, 0x0000_0001),
    ];
    let mut m = Machine::new();
    for &(register, reset, ones, half) in FACTS {
        assert_eq!(m.dword(register), reset, "{register:#x}");
        m.put(3, register, &[0xFF; 4]);
        assert_eq!(m.dword(register), ones, "{register:#x}");
        m.put(3, register, &[0; 4]);
        assert_eq!(m.dword(register), reset, "{register:#x}");
        m.put(3, register, &[0xFF, 0x0F]);
        assert_eq!(m.dword(register), half, "{register:#x}");
    }
    m.put(3, 0x04, &[0xFF; 4]);
    assert_eq!(m.dword(0x04), 0x0507);
}

#[test]
fn bars_decode_while_the_command_lets_them() {
    let mut m = Machine::new();
    let moved = [Request::MapChanged];
    m.put(3, 0x10, &0xFEBC_0000u32.to_le_bytes());
    m.put(3, 0x14, &0xC041u32.to_le_bytes());
    m.put(3, 0x20, &0xFFFF_C000u32.to_le_bytes());
    m.put(3, 0x24, &0x0000_0001u32.to_le_bytes());
    assert_eq!(m.bench.wiring.requests.take(), [], "nothing decodes yet");
    m.put(3, 0x04, &[0x03]);
    assert_eq!(m.bench.wiring.requests.take(), moved);
    let window = |number, region| Window {
        device: "toy",
        number,
        region,
    };
    let memory = |number, range| window(number, Region::memory(range, Widths::UP_TO_DWORD));
    let mapped = [
        memory(0, 0xFEBC_0000..=0xFEBD_FFFF),
        window(1, Region::ports(0xC040..=0xC07F, Widths::UP_TO_DWORD)),
        memory(4, 0x1_FFFF_C000..=0x1_FFFF_FFFF),
    ];
    assert_eq!(m.handles.windows(), mapped);
    m.put(3, 0x30, &0xFEB8_0000u32.to_le_bytes());
    assert_eq!(m.handles.windows(), mapped, "the ROM is not enabled");
    m.put(3, 0x30, &[1]);
    let rom = memory(bar::ROM as u8, 0xFEB8_0000..=0xFEBB_FFFF);
    assert_eq!(m.handles.windows()[3..], [rom]);
    for register in [0x10, 0x14, 0x20, 0x24, 0x30] {
        m.put(3, register, &[0xFF; 4]);
    }
    assert_eq!(m.handles.windows(), [], "sizing");
    m.put(3, 0x10, &0xFEBC_0000u32.to_le_bytes());
    assert_eq!(m.handles.windows(), mapped[..1]);
    m.bench.wiring.requests.take();
    m.reset();
    assert_eq!(m.handles.windows(), []);
    assert_eq!(m.bench.wiring.requests.take(), moved);
}

#[test]
fn an_interrupt_goes_by_status_command_and_route() {
    let mut m = Machine::new();
    let shared = m.handles.functions[2].shared.clone();
    m.put(1, 0x60, &[0x0A, 0x0A, 0x0B, 0x05]);
    lock(&shared).config_mut().set_interrupt(true);
    assert!(m.irqs.level(11), "slot 3 INTA# is PIRQC#");
    assert_eq!((m.get(3, 0x06), m.get(3, 0x3D)), ([8], [1]));
    m.put(3, 0x04, &[0x00, 0x04]);
    assert!(!m.irqs.level(11), "INTx disabled");
    assert_eq!(m.get::<1>(3, 0x06), [8]);
    m.put(3, 0x04, &[0x00, 0x00]);
    m.put(1, 0x62, &[0x80]);
    assert!(!m.irqs.level(11), "not routed");
    m.put(1, 0x62, &[0x09]);
    assert!(m.irqs.level(9));
    let saved = m.save();
    let mut copy = Machine::new();
    assert!(copy.restore(&saved).is_ok());
    assert_eq!(
        (copy.irqs.level(9), copy.irqs.edges(9)),
        (true, 0),
        "no edge"
    );
    m.reset();
    assert!(!m.irqs.level(9));
}

proptest! {
    #[test]
    fn data_ports_are_bytes_of_the_register(
        slot in prop::sample::select(vec![0u8, 1, 3]), register in 0u8..64, value: u32,
    ) {
        let mut m = Machine::new();
        m.put(slot, register * 4, &value.to_le_bytes());
        let all = m.get::<4>(slot, register * 4);
        for i in 0..4u8 {
            prop_assert_eq!(m.get::<1>(slot, register * 4 + i), [all[usize::from(i)]]);
        }
        for i in 0..3u8 {
            let pair = &all[usize::from(i)..][..2];
            prop_assert_eq!(&m.get::<2>(slot, register * 4 + i)[..], pair);
        }
        // From CFAh on, the upper half is the register's first two bytes.
        prop_assert_eq!(m.get::<1>(slot, register * 4), [all[0]]);
        prop_assert_eq!(m.input::<4>(2), [0xFF, 0xFF, all[0], all[1]]);
    }

    #[test]
    fn any_access_returns_and_state_comes_back(
        ops in prop::collection::vec(
            (any::<Option<u64>>(), 0u64..10, 0u8..4, any::<u8>(), any::<[u8; 8]>(), 1usize..=8),
            0..60,
        ),
    ) {
        let mut m = Machine::new();
        for (far, near, slot, register, data, width) in ops {
            m.address(slot, 0, register);
            let at = At { region: 0, offset: far.unwrap_or(near) };
            m.host.write(at, &data[..width]);
            m.host.read(at, &mut [0xFF; 8][..width]);
        }
        let saved = m.save();
        let mut copy = Machine::new();
        prop_assert!(copy.restore(&saved).is_ok());
        prop_assert_eq!(copy.save(), saved);
        prop_assert_eq!(copy.handles.shape.get(), m.handles.shape.get());
        prop_assert_eq!(copy.handles.windows(), m.handles.windows());
        m.reset();
        prop_assert_eq!(m.save(), Machine::new().save());
        prop_assert_eq!(m.handles.shape.get(), Machine::new().handles.shape.get());
    }
}
