//! What can go wrong on the host side of an engine.

use std::fmt;
use std::io;

use emu::CpuState;
use emu::arch::{Cr0, Efer, Gpr, RFlags, Seg, Segment};

use crate::lockstep::Divergence;
use crate::reason::{Absence, Denial, ProbeFault};

/// A host-side failure. Guest faults are never here.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// The engine cannot be opened at all.
    #[error("{engine} is not available on this host: {source}")]
    Unavailable {
        /// The engine's name.
        engine: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine's device node does not exist.
    #[error("{path} does not exist: {why}")]
    NoNode {
        /// The node.
        path: &'static str,
        /// Why, as far as the host tells.
        why: Absence,
    },
    /// The engine's device node may not be opened by this user.
    #[error("{path} may not be opened by {why}")]
    Denied {
        /// The node.
        path: &'static str,
        /// Whom it refuses, and why.
        why: Denial,
    },
    /// The device node exists, but no driver answers.
    #[error("{path} exists, but no KVM answers: {why}")]
    NoModule {
        /// The node.
        path: &'static str,
        /// Why, as far as the host tells.
        why: Absence,
    },
    /// The device node is something else.
    #[error("{path} is not KVM: KVM_GET_API_VERSION: {source}")]
    NotKvm {
        /// The node.
        path: &'static str,
        /// What it answers.
        #[source]
        source: io::Error,
    },
    /// A few instructions did not run as on a processor.
    #[error("the start-up probe of KVM failed in {step}: {fault}")]
    Probe {
        /// The step, by the processor's mode.
        step: &'static str,
        /// What went wrong.
        #[source]
        fault: ProbeFault,
    },
    /// The kernel speaks another version of the KVM API.
    #[error("KVM API version {found}, this build needs {needed}")]
    ApiVersion {
        /// What the kernel says.
        found: i32,
        /// What is needed.
        needed: i32,
    },
    /// The kernel lacks a capability that the engine cannot do without.
    #[error("this kernel's KVM lacks {capability}")]
    Capability {
        /// The capability, as the KVM API names it.
        capability: &'static str,
    },
    /// More memory slots are needed than the kernel has.
    #[error("the memory map needs {needed} slots, KVM has {limit}")]
    Slots {
        /// Slots the map needs.
        needed: usize,
        /// Slots there are.
        limit: usize,
    },
    /// A KVM without virtualisation hardware cannot do that.
    #[error("a KVM without virtualisation hardware has no {what}")]
    PartialKvm {
        /// What is missing.
        what: &'static str,
    },
    /// A debugger wants more watched than the processor can.
    #[error(
        "the processor has {limit} debug registers for breakpoints and watchpoints, more are needed"
    )]
    DebugRegisters {
        /// Registers there are.
        limit: usize,
    },
    /// A host call failed.
    #[error("{call}: {source}")]
    Host {
        /// The call, as its API names it.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The processor refused the guest state at entry.
    #[error(
        "KVM_EXIT_FAIL_ENTRY: hardware reason {reason:#x}, {}; {place}",
        Code(bytes, place)
    )]
    FailEntry {
        /// The hardware's reason.
        reason: u64,
        /// What lies at the instruction pointer.
        bytes: Bytes,
        /// Where the guest stood.
        place: Box<Place>,
    },
    /// KVM could not go on with the guest.
    #[error(
        "KVM_EXIT_INTERNAL_ERROR: suberror {suberror} ({}), {}; {place}",
        suberror_name(*.suberror),
        Code(bytes, place)
    )]
    Internal {
        /// The kind of error.
        suberror: u32,
        /// The instruction KVM could not emulate, or where it does not say what lies at the
        /// instruction pointer.
        bytes: Bytes,
        /// Where the guest stood.
        place: Box<Place>,
    },
    /// The engines of a lockstep run have parted.
    #[error("{0}")]
    Diverged(Box<Divergence>),
    /// Lockstep cannot do that.
    #[error("--accel=lockstep has no {what}")]
    Lockstep {
        /// What is missing.
        what: &'static str,
    },
    /// An exit that nobody serves.
    #[error("{} ({exit}, {detail:#x}), which nobody serves, {}; {place}", exit_name(*.exit), Code(bytes, place))]
    UnknownExit {
        /// `kvm_run.exit_reason`.
        exit: u32,
        /// What the exit says of itself: a system event's type, a notification's flags, the
        /// hardware's reason.
        detail: u64,
        /// What lies at the instruction pointer.
        bytes: Bytes,
        /// Where the guest stood.
        place: Box<Place>,
    },
}

impl AccelError {
    /// What the user could do about it, in one line.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoNode { why, .. } | Self::NoModule { why, .. } => why.help(),
            Self::Denied { why, .. } => why.help(),
            _ => None,
        }
    }

    /// The message without the registers of the guest.
    pub fn brief(&self) -> String {
        match self {
            Self::Internal {
                suberror, bytes, ..
            } => format!(
                "KVM_EXIT_INTERNAL_ERROR, suberror {suberror} ({}), instruction bytes {bytes}",
                suberror_name(*suberror)
            ),
            Self::FailEntry { reason, .. } => {
                format!("KVM_EXIT_FAIL_ENTRY: hardware reason {reason:#x}")
            }
            Self::UnknownExit { exit, .. } => format!("KVM exit {exit} that nobody serves"),
            other => other.to_string(),
        }
    }
}

