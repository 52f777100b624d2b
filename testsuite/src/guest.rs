//! A guest that looks to unprivileged code like a process of 64-bit Linux.
//!
//! Long mode, the pages of [`layout`](crate::layout) as user pages at the same linear addresses,
//! Linux's flat segments, and an IDT whose handlers each are one HLT: the exception that ends a case
//! is read off the handler's address and the frame it finds on its stack. So nothing here depends
//! on how an engine works, only on what it must do.

use std::any::Any;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use emu::arch::segment::TableRegister;
use emu::arch::{Cr0, Cr4, Efer, Exception, RFlags, Segment, exception};
use emu::memory::{Block, CODE_WRITTEN, MapError, Range};
use emu::state::{Activity, Fpu};
use emu::{CpuState, MemoryMap};

use crate::host::Mapping;
use crate::layout::{PAGE, PAGES};
use crate::run::{Input, Outcome, Stop};
use crate::window::Window;

/// Guest memory, in bytes.
const RAM: usize = 0x4_0000;
/// Guest physical addresses of what the guest is made of.
const PML4: u64 = 0x1000;
const GDT: u64 = 0x1_0000;
const IDT: u64 = 0x1_1000;
const TSS: u64 = 0x1_2000;
const STACK: u64 = 0x1_3000;
const STACK_TOP: u64 = STACK + PAGE;
const HANDLERS: u64 = 0x1_4000;
const WINDOW: u64 = 0x2_0000;
/// Where the supervisor's pages appear.
const SUPERVISOR: u64 = 0xFFFF_8000_0000_0000;
/// Bytes between two handlers.
const HANDLER_STEP: u64 = 16;
/// HLT.
const HLT: u8 = 0xF4;

/// The first seven descriptors of Linux's GDT.
const DESCRIPTORS: [u64; 7] = [
    0,
    0x00CF_9B00_0000_FFFF,
    0x00AF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00CF_FB00_0000_FFFF,
    0x00CF_F300_0000_FFFF,
    0x00AF_FB00_0000_FFFF,
];
/// Selector of the supervisor's 64-bit code.
const SUPERVISOR_CODE: u16 = 0x10;
/// Selector of the task state segment.
const TSS_SELECTOR: u16 = 0x40;
/// Limit of the TSS: no I/O bitmap, so every port faults.
const TSS_LIMIT: u32 = 0x67;

/// Page table bits.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED_DIRTY: u64 = 3 << 5;
const NO_EXECUTE: u64 = 1 << 63;

/// The guest's memory and the pages of its cases.
pub struct Guest {
    memory: Arc<Mutex<Mapping>>,
    window: Window,
    marks: Arc<[AtomicU8]>,
    host: std::ptr::NonNull<u8>,
}

impl Guest {
    /// Builds descriptor tables, page tables and handlers.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> std::io::Result<Self> {
        let mut memory = Mapping::anonymous(RAM)?;
        build(&mut memory);
        let window = Window::new(&mut memory, WINDOW as usize);
        let pages = RAM / PAGE as usize;
        Ok(Self {
            window,
            marks: (0..pages).map(|_| AtomicU8::new(0)).collect(),
            host: memory.start(),
            memory: Arc::new(Mutex::new(memory)),
        })
    }

    /// What an engine maps.
    ///
    /// # Errors
    /// Never, unless the layout above is wrong.
    pub fn memory_map(&self) -> Result<MemoryMap, MapError> {
        let owner: Arc<dyn Any + Send + Sync> = self.memory.clone();
        let block = Block {
            host: self.host,
            len: RAM as u64,
            marks: Arc::clone(&self.marks),
            owner,
        };
        let range = Range {
            start: 0,
            len: RAM as u64,
            block,
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        MemoryMap::new(vec![range], true)
    }

    /// Puts a case into memory; the state to start it with.
    pub fn prepare(&mut self, input: &Input) -> CpuState {
        let mut memory = lock(&self.memory);
        self.window.prepare(&mut memory, input);
        for (index, (_, access)) in PAGES.iter().enumerate() {
            if access.executable() {
                let mark = &self.marks[(WINDOW / PAGE) as usize + index];
                mark.fetch_or(CODE_WRITTEN, Ordering::Release);
            }
        }
        state(input)
    }

    /// What the case has done, once the engine has stopped in `state`; memory is made ready for
    /// the next one.
    pub fn finish(&mut self, state: &CpuState) -> Outcome {
        let mut memory = lock(&self.memory);
        let changes = self.window.finish(&mut memory);
        let vector = state.rip.wrapping_sub(SUPERVISOR + HANDLERS + 1) / HANDLER_STEP;
        let halted = state.activity == Activity::Halted && vector < 32;
        let mut outcome = Outcome {
            stop: Stop::Lost,
            gpr: state.gpr,
            rip: state.rip,
            rflags: state.rflags,
            selectors: std::array::from_fn(|i| state.segments[i].selector),
            bases: [state.segments[4].base, state.segments[5].base],
            memory: changes,
            fpu: Box::new(state.fpu),
        };
        if halted {
            read_frame(&memory, vector as u8, state.cr2, &mut outcome);
        }
        outcome
    }
}

