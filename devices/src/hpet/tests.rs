//! Through the registers, with the probe's inputs 0 and 1 the legacy interrupts, 2 the switch, 3 the pin.

use super::*;
use crate::testbench::Bench;
use proptest::prelude::*;

const T0: u64 = FIRST_TIMER;
const T1: u64 = FIRST_TIMER + TIMER_SIZE;
const CMP: u64 = COMPARATOR;
const ON: u64 = 4;
const PERIODIC: u64 = 8;
const LEVEL: u64 = 2;
const SET: u64 = 0x40;
const BITS32: u64 = 0x100;
const TO_PIN: u64 = PIN << ROUTE_SHIFT;

struct Rig {
    bench: Bench,
    device: Box<dyn Device>,
}

impl Rig {
    fn new() -> Self {
        let bench = Bench::new();
        let device = new(&bench.wiring);
        Self { bench, device }
    }

    fn readq(&mut self, offset: u64) -> u64 {
        let mut data = [0xFF; 8];
        self.device.read(At { region: 0, offset }, &mut data);
        u64::from_le_bytes(data)
    }

    fn readl(&mut self, offset: u64) -> u32 {
        let mut data = [0xFF; 4];
        self.device.read(At { region: 0, offset }, &mut data);
        u32::from_le_bytes(data)
    }

    fn writeq(&mut self, offset: u64, value: u64) {
        self.device
            .write(At { region: 0, offset }, &value.to_le_bytes());
    }

    fn writel(&mut self, offset: u64, value: u32) {
        self.device
            .write(At { region: 0, offset }, &value.to_le_bytes());
    }

    /// Moves time to `tick` and polls; the next deadline in ticks.
    fn at(&mut self, tick: u64) -> Option<u64> {
        let next = self.bench.poll_at(self.device.as_mut(), tick * 10)?;
        assert_eq!(next.as_nanos() % 10, 0);
        Some(next.as_nanos() as u64 / 10)
    }

    fn edges(&self, input: u32) -> u32 {
        self.bench.probe.edges(input)
    }

    fn level(&self, input: u32) -> bool {
        self.bench.probe.level(input)
    }
}

/// As the stock machine answers (taken from it by qtest).
#[test]
fn registers_read_as_the_references() {
    let mut rig = Rig::new();
    for offset in (0..0x400).step_by(8) {
        let value = match offset {
            0 => 0x0098_9680_8086_A201,
            0x100 | 0x120 | 0x140 => 0x4_0000_0030,
            0x108 | 0x128 | 0x148 => u64::MAX,
            _ => 0,
        };
        assert_eq!(rig.readq(offset), value, "{offset:#x}");
        assert_eq!(rig.readl(offset), value as u32);
        assert_eq!(rig.readl(offset + 4), (value >> 32) as u32);
    }
    // But for bit 14, which no timer without that capability has.
    rig.writeq(T0, u64::MAX);
    assert_eq!(rig.readq(T0), 0x4_0000_3F7E);
    rig.writeq(T0 + CMP, 0x1122_3344_5566_7788);
    assert_eq!(rig.readq(T0 + CMP), 0x5566_7788);
    rig.writeq(CONFIG, u64::MAX);
    assert_eq!(rig.readq(CONFIG), 3);
    rig.writeq(CONFIG, 0);
    rig.writel(COUNTER, 0x5566_7788);
    rig.writel(COUNTER + 4, 0x1122_3344);
    assert_eq!(rig.readq(COUNTER), 0x1122_3344_5566_7788);
}

#[test]
fn the_counter_runs_while_it_is_enabled() {
    let mut rig = Rig::new();
    rig.at(1000);
    rig.writeq(COUNTER, 5);
    rig.writeq(CONFIG, 1);
    rig.at(1100);
    assert_eq!(rig.readq(COUNTER), 105);
    rig.writeq(COUNTER, 7);
    assert_eq!(rig.readq(COUNTER), 105, "not while it runs");
    rig.writeq(CONFIG, 0);
    rig.at(2000);
    assert_eq!(rig.readl(COUNTER), 105);
}

#[test]
fn one_shot() {
    let mut rig = Rig::new();
    rig.writeq(CONFIG, 1);
    rig.writeq(T0, ON | TO_PIN);
    rig.writeq(T0 + CMP, 500);
    assert_eq!(rig.at(499), Some(500));
    assert_eq!(rig.edges(3), 0);
    assert_eq!(rig.at(500), None, "in 5800 years");
    assert_eq!(rig.edges(3), 1);
    rig.writeq(T0 + CMP, 400);
    assert_eq!(rig.edges(3), 2, "late rather than never");
    rig.writeq(T0, TO_PIN);
    rig.writeq(T0 + CMP, 600);
    assert_eq!(rig.at(700), None);
    rig.writeq(T0, ON | TO_PIN);
    rig.at(800);
    assert_eq!(rig.edges(3), 2, "its match passed while it was off");
}

