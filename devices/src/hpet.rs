//! The high precision event timer.
//!
//! IA-PC HPET Specification 1.0a. Region 0: 1 KiB of registers in memory, accessed by 4 or 8 bytes. A 64-bit main
//! counter at 10 ns, three timers of 32 or 64 bits, all periodic. `wiring.irq(0)` and `irq(1)` are timers
//! 0 and 1 in the places of 8254 and real-time clock, `irq(2)` is the switch that puts them there
//! ([`LegacyGate`](crate::irq::LegacyGate)), `irq(3)` the IOAPIC pin timers can be routed to: number 2, the only one, as
//! on the stock machine. As there the switch is LEG_RT_CNF alone, whether the counter runs or not.
//!
//! A comparator written while the counter is already past it (by less than half its range) fires at once, as
//! there: real chips wait for the counter to come round, and guests on a busy host would, too.
//! A periodic timer set behind the counter goes on from there in whole periods.
//!
//! Not modelled: message-signalled interrupts (no timer claims them; FSB registers read 0). A route to another
//! pin reads back and leads nowhere. A period of zero never interrupts. The counter cannot be written
//! while it runs.
//!
//! Matches that fall into one gap between polls are one interrupt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::board::Wiring;
use crate::time::Rate;
use crate::{At, Clock, Device, IrqLine, RestoreError, State};

const COUNTER_CLOCK: Rate = Rate::hz(100_000_000);
/// Femtoseconds a tick, as the capabilities tell it.
const PERIOD_FS: u64 = 10_000_000;
const TIMERS: usize = 3;
const VERSION: u32 = 1;

const CAPABILITIES: u64 = 0x000;
const CONFIG: u64 = 0x010;
const STATUS: u64 = 0x020;
const COUNTER: u64 = 0x0F0;
const FIRST_TIMER: u64 = 0x100;
const TIMER_SIZE: u64 = 0x20;
const TIMER_CONFIG: u64 = 0x00;
const COMPARATOR: u64 = 0x08;

/// Vendor 8086h, legacy replacement, a 64-bit counter, three timers, revision 1.
const CAPABILITIES_VALUE: u64 = PERIOD_FS << 32 | 0x8086_A201;
/// Pins a timer can be routed to, in the high half of its configuration: IOAPIC pin 2.
const ROUTES: u64 = 1 << (32 + PIN);
const PIN: u64 = 2;
/// Bits of a route in a timer's configuration.
const ROUTE_SHIFT: u32 = 9;
const ROUTE: u64 = 0x1F;

bitflags::bitflags! {
    /// General configuration.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Config: u64 {
        const ENABLE = 1 << 0;
        const LEGACY = 1 << 1;
    }

    /// A timer's configuration.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct TimerConfig: u64 {
        const LEVEL = 1 << 1;
        const ENABLE = 1 << 2;
        const PERIODIC = 1 << 3;
        const CAN_BE_PERIODIC = 1 << 4;
        const CAN_BE_64_BITS = 1 << 5;
        const SET_VALUE = 1 << 6;
        const FORCE_32_BITS = 1 << 8;
    }
}

/// What a guest sets in a timer's configuration: the flags and the route.
const TIMER_WRITABLE: u64 = TimerConfig::LEVEL
    .union(TimerConfig::ENABLE)
    .union(TimerConfig::PERIODIC)
    .union(TimerConfig::SET_VALUE)
    .union(TimerConfig::FORCE_32_BITS)
    .bits()
    | ROUTE << ROUTE_SHIFT;

/// Builds the timers.
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    let mut hpet = Hpet {
        clock: wiring.clock.clone(),
        legacy: [wiring.irq(0), wiring.irq(1)],
        replaces: wiring.irq(2),
        pin: std::array::from_fn(|_| wiring.irq(3)),
        chip: Chip::new(),
    };
    hpet.reset();
    Box::new(hpet)
}

