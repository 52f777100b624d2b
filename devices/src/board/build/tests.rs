//! The board seen from the program: ports in, events out.

use super::*;
use crate::memory_map::Shape;
use crate::time::ManualTime;

/// What a listener hears, in order.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Map,
    A20(bool),
    Event(Event),
}

#[derive(Default)]
struct Ear(Mutex<Vec<Heard>>);

impl Listener for Ear {
    fn map_changed(&self, _map: &Arc<MemoryMap>) {
        self.0.lock().unwrap().push(Heard::Map);
    }

    fn a20_changed(&self, open: bool) {
        self.0.lock().unwrap().push(Heard::A20(open));
    }

    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(Heard::Event(event));
    }
}

impl Ear {
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Bench {
    board: Board,
    ear: Arc<Ear>,
    time: Arc<ManualTime>,
}

fn options() -> BoardOptions {
    BoardOptions {
        ram: 64 << 20,
        debug_exit: Some((0x501, 2)),
        com3: true,
        com4: true,
        debugcon: Some(0x402),
        ..BoardOptions::default()
    }
}

fn build(options: BoardOptions) -> Result<Bench, BoardError> {
    let time = Arc::new(ManualTime::default());
    let parts = Parts {
        bios: vec![0xB1; 0x2_0000],
        ..Parts::default()
    };
    let board = Board::new(options, parts, Clock::new(time.clone()))?;
    let ear = Arc::new(Ear::default());
    board.connect(ear.clone());
    Ok(Bench { board, ear, time })
}

fn bench() -> Bench {
    build(options()).expect("a sound board")
}

#[test]
fn a_guest_ends_its_run_by_a_port() {
    let bench = bench();
    bench.board.port_write(0x501, &[0x21]);
    assert_eq!(bench.ear.heard(), [Heard::Event(Event::Exit(0x43))]);
}

#[test]
fn port_92_resets_the_system() {
    let bench = bench();
    bench.board.port_write(0x92, &[0x01]);
    assert_eq!(bench.ear.heard(), [Heard::Event(Event::Reset)]);
}

#[test]
fn all_the_ports_that_reset_do() {
    let bench = bench();
    let out = |port, byte| bench.board.port_write(port, &[byte]);
    for ports in [
        &[(0x92, 0x01)][..],
        &[(0x64, 0xFE)],
        &[(0x64, 0xD1), (0x60, 0xDE)],
        &[(0xCF9, 0x02), (0xCF9, 0x06)],
    ] {
        for (port, byte) in ports {
            out(*port, *byte);
        }
        assert_eq!(
            bench.ear.heard(),
            [Heard::Event(Event::Reset)],
            "{ports:x?}"
        );
        bench.board.reset();
    }
}

#[test]
fn ports_for_delays_belong_to_nobody() {
    let bench = bench();
    for port in [0x80, 0x84, 0x88, 0xED, 0xEB] {
        bench.board.port_write(port, &[0x55]);
        let mut byte = [0];
        bench.board.port_read(port, &mut byte);
        assert_eq!(byte, [0xFF], "{port:#x}");
    }
}

#[test]
fn the_keyboard_controller_has_a_say_in_a20() {
    let bench = bench();
    let out = |port, byte| bench.board.port_write(port, &[byte]);
    out(0x64, 0xDD);
    assert_eq!(bench.ear.heard(), [Heard::A20(false)]);
    out(0x92, 0x02);
    assert_eq!(bench.ear.heard(), [Heard::A20(true)]);
    out(0x64, 0xD1);
    out(0x60, 0xDD);
    assert_eq!(bench.ear.heard(), [Heard::A20(false)]);
    out(0x64, 0xDF);
    assert_eq!(bench.ear.heard(), [Heard::A20(true)]);
}

#[test]
fn the_users_hands_reach_the_guest() {
    let time = Arc::new(ManualTime::default());
    let parts = Parts {
        bios: vec![0xB1; 0x2_0000],
        ..Parts::default()
    };
    let input = parts.input.clone();
    let board = Board::new(options(), parts, Clock::new(time)).expect("a sound board");
    let mut status = [0];
    board.port_read(0x64, &mut status);
    assert_eq!(status[0] & 1, 0);
    // The keyboard's line, as firmware opens it.
    for (port, byte) in [
        (0x20u16, 0x11),
        (0x21, 0x08),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xFD),
    ] {
        board.port_write(port, &[byte]);
    }
    assert!(!board.chips().pending(0).interrupt);
    input.key(crate::backend::input::Key::from_name("a").unwrap(), true);
    board.poll_device("i8042");
    assert_eq!(board.chips().acknowledge(0), Some(9));
    board.port_read(0x60, &mut status);
    assert_eq!(status, [0x1C]);
}

