//! Rules of multiplication, bits, exchanges, decimals and flag control, one instruction at a time.
//!
//! The values they compute are compared with the host's processor elsewhere (`testsuite`); here is
//! what unprivileged 64-bit code does not show: modes, privileges, faults before effects.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use emu::arch::cpuid::CpuModel;
use emu::arch::{Cr0, Cr4, Efer, Gpr, RFlags, Seg, Segment};
use emu::io::NoBoard;
use emu::memory::{Block, Range};
use emu::state::Shadow;
use emu::{Attention, CpuState, Engine, MemoryMap, Stop};

/// Where the code lies; data lies below.
const CODE: u64 = 0x2000;
const PAGES: usize = 4;

#[repr(align(4096))]
struct Page([AtomicU8; 4096]);

/// One instruction, and the state and memory it starts with.
struct Guest {
    state: CpuState,
    ram: Arc<[Page]>,
}

impl Guest {
    /// Real mode with CS and the data segments at 0.
    fn real(code: &[u8]) -> Self {
        let ram: Arc<[Page]> = (0..PAGES)
            .map(|_| Page([const { AtomicU8::new(0) }; 4096]))
            .collect();
        let mut state = CpuState::reset(0x663);
        let cs = &mut state.segments[Seg::Cs as usize];
        (cs.selector, cs.base) = (0, 0);
        state.rip = CODE;
        state.gpr = [0; 16];
        // An IDT too short for any vector: a fault ends in shutdown.
        state.idtr.limit = 0;
        Self { state, ram }.memory(CODE, code)
    }

    /// Flat 32-bit code at CPL 0.
    fn flat32(code: &[u8]) -> Self {
        let mut guest = Self::real(code);
        guest.state.cr0 |= Cr0::PE;
        for (n, segment) in guest.state.segments.iter_mut().enumerate().take(6) {
            let code = if n == Seg::Cs as usize {
                Segment::CODE
            } else {
                0
            };
            segment.limit = u32::MAX;
            segment.access = code
                | Segment::P
                | Segment::S
                | Segment::WRITABLE
                | Segment::ACCESSED
                | Segment::DB
                | Segment::G;
        }
        guest
    }

    /// 64-bit code at CPL 0, without paging.
    fn long(code: &[u8]) -> Self {
        let mut guest = Self::flat32(code);
        guest.state.efer |= Efer::LME | Efer::LMA;
        let cs = &mut guest.state.segments[Seg::Cs as usize];
        cs.access = cs.access & !Segment::DB | Segment::L;
        guest
    }

    /// Virtual-8086 mode.
    fn vm86(code: &[u8]) -> Self {
        let mut guest = Self::real(code).cpl3();
        guest.state.cr0 |= Cr0::PE;
        guest.flags(RFlags::VM)
    }

    fn cpl3(mut self) -> Self {
        for segment in &mut self.state.segments[..6] {
            segment.access |= 3 << 5;
        }
        self
    }

    fn reg(mut self, gpr: Gpr, value: u64) -> Self {
        self.state.gpr[gpr as usize] = value;
        self
    }

    fn flags(mut self, flags: RFlags) -> Self {
        self.state.rflags |= flags;
        self
    }

    fn cr4(mut self, bits: Cr4) -> Self {
        self.state.cr4 |= bits;
        self
    }

    fn memory(self, address: u64, bytes: &[u8]) -> Self {
        for (at, byte) in (address as usize..).zip(bytes) {
            self.ram[at / 4096].0[at % 4096].store(*byte, Ordering::Relaxed);
        }
        self
    }

    fn quad(&self, address: u64) -> u64 {
        (0..8).rev().fold(0, |value, k| {
            let at = address as usize + k;
            value << 8 | u64::from(self.ram[at / 4096].0[at % 4096].load(Ordering::Relaxed))
        })
    }

