//! The way to a file, one directory after the other, as the kernel would let a
//! user go it who may not go everywhere.
//!
//! For root the kernel finds a path in one call ([`Call::find`]). Whoever does not
//! override permissions needs the right to search each directory on the way
//! (path_resolution(7)), also those that symbolic links lead through. Nothing is
//! opened here but places, without the magic links of /proc: what lies there is
//! told by name.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::Identity;
use super::call::{Call, Place, errno, kind};
use super::credentials::Credentials;
use super::permission::ENTER;

const MOST_LINKS: usize = 40;

/// The right to search, for everybody.
const OPEN_TO_ALL: u32 = 0o111;

const STICKY_FOR_ALL: u32 = 0o1002;

/// Where a path leads.
pub(super) enum End {
    Found(OwnedFd),
    /// Nowhere yet, in a directory that there is.
    Absent {
        parent: OwnedFd,
        name: OsString,
    },
    /// To this name below /proc.
    Proc(PathBuf),
    /// There is a directory on the way that the caller may not search.
    Refused,
}

/// A directory on the way.
struct At {
    directory: OwnedFd,
    stat: Stat,
}

struct Walker<'a> {
    identity: &'a Identity,
    call: &'a Call<'a>,
    caller: &'a Credentials,
    at: At,
    ahead: VecDeque<OsString>,
    links: usize,
}

impl Identity {
    /// Where `place` leads for `caller`; a link at its end is followed or not.
    ///
    /// # Errors
    /// What the kernel will say as well.
    pub(super) fn walk(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        place: &Place,
        follow: bool,
    ) -> io::Result<End> {
        let text = place.path.as_os_str().as_bytes();
        let start = if text.starts_with(b"/") { call.root()? } else { call.descriptor(place.directory)? };
        if text.is_empty() {
            call.still_there()?;
            return Ok(End::Found(start));
        }
        let at = At::new(start)?;
        if self.is_in_proc(&at.stat) && !text.starts_with(b"/") {
            let inside = call.inside(place.directory)?.join(&place.path);
            call.still_there()?;
            return Ok(End::Proc(inside.strip_prefix("/proc").map_err(|_| errno(libc::ENOENT))?.to_owned()));
        }
        let mut walker =
            Walker { identity: self, call, caller, at, ahead: components(text).collect(), links: 0 };
        // `link/` means what the link leads to, and so does `link/.`.
        let follow = follow || text.ends_with(b"/") || text.ends_with(b"/.");
        let end = walker.go(follow)?;
        call.still_there()?;
        Ok(end)
    }

    /// The directory that holds the last name of `place`, and the name.
    ///
    /// # Errors
    /// `EINVAL` for what is no name that could be made.
    pub(super) fn walk_to_parent(
        &self,
        call: &Call<'_>,
        caller: &Credentials,
        place: &Place,
    ) -> io::Result<Option<(OwnedFd, OsString)>> {
        if caller.overrides() {
            return call.parent(place).map(Some);
        }
        let (above, name) = place.split()?;
        match self.walk(call, caller, &above, true)? {
            End::Found(parent) => Ok(Some((parent, name))),
            End::Refused => Ok(None),
            End::Absent { .. } | End::Proc(_) => Err(errno(libc::ENOENT)),
        }
    }

    /// Whether it lies in /proc, the kernel's or a served one.
    pub(super) fn is_in_proc(&self, stat: &Stat) -> bool {
        self.proc == Some(stat.st_dev)
    }
}

impl At {
    fn new(directory: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&directory)?;
        Ok(Self { directory, stat })
    }
}

