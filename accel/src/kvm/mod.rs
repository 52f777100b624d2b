//! KVM as an engine, with every device in user space (`kernel-irqchip=off`).
//!
//! - this file: opening KVM, virtual machines
//! - `vcpu`: the run loop, interrupts, kicks
//! - `memory`: memory slots, ROM, A20
//! - `state`: [`CpuState`](emu::CpuState) to and from KVM's register structures
//! - `events`: its events; `tsc`: its time-stamp counter
//! - `cpuid`: the guest's CPUID
//! - `diagnose`: why `/dev/kvm` does not open
//! - `probe`: whether this KVM runs a few instructions of each mode
//! - `stats`: KVM's own counters
//! - `rescue`: the software CPU runs what KVM refuses; `ring3`: and all that a partial KVM is bad at
//! - `debug`: a debugger's breakpoints, watchpoints and steps
//! - `kick`: how other threads make a vCPU look up
//!
//! Document: Linux `Documentation/virt/kvm/api.rst`. The flow is `KVM_CREATE_VM`,
//! `KVM_SET_USER_MEMORY_REGION`, `KVM_CREATE_VCPU`, then `KVM_RUN` again and again.

mod cpuid;
mod debug;
mod diagnose;
mod events;
mod kick;
mod memory;
mod probe;
mod rescue;
mod ring3;
mod state;
mod stats;
mod tsc;
mod vcpu;

pub use cpuid::Masked;
pub use rescue::{Refused, Rescues};

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use emu::arch::cpuid::{CpuModel, Leaf};
use emu::arch::{Cr0, Efer};
use emu::{CpuIo, MemoryMap};
use kvm_bindings::{
    KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_CAP_SREGS2, KVM_CAP_X86_SMM, KVM_CAP_X86_USER_SPACE_MSR,
    KVM_MAX_CPUID_ENTRIES, KVM_MSR_EXIT_REASON_VALID_MASK, kvm_enable_cap,
};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use vmm_sys_util::errno;

use crate::{Accel, AccelError, Statistic, Vcpu, Vm, VmConfig};
use memory::{Memory, shadows_page_tables};
use rescue::{Rescue, RescuedVcpu};
use ring3::Ring3Vcpu;
use vcpu::KvmVcpu;

/// The device node.
const NODE: &str = "/dev/kvm";
/// The one version of the API there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;
/// Where KVM may put its identity-mapped page table, and three pages of TSS behind it (used by
/// processors without unrestricted guest): below the BIOS, where a board has nothing.
const IDENTITY_MAP: u64 = 0xFEFF_C000;
/// See [`IDENTITY_MAP`].
const TSS: usize = 0xFEFF_D000;
/// IA32_APIC_BASE.
const APIC_BASE: u32 = 0x1B;
/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6E0;
/// What the engine cannot do without.
const NEEDED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
];

/// Turns a failed ioctl into an error that names it.
fn host(call: &'static str) -> impl FnOnce(errno::Error) -> AccelError {
    move |e| AccelError::Host {
        call,
        source: io::Error::from_raw_os_error(e.errno()),
    }
}

/// KVM on this host.
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    partial: bool,
    /// The rate of the guest's TSC in kHz, where KVM cannot scale it.
    tsc_khz: Option<u32>,
    /// That the TSC cannot be scaled has been said.
    said_no_scaling: Arc<AtomicBool>,
    /// Counts what was rescued; without it nothing is.
    rescues: Option<Arc<Rescues>>,
    /// A partial KVM runs all that it does not refuse.
    refusals_only: bool,
}

