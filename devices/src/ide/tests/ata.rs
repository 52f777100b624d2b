use super::*;

/// Text out of IDENTIFY's words.
fn text(words: &[u8]) -> String {
    let bytes = words.chunks(2).flat_map(|word| [word[1], word[0]]);
    String::from_utf8(bytes.collect())
        .unwrap()
        .trim()
        .to_owned()
}

fn identify(rig: &mut Rig) -> Vec<u8> {
    rig.outb(7, 0xEC);
    rig.wait();
    assert_eq!(rig.inb(7), 0x58);
    let data = rig.data(512);
    assert_eq!(rig.inb(7), 0x50);
    data
}

fn word(data: &[u8], n: usize) -> u16 {
    u16::from_le_bytes([data[2 * n], data[2 * n + 1]])
}

#[test]
fn identify_device() {
    let mut rig = Rig::master(hard_disk(4096));
    let data = identify(&mut rig);
    assert_eq!(text(&data[54..94]), "TWIN86 HARDDISK");
    assert_eq!(text(&data[20..40]), "TW00001");
    assert_eq!([1, 3, 6].map(|n| word(&data, n)), [4, 16, 63]);
    assert_eq!(
        [47, 59, 60, 61, 88].map(|n| word(&data, n)),
        [0x8010, 0x0110, 4096, 0, 0x203F]
    );
    assert_eq!(
        [100, 101, 102, 103].map(|n| word(&data, n)),
        [4096, 0, 0, 0]
    );
    rig.command([3, 0x22, 0, 0, 0, 0xA0], 0xEF);
    rig.wait();
    assert_eq!(rig.inb(7), 0x50);
    let data = identify(&mut rig);
    assert_eq!([63, 88].map(|n| word(&data, n)), [0x0407, 0x003F]);
    rig.command([3, 0x46, 0, 0, 0, 0xA0], 0xEF);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 4), "there is no such mode");
}

#[test]
fn a_users_serial_number() {
    let disk = Disk::memory(vec![0; 512]);
    let drive = Drive::hard_disk(disk).with_serial("a serial number that is too long\n");
    let mut rig = Rig::master(Some(drive));
    assert_eq!(text(&identify(&mut rig)[20..40]), "a serial number that");
}

#[test]
fn read_sectors() {
    let mut rig = Rig::master(hard_disk(16));
    rig.command([0, 2, 5, 0, 0, 0xE0], 0x20);
    assert_eq!((rig.alternate() & 0x80, rig.irq()), (0x80, false));
    for sector in [5, 6] {
        rig.wait();
        assert!(rig.irq());
        assert_eq!(rig.alternate(), 0x58);
        assert!(rig.irq(), "the alternate status leaves it");
        assert_eq!((rig.inb(7), rig.irq()), (0x58, false));
        rig.through_a_save();
        assert_eq!(rig.data(512), [sector; 512]);
    }
    assert_eq!((rig.inb(7), rig.inb(2), rig.inb(3)), (0x50, 0, 6));
    assert_eq!(rig.poll(), None);
}

#[test]
fn a_command_takes_the_interrupt_back_even_if_it_is_not_run() {
    let mut rig = Rig::master(hard_disk(16));
    rig.command([0, 1, 5, 0, 0, 0xE0], 0x20);
    rig.wait();
    assert_eq!((rig.irq(), rig.alternate()), (true, 0x58));
    rig.outb(7, 0xEC);
    assert_eq!((rig.irq(), rig.alternate()), (false, 0x58), "data wait");
    assert_eq!(rig.data(512), [5; 512]);
}

#[test]
fn no_interrupts_while_they_are_off() {
    let mut rig = Rig::master(hard_disk(16));
    rig.control(2);
    rig.command([0, 1, 5, 0, 0, 0xE0], 0x20);
    rig.wait();
    assert!(!rig.irq());
    rig.control(0);
    assert!(rig.irq());
    rig.outb(6, 0xF0);
    assert!(rig.irq(), "a drive that moves data hears no selection");
    rig.data(512);
    rig.outb(6, 0xF0);
    assert!(!rig.irq(), "the other drive is selected");
}

#[test]
fn cylinders_heads_and_sectors() {
    let mut rig = Rig::master(hard_disk(4096));
    // 2 heads, 8 sectors.
    rig.command([0, 8, 0, 0, 0, 0xA1], 0x91);
    rig.wait();
    // Cylinder 3, head 1, sector 2 is 3 * 16 + 8 + 1.
    rig.command([0, 1, 2, 3, 0, 0xA1], 0x20);
    rig.wait();
    assert_eq!(rig.data(512), [57; 512]);
    assert_eq!([3, 4, 5, 6].map(|n| rig.inb(n)), [2, 3, 0, 0xA1]);
    for bad in [
        [0, 1, 0, 0, 0, 0xA0],
        [0, 1, 9, 0, 0, 0xA0],
        [0, 1, 1, 0, 0, 0xA2],
    ] {
        rig.command(bad, 0x20);
        rig.wait();
        assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 0x14));
    }
}

