//! Plain storage: the layers' trees merged into one directory.
//!
//! What a chain shows is known from its indexes; so building a tree is making
//! what the chain shows, and bringing an older tree up to date is making what
//! newer layers describe and removing what the chain shows no more. Bytes are
//! shared with the trees where the file system can (FICLONE), else copied.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::layer::{Entry, Found, Kind, Stack};

use super::before::{Before, Source};
use super::disk::{is_of_images, list};
use super::upper::modified;
use super::{Error, ROOT, Rootfs, Storing};
use crate::metadata::{self, Key, RECORD_XATTR};

/// Makes `scratch/root` show what `before` says, from nothing or from the tree
/// of an earlier step.
pub(super) fn prepare(
    before: &mut Before,
    scratch: &Path,
    key: &Key,
    previous: Option<Rootfs>,
) -> Result<(), Error> {
    let root = scratch.join(ROOT);
    let previous = previous.filter(|previous| matches!(previous.kind, Storing::Plain { .. }));
    let old = match previous {
        None => {
            fs::create_dir(&root).map_err(Error::write(&root))?;
            Stack::default()
        }
        Some(previous) => {
            fs::rename(previous.scratch.join(ROOT), &root).map_err(Error::write(&root))?;
            let (old, digests) = previous.before.into_digests();
            before.inherit(digests);
            old
        }
    };
    if old.depth() > before.stack().depth() {
        return Err(Error::NotTheBeginning { have: old.depth(), want: before.stack().depth() });
    }
    Merge::open(&root, before, key, old.depth())?.bring_up_to_date(&old)
}

struct Merge<'a> {
    root: OwnedFd,
    before: &'a Before,
    key: &'a Key,
    /// Layers that the tree holds already.
    applied: usize,
    /// Where the first name of a file was made.
    made: HashMap<Source, PathBuf>,
    /// Their times are set last: whatever is made in one moves its time.
    directories: Vec<(PathBuf, Entry)>,
}

impl<'a> Merge<'a> {
    fn open(root: &Path, before: &'a Before, key: &'a Key, applied: usize) -> Result<Self, Error> {
        let opened = rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(Error::write(root))?;
        Ok(Self { root: opened, before, key, applied, made: HashMap::new(), directories: Vec::new() })
    }

