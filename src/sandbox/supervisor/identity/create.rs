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

use super::call::{Call, Place, errno, link};
use super::credentials::{Credentials, MKNOD};
use super::owner::split_mode;
use super::way::End;
use super::{Identity, REFUSED};
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

impl Request {
    /// `name/` is a directory or an error.
    fn names_a_directory(&self) -> bool {
        self.place.path.as_os_str().as_encoded_bytes().ends_with(b"/")
    }
}

impl Identity {
    pub(super) fn create(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        // Most is root's, and most of that is not made but opened.
        if !may_make(call) && caller.overrides() {
            return self.open_as_root(call);
        }
        let request = request(call)?;
        match request.want {
            Want::File { flags } if flags.contains(OFlags::TMPFILE) => {
                self.make_unnamed(call, &caller, &request.place, flags, request.mode)
            }
            Want::File { flags } if !caller.overrides() => self.open(call, &caller, &request, flags),
            Want::Directory => self.make_in_parent(call, &caller, &request),
            _ if request.names_a_directory() => Ok(Answer::GoOn),
            _ => self.make_in_parent(call, &caller, &request),
        }
    }

    /// Opening by a user; also what is made, at the end of a link too.
    fn open(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        request: &Request,
        flags: OFlags,
    ) -> io::Result<Answer> {
        let makes = flags.contains(OFlags::CREATE);
        let follow = !flags.contains(OFlags::NOFOLLOW) && !flags.contains(OFlags::CREATE | OFlags::EXCL);
        match self.walk(call, caller, &request.place, follow)? {
            End::Found(inode) => self.open_existing(call, caller, &inode, flags),
            End::Refused => Ok(REFUSED),
            End::Proc(below) => self.open_proc(call, caller, &below, flags),
            // `name/` is an error.
            End::Absent { parent, name } if makes && !request.names_a_directory() => {
                self.make_new(call, caller, &parent, &name, &request.want, request.mode)
            }
            End::Absent { .. } => Ok(Answer::GoOn),
        }
    }

    fn make_in_parent(&self, call: &Call<'_>, caller: &Credentials, request: &Request) -> io::Result<Answer> {
        let Some((parent, name)) = self.walk_to_parent(call, caller, &request.place)? else {
            return Ok(REFUSED);
        };
        if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(Answer::GoOn);
        }
        self.make_new(call, caller, &parent, &name, &request.want, request.mode)
    }

    fn make_new(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        parent: &OwnedFd,
        name: &OsString,
        want: &Want,
        mode: u32,
    ) -> io::Result<Answer> {
        if !self.may_add(caller, parent)? {
            return Ok(REFUSED);
        }
        let owner = self.new_owner(caller, parent)?;
        if owner == (0, 0) && !matches!(want, Want::Device { .. }) {
            return Ok(Answer::GoOn);
        }
        let mode = mode & !call.umask()?;
        call.still_there()?;
        self.make(caller, parent, name, want, mode, owner)
    }

    /// Whom something new in `directory` belongs to.
    pub(super) fn new_owner(&self, caller: &Credentials, directory: &OwnedFd) -> io::Result<(u32, u32)> {
        let stat = rustix::fs::fstat(directory)?;
        let group = match stat.st_mode & SETGID {
            0 => caller.group.files,
            _ => self.owner_of(directory, &stat)?.1,
        };
        Ok((caller.user.files, group))
    }

    fn make(
        &self,
        caller: &Credentials,
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
                if !caller.can(MKNOD) || *number == 0 {
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
    fn make_unnamed(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        place: &Place,
        flags: OFlags,
        mode: u32,
    ) -> io::Result<Answer> {
        let Some(directory) = self.inode(call, caller, place, true)? else { return Ok(REFUSED) };
        if !self.may_add(caller, &directory)? {
            return Ok(REFUSED);
        }
        let owner = self.new_owner(caller, &directory)?;
        if owner == (0, 0) {
            return Ok(Answer::GoOn);
        }
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
