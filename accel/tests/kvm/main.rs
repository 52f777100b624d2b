//! The KVM engine, wherever `/dev/kvm` opens: small guests of plain integer code that also run on
//! a KVM without virtualisation hardware.
//!
//! Without KVM each test prints `SKIPPED kvm: reason`; `TESTSUITE_REQUIRE=kvm` makes that a
//! failure.

// UNSAFETY: guest memory is a raw allocation, as the engine takes it.
#![cfg(all(feature = "kvm", target_os = "linux"))]
#![expect(unsafe_code, reason = "guest memory is a raw allocation")]

mod debugger;
mod handover;
mod kicks;
mod lockstep;
mod opening;
mod rescue;
mod states;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use accel::kvm::Kvm;
use accel::tcg::Tcg;
use accel::{
    Accel, AccelError, CpuIo, CpuModel, CpuState, MemoryMap, Pending, Vcpu, VcpuExit, Vm, VmConfig,
};
use emu::arch::cpuid::Leaf;
use emu::arch::{Cr0, Cr4, Efer, Gpr, Seg, Segment, TableRegister};
use emu::io::ApicRefused;
use emu::memory::{Block, Range};
use emu::state::Activity;

/// Where the snippets are loaded.
const CODE: u64 = 0x1000;
/// Where interrupt handlers are loaded.
const HANDLER: u64 = 0x1100;
/// Stands for a port in [`Board::hook`]: an interrupt was acknowledged.
const ACKNOWLEDGED: u16 = 0xFFFF;
/// Guest RAM.
const RAM: u64 = 4 << 20;
/// Holes of the map: video memory, and a ROM.
const VIDEO: u64 = 0xA_0000;
const ROM: u64 = 0xF_0000;
const HIGH: u64 = 0x10_0000;
/// No test of this file takes longer than this to run its guest.
const PATIENCE: Duration = Duration::from_secs(20);

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says so on the process's own stderr, which the test harness does not hide.
fn skip(reason: &dyn std::fmt::Display) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = writeln!(std::io::stderr(), "SKIPPED kvm: {reason} ({count} so far)");
}

/// KVM, or `None` after a loud skip.
fn kvm() -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(e) => {
            let required = std::env::var("TESTSUITE_REQUIRE").is_ok_and(|v| v.contains("kvm"));
            assert!(!required, "kvm is required: {e}");
            skip(&e);
            None
        }
    }
}

/// What the guest did, as the board saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    In(u16, usize, usize),
    Out(u16, usize, Vec<u8>),
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Ack(u8),
    Msr(u32, Option<u64>),
}

type Hook = Box<dyn Fn(u16) + Send + Sync>;

/// A board that notes everything.
#[derive(Default)]
struct Board {
    seen: Mutex<Vec<Seen>>,
    events: AtomicU8,
    vectors: Mutex<VecDeque<u8>>,
    tpr: AtomicU8,
    /// Called after each port access.
    hook: OnceLock<Hook>,
}

impl Board {
    fn note(&self, what: Seen) {
        self.seen.lock().unwrap().push(what);
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn raise(&self, vector: u8) {
        self.vectors.lock().unwrap().push_back(vector);
    }

    fn post(&self, which: Pending) {
        self.events.fetch_or(which.bits(), Ordering::SeqCst);
    }

    fn hook(&self, port: u16) {
        if let Some(hook) = self.hook.get() {
            hook(port);
        }
    }
}

impl CpuIo for Board {
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = 0xA1 + i as u8;
        }
        self.note(Seen::In(port, width, data.len()));
        self.hook(port);
    }
    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        self.note(Seen::Out(port, width, data.to_vec()));
        self.hook(port);
    }
    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = 0xC1 + i as u8;
        }
        self.note(Seen::Read(address, data.len()));
    }
    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.note(Seen::Write(address, data.to_vec()));
    }
    fn pending(&self) -> Pending {
        let mut all = Pending::from_bits_retain(self.events.load(Ordering::SeqCst));
        let vectors = self.vectors.lock().unwrap();
        let allowed = |vector: &u8| vector >> 4 > self.tpr() || self.tpr() == 0;
        all.set(Pending::INTERRUPT, vectors.front().is_some_and(allowed));
        all
    }
    fn ack_interrupt(&self) -> Option<u8> {
        let vector = self.vectors.lock().unwrap().pop_front()?;
        self.note(Seen::Ack(vector));
        self.hook(ACKNOWLEDGED);
        Some(vector)
    }
    fn take(&self, which: Pending) -> u8 {
        self.events.fetch_and(!which.bits(), Ordering::SeqCst);
        if which == Pending::SIPI { 2 } else { 0 }
    }
    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused> {
        match msr {
            0x1B => Ok(0xFEE0_0900),
            0x802 => Ok(7),
            _ => Err(ApicRefused),
        }
    }
    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused> {
        self.note(Seen::Msr(msr, Some(value)));
        Ok(())
    }
    fn tpr(&self) -> u8 {
        self.tpr.load(Ordering::SeqCst)
    }
    fn set_tpr(&self, cr8: u8) {
        self.tpr.store(cr8, Ordering::SeqCst);
    }
    fn tsc(&self) -> u64 {
        0
    }
}

