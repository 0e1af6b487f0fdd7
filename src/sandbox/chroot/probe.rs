//! Trying what the rung `chroot` needs, in a child, on the state volume.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use nix::libc;
use nix::sys::prctl;
use nix::sys::wait::waitpid;
use nix::unistd::{self, Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::sandbox::raw::{self, SCOPES_SINCE};
use crate::sandbox::sys::{self, Side};
use crate::sandbox::{Refusal, Rung};

/// Any id that is not ours: files and processes must be able to have it.
const STRANGER: u32 = 42;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Attempt {
    Chown,
    Chroot,
    NoNewPrivileges,
    Landlock,
    Scopes,
    Listener,
    Groups,
    Ids,
}

impl Attempt {
    const OPTIONAL: [Self; 3] = [Self::Landlock, Self::Scopes, Self::Listener];

    fn call(self) -> &'static str {
        match self {
            Self::Chown => "chown to 42",
            Self::Chroot => "chroot",
            Self::NoNewPrivileges => "prctl(PR_SET_NO_NEW_PRIVS)",
            Self::Landlock => "landlock_create_ruleset",
            Self::Scopes => "landlock_create_ruleset(scoped)",
            Self::Listener => "seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)",
            Self::Groups => "setgroups",
            Self::Ids => "setresuid(42)",
        }
    }
}

/// The inner error is why the rung cannot be had; the inner value is what it
/// has to do without.
///
/// # Errors
/// When no child can be made to try.
pub(in crate::sandbox) fn probe(scratch: &Path) -> io::Result<Result<Vec<Refusal>, Refusal>> {
    let (mut reader, mut writer) = io::pipe()?;
    let tried: Vec<(Attempt, i32)> = match sys::clone_process(0)? {
        Side::Child => {
            let mut tried = Vec::new();
            try_all(scratch, &mut tried);
            let written = serde_json::to_vec(&tried).map_err(io::Error::from);
            let written = written.and_then(|text| writer.write_all(&text));
            sys::exit_now(i32::from(written.is_err()))
        }
        Side::Parent(child) => {
            drop(writer);
            let mut text = Vec::new();
            reader.read_to_end(&mut text)?;
            waitpid(child, None)?;
            serde_json::from_slice(&text)?
        }
    };
    let failed = tried.into_iter().filter(|(_, errno)| *errno != 0);
    let (optional, needed): (Vec<_>, Vec<_>) =
        failed.partition(|(attempt, _)| Attempt::OPTIONAL.contains(attempt));
    if let Some((attempt, errno)) = needed.first() {
        return Ok(Err(explain(*attempt, *errno)));
    }
    Ok(Ok(optional.into_iter().map(|(attempt, errno)| explain(attempt, errno)).collect()))
}

fn try_all(scratch: &Path, tried: &mut Vec<(Attempt, i32)>) {
    let mut note = |attempt, result: io::Result<()>| {
        let errno = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        tried.push((attempt, errno));
        errno == 0
    };
    let entered = note(Attempt::Chown, try_chown(scratch))
        && note(Attempt::Chroot, unistd::chroot(scratch).map_err(io::Error::from))
        && note(Attempt::NoNewPrivileges, prctl::set_no_new_privs().map_err(io::Error::from));
    if !entered {
        return;
    }
    let version = sys::landlock_version();
    let scopes = version.as_ref().is_ok_and(|version| *version < SCOPES_SINCE);
    note(Attempt::Landlock, version.map(drop));
    if scopes {
        note(Attempt::Scopes, Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
    }
    note(Attempt::Listener, try_listener());
    let _ = note(Attempt::Groups, unistd::setgroups(&[Gid::from_raw(STRANGER)]).map_err(io::Error::from))
        && note(Attempt::Ids, try_ids());
}

fn try_chown(scratch: &Path) -> io::Result<()> {
    let file = scratch.join("owned");
    fs::write(&file, "")?;
    chown(&file, Some(STRANGER), Some(STRANGER))?;
    if fs::metadata(&file)?.uid() != STRANGER {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}

fn try_ids() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
    unistd::setresgid(gid, gid, gid)?;
    Ok(unistd::setresuid(uid, uid, uid)?)
}

/// A filter that lets everything pass, but has a listener.
fn try_listener() -> io::Result<()> {
    const RETURN: u16 = 0x06;
    let allow = seccompiler::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    raw::install_listener(&[allow]).map(drop)
}

fn explain(attempt: Attempt, errno: i32) -> Refusal {
    let (cause, change) = match (attempt, errno) {
        (Attempt::Landlock, _) => (
            "this kernel has no Landlock: NOT PROTECTED are the builder's files, which a RUN that breaks out \
             of its root can read and write, and its processes, which a RUN as root can end",
            "use a node with Linux 5.13 or later and Landlock enabled, or build trusted Dockerfiles only",
        ),
        (Attempt::Scopes, _) => (
            "Landlock is older than Linux 6.12 here: NOT PROTECTED are the processes of the build container, \
             which a RUN as root can end, and its abstract unix sockets",
            "use a node with Linux 6.12 or later, or build trusted Dockerfiles only",
        ),
        (Attempt::Listener, libc::EBUSY) => (
            "something already supervises this container, so that RUN has neither /proc nor served devices",
            "run the build container without a seccomp agent",
        ),
        (Attempt::Listener, _) => (
            "the container's seccomp profile refuses listeners, so that RUN has neither /proc nor served \
             devices",
            "use a profile that allows seccomp(2), as Docker's default does",
        ),
        (Attempt::Chown | Attempt::Groups | Attempt::Ids, libc::EPERM | libc::EINVAL) => (
            "the build container does not run as root with the usual capabilities",
            "run the build container as root, with CHOWN, SETUID, SETGID, DAC_OVERRIDE and FOWNER",
        ),
        (Attempt::Chroot, libc::EPERM) => (
            "the build container lacks CAP_SYS_CHROOT",
            "give the build container the capability SYS_CHROOT, which is among Docker's defaults",
        ),
        _ => ("the kernel, or a security module, refused it", "see the kernel's log on the node"),
    };
    refusal(attempt.call(), errno, cause, change)
}

/// Why overlay storage is out of the question here.
pub(in crate::sandbox) fn no_overlay() -> Refusal {
    let cause = "the rung `chroot` has no mounts";
    refusal("mount(overlay)", 0, cause, "leave the choice of the storage to coracle")
}

fn refusal(call: &str, errno: i32, cause: &str, change: &str) -> Refusal {
    Refusal {
        rung: Rung::Chroot,
        call: call.to_owned(),
        errno,
        cause: cause.to_owned(),
        change: change.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(attempt: Attempt, errno: i32, expected: &str) {
        let text = explain(attempt, errno).to_string();
        assert!(text.starts_with("chroot: ") && text.contains(expected), "{text}");
    }

    #[test]
    fn names_the_cause() {
        check(Attempt::Landlock, libc::ENOSYS, "NOT PROTECTED are the builder's files");
        check(Attempt::Scopes, libc::EOPNOTSUPP, "NOT PROTECTED are the processes");
        check(Attempt::Listener, libc::EBUSY, "already supervises");
        check(Attempt::Listener, libc::EPERM, "profile refuses listeners");
        check(Attempt::Chown, libc::EPERM, "as root");
        check(Attempt::Chroot, libc::EPERM, "SYS_CHROOT");
    }
}
