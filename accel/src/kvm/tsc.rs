//! The guest's time-stamp counter, as a state carries it: an offset to the board's
//! ([`CpuIo::tsc`]), so that it goes on at its value under whichever engine runs next.
//!
//! KVM takes IA32_TIME_STAMP_COUNTER from user space for an attempt to bring processors in step if
//! it lies within a second of what an earlier write would give, and then does not take the value
//! itself. So the offset to the host's counter is set instead, `KVM_VCPU_TSC_OFFSET`, and the MSR only
//! where the kernel has no such attribute (before Linux 5.16).
//!
//! Without TSC scaling the two counters run at different rates: what is read is then right at that
//! moment only. The guest of a KVM without virtualisation hardware reads the host's counter, whatever
//! is set: what is set is kept until it runs.

// UNSAFETY: the attributes of a vCPU are raw ioctls on this architecture.
#![expect(unsafe_code, reason = "ioctls that kvm-ioctls does not have here")]

use emu::CpuIo;
use kvm_bindings::{
    KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, Msrs as KvmMsrs, kvm_device_attr, kvm_msr_entry,
};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::{errno, ioctl_iow_nr};

use super::{Shared, host};
use crate::AccelError;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

/// IA32_TIME_STAMP_COUNTER.
const TSC: u32 = 0x10;

/// What the guest's counter is ahead of the board's now.
pub(super) fn get(fd: &VcpuFd, vm: &Shared, io: &dyn CpuIo) -> Result<u64, AccelError> {
    Ok(counter(fd, vm)?.wrapping_sub(io.tsc()))
}

/// Makes the guest's counter be `offset` ahead of the board's.
pub(super) fn set(fd: &VcpuFd, vm: &Shared, io: &dyn CpuIo, offset: u64) -> Result<(), AccelError> {
    if vm.partial {
        return Ok(());
    }
    let Some(before) = host_offset(fd) else {
        return set_counter(fd, io.tsc().wrapping_add(offset));
    };
    let now = counter(fd, vm)?;
    let wanted = io.tsc().wrapping_add(offset);
    let host_offset = before.wrapping_add(wanted.wrapping_sub(now));
    let attribute = attribute((&raw const host_offset).addr());
    // SAFETY: the kernel reads a `kvm_device_attr` and the number that its address is of.
    match unsafe { ioctl_with_ref(fd, KVM_SET_DEVICE_ATTR(), &attribute) } {
        0 => Ok(()),
        _ => Err(host("KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)")(
            errno::Error::last(),
        )),
    }
}

/// The offset to the host's counter, if the kernel lets it be known.
fn host_offset(fd: &VcpuFd) -> Option<u64> {
    let mut offset = 0_u64;
    let attribute = attribute((&raw mut offset).addr());
    // SAFETY: the kernel reads a `kvm_device_attr` and writes the number that its address is of.
    let result = unsafe { ioctl_with_ref(fd, KVM_GET_DEVICE_ATTR(), &attribute) };
    (result == 0).then_some(offset)
}

fn attribute(value: usize) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: value as u64,
    }
}

fn entries(data: u64) -> Result<KvmMsrs, AccelError> {
    let entry = kvm_msr_entry {
        index: TSC,
        data,
        ..Default::default()
    };
    KvmMsrs::from_entries(&[entry])
        .map_err(|_| host("KVM_SET_MSRS")(errno::Error::new(libc::E2BIG)))
}

/// The host's counter, which a partial KVM's guests read.
pub(super) fn of_host() -> u64 {
    // SAFETY: RDTSC has no conditions.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The counter as the guest reads it now.
pub(super) fn counter(fd: &VcpuFd, vm: &Shared) -> Result<u64, AccelError> {
    if vm.partial {
        return Ok(of_host());
    }
    let mut msrs = entries(0)?;
    let count = fd.get_msrs(&mut msrs).map_err(host("KVM_GET_MSRS"))?;
    if count != 1 {
        return Err(host("KVM_GET_MSRS(IA32_TIME_STAMP_COUNTER)")(
            errno::Error::new(libc::EINVAL),
        ));
    }
    Ok(msrs.as_slice()[0].data)
}

fn set_counter(fd: &VcpuFd, value: u64) -> Result<(), AccelError> {
    match fd
        .set_msrs(&entries(value)?)
        .map_err(host("KVM_SET_MSRS"))?
    {
        1 => Ok(()),
        _ => Err(host("KVM_SET_MSRS(IA32_TIME_STAMP_COUNTER)")(
            errno::Error::new(libc::EINVAL),
        )),
    }
}
