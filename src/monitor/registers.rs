//! `info registers`, in QEMU's layout.

use std::fmt::Write;

use accel::CpuState;
use emu::arch::{Cr0, Efer, Seg, Segment};
use emu::state::{Activity, Shadow};

use super::arguments::Arguments;
use super::commands::Reply;
use super::{Session, Snapshot};

const NAMES: [&str; 8] = ["AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP"];
/// The numbers of those registers.
const ORDER: [usize; 8] = [0, 3, 1, 2, 6, 7, 5, 4];

#[rustfmt::skip]
const SEGMENTS: [(&str, Seg); 8] = [
    ("ES", Seg::Es), ("CS", Seg::Cs), ("SS", Seg::Ss), ("DS", Seg::Ds),
    ("FS", Seg::Fs), ("GS", Seg::Gs), ("LDT", Seg::Ldtr), ("TR", Seg::Tr),
];

/// Names of system segments' types; SDM Vol. 3A, "System Descriptor Types".
#[rustfmt::skip]
const SYSTEM: [[&str; 16]; 2] = [
    ["Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
     "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32"],
    ["<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
     "Reserved", "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64"],
];

/// `info registers`.
pub(super) fn registers(session: &mut Session, mut arguments: Arguments<'_>) -> Reply {
    // There is one processor: all of them are this one.
    if arguments.rest() == "-a" || arguments.rest() == "0" {
        arguments.optional();
    }
    arguments.end()?;
    Ok(text(&session.snapshot()?))
}

fn is_64_bit(state: &CpuState) -> bool {
    state.efer.contains(Efer::LMA) && state.segments[Seg::Cs as usize].has(Segment::L)
}

fn text(snapshot: &Snapshot) -> String {
    let state = &snapshot.state;
    let long = is_64_bit(state);
    let mut text = String::from("\nCPU#0\n");
    general(&mut text, state, long);
    flags(&mut text, snapshot, long);
    for (name, segment) in SEGMENTS {
        let _ = writeln!(
            text,
            "{name:<3}={}",
            shown_segment(state, &state.segments[segment as usize])
        );
    }
    let digits = if long { 16 } else { 8 };
    for (name, table) in [("GDT", state.gdtr), ("IDT", state.idtr)] {
        let _ = writeln!(
            text,
            "{name}=     {:0digits$x} {:08x}",
            table.base, table.limit
        );
    }
    control(&mut text, state, digits);
    fpu(&mut text, state, long);
    text
}

fn general(text: &mut String, state: &CpuState, long: bool) {
    let value = |index: usize| state.gpr[index];
    for row in 0..2 {
        let names = NAMES.iter().zip(ORDER).skip(4 * row).take(4);
        let row = names.map(|(name, index)| {
            if long {
                format!("R{name}={:016x}", value(index))
            } else {
                format!("E{name}={:08x}", value(index) as u32)
            }
        });
        let _ = writeln!(text, "{}", row.collect::<Vec<_>>().join(" "));
    }
    if long {
        for row in [8, 12] {
            let row = (row..row + 4).map(|n| format!("{:<3}={:016x}", format!("R{n}"), value(n)));
            let _ = writeln!(text, "{}", row.collect::<Vec<_>>().join(" "));
        }
    }
}

fn flags(text: &mut String, snapshot: &Snapshot, long: bool) {
    let state = &snapshot.state;
    let bits = state.rflags.bits();
    let letters = [
        (10, 'D'),
        (11, 'O'),
        (7, 'S'),
        (6, 'Z'),
        (4, 'A'),
        (2, 'P'),
        (0, 'C'),
    ];
    let letter = |(bit, letter): (u32, char)| if bits >> bit & 1 != 0 { letter } else { '-' };
    let letters: String = letters.map(letter).iter().collect();
    let ip = if long {
        format!("RIP={:016x} RFL={bits:08x}", state.rip)
    } else {
        format!("EIP={:08x} EFL={bits:08x}", state.rip as u32)
    };
    let _ = writeln!(
        text,
        "{ip} [{letters}] CPL={} II={} A20={} SMM={} HLT={}",
        privilege(state),
        u8::from(state.shadow != Shadow::None),
        u8::from(snapshot.a20),
        u8::from(state.smm),
        u8::from(state.activity == Activity::Halted),
    );
}

