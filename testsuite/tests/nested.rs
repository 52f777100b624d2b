//! KVM's engine on a whole KVM, the AMD kind, inside a machine in QEMU: see `testsuite::nested`.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use testsuite::boot::{BOOT, Kernel, Known, PROMPT, Running, apart};
use testsuite::nested::{Nested, RESET};
use testsuite::skip::skip;
use twin86::guest::PARTS;

/// Enough for what takes seconds.
const SOON: Duration = Duration::from_secs(60);
/// Where SeaBIOS's log goes, in the outer machine.
const LOG: &str = "/tmp/log";
/// What SeaBIOS says when nothing is left to boot.
const NOTHING: &str = "No bootable device";

/// The part that QEMU's software CPU may not survive.
const VM86: &str = "vm86";
/// Parts of the built-in guest that QEMU's software CPU fails by itself, its own guests too.
#[rustfmt::skip]
const LACKING: &[(&str, &str)] = &[
    (VM86, "it has a test of its own"),
    ("prot-limit", "QEMU's software CPU checks no segment limits"),
    ("prot-callgate", "QEMU's software CPU raises #TS for an inner stack that is not present"),
    ("prot-conform", "QEMU's software CPU changes CPL through a call gate to conforming code"),
    ("prot-expand", "QEMU's software CPU checks no segment limits"),
    ("prot-task-gate", "QEMU's software CPU raises #TS for a task gate into the LDT"),
    ("prot-task-fault", "QEMU's software CPU has no T bit and saves no RF"),
    ("prot16", "QEMU's software CPU keeps no upper half of ESP on a 16-bit inner stack"),
    ("vm86-flags", "QEMU's software CPU goes on into a handler that is not in ring 0"),
    ("vm86-limit", "QEMU's software CPU checks no segment limits"),
    ("long-strict", "its faults of read-modify-write are those of reads"),
];
/// Tests of the engine for which the same is true.
#[rustfmt::skip]
const DEBUG_REGISTERS: &[&str] = &[
    "debugger::a_debugger_breaks",
    "debugger::a_debugger_steps_and_breaks_in_real_mode",
    "debugger::a_debugger_watches",
];
/// What a kernel says of time, which QEMU's software CPU passes slowly and, on a busy host, unevenly.
const CLOCKS: &[Known] = &[
    Known {
        part: "tsc",
        cause: "the rate is measured by PIT, PM timer or HPET, by what is even enough",
    },
    Known {
        part: "TSC",
        cause: "the same",
    },
    Known {
        part: "Calibrating delay loop",
        cause: "the same: by ticks, if by none of them",
    },
    Known {
        part: "Switched to clocksource",
        cause: "the TSC, or the HPET if its watchdog finds the TSC uneven, then or later",
    },
    Known {
        part: "Unstable clock detected",
        cause: "the same",
    },
    Known {
        part: "If you want to keep using the local clock, then add:",
        cause: "the same, in more lines",
    },
    Known {
        part: "\"trace_clock=local\"",
        cause: "the same",
    },
    Known {
        part: "on the kernel command line",
        cause: "the same",
    },
    Known {
        part: "read-back delay",
        cause: "two reads of the HPET are long apart",
    },
    Known {
        part: "took # usecs",
        cause: "said of what takes more than 10 ms",
    },
    Known {
        part: "sched_clock: Marking stable",
        cause: "the sign of a difference",
    },
    Known {
        part: "hrtimer: interrupt took",
        cause: "said of what takes more than 1 ms",
    },
    Known {
        part: "APIC calibration not consistent",
        cause: "interrupts came late",
    },
    Known {
        part: "APIC delta adjusted to PM-Timer",
        cause: "the same",
    },
    Known {
        part: "PM-Timer running at invalid rate",
        cause: "interrupts came late, and it is left out",
    },
    Known {
        part: "PM-Timer had inconsistent results",
        cause: "two reads of it were long apart, and it is left out",
    },
    Known {
        part: "clocksource: acpi_pm: mask",
        cause: "the same",
    },
];

/// The parts that can be run, the others skipped by name.
fn parts() -> Vec<&'static str> {
    for (name, why) in LACKING.iter().filter(|(name, _)| *name != VM86) {
        skip("whole-cpu", &format_args!("part {name}: {why}"));
    }
    let lacks = |name: &&str| LACKING.iter().any(|(part, _)| part == name);
    let names = PARTS.iter().map(|part| part.name);
    names.filter(|name| !lacks(name)).collect()
}

