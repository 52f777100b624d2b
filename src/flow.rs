//! Two flows of a machine compared: what its processor did at the board, in order.
//!
//! Flows are equal if every access and every interrupt is, with its data, but for what time alone
//! decides: the data of a timed read, how often a loop repeats that does nothing but wait by one,
//! and how often a processor halts before an interrupt ends its wait. `twin86 diff-exits` compares
//! two files that `--trace-exits` wrote.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::exits::{Exit, ExitKind};

/// A read whose value depends on time.
#[derive(Debug)]
pub struct TimedRead {
    /// Of a port or of device memory.
    kind: ExitKind,
    /// Port or guest physical address.
    address: u64,
    /// For the CMOS data port: the registers it is true for.
    registers: &'static [u64],
    /// What a reader of the comparison sees.
    name: &'static str,
}

const fn port(address: u64, name: &'static str) -> TimedRead {
    TimedRead {
        kind: ExitKind::In,
        address,
        registers: &[],
        name,
    }
}

const fn mmio(address: u64, name: &'static str) -> TimedRead {
    TimedRead {
        kind: ExitKind::MmioRead,
        ..port(address, name)
    }
}

/// Time of day, UIP in register A, interrupt flags in register C. Other registers are compared.
const RTC: TimedRead = TimedRead {
    registers: &[0, 2, 4, 6, 7, 8, 9, 0xA, 0xC],
    ..port(0x71, "RTC time, UIP and flags")
};
/// Bit 4 toggles with every refresh, bit 5 is OUT of counter 2.
const PORT_61: TimedRead = port(0x61, "port 61h refresh and OUT of counter 2");

/// The timed reads of the built-in guest.
#[rustfmt::skip]
pub const BUILT_IN: &[TimedRead] = &[
    // Counts while its gate is open; part cmos-ports reads a status with its null-count and OUT bits.
    port(0x42, "8254 counter 2"),
    PORT_61,
    RTC,
];
/// The timed reads of a PC's software. The PM timer's port is the one SeaBIOS and QEMU's tables use.
#[rustfmt::skip]
pub const TIMED: &[TimedRead] = &[
    port(0x40, "8254 counter 0"), port(0x41, "8254 counter 1"), port(0x42, "8254 counter 2"),
    PORT_61,
    RTC,
    port(0x608, "PM timer"),
    mmio(0xFEE0_0390, "local APIC current count"),
    mmio(0xFED0_00F0, "HPET main counter"), mmio(0xFED0_00F4, "HPET main counter"),
];

/// CMOS index port, and the bits of it that are the index: bit 7 is the NMI mask.
const CMOS_INDEX: (u64, u64) = (0x70, 0x7F);

/// An exit as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The exit, its data 0 if it is masked.
    pub exit: Exit,
    /// Why the data is masked: a name of the table of timed reads.
    pub masked: Option<&'static str>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.masked {
            None => self.exit.fmt(f),
            Some(name) => write!(f, "{} (masked: {name})", self.exit),
        }
    }
}

/// The longest loop that waits by a timed read, in exits.
const LONGEST_LOOP: usize = 4;

/// What of a flow is compared, with the number of the exit each is, from 1.
pub struct Comparable<I> {
    exits: I,
    timed: &'static [TimedRead],
    interrupts: bool,
    number: u64,
    cmos_index: u64,
    /// What may still turn out to be a loop's next turn.
    window: VecDeque<(u64, Compared)>,
}

/// See [`Comparable`]; interrupts are left out unless `interrupts`.
pub fn comparable<I: Iterator<Item = Exit>>(
    exits: I,
    timed: &'static [TimedRead],
    interrupts: bool,
) -> Comparable<I> {
    Comparable {
        exits,
        timed,
        interrupts,
        number: 0,
        cmos_index: 0,
        window: VecDeque::with_capacity(2 * LONGEST_LOOP + 1),
    }
}

