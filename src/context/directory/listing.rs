//! One directory of a context, listed and looked at.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, RawDir, fgetxattr, fstat, lgetxattr, major, minor, readlinkat, statat};
use rustix::io::Errno;

use super::CAPABILITY;
use crate::context::ignore::{Ignore, Inherited};
use crate::context::stat_index::Stat;
use crate::context::{Node, NodeKind};

/// What a directory holds, sorted, without what no exception can bring back.
pub(super) struct Listing {
    pub(super) children: Vec<Child>,
    /// Names the ignore file hides for good.
    pub(super) hidden: Vec<OsString>,
}

pub(super) struct Child {
    pub(super) name: OsString,
    pub(super) kind: NodeKind,
    pub(super) stat: Stat,
    /// Whether the file has several names.
    pub(super) linked: bool,
    pub(super) shown: Shown,
    /// What the ignore file says of it, for what is below.
    pub(super) inherited: Inherited,
}

/// Whether an entry is part of the context; what is not for good is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    /// An excluded directory with something below it that is not.
    IfAnythingBelow,
}

impl Listing {
    pub(super) fn position(&self, name: &OsStr) -> Option<usize> {
        self.children.binary_search_by(|child| child.name.as_os_str().cmp(name)).ok()
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<&Child> {
        self.position(name).map(|position| &self.children[position])
    }
}

/// Lists `directory`, which is at `path` in the context.
pub(super) fn read(
    directory: BorrowedFd<'_>,
    path: &Path,
    ignore: &Ignore,
    inherited: &Inherited,
) -> io::Result<Listing> {
    let mut names = names(directory)?;
    names.sort_unstable();
    let mut listing = Listing { children: Vec::with_capacity(names.len()), hidden: Vec::new() };
    for name in names {
        match child(directory, path, &name, ignore, inherited) {
            Ok(Some(child)) => listing.children.push(child),
            Ok(None) => listing.hidden.push(name),
            // Removed since it was listed: then it is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listing)
}

/// The names, from the start: a kept handle may have been read before.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

/// `None` when the ignore file hides it for good.
fn child(
    directory: BorrowedFd<'_>,
    path: &Path,
    name: &OsStr,
    ignore: &Ignore,
    inherited: &Inherited,
) -> io::Result<Option<Child>> {
    let mut shown = Shown::Yes;
    let mut handed_down = Inherited::default();
    if !ignore.is_empty() {
        let verdict = ignore.step(&path.join(name), inherited);
        handed_down = verdict.inherited;
        if verdict.excluded {
            if !ignore.may_include_below(&path.join(name)) {
                return Ok(None);
            }
            shown = Shown::IfAnythingBelow;
        }
    }
    let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let stat = stat(&status);
    let kind = kind(directory, name, &status)?;
    if shown != Shown::Yes && kind != NodeKind::Directory {
        return Ok(None);
    }
    let linked = status.st_nlink > 1 && matches!(kind, NodeKind::File { .. });
    Ok(Some(Child { name: name.to_owned(), kind, stat, linked, shown, inherited: handed_down }))
}

fn kind(directory: BorrowedFd<'_>, name: &OsStr, status: &rustix::fs::Stat) -> io::Result<NodeKind> {
    let (major, minor) = (major(status.st_rdev), minor(status.st_rdev));
    Ok(match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => NodeKind::File { size: size(status) },
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => {
            let target = readlinkat(directory, name, Vec::new())?;
            NodeKind::Symlink(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
        }
        FileType::CharacterDevice => NodeKind::CharacterDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        FileType::Fifo => NodeKind::Fifo,
        _ => NodeKind::Socket,
    })
}

/// The root of a context.
pub(super) fn root(stat: &Stat) -> Node {
    Node {
        kind: NodeKind::Directory,
        mode: permissions(stat),
        uid: 0,
        gid: 0,
        mtime: stat.mtime.0,
        xattrs: BTreeMap::new(),
        link_group: None,
    }
}

pub(super) fn permissions(stat: &Stat) -> u32 {
    u32::try_from(stat.mode & 0o7777).expect("twelve bits fit")
}

pub(super) fn stat_of(file: impl AsFd) -> io::Result<Stat> {
    Ok(stat(&fstat(file)?))
}

#[expect(clippy::unnecessary_cast, reason = "the types of the fields differ by architecture")]
fn stat(status: &rustix::fs::Stat) -> Stat {
    Stat {
        device: status.st_dev as u64,
        inode: status.st_ino as u64,
        size: size(status),
        mode: u64::from(status.st_mode),
        mtime: (status.st_mtime as i64, status.st_mtime_nsec as i64),
        ctime: (status.st_ctime as i64, status.st_ctime_nsec as i64),
    }
}

fn size(status: &rustix::fs::Stat) -> u64 {
    u64::try_from(status.st_size).unwrap_or(0)
}

/// `security.capability` of the file `name`, which is not opened: that would
/// fail where we may not read it. `/proc` gives a path to the handle.
pub(super) fn capability(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    let path = CString::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut buffer = [0; 64];
    attribute(lgetxattr(path.as_c_str(), CAPABILITY, &mut buffer), &buffer)
}

/// The same of an open file.
pub(super) fn capability_of(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 64];
    attribute(fgetxattr(file, CAPABILITY, &mut buffer), &buffer)
}

fn attribute(found: rustix::io::Result<usize>, buffer: &[u8]) -> io::Result<Vec<u8>> {
    match found {
        Ok(length) => Ok(buffer[..length].to_vec()),
        // None there; a file system without attributes; no /proc; longer than any
        // capability is. A file without its capability is what a context held on
        // such a file system has.
        Err(
            Errno::NODATA
            | Errno::NOTSUP
            | Errno::NOENT
            | Errno::NOSYS
            | Errno::RANGE
            | Errno::PERM
            | Errno::ACCESS,
        ) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
