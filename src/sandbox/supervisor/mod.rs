//! The supervisor of a RUN: threads in its stub that answer system calls which
//! need /proc, devices or files in memory, where no mount gives them.
//!
//! It hears of calls with a path ([`filter`]), finds where the path leads
//! ([`walk`]), and hands over a descriptor or a result; everything else goes on
//! in the kernel, under the RUN's own rights. What it may hand over of /proc is
//! an allow-list ([`proc`]); directories are scratch ones ([`listing`]), never
//! those of the real /proc. Where only the caller itself can do a call, it
//! lends it a name that the kernel finds ([`lend`]). It also makes device nodes
//! as placeholders with a record, terminals, and refuses a second chroot; and it
//! sets attributes, so that nobody but us writes a record ([`attributes`]).
//!
//! Which of this is done is said by [`Parts`] and [`Heard`]: on the rung
//! `chroot` all of it; on `namespaces` and `mounts` devices and attributes, or /proc too
//! where the kernel gives no new one. Who the callers are and whom files belong
//! to, where only one id exists (`single`), is another [`Part`]: [`identity`]. The
//! first part that knows an answer gives it.

mod attributes;
mod calls;
mod change;
mod devices;
mod filter;
mod handover;
mod host;
mod identity;
mod ipc;
mod lend;
mod listing;
mod look;
mod names;
mod neighbours;
mod numbers;
mod office;
mod open;
mod proc;
mod status;
mod task;
mod terminals;
mod walk;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use nix::libc;
use rustix::fs::{MemfdFlags, SealFlags};

use super::protections::{Protection, Protections};
use super::raw::{self, Notification};
use super::spec::{MountSpec, RunSpec};
use super::tracing::Traced;
use crate::metadata::Key;
use numbers::Numbers;
use office::{Office, Part, Turn};
use task::Memories;
use walk::{Served, Tree};

pub(super) use filter::Heard;
pub(super) use handover::{Handover, give, is_possible, take};
pub(super) use identity::Identity;
pub(super) use identity::{FIRST as FIRST_SLACK, slack, slack_path};
pub(super) use ipc::Objects;

/// Which parts are switched on, and what they need.
pub(super) struct Parts {
    /// Path in the tree, and what opening it gives.
    files: Vec<(PathBuf, OwnedFd)>,
    /// Whether /dev of the tree has placeholders.
    devices: bool,
    numbers: Numbers,
    /// The caller may have another root than the RUN.
    may_chroot: bool,
    /// A device that the kernel makes does no harm: nobody can open it.
    real_devices: bool,
    record_key: Option<Key>,
    /// Keeps owners and users, where one id exists.
    identity: Option<Identity>,
    /// Keeps System V objects and queues, where there is no namespace for them.
    objects: Option<Arc<Objects>>,
    /// The host name of the RUN.
    host: String,
    protections: Protections,
}

impl Parts {
    /// What the rung `chroot` needs for `spec`.
    ///
    /// # Errors
    /// When there is no memory for the secrets.
    pub(super) fn of_chroot(spec: &RunSpec, objects: Arc<Objects>) -> io::Result<Self> {
        let mut files = Vec::new();
        for mount in &spec.mounts {
            if let MountSpec::File { content, target, .. } = mount {
                files.push((target.clone(), sealed(content.expose())?));
            }
        }
        Ok(Self {
            files,
            devices: true,
            numbers: Numbers::Ours,
            may_chroot: false,
            real_devices: false,
            record_key: spec.record_key.clone(),
            identity: None,
            objects: Some(objects),
            host: spec.hostname.clone(),
            protections: spec.protections,
        })
    }

    /// What the rung `single` needs for `spec`.
    pub(super) fn of_single(spec: &RunSpec, identity: Identity) -> Self {
        Self { real_devices: false, identity: Some(identity), ..Self::of_mounts(spec) }
    }