impl Kvm {
    /// Opens `/dev/kvm` and checks that it can carry a machine.
    ///
    /// # Errors
    /// If there is no KVM, it may not be opened, or it lacks what the engine needs.
    pub fn open() -> Result<Self, AccelError> {
        let fd = kvm_ioctls::Kvm::new().map_err(|e| refused(e.errno()))?;
        let found = fd.get_api_version();
        if found < 0 {
            // A device of another kind: ENOTTY or EINVAL.
            return Err(AccelError::NotKvm {
                path: NODE,
                source: io::Error::last_os_error(),
            });
        }
        if found != API_VERSION {
            return Err(AccelError::ApiVersion {
                found,
                needed: API_VERSION,
            });
        }
        if let Some(&(_, capability)) = NEEDED.iter().find(|(cap, _)| !fd.check_extension(*cap)) {
            return Err(AccelError::Capability { capability });
        }
        kick::install_handler()?;
        let found = look_at(&fd)?;
        let scales = fd.check_extension(Cap::TscControl);
        Ok(Self {
            fd,
            partial: Path::new("/sys/module/kvm_pvm").exists() || !found.has_32_bit_paging,
            tsc_khz: found.tsc_khz.filter(|_| !scales),
            said_no_scaling: Arc::default(),
            rescues: None,
            refusals_only: false,
        })
    }

    /// Lets the software CPU run what this KVM refuses, counted in `rescues`; and of a partial KVM
    /// all but what that runs on the processor itself, 64-bit ring 3.
    #[must_use]
    pub fn with_rescue(mut self, rescues: Arc<Rescues>) -> Self {
        self.rescues = Some(rescues);
        self
    }

    /// With rescue a partial KVM, too, runs all that it does not refuse, right or wrong.
    #[must_use]
    pub fn refusals_only(mut self) -> Self {
        self.refusals_only = true;
        self
    }

    /// Whether this KVM runs only a part of x86: a host kernel that has neither VT-x nor SVM to
    /// use and emulates instructions instead. 32-bit paging, 32-bit interrupts, x87 and SSE
    /// outside of 64-bit user code do not work there.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Runs a few instructions in real mode, in 32-bit protected mode with paging, and in 64-bit
    /// mode with SSE and an interrupt, each in a virtual machine of its own.
    ///
    /// # Errors
    /// If one of them does not do as a processor: at which step, and what it did.
    pub fn probe(&self) -> Result<(), AccelError> {
        probe::run(|config| Ok(Arc::new(self.build(config)?.0) as Arc<dyn Vm>))
    }

    /// The features of `config`'s processor model that this KVM cannot run.
    ///
    /// # Errors
    /// If the host refuses to say.
    pub fn masked(&self, config: &VmConfig) -> Result<Vec<Masked>, AccelError> {
        Ok(self.leaves(&config.cpu)?.1)
    }

    /// Creates a virtual machine, as this engine's own type.
    ///
    /// # Errors
    /// If the host refuses.
    pub fn create(&self, config: &VmConfig) -> Result<KvmVm, AccelError> {
        let (vm, masked) = self.build(config)?;
        for m in masked {
            tracing::warn!(
                target: "kvm",
                "CPU model {}: this KVM lacks bits {:#x} of CPUID.{:x}.{:x}:{}",
                config.cpu.name, m.bits, m.leaf.0, m.leaf.1, ["EAX", "EBX", "ECX", "EDX"][m.register]
            );
        }
        if !vm.0.fd.check_extension(Cap::ReadonlyMem) {
            tracing::warn!(target: "kvm", "no read-only memory slots: the guest can write its ROM");
        }
        Ok(vm)
    }

