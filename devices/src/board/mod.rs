//! What the rows of a board are made of, and what a device is given when it is built.

pub mod build;
pub mod firmware;
pub mod pc;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::chardev::Chardev;
use crate::backend::drive::Drive;
use crate::backend::input::Input;
use crate::fw_cfg;
use crate::i8237::Dma;
use crate::memory_map::BusMaster;
use crate::smbios::System;
use crate::{Clock, IrqLine, Requests, portf0};

/// What a device is wired to when the board builds it.
pub struct Wiring {
    /// Guest time.
    pub clock: Clock,
    /// Where the device leaves what it wants of the machine.
    pub requests: Requests,
    /// Lines to the ISA interrupts its row names, in that order; see [`Wiring::irq`].
    pub irqs: Vec<IrqLine>,
    /// Guest memory, as a bus master reaches it.
    pub memory: BusMaster,
    /// The DMA controllers, for devices of the ISA bus.
    pub dma: Dma,
    /// The processor's FERR# and IGNNE#.
    pub x87_pins: portf0::Pins,
    /// What the user chose of the machine.
    pub options: Arc<BoardOptions>,
    /// What the user plugged in.
    pub parts: Arc<Parts>,
    /// The character backend this device's row is given (a null one when the user named none).
    pub chardev: Chardev,
}

impl Wiring {
    /// A driver of interrupt output `index` of the device's row; unconnected if it names fewer.
    pub fn irq(&self, index: usize) -> IrqLine {
        let line = self.irqs.get(index);
        line.map_or_else(IrqLine::unconnected, IrqLine::or_with)
    }
}

/// What the user plugs into a board.
#[derive(Debug, Default)]
pub struct Parts {
    /// The BIOS image.
    pub bios: Vec<u8>,
    /// Character backends by the name of the row they belong to.
    pub chardevs: BTreeMap<&'static str, Chardev>,
    /// What firmware is told beyond what the board tells it: kernel, boot order by device, files of the user's.
    pub fw_cfg: fw_cfg::Contents,
    /// The VGA BIOS, in the adapter's expansion ROM; without it there is no such ROM.
    pub vga_rom: Option<Vec<u8>>,
    /// The user's hands: keyboard, mouse, power button.
    pub input: Input,
    /// IDE drives: master and slave of the first channel, then of the second.
    pub ide: [Option<Drive>; 4],
}

/// What a user can choose of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardOptions {
    /// Guest RAM in bytes.
    pub ram: u64,
    /// Number of processors.
    pub cpus: u32,
    /// The RTC's time of day at guest time zero, in seconds since 1970-01-01 00:00 as the guest
    /// shall see them.
    pub rtc_base: i64,
    /// First port of the isa-debug-exit device, if there is one, and how many ports it has.
    pub debug_exit: Option<(u16, u16)>,
    /// First port of the debug console, if there is one.
    pub debugcon: Option<u16>,
    /// What firmware is told of the processors; the machine sets it by the processors' model.
    pub processor: Processor,
    /// The machine's UUID; zero if it has none.
    pub uuid: [u8; 16],
    /// What the machine says of itself.
    pub system: System,
    /// Firmware is told that nobody looks at a display.
    pub nographic: bool,
    /// How firmware is to boot.
    pub boot: Boot,
    /// The drives that the setup in CMOS knows.
    pub drives: Drives,
    /// There is a VGA adapter.
    pub vga: bool,
    /// There is a second serial port.
    pub com2: bool,
    /// There is a third one.
    pub com3: bool,
    /// There is a fourth one.
    pub com4: bool,
    /// Whether there is an HPET.
    pub hpet: bool,
    /// Whether the processors have system management mode: only then do SMIs come.
    pub smm: bool,
}

impl Default for BoardOptions {
    /// The stock machine: 128 MiB, one processor.
    fn default() -> Self {
        Self {
            ram: 128 << 20,
            cpus: 1,
            rtc_base: 0,
            debug_exit: None,
            debugcon: None,
            vga: false,
            com2: true,
            com3: false,
            com4: false,
            hpet: true,
            smm: false,
            processor: Processor::default(),
            uuid: [0; 16],
            system: System::default(),
            nographic: false,
            boot: Boot::default(),
            drives: Drives::default(),
        }
    }
}

/// What firmware is told of the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// Family, model and stepping: CPUID.1:EAX.
    pub signature: u32,
    /// CPUID.1:EDX.
    pub features: u32,
    /// AMD's: the addresses of HyperTransport below 1 TiB are reserved.
    pub amd: bool,
}

/// A kind of device to boot from; the number is that in CMOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BootDevice {
    /// A floppy disk.
    Floppy = 1,
    /// A hard disk.
    HardDisk = 2,
    /// A CD-ROM.
    CdRom = 3,
    /// The network.
    Network = 4,
}

/// The kinds of devices to boot from, the first first; `None` ends the list.
pub type BootOrder = [Option<BootDevice>; 3];

/// How firmware is to boot (`-boot`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// What to boot from.
    pub order: BootOrder,
    /// The same until the first reset, if it is another.
    pub once: Option<BootOrder>,
    /// Offer a menu.
    pub menu: bool,
    /// How long the menu or the picture is shown, in milliseconds.
    pub splash_time: Option<u16>,
    /// After how many milliseconds to start again when there is nothing to boot.
    pub reboot_timeout: Option<u32>,
    /// Devices to boot from before any other (`bootindex`): their Open Firmware paths, the first first.
    pub devices: Vec<String>,
    /// Boot from no device but these, if there are any.
    pub strict: bool,
}

impl Default for Boot {
    /// Hard disk, floppy, CD-ROM; no menu.
    fn default() -> Self {
        use BootDevice::{CdRom, Floppy, HardDisk};
        Self {
            order: [Some(HardDisk), Some(Floppy), Some(CdRom)],
            once: None,
            menu: false,
            splash_time: None,
            reboot_timeout: None,
            devices: Vec::new(),
            strict: false,
        }
    }
}

/// A kind of floppy drive; the number is that in CMOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FloppyDrive {
    /// 5.25 inches, 1.2 MB.
    Mb1_2 = 2,
    /// 3.5 inches, 1.44 MB.
    Mb1_44 = 4,
    /// 3.5 inches, 2.88 MB.
    Mb2_88 = 5,
}

/// A hard disk as the setup knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardDisk {
    /// Cylinders, at most 16383.
    pub cylinders: u16,
    /// Heads, at most 16.
    pub heads: u8,
    /// Sectors of a track, at most 63.
    pub sectors: u8,
    /// How the BIOS makes its geometry of it.
    pub translation: Translation,
}

/// How the BIOS's geometry of a disk follows from the disk's own; the number is that in CMOS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Translation {
    /// It is the same.
    #[default]
    None = 0,
    /// By the number of sectors, with 63 in a track.
    Lba = 1,
    /// Half the cylinders, twice the heads, until it fits.
    Large = 2,
    /// The same, beginning at 15 heads.
    RevisedLarge = 3,
}

/// The drives that the setup in CMOS knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drives {
    /// Floppy drives A: and B:.
    pub floppies: [Option<FloppyDrive>; 2],
    /// IDE disks: master and slave of the first channel, then of the second. CD-ROMs are none.
    pub disks: [Option<HardDisk>; 4],
}

impl Default for Drives {
    /// An empty 2.88 MB drive and no disk.
    fn default() -> Self {
        Self {
            floppies: [Some(FloppyDrive::Mb2_88), None],
            disks: [None; 4],
        }
    }
}
