//! The process that called: its memory, its places and its identity.
//!
//! Without CAP_SYS_PTRACE a process with other ids than ours cannot be read by
//! root. Two things help (measured, on Linux 6.18): a thread that takes those
//! ids reads a process that has exec'd since it took them; one that has not
//! stays readable through a descriptor of its memory, opened before it changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::sandbox::tracing::Traced;

/// Longest path, with its end (PATH_MAX).
const LONGEST: usize = 4096;
const PAGE: u64 = 4096;
/// As much is read at a time: most paths are shorter.
const PIECE: usize = 256;

/// What `/proc/PID/status` says of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The process.
    pub(super) process: i32,
    /// The thread, in the innermost pid namespace that it is in.
    pub(super) shown: i32,
    /// Its ids for files.
    pub(super) uid: u32,
    pub(super) gid: u32,
    groups: Vec<u32>,
    /// Bits that new files do not get.
    pub(super) umask: u32,
}

/// Memory of processes that are about to change their ids, by process.
#[derive(Default)]
pub(super) struct Memories(Mutex<HashMap<i32, Arc<File>>>);

impl Identity {
    pub(super) fn of(thread: i32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{thread}/status"))?))
    }

    pub(super) fn parse(status: &str) -> Self {
        let mut found = Self::default();
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let mut numbers = value.split_whitespace();
            // Real, effective, saved, file system.
            let last = |numbers: &mut std::str::SplitWhitespace<'_>| numbers.nth(3)?.parse().ok();
            match name {
                "Tgid" => found.process = numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0),
                "NSpid" => found.shown = numbers.last().and_then(|text| text.parse().ok()).unwrap_or(0),
                "Uid" => found.uid = last(&mut numbers).unwrap_or(u32::MAX),
                "Gid" => found.gid = last(&mut numbers).unwrap_or(u32::MAX),
                "Groups" => found.groups = numbers.filter_map(|text| text.parse().ok()).collect(),
                "Umask" => {
                    let text = numbers.next().unwrap_or("022");
                    found.umask = u32::from_str_radix(text, 8).unwrap_or(0o022);
                }
                _ => {}
            }
        }
        found
    }

    /// Does `action` with these ids and no capability; root does it as it is.
    pub(super) fn act<T>(&self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.uid == 0 {
            return action();
        }
        let back = Assumed::take(self)?;
        let result = action();
        back.give()?;
        result
    }
}

/// This thread has the ids of another. The saved ids stay 0, which is the way back.
struct Assumed;

impl Assumed {
    fn take(identity: &Identity) -> io::Result<Self> {
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, Gid::ROOT)?;
        match set_thread_res_uid(uid, uid, Uid::ROOT) {
            Ok(()) => Ok(Self),
            Err(errno) => {
                set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
                Err(errno.into())
            }
        }
    }

    fn give(self) -> io::Result<()> {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        Ok(set_thread_groups(&[])?)
    }
}

/// Reads as root, then as the process itself.
fn try_both<T>(thread: i32, read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match read() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let identity = Identity::of(thread)?;
            if identity.uid == 0 && identity.gid == 0 { Err(error) } else { act_as(&identity, read) }
        }
        other => other,
    }
}

/// Also for uid 0 with another group.
fn act_as<T>(identity: &Identity, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let back = Assumed::take(identity)?;
    let result = action();
    back.give()?;
    result
}

