//! Making what does not belong to root: the supervisor makes it, and says whose
//! it is before anybody can see it by its descriptor.
//!
//! Where root makes something in a directory that does not pass its group on,
//! the kernel does it by itself.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::Identity;
use super::call::{Call, Place, errno, link};
use super::credentials::MKNOD;
use super::owner::split_mode;
use super::permission::{ENTER, WRITE};
use crate::metadata::Record;
use crate::sandbox::supervisor::devices::Wanted;
use crate::sandbox::supervisor::{Answer, devices};

const SETGID: u32 = 0o2000;

/// What is to be made.
enum Want {
    File { flags: OFlags },
    Directory,
    Link { text: CString },
    Node { kind: FileType },
    Device { kind: u32, number: u64 },
}

struct Request {
    place: Place,
    want: Want,
    mode: u32,
}

impl Identity {
    pub(super) fn create(&self, call: &Call<'_>) -> io::Result<Answer> {
        // Most is root's, and most of that is not made but opened.
        if !may_make(call) && self.caller(call).overrides() {
            return Ok(Answer::GoOn);
        }
        let request = request(call)?;
        // `name/` is a directory or an error.
        let slash = request.place.path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if slash && !matches!(request.want, Want::Directory) {
            return Ok(Answer::GoOn);
        }
        if let Want::File { flags } = request.want
            && !flags.contains(OFlags::CREATE)
        {
            return match flags.contains(OFlags::TMPFILE) {
                true => self.make_unnamed(call, &request.place, flags, request.mode),
                false => self.open_existing(call, &request.place, flags),
            };
        }
        let (parent, name) = call.parent(&request.place)?;
        let owner = self.new_owner(call, &parent)?;
        let Some(owner) =
            owner.filter(|owner| *owner != (0, 0) || matches!(request.want, Want::Device { .. }))
        else {
            return Ok(Answer::GoOn);
        };
        let caller = self.caller(call);
        if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return match request.want {
                Want::File { flags } => self.open_existing(call, &request.place, flags),
                _ => Ok(Answer::GoOn),
            };
        }
        if !caller.overrides() && !self.allows(&caller, &parent, WRITE | ENTER)? {
            return Ok(Answer::Error(libc::EACCES));
        }
        let mode = request.mode & !call.umask()?;
        call.still_there()?;
        self.make(call, &parent, &name, &request.want, mode, owner)
    }

    /// Whom something new in `directory` belongs to; nothing where that is none
    /// of our business.
    fn new_owner(&self, call: &Call<'_>, directory: &OwnedFd) -> io::Result<Option<(u32, u32)>> {
        let caller = self.caller(call);
        let stat = rustix::fs::fstat(directory)?;
        if stat.st_mode & SETGID == 0 {
            return Ok(Some((caller.user.files, caller.group.files)));
        }
        let owner = self.record(directory)?.and_then(|record| record.owner).unwrap_or((0, 0));
        Ok(Some((caller.user.files, owner.1)))
    }

    fn make(
        &self,
        call: &Call<'_>,
        parent: &OwnedFd,
        name: &OsString,
        want: &Want,
        mode: u32,
        owner: (u32, u32),
    ) -> io::Result<Answer> {
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        match want {
            Want::File { flags } => {
                return self.make_file(parent, name, *flags, mode, owner);
            }
            Want::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o1777))?,
            Want::Link { text } => rustix::fs::symlinkat(text.as_c_str(), parent, name)?,
            Want::Node { kind } => rustix::fs::mknodat(parent, name, *kind, permissions, 0)?,
            Want::Device { kind, number } => {
                if !self.caller(call).can(MKNOD) || *number == 0 {
                    return Ok(Answer::Error(libc::EPERM));
                }
                return self.make_device(parent, name, (*kind, *number), mode, owner);
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        self.keep(&Record { owner: Some(owner), ..Record::default() }, &made)?;
        Ok(Answer::Value(0))
    }

    /// What is there already is for the kernel to open.
    fn make_file(
        &self,
        parent: &OwnedFd,
        name: &OsString,
        flags: OFlags,
        mode: u32,
        owner: (u32, u32),
    ) -> io::Result<Answer> {
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (disk, recorded) = split_mode(mode, owner, FileType::RegularFile);
        let made = rustix::fs::openat(parent, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(disk))?;
        self.keep(&Record { owner: Some(owner), mode: recorded, ..Record::default() }, &made)?;
        Ok(Answer::Descriptor { fd: made, close_on_exec: flags.contains(OFlags::CLOEXEC) })
    }

    /// `O_TMPFILE`: the place is a directory.
    fn make_unnamed(&self, call: &Call<'_>, place: &Place, flags: OFlags, mode: u32) -> io::Result<Answer> {
        let directory = call.find(place, true)?;
        let Some(owner) = self.new_owner(call, &directory)?.filter(|owner| *owner != (0, 0)) else {
            return Ok(Answer::GoOn);
        };
        let mode = Mode::from_raw_mode(mode & !call.umask()? & 0o1777);
        let made = rustix::fs::openat(&directory, ".", flags | OFlags::CLOEXEC, mode)?;
        self.keep(&Record { owner: Some(owner), ..Record::default() }, &made)?;
        Ok(Answer::Descriptor { fd: made, close_on_exec: flags.contains(OFlags::CLOEXEC) })
    }

    /// An empty placeholder with a record; the layer has the device.
    fn make_device(
        &self,
        parent: &OwnedFd,
        name: &OsString,
        (kind, number): (u32, u64),
        mode: u32,
        owner: (u32, u32),
    ) -> io::Result<Answer> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(made) => made,
            Err(errno) => return Ok(Answer::Error(errno.raw_os_error())),
        };
        let owner = (owner != (0, 0)).then_some(owner);
        let device = Some(devices::described(Wanted { mode: kind, device: number }));
        let kept = self.put(&Record { owner, device, ..Record::default() }, &made);
        let done =
            kept.and_then(|()| Ok(rustix::fs::chmod(link(&made), Mode::from_raw_mode(mode & 0o7777))?));
        Ok(match done {
            Ok(()) => Answer::Value(0),
            Err(_) => Answer::Error(libc::EPERM),
        })
    }
}

