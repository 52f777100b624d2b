//! Facts: QEMU 7.2 `-M pc`, read through its qtest protocol.

use super::*;
use crate::memory_map::SharedShape;
use crate::pci::intx::PirqRouter;
use crate::pci::tests::image;
use crate::testbench::{Bench, inb, outb};

struct Rig {
    bench: Bench,
    /// The host's queue.
    host: Requests,
    device: Box<dyn Function>,
}

impl Rig {
    fn new() -> Self {
        Self::with_smm(true)
    }

    fn with_smm(smm: bool) -> Self {
        let options = (*Bench::new().wiring.options).clone();
        let bench = Bench::with(crate::board::BoardOptions { smm, ..options });
        let host = Requests::default();
        let place = Place {
            wiring: &bench.wiring,
            requests: &host,
            shape: &SharedShape::default(),
            router: &PirqRouter::new(|_| IrqLine::unconnected()),
            slot: 1,
            function: 3,
        };
        let device = new(&place);
        Self {
            bench,
            host,
            device,
        }
    }

    fn dump(&mut self) -> Vec<u8> {
        let mut all = vec![0; 256];
        for (at, bytes) in all.chunks_mut(4).enumerate() {
            self.device.read_config(at * 4, bytes);
        }
        all
    }

    fn inw(&mut self, offset: u64) -> u16 {
        let mut data = [0xFF; 2];
        self.device.read(At { region: PM, offset }, &mut data);
        u16::from_le_bytes(data)
    }

    fn outw(&mut self, offset: u64, value: u16) {
        self.device
            .write(At { region: PM, offset }, &value.to_le_bytes());
    }

    fn timer(&mut self) -> u32 {
        let mut data = [0xFF; 4];
        self.device.read(
            At {
                region: PM,
                offset: 8,
            },
            &mut data,
        );
        u32::from_le_bytes(data)
    }

    fn apm(&mut self, byte: u8) {
        outb(self.device.as_mut(), APM, 0, byte);
    }

    fn sci(&self) -> bool {
        self.bench.probe.level(0)
    }

    fn requests(&self) -> Vec<Request> {
        self.bench.wiring.requests.take()
    }

    /// One SMBus transaction: status, and the two data bytes.
    fn smbus(&mut self, address: u8, read: bool, command: u8, protocol: u8) -> (u8, u8, u8) {
        let device = self.device.as_mut();
        outb(device, SMBUS, 0, 0x1E);
        outb(device, SMBUS, 4, address << 1 | u8::from(read));
        outb(device, SMBUS, 3, command);
        outb(device, SMBUS, 2, START | protocol << 2);
        (
            inb(device, SMBUS, 0),
            inb(device, SMBUS, 5),
            inb(device, SMBUS, 6),
        )
    }
}

const START: u8 = 1 << 6;

#[test]
fn reset_values_are_the_references() {
    let facts = |devactb: &[u8]| {
        image(&[
            (
                0x00,
                &[
                    0x86, 0x80, 0x13, 0x71, 0, 0, 0x80, 0x02, 0x03, 0, 0x80, 0x06,
                ],
            ),
            (0x2C, &[0xF4, 0x1A, 0x00, 0x11]),
            (0x3D, &[0x01]),
            (0x40, &[0x01]),
            (0x58, devactb),
            (0x5F, &[0x90]),
            (0x63, &[0x60]),
            (0x67, &[0x08]),
            (0x90, &[0x01, 0xB1]),
            (0xD2, &[0x09]),
        ])
    };
    assert_eq!(Rig::new().dump(), facts(&[0; 4]));
    // With -machine smm=off.
    assert_eq!(Rig::with_smm(false).dump(), facts(&[0, 0, 0, 2]));
}

