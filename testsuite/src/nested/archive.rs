//! A `newc` archive, as a kernel unpacks it to its first file system: cpio(5), "New ASCII Format";
//! the kernel's "initramfs buffer format": archives may follow one another, each at 4 bytes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
/// The name that ends an archive.
const END: &str = "TRAILER!!!";

/// Files, with the folders they lie in.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Begins behind what another archive holds.
    pub(super) fn behind(bytes: Vec<u8>) -> Self {
        let mut archive = Self {
            bytes,
            ..Self::default()
        };
        archive.align();
        archive
    }

    /// Adds a file of the host under a path that begins with `/`; once is enough.
    pub(super) fn add(&mut self, file: &Path, path: &str) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if self.folders.insert(path[..at].to_owned()) {
                self.entry(&path[..at], FOLDER, &[]);
            }
        }
        self.entry(path, PROGRAM, &fs::read(file)?);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        let links = 1;
        let size = u32::try_from(data.len()).expect("a file below 4 GiB");
        let name_size = name.len() as u32 + 1;
        // Inode, mode, user, group, links, time, size, device and its node (two each), name, check.
        let inode = self.entries;
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        let len = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(len, 0);
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::Archive;

    #[test]
    fn cpio_lists_it() {
        let mut archive = Archive::default();
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        archive.add(file, "/a/b/c").expect("a file");
        archive.add(file, "/a/odd").expect("a file");
        let bytes = archive.finish();
        let list = ["cpio", "-t", "--quiet"];
        let mut command = Command::new(list[0]);
        command.args(&list[1..]);
        let Ok(mut cpio) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            return crate::skip::skip("cpio", &"it is not installed");
        };
        let mut input = cpio.stdin.take().expect("a pipe");
        input.write_all(&bytes).expect("cpio reads");
        drop(input);
        let output = cpio.wait_with_output().expect("an end");
        assert!(output.status.success());
        assert_eq!(output.stdout, b"a\na/b\na/b/c\na/odd\n");
    }
}