#[test]
fn write_and_read_multiple() {
    let mut rig = Rig::master(hard_disk(64));
    rig.command([0, 4, 0, 0, 0, 0xA0], 0xC6);
    rig.wait();
    let data: Vec<u8> = (0..6 * 512).map(|n| (n % 251) as u8).collect();
    rig.command([0, 6, 10, 0, 0, 0xE0], 0xC5);
    assert_eq!(
        (rig.inb(7), rig.irq()),
        (0x58, false),
        "no interrupt before the first block"
    );
    rig.write_data(&data[..2048]);
    rig.through_a_save();
    rig.wait();
    assert_eq!((rig.irq(), rig.inb(7)), (true, 0x58));
    rig.write_data(&data[2048..]);
    rig.wait();
    assert_eq!((rig.irq(), rig.inb(7)), (true, 0x50));
    rig.command([0, 6, 10, 0, 0, 0xE0], 0xC4);
    rig.wait();
    let mut back = rig.data(2048);
    rig.wait();
    back.extend(rig.data(1024));
    assert!(back == data);
    for (count, command, status) in [(3, 0xC6, 0x51), (0, 0xC6, 0x50), (1, 0xC4, 0x51)] {
        rig.command([0, count, 0, 0, 0, 0xE0], command);
        rig.wait();
        assert_eq!(rig.inb(7), status);
    }
}

#[test]
fn forty_eight_bits() {
    let mut rig = Rig::master(hard_disk(1024));
    rig.command48(700, 1, 0x24);
    rig.wait();
    assert_eq!(rig.data(512), [(700 % 256) as u8; 512]);
    rig.command48(0, 0, 0x27);
    rig.wait();
    assert_eq!([3, 4, 5].map(|n| rig.inb(n)), [0xFF, 3, 0]);
    rig.control(0x80);
    assert_eq!([3, 4, 5].map(|n| rig.inb(n)), [0, 0, 0]);
    rig.command48(0x1_0000_0000, 1, 0x24);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 0x14));
}

#[test]
fn dma_through_a_split_table() {
    let mut rig = Rig::master(hard_disk(256));
    rig.command([0, 4, 8, 0, 0, 0xE0], 0xC8);
    assert_eq!(rig.inb(7), 0x58);
    rig.start_dma(&[(0x2_0000, 512), (0x3_0002, 1000), (0x4_0000, 536)], true);
    assert_eq!(rig.master_status(), 1, "active");
    rig.through_a_save();
    rig.wait();
    assert_eq!((rig.irq(), rig.master_status()), (true, 4));
    assert_eq!(rig.inb(7), 0x50);
    assert_eq!(rig.memory_at(0x2_0000, 512), [8; 512]);
    assert_eq!(rig.memory_at(0x3_0002, 512), [9; 512]);
    assert_eq!(rig.memory_at(0x3_0202, 488), [10; 488]);
    assert_eq!(rig.memory_at(0x4_0000, 24), [10; 24]);
    assert_eq!(
        rig.memory_at(0x4_0018, 514),
        [&[11; 512][..], &[0; 2]].concat()
    );
}

#[test]
fn dma_writes_and_64_kib_regions() {
    let mut rig = Rig::master(hard_disk(1024));
    rig.memory.write(0x10_0000, &vec![0xA5; 0x2_0000]);
    rig.start_dma(&[(0x10_0000, 0), (0x11_0000, 0)], false);
    rig.command48(100, 256, 0x35);
    rig.wait();
    assert_eq!(
        (rig.irq(), rig.master_status(), rig.inb(7)),
        (true, 4, 0x50)
    );
    rig.command48(355, 2, 0x25);
    rig.start_dma(&[(0x20_0000, 2048)], true);
    rig.wait();
    assert_eq!(rig.master_status(), 5, "the table is longer than the data");
    assert_eq!(rig.memory_at(0x20_0000, 512), [0xA5; 512]);
    assert_eq!(rig.memory_at(0x20_0200, 512), [(356 % 256) as u8; 512]);
}

#[test]
fn a_table_too_short_gives_no_interrupt() {
    let mut rig = Rig::master(hard_disk(64));
    rig.command([0, 4, 8, 0, 0, 0xE0], 0xC8);
    rig.start_dma(&[(0x2_0000, 1024)], true);
    rig.wait();
    assert_eq!(
        (rig.irq(), rig.master_status(), rig.inb(7)),
        (false, 0, 0x50)
    );
    assert_eq!(rig.memory_at(0x2_0200, 512), [9; 512]);
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let mut rig = Rig::master(hard_disk(64));
    rig.device.write_config(0x04, &[1]);
    rig.command([0, 1, 8, 0, 0, 0xE0], 0xC8);
    rig.start_dma(&[(0x2_0000, 512)], true);
    rig.wait();
    assert_eq!(
        (rig.irq(), rig.master_status(), rig.inb(7)),
        (false, 1, 0x58)
    );
}