/// Guest memory: one zeroed allocation.
struct Ram {
    at: NonNull<u8>,
    layout: Layout,
}

// SAFETY: only an address; the tests touch it through volatile accesses.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    fn new() -> Self {
        let layout = Layout::from_size_align(RAM as usize, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let at = NonNull::new(unsafe { alloc_zeroed(layout) });
        let at = at.unwrap_or_else(|| handle_alloc_error(layout));
        Self { at, layout }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        assert!(at as usize + bytes.len() <= self.layout.size());
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: inside the allocation, as just checked.
            unsafe { self.at.as_ptr().add(at as usize + i).write_volatile(byte) };
        }
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        assert!(at as usize + N <= self.layout.size());
        // SAFETY: inside the allocation, as just checked.
        std::array::from_fn(|i| unsafe { self.at.as_ptr().add(at as usize + i).read_volatile() })
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody has the address any more.
        unsafe { dealloc(self.at.as_ptr(), self.layout) };
    }
}

/// What the ROM is under the map's control to be.
#[derive(Clone, Copy, Default)]
struct Wiring {
    rom_writable: bool,
    a20_off: bool,
    log_dirty: bool,
}

fn map(ram: &Arc<Ram>, wiring: Wiring) -> MemoryMap {
    let block = Block {
        host: ram.at,
        len: RAM,
        marks: (0..RAM / 4096).map(|_| AtomicU8::new(0)).collect(),
        owner: Arc::clone(ram) as Arc<dyn std::any::Any + Send + Sync>,
    };
    let range = |start, end, read_only| Range {
        start,
        len: end - start,
        block: block.clone(),
        offset: start,
        read_only,
        log_dirty: wiring.log_dirty,
    };
    let ranges = vec![
        range(0, VIDEO, false),
        range(ROM, HIGH, !wiring.rom_writable),
        range(HIGH, RAM, false),
    ];
    MemoryMap::new(ranges, !wiring.a20_off).unwrap()
}

