//! Intel 82371AB (PIIX4) function 3: power management and SMBus, function 00:01.3.
//!
//! Datasheets: Intel 290562, "Power Management"; ACPI 1.0b, 4.7.3 "Fixed Hardware Registers". Regions: [`PM`], 64 ports at
//! PMBA (40h) while 80h bit 0 is set; [`SMBUS`], 64 ports at SMBBA (90h) while D2h bit 0 is set; and
//! where the stock machine has them whatever the configuration says: GPE0 at AFE0h, APM control and status at
//! B2h, PCI hotplug at AE00h, processor hotplug at AF00h. IRQ 9 is the SCI, a level.
//!
//! A write of F1h or F0h to APM control turns ACPI on or off at once, without SMM, as on the stock machine; another
//! one is an SMI where DEVACTB (58h) bit 25 allows it and the machine has SMM. Without SMM that bit is set
//! after reset: by it SeaBIOS takes SMM as set up and leaves it alone. Status and enable bits make an
//! SCI whether SCI_EN is set or not, as there. The power button is seen while PWRBTN_EN is set; before, no
//! operating system would know what to make of it.
//!
//! Sleep types are those of the stock machine's tables: 0 is S5, 2 is S4, and both turn it off.
//! Not modelled: S3 (type 1: nothing happens), the RTC and global status bits, bus master status,
//! throttling, C-states, general purpose I/O and device monitors (ports from PMBA + 0Ch on float, as
//! there), hotplug of slots and processors (nothing is ever inserted or removed; ejecting does nothing; processors
//! are told by a bit each, the newer interface that a write to AF00h opens there is not here).

mod smbus;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::input::Input;
use crate::bus::{Region, Widths};
use crate::pci::config::{self, Config, Identity};
use crate::pci::intx::Pin;
use crate::pci::{FIXED, Function, Place};
use crate::regmap::Reg;
use crate::time::Rate;
use crate::{At, Clock, Device, IrqLine, Request, Requests, RestoreError, State};
use smbus::Smbus;

/// The PM timer's clock: the colour burst's frequency.
const TIMER: Rate = Rate::hz(3_579_545);
/// The PM timer's bits.
const TIMER_MASK: u64 = 0xFF_FFFF;
/// Ticks between two changes of its highest bit.
const TIMER_HALF: u64 = 1 << 23;
const VERSION: u32 = 1;

/// Window: the registers of ACPI.
pub const PM: u8 = 0;
/// Window: the SMBus controller.
pub const SMBUS: u8 = 1;
const GPE0: u8 = FIXED;
const APM: u8 = FIXED + 1;
const PCI_HOTPLUG: u8 = FIXED + 2;
const CPU_HOTPLUG: u8 = FIXED + 3;
/// Ports of each window.
const WINDOW: u64 = 64;

/// The function's fixed regions.
pub const REGIONS: &[Region] = &[
    Region::ports(0xAFE0..=0xAFE3, Widths::BYTE),
    Region::ports(0xB2..=0xB3, Widths::BYTE),
    Region::ports(0xAE00..=0xAE17, Widths::DWORD),
    Region::ports(0xAF00..=0xAF1F, Widths::BYTE),
];

const PMBA: usize = 0x40;
const DEVACTB: usize = 0x58;
const PMREGMISC: usize = 0x80;
const SMBBA: usize = 0x90;
const SMBHSTCFG: usize = 0xD2;

/// DEVACTB: writes to APM control cause SMIs.
const APMC_EN: u32 = 1 << 25;
/// PMREGMISC and SMBHSTCFG: the window is open.
const OPEN: u8 = 1 << 0;
/// SMBHSTCFG: its interrupt is IRQ 9 rather than SMI#.
const SMBUS_IRQ9: u8 = 1 << 3;

/// APM control: ACPI on, off.
const ACPI_ENABLE: u8 = 0xF1;
const ACPI_DISABLE: u8 = 0xF0;