    /// Creates a virtual machine without a word; returns what of the processor model it lacks.
    fn build(&self, config: &VmConfig) -> Result<(KvmVm, Vec<Masked>), AccelError> {
        let fd = self.fd.create_vm().map_err(host("KVM_CREATE_VM"))?;
        fd.set_identity_map_address(IDENTITY_MAP)
            .map_err(host("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(TSS).map_err(host("KVM_SET_TSS_ADDR"))?;
        enable_emulation_bytes(&fd)?;
        enable_msr_exits(&fd)?;
        let (leaves, masked) = self.leaves(&config.cpu)?;
        let read_only = fd.check_extension(Cap::ReadonlyMem);
        let rescue = self.rescues.as_ref().map(|table| {
            let model = CpuModel {
                name: config.cpu.name,
                leaves: leaves.clone(),
            };
            Arc::new(Rescue::new(Arc::clone(table), model))
        });
        let vm = KvmVm(Arc::new(Shared {
            rescue,
            ring3_only: self.partial && !self.refusals_only,
            memory: Memory::new(self.fd.get_nr_memslots(), read_only, shadows_page_tables()),
            leaves,
            tsc_khz: u32::try_from(config.tsc_hz / 1000).unwrap_or(u32::MAX),
            sregs2: has(&fd, KVM_CAP_SREGS2),
            xcrs: fd.check_extension(Cap::Xcrs),
            smm: has(&fd, KVM_CAP_X86_SMM),
            partial: self.partial,
            said_no_scaling: Arc::clone(&self.said_no_scaling),
            fd,
        }));
        Ok((vm, masked))
    }

    /// A model's CPUID leaves as the guest sees them, and what was masked.
    fn leaves(&self, model: &CpuModel) -> Result<(Vec<Leaf>, Vec<Masked>), AccelError> {
        let by = self.fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let by = by.map_err(host("KVM_GET_SUPPORTED_CPUID"))?;
        Ok(cpuid::intersect(model, by.as_slice()))
    }
}

/// Why the node did not open.
fn refused(errno: i32) -> AccelError {
    match errno {
        libc::ENOENT => AccelError::NoNode {
            path: NODE,
            why: diagnose::absence(),
        },
        libc::EACCES | libc::EPERM => AccelError::Denied {
            path: NODE,
            why: diagnose::denial(NODE),
        },
        libc::ENODEV | libc::ENXIO => AccelError::NoModule {
            path: NODE,
            why: diagnose::absence(),
        },
        errno => AccelError::Unavailable {
            engine: "kvm",
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

/// What only a vCPU shows.
struct Found {
    /// It takes paging without long mode: a KVM without virtualisation hardware reads CR0.PG back as
    /// 0, or refuses.
    has_32_bit_paging: bool,
    /// The rate of its TSC in kHz.
    tsc_khz: Option<u32>,
}

fn look_at(kvm: &kvm_ioctls::Kvm) -> Result<Found, AccelError> {
    let vm = kvm.create_vm().map_err(host("KVM_CREATE_VM"))?;
    let vcpu = vm.create_vcpu(0).map_err(host("KVM_CREATE_VCPU"))?;
    let tsc_khz = vcpu.get_tsc_khz().ok().filter(|khz| *khz != 0);
    let mut sregs = vcpu.get_sregs().map_err(host("KVM_GET_SREGS"))?;
    sregs.cr0 |= (Cr0::PE | Cr0::PG).bits();
    sregs.efer &= !(Efer::LME | Efer::LMA).bits();
    let has_32_bit_paging = vcpu.set_sregs(&sregs).is_ok() && {
        let back = vcpu.get_sregs().map_err(host("KVM_GET_SREGS"))?;
        back.cr0 & Cr0::PG.bits() != 0
    };
    Ok(Found {
        has_32_bit_paging,
        tsc_khz,
    })
}

impl Accel for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn partial(&self) -> bool {
        self.is_partial() && self.rescues.is_none()
    }

    fn shown(&self, model: &CpuModel) -> Result<CpuModel, AccelError> {
        Ok(CpuModel {
            name: model.name,
            leaves: self.leaves(model)?.0,
        })
    }

    fn tsc_hz(&self) -> Option<u64> {
        Some(u64::from(self.tsc_khz?) * 1000)
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        Ok(Arc::new(self.create(config)?))
    }
}

/// Whether the VM has a capability that kvm-ioctls does not name.
fn has(vm: &VmFd, capability: u32) -> bool {
    vm.check_extension_raw(capability.into()) > 0
}

/// Asks for the bytes of an instruction that KVM cannot emulate.
fn enable_emulation_bytes(vm: &VmFd) -> Result<(), AccelError> {
    if !has(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE) {
        return Ok(());
    }
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_EXIT_ON_EMULATION_FAILURE,
        ..Default::default()
    };
    cap.args[0] = 1;
    vm.enable_cap(&cap)
        .map_err(host("KVM_ENABLE_CAP(KVM_CAP_EXIT_ON_EMULATION_FAILURE)"))
}

/// Asks for MSRs that KVM does not know, and for those of our own local APIC, to come out.
/// x2APIC registers (800h and up) come out as invalid: KVM has no APIC here.
fn enable_msr_exits(vm: &VmFd) -> Result<(), AccelError> {
    let reasons = vm.check_extension_raw(KVM_CAP_X86_USER_SPACE_MSR.into());
    if reasons <= 0 {
        return Ok(());
    }
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        ..Default::default()
    };
    cap.args[0] = u64::from(KVM_MSR_EXIT_REASON_VALID_MASK);
    vm.enable_cap(&cap)
        .map_err(host("KVM_ENABLE_CAP(KVM_CAP_X86_USER_SPACE_MSR)"))?;
    if !vm.check_extension(Cap::X86MsrFilter) {
        return Ok(());
    }
    let denied = [APIC_BASE, TSC_DEADLINE].map(|base| MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base,
        msr_count: 1,
        bitmap: &[0],
    });
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &denied)
        .map_err(host("KVM_X86_SET_MSR_FILTER"))
}

