//! The tree being unpacked, through directory handles.
//!
//! Every component of every name is opened on its own below its parent's
//! handle, without following links; links are read and walked here, inside the
//! root. So there is no path for the kernel to resolve and nothing to escape
//! from, on any kernel (openat2 would do the same in fewer calls, where it is
//! not refused; the last parent is remembered, which saves more).
//!
//! Directories stay 0700 until [`Tree::finish`]: a mode without write
//! permission would lock an ordinary user out, and entries below change times.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::metadata::Key;

use super::index_builder::Walk;
use super::inode::{describe, describe_link, failed, mark_opaque};
use super::path::{LONGEST_PATH, bytes, split};
use super::{Below, Entry, Error, Kind};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    below: Option<&'a dyn Below>,
    looked_below: bool,
    key: &'a Key,
    /// What directories will be, by real path.
    directories: BTreeMap<PathBuf, Directory>,
    /// Directories that hide the layers below, by real path.
    opaque: HashSet<PathBuf>,
    /// The name of the last parent, and where it is.
    parent: Option<(PathBuf, Place)>,
    buffer: Vec<u8>,
}

struct Directory {
    entry: Entry,
    /// The tar has an entry for it.
    explicit: bool,
}

/// An open directory of the tree and its real path.
#[derive(Clone)]
struct Place {
    handle: Rc<OwnedFd>,
    path: PathBuf,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        into: BorrowedFd<'_>,
        below: Option<&'a dyn Below>,
        key: &'a Key,
    ) -> Result<Self, Error> {
        let root = rustix::fs::openat(into, ".", DIRECTORY, Mode::empty());
        let root = root.map_err(|errno| refused(Path::new(""), "open", errno))?;
        Ok(Self {
            root: Rc::new(root),
            below,
            looked_below: false,
            key,
            directories: BTreeMap::new(),
            opaque: HashSet::new(),
            parent: None,
            buffer: vec![0; 128 << 10],
        })
    }

    /// Adds an entry, in place of what the layer had there before.
    pub(super) fn add(&mut self, entry: &Entry, body: &mut dyn Read) -> Result<(), Error> {
        let Some((parent, name)) = split(&entry.path) else { return self.add_root(entry) };
        let place = self.parent(parent)?;
        let real = place.path.join(name);
        if bytes(&real).len() > LONGEST_PATH {
            let reason = "the links on the way make it longer than 4095 bytes";
            return Err(Error::UnsafeName { path: entry.path.clone(), reason });
        }
        match &entry.kind {
            Kind::Directory { .. } => self.add_directory(&place, name, real, entry),
            Kind::Whiteout => self.add_whiteout(&place, name, real, entry),
            Kind::Hardlink { target } => self.add_link(&place, name, real, entry, target),
            Kind::Symlink { target } => {
                self.replacing(&place, name, &real, "symlink", || {
                    rustix::fs::symlinkat(target.as_os_str(), &place.handle, name)
                })?;
                describe_link(place.handle.as_fd(), name, entry, self.key)
            }
            Kind::Fifo => self.add_fifo(&place, name, &real, entry),
            Kind::File { size } => self.add_file(&place, name, &real, entry, *size, body),
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => {
                self.add_file(&place, name, &real, entry, 0, body)
            }
        }
    }

    /// Marks a directory as opaque.
    pub(super) fn add_opaque(&mut self, directory: &Path) -> Result<(), Error> {
        let place = self.parent(directory)?;
        self.hide_below(&place)
    }

    /// Gives the directories their metadata, the deepest first. Whether the
    /// layers below had a say in the tree.
    pub(super) fn finish(mut self) -> Result<bool, Error> {
        if self.opaque.remove(Path::new("")) {
            self.hide_lower_root()?;
        }
        for path in std::mem::take(&mut self.opaque) {
            let place = self.reopen(&path)?;
            drop_whiteouts(&place.handle).map_err(|errno| refused(&path, "remove", errno))?;
        }
        let mut parent: Option<Place> = None;
        for (path, directory) in std::mem::take(&mut self.directories).into_iter().rev() {
            let Some((above, name)) = split(&path) else {
                describe(self.root.as_fd(), &directory.entry, self.key)?;
                continue;
            };
            let place = match parent.take().filter(|place| place.path == above) {
                Some(place) => place,
                None => self.reopen(above)?,
            };
            let handle =
                open_directory(&place.handle, name).map_err(|errno| refused(&path, "open", errno))?;
            describe(handle.as_fd(), &directory.entry, self.key)?;
            parent = Some(place);
        }
        Ok(self.looked_below)
    }

    /// Overlay merges the roots of its layers whatever marks they have (measured
    /// on 6.18), so an opaque root hides what is below it name by name.
    fn hide_lower_root(&mut self) -> Result<(), Error> {
        self.looked_below = true;
        let root = self.root_place();
        for name in self.below.map_or_else(Vec::new, |below| below.children(Path::new(""))) {
            let real = PathBuf::from(&name);
            if self.directories.contains_key(&real) {
                let handle =
                    open_directory(&root.handle, &name).map_err(|errno| refused(&real, "open", errno))?;
                self.hide_below(&Place { handle: Rc::new(handle), path: real })?;
            } else {
                make_whiteout(&root.handle, &name, &real)?;
            }
        }
        Ok(())
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), Error> {
        if !entry.kind.is_directory() {
            let reason = "the root is a directory";
            return Err(Error::UnsafeName { path: PathBuf::from("/"), reason });
        }
        self.directories.insert(PathBuf::new(), Directory { entry: entry.clone(), explicit: true });
        Ok(())
    }

    /// A directory joins one that is there; over anything else of this layer,
    /// a whiteout first of all, it starts empty.
    fn add_directory(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        entry: &Entry,
    ) -> Result<(), Error> {
        let directory = Directory { entry: entry.clone(), explicit: true };
        match rustix::fs::mkdirat(&place.handle, name, Mode::RWXU) {
            Ok(()) => drop(self.directories.insert(real, directory)),
            Err(Errno::EXIST) if self.directories.contains_key(&real) => {
                self.directories.insert(real, directory);
            }
            Err(Errno::EXIST) => {
                self.clear(place, name, &real)?;
                let made = self.make_directory(place, name, real.clone(), directory)?;
                self.hide_below(&made)?;
            }
            Err(errno) => return Err(failed(entry, "mkdir", errno)),
        }
        Ok(())
    }

    /// See `IndexBuilder::add_whiteout`: it concerns lower layers only.
    fn add_whiteout(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        entry: &Entry,
    ) -> Result<(), Error> {
        if let Some(directory) = self.directories.get_mut(&real) {
            if !directory.explicit {
                directory.entry = Entry::implicit_directory(real.clone());
                directory.explicit = true;
            }
            let handle = open_directory(&place.handle, name).map_err(|errno| failed(entry, "open", errno))?;
            return self.hide_below(&Place { handle: Rc::new(handle), path: real });
        }
        make_whiteout(&place.handle, name, &entry.path)
    }

    fn add_file(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: &Path,
        entry: &Entry,
        size: u64,
        body: &mut dyn Read,
    ) -> Result<(), Error> {
        let file = self.replacing(place, name, real, "create", || {
            rustix::fs::openat(&place.handle, name, NEW_FILE, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = File::from(file);
        self.copy(&mut file, entry, size, body)?;
        describe(file.as_fd(), entry, self.key)
    }

    fn add_fifo(&mut self, place: &Place, name: &OsStr, real: &Path, entry: &Entry) -> Result<(), Error> {
        self.replacing(place, name, real, "mkfifo", || {
            rustix::fs::mknodat(&place.handle, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        })?;
        // Opening a fifo for reading does not wait with O_NONBLOCK (fifo(7)).
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = rustix::fs::openat(&place.handle, name, flags, Mode::empty());
        describe(fifo.map_err(|errno| failed(entry, "open", errno))?.as_fd(), entry, self.key)
    }

    fn add_link(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        entry: &Entry,
        target: &Path,
    ) -> Result<(), Error> {
        let refuse =
            |reason| Error::LinkTarget { path: entry.path.clone(), target: target.to_owned(), reason };
        let Some((parent, target_name)) = split(target) else { return Err(refuse("which is a directory")) };
        let target_place = self.parent(parent)?;
        let target_real = target_place.path.join(target_name);
        match status(&target_place.handle, target_name) {
            Ok((FileType::Directory, _)) => return Err(refuse("which is a directory")),
            Ok((FileType::CharacterDevice, _)) => return Err(refuse("which this layer deletes")),
            Ok(_) if target_real == real => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOENT) => self.copy_up(&target_real, &refuse)?,
            Err(errno) => return Err(failed(entry, "stat", errno)),
        }
        if target_real == real {
            return Ok(());
        }
        let linked = self.replacing(place, name, &real, "link", || {
            rustix::fs::linkat(&target_place.handle, target_name, &place.handle, name, AtFlags::empty())
        });
        linked.map_err(|error| match error {
            // Clearing the name took the target with it.
            Error::Unpack { source, .. } if source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                refuse("which lies below it")
            }
            other => other,
        })?;
        Ok(())
    }

    /// Brings a file of the layers below up, as overlay does when a name is
    /// added to it.
    fn copy_up(&mut self, real: &Path, refuse: &dyn Fn(&'static str) -> Error) -> Result<(), Error> {
        let entry = self.lower(real).ok_or_else(|| refuse("which does not exist"))?;
        let entry = Entry { path: real.to_owned(), ..entry };
        match entry.kind {
            Kind::Directory { .. } => Err(refuse("which is a directory")),
            Kind::Whiteout | Kind::Hardlink { .. } => Err(refuse("which does not exist")),
            Kind::File { .. } => {
                let below = self.below.expect("lower() found an entry, so there are layers below");
                let mut body = below.open(real).map_err(|source| Error::Unpack {
                    path: real.to_owned(),
                    action: "open",
                    source,
                })?;
                self.add(&entry, &mut body)
            }
            _ => self.add(&entry, &mut std::io::empty()),
        }
    }

    /// Copies exactly `size` bytes.
    fn copy(&mut self, file: &mut File, entry: &Entry, size: u64, body: &mut dyn Read) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match body.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(Error::Truncated { path: entry.path.clone() }),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::ReadBlob(error)),
            };
            file.write_all(&self.buffer[..count]).map_err(|source| Error::Unpack {
                path: entry.path.clone(),
                action: "write",
                source,
            })?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Makes something new; what this layer had under the name goes first.
    fn replacing<T>(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: &Path,
        action: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(place, name, real)?;
                make().map_err(|errno| refused(real, action, errno))
            }
            made => made.map_err(|errno| refused(real, action, errno)),
        }
    }

    fn clear(&mut self, place: &Place, name: &OsStr, real: &Path) -> Result<(), Error> {
        remove(&place.handle, name).map_err(|errno| refused(real, "remove", errno))?;
        let gone: Vec<PathBuf> = self.directories_from(real).cloned().collect();
        for path in &gone {
            self.directories.remove(path);
            self.opaque.remove(path);
        }
        self.parent = None;
        Ok(())
    }

    fn directories_from(&self, real: &Path) -> impl Iterator<Item = &PathBuf> {
        self.directories
            .range(real.to_owned()..)
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(real))
    }

    fn make_directory(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        directory: Directory,
    ) -> Result<Place, Error> {
        rustix::fs::mkdirat(&place.handle, name, Mode::RWXU)
            .map_err(|errno| refused(&real, "mkdir", errno))?;
        let handle = open_directory(&place.handle, name).map_err(|errno| refused(&real, "open", errno))?;
        self.directories.insert(real.clone(), directory);
        Ok(Place { handle: Rc::new(handle), path: real })
    }

    fn hide_below(&mut self, place: &Place) -> Result<(), Error> {
        self.opaque.insert(place.path.clone());
        mark_opaque(&place.handle).map_err(|source| Error::Unpack {
            path: place.path.clone(),
            action: "setting `user.overlay.opaque`",
            source,
        })
    }

    /// The directory of this name, made when the layer has not got it yet.
    fn parent(&mut self, name: &Path) -> Result<Place, Error> {
        if let Some((known, place)) = &self.parent
            && known == name
        {
            return Ok(place.clone());
        }
        let place = self.walk(name)?;
        self.parent = Some((name.to_owned(), place.clone()));
        Ok(place)
    }

    fn walk(&mut self, wanted: &Path) -> Result<Place, Error> {
        let mut walk = Walk::new(wanted);
        let mut place = self.root_place();
        while let Some(name) = walk.next() {
            if walk.at != place.path {
                place = self.reopen(&walk.at)?;
            }
            match self.step(&place, &name, wanted)? {
                Step::Into(next) => {
                    walk.at.clone_from(&next.path);
                    place = next;
                }
                Step::Link(target) => walk.follow(&target)?,
            }
        }
        if walk.at == place.path { Ok(place) } else { self.reopen(&walk.at) }
    }

    fn step(&mut self, place: &Place, name: &OsStr, wanted: &Path) -> Result<Step, Error> {
        let real = place.path.join(name);
        match open_directory(&place.handle, name) {
            Ok(handle) => Ok(Step::Into(Place { handle: Rc::new(handle), path: real })),
            Err(Errno::NOENT) => self.step_below(place, name, real, wanted),
            Err(Errno::LOOP | Errno::NOTDIR) => self.step_over(place, name, real, wanted),
            Err(errno) => Err(refused(&real, "open", errno)),
        }
    }

    /// This layer has nothing of that name: what do the others have?
    fn step_below(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        wanted: &Path,
    ) -> Result<Step, Error> {
        if bytes(&real).len() > LONGEST_PATH {
            let reason = "the links on the way make it longer than 4095 bytes";
            return Err(Error::UnsafeName { path: wanted.to_owned(), reason });
        }
        let entry = self.lower(&real).unwrap_or_else(|| Entry::implicit_directory(real.clone()));
        match entry.kind {
            Kind::Symlink { target } => Ok(Step::Link(target)),
            Kind::Directory { .. } => {
                let directory = Directory { entry, explicit: false };
                self.make_directory(place, name, real, directory).map(Step::Into)
            }
            _ => Err(Error::NotADirectory { path: real, wanted: wanted.to_owned() }),
        }
    }

    /// Something of this layer that is no directory.
    fn step_over(
        &mut self,
        place: &Place,
        name: &OsStr,
        real: PathBuf,
        wanted: &Path,
    ) -> Result<Step, Error> {
        let (kind, device) = status(&place.handle, name).map_err(|errno| refused(&real, "stat", errno))?;
        match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&place.handle, name, Vec::new())
                    .map_err(|errno| refused(&real, "readlink", errno))?;
                Ok(Step::Link(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()))))
            }
            // The layer deletes what was there, and puts a new one in its place.
            FileType::CharacterDevice if device == 0 => {
                self.clear(place, name, &real)?;
                let entry = Entry::implicit_directory(real.clone());
                let made = self.make_directory(place, name, real, Directory { entry, explicit: true })?;
                self.hide_below(&made)?;
                Ok(Step::Into(made))
            }
            _ => Err(Error::NotADirectory { path: real, wanted: wanted.to_owned() }),
        }
    }

    /// What the layers below show at a path that this layer does not have.
    fn lower(&mut self, real: &Path) -> Option<Entry> {
        if real.ancestors().skip(1).any(|above| self.opaque.contains(above)) {
            return None;
        }
        self.looked_below = true;
        self.below?.get(real)
    }

    fn root_place(&self) -> Place {
        Place { handle: Rc::clone(&self.root), path: PathBuf::new() }
    }

    /// A directory of the tree by its real path.
    fn reopen(&self, real: &Path) -> Result<Place, Error> {
        let mut handle = Rc::clone(&self.root);
        for name in real {
            let next = open_directory(&handle, name).map_err(|errno| refused(real, "open", errno))?;
            handle = Rc::new(next);
        }
        Ok(Place { handle, path: real.to_owned() })
    }
}

