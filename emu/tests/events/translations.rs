//! Code whose translations change under blocks and their links, and pairs of instructions that run as
//! one: what a program may see of neither.

use emu::arch::{Cr0, Cr4};
use proptest::prelude::*;

use crate::guest::{End, Guest};

/// Page tables: PML4, then one table a level down to 4 KiB pages.
const PML4: u64 = 0x20000;
const DIRECTORY: u64 = 0x22000;
const TABLE: u64 = 0x23000;
/// Present and writable; the same and global; the same and large.
const PAGE: u64 = 0x003;
const GLOBAL: u64 = 0x103;
const LARGE: u64 = 0x083;
/// Where [`twice`] leaves what the code returned.
const RESULTS: u64 = 0x6000;

/// MOV EAX, `value`; RET.
fn returns(value: u32) -> Vec<u8> {
    [&[0xB8][..], &value.to_le_bytes(), &[0xC3]].concat()
}

/// MOV QWORD [`at`], `value`.
fn store(at: u64, value: u64) -> Vec<u8> {
    [
        &[0x48, 0xC7, 0x04, 0x25][..],
        &(at as u32).to_le_bytes(),
        &(value as u32).to_le_bytes(),
    ]
    .concat()
}

/// INVLPG [`at`].
fn invlpg(at: u64) -> Vec<u8> {
    [&[0x0F, 0x01, 0x3C, 0x25][..], &(at as u32).to_le_bytes()].concat()
}

/// MOV RAX, CR3; MOV CR3, RAX.
const RELOAD_CR3: &[u8] = &[0x0F, 0x20, 0xD8, 0x0F, 0x22, 0xD8];

/// The first 256 KiB mapped to themselves, by pages with these bits.
fn paged(code: &[u8], bits: u64) -> Guest {
    let mut guest = Guest::long(code);
    guest.state.cr0 |= Cr0::PG;
    guest.state.cr3 = PML4;
    guest.state.cr4 |= Cr4::PAE | Cr4::PGE;
    guest = guest
        .quad(PML4, 0x21000 | PAGE)
        .quad(0x21000, DIRECTORY | PAGE)
        .quad(DIRECTORY, TABLE | PAGE);
    for page in 0..64 {
        guest = guest.quad(TABLE + 8 * page, page << 12 | bits);
    }
    guest
}

/// Calls `target`, which runs two instructions, changes something by `count` instructions, and calls
/// it again; what EAX came back with.
fn twice(
    target: u64,
    change: &[u8],
    count: u64,
    bits: u64,
    prepare: impl Fn(Guest) -> Guest,
) -> [u32; 2] {
    // The JMP lets both calls be made by one block.
    let mut code = vec![
        0xB9, 2, 0, 0, 0, 0xEB, 0, 0xFF, 0xD2, 0x89, 0x07, 0x83, 0xC7, 4,
    ];
    code.extend(change);
    code.extend([0xFF, 0xC9, 0x75]);
    code.push((6 - code.len() as i32) as u8);
    code.push(0xF4);
    let guest = prepare(paged(&code, bits)).reg(2, target).reg(7, RESULTS);
    let end: End = guest.run(3 + 2 * (7 + count));
    [0, 4].map(|at| end.u32(RESULTS + at))
}

#[test]
fn a_page_of_code_becomes_another() {
    let remap = store(TABLE + 8 * 2, 0x5000 | PAGE);
    let prepare = |guest: Guest| guest.with(0x2000, &returns(1)).with(0x5000, &returns(2));
    let by_invlpg = [remap.clone(), invlpg(0x2FFF)].concat();
    for bits in [PAGE, GLOBAL] {
        assert_eq!(twice(0x2000, &by_invlpg, 2, bits, prepare), [1, 2]);
    }
    let by_cr3 = [&remap, RELOAD_CR3].concat();
    assert_eq!(twice(0x2000, &by_cr3, 3, PAGE, prepare), [1, 2]);
    assert_eq!(
        twice(0x2000, &by_cr3, 3, GLOBAL, prepare),
        [1, 1],
        "a global page outlives MOV to CR3"
    );
}

#[test]
fn a_large_page_of_code_becomes_another_by_invlpg_of_any_of_its_pages() {
    let remap = store(DIRECTORY + 8, 0x24000 | PAGE);
    let change = [remap, invlpg(0x20_7000)].concat();
    let prepare = |guest: Guest| {
        guest
            .quad(DIRECTORY + 8, LARGE)
            .quad(0x24000 + 8 * 2, 0x5000 | PAGE)
            .with(0x2000, &returns(1))
            .with(0x5000, &returns(2))
    };
    assert_eq!(twice(0x20_2000, &change, 2, PAGE, prepare), [1, 2]);
}

/// An instruction across two pages: two bytes in that of the code that calls it, three in the next.
fn across(guest: Guest) -> Guest {
    guest
        .with(0x1FFE, &returns(0x0102_0305))
        .with(0x5000, &returns(0x0A0B_0C05)[2..])
}

#[test]
fn an_instruction_across_pages_gets_another_second_half() {
    let remap = store(TABLE + 8 * 2, 0x5000 | PAGE);
    let by_invlpg = [remap.clone(), invlpg(0x2000)].concat();
    let by_cr3 = [&remap, RELOAD_CR3].concat();
    let both = [0x0102_0305, 0x0A0B_0C05];
    assert_eq!(twice(0x1FFE, &by_invlpg, 2, PAGE, across), both);
    assert_eq!(twice(0x1FFE, &by_invlpg, 2, GLOBAL, across), both);
    assert_eq!(twice(0x1FFE, &by_cr3, 3, PAGE, across), both);
    // Half of it global: that half may stay, and does.
    let half = |guest: Guest| across(guest).quad(TABLE + 8, 0x1000 | GLOBAL);
    assert_eq!(twice(0x1FFE, &by_cr3, 3, PAGE, half), both);
}

