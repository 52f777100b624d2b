//! Intel 8259A programmable interrupt controller, and the cascaded pair of a PC/AT.
//!
//! Datasheet: Intel 231468 (8259A); edge/level control registers: Intel 290550 (82371SB, PIIX3).
//! Ports 0x20, 0x21 master; 0xA0, 0xA1 slave; 0x4D0, 0x4D1 ELCR. This file is pure logic: the
//! ports are decoded in [`crate::chips`], which holds the lock.
//!
//! Not modelled: MCS-80/85 mode and its three-byte CALL (ICW4 uPM is ignored, the answer to INTA
//! is the vector), ICW1 LTIM (the PIIX3 ignores it too: ELCR decides edge or level for each
//! input), buffered mode (the master is the chip wired as master), other cascades than slave on
//! IR2 (what ICW3 says is ignored).
//!
//! As in QEMU and KVM, and unlike the datasheet, an edge that has been latched stays in the IRR
//! when its input falls before INTA: interrupt sources that pulse a line rely on it. The default
//! IR7 arises from an INTA without any request; the slave's also when its request is withdrawn
//! after the master has latched it.

use serde::{Deserialize, Serialize};

/// ICW1: this bit of a write to the even port starts initialisation.
const ICW1_START: u8 = 0x10;
/// ICW1 SNGL: no cascade, so no ICW3 follows.
const ICW1_SINGLE: u8 = 0x02;
/// ICW1 IC4: an ICW4 follows.
const ICW1_IC4: u8 = 0x01;
/// ICW4 SFNM: special fully nested mode.
const ICW4_FULLY_NESTED: u8 = 0x10;
/// ICW4 AEOI: automatic end of interrupt.
const ICW4_AUTO_EOI: u8 = 0x02;
/// Tells OCW3 from OCW2 in a write to the even port.
const OCW3: u8 = 0x08;
/// OCW3 P: the next read polls.
const OCW3_POLL: u8 = 0x04;
/// OCW3 RR: RIS is valid.
const OCW3_READ_REGISTER: u8 = 0x02;
/// OCW3 RIS: reads give the ISR rather than the IRR.
const OCW3_READ_ISR: u8 = 0x01;
/// OCW3 ESMM: SMM is valid.
const OCW3_SET_MASK_MODE: u8 = 0x40;
/// OCW3 SMM: special mask mode.
const OCW3_SPECIAL_MASK: u8 = 0x20;
/// Bit 7 of the poll byte: there was a request, and it is now in service.
const POLL_FOUND: u8 = 0x80;
/// The level an 8259A answers with when nothing requests.
const SPURIOUS: u8 = 7;
/// The master's input that the slave's INT drives.
const CASCADE: u8 = 2;

/// Inputs of the master whose ELCR bit can be set: not IRQ0 (timer), 1 (keyboard), 2 (cascade).
pub const MASTER_ELCR_MASK: u8 = 0xf8;
/// Inputs of the slave whose ELCR bit can be set: not IRQ8 (clock), 13 (coprocessor).
pub const SLAVE_ELCR_MASK: u8 = 0xde;

