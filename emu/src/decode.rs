//! From bytes to [`Insn`]: what iced decoded, in the compact form the rules work on.

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, FastFormatter, FlowControl, Instruction, OpKind,
    Register, RflagsBits,
};

use crate::arch::RFlags;

use crate::arch::cpuid::{CpuModel, Feature};
use crate::arch::segment::Seg;
use crate::cpu::{BASES, CodeSize, Cpu, Mode, RIP, Raised, ZERO};
use crate::insn::{self, End, Row};
use crate::width::HIGH_BYTE;

/// The longest instruction, in bytes.
pub const MAX_LEN: usize = 15;

/// One instruction's meaning at one width and operand form.
pub type Rule = fn(&mut Cpu, &Insn) -> Result<(), Raised>;

/// A rule as a block runs it: it carries out one instruction and calls the step of the first of
/// those that are left itself, so that there is one indirect call an instruction and the host's
/// branch predictor sees each instruction's own successor. The compiler makes that call a jump
/// where it optimises; where it does not, the depth is bounded by the block.
pub type Step = fn(&mut Cpu, &Insn, &[Insn]) -> Result<(), Raised>;

/// A decoded instruction: 32 bytes, nothing re-reads its encoding.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Insn {
    /// What it does.
    pub(crate) step: Step,
    /// Displacement of the memory operand (for RIP-relative ones, from the block's first
    /// instruction); target of a relative branch, from the block's first instruction; the 64-bit
    /// immediate of MOV; the selector of a far pointer.
    pub(crate) disp: i64,
    /// Immediate, sign-extended where the instruction does; offset of a far pointer; of an x87
    /// instruction, the eleven bits of its opcode.
    pub(crate) imm: i32,
    /// Register of operand 0, 1, 2 where that is a register; bytes may carry [`HIGH_BYTE`];
    /// segment, control and debug registers by their number.
    pub(crate) r: [u8; 3],
    /// Base register of the memory operand.
    pub(crate) base: u8,
    /// Index register of the memory operand.
    pub(crate) index: u8,
    /// Scale as a shift count in bits 1:0, segment in bits 4:2, address size in bits 6:5 (0: 16,
    /// 1: 32, 2: 64 bits), bit 7: the access needs a segment check.
    pub(crate) address: u8,
    /// Length in bytes.
    pub(crate) len: u8,
    /// Prefixes and operand size: [`Insn::LOCK`] and others.
    pub(crate) attributes: u8,
    /// iced's code.
    pub(crate) code: u16,
    /// Offset of the next instruction from the block's first.
    pub(crate) next: u16,
}

const _: () = assert!(size_of::<Insn>() == 32);

impl Insn {
    /// LOCK prefix (or XCHG with memory).
    pub(crate) const LOCK: u8 = 1 << 0;
    /// REP or REPE prefix.
    pub(crate) const REP: u8 = 1 << 1;
    /// REPNE prefix.
    pub(crate) const REPNE: u8 = 1 << 2;
    /// The rule sets RIP itself when it is the last of a run ([`End::Branch`], [`End::Maybe`]).
    pub(crate) const BRANCHES: u8 = 1 << 3;

    /// The memory operand's segment.
    #[inline(always)]
    pub(crate) fn seg(&self) -> usize {
        usize::from(self.address >> 2 & 7)
    }

    /// The memory operand's segment register.
    #[inline(always)]
    pub(crate) fn segment(&self) -> Seg {
        match self.seg() {
            0 => Seg::Es,
            1 => Seg::Cs,
            2 => Seg::Ss,
            4 => Seg::Fs,
            5 => Seg::Gs,
            _ => Seg::Ds,
        }
    }

    /// The memory operand's segment must be checked for type and limit.
    #[inline(always)]
    pub(crate) fn checked(&self) -> bool {
        self.address & 0x80 != 0
    }

    /// Bits of the effective address that count.
    #[inline(always)]
    pub(crate) fn address_mask(&self) -> u64 {
        const MASKS: [u64; 4] = [0xFFFF, 0xFFFF_FFFF, u64::MAX, u64::MAX];
        MASKS[usize::from(self.address >> 5 & 3)]
    }