#[test]
fn a_32_bit_timer_comes_round() {
    let mut rig = Rig::new();
    rig.writeq(COUNTER, 0xF_FFFF_FF00);
    rig.writeq(CONFIG, 1);
    rig.writeq(T0, ON | BITS32 | TO_PIN);
    rig.writel(T0 + CMP, 0x100);
    assert_eq!(rig.at(0), Some(0x200));
    assert_eq!(rig.at(0x200), Some(0x200 + (1 << 32)));
    assert_eq!(rig.edges(3), 1);
}

/// As Linux sets it up: the first write the phase, the second the period.
#[test]
fn periodic() {
    let mut rig = Rig::new();
    rig.writeq(CONFIG, 1);
    rig.at(50);
    rig.writel(T0, (ON | PERIODIC | SET | BITS32 | TO_PIN) as u32);
    rig.writel(T0 + CMP, 1050);
    assert_eq!(rig.readq(T0) & SET, 0);
    rig.writel(T0 + CMP, 1000);
    assert_eq!(rig.at(50), Some(1050));
    assert_eq!(rig.at(1050), Some(2050));
    assert_eq!((rig.edges(3), rig.readq(T0 + CMP)), (1, 2050));
    assert_eq!(rig.at(10_000), Some(10_050), "a gap is one interrupt");
    assert_eq!((rig.edges(3), rig.readq(T0 + CMP)), (2, 10_050));
}

#[test]
fn a_period_alone_and_a_whole_write() {
    let mut rig = Rig::new();
    rig.writeq(CONFIG, 1);
    rig.writeq(T1, ON | PERIODIC | SET | TO_PIN);
    rig.writeq(T1 + CMP, 300);
    assert_eq!(
        (rig.at(0), rig.at(300), rig.at(601)),
        (Some(300), Some(600), Some(900))
    );
    // Set behind the counter: whole periods further.
    rig.writeq(T1, ON | PERIODIC | SET | TO_PIN);
    rig.writeq(T1 + CMP, 100);
    assert_eq!(rig.at(601), Some(700));
    rig.writeq(T1, ON | PERIODIC | SET | TO_PIN);
    rig.writeq(T1 + CMP, 0);
    assert_eq!(rig.at(602), None, "no period");
    rig.writeq(T1 + CMP, 50);
    assert_eq!(rig.at(602), Some(650), "its first one starts it");
}

#[test]
fn level_until_status_is_cleared() {
    let mut rig = Rig::new();
    rig.writeq(CONFIG, 1);
    rig.writeq(T0, ON | LEVEL | TO_PIN);
    rig.writeq(T1, ON | LEVEL | TO_PIN);
    rig.writeq(T0 + CMP, 10);
    rig.writeq(T1 + CMP, 20);
    rig.at(30);
    assert_eq!((rig.readq(STATUS), rig.level(3)), (3, true));
    rig.writeq(STATUS, 1);
    assert_eq!(
        (rig.readq(STATUS), rig.level(3)),
        (2, true),
        "the other one"
    );
    rig.writeq(STATUS, 2);
    assert!(!rig.level(3));
    assert_eq!(rig.edges(3), 1);
}

#[test]
fn legacy_replacement_takes_timers_0_and_1() {
    let mut rig = Rig::new();
    rig.writeq(CONFIG, 3);
    assert!(rig.level(2));
    for (timer, cmp) in [(T0, 10), (T1, 20), (T1 + TIMER_SIZE, 30)] {
        rig.writeq(timer, ON | TO_PIN);
        rig.writeq(timer + CMP, cmp);
    }
    rig.at(40);
    assert_eq!((rig.edges(0), rig.edges(1), rig.edges(3)), (1, 1, 1));
    rig.writeq(CONFIG, 1);
    assert!(!rig.level(2));
    rig.writeq(CONFIG, 3);
    rig.device.reset();
    assert!(!rig.level(2));
}

proptest! {
    /// However long the gaps between polls, a periodic timer keeps its phase.
    #[test]
    fn periods_are_exact(period in 1u64..1 << 20, gaps: Vec<u32>, narrow: bool) {
        let mut rig = Rig::new();
        rig.writeq(CONFIG, 1);
        let size = if narrow { BITS32 } else { 0 };
        rig.writeq(T0, ON | PERIODIC | SET | TO_PIN | size);
        rig.writeq(T0 + CMP, period);
        let mut tick = 0;
        for gap in gaps {
            tick += u64::from(gap);
            let next = (tick / period + 1) * period;
            prop_assert_eq!(rig.at(tick), Some(next));
            let seen = if narrow { next & u64::from(u32::MAX) } else { next };
            prop_assert_eq!(rig.readq(T0 + CMP), seen);
        }
    }
}