#[test]
fn an_x87_error_is_interrupt_13() {
    let bench = bench();
    let out = |port, byte| bench.board.port_write(port, &[byte]);
    for (port, base, wiring) in [(0x20, 0x08, 0x04), (0xA0, 0x70, 0x02)] {
        out(port, 0x11);
        for byte in [base, wiring, 0x01, 0x00] {
            out(port + 1, byte);
        }
    }
    out(0x21, 0xFB);
    bench.board.set_ferr(true);
    assert_eq!(bench.board.chips().acknowledge(0), Some(0x75));
    assert!(!bench.board.ignne());
    bench.board.port_write(0xF0, &[0]);
    assert!(bench.board.ignne());
    bench.board.set_ferr(false);
    assert!(!bench.board.ignne());
}

#[test]
fn the_hpet_takes_the_timers_place() {
    let bench = bench();
    let out = |port, byte| bench.board.port_write(port, &[byte]);
    for (port, byte) in [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xFE)] {
        out(port, byte);
    }
    let ticks = |ms: u64| {
        let mut seen = 0;
        let end = bench.board.clock.now() + Duration::from_millis(ms);
        while let Some(due) = bench.board.poll().filter(|due| *due <= end) {
            bench.time.set(due.as_nanos() as u64);
            bench.board.poll();
            if bench.board.chips().acknowledge(0) == Some(8) {
                seen += 1;
                out(0x20, 0x20);
            }
        }
        bench.time.set(end.as_nanos() as u64);
        seen
    };
    for (port, byte) in [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)] {
        out(port, byte);
    }
    let hpet = |offset: u64, value: u32| {
        bench
            .board
            .mmio_write(0xFED0_0000 + offset, &value.to_le_bytes());
    };
    ticks(20);
    assert_eq!(ticks(100), 10, "the 8254 at 100 Hz");
    hpet(0x100, 0x14C);
    hpet(0x108, 100_000);
    hpet(0x108, 100_000);
    hpet(0x10, 3);
    ticks(20);
    assert_eq!(ticks(100), 100, "the HPET at 1000 Hz, and nobody else");
    hpet(0x10, 0);
    ticks(20);
    assert_eq!(ticks(100), 10);
}

#[test]
fn a20_follows_the_source_that_spoke_last() {
    let bench = bench();
    assert!(bench.board.a20());
    bench.board.port_write(0x92, &[0x02]);
    assert_eq!(bench.ear.heard(), []);
    bench.board.port_write(0x92, &[0x00]);
    assert_eq!(bench.ear.heard(), [Heard::A20(false)]);
    assert!(!bench.board.a20());
    let shut = bench.board.save();
    bench.board.reset();
    assert_eq!(bench.ear.heard(), [Heard::A20(true)]);
    bench.board.restore(&shut).expect("its own state");
    assert_eq!(bench.ear.heard(), [Heard::A20(false)]);
}

