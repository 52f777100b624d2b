//! What the host's processor cannot show: CR0, FERR#, the layouts of real mode.

use std::sync::atomic::Ordering;

use crate::arch::Cr0;
use crate::arch::exception::{Exception, MF, NM};
use crate::arch::segment::Seg;
use crate::cpu::{Cause, Raised};
use crate::test_bench::Bench;

const FLD1: &[u8] = &[0xD9, 0xE8];
const FLDZ: &[u8] = &[0xD9, 0xEE];
const FDIVP: &[u8] = &[0xDE, 0xF9];
const FNINIT: &[u8] = &[0xDB, 0xE3];
const FNCLEX: &[u8] = &[0xDB, 0xE2];
const FNSTSW_AX: &[u8] = &[0xDF, 0xE0];
const WAIT: &[u8] = &[0x9B];
/// With a memory operand at DS:0800h, in code of 16 bits.
const FLDCW: &[u8] = &[0xD9, 0x2E, 0x00, 0x08];
const FNSTENV: &[u8] = &[0xD9, 0x36, 0x00, 0x08];
const FLDENV: &[u8] = &[0xD9, 0x26, 0x00, 0x08];
const FNSAVE: &[u8] = &[0xDD, 0x36, 0x00, 0x08];
const FRSTOR: &[u8] = &[0xDD, 0x26, 0x00, 0x08];
const OPERAND: u64 = 0x800;
/// Division by zero unmasked.
const FCW: u16 = 0x37B;

const NOT_AVAILABLE: Result<(), Exception> = Err(Exception::new(NM));
const ERROR: Result<(), Exception> = Err(Exception::new(MF));

/// A processor in real mode with DS = 0 and a division by zero pending.
fn failed(cr0: Cr0) -> Bench {
    let mut bench = Bench::new("max");
    bench.cpu.cr0 = Cr0::ET | cr0;
    bench.write(OPERAND, &FCW.to_le_bytes());
    for code in [FNINIT, FLDCW, FLD1, FLDZ, FDIVP] {
        assert_eq!(bench.execute(code), Ok(()));
    }
    assert_eq!(bench.cpu.fpu.fsw & 0xFF, 0x84, "ZE and ES");
    bench
}

#[test]
fn emulation_and_task_switches_are_not_available() {
    for (cr0, wait) in [
        (Cr0::EM, Ok(())),
        (Cr0::EM | Cr0::MP, Ok(())),
        (Cr0::TS, Ok(())),
        (Cr0::TS | Cr0::MP, NOT_AVAILABLE),
    ] {
        let mut bench = Bench::new("max");
        bench.cpu.cr0 = Cr0::ET | cr0;
        for code in [
            FLD1,
            FNINIT,
            FNCLEX,
            FNSTSW_AX,
            FLDCW,
            FNSTENV,
            FNSAVE,
            &[0xDB, 0xE0],
        ] {
            assert_eq!(bench.execute(code), NOT_AVAILABLE, "{code:x?}");
        }
        assert_eq!(bench.execute(WAIT), wait);
    }
}

#[test]
fn an_error_waits_for_the_next_instruction_that_waits() {
    let mut bench = failed(Cr0::NE);
    assert_eq!(bench.execute(WAIT), ERROR);
    assert_eq!(bench.execute(FLD1), ERROR);
    assert_eq!(bench.execute(FNSTSW_AX), Ok(()));
    assert_eq!(bench.cpu.regs[0] & 0x80, 0x80);
    assert_eq!(bench.execute(FNCLEX), Ok(()));
    assert_eq!(bench.execute(WAIT), Ok(()));
    assert_eq!(bench.execute(FLD1), Ok(()));
    assert!(!bench.board.ferr.load(Ordering::Relaxed));
}

#[test]
fn without_numeric_error_reporting_the_board_is_told() {
    let mut bench = failed(Cr0::empty());
    let ferr = |bench: &Bench| bench.board.ferr.load(Ordering::Relaxed);
    assert!(!ferr(&bench), "not before the next instruction");
    assert_eq!(bench.cpu.x87_begin(), Err(Raised));
    assert_eq!(bench.cpu.cause, Cause::Retry, "frozen");
    assert!(ferr(&bench));
    bench.board.ignne.store(true, Ordering::Relaxed);
    assert_eq!(bench.execute(FLD1), Ok(()), "told to go on");
    assert_eq!(bench.cpu.fpu.fsw & 0x80, 0x80);
    assert_eq!(bench.execute(FNCLEX), Ok(()));
    assert!(!ferr(&bench));
}

/// Pointers of an environment of real mode: linear addresses.
#[test]
fn environments_of_real_mode() {
    let mut bench = Bench::new("max");
    bench.cpu.segments[Seg::Cs as usize].selector = 0x1234;
    bench.cpu.segments[Seg::Ds as usize].selector = 0xABCD;
    bench.cpu.regs[crate::cpu::RIP] = 0x0678;
    assert_eq!(bench.execute(FNINIT), Ok(()));
    // FLD m32 [0800h]: linear addresses 129B8h and AC4D0h.
    let fld = [0xD9, 0x06, 0x00, 0x08];
    bench.write(OPERAND, &1.0f32.to_le_bytes());
    assert_eq!(bench.execute(&fld), Ok(()));
    assert_eq!(bench.execute(FNSTENV), Ok(()));
    let words: Vec<u64> = (0..7).map(|k| bench.read(OPERAND + 2 * k, 2)).collect();
    assert_eq!(
        words,
        [0x37F, 0x3800, 0x3FFF, 0x29B8, 0x1106, 0xC4D0, 0xA000]
    );
    let wide = |code: &[u8]| [&[0x66], code].concat();
    assert_eq!(bench.execute(&wide(FNSTENV)), Ok(()));
    let words: Vec<u64> = (0..7).map(|k| bench.read(OPERAND + 4 * k, 4)).collect();
    let image = [
        0xFFFF_037F,
        0xFFFF_3800,
        0xFFFF_3FFF,
        0xFFFF_29B8,
        0x0000_1106,
        0xFFFF_C4D0,
        0x0000_A000,
    ];
    assert_eq!(words, image);
    // What was stored comes back, and is stored again alike.
    for code in [wide(FLDENV), wide(FNSTENV)] {
        assert_eq!(bench.execute(&code), Ok(()));
    }
    let words: Vec<u64> = (0..7).map(|k| bench.read(OPERAND + 4 * k, 4)).collect();
    assert_eq!(words, image);
}

#[test]
fn a_saved_state_comes_back() {
    let mut bench = Bench::new("max");
    for code in [FNINIT, FLDZ, FLD1] {
        assert_eq!(bench.execute(code), Ok(()));
    }
    let before = bench.cpu.fpu;
    assert_eq!(bench.execute(FNSAVE), Ok(()));
    assert_eq!(bench.cpu.fpu.ftw, 0);
    assert_eq!(bench.read(OPERAND + 14, 8), 1 << 63);
    assert_eq!(bench.read(OPERAND + 22, 2), 0x3FFF);
    bench.cpu.fpu.regs = [(1, 1); 8];
    assert_eq!(bench.execute(FRSTOR), Ok(()));
    let after = bench.cpu.fpu;
    let values = |fpu: &crate::state::Fpu| (fpu.fcw, fpu.fsw, fpu.ftw, fpu.regs);
    assert_eq!(values(&after), values(&before));
}
