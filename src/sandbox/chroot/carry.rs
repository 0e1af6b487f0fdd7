//! The stub of this rung: starts the RUN, supervises it, and leaves nothing of it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, Pid};

use super::child::become_program;
use super::limits::{Limits, end_all};
use crate::sandbox::message::{Failure, Order, receive};
use crate::sandbox::protections::Protection;
use crate::sandbox::spec::{Exit, RunSpec};
use crate::sandbox::stub::{ended, settle};
use crate::sandbox::supervisor::{self, Objects};
use crate::sandbox::sys::{self, Side};

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
    let limits = Limits::of(&spec).map_err(failed)?;
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
    let objects = Arc::new(Objects::default());
    let supervisor = supervise(&spec, &ours, &objects);
    if supervisor.is_err() {
        // It may be dead already.
        let _ = kill(child, Signal::SIGKILL);
    }
    drop(spec);
    let watch = limits.watch(child).map_err(failed)?;
    let status = signals.reap_until(child, &mut |_, _| {
        // Asked to end, by the builder or by its death.
        let _ = kill(child, Signal::SIGKILL);
    });
    if protections.keep(Protection::KillAll) {
        kill_descendants().map_err(|error| Failure::new("end", "what the RUN left running", &error))?;
    }
    objects.remove_all();
    drop(tether);
    supervisor?;
    if let Some(passed) = watch.passed() {
        return Err(passed);
    }
    ended(status)
}

/// Nothing when the child has no listener, because it failed or because
/// listeners are refused here.
fn supervise(spec: &RunSpec, handover: &UnixStream, objects: &Arc<Objects>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("start", "the supervisor", &error);
    let Some(handover) = supervisor::take(handover).map_err(failed)? else { return Ok(()) };
    let parts = supervisor::Parts::of_chroot(spec, Arc::clone(objects)).map_err(failed)?;
    supervisor::start(handover, parts).map_err(failed)
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
