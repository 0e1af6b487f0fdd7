//! The stub of this rung: starts the RUN, supervises it, and leaves nothing of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, Pid};

use super::child::become_program;
use crate::sandbox::message::{Failure, Order, receive};
use crate::sandbox::protections::Protection;
use crate::sandbox::spec::{Exit, Root, RunSpec};
use crate::sandbox::stub::settle;
use crate::sandbox::supervisor;
use crate::sandbox::sys::{self, Side};

/// As many processes as a RUN may have at once.
const MOST_PROCESSES: usize = 4096;

/// So many more tasks on the machine are worth a look at ours.
const NEWS: usize = 256;

/// Without such news it is every so many looks.
const SELDOM: u32 = 20;

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Carries one RUN to its end.
pub(in crate::sandbox) fn carry_order(channel: &mut UnixStream) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::new("set up", "the process", &error);
    let order: Order =
        receive(channel).map_err(|error| Failure::new("read", "the order of the builder", &error))?;
    let builder = Pid::from_raw(order.builder);
    let (signals, lifeline, tether) = settle(builder, order.protections).map_err(failed)?;
    // Orphans of the RUN come to this process, where they are found and killed.
    prctl::set_child_subreaper(true).map_err(|errno| failed(errno.into()))?;
    let spec = order.into_spec();
    let protections = spec.protections;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = match sys::clone_process(0).map_err(failed)? {
        Side::Child => {
            drop((tether, ours));
            match channel.try_clone() {
                Ok(channel) => become_program(&spec, channel, &lifeline, theirs),
                Err(_) => sys::exit_now(125),
            }
        }
        Side::Parent(child) => child,
    };
    drop((lifeline, theirs));
    let supervisor = supervise(&spec, &ours);
    if supervisor.is_err() {
        // It may be dead already.
        let _ = kill(child, Signal::SIGKILL);
    }
    drop(spec);
    if protections.keep(Protection::ProcessLimit) {
        watch_processes(child).map_err(failed)?;
    }
    let status = signals.reap_until(child, &mut |_, _| {
        // Asked to end, by the builder or by its death.
        let _ = kill(child, Signal::SIGKILL);
    });
    if protections.keep(Protection::KillAll) {
        kill_descendants().map_err(|error| Failure::new("end", "what the RUN left running", &error))?;
    }
    drop(tether);
    supervisor?;
    match status {
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Exit::Signal(signal as i32)),
        Ok(WaitStatus::Exited(_, code)) => Ok(Exit::Code(code)),
        Ok(_) => Ok(Exit::Code(125)),
        Err(error) => Err(Failure::new("wait for", "the program", &error)),
    }
}

/// Nothing when the child has no listener, because it failed or because
/// listeners are refused here.
fn supervise(spec: &RunSpec, handover: &UnixStream) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("start", "the supervisor", &error);
    let Root::Plain(root) = &spec.root else { return Ok(()) };
    match receive_descriptor(handover).map_err(failed)? {
        Some(listener) => supervisor::Parts::of(spec, root)
            .and_then(|parts| supervisor::start(listener, parts))
            .map_err(failed),
        None => Ok(()),
    }
}

/// What came over `channel`; nothing if its other end closed.
pub(in crate::sandbox) fn receive_descriptor(channel: &UnixStream) -> io::Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptors)
}

/// Until none is left: a process that forks meanwhile is met at the next look.
fn kill_descendants() -> io::Result<()> {
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
            }
        }
        end_all(unistd::getpid())?;
        thread::sleep(Duration::from_millis(1));
    }
}

fn end_all(root: Pid) -> io::Result<()> {
    let mut groups = BTreeSet::from([unistd::getpgrp().as_raw()]);
    for pid in descendants(root)? {
        // A whole group at once: what forks faster than we look cannot leave
        // it. Either may have ended just now.
        if let Ok(group) = unistd::getpgid(Some(pid))
            && groups.insert(group.as_raw())
        {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = kill(pid, Signal::SIGKILL);
    }
    Ok(())
}

/// RLIMIT_NPROC does not bind root: a RUN that has started more processes than
/// any build needs is ended, before the machine is.
pub(in crate::sandbox) fn watch_processes(child: Pid) -> io::Result<()> {
    let stub = unistd::getpid();
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        // The number of all tasks is one small file, and it is everybody's; ours
        // are counted when that is large enough and has grown, or at times.
        let (mut seen, mut looks) = (0, 0_u32);
        while kill(child, None).is_ok() {
            let now = tasks().unwrap_or(usize::MAX);
            seen = now.min(seen);
            looks = looks.wrapping_add(1);
            if now > MOST_PROCESSES && (now > seen.saturating_add(NEWS) || looks % SELDOM == 0) {
                seen = now;
                if descendants(stub).is_ok_and(|found| found.len() > MOST_PROCESSES) {
                    // Nobody is left to tell but the exit status.
                    let _ = end_all(stub);
                }
            }
            thread::sleep(LOOK);
        }
    })?;
    Ok(())
}

/// Processes and threads on this machine: the fourth field of proc_loadavg(5).
fn tasks() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let total = text.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    total.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Everybody below `root`, by a look at the parents of all.
fn descendants(root: Pid) -> io::Result<Vec<Pid>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root.as_raw()];
    let mut looked = 0;
    while let Some(above) = found.get(looked).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        looked += 1;
    }
    found.remove(0);
    Ok(found.into_iter().map(Pid::from_raw).collect())
}

/// The fourth field of proc_pid_stat(5); the second may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_parent_behind_any_name() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 0"), Some(7));
        assert_eq!(parent("12 nonsense"), None);
    }
}
