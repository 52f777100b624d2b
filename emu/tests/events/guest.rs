//! A machine of RAM and nothing else.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use emu::arch::cpuid::CpuModel;
use emu::arch::segment::{Segment, TableRegister};
use emu::arch::{Cr0, Efer, RFlags, Seg};
use emu::attention::{Attention, Signals, VirtualTime};
use emu::io::ApicRefused;
use emu::memory::{Block, MemoryMap, Range};
use emu::state::Activity;
use emu::{CpuIo, CpuState, Engine, Pending, Stop};

const PAGES: usize = 64;

/// Where guests keep their tables.
pub const GDT: u64 = 0x10000;
pub const IDT: u64 = 0x11000;
pub const TSS: u64 = 0x12000;

/// Selectors of the GDT that [`Guest::protected`] makes.
pub const CODE0: u16 = 0x08;
pub const DATA0: u16 = 0x10;
pub const CODE3: u16 = 0x18 | 3;
pub const DATA3: u16 = 0x20 | 3;
pub const TSS_SELECTOR: u16 = 0x28;
pub const CODE64: u16 = 0x38;
/// The first selectors a test may use.
pub const FREE: u16 = 0x50;

#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

/// Interrupt pins held by the test.
#[derive(Default)]
struct Pins(Mutex<(Pending, u8)>);

impl CpuIo for Pins {
    fn port_read(&self, _: u16, _: usize, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn port_write(&self, _: u16, _: usize, _: &[u8]) {}
    fn mmio_read(&self, _: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }
    fn mmio_write(&self, _: u64, _: &[u8]) {}
    fn pending(&self) -> Pending {
        self.0.lock().unwrap().0
    }
    fn ack_interrupt(&self) -> Option<u8> {
        let mut pins = self.0.lock().unwrap();
        pins.0 -= Pending::INTERRUPT;
        Some(pins.1)
    }
    fn take(&self, which: Pending) -> u8 {
        let mut pins = self.0.lock().unwrap();
        pins.0 -= which;
        pins.1
    }
    fn apic_msr_read(&self, _: u32) -> Result<u64, ApicRefused> {
        Err(ApicRefused)
    }
    fn apic_msr_write(&self, _: u32, _: u64) -> Result<(), ApicRefused> {
        Err(ApicRefused)
    }
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&self, _: u8) {}
    fn tsc(&self) -> u64 {
        0
    }
}

/// Memory and initial state of a guest to be run.
#[derive(Clone)]
pub struct Guest {
    pub state: CpuState,
    memory: Vec<(u64, Vec<u8>)>,
    pins: (Pending, u8),
}

/// What a guest came to.
pub struct End {
    pub state: CpuState,
    ram: Arc<[Page]>,
}

impl End {
    pub fn read(&self, address: u64, len: usize) -> u64 {
        (0..len).rev().fold(0, |value, k| {
            let at = address as usize + k;
            value << 8 | u64::from(self.ram[at / 4096].0[at % 4096].load(Ordering::Relaxed))
        })
    }
    pub fn u16(&self, address: u64) -> u16 {
        self.read(address, 2) as u16
    }
    pub fn u32(&self, address: u64) -> u32 {
        self.read(address, 4) as u32
    }
    pub fn u64(&self, address: u64) -> u64 {
        self.read(address, 8)
    }
    pub fn selector(&self, seg: Seg) -> u16 {
        self.state.segments[seg as usize].selector
    }
    pub fn cpl(&self) -> u8 {
        self.state.segments[Seg::Ss as usize].dpl()
    }
    pub fn flag(&self, flag: RFlags) -> bool {
        self.state.rflags.contains(flag)
    }
}

/// A segment descriptor: access byte, and G, D, L in the high nibble of `flags`.
pub fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | u64::from(access) << 40
        | (limit >> 16 & 0xF) << 48
        | u64::from(flags & 0xF0) << 48
        | (base >> 24) << 56
}

