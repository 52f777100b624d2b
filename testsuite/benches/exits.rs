//! Exits a second under KVM, ours against QEMU's: `cargo bench -p testsuite --bench exits
//! [-- [--nested] COUNT]`.
//!
//! Both emulators run one ROM in 32-bit protected mode (no paging: a KVM without VT-x and SVM has
//! none), which does COUNT times the same OUT to port 80h or the same read of the HPET, or a loop of
//! two instructions, and ends the run through isa-debug-exit. Both devices are in user space in
//! both. What a run of none takes is taken off; of five rounds, one emulator after the other, the
//! median counts. With `--nested` all of that happens in the outer machine of `testsuite::nested`,
//! whose KVM is a whole one.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use accel::kvm::Kvm;
use testsuite::boot::Emulator;
use testsuite::nested::Nested;
use testsuite::skip::skip;

/// Exits of each kind, unless the user says how many.
const COUNT: u32 = 200_000;
/// The same where the processor is QEMU's.
const NESTED_COUNT: u32 = 60_000;
const QEMU: &str = "qemu-system-x86_64";
/// Far more than a run takes.
const SOON: Duration = Duration::from_secs(300);
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
const LOOP: &[u8] = &[
    0x49,                                           // dec ecx
    0x75, 0xFD,                                     // jnz -3
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

/// Where both run.
enum Place {
    Here,
    Nested(Nested),
}

impl Place {
    /// Seconds that one run takes.
    fn seconds(&mut self, emulator: &Path, rom: &Path) -> Result<f64, Box<dyn Error>> {
        // Ours without the help of the software CPU, which needs no exits.
        let is_qemu = emulator.ends_with(QEMU);
        let engine = if is_qemu { "kvm" } else { "kvm,rescue=off" };
        let mut command = Command::new(emulator);
        command.args(["-accel", engine, "-M", "pc", "-m", "16", "-nodefaults"]);
        command.args(["-display", "none", "-device", "isa-debug-exit", "-bios"]);
        command.arg(rom);
        let started = Instant::now();
        let (code, said) = match self {
            Self::Here => {
                command.stdin(Stdio::null()).stdout(Stdio::null());
                let output = command.stderr(Stdio::piped()).output()?;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                (output.status.code().unwrap_or_default(), said)
            }
            Self::Nested(nested) => {
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
                let reply = nested.command(&words.join(" "), SOON);
                (reply.status.into(), reply.text)
            }
        };
        let took = started.elapsed().as_secs_f64();
        if code == ENDED {
            return Ok(took);
        }
        Err(format!("{}: status {code}: {said}", emulator.display()).into())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is done a second, of both emulators.
fn rates(
    place: &mut Place,
    emulators: &[PathBuf; 2],
    [none, some]: [&Path; 2],
    count: u32,
) -> Result<[f64; 2], Box<dyn Error>> {
    let mut rates = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        // Each is first as often as the other, but for once.
        for which in [round % 2, 1 - round % 2] {
            let start_up = place.seconds(&emulators[which], none)?;
            let net = place.seconds(&emulators[which], some)? - start_up;
            rates[which].push(f64::from(count) / net.max(1e-6));
        }
    }
    Ok(rates.map(median))
}

/// A program of this machine by name.
fn which(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = || std::env::args().skip(1);
    let nested = given().any(|a| a == "--nested");
    let number = given().find(|a| !a.starts_with('-'));
    let default = if nested { NESTED_COUNT } else { COUNT };
    let count = number.map_or(Ok(default), |given| given.parse::<u32>())?;
    let Some(qemu) = which(QEMU) else {
        skip("qemu", &"qemu-system-x86_64 is not installed");
        return Ok(());
    };

    let name = format!("twin86-exits-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder)?;
    // Name, loop, how often.
    let rows = [
        ("none", OUTS, 0),
        ("OUT", OUTS, count),
        ("MMIO-read", READS, count),
        // As many instructions as are an exit's worth, or more.
        (
            "loop",
            LOOP,
            count.saturating_mul(if nested { 16_384 } else { 1 }),
        ),
    ];
    let mut files = Vec::new();
    for (name, body, count) in rows {
        let path = folder.join(name);
        fs::write(&path, rom(body, count))?;
        files.push(path);
    }

    let ours = Emulator::under_test().program().to_owned();
    let (mut place, ours) = if nested {
        let roms = PathBuf::from("/usr/share/qemu/kvmvapic.bin");
        let wanted = [files.as_slice(), &[qemu.clone(), roms]].concat();
        let Some(nested) = Nested::with(&wanted) else {
            return Ok(());
        };
        (Place::Nested(nested), PathBuf::from("twin86"))
    } else if let Err(error) = Kvm::open() {
        skip("kvm", &error);
        return Ok(());
    } else {
        (Place::Here, ours)
    };

    let emulators = [qemu, ours];
    println!(
        "{:<10} {:>12} {:>12} {:>7}",
        "a second", "QEMU", "ours", "ratio"
    );
    for ((name, _, count), some) in rows.iter().zip(&files).skip(1) {
        let [theirs, ours] = rates(&mut place, &emulators, [&files[0], some], *count)?;
        let ratio = ours / theirs;
        println!("{name:<10} {theirs:>12.0} {ours:>12.0} {ratio:>7.2}");
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}
