//! Stock guests in the program: Debian's kernels, GRUB, SeaBIOS, as a user starts them.
//!
//! Needs the cache that `testsuite/guests/fetch` makes; `TWIN86=qemu-system-x86_64` puts QEMU in the
//! program's place, to test the tests.

mod clocks;
mod costs;
mod disks;
mod grub;
mod kernels;
mod loaders;
mod logs;
mod programs;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough for a command that does little.
const SOON: Duration = Duration::from_secs(30);

/// A folder of one test's own; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("twin86-boot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An empty disk.
    fn disk(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        let file = fs::File::create(&path).expect("a file");
        file.set_len(bytes).expect("a size");
        path
    }

    /// A copy of a disk that can be written.
    fn copy(&self, image: &Path) -> PathBuf {
        let path = self.path("copy.img");
        fs::copy(image, &path).expect("a copy");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
