//! System V objects and message queues of a RUN that has no namespace of its own
//! for them: they are made here, under keys and names that nobody else uses, so
//! that a RUN finds its own only, and all of them go when it ends.
//!
//! Numbers of objects are the kernel's and mean the same to everybody; a call
//! that names one which this RUN did not make is told that there is none.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use seccompiler::sock_filter;

use super::open::errno;
use super::task::{Identity, Memories};
use super::{Answer, Part, Turn};
use crate::sandbox::instructions::*;
use crate::sandbox::objects::{self, Kind, QueueAttributes};
use crate::sandbox::raw::{self, Notification};

/// Calls that make an object or find it by its key.
const GET: [(libc::c_long, Kind); 3] =
    [(libc::SYS_shmget, Kind::Memory), (libc::SYS_semget, Kind::Semaphores), (libc::SYS_msgget, Kind::Queue)];

/// Calls whose first argument is the number of an object.
const USE: [(libc::c_long, Kind); 8] = [
    (libc::SYS_shmat, Kind::Memory),
    (libc::SYS_shmctl, Kind::Memory),
    (libc::SYS_semctl, Kind::Semaphores),
    (libc::SYS_semop, Kind::Semaphores),
    (libc::SYS_semtimedop, Kind::Semaphores),
    (libc::SYS_msgsnd, Kind::Queue),
    (libc::SYS_msgrcv, Kind::Queue),
    (libc::SYS_msgctl, Kind::Queue),
];

/// Commands of …ctl calls that are about no object: limits and sums.
const ABOUT_ALL: [(libc::c_long, usize, &[u64]); 3] =
    [(libc::SYS_shmctl, 1, &[3, 14]), (libc::SYS_semctl, 2, &[3, 19]), (libc::SYS_msgctl, 1, &[3, 12])];

const NAMES: [libc::c_long; 2] = [libc::SYS_mq_open, libc::SYS_mq_unlink];

/// The same calls of 32-bit programs, whom nobody answers: to them there are none
/// (arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl; ipc(2),
/// then by name, then with 64-bit times).
#[cfg(target_arch = "x86_64")]
const FOREIGN: &[u32] = &[117, 393, 394, 395, 396, 397, 399, 400, 401, 402, 420, 277, 278];
#[cfg(target_arch = "aarch64")]
const FOREIGN: &[u32] = &[117, 298, 299, 300, 301, 302, 303, 304, 305, 307, 308, 312, 420, 274, 275];

/// Longest name of a queue (mq_overview(7)).
const LONGEST: usize = 255;
/// As many as a RUN may have made, whether they are still there or not.
const MOST: usize = 100_000;

/// What one RUN has.
#[derive(Default)]
pub(in crate::sandbox) struct Objects {
    known: Mutex<Known>,
    memories: Memories,
}

#[derive(Default)]
struct Known {
    /// The kernel's key for one of the RUN's.
    keys: BTreeMap<(Kind, i32), i32>,
    /// Who made it.
    numbers: BTreeMap<(Kind, i32), Identity>,
    /// The kernel's name for one of the RUN's.
    queues: BTreeMap<Vec<u8>, CString>,
    /// The RUN is over.
    closed: bool,
}

