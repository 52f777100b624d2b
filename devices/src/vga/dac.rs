//! The video DAC: 256 colors of three bytes.
//!
//! IBM VGA, "Video Digital-to-Analog Converter". Entries are 6 bits a color, 8 while DISPI asks for
//! that; then all eight read back, else six. As in QEMU the read and the write address are registers
//! of their own, and 6 bits become 8 by doubling their lowest bit twice.

use crate::RestoreError;

const ENTRIES: usize = 256;

/// State register: the read address was written last.
const READING: u8 = 3;

/// The DAC.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Dac {
    colors: Vec<u8>,
    read_index: u8,
    write_index: u8,
    /// Which of the three colors is next.
    part: u8,
    /// The colors written of an entry that is not whole yet.
    pending: [u8; 2],
    reading: bool,
    mask: u8,
}

impl Dac {
    /// After reset: black, and nothing masked.
    pub fn new() -> Self {
        Self {
            colors: vec![0; 3 * ENTRIES],
            read_index: 0,
            write_index: 0,
            part: 0,
            pending: [0; 2],
            reading: false,
            mask: 0xFF,
        }
    }

    /// Port 3C6h: the mask.
    pub fn mask(&self) -> u8 {
        self.mask
    }

    /// Port 3C6h written.
    pub fn set_mask(&mut self, mask: u8) {
        self.mask = mask;
    }

    /// Port 3C7h: which address was written last.
    pub fn state(&self) -> u8 {
        if self.reading { READING } else { 0 }
    }

    /// Port 3C7h written.
    pub fn start_reading(&mut self, index: u8) {
        (self.read_index, self.part, self.reading) = (index, 0, true);
    }

    /// Port 3C8h: the write address.
    pub fn write_index(&self) -> u8 {
        self.write_index
    }

    /// Port 3C8h written.
    pub fn start_writing(&mut self, index: u8) {
        (self.write_index, self.part, self.reading) = (index, 0, false);
    }

    /// Port 3C9h read.
    pub fn read(&mut self, eight_bits: bool) -> u8 {
        let at = 3 * usize::from(self.read_index) + usize::from(self.part);
        let value = self.colors.get(at).copied().unwrap_or(0);
        self.part += 1;
        if self.part >= 3 {
            self.part = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        if eight_bits { value } else { value & 0x3F }
    }

    /// Port 3C9h written; an entry changes when its third color comes.
    pub fn write(&mut self, value: u8) {
        if let Some(pending) = self.pending.get_mut(usize::from(self.part)) {
            *pending = value;
            self.part += 1;
            return;
        }
        let at = 3 * usize::from(self.write_index);
        if let Some(entry) = self.colors.get_mut(at..at + 3) {
            entry.copy_from_slice(&[self.pending[0], self.pending[1], value]);
        }
        self.part = 0;
        self.write_index = self.write_index.wrapping_add(1);
    }

    /// The color an index shows.
    pub fn color(&self, index: u8, eight_bits: bool) -> [u8; 3] {
        let at = 3 * usize::from(index & self.mask);
        let entry = self.colors.get(at..at + 3).unwrap_or(&[0; 3]);
        [entry[0], entry[1], entry[2]].map(|c| if eight_bits { c } else { widen(c) })
    }

    /// Checks what was restored.
    ///
    /// # Errors
    /// If no DAC can hold it.
    pub fn checked(self) -> Result<Self, RestoreError> {
        if self.colors.len() == 3 * ENTRIES && self.part < 3 {
            Ok(self)
        } else {
            Err(RestoreError::Impossible { field: "palette" })
        }
    }
}

fn widen(six: u8) -> u8 {
    (six << 2) | ((six & 1) * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_three_bytes_and_the_address_moves_on() {
        let mut dac = Dac::new();
        dac.start_writing(0xFF);
        for value in [1, 2, 0x3F, 4, 5, 6] {
            dac.write(value);
        }
        assert_eq!((dac.write_index(), dac.state()), (1, 0));
        dac.start_reading(0xFF);
        assert_eq!(dac.state(), 3);
        let back: Vec<u8> = (0..6).map(|_| dac.read(false)).collect();
        assert_eq!(back, [1, 2, 0x3F, 4, 5, 6]);
        assert_eq!(dac.color(0xFF, false), [0x07, 0x08, 0xFF]);
    }

    #[test]
    fn an_entry_begun_anew_forgets_what_it_had() {
        let mut dac = Dac::new();
        dac.start_writing(7);
        dac.write(9);
        dac.start_writing(7);
        [1, 2].into_iter().for_each(|c| dac.write(c));
        assert_eq!(dac.color(7, true), [0; 3], "not whole yet");
        dac.write(3);
        assert_eq!(dac.color(7, true), [1, 2, 3]);
    }

    #[test]
    fn width_and_mask() {
        let mut dac = Dac::new();
        dac.start_writing(0x41);
        [0xFF, 0x80, 0x15].into_iter().for_each(|c| dac.write(c));
        dac.start_reading(0x41);
        assert_eq!([0; 3].map(|_| dac.read(true)), [0xFF, 0x80, 0x15]);
        dac.start_reading(0x41);
        assert_eq!([0; 3].map(|_| dac.read(false)), [0x3F, 0x00, 0x15]);
        dac.set_mask(0x0F);
        assert_eq!(dac.color(0x41, true), [0; 3]);
    }
}
