//! Random instructions over random tables: nothing a guest does panics or hangs, and blocks and
//! steps agree.

use emu::arch::{RFlags, Seg};
use proptest::prelude::*;

use crate::guest::{FREE, GDT, Guest, IDT, TSS, descriptor};

/// Opcodes of this group, each to be followed by random bytes.
const OPCODES: &[&[u8]] = &[
    &[0x9A],
    &[0xEA],
    &[0xFF],
    &[0xCA],
    &[0xCB],
    &[0xCF],
    &[0xCC],
    &[0xCD],
    &[0xCE],
    &[0xF1],
    &[0x8E],
    &[0x8C],
    &[0x07],
    &[0x1F],
    &[0x17],
    &[0x0F, 0xA1],
    &[0x0F, 0xA9],
    &[0x1E],
    &[0x0E],
    &[0xC4],
    &[0xC5],
    &[0x0F, 0xB2],
    &[0x0F, 0x02],
    &[0x0F, 0x03],
    &[0x0F, 0x00],
    &[0x63],
    &[0x62],
    &[0xE8],
    &[0xC3],
    &[0xC2],
    &[0xE2],
    &[0xE3],
    &[0x0F, 0x05],
    &[0x0F, 0x07],
    &[0x0F, 0x34],
    &[0x0F, 0x35],
    &[0x0F, 0x0B],
    &[0x48, 0xCF],
    &[0x48, 0xCB],
    &[0x66, 0xCF],
    &[0x0F, 0x01, 0xF8],
    &[0xB8],
];

/// Descriptors and gates that lead somewhere more often than random ones.
fn table_entry() -> impl Strategy<Value = u64> {
    let access = prop_oneof![
        Just(0x9A),
        Just(0x92),
        Just(0xFA),
        Just(0xF2),
        Just(0x9E),
        Just(0x96),
        Just(0x89),
        Just(0x8B),
        Just(0x81),
        Just(0xE5),
        Just(0xEC),
        Just(0xE4),
        Just(0xEE),
        Just(0xEF),
        Just(0xE7),
        Just(0x82),
        any::<u8>(),
    ];
    let flags = prop_oneof![Just(0xC0u8), Just(0xA0), Just(0x40), Just(0x00)];
    let base = prop_oneof![Just(0u32), Just(TSS as u32), Just(0x14000), any::<u32>()];
    let limit = prop_oneof![Just(0xF_FFFFu32), Just(0x67), Just(0x2B), 0..=0xF_FFFFu32];
    let gate = (0u16..0x80, 0u64..0x4000, access.clone())
        .prop_map(|(s, o, a)| o | u64::from(s) << 16 | u64::from(a) << 40 | 1 << 32);
    prop_oneof![
        (base, limit, access, flags).prop_map(|(b, l, a, f)| descriptor(b, l, a, f)),
        gate,
    ]
}

fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let operand = prop_oneof![0u8..0x80, any::<u8>()];
    (
        prop::sample::select(OPCODES),
        prop::collection::vec(operand, 6),
    )
        .prop_map(|(op, more)| {
            let mut bytes = op.to_vec();
            bytes.extend(more);
            bytes
        })
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Real,
    Protected,
    User,
    Long,
    LongUser,
    Vm86,
}

