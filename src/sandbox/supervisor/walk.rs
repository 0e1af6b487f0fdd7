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
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use super::lend::Aliases;
use super::look::{RootLinks, ends_as_directory};
use super::numbers::Numbers;
use super::proc::{self, Node};
use super::task;
use super::terminals::Terminals;
use crate::metadata::{Device, Key, RECORD_XATTR, Record};
use crate::sandbox::mounts::link;

const MOST_LINKS: usize = 40;

/// What the kernel says behind a name that is gone.
pub(super) const DELETED: &[u8] = b" (deleted)";

/// Which file: device and inode number.
pub(super) type Inode = (u64, u64);

/// The tree of the RUN.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// As the kernel names it.
    pub(super) path: PathBuf,
    pub(super) root_links: RootLinks,
    /// What lies at an inode of ours. Each is held open, so that its number
    /// cannot become another file's.
    served: HashMap<Inode, (Served, OwnedFd)>,
    pub(super) terminals: Terminals,
    pub(super) aliases: Aliases,
    pub(super) numbers: Numbers,
    /// The host name to tell.
    pub(super) host: String,
    record_key: Option<Key>,
}

/// What is behind a placeholder.
pub(super) enum Served {
    /// A file in memory.
    Memory(OwnedFd),
    /// A device of the container, by its path.
    Device(PathBuf),
    /// The terminal that controls the caller.
    Terminal,
    /// Makes new terminals.
    Multiplexer,
}

/// Where a path leads.
pub(super) enum Target {
    /// The kernel may find it by itself.
    Native,
    /// Nowhere, and the kernel says that as well as we.
    Missing(i32),
    /// Nowhere, in a directory that only a link of /proc leads to.
    New(OwnedFd, OsString),
    /// Something in the tree that only a link of /proc leads to.
    Tree(OwnedFd),
    /// A placeholder, and what is behind it.
    Served(Inode, OwnedFd),
    /// The placeholder of a device that a RUN made.
    Device(Device, OwnedFd),
    /// In /proc.
    Proc(Node),
}

/// One component further.
enum Step {
    On,
    Jump(PathBuf),
    End(Target),
}

impl Tree {
    /// `root` may be a place only.
    pub(super) fn open(root: OwnedFd, numbers: Numbers, record_key: Option<Key>) -> io::Result<Self> {
        let path = std::fs::read_link(link(&root))?;
        let root_links = RootLinks::of(&root);
        Ok(Self {
            root,
            path,
            root_links,
            served: HashMap::new(),
            terminals: Terminals::default(),
            aliases: Aliases::default(),
            numbers,
            host: String::new(),
            record_key,
        })
    }

