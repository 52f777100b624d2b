//! In and out of a case by signal frames.
//!
//! A signal frame holds everything an unprivileged program can see of the processor, and the kernel
//! loads all of it when the handler returns. So a case is entered by trapping on purpose and
//! rewriting the frame, and left by the exception that ends it, whatever registers, stack, flags or
//! code size it ran with.
// UNSAFETY: signal handlers, frames by raw pointer, segment registers and bases by `asm!`.
#![expect(unsafe_code, reason = "see UNSAFETY")]

use super::fx::Fx;
use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// General registers of a frame (`gregset_t`).
pub type Gregs = [i64; 23];

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Harness code runs: a fault is a bug of ours.
    Idle,
    /// The next trap is the entry into the case.
    Enter,
    /// The case runs.
    Running,
}

/// What the handler and the session tell each other.
#[derive(Debug)]
pub struct Exchange {
    /// Where the session stands.
    pub phase: Phase,
    /// First address and length of the signal stack: frames elsewhere belong to other threads.
    pub stack: (usize, usize),
    /// General registers of the case, in and out.
    pub gregs: Gregs,
    /// x87 and SSE of the case, in and out.
    pub fx: Fx,
    /// ES, DS, FS, GS of the case, in (ES, DS only) and out.
    pub selectors: [u16; 4],
    /// Bases of FS and GS, in and out.
    pub bases: [u64; 2],
    /// Ticks of the watchdog seen by this case.
    pub ticks: u32,
    /// The watchdog ended the case.
    pub hung: bool,
    host: Gregs,
    host_bases: [u64; 2],
}

impl Exchange {
    /// Nothing to run yet.
    pub fn new(stack: (usize, usize)) -> Self {
        Self {
            phase: Phase::Idle,
            stack,
            gregs: [0; 23],
            fx: Fx::initial(),
            selectors: [0; 4],
            bases: [0; 2],
            ticks: 0,
            hung: false,
            host: [0; 23],
            host_bases: [0; 2],
        }
    }
}

/// The exchange of the session that is open. A handler has no other way to find it.
pub static ACTIVE: AtomicPtr<Exchange> = AtomicPtr::new(std::ptr::null_mut());

/// The signal of the watchdog.
pub const WATCHDOG: c_int = libc::SIGALRM;
/// Watchdog ticks after which a case hangs.
const PATIENCE: u32 = 40;
/// Signals that exceptions become, and the watchdog's.
pub const SIGNALS: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    WATCHDOG,
];

/// Leads into the case in `ACTIVE` and returns when it has ended.
pub fn enter() {
    // SAFETY: the handler resumes after the INT3 with all registers as they were, but for vector
    // and x87 registers, which are declared clobbered.
    unsafe { asm!("int3", clobber_abi("C")) }
}

/// The handler of all [`SIGNALS`].
pub extern "C" fn on_signal(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: clears AC, NT, ID and DF, which a case may have left behind, before anything that
    // they would disturb.
    unsafe {
        asm!("pushfq", "and qword ptr [rsp], {mask}", "popfq", mask = const !0x0024_4500i32);
    }
    let exchange = ACTIVE.load(Ordering::Relaxed);
    // SAFETY: `ACTIVE` is null or names an exchange that lives until it is null again; the frame
    // is checked to be on this session's own stack before anything in it is changed.
    unsafe {
        if exchange.is_null()
            || context.addr().wrapping_sub((*exchange).stack.0) >= (*exchange).stack.1
        {
            return forward(signal);
        }
        let frame = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        serve(signal, &mut *exchange, frame);
    }
}

fn serve(signal: c_int, exchange: &mut Exchange, frame: &mut libc::mcontext_t) {
    match exchange.phase {
        Phase::Running if signal == WATCHDOG => {
            exchange.ticks += 1;
            exchange.hung = exchange.ticks > PATIENCE;
            if exchange.hung {
                leave(exchange, frame);
            }
        }
        Phase::Running => leave(exchange, frame),
        _ if signal == WATCHDOG => {}
        Phase::Enter => start(exchange, frame),
        Phase::Idle => forward(signal),
    }
}

