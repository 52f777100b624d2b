//! The bus against toy devices, and against a model that splits byte by byte.

use super::*;
use crate::time::ManualTime;
use proptest::prelude::*;

/// What a toy device saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Read(At, usize),
    Write(At, Vec<u8>),
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Answers each byte with `base + offset`, logs what it sees, wakes every `period` ns.
struct Toy {
    base: u8,
    log: Log,
    requests: Requests,
    period: Option<u64>,
    polled: u64,
}

impl Device for Toy {
    fn read(&mut self, at: At, data: &mut [u8]) {
        self.log.lock().unwrap().push(Seen::Read(at, data.len()));
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = self
                .base
                .wrapping_add(at.offset as u8)
                .wrapping_add(i as u8);
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let mut log = self.log.lock().unwrap();
        log.push(Seen::Write(at, data.to_vec()));
        if data == [0xEE] {
            self.requests.push(Request::Reset);
        }
    }

    fn reset(&mut self) {
        self.polled = 0;
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        let now = now.as_nanos() as u64;
        let period = self.period?;
        self.polled = now / period;
        Some(Duration::from_nanos((self.polled + 1) * period))
    }

    fn save(&self) -> State {
        State::of(1, &self.polled)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        self.polled = from.fields(1)?;
        Ok(())
    }
}

#[derive(Default)]
struct Applied(Mutex<Vec<Request>>);

impl Apply for Applied {
    fn apply(&self, request: Request) {
        self.0.lock().unwrap().push(request);
    }
}

struct Rig {
    builder: BusBuilder,
    time: Arc<ManualTime>,
    applied: Arc<Applied>,
}

impl Rig {
    fn new() -> Self {
        Self {
            builder: BusBuilder::new(),
            time: Arc::default(),
            applied: Arc::default(),
        }
    }

    fn add(&mut self, name: &'static str, base: u8, regions: &[Region]) -> Log {
        self.add_timed(name, base, regions, None)
    }

    fn add_timed(
        &mut self,
        name: &'static str,
        base: u8,
        regions: &[Region],
        period: Option<u64>,
    ) -> Log {
        let (log, requests) = (Log::default(), Requests::default());
        let toy = Toy {
            base,
            log: log.clone(),
            requests: requests.clone(),
            period,
            polled: 0,
        };
        let builder = std::mem::take(&mut self.builder);
        let added = builder.add(name, regions, Box::new(toy), requests);
        self.builder = added.expect("a sound toy");
        log
    }

    fn build(self) -> Bus {
        self.builder.build(Clock::new(self.time), self.applied)
    }
}

fn at(region: u8, offset: u64) -> At {
    At { region, offset }
}

fn take(log: &Log) -> Vec<Seen> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn a_word_at_a_byte_port_is_two_bytes_in_two_devices() {
    let mut rig = Rig::new();
    let low = rig.add("low", 0x10, &[Region::ports(0x60..=0x60, Widths::BYTE)]);
    let high = rig.add("high", 0x20, &[Region::ports(0x61..=0x61, Widths::BYTE)]);
    let bus = rig.build();
    let mut data = [0; 4];
    bus.read(Space::Port, 0x60, &mut data);
    assert_eq!(data, [0x10, 0x20, FLOAT, FLOAT]);
    assert_eq!(take(&low), [Seen::Read(at(0, 0), 1)]);
    assert_eq!(take(&high), [Seen::Read(at(0, 0), 1)]);
    bus.write(Space::Port, 0x5F, &[1, 2, 3, 4]);
    assert_eq!(take(&low), [Seen::Write(at(0, 0), vec![2])]);
    assert_eq!(take(&high), [Seen::Write(at(0, 0), vec![3])]);
}

