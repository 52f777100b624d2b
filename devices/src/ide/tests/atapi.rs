use super::*;

/// A CD-ROM of numbered 2048-byte blocks, as the primary master.
fn cd(blocks: usize) -> Drive {
    let bytes = (0..blocks).flat_map(|n| [n as u8; 2048]).collect();
    Drive::cd_rom(Some(Disk::memory(bytes)))
}

impl Rig {
    fn cd(drive: &Drive) -> Self {
        Self::master(Some(drive.clone()))
    }

    /// The same after it told of its reset.
    fn settled_cd(drive: &Drive) -> Self {
        let mut rig = Self::cd(drive);
        assert_eq!(rig.ask(&[0]), Err([6, 0x29, 0]));
        rig
    }

    /// Writes PACKET and the command's bytes.
    fn packet(&mut self, features: u8, limit: u16, packet: &[u8]) {
        let [low, high] = limit.to_le_bytes();
        self.command([features, 0, 0, low, high, 0xA0], 0xA0);
        assert_eq!((self.inb(7), self.inb(2), self.irq()), (0x58, 1, false));
        let mut whole = [0; 12];
        whole[..packet.len()].copy_from_slice(packet);
        self.write_data(&whole);
    }

    /// The drive's blocks of data until the command ends, with their sizes; then whether it failed.
    fn collect(&mut self) -> (Vec<u8>, Vec<usize>, bool) {
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        loop {
            self.wait();
            assert!(self.irq());
            let status = self.inb(7);
            assert!(!self.irq());
            if status & 8 == 0 {
                assert_eq!((status & 0xF0, self.inb(2)), (0x50, 3));
                return (all, sizes, status & 1 != 0);
            }
            assert_eq!(self.inb(2), 2, "to the host");
            let len = usize::from(self.inb(4)) | usize::from(self.inb(5)) << 8;
            sizes.push(len);
            all.extend(self.data(len.next_multiple_of(2)));
        }
    }

    /// A command by PIO; if it fails, the sense.
    fn ask(&mut self, packet: &[u8]) -> Result<Vec<u8>, [u8; 3]> {
        self.packet(0, 0xFFFE, packet);
        let (data, _, failed) = self.collect();
        if !failed {
            return Ok(data);
        }
        let error = self.inb(1);
        self.packet(0, 0xFFFE, &[3, 0, 0, 0, 18]);
        let (sense, _, failed) = self.collect();
        assert!(!failed && error == sense[2] << 4);
        Err([sense[2], sense[12], sense[13]])
    }
}

const READ_10: [u8; 10] = [0x28, 0, 0, 0, 0, 2, 0, 0, 3, 0];

#[test]
fn it_says_what_it_is() {
    let mut rig = Rig::settled_cd(&cd(8));
    rig.outb(7, 0xEC);
    rig.wait();
    assert_eq!((rig.inb(7), rig.inb(1)), (0x51, 4), "no ATA disk");
    assert_eq!([2, 3, 4, 5].map(|n| rig.inb(n)), [1, 1, 0x14, 0xEB]);
    rig.outb(7, 0xA1);
    rig.wait();
    assert_eq!(rig.data(512)[..2], 0x85C0u16.to_le_bytes());
    let inquiry = rig.ask(&[0x12, 0, 0, 0, 36]).unwrap();
    assert_eq!((inquiry.len(), inquiry[0], inquiry[1]), (36, 5, 0x80));
    assert_eq!(&inquiry[8..14], b"TWIN86");
    rig.outb(7, 0x08);
    assert_eq!(
        (rig.inb(7), rig.inb(4), rig.inb(5)),
        (0, 0x14, 0xEB),
        "DEVICE RESET"
    );
}

#[test]
fn a_reset_is_told_once() {
    let mut rig = Rig::settled_cd(&cd(8));
    assert_eq!(rig.ask(&[0]), Ok(vec![]));
    rig.device.reset();
    assert!(
        rig.ask(&[0x12, 0, 0, 0, 36]).is_ok(),
        "INQUIRY does not wait for it"
    );
    assert_eq!(rig.ask(&READ_10), Err([6, 0x29, 0]));
    assert!(rig.ask(&READ_10).is_ok());
}

