//! Guests that do what no sane guest does: nothing they do panics, hangs or grows the host.

use std::thread;
use std::time::{Duration, Instant};

use accel::CpuModel;
use accel::tcg::Tcg;
use devices::board::BoardOptions;
use devices::board::build::Parts;
use proptest::prelude::*;
use twin86::machine::{Machine, MachineConfig, Outcome};

/// A BIOS whose reset vector jumps to `code` at F000:0000.
fn rom(code: &[u8]) -> Vec<u8> {
    let mut rom = vec![0xF4; 0x1_0000];
    rom[..code.len()].copy_from_slice(code);
    rom[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]);
    rom
}

fn machine(rom: Vec<u8>, no_reboot: bool) -> Machine {
    let config = MachineConfig {
        no_reboot,
        ..MachineConfig::new(
            BoardOptions {
                ram: 4 << 20,
                debug_exit: Some((0x501, 4)),
                debugcon: Some(0x402),
                ..BoardOptions::default()
            },
            Parts {
                bios: rom,
                ..Parts::default()
            },
            CpuModel::by_name("max").expect("a model"),
        )
    };
    Machine::new(config, &Tcg).expect("a machine")
}

/// Runs a guest for at most `time`; it must stop within a second of being told to.
fn run_for(code: &[u8], no_reboot: bool, time: Duration) -> Outcome {
    let mut machine = machine(rom(code), no_reboot);
    let control = machine.control();
    let (done, told) = std::sync::mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let early = told.recv_timeout(time).is_ok();
        control.quit();
        (early, Instant::now())
    });
    let outcome = machine.run().expect("no host error");
    let _ = done.send(());
    let (early, told_at) = watch.join().expect("the watch ends");
    assert!(
        early || told_at.elapsed() < Duration::from_secs(1),
        "it did not stop when told"
    );
    outcome
}

const SHORT: Duration = Duration::from_millis(200);

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS"))
        .expect("a figure");
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// An IDT without entries, then an interrupt.
const TRIPLE_FAULT: &[u8] = &[
    0x2E, 0x0F, 0x01, 0x1E, 0x10, 0x00, // lidt cs:[10h]: limit 0
    0xCD, 0x20, // int 20h
];

#[test]
fn a_triple_fault_ends_the_run() {
    let mut code = TRIPLE_FAULT.to_vec();
    code.resize(0x20, 0);
    assert_eq!(
        run_for(&code, true, SHORT),
        Outcome::Reset { triple_fault: true }
    );
}

#[test]
fn a_guest_may_reset_for_ever() {
    let mut code = TRIPLE_FAULT.to_vec();
    code.resize(0x20, 0);
    assert_eq!(run_for(&code, false, SHORT), Outcome::Stopped);
}

#[test]
fn jumping_into_devices_runs_what_the_bus_gives() {
    // jmp 0A000:0000 (no VGA there: ones), with an IVT of zeros: faults for ever.
    assert_eq!(
        run_for(&[0xEA, 0, 0, 0, 0xA0], true, SHORT),
        Outcome::Stopped
    );
}

#[test]
fn a_loop_of_faults_does_not_grow_the_process() {
    // The IVT's #UD entry points at the faulting instruction.
    let code: &[u8] = &[
        0x31, 0xC0, 0x8E, 0xD8, // xor ax, ax; mov ds, ax
        0xC7, 0x06, 0x18, 0x00, 0x10, 0x00, // mov word [18h], 10h
        0xC7, 0x06, 0x1A, 0x00, 0x00, 0xF0, // mov word [1Ah], F000h
        0x0F, 0x0B, // ud2
    ];
    run_for(code, true, SHORT);
    let before = resident();
    assert_eq!(
        run_for(code, true, Duration::from_millis(600)),
        Outcome::Stopped
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "grown by {grown} KiB");
}

#[test]
fn halting_for_ever_can_be_stopped() {
    assert_eq!(run_for(&[0xFA, 0xF4], true, SHORT), Outcome::Stopped);
}

#[test]
fn code_that_rewrites_itself_for_ever_does_not_grow_the_process() {
    // In RAM at 0500h: increments the immediate of its own MOV.
    let code: &[u8] = &[
        0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, // ds = es = 0
        0xC7, 0x06, 0x00, 0x05, 0xB0, 0x00, // [500h]: mov al, 0
        0xC7, 0x06, 0x02, 0x05, 0xFE, 0x06, // [502h]: inc byte [501h]
        0xC7, 0x06, 0x04, 0x05, 0x01, 0x05, //
        0xC7, 0x06, 0x06, 0x05, 0xEB, 0xF8, // [506h]: jmp 500h
        0xEA, 0x00, 0x05, 0x00, 0x00, // jmp 0:500h
    ];
    run_for(code, true, SHORT);
    let before = resident();
    assert_eq!(
        run_for(code, true, Duration::from_millis(600)),
        Outcome::Stopped
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "grown by {grown} KiB");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_code_does_no_harm(code in prop::collection::vec(any::<u8>(), 64..2048)) {
        run_for(&code, false, Duration::from_millis(20));
    }

    #[test]
    fn random_port_writes_do_no_harm(
        writes in prop::collection::vec((0u16..0xD00, any::<u32>(), 0..3u8), 1..300)
    ) {
        let mut code = Vec::new();
        for (port, value, width) in writes.into_iter().filter(|w| !(0x501..0x505).contains(&w.0)) {
            code.push(0xBA);
            code.extend(port.to_le_bytes());
            code.extend([0x66, 0xB8]);
            code.extend(value.to_le_bytes());
            code.extend(match width {
                0 => &[0xEE][..],
                1 => &[0xEF],
                _ => &[0x66, 0xEF],
            });
        }
        code.extend([0xEB, 0xFE]);
        run_for(&code, false, Duration::from_millis(20));
    }
}
