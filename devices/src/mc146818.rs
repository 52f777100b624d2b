//! Motorola MC146818A real-time clock with 128 bytes of battery-backed RAM (CMOS).
//!
//! Datasheet: Motorola MC146818A; the PC's use of it: IBM AT Technical Reference, "Real-Time Clock".
//! Region 0: port 70h the index (write only; reads float), port 71h the byte at the index; one byte wide.
//! IRQ 8 is the level of IRQF.
//!
//! Battery-backed: a hardware reset clears PIE, AIE, UIE, SQWE and register C and nothing else, so
//! time, RAM and index survive (firmware's shutdown byte 0Fh depends on it). What stands in RAM at first
//! (`setup.rs`) is the stock machine's setup, not of any datasheet; a boot order meant for one boot is
//! replaced at the first reset.
//!
//! Modelled: BCD and binary, 12 and 24 hours, the century at 32h (and its PS/2 alias 37h), SET, the
//! divider's reset (the first update half a second after), UIP for the 244 µs before an update,
//! periodic, alarm and update-ended interrupts. An interrupt not taken before the next is one interrupt.
//! Not modelled: the update cycle's own 1984 µs (an update is a moment, at UIP's end), the square wave
//! pin, daylight saving (DSE reads back), time bases other than 32.768 kHz (they run as it), and the NMI
//! mask in bit 7 of the index, which is accepted and masks nothing: the machine raises no NMI. A change
//! of DM or 24/12 re-writes the time bytes in the new form, where the chip leaves that to the guest.

mod calendar;
mod setup;

use std::time::Duration;

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

use crate::board::{BoardOptions, BootOrder, Wiring};
use crate::time::Rate;
use crate::{At, Clock, Device, IrqLine, RestoreError, State};
use calendar::{DAY, Format, Moment, weekday};

const CRYSTAL: Rate = Rate::hz(32_768);
/// Crystal ticks between two updates of the time.
const SECOND: u64 = 32_768;
/// Crystal ticks (244 µs) for which UIP announces an update.
const UIP_TICKS: u64 = 8;
const NS_PER_SECOND: i64 = 1_000_000_000;
/// After the divider's reset the first update comes half a second later.
const AFTER_DIVIDER_RESET: i64 = NS_PER_SECOND / 2;
const VERSION: u32 = 1;
const RAM: usize = 128;

const INDEX: u64 = 0;
/// The address bits of the index port.
const ADDRESS: u8 = 0x7F;

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const WEEKDAY: usize = 0x06;
const DAY_OF_MONTH: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const REG_A: usize = 0x0A;
const REG_B: usize = 0x0B;
const REG_C: usize = 0x0C;
const REG_D: usize = 0x0D;
const CENTURY: usize = 0x32;
/// Where the PS/2 keeps the century: the same byte here.
const CENTURY_PS2: usize = 0x37;

/// An alarm byte from here on matches anything.
const DONT_CARE: u8 = 0xC0;

/// Register A: update in progress.
const UIP: u8 = 1 << 7;
/// Register A after power-on: 32.768 kHz base, 1024 Hz periodic rate.
const REG_A_START: u8 = 0x26;
/// Register D: valid RAM and time.
const VRT: u8 = 1 << 7;

bitflags! {
    /// Register B.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u8 {
        const DSE = 1 << 0;
        const HOURS_24 = 1 << 1;
        const BINARY = 1 << 2;
        const SQWE = 1 << 3;
        const UIE = 1 << 4;
        const AIE = 1 << 5;
        const PIE = 1 << 6;
        const SET = 1 << 7;
    }

    /// Register C; the causes stand at the same bits as their enables in register B.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Flags: u8 {
        const UF = 1 << 4;
        const AF = 1 << 5;
        const PF = 1 << 6;
        const IRQF = 1 << 7;
    }
}

/// Builds the clock; `wiring.irq(0)` is IRQ 8.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    Box::new(Mc146818 {
        clock: wiring.clock.clone(),
        irq: wiring.irq(0),
        chip: Chip::new(&wiring.options),
        order_after_reset: wiring.options.boot.once.map(|_| wiring.options.boot.order),
    })
}

