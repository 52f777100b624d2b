//! [`CpuState`] to and from KVM's register structures.
//!
//! x87 and SSE go by `KVM_SET_XSAVE`: what `KVM_SET_FPU` writes is lost at the next run on
//! processors with XSAVE. Components beyond SSE are put to their initial state, as `CpuState`
//! does not hold them. PDPTE registers go by `KVM_SET_SREGS2` where the kernel has it; elsewhere
//! KVM reads them from memory again. Events are in `events`, the time-stamp counter in `tsc`.

// UNSAFETY: KVM_SET_XSAVE may read beyond its structure where dynamic features are on, and
// KVM_GET_SREGS2 and KVM_SET_SREGS2 are raw ioctls.
#![expect(
    unsafe_code,
    reason = "ioctls that kvm-ioctls does not have or does not vouch for"
)]

use std::cell::Cell;

use emu::arch::{Cr0, Cr4, Efer, RFlags, Segment, TableRegister};
use emu::state::{Activity, Fpu, Msrs};
use emu::{CpuIo, CpuState};
use kvm_bindings::{
    KVM_SREGS2_FLAGS_PDPTRS_VALID, KVMIO, Msrs as KvmMsrs, kvm_debugregs, kvm_dtable,
    kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_sregs2, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};
use vmm_sys_util::{errno, ioctl_ior_nr, ioctl_iow_nr};

use super::{APIC_BASE, Shared, events, host, tsc};
use crate::AccelError;

ioctl_ior_nr!(KVM_GET_SREGS2, KVMIO, 0xcc, kvm_sregs2);
ioctl_iow_nr!(KVM_SET_SREGS2, KVMIO, 0xcd, kvm_sregs2);

/// XSTATE_BV and XCR0: x87.
const X87: u64 = 1 << 0;
/// XSTATE_BV and XCR0: SSE.
const SSE: u64 = 1 << 1;
/// First word of the XSAVE header in the area, in 32-bit words.
const HEADER: usize = 512 / 4;

/// What KVM cannot hold of a state, kept beside it.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) activity: Activity,
    smbase: u32,
    /// Without XCR0 in KVM, its reset value.
    xcr0: u64,
    /// The TSC's offset as it was last set or read; none once the guest has run.
    pub(super) tsc_offset: Cell<Option<u64>>,
    /// MSRs that KVM does not take, as they were set.
    refused: Vec<kvm_msr_entry>,
}

/// Reads the state. No exit may be pending.
pub(super) fn get(
    fd: &VcpuFd,
    vm: &Shared,
    held: &Held,
    io: &dyn CpuIo,
) -> Result<CpuState, AccelError> {
    let mut state = CpuState::reset(0);
    regs_out(&fd.get_regs().map_err(host("KVM_GET_REGS"))?, &mut state);
    sregs_out(&get_sregs(fd, vm)?, &mut state);
    let xsave = fd.get_xsave().map_err(host("KVM_GET_XSAVE"))?;
    state.fpu = xsave_out(&xsave);
    state.xcr0 = get_xcr0(fd, vm)?.unwrap_or(held.xcr0);
    let debug = fd.get_debug_regs().map_err(host("KVM_GET_DEBUGREGS"))?;
    (state.dr, state.dr6, state.dr7) = (debug.db, debug.dr6, debug.dr7);
    get_msrs(fd, &mut state.msrs, held)?;
    let events = fd.get_vcpu_events().map_err(host("KVM_GET_VCPU_EVENTS"))?;
    events::from_kvm(&events, &mut state);
    if held.tsc_offset.get().is_none() {
        held.tsc_offset.set(Some(tsc::get(fd, vm, io)?));
    }
    state.tsc_offset = held.tsc_offset.get().unwrap_or(0);
    state.activity = held.activity;
    state.smbase = held.smbase;
    Ok(state.canonical())
}

