//! Terminals of a RUN: pseudoterminals of the container's devpts, made and
//! opened by the supervisor, with a placeholder each in /dev/pts of the tree.
//!
//! Only those that were made for this RUN exist. Each is known by a descriptor
//! of the other end's inode, which is never another terminal's, though the
//! number may be.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::open::{errno, open_link};
use super::task::Identity;
use super::walk::Inode;
use crate::sandbox::raw;

/// The container's.
pub(super) const MULTIPLEXER: &str = "/dev/ptmx";
/// Major number of pseudoterminals (Linux devices.txt, `pts`).
const MAJOR: u32 = 136;

#[derive(Default)]
pub(super) struct Terminals {
    /// /dev/pts of the tree.
    shown_in: Option<(OwnedFd, Inode)>,
    known: Mutex<BTreeMap<u32, Terminal>>,
}

struct Terminal {
    /// A place only: it keeps no terminal alive.
    end: OwnedFd,
    /// Its placeholder, held so that its number stays its own.
    placeholder: OwnedFd,
    inode: Inode,
}

impl Terminals {
    /// Placeholders come to lie in this directory.
    pub(super) fn show_in(&mut self, directory: OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(&directory)?;
        self.shown_in = Some((directory, (stat.st_dev, stat.st_ino)));
        Ok(())
    }

    /// Takes the placeholders of closed terminals away, if `inode` is the
    /// directory that they are in: somebody is about to look.
    pub(super) fn tidy(&self, inode: Inode) {
        if let Some((directory, own)) = &self.shown_in
            && *own == inode
        {
            // What cannot be taken away is in nobody's way.
            let _ = forget_closed(&mut self.known(), directory);
        }
    }

    /// Whether a placeholder of ours is at `inode`.
    pub(super) fn has(&self, inode: Inode) -> bool {
        self.known().values().any(|terminal| terminal.inode == inode)
    }

    /// Opens a new terminal for `caller`.
    pub(super) fn make(&self, caller: &Identity, flags: OFlags) -> io::Result<OwnedFd> {
        let (directory, _) = self.shown_in.as_ref().ok_or_else(|| errno(libc::ENOENT))?;
        // It belongs to whoever opens it.
        let made =
            caller.act(|| Ok(rustix::fs::open(MULTIPLEXER, flags | OFlags::NOCTTY, Mode::empty())?))?;
        let number = raw::terminal_number(made.as_fd())?;
        let place = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let end = rustix::fs::open(format!("/dev/pts/{number}"), place, Mode::empty())?;
        let stat = rustix::fs::fstat(&end)?;
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        if device != (MAJOR, number) {
            return Err(errno(libc::ENODEV));
        }
        let mut known = self.known();
        forget_closed(&mut known, directory)?;
        remove(directory, number)?;
        let name = number.to_string();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o620))?);
        rustix::fs::chmodat(directory, &name, Mode::from_raw_mode(0o620), AtFlags::empty())?;
        let placeholder = rustix::fs::openat(directory, &name, place, Mode::empty())?;
        let shown = rustix::fs::fstat(&placeholder)?;
        known.insert(number, Terminal { end, placeholder, inode: (shown.st_dev, shown.st_ino) });
        Ok(made)
    }

    /// Opens the terminal whose placeholder is at `inode`.
    pub(super) fn open(&self, inode: Inode, caller: &Identity, flags: OFlags) -> io::Result<OwnedFd> {
        let end = self.end(|_, terminal| terminal.inode == inode)?;
        caller.act(|| open_link(&end, flags | OFlags::NOCTTY))
    }

    /// Opens the terminal that controls a caller, by its device number.
    pub(super) fn open_own(&self, device: u64, caller: &Identity, flags: OFlags) -> io::Result<OwnedFd> {
        let number = rustix::fs::minor(device);
        let is_it = |known: u32| rustix::fs::major(device) == MAJOR && known == number;
        let end = self.end(|known, _| is_it(known)).map_err(|_| errno(libc::ENXIO))?;
        caller.act(|| open_link(&end, flags | OFlags::NOCTTY))
    }

    /// The place of a terminal that is still in use.
    pub(super) fn end_at(&self, inode: Inode) -> io::Result<OwnedFd> {
        self.end(|_, terminal| terminal.inode == inode)
    }

    fn end(&self, is_it: impl Fn(u32, &Terminal) -> bool) -> io::Result<OwnedFd> {
        let known = self.known();
        let found = known.iter().find(|(number, terminal)| is_it(**number, terminal));
        let (_, terminal) = found.ok_or_else(|| errno(libc::ENOENT))?;
        if is_closed(&terminal.end)? {
            return Err(errno(libc::ENOENT));
        }
        terminal.end.try_clone()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u32, Terminal>> {
        // A panic elsewhere leaves the table whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// devpts unlinks a terminal whose other end was closed.
fn is_closed(end: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstat(end)?.st_nlink == 0)
}

fn forget_closed(known: &mut BTreeMap<u32, Terminal>, directory: &OwnedFd) -> io::Result<()> {
    let closed: Vec<u32> = known
        .iter()
        .filter(|(_, terminal)| is_closed(&terminal.end).unwrap_or(true))
        .map(|(number, _)| *number)
        .collect();
    for number in closed {
        if let Some(terminal) = known.remove(&number) {
            remove(directory, number)?;
            drop(terminal.placeholder);
        }
    }
    Ok(())
}

fn remove(directory: &OwnedFd, number: u32) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, number.to_string(), AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
