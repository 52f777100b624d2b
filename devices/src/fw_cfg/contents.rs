//! The items of the configuration device: by key, or as named files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A key with this bit names an item of this architecture.
pub const ARCH_LOCAL: u16 = 0x8000;
/// The key of the file directory.
pub const FILE_DIR: u16 = 0x19;
/// The key of the first file.
pub const FILE_FIRST: u16 = 0x20;
/// Keys of files end where the bits of other meaning begin.
const FILE_LIMIT: usize = 0x4000 - FILE_FIRST as usize;
/// The longest file name; the directory has room for a zero behind it.
const NAME_MAX: usize = 55;

/// One item.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its bytes; shared, never copied to be read.
    pub data: Arc<[u8]>,
    /// Whether the guest may write them (by DMA).
    pub writable: bool,
}

impl Item {
    /// An item the guest reads.
    pub fn read_only(data: impl Into<Arc<[u8]>>) -> Self {
        let data = data.into();
        Self {
            data,
            writable: false,
        }
    }

    /// An item the guest may write.
    pub fn writable(data: impl Into<Arc<[u8]>>) -> Self {
        let data = data.into();
        Self {
            data,
            writable: true,
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writable = if self.writable { ", writable" } else { "" };
        write!(f, "Item({} bytes{writable})", self.data.len())
    }
}

/// Why something cannot be an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// A file's name.
    #[error("'{name}' is no name of a fw_cfg file: 1 to {NAME_MAX} ASCII characters are")]
    Name {
        /// The name.
        name: String,
    },
    /// An item larger than its length can be told.
    #[error("fw_cfg item '{name}' has {size} bytes, more than 4 GiB")]
    Size {
        /// The file, or the key.
        name: String,
        /// Its size.
        size: usize,
    },
    /// More files than there are keys.
    #[error("there are more than {FILE_LIMIT} fw_cfg files")]
    Count,
}

/// What the configuration device holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    keys: BTreeMap<u16, Item>,
    files: BTreeMap<String, Item>,
}

impl Contents {
    /// Puts an item under a key, in place of one that was there. (Keys of files are given out by
    /// [`Contents::by_key`].)
    ///
    /// # Errors
    /// If it is too large.
    pub fn set(&mut self, key: u16, data: impl Into<Arc<[u8]>>) -> Result<(), ContentsError> {
        let item = Item::read_only(data);
        check_size(&item, || format!("{key:#x}"))?;
        self.keys.insert(key, item);
        Ok(())
    }

    /// A 16-bit number under a key.
    pub fn set_u16(&mut self, key: u16, value: u16) {
        self.set_bytes(key, &value.to_le_bytes());
    }

    /// A 32-bit number under a key.
    pub fn set_u32(&mut self, key: u16, value: u32) {
        self.set_bytes(key, &value.to_le_bytes());
    }

    /// A 64-bit number under a key.
    pub fn set_u64(&mut self, key: u16, value: u64) {
        self.set_bytes(key, &value.to_le_bytes());
    }

    /// Few bytes under a key.
    pub fn set_bytes(&mut self, key: u16, data: &[u8]) {
        self.keys.insert(key, Item::read_only(data));
    }

    /// Adds a file, in place of one of that name.
    ///
    /// # Errors
    /// If its name or size is impossible, or there are too many.
    pub fn add_file(&mut self, name: &str, item: Item) -> Result<(), ContentsError> {
        let wrong =
            name.is_empty() || name.len() > NAME_MAX || name.contains('\0') || !name.is_ascii();
        if wrong {
            let name = name.to_owned();
            return Err(ContentsError::Name { name });
        }
        check_size(&item, || name.to_owned())?;
        if self.files.len() >= FILE_LIMIT && !self.files.contains_key(name) {
            return Err(ContentsError::Count);
        }
        self.files.insert(name.to_owned(), item);
        Ok(())
    }

    /// A file by its name.
    pub fn file(&self, name: &str) -> Option<&Item> {
        self.files.get(name)
    }

    /// The item under a key that is no file's.
    pub fn item(&self, key: u16) -> Option<&Item> {
        self.keys.get(&key)
    }

    /// Adds what `more` has; its items take the place of those under the same keys and names.
    pub fn extend(&mut self, more: &Self) {
        self.keys.extend(more.keys.clone());
        self.files.extend(more.files.clone());
    }

    /// Every item by its key: files count from 20h in the order of their names, and the directory lists them.
    pub fn by_key(&self) -> BTreeMap<u16, Item> {
        let mut items = self.keys.clone();
        let mut directory = (self.files.len().min(FILE_LIMIT) as u32)
            .to_be_bytes()
            .to_vec();
        for ((name, item), key) in self.files.iter().zip(FILE_FIRST..).take(FILE_LIMIT) {
            directory.extend((item.data.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let filled = name.bytes().chain(std::iter::repeat(0));
            directory.extend(filled.take(NAME_MAX + 1));
            items.insert(key, item.clone());
        }
        items.insert(FILE_DIR, Item::read_only(directory));
        items
    }
}

fn check_size(item: &Item, name: impl FnOnce() -> String) -> Result<(), ContentsError> {
    let size = item.data.len();
    match u32::try_from(size) {
        Ok(_) => Ok(()),
        Err(_) => Err(ContentsError::Size { name: name(), size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_by_name() {
        let mut contents = Contents::default();
        for name in ["etc/e820", "bootorder", "opt/x", "etc/acpi/rsdp"] {
            contents.add_file(name, Item::read_only(*b"abc")).unwrap();
        }
        let items = contents.by_key();
        let directory = &items[&FILE_DIR].data;
        assert_eq!(directory.len(), 4 + 4 * 64);
        assert_eq!(directory[..4], [0, 0, 0, 4]);
        for (n, name) in ["bootorder", "etc/acpi/rsdp", "etc/e820", "opt/x"]
            .iter()
            .enumerate()
        {
            let entry = &directory[4 + 64 * n..][..64];
            assert_eq!(entry[..8], [0, 0, 0, 3, 0, 0x20 + n as u8, 0, 0]);
            assert_eq!(&entry[8..8 + name.len()], name.as_bytes());
            assert_eq!(entry[8 + name.len()], 0);
        }
        assert_eq!(*items[&0x23].data, *b"abc");
    }

    #[test]
    fn impossible_names_are_refused() {
        let mut contents = Contents::default();
        let long = "x".repeat(56);
        for name in ["", "a\0b", "é", &long] {
            let result = contents.add_file(name, Item::read_only([]));
            assert!(matches!(result, Err(ContentsError::Name { .. })), "{name}");
        }
        let longest = "x".repeat(55);
        assert_eq!(contents.add_file(&longest, Item::read_only([])), Ok(()));
    }

    #[test]
    fn what_the_user_adds_comes_in_the_place_of_the_boards_own() {
        let (mut board, mut user) = (Contents::default(), Contents::default());
        board.add_file("a", Item::read_only(*b"board")).unwrap();
        board.set_u16(5, 1);
        user.add_file("a", Item::read_only(*b"user")).unwrap();
        user.set_u16(6, 2);
        board.extend(&user);
        assert_eq!(*board.file("a").unwrap().data, *b"user");
        assert!(board.item(5).is_some() && board.item(6).is_some());
    }
}