/// Writes the state. No exit may be pending.
pub(super) fn set(
    fd: &VcpuFd,
    vm: &Shared,
    held: &mut Held,
    io: &dyn CpuIo,
    state: &CpuState,
) -> Result<(), AccelError> {
    let mut sregs = get_sregs(fd, vm)?;
    sregs_in(state, &mut sregs);
    sregs.cr8 = io.tpr().into();
    sregs.apic_base = io.apic_msr_read(APIC_BASE).unwrap_or(sregs.apic_base);
    set_sregs(fd, vm, &sregs)?;
    set_xcr0(fd, vm, state.xcr0)?;
    held.xcr0 = state.xcr0;
    let xsave = xsave_in(&state.fpu);
    // SAFETY: no feature beyond the 4096 bytes is ever enabled for a guest of ours (that takes
    // arch_prctl), so the kernel reads no more than the structure.
    unsafe { fd.set_xsave(&xsave) }.map_err(host("KVM_SET_XSAVE"))?;
    fd.set_regs(&regs_in(state)).map_err(host("KVM_SET_REGS"))?;
    let debug = kvm_debugregs {
        db: state.dr,
        dr6: state.dr6,
        dr7: state.dr7,
        ..Default::default()
    };
    fd.set_debug_regs(&debug)
        .map_err(host("KVM_SET_DEBUGREGS"))?;
    set_msrs(fd, state.msrs, held)?;
    fd.set_vcpu_events(&events::to_kvm(state, vm.smm))
        .map_err(host("KVM_SET_VCPU_EVENTS"))?;
    if held.tsc_offset.get() != Some(state.tsc_offset) {
        tsc::set(fd, vm, io, state.tsc_offset)?;
        held.tsc_offset.set(Some(state.tsc_offset));
    }
    held.activity = state.canonical_activity();
    held.smbase = state.smbase;
    Ok(())
}

fn regs_out(regs: &kvm_regs, to: &mut CpuState) {
    to.gpr = [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ];
    to.rip = regs.rip;
    to.rflags = RFlags::from_bits_retain(regs.rflags);
}

fn regs_in(from: &CpuState) -> kvm_regs {
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = from.gpr;
    #[rustfmt::skip]
    let regs = kvm_regs {
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
        rip: from.rip,
        rflags: (from.rflags | RFlags::FIXED).bits(),
    };
    regs
}

fn segment_out(from: &kvm_segment) -> Segment {
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        access: u32::from(from.type_ & 0xF)
            | u32::from(from.s) << 4
            | u32::from(from.dpl & 3) << 5
            | u32::from(from.present) << 7
            | u32::from(from.avl) << 12
            | u32::from(from.l) << 13
            | u32::from(from.db) << 14
            | u32::from(from.g) << 15
            | u32::from(from.unusable) << 16,
    }
}

fn segment_in(from: &Segment) -> kvm_segment {
    let bit = |bit| u8::from(from.has(bit));
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: from.kind(),
        present: bit(Segment::P),
        dpl: from.dpl(),
        db: bit(Segment::DB),
        s: bit(Segment::S),
        l: bit(Segment::L),
        g: bit(Segment::G),
        avl: bit(Segment::AVL),
        unusable: bit(Segment::UNUSABLE),
        padding: 0,
    }
}

fn table_out(from: &kvm_dtable) -> TableRegister {
    TableRegister {
        base: from.base,
        limit: from.limit,
    }
}

fn table_in(from: &TableRegister) -> kvm_dtable {
    kvm_dtable {
        base: from.base,
        limit: from.limit,
        padding: [0; 3],
    }
}

fn sregs_out(from: &kvm_sregs2, to: &mut CpuState) {
    to.segments = [
        &from.es, &from.cs, &from.ss, &from.ds, &from.fs, &from.gs, &from.ldt, &from.tr,
    ]
    .map(segment_out);
    to.gdtr = table_out(&from.gdt);
    to.idtr = table_out(&from.idt);
    to.cr0 = Cr0::from_bits_retain(from.cr0);
    to.cr2 = from.cr2;
    to.cr3 = from.cr3;
    to.cr4 = Cr4::from_bits_retain(from.cr4);
    to.efer = Efer::from_bits_retain(from.efer);
    to.pdpte = from.pdptrs;
}

