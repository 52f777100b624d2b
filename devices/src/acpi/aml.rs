//! AML, the byte code of ACPI's definition blocks, encoded.
//!
//! Document: ACPI 6.5, chapter 20 "ACPI Machine Language (AML) Specification"; the encodings used here
//! are those of ACPI 1.0b. An [`Aml`] is a piece of a definition block: a term, a name, a number. Each
//! function is named after the ASL operator it encodes.
//!
//! Names are given as in ASL (`\_SB.PCI0`, `^RES`, `HID`): segments shorter than four characters are filled
//! with `_`.

/// A piece of AML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aml(Vec<u8>);

impl Aml {
    /// The code.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Opcodes, as ACPI names them.
mod op {
    pub(super) const ZERO: u8 = 0x00;
    pub(super) const ONE: u8 = 0x01;
    pub(super) const NAME: u8 = 0x08;
    pub(super) const BYTE: u8 = 0x0A;
    pub(super) const WORD: u8 = 0x0B;
    pub(super) const DWORD: u8 = 0x0C;
    pub(super) const STRING: u8 = 0x0D;
    pub(super) const QWORD: u8 = 0x0E;
    pub(super) const SCOPE: u8 = 0x10;
    pub(super) const BUFFER: u8 = 0x11;
    pub(super) const PACKAGE: u8 = 0x12;
    pub(super) const METHOD: u8 = 0x14;
    pub(super) const DUAL_NAME: u8 = 0x2E;
    pub(super) const MULTI_NAME: u8 = 0x2F;
    pub(super) const EXTENDED: u8 = 0x5B;
    pub(super) const OP_REGION: u8 = 0x80;
    pub(super) const FIELD: u8 = 0x81;
    pub(super) const DEVICE: u8 = 0x82;
    pub(super) const LOCAL0: u8 = 0x60;
    pub(super) const ARG0: u8 = 0x68;
    pub(super) const STORE: u8 = 0x70;
    pub(super) const AND: u8 = 0x7B;
    pub(super) const OR: u8 = 0x7D;
    pub(super) const CREATE_DWORD_FIELD: u8 = 0x8A;
    pub(super) const IF: u8 = 0xA0;
    pub(super) const ELSE: u8 = 0xA1;
    pub(super) const RETURN: u8 = 0xA4;
}

/// Where an operation region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// I/O ports.
    SystemIo = 1,
    /// The configuration space of the PCI function whose device holds the region.
    PciConfig = 2,
}

fn joined(parts: &[Aml]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| part.0.iter().copied())
        .collect()
}

fn coded(opcode: &[u8], parts: &[Aml]) -> Aml {
    let mut code = opcode.to_vec();
    code.extend(joined(parts));
    Aml(code)
}

/// `opcode`, the length of the rest, the rest ("Package Length Encoding").
fn packaged(opcode: &[u8], rest: &[u8]) -> Aml {
    let mut code = opcode.to_vec();
    code.extend(package_length(rest.len()));
    code.extend(rest);
    Aml(code)
}

/// The length counts itself: six bits in one byte, or four and eight for each of up to three more.
fn package_length(rest: usize) -> Vec<u8> {
    let more = match rest {
        ..0x3F => return vec![rest as u8 + 1],
        0x3F..0xFFE => 1,
        0xFFE..0xF_FFFD => 2,
        _ => 3,
    };
    let length = rest + 1 + more;
    let mut bytes = vec![(more << 6) as u8 | (length & 0x0F) as u8];
    bytes.extend((0..more).map(|n| (length >> (4 + 8 * n)) as u8));
    bytes
}

/// A name, to be defined or referred to.
pub fn path(name: &str) -> Aml {
    let bare = name.trim_start_matches(['\\', '^']);
    let mut code = name.as_bytes()[..name.len() - bare.len()].to_vec();
    let segments: Vec<&str> = bare.split('.').filter(|s| !s.is_empty()).collect();
    match segments.len() {
        0 => code.push(op::ZERO),
        1 => {}
        2 => code.push(op::DUAL_NAME),
        count => code.extend([op::MULTI_NAME, count as u8]),
    }
    for segment in segments {
        code.extend(segment.bytes().chain(*b"____").take(4));
    }
    Aml(code)
}

