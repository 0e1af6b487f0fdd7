//! What a task that is not root may do to files: the permission bits, as the
//! kernel would read them if the owners were real.
//!
//! To the kernel every task is root of its id. So of a task that dropped root all
//! calls with a path are judged here before they go on: the way to the file
//! ([`way`](super::way)), and then the bits on it. What is judged is found once
//! more by the kernel; who changes it in between fools nobody but itself. Not
//! judged are the interpreters of programs that are executed.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::call::{Call, Place, errno, kind, link};
use super::credentials::{Credentials, DAC_OVERRIDE, FOWNER, Sets};
use super::way::{End, protects};
use super::{Identity, REFUSED};
use crate::sandbox::supervisor::Answer;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const ENTER: u32 = 1;

const STICKY: u32 = 0o1000;
const SETUID: u32 = 0o4000;
/// Setgid, and a group that executes: else it means mandatory locking.
const SETGID: u32 = 0o2010;

impl Credentials {
    /// Nothing on disk is refused to it.
    pub(super) fn overrides(&self) -> bool {
        self.can(DAC_OVERRIDE)
    }

    /// As access(2) takes it, which asks for the real user.
    fn as_real(&self) -> Self {
        let mut real = self.clone();
        (real.user.files, real.group.files) = (self.user.real, self.group.real);
        let effective = if self.user.real == 0 { self.sets.permitted } else { 0 };
        real.sets = Sets { effective, ..self.sets };
        real
    }
}

impl Identity {
    /// Whether the bits on `inode` allow `wanted` to `caller`, who does not
    /// override them. Access lists are the kernel's business: none can name
    /// anybody but root here.
    pub(super) fn allows(&self, caller: &Credentials, inode: &OwnedFd, wanted: u32) -> io::Result<bool> {
        let stat = rustix::fs::fstat(inode)?;
        if self.is_in_proc(&stat) {
            return Ok(true);
        }
        let record = self.record(inode)?.unwrap_or_default();
        let (uid, gid) = record.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mode = record.mode.unwrap_or(stat.st_mode);
        let bits = match () {
            () if caller.user.files == uid => mode >> 6,
            () if caller.is_in_group(gid) => mode >> 3,
            () => mode,
        };
        Ok(bits & wanted == wanted || has_access_list(inode, &stat))
    }

    /// Whom an inode belongs to.
    pub(super) fn owner_of(&self, inode: &OwnedFd, stat: &Stat) -> io::Result<(u32, u32)> {
        let record = self.record(inode)?;
        Ok(record.and_then(|record| record.owner).unwrap_or((stat.st_uid, stat.st_gid)))
    }

    /// Whether it may do what only owners may.
    pub(super) fn owns(&self, caller: &Credentials, inode: &OwnedFd) -> io::Result<bool> {
        let stat = rustix::fs::fstat(inode)?;
        Ok(caller.can(FOWNER) || self.owner_of(inode, &stat)?.0 == caller.user.files)
    }

    /// access(2) and its relatives.
    pub(super) fn access(&self, call: &Call<'_>) -> io::Result<Answer> {
        let (place, mode, flags) = match call.notification.call {
            libc::SYS_faccessat => (call.place_at(0, 1), 2, 0),
            libc::SYS_faccessat2 => (call.place_at(0, 1), 2, call.int(3).cast_signed()),
            // access(2) of x86-64.
            _ => (call.place_here(0), 1, 0),
        };
        let caller = self.caller(call);
        let by_effective = flags & libc::AT_EACCESS != 0;
        let asked = if by_effective { (*caller).clone() } else { caller.as_real() };
        if asked.overrides() {
            return Ok(Answer::GoOn);
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        let Some(inode) = self.inode(call, &asked, &place?, follow)? else { return Ok(REFUSED) };
        let wanted = call.int(mode) & 7;
        Ok(if wanted == 0 || self.allows(&asked, &inode, wanted)? { Answer::GoOn } else { REFUSED })
    }

    /// Opening what is there: `inode`.
    pub(super) fn open_existing(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        inode: &OwnedFd,
        flags: OFlags,
    ) -> io::Result<Answer> {
        if flags.contains(OFlags::PATH) || flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Ok(Answer::GoOn);
        }
        let wanted = wanted(flags);
        let stat = rustix::fs::fstat(inode)?;
        // The kernel refuses to write directories, and to follow or open others.
        let kind = kind(&stat);
        if (kind == FileType::Directory && wanted != READ) || kind == FileType::Symlink {
            return Ok(Answer::GoOn);
        }
        if !self.allows(caller, inode, wanted)? {
            return Ok(REFUSED);
        }
        if flags.contains(OFlags::NOATIME) && !self.owns(caller, inode)? {
            return Ok(Answer::Error(libc::EPERM));
        }
        if is_multiplexer(&stat) { self.make_terminal(call, caller, inode, flags) } else { Ok(Answer::GoOn) }
    }