    /// From now on `served` is what the placeholder at `path` stands for. Where
    /// something else lies (a real device), it is that.
    pub(super) fn serve(&mut self, path: &Path, served: Served) -> io::Result<()> {
        let placeholder = self.look(path, matches!(served, Served::Memory(_)))?;
        let stat = rustix::fs::fstat(&placeholder)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.served.insert((stat.st_dev, stat.st_ino), (served, placeholder));
        }
        Ok(())
    }

    /// What the placeholder stands for; nothing for a terminal of the RUN.
    pub(super) fn behind(&self, inode: Inode) -> Option<&Served> {
        self.served.get(&inode).map(|(served, _)| served)
    }

    /// What authenticates the records of devices.
    pub(super) fn record_key(&self) -> Option<&Key> {
        self.record_key.as_ref()
    }

    pub(super) fn is_served(&self, inode: Inode) -> bool {
        self.served.contains_key(&inode) || self.terminals.has(inode)
    }

    /// The path inside of one that the kernel told; nothing if it is outside.
    pub(super) fn inside(&self, outer: &Path) -> Option<PathBuf> {
        Some(Path::new("/").join(outer.strip_prefix(&self.path).ok()?))
    }

    /// Opens a place in the tree, as the RUN would.
    pub(super) fn look(&self, path: &Path, follow: bool) -> io::Result<OwnedFd> {
        self.open_with(path, place(follow), ResolveFlags::empty())
    }

    pub(super) fn open_with(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        open_below(&self.root, path, flags, more)
    }

    /// Where `path`, absolute inside the tree, leads for `thread`.
    pub(super) fn resolve(&self, path: &Path, follow: bool, thread: i32) -> io::Result<Target> {
        let follow = follow || ends_as_directory(path);
        if in_proc(path).is_some_and(|rest| rest != Path::new("")) {
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
        if self.is_served(inode) {
            return Ok(Target::Served(inode, fd));
        }
        self.terminals.tidy(inode);
        if let Some(device) = self.device(&fd, &stat) {
            return Ok(Target::Device(device, fd));
        }
        let inside = self.inside(&std::fs::read_link(link(&fd))?);
        match inside.as_deref().map(|inside| inside.strip_prefix("/proc")) {
            Some(Ok(rest)) => self.node(rest, thread).map(Target::Proc).or_else(missing),
            _ => Ok(Target::Native),
        }
    }

    /// What an empty file really is.
    pub(super) fn device(&self, fd: &OwnedFd, stat: &Stat) -> Option<Device> {
        let key = self.record_key.as_ref()?;
        if stat.st_size != 0 || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut value = [0; 256];
        // Through the link of this process: a place has no attributes itself.
        let length = rustix::fs::getxattr(link(fd), RECORD_XATTR, &mut value[..]).ok()?;
        Record::from_xattr(&value[..length], key)?.device
    }

    fn node(&self, rest: &Path, thread: i32) -> io::Result<Node> {
        proc::node(self, rest, thread)
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
            let is_last = ahead.is_empty();
            let step = match in_proc(&next) {
                Some(rest) if rest != Path::new("") => {
                    through_proc = true;
                    self.step_in_proc(rest, is_last, follow, thread)?
                }
                _ => match self.peek(&next, is_last && !follow) {
                    Ok(text) => text.map_or(Step::On, Step::Jump),
                    Err(error) if through_proc && is_last && is_absent(&error) => Step::On,
                    Err(error) if through_proc => Step::End(missing(error)?),
                    Err(_) => Step::End(Target::Native),
                },
            };
            let text = match step {
                Step::End(target) => return Ok(target),
                Step::On => {
                    at = next;
                    continue;
                }
                Step::Jump(text) => text,
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
        self.arrive(&at, follow, thread)
    }

    fn step_in_proc(&self, rest: &Path, is_last: bool, follow: bool, thread: i32) -> io::Result<Step> {
        // What an alias lies in: whether there is one its own step tells.
        if !is_last && rest.as_os_str().as_encoded_bytes().starts_with(b".") && rest.components().count() == 1
        {
            return Ok(Step::On);
        }
        let node = match self.node(rest, thread) {
            Ok(node) => node,
            Err(error) => return missing(error).map(Step::End),
        };
        Ok(match node {
            Node::Link { .. } | Node::Place { .. } if is_last && !follow => Step::End(Target::Proc(node)),
            Node::Link { text } => Step::Jump(text),
            Node::Place { .. } => match self.enter(&node) {
                // The link is to the file itself, whatever has its name by now.
                Some(inside) if is_last => match self.exactly(&node, &inside, thread) {
                    Some(target) => Step::End(target),
                    None if in_proc(&inside).is_some() => Step::Jump(inside),
                    None => Step::End(Target::Proc(node)),
                },
                Some(inside) => Step::Jump(inside),
                None if is_last => Step::End(Target::Proc(node)),
                None => Step::End(Target::Missing(libc::ENOENT)),
            },
            node if is_last => Step::End(Target::Proc(node)),
            Node::Listing { .. } => Step::On,
            _ => Step::End(Target::Missing(libc::ENOTDIR)),
        })
    }

    /// What lies in the tree where a link of /proc leads to, if it is that.
    fn exactly(&self, node: &Node, inside: &Path, thread: i32) -> Option<Target> {
        let Node::Place { path, text } = node else { return None };
        if in_proc(inside).is_some() {
            return None;
        }
        let fd = self.look(inside, false).ok()?;
        let found = rustix::fs::fstat(&fd).ok()?;
        let is_known = proc::known_device(text).is_some();
        let meant = task::look_at(thread, || Ok(rustix::fs::stat(format!("/proc/{path}"))?)).ok()?;
        if !is_known && (found.st_dev, found.st_ino) != (meant.st_dev, meant.st_ino) {
            return None;
        }
        let inode = (found.st_dev, found.st_ino);
        Some(if self.is_served(inode) { Target::Served(inode, fd) } else { Target::Tree(fd) })
    }

    fn arrive(&self, at: &Path, follow: bool, thread: i32) -> io::Result<Target> {
        if let Some(rest) = in_proc(at) {
            return self.node(rest, thread).map(Target::Proc).or_else(missing);
        }
        let fd = match self.look(at, follow) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return self.new_in(at).or_else(missing),
            Err(error) => return missing(error),
        };
        let stat = rustix::fs::fstat(&fd)?;
        let inode = (stat.st_dev, stat.st_ino);
        Ok(if self.is_served(inode) { Target::Served(inode, fd) } else { Target::Tree(fd) })
    }

    fn new_in(&self, at: &Path) -> io::Result<Target> {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        Ok(Target::New(self.look(parent, true)?, name.to_owned()))
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
        if last || FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(None);
        }
        let text = rustix::fs::readlinkat(fd.as_fd(), "", Vec::new())?;
        Ok(Some(task::path(text.as_bytes()).to_owned()))
    }
}

/// How a place is opened.
pub(super) fn place(follow: bool) -> OFlags {
    OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW }
}

/// Opens `path` with `root` as `/`, through no magic link.
pub(super) fn open_below(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    more: ResolveFlags,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// What comes behind /proc.
fn in_proc(path: &Path) -> Option<&Path> {
    path.strip_prefix("/proc").ok()
}

fn missing(error: io::Error) -> io::Result<Target> {
    Ok(Target::Missing(error.raw_os_error().unwrap_or(libc::ENOENT)))
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
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
