//! The interpreter against the host's own processor: unprivileged code, whole state.

use emu::arch::{Gpr, RFlags};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use testsuite::campaign;
use testsuite::case::{Backend, Case, EDGES, Place};
use testsuite::run::Mode;
use testsuite::skip::skip;

/// Cases of the random campaign in this test; `campaign` runs more.
const CASES: u64 = 200_000;

#[test]
fn random_cases_agree() {
    match campaign::run(CASES, 0x7468_6538, &mut |_, _| {}) {
        Ok(report) => {
            assert_eq!(report.differences(), 0, "\n{report}");
            assert!(
                report.missing().is_empty(),
                "never run: {:?}",
                report.missing()
            );
        }
        Err(error) => skip("host", &error),
    }
}

#[test]
fn sbb_takes_the_borrow_in() {
    Case::long64(|a| a.sbb(eax, ebx))
        .each(Gpr::Rax, EDGES)
        .each(Gpr::Rbx, EDGES)
        .each_flag(RFlags::CF)
        .agree(Backend::ALL);
}

#[test]
fn bit_scans_and_counts_of_every_edge() {
    let cases: [fn(&mut CodeAssembler) -> _; 12] = [
        |a| a.bsf(ax, bx),
        |a| a.bsf(eax, ebx),
        |a| a.bsf(rax, rbx),
        |a| a.bsr(ax, bx),
        |a| a.bsr(eax, ebx),
        |a| a.bsr(rax, rbx),
        |a| a.tzcnt(ax, bx),
        |a| a.tzcnt(eax, ebx),
        |a| a.tzcnt(rax, rbx),
        |a| a.lzcnt(ax, bx),
        |a| a.lzcnt(eax, ebx),
        |a| a.lzcnt(rax, rbx),
    ];
    for code in cases {
        Case::long64(code)
            .gpr(Gpr::Rax, 0x1122_3344_5566_7788)
            .each(Gpr::Rbx, EDGES)
            .each_flag(RFlags::ZF | RFlags::CF)
            .agree(Backend::ALL);
    }
}

/// Counts around zero, each width, and the masks of 31 and 63.
const COUNTS: &[u64] = &[
    0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 24, 31, 32, 33, 34, 63, 64, 65, 255,
];

/// Every shift and rotate of group 2 by CL, in each width, as ModRM on RAX.
#[test]
fn shifts_by_nothing_and_beyond_the_width() {
    for group in 0..8 {
        let modrm = 0xC0 | group << 3;
        let widths: [&[u8]; 4] = [
            &[0xD2, modrm],
            &[0x66, 0xD3, modrm],
            &[0xD3, modrm],
            &[0x48, 0xD3, modrm],
        ];
        for code in widths {
            Case::bytes(Mode::Long64, code)
                .each(Gpr::Rax, EDGES)
                .each(Gpr::Rcx, COUNTS)
                .each_flag(RFlags::CF | RFlags::OF)
                .agree(Backend::ALL);
        }
    }
}

#[test]
fn double_shifts_by_nothing_and_beyond_the_width() {
    for opcode in [0xA5, 0xAD] {
        let widths: [&[u8]; 3] = [
            &[0x66, 0x0F, opcode, 0xD8],
            &[0x0F, opcode, 0xD8],
            &[0x48, 0x0F, opcode, 0xD8],
        ];
        for code in widths {
            Case::bytes(Mode::Long64, code)
                .each(Gpr::Rax, EDGES)
                .gpr(Gpr::Rbx, 0xF0F1_2345_6789_ABCD)
                .each(Gpr::Rcx, COUNTS)
                .each_flag(RFlags::CF | RFlags::OF)
                .agree(Backend::ALL);
        }
    }
}

#[test]
fn divisions_fit_or_raise() {
    for group in [6, 7] {
        let modrm = 0xC3 | group << 3; // by BL, BX, EBX, RBX
        let widths: [&[u8]; 4] = [
            &[0xF6, modrm],
            &[0x66, 0xF7, modrm],
            &[0xF7, modrm],
            &[0x48, 0xF7, modrm],
        ];
        for code in widths {
            Case::bytes(Mode::Long64, code)
                .each(Gpr::Rax, EDGES)
                .each(Gpr::Rdx, EDGES)
                .each(Gpr::Rbx, EDGES)
                .agree(Backend::ALL);
        }
    }
}

