//! How another thread makes a vCPU look up.
//!
//! A kicker leaves a request, sets `kvm_run.immediate_exit` and, if the vCPU's thread is inside
//! `KVM_RUN`, sends it a signal. None of it can be lost: the vCPU clears `immediate_exit`, says
//! that it is about to enter, and looks at the requests, in this order; a request it does not see
//! there was left before `immediate_exit` was set again, which the kernel reads at entry, and
//! before the kicker looked for a thread, which it then finds.

// UNSAFETY: `immediate_exit` is written while the vCPU's own thread may be in the kernel, so this
// module maps the page a second time and touches that one byte of it atomically; signals are
// raw system calls.
#![expect(unsafe_code, reason = "a shared kernel page, and signals")]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

use crate::{AccelError, Kick};

/// The signal that gets a thread out of `KVM_RUN`, counted from `SIGRTMIN`. Nothing happens in
/// its handler.
const SIGNAL: i32 = 6;
/// Something may be deliverable.
const LOOK: u8 = 1;
/// `run` is to return.
const RETURN: u8 = 2;

/// The vCPU's shared page, mapped a second time.
#[derive(Debug)]
struct Page(NonNull<kvm_run>);

// SAFETY: the page is only touched through `immediate_exit`, one atomic byte.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn new(vcpu: &VcpuFd) -> Result<Self, AccelError> {
        // SAFETY: a new mapping of the vCPU's file, whose first page is `kvm_run`; no address is
        // asked for, so nothing is mapped over.
        let page = unsafe {
            libc::mmap(
                null_mut(),
                size_of::<kvm_run>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(Self(page.cast())),
            _ => Err(AccelError::Host {
                call: "mmap of kvm_run",
                source: io::Error::last_os_error(),
            }),
        }
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the mapping lives as long as `self`; the byte is aligned, and through this
        // mapping it is only ever touched atomically. The kernel reads it as one byte.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.0.as_ptr()).immediate_exit) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can hold a reference into it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<kvm_run>()) };
    }
}

/// Makes one vCPU look up.
#[derive(Debug)]
pub(super) struct Kicker {
    page: Page,
    requests: AtomicU8,
    /// The thread that is inside `KVM_RUN` or about to enter it, else 0.
    inside: AtomicI32,
}

impl Kicker {
    pub(super) fn new(vcpu: &VcpuFd) -> Result<Self, AccelError> {
        Ok(Self {
            page: Page::new(vcpu)?,
            requests: AtomicU8::new(0),
            inside: AtomicI32::new(0),
        })
    }

    /// Says that this thread is about to enter `KVM_RUN`, unless a request waits: then `false`.
    pub(super) fn enter(&self, thread: i32) -> bool {
        self.page.immediate_exit().store(0, Ordering::SeqCst);
        self.inside.store(thread, Ordering::SeqCst);
        let free = self.requests.load(Ordering::SeqCst) == 0;
        if !free {
            self.leave();
        }
        free
    }

    /// Says that the thread has left `KVM_RUN`.
    pub(super) fn leave(&self) {
        self.inside.store(0, Ordering::SeqCst);
    }

    /// Makes the next `KVM_RUN` complete a pending exit and return at once.
    pub(super) fn only_complete(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
    }

    /// Takes the requests: (look at what is pending, return from `run`).
    pub(super) fn take(&self) -> (bool, bool) {
        let requests = self.requests.swap(0, Ordering::SeqCst);
        (requests & LOOK != 0, requests & RETURN != 0)
    }

    fn request(&self, what: u8) {
        self.requests.fetch_or(what, Ordering::SeqCst);
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.inside.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: plain numbers; the handler does nothing. A thread that has left the kernel
            // meanwhile takes the signal for nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) };
        }
    }
}

impl Kick for Kicker {
    fn signal(&self) {
        self.request(LOOK);
    }

    fn kick(&self) {
        self.request(RETURN);
    }
}

/// The signal's number.
fn signal() -> i32 {
    libc::SIGRTMIN() + SIGNAL
}

extern "C" fn ignore(_: libc::c_int) {}

/// Gives the signal its empty handler, process-wide. System calls other than `KVM_RUN` restart.
pub(super) fn install_handler() -> Result<(), AccelError> {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is whole, and its handler touches nothing.
    if unsafe { libc::sigaction(signal(), &raw const action, null_mut()) } != 0 {
        return Err(AccelError::Host {
            call: "sigaction",
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}

/// Readies the calling thread for the signal and returns its number.
pub(super) fn this_thread() -> i32 {
    // SAFETY: an all-zero set is made an empty one, gets one member, and is only read after that.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, null_mut());
        libc::gettid()
    }
}
