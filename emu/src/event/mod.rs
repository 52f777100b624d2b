//! Exceptions and interrupts: what is delivered, double and triple faults. The gates are in
//! `gates.rs`, task switches in `task.rs`, INIT and SIPI in `reset.rs`.
//! SDM Vol. 3A, "Interrupt and Exception Handling".

mod gates;
mod real;
mod reset;
pub(crate) mod task;

use crate::arch::exception::{AC, DB, DE, DF, GP, MF, NMI, NP, PF, SS, TS, XM};
use crate::arch::{Exception, RFlags};
use crate::cpu::{Cause, Cpu, RIP, Raised};
use crate::debug::{DR6_BT, DR7_GD};
use crate::state::{Activity, Queued, Shadow};

/// What was delivered, for the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// An exception.
    Exception(Exception),
    /// A maskable interrupt.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INT n, INT3, INTO, INT1.
    Software(u8),
}

/// One attempt to enter a handler.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub vector: u8,
    pub error_code: Option<u32>,
    /// INT n, INT3 or INTO: the gate's DPL is checked.
    pub checked: bool,
    /// Not caused by an instruction's own will: error codes of faults in delivery carry EXT.
    pub external: bool,
    /// The RIP to push.
    pub return_rip: u64,
    /// The RFLAGS to push.
    pub image: RFlags,
    told: Delivered,
}

/// Classes of events. SDM Vol. 3A, "Interrupt 8 - Double Fault Exception (#DF)".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

/// Bit 0 of an error code: an event external to the program.
const EXT: u32 = 1;
/// Faults in delivery that may follow one another before the processor gives up. Only benign ones
/// can go on for ever (#AC on every push for its own handler): real processors hang there.
const MOST_NESTED: usize = 8;

fn class(vector: u8) -> Class {
    match vector {
        DE | TS | NP | SS | GP => Class::Contributory,
        PF => Class::PageFault,
        DF => Class::DoubleFault,
        _ => Class::Benign,
    }
}

/// What a fault during the delivery of another event becomes; `None` is shutdown.
fn combine(first: Class, second: Exception) -> Option<Exception> {
    match (first, class(second.vector)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault) => None,
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => {
            Some(Exception::with_code(DF, 0))
        }
        _ => Some(second),
    }
}

/// Whether the exception is a fault, which pushes RF set. #DB is not among them: an instruction
/// breakpoint's handler sets RF itself. SDM Vol. 3B, "Instruction-Breakpoint Exception Condition".
fn is_fault(vector: u8) -> bool {
    matches!(vector, DE | 5..=7 | TS..=PF | MF | AC | XM)
}

impl Event {
    /// An exception raised at RIP.
    fn exception(cpu: &Cpu, exception: Exception) -> Self {
        let mut event = Self::hardware(cpu, exception.vector, Delivered::Exception(exception));
        event.error_code = exception.error_code;
        if is_fault(exception.vector) {
            event.image |= RFlags::RF;
        }
        event
    }

    fn hardware(cpu: &Cpu, vector: u8, told: Delivered) -> Self {
        Self {
            vector,
            error_code: None,
            checked: false,
            external: true,
            return_rip: cpu.regs[RIP],
            image: cpu.rflags(),
            told,
        }
    }

    /// INT n, INT3, INTO and INT1, which come back to `return_rip`.
    pub(crate) fn software(cpu: &Cpu, vector: u8, return_rip: u64) -> Self {
        Self {
            vector,
            error_code: None,
            checked: true,
            external: false,
            return_rip,
            image: cpu.rflags() - RFlags::RF,
            told: Delivered::Software(vector),
        }
    }

    /// As INT1 does it: like an interrupt from outside.
    pub(crate) fn privileged(self) -> Self {
        Self {
            checked: false,
            external: true,
            ..self
        }
    }
}

impl Cpu {
    /// Delivers a fault or trap; what goes wrong in delivery becomes #DF or shutdown.
    pub(crate) fn take_exception(&mut self, exception: Exception) {
        self.note(exception);
        self.take(Event::exception(self, exception), class(exception.vector));
    }

    /// Delivers a maskable interrupt.
    pub(crate) fn take_interrupt(&mut self, vector: u8) {
        let event = Event::hardware(self, vector, Delivered::Interrupt(vector));
        self.take(event, Class::Benign);
    }

    /// Delivers a non-maskable interrupt.
    pub(crate) fn take_nmi(&mut self) {
        self.nmi_masked = true;
        let event = Event::hardware(self, NMI, Delivered::Nmi);
        self.take(event, Class::Benign);
    }

    /// Delivers what another engine had accepted. What it left behind, as CR2, is in place already.
    pub(crate) fn take_queued(&mut self, queued: Queued) {
        match queued {
            Queued::Interrupt(vector) => self.take_interrupt(vector),
            Queued::Nmi => self.take_nmi(),
            Queued::Exception { vector, error_code } => self.take_exception(Exception {
                vector,
                error_code,
                cr2: None,
            }),
        }
    }

    /// Delivers a software interrupt of the instruction being run; its faults are the
    /// instruction's. There is no single-step trap behind it: the handler runs with TF clear.
    pub(crate) fn take_software(&mut self, event: &Event) -> Result<(), Raised> {
        self.deliver(event)?;
        self.single_step = false;
        self.delivered = Some(event.told);
        self.recheck_events();
        Ok(())
    }

    /// What an exception leaves behind before its handler is looked for.
    fn note(&mut self, exception: Exception) {
        if let Some(cr2) = exception.cr2 {
            self.cr2 = cr2;
        }
        if exception.vector == DB {
            self.dr7 &= !DR7_GD;
        }
    }

    fn take(&mut self, event: Event, class: Class) {
        let alone = std::mem::replace(&mut self.alone, true);
        self.shadow = Shadow::None;
        self.settle(event, class);
        // A task switch into a TSS with T set traps before the handler's first instruction. Data
        // breakpoints on the processor's own pushes are not reported.
        if std::mem::take(&mut self.debug_hits) & DR6_BT != 0 {
            self.dr6 |= DR6_BT;
            self.note(Exception::new(DB));
            let trap = Event::exception(self, Exception::new(DB));
            self.settle(trap, Class::Benign);
            self.debug_hits = 0;
        }
        // The loop ends no instruction behind a delivery, so nothing is left to keep RF from.
        self.keep_resume_flag = false;
        self.alone = alone;
    }

    /// Enters the handler of `event`, or of what comes of it.
    fn settle(&mut self, mut event: Event, mut first: Class) {
        for _ in 0..MOST_NESTED {
            if self.deliver(&event).is_ok() {
                self.delivered = Some(event.told);
                return;
            }
            let Cause::Fault(second) = self.cause else {
                break;
            };
            self.note(second);
            let Some(next) = combine(first, second) else {
                break;
            };
            first = class(next.vector);
            event = Event::exception(self, next);
        }
        self.activity = Activity::Shutdown;
        self.recheck_events();
    }

    /// One attempt at delivery. On `Err` nothing has changed, but for a task switch that failed
    /// behind its point of no return.
    fn deliver(&mut self, event: &Event) -> Result<(), Raised> {
        let result = if !self.protected() {
            self.deliver_real(event)
        } else {
            self.deliver_gate(event)
        };
        if result.is_err()
            && event.external
            && let Cause::Fault(fault) = &mut self.cause
            && matches!(fault.vector, TS | NP | SS | GP)
        {
            fault.error_code = fault.error_code.map(|code| code | EXT);
        }
        result
    }
}

#[cfg(test)]
mod tests;
