//! The registers as gdb numbers and names them, in three forms.
//!
//! Names, widths and order are those QEMU's stub uses (`i386-64bit.xml`, `i386-32bit.xml`), so that
//! scripts made for it work: general registers, RIP, EFLAGS, selectors, bases of FS and GS, control
//! registers, x87, SSE. Behind these stand the bases of the other segments, which QEMU does not tell.
//! x87 and SSE registers are in the features gdb knows them by.

use std::fmt::Write as _;

use accel::CpuState;
use emu::arch::{Cr0, Cr4, Efer, RFlags, Seg, Segment};

use crate::inspect::Memory;

/// How gdb sees the processor. The engine does not care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 32-bit registers, code is 16-bit.
    I8086,
    /// 32-bit registers, code is 32-bit.
    I386,
    /// 64-bit registers; a processor that is not in 64-bit mode shows them too.
    X86_64,
}

impl Form {
    /// All, by the names gdb has for them.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("i8086", Self::I8086),
        ("i386", Self::I386),
        ("x86-64", Self::X86_64),
    ];

    /// The form of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, form)| *form)
    }

    fn wide(self) -> bool {
        self == Self::X86_64
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::I8086 => "i8086",
            Self::I386 => "i386",
            Self::X86_64 => "i386:x86-64",
        }
    }
}

/// What a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Gpr(usize),
    Rip,
    Flags,
    Selector(Seg),
    Base(Seg),
    KernelGsBase,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
    Efer,
    St(usize),
    Fpu(Word),
    Xmm(usize),
    Mxcsr,
}

/// Words of the x87's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Control,
    Status,
    Tags,
    CodeSelector,
    CodeOffset,
    DataSelector,
    DataOffset,
    Opcode,
}

/// Features of gdb's, and one of ours.
const CORE: &str = "org.gnu.gdb.i386.core";
const SSE: &str = "org.gnu.gdb.i386.sse";
const SEGMENTS: &str = "org.gnu.gdb.i386.segments";
const SYSTEM: &str = "org.twin86.system";

/// One register.
struct Register {
    name: String,
    bits: u32,
    kind: &'static str,
    group: Option<&'static str>,
    feature: &'static str,
    what: What,
}

/// The processor as registers show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    /// Its state.
    pub state: CpuState,
    /// CR8, which the local APIC keeps.
    pub cr8: u8,
}

/// A register cannot be set so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// All registers of a form.
pub struct Layout {
    form: Form,
    registers: Vec<Register>,
}

const GPR_64: [(&str, usize); 16] = [
    ("rax", 0),
    ("rbx", 3),
    ("rcx", 1),
    ("rdx", 2),
    ("rsi", 6),
    ("rdi", 7),
    ("rbp", 5),
    ("rsp", 4),
    ("r8", 8),
    ("r9", 9),
    ("r10", 10),
    ("r11", 11),
    ("r12", 12),
    ("r13", 13),
    ("r14", 14),
    ("r15", 15),
];
const GPR_32: [(&str, usize); 8] = [
    ("eax", 0),
    ("ecx", 1),
    ("edx", 2),
    ("ebx", 3),
    ("esp", 4),
    ("ebp", 5),
    ("esi", 6),
    ("edi", 7),
];
const SELECTORS: [(&str, Seg); 6] = [
    ("cs", Seg::Cs),
    ("ss", Seg::Ss),
    ("ds", Seg::Ds),
    ("es", Seg::Es),
    ("fs", Seg::Fs),
    ("gs", Seg::Gs),
];
const FPU: [(&str, Word); 8] = [
    ("fctrl", Word::Control),
    ("fstat", Word::Status),
    ("ftag", Word::Tags),
    ("fiseg", Word::CodeSelector),
    ("fioff", Word::CodeOffset),
    ("foseg", Word::DataSelector),
    ("fooff", Word::DataOffset),
    ("fop", Word::Opcode),
];

