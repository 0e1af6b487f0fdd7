//! The few system calls that no crate wraps, each in a function that is safe to call.

#![expect(unsafe_code, reason = "the one place for raw system calls; every block argues its case")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::libc;
use nix::unistd::Pid;

/// Which side of [`clone_process`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The caller; the child's id in the caller's pid namespace.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks with clone(2) and the namespace flags given. clone(2) and not
/// unshare(2) or clone3(2), because profiles in use refuse those two.
///
/// # Errors
/// What the kernel answers; `EBUSY` when this process has more than one thread,
/// of which the child would have but one, with every lock the others hold.
pub(super) fn clone_process(flags: libc::c_int) -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack the call is fork(2): the
    // child runs on a copy of this stack and of all memory. There is one
    // thread, so no lock is held by anybody who is missing in the child. The
    // trailing arguments, whose order differs between architectures, are null.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(Pid::from_raw(
            libc::pid_t::try_from(pid).expect("the kernel returned it as a pid_t"),
        ))),
    }
}

/// Ends this process at once: no destructors, no buffers written twice.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(code) }
}

/// Ends this process by `signal`, as a process that it stood for was.
pub(super) fn die_by(signal: libc::c_int) -> ! {
    // SAFETY: these calls take plain integers and a pointer to a signal set
    // that lives through the call; SIG_DFL installs no handler of ours.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(signal);
    }
    exit_now(128 + signal)
}

/// Every signal at its default and none blocked, as a program expects to start.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler. KILL, STOP and the two that libc
        // keeps for itself answer EINVAL, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set lives on this stack through both calls.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Installs a seccomp filter on this thread, without no_new_privs: the caller
/// needs CAP_SYS_ADMIN, and setuid programs keep working.
pub(super) fn install_filter(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `len` instructions that live through the
    // call; the kernel only reads them. seccompiler's sock_filter is the
    // kernel's layout (`repr(C)`: u16, u8, u8, u32).
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result)
}

/// Sets attributes (`MOUNT_ATTR_…`) of the mount `fd` is on and of all mounts
/// below it (mount_setattr(2), Linux 5.12).
pub(super) fn restrict_mounts(fd: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty C string, the attributes live through the
    // call and their size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// The version of Landlock that the kernel speaks (landlock(7)).
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where there is none.
pub(super) fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel only answers; pointer and size must be null.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, VERSION) };
    check(version)?;
    Ok(u32::try_from(version).expect("a small positive number"))
}

/// Brings the loopback device of this network namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes integers; a descriptor it returns is ours alone.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket.into())?;
    // SAFETY: just returned by the kernel and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed() as libc::c_char;
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).expect("both flags fit 16 bits");
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())
}

/// Takes every capability that is not in the bit set `keep` out of the
/// bounding set, also those newer than this program.
pub(super) fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for capability in 0..64_u64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: the call takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Every descriptor from 3 on closes at exec. All of ours already do; this is
/// for what was inherited from whoever started the first process.
pub(super) fn close_on_exec_from_three() {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, a flag is set.
    // The call came with Linux 5.9; an older kernel leaves things as they are.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