impl<I> Comparable<I> {
    fn timed_read(&self, exit: &Exit) -> Option<&'static str> {
        let is_it = |row: &&TimedRead| {
            row.kind == exit.kind
                && row.address == exit.address
                && (row.registers.is_empty() || row.registers.contains(&self.cmos_index))
        };
        self.timed.iter().find(is_it).map(|row| row.name)
    }

    fn take(&mut self, exit: Exit) {
        self.number += 1;
        let left_out = match exit.kind {
            ExitKind::Halt => true,
            ExitKind::Interrupt => !self.interrupts,
            _ => false,
        };
        if left_out {
            return;
        }
        if exit.kind == ExitKind::Out && exit.address == CMOS_INDEX.0 {
            self.cmos_index = exit.data & CMOS_INDEX.1;
        }
        let masked = self.timed_read(&exit);
        let data = if masked.is_some() { 0 } else { exit.data };
        let exit = Exit { data, ..exit };
        self.window
            .push_back((self.number, Compared { exit, masked }));
        if let Some(turn) = (1..=LONGEST_LOOP).find(|&turn| self.repeats(turn)) {
            self.window.truncate(self.window.len() - turn);
        }
    }

    /// Whether the last `turn` exits are those before them, and wait.
    fn repeats(&self, turn: usize) -> bool {
        let last = || self.window.iter().rev().map(|(_, exit)| exit);
        self.window.len() >= 2 * turn
            && last().take(turn).eq(last().skip(turn).take(turn))
            && last().take(turn).any(|exit| exit.masked.is_some())
    }
}

impl<I: Iterator<Item = Exit>> Iterator for Comparable<I> {
    type Item = (u64, Compared);

    fn next(&mut self) -> Option<Self::Item> {
        while self.window.len() <= 2 * LONGEST_LOOP {
            let Some(exit) = self.exits.next() else { break };
            self.take(exit);
        }
        self.window.pop_front()
    }
}

/// The first place where two flows part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// How many exits agree before it.
    pub at: usize,
    /// The last of these.
    pub before: Vec<Compared>,
    /// What the first side did, and the number of that exit; `None` if it had ended.
    pub a: Option<(u64, Compared)>,
    /// What the other did.
    pub b: Option<(u64, Compared)>,
}

/// How many exits that agree are shown before one that does not.
const CONTEXT: usize = 8;

/// Where two flows part; or how many exits of both agree.
///
/// # Errors
/// The place.
pub fn compare<A, B>(a: Comparable<A>, b: Comparable<B>) -> Result<usize, Box<Divergence>>
where
    A: Iterator<Item = Exit>,
    B: Iterator<Item = Exit>,
{
    let (mut a, mut b) = (a, b);
    let mut before = VecDeque::with_capacity(CONTEXT);
    let mut at = 0;
    loop {
        let (ours, theirs) = (a.next(), b.next());
        let exit = match (ours, theirs) {
            (None, None) => return Ok(at),
            (Some((_, one)), Some((_, other))) if one == other => one,
            _ => {
                return Err(Box::new(Divergence {
                    at,
                    before: before.into(),
                    a: ours,
                    b: theirs,
                }));
            }
        };
        if before.len() == CONTEXT {
            before.pop_front();
        }
        before.push_back(exit);
        at += 1;
    }
}

/// Compares two runs of the built-in guest, as [`compare`].
///
/// # Errors
/// The place.
pub fn compare_built_in(a: &[Exit], b: &[Exit]) -> Result<usize, Box<Divergence>> {
    let [a, b] = [a, b].map(|exits| comparable(exits.iter().copied(), BUILT_IN, true));
    compare(a, b)
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no trace, or a damaged one.
    #[error("{}:{line}: not an exit as --trace-exits writes them: '{text}'", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: u64,
        /// What stands there, its beginning.
        text: String,
    },
    /// The answer cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// How a trace begins.
pub const HEADER: &str = "# twin86 exits 1";
/// Far longer than any line of a trace.
const LONGEST_LINE: u64 = 256;

/// The exits in a file; what is wrong with it is left in `error`, and ends it.
pub struct Trace {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    /// What ended it before its time.
    pub error: Option<TraceError>,
}

impl Trace {
    /// Opens a trace.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::File {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            lines: BufReader::new(file),
            line: 0,
            error: None,
        })
    }

    fn read(&mut self) -> Result<Option<Exit>, TraceError> {
        loop {
            let mut line = Vec::new();
            let mut limited = io::Read::take(&mut self.lines, LONGEST_LINE);
            let read = limited.read_until(b'\n', &mut line);
            let read = read.map_err(|source| TraceError::File {
                path: self.path.clone(),
                source,
            })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if self.line == 1 && text == HEADER {
                continue;
            }
            let exit = text.parse().map_err(|_| TraceError::Line {
                path: self.path.clone(),
                line: self.line,
                text: text.chars().take(60).collect(),
            })?;
            return Ok(Some(exit));
        }
    }
}

