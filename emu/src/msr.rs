//! RDMSR and WRMSR: one row for each register or run of registers.
//!
//! SDM Vol. 4, "Architectural MSRs"; AMD APM Vol. 2, "MSR Cross-Reference"; Vol. 3A, "Memory Type
//! Range Registers", "Machine-Check Architecture".
//!
//! Machine checks never happen: banks read as clean, and what software writes to their controls is
//! forgotten. Registers of AMD's bridges and cores that firmware and kernels look at on family 15
//! read as KVM shows them. An unknown number is #GP(0).

use crate::arch::cpuid::{Feature, PHYSICAL_BITS};
use crate::arch::segment::Seg;
use crate::arch::{Cr0, Efer};
use crate::cpu::{Cpu, Raised};
use crate::insn::exact_time;

/// Register numbers `first..=last`, and what they do.
struct Row {
    first: u32,
    last: u32,
    /// Without this feature they do not exist.
    needs: Option<Feature>,
    kind: Kind,
}

enum Kind {
    /// A stored value; `check` says what of a written value is kept, or `None` for #GP.
    Value {
        slot: fn(&mut Cpu, u32) -> Option<&mut u64>,
        check: fn(&Cpu, u32, u64) -> Option<u64>,
    },
    /// Always reads the same; writes are #GP.
    Constant(u64),
    /// Always reads the same; writes of these bits are forgotten, others are #GP.
    Fixed(u64, u64),
    /// Anything else.
    Special {
        read: fn(&mut Cpu, u32) -> Result<u64, Raised>,
        write: fn(&mut Cpu, u32, u64) -> Result<(), Raised>,
    },
}

const fn row(first: u32, last: u32, kind: Kind) -> Row {
    Row {
        first,
        last,
        needs: None,
        kind,
    }
}

const fn value(
    number: u32,
    slot: fn(&mut Cpu, u32) -> Option<&mut u64>,
    check: fn(&Cpu, u32, u64) -> Option<u64>,
) -> Row {
    row(number, number, Kind::Value { slot, check })
}

impl Row {
    const fn needs(mut self, feature: Feature) -> Self {
        self.needs = Some(feature);
        self
    }

    const fn to(mut self, last: u32) -> Self {
        self.last = last;
        self
    }
}

