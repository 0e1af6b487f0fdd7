//! Which calls are about identity: the owner of a file, or the user who calls.

use nix::libc;
use seccompiler::sock_filter;

use crate::sandbox::instructions::*;

/// fchmodat2(2) came with Linux 6.6; its number is the same everywhere.
pub(super) const FCHMODAT2: libc::c_long = 452;

/// setxattrat(2), getxattrat, listxattrat, removexattrat (Linux 6.13): their
/// arguments lie in memory, and everybody has a way without them.
const ATTRIBUTES_AT: [libc::c_long; 4] = [463, 464, 465, 466];

const HEARD: &[libc::c_long] = &[
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_openat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendmsg,
    libc::SYS_capget,
    libc::SYS_capset,
];

#[cfg(target_arch = "x86_64")]
const HEARD_OF_OLD: &[libc::c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_chmod,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_link,
    libc::SYS_access,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_symlink,
];
#[cfg(not(target_arch = "x86_64"))]
const HEARD_OF_OLD: &[libc::c_long] = &[];

/// Those that only need a user to be allowed something.
const JUDGED: &[libc::c_long] = &[
    libc::SYS_readlinkat,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_truncate,
    libc::SYS_statfs,
    libc::SYS_chroot,
    libc::SYS_inotify_add_watch,
    libc::SYS_utimensat,
];

