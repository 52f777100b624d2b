//! Random cases: every unprivileged instruction, with operands where something happens.

pub mod float;
mod operand;
mod values;

use emu::arch::cpuid::CpuModel;
use emu::arch::{Gpr, RFlags};
use iced_x86::{
    Code, CpuidFeature, DecoderOptions, Encoder, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpCodeOperandKind,
};

use crate::layout::{CODE, CODE_END, INT3, PAGE, SELF_MODIFYING};
use crate::random::Random;
use crate::run::{Input, Mode};
use crate::skip::Skips;
use crate::undefined;

/// WAIT: raises what the x87 has pending.
const WAIT: u8 = 0x9B;

/// General-purpose instructions.
const FEATURES: [CpuidFeature; 20] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CX8,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::ADX,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
    CpuidFeature::LZCNT,
    CpuidFeature::POPCNT,
    CpuidFeature::MOVBE,
    CpuidFeature::FSGSBASE,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::PREFETCHW,
    CpuidFeature::CET_IBT,
];

/// What else is compared, as far as the interpreter has rows for it.
const VECTORS: [CpuidFeature; 9] = [
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::MMX,
    CpuidFeature::FXSR,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::CLFSH,
];

/// Whether `code` uses the x87, MMX or SSE unit.
pub fn floating(code: Code) -> bool {
    code == Code::Wait || code.cpuid_features().iter().any(|f| VECTORS.contains(f))
}

/// Why an instruction is not run on the host's processor here.
pub fn skipped(instruction: &Instruction) -> Option<&'static str> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => Some("the kernel emulates it (UMIP)"),
        M::Lar | M::Lsl | M::Verr | M::Verw => Some("reads the kernel's descriptor tables"),
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss | M::Retf | M::Iret | M::Iretd | M::Iretq => {
            Some("loads segments from the kernel's descriptor tables")
        }
        M::Syscall | M::Sysenter | M::Sysret | M::Sysexit => Some("system call"),
        M::Int if instruction.immediate8() == 0x80 => Some("system call"),
        M::Cpuid
        | M::Rdtsc
        | M::Rdtscp
        | M::Rdpmc
        | M::Rdpid
        | M::Rdrand
        | M::Rdseed
        | M::Xgetbv
        | M::Rdpru => Some("its result is the host's own"),
        M::F2xm1
        | M::Fyl2x
        | M::Fyl2xp1
        | M::Fptan
        | M::Fpatan
        | M::Fsin
        | M::Fcos
        | M::Fsincos => Some("correct to the last place only: see tests/x87.rs"),
        M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64 => {
            Some("its image holds the host's own MXCSR_MASK: see tests/sse.rs")
        }
        M::Int1 => Some("a hypervisor below may leave RIP at INT1 itself"),
        M::Xbegin | M::Xend | M::Xabort | M::Xtest => Some("transactions"),
        _ if far_transfer(instruction) || loads_segment(instruction) => {
            Some("loads segments from the kernel's descriptor tables")
        }
        _ => None,
    }
}

fn far_transfer(instruction: &Instruction) -> bool {
    instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect()
        || instruction.is_jmp_far()
        || instruction.is_call_far()
}

fn loads_segment(instruction: &Instruction) -> bool {
    use OpCodeOperandKind as Kind;
    let op = instruction.code().op_code();
    let kinds = [
        Kind::seg_reg,
        Kind::ds,
        Kind::es,
        Kind::ss,
        Kind::fs,
        Kind::gs,
    ];
    instruction.mnemonic() != Mnemonic::Push && kinds.contains(&op.op0_kind())
}

/// Whether an invalid instruction may run into the page behind the code: one with a vector opcode (VEX,
/// EVEX, or SSE's with a prefix that it does not go with), of a control or debug register that does not
/// exist, or of a unit that only another vendor has (0F A6, 0F A7).
fn cut_off(input: &Input, instruction: &Instruction) -> bool {
    let start = (instruction.ip() - input.at) as usize;
    let reach = instruction.ip()..instruction.ip() + 15;
    let varies = |pair: &[u8]| {
        let sse = matches!(pair[1], 0x10..=0x17 | 0x28..=0x2F | 0x50..=0x7F | 0xC2 | 0xC4..=0xC6 | 0xD0..=0xFE);
        let absent = matches!(pair[1], 0x20..=0x23 | 0xA6 | 0xA7);
        matches!(pair[0], 0xC4 | 0xC5 | 0x62 | 0x8F) || pair[0] == 0x0F && (sse || absent)
    };
    let mut bytes = input.code[start..].to_vec();
    bytes.push(INT3);
    instruction.is_invalid() && reach.contains(&CODE_END) && bytes.windows(2).any(varies)
}

