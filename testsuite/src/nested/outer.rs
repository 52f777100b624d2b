//! The outer machine itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{RESET, SOON};
use crate::boot::{Emulator, Guests, PROMPT, Running};

/// Far more than its boot takes.
const BOOT: Duration = Duration::from_secs(120);
/// A processor with SVM, nested paging and the address of the next instruction, as kvm-amd wants;
/// QEMU warns about what else that model would have.
const CPU: &str = "EPYC-v1,+svm,+npt,+nrip-save,check=off";
/// No word of the kernel but its last; its mitigations cost time; the clock it cannot measure well
/// under load is taken as it is told. `panic=-1` resets, which ends QEMU.
const APPEND: &str = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable \
                      no_timer_check nokaslr";

/// The outer machine, up; killed when dropped.
#[derive(Debug)]
pub(super) struct Outer {
    console: Running,
    keeper: Child,
}

impl Outer {
    /// Boots it to its shell.
    ///
    /// # Panics
    /// If it does not come up, or has no `/dev/kvm`.
    pub(super) fn boot(guests: &Guests, initramfs: &Path) -> Self {
        let qemu = Emulator::reference().unwrap_or_else(|e| panic!("{e}"));
        let mut command = Command::new(qemu.program());
        command
            .args([
                "-M",
                "q35,hpet=off",
                "-accel",
                "tcg,thread=multi,tb-size=256",
            ])
            .args(["-cpu", CPU, "-m", "1024", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-append", APPEND])
            .arg("-kernel")
            .arg(guests.file("vmlinuz-cloud"))
            .arg("-initrd")
            .arg(initramfs);
        let mut console = Running::start(command);
        console.end_means(RESET);
        let keeper = keep(console.id());
        let mut outer = Self { console, keeper };
        outer.console.wait_for(PROMPT, BOOT);
        // What KVM has to say of odd guests would stand in the middle of theirs.
        outer.console.succeed("dmesg -n 1; test -c /dev/kvm", SOON);
        outer
    }

    /// Whether it still runs.
    pub(super) fn is_up(&mut self) -> bool {
        !self.console.has_ended()
    }

    pub(super) fn console(&self) -> &Running {
        &self.console
    }

    pub(super) fn console_mut(&mut self) -> &mut Running {
        &mut self.console
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A process that kills another one when this one is gone: what stands in a static is not dropped.
fn keep(id: u32) -> Child {
    let mut keeper = Command::new("sh");
    keeper
        .args(["-c", "cat >/dev/null; kill -9 \"$0\""])
        .arg(id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    keeper.spawn().expect("a shell")
}
