//! Reading a tree on disk as entries of a layer: through directory handles,
//! no link followed, metadata through the record.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::layer::{Entry, Kind, is_bookkeeping};
use crate::metadata::{self, DeviceKind, Key, RECORD_XATTR, Record};

use super::Error;

const OPAQUE: &[u8] = b"user.overlay.opaque";
const CAPABILITY: &[u8] = b"security.capability";

/// A tree, opened at its root.
pub(super) struct Disk {
    root: OwnedFd,
    key: Key,
}

/// One name of a tree.
#[derive(Clone, Debug)]
pub(super) struct Inspected {
    pub(super) what: What,
    pub(super) inode: u64,
    /// When the inode was touched last: seconds, nanoseconds.
    pub(super) changed: (i64, u32),
    /// Nothing of a lower directory shows through.
    pub(super) opaque: bool,
}

/// What a name is to a layer.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Something a layer holds.
    Entry(Entry),
    /// overlayfs' mark of a deleted name: a character device 0:0.
    Whiteout,
    /// Means nothing without its process.
    Socket,
}

impl Disk {
    pub(super) fn open(root: &Path, key: &Key) -> Result<Self, Error> {
        let opened = rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(Error::read(root))?;
        Ok(Self { root: opened, key: key.clone() })
    }

    /// What authenticates the records of this tree.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// The root.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A directory of the tree, every component of its path a real directory.
    pub(super) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for name in path {
            at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?;
        }
        Ok(at)
    }

    /// The directory that holds `path`, and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// A regular file's bytes.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::openat(parent, name, FILE, Mode::empty())?.into())
    }

    /// One path, if it is there.
    pub(super) fn get(&self, path: &Path) -> Result<Option<Inspected>, Error> {
        if path.as_os_str().is_empty() {
            return self.inspect_root(path).map(Some);
        }
        let found = self.parent(path).map_err(Error::read::<io::Error>(path));
        match found {
            Ok((parent, name)) => self.inspect(parent.as_fd(), name, path),
            Err(Error::Read { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn inspect_root(&self, path: &Path) -> Result<Inspected, Error> {
        let stat = rustix::fs::fstat(&self.root).map_err(Error::read(path))?;
        self.describe(&stat, Some(self.root.as_fd()), PathBuf::new(), Kind::Directory { opaque: false })
            .map_err(Error::read(path))
    }

    /// The name `name` in `parent`, which `path` says in full.
    pub(super) fn inspect(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<Inspected>, Error> {
        match self.look(parent, name, path) {
            Ok(inspected) => Ok(Some(inspected)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }

    fn look(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<Inspected> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = path.to_owned();
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
                return self.describe(&stat, Some(opened.as_fd()), path, Kind::Directory { opaque: false });
            }
            FileType::RegularFile => {
                let opened = rustix::fs::openat(parent, name, FILE, Mode::empty())?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                return self.describe(&stat, Some(opened.as_fd()), path, Kind::File { size });
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                Kind::Symlink { target: OsString::from_vec(target.into_bytes()).into() }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice if device == (0, 0) => return Ok(without_entry(&stat, What::Whiteout)),
            FileType::CharacterDevice => Kind::CharacterDevice { major: device.0, minor: device.1 },
            FileType::BlockDevice => Kind::BlockDevice { major: device.0, minor: device.1 },
            _ => return Ok(without_entry(&stat, What::Socket)),
        };
        let mut inspected = self.describe(&stat, None, path, kind)?;
        let handle = rustix::fs::openat(parent, name, HANDLE, Mode::empty())?;
        let record = Record::of(handle.as_fd(), &self.key).map_err(metadata::Error::into_io)?;
        if let (Some(record), What::Entry(entry)) = (record, &mut inspected.what) {
            apply(record, entry);
        }
        Ok(inspected)
    }

    /// Only files and directories are opened: links, fifos and devices take no
    /// attributes that an image could have (xattr(7)).
    fn describe(
        &self,
        stat: &Stat,
        opened: Option<BorrowedFd<'_>>,
        path: PathBuf,
        kind: Kind,
    ) -> io::Result<Inspected> {
        let mut entry = Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            xattrs: BTreeMap::new(),
        };
        let mut inspected = without_entry(stat, What::Socket);
        if let Some(opened) = opened {
            for name in names(opened)? {
                self.take_attribute(opened, name, &mut entry, &mut inspected)?;
            }
        }
        inspected.what = What::Entry(entry);
        Ok(inspected)
    }

    fn take_attribute(
        &self,
        inode: BorrowedFd<'_>,
        name: Vec<u8>,
        entry: &mut Entry,
        inspected: &mut Inspected,
    ) -> io::Result<()> {
        let is_record = name == RECORD_XATTR.as_bytes();
        match name.as_slice() {
            OPAQUE => inspected.opaque = value(inode, &name)?.is_some_and(|value| value == b"y"),
            _ if is_record => {
                let record = value(inode, &name)?.and_then(|value| Record::from_xattr(&value, &self.key));
                if let Some(record) = record {
                    apply(record, entry);
                }
            }
            _ if is_of_images(&name) => {
                if let Some(value) = value(inode, &name)? {
                    entry.xattrs.insert(name, value);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn without_entry(stat: &Stat, what: What) -> Inspected {
    let changed = (stat.st_ctime, stat.st_ctime_nsec as u32);
    Inspected { what, inode: stat.st_ino, changed, opaque: false }
}

/// The record knows better than the inode.
fn apply(record: Record, entry: &mut Entry) {
    if let Some((uid, gid)) = record.owner {
        (entry.uid, entry.gid) = (uid, gid);
    }
    if let Some(mode) = record.mode {
        entry.mode = mode;
    }
    if let Some(capability) = record.capability {
        entry.xattrs.insert(CAPABILITY.to_vec(), capability);
    }
    if let Some(device) = record.device {
        let (major, minor) = (device.major, device.minor);
        entry.kind = match device.kind {
            DeviceKind::Character => Kind::CharacterDevice { major, minor },
            DeviceKind::Block => Kind::BlockDevice { major, minor },
        };
    }
}

/// Attributes that a RUN can set and an image can carry. Others say something
/// about the host (security.selinux, trusted.*): a tree cannot hold them
/// faithfully, so they neither count as a change nor enter a layer.
pub(super) fn is_of_images(name: &[u8]) -> bool {
    !is_bookkeeping(name)
        && (name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == CAPABILITY)
}

/// The names in a directory, sorted.
pub(super) fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for item in Dir::read_from(directory)? {
        let name = OsStr::from_bytes(item?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn names(inode: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    // XATTR_LIST_MAX: there is never more.
    let mut buffer = vec![0; 65_536];
    let length = match rustix::fs::flistxattr(inode, &mut buffer[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn value(inode: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    // XATTR_SIZE_MAX.
    let mut buffer = vec![0; 65_536];
    match rustix::fs::fgetxattr(inode, name, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Does something in a directory and gives it its times back.
pub(super) fn keeping_time(
    directory: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let stat = rustix::fs::fstat(directory)?;
    work()?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::futimens(directory, &times)?)
}
