//! Calls that name another process. Signals and tracing end at the RUN's Landlock
//! domain; limits, priorities and processors do not: whoever has the same user
//! may set those of the builder (prlimit(2): RLIMIT_CPU kills it).

use nix::libc;
use seccompiler::sock_filter;

use super::task::is_of_run;
use super::{Answer, Protection, Service};

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Call, and which argument is the process; 0 is the caller itself.
const WITH_PROCESS: [(libc::c_long, u32); 7] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
];

/// The same calls of 32-bit programs, whom nobody answers: they may name
/// themselves (as 0) alone.
#[cfg(target_arch = "x86_64")]
const FOREIGN: [(u32, u32); 7] = [(340, 0), (97, 1), (289, 1), (241, 0), (351, 0), (154, 0), (156, 0)];
#[cfg(target_arch = "aarch64")]
const FOREIGN: [(u32, u32); 7] = [(369, 0), (97, 1), (314, 1), (241, 0), (380, 0), (154, 0), (156, 0)];

/// Everything of a user at once: `PRIO_USER`, `IOPRIO_WHO_USER`.
const OF_USER: [(libc::c_long, u32); 2] = [(libc::SYS_setpriority, 2), (libc::SYS_ioprio_set, 3)];

/// Which process a call names.
pub(super) fn named(call: libc::c_long, arguments: [u64; 6]) -> Option<i32> {
    let (_, argument) = WITH_PROCESS.iter().find(|(number, _)| *number == call)?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads it as 32 bits, too")]
    let process = arguments[*argument as usize] as u32;
    Some(process.cast_signed())
}

/// The steps for them, with the call's number loaded at `number` of
/// `seccomp_data` and arguments from `first` on.
pub(super) fn steps(number: u32, first: u32) -> Vec<sock_filter> {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let small = |call: libc::c_long| u32::try_from(call).expect("system calls have small numbers");
    let mut steps = Vec::new();
    for (call, which) in OF_USER {
        steps.extend([
            step(EQUAL, 0, 4, small(call)),
            step(LOAD, 0, 0, first),
            step(EQUAL, 0, 1, which),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
            step(LOAD, 0, 0, number),
        ]);
    }
    for (call, argument) in WITH_PROCESS {
        steps.extend([
            step(EQUAL, 0, 4, small(call)),
            step(LOAD, 0, 0, first + 8 * argument),
            step(EQUAL, 0, 1, 0),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        ]);
    }
    steps
}

/// The steps for another architecture; they end with a decision.
pub(super) fn foreign_steps(number: u32, first: u32) -> Vec<sock_filter> {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut steps = vec![step(LOAD, 0, 0, number)];
    for (call, argument) in FOREIGN {
        steps.extend([
            step(EQUAL, 0, 4, call),
            step(LOAD, 0, 0, first + 8 * argument),
            step(EQUAL, 0, 1, 0),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            step(RETURN, 0, 0, refused),
        ]);
    }
    steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    steps
}

impl Service {
    /// The builder and all others do not exist.
    pub(super) fn about(&self, process: i32) -> Answer {
        if is_of_run(process) || !self.protections.keep(Protection::Neighbours) {
            return Answer::GoOn;
        }
        Answer::Error(libc::ESRCH)
    }
}
