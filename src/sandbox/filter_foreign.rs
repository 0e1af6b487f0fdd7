//! The filter for programs of another architecture: 32-bit ones, and x32.
//!
//! A system call has other numbers there, so that the filters for our own
//! architecture do not know it, and any 64-bit program can make one (`int 0x80`).
//! Written as instructions, because seccompiler knows no 32-bit architecture.
//! What it cannot see are the arguments behind socketcall(2).

use nix::libc;
use seccompiler::sock_filter;

use super::filter::{PERSONALITIES, TIOCLINUX, TIOCSTI};
use super::instructions::*;

/// Numbers on one 32-bit architecture.
struct Calls {
    /// `AUDIT_ARCH_…` (linux/audit.h).
    architecture: u32,
    refused: &'static [u32],
    clone: u32,
    unshare: u32,
    ioctl: u32,
    socket: u32,
}

/// i386, from arch/x86/entry/syscalls/syscall_32.tbl: add_key, request_key,
/// keyctl, bpf, perf_event_open, userfaultfd, kexec_load, open_by_handle_at,
/// init_module, finit_module, delete_module, acct, quotactl, swapon, swapoff,
/// reboot, setns, lookup_dcookie, vhangup, io_uring (three), syslog, fanotify_init.
#[cfg(target_arch = "x86_64")]
const FOREIGN: Calls = Calls {
    architecture: 0x4000_0003,
    refused: &[
        286, 287, 288, 357, 336, 374, 283, 342, 128, 350, 129, 51, 131, 87, 115, 88, 346, 253, 111, 425, 426,
        427, 103, 338,
    ],
    clone: 120,
    unshare: 310,
    ioctl: 54,
    socket: 359,
};

/// 32-bit ARM, from arch/arm/tools/syscall.tbl; the same calls in the same order,
/// and kexec_file_load.
#[cfg(target_arch = "aarch64")]
const FOREIGN: Calls = Calls {
    architecture: 0x4000_0028,
    refused: &[
        309, 310, 311, 386, 364, 388, 347, 371, 128, 379, 129, 51, 131, 87, 115, 88, 375, 249, 111, 425, 426,
        427, 103, 367, 401,
    ],
    clone: 120,
    unshare: 337,
    ioctl: 54,
    socket: 281,
};

/// personality(2), on x86 as on ARM.
const PERSONALITY: u32 = 136;

/// clone3(2) has one number everywhere.
const CLONE3: u32 = 435;

pub(super) fn program() -> Vec<sock_filter> {
    let allow = give(libc::SECCOMP_RET_ALLOW);
    let refuse = || give(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
    let absent = || give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let mut program = vec![step(LOAD, 0, 0, ARCHITECTURE)];
    // x32 is our own architecture by name, with a bit of its own in the number.
    #[cfg(target_arch = "x86_64")]
    program.extend([
        step(EQUAL, 0, 4, OWN),
        step(LOAD, 0, 0, NUMBER),
        step(AT_LEAST, 0, 1, 0x4000_0000),
        absent(),
        allow.clone(),
    ]);
    program.extend([
        step(EQUAL, 1, 0, FOREIGN.architecture),
        allow.clone(),
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 0, 1, CLONE3),
        absent(),
    ]);
    for number in FOREIGN.refused {
        program.extend([step(EQUAL, 0, 1, *number), refuse()]);
    }
    let new_user = libc::CLONE_NEWUSER.cast_unsigned();
    for call in [FOREIGN.clone, FOREIGN.unshare] {
        program.extend([
            step(EQUAL, 0, 4, call),
            step(LOAD, 0, 0, ARGUMENTS),
            step(ANY_BIT, 0, 1, new_user),
            refuse(),
            allow.clone(),
        ]);
    }
    let [sti, linux] = [TIOCSTI, TIOCLINUX].map(|request| u32::try_from(request).expect("a 16-bit request"));
    for (call, argument, values) in [
        (FOREIGN.ioctl, 1, [sti, linux]),
        (FOREIGN.socket, 0, [libc::AF_VSOCK.cast_unsigned(), libc::AF_ALG.cast_unsigned()]),
    ] {
        program.extend([
            step(EQUAL, 0, 5, call),
            step(LOAD, 0, 0, ARGUMENTS + 8 * argument),
            step(EQUAL, 1, 0, values[0]),
            step(EQUAL, 0, 1, values[1]),
            refuse(),
            allow.clone(),
        ]);
    }
    let known = u8::try_from(PERSONALITIES.len()).expect("a few");
    program.extend([step(EQUAL, 0, known + 2, PERSONALITY), step(LOAD, 0, 0, ARGUMENTS)]);
    program.extend((0..known).zip(PERSONALITIES).map(|(at, value)| step(EQUAL, known - at, 0, value)));
    program.push(refuse());
    program.push(allow);
    program
}
