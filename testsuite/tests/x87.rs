//! The x87 against the host's own processor: every encoding over special and random values, control
//! words, tags and tops; whole state and memory compared, bit for bit but for the elementary functions.

use emu::arch::cpuid::CpuModel;
use emu::arch::{Gpr, RFlags};
use emu::state::Fpu;
use iced_x86::{Code, Decoder, DecoderOptions};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use testsuite::case::Place;
use testsuite::generate::float::{ES, extended};
use testsuite::host::{self, Session};
use testsuite::layout::DATA;
use testsuite::random::Random;
use testsuite::run::{Input, Mode, Outcome, differences};
use testsuite::skip::skip;
use testsuite::subject::{Bench, Interpreter};

/// Cases of one run.
const CASES: u64 = 300_000;
/// Differences of one code that are shown in full.
const SHOWN: u64 = 3;
/// Where the memory operand is, and where an environment is stored.
const OPERAND: u64 = DATA + 0x100;
const ENVIRONMENT: u64 = DATA + 0x400;

/// Units of the last place by which elementary functions may differ.
const TOLERANCE: u64 = 1;
/// Where the random numbers begin.
const SEED: u64 = 0x8087;

/// Status word: rounded up.
const C1: u16 = 1 << 9;
/// Status word: busy, as an unmasked exception waits.
const BUSY: u16 = 1 << 15;

/// Codes that are compared with a tolerance.
const ELEMENTARY: &[Code] = &[
    Code::F2xm1,
    Code::Fyl2x,
    Code::Fyl2xp1,
    Code::Fptan,
    Code::Fpatan,
    Code::Fsin,
    Code::Fcos,
    Code::Fsincos,
];

/// Every encoding of the x87, those that are no instruction too, with its memory operand at RSI; with
/// an operand size prefix where that makes it another.
fn encodings() -> Vec<(Code, Vec<u8>)> {
    let mut found = vec![(Code::Wait, vec![0x9B])];
    for opcode in 0xD8..=0xDF {
        let memory = (0..8).map(|member| member << 3 | 6);
        for modrm in memory.chain(0xC0..=0xFF) {
            for prefix in [&[][..], &[0x66]] {
                let mut bytes = prefix.to_vec();
                bytes.extend([opcode, modrm]);
                let code = Decoder::new(64, &bytes, DecoderOptions::AMD)
                    .decode()
                    .code();
                let same = found.last().is_some_and(|(last, _)| *last == code);
                if !same || prefix.is_empty() {
                    found.push((code, bytes));
                }
            }
        }
    }
    found
}

/// Bytes at the memory operand: special values of each format, or anything.
fn operand(random: &mut Random) -> Vec<u8> {
    let bits = random.draw();
    let fraction = bits & random.draw();
    let mut bytes = match random.below(8) {
        0 => {
            let exponent = random.pick(&[0, 1, 0x7F, 0x80, 0xFE, 0xFF]);
            let keep = random.pick(&[0, 0x7F_FFFF, 1, 0x40_0000]);
            ((bits as u32) << 31 | exponent << 23 | fraction as u32 & keep)
                .to_le_bytes()
                .to_vec()
        }
        1 => {
            let exponent = random.pick(&[0, 1, 0x3FF, 0x400, 0x7FE, 0x7FF]);
            let keep = random.pick(&[0, (1 << 52) - 1, 1, 1 << 51]);
            (bits << 63 | exponent << 52 | fraction & keep)
                .to_le_bytes()
                .to_vec()
        }
        2 | 3 => {
            let (sig, head) = extended(random);
            [&sig.to_le_bytes()[..], &head.to_le_bytes()].concat()
        }
        4 => random
            .pick(&[0i64, 1, -1, 0x7FFF, -0x8000, i64::MIN, i64::MAX])
            .to_le_bytes()
            .to_vec(),
        5 => {
            let digits = (0..9).map(|_| (random.below(10) << 4 | random.below(10)) as u8);
            let mut digits: Vec<u8> = digits.collect();
            digits.push(bits as u8);
            digits
        }
        _ => Vec::new(),
    };
    while bytes.len() < 112 {
        bytes.extend(random.draw().to_le_bytes());
    }
    bytes
}

