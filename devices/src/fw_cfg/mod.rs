//! The firmware configuration device (fw_cfg): what firmware and guest are told of the machine.
//!
//! Document: QEMU specs, "QEMU Firmware Configuration (fw_cfg) Device". Region 0: port 510h the selector (a
//! 16-bit write, little-endian), port 511h the data. Region 1: ports 514h-51Bh the address of a DMA command,
//! big-endian, its upper half first; the write of the lower half runs the command. Read, they say "QEMU CFG".
//!
//! Items are [`Contents`]. An item's bytes are read in order; behind its end, and where there is no item, are
//! zeros. A file the guest may write is written by DMA alone and has its first contents again after a reset.
//!
//! A command runs before the write that starts it returns. It ends with an error at the first byte that is
//! not RAM; what came before is transferred. Where commands name several operations, read comes before write
//! before skip.
//!
//! Not modelled: writes to the data port (ignored, as by the reference since its 2.4); reads wider than a byte
//! (zero, as by the reference).

mod contents;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use contents::{ARCH_LOCAL, Contents, ContentsError, FILE_DIR, FILE_FIRST, Item};

use crate::board::{Wiring, firmware};
use crate::memory_map::{BusMaster, Target};
use crate::{At, Device, RestoreError, State};

/// Keys, as the document names them.
pub mod key {
    /// "QEMU": there is such a device.
    pub const SIGNATURE: u16 = 0x00;
    /// What the device can do: bit 0 always, bit 1 DMA.
    pub const ID: u16 = 0x01;
    /// The machine's UUID.
    pub const UUID: u16 = 0x02;
    /// Bytes of RAM.
    pub const RAM_SIZE: u16 = 0x03;
    /// No display.
    pub const NOGRAPHIC: u16 = 0x04;
    /// Number of processors.
    pub const NB_CPUS: u16 = 0x05;
    /// Where the kernel goes.
    pub const KERNEL_ADDR: u16 = 0x07;
    /// Its size.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Where the initial RAM disk goes.
    pub const INITRD_ADDR: u16 = 0x0A;
    /// Its size.
    pub const INITRD_SIZE: u16 = 0x0B;
    /// Memory nodes.
    pub const NUMA: u16 = 0x0D;
    /// Whether firmware offers its boot menu.
    pub const BOOT_MENU: u16 = 0x0E;
    /// The number of processors there can be.
    pub const MAX_CPUS: u16 = 0x0F;
    /// Where a kernel that is no Linux begins.
    pub const KERNEL_ENTRY: u16 = 0x10;
    /// The kernel.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// Where the command line goes.
    pub const CMDLINE_ADDR: u16 = 0x13;
    /// Its size, with its zero.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The command line.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Where Linux's setup code goes.
    pub const SETUP_ADDR: u16 = 0x16;
    /// Its size.
    pub const SETUP_SIZE: u16 = 0x17;
    /// The setup code.
    pub const SETUP_DATA: u16 = 0x18;
    /// The 8254 is at input 2 of the IOAPIC.
    pub const IRQ0_OVERRIDE: u16 = super::ARCH_LOCAL | 2;
    /// Where the HPETs are.
    pub const HPET: u16 = super::ARCH_LOCAL | 4;
}

const VERSION: u32 = 1;
/// The selector bit that once announced writes to the data port.
const WRITE_CHANNEL: u16 = 0x4000;
/// What the DMA registers read as.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";
/// Bytes moved at once.
const CHUNK: u64 = 64 << 10;

/// Bits of a DMA command's control field.
mod control {
    pub(super) const ERROR: u32 = 1 << 0;
    pub(super) const READ: u32 = 1 << 1;
    pub(super) const SKIP: u32 = 1 << 2;
    pub(super) const SELECT: u32 = 1 << 3;
    pub(super) const WRITE: u32 = 1 << 4;
}

/// Builds the device with what the board and the user tell (`wiring.parts`).
pub fn new(wiring: &Wiring) -> Box<dyn Device> {
    let contents = firmware::contents(&wiring.options, &wiring.parts);
    Box::new(FwCfg::new(&contents, wiring.memory.clone()))
}