/// PM1 control.
const SCI_EN: u16 = 1 << 0;
const SLP_TYP_SHIFT: u32 = 10;
const SLP_EN: u16 = 1 << 13;

/// Slots that could be unplugged: all but the chipset's and the display adapter's.
const REMOVABLE: u32 = 0xFFFF_FFF8;

bitflags::bitflags! {
    /// PM1 status, and enable at the same bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pm1: u16 {
        const TIMER = 1 << 0;
        const GLOBAL = 1 << 5;
        const POWER_BUTTON = 1 << 8;
        const RTC = 1 << 10;
    }
}

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x7113,
    revision: 0x03,
    class: 0x06_8000,
    multifunction: false,
};

/// Reset values are the datasheet's, but for DEVRESx (5Ch-67h), which tell of the serial and parallel
/// ports as the stock machine's do, and SMBBA, which it has open at B100h.
#[rustfmt::skip]
const ROWS: &[Reg] = &[
    config::status(0x0280), // fast back-to-back, DEVSEL# timing: medium
    Reg::rw("stored",    0x40, 1, 0x00, 0xFF).times(192),
    Reg::rw("PMBA",      0x40, 4, 0x0000_0001, 0x0000_FFC0),
    Reg::rw("DEVRESB",   0x5C, 4, 0x9000_0000, 0xFFFF_FFFF),
    Reg::rw("DEVRESC",   0x60, 4, 0x6000_0000, 0xFFFF_FFFF),
    Reg::rw("DEVRESE",   0x64, 4, 0x0800_0000, 0xFFFF_FFFF),
    Reg::rw("SMBBA",     0x90, 4, 0x0000_B101, 0x0000_FFC0),
    Reg::rw("SMBHSTCFG", 0xD2, 1, 0x09, 0xFF),
];

/// DEVACTB where there is no SMM.
const ROW_WITHOUT_SMM: Reg = Reg::rw("DEVACTB", 0x58, 4, APMC_EN as u64, 0xFFFF_FFFF);

/// Builds the function; `place.wiring.irq(0)` is IRQ 9.
pub fn new(place: &Place<'_>) -> Box<dyn Function> {
    let options = &place.wiring.options;
    let mut rows = ROWS.to_vec();
    if !options.smm {
        rows.push(ROW_WITHOUT_SMM);
    }
    let config = Config::new(IDENTITY, &rows, place.requests);
    Box::new(Piix4Pm {
        // The pin is there, but the SCI is not wired to it.
        config: config.with_intx(Pin::A, IrqLine::unconnected()),
        clock: place.wiring.clock.clone(),
        sci: place.wiring.irq(0),
        requests: place.wiring.requests.clone(),
        host_requests: place.requests.clone(),
        input: place.wiring.parts.input.clone(),
        cpus: options.cpus,
        smm: options.smm,
        chip: Chip::new(),
    })
}

struct Piix4Pm {
    config: Config,
    clock: Clock,
    sci: IrqLine,
    requests: Requests,
    /// For what configuration accesses cause.
    host_requests: Requests,
    input: Input,
    cpus: u32,
    smm: bool,
    chip: Chip,
}

/// What is saved, besides the configuration space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// PM1 status, without the timer's bit.
    status: u16,
    enable: u16,
    control: u16,
    /// The tick from which on the timer's status bit is set.
    overflow: u64,
    gpe_enable: [u8; 2],
    apm_control: u8,
    apm_status: u8,
    /// The bus whose slots PCI hotplug shows.
    hotplug_bus: u32,
    smbus: Smbus,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: Vec<u8>,
    chip: Chip,
}

