//! The get and set calls of users and groups.

use std::io;

use nix::libc;

use super::Identity;
use super::call::Call;
use super::credentials::{Credentials, Ids, MOST_GROUPS, Whose};
use crate::sandbox::supervisor::Answer;

impl Identity {
    pub(super) fn ids(&self, call: &Call<'_>) -> io::Result<Answer> {
        let own = self.caller(call);
        let value = |id: u32| Ok(Answer::Value(id.into()));
        let [first, second, third] = [0, 1, 2].map(|number| call.int(number));
        match call.notification.call {
            libc::SYS_getuid => value(own.user.real),
            libc::SYS_geteuid => value(own.user.effective),
            libc::SYS_getgid => value(own.group.real),
            libc::SYS_getegid => value(own.group.effective),
            libc::SYS_getresuid => tell_three(call, own.user),
            libc::SYS_getresgid => tell_three(call, own.group),
            libc::SYS_getgroups => tell_groups(call, &own.groups),
            libc::SYS_setuid => self.change(call, own.set(Whose::User, first)),
            libc::SYS_setgid => self.change(call, own.set(Whose::Group, first)),
            libc::SYS_setreuid => self.change(call, own.set_pair(Whose::User, first, second)),
            libc::SYS_setregid => self.change(call, own.set_pair(Whose::Group, first, second)),
            libc::SYS_setresuid => self.change(call, own.set_three(Whose::User, [first, second, third])),
            libc::SYS_setresgid => self.change(call, own.set_three(Whose::Group, [first, second, third])),
            libc::SYS_setfsuid => self.change_files(call, own.set_files(Whose::User, first), own.user),
            libc::SYS_setfsgid => self.change_files(call, own.set_files(Whose::Group, first), own.group),
            libc::SYS_setgroups => self.change_groups(call, &own),
            _ => Ok(Answer::GoOn),
        }
    }

    /// Gives the caller what it asked for, or the error it gets.
    pub(super) fn change(&self, call: &Call<'_>, new: Result<Credentials, i32>) -> io::Result<Answer> {
        let new = match new {
            Ok(new) => new,
            Err(errno) => return Ok(Answer::Error(errno)),
        };
        if new != *self.caller(call) {
            call.still_there()?;
            if let Err(error) = self.table.give(call.thread(), new) {
                // Never the kernel's own answer: it would be a success for 0.
                return Ok(Answer::Error(error.raw_os_error().unwrap_or(libc::EAGAIN)));
            }
        }
        Ok(Answer::Value(0))
    }

    fn change_files(&self, call: &Call<'_>, new: Credentials, old: Ids) -> io::Result<Answer> {
        match self.change(call, Ok(new))? {
            Answer::Value(_) => Ok(Answer::Value(old.files.into())),
            other => Ok(other),
        }
    }

    fn change_groups(&self, call: &Call<'_>, own: &Credentials) -> io::Result<Answer> {
        let count = call.int(0) as usize;
        if count > MOST_GROUPS {
            return Ok(Answer::Error(libc::EINVAL));
        }
        match call.read_numbers(call.long(1), count) {
            Ok(groups) => self.change(call, own.set_groups(groups)),
            Err(_) => Ok(Answer::Error(libc::EFAULT)),
        }
    }
}

fn tell_three(call: &Call<'_>, ids: Ids) -> io::Result<Answer> {
    for (number, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        if call.write_numbers(call.long(number), &[id]).is_err() {
            return Ok(Answer::Error(libc::EFAULT));
        }
    }
    Ok(Answer::Value(0))
}

fn tell_groups(call: &Call<'_>, groups: &[u32]) -> io::Result<Answer> {
    let room = call.int(0).cast_signed();
    let count = groups.len();
    let fits = usize::try_from(room).is_ok_and(|room| room == 0 || room >= count);
    if !fits {
        return Ok(Answer::Error(libc::EINVAL));
    }
    if room != 0 && call.write_numbers(call.long(1), groups).is_err() {
        return Ok(Answer::Error(libc::EFAULT));
    }
    Ok(Answer::Value(i64::try_from(count).unwrap_or(0)))
}
