//! /proc, as far as it tells who processes are.
//!
//! Where the kernel has made the /proc of a RUN its `status` files are handed
//! over with other lines; where it is served, the part that serves it asks here.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};

use super::call::{Call, errno, kind, link};
use super::credentials::{Credentials, SYS_PTRACE};
use super::permission::wanted;
use super::{Identity, REFUSED};
use crate::metadata::Record;
use crate::sandbox::supervisor::{Answer, sealed};

/// What only the same user may look at (proc(5), "ptrace access mode").
const PRIVATE: [&str; 18] = [
    "auxv",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "io",
    "map_files",
    "maps",
    "mem",
    "ns",
    "numa_maps",
    "pagemap",
    "personality",
    "root",
    "smaps",
    "smaps_rollup",
    "syscall",
];

/// One of the processes of a RUN, and what below its directory of /proc is meant.
struct Meant<'a> {
    /// Nothing for the caller itself.
    process: Option<i32>,
    /// Without the `task/N` before it.
    rest: Vec<&'a str>,
}

impl Identity {
    /// Opening a name below /proc by a user.
    pub(super) fn open_proc(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        below: &Path,
        flags: OFlags,
    ) -> io::Result<Answer> {
        if self.is_private(call, caller, below)? {
            return Ok(REFUSED);
        }
        if let Ok(inode) = self.open_of(call, below)
            && !self.may_open_again(caller, &inode, flags)?
        {
            return Ok(REFUSED);
        }
        if is_status(below) { self.open_status(call, flags) } else { Ok(Answer::GoOn) }
    }

    /// A file that is open already, by its link in /proc. Of pipes and the like it
    /// is not known who made them.
    fn may_open_again(&self, caller: &Credentials, inode: &OwnedFd, flags: OFlags) -> io::Result<bool> {
        let kind = kind(&rustix::fs::fstat(inode)?);
        let is_judged = matches!(kind, FileType::RegularFile | FileType::Directory);
        Ok(!is_judged || flags.contains(OFlags::PATH) || self.allows(caller, inode, wanted(flags))?)
    }

    /// Opening by root, where a user's `status` may be meant.
    pub(super) fn open_as_root(&self, call: &Call<'_>) -> io::Result<Answer> {
        if self.table.is_simple() || !self.proc_is_mounted {
            return Ok(Answer::GoOn);
        }
        let (place, flags) = match call.notification.call {
            libc::SYS_openat => (call.place_at(0, 1)?, call.int(2)),
            _ => (call.place_here(0)?, call.int(1)),
        };
        match is_status(&place.path) {
            true => self.open_status(call, OFlags::from_bits_retain(flags)),
            false => Ok(Answer::GoOn),
        }
    }