/// Bits of flag registers, for gdb to print.
type Flags = (&'static str, u32, &'static [(&'static str, u32)]);

#[rustfmt::skip]
const FLAGS: [Flags; 5] = [
    ("eflags_bits", 4, &[
        ("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11),
        ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
    ]),
    ("cr0_bits", 0, &[
        ("PE", 0), ("MP", 1), ("EM", 2), ("TS", 3), ("ET", 4), ("NE", 5), ("WP", 16), ("AM", 18), ("NW", 29),
        ("CD", 30), ("PG", 31),
    ]),
    ("cr4_bits", 0, &[
        ("VME", 0), ("PVI", 1), ("TSD", 2), ("DE", 3), ("PSE", 4), ("PAE", 5), ("MCE", 6), ("PGE", 7), ("PCE", 8),
        ("OSFXSR", 9), ("OSXMMEXCPT", 10), ("UMIP", 11), ("LA57", 12), ("VMXE", 13), ("SMXE", 14),
        ("FSGSBASE", 16), ("PCIDE", 17), ("OSXSAVE", 18), ("SMEP", 20), ("SMAP", 21), ("PKE", 22),
    ]),
    ("efer_bits", 0, &[("SCE", 0), ("LME", 8), ("LMA", 10), ("NXE", 11)]),
    ("mxcsr_bits", 4, &[
        ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7), ("DM", 8), ("ZM", 9),
        ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
    ]),
];

/// The type of an SSE register.
const VECTOR: &str = "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\
    <vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>\
    <vector id=\"v16i8\" type=\"int8\" count=\"16\"/>\
    <vector id=\"v8i16\" type=\"int16\" count=\"8\"/>\
    <vector id=\"v4i32\" type=\"int32\" count=\"4\"/>\
    <vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\
    <union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>\
    <field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>\
    <field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>\
    <field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";

impl Layout {
    /// The registers of a form.
    pub fn new(form: Form) -> Self {
        let mut layout = Self {
            form,
            registers: Vec::new(),
        };
        layout.add_core();
        layout.add_system();
        layout.add_fpu();
        layout.add_sse();
        for seg in [Seg::Cs, Seg::Ss, Seg::Ds, Seg::Es] {
            let name = SELECTORS.iter().find(|(_, s)| *s == seg).map(|(n, _)| n);
            let name = format!("{}_base", name.unwrap_or(&""));
            layout.add(SYSTEM, &name, layout.word(), "int", What::Base(seg));
        }
        layout
    }

    /// Bits of a general register.
    fn word(&self) -> u32 {
        if self.form.wide() { 64 } else { 32 }
    }

    fn add(
        &mut self,
        feature: &'static str,
        name: &str,
        bits: u32,
        kind: &'static str,
        what: What,
    ) {
        let group = match what {
            What::Fpu(_) => Some("float"),
            What::Mxcsr => Some("vector"),
            _ => None,
        };
        self.registers.push(Register {
            name: name.to_string(),
            bits,
            kind,
            group,
            feature,
            what,
        });
    }

    fn add_core(&mut self) {
        let wide = self.form.wide();
        let word = self.word();
        let (gprs, ip): (&[_], _) = if wide {
            (&GPR_64, "rip")
        } else {
            (&GPR_32, "eip")
        };
        for &(name, index) in gprs {
            let kind = match (index, wide) {
                (4 | 5, true) | (4, false) => "data_ptr",
                (_, true) => "int64",
                (_, false) => "int32",
            };
            self.add(CORE, name, word, kind, What::Gpr(index));
        }
        self.add(CORE, ip, word, "code_ptr", What::Rip);
        self.add(CORE, "eflags", 32, "eflags_bits", What::Flags);
        for (name, seg) in SELECTORS {
            self.add(CORE, name, 32, "int32", What::Selector(seg));
        }
    }

    fn add_system(&mut self) {
        let word = self.word();
        let (segments, kind) = if self.form.wide() {
            (SEGMENTS, "int64")
        } else {
            // gdb knows these in its 64-bit form only.
            (SYSTEM, "int32")
        };
        self.add(segments, "fs_base", word, kind, What::Base(Seg::Fs));
        self.add(segments, "gs_base", word, kind, What::Base(Seg::Gs));
        for (name, kind, what) in [
            ("k_gs_base", kind, What::KernelGsBase),
            ("cr0", "cr0_bits", What::Cr0),
            ("cr2", kind, What::Cr2),
            ("cr3", kind, What::Cr3),
            ("cr4", "cr4_bits", What::Cr4),
            ("cr8", kind, What::Cr8),
            ("efer", "efer_bits", What::Efer),
        ] {
            self.add(SYSTEM, name, word, kind, what);
        }
    }

    fn add_fpu(&mut self) {
        for n in 0..8 {
            self.add(CORE, &format!("st{n}"), 80, "i387_ext", What::St(n));
        }
        for (name, word) in FPU {
            self.add(CORE, name, 32, "int", What::Fpu(word));
        }
    }

    fn add_sse(&mut self) {
        let count = if self.form.wide() { 16 } else { 8 };
        for n in 0..count {
            self.add(SSE, &format!("xmm{n}"), 128, "vec128", What::Xmm(n));
        }
        self.add(SSE, "mxcsr", 32, "mxcsr_bits", What::Mxcsr);
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// gdb's target description.
    pub fn description(&self) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>",
        );
        let architecture = self.form.architecture();
        // Writing to a string does not fail.
        let _ = write!(xml, "<architecture>{architecture}</architecture>");
        for feature in [CORE, SSE, SEGMENTS, SYSTEM] {
            self.describe(&mut xml, feature);
        }
        xml.push_str("</target>");
        xml
    }

    fn describe(&self, xml: &mut String, feature: &str) {
        let numbered = || self.registers.iter().enumerate();
        let mut of_feature = numbered().filter(|(_, r)| r.feature == feature).peekable();
        if of_feature.peek().is_none() {
            return;
        }
        let _ = write!(xml, "<feature name=\"{feature}\">");
        if feature == SSE {
            xml.push_str(VECTOR);
        }
        for (id, size, bits) in FLAGS {
            if !numbered().any(|(_, r)| r.feature == feature && r.kind == id) {
                continue;
            }
            let size = if size == 0 { self.word() / 8 } else { size };
            let _ = write!(xml, "<flags id=\"{id}\" size=\"{size}\">");
            for (name, bit) in bits {
                let _ = write!(
                    xml,
                    "<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>"
                );
            }
            xml.push_str("</flags>");
        }
        for (number, r) in of_feature {
            let (name, bits, kind) = (&r.name, r.bits, r.kind);
            let _ = write!(
                xml,
                "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\" regnum=\"{number}\""
            );
            if let Some(group) = r.group {
                let _ = write!(xml, " group=\"{group}\"");
            }
            xml.push_str("/>");
        }
        xml.push_str("</feature>");
    }

    /// Bytes of all registers.
    pub fn read_all(&self, processor: &Processor) -> Vec<u8> {
        let numbers = 0..self.registers.len();
        numbers
            .filter_map(|n| self.read(processor, n))
            .flatten()
            .collect()
    }

    /// Bytes of one register.
    pub fn read(&self, processor: &Processor, number: usize) -> Option<Vec<u8>> {
        let register = self.registers.get(number)?;
        let value = get(processor, register.what).to_le_bytes();
        Some(value[..register.bits as usize / 8].to_vec())
    }

    /// Sets all registers.
    ///
    /// # Errors
    /// If there are too few bytes, or a register refuses; those before it are then set.
    pub fn write_all(
        &self,
        processor: &mut Processor,
        memory: &Memory,
        mut bytes: &[u8],
    ) -> Result<(), Refused> {
        for (number, register) in self.registers.iter().enumerate() {
            let len = register.bits as usize / 8;
            let (value, rest) = bytes.split_at_checked(len).ok_or(Refused)?;
            if self.read(processor, number).as_deref() != Some(value) {
                self.write(processor, memory, number, value)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Sets one register.
    ///
    /// # Errors
    /// If there is none, or it cannot have that value.
    pub fn write(
        &self,
        processor: &mut Processor,
        memory: &Memory,
        number: usize,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let register = self.registers.get(number).ok_or(Refused)?;
        if bytes.len() != register.bits as usize / 8 {
            return Err(Refused);
        }
        let mut value = get(processor, register.what).to_le_bytes();
        value[..bytes.len()].copy_from_slice(bytes);
        set(processor, memory, register.what, u128::from_le_bytes(value))
    }
}

/// x87 tag of a register that is empty.
const EMPTY: u16 = 3;

/// The full tag of physical register `n`: valid, zero, special or empty. SDM Vol. 1, "x87 FPU Tag Word".
fn tag(state: &CpuState, n: usize) -> u16 {
    if state.fpu.ftw >> n & 1 == 0 {
        return EMPTY;
    }
    match state.fpu.regs[n] {
        (0, exponent) if exponent & 0x7FFF == 0 => 1,
        (_, exponent) if matches!(exponent & 0x7FFF, 0 | 0x7FFF) => 2,
        (significand, _) if significand >> 63 == 0 => 2,
        _ => 0,
    }
}

/// The physical register that ST(n) is.
fn physical(state: &CpuState, n: usize) -> usize {
    (usize::from(state.fpu.fsw >> 11) + n) % 8
}

fn get_fpu(state: &CpuState, word: Word) -> u32 {
    let fpu = &state.fpu;
    match word {
        Word::Control => fpu.fcw.into(),
        Word::Status => fpu.fsw.into(),
        Word::Tags => (0..8).fold(0, |tags, n| tags | u32::from(tag(state, n)) << (2 * n)),
        Word::CodeSelector => fpu.fcs.into(),
        Word::CodeOffset => fpu.fip as u32,
        Word::DataSelector => fpu.fds.into(),
        Word::DataOffset => fpu.fdp as u32,
        Word::Opcode => fpu.fop.into(),
    }
}

fn get(processor: &Processor, what: What) -> u128 {
    let state = &processor.state;
    let word = match what {
        What::St(n) => {
            let (significand, exponent) = state.fpu.regs[physical(state, n)];
            return u128::from(exponent) << 64 | u128::from(significand);
        }
        What::Xmm(n) => return u128::from_le_bytes(state.fpu.xmm[n]),
        What::Gpr(n) => state.gpr[n],
        What::Rip => state.rip,
        What::Flags => state.rflags.bits(),
        What::Selector(seg) => state.segments[seg as usize].selector.into(),
        What::Base(seg) => state.segments[seg as usize].base,
        What::KernelGsBase => state.msrs.kernel_gs_base,
        What::Cr0 => state.cr0.bits(),
        What::Cr2 => state.cr2,
        What::Cr3 => state.cr3,
        What::Cr4 => state.cr4.bits(),
        What::Cr8 => processor.cr8.into(),
        What::Efer => state.efer.bits(),
        What::Fpu(word) => get_fpu(state, word).into(),
        What::Mxcsr => state.fpu.mxcsr.into(),
    };
    word.into()
}

fn set_fpu(state: &mut CpuState, word: Word, value: u32) {
    let fpu = &mut state.fpu;
    match word {
        Word::Control => fpu.fcw = value as u16,
        Word::Status => fpu.fsw = value as u16,
        Word::Tags => {
            let full = |n: &usize| value >> (2 * n) & 3 != u32::from(EMPTY);
            fpu.ftw = (0..8).filter(full).fold(0, |bits, n| bits | 1 << n);
        }
        Word::CodeSelector => fpu.fcs = value as u16,
        Word::CodeOffset => fpu.fip = fpu.fip >> 32 << 32 | u64::from(value),
        Word::DataSelector => fpu.fds = value as u16,
        Word::DataOffset => fpu.fdp = fpu.fdp >> 32 << 32 | u64::from(value),
        Word::Opcode => fpu.fop = value as u16 & 0x7FF,
    }
}

fn set(processor: &mut Processor, memory: &Memory, what: What, value: u128) -> Result<(), Refused> {
    let state = &mut processor.state;
    let word = value as u64;
    match what {
        What::St(n) => {
            let n = physical(state, n);
            state.fpu.regs[n] = (word, (value >> 64) as u16);
        }
        What::Xmm(n) => state.fpu.xmm[n] = value.to_le_bytes(),
        What::Gpr(n) => state.gpr[n] = word,
        What::Rip => state.rip = word,
        What::Flags => set_flags(state, word)?,
        What::Selector(seg) => set_selector(state, memory, seg, word)?,
        What::Base(seg) => state.segments[seg as usize].base = word,
        What::KernelGsBase => state.msrs.kernel_gs_base = word,
        What::Cr2 => state.cr2 = word,
        What::Cr8 => processor.cr8 = u8::try_from(word).ok().filter(|v| *v < 16).ok_or(Refused)?,
        What::Fpu(word) => set_fpu(state, word, value as u32),
        What::Mxcsr => state.fpu.mxcsr = value as u32 & 0xFFFF,
        What::Cr0 | What::Cr3 | What::Cr4 | What::Efer => set_paging(state, memory, what, word)?,
    }
    Ok(())
}

/// Bits of RFLAGS that can be written. Virtual-8086 mode is entered by IRET, not by gdb.
fn set_flags(state: &mut CpuState, value: u64) -> Result<(), Refused> {
    const WRITABLE: u64 = 0x3D_7FD5;
    let kept = state.rflags.bits() & !WRITABLE;
    if (value ^ kept) & RFlags::VM.bits() != 0 {
        return Err(Refused);
    }
    state.rflags = RFlags::from_bits_retain(value & WRITABLE | kept);
    Ok(())
}

/// Loads a segment register: as real mode does, or from its descriptor.
fn set_selector(
    state: &mut CpuState,
    memory: &Memory,
    seg: Seg,
    value: u64,
) -> Result<(), Refused> {
    let selector = u16::try_from(value).map_err(|_| Refused)?;
    let real = !state.cr0.contains(Cr0::PE) || state.rflags.contains(RFlags::VM);
    let segment = &mut state.segments[seg as usize];
    if real {
        segment.selector = selector;
        segment.base = u64::from(selector) << 4;
        return Ok(());
    }
    if selector & !3 == 0 {
        if matches!(seg, Seg::Cs | Seg::Ss) {
            return Err(Refused);
        }
        *segment = Segment {
            selector,
            base: 0,
            limit: 0,
            access: Segment::UNUSABLE,
        };
        return Ok(());
    }
    let ldt = state.segments[Seg::Ldtr as usize];
    let (base, limit) = if selector & 4 == 0 {
        (state.gdtr.base, u32::from(state.gdtr.limit))
    } else {
        (ldt.base, ldt.limit)
    };
    let at = u32::from(selector & !7);
    let mut raw = [0; 8];
    if at + 7 > limit || memory.read(base.wrapping_add(at.into()), &mut raw) < raw.len() {
        return Err(Refused);
    }
    let found = Segment::from_descriptor(selector, u64::from_le_bytes(raw));
    if !found.has(Segment::P)
        || !found.has(Segment::S)
        || found.has(Segment::CODE) != (seg == Seg::Cs)
    {
        return Err(Refused);
    }
    state.segments[seg as usize] = found;
    Ok(())
}

/// Control registers, where their bits make sense together. IA-32e mode is entered and left by the
/// guest only.
fn set_paging(
    state: &mut CpuState,
    memory: &Memory,
    what: What,
    value: u64,
) -> Result<(), Refused> {
    let (mut cr0, mut cr4, mut efer) = (state.cr0, state.cr4, state.efer);
    let mut cr3 = state.cr3;
    match what {
        What::Cr0 => cr0 = Cr0::from_bits(value).ok_or(Refused)?,
        What::Cr3 => cr3 = value,
        What::Cr4 => cr4 = Cr4::from_bits(value).ok_or(Refused)?,
        _ => efer = Efer::from_bits(value).ok_or(Refused)?,
    }
    let long = cr0.contains(Cr0::PG) && efer.contains(Efer::LME);
    let consistent = (cr0.contains(Cr0::PE) || !cr0.contains(Cr0::PG))
        && (cr4.contains(Cr4::PAE) || !long)
        && efer.contains(Efer::LMA) == long
        && long == state.efer.contains(Efer::LMA)
        && cr0.contains(Cr0::PE) == state.cr0.contains(Cr0::PE)
        && cr4.contains(Cr4::LA57) == state.cr4.contains(Cr4::LA57);
    if !consistent {
        return Err(Refused);
    }
    (state.cr0, state.cr3, state.cr4, state.efer) = (cr0, cr3, cr4, efer);
    if cr0.contains(Cr0::PG) && cr4.contains(Cr4::PAE) && !long {
        for (n, entry) in state.pdpte.iter_mut().enumerate() {
            let mut raw = [0; 8];
            memory.read_physical((cr3 & 0xFFFF_FFE0) + 8 * n as u64, &mut raw);
            *entry = u64::from_le_bytes(raw);
        }
    }
    Ok(())
}