    /// The instruction has prefix (or property) `bit`.
    #[inline(always)]
    pub(crate) fn has(&self, bit: u8) -> bool {
        self.attributes & bit != 0
    }

    /// iced's code of the instruction.
    pub fn code(&self) -> Code {
        Code::try_from(usize::from(self.code)).unwrap_or(Code::INVALID)
    }
}

/// iced's name of the encoding of the instruction that `bytes` start with, in code of 16, 32 or 64
/// `bits`; `None` if they start with none.
pub fn encoding(bytes: &[u8], bits: u32) -> Option<String> {
    let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
    let iced = decoder.decode();
    (!iced.is_invalid()).then(|| format!("{:?}", iced.code()))
}

/// The status flags that the instruction `bytes` start with leaves undefined, by iced's tables. (A
/// shift whose count makes them defined is not told apart.)
pub fn undefined_flags(bytes: &[u8], bits: u32) -> RFlags {
    status_flags(
        Decoder::new(bits, bytes, DecoderOptions::NONE)
            .decode()
            .rflags_undefined(),
    )
}

/// The status flags that the instruction `bytes` start with may change, by iced's tables.
pub fn changed_flags(bytes: &[u8], bits: u32) -> RFlags {
    status_flags(
        Decoder::new(bits, bytes, DecoderOptions::NONE)
            .decode()
            .rflags_modified(),
    )
}

/// iced's set of flags as ours.
fn status_flags(bits: u32) -> RFlags {
    const FLAGS: [(u32, RFlags); 6] = [
        (RflagsBits::CF, RFlags::CF),
        (RflagsBits::PF, RFlags::PF),
        (RflagsBits::AF, RFlags::AF),
        (RflagsBits::ZF, RFlags::ZF),
        (RflagsBits::SF, RFlags::SF),
        (RflagsBits::OF, RFlags::OF),
    ];
    let set = FLAGS.iter().filter(|(theirs, _)| bits & theirs != 0);
    set.fold(RFlags::empty(), |all, (_, flag)| all | *flag)
}

/// The instruction that `bytes` start with as text, `rip` being its address, in code of 16, 32 or 64
/// bits; "(bad)" if they start with none.
pub fn disassemble(bytes: &[u8], bitness: u32, rip: u64) -> String {
    let insn = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE).decode();
    let mut text = String::new();
    FastFormatter::new().format(&insn, &mut text);
    text
}

/// Why no instruction was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The bytes at hand end before the instruction does.
    MoreBytes,
    /// No such instruction: #UD.
    Invalid,
    /// Longer than fifteen bytes: #GP(0).
    TooLong,
}

/// What a decoded instruction does to the block it stands in.
pub(crate) struct Decoded {
    pub insn: Insn,
    pub end: End,
}

/// Decoder options that follow from CPUID: what a processor without a feature makes of the
/// encoding is a matter of decoding.
fn options(model: &CpuModel) -> u32 {
    let mut options = DecoderOptions::AMD * u32::from(model.amd());
    if !model.has_lzcnt() {
        options |= DecoderOptions::NO_MPFX_0FBD;
    }
    if !model.has_bmi1() {
        options |= DecoderOptions::NO_MPFX_0FBC;
    }
    if !model.has(Feature::Wbnoinvd) {
        options |= DecoderOptions::NO_WBNOINVD;
    }
    // Hints and prefetches do nothing here, with or without their CPUID bits; CET and MPX, which
    // use the same opcodes, are in no model.
    options |= DecoderOptions::FORCE_RESERVED_NOP;
    options
}

/// The LOCK prefix.
const LOCK: u8 = 0xF0;

