//! The port as a driver sees it: registers, the line, and the bytes that pass.

use super::*;
use crate::testbench::{Bench, inb, outb};
use proptest::prelude::*;

fn get(d: &mut dyn Device, register: u64) -> u8 {
    inb(d, 0, register)
}

fn put(d: &mut dyn Device, register: u64, byte: u8) {
    outb(d, 0, register, byte);
}

#[test]
fn it_wakes_up_as_the_stock_machine_does() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    let registers: [u8; 8] = std::array::from_fn(|i| get(&mut *d, i as u64));
    assert_eq!(registers, [0, 0, 1, 0, 8, 0x60, 0xB0, 0]);
    put(&mut *d, LCR, DLAB);
    assert_eq!([get(&mut *d, DATA), get(&mut *d, IER)], [12, 0]);
    put(&mut *d, DATA, 0x34);
    put(&mut *d, IER, 0x12);
    assert_eq!([get(&mut *d, DATA), get(&mut *d, IER)], [0x34, 0x12]);
}

#[test]
fn only_defined_bits_stick() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    for (register, found) in [(IER, 0x0F), (LCR, 0xFF), (MCR, 0x1F), (7, 0xFF)] {
        put(&mut *d, register, 0xFF);
        assert_eq!(get(&mut *d, register), found);
        put(&mut *d, register, 0);
        assert_eq!(get(&mut *d, register), 0);
    }
}

#[test]
fn the_thre_interrupt_comes_with_its_enable_and_with_each_byte() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    put(&mut *d, IER, 0x02);
    assert!(bench.probe.level(0));
    assert_eq!(get(&mut *d, IIR_FCR), 0x02);
    assert!(!bench.probe.level(0));
    assert_eq!(get(&mut *d, IIR_FCR), 0x01);
    for (i, byte) in b"ab".iter().enumerate() {
        put(&mut *d, DATA, *byte);
        assert_eq!(bench.probe.edges(0), 2 + i as u32);
    }
    put(&mut *d, IER, 0);
    assert!(!bench.probe.level(0));
    // Linux's test at start-up: the enable raises it anew.
    put(&mut *d, IER, 0x02);
    assert_eq!(get(&mut *d, IIR_FCR), 0x02);
    assert_eq!(bench.output.bytes(), b"ab");
}

#[test]
fn out2_gates_the_line_and_not_the_register() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    put(&mut *d, MCR, 0);
    put(&mut *d, IER, 0x02);
    assert!(!bench.probe.level(0));
    put(&mut *d, MCR, 0x08);
    assert!(bench.probe.level(0));
}

#[test]
fn the_trigger_level_and_the_timeout_interrupt() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    put(&mut *d, LCR, 0x03);
    put(&mut *d, IIR_FCR, 0x81);
    put(&mut *d, IER, 0x01);
    bench.wiring.chardev.feed(b"1234567");
    // Four characters of ten bits at 9600 baud.
    let due = bench.poll_at(&mut *d, 5).unwrap();
    assert_eq!(due, Duration::from_nanos(4_166_671));
    assert!(!bench.probe.level(0));
    bench.wiring.chardev.feed(b"8");
    bench.poll_at(&mut *d, 6);
    assert_eq!(get(&mut *d, IIR_FCR), 0xC4);
    assert_eq!(get(&mut *d, DATA), b'1');
    assert_eq!(get(&mut *d, IIR_FCR), 0xC1);
    assert_eq!(bench.poll_at(&mut *d, 6 + 4_166_666), None);
    assert_eq!(get(&mut *d, IIR_FCR), 0xCC);
    assert_eq!(get(&mut *d, DATA), b'2');
    assert_eq!(get(&mut *d, IIR_FCR), 0xC1);
    put(&mut *d, IIR_FCR, 0x83);
    assert_eq!(get(&mut *d, LSR), 0x60);
}

