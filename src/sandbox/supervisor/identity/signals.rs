//! kill(2) and its relatives: who may send signals to whom, if users were real.
//!
//! To the kernel all processes of a RUN have the same user. A signal that one
//! process may send and another may not, to a group, is sent from here.

use std::io;

use nix::libc;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Identity;
use super::call::{Call, errno};
use super::credentials::{Credentials, KILL};
use super::peers::number;
use crate::sandbox::supervisor::Answer;

/// Whom a signal is for, by the numbers of the RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Process(i32),
    /// 0 is the caller's own.
    Group(i32),
    Everybody,
    /// A descriptor of a process.
    Descriptor(i32),
}

impl Identity {
    pub(super) fn signal(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        if self.table.is_simple() || caller.can(KILL) {
            return Ok(Answer::GoOn);
        }
        let (to, signal) = request(call)?;
        let process = match to {
            To::Process(shown) if call.is_self(shown.cast_unsigned())? => return Ok(Answer::GoOn),
            To::Process(shown) => self.numbers.ours(shown)?,
            To::Descriptor(fd) => described(call, fd)?,
            To::Group(_) | To::Everybody => return self.signal_many(call, &caller, to, signal),
        };
        Ok(if self.may_signal(call, &caller, process, signal)? {
            Answer::GoOn
        } else {
            Answer::Error(libc::EPERM)
        })
    }

    fn signal_many(&self, call: &Call<'_>, caller: &Credentials, to: To, signal: i32) -> io::Result<Answer> {
        let meant = self.members(call, to)?;
        let mut allowed = Vec::new();
        for process in &meant {
            // One that has ended meanwhile is nobody's.
            if self.may_signal(call, caller, *process, signal).unwrap_or(false) {
                allowed.push(*process);
            }
        }
        if allowed.len() == meant.len() {
            return Ok(Answer::GoOn);
        }
        call.still_there()?;
        allowed.iter().for_each(|process| send(*process, signal));
        // kill(2): to everybody it is a success, if there is anybody.
        let is_done = !allowed.is_empty() || to == To::Everybody;
        Ok(if is_done { Answer::Value(0) } else { Answer::Error(libc::EPERM) })
    }

    fn members(&self, call: &Call<'_>, to: To) -> io::Result<Vec<i32>> {
        let own = number(call.thread(), "Tgid:")?;
        let group = match to {
            To::Group(0) => number(call.thread(), "NSpgid:")?,
            To::Group(group) => group,
            _ => 0,
        };
        let is_member = |process: &i32| match to {
            To::Everybody => *process != own && self.numbers.shown(*process).is_ok_and(|shown| shown > 1),
            _ => number(*process, "NSpgid:").is_ok_and(|found| found == group),
        };
        Ok(self.numbers.all()?.into_iter().filter(is_member).collect())
    }

    /// kill(2), "For a process to have permission".
    fn may_signal(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        process: i32,
        signal: i32,
    ) -> io::Result<bool> {
        if number(call.thread(), "Tgid:")? == process {
            return Ok(true);
        }
        let session = |process| number(process, "NSsid:");
        let continues = || Ok::<_, io::Error>(session(call.thread())? == session(process)?);
        let allowed = may_signal(caller, &self.table.of_other(process));
        Ok(allowed || (signal == libc::SIGCONT && continues()?))
    }
}

fn may_signal(caller: &Credentials, other: &Credentials) -> bool {
    let own = [caller.user.real, caller.user.effective];
    caller.can(KILL) || own.contains(&other.user.real) || own.contains(&other.user.saved)
}

fn request(call: &Call<'_>) -> io::Result<(To, i32)> {
    let int = |argument| call.int(argument).cast_signed();
    let to = match (call.notification.call, int(0)) {
        (libc::SYS_pidfd_send_signal, fd) => To::Descriptor(fd),
        (libc::SYS_kill, -1) => To::Everybody,
        (libc::SYS_kill, group @ ..=0) => To::Group(-group),
        (_, process) => To::Process(process),
    };
    let signal = match call.notification.call {
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => int(2),
        _ => int(1),
    };
    Ok((to, signal))
}

/// The process behind a pidfd, as we number it.
fn described(call: &Call<'_>, fd: i32) -> io::Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", call.thread()))?;
    let found = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    found.filter(|process| *process > 0).ok_or_else(|| errno(libc::ESRCH))
}

/// What has ended meanwhile needs none.
fn send(process: i32, signal: i32) {
    let Some(signal) = Signal::from_named_raw(signal) else { return };
    let process = Pid::from_raw(process).and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok());
    let _ = process.map(|process| pidfd_send_signal(process, signal));
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Whose;
    use super::*;

    #[test]
    fn users_signal_their_own() {
        let [root, alice, bob] = [0, 7, 8].map(|id| Credentials::initial(id, id, &[], 1 << KILL | 1 << 7));
        assert!(may_signal(&root, &alice) && may_signal(&alice, &alice));
        assert!(!may_signal(&alice, &bob) && !may_signal(&alice, &root));
        // Whose effective user is another one may be signalled by its real one.
        let sudo = root.set_three(Whose::User, [7, 0, 0]).unwrap();
        assert!(may_signal(&alice, &sudo) && may_signal(&sudo, &bob));
    }
}