/// Not for a call that only opens what is there.
fn may_make(call: &Call<'_>) -> bool {
    let flags = match call.notification.call {
        libc::SYS_openat => call.int(2),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.int(1),
        _ => return true,
    };
    OFlags::from_bits_retain(flags).intersects(OFlags::CREATE | (OFlags::TMPFILE - OFlags::DIRECTORY))
}

fn request(call: &Call<'_>) -> io::Result<Request> {
    let flags = |number| OFlags::from_bits_retain(call.int(number));
    let file = |place, flags, mode| Request { place, want: Want::File { flags }, mode };
    Ok(match call.notification.call {
        libc::SYS_openat => file(call.place_at(0, 1)?, flags(2), call.int(3)),
        libc::SYS_mkdirat => {
            Request { place: call.place_at(0, 1)?, want: Want::Directory, mode: call.int(2) }
        }
        libc::SYS_symlinkat => link_request(call.text(call.long(0))?, call.place_at(1, 2)?)?,
        libc::SYS_mknodat => node(call.place_at(0, 1)?, call.int(2), call.int(3).into()),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => file(call.place_here(0)?, flags(1), call.int(2)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
            file(call.place_here(0)?, flags, call.int(1))
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => Request { place: call.place_here(0)?, want: Want::Directory, mode: call.int(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => link_request(call.text(call.long(0))?, call.place_here(1)?)?,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => node(call.place_here(0)?, call.int(1), call.int(2).into()),
        _ => return Err(errno(libc::ENOSYS)),
    })
}

fn link_request(text: Vec<u8>, place: Place) -> io::Result<Request> {
    let text = CString::new(OsString::from_vec(text).into_vec())?;
    Ok(Request { place, want: Want::Link { text }, mode: 0o777 })
}

fn node(place: Place, mode: u32, number: u64) -> Request {
    let want = match mode & libc::S_IFMT {
        kind @ (libc::S_IFCHR | libc::S_IFBLK) => Want::Device { kind, number },
        libc::S_IFIFO => Want::Node { kind: FileType::Fifo },
        libc::S_IFSOCK => Want::Node { kind: FileType::Socket },
        _ => Want::Node { kind: FileType::RegularFile },
    };
    Request { place, want, mode: mode & 0o7777 }
}
