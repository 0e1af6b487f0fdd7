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
    by_number: Vec<Held>,
    numbers: HashMap<Held, usize>,
}

/// Credentials, and for those that exec would change the program image they
/// were taken on in: whether it succeeds is not heard of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    credentials: Arc<Credentials>,
    image: Option<u64>,
    /// What they become with the next image, if that gives something.
    promised: Option<Arc<Credentials>>,
}

impl Held {
    fn new(credentials: Credentials, image: Option<u64>) -> Self {
        Self { credentials: Arc::new(credentials), image, promised: None }
    }

    /// What they are by now, if the task executes another image.
    fn new_in(&self, task: &str) -> Option<Credentials> {
        let before = self.image?;
        let is_other = image(task).is_ok_and(|now| now != before);
        let new = || self.promised.as_deref().cloned().unwrap_or_else(|| self.credentials.after_exec());
        is_other.then(new)
    }
}

impl Table {
    pub(super) fn new(initial: Credentials) -> Self {
        let initial = Held::new(initial, None);
        let numbers = HashMap::from([(initial.clone(), 0)]);
        Self(Mutex::new(Known { by_number: vec![initial], numbers }))
    }

    /// Of the task `thread`, which waits for an answer. What cannot be told is
    /// as it was at first.
    pub(super) fn of(&self, thread: i32) -> Arc<Credentials> {
        let task = format!("/proc/{thread}");
        let held = self.held(&task);
        match held.new_in(&task) {
            Some(new) => {
                // If that fails it is worked out again at the next call.
                let _ = self.give(thread, new.clone());
                Arc::new(new)
            }
            None => held.credentials,
        }
    }

    /// Of another task, which goes on meanwhile.
    pub(super) fn of_other(&self, thread: i32) -> Arc<Credentials> {
        self.behind(&format!("/proc/{thread}"))
    }

    /// Of the task whose directory of a /proc this is.
    pub(super) fn behind(&self, task: &str) -> Arc<Credentials> {
        let held = self.held(task);
        held.new_in(task).map_or(held.credentials, Arc::new)
    }

    /// Whether all tasks have the first ones.
    pub(super) fn is_simple(&self) -> bool {
        self.known().by_number.len() == 1
    }

    fn held(&self, task: &str) -> Held {
        let first = {
            let known = self.known();
            // Most RUNs never change them: then there is nothing to ask.
            if known.by_number.len() == 1 {
                return known.by_number[0].clone();
            }
            known.by_number[0].clone()
        };
        let number = slack_of(task).ok().and_then(|slack| slack.checked_sub(FIRST));
        let number = number.and_then(|number| usize::try_from(number).ok());
        let found = number.and_then(|number| self.known().by_number.get(number).cloned());
        found.unwrap_or(first)
    }

    /// Gives credentials to a task that waits for an answer.
    pub(super) fn give(&self, thread: i32, credentials: Credentials) -> io::Result<()> {
        let image = if credentials.after_exec() == credentials {
            None
        } else {
            Some(image(&format!("/proc/{thread}"))?)
        };
        self.mark(thread, Held::new(credentials, image))
    }

    /// Gives `next` to a task that waits to execute a program, for when it does.
    pub(super) fn promise(&self, thread: i32, now: Credentials, next: Credentials) -> io::Result<()> {
        let promised = Some(Arc::new(next));
        self.mark(thread, Held { promised, ..Held::new(now, Some(image(&format!("/proc/{thread}"))?)) })
    }

    fn mark(&self, thread: i32, held: Held) -> io::Result<()> {
        let number = self.number(held)?;
        fs::write(slack_path(thread), (FIRST + number as u64).to_string())
    }

    fn number(&self, held: Held) -> io::Result<usize> {
        let mut known = self.known();
        if let Some(number) = known.numbers.get(&held) {
            return Ok(*number);
        }
        let number = known.by_number.len();
        if number >= MOST {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        known.by_number.push(held.clone());
        known.numbers.insert(held, number);
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
    slack_of(&format!("/proc/{thread}"))
}

fn slack_of(task: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("{task}/timerslack_ns"))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Where the stack of the program began: another place after each exec, since
/// the kernel picks it by chance, and the same after fork (proc_pid_stat(5)).
fn image(task: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("{task}/stat"))?;
    // The 28th field; the second may hold anything, and ends with `)`.
    let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(25)?.parse().ok());
    start.ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let held = |credentials: &Credentials| Held::new(credentials.clone(), None);
        assert_eq!(table.number(held(&first)).unwrap(), 0);
        assert_eq!(table.number(held(&other)).unwrap(), 1);
        assert_eq!(table.number(held(&other)).unwrap(), 1);
        // This process carries no number of a table.
        assert_eq!(*table.of(std::process::id().cast_signed()), first);
    }

    #[test]
    fn an_image_lasts_until_exec() {
        let own = image("/proc/self").unwrap();
        assert_eq!(image(&format!("/proc/{}", std::process::id())).unwrap(), own);
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let other = image(&format!("/proc/{}", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(other, own);
    }
}
