//! MMX, SSE, SSE2 and SSE3 against the host's own processor: every encoding over special and random values,
//! immediates, MXCSRs and x87 states; whole state and memory compared, bit for bit.

use emu::arch::cpuid::CpuModel;
use emu::arch::{Gpr, RFlags};
use emu::insn;
use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use testsuite::case::Place;
use testsuite::generate::float::{self, ES, MISALIGNED};
use testsuite::host::{self, Session};
use testsuite::layout::DATA;
use testsuite::random::Random;
use testsuite::run::{Input, Mode, Outcome, differences};
use testsuite::skip::skip;
use testsuite::subject::{Bench, Interpreter};

/// Random cases of one run in 64-bit code; in 32-bit code a quarter of that.
const CASES: u64 = 300_000;
/// Random cases of each mode with more prefixes than the instruction wants.
const PREFIXED: u64 = 20_000;
/// Differences of one code that are shown in full.
const SHOWN: u64 = 3;
/// Where the random numbers begin.
const SEED: u64 = 0x55E2;

/// Extensions that are compared.
const FEATURES: [CpuidFeature; 5] = [
    CpuidFeature::MMX,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::FXSR,
];

/// One way to write a code down: the mandatory prefix, the opcode behind 0F, and ModRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Template {
    prefix: Option<u8>,
    opcode: u8,
    reg: u8,
    memory: bool,
    wide: bool,
}

impl Template {
    /// Every template there can be.
    fn all(mode: Mode) -> impl Iterator<Item = Self> {
        let forms = move |prefix, opcode| {
            (0..32).map(move |form| Self {
                prefix,
                opcode,
                reg: form & 7,
                memory: form & 8 != 0,
                wide: form & 16 != 0,
            })
        };
        [None, Some(0x66), Some(0xF3), Some(0xF2)]
            .into_iter()
            .flat_map(move |prefix| (0..=0xFF).flat_map(move |opcode| forms(prefix, opcode)))
            .filter(move |template| !template.wide || mode == Mode::Long64)
    }

    /// The instruction, with the memory operand at rSI (R14 with REX.B), or at rBP (R13), in the stack's
    /// segment, if bit 3 of `rm` is set; `rex` holds R, X and B.
    fn bytes(self, mode: Mode, rex: u8, rm: u8, imm: u8) -> (Code, Vec<u8>) {
        let mut bytes = Vec::from_iter(self.prefix);
        let rex = rex | u8::from(self.wide) << 3;
        if rex != 0 {
            bytes.push(0x40 | rex);
        }
        bytes.extend([0x0F, self.opcode]);
        match self.memory {
            true if rm & 8 != 0 => bytes.extend([0x45 | self.reg << 3, 0]),
            true => bytes.push(6 | self.reg << 3),
            false => bytes.push(0xC0 | self.reg << 3 | rm & 7),
        }
        bytes.push(imm);
        let decoded = Decoder::new(mode.bits(), &bytes, DecoderOptions::AMD).decode();
        bytes.truncate(decoded.len());
        (decoded.code(), bytes)
    }
}

/// The templates of each code that has a row and that `max` shows.
fn templates(mode: Mode) -> Vec<(Code, Vec<Template>)> {
    let model = CpuModel::by_name("max").expect("max is a model");
    let mut found: BTreeMap<u16, (Code, Vec<Template>)> = BTreeMap::new();
    for template in Template::all(mode) {
        let (code, _) = template.bytes(mode, 0, 0, 0);
        let features = code.cpuid_features();
        let ours = features.iter().any(|f| FEATURES.contains(f))
            && features.iter().all(|&f| model.supports(f));
        if ours && insn::row(code).is_some() {
            let entry = found.entry(code as u16);
            entry.or_insert((code, Vec::new())).1.push(template);
        }
    }
    found.into_values().collect()
}

/// A case of `code` with its memory operand, if it has one, at `address`.
fn input(random: &mut Random, mode: Mode, code: Code, bytes: &[u8], address: u64) -> Input {
    let mut input = Input::new(mode, bytes);
    for gpr in &mut input.gpr {
        *gpr = match random.below(3) {
            0 => u64::from(float::single(random)),
            1 => random.draw() >> random.below(64),
            _ => !(random.draw() >> random.below(64)),
        };
    }
    input.gpr[Gpr::Rsp as usize] = DATA + 0x800;
    for pointer in [Gpr::Rsi, Gpr::R14, Gpr::Rbp, Gpr::R13, Gpr::Rdi] {
        input.gpr[pointer as usize] = address;
    }
    input.rflags = RFlags::from_bits_truncate(random.draw()) & RFlags::STATUS;
    let operand = float::operand(random, code, size(mode, bytes).max(16) as usize);
    input.memory.push((address, operand));
    input.fpu = Some(Box::new(float::state(random)));
    input
}

