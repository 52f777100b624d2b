//! One instruction in any mode and ring, on KVM and on the interpreter: a short campaign with a fixed seed.

use std::time::Duration;

use testsuite::skip::skip;
use testsuite::system::campaign::{Plan, run};
use testsuite::system::generate::Generator;
use testsuite::system::world;

#[test]
fn kvm_and_the_interpreter_agree() {
    let plan = Plan {
        cases: 60_000,
        seed: 1,
        shard: (0, 1),
        time: Some(Duration::from_secs(10)),
    };
    let mut told = Vec::new();
    let report = match run(
        &plan,
        &mut |line| told.push(line.to_owned()),
        &mut |_, _| {},
    ) {
        Ok(report) => report,
        Err(error) => return skip("kvm", &error),
    };
    assert!(report.ran > 100, "{report}");
    assert_eq!(report.differences(), 0, "{}\n{report}", told.join("\n"));
}

#[test]
fn a_seed_gives_the_same_cases() {
    let [mut a, mut b] = [Generator::new(7), Generator::new(7)];
    for _ in 0..1000 {
        let case = a.case();
        assert_eq!(case, b.case());
        assert!(case.mode.rings().contains(&case.cpl));
        assert_eq!(world::state(&case).rflags, case.flags());
    }
}
