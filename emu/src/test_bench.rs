//! A processor with RAM from address 0 and a board that only remembers: for tests beside the rules.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::arch::cpuid::CpuModel;
use crate::arch::segment::{Seg, Segment};
use crate::arch::{Cr0, Cr4, Efer, Exception};
use crate::attention::Attention;
use crate::cpu::{Cause, Cpu, Raised};
use crate::decode::decode;
use crate::engine::Engine;
use crate::io::{ApicRefused, CpuIo, Pending};
use crate::memory::{Block, MemoryMap, PAGE_SIZE, Range};

#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

/// Guest RAM in bytes.
pub(crate) const RAM: u64 = 64 * PAGE_SIZE;
const CODE: u32 = Segment::P | Segment::S | Segment::CODE | Segment::READABLE | Segment::ACCESSED;
const DATA: u32 = Segment::P | Segment::S | Segment::WRITABLE | Segment::ACCESSED;

/// What the processor told the board.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) tsc: AtomicU64,
    pub(crate) tpr: AtomicU8,
    pub(crate) apic_base: AtomicU64,
    pub(crate) ferr: AtomicBool,
    pub(crate) ignne: AtomicBool,
}

impl CpuIo for Board {
    fn port_read(&self, _: u16, _: usize, _: &mut [u8]) {}
    fn port_write(&self, _: u16, _: usize, _: &[u8]) {}
    fn mmio_read(&self, _: u64, _: &mut [u8]) {}
    fn mmio_write(&self, _: u64, _: &[u8]) {}
    fn pending(&self) -> Pending {
        Pending::empty()
    }
    fn ack_interrupt(&self) -> Option<u8> {
        None
    }
    fn take(&self, _: Pending) -> u8 {
        0
    }
    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused> {
        match msr {
            0x1B => Ok(self.apic_base.load(Ordering::Relaxed)),
            _ => Err(ApicRefused),
        }
    }
    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused> {
        if msr != 0x1B {
            return Err(ApicRefused);
        }
        self.apic_base.store(value, Ordering::Relaxed);
        Ok(())
    }
    fn tpr(&self) -> u8 {
        self.tpr.load(Ordering::Relaxed)
    }
    fn set_tpr(&self, cr8: u8) {
        self.tpr.store(cr8, Ordering::Relaxed);
    }
    fn tsc(&self) -> u64 {
        self.tsc.load(Ordering::Relaxed)
    }
    fn set_ferr(&self, asserted: bool) {
        self.ferr.store(asserted, Ordering::Relaxed);
    }
    fn ignne(&self) -> bool {
        self.ignne.load(Ordering::Relaxed)
    }
}

/// The parts, before a processor is put on them.
struct Parts {
    model: Arc<CpuModel>,
    board: Arc<Board>,
    attention: Arc<Attention>,
    ram: Arc<[Page]>,
}

impl Parts {
    fn new(model: &str) -> Self {
        let ram: Arc<[Page]> = (0..RAM / PAGE_SIZE)
            .map(|_| Page([const { AtomicU8::new(0) }; 4096]))
            .collect();
        let block = Block {
            host: NonNull::from(&*ram).cast(),
            len: RAM,
            marks: (0..RAM / PAGE_SIZE).map(|_| AtomicU8::new(0)).collect(),
            owner: Arc::new(Arc::clone(&ram)),
        };
        let range = Range {
            start: 0,
            len: RAM,
            block,
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        let attention = Arc::new(Attention::new(None));
        let map = MemoryMap::new(vec![range], true).unwrap_or_else(|e| panic!("{e}"));
        attention.set_memory_map(Arc::new(map));
        Self {
            model: Arc::new(CpuModel::by_name(model).unwrap_or_else(|| panic!("no {model}"))),
            board: Arc::new(Board::default()),
            attention,
            ram,
        }
    }
}

/// A processor on its board.
pub(crate) struct Bench {
    pub(crate) cpu: Box<Cpu>,
    pub(crate) board: Arc<Board>,
    ram: Arc<[Page]>,
}

impl Bench {
    /// In real mode, as after reset.
    pub(crate) fn new(model: &str) -> Self {
        let parts = Parts::new(model);
        let io = Arc::clone(&parts.board) as Arc<dyn CpuIo>;
        let mut cpu = Box::new(Cpu::new(parts.model, io, parts.attention));
        cpu.alone = true;
        Self {
            cpu,
            board: parts.board,
            ram: parts.ram,
        }
    }

