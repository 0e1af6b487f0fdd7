//! The stub: this program executed again for one RUN.
//!
//! It comes from a sealed copy of the executable in memory, so that nothing a
//! RUN does to `/proc/PID/exe` reaches the file on the host (CVE-2019-5736),
//! and with an empty environment, so that no copy of the builder's memory
//! comes near a RUN. Its order comes over the socket that is its stdin.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{self, Pid};

use super::child::become_program;
use super::chroot::Limits;
use super::linked::Followed;
use super::message::{Failure, FailureKind, Message, Order, receive, send};
use super::probe::RUN_NAMESPACES;
use super::protections::{Protection, Protections};
use super::spec::{Exit, RunSpec};
use super::supervise::Signals;
use super::supervisor::{self, Parts};
use super::sys::{self, Side};
use super::{chroot, single};

/// What the stub is called, and its only argument.
pub(super) const NAME: &str = "coracle-run";
pub(super) const MARKER: &str = "--coracle-run-stub";

/// To be called first by every program that uses the sandbox, with its whole
/// argument vector: when this process is the re-executed stub it carries one
/// RUN to its end and gives the exit code of the process; otherwise nothing.
pub fn stub(arguments: &[OsString]) -> Option<u8> {
    match arguments {
        [name, marker] if name == NAME && marker == MARKER => Some(carry(carry_order)),
        [name, marker] if name == NAME && marker == single::MARKER => Some(carry(carry_single)),
        [name, marker] if name == NAME && marker == chroot::MARKER => Some(carry(chroot::carry_order)),
        _ => None,
    }
}

fn carry(order: fn(&mut UnixStream) -> Result<Exit, Failure>) -> u8 {
    let Ok(channel) = io::stdin().as_fd().try_clone_to_owned() else { return 125 };
    let mut channel = UnixStream::from(channel);
    let message = match order(&mut channel) {
        Ok(exit) => exit.into(),
        Err(failure) => Message::Failed(failure),
    };
    u8::from(send(&mut channel, &message).is_err())
}

fn carry_order(channel: &mut UnixStream) -> Result<Exit, Failure> {
    carry_namespaces(channel, false)
}

/// Where one id exists the supervisor keeps owners and users.
fn carry_single(channel: &mut UnixStream) -> Result<Exit, Failure> {
    carry_namespaces(channel, true)
}

fn carry_namespaces(channel: &mut UnixStream, one_id: bool) -> Result<Exit, Failure> {
    let order: Order =
        receive(channel).map_err(|error| Failure::new("read", "the order of the builder", &error))?;
    let builder = Pid::from_raw(order.builder);
    let (signals, lifeline, tether) =
        settle(builder, order.protections).map_err(|error| Failure::new("set up", "the process", &error))?;
    let mut spec = order.into_spec();
    let failed = |error: io::Error| Failure::new("set up", "the process", &error);
    if one_id {
        single::make_key(&mut spec).map_err(failed)?;
    }
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = match clone_for(&spec)? {
        Side::Child => {
            drop((tether, ours));
            let channel = channel.try_clone();
            match channel {
                Ok(channel) => become_program(&spec, channel, &lifeline, theirs, one_id),
                Err(_) => sys::exit_now(125),
            }
        }
        Side::Parent(child) => child,
    };
    drop((lifeline, theirs));
    let followed = Followed::open(spec.root.linked(), &ours)
        .map_err(|error| Failure::new("follow", "the linked files of the layers below", &error));
    // It may be dead already when it is killed; alive it would be waited for.
    if followed.is_err() {
        let _ = kill(child, Signal::SIGKILL);
    }
    let supervisor = supervise(&spec, &ours, one_id);
    if supervisor.is_err() {
        let _ = kill(child, Signal::SIGKILL);
    }
    let limits = Limits::of_processes(spec.protections);
    drop(spec);
    let watch = limits
        .and_then(|limits| limits.watch(child))
        .map_err(|error| Failure::new("watch", "the processes of the RUN", &error))?;
    let status = signals.wait_for(child, &mut |_, _| {
        // Asked to end, by the builder or by its death: pid 1 takes all with
        // it. It may have ended by itself just now.
        let _ = kill(child, Signal::SIGKILL);
    });
    drop(tether);
    supervisor?;
    if let Some(passed) = watch.passed() {
        return Err(passed);
    }
    if let Some(followed) = followed? {
        followed.note().map_err(|error| Failure::new("save", "the linked files of the RUN", &error))?;
    }
    ended(status)
}

/// How the program ended, as its parent was told.
pub(super) fn ended(status: io::Result<WaitStatus>) -> Result<Exit, Failure> {
    match status {
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Exit::Signal(signal as i32)),
        Ok(WaitStatus::Exited(_, code)) => Ok(Exit::Code(code)),
        Ok(_) => Ok(Exit::Code(125)),
        Err(error) => Err(Failure::new("wait for", "the program", &error)),
    }
}

/// Nothing when the child failed before, or no listener can be had here.
fn supervise(spec: &RunSpec, handover: &UnixStream, one_id: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("start", "the supervisor", &error);
    let Some(handover) = supervisor::take(handover).map_err(failed)? else { return Ok(()) };
    let parts = if one_id { single::parts(spec).map_err(failed)? } else { Parts::of_mounts(spec) };
    supervisor::start(handover, parts).map_err(failed)
}

/// Out of sight for a RUN, and bound to the builder's life.
pub(super) fn settle(
    builder: Pid,
    protections: Protections,
) -> io::Result<(Signals, io::PipeReader, io::PipeWriter)> {
    prctl::set_dumpable(!protections.keep(Protection::Undumpable))?;
    prctl::set_name(c"coracle-run")?;
    let signals = Signals::hold_end()?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if unistd::getppid() != builder {
        sys::exit_now(125);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let (lifeline, tether) = io::pipe()?;
    Ok((signals, lifeline, tether))
}

fn clone_for(spec: &RunSpec) -> Result<Side, Failure> {
    let own = |protection, flag| if spec.protections.keep(protection) { 0 } else { flag };
    let shared = own(Protection::Processes, libc::CLONE_NEWPID) | own(Protection::Ipc, libc::CLONE_NEWIPC);
    let network = spec.network_none && spec.protections.keep(Protection::Network);
    let network = if network { libc::CLONE_NEWNET } else { 0 };
    sys::clone_process((RUN_NAMESPACES & !shared) | network).map_err(|error| {
        let failure = Failure::new("make", "the namespaces", &error);
        let kind = if spec.network_none { FailureKind::Network } else { FailureKind::Prepare };
        Failure { kind, ..failure }
    })
}
