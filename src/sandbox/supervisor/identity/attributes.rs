//! Extended attributes: records are out of sight, and nobody can write one.
//!
//! A name is read here and once more by the kernel; who changes it in between
//! can copy a record from one of its files to another, which says no more than
//! a chown or mknod would.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;

use super::Identity;
use super::call::{Call, link};
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

pub(super) struct Request {
    inode: OwnedFd,
    deed: Deed,
}

/// Nothing for calls about something else.
pub(super) fn request(call: &Call<'_>) -> Option<io::Result<Request>> {
    const FOLLOWED: By = By::Path { follow: true };
    const ITSELF: By = By::Path { follow: false };
    let (deed, by) = match call.notification.call {
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
    };
    let inode = match by {
        By::Path { follow } => call.place_here(0).and_then(|place| call.find(&place, follow)),
        By::Descriptor => call.descriptor_in(0),
    };
    Some(inode.map(|inode| Request { inode, deed }))
}

impl Identity {
    pub(super) fn attributes(&self, call: &Call<'_>, request: Request) -> io::Result<Answer> {
        let is_link = !takes_any(request.inode.as_fd())?;
        if request.deed == Deed::List {
            return list(call, &request.inode, is_link);
        }
        let name = call.text(call.long(1))?;
        Ok(match request.deed {
            _ if !is_hidden(&name, is_link) => Answer::GoOn,
            // As `cp -a` wants it: nothing is said, and nothing is copied.
            Deed::Set => Answer::Value(0),
            _ => Answer::Error(libc::ENODATA),
        })
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
