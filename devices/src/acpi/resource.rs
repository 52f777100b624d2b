//! Resource descriptors: what a device occupies, and what a bus passes on.
//!
//! Document: ACPI 6.5, 6.4 "Resource Data Types for ACPI".

use super::aml::{Aml, buffer};

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource(Vec<u8>);

/// Small descriptors: type and length in one byte.
const IRQ_NO_FLAGS: u8 = 0x22;
const DMA: u8 = 0x2A;
const IO_PORTS: u8 = 0x47;
const END_TAG: u8 = 0x79;
/// Large descriptors.
const MEMORY32_FIXED: u8 = 0x86;
const DWORD_ADDRESS: u8 = 0x87;
const WORD_ADDRESS: u8 = 0x88;
const EXTENDED_INTERRUPT: u8 = 0x89;
const QWORD_ADDRESS: u8 = 0x8A;

/// Kinds of address space descriptors.
const MEMORY_RANGE: u8 = 0;
const IO_RANGE: u8 = 1;
const BUS_NUMBERS: u8 = 2;
/// A bus passes it on (bit 0 clear: producer), decoded positively, both ends fixed.
const PRODUCED_FIXED: u8 = 1 << 2 | 1 << 3;
/// All of the I/O range.
const ENTIRE_RANGE: u8 = 3;
const READ_WRITE: u8 = 1;
const CACHEABLE: u8 = 1 << 1;

/// Where the number lies in an [`interrupts`] descriptor.
pub const INTERRUPT_NUMBER: u64 = 5;

/// `ResourceTemplate () { resources }`
pub fn template(resources: &[Resource]) -> Aml {
    let mut bytes: Vec<u8> = resources.iter().flat_map(|r| r.0.iter().copied()).collect();
    // A checksum of zero: none.
    bytes.extend([END_TAG, 0]);
    buffer(&bytes)
}

/// `length` ports from `base` on.
pub fn ports(base: u16, length: u8) -> Resource {
    const DECODE_16: u8 = 1;
    let [low, high] = base.to_le_bytes();
    Resource(vec![IO_PORTS, DECODE_16, low, high, low, high, 1, length])
}

/// An ISA interrupt: edge, active high, exclusive.
pub fn irq(number: u8) -> Resource {
    let [low, high] = (1u16 << (number & 15)).to_le_bytes();
    Resource(vec![IRQ_NO_FLAGS, low, high])
}

/// An ISA DMA channel: 8 bits wide, compatible timing, no bus master.
pub fn dma(channel: u8) -> Resource {
    Resource(vec![DMA, 1 << (channel & 7), 0])
}

/// The ISA DMA channel that joins the two controllers.
pub fn cascade_dma(channel: u8) -> Resource {
    const BUS_MASTER: u8 = 1 << 2;
    const TRANSFER_16: u8 = 2;
    Resource(vec![DMA, 1 << (channel & 7), BUS_MASTER | TRANSFER_16])
}

/// Registers in memory.
pub fn registers(base: u32, length: u32) -> Resource {
    let mut rest = vec![READ_WRITE];
    rest.extend(base.to_le_bytes());
    rest.extend(length.to_le_bytes());
    large(MEMORY32_FIXED, &rest)
}

/// One of these interrupts: level, active high, shared, as the PIIX3 passes on PCI interrupts.
pub fn interrupts(numbers: &[u32]) -> Resource {
    const CONSUMER: u8 = 1;
    const SHARED: u8 = 1 << 3;
    let mut rest = vec![CONSUMER | SHARED, numbers.len() as u8];
    rest.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    large(EXTENDED_INTERRUPT, &rest)
}

/// The bus numbers a host bridge serves.
pub fn bus_numbers(first: u16, last: u16) -> Resource {
    word_range(BUS_NUMBERS, 0, first, last)
}

/// The ports a host bridge passes on.
pub fn port_window(first: u16, last: u16) -> Resource {
    word_range(IO_RANGE, ENTIRE_RANGE, first, last)
}

/// The memory a host bridge passes on, below 4 GiB.
pub fn memory_window(first: u32, last: u32, cacheable: bool) -> Resource {
    let length = (last - first).wrapping_add(1);
    let fields = [0, first, last, 0, length].map(u32::to_le_bytes);
    range(
        DWORD_ADDRESS,
        MEMORY_RANGE,
        memory_flags(cacheable),
        fields.as_flattened(),
    )
}

/// The memory a host bridge passes on, anywhere.
pub fn memory_window_64(first: u64, last: u64, cacheable: bool) -> Resource {
    let length = (last - first).wrapping_add(1);
    let fields = [0, first, last, 0, length].map(u64::to_le_bytes);
    range(
        QWORD_ADDRESS,
        MEMORY_RANGE,
        memory_flags(cacheable),
        fields.as_flattened(),
    )
}

fn memory_flags(cacheable: bool) -> u8 {
    READ_WRITE | if cacheable { CACHEABLE } else { 0 }
}

fn word_range(kind: u8, flags: u8, first: u16, last: u16) -> Resource {
    let length = (last - first).wrapping_add(1);
    let fields = [0, first, last, 0, length].map(u16::to_le_bytes);
    range(WORD_ADDRESS, kind, flags, fields.as_flattened())
}

/// Granularity, first, last, translation and length behind what they are of.
fn range(tag: u8, kind: u8, flags: u8, fields: &[u8]) -> Resource {
    let mut rest = vec![kind, PRODUCED_FIXED, flags];
    rest.extend(fields);
    large(tag, &rest)
}

fn large(tag: u8, rest: &[u8]) -> Resource {
    let [low, high] = (rest.len() as u16).to_le_bytes();
    let mut bytes = vec![tag, low, high];
    bytes.extend(rest);
    Resource(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_ends_with_its_tag() {
        let serial = template(&[ports(0x3F8, 8), irq(4)]);
        let bytes = b"\x11\x10\x0A\x0D\x47\x01\xF8\x03\xF8\x03\x01\x08\x22\x10\x00\x79\x00";
        assert_eq!(serial.bytes(), bytes);
    }

    #[test]
    fn the_number_is_where_it_is_patched() {
        let Resource(bytes) = interrupts(&[0x1234_5678]);
        assert_eq!(bytes.len(), 9);
        assert_eq!(bytes[INTERRUPT_NUMBER as usize..], [0x78, 0x56, 0x34, 0x12]);
    }

    #[test]
    fn a_window_of_everything_has_no_length_that_fits() {
        let Resource(bytes) = port_window(0, 0xFFFF);
        assert_eq!(bytes.len(), 16);
        assert_eq!(bytes[14..], [0, 0]);
    }
}
