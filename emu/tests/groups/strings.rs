//! MOVS, STOS, LODS, SCAS, CMPS against a model that knows one element at a time.

use emu::arch::segment::Seg;
use emu::arch::{Gpr, RFlags};
use proptest::prelude::*;

use crate::guest::{CODE, Call, End, Guest, MMIO};

/// Opcodes (of the forms that are not bytes) and what they use: memory at RSI, at RDI; comparison.
const OPERATIONS: [(u8, bool, bool, bool); 5] = [
    (0xA5, true, true, false),
    (0xA7, true, true, true),
    (0xAB, false, true, false),
    (0xAD, true, false, false),
    (0xAF, false, true, true),
];

#[derive(Clone, Copy, Debug)]
struct Case {
    operation: usize,
    /// Bytes of an element: 1, 2 or 4.
    width: u64,
    /// 0, F2 or F3.
    prefix: u8,
    down: bool,
    count: u64,
    si: u64,
    di: u64,
    eax: u64,
    /// ES and DS are one segment.
    together: bool,
}

/// What a run leaves: end, RAX, RCX, RSI, RDI, ZF and CF if compared, both segments.
#[derive(Debug, PartialEq)]
struct Outcome {
    end: End,
    registers: [u64; 4],
    zf_cf: Option<(bool, bool)>,
    memory: [Vec<u8>; 2],
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b))
}

/// The instruction in 64 KiB segments, element by element.
fn model(case: Case, mut memory: [Vec<u8>; 2]) -> Outcome {
    let (opcode, uses_si, uses_di, compares) = OPERATIONS[case.operation];
    let (mut ax, mut cx, mut si, mut di) = (case.eax, case.count, case.si, case.di);
    let (width, es) = (case.width as usize, 0);
    let ds = usize::from(!case.together);
    let keep = u64::MAX.checked_shl(8 * width as u32).unwrap_or(0);
    let by = if case.down {
        0x1_0000 - case.width
    } else {
        case.width
    };
    let (mut end, mut zf_cf) = (End::Exit, None);
    let repeats = case.prefix != 0;
    while !repeats || cx != 0 {
        let reaches = |used: bool, at: u64| !used || at + case.width <= 0x1_0000;
        if !reaches(uses_si, si) || !reaches(uses_di, di) {
            end = End::Fault;
            break;
        }
        let (s, d) = (si as usize, di as usize);
        let source = memory[ds][s..]
            .iter()
            .take(width)
            .copied()
            .collect::<Vec<_>>();
        let dest = memory[es][d..]
            .iter()
            .take(width)
            .copied()
            .collect::<Vec<_>>();
        match opcode {
            0xA5 => memory[es][d..d + width].copy_from_slice(&source),
            0xAB => memory[es][d..d + width].copy_from_slice(&ax.to_le_bytes()[..width]),
            0xAD => ax = ax & keep | number(&source),
            _ => {
                let a = if uses_si { number(&source) } else { ax & !keep };
                zf_cf = Some((a == number(&dest), a < number(&dest)));
            }
        }
        si = (si + u64::from(uses_si) * by) & 0xFFFF;
        di = (di + u64::from(uses_di) * by) & 0xFFFF;
        if !repeats {
            break;
        }
        cx -= 1;
        if compares && zf_cf.is_some_and(|(zf, _)| zf != (case.prefix == 0xF3)) {
            break;
        }
    }
    Outcome {
        end,
        registers: [ax, cx, si, di],
        zf_cf,
        memory,
    }
}

const HIGH: u64 = 0xABCD_0000;
/// Segment bases; pages do not end where the segments do.
const ES: u64 = 0x2_0350;
const DS: u64 = 0x4_0CB0;
const STATUS: RFlags = RFlags::ZF.union(RFlags::CF);