#[cfg(target_arch = "x86_64")]
const JUDGED_OF_OLD: &[libc::c_long] =
    &[libc::SYS_readlink, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const JUDGED_OF_OLD: &[libc::c_long] = &[];

/// Those that send signals.
const SIGNALS: &[libc::c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// Whether a call sends a signal.
pub(super) fn is_signal(call: libc::c_long) -> bool {
    SIGNALS.contains(&call)
}

/// Whether a call is one of them.
pub(super) fn is_judged(call: libc::c_long) -> bool {
    JUDGED.contains(&call) || JUDGED_OF_OLD.contains(&call)
}

/// Requests of prctl(2) about capabilities and what programs give.
const REQUESTS: [libc::c_int; 9] = [
    libc::PR_SET_KEEPCAPS,
    libc::PR_GET_KEEPCAPS,
    libc::PR_CAPBSET_READ,
    libc::PR_CAPBSET_DROP,
    libc::PR_GET_SECUREBITS,
    libc::PR_SET_SECUREBITS,
    libc::PR_CAP_AMBIENT,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_NO_NEW_PRIVS,
];

/// Ahead without a condition.
const JUMP: u16 = 0x05;

/// Nothing, or a success that nothing was done for, or an error.
const fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

/// What is not about identity goes on with `next`, another whole program, or
/// else passes.
pub(in crate::sandbox) fn program(next: &[sock_filter]) -> Vec<sock_filter> {
    let mut program = own_program();
    if next.is_empty() {
        return program;
    }
    let length = program.len();
    for (at, step) in program.iter_mut().enumerate() {
        if step.code == RETURN && step.k == libc::SECCOMP_RET_ALLOW {
            // Jumps count from the step behind.
            let ahead = u32::try_from(length - at - 1).expect("a program has some hundred steps");
            *step = sock_filter { code: JUMP, jt: 0, jf: 0, k: ahead };
        }
    }
    program.extend_from_slice(next);
    program
}

fn own_program() -> Vec<sock_filter> {
    let absent: Vec<libc::c_long> = ATTRIBUTES_AT.into_iter().chain([libc::SYS_openat2]).collect();
    let foreign = super::foreign::steps(&absent, &REQUESTS, libc::PR_SET_TIMERSLACK);
    let mut program = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 1, 0, OWN),
        sock_filter { code: JUMP, jt: 0, jf: 0, k: 1 },
        sock_filter {
            code: JUMP,
            jt: 0,
            jf: 0,
            k: u32::try_from(foreign.len()).expect("some hundred steps"),
        },
    ];
    program.extend(foreign);
    program.push(step(LOAD, 0, 0, NUMBER));
    for call in [HEARD, HEARD_OF_OLD, JUDGED, JUDGED_OF_OLD, SIGNALS].into_iter().flatten() {
        program.extend([is(*call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    for call in absent {
        program.extend([is(call, 1), give(errno(libc::ENOSYS))]);
    }
    // The credentials at the other end of a socket.
    program.extend([
        is(libc::SYS_getsockopt, 6),
        load(1),
        step(EQUAL, 0, 3, libc::SOL_SOCKET.cast_unsigned()),
        load(2),
        step(EQUAL, 0, 1, libc::SO_PEERCRED.cast_unsigned()),
        give(libc::SECCOMP_RET_USER_NOTIF),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    let requests = u8::try_from(2 * REQUESTS.len() + 3).expect("a few requests");
    program.extend([is(libc::SYS_prctl, requests), load(0)]);
    for request in REQUESTS {
        program.extend([step(EQUAL, 0, 1, request.cast_unsigned()), give(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    // It carries the number of the task's credentials: see `table`.
    program.extend([step(EQUAL, 0, 1, libc::PR_SET_TIMERSLACK.cast_unsigned()), give(errno(0))]);
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says of a call: a reading of classic BPF as far as it
    /// is used here.
    fn verdict(program: &[sock_filter], call: libc::c_long, arguments: [u32; 3]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let jump = match code {
                LOAD => {
                    value = match k {
                        NUMBER => u32::try_from(call).unwrap(),
                        ARCHITECTURE => OWN,
                        offset => arguments[(offset - ARGUMENTS) as usize / 8],
                    };
                    0
                }
                EQUAL => {
                    if value == k {
                        jt
                    } else {
                        jf
                    }
                }
                ANY_BIT => {
                    if value & k != 0 {
                        jt
                    } else {
                        jf
                    }
                }
                JUMP => {
                    at += k as usize;
                    0
                }
                RETURN => return k,
                other => panic!("{other:#x}"),
            };
            at += usize::from(jump);
        }
    }

    #[test]
    fn hears_of_identity_and_of_nothing_else() {
        let (heard, allowed) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        for (call, arguments, expected) in [
            (libc::SYS_getuid, [0; 3], heard),
            (libc::SYS_capset, [0; 3], heard),
            (libc::SYS_fchownat, [0; 3], heard),
            (libc::SYS_read, [0; 3], allowed),
            (libc::SYS_clone, [0; 3], allowed),
            (libc::SYS_openat, [0, 0, libc::O_CLOEXEC.cast_unsigned()], heard),
            (libc::SYS_execve, [0; 3], heard),
            (libc::SYS_getdents64, [0; 3], allowed),
            (
                libc::SYS_getsockopt,
                [3, libc::SOL_SOCKET.cast_unsigned(), libc::SO_PEERCRED.cast_unsigned()],
                heard,
            ),
            (
                libc::SYS_getsockopt,
                [3, libc::SOL_SOCKET.cast_unsigned(), libc::SO_ERROR.cast_unsigned()],
                allowed,
            ),
            (libc::SYS_getsockopt, [3, 6, libc::SO_PEERCRED.cast_unsigned()], allowed),
            (libc::SYS_openat2, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_prctl, [libc::PR_SET_KEEPCAPS.cast_unsigned(), 0, 0], heard),
            (libc::SYS_prctl, [libc::PR_CAP_AMBIENT.cast_unsigned(), 0, 0], heard),
            (libc::SYS_prctl, [libc::PR_SET_TIMERSLACK.cast_unsigned(), 0, 0], errno(0)),
            (libc::SYS_prctl, [libc::PR_SET_NAME.cast_unsigned(), 0, 0], allowed),
            (libc::SYS_exit_group, [0; 3], allowed),
        ] {
            assert_eq!(verdict(&program(&[]), call, arguments), expected, "{call} {arguments:?}");
        }
    }

    #[test]
    fn goes_on_with_another_program() {
        const DEFER: u32 = 0xabc;
        let next = [give(DEFER)];
        for (call, arguments, expected) in [
            (libc::SYS_getuid, [0; 3], libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_read, [0; 3], DEFER),
            (libc::SYS_lseek, [0; 3], DEFER),
            (libc::SYS_prctl, [libc::PR_SET_NAME.cast_unsigned(), 0, 0], DEFER),
            (libc::SYS_getsockopt, [3, 6, 6], DEFER),
            (libc::SYS_openat2, [0; 3], errno(libc::ENOSYS)),
        ] {
            assert_eq!(verdict(&program(&next), call, arguments), expected, "{call} {arguments:?}");
        }
    }
}