impl Chip {
    fn new() -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            overflow: 0,
            gpe_enable: [0; 2],
            apm_control: 0,
            apm_status: 0,
            hotplug_bus: 0,
            smbus: Smbus::new(),
        }
    }

    fn status(&self, tick: u64) -> Pm1 {
        let mut status = Pm1::from_bits_retain(self.status);
        status.set(Pm1::TIMER, tick >= self.overflow);
        status
    }

    fn enable(&self) -> Pm1 {
        Pm1::from_bits_retain(self.enable)
    }

    /// The PM registers as bytes; the rest of their window floats.
    fn pm_byte(&self, offset: u64, tick: u64) -> Option<u8> {
        let byte = |word: u16| word.to_le_bytes()[(offset & 1) as usize];
        let timer = (tick & TIMER_MASK).to_le_bytes();
        match offset {
            0..=1 => Some(byte(self.status(tick).bits())),
            2..=3 => Some(byte(self.enable)),
            4..=5 => Some(byte(self.control)),
            8..=11 => Some(timer[(offset - 8) as usize]),
            _ => None,
        }
    }

    fn clear_status(&mut self, bits: u16, tick: u64) {
        if bits & Pm1::TIMER.bits() != 0 && tick >= self.overflow {
            self.overflow = (tick & !(TIMER_HALF - 1)).saturating_add(TIMER_HALF);
        }
        self.status &= !bits;
    }
}

/// `word` with its low or high byte (by the parity of `offset`) replaced.
fn with_byte(word: u16, offset: u64, byte: u8) -> u16 {
    let mut bytes = word.to_le_bytes();
    bytes[(offset & 1) as usize] = byte;
    u16::from_le_bytes(bytes)
}

impl Piix4Pm {
    fn tick(&self) -> u64 {
        TIMER.ticks_at(self.clock.now())
    }

    fn sci_level(&self, tick: u64) -> bool {
        let smbus = self.config.regs().u8(SMBHSTCFG) & SMBUS_IRQ9 != 0;
        let chip = &self.chip;
        chip.status(tick).intersects(chip.enable() & Pm1::all()) || smbus && chip.smbus.interrupts()
    }

    fn drive(&self) {
        self.sci.set_level(self.sci_level(self.tick()));
    }

    fn write_pm(&mut self, offset: u64, byte: u8) {
        let chip = &mut self.chip;
        match offset {
            0..=1 => {
                let tick = TIMER.ticks_at(self.clock.now());
                chip.clear_status(with_byte(0, offset, byte), tick);
            }
            2..=3 => chip.enable = with_byte(chip.enable, offset, byte),
            4..=5 => {
                let control = with_byte(chip.control, offset, byte);
                chip.control = control & !SLP_EN;
                if control & SLP_EN != 0 {
                    self.sleep();
                }
            }
            _ => {}
        }
    }

    fn sleep(&mut self) {
        match self.chip.control >> SLP_TYP_SHIFT & 7 {
            0 | 2 => self.requests.push(Request::PowerOff),
            kind => tracing::debug!(target: "piix4_pm", "sleep type {kind} is not modelled"),
        }
    }

    fn write_apm(&mut self, offset: u64, byte: u8) {
        if offset != 0 {
            self.chip.apm_status = byte;
            return;
        }
        self.chip.apm_control = byte;
        match byte {
            ACPI_ENABLE => self.chip.control |= SCI_EN,
            ACPI_DISABLE => self.chip.control &= !SCI_EN,
            _ if self.smm && self.config.regs().u32(DEVACTB) & APMC_EN != 0 => {
                self.requests.push(Request::Smi);
            }
            _ => {}
        }
    }

    /// Bits of present processors.
    fn cpu_bits(&self, offset: u64) -> u8 {
        let of = |bit: u64| u64::from(self.cpus) > offset.saturating_mul(8).saturating_add(bit);
        (0..8).map(|bit| u8::from(of(bit)) << bit).sum()
    }

    fn read_byte(&mut self, at: At) -> Option<u8> {
        let tick = self.tick();
        let chip = &mut self.chip;
        match (at.region, at.offset) {
            (PM, offset) => chip.pm_byte(offset, tick),
            (SMBUS, offset) => Some(chip.smbus.read(offset)),
            (GPE0, offset @ 2..=3) => Some(chip.gpe_enable[(offset - 2) as usize]),
            (GPE0, _) => Some(0),
            (APM, 0) => Some(chip.apm_control),
            (APM, _) => Some(chip.apm_status),
            (CPU_HOTPLUG, offset) => Some(self.cpu_bits(offset)),
            _ => None,
        }
    }