/// Where a random case has its operand.
fn address(random: &mut Random, size: u64) -> u64 {
    if random.chance(80) {
        return DATA + 0x100 + 16 * random.below(4);
    }
    let place = random.pick(Place::ALL);
    place
        .address(size.max(1))
        .wrapping_add(random.pick(&[0, 0, 1, 2, 4, 8]))
}

/// What a reader needs to see why a case differs.
fn describe(input: &Input) -> String {
    let Some(fpu) = input.fpu.as_deref() else {
        return String::new();
    };
    let (address, bytes) = &input.memory[0];
    let text: Vec<String> = (Decoder::new(input.mode.bits(), &input.code, DecoderOptions::AMD))
        .iter()
        .map(|i| format!("{:?}", i.code()))
        .collect();
    format!(
        "{text:?} {:x?} {:?} mxcsr {:x} fcw {:x} fsw {:x} ftw {:x} xmm {:x?} mm {:x?} [{address:x}] {:x?}",
        input.code,
        input.mode,
        fpu.mxcsr,
        fpu.fcw,
        fpu.fsw,
        fpu.ftw,
        fpu.xmm,
        fpu.regs,
        &bytes[..bytes.len().min(32)]
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

/// The host's FXSAVE tells of MXCSR bit 17.
fn without_misaligned(outcome: &mut Outcome, address: u64) {
    for (at, word) in &mut outcome.memory {
        if *at == address + 24 {
            *word &= !(u64::from(MISALIGNED) << 32);
        }
    }
}

/// Both sides of a comparison.
struct Sides {
    host: Session,
    own: Bench<Interpreter>,
    cases: BTreeMap<String, u64>,
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
            return skipped(&"not the processor whose SSE is followed");
        }
        Some(Self {
            host,
            own,
            cases: BTreeMap::new(),
            wrong: BTreeMap::new(),
        })
    }

    /// Runs a case on both. One that differs is run again: a process that is interrupted loses the
    /// x87's pointers.
    fn compare(&mut self, code: Code, input: &Input) {
        let name = format!("{code:?}");
        *self.cases.entry(name.clone()).or_default() += 1;
        let mut found = Vec::new();
        for _ in 0..3 {
            let mut theirs = self.host.run(input);
            let mut ours = self.own.run(input);
            canonical(&mut theirs);
            canonical(&mut ours);
            if name.starts_with("Fxsave") {
                without_misaligned(&mut theirs, input.gpr[Gpr::Rsi as usize]);
            }
            found = differences(&theirs, &ours, RFlags::empty(), true);
            if found.is_empty() {
                return;
            }
        }
        let entry = self.wrong.entry(name).or_default();
        entry.0 += 1;
        if entry.0 <= SHOWN {
            let _ = write!(entry.1, "\n{}\n  {}", describe(input), found.join("\n  "));
        }
    }

    /// Says what was compared; fails if anything differed.
    fn check(self, what: &str) {
        let cases: u64 = self.cases.values().sum();
        let least = self.cases.values().min().copied().unwrap_or_default();
        let _ = writeln!(
            std::io::stdout(),
            "{what}: {cases} cases of {} codes, {least} or more of each",
            self.cases.len()
        );
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

/// Bytes of a code's memory operand.
fn size(mode: Mode, bytes: &[u8]) -> u64 {
    let info = Decoder::new(mode.bits(), bytes, DecoderOptions::AMD).decode();
    info.memory_size().size() as u64
}

/// Random cases of every code in turn.
fn random_cases(mode: Mode, cases: u64, seed: u64) {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let templates = templates(mode);
    let mut random = Random::new(seed);
    for n in 0..cases {
        let (code, forms) = &templates[n as usize % templates.len()];
        let template = random.pick(forms);
        let rex = match mode {
            Mode::Long64 if random.chance(50) => random.draw() as u8 & 7,
            _ => 0,
        };
        let bits = random.draw();
        let (mut same, mut bytes) = template.bytes(mode, rex, bits as u8, (bits >> 8) as u8);
        if same != *code {
            // A fence: iced decodes one of its eight encodings only.
            (same, bytes) = template.bytes(mode, rex, 0, 0);
        }
        assert_eq!(same, *code, "{bytes:x?}");
        let address = address(&mut random, size(mode, &bytes));
        let input = input(&mut random, mode, *code, &bytes, address);
        sides.compare(*code, &input);
    }
    sides.check(&format!("{mode:?}, random"));
}

#[test]
fn every_instruction_agrees() {
    random_cases(Mode::Long64, CASES, SEED);
}

#[test]
fn code_of_32_bits_agrees() {
    random_cases(Mode::Compat32, CASES / 4, SEED + 1);
}

#[test]
fn operands_that_cross_and_fault() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    each_place(&mut sides, Mode::Long64);
    each_place(&mut sides, Mode::Compat32);
    sides.check("places");
}

/// Every memory form at every kind of place, with and without alignment checks.
fn each_place(sides: &mut Sides, mode: Mode) {
    let mut random = Random::new(SEED + 2);
    for (code, forms) in templates(mode) {
        let Some(template) = forms.iter().find(|template| template.memory) else {
            continue;
        };
        let size = size(mode, &template.bytes(mode, 0, 0, 0).1).max(1);
        for &place in Place::ALL {
            for form in 0..4 {
                let (check, stack) = (form & 1 != 0, (form & 2) << 2);
                let (_, bytes) = template.bytes(mode, 0, stack, 0);
                for shift in [0, 1, 2, 4, 8] {
                    let address = place.address(size).wrapping_add(shift);
                    let mut input = input(&mut random, mode, code, &bytes, address);
                    input.rflags.set(RFlags::AC, check);
                    sides.compare(code, &input);
                }
            }
        }
    }
}

/// Prefixes that mean nothing, or make it another instruction or none; also registers that a REX
/// prefix before others would have chosen.
#[test]
fn prefixes_agree() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let mut random = Random::new(SEED + 5);
    for mode in [Mode::Long64, Mode::Compat32] {
        let templates = templates(mode);
        let known: BTreeSet<u16> = templates.iter().map(|(code, _)| *code as u16).collect();
        for n in 0..PREFIXED {
            let (_, forms) = &templates[n as usize % templates.len()];
            let (_, plain) = random.pick(forms).bytes(mode, 0, random.draw() as u8, 0);
            let mut bytes: Vec<u8> = (0..=random.below(2))
                .map(|_| random.pick(&[0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x64, 0xF0, 0x4F]))
                .collect();
            bytes.extend(plain);
            let input = Input::new(mode, &bytes);
            let code = input.decode(DecoderOptions::AMD)[0].code();
            // What is left without the codes that no model shows, MOVNTSS and MOVNTSD of SSE4A too.
            let none = code == Code::INVALID && !bytes.contains(&0x2B);
            if !none && !known.contains(&(code as u16)) {
                continue;
            }
            let input = self::input(&mut random, mode, code, &bytes, DATA + 0x100);
            sides.compare(code, &input);
        }
    }
    sides.check("prefixes");
}

