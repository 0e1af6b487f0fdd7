//! What nothing in the kernel limits: how many processes a RUN of root has, and,
//! on this rung, how much a tmpfs holds that is a directory.
//!
//! A thread of the stub looks again and again. A RUN that passes a limit is
//! ended, and the stub says which it was.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{self, Pid};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::sandbox::message::{Failure, FailureKind};
use crate::sandbox::mounts::open_path;
use crate::sandbox::protections::{Protection, Protections};
use crate::sandbox::spec::{MountSpec, Root, RunSpec};
use crate::sandbox::tasks::MOST_PROCESSES;

/// How often is looked, and how often while there are many new processes.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_CLOSELY: Duration = Duration::from_millis(5);

/// Of the thread that looks, where the kernel lets us: among thousands that all
/// want to run it would hardly have a turn.
const URGENT: i32 = -15;

/// Directories deeper than this are not added up: no program needs them, and
/// each takes a descriptor while it is looked at.
const DEEPEST: usize = 200;

/// The limits of one RUN.
pub(in crate::sandbox) struct Limits {
    /// As many processes as it may have.
    most: usize,
    sizes: Vec<(PathBuf, OwnedFd, u64)>,
}

/// A running look-out.
pub(in crate::sandbox) struct Watch(Arc<Mutex<Option<Failure>>>);

impl Watch {
    /// The limit that was passed first.
    pub(in crate::sandbox) fn passed(&self) -> Option<Failure> {
        // A panic elsewhere leaves the option whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Limits {
    /// Before the RUN: everything lies where it was put.
    pub(super) fn of(spec: &RunSpec) -> io::Result<Self> {
        let mut sizes = Vec::new();
        if let Root::Plain(root) = &spec.root {
            let root = open_path(root)?;
            for mount in &spec.mounts {
                if let MountSpec::Tmpfs { target, size: Some(size), .. } = mount {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                    let directory = rustix::fs::openat2(&root, target, flags, Mode::empty(), resolve)?;
                    sizes.push((target.clone(), directory, *size));
                }
            }
        }
        Ok(Self { most: most(spec.protections), sizes })
    }

    /// Where mounts have sizes: processes alone.
    pub(in crate::sandbox) fn of_processes(protections: Protections) -> io::Result<Self> {
        Ok(Self { most: most(protections), sizes: Vec::new() })
    }

    /// Looks until `child` is gone.
    pub(in crate::sandbox) fn watch(self, child: Pid) -> io::Result<Watch> {
        let stub = unistd::getpid();
        let passed = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&passed);
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let _ = rustix::process::setpriority_process(None, URGENT);
            let mut news = News::default();
            let mut measured = Instant::now();
            let mut took = Duration::ZERO;
            while kill(child, None).is_ok() {
                let mut failure = self.too_many(stub, &mut news);
                // Looking at a large directory must not be all that is done.
                if failure.is_none() && measured.elapsed() >= took * 10 {
                    measured = Instant::now();
                    failure = self.too_full();
                    took = measured.elapsed();
                }
                if let Some(failure) = failure {
                    tell.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                    // Who is left is met at the next look.
                    let _ = end_all(stub);
                }
                thread::sleep(if news.grows { LOOK_CLOSELY } else { LOOK });
            }
        })?;
        Ok(Watch(passed))
    }

    fn too_many(&self, stub: Pid, news: &mut News) -> Option<Failure> {
        if !news.come(self.most) || !has_more(stub, self.most) {
            return None;
        }
        let kind = FailureKind::TooManyProcesses(self.most);
        Some(Failure { kind, action: String::new(), path: PathBuf::new(), errno: 0 })
    }

    fn too_full(&self) -> Option<Failure> {
        self.sizes.iter().find_map(|(target, directory, size)| {
            let used = used(directory.as_fd(), 0).unwrap_or(0);
            let kind = FailureKind::TmpfsFull { used, size: *size };
            (used > *size).then(|| Failure { kind, action: String::new(), path: target.clone(), errno: 0 })
        })
    }
}

/// The number of all tasks of the machine is one small file, and others' come and
/// go in it. So ours are counted when it is large enough for too many, and has
/// grown since they were counted last, or else every so many looks.
#[derive(Default)]
struct News {
    counted_at: usize,
    before: usize,
    grows: bool,
    looks: u32,
}

