//! Changing what names in /proc lead to: `/proc/self/fd/N` is the way by which
//! libraries change a file they have open as a place only.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::attributes::{LONGEST, is_ordinary};
use super::open::errno;
use super::proc::Node;
use super::task::{self, Identity};
use super::walk::{DELETED, Target};
use super::{Answer, Service};
use crate::sandbox::mounts::link;
use crate::sandbox::raw::Notification;

/// What to do with an extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Get,
    Remove,
}

impl Service {
    pub(super) fn change_mode(&self, thread: i32, path: &Path, mode: u32) -> io::Result<Answer> {
        self.change(thread, path, true, |fd| {
            Ok(rustix::fs::chmod(link(fd), Mode::from_raw_mode(mode & 0o7777))?)
        })
    }

    pub(super) fn change_owner(&self, thread: i32, path: &Path, uid: u32, gid: u32) -> io::Result<Answer> {
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        self.change(thread, path, true, |fd| Ok(rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?))
    }

    pub(super) fn change_times(
        &self,
        notification: &Notification,
        path: &Path,
        follow: bool,
    ) -> io::Result<Answer> {
        let times = self.times(notification)?;
        self.change(notification.thread, path, follow, |fd| {
            Ok(rustix::fs::utimensat(CWD, link(fd), &times, AtFlags::empty())?)
        })
    }

    /// Of a file that a link in /proc leads to, with the rights of the caller;
    /// all others are the kernel's.
    fn change(
        &self,
        thread: i32,
        path: &Path,
        follow: bool,
        action: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> io::Result<Answer> {
        let target = self.tree.resolve(path, follow, thread)?;
        // Of a terminal itself, not of its placeholder.
        if let Target::Served(inode, _) = target
            && let Ok(end) = self.tree.terminals.end_at(inode)
        {
            let changed = Identity::of(thread)?.act(|| action(&end));
            return Ok(Answer::of(changed, |()| Answer::Value(0)));
        }
        Ok(match target {
            Target::Tree(fd) => {
                let changed = Identity::of(thread)?.act(|| action(&fd));
                Answer::of(changed, |()| Answer::Value(0))
            }
            Target::Proc(Node::Place { path, text }) if follow && is_pipe(&text) => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let pipe = format!("/proc/{path}");
                let fd = task::look_at(thread, || Ok(rustix::fs::open(&pipe, flags, Mode::empty())?))?;
                let is_one = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Fifo;
                let changed =
                    if is_one { Identity::of(thread)?.act(|| action(&fd)) } else { Err(errno(libc::EPERM)) };
                Answer::of(changed, |()| Answer::Value(0))
            }
            Target::Proc(_) => Answer::Error(libc::EPERM),
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Native | Target::Served(..) | Target::Device(..) => Answer::GoOn,
        })
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

    /// Nothing of /proc itself has any.
    pub(super) fn attribute(
        &self,
        notification: &Notification,
        path: &Path,
        follow: bool,
        what: Attribute,
    ) -> io::Result<Answer> {
        Ok(match self.tree.resolve(path, follow, notification.thread)? {
            Target::Native | Target::Served(..) | Target::Device(..) => Answer::GoOn,
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Proc(_) => Answer::Error(libc::EOPNOTSUPP),
            Target::Tree(fd) => match self.attribute_of(notification, &fd, what) {
                Ok(answer) => answer,
                Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
            },
        })
    }

    fn attribute_of(&self, notification: &Notification, fd: &OwnedFd, what: Attribute) -> io::Result<Answer> {
        let [_, name, buffer, size, ..] = notification.arguments;
        let thread = notification.thread;
        let caller = Identity::of(thread)?;
        let name = CString::new(self.memories.read_text(thread, name)?)?;
        if !is_ordinary(name.as_bytes()) {
            return Err(errno(if what == Attribute::Get { libc::ENODATA } else { libc::EPERM }));
        }
        match what {
            Attribute::Remove => {
                caller.act(|| Ok(rustix::fs::removexattr(link(fd), &name)?))?;
                Ok(Answer::Value(0))
            }
            Attribute::Get => {
                let mut value = vec![0; LONGEST];
                let length = caller.act(|| Ok(rustix::fs::getxattr(link(fd), &name, &mut value[..])?))?;
                self.give_bytes(notification, buffer, size, &value[..length])
            }
        }
    }

    /// As xattr calls do: without a buffer the size alone.
    pub(super) fn give_bytes(
        &self,
        notification: &Notification,
        buffer: u64,
        size: u64,
        bytes: &[u8],
    ) -> io::Result<Answer> {
        let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
        match size {
            0 => Ok(Answer::Value(length)),
            size if size < bytes.len() as u64 => Err(errno(libc::ERANGE)),
            _ => Ok(self.put(notification, buffer, bytes, length)),
        }
    }

    /// linkat(2) of what a link of /proc leads to: how a file that was opened
    /// without a name gets one.
    pub(super) fn link(&self, thread: i32, from: &Path, to: &Path) -> io::Result<Answer> {
        let file = match self.tree.resolve(from, true, thread)? {
            Target::Tree(fd) => fd,
            Target::Proc(Node::Place { path, text }) => match self.nameless(thread, &path, &text) {
                Ok(fd) => fd,
                Err(error) => return Ok(Answer::Error(error.raw_os_error().unwrap_or(libc::ENOENT))),
            },
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::New(..) => return Ok(Answer::Error(libc::ENOENT)),
            Target::Proc(_) => return Ok(Answer::Error(libc::EPERM)),
            Target::Native | Target::Served(..) | Target::Device(..) => return Ok(Answer::GoOn),
        };
        let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
            return Ok(Answer::Error(libc::EEXIST));
        };
        let parent = match self.tree.resolve(parent, true, thread)? {
            Target::Native => self.tree.look(parent, true)?,
            Target::Tree(parent) => parent,
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            _ => return Ok(Answer::Error(libc::EPERM)),
        };
        let linked = Identity::of(thread)?
            .act(|| Ok(rustix::fs::linkat(CWD, link(&file), &parent, name, AtFlags::SYMLINK_FOLLOW)?));
        Ok(Answer::of(linked, |()| Answer::Value(0)))
    }

    /// A file of the tree that has no name.
    fn nameless(&self, thread: i32, path: &str, text: &Path) -> io::Result<OwnedFd> {
        let gone = text.as_os_str().as_encoded_bytes().ends_with(DELETED);
        if !gone || self.tree.inside(text).is_none() {
            return Err(errno(libc::ENOENT));
        }
        let fd = task::look_at(thread, || {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            Ok(rustix::fs::open(format!("/proc/{path}"), flags, Mode::empty())?)
        })?;
        // Memory and other file systems the kernel refuses itself (EXDEV).
        let file = rustix::fs::fstat(&fd)?;
        let regular = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
        if regular && file.st_nlink == 0 { Ok(fd) } else { Err(errno(libc::ENOENT)) }
    }
}

/// What /proc says a link to a pipe leads to.
fn is_pipe(text: &Path) -> bool {
    text.as_os_str().as_encoded_bytes().starts_with(b"pipe:[")
}
