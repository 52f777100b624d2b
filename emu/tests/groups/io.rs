//! IN, OUT, INS, OUTS: what the board is asked, and who may ask.

use emu::arch::segment::{Seg, Segment};
use emu::arch::{Cr0, Gpr, RFlags};

use crate::guest::{CODE, Call, End, Guest, MMIO};

#[test]
fn in_and_out_at_each_width() {
    #[rustfmt::skip]
    let code = [
        0xE4, 0x60,         // in al, 60h
        0x66, 0xED,         // in ax, dx
        0xEF,               // out dx, eax
        0x66, 0xE7, 0x70,   // out 70h, ax
        0xEE,               // out dx, al
        0xE5, 0xFE,         // in eax, 0FEh
    ];
    let mut guest = Guest::flat32(&code)
        .with(Gpr::Rax, 0x1122_3344_5566_7788)
        .with(Gpr::Rdx, 0xFFFF_0CF8);
    assert_eq!(guest.run(), End::Exit);
    let calls = [
        Call::In(0x60, 1, 1),
        Call::In(0xCF8, 2, 2),
        Call::Out(0xCF8, 4, vec![2, 3, 0x66, 0x55]),
        Call::Out(0x70, 2, vec![2, 3]),
        Call::Out(0xCF8, 1, vec![2]),
        Call::In(0xFE, 4, 4),
    ];
    assert_eq!(guest.calls(), calls);
    assert_eq!(guest.gpr(Gpr::Rax), 0x0706_0504);
}

#[test]
fn string_input_comes_in_slices_of_a_page() {
    // rep insw
    let mut guest = Guest::flat32(&[0x66, 0xF3, 0x6D])
        .with(Gpr::Rcx, 300)
        .with(Gpr::Rdx, 0x1F0)
        .with(Gpr::Rdi, 0x2_0FFF - 200);
    assert_eq!(guest.run(), End::Exit);
    let calls = [
        Call::In(0x1F0, 2, 200),
        Call::In(0x1F0, 2, 2),
        Call::In(0x1F0, 2, 398),
    ];
    assert_eq!(guest.calls(), calls);
    let wanted: Vec<u8> = (1..=600u32).map(|k| k as u8).collect();
    assert_eq!(
        guest.peek(0x2_0FFF - 200, 601),
        [&wanted[..], &[0]].concat()
    );
    assert_eq!(
        (guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rdi)),
        (0, 0x2_0FFF + 400)
    );
}

#[test]
fn string_output_reads_the_prefixed_segment_and_goes_down_item_by_item() {
    // rep cs outsb
    let code = [0xF3, 0x2E, 0x6E];
    let mut guest = Guest::real16(&code).with(Gpr::Rcx, 3).with(Gpr::Rsi, CODE);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.calls(), [Call::Out(0, 1, code.to_vec())]);
    let mut guest = Guest::real16(&code)
        .with(Gpr::Rcx, 3)
        .with(Gpr::Rsi, CODE + 2);
    guest.state.rflags |= RFlags::DF;
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(
        guest.calls(),
        [0x6E, 0x2E, 0xF3].map(|byte| Call::Out(0, 1, vec![byte]))
    );
    assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rsi)), (0, CODE - 1));
}

#[test]
fn string_transfers_between_devices_go_item_by_item() {
    // rep insb to device memory
    let mut guest = Guest::flat32(&[0xF3, 0x6C])
        .with(Gpr::Rcx, 2)
        .with(Gpr::Rdi, MMIO);
    assert_eq!(guest.run(), End::Exit);
    let calls = [
        Call::In(0, 1, 1),
        Call::Store(MMIO, vec![1]),
        Call::In(0, 1, 1),
        Call::Store(MMIO + 1, vec![2]),
    ];
    assert_eq!(guest.calls(), calls);
}

