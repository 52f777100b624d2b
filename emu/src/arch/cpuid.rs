//! CPU models and what CPUID says of them. SDM Vol. 2A, "CPUID"; AMD APM Vol. 3, "CPUID".

/// One CPUID leaf (with its sub-leaf where it has any).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Value of EAX that selects it.
    pub function: u32,
    /// Value of ECX that selects the sub-leaf, or `None` where ECX does not matter.
    pub index: Option<u32>,
    /// EAX, EBX, ECX, EDX.
    pub registers: [u32; 4],
}

/// A processor model: a name and the CPUID leaves that follow from its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// The name `-cpu` knows it by.
    pub name: &'static str,
    /// The leaves, sorted by function and index. Bits that depend on state (OSXSAVE, APIC ID) are
    /// as after reset on processor 0.
    pub leaves: Vec<Leaf>,
}

impl CpuModel {
    /// x
    pub fn by_name(_: &str) -> Option<Self> {
        None
    }
    /// x
    pub fn names() -> &'static [&'static str] {
        &[]
    }
    /// CPUID.1:EAX: family, model, stepping.
    pub fn signature(&self) -> u32 {
        0x663
    }
    /// AMD's variants of decoding.
    pub fn amd(&self) -> bool {
        false
    }
    /// LZCNT exists.
    pub fn has_lzcnt(&self) -> bool {
        true
    }
    /// BMI1 exists.
    pub fn has_bmi1(&self) -> bool {
        true
    }
    /// An instruction's CPUID feature is there.
    pub fn supports(&self, _feature: iced_x86::CpuidFeature) -> bool {
        true
    }
}
