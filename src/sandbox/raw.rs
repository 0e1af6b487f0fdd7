//! Raw system calls of confinement: Landlock, and the listening side of a
//! seccomp filter. Each in a function that is safe to call.

#![expect(unsafe_code, reason = "Landlock and seccomp listeners have no safe wrapper in any crate we use")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use rustix::fs::OFlags;

use super::instructions::OWN;

/// The file rights of Landlock by the ABI that brought them, as in
/// `linux/landlock.h`: ABI 1 has the first 13, 2 REFER, 3 TRUNCATE, 5 IOCTL_DEV.
const FILE_RIGHTS: [(u32, u64); 4] = [(1, 0x1fff), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];

/// Abstract unix sockets and signals.
const SCOPES: u64 = 0b11;
/// The ABI that brought them, with Linux 6.12.
pub(super) const SCOPES_SINCE: u32 = 6;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// From here on this thread opens, lists, makes, renames and removes nothing
/// outside `root`, if there is one, and with `scopes` signals nobody outside.
/// Needs no_new_privs or CAP_SYS_ADMIN.
pub(super) fn confine(root: Option<BorrowedFd<'_>>, scopes: bool, abi: u32) -> io::Result<()> {
    let scoped = if scopes && abi >= SCOPES_SINCE { SCOPES } else { 0 };
    if root.is_none() && scoped == 0 {
        // A ruleset about nothing is refused (ENOMSG).
        return Ok(());
    }
    let rights = FILE_RIGHTS.iter().filter(|(since, _)| root.is_some() && *since <= abi);
    let rights = rights.fold(0, |all, (_, bits)| all | bits);
    let ruleset = Ruleset { handled_access_fs: rights, handled_access_net: 0, scoped };
    // A kernel reads as much of it as it knows, and refuses what is not zero beyond.
    let size = match abi {
        0..=3 => 8_usize,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the attributes live through the call and are at least `size` long.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0_u32) };
    let fd = owned(fd)?;
    if let Some(root) = root {
        let beneath = PathBeneath { allowed_access: rights, parent_fd: root.as_raw_fd() };
        const PATH_BENEATH: u32 = 1;
        // SAFETY: both descriptors are open; the rule lives through the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                fd.as_raw_fd(),
                PATH_BENEATH,
                &raw const beneath,
                0_u32,
            )
        })?;
    }
    // SAFETY: the call takes an open descriptor and an integer.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0_u32) }).map(drop)
}

/// What hears of the calls that a filter does not decide.
pub(super) struct Listener {
    pub(super) fd: OwnedFd,
    /// A call that was taken is interrupted by nothing but the caller's end.
    pub(super) killable: bool,
}

/// Installs a filter on this thread and returns its listener. Needs no_new_privs.
pub(super) fn install_listener(program: &[seccompiler::sock_filter]) -> io::Result<Listener> {
    const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // WAIT_KILLABLE_RECV came with Linux 5.19.
    match install_with(program, listener | WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(Listener { fd: install_with(program, listener)?, killable: false })
        }
        other => Ok(Listener { fd: other?, killable: true }),
    }
}

fn install_with(program: &[seccompiler::sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `len` instructions that live through the
    // call; the kernel only reads them, and seccompiler's layout is its own.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(check(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A system call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    /// What an answer names.
    pub(super) id: u64,
    /// The thread that called, in our pid namespace.
    pub(super) thread: i32,
    /// Number of the call, on the caller's architecture.
    pub(super) call: libc::c_long,
    /// That is another one than this program's own.
    pub(super) foreign: bool,
    pub(super) arguments: [u64; 6],
}

/// Waits for the next one. `ENOENT`: it was withdrawn; `EINTR`: ask again.
pub(super) fn next_notification(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut notice = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] },
    };
    // SAFETY: the request's structure, zeroed as it demands, lives through the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut notice) };
    check(result.into())?;
    Ok(Notification {
        id: notice.id,
        thread: notice.pid.cast_signed(),
        call: notice.data.nr.into(),
        foreign: notice.data.arch != OWN,
        arguments: notice.data.args,
    })
}

