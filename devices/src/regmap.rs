//! Register spaces as rows: name, place, reset value, which bits the guest can write, and how.
//!
//! A [`RegMap`] answers reads and writes of any width at any offset, byte by byte, as the rows say;
//! what a register *does* is its device's business, after the write. PCI configuration spaces are
//! `RegMap`s; so is any device whose registers are mostly storage.

use crate::RestoreError;

bitflags::bitflags! {
    /// Side effects of a register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Effects: u8 {
        /// A read clears the bytes it read.
        const READ_CLEARS = 1 << 0;
        /// A write of some of the register's bytes is not merged with the others: they count as
        /// written zero. (The default is to merge.)
        const NO_RMW = 1 << 1;
    }
}

/// One register, or an array of equal ones. Of two rows over one byte the later counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg {
    /// The datasheet's name.
    pub name: &'static str,
    /// Byte offset of the (first) register.
    pub offset: u32,
    /// Width in bytes, 1 to 8.
    pub width: u8,
    /// How many registers stand side by side.
    pub count: u32,
    /// Value after reset.
    pub reset: u64,
    /// Bits a write sets and clears.
    pub writable: u64,
    /// Bits a written one clears, and nothing the guest does sets.
    pub one_clears: u64,
    /// Side effects.
    pub effects: Effects,
}

impl Reg {
    /// A register the guest cannot change.
    pub const fn ro(name: &'static str, offset: u32, width: u8, reset: u64) -> Self {
        Self::rw(name, offset, width, reset, 0)
    }

    /// A register with `writable` bits.
    ///
    /// # Panics
    /// If `width` is not 1 to 8 bytes.
    pub const fn rw(name: &'static str, offset: u32, width: u8, reset: u64, writable: u64) -> Self {
        assert!(width >= 1 && width <= 8, "a register has 1 to 8 bytes");
        Self {
            name,
            offset,
            width,
            count: 1,
            reset,
            writable,
            one_clears: 0,
            effects: Effects::empty(),
        }
    }

    /// The same, with bits that a written one clears.
    pub const fn one_clears(mut self, bits: u64) -> Self {
        self.one_clears = bits;
        self
    }

    /// The same, with side effects.
    pub const fn with(mut self, effects: Effects) -> Self {
        self.effects = effects;
        self
    }

    /// `count` of them, side by side.
    pub const fn times(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// The offset after the row's last byte.
    const fn end(&self) -> usize {
        self.offset as usize + self.width as usize * self.count as usize
    }

    /// Where in the space the register lies that has byte `at`.
    fn start_of(&self, at: usize) -> usize {
        let first = self.offset as usize;
        at - (at - first) % usize::from(self.width)
    }
}

/// A register space: its rows, and what the registers hold.
#[derive(Clone, Debug)]
pub struct RegMap {
    rows: Vec<Reg>,
    /// One for each byte of the space.
    cells: Box<[Cell]>,
}

/// One byte of a register space. A byte that no row names reads zero and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    value: u8,
    reset: u8,
    writable: u8,
    one_clears: u8,
    /// One more than the index of the row that names it.
    row: u16,
}

impl RegMap {
    /// A space of `size` bytes, after reset.
    ///
    /// # Panics
    /// If a row reaches past the space's end, or there are more than 65534 rows.
    pub fn new(size: usize, rows: impl IntoIterator<Item = Reg>) -> Self {
        let rows: Vec<Reg> = rows.into_iter().collect();
        let mut cells = vec![Cell::default(); size].into_boxed_slice();
        for (index, reg) in rows.iter().enumerate() {
            assert!(reg.end() <= size, "{} lies outside its space", reg.name);
            let row = u16::try_from(index + 1).expect("fewer than 65535 rows");
            for at in reg.offset as usize..reg.end() {
                let byte = at - reg.start_of(at);
                cells[at] = Cell {
                    value: reg.reset.to_le_bytes()[byte],
                    reset: reg.reset.to_le_bytes()[byte],
                    writable: reg.writable.to_le_bytes()[byte],
                    one_clears: reg.one_clears.to_le_bytes()[byte],
                    row,
                };
            }
        }
        Self { rows, cells }
    }

