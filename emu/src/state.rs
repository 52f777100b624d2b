//! The whole architectural state of a processor, shared by both engines.

use crate::arch::segment::{Seg, Segment, TableRegister};
use crate::arch::{Cr0, Cr4, Efer, RFlags};

/// What the processor is doing when it is not executing instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Activity {
    /// Executing instructions.
    #[default]
    Running,
    /// Stopped by HLT until an event.
    Halted,
    /// An application processor before its start-up IPI.
    WaitForSipi,
    /// Shut down by a triple fault.
    Shutdown,
}

/// What still blocks events after the last instruction. SDM Vol. 3A, "Masking Maskable Hardware
/// Interrupts" and "Masking Exceptions and Interrupts When Switching Stacks".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// STI: maskable interrupts wait for one instruction.
    Sti,
    /// MOV SS or POP SS: interrupts, NMI and debug traps wait for one instruction.
    MovSs,
}

/// An event the processor has accepted and not yet delivered: it comes before the next instruction.
/// The software CPU accepts and delivers in one; hardware can be stopped between the two, and what
/// was acknowledged at the interrupt controller is not told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Queued {
    /// A maskable interrupt, acknowledged.
    Interrupt(u8),
    /// A non-maskable interrupt; they are blocked already.
    Nmi,
    /// An exception; CR2, DR6 and DR7 have been written already.
    Exception {
        /// Vector, 0 to 31.
        vector: u8,
        /// The error code to be pushed.
        error_code: Option<u32>,
    },
}

/// Model-specific registers that hold plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Msrs {
    /// IA32_STAR (C0000081h).
    pub star: u64,
    /// IA32_LSTAR (C0000082h).
    pub lstar: u64,
    /// IA32_CSTAR (C0000083h).
    pub cstar: u64,
    /// IA32_FMASK (C0000084h).
    pub sfmask: u64,
    /// IA32_KERNEL_GS_BASE (C0000102h).
    pub kernel_gs_base: u64,
    /// IA32_TSC_AUX (C0000103h).
    pub tsc_aux: u64,
    /// IA32_SYSENTER_CS (174h).
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP (175h).
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP (176h).
    pub sysenter_eip: u64,
    /// IA32_PAT (277h).
    pub pat: u64,
    /// IA32_MISC_ENABLE (1A0h).
    pub misc_enable: u64,
    /// IA32_MTRR_DEF_TYPE (2FFh).
    pub mtrr_def_type: u64,
    /// IA32_MTRR_PHYSBASEn and PHYSMASKn (200h..=20Fh).
    pub mtrr_variable: [u64; 16],
    /// IA32_MTRR_FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 to FIX4K_F8000.
    pub mtrr_fixed: [u64; 11],
}

/// x87, MMX and SSE state, in the layout FXSAVE shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fpu {
    /// Control word.
    pub fcw: u16,
    /// Status word, TOP included.
    pub fsw: u16,
    /// Abridged tag word: bit n set when physical register n is not empty.
    pub ftw: u8,
    /// Last opcode (11 bits).
    pub fop: u16,
    /// Last instruction pointer.
    pub fip: u64,
    /// Last data pointer.
    pub fdp: u64,
    /// Selector that goes with `fip`, where FXSAVE and FSTENV have one.
    pub fcs: u16,
    /// Selector that goes with `fdp`.
    pub fds: u16,
    /// Physical registers R0 to R7: significand, and sign with exponent.
    pub regs: [(u64, u16); 8],
    /// MXCSR.
    pub mxcsr: u32,
    /// XMM0 to XMM15, lowest byte first.
    pub xmm: [[u8; 16]; 16],
}

impl Default for Fpu {
    /// State after RESET. SDM Vol. 3A, "IA-32 and Intel 64 Processor States Following Power-up,
    /// Reset, or INIT".
    fn default() -> Self {
        Self {
            fcw: 0x40,
            fsw: 0,
            ftw: 0xFF,
            fop: 0,
            fip: 0,
            fdp: 0,
            fcs: 0,
            fds: 0,
            regs: [(0, 0); 8],
            mxcsr: 0x1F80,
            xmm: [[0; 16]; 16],
        }
    }
}

