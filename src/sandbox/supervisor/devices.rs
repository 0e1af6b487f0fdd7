//! mknod of a device: an empty placeholder with a record, which the layer
//! shows as the device. The kernel would make a device of the host.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::libc;
use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::calls::caller;
use super::open::errno;
use super::walk::Target;
use super::{Answer, Service};
use crate::metadata::{Device, DeviceKind, Record};

impl Service {
    pub(super) fn make_device(&self, thread: i32, path: &Path, mode: u32, device: u64) -> io::Result<Answer> {
        Ok(Answer::of(self.place_device(thread, path, mode, device), |()| Answer::Value(0)))
    }

    fn place_device(&self, thread: i32, path: &Path, mode: u32, device: u64) -> io::Result<()> {
        let caller = caller(thread)?;
        // Only root has CAP_MKNOD elsewhere; 0:0 means something to overlayfs.
        let Some(key) = self.record_key.as_ref().filter(|_| caller.uid == 0 && device != 0) else {
            return Err(errno(libc::EPERM));
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(errno(libc::EEXIST));
        };
        if !matches!(self.tree.resolve(parent, true, thread)?, Target::Native) {
            return Err(errno(libc::EPERM));
        }
        let parent = self.tree.look(parent, true)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(caller.uid)), Some(Gid::from_raw(caller.gid)))?;
        let record = Record { device: Some(described(mode, device)), ..Record::default() };
        record.write(file.as_fd(), key).map_err(|_| errno(libc::EPERM))?;
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777 & !caller.umask))?)
    }
}

pub(super) fn described(mode: u32, device: u64) -> Device {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFBLK => DeviceKind::Block,
        _ => DeviceKind::Character,
    };
    Device { kind, major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
}