impl Walker<'_> {
    fn go(&mut self, follow: bool) -> io::Result<End> {
        while let Some(name) = self.ahead.pop_front() {
            if !self.may_enter()? {
                return Ok(End::Refused);
            }
            if name == ".." {
                self.go_up()?;
                continue;
            }
            let is_last = self.ahead.is_empty();
            let next = match open_in(&self.at.directory, &name) {
                Err(Errno::NOENT) if is_last => {
                    return Ok(End::Absent { parent: self.at.directory.try_clone()?, name });
                }
                other => At::new(other?)?,
            };
            if kind(&next.stat) == FileType::Symlink && (follow || !is_last) {
                if !self.jump(&next, is_last)? {
                    return Ok(End::Refused);
                }
            } else if is_last {
                return Ok(End::Found(next.directory));
            } else if self.identity.is_in_proc(&next.stat) {
                return Ok(End::Proc(self.ahead.drain(..).collect()));
            } else {
                self.at = next;
            }
        }
        Ok(End::Found(self.at.directory.try_clone()?))
    }

    fn may_enter(&self) -> io::Result<bool> {
        let At { directory, stat } = &self.at;
        if kind(stat) != FileType::Directory {
            return Err(errno(libc::ENOTDIR));
        }
        if stat.st_mode & OPEN_TO_ALL == OPEN_TO_ALL || self.caller.overrides() {
            return Ok(true);
        }
        self.identity.allows(self.caller, directory, ENTER)
    }

    /// Not above the caller's root, nor above that of the RUN, wherever the
    /// caller is.
    fn go_up(&mut self) -> io::Result<()> {
        let At { directory, stat } = &self.at;
        let own = At::new(self.call.root()?)?.stat;
        let here = (stat.st_dev, stat.st_ino);
        if here != (own.st_dev, own.st_ino) && Some(here) != self.identity.root {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.at = At::new(rustix::fs::openat(directory, "..", flags, Mode::empty())?)?;
        }
        Ok(())
    }

    /// Goes on where a link leads to; not where `fs.protected_symlinks` keeps users
    /// from the links of others (proc_sys_fs(5)).
    fn jump(&mut self, link: &At, is_last: bool) -> io::Result<bool> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(errno(libc::ELOOP));
        }
        let is_shared = self.at.stat.st_mode & STICKY_FOR_ALL == STICKY_FOR_ALL;
        if is_last && is_shared && !self.caller.overrides() {
            let owner = self.identity.owner_of(&link.directory, &link.stat)?.0;
            let above = self.identity.owner_of(&self.at.directory, &self.at.stat)?.0;
            if owner != self.caller.user.files && owner != above && protects("symlinks") {
                return Ok(false);
            }
        }
        let text = rustix::fs::readlinkat(&link.directory, "", Vec::new())?;
        if text.as_bytes().starts_with(b"/") {
            self.at = At::new(self.call.root()?)?;
        }
        for component in components(text.as_bytes()).rev() {
            self.ahead.push_front(component);
        }
        Ok(true)
    }
}

impl Place {
    /// The directory that the last name is in, and the name.
    ///
    /// # Errors
    /// `EINVAL` for what is no name that could be made.
    pub(super) fn split(&self) -> io::Result<(Self, OsString)> {
        let bytes = self.path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').ok_or_else(|| errno(libc::EINVAL))? + 1;
        let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = OsStr::from_bytes(&bytes[start..end]).to_owned();
        if name == "." || name == ".." {
            return Err(errno(libc::EINVAL));
        }
        let above = Path::new(OsStr::from_bytes(&bytes[..start])).to_owned();
        Ok((Self { path: above, ..self.clone() }, name))
    }
}

/// Of a setting in /proc/sys/fs; its kernel's default where it cannot be read.
pub(super) fn protects(what: &str) -> bool {
    let value = std::fs::read_to_string(format!("/proc/sys/fs/protected_{what}"));
    value.map_or(true, |value| value.trim() != "0")
}

/// Of one name, so that nothing on the way is a link.
fn open_in(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
        // Somebody renamed something on the way (openat2(2)).
        Err(Errno::AGAIN) => rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve),
        other => other,
    }
}

/// Names on the way; `.` and `//` go nowhere, though they want a directory.
fn components(text: &[u8]) -> impl DoubleEndedIterator<Item = OsString> {
    let names = text.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.map(|name| OsStr::from_bytes(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str)>) {
        let place = Place { directory: libc::AT_FDCWD, path: path.into() };
        let found = place.split().ok();
        let found =
            found.as_ref().map(|(above, name)| (above.path.to_str().unwrap(), name.to_str().unwrap()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn splits_a_name_from_its_directory() {
        check("/a/b", Some(("/a/", "b")));
        check("/a", Some(("/", "a")));
        check("a//", Some(("", "a")));
        check("a/b/", Some(("a/", "b")));
        for path in ["/", "..", "a/.", ""] {
            check(path, None);
        }
    }

    #[test]
    fn goes_from_name_to_name() {
        let names: Vec<OsString> = components(b"/a/./b//../c/").collect();
        assert_eq!(names, ["a", "b", "..", "c"]);
    }
}