struct Hpet {
    clock: Clock,
    legacy: [IrqLine; 2],
    replaces: IrqLine,
    /// One driver of the pin for each timer.
    pin: [IrqLine; TIMERS],
    chip: Chip,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    config: u64,
    /// A bit for each level-triggered timer that interrupts.
    status: u64,
    /// The main counter: its value while it stands, else how far it is ahead of the clock.
    counter: u64,
    timers: [Timer; TIMERS],
    /// The tick of the clock the timers stand at.
    tick: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    config: u64,
    comparator: u64,
    period: u64,
    /// The clock's tick of its next match, if the counter runs and ever gets there.
    next: Option<u64>,
}

impl Timer {
    const RESET: Self = Self {
        config: 0,
        comparator: u64::MAX,
        period: 0,
        next: None,
    };

    fn config(&self) -> TimerConfig {
        TimerConfig::from_bits_retain(self.config)
    }

    fn is(&self, flag: TimerConfig) -> bool {
        self.config().contains(flag)
    }

    /// Its width, as a mask.
    fn mask(&self) -> u64 {
        if self.is(TimerConfig::FORCE_32_BITS) {
            u32::MAX.into()
        } else {
            u64::MAX
        }
    }

    /// How it reads.
    fn config_value(&self) -> u64 {
        let fixed = TimerConfig::CAN_BE_PERIODIC | TimerConfig::CAN_BE_64_BITS;
        self.config | fixed.bits() | ROUTES
    }

    /// Finds its next match, with the counter at `counter` and the clock at `tick`. A comparator that was
    /// just written fires late rather than never (`late`).
    fn arm(&mut self, counter: u64, tick: u64, late: bool) {
        let mask = self.mask();
        let ahead = self.comparator.wrapping_sub(counter) & mask;
        let passed = ahead == 0 || ahead > mask / 2;
        if passed && self.is(TimerConfig::PERIODIC) {
            let behind = counter.wrapping_sub(self.comparator) & mask;
            self.next = behind.checked_rem(self.period).and_then(|into| {
                let ahead = self.period - into;
                self.comparator = counter.wrapping_add(ahead) & mask;
                tick.checked_add(ahead)
            });
        } else if passed && late {
            self.next = Some(tick);
        } else {
            // At the comparator's own value a whole round is ahead.
            let ahead = ahead.wrapping_sub(1) & mask;
            self.next = ahead.checked_add(1).and_then(|n| tick.checked_add(n));
        }
    }

    /// Passes to `tick`, where the counter is at `counter`; whether it matched on the way.
    fn advance(&mut self, counter: u64, tick: u64) -> bool {
        let Some(next) = self.next.filter(|next| *next <= tick) else {
            return false;
        };
        if !self.is(TimerConfig::PERIODIC) {
            self.arm(counter, tick, false);
            return true;
        }
        let periods = (tick - next).checked_div(self.period).map(|n| n + 1);
        self.next = periods.and_then(|n| {
            let ahead = n.wrapping_mul(self.period);
            self.comparator = self.comparator.wrapping_add(ahead) & self.mask();
            next.checked_add(n.checked_mul(self.period)?)
        });
        true
    }

    /// The guest writes the comparator's bits in `lanes`; whether the timer is to be armed anew.
    fn write_comparator(&mut self, value: u64, lanes: u64) -> bool {
        let mask = self.mask();
        let merge = |old: u64| (old & !lanes | value & lanes) & mask;
        if !self.is(TimerConfig::PERIODIC) {
            self.comparator = merge(self.comparator);
            return true;
        }
        self.period = merge(self.period);
        let sets = self.is(TimerConfig::SET_VALUE);
        if sets {
            self.comparator = merge(self.comparator);
            self.config &= !TimerConfig::SET_VALUE.bits();
        }
        // Its first period starts a timer that had none.
        sets || self.next.is_none()
    }
}

