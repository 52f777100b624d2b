//! Memory accesses of the guest: the fast path through the TLB, and everything else.
//!
//! Faults come before effects: an access that spans two pages translates both before it touches
//! either. MMIO and writes to translated code happen only while the instruction runs alone
//! (`Cpu::alone`); otherwise it is retried so, which puts every access of a device at an
//! instruction boundary in count and time.
// UNSAFETY: host pointers from the TLB are dereferenced here.
#![expect(unsafe_code, reason = "guest memory is reached by host pointers")]

use crate::arch::exception::{AC, Exception, GP, SS};
use crate::arch::segment::Seg;
use crate::cpu::{CodeWrite, Cpu, Raised};
use crate::decode::Insn;
use crate::mem::Access;
use crate::mem::host::{load_unaligned, load_wide, store_unaligned, store_wide};
use crate::mem::raw::Raw;
use crate::mem::tlb::Privilege;
use crate::memory::{CODE_WRITTEN, DIRTY, HOLDS_CODE};
use std::sync::atomic::{AtomicU8, Ordering};

const PAGE: u64 = 4096;

/// Where a linear address leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Host memory.
    Host(*mut u8),
    /// Memory that is only read here; a write goes to the board, at this guest physical address
    /// (as with KVM), which drops it or knows what it means.
    Rom(*mut u8, u64),
    /// A device, at this guest physical address.
    Device(u64),
}

/// An access as its instruction made it: what a fault needs to know beside the address.
#[derive(Clone, Copy)]
struct Attempt {
    privilege: Privilege,
    access: Access,
    /// The access is through SS: canonical violations are #SS.
    stack: bool,
}

impl Cpu {
    /// Reads the instruction's memory operand.
    #[inline(always)]
    pub(crate) fn load<W: Raw>(&mut self, i: &Insn) -> Result<W, Raised> {
        let linear = self.linear_of(i, W::BYTES, Access::Read)?;
        self.read_linear(linear, i.seg() == Seg::Ss as usize)
    }

    /// The host address of the instruction's memory operand, if it needs no second look: inside
    /// its segment, aligned, its page in the TLB. `Err` carries no cause.
    #[inline(always)]
    fn fast_host(&self, i: &Insn, bytes: usize, access: Access) -> Result<*mut u8, Raised> {
        let offset = self.effective_address(i);
        let bounds = if access == Access::Read {
            &self.read_bounds
        } else {
            &self.write_bounds
        };
        if i.checked() && offset + bytes as u64 > bounds[i.seg()] {
            return Err(Raised);
        }
        let linear = self.base(i.seg()).wrapping_add(offset) & self.linear_mask;
        self.tlb
            .aligned(self.privilege, access, linear, bytes)
            .ok_or(Raised)
    }

    /// As [`Cpu::fast_host`], of an operand with nothing but a 64-bit address
    /// ([`crate::decode::is_flat`]).
    #[inline(always)]
    fn flat_host(&self, i: &Insn, bytes: usize, access: Access) -> Result<*mut u8, Raised> {
        let base = self.regs[usize::from(i.base & 31)];
        let index = self.regs[usize::from(i.index & 31)] << (i.address & 3);
        let linear = base.wrapping_add(index).wrapping_add(i.disp as u64);
        self.tlb
            .aligned(self.privilege, access, linear, bytes)
            .ok_or(Raised)
    }

