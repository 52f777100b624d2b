//! Starting a kernel without firmware: what SeaBIOS would have left of chipset, memory and processor,
//! as far as kernels count on it.
//!
//! RAM is switched in at C0000h-FFFFFh, PCI interrupts are routed to IRQ 10 and 11 (level), the
//! functions' windows are placed where SeaBIOS puts them, ACPI's tables lie at the end of low RAM. There
//! are no BIOS services, and nothing that only they need.

use std::sync::Arc;

use emu::arch::segment::{Seg, Segment, TableRegister};
use emu::arch::{Cr0, Gpr, RFlags};
use emu::state::CpuState;

use crate::machine::Boot;

/// Where the descriptor table lies that the segments were loaded from.
const GDT: u64 = 0x1000;
/// Flat 32-bit code, as the boot protocols' selector 10h, and data, 18h.
const CODE: u64 = 0x00CF_9B00_0000_FFFF;
const DATA: u64 = 0x00CF_9300_0000_FFFF;
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// Type of RAM in an E820 map, ...
const RAM: u32 = 1;
/// ... of what is kept from use, ...
const RESERVED: u32 = 2;
/// ... and of ACPI's tables.
const ACPI: u32 = 3;
const HIGH_RAM: u64 = 1 << 32;

/// Registers at the entry point; all others are zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Instruction pointer.
    pub eip: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ESI.
    pub esi: u32,
}

/// The machine's start at `entry` with `memory` in place.
pub fn boot(entry: Entry, mut memory: Vec<(u64, Arc<[u8]>)>) -> Boot {
    let gdt: Vec<u8> = [0, 0, CODE, DATA]
        .iter()
        .flat_map(|d| d.to_le_bytes())
        .collect();
    memory.push((GDT, gdt.into()));
    Boot {
        memory,
        ports: firmware_writes(),
        enter: Box::new(move |state| enter(state, entry)),
    }
}

/// Memory as a kernel may use it: base, size, E820 type. The last `acpi` bytes of the low part are
/// the tables'.
pub fn e820(low: u64, high: u64, acpi: u64) -> Vec<(u64, u64, u32)> {
    const MIB: u64 = 1 << 20;
    let mut map = vec![
        (0, 0x9_FC00, RAM),
        (0x9_FC00, 0x400, RESERVED),
        (0xF_0000, 0x1_0000, RESERVED),
        (MIB, low - MIB - acpi, RAM),
        (low - acpi, acpi, ACPI),
    ];
    if high != 0 {
        map.push((HIGH_RAM, high, RAM));
    }
    map
}

/// 32-bit protected mode with flat segments, paging and interrupts off.
fn enter(state: &mut CpuState, entry: Entry) {
    let data = Segment::from_descriptor(DATA_SELECTOR, DATA);
    for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
        state.segments[seg as usize] = data;
    }
    state.segments[Seg::Cs as usize] = Segment::from_descriptor(CODE_SELECTOR, CODE);
    state.gdtr = TableRegister {
        base: GDT,
        limit: 4 * 8 - 1,
    };
    state.cr0 = Cr0::PE | Cr0::ET;
    state.rflags = RFlags::FIXED;
    state.rip = entry.eip.into();
    state.gpr = [0; 16];
    for (register, value) in [
        (Gpr::Rax, entry.eax),
        (Gpr::Rbx, entry.ebx),
        (Gpr::Rsi, entry.esi),
    ] {
        state.gpr[register as usize] = value.into();
    }
}

/// A write to configuration space: slot, function, register, bytes.
struct Config(u8, u8, u8, &'static [u8]);

#[rustfmt::skip]
const CONFIG: &[Config] = &[
    // 82441FX: RAM at C0000-FFFFF, read and write.
    Config(0, 0, 0x58, &[0x00, 0x30, 0x33, 0x33]),
    Config(0, 0, 0x5C, &[0x33, 0x33, 0x33, 0x33]),
    // PIIX3: PIRQA and B to IRQ 10, C and D to IRQ 11.
    Config(1, 0, 0x60, &[10, 10, 11, 11]),
    // IDE: both channels decode; bus master at C040.
    Config(1, 1, 0x40, &[0x00, 0x80, 0x00, 0x80]),
    Config(1, 1, 0x20, &[0x41, 0xC0, 0x00, 0x00]),
    Config(1, 1, 0x04, &[0x05, 0x00]),
    // PM: registers at 600, SMBus at 700, both on; SCI is IRQ 9.
    Config(1, 3, 0x40, &[0x01, 0x06, 0x00, 0x00]),
    Config(1, 3, 0x80, &[0x01]),
    Config(1, 3, 0x90, &[0x01, 0x07, 0x00, 0x00]),
    Config(1, 3, 0xD0, &[0x00, 0x00, 0x09, 0x00]),
    Config(1, 3, 0x3C, &[9]),
    Config(1, 3, 0x04, &[0x01, 0x00]),
    // VGA: frame buffer and registers.
    Config(2, 0, 0x10, &[0x00, 0x00, 0x00, 0xFD]),
    Config(2, 0, 0x18, &[0x00, 0x00, 0xBF, 0xFE]),
    Config(2, 0, 0x04, &[0x03, 0x00]),
];

/// ELCR of the second 8259: IRQ 10 and 11 are levels.
const ELCR2: (u16, u8) = (0x4D1, 0x0C);

fn firmware_writes() -> Vec<(u16, Vec<u8>)> {
    let mut writes = Vec::new();
    for Config(slot, function, register, bytes) in CONFIG {
        let devfn = u32::from(*slot) << 3 | u32::from(*function);
        let address = 1 << 31 | devfn << 8 | u32::from(register & !3);
        writes.push((0xCF8, address.to_le_bytes().to_vec()));
        writes.push((0xCFC + u16::from(register & 3), bytes.to_vec()));
    }
    writes.push((ELCR2.0, vec![ELCR2.1]));
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_covers_ram_once() {
        let map = e820(0xC000_0000, 0x4000_0000, 0x2_8000);
        for pair in map.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        let usable: u64 = map.iter().filter(|e| e.2 == RAM).map(|e| e.1).sum();
        assert_eq!(usable, 0x1_0000_0000 - 0x10_0000 + 0x9_FC00 - 0x2_8000);
    }
}