/// The steps of a filter that hears of all these.
pub(super) fn steps() -> Vec<sock_filter> {
    let calls = GET.iter().chain(&USE).map(|(call, _)| *call).chain(NAMES);
    calls.flat_map(|call| [is(call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]).collect()
}

/// Those for another architecture; what they do not know goes on behind them.
pub(super) fn foreign_steps() -> Vec<sock_filter> {
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    FOREIGN.iter().flat_map(|call| [step(EQUAL, 0, 1, *call), give(absent)]).collect()
}

impl Part for Objects {
    fn answer(&self, listener: &OwnedFd, notification: &Notification, _: &mut Turn<'_>) -> Option<Answer> {
        let kind = |calls: &[(libc::c_long, Kind)]| {
            calls.iter().find(|(call, _)| *call == notification.call).map(|(_, kind)| *kind)
        };
        if let Some(kind) = kind(&GET) {
            return Some(Answer::of(self.get(kind, notification), |id| Answer::Value(id.into())));
        }
        if let Some(kind) = kind(&USE) {
            return Some(self.check(kind, notification));
        }
        match notification.call {
            libc::SYS_mq_open => Some(Answer::of(self.open(listener, notification), |fd| {
                Answer::Descriptor { fd, close_on_exec: true }
            })),
            libc::SYS_mq_unlink => {
                Some(Answer::of(self.unlink(listener, notification), |()| Answer::Value(0)))
            }
            _ => None,
        }
    }
}

impl Objects {
    /// The kernel decides as it always does, about a key that is the RUN's alone.
    fn get(&self, kind: Kind, notification: &Notification) -> io::Result<i32> {
        let [key, second, third, ..] = notification.arguments;
        let (size, flags) = if kind == Kind::Queue { (0, second) } else { (second, third) };
        let (key, flags) = (int(key), int(flags));
        let caller = Identity::of(notification.thread)?;
        let mut known = self.open_book()?;
        let id = match (key, known.keys.get(&(kind, key)).copied()) {
            (libc::IPC_PRIVATE, _) => caller.act(|| objects::get(kind, key, size, flags))?,
            (_, Some(ours)) => caller.act(|| objects::get(kind, ours, size, flags))?,
            (_, None) if flags & libc::IPC_CREAT == 0 => return Err(errno(libc::ENOENT)),
            (_, None) => {
                let (ours, id) = caller.act(|| make(kind, size, flags))?;
                known.keys.insert((kind, key), ours);
                id
            }
        };
        known.numbers.entry((kind, id)).or_insert(caller);
        Ok(id)
    }

    fn check(&self, kind: Kind, notification: &Notification) -> Answer {
        let arguments = notification.arguments;
        let about_all = ABOUT_ALL.iter().any(|(call, place, commands)| {
            *call == notification.call && commands.contains(&(arguments[*place] & 0xffff_ffff))
        });
        // "By index" is about everybody's objects, and found under no number of ours.
        let by_index = by_index(notification);
        let own = !by_index && self.known().numbers.contains_key(&(kind, int(arguments[0])));
        if about_all || own { Answer::GoOn } else { Answer::Error(libc::EINVAL) }
    }

    fn open(&self, listener: &OwnedFd, notification: &Notification) -> io::Result<OwnedFd> {
        let [name, flags, mode, attributes, ..] = notification.arguments;
        let name = self.name(notification, name)?;
        let attributes = match attributes {
            0 => None,
            address => Some(self.attributes(notification, address)?),
        };
        let caller = Identity::of(notification.thread)?;
        if !raw::is_waiting(listener.as_fd(), notification.id) {
            return Err(errno(libc::EINTR));
        }
        let (flags, mode) = (int(flags), int(mode).cast_unsigned() & 0o7777 & !caller.umask);
        let mut known = self.open_book()?;
        let ours = match known.queues.get(&name) {
            Some(ours) => ours.clone(),
            None if flags & libc::O_CREAT == 0 => return Err(errno(libc::ENOENT)),
            None => CString::new(format!("coracle-{:x}", random()))?,
        };
        let flags = flags | libc::O_CLOEXEC;
        let queue = caller.act(|| objects::open_queue(&ours, flags, mode, attributes.as_ref()))?;
        known.queues.insert(name, ours);
        Ok(queue)
    }

    fn unlink(&self, listener: &OwnedFd, notification: &Notification) -> io::Result<()> {
        let name = self.name(notification, notification.arguments[0])?;
        let caller = Identity::of(notification.thread)?;
        if !raw::is_waiting(listener.as_fd(), notification.id) {
            return Err(errno(libc::EINTR));
        }
        let mut known = self.open_book()?;
        let ours = known.queues.get(&name).cloned().ok_or_else(|| errno(libc::ENOENT))?;
        caller.act(|| objects::unlink_queue(&ours))?;
        known.queues.remove(&name);
        Ok(())
    }

    /// The C library took the slash away.
    fn name(&self, notification: &Notification, address: u64) -> io::Result<Vec<u8>> {
        let name = self.memories.read_text(notification.thread, address)?;
        match name.len() {
            0 => Err(errno(libc::ENOENT)),
            length if length > LONGEST => Err(errno(libc::ENAMETOOLONG)),
            _ if name.contains(&b'/') => Err(errno(libc::EACCES)),
            _ => Ok(name),
        }
    }

    fn attributes(&self, notification: &Notification, address: u64) -> io::Result<QueueAttributes> {
        let mut bytes = [0; size_of::<QueueAttributes>()];
        self.memories.read_exact(notification.thread, address, &mut bytes)?;
        let mut attributes = QueueAttributes::default();
        for (word, bytes) in attributes.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = i64::from_ne_bytes(bytes.try_into().map_err(io::Error::other)?);
        }
        Ok(attributes)
    }

    /// After the last process of the RUN: what it made goes. What it removed
    /// itself is gone already.
    pub(in crate::sandbox) fn remove_all(&self) {
        let mut known = self.known();
        known.closed = true;
        for ((kind, id), maker) in std::mem::take(&mut known.numbers) {
            let _ = maker.act(|| objects::remove(kind, id));
        }
        for name in std::mem::take(&mut known.queues).into_values() {
            let _ = objects::unlink_queue(&name);
        }
    }

    fn open_book(&self) -> io::Result<MutexGuard<'_, Known>> {
        let known = self.known();
        let full = known.numbers.len() + known.queues.len() >= MOST;
        if known.closed || full { Err(errno(libc::ENOSPC)) } else { Ok(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves the tables whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHM_STAT, SEM_STAT, MSG_STAT and their kin "ANY" (linux/shm.h, sem.h, msg.h).
fn by_index(notification: &Notification) -> bool {
    let [_, second, third, ..] = notification.arguments;
    match notification.call {
        libc::SYS_shmctl => matches!(int(second), 13 | 15),
        libc::SYS_semctl => matches!(int(third), 18 | 20),
        libc::SYS_msgctl => matches!(int(second), 11 | 13),
        _ => false,
    }
}

/// Under a key that nobody has.
fn make(kind: Kind, size: u64, flags: i32) -> io::Result<(i32, i32)> {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let key = random() as i32;
        if key == libc::IPC_PRIVATE {
            continue;
        }
        match objects::get(kind, key, size, flags | libc::IPC_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => return Ok((key, other?)),
        }
    }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel reads these arguments as 32 bits, too")]
fn int(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(call: libc::c_long, arguments: &[u64]) -> Notification {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Notification { id: 0, thread: std::process::id().cast_signed(), call, foreign: false, arguments: all }
    }

    #[test]
    fn a_key_is_the_runs_alone_and_its_object_ends_with_it() {
        let (one, other) = (Objects::default(), Objects::default());
        let create = (libc::IPC_CREAT | 0o600).cast_unsigned().into();
        let get = |objects: &Objects, flags| {
            objects.get(Kind::Memory, &notification(libc::SYS_shmget, &[77, 4096, flags]))
        };
        assert_eq!(get(&one, 0).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let id = get(&one, create).unwrap();
        assert_eq!(get(&one, 0).unwrap(), id);
        assert_eq!(get(&other, 0).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let attach = notification(libc::SYS_shmat, &[id.cast_unsigned().into()]);
        assert!(matches!(one.check(Kind::Memory, &attach), Answer::GoOn));
        assert!(matches!(other.check(Kind::Memory, &attach), Answer::Error(libc::EINVAL)));
        one.remove_all();
        assert!(objects::remove(Kind::Memory, id).is_err(), "it is still there");
        assert!(get(&one, create).is_err(), "made after the end");
    }
}
