//! mknod of a device: an empty placeholder with a record, which the layer
//! shows as the device. On `chroot` the kernel would make a device of the host,
//! and in a user namespace it makes none.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};

use super::open::errno;
use super::task::Identity;
use super::walk::{Target, open_below};
use super::{Answer, Service};
use crate::metadata::{Device, DeviceKind, Record};

/// A device that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Type and permissions, as mknod(2) has them.
    pub(super) mode: u32,
    pub(super) device: u64,
}

impl Service {
    /// `path` is absolute below `root`, which is the caller's.
    pub(super) fn make_device(
        &self,
        thread: i32,
        root: Option<&OwnedFd>,
        path: &Path,
        wanted: Wanted,
    ) -> io::Result<Answer> {
        let caller = Identity::of(thread)?;
        // 0:0 means something to overlayfs, which refuses it to everybody.
        if wanted.device == 0 {
            return Ok(Answer::Error(libc::EPERM));
        }
        // Only root has CAP_MKNOD elsewhere: the kernel knows what to say.
        if caller.uid != 0 || self.tree.record_key().is_none() {
            return Ok(Answer::GoOn);
        }
        Ok(Answer::of(self.place_device(&caller, thread, root, path, wanted), |()| Answer::Value(0)))
    }

    fn place_device(
        &self,
        caller: &Identity,
        thread: i32,
        root: Option<&OwnedFd>,
        path: &Path,
        wanted: Wanted,
    ) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(errno(libc::EEXIST));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match root {
            Some(root) => open_below(root, parent, flags, ResolveFlags::empty())?,
            None => match self.tree.resolve(parent, true, thread)? {
                Target::Native => self.tree.look(parent, true)?,
                Target::Tree(parent) => parent,
                _ => return Err(errno(libc::EPERM)),
            },
        };
        let mode = Mode::from_raw_mode(wanted.mode & 0o7777 & !caller.umask);
        if self.real_devices {
            let kind = FileType::from_raw_mode(wanted.mode);
            match rustix::fs::mknodat(&parent, name, kind, mode, wanted.device) {
                Ok(()) => return own(&parent, name, caller),
                Err(rustix::io::Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        self.record(&file, wanted).map_err(|_| {
            // A file system that takes no attribute must not keep an empty file.
            let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
            errno(libc::EPERM)
        })?;
        own(&parent, name, caller)?;
        Ok(rustix::fs::fchmod(&file, mode)?)
    }

    fn record(&self, file: &OwnedFd, wanted: Wanted) -> io::Result<()> {
        let key = self.tree.record_key().ok_or_else(|| errno(libc::EPERM))?;
        let device = Some(described(wanted));
        Record { device, ..Record::default() }.write(file.as_fd(), key).map_err(io::Error::other)
    }
}

fn own(parent: &OwnedFd, name: &OsStr, caller: &Identity) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(caller.gid));
    let stat = rustix::fs::statat(parent, ".", AtFlags::empty())?;
    // In a setgid directory the group is the directory's.
    let gid = if stat.st_mode & libc::S_ISGID != 0 { Gid::from_raw(stat.st_gid) } else { gid };
    Ok(rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn described(wanted: Wanted) -> Device {
    let kind = match wanted.mode & libc::S_IFMT {
        libc::S_IFBLK => DeviceKind::Block,
        _ => DeviceKind::Character,
    };
    Device { kind, major: rustix::fs::major(wanted.device), minor: rustix::fs::minor(wanted.device) }
}
