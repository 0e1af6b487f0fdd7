//! Extended attributes that a RUN sets or lists.
//!
//! Our records and marks are attributes (`user.coracle.…`), and a record is good
//! on whatever file it lies: so nobody but the builder may write one, not even a
//! copy. The name of an attribute lies in the caller's memory, where another
//! thread can change it after it was looked at; so no call that sets one goes on
//! in the kernel. The supervisor makes it, on an inode that it holds, with the
//! ids and capabilities of the caller. One of ours is not set, and the caller is
//! told that it was. So `cp -a` of a file that has a record copies the file and
//! says nothing. Values too short for a record go on in the kernel: nearly all that
//! `cp -a` sets are (ACLs, capabilities). Lists by path leave ours out; those of
//! descriptors, which `cp -a` asks for of every file, are the kernel's.

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
use super::{Answer, Service, Turn};
use crate::metadata::{SHORTEST, is_hidden, takes_any};
use crate::sandbox::instructions::*;
use crate::sandbox::mounts::{link, open_path};
use crate::sandbox::raw::Notification;

/// Longest value of an attribute, and longest list of them (xattr(7)).
pub(super) const LONGEST: usize = 64 << 10;

/// Most lists are shorter.
const SHORT: usize = 1 << 10;

const SET: [libc::c_long; 3] = [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr];
const LIST: [libc::c_long; 2] = [libc::SYS_listxattr, libc::SYS_llistxattr];

/// The argument with the length of a value.
const LENGTH: u32 = 3;

/// setxattrat(2) and listxattrat (Linux 6.13), with the same numbers everywhere:
/// their arguments lie in memory, and everybody has a way without them.
const AT: [libc::c_long; 2] = [463, 465];

/// What 32-bit programs set attributes with, on x86 as on ARM, in the order of [`SET`].
const FOREIGN_FIRST: libc::c_long = 226;

/// The steps for them, with the call's number loaded. With `paths` also of short
/// values: they may be for what only the supervisor finds.
pub(super) fn steps(paths: bool) -> Vec<sock_filter> {
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let set = SET.into_iter().flat_map(|call| long_enough(call, libc::SECCOMP_RET_USER_NOTIF));
    let by_path = if paths { &SET[..2] } else { &[] };
    let all = by_path.iter().chain(&LIST);
    all.flat_map(|call| [is(*call, 1), give(libc::SECCOMP_RET_USER_NOTIF)])
        .chain(set)
        .chain(AT.into_iter().flat_map(|call| [is(call, 1), give(absent)]))
        .collect()
}

/// The kernel reads the length from here, too. Lengths beyond 32 bits it refuses.
fn long_enough(call: libc::c_long, action: u32) -> [sock_filter; 5] {
    [is(call, 4), load(LENGTH), step(AT_LEAST, 0, 1, SHORTEST), give(action), give(libc::SECCOMP_RET_ALLOW)]
}

/// Where there is no supervisor, nobody can say which attribute it is: none is set.
pub(super) fn refusing_program() -> Vec<sock_filter> {
    let unsupported = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.cast_unsigned();
    let foreign: Vec<_> = (0..3).flat_map(|call| long_enough(FOREIGN_FIRST + call, unsupported)).collect();
    let beyond = u8::try_from(foreign.len() + 2).expect("some twenty");
    let mut program = vec![
        step(LOAD, 0, 0, NUMBER),
        is(AT[0], 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, beyond, 0, OWN),
        step(LOAD, 0, 0, NUMBER),
    ];
    program.extend(foreign);
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(step(LOAD, 0, 0, NUMBER));
    program.extend(SET.into_iter().flat_map(|call| long_enough(call, unsupported)));
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// The steps for programs of another architecture, with the number loaded.
pub(super) fn foreign_steps() -> Vec<sock_filter> {
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let set = (0..3).flat_map(|call| long_enough(FOREIGN_FIRST + call, libc::SECCOMP_RET_USER_NOTIF));
    set.chain([is(AT[0], 1), give(absent)]).collect()
}

/// A call of another architecture that is heard of, by the number it has here.
pub(super) fn own_number(foreign: libc::c_long) -> Option<libc::c_long> {
    let place = usize::try_from(foreign.checked_sub(FOREIGN_FIRST)?).ok()?;
    SET.get(place).copied()
}

/// The inode that a call names.
struct Named {
    inode: OwnedFd,
    /// The kernel would find it too.
    native: bool,
}

impl Service {
    /// Nothing for calls about something else.
    pub(super) fn set_or_list(&self, notification: &Notification, turn: &mut Turn<'_>) -> Option<Answer> {
        if SET.contains(&notification.call) {
            turn.end();
            return Some(self.set(notification).unwrap_or_else(|error| Answer::Error(number(&error))));
        }
        LIST.contains(&notification.call).then(|| {
            turn.end();
            self.list(notification).unwrap_or(Answer::GoOn)
        })
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
        let named = self.named(notification, Some(&caller))?;
        if !self.is_waiting(notification) {
            return Err(errno(libc::ESRCH));
        }
        let name = CString::new(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "an int to the kernel")]
        let flags = XattrFlags::from_bits_retain(flags as u32);
        caller.act(|| Ok(rustix::fs::setxattr(link(&named.inode), &name, &value, flags)?))?;
        Ok(Answer::Value(0))
    }

    /// Hardly a file has one of ours: then the kernel lists it.
    fn list(&self, notification: &Notification) -> io::Result<Answer> {
        let [_, buffer, room, ..] = notification.arguments;
        let found = self.named(notification, None)?;
        let is_link = !takes_any(found.inode.as_fd())?;
        if found.native && !names(&list_of(&found.inode)?).any(|name| is_hidden(name, is_link)) {
            return Ok(Answer::GoOn);
        }
        let caller = Caller::of(notification.thread)?;
        let listed = self
            .named(notification, Some(&caller))
            .and_then(|named| caller.act(|| list_of(&named.inode)))
            .and_then(|list| {
                let shown = names(&list).filter(|name| !is_hidden(name, is_link) && is_ordinary(name));
                let shown: Vec<u8> = shown.flat_map(|name| name.iter().chain(b"\0")).copied().collect();
                self.give_bytes(notification, buffer, room, &shown)
            });
        Ok(listed.unwrap_or_else(|error| Answer::Error(number(&error))))
    }

    /// Found as the caller would find it, if one is given, and held.
    fn named(&self, notification: &Notification, caller: Option<&Caller>) -> io::Result<Named> {
        let thread = notification.thread;
        if notification.call == libc::SYS_fsetxattr {
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
            return as_caller(caller, look).map(native);
        }
        match self.tree.resolve(&asked.path, follow, thread)? {
            Target::Native => as_caller(caller, || self.tree.look(&asked.path, follow)).map(native),
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

fn as_caller<T>(caller: Option<&Caller>, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match caller {
        Some(caller) => caller.act(action),
        None => action(),
    }
}

/// Names with a zero byte behind each.
fn list_of(inode: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut list = vec![0; SHORT];
    let length = match rustix::fs::listxattr(link(inode), &mut list[..]) {
        Err(Errno::RANGE) => {
            list.resize(LONGEST, 0);
            rustix::fs::listxattr(link(inode), &mut list[..])?
        }
        other => other?,
    };
    list.truncate(length);
    Ok(list)
}

fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
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
