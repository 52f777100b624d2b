//! Opening KVM: whether it is good, and what it counts.

use std::io::Write as _;
use std::time::{Duration, Instant};

use accel::{CpuModel, VmConfig};

use super::{kvm, skip};

#[test]
fn the_kernel_counts() {
    let Some(kvm) = kvm() else { return };
    let config = VmConfig {
        cpu: CpuModel::by_name("qemu64").expect("a model"),
        tsc_hz: 1_000_000_000,
        virtual_time: None,
        observer: None,
    };
    let vm = kvm.create(&config).expect("a machine");
    let found = vm.statistics();
    if found.is_empty() {
        return skip(&"this kernel has no KVM_GET_STATS_FD");
    }
    assert!(found.iter().all(|s| !s.name.is_empty()), "{found:?}");
    assert!(
        found.iter().any(|s| s.name == "remote_tlb_flush"),
        "{found:?}"
    );
}

/// Whether this KVM passes the start-up probe is known beforehand: a partial one must not.
#[test]
fn the_probe_knows_a_partial_kvm() {
    let Some(kvm) = kvm() else { return };
    let started = Instant::now();
    let probed = kvm.probe();
    let took = started.elapsed();
    let _ = writeln!(std::io::stderr(), "probe: {took:?}: {probed:?}");
    assert_eq!(probed.is_ok(), !kvm.is_partial(), "{probed:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
