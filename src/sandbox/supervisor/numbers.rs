//! How a RUN counts its processes: as this process does, or, in a pid namespace
//! of its own, from 1.
//!
//! Where the kernel gives a RUN no /proc of its own, the outer one is served to
//! it: names and contents are translated here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use super::task::{Identity, is_of_run};

/// Which numbers a RUN sees.
#[derive(Clone)]
pub(super) enum Numbers {
    /// The same as we.
    Ours,
    /// Its own; the table has ours by them, and may be out of date.
    Own(Arc<Mutex<HashMap<i32, i32>>>),
}

impl Numbers {
    /// Whether RUN and we count differently.
    pub(super) fn differ(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// What a RUN calls the process or thread that is `ours` to us.
    pub(super) fn shown(&self, ours: i32) -> io::Result<i32> {
        match self {
            Self::Ours => Ok(ours),
            Self::Own(_) => Ok(Identity::of(ours)?.shown),
        }
    }

    /// The process of the RUN that it calls `shown`.
    ///
    /// # Errors
    /// `ENOENT` when there is none.
    pub(super) fn ours(&self, shown: i32) -> io::Result<i32> {
        let Self::Own(table) = self else {
            return if is_of_run(shown) { Ok(shown) } else { Err(absent()) };
        };
        let is_it = |ours: &i32| {
            Identity::of(*ours).is_ok_and(|found| found.shown == shown && found.process == *ours)
                && is_of_run(*ours)
        };
        // A panic elsewhere leaves the table whole.
        let known = table.lock().unwrap_or_else(PoisonError::into_inner).get(&shown).copied();
        if let Some(ours) = known.filter(is_it) {
            return Ok(ours);
        }
        let fresh: HashMap<i32, i32> = processes()?
            .into_iter()
            .filter_map(|(ours, shown)| is_of_run(ours).then_some((shown, ours)))
            .collect();
        let found = fresh.get(&shown).copied().ok_or_else(absent);
        *table.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        found
    }

    /// All processes of the RUN, by our numbers, where they are not its own.
    pub(super) fn all(&self) -> io::Result<Vec<i32>> {
        Ok(processes()?.into_iter().map(|(ours, _)| ours).filter(|ours| is_of_run(*ours)).collect())
    }

    /// The thread of `process` (ours) that a RUN calls `shown`.
    pub(super) fn thread(&self, process: i32, shown: i32) -> io::Result<i32> {
        let threads = || {
            let entries = fs::read_dir(format!("/proc/{process}/task"))?;
            io::Result::Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
        };
        match self {
            Self::Ours => threads()?.find(|thread: &i32| *thread == shown),
            Self::Own(_) => threads()?.find(|thread| self.shown(*thread).is_ok_and(|found| found == shown)),
        }
        .ok_or_else(absent)
    }

    /// `stat` and `status` with the numbers of the RUN.
    pub(super) fn translate(&self, name: &str, text: &str, thread: i32) -> io::Result<String> {
        let own = Own::of(thread)?;
        let parent = if is_of_run(own.parent) { self.shown(own.parent).unwrap_or(0) } else { 0 };
        Ok(match name {
            "stat" => stat(text, &own, parent),
            _ => status(text, &own, parent),
        })
    }
}

/// All processes that have a number of their own: ours, theirs.
fn processes() -> io::Result<Vec<(i32, i32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(ours) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(identity) = Identity::of(ours)
            && identity.shown != ours
        {
            found.push((ours, identity.shown));
        }
    }
    Ok(found)
}

/// The innermost numbers of a task, and the outer one of its parent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Own {
    group: i32,
    task: i32,
    process_group: i32,
    session: i32,
    parent: i32,
}

impl Own {
    fn of(thread: i32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{thread}/status"))?))
    }

    fn parse(status: &str) -> Self {
        let mut own = Self::default();
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let last = || value.split_whitespace().last().and_then(|text| text.parse().ok()).unwrap_or(0);
            match name {
                "PPid" => own.parent = last(),
                "NStgid" => own.group = last(),
                "NSpid" => own.task = last(),
                "NSpgid" => own.process_group = last(),
                "NSsid" => own.session = last(),
                _ => {}
            }
        }
        own
    }
}

/// proc_pid_stat(5): number, name in parentheses, state, parent, process
/// group, session, terminal, foreground group.
fn stat(text: &str, own: &Own, parent: i32) -> String {
    let Some((name, rest)) = text.rsplit_once(") ") else { return String::new() };
    let name = name.split_once(' ').map_or("", |(_, name)| name);
    let mut fields: Vec<String> = rest.trim_end().split(' ').map(str::to_owned).collect();
    for (place, number) in [(1, parent), (2, own.process_group), (3, own.session)] {
        if let Some(field) = fields.get_mut(place) {
            *field = number.to_string();
        }
    }
    // Whose it is cannot be told from here: a group in the foreground is its own.
    if let Some(field) = fields.get_mut(5).filter(|field| *field != "-1") {
        *field = own.process_group.to_string();
    }
    format!("{} {name}) {}\n", own.task, fields.join(" "))
}

/// The lines of proc_pid_status(5) that have numbers of processes.
fn status(text: &str, own: &Own, parent: i32) -> String {
    let line = |line: &str| {
        let number = match line.split_once(':').map(|(name, _)| name) {
            Some("Tgid" | "NStgid") => own.group,
            Some("Pid" | "NSpid") => own.task,
            Some("NSpgid") => own.process_group,
            Some("NSsid") => own.session,
            Some("PPid") => parent,
            Some("Ngid" | "TracerPid") => 0,
            _ => return format!("{line}\n"),
        };
        format!("{}:\t{number}\n", line.split_once(':').map_or("", |(name, _)| name))
    };
    text.lines().map(line).collect()
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nTgid:\t910\nNgid:\t0\nPid:\t911\nPPid:\t900\nTracerPid:\t5\n\
        Uid:\t0\t0\t0\t0\nNStgid:\t910\t10\nNSpid:\t911\t11\nNSpgid:\t900\t3\nNSsid:\t900\t2\n";

    #[test]
    fn translates_what_a_process_is_told_about_itself() {
        let own = Own::parse(STATUS);
        assert_eq!(own, Own { group: 10, task: 11, process_group: 3, session: 2, parent: 900 });
        let expected = "Name:\tsh\nTgid:\t10\nNgid:\t0\nPid:\t11\nPPid:\t1\nTracerPid:\t0\n\
            Uid:\t0\t0\t0\t0\nNStgid:\t10\nNSpid:\t11\nNSpgid:\t3\nNSsid:\t2\n";
        assert_eq!(status(STATUS, &own, 1), expected);
        let line = "911 (a) b (c)) S 900 900 900 34816 900 4194304 7\n";
        assert_eq!(stat(line, &own, 1), "11 (a) b (c)) S 1 3 2 34816 3 4194304 7\n");
    }

    #[test]
    fn the_same_numbers_need_no_table() {
        let numbers = Numbers::Ours;
        assert_eq!(numbers.shown(7).unwrap(), 7);
        assert!(numbers.ours(1).is_err() && !numbers.differ());
        let own = std::process::id().cast_signed();
        assert_eq!(numbers.thread(own, own).unwrap(), own);
        assert!(numbers.thread(own, 1).is_err());
    }
}