#[test]
fn an_unaligned_doubleword_is_cut_at_natural_boundaries() {
    let mut rig = Rig::new();
    let widths = Widths::UP_TO_DWORD;
    let log = rig.add("host", 0, &[Region::ports(0xCF8..=0xCFF, widths)]);
    let bus = rig.build();
    bus.read(Space::Port, 0xCFD, &mut [0; 4]);
    let want = [Seen::Read(at(0, 5), 1), Seen::Read(at(0, 6), 2)];
    assert_eq!(take(&log), want);
}

#[test]
fn a_region_may_take_unaligned_words() {
    let mut rig = Rig::new();
    let widths = Widths {
        min: 1,
        max: 2,
        unaligned: true,
    };
    let log = rig.add("dispi", 0, &[Region::ports(0x1CE..=0x1D0, widths)]);
    let bus = rig.build();
    bus.write(Space::Port, 0x1CF, &[1, 2]);
    assert_eq!(take(&log), [Seen::Write(at(0, 1), vec![1, 2])]);
}

#[test]
fn narrow_accesses_become_units() {
    let mut rig = Rig::new();
    let log = rig.add(
        "ioapic",
        0,
        &[Region::memory(0xFEC0_0000..=0xFEC0_0FFF, Widths::DWORD)],
    );
    let bus = rig.build();
    let mut data = [0; 2];
    bus.read(Space::Memory, 0xFEC0_0012, &mut data);
    assert_eq!(data, [0x12, 0x13]);
    bus.write(Space::Memory, 0xFEC0_0011, &[7]);
    bus.write(Space::Memory, 0xFEC0_0010, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let want = [
        Seen::Read(at(0, 0x10), 4),
        Seen::Write(at(0, 0x10), vec![0, 7, 0, 0]),
        Seen::Write(at(0, 0x10), vec![1, 2, 3, 4]),
        Seen::Write(at(0, 0x14), vec![5, 6, 7, 8]),
    ];
    assert_eq!(take(&log), want);
}

#[test]
fn the_ends_of_the_spaces_do_not_wrap() {
    let mut rig = Rig::new();
    let ports = Region::ports(0..=0xFFFF, Widths::UP_TO_DWORD);
    let memory = Region::memory(0..=u64::MAX, Widths::between(1, 8));
    rig.add("all", 0, &[ports, memory]);
    let bus = rig.build();
    let mut data = [0; 8];
    bus.read(Space::Port, 0xFFFF, &mut data);
    assert_eq!(data[..2], [0xFF, FLOAT]);
    bus.read(Space::Port, u64::MAX, &mut data);
    assert_eq!(data, [FLOAT; 8]);
    bus.read(Space::Memory, u64::MAX - 1, &mut data);
    assert_eq!(data[..3], [0xFE, 0xFF, FLOAT]);
    bus.write(Space::Memory, u64::MAX, &data);
}

#[test]
fn a_window_gets_what_is_free() {
    let mut rig = Rig::new();
    let fixed = rig.add("fixed", 0, &[Region::ports(0x104..=0x107, Widths::BYTE)]);
    let moving = rig.add("moving", 0, &[]);
    let bus = rig.build();
    let window = |first| Window {
        device: "moving",
        number: 4,
        region: Region::ports(first..=first + 0xF, Widths::BYTE),
    };
    let mut data = [0; 2];
    bus.windows().set(&[window(0x100), window(0x108)]);
    bus.read(Space::Port, 0x103, &mut data);
    assert_eq!(take(&moving), [Seen::Read(at(4, 3), 1)]);
    assert_eq!(take(&fixed), [Seen::Read(at(0, 0), 1)]);
    bus.read(Space::Port, 0x10F, &mut data);
    let seen = [Seen::Read(at(4, 0xF), 1), Seen::Read(at(4, 8), 1)];
    assert_eq!(
        take(&moving),
        seen,
        "what is behind a region keeps its offset"
    );
    bus.windows().set(&[window(0xFFFF_FFF8 - 0xFFFF_0000)]);
    bus.read(Space::Port, 0x108, &mut data);
    assert_eq!((take(&moving), data), (vec![], [FLOAT; 2]));
    bus.read(Space::Port, 0xFFF8, &mut data);
    assert_eq!(
        take(&moving),
        [Seen::Read(at(4, 0), 1), Seen::Read(at(4, 1), 1)]
    );
}

#[test]
fn string_items_all_come_from_one_port() {
    let mut rig = Rig::new();
    let widths = Widths::between(2, 2);
    let log = rig.add("ide", 0, &[Region::ports(0x1F0..=0x1F1, widths)]);
    let bus = rig.build();
    bus.read_items(0x1F0, 2, &mut [0; 6]);
    assert_eq!(take(&log), vec![Seen::Read(at(0, 0), 2); 3]);
    bus.write_items(0x1F0, 0, &[]);
    assert_eq!(take(&log), []);
}

#[test]
fn string_items_are_whole_and_what_they_ask_for_comes_between() {
    let mut rig = Rig::new();
    let bytes = rig.add("bytes", 0, &[Region::ports(0x92..=0x93, Widths::BYTE)]);
    let applied = Arc::clone(&rig.applied);
    let bus = rig.build();
    bus.write_items(0x92, 1, &[1, 0xEE, 2, 0xEE, 3]);
    let written = [1, 0xEE, 2, 0xEE, 3].map(|byte| Seen::Write(at(0, 0), vec![byte]));
    assert_eq!(take(&bytes), written);
    assert_eq!(
        *applied.0.lock().unwrap(),
        [Request::Reset; 2],
        "not once for both"
    );
    let mut data = [0; 5];
    bus.read_items(0x92, 2, &mut data);
    assert_eq!(
        data,
        [0, 1, 0, 1, 0],
        "items a device does not take whole are cut"
    );
    bus.read_items(0x94, 2, &mut data);
    assert_eq!(data, [FLOAT; 5]);
}

#[test]
fn requests_are_applied_before_the_access_returns() {
    let mut rig = Rig::new();
    rig.add("reset", 0, &[Region::ports(0x92..=0x92, Widths::BYTE)]);
    let applied = Arc::clone(&rig.applied);
    let bus = rig.build();
    bus.write(Space::Port, 0x92, &[0xEE]);
    assert_eq!(*applied.0.lock().unwrap(), [Request::Reset]);
}

#[test]
fn deadlines_follow_the_devices() {
    let mut rig = Rig::new();
    rig.add_timed("slow", 0, &[], Some(1000));
    rig.add_timed("fast", 0, &[], Some(300));
    let time = Arc::clone(&rig.time);
    let bus = rig.build();
    let next = |bus: &Bus| bus.next_deadline().map(|d| d.as_nanos());
    assert_eq!(next(&bus), Some(300));
    time.set(950);
    bus.poll_due(Duration::from_nanos(950));
    assert_eq!(next(&bus), Some(1000));
    time.set(1000);
    bus.poll_due(Duration::from_nanos(1000));
    assert_eq!(next(&bus), Some(1200));
}

#[test]
fn state_goes_by_name() {
    let mut rig = Rig::new();
    rig.add_timed("a", 0, &[], Some(10));
    rig.add("b", 0, &[]);
    let time = Arc::clone(&rig.time);
    let bus = rig.build();
    let new = bus.save_all();
    time.set(55);
    bus.poll_due(Duration::from_nanos(55));
    let later = bus.save_all();
    assert_ne!(new, later);
    time.set(0);
    bus.reset_all();
    assert_eq!(bus.save_all(), new);
    time.set(55);
    bus.restore_all(&later).expect("its own state");
    assert_eq!(bus.save_all(), later);

    let mut without = later.clone();
    let b = without.remove("b").expect("b was saved");
    let missing = bus.restore_all(&without);
    assert!(matches!(
        missing,
        Err(RestoreAllError::Missing { device: "b" })
    ));
    let mut with = later;
    with.insert("c".to_owned(), b);
    let unknown = bus.restore_all(&with);
    assert!(matches!(unknown, Err(RestoreAllError::Unknown { .. })));
}

#[test]
fn mistakes_are_found_when_the_bus_is_built() {
    let toy = || {
        Box::new(Toy {
            base: 0,
            log: Log::default(),
            requests: Requests::default(),
            period: None,
            polled: 0,
        })
    };
    let add = |name, region| {
        let a = [Region::ports(0x40..=0x43, Widths::BYTE)];
        BusBuilder::new()
            .add("a", &a, toy(), Requests::default())
            .and_then(|builder| builder.add(name, &[region], toy(), Requests::default()))
            .map(|_| ())
    };
    assert_eq!(add("b", Region::ports(0x44..=0x44, Widths::BYTE)), Ok(()));
    assert_eq!(
        add("b", Region::ports(0x3E..=0x41, Widths::BYTE)),
        Err(BusError::Overlap {
            new: "b",
            old: "a",
            at: 0x40
        })
    );
    let name = add("a", Region::ports(0x50..=0x50, Widths::BYTE));
    assert_eq!(name, Err(BusError::Name { name: "a" }));
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let empty = add("c", Region::ports(2..=1, Widths::BYTE));
    assert!(matches!(empty, Err(BusError::Range { .. })));
    let beyond = add("c", Region::ports(0xFFFF..=0x1_0000, Widths::BYTE));
    assert!(matches!(beyond, Err(BusError::Range { .. })));
    for (min, max) in [(0, 1), (1, 0), (4, 2), (3, 4), (1, 16), (8, 8)] {
        let odd = add("c", Region::memory(0..=3, Widths::between(min, max)));
        assert!(matches!(odd, Err(BusError::Widths { .. })), "{min} {max}");
    }
}

proptest! {
    /// Every byte comes from the device that owns its address, whatever the cut.
    #[test]
    fn each_byte_is_answered_by_its_owner(start in 0u64..0x60, len in 0usize..20) {
        let mut rig = Rig::new();
        rig.add("bytes", 0x40, &[Region::ports(0x10..=0x16, Widths::BYTE)]);
        rig.add("dwords", 0x80, &[Region::ports(0x18..=0x2F, Widths::DWORD)]);
        rig.add("mixed", 0xC0, &[Region::ports(0x31..=0x3F, Widths::UP_TO_DWORD)]);
        let bus = rig.build();
        let mut data = vec![0; len];
        bus.read(Space::Port, start, &mut data);
        for (address, byte) in (start..).zip(data) {
            let want = match address {
                0x10..=0x16 => 0x40 + (address - 0x10) as u8,
                0x18..=0x2F => 0x80 + (address - 0x18) as u8,
                0x31..=0x3F => 0xC0 + (address - 0x31) as u8,
                _ => FLOAT,
            };
            prop_assert_eq!(byte, want, "at {:#x}", address);
        }
    }

    /// Devices see only what their regions declare.
    #[test]
    fn devices_see_declared_widths(start: u64, len in 0usize..40, min in 0u32..4, more in 0u32..4) {
        let (min, max) = (1u8 << min, 1u8 << (min + more).min(3));
        let mut rig = Rig::new();
        let first = start & !0xFFF;
        let region = Region::memory(first..=first + 0xFFF, Widths::between(min, max));
        let log = rig.add("toy", 0, &[region]);
        let bus = rig.build();
        bus.read(Space::Memory, start, &mut vec![0; len]);
        bus.write(Space::Memory, start, &vec![0; len]);
        for seen in take(&log) {
            let (at, width) = match seen {
                Seen::Read(at, width) => (at, width),
                Seen::Write(at, data) => (at, data.len()),
            };
            prop_assert!((usize::from(min)..=usize::from(max)).contains(&width));
            prop_assert_eq!(at.offset % width as u64, 0);
            prop_assert!(at.offset + width as u64 <= 0x1000);
        }
    }
}