struct FwCfg {
    items: BTreeMap<u16, Item>,
    memory: BusMaster,
    registers: Registers,
}

/// What is saved.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    key: u16,
    /// The next byte of the item, at most its length.
    offset: u32,
    /// The upper half of a command's address.
    dma_high: u32,
    /// The writable items as the guest left them.
    written: BTreeMap<u16, Vec<u8>>,
}

/// The memory a transfer wants is not RAM.
struct NotRam;

impl FwCfg {
    fn new(contents: &Contents, memory: BusMaster) -> Self {
        let items = contents.by_key();
        let registers = Registers::new(&items);
        Self {
            items,
            memory,
            registers,
        }
    }

    /// The selected item's bytes from the offset on.
    fn rest(&self) -> &[u8] {
        let Registers {
            key,
            offset,
            written,
            ..
        } = &self.registers;
        let all = match (written.get(key), self.items.get(key)) {
            (Some(written), _) => written,
            (None, Some(item)) => &*item.data,
            (None, None) => &[],
        };
        all.get(*offset as usize..).unwrap_or_default()
    }

    fn select(&mut self, key: u16) {
        self.registers.key = key & !WRITE_CHANNEL;
        self.registers.offset = 0;
    }

    /// Goes on by `count` bytes, not behind the end.
    fn skip(&mut self, count: u32) {
        let count = count.min(self.rest().len() as u32);
        self.registers.offset += count;
    }

    fn next(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.skip(1);
        byte
    }

    /// Runs the command at `address`, and tells the guest in its control field how it went.
    fn run(&mut self, address: u64) {
        let mut command = [0; 16];
        let result = self.read_ram(address, &mut command).and_then(|()| {
            let [control, length] = [0, 4].map(|at| be_u32(&command, at));
            let target = u64::from(be_u32(&command, 8)) << 32 | u64::from(be_u32(&command, 12));
            self.transfer(control, length, target)
        });
        let status = match result {
            Ok(()) => 0,
            Err(NotRam) => {
                tracing::debug!(target: "fw_cfg", address, "command ends with an error");
                control::ERROR
            }
        };
        self.memory.write(address, &status.to_be_bytes());
    }

    fn transfer(&mut self, control: u32, length: u32, address: u64) -> Result<(), NotRam> {
        if control & control::SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        if control & control::READ != 0 {
            self.read_out(length, address)
        } else if control & control::WRITE != 0 {
            self.write_in(length, address)
        } else {
            if control & control::SKIP != 0 {
                self.skip(length);
            }
            Ok(())
        }
    }

    /// Copies the item from the offset on into memory, and zeros behind its end. What is not RAM on the
    /// way is an error, but does not keep the rest back: images that begin in the BIOS's segment are loaded
    /// from 1 MiB on, as on the stock machine.
    fn read_out(&mut self, length: u32, address: u64) -> Result<(), NotRam> {
        let memory = self.memory.clone();
        let bytes = length.min(self.rest().len() as u32);
        let mut at = address;
        let mut result = Ok(());
        for chunk in self.rest()[..bytes as usize].chunks(CHUNK as usize) {
            result = result.and(write_ram(&memory, at, chunk));
            at = at.saturating_add(chunk.len() as u64);
        }
        self.skip(bytes);
        let zeros = vec![0; CHUNK.min((length - bytes).into()) as usize];
        let mut left = u64::from(length - bytes);
        while left > 0 {
            let count = left.min(CHUNK);
            result = result.and(write_ram(&memory, at, &zeros[..count as usize]));
            at = at.saturating_add(count);
            left -= count;
        }
        result
    }