fn model() -> CpuModel {
    let leaf = |function, index, registers| Leaf {
        function,
        index,
        registers,
    };
    CpuModel {
        name: "test",
        leaves: vec![
            leaf(0, None, [7, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
            leaf(1, None, [0x663, 0x800, 0x0020_2001, 0x078B_FBFD]),
            leaf(7, Some(0), [0, 0, 0, 0]),
            leaf(0x8000_0000, None, [0x8000_0008, 0, 0, 0]),
            leaf(0x8000_0001, None, [0x663, 0, 1, 0x2C10_0800]),
            leaf(0x8000_0008, None, [0x3028, 0, 0, 0]),
        ],
    }
}

/// One machine with one processor.
struct Guest {
    vm: Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    board: Arc<Board>,
    ram: Arc<Ram>,
}

impl Guest {
    fn new(accel: &dyn Accel) -> Self {
        let config = VmConfig {
            cpu: model(),
            tsc_hz: 2_000_000_000,
            virtual_time: None,
            observer: None,
        };
        let vm = accel.create_vm(&config).unwrap();
        let ram = Arc::new(Ram::new());
        vm.set_memory_map(map(&ram, Wiring::default())).unwrap();
        let board = Arc::new(Board::default());
        let vcpu = vm
            .create_vcpu(0, Arc::clone(&board) as Arc<dyn CpuIo>)
            .unwrap();
        Self {
            vm,
            vcpu,
            board,
            ram,
        }
    }

    fn real(kvm: &Kvm, code: &[u8]) -> Self {
        Self::on(kvm, code)
    }

    /// Real mode, on any engine.
    fn on(accel: &dyn Accel, code: &[u8]) -> Self {
        let mut guest = Self::new(accel);
        guest.ram.write(CODE, code);
        guest.vcpu.set_state(&real_state()).unwrap();
        guest
    }

    fn long(kvm: &Kvm, code: &[u8]) -> Self {
        let mut guest = Self::new(kvm);
        guest.ram.write(CODE, code);
        guest.page_tables();
        guest.vcpu.set_state(&long_state()).unwrap();
        guest
    }

    /// 1 GiB mapped one to one in 2 MiB pages.
    fn page_tables(&self) {
        self.page_tables_with(0);
    }

    /// The same, for ring 3 too.
    fn user_page_tables(&self) {
        self.page_tables_with(4);
    }

    fn page_tables_with(&self, bits: u64) {
        self.ram.write(0x1_0000, &(0x1_1003 | bits).to_le_bytes());
        self.ram.write(0x1_1000, &(0x1_2003 | bits).to_le_bytes());
        for i in 0..512_u64 {
            self.ram
                .write(0x1_2000 + i * 8, &(i << 21 | 0x83 | bits).to_le_bytes());
        }
    }

    /// A real-mode handler for `vector`.
    fn handler(&self, vector: u8, code: &[u8]) {
        self.ram.write(HANDLER, code);
        self.ram
            .write(u64::from(vector) * 4, &(HANDLER as u32).to_le_bytes());
    }

    /// Runs, but not for ever.
    fn try_run(&mut self) -> Result<VcpuExit, AccelError> {
        let done = Arc::new(AtomicBool::new(false));
        let (kicker, over) = (self.vcpu.kicker(), Arc::clone(&done));
        let watch = thread::spawn(move || {
            thread::park_timeout(PATIENCE);
            if !over.load(Ordering::SeqCst) {
                kicker.kick();
            }
        });
        let exit = self.vcpu.run();
        done.store(true, Ordering::SeqCst);
        watch.thread().unpark();
        watch.join().unwrap();
        exit
    }

    fn run(&mut self) -> VcpuExit {
        self.try_run().unwrap()
    }

    fn gpr(&mut self, which: Gpr) -> u64 {
        self.vcpu.state().unwrap().gpr[which as usize]
    }

    /// Kicks whenever the guest touches `port`.
    fn kick_at(&self, port: u16) {
        let kicker = self.vcpu.kicker();
        let hook: Hook = Box::new(move |p| {
            if p == port {
                kicker.kick();
            }
        });
        assert!(self.board.hook.set(hook).is_ok());
    }
}

fn real_state() -> CpuState {
    let mut state = CpuState::reset(0x663);
    state.segments[Seg::Cs as usize].selector = 0;
    state.segments[Seg::Cs as usize].base = 0;
    state.rip = CODE;
    state.gpr[Gpr::Rsp as usize] = 0x8000;
    state.idtr.limit = 0x3FF;
    state
}

fn long_state() -> CpuState {
    let mut state = CpuState::reset(0x663);
    let flat = |selector, access| Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        access,
    };
    for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
        state.segments[seg as usize] = flat(0x10, 0xC093);
    }
    state.segments[Seg::Cs as usize] = flat(8, 0xA09B);
    state.cr0 = Cr0::PE | Cr0::PG | Cr0::ET | Cr0::NE | Cr0::WP;
    state.cr4 = Cr4::PAE | Cr4::OSFXSR;
    state.cr3 = 0x1_0000;
    state.efer = Efer::LME | Efer::LMA | Efer::SCE | Efer::NXE;
    state.rip = CODE;
    state.gpr[Gpr::Rsp as usize] = 0x8000;
    state.idtr = TableRegister { base: 0, limit: 0 };
    state
}