/// A state of the unit that a processor can be in.
fn state(random: &mut Random) -> Fpu {
    let mut fpu = Fpu::default();
    let masks = match random.below(3) {
        0 => 0x3F,
        1 => random.draw() as u16 & 0x3F,
        _ => 0x3F & !(1 << random.below(6)),
    };
    fpu.fcw = 0x40 | masks | (random.below(16) as u16) << 8;
    let flags = match random.below(4) {
        0 => random.draw() as u16 & 0x7F & (masks | 0x40),
        1 if random.chance(30) => random.draw() as u16 & 0x7F,
        _ => 0,
    };
    fpu.fsw = flags | random.draw() as u16 & 0x7F00;
    if flags & 0x3F & !masks != 0 {
        fpu.fsw |= ES | BUSY;
    }
    fpu.ftw = match random.below(4) {
        0 => random.draw() as u8,
        1 => random.draw() as u8 | random.draw() as u8,
        // All but what a push needs.
        2 => !(1 << ((fpu.fsw >> 11).wrapping_sub(1) & 7)),
        _ => 0xFF,
    };
    for at in 0..8 {
        fpu.regs[at] = extended(random);
    }
    if random.chance(30) {
        // Near each other, or equal.
        let value = extended(random);
        for at in 0..8 {
            let nudge = random.below(3).wrapping_sub(1);
            fpu.regs[at] = (
                value.0.wrapping_add(nudge),
                value.1 ^ (random.draw() as u16) << 15,
            );
        }
    }
    fpu
}

fn input(random: &mut Random, bytes: &[u8]) -> Input {
    let mut code = bytes.to_vec();
    match random.below(6) {
        0 => code.push(0x9B),
        1 => code.extend([0xD9, 0x37]),
        2 => code.extend([0x66, 0xD9, 0x37]),
        _ => {}
    }
    let mut input = Input::new(Mode::Long64, &code);
    input.gpr[Gpr::Rax as usize] = random.draw();
    input.gpr[Gpr::Rsi as usize] = OPERAND;
    input.gpr[Gpr::Rdi as usize] = ENVIRONMENT;
    input.rflags = RFlags::from_bits_truncate(random.draw()) & RFlags::STATUS;
    input.memory.push((OPERAND, operand(random)));
    input.fpu = Some(Box::new(state(random)));
    input
}

/// What a reader needs to see why a case differs.
fn describe(input: &Input) -> String {
    let Some(fpu) = input.fpu.as_deref() else {
        return String::new();
    };
    let st = |k: u16| fpu.regs[usize::from(((fpu.fsw >> 11) + k) & 7)];
    format!(
        "{:x?} fcw {:x} fsw {:x} ftw {:x} st0 {:x?} st1 {:x?} operand {:x?}",
        input.code,
        fpu.fcw,
        fpu.fsw,
        fpu.ftw,
        st(0),
        st(1),
        &input.memory[0].1[..10]
    )
}

/// Makes outcomes comparable: pointers mean nothing without an error, and selectors are not told.
fn canonical(outcome: &mut Outcome) {
    let fpu = &mut outcome.fpu;
    if fpu.fsw & ES == 0 {
        (fpu.fop, fpu.fip, fpu.fdp) = (0, 0, 0);
    }
    (fpu.fcs, fpu.fds) = (0, 0);
}

/// Both sides of a comparison, where there are both.
struct Sides {
    host: Session,
    own: Bench<Interpreter>,
    wrong: BTreeMap<String, (u64, String)>,
}

impl Sides {
    /// Both, or a word about why not.
    fn open() -> Option<Self> {
        let (host, own) = match (host::session(), Bench::interpreter()) {
            (Ok(host), Ok(own)) => (host, own),
            (Err(error), _) => return skipped(&error),
            (_, Err(error)) => return skipped(&error),
        };
        if !host.known() {
            return skipped(&"not the processor whose x87 is followed");
        }
        Some(Self {
            host,
            own,
            wrong: BTreeMap::new(),
        })
    }

    /// Runs a case on both; `forgive` may make outcomes equal. A case that differs is run again: a
    /// process that is interrupted loses the unit's pointers.
    fn compare(
        &mut self,
        code: Code,
        input: &Input,
        forgive: &mut dyn FnMut(&Outcome, &mut Outcome),
    ) {
        let mut found = Vec::new();
        for _ in 0..3 {
            let mut theirs = self.host.run(input);
            let mut ours = self.own.run(input);
            canonical(&mut theirs);
            canonical(&mut ours);
            forgive(&theirs, &mut ours);
            found = differences(&theirs, &ours, RFlags::empty(), true);
            if found.is_empty() {
                return;
            }
        }
        let entry = self.wrong.entry(format!("{code:?}")).or_default();
        entry.0 += 1;
        if entry.0 <= SHOWN {
            let _ = write!(entry.1, "\n{}\n  {}", describe(input), found.join("\n  "));
        }
    }

