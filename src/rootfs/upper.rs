//! Overlay storage: an upper directory for the RUN, and what it says
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};

use crate::layer::Entry;
use crate::metadata::{self, Key};
use crate::sandbox::{Linked, Touched};

use super::before::Before;
use super::disk::{Disk, Inspected, What, keeping_time, list};
use super::plan::{Findings, Group, Plan};
use super::rejoin::{Part, rejoin};
use super::{Error, NOTES, Storing, UPPER, WORK};

/// Makes the directories of an overlay. `/` shows the upper's own metadata, so
/// it gets that of the root below.
pub(super) fn prepare(before: &Before, scratch: &Path, key: &Key) -> Result<Storing, Error> {
    let [upper, work] = [UPPER, WORK].map(|name| scratch.join(name));
    for directory in [&upper, &work] {
        fs::create_dir(directory).map_err(Error::write(directory))?;
    }
    if let Some(found) = before.get(Path::new("")) {
        describe(&upper, &found.entry, key).map_err(Error::write(Path::new("")))?;
    }
    let lowers = before.trees().iter().rev().cloned().collect();
    let linked = Linked { names: before.linked(), notes: scratch.join(NOTES) };
    Ok(Storing::Overlay { lowers, linked, packed: false })
}

/// Owner, mode and time of a directory that was just made.
fn describe(directory: &Path, entry: &Entry, key: &Key) -> io::Result<()> {
    metadata::give(fs::File::open(directory)?.as_fd(), (entry.uid, entry.gid), key)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(entry.mode))?;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, directory, &modified(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn modified(seconds: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}

/// Walks the upper directory. `touched` is what became of names that share a
/// file below.
pub(super) fn find(disk: &Disk, before: &Before, touched: &[Touched]) -> Result<Findings, Error> {
    let root = Path::new("");
    let opened = disk.directory(root).map_err(Error::read(root))?;
    let mut walk = Walk { disk, before, found: Findings::default(), inodes: BTreeMap::new() };
    if let Some(Inspected { what: What::Entry(entry), .. }) = disk.get(root)? {
        walk.found.directories.insert(root.to_owned(), entry);
    }
    walk.directory(opened.as_fd(), root, false)?;
    let groups = rejoin(walk.inodes, touched, before, disk)?;
    Ok(Findings { groups, ..walk.found })
}

struct Walk<'a> {
    disk: &'a Disk,
    before: &'a Before,
    found: Findings,
    inodes: BTreeMap<u64, Part>,
}

impl Walk<'_> {
    /// `pure`: nothing of the lower directory shows through, because this one
    /// or one above is opaque or new.
    fn directory(&mut self, opened: BorrowedFd<'_>, path: &Path, pure: bool) -> Result<(), Error> {
        let mut present = BTreeSet::new();
        for name in list(opened).map_err(Error::read(path))? {
            if self.name(opened, &name, &path.join(&name), pure)? {
                present.insert(name);
            } else if !pure {
                self.found.gone.entry(path.to_owned()).or_default().insert(name);
            }
        }
        if pure {
            let gone: BTreeSet<_> =
                self.before.names(path).into_iter().filter(|name| !present.contains(name)).collect();
            if !gone.is_empty() {
                self.found.gone.insert(path.to_owned(), gone);
            }
        }
        Ok(())
    }

    /// Says whether there is something under this name, to a layer.
    fn name(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path, pure: bool) -> Result<bool, Error> {
        let Some(inspected) = self.disk.inspect(parent, name, path)? else { return Ok(false) };
        let entry = match inspected.what {
            What::Whiteout => return Ok(false),
            What::Socket => {
                self.found.strangers.push(path.to_owned());
                return Ok(false);
            }
            What::Entry(entry) => entry,
        };
        if entry.kind.is_directory() {
            self.found.directories.insert(path.to_owned(), entry);
            let opened = open_directory(parent, name).map_err(Error::read(path))?;
            self.directory(opened.as_fd(), path, pure || inspected.opaque)?;
            return Ok(true);
        }
        // One inode that has several names is one group; whiteouts, which also
        // share an inode, are no names.
        let changed = inspected.changed;
        let group = Group { shows_lower: true, ..Group::of_name(path, entry) };
        let new = || Part { group, changed };
        let group = &mut self.inodes.entry(inspected.inode).or_insert_with(new).group;
        group.shows_lower &= !pure;
        group.names.insert(path.to_owned());
        Ok(true)
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Makes the upper directory the tree of the layer that was packed from it:
/// what was copied up and never changed goes (it would split a group of names
/// for good), names that overlayfs split off are joined again, sockets go.
/// Directory times stay.
pub(super) fn normalise(disk: &Disk, before: &Before, found: &Findings, plan: &Plan) -> Result<(), Error> {
    for group in &found.groups {
        let Some(file) = group.names.first() else { continue };
        if !plan.has(file) {
            for name in group.names.iter().filter(|_| group.shows_lower) {
                remove(disk, name).map_err(Error::write(name))?;
            }
            continue;
        }
        for name in &group.split_off {
            join(disk, before, file, name).map_err(Error::write(name))?;
        }
    }
    for path in &found.strangers {
        remove_socket(disk, before, path).map_err(Error::write(path))?;
    }
    Ok(())
}

fn remove(disk: &Disk, path: &Path) -> io::Result<()> {
    let (parent, name) = disk.parent(path)?;
    keeping_time(parent.as_fd(), || Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?))
}

fn join(disk: &Disk, before: &Before, file: &Path, name: &Path) -> io::Result<()> {
    make_parents(disk, before, name)?;
    let ((from, old), (to, new)) = (disk.parent(file)?, disk.parent(name)?);
    keeping_time(to.as_fd(), || Ok(rustix::fs::linkat(&from, old, &to, new, AtFlags::empty())?))
}

fn make_parents(disk: &Disk, before: &Before, path: &Path) -> io::Result<()> {
    let mut parents: Vec<&Path> =
        path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    parents.reverse();
    for path in parents {
        if disk.directory(path).is_ok() {
            continue;
        }
        let (parent, name) = disk.parent(path)?;
        keeping_time(parent.as_fd(), || Ok(rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?))?;
        let made = disk.directory(path)?;
        if let Some(found) = before.get(path) {
            let entry = found.entry;
            metadata::give(made.as_fd(), (entry.uid, entry.gid), disk.key())?;
            for (name, value) in &entry.xattrs {
                rustix::fs::fsetxattr(&made, name.as_slice(), value, rustix::fs::XattrFlags::empty())?;
            }
            rustix::fs::fchmod(&made, Mode::from_raw_mode(entry.mode))?;
            rustix::fs::futimens(&made, &modified(entry.mtime))?;
        }
    }
    Ok(())
}

fn remove_socket(disk: &Disk, before: &Before, path: &Path) -> io::Result<()> {
    let (parent, name) = disk.parent(path)?;
    keeping_time(parent.as_fd(), || {
        rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
        if before.get(path).is_some() {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, mode, 0)?;
        }
        Ok(())
    })
}
