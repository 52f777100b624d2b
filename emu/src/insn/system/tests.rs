use std::sync::atomic::Ordering;

use crate::arch::exception::{Exception, GP, NM, UD};
use crate::arch::segment::{Seg, TableRegister};
use crate::arch::{Cr0, Cr4, RFlags};
use crate::engine::Stop;
use crate::state::Activity;
use crate::test_bench::Bench;

const GP0: Result<(), Exception> = Err(Exception::with_code(GP, 0));
const UNDEFINED: Result<(), Exception> = Err(Exception::new(UD));

#[test]
fn cpuid_shows_the_model_and_the_apic_bit_follows_its_base() {
    let mut bench = Bench::new("qemu64");
    for (base, apic) in [(0xFEE0_0800, true), (0xFEE0_0000, false)] {
        bench.board.apic_base.store(base, Ordering::Relaxed);
        bench.cpu.regs[0] = 1;
        assert_eq!(bench.execute(&[0x0F, 0xA2]), Ok(()));
        assert_eq!(bench.cpu.regs[0], 0x0006_0FB1);
        assert_eq!(bench.cpu.regs[2] >> 9 & 1 != 0, apic);
    }
    bench.cpu.regs[0] = 0x8000_0100;
    bench.cpu.regs[3] = u64::MAX;
    assert_eq!(bench.execute(&[0x0F, 0xA2]), Ok(()));
    assert_eq!(bench.cpu.regs[3], 0);
}

#[test]
fn time_stamp() {
    let mut bench = Bench::long();
    bench.board.tsc.store(0x1_0000_0002, Ordering::Relaxed);
    bench.cpu.regs[0] = u64::MAX;
    assert_eq!(bench.execute(&[0x0F, 0x31]), Ok(()));
    assert_eq!((bench.cpu.regs[0], bench.cpu.regs[2]), (2, 1));
    bench.cpu.msrs.tsc_aux = 7;
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xF9]), Ok(()), "RDTSCP");
    assert_eq!(bench.cpu.regs[1], 7);
    assert_eq!(
        bench.execute(&[0xF3, 0x0F, 0xC7, 0xFB]),
        Ok(()),
        "RDPID RBX"
    );
    assert_eq!(bench.cpu.regs[3], 7);
    bench.user();
    assert_eq!(bench.execute(&[0x0F, 0x31]), Ok(()));
    bench.cpu.cr4 |= Cr4::TSD;
    assert_eq!(bench.execute(&[0x0F, 0x31]), GP0);
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xF9]), GP0);
    assert_eq!(Bench::new("qemu64").execute(&[0x0F, 0x01, 0xF9]), UNDEFINED);
}

#[test]
fn what_is_not_in_cpuid_is_undefined() {
    let mut bench = Bench::long();
    let codes: [&[u8]; 14] = [
        &[0x0F, 0x01, 0xD0],             // XGETBV
        &[0x0F, 0x01, 0xD1],             // XSETBV
        &[0x0F, 0x01, 0xC8],             // MONITOR
        &[0x0F, 0x01, 0xC9],             // MWAIT
        &[0x0F, 0x01, 0xC1],             // VMCALL
        &[0x0F, 0x01, 0xD9],             // VMMCALL
        &[0x0F, 0x01, 0xD8],             // VMRUN
        &[0x66, 0x0F, 0x38, 0x82, 0x00], // INVPCID
        &[0x0F, 0xAA],                   // RSM
        &[0x0F, 0xAE, 0x20],             // XSAVE
        &[0x0F, 0x0B],                   // UD2
        &[0x0F, 0xB9, 0xC0],             // UD1
        &[0x0F, 0xFF, 0xC0],             // UD0
        &[0xDB, 0xE5],                   // FRSTPM, of the 80287XL
    ];
    for code in codes {
        assert_eq!(bench.execute(code), UNDEFINED, "{code:x?}");
    }
}

#[test]
fn hints_are_nops_whatever_they_are_called() {
    let mut bench = Bench::long();
    let before = bench.cpu.state();
    let codes: [&[u8]; 9] = [
        &[0x90],
        &[0xF3, 0x90], // PAUSE
        &[0x66, 0x90],
        &[0x0F, 0x1F, 0x44, 0x00, 0x00], // NOP
        &[0x0F, 0x18, 0x08],             // PREFETCHT0
        &[0x0F, 0x0D, 0x08],             // PREFETCHW
        &[0xF3, 0x0F, 0x1E, 0xFA],       // ENDBR64
        &[0xF3, 0x48, 0x0F, 0x1E, 0xC8], // RDSSPQ without CET
        &[0x66, 0x0F, 0x1F, 0x84, 0x00, 0, 0, 0, 0],
    ];
    for code in codes {
        assert_eq!(bench.execute(code), Ok(()), "{code:x?}");
    }
    assert_eq!(before.differences(&bench.cpu.state()), Vec::<String>::new());
}

