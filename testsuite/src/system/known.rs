//! What this machine's partial KVM (`kvm_pvm`: the kernel's instruction emulator, and the processor
//! itself for 64-bit ring 3) is known to do wrong. Each row counts on its own in a campaign's table.
//!
//! Where two documents say different things, or none is clear, "the host" is the processor of this
//! machine, asked in ring 3 of a process: the signal tells the exception.

use emu::arch::RFlags;
use iced_x86::{Code, EncodingKind, Mnemonic, OpKind, Register};

use super::{Case, Mode};

/// One known error.
pub struct Known {
    /// What is wrong, and where.
    pub what: &'static str,
    /// What says so.
    pub why: &'static str,
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

const UD: u64 = 6;
const SS: u64 = 12;
const GP: u64 = 13;
const PF: u64 = 14;

/// Whether only these fields differ.
fn only(lines: &[String], fields: &[&str]) -> bool {
    let field = |line: &String| line.split(':').next().is_some_and(|f| fields.contains(&f));
    lines.iter().all(field)
}

/// Both sides of a field that differs.
fn field<'a>(lines: &'a [String], name: &str) -> Option<(&'a str, &'a str)> {
    let line = lines.iter().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(": ")?.split_once(" / ")
}

/// Whether the case is one of these instructions.
fn is(case: &Case, mnemonics: &[Mnemonic]) -> bool {
    mnemonics.contains(&case.instruction().mnemonic())
}

/// The vector in whose handler each side stopped, outside real mode: RIP is behind its HLT.
fn raised(lines: &[String]) -> (Option<u64>, Option<u64>) {
    let vector = |text: &str| {
        let rip = u64::from_str_radix(text, 16).ok()?;
        rip.checked_sub(0x1001).filter(|&vector| vector < 256)
    };
    match field(lines, "rip") {
        Some((kvm, ours)) => (vector(kvm), vector(ours)),
        None => (None, None),
    }
}

/// Whether KVM raised #UD.
fn undefined(lines: &[String]) -> bool {
    raised(lines).0 == Some(UD)
}

/// Whether an operand lies so near to 4 GiB that one access, or a few of a string, goes beyond.
fn at_four_gib(case: &Case, reach: u64) -> bool {
    let instruction = case.instruction();
    let value = |register: Register, _, _| {
        if register.is_segment_register() {
            return Some(0);
        }
        let full = register.full_register();
        let number = full.number();
        let value = if full == Register::RSP {
            super::world::STACK
        } else {
            *case.gpr.get(number)?
        };
        Some(value & (u64::MAX >> (64 - 8 * register.size().clamp(1, 8))))
    };
    (0..instruction.op_count()).any(|operand| {
        let string = instruction.is_string_instruction();
        let memory = string || matches!(instruction.op_kind(operand), OpKind::Memory);
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        let reach = if string && repeats { reach } else { 0 };
        let near = |at: u64| {
            let at = at & u64::from(u32::MAX);
            (at as u32).wrapping_add(0x1000) < 0x1010
                || at < reach
                || at.saturating_add(reach) > u64::from(u32::MAX)
        };
        let address = instruction.virtual_address(operand, 0, value);
        memory && address.is_some_and(near)
    })
}

/// Whether the bytes hold a prefix that names a segment which 64-bit mode ignores.
fn ignored_segment(case: &Case) -> bool {
    let prefixes = case.code.iter().take_while(|byte| {
        matches!(
            byte,
            0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
        )
    });
    let mut prefixes = prefixes;
    prefixes.any(|byte| matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E))
}

/// Whether the case is WRMSR to one of these, with something in the upper half.
fn writes_high(case: &Case, numbers: &[u64]) -> bool {
    is(case, &[Mnemonic::Wrmsr])
        && numbers.contains(&(case.gpr[1] & 0xFFFF_FFFF))
        && case.gpr[2] as u32 != 0
}