#[test]
fn a_failed_exchange_still_writes() {
    let dword = dword_ptr(rsi);
    Case::long64(|a| a.lock().cmpxchg(dword, ebx))
        .each_mem(Gpr::Rsi, 4, Place::ALL)
        .each_operand(Gpr::Rsi, EDGES)
        .each(Gpr::Rax, EDGES)
        .gpr(Gpr::Rbx, 0x1234_5678_9ABC_DEF0)
        .agree(Backend::ALL);
    Case::long64(|a| a.cmpxchg(ecx, ebx))
        .each(Gpr::Rcx, EDGES)
        .each(Gpr::Rax, EDGES)
        .gpr(Gpr::Rbx, 0x1234_5678_9ABC_DEF0)
        .agree(Backend::ALL);
    Case::long64(|a| a.cmpxchg16b(xmmword_ptr(rsi)))
        .each_mem(Gpr::Rsi, 16, Place::ALL)
        .each_operand(Gpr::Rsi, &[0, 5])
        .each(Gpr::Rax, &[0, 5])
        .each(Gpr::Rdx, &[0, 5])
        .agree(Backend::ALL);
}

#[test]
fn operands_that_cross_and_fault() {
    type Code = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: [(u64, Code); 12] = [
        (8, |a| a.mov(rax, ptr(rsi))),
        (8, |a| a.mov(ptr(rsi), rax)),
        (4, |a| a.add(ptr(rsi), eax)),
        (2, |a| a.xchg(ptr(rsi), ax)),
        (4, |a| a.lock().xadd(ptr(rsi), eax)),
        (8, |a| a.push(qword_ptr(rsi))),
        (8, |a| a.pop(qword_ptr(rsi))),
        (8, |a| a.movsq()),
        (8, |a| a.rep().stosd()),
        (4, |a| a.repe().cmpsb()),
        (4, |a| a.bts(ptr(rsi), eax)),
        (8, |a| a.shld(ptr(rsi), rax, cl)),
    ];
    for (size, code) in cases {
        Case::long64(code)
            .each_mem(Gpr::Rsi, size, Place::ALL)
            .each_mem(Gpr::Rdi, size, Place::ALL)
            .each(Gpr::Rcx, &[0, 1, 5, 3000])
            .each_flag(RFlags::DF | RFlags::CF)
            .gpr(Gpr::Rax, 0x8877_6655_4433_2211)
            .agree(Backend::ALL);
    }
}

#[test]
fn pushes_and_calls_on_every_stack() {
    let cases: [fn(&mut CodeAssembler) -> _; 7] = [
        |a| a.push(rax),
        |a| a.pop(rax),
        |a| a.pushfq(),
        |a| a.leave(),
        |a| a.enter(16, 2),
        |a| a.call(rax),
        |a| a.ret(),
    ];
    for code in cases {
        Case::long64(code)
            .gpr(Gpr::Rax, testsuite::layout::CODE)
            .each_mem(Gpr::Rsp, 8, Place::ALL)
            .each_mem(Gpr::Rbp, 8, Place::ALL)
            .agree(Backend::ALL);
    }
}

#[test]
fn code_written_by_the_instruction_before_it_runs() {
    // mov byte ptr [rip + 1], 5Ah; mov eax, 0
    let code = [0xC6, 0x05, 1, 0, 0, 0, 0x5A, 0xB8, 0, 0, 0, 0];
    for at in [0x800, 0x7FC] {
        Case::bytes(Mode::Long64, &code)
            .at(testsuite::layout::SELF_MODIFYING + at)
            .agree(Backend::ALL);
    }
}

#[test]
fn the_trap_flag_traps_after_what_follows() {
    Case::long64(|a| {
        a.popfq()?;
        a.mov(eax, 1)?;
        a.mov(eax, 2)
    })
    .each_operand(Gpr::Rsp, &[0x302, 0x202])
    .agree(Backend::ALL);
}

#[test]
fn a_branch_to_the_byte_before_it() {
    for code in [&[0x77, 0xFD], &[0xEB, 0xFD], &[0xE3, 0xFD]] {
        Case::bytes(Mode::Long64, code).agree(Backend::ALL);
    }
}