    /// Runs the instruction: the state behind it, or `None` if it faulted.
    fn step(&self) -> Option<CpuState> {
        let len = (PAGES * 4096) as u64;
        let range = Range {
            start: 0,
            len,
            block: Block {
                host: NonNull::from(&*self.ram).cast(),
                len,
                marks: (0..PAGES).map(|_| AtomicU8::new(0)).collect(),
                owner: Arc::new(Arc::clone(&self.ram)),
            },
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        let attention = Arc::new(Attention::new(None));
        attention.set_memory_map(Arc::new(MemoryMap::new(vec![range], true).unwrap()));
        let model = CpuModel::by_name("max").unwrap();
        let mut engine = Engine::new(Arc::new(model), Arc::new(NoBoard), attention);
        engine.set_state(&self.state);
        match engine.step() {
            Stop::Stepped => Some(engine.state()),
            Stop::TripleFault => None,
            other => panic!("{other:?}"),
        }
    }

    fn faults(&self) -> bool {
        self.step().is_none()
    }
}

#[test]
fn a_register_bit_offset_moves_the_address() {
    for (offset, dword, bit) in [
        (0, 0x1000, 0),
        (31, 0x1000, 31),
        (32, 0x1004, 0),
        (-1i32, 0xFFC, 31),
        (-32, 0xFFC, 0),
        (0x1FFF, 0x13FC, 31),
    ] {
        // bts [ebx], eax
        let guest = Guest::flat32(&[0x0F, 0xAB, 0x03])
            .reg(Gpr::Rbx, 0x1000)
            .reg(Gpr::Rax, u64::from(offset as u32));
        let state = guest.step().unwrap();
        assert!(!state.rflags.contains(RFlags::CF));
        assert_eq!(guest.quad(dword) as u32, 1 << bit, "{offset}");
    }
    // An immediate offset stays in its unit: bts dword [ebx], 33
    let guest = Guest::flat32(&[0x0F, 0xBA, 0x2B, 33])
        .reg(Gpr::Rbx, 0x1000)
        .memory(0x1000, &[2]);
    assert!(guest.step().unwrap().rflags.contains(RFlags::CF));
}

#[test]
fn a_moved_address_wraps_at_the_address_size() {
    // bts [bx], ax in real mode
    let guest = Guest::real(&[0x0F, 0xAB, 0x07])
        .reg(Gpr::Rbx, 0xFFFE)
        .reg(Gpr::Rax, 16);
    guest.step().unwrap();
    assert_eq!(guest.quad(0) as u16, 1);
}

#[test]
fn divisions_fault_before_they_write() {
    let least = 1u64 << 63;
    // idiv rbx: the least number by -1
    let guest = Guest::long(&[0x48, 0xF7, 0xFB])
        .reg(Gpr::Rax, least)
        .reg(Gpr::Rdx, u64::MAX)
        .reg(Gpr::Rbx, u64::MAX);
    assert!(guest.faults());
    // The same with a dividend of 128 bits.
    assert!(guest.reg(Gpr::Rdx, least).reg(Gpr::Rax, 0).faults());
    // div bl by zero; aam 0
    assert!(Guest::flat32(&[0xF6, 0xF3]).reg(Gpr::Rax, 5).faults());
    assert!(Guest::flat32(&[0xD4, 0]).reg(Gpr::Rax, 5).faults());
}

#[test]
fn vex_needs_protected_mode() {
    let andn = [0xC4, 0xE2, 0x60, 0xF2, 0xC1];
    assert!(Guest::real(&andn).faults());
    assert!(Guest::vm86(&andn).faults());
    assert!(!Guest::flat32(&andn).faults());
    assert!(!Guest::long(&andn).faults());
}

#[test]
fn cmpxchg16b_is_aligned_and_always_gives_the_old_value() {
    let insn = [0xF0, 0x48, 0x0F, 0xC7, 0x0E];
    let guest = Guest::long(&insn)
        .memory(0x1000, &[7])
        .memory(0x1008, &[9])
        .reg(Gpr::Rbx, 1)
        .reg(Gpr::Rcx, 2);
    let guest = guest.reg(Gpr::Rsi, 0x1008);
    assert!(guest.faults());
    let guest = guest.reg(Gpr::Rsi, 0x1000).flags(RFlags::ZF);
    let state = guest.step().unwrap();
    assert_eq!((state.gpr[0], state.gpr[2]), (7, 9));
    assert!(!state.rflags.contains(RFlags::ZF));
    assert_eq!((guest.quad(0x1000), guest.quad(0x1008)), (7, 9));
    let guest = guest.reg(Gpr::Rax, 7).reg(Gpr::Rdx, 9);
    assert!(guest.step().unwrap().rflags.contains(RFlags::ZF));
    assert_eq!((guest.quad(0x1000), guest.quad(0x1008)), (1, 2));
}

#[test]
fn xadd_of_one_register_doubles_it() {
    let guest = Guest::long(&[0x48, 0x0F, 0xC1, 0xC0]).reg(Gpr::Rax, 21);
    assert_eq!(guest.step().unwrap().gpr[0], 42);
}

const CLI: &[u8] = &[0xFA];
const STI: &[u8] = &[0xFB];

#[test]
fn sti_casts_a_shadow_only_when_interrupts_were_off() {
    let state = Guest::real(STI).step().unwrap();
    assert_eq!(state.shadow, Shadow::Sti);
    assert!(state.rflags.contains(RFlags::IF));
    let state = Guest::real(STI).flags(RFlags::IF).step().unwrap();
    assert_eq!(state.shadow, Shadow::None);
}

#[test]
fn interrupt_flags_by_mode_and_privilege() {
    // CPL 3 below IOPL 3: #GP without PVI, VIF with it.
    assert!(Guest::flat32(CLI).cpl3().faults());
    assert!(Guest::flat32(STI).cpl3().faults());
    let pvi = Guest::flat32(STI).cpl3().cr4(Cr4::PVI);
    let state = pvi.step().unwrap();
    assert_eq!(state.rflags & (RFlags::IF | RFlags::VIF), RFlags::VIF);
    assert_eq!(state.shadow, Shadow::None);
    assert!(pvi.flags(RFlags::VIP).faults());
    let allowed = Guest::flat32(CLI).cpl3().flags(RFlags::IOPL | RFlags::IF);
    assert!(!allowed.step().unwrap().rflags.contains(RFlags::IF));
    // Virtual-8086 mode asks VME, not PVI.
    assert!(Guest::vm86(CLI).cr4(Cr4::PVI).faults());
    let vme = Guest::vm86(CLI)
        .cr4(Cr4::VME)
        .flags(RFlags::IF | RFlags::VIF);
    let state = vme.step().unwrap();
    assert_eq!(state.rflags & (RFlags::IF | RFlags::VIF), RFlags::IF);
    assert!(Guest::vm86(STI).cr4(Cr4::VME).flags(RFlags::VIP).faults());
    assert!(Guest::vm86(STI).flags(RFlags::IOPL).step().is_some());
}

#[test]
fn decimal_adjustments_count() {
    // Packed digits added and subtracted, as DAA and DAS mean them.
    for a in 0..100u8 {
        for b in 0..100u8 {
            let packed = |n: u8| n / 10 * 16 + n % 10;
            let (x, y) = (packed(a), packed(b));
            let carries = |cf: bool, af: bool| {
                let mut flags = RFlags::empty();
                flags.set(RFlags::CF, cf);
                flags.set(RFlags::AF, af);
                flags
            };
            let (sum, cf) = x.overflowing_add(y);
            let guest = Guest::flat32(&[0x27])
                .reg(Gpr::Rax, sum.into())
                .flags(carries(cf, (x & 15) + (y & 15) > 15));
            let state = guest.step().unwrap();
            assert_eq!(state.gpr[0], u64::from(packed((a + b) % 100)), "{a} + {b}");
            assert_eq!(state.rflags.contains(RFlags::CF), a + b > 99);
            let (difference, cf) = x.overflowing_sub(y);
            let guest = Guest::flat32(&[0x2F])
                .reg(Gpr::Rax, difference.into())
                .flags(carries(cf, x & 15 < y & 15));
            let state = guest.step().unwrap();
            let expected = packed((100 + a - b) % 100);
            assert_eq!(state.gpr[0], u64::from(expected), "{a} - {b}");
            assert_eq!(state.rflags.contains(RFlags::CF), a < b);
        }
    }
}