impl Chip {
    fn new() -> Self {
        Self {
            config: 0,
            status: 0,
            counter: 0,
            timers: [Timer::RESET; TIMERS],
            tick: 0,
        }
    }

    fn config(&self) -> Config {
        Config::from_bits_retain(self.config)
    }

    fn runs(&self) -> bool {
        self.config().contains(Config::ENABLE)
    }

    fn counter(&self) -> u64 {
        if self.runs() {
            self.tick.wrapping_add(self.counter)
        } else {
            self.counter
        }
    }

    /// Starts or stops the main counter.
    fn set_config(&mut self, value: u64) {
        let (ran, counter) = (self.runs(), self.counter());
        self.config = value & Config::all().bits();
        if self.runs() == ran {
            return;
        }
        self.counter = if ran {
            counter
        } else {
            counter.wrapping_sub(self.tick)
        };
        for timer in &mut self.timers {
            timer.next = None;
            if !ran {
                timer.arm(counter, self.tick, false);
            }
        }
    }

    fn arm(&mut self, index: usize, late: bool) {
        if self.runs() {
            let (counter, tick) = (self.counter(), self.tick);
            self.timers[index].arm(counter, tick, late);
        }
    }

    fn read(&self, register: u64) -> u64 {
        match register {
            CAPABILITIES => CAPABILITIES_VALUE,
            CONFIG => self.config,
            STATUS => self.status,
            COUNTER => self.counter(),
            _ => match timer_register(register) {
                Some((index, TIMER_CONFIG)) => self.timers[index].config_value(),
                Some((index, COMPARATOR)) => self.timers[index].comparator,
                _ => 0,
            },
        }
    }

    /// Writes the bits in `lanes` of a register.
    fn write(&mut self, register: u64, value: u64, lanes: u64) {
        let merge = |old: u64| old & !lanes | value & lanes;
        match register {
            CONFIG => self.set_config(merge(self.config)),
            STATUS => self.status &= !(value & lanes),
            COUNTER if !self.runs() => self.counter = merge(self.counter),
            COUNTER => tracing::debug!(target: "hpet", "the counter runs and is not written"),
            _ => match timer_register(register) {
                Some((index, TIMER_CONFIG)) => {
                    let config = merge(self.timers[index].config) & TIMER_WRITABLE;
                    self.configure(index, config);
                }
                Some((index, COMPARATOR)) => self.write_comparator(index, value, lanes),
                _ => {}
            },
        }
    }

    fn write_comparator(&mut self, index: usize, value: u64, lanes: u64) {
        if self.timers[index].write_comparator(value, lanes) {
            self.arm(index, true);
        }
    }

    fn configure(&mut self, index: usize, config: u64) {
        let timer = &mut self.timers[index];
        let changed = TimerConfig::from_bits_retain(timer.config ^ config);
        timer.config = config;
        timer.comparator &= timer.mask();
        timer.period &= timer.mask();
        if changed.intersects(TimerConfig::PERIODIC | TimerConfig::FORCE_32_BITS) {
            self.arm(index, false);
        }
    }

    /// When a timer next interrupts.
    fn deadline(&self) -> Option<u64> {
        let waits = |(index, timer): (usize, &Timer)| {
            let raised = self.status >> index & 1 != 0 && timer.is(TimerConfig::LEVEL);
            timer
                .next
                .filter(|_| timer.is(TimerConfig::ENABLE) && !raised)
        };
        self.timers.iter().enumerate().filter_map(waits).min()
    }

    fn is_possible(&self) -> bool {
        let bits = |value: u64, known: u64| value & !known == 0;
        bits(self.config, Config::all().bits())
            && bits(self.status, (1 << TIMERS) - 1)
            && self.timers.iter().all(|t| bits(t.config, TIMER_WRITABLE))
    }
}

/// The timer a register belongs to, and which of its registers it is.
fn timer_register(register: u64) -> Option<(usize, u64)> {
    let at = register.checked_sub(FIRST_TIMER)?;
    let index = usize::try_from(at / TIMER_SIZE).ok()?;
    (index < TIMERS).then_some((index, at % TIMER_SIZE))
}

