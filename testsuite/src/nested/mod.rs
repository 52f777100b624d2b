//! A whole KVM where the processor has none: an outer machine in QEMU, whose software CPU emulates
//! AMD SVM with nested paging; in it Debian's cloud kernel with kvm-amd, a shell, and the program.
//!
//! The outer machine boots once, in about three seconds, and serves one test after the other by its
//! serial console. A test that fails has it booted anew for the next one, so that one which brings
//! it down takes nothing with it.
//!
//! What QEMU 7.2's software CPU cannot do, whatever KVM does:
//! - an exit from virtual-8086 mode in the inner guest resets the outer machine;
//! - it checks no segment limits, and calls the write of a read-modify-write a read;
//! - it sets the accessed bit in PAE's page directory pointers, after which KVM refuses them: i386
//!   kernels with PAE end at their first write of CR4, in `qemu-system-x86_64 -accel kvm` too;
//! - at VMRUN it does not take up the interrupt shadow: after an exit between STI and HLT an interrupt
//!   comes before HLT;
//! - a fault in delivering an exception that KVM injects (again) starts no #DF;
//! - an inner stack from a 32-bit TSS that KVM has loaded as busy, which it is, aborts QEMU;
//! - breakpoints and watchpoints by `KVM_SET_GUEST_DEBUG` stop nothing.

mod archive;
mod outer;
mod programs;

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::boot::{Emulator, Guests, Machine, PROMPT, Running};
use crate::skip::skip;
use outer::Outer;
pub use programs::GUESTS;

/// How a failure begins that is the outer machine's end.
pub const RESET: &str = "the outer machine has been reset";
/// Far more than its shell takes for a line.
const SOON: Duration = Duration::from_secs(20);

/// Stands before what a machine says.
const BEGIN: &str = "machine-42\n";

/// What [`Nested::with`] adds.
static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
/// The one outer machine; none before the first test and after one that failed.
static OUTER: Mutex<Option<Outer>> = Mutex::new(None);

/// The outer machine, for one test: its console, with a shell that waits.
#[derive(Debug)]
pub struct Nested {
    outer: MutexGuard<'static, Option<Outer>>,
    guests: Arc<Guests>,
}

impl Nested {
    /// Waits for the machine; `None`, and a skip, where there is no way to have one.
    ///
    /// # Panics
    /// If it does not boot.
    pub fn get() -> Option<Self> {
        match needs() {
            Ok(()) => {}
            Err(reason) => {
                skip("nested", &reason);
                return None;
            }
        }
        let mut outer = OUTER.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = Arc::new(Guests::alone()?);
        if !outer.as_mut().is_some_and(Outer::is_up) {
            // The old one goes first: one at a time.
            *outer = None;
            *outer = Some(Outer::boot(&guests, initramfs(&guests)));
        }
        Some(Self { outer, guests })
    }

    /// As [`Nested::get`], with further files of this side under the paths they have here, and the
    /// libraries of those that are programs. It is asked for before any other.
    ///
    /// # Panics
    /// As `get`.
    pub fn with(files: &[PathBuf]) -> Option<Self> {
        FILES.get_or_init(|| files.to_vec());
        Self::get()
    }

    /// The guests on this side.
    pub fn guests(&self) -> Arc<Guests> {
        Arc::clone(&self.guests)
    }

    /// Has the shell run a machine on KVM; what comes then is the machine's console.
    ///
    /// # Panics
    /// If the shell does not.
    pub fn start(&mut self, machine: &Machine<'_>) {
        self.start_on("kvm", machine);
    }

    /// The same, on any engine.
    ///
    /// # Panics
    /// As `start`.
    pub fn start_on(&mut self, accel: &'static str, machine: &Machine<'_>) {
        let line = machine.clone().accel(accel).line(GUESTS);
        // The arithmetic keeps the word out of the echo.
        self.paste(format!("echo machine-$((6*7)); {line}; ended=$?\n").as_bytes());
        self.wait_for(BEGIN, SOON);
    }

    /// What the machine that was started last has said.
    pub fn said(&self) -> String {
        let log = self.log();
        let said = log.rsplit_once(BEGIN).map(|(_, said)| said.to_owned());
        said.unwrap_or_default()
    }

    /// Waits until it has ended: its status.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn ended(&mut self, time: Duration) -> u8 {
        self.wait_for(PROMPT, time);
        self.command("(exit $ended)", SOON).status
    }
}

impl Deref for Nested {
    type Target = Running;

    fn deref(&self) -> &Running {
        self.outer.as_ref().expect("booted by `get`").console()
    }
}

impl DerefMut for Nested {
    fn deref_mut(&mut self) -> &mut Running {
        self.outer.as_mut().expect("booted by `get`").console_mut()
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        // Nobody knows what a test that failed has left.
        if thread::panicking() {
            *self.outer = None;
        }
    }
}

/// Whether there is all that an outer machine is made of.
fn needs() -> Result<(), String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err("the programs are not for the outer machine's processor".to_owned());
    }
    Emulator::reference()?;
    let file = crate::boot::folder().join("initrd.kvm.gz");
    if !file.is_file() {
        let file = file.display();
        return Err(format!("no {file}: run testsuite/guests/fetch"));
    }
    Ok(())
}

/// The outer machine's first file system, made once.
fn initramfs(guests: &Guests) -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let files = FILES.get_or_init(Vec::new);
        programs::initramfs(&guests.file(""), files).unwrap_or_else(|e| panic!("{e}"))
    })
}
