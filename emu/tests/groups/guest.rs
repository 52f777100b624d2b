//! A processor with a little memory and a board that writes down what it is asked.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use emu::arch::cpuid::CpuModel;
use emu::arch::segment::{Seg, Segment};
use emu::arch::{Cr0, Efer, Gpr};
use emu::attention::{Attention, Signals, VirtualTime};
use emu::io::{ApicRefused, CpuIo, Pending};
use emu::memory::{Block, MemoryMap, Range};
use emu::{CpuState, Engine, Stop};

/// Where programs begin.
pub const CODE: u64 = 0x1000;
/// First address behind memory: there is a device.
pub const MMIO: u64 = 0x10_0000;
/// `out 0F4h, al`: the end of a program.
pub const EXIT: [u8; 2] = [0xE6, 0xF4];

/// One call to the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Port, width, bytes.
    In(u16, usize, usize),
    /// Port, width, data.
    Out(u16, usize, Vec<u8>),
    /// Address, bytes.
    Load(u64, usize),
    /// Address, data.
    Store(u64, Vec<u8>),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By [`EXIT`].
    Exit,
    /// By a fault, which no handler takes.
    Fault,
    /// Not at all.
    Timeout,
}

struct Board {
    attention: Arc<Attention>,
    calls: Mutex<Vec<Call>>,
    exited: AtomicU8,
    next: AtomicU8,
}

impl Board {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// Input counts up byte by byte.
    fn input(&self, data: &mut [u8]) {
        for byte in data {
            *byte = self.next.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl CpuIo for Board {
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]) {
        self.note(Call::In(port, width, data.len()));
        self.input(data);
    }
    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        if port == u16::from(EXIT[1]) {
            self.exited.store(1, Ordering::Relaxed);
            self.attention.set(Signals::KICK);
        } else {
            self.note(Call::Out(port, width, data.to_vec()));
        }
    }
    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.note(Call::Load(address, data.len()));
        self.input(data);
    }
    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.note(Call::Store(address, data.to_vec()));
    }
    fn pending(&self) -> Pending {
        Pending::empty()
    }
    fn ack_interrupt(&self) -> Option<u8> {
        None
    }
    fn take(&self, _: Pending) -> u8 {
        0
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

#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

/// A processor about to run a program at [`CODE`].
pub struct Guest {
    pub state: CpuState,
    pub engine: Engine,
    ram: Arc<Vec<Page>>,
    board: Arc<Board>,
}

const DATA: u32 = Segment::P | Segment::S | Segment::WRITABLE | Segment::ACCESSED;

impl Guest {
    /// In real mode; all segments at 0 but ES at 20000h and DS at 30000h. SP is 8000h.
    pub fn real16(code: &[u8]) -> Self {
        let model = Arc::new(CpuModel::by_name("max").unwrap());
        let page = || Page(std::array::from_fn(|_| AtomicU8::new(0)));
        let ram: Arc<Vec<Page>> = Arc::new((0..MMIO / 4096).map(|_| page()).collect());
        let range = Range {
            start: 0,
            len: MMIO,
            block: Block {
                host: NonNull::from(&ram[0]).cast(),
                len: MMIO,
                marks: ram.iter().map(|_| AtomicU8::new(0)).collect(),
                owner: Arc::clone(&ram) as _,
            },
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        let time = VirtualTime {
            deadline: AtomicU64::new(100_000),
            ..VirtualTime::default()
        };
        let attention = Arc::new(Attention::new(Some(Arc::new(time))));
        attention.set_memory_map(Arc::new(MemoryMap::new(vec![range], true).unwrap()));
        let board = Arc::new(Board {
            attention: Arc::clone(&attention),
            calls: Mutex::default(),
            exited: AtomicU8::new(0),
            next: AtomicU8::new(1),
        });
        let mut state = CpuState::reset(0);
        for segment in &mut state.segments[..6] {
            *segment = Segment::real(0, DATA);
        }
        state.segments[Seg::Cs as usize].access |= Segment::CODE;
        state.segments[Seg::Es as usize] = Segment::real(0x2000, DATA);
        state.segments[Seg::Ds as usize] = Segment::real(0x3000, DATA);
        state.rip = CODE;
        state.gpr[Gpr::Rsp as usize] = 0x8000;
        state.idtr.limit = 0;
        let engine = Engine::new(model, Arc::clone(&board) as _, attention);
        let guest = Self {
            state,
            engine,
            ram,
            board,
        };
        guest.poke(CODE, code);
        guest.poke(CODE + code.len() as u64, &EXIT);
        guest
    }

    /// In protected mode with flat 32-bit segments, CPL 0.
    pub fn flat32(code: &[u8]) -> Self {
        let mut guest = Self::real16(code);
        guest.state.cr0 |= Cr0::PE;
        for segment in &mut guest.state.segments[..6] {
            *segment = Segment {
                selector: 0x10,
                base: 0,
                limit: u32::MAX,
                access: DATA | Segment::DB | Segment::G,
            };
        }
        let cs = &mut guest.state.segments[Seg::Cs as usize];
        cs.selector = 8;
        cs.access |= Segment::CODE;
        guest
    }

    /// In 64-bit mode, CPL 0. Without paging, which no processor allows: what is tested here needs
    /// no translation.
    pub fn long64(code: &[u8]) -> Self {
        let mut guest = Self::flat32(code);
        guest.state.efer |= Efer::LMA | Efer::LME;
        let cs = &mut guest.state.segments[Seg::Cs as usize];
        cs.access = cs.access & !Segment::DB | Segment::L;
        guest
    }

    /// Puts CPL at 3.
    pub fn user(mut self) -> Self {
        for segment in &mut self.state.segments[..6] {
            segment.selector |= 3;
            segment.access |= 3 << 5;
        }
        self
    }

    /// Sets a register.
    pub fn with(mut self, register: Gpr, value: u64) -> Self {
        self.state.gpr[register as usize] = value;
        self
    }

    /// A register.
    pub fn gpr(&self, register: Gpr) -> u64 {
        self.state.gpr[register as usize]
    }

    /// A segment register.
    pub fn segment(&mut self, seg: Seg) -> &mut Segment {
        &mut self.state.segments[seg as usize]
    }

    /// Writes memory.
    pub fn poke(&self, address: u64, data: &[u8]) {
        for (at, &byte) in (address as usize..).zip(data) {
            self.ram[at / 4096].0[at % 4096].store(byte, Ordering::Relaxed);
        }
    }

    /// Reads memory.
    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        (address as usize..address as usize + len)
            .map(|at| self.ram[at / 4096].0[at % 4096].load(Ordering::Relaxed))
            .collect()
    }

    /// What the board was asked.
    pub fn calls(&self) -> Vec<Call> {
        self.board.calls.lock().unwrap().clone()
    }

    /// Runs from `state` to the end of the program, and takes over the state there.
    pub fn run(&mut self) -> End {
        self.engine.set_state(&self.state);
        let stop = self.engine.run();
        self.state = self.engine.state();
        match stop {
            Stop::TripleFault => End::Fault,
            _ if self.board.exited.load(Ordering::Relaxed) != 0 => End::Exit,
            _ => End::Timeout,
        }
    }

    /// Runs one instruction from `state`.
    pub fn step(&mut self) {
        self.engine.set_state(&self.state);
        self.engine.step();
        self.state = self.engine.state();
    }
}