/// Ten machine-check banks with MCG_CTL and software error recovery, as QEMU's processors.
const MCG_CAP: u64 = 10 | 1 << 8 | 1 << 24;
/// Eight variable ranges, fixed ranges, write combining.
const MTRR_CAP: u64 = 8 | 1 << 8 | 1 << 10;
/// Bits of IA32_MTRR_DEF_TYPE: type, fixed ranges enabled, enabled.
const MTRR_DEF_TYPE: u64 = 0xCFF;
/// Microcode revision of QEMU's AMD processors.
const MICROCODE: u64 = 0x0100_0065;
/// IA32_PERF_STATUS of QEMU's processors: Linux derives bus clocks from it.
const PERF_STATUS: u64 = 1000 | 4 << 40;
/// AMD DE_CFG: LFENCE is serialising, as all instructions are here.
const LFENCE_SERIALISES: u64 = 1 << 1;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(0x10, 0x10, Kind::Special { read: read_tsc, write: write_tsc }),
    // IA32_PLATFORM_ID
    row(0x17, 0x17, Kind::Constant(0)),
    // IA32_APIC_BASE
    row(0x1B, 0x1B, Kind::Special { read: read_apic, write: write_apic }),
    // EBL_CR_POWERON
    row(0x2A, 0x2A, Kind::Fixed(0, 0)),
    // IA32_BIOS_SIGN_ID: Linux writes 0 before it reads.
    row(0x8B, 0x8B, Kind::Fixed(MICROCODE, u64::MAX)),
    row(0xFE, 0xFE, Kind::Constant(MTRR_CAP)).needs(Feature::Mtrr),
    value(0x174, |c, _| Some(&mut c.msrs.sysenter_cs), low32).needs(Feature::Sep),
    value(0x175, |c, _| Some(&mut c.msrs.sysenter_esp), sysenter).needs(Feature::Sep),
    value(0x176, |c, _| Some(&mut c.msrs.sysenter_eip), sysenter).needs(Feature::Sep),
    row(0x179, 0x179, Kind::Constant(MCG_CAP)).needs(Feature::Mca),
    // IA32_MCG_STATUS, IA32_MCG_CTL
    row(0x17A, 0x17A, Kind::Fixed(0, 7)).needs(Feature::Mca),
    row(0x17B, 0x17B, Kind::Fixed(u64::MAX, u64::MAX)).needs(Feature::Mca),
    // IA32_PERF_STATUS, IA32_PERF_CTL
    row(0x198, 0x198, Kind::Constant(PERF_STATUS)),
    row(0x199, 0x199, Kind::Fixed(0, u64::MAX)),
    value(0x1A0, |c, _| Some(&mut c.msrs.misc_enable), any),
    // IA32_DEBUGCTL: no branch records.
    row(0x1D9, 0x1D9, Kind::Fixed(0, 0)),
    value(0x200, mtrr_variable, mtrr_range).to(0x20F).needs(Feature::Mtrr),
    value(0x250, mtrr_fixed, mtrr_types).needs(Feature::Mtrr),
    value(0x258, mtrr_fixed, mtrr_types).to(0x259).needs(Feature::Mtrr),
    value(0x268, mtrr_fixed, mtrr_types).to(0x26F).needs(Feature::Mtrr),
    value(0x277, |c, _| Some(&mut c.msrs.pat), pat_types).needs(Feature::Pat),
    value(0x2FF, |c, _| Some(&mut c.msrs.mtrr_def_type), mtrr_default).needs(Feature::Mtrr),
    row(0x400, 0x427, Kind::Special { read: read_bank, write: write_bank }).needs(Feature::Mca),
    row(0x800, 0x8FF, Kind::Special { read: read_apic, write: write_apic }),
    row(0xC000_0080, 0xC000_0080, Kind::Special { read: |c, _| Ok(c.efer.bits()), write: write_efer }),
    value(0xC000_0081, |c, _| Some(&mut c.msrs.star), any).needs(Feature::Syscall),
    value(0xC000_0082, |c, _| Some(&mut c.msrs.lstar), canonical).needs(Feature::Lm),
    value(0xC000_0083, |c, _| Some(&mut c.msrs.cstar), canonical).needs(Feature::Lm),
    value(0xC000_0084, |c, _| Some(&mut c.msrs.sfmask), only_low32).needs(Feature::Lm),
    row(0xC000_0100, 0xC000_0101, Kind::Special { read: read_base, write: write_base }).needs(Feature::Lm),
    value(0xC000_0102, |c, _| Some(&mut c.msrs.kernel_gs_base), canonical).needs(Feature::Lm),
    value(0xC000_0103, |c, _| Some(&mut c.msrs.tsc_aux), low32).needs(Feature::Rdtscp),
    // K7 event selectors and counters: none count.
    row(0xC001_0000, 0xC001_0007, Kind::Fixed(0, 0)),
    // SYSCFG; HWCR, of which FFDIS, IGNNE and TLB cache bits may be written
    row(0xC001_0010, 0xC001_0010, Kind::Fixed(0, 0)),
    row(0xC001_0015, 0xC001_0015, Kind::Fixed(0, 0x148)),
    // NB_CFG; INT_PENDING; MMIO_CONF_BASE
    row(0xC001_001F, 0xC001_001F, Kind::Fixed(0, 0)),
    row(0xC001_0055, 0xC001_0055, Kind::Fixed(0, 0)),
    row(0xC001_0058, 0xC001_0058, Kind::Fixed(0, 0)),
    // TSEG address and mask
    row(0xC001_0112, 0xC001_0113, Kind::Fixed(0, 0)),
    // DC_CFG; DE_CFG; BU_CFG2
    row(0xC001_1022, 0xC001_1022, Kind::Fixed(0, 0)),
    row(0xC001_1029, 0xC001_1029, Kind::Fixed(LFENCE_SERIALISES, u64::MAX)),
    row(0xC001_102A, 0xC001_102A, Kind::Fixed(0, 0)),
];