/// Which initialisation word the odd port expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    /// OCW1: the chip is initialised (or never was).
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct I8259 {
    /// Inputs whose ELCR bit exists.
    elcr_mask: u8,
    /// Inputs driven by slaves: not locked out by themselves in special fully nested mode.
    slaves: u8,
    /// Present level of the inputs.
    lines: u8,
    /// Edges latched in the IRR.
    edges: u8,
    imr: u8,
    isr: u8,
    elcr: u8,
    vector_base: u8,
    /// The input of highest priority; the one before it has the lowest.
    highest: u8,
    expect: Expect,
    icw1: u8,
    icw4: u8,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

impl I8259 {
    /// A chip after reset; `slaves` are the inputs that slaves drive.
    pub fn new(elcr_mask: u8, slaves: u8) -> Self {
        Self {
            elcr_mask,
            slaves,
            ..Self::default()
        }
    }

    /// Hardware reset; the inputs keep the level they are driven to.
    pub fn reset(&mut self) {
        *self = Self {
            lines: self.lines,
            ..Self::new(self.elcr_mask, self.slaves)
        };
    }

    /// Drives input `input` (0 to 7); a rising one is latched.
    pub fn set_level(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        if level && self.lines & bit == 0 {
            self.edges |= bit & !self.elcr;
        }
        self.restore_level(input, level);
    }

    /// Puts input `input` to a restored level: no edge is seen.
    pub fn restore_level(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        self.lines = if level {
            self.lines | bit
        } else {
            self.lines & !bit
        };
    }

    /// The interrupt request register.
    pub fn irr(&self) -> u8 {
        self.edges | self.lines & self.elcr
    }

    /// The interrupt mask register.
    pub fn imr(&self) -> u8 {
        self.imr
    }

    /// The input of highest priority.
    pub fn highest(&self) -> u8 {
        self.highest
    }

    /// The vector of input 0.
    pub fn vector_base(&self) -> u8 {
        self.vector_base
    }

    /// Whether reads of the even port give the ISR.
    pub fn reads_isr(&self) -> bool {
        self.read_isr
    }

    /// Whether it is in special fully nested mode.
    pub fn is_fully_nested(&self) -> bool {
        self.icw4 & ICW4_FULLY_NESTED != 0
    }

    /// The in-service register.
    pub fn isr(&self) -> u8 {
        self.isr
    }

    /// The edge/level control register: ones are level-triggered inputs.
    pub fn elcr(&self) -> u8 {
        self.elcr
    }

    /// Writes the edge/level control register; bits that do not exist stay zero.
    pub fn set_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_mask;
        self.edges &= !self.elcr;
    }

    /// The INT output.
    pub fn output(&self) -> bool {
        self.request().is_some()
    }

    /// INTA: puts the request of highest priority in service and returns its level; the default
    /// level 7, with nothing in service, if there is none.
    pub fn acknowledge(&mut self) -> u8 {
        self.take_request().unwrap_or(SPURIOUS)
    }

    /// The vector the chip answers for input `input`.
    pub fn vector(&self, input: u8) -> u8 {
        self.vector_base | input & 7
    }

    /// Reads the even (`odd` false) or odd port. A poll command makes the read an INTA.
    pub fn read(&mut self, odd: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            return self.take_request().map_or(0, |level| POLL_FOUND | level);
        }
        match (odd, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr(),
        }
    }

    /// Writes the even (`odd` false) or odd port.
    pub fn write(&mut self, odd: bool, value: u8) {
        if odd {
            self.write_odd(value);
        } else if value & ICW1_START != 0 {
            self.initialise(value);
        } else if value & OCW3 != 0 {
            self.operate(value);
        } else {
            self.end_of_interrupt(value);
        }
    }

    /// ICW1: "Initialization Command Words". The edge latches are cleared, so an input must fall
    /// and rise again before it requests.
    fn initialise(&mut self, icw1: u8) {
        *self = Self {
            lines: self.lines,
            elcr: self.elcr,
            icw1,
            expect: Expect::Icw2,
            ..Self::new(self.elcr_mask, self.slaves)
        };
    }

    fn write_odd(&mut self, value: u8) {
        let after_icw3 = if self.icw1 & ICW1_IC4 != 0 {
            Expect::Icw4
        } else {
            Expect::Mask
        };
        self.expect = match self.expect {
            Expect::Mask => {
                self.imr = value;
                Expect::Mask
            }
            Expect::Icw2 => {
                self.vector_base = value & 0xf8;
                if self.icw1 & ICW1_SINGLE != 0 {
                    after_icw3
                } else {
                    Expect::Icw3
                }
            }
            Expect::Icw3 => after_icw3,
            Expect::Icw4 => {
                self.icw4 = value;
                Expect::Mask
            }
        };
    }

    /// OCW3.
    fn operate(&mut self, value: u8) {
        if value & OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & OCW3_READ_REGISTER != 0 {
            self.read_isr = value & OCW3_READ_ISR != 0;
        }
        if value & OCW3_SET_MASK_MODE != 0 {
            self.special_mask = value & OCW3_SPECIAL_MASK != 0;
        }
    }

    /// OCW2: R, SL, EOI in bits 7 to 5, the level in bits 2 to 0.
    fn end_of_interrupt(&mut self, ocw2: u8) {
        let level = ocw2 & 7;
        match ocw2 >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            0b001 => _ = self.end_highest(),
            0b101 => {
                if let Some(ended) = self.end_highest() {
                    self.make_lowest(ended);
                }
            }
            0b011 => self.isr &= !(1 << level),
            0b110 => self.make_lowest(level),
            0b111 => {
                self.isr &= !(1 << level);
                self.make_lowest(level);
            }
            // 010: no operation.
            _ => {}
        }
    }

    /// Non-specific EOI. "Special Mask Mode": a masked level is not ended by it.
    fn end_highest(&mut self) -> Option<u8> {
        let ended = self.first(self.serviced())?;
        self.isr &= !(1 << ended);
        Some(ended)
    }

    fn make_lowest(&mut self, level: u8) {
        self.highest = level.wrapping_add(1) & 7;
    }

    /// Levels in service that count for priority.
    fn serviced(&self) -> u8 {
        if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        }
    }

    /// The level of highest priority in `levels`.
    fn first(&self, levels: u8) -> Option<u8> {
        let rank = levels.rotate_right(self.highest.into()).trailing_zeros();
        (rank < u8::BITS).then(|| (rank as u8).wrapping_add(self.highest) & 7)
    }

    /// Distance of `level` from the highest priority.
    fn rank(&self, level: u8) -> u8 {
        level.wrapping_sub(self.highest) & 7
    }

    /// The request that INT stands for: unmasked, and above everything in service.
    fn request(&self) -> Option<u8> {
        let level = self.first(self.irr() & !self.imr)?;
        let Some(serviced) = self.first(self.serviced()) else {
            return Some(level);
        };
        // "The Special Fully Nest Mode": a slave in service is not locked out, lower levels are.
        let nested = self.icw4 & ICW4_FULLY_NESTED != 0
            && level == serviced
            && self.slaves & 1 << level != 0;
        (nested || self.rank(level) < self.rank(serviced)).then_some(level)
    }

    fn is_plausible(&self, wired: &Self) -> bool {
        (self.elcr_mask, self.slaves) == (wired.elcr_mask, wired.slaves)
            && self.elcr & !self.elcr_mask == 0
            && self.highest < 8
    }

    fn take_request(&mut self) -> Option<u8> {
        let level = self.request()?;
        let bit = 1 << level;
        self.edges &= !bit;
        if self.icw4 & ICW4_AUTO_EOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.make_lowest(level);
        }
        Some(level)
    }
}

