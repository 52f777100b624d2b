//! KVM's own counters, by `KVM_GET_STATS_FD`.
//!
//! Document: Linux `Documentation/virt/kvm/api.rst`, "KVM_GET_STATS_FD": a header, descriptors and
//! data in one file that describes itself. Histograms are left out.

// UNSAFETY: kvm-ioctls does not know this ioctl; it takes nothing and returns a file descriptor.
#![expect(unsafe_code, reason = "a raw ioctl that returns a descriptor")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::{
    KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_PEAK, KVMIO, kvm_stats_desc, kvm_stats_header,
};
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

use crate::Statistic;

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xCE);

/// Bounds for what the kernel describes; it has about forty counters with names of 48 bytes.
const MOST_COUNTERS: u32 = 4096;
const LONGEST_NAME: u32 = 256;

/// The counters of a virtual machine or processor; none where the kernel does not give them.
pub(super) fn read(of: &impl AsRawFd) -> Vec<Statistic> {
    // SAFETY: the ioctl takes no argument.
    let fd = unsafe { ioctl(of, KVM_GET_STATS_FD()) };
    if fd < 0 {
        return Vec::new();
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let file = unsafe { File::from_raw_fd(fd) };
    parse(|offset, bytes| file.read_exact_at(bytes, offset)).unwrap_or_else(|error| {
        tracing::debug!(target: "kvm", %error, "statistics cannot be read");
        Vec::new()
    })
}

/// Four bytes of `bytes`, which has them.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(value)
}

fn parse(read_at: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Vec<Statistic>> {
    let mut header = [0; size_of::<kvm_stats_header>()];
    read_at(0, &mut header)?;
    // Flags, size of names, number of descriptors, offsets of the id, descriptors and data.
    let [name_size, count] = [4, 8].map(|at| u32_at(&header, at));
    let [descriptors, data] = [16, 20].map(|at| u64::from(u32_at(&header, at)));
    if name_size > LONGEST_NAME || count > MOST_COUNTERS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let fixed = size_of::<kvm_stats_desc>();
    let mut row = vec![0; fixed + name_size as usize];
    let mut found = Vec::new();
    for index in 0..u64::from(count) {
        read_at(descriptors + index * row.len() as u64, &mut row)?;
        // Flags, exponent and number of values (16 bits each), offset of the values.
        let kind = u32_at(&row, 0) & KVM_STATS_TYPE_MASK;
        let values = u32_at(&row, 4) >> 16;
        if kind > KVM_STATS_TYPE_PEAK || values != 1 {
            continue;
        }
        let mut value = [0; 8];
        read_at(data + u64::from(u32_at(&row, 8)), &mut value)?;
        let name = row[fixed..].split(|&byte| byte == 0).next();
        found.push(Statistic {
            name: String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
            value: u64::from_ne_bytes(value),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a counter, a histogram of two values, and a counter.
    fn file() -> Vec<u8> {
        let mut file: Vec<u8> = [0u32, 8, 3, 24, 32, 104].map(u32::to_ne_bytes).concat();
        file.extend(b"kvm-1\0\0\0");
        for (flags, values, offset, name) in [
            (0u32, 1u16, 0u32, b"exits\0\0\0"),
            (4, 2, 8, b"hist\0\0\0\0"),
            (1, 1, 24, b"longname"),
        ] {
            file.extend(flags.to_ne_bytes());
            file.extend(0u16.to_ne_bytes());
            file.extend(values.to_ne_bytes());
            file.extend(offset.to_ne_bytes());
            file.extend(0u32.to_ne_bytes());
            file.extend(name);
        }
        for value in [7u64, 1, 2, 9] {
            file.extend(value.to_ne_bytes());
        }
        file
    }

    fn of(file: &[u8]) -> io::Result<Vec<Statistic>> {
        parse(|offset, bytes| {
            let from = file.get(offset as usize..).unwrap_or_default();
            let from = from
                .get(..bytes.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(from);
            Ok(())
        })
    }

    #[test]
    fn counters_are_read_by_name() {
        let found = of(&file()).expect("statistics");
        let found: Vec<_> = found.iter().map(|s| (s.name.as_str(), s.value)).collect();
        assert_eq!(found, [("exits", 7), ("longname", 9)]);
    }

    #[test]
    fn a_file_cut_off_is_an_error() {
        let file = file();
        for len in [0, 20, 60, 100, file.len() - 1] {
            assert!(of(&file[..len]).is_err(), "{len}");
        }
        let mut huge = file;
        huge[8..12].fill(0xFF);
        assert!(of(&huge).is_err());
    }
}