#[test]
fn errors_are_told() {
    let mut rig = Rig::master(hard_disk(16));
    let cases = [
        ([0, 2, 15, 0, 0, 0xE0], 0x20, 0x14), // the last one is beyond the end
        ([0, 1, 16, 0, 0, 0xE0], 0xC8, 0x14),
        ([0, 1, 16, 0, 0, 0xE0], 0x40, 0x14),
        ([0, 0, 0, 0, 0, 0xE0], 0x30, 0x14),
        ([0, 0, 0, 0, 0, 0xA0], 0x00, 0x04), // NOP
        ([0, 0, 0, 0, 0, 0xA0], 0x08, 0x04), // DEVICE RESET is for packets
        ([0, 0, 0, 0, 0, 0xA0], 0xA1, 0x04),
        ([0, 0, 0, 0, 0, 0xA0], 0xB0, 0x04), // SMART without its key
    ];
    for (registers, command, error) in cases {
        rig.command(registers, command);
        rig.wait();
        assert!(rig.irq());
        assert_eq!((rig.inb(7), rig.inb(1)), (0x51, error), "{command:#x}");
    }
}

#[test]
fn the_other_commands() {
    let mut rig = Rig::master(hard_disk(16));
    for command in [0x10, 0x70, 0xE7, 0xEA, 0xE3, 0xE0, 0xE5] {
        rig.command([0, 1, 1, 0, 0, 0xE0], command);
        rig.wait();
        assert_eq!((rig.irq(), rig.inb(7)), (true, 0x50), "{command:#x}");
    }
    assert_eq!(rig.inb(2), 0, "standby");
    rig.command([0, 16, 0, 0, 0, 0xE0], 0x40);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(3)), (0x50, 15));
    rig.outb(7, 0xE5);
    rig.wait();
    assert_eq!(rig.inb(2), 0xFF, "awake");
    rig.command([0xDA, 0, 0, 0x4F, 0xC2, 0xA0], 0xB0);
    rig.wait();
    assert_eq!(
        (rig.inb(7), rig.inb(4), rig.inb(5)),
        (0x50, 0x4F, 0xC2),
        "in good health"
    );
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let drive = Drive::hard_disk(Disk::read_only_memory(numbered(16)));
    let mut rig = Rig::master(Some(drive));
    for command in [0x30, 0xCA, 0xC5] {
        rig.command([0, 1, 0, 0, 0, 0xE0], command);
        rig.wait();
        assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 4));
    }
}

#[test]
fn the_hosts_errors_reach_the_guest() {
    let drive = Drive::hard_disk(Disk::broken(1 << 20));
    let mut rig = Rig::master(Some(drive));
    rig.command([0, 4, 9, 0, 0, 0xE0], 0x20);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(1), rig.inb(3)), (0x51, 0x40, 9));
    rig.command([0, 4, 9, 0, 0, 0xE0], 0xCA);
    rig.start_dma(&[(0x2_0000, 2048)], false);
    rig.wait();
    assert_eq!((rig.irq(), rig.inb(7), rig.inb(1)), (true, 0x51, 4));
    rig.command([0, 1, 9, 0, 0, 0xE0], 0x30);
    rig.write_data(&[0; 512]);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 4));
    rig.outb(7, 0xE7);
    rig.wait();
    assert_eq!(rig.inb(7), 0x51);
}

#[test]
fn two_drives_on_one_cable() {
    let slave = Drive::hard_disk(Disk::memory(vec![0x77; 8192]));
    let mut rig = Rig::new([hard_disk(16), Some(slave), None, None]);
    rig.command([0, 1, 3, 0, 0, 0xF0], 0x20);
    rig.wait();
    assert_eq!(rig.data(512), [0x77; 512]);
    rig.command([0, 1, 3, 0, 0, 0xE0], 0x20);
    rig.wait();
    assert_eq!(rig.data(512), [3; 512]);
    let other = Rig::master(hard_disk(16)).device.save();
    assert!(
        rig.device.restore(&other).is_err(),
        "another machine's drives"
    );
}

#[test]
fn geometry() {
    use crate::board::Translation;
    let of = |drive: &Drive| {
        let g = drive.geometry().unwrap();
        (g.cylinders, g.heads, g.sectors, g.translation)
    };
    let empty = |sectors: usize| Drive::hard_disk(Disk::memory(vec![0; sectors * 512]));
    assert_eq!(of(&empty(16 * 63 * 100)), (100, 16, 63, Translation::None));
    assert_eq!(of(&empty(16 * 63 * 1100)), (1100, 16, 63, Translation::Lba));
    let partitioned = |heads: u8| {
        let mut bytes = vec![0; 512 * 4096];
        bytes[446..462].copy_from_slice(&[0x80, 0, 1, 0, 6, heads, 32, 9, 0, 0, 0, 0, 0, 8, 0, 0]);
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        Drive::hard_disk(Disk::memory(bytes))
    };
    assert_eq!(of(&partitioned(7)), (16, 8, 32, Translation::None));
    assert_eq!(of(&partitioned(63)), (4, 16, 63, Translation::Large));
    assert_eq!(Drive::cd_rom(None).geometry(), None);
}
