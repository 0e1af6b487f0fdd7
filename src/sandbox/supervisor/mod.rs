//! The supervisor of a RUN: a thread in its stub that answers system calls
//! which need /proc, devices or files in memory, where no mount gives them.
//!
//! It hears of calls with a path ([`filter`]), finds where the path leads
//! ([`walk`]), and hands over a descriptor or a result; everything else goes on
//! in the kernel, under the RUN's own rights. What it may hand over of /proc is
//! an allow-list ([`proc`]); directories are scratch ones ([`listing`]), never
//! those of the real /proc. It also makes device nodes as placeholders with a
//! record, and refuses a second chroot.
//!
//! Which of this is done is said by [`Parts`]. Who the callers are and whom files
//! belong to, where only one id exists, is another [`Part`]: [`identity`]. The
//! first part that knows an answer gives it.

mod calls;
mod devices;
mod filter;
mod identity;
mod listing;
mod neighbours;
mod open;
mod proc;
mod status;
mod task;
mod walk;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{MemfdFlags, SealFlags};

use super::protections::{Protection, Protections};
use super::raw::{self, Notification};
use super::spec::{MountSpec, RunSpec};
use crate::metadata::Key;
use task::Memories;
use walk::{Served, Tree};

pub(super) use identity::Identity;
pub(super) use identity::{FIRST as FIRST_SLACK, slack, slack_path};

/// Which parts are switched on, and what they need.
pub(super) struct Parts {
    root: PathBuf,
    /// Path in the tree, and what opening it gives.
    files: Vec<(PathBuf, OwnedFd)>,
    devices: Vec<&'static str>,
    record_key: Option<Key>,
    protections: Protections,
}

impl Parts {
    /// What the rung `chroot` needs for `spec`, whose tree is at `root`.
    ///
    /// # Errors
    /// When there is no memory for the secrets.
    pub(super) fn of(spec: &RunSpec, root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for mount in &spec.mounts {
            if let MountSpec::File { content, target, .. } = mount {
                files.push((target.clone(), sealed(content.expose())?));
            }
        }
        let devices = super::chroot::NODES.iter().map(|(name, ..)| *name).collect();
        Ok(Self {
            root: root.to_owned(),
            files,
            devices,
            record_key: spec.record_key.clone(),
            protections: spec.protections,
        })
    }
}

/// A file in memory that nobody can change.
fn sealed(content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(rustix::fs::memfd_create("file", flags)?);
    memory.write_all(content)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

/// How many calls may be at work at once. One that nobody has taken yet is
/// interrupted by any signal of its caller.
const THREADS: usize = 4;

/// Serves `listener`, in threads that end with the last process of the RUN.
///
/// # Errors
/// When the tree cannot be opened.
pub(super) fn start(listener: OwnedFd, parts: Parts) -> io::Result<()> {
    let listener = Arc::new(listener);
    let service = Service {
        tree: tree(&parts)?,
        listener: Arc::clone(&listener),
        record_key: parts.record_key,
        protections: parts.protections,
        memories: Memories::default(),
    };
    serve(listener, vec![Box::new(service)])
}

/// Serves `listener` with `identity` alone.
///
/// # Errors
/// When no threads can be had.
pub(super) fn start_identity(listener: OwnedFd, identity: Identity) -> io::Result<()> {
    serve(Arc::new(listener), vec![Box::new(identity)])
}

fn serve(listener: Arc<OwnedFd>, parts: Vec<Box<dyn Part>>) -> io::Result<()> {
    raw::wake_in_turn(listener.as_fd());
    let office = Arc::new(Office { listener, parts });
    for _ in 0..THREADS {
        let office = Arc::clone(&office);
        thread::Builder::new().name("supervisor".to_owned()).spawn(move || office.serve())?;
    }
    Ok(())
}

/// The tree with its placeholders: an inode each, whatever it will be called.
fn tree(parts: &Parts) -> io::Result<Tree> {
    let mut tree = Tree::open(&parts.root)?;
    for (path, memory) in &parts.files {
        let stat = rustix::fs::fstat(tree.look(path, true)?)?;
        tree.served.insert((stat.st_dev, stat.st_ino), Served::Memory(memory.try_clone()?));
    }
    for name in &parts.devices {
        let path = Path::new("/dev").join(name);
        let stat = rustix::fs::fstat(tree.look(&path, false)?)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile {
            tree.served.insert((stat.st_dev, stat.st_ino), Served::Device(path));
        }
    }
    Ok(tree)
}

/// Installs the filter on this thread; a supervisor takes its listener.
pub(super) fn install(protections: Protections) -> io::Result<OwnedFd> {
    raw::install_listener(&filter::program(protections))
}

/// Likewise, with the filter of [`Identity`].
pub(super) fn install_identity() -> io::Result<OwnedFd> {
    raw::install_listener(&identity::program())
}

/// One of the things a supervisor does.
trait Part: Send + Sync {
    /// `None`: another part may know, or else the kernel.
    fn answer(&self, listener: &OwnedFd, notification: &Notification) -> Option<Answer>;
}

/// What one answer is.
enum Answer {
    /// The kernel does the call itself.
    GoOn,
    Value(i64),
    Error(i32),
    Descriptor {
        fd: OwnedFd,
        close_on_exec: bool,
    },
}

impl Answer {
    fn of<T>(result: io::Result<T>, good: impl FnOnce(T) -> Self) -> Self {
        match result {
            Ok(value) => good(value),
            Err(error) => Self::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

struct Service {
    listener: Arc<OwnedFd>,
    tree: Tree,
    record_key: Option<Key>,
    protections: Protections,
    memories: Memories,
}

impl Part for Service {
    fn answer(&self, _: &OwnedFd, notification: &Notification) -> Option<Answer> {
        Some(self.answer(notification))
    }
}

/// Takes calls, asks the parts in turn, and answers.
struct Office {
    listener: Arc<OwnedFd>,
    parts: Vec<Box<dyn Part>>,
}

impl Office {
    fn serve(&self) {
        while self.wait() {
            let notification = match raw::next_notification(self.listener.as_fd()) {
                Ok(notification) => notification,
                // Withdrawn by a signal, or interrupted ourselves.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                Err(_) => return,
            };
            let known = self.parts.iter().find_map(|part| part.answer(&self.listener, &notification));
            let answer = known.unwrap_or(Answer::GoOn);
            // A caller that was killed meanwhile wants no answer.
            let _ = self.give(&notification, answer);
        }
    }

    /// Whether somebody waits; not, once nobody can.
    fn wait(&self) -> bool {
        loop {
            let mut watched = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return false,
                Ok(_) => {
                    return watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
                }
            }
        }
    }

    fn give(&self, notification: &Notification, answer: Answer) -> io::Result<()> {
        let (listener, id) = (self.listener.as_fd(), notification.id);
        match answer {
            Answer::GoOn => raw::go_on(listener, id),
            Answer::Value(value) => raw::answer(listener, id, Ok(value)),
            Answer::Error(errno) => raw::answer(listener, id, Err(errno)),
            Answer::Descriptor { fd, close_on_exec } => {
                match raw::answer_with(listener, id, fd.as_fd(), close_on_exec) {
                    // The caller has no place for another one.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::EBADF)) => {
                        raw::answer(listener, id, Err(libc::EMFILE))
                    }
                    other => other,
                }
            }
        }
    }
}
