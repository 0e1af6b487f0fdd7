//! Why a rung, or a part of one, cannot be had here: one line that names the
//! call, the error, the cause and the smallest change that cures it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Rung;

/// One thing the kernel, or something around it, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rung that needed it.
    pub rung: Rung,
    /// The call that failed, as `clone(CLONE_NEWUSER)`.
    pub call: String,
    /// What the kernel answered; 0 when the call was not even possible.
    pub errno: i32,
    /// Why, as far as can be told.
    pub cause: String,
    /// What to change, as little as possible.
    pub change: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rung, self.call)?;
        if self.errno != 0 {
            write!(f, " failed with {}", errno_name(self.errno))?;
        }
        write!(f, ": {}; {}", self.cause, self.change)
    }
}

impl Refusal {
    /// The name of the error, as `EPERM`; none when the call was not even possible.
    pub fn error(&self) -> Option<String> {
        (self.errno != 0).then(|| errno_name(self.errno))
    }
}

/// `EPERM` for 1, and so on.
fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// What a probe tried, in the order it tried it. Goes over a pipe from the
/// probing child, so it is data only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Attempt {
    /// clone(2) with CLONE_NEWUSER.
    UserNamespace,
    /// Writing the id map ourselves.
    WriteMap,
    /// set*id and setgroups to 0.
    BecomeRoot,
    /// clone(2) with the mount, pid, ipc and uts flags.
    Namespaces,
    /// Making `/` recursively slave.
    Slave,
    /// A bind mount on the state volume.
    Bind,
    /// pivot_root(2) into it.
    PivotRoot,
    /// Detaching the old root.
    Detach,
    /// Moving the new root over the old one, and chroot(2).
    MoveRoot,
    /// overlayfs with `userxattr` on the state volume.
    Overlay,
    /// A new /proc.
    Proc,
    /// clone(2) with CLONE_NEWNET.
    Network,
    /// openat2(2), with which a supervisor finds what a RUN names.
    Walk,
    /// A seccomp filter with a listener, and an answer over it.
    Listener,
    /// Writing the timer slack of a supervised task.
    Mark,
    /// Reading its memory.
    Memory,
    /// chroot(2), which a RUN may want to use itself.
    Chroot,
}

impl Attempt {
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::UserNamespace => "clone(CLONE_NEWUSER)",
            Self::WriteMap => "write to uid_map",
            Self::BecomeRoot => "setresuid(0)",
            Self::Namespaces => "clone(CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWIPC|CLONE_NEWUTS)",
            Self::Slave => "mount(MS_SLAVE)",
            Self::Bind => "mount(MS_BIND)",
            Self::PivotRoot => "pivot_root",
            Self::Detach => "umount2(MNT_DETACH)",
            Self::MoveRoot => "mount(MS_MOVE) and chroot",
            Self::Overlay => "mount(overlay)",
            Self::Proc => "mount(proc)",
            Self::Network => "clone(CLONE_NEWNET)",
            Self::Walk => "openat2(RESOLVE_IN_ROOT)",
            Self::Listener => "seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)",
            Self::Mark => "write to /proc/PID/timerslack_ns",
            Self::Memory => "process_vm_readv",
            Self::Chroot => "chroot",
        }
    }
}

/// What the kernel says about this process that explains a refusal; read from
/// `/proc/self/status` once, so that the explanation itself stays pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// `NoNewPrivs: 1`.
    pub(super) no_new_privileges: bool,
    /// `Seccomp: 2`.
    pub(super) seccomp: bool,
}

impl Circumstances {
    pub(super) fn parse(status: &str) -> Self {
        let value = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Self { no_new_privileges: value("NoNewPrivs") == Some("1"), seccomp: value("Seccomp") == Some("2") }
    }
}

/// Explains why `attempt` failed with `errno`.
pub(super) fn explain(attempt: Attempt, errno: i32, around: Circumstances) -> Refusal {
    let (cause, change) = cause(attempt, errno, around);
    Refusal {
        rung: Rung::Namespaces,
        call: attempt.call().to_owned(),
        errno,
        cause: cause.to_owned(),
        change: change.to_owned(),
    }
}