/// One of the two chips of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Ports 0x20, 0x21; IRQ0 to 7.
    Master,
    /// Ports 0xA0, 0xA1; IRQ8 to 15; its INT drives the master's IR2.
    Slave,
}

/// The cascaded pair: 15 interrupt inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct I8259Pair {
    master: I8259,
    slave: I8259,
}

impl Default for I8259Pair {
    fn default() -> Self {
        Self {
            master: I8259::new(MASTER_ELCR_MASK, 1 << CASCADE),
            slave: I8259::new(SLAVE_ELCR_MASK, 0),
        }
    }
}

impl I8259Pair {
    /// Hardware reset; the inputs keep the level they are driven to.
    pub fn reset(&mut self) {
        self.slave.reset();
        self.master.reset();
        self.master.restore_level(CASCADE, false);
    }

    /// Drives IRQ `irq` (0 to 15). IRQ2 is the cascade and has no outside driver.
    pub fn set_level(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_level(irq, level),
            _ => self.slave.set_level(irq & 7, level),
        }
        self.cascade();
    }

    /// Puts IRQ `irq` to a restored level: no edge is seen.
    pub fn restore_level(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.restore_level(irq, level),
            _ => self.slave.restore_level(irq & 7, level),
        }
        self.cascade();
    }

    /// One of the chips.
    pub fn look(&self, chip: Chip) -> &I8259 {
        match chip {
            Chip::Master => &self.master,
            Chip::Slave => &self.slave,
        }
    }

    /// The INTR output of the pair.
    pub fn output(&self) -> bool {
        self.master.output()
    }

    /// Both INTA cycles: the vector. Level 7 of the chip asked if there is no request (anymore).
    pub fn acknowledge(&mut self) -> u8 {
        let level = self.master.acknowledge();
        if level != CASCADE {
            return self.master.vector(level);
        }
        let level = self.slave.acknowledge();
        self.release_cascade();
        self.slave.vector(level)
    }

    /// Reads a chip's even or odd port.
    pub fn read(&mut self, chip: Chip, odd: bool) -> u8 {
        let polled = self.chip(chip).poll;
        let value = self.chip(chip).read(odd);
        if polled && chip == Chip::Slave {
            self.release_cascade();
        }
        value
    }

    /// Writes a chip's even or odd port.
    pub fn write(&mut self, chip: Chip, odd: bool, value: u8) {
        self.chip(chip).write(odd, value);
        self.cascade();
    }

    /// Reads a chip's edge/level control register.
    pub fn elcr(&self, chip: Chip) -> u8 {
        match chip {
            Chip::Master => self.master.elcr(),
            Chip::Slave => self.slave.elcr(),
        }
    }

    /// Writes a chip's edge/level control register.
    pub fn set_elcr(&mut self, chip: Chip, value: u8) {
        self.chip(chip).set_elcr(value);
        self.cascade();
    }

    /// Whether a saved pair is one that can be.
    pub(crate) fn is_plausible(&self) -> bool {
        let wired = Self::default();
        self.master.is_plausible(&wired.master) && self.slave.is_plausible(&wired.slave)
    }

    fn chip(&mut self, chip: Chip) -> &mut I8259 {
        match chip {
            Chip::Master => &mut self.master,
            Chip::Slave => &mut self.slave,
        }
    }

    fn cascade(&mut self) {
        let level = self.slave.output();
        self.master.set_level(CASCADE, level);
    }

    /// INT falls with every acknowledge, so that a request left over makes a new edge.
    fn release_cascade(&mut self) {
        self.master.set_level(CASCADE, false);
        self.cascade();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pair as a BIOS leaves it: vectors 0x08 and 0x70, all unmasked, `icw4`.
    fn pair(icw4: u8) -> I8259Pair {
        let mut p = I8259Pair::default();
        for (chip, base, icw3) in [(Chip::Master, 0x08, 0x04), (Chip::Slave, 0x70, 0x02)] {
            p.write(chip, false, 0x11);
            p.write(chip, true, base);
            p.write(chip, true, icw3);
            p.write(chip, true, icw4);
        }
        p
    }

    fn pulse(p: &mut I8259Pair, irq: u8) {
        p.set_level(irq, true);
        p.set_level(irq, false);
    }

    fn isr(p: &mut I8259Pair, chip: Chip) -> u8 {
        p.write(chip, false, 0x0b);
        p.read(chip, false)
    }

    fn irr(p: &mut I8259Pair, chip: Chip) -> u8 {
        p.write(chip, false, 0x0a);
        p.read(chip, false)
    }

    #[test]
    fn higher_level_interrupts_lower_one_and_not_the_reverse() {
        let mut p = pair(1);
        pulse(&mut p, 3);
        assert_eq!(p.acknowledge(), 0x0b);
        pulse(&mut p, 4);
        assert!(!p.output());
        pulse(&mut p, 0);
        assert_eq!(p.acknowledge(), 0x08);
        assert_eq!(isr(&mut p, Chip::Master), 0x09);
        p.write(Chip::Master, false, 0x20);
        assert_eq!(isr(&mut p, Chip::Master), 0x08);
        p.write(Chip::Master, false, 0x20);
        assert_eq!(p.acknowledge(), 0x0c);
    }

    #[test]
    fn slave_is_between_irq1_and_irq3() {
        let mut p = pair(1);
        for irq in [3, 12, 8, 1] {
            pulse(&mut p, irq);
        }
        let mut order = Vec::new();
        while p.output() {
            order.push(p.acknowledge());
            p.write(Chip::Slave, false, 0x20);
            p.write(Chip::Master, false, 0x20);
        }
        assert_eq!(order, [0x09, 0x70, 0x74, 0x0b]);
    }

    #[test]
    fn initialisation_clears_mask_latches_and_service() {
        let mut p = pair(1);
        p.write(Chip::Master, true, 0xff);
        p.set_level(5, true);
        assert_eq!(p.read(Chip::Master, true), 0xff);
        p.write(Chip::Master, false, 0x13);
        assert_eq!(p.read(Chip::Master, true), 0);
        assert_eq!(irr(&mut p, Chip::Master), 0);
        p.write(Chip::Master, true, 0x50);
        p.write(Chip::Master, true, 0x01); // single: this is ICW4 already
        p.write(Chip::Master, true, 0x00); // and this OCW1
        p.set_level(5, true);
        assert!(!p.output(), "the input must fall first");
        pulse(&mut p, 4);
        assert_eq!(p.acknowledge(), 0x54);
    }

    #[test]
    fn icw4_is_skipped_when_not_announced() {
        let mut p = I8259Pair::default();
        p.write(Chip::Master, false, 0x10);
        p.write(Chip::Master, true, 0x20);
        p.write(Chip::Master, true, 0x04);
        p.write(Chip::Master, true, 0xfe);
        assert_eq!(p.read(Chip::Master, true), 0xfe);
    }

    #[test]
    fn level_input_requests_until_it_falls() {
        let mut p = pair(1);
        p.set_elcr(Chip::Slave, 0xff);
        p.set_elcr(Chip::Master, 0xff);
        assert_eq!((p.elcr(Chip::Master), p.elcr(Chip::Slave)), (0xf8, 0xde));
        p.set_level(11, true);
        for _ in 0..2 {
            assert_eq!(p.acknowledge(), 0x73);
            assert!(!p.output());
            p.write(Chip::Slave, false, 0x20);
            p.write(Chip::Master, false, 0x20);
            assert!(p.output());
        }
        p.set_level(11, false);
        assert_eq!(irr(&mut p, Chip::Slave), 0);
        // The master has latched the slave: its INTA finds nothing there, a spurious IRQ15.
        assert_eq!(p.acknowledge(), 0x77);
        assert_eq!(isr(&mut p, Chip::Slave), 0);
        assert_eq!(isr(&mut p, Chip::Master), 0x04);
    }

    #[test]
    fn acknowledge_without_request_is_spurious_irq7() {
        let mut p = pair(1);
        p.set_elcr(Chip::Master, 0x20);
        p.set_level(5, true);
        p.set_level(5, false);
        assert!(!p.output());
        assert_eq!(p.acknowledge(), 0x0f);
        assert_eq!(isr(&mut p, Chip::Master), 0);
    }

    #[test]
    fn specific_eoi_and_rotations() {
        let mut p = pair(1);
        pulse(&mut p, 4);
        p.acknowledge();
        p.write(Chip::Master, false, 0x64); // specific EOI of 4
        assert_eq!(isr(&mut p, Chip::Master), 0);
        p.write(Chip::Master, false, 0xc3); // 3 is the lowest now
        pulse(&mut p, 3);
        pulse(&mut p, 5);
        assert_eq!(p.acknowledge(), 0x0d);
        p.write(Chip::Master, false, 0xa0); // rotate on non-specific EOI: 5 is the lowest
        pulse(&mut p, 5);
        assert_eq!(p.acknowledge(), 0x0b);
        p.write(Chip::Master, false, 0xe3); // rotate on specific EOI: 3 is the lowest
        pulse(&mut p, 3);
        pulse(&mut p, 7);
        assert_eq!(p.acknowledge(), 0x0d);
    }

    #[test]
    fn automatic_eoi_leaves_nothing_in_service_and_may_rotate() {
        let mut p = pair(3);
        pulse(&mut p, 8);
        pulse(&mut p, 12);
        assert_eq!(p.acknowledge(), 0x70);
        assert_eq!(isr(&mut p, Chip::Slave), 0);
        assert_eq!(
            p.acknowledge(),
            0x74,
            "a request left over makes a new edge"
        );
        assert!(!p.output());
        p.write(Chip::Master, false, 0x80);
        for vector in [0x08, 0x09, 0x08] {
            p.set_level(0, false);
            pulse(&mut p, 0);
            pulse(&mut p, 1);
            assert_eq!(p.acknowledge(), vector);
        }
    }

    #[test]
    fn special_mask_mode_lets_lower_levels_in() {
        let mut p = pair(1);
        pulse(&mut p, 1);
        p.acknowledge();
        pulse(&mut p, 6);
        p.write(Chip::Master, true, 0x02);
        assert!(!p.output());
        p.write(Chip::Master, false, 0x68);
        assert_eq!(p.acknowledge(), 0x0e);
        p.write(Chip::Master, false, 0x20);
        p.write(Chip::Master, false, 0x20);
        assert_eq!(
            isr(&mut p, Chip::Master),
            0x02,
            "masked: only a specific EOI"
        );
        p.write(Chip::Master, false, 0x48);
        p.write(Chip::Master, false, 0x20);
        assert_eq!(isr(&mut p, Chip::Master), 0);
    }

    #[test]
    fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
        for (icw4, nests) in [(0x01, false), (0x11, true)] {
            let mut p = pair(icw4);
            pulse(&mut p, 12);
            p.acknowledge();
            pulse(&mut p, 8);
            pulse(&mut p, 3);
            assert_eq!(p.output(), nests);
            if nests {
                assert_eq!(p.acknowledge(), 0x70);
                assert!(!p.output(), "IRQ3 stays below the slave");
            }
        }
    }

    #[test]
    fn poll_acknowledges_once() {
        let mut p = pair(1);
        pulse(&mut p, 6);
        p.write(Chip::Master, false, 0x0c);
        assert_eq!(p.read(Chip::Master, true), 0x86);
        assert_eq!(isr(&mut p, Chip::Master), 0x40);
        p.write(Chip::Master, false, 0x0c);
        assert_eq!(p.read(Chip::Master, false), 0);
        assert_eq!(p.read(Chip::Master, false), 0x40, "then the ISR again");
    }

    #[test]
    fn restored_level_makes_no_edge() {
        let mut p = pair(1);
        p.restore_level(4, true);
        assert!(!p.output());
        p.set_elcr(Chip::Master, 0x20);
        p.restore_level(5, true);
        assert_eq!(p.acknowledge(), 0x0d);
    }

    proptest! {
        /// "Fully Nested Mode": while INT is high, its level is above all in service.
        #[test]
        fn priority_is_never_inverted(
            steps in prop::collection::vec((0u8..4, any::<u8>()), 0..200),
        ) {
            let mut p = I8259::new(MASTER_ELCR_MASK, 0);
            for (what, value) in steps {
                match what {
                    0 => p.set_level(value & 7, value & 8 != 0),
                    // No ICWs: fully nested mode without special mask.
                    1 => p.write(false, value & 0xe7),
                    2 => p.write(true, value),
                    _ => {
                        let before = p.isr();
                        let asked = p.output();
                        let rotation = p.highest;
                        let level = p.acknowledge();
                        let distance = |l: u8| l.wrapping_sub(rotation) & 7;
                        prop_assert_eq!(p.isr() != before, asked);
                        if asked {
                            for other in (0..8).filter(|o| before & 1 << o != 0) {
                                prop_assert!(distance(level) < distance(other));
                            }
                        } else {
                            prop_assert_eq!(level, 7);
                        }
                    }
                }
                p.icw4 = 0;
                p.expect = Expect::Mask;
            }
        }
    }
}
