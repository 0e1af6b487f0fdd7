//! Where a path leads: into the tree, where the kernel finds it by itself, or
//! into the /proc that is not there.
//!
//! Every look into the tree goes through its descriptor with RESOLVE_IN_ROOT
//! and without magic links, so nothing here leaves it, whatever RUN does to it
//! meanwhile. A path is only taken over where it enters /proc or ends at an
//! inode that is served; all others are left to the kernel, which reads them
//! again, under the RUN's own rights.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::proc::{self, Node};
use crate::sandbox::mounts::{link, open_path};

const MOST_LINKS: usize = 40;

/// What the kernel says behind a name that is gone.
pub(super) const DELETED: &[u8] = b" (deleted)";

/// The tree of the RUN.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// As the kernel names it.
    path: PathBuf,
    /// What lies at an inode of ours, by device and inode number.
    pub(super) served: HashMap<(u64, u64), Served>,
}

/// What is behind a placeholder.
pub(super) enum Served {
    /// A file in memory.
    Memory(OwnedFd),
    /// A device of the container, by its path.
    Device(PathBuf),
}

/// Where a path leads.
pub(super) enum Target {
    /// The kernel may find it by itself.
    Native,
    /// Nowhere, and the kernel says that as well as we.
    Missing(i32),
    /// Something in the tree that only a link of /proc leads to.
    Tree(OwnedFd),
    /// A placeholder, and what is behind it.
    Served((u64, u64), OwnedFd),
    /// In /proc.
    Proc(Node),
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = open_path(root)?;
        let path = std::fs::read_link(link(&root))?;
        Ok(Self { root, path, served: HashMap::new() })
    }

    /// The path inside of one that the kernel told; nothing if it is outside.
    pub(super) fn inside(&self, outer: &Path) -> Option<PathBuf> {
        Some(Path::new("/").join(outer.strip_prefix(&self.path).ok()?))
    }

    /// Opens a place in the tree, as the RUN would.
    pub(super) fn look(&self, path: &Path, follow: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.open_with(path, flags, ResolveFlags::empty())
    }

    pub(super) fn open_with(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Where `path`, absolute inside the tree, leads for `thread`.
    pub(super) fn resolve(&self, path: &Path, follow: bool, thread: i32) -> io::Result<Target> {
        // `link/` means what the link leads to.
        let follow = follow || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if let Ok(rest) = path.strip_prefix("/proc")
            && rest != Path::new("")
        {
            return self.walk(path, follow, thread);
        }
        match self.look(path, follow) {
            Ok(fd) => self.judge(fd, thread),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.walk(path, follow, thread),
            Err(_) => Ok(Target::Native),
        }
    }

    /// The kernel would find this; is it ours all the same?
    fn judge(&self, fd: OwnedFd, thread: i32) -> io::Result<Target> {
        let stat = rustix::fs::fstat(&fd)?;
        let inode = (stat.st_dev, stat.st_ino);
        if self.served.contains_key(&inode) {
            return Ok(Target::Served(inode, fd));
        }
        let inside = self.inside(&std::fs::read_link(link(&fd))?);
        match inside.as_deref().map(|inside| inside.strip_prefix("/proc")) {
            Some(Ok(rest)) => proc::node(rest, thread).map(Target::Proc).or_else(missing),
            _ => Ok(Target::Native),
        }
    }

    /// Component by component, with links of the tree and of /proc.
    fn walk(&self, path: &Path, follow: bool, thread: i32) -> io::Result<Target> {
        let mut at = PathBuf::from("/");
        let mut ahead = components(path);
        let mut through_proc = false;
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let last = ahead.is_empty() && !follow;
            let text = if let Ok(rest) = next.strip_prefix("/proc")
                && rest != Path::new("")
            {
                through_proc = true;
                match proc::node(rest, thread) {
                    Ok(node @ (Node::Link { .. } | Node::Place { .. })) if last => {
                        return Ok(Target::Proc(node));
                    }
                    Ok(Node::Link { text }) => Some(text),
                    Ok(node @ Node::Place { .. }) => match (self.enter(&node), ahead.is_empty()) {
                        (Some(inside), _) => Some(inside),
                        (None, true) => return Ok(Target::Proc(node)),
                        (None, false) => return Ok(Target::Missing(libc::ENOENT)),
                    },
                    Ok(node) if ahead.is_empty() => return Ok(Target::Proc(node)),
                    Ok(_) => None,
                    Err(error) => return missing(error),
                }
            } else {
                match self.peek(&next, last) {
                    Ok(text) => text,
                    Err(error) if through_proc => return missing(error),
                    Err(_) => return Ok(Target::Native),
                }
            };
            let Some(text) = text else {
                at = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Ok(Target::Missing(libc::ELOOP));
            }
            if text.is_absolute() {
                at = PathBuf::from("/");
            }
            for component in components(&text).into_iter().rev() {
                ahead.push_front(component);
            }
        }
        if !through_proc {
            return Ok(Target::Native);
        }
        if let Ok(rest) = at.strip_prefix("/proc") {
            return proc::node(rest, thread).map(Target::Proc).or_else(missing);
        }
        let fd = match self.look(&at, follow) {
            Ok(fd) => fd,
            Err(error) => return missing(error),
        };
        let stat = rustix::fs::fstat(&fd)?;
        match self.served.contains_key(&(stat.st_dev, stat.st_ino)) {
            true => Ok(Target::Served((stat.st_dev, stat.st_ino), fd)),
            false => Ok(Target::Tree(fd)),
        }
    }

    /// A place of a process that lies in the tree, or is a device that the tree has too.
    fn enter(&self, node: &Node) -> Option<PathBuf> {
        let Node::Place { text, .. } = node else { return None };
        if text.as_os_str().as_encoded_bytes().ends_with(DELETED) {
            return None;
        }
        self.inside(text).or_else(|| proc::known_device(text))
    }

    /// The text of a link; nothing for anything else that exists.
    fn peek(&self, path: &Path, last: bool) -> io::Result<Option<PathBuf>> {
        let fd = self.open_with(
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            ResolveFlags::NO_SYMLINKS,
        )?;
        let stat = rustix::fs::fstat(&fd)?;
        if last || rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Symlink {
            return Ok(None);
        }
        let text = rustix::fs::readlinkat(fd.as_fd(), "", Vec::new())?;
        Ok(Some(super::task::path(text.as_bytes()).to_owned()))
    }
}

fn missing(error: io::Error) -> io::Result<Target> {
    Ok(Target::Missing(error.raw_os_error().unwrap_or(libc::ENOENT)))
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            _ => None,
        })
        .map(OsStr::to_owned)
        .collect()
}
