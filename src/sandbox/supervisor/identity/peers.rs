//! Who is at the other end of a unix socket: `SO_PEERCRED` (unix(7)), by which
//! databases let users in.

use std::fs;
use std::io;

use nix::libc;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::Identity;
use super::call::{Call, errno};
use crate::sandbox::supervisor::Answer;

/// `struct ucred`: process, user, group.
const LENGTH: u32 = 12;

impl Identity {
    /// The kernel names the process; who it is, is known here. It is asked for
    /// what it is now, which is what it was when it connected, as a rule.
    pub(super) fn peer(&self, call: &Call<'_>) -> io::Result<Answer> {
        let room = call.read_numbers(call.long(4), 1)?;
        if room[0] < LENGTH {
            return Ok(Answer::GoOn);
        }
        let process = number(call.thread(), "Tgid:")?;
        let process = Pid::from_raw(process).ok_or_else(|| errno(libc::ESRCH))?;
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let socket = pidfd_getfd(&process, call.int(0).cast_signed(), PidfdGetfdFlags::empty())?;
        call.still_there()?;
        let peer = socket_peercred(&socket)?.pid.as_raw_nonzero().get();
        let credentials = self.table.of_other(peer);
        // As the caller's own pid namespace numbers it.
        let shown = number(peer, "NSpid:")?.cast_unsigned();
        let answer = [shown, credentials.user.effective, credentials.group.effective];
        let written = call
            .write_numbers(call.long(3), &answer)
            .and_then(|()| call.write_numbers(call.long(4), &[LENGTH]));
        Ok(match written {
            Ok(()) => Answer::Value(0),
            Err(_) => Answer::Error(libc::EFAULT),
        })
    }
}

/// The last number behind `name` in the status of a task.
pub(super) fn number(thread: i32, name: &str) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    number.ok_or_else(|| errno(libc::ESRCH))
}