/// A number in its shortest form.
pub fn int(value: u64) -> Aml {
    let bytes = value.to_le_bytes();
    let (opcode, length) = match value {
        0 => (op::ZERO, 0),
        1 => (op::ONE, 0),
        2..=0xFF => (op::BYTE, 1),
        0x100..=0xFFFF => (op::WORD, 2),
        0x1_0000..=0xFFFF_FFFF => (op::DWORD, 4),
        _ => (op::QWORD, 8),
    };
    let mut code = vec![opcode];
    code.extend(&bytes[..length]);
    Aml(code)
}

/// A string.
pub fn string(text: &str) -> Aml {
    let mut code = vec![op::STRING];
    code.extend(text.bytes());
    code.push(0);
    Aml(code)
}

/// A compressed EISA identifier such as `PNP0A03` (ACPI, "EISAID").
pub fn eisa_id(id: &str) -> Aml {
    let letter = |at: usize| u32::from(id.as_bytes()[at] & 0x1F);
    let digits = u32::from_str_radix(&id[3..], 16).unwrap_or_default();
    let vendor = letter(0) << 26 | letter(1) << 21 | letter(2) << 16;
    // The bytes of the identifier stand in the order of the EISA bus.
    let mut code = vec![op::DWORD];
    code.extend((vendor | digits).to_be_bytes());
    Aml(code)
}

/// `Buffer () { bytes }`
pub fn buffer(bytes: &[u8]) -> Aml {
    let mut rest = int(bytes.len() as u64).0;
    rest.extend(bytes);
    packaged(&[op::BUFFER], &rest)
}

/// `Package () { elements }`, of at most 255.
pub fn package(elements: &[Aml]) -> Aml {
    let mut rest = vec![elements.len() as u8];
    rest.extend(joined(elements));
    packaged(&[op::PACKAGE], &rest)
}

/// `Name (path, value)`
pub fn name(name: &str, value: Aml) -> Aml {
    coded(&[op::NAME], &[path(name), value])
}

/// `Scope (path) { body }`
pub fn scope(name: &str, body: &[Aml]) -> Aml {
    let mut rest = path(name).0;
    rest.extend(joined(body));
    packaged(&[op::SCOPE], &rest)
}

/// `Device (path) { body }`
pub fn device(name: &str, body: &[Aml]) -> Aml {
    let mut rest = path(name).0;
    rest.extend(joined(body));
    packaged(&[op::EXTENDED, op::DEVICE], &rest)
}

/// `Method (path, arguments, NotSerialized) { body }`
pub fn method(name: &str, arguments: u8, body: &[Aml]) -> Aml {
    method_with(name, arguments & 7, body)
}

/// `Method (path, arguments, Serialized) { body }`: what a method that makes names must be.
pub fn serialized_method(name: &str, arguments: u8, body: &[Aml]) -> Aml {
    method_with(name, arguments & 7 | 1 << 3, body)
}

fn method_with(name: &str, flags: u8, body: &[Aml]) -> Aml {
    let mut rest = path(name).0;
    rest.push(flags);
    rest.extend(joined(body));
    packaged(&[op::METHOD], &rest)
}

/// `OperationRegion (name, space, offset, length)`
pub fn operation_region(name: &str, space: Space, offset: u64, length: u64) -> Aml {
    let mut code = vec![op::EXTENDED, op::OP_REGION];
    code.extend(path(name).0);
    code.push(space as u8);
    code.extend(int(offset).0);
    code.extend(int(length).0);
    Aml(code)
}

/// `Field (region, ByteAcc, NoLock, Preserve) { fields }`, each of one byte.
pub fn byte_fields(region: &str, fields: &[&str]) -> Aml {
    const BYTE_ACCESS: u8 = 1;
    const BITS: u8 = 8;
    let mut rest = path(region).0;
    rest.push(BYTE_ACCESS);
    for field in fields {
        rest.extend(path(field).0);
        rest.push(BITS);
    }
    packaged(&[op::EXTENDED, op::FIELD], &rest)
}