    fn check(self) {
        let text: String = (self.wrong.iter())
            .map(|(code, (count, first))| format!("{code}: {count}: {first}\n"))
            .collect();
        assert!(self.wrong.is_empty(), "{text}");
    }
}

fn skipped<T>(reason: &dyn std::fmt::Display) -> Option<T> {
    skip("host", reason);
    None
}

/// The encodings that `max` shows, of the codes that `keep` keeps.
fn shown(keep: impl Fn(&Code) -> bool) -> Vec<(Code, Vec<u8>)> {
    let model = CpuModel::by_name("max").expect("max is a model");
    let mut encodings = encodings();
    encodings
        .retain(|(code, _)| keep(code) && code.cpuid_features().iter().all(|&f| model.supports(f)));
    encodings
}

#[test]
fn every_exact_instruction_agrees() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let encodings = shown(|code| !ELEMENTARY.contains(code));
    let mut random = Random::new(SEED);
    for _ in 0..CASES {
        let (code, bytes) = &encodings[random.below(encodings.len() as u64) as usize];
        let input = input(&mut random, bytes);
        sides.compare(*code, &input, &mut |_, _| {});
    }
    sides.check();
}

/// Every memory form at every kind of place, with and without alignment checks.
#[test]
fn operands_that_cross_and_fault() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let mut random = Random::new(SEED);
    for (code, bytes) in shown(|_| true) {
        let info = Decoder::new(64, &bytes, DecoderOptions::AMD).decode();
        let size = info.memory_size().size() as u64;
        if size == 0 {
            continue;
        }
        for &place in Place::ALL {
            for check in [false, true] {
                for shift in [0, 2, 4, 8] {
                    let mut input = input(&mut random, &bytes);
                    input.code.truncate(bytes.len());
                    let address = place.address(size).wrapping_add(shift);
                    input.gpr[Gpr::Rsi as usize] = address;
                    input.rflags.set(RFlags::AC, check);
                    sides.compare(code, &input, &mut |_, _| {});
                }
            }
        }
    }
    sides.check();
}

/// Code of 32 bits has the same instructions, and stores other pointers.
#[test]
fn code_of_32_bits_agrees() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let encodings = shown(|code| !ELEMENTARY.contains(code));
    let mut random = Random::new(SEED + 1);
    for _ in 0..CASES / 10 {
        let (code, bytes) = &encodings[random.below(encodings.len() as u64) as usize];
        let mut input = input(&mut random, bytes);
        input.mode = Mode::Compat32;
        sides.compare(*code, &input, &mut |_, _| {});
    }
    sides.check();
}

/// How many units of the last place two registers are apart, if that is a small number.
fn apart(a: (u64, u16), b: (u64, u16)) -> Option<u64> {
    let rank = |(sig, head): (u64, u16)| u128::from(head) << 63 | u128::from(sig & u64::MAX >> 1);
    let usual = |(sig, head): (u64, u16)| head & 0x7FFF == 0 || sig >> 63 != 0;
    if !usual(a) || !usual(b) {
        return None;
    }
    u64::try_from(rank(a).abs_diff(rank(b))).ok()
}

#[test]
fn elementary_functions_agree_to_the_last_place() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let encodings = shown(|code| ELEMENTARY.contains(code));
    let mut random = Random::new(SEED);
    let mut farthest: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    for _ in 0..CASES / 3 {
        let (code, bytes) = &encodings[random.below(encodings.len() as u64) as usize];
        let mut input = input(&mut random, bytes);
        input.code.truncate(bytes.len());
        let told = farthest.entry(format!("{code:?}")).or_default();
        told.0 += 1;
        sides.compare(*code, &input, &mut |theirs, ours| {
            let mut differs = false;
            for (a, b) in theirs.fpu.regs.iter().zip(&mut ours.fpu.regs) {
                if let Some(distance) = apart(*a, *b).filter(|&d| d <= TOLERANCE) {
                    told.2 = told.2.max(distance);
                    differs |= distance != 0;
                    *b = *a;
                }
            }
            told.1 += u64::from(differs);
            // C1 tells which way the last place was rounded.
            ours.fpu.fsw = ours.fpu.fsw & !C1 | theirs.fpu.fsw & C1;
        });
    }
    for (code, (cases, differ, most)) in farthest {
        let _ = writeln!(
            std::io::stdout(),
            "{code:<8} {cases} cases, {differ} differ, at most by {most}"
        );
    }
    sides.check();
}