/// Lets the kernel do the call itself.
pub(super) fn go_on(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    const CONTINUE: u32 = 1;
    respond(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags: CONTINUE })
}

/// Answers with a value, or with an error number.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, result: Result<i64, i32>) -> io::Result<()> {
    let (val, error) = match result {
        Ok(value) => (value, 0),
        Err(errno) => (0, -errno),
    };
    respond(listener, libc::seccomp_notif_resp { id, val, error, flags: 0 })
}

fn respond(listener: BorrowedFd<'_>, mut response: libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: the response lives through the call, which reads it.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut response) };
    check(result.into()).map(drop)
}

/// Answers with a new descriptor of the caller's for what `fd` is (Linux 5.14).
/// Ours is closed before the caller goes on where it can write: what it closes
/// and then executes must be open for writing nowhere (ETXTBSY, execve(2)).
pub(super) fn answer_with(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: OwnedFd,
    close_on_exec: bool,
) -> io::Result<()> {
    const SEND: u32 = 2;
    let writable = rustix::fs::fcntl_getfl(&fd)?.intersects(OFlags::WRONLY | OFlags::RDWR);
    let mut request = libc::seccomp_notif_addfd {
        id,
        flags: if writable { 0 } else { SEND },
        srcfd: fd.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: the request lives through the call, which reads it; `fd` is open.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, &raw mut request) };
    let number = check(result.into())?;
    drop(fd);
    if writable { answer(listener, id, Ok(number)) } else { Ok(()) }
}

/// Whether the caller still waits: only then its number means it.
pub(super) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the call reads a number, which lives through it.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) };
    result == 0
}

/// The caller and its supervisor hand one processor to each other: two to four
/// times faster (Linux 6.6; elsewhere nothing changes).
pub(super) fn wake_in_turn(listener: BorrowedFd<'_>) {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the call takes an integer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
}

/// Which pseudoterminal the other end of `fd` is (ioctl_tty(2), TIOCGPTN).
pub(super) fn terminal_number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the call writes one unsigned integer, which lives through it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) }.into())?;
    Ok(number)
}

/// fstatfs(2), with the kernel's own bytes as the result.
pub(super) fn statfs_bytes(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::statfs>()];
    // SAFETY: the buffer has the size of the kernel's structure, which is
    // libc's on 64-bit architectures.
    check(unsafe { libc::syscall(libc::SYS_fstatfs, fd.as_raw_fd(), bytes.as_mut_ptr()) })?;
    Ok(bytes)
}

/// What uname(2) fills.
pub(super) type UnameBytes = [u8; size_of::<libc::utsname>()];

/// uname(2), with the kernel's own bytes as the result.
pub(super) fn uname_bytes() -> io::Result<UnameBytes> {
    let mut bytes = [0; size_of::<libc::utsname>()];
    // SAFETY: the buffer has the size of the kernel's structure, which is libc's.
    check(unsafe { libc::syscall(libc::SYS_uname, bytes.as_mut_ptr()) })?;
    Ok(bytes)
}

/// newfstatat(2), with the kernel's own bytes as the result.
pub(super) fn stat_bytes(fd: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::stat>()];
    // SAFETY: the path is a C string and the buffer has the size of the
    // kernel's structure, which is libc's on 64-bit architectures.
    let result = unsafe {
        libc::syscall(libc::SYS_newfstatat, fd.as_raw_fd(), path.as_ptr(), bytes.as_mut_ptr(), flags)
    };
    check(result)?;
    Ok(bytes)
}

/// statx(2), likewise.
pub(super) fn statx_bytes(fd: BorrowedFd<'_>, path: &CStr, flags: i32, mask: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::statx>()];
    // SAFETY: the path is a C string and the buffer has the size of the structure.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, fd.as_raw_fd(), path.as_ptr(), flags, mask, bytes.as_mut_ptr())
    };
    check(result)?;
    Ok(bytes)
}