/// The same on the processor, in real mode.
fn real(case: Case, memory: &[Vec<u8>; 2]) -> Outcome {
    let mut code = Vec::new();
    if case.width == 4 {
        code.push(0x66);
    }
    if case.prefix != 0 {
        code.push(case.prefix);
    }
    code.push(OPERATIONS[case.operation].0 - u8::from(case.width == 1));
    let mut guest = Guest::real16(&code)
        .with(Gpr::Rax, case.eax)
        .with(Gpr::Rcx, HIGH | case.count)
        .with(Gpr::Rsi, HIGH | case.si)
        .with(Gpr::Rdi, HIGH | case.di);
    guest.segment(Seg::Es).base = ES;
    guest.segment(Seg::Ds).base = DS;
    if case.together {
        *guest.segment(Seg::Ds) = *guest.segment(Seg::Es);
    }
    guest.poke(ES, &memory[0]);
    guest.poke(DS, &memory[1]);
    guest.state.rflags.set(RFlags::DF, case.down);
    // A combination that no comparison leaves.
    guest.state.rflags |= STATUS;
    let end = guest.run();
    let flags = guest.state.rflags;
    let register = |r: Gpr| {
        assert_eq!(guest.gpr(r) & !0xFFFF, HIGH, "{r:?}'s upper half");
        guest.gpr(r) & 0xFFFF
    };
    Outcome {
        end,
        registers: [
            guest.gpr(Gpr::Rax),
            register(Gpr::Rcx),
            register(Gpr::Rsi),
            register(Gpr::Rdi),
        ],
        zf_cf: (flags & STATUS != STATUS)
            .then(|| (flags.contains(RFlags::ZF), flags.contains(RFlags::CF))),
        memory: [guest.peek(ES, 0x1_0000), guest.peek(DS, 0x1_0000)],
    }
}

/// Offsets: anywhere, near the segment's ends, near a page's end.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..0x1_0000,
        0u64..40,
        0xFFD0u64..0x1_0000,
        0x4FE0u64..0x5020
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let count = prop_oneof![0u64..40, 0u64..0x3000];
    let shape = (
        0..OPERATIONS.len(),
        0u32..3,
        prop::sample::select(vec![0, 0xF2, 0xF3]),
    );
    let near = prop::option::of(-20i64..20);
    (
        shape,
        any::<(bool, u32, bool)>(),
        count,
        offset(),
        offset(),
        near,
    )
        .prop_map(
            |((operation, width, prefix), (down, eax, together), count, si, di, near)| Case {
                operation,
                width: 1 << width,
                prefix,
                down,
                count,
                si,
                di: near.map_or(di, |n| si.wrapping_add_signed(n) & 0xFFFF),
                eax: u64::from(eax),
                together: together || near.is_some(),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_operation_is_element_by_element(case in case(), same in any::<bool>()) {
        let mut case = case;
        // Long runs of equal bytes, with something else here and there, give comparisons a chance.
        let fill = |seed: usize| -> Vec<u8> {
            let byte = |at: usize| if same { u8::from(at % 777 == seed) } else { ((at * 31) >> 3) as u8 };
            (0..0x1_0000).map(byte).collect()
        };
        if same {
            case.eax = 0;
        }
        let memory = [fill(5), fill(6)];
        prop_assert_eq!(real(case, &memory), model(case, memory));
    }
}

#[test]
fn a_long_move_stops_between_portions() {
    let mut guest = Guest::flat32(&[0xF3, 0xA4])
        .with(Gpr::Rcx, 10_000)
        .with(Gpr::Rsi, 0x2_0003)
        .with(Gpr::Rdi, 0x4_0001);
    let data: Vec<u8> = (0..10_000u32).map(|k| ((k * 13) >> 2) as u8).collect();
    guest.poke(0x2_0003, &data);
    guest.step();
    assert_eq!((guest.gpr(Gpr::Rcx), guest.state.rip), (8192, CODE));
    guest.step();
    assert_eq!((guest.gpr(Gpr::Rcx), guest.state.rip), (4096, CODE));
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(
        (guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rdi)),
        (0, 0x4_0001 + 10_000)
    );
    assert_eq!(
        guest.peek(0x4_0000, 10_002),
        [&[0], &data[..], &[0]].concat()
    );
    // Three executions of the move, one of OUT.
    assert_eq!(guest.engine.retired(), 4);
}

#[test]
fn single_step_traps_after_each_element() {
    let mut guest = Guest::flat32(&[0xF3, 0xAB])
        .with(Gpr::Rcx, 9)
        .with(Gpr::Rdi, 0x2_0000);
    guest.state.rflags |= RFlags::TF;
    guest.step();
    assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rdi)), (8, 0x2_0004));
}

#[test]
fn a_fault_shows_the_progress_and_the_flags_of_the_last_element() {
    // repe scasd
    let mut guest = Guest::flat32(&[0xF3, 0xAF])
        .with(Gpr::Rcx, 100)
        .with(Gpr::Rdi, 0x2_0000);
    guest.segment(Seg::Es).limit = 0x2_0027;
    guest.state.rflags |= STATUS | RFlags::OF;
    assert_eq!(guest.run(), End::Fault);
    assert_eq!(guest.gpr(Gpr::Rcx), 90);
    assert_eq!(guest.gpr(Gpr::Rdi), 0x2_0028);
    // Zero compared with zero: the flags before had CF and OF.
    let shown = guest.state.rflags & (STATUS | RFlags::OF);
    assert_eq!(shown, RFlags::ZF);
}

