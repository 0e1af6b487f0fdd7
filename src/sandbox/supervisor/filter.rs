//! Which system calls the supervisor hears of.
//!
//! Written as instructions, because seccompiler has no action for a listener.
//! Programs of another architecture, and calls that name a descriptor instead
//! of a path, pass, unless they set or list attributes. What can be told from a flag (there is no path, no link at
//! its end is followed, no device is made) is told here: a call that passes
//! costs nothing.

use nix::libc;
use seccompiler::sock_filter;

use super::{Protection, Protections, attributes, ipc, names, neighbours};
use crate::sandbox::instructions::*;
use crate::sandbox::raw::Notification;

/// What a supervisor wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Heard {
    /// mknod of a device, and attributes that are set or listed.
    Devices,
    /// That, everything with a path that may lead into /proc or to a
    /// placeholder, changes of identity, and the host name.
    Paths,
    /// Those, and calls that name a process or a System V object, where a RUN has
    /// no namespaces for them.
    Neighbours,
}

/// Not fork(2): a caller that a signal interrupts before the supervisor has
/// taken its call gets EINTR, which no shell expects of fork.
const PATHS: [libc::c_long; 24] = [
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmodat,
    libc::SYS_statfs,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_chdir,
    libc::SYS_chroot,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_inotify_add_watch,
    libc::SYS_uname,
];

#[cfg(target_arch = "x86_64")]
const PATHS_OF_OLD: [libc::c_long; 8] = [
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_chown,
];
#[cfg(not(target_arch = "x86_64"))]
const PATHS_OF_OLD: [libc::c_long; 0] = [];

/// Calls whose flags, in the argument given, decide.
enum Rule {
    /// Heard unless one of the bits is set.
    Without(libc::c_long, u32, i32),
    /// Heard if one of the bits is set.
    With(libc::c_long, u32, i32),
}

const PATHS_BY_FLAG: [Rule; 4] = [
    Rule::Without(libc::SYS_newfstatat, 3, libc::AT_EMPTY_PATH),
    Rule::Without(libc::SYS_statx, 2, libc::AT_EMPTY_PATH),
    // A link of /proc at the end is what a path is changed through.
    Rule::Without(libc::SYS_fchownat, 4, libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW),
    Rule::With(libc::SYS_linkat, 4, libc::AT_SYMLINK_FOLLOW),
];

/// chroot(2) of 32-bit programs, on x86 as on ARM: a path means another file then.
const FOREIGN_CHROOT: libc::c_long = 61;

/// The bit that both kinds of device have in their mode, and neither a file, a
/// fifo nor a socket: character is 2, block is 6.
const DEVICE: i32 = 0o020_000;

const DEVICES: [Rule; 1] = [Rule::With(libc::SYS_mknodat, 2, DEVICE)];
#[cfg(target_arch = "x86_64")]
const DEVICES_OF_OLD: [Rule; 1] = [Rule::With(libc::SYS_mknod, 1, DEVICE)];
#[cfg(not(target_arch = "x86_64"))]
const DEVICES_OF_OLD: [Rule; 0] = [];