#[test]
fn windows_go_where_firmware_puts_them() {
    let mut rig = Rig::new();
    let ports = |rig: &Rig| -> Vec<_> {
        let windows = rig.device.windows().into_iter();
        windows
            .map(|(n, region)| (n, *region.range.start(), *region.range.end()))
            .collect()
    };
    assert_eq!(ports(&rig), [(SMBUS, 0xB100, 0xB13F)]);
    rig.host.take();
    rig.device.write_config(0x40, &0x0601u32.to_le_bytes());
    assert_eq!(rig.host.take(), []);
    rig.device.write_config(0x80, &[1]);
    rig.device.write_config(0x90, &0x0701u32.to_le_bytes());
    assert_eq!(ports(&rig), [(PM, 0x600, 0x63F), (SMBUS, 0x700, 0x73F)]);
    assert_eq!(rig.host.take(), [Request::MapChanged]);
    let mut base = [0; 4];
    rig.device.write_config(0x40, &[0xFF; 4]);
    rig.device.read_config(0x40, &mut base);
    assert_eq!(base, [0xC1, 0xFF, 0, 0], "bit 0 says it is I/O");
    rig.device.reset();
    assert_eq!(ports(&rig), [(SMBUS, 0xB100, 0xB13F)]);
}

#[test]
fn acpi_registers_read_as_the_references() {
    let mut rig = Rig::new();
    let bytes: Vec<u8> = (0..16).map(|n| inb(rig.device.as_mut(), PM, n)).collect();
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF
        ]
    );
    rig.outw(4, 0xDFFF);
    assert_eq!(rig.inw(4), 0xDFFF);
    rig.outw(2, 0xFFFF);
    assert_eq!(rig.inw(2), 0xFFFF);
    rig.outw(4, 0);
    rig.apm(0xF1);
    assert_eq!((rig.inw(4), inb(rig.device.as_mut(), APM, 0)), (1, 0xF1));
    rig.apm(0xF0);
    assert_eq!(rig.inw(4), 0);
    assert_eq!(rig.requests(), []);
    for (offset, value) in [
        (0, 0u32),
        (4, 0),
        (8, 0),
        (0x0C, 0xFFFF_FFF8),
        (0x10, 0),
        (0x14, 0),
    ] {
        let mut data = [0xFF; 4];
        rig.device.read(
            At {
                region: PCI_HOTPLUG,
                offset,
            },
            &mut data,
        );
        assert_eq!(u32::from_le_bytes(data), value, "{offset:#x}");
    }
    assert_eq!(inb(rig.device.as_mut(), CPU_HOTPLUG, 0), 1);
    assert_eq!(inb(rig.device.as_mut(), CPU_HOTPLUG, 1), 0);
}

#[test]
fn smis_come_where_they_are_enabled() {
    let mut rig = Rig::new();
    rig.apm(0);
    assert_eq!(rig.requests(), []);
    rig.device.write_config(0x58, &APMC_EN.to_le_bytes());
    rig.apm(0);
    assert_eq!(rig.requests(), [Request::Smi]);
    let mut without = Rig::with_smm(false);
    without.apm(0);
    assert_eq!(without.requests(), []);
}

#[test]
fn sleep_turns_it_off() {
    for (value, off) in [
        (0x2000, true),
        (0x2800, true),
        (0x2400, false),
        (0x0000, false),
    ] {
        let mut rig = Rig::new();
        rig.outw(4, value | SCI_EN);
        let expected = if off { vec![Request::PowerOff] } else { vec![] };
        assert_eq!(rig.requests(), expected, "{value:#x}");
        assert_eq!(rig.inw(4), (value | SCI_EN) & !SLP_EN);
    }
    // A byte at a time, too.
    let mut rig = Rig::new();
    outb(rig.device.as_mut(), PM, 5, 0x20);
    assert_eq!(rig.requests(), [Request::PowerOff]);
}

#[test]
fn the_timer_counts_24_bits_of_exact_ticks() {
    let mut rig = Rig::new();
    rig.bench.time.set(1_000_000_000);
    assert_eq!(rig.timer(), 3_579_545);
    rig.bench.time.set(10_000_000_000);
    assert_eq!(rig.timer(), 35_795_450 & 0xFF_FFFF);
}

