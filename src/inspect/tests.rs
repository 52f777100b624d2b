use devices::memory_map::{Blocks, Shape};

use super::*;

const RAM: u64 = 32 << 20;
/// Entry: present, writable, for the user.
const P: u64 = 1;
const PW: u64 = 3;
const PU: u64 = 5;
const PWU: u64 = 7;
const PS: u64 = 1 << 7;

fn map() -> Arc<MemoryMap> {
    let blocks = Blocks::new(RAM, &[0xBB; 0x1_0000]).expect("blocks");
    Arc::new(MemoryMap::new(&blocks, &Shape::default(), Vec::new()))
}

fn put(map: &MemoryMap, address: u64, entry: u64, width: usize) {
    map.cpu().write(address, &entry.to_le_bytes()[..width]);
}

fn protected(cr3: u64, cr4: Cr4, efer: Efer) -> CpuState {
    let mut state = CpuState::reset(0);
    state.cr0 |= Cr0::PE | Cr0::PG;
    (state.cr3, state.cr4, state.efer) = (cr3, cr4, efer);
    state
}

/// First linear and physical address, size, and whether writable, user and not executable.
type Row = (u64, u64, u64, [bool; 3]);

fn row(page: Page) -> Row {
    let has = |bit: u32| page.rights >> bit & 1 != 0;
    let rights = [has(1), has(2), has(63)];
    (page.linear, page.physical, page.size, rights)
}

fn rows(memory: &Memory) -> Vec<Row> {
    let mut rows = Vec::new();
    let whole = memory.pages(|page| {
        rows.push(row(page));
        true
    });
    assert!(whole);
    for (linear, physical, size, rights) in &rows {
        for offset in [0, 1, size / 2, size - 1] {
            let found = memory.page(linear + offset).map(row);
            assert_eq!(found, Some((*linear, *physical, *size, *rights)));
            assert_eq!(memory.translate(linear + offset), Some(physical + offset));
        }
    }
    rows
}

#[test]
fn without_paging_every_address_is_its_own() {
    let state = CpuState::reset(0);
    let memory = Memory::new(map(), &state);
    assert!(!memory.paged());
    assert_eq!(memory.translate(0x1234), Some(0x1234));
    assert_eq!(memory.translate(0xFFFF_FFFF), Some(0xFFFF_FFFF));
    assert_eq!(memory.translate(1 << 32), None);
    let mut data = [0; 4];
    assert_eq!(memory.read(0xFFFF_FFF0, &mut data), 4);
    assert_eq!(data, [0xBB; 4]);
}

#[test]
fn two_levels_with_large_pages() {
    let map = map();
    put(&map, 0x1000, 0x2000 | PU, 4);
    put(&map, 0x1000 + 4, 0x40_0000 | PWU | PS, 4);
    // PSE-36: bits 20:13 are address bits 39:32.
    put(&map, 0x1000 + 4 * 1023, 0x80_0000 | 1 << 13 | PW | PS, 4);
    put(&map, 0x2000 + 4 * 5, 0x7000 | PWU, 4);
    put(&map, 0x2000 + 4 * 6, 0x8000, 4);
    let memory = Memory::new(
        Arc::clone(&map),
        &protected(0x1018, Cr4::PSE, Efer::empty()),
    );
    assert_eq!(
        rows(&memory),
        [
            (0x5000, 0x7000, 0x1000, [false, true, false]),
            (0x40_0000, 0x40_0000, 4 << 20, [true, true, false]),
            (0xFFC0_0000, 0x1_0080_0000, 4 << 20, [true, false, false]),
        ]
    );
    assert_eq!(
        (memory.page(0x6000), memory.page(0x1_0000_5000)),
        (None, None)
    );
    // Without PSE the bit means nothing: the entry leads to a table.
    put(&map, 0x40_0000 + 4, 0x9000 | PW, 4);
    let small = Memory::new(map, &protected(0x1000, Cr4::empty(), Efer::empty()));
    let page = small.page(0x40_1234).map(row);
    assert_eq!(
        page,
        Some((0x40_1000, 0x9000, 0x1000, [true, false, false]))
    );
}

#[test]
fn pae_takes_its_first_level_from_registers() {
    let map = map();
    let mut state = protected(0x1020, Cr4::PAE, Efer::NXE);
    // What lies in memory is not what was loaded.
    put(&map, 0x1020, 0xFFF000 | P, 8);
    state.pdpte = [0x2000 | P, 0, 0, 0x3000 | P];
    put(&map, 0x2000, 0x4000 | PWU, 8);
    put(&map, 0x2000 + 8, 0x60_0000 | PU | PS, 8);
    put(&map, 0x4000 + 8 * 511, 0x5000 | PW | NO_EXECUTE, 8);
    put(
        &map,
        0x3000 + 8 * 511,
        0x12_0020_0000 | PW | PS | NO_EXECUTE,
        8,
    );
    let memory = Memory::new(map, &state);
    assert_eq!(
        rows(&memory),
        [
            (0x1F_F000, 0x5000, 0x1000, [true, false, true]),
            (0x20_0000, 0x60_0000, 2 << 20, [false, true, false]),
            (0xFFE0_0000, 0x12_0020_0000, 2 << 20, [true, false, true]),
        ]
    );
    assert_eq!(memory.translate(0x4000_0000), None);
}

