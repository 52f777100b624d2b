//! The linear addresses a case lives in, the same for the host's processor and for the guest.
//!
//! Few pages, chosen so that every pair of neighbours a memory operand can straddle exists:
//! writable to writable, writable to read-only and back, writable to absent and back, code to code,
//! code to absent, and the pages on both sides of the 4 GiB line.

use std::sync::OnceLock;

/// Page size in bytes.
pub const PAGE: u64 = 4096;

/// What an unprivileged access may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and execute.
    Code,
    /// Read only, never executed.
    ReadOnly,
    /// Read and write, never executed.
    ReadWrite,
    /// Everything: the page of code that changes itself.
    All,
}

impl Access {
    /// Whether stores are allowed.
    pub const fn writable(self) -> bool {
        matches!(self, Self::ReadWrite | Self::All)
    }

    /// Whether instruction fetches are allowed.
    pub const fn executable(self) -> bool {
        matches!(self, Self::Code | Self::All)
    }
}

/// First of the two code pages; the pages around the pair are absent.
pub const CODE: u64 = 0x1000_1000;
/// End of the code pages.
pub const CODE_END: u64 = CODE + 2 * PAGE;
/// First of two adjacent writable pages; the page below is absent.
pub const DATA: u64 = 0x1000_9000;
/// Read-only page between writable ones.
pub const READ_ONLY: u64 = DATA + 2 * PAGE;
/// Absent page after a writable one and before another.
pub const ABSENT: u64 = DATA + 4 * PAGE;
/// Writable page after the absent one; a read-only page and an absent one follow.
pub const ISLAND: u64 = DATA + 5 * PAGE;
/// Code that may write itself.
pub const SELF_MODIFYING: u64 = 0x1001_2000;
/// The last page below 4 GiB; the first one above is there too.
pub const BELOW_4G: u64 = 0xFFFF_F000;

/// The pages that are there; their index is their place in the backing memory.
#[rustfmt::skip]
pub const PAGES: [(u64, Access); 11] = [
    (CODE,             Access::Code),
    (CODE + PAGE,      Access::Code),
    (DATA,             Access::ReadWrite),
    (DATA + PAGE,      Access::ReadWrite),
    (READ_ONLY,        Access::ReadOnly),
    (DATA + 3 * PAGE,  Access::ReadWrite),
    (ISLAND,           Access::ReadWrite),
    (ISLAND + PAGE,    Access::ReadOnly),
    (SELF_MODIFYING,   Access::All),
    (BELOW_4G,         Access::ReadWrite),
    (BELOW_4G + PAGE,  Access::ReadWrite),
];

/// Length of the backing memory of [`PAGES`].
pub const BACKING: usize = PAGES.len() * PAGE as usize;

/// Where `address` stands in the backing memory, with the bytes left on its page.
pub fn backing(address: u64) -> Option<(usize, usize)> {
    let within = (address % PAGE) as usize;
    let page = PAGES.iter().position(|p| p.0 == address - within as u64)?;
    Some((page * PAGE as usize + within, PAGE as usize - within))
}

/// The opcode that fills pages of code, so that every jump ends where it lands.
pub const INT3: u8 = 0xCC;

/// What the backing memory holds before each case: INT3 where code may run, elsewhere bytes that
/// differ from word to word.
pub fn pristine() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = crate::random::Random::new(0x7769_6E38_3600);
        PAGES
            .iter()
            .flat_map(|(_, access)| {
                let mut page = vec![INT3; PAGE as usize];
                if !access.executable() {
                    page.chunks_exact_mut(8)
                        .for_each(|word| word.copy_from_slice(&random.draw().to_le_bytes()));
                }
                page
            })
            .collect()
    })
}