#[test]
fn an_instruction_across_pages_is_written() {
    let second = store(0x2000, 0xC3_0A0B0C);
    assert_eq!(
        twice(0x1FFE, &second, 1, PAGE, across),
        [0x0102_0305, 0x0A0B_0C05]
    );
    // The byte before the page's last eight is left as it was.
    let first = [0xC6, 0x04, 0x25, 0xFF, 0x1F, 0, 0, 0x77];
    assert_eq!(
        twice(0x1FFE, &first, 1, PAGE, across),
        [0x0102_0305, 0x0102_0377]
    );
}

#[test]
fn an_instruction_across_pages_faults_at_its_second_half() {
    let gone = |guest: Guest| across(guest).quad(TABLE + 8 * 2, 0);
    let handler = [0x0F, 0x20, 0xD3, 0xF4];
    let guest = gone(paged(&[0xFF, 0xE2], PAGE))
        .reg(2, 0x1FFE)
        .handler64(14, 0x4000, 0x8E, 0)
        .with(0x4000, &handler);
    let end = guest.run(4);
    assert_eq!(end.state.gpr[3], 0x2000, "CR2");
    assert_eq!(
        end.u64(end.state.gpr[4] + 8),
        0x1FFE,
        "the instruction's own address"
    );
}

/// Instructions that run in pairs, with registers that keep most addresses in memory.
fn half() -> impl Strategy<Value = Vec<u8>> {
    let register = 0u8..16;
    let address = prop_oneof![Just(4u8), Just(6), Just(7), Just(5)];
    let rex = |r: u8, b: u8| 0x48 | r >> 3 << 2 | b >> 3;
    let to_memory = move |opcode: u8, r: u8, base: u8, disp: u8| {
        let mut bytes = vec![rex(r, base), opcode, 0x40 | (r & 7) << 3 | base & 7];
        if base & 7 == 4 {
            bytes.push(0x24);
        }
        bytes.push(disp);
        bytes
    };
    prop_oneof![
        (register.clone(), register.clone()).prop_map(move |(r, b)| vec![
            rex(r, b),
            0x89,
            0xC0 | (r & 7) << 3 | b & 7
        ]),
        (register.clone(), register.clone()).prop_map(move |(r, b)| vec![
            rex(r, b) & !8,
            0x8B,
            0xC0 | (r & 7) << 3 | b & 7
        ]),
        (register.clone(), any::<u32>()).prop_map(|(r, value)| {
            [&[0x40 | r >> 3, 0xB8 | r & 7][..], &value.to_le_bytes()].concat()
        }),
        (register.clone(), any::<i8>()).prop_map(|(r, value)| {
            [
                &[0x48 | r >> 3, 0xC7, 0xC0 | r & 7][..],
                &i32::from(value).to_le_bytes(),
            ]
            .concat()
        }),
        (register.clone(), address.clone(), 0u8..64)
            .prop_map(move |(r, base, disp)| to_memory(0x8B, r, base, disp)),
        (register.clone(), address, 0u8..64)
            .prop_map(move |(r, base, disp)| to_memory(0x89, r, base, disp)),
        register
            .clone()
            .prop_map(|r| vec![0x40 | r >> 3, 0x50 | r & 7]),
        register.prop_map(|r| vec![0x40 | r >> 3, 0x58 | r & 7]),
        // CALL of the next instruction; RET to where a push may have said.
        Just(vec![0xE8, 0, 0, 0, 0]),
        Just(vec![0xC3]),
        // Compares with memory, and branches behind them.
        (0u8..16, any::<u8>()).prop_map(|(cc, value)| vec![0x80, 0x3E, value, 0x70 | cc, 0]),
        (0u8..16, any::<u8>()).prop_map(|(cc, value)| vec![0xF6, 0x06, value, 0x70 | cc, 1, 0x90]),
        (0u8..16, any::<u8>()).prop_map(|(cc, value)| vec![0x48, 0x83, 0x3F, value, 0x70 | cc, 0]),
        (0u8..16).prop_map(|cc| vec![0x48, 0x3B, 0x06, 0x70 | cc, 1, 0x90]),
    ]
}

/// Where a pointer points: memory, unaligned, the end of a page that is mapped, no memory, no
/// canonical address.
fn pointer() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0xA000u64..0xB000).prop_map(|at| at & !7),
        2 => 0xA000u64..0xB000,
        2 => Just(0x3_FFF0u64),
        1 => Just(0x8000_0000_0000u64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pairs_do_what_their_halves_do(
        halves in prop::collection::vec(half(), 1..12),
        pointers in prop::array::uniform4(pointer()),
        count in 1u64..14,
    ) {
        let code = [halves.concat(), vec![0xF4]].concat();
        let mut guest = paged(&code, PAGE).handler64(14, 0x4000, 0x8E, 0).with(0x4000, &[0xF4]);
        for register in 0..16 {
            guest = guest.reg(register, 0x0123_4567_89AB_CDEF_u64.rotate_left(4 * register as u32));
        }
        for (register, pointer) in [4, 5, 6, 7].into_iter().zip(pointers) {
            guest = guest.reg(register, pointer);
        }
        // Steps and blocks are compared.
        guest.run(count);
    }
}