/// The whole architectural state: what snapshots, the debugger, lockstep and a change of engine
/// carry. Backends get and set it whole; tests compare it by field name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CpuState {
    /// General-purpose registers in encoding order ([`crate::arch::Gpr`]).
    pub gpr: [u64; 16],
    /// Instruction pointer (an offset into CS).
    pub rip: u64,
    /// Flags.
    pub rflags: RFlags,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR in the order of [`crate::arch::Seg`].
    pub segments: [Segment; 8],
    /// Global descriptor table register.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table register.
    pub idtr: TableRegister,
    /// CR0.
    pub cr0: Cr0,
    /// CR2: the last page fault's linear address.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// IA32_EFER.
    pub efer: Efer,
    /// XCR0.
    pub xcr0: u64,
    /// PDPTE registers of PAE paging: loaded by MOV to CR3, not re-read at each walk.
    pub pdpte: [u64; 4],
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Model-specific registers.
    pub msrs: Msrs,
    /// x87 and SSE.
    pub fpu: Fpu,
    /// Running, halted, waiting for SIPI.
    pub activity: Activity,
    /// Interrupt shadow.
    pub shadow: Shadow,
    /// NMIs are blocked until the next IRET.
    pub nmi_masked: bool,
    /// An NMI has come and waits to be let in; it is no longer the board's.
    pub nmi_pending: bool,
    /// What is delivered before the next instruction.
    pub queued: Option<Queued>,
    /// What the guest's time-stamp counter is ahead of the board's ([`crate::CpuIo::tsc`]).
    pub tsc_offset: u64,
    /// In system management mode.
    pub smm: bool,
    /// SMBASE.
    pub smbase: u32,
}

/// CR0 after RESET: caches disabled, ET set.
const CR0_RESET: u64 = 0x6000_0010;
/// IA32_PAT after RESET.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// SMBASE after RESET.
const SMBASE_RESET: u32 = 0x3_0000;
/// DR6 with no condition reported.
pub const DR6_RESET: u64 = 0xFFFF_0FF0;
/// DR7 with no breakpoint.
pub const DR7_RESET: u64 = 0x400;
/// IA32_MISC_ENABLE after RESET: fast strings.
const MISC_ENABLE_RESET: u64 = 1;
/// Access rights of a segment after RESET: present, writable data, accessed.
const DATA_RESET: u32 = Segment::P | Segment::S | Segment::WRITABLE | Segment::ACCESSED;

/// x87 status word: an unmasked exception is pending.
const FSW_ES: u16 = 1 << 7;
/// A segment whose limit is beyond this counts it in pages.
const BYTE_LIMIT: u32 = 0xF_FFFF;

fn canonical_segment(segment: Segment) -> Segment {
    const DPL: u32 = 3 << 5;
    if segment.unusable() || !segment.has(Segment::P) {
        let access = Segment::UNUSABLE | segment.access & DPL;
        return Segment {
            limit: 0,
            access,
            ..segment
        };
    }
    let mut access = segment.access & !Segment::G;
    if segment.limit > BYTE_LIMIT {
        access |= Segment::G;
    }
    if segment.has(Segment::S) {
        access |= Segment::ACCESSED;
    }
    Segment { access, ..segment }
}

impl CpuState {
    /// RIP as a linear address.
    pub fn linear_rip(&self) -> u64 {
        let cs = &self.segments[Seg::Cs as usize];
        if self.efer.contains(Efer::LMA) && cs.has(Segment::L) {
            self.rip
        } else {
            cs.base.wrapping_add(self.rip) & 0xFFFF_FFFF
        }
    }