/// `CreateDWordField (buffer, offset, name)`
pub fn create_dword_field(buffer: Aml, offset: u64, name: &str) -> Aml {
    coded(
        &[op::CREATE_DWORD_FIELD],
        &[buffer, int(offset), path(name)],
    )
}

/// `Local0` to `Local7`
pub fn local(n: u8) -> Aml {
    Aml(vec![op::LOCAL0 + n % 8])
}

/// `Arg0` to `Arg6`
pub fn arg(n: u8) -> Aml {
    Aml(vec![op::ARG0 + n % 7])
}

/// `target = value`
pub fn store(value: Aml, target: Aml) -> Aml {
    coded(&[op::STORE], &[value, target])
}

/// `a & b`
pub fn and(a: Aml, b: Aml) -> Aml {
    coded(&[op::AND], &[a, b, int(0)])
}

/// `target = a | b`
pub fn or_into(a: Aml, b: Aml, target: Aml) -> Aml {
    coded(&[op::OR], &[a, b, target])
}

/// `If (condition) { body }`
pub fn if_(condition: Aml, body: &[Aml]) -> Aml {
    let mut rest = condition.0;
    rest.extend(joined(body));
    packaged(&[op::IF], &rest)
}

/// `Else { body }`, behind an [`if_`].
pub fn else_(body: &[Aml]) -> Aml {
    packaged(&[op::ELSE], &joined(body))
}

/// `Return (value)`
pub fn ret(value: Aml) -> Aml {
    coded(&[op::RETURN], &[value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for (rest, bytes) in [
            (0, vec![0x01]),
            (0x3E, vec![0x3F]),
            (0x3F, vec![0x41, 0x04]),
            (0xFFD, vec![0x4F, 0xFF]),
            (0xFFE, vec![0x81, 0x00, 0x01]),
            (0xF_FFFC, vec![0x8F, 0xFF, 0xFF]),
            (0xF_FFFD, vec![0xC1, 0x00, 0x00, 0x01]),
        ] {
            assert_eq!(package_length(rest), bytes, "{rest:#x}");
        }
    }

    #[test]
    fn names_are_filled_and_counted() {
        assert_eq!(path("A").bytes(), b"A___");
        assert_eq!(path("\\").bytes(), b"\\\0");
        assert_eq!(path("^RES").bytes(), b"^RES_");
        assert_eq!(path("\\_SB.PCI0").bytes(), b"\\\x2E_SB_PCI0");
        assert_eq!(path("\\_SB.PCI0.ISA").bytes(), b"\\\x2F\x03_SB_PCI0ISA_");
    }

    #[test]
    fn numbers_take_their_shortest_form() {
        assert_eq!(int(0).bytes(), [0]);
        assert_eq!(int(1).bytes(), [1]);
        assert_eq!(int(2).bytes(), [0x0A, 2]);
        assert_eq!(int(0x100).bytes(), [0x0B, 0, 1]);
        assert_eq!(int(0x1_0000).bytes(), [0x0C, 0, 0, 1, 0]);
        assert_eq!(int(1 << 32).bytes(), [0x0E, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    /// PNP0A03 is 030AD041h, as every disassembler shows it.
    #[test]
    fn identifiers_are_compressed() {
        assert_eq!(eisa_id("PNP0A03").bytes(), [0x0C, 0x41, 0xD0, 0x0A, 0x03]);
    }

    #[test]
    fn a_method_holds_its_body() {
        let code = method("_STA", 0, &[ret(int(15))]);
        assert_eq!(code.bytes(), b"\x14\x09_STA\0\xA4\x0A\x0F");
        let code = name("B", buffer(&[7, 8]));
        assert_eq!(code.bytes(), b"\x08B___\x11\x05\x0A\x02\x07\x08");
    }
}
