//! Speed of whole guests against QEMU TCG: `cargo bench -p testsuite --bench guest [-- ROW... | --rounds N]`.
//!
//! Both emulators boot Debian's cloud kernel and run the rows of `guest/bench.c`, a static program in
//! the initramfs. Compared are CPU seconds of the emulator's process, the median of three rounds, to
//! the better of QEMU's `-cpu max` and `-cpu qemu64`. The first row is the boot itself.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use testsuite::boot::{Guests, Kernel, Machine, Running};

/// Rows of a kind, and how many times QEMU's CPU seconds they may take: each of them, and their
/// geometric mean.
struct Group {
    name: &'static str,
    rows: &'static [&'static str],
    each: f64,
    mean: f64,
}

const BOOT: &str = "boot";

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group { name: "boot", rows: &[BOOT], each: 2.5, mean: 2.5 },
    Group { name: "integer", rows: &["sieve", "crc32", "sha256", "sort"], each: 8.0, mean: 4.0 },
    Group { name: "branches", rows: &["interp", "calls"], each: f64::INFINITY, mean: 4.0 },
    Group { name: "memory", rows: &["chase", "memcpy", "repmovs"], each: f64::INFINITY, mean: 1.5 },
    Group { name: "floating point", rows: &["scalar", "packed", "x87"], each: f64::INFINITY, mean: 2.0 },
    Group { name: "system", rows: &["getpid", "fork", "pipe", "faults"], each: f64::INFINITY, mean: 2.0 },
    Group { name: "code that changes, ports", rows: &["smc-patch", "smc-data", "smc-make", "ports"], each: f64::INFINITY, mean: 0.3 },
];

/// A row may take this long on a busy host.
const LONG: Duration = Duration::from_secs(300);

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guest/bench.c")
}

/// A cpio archive (newc) with one program in it. Document: Linux, "initramfs buffer format".
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes, mode) in [(name, bytes, 0o10_0755), ("TRAILER!!!", &[][..], 0)] {
        let sizes = (bytes.len(), name.len() + 1);
        let zeros = "00000000";
        let head = format!(
            "0707010000000{}{mode:08X}{zeros}{zeros}00000001{zeros}{:08X}{zeros}{zeros}{zeros}{zeros}{:08X}{zeros}",
            u8::from(mode != 0),
            sizes.0,
            sizes.1
        );
        out.extend(head.into_bytes());
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// The kernel's initramfs with the program behind it.
fn initrd(guests: &Guests, folder: &Path) -> io::Result<PathBuf> {
    let program = folder.join("bench");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-Wall", "-o"]).arg(&program);
    let made = cc.arg(source()).arg("-lm").status()?;
    if !made.success() {
        return Err(io::Error::other("bench.c does not compile"));
    }
    let mut bytes = fs::read(guests.file("initrd.cloud.gz"))?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(archive("bin/bench", &fs::read(program)?));
    let path = folder.join("initrd");
    fs::write(&path, bytes)?;
    Ok(path)
}

/// The machine that is measured.
fn with<'a>(machine: Machine<'a>, initrd: &Path, cpu: &str) -> Machine<'a> {
    let machine = machine.kernel(Kernel::Cloud, "quiet");
    machine.args(["-cpu", cpu, "-initrd"]).args([initrd])
}

/// CPU seconds so far.
fn seconds(running: &Running) -> f64 {
    running.usage().cpu.as_secs_f64()
}

/// Boots and runs the rows once: CPU seconds and checksum of each.
fn round(machine: &Machine<'_>, rows: &[&str]) -> Vec<(f64, String)> {
    let mut running = machine.start();
    running.boot();
    let mut results = vec![(seconds(&running), String::new())];
    for row in &rows[1..] {
        let before = seconds(&running);
        let said = running.succeed(&format!("bench {row}"), LONG);
        let sum = said.split_whitespace().last().unwrap_or_default();
        results.push((seconds(&running) - before, sum.to_string()));
    }
    results
}