    /// Reads the instruction's memory operand, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_fast<W: Raw>(&mut self, i: &Insn) -> Result<W, Raised> {
        let host = self.fast_host(i, W::BYTES, Access::Read)?;
        // SAFETY: a TLB entry is a host page mapped as long as the VM lives; `aligned` keeps the
        // access inside it.
        Ok(unsafe { W::load(host) })
    }

    /// Reads the instruction's memory operand, which is flat, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_flat<W: Raw>(&mut self, i: &Insn) -> Result<W, Raised> {
        let host = self.flat_host(i, W::BYTES, Access::Read)?;
        // SAFETY: a TLB entry is a host page mapped as long as the VM lives; `aligned` keeps the
        // access inside it.
        Ok(unsafe { W::load(host) })
    }

    /// Reads the instruction's memory operand of sixteen bytes, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_wide_fast(&mut self, i: &Insn) -> Result<[u8; 16], Raised> {
        let host = self.fast_host(i, 16, Access::Read)?;
        // SAFETY: as in `load_fast`.
        Ok(unsafe { load_wide(host) })
    }

    /// Reads the instruction's memory operand of sixteen bytes, which is flat, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_wide_flat(&mut self, i: &Insn) -> Result<[u8; 16], Raised> {
        let host = self.flat_host(i, 16, Access::Read)?;
        // SAFETY: as in `load_fast`.
        Ok(unsafe { load_wide(host) })
    }

    /// Writes the instruction's memory operand, or fails without a cause.
    #[inline(always)]
    pub(crate) fn store_fast<W: Raw>(&mut self, i: &Insn, value: W) -> Result<(), Raised> {
        let host = self.fast_host(i, W::BYTES, Access::Write)?;
        // SAFETY: as in `load_fast`; write entries are writable host memory.
        unsafe { W::store(host, value) };
        Ok(())
    }

    /// Writes the instruction's memory operand, which is flat, or fails without a cause.
    #[inline(always)]
    pub(crate) fn store_flat<W: Raw>(&mut self, i: &Insn, value: W) -> Result<(), Raised> {
        let host = self.flat_host(i, W::BYTES, Access::Write)?;
        // SAFETY: as in `load_fast`; write entries are writable host memory.
        unsafe { W::store(host, value) };
        Ok(())
    }

    /// Changes the instruction's memory operand, or fails without a cause.
    #[inline(always)]
    pub(crate) fn modify_fast<W: Raw>(
        &mut self,
        i: &Insn,
        f: impl Fn(W) -> W,
    ) -> Result<(W, W), Raised> {
        let host = self.fast_host(i, W::BYTES, Access::Write)?;
        // SAFETY: as in `store_fast`.
        let old = unsafe { W::load(host) };
        let new = f(old);
        // SAFETY: as in `store_fast`.
        unsafe { W::store(host, new) };
        Ok((old, new))
    }

    /// Changes the instruction's memory operand, which is flat, or fails without a cause.
    #[inline(always)]
    pub(crate) fn modify_flat<W: Raw>(
        &mut self,
        i: &Insn,
        f: impl Fn(W) -> W,
    ) -> Result<(W, W), Raised> {
        let host = self.flat_host(i, W::BYTES, Access::Write)?;
        // SAFETY: as in `store_fast`.
        let old = unsafe { W::load(host) };
        let new = f(old);
        // SAFETY: as in `store_fast`.
        unsafe { W::store(host, new) };
        Ok((old, new))
    }

    /// Writes the instruction's memory operand.
    #[inline(always)]
    pub(crate) fn store<W: Raw>(&mut self, i: &Insn, value: W) -> Result<(), Raised> {
        let linear = self.linear_of(i, W::BYTES, Access::Write)?;
        self.write_linear(linear, value, i.seg() == Seg::Ss as usize)
    }

    /// Reads, applies `f` and writes the instruction's memory operand with one translation;
    /// returns the old and the new value.
    #[inline(always)]
    pub(crate) fn modify<W: Raw>(
        &mut self,
        i: &Insn,
        f: impl Fn(W) -> W,
    ) -> Result<(W, W), Raised> {
        let linear = self.linear_of(i, W::BYTES, Access::Write)?;
        if let Some(host) = self
            .tlb
            .aligned(self.privilege, Access::Write, linear, W::BYTES)
        {
            // SAFETY: a write entry of the TLB is a host page that is mapped as long as the VM
            // lives, and `aligned` keeps the access inside it.
            let old = unsafe { W::load(host) };
            let new = f(old);
            // SAFETY: as above.
            unsafe { W::store(host, new) };
            return Ok((old, new));
        }
        self.modify_slow(linear, i.seg() == Seg::Ss as usize, f)
    }

    /// As [`Cpu::modify`], atomically towards other processors (LOCK).
    pub(crate) fn modify_locked<W: Raw>(
        &mut self,
        i: &Insn,
        f: impl Fn(W) -> W,
    ) -> Result<(W, W), Raised> {
        let linear = self.linear_of(i, W::BYTES, Access::Write)?;
        let stack = i.seg() == Seg::Ss as usize;
        // Fills the TLB, and finds faults, devices and code before anything is written.
        let targets = self.resolve_span(linear, W::BYTES, Access::Write, self.privilege, stack)?;
        let (Target::Host(host), None) = targets else {
            return self.modify_slow(linear, stack, f);
        };
        if linear % W::BYTES as u64 != 0 {
            // A split lock: with one processor nothing can come between.
            return self.modify_slow(linear, stack, f);
        }
        // SAFETY: `resolve_span` returned a host address valid for the access, and it is aligned.
        let mut old = unsafe { W::load(host) };
        loop {
            let new = f(old);
            // SAFETY: as above.
            match unsafe { W::compare_exchange(host, old, new) } {
                Ok(_) => return Ok((old, new)),
                Err(seen) => old = seen,
            }
        }
    }

    /// Reads the piece of the memory operand that is `at` bytes into it; see
    /// [`Cpu::linear_of_piece`].
    #[inline(always)]
    pub(crate) fn load_piece<W: Raw>(&mut self, i: &Insn, at: usize) -> Result<W, Raised> {
        let linear = self.linear_of_piece(i, at, W::BYTES, Access::Read)?;
        self.read_linear(linear, i.seg() == Seg::Ss as usize)
    }

    /// Writes the piece of the memory operand that is `at` bytes into it.
    #[inline(always)]
    pub(crate) fn store_piece<W: Raw>(
        &mut self,
        i: &Insn,
        at: usize,
        value: W,
    ) -> Result<(), Raised> {
        let linear = self.linear_of_piece(i, at, W::BYTES, Access::Write)?;
        self.write_linear(linear, value, i.seg() == Seg::Ss as usize)
    }

    /// Raises the fault that an access to a piece of the memory operand would raise, changing
    /// nothing but accessed and dirty bits.
    pub(crate) fn probe_piece(
        &mut self,
        i: &Insn,
        at: usize,
        len: usize,
        access: Access,
    ) -> Result<(), Raised> {
        let linear = self.linear_of_piece(i, at, len, access)?;
        let stack = i.seg() == Seg::Ss as usize;
        self.resolve_span(linear, len, access, self.privilege, stack)
            .map(|_| ())
    }

    /// Reads at `offset` in segment `seg`.
    #[inline(always)]
    pub(crate) fn load_at<W: Raw>(&mut self, seg: Seg, offset: u64) -> Result<W, Raised> {
        let linear = self.linear_at(seg, offset, W::BYTES, Access::Read)?;
        self.read_linear(linear, seg == Seg::Ss)
    }

    /// Writes at `offset` in segment `seg`.
    #[inline(always)]
    pub(crate) fn store_at<W: Raw>(
        &mut self,
        seg: Seg,
        offset: u64,
        value: W,
    ) -> Result<(), Raised> {
        let linear = self.linear_at(seg, offset, W::BYTES, Access::Write)?;
        self.write_linear(linear, value, seg == Seg::Ss)
    }

    /// Pushes one value of width `W`.
    #[inline(always)]
    pub(crate) fn push<W: Raw>(&mut self, value: W) -> Result<(), Raised> {
        let rsp = self.regs[4];
        let new = rsp.wrapping_sub(W::BYTES as u64) & self.stack_mask;
        self.store_at(Seg::Ss, new, value)?;
        self.regs[4] = rsp & !self.stack_mask | new;
        Ok(())
    }

    /// The host address of an access to the stack at `offset`, as [`Cpu::fast_host`].
    #[inline(always)]
    fn fast_stack(&self, offset: u64, bytes: usize, access: Access) -> Result<*mut u8, Raised> {
        if !self.mode.flat {
            return Err(Raised);
        }
        let linear = self.base(Seg::Ss as usize).wrapping_add(offset) & self.linear_mask;
        self.tlb
            .aligned(self.privilege, access, linear, bytes)
            .ok_or(Raised)
    }

    /// Pushes one value of width `W` in 64-bit code, or fails without a cause.
    #[inline(always)]
    pub(crate) fn push_flat<W: Raw>(&mut self, value: W) -> Result<(), Raised> {
        let new = self.regs[4].wrapping_sub(W::BYTES as u64);
        let host = self
            .tlb
            .aligned(self.privilege, Access::Write, new, W::BYTES)
            .ok_or(Raised)?;
        // SAFETY: as in `store_fast`.
        unsafe { W::store(host, value) };
        self.regs[4] = new;
        Ok(())
    }

    /// Reads at `offset` of the stack in 64-bit code, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_stack_flat<W: Raw>(&mut self, offset: u64) -> Result<W, Raised> {
        let host = self
            .tlb
            .aligned(self.privilege, Access::Read, offset, W::BYTES)
            .ok_or(Raised)?;
        // SAFETY: as in `load_fast`.
        Ok(unsafe { W::load(host) })
    }

    /// Pushes one value of width `W`, or fails without a cause.
    #[inline(always)]
    pub(crate) fn push_fast<W: Raw>(&mut self, value: W) -> Result<(), Raised> {
        let rsp = self.regs[4];
        let new = rsp.wrapping_sub(W::BYTES as u64) & self.stack_mask;
        let host = self.fast_stack(new, W::BYTES, Access::Write)?;
        // SAFETY: as in `store_fast`.
        unsafe { W::store(host, value) };
        self.regs[4] = rsp & !self.stack_mask | new;
        Ok(())
    }

    /// Reads at `offset` of the stack, or fails without a cause.
    #[inline(always)]
    pub(crate) fn load_stack_fast<W: Raw>(&mut self, offset: u64) -> Result<W, Raised> {
        let host = self.fast_stack(offset, W::BYTES, Access::Read)?;
        // SAFETY: as in `load_fast`.
        Ok(unsafe { W::load(host) })
    }

    /// The value on top of the stack, `skip` bytes down; RSP stays.
    #[inline(always)]
    pub(crate) fn peek<W: Raw>(&mut self, skip: u64) -> Result<W, Raised> {
        let at = self.regs[4].wrapping_add(skip) & self.stack_mask;
        self.load_at(Seg::Ss, at)
    }

    /// Adds `bytes` to the stack pointer, at the stack's size.
    #[inline(always)]
    pub(crate) fn drop_stack(&mut self, bytes: u64) {
        let rsp = self.regs[4];
        self.regs[4] = rsp & !self.stack_mask | rsp.wrapping_add(bytes) & self.stack_mask;
    }

    /// Reads at a linear address with the program's privilege.
    #[inline(always)]
    pub(crate) fn read_linear<W: Raw>(&mut self, linear: u64, stack: bool) -> Result<W, Raised> {
        if let Some(host) = self
            .tlb
            .aligned(self.privilege, Access::Read, linear, W::BYTES)
        {
            // SAFETY: a TLB entry is a host page mapped as long as the VM lives; `aligned` keeps
            // the access inside it.
            return Ok(unsafe { W::load(host) });
        }
        let attempt = Attempt {
            privilege: self.privilege,
            access: Access::Read,
            stack,
        };
        Ok(W::from_u64(self.read_slow(linear, W::BYTES, attempt)?))
    }

    /// Writes at a linear address with the program's privilege.
    #[inline(always)]
    pub(crate) fn write_linear<W: Raw>(
        &mut self,
        linear: u64,
        value: W,
        stack: bool,
    ) -> Result<(), Raised> {
        if let Some(host) = self
            .tlb
            .aligned(self.privilege, Access::Write, linear, W::BYTES)
        {
            // SAFETY: as in `read_linear`; write entries are writable host memory.
            unsafe { W::store(host, value) };
            return Ok(());
        }
        let attempt = Attempt {
            privilege: self.privilege,
            access: Access::Write,
            stack,
        };
        self.write_slow(linear, W::BYTES, value.to_u64(), attempt)
    }

    /// Reads at a linear address as the processor itself does (descriptor tables, TSS): with
    /// supervisor privilege at any CPL.
    pub(crate) fn system_read<W: Raw>(&mut self, linear: u64) -> Result<W, Raised> {
        let attempt = Attempt {
            privilege: Privilege::Supervisor,
            access: Access::Read,
            stack: false,
        };
        Ok(W::from_u64(self.read_slow(linear, W::BYTES, attempt)?))
    }

    /// Writes at a linear address as the processor itself does.
    pub(crate) fn system_write<W: Raw>(&mut self, linear: u64, value: W) -> Result<(), Raised> {
        let attempt = Attempt {
            privilege: Privilege::Supervisor,
            access: Access::Write,
            stack: false,
        };
        self.write_slow(linear, W::BYTES, value.to_u64(), attempt)
    }

    /// Raises the fault a write of `len` (up to a page) bytes at `linear` would raise, changing
    /// nothing but accessed and dirty bits; for instructions that write in several pieces.
    pub(crate) fn probe_write(
        &mut self,
        linear: u64,
        len: usize,
        stack: bool,
    ) -> Result<(), Raised> {
        self.resolve_span(linear, len, Access::Write, self.privilege, stack)
            .map(|_| ())
    }

    /// As [`Cpu::probe_write`], for reading.
    pub(crate) fn probe_read(
        &mut self,
        linear: u64,
        len: usize,
        stack: bool,
    ) -> Result<(), Raised> {
        self.resolve_span(linear, len, Access::Read, self.privilege, stack)
            .map(|_| ())
    }

    /// As [`Cpu::probe_write`], whatever EFLAGS.AC says, for areas whose alignment is a #GP matter:
    /// their last byte is tried first.
    pub(crate) fn probe_area(
        &mut self,
        linear: u64,
        len: usize,
        access: Access,
        stack: bool,
    ) -> Result<(), Raised> {
        let privilege = match self.privilege {
            Privilege::UserAligned => Privilege::User,
            other => other,
        };
        let last = linear.wrapping_add(len as u64 - 1);
        if last & self.linear_mask > linear && canonical(linear) && canonical(last) {
            self.resolve_span(last, 1, access, privilege, stack)?;
        }
        self.resolve_span(linear, len, access, privilege, stack)
            .map(|_| ())
    }

    /// As [`Cpu::probe_write`], with supervisor privilege.
    pub(crate) fn probe_system_write(&mut self, linear: u64, len: usize) -> Result<(), Raised> {
        self.resolve_span(linear, len, Access::Write, Privilege::Supervisor, false)
            .map(|_| ())
    }

    /// The host address of `linear` and how many bytes of its page are left there, if the page is
    /// plain memory that `access` may touch with the program's privilege: for string instructions
    /// that move a page at a time. `None` if it must go item by item.
    pub(crate) fn span(
        &mut self,
        linear: u64,
        access: Access,
        stack: bool,
    ) -> Result<Option<(*mut u8, usize)>, Raised> {
        let left = (PAGE - linear % PAGE) as usize;
        if let Some(host) = self.tlb.page(self.privilege, access, linear) {
            return Ok(Some((host, left)));
        }
        let attempt = Attempt {
            privilege: self.privilege,
            access,
            stack,
        };
        self.resolve(linear, 1, attempt)?;
        Ok(self
            .tlb
            .page(self.privilege, access, linear)
            .map(|host| (host, left)))
    }

    /// The host address of an access inside one page that the TLB has with the rights it needs,
    /// aligned or not.
    #[inline(always)]
    fn cached(&self, linear: u64, len: usize, attempt: Attempt) -> Option<*mut u8> {
        (in_page(linear, len) == len)
            .then(|| self.tlb.page(attempt.privilege, attempt.access, linear))
            .flatten()
    }

    /// Sixteen bytes at a linear address, if they are at hand.
    #[inline(always)]
    pub(super) fn read_wide_fast(&self, linear: u64) -> Option<[u8; 16]> {
        let attempt = self.attempt(Access::Read);
        // SAFETY: a TLB entry is a host page mapped as long as the VM lives, and the access is
        // inside it.
        self.cached(linear, 16, attempt)
            .map(|host| unsafe { load_wide(host) })
    }

    /// Writes sixteen bytes at a linear address, if their page is at hand.
    #[inline(always)]
    pub(super) fn write_wide_fast(&mut self, linear: u64, value: [u8; 16]) -> Option<()> {
        let attempt = self.attempt(Access::Write);
        // SAFETY: as in `read_wide_fast`; write entries are writable host memory.
        self.cached(linear, 16, attempt)
            .map(|host| unsafe { store_wide(host, value) })
    }

    /// An access of the program's own.
    #[inline(always)]
    fn attempt(&self, access: Access) -> Attempt {
        Attempt {
            privilege: self.privilege,
            access,
            stack: false,
        }
    }

    #[inline(never)]
    fn read_slow(&mut self, linear: u64, len: usize, attempt: Attempt) -> Result<u64, Raised> {
        if let Some(host) = self.cached(linear, len, attempt) {
            // SAFETY: a TLB entry is a host page mapped as long as the VM lives, and the access is
            // inside it.
            return Ok(unsafe { load_unaligned(host, len) });
        }
        let first = in_page(linear, len);
        let targets =
            self.resolve_span(linear, len, Access::Read, attempt.privilege, attempt.stack)?;
        let low = self.read_target(targets.0, first);
        Ok(match targets.1 {
            None => low,
            Some(second) => low | self.read_target(second, len - first) << (8 * first),
        })
    }

    #[inline(never)]
    fn write_slow(
        &mut self,
        linear: u64,
        len: usize,
        value: u64,
        attempt: Attempt,
    ) -> Result<(), Raised> {
        if let Some(host) = self.cached(linear, len, attempt) {
            // SAFETY: as in `read_slow`; write entries are writable host memory.
            unsafe { store_unaligned(host, len, value) };
            return Ok(());
        }
        if in_page(linear, len) == len
            && let Some((host, physical)) = self.tlb.near_code(attempt.privilege, linear)
            && self.code_pages.contains_key(&(physical / PAGE))
        {
            self.write_near_code(physical, len as u64)?;
            // SAFETY: as above; who filled the entry had translated for a write.
            unsafe { store_unaligned(host, len, value) };
            return Ok(());
        }
        let first = in_page(linear, len);
        let targets =
            self.resolve_span(linear, len, Access::Write, attempt.privilege, attempt.stack)?;
        self.write_target(targets.0, first, value);
        if let Some(second) = targets.1 {
            self.write_target(second, len - first, value >> (8 * first));
        }
        Ok(())
    }

    #[inline(never)]
    fn modify_slow<W: Raw>(
        &mut self,
        linear: u64,
        stack: bool,
        f: impl Fn(W) -> W,
    ) -> Result<(W, W), Raised> {
        let attempt = Attempt {
            privilege: self.privilege,
            access: Access::Write,
            stack,
        };
        let first = in_page(linear, W::BYTES);
        let targets =
            self.resolve_span(linear, W::BYTES, Access::Write, attempt.privilege, stack)?;
        let mut old = self.read_target(targets.0, first);
        if let Some(second) = targets.1 {
            old |= self.read_target(second, W::BYTES - first) << (8 * first);
        }
        let old = W::from_u64(old);
        let new = f(old);
        self.write_target(targets.0, first, new.to_u64());
        if let Some(second) = targets.1 {
            self.write_target(second, W::BYTES - first, new.to_u64() >> (8 * first));
        }
        Ok((old, new))
    }

    fn read_target(&mut self, target: Target, len: usize) -> u64 {
        match target {
            // SAFETY: `resolve` gave a host address valid for the part of the access in its page.
            Target::Host(host) | Target::Rom(host, _) => unsafe { load_bytes_aligned(host, len) },
            Target::Device(address) => {
                let mut data = [0xFF; 8];
                self.io.mmio_read(address, &mut data[..len]);
                u64::from_le_bytes(data) & u64::MAX >> (64 - 8 * len)
            }
        }
    }

    fn write_target(&mut self, target: Target, len: usize, value: u64) {
        match target {
            // SAFETY: as in `read_target`; `Host` is writable.
            Target::Host(host) => unsafe { store_bytes_aligned(host, len, value) },
            Target::Rom(_, address) | Target::Device(address) => {
                self.io.mmio_write(address, &value.to_le_bytes()[..len]);
            }
        }
    }

    /// Resolves `len` bytes at `linear`; the second target is there if they span two pages.
    fn resolve_span(
        &mut self,
        linear: u64,
        len: usize,
        access: Access,
        privilege: Privilege,
        stack: bool,
    ) -> Result<(Target, Option<Target>), Raised> {
        let attempt = Attempt {
            privilege,
            access,
            stack,
        };
        // Both ends are checked before any translation, as processors do.
        let last = linear.wrapping_add(len as u64 - 1);
        let outside = self.long_mode() && !(canonical(linear) && canonical(last));
        // A flat segment has no check before (`check_segment`), but it does end at 4 GiB.
        let beyond = !self.code64() && self.mode.flat && linear >> 32 == 0 && last >> 32 != 0;
        if outside || beyond {
            let vector = if stack { SS } else { GP };
            return self.fault(Exception::with_code(vector, 0));
        }
        if privilege == Privilege::UserAligned && !linear.is_multiple_of(len as u64) {
            return self.fault(Exception::with_code(AC, 0));
        }
        let first = in_page(linear, len);
        if first == len {
            return Ok((self.resolve(linear, len, attempt)?, None));
        }
        let next = linear.wrapping_add(first as u64);
        // Outside 64-bit mode linear addresses wrap at 4 GiB.
        let next = if self.linear_mask == u64::MAX || linear >> 32 != 0 {
            next
        } else {
            next & 0xFFFF_FFFF
        };
        let low = self.resolve(linear, first, attempt)?;
        let high = self.resolve(next, len - first, attempt)?;
        Ok((low, Some(high)))
    }

    /// Resolves `len` bytes at `linear` that lie in one page: translates, looks into the memory
    /// map, keeps marks, fills the TLB.
    fn resolve(&mut self, linear: u64, len: usize, attempt: Attempt) -> Result<Target, Raised> {
        let Attempt {
            privilege,
            access,
            stack,
        } = attempt;
        if self.long_mode() && !canonical(linear) {
            let vector = if stack { SS } else { GP };
            return self.fault(Exception::with_code(vector, 0));
        }
        if let Some(host) = self.tlb.page(privilege, access, linear) {
            return Ok(Target::Host(host));
        }
        let translation = self.translate(linear, access, privilege)?;
        let physical = translation.physical & self.memory.a20_mask();
        let watched = self.watch_data(linear, len, access)?;
        let Some(range) = self.memory.find(physical) else {
            if !self.alone {
                return self.retry();
            }
            return Ok(Target::Device(physical));
        };
        let in_block = (range.offset + (physical - range.start)) as usize;
        // SAFETY: `find` returned a range that holds `physical`, and ranges lie inside their blocks.
        let host = unsafe { range.block.host.as_ptr().add(in_block) };
        let page_host = host.wrapping_sub((physical % PAGE) as usize);
        let mark = &range.block.marks[in_block / PAGE as usize];
        if access == Access::Write {
            if range.read_only {
                if !self.alone {
                    return self.retry();
                }
                return Ok(Target::Rom(host, physical));
            }
            mark.fetch_or(DIRTY, Ordering::Relaxed);
            if mark.load(Ordering::Relaxed) & HOLDS_CODE != 0 {
                self.write_near_code(physical, len as u64)?;
                if !watched && privilege != Privilege::UserAligned {
                    self.tlb.fill_near_code(privilege, linear, host, physical);
                }
                return Ok(Target::Host(host));
            }
        }
        if watched {
            return Ok(Target::Host(host));
        }
        if privilege != Privilege::UserAligned {
            self.tlb
                .fill(privilege, access, linear, page_host, translation.global);
        }
        Ok(Target::Host(host))
    }

    /// A write to a page that holds code: one that touches translated bytes must happen alone, and
    /// is left for the loop.
    fn write_near_code(&mut self, physical: u64, len: u64) -> Result<(), Raised> {
        if !self.touches_code(physical, len) {
            return Ok(());
        }
        if !self.alone {
            return self.retry();
        }
        self.code_writes.push(CodeWrite {
            address: physical,
            len,
        });
        Ok(())
    }

    /// Marks the page at guest physical `physical` as holding code in the granules `granules`, and
    /// drops writable translations of it. Returns its host address, or `None` if it is no memory.
    pub(crate) fn hold_code(&mut self, physical: u64, granules: u64) {
        let Some(range) = self.memory.find(physical) else {
            return;
        };
        let in_block = (range.offset + (physical - range.start)) as usize & !(PAGE as usize - 1);
        let mark = &range.block.marks[in_block / PAGE as usize];
        let page_host = range.block.host.as_ptr().wrapping_add(in_block);
        let page = self.code_pages.entry(physical / PAGE).or_default();
        if page.granules == 0 {
            mark.fetch_and(!CODE_WRITTEN, Ordering::Relaxed);
            page.idle_writes = 0;
        }
        page.granules |= granules;
        if mark.fetch_or(HOLDS_CODE, Ordering::SeqCst) & HOLDS_CODE == 0 {
            self.tlb.protect(page_host);
        }
    }

    /// Code of a page was dropped; some is left in `granules`.
    pub(crate) fn code_left(&mut self, page: u64, granules: u64) {
        let page = self.code_pages.entry(page).or_default();
        page.granules = granules;
        page.idle_writes = 0;
    }

    /// Whether a write touches translated code. Pages that lie written for a while and hold no more code
    /// become ordinary ones again.
    fn touches_code(&mut self, physical: u64, len: u64) -> bool {
        let Some(page) = self.code_pages.get_mut(&(physical / PAGE)) else {
            return false;
        };
        if page.granules == 0 {
            page.idle_writes += 1;
            if page.idle_writes == IDLE_WRITES {
                self.release_code_page(physical);
            }
            return false;
        }
        let (from, to) = (physical % PAGE / 64, (physical + len - 1) % PAGE / 64);
        (from..=to).any(|granule| page.granules >> granule & 1 != 0)
    }

    /// With one processor, as today: its code was the last.
    #[cold]
    fn release_code_page(&mut self, physical: u64) {
        self.code_pages.remove(&(physical / PAGE));
        if let Some(range) = self.memory.find(physical) {
            let at = (range.offset + (physical - range.start)) / PAGE;
            range.block.marks[at as usize].fetch_and(!HOLDS_CODE, Ordering::SeqCst);
        }
    }

    /// The physical address of code at `linear`.
    #[inline]
    pub(crate) fn code_address(&mut self, linear: u64) -> Result<u64, Raised> {
        match self.cached_code(linear) {
            Some(physical) => Ok(physical),
            None => self.walk_to_code(linear),
        }
    }

    /// The physical address of code at `linear`, if that is known without a walk.
    #[inline(always)]
    pub(crate) fn cached_code(&self, linear: u64) -> Option<u64> {
        self.tlb.code(self.fetch_privilege(), linear)
    }

    /// Whether code at `linear` is known by a translation that MOV to CR3 leaves.
    pub(crate) fn code_is_global(&self, linear: u64) -> bool {
        self.tlb.code_is_global(self.fetch_privilege(), linear)
    }

    fn fetch_privilege(&self) -> Privilege {
        match self.privilege {
            Privilege::UserAligned => Privilege::User,
            Privilege::SupervisorAc => Privilege::Supervisor,
            other => other,
        }
    }

    #[inline(never)]
    fn walk_to_code(&mut self, linear: u64) -> Result<u64, Raised> {
        if self.long_mode() && !canonical(linear) {
            return self.gp(0);
        }
        let privilege = self.fetch_privilege();
        let translation = self.translate(linear, Access::Execute, privilege)?;
        let physical = translation.physical & self.memory.a20_mask();
        if self.memory.find(physical).is_some() {
            let global = translation.global;
            self.tlb.fill_code(privilege, linear, physical, global);
        }
        Ok(physical)
    }

    /// The bytes of code at a physical address, up to the end of its page.
    pub(crate) fn code_bytes(&mut self, physical: u64) -> CodeBytes {
        let left = (PAGE - physical % PAGE) as usize;
        let len = left.min(CodeBytes::WINDOW);
        let mut bytes = CodeBytes {
            bytes: [0xFF; CodeBytes::WINDOW],
            len,
            device: false,
        };
        let Some(range) = self.memory.find(physical) else {
            bytes.len = len.min(crate::decode::MAX_LEN);
            bytes.device = true;
            for (at, byte) in bytes.bytes[..bytes.len].iter_mut().enumerate() {
                self.io
                    .mmio_read(physical + at as u64, std::slice::from_mut(byte));
            }
            return bytes;
        };
        let offset = range.offset + (physical - range.start);
        let host = range.block.host.as_ptr().wrapping_add(offset as usize);
        for (at, chunk) in (0..).step_by(8).zip(bytes.bytes[..len].chunks_mut(8)) {
            // SAFETY: `find` returned a range that holds the page, to the end of which `len` goes.
            let value = unsafe { load_unaligned(host.add(at), chunk.len()) };
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    /// Reads guest physical memory as a page walk does; what is no memory reads as all ones.
    pub(crate) fn physical_read<W: Raw>(&mut self, physical: u64) -> W {
        match self.physical_host(physical) {
            // SAFETY: `physical_host` gave an address inside a mapped page; entries are aligned.
            Some((host, _)) => unsafe { W::load(host) },
            None => !W::zero(),
        }
    }

    /// Compare-exchange on guest physical memory, for accessed and dirty bits; true if it is done
    /// (or the memory drops writes).
    pub(crate) fn physical_update<W: Raw>(&mut self, physical: u64, old: W, new: W) -> bool {
        match self.physical_host(physical) {
            Some((host, Some(mark))) => {
                mark.fetch_or(DIRTY, Ordering::Relaxed);
                // SAFETY: as in `physical_read`, and the range is writable.
                unsafe { W::compare_exchange(host, old, new) }.is_ok()
            }
            _ => true,
        }
    }

    /// Host address of an aligned physical address, and its page's marks if it may be written.
    fn physical_host(&self, physical: u64) -> Option<(*mut u8, Option<&AtomicU8>)> {
        let physical = physical & self.memory.a20_mask();
        let range = self.memory.find(physical)?;
        let in_block = (range.offset + (physical - range.start)) as usize;
        let mark = &range.block.marks[in_block / PAGE as usize];
        let host = range.block.host.as_ptr().wrapping_add(in_block);
        Some((host, (!range.read_only).then_some(mark)))
    }
}

/// So many writes to a page whose code has all been dropped make it an ordinary page.
const IDLE_WRITES: u8 = 8;

/// Code bytes copied from guest memory.
pub(crate) struct CodeBytes {
    bytes: [u8; Self::WINDOW],
    len: usize,
    /// The bytes come from a device: they cannot be kept.
    pub device: bool,
}

impl CodeBytes {
    /// The most bytes one block is decoded from.
    const WINDOW: usize = 512;

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Whether bits 63:47 are all equal.
fn canonical(linear: u64) -> bool {
    (linear as i64) << 16 >> 16 == linear as i64
}

/// How many of `len` bytes at `linear` lie in its page.
fn in_page(linear: u64, len: usize) -> usize {
    len.min((PAGE - linear % PAGE) as usize)
}

/// Loads 1 to 8 bytes, at once where they are aligned.
///
/// # Safety
/// `host` is valid for reads of `len` bytes.
unsafe fn load_bytes_aligned(host: *const u8, len: usize) -> u64 {
    // SAFETY: the caller vouches for `len` bytes; each arm checks alignment.
    unsafe {
        match len {
            8 if host.addr().is_multiple_of(8) => u64::load(host),
            4 if host.addr().is_multiple_of(4) => u64::from(u32::load(host)),
            2 if host.addr().is_multiple_of(2) => u64::from(u16::load(host)),
            _ => load_unaligned(host, len),
        }
    }
}

/// Stores 1 to 8 bytes, at once where they are aligned.
///
/// # Safety
/// `host` is valid for writes of `len` bytes.
unsafe fn store_bytes_aligned(host: *mut u8, len: usize, value: u64) {
    // SAFETY: the caller vouches for `len` bytes; each arm checks alignment.
    unsafe {
        match len {
            8 if host.addr().is_multiple_of(8) => u64::store(host, value),
            4 if host.addr().is_multiple_of(4) => u32::store(host, value as u32),
            2 if host.addr().is_multiple_of(2) => u16::store(host, value as u16),
            _ => store_unaligned(host, len, value),
        }
    }
}
