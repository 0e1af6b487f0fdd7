//! The rung `mounts`: mount(2) works here, and no user namespace is to be had.
//!
//! That is a container with CAP_SYS_ADMIN: a pod with users of its own and that
//! capability added, or `--cap-add SYS_ADMIN`. RUN is as on `namespaces`: the
//! same namespaces but for the users, the same mounts, Docker's 14 capabilities.
//! The builder is the process that asked; there is nothing to enter.
//!
//! Real root can make device nodes, so that no mount a RUN can write to lets
//! devices be opened (`nodev`); a node made there is a node in the layer and
//! no more. overlayfs gets `userxattr` here too: it turns redirects and
//! metacopy off by itself, and reads the marks our trees carry.

use std::path::Path;

use nix::libc;

use super::probe::{self, Report, Trial};
use super::refusal::{Attempt, Circumstances, explain};
use super::{Refusal, Rung};

/// Tries everything a RUN needs, in children of this process.
///
/// # Errors
/// The first thing it cannot do without.
pub(super) fn probe(scratch: &Path, around: Circumstances) -> Result<Report, Refusal> {
    let mut report = Report::default();
    probe::probe(scratch, Trial::Mounts, &mut report);
    match report.failure() {
        Some((attempt, errno)) => Err(explain_mounts(attempt, errno, around)),
        None if report.is_complete() => Ok(report),
        None => Err(explain_mounts(Attempt::Namespaces, 0, around)),
    }
}

/// Explains why `attempt` failed with `errno` outside a user namespace.
pub(super) fn explain_mounts(attempt: Attempt, errno: i32, around: Circumstances) -> Refusal {
    let (cause, change) = match (attempt, errno) {
        (Attempt::Namespaces | Attempt::Slave | Attempt::Network, libc::EPERM) => (
            "mount(2) needs CAP_SYS_ADMIN, which this container does not have",
            "add the capability SYS_ADMIN to the build container, best in a pod with `hostUsers: false`",
        ),
        (Attempt::Slave | Attempt::Bind | Attempt::Overlay | Attempt::Proc, libc::EACCES | libc::EPERM) => (
            "AppArmor or SELinux forbids mounts in this container",
            "run the build container with `apparmor=unconfined` (or `label=disable`)",
        ),
        _ => return Refusal { rung: Rung::Mounts, ..explain(attempt, errno, around) },
    };
    let (cause, change) = (cause.to_owned(), change.to_owned());
    Refusal { rung: Rung::Mounts, call: attempt.call().to_owned(), errno, cause, change }
}

#[cfg(test)]
mod tests {
    use nix::libc::{EACCES, EINVAL, EPERM};

    use super::*;

    #[track_caller]
    fn check(attempt: Attempt, errno: i32, expected: &str) {
        let text = explain_mounts(attempt, errno, Circumstances::default()).to_string();
        assert!(text.starts_with("mounts: ") && text.contains(expected), "{text}");
    }

    #[test]
    fn names_the_cause() {
        check(Attempt::Namespaces, EPERM, "add the capability SYS_ADMIN");
        check(Attempt::Bind, EACCES, "AppArmor or SELinux");
        check(Attempt::Overlay, EINVAL, "mount a volume");
    }
}