    /// The kernel's text with other lines, in memory.
    fn open_status(&self, call: &Call<'_>, flags: OFlags) -> io::Result<Answer> {
        if !self.proc_is_mounted || flags.intersects(OFlags::PATH | OFlags::WRONLY | OFlags::RDWR) {
            return Ok(Answer::GoOn);
        }
        let place = match call.notification.call {
            libc::SYS_openat => call.place_at(0, 1)?,
            _ => call.place_here(0)?,
        };
        let directory = self.directory_of_task(call, &place.split()?.0.path)?;
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok::<_, io::Error>(File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?))
        };
        let mut text = String::new();
        open("status")?.read_to_string(&mut text)?;
        call.still_there()?;
        let text = retold(&text, &self.table.behind(&link(&directory)));
        let fd = rustix::fs::open(
            link(&sealed(text.as_bytes())?),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Answer::Descriptor { fd, close_on_exec: flags.contains(OFlags::CLOEXEC) })
    }

    /// A directory of a process in the RUN's own /proc. `self` means the caller:
    /// to the kernel it would mean this process.
    fn directory_of_task(&self, call: &Call<'_>, path: &Path) -> io::Result<OwnedFd> {
        let text = path.to_str().ok_or_else(|| errno(libc::ENOENT))?.trim_end_matches('/');
        let shown = |thread| self.numbers.shown(thread);
        let process =
            || Ok::<_, io::Error>(shown(super::peers::number(call.thread(), "Tgid:")?)?.to_string());
        let own = match text.strip_prefix("/proc/") {
            Some("self") => format!("/proc/{}", process()?),
            Some("thread-self") => format!("/proc/{}/task/{}", process()?, shown(call.thread())?),
            Some(rest) => match rest.strip_prefix("self/") {
                Some(below) => format!("/proc/{}/{below}", process()?),
                None => text.to_owned(),
            },
            None => text.to_owned(),
        };
        let place = super::call::Place { directory: call.start_of_path(), path: own.into() };
        let found = call.find(&place, true)?;
        match self.is_in_proc(&rustix::fs::fstat(&found)?) {
            true => Ok(found),
            false => Err(errno(libc::ENOENT)),
        }
    }

    /// `status` of a task as the RUN is to see it.
    pub(in crate::sandbox::supervisor) fn retell(&self, task: i32, text: &str) -> String {
        retold(text, &self.table.of_other(task))
    }

    /// Whom a process belongs to: user and group.
    pub(in crate::sandbox::supervisor) fn owner_of_task(&self, task: i32) -> (u32, u32) {
        let own = self.table.of_other(task);
        (own.user.effective, own.group.effective)
    }

    /// Likewise of a directory of the kernel's /proc.
    pub(super) fn record_of_task(&self, directory: &OwnedFd) -> Option<Record> {
        if self.table.is_simple() || !self.proc_is_mounted {
            return None;
        }
        let place = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(directory, "timerslack_ns", place, Mode::empty()).ok()?;
        let own = self.table.behind(&link(directory));
        Some(Record { owner: Some((own.user.effective, own.group.effective)), ..Record::default() })
    }

    /// What a descriptor of a process is, by its name below /proc.
    pub(super) fn open_of(&self, call: &Call<'_>, below: &Path) -> io::Result<OwnedFd> {
        let meant = self.meant(call, below)?;
        let ["fd", number] = meant.rest[..] else { return Err(errno(libc::ENOENT)) };
        let number: i32 = number.parse().map_err(|_| errno(libc::ENOENT))?;
        call.descriptor_of(meant.process.unwrap_or(call.thread()), number)
    }

    /// Whether it tells of a process what another user may not know.
    pub(super) fn is_private(&self, call: &Call<'_>, caller: &Credentials, below: &Path) -> io::Result<bool> {
        let Ok(Meant { process: Some(process), rest }) = self.meant(call, below) else { return Ok(false) };
        let is_named = rest.first().is_some_and(|name| PRIVATE.contains(name));
        Ok(is_named && !may_look(caller, &self.table.of_other(process)))
    }

    fn meant<'a>(&self, call: &Call<'_>, below: &'a Path) -> io::Result<Meant<'a>> {
        let text = below.to_str().ok_or_else(|| errno(libc::ENOENT))?;
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
        let (process, rest) = match &names[..] {
            ["self" | "thread-self", rest @ ..] => (None, rest),
            [process, rest @ ..] => {
                let shown: u32 = process.parse().map_err(|_| errno(libc::ENOENT))?;
                let is_own = call.is_self(shown)?;
                (if is_own { None } else { Some(self.numbers.ours(shown.cast_signed())?) }, rest)
            }
            [] => return Err(errno(libc::ENOENT)),
        };
        let rest = match rest {
            ["task", _, rest @ ..] => rest,
            rest => rest,
        };
        Ok(Meant { process, rest: rest.to_vec() })
    }
}

fn is_status(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "status")
}

/// ptrace(2), "Ptrace access mode checking".
pub(super) fn may_look(caller: &Credentials, other: &Credentials) -> bool {
    let is_all = |id: u32, ids: super::credentials::Ids| [ids.real, ids.effective, ids.saved] == [id; 3];
    let same = is_all(caller.user.files, other.user) && is_all(caller.group.files, other.group);
    same || caller.can(SYS_PTRACE)
}

/// The text of `status` with these credentials (proc_pid_status(5)).
fn retold(text: &str, own: &Credentials) -> String {
    let mut new = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.split_once(":\t").and_then(|(name, _)| Some((name, told(name, own)?))) {
            Some((name, value)) => new.push_str(&format!("{name}:\t{value}\n")),
            None => new.push_str(line),
        }
    }
    new
}

fn told(name: &str, own: &Credentials) -> Option<String> {
    let ids = |ids: super::credentials::Ids| {
        [ids.real, ids.effective, ids.saved, ids.files].map(|id| id.to_string()).join("\t")
    };
    let set = |set: u64| format!("{set:016x}");
    Some(match name {
        "Uid" => ids(own.user),
        "Gid" => ids(own.group),
        "Groups" => own.groups.iter().map(|group| format!("{group} ")).collect(),
        "CapInh" => set(own.sets.inheritable),
        "CapPrm" => set(own.sets.permitted),
        "CapEff" => set(own.sets.effective),
        "CapBnd" => set(own.bounding),
        "CapAmb" => set(own.ambient),
        "NoNewPrivs" => u8::from(own.no_new_privileges).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Whose;
    use super::*;

    #[test]
    fn tells_of_users_and_leaves_the_rest() {
        let own = Credentials::initial(0, 0, &[44, 20], 0xa1).set_three(Whose::User, [1, 2, 3]);
        let text = "Name:\tx\nUid:\t0\t0\t0\t0\nGroups:\t \nCapEff:\t0000000000000fff\nSeccomp:\t2\n";
        let expected =
            "Name:\tx\nUid:\t1\t2\t3\t2\nGroups:\t20 44 \nCapEff:\t0000000000000000\nSeccomp:\t2\n";
        assert_eq!(retold(text, &own.unwrap()), expected);
    }

    #[test]
    fn users_look_at_their_own() {
        let [root, alice, bob] = [0, 7, 8].map(|id| Credentials::initial(id, id, &[], 1 << 7));
        assert!(may_look(&alice, &alice) && !may_look(&alice, &bob) && !may_look(&alice, &root));
        let halfway = root.set_three(Whose::User, [7, 7, 0]).unwrap();
        assert!(!may_look(&alice, &halfway));
    }
}
