//! Raw calls for what System V and POSIX keep by number or name, in the kernel:
//! shared memory, semaphores, queues. Each in a function that is safe to call.

#![expect(unsafe_code, reason = "the calls have no safe wrapper in any crate we use")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc;

/// What System V has (sysvipc(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Memory,
    Semaphores,
    Queue,
}

/// `struct mq_attr`: flags, most messages, size of one, how many there are.
pub(super) type QueueAttributes = [i64; 8];

/// shmget(2), semget(2), msgget(2): `size` is bytes, or a number of semaphores.
pub(super) fn get(kind: Kind, key: i32, size: u64, flags: i32) -> io::Result<i32> {
    // SAFETY: the calls take integers.
    let result = unsafe {
        match kind {
            Kind::Memory => libc::syscall(libc::SYS_shmget, key, size, flags),
            Kind::Semaphores => libc::syscall(libc::SYS_semget, key, size, flags),
            Kind::Queue => libc::syscall(libc::SYS_msgget, key, flags),
        }
    };
    i32::try_from(check(result)?).map_err(io::Error::other)
}

/// Removes one (IPC_RMID); for its creator.
pub(super) fn remove(kind: Kind, id: i32) -> io::Result<()> {
    let nothing = 0_usize;
    // SAFETY: the calls take integers; the pointer is not looked at for IPC_RMID.
    let result = unsafe {
        match kind {
            Kind::Memory => libc::syscall(libc::SYS_shmctl, id, libc::IPC_RMID, nothing),
            Kind::Semaphores => libc::syscall(libc::SYS_semctl, id, 0, libc::IPC_RMID, nothing),
            Kind::Queue => libc::syscall(libc::SYS_msgctl, id, libc::IPC_RMID, nothing),
        }
    };
    check(result).map(drop)
}

/// mq_open(2), whose name has no slash.
pub(super) fn open_queue(
    name: &CStr,
    flags: i32,
    mode: u32,
    attributes: Option<&QueueAttributes>,
) -> io::Result<OwnedFd> {
    let attributes = attributes.map_or(std::ptr::null(), |attributes| attributes.as_ptr());
    // SAFETY: name and attributes live through the call and have the kernel's size.
    let fd = unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, mode, attributes) };
    let fd = i32::try_from(check(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// mq_unlink(2).
pub(super) fn unlink_queue(name: &CStr) -> io::Result<()> {
    // SAFETY: the name lives through the call.
    check(unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) }).map(drop)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