/// What a failure says.
fn words(failure: &(dyn Any + Send)) -> &str {
    failure.downcast_ref::<String>().map_or("", String::as_str)
}

/// Checks that two logs have the same lines, what is `known` and all numbers aside.
#[track_caller]
fn same(kvm: &str, tcg: &str, known: &[Known]) {
    assert!(kvm.lines().count() > 10, "too little to compare:\n{kvm}");
    let lines = apart(kvm, tcg, known);
    assert!(
        lines.is_empty(),
        "in\n{kvm}\n+ kvm, - tcg:\n{}",
        lines.join("\n")
    );
}

/// Every part passes on both engines, and the engines agree on all its exits.
#[test]
fn the_built_in_guest_passes_and_agrees_with_tcg() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let parts = parts();
    let said = nested.succeed(&format!("twin86 --parts={}", parts.join(",")), SOON);
    let ok = format!("result: {} ok, 0 failed, 0 skipped", parts.len());
    assert_eq!(said.matches(&ok).count(), 2, "{ok} twice, in\n{said}");
    for words in ["== kvm: passed", "== tcg and kvm agree: "] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
}

/// In every mode there is, at points that have nothing to do with what runs.
#[test]
fn the_built_in_guest_passes_wherever_it_is_moved() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let mut parts = parts();
    parts.retain(|name| !name.starts_with("prot") && !name.starts_with("vm86"));
    parts.retain(|name| *name != "events");
    let why =
        "QEMU's software CPU knows of no fault before one that KVM lets it deliver again: no #DF";
    skip("whole-cpu", &format_args!("part events, by itself: {why}"));
    let why = "QEMU's software CPU aborts at an inner stack of a busy 32-bit TSS that it has not loaded itself";
    skip(
        "whole-cpu",
        &format_args!("parts prot* and vm86*, moved: {why}"),
    );
    parts.retain(|name| !["pic-pit", "apic"].contains(name));
    let why = "QEMU's software CPU forgets STI's shadow at an entry: once in a few hundred runs HLT waits for ever";
    skip(
        "whole-cpu",
        &format_args!("parts pic-pit and apic, moved: {why}"),
    );
    let names = parts.join(",");
    // A terminal takes no longer line than 1 KiB.
    let plan = "$(seq 31 31 3069 | sed s/^/exits=/ | tr '\\n' ,)monitor";
    let line = format!("twin86 --accel=kvm --parts={names} --accel-switch-at={plan}");
    let said = nested.succeed(&line, SOON);
    let ok = format!("result: {} ok, 0 failed, 0 skipped", parts.len());
    let moves = said
        .split(" switches")
        .next()
        .and_then(|s| s.rsplit(' ').next());
    let moves: u32 = moves.and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(said.contains(&ok) && moves > 60, "{said}");
}

/// An exit from virtual-8086 mode resets the outer machine, which is not the program's fault; this
/// part seldom has one there.
#[test]
fn the_built_in_guests_virtual_8086_mode() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let line = format!("twin86 --accel=kvm --parts={VM86}");
    match catch_unwind(AssertUnwindSafe(|| nested.command(&line, SOON))) {
        Ok(reply) => assert_eq!(reply.status, 0, "{}", reply.text),
        Err(said) if words(&*said).starts_with(RESET) => {
            skip("whole-cpu", &format_args!("part {VM86}: {RESET}"));
        }
        Err(other) => resume_unwind(other),
    }
}

#[test]
fn the_engines_tests_pass() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let mut line = "TESTSUITE_REQUIRE=kvm kvm-tests".to_owned();
    for name in DEBUG_REGISTERS {
        skip(
            "whole-cpu",
            &format_args!("{name}: QEMU's SVM loads no DR7"),
        );
        line.push_str(&format!(" --skip {name}"));
    }
    let said = nested.succeed(&line, SOON * 3);
    assert!(said.contains("test result: ok."), "{said}");
}

/// From the boot to the shell, programs that compute and fault, and the end.
fn lives(run: &mut Running) {
    run.boot();
    run.succeed("guest-check signals && guest-check math", SOON);
    run.paste(b"poweroff -f\n");
    run.wait_for("Power down", SOON);
}

