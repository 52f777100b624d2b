//! A test case: instructions, the values to run them with, and the demand that all agree.

use std::fmt::Write;

use emu::arch::{Gpr, RFlags};
use emu::state::Fpu;
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

use crate::host::{self, Session};
use crate::layout::{ABSENT, DATA, READ_ONLY};
use crate::run::{Input, Mode, Outcome, Stop, differences};
use crate::skip::skip;
use crate::subject::{Bench, Interpreter};
use crate::undefined;

/// Values at which 8, 16, 32 and 64-bit arithmetic turns.
pub const EDGES: &[u64] = &[
    0,
    1,
    2,
    0xF,
    0x10,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// An engine that is compared with the host's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `emu`'s interpreter.
    Interpreter,
}

impl Backend {
    /// Every engine.
    pub const ALL: &[Self] = &[Self::Interpreter];
}

/// Where a memory operand of some size stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside a writable page, aligned.
    Aligned,
    /// Inside a writable page, at an odd address.
    Odd,
    /// Across two writable pages.
    Crossing,
    /// From a writable page into a read-only one.
    IntoReadOnly,
    /// From a read-only page into a writable one.
    OutOfReadOnly,
    /// In a read-only page.
    ReadOnly,
    /// From a writable page into one that is not there.
    IntoAbsent,
    /// From a page that is not there into a writable one.
    OutOfAbsent,
    /// In a page that is not there.
    Absent,
    /// At an address that is not canonical.
    NonCanonical,
}

impl Place {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Aligned,
        Self::Odd,
        Self::Crossing,
        Self::IntoReadOnly,
        Self::OutOfReadOnly,
        Self::ReadOnly,
        Self::IntoAbsent,
        Self::OutOfAbsent,
        Self::Absent,
        Self::NonCanonical,
    ];

    /// An address for an operand of `size` bytes; operands that straddle have at least one byte on
    /// each side if `size` is two or more.
    pub const fn address(self, size: u64) -> u64 {
        let before = size / 2;
        match self {
            Self::Aligned => DATA + 0x100,
            Self::Odd => DATA + 0x203,
            Self::Crossing => DATA + 0x1000 - before,
            Self::IntoReadOnly => READ_ONLY - before,
            Self::OutOfReadOnly => READ_ONLY + 0x1000 - before,
            Self::ReadOnly => READ_ONLY + 0x40,
            Self::IntoAbsent => ABSENT - before,
            Self::OutOfAbsent => ABSENT + 0x1000 - before,
            Self::Absent => ABSENT + 0x40,
            Self::NonCanonical => 0x8000_0000_0000,
        }
    }
}

type Edit = Box<dyn Fn(&mut Input)>;

/// Instructions and the ways to run them.
pub struct Case {
    input: Input,
    axes: Vec<Vec<Edit>>,
}

