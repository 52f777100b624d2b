//! The native oracle itself: it must be right before anything is compared with it.

use emu::Exception;
use emu::arch::exception::*;
use emu::arch::{Gpr, RFlags};
use testsuite::host::session;
use testsuite::layout::*;
use testsuite::run::{Input, Mode, Outcome, Stop};

fn run(input: &Input) -> Outcome {
    session().expect("this host runs cases").run(input)
}

fn exception(code: &[u8], rax: u64) -> Exception {
    let mut input = Input::new(Mode::Long64, code);
    input.gpr[0] = rax;
    match run(&input).stop {
        Stop::Exception(e) => e,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_case_changes_nothing() {
    let mut input = Input::new(Mode::Long64, &[]);
    for (i, gpr) in input.gpr.iter_mut().enumerate() {
        *gpr = 0x0123_4567_89AB_CDEFu64.rotate_left(i as u32 * 5);
    }
    input.rflags |= RFlags::STATUS | RFlags::DF;
    let out = run(&input);
    assert_eq!(out.stop, Stop::Exception(Exception::new(BP)));
    assert_eq!(out.gpr, input.gpr);
    assert_eq!(out.rip, input.at + 1);
    assert_eq!(out.rflags, input.rflags);
    assert_eq!(out.selectors, Mode::Long64.selectors());
    assert!(out.memory.is_empty());
}

#[test]
fn add_has_the_flags_of_a_naive_model() {
    let mut session = session().unwrap();
    for a in [0u8, 1, 0x0F, 0x7F, 0x80, 0xFF] {
        for b in 0..=0xFF {
            let mut input = Input::new(Mode::Long64, &[0x00, 0xD8]); // add al, bl
            (input.gpr[0], input.gpr[3]) = (a.into(), u64::from(b));
            let out = session.run(&input);
            let (sum, carry) = a.overflowing_add(b);
            let mut flags = RFlags::FIXED | RFlags::IF;
            flags.set(RFlags::CF, carry);
            flags.set(RFlags::PF, sum.count_ones() % 2 == 0);
            flags.set(RFlags::AF, (a & 15) + (b & 15) > 15);
            flags.set(RFlags::ZF, sum == 0);
            flags.set(RFlags::SF, sum > 127);
            flags.set(RFlags::OF, (a ^ sum) & (b ^ sum) > 127);
            assert_eq!((out.gpr[0], out.rflags), (sum.into(), flags), "{a} + {b}");
        }
    }
}

#[test]
fn exceptions_arrive_with_code_and_address() {
    assert_eq!(exception(&[0xF7, 0xF0], 0), Exception::new(DE)); // div eax
    assert_eq!(exception(&[0x0F, 0x0B], 0), Exception::new(UD)); // ud2
    assert_eq!(exception(&[0xFA], 0), Exception::with_code(GP, 0)); // cli
    assert_eq!(
        exception(&[0xCD, 0x21], 0),
        Exception::with_code(GP, 0x21 << 3 | 2)
    ); // int 21h
    let load = &[0x8B, 0x08]; // mov ecx, [rax]
    let store = &[0x89, 0x08]; // mov [rax], ecx
    assert_eq!(exception(load, 1 << 63), Exception::with_code(GP, 0));
    assert_eq!(exception(load, ABSENT), Exception::page_fault(ABSENT, 4));
    assert_eq!(
        exception(load, ABSENT - 1),
        Exception::page_fault(ABSENT, 4)
    );
    assert_eq!(exception(store, ABSENT), Exception::page_fault(ABSENT, 6));
    assert_eq!(
        exception(store, READ_ONLY),
        Exception::page_fault(READ_ONLY, 7)
    );
    assert_eq!(
        exception(store, READ_ONLY - 1),
        Exception::page_fault(READ_ONLY, 7)
    );
    let jump = &[0xFF, 0xE0]; // jmp rax
    assert_eq!(exception(jump, DATA), Exception::page_fault(DATA, 0x15));
    assert_eq!(
        exception(jump, CODE_END),
        Exception::page_fault(CODE_END, 0x14)
    );
    assert_eq!(exception(jump, CODE), Exception::new(BP));
}

#[test]
fn stack_faults_and_alignment_checks() {
    let mut input = Input::new(Mode::Long64, &[0x50]); // push rax
    input.gpr[Gpr::Rsp as usize] = 1 << 63;
    assert_eq!(
        run(&input).stop,
        Stop::Exception(Exception::with_code(SS, 0))
    );
    input.gpr[Gpr::Rsp as usize] = DATA + 0x801;
    input.rflags |= RFlags::AC;
    assert_eq!(
        run(&input).stop,
        Stop::Exception(Exception::with_code(AC, 0))
    );
}

#[test]
fn trap_flag_stops_after_one_instruction() {
    let mut input = Input::new(Mode::Long64, &[0x90, 0x90]);
    input.rflags |= RFlags::TF;
    let out = run(&input);
    assert_eq!(out.stop, Stop::Exception(Exception::new(DB)));
    assert_eq!(out.rip, input.at + 1);
}

#[test]
fn memory_changes_are_seen_and_undone() {
    let mut input = Input::new(Mode::Long64, &[0x48, 0x87, 0x08]); // xchg [rax], rcx
    input.gpr[0] = DATA + 0x10;
    input.gpr[1] = 0x1122;
    input.memory = vec![(DATA + 0x10, vec![7; 8])];
    for _ in 0..2 {
        let out = run(&input);
        assert_eq!(out.memory, [(DATA + 0x10, 0x1122)]);
        assert_eq!(out.gpr[1], 0x0707_0707_0707_0707);
    }
    input.memory.clear();
    assert_ne!(run(&input).gpr[1], 0x0707_0707_0707_0707);
}

#[test]
fn code_of_32_bits_runs() {
    let mut input = Input::new(Mode::Compat32, &[0x40]); // inc eax
    input.gpr[0] = 0xFFFF_FFFF;
    let out = run(&input);
    assert_eq!((out.gpr[0], out.rip), (0, input.at + 2));
    assert_eq!(out.selectors, Mode::Compat32.selectors());
    input.code = vec![0x8B, 0x03]; // mov eax, [ebx]
    input.gpr[3] = ABSENT;
    assert_eq!(
        run(&input).stop,
        Stop::Exception(Exception::page_fault(ABSENT, 4))
    );
}

#[test]
fn bases_of_fs_and_gs_are_the_cases_own() {
    let code = [0x64, 0x48, 0x8B, 0x00, 0xF3, 0x48, 0x0F, 0xAE, 0xDB]; // mov rax, fs:[rax]; wrgsbase rbx
    let mut input = Input::new(Mode::Long64, &code);
    input.bases = [DATA, 5];
    input.gpr[3] = 0x1234;
    input.memory = vec![(DATA, vec![9; 8])];
    let out = run(&input);
    assert_eq!(out.gpr[0], 0x0909_0909_0909_0909);
    assert_eq!(out.bases, [DATA, 0x1234]);
}

#[test]
fn an_endless_loop_is_a_hang() {
    assert_eq!(
        run(&Input::new(Mode::Long64, &[0xEB, 0xFE])).stop,
        Stop::Hang
    );
}

#[test]
fn sse_and_x87_state_goes_in_and_out() {
    let mut fpu = Box::new(emu::state::Fpu {
        fcw: 0x37F,
        ftw: 0,
        ..Default::default()
    });
    fpu.xmm[1] = (5u128 << 64 | 7).to_le_bytes();
    fpu.xmm[15] = [0xFF; 16];
    let mut input = Input::new(Mode::Long64, &[0x66, 0x0F, 0x6F, 0xC1, 0xD9, 0xE8]); // movdqa xmm0, xmm1; fld1
    input.fpu = Some(fpu.clone());
    let out = run(&input);
    fpu.xmm[0] = fpu.xmm[1];
    fpu.regs[7] = (1 << 63, 0x3FFF);
    (fpu.fsw, fpu.ftw) = (7 << 11, 0x80);
    assert_eq!(
        (&out.fpu.xmm, out.fpu.regs[7], out.fpu.fsw),
        (&fpu.xmm, fpu.regs[7], fpu.fsw)
    );
}

#[test]
fn it_is_fast_enough() {
    let mut session = session().unwrap();
    let mut input = Input::new(Mode::Long64, &[0x48, 0x01, 0x18]); // add [rax], rbx
    input.gpr[0] = DATA;
    input.gpr[3] = 1;
    let begin = std::time::Instant::now();
    let cases = 20_000;
    for _ in 0..cases {
        assert_eq!(session.run(&input).memory.len(), 1);
    }
    let rate = f64::from(cases) / begin.elapsed().as_secs_f64();
    assert!(rate > 50_000.0, "{rate} cases a second");
}

#[test]
fn random_cases_end_and_repeat() {
    let mut session = session().unwrap();
    let mut generator = testsuite::generate::Generator::new(7);
    let begin = std::time::Instant::now();
    let cases = 20_000;
    for _ in 0..cases {
        let input = generator.input();
        let first = session.run(&input);
        assert!(
            first.stop != Stop::Hang,
            "{}",
            testsuite::case::paste(&input)
        );
        assert_eq!(
            first,
            session.run(&input),
            "{}",
            testsuite::case::paste(&input)
        );
    }
    let rate = 2.0 * f64::from(cases) / begin.elapsed().as_secs_f64();
    assert!(rate > 50_000.0, "{rate} cases a second");
}

#[test]
fn fetches_across_pages_fault_at_the_second_page() {
    let mut input = Input::new(Mode::Long64, &[0xB8, 1, 2, 3, 4]); // mov eax, 4030201h
    input.at = CODE_END - 3;
    let fault = Exception::page_fault(CODE_END, 0x14);
    assert_eq!(run(&input).stop, Stop::Exception(fault));
    input.at = CODE + PAGE - 3;
    assert_eq!(run(&input).gpr[0], 0x0403_0201);
}

#[test]
fn addresses_across_the_canonical_end_are_no_page_faults() {
    assert_eq!(
        exception(&[0x48, 0x8B, 0x00], 0x7FFF_FFFF_FFFE), // mov rax, [rax]
        Exception::with_code(GP, 0)
    );
}

#[test]
fn string_instructions_stop_where_they_fault() {
    let mut input = Input::new(Mode::Long64, &[0xF3, 0xAA]); // rep stosb
    (input.gpr[1], input.gpr[7]) = (100, ABSENT - 3);
    let out = run(&input);
    assert_eq!((out.gpr[1], out.gpr[7], out.rip), (97, ABSENT, input.at));
    assert_eq!(out.stop, Stop::Exception(Exception::page_fault(ABSENT, 6)));
}
