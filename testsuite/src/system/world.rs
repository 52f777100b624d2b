//! The memory a case finds and the state it starts with: the same physical memory in every mode,
//! identity mapped where there is paging.
//!
//! What is no table holds HLT; the values an instruction reads come with the case.
//!
//! | page | what |
//! |---|---|
//! | 0 | interrupt vectors of real mode |
//! | 1 | handlers: all HLT; vector n enters at byte n |
//! | 2 to 6 | GDT; IDTs; LDT; TSSs; ring 0 stack |
//! | 8 to 15 | page tables |
//! | 16, 17 | code (user, not writable): all HLT |
//! | 18, 19 | user, writable |
//! | 20, 21 | user, read-only; user, writable |
//! | 22, 23 | absent; user, writable |
//! | 24, 25 | supervisor, writable; supervisor, read-only |
//! | 26, 27 | user, writable, NX; a reserved bit is set (not in two-level tables) |
//! | 28 | user, writable: the stack |
//! | 29 to 63 | user, writable |

use std::ops::Range;

use emu::CpuState;
use emu::arch::segment::TableRegister;
use emu::arch::{Cr0, Cr4, Efer, Gpr, Seg, Segment};
use emu::state::Fpu;

use super::{Case, Mode};

/// Guest memory in bytes.
pub const RAM: usize = 0x4_0000;
/// Page size.
pub const PAGE: usize = 0x1000;
/// Handlers.
const HANDLERS: u64 = 0x1000;
const GDT: u64 = 0x2000;
const GDT_LIMIT: u16 = 0xFF;
const IDT32: u64 = 0x3000;
const IDT64: u64 = 0x3800;
/// Vectors that the IDTs of protected mode hold.
const VECTORS: u64 = 64;
const TSS32: u64 = 0x5000;
const TSS64: u64 = 0x5800;
const RING0_STACK: u64 = 0x7000;
const PML4: u64 = 0x8000;
const PDPT: u64 = 0x9000;
const PD: u64 = 0xA000;
const PT: u64 = 0xB000;
const PAE_PDPT: u64 = 0xC000;
const PAE_PD: u64 = 0xD000;
const PD32: u64 = 0xE000;
const PT32: u64 = 0xF000;
/// All of them.
pub const TABLES: Range<u64> = PML4..PT32 + 0x1000;
/// The first code page.
pub const CODE: u64 = 0x1_0000;
/// Where the instruction stands, as an offset into [`CODE`].
pub const START: u64 = 0x800;
/// The first data page.
pub const DATA: u64 = 0x1_2000;
/// Where the stack pointer points.
pub const STACK: u64 = 0x1_C800;
/// HLT.
pub const HLT: u8 = 0xF4;

/// The GDT, by index; the comment is the selector.
#[rustfmt::skip]
const DESCRIPTORS: [u64; 32] = [
    0,
    0x00CF_9B00_0000_FFFF, // 08 code32, ring 0
    0x00AF_9B00_0000_FFFF, // 10 code64, ring 0
    0x00CF_9300_0000_FFFF, // 18 data, ring 0
    0x00CF_FB00_0000_FFFF, // 20 code32, ring 3
    0x00CF_F300_0000_FFFF, // 28 data, ring 3
    0x00AF_FB00_0000_FFFF, // 30 code64, ring 3
    0x0000_9B01_0000_FFFF, // 38 code16, ring 0
    0x0000_9301_2000_FFFF, // 40 data16, ring 0
    0x0000_FB01_0000_FFFF, // 48 code16, ring 3
    0x0000_F301_2000_FFFF, // 50 data16, ring 3
    0x00CF_1300_0000_FFFF, // 58 data, not present
    0x00CF_1B00_0000_FFFF, // 60 code, not present
    0x00CF_F100_0000_FFFF, // 68 read-only data
    0x00CF_F200_0000_FFFF, // 70 data, not accessed
    0x00CF_F900_0000_FFFF, // 78 execute-only code
    0x00CF_9F00_0000_FFFF, // 80 conforming code
    0x00C0_F700_0000_000F, // 88 expand-down data
    0x0040_F301_2000_00FF, // 90 data of 256 bytes
    0x0000_8200_4000_00FF, // 98 LDT
    0x0000_8900_5000_00FF, // A0 TSS32, available
    0x0000_8B00_5000_00FF, // A8 TSS32, busy
    0x0000_EC00_0008_1F00, // B0 call gate to ring 0, for ring 3
    0x0000_8C00_0008_1F00, // B8 call gate to ring 0, for ring 0
    0x0000_8200_4000_00FF, 0, // C0 LDT of 16 bytes
    0x0000_8900_5800_00FF, 0, // D0 TSS64, available
    0x0000_8B00_5800_00FF, 0, // E0 TSS64, busy
    0x0000_EC00_0010_1F00, 0, // F0 call gate of 16 bytes
];
/// Selectors that say something: each descriptor, the LDT's, null ones, beyond the limit.
pub const SELECTORS: [u16; 40] = [
    0, 3, 8, 0x10, 0x18, 0x23, 0x2B, 0x33, 0x38, 0x40, 0x4B, 0x53, 0x58, 0x5B, 0x60, 0x63, 0x68,
    0x6B, 0x70, 0x73, 0x78, 0x7B, 0x80, 0x83, 0x88, 0x8B, 0x90, 0x93, 0x98, 0xA0, 0xA8, 0xB0, 0xB8,
    0xC0, 0xD0, 0xE0, 0xF0, 0x0C, 0x108, 0xFFFF,
];

