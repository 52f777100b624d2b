//! What the host's processor cannot show: CR0, CR4, FERR#, and modes other than Linux's.

use std::sync::atomic::Ordering;

use crate::arch::exception::{Exception, GP, MF, NM, SS, UD, XM};
use crate::arch::{Cr0, Cr4};
use crate::test_bench::Bench;

/// What an instruction asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// XMM registers.
    Sse,
    /// MMX registers.
    Mmx,
    /// Both.
    Both,
    /// The area of FXSAVE.
    Area,
    /// Nothing.
    None,
}

/// Register forms, and at \[SI\] of code of 16 bits what has none.
#[rustfmt::skip]
const INSTRUCTIONS: &[(Unit, &[u8])] = &[
    (Unit::Sse,  &[0x0F, 0x58, 0xC1]),       // ADDPS xmm0, xmm1
    (Unit::Sse,  &[0x0F, 0x28, 0xC1]),       // MOVAPS xmm0, xmm1
    (Unit::Sse,  &[0x66, 0x0F, 0xFC, 0xC1]), // PADDB xmm0, xmm1
    (Unit::Sse,  &[0x66, 0x0F, 0x73, 0xD8, 1]), // PSRLDQ xmm0, 1
    (Unit::Sse,  &[0x66, 0x0F, 0x7E, 0xC0]), // MOVD eax, xmm0
    (Unit::Sse,  &[0x0F, 0x2A, 0x04]),       // CVTPI2PS xmm0, [si]
    (Unit::Sse,  &[0x66, 0x0F, 0x2A, 0x04]), // CVTPI2PD xmm0, [si]
    (Unit::Sse,  &[0x0F, 0xAE, 0x14]),       // LDMXCSR [si]
    (Unit::Sse,  &[0x0F, 0xAE, 0x1C]),       // STMXCSR [si]
    (Unit::Sse,  &[0x66, 0x0F, 0xF7, 0xC1]), // MASKMOVDQU xmm0, xmm1
    (Unit::Mmx,  &[0x0F, 0xFC, 0xC1]),       // PADDB mm0, mm1
    (Unit::Mmx,  &[0x0F, 0xD4, 0xC1]),       // PADDQ mm0, mm1, of SSE2
    (Unit::Mmx,  &[0x0F, 0x70, 0xC1, 0]),    // PSHUFW mm0, mm1, 0, of SSE
    (Unit::Mmx,  &[0x0F, 0xF7, 0xC1]),       // MASKMOVQ mm0, mm1
    (Unit::Mmx,  &[0x0F, 0xE7, 0x04]),       // MOVNTQ [si], mm0
    (Unit::Mmx,  &[0x0F, 0x77]),             // EMMS
    (Unit::Both, &[0x0F, 0x2A, 0xC1]),       // CVTPI2PS xmm0, mm1
    (Unit::Both, &[0x66, 0x0F, 0x2A, 0xC1]), // CVTPI2PD xmm0, mm1
    (Unit::Both, &[0x0F, 0x2D, 0xC1]),       // CVTPS2PI mm0, xmm1
    (Unit::Both, &[0x66, 0x0F, 0x2C, 0x04]), // CVTTPD2PI mm0, [si]
    (Unit::Both, &[0xF2, 0x0F, 0xD6, 0xC1]), // MOVDQ2Q mm0, xmm1
    (Unit::Both, &[0xF3, 0x0F, 0xD6, 0xC1]), // MOVQ2DQ xmm0, mm1
    (Unit::Area, &[0x0F, 0xAE, 0x04]),       // FXSAVE [si]
    (Unit::Area, &[0x0F, 0xAE, 0x0C]),       // FXRSTOR [si]
    (Unit::None, &[0x0F, 0xC3, 0x04]),       // MOVNTI [si], eax
    (Unit::None, &[0x0F, 0xAE, 0xF8]),       // SFENCE
];

/// x87 status word: division by zero, not masked.
const ERROR: u16 = 0x8084;
const OPERAND: u64 = 0x800;
const RSI: usize = 6;
const RDI: usize = 7;

/// Real mode with SSE switched on and SI = DI = 0800h; an MXCSR lies there.
fn real() -> Bench {
    let mut bench = Bench::new("max");
    bench.cpu.cr0 = Cr0::ET | Cr0::NE;
    bench.cpu.cr4 = Cr4::OSFXSR | Cr4::OSXMMEXCPT;
    ready(bench)
}