fn sregs_in(from: &CpuState, to: &mut kvm_sregs2) {
    let [es, cs, mut ss, ds, fs, gs, ldt, tr] = from.segments.map(|s| segment_in(&s));
    if ss.unusable != 0 {
        // KVM on AMD takes the CPL from SS.DPL, which a null selector lacks; its RPL says it.
        ss.dpl = (ss.selector & 3) as u8;
    }
    (to.es, to.cs, to.ss, to.ds) = (es, cs, ss, ds);
    (to.fs, to.gs, to.ldt, to.tr) = (fs, gs, ldt, tr);
    to.gdt = table_in(&from.gdtr);
    to.idt = table_in(&from.idtr);
    to.cr0 = from.cr0.bits();
    to.cr2 = from.cr2;
    to.cr3 = from.cr3;
    to.cr4 = from.cr4.bits();
    to.efer = from.efer.bits();
    let pae =
        from.cr0.contains(Cr0::PG) && from.cr4.contains(Cr4::PAE) && !from.efer.contains(Efer::LMA);
    to.pdptrs = if pae { from.pdpte } else { [0; 4] };
    to.flags = if pae {
        u64::from(KVM_SREGS2_FLAGS_PDPTRS_VALID)
    } else {
        0
    };
}

fn get_sregs(fd: &VcpuFd, vm: &Shared) -> Result<kvm_sregs2, AccelError> {
    if vm.sregs2 {
        let mut sregs = kvm_sregs2::default();
        // SAFETY: the kernel writes one `kvm_sregs2`.
        return match unsafe { ioctl_with_mut_ref(fd, KVM_GET_SREGS2(), &mut sregs) } {
            0 => Ok(sregs),
            _ => Err(host("KVM_GET_SREGS2")(errno::Error::last())),
        };
    }
    let s = fd.get_sregs().map_err(host("KVM_GET_SREGS"))?;
    #[rustfmt::skip]
    let sregs = kvm_sregs2 {
        cs: s.cs, ds: s.ds, es: s.es, fs: s.fs, gs: s.gs, ss: s.ss, tr: s.tr, ldt: s.ldt,
        gdt: s.gdt, idt: s.idt, cr0: s.cr0, cr2: s.cr2, cr3: s.cr3, cr4: s.cr4, cr8: s.cr8,
        efer: s.efer, apic_base: s.apic_base, flags: 0, pdptrs: [0; 4],
    };
    Ok(sregs)
}

fn set_sregs(fd: &VcpuFd, vm: &Shared, s: &kvm_sregs2) -> Result<(), AccelError> {
    if vm.sregs2 {
        // SAFETY: the kernel reads one `kvm_sregs2`.
        return match unsafe { ioctl_with_ref(fd, KVM_SET_SREGS2(), s) } {
            0 => Ok(()),
            _ => Err(host("KVM_SET_SREGS2")(errno::Error::last())),
        };
    }
    #[rustfmt::skip]
    let sregs = kvm_sregs {
        cs: s.cs, ds: s.ds, es: s.es, fs: s.fs, gs: s.gs, ss: s.ss, tr: s.tr, ldt: s.ldt,
        gdt: s.gdt, idt: s.idt, cr0: s.cr0, cr2: s.cr2, cr3: s.cr3, cr4: s.cr4, cr8: s.cr8,
        efer: s.efer, apic_base: s.apic_base, interrupt_bitmap: [0; 4],
    };
    fd.set_sregs(&sregs).map_err(host("KVM_SET_SREGS"))
}

/// XCR0, or `None` where KVM has none.
fn get_xcr0(fd: &VcpuFd, vm: &Shared) -> Result<Option<u64>, AccelError> {
    if !vm.xcrs {
        return Ok(None);
    }
    let all = fd.get_xcrs().map_err(host("KVM_GET_XCRS"))?;
    let all = &all.xcrs[..(all.nr_xcrs as usize).min(all.xcrs.len())];
    Ok(all.iter().find(|x| x.xcr == 0).map(|x| x.value))
}

