//! Facts: QEMU 7.2 `-M pc`, read through its qtest protocol.

use crate::pci::tests::{Machine, image};

const HEAD: &[u8] = &[
    0x86, 0x80, 0x00, 0x70, 0, 0, 0, 0x02, 0, 0, 0x01, 0x06, 0, 0, 0x80,
];
const SUBSYSTEM: &[u8] = &[0xF4, 0x1A, 0x00, 0x11];

#[test]
fn reset_values_are_the_references() {
    let facts = image(&[
        (0x00, HEAD),
        (0x2C, SUBSYSTEM),
        (0x4C, &[0x4D, 0x00, 0x03]),
        (0x60, &[0x80; 4]),
        (0x69, &[0x02]),
        (0x70, &[0x80]),
        (0x76, &[0x0C, 0x0C, 0x02]),
        (0xA0, &[0x08]),
        (0xA8, &[0x0F]),
    ]);
    assert_eq!(Machine::new().dump(1), facts);
}

#[test]
fn writable_bits_are_the_references() {
    let mut m = Machine::new();
    let ones = image(&[
        (0x00, HEAD),
        (0x04, &[0x07, 0x05]),
        (0x0C, &[0xFF]),
        (0x2C, SUBSYSTEM),
        (0x3C, &[0xFF]),
        (0x40, &[0xFF; 192]),
    ]);
    assert_eq!(m.walk(1, 0xFF), ones);
    assert_eq!(m.walk(1, 0), image(&[(0, HEAD), (0x2C, SUBSYSTEM)]));
}