impl Case {
    /// 64-bit code.
    ///
    /// # Panics
    /// If the instructions cannot be encoded.
    pub fn long64(code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Self {
        Self::assembled(Mode::Long64, code)
    }

    /// 32-bit code under long mode.
    ///
    /// # Panics
    /// If the instructions cannot be encoded.
    pub fn compat32(code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Self {
        Self::assembled(Mode::Compat32, code)
    }

    fn assembled(
        mode: Mode,
        code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Self {
        let mut case = Self::bytes(mode, &[]);
        let bytes = CodeAssembler::new(mode.bits()).and_then(|mut assembler| {
            code(&mut assembler)?;
            assembler.assemble(case.input.at)
        });
        case.input.code = bytes.unwrap_or_else(|error| panic!("a case that is no code: {error}"));
        case
    }

    /// Code as it is.
    pub fn bytes(mode: Mode, code: &[u8]) -> Self {
        Self {
            input: Input::new(mode, code),
            axes: Vec::new(),
        }
    }

    /// Runs at `address`.
    #[must_use]
    pub fn at(mut self, address: u64) -> Self {
        self.input.at = address;
        self
    }

    /// All registers at once.
    #[must_use]
    pub fn gprs(mut self, values: [u64; 16]) -> Self {
        self.input.gpr = values;
        self
    }

    /// One register.
    #[must_use]
    pub fn gpr(mut self, register: Gpr, value: u64) -> Self {
        self.input.gpr[register as usize] = value;
        self
    }

    /// All flags at once.
    #[must_use]
    pub fn flags(mut self, bits: u64) -> Self {
        self.input.rflags = RFlags::from_bits_retain(bits);
        self
    }

    /// Bases of FS and GS.
    #[must_use]
    pub fn bases(mut self, bases: [u64; 2]) -> Self {
        self.input.bases = bases;
        self
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory(mut self, address: u64, bytes: &[u8]) -> Self {
        self.input.memory.push((address, bytes.to_vec()));
        self
    }

    /// x87, MMX and SSE.
    #[must_use]
    pub fn fpu(mut self, fpu: Fpu) -> Self {
        self.input.fpu = Some(Box::new(fpu));
        self
    }

    /// Every one of `values` in `register`.
    #[must_use]
    pub fn each(self, register: Gpr, values: &[u64]) -> Self {
        self.axis(values, move |input, value| {
            input.gpr[register as usize] = value
        })
    }

    /// Each of `flags` clear and set.
    #[must_use]
    pub fn each_flag(self, flags: RFlags) -> Self {
        flags.iter().fold(self, |case, flag| {
            case.axis(&[false, true], move |input, on| input.rflags.set(flag, on))
        })
    }

    /// `register` points at an operand of `size` bytes in each of `places`.
    #[must_use]
    pub fn each_mem(self, register: Gpr, size: u64, places: &[Place]) -> Self {
        self.axis(places, move |input, place| {
            input.gpr[register as usize] = place.address(size);
        })
    }

    /// The eight bytes at which `register` points hold each of `values`; comes after what sets the
    /// register.
    #[must_use]
    pub fn each_operand(self, register: Gpr, values: &[u64]) -> Self {
        self.axis(values, move |input, value| {
            let at = input.gpr[register as usize];
            input.memory.push((at, value.to_le_bytes().to_vec()));
        })
    }

    fn axis<T: Copy + 'static>(
        mut self,
        values: &[T],
        edit: impl Fn(&mut Input, T) + Clone + 'static,
    ) -> Self {
        let edits = values.iter().map(|&value| {
            let edit = edit.clone();
            Box::new(move |input: &mut Input| edit(input, value)) as Edit
        });
        self.axes.push(edits.collect());
        self
    }

    /// Every combination of the values.
    pub fn inputs(&self) -> Vec<Input> {
        self.axes
            .iter()
            .fold(vec![self.input.clone()], |inputs, axis| {
                let with = |input: &Input, edit: &Edit| {
                    let mut input = input.clone();
                    edit(&mut input);
                    input
                };
                inputs
                    .iter()
                    .flat_map(|i| axis.iter().map(move |e| with(i, e)))
                    .collect()
            })
    }

    /// Runs every combination on the host's processor and on `backends`: all that can be seen must
    /// be equal, undefined flags aside.
    ///
    /// # Panics
    /// If it is not; the message holds the first differing case.
    pub fn agree(&self, backends: &[Backend]) {
        if !backends.contains(&Backend::Interpreter) {
            return;
        }
        let mut arena = match Arena::new() {
            Ok(arena) => arena,
            Err(error) => return skip("host", &error),
        };
        for input in self.inputs() {
            if let (_, Some(difference)) = arena.compare(&input) {
                panic!("{difference}");
            }
        }
    }
}

/// The host's processor and the interpreter, side by side.
pub struct Arena {
    session: Session,
    bench: Bench<Interpreter>,
    disturbed: u64,
}

/// How often a case that differs is run again.
const AGAIN: usize = 2;

/// A case on which they part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The case.
    pub input: Input,
    /// What the host did.
    pub host: Outcome,
    /// A line for each field.
    pub fields: Vec<String>,
}

impl Arena {
    /// Opens the host session and an interpreter.
    ///
    /// # Errors
    /// If the host is no oracle, or out of memory.
    pub fn new() -> Result<Self, host::HostError> {
        Ok(Self {
            session: host::session()?,
            bench: Bench::interpreter()?,
            disturbed: 0,
        })
    }

    /// Whether the host's processor is the one followed where manuals leave things open.
    pub fn known(&self) -> bool {
        self.session.known()
    }

    /// Runs a case on both: how it ended on the host, and where they part. A case that differs is run
    /// again, and counted when it then agrees: an interrupted process may lose the x87's pointers,
    /// and below some hypervisors RFLAGS.ID.
    pub fn compare(&mut self, input: &Input) -> (Stop, Option<Difference>) {
        let mut result = self.compare_once(input);
        for _ in 0..AGAIN {
            if result.1.is_none() {
                break;
            }
            result = self.compare_once(input);
            self.disturbed += u64::from(result.1.is_none());
        }
        result
    }

    /// Cases that differed once, and not again.
    pub fn disturbed(&self) -> u64 {
        self.disturbed
    }

    fn compare_once(&mut self, input: &Input) -> (Stop, Option<Difference>) {
        let mut host = self.session.run(input);
        let mut own = self.bench.run(input);
        let known = self.session.known();
        let ignore = if known {
            RFlags::empty()
        } else {
            undefined::ignored(input, &host)
        };
        let fpu = input.fpu.is_some();
        if fpu && !undefined::settle(input, &mut host, &mut own, known) {
            return (host.stop, None);
        }
        let fields = differences(&host, &own, ignore, fpu);
        let stop = host.stop;
        let difference = (!fields.is_empty()).then(|| Difference {
            input: input.clone(),
            host,
            fields,
        });
        (stop, difference)
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for field in &self.fields {
            writeln!(f, "  {field}")?;
        }
        f.write_str(&paste(&self.input))
    }
}

/// The case as Rust, to paste into a test.
pub fn paste(input: &Input) -> String {
    let mut text = String::new();
    let (mode, code) = (input.mode, &input.code);
    let mut write = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap_or_default();
    write(format_args!("Case::bytes(Mode::{mode:?}, &{code:#04x?})\n"));
    write(format_args!(
        "    .at({:#x}).flags({:#x})\n",
        input.at,
        input.start_flags().bits()
    ));
    write(format_args!("    .gprs({:#x?})\n", input.gpr));
    if input.bases != [0; 2] {
        write(format_args!("    .bases({:#x?})\n", input.bases));
    }
    for (at, bytes) in &input.memory {
        write(format_args!("    .memory({at:#x}, &{bytes:#04x?})\n"));
    }
    if let Some(fpu) = &input.fpu {
        write(format_args!("    .fpu({fpu:#x?})\n"));
    }
    write(format_args!(
        "    .agree(Backend::ALL); // {}",
        disassembly(input)
    ));
    text.replace(",\n    ", ", ")
        .replace("[\n    ", "[")
        .replace(",\n]", "]")
}

/// The instructions of a case in a line.
pub fn disassembly(input: &Input) -> String {
    let instructions = input.decode(iced_x86::DecoderOptions::NONE);
    let lines: Vec<String> = instructions.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
