//! Which system calls the supervisor hears of.
//!
//! Written as instructions, because seccompiler has no action for a listener.
//! Programs of another architecture, and calls that name a descriptor instead
//! of a path, pass.

use nix::libc;
use seccompiler::sock_filter;

use super::{Protection, Protections, neighbours};

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`; arguments are 8 bytes each, low half first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const OWN: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN: u32 = 0xc000_00b7;

/// Calls with a path, with a device, or about identity. Not fork(2): a caller
/// that a signal interrupts before the supervisor has taken its call gets
/// EINTR, which no shell expects of fork.
const HEARD: [libc::c_long; 20] = [
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmodat,
    libc::SYS_mknodat,
    libc::SYS_chroot,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
];

#[cfg(target_arch = "x86_64")]
const HEARD_OF_OLD: [libc::c_long; 7] = [
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_mknod,
];
#[cfg(not(target_arch = "x86_64"))]
const HEARD_OF_OLD: [libc::c_long; 0] = [];

/// Calls whose flags, in the argument given, may say that there is no path.
const WITH_FLAGS: [(libc::c_long, u32); 2] = [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)];

pub(super) fn program(protections: Protections) -> Vec<sock_filter> {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let give = |action| step(RETURN, 0, 0, action);
    let is = |call: libc::c_long, skip| {
        step(EQUAL, 0, skip, u32::try_from(call).expect("system calls have small numbers"))
    };
    let mut program = vec![step(LOAD, 0, 0, ARCHITECTURE)];
    let neighbours = protections.keep(Protection::Neighbours);
    let foreign = match neighbours {
        true => neighbours::foreign_steps(NUMBER, ARGUMENTS),
        false => vec![give(libc::SECCOMP_RET_ALLOW)],
    };
    program.push(step(EQUAL, u8::try_from(foreign.len()).expect("some forty steps"), 0, OWN));
    program.extend(foreign);
    program.push(step(LOAD, 0, 0, NUMBER));
    for call in HEARD.into_iter().chain(HEARD_OF_OLD) {
        program.extend([is(call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    for (call, argument) in WITH_FLAGS {
        program.extend([
            is(call, 4),
            step(LOAD, 0, 0, ARGUMENTS + 8 * argument),
            step(ANY_BIT, 0, 1, libc::AT_EMPTY_PATH.cast_unsigned()),
            give(libc::SECCOMP_RET_ALLOW),
            give(libc::SECCOMP_RET_USER_NOTIF),
        ]);
    }
    if neighbours {
        program.extend(neighbours::steps(NUMBER, ARGUMENTS));
    }
    // Its flags lie in memory; everybody has a way without it.
    program.extend([
        is(libc::SYS_openat2, 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    program
}