/// Decodes the instruction at the start of `bytes`, `offset` bytes into its block.
pub(crate) fn decode(
    model: &CpuModel,
    mode: Mode,
    bytes: &[u8],
    offset: u16,
) -> Result<(Decoded, Instruction), DecodeError> {
    let bitness = mode.code.bits();
    // Decoded as if the block began at address 0: relative targets come out relative to it.
    let mut decoder = Decoder::with_ip(bitness, bytes, u64::from(offset), options(model));
    let mut iced = Instruction::default();
    decoder.decode_out(&mut iced);
    if iced.is_invalid() {
        return Err(match decoder.last_error() {
            DecoderError::NoMoreBytes => DecodeError::MoreBytes,
            _ if too_long(bitness, bytes, options(model)) => DecodeError::TooLong,
            _ => DecodeError::Invalid,
        });
    }
    if moves_control_register(iced.code()) && bytes[..prefixes(bitness, bytes)].contains(&LOCK) {
        // CR8 by LOCK MOV CR0 (AMD APM volume 3, MOV CRn) is in no model's CPUID.
        return Err(DecodeError::Invalid);
    }
    if iced.code() == Code::Pause && bitness == 64 {
        exchange_r8(&mut iced, bytes);
    }
    let row = insn::row(iced.code());
    let mut decoded = compact(&iced, row, model, mode, offset);
    if let [opcode @ 0xD8..=0xDF, modrm, ..] = bytes[prefixes(bitness, bytes)..] {
        decoded.insn.imm = i32::from(opcode & 7) << 8 | i32::from(modrm);
    }
    Ok((decoded, iced))
}

fn moves_control_register(code: Code) -> bool {
    matches!(
        code,
        Code::Mov_r32_cr | Code::Mov_cr_r32 | Code::Mov_r64_cr | Code::Mov_cr_r64
    )
}

/// With REX.B, 90 is XCHG of RAX and R8 whatever REP says; iced calls that PAUSE.
#[cold]
fn exchange_r8(iced: &mut Instruction, bytes: &[u8]) {
    let prefixes = &bytes[..iced.len() - 1];
    let Some(&rex) = prefixes.last().filter(|&&byte| byte & 0xF1 == 0x41) else {
        return;
    };
    let (code, r8, rax) = if rex & 8 != 0 {
        (Code::Xchg_r64_RAX, Register::R8, Register::RAX)
    } else if prefixes.contains(&0x66) {
        (Code::Xchg_r16_AX, Register::R8W, Register::AX)
    } else {
        (Code::Xchg_r32_EAX, Register::R8D, Register::EAX)
    };
    iced.set_code(code);
    iced.set_op0_register(r8);
    iced.set_op1_register(rax);
}

/// How many of `bytes` are prefixes.
fn prefixes(bitness: u32, bytes: &[u8]) -> usize {
    let prefix = |byte: u8| {
        segment_prefix(byte)
            || rex(bitness, byte)
            || matches!(byte, 0x66 | 0x67 | 0xF0 | 0xF2 | 0xF3)
    };
    bytes.iter().take_while(|&&byte| prefix(byte)).count()
}

const fn segment_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65)
}

const fn rex(bitness: u32, byte: u8) -> bool {
    bitness == 64 && byte & 0xF0 == 0x40
}

/// `bytes`, which are no instruction, without a prefix that means nothing. iced calls everything
/// invalid that does not end within fifteen bytes; of fourteen it says that more are missing. Every
/// instruction so long has such a prefix.
#[cold]
pub(crate) fn shortened(bitness: u32, bytes: &[u8]) -> Option<[u8; MAX_LEN - 1]> {
    let bytes = bytes.get(..MAX_LEN)?;
    let run = prefixes(bitness, bytes);
    let idle = |&k: &usize| {
        let (this, behind) = (bytes[k], &bytes[k + 1..run]);
        segment_prefix(this) || behind.contains(&this) || rex(bitness, this) && !behind.is_empty()
    };
    let spare = (0..run).find(idle)?;
    let mut rest = [0; MAX_LEN - 1];
    rest[..spare].copy_from_slice(&bytes[..spare]);
    rest[spare..].copy_from_slice(&bytes[spare + 1..]);
    Some(rest)
}

