//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF on stacks of each width.

use emu::arch::segment::{Seg, Segment};
use emu::arch::{Cr4, Gpr, RFlags};
use proptest::prelude::*;

use crate::guest::{End, Guest};

const TOP: u64 = 0x8000;

#[test]
fn pushes_at_each_size() {
    // Program in 32-bit code, and what it leaves below the top.
    let cases: [(&[u8], &[u8]); 7] = [
        (&[0x6A, 0xFE], &[0xFE, 0xFF, 0xFF, 0xFF]),
        (&[0x66, 0x6A, 0xFE], &[0xFE, 0xFF]),
        (&[0x68, 1, 2, 3, 4], &[1, 2, 3, 4]),
        (&[0x66, 0x68, 1, 2], &[1, 2]),
        (&[0x54], &[0x00, 0x80, 0, 0]),
        (&[0x66, 0x50], &[0x88, 0x77]),
        // push dword [esp - 4]: the address is that before the push
        (&[0xFF, 0x74, 0x24, 0xFC], &[9, 9, 9, 9]),
    ];
    for (code, wanted) in cases {
        let mut guest = Guest::flat32(code).with(Gpr::Rax, 0x5566_7788);
        guest.poke(TOP - 4, &[9; 4]);
        assert_eq!(guest.run(), End::Exit);
        assert_eq!(
            guest.peek(TOP - wanted.len() as u64, wanted.len()),
            wanted,
            "{code:x?}"
        );
        assert_eq!(guest.gpr(Gpr::Rsp), TOP - wanted.len() as u64);
    }
}