#[test]
fn port_io_comes_in_every_width() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xB0, 0x11, 0xE6, 0x10,                                     // mov al, 11h; out 10h, al
        0xB8, 0x33, 0x22, 0xE7, 0x12,                               // mov ax, 2233h; out 12h, ax
        0x66, 0xB8, 0x77, 0x66, 0x55, 0x44, 0x66, 0xE7, 0x14,       // mov eax, ..; out 14h, eax
        0xE4, 0x20, 0x88, 0xC3,                                     // in al, 20h; mov bl, al
        0xE5, 0x22, 0x89, 0xC1,                                     // in ax, 22h; mov cx, ax
        0x66, 0xE5, 0x24, 0xF4,                                     // in eax, 24h; hlt
    ]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    let expected = [
        Seen::Out(0x10, 1, vec![0x11]),
        Seen::Out(0x12, 2, vec![0x33, 0x22]),
        Seen::Out(0x14, 4, vec![0x77, 0x66, 0x55, 0x44]),
        Seen::In(0x20, 1, 1),
        Seen::In(0x22, 2, 2),
        Seen::In(0x24, 4, 4),
    ];
    assert_eq!(guest.board.seen(), expected);
    assert_eq!(guest.gpr(Gpr::Rax), 0xA4A3_A2A1);
    assert_eq!(guest.gpr(Gpr::Rcx), 0xA2A1);
    assert_eq!(guest.gpr(Gpr::Rbx), 0xA1);
    assert_eq!(guest.vcpu.state().unwrap().activity, Activity::Halted);
}

#[test]
fn string_io_moves_every_item() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xFC, 0xBE, 0x00, 0x20, 0xB9, 0x08, 0x00, 0xBA, 0x02, 0x04, // cld; mov si, 2000h; mov cx, 8; mov dx, 402h
        0xF3, 0x6E,                                                 // rep outsb
        0xBF, 0x00, 0x30, 0xB9, 0x04, 0x00, 0xF3, 0x6D, 0xF4,       // mov di, 3000h; mov cx, 4; rep insw; hlt
    ]);
    guest.ram.write(0x2000, b"string8!");
    assert_eq!(guest.run(), VcpuExit::Halted);
    let (mut out, mut items) = (Vec::new(), 0);
    for seen in guest.board.seen() {
        match seen {
            Seen::Out(0x402, 1, data) => out.extend(data),
            Seen::In(0x402, 2, len) => items += len / 2,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(out, b"string8!");
    assert_eq!(items, 4);
    assert_eq!(guest.ram.read::<2>(0x3000), [0xA1, 0xA2]);
    assert_eq!(guest.gpr(Gpr::Rdi), 0x3008);
}

#[test]
fn device_memory_and_writes_to_rom_are_callbacks() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xB8, 0x00, 0xB8, 0x8E, 0xD8,                               // mov ax, B800h; mov ds, ax
        0xC7, 0x06, 0x10, 0x00, 0x34, 0x12,                         // mov word [10h], 1234h
        0x66, 0xA1, 0x20, 0x00, 0x66, 0x89, 0xC1,                   // mov eax, [20h]; mov ecx, eax
        0xB8, 0x00, 0xF0, 0x8E, 0xD8,                               // mov ax, F000h; mov ds, ax
        0xC6, 0x06, 0x00, 0x00, 0x55, 0xA0, 0x00, 0x00, 0xF4,       // mov byte [0], 55h; mov al, [0]; hlt
    ]);
    guest.ram.write(ROM, &[0xEA]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    let expected = [
        Seen::Write(0xB_8010, vec![0x34, 0x12]),
        Seen::Read(0xB_8020, 4),
        // The board says what becomes of it.
        Seen::Write(ROM, vec![0x55]),
    ];
    assert_eq!(guest.board.seen(), expected);
    assert_eq!(guest.gpr(Gpr::Rcx), 0xC4C3_C2C1);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 0xEA);
}