/// Every immediate of the codes that have one.
#[test]
fn every_immediate_agrees() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let mode = Mode::Long64;
    let mut random = Random::new(SEED + 3);
    for (code, forms) in templates(mode) {
        let (_, short) = forms[0].bytes(mode, 0, 0, 0);
        let info = Decoder::new(64, &short, DecoderOptions::AMD).decode();
        if !info
            .op_kinds()
            .any(|kind| kind == iced_x86::OpKind::Immediate8)
        {
            continue;
        }
        for imm in 0..=0xFF {
            for template in [random.pick(&forms), random.pick(&forms)] {
                let rm = random.draw() as u8;
                let (_, bytes) = template.bytes(mode, 0, rm, imm);
                let input = input(&mut random, mode, code, &bytes, DATA + 0x100);
                sides.compare(code, &input);
            }
        }
    }
    sides.check("immediates");
}

/// An x87 error in the same code gives FXSAVE pointers and selectors to store.
#[test]
fn an_image_tells_of_an_error() {
    let Some(mut sides) = Sides::open() else {
        return;
    };
    let mut random = Random::new(SEED + 4);
    for mode in [Mode::Long64, Mode::Compat32] {
        for wide in [false, true] {
            if wide && mode == Mode::Compat32 {
                continue;
            }
            // FLDENV-free: FNINIT, FLDCW [rsi], FLD1, FDIV dword [rsi + 64], FXSAVE [rsi].
            let mut bytes = vec![0xDB, 0xE3, 0xD9, 0x2E, 0xD9, 0xE8, 0xD8, 0x76, 0x40];
            bytes.extend(&[0x48, 0x0F, 0xAE, 0x06][usize::from(!wide)..]);
            for masks in 0x40..0x80u16 {
                let code = Code::Fxsave_m512byte;
                let mut input = input(&mut random, mode, code, &bytes, DATA + 0x100);
                let mut memory = masks.to_le_bytes().to_vec();
                memory.resize(64, 0);
                memory.extend([0; 4]);
                input.memory = vec![(DATA + 0x100, memory)];
                sides.compare(code, &input);
            }
        }
    }
    sides.check("images");
}
