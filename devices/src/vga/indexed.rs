//! Registers behind an index and a data port.

use crate::RestoreError;
use crate::regmap::{Reg, RegMap};

/// The registers of one of the adapter's parts, and which of them the data port shows.
#[derive(Debug)]
pub struct Indexed {
    index: u8,
    /// The index register's bits.
    mask: u8,
    regs: RegMap,
}

impl Indexed {
    /// `size` registers of one byte, with an index register of the bits `mask`.
    pub fn new(size: usize, mask: u8, rows: &[Reg]) -> Self {
        Self {
            index: 0,
            mask,
            regs: RegMap::new(size, rows.iter().copied()),
        }
    }

    /// The index register.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Writes the index register.
    pub fn select(&mut self, index: u8) {
        self.index = index & self.mask;
    }

    /// Reads the register selected.
    pub fn read(&self) -> u8 {
        self.get(self.index)
    }

    /// Writes the register selected.
    pub fn write(&mut self, value: u8) {
        self.regs.write(self.index.into(), &[value]);
    }

    /// Register `index`; zero if there is none.
    pub fn get(&self, index: u8) -> u8 {
        self.regs.u8(index.into())
    }

    /// Whether all of `bits` are set in register `index`.
    pub fn has(&self, index: u8, bits: u8) -> bool {
        self.get(index) & bits == bits
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.index = 0;
        self.regs.reset();
    }

    /// What to save.
    pub fn save(&self) -> (u8, Vec<u8>) {
        (self.index, self.regs.save())
    }

    /// Takes saved registers over.
    ///
    /// # Errors
    /// If there are not as many; nothing has changed then.
    pub fn restore(&mut self, (index, regs): &(u8, Vec<u8>)) -> Result<(), RestoreError> {
        self.regs.restore(regs)?;
        self.select(*index);
        Ok(())
    }
}
