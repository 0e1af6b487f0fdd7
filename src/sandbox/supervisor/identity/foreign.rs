//! 32-bit programs: the same calls under other numbers.
//!
//! Numbers are those of arch/x86/entry/syscalls/syscall_32.tbl. Arguments are in the
//! same places; what lies in memory is the same too, but for `struct stat64`. The
//! calls of programs that know 16 bits of an id alone are heard of as far as they
//! take or give one number; their old `struct stat`, and ids that they read or write
//! by pointer, are the kernel's.
//!
//! 32-bit ARM programs on 64-bit ones get the kernel's own answers to everything.

use nix::libc;
use seccompiler::sock_filter;

use crate::sandbox::instructions::*;
use crate::sandbox::raw::Notification;

/// `AUDIT_ARCH_I386` (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0x4000_0003;

/// Calls without a number here: those that fill `struct stat64`.
pub(super) const STAT64: libc::c_long = -195;
pub(super) const LSTAT64: libc::c_long = -196;
pub(super) const FSTAT64: libc::c_long = -197;
pub(super) const FSTATAT64: libc::c_long = -300;
/// utimensat(2) with times of 32 bits.
pub(super) const UTIMENSAT: libc::c_long = -320;

/// Theirs, ours.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(u32, libc::c_long)] = &[
    (195, STAT64),
    (196, LSTAT64),
    (197, FSTAT64),
    (300, FSTATAT64),
    (320, UTIMENSAT),
    (383, libc::SYS_statx),
    (5, libc::SYS_open),
    (8, libc::SYS_creat),
    (295, libc::SYS_openat),
    (9, libc::SYS_link),
    (303, libc::SYS_linkat),
    (10, libc::SYS_unlink),
    (301, libc::SYS_unlinkat),
    (40, libc::SYS_rmdir),
    (38, libc::SYS_rename),
    (302, libc::SYS_renameat),
    (353, libc::SYS_renameat2),
    (39, libc::SYS_mkdir),
    (296, libc::SYS_mkdirat),
    (14, libc::SYS_mknod),
    (297, libc::SYS_mknodat),
    (83, libc::SYS_symlink),
    (304, libc::SYS_symlinkat),
    (15, libc::SYS_chmod),
    (94, libc::SYS_fchmod),
    (306, libc::SYS_fchmodat),
    (452, super::filter::FCHMODAT2),
    (212, libc::SYS_chown),
    (198, libc::SYS_lchown),
    (207, libc::SYS_fchown),
    (298, libc::SYS_fchownat),
    (33, libc::SYS_access),
    (307, libc::SYS_faccessat),
    (439, libc::SYS_faccessat2),
    (85, libc::SYS_readlink),
    (305, libc::SYS_readlinkat),
    (12, libc::SYS_chdir),
    (133, libc::SYS_fchdir),
    (11, libc::SYS_execve),
    (358, libc::SYS_execveat),
    (92, libc::SYS_truncate),
    (193, libc::SYS_truncate),
    (99, libc::SYS_statfs),
    (268, libc::SYS_statfs),
    (61, libc::SYS_chroot),
    (292, libc::SYS_inotify_add_watch),
    (412, libc::SYS_utimensat),
    (30, libc::SYS_utime),
    (271, libc::SYS_utimes),
    (299, libc::SYS_futimesat),
    (226, libc::SYS_setxattr),
    (227, libc::SYS_lsetxattr),
    (228, libc::SYS_fsetxattr),
    (229, libc::SYS_getxattr),
    (230, libc::SYS_lgetxattr),
    (231, libc::SYS_fgetxattr),
    (232, libc::SYS_listxattr),
    (233, libc::SYS_llistxattr),
    (234, libc::SYS_flistxattr),
    (235, libc::SYS_removexattr),
    (236, libc::SYS_lremovexattr),
    (237, libc::SYS_fremovexattr),
    (199, libc::SYS_getuid),
    (200, libc::SYS_getgid),
    (201, libc::SYS_geteuid),
    (202, libc::SYS_getegid),
    (203, libc::SYS_setreuid),
    (204, libc::SYS_setregid),
    (205, libc::SYS_getgroups),
    (206, libc::SYS_setgroups),
    (208, libc::SYS_setresuid),
    (209, libc::SYS_getresuid),
    (210, libc::SYS_setresgid),
    (211, libc::SYS_getresgid),
    (213, libc::SYS_setuid),
    (214, libc::SYS_setgid),
    (215, libc::SYS_setfsuid),
    (216, libc::SYS_setfsgid),
    (184, libc::SYS_capget),
    (185, libc::SYS_capset),
    (37, libc::SYS_kill),
    (238, libc::SYS_tkill),
    (270, libc::SYS_tgkill),
    (178, libc::SYS_rt_sigqueueinfo),
    (335, libc::SYS_rt_tgsigqueueinfo),
    (424, libc::SYS_pidfd_send_signal),
    (361, libc::SYS_bind),
    (362, libc::SYS_connect),
];