#[test]
fn what_the_user_plugs_in_must_find_its_ports_free() {
    for (port, old) in [(0x43, "i8254"), (0x3FF, "com1"), (0x4D1, "i8259")] {
        let mut options = options();
        options.debugcon = Some(port);
        let at = port.into();
        match build(options).map(|_| ()) {
            Err(BoardError::Bus(error)) => {
                let new = "debugcon";
                assert_eq!(error, BusError::Overlap { new, old, at });
            }
            other => panic!("{other:?}"),
        }
    }
    let mut options = options();
    options.debug_exit = Some((0xFFFF, 4));
    let refused = build(options).map(|_| ());
    assert!(matches!(
        refused,
        Err(BoardError::Bus(BusError::Range { .. }))
    ));
}

#[test]
fn a_board_without_options_has_no_debug_ports() {
    let mut options = options();
    (options.debugcon, options.debug_exit) = (None, None);
    let bench = build(options).expect("a sound board");
    let mut byte = [0];
    bench.board.port_read(0x402, &mut byte);
    assert_eq!(byte, [0xFF]);
    bench.board.port_write(0x501, &[0]);
    assert_eq!(bench.ear.heard(), []);
}

#[test]
fn the_timer_sets_the_boards_deadline() {
    let bench = bench();
    bench.board.port_write(0x43, &[0x34]);
    bench.board.port_write(0x40, &[0x00]);
    bench.board.port_write(0x40, &[0x10]);
    let first = bench.board.next_deadline().expect("the timer runs");
    bench.time.set(first.as_nanos() as u64);
    assert!(bench.board.poll().expect("it goes on") > first);
    assert_eq!(bench.board.next_deadline(), bench.board.poll());
}

#[test]
fn mmio_where_nobody_answers_floats() {
    let bench = bench();
    let mut data = [0; 8];
    bench.board.mmio_read(0xA_0000, &mut data);
    assert_eq!(data, [0xFF; 8]);
    bench.board.mmio_write(0xF_0000, &[1]);
    bench.board.map().cpu().read(0xF_0000, &mut data);
    assert_eq!(data, [0xB1; 8]);
}

#[test]
fn the_map_follows_the_host_bridge() {
    let bench = bench();
    let set = |pam0| {
        let mut shape = Shape::default();
        shape.pam[0] = pam0;
        bench.board.core.pci.shape.set(shape);
        bench.board.apply(Request::MapChanged);
    };
    let read = || {
        let mut data = [0];
        bench.board.map().cpu().read(0xF_0000, &mut data);
        data[0]
    };
    set(0x20);
    assert_eq!(bench.ear.heard(), [Heard::Map]);
    assert_eq!(read(), 0xB1);
    bench.board.mmio_write(0xF_0000, &[0x5A]);
    assert_eq!(read(), 0xB1, "reads still come from ROM");
    set(0x10);
    assert_eq!(read(), 0x5A, "the write went to the RAM behind it");
    assert_eq!(bench.ear.heard(), [Heard::Map]);
    set(0x10);
    assert_eq!(bench.ear.heard(), [], "nothing changed");
}

#[test]
fn a_device_interrupts_a_processor() {
    let bench = bench();
    let out = |port, byte| bench.board.port_write(port, &[byte]);
    for (port, byte) in [
        (0x20, 0x11),
        (0x21, 0x08),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xFE),
    ] {
        out(port, byte);
    }
    // Virtual wire, as firmware leaves it: the local APIC on, LINT0 in ExtINT mode.
    bench.board.chips().apic_write(0, 0xF0, 0x1FF);
    bench.board.chips().apic_write(0, 0x350, 0x700);
    out(0x43, 0x34);
    out(0x40, 0x00);
    out(0x40, 0x10);
    while bench.board.chips().pending(0).interrupt {
        bench.board.chips().acknowledge(0);
        out(0x20, 0x20);
    }
    let due = bench.board.next_deadline().expect("the timer runs");
    bench.time.set(due.as_nanos() as u64 + 5_000_000);
    bench.board.poll();
    assert!(bench.board.chips().pending(0).interrupt);
    assert_eq!(bench.board.chips().acknowledge(0), Some(8));
}

#[test]
fn threads_share_a_board() {
    fn shared<T: Send + Sync>() {}
    shared::<Board>();
}
