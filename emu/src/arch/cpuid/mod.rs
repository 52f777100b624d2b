//! CPU models and what CPUID says of them. SDM Vol. 2A, "CPUID"; AMD APM Vol. 3, "CPUID".
//!
//! Both engines show a guest the same leaves. The models are those of QEMU 7.2 (`qemu64`, `max`),
//! less what [`WITHHELD`] names. Both engines say that they are a hypervisor, of a name no guest knows
//! (leaf 40000000h): guests then expect no performance counters and the like, and ask for no
//! paravirtual interface. Not shown though QEMU does: leaf 5 (MONITOR is not offered), leaf 8000000Ah
//! (no SVM).

mod feature;

use iced_x86::CpuidFeature;

use feature::ALWAYS;
pub use feature::{FEATURES, Feature, Register, Row, WITHHELD};

/// Bits of a physical address, as in QEMU's models.
pub const PHYSICAL_BITS: u32 = 40;
/// Bits of a linear address.
pub const LINEAR_BITS: u32 = 48;

/// Leaf 1: family, model, stepping and the first features.
const BASIC: u32 = 1;
/// The leaf of the extended features.
const EXTENDED: u32 = 0x8000_0001;
/// The leaf in which a hypervisor names itself: the highest such leaf, and twelve characters.
const SIGNATURE_LEAF: u32 = 0x4000_0000;
const HYPERVISOR: &[u8; 12] = b"Twin86Twin86";
/// Bits of leaf 1's EDX that AMD repeats in leaf 80000001h. AMD APM Vol. 3, "CPUID Fn8000_0001".
const AMD_ALIASES: u32 = 0x0183_F3FF;
/// Features QEMU's `qemu64` has.
const QEMU64: &[Feature] = &[
    Feature::Fpu,
    Feature::De,
    Feature::Pse,
    Feature::Tsc,
    Feature::Msr,
    Feature::Pae,
    Feature::Mce,
    Feature::Cx8,
    Feature::Apic,
    Feature::Sep,
    Feature::Mtrr,
    Feature::Pge,
    Feature::Mca,
    Feature::Cmov,
    Feature::Pat,
    Feature::Pse36,
    Feature::Clflush,
    Feature::Mmx,
    Feature::Fxsr,
    Feature::Sse,
    Feature::Sse2,
    Feature::Sse3,
    Feature::Cx16,
    Feature::Hypervisor,
    Feature::Syscall,
    Feature::Nx,
    Feature::Lm,
    Feature::LahfLm,
    Feature::Svm,
];

/// What a model is made from.
struct Definition {
    name: &'static str,
    vendor: &'static [u8; 12],
    /// CPUID.1:EAX.
    signature: u32,
    brand: &'static str,
    /// The highest basic leaf.
    level: u32,
    /// The highest extended leaf.
    extended_level: u32,
    /// The features, or `None` for all there are.
    features: Option<&'static [Feature]>,
}

/// Family 15, model 107, stepping 1: an Athlon 64 that no errata list names.
const SIGNATURE: u32 = 0x0006_0FB1;
/// The models `-cpu` knows.
const MODELS: &[Definition] = &[
    Definition {
        name: "qemu64",
        vendor: b"AuthenticAMD",
        signature: SIGNATURE,
        brand: "QEMU Virtual CPU version 2.5+",
        level: 0xD,
        extended_level: 0x8000_000A,
        features: Some(QEMU64),
    },
    Definition {
        name: "max",
        vendor: b"AuthenticAMD",
        signature: SIGNATURE,
        brand: "twin86 CPU",
        level: 0xD,
        extended_level: 0x8000_000A,
        features: None,
    },
];

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
    /// The names of all models.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|m| m.name)
    }

    /// The model `-cpu` calls `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        MODELS.iter().find(|m| m.name == name).map(build)
    }

    /// The same model as processor `apic_id` of a machine with `count` processors shows it.
    #[must_use]
    pub fn for_processor(mut self, apic_id: u32, count: u32) -> Self {
        for leaf in &mut self.leaves {
            let [_, ebx, _, edx] = &mut leaf.registers;
            match leaf.function {
                BASIC => {
                    let several = count > 1;
                    let shown = if several { count.min(0xFF) << 16 } else { 0 };
                    *ebx = *ebx & 0xFFFF | shown | apic_id << 24;
                    *edx |= u32::from(several) << 28;
                }
                0xB => {
                    *edx = apic_id;
                    if leaf.index == Some(1) {
                        leaf.registers[0] = count.max(1).next_power_of_two().trailing_zeros();
                        leaf.registers[1] = count;
                    }
                }
                _ => {}
            }
        }
        self
    }

    /// What CPUID returns for EAX = `function`, ECX = `index`. A leaf that is not there reads as
    /// zero, as AMD has it (Intel shows the highest basic leaf instead).
    pub fn leaf(&self, function: u32, index: u32) -> [u32; 4] {
        self.leaves
            .iter()
            .find(|l| l.function == function && l.index.is_none_or(|i| i == index))
            .map_or([0; 4], |l| l.registers)
    }

    /// Whether CPUID shows a feature.
    pub fn has(&self, feature: Feature) -> bool {
        let row = &FEATURES[feature as usize];
        self.leaf(row.function, 0)[row.register as usize] >> row.bit & 1 != 0
    }

    /// What this model shows and `other` does not: features by name, other bits by their place.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for leaf in &self.leaves {
            let index = leaf.index.unwrap_or(0);
            let theirs = other.leaf(leaf.function, index);
            for (register, (ours, theirs)) in leaf.registers.iter().zip(theirs).enumerate() {
                let more = ours & !theirs;
                let bits = (0..32).filter(|bit| more >> bit & 1 != 0);
                found.extend(bits.map(|bit| bit_name(leaf.function, index, register, bit)));
            }
        }
        found
    }

    /// Family, model and stepping: CPUID.1:EAX, and EDX after reset.
    pub fn signature(&self) -> u32 {
        self.leaf(BASIC, 0)[0]
    }

    /// AMD's variants of decoding.
    pub fn amd(&self) -> bool {
        self.leaf(0, 0)[1..] == vendor_registers(b"AuthenticAMD")
    }

    /// LZCNT exists.
    pub fn has_lzcnt(&self) -> bool {
        self.has(Feature::Abm)
    }

    /// BMI1 exists.
    pub fn has_bmi1(&self) -> bool {
        self.has(Feature::Bmi1)
    }

    /// An instruction's CPUID feature is there.
    pub fn supports(&self, feature: CpuidFeature) -> bool {
        let brings = |row: &&Row| row.iced.contains(&feature);
        ALWAYS.contains(&feature)
            || (FEATURES.iter().find(brings)).is_some_and(|row| self.has(row.feature))
    }
}

