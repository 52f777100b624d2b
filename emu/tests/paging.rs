//! Guests that turn paging on, in bytes, through the public API: the processor as its users see it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use emu::arch::cpuid::CpuModel;
use emu::arch::{Cr0, Cr4, Efer, RFlags, Seg};
use emu::io::NoBoard;
use emu::memory::{Block, Range};
use emu::{Attention, CpuState, Engine, MemoryMap, Stop};

#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

const PAGES: usize = 16;
const LEN: u64 = PAGES as u64 * 4096;

/// RAM, and a processor in real mode that will run what lies at 600h.
struct Guest {
    engine: Engine,
    ram: Arc<[Page]>,
}

impl Guest {
    fn new(code: &[&[u8]]) -> Self {
        let ram: Arc<[Page]> = (0..PAGES)
            .map(|_| Page([const { AtomicU8::new(0) }; 4096]))
            .collect();
        let range = Range {
            start: 0,
            len: LEN,
            block: Block {
                host: NonNull::from(&*ram).cast(),
                len: LEN,
                marks: (0..PAGES).map(|_| AtomicU8::new(0)).collect(),
                owner: Arc::new(Arc::clone(&ram)),
            },
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        let attention = Arc::new(Attention::new(None));
        attention.set_memory_map(Arc::new(MemoryMap::new(vec![range], true).unwrap()));
        let model = Arc::new(CpuModel::by_name("max").unwrap());
        let mut state = CpuState::reset(model.signature());
        state.segments[Seg::Cs as usize].base = 0;
        state.segments[Seg::Cs as usize].selector = 0;
        state.rip = 0x600;
        let mut engine = Engine::new(model, Arc::new(NoBoard), attention);
        engine.set_state(&state);
        let guest = Self { engine, ram };
        guest.write(0x600, &code.concat());
        guest
    }

    fn write(&self, address: usize, bytes: &[u8]) {
        for (at, &byte) in (address..).zip(bytes) {
            self.ram[at / 4096].0[at % 4096].store(byte, Ordering::Relaxed);
        }
    }

    fn read(&self, address: usize, len: usize) -> u64 {
        (0..len).rev().fold(0, |value, k| {
            let at = address + k;
            let byte = self.ram[at / 4096].0[at % 4096].load(Ordering::Relaxed);
            value << 8 | u64::from(byte)
        })
    }
}

// 16-bit code.
const MOV_CR0: &[u8] = &[0x0F, 0x22, 0xC0];
const MOV_CR3: &[u8] = &[0x0F, 0x22, 0xD8];
const MOV_CR4: &[u8] = &[0x0F, 0x22, 0xE0];
const WRMSR: &[u8] = &[0x0F, 0x30];
const HLT: &[u8] = &[0xF4];
/// mov [3000h], al
const STORE_3000: &[u8] = &[0xA2, 0x00, 0x30];
/// mov al, [4000h]
const LOAD_4000: &[u8] = &[0xA0, 0x00, 0x40];

/// mov eax, imm32
fn eax(value: u32) -> Vec<u8> {
    [&[0x66, 0xB8], value.to_le_bytes().as_slice()].concat()
}

/// mov ecx, imm32; mov edx, 0
fn ecx(value: u32) -> Vec<u8> {
    let ecx = [&[0x66, 0xB9], value.to_le_bytes().as_slice()].concat();
    [ecx, vec![0x66, 0xBA, 0, 0, 0, 0]].concat()
}

const PE_PG: u32 = (Cr0::PE.bits() | Cr0::PG.bits()) as u32;

#[test]
fn two_levels() {
    let mut guest = Guest::new(&[
        &eax(0x8000),
        MOV_CR3,
        &eax(PE_PG),
        MOV_CR0,
        STORE_3000,
        LOAD_4000,
        HLT,
    ]);
    guest.write(0x8000, &0x9003u32.to_le_bytes());
    for n in 0..16usize {
        guest.write(0x9000 + 4 * n, &((n as u32 * 0x1000) | 3).to_le_bytes());
    }
    guest.write(0x9010, &0x5003u32.to_le_bytes());
    guest.write(0x5000, &[0x77]);
    assert_eq!(guest.engine.run(), Stop::Halted);
    assert_eq!(guest.engine.state().gpr[0] & 0xFF, 0x77);
    assert_eq!(guest.read(0x3000, 1), 1, "the low byte of EAX");
    assert_eq!(guest.read(0x8000, 4), 0x9023);
    assert_eq!(guest.read(0x900C, 4), 0x3063, "written");
    assert_eq!(guest.read(0x9010, 4), 0x5023, "read");
    assert_eq!(guest.read(0x9014, 4), 0x5003, "not used");
}

#[test]
fn pae_keeps_its_pdptes_in_registers() {
    let mut guest = Guest::new(&[
        &eax(Cr4::PAE.bits() as u32),
        MOV_CR4,
        &eax(0x8000),
        MOV_CR3,
        &eax(PE_PG),
        MOV_CR0,
        // The table in memory goes; the registers stay.
        &eax(0),
        &[0xA2, 0x00, 0x80],
        LOAD_4000,
        HLT,
    ]);
    guest.write(0x8000, &0x9001u64.to_le_bytes());
    guest.write(0x9000, &0x83u64.to_le_bytes());
    guest.write(0x4000, &[0x55]);
    assert_eq!(guest.engine.run(), Stop::Halted);
    let state = guest.engine.state();
    assert_eq!(state.gpr[0] & 0xFF, 0x55);
    assert_eq!(guest.read(0x8000, 1), 0);
    assert_eq!(state.pdpte, [0x9001, 0, 0, 0]);
    assert_eq!(guest.read(0x9000, 8), 0xE3, "a 2 MiB page, dirty");
}

#[test]
fn long_mode_by_way_of_compatibility_mode() {
    let mut guest = Guest::new(&[
        &eax(Cr4::PAE.bits() as u32),
        MOV_CR4,
        &eax(0x8000),
        MOV_CR3,
        &ecx(0xC000_0080),
        &eax(Efer::LME.bits() as u32),
        WRMSR,
        &eax(PE_PG),
        MOV_CR0,
        STORE_3000,
        LOAD_4000,
        HLT,
    ]);
    for (at, value) in [(0x8000, 0x9003u64), (0x9000, 0xA003), (0xA000, 0xB003)] {
        guest.write(at, &value.to_le_bytes());
    }
    for n in 0..16usize {
        guest.write(0xB000 + 8 * n, &((n as u64 * 0x1000) | 3).to_le_bytes());
    }
    guest.write(0x4000, &[0x66]);
    assert_eq!(guest.engine.run(), Stop::Halted);
    let state = guest.engine.state();
    assert_eq!(state.efer, Efer::LME | Efer::LMA);
    assert_eq!(state.gpr[0] & 0xFF, 0x66);
    assert_eq!(guest.read(0xB018, 8), 0x3063);
    assert_eq!(guest.read(0xB020, 8), 0x4023);
    assert_eq!(guest.read(0x8000, 8), 0x9023);
}

#[test]
fn a_fault_that_nobody_can_take_ends_in_shutdown_at_the_instruction() {
    let mut guest = Guest::new(&[&eax(0x8000), MOV_CR3, &eax(PE_PG), MOV_CR0, LOAD_4000, HLT]);
    guest.write(0x8000, &0x9003u32.to_le_bytes());
    guest.write(0x9000, &3u32.to_le_bytes());
    assert_eq!(guest.engine.run(), Stop::TripleFault);
    let state = guest.engine.state();
    assert_eq!(state.rip, 0x600 + 6 + 3 + 6 + 3);
    assert_eq!(state.rflags & RFlags::STATUS, RFlags::empty());
}
