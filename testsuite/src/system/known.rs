//! What this machine's partial KVM (`kvm_pvm`: the kernel's instruction emulator, and the processor
//! itself for 64-bit ring 3) is known to do wrong. Each row counts on its own in a campaign's table.

use emu::arch::RFlags;
use iced_x86::Mnemonic;

use super::{Case, Mode};

/// One known error.
pub struct Known {
    /// What is wrong, and which document says so.
    pub what: &'static str,
    /// Whether it explains that a case differs in these lines.
    pub explains: fn(&Case, &[String]) -> bool,
}

/// The row that explains a difference.
pub fn explain(case: &Case, lines: &[String]) -> Option<&'static str> {
    let row = KNOWN.iter().find(|known| (known.explains)(case, lines));
    row.map(|known| known.what)
}

/// Whether the case runs on the processor itself.
pub fn native(case: &Case) -> bool {
    case.mode == Mode::Long && case.cpl == 3
}

/// 64-bit ring 3 runs with IF 1, IOPL 0 and NT 0, whatever the guest's flags are (PUSHF and frames show
/// it: `kvm-testing.md`, 1b); the case as it can be compared there, if that is another.
pub fn comparable(case: &Case) -> Option<Case> {
    let wanted = case.rflags & !(RFlags::IOPL | RFlags::NT).bits() | RFlags::IF.bits();
    (native(case) && wanted != case.rflags).then(|| Case {
        rflags: wanted,
        ..case.clone()
    })
}

/// Whether only these fields differ.
fn only(lines: &[String], fields: &[&str]) -> bool {
    let field = |line: &String| line.split(':').next().is_some_and(|f| fields.contains(&f));
    lines.iter().all(field)
}

/// Whether the case is one of these instructions.
fn is(case: &Case, mnemonics: &[Mnemonic]) -> bool {
    mnemonics.contains(&case.instruction().mnemonic())
}

/// Whether KVM raised #UD: it stopped in that vector's handler.
fn undefined(lines: &[String]) -> bool {
    lines.iter().any(|line| line.starts_with("rip: 1007 /"))
}