/// What memory holds before each case.
pub fn image() -> Vec<u8> {
    // A jump that lands anywhere ends there, so that a case stays one instruction.
    let mut bytes = vec![HLT; RAM];
    bytes[GDT as usize..CODE as usize].fill(0);
    let mut put = |at: u64, value: &[u8]| {
        bytes[at as usize..][..value.len()].copy_from_slice(value);
    };
    for vector in 0..256u64 {
        // Segment 0100h.
        put(4 * vector, &(0x0100_0000 | vector as u32).to_le_bytes());
    }
    for (i, descriptor) in (0..).zip(DESCRIPTORS) {
        put(GDT + 8 * i, &descriptor.to_le_bytes());
    }
    // The LDT: a data and a code segment of ring 3.
    put(0x4008, &0x00CF_F300_0000_FFFF_u64.to_le_bytes());
    put(0x4010, &0x00CF_FB00_0000_FFFF_u64.to_le_bytes());
    for vector in 0..VECTORS {
        let rights = gate(vector) << 40 | (HANDLERS + vector);
        put(IDT32 + 8 * vector, &(rights | 0x08 << 16).to_le_bytes());
        put(IDT64 + 16 * vector, &(rights | 0x10 << 16).to_le_bytes());
    }
    put(TSS32 + 4, &(RING0_STACK as u32).to_le_bytes());
    put(TSS32 + 8, &0x18_u32.to_le_bytes());
    put(TSS64 + 4, &RING0_STACK.to_le_bytes());
    for tss in [TSS32, TSS64] {
        put(tss + 102, &0x68_u16.to_le_bytes());
        put(tss + 0x68, &[0xF0; 0x97]);
        put(tss + 0xFF, &[0xFF]);
    }
    for (table, entry) in [
        (PML4, PDPT | 0x67),
        (PDPT, PD | 0x67),
        (PD, PT | 0x67),
        (PAE_PDPT, PAE_PD | 1),
        (PAE_PD, PT | 0x67),
        (PD32, PT32 | 0x67),
    ] {
        put(table, &entry.to_le_bytes());
    }
    for page in 0..RAM as u64 / 0x1000 {
        let long = leaf(page);
        put(PT + 8 * page, &long.to_le_bytes());
        put(PT32 + 4 * page, &(long as u32).to_le_bytes());
    }
    bytes
}

/// Access byte of a gate: mostly interrupt gates for ring 0; some for ring 3, traps, absent ones.
const fn gate(vector: u64) -> u64 {
    match vector {
        3 | 4 | 32..=39 => 0xEE,
        40..=43 => 0x8F,
        44..=47 => 0xEF,
        48 => 0x6E,
        49 => 0xE2,
        _ => 0x8E,
    }
}

/// The entry of a page; A and D are set already.
const fn leaf(page: u64) -> u64 {
    const SUPERVISOR: u64 = 0x61;
    const USER: u64 = 0x65;
    const WRITE: u64 = 2;
    let address = page << 12;
    match page {
        0..16 | 24 => address | SUPERVISOR | WRITE,
        16 | 17 | 20 => address | USER,
        22 => 0,
        25 => address | SUPERVISOR,
        26 => address | USER | WRITE | 1 << 63,
        27 => address | USER | WRITE | 1 << 51,
        _ => address | USER | WRITE,
    }
}

/// Linear address of the instruction.
pub const fn code_at() -> u64 {
    CODE + START
}