/// The medians of some rounds' rows.
fn medians(rounds: &[Vec<(f64, String)>]) -> Vec<f64> {
    let median = |row: usize| {
        let mut times: Vec<f64> = rounds.iter().map(|round| round[row].0).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (0..rounds[0].len()).map(median).collect()
}

/// What the user asked for: rows and rounds.
fn arguments() -> Result<(Vec<&'static str>, usize), String> {
    let all = || GROUPS.iter().flat_map(|group| group.rows).copied();
    let mut rows = vec![BOOT];
    let mut rounds = 3;
    // Cargo says --bench.
    let mut given = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(word) = given.next() {
        if word == "--rounds" {
            let number = given.next().and_then(|n| n.parse().ok());
            rounds = number.filter(|&n| n > 0).ok_or("--rounds needs a number")?;
            continue;
        }
        let known = all().find(|&row| row == word);
        rows.push(known.ok_or_else(|| format!("{word} is no row"))?);
    }
    if rows.len() == 1 {
        rows = all().collect();
    }
    Ok((rows, rounds))
}

fn print_table(rows: &[&str], ours: &[f64], theirs: [&[f64]; 2]) {
    println!("row          twin86 s  max s  qemu64 s  ratio");
    for group in GROUPS {
        let mut product = (1.0f64, 0);
        for (at, row) in rows.iter().enumerate() {
            if !group.rows.contains(row) {
                continue;
            }
            let best = theirs[0][at].min(theirs[1][at]).max(0.01);
            let ratio = ours[at].max(0.01) / best;
            product = (product.0 * ratio, product.1 + 1);
            let missed = if ratio > group.each { "  missed" } else { "" };
            println!(
                "  {row:<10} {:>8.2} {:>6.2} {:>9.2}  {ratio:>5.2}{missed}",
                ours[at], theirs[0][at], theirs[1][at]
            );
        }
        if product.1 == group.rows.len() {
            let mean = product.0.powf(1.0 / f64::from(product.1 as u32));
            let missed = if mean > group.mean { "  missed" } else { "" };
            println!(
                "{:<40} {mean:>5.2} (goal {}){missed}",
                group.name, group.mean
            );
        }
    }
}

fn main() -> ExitCode {
    let (rows, rounds) = match arguments() {
        Ok(given) => given,
        Err(problem) => {
            println!(
                "{problem}; rows: {:?}",
                GROUPS.iter().map(|g| g.rows).collect::<Vec<_>>()
            );
            return ExitCode::from(2);
        }
    };
    let Some(guests) = Guests::alone() else {
        return ExitCode::SUCCESS;
    };
    let Some(reference) = guests.reference() else {
        return ExitCode::SUCCESS;
    };
    let folder = std::env::temp_dir().join(format!("twin86-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let initrd = initrd(&guests, &folder).expect("an initramfs");
    let machines = [
        with(guests.machine(), &initrd, "max"),
        with(reference.clone(), &initrd, "max"),
        with(reference, &initrd, "qemu64"),
    ];
    let mut results = [const { Vec::new() }; 3];
    for n in 0..rounds {
        for (machine, results) in machines.iter().zip(&mut results) {
            print!("\rround {} of {rounds}", n + 1);
            let _ = io::stdout().flush();
            results.push(round(machine, &rows));
        }
    }
    println!();
    let _ = fs::remove_dir_all(&folder);
    let sums =
        |round: &[(f64, String)]| round.iter().map(|(_, sum)| sum.clone()).collect::<Vec<_>>();
    let expected = sums(&results[1][0]);
    if results
        .iter()
        .flatten()
        .any(|round| sums(round) != expected)
    {
        println!("the emulators computed different results: {results:?}");
        return ExitCode::FAILURE;
    }
    let [ours, max, qemu64] = results.map(|rounds| medians(&rounds));
    print_table(&rows, &ours, [&max, &qemu64]);
    ExitCode::SUCCESS
}
