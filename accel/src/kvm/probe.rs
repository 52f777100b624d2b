//! The start-up probe: whether this KVM runs what every PC guest starts with.
//!
//! `/dev/kvm` may open, answer every question and still run only a part of x86 (a host kernel that
//! emulates instructions for want of VT-x and SVM). So three tiny guests run, one in each mode, in
//! machines of their own, and each tells a number that only a processor gets right. A guest that
//! does not end is kicked out after [`LIMIT`].

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{io, ptr, thread};

use emu::arch::{Cr0, Cr4, Efer, Gpr, Seg, Segment, TableRegister};
use emu::io::ApicRefused;
use emu::memory::{Block, Range};

use crate::reason::ProbeFault;
use crate::{
    AccelError, CpuIo, CpuModel, CpuState, Kick, MemoryMap, Pending, Vcpu, VcpuExit, Vm, VmConfig,
};

/// A guest's twenty instructions take microseconds; a busy host may not run it for a while.
const LIMIT: Duration = Duration::from_secs(1);
/// The processor model: long mode and SSE2 are all that is used of it.
const MODEL: &str = "qemu64";
/// Its time-stamp counter; no guest reads it.
const TSC_HZ: u64 = 1_000_000_000;
/// Guest memory in pages.
const PAGES: usize = 16;
const PAGE: usize = 4096;
/// Where guests find their answer's port, and the one that makes an interrupt.
const ANSWER: u16 = 0x80;
const ASK: u16 = 0x81;
/// No answer yet.
const NONE: u64 = u64::MAX;
/// The vector of that interrupt.
const VECTOR: u8 = 0x40;
/// IA32_APIC_BASE: enabled, of the bootstrap processor, at its usual place.
const APIC_BASE: u64 = 0xFEE0_0900;

/// The memory's layout.
const CODE: usize = 0x1000;
const HANDLER: usize = 0x1100;
const GDT: usize = 0x2000;
const IDT: usize = 0x2800;
const TABLES: [usize; 3] = [0x3000, 0x4000, 0x5000];
/// A page that the 32-bit guest reaches by another address, too.
const SHARED: usize = 0x6000;
const STACK: u64 = 0x7F00;
/// Selectors and descriptors of the GDT.
const CODE_SELECTOR: u16 = 8;
const DATA_SELECTOR: u16 = 16;
const CODE32: u64 = 0x00CF_9B00_0000_FFFF;
const CODE64: u64 = 0x0020_9B00_0000_0000;
const DATA: u64 = 0x00CF_9300_0000_FFFF;
/// Page table entry: present, writable; and a large page.
const ENTRY: u64 = 0b11;
const LARGE: u64 = 1 << 7;

/// One tiny guest.
struct Step {
    name: &'static str,
    /// Lays out its memory.
    load: fn(&Ram),
    /// The state it starts in, of that after reset.
    enter: fn(&mut CpuState),
    /// What it writes to [`ANSWER`].
    answer: u32,
}

const STEPS: &[Step] = &[
    Step {
        name: "real mode",
        load: load_real,
        enter: enter_real,
        answer: 0x2474,
    },
    Step {
        name: "32-bit protected mode with paging",
        load: load_protected,
        enter: enter_protected,
        answer: 0xEDCB_A988,
    },
    Step {
        name: "64-bit mode with SSE and an interrupt",
        load: load_long,
        enter: enter_long,
        answer: 0x79,
    },
];

