//! Looking at names in /proc without opening them, and changing what they
//! lead to.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{CWD, Mode, Timespec, Timestamps};

use super::calls::caller;
use super::open::errno;
use super::proc::Node;
use super::walk::{Served, Target};
use super::{Answer, Service};
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
        let found = match self.tree.resolve(path, follow, notification.thread)? {
            Target::Native => return Ok(Answer::GoOn),
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::Tree(fd) => bytes(fd.as_fd(), "", flags | libc::AT_EMPTY_PATH, extended),
            Target::Served(inode, fd) => match self.tree.served.get(&inode) {
                Some(Served::Device(device)) => bytes(CWD, device, flags, extended),
                _ => bytes(fd.as_fd(), "", flags | libc::AT_EMPTY_PATH, extended),
            },
            Target::Proc(node) => {
                let path = match node {
                    Node::Listing { path } | Node::File { path, .. } | Node::Place { path, .. } => path,
                    Node::Made { .. } => "self/mounts".to_owned(),
                    Node::Link { .. } => "self".to_owned(),
                };
                bytes(CWD, Path::new("/proc").join(path), flags, extended)
            }
        };
        Ok(match found {
            Ok(bytes) => self.put(notification, buffer, &bytes, 0),
            Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }

    pub(super) fn access(&self, thread: i32, path: &Path, mode: u32) -> io::Result<Answer> {
        let wants_write = mode & libc::W_OK.cast_unsigned() != 0;
        Ok(match self.tree.resolve(path, true, thread)? {
            Target::Native => Answer::GoOn,
            Target::Missing(errno) => Answer::Error(errno),
            Target::Proc(Node::File { writable, .. }) if wants_write && !writable => {
                Answer::Error(libc::EACCES)
            }
            Target::Proc(_) => Answer::Value(0),
            Target::Tree(fd) | Target::Served(_, fd) => {
                let access = rustix::fs::Access::from_bits_retain(mode);
                let allowed = caller(thread)?.act(|| {
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
                    Ok(text) => super::task::path(text.as_bytes()).to_owned(),
                    Err(_) => return Ok(Answer::Error(libc::EINVAL)),
                }
            }
            Target::Proc(_) | Target::Served(..) => return Ok(Answer::Error(libc::EINVAL)),
        };
        let bytes = text.as_os_str().as_encoded_bytes();
        let length = bytes.len().min(usize::try_from(size).unwrap_or(0));
        let value = i64::try_from(length).unwrap_or(0);
        Ok(self.put(notification, buffer, &bytes[..length], value))
    }

    /// Of a file that a link in /proc leads to; all others are the kernel's.
    pub(super) fn change_mode(&self, thread: i32, path: &Path, mode: u32) -> io::Result<Answer> {
        Ok(match self.tree.resolve(path, true, thread)? {
            Target::Tree(fd) => {
                let changed = caller(thread)?
                    .act(|| Ok(rustix::fs::chmod(link(&fd), Mode::from_raw_mode(mode & 0o7777))?));
                Answer::of(changed, |()| Answer::Value(0))
            }
            Target::Proc(_) => Answer::Error(libc::EPERM),
            Target::Missing(errno) => Answer::Error(errno),
            Target::Native | Target::Served(..) => Answer::GoOn,
        })
    }

    pub(super) fn change_times(&self, notification: &Notification, path: &Path) -> io::Result<Answer> {
        let follow = notification.arguments[3] & u64::from(libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()) == 0;
        let thread = notification.thread;
        let Target::Tree(fd) = self.tree.resolve(path, follow, thread)? else { return Ok(Answer::GoOn) };
        let times = self.times(notification)?;
        let changed = caller(thread)?
            .act(|| Ok(rustix::fs::utimensat(CWD, link(&fd), &times, rustix::fs::AtFlags::empty())?));
        Ok(Answer::of(changed, |()| Answer::Value(0)))
    }

    /// Two times in the caller's memory; without them it is now.
    fn times(&self, notification: &Notification) -> io::Result<Timestamps> {
        let now = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW as _ };
        let address = notification.arguments[2];
        if address == 0 {
            return Ok(Timestamps { last_access: now, last_modification: now });
        }
        let mut words = [0_i64; 4];
        for (number, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.memories.read_exact(notification.thread, address + 8 * number as u64, &mut bytes)?;
            *word = i64::from_ne_bytes(bytes);
        }
        let time = |tv_sec, nanoseconds: i64| Timespec { tv_sec, tv_nsec: nanoseconds as _ };
        Ok(Timestamps { last_access: time(words[0], words[1]), last_modification: time(words[2], words[3]) })
    }

    /// Nothing in /proc has any.
    pub(super) fn attributes(&self, thread: i32, path: &Path, follow: bool) -> io::Result<Answer> {
        Ok(match self.tree.resolve(path, follow, thread)? {
            Target::Native | Target::Served(..) => Answer::GoOn,
            Target::Missing(errno) => Answer::Error(errno),
            Target::Tree(_) | Target::Proc(_) => Answer::Error(libc::EOPNOTSUPP),
        })
    }

    /// Writes a result into the caller's memory, if it is still the caller's.
    fn put(&self, notification: &Notification, address: u64, bytes: &[u8], value: i64) -> Answer {
        if !raw::is_waiting(self.listener.as_fd(), notification.id) {
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

fn link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