impl News {
    const GROWS: usize = 16;
    const GROWN: usize = 256;
    const SELDOM: u32 = 20;

    fn come(&mut self, most: usize) -> bool {
        let now = tasks().unwrap_or(usize::MAX);
        self.counted_at = now.min(self.counted_at);
        self.grows = now > self.before.saturating_add(Self::GROWS);
        self.before = now;
        self.looks = self.looks.wrapping_add(1);
        let due =
            now > self.counted_at.saturating_add(Self::GROWN) || self.looks.is_multiple_of(Self::SELDOM);
        let count = now > most && due;
        if count {
            self.counted_at = now;
        }
        count
    }
}

fn most(protections: Protections) -> usize {
    if protections.keep(Protection::ProcessLimit) { MOST_PROCESSES } else { usize::MAX }
}

/// Bytes below a directory as a tmpfs would count them: holes take nothing. A
/// RUN changes it meanwhile, so no link is followed.
pub(super) fn used(directory: BorrowedFd<'_>, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in Dir::read_from(directory)?.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < DEEPEST => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if let Ok(below) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                    bytes += used(below.as_fd(), depth + 1)?;
                }
            }
            FileType::RegularFile => {
                let held = stat.st_blocks.cast_unsigned().saturating_mul(512);
                bytes += held.min(stat.st_size.cast_unsigned());
            }
            _ => {}
        }
    }
    Ok(bytes)
}

/// Kills everybody below `root`.
pub(super) fn end_all(root: Pid) -> io::Result<()> {
    let mut groups = BTreeSet::from([unistd::getpgrp().as_raw()]);
    for pid in descendants(root)? {
        // A whole group at once: what forks faster than we look cannot leave
        // it. Either may have ended just now.
        if let Ok(group) = unistd::getpgid(Some(pid))
            && groups.insert(group.as_raw())
        {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = kill(pid, Signal::SIGKILL);
    }
    Ok(())
}

/// Processes and threads on this machine: the fourth field of proc_loadavg(5).
fn tasks() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let total = text.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    total.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether more than `most` are below `root`. Asks each for its children, and no
/// more of them than needed: a bomb has thousands. Who starts or ends meanwhile
/// is met at the next look.
fn has_more(root: Pid, most: usize) -> bool {
    let mut known = vec![root.as_raw()];
    let mut asked = 0;
    while let Some(parent) = known.get(asked).copied() {
        match children(parent) {
            Ok(children) => known.extend(children),
            // Gone; or a kernel that does not tell.
            Err(_) if asked > 0 => {}
            Err(_) => return descendants(root).is_ok_and(|found| found.len() > most),
        }
        asked += 1;
        if known.len() > most + 1 {
            return true;
        }
    }
    false
}

/// Of all threads of a process (proc_pid_task_tid_children(5)).
fn children(process: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("children"))?;
        found.extend(text.split_ascii_whitespace().filter_map(|number| number.parse::<i32>().ok()));
    }
    Ok(found)
}

/// Everybody below `root`, by a look at the parents of all.
fn descendants(root: Pid) -> io::Result<Vec<Pid>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root.as_raw()];
    let mut looked = 0;
    while let Some(above) = found.get(looked).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        looked += 1;
    }
    found.remove(0);
    Ok(found.into_iter().map(Pid::from_raw).collect())
}

/// The fourth field of proc_pid_stat(5); the second may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_parent_behind_any_name() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 0"), Some(7));
        assert_eq!(parent("12 nonsense"), None);
    }

    #[test]
    fn counts_no_further_than_it_must() {
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let own = unistd::getpid();
        assert!(has_more(own, 0));
        assert!(!has_more(own, 10_000));
        assert!(children(own.as_raw()).unwrap().contains(&child.id().cast_signed()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn adds_up_what_a_tmpfs_would() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/file"), "text").unwrap();
        fs::File::create(directory.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", directory.path().join("link")).unwrap();
        let open = fs::File::open(directory.path()).unwrap();
        assert_eq!(used(open.as_fd(), 0).unwrap(), 4);
    }
}