#[rustfmt::skip]
const REAL: &[u8] = &[
    0xB8, 0x34, 0x12,             // mov ax, 1234h
    0xA3, 0x00, 0x08,             // mov [800h], ax
    0xB9, 0x03, 0x00,             // mov cx, 3
    0x01, 0x0E, 0x00, 0x08,       // add [800h], cx
    0xE2, 0xFA,                   // loop -6
    0xCD, 0x20,                   // int 20h
    0xA1, 0x00, 0x08,             // mov ax, [800h]
    0xE7, 0x80,                   // out 80h, ax
    0xF4,                         // hlt
];
#[rustfmt::skip]
const REAL_HANDLER: &[u8] = &[
    0xD1, 0x26, 0x00, 0x08,       // shl word [800h], 1
    0xCF,                         // iret
];
/// The vector of INT, in 16-bit and in 32-bit code.
const INT16: usize = 0x20;
const INT32: usize = 0x21;
#[rustfmt::skip]
const PROTECTED: &[u8] = &[
    0xB8, 0x78, 0x56, 0x34, 0x12,             // mov eax, 12345678h
    0xA3, 0x10, 0x00, 0x40, 0x00,             // mov [400010h], eax
    0x8B, 0x0D, 0x10, 0x60, 0x00, 0x00,       // mov ecx, [6010h]
    0xCD, 0x21,                               // int 21h
    0x8D, 0x41, 0x01,                         // lea eax, [ecx+1]
    0xE7, 0x80,                               // out 80h, eax
    0xF4,                                     // hlt
];
#[rustfmt::skip]
const PROTECTED_HANDLER: &[u8] = &[
    0xF7, 0xD1,                               // not ecx
    0xCF,                                     // iretd
];
#[rustfmt::skip]
const LONG: &[u8] = &[
    0xB8, 0x03, 0x00, 0x00, 0x00,             // mov eax, 3
    0xF2, 0x48, 0x0F, 0x2A, 0xC0,             // cvtsi2sd xmm0, rax
    0xF2, 0x0F, 0x59, 0xC0,                   // mulsd xmm0, xmm0
    0xF2, 0x0F, 0x2C, 0xC8,                   // cvttsd2si ecx, xmm0
    0xE6, 0x81,                               // out 81h, al
    0xFB,                                     // sti
    0x45, 0x85, 0xC0,                         // test r8d, r8d
    0x74, 0xFB,                               // jz -5
    0xFA,                                     // cli
    0x42, 0x8D, 0x04, 0x01,                   // lea eax, [rcx+r8]
    0xE7, 0x80,                               // out 80h, eax
    0xF4,                                     // hlt
];
#[rustfmt::skip]
const LONG_HANDLER: &[u8] = &[
    0x41, 0xB8, 0x70, 0x00, 0x00, 0x00,       // mov r8d, 70h
    0x48, 0xCF,                               // iretq
];

/// A page of guest memory; the guest writes it while it is shared.
#[repr(C, align(4096))]
struct Page([AtomicU8; PAGE]);

/// Guest memory.
struct Ram(Vec<Page>);

impl Ram {
    fn new() -> Self {
        let page = || Page([const { AtomicU8::new(0) }; PAGE]);
        Self((0..PAGES).map(|_| page()).collect())
    }

    fn put(&self, address: usize, bytes: &[u8]) {
        for (at, &byte) in (address..).zip(bytes) {
            if let Some(page) = self.0.get(at / PAGE) {
                page.0[at % PAGE].store(byte, Ordering::Relaxed);
            }
        }
    }

