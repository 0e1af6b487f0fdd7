//! Extended attributes: records are out of sight, and nobody can write one.
//!
//! A name is read here and once more by the kernel; who changes it in between
//! can copy a record from one of its files to another, which says no more than
//! a chown or mknod would.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;

use super::call::{Call, link};
use super::credentials::{Credentials, SETFCAP};
use super::permission::{READ, WRITE};
use super::{Identity, REFUSED};
use crate::metadata::{is_hidden, takes_any};
use crate::sandbox::supervisor::Answer;

/// What is done with attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Get,
    Set,
    List,
    Remove,
}

/// How the file is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Path { follow: bool },
    Descriptor,
}

/// Whether a call is about attributes.
pub(super) fn is_one(call: libc::c_long) -> bool {
    kind(call).is_some()
}

fn kind(call: libc::c_long) -> Option<(Deed, By)> {
    const FOLLOWED: By = By::Path { follow: true };
    const ITSELF: By = By::Path { follow: false };
    Some(match call {
        libc::SYS_getxattr => (Deed::Get, FOLLOWED),
        libc::SYS_lgetxattr => (Deed::Get, ITSELF),
        libc::SYS_fgetxattr => (Deed::Get, By::Descriptor),
        libc::SYS_setxattr => (Deed::Set, FOLLOWED),
        libc::SYS_lsetxattr => (Deed::Set, ITSELF),
        libc::SYS_fsetxattr => (Deed::Set, By::Descriptor),
        libc::SYS_listxattr => (Deed::List, FOLLOWED),
        libc::SYS_llistxattr => (Deed::List, ITSELF),
        libc::SYS_flistxattr => (Deed::List, By::Descriptor),
        libc::SYS_removexattr => (Deed::Remove, FOLLOWED),
        libc::SYS_lremovexattr => (Deed::Remove, ITSELF),
        libc::SYS_fremovexattr => (Deed::Remove, By::Descriptor),
        _ => return None,
    })
}

impl Identity {
    pub(super) fn attributes(&self, call: &Call<'_>) -> io::Result<Answer> {
        let Some((deed, by)) = kind(call.notification.call) else { return Ok(Answer::GoOn) };
        let caller = self.caller(call);
        let inode = match by {
            By::Path { follow } => self.inode(call, &caller, &call.place_here(0)?, follow)?,
            By::Descriptor => Some(call.descriptor_in(0)?),
        };
        let Some(inode) = inode else { return Ok(REFUSED) };
        let is_link = !takes_any(inode.as_fd())?;
        if deed == Deed::List {
            return list(call, &inode, is_link);
        }
        let name = call.text(call.long(1))?;
        Ok(match deed {
            // As `cp -a` wants it: nothing is said, and nothing is copied.
            Deed::Set if is_hidden(&name, is_link) => Answer::Value(0),
            _ if is_hidden(&name, is_link) => Answer::Error(libc::ENODATA),
            _ if caller.overrides() => Answer::GoOn,
            _ => self.judge_attribute(&caller, &inode, deed, &name)?,
        })
    }

    /// xattr(7), "Extended attribute namespaces".
    fn judge_attribute(
        &self,
        caller: &Credentials,
        inode: &OwnedFd,
        deed: Deed,
        name: &[u8],
    ) -> io::Result<Answer> {
        let refuses =
            |wanted| Ok::<_, io::Error>(takes_any(inode.as_fd())? && !self.allows(caller, inode, wanted)?);
        let refused = match deed {
            Deed::Get if name.starts_with(b"user.") => refuses(READ)?.then_some(libc::EACCES),
            Deed::Get | Deed::List => None,
            _ if name.starts_with(b"user.") => refuses(WRITE)?.then_some(libc::EACCES),
            _ if name == b"security.capability" => (!caller.can(SETFCAP)).then_some(libc::EPERM),
            _ => (!self.owns(caller, inode)?).then_some(libc::EPERM),
        };
        Ok(refused.map_or(Answer::GoOn, Answer::Error))
    }
}

fn list(call: &Call<'_>, inode: &OwnedFd, is_link: bool) -> io::Result<Answer> {
    // XATTR_LIST_MAX: there is never more.
    let mut buffer = vec![0; 65_536];
    let length = match rustix::fs::listxattr(link(inode), &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Answer::GoOn),
        Err(errno) => return Err(errno.into()),
    };
    let names = || buffer[..length].split_inclusive(|byte| *byte == 0);
    let hidden = |name: &&[u8]| is_hidden(name.strip_suffix(b"\0").unwrap_or(name), is_link);
    if !names().any(|name| hidden(&name)) {
        return Ok(Answer::GoOn);
    }
    let shown = names().filter(|name| !hidden(name)).collect::<Vec<_>>().concat();
    let value = i64::try_from(shown.len()).unwrap_or(0);
    Ok(match call.long(2) {
        0 => Answer::Value(value),
        room if room < shown.len() as u64 => Answer::Error(libc::ERANGE),
        _ => match call.write(call.long(1), &shown) {
            Ok(()) => Answer::Value(value),
            Err(_) => Answer::Error(libc::EFAULT),
        },
    })
}