/// Whether a campaign should come across `code`: covered, and no reason to skip all of it.
pub fn expected(code: Code) -> bool {
    use OpCodeOperandKind as Kind;
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let op = code.op_code();
    let near16 = [Kind::br16_1, Kind::br16_2].contains(&op.op0_kind());
    let by_vendor = op.amd_decoder64() != op.intel_decoder64()
        || code.op_code().mnemonic() == Mnemonic::Ud0
        || near16;
    covered(code, Mode::Long64) && skipped(&instruction).is_none() && !by_vendor
}

/// Whether `code` is among those that cases are made of in `mode`.
pub fn covered(code: Code, mode: Mode) -> bool {
    let op = code.op_code();
    let legal = match mode {
        Mode::Long64 => op.mode64(),
        Mode::Compat32 => op.mode32() || op.compatibility_mode(),
    };
    let features = code.cpuid_features();
    let other = [Code::INVALID, Code::Zero_bytes];
    legal
        && op.is_instruction()
        // The decoder sees WAIT and the instruction behind it.
        && !op.fwait()
        && !other.contains(&code)
        && !features.is_empty()
        && (features.iter().all(|f| FEATURES.contains(f)) || shown(code))
}

/// Whether `code` is an instruction of [`VECTORS`] that the interpreter's model shows.
fn shown(code: Code) -> bool {
    let features = code.cpuid_features();
    features.iter().any(|f| VECTORS.contains(f))
        && emu::insn::row(code).is_some()
        && CpuModel::by_name("max").is_some_and(|m| features.iter().all(|&f| m.supports(f)))
}

/// Makes cases.
pub struct Generator {
    random: Random,
    codes: [Vec<Code>; 2],
    info: InstructionInfoFactory,
    skips: Skips,
}

impl Generator {
    /// The cases of `seed`.
    pub fn new(seed: u64) -> Self {
        let codes = |mode| Code::values().filter(|&code| covered(code, mode)).collect();
        Self {
            random: Random::new(seed),
            codes: [codes(Mode::Long64), codes(Mode::Compat32)],
            info: InstructionInfoFactory::new(),
            skips: Skips::default(),
        }
    }

    /// What was thrown away, by reason.
    pub fn skips(&self) -> &Skips {
        &self.skips
    }

    /// The next case.
    pub fn input(&mut self) -> Input {
        loop {
            let mode = if self.random.chance(85) {
                Mode::Long64
            } else {
                Mode::Compat32
            };
            let codes = &self.codes[usize::from(mode == Mode::Compat32)];
            let code = codes[self.random.below(codes.len() as u64) as usize];
            if let Some(input) = self.of(mode, code) {
                return input;
            }
        }
    }

    /// A case that begins with `code`, unless it cannot be encoded or is skipped.
    pub fn of(&mut self, mode: Mode, code: Code) -> Option<Input> {
        let mut input = Input::new(mode, &[]);
        self.registers(&mut input);
        let first = self.encode(mode, code, CODE)?;
        input.at = self.place(first.len() as u64);
        // RIP-relative operands and branches want the final place.
        let bytes = self.encode(mode, code, input.at)?;
        input.code = self.prefixed(mode, bytes);
        if self.random.chance(25) {
            self.extend(&mut input);
        }
        if floating(code) && self.random.chance(20) {
            input.code.push(WAIT);
        }
        self.finish(input)
    }

    /// Where code of `len` bytes starts: mostly inside a page.
    fn place(&mut self, len: u64) -> u64 {
        match self.random.below(100) {
            0..=4 => CODE + PAGE - 1 - self.random.below(len.max(2)),
            5..=6 => CODE_END - 1 - self.random.below(len.max(2)),
            7..=9 => SELF_MODIFYING + 0x800,
            _ => CODE + 0x400 + self.random.below(0x800),
        }
    }

