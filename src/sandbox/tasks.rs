//! How many tasks (processes and threads) the kernel gives a RUN, where it can be
//! told: the backstop behind the count of the stub ([`chroot::Limits`](super::chroot)),
//! which a busy machine makes late.
//!
//! Two limits, and neither is everywhere. A pid namespace has a highest number
//! since Linux 6.14, for everybody in it. RLIMIT_NPROC counts by user and user
//! namespace since Linux 5.14, but never binds the machine's root.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;

use super::idmap::IdMap;
use super::mounts::link;
use super::protections::Protection;
use super::spec::RunSpec;
use super::target::Rooted;

/// As many processes as a RUN may have at once; more end it with an error that
/// says so.
pub(super) const MOST_PROCESSES: usize = 4096;

/// Above that, so that the clear error comes first wherever it comes in time.
const MOST_TASKS: u64 = 2 * MOST_PROCESSES as u64;

/// From the first process of a new pid namespace, while its /proc can be written.
/// Older kernels have one number for the machine, which is not ours to change.
pub(super) fn limit_numbers(rooted: &mut Rooted) -> io::Result<()> {
    let own = rooted.protections.keep(Protection::Processes);
    if !own || !rooted.protections.keep(Protection::TaskLimit) || !since(6, 14) {
        return Ok(());
    }
    let Some(highest) = rooted.find("/proc/sys/kernel/pid_max")? else { return Ok(()) };
    match fs::write(link(&highest), MOST_TASKS.to_string()) {
        // It is the container's /proc, bound, and read-only there.
        Err(error) if is_refusal(&error) => Ok(()),
        other => other,
    }
}

/// Of the user of this process, and of those that it becomes; unless `--ulimit` says
/// another number. While the outer /proc is in view.
pub(super) fn limit_users(spec: &RunSpec) -> io::Result<()> {
    let asked = spec.ulimits.iter().any(|limit| limit.is_of(Resource::RLIMIT_NPROC));
    // In the initial user namespace others' processes would count, and the
    // machine's root is not bound in any.
    if asked || !spec.protections.keep(Protection::TaskLimit) || !since(5, 14) || is_machines_root()? {
        return Ok(());
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
    Ok(setrlimit(Resource::RLIMIT_NPROC, soft.min(MOST_TASKS), hard.min(MOST_TASKS))?)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Whether root here is the machine's, in whatever user namespace. While the outer
/// /proc is in view.
pub(super) fn is_machines_root() -> io::Result<bool> {
    let map = IdMap::current()?;
    Ok(map.uids.iter().any(|range| range.inside == 0 && range.outside == 0))
}

/// Whether the kernel is at least this one. Asked, where trying would do harm.
fn since(major: u32, minor: u32) -> bool {
    uname().is_ok_and(|name| version(&name.release().to_string_lossy()) >= Some((major, minor)))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_a_kernel() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.14.0-427.el9"), Some((5, 14)));
        assert!(version("4.4.0") < Some((5, 14)) && version("6.2.1") < Some((6, 14)));
        assert_eq!(version("nonsense"), None);
    }
}