/// The list.
const KNOWN: &[Known] = &[
    Known {
        what: "ring 3, not 64-bit: what the emulator lacks is #UD",
        why: "SDM Vol. 2, each instruction; kvm-testing.md, 1b",
        explains: |case, lines| {
            case.cpl == 3 && !native(case) && undefined(lines) && is(case, LACKING)
        },
    },
    Known {
        what: "16-bit stack, ring 0: an exception's frame goes to SP without SS's base",
        why: "SDM Vol. 3A, \"Exception- or Interrupt-Handler Procedures\"",
        explains: |case, lines| {
            let frame =
                |(kvm, ours): (&str, &str)| kvm.starts_with("[(a7") && ours.contains("(1c7");
            case.mode == Mode::Prot16
                && case.cpl == 0
                && only(lines, &["memory"])
                && field(lines, "memory").is_some_and(frame)
        },
    },
    Known {
        what: "PUSH of a segment register of 32 or 64 bits writes 16",
        why: "AMD APM Vol. 3, PUSH: zero-extended",
        explains: |case, lines| {
            let code = case.instruction();
            only(lines, &["memory"])
                && code.mnemonic() == Mnemonic::Push
                && code.op0_register().is_segment_register()
        },
    },
    Known {
        what: "SLDT, STR and MOV from a segment register write the operand size to memory",
        why: "SDM Vol. 2, each instruction: always 16 bits",
        explains: |case, _| {
            let code = case.instruction();
            let from_segment =
                code.mnemonic() == Mnemonic::Mov && code.op1_register().is_segment_register();
            let stores = from_segment || is(case, &[Mnemonic::Sldt, Mnemonic::Str]);
            stores && code.op0_kind() == OpKind::Memory
        },
    },
    Known {
        what: "AAD, AAM, DAS leave other undefined flags than the processor",
        why: "the host, by `campaign --engine host`, agrees with us",
        explains: |case, lines| {
            only(lines, &["rflags", "memory"])
                && is(case, &[Mnemonic::Aad, Mnemonic::Aam, Mnemonic::Das])
        },
    },
    Known {
        what: "DR7 bit 11 can be set",
        why: "AMD APM Vol. 2, \"Debug-Control Register\": reserved",
        explains: |case, lines| only(lines, &["dr7"]) && is(case, &[Mnemonic::Mov]),
    },
    Known {
        what: "64-bit ring 0: MOV to DR4 and DR5, not seen as DR6 and DR7, takes an upper half",
        why: "SDM Vol. 3B, \"Debug Registers and Intel 64 Processors\": #GP(0)",
        explains: |case, lines| {
            let register = case.instruction().op0_register();
            case.mode == Mode::Long
                && matches!(register, Register::DR4 | Register::DR5)
                && raised(lines).1 == Some(GP)
        },
    },
    Known {
        what: "SYSEXIT works under long mode, ring 0",
        why: "AMD APM Vol. 3, SYSEXIT: #UD",
        explains: |case, lines| {
            let sysexit = is(case, &[Mnemonic::Sysexit, Mnemonic::Sysexitq]);
            sysexit && case.cpl == 0 && raised(lines).1 == Some(UD)
        },
    },
    Known {
        what: "ring 3: SYSEXIT and SYSRET that are not there are #GP(0)",
        why: "SDM Vol. 3A, \"Priority Among Concurrent Events\": #UD comes before",
        explains: |case, lines| {
            const SYS: &[Mnemonic] = &[
                Mnemonic::Sysexit,
                Mnemonic::Sysexitq,
                Mnemonic::Sysret,
                Mnemonic::Sysretq,
            ];
            case.cpl == 3 && is(case, SYS) && raised(lines) == (Some(GP), Some(UD))
        },
    },
    Known {
        what: "ring 3: MOV of a control or debug register that does not exist is #GP(0)",
        why: "the host: #UD",
        explains: |case, lines| {
            let moves = case
                .code
                .windows(2)
                .any(|w| matches!(w, [0x0F, 0x20..=0x23]));
            case.cpl == 3 && moves && raised(lines) == (Some(GP), Some(UD))
        },
    },
    Known {
        what: "SWAPGS runs outside 64-bit mode",
        why: "SDM Vol. 2, SWAPGS: #UD",
        explains: |case, _| {
            let swapgs = case.code.windows(3).any(|w| w == [0x0F, 0x01, 0xF8]);
            case.mode != Mode::Long && swapgs
        },
    },
    Known {
        what: "HLT reached with TF set halts with #DB still queued",
        why: "SDM Vol. 3B, \"Single-Step Exception Condition\"",
        explains: |_, lines| lines.iter().any(|line| line.starts_with("queued")),
    },
    Known {
        what: "LZCNT and TZCNT run as BSR and BSF",
        why: "SDM Vol. 2, each instruction",
        explains: |case, _| !native(case) && is(case, &[Mnemonic::Lzcnt, Mnemonic::Tzcnt]),
    },
    Known {
        what: "CPUID shows the host's features (ring 3: all of the host's)",
        why: "kvm-testing.md, 1a",
        explains: |case, lines| only(lines, &["gpr"]) && is(case, &[Mnemonic::Cpuid]),
    },
    Known {
        what: "delivery of an exception in protected mode clears AC",
        why: "SDM Vol. 2, INT n: only in real mode",
        explains: |_, lines| match (lines, field(lines, "rflags")) {
            ([_], Some((kvm, ours))) => ours.contains("| AC") && !kvm.contains("| AC"),
            _ => false,
        },
    },
    Known {
        what: "64-bit ring 0: near branches ignore 66h",
        why: "AMD APM Vol. 3, JMP: RIP is cut to 16 bits; the host does",
        explains: |case, _| {
            const NEAR: &[Mnemonic] = &[
                Mnemonic::Ret,
                Mnemonic::Jrcxz,
                Mnemonic::Jecxz,
                Mnemonic::Jmp,
                Mnemonic::Call,
            ];
            let instruction = case.instruction();
            let near =
                instruction.is_jcc_short_or_near() || instruction.is_loop() || is(case, NEAR);
            case.mode == Mode::Long && case.cpl == 0 && near && case.code.contains(&0x66)
        },
    },
    Known {
        what: "LTR: #GP with error code 0",
        why: "SDM Vol. 2, LTR: the selector",
        explains: |case, lines| only(lines, &["memory"]) && is(case, &[Mnemonic::Ltr]),
    },
    Known {
        what: "64-bit ring 3: INT n, INT1 and LAR, LSL, VERR, VERW that fault are #UD or stand at the instruction",
        why: "SDM Vol. 2, each instruction; kvm-testing.md, 1b",
        explains: |case, lines| {
            native(case) && (undefined(lines) || is(case, &[Mnemonic::Int1])) && is(case, LACKING)
        },
    },
    Known {
        what: "64-bit ring 3: selectors are looked up in the host's descriptor table",
        why: "SDM Vol. 2, each instruction: the guest's",
        explains: |case, lines| {
            const LOOK: &[Mnemonic] =
                &[Mnemonic::Lar, Mnemonic::Lsl, Mnemonic::Verr, Mnemonic::Verw];
            const LOAD: &[Mnemonic] = &[
                Mnemonic::Mov,
                Mnemonic::Pop,
                Mnemonic::Lfs,
                Mnemonic::Lgs,
                Mnemonic::Lss,
                Mnemonic::Iret,
                Mnemonic::Iretd,
                Mnemonic::Iretq,
                Mnemonic::Retf,
                Mnemonic::Call,
                Mnemonic::Jmp,
            ];
            const NP: u64 = 11;
            // The error code is the selector: 0 has none.
            let fault = |vector: Option<u64>| matches!(vector, Some(NP | SS | GP));
            let (kvm, ours) = raised(lines);
            let loads = is(case, LOAD) && (fault(kvm) && fault(ours) || lines.len() > 1);
            native(case)
                && (loads || is(case, LOOK))
                && only(lines, &["gpr", "rip", "rflags", "memory", "segments"])
        },
    },
    Known {
        what: "LOCK before SYSRET, SWAPGS, IRET: #GP in ring 3, no matter in ring 0",
        why: "SDM Vol. 2, LOCK: #UD; the host: #UD",
        explains: |case, lines| {
            let opcode = |w: &[u8]| matches!(w, [0x0F, 0x07, ..] | [0x0F, 0x01, 0xF8] | [0xCF, ..]);
            let bytes = [&case.code[..], &[0, 0]].concat();
            bytes.contains(&0xF0) && bytes.windows(3).any(opcode) && raised(lines).1 == Some(UD)
        },
    },
    Known {
        what: "a repeated CMPS or SCAS that faults keeps the flags from before it",
        why: "the host: those of its last element (SDM Vol. 2, REP, has Intel's)",
        explains: |case, lines| {
            let code = case.instruction();
            (code.has_rep_prefix() || code.has_repne_prefix())
                && code.is_string_instruction()
                && only(lines, &["rflags", "memory"])
        },
    },
    Known {
        what: "real mode: INT with 66h pushes 32 bits",
        why: "SDM Vol. 2, INT n: FLAGS, CS and IP of 16",
        explains: |case, lines| {
            let int = [Mnemonic::Int, Mnemonic::Int3, Mnemonic::Into];
            case.mode == Mode::Real
                && case.code.contains(&0x66)
                && is(case, &int)
                && only(lines, &["gpr", "memory"])
        },
    },
    Known {
        what: "ring 0: SYSRET's SS gets RPL 3 and 32-bit code goes to 64-bit",
        why: "AMD APM Vol. 3, SYSRET (it is Intel's)",
        explains: |case, _| case.cpl == 0 && is(case, &[Mnemonic::Sysret, Mnemonic::Sysretq]),
    },
    Known {
        what: "SYSCALL of 64-bit ring 3: the handler's page is not there for the processor",
        why: "SDM Vol. 2, SYSCALL; kvm-testing.md, 1a",
        explains: |case, lines| {
            native(case)
                && is(case, &[Mnemonic::Syscall])
                && lines.iter().any(|l| l.starts_with("cr2: 1f00 / 0"))
        },
    },
    Known {
        what: "compatibility mode: no check of limit and type before the page is looked up",
        why: "SDM Vol. 3A, \"Limit Checking\"",
        explains: |case, lines| case.mode == Mode::Compat && raised(lines) == (Some(PF), Some(GP)),
    },
    Known {
        what: "64-bit mode: an access across the end of the canonical addresses is #PF at its first byte",
        why: "SDM Vol. 1, \"Canonical Addressing\"; the host: #GP(0)",
        explains: |case, lines| {
            case.mode == Mode::Long
                && matches!(raised(lines), (Some(PF), Some(GP | SS)))
                && field(lines, "cr2").is_some_and(|(kvm, _)| kvm.starts_with("7ffffffffff"))
        },
    },
    Known {
        what: "64-bit mode: a prefix for ES, CS, SS or DS decides between #SS and #GP",
        why: "SDM Vol. 1, \"Segmentation in 64-Bit Mode\": ignored; the host ignores it",
        explains: |case, lines| {
            case.mode == Mode::Long
                && ignored_segment(case)
                && matches!(raised(lines), (Some(GP), Some(SS)) | (Some(SS), Some(GP)))
        },
    },
    Known {
        what: "outside 64-bit mode an access across 4 GiB goes on at 0",
        why: "SDM Vol. 3A, \"Limit Checking\": may or may not fault; ours does",
        explains: |case, lines| {
            // SYSEXIT's stack: what runs there pushes.
            let low = is(case, &[Mnemonic::Sysexit]) && (case.gpr[1] as u32) < 0x100;
            let faults = matches!(raised(lines).1, Some(GP | SS));
            let reach = if faults {
                case.gpr[1].saturating_mul(8)
            } else {
                0
            };
            low || case.mode.bits() == 32 && at_four_gib(case, reach)
        },
    },
    Known {
        what: "ENTER of 16 bits on a 32-bit stack, and of 32 on a 16-bit one",
        why: "SDM Vol. 2, ENTER",
        explains: |case, _| is(case, &[Mnemonic::Enter]) && case.code.contains(&0x66),
    },
    Known {
        what: "ENTER does not look whether its frame's end can be written",
        why: "SDM Vol. 2, ENTER: #PF, #SS",
        explains: |case, lines| {
            is(case, &[Mnemonic::Enter]) && matches!(raised(lines).1, Some(PF | SS))
        },
    },
    Known {
        what: "a store or SGDT, SIDT over a page's end writes its first part and then faults",
        why: "SDM Vol. 3A, \"Exception Classifications\": a fault leaves nothing behind",
        explains: |_, lines| match (lines, field(lines, "memory")) {
            ([_], Some((kvm, _))) => kvm.contains("ff8, "),
            _ => false,
        },
    },
    Known {
        what: "64-bit ring 0: MOV to a segment register with REX.R is #UD",
        why: "SDM Vol. 2A, \"REX Prefixes\": ignored there",
        explains: |case, lines| {
            let rex = |w: &[u8]| w[0] & 0xF4 == 0x44 && matches!(w[1], 0x8C | 0x8E);
            case.mode == Mode::Long
                && is(case, &[Mnemonic::Mov])
                && case.code.windows(2).any(rex)
                && undefined(lines)
        },
    },
    Known {
        what: "under long mode, not 64-bit ring 3: IRET does not check the new CS, its #GP has error code 0, and it \
               does not return in compatibility mode",
        why: "SDM Vol. 2, IRET",
        explains: |case, _| {
            let iret = is(case, &[Mnemonic::Iret, Mnemonic::Iretd, Mnemonic::Iretq]);
            matches!(case.mode, Mode::Long | Mode::Compat) && !native(case) && iret
        },
    },
    Known {
        what: "far pointers with REX.W: the selector is at byte 8",
        why: "AMD APM Vol. 3, LFS, JMP (Far): the pointer is of 16:32 bits; the host does so",
        explains: |case, _| {
            use Code::{Call_m1664, Jmp_m1664, Lfs_r64_m1664, Lgs_r64_m1664, Lss_r64_m1664};
            let code = case.instruction().code();
            const WIDE: &[Code] = &[
                Call_m1664,
                Jmp_m1664,
                Lfs_r64_m1664,
                Lgs_r64_m1664,
                Lss_r64_m1664,
            ];
            case.mode == Mode::Long && WIDE.contains(&code)
        },
    },
    Known {
        what: "64-bit ring 3: AVX runs though CR4.OSXSAVE is clear and CPUID has none",
        why: "SDM Vol. 2A, \"Exception Conditions of VEX-Encoded Instructions\": #UD; kvm-testing.md, 1a",
        explains: |case, lines| {
            let vex = case.instruction().encoding() == EncodingKind::VEX;
            native(case) && vex && raised(lines).1 == Some(UD)
        },
    },
    Known {
        what: "64-bit ring 3: LZCNT and TZCNT run though CPUID has none",
        why: "SDM Vol. 2, each instruction: BSR and BSF then; kvm-testing.md, 1a",
        explains: |case, _| native(case) && is(case, &[Mnemonic::Lzcnt, Mnemonic::Tzcnt]),
    },
    Known {
        what: "64-bit ring 3: a segment register does not read back as it was loaded (a null one without RPL)",
        why: "SDM Vol. 3A, \"Segment Selectors\": a register holds the selector as it was loaded",
        explains: |case, lines| {
            const LOAD: &[Mnemonic] = &[Mnemonic::Mov, Mnemonic::Pop, Mnemonic::Lfs, Mnemonic::Lgs];
            native(case) && is(case, LOAD) && only(lines, &["segments"])
        },
    },
    Known {
        what: "a MOV to CS or to a segment register that there is not looks at its operand first",
        why: "SDM Vol. 3A, \"Priority Among Concurrent Events\"; the host: #UD",
        explains: |case, lines| {
            let moves = case.code.contains(&0x8E) && case.instruction().is_invalid();
            moves && matches!(raised(lines), (Some(GP | SS | PF), Some(UD)))
        },
    },
    Known {
        what: "compatibility mode, ring 3: a far transfer to 64-bit code loses IOPL and NT",
        why: "SDM Vol. 2, CALL, JMP, RET; kvm-testing.md, 1b (IOPL reads as 0)",
        explains: |case, lines| {
            let far = is(case, &[Mnemonic::Call, Mnemonic::Jmp, Mnemonic::Retf]);
            case.mode == Mode::Compat && case.cpl == 3 && far && only(lines, &["rflags", "memory"])
        },
    },
    Known {
        what: "INT 17h to 1Bh are calls of kvm_pvm's own, CPUID among them",
        why: "SDM Vol. 2, INT n",
        explains: |case, _| {
            is(case, &[Mnemonic::Int]) && matches!(case.instruction().immediate8(), 0x17..=0x1B)
        },
    },
    Known {
        what: "CMPXCHG16B that is neither aligned nor canonical is #SS where RBP or RSP is the base",
        why: "the host: #GP(0)",
        explains: |case, lines| {
            is(case, &[Mnemonic::Cmpxchg16b]) && raised(lines) == (Some(SS), Some(GP))
        },
    },
    Known {
        what: "CMPXCHG of registers of 32 bits clears the destination's upper half when they are not equal",
        why: "the host, by `campaign --engine host`: it stays",
        explains: |case, lines| {
            let code = case.instruction().code();
            code == Code::Cmpxchg_rm32_r32 && case.mode == Mode::Long && only(lines, &["gpr"])
        },
    },
    Known {
        what: "paging without PAE or long mode cannot be turned on",
        why: "SDM Vol. 3A, \"Paging-Mode Enabling\"; kvm-testing.md, 2",
        explains: |case, _| {
            let cr0 = case.instruction().op0_register() == Register::CR0;
            let from = case.instruction().op1_register().full_register();
            let on = case
                .gpr
                .get(from.number())
                .is_some_and(|v| v >> 31 & 1 != 0);
            case.mode.bits() < 64 && case.mode != Mode::Compat && cr0 && on
        },
    },
    Known {
        what: "64-bit ring 0: SS loaded with a null selector keeps a made-up limit and rights",
        why: "SDM Vol. 3A, \"Segment Descriptors\" and \"NULL Segment Checking\": unusable",
        explains: |case, lines| {
            case.mode == Mode::Long
                && case.cpl == 0
                && only(lines, &["segments"])
                && field(lines, "segments")
                    .is_some_and(|(kvm, _)| kvm.contains("{ selector: 0, base: 0, limit: fff,"))
        },
    },
    Known {
        what: "WRMSR takes memory types that there are not",
        why: "SDM Vol. 3A, \"IA32_PAT MSR\": #GP(0)",
        explains: |case, lines| {
            let pat = is(case, &[Mnemonic::Wrmsr]) && case.gpr[1] as u32 == 0x277;
            pat && lines.iter().any(|line| line.starts_with("msrs"))
        },
    },
    Known {
        what: "WRMSR keeps an upper half of SFMASK",
        why: "SDM Vol. 4, IA32_FMASK: reserved; AMD APM Vol. 2, \"SYSCALL and SYSRET MSRs\": 32 bits",
        explains: |case, lines| {
            writes_high(case, &[0xC000_0084]) && lines.iter().any(|line| line.starts_with("msrs"))
        },
    },
    Known {
        what: "WRMSR keeps an upper half of SYSENTER's MSRs",
        why: "AMD APM Vol. 2, \"SYSENTER and SYSEXIT MSRs\": 32 bits",
        explains: |case, lines| writes_high(case, &[0x174, 0x175, 0x176]) && only(lines, &["msrs"]),
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

#[cfg(test)]
mod tests {
    use super::KNOWN;

    #[test]
    fn each_row_has_a_reason_and_none_is_there_twice() {
        for (i, row) in KNOWN.iter().enumerate() {
            let sources = ["SDM", "APM", "the host", "kvm-testing.md"];
            assert!(sources.iter().any(|s| row.why.contains(s)), "{}", row.what);
            assert!(KNOWN[..i].iter().all(|other| other.what != row.what));
        }
    }
}
