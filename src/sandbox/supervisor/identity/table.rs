//! Which credentials a task has: a number that lies on the task itself.
//!
//! Credentials are inherited at fork and exec, by threads of their own, and
//! the supervisor hears of neither: supervising fork makes it fail with EINTR.
//! So the number lies where the kernel copies it along, in the timer slack of
//! each task (prctl(2), PR_SET_TIMERSLACK), above the usual 50 microseconds.
//! Others cannot write it without CAP_SYS_NICE, and the filter takes the call
//! away from the task itself; one that writes its own file in /proc fools
//! nobody but itself: what a RUN believes to be is no border of anything.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use super::credentials::Credentials;

/// In nanoseconds; the usual one, and the number 0.
pub(in crate::sandbox) const FIRST: u64 = 50_000;

/// More different ones than that no program has; each is a nanosecond of delay.
const MOST: usize = 50_000;

/// All credentials that were met in a RUN, by number. None is ever forgotten:
/// a task that has one may sleep as long as it likes.
pub(super) struct Table(Mutex<Known>);

struct Known {
    by_number: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, usize>,
}

impl Table {
    pub(super) fn new(initial: Credentials) -> Self {
        let initial = Arc::new(initial);
        let numbers = HashMap::from([(Arc::clone(&initial), 0)]);
        Self(Mutex::new(Known { by_number: vec![initial], numbers }))
    }

    /// Of the task `thread`. What cannot be told is as it was at first.
    pub(super) fn of(&self, thread: i32) -> Arc<Credentials> {
        let first = {
            let known = self.known();
            // Most RUNs never change them: then there is nothing to ask.
            if known.by_number.len() == 1 {
                return Arc::clone(&known.by_number[0]);
            }
            Arc::clone(&known.by_number[0])
        };
        let number = slack(thread).ok().and_then(|slack| slack.checked_sub(FIRST));
        let number = number.and_then(|number| usize::try_from(number).ok());
        let found = number.and_then(|number| self.known().by_number.get(number).cloned());
        found.unwrap_or(first)
    }

    /// Gives credentials to a task that waits for an answer.
    pub(super) fn give(&self, thread: i32, credentials: Credentials) -> io::Result<()> {
        let number = self.number(credentials)?;
        let slack = FIRST + number as u64;
        fs::write(slack_path(thread), slack.to_string())
    }

    fn number(&self, credentials: Credentials) -> io::Result<usize> {
        let mut known = self.known();
        if let Some(number) = known.numbers.get(&credentials) {
            return Ok(*number);
        }
        let number = known.by_number.len();
        if number >= MOST {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let credentials = Arc::new(credentials);
        known.by_number.push(Arc::clone(&credentials));
        known.numbers.insert(credentials, number);
        Ok(number)
    }

    /// A panic elsewhere leaves the table whole.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that leads no process has this file too, though /proc does not list it.
pub(in crate::sandbox) fn slack_path(thread: i32) -> String {
    format!("/proc/{thread}/timerslack_ns")
}

pub(in crate::sandbox) fn slack(thread: i32) -> io::Result<u64> {
    let text = fs::read_to_string(slack_path(thread))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Whose;
    use super::*;

    #[test]
    fn equal_credentials_have_one_number() {
        let first = Credentials::initial(0, 0, &[], 1 << 7);
        let other = first.set(Whose::User, 7).unwrap();
        let table = Table::new(first.clone());
        assert_eq!(table.number(first.clone()).unwrap(), 0);
        assert_eq!(table.number(other.clone()).unwrap(), 1);
        assert_eq!(table.number(other).unwrap(), 1);
        // This process carries no number of a table.
        assert_eq!(*table.of(std::process::id().cast_signed()), first);
    }
}