#[test]
fn long_mode_reaches_ports_and_device_memory() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::long(&kvm, &[
        0xBB, 0x00, 0x80, 0x0B, 0x00,                               // mov ebx, B8000h
        0x48, 0x8B, 0x03,                                           // mov rax, [rbx]
        0x48, 0x89, 0x43, 0x08,                                     // mov [rbx+8], rax
        0xE6, 0x80,                                                 // out 80h, al
        0xB8, 0x05, 0x00, 0x00, 0x00, 0x44, 0x0F, 0x22, 0xC0,       // mov eax, 5; mov cr8, rax
        0xF4,
    ]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    let bytes: Vec<u8> = (0xC1..=0xC8).collect();
    let expected = [
        Seen::Read(0xB_8000, 8),
        Seen::Write(0xB_8008, bytes),
        Seen::Out(0x80, 1, vec![0xC1]),
    ];
    assert_eq!(guest.board.seen(), expected);
    assert_eq!(guest.board.tpr(), 5);
}

#[test]
fn a_triple_fault_is_reported_until_the_state_is_replaced() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::long(&kvm, &[0x0F, 0x0B]);
    assert_eq!(guest.run(), VcpuExit::TripleFault);
    assert_eq!(guest.run(), VcpuExit::TripleFault);
    guest.ram.write(CODE, &[0xF4]);
    guest.vcpu.set_state(&real_state()).unwrap();
    assert_eq!(guest.run(), VcpuExit::Halted);
}

#[test]
fn an_interrupt_waits_for_its_window() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xE6, 0x50, 0xE6, 0x51, 0xFB,                               // out 50h, al; out 51h, al; sti
        0xB9, 0x00, 0x20, 0xE2, 0xFE,                               // mov cx, 2000h; loop $ (see below)
        0xE6, 0x52, 0xFA, 0xF4,                                     // out 52h, al; cli; hlt
    ]);
    // A KVM that emulates looks at the window only once in some hundred instructions: the loop.
    guest.handler(0x20, &[0xE6, 0x60, 0xCF]); // out 60h, al; iret
    let (board, kicker) = (Arc::downgrade(&guest.board), guest.vcpu.kicker());
    let hook: Hook = Box::new(move |port| {
        if port == 0x50 {
            let board = board.upgrade().unwrap();
            board.raise(0x20);
            board.raise(0x20);
            kicker.signal();
        }
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    let out = |port| Seen::Out(port, 1, vec![0]);
    let expected = [
        out(0x50),
        out(0x51),
        Seen::Ack(0x20),
        out(0x60),
        Seen::Ack(0x20),
        out(0x60),
        out(0x52),
    ];
    assert_eq!(guest.board.seen(), expected);
    assert_eq!(guest.gpr(Gpr::Rsp), 0x8000);
}

#[test]
fn an_interrupt_waits_for_a_lower_task_priority() {
    const GDT: u64 = 0x600;
    const IDT: u64 = 0x2000;
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::long(&kvm, &[
        0xB8, 4, 0, 0, 0, 0x44, 0x0F, 0x22, 0xC0,                   // mov eax, 4; mov cr8, rax
        0xE6, 0x50, 0xFB,                                           // out 50h, al; sti
        0xB9, 0x00, 0x20, 0, 0, 0xE2, 0xFE, 0xE6, 0x51,             // mov ecx, 2000h; loop $; out 51h, al
        0x31, 0xC0, 0x44, 0x0F, 0x22, 0xC0,                         // xor eax, eax; mov cr8, rax
        0xB9, 0x00, 0x20, 0, 0, 0xE2, 0xFE, 0xE6, 0x52, 0xFA, 0xF4, // loop again; out 52h, al; cli; hlt
    ]);
    guest
        .ram
        .write(GDT + 8, &0x00AF_9B00_0000_FFFF_u64.to_le_bytes());
    guest
        .ram
        .write(GDT + 16, &0x00CF_9300_0000_FFFF_u64.to_le_bytes());
    let gate = HANDLER | 8 << 16 | 0x8E00 << 32;
    guest.ram.write(IDT + 0x41 * 16, &gate.to_le_bytes());
    guest.ram.write(HANDLER, &[0xE6, 0x60, 0x48, 0xCF]); // out 60h, al; iretq
    let mut state = guest.vcpu.state().unwrap();
    (state.gdtr.base, state.gdtr.limit) = (GDT, 0x17);
    (state.idtr.base, state.idtr.limit) = (IDT, 0xFFF);
    guest.vcpu.set_state(&state).unwrap();
    let (board, kicker) = (Arc::downgrade(&guest.board), guest.vcpu.kicker());
    let hook: Hook = Box::new(move |port| {
        if port == 0x50 {
            board.upgrade().unwrap().raise(0x41);
            kicker.signal();
        }
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    let out = |port, al| Seen::Out(port, 1, vec![al]);
    let expected = [
        out(0x50, 4),
        out(0x51, 4),
        Seen::Ack(0x41),
        out(0x60, 0),
        out(0x52, 0),
    ];
    assert_eq!(guest.board.seen(), expected);
}

#[test]
fn a_halted_processor_wakes_for_interrupt_and_nmi() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xFB, 0xF4, 0xE6, 0x61, 0xFA, 0xF4, 0xE6, 0x62, 0xF4,       // sti; hlt; out 61h; cli; hlt; out 62h; hlt
    ]);
    guest.handler(0x21, &[0xE6, 0x60, 0xCF]);
    guest.handler(2, &[0xE6, 0x60, 0xCF]);
    let out = |port| Seen::Out(port, 1, vec![0]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.run(), VcpuExit::Halted, "nothing woke it");
    guest.board.raise(0x21);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.board.seen(), [Seen::Ack(0x21), out(0x60), out(0x61)]);
    guest.board.raise(0x21);
    assert_eq!(guest.run(), VcpuExit::Halted, "interrupts are off");
    assert_eq!(guest.board.seen(), []);
    guest.board.post(Pending::NMI);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.board.seen(), [out(0x60), out(0x62)]);
}

