//! The machine as gdb's target: registers, memory, points, how it goes on.
//!
//! Everything is asked of the machine's own thread, between two instructions. An error here ends the
//! session; what gdb asks and the guest does not have is told to gdb instead.

use std::sync::atomic::{AtomicU8, Ordering};

use accel::{DebugPoints, WatchKind, Watchpoint};
use gdbstub::arch;
use gdbstub::common::Signal;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::single_register_access::{
    SingleRegisterAccess, SingleRegisterAccessOps,
};
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind as Wanted,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::registers::{Form, Layout, Processor, Refused};
use crate::control::Control;
use crate::inspect::Memory;
use crate::machine::{Machine, VmError};

/// Points a session can set: bounds what a peer can claim.
const MOST_POINTS: usize = 1024;
/// Bytes of the longest watchpoint.
const LONGEST_WATCH: u64 = 1 << 20;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetGone {
    /// The machine's run is over.
    #[error("the machine's run is over")]
    Over,
    /// The engine failed.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// The forms there are, as indices of [`Form::NAMES`].
pub(super) struct Chosen(AtomicU8);

impl Chosen {
    pub(super) fn new(form: Form) -> Self {
        Self(AtomicU8::new(Self::index(form)))
    }

    fn index(form: Form) -> u8 {
        let at = Form::NAMES.iter().position(|(_, known)| *known == form);
        at.unwrap_or(0) as u8
    }

    pub(super) fn get(&self) -> Form {
        Form::NAMES[usize::from(self.0.load(Ordering::Relaxed))].1
    }

    fn set(&self, form: Form) {
        self.0.store(Self::index(form), Ordering::Relaxed);
    }
}

/// One session's view of the machine.
pub(super) struct Guest<'a> {
    control: Control,
    layout: Layout,
    description: String,
    points: DebugPoints,
    /// The form of the next session.
    next_form: &'a Chosen,
}

impl<'a> Guest<'a> {
    pub(super) fn new(control: Control, form: &'a Chosen) -> Self {
        let layout = Layout::new(form.get());
        Self {
            control,
            description: layout.description(),
            layout,
            points: DebugPoints::default(),
            next_form: form,
        }
    }

    /// Runs `question` on the machine's thread.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> Result<R, TargetGone> {
        self.control.ask(question).ok_or(TargetGone::Over)
    }

    fn processor(&self) -> Result<Processor, TargetGone> {
        Ok(self.ask(processor)??)
    }

    /// Changes the processor; false, and nothing is changed, if `change` refuses.
    fn change(
        &self,
        change: impl FnOnce(&mut Processor, &Memory) -> Result<(), Refused>,
    ) -> TargetResult<(), Self> {
        let before = self.processor().map_err(TargetError::Fatal)?;
        let state = before.state.clone();
        let memory = move |machine: &mut Machine| Memory::new(machine.board().map(), &state);
        let memory = self.ask(memory).map_err(TargetError::Fatal)?;
        let mut after = before.clone();
        change(&mut after, &memory).map_err(|Refused| TargetError::NonFatal)?;
        if after == before {
            return Ok(());
        }
        let set = move |machine: &mut Machine| {
            if after.cr8 != before.cr8 {
                machine.board().chips().set_tpr(0, after.cr8);
            }
            machine.set_state(&after.state)
        };
        let done = self.ask(set).map_err(TargetError::Fatal)?;
        done.map_err(|error| TargetError::Fatal(error.into()))
    }

    fn go_on(&self, step: bool) -> Result<(), TargetGone> {
        let points = DebugPoints {
            step,
            ..self.points.clone()
        };
        self.ask(move |machine| {
            machine.set_debug(&points)?;
            machine.resume();
            Ok(())
        })?
    }

    /// Changes the points; false if the engine cannot watch for them.
    fn set_points(&mut self, change: impl FnOnce(&mut DebugPoints)) -> TargetResult<bool, Self> {
        let mut points = self.points.clone();
        change(&mut points);
        if points.breakpoints.len() + points.watchpoints.len() > MOST_POINTS {
            return Ok(false);
        }
        let wanted = points.clone();
        let set = self.ask(move |machine| machine.set_debug(&wanted));
        match set.map_err(TargetError::Fatal)? {
            Ok(()) => {
                self.points = points;
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(target: "gdb", "{error}");
                Ok(false)
            }
        }
    }

    fn add_breakpoint(&mut self, address: u64) -> TargetResult<bool, Self> {
        self.set_points(|points| points.breakpoints.push(address))
    }

    fn remove_breakpoint(&mut self, address: u64) -> TargetResult<bool, Self> {
        let Some(at) = self.points.breakpoints.iter().position(|b| *b == address) else {
            return Ok(false);
        };
        self.set_points(|points| {
            points.breakpoints.swap_remove(at);
        })
    }
}

fn processor(machine: &mut Machine) -> Result<Processor, VmError> {
    Ok(Processor {
        state: machine.state()?,
        cr8: machine.board().chips().tpr(0),
    })
}

/// The architecture, whose registers are bytes here: [`Layout`] knows what they are.
pub(super) enum X86 {}

/// Bytes of all registers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bytes(Vec<u8>);

/// A register's number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(usize);

impl arch::Arch for X86 {
    type Usize = u64;
    type Registers = Bytes;
    type BreakpointKind = usize;
    type RegId = Number;
}

