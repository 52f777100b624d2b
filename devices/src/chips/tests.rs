use super::*;
use crate::IrqLine;
use crate::time::{ManualTime, TimeSource};
use proptest::prelude::*;

#[derive(Default)]
struct Bell(AtomicU32);

impl CpuSignal for Bell {
    fn signal(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

/// A machine's interrupt chips and the tools to drive them.
struct Bench {
    time: Arc<ManualTime>,
    chips: Arc<InterruptChips>,
    bells: Vec<Arc<Bell>>,
    pic: Box<dyn Device>,
    ioapic: Box<dyn Device>,
}

impl Bench {
    fn new(cpus: u32) -> Self {
        let time = Arc::new(ManualTime::default());
        let chips = InterruptChips::new(Clock::new(time.clone()), cpus);
        let bells: Vec<_> = (0..cpus).map(|_| Arc::new(Bell::default())).collect();
        for (cpu, bell) in (0..).zip(&bells) {
            chips.connect_cpu(cpu, bell.clone());
        }
        Self {
            time,
            pic: pic_ports(&chips),
            ioapic: ioapic_window(&chips),
            chips,
            bells,
        }
    }

    fn outb(&mut self, port: u16, value: u8) {
        self.pic.write(pic_at(port), &[value]);
    }

    fn inb(&mut self, port: u16) -> u8 {
        let mut byte = [0xff];
        self.pic.read(pic_at(port), &mut byte);
        byte[0]
    }

    /// Vectors 0x20 and 0x28, all unmasked.
    fn init_pic(&mut self) {
        for (port, words) in [(0x20, [0x11, 0x20, 4, 1]), (0xa0, [0x11, 0x28, 2, 1])] {
            self.outb(port, words[0]);
            for word in &words[1..] {
                self.outb(port + 1, *word);
            }
        }
    }

    fn ioapic_read(&mut self, index: u8) -> u32 {
        let mut data = [0xff; 4];
        self.ioapic.write(
            At {
                region: 0,
                offset: 0,
            },
            &[index, 0, 0, 0],
        );
        self.ioapic.read(
            At {
                region: 0,
                offset: 0x10,
            },
            &mut data,
        );
        u32::from_le_bytes(data)
    }

    fn ioapic_write(&mut self, index: u8, value: u32) {
        self.ioapic.write(
            At {
                region: 0,
                offset: 0,
            },
            &[index, 0, 0, 0],
        );
        self.ioapic.write(
            At {
                region: 0,
                offset: 0x10,
            },
            &value.to_le_bytes(),
        );
    }

    fn route(&mut self, pin: u8, low: u32, destination: u8) {
        self.ioapic_write(0x11 + 2 * pin, u32::from(destination) << 24);
        self.ioapic_write(0x10 + 2 * pin, low);
    }

    fn enable_apics(&self) {
        for cpu in 0..self.chips.cpus() {
            self.chips.apic_write(cpu, 0xf0, 0x1ff);
        }
    }

    fn line(&self, input: u32) -> IrqLine {
        IrqLine::new(self.chips.clone(), input)
    }

    fn eoi(&self, cpu: u32) {
        self.chips.apic_write(cpu, 0xb0, 0);
    }

    fn acknowledge_all(&self) -> Vec<Option<u8>> {
        (0..self.chips.cpus())
            .map(|cpu| self.chips.acknowledge(cpu))
            .collect()
    }
}

fn pic_at(port: u16) -> At {
    let region = match port {
        0x20..=0x21 => 0,
        0xa0..=0xa1 => 1,
        _ => 2,
    };
    At {
        region,
        offset: (port & 1).into(),
    }
}

#[test]
fn bootstrap_processor_gets_the_8259_after_reset() {
    let mut b = Bench::new(2);
    b.init_pic();
    let line = b.line(4);
    line.set_level(true);
    assert!(b.chips.pending(0).interrupt);
    assert!(!b.chips.pending(1).any(), "the other's LINT0 is masked");
    assert_eq!((b.bells[0].take(), b.bells[1].take()), (1, 0));
    assert_eq!(b.chips.acknowledge(0), Some(0x24));
    assert!(!b.chips.pending(0).any());
    assert_eq!(b.chips.acknowledge(0), None);
}

#[test]
fn masked_lint0_keeps_the_8259_out() {
    let mut b = Bench::new(1);
    b.init_pic();
    b.enable_apics();
    b.chips.apic_write(0, 0x350, 0x1_0700);
    let line = b.line(3);
    line.set_level(true);
    assert!(!b.chips.pending(0).any());
    assert_eq!(b.chips.acknowledge(0), None);
    b.chips.apic_write(0, 0x350, 0x700);
    assert_eq!(b.bells[0].take(), 1);
    assert_eq!(b.chips.acknowledge(0), Some(0x23));
}

#[test]
fn without_local_apic_the_8259_is_wired_to_the_processor() {
    let mut b = Bench::new(1);
    b.init_pic();
    b.chips.apic_write(0, 0x350, 0x1_0000);
    b.chips.set_apic_base(0, 0xfee0_0000).expect("legal");
    assert_eq!(b.chips.apic_base(0), 0xfee0_0100);
    b.line(14).pulse();
    assert_eq!(b.chips.acknowledge(0), Some(0x2e));
    assert_eq!(b.chips.apic_read(0, 0x30), u32::MAX);
}

#[test]
fn withdrawn_level_is_no_interrupt_but_a_latched_cascade_is_spurious() {
    let mut b = Bench::new(1);
    b.init_pic();
    b.outb(0x4d0, 0xff);
    b.outb(0x4d1, 0xff);
    assert_eq!((b.inb(0x4d0), b.inb(0x4d1)), (0xf8, 0xde));
    let (five, eleven) = (b.line(5), b.line(11));
    five.set_level(true);
    assert!(b.chips.pending(0).interrupt);
    five.set_level(false);
    assert!(!b.chips.pending(0).interrupt);
    assert_eq!(b.chips.acknowledge(0), None);
    eleven.set_level(true);
    eleven.set_level(false);
    assert_eq!(b.chips.acknowledge(0), Some(0x2f), "spurious IRQ15");
    b.outb(0x20, 0x0b);
    assert_eq!(b.inb(0x20), 0x04);
}

#[test]
fn ext_int_message_finding_nothing_is_spurious_irq7() {
    let mut b = Bench::new(2);
    b.init_pic();
    b.chips.deliver_msi(0xfee0_1000, 0x700);
    assert!(b.chips.pending(1).interrupt);
    assert_eq!(b.chips.acknowledge(1), Some(0x27));
    assert!(!b.chips.pending(1).any());
}

#[test]
fn inputs_0_and_2_are_pin_2_and_2_is_not_the_cascade() {
    let mut b = Bench::new(1);
    b.enable_apics();
    b.chips.apic_write(0, 0x350, 0x1_0000);
    b.route(0, 0x40, 0);
    b.route(2, 0x42, 0);
    b.line(0).pulse();
    assert_eq!(b.chips.acknowledge(0), Some(0x42));
    b.eoi(0);
    let (timer, hpet) = (b.line(0), b.line(2));
    hpet.set_level(true);
    assert_eq!(b.chips.acknowledge(0), Some(0x42));
    b.eoi(0);
    timer.pulse();
    assert!(!b.chips.pending(0).any(), "the pin is up");
    hpet.set_level(false);
    timer.pulse();
    assert_eq!(b.chips.acknowledge(0), Some(0x42));
    b.eoi(0);
    for input in [24, 255, u32::MAX] {
        b.line(input).pulse();
        assert!(!b.chips.pending(0).any());
    }
    b.route(23, 0x57, 0);
    b.line(23).pulse();
    assert_eq!(b.chips.acknowledge(0), Some(0x57));
}

#[test]
fn level_interrupt_round_trip_by_eoi_broadcast_and_eoi_register() {
    let mut b = Bench::new(1);
    b.enable_apics();
    b.route(19, 0x8051, 0);
    let line = b.line(19);
    line.set_level(true);
    assert_eq!(b.chips.acknowledge(0), Some(0x51));
    assert_eq!(b.ioapic_read(0x10 + 38), 0xc051);
    b.eoi(0);
    assert_eq!(b.chips.acknowledge(0), Some(0x51), "still asserted");
    line.set_level(false);
    assert_eq!(b.ioapic_read(0x10 + 38), 0xc051);
    b.eoi(0);
    assert_eq!(b.ioapic_read(0x10 + 38), 0x8051);
    assert_eq!(b.chips.acknowledge(0), None);
    line.set_level(true);
    line.set_level(false);
    b.ioapic.write(
        At {
            region: 0,
            offset: 0x40,
        },
        &0x51u32.to_le_bytes(),
    );
    assert_eq!(b.ioapic_read(0x10 + 38), 0x8051);
}

#[test]
fn level_waits_until_its_local_apic_is_enabled() {
    let mut b = Bench::new(1);
    b.route(16, 0x8050, 0);
    let line = b.line(16);
    line.set_level(true);
    assert_eq!(b.ioapic_read(0x30), 0x9050, "send pending");
    assert!(!b.chips.pending(0).any());
    b.enable_apics();
    assert_eq!(b.bells[0].take(), 1);
    assert_eq!(b.chips.acknowledge(0), Some(0x50));
}

#[test]
fn ioapic_delivers_every_mode() {
    let mut b = Bench::new(1);
    b.init_pic();
    b.enable_apics();
    b.chips.apic_write(0, 0x350, 0x1_0000);
    let line = b.line(20);
    for mode in 0..8 {
        b.route(20, mode << 8 | 0x60, 0);
        line.pulse();
        let expected = CpuEvents {
            interrupt: matches!(mode, 0 | 1 | 7),
            smi: mode == 2,
            nmi: mode == 4,
            init: mode == 5,
            sipi: (mode == 6).then_some(0x60),
        };
        assert_eq!(b.chips.pending(0), expected, "mode {mode}");
        assert_eq!(b.chips.take_smi(0), mode == 2);
        assert_eq!(b.chips.take_nmi(0), mode == 4);
        assert_eq!(b.chips.take_init(0), mode == 5);
        assert_eq!(b.chips.take_sipi(0), (mode == 6).then_some(0x60));
        if expected.interrupt {
            let vector = if mode == 7 { 0x27 } else { 0x60 };
            assert_eq!(b.chips.acknowledge(0), Some(vector));
            b.eoi(0);
        }
        b.enable_apics();
        b.chips.apic_write(0, 0x350, 0x1_0000);
        assert!(!b.chips.pending(0).any(), "mode {mode}");
    }
}

#[test]
fn lowest_priority_goes_to_one_and_takes_turns() {
    let b = Bench::new(4);
    b.enable_apics();
    for cpu in 0..4 {
        b.chips.apic_write(cpu, 0xd0, 0x0100_0000 << cpu);
    }
    b.chips.set_tpr(2, 1);
    let mut winners = Vec::new();
    for vector in 0x40..0x46 {
        // Logical destination 0xf, lowest priority.
        b.chips.deliver_msi(0xfee0_f004, 0x100 | vector);
        winners.extend((0..4).filter(|&cpu| b.chips.acknowledge(cpu).is_some()));
        for cpu in 0..4 {
            b.eoi(cpu);
        }
    }
    assert_eq!(winners, [1, 3, 0, 1, 3, 0]);
}

#[test]
fn msi_addresses_and_what_is_none() {
    let b = Bench::new(2);
    b.enable_apics();
    b.chips.deliver_msi(0xfee0_1000, 0x0041);
    assert_eq!(b.acknowledge_all(), [None, Some(0x41)]);
    b.chips.deliver_msi(0xfeef_f000, 0x0052);
    assert_eq!(b.acknowledge_all(), [Some(0x52), Some(0x52)]);
    b.chips.deliver_msi(0xfee0_1000, 0x8063); // level, de-asserted
    b.chips.deliver_msi(0xfed0_1000, 0x0063);
    b.chips.deliver_msi(0x1_fee0_1000, 0x0063);
    assert_eq!(b.acknowledge_all(), [None, None]);
}

#[test]
fn init_and_start_up_wake_the_second_processor() {
    let b = Bench::new(2);
    b.enable_apics();
    b.chips.apic_write(0, 0x310, 0x0100_0000);
    b.chips.apic_write(0, 0x300, 0x0000_c500);
    b.chips.apic_write(0, 0x300, 0x0000_8500);
    assert_eq!(
        b.chips.pending(1),
        CpuEvents {
            init: true,
            ..Default::default()
        }
    );
    assert_eq!(b.bells[1].take(), 1);
    assert!(b.chips.take_init(1));
    assert!(!b.chips.take_init(1));
    assert_eq!(b.chips.apic_read(1, 0xf0), 0xff, "its APIC is initialised");
    b.chips.apic_write(0, 0x300, 0x0000_0699);
    assert_eq!(b.chips.pending(1).sipi, Some(0x99));
    assert_eq!(b.bells[1].take(), 1);
    assert_eq!(b.chips.take_sipi(1), Some(0x99));
    assert!(!b.chips.pending(1).any() && !b.chips.pending(0).any());
}

#[test]
fn interprocessor_interrupt_shorthands() {
    let b = Bench::new(3);
    b.enable_apics();
    for (shorthand, to) in [
        (1, [false, true, false]),
        (2, [true, true, true]),
        (3, [true, false, true]),
    ] {
        b.chips.apic_write(1, 0x300, shorthand << 18 | 0x44);
        assert_eq!(b.acknowledge_all(), to.map(|t| t.then_some(0x44)));
        for cpu in 0..3 {
            b.eoi(cpu);
        }
    }
}

#[test]
fn timer_interrupts_at_its_deadline() {
    let b = Bench::new(2);
    b.enable_apics();
    b.time.set(1_000);
    b.chips.apic_write(1, 0x3e0, 0xb);
    b.chips.apic_write(1, 0x320, 0x2_0030);
    b.chips.apic_write(1, 0x380, 1_000_000);
    let due = b.chips.deadline().expect("running");
    assert_eq!(due, Duration::from_nanos(1_001_000));
    assert_eq!(b.chips.poll(due - Duration::from_nanos(1)), Some(due));
    assert_eq!(b.bells[1].take(), 0);
    assert_eq!(b.chips.poll(due), Some(Duration::from_nanos(2_001_000)));
    assert_eq!(b.bells[1].take(), 1);
    assert_eq!(b.acknowledge_all(), [None, Some(0x30)]);
}

#[test]
fn task_priority_holds_an_interrupt_back_and_lets_it_go() {
    let b = Bench::new(1);
    b.enable_apics();
    b.chips.set_tpr(0, 5);
    b.chips.deliver_msi(0xfee0_0000, 0x51);
    assert_eq!((b.chips.tpr(0), b.chips.apic_read(0, 0x80)), (5, 0x50));
    assert!(!b.chips.pending(0).any());
    assert_eq!(b.chips.acknowledge(0), None);
    b.chips.set_tpr(0, 4);
    assert_eq!(b.bells[0].take(), 1);
    assert_eq!(b.chips.acknowledge(0), Some(0x51));
}

#[test]
fn nmi_pin_smi_pin_and_init_pin() {
    let b = Bench::new(2);
    b.chips.pulse_nmi();
    assert!(!b.chips.pending(0).any(), "LINT1 is masked");
    b.enable_apics();
    b.chips.apic_write(0, 0x360, 0x400);
    b.chips.pulse_nmi();
    b.chips.raise_smi();
    b.chips.raise_init(0);
    let all = CpuEvents {
        nmi: true,
        smi: true,
        init: true,
        ..Default::default()
    };
    assert_eq!(b.chips.pending(0), all);
    assert_eq!(
        b.chips.pending(1),
        CpuEvents {
            smi: true,
            ..Default::default()
        }
    );
}

#[test]
fn processor_connected_late_is_told_at_once() {
    let b = Bench::new(1);
    b.chips.raise_smi();
    let bell = Arc::new(Bell::default());
    b.chips.connect_cpu(0, bell.clone());
    assert_eq!(bell.take(), 1);
}

#[test]
fn restored_lines_make_no_edge_and_hold_levels() {
    let mut b = Bench::new(1);
    b.enable_apics();
    b.chips.apic_write(0, 0x350, 0x1_0000);
    b.route(3, 0x43, 0);
    b.route(17, 0x8051, 0);
    b.line(3).restore_level(true);
    assert!(!b.chips.pending(0).any());
    b.line(17).restore_level(true);
    assert_eq!(b.chips.acknowledge(0), Some(0x51));
}

#[test]
fn restore_takes_over_all_and_signals() {
    let mut a = Bench::new(1);
    a.init_pic();
    a.line(4).pulse();
    let saved = a.chips.save();
    let b = Bench::new(1);
    b.chips.restore(&saved).expect("same build");
    assert_eq!(b.chips.save(), saved);
    assert_eq!(b.bells[0].take(), 1);
    assert_eq!(b.chips.acknowledge(0), Some(0x24));
    let two = Bench::new(2);
    let before = two.chips.save();
    assert!(matches!(
        two.chips.restore(&saved),
        Err(RestoreError::Impossible { .. })
    ));
    assert_eq!(two.chips.save(), before);
}

#[test]
fn reset_equals_new_but_for_driven_lines() {
    let mut b = Bench::new(2);
    let new = b.chips.save();
    b.init_pic();
    b.enable_apics();
    b.route(16, 0x8050, 0);
    let line = b.line(16);
    line.set_level(true);
    b.chips.reset();
    assert!(!b.chips.pending(0).any());
    line.set_level(false);
    assert_eq!(b.chips.save(), new);
}

#[test]
fn ioapic_page_by_width_and_mirror() {
    let mut b = Bench::new(1);
    b.ioapic.write(
        At {
            region: 0,
            offset: 0x700,
        },
        &[1],
    );
    for (offset, width, value) in [
        (0x10, 4, 0x0017_0020),
        (0x510, 4, 0x0017_0020),
        (0x10, 1, 0),
        (0x10, 2, 0),
        (0, 1, 1),
        (0, 8, 1),
        (0x40, 4, 0),
        (0x14, 4, 0),
    ] {
        let mut data = [0xff; 8];
        b.ioapic.read(At { region: 0, offset }, &mut data[..width]);
        data[width..].fill(0);
        assert_eq!(u64::from_le_bytes(data), value, "{offset:#x}/{width}");
    }
}

/// One access or event, of any sort.
#[derive(Clone, Debug)]
enum Step {
    Line(u32, bool),
    Restored(u32, bool),
    Port(u8, u64, Vec<u8>, bool),
    Page(u64, Vec<u8>, bool),
    Apic(u32, u32, Option<u32>),
    Base(u32, u64),
    Tpr(u32, u8),
    Msi(u64, u32),
    Take(u32),
    Time(u64),
    Reset,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![1usize, 2, 4, 8])
        .prop_flat_map(|n| prop::collection::vec(any::<u8>(), n))
}

fn step() -> impl Strategy<Value = Step> {
    let cpu = 0u32..3;
    let offset = prop_oneof![3 => (0u32..0x40).prop_map(|r| r << 4), 1 => any::<u32>()];
    prop_oneof![
        4 => (0u32..26, any::<bool>()).prop_map(|(i, l)| Step::Line(i, l)),
        1 => (0u32..26, any::<bool>()).prop_map(|(i, l)| Step::Restored(i, l)),
        3 => (0u8..3, 0u64..2, bytes(), any::<bool>()).prop_map(|(r, o, d, w)| Step::Port(r, o, d, w)),
        4 => (prop::sample::select(vec![0u64, 0x10, 0x40, 0x21]), bytes(), any::<bool>())
            .prop_map(|(o, d, w)| Step::Page(o, d, w)),
        6 => (cpu.clone(), offset, any::<Option<u32>>()).prop_map(|(c, o, v)| Step::Apic(c, o, v)),
        1 => (cpu.clone(), prop_oneof![any::<u64>(), Just(0xfee0_0800), Just(0xfee0_0000)])
            .prop_map(|(c, v)| Step::Base(c, v)),
        1 => (cpu.clone(), any::<u8>()).prop_map(|(c, v)| Step::Tpr(c, v)),
        2 => ((0u64..1 << 20).prop_map(|a| 0xfee0_0000 | a), any::<u32>())
            .prop_map(|(a, d)| Step::Msi(a, d)),
        4 => cpu.prop_map(Step::Take),
        2 => any::<u64>().prop_map(|t| Step::Time(t >> (t & 63))),
        1 => Just(Step::Reset),
    ]
}

impl Bench {
    fn run(&mut self, step: &Step) {
        let chips = &self.chips;
        match step {
            Step::Line(input, level) => chips.set_level(*input, *level),
            Step::Restored(input, level) => chips.restore_level(*input, *level),
            Step::Port(region, offset, data, write) => {
                access(&mut *self.pic, *region, *offset, data, *write);
            }
            Step::Page(offset, data, write) => {
                access(&mut *self.ioapic, 0, *offset, data, *write);
            }
            Step::Apic(cpu, offset, Some(value)) => chips.apic_write(*cpu, *offset, *value),
            Step::Apic(cpu, offset, None) => _ = chips.apic_read(*cpu, *offset),
            Step::Base(cpu, value) => _ = chips.set_apic_base(*cpu, *value),
            Step::Tpr(cpu, value) => chips.set_tpr(*cpu, *value),
            Step::Msi(address, data) => chips.deliver_msi(*address, *data),
            Step::Take(cpu) => {
                let expected = chips.pending(*cpu);
                assert_eq!(chips.acknowledge(*cpu).is_some(), expected.interrupt);
                assert_eq!(chips.take_nmi(*cpu), expected.nmi);
                assert_eq!(chips.take_smi(*cpu), expected.smi);
                assert_eq!(chips.take_sipi(*cpu), expected.sipi);
                assert_eq!(chips.take_init(*cpu), expected.init);
            }
            Step::Time(by) => {
                self.time.set(self.time.now_ns().saturating_add(*by));
                let now = Duration::from_nanos(self.time.now_ns());
                let next = chips.poll(now);
                assert!(next.is_none_or(|n| n > now || now.as_nanos() >= u64::MAX as u128 >> 1));
            }
            Step::Reset => chips.reset(),
        }
    }
}

fn access(device: &mut dyn Device, region: u8, offset: u64, data: &[u8], write: bool) {
    let at = At { region, offset };
    if write {
        device.write(at, data);
    } else {
        device.read(at, &mut data.to_vec());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any sequence returns; what is pending can be taken; state goes out and in unchanged; and
    /// the restored machine goes on as the saved one would.
    #[test]
    fn any_sequence_and_its_continuation_after_restore(
        before in prop::collection::vec(step(), 0..150),
        after in prop::collection::vec(step(), 0..50),
        ready: bool,
    ) {
        let mut a = Bench::new(3);
        if ready {
            a.init_pic();
            a.enable_apics();
            for pin in 0..24 {
                a.route(pin, u32::from(pin & 1) << 15 | (0x30 + 5 * u32::from(pin)), pin % 3);
            }
        }
        for s in &before {
            a.run(s);
        }
        let saved = a.chips.save();
        let mut b = Bench::new(3);
        b.time.set(a.time.now_ns());
        prop_assert!(b.chips.restore(&saved).is_ok());
        prop_assert_eq!(b.chips.save(), saved);
        for s in &after {
            a.run(s);
            b.run(s);
            for cpu in 0..3 {
                prop_assert_eq!(a.chips.pending(cpu), b.chips.pending(cpu));
            }
        }
        prop_assert_eq!(a.chips.save(), b.chips.save());
    }
}
