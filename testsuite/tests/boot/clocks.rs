//! Time, as the guest measures it and as the host does.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testsuite::boot::{Guests, Kernel, Running};

use crate::SOON;

/// How far two clocks of the guest may part.
const CLOSE: f64 = 0.001;
/// How far the host's clock may: what is told over a serial port is told late.
const HOST: f64 = 0.01;

fn near(a: f64, b: f64, part: f64) -> bool {
    (a - b).abs() <= part * b.abs()
}

/// The number behind `name` in a text.
#[track_caller]
fn number(text: &str, name: &str) -> f64 {
    let behind = text.rsplit_once(name).and_then(|(_, rest)| {
        let number = rest.split_whitespace().next()?;
        number.parse().ok()
    });
    behind.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// The host's time between two words of the guest.
#[track_caller]
fn between(run: &mut Running, words: [&str; 2], time: Duration) -> f64 {
    run.wait_for(words[0], SOON);
    let begin = Instant::now();
    run.wait_for(words[1], time);
    begin.elapsed().as_secs_f64()
}

/// TSC, PIT, PM timer and HPET agree, by the TSC's rate that the kernel found at boot.
#[track_caller]
fn agree(firmware: &[&str]) {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let machine = guests.machine().kernel(Kernel::Cloud, "").args(firmware);
    let mut run = machine.start();
    run.boot();
    // The kernel refines its TSC calibration a second or two after boot.
    run.succeed("sleep 3", SOON);
    let begin = run.log().len();
    run.paste(b"guest-check clock 10\n");
    let words = ["check: clock begins", "check: clock ends"];
    let host = between(&mut run, words, SOON);
    run.wait_for("check: clock ok", SOON);
    let said = run.log().split_off(begin);
    let kernel = number(&said, "clock kernel");
    for name in ["clock pit", "clock pm", "clock hpet"] {
        let clock = number(&said, name);
        assert!(near(clock, kernel, CLOSE), "{name}\n{said}");
    }
    assert!(near(kernel, host, HOST), "{host} s on the host\n{said}");
    let dmesg = run.succeed("dmesg | grep -i 'tsc'", SOON);
    let rate = if dmesg.contains("clocksource calibration:") {
        number(&dmesg, "clocksource calibration:")
    } else {
        number(&dmesg, "tsc: Detected")
    };
    let found = number(&said, "tsc-by-pm");
    assert!(near(found, rate, CLOSE), "{rate} MHz at boot\n{said}");
    run.power_off();
}

#[test]
fn clocks_agree() {
    agree(&[]);
}

#[test]
fn clocks_agree_without_firmware() {
    agree(&["-bios", "none"]);
}

/// Sends a signal to the program.
fn signal(run: &Running, name: &str) {
    let id = run.id().to_string();
    let kill = Command::new("kill").args(["-s", name, &id]).status();
    assert!(kill.expect("kill").success());
}

/// The guest's seconds since its boot, and the host's moment.
fn uptime(run: &mut Running) -> (f64, Instant) {
    let text = run.succeed("cat /proc/uptime", SOON);
    let first = text.split_whitespace().next();
    let seconds = first.and_then(|word| word.parse().ok());
    (seconds.unwrap_or_else(|| panic!("{text}")), Instant::now())
}

#[test]
fn a_program_that_is_stopped_costs_the_guest_no_time() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let mut run = guests.machine().kernel(Kernel::Cloud, "").start();
    run.boot();
    let (before, begin) = uptime(&mut run);
    signal(&run, "TSTP");
    thread::sleep(Duration::from_secs(3));
    signal(&run, "CONT");
    let (after, end) = uptime(&mut run);
    let (guest, host) = (after - before, (end - begin).as_secs_f64());
    assert!(host - guest > 2.9, "{guest} s of {host} s");
    run.power_off();
}

#[test]
fn five_seconds_of_sleep_are_five_seconds() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let mut run = guests.machine().kernel(Kernel::Cloud, "").start();
    run.boot();
    // The words are put together by the shell, so that the echo does not hold them.
    run.paste(b"s=sleep; echo $s-begins; sleep 5; echo $s-ends\n");
    let slept = between(&mut run, ["sleep-begins", "sleep-ends"], SOON);
    assert!((4.95..5.25).contains(&slept), "{slept} s");
    run.power_off();
}