/// What the KVM API calls a suberror of `KVM_EXIT_INTERNAL_ERROR`.
fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        1 => "emulation failure",
        2 => "simultaneous exceptions",
        3 => "fault during event delivery",
        4 => "unexpected exit",
        _ => "unknown",
    }
}

/// The KVM API's names of exits, by number.
#[rustfmt::skip]
const EXITS: [&str; 40] = [
    "UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO", "IRQ_WINDOW_OPEN",
    "SHUTDOWN", "FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS", "S390_SIEIC", "S390_RESET", "DCR",
    "NMI", "INTERNAL_ERROR", "OSI", "PAPR_HCALL", "S390_UCONTROL", "WATCHDOG", "S390_TSCH", "EPR",
    "SYSTEM_EVENT", "S390_STSI", "IOAPIC_EOI", "HYPERV", "ARM_NISV", "X86_RDMSR", "X86_WRMSR",
    "DIRTY_RING_FULL", "AP_RESET_HOLD", "X86_BUS_LOCK", "XEN", "RISCV_SBI", "RISCV_CSR", "NOTIFY",
    "LOONGARCH_IOCSR", "MEMORY_FAULT",
];

/// What the KVM API calls an exit.
fn exit_name(exit: u32) -> String {
    let name = EXITS.get(exit as usize);
    name.map_or_else(|| "KVM exit".to_owned(), |name| format!("KVM_EXIT_{name}"))
}

/// The instruction a message is about.
struct Code<'a>(&'a Bytes, &'a Place);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes, place) = self;
        if bytes.len == 0 {
            return f.write_str("instruction unknown (no memory there)");
        }
        let text = emu::disassemble(bytes.as_slice(), place.bits(), place.0.rip);
        write!(f, "instruction bytes {bytes} ({text})")
    }
}

/// Up to 15 bytes of an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    bytes: [u8; 15],
    len: u8,
}

impl Bytes {
    /// The first 15 of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let len = bytes.len().min(found.bytes.len());
        found.bytes[..len].copy_from_slice(&bytes[..len]);
        found.len = len as u8;
        found
    }

    /// The bytes; none where KVM did not give them.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return f.write_str("unknown");
        }
        for (i, byte) in self.as_slice().iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Where a guest stood when the engine gave up, as one line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub CpuState);

impl Place {
    /// The processor's mode, in a word.
    pub fn mode(&self) -> &'static str {
        let cs = &self.0.segments[Seg::Cs as usize];
        if !self.0.cr0.contains(Cr0::PE) {
            "real mode"
        } else if self.0.rflags.contains(RFlags::VM) {
            "virtual-8086 mode"
        } else if self.0.efer.contains(Efer::LMA) && cs.has(Segment::L) {
            "64-bit mode"
        } else if self.0.efer.contains(Efer::LMA) {
            "compatibility mode"
        } else if cs.has(Segment::DB) {
            "32-bit protected mode"
        } else {
            "16-bit protected mode"
        }
    }
}

impl Place {
    /// The code segment's default size: 16, 32 or 64.
    pub fn bits(&self) -> u32 {
        match self.mode() {
            "64-bit mode" => 64,
            _ if self.0.segments[Seg::Cs as usize].has(Segment::DB) => 32,
            _ => 16,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(s) = self;
        let cs = &s.segments[Seg::Cs as usize];
        write!(
            f,
            "{} at cs={:04x} (base {:x}) rip={:x}, cpl {}, rflags={:x} cr0={:x} cr3={:x} cr4={:x} efer={:x}",
            self.mode(),
            cs.selector,
            cs.base,
            s.rip,
            s.segments[Seg::Ss as usize].dpl(),
            s.rflags,
            s.cr0,
            s.cr3,
            s.cr4,
            s.efer
        )?;
        for r in Gpr::ALL {
            write!(f, " {r:?}={:x}", s.gpr[r as usize])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Box<Place> {
        Box::new(Place(CpuState::reset(0)))
    }

    #[test]
    fn errors_name_the_exit_and_the_instruction() {
        let error = AccelError::UnknownExit {
            exit: 24,
            detail: 2,
            bytes: Bytes::new(&[0xEB, 0xFE]),
            place: place(),
        };
        let text = error.to_string();
        let expected = "KVM_EXIT_SYSTEM_EVENT (24, 0x2), which nobody serves, \
                        instruction bytes eb fe (jmp 0FFF0h); real mode at cs=f000 (base ffff0000)";
        assert!(text.starts_with(expected), "{text}");
        let error = AccelError::FailEntry {
            reason: 5,
            bytes: Bytes::default(),
            place: place(),
        };
        let text = error.to_string();
        assert!(text.contains("reason 0x5, instruction unknown"), "{text}");
    }

    #[test]
    fn exits_have_the_names_of_the_api() {
        for (exit, name) in [(0, "UNKNOWN"), (17, "INTERNAL_ERROR"), (37, "NOTIFY")] {
            assert_eq!(exit_name(exit), format!("KVM_EXIT_{name}"));
        }
        assert_eq!(exit_name(99), "KVM exit");
    }
}
