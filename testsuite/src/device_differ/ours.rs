//! Our side: a machine in this process, driven by the lines the program takes.

use accel::CpuModel;
use accel::tcg::Tcg;
use devices::backend::disk::{Disk, DiskOptions};
use devices::backend::drive::Drive;
use devices::board::BoardOptions;
use devices::board::build::Parts;
use std::path::Path;
use twin86::firmware::{DEFAULT_BIOS, Firmware, VGA_BIOS};
use twin86::machine::{Machine, MachineConfig};
use twin86::qtest::session::Session;

use super::op::{Op, Outcome};
use super::{DifferError, EPOCH, Setup};

/// A fresh machine.
pub struct Ours {
    machine: Machine,
    session: Session,
    answers: Vec<u8>,
}

impl Ours {
    /// Builds one whose script begins at a time.
    ///
    /// # Errors
    /// If there is no firmware, or no machine.
    pub fn new(setup: &Setup, disk: &Path, begin: u64) -> Result<Self, DifferError> {
        let wrong = |error: &dyn std::fmt::Display| DifferError::Ours(error.to_string());
        let firmware = Firmware::new(&[]);
        let bios = firmware.bios(Path::new(DEFAULT_BIOS));
        let vga_rom = firmware.option_rom(VGA_BIOS).map_err(|e| wrong(&e))?;
        let mut board = BoardOptions {
            vga: true,
            com2: false,
            rtc_base: EPOCH,
            ..BoardOptions::default()
        };
        let mut ide = [None, None, Some(Drive::cd_rom(None)), None];
        if setup.disk {
            let options = DiskOptions {
                snapshot: true,
                ..DiskOptions::default()
            };
            let disk = Disk::open(disk, options).map_err(|e| wrong(&e))?;
            ide[0] = Some(Drive::hard_disk(disk));
        }
        for (known, drive) in board.drives.disks.iter_mut().zip(&ide) {
            *known = drive.as_ref().and_then(Drive::geometry);
        }
        let parts = Parts {
            bios: bios.map_err(|e| wrong(&e))?,
            vga_rom,
            ide,
            ..Parts::default()
        };
        let cpu = CpuModel::by_name("qemu64");
        let cpu = cpu.ok_or_else(|| wrong(&"no processor model qemu64"))?;
        let config = MachineConfig {
            by_hand: true,
            ..MachineConfig::new(board, parts, cpu)
        };
        let machine = Machine::new(config, &Tcg).map_err(|e| wrong(&e))?;
        let session = Session::new(&machine);
        let mut ours = Self {
            machine,
            session,
            answers: Vec::new(),
        };
        for line in setup.preface() {
            ours.line(&line);
        }
        ours.line(&format!("clock_set {begin}"));
        ours.line(&setup.intercept("i8259"));
        Ok(ours)
    }

    fn line(&mut self, line: &str) -> Outcome {
        self.answers.clear();
        self.session
            .run(&mut self.machine, line.as_bytes(), &mut self.answers);
        let mut outcome = Outcome::default();
        for line in String::from_utf8_lossy(&self.answers).lines() {
            outcome.take(line);
        }
        outcome
    }

    /// Does one step; a step of time goes to what the reference says.
    pub fn play(&mut self, op: &Op, reference: &Outcome) -> Outcome {
        match op {
            Op::Step(_) => {
                let to = reference.answer.trim_start_matches("OK ");
                self.line(&format!("clock_set {to}"))
            }
            op => self.line(&op.to_string()),
        }
    }
}
