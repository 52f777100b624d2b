//! Feature bits of CPUID: one row each. SDM Vol. 2A, "CPUID"; AMD APM Vol. 3, Appendix E.

use iced_x86::CpuidFeature;

/// A register CPUID writes: its index in a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the registers' own names")]
pub enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Where a feature's bit is, what it is called, and which instructions come with it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The feature.
    pub feature: Feature,
    /// Its name as QEMU (and, but for dashes, Linux) spells it.
    pub name: &'static str,
    /// EAX of its leaf (sub-leaf 0).
    pub function: u32,
    /// The register.
    pub register: Register,
    /// The bit.
    pub bit: u8,
    /// The names iced gives to the instructions it brings.
    pub iced: &'static [CpuidFeature],
}

/// One variant and one row for each feature.
macro_rules! features {
    ($($variant:ident $name:literal $function:literal $register:ident $bit:literal [$($iced:ident),*];)*) => {
        /// A feature CPUID tells of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names the manuals use")]
        pub enum Feature { $($variant),* }

        /// All features, in the order of [`Feature`].
        pub const FEATURES: &[Row] = &[$(Row {
            feature: Feature::$variant,
            name: $name,
            function: $function,
            register: Register::$register,
            bit: $bit,
            iced: &[$(CpuidFeature::$iced),*],
        }),*];
    };
}

features! {
    Fpu "fpu" 1 Edx 0 [FPU, FPU287, FPU387];
    Vme "vme" 1 Edx 1 [];
    De "de" 1 Edx 2 [];
    Pse "pse" 1 Edx 3 [];
    Tsc "tsc" 1 Edx 4 [TSC];
    Msr "msr" 1 Edx 5 [MSR];
    Pae "pae" 1 Edx 6 [];
    Mce "mce" 1 Edx 7 [];
    Cx8 "cx8" 1 Edx 8 [CX8];
    Apic "apic" 1 Edx 9 [];
    Sep "sep" 1 Edx 11 [SEP];
    Mtrr "mtrr" 1 Edx 12 [];
    Pge "pge" 1 Edx 13 [];
    Mca "mca" 1 Edx 14 [];
    Cmov "cmov" 1 Edx 15 [CMOV];
    Pat "pat" 1 Edx 16 [];
    Pse36 "pse36" 1 Edx 17 [];
    Clflush "clflush" 1 Edx 19 [CLFSH];
    Mmx "mmx" 1 Edx 23 [MMX];
    Fxsr "fxsr" 1 Edx 24 [FXSR];
    Sse "sse" 1 Edx 25 [SSE];
    Sse2 "sse2" 1 Edx 26 [SSE2];
    Ht "ht" 1 Edx 28 [];
    Sse3 "sse3" 1 Ecx 0 [SSE3];
    Cx16 "cx16" 1 Ecx 13 [CMPXCHG16B];
    Pcid "pcid" 1 Ecx 17 [];
    Movbe "movbe" 1 Ecx 22 [MOVBE];
    Popcnt "popcnt" 1 Ecx 23 [POPCNT];
    Xsave "xsave" 1 Ecx 26 [XSAVE];
    Hypervisor "hypervisor" 1 Ecx 31 [];
    Fsgsbase "fsgsbase" 7 Ebx 0 [FSGSBASE];
    Bmi1 "bmi1" 7 Ebx 3 [BMI1];
    Smep "smep" 7 Ebx 7 [];
    Bmi2 "bmi2" 7 Ebx 8 [BMI2];
    Erms "erms" 7 Ebx 9 [];
    Invpcid "invpcid" 7 Ebx 10 [INVPCID];
    Adx "adx" 7 Ebx 19 [ADX];
    Smap "smap" 7 Ebx 20 [SMAP];
    Clflushopt "clflushopt" 7 Ebx 23 [CLFLUSHOPT];
    Clwb "clwb" 7 Ebx 24 [CLWB];
    Umip "umip" 7 Ecx 2 [];
    Rdpid "rdpid" 7 Ecx 22 [RDPID];
    LahfLm "lahf-lm" 0x8000_0001 Ecx 0 [];
    Svm "svm" 0x8000_0001 Ecx 2 [SVM];
    Abm "abm" 0x8000_0001 Ecx 5 [LZCNT];
    Prefetch3dnow "3dnowprefetch" 0x8000_0001 Ecx 8 [];
    Syscall "syscall" 0x8000_0001 Edx 11 [SYSCALL];
    Nx "nx" 0x8000_0001 Edx 20 [];
    Pdpe1gb "pdpe1gb" 0x8000_0001 Edx 26 [];
    Rdtscp "rdtscp" 0x8000_0001 Edx 27 [RDTSCP];
    Lm "lm" 0x8000_0001 Edx 29 [X64];
    Wbnoinvd "wbnoinvd" 0x8000_0008 Ebx 9 [WBNOINVD];
}

/// What is in a model's list but not shown, and why. To implement a feature: take its line out.
pub const WITHHELD: &[(Feature, &str)] = &[
    (Feature::Xsave, "no XSAVE yet"),
    (Feature::Pcid, "CR3 has no process-context identifiers yet"),
    (Feature::Invpcid, "see pcid"),
    (Feature::Svm, "no nested virtualization"),
    (Feature::Ht, "set by the number of processors"),
];

/// What iced attributes to processors that all models descend from, and what its encoding makes a
/// hint or a #UD on processors without it.
pub(super) const ALWAYS: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::CPUID,
    CpuidFeature::RDPMC,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::PREFETCHW,
];