/// What a virtual machine and its processors share.
#[derive(Debug)]
struct Shared {
    memory: Memory,
    leaves: Vec<Leaf>,
    tsc_khz: u32,
    /// `KVM_GET_SREGS2` exists: PDPTE registers are part of the state.
    sregs2: bool,
    /// XCR0 exists.
    xcrs: bool,
    /// System management mode exists.
    smm: bool,
    /// See [`Kvm::is_partial`].
    partial: bool,
    /// See [`Kvm`].
    said_no_scaling: Arc<AtomicBool>,
    rescue: Option<Arc<Rescue>>,
    /// With rescue this KVM runs 64-bit ring 3 alone.
    ring3_only: bool,
    fd: VmFd,
}

impl Shared {
    /// The TSC cannot run at the rate asked for.
    fn no_tsc_scaling(&self) {
        if !self.said_no_scaling.swap(true, Ordering::Relaxed) {
            tracing::info!(target: "kvm", "no TSC scaling: the guest's TSC runs at the host's rate");
        }
    }
}

/// A virtual machine of KVM.
#[derive(Debug)]
pub struct KvmVm(Arc<Shared>);

impl KvmVm {
    /// KVM's own counters of this machine; none where the kernel does not give them.
    pub fn statistics(&self) -> Vec<Statistic> {
        stats::read(&self.0.fd)
    }
}

impl Vm for KvmVm {
    fn set_memory_map(&self, map: MemoryMap) -> Result<(), AccelError> {
        if let Some(rescue) = &self.0.rescue {
            rescue.set_map(map.clone());
        }
        self.0.memory.set(&self.0.fd, map)?;
        self.0.memory.forget_shadows(&self.0.fd)
    }

    fn take_dirty(&self, marks: &[AtomicU8]) -> Result<Vec<usize>, AccelError> {
        self.0.memory.collect_dirty(&self.0.fd)?;
        Ok(emu::memory::take_dirty(marks))
    }

    fn code_written(&self) {
        if let Some(rescue) = &self.0.rescue {
            rescue.code_written();
        }
    }

    fn create_vcpu(&self, index: u32, io: Arc<dyn CpuIo>) -> Result<Box<dyn Vcpu>, AccelError> {
        let vcpu = KvmVcpu::new(Arc::clone(&self.0), index, Arc::clone(&io))?;
        Ok(match &self.0.rescue {
            Some(rescue) if self.0.ring3_only => {
                Box::new(Ring3Vcpu::new(vcpu, Arc::clone(rescue), io)?)
            }
            Some(rescue) => Box::new(RescuedVcpu::new(vcpu, Arc::clone(rescue), io)),
            None => Box::new(vcpu),
        })
    }
}
