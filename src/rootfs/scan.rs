//! Plain storage: how every inode of the tree was before the RUN, compared
//! with how it is after.
//!
//! The change time cannot be set back, so an inode whose fingerprint is the
//! same was not touched. One whose fingerprint moved is only a suspect: the
//! plan decides.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::Error;
use super::disk::{Disk, What, list};
use super::plan::{Findings, Group};

/// Every name of a tree and the inode behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    inodes: BTreeMap<PathBuf, Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    inode: u64,
    /// A file with more than one name. Directories count what is in them.
    several: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            several: stat.st_nlink > 1 && !is_directory(stat.st_mode),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }
}

fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

/// Kernels before 6.13 stamp changes with the time of the last timer tick,
/// 10 ms at the slowest.
const TICK: Duration = Duration::from_millis(10);

impl Snapshot {
    /// Looks at everything, then makes sure that whatever comes next has a
    /// later change time than what was seen.
    pub(super) fn take(root: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty()).map_err(Error::read(root))?;
        let stat = rustix::fs::fstat(&opened).map_err(Error::read(root))?;
        let mut snapshot = Self::default();
        snapshot.inodes.insert(PathBuf::new(), Fingerprint::of(&stat));
        snapshot.directory(opened.as_fd(), Path::new(""))?;
        snapshot.wait_for_the_clock();
        Ok(snapshot)
    }

    fn directory(&mut self, opened: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        for name in list(opened).map_err(Error::read(path))? {
            let path = path.join(&name);
            let stat = match rustix::fs::statat(opened, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.map_err(Error::read(&path))?,
            };
            if !belongs_in_layers(&stat) {
                continue;
            }
            if is_directory(stat.st_mode) {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(opened, &name, flags, Mode::empty());
                self.directory(below.map_err(Error::read(&path))?.as_fd(), &path)?;
            }
            self.inodes.insert(path, Fingerprint::of(&stat));
        }
        Ok(())
    }

    fn wait_for_the_clock(&self) {
        let newest = self.inodes.values().map(|inode| inode.changed).max().unwrap_or_default();
        let newest =
            Duration::new(u64::try_from(newest.0).unwrap_or(0), u32::try_from(newest.1).unwrap_or(0));
        let safe = UNIX_EPOCH + newest + TICK;
        // A clock that was set back is not waited for.
        if let Ok(wait) = safe.duration_since(SystemTime::now())
            && wait <= 2 * TICK
        {
            thread::sleep(wait);
        }
    }

    /// What moved between this snapshot and `after`.
    pub(super) fn compare(&self, after: &Self, disk: &Disk) -> Result<Findings, Error> {
        let mut found = Findings::default();
        let names = after.names_by_inode();
        let mut seen = BTreeSet::new();
        for (path, inode) in &after.inodes {
            if self.inodes.get(path) == Some(inode) {
                continue;
            }
            let Some(What::Entry(entry)) = disk.get(path)?.map(|inspected| inspected.what) else { continue };
            if entry.kind.is_directory() {
                found.directories.insert(path.clone(), entry);
            } else if seen.insert(inode.inode) {
                let names = names.get(&inode.inode).cloned().unwrap_or_else(|| [path.clone()].into());
                found.groups.push(Group { names, entry, split_off: BTreeSet::new(), shows_lower: false });
            }
        }
        for path in self.inodes.keys().filter(|path| !after.inodes.contains_key(*path)) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            if after.inodes.get(parent).is_some_and(|inode| is_directory(inode.mode)) {
                found.gone.entry(parent.to_owned()).or_default().insert(name.to_owned());
            }
        }
        Ok(found)
    }

    /// Only where there is more than one.
    fn names_by_inode(&self) -> BTreeMap<u64, BTreeSet<PathBuf>> {
        let mut names: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, inode) in &self.inodes {
            if inode.several {
                names.entry(inode.inode).or_default().insert(path.clone());
            }
        }
        names
    }
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