fn long(cr3: u64) -> CpuState {
    let efer = Efer::LME | Efer::LMA | Efer::NXE;
    protected(cr3, Cr4::PAE, efer)
}

#[test]
fn four_levels() {
    let map = map();
    put(&map, 0x1000, 0x2000 | PWU, 8);
    put(&map, 0x1000 + 8 * 511, 0x3000 | PW, 8);
    put(&map, 0x2000, 0x4000 | PWU, 8);
    put(&map, 0x2000 + 8, 0xC000_0000 | PWU | PS, 8);
    put(&map, 0x4000, 0x5000 | PU | NO_EXECUTE, 8);
    put(&map, 0x4000 + 8 * 2, 0x80_0000 | PWU | PS, 8);
    put(&map, 0x5000 + 8 * 16, 0x6000 | PWU, 8);
    put(&map, 0x3000 + 8 * 510, 0x7000 | PWU, 8);
    put(&map, 0x7000, 0x100_0000 | PWU | PS, 8);
    let memory = Memory::new(map, &long(0x1018));
    assert_eq!(
        rows(&memory),
        [
            (0x1_0000, 0x6000, 0x1000, [false, true, true]),
            (0x40_0000, 0x80_0000, 2 << 20, [true, true, false]),
            (0x4000_0000, 0xC000_0000, 1 << 30, [true, true, false]),
            (
                0xFFFF_FFFF_8000_0000,
                0x100_0000,
                2 << 20,
                [true, false, false]
            ),
        ]
    );
    // The same bits, but no canonical address.
    assert_eq!(memory.translate(0x0000_FFFF_8000_0000), None);
    assert_eq!(memory.translate(0xFFFF_0000_0001_0000), None);
}

#[test]
fn reads_and_writes_end_where_memory_does() {
    let map = map();
    put(&map, 0x1000, 0x2000 | PWU, 4);
    put(&map, 0x2000, 0x9000 | P, 4);
    put(&map, 0x2000 + 4, 0x7000 | P, 4);
    // The interrupt controller's page is no memory, nor is anything beyond.
    put(&map, 0x2000 + 4 * 2, 0xFEC0_0000 | PW, 4);
    put(&map, 0x2000 + 4 * 4, 0x9000 | P, 4);
    let memory = Memory::new(
        Arc::clone(&map),
        &protected(0x1000, Cr4::empty(), Efer::empty()),
    );
    assert_eq!(memory.write(0xFFE, &[1, 2, 3, 4]), 4);
    let mut data = [0; 2];
    map.cpu().read(0x7000, &mut data);
    assert_eq!(data, [3, 4]);
    let mut data = [0; 8];
    assert_eq!(memory.read(0xFFE, &mut data), 8);
    assert_eq!(data[..4], [1, 2, 3, 4]);
    assert_eq!(memory.read(0x1FFC, &mut data), 4);
    assert_eq!(memory.read(0x2000, &mut data), 0);
    assert_eq!(memory.write(0x2000, &data), 0);
    assert_eq!(memory.read(0x3000, &mut data), 0);
}

#[test]
fn the_a20_gate_masks_table_and_page() {
    let map = map();
    put(&map, 0x1000, 0x10_2000 | P, 4);
    put(&map, 0x2000, 0x10_7000 | P, 4);
    map.cpu().write(0x7000, b"low");
    let state = protected(0x10_1000, Cr4::empty(), Efer::empty());
    let mut data = [0; 3];
    let memory = Memory::new(Arc::clone(&map), &state);
    assert_eq!(memory.read(0, &mut data), 0);
    assert_eq!(memory.with_a20(false).read(0, &mut data), 3);
    assert_eq!(&data, b"low");
}

#[test]
fn tables_that_lead_to_each_other_do_not_hold_the_walk() {
    let map = map();
    // Every entry of the first three levels leads to a table, the last ones are empty.
    for index in 0..512 {
        for table in [0x1000, 0x2000, 0x3000] {
            put(&map, table + 8 * index, (table + 0x1000) | P, 8);
        }
    }
    let memory = Memory::new(Arc::clone(&map), &long(0x1000));
    assert!(!memory.pages(|_| true));
    // A table that leads to itself at each level.
    for index in 0..512 {
        put(&map, 0x1000 + 8 * index, 0x1000 | P, 8);
    }
    let mut count = 0;
    let whole = Memory::new(map, &long(0x1000)).pages(|_| {
        count += 1;
        count < 1000
    });
    assert_eq!((whole, count), (false, 1000));
}

#[test]
fn tables_in_no_memory_map_nothing() {
    for root in [0xFEE0_0000, RAM, 0xF_FFFF_FFFF_F000] {
        let memory = Memory::new(map(), &long(root));
        assert_eq!(rows(&memory), []);
        assert_eq!(memory.translate(0), None);
    }
}
