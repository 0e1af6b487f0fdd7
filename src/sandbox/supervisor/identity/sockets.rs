//! Unix sockets in the tree (unix(7)): whom they belong to, and who may connect.
//!
//! A socket that was bound gets its record at the next call that is heard of: its
//! name does not exist before the kernel has made it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};

use super::call::{Call, Place, kind};
use super::permission::WRITE;
use super::{Identity, REFUSED};
use crate::metadata::Record;
use crate::sandbox::supervisor::Answer;

/// `sun_path` begins behind the family.
const FAMILY: usize = 2;
/// `struct sockaddr_un`.
const LONGEST: usize = 110;
/// Threads that bind at the same moment.
const MOST: usize = 64;

/// Sockets that are being bound.
#[derive(Default)]
pub(super) struct Binding(Mutex<Vec<Bound>>);

struct Bound {
    thread: i32,
    parent: OwnedFd,
    name: OsString,
    owner: (u32, u32),
}

impl Identity {
    pub(super) fn connect(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        if caller.overrides() {
            return Ok(Answer::GoOn);
        }
        let Some(place) = address(call)? else { return Ok(Answer::GoOn) };
        let Some(inode) = self.inode(call, &caller, &place, true)? else { return Ok(REFUSED) };
        Ok(if self.allows(&caller, &inode, WRITE)? { Answer::GoOn } else { REFUSED })
    }

    pub(super) fn bind(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        let is_root = (caller.user.files, caller.group.files) == (0, 0);
        if self.table.is_simple() && is_root {
            return Ok(Answer::GoOn);
        }
        let Some(place) = address(call)? else { return Ok(Answer::GoOn) };
        let Some((parent, name)) = self.walk_to_parent(call, &caller, &place)? else { return Ok(REFUSED) };
        if rustix::fs::statat(&parent, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(Answer::GoOn);
        }
        if !self.may_add(&caller, &parent)? {
            return Ok(REFUSED);
        }
        let owner = self.new_owner(&caller, &parent)?;
        if owner != (0, 0) {
            self.binding.add(Bound { thread: call.thread(), parent, name, owner });
        }
        Ok(Answer::GoOn)
    }

    /// Gives the sockets that there are by now their owners. A thread that calls
    /// again has bound its own, or could not.
    pub(super) fn own_sockets(&self, call: &Call<'_>) {
        let mut all = self.binding.all();
        all.retain(|bound| {
            let is_owned = self.own_socket(bound).unwrap_or(false);
            !is_owned && bound.thread != call.thread()
        });
    }

    fn own_socket(&self, bound: &Bound) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inode = rustix::fs::openat(&bound.parent, &bound.name, flags, Mode::empty())?;
        if kind(&rustix::fs::fstat(&inode)?) == FileType::Socket && self.record(&inode)?.is_none() {
            self.keep(&Record { owner: Some(bound.owner), ..Record::default() }, &inode)?;
        }
        Ok(true)
    }
}

impl Binding {
    fn add(&self, bound: Bound) {
        let mut all = self.all();
        if all.len() < MOST {
            all.push(bound);
        }
    }

    /// A panic elsewhere leaves the list whole.
    fn all(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path in the address of a call; nothing for other kinds.
fn address(call: &Call<'_>) -> io::Result<Option<Place>> {
    let length = (call.int(2) as usize).min(LONGEST);
    let mut bytes = vec![0; length];
    call.read(call.long(1), &mut bytes)?;
    Ok(path(&bytes).map(|path| Place { directory: libc::AT_FDCWD, path: path.into() }))
}

fn path(address: &[u8]) -> Option<&OsStr> {
    let (family, path) = address.split_at_checked(FAMILY)?;
    let is_unix = family == (libc::AF_UNIX as u16).to_ne_bytes();
    // One that begins with a zero byte is abstract, an empty one has no name yet.
    let path = path.split(|byte| *byte == 0).next().filter(|path| is_unix && !path.is_empty());
    path.map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let unix = (libc::AF_UNIX as u16).to_ne_bytes();
        let inet = (libc::AF_INET as u16).to_ne_bytes();
        for (family, rest, expected) in [
            (unix, &b"/run/x\0junk"[..], Some("/run/x")),
            (unix, b"x", Some("x")),
            (unix, b"\0abstract", None),
            (unix, b"", None),
            (inet, b"\x1f\x90\x7f\0\0\x01", None),
        ] {
            assert_eq!(path(&[&family[..], rest].concat()), expected.map(OsStr::new));
        }
        assert_eq!(path(b"\x01"), None);
    }
}
