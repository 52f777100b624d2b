//! Our devices beside QEMU's: some ten thousand random steps a device. `device_differ` plays more.

use testsuite::device_differ::qemu::{PROGRAM, Qemu};
use testsuite::device_differ::{Plan, listed, run};
use testsuite::skip::skip;

/// Devices that agree but for what is listed.
const AGREE: &[&str] = &["pci", "piix", "ioapic", "uart", "i8042", "fw_cfg", "vga"];

#[test]
fn devices_agree() {
    if !Qemu::exists() {
        return skip("qemu", &format!("no {PROGRAM}"));
    }
    let plan = Plan {
        ops: 20_000,
        seed: 1,
        time: None,
    };
    for device in AGREE {
        match run(device, &plan, &mut |_| {}) {
            Ok(report) => {
                assert!(
                    report.mismatch.is_none(),
                    "{}",
                    report.mismatch.map_or(String::new(), |m| m.to_string())
                );
                assert_eq!(report.ops, plan.ops, "{device}");
            }
            Err(error) => panic!("{device}: {error}"),
        }
    }
}

#[test]
fn at_most_three_differences_a_device_are_listed() {
    for listed in listed::LISTED {
        let count = listed::LISTED
            .iter()
            .filter(|other| other.device == listed.device)
            .count();
        assert!(count <= 3, "{}: {count}", listed.device);
        assert!(!listed.document.is_empty() && !listed.about.is_empty());
    }
}
