//! Signal handlers, signal stack and watchdog of the thread that runs cases.
// UNSAFETY: system calls that take addresses.
#![expect(unsafe_code, reason = "see UNSAFETY")]

use super::mapping::Mapping;
use super::signal::{ACTIVE, Exchange, SIGNALS, WATCHDOG, on_signal};
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

/// Nanoseconds between two ticks of the watchdog.
const TICK: i64 = 5_000_000;

/// While it lives, exceptions of this thread are those of cases.
pub struct Handlers {
    old: Vec<(i32, libc::sigaction)>,
    old_stack: libc::stack_t,
    timer: libc::timer_t,
}

impl Handlers {
    /// Installs everything; `exchange` outlives the result.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn install(exchange: *mut Exchange, stack: &Mapping) -> io::Result<Self> {
        // SAFETY: zeroes are valid in all these structures of C; every pointer given is to one of
        // them, and the signal stack lives as long as the oracle.
        unsafe {
            let new = libc::stack_t {
                ss_sp: stack.start().as_ptr().cast(),
                ss_flags: 0,
                ss_size: stack.len(),
            };
            let mut old_stack = zeroed();
            check(libc::sigaltstack(&raw const new, &raw mut old_stack))?;
            let mut event: libc::sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = WATCHDOG;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = zeroed();
            check(libc::timer_create(
                libc::CLOCK_MONOTONIC,
                &raw mut event,
                &raw mut timer,
            ))?;
            ACTIVE.store(exchange, Ordering::SeqCst);
            let mut old = Vec::new();
            for signal in SIGNALS {
                let mut action: libc::sigaction = zeroed();
                let handler: extern "C" fn(_, _, _) = on_signal;
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
                libc::sigfillset(&raw mut action.sa_mask);
                let mut before = zeroed();
                check(libc::sigaction(signal, &raw const action, &raw mut before))?;
                old.push((signal, before));
            }
            let tick = libc::timespec {
                tv_sec: 0,
                tv_nsec: TICK,
            };
            let period = libc::itimerspec {
                it_interval: tick,
                it_value: tick,
            };
            check(libc::timer_settime(timer, 0, &raw const period, null_mut()))?;
            Ok(Self {
                old,
                old_stack,
                timer,
            })
        }
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        // SAFETY: gives back what `install` was given by the same calls.
        unsafe {
            libc::timer_delete(self.timer);
            for (signal, action) in &self.old {
                libc::sigaction(*signal, action, null_mut());
            }
            libc::sigaltstack(&raw const self.old_stack, null_mut());
        }
        ACTIVE.store(null_mut(), Ordering::SeqCst);
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether user code may run RDFSBASE and WRFSBASE (`HWCAP2_FSGSBASE`).
pub fn fsgsbase() -> bool {
    // SAFETY: plain look-up.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & 2 != 0 }
}

/// Keeps pages in memory, so that no fault is the kernel's own. Best effort: on a machine that
/// swaps nothing it makes no difference.
pub fn keep_present(page: &Mapping) {
    // SAFETY: the range is a mapping of ours.
    unsafe { libc::mlock(page.start().as_ptr().cast(), page.len()) };
}

/// Whether the processor is one whose undefined flags were measured: an AMD EPYC of family 1Ah.
pub fn family_1ah() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let signature = std::arch::x86_64::__cpuid(1).eax;
    let family = (signature >> 8 & 0xF) + (signature >> 20 & 0xFF);
    vendor.ebx == u32::from_le_bytes(*b"Auth") && family == 0x1A
}