    fn encode(&mut self, mode: Mode, code: Code, at: u64) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(mode.bits());
        for _ in 0..8 {
            let instruction = operand::instruction(&mut self.random, code, mode, at)?;
            if encoder.encode(&instruction, at).is_ok() {
                return Some(encoder.take_buffer());
            }
            drop(encoder.take_buffer());
        }
        self.skips.count("no legal operands found");
        None
    }

    /// Now and then a prefix that the encoder would not write, or a byte that is another.
    fn prefixed(&mut self, mode: Mode, mut bytes: Vec<u8>) -> Vec<u8> {
        const PREFIXES: [u8; 9] = [0x66, 0x67, 0xF2, 0xF3, 0xF0, 0x2E, 0x3E, 0x64, 0x65];
        if self.random.chance(6) {
            bytes.insert(0, self.random.pick(&PREFIXES));
        }
        if mode == Mode::Long64 && self.random.chance(3) && bytes[0] & 0xF0 != 0x40 {
            bytes.insert(0, 0x40 | self.random.below(16) as u8);
        }
        if self.random.chance(2) {
            let at = self.random.below(bytes.len() as u64) as usize;
            bytes[at] = self.random.draw() as u8;
        }
        bytes
    }

    /// Adds instructions that read no flag which is undefined by then.
    fn extend(&mut self, input: &mut Input) {
        for _ in 0..self.random.below(6) + 1 {
            let before = input.code.len();
            let codes = &self.codes[usize::from(input.mode == Mode::Compat32)];
            let code = codes[self.random.below(codes.len() as u64) as usize];
            let at = input.at + before as u64;
            let Some(bytes) = self.encode(input.mode, code, at) else {
                continue;
            };
            input.code.extend(bytes);
            let mut undefined = RFlags::empty();
            for instruction in &input.decode(DecoderOptions::NONE) {
                let reads = undefined::read(instruction).intersects(undefined);
                let last = instruction.next_ip() == input.at + input.code.len() as u64;
                if reads || (!last && instruction.flow_control() != FlowControl::Next) {
                    input.code.truncate(before);
                    return;
                }
                undefined = undefined::after(instruction, undefined, None);
            }
        }
    }

    fn registers(&mut self, input: &mut Input) {
        let random = &mut self.random;
        for gpr in &mut input.gpr {
            *gpr = values::register(random);
        }
        if !random.chance(5) {
            input.gpr[Gpr::Rsp as usize] = crate::layout::DATA + 0x800 + random.below(0x80) * 8;
        }
        input.rflags |= RFlags::from_bits_retain(random.draw()) & RFlags::STATUS;
        input.rflags.set(RFlags::DF, random.chance(15));
        input.rflags.set(RFlags::TF, random.chance(1));
        input.rflags.set(RFlags::AC, random.chance(2));
        if input.mode == Mode::Long64 && random.chance(10) {
            input.bases = [crate::layout::DATA + random.below(64), random.draw() >> 20];
        }
    }

    /// Bends registers and memory towards the instructions that were encoded.
    fn finish(&mut self, mut input: Input) -> Option<Input> {
        let instructions = input.decode(DecoderOptions::NONE);
        if input.decode(DecoderOptions::AMD) != instructions {
            self.skips.count("decoded differently by vendors");
            return None;
        }
        for instruction in &instructions {
            let code = instruction.code();
            let codes = &self.codes[usize::from(input.mode == Mode::Compat32)];
            if code != Code::INVALID && codes.binary_search(&code).is_err() {
                self.skips.count("not covered: a random byte made it");
                return None;
            }
            let target = instruction.near_branch_target().wrapping_sub(input.at);
            if target < input.code.len() as u64 {
                self.skips.count("branches into itself and might never end");
                return None;
            }
        }
        if instructions.iter().any(|i| cut_off(&input, i)) {
            self.skips
                .count("invalid opcode at the end of the code: how much is fetched first varies");
            return None;
        }
        // Also what only a LOCK makes invalid: the processor may get as far as its operand.
        let lenient = input.decode(DecoderOptions::NO_INVALID_CHECK);
        if let Some(reason) = instructions.iter().chain(&lenient).find_map(skipped) {
            self.skips.count(reason);
            return None;
        }
        if instructions.iter().any(|i| floating(i.code())) {
            input.fpu = Some(Box::new(float::state(&mut self.random)));
        }
        let mut taken = [false; 16];
        for instruction in &instructions {
            values::tune(&mut self.random, &mut input, instruction);
            let info = self.info.info(instruction);
            let memory = info.used_memory();
            values::aim(
                &mut self.random,
                &mut input,
                instruction,
                memory,
                &mut taken,
            );
        }
        if input.mode == Mode::Compat32 {
            input.gpr.iter_mut().for_each(|gpr| *gpr &= 0xFFFF_FFFF);
            input.gpr[8..].fill(0);
        }
        Some(input)
    }
}
