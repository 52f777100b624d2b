//! Against a model that goes plane by plane and bit by bit.

use super::*;
use proptest::prelude::*;

const SPAN: u64 = 64;

/// The registers as the model reads them.
#[derive(Clone, Copy, Debug, Default)]
struct Setup {
    map_mask: u8,
    chain_4: bool,
    odd_even: bool,
    set_reset: u8,
    enable: u8,
    compare: u8,
    rotate: u8,
    function: u8,
    read_map: u8,
    write_mode: u8,
    read_compare: bool,
    dont_care: u8,
    bit_mask: u8,
}

impl Setup {
    fn write_to(&self, planar: &mut Planar) {
        let mut sequencer = |index, value| {
            planar.sequencer.select(index);
            planar.sequencer.write(value);
        };
        sequencer(MAP_MASK, self.map_mask);
        sequencer(MEMORY_MODE, u8::from(self.chain_4) << 3);
        let mode =
            self.write_mode | u8::from(self.read_compare) << 3 | u8::from(self.odd_even) << 4;
        let rows = [
            (SET_RESET, self.set_reset),
            (ENABLE_SET_RESET, self.enable),
            (COLOR_COMPARE, self.compare),
            (ROTATE, self.rotate | self.function << 3),
            (READ_MAP, self.read_map),
            (MODE, mode),
            (MISC, 0x04),
            (DONT_CARE, self.dont_care),
            (BIT_MASK, self.bit_mask),
        ];
        for (index, value) in rows {
            planar.graphics.select(index);
            planar.graphics.write(value);
        }
    }
}

prop_compose! {
    fn setup()(
        sequencer: [bool; 2],
        fours in prop::array::uniform6(0u8..16),
        twos in prop::array::uniform3(0u8..4),
        rotate in 0u8..8,
        read_compare: bool,
        bit_mask: u8,
    ) -> Setup {
        Setup {
            // One window in four is chained, one is odd/even.
            chain_4: sequencer == [true, false],
            odd_even: sequencer == [false, true],
            map_mask: fours[0] | fours[5],
            set_reset: fours[1],
            enable: fours[2],
            compare: fours[3],
            dont_care: fours[4],
            function: twos[0],
            read_map: twos[1],
            write_mode: twos[2],
            rotate,
            read_compare,
            bit_mask,
        }
    }
}

/// Four planes and four latches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    planes: [[u8; SPAN as usize]; 4],
    latches: [u8; 4],
}

fn bit(byte: u8, at: usize) -> bool {
    byte >> at & 1 != 0
}

impl Model {
    fn read(&mut self, s: &Setup, at: usize) -> u8 {
        if s.chain_4 {
            return self.planes[at % 4][at / 4];
        }
        if s.odd_even {
            return self.planes[usize::from(s.read_map & 2) + at % 2][at / 2];
        }
        self.latches = [0, 1, 2, 3].map(|plane: usize| self.planes[plane][at]);
        if !s.read_compare {
            return self.latches[usize::from(s.read_map)];
        }
        (0..8).fold(0, |byte, position| {
            let matches = (0..4).all(|plane| {
                let wanted = bit(s.compare, plane);
                !bit(s.dont_care, plane) || bit(self.latches[plane], position) == wanted
            });
            byte | u8::from(matches) << position
        })
    }

    fn write(&mut self, s: &Setup, at: usize, byte: u8) {
        let mut put = |plane: usize, at: usize, byte: u8| {
            if bit(s.map_mask, plane) {
                self.planes[plane][at] = byte;
            }
        };
        if s.chain_4 {
            return put(at % 4, at / 4, byte);
        }
        if s.odd_even {
            return put(usize::from(s.read_map & 2) + at % 2, at / 2, byte);
        }
        let latches = self.latches;
        for (plane, latch) in latches.into_iter().enumerate() {
            let result = (0..8).fold(0, |result, position| {
                let old = bit(latch, position);
                u8::from(Self::bit_written(s, plane, position, byte, old)) << position | result
            });
            put(plane, at, result);
        }
    }

    /// One bit of one plane, from what the latch has of it.
    fn bit_written(s: &Setup, plane: usize, position: usize, byte: u8, latch: bool) -> bool {
        let rotated = bit(byte, (position + usize::from(s.rotate)) % 8);
        let set = bit(s.set_reset, plane);
        let (source, masked) = match s.write_mode {
            0 if bit(s.enable, plane) => (set, bit(s.bit_mask, position)),
            0 => (rotated, bit(s.bit_mask, position)),
            1 => return latch,
            2 => (bit(byte, plane), bit(s.bit_mask, position)),
            _ => (set, bit(s.bit_mask, position) && rotated),
        };
        let combined = match s.function {
            0 => source,
            1 => source && latch,
            2 => source || latch,
            _ => source != latch,
        };
        if masked { combined } else { latch }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Setup(Setup),
    Read { at: u64, width: usize },
    Write { at: u64, data: Vec<u8> },
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..SPAN / 8, prop::sample::select(vec![1usize, 2, 4, 8]));
    let read = place().prop_map(|(at, width)| Op::Read { at: at * 8, width });
    let write = (place(), any::<[u8; 8]>()).prop_map(|((at, width), data)| Op::Write {
        at: at * 8 + u64::from(data[7]) % (8 / width as u64) * width as u64,
        data: data[..width].to_vec(),
    });
    prop_oneof![1 => setup().prop_map(Op::Setup), 2 => read, 4 => write]
}

