//! Calls that make a name, or cut a file, where `/proc/self/fd/N`,
//! `/proc/self/cwd` or `/proc/self/root` leads: the supervisor does them in the
//! directory that is meant, with the caller's rights.
//!
//! Only paths that say so are looked at (`/proc/…`, `/dev/fd/…`); all others go on
//! at once. unlink(2) and rename(2) are not heard at all: every package
//! installation makes them for each of its files, and nobody makes them here.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::calls::{Asked, masked};
use super::open::errno;
use super::task::{self, Identity};
use super::walk::Target;
use super::{Answer, Service, Turn};
use crate::sandbox::mounts::link;
use crate::sandbox::raw::Notification;

/// All that are heard.
pub(super) const CALLS: [libc::c_long; 5] =
    [libc::SYS_mkdirat, libc::SYS_symlinkat, libc::SYS_truncate, libc::SYS_bind, libc::SYS_connect];

#[cfg(target_arch = "x86_64")]
pub(super) const CALLS_OF_OLD: [libc::c_long; 2] = [libc::SYS_mkdir, libc::SYS_symlink];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const CALLS_OF_OLD: [libc::c_long; 0] = [];

/// Where `sun_path` begins in `sockaddr_un`.
const SOCKET_PATH: u64 = 2;
const LONGEST_SOCKET: usize = 108;

/// What is asked for.
enum Named {
    MakeDirectory { mode: u32 },
    MakeLink { text: u64 },
    Truncate { length: u64 },
    Socket { is_new: bool },
}

/// The call, and where in memory its path is.
fn named(notification: &Notification) -> Option<(Named, u64)> {
    let a = notification.arguments;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads it as 32 bits, too")]
    let mode = |number: usize| a[number] as u32;
    Some(match notification.call {
        libc::SYS_mkdirat => (Named::MakeDirectory { mode: mode(2) }, a[1]),
        libc::SYS_symlinkat => (Named::MakeLink { text: a[0] }, a[2]),
        libc::SYS_truncate => (Named::Truncate { length: a[1] }, a[0]),
        libc::SYS_bind => (Named::Socket { is_new: true }, a[1]),
        libc::SYS_connect => (Named::Socket { is_new: false }, a[1]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => (Named::MakeDirectory { mode: mode(1) }, a[0]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => (Named::MakeLink { text: a[0] }, a[1]),
        _ => return None,
    })
}

impl Service {
    /// Nothing if it is another call.
    pub(super) fn answer_named(&self, notification: &Notification, turn: &mut Turn<'_>) -> Option<Answer> {
        let (named, address) = named(notification)?;
        if self.is_owner_kept {
            return Some(Answer::GoOn);
        }
        Some(self.try_named(notification, &named, address, turn).unwrap_or(Answer::GoOn))
    }

    fn try_named(
        &self,
        notification: &Notification,
        named: &Named,
        address: u64,
        turn: &mut Turn<'_>,
    ) -> io::Result<Answer> {
        let thread = notification.thread;
        let (text, address) = match named {
            Named::Socket { .. } => (self.socket_path(notification, address)?, address + SOCKET_PATH),
            _ => (self.memories.read_text(thread, address)?, address),
        };
        if !text.starts_with(b"/proc/") && !text.starts_with(b"/dev/fd/") {
            return Ok(Answer::GoOn);
        }
        turn.end();
        let asked = Asked { path: task::path(&text).to_owned(), address, room: text.len() };
        if self.has_other_root(thread)? {
            return Ok(Answer::GoOn);
        }
        let follow = matches!(named, Named::Truncate { .. } | Named::Socket { is_new: false });
        match (named, self.tree.resolve(trimmed(&asked.path), follow, thread)?) {
            (_, Target::Native | Target::Served(..) | Target::Device(..)) => Ok(Answer::GoOn),
            (_, Target::Missing(errno)) => Ok(Answer::Error(errno)),
            (Named::Socket { is_new: true }, Target::New(parent, name)) => {
                Ok(self.lend_in(notification, &asked, &parent, &name))
            }
            (Named::MakeDirectory { mode }, Target::New(parent, name)) => {
                let caller = Identity::of(thread)?;
                let mode = masked(mode & 0o1777, caller.umask);
                done(caller.act(|| Ok(rustix::fs::mkdirat(&parent, &name, mode)?)))
            }
            (Named::MakeLink { text }, Target::New(parent, name)) => {
                self.make_link(notification, *text, &parent, &name)
            }
            (_, Target::New(..)) => Ok(Answer::Error(libc::ENOENT)),
            (Named::Truncate { length }, Target::Tree(fd)) => {
                let caller = Identity::of(thread)?;
                done(caller.act(|| truncate(&fd, *length)))
            }
            (Named::Socket { is_new: false }, Target::Tree(fd)) => {
                Ok(match self.open_place_of(notification, &asked, &fd) {
                    Ok(()) => Answer::GoOn,
                    Err(_) => Answer::Error(libc::ECONNREFUSED),
                })
            }
            (Named::Socket { is_new: true }, _) => Ok(Answer::Error(libc::EADDRINUSE)),
            (Named::Truncate { .. }, _) => Ok(Answer::Error(libc::EPERM)),
            (Named::Socket { is_new: false }, _) => Ok(Answer::Error(libc::ECONNREFUSED)),
            (Named::MakeDirectory { .. } | Named::MakeLink { .. }, _) => Ok(Answer::Error(libc::EEXIST)),
        }
    }

    fn make_link(
        &self,
        notification: &Notification,
        text: u64,
        parent: &OwnedFd,
        name: &OsString,
    ) -> io::Result<Answer> {
        let text = self.memories.read_text(notification.thread, text)?;
        if !self.is_waiting(notification) {
            return Ok(Answer::GoOn);
        }
        let caller = Identity::of(notification.thread)?;
        done(caller.act(|| Ok(rustix::fs::symlinkat(task::path(&text), parent, name)?)))
    }

    /// Of a unix socket that has a place in the tree; all others go on.
    fn socket_path(&self, notification: &Notification, address: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(notification.arguments[2] & 0xffff_ffff).map_err(io::Error::other)?;
        let mut bytes = [0; SOCKET_PATH as usize + LONGEST_SOCKET];
        let length = length.min(bytes.len());
        self.memories.read_exact(notification.thread, address, &mut bytes[..length])?;
        let (family, path) = bytes[..length].split_at_checked(SOCKET_PATH as usize).ok_or_else(absent)?;
        if family != (libc::AF_UNIX as u16).to_ne_bytes() {
            return Err(absent());
        }
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        Ok(path[..end].to_vec())
    }
}

/// `mkdir d/` makes `d`.
fn trimmed(path: &Path) -> &Path {
    let text = path.as_os_str().as_encoded_bytes();
    let end = text.iter().rposition(|byte| *byte != b'/').map_or(text.len(), |last| last + 1);
    task::path(&text[..end])
}

fn truncate(fd: &OwnedFd, length: u64) -> io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(errno(libc::EISDIR)),
        _ => return Err(errno(libc::EINVAL)),
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, link(fd), flags, Mode::empty())?;
    Ok(rustix::fs::ftruncate(&file, length)?)
}

fn done(result: io::Result<()>) -> io::Result<Answer> {
    Ok(Answer::of(result, |()| Answer::Value(0)))
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}
