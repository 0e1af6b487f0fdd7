//! What the first process does once the builder runs: it hands signals on and
//! ends as the builder ended.

use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::sys;

/// What is handed on.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals held back until somebody reads them; none is lost while the child starts.
pub(super) struct Signals {
    source: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Holds back everything that is forwarded, and the news of children.
    pub(super) fn hold() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in FORWARDED {
            set.add(signal);
        }
        set.add(Signal::SIGCHLD);
        Self::hold_set(&set)
    }

    /// Holds back the request to end, and the news of children.
    pub(super) fn hold_end() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGCHLD);
        Self::hold_set(&set)
    }

    fn hold_set(set: &SigSet) -> io::Result<Self> {
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(set), Some(&mut before))?;
        Ok(Self { source: SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC)?, before })
    }

    /// Lets signals through again, as they were.
    pub(super) fn release(self) -> io::Result<()> {
        Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None)?)
    }

    /// The next one, and whether the kernel itself sent it.
    fn next(&self) -> Option<(i32, bool)> {
        let news = self.source.read_signal().ok().flatten()?;
        Some((news.ssi_signo.cast_signed(), news.ssi_code == nix::libc::SI_KERNEL))
    }

    /// Like [`Signals::wait_for`], and orphans that came to this process (a
    /// child subreaper) are not left as zombies.
    pub(super) fn reap_until(
        &self,
        child: Pid,
        other: &mut dyn FnMut(Signal, bool),
    ) -> io::Result<WaitStatus> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) => {
                    if pid == child {
                        return Ok(status);
                    }
                    continue;
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                // A child that the supervisor traces for a moment stopped.
                Ok(_) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some((number, from_kernel)) = self.next()
                && let Ok(signal) = Signal::try_from(number)
                && signal != Signal::SIGCHLD
            {
                other(signal, from_kernel);
            }
        }
    }

    /// Waits for `child`, giving every other signal to `other`.
    pub(super) fn wait_for(&self, child: Pid, other: &mut dyn FnMut(Signal, bool)) -> io::Result<WaitStatus> {
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => return Ok(status),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some((number, from_kernel)) = self.next()
                && let Ok(signal) = Signal::try_from(number)
                && signal != Signal::SIGCHLD
            {
                other(signal, from_kernel);
            }
        }
    }
}

/// Stays outside until `builder` ends, and ends the same way.
pub(super) fn supervise(builder: Pid, signals: &Signals) -> ! {
    // This process holds the whole environment; nobody of the same user may
    // look into it, and it leaves no core file. The call cannot fail.
    let _ = prctl::set_dumpable(false);
    let status = signals.wait_for(builder, &mut |signal, from_kernel| {
        // A terminal gives its interrupt to the whole process group, builder
        // included: forwarding it would interrupt twice.
        if !(from_kernel && matches!(signal, Signal::SIGINT | Signal::SIGQUIT)) {
            // The builder may have ended just now; the next wait tells.
            let _ = kill(builder, signal);
        }
    });
    match status {
        Ok(WaitStatus::Exited(_, code)) => sys::exit_now(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => sys::die_by(signal as i32),
        _ => sys::exit_now(1),
    }
}
