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

/// A 64-bit ELF file with nothing but symbols, all of them in one section: for a debugger.
pub fn symbols(symbols: &[(String, u64)]) -> Vec<u8> {
    const HEADER: usize = 64;
    const SECTION: usize = 64;
    let mut names = b"\0.text\0.symtab\0.strtab\0".to_vec();
    let mut table = vec![0; 24];
    for (name, address) in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        // Global, a function, in section 1.
        table.extend([0x12, 0, 1, 0]);
        table.extend(address.to_le_bytes());
        table.extend(0u64.to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
    }
    let addresses = symbols.iter().map(|(_, address)| *address);
    let first = addresses.clone().min().unwrap_or_default();
    let last = addresses.max().unwrap_or_default();
    let (table_at, names_at) = (HEADER, HEADER + table.len());
    let sections_at = names_at + names.len();
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // An executable for x86-64.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [first, 0, sections_at as u64] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [HEADER, 0, 0, SECTION, 4, 3] {
        file.extend((half as u16).to_le_bytes());
    }
    file.extend(table);
    file.extend(names.iter());
    let len = last - first + 1;
    let at = |offset: usize, len: usize| [offset as u64, len as u64];
    // Name, type, link, info, entry size; flags and address; offset and size.
    let sections: [([u32; 5], [u64; 2], [u64; 2]); 4] = [
        ([0; 5], [0; 2], [0; 2]),
        ([1, 8, 0, 0, 0], [7, first], [HEADER as u64, len]),
        ([7, 2, 3, 1, 24], [0; 2], at(table_at, names_at - table_at)),
        ([15, 3, 0, 0, 0], [0; 2], at(names_at, names.len())),
    ];
    for ([name, kind, link, info, entry], place, bytes) in sections {
        for word in [name, kind] {
            file.extend(word.to_le_bytes());
        }
        for word in [place, bytes].concat() {
            file.extend(word.to_le_bytes());
        }
        for word in [link, info, 1, 0, entry, 0] {
            file.extend(word.to_le_bytes());
        }
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
