//! One instruction in any mode and ring, on the interpreter and on KVM: whole states and all of
//! memory are compared.
//!
//! - this file: the case, and the two engines side by side
//! - [`world`]: memory and state that a case starts with
//! - [`engine`]: how each engine runs one
//! - [`generate`]: random cases of system and integer instructions
//! - [`known`]: what this host's partial KVM is known to do wrong
//! - [`campaign`]: many cases, a table, one JSON line for each that differs
//!
//! A case ends at a HLT: one stands behind the instruction and fills all code, and each exception
//! handler is one. What an exception pushed is in memory, which is compared, so vector, error code and
//! CR2 need no words of their own. Page-table entries that are there have A and D set already: KVM keeps
//! shadows of them, which cannot be told that they were put back. So A/D bits are not tested here, nor
//! are SSE and x87, which a partial KVM has only in 64-bit ring 3.

pub mod campaign;
pub mod engine;
pub mod generate;
pub mod known;
pub mod world;

use std::fmt::Write;

use emu::CpuState;
use emu::arch::RFlags;
use iced_x86::{Decoder, DecoderOptions, Instruction};

use engine::{End, KvmEngine, Refusal, Software};

/// A mode of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Real mode.
    Real,
    /// Virtual-8086.
    V86,
    /// Protected, 16-bit code, no paging.
    Prot16,
    /// Protected, 32-bit code, no paging.
    Prot32,
    /// 32-bit code with two-level paging.
    Paged32,
    /// 32-bit code with PAE paging.
    Pae,
    /// 32-bit code under long mode.
    Compat,
    /// 64-bit code.
    Long,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Real,
        Self::V86,
        Self::Prot16,
        Self::Prot32,
        Self::Paged32,
        Self::Pae,
        Self::Compat,
        Self::Long,
    ];

    /// Code size in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Real | Self::V86 | Self::Prot16 => 16,
            Self::Prot32 | Self::Paged32 | Self::Pae | Self::Compat => 32,
            Self::Long => 64,
        }
    }

    /// The rings there are.
    pub const fn rings(self) -> &'static [u8] {
        match self {
            Self::Real => &[0],
            Self::V86 => &[3],
            _ => &[0, 3],
        }
    }

    /// Whether a partial KVM has the mode at all.
    pub const fn on_partial(self) -> bool {
        !matches!(self, Self::V86 | Self::Paged32 | Self::Pae)
    }
}

/// One instruction and all it starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Mode.
    pub mode: Mode,
    /// Ring, one of [`Mode::rings`].
    pub cpl: u8,
    /// The instruction.
    pub code: Vec<u8>,
    /// General-purpose registers in encoding order.
    pub gpr: [u64; 16],
    /// Flags.
    pub rflags: u64,
    /// Bytes in memory, by linear address.
    pub memory: Vec<(u64, Vec<u8>)>,
}

impl Case {
    /// The flags as a processor in that mode may have them.
    pub fn flags(&self) -> RFlags {
        let mut flags = RFlags::from_bits_truncate(self.rflags) | RFlags::FIXED;
        flags -= RFlags::TF | RFlags::VM | RFlags::VIF | RFlags::VIP | RFlags::RF;
        flags.set(RFlags::VM, self.mode == Mode::V86);
        flags
    }

    /// As a decoder sees it.
    pub fn instruction(&self) -> Instruction {
        Decoder::with_ip(self.mode.bits(), &self.code, 0, DecoderOptions::NONE).decode()
    }

    /// The case as Rust, to paste into a test.
    pub fn paste(&self) -> String {
        let mut text = String::new();
        let (mode, cpl, code) = (self.mode, self.cpl, &self.code);
        let mut write = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap_or_default();
        write(format_args!("// {}\n", self.instruction()));
        write(format_args!(
            "Case {{ mode: Mode::{mode:?}, cpl: {cpl}, code: vec!{code:#04x?},"
        ));
        write(format_args!(
            " gpr: {:#x?}, rflags: {:#x}, memory: vec![",
            self.gpr, self.rflags
        ));
        for (at, bytes) in &self.memory {
            write(format_args!("({at:#x}, vec!{bytes:#04x?}),"));
        }
        write(format_args!("] }}"));
        text.replace(",\n    ", ", ")
            .replace("[\n    ", "[")
            .replace(",\n]", "]")
    }
}