/// The list.
const KNOWN: &[Known] = &[
    Known {
        what: "ring 3, not 64-bit: what the emulator lacks is #UD (SDM Vol. 2, each instruction)",
        explains: |case, lines| {
            case.cpl == 3 && !native(case) && undefined(lines) && is(case, LACKING)
        },
    },
    Known {
        what: "16-bit stack: an exception's frame goes to SP without SS's base (SDM Vol. 3A, \"Exception- \
               or Interrupt-Handler Procedures\")",
        explains: |case, lines| {
            let frame = |line: &String| line.starts_with("memory: [(a7") && line.contains("(1c7");
            case.mode == Mode::Prot16
                && case.cpl == 0
                && only(lines, &["memory"])
                && lines.iter().any(frame)
        },
    },
    Known {
        what: "PUSH of a segment register of 32 or 64 bits writes 16 (AMD APM Vol. 3, PUSH: zero-extended)",
        explains: |case, lines| {
            let code = case.instruction();
            only(lines, &["memory"])
                && code.mnemonic() == Mnemonic::Push
                && code.op0_register().is_segment_register()
        },
    },
    Known {
        what: "SLDT and STR to memory write the operand size (SDM Vol. 2: always 16 bits)",
        explains: |case, lines| {
            only(lines, &["memory"]) && is(case, &[Mnemonic::Sldt, Mnemonic::Str])
        },
    },
    Known {
        what: "AAD, AAM, DAS leave other undefined flags than the processor (the host engine agrees with us)",
        explains: |case, lines| {
            only(lines, &["rflags", "memory"])
                && is(case, &[Mnemonic::Aad, Mnemonic::Aam, Mnemonic::Das])
        },
    },
    Known {
        what: "DR7 bit 11 can be set (AMD APM Vol. 2, \"Debug-Control Register\": reserved)",
        explains: |case, lines| only(lines, &["dr7"]) && is(case, &[Mnemonic::Mov]),
    },
    Known {
        what: "SYSEXIT works under long mode (AMD APM Vol. 3, SYSEXIT: #UD)",
        explains: |case, lines| {
            let raised = |line: &String| line.starts_with("rip: ") && line.ends_with("/ 1007");
            is(case, &[Mnemonic::Sysexit]) && case.cpl == 0 && lines.iter().any(raised)
        },
    },
    Known {
        what: "HLT reached with TF set halts with #DB still queued",
        explains: |_, lines| lines.iter().any(|line| line.starts_with("queued")),
    },
    Known {
        what: "LZCNT and TZCNT run as BSR and BSF (SDM Vol. 2)",
        explains: |case, _| !native(case) && is(case, &[Mnemonic::Lzcnt, Mnemonic::Tzcnt]),
    },
    Known {
        what: "CPUID shows the host's features (ring 3: all of the host's)",
        explains: |case, lines| only(lines, &["gpr"]) && is(case, &[Mnemonic::Cpuid]),
    },
    Known {
        what: "delivery of an exception in protected mode clears AC (SDM Vol. 2, INT n: only in real mode)",
        explains: |_, lines| match lines {
            [line] => {
                line.starts_with("rflags")
                    && line.contains("| AC")
                    && !line.split('/').next().unwrap_or_default().contains("| AC")
            }
            _ => false,
        },
    },
    Known {
        what: "64-bit near branches ignore 66h (AMD APM Vol. 3, JMP: RIP is cut to 16 bits; as the host does)",
        explains: |case, lines| {
            let near = case.instruction().is_jcc_short_or_near()
                || case.instruction().is_loop()
                || is(
                    case,
                    &[
                        Mnemonic::Ret,
                        Mnemonic::Jrcxz,
                        Mnemonic::Jecxz,
                        Mnemonic::Jmp,
                        Mnemonic::Call,
                    ],
                );
            case.mode == Mode::Long
                && case.cpl == 0
                && near
                && case.code.contains(&0x66)
                && lines.iter().any(|l| l.starts_with("rip"))
        },
    },
    Known {
        what: "LTR: #GP with error code 0 (SDM Vol. 2, LTR: the selector)",
        explains: |case, lines| only(lines, &["memory"]) && is(case, &[Mnemonic::Ltr]),
    },
    Known {
        what: "64-bit ring 3: INT n, INT1 and LAR, LSL, VERR, VERW that fault are #UD or stand at the instruction",
        explains: |case, lines| {
            native(case) && (undefined(lines) || is(case, &[Mnemonic::Int1])) && is(case, LACKING)
        },
    },
    Known {
        what: "real mode: INT with 66h pushes 32 bits (SDM Vol. 2, INT n: FLAGS, CS and IP of 16)",
        explains: |case, lines| {
            let int = [Mnemonic::Int, Mnemonic::Int3, Mnemonic::Into];
            case.mode == Mode::Real
                && case.code.contains(&0x66)
                && is(case, &int)
                && only(lines, &["gpr", "memory"])
        },
    },
    Known {
        what: "SYSRET: SS gets RPL 3 and 32-bit code goes to 64-bit (Intel's; AMD APM Vol. 3, SYSRET)",
        explains: |case, _| case.cpl == 0 && is(case, &[Mnemonic::Sysret, Mnemonic::Sysretq]),
    },
    Known {
        what: "SYSCALL of 64-bit ring 3: the handler's page is not there for the processor",
        explains: |case, lines| {
            native(case)
                && is(case, &[Mnemonic::Syscall])
                && lines.iter().any(|l| l.starts_with("cr2: 1f00 / 0"))
        },
    },
    Known {
        what: "compatibility mode: no check of limit and type before the page is looked up (SDM Vol. 3A, \"Limit Checking\")",
        explains: |case, lines| {
            case.mode == Mode::Compat && lines.iter().any(|l| l == "rip: 100f / 100e")
        },
    },
    Known {
        what: "ENTER of 16 bits on a 32-bit stack, and of 32 on a 16-bit one (SDM Vol. 2, ENTER)",
        explains: |case, _| is(case, &[Mnemonic::Enter]) && case.code.contains(&0x66),
    },
    Known {
        what: "a store or SGDT, SIDT over a page's end writes its first part and then faults",
        explains: |_, lines| match lines {
            [line] => {
                line.starts_with("memory")
                    && line
                        .split(" / ")
                        .next()
                        .unwrap_or_default()
                        .contains("ff8, ")
            }
            _ => false,
        },
    },
    Known {
        what: "MOV to a segment register with REX.R is #UD (SDM Vol. 2A, \"REX Prefixes\": ignored there)",
        explains: |case, lines| {
            let rex = case.code.iter().find(|byte| (0x40..0x50).contains(*byte));
            case.mode == Mode::Long
                && is(case, &[Mnemonic::Mov])
                && rex.is_some_and(|rex| rex & 4 != 0)
                && case
                    .code
                    .windows(2)
                    .any(|w| (0x40..0x50).contains(&w[0]) && matches!(w[1], 0x8C | 0x8E))
                && undefined(lines)
        },
    },
];

/// Instructions that the kernel's emulator lacks, wholly or in some form (gates, task switches, ENTER
/// with levels).
const LACKING: &[Mnemonic] = &[
    Mnemonic::Aaa,
    Mnemonic::Aas,
    Mnemonic::Daa,
    Mnemonic::Arpl,
    Mnemonic::Bound,
    Mnemonic::Lar,
    Mnemonic::Lsl,
    Mnemonic::Verr,
    Mnemonic::Verw,
    Mnemonic::Int,
    Mnemonic::Int1,
    Mnemonic::Int3,
    Mnemonic::Into,
    Mnemonic::Iret,
    Mnemonic::Iretd,
    Mnemonic::Enter,
    Mnemonic::Call,
    Mnemonic::Jmp,
    Mnemonic::Retf,
];
