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
        cpus: 1,
        rtc_base: 0,
        debug_exit: Some((0x501, 2)),
        debugcon: Some(0x402),
        hpet: true,
        smm: false,
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
