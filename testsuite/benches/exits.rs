//! Exits a second under KVM, ours against QEMU's: `cargo bench -p testsuite --bench exits [-- COUNT]`.
//!
//! Both emulators run one ROM in 32-bit protected mode (no paging: a KVM without VT-x and SVM has
//! none), which does COUNT times the same OUT to port 80h or the same read of the HPET, and ends the
//! run through isa-debug-exit. Both devices are in user space in both. What a run of none takes is
//! taken off; of five rounds, one emulator after the other, the median counts.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use accel::kvm::Kvm;
use testsuite::skip::skip;

/// Exits of each kind, unless the user says how many.
const COUNT: u32 = 200_000;
const ROUNDS: usize = 5;
/// Status of a run that ends by isa-debug-exit with 1.
const ENDED: i32 = 3;

/// Enters protected mode; GDT at 200h of the ROM, its pointer at 220h.
#[rustfmt::skip]
const ENTER: &[u8] = &[
    0xFA,                                           // cli
    0x2E, 0x66, 0x0F, 0x01, 0x16, 0x20, 0x02,       // lgdt cs:[220h]
    0x0F, 0x20, 0xC0,                               // mov eax, cr0
    0x0C, 0x01,                                     // or al, 1
    0x0F, 0x22, 0xC0,                               // mov cr0, eax
    0x66, 0xEA, 0x00, 0x01, 0x0F, 0x00, 0x08, 0x00, // jmp 8:0F0100h
];
#[rustfmt::skip]
const SEGMENTS: &[u8] = &[
    0x66, 0xB8, 0x10, 0x00,                         // mov ax, 10h
    0x8E, 0xD8,                                     // mov ds, eax
    0xBA, 0x80, 0x00, 0x00, 0x00,                   // mov edx, 80h
];
#[rustfmt::skip]
const OUTS: &[u8] = &[
    0xEE,                                           // out dx, al
    0x49,                                           // dec ecx
    0x75, 0xFC,                                     // jnz -4
];
#[rustfmt::skip]
const READS: &[u8] = &[
    0xA1, 0x00, 0x00, 0xD0, 0xFE,                   // mov eax, [0FED00000h]
    0x49,                                           // dec ecx
    0x75, 0xF8,                                     // jnz -8
];
#[rustfmt::skip]
const END: &[u8] = &[
    0x66, 0xBA, 0x01, 0x05,                         // mov dx, 501h
    0xB0, 0x01,                                     // mov al, 1
    0xEE,                                           // out dx, al
    0xF4,                                           // hlt
];
/// Null, flat 32-bit code, flat data; all accessed already, as they are in a ROM.
const GDT: [u64; 3] = [0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];

/// A ROM that runs a loop `count` times.
fn rom(body: &[u8], count: u32) -> Vec<u8> {
    let mut rom = vec![0; 0x1_0000];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, ENTER);
    let mut code = SEGMENTS.to_vec();
    if count != 0 {
        code.push(0xB9); // mov ecx, count
        code.extend(count.to_le_bytes());
        code.extend(body);
    }
    code.extend(END);
    put(0x100, &code);
    put(0x200, &GDT.map(u64::to_le_bytes).concat());
    put(0x220, &[0x17, 0, 0x00, 0x02, 0x0F, 0x00]);
    put(0xFFF0, &[0xE9, 0x0D, 0x00]); // jmp 0
    rom
}

/// Our program, built as this benchmark is.
fn program() -> Result<PathBuf, Box<dyn Error>> {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "-q",
            "--release",
            "-p",
            "twin86",
            "--bin",
            "twin86",
        ])
        .status()?;
    if !built.success() {
        return Err("the program does not build".into());
    }
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(Path::parent);
    Ok(folder.ok_or("no target folder")?.join("twin86"))
}

/// Seconds that one run takes.
fn seconds(emulator: &Path, rom: &Path) -> Result<f64, Box<dyn Error>> {
    let mut command = Command::new(emulator);
    command.args(["-accel", "kvm", "-M", "pc", "-m", "16", "-nodefaults"]);
    command.args(["-display", "none", "-device", "isa-debug-exit", "-bios"]);
    command.arg(rom).stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let output = command.stderr(Stdio::piped()).output()?;
    let took = started.elapsed().as_secs_f64();
    if output.status.code() == Some(ENDED) {
        return Ok(took);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}: {said}", emulator.display(), output.status).into())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Exits a second of both emulators.
fn rates(
    emulators: &[PathBuf; 2],
    [none, some]: [&Path; 2],
    count: u32,
) -> Result<[f64; 2], Box<dyn Error>> {
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (emulator, rates) in emulators.iter().zip(&mut rates) {
            let start_up = seconds(emulator, none)?;
            let net = seconds(emulator, some)? - start_up;
            rates.push(f64::from(count) / net.max(1e-6));
        }
    }
    Ok(rates.map(median))
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let count = number.map_or(Ok(COUNT), |given| given.parse())?;
    if let Err(error) = Kvm::open() {
        skip("kvm", &error);
        return Ok(());
    }
    let qemu = PathBuf::from("qemu-system-x86_64");
    if Command::new(&qemu).arg("--version").output().is_err() {
        skip("qemu", &"qemu-system-x86_64 is not installed");
        return Ok(());
    }
    let emulators = [qemu, program()?];
    let name = format!("twin86-exits-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder)?;
    let file = |name: &str, bytes: Vec<u8>| -> std::io::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let none = file("none", rom(&[], 0))?;
    println!(
        "{:<10} {:>12} {:>12} {:>7}",
        "exits/s", "QEMU", "ours", "ratio"
    );
    for (name, body) in [("OUT", OUTS), ("MMIO read", READS)] {
        let some = file(name, rom(body, count))?;
        let [theirs, ours] = rates(&emulators, [&none, &some], count)?;
        println!(
            "{name:<10} {theirs:>12.0} {ours:>12.0} {:>7.2}",
            ours / theirs
        );
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}