fn vram() -> Block {
    Block::new("vram", 0x10_0000).unwrap()
}

fn planes_of(vram: &Block) -> [[u8; SPAN as usize]; 4] {
    let mut bytes = [0; 4 * SPAN as usize];
    vram.read(0, &mut bytes).unwrap();
    std::array::from_fn(|plane| std::array::from_fn(|at| bytes[4 * at + plane]))
}

proptest! {
    #[test]
    fn every_mode_is_the_models(ops in prop::collection::vec(op(), 1..60)) {
        let (mut planar, vram) = (Planar::new(), vram());
        let mut model = Model { planes: [[0; SPAN as usize]; 4], latches: [0; 4] };
        let mut setup = Setup::default();
        setup.write_to(&mut planar);
        for op in ops {
            match op {
                Op::Setup(new) => {
                    setup = new;
                    setup.write_to(&mut planar);
                }
                Op::Read { at, width } => {
                    let mut data = [0xFF; 8];
                    planar.read(&vram, Banking::default(), at, &mut data[..width]);
                    for (i, byte) in data[..width].iter().enumerate() {
                        prop_assert_eq!(*byte, model.read(&setup, at as usize + i));
                    }
                }
                Op::Write { at, data } => {
                    planar.write(&vram, Banking::default(), at, &data);
                    for (i, byte) in data.iter().enumerate() {
                        model.write(&setup, at as usize + i, *byte);
                    }
                }
            }
            prop_assert_eq!(planar.latches.to_le_bytes(), model.latches);
        }
        prop_assert_eq!(planes_of(&vram), model.planes);
    }

    #[test]
    fn wide_accesses_are_their_bytes(
        setup in setup(), misc in 0u8..16, bank in 0u64..4, window in 0u8..3, offset in 0u64..0x2_0000,
        data: [u8; 8], width in prop::sample::select(vec![1usize, 2, 4, 8]),
    ) {
        let bank = Banking {
            offset: bank << 16,
            window: [Window::Registers, Window::Planes, Window::Linear][usize::from(window)],
        };
        let offset = offset / width as u64 * width as u64;
        let (mut a, mut b, wide, narrow) = (Planar::new(), Planar::new(), vram(), vram());
        for planar in [&mut a, &mut b] {
            setup.write_to(planar);
            planar.graphics.select(MISC);
            planar.graphics.write(misc);
        }
        a.write(&wide, bank, offset, &data[..width]);
        for (i, byte) in (0..).zip(&data[..width]) {
            b.write(&narrow, bank, offset + i, &[*byte]);
        }
        let all = |vram: &Block| {
            let mut bytes = vec![0; vram.size() as usize];
            vram.read(0, &mut bytes).unwrap();
            bytes
        };
        prop_assert!(all(&wide) == all(&narrow));
        let (mut x, mut y) = ([0xFF; 8], [0xFF; 8]);
        a.read(&wide, bank, offset, &mut x[..width]);
        for (i, byte) in (0..).zip(&mut y[..width]) {
            b.read(&narrow, bank, offset + i, std::slice::from_mut(byte));
        }
        prop_assert_eq!(x, y);
        prop_assert_eq!(a.latches, b.latches);
    }
}

/// The windows of the memory map select, each with an offset inside and one outside.
#[test]
fn the_window_is_where_the_registers_say() {
    let vram = vram();
    for (misc, inside, outside) in [
        (0x00, 0x0_0000, None),
        (0x04, 0x0_FFFF, Some(0x1_0000)),
        (0x08, 0x1_7FFF, Some(0x1_8000)),
        (0x0C, 0x1_8000, Some(0x1_7FFF)),
    ] {
        let mut planar = Planar::new();
        let setup = Setup {
            map_mask: 0x0F,
            bit_mask: 0xFF,
            ..Setup::default()
        };
        setup.write_to(&mut planar);
        planar.graphics.select(MISC);
        planar.graphics.write(misc);
        let mut read = |offset| {
            planar.write(&vram, Banking::default(), offset, &[0x5A]);
            let mut byte = [0xFF];
            planar.read(&vram, Banking::default(), offset, &mut byte);
            byte[0]
        };
        assert_eq!(read(inside), 0x5A, "{misc:#x}");
        assert_eq!(outside.map_or(0xFF, read), 0xFF, "{misc:#x}");
    }
}