#[test]
fn only_the_kernel_halts_and_invalidates() {
    let mut bench = Bench::protected();
    let codes: [&[u8]; 6] = [
        &[0xF4],
        &[0x0F, 0x08],
        &[0x0F, 0x09],
        &[0xF3, 0x0F, 0x09],
        &[0x0F, 0x01, 0x38],
        &[0x0F, 0x33],
    ];
    for code in &codes[..5] {
        assert_eq!(bench.execute(code), Ok(()), "{code:x?}");
    }
    assert_eq!(bench.cpu.activity, Activity::Halted);
    bench.user();
    for code in codes {
        assert_eq!(bench.execute(code), GP0, "{code:x?}");
    }
    let mut bench = Bench::new("max");
    bench.cpu.cr0 |= Cr0::PE;
    bench.cpu.set_system_flags(RFlags::VM);
    assert_eq!(bench.execute(&[0xF4]), GP0, "virtual-8086 mode is CPL 3");
}

#[test]
fn descriptor_table_registers() {
    let mut bench = Bench::protected();
    bench.write(0x5000, &[0x34, 0x12, 0x78, 0x56, 0x34, 0x92]);
    bench.cpu.regs[3] = 0x5000;
    let loaded = |bench: &Bench| (bench.cpu.gdtr.base, bench.cpu.gdtr.limit);
    assert_eq!(bench.execute(&[0x0F, 0x01, 0x13]), Ok(()), "LGDT [EBX]");
    assert_eq!(loaded(&bench), (0x9234_5678, 0x1234));
    assert_eq!(bench.execute(&[0x66, 0x0F, 0x01, 0x13]), Ok(()));
    assert_eq!(loaded(&bench), (0x0034_5678, 0x1234), "24 bits");
    bench.cpu.idtr = TableRegister {
        base: 0xAABB_CCDD,
        limit: 0x7FF,
    };
    assert_eq!(bench.execute(&[0x66, 0x0F, 0x01, 0x0B]), Ok(()), "SIDT");
    assert_eq!(bench.read(0x5000, 6), 0xAABB_CCDD_07FF, "all of the base");
    bench.user();
    assert_eq!(bench.execute(&[0x0F, 0x01, 0x13]), GP0);
    assert_eq!(
        bench.execute(&[0x0F, 0x01, 0x03]),
        Ok(()),
        "SGDT is for all"
    );
    bench.cpu.cr4 |= Cr4::UMIP;
    let codes: [&[u8]; 5] = [
        &[0x0F, 0x01, 0x03],
        &[0x0F, 0x01, 0x0B],
        &[0x0F, 0x01, 0xE0],
        &[0x0F, 0x00, 0xC0],
        &[0x0F, 0x00, 0xC8],
    ];
    for code in codes {
        assert_eq!(bench.execute(code), GP0, "UMIP {code:x?}");
    }
}

#[test]
fn selectors_of_ldtr_and_tr() {
    let mut bench = Bench::protected();
    bench.cpu.segments[Seg::Tr as usize].selector = 0x40;
    bench.cpu.regs[0] = u64::MAX;
    assert_eq!(bench.execute(&[0x66, 0x0F, 0x00, 0xC8]), Ok(()), "STR AX");
    assert_eq!(bench.cpu.regs[0], 0xFFFF_FFFF_FFFF_0040);
    assert_eq!(bench.execute(&[0x0F, 0x00, 0xC8]), Ok(()), "STR EAX");
    assert_eq!(bench.cpu.regs[0], 0x40);
    assert_eq!(
        Bench::new("max").execute(&[0x0F, 0x00, 0xC8]),
        UNDEFINED,
        "real mode"
    );
}