    fn put_u64(&self, address: usize, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    /// The map with this memory at address 0.
    fn into_map(self) -> Result<MemoryMap, AccelError> {
        let owner = Arc::new(self.0);
        let len = (PAGES * PAGE) as u64;
        let block = Block {
            host: ptr::NonNull::from(&owner[..]).cast(),
            len,
            marks: (0..PAGES).map(|_| AtomicU8::new(0)).collect(),
            owner,
        };
        let range = Range {
            start: 0,
            len,
            block,
            offset: 0,
            read_only: false,
            log_dirty: false,
        };
        MemoryMap::new(vec![range], true).map_err(|error| AccelError::Host {
            call: "memory of the start-up probe",
            source: io::Error::other(error),
        })
    }
}

fn load_real(ram: &Ram) {
    ram.put(CODE, REAL);
    ram.put(HANDLER, REAL_HANDLER);
    // Offset, then segment 0.
    ram.put(INT16 * 4, &(HANDLER as u32).to_le_bytes());
}

fn enter_real(state: &mut CpuState) {
    let access = state.segments[Seg::Cs as usize].access;
    state.segments[Seg::Cs as usize] = Segment::real(0, access);
    start(state);
}

fn load_protected(ram: &Ram) {
    ram.put(CODE, PROTECTED);
    ram.put(HANDLER, PROTECTED_HANDLER);
    put_gdt(ram, CODE32);
    // 386 interrupt gate.
    let gate = HANDLER as u64 | u64::from(CODE_SELECTOR) << 16 | 0x8E00 << 32;
    ram.put_u64(IDT + INT32 * 8, gate);
    let [directory, low, high] = TABLES;
    let entry = |address: usize| (address as u32 | ENTRY as u32).to_le_bytes();
    ram.put(directory, &entry(low));
    ram.put(directory + 4, &entry(high));
    for page in 0..PAGES {
        ram.put(low + page * 4, &entry(page * PAGE));
    }
    ram.put(high, &entry(SHARED));
}

fn enter_protected(state: &mut CpuState) {
    flat(state, CODE32);
    state.cr0 = Cr0::PE | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::PG;
    start(state);
}

fn load_long(ram: &Ram) {
    ram.put(CODE, LONG);
    ram.put(HANDLER, LONG_HANDLER);
    put_gdt(ram, CODE64);
    // 64-bit interrupt gate: the upper half of the offset is 0.
    let gate = HANDLER as u64 | u64::from(CODE_SELECTOR) << 16 | 0x8E00 << 32;
    ram.put_u64(IDT + usize::from(VECTOR) * 16, gate);
    let [pml4, pointers, directory] = TABLES;
    ram.put_u64(pml4, pointers as u64 | ENTRY);
    ram.put_u64(pointers, directory as u64 | ENTRY);
    ram.put_u64(directory, ENTRY | LARGE);
}

fn enter_long(state: &mut CpuState) {
    flat(state, CODE64);
    state.cr0 = Cr0::PE | Cr0::MP | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::PG;
    state.cr4 = Cr4::PAE | Cr4::OSFXSR | Cr4::OSXMMEXCPT;
    state.efer = Efer::LME | Efer::LMA;
    start(state);
}

fn put_gdt(ram: &Ram, code: u64) {
    ram.put_u64(GDT + usize::from(CODE_SELECTOR), code);
    ram.put_u64(GDT + usize::from(DATA_SELECTOR), DATA);
}

/// Flat segments, tables and page tables of the two modes that have them.
fn flat(state: &mut CpuState, code: u64) {
    let data = Segment::from_descriptor(DATA_SELECTOR, DATA);
    for segment in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
        state.segments[segment as usize] = data;
    }
    state.segments[Seg::Cs as usize] = Segment::from_descriptor(CODE_SELECTOR, code);
    state.gdtr = TableRegister {
        base: GDT as u64,
        limit: 23,
    };
    state.idtr = TableRegister {
        base: IDT as u64,
        limit: 0x7FF,
    };
    state.cr3 = TABLES[0] as u64;
}

fn start(state: &mut CpuState) {
    state.rip = CODE as u64;
    state.gpr[Gpr::Rsp as usize] = STACK;
}

/// The board: two ports and an interrupt.
struct Io {
    answer: AtomicU64,
    interrupt: AtomicBool,
    kick: OnceLock<Arc<dyn Kick>>,
}

impl CpuIo for Io {
    fn port_read(&self, _: u16, _: usize, data: &mut [u8]) {
        data.fill(0xFF);
    }

    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        if port == ANSWER {
            let mut bytes = [0; 8];
            let len = width.min(data.len()).min(4);
            bytes[..len].copy_from_slice(&data[..len]);
            self.answer
                .store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        } else if port == ASK {
            self.interrupt.store(true, Ordering::Relaxed);
            if let Some(kick) = self.kick.get() {
                kick.signal();
            }
        }
    }

    fn mmio_read(&self, _: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }

    fn mmio_write(&self, _: u64, _: &[u8]) {}

    fn pending(&self) -> Pending {
        if self.interrupt.load(Ordering::Relaxed) {
            Pending::INTERRUPT
        } else {
            Pending::empty()
        }
    }

    fn ack_interrupt(&self) -> Option<u8> {
        let waits = self.interrupt.swap(false, Ordering::Relaxed);
        waits.then_some(VECTOR)
    }

    fn take(&self, _: Pending) -> u8 {
        0
    }

    fn apic_msr_read(&self, _: u32) -> Result<u64, ApicRefused> {
        Ok(APIC_BASE)
    }

    fn apic_msr_write(&self, _: u32, _: u64) -> Result<(), ApicRefused> {
        Ok(())
    }

    fn tpr(&self) -> u8 {
        0
    }

    fn set_tpr(&self, _: u8) {}

    fn tsc(&self) -> u64 {
        0
    }
}