#[test]
fn an_input_that_cannot_be_stored_is_not_read() {
    for code in [&[0x6D][..], &[0xF3, 0x6D]] {
        let mut guest = Guest::flat32(code)
            .with(Gpr::Rcx, 5)
            .with(Gpr::Rdi, 0x2_0000);
        guest.segment(Seg::Es).limit = 0x2_0002;
        assert_eq!(guest.run(), End::Fault);
        assert_eq!(guest.calls(), []);
        assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rdi)), (5, 0x2_0000));
    }
}

#[test]
fn an_input_to_an_unaligned_place_under_alignment_check_is_not_read() {
    for code in [&[0x6D][..], &[0xF3, 0x6D]] {
        let mut guest = Guest::flat32(code)
            .user()
            .with(Gpr::Rcx, 2)
            .with(Gpr::Rdi, 0x2_0001);
        guest.state.cr0 |= Cr0::AM;
        guest.state.rflags |= RFlags::AC | RFlags::IOPL;
        assert_eq!(guest.run(), End::Fault);
        assert_eq!(guest.calls(), []);
    }
}

const TSS: u64 = 0x6000;
const MAP: u64 = 0x70;

/// A program at CPL 3, IOPL 0, whose TSS of `kind` has a map that allows all ports below `limit`
/// but 62h and 67h.
fn with_map(code: &[u8], kind: u32, limit: u64) -> Guest {
    let mut guest = Guest::flat32(code).user();
    *guest.segment(Seg::Tr) = Segment {
        selector: 0x28,
        base: TSS,
        limit: limit as u32,
        access: Segment::P | kind,
    };
    guest.poke(TSS + 0x66, &(MAP as u16).to_le_bytes());
    guest.poke(TSS + MAP + 0x60 / 8, &[0b1000_0100]);
    guest
}

#[test]
fn the_permission_map_is_asked_for_every_port_of_an_access() {
    let whole = MAP + 0x2000;
    // IN AL/AX/EAX from an immediate port; whether it is allowed.
    let cases: [(&[u8], bool); 9] = [
        (&[0xE4, 0x61], true),
        (&[0xE4, 0x62], false),
        (&[0x66, 0xE5, 0x61], false),
        (&[0x66, 0xE5, 0x63], true),
        (&[0xE5, 0x63], true),
        (&[0xE5, 0x64], false),
        (&[0xE5, 0x67], false),
        (&[0xE5, 0x68], true),
        (&[0xE6, 0x62], false),
    ];
    for (code, allowed) in cases {
        let mut guest = with_map(code, 0xB, whole);
        let end = guest.run();
        assert_eq!(
            end,
            if allowed { End::Exit } else { End::Fault },
            "{code:x?}"
        );
        assert_eq!(guest.calls().len(), usize::from(allowed));
    }
}

#[test]
fn the_permission_map_ends_with_the_limit() {
    let reads = |kind, limit| {
        let mut guest = with_map(&[0xE4, 0x60], kind, limit);
        guest.run();
        guest.calls().len()
    };
    // Both bytes that are read must lie inside.
    assert_eq!(reads(0xB, MAP + 0x60 / 8 + 1), 1);
    assert_eq!(reads(0xB, MAP + 0x60 / 8), 0);
    // A 16-bit TSS has no map.
    assert_eq!(reads(3, MAP + 0x2000), 0);
    assert_eq!(reads(9, MAP + 0x2000), 1);
}

#[test]
fn iopl_opens_all_ports_but_not_in_virtual_8086_mode() {
    let mut guest = with_map(&[0xE4, 0x62], 0xB, MAP + 0x2000);
    guest.state.rflags |= RFlags::IOPL;
    assert_eq!(guest.run(), End::Exit);
    let mut guest = with_map(&[0xE4, 0x62], 0xB, MAP + 0x2000);
    guest.state.rflags |= RFlags::IOPL | RFlags::VM;
    assert_eq!(guest.run(), End::Fault);
    assert_eq!(guest.calls(), []);
}