/// The current privilege level: SS's DPL; in real mode it is 0.
fn privilege(state: &CpuState) -> u8 {
    if state.cr0.contains(Cr0::PE) {
        state.segments[Seg::Ss as usize].dpl()
    } else {
        0
    }
}

fn shown_segment(state: &CpuState, segment: &Segment) -> String {
    let long = is_64_bit(state);
    // The upper half of a descriptor, as far as it holds attributes.
    let access = if segment.unusable() {
        0
    } else {
        let raw = if segment.has(Segment::G) {
            segment.limit >> 12
        } else {
            segment.limit
        };
        (segment.access & 0xFF) << 8 | (segment.access >> 12 & 0xF) << 20 | raw & 0xF_0000
    };
    let digits = if long { 16 } else { 8 };
    let mut text = format!(
        "{:04x} {:0digits$x} {:08x} {access:08x}",
        segment.selector, segment.base, segment.limit
    );
    if state.cr0.contains(Cr0::PE) && !segment.unusable() && segment.has(Segment::P) {
        let kind = kind(segment, state.efer.contains(Efer::LMA));
        let _ = write!(text, " DPL={} {kind}", segment.dpl());
    }
    text
}

fn kind(segment: &Segment, long: bool) -> String {
    let letter = |bit, letter| if segment.has(bit) { letter } else { '-' };
    let accessed = letter(Segment::ACCESSED, 'A');
    if !segment.has(Segment::S) {
        return SYSTEM[usize::from(long)][usize::from(segment.kind())].to_string();
    }
    if segment.has(Segment::CODE) {
        let size = match (long && segment.has(Segment::L), segment.has(Segment::DB)) {
            (true, _) => "CS64",
            (false, true) => "CS32",
            (false, false) => "CS16",
        };
        let conforming = letter(Segment::CONFORMING, 'C');
        let readable = letter(Segment::READABLE, 'R');
        return format!("{size} [{conforming}{readable}{accessed}]");
    }
    let size = if segment.has(Segment::DB) || long {
        "DS  "
    } else {
        "DS16"
    };
    let down = letter(Segment::EXPAND_DOWN, 'E');
    let writable = letter(Segment::WRITABLE, 'W');
    format!("{size} [{down}{writable}{accessed}]")
}

fn control(text: &mut String, state: &CpuState, digits: usize) {
    let _ = writeln!(
        text,
        "CR0={:08x} CR2={:0digits$x} CR3={:0digits$x} CR4={:08x}",
        state.cr0.bits(),
        state.cr2,
        state.cr3,
        state.cr4.bits()
    );
    for (n, value) in state.dr.iter().enumerate() {
        let _ = write!(text, "DR{n}={value:016x} ");
    }
    let _ = writeln!(
        text,
        "\nDR6={:016x} DR7={:016x}\nEFER={:016x}",
        state.dr6,
        state.dr7,
        state.efer.bits()
    );
}

fn fpu(text: &mut String, state: &CpuState, long: bool) {
    let fpu = &state.fpu;
    let _ = writeln!(
        text,
        "FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}",
        fpu.fcw,
        fpu.fsw,
        fpu.fsw >> 11 & 7,
        fpu.ftw,
        fpu.mxcsr
    );
    let end = |n: usize| if n % 2 == 1 { '\n' } else { ' ' };
    for (n, (significand, exponent)) in fpu.regs.iter().enumerate() {
        let _ = write!(text, "FPR{n}={significand:016x} {exponent:04x}{}", end(n));
    }
    let count = if long { 16 } else { 8 };
    for (n, bytes) in fpu.xmm.iter().take(count).enumerate() {
        let value = u128::from_le_bytes(*bytes);
        let (high, low) = ((value >> 64) as u64, value as u64);
        let _ = write!(text, "XMM{n:02}={high:016x} {low:016x}{}", end(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_shown_as_their_descriptors_hold_them() {
        let mut state = CpuState::reset(0);
        assert_eq!(
            shown_segment(&state, &state.segments[1]),
            "f000 ffff0000 0000ffff 00009b00"
        );
        state.cr0 |= Cr0::PE;
        let flat = Segment {
            selector: 0x10,
            base: 0,
            limit: u32::MAX,
            access: 0x9B | Segment::G | Segment::DB,
        };
        assert_eq!(
            shown_segment(&state, &flat),
            "0010 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]"
        );
        assert_eq!(
            shown_segment(&state, &Segment::null(3)),
            "0003 00000000 00000000 00000000"
        );
    }
}