    /// State after RESET, with EDX holding the processor's signature (CPUID.1:EAX).
    /// SDM Vol. 3A, "Processor State After Reset".
    pub fn reset(signature: u32) -> Self {
        let data = Segment::real(0, DATA_RESET);
        let code = Segment {
            selector: 0xF000,
            base: 0xFFFF_0000,
            limit: 0xFFFF,
            access: DATA_RESET | Segment::CODE,
        };
        let system = |kind| Segment {
            selector: 0,
            base: 0,
            limit: 0xFFFF,
            access: Segment::P | kind,
        };
        let mut gpr = [0; 16];
        gpr[crate::arch::Gpr::Rdx as usize] = u64::from(signature);
        Self {
            gpr,
            rip: 0xFFF0,
            rflags: RFlags::FIXED,
            segments: [data, code, data, data, data, data, system(2), system(0xB)],
            gdtr: TableRegister {
                base: 0,
                limit: 0xFFFF,
            },
            idtr: TableRegister {
                base: 0,
                limit: 0xFFFF,
            },
            cr0: Cr0::from_bits_retain(CR0_RESET),
            cr2: 0,
            cr3: 0,
            cr4: Cr4::empty(),
            efer: Efer::empty(),
            xcr0: 1,
            pdpte: [0; 4],
            dr: [0; 4],
            dr6: DR6_RESET,
            dr7: DR7_RESET,
            msrs: Msrs {
                pat: PAT_RESET,
                misc_enable: MISC_ENABLE_RESET,
                ..Msrs::default()
            },
            fpu: Fpu::default(),
            activity: Activity::Running,
            shadow: Shadow::None,
            nmi_masked: false,
            nmi_pending: false,
            queued: None,
            tsc_offset: 0,
            smm: false,
            smbase: SMBASE_RESET,
        }
    }

    /// The state as both engines agree to spell it: what the architecture leaves without meaning
    /// is put to one value, so that equal machines compare equal.
    ///
    /// Segments: an unusable or absent one keeps selector, base and DPL (SS's is the CPL); G follows
    /// from the limit; a usable code or data segment is accessed. x87 pointers and opcode mean
    /// nothing without a pending error (AMD APM Vol. 2, "FXSAVE and FXRSTOR"); their selectors are not
    /// in the image that 64-bit systems keep.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.rflags |= RFlags::FIXED;
        self.cr0 |= Cr0::ET;
        for segment in &mut self.segments {
            *segment = canonical_segment(*segment);
        }
        self.dr6 |= DR6_RESET;
        self.dr7 |= DR7_RESET;
        if !(self.cr0.contains(Cr0::PG) && self.cr4.contains(Cr4::PAE))
            || self.efer.contains(Efer::LMA)
        {
            self.pdpte = [0; 4];
        }
        if self.fpu.fsw & FSW_ES == 0 {
            (self.fpu.fop, self.fpu.fip, self.fpu.fdp) = (0, 0, 0);
        }
        (self.fpu.fcs, self.fpu.fds) = (0, 0);
        self.activity = self.canonical_activity();
        self
    }

    /// Halted only if nothing that has been let in already ends that.
    pub fn canonical_activity(&self) -> Activity {
        let wakes = self.queued.is_some() || self.nmi_pending && !self.nmi_masked;
        match self.activity {
            Activity::Halted if wakes => Activity::Running,
            activity => activity,
        }
    }

    /// The names of the fields in which two states differ, with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        macro_rules! compare {
            ($($field:ident),*) => {$(
                if self.$field != other.$field {
                    found.push(format!(
                        "{}: {:x?} / {:x?}", stringify!($field), self.$field, other.$field
                    ));
                }
            )*};
        }
        compare!(
            gpr,
            rip,
            rflags,
            segments,
            gdtr,
            idtr,
            cr0,
            cr2,
            cr3,
            cr4,
            efer,
            xcr0,
            pdpte,
            dr,
            dr6,
            dr7,
            msrs,
            fpu,
            activity,
            shadow,
            nmi_masked,
            nmi_pending,
            queued,
            tsc_offset,
            smm,
            smbase
        );
        found
    }
}