    /// The same space with one more row, after reset.
    ///
    /// # Panics
    /// As [`RegMap::new`].
    pub fn with_row(self, row: Reg) -> Self {
        Self::new(self.cells.len(), self.rows.into_iter().chain([row]))
    }

    /// Puts every register to its reset value.
    pub fn reset(&mut self) {
        for cell in &mut self.cells {
            cell.value = cell.reset;
        }
    }

    /// The guest reads; bytes past the end stay as they are.
    pub fn read(&mut self, offset: usize, data: &mut [u8]) {
        self.peek(offset, data);
        for at in self.inside(offset, data.len()) {
            if self.effects(at).contains(Effects::READ_CLEARS) {
                self.cells[at].value = 0;
            }
        }
    }

    /// Reads without any effect; bytes past the end stay as they are.
    pub fn peek(&self, offset: usize, data: &mut [u8]) {
        let cells = &self.cells[self.inside(offset, data.len())];
        for (byte, cell) in data.iter_mut().zip(cells) {
            *byte = cell.value;
        }
    }

    /// The guest writes; bytes past the end are dropped.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        let written = self.inside(offset, data.len());
        for (at, &byte) in written.clone().zip(data) {
            self.cells[at].write(byte);
        }
        if let (Some(first), Some(last)) = (written.clone().next(), written.clone().last()) {
            self.write_rest(first, written.clone());
            self.write_rest(last, written);
        }
    }

    /// Writes zero to the bytes outside `written` of the register with byte `at`, if it does not merge.
    fn write_rest(&mut self, at: usize, written: std::ops::Range<usize>) {
        let Some(reg) = self.row(at).copied() else {
            return;
        };
        if reg.effects.contains(Effects::NO_RMW) {
            let start = reg.start_of(at);
            let rest = start..start + usize::from(reg.width);
            for cell in rest.filter(|at| !written.contains(at)) {
                self.cells[cell].write(0);
            }
        }
    }

    /// The row that names the byte at `offset`.
    pub fn row(&self, offset: usize) -> Option<&Reg> {
        let row = self.cells.get(offset)?.row;
        self.rows.get(usize::from(row).checked_sub(1)?)
    }

    /// What `N` bytes hold, for the device itself; zeros past the end.
    pub fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut data = [0; N];
        self.peek(offset, &mut data);
        data
    }

    /// One byte.
    pub fn u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.bytes(offset))
    }

    /// Two bytes.
    pub fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    /// Four bytes.
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// The device itself sets bytes, whatever the guest may write; past the end they are dropped.
    pub fn set(&mut self, offset: usize, data: &[u8]) {
        let cells = self.inside(offset, data.len());
        for (cell, &byte) in self.cells[cells].iter_mut().zip(data) {
            cell.value = byte;
        }
    }

    /// All values, for saving.
    pub fn save(&self) -> Vec<u8> {
        self.cells.iter().map(|cell| cell.value).collect()
    }

    /// Takes saved values over.
    ///
    /// # Errors
    /// If they are not of this space's size; nothing has changed then.
    pub fn restore(&mut self, values: &[u8]) -> Result<(), RestoreError> {
        if values.len() != self.cells.len() {
            return Err(RestoreError::Impossible {
                field: "register space",
            });
        }
        self.set(0, values);
        Ok(())
    }

    /// The part of `len` bytes from `offset` that lies in the space.
    fn inside(&self, offset: usize, len: usize) -> std::ops::Range<usize> {
        let size = self.cells.len();
        offset.min(size)..offset.saturating_add(len).min(size)
    }

    fn effects(&self, at: usize) -> Effects {
        self.row(at).map_or(Effects::empty(), |reg| reg.effects)
    }
}