#[test]
fn the_timer_interrupts_when_its_highest_bit_turns() {
    let mut rig = Rig::new();
    rig.outw(0, 1);
    rig.outw(2, 1);
    assert!(!rig.sci());
    let half = TIMER.instant_of(1 << 23);
    assert_eq!(rig.device.poll(Duration::ZERO), Some(half));
    let ns = half.as_nanos() as u64;
    assert_eq!(rig.bench.poll_at(rig.device.as_mut(), ns - 1), Some(half));
    assert!(!rig.sci());
    assert_eq!(rig.bench.poll_at(rig.device.as_mut(), ns), None);
    assert!(rig.sci());
    assert_eq!((rig.timer(), rig.inw(0)), (0x80_0000, 1));
    rig.outw(0, 1);
    assert!(!rig.sci());
    assert_eq!(rig.device.poll(half), Some(TIMER.instant_of(1 << 24)));
}

#[test]
fn the_power_button_is_an_sci() {
    let mut rig = Rig::new();
    let input = rig.bench.wiring.parts.input.clone();
    input.press_power();
    rig.device.poll(Duration::ZERO);
    rig.outw(0, 1);
    assert_eq!(rig.inw(0), 0, "nobody waited for it");
    rig.outw(2, 1 << 8);
    input.press_power();
    rig.device.poll(Duration::ZERO);
    assert_eq!((rig.inw(0), rig.sci()), (1 << 8, true));
    rig.outw(0, 1 << 8);
    assert_eq!((rig.inw(0), rig.sci()), (0, false));
}

#[test]
fn memory_slots_answer_on_the_smbus() {
    let mut rig = Rig::new();
    assert_eq!(rig.smbus(0x50, true, 2, 2), (2, 0, 0));
    assert_eq!(rig.smbus(0x30, true, 0, 2), (4, 0, 0), "nobody there");
    assert_eq!(rig.smbus(0x50, true, 0, 7), (4, 0, 0), "no such protocol");
    for protocol in [0, 1, 2, 3, 5] {
        assert_eq!(rig.smbus(0x57, true, 0, protocol).0, 2);
    }
    let device = rig.device.as_mut();
    outb(device, SMBUS, 5, 0x55);
    outb(device, SMBUS, 6, 0xAA);
    assert_eq!(rig.smbus(0x52, false, 0x10, 3).0, 2);
    assert_eq!(rig.smbus(0x52, true, 0x10, 3), (2, 0x55, 0xAA));
    assert_eq!(rig.smbus(0x52, false, 0x11, 1).0, 2);
    assert_eq!(rig.smbus(0x52, true, 0, 1), (2, 0xAA, 0xAA), "receive byte");
}

#[test]
fn blocks_go_through_one_port() {
    let mut rig = Rig::new();
    outb(rig.device.as_mut(), SMBUS, 5, 3);
    inb(rig.device.as_mut(), SMBUS, 2);
    for byte in [7, 8, 9] {
        outb(rig.device.as_mut(), SMBUS, 7, byte);
    }
    assert_eq!(rig.smbus(0x50, false, 0x20, 5).0, 2);
    assert_eq!(rig.smbus(0x50, true, 0x20, 5), (2, 3, 0));
    inb(rig.device.as_mut(), SMBUS, 2);
    let block: Vec<u8> = (0..3).map(|_| inb(rig.device.as_mut(), SMBUS, 7)).collect();
    assert_eq!(block, [7, 8, 9]);
    // A length beyond the block is an error, not a crash.
    outb(rig.device.as_mut(), SMBUS, 5, 0xFF);
    assert_eq!(rig.smbus(0x50, false, 0x20, 5).0, 4);
}

#[test]
fn the_smbus_interrupts_on_irq_9_if_asked() {
    let mut rig = Rig::new();
    outb(rig.device.as_mut(), SMBUS, 4, 0xA1);
    outb(rig.device.as_mut(), SMBUS, 2, START | 1);
    assert!(rig.sci());
    outb(rig.device.as_mut(), SMBUS, 0, 2);
    assert!(!rig.sci());
}
