//! Opening what only the supervisor can: /proc, placeholders, and files of the
//! tree that a link in /proc leads to.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use super::calls::{Asked, masked, open_follows};
use super::proc::Node;
use super::task::{self, Identity};
use super::walk::{DELETED, Inode, Served, Target};
use super::{Answer, Protection, Service, listing, sealed};
use crate::sandbox::raw::Notification;

impl Service {
    pub(super) fn open(
        &self,
        notification: &Notification,
        asked: &Asked,
        flags: OFlags,
        mode: u32,
    ) -> io::Result<Answer> {
        let thread = notification.thread;
        if !self.protections.keep(Protection::ServedProc)
            && let Ok(rest) = asked.path.strip_prefix("/proc")
        {
            return open_careless(thread, rest, flags);
        }
        let target = self.tree.resolve(&asked.path, open_follows(flags), thread)?;
        let opened = match target {
            Target::Native => return Ok(Answer::GoOn),
            Target::Missing(errno) => return Ok(Answer::Error(errno)),
            Target::New(parent, name) if flags.contains(OFlags::CREATE) && !flags.contains(OFlags::PATH) => {
                Identity::of(thread).and_then(|caller| create(&parent, &name, flags, mode, &caller))
            }
            Target::New(..) => return Ok(Answer::Error(libc::ENOENT)),
            Target::Device(..) | Target::Served(..) if flags.contains(OFlags::PATH) => {
                return Ok(Answer::GoOn);
            }
            _ if flags.contains(OFlags::CREATE | OFlags::EXCL) => return Ok(Answer::Error(libc::EEXIST)),
            Target::Tree(fd)
                if flags.contains(OFlags::PATH) && self.open_place_of(notification, asked, &fd).is_ok() =>
            {
                return Ok(Answer::GoOn);
            }
            Target::Tree(fd) => Identity::of(thread).and_then(|caller| reopen(&fd, flags, &caller)),
            Target::Served(inode, fd) => self.open_served(thread, inode, &fd, flags),
            // As on a mount without devices.
            Target::Device(..) => return Ok(Answer::Error(libc::EACCES)),
            Target::Proc(node) => self.open_proc(thread, &node, flags),
        };
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        Ok(Answer::of(opened, |fd| Answer::Descriptor { fd, close_on_exec }))
    }

    /// A device or a terminal; all else goes on.
    pub(super) fn open_served_only(&self, thread: i32, path: &Path, flags: OFlags) -> io::Result<Answer> {
        let Target::Served(inode, fd) = self.tree.resolve(path, true, thread)? else {
            return Ok(Answer::GoOn);
        };
        if matches!(self.tree.behind(inode), Some(Served::Memory(_))) {
            return Ok(Answer::GoOn);
        }
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        let opened = self.open_served(thread, inode, &fd, flags);
        Ok(Answer::of(opened, |fd| Answer::Descriptor { fd, close_on_exec }))
    }

    /// The placeholder says who may, its content comes from elsewhere.
    fn open_served(
        &self,
        thread: i32,
        inode: Inode,
        placeholder: &OwnedFd,
        flags: OFlags,
    ) -> io::Result<OwnedFd> {
        if flags.contains(OFlags::DIRECTORY) {
            return Err(errno(libc::ENOTDIR));
        }
        let caller = Identity::of(thread)?;
        match self.tree.behind(inode) {
            Some(Served::Memory(memory)) => {
                if writes(flags) {
                    return Err(errno(libc::EROFS));
                }
                drop(reopen(placeholder, OFlags::RDONLY, &caller)?);
                open_link(memory, OFlags::RDONLY)
            }
            Some(Served::Device(path)) => {
                Ok(rustix::fs::open(path, kept(flags) | OFlags::NOCTTY, Mode::empty())?)
            }
            Some(Served::Terminal) => {
                self.tree.terminals.open_own(task::terminal(thread)?, &caller, kept(flags))
            }
            Some(Served::Multiplexer) => self.tree.terminals.make(&caller, kept(flags)),
            None => self.tree.terminals.open(inode, &caller, kept(flags)),
        }
    }

