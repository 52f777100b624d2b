use super::*;
use proptest::prelude::*;

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        let test = std::thread::current();
        let test = test.name().unwrap_or("test").replace(':', "-");
        let name = |n: u32| format!("twin86-disk-{}-{test}-{n}", std::process::id());
        let paths = (0..).map(|n| std::env::temp_dir().join(name(n)));
        let path = paths.into_iter().find(|path| !path.exists()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn open(&self, read_only: bool, snapshot: bool) -> Result<Disk, DiskError> {
        let options = DiskOptions {
            read_only,
            snapshot,
        };
        Disk::open(&self.0, options)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn an_odd_size_is_rounded_up_and_padded() {
    let file = Scratch::new(&[7; 700]);
    let disk = file.open(false, false).unwrap();
    assert_eq!((disk.size(), disk.sectors()), (1024, 2));
    let mut data = [1; 512];
    disk.read_at(512, &mut data).unwrap();
    assert_eq!((data[187], data[188], data[511]), (7, 0, 0));
    assert!(disk.read_at(1024, &mut data).is_err());
    assert!(disk.read_at(u64::MAX, &mut data).is_err());
    disk.write_at(512, &[9; 512]).unwrap();
    disk.flush().unwrap();
    disk.read_at(512, &mut data).unwrap();
    assert_eq!(data, [9; 512]);
}

#[test]
fn a_snapshot_leaves_the_image_alone() {
    let file = Scratch::new(&[7; 200_000]);
    let disk = file.open(false, true).unwrap();
    disk.write_at(65_000, &[1; 3000]).unwrap();
    let mut data = [0; 4000];
    disk.read_at(64_500, &mut data).unwrap();
    assert_eq!(data[..500], [7; 500]);
    assert_eq!(data[500..3500], [1; 3000]);
    assert_eq!(data[3500..], [7; 500]);
    drop(disk);
    assert_eq!(std::fs::read(&file.0).unwrap(), vec![7; 200_000]);
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let file = Scratch::new(&[7; 512]);
    let disk = file.open(true, false).unwrap();
    assert!(disk.write_at(0, &[0; 512]).is_err());
    assert!(disk.read_only() && disk.flush().is_ok());
}

#[test]
fn one_writer_or_many_readers() {
    let file = Scratch::new(&[7; 512]);
    let writer = file.open(false, false).unwrap();
    assert!(matches!(
        file.open(true, false),
        Err(DiskError::Locked { .. })
    ));
    drop(writer);
    let reader = file.open(true, false).unwrap();
    let snapshot = file.open(false, true).unwrap();
    assert!(matches!(
        file.open(false, false),
        Err(DiskError::Locked { .. })
    ));
    drop((reader, snapshot));
    assert!(file.open(false, false).is_ok());
}

/// What QEMU holds on an image it writes (100, 101, 201), and on one it reads.
#[test]
fn locks_of_other_emulators_count() {
    use nix::fcntl::{FcntlArg, fcntl};
    let file = Scratch::new(&[7; 512]);
    let mut how = File::options();
    let other = how.read(true).write(true).open(&file.0).unwrap();
    let set = |byte: i64, kind: i32| {
        let lock = nix::libc::flock {
            l_type: kind as i16,
            l_whence: 0,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&other, FcntlArg::F_OFD_SETLK(&lock)).is_ok()
    };
    for (bytes, readers) in [([100, 101, 201], false), ([100, 201, 203], true)] {
        assert!(bytes.iter().all(|byte| set(*byte, nix::libc::F_RDLCK)));
        assert!(file.open(false, false).is_err(), "a writer");
        assert_eq!(file.open(true, false).is_ok(), readers);
        assert_eq!(file.open(false, true).is_ok(), readers);
        assert!(bytes.iter().all(|byte| set(*byte, nix::libc::F_UNLCK)));
    }
    // And ours count for them: a reader's are no obstacle to what other readers look for.
    let reader = file.open(true, false).unwrap();
    let free = |byte| set(byte, nix::libc::F_WRLCK) && set(byte, nix::libc::F_UNLCK);
    assert!(free(101) && free(200) && !free(100) && !free(201));
    drop(reader);
    let _writer = file.open(false, false).unwrap();
    assert!(!free(101) && !free(201));
}

#[test]
fn what_is_no_disk_is_named() {
    let path = |e: DiskError| e.to_string();
    let open = |path: &str| path_error(Path::new(path));
    fn path_error(path: &Path) -> DiskError {
        Disk::open(path, DiskOptions::default()).unwrap_err()
    }
    assert!(path(open("/nowhere/x.img")).contains("/nowhere/x.img: no such file"));
    assert!(path(open("/tmp")).contains("/tmp: is a directory"));
    assert!(path(open("/dev/null")).contains("neither a file nor"));
    let empty = Scratch::new(&[]);
    assert!(matches!(path_error(&empty.0), DiskError::Empty { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_reads_what_was_written(
        writes in prop::collection::vec((0u64..300_000, prop::collection::vec(any::<u8>(), 0..70_000)), 1..5),
    ) {
        let mut image = vec![0x5A; 370_000];
        let file = Scratch::new(&image);
        let disk = file.open(false, true).unwrap();
        for (offset, data) in writes {
            disk.write_at(offset, &data).unwrap();
            image[offset as usize..][..data.len()].copy_from_slice(&data);
        }
        let mut all = vec![0; image.len()];
        disk.read_at(0, &mut all).unwrap();
        prop_assert!(all == image);
    }
}