fn cause(attempt: Attempt, errno: i32, around: Circumstances) -> (&'static str, &'static str) {
    use nix::libc::{EACCES, EBUSY, EINVAL, ENOSPC, ENOSYS, EPERM};
    match (attempt, errno) {
        (Attempt::Listener, EBUSY) => {
            ("something already supervises this container", "run the build container without a seccomp agent")
        }
        (Attempt::Listener | Attempt::Walk, EPERM | ENOSYS) if around.seccomp => (
            "the container's seccomp profile refuses it",
            "run the build container with `seccomp=unconfined`, or a profile that allows seccomp and openat2",
        ),
        (Attempt::Mark | Attempt::Memory, EACCES | EPERM) => (
            "a security module (Yama, SELinux, AppArmor) forbids looking into one's own children",
            "set `sysctl kernel.yama.ptrace_scope` to 2 or less on the node",
        ),
        (Attempt::UserNamespace | Attempt::Namespaces | Attempt::Network, ENOSPC) => (
            "the node forbids user namespaces (user.max_*_namespaces is 0 or used up)",
            "raise `sysctl user.max_user_namespaces` on the node",
        ),
        (Attempt::UserNamespace | Attempt::Namespaces | Attempt::Network, EPERM) if around.seccomp => (
            "the container's seccomp profile refuses user namespaces",
            "run the build container with `seccomp=unconfined`, or a profile that allows clone and mount",
        ),
        (Attempt::UserNamespace, EPERM) => (
            "the node forbids user namespaces to ordinary users",
            "set `sysctl kernel.unprivileged_userns_clone=1` on the node",
        ),
        (Attempt::WriteMap, EPERM) => (
            "the container lacks a capability that mapping ids needs (SETUID, SETGID, SETFCAP)",
            "give the build container those capabilities, or run it as an ordinary user with subordinate ids",
        ),
        (Attempt::Overlay, EINVAL) => (
            "the state directory lies on overlayfs, or the kernel is older than 5.11",
            "mount a volume at the state directory",
        ),
        (Attempt::Proc, EPERM) => {
            ("parts of /proc are masked here", "nothing need be done: a supervisor serves /proc instead")
        }
        (Attempt::Slave | Attempt::Bind | Attempt::Overlay | Attempt::Proc, EACCES | EPERM) => (
            "AppArmor or SELinux forbids mounts in a user namespace",
            "run the build container with `apparmor=unconfined` (or `label=disable`), or set \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on the node",
        ),
        (Attempt::PivotRoot | Attempt::Detach | Attempt::Chroot, EPERM) if around.seccomp => (
            "the container's seccomp profile refuses it",
            "run the build container with `seccomp=unconfined`, or a profile that allows it",
        ),
        _ => ("the kernel, or a security module, refused it", "see the kernel's log on the node"),
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{EACCES, EINVAL, ENOSPC, EPERM};

    use super::*;

    #[track_caller]
    fn check(attempt: Attempt, errno: i32, seccomp: bool, expected: &str) {
        let around = Circumstances { seccomp, no_new_privileges: false };
        let text = explain(attempt, errno, around).to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn names_the_cause() {
        check(Attempt::UserNamespace, EPERM, true, "seccomp profile refuses user namespaces");
        check(Attempt::UserNamespace, EPERM, false, "failed with EPERM: the node forbids");
        check(Attempt::UserNamespace, ENOSPC, true, "user.max_user_namespaces");
        check(Attempt::Bind, EACCES, false, "AppArmor or SELinux");
        check(Attempt::Overlay, EINVAL, false, "mount a volume");
    }

    #[test]
    fn reads_the_status_file() {
        let around = Circumstances::parse("Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n");
        assert_eq!(around, Circumstances { no_new_privileges: true, seccomp: true });
    }
}