fn ready(mut bench: Bench) -> Bench {
    (bench.cpu.regs[RSI], bench.cpu.regs[RDI]) = (OPERAND, OPERAND);
    bench.write(OPERAND, &0x1F80u32.to_le_bytes());
    bench
}

/// The fault that `unit` has in this state.
fn refused(unit: Unit, cr0: Cr0, cr4: Cr4, error: bool) -> Option<u8> {
    let (em, ts) = (cr0.contains(Cr0::EM), cr0.contains(Cr0::TS));
    let fxsr = cr4.contains(Cr4::OSFXSR);
    let xmm = matches!(unit, Unit::Sse | Unit::Both);
    let mm = matches!(unit, Unit::Mmx | Unit::Both);
    match unit {
        Unit::None => None,
        Unit::Area => (em || ts).then_some(NM),
        _ if em || xmm && !fxsr => Some(UD),
        _ if ts => Some(NM),
        _ if mm && error => Some(MF),
        _ => None,
    }
}

#[test]
fn each_unit_has_its_switches_and_their_order() {
    for &(unit, code) in INSTRUCTIONS {
        for state in 0..16 {
            let on = |bit: u32| state >> bit & 1 != 0;
            let mut bench = real();
            bench.cpu.cr0.set(Cr0::EM, on(0));
            bench.cpu.cr0.set(Cr0::TS, on(1));
            bench.cpu.cr4.set(Cr4::OSFXSR, on(2));
            bench.cpu.fpu.fsw = if on(3) { ERROR } else { 0 };
            let (cr0, cr4) = (bench.cpu.cr0, bench.cpu.cr4);
            let expected = match refused(unit, cr0, cr4, on(3)) {
                Some(vector) => Err(Exception::new(vector)),
                None => Ok(()),
            };
            let before = bench.cpu.fpu;
            assert_eq!(
                bench.execute(code),
                expected,
                "{unit:?} {code:x?} {state:x}"
            );
            if expected.is_err() {
                assert_eq!(bench.cpu.fpu, before, "{code:x?}");
            }
        }
    }
}

#[test]
fn an_error_reaches_mmx_through_the_board_too() {
    let mut bench = real();
    bench.cpu.cr0 -= Cr0::NE;
    bench.cpu.fpu.fsw = ERROR;
    bench.board.ignne.store(true, Ordering::Relaxed);
    assert_eq!(bench.execute(&[0x0F, 0xFC, 0xC1]), Ok(()));
    assert!(bench.board.ferr.load(Ordering::Relaxed));
    assert_eq!(bench.cpu.fpu.ftw, 0xFF);
}

#[test]
fn an_unmasked_exception_wants_a_handler() {
    const DIVPS: &[u8] = &[0x0F, 0x5E, 0xC1];
    const CVTPS2PI: &[u8] = &[0x0F, 0x2D, 0xC1];
    const ZE: u32 = 1 << 2;
    const IE: u32 = 1;
    for (cr4, vector) in [(Cr4::OSXMMEXCPT, XM), (Cr4::empty(), UD)] {
        let mut bench = real();
        bench.cpu.cr4 = Cr4::OSFXSR | cr4;
        bench.cpu.fpu.mxcsr = 0x1F80 & !((ZE | IE) << 7);
        bench.cpu.fpu.ftw = 0;
        let one = u128::from(1f32.to_bits());
        bench.cpu.fpu.xmm[0] = (one << 96 | one << 64 | one << 32 | one).to_le_bytes();
        let before = bench.cpu.fpu;
        assert_eq!(bench.execute(DIVPS), Err(Exception::new(vector)));
        assert_eq!(bench.cpu.fpu.mxcsr, before.mxcsr | ZE);
        assert_eq!(bench.cpu.fpu.xmm, before.xmm);
        // The x87 becomes MMX although the conversion fails.
        bench.cpu.fpu.xmm[1] = [0xFF; 16];
        assert_eq!(bench.execute(CVTPS2PI), Err(Exception::new(vector)));
        assert_eq!(bench.cpu.fpu.mxcsr, before.mxcsr | ZE | IE);
        assert_eq!((bench.cpu.fpu.ftw, bench.cpu.fpu.regs), (0xFF, before.regs));
        // What is set already raises nothing.
        assert_eq!(bench.execute(&[0x0F, 0x58, 0xC0]), Ok(()));
    }
}

