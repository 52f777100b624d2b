//! Whatever a guest writes: no panic, no endless loop, and the state can be saved.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Write(u8, u64, Vec<u8>),
    Read(u8, u64, usize),
    Data(bool, usize),
    Pass(u64),
    Config(usize, u8),
    Save,
}

/// Commands that do something, and any.
fn command() -> impl Strategy<Value = u8> {
    let known = vec![
        0x20u8, 0x24, 0x25, 0x29, 0x30, 0x35, 0x39, 0x90, 0xA0, 0xA1, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA,
        0xEC, 0x08, 0xEF, 0x91,
    ];
    prop_oneof![4 => prop::sample::select(known), 1 => any::<u8>()]
}

fn op() -> impl Strategy<Value = Op> {
    let region = || prop::sample::select(vec![PRIMARY, SECONDARY]);
    let small = || prop_oneof![any::<u8>(), 0..4u8];
    let command = (region(), command()).prop_map(|(region, byte)| Op::Write(region, 7, vec![byte]));
    let register = (region(), 0..8u64, small())
        .prop_map(|(region, at, byte)| Op::Write(region, at, vec![byte]));
    let wide = (any::<u8>(), 0..16u64, any::<[u8; 4]>()).prop_map(|(region, at, data)| {
        let regions = [
            BUS_MASTER,
            PRIMARY,
            PRIMARY_CONTROL,
            SECONDARY,
            SECONDARY_CONTROL,
        ];
        Op::Write(regions[usize::from(region) % 5], at, data.to_vec())
    });
    let master = (0..16u64, small()).prop_map(|(at, byte)| Op::Write(BUS_MASTER, at, vec![byte]));
    let read = (any::<u8>(), any::<u64>(), 1..9usize)
        .prop_map(|(region, at, len)| Op::Read(region % 16, at % 20, len));
    prop_oneof![
        8 => command,
        8 => register,
        2 => wide,
        4 => master,
        4 => read,
        6 => (any::<bool>(), 0..3000usize).prop_map(|(write, words)| Op::Data(write, words)),
        8 => (0..100_000u64).prop_map(Op::Pass),
        1 => (0..256usize, any::<u8>()).prop_map(|(at, byte)| Op::Config(at, byte)),
        1 => Just(Op::Save),
    ]
}

fn cd() -> Option<Drive> {
    Some(Drive::cd_rom(Some(Disk::memory(vec![1; 16 * 2048]))))
}

fn run(rig: &mut Rig, op: Op) {
    match op {
        Op::Write(region, offset, data) => rig.device.write(At { region, offset }, &data),
        Op::Read(region, offset, len) => rig.device.read(At { region, offset }, &mut [0; 8][..len]),
        Op::Data(write, words) => {
            for n in 0..words {
                let at = At {
                    region: PRIMARY,
                    offset: 0,
                };
                if write {
                    rig.device.write(at, &(n as u16).to_le_bytes());
                } else {
                    rig.device.read(at, &mut [0; 2]);
                }
            }
        }
        Op::Pass(ns) => rig.now += ns,
        Op::Config(at, byte) => rig.device.write_config(at, &[byte]),
        Op::Save => rig.through_a_save(),
    }
    if let Some(next) = rig.poll() {
        assert!(next > Duration::from_nanos(rig.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_guest_breaks_it(ops in prop::collection::vec(op(), 0..150), memory: [u8; 64], swap: bool) {
        let disk = Drive::hard_disk(Disk::memory(numbered(600)));
        let mut rig = if swap {
            Rig::new([cd(), Some(disk), None, cd()])
        } else {
            Rig::new([Some(disk), cd(), cd(), None])
        };
        rig.memory.write(0, &memory);
        for op in ops {
            run(&mut rig, op);
        }
        rig.device.reset();
        prop_assert_eq!(rig.poll(), None);
        prop_assert!(!rig.irq());
    }

    #[test]
    fn any_packet_is_answered(packet: [u8; 12], code in any::<u8>(), limit: u16, dma: bool) {
        const KNOWN: [u8; 17] = [
            0, 3, 0x12, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBB, 0xBD, 0xBE,
        ];
        let mut packet = packet;
        packet[0] = KNOWN.get(usize::from(code)).copied().unwrap_or(packet[0]);
        let mut rig = Rig::master(cd());
        let [low, high] = limit.to_le_bytes();
        for _ in 0..2 {
            rig.command([dma.into(), 0, 0, low, high, 0xA0], 0xA0);
            rig.write_data(&packet);
            rig.start_dma(&[(0x2_0000, 0)], true);
            rig.poll();
            for _ in 0..40_000 {
                if rig.alternate() & 0x88 == 0 {
                    break;
                }
                rig.data(2);
                rig.now += LONG;
                rig.poll();
            }
            prop_assert_eq!(rig.alternate() & 0x88, 0);
        }
    }
}
