//! Speed of the interpreter's dispatch against QEMU TCG: a sieve and a sha-like loop.
//!
//! Both emulators start the same ROM image at the reset vector: it enters flat 32-bit mode, runs one
//! loop and leaves by the debug-exit port. Compared are CPU seconds, less those of an image whose
//! loop runs no round, the best of three. `cargo bench -p testsuite --bench dispatch`. These machines
//! are noisy: a row below its goal is marked, and only one below half of it is a failure.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::process::{Command, ExitCode, Stdio};

use accel::CpuModel;
use accel::tcg::Tcg;
use devices::board::BoardOptions;
use devices::board::build::Parts;
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use twin86::machine::{Machine, MachineConfig, Outcome};

/// The ROM is mapped at F0000h (and below 4 GiB).
const ROM: u32 = 0xF_0000;
/// Offset of the 32-bit program in the ROM.
const PROGRAM: usize = 0x100;
/// The loops, how many rounds of each are run, and the lowest speed, as a share of QEMU's, that the
/// design stands on.
const ROWS: &[(&str, u32, Make, f64)] = &[
    ("sieve", 1000, sieve, 0.25),
    ("sha-like", 400_000, sha_like, 0.15),
];

/// The image: reset vector, GDT, switch to flat protected mode, then `program`.
fn image(program: &[u8]) -> Vec<u8> {
    let mut rom = vec![0xF4; 0x1_0000];
    let gdt: [u64; 3] = [0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];
    for (at, descriptor) in gdt.iter().enumerate() {
        rom[0x40 + 8 * at..][..8].copy_from_slice(&descriptor.to_le_bytes());
    }
    rom[0x60..0x66].copy_from_slice(&[23, 0, 0x40, 0, 0x0F, 0]);
    let enter: &[u8] = &[
        0xFA, // cli
        0x2E, 0x66, 0x0F, 0x01, 0x16, 0x60, 0x00, // lgdt cs:[60h]
        0x66, 0xB8, 0x11, 0x00, 0x00, 0x00, // mov eax, 11h
        0x0F, 0x22, 0xC0, // mov cr0, eax
        0x66, 0xEA, 0x00, 0x01, 0x0F, 0x00, 0x08, 0x00, // jmp 8:000F0100h
    ];
    rom[..enter.len()].copy_from_slice(enter);
    rom[PROGRAM..][..program.len()].copy_from_slice(program);
    rom[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]); // jmp F000:0000
    rom
}