#[test]
fn the_next_instruction_sees_a_new_map() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xB8, 0x00, 0xF0, 0x8E, 0xD8, 0xE6, 0x70,                   // mov ax, F000h; mov ds, ax; out 70h, al
        0xC6, 0x06, 0x00, 0x00, 0x55, 0xE6, 0x71,                   // mov byte [0], 55h; out 71h, al
        0xC6, 0x06, 0x00, 0x00, 0x66, 0xA0, 0x00, 0x00, 0xF4,       // mov byte [0], 66h; mov al, [0]; hlt
    ]);
    let (vm, ram) = (Arc::downgrade(&guest.vm), Arc::clone(&guest.ram));
    let hook: Hook = Box::new(move |port| {
        let wiring = Wiring {
            rom_writable: port == 0x70,
            ..Wiring::default()
        };
        vm.upgrade()
            .unwrap()
            .set_memory_map(map(&ram, wiring))
            .unwrap();
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 0x55);
    assert_eq!(guest.ram.read::<1>(ROM), [0x55]);
}

#[test]
fn a20_off_shows_the_first_megabyte_again() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xB8, 0xFF, 0xFF, 0x8E, 0xD8, 0xA0, 0x10, 0x30,             // mov ax, FFFFh; mov ds, ax; mov al, [3010h]
        0xC6, 0x06, 0x11, 0x30, 0x77, 0xF4,                         // mov byte [3011h], 77h; hlt
    ]);
    guest.ram.write(0x3000, &[0x12, 0]);
    guest.ram.write(0x10_3000, &[0x34, 0]);
    let wiring = Wiring {
        a20_off: true,
        ..Wiring::default()
    };
    guest.vm.set_memory_map(map(&guest.ram, wiring)).unwrap();
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 0x12);
    assert_eq!(guest.ram.read::<2>(0x3000), [0x12, 0x77]);
    assert_eq!(guest.ram.read::<2>(0x10_3000), [0x34, 0]);
}