    /// Overwrites a writable item from the offset on, if all of it fits.
    fn write_in(&mut self, length: u32, address: u64) -> Result<(), NotRam> {
        // Of nothing, nothing can go wrong: as on the stock machine.
        if length == 0 {
            return Ok(());
        }
        let key = self.registers.key;
        let fits = length as usize <= self.rest().len();
        let Some(item) = self.registers.written.get(&key).filter(|_| fits) else {
            // As on the stock machine, the offset goes on all the same.
            self.skip(length);
            return Err(NotRam);
        };
        let mut item = item.clone();
        let offset = self.registers.offset as usize;
        self.read_ram(address, &mut item[offset..][..length as usize])?;
        self.registers.written.insert(key, item);
        self.skip(length);
        Ok(())
    }

    fn read_ram(&self, address: u64, data: &mut [u8]) -> Result<(), NotRam> {
        is_ram(&self.memory, address, data.len())?;
        self.memory.read(address, data);
        Ok(())
    }
}

impl Registers {
    fn new(items: &BTreeMap<u16, Item>) -> Self {
        let writable = items.iter().filter(|(_, item)| item.writable);
        Self {
            key: key::SIGNATURE,
            offset: 0,
            dma_high: 0,
            written: writable
                .map(|(key, item)| (*key, item.data.to_vec()))
                .collect(),
        }
    }
}

/// Writes what is RAM; an error if not all of it is.
fn write_ram(memory: &BusMaster, address: u64, data: &[u8]) -> Result<(), NotRam> {
    memory.write(address, data);
    is_ram(memory, address, data.len())
}

/// Whether all the bytes are memory a bus master can write.
fn is_ram(memory: &BusMaster, address: u64, length: usize) -> Result<(), NotRam> {
    let map = memory.map();
    let view = map.bus_master();
    let mut at = address;
    let mut left = length as u64;
    while left > 0 {
        let range = view.find(at).ok_or(NotRam)?;
        let Target::Block {
            read_only: false, ..
        } = &range.target
        else {
            return Err(NotRam);
        };
        let here = (range.last - at).saturating_add(1).min(left);
        left -= here;
        at = at.checked_add(here).ok_or(NotRam)?;
    }
    Ok(())
}

fn be_u32(bytes: &[u8; 16], at: usize) -> u32 {
    let byte = |n: usize| u32::from(bytes[at + n]);
    byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3)
}

impl Device for FwCfg {
    fn read(&mut self, at: At, data: &mut [u8]) {
        match (at.region, data) {
            (0, [byte]) => *byte = self.next(),
            (0, wider) => wider.fill(0),
            (_, data) => {
                let signature = usize::try_from(at.offset)
                    .ok()
                    .and_then(|at| DMA_SIGNATURE.get(at..));
                for (byte, sign) in data.iter_mut().zip(signature.unwrap_or_default()) {
                    *byte = *sign;
                }
            }
        }
    }

    fn write(&mut self, at: At, data: &[u8]) {
        match (at.region, at.offset, data) {
            (0, 0, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (1, 0, &[a, b, c, d]) => self.registers.dma_high = u32::from_be_bytes([a, b, c, d]),
            (1, 4, &[a, b, c, d]) => {
                let low = u32::from_be_bytes([a, b, c, d]);
                let high = std::mem::take(&mut self.registers.dma_high);
                self.run(u64::from(high) << 32 | u64::from(low));
            }
            _ => tracing::debug!(target: "fw_cfg", ?at, ?data, "write ignored"),
        }
    }

    fn reset(&mut self) {
        self.registers = Registers::new(&self.items);
    }

    fn save(&self) -> State {
        State::of(VERSION, &self.registers)
    }

    fn restore(&mut self, from: &State) -> Result<(), RestoreError> {
        let registers: Registers = from.fields(VERSION)?;
        let impossible = |field| RestoreError::Impossible { field };
        let sizes = |r: &Registers| -> Vec<(u16, usize)> {
            r.written
                .iter()
                .map(|(key, data)| (*key, data.len()))
                .collect()
        };
        if sizes(&registers) != sizes(&self.registers) {
            return Err(impossible("set of writable items"));
        }
        let length = self
            .items
            .get(&registers.key)
            .map_or(0, |item| item.data.len());
        if registers.offset as usize > length {
            return Err(impossible("offset"));
        }
        self.registers = registers;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