/// A kernel says the same on both engines; it obeys, and ends the machine.
#[track_caller]
fn linux(kernel: Kernel) {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let machine = guests.machine().kernel(kernel, "");
    let mut run = machine.start();
    lives(&mut run);
    let theirs = run.log();
    assert!(run.ends(SOON).success());

    nested.start(&machine.args(["-stats"]));
    lives(&mut nested);
    let ours = nested.said();
    assert_eq!(nested.ended(SOON), 0);
    let counted = nested.said();
    assert!(counted.contains("IO_INSTRUCTION"), "{counted}");
    assert!(!counted.contains(" rescue "), "{counted}");
    same(&ours, &theirs, CLOCKS);
}

#[test]
fn cloud_kernel() {
    linux(Kernel::Cloud);
}

#[test]
fn i686_kernel() {
    linux(Kernel::I686);
    let why = "QEMU's software CPU sets A in PDPTEs, where KVM wants 0: MOV to CR4 faults";
    skip("whole-cpu", &format_args!("686-pae kernel: {why}"));
}

/// What `seq 1 N | sha256sum` says, by coreutils.
const SUM_30000: &str = "5bc81dbc42fe0b86fd1c103f37dfa3de5bd7e8a1767fd1bd4a2471aa8be7a06e  -";
/// The same, of more.
const SUM_100000: &str = "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f  -";

/// Accesses to the board: of the firmware, the kernel's early ones, those of its console until the shell.
const POINTS: [u32; 10] = [
    15_000, 45_000, 65_000, 74_000, 78_000, 82_000, 86_000, 90_000, 95_000, 100_000,
];

/// A kernel that is moved from KVM to tcg and back at ten points of its boot.
#[test]
fn a_boot_goes_on_wherever_it_is_moved() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let plan = POINTS
        .map(|exits| format!("exits={exits},insns=4M"))
        .join(",");
    let machine = guests.machine().kernel(Kernel::Cloud, "");
    let machine = machine.args(["--stats", "--accel-switch-at", &plan]);
    nested.start(&machine);
    nested.boot();
    let said = nested.succeed("seq 1 30000 | sha256sum", SOON);
    assert!(said.contains(SUM_30000), "{said}");
    nested.succeed("guest-check signals && guest-check math", SOON);
    nested.paste(b"poweroff -f\n");
    nested.wait_for("Power down", SOON);
    assert_eq!(nested.ended(SOON), 0);
    let said = nested.said();
    let line = |begin: &str| {
        // Not what KVM calls so.
        let mut lines = said.lines().filter(|line| !line.contains(" kernel "));
        let line = lines.rfind(|line| line.starts_with(begin));
        let line = line.unwrap_or_else(|| panic!("no {begin} in\n{said}"));
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("exits "), ["exits", "kvm", "tcg"]);
    assert_eq!(line("stays "), ["stays", "11", "10"]);
    let counted = line("instructions ");
    let on_tcg: u64 = counted[2].parse().expect("a count");
    assert!((40_000_000..200_000_000).contains(&on_tcg), "{counted:?}");
    assert!(!said.contains(" rescue "), "{said}");
}

/// Programs compute while the monitor moves the machine below them.
#[test]
fn programs_do_not_notice_moves_by_the_monitor() {
    const MONITOR: &str = "(twin86) ";
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let machine = guests.machine().args(["-nographic", "-m", "256"]);
    let machine = machine.args(["-append", "console=ttyS0", "-kernel"]);
    let machine = machine.args([guests.file("vmlinuz-cloud")]);
    let machine = machine.args(["-initrd".into(), guests.file("initrd.cloud.gz")]);
    nested.start(&machine);
    nested.boot();
    nested.paste(b"(seq 1 100000 | sha256sum; guest-check math) & \n");
    nested.wait_for(PROMPT, SOON);
    nested.paste(b"\x01c");
    nested.wait_for(MONITOR, SOON);
    for engine in ["tcg", "kvm"].into_iter().cycle().take(20) {
        nested.paste(format!("accel_set {engine}\n").as_bytes());
        nested.wait_for(MONITOR, SOON);
        thread::sleep(Duration::from_millis(100));
    }
    nested.paste(b"info accel\n");
    nested.wait_for("accelerator: kvm (switches: 20)", SOON);
    nested.paste(b"\x01c");
    assert!(
        !nested.said().contains(SUM_100000),
        "it was not moved below"
    );
    nested.paste(b"wait; echo all-$((6*7))\n");
    nested.wait_for("all-42", SOON * 2);
    for words in [SUM_100000, "check: math ok"] {
        assert!(nested.said().contains(words), "no {words}");
    }
    nested.paste(b"poweroff -f\n");
    nested.wait_for("Power down", SOON);
    assert_eq!(nested.ended(SOON), 0);
}