#[test]
fn read_by_pio() {
    let mut rig = Rig::settled_cd(&cd(8));
    let wanted = [[2; 2048], [3; 2048], [4; 2048]].concat();
    assert_eq!(rig.ask(&READ_10).as_ref(), Ok(&wanted));
    rig.packet(0, 2500, &READ_10);
    rig.through_a_save();
    let (data, sizes, failed) = rig.collect();
    assert!(data == wanted && !failed);
    assert_eq!(sizes, [2500, 2500, 1144]);
    let read_cd = [0xBE, 0, 0, 0, 0, 2, 0, 0, 3, 0x10];
    assert_eq!(rig.ask(&read_cd).as_ref(), Ok(&wanted));
    let read_12 = [0xA8, 0, 0, 0, 0, 2, 0, 0, 0, 3];
    assert_eq!(rig.ask(&read_12), Ok(wanted));
    assert_eq!(rig.ask(&[0x28, 0, 0, 0, 0, 7, 0, 0, 2]), Err([5, 0x21, 0]));
    assert_eq!(
        rig.ask(&[0xBE, 0, 0, 0, 0, 2, 0, 0, 3, 0xF8]),
        Err([5, 0x24, 0])
    );
    assert_eq!(
        rig.ask(&[0x28, 0, 0, 0, 0, 7, 0, 0, 0]),
        Ok(vec![]),
        "nothing to read"
    );
}

#[test]
fn read_by_dma() {
    let mut rig = Rig::settled_cd(&cd(8));
    rig.packet(1, 0, &READ_10);
    rig.start_dma(&[(0x2_0000, 4096), (0x3_0000, 2048)], true);
    rig.wait();
    assert_eq!((rig.irq(), rig.master_status()), (true, 4));
    assert_eq!((rig.inb(7), rig.inb(2)), (0x50, 3));
    assert_eq!(rig.memory_at(0x2_0800, 2048), [3; 2048]);
    assert_eq!(rig.memory_at(0x3_0000, 2048), [4; 2048]);
}

#[test]
fn every_limit_of_bytes_works() {
    let mut rig = Rig::settled_cd(&cd(8));
    for limit in [0, 1, 2, 3, 511, 2047, 2048, 0xFFFF] {
        rig.packet(0, limit, &[0x28, 0, 0, 0, 0, 5, 0, 0, 1]);
        let (data, sizes, _) = rig.collect();
        assert!(data == [5; 2048], "{limit}: {sizes:?}");
        let most = if limit == 0 {
            0xFFFE
        } else {
            usize::from(limit)
        };
        assert!(sizes.iter().all(|&size| size <= most.max(2)));
    }
}

#[test]
fn the_disc() {
    let mut rig = Rig::settled_cd(&cd(300));
    assert_eq!(rig.ask(&[0x25]), Ok(vec![0, 0, 1, 43, 0, 0, 8, 0]));
    let toc = rig.ask(&[0x43, 0, 0, 0, 0, 0, 0, 0, 100]).unwrap();
    assert_eq!(toc[..4], [0, 18, 1, 1]);
    assert_eq!(
        toc[4..],
        [0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 1, 44]
    );
    let toc = rig.ask(&[0x43, 2, 0, 0, 0, 0, 0xAA, 0, 12]).unwrap();
    assert_eq!(
        toc,
        [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 6, 0],
        "300 + 150 frames are 6 seconds"
    );
    assert_eq!(
        rig.ask(&[0x43, 0, 1, 0, 0, 0, 0, 0, 100]).unwrap()[..4],
        [0, 10, 1, 1]
    );
    assert_eq!(
        rig.ask(&[0x43, 2, 2, 0, 0, 0, 0, 0, 100]).unwrap().len(),
        48
    );
    assert_eq!(
        rig.ask(&[0x43, 0, 5, 0, 0, 0, 0, 0, 100]),
        Err([5, 0x24, 0])
    );
    assert_eq!(rig.ask(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34]).unwrap()[2], 0x0E);
    let features = rig.ask(&[0x46, 0, 0, 0, 0, 0, 0, 0, 255]).unwrap();
    assert_eq!(features.len(), 4 + usize::from(features[3]));
    assert_eq!(features[6..8], [0, 8]);
    assert_eq!(
        rig.ask(&[0x46, 2, 0, 3, 0, 0, 0, 0, 255]).unwrap().len(),
        16
    );
    assert_eq!(
        rig.ask(&[0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 255]).unwrap().len(),
        28
    );
    assert_eq!(
        rig.ask(&[0x5A, 0, 0xEA, 0, 0, 0, 0, 0, 255]),
        Err([5, 0x39, 0])
    );
    assert_eq!(
        rig.ask(&[0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8]).unwrap().len(),
        8
    );
    assert_eq!(rig.ask(&[0x2B, 0, 0, 0, 1, 44]), Err([5, 0x21, 0]));
    assert_eq!(rig.ask(&[0xFF]), Err([5, 0x20, 0]));
}