/// The processor at a case's instruction.
pub fn state(case: &Case) -> CpuState {
    let mut state = CpuState::reset(0);
    state.gpr = case.gpr;
    if case.mode != Mode::Long {
        for value in &mut state.gpr {
            *value &= 0xFFFF_FFFF;
        }
        state.gpr[8..].fill(0);
    }
    state.rflags = case.flags();
    state.fpu = Fpu {
        fcw: 0x37F,
        ftw: 0,
        ..Fpu::default()
    };
    state.cr0 = Cr0::ET | Cr0::NE | Cr0::MP;
    state.cr4 = Cr4::OSFXSR;
    set_segments(case, &mut state);
    state.gdtr = TableRegister {
        base: GDT,
        limit: GDT_LIMIT,
    };
    set_tables(case.mode, &mut state);
    if case.mode != Mode::Real {
        state.cr0 |= Cr0::PE | Cr0::WP | Cr0::AM;
        state.msrs.sysenter_cs = 8;
        state.msrs.sysenter_esp = RING0_STACK;
        state.msrs.sysenter_eip = HANDLERS + 0xE00;
    }
    set_paging(case.mode, &mut state);
    state
}

/// Interrupt table and task register.
fn set_tables(mode: Mode, state: &mut CpuState) {
    let long = matches!(mode, Mode::Long | Mode::Compat);
    let (base, limit) = match (mode, long) {
        (Mode::Real, _) => (0, 0x3FF),
        (_, true) => (IDT64, VECTORS as u16 * 16 - 1),
        _ => (IDT32, VECTORS as u16 * 8 - 1),
    };
    state.idtr = TableRegister { base, limit };
    state.segments[Seg::Ldtr as usize] = Segment::null(0);
    let (selector, base) = if long { (0xE0, TSS64) } else { (0xA8, TSS32) };
    state.segments[Seg::Tr as usize] = Segment {
        selector,
        base,
        limit: 0xFF,
        access: Segment::P | 0xB,
    };
}

fn set_segments(case: &Case, state: &mut CpuState) {
    let ring = u16::from(case.cpl);
    let [code, data] = match (case.mode, case.cpl) {
        (Mode::Real | Mode::V86, _) => [0, 0],
        (Mode::Prot16, 0) => [0x38, 0x40],
        (Mode::Prot16, _) => [0x48, 0x50],
        (Mode::Long, 0) => [0x10, 0x18],
        (Mode::Long, _) => [0x30, 0x28],
        (_, 0) => [0x08, 0x18],
        _ => [0x20, 0x28],
    };
    state.rip = if case.mode.bits() == 16 {
        START
    } else {
        CODE + START
    };
    let small = case.mode.bits() == 16;
    // Bits above the stack pointer's width come from the case.
    state.gpr[Gpr::Rsp as usize] = if small { STACK - DATA } else { STACK };
    if matches!(case.mode, Mode::Real | Mode::V86) {
        let dpl = u32::from(case.cpl) << 5;
        let rights = Segment::P | Segment::S | Segment::WRITABLE | Segment::ACCESSED | dpl;
        // In virtual-8086 mode CS is a data segment too.
        let executable = if case.mode == Mode::Real {
            Segment::CODE
        } else {
            0
        };
        let selectors = [0x1200, 0x1000, 0x1200, 0x1200, 0x1300, 0x1700];
        for (i, selector) in selectors.into_iter().enumerate() {
            let rights = if i == Seg::Cs as usize {
                rights | executable
            } else {
                rights
            };
            state.segments[i] = Segment::real(selector, rights);
        }
        return;
    }
    for i in 0..6 {
        let selector = if i == Seg::Cs as usize { code } else { data };
        let raw = DESCRIPTORS[usize::from(selector >> 3)];
        state.segments[i] = match i {
            // As 64-bit systems have them; a partial KVM's ring 3 has no others.
            0 | 3.. if case.mode == Mode::Long && case.cpl == 3 => Segment::null(0),
            _ => Segment::from_descriptor(selector | ring, raw),
        };
    }
}

fn set_paging(mode: Mode, state: &mut CpuState) {
    match mode {
        Mode::Real | Mode::Prot16 | Mode::Prot32 => return,
        Mode::V86 | Mode::Paged32 => state.cr3 = PD32,
        Mode::Pae => {
            state.cr3 = PAE_PDPT;
            state.cr4 |= Cr4::PAE;
            state.efer |= Efer::NXE;
            state.pdpte[0] = PAE_PD | 1;
        }
        Mode::Compat | Mode::Long => {
            state.cr3 = PML4;
            state.cr4 |= Cr4::PAE;
            state.efer |= Efer::NXE | Efer::LME | Efer::LMA | Efer::SCE;
            state.msrs.star = 0x0020_0008 << 32;
            state.msrs.lstar = HANDLERS + 0xF00;
            state.msrs.cstar = HANDLERS + 0xF80;
            state.msrs.sfmask = 0x700;
        }
    }
    state.cr0 |= Cr0::PG;
}