impl arch::RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<std::num::NonZeroUsize>)> {
        Some((Self(id), None))
    }
}

impl arch::Registers for Bytes {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        // Only used to patch code, which this target does not want.
        0
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

impl Target for Guest<'_> {
    type Arch = X86;
    type Error = TargetGone;

    fn base_ops(&mut self) -> BaseOps<'_, X86, TargetGone> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Guest<'_> {
    fn read_registers(&mut self, registers: &mut Bytes) -> TargetResult<(), Self> {
        let processor = self.processor().map_err(TargetError::Fatal)?;
        registers.0 = self.layout.read_all(&processor);
        Ok(())
    }

    fn write_registers(&mut self, registers: &Bytes) -> TargetResult<(), Self> {
        self.change(|processor, memory| self.layout.write_all(processor, memory, &registers.0))
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, (), Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let len = data.len();
        let read = move |machine: &mut Machine| {
            let mut bytes = vec![0; len];
            let memory = memory(machine)?;
            let done = memory.read(address, &mut bytes);
            bytes.truncate(done);
            Ok::<_, VmError>(bytes)
        };
        let bytes = self.ask(read).map_err(TargetError::Fatal)?;
        let bytes = bytes.map_err(|error| TargetError::Fatal(error.into()))?;
        if bytes.is_empty() && len != 0 {
            return Err(TargetError::NonFatal);
        }
        data[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_addrs(&mut self, address: u64, data: &[u8]) -> TargetResult<(), Self> {
        let data = data.to_vec();
        let write = move |machine: &mut Machine| {
            let done = memory(machine)?.write(address, &data);
            Ok::<_, VmError>(done == data.len())
        };
        let whole = self.ask(write).map_err(TargetError::Fatal)?;
        match whole.map_err(|error| TargetError::Fatal(error.into()))? {
            true => Ok(()),
            false => Err(TargetError::NonFatal),
        }
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

/// Memory as the processor sees it now.
fn memory(machine: &mut Machine) -> Result<Memory, VmError> {
    let state = machine.state()?;
    Ok(Memory::new(machine.board().map(), &state))
}

impl SingleRegisterAccess<()> for Guest<'_> {
    fn read_register(
        &mut self,
        (): (),
        Number(number): Number,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let processor = self.processor().map_err(TargetError::Fatal)?;
        let bytes = self.layout.read(&processor, number);
        let bytes = bytes.ok_or(TargetError::NonFatal)?;
        let into = buffer.get_mut(..bytes.len()).ok_or(TargetError::NonFatal)?;
        into.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(
        &mut self,
        (): (),
        Number(number): Number,
        value: &[u8],
    ) -> TargetResult<(), Self> {
        self.change(|processor, memory| self.layout.write(processor, memory, number, value))
    }
}

impl SingleThreadResume for Guest<'_> {
    /// Signals are a matter of programs under an operating system: there is none.
    fn resume(&mut self, _signal: Option<Signal>) -> Result<(), TargetGone> {
        self.go_on(false)
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Guest<'_> {
    fn step(&mut self, _signal: Option<Signal>) -> Result<(), TargetGone> {
        self.go_on(true)
    }
}

impl Breakpoints for Guest<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(address)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(address)
    }
}

impl HwBreakpoint for Guest<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.add_breakpoint(address)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.remove_breakpoint(address)
    }
}

fn watchpoint(address: u64, len: u64, kind: Wanted) -> Watchpoint {
    let kind = match kind {
        Wanted::Write => WatchKind::Write,
        Wanted::Read => WatchKind::Read,
        Wanted::ReadWrite => WatchKind::Access,
    };
    Watchpoint { address, len, kind }
}

impl HwWatchpoint for Guest<'_> {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: Wanted,
    ) -> TargetResult<bool, Self> {
        if len == 0 || len > LONGEST_WATCH {
            return Ok(false);
        }
        let new = watchpoint(address, len, kind);
        self.set_points(|points| points.watchpoints.push(new))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        kind: Wanted,
    ) -> TargetResult<bool, Self> {
        let old = watchpoint(address, len, kind);
        let Some(at) = self.points.watchpoints.iter().position(|w| *w == old) else {
            return Ok(false);
        };
        self.set_points(|points| {
            points.watchpoints.swap_remove(at);
        })
    }
}

impl TargetDescriptionXmlOverride for Guest<'_> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let whole = self.description.as_bytes();
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(whole.len());
        let len = length.min(buffer.len()).min(whole.len() - from);
        buffer[..len].copy_from_slice(&whole[from..from + len]);
        Ok(len)
    }
}

impl MonitorCmd for Guest<'_> {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), TargetGone> {
        let command = String::from_utf8_lossy(command);
        let words: Vec<&str> = command.split_whitespace().collect();
        let text = match words[..] {
            ["form", name] if Form::by_name(name).is_some() => {
                if let Some(form) = Form::by_name(name) {
                    self.next_form.set(form);
                }
                format!("the next connection shows the processor as {name}\n")
            }
            _ => {
                let now = Form::NAMES.iter().find(|(_, f)| *f == self.layout.form());
                format!(
                    "monitor commands are not passed on to the monitor (-monitor has it).\n\
                     monitor form i8086|i386|x86-64: how the next connection shows the processor; \
                     now {}\n",
                    now.map_or("", |(name, _)| name)
                )
            }
        };
        out.write_raw(text.as_bytes());
        Ok(())
    }
}
