//! Changing owners and modes.
//!
//! Modes are the file system's own, but for setuid and setgid on a file of a
//! foreign owner: on disk they would give the runner's own rights to whoever
//! executes the file outside.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};

use super::call::{Call, errno, kind, link};
use super::credentials::{CHOWN, Credentials, FOWNER, FSETID};
use super::{Identity, REFUSED};
use crate::metadata::Record;
use crate::sandbox::supervisor::Answer;

/// "Leave it as it is" in chown(2).
const SAME: u32 = u32::MAX;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

/// An inode and what is known of it.
struct Known {
    inode: OwnedFd,
    kind: FileType,
    record: Option<Record>,
}

impl Known {
    fn owner(&self) -> (u32, u32) {
        self.record.as_ref().and_then(|record| record.owner).unwrap_or((0, 0))
    }
}

impl Identity {
    /// Nothing for what is not the RUN's to change: /proc, and what belongs to
    /// ids that do not exist here.
    fn known(&self, inode: OwnedFd) -> io::Result<Option<Known>> {
        let stat = rustix::fs::fstat(&inode)?;
        if (stat.st_uid, stat.st_gid) != (0, 0) || self.is_in_proc(&stat) {
            return Ok(None);
        }
        let record = self.record(&inode)?;
        Ok(Some(Known { inode, kind: kind(&stat), record }))
    }

    pub(super) fn change_owner(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        let (inode, wanted) = self.owner_request(call, &caller)?;
        let Some(inode) = inode else { return Ok(REFUSED) };
        let Some(known) = self.known(inode)? else { return Ok(Answer::GoOn) };
        let old = known.owner();
        if !may_give(&caller, old, wanted) {
            return Ok(Answer::Error(libc::EPERM));
        }
        let new = (or(wanted.0, old.0), or(wanted.1, old.1));
        if known.record.is_none() && new == (0, 0) {
            return Ok(Answer::GoOn);
        }
        Ok(Answer::of(self.give(&known, wanted, new), |()| Answer::Value(0)))
    }

    /// The real call first: it copies a file up, moves its change time and
    /// takes setuid bits and capabilities from it.
    fn give(&self, known: &Known, wanted: (u32, u32), new: (u32, u32)) -> io::Result<()> {
        let real = |id: u32| if id == SAME { None } else { Some(0) };
        let (uid, gid) = (real(wanted.0).map(Uid::from_raw), real(wanted.1).map(Gid::from_raw));
        rustix::fs::chownat(&known.inode, "", uid, gid, AtFlags::EMPTY_PATH)?;
        let old = known.record.clone().unwrap_or_default();
        let mode = old.mode.map(without_special).filter(|mode| mode & (SETUID | SETGID) != 0);
        let owner = (new != (0, 0)).then_some(new);
        self.keep(&Record { owner, mode, capability: None, ..old }, &known.inode)
    }