/// Code at one linear address, of which a new CR3 makes another page: blocks must follow.
#[test]
fn a_new_cr3_is_seen_by_the_next_jump() {
    const PRESENT: u64 = 3;
    let (mut engine, ram) = Bench::engine("max");
    let mut state = Bench::long().cpu.state();
    let put = |at: u64, value: u64| ram.write(at, &value.to_le_bytes());
    // Two address spaces that differ in the page at 5000h only.
    for (root, page) in [(0x10_000, 0x5000), (0x20_000, 0x6000)] {
        put(root, (root + 0x1000) | PRESENT);
        put(root + 0x1000, (root + 0x2000) | PRESENT);
        put(root + 0x2000, (root + 0x3000) | PRESENT);
        for n in 0..16 {
            put(root + 0x3000 + n * 8, n << 12 | PRESENT);
        }
        put(root + 0x3000 + 5 * 8, page | PRESENT);
    }
    // 4000h: mov cr3, rsi; jmp 5000h
    ram.write(0x4000, &[0x0F, 0x22, 0xDE, 0xE9, 0xF8, 0x0F, 0x00, 0x00]);
    // 5000h: inc ebx; mov esi, edi; jmp 4000h; the other page at 5000h: inc ecx; hlt
    ram.write(
        0x5000,
        &[0xFF, 0xC3, 0x89, 0xFE, 0xE9, 0xF7, 0xEF, 0xFF, 0xFF],
    );
    ram.write(0x6000, &[0xFF, 0xC1, 0xF4]);
    state.gpr = [0; 16];
    state.gpr[6] = 0x10_000;
    state.gpr[7] = 0x20_000;
    state.cr3 = 0x10_000;
    state.rip = 0x4000;
    engine.set_state(&state);
    assert_eq!(engine.run(), Stop::Halted);
    assert_eq!(engine.run(), Stop::Halted, "until an event");
    let end = engine.state();
    assert_eq!((end.gpr[3], end.gpr[1], end.rip), (1, 1, 0x5003));
    assert_eq!(end.cr3, 0x20_000);
}

/// The kernel jumps to a page of its own, returns to user code, and that jumps there too: what the
/// first jump left in the jump cache must not let the second in.
#[test]
fn a_jump_of_the_kernels_is_not_one_of_the_users() {
    const KERNEL: u64 = 3;
    const USER: u64 = 7;
    let (mut engine, ram) = Bench::engine("max");
    let mut state = Bench::long().cpu.state();
    let put = |at: u64, value: u64| ram.write(at, &value.to_le_bytes());
    for (at, value) in [
        (0x10_000, 0x11_000),
        (0x11_000, 0x12_000),
        (0x12_000, 0x13_000),
    ] {
        put(at, value | USER);
    }
    put(0x13_020, 0x4000 | USER);
    put(0x13_028, 0x5000 | KERNEL);
    // 4000h: jmp 5000h; 5000h: sysretq
    ram.write(0x4000, &[0xE9, 0xFB, 0x0F, 0x00, 0x00]);
    ram.write(0x5000, &[0x48, 0x0F, 0x07]);
    state.gpr = [0; 16];
    state.gpr[1] = 0x4000;
    state.gpr[11] = 0x202;
    state.cr3 = 0x10_000;
    state.efer |= crate::arch::Efer::SCE;
    state.msrs.star = 0x3B << 48;
    // No fault can be taken: CR2 tells which it was.
    state.idtr.limit = 0;
    state.rip = 0x4000;
    engine.set_state(&state);
    assert_eq!(engine.run(), Stop::TripleFault);
    let end = engine.state();
    assert_eq!((end.cr2, end.rip), (0x5000, 0x5000));
}

#[test]
fn wait_faults_by_mp_and_ts_together() {
    for (bits, expected) in [
        (Cr0::empty(), Ok(())),
        (Cr0::MP, Ok(())),
        (Cr0::TS | Cr0::EM, Ok(())),
        (Cr0::MP | Cr0::TS, Err(Exception::new(NM))),
    ] {
        let mut bench = Bench::protected();
        bench.cpu.cr0 |= bits;
        assert_eq!(bench.execute(&[0x9B]), expected, "{bits:?}");
    }
}

/// 0F 0D and the hints around 0F 18 do nothing on any model, whatever their reg field says.
#[test]
fn every_hint_is_a_nop() {
    for model in ["qemu64", "max"] {
        for (opcode, field) in [0x0D, 0x18, 0x19, 0x1C, 0x1E, 0x1F]
            .into_iter()
            .flat_map(|opcode| (0..8).map(move |field| (opcode, field)))
        {
            let mut bench = Bench::new(model);
            let code = [0x0F, opcode, field << 3];
            assert_eq!(bench.execute(&code), Ok(()), "{model} {code:x?}");
        }
    }
}