#[test]
fn interrupts_come_in_their_order() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    put(&mut *d, IIR_FCR, 0x01);
    put(&mut *d, MCR, 0x18);
    for _ in 0..=FIFO {
        put(&mut *d, DATA, b'x');
    }
    put(&mut *d, IER, 0x0F);
    assert_eq!(get(&mut *d, IIR_FCR), 0xC6);
    assert_eq!(get(&mut *d, LSR), 0x63);
    assert_eq!(get(&mut *d, IIR_FCR), 0xC4);
    for _ in 0..FIFO {
        get(&mut *d, DATA);
    }
    assert_eq!(get(&mut *d, IIR_FCR), 0xC2);
    assert_eq!(get(&mut *d, IIR_FCR), 0xC0);
    assert_eq!(get(&mut *d, MSR), 0x83, "CTS and DSR fell, DCD stayed");
    assert_eq!(get(&mut *d, IIR_FCR), 0xC1);
    assert!(!bench.probe.level(0));
}

#[test]
fn loopback_joins_the_modem_lines_and_the_data() {
    let bench = Bench::new();
    let mut d = new(&bench.wiring);
    put(&mut *d, MCR, 0x1A);
    assert_eq!(get(&mut *d, MSR) & 0xF0, 0x90);
    put(&mut *d, MCR, 0x14);
    assert_eq!(get(&mut *d, MSR), 0x49);
    put(&mut *d, MCR, 0x10);
    assert_eq!(get(&mut *d, MSR), 0x04, "RI's end");
    bench.wiring.chardev.feed(b"peer");
    bench.poll_at(&mut *d, 0);
    put(&mut *d, DATA, 0x55);
    put(&mut *d, DATA, 0x56);
    assert_eq!(get(&mut *d, LSR), 0x63);
    assert_eq!(get(&mut *d, LSR), 0x61);
    assert_eq!(get(&mut *d, DATA), 0x56);
    assert_eq!(bench.output.bytes(), b"");
    put(&mut *d, MCR, 0x08);
    bench.poll_at(&mut *d, 1);
    assert_eq!(get(&mut *d, DATA), b'p');
}

proptest! {
    #[test]
    fn no_input_is_lost_however_it_is_drawn(
        input in prop::collection::vec(any::<u8>(), 0..200),
        fifos: bool,
        burst in 1usize..40,
    ) {
        let bench = Bench::new();
        let mut d = new(&bench.wiring);
        put(&mut *d, IIR_FCR, u8::from(fifos));
        prop_assert_eq!(bench.wiring.chardev.feed(&input), input.len());
        let mut found = Vec::new();
        for now in 0..300 {
            bench.poll_at(&mut *d, now);
            for _ in 0..burst {
                let status = get(&mut *d, LSR);
                prop_assert_eq!(status & !1, 0x60);
                if status & 1 != 0 {
                    found.push(get(&mut *d, DATA));
                }
            }
        }
        prop_assert_eq!(found, input);
    }

    #[test]
    fn any_access_keeps_state_and_deadlines_sound(
        accesses in prop::collection::vec((0u64..8, any::<u8>(), any::<bool>(), 0u64..1 << 40), 1..80)
    ) {
        let bench = Bench::new();
        let mut d = new(&bench.wiring);
        let mut now = 0;
        for (register, byte, write, wait) in accesses {
            if write { put(&mut *d, register, byte) } else { get(&mut *d, register); }
            bench.wiring.chardev.feed(&[byte]);
            now += wait >> (byte & 31);
            let due = bench.poll_at(&mut *d, now);
            prop_assert!(due.is_none_or(|due| due.as_nanos() > u128::from(now)));
            let pending = get(&mut *d, MCR) & 8 != 0;
            prop_assert!(pending || !bench.probe.level(0));
        }
        let saved = d.save();
        let other = Bench::new();
        let mut copy = new(&other.wiring);
        copy.restore(&saved).unwrap();
        prop_assert_eq!(copy.save(), saved);
        prop_assert_eq!(other.probe.level(0), bench.probe.level(0));
        prop_assert_eq!(other.probe.edges(0), 0);
        d.reset();
        prop_assert_eq!(d.save(), new(&bench.wiring).save());
        prop_assert!(!bench.probe.level(0));
    }
}
