//! The guest's CPUID: the model's leaves, with the feature bits that KVM can run.
//!
//! KVM's own hypervisor leaves (40000000h and up) are not shown: the software CPU has none of the
//! paravirtual interfaces they announce. The model's leaf there names twin86 on both engines, and KVM
//! then offers nothing of its own. SDM Vol. 2A, "CPUID"; KVM API, `KVM_GET_SUPPORTED_CPUID`.

use emu::arch::cpuid::{CpuModel, Leaf};
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// CPUID.1:ECX: the local APIC's timer takes a TSC deadline. Our local APIC lives in user space,
/// where KVM cannot bring MSR 6E0h.
const TSC_DEADLINE: u32 = 1 << 24;
/// CPUID.1:ECX: there is a hypervisor. No processor's own, so KVM does not list it, but shows it.
const HYPERVISOR: u32 = 1 << 31;

/// Which registers of a leaf hold feature bits (EAX, EBX, ECX, EDX): these are masked by what KVM
/// supports, everything else is the model's own.
#[rustfmt::skip]
const FEATURES: &[(u32, u32, [bool; 4])] = &[
    (0x1,         0, [false, false, true,  true]),
    (0x7,         0, [false, true,  true,  true]),
    (0x7,         1, [true,  true,  true,  true]),
    (0xD,         0, [true,  false, false, true]),
    (0xD,         1, [true,  false, true,  true]),
    (0x8000_0001, 0, [false, false, true,  true]),
    (0x8000_0007, 0, [false, false, false, true]),
    (0x8000_0008, 0, [false, true,  false, false]),
];

/// A leaf of the model that KVM cannot wholly run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The leaf and sub-leaf.
    pub leaf: (u32, u32),
    /// Register: 0 EAX to 3 EDX.
    pub register: usize,
    /// The bits the guest does not get.
    pub bits: u32,
}

/// The registers of a leaf.
fn registers(entry: &kvm_cpuid_entry2) -> [u32; 4] {
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

/// What KVM supports of a leaf, nothing if it does not list it.
fn supported(by: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let found = by.iter().find(|e| {
        let indexed = e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        e.function == function && (!indexed || e.index == index)
    });
    let mut registers = found.map_or([0; 4], registers);
    if function == 1 {
        registers[2] &= !TSC_DEADLINE;
        registers[2] |= HYPERVISOR;
    }
    registers
}

/// The leaves of `model` with only those features that stand in `by`, and what was masked.
pub(super) fn intersect(model: &CpuModel, by: &[kvm_cpuid_entry2]) -> (Vec<Leaf>, Vec<Masked>) {
    let mut masked = Vec::new();
    let leaves = model.leaves.iter().map(|leaf| {
        let mut leaf = *leaf;
        let index = leaf.index.unwrap_or(0);
        let row = FEATURES
            .iter()
            .find(|r| (r.0, r.1) == (leaf.function, index));
        let Some(&(_, _, features)) = row else {
            return leaf;
        };
        let can = supported(by, leaf.function, index);
        for register in (0..4).filter(|&r| features[r]) {
            let bits = leaf.registers[register] & !can[register];
            leaf.registers[register] &= can[register];
            if bits != 0 {
                masked.push(Masked {
                    leaf: (leaf.function, index),
                    register,
                    bits,
                });
            }
        }
        leaf
    });
    (leaves.collect(), masked)
}

/// The leaves as KVM takes them, for the processor with this APIC ID.
pub(super) fn for_vcpu(leaves: &[Leaf], apic_id: u32) -> Option<CpuId> {
    let entries: Vec<_> = leaves.iter().map(|leaf| entry(leaf, apic_id)).collect();
    CpuId::from_entries(&entries).ok()
}

/// One leaf as KVM takes it.
fn entry(leaf: &Leaf, apic_id: u32) -> kvm_cpuid_entry2 {
    let [eax, mut ebx, ecx, mut edx] = leaf.registers;
    let mut eax = eax;
    match leaf.function {
        0x1 => ebx = ebx & 0x00FF_FFFF | apic_id << 24,
        0xB | 0x1F => edx = apic_id,
        0x8000_001E => eax = apic_id,
        _ => {}
    }
    kvm_cpuid_entry2 {
        function: leaf.function,
        index: leaf.index.unwrap_or(0),
        flags: leaf.index.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_masked_and_named_the_rest_is_the_models() {
        let model = CpuModel {
            name: "test",
            leaves: vec![
                Leaf {
                    function: 1,
                    index: None,
                    registers: [0x600, 7, 0x8100_0003, 0xF],
                },
                Leaf {
                    function: 0x4000_0000,
                    index: None,
                    registers: [1; 4],
                },
            ],
        };
        let by = [kvm_cpuid_entry2 {
            function: 1,
            eax: 0x1234,
            ecx: 0x0100_0001,
            edx: 0xFF,
            ..Default::default()
        }];
        let (leaves, masked) = intersect(&model, &by);
        assert_eq!(leaves.len(), 2);
        assert_eq!(leaves[1].registers, [1; 4], "the model's own name");
        assert_eq!(leaves[0].registers, [0x600, 7, 0x8000_0001, 0xF]);
        let expected = Masked {
            leaf: (1, 0),
            register: 2,
            bits: 0x0100_0002,
        };
        assert_eq!(masked, [expected]);
        let cpuid = for_vcpu(&leaves, 3).unwrap();
        assert_eq!(cpuid.as_slice()[0].ebx, 0x0300_0007);
    }
}
