//! What travels between the APICs: an interrupt with its destination.
//!
//! SDM Vol. 3A, "Interrupt Command Register (ICR)" and "Message Signalled Interrupts". The ICR, an
//! IOAPIC redirection entry and the data of an MSI share the layout of their low word.

/// Low word of an ICR, redirection entry, LVT entry or MSI data.
pub(crate) mod word {
    /// The vector.
    pub const VECTOR: u32 = 0xff;
    /// Delivery mode, bits 10 to 8.
    pub const DELIVERY: u32 = 7 << 8;
    /// Logical destination (not in LVT or MSI).
    pub const LOGICAL: u32 = 1 << 11;
    /// Send pending; read only.
    pub const DELIVERY_STATUS: u32 = 1 << 12;
    /// Input is active low.
    pub const ACTIVE_LOW: u32 = 1 << 13;
    /// A level interrupt was accepted and not yet ended; read only. In redirection entry and LVT.
    pub const REMOTE_IRR: u32 = 1 << 14;
    /// Assert rather than de-assert. In ICR and MSI, at the place of remote IRR.
    pub const ASSERT: u32 = 1 << 14;
    /// Level-triggered.
    pub const LEVEL: u32 = 1 << 15;
    /// Masked. In redirection entry and LVT.
    pub const MASKED: u32 = 1 << 16;
}

/// How an interrupt is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vector, to all processors addressed.
    Fixed,
    /// The vector, to the one of lowest priority among those addressed.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// No meaning; never accepted.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up at page `vector`.
    StartUp,
    /// An interrupt whose vector the 8259 gives.
    ExtInt,
}

impl Delivery {
    /// The delivery mode in bits 10 to 8 of `word`.
    pub fn of(word: u32) -> Self {
        match (word & word::DELIVERY) >> 8 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }

    /// Whether the vector goes through IRR and ISR, so that a level trigger has a meaning.
    pub fn is_vectored(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

/// Which local APICs a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The APIC with this ID; 0xff is all.
    Physical(u8),
    /// The APICs whose logical ID matches; 0xff is all.
    Logical(u8),
    /// The sender.
    Itself(u32),
    /// Every APIC.
    All,
    /// Every APIC but the sender.
    AllBut(u32),
}

impl Target {
    /// Physical or logical destination `id`.
    pub fn destination(logical: bool, id: u8) -> Self {
        if logical {
            Self::Logical(id)
        } else {
            Self::Physical(id)
        }
    }
}

/// One interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who is addressed.
    pub target: Target,
    /// The delivery mode.
    pub delivery: Delivery,
    /// The vector, or the page of a start-up message.
    pub vector: u8,
    /// Level-triggered: its EOI is broadcast.
    pub level: bool,
}

impl Message {
    /// The message of a low word and its target.
    pub fn new(word: u32, target: Target) -> Self {
        Self {
            target,
            delivery: Delivery::of(word),
            vector: (word & word::VECTOR) as u8,
            level: word & word::LEVEL != 0,
        }
    }

    /// The message a bus master's write of `data` to `address` means; none outside FEExxxxxh, and
    /// for the de-assertion of a level.
    pub fn from_msi(address: u64, data: u32) -> Option<Self> {
        const WINDOW: u64 = 0xfee;
        const LOGICAL: u64 = 1 << 2;
        const REDIRECTION_HINT: u64 = 1 << 3;
        let deassert = data & word::LEVEL != 0 && data & word::ASSERT == 0;
        if address >> 20 != WINDOW || deassert {
            return None;
        }
        let id = (address >> 12 & 0xff) as u8;
        let mut message = Self::new(data, Target::destination(address & LOGICAL != 0, id));
        if address & REDIRECTION_HINT != 0 && message.delivery == Delivery::Fixed {
            message.delivery = Delivery::LowestPriority;
        }
        Some(message)
    }
}
