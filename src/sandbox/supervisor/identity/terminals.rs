//! Pseudoterminals belong to whoever opened `/dev/ptmx` (pts(4)). They take no
//! record, and the kernel gives them to root: so the supervisor opens it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::Identity;
use super::call::{Call, link};
use super::credentials::Credentials;
use crate::metadata::Record;
use crate::sandbox::raw;
use crate::sandbox::supervisor::Answer;

/// The group `tty`, as devpts is mounted elsewhere.
const GROUP: u32 = 5;

impl Identity {
    /// `multiplexer` is that of the RUN: it is opened by its inode.
    pub(super) fn make_terminal(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        multiplexer: &OwnedFd,
        flags: OFlags,
    ) -> io::Result<Answer> {
        let kept = flags & (OFlags::RDWR | OFlags::WRONLY | OFlags::NONBLOCK);
        let open = kept | OFlags::NOCTTY | OFlags::CLOEXEC;
        let made = rustix::fs::open(link(multiplexer), open, Mode::empty())?;
        let place = super::call::Place {
            directory: nix::libc::AT_FDCWD,
            path: format!("/dev/pts/{}", raw::terminal_number(made.as_fd())?).into(),
        };
        let end = call.find(&place, false)?;
        let record = Record { owner: Some((caller.user.files, GROUP)), ..Record::default() };
        self.loose.put(record, &rustix::fs::fstat(&end)?, end);
        Ok(Answer::Descriptor { fd: made, close_on_exec: flags.contains(OFlags::CLOEXEC) })
    }
}
