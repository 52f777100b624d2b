//! Segment registers with their hidden parts, and descriptors.
//! SDM Vol. 3A, "Segment Registers", "Segment Descriptors", "Code- and Data-Segment Descriptor Types".

/// A segment register, numbered as instructions encode it; LDTR and TR follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the registers' own names")]
pub enum Seg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

/// One segment register: the selector and what the processor cached of its descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Base address (linear).
    pub base: u64,
    /// Limit in bytes, granularity applied: the last valid offset of an expand-up segment.
    pub limit: u32,
    /// Access rights as the VMCS holds them: type in bits 3:0, [`Segment::S`], DPL in 6:5,
    /// [`Segment::P`], AVL 12, [`Segment::L`], [`Segment::DB`], [`Segment::G`],
    /// [`Segment::UNUSABLE`].
    pub access: u32,
}

impl Segment {
    /// Type bit: accessed (code and data).
    pub const ACCESSED: u32 = 1 << 0;
    /// Type bit of data: writable; of code: readable.
    pub const WRITABLE: u32 = 1 << 1;
    /// Type bit of code: readable.
    pub const READABLE: u32 = 1 << 1;
    /// Type bit of data: expand-down; of code: conforming.
    pub const EXPAND_DOWN: u32 = 1 << 2;
    /// Type bit of code: conforming.
    pub const CONFORMING: u32 = 1 << 2;
    /// Type bit: code rather than data.
    pub const CODE: u32 = 1 << 3;
    /// Code or data, not a system segment.
    pub const S: u32 = 1 << 4;
    /// Present.
    pub const P: u32 = 1 << 7;
    /// Available to software.
    pub const AVL: u32 = 1 << 12;
    /// 64-bit code.
    pub const L: u32 = 1 << 13;
    /// Default size 32 (code), big (stack).
    pub const DB: u32 = 1 << 14;
    /// Limit counts 4 KiB.
    pub const G: u32 = 1 << 15;
    /// Not usable: a null selector was loaded.
    pub const UNUSABLE: u32 = 1 << 16;

    /// Type field, bits 3:0.
    pub const fn kind(&self) -> u8 {
        (self.access & 0xF) as u8
    }

    /// Descriptor privilege level.
    pub const fn dpl(&self) -> u8 {
        (self.access >> 5 & 3) as u8
    }

    /// Requested privilege level of the selector.
    pub const fn rpl(&self) -> u8 {
        (self.selector & 3) as u8
    }

    /// Whether all `bits` are set in the access rights.
    pub const fn has(&self, bits: u32) -> bool {
        self.access & bits == bits
    }

    /// Whether accesses through it fault (null selector).
    pub const fn unusable(&self) -> bool {
        self.access & Self::UNUSABLE != 0
    }

    /// What a null selector leaves in a data segment register.
    pub const fn null(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: 0,
            access: Self::UNUSABLE,
        }
    }

    /// A real-mode (or virtual-8086) segment.
    pub const fn real(selector: u16, access: u32) -> Self {
        Self {
            selector,
            base: (selector as u64) << 4,
            limit: 0xFFFF,
            access,
        }
    }

    /// The hidden part from an 8-byte descriptor of the GDT or LDT.
    pub const fn from_descriptor(selector: u16, raw: u64) -> Self {
        let access = (raw >> 40) as u32 & 0xF0FF;
        let limit = (raw & 0xFFFF) as u32 | (raw >> 32) as u32 & 0xF_0000;
        let limit = if access & Self::G != 0 {
            limit << 12 | 0xFFF
        } else {
            limit
        };
        let base = raw >> 16 & 0xFF_FFFF | raw >> 32 & 0xFF00_0000;
        Self {
            selector,
            base,
            limit,
            access,
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableRegister {
    /// Linear base address.
    pub base: u64,
    /// Offset of the table's last byte.
    pub limit: u16,
}
