//! When two states are the same point.

use emu::CpuState;
use emu::arch::{Efer, RFlags, Seg, Segment};
use emu::state::{Activity, Shadow};

/// The descriptor privilege level in a segment's access rights.
const DPL: u32 = 3 << 5;

/// A state without what is not compared: events that have been accepted and not delivered (the leader
/// stops between the two), the time-stamp counter, and RF, which an emulator sets between the
/// iterations of a repeated instruction.
pub(super) fn comparable(mut state: CpuState, woken: bool) -> CpuState {
    state.queued = None;
    state.nmi_pending = false;
    state.tsc_offset = 0;
    state.rflags -= RFlags::RF;
    if woken && state.activity == Activity::Halted {
        state.activity = Activity::Running;
    }
    if state.activity == Activity::Halted {
        // HLT has executed: a shadow of the STI before it is over.
        state.shadow = Shadow::None;
    }
    forget_null(&mut state.segments[Seg::Ldtr as usize]);
    if state.efer.contains(Efer::LMA) && state.segments[Seg::Cs as usize].has(Segment::L) {
        for register in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
            forget_null(&mut state.segments[register as usize]);
        }
    }
    state
}

/// Behind a null selector, in LDTR or where 64-bit mode does not care, processors differ in what is left
/// of the descriptor before.
fn forget_null(segment: &mut Segment) {
    if segment.selector >> 2 == 0 {
        segment.limit = 0;
        segment.access = Segment::UNUSABLE | segment.access & DPL;
    }
}

/// The status flags in which two states differ, if they differ in nothing else.
pub(super) fn only_flags(a: &CpuState, b: &CpuState) -> Option<RFlags> {
    let differ = a.rflags ^ b.rflags;
    let others = CpuState {
        rflags: a.rflags,
        ..b.clone()
    };
    (RFlags::STATUS.contains(differ) && others == *a).then_some(differ)
}

/// The fields in which two states differ, one line each; lists by their elements.
pub(super) fn differences(leader: &CpuState, follower: &CpuState) -> Vec<String> {
    let mut found = Vec::new();
    for register in emu::arch::Gpr::ALL {
        let (a, b) = (
            leader.gpr[register as usize],
            follower.gpr[register as usize],
        );
        if a != b {
            found.push(format!("{register:?}: {a:x} / {b:x}"));
        }
    }
    let seg = |n: usize| ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"][n];
    for (n, (a, b)) in leader.segments.iter().zip(&follower.segments).enumerate() {
        if a != b {
            found.push(format!("{}: {a:x?} / {b:x?}", seg(n)));
        }
    }
    if leader.rflags != follower.rflags {
        let differ = leader.rflags ^ follower.rflags;
        found.push(format!(
            "rflags: {:x} / {:x} ({differ:?})",
            leader.rflags, follower.rflags
        ));
    }
    let named = ["gpr:", "segments:", "rflags:", "tsc_offset:"];
    let rest = leader.differences(follower).into_iter();
    found.extend(rest.filter(|line| !named.iter().any(|name| line.starts_with(name))));
    found
}