fn set_xcr0(fd: &VcpuFd, vm: &Shared, value: u64) -> Result<(), AccelError> {
    if !vm.xcrs || get_xcr0(fd, vm)? == Some(value) {
        return Ok(());
    }
    let mut all = kvm_xcrs {
        nr_xcrs: 1,
        ..Default::default()
    };
    all.xcrs[0].value = value;
    fd.set_xcrs(&all).map_err(host("KVM_SET_XCRS"))
}

/// The bytes of `words` from byte `at`.
fn bytes<const N: usize>(words: &[u32], at: usize) -> [u8; N] {
    std::array::from_fn(|i| words[(at + i) / 4].to_le_bytes()[(at + i) % 4])
}

/// Puts `bytes` into `words` from byte `at`.
fn put(words: &mut [u32], at: usize, bytes: &[u8]) {
    for (i, &byte) in bytes.iter().enumerate() {
        let shift = (at + i) % 4 * 8;
        let word = &mut words[(at + i) / 4];
        *word = *word & !(0xFF << shift) | u32::from(byte) << shift;
    }
}

/// The physical register behind ST(i).
fn physical(fsw: u16, i: usize) -> usize {
    (usize::from(fsw >> 11 & 7) + i) % 8
}

/// x87 and SSE of an XSAVE area. SDM Vol. 1, "Legacy Region of an XSAVE Area".
fn xsave_out(from: &kvm_xsave) -> Fpu {
    let area = &from.region[..];
    let present = u64::from_le_bytes(bytes(area, HEADER * 4));
    let mut fpu = Fpu {
        mxcsr: area[6],
        ..Fpu::default()
    };
    if present & X87 != 0 {
        fpu.fcw = area[0] as u16;
        fpu.fsw = (area[0] >> 16) as u16;
        fpu.ftw = area[1] as u8;
        fpu.fop = (area[1] >> 16) as u16 & 0x7FF;
        fpu.fip = u64::from_le_bytes(bytes(area, 8));
        fpu.fdp = u64::from_le_bytes(bytes(area, 16));
        for i in 0..8 {
            fpu.regs[physical(fpu.fsw, i)] = (
                u64::from_le_bytes(bytes(area, 32 + 16 * i)),
                u16::from_le_bytes(bytes(area, 40 + 16 * i)),
            );
        }
    } else {
        // The initial configuration is that of FNINIT, not of RESET.
        (fpu.fcw, fpu.ftw) = (0x37F, 0);
    }
    if present & SSE != 0 {
        fpu.xmm = std::array::from_fn(|i| bytes(area, 160 + 16 * i));
    }
    fpu
}

fn xsave_in(from: &Fpu) -> kvm_xsave {
    let mut xsave = kvm_xsave::default();
    let area = &mut xsave.region[..];
    area[0] = u32::from(from.fcw) | u32::from(from.fsw) << 16;
    area[1] = u32::from(from.ftw) | u32::from(from.fop) << 16;
    put(area, 8, &from.fip.to_le_bytes());
    put(area, 16, &from.fdp.to_le_bytes());
    area[6] = from.mxcsr;
    for i in 0..8 {
        let (significand, sign_exponent) = from.regs[physical(from.fsw, i)];
        put(area, 32 + 16 * i, &significand.to_le_bytes());
        put(area, 40 + 16 * i, &sign_exponent.to_le_bytes());
    }
    for (i, xmm) in from.xmm.iter().enumerate() {
        put(area, 160 + 16 * i, xmm);
    }
    put(area, HEADER * 4, &(X87 | SSE).to_le_bytes());
    xsave
}

