//! Owners and users where only one id exists: the part of the supervisor that
//! keeps identity.
//!
//! ```text
//! a file's owner    in its record, on the inode itself      (metadata::Record)
//! a task's users    credentials by number, on the task      (table, credentials)
//! ```
//!
//! So neither a rename, a copy-up, fork nor exec has to be heard of. To the
//! kernel every task is root of its one id, and every file is its own; what a
//! task that dropped root may do is judged here ([`permission`], [`signals`]).
//! None of this is a border: what a RUN believes to be is its own business, and
//! all it can do to the files of its tree it could do before. What it must not
//! do, and cannot, is to move the supervisor out of that tree ([`call`]).
//!
//! What is left to the kernel gets its answers, as if from root: whom receivers
//! of `SCM_CREDENTIALS` are told of.

mod attributes;
mod call;
mod capabilities;
mod create;
mod credentials;
mod filter;
mod foreign;
mod gain;
mod ids;
mod judge;
mod loose;
mod messages;
mod owner;
mod peers;
mod permission;
mod processes;
mod signals;
mod sockets;
mod status;
mod table;
mod terminals;
mod way;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::libc;
use rustix::fs::{OFlags, ResolveFlags};

use super::numbers::Numbers;
use super::walk::{Inode, open_below};
use super::{Answer, Heard, Part, Turn};
use crate::metadata::{self, Key, Record};
use crate::sandbox::raw::Notification;
use crate::sandbox::spec::RunSpec;
use call::Call;
use credentials::Credentials;
use loose::Loose;
use sockets::Binding;
use table::Table;

pub(super) use filter::program;
pub(super) use status::with_record;
pub(in crate::sandbox) use table::{FIRST, slack, slack_path};

/// The permission bits say no.
const REFUSED: Answer = Answer::Error(libc::EACCES);

/// Keeps the identity of one RUN.
pub(in crate::sandbox) struct Identity {
    key: Key,
    table: Table,
    loose: Loose,
    binding: Binding,
    numbers: Numbers,
    /// `/` of the RUN, and the device number of its /proc.
    root: Option<Inode>,
    proc: Option<u64>,
    /// Whether the kernel has made that /proc, for this RUN.
    proc_is_mounted: bool,
}

impl Identity {
    /// For `spec`, whose root holds the capabilities `bounding`.
    ///
    /// # Errors
    /// When no key can be made for a spec that brings none.
    pub(in crate::sandbox) fn of(spec: &RunSpec, bounding: u64) -> io::Result<Self> {
        let key = match &spec.record_key {
            Some(key) => key.clone(),
            None => Key::generate()?,
        };
        let initial = Credentials::initial(spec.uid, spec.gid, &spec.groups, bounding);
        Ok(Self {
            key,
            table: Table::new(initial),
            loose: Loose::default(),
            binding: Binding::default(),
            numbers: Numbers::Own(Arc::default()),
            root: None,
            proc: None,
            proc_is_mounted: false,
        })
    }

    /// Learns what is where in the tree of the RUN.
    pub(super) fn settle(&mut self, root: &OwnedFd, heard: Heard) -> io::Result<()> {
        let stat = rustix::fs::fstat(root)?;
        self.root = Some((stat.st_dev, stat.st_ino));
        self.proc_is_mounted = heard == Heard::Devices;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A mount of its own, or none at all.
        let proc = open_below(root, Path::new("/proc"), flags, ResolveFlags::empty());
        let proc = proc.and_then(|proc| Ok(rustix::fs::fstat(proc)?.st_dev));
        self.proc = proc.ok().filter(|device| *device != stat.st_dev);
        Ok(())
    }

    fn caller(&self, call: &Call<'_>) -> Arc<Credentials> {
        self.table.of(call.thread())
    }

    /// What the inode itself cannot say.
    fn record(&self, inode: &OwnedFd) -> io::Result<Option<Record>> {
        match Record::of(inode.as_fd(), &self.key).map_err(metadata::Error::into_io)? {
            None if !self.loose.is_empty() => Ok(self.loose.of(&rustix::fs::fstat(inode)?)),
            record => Ok(record),
        }
    }

    fn put(&self, record: &Record, inode: &OwnedFd) -> io::Result<()> {
        record.put(inode.as_fd(), &self.key).map_err(metadata::Error::into_io)
    }

    fn try_answer(&self, call: &Call<'_>) -> io::Result<Answer> {
        self.own_sockets(call);
        match call.notification.call {
            libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_statx => self.status(call),
            foreign::STAT64 | foreign::LSTAT64 | foreign::FSTAT64 | foreign::FSTATAT64 => self.status(call),
            foreign::UTIMENSAT => self.judge(call),
            libc::SYS_fchown | libc::SYS_fchownat => self.change_owner(call),
            libc::SYS_fchmod | libc::SYS_fchmodat | filter::FCHMODAT2 => self.change_mode(call),
            libc::SYS_openat | libc::SYS_mkdirat | libc::SYS_mknodat | libc::SYS_symlinkat => {
                self.create(call)
            }
            libc::SYS_faccessat | libc::SYS_faccessat2 => self.access(call),
            libc::SYS_linkat => self.link(call),
            libc::SYS_unlinkat | libc::SYS_renameat | libc::SYS_renameat2 => self.rename_or_remove(call),
            libc::SYS_getsockopt => self.peer(call),
            libc::SYS_connect => self.connect(call),
            libc::SYS_sendmsg => self.send_message(call),
            libc::SYS_bind => self.bind(call),
            call_number if filter::is_signal(call_number) => self.signal(call),
            libc::SYS_capget => self.get_capabilities(call),
            libc::SYS_capset => self.set_capabilities(call),
            libc::SYS_prctl => self.control(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat | libc::SYS_lstat => self.status(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown | libc::SYS_lchown => self.change_owner(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod => self.change_mode(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => self.access(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => self.link(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir | libc::SYS_rename => self.rename_or_remove(call),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open | libc::SYS_creat | libc::SYS_mkdir | libc::SYS_mknod | libc::SYS_symlink => {
                self.create(call)
            }
            call_number if filter::is_judged(call_number) => self.judge(call),
            call_number if attributes::is_one(call_number) => self.attributes(call),
            _ => self.ids(call),
        }
    }
}

impl Part for Arc<Identity> {
    /// Whatever cannot be read or found is left to the kernel. Nothing here waits
    /// for anybody: no fifo is opened.
    fn answer(&self, listener: &OwnedFd, notification: &Notification, _: &mut Turn<'_>) -> Option<Answer> {
        let translated = if notification.foreign { Some(foreign::translated(notification)?) } else { None };
        let notification = translated.as_ref().unwrap_or(notification);
        let call = Call { listener: listener.as_fd(), notification };
        match self.try_answer(&call) {
            Ok(Answer::GoOn) | Err(_) => None,
            Ok(answer) => Some(answer),
        }
    }
}