struct Mc146818 {
    clock: Clock,
    irq: IrqLine,
    chip: Chip,
    /// The boot order that a reset puts in the place of one meant for the first boot alone.
    order_after_reset: Option<BootOrder>,
}

/// What is saved.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// The index port as written.
    index: u8,
    /// All bytes. The time bytes are current only while the time stands still ([`Chip::is_frozen`]);
    /// otherwise the time follows from `origin` and `seconds`.
    ram: Vec<u8>,
    /// Guest time in nanoseconds at which the divider chain stood at zero.
    origin: i64,
    /// The time at `origin`, in seconds since 1970.
    seconds: i64,
    /// What the guest set the day of the week ahead of the date's own (0..=6).
    weekday_ahead: i64,
    /// The crystal tick since `origin` up to which flags have been raised.
    tick: u64,
}

impl Chip {
    fn new(options: &BoardOptions) -> Self {
        let mut ram = vec![0; RAM];
        ram[REG_A] = REG_A_START;
        ram[REG_B] = Control::HOURS_24.bits();
        ram[REG_D] = VRT;
        for (at, byte) in setup::bytes(options) {
            ram[at] = byte;
        }
        Self {
            index: 0,
            ram,
            origin: 0,
            // A span whose arithmetic never overflows: 35 million years either way.
            seconds: options.rtc_base.clamp(-(1 << 50), 1 << 50),
            weekday_ahead: 0,
            tick: 0,
        }
    }

    fn control(&self) -> Control {
        Control::from_bits_retain(self.ram[REG_B])
    }

    fn format(&self) -> Format {
        Format {
            binary: self.control().contains(Control::BINARY),
            hours24: self.control().contains(Control::HOURS_24),
        }
    }

    /// Whether the divider chain runs (DV2:DV0 choose a time base).
    fn is_divider_on(&self) -> bool {
        self.ram[REG_A] & 0x70 <= 0x20
    }

    /// Whether the time bytes stand still, by SET or the divider's reset.
    fn is_frozen(&self) -> bool {
        self.control().contains(Control::SET) || !self.is_divider_on()
    }

    /// Crystal ticks of the divider chain at guest time `now`.
    fn tick_at(&self, now: Duration) -> u64 {
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let elapsed = u64::try_from(now.saturating_sub(self.origin)).unwrap_or(0);
        CRYSTAL.ticks_at(Duration::from_nanos(elapsed))
    }

    /// The first instant at which the chain has made `tick` ticks.
    fn instant_of(&self, tick: u64) -> Duration {
        let elapsed = i64::try_from(CRYSTAL.instant_of(tick).as_nanos()).unwrap_or(i64::MAX);
        Duration::from_nanos(u64::try_from(elapsed.saturating_add(self.origin)).unwrap_or(0))
    }

    /// The running time, in seconds since 1970.
    fn now(&self) -> i64 {
        self.seconds_at(self.tick)
    }

    fn seconds_at(&self, tick: u64) -> i64 {
        self.seconds.saturating_add((tick / SECOND) as i64)
    }