/// Whether `bytes`, which are no instruction, are the start of one of more than fifteen bytes.
#[cold]
fn too_long(bitness: u32, bytes: &[u8], options: u32) -> bool {
    shortened(bitness, bytes).is_some_and(|rest| {
        let mut decoder = Decoder::with_ip(bitness, &rest, 0, options);
        decoder.decode_out(&mut Instruction::default());
        decoder.last_error() == DecoderError::NoMoreBytes
    })
}

/// What a processor makes of `bytes`, which are no instruction, when it cannot fetch what follows
/// them: #UD if it knows so much by now, more bytes if it wants to see the end first.
#[cold]
pub(crate) fn cut_off(model: &CpuModel, mode: Mode, bytes: &[u8]) -> DecodeError {
    let bitness = mode.code.bits();
    let (prefixes, rest) = bytes.split_at(prefixes(bitness, bytes));
    let far_pointer = if prefixes.contains(&0x66) { 4 } else { 6 };
    // Opcodes that are not there have the operands of others: one of the same length stands in.
    let (opcode, other) = match rest {
        [] | [0x0F] | [0x0F, 0x38 | 0x3A] => return DecodeError::MoreBytes,
        [0xC4 | 0xC5 | 0x62, ..] if bitness == 64 => return DecodeError::MoreBytes,
        // The x87's register forms end here; iced says otherwise of some that are not there.
        // UD1 and UD0 are known by their opcodes.
        [0xD8..=0xDF, 0xC0..=0xFF] | [0x0F, 0xB9 | 0xFF, ..] => return DecodeError::Invalid,
        [0x9A | 0xEA, ..] if rest.len() <= far_pointer => return DecodeError::MoreBytes,
        [0x82, ..] => (1, Some(0x80)),
        [0xD4 | 0xD5, ..] => (1, Some(0xB0)),
        [0x0F, 0x38, ..] => (3, Some(0x8B)),
        [0x0F, 0x3A, ..] => (3, Some(0x6B)),
        // There with F3 only.
        [0x0F, 0xB8, ..] => (2, Some(0x8B)),
        [0x0F, ..] => (2, None),
        _ => (1, None),
    };
    let tail = |keep: fn(u8) -> bool| {
        let mut start = prefixes.to_vec();
        start.retain(|&byte| keep(byte));
        match other {
            Some(other) => start.push(other),
            None => start.extend(&rest[..opcode]),
        }
        let modrm = start.len();
        start.extend(&rest[opcode..]);
        wants_more(model, mode, &start, modrm)
    };
    // LOCK makes nothing shorter, nor does a prefix that an opcode does not go with.
    let wanting = tail(|byte| byte != 0xF0)
        || rest[0] == 0x0F && tail(|byte| !matches!(byte, 0xF0 | 0xF2 | 0xF3 | 0x66));
    if wanting {
        DecodeError::MoreBytes
    } else {
        DecodeError::Invalid
    }
}

/// Whether the instruction that starts with `bytes` is longer, by itself or as a member of its
/// group, the operands of which begin at `modrm`.
fn wants_more(model: &CpuModel, mode: Mode, bytes: &[u8], modrm: usize) -> bool {
    // A member of a group that is not there is as long as the others.
    let as_member = || {
        modrm < bytes.len()
            && (0..8).any(|member| {
                let mut other = bytes.to_vec();
                other[modrm] = other[modrm] & 0xC7 | member << 3;
                let decoded = decode(model, mode, &other, 0);
                matches!(decoded, Err(DecodeError::MoreBytes))
            })
    };
    let by_itself = || {
        (0..=u8::MAX).any(|next| {
            let mut whole = [next; MAX_LEN];
            whole[..bytes.len()].copy_from_slice(bytes);
            !matches!(decode(model, mode, &whole, 0), Err(DecodeError::Invalid))
        })
    };
    match decode(model, mode, bytes, 0) {
        Ok(_) => false,
        Err(DecodeError::Invalid) => as_member(),
        Err(_) => by_itself() || as_member(),
    }
}

