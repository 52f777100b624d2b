//! KVM's engine on a whole KVM, the AMD kind, inside a machine in QEMU: see `testsuite::nested`.

use std::time::{Duration, Instant};

use testsuite::boot::{BOOT, PROMPT};
use testsuite::nested::Nested;
use twin86::guest::PARTS;

/// Enough for what takes seconds.
const SOON: Duration = Duration::from_secs(60);

/// Parts of the built-in guest that QEMU's software CPU fails by itself, its own guests too.
const LACKING: &[(&str, &str)] = &[
    ("vm86", "virtual-8086 mode in the inner guest resets the outer machine"),
    ("prot-limit", "QEMU checks no segment limits"),
    ("long-strict", "QEMU's page faults of read-modify-write say that a read failed"),
];

#[test]
fn embedded_guest_passes() {
    let Some(mut nested) = Nested::get() else { return };
    let lacks = |name: &str| LACKING.iter().any(|(part, _)| *part == name);
    let parts: Vec<&str> = PARTS.iter().map(|p| p.name).filter(|name| !lacks(name)).collect();
    let line = format!("twin86 --accel=kvm --parts={}", parts.join(","));
    let said = nested.succeed(&line, SOON);
    for name in &parts {
        let ok = said.lines().any(|l| l.starts_with(&format!("{name} .")) && l.contains(" ok ("));
        assert!(ok, "{name}\n{said}");
    }
    let result = format!("result: {} ok, 0 failed, 0 skipped", parts.len());
    assert!(said.contains(&result), "no {result:?}\n{said}");
}

#[test]
fn embedded_guest_agrees() {
    let Some(mut nested) = Nested::get() else { return };
    let t = Instant::now();
    let lacks = |name: &str| LACKING.iter().any(|(part, _)| *part == name);
    let parts: Vec<&str> = PARTS.iter().map(|p| p.name).filter(|name| !lacks(name)).collect();
    let line = format!("twin86 --parts={}", parts.join(","));
    let said = nested.succeed(&line, SOON*3);
    panic!("{:?} {said}", t.elapsed());
}

#[test]
fn engine_tests_pass() {
    let Some(mut nested) = Nested::get() else { return };
    let t = Instant::now();
    let said = nested.command("TESTSUITE_REQUIRE=kvm kvm-tests", SOON * 3);
    panic!("{:?} {} {}", t.elapsed(), said.status, said.text);
}

#[test]
fn linux() {
    let Some(mut nested) = Nested::get() else { return };
    let t = Instant::now();
    nested.paste(b"twin86 -M pc -accel kvm -nic none -L /guests -display none -serial stdio -monitor none -kernel /guests/vmlinuz-cloud -initrd /guests/initrd.cloud.gz -m 256 -append 'console=ttyS0'\n");
    nested.wait_for("init: up after", BOOT);
    nested.wait_for(PROMPT, BOOT);
    eprintln!("{:?}", t.elapsed());
    nested.paste(b"poweroff -f\n");
    nested.wait_for("Power down", SOON);
    nested.wait_for(PROMPT, BOOT);
    let status = nested.command("true", SOON);
    panic!("{:?} {:?}", t.elapsed(), nested.log());
}