    fn bring_up_to_date(mut self, old: &Stack) -> Result<(), Error> {
        let new = self.before.stack();
        for found in old.iter() {
            let path = &found.entry.path;
            let now = new.get(path);
            let replaced = now.is_none_or(|now| {
                is_newer(&now, self.applied)
                    && now.entry.kind.is_directory() != found.entry.kind.is_directory()
            });
            if replaced {
                self.remove(path).map_err(Error::write(path))?;
            } else if found.entry.kind.is_directory() {
                // Its time moves when something in it is made or removed.
                self.directories.extend(new.get(path).map(|now| (path.clone(), now.entry)));
            }
        }
        if let Some(root) = new.get(Path::new("")) {
            self.directories.push((PathBuf::new(), root.entry));
        }
        let applied = self.applied;
        for found in new.iter().filter(|found| is_newer(found, applied)) {
            if !found.entry.path.as_os_str().is_empty() {
                self.make(&found).map_err(Error::write(&found.entry.path))?;
            }
        }
        for (path, entry) in self.directories.iter().rev() {
            self.finish_directory(path, entry).map_err(Error::write(path))?;
        }
        Ok(())
    }

    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        open_directory(self.root.as_fd(), path)
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Already gone with its parent is gone.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.parent(path) {
            Ok((parent, name)) => remove(parent.as_fd(), name),
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn make(&mut self, found: &Found) -> io::Result<()> {
        let (parent, name) = self.parent(&found.entry.path)?;
        let entry = &found.entry;
        if entry.kind.is_directory() {
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.directories.push((entry.path.clone(), entry.clone()));
            return Ok(());
        }
        remove(parent.as_fd(), name)?;
        match &entry.kind {
            Kind::Symlink { target } => {
                rustix::fs::symlinkat(target, &parent, name)?;
                describe_link(parent.as_fd(), name, entry, self.key)
            }
            Kind::Fifo => {
                rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
                describe_link(parent.as_fd(), name, entry, self.key)?;
                Ok(rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?)
            }
            // Nothing has what it names.
            Kind::Hardlink { .. } | Kind::Whiteout | Kind::Directory { .. } => Ok(()),
            Kind::File { .. } | Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => {
                self.make_file(found, parent.as_fd(), name)
            }
        }
    }

    /// A further name of a file is a link to the first. Devices are files too:
    /// placeholders with a record.
    fn make_file(&mut self, found: &Found, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let source = (found.source_layer, found.source_path.clone());
        if let Some(first) = self.first_name(&source, found) {
            let (directory, old) = self.parent(&first)?;
            return Ok(rustix::fs::linkat(&directory, old, parent, name, AtFlags::empty())?);
        }
        let tree = self.before.trees().get(found.source_layer).ok_or(io::ErrorKind::NotFound)?;
        let tree = rustix::fs::open(tree, DIRECTORY, Mode::empty())?;
        let within = open_directory(tree.as_fd(), source.1.parent().unwrap_or(Path::new("")))?;
        let old = source.1.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let from = File::from(rustix::fs::openat(&within, old, FILE, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        copy_bytes(&from, &to)?;
        copy_metadata(from.as_fd(), to.as_fd())?;
        self.made.insert(source, found.entry.path.clone());
        Ok(())
    }

    /// A name in this tree under which the file lies already: made just now,
    /// or by an earlier step.
    fn first_name(&self, source: &Source, found: &Found) -> Option<PathBuf> {
        if let Some(first) = self.made.get(source) {
            return Some(first.clone());
        }
        let is_there =
            |name: &PathBuf| self.before.get(name).is_some_and(|found| !is_newer(&found, self.applied));
        if source.0 >= self.applied { None } else { self.before.group(found).into_iter().find(is_there) }
    }

    fn finish_directory(&self, path: &Path, entry: &Entry) -> io::Result<()> {
        let directory = self.directory(path)?;
        metadata::give(directory.as_fd(), (entry.uid, entry.gid), self.key)?;
        for name in attributes(directory.as_fd())? {
            if is_of_images(&name) && !entry.xattrs.contains_key(&name) {
                rustix::fs::fremovexattr(&directory, name.as_slice())?;
            }
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_of_images(name)) {
            rustix::fs::fsetxattr(&directory, name.as_slice(), value, XattrFlags::empty())?;
        }
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(entry.mode))?;
        Ok(rustix::fs::futimens(&directory, &modified(entry.mtime))?)
    }
}

/// Described by, or lying in, a layer that the tree does not hold yet.
fn is_newer(found: &Found, applied: usize) -> bool {
    found.layer >= applied || found.source_layer >= applied
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn open_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut at = root.try_clone_to_owned()?;
    for name in path {
        at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// Removes a name, a directory with everything in it; nothing there is fine.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    for below in list(directory.as_fd())? {
        remove(directory.as_fd(), &below)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn copy_bytes(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let (mut from, mut to) = (from, to);
    io::copy(&mut from, &mut to).map(drop)
}

/// As it is in the layer's tree, record and nanoseconds included. Owner first,
/// mode after the attributes, time last (see `layer::inode`).
fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for name in attributes(from)? {
        if is_of_images(&name) || name == RECORD_XATTR.as_bytes() {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::fgetxattr(from, name.as_slice(), &mut value[..])?;
            rustix::fs::fsetxattr(to, name.as_slice(), &value[..length], XattrFlags::empty())?;
        }
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

fn describe_link(parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry, key: &Key) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    metadata::give(link.as_fd(), (entry.uid, entry.gid), key)?;
    Ok(rustix::fs::utimensat(parent, name, &modified(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn attributes(inode: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    // XATTR_LIST_MAX.
    let mut buffer = vec![0; 65_536];
    let length = match rustix::fs::flistxattr(inode, &mut buffer[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}
