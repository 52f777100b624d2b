//! Which program runs the machine, and its options.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use super::{Guests, Kernel, Running};

/// The variable that names another emulator to test, by path or by name.
pub const PROGRAM: &str = "TWIN86";
/// The reference.
const REFERENCE: &str = "qemu-system-x86_64";

/// An emulator that takes QEMU's options.
#[derive(Clone, Debug)]
pub struct Emulator {
    program: PathBuf,
}

impl Emulator {
    /// The one that is tested: `twin86` in release, whatever the tests are built as.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn under_test() -> Self {
        if let Some(program) = std::env::var_os(PROGRAM) {
            return Self {
                program: program.into(),
            };
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(build);
        Self {
            program: target().join("release/twin86"),
        }
    }

    /// QEMU.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn reference() -> Result<Self, String> {
        let program = PathBuf::from(REFERENCE);
        let mut version = Command::new(&program);
        version.arg("--version").stdout(Stdio::null());
        match version.status() {
            Ok(_) => Ok(Self { program }),
            Err(error) => Err(format!("{REFERENCE}: {error}")),
        }
    }

    /// By path, or by name.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether this is QEMU, which has no `-bios none` and raises no #XM.
    pub fn is_qemu(&self) -> bool {
        let name = self.program.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with("qemu"))
    }
}

/// The folder cargo builds in: three above this test.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test.ancestors().nth(3).expect("a target folder");
    folder.to_path_buf()
}

fn build() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "-q",
        "--release",
        "-p",
        "twin86",
        "--bin",
        "twin86",
    ]);
    cargo.env("CARGO_TARGET_DIR", target());
    let built = cargo.status().expect("cargo");
    assert!(built.success(), "twin86 builds");
}

/// The options of a machine to start.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    guests: &'a Guests,
    emulator: Emulator,
    accel: &'static str,
    arguments: Vec<OsString>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(guests: &'a Guests, emulator: Emulator) -> Self {
        let machine = Self {
            guests,
            emulator,
            accel: "tcg",
            arguments: Vec::new(),
        };
        // The firmware of the cache on both sides, whatever else is installed.
        machine
            .args(["-M", "pc", "-nic", "none", "-L"])
            .args([&guests.folder])
    }

    /// On another engine than the software CPU.
    #[must_use]
    pub fn accel(self, accel: &'static str) -> Self {
        Self { accel, ..self }
    }

    /// More options.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let new = arguments.into_iter().map(|a| a.as_ref().to_os_string());
        self.arguments.extend(new);
        self
    }

    /// The first serial port on the test's pipe, nothing else.
    #[must_use]
    pub fn serial(self) -> Self {
        self.args(["-display", "none", "-serial", "stdio", "-monitor", "none"])
    }

    /// A kernel with its initramfs, `append` added to its command line, on the serial port.
    #[must_use]
    pub fn kernel(self, kernel: Kernel, append: &str) -> Self {
        let name = kernel.name();
        let image = self.guests.file(&format!("vmlinuz-{name}"));
        let initrd = self.guests.file(&format!("initrd.{name}.gz"));
        self.serial()
            .args([OsStr::new("-kernel"), image.as_os_str()])
            .args([OsStr::new("-initrd"), initrd.as_os_str()])
            .args(["-m", "256", "-append"])
            .args([format!("console=ttyS0 {append}").trim_end()])
    }

    /// A raw disk on the first channel.
    #[must_use]
    pub fn disk(self, image: &Path) -> Self {
        let image = image.display();
        self.args([OsString::from("-drive")])
            .args([format!("file={image},format=raw,if=ide,index=0,media=disk")])
    }

    /// A CD-ROM.
    #[must_use]
    pub fn cdrom(self, image: &Path) -> Self {
        self.args([OsStr::new("-cdrom"), image.as_os_str()])
    }

    /// SeaBIOS's debug log into a file.
    #[must_use]
    pub fn firmware_log(self, file: &Path) -> Self {
        let file = file.display();
        self.args([OsString::from("-chardev")])
            .args([format!("file,id=log,path={file}")])
            .args(["-device", "isa-debugcon,iobase=0x402,chardev=log"])
    }

    /// What runs it.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// As a shell takes it where the guests lie in `folder` and the program is in the path.
    pub fn line(&self, folder: &str) -> String {
        let here = self.guests.folder.to_string_lossy();
        let mut line = format!("twin86 -accel {}", self.accel);
        for argument in &self.arguments {
            let argument = argument.to_string_lossy().replace(&*here, folder);
            let quoted = argument.replace('\'', "'\\''");
            line.push_str(&format!(" '{quoted}'"));
        }
        line
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(&self) -> Running {
        let mut command = Command::new(&self.emulator.program);
        command.args(["-accel", self.accel]).args(&self.arguments);
        Running::start(command)
    }
}
