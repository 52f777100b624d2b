//! Facts: QEMU 7.2 `-M pc`, read through its qtest protocol.

use crate::Request;
use crate::memory_map::Shape;
use crate::pci::tests::{Machine, image};

const HEAD: &[u8] = &[0x86, 0x80, 0x37, 0x12, 0, 0, 0, 0, 0x02, 0, 0, 0x06];
const SUBSYSTEM: &[u8] = &[0xF4, 0x1A, 0x00, 0x11];

#[test]
fn reset_values_are_the_references() {
    let facts = image(&[
        (0, HEAD),
        (0x2C, SUBSYSTEM),
        (0x57, &[0x10]),
        (0x72, &[0x02]),
    ]);
    assert_eq!(Machine::new().dump(0), facts);
}

#[test]
fn writable_bits_are_the_references_but_for_d_lck() {
    let mut m = Machine::new();
    let mut ones = image(&[
        (0, HEAD),
        (0x04, &[0x07, 0x05]),
        (0x0C, &[0xFF]),
        (0x2C, SUBSYSTEM),
        (0x3C, &[0xFF]),
        (0x40, &[0xFF; 192]),
    ]);
    ones[0x72] = 0xBF; // the reference: FF
    assert_eq!(m.walk(0, 0xFF), ones);
    let mut zeros = image(&[(0, HEAD), (0x2C, SUBSYSTEM)]);
    zeros[0x72] = 0xBF; // the reference: 0
    assert_eq!(m.walk(0, 0), zeros);
}

#[test]
fn pam_and_smram_reach_the_board() {
    let mut m = Machine::new();
    let reset = Shape {
        pam: [0; 7],
        smram: 0x02,
    };
    assert_eq!(m.handles.shape.get(), reset);
    m.put(0, 0x58, &[0, 0x30]);
    m.put(0, 0x5C, &[0x00, 0x11, 0x22, 0x33]);
    assert_eq!(m.handles.shape.get().pam, [0x30, 0, 0, 0, 0x11, 0x22, 0x33]);
    assert_eq!(m.bench.wiring.requests.take(), [Request::MapChanged]);
    m.put(0, 0x59, &[0x30]);
    assert_eq!(m.bench.wiring.requests.take(), [], "nothing changed");
    m.reset();
    assert_eq!(m.handles.shape.get(), reset);
    assert_eq!(m.bench.wiring.requests.take(), [Request::MapChanged]);
}

#[test]
fn a_locked_smram_stays_until_reset() {
    let mut m = Machine::new();
    m.put(0, 0x72, &[0x4A]);
    assert_eq!(m.handles.shape.get().smram, 0x4A, "open");
    m.put(0, 0x72, &[0x5A]);
    assert_eq!(m.get::<1>(0, 0x72), [0x1A], "the lock closes it");
    m.put(0, 0x70, &[0, 0, 0x4A, 0]);
    assert_eq!(m.handles.shape.get().smram, 0x1A);
    m.reset();
    m.put(0, 0x72, &[0x4A]);
    assert_eq!(m.handles.shape.get().smram, 0x4A);
}
