//! The timer as a guest sees it: ports, the line, and the deadlines it asks for.

use super::*;
use crate::testbench::{Bench, inb, outb};
use proptest::prelude::*;

/// Guest time of a tick in nanoseconds.
fn ns(tick: u64) -> u64 {
    CLK.instant_of(tick).as_nanos() as u64
}

fn program(d: &mut dyn Device, counter: u8, mode: u8, count: u16) {
    let [low, high] = count.to_le_bytes();
    outb(d, 0, CONTROL, counter << 6 | 0x30 | mode << 1);
    outb(d, 0, u64::from(counter), low);
    outb(d, 0, u64::from(counter), high);
}

fn latched(d: &mut dyn Device, counter: u8) -> u16 {
    outb(d, 0, CONTROL, counter << 6);
    let low = inb(d, 0, u64::from(counter));
    u16::from_le_bytes([low, inb(d, 0, u64::from(counter))])
}

fn status(d: &mut dyn Device, counter: u8) -> u8 {
    outb(d, 0, CONTROL, 0xE0 | 2 << counter);
    inb(d, 0, u64::from(counter))
}

#[test]
fn it_wakes_up_as_the_stock_machine_does() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    for counter in 0..3 {
        assert_eq!(status(&mut *d, counter), 0x86);
        assert_eq!(inb(&mut *d, 0, u64::from(counter)), 0);
    }
    assert_eq!(inb(&mut *d, 0, CONTROL), 0);
    assert_eq!(inb(&mut *d, 1, 0), 0x20);
    outb(&mut *d, 1, 0, 0xFF);
    assert_eq!(inb(&mut *d, 1, 0) & !0x10, 0x23);
}

#[test]
fn mode_0_rises_once_one_tick_after_its_count() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 0, 0, 100);
    assert!(!bench.probe.level(0));
    let due = bench.poll_at(&mut *d, 0).unwrap();
    assert_eq!(due, CLK.instant_of(101));
    assert_eq!(bench.poll_at(&mut *d, ns(101) - 1), Some(due));
    assert!(!bench.probe.level(0));
    let edges = bench.probe.edges(0);
    assert_eq!(bench.poll_at(&mut *d, ns(101)), None);
    assert!(bench.probe.level(0));
    assert_eq!(bench.probe.edges(0), edges + 1);
    bench.time.set(ns(102));
    assert_eq!(latched(&mut *d, 0), 0xFFFF);
}

#[test]
fn mode_2_interrupts_every_period_and_coalesces_a_gap() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 0, 2, 1000);
    let edges = bench.probe.edges(0);
    let mut due = bench.poll_at(&mut *d, 0).unwrap();
    for period in 1..=5 {
        assert_eq!(due, CLK.instant_of(period * 1000));
        due = bench.poll_at(&mut *d, due.as_nanos() as u64).unwrap();
        assert!(!bench.probe.level(0));
        due = bench.poll_at(&mut *d, due.as_nanos() as u64).unwrap();
        assert_eq!(bench.probe.edges(0), edges + period as u32);
    }
    // A century without a poll.
    let late = bench.poll_at(&mut *d, 3_155_760_000_000_000_000).unwrap();
    assert_eq!(bench.probe.edges(0), edges + 6);
    assert!(late.as_nanos() >= 3_155_760_000_000_000_000);
}

#[test]
fn a_new_count_in_mode_2_waits_for_the_end_of_the_period() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 0, 2, 100);
    bench.time.set(ns(50));
    outb(&mut *d, 0, 0, 30);
    outb(&mut *d, 0, 0, 0);
    assert_eq!(status(&mut *d, 0), 0xF4);
    bench.time.set(ns(60));
    assert_eq!(latched(&mut *d, 0), 41);
    bench.time.set(ns(101));
    assert_eq!(latched(&mut *d, 0), 30);
    assert_eq!(status(&mut *d, 0), 0xB4);
}

#[test]
fn mode_3_is_a_square_wave_with_the_odd_tick_high() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    outb(&mut *d, 1, 0, 1);
    program(&mut *d, 2, 3, 5);
    let mut wave = Vec::new();
    for tick in 1..=10 {
        bench.time.set(ns(tick));
        wave.push(inb(&mut *d, 1, 0) & 0x20 != 0);
    }
    let period = [true, true, true, false, false];
    assert_eq!(wave, [period, period].concat());
    outb(&mut *d, 1, 0, 0);
    assert_eq!(inb(&mut *d, 1, 0) & 0x20, 0x20, "GATE low sets OUT");
}