    /// A file system without attributes (pipes, terminals, tmpfs before Linux 6.6)
    /// keeps no owners. None of it is in a layer, so the RUN's own memory does.
    pub(super) fn keep(&self, record: &Record, inode: &OwnedFd) -> io::Result<()> {
        match self.put(record, inode) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let handle = inode.try_clone()?;
                self.loose.put(record.clone(), &rustix::fs::fstat(inode)?, handle);
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn change_mode(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        let (inode, mode) = self.mode_request(call, &caller)?;
        let Some(inode) = inode else { return Ok(REFUSED) };
        let known = self.known(inode)?.filter(|known| known.kind != FileType::Symlink);
        let Some(known) = known else { return Ok(Answer::GoOn) };
        let (uid, gid) = known.owner();
        if caller.user.files != uid && !caller.can(FOWNER) {
            return Ok(Answer::Error(libc::EPERM));
        }
        let keeps_group = caller.can(FSETID) || caller.is_in_group(gid);
        let wanted = if keeps_group { mode } else { mode & !SETGID };
        if known.record.is_none() && wanted == mode {
            return Ok(Answer::GoOn);
        }
        Ok(Answer::of(self.set_mode(&known, wanted), |()| Answer::Value(0)))
    }

    fn set_mode(&self, known: &Known, mode: u32) -> io::Result<()> {
        let (disk, recorded) = split_mode(mode, known.owner(), known.kind);
        rustix::fs::chmod(link(&known.inode), Mode::from_raw_mode(disk))?;
        match &known.record {
            Some(old) if old.mode != recorded => {
                self.keep(&Record { mode: recorded, ..old.clone() }, &known.inode)
            }
            _ => Ok(()),
        }
    }
}

/// What lies on disk of a mode, and the whole of it for the record where that
/// is not the same.
pub(super) fn split_mode(mode: u32, owner: (u32, u32), kind: FileType) -> (u32, Option<u32>) {
    let mode = mode & 0o7777;
    let is_special = mode & (SETUID | SETGID) != 0 && kind == FileType::RegularFile;
    if is_special && owner != (0, 0) { (mode & 0o1777, Some(mode)) } else { (mode, None) }
}

/// chown(2), "When the owner or group of an executable file is changed".
fn without_special(mode: u32) -> u32 {
    let group = if mode & GROUP_EXECUTES == 0 { 0 } else { SETGID };
    mode & !(SETUID | group)
}

fn may_give(caller: &Credentials, old: (u32, u32), wanted: (u32, u32)) -> bool {
    let is_owner = caller.user.files == old.0;
    let user = wanted.0 == SAME || (is_owner && wanted.0 == old.0);
    let group = wanted.1 == SAME || (is_owner && (wanted.1 == old.1 || caller.is_in_group(wanted.1)));
    caller.can(CHOWN) || (user && group)
}

fn or(id: u32, same: u32) -> u32 {
    if id == SAME { same } else { id }
}

impl Identity {
    fn owner_request(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
    ) -> io::Result<(Option<OwnedFd>, (u32, u32))> {
        Ok(match call.notification.call {
            libc::SYS_fchown => (Some(call.descriptor_in(0)?), (call.int(1), call.int(2))),
            libc::SYS_fchownat => {
                let place = call.place_with(0, 1, call.int(4).cast_signed())?;
                let follow = call.int(4).cast_signed() & libc::AT_SYMLINK_NOFOLLOW == 0;
                (self.inode(call, caller, &place, follow)?, (call.int(2), call.int(3)))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown | libc::SYS_lchown => {
                let follow = call.notification.call == libc::SYS_chown;
                let place = call.named(0)?;
                (self.inode(call, caller, &place, follow)?, (call.int(1), call.int(2)))
            }
            _ => return Err(errno(libc::ENOSYS)),
        })
    }

    fn mode_request(&self, call: &Call<'_>, caller: &Credentials) -> io::Result<(Option<OwnedFd>, u32)> {
        let (place, follow, mode) = match call.notification.call {
            libc::SYS_fchmod => return Ok((Some(call.descriptor_in(0)?), call.int(1))),
            libc::SYS_fchmodat => (call.place_with(0, 1, 0)?, true, call.int(2)),
            super::filter::FCHMODAT2 => {
                let flags = call.int(3).cast_signed();
                (call.place_with(0, 1, flags)?, flags & libc::AT_SYMLINK_NOFOLLOW == 0, call.int(2))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod => (call.named(0)?, true, call.int(1)),
            _ => return Err(errno(libc::ENOSYS)),
        };
        Ok((self.inode(call, caller, &place, follow)?, mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setuid_bits_of_others_lie_in_the_record() {
        let file = FileType::RegularFile;
        assert_eq!(split_mode(0o4755, (0, 0), file), (0o4755, None));
        assert_eq!(split_mode(0o4755, (33, 0), file), (0o755, Some(0o4755)));
        assert_eq!(split_mode(0o2755, (0, 42), file), (0o755, Some(0o2755)));
        assert_eq!(split_mode(0o1755, (33, 0), file), (0o1755, None));
        assert_eq!(split_mode(0o2775, (0, 50), FileType::Directory), (0o2775, None));
        assert_eq!(without_special(0o6711), 0o711);
        assert_eq!(without_special(0o6644), 0o2644);
    }

    #[test]
    fn only_owners_give_and_only_to_their_groups() {
        let root = Credentials::initial(0, 0, &[], 1 << CHOWN);
        let alice = Credentials::initial(7, 8, &[9], 1 << CHOWN);
        assert!(may_give(&root, (7, 8), (1, 2)));
        for (old, wanted, expected) in [
            ((7, 8), (7, 9), true),
            ((7, 8), (SAME, 9), true),
            ((7, 8), (SAME, SAME), true),
            ((7, 8), (8, SAME), false),
            ((7, 8), (SAME, 1), false),
            ((0, 0), (SAME, 9), false),
        ] {
            assert_eq!(may_give(&alice, old, wanted), expected, "{old:?} {wanted:?}");
        }
    }
}
