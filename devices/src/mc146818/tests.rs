//! The clock as a guest sees it: index, data, line, and the deadlines it asks for.

use super::*;
use crate::testbench::{Bench, inb, outb};
use proptest::prelude::*;

/// 2020-03-04 05:06:07, a Wednesday.
const BASE: i64 = 1_583_298_367;
const SEC: u64 = 1_000_000_000;

fn bench_at(rtc_base: i64) -> Bench {
    Bench::with(BoardOptions {
        rtc_base,
        ..(*Bench::new().wiring.options).clone()
    })
}

fn get(d: &mut dyn Device, at: usize) -> u8 {
    outb(d, 0, 0, at as u8);
    inb(d, 0, 1)
}

fn put(d: &mut dyn Device, at: usize, byte: u8) {
    outb(d, 0, 0, at as u8 | 0x80);
    outb(d, 0, 1, byte);
}

fn time(d: &mut dyn Device) -> [u8; 8] {
    TIME.map(|at| get(d, at))
}

#[test]
fn it_wakes_up_as_the_stock_machine_does() {
    let options = BoardOptions {
        ram: 6 << 30,
        cpus: 4,
        rtc_base: BASE,
        ..(*Bench::new().wiring.options).clone()
    };
    let mut d = new(&Bench::with(options).wiring);
    let rows = [
        (0x00, "07 00 06 00 05 00 04 04 03 20 26 02 00 80 00 00"),
        (0x10, "50 00 00 00 07 80 02 ff ff 00 00 00 00 00 00 00"),
        (0x30, "ff ff 20 00 00 bf 00 20 30 00 00 00 00 12 00 00"),
        (0x50, "00 00 00 00 00 00 00 00 00 00 00 00 c0 00 00 03"),
    ];
    for (row, bytes) in rows {
        let found: [String; 16] = std::array::from_fn(|i| format!("{:02x}", get(&mut *d, row + i)));
        assert_eq!(found.join(" "), bytes);
    }
    assert_eq!(inb(&mut *d, 0, 0), 0xFF);
}

#[test]
fn the_time_goes_on_over_a_leap_day_in_every_form() {
    // 2024-02-28 23:59:59, a Wednesday.
    let bench = bench_at(1_709_164_799);
    let mut d = new(&bench.wiring);
    assert_eq!(time(&mut *d), [0x59, 0x59, 0x23, 4, 0x28, 2, 0x24, 0x20]);
    bench.time.set(SEC);
    assert_eq!(time(&mut *d), [0, 0, 0, 5, 0x29, 2, 0x24, 0x20]);
    put(&mut *d, REG_B, 0x04);
    assert_eq!(time(&mut *d), [0, 0, 12, 5, 29, 2, 24, 20]);
    bench.time.set(SEC + 86_400 * SEC + 13 * 3600 * SEC);
    assert_eq!(time(&mut *d), [0, 0, 0x81, 6, 1, 3, 24, 20]);
}

#[test]
fn uip_announces_the_update() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    bench.time.set(SEC - 244_200);
    assert_eq!(get(&mut *d, REG_A), 0x26);
    bench.time.set(SEC - 244_100);
    assert_eq!(get(&mut *d, REG_A), 0xA6);
    assert_eq!(get(&mut *d, SECONDS), 0x07);
    bench.time.set(SEC);
    assert_eq!(get(&mut *d, REG_A), 0x26);
    assert_eq!(get(&mut *d, SECONDS), 0x08);
}

#[test]
fn set_holds_the_bytes_and_takes_them_over() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    bench.time.set(300_000_000);
    put(&mut *d, REG_B, 0x92);
    assert_eq!(get(&mut *d, REG_B), 0x82, "SET clears UIE");
    let new_time = [0x58, 0x59, 0x23, 3, 0x31, 0x12, 0x99, 0x19];
    for (at, byte) in TIME.into_iter().zip(new_time) {
        put(&mut *d, at, byte);
    }
    bench.time.set(5 * SEC + 300_000_000);
    assert_eq!(time(&mut *d), new_time);
    put(&mut *d, REG_B, 0x02);
    bench.time.set(7 * SEC - 1);
    assert_eq!(get(&mut *d, SECONDS), 0x59, "the divider kept its phase");
    bench.time.set(7 * SEC);
    // The guest called that Friday a Tuesday: the chip counts on from there.
    assert_eq!(time(&mut *d), [0, 0, 0, 4, 1, 1, 0, 0x20]);
}

