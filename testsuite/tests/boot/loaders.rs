//! Multiboot and PVH kernels, small ones made here, which report over serial what they were told: by
//! firmware and without, compared with QEMU.

use std::fs;
use std::path::{Path, PathBuf};

use iced_x86::code_asm::*;
use testsuite::boot::{Guests, Machine};
use testsuite::kernel;

use crate::{Folder, SOON};

/// Where the kernels lie: the pages around 1 MiB, so that loading goes through ROM, or RAM that is
/// not there yet, to RAM.
const MULTIBOOT_AT: u32 = 0xF_F000;
/// Where their code is.
const ENTRY: u32 = 0x10_0000;
/// Line of both.
const LINE: &str = "first  second=\"a b\"";
/// What the kernels write to isa-debug-exit, and the status it makes of it.
const DONE: u8 = 0x15;
const STATUS: i32 = 0x2B;
const E820_RAM: u32 = 1;

/// Two modules and what is in them.
const MODULES: [(&str, &[u8]); 2] = [("one", b"the first"), ("two", &[0xC3; 5001])];

/// Sends `bytes` bytes from `[esi]`.
fn send(a: &mut CodeAssembler, bytes: i32) -> Result<(), IcedError> {
    a.mov(ecx, bytes)?;
    a.rep().outsb()
}

/// Sends a string and its zero from the pointer at `[ebx + at]`.
fn send_string(a: &mut CodeAssembler, at: i32) -> Result<(), IcedError> {
    let mut next = a.create_label();
    a.mov(esi, dword_ptr(ebx + at))?;
    a.set_label(&mut next)?;
    a.lodsb()?;
    a.out(dx, al)?;
    a.test(al, al)?;
    a.jne(next)
}

/// Ends the run.
fn finish(mut a: CodeAssembler) -> Result<Vec<u8>, IcedError> {
    a.mov(edx, 0x501)?;
    a.mov(eax, i32::from(DONE))?;
    a.out(dx, al)?;
    let mut stop = a.create_label();
    a.set_label(&mut stop)?;
    a.hlt()?;
    a.jmp(stop)?;
    a.assemble(u64::from(ENTRY))
}

/// Sends EAX, the information structure, the command line, each module (number of bytes, contents,
/// string) and the memory map. Multiboot Specification 0.6.96, 3.3.
fn multiboot_code() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    a.mov(dword_ptr(0x8_0000), eax)?;
    a.mov(edx, 0x3F8)?;
    a.mov(esi, 0x8_0000)?;
    send(&mut a, 4)?;
    a.mov(esi, ebx)?;
    send(&mut a, 52)?;
    send_string(&mut a, 16)?;
    a.mov(ebp, dword_ptr(ebx + 20))?;
    a.mov(edi, ebx)?;
    a.mov(ebx, dword_ptr(ebx + 24))?;
    let mut module = a.create_label();
    a.set_label(&mut module)?;
    a.mov(eax, dword_ptr(ebx + 4))?;
    a.sub(eax, dword_ptr(ebx))?;
    a.mov(dword_ptr(0x8_0000), eax)?;
    a.mov(esi, 0x8_0000)?;
    send(&mut a, 4)?;
    a.mov(esi, dword_ptr(ebx))?;
    a.mov(ecx, eax)?;
    a.rep().outsb()?;
    send_string(&mut a, 8)?;
    a.add(ebx, 16)?;
    a.dec(ebp)?;
    a.jne(module)?;
    a.mov(esi, dword_ptr(edi + 48))?;
    a.mov(ecx, dword_ptr(edi + 44))?;
    a.rep().outsb()?;
    finish(a)
}

/// Sends the start information, the command line, the one module and the memory map. Xen,
/// "x86/HVM direct boot ABI".
fn pvh_code() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    a.mov(edx, 0x3F8)?;
    a.mov(esi, ebx)?;
    send(&mut a, 56)?;
    send_string(&mut a, 24)?;
    a.mov(edi, dword_ptr(ebx + 16))?;
    a.mov(esi, dword_ptr(edi))?;
    a.mov(ecx, dword_ptr(edi + 8))?;
    a.rep().outsb()?;
    a.mov(esi, dword_ptr(ebx + 32))?;
    send(&mut a, 8)?;
    a.mov(esi, dword_ptr(ebx + 40))?;
    a.mov(ecx, dword_ptr(ebx + 48))?;
    a.imul_3(ecx, ecx, 24)?;
    a.rep().outsb()?;
    finish(a)
}

/// Takes what a kernel sent apart.
struct Report<'a>(&'a [u8]);

impl<'a> Report<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn quad(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn string(&mut self) -> String {
        let end = self.0.iter().position(|&b| b == 0).expect("its end");
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }
}

struct Files {
    folder: Folder,
    kernel: PathBuf,
}

impl Files {
    fn new(name: &str, kernel: &[u8]) -> Self {
        let folder = Folder::new(name);
        let path = folder.path("kernel");
        fs::write(&path, kernel).expect("a kernel");
        for (name, bytes) in MODULES {
            fs::write(folder.path(name), bytes).expect("a module");
        }
        Self {
            folder,
            kernel: path,
        }
    }