/// Runs every step in a machine that `create` makes.
pub(super) fn run(
    create: impl Fn(&VmConfig) -> Result<Arc<dyn Vm>, AccelError>,
) -> Result<(), AccelError> {
    let Some(cpu) = CpuModel::by_name(MODEL) else {
        return Ok(());
    };
    let config = VmConfig {
        cpu,
        tsc_hz: TSC_HZ,
        virtual_time: None,
        observer: None,
    };
    STEPS.iter().try_for_each(|step| {
        let vm = create(&config)?;
        step.run(vm.as_ref()).map_err(|fault| AccelError::Probe {
            step: step.name,
            fault,
        })
    })
}

impl Step {
    fn run(&self, vm: &dyn Vm) -> Result<(), ProbeFault> {
        let ram = Ram::new();
        (self.load)(&ram);
        vm.set_memory_map(ram.into_map()?)?;
        let io = Arc::new(Io {
            answer: AtomicU64::new(NONE),
            interrupt: AtomicBool::new(false),
            kick: OnceLock::new(),
        });
        let mut vcpu = vm.create_vcpu(0, Arc::clone(&io) as _)?;
        let _ = io.kick.set(vcpu.kicker());
        let mut state = vcpu.state()?;
        (self.enter)(&mut state);
        vcpu.set_state(&state)?;
        match within_limit(vcpu.as_mut())? {
            VcpuExit::Halted => {}
            VcpuExit::Kicked => return Err(ProbeFault::Hung(LIMIT)),
            other => return Err(ProbeFault::Ended(other)),
        }
        let found = u32::try_from(io.answer.load(Ordering::Relaxed)).ok();
        if found != Some(self.answer) {
            let expected = self.answer;
            return Err(ProbeFault::Answer { expected, found });
        }
        Ok(())
    }
}

/// Runs a processor until it stops, or is kicked because it did not.
fn within_limit(vcpu: &mut dyn Vcpu) -> Result<VcpuExit, AccelError> {
    let (ended, end) = channel::<()>();
    let kick = vcpu.kicker();
    thread::scope(|scope| {
        let timer = thread::Builder::new().name("probe".into());
        let wait = move || {
            if end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                kick.kick();
            }
        };
        timer
            .spawn_scoped(scope, wait)
            .map_err(|source| AccelError::Host {
                call: "thread of the start-up probe",
                source,
            })?;
        let exit = vcpu.run();
        drop(ended);
        exit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Accel;
    use crate::tcg::Tcg;

    #[test]
    fn a_processor_passes() {
        run(|config| Tcg.create_vm(config)).expect("the software CPU does as a processor");
    }

    fn fault(step: &Step) -> String {
        let config = VmConfig {
            cpu: CpuModel::by_name(MODEL).expect("a model"),
            tsc_hz: TSC_HZ,
            virtual_time: None,
            observer: None,
        };
        let vm = Tcg.create_vm(&config).expect("a machine");
        step.run(vm.as_ref()).expect_err("a fault").to_string()
    }

    #[test]
    fn whatever_else_happens_is_named() {
        let step = |load, answer| Step {
            name: "test",
            load,
            enter: enter_real,
            answer,
        };
        let wrong = fault(&step(load_real, 1));
        assert_eq!(wrong, "the guest's answer is 0x2474, not 0x1");
        let silent = fault(&step(|ram| ram.put(CODE, &[0xF4]), 1));
        assert_eq!(silent, "the guest's answer is missing, not 0x1");
        let hung = fault(&step(|ram| ram.put(CODE, &[0xEB, 0xFE]), 1));
        assert_eq!(hung, "the guest did not end within 1000 ms");
    }
}