/// With ids of 16 bits.
#[cfg(target_arch = "x86_64")]
const SMALL: &[(u32, libc::c_long)] = &[
    (24, libc::SYS_getuid),
    (47, libc::SYS_getgid),
    (49, libc::SYS_geteuid),
    (50, libc::SYS_getegid),
    (23, libc::SYS_setuid),
    (46, libc::SYS_setgid),
    (70, libc::SYS_setreuid),
    (71, libc::SYS_setregid),
    (164, libc::SYS_setresuid),
    (170, libc::SYS_setresgid),
];

/// chown(2), lchown(2), fchown(2): ids of 16 bits behind a file.
#[cfg(target_arch = "x86_64")]
const SMALL_OF_FILES: &[(u32, libc::c_long)] =
    &[(182, libc::SYS_chown), (16, libc::SYS_lchown), (95, libc::SYS_fchown)];

/// prctl(2). The calls that do not exist here, openat2(2) and setxattrat(2) and its
/// kind, have the same numbers.
#[cfg(target_arch = "x86_64")]
const PRCTL: u32 = 172;

/// The same call of a 64-bit program; nothing for one that is not known.
#[cfg(target_arch = "x86_64")]
pub(super) fn translated(foreign: &Notification) -> Option<Notification> {
    let number = u32::try_from(foreign.call).ok()?;
    let find = |calls: &[(u32, libc::c_long)]| {
        calls.iter().find(|(theirs, _)| *theirs == number).map(|(_, ours)| *ours)
    };
    let with = |call, arguments| Some(Notification { call, arguments, foreign: false, ..*foreign });
    if let Some(call) = find(CALLS) {
        return with(call, foreign.arguments);
    }
    if let Some(call) = find(SMALL) {
        return with(call, foreign.arguments.map(widened));
    }
    if let Some(call) = find(SMALL_OF_FILES) {
        let [file, uid, gid, rest @ ..] = foreign.arguments;
        let [fourth, fifth, sixth] = rest;
        return with(call, [file, widened(uid), widened(gid), fourth, fifth, sixth]);
    }
    (number == PRCTL).then_some(Notification { call: libc::SYS_prctl, foreign: false, ..*foreign })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn translated(_: &Notification) -> Option<Notification> {
    None
}

/// An id of 16 bits; the last one means "leave it as it is".
#[cfg(target_arch = "x86_64")]
fn widened(id: u64) -> u64 {
    match id & 0xffff {
        0xffff => u32::MAX.into(),
        id => id,
    }
}

/// The steps for another architecture, up to a decision. `absent` are calls that do
/// not exist, `requests` those of prctl(2) that are heard, and `slack` succeeds.
#[cfg(target_arch = "x86_64")]
pub(super) fn steps(
    absent: &[libc::c_long],
    requests: &[libc::c_int],
    slack: libc::c_int,
) -> Vec<sock_filter> {
    let heard = || give(libc::SECCOMP_RET_USER_NOTIF);
    let errno = |number: i32| give(libc::SECCOMP_RET_ERRNO | number.cast_unsigned());
    let mut steps = Vec::new();
    for (number, _) in [CALLS, SMALL, SMALL_OF_FILES].into_iter().flatten() {
        steps.extend([step(EQUAL, 0, 1, *number), heard()]);
    }
    for call in absent {
        steps.extend([is(*call, 1), errno(libc::ENOSYS)]);
    }
    steps.extend([step(EQUAL, 1, 0, PRCTL), give(libc::SECCOMP_RET_ALLOW), load(0)]);
    for request in requests {
        steps.extend([step(EQUAL, 0, 1, request.cast_unsigned()), heard()]);
    }
    steps.extend([step(EQUAL, 0, 1, slack.cast_unsigned()), errno(0), give(libc::SECCOMP_RET_ALLOW)]);
    // What is no 32-bit program of this kind passes.
    let mut all = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 1, 0, ARCH),
        give(libc::SECCOMP_RET_ALLOW),
        step(LOAD, 0, 0, NUMBER),
    ];
    all.append(&mut steps);
    all
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn steps(_: &[libc::c_long], _: &[libc::c_int], _: libc::c_int) -> Vec<sock_filter> {
    vec![give(libc::SECCOMP_RET_ALLOW)]
}