/// Every MSR of the state with its number.
fn numbered(msrs: &mut Msrs) -> Vec<(u32, &mut u64)> {
    let Msrs {
        star,
        lstar,
        cstar,
        sfmask,
        kernel_gs_base,
        tsc_aux,
        sysenter_cs,
        sysenter_esp,
        sysenter_eip,
        pat,
        misc_enable,
        mtrr_def_type,
        mtrr_variable,
        mtrr_fixed,
    } = msrs;
    let fixed = [0x250, 0x258, 0x259].into_iter().chain(0x268..);
    let mut all = vec![
        (0xC000_0081, star),
        (0xC000_0082, lstar),
        (0xC000_0083, cstar),
        (0xC000_0084, sfmask),
        (0xC000_0102, kernel_gs_base),
        (0xC000_0103, tsc_aux),
        (0x174, sysenter_cs),
        (0x175, sysenter_esp),
        (0x176, sysenter_eip),
        (0x277, pat),
        (0x1A0, misc_enable),
        (0x2FF, mtrr_def_type),
    ];
    all.extend((0x200..).zip(mtrr_variable));
    all.extend(fixed.zip(mtrr_fixed));
    all
}

fn list(entries: &[kvm_msr_entry]) -> Result<KvmMsrs, AccelError> {
    KvmMsrs::from_entries(entries).map_err(|_| host("KVM_SET_MSRS")(errno::Error::new(libc::E2BIG)))
}

/// Reads the MSRs. What KVM refuses to read keeps the value it was last set to.
fn get_msrs(fd: &VcpuFd, to: &mut Msrs, held: &Held) -> Result<(), AccelError> {
    let mut targets = numbered(to);
    for (index, value) in &mut targets {
        if let Some(kept) = held.refused.iter().find(|e| e.index == *index) {
            **value = kept.data;
        }
    }
    targets.retain(|(index, _)| held.refused.iter().all(|e| e.index != *index));
    let mut rest = &mut targets[..];
    while !rest.is_empty() {
        let entries: Vec<_> = rest.iter().map(|(index, _)| entry(*index, 0)).collect();
        let mut found = list(&entries)?;
        let count = fd.get_msrs(&mut found).map_err(host("KVM_GET_MSRS"))?;
        for ((_, value), entry) in rest.iter_mut().zip(&found.as_slice()[..count]) {
            **value = entry.data;
        }
        // KVM stops at the first it dislikes.
        if let Some((index, _)) = rest.get(count) {
            tracing::warn!(target: "kvm", "KVM does not read MSR {index:#x}");
        }
        rest = &mut rest[count.saturating_add(1).min(entries.len())..];
    }
    Ok(())
}

/// Writes the MSRs. What KVM refuses is left out with a warning and kept beside it.
fn set_msrs(fd: &VcpuFd, mut from: Msrs, held: &mut Held) -> Result<(), AccelError> {
    let all = numbered(&mut from);
    let all: Vec<_> = all.iter().map(|(i, value)| entry(*i, **value)).collect();
    let known = std::mem::take(&mut held.refused);
    let mut rest = &all[..];
    while !rest.is_empty() {
        let count = fd.set_msrs(&list(rest)?).map_err(host("KVM_SET_MSRS"))?;
        if let Some(refused) = rest.get(count) {
            if known.iter().all(|e| e.index != refused.index) {
                let kvm_msr_entry { index, data, .. } = refused;
                tracing::warn!(target: "kvm", "KVM does not take {data:#x} for MSR {index:#x}");
            }
            held.refused.push(*refused);
        }
        rest = &rest[count.saturating_add(1).min(rest.len())..];
    }
    Ok(())
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_turns_with_top() {
        let mut fpu = Fpu {
            fsw: 3 << 11,
            ..Fpu::default()
        };
        fpu.regs = std::array::from_fn(|i| (i as u64 + 1, 0x3FFF));
        fpu.xmm = std::array::from_fn(|i| [0xFF - i as u8; 16]);
        let xsave = xsave_in(&fpu);
        assert_eq!(xsave.region[8], 4, "ST(0) is R3");
        assert_eq!(xsave_out(&xsave), fpu);
    }

    #[test]
    fn access_rights_survive() {
        for access in [0xC09B, 0xA0FB, 0x1_0000, 0x82, 0x508B] {
            let segment = Segment {
                selector: 0x28,
                base: 0x1234_5000,
                limit: 0xFFFF_FFFF,
                access,
            };
            assert_eq!(segment_out(&segment_in(&segment)), segment);
        }
    }
}
