//! Images as a drive sees them.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("twin86-disk-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const SNAPSHOT: Options = Options {
    read_only: false,
    snapshot: true,
};
const READ_ONLY: Options = Options {
    read_only: true,
    snapshot: false,
};

fn get(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0xEE; len];
    disk.read(offset, &mut data).unwrap();
    data
}

#[test]
fn a_partial_sector_is_padded_with_zeros_and_can_be_written() {
    let file = Scratch::new(&[7; 700]);
    let disk = Disk::open(&file.0, Options::default()).unwrap();
    assert_eq!(disk.sectors(), 2);
    let read = get(&disk, 512, 512);
    assert_eq!((&read[..188], &read[188..]), (&[7; 188][..], &[0; 324][..]));
    assert!(disk.read(1024, &mut [0]).is_err());
    assert!(disk.write(u64::MAX, &[0; 2]).is_err());
    disk.write(512, &[9; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(get(&disk, 512, 512), [9; 512]);
    assert_eq!(disk.sectors(), 2);
    assert_eq!(&file.bytes()[512..], &[9; 512]);
}

#[test]
fn a_read_only_image_refuses_writes() {
    let file = Scratch::new(&[7; 512]);
    let disk = Disk::open(&file.0, READ_ONLY).unwrap();
    assert!(disk.is_read_only() && disk.write(0, &[1]).is_err());
    disk.flush().unwrap();
    assert_eq!(get(&disk, 0, 512), [7; 512]);
}

#[test]
fn a_snapshot_leaves_the_image_alone() {
    let file = Scratch::new(&[7; 10_000]);
    let disk = Disk::open(&file.0, SNAPSHOT).unwrap();
    disk.write(4000, &[1; 200]).unwrap();
    disk.write(9728, &[2; 512]).unwrap();
    assert_eq!(get(&disk, 3999, 202), [&[7][..], &[1; 200], &[7]].concat());
    assert_eq!(get(&disk.clone(), 9728, 512), [2; 512]);
    assert_eq!(file.bytes(), [7; 10_000]);
}

#[test]
fn an_image_has_one_writer_or_many_readers() {
    let file = Scratch::new(&[7; 512]);
    let open = |options| Disk::open(&file.0, options);
    let writer = open(Options::default()).unwrap();
    for options in [Options::default(), READ_ONLY, SNAPSHOT] {
        let error = open(options).unwrap_err();
        assert!(matches!(error, DiskError::Locked { .. }), "{error}");
    }
    drop(writer);
    let readers = (open(READ_ONLY).unwrap(), open(SNAPSHOT).unwrap());
    assert!(matches!(
        open(Options::default()),
        Err(DiskError::Locked { .. })
    ));
    drop(readers);
    assert!(open(Options::default()).is_ok(), "locks end with the disk");
}

/// What another emulator holds on a file it writes.
#[test]
fn locks_of_other_emulators_count() {
    use nix::fcntl::{FcntlArg, fcntl};
    let file = Scratch::new(&[7; 512]);
    let other = File::options()
        .read(true)
        .write(true)
        .open(&file.0)
        .unwrap();
    for (bytes, reader) in [(&[100, 101, 201], false), (&[100, 100, 201], true)] {
        let lock = |byte: i64, kind: i32| nix::libc::flock {
            l_type: kind as i16,
            l_whence: 0,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        for byte in bytes {
            fcntl(
                &other,
                FcntlArg::F_OFD_SETLK(&lock(*byte, nix::libc::F_RDLCK)),
            )
            .unwrap();
        }
        assert!(Disk::open(&file.0, Options::default()).is_err());
        assert_eq!(Disk::open(&file.0, READ_ONLY).is_ok(), reader);
        for byte in bytes {
            fcntl(
                &other,
                FcntlArg::F_OFD_SETLK(&lock(*byte, nix::libc::F_UNLCK)),
            )
            .unwrap();
        }
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let why = |path: &Path, options| Disk::open(path, options).unwrap_err().to_string();
    let (empty, gone) = (Scratch::new(&[]), Path::new("/nonexistent/disk.img"));
    let name = |path: &Path| path.display().to_string();
    assert_eq!(
        why(&empty.0, SNAPSHOT),
        format!("{}: is empty", name(&empty.0))
    );
    assert_eq!(
        why(gone, READ_ONLY),
        "/nonexistent/disk.img: there is no such image"
    );
    assert_eq!(why(Path::new("/"), READ_ONLY), "/: is a directory");
    assert_eq!(
        why(Path::new("/dev/null"), READ_ONLY),
        "/dev/null: is neither a file nor a block device"
    );
}

#[test]
fn memory_is_a_disk_too() {
    let disk = Disk::ram(vec![7; 700]);
    assert_eq!(disk.sectors(), 2);
    disk.write(512, &[1; 512]).unwrap();
    let read = get(&disk, 512, 512);
    assert_eq!((&read[..188], &read[188..]), (&[1; 188][..], &[0; 324][..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every kind of disk is the same disk.
    #[test]
    fn stores_agree(accesses: Vec<(u16, u16, u8, bool)>) {
        let image: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        let (plain, shadowed) = (Scratch::new(&image), Scratch::new(&image));
        let disks = [
            Disk::open(&plain.0, Options::default()).unwrap(),
            Disk::open(&shadowed.0, SNAPSHOT).unwrap(),
            Disk::ram(image.clone()),
        ];
        for (offset, len, byte, write) in accesses {
            let (offset, len) = (u64::from(offset % 42_000), usize::from(len % 9000));
            let results = disks.each_ref().map(|disk| {
                let mut data = vec![byte; len];
                let result = if write && offset + len as u64 <= 40_000 {
                    disk.write(offset, &data)
                } else {
                    disk.read(offset, &mut data)
                };
                (result.is_ok(), data)
            });
            prop_assert_eq!(&results[0], &results[1]);
            prop_assert_eq!(&results[0], &results[2]);
        }
        prop_assert_eq!(shadowed.bytes(), image);
    }
}
