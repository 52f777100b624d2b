//! CMOVcc, SETcc, XCHG, BSWAP, MOVBE, XLAT, sign extensions, LAHF and SAHF.

use emu::arch::segment::Seg;
use emu::arch::{Gpr, RFlags};

use crate::guest::{Call, End, Guest, MMIO};

const OLD: u64 = 0x1122_3344_5566_7788;

fn after(code: &[u8]) -> Guest {
    let mut guest = Guest::long64(code)
        .with(Gpr::Rax, OLD)
        .with(Gpr::Rcx, 0xAABB_CCDD_EEFF_0099);
    assert_eq!(guest.run(), End::Exit, "{code:x?}");
    guest
}

#[test]
fn moves_within_registers() {
    // Code, and what it leaves in RAX.
    let cases: [(&[u8], u64); 14] = [
        // cmovz (ZF clear): eax, ecx; ax, cx; rax, rcx
        (&[0x0F, 0x44, 0xC1], 0x5566_7788),
        (&[0x66, 0x0F, 0x44, 0xC1], OLD),
        (&[0x48, 0x0F, 0x44, 0xC1], OLD),
        // cmovnz
        (&[0x0F, 0x45, 0xC1], 0xEEFF_0099),
        (&[0x66, 0x0F, 0x45, 0xC1], 0x1122_3344_5566_0099),
        // bswap eax; rax; ax
        (&[0x0F, 0xC8], 0x8877_6655),
        (&[0x48, 0x0F, 0xC8], 0x8877_6655_4433_2211),
        (&[0x66, 0x0F, 0xC8], 0x1122_3344_5566_0000),
        // cbw; cwde; cdqe
        (&[0x66, 0x98], 0x1122_3344_5566_FF88),
        (&[0x98], 0x7788),
        (&[0x48, 0x98], 0x5566_7788),
        // setnz ah; setz al
        (&[0x0F, 0x95, 0xC4], 0x1122_3344_5566_0188),
        (&[0x0F, 0x94, 0xC0], 0x1122_3344_5566_7700),
        // xchg al, ah
        (&[0x86, 0xC4], 0x1122_3344_5566_8877),
    ];
    for (code, wanted) in cases {
        assert_eq!(after(code).gpr(Gpr::Rax), wanted, "{code:x?}");
    }
    assert_eq!(after(&[0x48, 0x91]).gpr(Gpr::Rcx), OLD);
    // cqo of a positive number, cdq of a negative one
    assert_eq!(after(&[0x48, 0x99]).gpr(Gpr::Rdx), 0);
    assert_eq!(after(&[0x91, 0x99]).gpr(Gpr::Rdx), 0xFFFF_FFFF);
}

#[test]
fn a_move_on_a_condition_reads_even_if_it_does_not_move() {
    // cmovz eax, [ebx]
    let mut guest = Guest::flat32(&[0x0F, 0x44, 0x03]).with(Gpr::Rbx, MMIO);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.calls(), [Call::Load(MMIO, 4)]);
}

#[test]
fn exchange_with_memory() {
    // xchg [rbx], eax
    let mut guest = Guest::long64(&[0x87, 0x03])
        .with(Gpr::Rax, OLD)
        .with(Gpr::Rbx, 0x2_0FFE);
    guest.poke(0x2_0FFE, &[1, 2, 3, 4]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rax), 0x0403_0201);
    assert_eq!(guest.peek(0x2_0FFE, 4), [0x88, 0x77, 0x66, 0x55]);
}

#[test]
fn movbe_both_ways() {
    // movbe ax, [rbx]; movbe [rbx + 8], rcx
    let code = [
        0x66, 0x0F, 0x38, 0xF0, 0x03, 0x48, 0x0F, 0x38, 0xF1, 0x4B, 0x08,
    ];
    let mut guest = Guest::long64(&code)
        .with(Gpr::Rbx, 0x2_0000)
        .with(Gpr::Rcx, OLD);
    guest.poke(0x2_0000, &[0x12, 0x34]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rax), 0x1234);
    assert_eq!(guest.peek(0x2_0008, 8), OLD.to_be_bytes());
}

#[test]
fn xlat_wraps_at_its_address_size() {
    // es xlat, at FFF0 + 20
    let mut guest = Guest::real16(&[0x26, 0xD7])
        .with(Gpr::Rax, 0x7720)
        .with(Gpr::Rbx, 0x5_FFF0);
    assert_eq!(guest.segment(Seg::Es).base, 0x2_0000);
    guest.poke(0x2_0010, &[0x5A]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rax), 0x775A);
}

#[test]
fn flags_through_ah() {
    // sahf; lahf
    let mut guest = Guest::flat32(&[0x9E]).with(Gpr::Rax, 0xFF00);
    guest.state.rflags |= RFlags::OF;
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.state.rflags & RFlags::STATUS, RFlags::STATUS);
    let mut guest = Guest::flat32(&[0x9F]);
    guest.state.rflags |= RFlags::STATUS;
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rax), 0xD700);
}