#[test]
fn no_medium() {
    let mut rig = Rig::settled_cd(&Drive::cd_rom(None));
    for command in [0x00, 0x25, 0x28, 0x43, 0x51, 0x2B] {
        assert_eq!(rig.ask(&[command]), Err([2, 0x3A, 1]), "{command:#x}");
    }
    assert!(rig.ask(&[0x46, 0, 0, 0, 0, 0, 0, 0, 255]).is_ok());
    let event = rig.ask(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(event, Ok(vec![0, 6, 4, 0x10, 0, 0, 0, 0]));
}

#[test]
fn sense_is_forgotten_once_told() {
    let mut rig = Rig::settled_cd(&Drive::cd_rom(None));
    assert!(rig.ask(&[0]).is_err());
    let sense = rig.ask(&[3, 0, 0, 0, 18]).unwrap();
    assert_eq!([sense[2], sense[12]], [0, 0]);
}

#[test]
fn another_medium() {
    let drive = cd(8);
    let mut rig = Rig::settled_cd(&drive);
    assert_eq!(rig.ask(&[0x1E, 0, 0, 0, 1]), Ok(vec![]));
    let other = || Some(Disk::memory(vec![9; 4096]));
    assert!(drive.change(other(), false).is_err(), "locked");
    let event = rig.ask(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(
        event,
        Ok(vec![0, 6, 4, 0x10, 1, 2, 0, 0]),
        "the user wants it"
    );
    assert_eq!(rig.ask(&[0x1B, 0, 0, 0, 2]), Err([5, 0x53, 2]));
    assert_eq!(rig.ask(&[0x1E, 0, 0, 0, 0]), Ok(vec![]));
    drive.change(other(), false).unwrap();
    assert_eq!(rig.ask(&[0]), Err([6, 0x28, 0]));
    assert_eq!(rig.ask(&[0x25]).unwrap()[3], 1);
    assert_eq!(rig.ask(&[0x1B, 0, 0, 0, 2]), Ok(vec![]), "eject");
    assert_eq!(rig.ask(&[0]), Err([2, 0x3A, 2]));
    rig.through_a_save();
    assert!(drive.is_open());
    assert_eq!(rig.ask(&[0x1B, 0, 0, 0, 3]), Ok(vec![]), "load");
    assert_eq!(rig.ask(&[0]), Err([6, 0x28, 0]));
    assert_eq!(rig.ask(&[0]), Ok(vec![]));
    drive.change(None, false).unwrap();
    assert_eq!(rig.ask(&[0]), Err([6, 0x28, 0]));
    assert_eq!(rig.ask(&[0]), Err([2, 0x3A, 2]));
}

#[test]
fn the_hosts_errors_are_medium_errors() {
    let mut rig = Rig::settled_cd(&Drive::cd_rom(Some(Disk::broken(1 << 20))));
    assert_eq!(rig.ask(&READ_10), Err([3, 0x11, 0]));
    rig.packet(1, 0, &READ_10);
    rig.start_dma(&[(0x2_0000, 0)], true);
    rig.wait();
    assert_eq!((rig.irq(), rig.inb(7), rig.inb(1)), (true, 0x51, 0x30));
}
