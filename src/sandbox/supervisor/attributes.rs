//! Extended attributes that a RUN sets or lists.
//!
//! Our records and marks are attributes (`user.coracle.…`), and a record is good
//! on whatever file it lies: so nobody but the builder may write one, not even a
//! copy. The name of an attribute lies in the caller's memory, where another
//! thread can change it after it was looked at; so no call that sets one goes on
//! in the kernel. The supervisor makes it, on an inode that it holds, with the
//! ids and capabilities of the caller. One of ours is not set, and the caller is
//! told that it was; lists leave them out. So `cp -a` of a file that has a record
//! copies the file and says nothing.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use caps::{CapSet, Capability, CapsHashSet};
use nix::libc;
use rustix::fs::{OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use seccompiler::sock_filter;

use super::calls::Place;
use super::open::errno;
use super::task::{self, Identity};
use super::walk::{Target, open_below};
use super::{Answer, Service};
use crate::metadata::{is_hidden, takes_any};
use crate::sandbox::instructions::*;
use crate::sandbox::mounts::{link, open_path};
use crate::sandbox::raw::Notification;

/// Longest value of an attribute, and longest list of them (xattr(7)).
pub(super) const LONGEST: usize = 64 << 10;

const HEARD: [libc::c_long; 6] = [
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
];

/// setxattrat(2) and listxattrat (Linux 6.13), with the same numbers everywhere:
/// their arguments lie in memory, and everybody has a way without them.
const AT: [libc::c_long; 2] = [463, 465];

/// What 32-bit programs set attributes with, on x86 as on ARM, in the order of [`HEARD`].
const FOREIGN_FIRST: libc::c_long = 226;

/// The steps for them, with the call's number loaded.
pub(super) fn steps() -> Vec<sock_filter> {
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let heard = HEARD.into_iter().flat_map(|call| [is(call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
    heard.chain(AT.into_iter().flat_map(|call| [is(call, 1), give(absent)])).collect()
}

/// Where there is no supervisor, nobody can say which attribute it is: none is set.
pub(super) fn refusing_program() -> Vec<sock_filter> {
    let unsupported = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.cast_unsigned();
    let foreign: Vec<_> = (0..3).flat_map(|call| [is(FOREIGN_FIRST + call, 1), give(unsupported)]).collect();
    let mut program = vec![
        step(LOAD, 0, 0, NUMBER),
        is(AT[0], 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 8, 0, OWN),
        step(LOAD, 0, 0, NUMBER),
    ];
    program.extend(foreign);
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(step(LOAD, 0, 0, NUMBER));
    program.extend(HEARD[..3].iter().flat_map(|call| [is(*call, 1), give(unsupported)]));
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// The steps for programs of another architecture, with the number loaded.
pub(super) fn foreign_steps() -> Vec<sock_filter> {
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let set = (0..3).flat_map(|call| [is(FOREIGN_FIRST + call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
    set.chain([is(AT[0], 1), give(absent)]).collect()
}

/// A call of another architecture that is heard of, by the number it has here.
pub(super) fn own_number(foreign: libc::c_long) -> Option<libc::c_long> {
    let place = usize::try_from(foreign.checked_sub(FOREIGN_FIRST)?).ok()?;
    HEARD[..3].get(place).copied()
}

/// The inode that a call names.
struct Named {
    inode: OwnedFd,
    /// The kernel would find it too.
    native: bool,
}

impl Service {
    /// Nothing for calls about something else.
    pub(super) fn set_or_list(&self, notification: &Notification) -> Option<Answer> {
        match HEARD.iter().position(|call| *call == notification.call)? {
            0..=2 => Some(self.set(notification).unwrap_or_else(|error| Answer::Error(number(&error)))),
            _ => Some(self.list(notification).unwrap_or(Answer::GoOn)),
        }
    }

    /// Never goes on in the kernel, which would read the name once more.
    fn set(&self, notification: &Notification) -> io::Result<Answer> {
        let [_, name, address, size, flags, _] = notification.arguments;
        let name = self.memories.read_text(notification.thread, name).map_err(unreadable)?;
        if is_hidden(&name, false) {
            return Ok(Answer::Value(0));
        }
        if !is_ordinary(&name) {
            return Err(errno(refusal(&name)));
        }
        let size = usize::try_from(size).map_err(|_| errno(libc::E2BIG))?;
        if size > LONGEST {
            return Err(errno(libc::E2BIG));
        }
        let mut value = vec![0; size];
        self.memories
            .read_exact(notification.thread, address, &mut value)
            .map_err(|_| errno(libc::EFAULT))?;
        let caller = Caller::of(notification.thread)?;
        let named = self.named(notification, &caller)?;
        if !self.is_waiting(notification) {
            return Err(errno(libc::ESRCH));
        }
        let name = CString::new(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "an int to the kernel")]
        let flags = XattrFlags::from_bits_retain(flags as u32);
        caller.act(|| Ok(rustix::fs::setxattr(link(&named.inode), &name, &value, flags)?))?;
        Ok(Answer::Value(0))
    }

    fn list(&self, notification: &Notification) -> io::Result<Answer> {
        let [_, buffer, room, ..] = notification.arguments;
        let caller = Caller::of(notification.thread)?;
        let named = self.named(notification, &caller)?;
        let is_link = !takes_any(named.inode.as_fd())?;
        let mut list = vec![0; LONGEST];
        let length = match caller.act(|| Ok(rustix::fs::listxattr(link(&named.inode), &mut list[..])?)) {
            Err(error) if named.native => return Err(error),
            Err(error) => return Ok(Answer::Error(number(&error))),
            Ok(length) => length,
        };
        let names = || list[..length].split_inclusive(|byte| *byte == 0);
        let shown = |name: &&[u8]| {
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            !is_hidden(name, is_link) && (named.native || is_ordinary(name))
        };
        if named.native && names().all(|name| shown(&name)) {
            return Ok(Answer::GoOn);
        }
        let names: Vec<u8> = names().filter(shown).flatten().copied().collect();
        let given = self.give_bytes(notification, buffer, room, &names);
        Ok(given.unwrap_or_else(|error| Answer::Error(number(&error))))
    }

    /// Found as the caller would find it, and held.
    fn named(&self, notification: &Notification, caller: &Caller) -> io::Result<Named> {
        let thread = notification.thread;
        let descriptor = matches!(notification.call, libc::SYS_fsetxattr | libc::SYS_flistxattr);
        if descriptor {
            #[expect(clippy::cast_possible_truncation, reason = "an int to the kernel")]
            let path = format!("/proc/{thread}/fd/{}", notification.arguments[0] as i32);
            let inode = task::look_at(thread, || open_path(path.as_ref())).map_err(|error| {
                let none = error.raw_os_error() == Some(libc::ENOENT);
                if none { errno(libc::EBADF) } else { error }
            })?;
            return Ok(Named { inode, native: true });
        }
        let follow = matches!(notification.call, libc::SYS_setxattr | libc::SYS_listxattr);
        let place = Place { directory: libc::AT_FDCWD, path: notification.arguments[0] };
        let (root, asked) = self.asked_anywhere(thread, &place)?;
        let native = |inode| Named { inode, native: true };
        if let Some(root) = root {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let flags = if follow { flags } else { flags | OFlags::NOFOLLOW };
            let look = || open_below(&root, &asked.path, flags, ResolveFlags::empty());
            return caller.act(look).map(native);
        }
        match self.tree.resolve(&asked.path, follow, thread)? {
            Target::Native => caller.act(|| self.tree.look(&asked.path, follow)).map(native),
            Target::Tree(inode) => Ok(Named { inode, native: false }),
            Target::Served(_, inode) | Target::Device(_, inode) => Ok(native(inode)),
            Target::Missing(number) => Err(errno(number)),
            Target::New(..) => Err(errno(libc::ENOENT)),
            // Nothing of /proc itself has any.
            Target::Proc(_) => Err(errno(libc::EOPNOTSUPP)),
        }
    }
}

/// Who asks, and with which capabilities.
struct Caller {
    identity: Identity,
    capabilities: CapsHashSet,
}

impl Caller {
    fn of(thread: i32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
        let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
        let bits = bits.and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or(0);
        let has = |capability: &Capability| bits & capability.bitmask() != 0;
        Ok(Self {
            identity: Identity::parse(&status),
            capabilities: caps::all().into_iter().filter(has).collect(),
        })
    }

    /// Does `action` with the caller's ids and, of what this process has, with
    /// the caller's capabilities.
    fn act<T>(&self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.identity.act(|| {
            let before = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
            let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
            let wanted = permitted.intersection(&self.capabilities).copied().collect();
            caps::set(None, CapSet::Effective, &wanted).map_err(io::Error::other)?;
            let result = action();
            caps::set(None, CapSet::Effective, &before).map_err(io::Error::other)?;
            result
        })
    }
}

/// The supervisor may have rights to others that a RUN has not.
pub(super) fn is_ordinary(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}

/// What the kernel says to somebody without CAP_SYS_ADMIN.
fn refusal(name: &[u8]) -> i32 {
    match name {
        b"" => libc::ERANGE,
        _ if name.starts_with(b"trusted.") || name.starts_with(b"security.") => libc::EPERM,
        _ => libc::EOPNOTSUPP,
    }
}

/// Not the caller's fault: one that may not be read (see `task`) can set none.
fn unreadable(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EFAULT) => error,
        Some(libc::ENAMETOOLONG) => errno(libc::ERANGE),
        _ => errno(libc::EOPNOTSUPP),
    }
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        _ => Errno::IO.raw_os_error(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_attributes_of_the_system_alone() {
        for name in ["user.x", "security.capability", "system.posix_acl_access"] {
            assert!(is_ordinary(name.as_bytes()), "{name}");
        }
        for name in ["trusted.overlay.opaque", "security.selinux", "security.capability.x", "system.nfs4_acl"]
        {
            assert!(!is_ordinary(name.as_bytes()), "{name}");
        }
        assert_eq!(refusal(b"trusted.x"), libc::EPERM);
        assert_eq!(refusal(b"nonsense"), libc::EOPNOTSUPP);
    }

    #[test]
    fn knows_the_calls_of_32_bit_programs() {
        assert_eq!(own_number(226), Some(libc::SYS_setxattr));
        assert_eq!(own_number(228), Some(libc::SYS_fsetxattr));
        assert_eq!((own_number(5), own_number(229)), (None, None));
    }

    /// Without it nothing could be done for a caller with fewer rights.
    #[test]
    fn acts_with_the_capabilities_of_the_caller_and_gets_its_own_back() {
        let before = caps::read(None, CapSet::Effective).unwrap();
        let own = std::process::id().cast_signed();
        let caller = Caller { capabilities: CapsHashSet::new(), ..Caller::of(own).unwrap() };
        let during = caller.act(|| caps::read(None, CapSet::Effective).map_err(io::Error::other)).unwrap();
        assert!(during.is_empty());
        assert_eq!(caps::read(None, CapSet::Effective).unwrap(), before);
    }
}
