//! An inode's metadata, set as far as the file system allows; the rest goes
//! into its record.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::metadata::{self, Device, DeviceKind, Key, Record};

use super::{Entry, Error, Kind};

/// Overlay's mark of an opaque directory, in the namespace that `userxattr`
/// mounts read.
const OPAQUE: &str = "user.overlay.opaque";
const CAPABILITY: &[u8] = b"security.capability";

/// Sets owner, attributes, mode and time of an open file, directory or fifo,
/// in this order: changing the owner clears setuid bits and capabilities
/// (chown(2)), and attributes need the write permission that the final mode
/// may take away.
pub(super) fn describe(inode: BorrowedFd<'_>, entry: &Entry, key: &Key) -> Result<(), Error> {
    let mut record = Record { device: device(&entry.kind), ..Record::default() };
    set_owner(inode, entry, &mut record)?;
    set_xattrs(inode, entry, &mut record)?;
    let mode = safe_mode(entry, &mut record);
    if !record.is_empty() {
        record.put(inode, key).or_else(|error| tolerated(entry, error))?;
    }
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::fchmod(inode, mode).map_err(|errno| failed(entry, "chmod", errno))?;
    rustix::fs::futimens(inode, &times(entry)).map_err(|errno| failed(entry, "utimensat", errno))
}

/// As [`describe`], of the symbolic link `name` in `parent`, which has neither
/// a mode nor `user.*` attributes.
pub(super) fn describe_link(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry,
    key: &Key,
) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    match rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::INVAL) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let link = rustix::fs::openat(parent, name, flags, Mode::empty());
            let link = link.map_err(|errno| failed(entry, "open", errno))?;
            let record = Record { owner: Some((entry.uid, entry.gid)), ..Record::default() };
            record.put(link.as_fd(), key).or_else(|error| tolerated(entry, error))?;
        }
        Err(errno) => return Err(failed(entry, "chown", errno)),
    }
    rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed(entry, "utimensat", errno))
}

/// Outside a user namespace only root may put a record on a link or a fifo; the
/// index knows its owner, and no RUN will see it there.
fn tolerated(entry: &Entry, source: metadata::Error) -> Result<(), Error> {
    if matches!(entry.kind, Kind::Symlink { .. } | Kind::Fifo) {
        return Ok(());
    }
    Err(Error::Record { path: entry.path.clone(), source })
}

/// Marks an open directory as opaque.
pub(super) fn mark_opaque(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

pub(super) fn failed(entry: &Entry, action: &'static str, errno: Errno) -> Error {
    Error::Unpack { path: entry.path.clone(), action, source: errno.into() }
}

fn device(kind: &Kind) -> Option<Device> {
    match *kind {
        Kind::CharacterDevice { major, minor } => Some(Device { kind: DeviceKind::Character, major, minor }),
        Kind::BlockDevice { major, minor } => Some(Device { kind: DeviceKind::Block, major, minor }),
        _ => None,
    }
}

fn set_owner(inode: BorrowedFd<'_>, entry: &Entry, record: &mut Record) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    match rustix::fs::fchown(inode, Some(uid), Some(gid)) {
        Ok(()) => {}
        // EPERM: no right to give it away. EINVAL: the id is not mapped here.
        Err(Errno::PERM | Errno::INVAL) => record.owner = Some((entry.uid, entry.gid)),
        Err(errno) => return Err(failed(entry, "chown", errno)),
    }
    Ok(())
}

fn set_xattrs(inode: BorrowedFd<'_>, entry: &Entry, record: &mut Record) -> Result<(), Error> {
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(inode, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS | Errno::INVAL) => {
                if name == CAPABILITY {
                    record.capability = Some(value.clone());
                }
            }
            Err(errno) => return Err(failed(entry, "setxattr", errno)),
        }
    }
    Ok(())
}

/// The mode the inode gets. With a foreign owner setuid and setgid would give
/// the builder's own rights away, and the kernel may drop setgid silently
/// (chmod(2)): then they lie in the record. On a directory they give nothing
/// away, and the kernel must see them: what is made in it inherits its group.
fn safe_mode(entry: &Entry, record: &mut Record) -> u32 {
    if record.owner.is_some() && entry.mode & 0o6000 != 0 && !entry.kind.is_directory() {
        record.mode = Some(entry.mode);
        return entry.mode & 0o1777;
    }
    entry.mode
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime, tv_nsec: 0 },
    }
}
