//! Breakpoints of the debug registers. SDM Vol. 3B, "Debug Registers", "Debug Exceptions".
//!
//! Data and I/O breakpoints are traps: hits gather in `Cpu::debug_hits` while the instruction runs
//! (alone, so that nothing comes between), and the loop delivers #DB behind it.

use crate::arch::Cr4;
use crate::cpu::{Cpu, Raised};
use crate::mem::Access;

/// DR6: a task switch into a TSS with its T bit set.
pub(crate) const DR6_BT: u64 = 1 << 15;
/// DR7: accesses to debug registers fault. Cleared when #DB is delivered.
pub(crate) const DR7_GD: u64 = 1 << 13;
/// DR7: the local enable bits, which a task switch clears (L0 to L3, LE).
pub(crate) const DR7_LOCAL: u64 = 0x155;
/// DR7: all enable bits of the four breakpoints.
const DR7_ENABLES: u64 = 0xFF;

/// What a breakpoint watches: its R/W field.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const IO: u64 = 2;

/// One breakpoint of DR7.
#[derive(Clone, Copy)]
struct Breakpoint {
    /// DR6 bit.
    bit: u64,
    rw: u64,
    start: u64,
    len: u64,
}

impl Breakpoint {
    fn overlaps(&self, address: u64, len: u64) -> bool {
        let last = |start: u64, len: u64| start.saturating_add(len - 1);
        self.start <= last(address, len) && address <= last(self.start, self.len)
    }
}

impl Cpu {
    /// The enabled breakpoints.
    fn breakpoints(&self) -> impl Iterator<Item = Breakpoint> + use<> {
        let (dr, dr7) = (self.dr, self.dr7);
        let enabled = move |n: &usize| dr7 >> (2 * n) & 3 != 0;
        (0..4).filter(enabled).map(move |n| {
            let control = dr7 >> (16 + 4 * n) & 15;
            let len = [1, 2, 8, 4][(control >> 2) as usize];
            Breakpoint {
                bit: 1 << n,
                rw: control & 3,
                start: dr[n] & !(len - 1),
                len,
            }
        })
    }

    /// Sets DR7 and what follows from it: pages with data breakpoints leave the TLB, and the loop
    /// looks at each instruction while instruction breakpoints are armed. To be called for DR0 to
    /// DR3 too, with DR7 as it is.
    pub(crate) fn set_dr7(&mut self, dr7: u64) {
        self.dr7 = dr7;
        self.flush_tlb();
        self.recheck_events();
    }

    /// Whether DR7 arms any instruction breakpoint.
    pub(crate) fn instruction_breakpoints_armed(&self) -> bool {
        self.dr7 & DR7_ENABLES != 0 && self.breakpoints().any(|b| b.rw == EXECUTE)
    }

    /// DR6 bits of the instruction breakpoints at a linear address.
    pub(crate) fn breakpoints_at(&self, linear: u64) -> u64 {
        self.breakpoints()
            .filter(|b| b.rw == EXECUTE && b.start == linear)
            .fold(0, |bits, b| bits | b.bit)
    }

    /// Notes data breakpoints, and a debugger's watchpoint, that an access of `len` bytes at `linear`
    /// hits; true if the page has any, so that its accesses keep coming here. A hit must happen alone.
    pub(crate) fn watch_data(
        &mut self,
        linear: u64,
        len: usize,
        access: Access,
    ) -> Result<bool, Raised> {
        let guest = self.dr7 & DR7_ENABLES != 0;
        if !guest && !self.debugger.watches() || access == Access::Execute {
            return Ok(false);
        }
        let (watchpoint, mut watched) = self.watchpoint_at(linear, len, access);
        let mut hits = 0;
        for b in self.breakpoints() {
            if b.rw == EXECUTE || b.rw == IO {
                continue;
            }
            watched |= b.overlaps(linear & !0xFFF, 4096);
            let wanted = access == Access::Write || b.rw != WRITE;
            if wanted && b.overlaps(linear, len.max(1) as u64) {
                hits |= b.bit;
            }
        }
        if (hits != 0 || watchpoint.is_some()) && !self.alone {
            return self.retry();
        }
        self.debug_hits |= hits;
        if let Some(watchpoint) = watchpoint {
            self.hit_watchpoint(watchpoint);
        }
        Ok(watched)
    }

    /// Notes I/O breakpoints (CR4.DE) that an access of `len` bytes at `port` hits. The
    /// instruction must run alone.
    pub(crate) fn watch_io(&mut self, port: u16, len: usize) {
        if self.dr7 & DR7_ENABLES == 0 || !self.cr4.contains(Cr4::DE) {
            return;
        }
        let hits = self
            .breakpoints()
            .filter(|b| b.rw == IO && b.overlaps(u64::from(port), len.max(1) as u64))
            .fold(0, |bits, b| bits | b.bit);
        self.debug_hits |= hits;
    }
}