/// A gate: `access` is present, DPL and type; `count` the parameters or IST.
pub fn gate(selector: u16, offset: u32, access: u8, count: u8) -> u64 {
    let offset = u64::from(offset);
    offset & 0xFFFF
        | u64::from(selector) << 16
        | u64::from(count) << 32
        | u64::from(access) << 40
        | (offset >> 16) << 48
}

impl Guest {
    /// Real mode, all segments 0, code at 1000h, SP 8000h, interrupts on.
    pub fn real(code: &[u8]) -> Self {
        let mut state = CpuState::reset(0x663);
        let cs = &mut state.segments[Seg::Cs as usize];
        (cs.selector, cs.base) = (0, 0);
        state.rip = 0x1000;
        state.gpr[4] = 0x8000;
        state.rflags |= RFlags::IF;
        let guest = Self {
            state,
            memory: Vec::new(),
            pins: (Pending::empty(), 0),
        };
        guest.with(0x1000, code)
    }

    /// 32-bit protected mode at CPL 0 with the usual flat segments, ESP 8000h, and a TSS whose
    /// ring 0 stack is at 9000h.
    pub fn protected(code: &[u8]) -> Self {
        let gdt = [
            0,
            descriptor(0, 0xF_FFFF, 0x9A, 0xC0),
            descriptor(0, 0xF_FFFF, 0x92, 0xC0),
            descriptor(0, 0xF_FFFF, 0xFA, 0xC0),
            descriptor(0, 0xF_FFFF, 0xF2, 0xC0),
            descriptor(TSS as u32, 0x100, 0x8B, 0),
            0,
            descriptor(0, 0xF_FFFF, 0x9A, 0xA0),
            descriptor(0, 0xF_FFFF, 0xF2, 0xC0),
            descriptor(0, 0xF_FFFF, 0xFA, 0xA0),
        ];
        let mut guest = Self::real(code);
        for (n, raw) in gdt.iter().enumerate() {
            guest = guest.quad(GDT + 8 * n as u64, *raw);
        }
        let segment = |selector: u16| {
            let raw = gdt[usize::from(selector / 8)] | 1 << 40;
            Segment::from_descriptor(selector, raw)
        };
        let state = &mut guest.state;
        state.cr0 |= Cr0::PE;
        for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
            state.segments[seg as usize] = segment(DATA0);
        }
        state.segments[Seg::Cs as usize] = segment(CODE0);
        state.segments[Seg::Tr as usize] = segment(TSS_SELECTOR);
        let table = |base| TableRegister { base, limit: 0xFFF };
        (state.gdtr, state.idtr) = (table(GDT), table(IDT));
        guest
            .with(TSS + 4, &0x9000u32.to_le_bytes())
            .with(TSS + 8, &DATA0.to_le_bytes())
    }

    /// 64-bit mode at CPL 0. There are no page tables: IA-32e mode alone is what is looked at.
    pub fn long(code: &[u8]) -> Self {
        let mut guest = Self::protected(code).with(TSS + 4, &0x9000u64.to_le_bytes());
        guest.state.efer |= Efer::LME | Efer::LMA;
        let raw = descriptor(0, 0xF_FFFF, 0x9B, 0xA0);
        guest.state.segments[Seg::Cs as usize] = Segment::from_descriptor(CODE64, raw);
        guest
    }

    /// CPL 3 in place of 0, stack at 7000h.
    pub fn user(mut self) -> Self {
        let long = self.state.efer.contains(Efer::LMA);
        let (code, flags) = if long {
            (0x48 | 3, 0xA0)
        } else {
            (CODE3, 0xC0)
        };
        let raw = descriptor(0, 0xF_FFFF, 0xFB, flags);
        self.state.segments[Seg::Cs as usize] = Segment::from_descriptor(code, raw);
        let raw = descriptor(0, 0xF_FFFF, 0xF3, 0xC0);
        for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
            self.state.segments[seg as usize] = Segment::from_descriptor(DATA3, raw);
        }
        self.state.gpr[4] = 0x7000;
        self
    }

    pub fn with(mut self, address: u64, bytes: &[u8]) -> Self {
        self.memory.push((address, bytes.to_vec()));
        self
    }

    pub fn quad(self, address: u64, value: u64) -> Self {
        self.with(address, &value.to_le_bytes())
    }

    /// An entry of the GDT.
    pub fn entry(self, selector: u16, raw: u64) -> Self {
        self.quad(GDT + u64::from(selector & !7), raw)
    }

    /// A gate of the 8-byte IDT.
    pub fn vector(self, vector: u8, raw: u64) -> Self {
        self.quad(IDT + 8 * u64::from(vector), raw)
    }

    /// An interrupt gate of the 8-byte IDT to CODE0.
    pub fn handler(self, vector: u8, offset: u32) -> Self {
        self.vector(vector, gate(CODE0, offset, 0x8E, 0))
    }

    /// A gate of the 16-byte IDT to CODE64.
    pub fn handler64(self, vector: u8, offset: u32, access: u8, ist: u8) -> Self {
        let at = IDT + 16 * u64::from(vector);
        self.quad(at, gate(CODE64, offset, access, ist))
            .quad(at + 8, 0)
    }

    pub fn reg(mut self, r: usize, value: u64) -> Self {
        self.state.gpr[r] = value;
        self
    }

    /// Something waits at the pins.
    pub fn pin(mut self, which: Pending, vector: u8) -> Self {
        self.pins = (which, vector);
        self
    }

    /// The state after `count` instructions (or faults, which count as one).
    pub fn run(&self, count: u64) -> End {
        let stepped = self.run_as(count, false);
        let blocks = self.run_as(count, true);
        let differences = stepped.state.differences(&blocks.state);
        assert!(differences.is_empty(), "steps / blocks: {differences:#?}");
        let words = |end: &End| {
            (0..PAGES as u64 * 512)
                .map(|k| end.u64(8 * k))
                .collect::<Vec<_>>()
        };
        assert!(words(&stepped) == words(&blocks), "memory differs");
        blocks
    }

    fn run_as(&self, count: u64, blocks: bool) -> End {
        let ram: Arc<[Page]> = (0..PAGES)
            .map(|_| Page([const { AtomicU8::new(0) }; 4096]))
            .collect();
        for (address, bytes) in &self.memory {
            for (at, byte) in (*address as usize..).zip(bytes) {
                ram[at / 4096].0[at % 4096].store(*byte, Ordering::Relaxed);
            }
        }
        let len = (PAGES * 4096) as u64;
        let block = Block {
            host: std::ptr::NonNull::from(&*ram).cast(),
            len,
            marks: (0..PAGES).map(|_| AtomicU8::new(0)).collect(),
            owner: Arc::new(Arc::clone(&ram)),
        };
        let range = Range {
            start: 0,
            len,
            block,
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        let time = Arc::new(VirtualTime::default());
        time.deadline.store(count, Ordering::Relaxed);
        let attention = Arc::new(Attention::new(Some(Arc::clone(&time))));
        attention.set_memory_map(Arc::new(MemoryMap::new(vec![range], true).unwrap()));
        let model = CpuModel::by_name("max").unwrap();
        let pins = Pins(Mutex::new(self.pins));
        let mut engine = Engine::new(Arc::new(model), Arc::new(pins), Arc::clone(&attention));
        engine.set_state(&self.state);
        attention.set(Signals::EVENT);
        if blocks {
            let stop = engine.run();
            let ended = matches!(stop, Stop::Kicked | Stop::Halted | Stop::TripleFault);
            assert!(ended, "{stop:?}");
        } else {
            for _ in 0..count {
                engine.step();
            }
        }
        let state = engine.state();
        if state.activity == Activity::Running {
            assert_eq!(engine.retired(), count);
        }
        End { state, ram }
    }
}