#[test]
fn a_byte_written_to_the_running_clock_counts() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, YEAR, 0x31);
    bench.time.set(SEC);
    assert_eq!(time(&mut *d)[..3], [0x08, 0x06, 0x05]);
    assert_eq!(get(&mut *d, YEAR), 0x31);
    assert_eq!(get(&mut *d, CENTURY_PS2), 0x20);
}

#[test]
fn the_divider_starts_half_a_second_before_an_update() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, REG_A, 0x76);
    bench.time.set(10 * SEC + 123);
    assert_eq!(get(&mut *d, SECONDS), 0x07);
    put(&mut *d, REG_A, 0x26);
    bench.time.set(10 * SEC + SEC / 2 + 122);
    assert_eq!(get(&mut *d, SECONDS), 0x07);
    bench.time.set(10 * SEC + SEC / 2 + 123);
    assert_eq!(get(&mut *d, SECONDS), 0x08);
}

#[test]
fn the_periodic_interrupt_waits_to_be_read() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, REG_B, 0x42);
    let due = bench.poll_at(&mut *d, 0).unwrap();
    assert_eq!(due, Duration::from_nanos(SEC.div_ceil(1024)));
    assert_eq!(
        bench.poll_at(&mut *d, 10 * SEC),
        None,
        "raised: no more to do"
    );
    assert!(bench.probe.level(0));
    assert_eq!(bench.probe.edges(0), 1);
    assert_eq!(get(&mut *d, REG_C), 0xF0 & !0x20);
    assert!(!bench.probe.level(0));
    assert_eq!(get(&mut *d, REG_C), 0);
    let due = bench.poll_at(&mut *d, 10 * SEC).unwrap();
    assert_eq!(due, Duration::from_nanos(10 * SEC + SEC.div_ceil(1024)));
}

#[test]
fn the_periodic_rates_are_those_of_the_datasheet() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, REG_B, 0x42);
    let rates = [
        256u64, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2,
    ];
    for (select, hz) in (1..).zip(rates) {
        put(&mut *d, REG_A, 0x20 | select);
        let due = bench.poll_at(&mut *d, 0);
        assert_eq!(due, Some(Duration::from_nanos(SEC.div_ceil(hz))));
    }
    put(&mut *d, REG_A, 0x20);
    assert_eq!(bench.poll_at(&mut *d, 0), None);
}

#[test]
fn the_alarm_comes_at_its_second() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, SECONDS_ALARM, 0x05);
    put(&mut *d, MINUTES_ALARM, 0xFF);
    put(&mut *d, HOURS_ALARM, 0x06);
    put(&mut *d, REG_B, 0x22);
    let seconds = (6 * 3600 + 5) - (5 * 3600 + 6 * 60 + 7);
    let due = bench.poll_at(&mut *d, 0).unwrap();
    assert_eq!(due, Duration::from_secs(seconds));
    bench.poll_at(&mut *d, seconds * SEC);
    assert_eq!(get(&mut *d, REG_C), 0xF0);
    put(&mut *d, HOURS_ALARM, 0x24);
    assert_eq!(bench.poll_at(&mut *d, seconds * SEC), None);
}

#[test]
fn a_reset_keeps_time_and_ram() {
    let bench = bench_at(BASE);
    let mut d = new(&bench.wiring);
    put(&mut *d, 0x0F, 0x0A);
    put(&mut *d, REG_B, 0x72);
    bench.poll_at(&mut *d, 2 * SEC);
    assert!(bench.probe.level(0));
    d.reset();
    assert!(!bench.probe.level(0));
    assert_eq!(get(&mut *d, 0x0F), 0x0A);
    assert_eq!(get(&mut *d, REG_B), 0x02);
    assert_eq!(get(&mut *d, REG_C), 0);
    assert_eq!(get(&mut *d, SECONDS), 0x09);
}