/// `struct stat64` of i386 (arch/x86/include/uapi/asm/stat.h) from one of ours.
pub(super) fn stat64(ours: &[u8]) -> Vec<u8> {
    use std::mem::offset_of as at;
    let mut bytes = vec![0; 96];
    // To, length there, from, length here: little endian, so that a longer one is cut.
    for (to, length, from) in [
        (0, 8, at!(libc::stat, st_dev)),
        (12, 4, at!(libc::stat, st_ino)),
        (16, 4, at!(libc::stat, st_mode)),
        (20, 4, at!(libc::stat, st_nlink)),
        (24, 4, at!(libc::stat, st_uid)),
        (28, 4, at!(libc::stat, st_gid)),
        (32, 8, at!(libc::stat, st_rdev)),
        (44, 8, at!(libc::stat, st_size)),
        (52, 4, at!(libc::stat, st_blksize)),
        (56, 8, at!(libc::stat, st_blocks)),
        (64, 4, at!(libc::stat, st_atime)),
        (68, 4, at!(libc::stat, st_atime_nsec)),
        (72, 4, at!(libc::stat, st_mtime)),
        (76, 4, at!(libc::stat, st_mtime_nsec)),
        (80, 4, at!(libc::stat, st_ctime)),
        (84, 4, at!(libc::stat, st_ctime_nsec)),
        (88, 8, at!(libc::stat, st_ino)),
    ] {
        bytes[to..to + length].copy_from_slice(&ours[from..from + length]);
    }
    bytes
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[track_caller]
    fn check(call: libc::c_long, arguments: [u64; 6], expected: Option<(libc::c_long, [u64; 6])>) {
        let foreign = Notification { id: 1, thread: 2, call, arguments, foreign: true };
        let found = translated(&foreign).map(|found| (found.call, found.arguments));
        assert_eq!(found, expected, "{call}");
    }

    #[test]
    fn knows_their_numbers() {
        let plain = [1, 2, 3, 4, 5, 6];
        check(5, plain, Some((libc::SYS_open, plain)));
        check(195, plain, Some((STAT64, plain)));
        check(172, plain, Some((libc::SYS_prctl, plain)));
        check(3, plain, None);
        let most = u64::from(u32::MAX);
        check(182, [9, 0xffff, 7, 4, 5, 6], Some((libc::SYS_chown, [9, most, 7, 4, 5, 6])));
        check(70, [0x1_0007, 0xffff, 0, 0, 0, 0], Some((libc::SYS_setreuid, [7, most, 0, 0, 0, 0])));
    }

    #[test]
    fn fills_their_structure() {
        use std::os::fd::AsFd;
        let file = tempfile::tempfile().unwrap();
        file.set_len(77).unwrap();
        let ours = crate::sandbox::raw::stat_bytes(file.as_fd(), c"", libc::AT_EMPTY_PATH).unwrap();
        let theirs = stat64(&ours);
        let stat = rustix::fs::fstat(&file).unwrap();
        let word = |at: usize| u32::from_ne_bytes(theirs[at..at + 4].try_into().unwrap());
        assert_eq!(
            (word(16), word(24), word(44), word(88)),
            (stat.st_mode, stat.st_uid, 77, stat.st_ino as u32)
        );
    }
}