    /// What the rungs with mounts need for `spec`.
    pub(super) fn of_mounts(spec: &RunSpec) -> Self {
        Self {
            files: Vec::new(),
            devices: false,
            numbers: Numbers::Own(Default::default()),
            may_chroot: true,
            // The root is mounted without devices.
            real_devices: true,
            record_key: spec.record_key.clone(),
            identity: None,
            objects: None,
            host: spec.hostname.clone(),
            protections: spec.protections,
        }
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

/// Serves what was handed over, in threads that end with the last process of
/// the RUN.
///
/// # Errors
/// When the tree cannot be opened.
pub(super) fn start(handover: Handover, mut parts: Parts) -> io::Result<()> {
    let Handover { listener, root, heard, killable } = handover;
    raw::wake_in_turn(listener.as_fd());
    // Modes are those the callers ask for, under their own masks.
    rustix::process::umask(rustix::fs::Mode::empty());
    let listener = Arc::new(listener);
    let mut all: Vec<Box<dyn Part>> = Vec::new();
    let mut identity = parts.identity.take();
    if let Some(identity) = &mut identity {
        identity.settle(&root, heard)?;
    }
    let identity = identity.map(Arc::new);
    let is_owner_kept = identity.is_some();
    let busy = identity.is_some() || heard != Heard::Devices;
    // Identity makes its own devices.
    let needs_tree = identity.is_none() || heard != Heard::Devices;
    all.extend(identity.clone().map(|identity| Box::new(identity) as Box<dyn Part>));
    all.extend(parts.objects.take().map(|objects| Box::new(objects) as Box<dyn Part>));
    if needs_tree {
        all.push(Box::new(Service {
            tree: tree(root, &parts)?,
            listener: Arc::clone(&listener),
            may_chroot: parts.may_chroot,
            changed_root: AtomicBool::new(false),
            real_devices: parts.real_devices,
            protections: parts.protections,
            memories: Memories::default(),
            identity,
            is_owner_kept,
            revives: killable,
        }));
    }
    let office = Arc::new(Office::new(listener, all));
    for _ in 0..if busy { THREADS } else { 1 } {
        let office = Arc::clone(&office);
        thread::Builder::new().name("supervisor".to_owned()).spawn(move || office.serve())?;
    }
    Ok(())
}

/// The tree with its placeholders: an inode each, whatever it will be called.
fn tree(root: OwnedFd, parts: &Parts) -> io::Result<Tree> {
    let mut tree = Tree::open(root, parts.numbers.clone(), parts.record_key.clone())?;
    tree.host.clone_from(&parts.host);
    for (path, memory) in &parts.files {
        tree.serve(path, Served::Memory(memory.try_clone()?))?;
    }
    if parts.devices {
        for (name, ..) in super::chroot::NODES {
            let path = Path::new("/dev").join(name);
            let served = if name == "tty" { Served::Terminal } else { Served::Device(path.clone()) };
            tree.serve(&path, served)?;
        }
        tree.serve(Path::new("/dev/pts/ptmx"), Served::Multiplexer)?;
        let directory = tree.look(Path::new("/dev/pts"), false)?;
        tree.terminals.show_in(directory)?;
    }
    Ok(tree)
}

/// What one answer is.
enum Answer {
    /// The kernel does the call itself.
    GoOn,
    /// Likewise, and the caller stays readable after it.
    ChangeIds(Traced),
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
    may_chroot: bool,
    /// Somebody changed its root, or tried: until then nobody has another one.
    changed_root: AtomicBool,
    real_devices: bool,
    protections: Protections,
    memories: Memories,
    /// Where users are kept, who processes are.
    identity: Option<Arc<Identity>>,
    /// Somebody else keeps who owns what.
    is_owner_kept: bool,
    /// Processes that changed their ids stay readable, and what they fork.
    revives: bool,
}

impl Part for Service {
    fn answer(&self, _: &OwnedFd, notification: &Notification, turn: &mut Turn<'_>) -> Option<Answer> {
        let translated = if notification.foreign { Some(filter::translated(notification)?) } else { None };
        let notification = translated.as_ref().unwrap_or(notification);
        if filter::passes_by_flag(notification.call, notification.arguments) {
            return None;
        }
        Some(self.answer(notification, turn))
    }
}