impl Iterator for &mut Trace {
    type Item = Exit;

    fn next(&mut self) -> Option<Exit> {
        self.read().unwrap_or_else(|error| {
            self.error = Some(error);
            None
        })
    }
}

/// What of two traces is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The data of timed reads, too, and every turn of a loop.
    pub exact: bool,
    /// Interrupts are left out.
    pub no_interrupts: bool,
    /// One may end before the other.
    pub prefix: bool,
}

/// Compares two traces, and writes what there is to say; whether they agree.
///
/// # Errors
/// If one cannot be read, or `out` not written.
pub fn diff([a, b]: [&Path; 2], rules: Rules, out: &mut dyn Write) -> Result<bool, TraceError> {
    let timed = if rules.exact { &[] } else { TIMED };
    let interrupts = !rules.no_interrupts;
    let mut traces = [Trace::open(a)?, Trace::open(b)?];
    let [ours, theirs] = &mut traces;
    let result = compare(
        comparable(ours, timed, interrupts),
        comparable(theirs, timed, interrupts),
    );
    for trace in traces {
        if let Some(error) = trace.error {
            return Err(error);
        }
    }
    match result {
        Ok(count) => writeln!(out, "{count} exits agree")?,
        Err(found) if rules.prefix && (found.a.is_none() || found.b.is_none()) => {
            let longer = if found.a.is_none() { b } else { a };
            let at = found.at;
            writeln!(out, "{at} exits agree, {} goes on", longer.display())?;
        }
        Err(found) => {
            tell(&found, [a, b], out)?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn tell(found: &Divergence, names: [&Path; 2], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} exits agree, the last of them", found.at)?;
    for exit in &found.before {
        writeln!(out, "  {exit}")?;
    }
    for (name, exit) in names.into_iter().zip([found.a, found.b]) {
        let name = name.display();
        match exit {
            Some((number, exit)) => writeln!(out, "{name}: exit {number}: {exit}")?,
            None => writeln!(out, "{name}: ends")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(kind: ExitKind, address: u64, data: u64) -> Exit {
        Exit {
            kind,
            address,
            width: 1,
            data,
        }
    }

    fn index(register: u64) -> Exit {
        exit(ExitKind::Out, 0x70, register)
    }

    fn cmos(data: u64) -> Exit {
        exit(ExitKind::In, 0x71, data)
    }

    #[test]
    fn time_is_masked_and_nothing_else() {
        let halt = exit(ExitKind::Halt, 0, 0);
        let slow = [index(0x80), cmos(0x59), halt, index(0xD), cmos(0x80)];
        let fast = [
            index(0x80),
            cmos(1),
            cmos(1),
            cmos(2),
            index(0xD),
            cmos(0x80),
        ];
        assert_eq!(compare_built_in(&slow, &fast), Ok(4));
        let other = [index(0x80), cmos(0x59), index(0xD), cmos(0)];
        let found = compare_built_in(&slow, &other).expect_err("register D is not masked");
        assert_eq!((found.at, found.before.len()), (3, 3));
        let numbered = |c: Option<(u64, Compared)>| c.map(|(number, c)| (number, c.exit));
        assert_eq!(numbered(found.a), Some((5, cmos(0x80))));
        assert_eq!(numbered(found.b), Some((4, cmos(0))));
    }

    #[test]
    fn a_loop_that_waits_counts_once() {
        // Until UIP is clear; with a write that does something in it, each turn counts.
        let turn = [index(0xA), cmos(0x80)];
        let wait = |turns: usize| turn.repeat(turns);
        assert_eq!(compare_built_in(&wait(1), &wait(100)), Ok(2));
        let out = exit(ExitKind::Out, 0x80, 7);
        let work = |turns: usize| [out, out].repeat(turns);
        assert!(compare_built_in(&work(1), &work(2)).is_err());
        let mixed = |turns: usize| [wait(turns), vec![out], wait(turns + 1)].concat();
        assert_eq!(compare_built_in(&mixed(1), &mixed(9)), Ok(5));
    }

    #[test]
    fn order_and_number_of_accesses_count() {
        let (a, b) = (
            exit(ExitKind::Out, 0x20, 1),
            exit(ExitKind::Interrupt, 0, 0x20),
        );
        assert!(compare_built_in(&[a, b], &[b, a]).is_err());
        let found = compare_built_in(&[a, a], &[a]).expect_err("one is missing");
        assert_eq!((found.at, found.b), (1, None));
    }
}