/// Accesses to unknown registers that are logged before the log falls silent.
const LOGGED: u32 = 64;

impl Cpu {
    /// RDMSR.
    pub(crate) fn read_msr(&mut self, number: u32) -> Result<u64, Raised> {
        match self.find_msr(number) {
            Some(Kind::Value { slot, .. }) => match slot(self, number) {
                Some(value) => Ok(*value),
                None => self.gp(0),
            },
            Some(&(Kind::Constant(value) | Kind::Fixed(value, _))) => Ok(value),
            Some(Kind::Special { read, .. }) => read(self, number),
            None => self.unknown_msr("read", number),
        }
    }

    /// WRMSR.
    pub(crate) fn write_msr(&mut self, number: u32, value: u64) -> Result<(), Raised> {
        match self.find_msr(number) {
            Some(Kind::Value { slot, check }) => {
                let kept = check(self, number, value);
                match (kept, slot(self, number)) {
                    (Some(kept), Some(slot)) => {
                        *slot = kept;
                        Ok(())
                    }
                    _ => self.gp(0),
                }
            }
            Some(&Kind::Fixed(_, ignored)) if value & !ignored == 0 => Ok(()),
            Some(Kind::Constant(_) | Kind::Fixed(..)) => self.gp(0),
            Some(Kind::Special { write, .. }) => write(self, number, value),
            None => self.unknown_msr("write", number),
        }
    }

    fn find_msr(&self, number: u32) -> Option<&'static Kind> {
        let row = ROWS.iter().find(|r| (r.first..=r.last).contains(&number))?;
        let there = row.needs.is_none_or(|feature| self.model.has(feature));
        there.then_some(&row.kind)
    }

    #[cold]
    fn unknown_msr<T>(&mut self, access: &str, number: u32) -> Result<T, Raised> {
        if self.odd_msrs < LOGGED {
            self.odd_msrs += 1;
            tracing::debug!(target: "cpu", "{access} of unknown MSR {number:#x}");
        }
        self.gp(0)
    }
}

fn any(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    Some(value)
}

/// The upper half is not kept.
fn low32(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    Some(value & 0xFFFF_FFFF)
}

/// The upper half is reserved.
fn only_low32(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    (value >> 32 == 0).then_some(value)
}

fn canonical(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    ((value as i64) << 16 >> 16 == value as i64).then_some(value)
}

/// AMD's are 32 bits wide, as its SYSENTER is (APM Vol. 2, "SYSENTER and SYSEXIT MSRs"); Intel's hold an
/// address.
fn sysenter(cpu: &Cpu, number: u32, value: u64) -> Option<u64> {
    let check = if cpu.model.amd() { low32 } else { canonical };
    check(cpu, number, value)
}

/// Memory types: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB.
fn memory_type(value: u8) -> bool {
    matches!(value, 0 | 1 | 4 | 5 | 6)
}

/// Eight memory types, UC- (7) among them.
fn pat_types(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    let known = |&byte: &u8| memory_type(byte) || byte == 7;
    value.to_le_bytes().iter().all(known).then_some(value)
}

fn mtrr_types(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    let known = |&byte: &u8| memory_type(byte);
    value.to_le_bytes().iter().all(known).then_some(value)
}

fn mtrr_default(_: &Cpu, _: u32, value: u64) -> Option<u64> {
    (value & !MTRR_DEF_TYPE == 0 && memory_type(value as u8)).then_some(value)
}

/// A base (even numbers) with its type, or a mask with its valid bit.
fn mtrr_range(_: &Cpu, number: u32, value: u64) -> Option<u64> {
    let inside = value >> PHYSICAL_BITS == 0;
    let well_formed = match number & 1 {
        0 => value & 0xF00 == 0 && memory_type(value as u8),
        _ => value & 0x7FF == 0,
    };
    (inside && well_formed).then_some(value)
}