/// Bytes of the image that FXSAVE writes over a filled area.
fn written(mut bench: Bench, fxsave: &[u8]) -> usize {
    const FILL: u8 = 0x5A;
    bench.write(OPERAND, &[FILL; 512]);
    bench.cpu.fpu.xmm = [[0xFF; 16]; 16];
    assert_eq!(bench.execute(fxsave), Ok(()));
    let kept = |at: &u64| bench.read(OPERAND + at, 1) == u64::from(FILL);
    512 - (0..512).rev().take_while(kept).count()
}

#[test]
fn the_image_is_as_long_as_there_are_registers() {
    const SI: &[u8] = &[0x0F, 0xAE, 0x04];
    const ESI: &[u8] = &[0x0F, 0xAE, 0x06];
    const X87: usize = 160;
    let switch = |mut bench: Bench, on| {
        bench.cpu.cr4.set(Cr4::OSFXSR, on);
        bench
    };
    assert_eq!(written(switch(real(), true), SI), X87 + 8 * 16);
    assert_eq!(written(switch(real(), false), SI), X87);
    let protected = || ready(Bench::protected());
    assert_eq!(written(switch(protected(), true), ESI), X87 + 8 * 16);
    assert_eq!(written(switch(protected(), false), ESI), X87);
}

#[test]
fn an_image_comes_back_with_what_is_switched_on() {
    for (cr4, restored) in [(Cr4::OSFXSR, true), (Cr4::empty(), false)] {
        let mut bench = real();
        bench.cpu.cr4 = cr4;
        let mut image = [0x11; 512];
        image[24..28].copy_from_slice(&0x1FA0u32.to_le_bytes());
        bench.write(OPERAND, &image);
        let before = bench.cpu.fpu;
        assert_eq!(bench.execute(&[0x0F, 0xAE, 0x0C]), Ok(()));
        let fpu = &bench.cpu.fpu;
        assert_eq!(fpu.xmm[7] != before.xmm[7], restored);
        assert_eq!(fpu.mxcsr == 0x1FA0, restored);
        assert_eq!(fpu.xmm[8], before.xmm[8], "there is no XMM8 here");
        assert_eq!(fpu.regs[0].1, 0x1111);
    }
}

#[test]
fn a_reserved_bit_leaves_everything() {
    let mut bench = real();
    bench.write(OPERAND, &[0xFF; 512]);
    let before = bench.cpu.fpu;
    for code in [[0x0F, 0xAE, 0x0C], [0x0F, 0xAE, 0x14]] {
        assert_eq!(bench.execute(&code), Err(Exception::with_code(GP, 0)));
        assert_eq!(bench.cpu.fpu, before);
    }
}

#[test]
fn operands_end_at_the_limit_and_are_aligned() {
    const MOVUPS: &[u8] = &[0x0F, 0x10, 0x04];
    const MOVAPS: &[u8] = &[0x0F, 0x28, 0x04];
    const MOVUPS_BP: &[u8] = &[0x0F, 0x10, 0x46, 0];
    const FXSAVE: &[u8] = &[0x0F, 0xAE, 0x04];
    const MASKMOVDQU: &[u8] = &[0x66, 0x0F, 0xF7, 0xC1];
    const RBP: usize = 5;
    let outside = Err(Exception::with_code(GP, 0));
    for (code, at, expected) in [
        (MOVUPS, 0xFFF0, Ok(())),
        (MOVUPS, 0xFFF1, outside),
        (MOVUPS_BP, 0xFFF1, Err(Exception::with_code(SS, 0))),
        (MOVAPS, 0xFFF0, Ok(())),
        (MOVAPS, 0x0808, outside),
        (FXSAVE, 0xFE00, Ok(())),
        // Its last piece is at 0: see `Cpu::linear_of_piece`.
        (FXSAVE, 0xFE10, Ok(())),
        (FXSAVE, 0x0808, outside),
        (MASKMOVDQU, 0xFFF0, Ok(())),
        (MASKMOVDQU, 0xFFF1, outside),
    ] {
        let mut bench = real();
        for register in [RSI, RDI, RBP] {
            bench.cpu.regs[register] = at;
        }
        assert_eq!(bench.execute(code), expected, "{code:x?} {at:x}");
    }
}