    /// The period of the periodic interrupt in crystal ticks (RS3:RS0).
    fn period(&self) -> Option<u64> {
        match self.ram[REG_A] & 15 {
            _ if !self.is_divider_on() => None,
            0 => None,
            // 256 and 128 Hz: the two slowest taps stand first.
            rate @ 1..=2 => Some(64 << rate),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Raises the flags of everything up to `now`, in one step however long the gap.
    fn catch_up(&mut self, now: Duration) {
        let to = self.tick_at(now).max(self.tick);
        let mut flags = Flags::empty();
        for flag in [Flags::PF, Flags::AF, Flags::UF] {
            flags.set(flag, self.next(flag).is_some_and(|tick| tick <= to));
        }
        self.tick = if self.is_divider_on() { to } else { self.tick };
        self.ram[REG_C] |= flags.bits();
        let causes = Flags::from_bits_retain(self.ram[REG_C] & self.ram[REG_B]);
        let active = causes.intersects(Flags::PF | Flags::AF | Flags::UF);
        self.ram[REG_C] &= !Flags::IRQF.bits();
        if active {
            self.ram[REG_C] |= Flags::IRQF.bits();
        }
    }

    /// The tick, after the present one, at which one cause comes next.
    fn next(&self, flag: Flags) -> Option<u64> {
        if flag == Flags::PF {
            let period = self.period()?;
            return Some((self.tick / period + 1) * period);
        }
        if self.is_frozen() {
            return None;
        }
        let seconds = if flag == Flags::AF {
            self.alarm_in()?
        } else {
            1
        };
        Some((self.tick / SECOND + seconds) * SECOND)
    }

    /// Seconds (1 to a day) until the time next matches the alarm bytes.
    fn alarm_in(&self) -> Option<u64> {
        let format = self.format();
        let wanted = |at: usize, values: i64, byte: &dyn Fn(i64) -> u8| match self.ram[at] {
            DONT_CARE.. => Some(None),
            alarm => (0..values).find(|&v| byte(v) == alarm).map(Some),
        };
        let hour = wanted(HOURS_ALARM, 24, &|v| format.hour_byte(v))?;
        let minute = wanted(MINUTES_ALARM, 60, &|v| format.byte(v))?;
        let second = wanted(SECONDS_ALARM, 60, &|v| format.byte(v))?;
        let now = self.now().rem_euclid(DAY);
        let at = next_match(now + 1, [hour, minute, second]);
        u64::try_from(at - now).ok()
    }

    /// The time byte at `at` as it stands now.
    fn time_byte(&self, at: usize) -> u8 {
        let format = self.format();
        let seconds = self.now();
        let moment = Moment::at(seconds);
        match at {
            SECONDS => format.byte(moment.second),
            MINUTES => format.byte(moment.minute),
            HOURS => format.hour_byte(moment.hour),
            WEEKDAY => format.byte((weekday(seconds) - 1 + self.weekday_ahead).rem_euclid(7) + 1),
            DAY_OF_MONTH => format.byte(moment.day),
            MONTH => format.byte(moment.month),
            YEAR => format.byte(moment.year.rem_euclid(100)),
            _ => format.byte(moment.year.div_euclid(100).rem_euclid(100)),
        }
    }

    /// Writes the running time into its bytes.
    fn store_time(&mut self) {
        for at in TIME {
            self.ram[at] = self.time_byte(at);
        }
    }

    /// Takes the time from its bytes; the divider chain keeps its phase.
    fn load_time(&mut self) {
        let format = self.format();
        let number = |at: usize| format.number(self.ram[at]);
        let seconds = Moment {
            year: number(CENTURY) * 100 + number(YEAR),
            month: number(MONTH),
            day: number(DAY_OF_MONTH),
            hour: format.hour(self.ram[HOURS]),
            minute: number(MINUTES),
            second: number(SECONDS),
        }
        .seconds();
        self.weekday_ahead = (number(WEEKDAY) - weekday(seconds)).rem_euclid(7);
        self.seconds = seconds.saturating_sub((self.tick / SECOND) as i64);
    }

    fn address(&self) -> usize {
        match usize::from(self.index & ADDRESS) {
            CENTURY_PS2 => CENTURY,
            at => at,
        }
    }

    fn read(&mut self) -> u8 {
        match self.address() {
            at if TIME.contains(&at) && !self.is_frozen() => self.time_byte(at),
            REG_A => self.ram[REG_A] | if self.is_updating() { UIP } else { 0 },
            REG_C => std::mem::take(&mut self.ram[REG_C]),
            at => self.ram[at],
        }
    }

    fn is_updating(&self) -> bool {
        !self.is_frozen() && self.tick % SECOND >= SECOND - UIP_TICKS
    }

    fn write(&mut self, byte: u8, now: Duration) {
        match self.address() {
            REG_A => self.write_a(byte, now),
            REG_B => self.write_b(byte),
            REG_C | REG_D => {}
            at if TIME.contains(&at) && !self.is_frozen() => {
                self.store_time();
                self.ram[at] = byte;
                self.load_time();
            }
            at => self.ram[at] = byte,
        }
    }

    fn write_a(&mut self, byte: u8, now: Duration) {
        let (was_on, was_frozen) = (self.is_divider_on(), self.is_frozen());
        if !was_frozen {
            self.store_time();
        }
        self.ram[REG_A] = byte & !UIP;
        if self.is_divider_on() && !was_on {
            let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
            self.origin = now - AFTER_DIVIDER_RESET;
            self.tick = SECOND / 2;
        }
        if was_frozen && !self.is_frozen() {
            self.load_time();
        }
    }

    fn write_b(&mut self, byte: u8) {
        let was_frozen = self.is_frozen();
        if !was_frozen {
            self.store_time();
        }
        self.ram[REG_B] = byte;
        if self.control().contains(Control::SET) {
            self.ram[REG_B] &= !Control::UIE.bits();
        }
        if was_frozen && !self.is_frozen() {
            self.load_time();
        }
    }

    fn is_raised(&self) -> bool {
        self.ram[REG_C] & Flags::IRQF.bits() != 0
    }

    /// When the line next rises: nothing to do while it is up.
    fn deadline(&self) -> Option<Duration> {
        if self.is_raised() {
            return None;
        }
        let enabled = |flag: &Flags| self.ram[REG_B] & flag.bits() != 0;
        let causes = [Flags::PF, Flags::AF, Flags::UF];
        let next = causes.into_iter().filter(enabled);
        let tick = next.filter_map(|flag| self.next(flag)).min()?;
        Some(self.instant_of(tick))
    }
}

/// The time bytes; the order is that of the addresses.
const TIME: [usize; 8] = [
    SECONDS,
    MINUTES,
    HOURS,
    WEEKDAY,
    DAY_OF_MONTH,
    MONTH,
    YEAR,
    CENTURY,
];

/// The first second of day at or after `from` whose hour, minute and second are as wanted (`None`:
/// any); it may lie on the next day.
fn next_match(from: i64, [hour, minute, second]: [Option<i64>; 3]) -> i64 {
    let is = |wanted: Option<i64>, value: i64| wanted.is_none_or(|w| w == value);
    let mut at = from;
    while !is(hour, at / 3600 % 24) {
        at = (at / 3600 + 1) * 3600;
    }
    while !is(minute, at / 60 % 60) {
        at = (at / 60 + 1) * 60;
    }
    if !is(hour, at / 3600 % 24) {
        return next_match(at, [hour, minute, second]);
    }
    while !is(second, at % 60) {
        at += 1;
    }
    if is(minute, at / 60 % 60) && is(hour, at / 3600 % 24) {
        return at;
    }
    next_match(at, [hour, minute, second])
}

impl Device for Mc146818 {
    fn read(&mut self, at: At, data: &mut [u8]) {
        if at.offset == INDEX {
            return;
        }
        self.chip.catch_up(self.clock.now());
        if let Some(byte) = data.first_mut() {
            *byte = self.chip.read();
        }
        self.irq.set_level(self.chip.is_raised());
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let Some(&byte) = data.first() else { return };
        if at.offset == INDEX {
            self.chip.index = byte;
            return;
        }
        let now = self.clock.now();
        self.chip.catch_up(now);
        self.chip.write(byte, now);
        self.chip.catch_up(now);
        self.irq.set_level(self.chip.is_raised());
    }

    fn reset(&mut self) {
        self.chip.catch_up(self.clock.now());
        let cleared = Control::PIE | Control::AIE | Control::UIE | Control::SQWE;
        self.chip.ram[REG_B] &= !cleared.bits();
        self.chip.ram[REG_C] = 0;
        for (at, byte) in self
            .order_after_reset
            .into_iter()
            .flat_map(setup::boot_order)
        {
            self.chip.ram[at] = byte;
        }
        self.irq.set_level(false);
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        self.chip.catch_up(now);
        self.irq.set_level(self.chip.is_raised());
        self.chip.deadline()
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let chip: Chip = from.fields(VERSION)?;
        let possible = |is: bool, field| match is {
            true => Ok(()),
            false => Err(RestoreError::Impossible { field }),
        };
        possible(chip.ram.len() == RAM, "size of RAM")?;
        possible(chip.tick <= 1 << 60, "tick")?;
        possible(chip.seconds.unsigned_abs() <= 1 << 51, "time")?;
        possible((0..7).contains(&chip.weekday_ahead), "day of the week")?;
        self.chip = chip;
        self.irq.restore_level(self.chip.is_raised());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