    /// An engine and the RAM it sees.
    pub(crate) fn engine(model: &str) -> (Engine, Self) {
        let parts = Parts::new(model);
        let io = Arc::clone(&parts.board) as Arc<dyn CpuIo>;
        let attention = Arc::clone(&parts.attention);
        let engine = Engine::new(Arc::clone(&parts.model), Arc::clone(&io), attention);
        let bench = Self {
            cpu: Box::new(Cpu::new(parts.model, io, parts.attention)),
            board: parts.board,
            ram: parts.ram,
        };
        (engine, bench)
    }

    /// In 32-bit protected mode, paging off.
    pub(crate) fn protected() -> Self {
        let mut bench = Self::new("max");
        bench.cpu.cr0 |= Cr0::PE;
        bench.flat(Segment::DB | Segment::G);
        bench
    }

    /// In 64-bit mode, CR3 = 1000h.
    pub(crate) fn long() -> Self {
        let mut bench = Self::new("max");
        bench.cpu.cr0 |= Cr0::PE | Cr0::PG;
        bench.cpu.cr4 |= Cr4::PAE;
        bench.cpu.efer |= Efer::LME | Efer::LMA;
        bench.cpu.cr3 = 0x1000;
        bench.flat(Segment::L | Segment::G);
        bench
    }

    fn flat(&mut self, attributes: u32) {
        for seg in [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
            let access = match seg {
                Seg::Cs => CODE | attributes,
                _ => DATA | Segment::DB | Segment::G,
            };
            self.cpu.segments[seg as usize] = Segment {
                selector: 8,
                base: 0,
                limit: u32::MAX,
                access,
            };
        }
        self.cpu.update_mode();
    }

    /// Goes on at privilege level 3.
    pub(crate) fn user(&mut self) {
        self.cpu.segments[Seg::Ss as usize].access |= 3 << 5;
        self.cpu.update_mode();
    }

    /// Runs the one instruction `code`.
    pub(crate) fn execute(&mut self, code: &[u8]) -> Result<(), Exception> {
        let decoded = decode(&self.cpu.model, self.cpu.mode, code, 0);
        let Ok((decoded, _)) = decoded else {
            return Err(Exception::new(crate::arch::exception::UD));
        };
        let result = (decoded.insn.step)(&mut self.cpu, &decoded.insn, &[]);
        self.outcome(result)
    }

    /// A rule's result with the exception that lies in the processor.
    pub(crate) fn outcome<T>(&self, result: Result<T, Raised>) -> Result<T, Exception> {
        result.map_err(|Raised| match self.cpu.cause {
            Cause::Fault(exception) => exception,
            Cause::Retry => panic!("an instruction that runs alone wants to be retried"),
        })
    }

    fn byte(&self, address: u64) -> &AtomicU8 {
        &self.ram[(address / PAGE_SIZE) as usize].0[(address % PAGE_SIZE) as usize]
    }

    /// Writes guest physical memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        for (at, &byte) in (address..).zip(bytes) {
            self.byte(at).store(byte, Ordering::Relaxed);
        }
    }

    /// Reads guest physical memory.
    pub(crate) fn read(&self, address: u64, len: u64) -> u64 {
        (0..len).rev().fold(0, |value, at| {
            value << 8 | u64::from(self.byte(address + at).load(Ordering::Relaxed))
        })
    }
}
