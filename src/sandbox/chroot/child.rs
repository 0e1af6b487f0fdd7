//! The last stretch before the program: into the root, out of every right,
//! and the listener of its system calls to the stub.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use caps::{CapSet, Capability, CapsHashSet};
use nix::libc;
use nix::sys::prctl;
use nix::unistd;

use crate::sandbox::child::{
    CAPABILITIES, confine, detach, execute, limit_capabilities, set_ids, set_surroundings,
};
use crate::sandbox::message::{Failure, Message, send};
use crate::sandbox::mounts::open_path;
use crate::sandbox::protections::Protection;
use crate::sandbox::spec::{Root, RunSpec};
use crate::sandbox::supervisor::{self, Heard};
use crate::sandbox::{filter, sys, tasks};

/// Of Docker's capabilities these do harm without a namespace around: a second
/// chroot leads out, devices are the host's, packets are the container's.
const DROPPED: [Capability; 5] = [
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETPCAP,
    Capability::CAP_AUDIT_WRITE,
];

/// Becomes the program of `spec`, or tells `channel` why not. The listener goes
/// over `handover`.
pub(super) fn become_program(
    spec: &RunSpec,
    mut channel: UnixStream,
    lifeline: &PipeReader,
    handover: UnixStream,
) -> ! {
    let prepared = prepare(spec, lifeline).and_then(|root| hand_over(spec, &handover, &root));
    drop(handover);
    let failure = match prepared {
        Ok(()) => execute(spec),
        Err(failure) => failure,
    };
    // If the builder is gone nobody wants to know.
    let _ = send(&mut channel, &Message::Failed(failure));
    sys::exit_now(125)
}

fn prepare(spec: &RunSpec, lifeline: &PipeReader) -> Result<OwnedFd, Failure> {
    let Root::Plain(path) = &spec.root else {
        return Err(Failure::new("enter", "the root", &io::ErrorKind::Unsupported.into()));
    };
    let failed = |error: io::Error| Failure::new("change the root to", path, &error);
    let root = open_path(path).map_err(failed)?;
    tasks::limit_users(spec).map_err(|error| Failure::new("limit", "the tasks of the RUN", &error))?;
    set_surroundings(spec)?;
    unistd::fchdir(&root).and_then(|()| unistd::chroot(".")).map_err(|errno| failed(errno.into()))?;
    unistd::chdir("/").map_err(|errno| failed(errno.into()))?;
    unistd::chdir(&spec.cwd)
        .map_err(|errno| Failure::new("change to directory", &spec.cwd, &errno.into()))?;
    take_rights(spec, &root)?;
    detach(lifeline, spec.protections).map_err(|error| Failure::new("detach", "the process", &error))?;
    Ok(root)
}

/// Without CAP_SYS_ADMIN filter and Landlock need no_new_privs.
fn take_rights(spec: &RunSpec, root: &OwnedFd) -> Result<(), Failure> {
    if spec.protections.keep(Protection::NoNewPrivileges) {
        prctl::set_no_new_privs()
            .map_err(|errno| Failure::new("set no_new_privs for", "the process", &errno.into()))?;
    }
    confine(spec, Some(root.as_fd())).map_err(|error| Failure::new("confine to", "the root", &error))?;
    if spec.protections.keep(Protection::Seccomp) {
        filter::install().map_err(|error| Failure::new("install", "the seccomp filter", &error))?;
    }
    if !spec.protections.keep(Protection::Capabilities) {
        return set_ids(spec).map_err(|error| Failure::new("become", "the user", &error));
    }
    let kept: CapsHashSet =
        CAPABILITIES.into_iter().filter(|capability| !DROPPED.contains(capability)).collect();
    let bits = kept.iter().fold(0, |bits, capability| bits | capability.bitmask());
    match sys::limit_bounding_set(bits) {
        // Without CAP_SETPCAP the set stays; no_new_privs lets nobody gain from it.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        other => other.map_err(|error| Failure::new("limit", "the capability bounding set", &error))?,
    }
    set_ids(spec)
        .map_err(|error| Failure::new("become user", format!("{}:{}", spec.uid, spec.gid), &error))?;
    let failed = |error| Failure::new("drop", "capabilities", &io::Error::other(error));
    // What the container lacks, a RUN lacks too.
    let held = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let kept = if spec.uid == 0 { kept.intersection(&held).copied().collect() } else { CapsHashSet::new() };
    limit_capabilities(&kept).map_err(failed)
}

/// Installs the supervised filter and sends its listener away. Where that is
/// refused, which the probe told, the RUN goes without.
fn hand_over(spec: &RunSpec, handover: &UnixStream, root: &OwnedFd) -> Result<(), Failure> {
    supervisor::give(handover, root.as_fd(), Heard::Neighbours, spec.protections, false)
        .map_err(|error| Failure::new("hand over", "the listener", &error))
}