fn mtrr_variable(cpu: &mut Cpu, number: u32) -> Option<&mut u64> {
    cpu.msrs.mtrr_variable.get_mut(number as usize - 0x200)
}

/// FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 and on.
fn mtrr_fixed(cpu: &mut Cpu, number: u32) -> Option<&mut u64> {
    let at = match number {
        0x250 => 0,
        0x258 | 0x259 => number - 0x258 + 1,
        _ => number - 0x268 + 3,
    };
    cpu.msrs.mtrr_fixed.get_mut(at as usize)
}

fn read_tsc(cpu: &mut Cpu, _: u32) -> Result<u64, Raised> {
    exact_time(cpu)?;
    Ok(cpu.tsc())
}

fn write_tsc(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Raised> {
    exact_time(cpu)?;
    cpu.tsc_offset = value.wrapping_sub(cpu.io.tsc());
    Ok(())
}

/// The APIC is a device: like MMIO, it is reached only while the instruction runs alone.
fn read_apic(cpu: &mut Cpu, number: u32) -> Result<u64, Raised> {
    if !cpu.alone {
        return cpu.retry();
    }
    cpu.io.apic_msr_read(number).or_else(|_| cpu.gp(0))
}

fn write_apic(cpu: &mut Cpu, number: u32, value: u64) -> Result<(), Raised> {
    if !cpu.alone {
        return cpu.retry();
    }
    if cpu.io.apic_msr_write(number, value).is_err() {
        return cpu.gp(0);
    }
    cpu.recheck_events();
    Ok(())
}

/// MCi_CTL has all reports enabled; MCi_STATUS, ADDR and MISC are clear.
fn read_bank(_: &mut Cpu, number: u32) -> Result<u64, Raised> {
    Ok(if number & 3 == 0 { u64::MAX } else { 0 })
}

/// MCi_CTL may be anything (Linux clears bit 10 of bank 4 on AMD); the others only cleared.
fn write_bank(cpu: &mut Cpu, number: u32, value: u64) -> Result<(), Raised> {
    if number & 3 != 0 && value != 0 {
        return cpu.gp(0);
    }
    Ok(())
}

/// FS.base and GS.base.
fn base(number: u32) -> Seg {
    if number == 0xC000_0100 {
        Seg::Fs
    } else {
        Seg::Gs
    }
}

fn read_base(cpu: &mut Cpu, number: u32) -> Result<u64, Raised> {
    Ok(cpu.segment(base(number)).base)
}

fn write_base(cpu: &mut Cpu, number: u32, value: u64) -> Result<(), Raised> {
    if canonical(cpu, number, value).is_none() {
        return cpu.gp(0);
    }
    let mut segment = *cpu.segment(base(number));
    segment.base = value;
    cpu.set_segment(base(number), segment);
    Ok(())
}

/// EFER: LMA cannot be written, LME not while paging.
fn write_efer(cpu: &mut Cpu, _: u32, value: u64) -> Result<(), Raised> {
    const BITS: [(Efer, Feature); 3] = [
        (Efer::SCE, Feature::Syscall),
        (Efer::LME.union(Efer::LMA), Feature::Lm),
        (Efer::NXE, Feature::Nx),
    ];
    let has = |&&(_, feature): &&(Efer, Feature)| cpu.model.has(feature);
    let allowed = BITS
        .iter()
        .filter(has)
        .fold(Efer::empty(), |all, &(bits, _)| all | bits);
    let new = (Efer::from_bits_retain(value) - Efer::LMA) | (cpu.efer & Efer::LMA);
    let changed = cpu.efer ^ new;
    let activates = changed.contains(Efer::LME) && cpu.cr0.contains(Cr0::PG);
    if value & !allowed.bits() != 0 || activates {
        return cpu.gp(0);
    }
    cpu.efer = new;
    if changed.contains(Efer::NXE) {
        cpu.flush_tlb();
    }
    cpu.update_mode();
    Ok(())
}

#[cfg(test)]
mod tests;