proptest! {
    #[test]
    fn the_next_match_is_the_first(
        from in 0i64..DAY,
        hour in prop::option::of(0i64..24),
        minute in prop::option::of(0i64..60),
        second in prop::option::of(0i64..60),
    ) {
        let found = next_match(from, [hour, minute, second]);
        let matches = |at: i64| {
            hour.is_none_or(|h| h == at / 3600 % 24)
                && minute.is_none_or(|m| m == at / 60 % 60)
                && second.is_none_or(|s| s == at % 60)
        };
        prop_assert_eq!(Some(found), (from..from + DAY).find(|&at| matches(at)));
    }

    #[test]
    fn any_access_keeps_state_and_deadlines_sound(
        accesses in prop::collection::vec((0u8..0x40, any::<u8>(), any::<bool>(), 0u64..1 << 50), 1..60)
    ) {
        let bench = bench_at(BASE);
        let mut d = new(&bench.wiring);
        let mut now = 0;
        for (at, byte, write, wait) in accesses {
            if write { put(&mut *d, at as usize, byte) } else { get(&mut *d, at as usize); }
            now += wait >> (byte & 31);
            let due = bench.poll_at(&mut *d, now);
            prop_assert!(due.is_none_or(|due| due.as_nanos() > u128::from(now)));
            if let Some(due) = due {
                now = due.as_nanos() as u64;
                prop_assert_eq!(bench.poll_at(&mut *d, now), None);
                prop_assert!(bench.probe.level(0), "raised when foretold");
            }
        }
        let saved = d.save();
        let other = bench_at(0);
        other.time.set(now);
        let mut copy = new(&other.wiring);
        copy.restore(&saved).unwrap();
        prop_assert_eq!(copy.save(), saved);
        prop_assert_eq!(other.probe.level(0), bench.probe.level(0));
        prop_assert_eq!(other.probe.edges(0), 0);
        prop_assert_eq!(time(&mut *copy), time(&mut *d));
    }
}

#[test]
fn a_boot_order_for_once_is_for_the_first_boot() {
    use crate::board::{Boot, BootDevice};
    let boot = Boot {
        once: Some([Some(BootDevice::CdRom), None, None]),
        ..Boot::default()
    };
    let options = BoardOptions {
        boot,
        ..BoardOptions::default()
    };
    let mut d = new(&Bench::with(options).wiring);
    assert_eq!((get(&mut *d, 0x3D), get(&mut *d, 0x38)), (0x03, 0x00));
    d.reset();
    assert_eq!((get(&mut *d, 0x3D), get(&mut *d, 0x38)), (0x12, 0x30));
    // Without one the guest's own order survives.
    let mut d = new(&Bench::new().wiring);
    put(&mut *d, 0x3D, 0x43);
    d.reset();
    assert_eq!(get(&mut *d, 0x3D), 0x43);
}

/// The reference machine's bytes for two disks of 600 MiB and 20 GiB, and for a 1.44 MB drive.
#[test]
fn drives_are_set_up_as_in_the_stock_machine() {
    use crate::board::{Drives, FloppyDrive, HardDisk, Translation};
    let disk = |cylinders, translation| HardDisk {
        cylinders,
        heads: 16,
        sectors: 63,
        translation,
    };
    let disks = [
        Some(disk(1219, Translation::Lba)),
        Some(disk(16383, Translation::Lba)),
        None,
        None,
    ];
    let floppies = [Some(FloppyDrive::Mb1_44), None];
    let options = BoardOptions {
        drives: Drives { floppies, disks },
        rtc_base: BASE,
        ..BoardOptions::default()
    };
    let mut d = new(&Bench::with(options).wiring);
    let rows = [
        (0x10, "40 00 ff 00 07 80 02 ff ff 2f 2f c3 04 10 ff ff"),
        (0x20, "c8 c3 04 3f ff 3f 10 ff ff c8 ff 3f 3f 00 00 00"),
        (0x30, "ff ff 20 00 00 07 00 20 30 05 00 00 00 12 00 00"),
    ];
    for (row, bytes) in rows {
        let found: [String; 16] = std::array::from_fn(|i| format!("{:02x}", get(&mut *d, row + i)));
        assert_eq!(found.join(" "), bytes);
    }
}