#[test]
fn a_count_of_zero_touches_nothing() {
    for opcode in [0xA4, 0xA6, 0xAA, 0xAC, 0xAE] {
        let mut guest = Guest::flat32(&[0xF3, opcode])
            .with(Gpr::Rsi, MMIO)
            .with(Gpr::Rdi, MMIO);
        guest.state.rflags |= STATUS;
        assert_eq!(guest.run(), End::Exit);
        assert!(guest.state.rflags.contains(STATUS));
        assert_eq!(guest.calls(), []);
    }
}

#[test]
fn a_move_into_a_device_writes_each_element_once() {
    // rep movsw, from memory through the end of it
    let mut guest = Guest::flat32(&[0x66, 0xF3, 0xA5])
        .with(Gpr::Rcx, 6)
        .with(Gpr::Rsi, 0x2_0000)
        .with(Gpr::Rdi, MMIO - 4);
    guest.poke(0x2_0000, &(1..=12).collect::<Vec<_>>());
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.peek(MMIO - 4, 4), [1, 2, 3, 4]);
    let stores = (0..4u8).map(|k| Call::Store(MMIO + 2 * u64::from(k), vec![2 * k + 5, 2 * k + 6]));
    assert_eq!(guest.calls(), stores.collect::<Vec<_>>());
    assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rsi)), (0, 0x2_000C));
}

#[test]
fn a_segment_prefix_moves_the_source_only() {
    // fs rep movsb
    let mut guest = Guest::real16(&[0x64, 0xF3, 0xA4]).with(Gpr::Rcx, 3);
    guest.segment(Seg::Fs).base = 0x4_0000;
    guest.poke(0x4_0000, &[7, 8, 9]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.peek(0x2_0000, 4), [7, 8, 9, 0]);
}

#[test]
fn code_that_is_filled_over_runs_as_written() {
    #[rustfmt::skip]
    let code = [
        0xBB, 2, 0, 0, 0,           // mov ebx, 2
        0xBF, 0x15, 0x10, 0, 0,     // again: mov edi, target
        0xB9, 4, 0, 0, 0,           // mov ecx, 4
        0xF3, 0xAA,                 // rep stosb
        0x04, 8,                    // add al, 8
        0x31, 0xD2,                 // xor edx, edx
        0, 0, 0, 0,                 // target: inc ebp, then dec ebp, four times
        0x4B,                       // dec ebx
        0x75, 0xE9,                 // jnz again
    ];
    let mut guest = Guest::flat32(&code).with(Gpr::Rax, 0x45).with(Gpr::Rbp, 50);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rbp), 50);
    assert_eq!(guest.peek(CODE + 0x15, 4), [0x4D; 4]);
}

#[test]
fn address_size_32_clears_the_upper_halves_in_64_bit_mode() {
    // addr32 rep movsq
    let mut guest = Guest::long64(&[0x67, 0xF3, 0x48, 0xA5])
        .with(Gpr::Rcx, 0xF_0000_0002)
        .with(Gpr::Rsi, 0xF_0002_0000)
        .with(Gpr::Rdi, 0xF_0003_0000);
    guest.poke(0x2_0000, &(1..=24).collect::<Vec<_>>());
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(
        guest.peek(0x3_0000, 17),
        [&(1..=16).collect::<Vec<_>>()[..], &[0]].concat()
    );
    let registers = [Gpr::Rcx, Gpr::Rsi, Gpr::Rdi].map(|r| guest.gpr(r));
    assert_eq!(registers, [0, 0x2_0010, 0x3_0010]);
}

#[test]
fn pointers_wrap_at_the_address_size_inside_a_page_of_a_big_segment() {
    // rep stosb; rep movsb
    for opcode in [0xAA, 0xA4] {
        let mut guest = Guest::real16(&[0xF3, opcode])
            .with(Gpr::Rax, 0x5A)
            .with(Gpr::Rcx, 0x20)
            .with(Gpr::Rdi, 0xFFF0);
        let es = guest.segment(Seg::Es);
        es.base = 0x2_0800;
        es.limit = u32::MAX;
        guest.poke(0x3_0000, &[0x5A; 0x20]);
        assert_eq!(guest.run(), End::Exit);
        assert_eq!(
            guest.peek(0x2_0800, 0x11),
            [&[0x5A; 0x10][..], &[0]].concat()
        );
        assert_eq!(
            guest.peek(0x3_07F0, 0x11),
            [&[0x5A; 0x10][..], &[0]].concat()
        );
        assert_eq!(guest.gpr(Gpr::Rdi), 0x10);
    }
}
