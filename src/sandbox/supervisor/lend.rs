//! Calls that only the caller itself can do (execve, chdir, opening a place),
//! on a path that the kernel does not find: through `/proc/self`.
//!
//! The supervisor writes another path over the one in the caller's memory, and
//! the kernel, told to go on, reads that. It is where the path really leads if
//! that is short enough, else an alias: a symbolic link in the scratch /proc.
//! The kernel then does the call under the RUN's own rights, so nothing that a
//! RUN writes there in between gives it more than it has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::calls::Asked;
use super::proc::Node;
use super::walk::{DELETED, Target, Tree};
use super::{Answer, Service, listing};
use crate::sandbox::mounts::link;
use crate::sandbox::raw::Notification;

/// More than any RUN needs; each is a link in the tree.
const MOST: usize = 10_000;

/// Short names for long paths, in /proc of the tree.
#[derive(Default)]
pub(super) struct Aliases(Mutex<HashMap<(PathBuf, Kind), String>>);

impl Aliases {
    /// What an alias stands for.
    pub(super) fn target(&self, alias: &str) -> Option<PathBuf> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(_, name)| *name == alias).map(|((target, _), _)| target.clone())
    }

    /// The alias of `target`, made if there is none.
    fn of(&self, tree: &Tree, target: &Path, kind: Kind) -> io::Result<String> {
        // A panic elsewhere leaves the table whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target.to_owned(), kind);
        if let Some(name) = known.get(&key) {
            return Ok(name.clone());
        }
        if known.len() >= MOST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc = tree.open_with(Path::new("/proc"), flags, ResolveFlags::NO_SYMLINKS)?;
        let mut name = format!(".{:x}", known.len());
        if kind == Kind::Program {
            rustix::fs::mkdirat(&proc, &name, Mode::from_raw_mode(0o555))?;
            name.push_str("/exe");
        }
        rustix::fs::symlinkat(target, &proc, &name)?;
        known.insert(key, name.clone());
        Ok(name)
    }
}

/// What an alias is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    /// A program is called by the last part of its path, often by its own
    /// argument too: it stays `exe`.
    Program,
}

impl Service {
    pub(super) fn execute(
        &self,
        notification: &Notification,
        asked: &Asked,
        follow: bool,
    ) -> io::Result<Answer> {
        Ok(match self.tree.resolve(&asked.path, follow, notification.thread)? {
            Target::Native | Target::Served(..) => Answer::GoOn,
            Target::Device(..) => Answer::Error(libc::EACCES),
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Tree(fd) => {
                let target = self.name_of(&fd)?;
                let kind = if asked.path.ends_with("exe") { Kind::Program } else { Kind::Any };
                let alias = self.tree.aliases.of(&self.tree, &target, kind)?;
                match self.overwrite(notification, asked, format!("/proc/{alias}").into_bytes()) {
                    Ok(()) => Answer::GoOn,
                    Err(_) => self.lend(notification, asked, &target),
                }
            }
            // Memory, and what is not of the tree, has no name to go by.
            Target::Proc(Node::Place { .. }) => Answer::Error(libc::ENOENT),
            Target::Proc(_) => Answer::Error(libc::EACCES),
        })
    }

    pub(super) fn change_directory(&self, notification: &Notification, asked: &Asked) -> io::Result<Answer> {
        let thread = notification.thread;
        Ok(match self.tree.resolve(&asked.path, true, thread)? {
            Target::Native => Answer::GoOn,
            Target::Missing(errno) => Answer::Error(errno),
            Target::New(..) => Answer::Error(libc::ENOENT),
            Target::Tree(fd) if is_directory(&fd)? => self.lend(notification, asked, &self.name_of(&fd)?),
            Target::Proc(Node::Listing { path, shown }) => {
                // Filled first: whoever is in it lists it.
                drop(listing::open(&self.tree, &path, &shown, thread)?);
                let place = Path::new("/proc").join(shown);
                // Mostly the kernel finds it as it was said.
                if asked.path == place { Answer::GoOn } else { self.lend(notification, asked, &place) }
            }
            _ => Answer::Error(libc::ENOTDIR),
        })
    }

    /// Something in the tree that /proc leads to, for a call that needs no more
    /// than its name. Where the name is too long the call finds nothing.
    fn lend(&self, notification: &Notification, asked: &Asked, target: &Path) -> Answer {
        match self.try_lend(notification, asked, target) {
            Ok(()) => Answer::GoOn,
            Err(_) => Answer::Error(libc::ENOENT),
        }
    }

    fn try_lend(&self, notification: &Notification, asked: &Asked, target: &Path) -> io::Result<()> {
        let text = target.as_os_str().as_encoded_bytes().to_vec();
        if text.len() <= asked.room {
            return self.overwrite(notification, asked, text);
        }
        let alias = self.tree.aliases.of(&self.tree, target, Kind::Any)?;
        self.overwrite(notification, asked, format!("/proc/{alias}").into_bytes())
    }

    /// A new name in a directory that only /proc leads to.
    pub(super) fn lend_in(
        &self,
        notification: &Notification,
        asked: &Asked,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> Answer {
        let lent = self.name_of(parent).and_then(|parent| {
            let text = parent.join(name).into_os_string().into_encoded_bytes();
            if text.len() <= asked.room {
                return self.overwrite(notification, asked, text);
            }
            let alias = self.tree.aliases.of(&self.tree, &parent, Kind::Any)?;
            let text = Path::new("/proc").join(alias).join(name);
            self.overwrite(notification, asked, text.into_os_string().into_encoded_bytes())
        });
        if lent.is_ok() { Answer::GoOn } else { Answer::Error(libc::ENOENT) }
    }

    fn overwrite(&self, notification: &Notification, asked: &Asked, mut text: Vec<u8>) -> io::Result<()> {
        if text.len() > asked.room {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        text.push(0);
        if !self.is_waiting(notification) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.memories.write_anywhere(notification.thread, asked.address, &text)
    }

    /// Where a place of the tree lies by now.
    fn name_of(&self, fd: &OwnedFd) -> io::Result<PathBuf> {
        let text = std::fs::read_link(link(fd))?;
        let is_gone = text.as_os_str().as_encoded_bytes().ends_with(DELETED);
        self.tree.inside(&text).filter(|_| !is_gone).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// A place for O_PATH: the kernel makes it, because none can be handed over.
    pub(super) fn open_place_of(
        &self,
        notification: &Notification,
        asked: &Asked,
        fd: &OwnedFd,
    ) -> io::Result<()> {
        self.try_lend(notification, asked, &self.name_of(fd)?)
    }
}

fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}
