//! INIT and the start-up IPI. SDM Vol. 3A, "Processor State After Reset", table "IA-32 and Intel 64
//! Processor States Following Power-up, Reset, or INIT"; "Multiple-Processor (MP) Initialization".

use crate::arch::segment::Seg;
use crate::arch::{Cr0, Segment};
use crate::cpu::{Cpu, RIP};
use crate::state::{Activity, CpuState, Msrs};

/// IA32_APIC_BASE and its bit that marks the bootstrap processor.
const APIC_BASE: u32 = 0x1B;
const APIC_BASE_BSP: u64 = 1 << 8;

impl Cpu {
    /// INIT: as RESET, but caches (CR0.CD and NW), x87 and SSE state, XCR0, TSC and most MSRs stay.
    pub(crate) fn init(&mut self) {
        let reset = CpuState::reset(self.model.signature());
        let caches = self.cr0 & (Cr0::CD | Cr0::NW);
        // A board without an APIC has one processor.
        let boots = self
            .io
            .apic_msr_read(APIC_BASE)
            .map_or(true, |base| base & APIC_BASE_BSP != 0);
        let state = CpuState {
            cr0: (reset.cr0 - (Cr0::CD | Cr0::NW)) | caches,
            msrs: Msrs { ..self.msrs },
            fpu: self.fpu,
            xcr0: self.xcr0,
            smbase: self.smbase,
            tsc_offset: self.tsc_offset,
            activity: if boots {
                Activity::Running
            } else {
                Activity::WaitForSipi
            },
            ..reset
        };
        self.single_step = false;
        self.keep_resume_flag = false;
        self.set_state(&state);
    }

    /// Start-up IPI: real mode at `vector` pages.
    pub(crate) fn start_up(&mut self, vector: u8) {
        let segment = Segment {
            selector: u16::from(vector) << 8,
            base: u64::from(vector) << 12,
            limit: 0xFFFF,
            access: self.segment(Seg::Cs).access,
        };
        self.regs[RIP] = 0;
        self.activity = Activity::Running;
        self.set_segment(Seg::Cs, segment);
    }
}
