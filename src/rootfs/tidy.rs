//! After a step on plain storage: its tree as the layers have it.
//!
//! The next step of the stage goes on with the tree, and must find in it what a
//! step on a new tree would find. What is no change stays out of the layer, so
//! it must not stay in the tree either: a file that was replaced by one just
//! like it is still the same file as its other names, and a socket is gone.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::AtFlags;

use crate::layer::Kind;

use super::Error;
use super::before::Before;
use super::disk::{Disk, keeping_time};
use super::plan::{Findings, Plan};

/// `before` has the packed layer on top. Times of directories stay.
pub(super) fn tidy(disk: &Disk, before: &Before, found: &Findings, plan: &Plan) -> Result<(), Error> {
    for path in &found.strangers {
        remove(disk, path).map_err(Error::write(path))?;
    }
    for group in found.groups.iter().filter(|group| matches!(group.entry.kind, Kind::File { .. })) {
        let Some(file) = group.names.first().filter(|file| !plan.has(file)) else { continue };
        let Some(now) = before.get(file) else { continue };
        let names = before.group(&now);
        if let Some(other) = names.iter().find(|name| !group.names.contains(*name)) {
            for name in &group.names {
                join(disk, other, name).map_err(Error::write(name))?;
            }
        }
    }
    Ok(())
}

fn remove(disk: &Disk, path: &Path) -> io::Result<()> {
    let (parent, name) = disk.parent(path)?;
    keeping_time(parent.as_fd(), || Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?))
}

/// Makes `name` a name of the file at `file`.
fn join(disk: &Disk, file: &Path, name: &Path) -> io::Result<()> {
    let ((from, old), (to, new)) = (disk.parent(file)?, disk.parent(name)?);
    if inode(from.as_fd(), old)? == inode(to.as_fd(), new)? {
        return Ok(());
    }
    keeping_time(to.as_fd(), || {
        rustix::fs::unlinkat(&to, new, AtFlags::empty())?;
        Ok(rustix::fs::linkat(&from, old, &to, new, AtFlags::empty())?)
    })
}

fn inode(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<u64> {
    Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino)
}
