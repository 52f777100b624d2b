//! The events of a state to and from `struct kvm_vcpu_events`.
//!
//! Queued: KVM keeps what it has accepted and not yet delivered, because something else left the
//! guest first. It does not keep INT n and the like, which the guest runs again. A pending
//! exception is told as an injected one (`KVM_CAP_EXCEPTION_PAYLOAD` is never enabled): CR2, DR6 and
//! DR7 are written by then. Not kept: a pending shutdown (`KVM_CAP_X86_TRIPLE_FAULT_EVENT`), which
//! comes at the next run anyhow, and SMIs.

use emu::CpuState;
use emu::state::{Queued, Shadow};
use kvm_bindings::{
    KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SMM,
    KVM_X86_SHADOW_INT_MOV_SS, KVM_X86_SHADOW_INT_STI, kvm_vcpu_events,
};

/// Reads the events.
pub(super) fn from_kvm(from: &kvm_vcpu_events, to: &mut CpuState) {
    let shadow = u32::from(from.interrupt.shadow);
    // KVM on AMD cannot tell the two apart and shows both.
    to.shadow = if shadow & KVM_X86_SHADOW_INT_STI != 0 {
        Shadow::Sti
    } else if shadow & KVM_X86_SHADOW_INT_MOV_SS != 0 {
        Shadow::MovSs
    } else {
        Shadow::None
    };
    to.nmi_masked = from.nmi.masked != 0;
    to.nmi_pending = from.nmi.pending != 0;
    to.queued = queued(from);
    to.smm = from.smi.smm != 0;
}

/// What is delivered next, in the order KVM delivers in.
fn queued(from: &kvm_vcpu_events) -> Option<Queued> {
    let exception = &from.exception;
    let exception = (exception.injected | exception.pending != 0).then_some(Queued::Exception {
        vector: exception.nr,
        error_code: (exception.has_error_code != 0).then_some(exception.error_code),
    });
    let nmi = (from.nmi.injected != 0).then_some(Queued::Nmi);
    let interrupt = from.interrupt.injected != 0 && from.interrupt.soft == 0;
    let interrupt = interrupt.then_some(Queued::Interrupt(from.interrupt.nr));
    let mut all = [exception, nmi, interrupt].into_iter().flatten();
    let first = all.next();
    if let Some(lost) = all.next() {
        tracing::warn!(target: "kvm", "{lost:?} is queued behind {first:?} and not in the state");
    }
    first
}

/// The events of a state. KVM has system management mode if `smm`.
pub(super) fn to_kvm(from: &CpuState, smm: bool) -> kvm_vcpu_events {
    let mut events = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        ..Default::default()
    };
    events.interrupt.shadow = match from.shadow {
        Shadow::None => 0,
        Shadow::Sti => KVM_X86_SHADOW_INT_STI as u8,
        Shadow::MovSs => KVM_X86_SHADOW_INT_MOV_SS as u8,
    };
    events.nmi.masked = from.nmi_masked.into();
    events.nmi.pending = from.nmi_pending.into();
    match from.queued {
        None => {}
        Some(Queued::Interrupt(vector)) => {
            events.interrupt.injected = 1;
            events.interrupt.nr = vector;
        }
        Some(Queued::Nmi) => events.nmi.injected = 1,
        Some(Queued::Exception { vector, error_code }) => {
            events.exception.injected = 1;
            events.exception.nr = vector;
            events.exception.has_error_code = error_code.is_some().into();
            events.exception.error_code = error_code.unwrap_or(0);
        }
    }
    if smm {
        events.flags |= KVM_VCPUEVENT_VALID_SMM;
        events.smi.smm = from.smm.into();
    } else if from.smm {
        tracing::warn!(target: "kvm", "this KVM has no system management mode");
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_events_survive() {
        let exception = |error_code| Queued::Exception {
            vector: 14,
            error_code,
        };
        let all = [
            None,
            Some(Queued::Interrupt(0xFF)),
            Some(Queued::Nmi),
            Some(exception(None)),
            Some(exception(Some(0))),
            Some(exception(Some(6))),
        ];
        for queued in all {
            let mut state = CpuState::reset(0);
            state.queued = queued;
            state.nmi_pending = true;
            let mut back = CpuState::reset(0);
            from_kvm(&to_kvm(&state, true), &mut back);
            assert_eq!(state, back);
        }
    }

    #[test]
    fn an_exception_comes_before_what_it_interrupted() {
        let mut events = kvm_vcpu_events::default();
        events.interrupt.injected = 1;
        events.interrupt.nr = 0x20;
        assert_eq!(queued(&events), Some(Queued::Interrupt(0x20)));
        events.exception.pending = 1;
        events.exception.nr = 13;
        let expected = Queued::Exception {
            vector: 13,
            error_code: None,
        };
        assert_eq!(queued(&events), Some(expected));
        // INT n is run again.
        let mut events = kvm_vcpu_events::default();
        (events.interrupt.injected, events.interrupt.soft) = (1, 1);
        assert_eq!(queued(&events), None);
    }
}
