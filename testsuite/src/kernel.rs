//! Files of small kernels.

/// A 32-bit ELF file of these segments: type, address, contents.
pub fn elf(entry: u32, segments: &[(u32, u32, &[u8])]) -> Vec<u8> {
    const HEADER: usize = 52;
    const PROGRAM_HEADER: usize = 32;
    let mut file = b"\x7FELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 3, 0]);
    let count = segments.len();
    for word in [1, entry, HEADER as u32, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [HEADER, PROGRAM_HEADER, count, 40, 0, 0] {
        file.extend((half as u16).to_le_bytes());
    }
    let mut offset = HEADER + PROGRAM_HEADER * count;
    for (kind, address, bytes) in segments {
        let len = bytes.len() as u32;
        for word in [*kind, offset as u32, *address, *address, len, len, 7, 4] {
            file.extend(word.to_le_bytes());
        }
        offset += bytes.len();
    }
    for (_, _, bytes) in segments {
        file.extend(*bytes);
    }
    file
}

/// A Multiboot header that asks for page-aligned modules and memory information. Multiboot
/// Specification 0.6.96, 3.1.1.
pub fn multiboot_header() -> Vec<u8> {
    let (magic, flags) = (0x1BAD_B002u32, 3u32);
    let sum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let words = [magic, flags, sum];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
