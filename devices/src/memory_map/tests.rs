//! The map against a model that decides one address at a time.

use super::*;
use proptest::prelude::*;

/// What a page should be: block, offset, read-only.
type Page = Option<(&'static str, u64, bool)>;

/// RAM, BIOS and option ROMs of a machine, and how to ask for one page of it.
struct Model {
    ram: u64,
    bios: u64,
    shape: Shape,
}

impl Model {
    fn blocks(&self) -> Blocks {
        let image = vec![0xB1; self.bios as usize];
        Blocks::new(self.ram, &image).expect("legal sizes")
    }

    /// The nibble that governs an address from C0000h to FFFFFh.
    fn pam(&self, a: u64) -> u8 {
        let nibble = match a {
            0xF_0000..=0xF_FFFF => self.shape.pam[0] >> 4,
            _ => {
                let index = (a - 0xC_0000) / 0x4000;
                self.shape.pam[1 + index as usize / 2] >> (4 * (index % 2))
            }
        };
        nibble & 3
    }

    fn rom(&self, a: u64) -> Page {
        let back = 0x10_0000 - a;
        match a {
            0xC_0000..=0xD_FFFF => Some(("pc.rom", a - 0xC_0000, true)),
            _ if back <= self.bios => Some(("pc.bios", self.bios - back, true)),
            _ => None,
        }
    }

    /// `smram`: whether A0000h-BFFFFh is RAM.
    fn page(&self, a: u64, smram: bool) -> Page {
        let (low, high) = match self.ram {
            ram if ram < 0xE000_0000 => (ram, 0),
            ram => (0xC000_0000, ram - 0xC000_0000),
        };
        match a {
            0xA_0000..=0xB_FFFF => smram.then_some(("pc.ram", a, false)),
            0xC_0000..=0xF_FFFF => match self.pam(a) {
                3 => Some(("pc.ram", a, false)),
                1 => Some(("pc.ram", a, true)),
                _ => self.rom(a),
            },
            _ if a < low => Some(("pc.ram", a, false)),
            _ if a >> 32 == 0 => (0x1_0000_0000 - a <= self.bios)
                .then(|| ("pc.bios", self.bios - (0x1_0000_0000 - a), true)),
            _ => (a - 0x1_0000_0000 < high).then(|| ("pc.ram", low + a - 0x1_0000_0000, false)),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = u64> {
        let around = [
            0x20_0000,
            self.ram,
            0xC000_0000,
            0xE000_0000,
            0xFEE0_0000,
            0x1_0000_0000 - self.bios,
            0x1_0000_0000,
            0x4000_0000 + self.ram,
        ];
        let edges = around
            .into_iter()
            .flat_map(|a| [a - 0x1000, a - 1, a, a + 0xFFF]);
        (0..0x20_0000).step_by(0x800).chain(edges).chain([u64::MAX])
    }
}

fn page(view: &View, a: u64) -> Page {
    let range = view.find(a)?;
    let Target::Block {
        block,
        offset,
        read_only,
        ..
    } = &range.target
    else {
        return None;
    };
    Some((block.name(), offset + (a - range.first), *read_only))
}

fn is_sound(view: &View) -> bool {
    let ranges = view.ranges();
    let pages =
        |r: &Range| r.first <= r.last && r.first.is_multiple_of(0x1000) && r.last % 0x1000 == 0xFFF;
    let inside = |r: &Range| match &r.target {
        Target::Block { block, offset, .. } => offset + (r.last - r.first) < block.size(),
        Target::Msi => true,
    };
    ranges.iter().all(|r| pages(r) && inside(r))
        && ranges
            .windows(2)
            .all(|w| w[0].last < w[1].first && !w[0].continues_in(&w[1]))
}

fn sizes() -> impl Strategy<Value = (u64, u64)> {
    let ram = prop::sample::select(vec![
        MIB,
        MIB + PAGE_SIZE,
        128 * MIB,
        3 * GIB,
        LOW_RAM_LIMIT,
        LOW_RAM_LIMIT - MIB,
        LOW_RAM_LIMIT + MIB,
        6 * GIB,
    ]);
    let bios = prop::sample::select(vec![64 * KIB, 128 * KIB, 192 * KIB, 256 * KIB]);
    (ram, bios)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_view_agrees_with_the_model((ram, bios) in sizes(), pam: [u8; 7], smram: u8) {
        let model = Model { ram, bios, shape: Shape { pam, smram } };
        let shared = SharedShape::default();
        shared.set(model.shape);
        prop_assert_eq!(shared.get(), model.shape);
        let blocks = model.blocks();
        let map = MemoryMap::new(&blocks, &model.shape, Vec::new());
        for view in [map.cpu(), map.smm(), map.bus_master(), map.shadow_writes()] {
            prop_assert!(is_sound(view), "{:x?}", view);
        }
        let enabled = smram & 8 != 0;
        let open = enabled && smram & 0x50 == 0x40;
        for a in model.addresses() {
            prop_assert_eq!(page(map.cpu(), a), model.page(a, open), "cpu {:#x}", a);
            prop_assert_eq!(page(map.smm(), a), model.page(a, enabled), "smm {:#x}", a);
            prop_assert_eq!(page(map.bus_master(), a), model.page(a, false), "dma {:#x}", a);
            let msi = matches!(map.bus_master().find(a), Some(Range { target: Target::Msi, .. }));
            prop_assert_eq!(msi, a >> 20 == 0xFEE);
            let shadow = (0xC_0000..0x10_0000).contains(&a) && model.pam(a) == 2;
            let want = shadow.then_some(("pc.ram", a, false));
            prop_assert_eq!(page(map.shadow_writes(), a), want, "shadow {:#x}", a);
        }
    }

    #[test]
    fn a_shut_a20_gate_aliases_the_second_megabyte((ram, bios) in sizes(), pam: [u8; 7]) {
        let model = Model { ram, bios, shape: Shape { pam, smram: 0 } };
        let blocks = model.blocks();
        let view = MemoryMap::new(&blocks, &model.shape, Vec::new()).cpu().without_a20();
        prop_assert!(is_sound(&view), "{:x?}", view);
        for a in model.addresses() {
            let masked = if a >> 20 == 1 { a & !MIB } else { a };
            prop_assert_eq!(page(&view, a), model.page(masked, false), "{:#x}", a);
        }
    }

    /// Accesses across ranges take each byte from where the model says.
    #[test]
    fn accesses_may_cross_ranges(pam: [u8; 7], start in 0x9_F000u64..0x10_1000, len in 0usize..0x9000) {
        let model = Model { ram: 2 * MIB, bios: 64 * KIB, shape: Shape { pam, smram: 0 } };
        let blocks = model.blocks();
        let map = MemoryMap::new(&blocks, &model.shape, Vec::new());
        map.bus_master().write(start, &vec![0x77; len]);
        let mut data = vec![0; len];
        map.bus_master().read(start, &mut data);
        for (a, byte) in (start..).zip(data) {
            let want = match model.page(a, false) {
                None => FLOAT,
                Some(("pc.bios", ..)) => 0xB1,
                Some((_, _, true)) => 0,
                Some(_) => 0x77,
            };
            prop_assert_eq!(byte, want, "{:#x}", a);
        }
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let image = vec![0; 0x1_0000];
    for ram in [0, MIB - PAGE_SIZE, MIB + 1, MAX_RAM + PAGE_SIZE, u64::MAX] {
        assert!(matches!(
            Blocks::new(ram, &image),
            Err(MapError::Ram { .. })
        ));
    }
    for bios in [0, 1, 0xFFFF, 0x1_0001, (MAX_BIOS + BIOS_UNIT) as usize] {
        let refused = Blocks::new(MIB, &vec![0; bios]);
        assert!(matches!(refused, Err(MapError::Bios { .. })));
    }
}

#[test]
fn six_gib_are_laid_out_as_the_reference_does() {
    assert_eq!(ram_split(6 * GIB), (0xC000_0000, 0xC000_0000));
    let blocks = Blocks::new(6 * GIB, &vec![0; 0x4_0000]).expect("6 GiB");
    let map = MemoryMap::new(&blocks, &Shape::default(), Vec::new());
    let high = map.cpu().find(0x1_0000_0000).expect("RAM");
    assert_eq!((high.first, high.last), (0x1_0000_0000, 0x1_BFFF_FFFF));
    let reset = map.cpu().find(0xFFFF_FFF0).expect("BIOS");
    assert_eq!(reset.first, 0xFFFC_0000);
}

#[test]
fn reads_at_the_end_of_the_space_do_not_wrap() {
    let blocks = Blocks::new(MIB, &vec![0; 0x1_0000]).expect("1 MiB");
    let map = MemoryMap::new(&blocks, &Shape::default(), Vec::new());
    let mut data = [0; 16];
    map.bus_master().read(u64::MAX - 3, &mut data);
    assert_eq!(data, [FLOAT; 16]);
    map.bus_master().write(u64::MAX - 3, &data);
}

#[test]
fn memory_behind_a_bar_lies_under_everything_else() {
    let model = Model {
        ram: 16 * MIB,
        bios: 0x4_0000,
        shape: Shape::default(),
    };
    let blocks = model.blocks();
    let vram = Arc::new(Block::new("vram", 16 * MIB).unwrap());
    let bar = |first| Range {
        first,
        last: first + 16 * MIB - 1,
        target: target(&vram, 0, false),
    };
    let map = MemoryMap::new(&blocks, &model.shape, vec![bar(0xFD00_0000)]);
    assert_eq!(
        page(map.cpu(), 0xFDFF_F000),
        Some(("vram", 0xFF_F000, false))
    );
    let map = MemoryMap::new(&blocks, &model.shape, vec![bar(8 * MIB)]);
    assert_eq!(page(map.cpu(), 8 * MIB), Some(("pc.ram", 8 * MIB, false)));
    assert_eq!(page(map.cpu(), 16 * MIB), Some(("vram", 8 * MIB, false)));
}
