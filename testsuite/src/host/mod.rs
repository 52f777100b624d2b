//! The host's own processor as an oracle for unprivileged code.
//!
//! [`Session::run`] executes a case in this process and returns all that can be seen afterwards.
//! One session is open at a time in a process; [`session`] waits for its turn.
//!
//! Needs 64-bit x86 Linux with FSGSBASE enabled (5.9 or later). What the kernel does not show or
//! changes, and cases must therefore live with:
//! - INT 80h, SYSCALL, SYSENTER and the UMIP group (SGDT, SIDT, SLDT, STR, SMSW) reach the kernel;
//! - page faults on kernel addresses are always reported as protection violations: here they are
//!   made what they would be in a system that has nothing there.

mod fx;
mod mapping;
mod session;
mod signal;

pub use mapping::Mapping;

use crate::layout::{Access, BACKING, PAGE, PAGES};
use crate::run::{Input, Outcome, Stop};
use crate::window::Window;
use emu::Exception;
use emu::arch::RFlags;
use fx::Fx;
use signal::{Exchange, Gregs, Phase};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Why there is no oracle.
#[derive(Debug)]
pub enum HostError {
    /// The kernel refused memory or signals.
    Io(io::Error),
    /// User code may not set FS and GS bases.
    NoFsgsbase,
}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "host oracle: {error}"),
            Self::NoFsgsbase => f.write_str("host oracle: FSGSBASE is not enabled"),
        }
    }
}

impl std::error::Error for HostError {}

impl From<io::Error> for HostError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Length of the signal stack: a frame with AVX-512 takes under 4 KiB.
const STACK: usize = 64 << 10;

/// The pages of the cases, mapped at their addresses.
struct Oracle {
    /// A second view of the same memory, writable throughout.
    view: Mapping,
    window: Window,
    stack: Mapping,
    exchange: Box<Exchange>,
    _pages: Vec<Mapping>,
}

impl Oracle {
    fn new() -> Result<Self, HostError> {
        if !session::fsgsbase() {
            return Err(HostError::NoFsgsbase);
        }
        let file = mapping::memory_file(BACKING)?;
        let mut view = Mapping::of_file(file.as_raw_fd(), BACKING)?;
        let window = Window::new(&mut view, 0);
        let mut pages = Vec::new();
        for (index, (at, access)) in PAGES.into_iter().enumerate() {
            let offset = index * PAGE as usize;
            let page = Mapping::fixed_page(at, file.as_raw_fd(), offset, protection(access))?;
            session::keep_present(&page);
            pages.push(page);
        }
        let stack = Mapping::anonymous(STACK)?;
        let range = (stack.start().as_ptr().addr(), stack.len());
        Ok(Self {
            view,
            window,
            stack,
            exchange: Box::new(Exchange::new(range)),
            _pages: pages,
        })
    }
}

fn protection(access: Access) -> i32 {
    let mut bits = libc::PROT_READ;
    if access.writable() {
        bits |= libc::PROT_WRITE;
    }
    if access.executable() {
        bits |= libc::PROT_EXEC;
    }
    bits
}

/// The right to run cases on the host's processor.
pub struct Session {
    // Before the lock: handlers go while the exchange is still ours.
    _handlers: session::Handlers,
    oracle: MutexGuard<'static, Oracle>,
}

/// Opens the session of this process, when no other thread has it.
///
/// # Errors
/// If the host cannot serve as an oracle.
pub fn session() -> Result<Session, HostError> {
    static ORACLE: OnceLock<Result<Mutex<Oracle>, String>> = OnceLock::new();
    let oracle = ORACLE.get_or_init(|| Oracle::new().map(Mutex::new).map_err(|e| e.to_string()));
    let oracle = oracle.as_ref().map_err(|e| io::Error::other(e.clone()))?;
    let mut oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    let exchange = &raw mut *oracle.exchange;
    let handlers = session::Handlers::install(exchange, &oracle.stack)?;
    Ok(Session {
        _handlers: handlers,
        oracle,
    })
}

/// Where each general-purpose register, in encoding order, stands in a frame.
const FRAME_ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl Session {
    /// Whether what the processor does where manuals say "undefined" is known, and ours too.
    pub fn known(&self) -> bool {
        session::family_1ah()
    }

    /// Runs a case.
    pub fn run(&mut self, input: &Input) -> Outcome {
        let Oracle {
            view,
            window,
            exchange,
            ..
        } = &mut *self.oracle;
        window.prepare(view, input);
        load(exchange, input);
        signal::enter();
        let memory = window.finish(view);
        outcome(exchange, memory)
    }
}

fn load(exchange: &mut Exchange, input: &Input) {
    let gregs = &mut exchange.gregs;
    for (i, at) in FRAME_ORDER.into_iter().enumerate() {
        gregs[at as usize] = input.gpr[i].cast_signed();
    }
    gregs[libc::REG_RIP as usize] = input.at.cast_signed();
    gregs[libc::REG_EFL as usize] = input.start_flags().bits().cast_signed();
    let [es, cs, ss, ds, ..] = input.mode.selectors();
    gregs[libc::REG_CSGSFS as usize] = i64::from(cs) | i64::from(ss) << 48;
    exchange.selectors = [es, ds, 0, 0];
    exchange.bases = input.bases;
    exchange.fx = input.fpu.as_ref().map_or_else(Fx::initial, |f| Fx::of(f));
    exchange.ticks = 0;
    exchange.hung = false;
    exchange.phase = Phase::Enter;
}

fn outcome(exchange: &Exchange, memory: Vec<(u64, u64)>) -> Outcome {
    let greg = |at: i32| exchange.gregs[at as usize].cast_unsigned();
    let csgsfs = greg(libc::REG_CSGSFS);
    let [es, ds, fs, gs] = exchange.selectors;
    Outcome {
        stop: if exchange.hung {
            Stop::Hang
        } else {
            Stop::Exception(exception(&exchange.gregs))
        },
        gpr: FRAME_ORDER.map(greg),
        rip: greg(libc::REG_RIP),
        rflags: RFlags::from_bits_retain(greg(libc::REG_EFL)),
        selectors: [es, csgsfs as u16, (csgsfs >> 48) as u16, ds, fs, gs],
        bases: exchange.bases,
        memory,
        fpu: Box::new(exchange.fx.fpu()),
    }
}

/// First address that Linux never gives to a process (`TASK_SIZE_MAX`).
const TASK_SIZE: u64 = 0x7FFF_FFFF_F000;

/// The exception that made the signal.
fn exception(gregs: &Gregs) -> Exception {
    use emu::arch::exception::{AC, DF, GP, NP, PF, SS, TS};
    let vector = gregs[libc::REG_TRAPNO as usize] as u8;
    let code = gregs[libc::REG_ERR as usize] as u32;
    match vector {
        PF => {
            let linear = gregs[libc::REG_CR2 as usize].cast_unsigned();
            let present = u32::from(linear >= TASK_SIZE);
            Exception::page_fault(linear, code & !present)
        }
        DF | TS | NP | SS | GP | AC => Exception::with_code(vector, code),
        _ => Exception::new(vector),
    }
}