#[test]
fn instructions_of_fifteen_bytes_and_more() {
    let tails: [&[u8]; 7] = [
        &[0x90],
        &[0x06],
        &[0x0F, 0x0A],
        &[0x8D, 0xC0],
        &[0x01, 0x05, 0, 0, 0, 0],
        &[0xF0, 0x90],
        &[0x48, 0x89, 0xC3],
    ];
    for prefix in [0x66, 0x2E, 0x67, 0xF3, 0x48] {
        for tail in tails {
            for count in 9..=15 {
                let mut code = vec![prefix; count];
                code.extend(tail);
                Case::bytes(Mode::Long64, &code).agree(Backend::ALL);
            }
        }
    }
}

/// Every instruction cut off by the end of the code.
#[test]
fn code_that_ends_before_its_instruction() {
    let codes: [&[u8]; 14] = [
        &[0x17],
        &[0x0F, 0x0A],
        &[0x0F, 0xB9, 0xC0],
        &[0xD4, 0x0A],
        &[0x9A, 0, 0, 0, 0, 0, 0],
        &[0xF0, 0x35, 0, 0, 0, 0],
        &[0xC6, 0xA5, 0, 0, 0, 0, 0],
        &[0xFE, 0xF8],
        &[0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x8D, 0xC0],
        &[0x0F, 0x38, 0xF0, 0x00],
        &[0xF3, 0x0F, 0xB8, 0x05, 0, 0, 0, 0],
        &[0xC4, 0xE2, 0x78, 0xF2, 0xC0],
        &[0x82, 0xC0, 0],
    ];
    for code in codes {
        for cut in 1..=code.len() {
            Case::bytes(Mode::Long64, &code[..cut])
                .at(testsuite::layout::CODE_END - cut as u64)
                .agree(Backend::ALL);
        }
    }
}

#[test]
fn prefixes_that_mean_something_else() {
    for prefix in [0xF2, 0xF3] {
        for opcode in [0xE0, 0xE1, 0xE2, 0xE3] {
            Case::bytes(Mode::Long64, &[prefix, opcode, 0x20])
                .each(Gpr::Rcx, &[0, 1, 5])
                .each_flag(RFlags::ZF)
                .agree(Backend::ALL);
        }
    }
    for code in [&[0xF3, 0x41, 0x90][..], &[0xF3, 0x49, 0x90], &[0xF3, 0x90]] {
        Case::bytes(Mode::Long64, code)
            .gpr(Gpr::Rax, 0x1111_2222_3333_4444)
            .gpr(Gpr::R8, 0x5555_6666_7777_8888)
            .agree(Backend::ALL);
    }
}

#[test]
fn several_values_on_a_stack_that_ends() {
    for code in [&[0x60][..], &[0x61], &[0x66, 0x60], &[0x66, 0x61]] {
        for place in [
            Place::IntoAbsent,
            Place::OutOfAbsent,
            Place::IntoReadOnly,
            Place::OutOfReadOnly,
        ] {
            for below in 0..20 {
                Case::bytes(Mode::Compat32, code)
                    .gpr(Gpr::Rsp, place.address(2) + 1 - 2 * below)
                    .gpr(Gpr::Rdx, 0x1234_5678)
                    .agree(Backend::ALL);
            }
        }
    }
    Case::long64(|a| a.enter(16, 5))
        .each_mem(Gpr::Rsp, 40, Place::ALL)
        .each_mem(Gpr::Rbp, 16, Place::ALL)
        .agree(Backend::ALL);
}

#[test]
fn repeated_comparisons_that_fault() {
    for code in [
        &[0xF3, 0xA6][..],
        &[0xF2, 0xA6],
        &[0xF3, 0xAE],
        &[0xF2, 0xAF],
        &[0xF3, 0xA7],
    ] {
        Case::bytes(Mode::Long64, code)
            .each_mem(Gpr::Rsi, 16, Place::ALL)
            .each_mem(Gpr::Rdi, 16, Place::ALL)
            .each(Gpr::Rcx, &[0, 1, 3000])
            .each_flag(RFlags::ZF | RFlags::CF | RFlags::AC)
            .agree(Backend::ALL);
    }
}