impl Memories {
    /// Keeps the memory of `thread`'s process open: the last chance. If it is not
    /// there any more, the number is somebody else's.
    pub(super) fn keep(&self, thread: i32, is_there: impl Fn() -> bool) -> io::Result<()> {
        let process = Identity::of(thread)?.process;
        // A panic elsewhere leaves the table whole.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The dead leave; whoever lives stays readable.
        kept.retain(|process, _| Path::new(&format!("/proc/{process}")).exists());
        let memory = File::options().read(true).write(true).open(format!("/proc/{process}/mem"));
        match memory {
            Ok(_) if !is_there() => Ok(()),
            Ok(memory) => {
                kept.insert(process, Arc::new(memory));
                Ok(())
            }
            // The second of several changes, or nothing we may know.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The text that ends with a zero byte at `address`.
    pub(super) fn read_text(&self, thread: i32, address: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut piece = [0; PIECE];
        while text.len() < LONGEST {
            let at = address + text.len() as u64;
            // Not beyond a page: the next one may not exist.
            let room = usize::try_from(PAGE - at % PAGE).map_err(io::Error::other)?.min(PIECE);
            let count = self.read(thread, at, &mut piece[..room])?;
            if let Some(end) = piece.iter().take(count).position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(text);
            }
            if count == 0 {
                return Err(io::Error::from_raw_os_error(libc::EFAULT));
            }
            text.extend_from_slice(&piece[..count]);
        }
        Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }

    /// A text of a process that cannot be read because it was forked by one that
    /// had changed its ids: as it was in that one, whose memory is kept. The
    /// process may have written another text there since.
    pub(super) fn read_inherited_text(&self, thread: i32, address: u64) -> io::Result<Vec<u8>> {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let mut process = Identity::of(thread)?.process;
        for _ in 0..2 {
            let stat = fs::read(format!("/proc/{process}/stat"))?;
            process = parent(&stat).ok_or_else(denied)?;
            let Some(memory) = self.kept(process) else { continue };
            let mut text = vec![0; 256];
            let length = memory.read_at(&mut text, address)?;
            let end = text.iter().take(length).position(|byte| *byte == 0).ok_or_else(denied)?;
            text.truncate(end);
            return Ok(text);
        }
        Err(denied())
    }

    /// Fills `bytes` from `address`.
    pub(super) fn read_exact(&self, thread: i32, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let wanted = bytes.len();
        if self.read(thread, address, bytes)? == wanted {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn read(&self, thread: i32, address: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let base = usize::try_from(address).map_err(io::Error::other)?;
        let remote = [RemoteIoVec { base, len: bytes.len() }];
        let cell = std::cell::RefCell::new(&mut *bytes);
        let read = try_both(thread, || {
            let mut bytes = cell.borrow_mut();
            Ok(process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(&mut bytes)], &remote)?)
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match self.kept(thread) {
                Some(memory) => memory.read_at(bytes, address),
                None => Err(error),
            },
            read => read,
        }
    }

    /// Writes all of `bytes` into the caller's memory.
    pub(super) fn write(&self, thread: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
        let base = usize::try_from(address).map_err(io::Error::other)?;
        let remote = [RemoteIoVec { base, len: bytes.len() }];
        let written = try_both(thread, || {
            Ok(process_vm_writev(Pid::from_raw(thread), &[IoSlice::new(bytes)], &remote)?)
        });
        let written = match written {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match self.kept(thread) {
                Some(memory) => memory.write_at(bytes, address),
                None => Err(error),
            },
            written => written,
        };
        if written? == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
    }

    /// Likewise, also where the caller itself may only read (ptrace(2) pokes so).
    pub(super) fn write_anywhere(&self, thread: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
        match self.write(thread, address, bytes) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                let memory =
                    try_both(thread, || File::options().write(true).open(format!("/proc/{thread}/mem")))?;
                memory.write_all_at(bytes, address)
            }
            other => other,
        }
    }

    fn kept(&self, thread: i32) -> Option<Arc<File>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&Identity::of(thread).ok()?.process).cloned()
    }
}

/// Looks at a file of a process, as root, then as the process itself.
pub(super) fn look_at<T>(thread: i32, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    try_both(thread, look)
}

/// Traces a thread while its call is answered; refused where ptrace(2) is, and
/// where another one of the RUN traces it.
pub(super) fn trace(thread: i32) -> io::Result<Traced> {
    try_both(thread, || Traced::seize(thread))
}

/// The number of its controlling terminal, as stat(2) has it; 0: none.
pub(super) fn terminal(thread: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{thread}/stat"))?;
    Ok(field(&stat, 4).and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Where a link below `/proc/PID` of a process points, as the kernel tells it.
pub(super) fn read_link(thread: i32, path: &str) -> io::Result<PathBuf> {
    try_both(thread, || fs::read_link(path))
}

/// The directory that a relative path of `thread` starts from.
pub(super) fn base(thread: i32, directory: i32) -> io::Result<PathBuf> {
    let link = match directory {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        directory => format!("/proc/{thread}/fd/{directory}"),
    };
    read_link(thread, &link)
}

/// Whether `process` was started by this RUN: whether this process, to which
/// its orphans come, is among its ancestors.
pub(super) fn is_of_run(process: i32) -> bool {
    let own = std::process::id().cast_signed();
    let mut at = process;
    // Nobody is his own ancestor, but the processes may change while we look.
    for _ in 0..4096 {
        let Ok(stat) = fs::read(format!("/proc/{at}/stat")) else { return false };
        let Some(parent) = parent(&stat) else { return false };
        if parent == own {
            return true;
        }
        if parent <= 1 {
            return false;
        }
        at = parent;
    }
    false
}

fn parent(stat: &[u8]) -> Option<i32> {
    field(stat, 1)?.parse().ok()
}

/// A field of proc_pid_stat(5), counted from the state, which is 0.
fn field(stat: &[u8], place: usize) -> Option<&str> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace().nth(place)
}

/// Text as a path.
pub(super) fn path(text: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ids_for_files() {
        let status = "Name:\tx\nUmask:\t0027\nTgid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nNSpid:\t8\t2\n";
        let expected = Identity { process: 7, shown: 2, uid: 4, gid: 8, groups: vec![9, 10], umask: 0o027 };
        assert_eq!(Identity::parse(status), expected);
    }

    #[test]
    fn reads_its_own_memory() {
        let text = b"/proc/self/exe\0more";
        let own = std::process::id().cast_signed();
        let found = Memories::default().read_text(own, text.as_ptr() as u64).unwrap();
        assert_eq!(found, b"/proc/self/exe");
    }

    #[test]
    fn strangers_are_not_of_the_run() {
        assert!(!is_of_run(1));
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        assert!(is_of_run(child.id().cast_signed()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
