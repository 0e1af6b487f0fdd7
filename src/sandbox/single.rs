//! The rung `single`: a user namespace, and one id in it.
//!
//! That is an ordinary user for whom newuidmap has no power: no_new_privs, no
//! subordinate ids, or no newuidmap. Mounts, /proc and devices are as on
//! `namespaces`. Owners and users are kept by a supervisor in the stub (the
//! room next door, its part `identity`), so that the image comes out the same.
//!
//! Every process of a RUN is root of its one id to the kernel, with Docker's 14
//! capabilities in a namespace that holds nothing but this id, and no_new_privs.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Pid};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::child::{CAPABILITIES, confine, hand_over, limit_capabilities};
use super::devices::Proc;
use super::message::Failure;
use super::mounts::open_path;
use super::probe::Report;
use super::protections::{Protection, Protections};
use super::refusal::Attempt;
use super::spec::RunSpec;
use super::supervisor::{self, FIRST_SLACK, Handover, Heard, Identity, Parts};
use super::sys::{self, Side};
use super::{filter, raw};
use crate::metadata::{self, Key};

/// What the stub of this rung is told.
pub(super) const MARKER: &str = "--coracle-single-stub";

/// Docker's capabilities as a bit set.
fn bounding() -> u64 {
    CAPABILITIES.iter().fold(0, |bits, capability| bits | capability.bitmask())
}

/// Child and supervisor must know the same key: before the child is made.
pub(super) fn make_key(spec: &mut RunSpec) -> io::Result<()> {
    if spec.record_key.is_none() {
        spec.record_key = Some(Key::generate()?);
    }
    Ok(())
}

/// What the supervisor of `spec` does.
pub(super) fn parts(spec: &RunSpec) -> io::Result<Parts> {
    Ok(Parts::of_single(spec, Identity::of(spec, bounding())?))
}

/// The filters, Docker's capabilities, no_new_privs, and the first credentials.
/// Ids stay: there is no other. The listener is last: from then on the
/// supervisor says what capabilities this process has.
pub(super) fn take_rights(spec: &RunSpec, handover: &UnixStream, proc: Proc) -> Result<(), Failure> {
    confine(spec, None).map_err(|error| Failure::new("confine", "the process", &error))?;
    if spec.protections.keep(Protection::Seccomp) {
        filter::install().map_err(|error| Failure::new("install", "the seccomp filter", &error))?;
    }
    let limited = spec.protections.keep(Protection::Capabilities);
    if limited {
        sys::limit_bounding_set(bounding())
            .map_err(|error| Failure::new("limit", "the capability bounding set", &error))?;
    }
    prctl::set_timerslack(FIRST_SLACK).map_err(|errno| Failure::new("mark", "the process", &errno.into()))?;
    if limited {
        limit_capabilities(&CAPABILITIES.into_iter().collect())
            .map_err(|error| Failure::new("drop", "capabilities", &io::Error::other(error)))?;
    }
    prctl::set_no_new_privs()
        .map_err(|errno| Failure::new("set no_new_privs for", "the process", &errno.into()))?;
    hand_over(spec, handover, proc, true)
}

/// Gives a file away, by its record where the id does not exist.
pub(super) fn own(path: &Path, owner: (u32, u32), key: Option<&Key>) -> io::Result<()> {
    match (chown(path, Some(owner.0), Some(owner.1)), key) {
        (Err(error), Some(key)) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => {
            match metadata::give(File::open(path)?.as_fd(), owner, key) {
                // tmpfs before Linux 6.6: everybody in the RUN may read it anyway.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
                other => other,
            }
        }
        (result, _) => result,
    }
}

/// What the probe's child is answered; no user has it.
const ANSWER: i64 = 0x4242;

/// Lies at the same address in the probe's child.
static MARK: [u8; 8] = *b"coracle\n";

/// Tries what the supervisor does, on a child of this process.
pub(super) fn probe(report: &mut Report) {
    let opened = rustix::fs::openat2(CWD, "/", OFlags::PATH, Mode::empty(), ResolveFlags::IN_ROOT);
    if !report.note(Attempt::Walk, opened.map(drop).map_err(io::Error::from)) {
        return;
    }
    if let Err(error) = supervise_a_child(report) {
        report.note(Attempt::Listener, Err(error));
    }
}

fn supervise_a_child(report: &mut Report) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    match sys::clone_process(0)? {
        Side::Child => {
            drop(ours);
            sys::exit_now(be_supervised(&theirs))
        }
        Side::Parent(child) => {
            drop(theirs);
            let tried = try_child(&ours, child, report);
            // It has ended, or waits for an answer that will not come.
            let _ = kill(child, Signal::SIGKILL);
            waitpid(child, None)?;
            tried
        }
    }
}

/// The exit code says why there is no listener.
fn be_supervised(channel: &UnixStream) -> i32 {
    let code = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    if let Err(errno) = prctl::set_no_new_privs().and_then(|()| prctl::set_timerslack(FIRST_SLACK)) {
        return errno as i32;
    }
    let given = open_path(Path::new("/")).and_then(|root| {
        supervisor::give(channel, root.as_fd(), Heard::Devices, Protections::default(), true)
    });
    match given {
        Ok(()) => i32::from(i64::from(unistd::getuid().as_raw()) != ANSWER),
        Err(error) => code(&error),
    }
}

fn try_child(channel: &UnixStream, child: Pid, report: &mut Report) -> io::Result<()> {
    let Some(Handover { listener, .. }) = supervisor::take(channel)? else {
        let errno = match waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, code) => code,
            _ => libc::EIO,
        };
        return Err(io::Error::from_raw_os_error(errno));
    };
    let mut watched = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if poll(&mut watched, PollTimeout::from(1000_u16))? == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    let notification = raw::next_notification(listener.as_fd())?;
    report.note(Attempt::Listener, Ok(()));
    report.note(Attempt::Mark, try_mark(notification.thread));
    report.note(Attempt::Memory, try_memory(notification.thread));
    raw::answer(listener.as_fd(), notification.id, Ok(ANSWER))
}

fn try_mark(thread: i32) -> io::Result<()> {
    std::fs::write(supervisor::slack_path(thread), (FIRST_SLACK + 1).to_string())?;
    if supervisor::slack(thread)? == FIRST_SLACK + 1 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn try_memory(thread: i32) -> io::Result<()> {
    let mut bytes = [0; MARK.len()];
    let remote = [RemoteIoVec { base: MARK.as_ptr() as usize, len: MARK.len() }];
    let local = &mut [io::IoSliceMut::new(&mut bytes)];
    match process_vm_readv(Pid::from_raw(thread), local, &remote) {
        Ok(_) => {}
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {
            use std::os::unix::fs::FileExt;
            File::open(format!("/proc/{thread}/mem"))?.read_exact_at(&mut bytes, MARK.as_ptr() as u64)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    if bytes == MARK { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
}
