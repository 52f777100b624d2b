//! What a debugger stops a vCPU at: `KVM_SET_GUEST_DEBUG`, by single-step and the processor's four
//! debug registers (SDM Vol. 3B, "Debug Registers").
//!
//! While breakpoints or watchpoints are set, the guest's own debug registers are kept but watch
//! nothing: the processor has one set. A watchpoint for reads stops at writes too: the processor
//! knows no other. A step of PUSHF may show the guest TF, which is what KVM steps by.

use emu::engine::{DebugPoints, WatchKind, Watchpoint};
use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug,
};

use crate::{AccelError, DebugStop};

/// Debug registers there are.
const REGISTERS: usize = 4;
/// DR7: the bit that always reads as one.
const DR7_FIXED: u64 = 1 << 10;
/// DR6: single step.
const DR6_BS: u64 = 1 << 14;

/// One debug register's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    address: u64,
    /// R/W and LEN fields of DR7.
    control: u64,
    /// What is told when it is hit.
    stop: DebugStop,
}

/// What is set.
#[derive(Debug, Default)]
pub(super) struct Debug {
    step: bool,
    slots: Vec<Slot>,
    /// One instruction is stepped over before the slots are armed: a breakpoint stands at it.
    pub(super) passing: bool,
    /// RIP behind the HLT that is stepped: some KVMs report the step but not the halt.
    pub(super) behind_halt: Option<u64>,
}

impl Debug {
    /// The registers' use for `points`.
    ///
    /// # Errors
    /// If there are too few.
    pub(super) fn new(points: &DebugPoints) -> Result<Self, AccelError> {
        let breakpoints = points.breakpoints.iter().map(|&address| Slot {
            address,
            control: 0,
            stop: DebugStop::Breakpoint(address),
        });
        let pieces = points.watchpoints.iter().flat_map(pieces);
        let slots: Vec<Slot> = breakpoints.chain(pieces.take(REGISTERS + 1)).collect();
        if slots.len() > REGISTERS {
            return Err(AccelError::DebugRegisters { limit: REGISTERS });
        }
        Ok(Self {
            step: points.step,
            slots,
            passing: false,
            behind_halt: None,
        })
    }

    pub(super) fn breaks_at(&self, linear: u64) -> bool {
        let stop = DebugStop::Breakpoint(linear);
        self.slots.iter().any(|slot| slot.stop == stop)
    }

    /// Whether the next instruction is run for the debugger.
    pub(super) fn steps(&self) -> bool {
        self.step || self.passing
    }

    /// As KVM is told it.
    pub(super) fn request(&self) -> kvm_guest_debug {
        let mut request = kvm_guest_debug::default();
        if self.steps() {
            request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        }
        if self.passing || self.slots.is_empty() {
            return request;
        }
        request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        request.arch.debugreg[7] = DR7_FIXED;
        for (n, slot) in self.slots.iter().enumerate() {
            request.arch.debugreg[n] = slot.address;
            request.arch.debugreg[7] |= 2 << (2 * n) | slot.control << (16 + 4 * n);
        }
        request
    }

    /// What DR6 of a debug exit tells.
    pub(super) fn stop(&self, dr6: u64, pc: u64) -> DebugStop {
        let hit = |(n, _): &(usize, &Slot)| dr6 >> n & 1 != 0;
        match self.slots.iter().enumerate().find(hit) {
            Some((_, slot)) => slot.stop,
            None if dr6 & DR6_BS != 0 => DebugStop::Step,
            None => DebugStop::Breakpoint(pc),
        }
    }
}

/// The naturally aligned pieces a debug register can watch: 1, 2, 4 or 8 bytes.
fn pieces(watchpoint: &Watchpoint) -> impl Iterator<Item = Slot> + use<> {
    let watchpoint = *watchpoint;
    let rw = match watchpoint.kind {
        WatchKind::Write => 1,
        WatchKind::Read | WatchKind::Access => 3,
    };
    let mut at = watchpoint.address;
    let mut left = watchpoint.len;
    std::iter::from_fn(move || {
        let fits = |&(len, _): &(u64, u64)| len <= left && at.is_multiple_of(len);
        let (len, code) = [(8, 2), (4, 3), (2, 1), (1, 0)].into_iter().find(fits)?;
        let slot = Slot {
            address: at,
            control: rw | code << 2,
            stop: DebugStop::Watchpoint(watchpoint),
        };
        at = at.wrapping_add(len);
        left -= len;
        Some(slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(address: u64, len: u64) -> Watchpoint {
        Watchpoint {
            address,
            len,
            kind: WatchKind::Write,
        }
    }

    #[test]
    fn watchpoints_become_aligned_pieces() {
        let at = |address, len| pieces(&write(address, len)).map(|s| (s.address, s.control >> 2));
        assert_eq!(at(0x1000, 8).collect::<Vec<_>>(), [(0x1000, 2)]);
        let odd = at(0x1003, 6).collect::<Vec<_>>();
        assert_eq!(odd, [(0x1003, 0), (0x1004, 3), (0x1008, 0)]);
        assert_eq!(at(0x1000, 0).count(), 0);
    }

    #[test]
    fn four_registers_and_no_more() {
        let mut points = DebugPoints {
            breakpoints: vec![1, 2],
            watchpoints: vec![write(0x1000, 16)],
            ..DebugPoints::default()
        };
        let debug = Debug::new(&points).expect("four");
        assert_eq!(debug.request().arch.debugreg[7], 0x9900_04AA);
        assert_eq!(debug.stop(8, 0), DebugStop::Watchpoint(write(0x1000, 16)));
        assert_eq!(debug.stop(2, 0), DebugStop::Breakpoint(2));
        points.watchpoints[0].len = u64::MAX;
        assert!(Debug::new(&points).is_err());
    }
}