impl Cell {
    fn write(&mut self, byte: u8) {
        let kept = self.value & !(byte & self.one_clears) & !self.writable;
        self.value = kept | byte & self.writable;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const ROWS: &[Reg] = &[
        Reg::rw("area", 0x10, 1, 0, 0xFF).times(16),
        Reg::ro("id", 0x00, 4, 0x1234_8086),
        Reg::rw("control", 0x04, 2, 0x0100, 0x0507),
        Reg::rw("status", 0x06, 2, 0xF280, 0).one_clears(0xF900),
        Reg::rw("cause", 0x08, 4, 0xFFFF_FFFF, 0).with(Effects::READ_CLEARS),
        Reg::rw("doorbell", 0x0C, 4, 0, 0xFFFF_FFFF).with(Effects::NO_RMW),
        Reg::rw("pair", 0x18, 2, 0x8001, 0x0FF0).times(2),
    ];

    fn map() -> RegMap {
        RegMap::new(0x20, ROWS.iter().copied())
    }

    #[test]
    fn rows_say_what_a_write_does() {
        let mut m = map();
        m.write(0, &[0xFF; 8]);
        assert_eq!(m.u32(0), 0x1234_8086);
        assert_eq!(m.u16(4), 0x0507);
        assert_eq!(m.u16(6), 0x0280, "ones clear, the rest stays");
        m.write(0x1A, &[0xFF; 2]);
        assert_eq!((m.u16(0x18), m.u16(0x1A)), (0x8001, 0x8FF1), "arrays");
        assert_eq!(m.row(0x1B).map(|r| r.name), Some("pair"), "the later row");
        assert_eq!(m.row(0x20), None);
    }

    #[test]
    fn a_read_clears_only_what_it_reads() {
        let mut m = map();
        let mut byte = [0];
        m.read(0x09, &mut byte);
        assert_eq!((byte, m.u32(8)), ([0xFF], 0xFFFF_00FF));
    }

    #[test]
    fn a_register_that_does_not_merge_takes_zeros_for_the_rest() {
        let mut m = map();
        m.write(0x0C, &0xAABB_CCDDu32.to_le_bytes());
        m.write(0x0E, &[0x11]);
        assert_eq!(m.u32(0x0C), 0x0011_0000);
        m.write(0x0A, &[0x22; 3]);
        assert_eq!(m.u32(0x0C), 0x22, "and so at the end of a longer write");
    }

    proptest! {
        #[test]
        fn wide_accesses_are_their_bytes(
            before: [u8; 8], offset in 0usize..0x24, data: [u8; 8], width in 0usize..=8,
        ) {
            let (mut wide, mut narrow) = (map(), map());
            for m in [&mut wide, &mut narrow] {
                m.write(0x14, &before);
                m.write(0x04, &before);
            }
            // The doorbell is the one that tells widths apart.
            prop_assume!(offset + width <= 0x0C || offset >= 0x10);
            wide.write(offset, &data[..width]);
            for (i, byte) in data[..width].iter().enumerate() {
                narrow.write(offset + i, &[*byte]);
            }
            prop_assert_eq!(wide.save(), narrow.save());
            let (mut a, mut b) = ([0xFF; 8], [0xFF; 8]);
            wide.read(offset, &mut a[..width]);
            for (i, byte) in b[..width].iter_mut().enumerate() {
                narrow.read(offset + i, std::slice::from_mut(byte));
            }
            prop_assert_eq!(a, b);
            prop_assert_eq!(wide.save(), narrow.save());
        }

        #[test]
        fn any_offset_returns(offset: usize, data: [u8; 8]) {
            let mut m = map();
            let mut read = data;
            m.write(offset, &data);
            m.read(offset, &mut read);
            if offset >= 0x20 {
                prop_assert_eq!(read, data);
                prop_assert_eq!(m.save(), map().save());
            }
        }

        #[test]
        fn a_saved_space_comes_back(writes: Vec<(usize, [u8; 4])>) {
            let mut m = map();
            for (offset, data) in writes {
                m.write(offset % 0x20, &data);
            }
            let mut n = map();
            prop_assert!(n.restore(&m.save()).is_ok());
            prop_assert_eq!(n.save(), m.save());
            n.reset();
            prop_assert_eq!(n.save(), map().save());
            prop_assert!(n.restore(&[0; 3]).is_err());
        }
    }
}
