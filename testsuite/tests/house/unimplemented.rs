//! What raises #UD, and why. An entry claims what no entry before it has claimed.

use iced_x86::CpuidFeature::{self, *};
use iced_x86::{Code, EncodingKind};

/// Which codes an entry speaks of.
#[derive(Clone, Copy, Debug)]
pub enum Selector {
    /// All codes with one of these features. None has a row.
    Features(&'static [CpuidFeature]),
    /// All codes of these encodings. None has a row.
    Encodings(&'static [EncodingKind]),
    /// These codes. None has a row.
    Codes(&'static [Code]),
}

use Selector::{Codes, Encodings, Features};

/// Not in CPUID, and the next to come.
const NEXT: &str = "not in CPUID: SSSE3 and SSE4 are the next to come";
/// Not in CPUID, and stands on what comes next.
const AFTER: &str = "not in CPUID: AVX, XSAVE and what stands on SSE come after it";
/// Not in CPUID, and no processor of a model's maker has it any more.
const GONE: &str = "not in CPUID: gone from processors, or never in one of AMD's or Intel's";
/// Not in CPUID, and no part of an i440FX machine's processors.
const LATER: &str = "not in CPUID: newer than the machine, nothing asks for it yet";
/// Decoding makes it something else.
const HINT: &str = "decoded as the NOP it is without its feature";

/// Everything without a row.
#[rustfmt::skip]
pub const UNIMPLEMENTED: &[(&str, Selector)] = &[
    ("no instruction: iced's name for what it cannot decode, and for data", Codes(&[
        Code::INVALID, Code::DeclareByte, Code::DeclareWord, Code::DeclareDword, Code::DeclareQword, Code::Zero_bytes,
    ])),
    (HINT, Codes(&[
        Code::Prefetchreserved3_m8, Code::Prefetchreserved4_m8, Code::Prefetchreserved5_m8,
        Code::Prefetchreserved6_m8, Code::Prefetchreserved7_m8,
    ])),
    (HINT, Features(&[CET_IBT, CLDEMOTE, PREFETCHWT1, PREFETCHITI, MPX])),
    ("#UD outside system management mode, which is not modelled", Features(&[SMM])),
    ("POP CS was the 8086's: 0F leads to two-byte opcodes since the 80286", Features(&[INTEL8086_ONLY])),
    ("of one early processor (LOADALL, XBTS, IBTS, UMOV, CMPXCHG at 0F A6)", Features(&[
        INTEL286_ONLY, INTEL386_ONLY, INTEL386_A0_ONLY, INTEL486_A_ONLY, UMOV,
    ])),
    ("test registers ended with the 80486", Features(&[MOV_TR])),
    ("x87 opcodes of one early coprocessor", Features(&[FPU287XL_ONLY, FPU387SL_ONLY])),
    ("iced's names for WAIT and the instruction after it, which are decoded one by one", Codes(&[
        Code::Fstenv_m14byte, Code::Fstenv_m28byte, Code::Fstcw_m2byte, Code::Feni, Code::Fdisi, Code::Fclex, Code::Finit,
        Code::Fsetpm, Code::Fsave_m94byte, Code::Fsave_m108byte, Code::Fstsw_m2byte, Code::Fstsw_AX,
    ])),
    ("to the IA-64 instruction set", Features(&[IA64])),
    ("of other makers", Features(&[
        CENTAUR_AIS, CYRIX_DDI, CYRIX_DMI, CYRIX_D3NOW, CYRIX_EMMI, CYRIX_FPU, CYRIX_SHR, CYRIX_SMINT, CYRIX_SMINT_0F7E,
        CYRIX_SMM, CL1INVMB, OSS, PADLOCK_ACE, PADLOCK_GMI, PADLOCK_PHE, PADLOCK_PMM, PADLOCK_RNG, PADLOCK_UNDOC,
    ])),

    (NEXT, Features(&[SSSE3, SSE4_1, SSE4_2])),
    (AFTER, Features(&[XSAVE, XSAVEC, XSAVEOPT, XSAVES, AES, PCLMULQDQ, SHA, GFNI, SSE4A])),
    (AFTER, Encodings(&[EncodingKind::EVEX])),
    (AFTER, Features(&[
        AVX, AVX2, F16C, FMA, VAES, VPCLMULQDQ, AVX512F, AVX512BW, AVX512DQ,
        AVX_IFMA, AVX_NE_CONVERT, AVX_VNNI, AVX_VNNI_INT8, AVX_VNNI_INT16,
        AMX_TILE, AMX_BF16, AMX_COMPLEX, AMX_FP16, AMX_INT8,
    ])),

    ("not in CPUID: no nested virtualization, no confidential guests", Features(&[
        SVM, SKINIT_or_SVM, SEV_ES, SEV_SNP, RMPQUERY, INVLPGB, VMX, SMX, SGX1, TDX, PCONFIG,
    ])),
    ("not in CPUID: CR3 has no process-context identifiers yet", Features(&[INVPCID])),
    ("not in CPUID: no address is monitored", Features(&[MONITOR, MONITORX, WAITPKG])),
    ("not in CPUID: no transactions", Features(&[RTM, HLE_or_RTM, TSXLDTRK])),
    ("not in CPUID: results would differ from run to run", Features(&[RDRAND, RDSEED])),
    (GONE, Encodings(&[EncodingKind::MVEX, EncodingKind::XOP, EncodingKind::D3NOW])),
    (GONE, Features(&[KNC, D3NOW, FMA4, XOP, PCOMMIT])),
    (LATER, Features(&[
        AESKLE, KL, CET_SS, CLZERO, CMPCCXADD, ENQCMD, FRED, HRESET, LKGS, MCOMMIT, MOVDIR64B, MOVDIRI, MSRLIST, PKU,
        PTWRITE, RAO_INT, RDPRU, SERIALIZE, TSE, UDBG, UINTR, WRMSRNS,
    ])),
];