/// What was written is told once, and told again when it is written again; reading in between is no
/// write. (KVM may tell a page when it is first read.)
fn written_pages_are_told(accel: &dyn Accel) {
    #[rustfmt::skip]
    let mut guest = Guest::on(accel, &[
        0xC6, 0x06, 0x00, 0x50, 0x01, 0xE6, 0x70,                   // mov byte [5000h], 1; out 70h, al
        0xA0, 0x00, 0x50, 0xE6, 0x71,                               // mov al, [5000h]; out 71h, al
        0xC6, 0x06, 0x00, 0x50, 0x02, 0xE6, 0x72,                   // mov byte [5000h], 2; out 72h, al
        0xC6, 0x06, 0x00, 0x70, 0x02, 0xF4,                         // mov byte [7000h], 2; hlt
    ]);
    let wiring = Wiring {
        log_dirty: true,
        ..Wiring::default()
    };
    let map = map(&guest.ram, wiring);
    let marks = Arc::clone(&map.ranges()[0].block.marks);
    guest.vm.set_memory_map(map).unwrap();
    let told: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
    let (vm, notes) = (Arc::downgrade(&guest.vm), Arc::clone(&told));
    let asked = Arc::clone(&marks);
    let hook: Hook = Box::new(move |_| {
        let pages = vm.upgrade().unwrap().take_dirty(&asked).unwrap();
        let pages = pages.into_iter().filter(|page| *page != 1).collect();
        notes.lock().unwrap().push(pages);
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(*told.lock().unwrap(), [vec![5], vec![], vec![5]]);
    // A slot that goes is asked a last time.
    guest
        .vm
        .set_memory_map(MemoryMap::default())
        .expect("no memory");
    assert_eq!(guest.vm.take_dirty(&marks).unwrap(), [7]);
}

#[test]
fn written_pages_are_told_by_kvm() {
    let Some(kvm) = kvm() else { return };
    written_pages_are_told(&kvm);
}

#[test]
fn written_pages_are_told_by_tcg() {
    written_pages_are_told(&Tcg);
}

#[test]
fn the_state_at_an_in_is_that_after_it() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::real(&kvm, &[0xE4, 0x20, 0x88, 0xC3, 0xF4]); // in al, 20h; mov bl, al; hlt
    guest.kick_at(0x20);
    assert_eq!(guest.run(), VcpuExit::Kicked);
    let state = guest.vcpu.state().unwrap();
    assert_eq!(state.rip, CODE + 2);
    assert_eq!(state.gpr[Gpr::Rax as usize], 0xA1);
    assert_eq!(state.gpr[Gpr::Rbx as usize], 0);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.gpr(Gpr::Rbx), 0xA1);
    assert_eq!(guest.board.seen().len(), 1, "the access is not made twice");
}

#[test]
fn the_local_apics_msrs_are_the_boards() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0x66, 0xB9, 0x1B, 0x00, 0x00, 0x00, 0x0F, 0x32,             // mov ecx, 1Bh; rdmsr
        0x80, 0xE4, 0xF7, 0x80, 0xCC, 0x08, 0x0F, 0x30,             // and ah, F7h; or ah, 8; wrmsr
        0x66, 0xB9, 0x02, 0x08, 0x00, 0x00, 0x0F, 0x32, 0xF4,       // mov ecx, 802h; rdmsr; hlt
    ]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.board.seen(), [Seen::Msr(0x1B, Some(0xFEE0_0900))]);
    assert_eq!(guest.gpr(Gpr::Rax), 7);
}

#[test]
fn an_unknown_msr_is_a_general_protection_fault() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0x66, 0xB9, 0x99, 0x99, 0x99, 0x09, 0x0F, 0x32, 0xF4,       // mov ecx, 9999999h; rdmsr; hlt
    ]);
    guest.handler(13, &[0xE6, 0x60, 0xF4]);
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.board.seen().len(), 1);
}

#[test]
fn a_second_processor_starts_by_sipi() {
    let Some(kvm) = kvm() else { return };
    let guest = Guest::new(&kvm);
    guest.ram.write(0x2000, &[0xE6, 0x33, 0xF4]); // out 33h, al; hlt
    let board = Arc::new(Board::default());
    let mut ap = guest
        .vm
        .create_vcpu(1, Arc::clone(&board) as Arc<dyn CpuIo>)
        .unwrap();
    assert_eq!(ap.state().unwrap().activity, Activity::WaitForSipi);
    assert_eq!(ap.run().unwrap(), VcpuExit::Halted);
    board.post(Pending::INIT);
    assert_eq!(ap.run().unwrap(), VcpuExit::Halted);
    board.post(Pending::SIPI);
    assert_eq!(ap.run().unwrap(), VcpuExit::Halted);
    assert_eq!(board.seen(), [Seen::Out(0x33, 1, vec![0])]);
}