/// A feature's name, or where the bit is.
fn bit_name(function: u32, index: u32, register: usize, bit: u8) -> String {
    let is_it = |row: &&Row| {
        (row.function, row.register as usize, row.bit) == (function, register, bit) && index == 0
    };
    let named = FEATURES.iter().find(is_it).map(|row| row.name.to_owned());
    named.unwrap_or_else(|| {
        let register = ["EAX", "EBX", "ECX", "EDX"][register & 3];
        format!("CPUID.{function:X}h.{index}:{register}[{bit}]")
    })
}

/// EBX, ECX and EDX of leaf 0: the vendor goes by EBX, EDX, ECX.
fn vendor_registers(vendor: &[u8; 12]) -> [u32; 3] {
    let word = |at: usize| {
        let bytes = [vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]];
        u32::from_le_bytes(bytes)
    };
    [word(0), word(8), word(4)]
}

/// The leaves of a model on processor 0 of one.
fn build(m: &Definition) -> CpuModel {
    let [ebx, ecx, edx] = vendor_registers(m.vendor);
    // A vendor's name goes by EBX, EDX, ECX, a hypervisor's by EBX, ECX, EDX.
    let [name, third, second] = vendor_registers(HYPERVISOR);
    let mut leaves = fixed_leaves();
    leaves.extend([
        leaf(SIGNATURE_LEAF, [SIGNATURE_LEAF, name, second, third]),
        leaf(0, [m.level, ebx, ecx, edx]),
        // EBX: CLFLUSH moves 8 * 8 bytes.
        leaf(BASIC, [m.signature, 0x0800, 0, 0]),
        leaf(0x8000_0000, [m.extended_level, ebx, ecx, edx]),
        leaf(EXTENDED, [m.signature, 0, 0, 0]),
    ]);
    leaves.extend(brand_leaves(m.brand));
    for row in FEATURES {
        let listed = m.features.is_none_or(|list| list.contains(&row.feature));
        let withheld = WITHHELD.iter().any(|&(feature, _)| feature == row.feature);
        let shown = leaves.iter_mut().find(|l| l.function == row.function);
        if let (true, false, Some(leaf)) = (listed, withheld, shown) {
            leaf.registers[row.register as usize] |= 1 << row.bit;
        }
    }
    if m.vendor == b"AuthenticAMD" {
        let find = |function| move |l: &&mut Leaf| l.function == function;
        let basic = leaves.iter_mut().find(find(BASIC)).map(|l| l.registers[3]);
        if let (Some(edx), Some(extended)) = (basic, leaves.iter_mut().find(find(EXTENDED))) {
            extended.registers[3] |= edx & AMD_ALIASES;
        }
    }
    leaves.sort_by_key(|l| (l.function, l.index));
    CpuModel {
        name: m.name,
        leaves,
    }
}

fn leaf(function: u32, registers: [u32; 4]) -> Leaf {
    Leaf {
        function,
        index: None,
        registers,
    }
}

/// Leaves all models have alike: topology, caches and TLBs (as QEMU's models), address sizes.
fn fixed_leaves() -> Vec<Leaf> {
    let topology = |index, registers| Leaf {
        index: Some(index),
        ..leaf(0xB, registers)
    };
    vec![
        Leaf {
            index: Some(0),
            ..leaf(7, [0; 4])
        },
        topology(0, [0, 1, 0x100, 0]),
        topology(1, [0, 1, 0x201, 0]),
        leaf(
            0x8000_0005,
            [0x01FF_01FF, 0x01FF_01FF, 0x4002_0140, 0x4002_0140],
        ),
        leaf(0x8000_0006, [0, 0x4200_4200, 0x0200_8140, 0x0080_8140]),
        leaf(0x8000_0008, [LINEAR_BITS << 8 | PHYSICAL_BITS, 0, 0, 0]),
    ]
}