fn compact(
    iced: &Instruction,
    row: Option<&Row>,
    model: &CpuModel,
    mode: Mode,
    offset: u16,
) -> Decoded {
    let next = offset + iced.len() as u16;
    let mut insn = Insn {
        step: insn::UNDEFINED,
        disp: 0,
        imm: 0,
        r: [0; 3],
        base: ZERO as u8,
        index: ZERO as u8,
        address: 0,
        len: iced.len() as u8,
        attributes: 0,
        code: iced.code() as u16,
        next,
    };
    let supported = iced.cpuid_features().iter().all(|&f| model.supports(f));
    let Some(row) = row.filter(|_| supported) else {
        return Decoded {
            insn,
            end: End::Branch,
        };
    };
    for k in 0..iced.op_count().min(3) {
        operand(&mut insn, iced, k);
    }
    memory(&mut insn, iced, mode);
    if row.folds {
        fold_base(&mut insn, iced);
    }
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    insn.step = (row.select)(iced);
    let repeats =
        iced.is_string_instruction() && (iced.has_rep_prefix() || iced.has_repne_prefix());
    let end = match iced.flow_control() {
        _ if repeats => End::Branch,
        FlowControl::Next | FlowControl::Exception => row.end,
        _ if row.end == End::Maybe => End::Maybe,
        _ => End::Branch,
    };
    insn.attributes = flag(iced.has_lock_prefix(), Insn::LOCK)
        | flag(iced.has_rep_prefix(), Insn::REP)
        | flag(iced.has_repne_prefix(), Insn::REPNE)
        | flag(matches!(end, End::Branch | End::Maybe), Insn::BRANCHES);
    Decoded { insn, end }
}

/// Takes over operand `k` where it is a register, an immediate or a branch target.
fn operand(insn: &mut Insn, iced: &Instruction, k: u32) {
    match iced.op_kind(k) {
        OpKind::Register => insn.r[k as usize] = register(iced.op_register(k)),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            insn.disp = branch_offset(iced);
        }
        OpKind::FarBranch16 => {
            insn.imm = i32::from(iced.far_branch16());
            insn.disp = i64::from(iced.far_branch_selector());
        }
        OpKind::FarBranch32 => {
            insn.imm = iced.far_branch32() as i32;
            insn.disp = i64::from(iced.far_branch_selector());
        }
        OpKind::Immediate64 => insn.disp = iced.immediate64() as i64,
        OpKind::Immediate8_2nd => insn.disp = i64::from(iced.immediate8_2nd()),
        OpKind::Memory => {}
        _ => {
            if let Ok(value) = iced.try_immediate(k) {
                insn.imm = value as i32;
            }
        }
    }
}

/// The distance of a relative branch's target from the block's first instruction, before any
/// truncation to the operand size. iced gives the target truncated: it is sign-extended again.
fn branch_offset(iced: &Instruction) -> i64 {
    match iced.op0_kind() {
        OpKind::NearBranch16 => i64::from(iced.near_branch16() as i16),
        OpKind::NearBranch32 => i64::from(iced.near_branch32() as i32),
        _ => iced.near_branch64() as i64,
    }
}

/// A register field's number.
fn register(register: Register) -> u8 {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            (register as u8 - Register::AH as u8) | HIGH_BYTE
        }
        Register::RIP | Register::EIP => RIP as u8,
        Register::None => ZERO as u8,
        // iced numbers SPL to DIL and R8L to R15L behind AH to BH.
        _ => register.full_register().number() as u8,
    }
}

