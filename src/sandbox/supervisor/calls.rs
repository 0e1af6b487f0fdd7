//! From a system call's number and arguments to what it asks, and who answers.

use std::io;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::OFlags;

use super::task::{self, Identity};
use super::{Answer, Protection, Service, neighbours};
use crate::sandbox::raw::Notification;

/// What a call asks for.
enum Request {
    Open { place: Place, flags: OFlags },
    Status { place: Place, flags: i32, buffer: u64, extended: Option<u32> },
    Access { place: Place, mode: u32 },
    ReadLink { place: Place, buffer: u64, size: u64 },
    ChangeMode { place: Place, mode: u32 },
    ChangeTimes { place: Place },
    Attributes { place: Place, follow: bool },
    MakeNode { place: Place, mode: u32, device: u64 },
    ChangeRoot { place: Place },
    ChangeIds,
}

/// A path in the caller's memory, and the directory it starts from.
struct Place {
    directory: i32,
    path: u64,
}

fn request(notification: &Notification) -> Option<Request> {
    let a = notification.arguments;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads these arguments as 32 bits, too")]
    let int = |number: usize| a[number] as u32;
    let flags = |number| OFlags::from_bits_retain(int(number));
    let at = |directory: usize, path: usize| Place { directory: int(directory).cast_signed(), path: a[path] };
    let plain = |path: usize| Place { directory: libc::AT_FDCWD, path: a[path] };
    Some(match notification.call {
        libc::SYS_openat => Request::Open { place: at(0, 1), flags: flags(2) },
        libc::SYS_newfstatat => {
            Request::Status { place: at(0, 1), flags: int(3).cast_signed(), buffer: a[2], extended: None }
        }
        libc::SYS_statx => Request::Status {
            place: at(0, 1),
            flags: int(2).cast_signed(),
            buffer: a[4],
            extended: Some(int(3)),
        },
        libc::SYS_readlinkat => Request::ReadLink { place: at(0, 1), buffer: a[2], size: a[3] },
        libc::SYS_faccessat | libc::SYS_faccessat2 => Request::Access { place: at(0, 1), mode: int(2) },
        libc::SYS_fchmodat => Request::ChangeMode { place: at(0, 1), mode: int(2) },
        libc::SYS_utimensat if a[1] != 0 => Request::ChangeTimes { place: at(0, 1) },
        libc::SYS_mknodat => Request::MakeNode { place: at(0, 1), mode: int(2), device: int(3).into() },
        libc::SYS_getxattr | libc::SYS_listxattr => Request::Attributes { place: plain(0), follow: true },
        libc::SYS_lgetxattr | libc::SYS_llistxattr => Request::Attributes { place: plain(0), follow: false },
        libc::SYS_chroot => Request::ChangeRoot { place: plain(0) },
        libc::SYS_setuid
        | libc::SYS_setgid
        | libc::SYS_setreuid
        | libc::SYS_setregid
        | libc::SYS_setresuid
        | libc::SYS_setresgid
        | libc::SYS_setfsuid
        | libc::SYS_setfsgid => Request::ChangeIds,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Request::Open { place: plain(0), flags: flags(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat => Request::Status { place: plain(0), flags: 0, buffer: a[1], extended: None },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat => Request::Status {
            place: plain(0),
            flags: libc::AT_SYMLINK_NOFOLLOW,
            buffer: a[1],
            extended: None,
        },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access => Request::Access { place: plain(0), mode: int(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink => Request::ReadLink { place: plain(0), buffer: a[1], size: a[2] },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => Request::ChangeMode { place: plain(0), mode: int(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => Request::MakeNode { place: plain(0), mode: int(1), device: int(2).into() },
        _ => return None,
    })
}

impl Service {
    /// Whatever cannot be read or understood goes on in the kernel, which has
    /// no /proc, no device and no secret to give away.
    pub(super) fn answer(&self, notification: &Notification) -> Answer {
        if let Some(process) = neighbours::named(notification.call, notification.arguments) {
            return self.about(process);
        }
        let Some(request) = request(notification) else { return Answer::GoOn };
        let thread = notification.thread;
        match request {
            Request::ChangeIds => {
                // What cannot be kept makes later reads fail, which go on.
                let _ = self.memories.keep(thread);
                return Answer::GoOn;
            }
            Request::MakeNode { mode, .. }
                if !is_device(mode) || !self.protections.keep(Protection::ServedNodes) =>
            {
                return Answer::GoOn;
            }
            Request::ChangeRoot { .. } if !self.protections.keep(Protection::OneRoot) => return Answer::GoOn,
            _ => {}
        }
        self.with_path(notification, request).unwrap_or(Answer::GoOn)
    }

    fn with_path(&self, notification: &Notification, request: Request) -> io::Result<Answer> {
        let thread = notification.thread;
        match request {
            Request::Open { place, flags } => {
                let path = self.path(thread, &place)?;
                self.open(thread, &path, flags)
            }
            Request::Status { place, flags, buffer, extended } => {
                let path = self.path(thread, &place)?;
                self.status(notification, &path, flags, buffer, extended)
            }
            Request::Access { place, mode } => {
                let path = self.path(thread, &place)?;
                self.access(thread, &path, mode)
            }
            Request::ReadLink { place, buffer, size } => {
                let path = self.path(thread, &place)?;
                self.read_link(notification, &path, buffer, size)
            }
            Request::ChangeMode { place, mode } => {
                let path = self.path(thread, &place)?;
                self.change_mode(thread, &path, mode)
            }
            Request::ChangeTimes { place } => {
                let path = self.path(thread, &place)?;
                self.change_times(notification, &path)
            }
            Request::Attributes { place, follow } => {
                let path = self.path(thread, &place)?;
                self.attributes(thread, &path, follow)
            }
            Request::MakeNode { place, mode, device } => {
                let path = self.path(thread, &place)?;
                self.make_device(thread, &path, mode, device)
            }
            Request::ChangeRoot { place } => {
                let path = self.path(thread, &place)?;
                self.change_root(&path)
            }
            Request::ChangeIds => Ok(Answer::GoOn),
        }
    }

    /// The path as it is from the root of the tree.
    fn path(&self, thread: i32, place: &Place) -> io::Result<PathBuf> {
        let text = self.memories.read_text(thread, place.path)?;
        let path = task::path(&text);
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        if text.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let base = task::base(thread, place.directory)?;
        let inside = self.tree.inside(&base).ok_or(io::ErrorKind::NotFound)?;
        Ok(inside.join(path))
    }

    /// To where it is already: a success. Anywhere else two roots would lead
    /// out of both.
    fn change_root(&self, path: &Path) -> io::Result<Answer> {
        let found = self.tree.look(path, true)?;
        let [found, root] = [rustix::fs::fstat(found)?, rustix::fs::fstat(&self.tree.root)?];
        let same = found.st_ino == root.st_ino && found.st_dev == root.st_dev;
        Ok(if same { Answer::Value(0) } else { Answer::Error(libc::EPERM) })
    }
}

fn is_device(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}

/// Who calls.
pub(super) fn caller(thread: i32) -> io::Result<Identity> {
    Identity::of(thread)
}