/// Leaves 80000002h to 80000004h: 48 characters, padded with zeros.
fn brand_leaves(brand: &str) -> impl Iterator<Item = Leaf> {
    let mut bytes = [0; 48];
    for (to, from) in bytes.iter_mut().zip(brand.bytes()) {
        *to = from;
    }
    (0..3).map(move |part| {
        let mut registers = [0; 4];
        for (word, register) in registers.iter_mut().enumerate() {
            let at = part * 16 + word * 4;
            let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            *register = u32::from_le_bytes(word);
        }
        leaf(0x8000_0002 + part as u32, registers)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> CpuModel {
        CpuModel::by_name(name).unwrap_or_else(|| panic!("no model {name}"))
    }

    #[test]
    fn rows_stand_at_their_feature_and_no_bit_is_named_twice() {
        for (at, row) in FEATURES.iter().enumerate() {
            assert_eq!(row.feature as usize, at);
            let place = |r: &Row| (r.function, r.register as u8, r.bit);
            let same = FEATURES.iter().filter(|r| place(r) == place(row)).count();
            assert_eq!(same, 1, "{}", row.name);
        }
    }

    /// Against `qemu-system-x86_64 7.2 -cpu qemu64 -accel tcg`.
    #[test]
    fn qemu64_is_qemus_less_what_is_withheld() {
        let m = model("qemu64");
        assert_eq!(m.leaf(0, 0), [0xD, 0x6874_7541, 0x444D_4163, 0x6974_6E65]);

        assert_eq!(
            m.leaf(1, 0),
            [0x0006_0FB1, 0x0800, 0x8000_2001, 0x078B_FBFD]
        );
        assert_eq!(
            m.leaf(0x8000_0001, 0),
            [0x0006_0FB1, 0, 0x5 & !(1 << 2), 0x2193_FBFD]
        );
        assert_eq!(m.leaf(0x8000_0000, 0)[0], 0x8000_000A);
        assert_eq!(
            m.leaf(0x8000_0002, 0),
            [0x554D_4551, 0x7269_5620, 0x6C61_7574, 0x5550_4320]
        );
        assert_eq!(
            m.leaf(0x8000_0003, 0),
            [0x7265_7620, 0x6E6F_6973, 0x352E_3220, 0x2B]
        );
        assert_eq!(m.leaf(0x8000_0008, 0), [0x3028, 0, 0, 0]);
        assert_eq!(m.leaf(0xB, 0), [0, 1, 0x100, 0]);
        assert_eq!(m.leaf(0xB, 1), [0, 1, 0x201, 0]);
        assert_eq!(m.signature(), 0x0006_0FB1);
    }

    #[test]
    fn leaves_out_of_range_are_zero() {
        let m = model("max");
        for function in [2, 0xE, 0x4000_0001, 0x8000_0100, 0xC000_0000, u32::MAX] {
            assert_eq!(m.leaf(function, 0), [0; 4], "{function:#x}");
        }
        assert_eq!(m.leaf(7, 1), [0; 4]);
    }

    #[test]
    fn instructions_follow_their_bits() {
        let (old, new) = (model("qemu64"), model("max"));
        for f in [
            CpuidFeature::INTEL8086,
            CpuidFeature::X64,
            CpuidFeature::CMOV,
            CpuidFeature::FPU,
            CpuidFeature::SSE2,
        ] {
            assert!(old.supports(f) && new.supports(f), "{f:?}");
        }
        for f in [
            CpuidFeature::LZCNT,
            CpuidFeature::BMI2,
            CpuidFeature::RDTSCP,
        ] {
            assert!(!old.supports(f) && new.supports(f), "{f:?}");
        }
        for f in [CpuidFeature::AVX, CpuidFeature::VMX] {
            assert!(!old.supports(f) && !new.supports(f), "{f:?}");
        }
    }

    #[test]
    fn what_another_model_lacks_is_named() {
        let (old, new) = (model("qemu64"), model("max"));
        assert_eq!(old.beyond(&old), [""; 0]);
        let more = new.beyond(&old);
        assert!(more.iter().any(|name| name == "popcnt"), "{more:?}");
        let mut less = old.clone();
        let basic = less.leaves.iter_mut().find(|l| l.function == BASIC);
        basic.expect("leaf 1").registers = [old.signature(), 0, u32::MAX, u32::MAX - 1];
        assert_eq!(old.beyond(&less), ["CPUID.1h.0:EBX[11]", "fpu"]);
    }

    #[test]
    fn processors_are_numbered() {
        let m = model("qemu64").for_processor(3, 4);
        assert_eq!(m.leaf(1, 0)[1], 3 << 24 | 4 << 16 | 0x800);
        assert!(m.has(Feature::Ht));
        assert_eq!(m.leaf(0xB, 1), [2, 4, 0x201, 3]);
    }
}
