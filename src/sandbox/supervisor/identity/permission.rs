//! What a task that is not root may change: the permission bits, as the kernel
//! would read them if the owners were real.
//!
//! To the kernel every task is root of its id. So changes of a task that
//! dropped root are judged here: what it makes, opens for writing, renames,
//! removes, and what access(2) tells it. Reading, and the way to a file, are
//! not: every open would have to be heard of.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::Identity;
use super::call::{Call, Place, errno, is_proc, link};
use super::credentials::{Credentials, DAC_OVERRIDE, FOWNER};
use crate::sandbox::supervisor::Answer;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const ENTER: u32 = 1;

const STICKY: u32 = 0o1000;

impl Credentials {
    /// Nothing on disk is refused to it.
    pub(super) fn overrides(&self) -> bool {
        self.can(DAC_OVERRIDE)
    }

    /// As access(2) takes it, which asks for the real user.
    fn as_real(&self) -> Self {
        let mut real = self.clone();
        (real.user.files, real.group.files) = (self.user.real, self.group.real);
        real
    }
}

impl Identity {
    /// Whether the bits on `inode` allow `wanted` to `caller`, who does not
    /// override them. Access lists are the kernel's business.
    pub(super) fn allows(&self, caller: &Credentials, inode: &OwnedFd, wanted: u32) -> io::Result<bool> {
        if is_proc(inode)? || has_access_list(inode) {
            return Ok(true);
        }
        let stat = rustix::fs::fstat(inode)?;
        let record = self.record_or_guess(inode, &stat, caller)?.unwrap_or_default();
        let (uid, gid) = record.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mode = record.mode.unwrap_or(stat.st_mode);
        let bits = match () {
            () if caller.user.files == uid => mode >> 6,
            () if caller.is_in_group(gid) => mode >> 3,
            () => mode,
        };
        Ok(bits & wanted == wanted)
    }

    /// access(2) and its relatives.
    pub(super) fn access(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        let (place, mode, flags) = match call.notification.call {
            libc::SYS_faccessat => (0, 2, None),
            libc::SYS_faccessat2 => (0, 2, Some(3)),
            // access(2) of x86-64.
            _ => (1, 1, None),
        };
        let flags = flags.map_or(0, |argument| call.int(argument).cast_signed());
        let by_effective = flags & libc::AT_EACCESS != 0;
        let is_root = if by_effective { caller.overrides() } else { caller.user.real == 0 };
        let wanted = call.int(mode) & 7;
        if is_root || wanted == 0 {
            return Ok(Answer::GoOn);
        }
        let place = if place == 1 { call.place_here(0)? } else { call.place_at(0, 1)? };
        let inode = call.find(&place, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?;
        let asked = if by_effective { (*caller).clone() } else { caller.as_real() };
        Ok(if self.allows(&asked, &inode, wanted)? { Answer::GoOn } else { Answer::Error(libc::EACCES) })
    }

    /// Opening for writing what is there.
    pub(super) fn open_existing(&self, call: &Call<'_>, place: &Place, flags: OFlags) -> io::Result<Answer> {
        let caller = self.caller(call);
        let wanted = match flags.bits().cast_signed() & libc::O_ACCMODE {
            _ if caller.overrides() || flags.intersects(OFlags::PATH | OFlags::EXCL) => {
                return Ok(Answer::GoOn);
            }
            libc::O_RDONLY if flags.contains(OFlags::TRUNC) => READ | WRITE,
            libc::O_RDONLY => READ,
            libc::O_WRONLY => WRITE,
            _ => READ | WRITE,
        };
        let inode = call.find(place, !flags.contains(OFlags::NOFOLLOW))?;
        Ok(if self.allows(&caller, &inode, wanted)? { Answer::GoOn } else { Answer::Error(libc::EACCES) })
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
        for (number, place) in places.iter().enumerate() {
            let (parent, name) = call.parent(place)?;
            let found = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
            match found {
                // What is not there is for the kernel to miss.
                Err(Errno::NOENT) if number == 0 => return Ok(Answer::GoOn),
                Err(Errno::NOENT) | Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            if !self.allows(&caller, &parent, WRITE | ENTER)? {
                return Ok(Answer::Error(libc::EACCES));
            }
            if found.is_ok() && self.is_stuck(&caller, &parent, &name)? {
                return Ok(Answer::Error(libc::EPERM));
            }
        }
        Ok(Answer::GoOn)
    }

    /// In a sticky directory only owners remove.
    fn is_stuck(&self, caller: &Credentials, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<bool> {
        let stat = rustix::fs::fstat(parent)?;
        if stat.st_mode & STICKY == 0 || caller.can(FOWNER) {
            return Ok(false);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inode = rustix::fs::openat(parent, name, flags, rustix::fs::Mode::empty())?;
        let own = |inode: &OwnedFd| -> io::Result<bool> {
            let stat = rustix::fs::fstat(inode)?;
            let record = self.record_or_guess(inode, &stat, caller)?;
            let owner = record.and_then(|record| record.owner).unwrap_or((stat.st_uid, stat.st_gid));
            Ok(owner.0 == caller.user.files)
        };
        Ok(!own(&inode)? && !own(parent)?)
    }
}

fn has_access_list(inode: &OwnedFd) -> bool {
    let is_link =
        rustix::fs::fstat(inode).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    !is_link && rustix::fs::getxattr(link(inode), "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok()
}