/// SeaBIOS's own log, once it finds nothing to boot.
fn seabios(run: &mut Running) {
    run.wait_for(NOTHING, SOON);
    run.paste(b"\x01x");
}

#[test]
fn firmware_says_the_same() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let bios = guests.file("bios-256k.bin");
    let machine = guests.machine().args(["-nographic", "-bios"]).args([bios]);
    let log = std::env::temp_dir().join(format!("twin86-nested-{}", std::process::id()));
    let mut run = machine.clone().firmware_log(&log).start();
    seabios(&mut run);
    assert!(run.ends(SOON).success());
    let theirs = fs::read_to_string(&log).expect("a log");
    let _ = fs::remove_file(&log);

    nested.start(&machine.firmware_log(Path::new(LOG)));
    seabios(&mut nested);
    assert_eq!(nested.ended(SOON), 0);
    let ours = nested.succeed(&format!("cat {LOG}"), SOON);
    // How much of that last line is out when the machine ends is chance.
    let until = |log: &str| log.split(NOTHING).next().unwrap_or_default().to_owned();
    assert!(ours.contains(NOTHING), "{ours}");
    same(&until(&ours), &until(&theirs), &[]);
}

/// GRUB's prompt, asked and answering, and the end.
fn grub(run: &mut Running) {
    run.wait_for("GNU GRUB", BOOT);
    run.wait_for("for a command-line", SOON);
    run.paste(b"c");
    run.wait_for("grub>", SOON);
    run.type_line("set a=twin");
    run.wait_for("grub>", SOON);
    run.type_line("echo answer-$a");
    run.wait_for("answer-twin", SOON);
    run.wait_for("grub>", SOON);
    run.type_line("halt");
}

/// What is written to a screen, without the terminal's escape sequences (ECMA-48 CSI), blanks, and
/// the seconds counted down: when the cursor is moved where, and so what is blank, time decides.
fn written(said: &str) -> String {
    let mut pieces = said.split("\x1b[");
    let first = pieces.next().unwrap_or_default();
    let behind = |piece: &str| {
        let end = piece.find(|c: char| c.is_ascii_alphabetic());
        piece[end.map_or(piece.len(), |end| end + 1)..].to_owned()
    };
    let text: String = std::iter::once(first.to_owned())
        .chain(pieces.map(behind))
        .collect();
    let text: String = text.split_whitespace().collect();
    const COUNTDOWN: &str = "Thehighlightedentrywillbeexecutedautomaticallyin";
    let mut pieces = text.split(COUNTDOWN);
    let first = pieces.next().unwrap_or_default().to_owned();
    let behind = |piece: &str| {
        let digits = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.trim_start_matches("s.").to_owned()
    };
    std::iter::once(first).chain(pieces.map(behind)).collect()
}

#[test]
fn grubs_rescue_cdrom_says_the_same() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let guests = nested.guests();
    let machine = guests.machine().args(["-nographic"]);
    let machine = machine.cdrom(&guests.file("grub-rescue-cdrom.iso"));
    let mut run = machine.start();
    grub(&mut run);
    let theirs = run.log();
    assert!(run.ends(SOON).success());

    nested.start(&machine);
    grub(&mut nested);
    assert_eq!(nested.ended(SOON), 0);
    // The outer shell's prompt follows.
    let ours = nested.said();
    let ours = ours.split("guest# ").next().unwrap();
    assert_eq!(written(ours), written(&theirs));
}

/// A command after which the outer machine is gone is named, and the next test gets a new one.
#[test]
fn a_reset_of_the_outer_machine_is_named() {
    let Some(mut nested) = Nested::get() else {
        return;
    };
    let lost = catch_unwind(AssertUnwindSafe(|| nested.command("reboot -f", SOON)));
    drop(nested);
    let said = lost.expect_err("a machine that is gone");
    let said = words(&*said);
    assert!(said.starts_with(RESET), "{said}");
    let mut nested = Nested::get().expect("another one");
    assert_eq!(nested.command("true", SOON).status, 0);
}
