//! The board as each of two engines sees it: the leader's accesses happen and are recorded, the
//! follower's are checked against the record and answered from it.
//!
//! A maskable interrupt, NMI, INIT or start-up IPI that the leader takes is no part of the record: it
//! ends the slice, and the leader's state says what was taken.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use emu::io::ApicRefused;
use emu::{CpuIo, Pending};

use crate::Kick;

/// One access to the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// One item read from a port.
    In(u16, Vec<u8>),
    /// One item written to a port.
    Out(u16, Vec<u8>),
    /// Device memory read.
    Read(u64, Vec<u8>),
    /// Device memory written.
    Write(u64, Vec<u8>),
    /// A register of the local APIC written by WRMSR, and whether it was taken.
    WriteMsr(u32, u64, bool),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(port, data) => write!(f, "in {port:#x} {data:02x?}"),
            Self::Out(port, data) => write!(f, "out {port:#x} {data:02x?}"),
            Self::Read(address, data) => write!(f, "read {address:#x} {data:02x?}"),
            Self::Write(address, data) => write!(f, "write {address:#x} {data:02x?}"),
            Self::WriteMsr(msr, value, taken) => write!(f, "wrmsr {msr:#x} {value:#x} {taken}"),
        }
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// The board.
    #[default]
    Pass,
    /// The board, and the access is recorded.
    Record,
    /// The record.
    Replay,
}

#[derive(Default)]
struct State {
    way: Way,
    tape: Vec<Access>,
    /// Accesses of the tape that have been replayed.
    at: usize,
    /// The first access that was not the tape's.
    wrong: Option<String>,
    /// The task priority while the record answers.
    tpr: u8,
    /// INIT or a start-up IPI was taken.
    restarted: bool,
    /// Events wait at the board.
    alone: bool,
}

/// One engine's board.
pub(super) struct Side {
    board: Arc<dyn CpuIo>,
    state: Mutex<State>,
    /// Stops the engine behind what was recorded.
    stop: OnceLock<Arc<dyn Kick>>,
}

impl Side {
    pub(super) fn new(board: Arc<dyn CpuIo>) -> Self {
        Self {
            board,
            state: Mutex::default(),
            stop: OnceLock::new(),
        }
    }

    /// What stops the engine behind each access that is recorded.
    pub(super) fn stop_by(&self, kick: Arc<dyn Kick>) {
        let _ = self.stop.set(kick);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the board answers and nothing is recorded. Returns what was.
    pub(super) fn pass(&self) -> Vec<Access> {
        std::mem::take(&mut *self.lock()).tape
    }

    /// From now on accesses are recorded.
    pub(super) fn record(&self) {
        *self.lock() = State {
            way: Way::Record,
            ..State::default()
        };
    }

    /// The same, and events wait at the board.
    pub(super) fn record_alone(&self) {
        *self.lock() = State {
            way: Way::Record,
            alone: true,
            ..State::default()
        };
    }

    /// Whether nothing has been accessed.
    pub(super) fn is_untouched(&self) -> bool {
        self.lock().tape.is_empty()
    }

    /// From now on `tape` answers.
    pub(super) fn replay(&self, tape: Vec<Access>, tpr: u8) {
        *self.lock() = State {
            way: Way::Replay,
            tape,
            tpr,
            ..State::default()
        };
    }

    /// Whether every access of the record has been made.
    pub(super) fn consumed(&self) -> bool {
        let state = self.lock();
        state.at == state.tape.len()
    }

    /// How many accesses of the record have been made, while it answers.
    pub(super) fn position(&self) -> Option<usize> {
        let state = self.lock();
        (state.way == Way::Replay).then_some(state.at)
    }

    /// What was accessed against the record.
    pub(super) fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// Whether anything was.
    pub(super) fn went_wrong(&self) -> bool {
        self.lock().wrong.is_some()
    }

    /// The task priority as this engine has it.
    pub(super) fn priority(&self) -> u8 {
        self.tpr()
    }

    /// Whether the engine took INIT or a start-up IPI.
    pub(super) fn restarted(&self) -> bool {
        self.lock().restarted
    }

    fn way(&self) -> Way {
        self.lock().way
    }

    fn note(&self, access: Access) {
        self.lock().tape.push(access);
        self.stop();
    }

    fn stop(&self) {
        if let Some(stop) = self.stop.get() {
            stop.kick();
        }
    }

    /// The next access of the tape if it is one that `fits`; what was accessed otherwise is noted.
    fn next<T>(
        &self,
        fits: impl FnOnce(&Access) -> Option<T>,
        tried: impl FnOnce() -> String,
    ) -> Option<T> {
        let mut state = self.lock();
        let expected = state.tape.get(state.at);
        if let Some(answer) = expected.and_then(fits) {
            state.at += 1;
            drop(state);
            self.stop();
            return Some(answer);
        }
        let expected = expected.map_or("nothing more".to_owned(), Access::to_string);
        let wrong = format!("{} where the leader did {expected}", tried());
        state.wrong.get_or_insert(wrong);
        None
    }
}

impl CpuIo for Side {
    fn port_read(&self, port: u16, width: usize, data: &mut [u8]) {
        if self.way() != Way::Replay {
            self.board.port_read(port, width, data);
        }
        for item in data.chunks_mut(width.max(1)) {
            match self.way() {
                Way::Pass => {}
                Way::Record => self.note(Access::In(port, item.to_vec())),
                Way::Replay => {
                    let fits = |access: &Access| match access {
                        Access::In(p, bytes) if *p == port && bytes.len() == item.len() => {
                            Some(bytes.clone())
                        }
                        _ => None,
                    };
                    let tried = || format!("in {port:#x} of {width} bytes");
                    match self.next(fits, tried) {
                        Some(bytes) => item.copy_from_slice(&bytes),
                        None => item.fill(0xFF),
                    }
                }
            }
        }
    }