    /// What the kernel sends when it is run with `initrd`.
    fn report(&self, machine: Machine<'_>, initrd: &str) -> Vec<u8> {
        let serial = self.folder.path("serial");
        let running = machine
            .args(["-display", "none", "-m", "64", "-append", LINE])
            .args([Path::new("-kernel"), &self.kernel])
            .args(["-serial", &format!("file:{}", serial.display())])
            .args(["-device", "isa-debug-exit,iobase=0x501,iosize=1"])
            .args(["-initrd", initrd])
            .start();
        assert_eq!(running.ends(SOON).code(), Some(STATUS), "the kernel's end");
        fs::read(serial).expect("the report")
    }

    fn module(&self, at: usize) -> String {
        self.folder.path(MODULES[at].0).display().to_string()
    }
}

fn multiboot() -> Vec<u8> {
    let code = multiboot_code().expect("code");
    let head = kernel::multiboot_header();
    kernel::elf(
        ENTRY,
        &[(1, MULTIBOOT_AT, head.as_slice()), (1, ENTRY, &code)],
    )
}

fn pvh() -> Vec<u8> {
    let code = pvh_code().expect("code");
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(ENTRY.to_le_bytes());
    kernel::elf(ENTRY, &[(1, ENTRY, &code), (4, 0, &note)])
}

/// What a multiboot kernel was told, checked as far as there is one right answer; the memory map.
fn check_multiboot(files: &Files, report: &[u8]) -> Vec<(u64, u64, u32)> {
    let mut report = Report(report);
    assert_eq!(report.word(), 0x2BAD_B002);
    let flags = report.word();
    assert_eq!(flags & 0x4D, 0x4D, "memory, line, modules, map: {flags:#x}");
    let (lower, upper) = (report.word(), report.word());
    assert!((600..=640).contains(&lower), "{lower} KiB");
    assert!((62 << 10..=63 << 10).contains(&upper), "{upper} KiB");
    report.take(8);
    assert_eq!(report.word(), 2, "modules");
    report.take(52 - 24);
    let line = report.string();
    assert_eq!(line, format!("{} {LINE}", files.kernel.display()));
    for (at, (_, bytes)) in MODULES.iter().enumerate() {
        assert_eq!(report.word() as usize, bytes.len());
        assert_eq!(report.take(bytes.len()), *bytes);
        let line = files.module(at) + ["", " x y"][at];
        assert_eq!(report.string(), line);
    }
    let mut map = Vec::new();
    while !report.0.is_empty() {
        assert!(report.word() >= 20);
        map.push((report.quad(), report.quad(), report.word()));
    }
    map
}

/// Bytes of RAM in a memory map.
fn ram(map: &[(u64, u64, u32)]) -> u64 {
    let of_ram = map.iter().filter(|(_, _, kind)| *kind == E820_RAM);
    of_ram.map(|(_, size, _)| size).sum()
}

#[test]
fn multiboot_kernel() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let files = Files::new("multiboot", &multiboot());
    let modules = format!("{},{} x y", files.module(0), files.module(1));
    let ours = files.report(guests.machine(), &modules);
    let map = check_multiboot(&files, &ours);
    if let Some(reference) = guests.reference() {
        let theirs = files.report(reference, &modules);
        assert_eq!(map, check_multiboot(&files, &theirs));
    }
    if guests.machine().emulator().is_qemu() {
        return;
    }
    let direct = files.report(guests.machine().args(["-bios", "none"]), &modules);
    let direct = check_multiboot(&files, &direct);
    assert!(
        ram(&map).abs_diff(ram(&direct)) < 1 << 20,
        "{map:x?} {direct:x?}"
    );
}

/// What a PVH kernel was told; the memory map.
fn check_pvh(report: &[u8]) -> Vec<(u64, u64, u32)> {
    let mut report = Report(report);
    assert_eq!(report.word(), 0x336E_C578);
    assert_eq!(report.word(), 1, "version");
    report.take(4);
    assert_eq!(report.word(), 1, "modules");
    report.take(32);
    let entries = report.word();
    report.take(4);
    assert_eq!(report.string(), LINE);
    let module = MODULES[1].1;
    assert!(report.take(module.len()) == module);
    assert_eq!(report.take(8), b"RSD PTR ");
    let map = (0..entries).map(|_| {
        let entry = (report.quad(), report.quad(), report.word());
        report.take(4);
        entry
    });
    map.collect()
}

#[test]
fn pvh_kernel() {
    let Some(guests) = Guests::alone() else {
        return;
    };
    let files = Files::new("pvh", &pvh());
    let ours = check_pvh(&files.report(guests.machine(), &files.module(1)));
    assert!(ram(&ours) > 62 << 20, "{ours:x?}");
    if let Some(reference) = guests.reference() {
        let theirs = check_pvh(&files.report(reference, &files.module(1)));
        assert!(
            ram(&ours).abs_diff(ram(&theirs)) < 1 << 20,
            "{ours:x?} {theirs:x?}"
        );
    }
}