    fn write_byte(&mut self, at: At, byte: u8) {
        match (at.region, at.offset) {
            (PM, offset) => self.write_pm(offset, byte),
            (SMBUS, offset) => self.chip.smbus.write(offset, byte),
            (GPE0, offset @ 2..=3) => self.chip.gpe_enable[(offset - 2) as usize] = byte,
            (APM, offset) => self.write_apm(offset, byte),
            _ => {}
        }
    }

    /// PCI hotplug: nothing came, nothing went; which slots could; the bus this is about.
    fn read_hotplug(&self, offset: u64) -> u32 {
        match offset {
            0x0C => match self.chip.hotplug_bus {
                0 => REMOVABLE,
                1..=255 => u32::MAX,
                _ => 0,
            },
            0x10 => self.chip.hotplug_bus,
            _ => 0,
        }
    }

    /// Changes the configuration space; the board hears of it if windows moved.
    fn change(&mut self, change: impl FnOnce(&mut Config)) {
        let before = self.windows();
        change(&mut self.config);
        if self.windows() != before {
            self.host_requests.push(Request::MapChanged);
        }
        self.drive();
    }
}

impl Function for Piix4Pm {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn windows(&self) -> Vec<(u8, Region)> {
        let regs = self.config.regs();
        let window = |number: u8, base: usize, open: usize, widths: Widths| {
            let first = u64::from(regs.u16(base)) & !(WINDOW - 1);
            let region = Region::ports(first..=first + WINDOW - 1, widths);
            (regs.u8(open) & OPEN != 0).then_some((number, region))
        };
        [
            window(PM, PMBA, PMREGMISC, Widths::UP_TO_DWORD),
            window(SMBUS, SMBBA, SMBHSTCFG, Widths::BYTE),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.change(|config| config.write(offset, data));
    }
}

impl Device for Piix4Pm {
    fn read(&mut self, at: At, data: &mut [u8]) {
        if at.region == PCI_HOTPLUG {
            let value = self.read_hotplug(at.offset).to_le_bytes();
            for (to, from) in data.iter_mut().zip(value) {
                *to = from;
            }
            return;
        }
        for (offset, to) in (at.offset..=u64::MAX).zip(data) {
            if let Some(byte) = self.read_byte(At { offset, ..at }) {
                *to = byte;
            }
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        if at.region == PCI_HOTPLUG {
            if let (0x10, &[a, b, c, d]) = (at.offset, data) {
                self.chip.hotplug_bus = u32::from_le_bytes([a, b, c, d]);
            }
            return;
        }
        for (offset, &byte) in (at.offset..=u64::MAX).zip(data) {
            self.write_byte(At { offset, ..at }, byte);
        }
        self.drive();
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.change(Config::reset);
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        if self.input.take_power() {
            if self.chip.enable().contains(Pm1::POWER_BUTTON) {
                self.chip.status |= Pm1::POWER_BUTTON.bits();
            } else {
                tracing::debug!(target: "piix4_pm", "nobody heeds the power button");
            }
        }
        let tick = TIMER.ticks_at(now);
        self.sci.set_level(self.sci_level(tick));
        let wanted = self.chip.enable().contains(Pm1::TIMER) && tick < self.chip.overflow;
        wanted.then(|| TIMER.instant_of(self.chip.overflow))
    }

    fn save(&self) -> State {
        let saved = Saved {
            config: self.config.save(),
            chip: self.chip.clone(),
        };
        State::of(VERSION, &saved)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let saved: Saved = from.fields(VERSION)?;
        saved.chip.smbus.check()?;
        self.config.restore(&saved.config)?;
        self.chip = saved.chip;
        self.host_requests.push(Request::MapChanged);
        self.sci.restore_level(self.sci_level(self.tick()));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