#[test]
fn pushes_in_64_bit_mode() {
    let cases: [(&[u8], &[u8]); 3] = [
        (
            &[0x6A, 0xFE],
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
        (
            &[0x68, 1, 2, 3, 0x84],
            &[1, 2, 3, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
        (&[0x66, 0x50], &[0x88, 0x77]),
    ];
    for (code, wanted) in cases {
        let mut guest = Guest::long64(code).with(Gpr::Rax, 0x5566_7788);
        assert_eq!(guest.run(), End::Exit);
        assert_eq!(
            guest.peek(TOP - wanted.len() as u64, wanted.len()),
            wanted,
            "{code:x?}"
        );
    }
}

#[test]
fn a_16_bit_stack_wraps_and_keeps_the_upper_half() {
    // push eax, with SP at 0
    let mut guest = Guest::flat32(&[0x50])
        .with(Gpr::Rax, 0x0403_0201)
        .with(Gpr::Rsp, 0x7_0000);
    guest.segment(Seg::Ss).access &= !Segment::DB;
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rsp), 0x7_FFFC);
    assert_eq!(guest.peek(0xFFFC, 4), [1, 2, 3, 4]);
}

#[test]
fn pop_to_memory_counts_from_the_new_stack_pointer() {
    // pop dword [esp + 4]
    let mut guest = Guest::flat32(&[0x8F, 0x44, 0x24, 0x04]);
    guest.poke(TOP, &[1, 2, 3, 4]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.peek(TOP, 12), [1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(guest.gpr(Gpr::Rsp), TOP + 4);
    // pop esp; pop sp leaves the upper half incremented
    let mut guest = Guest::flat32(&[0x5C]);
    guest.poke(TOP, &[0x44, 0x33, 0, 0]);
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.gpr(Gpr::Rsp), 0x3344);
}

#[test]
fn a_pop_that_cannot_be_stored_leaves_the_stack() {
    // pop dword [ebx]
    let mut guest = Guest::flat32(&[0x8F, 0x03]).with(Gpr::Rbx, 0x2_0000);
    guest.segment(Seg::Ds).limit = 0x1_FFFF;
    assert_eq!(guest.run(), End::Fault);
    assert_eq!(guest.gpr(Gpr::Rsp), TOP);
}

#[test]
fn pusha_and_popa_skip_the_stack_pointer() {
    for (code, size) in [(&[0x60, 0x61][..], 4), (&[0x66, 0x60, 0x66, 0x61], 2)] {
        let mut guest = Guest::flat32(code);
        for (k, register) in guest.state.gpr[..8].iter_mut().enumerate() {
            *register = if k == 4 {
                TOP
            } else {
                0x1111_1111 * (k as u64 + 1)
            };
        }
        let before = guest.state.gpr;
        assert_eq!(guest.run(), End::Exit);
        assert_eq!(guest.state.gpr, before);
        let pushed: Vec<u8> = before[..8]
            .iter()
            .rev()
            .flat_map(|r| r.to_le_bytes()[..size].to_vec())
            .collect();
        assert_eq!(guest.peek(TOP - 8 * size as u64, 8 * size), pushed);
    }
}

#[test]
fn popa_loads_all_but_the_stack_pointer() {
    let mut guest = Guest::flat32(&[0x61]);
    guest.poke(TOP, &(0..32).collect::<Vec<_>>());
    assert_eq!(guest.run(), End::Exit);
    let value = |k: u64| (4 * k..4 * k + 4).rev().fold(0, |v, b| v << 8 | b);
    let wanted = [7, 6, 5, 4, 0, 2, 1, 0].map(value);
    let wanted: Vec<u64> = (0..8)
        .map(|k| if k == 4 { TOP + 32 } else { wanted[k] })
        .collect();
    assert_eq!(guest.state.gpr[..8], wanted);
}

#[test]
fn a_pusha_that_faults_leaves_the_registers_and_what_it_pushed() {
    let mut guest = Guest::flat32(&[0x60]).with(Gpr::Rax, 1).with(Gpr::Rcx, 2);
    // An expand-down stack whose last slot is missing.
    let ss = guest.segment(Seg::Ss);
    ss.limit = TOP as u32 - 32;
    ss.access |= Segment::EXPAND_DOWN;
    assert_eq!(guest.run(), End::Fault);
    assert_eq!(guest.peek(TOP - 8, 8), [2, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(guest.peek(TOP - 32, 4), [0; 4]);
    assert_eq!(guest.gpr(Gpr::Rsp), TOP);
}

/// ENTER of 32-bit operands on a flat stack, as the SDM's pseudo-code has it; words of memory by
/// address over four.
fn entered(memory: &mut [u32], mut esp: u32, mut ebp: u32, size: u16, level: u8) -> (u32, u32) {
    let mut push = |memory: &mut [u32], value: u32| {
        esp -= 4;
        memory[esp as usize / 4] = value;
        esp
    };
    let frame = push(memory, ebp);
    let level = level % 32;
    for _ in 1..level {
        ebp -= 4;
        let pointer = memory[ebp as usize / 4];
        push(memory, pointer);
    }
    if level > 0 {
        push(memory, frame);
    }
    (esp - u32::from(size), frame)
}

proptest! {
    #[test]
    fn enter_copies_the_display(ebp in 0x7F00u32 / 4..0x8080 / 4, size in 0u16..0x200, level: u8) {
        let ebp = ebp * 4;
        let [low, high] = size.to_le_bytes();
        let mut guest = Guest::flat32(&[0xC8, low, high, level]).with(Gpr::Rbp, u64::from(ebp));
        let mut memory: Vec<u32> = (0..0x2400).map(|k: u32| k.wrapping_mul(0x0101_0107)).collect();
        let from = 0x7000;
        let bytes = |m: &[u32]| m[from / 4..].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        guest.poke(from as u64, &bytes(&memory));
        prop_assert_eq!(guest.run(), End::Exit);
        let (esp, frame) = entered(&mut memory, TOP as u32, ebp, size, level);
        prop_assert_eq!(guest.gpr(Gpr::Rsp), u64::from(esp));
        prop_assert_eq!(guest.gpr(Gpr::Rbp), u64::from(frame));
        prop_assert_eq!(guest.peek(from as u64, 0x9000 - from), bytes(&memory));
    }
}

#[test]
fn enter_probes_where_the_stack_will_end() {
    for (allocate, end) in [(0x6C, End::Exit), (0x70, End::Fault)] {
        let mut guest = Guest::flat32(&[0xC8, allocate, 0, 0]).with(Gpr::Rbp, 5);
        let ss = guest.segment(Seg::Ss);
        ss.limit = TOP as u32 - 0x71;
        ss.access |= Segment::EXPAND_DOWN;
        assert_eq!(guest.run(), end);
        if end == End::Fault {
            assert_eq!((guest.gpr(Gpr::Rbp), guest.gpr(Gpr::Rsp)), (5, TOP));
            assert_eq!(guest.peek(TOP - 4, 4), [5, 0, 0, 0], "RBP had been pushed");
        }
    }
}

#[test]
fn leave_undoes_enter() {
    // enter 8, 0; leave: on 32- and 16-bit stacks
    let code = [0xC8, 8, 0, 0, 0xC9];
    for mut guest in [
        Guest::flat32(&code),
        Guest::real16(&code),
        Guest::long64(&code),
    ] {
        guest = guest.with(Gpr::Rbp, 0x1234);
        assert_eq!(guest.run(), End::Exit);
        assert_eq!((guest.gpr(Gpr::Rbp), guest.gpr(Gpr::Rsp)), (0x1234, TOP));
    }
    let mut guest = Guest::flat32(&[0xC9]).with(Gpr::Rbp, 0x2_0000);
    guest.segment(Seg::Ss).limit = 0x1_FFFF;
    assert_eq!(guest.run(), End::Fault);
    assert_eq!(guest.gpr(Gpr::Rsp), TOP);
}

const ALL: u64 = 0x003F_7FD5;

/// `guest` pops all ones (but TF) and `extra`, from `flags`: whether it may, and the flags after.
fn popped(guest: Guest, flags: RFlags, extra: u64) -> (End, u64) {
    let mut guest = guest;
    guest.state.rflags = flags | RFlags::FIXED;
    guest.poke(TOP, &((ALL & !RFlags::TF.bits()) | extra).to_le_bytes());
    // The program's end needs I/O rights: look at the state before it.
    guest.step();
    let fault = guest.gpr(Gpr::Rsp) == TOP;
    let end = if fault { End::Fault } else { End::Exit };
    (end, guest.state.rflags.bits())
}

#[test]
fn popf_changes_what_the_privilege_lets_it() {
    let none = RFlags::empty();
    let arithmetic = RFlags::STATUS | RFlags::DF | RFlags::NT | RFlags::FIXED;
    let wide = arithmetic | RFlags::AC | RFlags::ID;
    let system = RFlags::IF | RFlags::IOPL;
    let popfd = || Guest::flat32(&[0x9D]);
    assert_eq!(
        popped(popfd(), none, 0),
        (End::Exit, (wide | system).bits())
    );
    assert_eq!(popped(popfd().user(), none, 0), (End::Exit, wide.bits()));
    let open = (wide | system).bits();
    assert_eq!(popped(popfd().user(), RFlags::IOPL, 0), (End::Exit, open));
    let narrow = Guest::flat32(&[0x66, 0x9D]);
    assert_eq!(
        popped(narrow, none, 0),
        (End::Exit, (arithmetic | system).bits())
    );
    let real = Guest::real16(&[0x9D]);
    assert_eq!(
        popped(real, none, 0),
        (End::Exit, (arithmetic | system).bits())
    );
}

#[test]
fn popf_in_virtual_8086_mode() {
    let vm = RFlags::VM;
    let guest = |code: &[u8], vme: bool| {
        let mut guest = Guest::flat32(code).user();
        for segment in &mut guest.state.segments[..6] {
            *segment = Segment::real(0, segment.access & !(Segment::DB | Segment::G));
        }
        guest.state.cr4.set(Cr4::VME, vme);
        guest
    };
    let arithmetic = RFlags::STATUS | RFlags::DF | RFlags::NT | RFlags::FIXED;
    // IOPL 3: IF but not IOPL.
    let flags = popped(guest(&[0x9D], false), vm | RFlags::IOPL, 0);
    assert_eq!(
        flags,
        (
            End::Exit,
            (arithmetic | vm | RFlags::IOPL | RFlags::IF).bits()
        )
    );
    // Below: #GP, or VIF in IF's place.
    assert_eq!(popped(guest(&[0x9D], false), vm, 0).0, End::Fault);
    assert_eq!(popped(guest(&[0x66, 0x9D], true), vm, 0).0, End::Fault);
    let flags = popped(guest(&[0x9D], true), vm, 0);
    assert_eq!(flags, (End::Exit, (arithmetic | vm | RFlags::VIF).bits()));
    assert_eq!(
        popped(guest(&[0x9D], true), vm | RFlags::VIP, 0).0,
        End::Fault
    );
    assert_eq!(
        popped(guest(&[0x9D], true), vm, RFlags::TF.bits()).0,
        End::Fault
    );
}

#[test]
fn pushf_hides_vm_and_shows_the_virtual_interrupt_flag() {
    let mut guest = Guest::flat32(&[0x9C]).user();
    for segment in &mut guest.state.segments[..6] {
        *segment = Segment::real(0, segment.access & !(Segment::DB | Segment::G));
    }
    guest.state.cr4 |= Cr4::VME;
    guest.state.rflags = RFlags::FIXED | RFlags::VM | RFlags::VIF | RFlags::CF;
    guest.step();
    assert_eq!(guest.peek(TOP - 2, 2), [0x03, 0x32]);
    let mut guest = Guest::flat32(&[0x9C]);
    guest.state.rflags = RFlags::FIXED | RFlags::AC | RFlags::ID | RFlags::SF;
    assert_eq!(guest.run(), End::Exit);
    assert_eq!(guest.peek(TOP - 4, 4), [0x82, 0, 0x24, 0]);
}
