//! Opening things below a directory that may be hostile: one component at a
//! time, relative to the handle of the one above, never through a link.
//!
//! A name without a slash, opened with `O_NOFOLLOW` relative to a handle, cannot
//! leave that directory; this is what `RESOLVE_BENEATH` would give, on kernels
//! and sandboxes without `openat2` too. The handles of the last path are kept:
//! a walk in order opens every directory once.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open, openat, statat};

/// How many handles one chain keeps; deeper directories are opened from there.
const KEPT: usize = 48;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The root of a tree, and chains of handles below it, one per thread in use.
pub(super) struct Handles {
    root: OwnedFd,
    chains: Mutex<Vec<Chain>>,
}

#[derive(Default)]
struct Chain {
    names: Vec<OsString>,
    handles: Vec<OwnedFd>,
}

impl Handles {
    /// Opens the root. The path to it is trusted, and may be a link.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = open(root, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?;
        Ok(Self { root, chains: Mutex::default() })
    }

    /// The root itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Calls `work` with the handle of the directory at `path`.
    pub(super) fn with_directory<T>(
        &self,
        path: &Path,
        work: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut chain = self.lock().pop().unwrap_or_default();
        let result = self.enter(&mut chain, path).and_then(|deep| match deep {
            Some(handle) => work(handle.as_fd()),
            None => work(chain.handles.last().unwrap_or(&self.root).as_fd()),
        });
        self.lock().push(chain);
        result
    }

    /// Opens the regular file at `path` for reading.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        // Without O_NONBLOCK a pipe put in the file's place would stop us here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            self.with_directory(parent, |directory| Ok(openat(directory, name, flags, Mode::empty())?))?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            _ => Err(io::Error::other("it is no longer a regular file")),
        }
    }

    /// Whether anything is at `path`.
    pub(super) fn exists(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return true };
        let parent = path.parent().unwrap_or(Path::new(""));
        let look = |directory: BorrowedFd<'_>| Ok(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?);
        self.with_directory(parent, look).is_ok()
    }

    /// Brings `chain` to `path`; a handle is returned for what is too deep to keep.
    fn enter(&self, chain: &mut Chain, path: &Path) -> io::Result<Option<OwnedFd>> {
        let mut names = path.components().map(|component| component.as_os_str());
        let mut next = names.next();
        let mut shared = 0;
        while next.is_some() && next == chain.names.get(shared).map(OsString::as_os_str) {
            shared += 1;
            next = names.next();
        }
        chain.names.truncate(shared);
        chain.handles.truncate(shared);
        let mut deep: Option<OwnedFd> = None;
        while let Some(name) = next {
            let above = deep.as_ref().or(chain.handles.last()).unwrap_or(&self.root);
            let handle = enter_one(above.as_fd(), name)?;
            if chain.handles.len() < KEPT {
                chain.names.push(name.to_owned());
                chain.handles.push(handle);
            } else {
                deep = Some(handle);
            }
            next = names.next();
        }
        Ok(deep)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Chain>> {
        self.chains.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn enter_one(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(above, name, DIRECTORY, Mode::empty())?)
}