/// Takes over the memory operand, if there is one.
fn memory(insn: &mut Insn, iced: &Instruction, mode: Mode) {
    let size = match iced.memory_size() {
        // String instructions, MASKMOVQ and XLAT name their address size by their implied registers.
        _ if iced.is_string_instruction() || implies_rdi(iced) || iced.code() == Code::Xlat_m8 => {
            string_address_size(iced)
        }
        _ => match iced.memory_base().size().max(iced.memory_index().size()) {
            0 => match iced.memory_displ_size() {
                2 => 0,
                4 => 1,
                8 => 2,
                _ => mode.code as u8,
            },
            2 => 0,
            4 => 1,
            _ => 2,
        },
    };
    let base = iced.memory_base();
    insn.base = register(base);
    insn.index = register(iced.memory_index());
    if (0..iced.op_count()).any(|k| iced.op_kind(k) == OpKind::Memory) {
        insn.disp = match (base, iced.memory_displ_size()) {
            // iced has already added the (block-relative) address of the next instruction.
            (Register::RIP, _) | (_, 8) => iced.memory_displacement64() as i64,
            (Register::EIP, _) => i64::from(iced.memory_displacement64() as i32),
            (_, 2) => i64::from(iced.memory_displacement64() as i16),
            _ => i64::from(iced.memory_displacement64() as i32),
        };
    }
    let seg = segment(iced, base, mode);
    let flat = mode.code == CodeSize::Bits64 || mode.flat && matches!(seg, 0 | 2 | 3);
    let scale = iced.memory_index_scale().trailing_zeros() as u8;
    insn.address = scale | seg << 2 | size << 5 | u8::from(!flat) << 7;
}

/// Whether the memory operand, if there is one, is reached by its 64-bit address alone: no mask, and
/// no segment base but one that can be folded ([`Row::folds`]). In 64-bit code, so that the stack is
/// too.
pub(crate) fn is_flat(iced: &Instruction) -> bool {
    let (base, index) = (iced.memory_base(), iced.memory_index());
    let wide = match base.size().max(index.size()) {
        0 => iced.memory_displ_size() != 4,
        size => size == 8,
    };
    let free = base == Register::None || index == Register::None;
    iced.code_size() == iced_x86::CodeSize::Code64 && wide && (free || !has_base(iced))
}

/// Whether the memory operand lies in FS or GS, whose bases count in 64-bit mode.
pub(crate) fn has_base(iced: &Instruction) -> bool {
    matches!(iced.memory_segment(), Register::FS | Register::GS)
}

/// Makes the base of FS or GS a part of the address, in the place of a register that is not there.
fn fold_base(insn: &mut Insn, iced: &Instruction) {
    if !has_base(iced) || !is_flat(iced) {
        return;
    }
    let base = (BASES + insn.seg()) as u8;
    if iced.memory_index() == Register::None {
        insn.index = base;
        insn.address &= !3;
    } else {
        insn.base = base;
    }
    insn.address = insn.address & !(7 << 2) | (Seg::Ds as u8) << 2;
}

/// The memory operand's segment. 64-bit mode ignores overrides by ES, CS, SS and DS: what is left is
/// the base register's default, which chooses between #SS and #GP.
fn segment(iced: &Instruction, base: Register, mode: Mode) -> u8 {
    let given = match iced.memory_segment() {
        Register::None => Register::DS,
        segment => segment,
    };
    let ignored = mode.code == CodeSize::Bits64 && !matches!(given, Register::FS | Register::GS);
    if !ignored || iced.is_string_instruction() {
        return given.number() as u8;
    }
    match base.full_register() {
        Register::RSP | Register::RBP => Seg::Ss as u8,
        _ => Seg::Ds as u8,
    }
}

/// Whether operand 0 is memory at the rDI of MASKMOVQ and MASKMOVDQU.
fn implies_rdi(iced: &Instruction) -> bool {
    use OpKind::{MemorySegDI, MemorySegEDI, MemorySegRDI};
    matches!(iced.op0_kind(), MemorySegDI | MemorySegEDI | MemorySegRDI)
}

/// The address size of a string instruction, by the registers it implies.
fn string_address_size(iced: &Instruction) -> u8 {
    let by_kind = |k: u32| match iced.op_kind(k) {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => Some(0),
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => Some(1),
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => Some(2),
        _ => None,
    };
    (0..iced.op_count())
        .find_map(by_kind)
        .unwrap_or_else(|| match iced.memory_base().size() {
            2 => 0,
            4 => 1,
            _ => 2,
        })
}