/// Puts the case into the frame of the trap that led here.
fn start(exchange: &mut Exchange, frame: &mut libc::mcontext_t) {
    exchange.host = frame.gregs;
    exchange.phase = Phase::Running;
    frame.gregs[..=CSGSFS].copy_from_slice(&exchange.gregs[..=CSGSFS]);
    // SAFETY: the frame's x87 and SSE area is the kernel's; DS and ES take selectors of Linux's
    // flat segments or null; FS and GS bases are free for user code, and nothing from here to the
    // return uses thread-local storage.
    unsafe {
        load_fx(frame, &exchange.fx);
        let [es, ds, ..] = exchange.selectors;
        asm!("mov es, {0:x}", "mov ds, {1:x}", in(reg) es, in(reg) ds);
        exchange.host_bases = bases();
        set_bases(exchange.bases);
    }
}

/// Takes the state of the case out of the frame and puts the session's back.
fn leave(exchange: &mut Exchange, frame: &mut libc::mcontext_t) {
    // SAFETY: as in `start`; null selectors are always loadable in 64-bit code.
    unsafe {
        exchange.bases = bases();
        let (es, ds, fs, gs): (u64, u64, u64, u64);
        asm!("mov {0:r}, es", "mov {1:r}, ds", "mov {2:r}, fs", "mov {3:r}, gs",
            out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs);
        exchange.selectors = [es as u16, ds as u16, fs as u16, gs as u16];
        if exchange.selectors != [0; 4] {
            asm!("mov es, {0:x}", "mov ds, {0:x}", "mov fs, {0:x}", "mov gs, {0:x}", in(reg) 0u16);
        }
        set_bases(exchange.host_bases);
        exchange.fx = Fx(*frame.fpregs.cast::<[u8; 512]>());
        load_fx(frame, &Fx::initial());
    }
    exchange.gregs = frame.gregs;
    frame.gregs[..=CSGSFS].copy_from_slice(&exchange.host[..=CSGSFS]);
    exchange.phase = Phase::Idle;
}

/// Index of the segment selectors in a frame, the last register that a return loads.
const CSGSFS: usize = libc::REG_CSGSFS as usize;
/// Marks an extended state behind the FXSAVE image (`FP_XSTATE_MAGIC1`), in its last 48 bytes.
const XSTATE_MAGIC: u32 = 0x4650_5853;

/// Puts x87 and SSE into the frame; everything else becomes initial.
///
/// # Safety
/// `frame` is a frame of the kernel's.
unsafe fn load_fx(frame: &mut libc::mcontext_t, fx: &Fx) {
    // SAFETY: the kernel's frame has 512 bytes of FXSAVE and, when the mark is there, the header
    // of an XSAVE area behind them.
    unsafe {
        let area = frame.fpregs.cast::<u8>();
        area.copy_from_nonoverlapping(fx.0.as_ptr(), 464);
        if area.add(464).cast::<u32>().read() == XSTATE_MAGIC {
            area.add(512).cast::<u64>().write(0b11);
        }
    }
}

/// # Safety
/// The kernel lets user code run RDFSBASE.
unsafe fn bases() -> [u64; 2] {
    let (fs, gs);
    // SAFETY: only reads.
    unsafe { asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs) };
    [fs, gs]
}

/// # Safety
/// The kernel lets user code run WRFSBASE, the bases are canonical, and nothing uses thread-local
/// storage until the old ones are back.
unsafe fn set_bases([fs, gs]: [u64; 2]) {
    // SAFETY: the caller's.
    unsafe { asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs) };
}

/// A fault that is none of ours: let it happen again without a handler.
fn forward(signal: c_int) {
    if signal != WATCHDOG {
        // SAFETY: plain system call, allowed in handlers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