    /// Names that are taken away, and what is put in their place.
    pub(super) fn rename_or_remove(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        if caller.overrides() {
            return Ok(Answer::GoOn);
        }
        let places = match call.notification.call {
            libc::SYS_unlinkat => vec![call.place_at(0, 1)?],
            libc::SYS_renameat | libc::SYS_renameat2 => vec![call.place_at(0, 1)?, call.place_at(2, 3)?],
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir => vec![call.place_here(0)?],
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => vec![call.place_here(0)?, call.place_here(1)?],
            _ => return Err(errno(libc::ENOSYS)),
        };
        let mut moved: Option<(OwnedFd, OwnedFd)> = None;
        for (number, place) in places.iter().enumerate() {
            let Some((parent, name)) = self.walk_to_parent(call, &caller, place)? else { return Ok(REFUSED) };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
                Ok(found) => Some(found),
                // What is not there is for the kernel to miss, if it may look.
                Err(Errno::NOENT) if number == 0 => {
                    return Ok(if self.allows(&caller, &parent, ENTER)? { Answer::GoOn } else { REFUSED });
                }
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(errno.into()),
            };
            if !self.allows(&caller, &parent, WRITE | ENTER)? {
                return Ok(REFUSED);
            }
            if let Some(found) = &found
                && self.is_stuck(&caller, &parent, found)?
            {
                return Ok(Answer::Error(libc::EPERM));
            }
            match (moved.take(), found) {
                (None, Some(found)) => moved = Some((parent, found)),
                (Some((before, found)), _) if !self.may_move(&caller, &found, &before, &parent)? => {
                    return Ok(REFUSED);
                }
                _ => {}
            }
        }
        Ok(Answer::GoOn)
    }

    /// A directory that comes into another one gets another `..`.
    fn may_move(
        &self,
        caller: &Credentials,
        moved: &OwnedFd,
        from: &OwnedFd,
        to: &OwnedFd,
    ) -> io::Result<bool> {
        let [moved_stat, from, to] = [moved, from, to].map(rustix::fs::fstat);
        let ((from, to), moved_stat) = ((from?, to?), moved_stat?);
        let stays = (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino);
        Ok(stays || kind(&moved_stat) != FileType::Directory || self.allows(caller, moved, WRITE)?)
    }

    /// In a sticky directory only owners remove.
    fn is_stuck(&self, caller: &Credentials, parent: &OwnedFd, inode: &OwnedFd) -> io::Result<bool> {
        let is_sticky = rustix::fs::fstat(parent)?.st_mode & STICKY != 0;
        Ok(is_sticky && !self.owns(caller, inode)? && !self.owns(caller, parent)?)
    }

    /// Another name for a file: `fs.protected_hardlinks` keeps users from those of
    /// others (proc_sys_fs(5)).
    pub(super) fn link(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        if caller.overrides() {
            return Ok(Answer::GoOn);
        }
        let (from, to, flags) = match call.notification.call {
            libc::SYS_linkat => (call.place_at(0, 1)?, call.place_at(2, 3)?, call.int(4).cast_signed()),
            _ => (call.place_here(0)?, call.place_here(1)?, 0),
        };
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let Some(inode) = self.inode(call, &caller, &from, follow)? else { return Ok(REFUSED) };
        let Some((parent, name)) = self.walk_to_parent(call, &caller, &to)? else { return Ok(REFUSED) };
        if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(Answer::GoOn);
        }
        if !self.allows(&caller, &parent, WRITE | ENTER)? {
            return Ok(REFUSED);
        }
        let may_link = self.may_link(&caller, &inode)? || !protects("hardlinks");
        Ok(if may_link { Answer::GoOn } else { Answer::Error(libc::EPERM) })
    }

    fn may_link(&self, caller: &Credentials, inode: &OwnedFd) -> io::Result<bool> {
        let stat = rustix::fs::fstat(inode)?;
        let record = self.record(inode)?.unwrap_or_default();
        let mode = record.mode.unwrap_or(stat.st_mode);
        let is_special = mode & SETUID != 0 || mode & SETGID == SETGID;
        let is_plain = kind(&stat) == FileType::RegularFile && !is_special;
        Ok(self.owns(caller, inode)? || (is_plain && self.allows(caller, inode, READ | WRITE)?))
    }

    /// Whether something can be made in a directory.
    pub(super) fn may_add(&self, caller: &Credentials, directory: &OwnedFd) -> io::Result<bool> {
        Ok(caller.overrides() || self.allows(caller, directory, WRITE | ENTER)?)
    }

    /// What a path names, also through the links of /proc to what a process has
    /// open; nothing where the caller may not go.
    ///
    /// # Errors
    /// What the kernel will say as well.
    pub(super) fn inode(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        place: &Place,
        follow: bool,
    ) -> io::Result<Option<OwnedFd>> {
        if caller.overrides()
            && let Ok(found) = call.find(place, follow)
        {
            return Ok(Some(found));
        }
        match self.walk(call, caller, place, follow)? {
            End::Found(inode) => Ok(Some(inode)),
            End::Refused => Ok(None),
            End::Absent { .. } => Err(errno(libc::ENOENT)),
            End::Proc(below) if !caller.overrides() && self.is_private(call, caller, &below)? => Ok(None),
            End::Proc(below) => match self.open_of(call, &below) {
                Ok(found) if follow => Ok(Some(found)),
                _ => call.find(place, follow).map(Some),
            },
        }
    }
}

/// What opening needs of a file.
pub(super) fn wanted(flags: OFlags) -> u32 {
    match flags.bits().cast_signed() & libc::O_ACCMODE {
        libc::O_RDONLY if flags.contains(OFlags::TRUNC) => READ | WRITE,
        libc::O_RDONLY => READ,
        libc::O_WRONLY => WRITE,
        _ => READ | WRITE,
    }
}

fn has_access_list(inode: &OwnedFd, stat: &Stat) -> bool {
    let may_have = matches!(kind(stat), FileType::RegularFile | FileType::Directory);
    may_have && rustix::fs::getxattr(link(inode), "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok()
}

/// `/dev/ptmx`, and `ptmx` of a devpts.
fn is_multiplexer(stat: &Stat) -> bool {
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    kind(stat) == FileType::CharacterDevice && number == (5, 2)
}