enum Step {
    Into(Place),
    Link(PathBuf),
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Beside anything else of this layer a whiteout says nothing.
fn make_whiteout(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), Error> {
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // overlayfs has none inside itself. A tree that lies there is no lower
        // directory of another; it is merged, by its entry index.
        Err(Errno::PERM) if lies_on_overlay(parent) => Ok(()),
        Err(errno) => Err(Error::Whiteout { path: path.to_owned(), source: errno.into() }),
    }
}

fn lies_on_overlay(directory: &OwnedFd) -> bool {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
}

/// Type and, for devices, number; no link is followed.
fn status(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<(FileType, u64)> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((FileType::from_raw_mode(stat.st_mode), stat.st_rdev))
}

/// Removes a name and everything below it, following nothing.
fn remove(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let directory = open_directory(parent, name)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes());
        if child != "." && child != ".." {
            remove(&directory, child)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes the deletion marks of an opaque directory. They delete nothing, and
/// overlay, which merges such a directory with no other, would list them as
/// names that cannot be looked up.
fn drop_whiteouts(directory: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if matches!(entry.file_type(), FileType::CharacterDevice | FileType::Unknown) {
            names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
        }
    }
    for name in names {
        if status(directory, &name)? == (FileType::CharacterDevice, 0) {
            rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn refused(path: &Path, action: &'static str, errno: Errno) -> Error {
    Error::Unpack { path: path.to_owned(), action, source: errno.into() }
}
