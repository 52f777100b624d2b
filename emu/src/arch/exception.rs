//! Exceptions and their vectors. SDM Vol. 3A, "Exception and Interrupt Reference".

/// A fault or trap the guest sees. The only thing a rule can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// The error code pushed, for vectors that have one.
    pub error_code: Option<u32>,
    /// The linear address for CR2, for page faults.
    pub cr2: Option<u64>,
}

/// Divide error.
pub const DE: u8 = 0;
/// Debug.
pub const DB: u8 = 1;
/// Non-maskable interrupt.
pub const NMI: u8 = 2;
/// Breakpoint.
pub const BP: u8 = 3;
/// Overflow.
pub const OF: u8 = 4;
/// BOUND range exceeded.
pub const BR: u8 = 5;
/// Invalid opcode.
pub const UD: u8 = 6;
/// Device not available.
pub const NM: u8 = 7;
/// Double fault.
pub const DF: u8 = 8;
/// Invalid TSS.
pub const TS: u8 = 10;
/// Segment not present.
pub const NP: u8 = 11;
/// Stack fault.
pub const SS: u8 = 12;
/// General protection.
pub const GP: u8 = 13;
/// Page fault.
pub const PF: u8 = 14;
/// x87 floating-point error.
pub const MF: u8 = 16;
/// Alignment check.
pub const AC: u8 = 17;
/// Machine check.
pub const MC: u8 = 18;
/// SIMD floating-point.
pub const XM: u8 = 19;

impl Exception {
    /// An exception without error code.
    pub const fn new(vector: u8) -> Self {
        Self {
            vector,
            error_code: None,
            cr2: None,
        }
    }

    /// An exception with error code.
    pub const fn with_code(vector: u8, code: u32) -> Self {
        Self {
            vector,
            error_code: Some(code),
            cr2: None,
        }
    }

    /// A page fault at `linear` with its error code.
    pub const fn page_fault(linear: u64, code: u32) -> Self {
        Self {
            vector: PF,
            error_code: Some(code),
            cr2: Some(linear),
        }
    }
}

impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 20] = [
            "#DE",
            "#DB",
            "NMI",
            "#BP",
            "#OF",
            "#BR",
            "#UD",
            "#NM",
            "#DF",
            "vector 9",
            "#TS",
            "#NP",
            "#SS",
            "#GP",
            "#PF",
            "vector 15",
            "#MF",
            "#AC",
            "#MC",
            "#XM",
        ];
        match NAMES.get(usize::from(self.vector)) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "vector {}", self.vector)?,
        }
        if let Some(code) = self.error_code {
            write!(f, "({code:#x})")?;
        }
        if let Some(cr2) = self.cr2 {
            write!(f, " at {cr2:#x}")?;
        }
        Ok(())
    }
}