    fn port_write(&self, port: u16, width: usize, data: &[u8]) {
        let way = self.way();
        for item in data.chunks(width.max(1)) {
            let access = Access::Out(port, item.to_vec());
            match way {
                Way::Pass => {}
                Way::Record => self.note(access),
                Way::Replay => {
                    self.next(|a| (*a == access).then_some(()), || access.to_string());
                }
            }
        }
        if way != Way::Replay {
            self.board.port_write(port, width, data);
        }
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        let way = self.way();
        if way != Way::Replay {
            self.board.mmio_read(address, data);
        }
        match way {
            Way::Pass => {}
            Way::Record => self.note(Access::Read(address, data.to_vec())),
            Way::Replay => {
                let fits = |access: &Access| match access {
                    Access::Read(at, bytes) if *at == address && bytes.len() == data.len() => {
                        Some(bytes.clone())
                    }
                    _ => None,
                };
                let tried = || format!("read {address:#x} of {} bytes", data.len());
                match self.next(fits, tried) {
                    Some(bytes) => data.copy_from_slice(&bytes),
                    None => data.fill(0xFF),
                }
            }
        }
    }

    fn mmio_write(&self, address: u64, data: &[u8]) {
        let access = Access::Write(address, data.to_vec());
        match self.way() {
            Way::Pass => self.board.mmio_write(address, data),
            Way::Record => {
                self.note(access);
                self.board.mmio_write(address, data);
            }
            Way::Replay => {
                self.next(|a| (*a == access).then_some(()), || access.to_string());
            }
        }
    }

    fn pending(&self) -> Pending {
        let state = self.lock();
        if state.way == Way::Replay || state.alone {
            return Pending::empty();
        }
        drop(state);
        self.board.pending()
    }

    fn ack_interrupt(&self) -> Option<u8> {
        match self.way() {
            Way::Replay => None,
            Way::Pass => self.board.ack_interrupt(),
            Way::Record => {
                let vector = self.board.ack_interrupt();
                if vector.is_some() {
                    self.stop();
                }
                vector
            }
        }
    }

    fn take(&self, which: Pending) -> u8 {
        match self.way() {
            Way::Replay => 0,
            Way::Pass => self.board.take(which),
            Way::Record => {
                if which.intersects(Pending::INIT | Pending::SIPI) {
                    self.lock().restarted = true;
                }
                self.stop();
                self.board.take(which)
            }
        }
    }

    fn apic_msr_read(&self, msr: u32) -> Result<u64, ApicRefused> {
        // Without effect, and not always of the guest's: KVM asks by itself.
        self.board.apic_msr_read(msr)
    }

    fn apic_msr_write(&self, msr: u32, value: u64) -> Result<(), ApicRefused> {
        match self.way() {
            Way::Pass => self.board.apic_msr_write(msr, value),
            Way::Record => {
                let result = self.board.apic_msr_write(msr, value);
                self.note(Access::WriteMsr(msr, value, result.is_ok()));
                result
            }
            Way::Replay => {
                let fits = |access: &Access| match access {
                    Access::WriteMsr(index, v, taken) if (*index, *v) == (msr, value) => {
                        Some(*taken)
                    }
                    _ => None,
                };
                let taken = self.next(fits, || format!("wrmsr {msr:#x} {value:#x}"));
                taken.filter(|taken| *taken).map(|_| ()).ok_or(ApicRefused)
            }
        }
    }

    fn tpr(&self) -> u8 {
        let state = self.lock();
        match state.way {
            Way::Replay => state.tpr,
            Way::Pass | Way::Record => {
                drop(state);
                self.board.tpr()
            }
        }
    }

    fn set_tpr(&self, cr8: u8) {
        let mut state = self.lock();
        if state.way == Way::Replay {
            state.tpr = cr8;
            return;
        }
        drop(state);
        self.board.set_tpr(cr8);
    }

    fn tsc(&self) -> u64 {
        self.board.tsc()
    }

    fn set_ferr(&self, asserted: bool) {
        if self.way() != Way::Replay {
            self.board.set_ferr(asserted);
        }
    }

    fn ignne(&self) -> bool {
        self.board.ignne()
    }
}