#[test]
fn what_kvm_cannot_emulate_is_an_error_that_says_where() {
    let Some(kvm) = kvm() else { return };
    if !kvm.is_partial() {
        skip(&"this KVM is whole: it runs FLDPI");
        return;
    }
    let mut guest = Guest::real(&kvm, &[0xD9, 0xEB, 0xF4]); // fldpi
    let error = guest.try_run().unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, AccelError::Internal { suberror: 1, .. }),
        "{text}"
    );
    assert!(text.contains("d9 eb") && text.contains("(fldpi)"), "{text}");
    assert!(
        text.contains("real mode at cs=0000 (base 0) rip=1000"),
        "{text}"
    );
}

#[test]
fn code_in_device_memory_is_an_error_not_a_hang() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::real(&kvm, &[0xEA, 0x00, 0x00, 0x00, 0xA0]); // jmp A000h:0
    let text = guest.try_run().unwrap_err().to_string();
    assert!(text.contains("cs=a000 (base a0000) rip=0"), "{text}");
    assert!(
        text.contains("instruction unknown (no memory there)"),
        "{text}"
    );
}

#[test]
fn a_map_that_is_set_again_keeps_its_slots_and_its_contents() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xC6, 0x06, 0x00, 0x50, 0x01, 0xE6, 0x70,                   // mov byte [5000h], 1; out 70h, al
        0xA0, 0x00, 0x50, 0xF4,                                     // mov al, [5000h]; hlt
    ]);
    let (vm, ram) = (Arc::downgrade(&guest.vm), Arc::clone(&guest.ram));
    let hook: Hook = Box::new(move |_| {
        let vm = vm.upgrade().unwrap();
        vm.set_memory_map(MemoryMap::new(Vec::new(), true).unwrap())
            .unwrap();
        vm.set_memory_map(map(&ram, Wiring::default())).unwrap();
        vm.set_memory_map(map(&ram, Wiring::default())).unwrap();
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 1);
}

/// A map with the ROM writable, and memory that no process can have.
fn impossible(ram: &Arc<Ram>) -> MemoryMap {
    let wiring = Wiring {
        rom_writable: true,
        ..Wiring::default()
    };
    let mut ranges = map(ram, wiring).ranges().to_vec();
    let kernel = std::ptr::without_provenance_mut(0xFFFF_8000_0000_0000);
    ranges.push(Range {
        start: RAM,
        len: 0x1000,
        block: Block {
            host: NonNull::new(kernel).unwrap(),
            len: 0x1000,
            marks: Arc::new([AtomicU8::new(0)]),
            owner: Arc::new(()),
        },
        offset: 0,
        read_only: false,
        log_dirty: false,
    });
    MemoryMap::new(ranges, true).unwrap()
}

#[test]
fn a_map_that_is_refused_leaves_the_one_before() {
    let Some(kvm) = kvm() else { return };
    #[rustfmt::skip]
    let mut guest = Guest::real(&kvm, &[
        0xB8, 0x00, 0xF0, 0x8E, 0xD8, 0xE6, 0x70,                   // mov ax, F000h; mov ds, ax; out 70h, al
        0xC6, 0x06, 0x00, 0x00, 0x55, 0xE6, 0x71,                   // mov byte [0], 55h; out 71h, al
        0xC6, 0x06, 0x00, 0x00, 0x66, 0xF4,                         // mov byte [0], 66h; hlt
    ]);
    let (vm, ram) = (Arc::downgrade(&guest.vm), Arc::clone(&guest.ram));
    let hook: Hook = Box::new(move |port| {
        let vm = vm.upgrade().unwrap();
        let result = match port {
            0x70 => vm.set_memory_map(impossible(&ram)),
            // And a change can be made after one that failed.
            _ => {
                let wiring = Wiring {
                    rom_writable: true,
                    ..Wiring::default()
                };
                vm.set_memory_map(map(&ram, wiring))
            }
        };
        assert_eq!(result.is_err(), port == 0x70, "{result:?}");
    });
    assert!(guest.board.hook.set(hook).is_ok());
    assert_eq!(guest.run(), VcpuExit::Halted);
    let out = |port| Seen::Out(port, 1, vec![0]);
    let expected = [out(0x70), Seen::Write(ROM, vec![0x55]), out(0x71)];
    assert_eq!(guest.board.seen(), expected);
    assert_eq!(guest.ram.read::<1>(ROM), [0x66]);
}