/// A 32-bit program: data segments, `body`, then the debug-exit port. The body is copied to RAM
/// first, as code in ROM would be a special case.
fn program(
    body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<Vec<u8>, IcedError> {
    let mut inner = CodeAssembler::new(32)?;
    body(&mut inner)?;
    inner.mov(dx, 0x501)?;
    inner.mov(al, 0x10)?;
    inner.out(dx, al)?;
    let mut here = inner.create_label();
    inner.set_label(&mut here)?;
    inner.jmp(here)?;
    let inner = inner.assemble(0x1_0000)?;

    let mut a = CodeAssembler::new(32)?;
    a.mov(ax, 0x10)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.mov(ss, eax)?;
    a.mov(esp, 0x8000)?;
    let from = ROM + PROGRAM as u32 + 0x100;
    let mut copy = a.create_label();
    a.mov(ecx, (inner.len() as u32).div_ceil(4))?;
    a.set_label(&mut copy)?;
    a.mov(eax, dword_ptr(from - 4 + ecx * 4))?;
    a.mov(dword_ptr(0x1_0000 - 4 + ecx * 4), eax)?;
    a.dec(ecx)?;
    a.jne(copy)?;
    a.mov(eax, 0x1_0000)?;
    a.jmp(eax)?;
    let mut bytes = a.assemble(u64::from(ROM) + PROGRAM as u64)?;
    bytes.resize(0x100, 0x90);
    bytes.extend(inner);
    Ok(bytes)
}

/// Sieve of Eratosthenes over bytes at 1 MiB, `rounds` times.
fn sieve(rounds: u32) -> Result<Vec<u8>, IcedError> {
    const SIZE: u32 = 65536;
    program(|a| {
        let mut round = a.create_label();
        let mut clear = a.create_label();
        let mut outer = a.create_label();
        let mut inner = a.create_label();
        let mut next = a.create_label();
        let mut done = a.create_label();
        a.mov(ebp, rounds)?;
        a.set_label(&mut round)?;
        a.sub(ebp, 1)?;
        a.jb(done)?;
        a.xor(ecx, ecx)?;
        a.set_label(&mut clear)?;
        a.mov(dword_ptr(ecx + 0x10_0000), 0)?;
        a.add(ecx, 4)?;
        a.cmp(ecx, SIZE)?;
        a.jb(clear)?;
        a.mov(ecx, 2)?;
        a.set_label(&mut outer)?;
        a.cmp(byte_ptr(ecx + 0x10_0000), 0)?;
        a.jne(next)?;
        a.lea(edx, ptr(ecx + ecx))?;
        a.set_label(&mut inner)?;
        a.cmp(edx, SIZE)?;
        a.jae(next)?;
        a.mov(byte_ptr(edx + 0x10_0000), 1)?;
        a.add(edx, ecx)?;
        a.jmp(inner)?;
        a.set_label(&mut next)?;
        a.inc(ecx)?;
        a.cmp(ecx, SIZE / 2)?;
        a.jb(outer)?;
        a.jmp(round)?;
        a.set_label(&mut done)?;
        a.xor(eax, eax)
    })
}

/// SHA-256's rounds over one block, `blocks` times: the eight state words in memory, as a compiler
/// for eight registers keeps most of them.
fn sha_like(blocks: u32) -> Result<Vec<u8>, IcedError> {
    let word = |n: i32| dword_ptr(0x20_0000 + 4 * n);
    let [a_, b_, c_, d_, e_, f_, g_, h_] = [0, 1, 2, 3, 4, 5, 6, 7].map(word);
    let (left, k, w) = (word(8), 0x20_0100, 0x20_0200);
    program(|a| {
        let mut block = a.create_label();
        let mut round = a.create_label();
        let mut done = a.create_label();
        a.mov(left, blocks)?;
        a.set_label(&mut block)?;
        a.sub(left, 1)?;
        a.jb(done)?;
        a.xor(edi, edi)?;
        a.set_label(&mut round)?;
        a.mov(eax, e_)?;
        sigma(a, ebx, [6, 11, 25])?;
        a.mov(ecx, f_)?;
        a.mov(edx, g_)?;
        a.mov(esi, ecx)?;
        a.xor(esi, edx)?;
        a.and(esi, eax)?;
        a.xor(esi, edx)?;
        a.add(ebx, esi)?;
        a.add(ebx, h_)?;
        a.add(ebx, dword_ptr(k + edi * 4))?;
        a.add(ebx, dword_ptr(w + edi * 4))?;
        a.mov(h_, edx)?;
        a.mov(g_, ecx)?;
        a.mov(f_, eax)?;
        a.mov(eax, d_)?;
        a.add(eax, ebx)?;
        a.mov(e_, eax)?;
        a.mov(eax, a_)?;
        sigma(a, ecx, [2, 13, 22])?;
        a.add(ebx, ecx)?;
        a.mov(edx, b_)?;
        a.mov(esi, c_)?;
        a.mov(d_, esi)?;
        a.mov(c_, edx)?;
        a.mov(b_, eax)?;
        a.mov(ecx, eax)?;
        a.or(ecx, edx)?;
        a.and(ecx, esi)?;
        a.and(eax, edx)?;
        a.or(eax, ecx)?;
        a.add(eax, ebx)?;
        a.mov(a_, eax)?;
        a.inc(edi)?;
        a.cmp(edi, 64)?;
        a.jb(round)?;
        a.jmp(block)?;
        a.set_label(&mut done)?;
        a.xor(eax, eax)
    })
}

/// `to` = the XOR of EAX rotated right by each of `counts`; uses EBP.
fn sigma(a: &mut CodeAssembler, to: AsmRegister32, counts: [u32; 3]) -> Result<(), IcedError> {
    a.mov(to, eax)?;
    a.ror(to, counts[0])?;
    for count in &counts[1..] {
        a.mov(ebp, eax)?;
        a.ror(ebp, *count)?;
        a.xor(to, ebp)?;
    }
    Ok(())
}

/// CPU seconds of this process and of its finished children, from /proc/self/stat.
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|f| f.parse().ok())
        .collect();
    let [user, system, child_user, child_system] = fields[..] else {
        return (0.0, 0.0);
    };
    ((user + system) / 100.0, (child_user + child_system) / 100.0)
}

