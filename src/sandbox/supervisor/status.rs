//! Looking at names in /proc and at placeholders without opening them.

use std::ffi::CString;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::CWD;

use super::calls::Asked;
use super::open::errno;
use super::proc::Node;
use super::task::{self, Identity};
use super::terminals::MULTIPLEXER;
use super::walk::{Served, Target};
use super::{Answer, Service, identity};
use crate::metadata::{Device, DeviceKind, Record};
use crate::sandbox::mounts::{link, open_path};
use crate::sandbox::raw::{self, Notification};

impl Service {
    pub(super) fn status(
        &self,
        notification: &Notification,
        path: &Path,
        flags: i32,
        buffer: u64,
        extended: Option<u32>,
    ) -> io::Result<Answer> {
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        let of = |fd: &OwnedFd| bytes(fd.as_fd(), "", flags | libc::AT_EMPTY_PATH, extended);
        let found = match self.tree.resolve(path, follow, notification.thread)? {
            Target::Native => return Ok(Answer::GoOn),
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::New(..) => return Ok(Answer::Error(libc::ENOENT)),
            Target::Tree(fd) => of(&fd),
            Target::Device(device, fd) => of(&fd).map(|bytes| with_device(bytes, device, extended.is_some())),
            Target::Served(inode, fd) => match self.tree.behind(inode) {
                Some(Served::Device(device)) => bytes(CWD, device, flags, extended),
                Some(Served::Terminal) => bytes(CWD, "/dev/tty", flags, extended),
                Some(Served::Multiplexer) => {
                    bytes(CWD, MULTIPLEXER, flags & !libc::AT_SYMLINK_NOFOLLOW, extended)
                }
                Some(Served::Memory(_)) => of(&fd),
                None => self.tree.terminals.end_at(inode).and_then(|end| of(&end)),
            },
            Target::Proc(node) => {
                let path = match node {
                    Node::Listing { path, .. }
                    | Node::File { path, .. }
                    | Node::Numbered { path, .. }
                    | Node::Place { path, .. } => path,
                    Node::Made { .. } => "self/mounts".to_owned(),
                    Node::Link { .. } => "self".to_owned(),
                };
                let path = Path::new("/proc").join(path);
                let found = task::look_at(notification.thread, || bytes(CWD, &path, flags, extended));
                found.map(|bytes| self.with_owner(bytes, &path, extended.is_some()))
            }
        };
        Ok(match found {
            Ok(bytes) => self.put(notification, buffer, &bytes, 0),
            Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }

    /// Of what belongs to a process the user that it has become, where users are kept.
    fn with_owner(&self, bytes: Vec<u8>, path: &Path, extended: bool) -> Vec<u8> {
        let process =
            path.strip_prefix("/proc").ok().and_then(|below| below.iter().next()?.to_str()?.parse().ok());
        match (&self.identity, process) {
            (Some(identity), Some(process)) => {
                let owner = Some(identity.owner_of_task(process));
                identity::with_record(bytes, &Record { owner, ..Record::default() }, extended)
            }
            _ => bytes,
        }
    }

    /// Programs ask whether /proc is one before they rely on it.
    pub(super) fn file_system(
        &self,
        notification: &Notification,
        path: &Path,
        buffer: u64,
    ) -> io::Result<Answer> {
        let found = match self.tree.resolve(path, true, notification.thread)? {
            Target::Proc(_) => raw::statfs_bytes(open_path(Path::new("/proc"))?.as_fd()),
            Target::Tree(fd) => raw::statfs_bytes(fd.as_fd()),
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::New(..) => return Ok(Answer::Error(libc::ENOENT)),
            Target::Native | Target::Served(..) | Target::Device(..) => return Ok(Answer::GoOn),
        };
        Ok(match found {
            Ok(bytes) => self.put(notification, buffer, &bytes, 0),
            Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }

    /// Watching what is in the tree; nothing of /proc ever changes.
    pub(super) fn watch(&self, notification: &Notification, asked: &Asked) -> io::Result<Answer> {
        Ok(match self.tree.resolve(&asked.path, true, notification.thread)? {
            Target::Tree(fd) => match self.open_place_of(notification, asked, &fd) {
                Ok(()) => Answer::GoOn,
                Err(_) => Answer::Error(libc::ENOENT),
            },
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Proc(_) => Answer::Error(libc::EACCES),
            Target::Native | Target::Served(..) | Target::Device(..) => Answer::GoOn,
        })
    }

    pub(super) fn access(&self, thread: i32, path: &Path, mode: u32) -> io::Result<Answer> {
        let wants_write = mode & libc::W_OK.cast_unsigned() != 0;
        Ok(match self.tree.resolve(path, true, thread)? {
            Target::Native | Target::Device(..) => Answer::GoOn,
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Proc(Node::File { writable, .. }) if wants_write && !writable => {
                Answer::Error(libc::EACCES)
            }
            Target::Proc(_) => Answer::Value(0),
            Target::Tree(fd) | Target::Served(_, fd) => {
                let access = rustix::fs::Access::from_bits_retain(mode);
                let allowed = Identity::of(thread)?.act(|| {
                    let at = rustix::fs::AtFlags::EACCESS;
                    Ok(rustix::fs::accessat(CWD, link(&fd), access, at)?)
                });
                Answer::of(allowed, |()| Answer::Value(0))
            }
        })
    }

    pub(super) fn read_link(
        &self,
        notification: &Notification,
        path: &Path,
        buffer: u64,
        size: u64,
    ) -> io::Result<Answer> {
        let text = match self.tree.resolve(path, false, notification.thread)? {
            Target::Native => return Ok(Answer::GoOn),
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::Proc(Node::Link { text }) => text,
            Target::Proc(Node::Place { text, .. }) => self.tree.inside(&text).unwrap_or(text),
            Target::Tree(fd) => {
                let text = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(|_| errno(libc::EINVAL));
                match text {
                    Ok(text) => task::path(text.as_bytes()).to_owned(),
                    Err(_) => return Ok(Answer::Error(libc::EINVAL)),
                }
            }
            Target::New(..) => return Ok(Answer::Error(libc::ENOENT)),
            Target::Proc(_) | Target::Served(..) | Target::Device(..) => {
                return Ok(Answer::Error(libc::EINVAL));
            }
        };
        let bytes = text.as_os_str().as_encoded_bytes();
        let length = bytes.len().min(usize::try_from(size).unwrap_or(0));
        let value = i64::try_from(length).unwrap_or(0);
        Ok(self.put(notification, buffer, &bytes[..length], value))
    }

    /// Writes a result into the caller's memory, if it is still the caller's.
    pub(super) fn put(&self, notification: &Notification, address: u64, bytes: &[u8], value: i64) -> Answer {
        if !self.is_waiting(notification) {
            return Answer::Error(libc::EINTR);
        }
        match self.memories.write(notification.thread, address, bytes) {
            Ok(()) => Answer::Value(value),
            Err(_) => Answer::Error(libc::EFAULT),
        }
    }
}

fn bytes(
    directory: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: i32,
    extended: Option<u32>,
) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_ref().as_os_str().as_encoded_bytes())?;
    match extended {
        None => raw::stat_bytes(directory, &path, flags),
        Some(mask) => raw::statx_bytes(directory, &path, flags, mask),
    }
}

/// The same with the type and number of a device (stat(2), statx(2)).
fn with_device(mut bytes: Vec<u8>, device: Device, extended: bool) -> Vec<u8> {
    let kind = match device.kind {
        DeviceKind::Character => libc::S_IFCHR,
        DeviceKind::Block => libc::S_IFBLK,
    };
    if extended {
        let at = offset_of!(libc::statx, stx_mode);
        let mode = u16::from_ne_bytes([bytes[at], bytes[at + 1]]) & 0o7777 | kind as u16;
        bytes[at..at + 2].copy_from_slice(&mode.to_ne_bytes());
        let at = offset_of!(libc::statx, stx_rdev_major);
        bytes[at..at + 4].copy_from_slice(&device.major.to_ne_bytes());
        let at = offset_of!(libc::statx, stx_rdev_minor);
        bytes[at..at + 4].copy_from_slice(&device.minor.to_ne_bytes());
    } else {
        let at = offset_of!(libc::stat, st_mode);
        let mode = u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        bytes[at..at + 4].copy_from_slice(&(mode & 0o7777 | kind).to_ne_bytes());
        let at = offset_of!(libc::stat, st_rdev);
        let number = rustix::fs::makedev(device.major, device.minor);
        bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_placeholder_looks_like_its_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device { kind: DeviceKind::Character, major: 1, minor: 3 };
        let real = std::fs::metadata("/dev/null").unwrap();
        let plain = with_device(bytes(CWD, file.path(), 0, None).unwrap(), device, false);
        let at = offset_of!(libc::stat, st_rdev);
        assert_eq!(plain[at..at + 8], real.rdev().to_ne_bytes());
        let at = offset_of!(libc::stat, st_mode);
        assert_eq!(plain[at..at + 4], (libc::S_IFCHR | 0o600).to_ne_bytes());
        let extended = with_device(bytes(CWD, file.path(), 0, Some(0x7ff)).unwrap(), device, true);
        let at = offset_of!(libc::statx, stx_rdev_minor);
        assert_eq!(extended[at..at + 4], 3_u32.to_ne_bytes());
        let at = offset_of!(libc::statx, stx_mode);
        assert_eq!(u32::from(u16::from_ne_bytes([extended[at], extended[at + 1]])), libc::S_IFCHR | 0o600);
    }
}