/// Takes what the exception pushed into the outcome.
fn read_frame(memory: &Mapping, vector: u8, cr2: u64, outcome: &mut Outcome) {
    use exception::{AC, DF, GP, NP, PF, SS, TS};
    let has_code = matches!(vector, DF | TS | NP | SS | GP | PF | AC);
    let word = |below_top: u64| memory.word((STACK_TOP - 8 * below_top) as usize);
    outcome.selectors[2] = word(1) as u16;
    outcome.gpr[emu::arch::Gpr::Rsp as usize] = word(2);
    outcome.rflags = RFlags::from_bits_retain(word(3));
    outcome.selectors[1] = word(4) as u16;
    outcome.rip = word(5);
    outcome.stop = Stop::Exception(Exception {
        vector,
        error_code: has_code.then(|| word(6) as u32),
        cr2: (vector == PF).then_some(cr2),
    });
}

fn lock(memory: &Mutex<Mapping>) -> MutexGuard<'_, Mapping> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn build(memory: &mut Mapping) {
    for (i, descriptor) in DESCRIPTORS.iter().enumerate() {
        memory.write(GDT as usize + 8 * i, &descriptor.to_le_bytes());
    }
    let base = SUPERVISOR + TSS;
    let low =
        u64::from(TSS_LIMIT) | (base & 0xFF_FFFF) << 16 | 0x8B << 40 | (base >> 24 & 0xFF) << 56;
    memory.write((GDT + u64::from(TSS_SELECTOR)) as usize, &low.to_le_bytes());
    memory.write(
        (GDT + u64::from(TSS_SELECTOR)) as usize + 8,
        &(base >> 32).to_le_bytes(),
    );
    memory.write(TSS as usize + 4, &(SUPERVISOR + STACK_TOP).to_le_bytes());
    memory.write(TSS as usize + 102, &(TSS_LIMIT as u16 + 1).to_le_bytes());
    memory.write(HANDLERS as usize, &[HLT; PAGE as usize]);
    for vector in 0..256u64 {
        let handler = SUPERVISOR + HANDLERS + vector % (PAGE / HANDLER_STEP) * HANDLER_STEP;
        // Present interrupt gate; #BP and #OF may come from INT3 and INTO at CPL 3.
        let dpl = if vector == 3 || vector == 4 { 3 } else { 0 };
        let rights = 0x8E00 | dpl << 13;
        let low = handler & 0xFFFF
            | u64::from(SUPERVISOR_CODE) << 16
            | rights << 32
            | (handler >> 16 & 0xFFFF) << 48;
        memory.write((IDT + 16 * vector) as usize, &low.to_le_bytes());
        memory.write(
            (IDT + 16 * vector + 8) as usize,
            &(handler >> 32).to_le_bytes(),
        );
    }
    let mut tables = Tables { next: PML4 + PAGE };
    for physical in [GDT, IDT, TSS, STACK, HANDLERS] {
        tables.map(
            memory,
            SUPERVISOR + physical,
            physical | PRESENT | WRITE | ACCESSED_DIRTY,
        );
    }
    for (index, (linear, access)) in PAGES.into_iter().enumerate() {
        let mut entry = (WINDOW + index as u64 * PAGE) | PRESENT | USER | ACCESSED_DIRTY;
        if access.writable() {
            entry |= WRITE;
        }
        if !access.executable() {
            entry |= NO_EXECUTE;
        }
        tables.map(memory, linear, entry);
    }
}

/// Gives out pages for page tables.
struct Tables {
    next: u64,
}

impl Tables {
    fn map(&mut self, memory: &mut Mapping, linear: u64, leaf: u64) {
        let mut table = PML4;
        for shift in [39, 30, 21] {
            let entry = (table + (linear >> shift & 511) * 8) as usize;
            let mut value = memory.word(entry);
            if value == 0 {
                value = self.next | PRESENT | WRITE | USER | ACCESSED_DIRTY;
                self.next += PAGE;
                assert!(self.next <= GDT, "page tables outgrew their place");
                memory.write(entry, &value.to_le_bytes());
            }
            table = value & 0xF_F000;
        }
        let entry = (table + (linear >> 12 & 511) * 8) as usize;
        memory.write(entry, &leaf.to_le_bytes());
    }
}

/// The processor at the first instruction of a case, set up as Linux sets it up.
fn state(input: &Input) -> CpuState {
    let mut state = CpuState::reset(0);
    state.gpr = input.gpr;
    state.rip = input.at;
    state.rflags = input.start_flags();
    for (i, selector) in input.mode.selectors().into_iter().enumerate() {
        state.segments[i] = match selector {
            0 => Segment::null(0),
            _ => Segment::from_descriptor(selector, DESCRIPTORS[usize::from(selector >> 3)]),
        };
    }
    state.segments[4].base = input.bases[0];
    state.segments[5].base = input.bases[1];
    state.segments[6] = Segment::null(0);
    state.segments[7] = Segment {
        selector: TSS_SELECTOR,
        base: SUPERVISOR + TSS,
        limit: TSS_LIMIT,
        access: Segment::P | 0xB,
    };
    state.gdtr = TableRegister {
        base: SUPERVISOR + GDT,
        limit: 0x7F,
    };
    state.idtr = TableRegister {
        base: SUPERVISOR + IDT,
        limit: 0xFFF,
    };
    state.cr0 = Cr0::PE | Cr0::MP | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::AM | Cr0::PG;
    state.cr3 = PML4;
    state.cr4 =
        Cr4::PSE | Cr4::PAE | Cr4::MCE | Cr4::PGE | Cr4::OSFXSR | Cr4::OSXMMEXCPT | Cr4::FSGSBASE;
    state.efer = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
    state.fpu = input.fpu.as_deref().copied().unwrap_or(Fpu {
        fcw: 0x37F,
        ftw: 0,
        ..Fpu::default()
    });
    state
}
