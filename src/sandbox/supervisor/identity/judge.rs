//! Calls that the kernel does as they are, if the caller may: what each of them
//! names, and what it needs of that.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::FileType;

use super::call::{Call, Place, errno, kind};
use super::credentials::{Credentials, SYS_CHROOT};
use super::permission::{ENTER, READ, WRITE};
use super::{Identity, REFUSED};
use crate::sandbox::supervisor::Answer;

/// `IN_DONT_FOLLOW` of inotify(7).
const DO_NOT_FOLLOW: u32 = 0x0200_0000;

/// What a call needs of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The way there.
    Way,
    Bits(u32),
    /// To execute it.
    Program,
    /// Other times; to set those of now it is enough to write.
    Times {
        now: bool,
    },
    Root,
}

/// How a call names it.
enum Named {
    Path { place: Place, follow: bool },
    Descriptor(usize),
}

impl Identity {
    /// Goes on, or is refused.
    pub(super) fn judge(&self, call: &Call<'_>) -> io::Result<Answer> {
        let executes = matches!(call.notification.call, libc::SYS_execve | libc::SYS_execveat);
        let caller = self.caller(call);
        let is_chroot = call.notification.call == libc::SYS_chroot;
        if caller.overrides() && !executes && !is_chroot {
            return Ok(Answer::GoOn);
        }
        let (named, need) = request(call)?;
        let inode = match named {
            Named::Path { place, follow } => match self.inode(call, &caller, &place, follow)? {
                Some(inode) => inode,
                None => return Ok(REFUSED),
            },
            Named::Descriptor(argument) => call.descriptor_in(argument)?,
        };
        self.judge_inode(call, &caller, &inode, need)
    }

    fn judge_inode(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        inode: &OwnedFd,
        need: Need,
    ) -> io::Result<Answer> {
        let allows = |wanted| Ok::<_, io::Error>(caller.overrides() || self.allows(caller, inode, wanted)?);
        let errno = match need {
            Need::Way => None,
            Need::Bits(wanted) => (!allows(wanted)?).then_some(libc::EACCES),
            Need::Root if !allows(ENTER)? => Some(libc::EACCES),
            Need::Root => (!caller.can(SYS_CHROOT)).then_some(libc::EPERM),
            Need::Times { now: true } => {
                (!self.owns(caller, inode)? && !allows(WRITE)?).then_some(libc::EACCES)
            }
            Need::Times { now: false } => (!self.owns(caller, inode)?).then_some(libc::EPERM),
            Need::Program => {
                // All else the kernel refuses to execute.
                let is_file = kind(&rustix::fs::fstat(inode)?) == FileType::RegularFile;
                if is_file && allows(ENTER)? {
                    self.gain(call, caller, inode)?;
                    return Ok(Answer::GoOn);
                }
                is_file.then_some(libc::EACCES)
            }
        };
        Ok(errno.map_or(Answer::GoOn, Answer::Error))
    }
}

fn request(call: &Call<'_>) -> io::Result<(Named, Need)> {
    let follows = |argument: usize, not: i32| call.int(argument) & not.cast_unsigned() == 0;
    let path = |place: io::Result<Place>, follow| Ok::<_, io::Error>(Named::Path { place: place?, follow });
    let here = || path(call.place_here(0), true);
    let times = || Need::Times { now: call.long(1) == 0 };
    Ok(match call.notification.call {
        libc::SYS_readlinkat => (path(call.place_at(0, 1), false)?, Need::Way),
        libc::SYS_chdir => (here()?, Need::Bits(ENTER)),
        libc::SYS_fchdir => (Named::Descriptor(0), Need::Bits(ENTER)),
        libc::SYS_execve => (here()?, Need::Program),
        libc::SYS_execveat => {
            (path(call.place_at(0, 1), follows(4, libc::AT_SYMLINK_NOFOLLOW))?, Need::Program)
        }
        libc::SYS_truncate => (here()?, Need::Bits(WRITE)),
        libc::SYS_statfs => (here()?, Need::Way),
        libc::SYS_chroot => (here()?, Need::Root),
        libc::SYS_inotify_add_watch => {
            (path(call.place_here(1), call.int(2) & DO_NOT_FOLLOW == 0)?, Need::Bits(READ))
        }
        libc::SYS_utimensat | super::foreign::UTIMENSAT => {
            let need = times_of(call)?;
            if call.long(1) == 0 {
                return Ok((Named::Descriptor(0), need));
            }
            (path(call.place_at(0, 1), follows(3, libc::AT_SYMLINK_NOFOLLOW))?, need)
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink => (path(call.place_here(0), false)?, Need::Way),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_utime | libc::SYS_utimes => (here()?, times()),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_futimesat => {
            let now = call.long(2) == 0;
            (path(call.place_at(0, 1), true)?, Need::Times { now })
        }
        _ => return Err(errno(libc::ENOSYS)),
    })
}

/// utimensat(2): without times, or with two that say so, it is now.
fn times_of(call: &Call<'_>) -> io::Result<Need> {
    if call.long(2) == 0 {
        return Ok(Need::Times { now: true });
    }
    // `tv_nsec` is the second field, and its lower half says it all.
    let is_small = call.notification.call == super::foreign::UTIMENSAT;
    let (count, places) = if is_small { (4, [1, 3]) } else { (8, [2, 6]) };
    let words = call.read_numbers(call.long(2), count)?;
    let both = places.map(|place| i64::from(words[place]));
    Ok(match both {
        [libc::UTIME_OMIT, libc::UTIME_OMIT] => Need::Way,
        _ => Need::Times { now: both == [libc::UTIME_NOW; 2] },
    })
}