/// What an engine made of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The state there, in canonical form.
    pub state: CpuState,
    /// Words of memory that changed.
    pub memory: Vec<(u64, u64)>,
}

/// A case run on both.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// All that can be seen is equal.
    Agree,
    /// It is more than one instruction, so it was not run on KVM.
    Astray,
    /// KVM refuses to run it.
    Refused(Refusal),
    /// The lines tell where: KVM first, ours second.
    Differ(Vec<String>),
}

/// KVM and the interpreter side by side.
pub struct Arena {
    kvm: KvmEngine,
    software: Software,
}

impl Arena {
    /// Opens KVM, and an interpreter with the processor model that KVM shows.
    ///
    /// # Errors
    /// If there is no KVM, or no memory.
    pub fn new() -> Result<Self, accel::AccelError> {
        let kvm = KvmEngine::new()?;
        let software = Software::new(kvm.model().clone())?;
        Ok(Self { kvm, software })
    }

    /// Whether this KVM runs only part of the modes.
    pub fn is_partial(&self) -> bool {
        self.kvm.is_partial()
    }

    /// Runs a case on both.
    ///
    /// # Errors
    /// If KVM breaks down, other than by refusing an instruction.
    pub fn compare(&mut self, case: &Case) -> Result<Verdict, accel::AccelError> {
        let ours = self.software.run(case);
        if matches!(ours.end, End::Hang | End::Astray) {
            return Ok(Verdict::Astray);
        }
        let mut theirs = self.kvm.run(case)?;
        if theirs.as_ref().err() == Some(&Refusal::Hang) {
            // A busy host may have kept it waiting.
            theirs = self.kvm.run(case)?;
        }
        let theirs = match theirs {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let lines = differences(&theirs, &ours);
        Ok(match lines.is_empty() {
            true => Verdict::Agree,
            false => Verdict::Differ(lines),
        })
    }

    /// A smaller case that differs in the same fields.
    ///
    /// # Errors
    /// As [`Arena::compare`].
    pub fn shrink(&mut self, case: &Case) -> Result<Case, accel::AccelError> {
        let mut best = case.clone();
        let Verdict::Differ(wanted) = self.compare(case)? else {
            return Ok(best);
        };
        let fields = |lines: &[String]| -> Vec<String> {
            let field = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
            lines.iter().map(field).collect()
        };
        let wanted = fields(&wanted);
        for smaller in 0..17 + case.memory.len() {
            let mut attempt = best.clone();
            match smaller {
                0..16 => attempt.gpr[smaller] = 0,
                16 => attempt.rflags = 2,
                _ if attempt.memory.is_empty() => break,
                _ => {
                    let last = attempt.memory.len() - 1;
                    attempt.memory.remove((smaller - 17).min(last));
                }
            }
            if matches!(self.compare(&attempt)?, Verdict::Differ(lines) if fields(&lines) == wanted)
            {
                best = attempt;
            }
        }
        Ok(best)
    }
}

/// A line for each field in which outcomes differ. After a triple fault nothing is defined.
fn differences(kvm: &Outcome, own: &Outcome) -> Vec<String> {
    if kvm.end != own.end {
        return vec![format!("end: {:?} / {:?}", kvm.end, own.end)];
    }
    if kvm.end != End::Halted {
        return Vec::new();
    }
    let mut found = kvm.state.differences(&own.state);
    if kvm.memory != own.memory {
        found.push(format!("memory: {:x?} / {:x?}", kvm.memory, own.memory));
    }
    found
}
