//! Taking calls from the kernel and giving it the answers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Answer;
use crate::sandbox::raw::{self, Notification};

/// One of the things a supervisor does.
pub(super) trait Part: Send + Sync {
    /// `None`: another part may know, or else the kernel. What may take long, or
    /// wait for another call, ends its `turn` first.
    fn answer(&self, listener: &OwnedFd, notification: &Notification, turn: &mut Turn<'_>) -> Option<Answer>;
}

impl<P: Part> Part for Arc<P> {
    fn answer(&self, listener: &OwnedFd, notification: &Notification, turn: &mut Turn<'_>) -> Option<Answer> {
        self.as_ref().answer(listener, notification, turn)
    }
}

/// The right to wait for calls. A call wakes all that wait, so only one does; it
/// keeps that right while it answers what is answered at once, which is nearly
/// everything.
pub(super) struct Turn<'a> {
    of: &'a Mutex<()>,
    held: Option<MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    fn take(&mut self) {
        if self.held.is_none() {
            // A panic elsewhere leaves nothing behind.
            self.held = Some(self.of.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Another thread waits for calls from now on.
    pub(super) fn end(&mut self) {
        self.held = None;
    }
}

/// Takes calls, asks the parts in turn, and answers.
pub(super) struct Office {
    listener: Arc<OwnedFd>,
    parts: Vec<Box<dyn Part>>,
    turn: Mutex<()>,
}

impl Office {
    pub(super) fn new(listener: Arc<OwnedFd>, parts: Vec<Box<dyn Part>>) -> Self {
        Self { listener, parts, turn: Mutex::default() }
    }

    /// Until nobody is left who could call; on kernels that do not tell (before
    /// 6.11) until this process ends.
    pub(super) fn serve(&self) {
        let mut turn = Turn { of: &self.turn, held: None };
        loop {
            turn.take();
            // Not poll(2) first: every moment before a call is taken is one in
            // which a signal interrupts it.
            let notification = match raw::next_notification(self.listener.as_fd()) {
                Ok(notification) => notification,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                // Withdrawn by a signal, or nobody is left.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !self.is_over() => continue,
                Err(_) => return,
            };
            let known =
                self.parts.iter().find_map(|part| part.answer(&self.listener, &notification, &mut turn));
            let answer = known.unwrap_or(Answer::GoOn);
            // A caller that was killed meanwhile wants no answer.
            let _ = self.give(&notification, answer);
        }
    }

    fn is_over(&self) -> bool {
        let mut watched = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::ZERO) {
            Ok(_) => watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)),
            Err(_) => false,
        }
    }

    fn give(&self, notification: &Notification, answer: Answer) -> io::Result<()> {
        let (listener, id) = (self.listener.as_fd(), notification.id);
        match answer {
            Answer::GoOn => raw::go_on(listener, id),
            Answer::ChangeIds(traced) => {
                let gone_on = raw::go_on(listener, id);
                traced.make_dumpable();
                gone_on
            }
            Answer::Value(value) => raw::answer(listener, id, Ok(value)),
            Answer::Error(errno) => raw::answer(listener, id, Err(errno)),
            Answer::Descriptor { fd, close_on_exec } => {
                match raw::answer_with(listener, id, fd, close_on_exec) {
                    // The caller has no place for another one.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::EBADF)) => {
                        raw::answer(listener, id, Err(libc::EMFILE))
                    }
                    other => other,
                }
            }
        }
    }
}
