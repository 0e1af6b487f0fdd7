//! A walk over a tree on disk in the order of `PathBuf`, parents first.
//!
//! It holds the names of the directories on the way down, packed, and few open
//! handles, however deep the tree is: a RUN may have made it as deep as it
//! likes. No link is followed.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::Error;

/// One name of the tree. The root has an empty name, and is its own parent.
pub(super) struct Step<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a OsStr,
    pub(super) parent: BorrowedFd<'a>,
    pub(super) stat: &'a Stat,
    /// A layer can hold it.
    pub(super) is_of_layers: bool,
}

/// Visits the root and everything below. What goes away meanwhile is passed
/// over.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stat = rustix::fs::fstat(root).map_err(Error::read(Path::new("")))?;
    visit(Step { path: Path::new(""), name: OsStr::new(""), parent: root, stat: &stat, is_of_layers: true })?;
    let buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut way = Way { root, path: Vec::new(), levels: Vec::new(), buffer };
    // Copies of a handle share the place that reading has come to.
    let opened = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty());
    way.enter(opened.map_err(Error::read(Path::new("")))?)?;
    while way.step(visit)? {}
    Ok(())
}

/// Handles that are kept: those of the deepest directories.
const MOST_OPEN: usize = 64;

/// Takes most directories in one call (getdents64(2)).
const BUFFER: usize = 64 << 10;

struct Way<'a> {
    root: BorrowedFd<'a>,
    path: Vec<u8>,
    levels: Vec<Level>,
    buffer: Vec<MaybeUninit<u8>>,
}

struct Level {
    /// Closed where the walk is deep below it.
    directory: Option<OwnedFd>,
    names: Names,
    next: usize,
    /// Bytes of its path.
    length: usize,
}

impl Way<'_> {
    /// One name further; `false` at the end.
    fn step(&mut self, visit: &mut dyn FnMut(Step<'_>) -> Result<(), Error>) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        self.path.truncate(level.length);
        let Some(name) = level.names.get(level.next) else {
            self.levels.pop();
            return Ok(true);
        };
        level.next += 1;
        let directory = match &mut level.directory {
            Some(directory) => directory,
            closed => closed.insert(reopen(self.root, &self.path).map_err(Error::read(shown(&self.path)))?),
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        let path = shown(&self.path);
        let stat = match rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(true),
            other => other.map_err(Error::read(path))?,
        };
        let is_of_layers = belongs_in_layers(&stat);
        visit(Step { path, name, parent: directory.as_fd(), stat: &stat, is_of_layers })?;
        if is_directory(stat.st_mode) {
            let below = rustix::fs::openat(&*directory, name, DIRECTORY, Mode::empty());
            let below = below.map_err(Error::read(path))?;
            self.enter(below)?;
        }
        Ok(true)
    }

    fn enter(&mut self, directory: OwnedFd) -> Result<(), Error> {
        let names = Names::read(directory.as_fd(), &mut self.buffer);
        let names = names.map_err(Error::read(shown(&self.path)))?;
        self.levels.push(Level { directory: Some(directory), names, next: 0, length: self.path.len() });
        if let Some(far) = self.levels.len().checked_sub(MOST_OPEN + 1) {
            self.levels[far].directory = None;
        }
        Ok(())
    }
}

fn shown(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn reopen(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let mut at = root.try_clone_to_owned()?;
    for name in shown(path) {
        at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// The names of one directory, sorted: about 16 bytes each, for there are
/// directories with a million of them.
struct Names {
    bytes: Vec<u8>,
    /// Start and length.
    places: Vec<(u32, u32)>,
}

impl Names {
    /// Of a directory that was just opened.
    fn read(directory: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Self> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut entries = RawDir::new(directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let place = |length: usize| u32::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory);
                places.push((place(bytes.len())?, place(name.len())?));
                bytes.extend_from_slice(name);
            }
        }
        bytes.shrink_to_fit();
        places.shrink_to_fit();
        places.sort_unstable_by(|one, other| slice(&bytes, *one).cmp(slice(&bytes, *other)));
        Ok(Self { bytes, places })
    }

    fn get(&self, at: usize) -> Option<&OsStr> {
        self.places.get(at).map(|place| OsStr::from_bytes(slice(&self.bytes, *place)))
    }
}

fn slice(bytes: &[u8], (start, length): (u32, u32)) -> &[u8] {
    &bytes[start as usize..(start + length) as usize]
}

pub(super) fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

/// No socket, and no overlay whiteout, which anybody may make (mknod(2)) and
/// which would delete things in the layer.
fn belongs_in_layers(stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => false,
        FileType::CharacterDevice => stat.st_rdev != 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn visited(root: &Path) -> Vec<PathBuf> {
        let opened = rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        let mut paths = Vec::new();
        walk(opened.as_fd(), &mut |step| {
            assert_eq!(step.path.file_name().unwrap_or_default(), step.name);
            if step.is_of_layers {
                paths.push(step.path.to_owned());
            }
            Ok(())
        })
        .unwrap();
        paths
    }

    #[test]
    fn it_goes_in_the_order_of_paths() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a-b", "a/b", "a/b.c", "a.b", "z/y/x", "\u{e9}"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        let paths = visited(root.path());
        assert!(paths.is_sorted(), "{paths:?}");
        assert_eq!((paths.len(), paths[0].as_os_str().len()), (11, 0));
    }

    /// Deeper than a path may be long, and with fewer handles than levels.
    #[test]
    fn depth_does_not_matter() {
        let root = tempfile::tempdir().unwrap();
        let mut at: OwnedFd = fs::File::open(root.path()).unwrap().into();
        let long = "a".repeat(30);
        for _ in 0..300 {
            for name in [long.as_str(), "z"] {
                rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            at = rustix::fs::openat(&at, long.as_str(), DIRECTORY, Mode::empty()).unwrap();
        }
        let opened = rustix::fs::open(root.path(), DIRECTORY, Mode::empty()).unwrap();
        let (mut count, mut deepest) = (0, 0);
        walk(opened.as_fd(), &mut |step| {
            count += 1;
            deepest = deepest.max(step.path.components().count());
            Ok(())
        })
        .unwrap();
        assert_eq!((count, deepest), (601, 300));
    }
}
