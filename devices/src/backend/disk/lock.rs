//! Locks on image files, in a form other emulators understand.
//!
//! `flock` is for tools that take it. Between emulators it is the convention of QEMU, as `/proc/locks`
//! shows it: shared locks of the open file description on single bytes, 100 + n for what the holder does
//! to the image, 200 + n for what it does not let others do (n: 0 reading, 1 writing, 3 resizing). Who takes an
//! image asks, with the lock that would conflict, whether anybody holds what it cannot live with. The locks
//! end with the file description.

use std::fs::{File, TryLockError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const DOES: i64 = 100;
const FORBIDS: i64 = 200;
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Locks the image `file`, for reading alone or for writing; `false` if another process's use of it forbids that.
pub(super) fn lock(file: &File, write: bool) -> bool {
    let whole = if write {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match whole {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return false,
        // Some file systems have no locks, which is no reason not to run.
        Err(TryLockError::Error(error)) => tracing::debug!(target: "disk", %error, "no flock"),
    }
    lock_bytes(file, write).unwrap_or_else(|error| {
        tracing::debug!(target: "disk", %error, "no byte locks");
        true
    })
}

fn lock_bytes(file: &File, write: bool) -> Result<bool, Errno> {
    let does: &[i64] = if write { &[READ, WRITE] } else { &[READ] };
    let forbids: &[i64] = &[WRITE, RESIZE];
    // First what others shall see, then the look at what they have: of two at once one sees the other.
    let mine = does.iter().map(|n| DOES + n);
    for byte in mine.chain(forbids.iter().map(|n| FORBIDS + n)) {
        let lock = at(byte, libc::F_RDLCK);
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let theirs = does.iter().map(|n| FORBIDS + n);
    for byte in theirs.chain(forbids.iter().map(|n| DOES + n)) {
        let mut lock = at(byte, libc::F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        if libc::c_int::from(lock.l_type) != libc::F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

fn at(byte: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}