/// CPU seconds QEMU takes for an image.
fn qemu(rom: &[u8]) -> f64 {
    let path = std::env::temp_dir().join(format!("twin86-bench-{}.bin", std::process::id()));
    std::fs::write(&path, rom).expect("the temporary folder can be written");
    let before = cpu_seconds().1;
    let status = Command::new("qemu-system-x86_64")
        .args([
            "-M", "pc", "-accel", "tcg", "-m", "64", "-display", "none", "-nic", "none", "-vga",
            "none",
        ])
        .args(["-device", "isa-debug-exit,iobase=0x501,iosize=2", "-bios"])
        .arg(&path)
        .stdin(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|s| s.code() == Some(33)),
        "QEMU did not run the image to its end"
    );
    cpu_seconds().1 - before
}

/// CPU seconds twin86's software CPU takes for an image, and how many instructions it retires.
fn twin86(rom: &[u8]) -> f64 {
    let config = MachineConfig {
        no_reboot: true,
        ..MachineConfig::new(
            BoardOptions {
                ram: 64 << 20,
                debug_exit: Some((0x501, 2)),
                ..BoardOptions::default()
            },
            Parts {
                bios: rom.to_vec(),
                ..Parts::default()
            },
            CpuModel::by_name("max").expect("a model"),
        )
    };
    let before = cpu_seconds().0;
    let mut machine = Machine::new(config, &Tcg).expect("a machine");
    assert_eq!(machine.run().expect("a run"), Outcome::Exit(33));
    cpu_seconds().0 - before
}

type Make = fn(u32) -> Result<Vec<u8>, IcedError>;

/// The lower of three measurements, less what an image without rounds costs.
fn best(full: &[u8], empty: &[u8], run: impl Fn(&[u8]) -> f64) -> f64 {
    let base = run(empty);
    (0..3)
        .map(|_| run(full) - base)
        .fold(f64::INFINITY, f64::min)
}

fn main() -> ExitCode {
    if Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("SKIPPED dispatch: qemu-system-x86_64 is not installed (Debian: qemu-system-x86)");
        return ExitCode::SUCCESS;
    }
    println!(
        "{:<10} {:>8} {:>8} {:>7} {:>6}",
        "loop", "QEMU s", "ours s", "ratio", "goal"
    );
    let mut broken = false;
    for (name, rounds, make, goal) in ROWS {
        let (Ok(full), Ok(empty)) = (make(*rounds), make(0)) else {
            println!("{name}: the assembler refused it");
            return ExitCode::FAILURE;
        };
        let (full, empty) = (image(&full), image(&empty));
        let theirs = best(&full, &empty, qemu);
        let ours = best(&full, &empty, twin86);
        let ratio = theirs / ours;
        broken |= ratio < goal / 2.0;
        let mark = if ratio < *goal { "  missed" } else { "" };
        println!("{name:<10} {theirs:>8.2} {ours:>8.2} {ratio:>7.2} {goal:>6.2}{mark}");
    }
    if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
