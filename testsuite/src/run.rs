//! What goes into one run of a case, and what comes out of it: the words both sides share.

use emu::Exception;
use emu::arch::RFlags;
use emu::state::Fpu;
use iced_x86::{Decoder, Instruction};

use crate::layout::INT3;

/// The kind of code segment the case runs in, as 64-bit Linux has them; always CPL 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 64-bit code.
    Long64,
    /// 32-bit code under long mode, flat segments.
    Compat32,
}

impl Mode {
    /// Code size in bits, as the decoder wants it.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Long64 => 64,
            Self::Compat32 => 32,
        }
    }

    /// ES, CS, SS, DS, FS, GS as Linux's descriptor table has them.
    pub const fn selectors(self) -> [u16; 6] {
        match self {
            Self::Long64 => [0, 0x33, 0x2B, 0, 0, 0],
            Self::Compat32 => [0x2B, 0x23, 0x2B, 0x2B, 0, 0],
        }
    }
}

/// Everything the processor starts a case with.
#[derive(Clone, Debug)]
pub struct Input {
    /// Code segment.
    pub mode: Mode,
    /// The instructions; INT3 stands around them.
    pub code: Vec<u8>,
    /// Linear address of the first instruction.
    pub at: u64,
    /// General-purpose registers in encoding order.
    pub gpr: [u64; 16],
    /// Flags; IF is always set, NT, RF, ID and IOPL never.
    pub rflags: RFlags,
    /// Bases of FS and GS (64-bit code only).
    pub bases: [u64; 2],
    /// Bytes put into memory beforehand, by linear address.
    pub memory: Vec<(u64, Vec<u8>)>,
    /// x87 and SSE state; `None` is the state a process starts with, and is not compared.
    pub fpu: Option<Box<Fpu>>,
}

impl Input {
    /// `code` in the middle of the first code page, registers zero, stack in the data pages.
    pub fn new(mode: Mode, code: &[u8]) -> Self {
        let mut gpr = [0; 16];
        gpr[emu::arch::Gpr::Rsp as usize] = crate::layout::DATA + 0x800;
        Self {
            mode,
            code: code.to_vec(),
            at: crate::layout::CODE + 0x800,
            gpr,
            rflags: RFlags::FIXED | RFlags::IF,
            bases: [0; 2],
            memory: Vec::new(),
            fpu: None,
        }
    }

    /// Flags as every engine is started with them.
    pub fn start_flags(&self) -> RFlags {
        let free = RFlags::STATUS | RFlags::DF | RFlags::TF | RFlags::AC;
        self.rflags & free | RFlags::FIXED | RFlags::IF
    }

    /// The instructions as a decoder with `options` sees them; the last one may reach into the INT3s.
    pub fn decode(&self, options: u32) -> Vec<Instruction> {
        let mut bytes = self.code.clone();
        bytes.extend([INT3; 15]);
        let end = self.at + self.code.len() as u64;
        let decoder = Decoder::with_ip(self.mode.bits(), &bytes, self.at, options);
        decoder.into_iter().take_while(|i| i.ip() < end).collect()
    }

    /// Every piece of memory the case brings along, code included.
    pub fn patches(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let data = self.memory.iter().map(|(at, bytes)| (*at, &bytes[..]));
        data.chain([(self.at, &self.code[..])])
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By an exception: all regular ends are one, if only the INT3 after the code.
    Exception(Exception),
    /// Not at all within the time a case has.
    Hang,
    /// Otherwise than a case may: triple fault, HLT outside the handlers, engine error.
    Lost,
}

/// Everything that can be seen after a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub stop: Stop,
    /// General-purpose registers in encoding order.
    pub gpr: [u64; 16],
    /// Instruction pointer the exception pushed.
    pub rip: u64,
    /// Flags the exception pushed.
    pub rflags: RFlags,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// Bases of FS and GS.
    pub bases: [u64; 2],
    /// Memory that was changed: address and new value of each aligned eight bytes.
    pub memory: Vec<(u64, u64)>,
    /// x87 and SSE state.
    pub fpu: Box<Fpu>,
}

/// A line of text for each field in which outcomes differ, status flags in `ignore` aside.
pub fn differences(host: &Outcome, own: &Outcome, ignore: RFlags, fpu: bool) -> Vec<String> {
    let mut found = Vec::new();
    if host.stop != own.stop {
        found.push(format!("stop: host {:?}, own {:?}", host.stop, own.stop));
    }
    for (i, gpr) in emu::arch::Gpr::ALL.iter().enumerate() {
        if host.gpr[i] != own.gpr[i] {
            let (a, b) = (host.gpr[i], own.gpr[i]);
            found.push(format!("{gpr:?}: host {a:#x}, own {b:#x}"));
        }
    }
    if host.rip != own.rip {
        found.push(format!("rip: host {:#x}, own {:#x}", host.rip, own.rip));
    }
    let flags = (host.rflags ^ own.rflags) - ignore;
    if !flags.is_empty() {
        found.push(format!("rflags: {flags:?} (host {:?})", host.rflags));
    }
    macro_rules! field {
        ($($name:ident),*) => {$(
            if host.$name != own.$name {
                found.push(format!(
                    "{}: host {:x?}, own {:x?}", stringify!($name), host.$name, own.$name
                ));
            }
        )*};
    }
    field!(selectors, bases);
    if host.memory != own.memory {
        found.push(memory_difference(&host.memory, &own.memory));
    }
    if fpu {
        found.extend(fpu_differences(&host.fpu, &own.fpu));
    }
    found
}

/// A line for each register in which two x87 and SSE states differ.
fn fpu_differences(host: &Fpu, own: &Fpu) -> Vec<String> {
    let mut found = Vec::new();
    macro_rules! field {
        ($($name:ident),*) => {$(
            if host.$name != own.$name {
                found.push(format!(
                    "{}: host {:x?}, own {:x?}", stringify!($name), host.$name, own.$name
                ));
            }
        )*};
    }
    field!(fcw, fsw, ftw, fop, fip, fdp, fcs, fds, mxcsr);
    for (n, (a, b)) in host.regs.iter().zip(&own.regs).enumerate() {
        if a != b {
            found.push(format!("x87 register {n}: host {a:x?}, own {b:x?}"));
        }
    }
    for (n, (a, b)) in host.xmm.iter().zip(&own.xmm).enumerate() {
        if a != b {
            let (a, b) = (u128::from_le_bytes(*a), u128::from_le_bytes(*b));
            found.push(format!("xmm{n}: host {a:#034x}, own {b:#034x}"));
        }
    }
    found
}

/// The first word of memory in which two lists of changes part.
fn memory_difference(host: &[(u64, u64)], own: &[(u64, u64)]) -> String {
    let at = host.iter().zip(own).take_while(|(a, b)| a == b).count();
    format!(
        "memory: change {at}: host {:x?} of {}, own {:x?} of {}",
        host.get(at),
        host.len(),
        own.get(at),
        own.len()
    )
}
