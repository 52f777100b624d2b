//! The table of parts, in the order of their bits and of the report.

/// One part of the embedded guest.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// As it is chosen and reported.
    pub name: &'static str,
    /// What it exercises.
    pub about: &'static str,
    /// Whether a KVM that emulates all of ring 0 (`kvm_pvm`) can run it.
    pub partial_kvm: bool,
}

const fn part(name: &'static str, partial_kvm: bool, about: &'static str) -> Part {
    Part {
        name,
        about,
        partial_kvm,
    }
}

/// All parts; the image holds the same names in the same order (boot.S).
#[rustfmt::skip]
pub const PARTS: &[Part] = &[
    part("real",         true,  "real mode: segments, offsets that wrap, flags, strings, stack frames, far calls"),
    part("real-bcd",     false, "DAA, DAS, AAA, AAS, AAM, AAD, BOUND, UD2, nested ENTER"),
    part("real-int",     true,  "INT, INT3, INTO and IRET through the IVT, divide error, single-step"),
    part("unreal",       true,  "big real mode: a 4 GiB limit kept from protected mode"),
    part("prot",         true,  "protected mode: 16- and 32-bit segments, bases, expand-down, LDT, far transfers"),
    part("prot-query",   false, "LAR, LSL, VERR, VERW, ARPL"),
    part("prot-fault",   false, "#GP, #NP, #SS with their error codes, from selectors and gates"),
    part("prot-limit",   false, "segment limits, types, null selectors; CR0, CR4 and MSR checks: what QEMU's TCG lacks"),
    part("prot-ring3",   false, "ring 3 and back: IRET, gates, the I/O bitmap, IOPL, call gate, SYSENTER"),
    part("prot-task",    false, "hardware task switch: nested CALL, IRET back, busy bits, JMP"),
    part("vm86",         false, "virtual-8086 mode"),
    part("prot-callgate", false, "call gates of 16 and 32 bits, parameters, inner stacks that fault, far returns"),
    part("prot-conform", false, "conforming code: CPL kept, as data, through gates"),
    part("prot-expand",  false, "expand-down data and stacks, both ends, room on inner stacks: what QEMU's TCG lacks"),
    part("prot-task16",  false, "16-bit task state, and switches between 16 and 32 bits"),
    part("prot-task-gate", false, "task gates, LDT and CR3 by a switch, the T bit, a task in virtual-8086 mode"),
    part("prot-task-fault", false, "what a task switch refuses, before and behind the point of no return"),
    part("prot-iopl",    false, "CLI, STI, POPF and IRET by CPL and IOPL, protected-mode virtual interrupts"),
    part("prot-iomap",   false, "the I/O permission map: its ends, wide accesses, where it begins"),
    part("prot16",       false, "16-bit protected mode: SP wraps, gates and returns of either width, inner stacks"),
    part("vm86-flags",   false, "virtual-8086 mode: IOPL, handlers, instructions it has not, I/O by the map"),
    part("vm86-limit",   false, "virtual-8086 mode: limits of 64 KiB: what QEMU's TCG lacks"),
    part("vm86-irq",     false, "virtual-8086 mode: interrupts from outside"),
    part("vm86-vme",     false, "virtual-8086 mode extensions, where the processor has them"),
    part("paging32",     false, "two-level paging: A and D, WP, U/S, 4 MiB pages, INVLPG"),
    part("pae",          false, "PAE paging: 64-bit entries, NX"),
    part("long",         true,  "long mode: 64-bit registers, RIP-relative, canonical addresses, compatibility mode"),
    part("long-paging",  true,  "four-level paging: #PF codes and CR2, A and D, WP, NX, U/S, 1 TiB addresses"),
    part("long-strict",  false, "reserved bits, read-modify-write faults, the canonical border, MOV SS: what QEMU's TCG lacks"),
    part("long-syscall", false, "SYSCALL and SYSRET"),
    part("long-ring3",   true,  "ring 3: a sieve and a checksum at full speed, and faults from there"),
    part("long-ist",     true,  "IST stacks, SWAPGS, FS and GS bases"),
    part("long-smc",     true,  "code that changes itself: the next instruction, across pages, through an alias"),
    part("events",       true,  "#UD, #DE, selectors in long mode, #DF survived"),
    part("events-step",  true,  "single-step by TF"),
    part("events-int",   false, "INT n, INT3, a gate not present, the shadow of STI"),
    part("events-debug", false, "breakpoints by the debug registers, single-stepped REP"),
    part("events-nmi",   false,  "NMI by IPI, blocked until IRET"),
    part("pic-pit",      true,  "8259 pair and 8254: five ticks at 1 kHz, masks, special reads"),
    part("apic",         true,  "local APIC timer, self IPI, TPR; IOAPIC pin 2 from the 8254"),
    part("uart",         true,  "16550: registers, loopback, transmitter interrupt on IRQ 4"),
    part("cmos-ports",   true,  "MC146818 and CMOS, port 61h, speaker gate, debugcon"),
    part("pci",          true,  "PCI configuration space: enumeration of bus 0"),
    part("pam",          true,  "shadow RAM by PAM, ROM writes dropped"),
    part("a20",          true,  "A20 by port 92h: the wrap at 1 MiB"),
];