impl Hpet {
    /// Lets everything up to `now` happen, and shows it.
    fn catch_up(&mut self, now: Duration) {
        let tick = COUNTER_CLOCK.ticks_at(now).max(self.chip.tick);
        self.chip.tick = tick;
        if !self.chip.runs() {
            return;
        }
        let counter = self.chip.counter();
        let mut interrupts = false;
        for index in 0..TIMERS {
            let timer = &mut self.chip.timers[index];
            if timer.advance(counter, tick) && timer.is(TimerConfig::ENABLE) {
                self.interrupt(index);
                interrupts = true;
            }
        }
        if interrupts {
            self.drive(IrqLine::set_level);
        }
    }

    fn interrupt(&mut self, index: usize) {
        if self.chip.timers[index].is(TimerConfig::LEVEL) {
            self.chip.status |= 1 << index;
        } else if let Some(line) = self.line(index) {
            line.set_level(false);
            line.pulse();
        }
    }

    /// Where a timer's interrupt goes.
    fn line(&self, index: usize) -> Option<&IrqLine> {
        if self.chip.config().contains(Config::LEGACY)
            && let Some(line) = self.legacy.get(index)
        {
            return Some(line);
        }
        let route = self.chip.timers[index].config >> ROUTE_SHIFT & ROUTE;
        (route == PIN).then_some(&self.pin[index])
    }

    /// Shows the levels of level-triggered timers, and who has interrupts 0 and 8.
    fn drive(&self, how: fn(&IrqLine, bool)) {
        how(&self.replaces, self.chip.config().contains(Config::LEGACY));
        for (index, timer) in self.chip.timers.iter().enumerate() {
            let raised = self.chip.status >> index & 1 != 0
                && timer.is(TimerConfig::LEVEL)
                && timer.is(TimerConfig::ENABLE);
            let to = self.line(index).filter(|_| raised);
            for line in self.legacy.get(index).into_iter().chain([&self.pin[index]]) {
                how(line, to.is_some_and(|to| std::ptr::eq(to, line)));
            }
        }
    }
}

/// The 64-bit register an access of 4 or 8 bytes lies in, and its place there in bits.
fn register(at: At) -> (u64, u32) {
    (at.offset & !7, (at.offset & 4) as u32 * 8)
}

impl Device for Hpet {
    fn read(&mut self, at: At, data: &mut [u8]) {
        self.catch_up(self.clock.now());
        let (register, shift) = register(at);
        let value = (self.chip.read(register) >> shift).to_le_bytes();
        for (to, from) in data.iter_mut().zip(value) {
            *to = from;
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        let now = self.clock.now();
        self.catch_up(now);
        let (register, shift) = register(at);
        let mut bytes = [0; 8];
        let mut lanes = [0; 8];
        for (i, byte) in data.iter().take(8).enumerate() {
            (bytes[i], lanes[i]) = (*byte, 0xFF);
        }
        let [value, lanes] = [bytes, lanes].map(|b| u64::from_le_bytes(b) << shift);
        self.chip.write(register, value, lanes);
        self.drive(IrqLine::set_level);
        self.catch_up(now);
    }

    fn reset(&mut self) {
        self.chip = Chip {
            tick: COUNTER_CLOCK.ticks_at(self.clock.now()),
            ..Chip::new()
        };
        self.drive(IrqLine::set_level);
    }

    fn poll(&mut self, now: Duration) -> Option<Duration> {
        self.catch_up(now);
        self.chip.deadline().map(|t| COUNTER_CLOCK.instant_of(t))
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.chip)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let chip: Chip = from.fields(VERSION)?;
        if !chip.is_possible() {
            return Err(RestoreError::Impossible { field: "register" });
        }
        self.chip = chip;
        self.drive(IrqLine::restore_level);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