#[test]
fn the_gate_of_counter_2_stops_and_reloads() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    outb(&mut *d, 1, 0, 1);
    program(&mut *d, 2, 2, 0x1000);
    bench.time.set(ns(0x101));
    assert_eq!(latched(&mut *d, 2), 0xF00);
    outb(&mut *d, 1, 0, 0);
    bench.time.set(ns(0x400));
    assert_eq!(latched(&mut *d, 2), 0xF00);
    outb(&mut *d, 1, 0, 1);
    bench.time.set(ns(0x401));
    assert_eq!(latched(&mut *d, 2), 0x1000);
}

#[test]
fn the_one_shot_waits_for_its_trigger() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 2, 1, 10);
    bench.time.set(ns(50));
    assert_eq!(status(&mut *d, 2), 0xF2, "OUT high, count not loaded");
    outb(&mut *d, 1, 0, 1);
    bench.time.set(ns(51));
    assert_eq!(status(&mut *d, 2), 0x32);
    bench.time.set(ns(60));
    assert_eq!(inb(&mut *d, 1, 0) & 0x20, 0);
    bench.time.set(ns(61));
    assert_eq!(inb(&mut *d, 1, 0) & 0x20, 0x20);
}

#[test]
fn the_strobes_are_low_for_one_tick() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 0, 4, 20);
    let low = bench.poll_at(&mut *d, 0).unwrap();
    assert_eq!(low, CLK.instant_of(21));
    let high = bench.poll_at(&mut *d, ns(21)).unwrap();
    assert!(!bench.probe.level(0));
    assert_eq!(high, CLK.instant_of(22));
    assert_eq!(bench.poll_at(&mut *d, ns(22)), None);
    assert!(bench.probe.level(0));
}

#[test]
fn a_latch_holds_and_the_status_comes_first() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    program(&mut *d, 0, 2, 0x1234);
    assert_eq!(status(&mut *d, 0), 0xF4, "null count until the next tick");
    bench.time.set(ns(1));
    outb(&mut *d, 0, CONTROL, 0xC2);
    bench.time.set(ns(9));
    outb(&mut *d, 0, CONTROL, 0x00);
    let bytes: [u8; 5] = std::array::from_fn(|_| inb(&mut *d, 0, 0));
    assert_eq!(bytes, [0xB4, 0x34, 0x12, 0x2C, 0x12]);
}

#[test]
fn bcd_counts_in_tens() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    outb(&mut *d, 0, CONTROL, 0x35);
    outb(&mut *d, 0, 0, 0x00);
    outb(&mut *d, 0, 0, 0x20);
    bench.time.set(ns(2));
    assert_eq!(latched(&mut *d, 0), 0x1999);
    let due = bench.poll_at(&mut *d, ns(2)).unwrap();
    assert_eq!(due, CLK.instant_of(2000));
}

#[test]
fn the_refresh_bit_turns_every_eighteen_ticks() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    for half in 0..8 {
        bench.time.set(ns(18 * half));
        assert_eq!(inb(&mut *d, 1, 0) & 0x10 != 0, half & 1 != 0);
    }
}

proptest! {
    /// "Write Operations": LSB then MSB, for every count, without a new control word.
    #[test]
    fn every_byte_pair_is_a_count(counts in prop::collection::vec(2u16.., 1..20)) {
        let bench = Bench::new();
        let mut d = new(&bench.wiring);
        let mut tick = 0;
        outb(&mut *d, 0, CONTROL, 0x38);
        for n in counts {
            let [low, high] = n.to_le_bytes();
            outb(&mut *d, 0, 0, low);
            outb(&mut *d, 0, 0, high);
            tick += 1;
            bench.time.set(ns(tick));
            prop_assert_eq!(latched(&mut *d, 0), n);
        }
    }

    #[test]
    fn any_access_keeps_state_and_deadlines_sound(
        accesses in prop::collection::vec((0u8..2, 0u64..4, any::<u8>(), any::<bool>(), 0u64..1 << 40), 1..60)
    ) {
        let bench = Bench::new();
        let mut d = new(&bench.wiring);
        let mut now = 0;
        for (region, offset, byte, write, wait) in accesses {
            if write { outb(&mut *d, region, offset, byte) } else { inb(&mut *d, region, offset); }
            now += wait >> (byte & 31);
            let due = bench.poll_at(&mut *d, now);
            prop_assert!(due.is_none_or(|due| due.as_nanos() > u128::from(now)));
        }
        let saved = d.save();
        let other = Bench::new();
        other.time.set(now);
        let mut copy = new(&other.wiring);
        let edges = other.probe.edges(0);
        copy.restore(&saved).unwrap();
        prop_assert_eq!(copy.save(), saved);
        prop_assert_eq!(other.probe.level(0), bench.probe.level(0));
        prop_assert_eq!(other.probe.edges(0), edges);
        d.reset();
        prop_assert_eq!(d.save(), { let mut n = new(&bench.wiring); n.poll(Duration::from_nanos(now)); n.save() });
    }
}