/// The filter for a supervisor that wants to hear `heard`.
pub(super) fn program(heard: Heard, protections: Protections) -> Vec<sock_filter> {
    let mut program = vec![step(LOAD, 0, 0, ARCHITECTURE)];
    let neighbours = heard == Heard::Neighbours && protections.keep(Protection::Neighbours);
    let objects = heard == Heard::Neighbours && protections.keep(Protection::Ipc);
    let attributes = protections.keep(Protection::Attributes);
    let mut foreign = vec![step(LOAD, 0, 0, NUMBER)];
    if attributes {
        foreign.extend(attributes::foreign_steps());
    }
    if heard != Heard::Devices {
        foreign.extend([is(FOREIGN_CHROOT, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    if objects {
        foreign.extend(ipc::foreign_steps());
    }
    if neighbours {
        foreign.extend(neighbours::foreign_steps(NUMBER, ARGUMENTS));
    }
    foreign.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(step(EQUAL, u8::try_from(foreign.len()).expect("some ninety steps"), 0, OWN));
    program.extend(foreign);
    program.push(step(LOAD, 0, 0, NUMBER));
    DEVICES.iter().chain(&DEVICES_OF_OLD).for_each(|rule| program.extend(by_flag(rule)));
    if attributes {
        program.extend(attributes::steps(heard != Heard::Devices));
    }
    if heard != Heard::Devices {
        let all = PATHS.into_iter().chain(PATHS_OF_OLD).chain(names::CALLS).chain(names::CALLS_OF_OLD);
        for call in all {
            program.extend([is(call, 1), give(libc::SECCOMP_RET_USER_NOTIF)]);
        }
        PATHS_BY_FLAG.iter().for_each(|rule| program.extend(by_flag(rule)));
        program.extend(with_path(libc::SYS_utimensat, 1));
        if neighbours {
            program.extend(neighbours::steps(NUMBER, ARGUMENTS));
        }
        if objects {
            program.extend(ipc::steps());
        }
        // Its flags lie in memory; everybody has a way without it.
        let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
        program.extend([is(libc::SYS_openat2, 1), give(absent)]);
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Heard if there is a path in the argument; without one it is about a descriptor.
fn with_path(call: libc::c_long, argument: u32) -> [sock_filter; 7] {
    [
        is(call, 6),
        load(argument),
        step(EQUAL, 0, 3, 0),
        step(LOAD, 0, 0, ARGUMENTS + 8 * argument + 4),
        step(EQUAL, 0, 1, 0),
        give(libc::SECCOMP_RET_ALLOW),
        give(libc::SECCOMP_RET_USER_NOTIF),
    ]
}

/// A call of another architecture as it is here; nothing for one that only another
/// part's filter hears of.
pub(super) fn translated(foreign: &Notification) -> Option<Notification> {
    let call = match foreign.call {
        FOREIGN_CHROOT => libc::SYS_chroot,
        other => attributes::own_number(other)?,
    };
    Some(Notification { call, foreign: false, ..*foreign })
}

/// Whether the filter for [`Heard::Paths`] lets this call pass for a flag of it;
/// another part's filter may hear of it all the same.
pub(super) fn passes_by_flag(call: libc::c_long, arguments: [u64; 6]) -> bool {
    let rules = DEVICES.iter().chain(&DEVICES_OF_OLD).chain(&PATHS_BY_FLAG);
    rules.into_iter().any(|rule| match rule {
        Rule::Without(own, argument, bits) => *own == call && has(arguments, *argument, *bits),
        Rule::With(own, argument, bits) => *own == call && !has(arguments, *argument, *bits),
    })
}

fn has(arguments: [u64; 6], argument: u32, bits: i32) -> bool {
    arguments[argument as usize] & u64::from(bits.cast_unsigned()) != 0
}

fn by_flag(rule: &Rule) -> [sock_filter; 5] {
    let (call, argument, bits, if_set, if_not) = match rule {
        Rule::Without(call, argument, bits) => {
            (*call, *argument, *bits, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF)
        }
        Rule::With(call, argument, bits) => {
            (*call, *argument, *bits, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW)
        }
    };
    [
        is(call, 4),
        step(LOAD, 0, 0, ARGUMENTS + 8 * argument),
        step(ANY_BIT, 0, 1, bits.cast_unsigned()),
        give(if_set),
        give(if_not),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers to one call, as the kernel would run it.
    fn run(program: &[sock_filter], call: libc::c_long, arguments: [u32; 6]) -> u32 {
        run_on(OWN, program, call, arguments)
    }

    fn run_on(architecture: u32, program: &[sock_filter], call: libc::c_long, arguments: [u32; 6]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                LOAD if step.k == NUMBER => value = u32::try_from(call).unwrap(),
                LOAD if step.k == ARCHITECTURE => value = architecture,
                LOAD => value = arguments[usize::try_from((step.k - ARGUMENTS) / 8).unwrap()],
                EQUAL => at += usize::from(if value == step.k { step.jt } else { step.jf }),
                ANY_BIT => at += usize::from(if value & step.k != 0 { step.jt } else { step.jf }),
                AT_LEAST => at += usize::from(if value >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[track_caller]
    fn check(heard: Heard, call: libc::c_long, arguments: [u32; 6], expected: u32) {
        assert_eq!(
            run(&program(heard, Protections::default()), call, arguments),
            expected,
            "{call} {arguments:?}"
        );
    }

    #[test]
    fn hears_of_devices_and_paths() {
        let (pass, hear) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        for (mode, expected) in
            [(libc::S_IFCHR, hear), (libc::S_IFBLK, hear), (libc::S_IFIFO, pass), (libc::S_IFSOCK, pass)]
        {
            check(Heard::Devices, libc::SYS_mknodat, [0, 0, mode, 0, 0, 0], expected);
        }
        check(Heard::Devices, libc::SYS_openat, [0; 6], pass);
        check(Heard::Paths, libc::SYS_openat, [0; 6], hear);
        check(Heard::Paths, libc::SYS_read, [0; 6], pass);
        let flag = |at: usize, flag: i32| {
            let mut arguments = [0; 6];
            arguments[at] = flag.cast_unsigned();
            arguments
        };
        check(Heard::Paths, libc::SYS_newfstatat, flag(3, libc::AT_EMPTY_PATH), pass);
        check(Heard::Paths, libc::SYS_newfstatat, flag(3, libc::AT_SYMLINK_NOFOLLOW), hear);
        check(Heard::Paths, libc::SYS_fchownat, flag(4, libc::AT_SYMLINK_NOFOLLOW), pass);
        check(Heard::Paths, libc::SYS_fchownat, flag(4, 0), hear);
        check(Heard::Paths, libc::SYS_linkat, flag(4, 0), pass);
        check(Heard::Paths, libc::SYS_linkat, flag(4, libc::AT_SYMLINK_FOLLOW), hear);
        check(Heard::Paths, libc::SYS_utimensat, flag(0, 3), pass);
        check(Heard::Paths, libc::SYS_utimensat, flag(1, 4096), hear);
    }

    #[test]
    fn hears_of_attributes_that_are_long_enough() {
        let (pass, hear) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        let (short, long) = ([0, 0, 0, 33, 0, 0], [0, 0, 0, 34, 0, 0]);
        for heard in [Heard::Devices, Heard::Paths] {
            let of_path = if heard == Heard::Devices { pass } else { hear };
            check(heard, libc::SYS_setxattr, short, of_path);
            check(heard, libc::SYS_fsetxattr, short, pass);
            for call in [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr] {
                check(heard, call, long, hear);
            }
            check(heard, libc::SYS_listxattr, [0; 6], hear);
            check(heard, libc::SYS_flistxattr, [0; 6], pass);
            let program = program(heard, Protections::default());
            assert_eq!(run_on(OWN ^ 1, &program, 226, long), hear);
            assert_eq!(run_on(OWN ^ 1, &program, 226, short), pass);
        }
    }

    /// Where there is no supervisor.
    #[test]
    fn sets_no_long_attribute_unheard() {
        let program = attributes::refusing_program();
        let refused = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.cast_unsigned();
        for (architecture, call) in [(OWN, libc::SYS_fsetxattr), (OWN ^ 1, 228)] {
            assert_eq!(run_on(architecture, &program, call, [0, 0, 0, 34, 0, 0]), refused);
            assert_eq!(run_on(architecture, &program, call, [0, 0, 0, 20, 0, 0]), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(run_on(OWN, &program, libc::SYS_read, [0; 6]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn hears_when_a_foreign_program_changes_its_root() {
        for (heard, expected) in [
            (Heard::Devices, libc::SECCOMP_RET_ALLOW),
            (Heard::Paths, libc::SECCOMP_RET_USER_NOTIF),
            (Heard::Neighbours, libc::SECCOMP_RET_USER_NOTIF),
        ] {
            let program = program(heard, Protections::default());
            assert_eq!(run_on(OWN ^ 1, &program, FOREIGN_CHROOT, [0; 6]), expected, "{heard:?}");
            assert_eq!(run_on(OWN ^ 1, &program, 3, [0; 6]), libc::SECCOMP_RET_ALLOW);
        }
        let foreign = |call| Notification { id: 1, thread: 2, call, foreign: true, arguments: [0; 6] };
        let found = |call| translated(&foreign(call)).map(|found| found.call);
        assert_eq!((found(FOREIGN_CHROOT), found(3)), (Some(libc::SYS_chroot), None));
    }

    #[test]
    fn says_what_it_lets_pass() {
        let fifo = [0, 0, libc::S_IFIFO.into(), 0, 0, 0];
        assert!(passes_by_flag(libc::SYS_mknodat, fifo));
        let device = [0, 0, libc::S_IFBLK.into(), 0, 0, 0];
        assert!(!passes_by_flag(libc::SYS_mknodat, device));
        let itself = [0, 0, 0, 0, libc::AT_SYMLINK_NOFOLLOW as u64, 0];
        assert!(passes_by_flag(libc::SYS_fchownat, itself));
        assert!(!passes_by_flag(libc::SYS_openat, [0; 6]));
    }
}