fn guest(mode: Mode, code: &[u8]) -> Guest {
    match mode {
        Mode::Real => Guest::real(code),
        Mode::Protected => Guest::protected(code),
        Mode::User => Guest::protected(code).user(),
        Mode::Long => Guest::long(code),
        Mode::LongUser => Guest::long(code).user(),
        Mode::Vm86 => {
            let mut guest = Guest::protected(code);
            guest.state.rflags |= RFlags::VM;
            for seg in [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
                guest.state.segments[seg as usize] = emu::arch::Segment::real(0, 0xF3);
            }
            guest
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(
        mode in prop::sample::select(&[
            Mode::Real, Mode::Protected, Mode::User, Mode::Long, Mode::LongUser, Mode::Vm86,
        ][..]),
        code in prop::collection::vec(instruction(), 12),
        gdt in prop::collection::vec(table_entry(), 12),
        idt in prop::collection::vec(table_entry(), 64),
        tss in prop::collection::vec(prop_oneof![0u16..0x100, any::<u16>()], 0x60),
        stack in prop::collection::vec(prop_oneof![0u16..0x100, any::<u16>()], 64),
        registers in prop::collection::vec(prop_oneof![0u64..0x100, any::<u64>()], 8),
        iopl in 0u64..4,
        vme: bool,
        breakpoints: bool,
    ) {
        let code: Vec<u8> = code.concat();
        let mut guest = guest(mode, &code);
        for at in [0, 0x400, 0x2000, 0x3000] {
            guest = guest.with(at, &code);
        }
        for (n, raw) in gdt.iter().enumerate() {
            guest = guest.quad(GDT + u64::from(FREE) + 8 * n as u64, *raw);
        }
        for (n, raw) in idt.iter().enumerate() {
            guest = guest.quad(IDT + 8 * n as u64, *raw);
        }
        let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        guest = guest.with(0x14000, &bytes(&tss)).with(TSS + 0x1C, &bytes(&tss));
        for at in [0x7000, 0x8000] {
            guest = guest.with(at, &bytes(&stack));
        }
        for (n, value) in registers.iter().enumerate().filter(|(n, _)| *n != 4) {
            guest = guest.reg(n, *value);
        }
        guest.state.rflags |= RFlags::from_bits_retain(iopl << 12);
        guest.state.efer |= emu::arch::Efer::SCE;
        guest.state.msrs.star = 0x3B_0038 << 32 | 0x2000;
        guest.state.msrs.lstar = 0x2000;
        guest.state.msrs.sysenter_cs = 8;
        guest.state.msrs.sysenter_eip = 0x2000;
        if vme {
            guest.state.cr4 |= emu::arch::Cr4::VME;
        }
        if breakpoints {
            guest.state.dr = [0x2000, 0x7FF0, 0x8FF0, 0x14000];
            guest.state.dr7 = 0xFDD0_04FF;
        }
        guest.run(40);
    }
}

/// Numbers at the edges of widths, pages and the canonical halves.
fn edge() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        0xFFF,
        0x7FFF,
        0x8000,
        0xFFFF,
        0x7FFF_FFFF,
        0xFFFF_F000,
        0xFFFF_FFFF,
        0x7FFF_FFFF_FFFF,
        0xFFFF_8000_0000_0000,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    let near = (prop::sample::select(edges.to_vec()), -9i64..10)
        .prop_map(|(edge, by)| edge.wrapping_add_signed(by));
    prop_oneof![near, any::<u64>(), 0x7000u64..0x8000]
}

/// Prefixes, an opcode of one of the maps or VEX, and what follows it.
fn any_instruction() -> impl Strategy<Value = Vec<u8>> {
    let prefixes = prop::sample::select(vec![
        0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x48, 0x41,
    ]);
    let map = prop_oneof![
        4 => Just(vec![]),
        4 => Just(vec![0x0F]),
        1 => Just(vec![0x0F, 0x38]),
        1 => Just(vec![0xC4, 0xE2]),
    ];
    (
        prop::collection::vec(prefixes, 0..3),
        map,
        prop::collection::vec(any::<u8>(), 1..8),
    )
        .prop_map(|(prefixes, map, rest)| [prefixes, map, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The whole opcode space, with registers and segments at the edges.
    #[test]
    fn no_opcode_panics(
        mode in prop::sample::select(&[
            Mode::Real, Mode::Protected, Mode::User, Mode::Long, Mode::LongUser, Mode::Vm86,
        ][..]),
        code in prop::collection::vec(any_instruction(), 8),
        registers in prop::collection::vec(edge(), 16),
        segment in prop::sample::select(&[Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs][..]),
        shape in (edge(), edge(), any::<u16>()),
        flags in any::<u64>(),
    ) {
        // INS takes a slice at once or item by item, by what blocks its page holds: repeated over
        // itself or over code it comes out differently in steps.
        let code = code.concat().into_iter().map(|byte| match byte {
            0x6C | 0x6D => 0x90,
            _ => byte,
        });
        let code: Vec<u8> = code.collect();
        let mut guest = guest(mode, &code);
        for (n, value) in registers.iter().enumerate() {
            guest = guest.reg(n, *value);
        }
        let changed = &mut guest.state.segments[segment as usize];
        changed.base = if matches!(mode, Mode::Long | Mode::LongUser) { shape.0 } else { shape.0 & 0xFFFF_FFFF };
        changed.limit = shape.1 as u32;
        changed.access ^= u32::from(shape.2) & 0x40_000E & !0x8;
        let free = RFlags::STATUS | RFlags::DF | RFlags::TF | RFlags::AC | RFlags::IF | RFlags::NT;
        guest.state.rflags |= RFlags::from_bits_retain(flags) & free;
        guest.run(20);
    }
}