    fn open_proc(&self, thread: i32, node: &Node, flags: OFlags) -> io::Result<OwnedFd> {
        if flags.contains(OFlags::DIRECTORY) && !matches!(node, Node::Listing { .. }) {
            return Err(errno(libc::ENOTDIR));
        }
        match node {
            Node::Listing { .. } if writes(flags) => Err(errno(libc::EISDIR)),
            Node::Listing { path, shown } => listing::open(&self.tree, path, shown, thread),
            Node::File { writable: false, .. } | Node::Made { .. } | Node::Numbered { .. }
                if writes(flags) =>
            {
                Err(errno(libc::EACCES))
            }
            Node::Made { content } => open_link(&sealed(content.as_bytes())?, OFlags::RDONLY),
            Node::Numbered { path, name, task } => {
                let mut text = String::new();
                File::from(open_file(thread, path, OFlags::RDONLY)?).read_to_string(&mut text)?;
                let text = self.tree.numbers.translate(name, &text, *task)?;
                let text = match &self.identity {
                    Some(identity) if name == "status" => identity.retell(*task, &text),
                    _ => text,
                };
                open_link(&sealed(text.as_bytes())?, OFlags::RDONLY)
            }
            Node::File { path, .. } => open_file(thread, path, flags),
            Node::Link { .. } => Err(errno(libc::ELOOP)),
            Node::Place { .. } if flags.contains(OFlags::NOFOLLOW) => Err(errno(libc::ELOOP)),
            Node::Place { path, text } => open_place(thread, path, text, flags),
        }
    }
}

/// A new file in a directory that only a link of /proc leads to.
fn create(
    parent: &OwnedFd,
    name: &OsStr,
    flags: OFlags,
    mode: u32,
    caller: &Identity,
) -> io::Result<OwnedFd> {
    let flags = kept(flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NOCTTY;
    caller.act(|| Ok(rustix::fs::openat(parent, name, flags, masked(mode, caller.umask))?))
}

/// What a supervisor must not do, for the test that shows why: the real /proc, as
/// far as its own rights go.
fn open_careless(thread: i32, rest: &Path, flags: OFlags) -> io::Result<Answer> {
    let rest = match rest.strip_prefix("self") {
        Ok(below) => Path::new(&thread.to_string()).join(below),
        Err(_) => rest.to_owned(),
    };
    let opened = rustix::fs::open(Path::new("/proc").join(rest), kept(flags), Mode::empty());
    let close_on_exec = flags.contains(OFlags::CLOEXEC);
    Ok(Answer::of(opened.map_err(io::Error::from), |fd| Answer::Descriptor { fd, close_on_exec }))
}

/// A file of the real /proc. The name was allowed; no link on the way is followed.
fn open_file(thread: i32, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let open = || {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(&proc, path, kept(flags) | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd),
            _ => Err(errno(libc::EACCES)),
        }
    };
    let caller = Identity::of(thread)?;
    let process = path.split('/').next().and_then(|first| first.parse::<i32>().ok());
    match process {
        // Root may look at everybody of its own, as far as their own rights go.
        Some(process) if caller.uid == 0 => Identity::of(process)?.act(open),
        _ => caller.act(open),
    }
}

/// What a descriptor of a process is, if it has no name in the tree: a pipe, a
/// file that was removed, memory, a terminal. The process has it already.
fn open_place(thread: i32, path: &str, text: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let full = format!("/proc/{path}");
    let bytes = text.as_os_str().as_encoded_bytes();
    let stat = task::look_at(thread, || Ok(rustix::fs::stat(&full)?))?;
    let allowed = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => bytes.starts_with(b"pipe:["),
        FileType::RegularFile => stat.st_nlink == 0 && bytes.ends_with(DELETED),
        FileType::CharacterDevice => bytes.starts_with(b"/dev/pts/"),
        FileType::Socket => return Err(errno(libc::ENXIO)),
        _ => false,
    };
    if !allowed {
        return Err(errno(libc::ENOENT));
    }
    Identity::of(thread)?.act(|| {
        // A pipe is opened without waiting for its other end.
        let fd = rustix::fs::open(&full, kept(flags) | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        block_again(fd, flags)
    })
}

/// Opens what an O_PATH descriptor of the tree names, with the rights of `caller`.
fn reopen(fd: &OwnedFd, flags: OFlags, caller: &Identity) -> io::Result<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    match kind {
        FileType::Symlink => return Err(errno(libc::ELOOP)),
        FileType::Socket => return Err(errno(libc::ENXIO)),
        FileType::BlockDevice => return Err(errno(libc::EACCES)),
        _ => {}
    }
    let fd = caller.act(|| open_link(fd, kept(flags) | OFlags::NONBLOCK | OFlags::NOCTTY))?;
    block_again(fd, flags)
}

fn block_again(fd: OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    if !flags.contains(OFlags::NONBLOCK) {
        let now = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, now - OFlags::NONBLOCK)?;
    }
    Ok(fd)
}

pub(super) fn open_link(fd: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// O_PATH descriptors cannot be handed over; a reading one serves as well.
fn kept(flags: OFlags) -> OFlags {
    let dropped = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    (flags - dropped) | OFlags::CLOEXEC
}

fn writes(flags: OFlags) -> bool {
    flags.bits() & libc::O_ACCMODE.cast_unsigned() != libc::O_RDONLY.cast_unsigned()
        && !flags.contains(OFlags::PATH)
}

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
