//! Frames pushed on a stack that may not be the current one.
//! SDM Vol. 3A, "Stack Switching", "Stack Usage on Transfers to Interrupt and Exception-Handling
//! Routines".

use crate::arch::exception::{Exception, SS};
use crate::arch::segment::{Seg, Segment};
use crate::cpu::{Cpu, Raised};
use crate::mem::Access;
use crate::mem::linear::segment_allows;

/// A stack: the current one, or one that a change of privilege leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    /// What SS will be.
    pub segment: Segment,
    /// Stack pointer before the pushes.
    pub pointer: u64,
    /// The privilege the pushes happen with.
    pub cpl: u8,
    /// A 64-bit stack: neither limit nor type count.
    pub long: bool,
    /// The error code of a #SS.
    pub code: u16,
}

/// The most values in a frame: a call gate's 31 parameters, SS, SP, CS, IP.
const MOST: usize = 35;

/// Values to push, first one first.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    values: [u64; MOST],
    len: usize,
}

impl Frame {
    /// A frame that begins with `values`.
    pub(crate) fn new(values: &[u64]) -> Self {
        let mut frame = Self {
            values: [0; MOST],
            len: 0,
        };
        frame.extend(values);
        frame
    }

    /// Adds values; what no frame can hold is left out.
    pub(crate) fn extend(&mut self, values: &[u64]) {
        for (slot, value) in self.values[self.len..].iter_mut().zip(values) {
            *slot = *value;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[u64] {
        &self.values[..self.len]
    }
}

impl Stack {
    fn mask(&self) -> u64 {
        match (self.long, self.segment.has(Segment::DB)) {
            (true, _) => u64::MAX,
            (false, true) => 0xFFFF_FFFF,
            (false, false) => 0xFFFF,
        }
    }
}

impl Cpu {
    /// The stack in use.
    pub(crate) fn current_stack(&self) -> Stack {
        Stack {
            segment: *self.segment(Seg::Ss),
            pointer: self.regs[4],
            cpl: self.cpl,
            long: self.code64(),
            code: 0,
        }
    }

    /// Runs `f` with the data privilege of `cpl`.
    pub(crate) fn as_cpl<T>(&mut self, cpl: u8, f: impl FnOnce(&mut Self) -> T) -> T {
        let (old, privilege) = (self.cpl, self.privilege);
        self.cpl = cpl;
        self.update_privilege();
        let result = f(self);
        self.cpl = old;
        self.privilege = privilege;
        result
    }

    /// Pushes `frame` in items of `width` bytes (2, 4 or 8), all of it or nothing; returns the
    /// stack pointer after it. No register changes.
    pub(crate) fn push_frame(
        &mut self,
        stack: &Stack,
        width: usize,
        frame: &Frame,
    ) -> Result<u64, Raised> {
        let mask = stack.mask();
        let item = |k: usize| stack.pointer.wrapping_sub((width * (k + 1)) as u64) & mask;
        for k in 0..frame.len {
            self.check_push(stack, item(k), width)?;
        }
        let linear_mask = if stack.long { u64::MAX } else { 0xFFFF_FFFF };
        let base = if stack.long { 0 } else { stack.segment.base };
        let linear = |k: usize| base.wrapping_add(item(k)) & linear_mask;
        self.as_cpl(stack.cpl, |cpu| {
            for k in 0..frame.len {
                cpu.probe_write(linear(k), width, true)?;
            }
            for (k, &value) in frame.as_slice().iter().enumerate() {
                cpu.write_stack(linear(k), width, value)?;
            }
            Ok(())
        })?;
        let end = stack.pointer.wrapping_sub((width * frame.len) as u64);
        Ok(stack.pointer & !mask | end & mask)
    }

    /// #SS if an item at `offset` does not fit in the stack's segment.
    fn check_push(&mut self, stack: &Stack, offset: u64, width: usize) -> Result<(), Raised> {
        let untyped = !self.protected();
        if stack.long
            || segment_allows(&stack.segment, offset, width as u64, Access::Write, untyped)
        {
            return Ok(());
        }
        self.fault(Exception::with_code(SS, u32::from(stack.code & 0xFFFC)))
    }

    fn write_stack(&mut self, linear: u64, width: usize, value: u64) -> Result<(), Raised> {
        match width {
            2 => self.write_linear(linear, value as u16, true),
            4 => self.write_linear(linear, value as u32, true),
            _ => self.write_linear(linear, value, true),
        }
    }

    /// Reads the item of `width` bytes that lies `skip` bytes into the current stack.
    pub(crate) fn peek_width(&mut self, width: usize, skip: u64) -> Result<u64, Raised> {
        match width {
            2 => self.peek::<u16>(skip).map(u64::from),
            4 => self.peek::<u32>(skip).map(u64::from),
            _ => self.peek::<u64>(skip),
        }
    }
}
